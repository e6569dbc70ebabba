/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: bring one row into agreement with S3, one step at a time.
 * Way: reconcile.c -> step_start -> target.c -> prepare.c -> send.c, move.c or renames.c ->
 *      prepare.c (step_finish) -> work_done.
 * Thread: core.
 * Owns: nothing; attempt.c holds what a step needs.
 * Holds: the row is committed before the record says clean (rule 12), and before the next write of the
 *        same key; what fails stays pending (rule 15).
 *
 *   place ok? -> prepare -> [dir: marker] [moved: move] [data: upload] [metadata: log] -> finish
 */
#include "private.h"
#include "../mirror/foreign.h"
#include <string.h>

#define REDIRTY_NS (50 * NS_PER_MS) /* a record is written meanwhile */
#define STEP_OPEN_NS (2 * NS_PER_S)
#define STEP_READ_ONLY_NS (60 * NS_PER_S)

/* No object, and no data here: nothing can be sent. What its name has in S3, if anything, is what the file is;
 * the listing says so, and takes it away, or brings what it is by now. */
static void step_stub_gone(struct attempt *a)
{
	struct index *ix = a->v->index;
	struct row *row = a->row;

	a->item->relist = true;
	if (whose_is_forgotten(row) && !heir_is(row)) {
		index_set_fence(ix, row, NULL, NULL, NULL, 0, 0); /* S3 was asked: the listing need not ask again */
	}
	if (a->replaced != NULL && a->replaced != claim_get(ix, row)) {
		attempt_end_blocked(a, a->replaced, "what was deleted at its name leaves S3 first");
	} else if (a->old_key != NULL || !row->in_s3) {
		claim_drop(a);
		index_set_s3(ix, row, &a->parent, a->raw);
		index_set_object(ix, row, !row->is_dir);
		attempt_end_again(a, 0);
	} else if (a->rec.flags & OFS_REC_META_DIRTY) {
		step_log(a);
	} else {
		attempt_end_done(a);
	}
}

/* What the row calls its object is not there, or not ours any more. */
static void step_object_gone(struct attempt *a)
{
	struct row *row = a->row;

	redirect_end_row(a->item->rc, row);
	a->item->stage = false;
	if (a->rec.flags & OFS_REC_STUB) {
		step_stub_gone(a);
		return;
	}
	index_clear_s3(a->v->index, row);
	if (!row->is_dir) {
		look_redirty(a->item->rc, row); /* the data is here: sent as a new object */
	}
	attempt_end_again(a, REDIRTY_NS);
}

/* Nothing of its own was sent to the name it leaves: what is there is deleted. */
static void step_leave(struct attempt *a, const struct obj_result *r, const struct ofs_oid *of, const struct ofs_oid *wid)
{
	struct ofs_oid parent = a->row->s3_parent;
	char *raw = talloc_strdup(a, a->row->s3_name);
	struct row *left = raw == NULL ? NULL
				       : heir_leave(a->item, of, &parent, raw, r->etag, wid, r->size,
							 r->mtime_ns);

	if (left != NULL) {
		work_follow(a->item, left);
	}
}

/* Only then the next write may name it as its parent: killed in between, the daemon would not know its own. */
static void step_fence_committed(int status, void *arg)
{
	struct attempt *a = arg;

	if (status != 0) {
		attempt_end_failed(a, "the index cannot be written: %s", strerror(-status));
	} else if (a->item->stage) {
		attempt_end_again(a, 0);
	} else {
		step_prepared(a);
	}
}

/* The object is the row's, or what the row's file was to replace (`note`: and still is). */
static void step_fence_take(struct attempt *a, const struct obj_result *r, const struct objmeta *m,
		const char *note)
{
	char *version = talloc_strdup(a, note != NULL ? note : r->version_id ? r->version_id : "");

	index_set_fence(a->v->index, a->row, r->etag, *version != '\0' ? version : NULL, &m->wid, r->size,
			r->mtime_ns);
	index_set_plain(a->v->index, a->row, foreign_none(r));
	index_set_object(a->v->index, a->row, true);
	index_commit(a->v->index, step_fence_committed, a);
}

/* A stub's, by now: it moves as it is, and the row keeps what it knew, so that the next listing sees the change. */
static void step_found(struct attempt *a, const struct obj_result *r, const struct ofs_oid *wid)
{
	struct found *f = talloc_zero(a, struct found);

	if (f == NULL || (f->etag = talloc_strdup(f, r->etag)) == NULL) {
		attempt_end_failed(a, "out of memory");
		return;
	}
	f->wid = *wid;
	f->size = r->size;
	f->mtime_ns = r->mtime_ns;
	a->found = f;
	a->item->relist = true;
	if (a->item->stage) {
		stage_file(a);
	} else {
		move_file(a);
	}
}

static void step_looked_under(enum obj_status st, const char *message, void *arg)
{
	if (st != OBJ_OK) {
		attempt_end_store(arg, "looking what an earlier upload has covered", st, message);
		return;
	}
	step_ask_fence(arg);
}

/* Class F1: an earlier write of ours that the row does not know. Nobody may have looked what it has covered. */
static bool step_must_look_under(struct attempt *a, enum whose who, const struct obj_req *req)
{
	const struct obj_result *r = &req->result;
	const struct under_write w = {
		.key = req->key,
		.version = r->version_id,
		.etag = r->etag,
		.expect = a->row->etag,
		.fresh = a->row->etag == NULL && a->row->version_id == NULL,
		.oid = a->oid,
		.row = a->row,
		.dir = &a->row->parent,
		.since_ns = a->since_ns,
	};

	if (!under_applies(a->v) || (who != WHOSE_EARLIER && (who != WHOSE_ROWS || a->row->etag != NULL)) ||
			(a->looked_under != NULL && strcmp(a->looked_under, r->etag) == 0)) {
		return false;
	}
	talloc_free(a->looked_under);
	a->looked_under = talloc_strdup(a, r->etag);
	under_check(a->v, &w, step_looked_under, a);
	return true;
}

/* Somebody's. What was changed here becomes a conflict copy, and so does what may be nowhere else since the index was
 * lost; what was not changed follows the next listing. req is taken over. */
static void step_fence_taken(struct attempt *a, enum whose who, struct obj_req *req, const struct objmeta *m)
{
	bool here = !(a->rec.flags & OFS_REC_STUB), dirty = here && (a->rec.flags & OFS_REC_DATA_DIRTY);

	if (dirty && rebase_may(a, who, &req->result, m)) {
		rebase_try(a, req, &m->wid, whose_why(who));
		return;
	}
	objstore_req_free(&req);
	if (dirty) {
		index_clear_s3(a->v->index, a->row);
		step_conflict(a, whose_why(who));
	} else if (here && a->size > 0 && whose_is_forgotten(a->row)) {
		look_redirty(a->item->rc, a->row);
		attempt_end_again(a, REDIRTY_NS);
	} else if (a->rec.flags & OFS_REC_META_DIRTY) {
		step_log(a);
	} else {
		attempt_end_done(a);
	}
}

/* What is at the key of a row without a fence, or with one that does not hold? */
static void step_fence_known(struct obj_req *req)
{
	struct attempt *a = req->arg;
	struct obj_result *r = &req->result;
	const struct whose_known known = {.v = a->v, .oid = &a->oid, .row = a->row};
	struct objmeta m = {0};
	enum whose who;
	bool own, still, stub = (a->rec.flags & OFS_REC_STUB) != 0;

	a->asked = true;
	if (r->status == OBJ_NOT_FOUND) {
		objstore_req_free(&req);
		a->item->ask = false;
		step_object_gone(a);
		return;
	}
	if (r->status != OBJ_OK || r->etag == NULL) {
		attempt_end_store(a, "asking for the object's state", r->status, r->message);
		objstore_req_free(&req);
		return;
	}
	who = whose_is(&known, req->key, r, &m);
	if (step_must_look_under(a, who, req)) {
		objmeta_clear(&m);
		objstore_req_free(&req);
		return;
	}
	a->item->ask = false;
	own = m.ours && ofs_oid_equal(&m.oid, &a->oid);
	still = heir_is(a->row) && !own; /* what it was to replace */
	if (who == WHOSE_ROWS || who == WHOSE_EARLIER || (who == WHOSE_TOMBSTONE && a->old_key == NULL)) {
		if (still && a->old_key != NULL) {
			step_leave(a, r, &m.oid, &m.wid);
			step_object_gone(a);
		} else {
			step_fence_take(a, r, &m, still ? a->row->version_id : NULL);
		}
	} else if (a->old_key != NULL && (stub || (own && a->item->stage)) && who != WHOSE_TOMBSTONE) {
		step_found(a, r, &m.wid); /* whatever it is by now has another name now */
	} else if (a->old_key != NULL) {
		step_object_gone(a); /* somebody else's, or not there yet; we leave that name anyway */
	} else {
		step_fence_taken(a, who, req, &m);
		req = NULL;
	}
	objmeta_clear(&m);
	objstore_req_free(&req);
}

void step_ask_fence(struct attempt *a)
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, a->old_key ? a->old_key : a->key);

	if (req == NULL) {
		attempt_end_failed(a, "out of memory");
		return;
	}
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = step_fence_known;
	req->arg = a;
	objstore_submit(a->v->store, req);
}

/* Nothing was written since its data were sent from a copy: under a lease they are clean, else it is
 * looked at again. */
static void step_unchanged(struct attempt *a)
{
	struct work *w = a->item;

	stats_add(uploads_spared, 1);
	if (a->leased) {
		step_finish(a);
		return;
	}
	if (w->waiters != NULL || w->blocks != NULL) {
		w->again = true;
		attempt_end_done(a);
		return;
	}
	w->first_ns = clock_now_ns(a->v->clock); /* the next change is later */
	attempt_end_postponed(a, STEP_OPEN_NS, "open for writing, and in S3 as it is now");
}

void step_prepared(struct attempt *a)
{
	struct row *row = a->row;
	bool dirty_data = (a->rec.flags & OFS_REC_DATA_DIRTY) && !(a->rec.flags & OFS_REC_STUB) &&
			!a->unchanged;
	bool dirty_meta = (a->rec.flags & OFS_REC_META_DIRTY) != 0;

	if (row->in_s3 && !row->is_dir &&
			(row->etag == NULL || a->item->ask || (a->old_key != NULL && heir_is(row)))) {
		step_ask_fence(a);
		return;
	}
	if (a->item->copy != NULL) {
		copy_step(a);
		return;
	}
	if (a->old_key != NULL) {
		/* The move first; what else is dirty follows in the next attempt. */
		if (row->is_dir) {
			rename_directory(a);
		} else {
			move_file(a);
		}
		return;
	}
	if (row->is_dir) {
		if (row->in_s3 && !dirty_meta && !a->times) {
			attempt_end_done(a);
		} else if (!row->in_s3 || (!row->has_object && !whose_is_forgotten(row))) {
			step_first_upload(a);
		} else {
			step_upload(a, row->etag); /* what was forgotten stays so until its marker is there, over a kill */
		}
		return;
	}
	if (dirty_data || !row->in_s3) {
		if (a->rec.flags & OFS_REC_STUB) {
			step_stub_gone(a);
			return;
		}
		if (step_conflicts_hold(a)) {
			return;
		}
		if (!dirty_data && !a->leased) {
			/* Clean by its record but unknown to S3: make it dirty, then come again. */
			look_redirty(a->item->rc, row);
			attempt_end_again(a, REDIRTY_NS);
			return;
		}
		if (!row->in_s3) {
			step_first_upload(a);
		} else {
			step_upload(a, row->etag);
		}
		return;
	}
	if (dirty_meta) {
		step_log(a);
		return;
	}
	if (a->unchanged) {
		step_unchanged(a);
		return;
	}
	attempt_end_done(a);
}

/* The root's own metadata lives in an object of its own: its key would be the bare prefix. */
static void step_root(struct attempt *a)
{
	a->key = talloc_asprintf(a, "%s.objectfs/root", a->v->prefix);
	a->parent = a->row->s3_parent;
	a->raw = talloc_strdup(a, "");
	if (a->key == NULL || a->raw == NULL) {
		attempt_end_failed(a, "out of memory");
		return;
	}
	step_prepare(a);
}

/* A running attempt counts on this trashed row's fence. */
static bool step_is_being_replaced(const struct attempt *a)
{
	const struct attempt *other;

	for (other = a->item->rc->attempts; other != NULL; other = other->next) {
		if (other->replaced == a->row) {
			return true;
		}
	}
	return false;
}

void step_start(struct work *item)
{
	struct attempt *a = attempt_new(item);
	struct row *row = item->row, *above;

	if (a == NULL) {
		work_failed(item, "out of memory");
		return;
	}
	if (a->v->state != VOLUME_READY) {
		attempt_end_postponed(a, 2 * NS_PER_S, "S3 is not used now: %s",
				a->v->state_why ? a->v->state_why : "connecting");
		return;
	}
	if (a->v->read_only != NULL) {
		attempt_end_postponed(a, STEP_READ_ONLY_NS, "the volume is read-only here: %s", a->v->read_only);
		return;
	}
	if (index_is_failing(a->v->index)) {
		attempt_end_failed(a, "the index cannot be written");
		return;
	}
	talloc_free(item->reason);
	item->reason = NULL;
	item->held = false;
	a->times = item->times;
	item->times = false;
	if (log_get_level() >= LOG_LVL_DEBUG) {
		char hex[OFS_OID_HEX_BYTES];

		ofs_oid_hex(&row->oid, hex);
		log_debug("reconcile", "step %.8s: %s name %s, in S3 %s, etag %.8s", hex,
				row->live == ROW_HERE	   ? "here"
				: row->live == ROW_TRASHED ? "trashed"
							   : "not here",
				row->name ? row->name : "-", row->in_s3 ? row->s3_name : "no",
				row->etag ? row->etag : "-");
	}
	above = row->in_s3 ? claim_above(a->v->index, row) : NULL;
	if (above != NULL) {
		attempt_end_blocked(a, above, "its directory is being renamed in S3");
		return;
	}
	if (row->live == ROW_TRASHED) {
		if (!row->in_s3 && row->name == NULL && whose_is_lost(row)) {
			attempt_end_done(a); /* its key is not known: the next listing that meets it tells */
		} else if (step_is_being_replaced(a)) {
			attempt_end_postponed(a, 200 * NS_PER_MS, "another file is taking its name");
		} else {
			delete_item(a);
		}
		return;
	}
	if (row->live == ROW_NOT_HERE) {
		if (!row->is_dir || !rename_finish(a)) {
			attempt_end_done(a);
		}
		return;
	}
	if (ofs_oid_equal(&row->oid, &OFS_OID_ROOT)) {
		step_root(a);
		return;
	}
	if (item->stage && row->in_s3) {
		if (row->is_dir) {
			stage_directory(a);
		} else {
			stage_file(a);
		}
		return;
	}
	if (step_target(a) && step_directories(a)) {
		step_prepare(a);
	}
}
