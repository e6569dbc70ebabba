/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: write what changed in the index behind, many rows a transaction.
 * Way: index.c marks -> a queue in order of change -> index_tick or index_commit copies it into a
 *      batch -> DISK_INDEX worker -> SQLite -> back on the core: waiting callers.
 * Thread: core; batch_run on the worker, under the writer's lock.
 * Owns: batches, the queue of changes, the file while the index is open.
 * Holds: 1. One batch at a time: a failed one is sent again before anything newer is copied, so the
 *           file only ever goes forward.
 *        2. A batch holds deletes, then rows: an id removed and made again stays.
 *        3. Whoever closes runs what the worker has not begun (`ran` under the lock), so it needs
 *           no loop; the job's letter then finds `ix` NULL.
 */
#include "index_priv.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../base/log.h"

#define BATCH_ROWS_MAX 16384u /* some ms of copying on the core thread */
#define BATCH_RETRY_TICKS 10u

struct index_writer { /* malloc; freed by whoever lets go last, on the core thread */
	pthread_mutex_t lock;
	struct index_db *db; /* shared, lock; NULL once closed */
	unsigned refs;       /* core only */
};

struct index_batch {
	struct disk_job job; /* first */
	struct index_writer *writer;
	struct index *ix; /* core only; NULL: the index is closed */
	struct index_batch *left_next; /* core only */
	struct ofs_oid *deletes;
	struct index_db_row *rows;
	struct index_db_kv *kvs;
	size_t delete_count, row_count, kv_count;
	char *strings;
	uint8_t (*sums)[ROW_SHA256_BYTES];
	uint64_t rows_upto, misc_upto;
	bool ran;   /* shared, writer's lock */
	int status; /* shared, writer's lock */
};

/* Batches whose letter may never be opened, since the loop has ended with the index: reachable, so
 * that a leak checker tells real leaks from these. */
static struct index_batch *batches_left; /* core only */

/* --- marks --- */

void index_mark(struct index *ix, struct row *r)
{
	if (r->dirty || r->removed) {
		return;
	}
	r->dirty = true;
	r->dirty_next = 0;
	if (ix->dirty_head == 0) {
		ix->dirty_head = r->number;
	} else {
		index_row(ix, ix->dirty_tail)->dirty_next = r->number;
	}
	ix->dirty_tail = r->number;
	ix->rows_queued++;
}

void index_mark_deleted(struct index *ix, const struct ofs_oid *oid)
{
	if (ix->delete_count == ix->delete_room) {
		ix->delete_room = ix->delete_room == 0 ? 64 : 2 * ix->delete_room;
		ix->deletes = index_alloc(
				realloc(ix->deletes, ix->delete_room * sizeof(*ix->deletes)));
	}
	ix->deletes[ix->delete_count++] = *oid;
	ix->misc_queued++;
}

void index_mark_kv(struct index *ix, struct index_kv *kv)
{
	kv->dirty = true;
	ix->kv_dirty = true;
	ix->misc_queued++;
}

/* --- copying --- */

static size_t batch_string_bytes(const char *s)
{
	return s != NULL ? strlen(s) + 1 : 0;
}

static const char *batch_string(char **at, const char *s)
{
	size_t bytes = batch_string_bytes(s);
	char *copy = *at;

	if (s == NULL) {
		return NULL;
	}
	memcpy(copy, s, bytes);
	*at += bytes;
	return copy;
}

static void batch_row(struct index_batch *b, const struct row *r, char **at)
{
	struct index_db_row *out = &b->rows[b->row_count];

	out->oid = r->oid;
	out->flags = (r->is_dir ? INDEX_DB_IS_DIR : 0) | (r->in_s3 ? INDEX_DB_IN_S3 : 0) |
			(r->has_object ? INDEX_DB_HAS_OBJECT : 0) |
			(r->plain ? INDEX_DB_PLAIN : 0) |
			(r->base_due ? INDEX_DB_BASE_DUE : 0) |
			(r->has_base ? INDEX_DB_HAS_BASE : 0) |
			((uint32_t)r->live << INDEX_DB_LIVE_SHIFT);
	out->s3_parent = r->s3_parent;
	out->s3_name = batch_string(at, r->s3_name);
	out->etag = batch_string(at, r->etag);
	out->version_id = batch_string(at, r->version_id);
	out->s3_size = r->s3_size;
	out->s3_mtime_ns = r->s3_mtime_ns;
	out->s3_data_gen = r->s3_data_gen;
	out->s3_meta_gen = r->s3_meta_gen;
	out->wid = r->wid;
	out->parent = r->parent;
	out->name = batch_string(at, r->name);
	out->ino = r->ino;
	if (r->has_sha256) {
		memcpy(b->sums[b->row_count], row_sha256(r), ROW_SHA256_BYTES);
		out->sha256 = b->sums[b->row_count];
	}
	b->row_count++;
}

static void batch_take_rows(struct index *ix, struct index_batch *b, size_t rows, char **at)
{
	for (size_t i = 0; i < rows; i++) {
		struct row *r = index_row(ix, ix->dirty_head);

		ix->dirty_head = r->dirty_next;
		r->dirty_next = 0;
		r->dirty = false;
		ix->rows_taken++;
		if (r->removed) {
			index_row_free(ix, r);
			continue;
		}
		batch_row(b, r, at);
		r->on_disk = true;
	}
}

static void batch_take_kv(struct index *ix, struct index_batch *b, char **at)
{
	for (struct index_kv *kv = ix->kv; kv != NULL; kv = kv->next) {
		if (kv->dirty) {
			kv->dirty = false;
			b->kvs[b->kv_count].key = batch_string(at, kv->key);
			b->kvs[b->kv_count].value = batch_string(at, kv->value);
			b->kv_count++;
		}
	}
	ix->kv_dirty = false;
}

static void batch_run(struct disk_job *job);
static void batch_done(struct disk_job *job);

/* A batch of everything that waits, up to BATCH_ROWS_MAX rows; may be empty. */
static struct index_batch *batch_new(struct index *ix)
{
	struct index_batch *b = index_alloc(calloc(1, sizeof(*b)));
	size_t bytes = 1, rows = 0, kvs = 0;
	char *at;

	for (struct row *r = index_row(ix, ix->dirty_head); r != NULL && rows < BATCH_ROWS_MAX;
			r = index_row(ix, r->dirty_next)) {
		rows++;
		bytes += batch_string_bytes(r->s3_name) + batch_string_bytes(r->etag) +
				batch_string_bytes(r->version_id) + batch_string_bytes(r->name);
	}
	for (struct index_kv *kv = ix->kv; ix->kv_dirty && kv != NULL; kv = kv->next) {
		if (kv->dirty) {
			kvs++;
			bytes += batch_string_bytes(kv->key) + batch_string_bytes(kv->value);
		}
	}
	b->job.what = "index batch";
	b->job.run = batch_run;
	b->job.done = batch_done;
	b->ix = ix;
	b->writer = ix->writer;
	b->writer->refs++;
	b->strings = index_alloc(malloc(bytes));
	b->rows = index_alloc(calloc(rows + 1, sizeof(*b->rows)));
	b->sums = index_alloc(calloc(rows + 1, sizeof(*b->sums)));
	b->kvs = index_alloc(calloc(kvs + 1, sizeof(*b->kvs)));
	at = b->strings;
	b->deletes = ix->deletes;
	b->delete_count = ix->delete_count;
	ix->deletes = NULL;
	ix->delete_count = 0;
	ix->delete_room = 0;
	batch_take_rows(ix, b, rows, &at);
	if (ix->kv_dirty) {
		batch_take_kv(ix, b, &at);
	}
	b->rows_upto = ix->rows_taken;
	b->misc_upto = ix->misc_queued;
	return b;
}

static void writer_put(struct index_writer **pw)
{
	struct index_writer *w = *pw;

	*pw = NULL;
	if (--w->refs == 0) {
		pthread_mutex_destroy(&w->lock);
		free(w);
	}
}

static void batch_free(struct index_batch **pb)
{
	struct index_batch *b = *pb;

	*pb = NULL;
	writer_put(&b->writer);
	free(b->deletes);
	free(b->rows);
	free(b->sums);
	free(b->kvs);
	free(b->strings);
	free(b);
}

/* --- writing --- */

static void batch_run(struct disk_job *job)
{
	struct index_batch *b = (struct index_batch *)job;

	pthread_mutex_lock(&b->writer->lock);
	if (!b->ran) {
		b->ran = true;
		b->status = index_db_write(b->writer->db, b->deletes, b->delete_count, b->rows,
				b->row_count, b->kvs, b->kv_count);
	}
	pthread_mutex_unlock(&b->writer->lock);
}

static void batch_submit(struct index *ix)
{
	ix->flight->ran = false;
	ix->flight_failed = false;
	disk_submit(ix->disk, DISK_INDEX, &ix->flight->job);
}

static bool index_has_changes(const struct index *ix)
{
	return ix->dirty_head != 0 || ix->delete_count > 0 || ix->kv_dirty;
}

static void batch_start(struct index *ix)
{
	ix->flight = batch_new(ix);
	batch_submit(ix);
}

/* Tell those whose changes are written, or on failure all. They may change the index. */
static void waits_tell(struct index *ix, int status)
{
	struct index_wait *told = NULL, **told_tail = &told;
	struct index_wait **link = &ix->waits;

	while (*link != NULL) {
		struct index_wait *w = *link;

		if (status == 0 && (w->rows_upto > ix->rows_done || w->misc_upto > ix->misc_done)) {
			link = &w->next;
			continue;
		}
		*link = w->next;
		w->next = NULL;
		*told_tail = w;
		told_tail = &w->next;
	}
	ix->waits_tail = link;
	while (told != NULL) {
		struct index_wait *w = told;

		told = w->next;
		w->done(status, w->arg);
		free(w);
	}
}

static void batch_done(struct disk_job *job)
{
	struct index_batch *b = (struct index_batch *)job;
	struct index *ix = b->ix;
	int status = b->status;

	if (ix == NULL) {
		struct index_batch **link = &batches_left;

		while (*link != b) {
			link = &(*link)->left_next;
		}
		*link = b->left_next;
		batch_free(&b);
		return;
	}
	if (status != 0) {
		if (!ix->failing) {
			log_error("index", "the index cannot be written (%s): nothing is sent to S3 meanwhile, what "
					"waits is kept; tried again each second", strerror(-status));
		}
		ix->failing = ix->flight_failed = true;
		ix->retry_ticks = BATCH_RETRY_TICKS;
		waits_tell(ix, status);
		return;
	}
	if (ix->failing) {
		log_notice("index", "the index is written again");
		ix->failing = false;
	}
	ix->rows_done = b->rows_upto;
	ix->misc_done = b->misc_upto;
	ix->flight = NULL;
	batch_free(&b);
	if (index_has_changes(ix) && (ix->waits != NULL || ix->rows_queued - ix->rows_taken >
								       BATCH_ROWS_MAX)) {
		batch_start(ix);
	}
	waits_tell(ix, 0); /* last: they may free the index */
}

bool index_is_failing(const struct index *ix)
{
	return ix->failing;
}

void index_commit(struct index *ix, void (*done)(int status, void *arg), void *arg)
{
	if (done != NULL) {
		struct index_wait *w = index_alloc(calloc(1, sizeof(*w)));

		w->rows_upto = ix->rows_queued;
		w->misc_upto = ix->misc_queued;
		w->done = done;
		w->arg = arg;
		*ix->waits_tail = w;
		ix->waits_tail = &w->next;
	}
	/* An empty batch answers when nothing has changed: always from the loop, never from here. */
	if (ix->flight == NULL && (done != NULL || index_has_changes(ix))) {
		batch_start(ix);
	}
}

void index_tick(struct index *ix)
{
	if (ix->flight == NULL) {
		if (index_has_changes(ix)) {
			batch_start(ix);
		}
		return;
	}
	if (ix->flight_failed && --ix->retry_ticks == 0) {
		batch_submit(ix);
	}
}

struct index_writer *index_writer_new(struct index_db *db)
{
	struct index_writer *w = index_alloc(calloc(1, sizeof(*w)));

	pthread_mutex_init(&w->lock, NULL);
	w->db = db;
	w->refs = 1;
	return w;
}

void index_writer_close(struct index *ix)
{
	int status = 0;

	if (ix->flight != NULL) {
		struct index_batch *b = ix->flight;
		bool failed = ix->flight_failed;

		if (failed) {
			b->ran = false; /* it is nobody's job now */
		}
		batch_run(&b->job); /* waits for the worker, or does its work */
		status = b->status;
		b->ix = NULL;
		ix->flight = NULL;
		if (failed) {
			batch_free(&b);
		} else {
			b->left_next = batches_left;
			batches_left = b;
		}
	}
	while (status == 0 && index_has_changes(ix)) {
		struct index_batch *b = batch_new(ix);

		batch_run(&b->job);
		status = b->status;
		batch_free(&b);
	}
	if (status != 0) {
		log_error("index", "the last changes could not be written: %s", strerror(-status));
	}
	pthread_mutex_lock(&ix->writer->lock);
	index_db_close(&ix->writer->db, status == 0);
	pthread_mutex_unlock(&ix->writer->lock);
	writer_put(&ix->writer);
	while (ix->waits != NULL) {
		struct index_wait *w = ix->waits;

		ix->waits = w->next;
		free(w);
	}
}
