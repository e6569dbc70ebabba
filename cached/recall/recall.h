/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bytes in: recall of marked files. One recall per inode, shared by all who have it open; extents of
 * 1 MiB; the extent map is a memfd that readers map. Core thread only.
 */
#ifndef OFS_RECALL_H
#define OFS_RECALL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>

struct volume;
struct recalls;
typedef void (*recall_done)(int status, const char *message, void *arg);

#define RECALL_EXTENT_SHIFT 20
#define RECALL_CLIENT_OWN 0u /* who asks: objectfsctl, local programs; has no budget */

struct recalls *recalls_new(TALLOC_CTX *ctx, struct volume *v);
/* client: the smbd process that asks; GETs are shared out among these. fd: of the marked file, taken
 * over. opened(): status 0 with open_id != 0 and map_fd (the callee owns it), or open_id 0, map_fd -1:
 * the file is plain. */
void recall_open(struct recalls *rs, uint64_t request_id, uint64_t client, int fd,
		void (*opened)(int status, const char *message, uint64_t open_id, uint64_t size,
				int map_fd, void *arg),
		void *arg);
/* Fill the range (clipped to the size); whole: everything, then make the file plain. A disconnected
 * caller passes through recall_release; its pending callbacks still come. */
void recall_fetch(struct recalls *rs, uint64_t request_id, uint64_t open_id, uint64_t offset,
		uint64_t length, bool whole, recall_done done, void *arg);
/* Make the file at this path below the tree resident; bytes: of it, 0: it was. -ENOENT: it is not there. done once, perhaps
 * at once. */
typedef void (*recall_whole_done)(int status, const char *message, uint64_t bytes, void *arg);
void recall_whole(struct recalls *rs, uint64_t request_id, const char *path, recall_whole_done done, void *arg);
void recall_discard(struct recalls *rs, uint64_t request_id, uint64_t open_id, recall_done done,
		void *arg);
void recall_release(struct recalls *rs, uint64_t open_id);
/* Bytes of the file that are here, about; 0: no such open_id. */
uint64_t recall_here(struct recalls *rs, uint64_t open_id);
/* Is a file about to be emptied? It will be dirty, and only its directory's mark says so if we die. */
bool recall_is_discarding(const struct recalls *rs);
/* Is a recall of this inode under way (upload and remote changes wait)? */
bool recall_busy(struct recalls *rs, uint64_t ino);
/* How many bytes of a file under recall are here; 0: none, or no recall is under way. */
uint64_t recall_bytes_here(struct recalls *rs, uint64_t ino);
/* A recall that nobody reads any more, and that is only kept because readers come back, ends. */
void recall_forget(struct recalls *rs, uint64_t ino);
/* For `status`: new reference. */
json_t *recalls_json(struct recalls *rs);
/* Objects that the store has and did not give out whole: how many, and the key of one (borrowed).
 * Those read whole, replaced or removed since do not count. */
unsigned recall_damaged(const struct recalls *rs, const char **key);

#endif
