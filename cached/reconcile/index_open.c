/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: bring the index from its file into memory, keep its small values, close it.
 * Way: from core/volume_open.c at start and end; rows come from index_db.c.
 * Thread: core; open and close block, before and after the loop.
 * Owns: the struct index; its file through index_batch.c.
 * Holds: 1. The root's row is always there, in S3 and here, and never leaves.
 *        2. After a crash the file may hold half of a change; where two rows claim a place, one
 *           keeps it and forgets its fence (HEAD first), the other loses it.
 */
#include "index_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../base/log.h"

/* --- small values --- */

static struct index_kv *kv_find(struct index *ix, const char *key)
{
	struct index_kv *kv = ix->kv;

	while (kv != NULL && strcmp(kv->key, key) != 0) {
		kv = kv->next;
	}
	return kv;
}

static struct index_kv *kv_store(struct index *ix, const char *key, const char *value)
{
	struct index_kv *kv = kv_find(ix, key);
	char *old;

	if (kv == NULL) {
		kv = index_alloc(talloc_zero(ix, struct index_kv));
		kv->key = index_alloc(talloc_strdup(kv, key));
		kv->next = ix->kv;
		ix->kv = kv;
	}
	old = kv->value;
	kv->value = value != NULL ? index_alloc(talloc_strdup(kv, value)) : NULL;
	talloc_free(old);
	return kv;
}

void index_kv_set(struct index *ix, const char *key, const char *value)
{
	struct index_kv *kv = kv_find(ix, key);
	const char *old = kv != NULL ? kv->value : NULL;

	if (old == value || (old != NULL && value != NULL && strcmp(old, value) == 0)) {
		return;
	}
	index_mark_kv(ix, kv_store(ix, key, value));
}

const char *index_kv_get(struct index *ix, const char *key)
{
	struct index_kv *kv = kv_find(ix, key);

	return kv != NULL ? kv->value : NULL;
}

/* --- open and close --- */

static void rows_free(struct index *ix)
{
	index_rows_free(ix);
	free(ix->by_oid);
	free(ix->by_s3);
	free(ix->by_live);
	ix->by_oid = NULL;
	ix->by_s3 = NULL;
	ix->by_live = NULL;
	ix->count = 0;
	ix->root = NULL;
}

static void load_begin(void *arg, uint64_t row_count)
{
	struct index *ix = arg;

	rows_free(ix);
	while (ix->kv != NULL) {
		struct index_kv *kv = ix->kv;

		ix->kv = kv->next;
		talloc_free(kv);
	}
	/* for the root too: no growing before every row is in its places */
	ix->load_room = row_count;
	index_buckets(ix, row_count + 1);
}

static int load_kv(void *arg, const char *key, const char *value)
{
	kv_store(arg, key, value);
	return 0;
}

/* Paths are made of it: it stays in its directory, whatever the file says. */
static bool name_is_component(const struct index_db_row *in)
{
	const char *name = in->name;

	return name == NULL || ofs_oid_equal(&in->oid, &OFS_OID_ROOT) ||
	       (name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
}

/* Into no map yet: places need every parent, see load_link. */
static int load_row(void *arg, const struct index_db_row *in)
{
	struct index *ix = arg;
	uint32_t live = in->flags >> INDEX_DB_LIVE_SHIFT & INDEX_DB_LIVE_MASK;
	struct row *r;

	if (live > ROW_TRASHED || (live == ROW_HERE && in->name == NULL) ||
			((in->flags & INDEX_DB_IN_S3) != 0 && in->s3_name == NULL) || !name_is_component(in)) {
		return -EBADMSG;
	}
	if (ix->count == ix->load_room) {
		return -EBADMSG; /* more than were counted */
	}
	r = index_row_new(ix);
	r->oid = in->oid;
	r->is_dir = (in->flags & INDEX_DB_IS_DIR) != 0;
	r->in_s3 = (in->flags & INDEX_DB_IN_S3) != 0;
	r->has_object = (in->flags & INDEX_DB_HAS_OBJECT) != 0;
	r->plain = (in->flags & INDEX_DB_PLAIN) != 0;
	r->base_due = (in->flags & INDEX_DB_BASE_DUE) != 0;
	r->has_base = (in->flags & INDEX_DB_HAS_BASE) != 0;
	r->live = (enum row_live)live;
	r->s3_parent = in->s3_parent;
	r->parent = in->parent;
	index_row_set_text(r, &(struct row_text){ .name = in->name, .s3_name = in->s3_name,
			.etag = in->etag, .version_id = in->version_id, .sha256 = in->sha256 });
	r->s3_size = in->s3_size;
	r->s3_mtime_ns = in->s3_mtime_ns;
	r->s3_data_gen = in->s3_data_gen;
	r->s3_meta_gen = in->s3_meta_gen;
	r->wid = in->wid;
	r->ino = in->ino;
	r->on_disk = true;
	return 0;
}

static void root_make(struct index *ix)
{
	struct row *r = index_get(ix, &OFS_OID_ROOT);
	struct row_text t;

	if (r == NULL) {
		r = index_row_add(ix, &OFS_OID_ROOT);
		index_mark(ix, r);
	}
	r->is_dir = true;
	r->in_s3 = true;
	r->live = ROW_HERE;
	r->s3_parent = index_oid_none;
	r->parent = index_oid_none;
	t = index_row_text(r);
	t.s3_name = "";
	t.name = ".";
	index_row_set_text(r, &t);
	ix->root = r;
}

static void row_lose_s3(struct index *ix, struct row *r)
{
	struct row_text t = index_row_text(r);

	r->in_s3 = false;
	r->has_object = false;
	r->s3_parent = index_oid_none;
	t.s3_name = NULL;
	index_row_set_text(r, &t);
	index_mark(ix, r);
}

static void row_lose_live(struct index *ix, struct row *r)
{
	struct row_text t = index_row_text(r);

	r->live = ROW_NOT_HERE;
	r->parent = index_oid_none;
	t.name = NULL;
	index_row_set_text(r, &t);
	index_mark(ix, r);
}

static void row_lose_etag(struct index *ix, struct row *r)
{
	struct row_text t = index_row_text(r);

	t.etag = NULL;
	index_row_set_text(r, &t);
	index_mark(ix, r);
}

/* Into its places, now that every parent is there; the number of those that were taken. */
static unsigned load_link_row(struct index *ix, struct row *r, const struct index_slots *slots)
{
	struct row *s3_taken, *live_taken;

	index_place_loaded(ix, r, slots, &s3_taken, &live_taken);
	if (s3_taken != NULL) {
		if (s3_taken != ix->root) {
			row_lose_etag(ix, s3_taken);
		}
		row_lose_s3(ix, r);
	}
	if (live_taken != NULL) {
		row_lose_live(ix, r);
	}
	return (s3_taken != NULL) + (live_taken != NULL);
}

static void load_link(struct index *ix)
{
	struct index_slots slots[INDEX_LOAD_AT_ONCE];
	uint64_t clashes = 0;

	index_place_s3_in(ix, ix->root);
	index_place_live_in(ix, ix->root);
	for (uint32_t n = 1; n <= ix->rows_used; n += INDEX_LOAD_AT_ONCE) {
		uint32_t left = ix->rows_used - n + 1;
		uint32_t count = left < INDEX_LOAD_AT_ONCE ? left : INDEX_LOAD_AT_ONCE;

		index_slots_loaded(ix, n, count, slots);
		for (uint32_t i = 0; i < count; i++) {
			struct row *r = index_row(ix, n + i);

			if (r != ix->root) {
				clashes += load_link_row(ix, r, &slots[i]);
			}
		}
	}
	if (clashes > 0) {
		log_warning("index", "%llu rows claimed the place of another",
				(unsigned long long)clashes);
	}
}

static int index_destroy(struct index *ix)
{
	index_writer_close(ix);
	rows_free(ix);
	free(ix->deletes);
	return 0;
}

struct index *index_open(
		TALLOC_CTX *ctx, struct disk *disk, struct clock *clock, const char *path, bool *fresh,
		char **error)
{
	struct index *ix = index_alloc(talloc_zero(ctx, struct index));
	const struct index_db_loader loader = {
		.arg = ix, .begin = load_begin, .row = load_row, .kv = load_kv
	};
	struct index_db *db;

	*error = NULL;
	ix->disk = disk;
	ix->waits_tail = &ix->waits;
	clock_random(clock, ix->seed, sizeof(ix->seed));
	if (index_db_open(ctx, path, &loader, &db, fresh, error) != 0) {
		rows_free(ix);
		talloc_free(ix);
		return NULL;
	}
	index_loaded_in(ix);
	root_make(ix);
	load_link(ix);
	ix->writer = index_writer_new(db);
	talloc_set_destructor(ix, index_destroy);
	return ix;
}

void index_close(struct index **pix)
{
	if (*pix != NULL) {
		talloc_free(*pix);
		*pix = NULL;
	}
}
