/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Who serves this volume: `.objectfs/nodes/<id>`, one object for each cache directory that ever did.
 * JSON: format "objectfs node 1", node (the id), host (for people), place (hash of machine, host name
 * and cache directory: another id with our place is a cache directory that is no more), version (of
 * the product), log (the last segment of its log), serving, epoch (sure.h: it grows with time, where this node changes
 * something in the bucket, and a bucket that has an earlier one than its disk is an earlier state). Written when it
 * differs, by no timer.
 * Core thread only.
 */
#ifndef OFS_CORE_NODES_H
#define OFS_CORE_NODES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "shared/record.h"

#define NODES_PLACE OFS_OWN_PLACE "nodes/"

struct volume;
struct nodes;

/* cache_directory: of all volumes. NULL: out of memory. */
struct nodes *nodes_new(TALLOC_CTX *ctx, struct volume *v, const char *cache_directory);
/*
 * Read what all nodes say, then say that this one serves. alone: no other may; if one does, ours is taken
 * back: -EBUSY. -ESTALE: ours is gone or earlier than it was written. done comes later, once, with a message for people unless 0: -EAGAIN: try again later;
 * -EACCES; other -errno.
 */
void nodes_open(struct nodes *n, bool alone,
		void (*done)(int status, const char *message, void *arg), void *arg);
/* Read anew what all nodes say, and write nothing. done as above; -EBUSY: it is being read already. */
void nodes_look(struct nodes *n, void (*done)(int status, const char *message, void *arg), void *arg);
/* Our log has this segment now: soon ours says so. n may be NULL, here and below. */
void nodes_log_at(struct nodes *n, uint64_t seq);
/* The epoch that ours has in the bucket, as far as that was acknowledged; 0: none. */
uint64_t nodes_epoch(const struct nodes *n);
/* It goes on. */
void nodes_epoch_next(struct nodes *n);
/* Has the object of this id, with this text, an epoch before this one? One that says none, or is damaged, has not. */
bool nodes_is_earlier(const char *id, const void *text, size_t len, uint64_t epoch);
/* The i-th node as it was read: id and the last segment it says its log has. false: no more. */
bool nodes_said(const struct nodes *n, unsigned i, const char **id, uint64_t *log);
/* Does another node serve, as far as we know? */
bool nodes_serves(const struct nodes *n, const char *id);
/* Say that another node serves no more. done: -ENOENT: there is none of this id; -EBUSY: it is ours. */
void nodes_forget(struct nodes *n, const char *id,
		void (*done)(int status, const char *message, void *arg), void *arg);
/* [{node, host, version, log, serving, here}] */
json_t *nodes_json(const struct nodes *n);
/* What the object of this id says; NULL: damaged. For tests. */
json_t *nodes_doc_parse(const char *id, const void *text, size_t len);

#endif
