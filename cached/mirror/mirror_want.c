/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: one question to S3: what is at this place, and what does that make of the mirror?
 * Way: from mirror_list.c and mirror_ask.c; HEAD, or what the directory's base says of this version of
 *      it, then the blobs its snapshot names; the verdict goes back. mirror_make.c or mirror_change.c carries it out.
 * Thread: core.
 * Owns: the want's result; the blob cache.
 * Holds: 1. rights are restored exactly or the name is not shown (damaged metadata, missing blob);
 *        2. a failure that may pass is UNKNOWN, never ABSENT;
 *        3. an answer is void if the row changed while it was on its way: the row is newer;
 *        4. of a file whose inode has gone, rights older than those it had are not taken for its own.
 *
 *   want_start -> HEAD -> want_head_done -> (blobs) -> want_decide -> done
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "foreign.h"
#include "mirror_private.h"
#include "base.h"
#include "bases.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../reconcile/metalog.h"
#include "../reconcile/names.h"
#include "../reconcile/reconcile.h"
#include "../reconcile/whose.h"

/* ---- blobs that were read lately: many files share one ACL ---- */

#define TOMBSTONE_AGE_NS (600 * NS_PER_S)
#define BLOB_SLOTS 256u
#define BLOB_MAX_BYTES 16384u

struct blob_cache { /* core only; direct mapped by hash */
	struct {
		uint8_t sha256[32];
		uint8_t *data;
		uint32_t len;
	} slot[BLOB_SLOTS];
};

struct blob_cache *blob_cache_new(TALLOC_CTX *ctx)
{
	return talloc_zero(ctx, struct blob_cache);
}

static bool blob_cached(struct blob_cache *c, const uint8_t sha256[32], const uint8_t **data,
		uint32_t *len)
{
	unsigned i = sha256[0] % BLOB_SLOTS;

	if (c->slot[i].data == NULL || memcmp(c->slot[i].sha256, sha256, 32) != 0) {
		return false;
	}
	*data = c->slot[i].data;
	*len = c->slot[i].len;
	return true;
}

static void blob_remember(struct blob_cache *c, const uint8_t sha256[32], const uint8_t *data,
		size_t len)
{
	unsigned i = sha256[0] % BLOB_SLOTS;

	if (len > BLOB_MAX_BYTES) {
		return;
	}
	talloc_free(c->slot[i].data);
	c->slot[i].data = talloc_memdup(c, data, len ? len : 1);
	c->slot[i].len = (uint32_t)len;
	memcpy(c->slot[i].sha256, sha256, 32);
}

/* ---- places ---- */

static uint64_t print_add(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len-- > 0) {
		h = (h ^ *p++) * 0x100000001b3ULL; /* FNV-1a */
	}
	return h;
}

uint64_t mirror_row_print(const struct row *row)
{
	uint64_t h = 0xcbf29ce484222325ULL;
	uint8_t state;

	if (row == NULL) {
		return 0;
	}
	state = (uint8_t)((row->in_s3 ? 1 : 0) | (unsigned)row->live << 1);
	h = print_add(h, row->oid.bytes, sizeof(row->oid.bytes));
	h = print_add(h, &state, sizeof(state));
	h = print_add(h, &row->s3_data_gen, sizeof(row->s3_data_gen));
	h = print_add(h, &row->s3_meta_gen, sizeof(row->s3_meta_gen));
	h = print_add(h, row->s3_parent.bytes, sizeof(row->s3_parent.bytes));
	if (row->s3_name != NULL) {
		h = print_add(h, row->s3_name, strlen(row->s3_name));
	}
	h = print_add(h, row->wid.bytes, sizeof(row->wid.bytes));
	if (row->etag != NULL) {
		h = print_add(h, row->etag, strlen(row->etag));
	}
	return h ? h : 1;
}

bool mirror_place_busy(struct mirror *m, const struct ofs_oid *dir, const char *name,
		const struct row *row)
{
	struct volume *v = m->v;
	const struct row *live = index_at_live(v->index, dir, name);

	if (v->reconcile != NULL && (reconcile_place_is_pending(v->reconcile, dir, name) ||
			(row != NULL && reconcile_is_pending(v->reconcile, row)))) {
		return true;
	}
	if (row != NULL && row->live == ROW_TRASHED) {
		return true;
	}
	if (row != NULL && row->live == ROW_HERE &&
			(!ofs_oid_equal(&row->parent, dir) || strcmp(row->name, name) != 0)) {
		return true;
	}
	return live != NULL && live != row && !row_is_coming(live);
}

char *mirror_name_of(struct mirror *m, TALLOC_CTX *ctx, const struct ofs_oid *dir, const char *raw,
		bool is_dir, bool beside)
{
	char *name = name_from_raw(ctx, raw), *other;
	const struct row *live;

	if (is_dir || name == NULL) {
		return name;
	}
	live = index_at_live(m->v->index, dir, name);
	if (!beside && (live == NULL || !live->is_dir)) {
		return name;
	}
	other = name_from_raw_beside_dir(ctx, raw);
	talloc_free(name);
	return other;
}

int mirror_store_error(enum obj_status st)
{
	switch (st) {
	case OBJ_OK:
		return 0;
	case OBJ_NOT_FOUND:
		return -ENOENT;
	case OBJ_DENIED:
		return -EACCES;
	case OBJ_LOCAL:
		return -ENOMEM;
	case OBJ_CANCELLED:
		return -ECANCELED;
	default:
		return -EIO;
	}
}

bool mirror_is_apart(struct mirror *m, const char *key)
{
	struct volume *v = m->v;
	struct row *row = index_at_s3(v->index, &OFS_OID_APART, key + strlen(v->prefix), false);

	if (row == NULL || redirect_is_from(v->reconcile, key)) {
		return redirect_is_from(v->reconcile, key);
	}
	if (row->live != ROW_NOT_HERE || (v->reconcile != NULL && reconcile_is_pending(v->reconcile, row))) {
		return true;
	}
	index_clear_s3(v->index, row); /* the tree has it nowhere: its object is a name where it is */
	mirror_forget(m, row);
	return false;
}

/* The row of what is wanted. */
static struct row *want_row(const struct want *w)
{
	struct index *ix = w->m->v->index;

	return w->apart != NULL ? index_at_s3(ix, &OFS_OID_APART, w->apart, false)
				: index_at_s3(ix, &w->dir, w->raw, w->is_dir);
}

int want_set_apart(struct want *w, const char *from)
{
	char *key = talloc_strdup(w, from);
	char *apart = talloc_strdup(w, from + strlen(w->m->v->prefix));

	if (key == NULL || apart == NULL) {
		return -ENOMEM;
	}
	talloc_free(w->key);
	w->key = key;
	w->apart = apart;
	return 0;
}

/* ---- the want ---- */

static int want_destructor(struct want *w)
{
	stub_free(&w->stub);
	objmeta_clear(&w->meta);
	return 0;
}

struct want *want_new(TALLOC_CTX *ctx, struct mirror *m, const struct ofs_oid *dir,
		const char *raw, const char *name, const char *key, bool is_dir)
{
	struct want *w = talloc_zero(ctx, struct want);

	if (w == NULL) {
		return NULL;
	}
	w->m = m;
	w->dir = *dir;
	w->raw = talloc_strdup(w, raw);
	w->name = talloc_strdup(w, name);
	w->key = talloc_strdup(w, key);
	w->is_dir = is_dir;
	if (w->raw == NULL || w->name == NULL || w->key == NULL) {
		talloc_free(w);
		return NULL;
	}
	talloc_set_destructor(w, want_destructor);
	return w;
}

static void want_answer(struct want *w, enum want_verdict verdict, int status, const char *message)
{
	w->verdict = verdict;
	w->status = status;
	if (message != NULL) {
		w->message = talloc_strdup(w, message);
	}
	if (verdict == WANT_OMIT) {
		stats_add(names_hidden, 1);
		log_warning("mirror", "%s is not shown: %s", w->key, message ? message : "");
	}
	w->done(w);
}

/* Who the object is: as its metadata says unless that identity is taken by another object. */
static void want_identity(struct want *w, const struct row *row, struct ofs_oid *oid)
{
	struct index *ix = w->m->v->index;
	const struct row *other;
	bool ours = w->meta.ours && !ofs_oid_is_none(&w->meta.oid);
	int i;

	if (row != NULL) {
		*oid = row->oid;
		return;
	}
	for (i = ours ? 0 : 1; i < 2; i++) {
		if (i == 0) {
			*oid = w->meta.oid;
		} else {
			objmeta_foreign_oid(&w->m->v->uuid, w->key, oid);
		}
		if (ofs_oid_equal(oid, &OFS_OID_ROOT) || ofs_oid_equal(oid, &OFS_OID_STAGE) ||
				ofs_oid_equal(oid, &OFS_OID_APART)) {
			continue;
		}
		other = index_get(ix, oid);
		if (other == NULL || (other->is_dir == w->is_dir && !other->in_s3 &&
				other->live == ROW_NOT_HERE)) {
			return;
		}
	}
	clock_random(w->m->v->clock, oid, sizeof(*oid));
}

/* A client deleted it and the index that knew its key was lost: the key is known now. One that another file has replaced
 * is no such: what bears its id is a copy that somebody has put back. */
static bool want_is_deleted(struct want *w)
{
	struct volume *v = w->m->v;
	struct row *gone = w->meta.ours ? index_get(v->index, &w->meta.oid) : NULL;

	if (gone == NULL || gone->live != ROW_TRASHED || gone->in_s3 || !whose_is_lost(gone) ||
			gone->is_dir != w->is_dir || v->reconcile == NULL) {
		return false;
	}
	if (w->apart != NULL) {
		index_set_apart(v->index, gone, w->apart);
	} else {
		index_set_s3(v->index, gone, &w->dir, w->raw);
	}
	index_set_fence(v->index, gone, NULL, ROW_LOST, NULL, 0, 0);
	reconcile_touch(v->reconcile, gone);
	return true;
}

/* The index was lost, and the object is the one that the file here is of: the row has its fence again. */
static bool want_is_as_recorded(struct want *w, struct row *row)
{
	struct index *ix = w->m->v->index;
	const struct stub *s = w->stub;

	if (row->is_dir || !whose_is_as_recorded(row, s->etag, &s->wid)) {
		return false;
	}
	index_set_fence(ix, row, s->etag, s->version_id, &s->wid, s->size, s->s3_mtime_ns);
	index_set_plain(ix, row, s->plain);
	index_set_object(ix, row, true);
	return true;
}

static void want_decide(struct want *w)
{
	struct volume *v = w->m->v;
	struct row *row = want_row(w);

	if (mirror_row_print(row) != w->print || mirror_place_busy(w->m, &w->dir, w->name, row)) {
		want_answer(w, WANT_LEAVE, 0, NULL);
		return;
	}
	if (row != NULL && row_is_here(row)) {
		want_answer(w, want_is_as_recorded(w, row) ? WANT_LEAVE : WANT_CHANGE, 0, NULL);
		return;
	}
	if (row == NULL && want_is_deleted(w)) {
		want_answer(w, WANT_LEAVE, 0, NULL);
		return;
	}
	want_identity(w, row, &w->stub->oid); /* another want may have taken it since */
	bases_mute(v->bases, w->known);
	mirror_stub_row(w->m, &w->dir, w->stub);
	bases_mute(v->bases, false);
	stats_add(base_names, w->known ? 1 : 0);
	want_answer(w, WANT_MAKE, 0, NULL);
}

/* ---- blobs ---- */

static void want_blobs(struct want *w);
static void want_head(struct want *w);

static int blob_fill(struct snapshot_xattr *x, const uint8_t *data, size_t len)
{
	x->value = malloc(len + 1);
	if (x->value == NULL) {
		return -ENOMEM;
	}
	memcpy(x->value, data, len);
	return 0;
}

static void want_blob_done(struct obj_req *req)
{
	struct want *w = req->arg;
	struct snapshot_xattr *x = &w->stub->snapshot->xattrs[w->blob_next];
	struct obj_result *r = &req->result;
	char text[512];

	if (r->status == OBJ_OK && snapshot_blob_is(x->sha256, x->len, r->body, r->body_len)) {
		if (blob_fill(x, r->body, r->body_len) == 0) {
			blob_remember(w->m->blobs, x->sha256, r->body, r->body_len);
			objstore_req_free(&req);
			want_blobs(w);
			return;
		}
		r->status = OBJ_LOCAL;
	}
	if (w->known && r->status != OBJ_LOCAL) {
		objstore_req_free(&req);
		want_head(w); /* what a base says may be out of date; what the object says is not */
		return;
	}
	if (r->status == OBJ_OK || r->status == OBJ_NOT_FOUND || r->status == OBJ_INVALID) {
		snprintf(text, sizeof(text), "the blob %s that holds its %s is %s", req->key, x->name,
				r->status == OBJ_NOT_FOUND ? "missing" : "damaged");
		objstore_req_free(&req);
		want_answer(w, WANT_OMIT, -EACCES, text);
		return;
	}
	snprintf(text, sizeof(text), "%s: %s", req->key, r->message ? r->message : "");
	w->status = mirror_store_error(r->status);
	objstore_req_free(&req);
	want_answer(w, WANT_UNKNOWN, w->status, text);
}

/* Fetch what is not inline, one after the other; then decide. */
static void want_blobs(struct want *w)
{
	struct snapshot *s = w->stub->snapshot;
	struct snapshot_xattr *x;
	const uint8_t *data;
	struct obj_req *req;
	uint32_t len;
	char *key;

	for (; s != NULL && w->blob_next < s->xattr_count; w->blob_next++) {
		x = &s->xattrs[w->blob_next];
		if (!x->is_blob || x->value != NULL) {
			continue;
		}
		if (blob_cached(w->m->blobs, x->sha256, &data, &len) && len == x->len &&
				blob_fill(x, data, len) == 0) {
			continue;
		}
		key = objmeta_blob_key(w->m->v->prefix, x->sha256);
		req = key ? objstore_req_new(OBJ_GET, key) : NULL;
		free(key);
		if (req == NULL) {
			want_answer(w, WANT_UNKNOWN, -ENOMEM, "out of memory");
			return;
		}
		req->prio = OBJ_PRIO_READER;
		req->request_id = w->request_id;
		req->length = -1;
		req->done = want_blob_done;
		req->arg = w;
		objstore_submit(w->m->v->store, req);
		return;
	}
	want_decide(w);
}

/* ---- the object ---- */

static void want_tombstone_done(struct obj_req *req)
{
	if (req->result.status != OBJ_OK && req->result.status != OBJ_NOT_FOUND) {
		log_info("mirror", "the remains of a delete at %s stay for now: %s", req->key,
				objstore_status_name(req->result.status));
	} else {
		stats_add(deletes, 1);
	}
	objstore_req_free(&req);
}

/* A delete that stopped half way is finished. Where the store has no conditional delete, only once its
 * owner, who would do it, must be dead: the key may be in use again a moment after he has. */
static void want_tombstone(struct want *w, const struct obj_result *r)
{
	struct objstore *store = w->m->v->store;
	int64_t now_ns = objstore_now_ns(store, w->m->v->clock);
	bool fenced = store->caps.delete_if_match;
	struct obj_req *req;

	if (store->read_only || r->etag == NULL || (!fenced && now_ns - r->mtime_ns < TOMBSTONE_AGE_NS)) {
		return;
	}
	req = objstore_req_new(OBJ_DELETE, w->key);
	if (req == NULL || (fenced && (req->if_match = strdup(r->etag)) == NULL)) {
		objstore_req_free(&req);
		return;
	}
	stats_add(fence_windows, fenced ? 0 : 1);
	req->prio = OBJ_PRIO_HOUSE;
	req->done = want_tombstone_done;
	objstore_submit(w->m->v->store, req);
}

/* The newer of the object's snapshot and the log's. 0; -EBADMSG: the log's cannot be read. */
static int want_overlay(struct want *w, struct stub *s)
{
	struct metalog *ml = w->m->v->metalog;
	const struct metalog_entry *e, *by_key;
	struct ofs_oid key;
	struct snapshot *newer = NULL;
	int ret;

	if (ml == NULL) {
		return 0;
	}
	e = metalog_find(ml, &s->oid, s->meta_gen);
	if (e == NULL && w->meta.ours) {
		e = metalog_find(ml, &w->meta.oid, s->meta_gen);
	} else if (!w->meta.ours) { /* it belongs to its key, whatever the row calls it */
		objmeta_foreign_oid(&w->m->v->uuid, w->key, &key);
		by_key = metalog_find(ml, &key, e != NULL ? e->meta_gen : s->meta_gen);
		e = by_key != NULL ? by_key : e;
	}
	if (e == NULL) {
		return 0;
	}
	ret = snapshot_unpack(e->packed, e->packed_len, &newer);
	if (ret != 0) {
		return ret;
	}
	snapshot_free(&s->snapshot);
	s->snapshot = newer;
	s->meta_gen = e->meta_gen;
	s->foreign = false;
	return 0;
}

static struct stub *want_stub(struct want *w, const struct obj_result *r, const struct row *row)
{
	struct stub *s = stub_new(w->name, w->raw, w->is_dir);

	if (s == NULL) {
		return NULL;
	}
	want_identity(w, row, &s->oid);
	s->foreign = true;
	if (r == NULL) { /* a directory that only its children imply */
		return s;
	}
	s->apart = w->apart ? strdup(w->apart) : NULL;
	if (w->apart != NULL && s->apart == NULL) {
		stub_free(&s);
		return NULL;
	}
	s->has_object = true;
	s->plain = w->known ? w->plain : foreign_none(r);
	s->size = w->is_dir ? 0 : r->size;
	s->s3_mtime_ns = r->mtime_ns;
	s->mtime_ns = w->meta.has_mtime ? w->meta.mtime_ns : r->mtime_ns;
	s->etag = r->etag ? strdup(r->etag) : NULL;
	s->version_id = r->version_id ? strdup(r->version_id) : NULL;
	s->data_gen = w->meta.data_gen;
	s->meta_gen = w->meta.meta_gen;
	s->wid = w->meta.wid;
	s->foreign = w->meta.snapshot == NULL;
	s->read_only = !w->is_dir && w->meta.has_mode && (w->meta.mode & 0222) == 0;
	s->snapshot = w->meta.snapshot;
	w->meta.snapshot = NULL;
	return s;
}

/* The snapshot's times are the object's unless a foreign tool wrote the content after it. */
static void want_times(struct want *w, struct stub *s, const struct row *row)
{
	if (s->snapshot == NULL) {
		return;
	}
	if (!w->meta.ours && row != NULL && row_is_here(row)) {
		s->snapshot->mtime_ns = s->snapshot->atime_ns = s->mtime_ns;
	}
	s->mtime_ns = s->snapshot->mtime_ns;
}

/* The object that the row knows. Equal bytes that another node has written are another: its rights are
 * newer. */
static bool want_is_known(struct want *w, const struct row *row, const struct obj_result *r)
{
	return row->etag != NULL && r->etag != NULL && strcmp(row->etag, r->etag) == 0 &&
	       (!w->meta.ours || ofs_oid_is_none(&row->wid) ||
			       ofs_oid_equal(&row->wid, &w->meta.wid));
}

/* An older version put back, in place of what was here once: the rights of today went with the inode. Where that
 * is here they stay (mirror_change.c). */
static bool want_is_older(const struct want *w, const struct row *row)
{
	return row != NULL && !w->is_dir && (row->live == ROW_NOT_HERE || row_is_coming(row)) && w->meta.ours &&
	       ofs_oid_equal(&w->meta.oid, &row->oid) && w->stub->meta_gen < row->s3_meta_gen;
}

/* r: HEAD's answer, or what stands for it; NULL: only children imply it. */
static void want_found(struct want *w, const struct obj_result *r, struct row *row)
{
	w->stub = want_stub(w, r, row);
	if (w->stub == NULL) {
		want_answer(w, WANT_UNKNOWN, -ENOMEM, "out of memory");
		return;
	}
	if (want_overlay(w, w->stub) != 0) {
		want_answer(w, WANT_OMIT, -EACCES, "its entry in the metadata log is damaged");
		return;
	}
	if (want_is_older(w, row)) {
		if (w->known) {
			want_head(w);
			return;
		}
		want_answer(w, WANT_OMIT, -EACCES, "its rights are older than those it had here: put the newer version "
				"back, or copy the object without its metadata, and it has what its directory hands down");
		return;
	}
	want_times(w, w->stub, row);
	want_blobs(w);
}

static void want_head_done(struct obj_req *req)
{
	struct want *w = req->arg;
	struct obj_result *r = &req->result;
	struct row *row = want_row(w);
	bool damaged = false, implied = w->is_dir && r->status == OBJ_NOT_FOUND;
	char *text;

	if (mirror_row_print(row) != w->print) {
		objstore_req_free(&req);
		want_answer(w, WANT_LEAVE, 0, NULL);
		return;
	}
	if (r->status == OBJ_INVALID) { /* one object that cannot be asked, such as one encrypted by somebody else */
		text = talloc_strdup(w, r->message != NULL ? r->message : "");
		objstore_req_free(&req);
		want_answer(w, WANT_OMIT, -EACCES, text);
		return;
	}
	if (r->status != OBJ_OK && !implied) {
		text = talloc_asprintf(w, "%s: %s", w->key,
				r->message ? r->message : objstore_status_name(r->status));
		w->status = mirror_store_error(r->status);
		objstore_req_free(&req);
		want_answer(w, w->status == -ENOENT ? WANT_ABSENT : WANT_UNKNOWN, w->status, text);
		return;
	}
	if (!implied) {
		objmeta_read(r, &w->meta, &damaged);
	}
	if (damaged) {
		objstore_req_free(&req);
		want_answer(w, WANT_OMIT, -EACCES, "its metadata is damaged or of a later version");
		return;
	}
	if (w->meta.tombstone && !w->is_dir) {
		want_tombstone(w, r);
		objstore_req_free(&req);
		want_answer(w, WANT_ABSENT, -ENOENT, NULL);
		return;
	}
	if (row != NULL && row_is_here(row) && (row->is_dir || want_is_known(w, row, r))) {
		objstore_req_free(&req);
		want_answer(w, WANT_LEAVE, 0, NULL);
		return;
	}
	want_found(w, implied || w->meta.tombstone ? NULL : r, row);
	objstore_req_free(&req);
}

void want_start_known(struct want *w, struct base_row *base)
{
	struct row *row = want_row(w);
	const struct obj_result r = {.etag = base->etag, .version_id = base->version_id,
		.size = base->size, .mtime_ns = base->s3_mtime_ns};

	w->known = true;
	w->print = mirror_row_print(row);
	w->meta.ours = base->snapshot != NULL;
	w->plain = base->plain;
	w->meta.oid = base->oid;
	w->meta.wid = base->wid;
	w->meta.data_gen = base->data_gen;
	w->meta.meta_gen = base->meta_gen;
	w->meta.snapshot = base->snapshot;
	w->meta.has_mtime = base->snapshot == NULL;
	w->meta.mtime_ns = base->mtime_ns;
	base->snapshot = NULL;
	want_found(w, &r, row);
}

void want_start_implied(struct want *w)
{
	struct row *row = want_row(w);

	w->print = mirror_row_print(row);
	want_found(w, NULL, row);
}

void want_start(struct want *w)
{
	want_head(w);
}

static void want_head(struct want *w)
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, w->key);

	if (req == NULL) {
		want_answer(w, WANT_UNKNOWN, -ENOMEM, "out of memory");
		return;
	}
	w->known = false;
	w->blob_next = 0;
	stub_free(&w->stub);
	objmeta_clear(&w->meta);
	w->print = mirror_row_print(want_row(w));
	req->prio = OBJ_PRIO_READER;
	req->request_id = w->request_id;
	req->may_lack = true; /* of a name that is asked for a LIST says so, too */
	req->done = want_head_done;
	req->arg = w;
	objstore_submit(w->m->v->store, req);
}
