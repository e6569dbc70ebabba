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
/* As long as its writer may still be at it; less where a test says so. */
#define FSCK_WRITING_NS(f) ((f)->older_ns < 600 * NS_PER_S ? (f)->older_ns : 600 * NS_PER_S)

struct fsck_blob {
	struct fsck_blob *next; /* in its bucket */
	uint8_t sha256[32];
	uint32_t len; /* as what names it says */
	bool named, there;
	bool unlike; /* those that name it say two lengths */
	struct ofs_oid of; /* one of those that name it */
	int64_t mtime_ns;
	char *etag;
};

struct fsck_lack { /* talloc; an object that no row knows */
	struct fsck_lack *next;
	struct ofs_oid dir; /* the last directory on the way to it that is known */
	char *name;         /* what that lacks */
	bool is_dir;
	char *key;
	int64_t mtime_ns;
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
	struct fsck_lack *page_lacks, **page_lacks_end; /* of this page */
	struct fsck_lack *lacks, **lacks_end; /* in directories that have been listed since */
	const struct fsck_lack *lack_told;    /* the last that was found */
	unsigned lack_count;
	bool more; /* not all are remembered */
	/* blobs */
	struct fsck_blob **buckets, **all;
	size_t blob_count, blob_next;
	bool blobs_going; /* they are being gone through, further up the stack */
	const struct fsck_blob *nodes_for; /* who else serves has been asked before it goes */
	/* the sweep's notes */
	json_t *notes;
	char *notes_etag;
	unsigned swept, node_count; /* nodes: when it began */
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
/* What is asked for cannot be known: nothing that could be missing may be concluded from it. */
void fsck_failed(struct fsck *f, const char *doing, const struct obj_req *req);
/* The same of what names no blob. */
void fsck_unseen(struct fsck *f, const char *what, const struct obj_req *req);
struct obj_req *fsck_request(struct fsck *f, enum obj_op op, const char *key,
		void (*done)(struct obj_req *), void *arg);
int64_t fsck_store_now_ns(const struct fsck *f); /* by the store's clock */
void fsck_page_over(struct fsck *f);
void fsck_blobs_over(struct fsck *f);
void fsck_rows_over(struct fsck *f);

/* --- fsck_rows.c --- */
bool fsck_rows_init(struct fsck *f);
void fsck_rows_free(struct fsck *f);
/* A client's object is in the listing. */
void fsck_rows_saw(struct fsck *f, const struct obj_entry *e);
/* All of a page has been seen; then fsck_page_over. */
void fsck_rows_page(struct fsck *f);
/* Rows without objects, objects without rows; then fsck_rows_over. */
void fsck_rows_check(struct fsck *f);

/* --- fsck_blobs.c --- */
bool fsck_blobs_init(struct fsck *f);
/* An object or an entry names them. */
void fsck_blobs_named(struct fsck *f, const struct ofs_oid *of, const struct snapshot *s);
/* A row of the listing; false: its key is no blob's. */
bool fsck_blobs_there(struct fsck *f, const struct obj_entry *e, const char *name);
/* Who else serves is read anew; then next(f). */
void fsck_blobs_nodes(struct fsck *f, void (*next)(struct fsck *f));
/* Read, compare, mend, sweep all; then fsck_blobs_over. */
void fsck_blobs_check(struct fsck *f);

#endif
