/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside fsck/ only. */
#ifndef OFS_FSCK_PRIVATE_H
#define OFS_FSCK_PRIVATE_H

#include "fsck.h"

#include "shared/record.h"
#include "../core/volume.h"
#include "../mirror/objmeta.h"
#include "../mirror/snapshot.h"
#include "../reconcile/index.h"
#include "../reconcile/metalog.h"

#define FSCK_AT_ONCE 8u
#define FSCK_FINDINGS_MOST 1000u

struct fsck_blob {
	struct fsck_blob *next; /* in its bucket */
	uint8_t sha256[32];
	bool named, there;
	struct ofs_oid of; /* one of those that name it */
	int64_t mtime_ns;
	char *etag;
};

struct fsck { /* talloc child of the volume */
	struct volume *v;
	bool repair;
	int64_t older_ns;
	void (*done)(int status, json_t *answer, void *arg);
	void *arg;
	const char *phase;
	bool complete;    /* every reference to a blob is known */
	bool readable;    /* nothing failed: what was not found is not there */
	unsigned running; /* requests */
	uint64_t objects, wrong, mended;
	json_t *findings;
	/* the log, read anew */
	struct metalog *log;
	bool log_again;
	/* the listing */
	struct obj_req *page;
	unsigned page_next;
	uint8_t *seen; /* a bit for each row's number */
	size_t seen_bytes;
	/* blobs */
	struct fsck_blob **buckets, **all;
	size_t blob_count, blob_next;
	/* the sweep's notes */
	json_t *notes;
	char *notes_etag;
	unsigned swept;
	/* rows, uploads */
	struct ofs_oid *rows;
	size_t row_count, row_room, row_next;
	struct obj_req *uploads;
	unsigned upload_next;
};

/* --- fsck.c --- */
/* Something is not as it should be. mended: NULL: it is told only; else what was, or would be, done. */
void fsck_found(struct fsck *f, const char *kind, const char *key, const char *mend,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));
void fsck_mended(struct fsck *f);
/* What is asked for cannot be known. */
void fsck_failed(struct fsck *f, const char *doing, const struct obj_req *req);
struct obj_req *fsck_request(struct fsck *f, enum obj_op op, const char *key,
		void (*done)(struct obj_req *), void *arg);
int64_t fsck_store_now_ns(const struct fsck *f); /* by the store's clock */

/* --- fsck_blobs.c --- */
bool fsck_blobs_init(struct fsck *f);
/* An object or an entry names them. */
void fsck_blobs_named(struct fsck *f, const struct ofs_oid *of, const struct snapshot *s);
/* A row of the listing; false: its key is no blob's. */
bool fsck_blobs_there(struct fsck *f, const struct obj_entry *e, const char *name);
/* Read, compare, mend, sweep all; then fsck_blobs_over. */
void fsck_blobs_check(struct fsck *f);
void fsck_blobs_over(struct fsck *f); /* fsck.c */

#endif
