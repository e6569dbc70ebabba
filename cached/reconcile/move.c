/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: copies and deletes of single objects, conditional in the best way the store has.
 * Way: step.c and renames.c -> here -> object store.
 * Thread: core.
 * Owns: struct copy and struct del while their requests are in flight.
 * Holds:
 *  1. a copy is of one state: pinned by a condition where the store honours it, and in any case the
 *     copy's ETag is compared; a wrong copy is removed again;
 *  2. the source is deleted only after the copy is known to be there, and the row that says so committed;
 *  3. a delete removes only the version that the mirror knew, or a later one of its own: by condition
 *     (F3), or (F2) by a conditional tombstone PUT first; what others made of it stays.
 */
#include "private.h"
#include "../mirror/foreign.h"
#include <stdlib.h>
#include <string.h>

/* ---- copy ---- */

struct copy {
	struct volume *v;
	char *from, *etag, *to, *expect;
	const struct objmeta *meta; /* of the copy; NULL: the source's */
	const struct kept *kept;    /* what others had set at the target */
	struct obj_req *head;       /* of the source */
	bool dest_exists, dest_taken;
	char *dest_etag;         /* of what is there, and who wrote it */
	struct ofs_oid dest_wid;
	int64_t dest_size;
	bool dest_is_copy;       /* what is there says that it is a copy of the source */
	copy_done_fn done;
	void *arg;
};

static void copy_end(struct copy *c, enum obj_status st, const char *message, const char *etag)
{
	objstore_req_free(&c->head);
	c->done(st, message, etag, c->arg);
	talloc_free(c);
}

static void copy_undone(enum obj_status st, const char *message, void *arg)
{
	(void)st;
	(void)message;
	copy_end(arg, OBJ_CONFLICT, "the source changed while it was copied", NULL);
}

static void copy_passed(enum obj_status st, const char *message, const char *etag, void *arg)
{
	copy_end(arg, st, message, etag);
}

static void copy_pass(struct copy *c)
{
	struct obj_req *head = c->head;

	c->head = NULL;
	pass_object(c->v, head, c->to, c->dest_exists ? c->dest_etag : NULL, c->kept, copy_passed, c);
}

static void copy_not_made(enum obj_status st, const char *message, void *arg)
{
	struct copy *c = arg;

	if (st != OBJ_OK || c->meta != NULL) {
		copy_end(c, st != OBJ_OK ? st : OBJ_INVALID,
				message != NULL ? message : "the store does not copy it by itself", NULL);
	} else {
		copy_pass(c);
	}
}

static void copy_done(struct obj_req *req)
{
	struct copy *c = req->arg;
	struct obj_result *r = &req->result;
	struct ofs_oid nobody;
	bool told;

	if (r->unsupported && r->etag != NULL) {
		clock_random(c->v->clock, &nobody, sizeof(nobody)); /* made, and not encrypted */
		delete_fenced(c->v, c->to, r->etag, &nobody, NULL, copy_not_made, c);
		objstore_req_free(&req);
		return;
	}
	if (r->unsupported) {
		objstore_req_free(&req); /* as Ceph RGW 16, of an encrypted source */
		copy_not_made(OBJ_OK, NULL, c);
		return;
	}
	if (r->status == OBJ_PRECONDITION && c->meta == NULL) {
		/* Of which of the two keys? Who asks again is told. */
		copy_end(c, OBJ_CONFLICT, "source or target changed while it was copied", NULL);
		objstore_req_free(&req);
		return;
	}
	if (r->status != OBJ_OK) {
		copy_end(c, r->status, r->message, NULL);
		objstore_req_free(&req);
		return;
	}
	stats_add(copies, 1);
	/* Sent in parts, or encrypted with a key that is not the store's, an object has an ETag that its copy need not have. */
	told = c->meta != NULL || (r->etag != NULL && strchr(c->etag, '-') == NULL &&
			!objstore_etag_opaque(&c->head->result) && !objstore_etag_opaque(r));
	if (told && (r->etag == NULL || strcmp(r->etag, c->etag) != 0) &&
			!c->v->store->caps.copy_if_match_source) {
		/* Not what was asked for: the store ignored the condition. What somebody has put there
		 * since stays. */
		clock_random(c->v->clock, &nobody, sizeof(nobody));
		delete_fenced(c->v, c->to, r->etag, &nobody, NULL, copy_undone, c);
		objstore_req_free(&req);
		return;
	}
	copy_end(c, OBJ_OK, NULL, r->etag ? r->etag : c->etag);
	objstore_req_free(&req);
}

/* What is at the target is of the same write as the source. Copied, or copied before somebody changed the
 * source and kept its metadata? A copy of an object that was sent in parts has another ETag than it. */
static bool copy_is_done(struct copy *c, const struct obj_result *r, const struct objmeta *m)
{
	bool parts = c->dest_taken && (strchr(c->etag, '-') != NULL || strchr(c->dest_etag, '-') != NULL);

	if (!c->dest_taken || r->status != OBJ_OK) {
		return false;
	}
	if (m->ours && !ofs_oid_is_none(&m->wid) && ofs_oid_equal(&m->wid, &c->dest_wid)) {
		if (parts && r->size == c->dest_size) {
			return true;
		}
		c->dest_taken = false;
		c->expect = c->dest_etag;
	}
	return c->dest_is_copy && r->size == c->dest_size && r->etag != NULL &&
	       strcmp(r->etag, c->etag) == 0;
}

static void copy_source_seen(struct obj_req *head)
{
	struct copy *c = head->arg;
	struct obj_result *r = &head->result;
	struct objmeta m = {0};
	struct obj_req *req;
	bool damaged, gone, copied, takes_on;

	objmeta_read(r, &m, &damaged);
	gone = r->status == OBJ_NOT_FOUND || (r->status == OBJ_OK && m.ours && m.tombstone);
	copied = copy_is_done(c, r, &m);
	objmeta_clear(&m);
	if (gone) {
		/* A tombstone: somebody died between the two halves of its delete. */
		copy_end(c, OBJ_NOT_FOUND, r->message, NULL);
		objstore_req_free(&head);
		return;
	}
	if (copied) {
		copy_end(c, OBJ_OK, NULL, c->dest_etag);
		objstore_req_free(&head);
		return;
	}
	if (r->status == OBJ_OK && c->dest_taken) {
		copy_end(c, OBJ_PRECONDITION, "the new name is taken in S3", c->dest_etag);
		objstore_req_free(&head);
		return;
	}
	if (r->status != OBJ_OK || r->etag == NULL || strcmp(r->etag, c->etag) != 0) {
		copy_end(c, r->status == OBJ_OK ? OBJ_CONFLICT : r->status,
				r->status == OBJ_OK ? "the source has changed" : r->message, NULL);
		objstore_req_free(&head);
		return;
	}
	/* Not all stores put other tags and another encryption on a copy. */
	takes_on = c->kept != NULL && (c->meta != NULL || foreign_none(r));
	if ((r->size > c->v->conf->copy_limit_bytes || takes_on) && c->meta != NULL) {
		objstore_req_free(&head);
		copy_end(c, OBJ_INVALID, takes_on ? "it is to have what was set at its name"
						  : "larger than the store copies by itself", NULL);
		return;
	}
	c->head = head;
	if (r->size > c->v->conf->copy_limit_bytes || takes_on ||
			(c->v->store->caps.no_copy && c->meta == NULL)) {
		copy_pass(c);
		return;
	}
	req = objstore_req_new(OBJ_COPY, c->to);
	if (req == NULL || kept_copy(req, r, c->meta) != 0 || (req->source_key = strdup(c->from)) == NULL ||
			(req->source_if_match = strdup(c->etag)) == NULL) {
		objstore_req_free(&req);
		copy_end(c, OBJ_LOCAL, "out of memory", NULL);
		return;
	}
	if (c->v->store->caps.copy_if_none_match_dest) {
		req->if_none_match = !c->dest_exists;
		req->if_match = c->dest_exists ? strdup(c->dest_etag) : NULL;
	}
	if (c->dest_exists || !c->v->store->caps.copy_if_none_match_dest) {
		stats_add(fence_windows, 1);
	}
	req->source_customer = r->customer;
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = copy_done;
	req->arg = c;
	objstore_submit(c->v->store, req);
}

static void copy_head(struct copy *c, const char *key, void (*done)(struct obj_req *))
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, key);

	if (req == NULL) {
		copy_end(c, OBJ_LOCAL, "out of memory", NULL);
		return;
	}
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = done;
	req->arg = c;
	objstore_submit(c->v->store, req);
}

static void copy_dest_seen(struct obj_req *req)
{
	struct copy *c = req->arg;
	struct obj_result *r = &req->result;
	struct objmeta m = {0};
	const char *copy_of;
	bool damaged;

	if (r->status == OBJ_OK && r->etag != NULL) {
		/* A directory's marker has nothing of its own to lose, nor has what is left of a delete. */
		bool marker = r->size == 0 && c->to[strlen(c->to) - 1] == '/', allowed;

		objmeta_read(r, &m, &damaged);
		c->dest_wid = m.wid;
		allowed = marker || (m.ours && m.tombstone) ||
				(c->expect != NULL && strcmp(r->etag, c->expect) == 0);
		objmeta_clear(&m);
		if (strcmp(r->etag, c->etag) == 0 && !allowed && c->meta == NULL) {
			/* The same bytes: an earlier try whose answer was lost, or nothing to lose. */
			copy_end(c, OBJ_OK, NULL, r->etag);
			objstore_req_free(&req);
			return;
		}
		if (!allowed && c->meta != NULL) {
			copy_end(c, OBJ_PRECONDITION, "the new name is taken in S3", NULL);
			objstore_req_free(&req);
			return;
		}
		copy_of = objstore_meta_get(r, COPY_OF_META);
		c->dest_is_copy = copy_of != NULL && strcmp(copy_of, c->etag) == 0;
		c->dest_etag = talloc_strdup(c, r->etag);
		c->dest_size = r->size;
		c->dest_exists = true;
		c->dest_taken = !allowed; /* unless there is nothing to copy */
	} else if (r->status != OBJ_NOT_FOUND) {
		copy_end(c, r->status == OBJ_OK ? OBJ_AWAY : r->status, r->message, NULL);
		objstore_req_free(&req);
		return;
	}
	objstore_req_free(&req);
	copy_head(c, c->from, copy_source_seen);
}

void copy_fenced(struct volume *v, const char *from, const char *etag, const char *to,
		const char *expect, const struct objmeta *meta, const struct kept *kept,
		copy_done_fn done, void *arg)
{
	struct copy *c = talloc_zero(v, struct copy);

	if (c == NULL || (c->from = talloc_strdup(c, from)) == NULL ||
			(c->etag = talloc_strdup(c, etag ? etag : "")) == NULL ||
			(c->to = talloc_strdup(c, to)) == NULL ||
			(expect != NULL && (c->expect = talloc_strdup(c, expect)) == NULL)) {
		talloc_free(c);
		done(OBJ_LOCAL, "out of memory", NULL, arg);
		return;
	}
	c->v = v;
	c->meta = meta;
	c->kept = kept;
	c->done = done;
	c->arg = arg;
	copy_head(c, to, copy_dest_seen);
}

/* ---- delete ---- */

struct del {
	struct volume *v;
	char *key, *etag;
	const struct row *row; /* the caller's; NULL: nothing else is known of the object */
	struct ofs_oid oid;
	bool adopted; /* the fence was replaced by that of a later version of our own */
	void (*done)(enum obj_status st, const char *message, void *arg);
	void *arg;
};

static void del_end(struct del *d, enum obj_status st, const char *message)
{
	bool was_there = st == OBJ_OK; /* if not, it may have another key by now */

	if (st == OBJ_NOT_FOUND) {
		st = OBJ_OK;
	}
	if (st == OBJ_OK) {
		stats_add(deletes, 1);
	}
	if (was_there && st == OBJ_OK && d->row != NULL && d->row->live == ROW_TRASHED &&
			d->row->name != NULL && ofs_oid_equal(&d->row->oid, &d->oid)) {
		metalog_settled(d->v->metalog, &d->oid, METALOG_GONE);
	}
	d->done(st, message, d->arg);
	talloc_free(d);
}

static void del_ask(struct del *d);

static void del_deleted(struct obj_req *req)
{
	struct del *d = req->arg;
	enum obj_status st = req->result.status;

	if (st == OBJ_PRECONDITION && !d->adopted) {
		del_ask(d);
	} else {
		del_end(d, st, req->result.message);
	}
	objstore_req_free(&req);
}

static void del_now(struct del *d, bool conditional)
{
	struct obj_req *req = objstore_req_new(OBJ_DELETE, d->key);

	if (req == NULL || (conditional && (req->if_match = strdup(d->etag)) == NULL)) {
		objstore_req_free(&req);
		del_end(d, OBJ_LOCAL, "out of memory");
		return;
	}
	stats_add(fence_windows, conditional ? 0 : 1);
	req->prio = OBJ_PRIO_HOUSE;
	req->done = del_deleted;
	req->arg = d;
	objstore_submit(d->v->store, req);
}

static void del_tombstone_put(struct obj_req *req)
{
	struct del *d = req->arg;
	enum obj_status st = req->result.status;

	if (st == OBJ_OK) {
		objstore_req_free(&req);
		del_now(d, false);
		return;
	}
	if (st != OBJ_PRECONDITION && st != OBJ_UNKNOWN && st != OBJ_CONFLICT && st != OBJ_NOT_FOUND) {
		del_end(d, st, req->result.message);
		objstore_req_free(&req);
		return;
	}
	objstore_req_free(&req);
	if (d->adopted) {
		del_end(d, OBJ_PRECONDITION, "changed by somebody else: kept");
	} else {
		del_ask(d);
	}
}

static void del_tombstone(struct del *d)
{
	struct obj_req *req = objstore_req_new(OBJ_PUT, d->key);
	struct objmeta m = {.ours = true, .tombstone = true, .oid = d->oid};

	ofs_oid_parse(d->v->node_id, &m.node);
	clock_random(d->v->clock, &m.wid, sizeof(m.wid));
	if (req == NULL || objmeta_put(req, &m) != 0 || (req->if_match = strdup(d->etag)) == NULL) {
		objstore_req_free(&req);
		del_end(d, OBJ_LOCAL, "out of memory");
		return;
	}
	req->prio = OBJ_PRIO_HOUSE;
	req->done = del_tombstone_put;
	req->arg = d;
	objstore_submit(d->v->store, req);
}

/* Fence not known: what is ours by its id. Not the one expected: an upload whose answer was lost may have
 * made a later version of ours, or left a tombstone; anything else is somebody's. */
static bool del_may(const struct del *d, const struct obj_result *r, struct objmeta *m)
{
	const struct whose_known known = {.v = d->v, .oid = &d->oid, .row = d->row};

	switch (whose_is(&known, d->key, r, m)) {
	case WHOSE_ROWS:
	case WHOSE_EARLIER:
		return d->row != NULL;
	case WHOSE_TOMBSTONE:
		return ofs_oid_equal(&m->oid, &d->oid);
	default:
		return false;
	}
}

static void del_seen(struct obj_req *req)
{
	struct del *d = req->arg;
	struct obj_result *r = &req->result;
	struct objmeta m = {0};

	if (r->status != OBJ_OK || r->etag == NULL) {
		del_end(d, r->status == OBJ_OK ? OBJ_AWAY : r->status, r->message);
		objstore_req_free(&req);
		return;
	}
	if (del_may(d, r, &m)) {
		d->etag = talloc_strdup(d, r->etag);
		d->adopted = true;
		if (m.tombstone) {
			del_now(d, false);
		} else if (d->v->store->caps.delete_if_match) {
			del_now(d, true);
		} else {
			del_tombstone(d);
		}
	} else if (d->row == NULL && d->etag != NULL && strcmp(d->etag, r->etag) == 0) {
		del_end(d, OBJ_AWAY, "what became of a delete is not known"); /* nothing did: again */
	} else {
		del_end(d, OBJ_PRECONDITION, "changed by somebody else: kept");
	}
	objmeta_clear(&m);
	objstore_req_free(&req);
}

static void del_ask(struct del *d)
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, d->key);

	if (req == NULL) {
		del_end(d, OBJ_LOCAL, "out of memory");
		return;
	}
	req->prio = OBJ_PRIO_HOUSE;
	req->done = del_seen;
	req->arg = d;
	objstore_submit(d->v->store, req);
}

void delete_fenced(struct volume *v, const char *key, const char *etag, const struct ofs_oid *oid,
		const struct row *row,
		void (*done)(enum obj_status st, const char *message, void *arg), void *arg)
{
	struct del *d = talloc_zero(v, struct del);

	if (d == NULL || (d->key = talloc_strdup(d, key)) == NULL ||
			(etag != NULL && (d->etag = talloc_strdup(d, etag)) == NULL)) {
		talloc_free(d);
		done(OBJ_LOCAL, "out of memory", arg);
		return;
	}
	d->v = v;
	d->row = row;
	d->oid = *oid;
	d->done = done;
	d->arg = arg;
	if (etag == NULL || (row != NULL && !objmeta_fences(etag))) {
		del_ask(d);
	} else if (v->store->caps.delete_if_match) {
		del_now(d, true);
	} else {
		del_tombstone(d);
	}
}

/* ---- a file's object moves ---- */

static void move_redeemed(int status, void *arg)
{
	struct attempt *a = arg;

	if (status != 0) {
		attempt_end_failed(a, "the index cannot be written: %s", strerror(-status));
		return;
	}
	attempt_end_again(a, 0); /* what else is dirty comes next */
}

static void move_unparked(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;
	const char *etag;

	if (st != OBJ_OK) {
		attempt_end_store(a, "removing the note of a swap", st, message);
		return;
	}
	a->item->stage = false;
	etag = a->upload_if_match;
	claim_redeem(a, etag, true);
	if (a->sent_mtime_ns != 0) {
		a->item->resend = false;
		TALLOC_FREE(a->old_key);
		step_uploaded_ok(a, etag, NULL, a->sent_mtime_ns, a->rec.data_gen, a->rec.meta_gen);
		return;
	}
	index_commit(a->v->index, move_redeemed, a);
}

static void move_copied(enum obj_status st, const char *message, const char *etag, void *arg)
{
	struct attempt *a = arg;

	switch (st) {
	case OBJ_OK:
		a->upload_if_match = talloc_strdup(a, etag);
		if (ofs_oid_equal(&a->row->s3_parent, &OFS_OID_STAGE)) {
			rename_intent(a->v, a->row->s3_name, NULL, NULL, 0, move_unparked, a);
		} else {
			move_unparked(OBJ_OK, NULL, a);
		}
		break;
	case OBJ_NOT_FOUND:
	case OBJ_CONFLICT:
		/* Whose is it now? An upload whose answer was lost may have made a later version. */
		a->item->ask = true;
		attempt_end_again(a, 0);
		break;
	case OBJ_PRECONDITION:
		claim_drop(a);
		step_conflict(a, "the new name is taken in S3");
		break;
	default:
		attempt_end_store(a, "renaming", st, message);
		break;
	}
}

static void move_claimed(struct attempt *a)
{
	if (a->item->resend && (a->leased || a->copied)) {
		step_upload(a, NULL);
		return;
	}
	copy_fenced(a->v, a->old_key, a->row->etag, a->key, a->replaced->etag, NULL,
			a->item->inherited, move_copied, a);
}

void move_sent(struct attempt *a, const char *etag, int64_t mtime_ns)
{
	a->sent_mtime_ns = mtime_ns != 0 ? mtime_ns : 1;
	move_copied(OBJ_OK, NULL, etag, a);
}

void move_file(struct attempt *a)
{
	bool here = a->fd >= 0 && !(a->rec.flags & OFS_REC_STUB);

	bool takes_on = a->item->inherited != NULL && a->row->plain;

	if (here && (a->row->s3_size > a->v->conf->copy_limit_bytes || takes_on) && !a->item->resend) {
		a->item->resend = true; /* once more, with a lease */
		attempt_end_again(a, 0);
		return;
	}
	claim_make(a, move_claimed); /* again, if there is one: its fence is the row's */
}

/* ---- a swap: park it ---- */

static void stage_intent_put(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;

	if (st != OBJ_OK) {
		attempt_end_store(a, "noting a swap", st, message);
		return;
	}
	move_claimed(a);
}

/* Should the disk be lost now, whoever adopts the intent puts it where it belongs. The claim comes
 * first: when it is deleted or redeemed, the intent goes too. */
static void stage_claimed(struct attempt *a)
{
	rename_intent(a->v, a->raw, a->key, a->upload_if_match, 0, stage_intent_put, a);
}

void stage_file(struct attempt *a)
{
	struct index *ix = a->v->index;
	struct row *row = a->row, *claim = claim_get(ix, row);
	char hex[OFS_OID_HEX_BYTES], *to, *raw;

	ofs_oid_hex(&a->oid, hex);
	raw = name_to_raw(a, row->name, false);
	a->parent = OFS_OID_STAGE;
	a->raw = talloc_strdup(a, hex);
	a->old_key = index_key(ix, a, a->v->prefix, &row->s3_parent, row->s3_name, false, NULL);
	a->key = index_key(ix, a, a->v->prefix, &OFS_OID_STAGE, hex, false, NULL);
	to = raw ? index_key(ix, a, a->v->prefix, &row->parent, raw, false, NULL) : NULL;
	if (a->old_key == NULL || a->key == NULL || to == NULL ||
			ofs_oid_equal(&row->s3_parent, &OFS_OID_STAGE)) {
		a->item->stage = false;
		attempt_end_postponed(a, NS_PER_S, "its name cannot be parked");
		return;
	}
	if (claim != NULL && (!ofs_oid_equal(&claim->s3_parent, &OFS_OID_STAGE) ||
					     work_is_running(claim))) {
		attempt_end_blocked(a, claim, "an unfinished copy is removed first");
		return;
	}
	if (row->etag == NULL || a->item->ask || heir_is(row)) {
		step_ask_fence(a);
		return;
	}
	a->upload_if_match = to; /* until the copy is there: where it belongs */
	a->replaced = claim;
	claim_make(a, stage_claimed);
}

/* ---- a deleted inode ---- */

static void delete_finished(struct attempt *a)
{
	struct reconcile *rc = a->item->rc;
	struct index *ix = a->v->index;
	struct row *row = a->row;
	struct ofs_oid oid = a->oid;
	struct work *w = a->item;

	index_clear_s3(ix, row);
	look_purge_trash(rc, &oid);
	w->again = false;
	attempt_end_done(a); /* frees the work, row->work is NULL now */
	row = index_get(ix, &oid);
	if (row != NULL && row->live == ROW_TRASHED && row->work == NULL) {
		index_set_live(ix, row, ROW_NOT_HERE);
		if (!row_has_children(row)) {
			index_remove(ix, row);
		}
	}
}

static void delete_done(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;

	if (st == OBJ_OK) {
		delete_finished(a);
	} else if (st == OBJ_PRECONDITION) {
		log_notice("reconcile", "%s was deleted here, but changed in S3 meanwhile: the new "
				"version stays", a->row->name ? a->row->name : "a file");
		delete_finished(a);
	} else {
		attempt_end_store(a, "deleting", st, message);
	}
}

/* The file that a client renamed over this one, or made at its name: it waits until the key is free. */
static struct work *delete_heir(struct attempt *a)
{
	char *name = a->row->in_s3 ? name_from_raw(a, a->row->s3_name) : NULL;
	struct row *r = name != NULL ? index_at_live(a->v->index, &a->row->s3_parent, name) : NULL;

	talloc_free(name);
	return r != NULL && r != a->row && !r->is_dir ? r->work : NULL;
}

static void delete_fence(struct attempt *a)
{
	struct row *owner;

	/* A copy bears the id of what it was copied from. Not in S3 as far as the row knows: a PUT may
	 * have been answered to nobody; without a fence it is asked. */
	owner = claim_owner(a->v->index, a->row);
	delete_fenced(a->v, a->key, a->row->in_s3 ? a->row->etag : NULL,
			owner != NULL ? &owner->oid : &a->oid, a->row, delete_done, a);
}

static void delete_kept_known(enum obj_status st, const char *message, struct kept *kept, void *arg)
{
	struct attempt *a = arg;
	struct work *heir = delete_heir(a);

	if (st != OBJ_OK) {
		attempt_end_store(a, "asking what others have set on it", st, message);
		return;
	}
	if (heir != NULL && kept != NULL) {
		talloc_free(heir->inherited);
		heir->inherited = talloc_steal(heir, kept);
	}
	delete_fence(a);
}

static void delete_unparked(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;
	const struct row *row = a->row;

	if (st != OBJ_OK) {
		attempt_end_store(a, "removing the note of a swap", st, message);
	} else if (!row->is_dir && row->name != NULL && !row->plain && row->etag != NULL &&
			delete_heir(a) != NULL) {
		kept_ask(a, a->v, a->key, row->etag, delete_kept_known, a);
	} else {
		delete_fence(a);
	}
}

static void delete_known(struct attempt *a)
{
	if (a->row->in_s3 && ofs_oid_equal(&a->row->s3_parent, &OFS_OID_STAGE)) {
		rename_intent(a->v, a->row->s3_name, NULL, NULL, 0, delete_unparked, a);
	} else {
		delete_unparked(OBJ_OK, NULL, a);
	}
}

/* What a moved file leaves behind may be its only object yet: only after the commit that says where the
 * file is now, the old key may go. Killed in between, the daemon would take the new one for a copy that
 * was never finished. */
static void delete_committed(int status, void *arg)
{
	struct attempt *a = arg;

	if (status != 0) {
		attempt_end_failed(a, "the index cannot be written: %s", strerror(-status));
	} else if (!a->row->is_dir && a->row->in_s3 && whose_is_lost(a->row)) {
		look_trash_record(a, delete_known);
	} else {
		delete_known(a);
	}
}

struct row *delete_first_child(struct index *ix, struct row *dir)
{
	struct row *c, *below;

	for (c = index_s3_child(ix, dir); c != NULL; c = index_s3_next(ix, c)) {
		if (c->live != ROW_NOT_HERE || c->work != NULL) {
			return c;
		}
		below = delete_first_child(ix, c);
		if (below != NULL) {
			return below;
		}
	}
	return NULL;
}

/* What the client that removed the directory has never seen, or is gone: not ours to delete. */
static void delete_forget_children(struct index *ix, struct row *dir)
{
	struct row *c, *next;

	for (c = index_s3_child(ix, dir); c != NULL; c = next) {
		next = index_s3_next(ix, c);
		delete_forget_children(ix, c);
		index_clear_s3(ix, c);
	}
}

void delete_item(struct attempt *a)
{
	struct index *ix = a->v->index;
	struct row *row = a->row, *claim = claim_get(ix, row), *owner = claim_owner(ix, row), *apart;
	const struct ofs_oid *parent = row->in_s3 ? &row->s3_parent : &row->parent;
	const char *raw = row->in_s3 ? row->s3_name : row->name;

	if (row->is_dir && owner != NULL && owner->in_s3) {
		/* Half of a directory may be copied here: its own item finishes that. */
		attempt_end_blocked(a, owner, "a rename that was begun is finished first");
		return;
	}
	if (claim != NULL && !row->is_dir) {
		work_follow(a->item, claim); /* a copy that was under way goes too */
	} else if (claim != NULL && work_is_running(claim)) {
		attempt_end_blocked(a, claim, "an unfinished copy is removed first");
		return;
	} else if (claim != NULL) {
		if (rename_finish(a)) {
			return;
		}
		claim_drop(a);
	}
	if (row->is_dir && (a->item->rc->place_count > 0 || a->item->rc->scans_running > 0)) {
		/* A child that is said not to be here may just have been moved out. */
		attempt_end_postponed(a, 300 * NS_PER_MS, "other names are looked at first");
		return;
	}
	if (row->is_dir) {
		struct row *child = delete_first_child(ix, row);

		if (child != NULL) {
			attempt_end_blocked(a, child, "its children go first");
			return;
		}
		delete_forget_children(ix, row);
	}
	if (raw == NULL || (row->is_dir && !row->in_s3)) {
		delete_finished(a);
		return;
	}
	a->key = index_key(ix, a, a->v->prefix, parent, raw, row->is_dir, NULL);
	apart = row->is_dir ? NULL : step_apart_at(ix, parent, raw);
	if (a->key == NULL || (apart != NULL && apart != row)) {
		delete_finished(a); /* nothing is there, or what stands apart there */
		return;
	}
	if (row->name == NULL) { /* of no file: claims, and what claim_redeem and heir_leave left */
		index_commit(ix, delete_committed, a);
		return;
	}
	delete_committed(0, a);
}
