/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Multipart uploads of ours that the store may have: each is a file of `uploads/` beside the mirror from before it
 * is begun until it has ended, with the parts that are there; so that a daemon that was killed goes on with it, or
 * ends it. Core thread only, but for begun_open.
 *
 *   begun_new -> [begun_id] -> [begun_part]* -> begun_gone                    completed, aborted, or never begun
 *                                           \-> begun_leave -> begun_find     somebody goes on with it,
 *                                                          \-> begun_end.c    or nobody does: aborted
 */
#ifndef OFS_UPLOAD_BEGUN_H
#define OFS_UPLOAD_BEGUN_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "shared/record.h"
#include "blocks.h"

struct volume;
struct begun_set;
struct begun_job;

struct begun_done { /* a part that the store has */
	char *etag, *sum;   /* etag NULL: it has not; sum NULL: none was said */
	uint8_t sha256[32]; /* of the digests of its blocks */
};

struct begun { /* talloc child of the set */
	struct begun *next, **prev;
	struct volume *v;
	char file[OFS_OID_HEX_BYTES];
	bool used;        /* an upload, or an abort, is at it */
	int64_t left_ns;  /* since when it is not: clock_now_ns */
	int64_t retry_ns; /* not ended before */
	struct begun_job *keeping; /* somebody waits for it; or NULL */
	/* what it is */
	struct ofs_oid oid; /* of the file; none: nobody will go on with it */
	struct ofs_oid wid; /* of the object that it makes */
	char *key, *upload_id; /* upload_id NULL: how its begin was answered is not known */
	int64_t begun_ns;   /* by the store's clock */
	int64_t atime_ns;   /* in the object's metadata */
	uint8_t what[32];   /* digest of all else that it was begun with */
	int64_t size, each, run; /* of the file, of its blocks, most of a copied part */
	unsigned block_count, part_count;
	bool *same;         /* block_count: those that were to be copied */
	struct blocks_part *parts;
	struct begun_done *done; /* as many */
};

/* The uploads of an earlier daemon; talloc, NULL and *error: uploads/ cannot be read. Blocks: before the loop. */
struct begun_set *begun_open(TALLOC_CTX *ctx, struct volume *v, char **error);
/* The volume is READY: from now on those that nobody goes on with are ended (begun_end.c). */
void begun_start(struct begun_set *set);
/* Perhaps some has lost its file. set may be NULL. */
void begun_look(struct begun_set *set);
/* One of this file that nobody uses and whose id is known; NULL: none. */
struct begun *begun_find(struct volume *v, const struct ofs_oid *oid);
/* Of the file's blocks those that are `same` (NULL: none) are to be copied, in runs of up to run_bytes. The strings are
 * copied; used, not on the disk yet. NULL: nothing is remembered in this volume. */
struct begun *begun_new(struct volume *v, const struct ofs_oid *oid, const char *key, const struct blocks *b,
		const bool *same, int64_t run_bytes);
/* Write it down, durably as far as the disk lets it, before the store hears of it; then done(arg), never from inside,
 * unless it is left or gone before. done may be NULL. */
void begun_keep(struct begun *b, void (*done)(void *arg), void *arg);
/* The answers, as they come. What cannot be written down is sent once more by the next daemon. */
void begun_id(struct begun *b, const char *upload_id);
void begun_part(struct begun *b, unsigned part, const char *etag, const char *sum, const uint8_t sha256[32]);
/* An attempt to begin it was answered to nobody, and another was made: what the first has begun is not known. */
void begun_stray(struct begun *b);
/* The store has it no more: forgotten. NULL is left alone. */
void begun_gone(struct begun **b);
/* It may be there: somebody may go on with it, or it is ended. NULL is left alone. */
void begun_leave(struct begun **b);
/* The same, and it is ended at once. */
void begun_give_up(struct begun **b);
/* The store has what this write (wid) has made of the file: whatever upload was left is over. */
void begun_made(struct volume *v, const struct ofs_oid *oid, const struct ofs_oid *wid);
/* Is this upload one of ours that are gone on with? */
bool begun_knows(const struct volume *v, const char *upload_id);

/* --- for begun_end.c --- */
struct begun_set { /* talloc child of its owner */
	struct volume *v;
	struct begun *list;
	int dir_fd; /* of uploads/ */
	bool started;
	struct clock_timer *timer;
};
/* By the store's clock. */
int64_t begun_now_ns(const struct volume *v);
/* Looks at all, later. */
void begun_look_at(struct begun_set *set, int64_t delay_ns);

#endif
