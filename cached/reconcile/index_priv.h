/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of the index share. Core thread only. */
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
	/* index_row.c: rows by number */
	struct row **slabs;
	uint32_t slab_count, rows_used, rows_free; /* rows_free: a list */
	/* three hash maps of one size, all chained through the row: by id, by S3 place, by live place */
	uint32_t *by_oid, *by_s3, *by_live;
	uint64_t buckets, room; /* in use; in memory */
	uint64_t mask;          /* the least 2^n - 1 that is not below the last bucket */
	uint64_t count;
	uint64_t seed[2];
	uint32_t s3_orphans, live_orphans; /* children of ids without a row */
	struct row *root;
	struct index_walk *walks; /* under way */
	struct index_kv *kv;
	uint64_t load_room; /* rows that fit while the file is read */

	index_watcher watch; /* NULL: nobody */
	void *watch_arg;

	/* write-behind */
	struct disk *disk;
	struct index_writer *writer;
	uint32_t dirty_head, dirty_tail; /* changed rows in order of change */
	struct ofs_oid *deletes;              /* ids to delete from the file, before the rows */
	size_t delete_count, delete_room;
	bool kv_dirty;
	uint64_t rows_queued, rows_taken, rows_done; /* counts of changes */
	uint64_t misc_queued, misc_done;             /* deletes and values */
	struct index_batch *flight; /* submitted, or failed and waiting to be sent again */
	bool flight_failed;
	bool failing; /* the last batch did, and it has been told */
	unsigned retry_ticks;
	struct index_wait *waits, **waits_tail;
};

/* index_row.c */
#define INDEX_SLAB_ROWS 4096u /* 800 KiB */

struct row_text { /* what a row has of no fixed size; NULL: none */
	const char *name, *s3_name, *etag, *version_id;
	const uint8_t *sha256;
};
/* Log and abort: no state can be kept without memory, and what is durable is on disk. */
void *index_alloc(void *pointer);
static inline struct row *index_row_at(const struct index *ix, uint32_t number)
{
	return &ix->slabs[number / INDEX_SLAB_ROWS][number % INDEX_SLAB_ROWS];
}
static inline struct row *index_row(const struct index *ix, uint32_t number) /* 0: NULL */
{
	return number != 0 ? index_row_at(ix, number) : NULL;
}
struct row *index_row_new(struct index *ix); /* counted, in no map yet */
void index_row_free(struct index *ix, struct row *r);
void index_rows_free(struct index *ix); /* all */
struct row_text index_row_text(const struct row *r);
/* Any of it may be the row's own. */
void index_row_set_text(struct row *r, const struct row_text *t);

/* index.c: no marks; the caller knows why. */
extern const struct ofs_oid index_oid_none;
struct row *index_row_add(struct index *ix, const struct ofs_oid *oid);

/* index_map.c: no marks either */
void index_buckets(struct index *ix, uint64_t rows);
void index_oid_in(struct index *ix, struct row *r);
void index_oid_out(struct index *ix, struct row *r); /* its children are orphans */
void index_place_s3_in(struct index *ix, struct row *r);
void index_place_s3_out(struct index *ix, struct row *r);
void index_place_live_in(struct index *ix, struct row *r);
void index_place_live_out(struct index *ix, struct row *r);
/* Children that were there before their parent. Rare: only damage makes orphans, STAGE's apart. */
void index_orphans_adopt(struct index *ix, struct row *parent);
/* After the file was read, in this order: every row to its id; then, some rows at once, where their
 * places are (of a side that is not: anywhere), and each row's sides there, unless taken: then *s3_taken, *live_taken. */
#define INDEX_LOAD_AT_ONCE 16u
struct index_slots {
	uint32_t *s3, *live;
};
void index_loaded_in(struct index *ix);
void index_slots_loaded(struct index *ix, uint32_t first, uint32_t count,
		struct index_slots slots[INDEX_LOAD_AT_ONCE]);
void index_place_loaded(struct index *ix, struct row *r, const struct index_slots *slots,
		struct row **s3_taken, struct row **live_taken);

/* index_batch.c */
void index_mark(struct index *ix, struct row *r);
void index_mark_deleted(struct index *ix, const struct ofs_oid *oid);
void index_mark_kv(struct index *ix, struct index_kv *kv);
struct index_writer *index_writer_new(struct index_db *db); /* takes db over */
/* Write everything left on this thread, close the file, forget waiting callers. */
void index_writer_close(struct index *ix);

#endif
