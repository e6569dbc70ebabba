/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The node's log of metadata-only changes: .objectfs/log/<node>/<seq, 16 hex digits>, immutable text
 * segments. Line 1 `objectfs-log 1 <volume uuid> <node> <seq>`; entries `M <oid> <meta_gen>
 * <data_gen> <base64 of a packed snapshot>`; last line `end <count> <crc32c of all before, hex>`.
 * Segments are written at 1 MiB or `log flush` after the first entry, or at once on metalog_flush.
 * At start every segment of every node is read; per oid the highest meta_gen wins.
 * When there are many of ours they are folded: what still counts is written again, in the end a segment
 * `objectfs-log 2 <volume uuid> <node> <seq> <base>` says that those before `base` may go; then they go.
 */
#ifndef OFS_RECONCILE_METALOG_H
#define OFS_RECONCILE_METALOG_H

#include <stdint.h>
#include <talloc.h>
#include "shared/record.h"
#include "../mirror/snapshot.h"

struct volume;
struct metalog;

struct metalog_entry { /* owned by the log */
	struct ofs_oid oid;
	uint64_t meta_gen, data_gen;
	uint8_t *packed;
	size_t packed_len;
};
#define METALOG_GONE UINT64_MAX

struct metalog *metalog_new(TALLOC_CTX *ctx, struct volume *v);
/* One that is only loaded and looked at, beside the volume's own. */
struct metalog *metalog_reader_new(TALLOC_CTX *ctx, struct volume *v);
/* Read all segments. done(status, message, arg): 0; -EBADMSG a segment is damaged or missing in a
 * node's sequence (fail closed: the volume must not serve ACLs it cannot know); -EIO... */
void metalog_load(struct metalog *ml, void (*done)(int status, const char *message, void *arg),
		void *arg);
/* Newest entry for an object with meta_gen > than_gen, or NULL. */
const struct metalog_entry *metalog_find(struct metalog *ml, const struct ofs_oid *oid,
		uint64_t than_gen);
/* metalog_append with a generation above what the log has for the object: the file may have been changed since
 * an entry of its generation was sent, and a daemon killed before it knew; and where the object has no metadata
 * of ours the entry counts for its key (`oid` is objmeta_foreign_oid's), which was another file's before.
 * committed as there, and at once if the log has this entry already. -ENOMEM: nothing is queued. */
int metalog_append_above(struct metalog *ml, const struct ofs_oid *oid, uint64_t meta_gen,
		uint64_t data_gen, const uint8_t *packed, size_t packed_len,
		void (*committed)(int status, void *arg), void *arg);
/* Queue an entry; packed is malloc'ed and taken over. committed(status, arg) once its segment is in
 * S3 (0), or -errno after retries (entry stays queued and is tried again; called once only). */
void metalog_append(struct metalog *ml, const struct ofs_oid *oid, uint64_t meta_gen,
		uint64_t data_gen, uint8_t *packed, size_t packed_len,
		void (*committed)(int status, void *arg), void *arg);
/* The object's own metadata has this generation (METALOG_GONE: the object was deleted): entries up to it
 * count no more, and go with the next fold. */
void metalog_settled(struct metalog *ml, const struct ofs_oid *oid, uint64_t meta_gen);
/* Write what is queued now. */
void metalog_flush(struct metalog *ml);
uint64_t metalog_queued(struct metalog *ml);
/* Every entry that counts, of all nodes. */
void metalog_each(struct metalog *ml, void (*fn)(const struct metalog_entry *e, void *arg), void *arg);
/* Fold our segments now, however few they are: what is damaged or missing of them is written anew from what was
 * read at the start. false: not possible. metalog_folds: one is under way. */
bool metalog_fold_now(struct metalog *ml);
bool metalog_folds(const struct metalog *ml);
/* Of this node in the bucket. */
uint64_t metalog_segments(struct metalog *ml);

#endif
