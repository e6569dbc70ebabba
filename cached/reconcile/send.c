/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: one item's data or metadata to its key.
 * Way: step.c -> here -> upload, copy.c or the metadata log -> prepare.c (step_finish).
 * Thread: core.
 * Owns: nothing; the attempt does.
 * Holds:
 *  1. a key is claimed by a committed row before the first PUT to it (rule 12);
 *  2. 412 or an unknown outcome is answered by HEAD: ours is adopted, foreign makes a conflict copy (rule 14).
 */
#include "private.h"
#include "../core/sure.h"
#include "../mirror/foreign.h"
#include "../upload/begun.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STEP_TRIES_MAX 4
#define STEP_UNSURE_MAX 1 /* where an answer was lost: then later, for each try sends all of it */

/* The object with this ETag has this wid, or none. */
static void step_upload_over(struct attempt *a, const char *if_match, const struct ofs_oid *wid);

/* ---- upload ---- */

uint64_t step_meta_gen(const struct attempt *a)
{
	const struct metalog_entry *e = metalog_find(a->v->metalog, &a->oid, a->rec.meta_gen);

	return e != NULL ? e->meta_gen : a->rec.meta_gen;
}

struct covered { /* what step_uploaded_ok goes on with; talloc child of the attempt */
	struct attempt *a;
	char *etag, *version_id;
	int64_t mtime_ns;
	uint64_t data_gen, meta_gen;
};

static void step_covered(enum obj_status st, const char *message, void *arg)
{
	struct covered *c = arg;

	if (st != OBJ_OK) {
		attempt_end_store(c->a, "looking what an upload has covered", st, message);
		return;
	}
	step_uploaded_ok(c->a, c->etag, c->version_id, c->mtime_ns, c->data_gen, c->meta_gen);
}

/* What the row knows was looked under; an earlier write of ours that it does not know may have been answered, and then
 * no more. */
static struct under_write step_write(struct attempt *a, const char *etag, const char *version_id)
{
	const char *expect = a->old_key != NULL ? a->upload_if_match : a->row->etag;

	return (struct under_write){
		.key = a->key,
		.version = version_id,
		.etag = etag,
		.expect = expect,
		.fresh = expect == NULL && (a->old_key != NULL || a->row->version_id == NULL),
		.oid = a->oid,
		.wid = a->wid,
		.row = a->row,
		.dir = &a->row->parent,
		.since_ns = a->since_ns,
	};
}

/* Class F1: has the write covered what nobody here had seen? */
static void step_cover(struct attempt *a, const char *etag, const char *version_id, int64_t mtime_ns,
		uint64_t data_gen, uint64_t meta_gen)
{
	struct covered *c = talloc_zero(a, struct covered);
	struct under_write w = step_write(a, etag, version_id);

	if (c == NULL || (c->etag = talloc_strdup(c, etag)) == NULL ||
			(version_id != NULL && (c->version_id = talloc_strdup(c, version_id)) == NULL)) {
		attempt_end_failed(a, "out of memory");
		return;
	}
	c->a = a;
	c->mtime_ns = mtime_ns;
	c->data_gen = data_gen;
	c->meta_gen = meta_gen;
	a->covered = true;
	under_check(a->v, &w, step_covered, c);
}

static void step_kept_blocks(void *arg)
{
	step_finish(arg);
}

/* What the object of this ETag is made of, for its next version. */
static void step_keep_blocks(struct attempt *a, const char *etag, const char *version_id)
{
	struct blocks *b = a->blocks;

	a->blocks = NULL;
	if (b == NULL) {
		step_finish(a);
		return;
	}
	b->etag = etag != NULL ? strdup(etag) : NULL;
	b->version = version_id != NULL ? strdup(version_id) : NULL;
	blocks_keep(a->v, &a->oid, b, step_kept_blocks, a);
}

void step_uploaded_ok(struct attempt *a, const char *etag, const char *version_id,
		int64_t mtime_ns, uint64_t data_gen, uint64_t meta_gen)
{
	struct index *ix = a->v->index;
	struct row *row = a->row;

	if (under_applies(a->v) && !a->covered && !row->is_dir) {
		step_cover(a, etag, version_id, mtime_ns, data_gen, meta_gen);
		return;
	}
	if (a->old_key != NULL) {
		move_sent(a, etag, mtime_ns);
		return;
	}
	if (a->upload_if_match != NULL) {
		heir_gone(a->v, row->version_id); /* the object that was there had their metadata */
	}
	metalog_settled(a->v->metalog, &a->oid, meta_gen);
	index_set_fence(ix, row, etag, version_id, &a->wid, row->is_dir ? 0 : a->size, mtime_ns);
	index_set_plain(ix, row, step_kept(a) == NULL && (a->item->copy == NULL || copy_is_plain(a)));
	index_set_gens(ix, row, data_gen, meta_gen);
	index_set_object(ix, row, true);
	if (ofs_oid_equal(&row->oid, &OFS_OID_ROOT)) {
		volume_root_kept(a->v);
	}
	a->upload_done = true;
	begun_made(a->v, &a->oid, &a->wid);
	redirect_uploaded(a);
	step_keep_blocks(a, etag, version_id);
}

static void step_place_committed(int status, void *arg)
{
	struct attempt *a = arg;

	if (status != 0) {
		attempt_end_failed(a, "the index cannot be written: %s", strerror(-status));
		return;
	}
	if (a->replaced != NULL) {
		work_follow(a->item, a->replaced); /* only now may its trash entry go */
		a->replaced = NULL;
	}
	step_upload(a, a->row->has_object ? a->row->etag : NULL);
}

/* The row claims its key before the first PUT: whatever becomes of the answer, and wherever the
 * file is renamed to meanwhile, the key is not forgotten. Its fence is that of what it replaces. Where that is nothing, it has
 * an id that no object has, which what is sent names as its parent: not even the first version of a file that S3 has had
 * before has that. It is the same one when an upload in parts that was broken off goes on. */
void step_first_upload(struct attempt *a)
{
	struct index *ix = a->v->index;
	struct row *row = a->row, *gone = a->replaced;

	if (gone != NULL) {
		char *etag = gone->etag ? talloc_strdup(a, gone->etag) : NULL;
		char *note = heir_note(a, gone);
		const struct ofs_oid wid = gone->wid;
		int64_t size = gone->s3_size, mtime_ns = gone->s3_mtime_ns;
		bool plain = gone->plain;

		index_set_s3(ix, row, &a->parent, a->raw); /* takes the place from `gone` */
		index_set_fence(ix, row, etag, note, &wid, size, mtime_ns);
		index_set_plain(ix, row, plain);
		index_set_object(ix, row, etag != NULL);
		index_set_live(ix, gone, ROW_NOT_HERE); /* forgets its name: only trash is left to purge */
		index_set_live(ix, gone, ROW_TRASHED);
	} else {
		const struct begun *b = begun_find(a->v, &a->oid);
		struct ofs_oid nothing;

		objmeta_foreign_oid(b != NULL ? &b->wid : &a->wid, a->key, &nothing);
		index_set_s3(ix, row, &a->parent, a->raw);
		index_set_fence(ix, row, NULL, NULL, row->is_dir ? NULL : &nothing, 0, 0);
		index_set_object(ix, row, false);
	}
	index_commit(ix, step_place_committed, a);
}

/* What somebody else has at its key stays there, and the file goes beside. */
static void step_beside(struct attempt *a)
{
	if (a->old_key != NULL) {
		claim_drop(a); /* nothing of ours was copied there */
	}
	step_conflict(a, a->taken_why);
}

static void step_lost_covered(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;

	if (st != OBJ_OK) {
		attempt_end_store(a, "looking what an upload has covered", st, message);
		return;
	}
	step_beside(a);
}

void step_taken(struct attempt *a, const char *why)
{
	struct under_write w;

	a->taken_why = why;
	if (under_applies(a->v) && !a->row->is_dir) {
		/* Ours may lie under it, and have covered another. */
		w = step_write(a, NULL, NULL);
		under_check(a->v, &w, step_lost_covered, a);
		return;
	}
	step_beside(a);
}

/* A directory is one, whoever makes it: of two writers of its marker the last one counts, and it is said.
 * Not over what this version does not understand. */
static void step_marker_taken(struct attempt *a, enum whose who, const char *etag, const struct objmeta *m)
{
	if (who == WHOSE_UNREADABLE) {
		attempt_end_failed(a, "its marker in S3 is left alone: %s", whose_why(who));
		return;
	}
	if (m->ours) {
		stats_add(markers_replaced, 1);
		log_warning("reconcile", "%s: %s; its rights and times are now those of this node", a->key,
				whose_why(who));
	}
	step_upload_over(a, etag, &m->wid);
}

/* An earlier write of ours, by its metadata, whose ETag was seen just before, and was another: somebody has put other
 * bytes there with them. */
static bool step_was_edited(const struct attempt *a, const struct obj_result *r, const struct objmeta *m)
{
	return a->upload_if_match != NULL && !ofs_oid_is_none(&m->wid) && ofs_oid_equal(&m->wid, &a->upload_expect) &&
	       strcmp(a->upload_if_match, r->etag) != 0;
}

/* It is ours by its metadata, and nobody's by its bytes: what was sent comes over it. */
static void step_sent_badly(struct attempt *a, const struct upload *u)
{
	if (u->etag == NULL || ++a->tries > STEP_TRIES_MAX) {
		attempt_end_store(a, "upload", u->status, u->message);
		return;
	}
	if (a->tries == 1) {
		log_warning("reconcile", "%s: %s: it is sent again", a->key, u->message);
	}
	step_upload_over(a, u->etag, &a->wid);
}

/* Once more, at once? false: the attempt has ended. */
static bool step_again(struct attempt *a)
{
	if (++a->tries <= (a->unsure ? STEP_UNSURE_MAX : STEP_TRIES_MAX)) {
		return true;
	}
	attempt_end_failed(a, "%s", a->unsure_why != NULL ? a->unsure_why : "the store keeps refusing the condition");
	return false;
}

/* What it was to replace is not there: deleted meanwhile, if it is the bucket that had it. */
static void step_deleted(int status, const char *message, void *arg)
{
	struct attempt *a = arg;

	if (status != 0) {
		attempt_end_failed(a, "its object is gone: %s", message != NULL ? message : strerror(-status));
	} else if (step_again(a)) {
		step_upload(a, NULL);
	}
}

/* After 412 or an unknown outcome: what is there now? */
static void step_outcome(struct obj_req *req)
{
	struct attempt *a = req->arg;
	struct obj_result *r = &req->result;
	const struct whose_known known = {.v = a->v, .oid = &a->oid, .row = a->row, .wid = &a->wid};
	struct objmeta m = {0};
	enum whose who;

	if (r->status == OBJ_NOT_FOUND) {
		objstore_req_free(&req);
		if (a->upload_if_match != NULL) {
			volume_sure(a->v, 0, step_deleted, a);
		} else if (step_again(a)) {
			step_upload(a, NULL); /* never made */
		}
		return;
	}
	if (r->status != OBJ_OK || r->etag == NULL) {
		attempt_end_store(a, "asking what became of an upload", r->status, r->message);
		objstore_req_free(&req);
		return;
	}
	who = whose_is(&known, req->key, r, &m);
	if (who == WHOSE_EARLIER && step_was_edited(a, r, &m)) {
		who = WHOSE_EDITED;
	}
	if (!foreign_none(r)) {
		index_set_plain(a->v->index, a->row, false);
	}
	if (who == WHOSE_NOW) {
		step_uploaded_ok(a, r->etag, r->version_id, r->mtime_ns, m.data_gen, m.meta_gen);
	} else if (!step_again(a)) {
		/* it has ended */
	} else if (who == WHOSE_ROWS || who == WHOSE_EARLIER || who == WHOSE_TOMBSTONE) {
		step_upload_over(a, r->etag, &m.wid);
	} else if (a->row->is_dir) {
		step_marker_taken(a, who, r->etag, &m);
	} else if (rebase_may(a, who, r, &m)) {
		rebase_try(a, req, &m.wid, whose_why(who));
		req = NULL;
	} else {
		step_taken(a, whose_why(who));
	}
	objmeta_clear(&m);
	objstore_req_free(&req);
}

void step_ask_outcome(struct attempt *a)
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, a->key);

	if (req == NULL) {
		attempt_end_failed(a, "out of memory");
		return;
	}
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = step_outcome;
	req->arg = a;
	objstore_submit(a->v->store, req);
}

static void step_uploaded(struct upload *u)
{
	struct attempt *a = u->arg;

	talloc_steal(a->v, u); /* it outlives the attempt for the length of this call */
	a->wid = u->meta.wid;
	if (u->begun_ns != 0 && u->begun_ns < a->since_ns) {
		a->since_ns = u->begun_ns; /* S3 dates an object of parts by their begin */
	}
	a->upload = NULL;
	a->blocks = u->blocks;
	u->blocks = NULL;
	switch (u->status) {
	case OBJ_OK:
		index_set_sha256(a->v->index, a->row, u->has_sha256 ? u->sha256 : NULL);
		if (u->kept != NULL) {
			stats_add(properties_kept, 1);
		}
		if (u->etag == NULL) {
			step_ask_outcome(a); /* some stores do not say */
			break;
		}
		step_uploaded_ok(a, u->etag, u->version_id, u->mtime_ns, a->rec.data_gen,
				step_meta_gen(a));
		break;
	case OBJ_PRECONDITION:
	case OBJ_UNKNOWN:
	case OBJ_CONFLICT:
	case OBJ_NOT_FOUND:
		if (u->status == OBJ_UNKNOWN) {
			a->unsure = true;
			talloc_free(a->unsure_why);
			a->unsure_why = talloc_asprintf(a, "upload: %s",
					u->message != NULL ? u->message : objstore_status_name(u->status));
		}
		step_ask_outcome(a);
		break;
	case OBJ_DAMAGED:
		step_sent_badly(a, u);
		break;
	default:
		a->item->disk_failed = u->local_errno == EIO;
		attempt_end_store(a, "upload", u->status, u->message);
		break;
	}
	talloc_free(u);
}

/* A deep copy, since the attempt may need it for another try. */
struct snapshot *step_snapshot_copy(const struct snapshot *s)
{
	struct snapshot *c = calloc(1, sizeof(*c));
	unsigned i;

	if (c == NULL) {
		return NULL;
	}
	*c = *s;
	c->xattrs = calloc(s->xattr_count + 1, sizeof(*c->xattrs));
	c->xattr_count = 0;
	for (i = 0; c->xattrs != NULL && i < s->xattr_count; i++) {
		struct snapshot_xattr *x = &c->xattrs[i];

		*x = s->xattrs[i];
		x->name = strdup(s->xattrs[i].name);
		x->value = malloc(x->len + 1);
		if (x->value != NULL && s->xattrs[i].value != NULL) {
			memcpy(x->value, s->xattrs[i].value, x->len);
		}
		c->xattr_count++;
		if (x->name == NULL || x->value == NULL) {
			snapshot_free(&c);
			return NULL;
		}
	}
	if (c->xattrs == NULL) {
		snapshot_free(&c);
	}
	return c;
}

/* The ETag of the object whose properties the next one is to have: that at its key, or, moved by an upload, its
 * own. NULL: none, or nothing is on it. */
static const char *step_asks(const struct attempt *a)
{
	const char *etag = a->old_key != NULL ? a->row->etag : a->upload_if_match;
	bool plain = a->row->plain && !a->v->conf->look_before_overwrite;

	return plain || (etag != NULL && a->kept_of != NULL && strcmp(etag, a->kept_of) == 0) ? NULL : etag;
}

const struct kept *step_kept(const struct attempt *a)
{
	return a->kept != NULL ? a->kept : a->item->inherited;
}

static void step_kept_known(enum obj_status st, const char *message, struct kept *kept, void *arg)
{
	struct attempt *a = arg;
	char *if_match;

	if (st != OBJ_OK) {
		attempt_end_store(a, "asking what others have set on it", st, message);
		return;
	}
	if_match = talloc_steal(a->v, a->upload_if_match); /* the attempt may end in the call below */
	a->kept = kept;
	a->upload_if_match = NULL;
	step_upload_over(a, if_match, &a->upload_expect);
	talloc_free(if_match);
}

void step_upload(struct attempt *a, const char *if_match)
{
	step_upload_over(a, if_match, &a->row->wid);
}

static void step_upload_over(struct attempt *a, const char *if_match, const struct ofs_oid *wid)
{
	struct upload *u;
	const char *asks;

	if (!a->row->is_dir && step_conflicts_hold(a)) {
		return;
	}
	a->upload_expect = *wid;
	talloc_free(a->upload_if_match);
	a->upload_if_match = if_match ? talloc_strdup(a, if_match) : NULL;
	asks = step_asks(a);
	if (asks != NULL) {
		TALLOC_FREE(a->kept);
		talloc_free(a->kept_of);
		a->kept_of = talloc_strdup(a, asks);
		kept_ask(a, a->v, a->old_key != NULL ? a->old_key : a->key, asks, step_kept_known, a);
		return;
	}
	if (a->item->copy != NULL) {
		copy_send(a);
		return;
	}
	blocks_free(&a->blocks);
	a->item->copied = false;
	TALLOC_FREE(a->item->sent.etag);
	if (a->leased && a->lease_broken) {
		attempt_end_postponed(a, 500 * NS_PER_MS, "opened for writing while it was sent");
		return;
	}
	u = upload_new(a, a->v, a->key);
	if (u == NULL || (u->meta.snapshot = step_snapshot_copy(a->snapshot)) == NULL) {
		talloc_free(u);
		attempt_end_failed(a, "out of memory");
		return;
	}
	u->fd = a->row->is_dir ? -1 : a->fd;
	u->leased = a->leased;
	u->urgent = a->item->urgent;
	u->size = a->row->is_dir ? 0 : a->size;
	u->if_match = a->upload_if_match ? talloc_strdup(u, a->upload_if_match) : NULL;
	u->expect = a->upload_expect;
	u->kept = step_kept(a);
	u->whole = a->old_key != NULL || a->tries > 0 || a->item->failures > 1;
	u->meta.ours = true;
	u->meta.oid = a->oid;
	u->meta.wid = a->wid;
	u->meta.data_gen = a->rec.data_gen;
	u->meta.meta_gen = step_meta_gen(a);
	u->meta.size = u->size;
	whose_parent(a->row, &u->meta.parent);
	ofs_oid_parse(a->v->node_id, &u->meta.node);
	u->done = step_uploaded;
	u->arg = a;
	a->upload = u;
	upload_start(u);
}

/* ---- metadata alone ---- */

/* Its object does not say whose it is (as far as the row knows): on a new disk only its key does. */
static bool step_has_no_meta(const struct attempt *a, struct ofs_oid *key)
{
	if (!a->row->in_s3 || !ofs_oid_is_none(&a->row->wid)) {
		return false;
	}
	objmeta_foreign_oid(&a->v->uuid, a->key, key);
	return !ofs_oid_equal(key, &a->oid);
}

/* Of one entry, or two. */
static void step_logged(int status, void *arg)
{
	struct attempt *a = arg;

	a->log_status = a->log_status != 0 ? a->log_status : status;
	if (--a->logging > 0) {
		return;
	}
	a->item->rc->items_running++;
	if (a->log_status != 0) {
		attempt_end_failed(a, "the metadata log cannot be written: %s", strerror(-a->log_status));
		return;
	}
	index_set_gens(a->v->index, a->row, a->row->s3_data_gen, step_meta_gen(a));
	step_finish(a);
}

/* Above what the object has: that may be ahead of the record, by an entry that a killed daemon had sent before, which the
 * log has forgotten since (metalog_append_above). */
static uint64_t step_log_gen(const struct attempt *a)
{
	const struct metalog_entry *e = metalog_find(a->v->metalog, &a->oid, 0);
	uint64_t object_gen = a->row->s3_meta_gen;

	if (a->rec.meta_gen > object_gen || (e != NULL && e->meta_gen >= object_gen)) {
		return a->rec.meta_gen;
	}
	return object_gen + 1;
}

static void step_append(struct attempt *a, const struct ofs_oid *oid, const uint8_t *packed, size_t len)
{
	if (metalog_append_above(a->v->metalog, oid, step_log_gen(a), a->rec.data_gen, packed, len,
			    step_logged, a) != 0) {
		step_logged(-ENOMEM, a);
	}
}

static void step_blobs_done(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;
	struct metalog *ml = a->v->metalog;
	bool urgent = a->item->urgent;
	struct ofs_oid key;
	uint8_t *packed;
	size_t len;

	if (st != OBJ_OK) {
		attempt_end_store(a, "storing a large attribute", st, message);
		return;
	}
	packed = snapshot_pack(a->snapshot, &len);
	if (packed == NULL) {
		attempt_end_failed(a, "out of memory");
		return;
	}
	stats_add(log_entries, 1);
	/* It may wait for its segment: not counted as running. */
	a->item->rc->items_running--;
	a->logging = 1 + step_has_no_meta(a, &key);
	if (a->logging > 1) {
		step_append(a, &key, packed, len);
	}
	step_append(a, &a->oid, packed, len); /* it may end with this call */
	free(packed);
	if (urgent) {
		metalog_flush(ml);
	}
}

void step_log(struct attempt *a)
{
	snapshot_split(a->snapshot, OBJMETA_SNAPSHOT_BUDGET);
	upload_blobs(a->v, a->snapshot, step_blobs_done, a);
}
