/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: one row for every inode and object known, and what is changed in it.
 * Way: mirror, reconcile and upload change it; index_map.c finds it; changes go on to index_batch.c; index_open.c
 *      fills it at start; index_row.c has the rows' memory; index_path.c makes keys and paths.
 * Thread: core. Owns: nothing.
 * Holds: One row a place: the one set last has it. A place in S3 is a key: parent, name and kind.
 */
#include "index_priv.h"

#include <stdlib.h>
#include <string.h>

const struct ofs_oid OFS_OID_ROOT = { { 'o', 'b', 'j', 'e', 'c', 't', 'f', 's', '-', 'r', 'o', 'o',
		't', 0, 0, 1 } };
const struct ofs_oid OFS_OID_STAGE = { { 'o', 'b', 'j', 'e', 'c', 't', 'f', 's', '-', 's', 't',
		'a', 'g', 'e', 0, 1 } };
const struct ofs_oid OFS_OID_APART = { { 'o', 'b', 'j', 'e', 'c', 't', 'f', 's', '-', 'a', 'p',
		'a', 'r', 't', 0, 1 } };
const struct ofs_oid index_oid_none;

struct row *index_row_add(struct index *ix, const struct ofs_oid *oid)
{
	struct row *r;

	index_buckets(ix, ix->count + 1);
	r = index_row_new(ix);
	r->oid = *oid;
	index_oid_in(ix, r);
	return r;
}

struct row *index_add(struct index *ix, const struct ofs_oid *oid, bool is_dir)
{
	struct row *r = index_get(ix, oid);

	if (r != NULL) {
		return r;
	}
	r = index_row_add(ix, oid);
	r->is_dir = is_dir;
	index_orphans_adopt(ix, r);
	index_mark(ix, r);
	return r;
}

static void row_set_names(struct row *r, const char *name, const char *s3_name)
{
	struct row_text t = index_row_text(r);

	t.name = name;
	t.s3_name = s3_name;
	index_row_set_text(r, &t);
}

void index_watch(struct index *ix, index_watcher fn, void *arg)
{
	ix->watch = fn;
	ix->watch_arg = arg;
}

static void s3_changes(struct index *ix, const struct row *r, enum index_change change)
{
	if (ix->watch != NULL && r->in_s3) {
		ix->watch(ix->watch_arg, r, change);
	}
}

void index_set_live(struct index *ix, struct row *r, enum row_live live)
{
	if (r == ix->root || live == ROW_HERE || r->live == live) {
		return;
	}
	if (r->live == ROW_HERE) {
		index_place_live_out(ix, r);
	}
	r->live = live;
	if (live == ROW_NOT_HERE) {
		r->parent = index_oid_none;
		r->ino = 0;
		row_set_names(r, NULL, r->s3_name);
	}
	index_mark(ix, r);
}

void index_set_here(struct index *ix, struct row *r, const struct ofs_oid *parent,
		const char *name, uint64_t ino)
{
	const struct ofs_oid to = *parent; /* may be a field of a row that changes below */
	struct row *other;
	char *copy;

	if (r == ix->root) {
		if (r->ino != ino) {
			r->ino = ino;
			index_mark(ix, r);
		}
		return;
	}
	other = index_at_live(ix, parent, name);
	if (other == r) {
		if (r->ino != ino) {
			r->ino = ino;
			index_mark(ix, r);
		}
		return;
	}
	if (other == ix->root) {
		return;
	}
	copy = index_alloc(strdup(name)); /* it may be of a row that changes, too */
	if (other != NULL) {
		index_set_live(ix, other, ROW_NOT_HERE);
	}
	if (r->live == ROW_HERE) {
		index_place_live_out(ix, r);
	}
	r->parent = to;
	row_set_names(r, copy, r->s3_name);
	free(copy);
	r->ino = ino;
	r->live = ROW_HERE;
	index_place_live_in(ix, r);
	index_mark(ix, r);
}

void index_clear_s3(struct index *ix, struct row *r)
{
	if (r == ix->root || !r->in_s3) {
		return;
	}
	s3_changes(ix, r, INDEX_LEAVES);
	index_place_s3_out(ix, r);
	r->in_s3 = false;
	r->has_object = r->base_due = r->has_base = false;
	r->s3_parent = index_oid_none;
	index_row_set_text(r, &(struct row_text){ .name = r->name });
	r->wid = index_oid_none;
	r->s3_size = 0;
	r->s3_mtime_ns = 0;
	r->s3_data_gen = 0;
	r->s3_meta_gen = 0;
	index_mark(ix, r);
}

void index_set_s3(struct index *ix, struct row *r, const struct ofs_oid *parent,
		const char *raw_name)
{
	const struct ofs_oid to = *parent;
	struct row *other = index_at_s3(ix, parent, raw_name, r->is_dir);
	char *copy;

	if (r == ix->root || other == r || other == ix->root) {
		return;
	}
	copy = index_alloc(strdup(raw_name));
	if (other != NULL) {
		index_clear_s3(ix, other);
	}
	if (r->in_s3) {
		s3_changes(ix, r, INDEX_MOVES);
		index_place_s3_out(ix, r);
	}
	r->s3_parent = to;
	row_set_names(r, r->name, copy);
	free(copy);
	r->in_s3 = true;
	index_place_s3_in(ix, r);
	index_mark(ix, r);
	s3_changes(ix, r, INDEX_OTHER);
}

void index_set_apart(struct index *ix, struct row *r, const char *below)
{
	index_add(ix, &OFS_OID_APART, true); /* whose children they are */
	index_set_s3(ix, r, &OFS_OID_APART, below);
}

bool row_is_apart(const struct row *r)
{
	return r->in_s3 && ofs_oid_equal(&r->s3_parent, &OFS_OID_APART);
}

static bool text_differs(const char *a, const char *b)
{
	return a != b && (a == NULL || b == NULL || strcmp(a, b) != 0);
}

void index_set_fence(struct index *ix, struct row *r, const char *etag, const char *version_id,
		const struct ofs_oid *wid, int64_t size, int64_t mtime_ns)
{
	const struct ofs_oid id = wid != NULL ? *wid : index_oid_none;
	bool changed = text_differs(r->etag, etag) || text_differs(r->version_id, version_id);

	if (changed) {
		struct row_text t = index_row_text(r);

		t.etag = etag;
		t.version_id = version_id;
		r->plain = r->plain && !text_differs(r->etag, etag);
		index_row_set_text(r, &t);
	}
	if (changed || !ofs_oid_equal(&r->wid, &id)) {
		r->wid = id;
		s3_changes(ix, r, INDEX_OTHER);
		index_mark(ix, r);
	}
	if (r->s3_size != size || r->s3_mtime_ns != mtime_ns) {
		r->s3_size = size;
		r->s3_mtime_ns = mtime_ns;
		index_mark(ix, r);
	}
}

void index_set_plain(struct index *ix, struct row *r, bool plain)
{
	if (r->plain != plain) {
		r->plain = plain;
		index_mark(ix, r);
	}
}

void index_set_gens(struct index *ix, struct row *r, uint64_t data_gen, uint64_t meta_gen)
{
	if (r->s3_data_gen != data_gen || r->s3_meta_gen != meta_gen) {
		r->s3_data_gen = data_gen;
		r->s3_meta_gen = meta_gen;
		index_mark(ix, r);
	}
}

void index_set_sha256(struct index *ix, struct row *r, const uint8_t sha256[ROW_SHA256_BYTES])
{
	const uint8_t *old = row_sha256(r);

	if ((old != NULL) != (sha256 != NULL) ||
			(old != NULL && memcmp(old, sha256, ROW_SHA256_BYTES) != 0)) {
		struct row_text t = index_row_text(r);

		t.sha256 = sha256;
		index_row_set_text(r, &t);
		index_mark(ix, r);
	}
}

void index_set_object(struct index *ix, struct row *r, bool has_object)
{
	if (r->has_object != has_object) {
		r->has_object = has_object;
		index_mark(ix, r);
	}
}

void index_set_base(struct index *ix, struct row *r, bool due, bool has)
{
	if (r->base_due != due || r->has_base != has) {
		r->base_due = due;
		r->has_base = has;
		index_mark(ix, r);
	}
}

void index_remove(struct index *ix, struct row *r)
{
	if (r == ix->root || r->removed) {
		return;
	}
	if (r->in_s3) {
		s3_changes(ix, r, INDEX_LEAVES);
		index_place_s3_out(ix, r);
	}
	if (r->live == ROW_HERE) {
		index_place_live_out(ix, r);
	}
	index_oid_out(ix, r);
	if (r->on_disk) {
		index_mark_deleted(ix, &r->oid);
	}
	ix->count--;
	r->removed = true;
	if (!r->dirty) { /* else still in the queue of changes, which frees it */
		index_row_free(ix, r);
	}
}
