/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What index.c (rows and maps) and index_batch.c (write-behind) share. Core thread only. */
#ifndef OFS_RECONCILE_INDEX_PRIV_H
#define OFS_RECONCILE_INDEX_PRIV_H

#include "index.h"
#include "index_db.h"

struct index_kv { /* talloc child of the index */
	struct index_kv *next;
	char *key;
	char *value; /* NULL: removed */
	bool dirty;
};

struct index_wait { /* malloc */
	struct index_wait *next;
	uint64_t rows_upto, misc_upto; /* done when so much is committed */
	void (*done)(int status, void *arg);
	void *arg;
};

struct index_batch;
struct index_writer; /* index_batch.c: what core and worker share */

struct index {
	/* rows are malloc'ed (talloc's head would add a third) and sit in three hash maps of one
	 * size, all chained through the row: by id, by S3 place, by live place */
	struct row **by_oid, **by_s3, **by_live;
	uint64_t mask;
	uint64_t count;
	uint64_t seed[2];
	struct row *s3_orphans, *live_orphans; /* children of ids without a row */
	struct row *root;
	struct index_kv *kv;
	struct row **loaded; /* rows as they came, while the file is read: in order of memory */
	uint64_t loaded_count, loaded_room;

	/* write-behind */
	struct disk *disk;
	struct index_writer *writer;
	struct row *dirty_head, **dirty_tail; /* changed rows in order of change */
	struct ofs_oid *deletes;              /* ids to delete from the file, before the rows */
	size_t delete_count, delete_room;
	bool kv_dirty;
	uint64_t rows_queued, rows_taken, rows_done; /* counts of changes */
	uint64_t misc_queued, misc_done;             /* deletes and values */
	struct index_batch *flight; /* submitted, or failed and waiting to be sent again */
	bool flight_failed;
	unsigned retry_ticks;
	struct index_wait *waits, **waits_tail;
};

/* Log and abort: no state can be kept without memory, and what is durable is on disk. */
void *index_alloc(void *pointer);

/* index.c: no marks; the caller knows why. Strings may be the row's own; NULL: none. */
extern const struct ofs_oid index_oid_none;
void index_buckets(struct index *ix, uint64_t rows);
struct row *index_row_new(struct index *ix, const struct ofs_oid *oid);
void index_row_free(struct row *r);
char *index_row_copy(const char *s);
void index_row_set_name(struct row *r, const char *value);
void index_row_set_s3_name(struct row *r, const char *value);
bool index_row_set_string(char **slot, const char *value); /* true: changed */
void index_place_s3_in(struct index *ix, struct row *r);
void index_place_live_in(struct index *ix, struct row *r);
void index_place_loaded(struct index *ix, struct row *r, struct row **s3_taken,
		struct row **live_taken);

/* index_batch.c */
void index_mark(struct index *ix, struct row *r);
void index_mark_deleted(struct index *ix, const struct ofs_oid *oid);
void index_mark_kv(struct index *ix, struct index_kv *kv);
struct index_writer *index_writer_new(struct index_db *db); /* takes db over */
/* Write everything left on this thread, close the file, forget waiting callers. */
void index_writer_close(struct index *ix);

#endif
