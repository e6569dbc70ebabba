/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Is the bucket still this volume's, and no earlier state of itself? Asked while it is used: endpoints, names and
 * buckets change under a daemon that runs. Core thread only.
 */
#ifndef OFS_CORE_SURE_H
#define OFS_CORE_SURE_H

#include <stdint.h>
#include <talloc.h>

struct sure_watch;
struct volume;

/*
 * Ask. done comes later, once, with a message for people unless 0: 0: it is; -ESTALE: its record is gone or another's, or
 * what this node wrote into it is not there any more: nothing that it lacks or has is to be believed, and the volume is
 * about to be held; other -errno: it cannot be told.
 */
void volume_sure(struct volume *v, uint64_t request_id, void (*done)(int status, const char *message, void *arg),
		void *arg);
/* The same, or what was found within the last age_ns; done may come within the call. */
void volume_sure_lately(struct volume *v, int64_t age_ns, void (*done)(int status, const char *message, void *arg),
		void *arg);
/* All that was asked on the way to READY was answered well, just now. */
void volume_seen(struct volume *v);
/* It was not: what was sent since it was last seen may be elsewhere. */
void volume_not_seen(struct volume *v);

/* Where something was changed in the bucket, it is asked, and our node's epoch goes on, once an hour. NULL: out of
 * memory. */
struct sure_watch *sure_watch_new(TALLOC_CTX *ctx, struct volume *v);
/* The volume is READY: what was changed on the way does not count. */
void sure_watch_start(struct sure_watch *w);
/* Each second while it is. */
void sure_watch_tick(struct sure_watch *w);

#endif
