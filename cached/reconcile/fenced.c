/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: copies and deletes of single objects, conditional in the best way the store has.
 * Way: move.c, pmove.c, copy.c -> here -> object store.
 * Thread: core.
 * Owns: struct copy and struct del while their requests are in flight.
 * Holds:
 *  1. a copy is of one state: pinned by a condition where the store honours it, else compared with the
 *     source, and a wrong copy is removed again; equal bytes with other metadata are no copy;
 *  2. a delete removes only the version that the mirror knew, or a later one of its own: by condition
 *     (F3), by a conditional tombstone PUT first (F2), or, where versions are all there is (F1), by a look
 *     before, and one at what lies under the marker after; what others made of it stays.
 */
#include "private.h"
#include "../core/trust.h"
#include "../mirror/foreign.h"
#include <string.h>

#define TRIED_NS (15 * 60 * NS_PER_S) /* what was carried out and answered to nobody is tried again by then */

/* ---- copy ---- */

struct copy {
	struct volume *v;
	char *from, *etag, *to, *expect;
	const struct objmeta *meta; /* of the copy; NULL: the source's */
	const struct kept *kept;    /* what others had set at the target */
	struct obj_req *head;       /* of the source */
	struct obj_req *there;      /* a HEAD, too: of what is at the target, if dest_exists */
	bool foreign;               /* the source has no metadata of ours: the log may have them, by its key */
	char *etag_done;            /* of the copy, while the log is written */
	char *answered;             /* its ETag, as the store said it; NULL: it did not */
	bool dest_exists, dest_taken;
	bool dest_ours; /* what is there is an earlier copy of the source, or the same one */
	const char *dest_etag;   /* of what is there, and who wrote it */
	struct ofs_oid dest_wid;
	int64_t dest_size;
	bool over_copy;          /* class F1: what it has replaced is an earlier copy, under which is to be looked */
	bool dest_is_copy;       /* what is there says that it is a copy of the source */
	int64_t since_ns;        /* by the store's clock: its begin */
	copy_done_fn done;
	void *arg;
};

static int copy_destructor(struct copy *c)
{
	objstore_req_free(&c->head);
	objstore_req_free(&c->there);
	return 0;
}

static void copy_over(struct copy *c, enum obj_status st, const char *message, const char *etag)
{
	c->done(st, message, etag, c->arg); /* the etag may be of one of the two */
	talloc_free(c);
}

static void copy_logged(int status, void *arg)
{
	struct copy *c = arg;

	if (status == 0) {
		copy_over(c, OBJ_OK, NULL, c->etag_done);
	} else {
		copy_over(c, OBJ_AWAY, "its rights cannot be written to the metadata log", NULL);
	}
}

/* Rights that the log has for the old key it must have for the new one before the old one may go: they are in
 * no other place. */
static void copy_end(struct copy *c, enum obj_status st, const char *message, const char *etag)
{
	struct metalog *ml = c->v->metalog;
	const struct metalog_entry *e = NULL;
	struct ofs_oid oid;

	if (st == OBJ_OK && c->foreign && c->meta == NULL && ml != NULL) {
		objmeta_foreign_oid(&c->v->uuid, c->from, &oid);
		e = metalog_find(ml, &oid, 0);
	}
	if (e == NULL) {
		copy_over(c, st, message, etag);
		return;
	}
	c->etag_done = etag != NULL ? talloc_strdup(c, etag) : NULL;
	objmeta_foreign_oid(&c->v->uuid, c->to, &oid);
	if (metalog_append_above(ml, &oid, e->meta_gen, e->data_gen, e->packed, e->packed_len, copy_logged,
			    c) != 0) {
		copy_over(c, OBJ_LOCAL, "out of memory", NULL);
		return;
	}
	metalog_flush(ml);
}

static void copy_covered(enum obj_status st, const char *message, void *arg);

/* And what the earlier copy that it has replaced? Nobody may have heard of that. */
static void copy_check_earlier(struct copy *c)
{
	const struct under_write w = {
		.key = c->to,
		.version = c->there->result.version_id,
		.etag = c->dest_etag,
		.fresh = true,
		.since_ns = c->since_ns,
	};

	c->over_copy = false;
	under_check(c->v, &w, copy_covered, c);
}

/* Class F1: what has the copy covered? */
static void copy_covered(enum obj_status st, const char *message, void *arg)
{
	struct copy *c = arg;

	if (st == OBJ_OK && c->over_copy) {
		copy_check_earlier(c);
	} else {
		copy_end(c, st, message, c->etag_done);
	}
}

static void copy_made(struct copy *c, const char *etag, const char *version_id)
{
	/* Under an earlier copy of ours nobody may have looked. */
	bool known = c->dest_exists && !c->dest_taken && !c->dest_ours;
	const char *expect = known ? c->dest_etag : NULL;
	struct under_write w = {
		.key = c->to,
		.version = version_id,
		.etag = etag,
		.expect = expect,
		.fresh = expect == NULL,
		.since_ns = c->since_ns,
	};

	if (!under_applies(c->v)) {
		copy_end(c, OBJ_OK, NULL, etag);
		return;
	}
	c->etag_done = talloc_strdup(c, etag);
	c->over_copy = known && c->meta == NULL && c->expect != NULL && strcmp(c->expect, c->dest_etag) == 0;
	under_check(c->v, &w, copy_covered, c);
}

static void copy_undone(enum obj_status st, const char *message, void *arg)
{
	(void)st;
	(void)message;
	copy_end(arg, OBJ_CONFLICT, "the source changed while it was copied", NULL);
}

static void copy_uncovered(enum obj_status st, const char *message, void *arg)
{
	struct copy *c = arg;

	copy_end(c, st == OBJ_OK ? OBJ_PRECONDITION : st, st == OBJ_OK ? "the new name is taken in S3" : message,
			st == OBJ_OK ? c->dest_etag : NULL);
}

/* Class F1: the name is taken, but by what was to be copied: perhaps by a copy of ours whose answer was lost, and the source
 * has changed since. What that has covered comes first. */
static bool copy_was_tried(struct copy *c)
{
	struct under_write w = {
		.key = c->to,
		.version = c->there->result.version_id,
		.etag = c->dest_etag,
		.since_ns = c->since_ns - TRIED_NS,
	};

	if (!under_applies(c->v) || c->meta != NULL || strcmp(c->dest_etag, c->etag) != 0 ||
			c->there->result.mtime_ns < w.since_ns) {
		return false;
	}
	under_check(c->v, &w, copy_uncovered, c);
	return true;
}

static void copy_passed(enum obj_status st, const char *message, const char *etag, void *arg)
{
	if (st == OBJ_OK) {
		copy_made(arg, etag, NULL);
		return;
	}
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

static void copy_head(struct copy *c, const char *key, void (*done)(struct obj_req *))
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, key);

	if (req == NULL) {
		copy_end(c, OBJ_LOCAL, "out of memory", NULL);
		return;
	}
	req->prio = OBJ_PRIO_UPLOAD;
	req->may_lack = strcmp(key, c->to) == 0;
	req->done = done;
	req->arg = c;
	objstore_submit(c->v->store, req);
}

/* All user metadata are the same; ours have a wid among them. A proof is of one key: a copy has another one, and
 * perhaps the first. */
static bool copy_same_meta(const struct obj_result *from, const struct obj_result *to)
{
	bool proven[2] = {objstore_meta_get(from, TRUST_PROOF_NAME) != NULL,
		objstore_meta_get(to, TRUST_PROOF_NAME) != NULL};
	unsigned i;

	for (i = 0; i < from->meta_count; i++) {
		const char *value = objstore_meta_get(to, from->meta[i].name);

		if (strcmp(from->meta[i].name, TRUST_PROOF_NAME) != 0 &&
				(value == NULL || strcmp(value, from->meta[i].value) != 0)) {
			return false;
		}
	}
	return from->size == to->size && from->meta_count - proven[0] == to->meta_count - proven[1];
}

/* Not what was asked for. What somebody has put there since stays. */
static void copy_undo(struct copy *c, const char *etag,
		void (*done)(enum obj_status st, const char *message, void *arg))
{
	struct ofs_oid nobody;

	clock_random(c->v->clock, &nobody, sizeof(nobody));
	delete_fenced(c->v, c->to, etag, &nobody, NULL, 0, done, c);
}

static void copy_checked(struct obj_req *req)
{
	struct copy *c = req->arg;
	struct obj_result *r = &req->result;

	if (r->status != OBJ_OK || r->etag == NULL) {
		copy_end(c, r->status == OBJ_OK ? OBJ_AWAY : r->status, r->message, NULL);
	} else if (copy_same_meta(&c->head->result, r)) {
		copy_made(c, r->etag, r->version_id);
	} else if (c->answered != NULL && strcmp(c->answered, r->etag) == 0) {
		copy_undo(c, r->etag, copy_undone);
	} else {
		copy_end(c, OBJ_CONFLICT, "somebody else has written to its new name since", NULL);
	}
	objstore_req_free(&req);
}

/* A directory's marker has no bytes that could be refused: it is put anew. Called by a name of its own, and left where it
 * is, it would outlive its directory. */
static bool copy_is_marker(const struct copy *c)
{
	return c->meta == NULL && c->to[strlen(c->to) - 1] == '/' && c->head->result.size == 0;
}

static void copy_done(struct obj_req *req)
{
	struct copy *c = req->arg;
	struct obj_result *r = &req->result;
	bool told;

	if (r->unsupported && r->etag != NULL) {
		copy_undo(c, r->etag, copy_not_made); /* made, and not encrypted */
		objstore_req_free(&req);
		return;
	}
	if (r->unsupported) {
		objstore_req_free(&req); /* as Ceph RGW 16, of an encrypted source */
		copy_not_made(OBJ_OK, NULL, c);
		return;
	}
	if ((r->status == OBJ_INVALID || r->status == OBJ_ARCHIVED) && copy_is_marker(c)) {
		objstore_req_free(&req);
		copy_pass(c);
		return;
	}
	if (r->status == OBJ_PRECONDITION && c->meta == NULL) {
		/* Of which of the two keys? Who asks again is told. */
		copy_end(c, OBJ_CONFLICT, "source or target changed while it was copied", NULL);
		objstore_req_free(&req);
		return;
	}
	if (r->status == OBJ_NOT_FOUND && req->if_match != NULL) {
		/* What was at the target may have gone, and the source not. */
		copy_end(c, OBJ_CONFLICT, "source or target went while it was copied", NULL);
		objstore_req_free(&req);
		return;
	}
	if (r->status != OBJ_OK) {
		copy_end(c, r->status, r->message, NULL);
		objstore_req_free(&req);
		return;
	}
	stats_add(copies, 1);
	/* Sent in parts, or encrypted with a key of somebody's, an object has an ETag that its copy need not have. */
	told = c->meta != NULL || (r->etag != NULL && strchr(c->etag, '-') == NULL &&
			!objstore_etag_opaque(&c->head->result) && !objstore_etag_opaque(r));
	if (c->v->store->caps.copy_if_match_source) {
		copy_end(c, OBJ_OK, NULL, r->etag ? r->etag : c->etag);
	} else if (!told) {
		c->answered = r->etag != NULL ? talloc_strdup(c, r->etag) : NULL;
		copy_head(c, c->to, copy_checked);
	} else if (r->etag == NULL || strcmp(r->etag, c->etag) != 0) {
		copy_undo(c, r->etag, copy_undone);
	} else {
		copy_made(c, r->etag, r->version_id);
	}
	objstore_req_free(&req);
}

/* Equal bytes may be anybody's: a copy has the source's metadata, too. What is at the target is of the same
 * write as the source: copied, or copied before somebody changed the source and kept its metadata? A copy of an
 * object that was sent in parts has another ETag than it. */
static bool copy_is_done(struct copy *c, const struct obj_result *r, const struct objmeta *m)
{
	bool parts = c->dest_taken && (strchr(c->etag, '-') != NULL || strchr(c->dest_etag, '-') != NULL);

	if (!c->dest_taken || r->status != OBJ_OK) {
		return false;
	}
	if (m->ours && !ofs_oid_is_none(&m->wid) && ofs_oid_equal(&m->wid, &c->dest_wid)) {
		if ((parts || strcmp(c->etag, c->dest_etag) == 0) && r->size == c->dest_size) {
			return true;
		}
		/* Else a copy of an earlier state has the ETag that is expected: this is another tool's. So it is if the
		 * source is as it was. */
		if ((parts || objstore_etag_opaque(r) || objstore_etag_opaque(&c->there->result)) &&
				(r->etag == NULL || strcmp(r->etag, c->etag) != 0)) {
			c->dest_taken = false;
		}
	}
	return r->size == c->dest_size && r->etag != NULL && strcmp(r->etag, c->etag) == 0 &&
	       (c->dest_is_copy || (strcmp(c->dest_etag, c->etag) == 0 &&
						   copy_same_meta(r, &c->there->result)));
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
	c->foreign = r->status == OBJ_OK && !m.ours && !damaged;
	c->dest_ours = c->meta == NULL && c->dest_exists && m.ours && !ofs_oid_is_none(&m.wid) &&
			ofs_oid_equal(&m.wid, &c->dest_wid);
	copied = copy_is_done(c, r, &m);
	objmeta_clear(&m);
	if (gone && c->dest_taken && c->meta == NULL && strcmp(c->dest_etag, c->etag) == 0) {
		copy_made(c, c->dest_etag, c->there->result.version_id); /* all that there still is of it */
		objstore_req_free(&head);
		return;
	}
	if (gone) {
		/* A tombstone: somebody died between the two halves of its delete. */
		copy_end(c, OBJ_NOT_FOUND, r->message, NULL);
		objstore_req_free(&head);
		return;
	}
	if (copied) {
		copy_made(c, c->dest_etag, c->there->result.version_id); /* perhaps nobody looked what it has covered */
		objstore_req_free(&head);
		return;
	}
	if (r->status == OBJ_OK && c->dest_taken) {
		if (!copy_was_tried(c)) {
			copy_uncovered(OBJ_OK, NULL, c);
		}
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
			(req->source_if_match = strdup(c->etag)) == NULL ||
			(r->version_id != NULL && (req->source_version_id = strdup(r->version_id)) == NULL)) {
		objstore_req_free(&req);
		copy_end(c, OBJ_LOCAL, "out of memory", NULL);
		return;
	}
	if (c->v->store->caps.copy_if_none_match_dest) {
		req->if_none_match = !c->dest_exists;
		req->if_match = c->dest_exists ? strdup(c->dest_etag) : NULL;
		if (c->dest_exists && req->if_match == NULL) {
			objstore_req_free(&req);
			copy_end(c, OBJ_LOCAL, "out of memory", NULL);
			return;
		}
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
		/* What is expected is an earlier copy, unless it has the very bytes of the source: then it may be
		 * anybody's, and copy_is_done looks at it. */
		allowed = marker || (m.ours && m.tombstone) ||
				(c->expect != NULL && strcmp(r->etag, c->expect) == 0 &&
						(c->meta != NULL || strcmp(c->expect, c->etag) != 0));
		objmeta_clear(&m);
		if (!allowed && c->meta != NULL) {
			copy_end(c, OBJ_PRECONDITION, "the new name is taken in S3", NULL);
			objstore_req_free(&req);
			return;
		}
		copy_of = objstore_meta_get(r, COPY_OF_META);
		c->dest_is_copy = copy_of != NULL && strcmp(copy_of, c->etag) == 0;
		c->there = req;
		c->dest_etag = r->etag;
		c->dest_size = r->size;
		c->dest_exists = true;
		c->dest_taken = !allowed; /* unless there is nothing to copy */
	} else if (r->status != OBJ_NOT_FOUND) {
		copy_end(c, r->status == OBJ_OK ? OBJ_AWAY : r->status, r->message, NULL);
		objstore_req_free(&req);
		return;
	}
	if (c->there != req) {
		objstore_req_free(&req);
	}
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
	c->since_ns = objstore_now_ns(v->store, v->clock);
	c->meta = meta;
	c->kept = kept;
	c->done = done;
	c->arg = arg;
	talloc_set_destructor(c, copy_destructor);
	copy_head(c, to, copy_dest_seen);
}

/* ---- delete ---- */

struct del {
	struct volume *v;
	char *key, *etag;
	const struct row *row; /* the caller's; NULL: nothing else is known of the object */
	struct ofs_oid oid;
	int64_t since_ns; /* by the store's clock: its begin */
	int64_t sent_ns;  /* the same of an earlier one, that may have gone out; 0: there was none */
	const char *expect;      /* ETag that the row has; NULL: none */
	enum obj_status outcome; /* of the request, while what it has covered is looked at */
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

static void del_uncovered(enum obj_status st, const char *message, void *arg)
{
	struct del *d = arg;

	del_end(d, st == OBJ_OK ? d->outcome : st, message);
}

/* Class F1: has the marker (NULL: not told which) covered what nobody here had seen? Or the copy of ours that is deleted,
 * which nobody may have heard of: where a claim is, nothing was before. */
static void del_check(struct del *d, const char *marker)
{
	bool copy = claim_is(d->row);
	struct under_write w = {
		.key = d->key,
		.version = marker,
		.etag = copy ? d->expect : NULL,
		.expect = copy ? NULL : d->expect,
		.fresh = copy || (d->expect == NULL && d->row != NULL && d->row->version_id == NULL),
		.deleted = true,
		.tried = d->outcome == OBJ_NOT_FOUND || d->outcome == OBJ_PRECONDITION,
		.sent = d->sent_ns != 0,
		.oid = d->oid,
		.row = d->row,
		.dir = d->row != NULL ? &d->row->parent : NULL,
		.since_ns = d->since_ns,
	};

	under_check(d->v, &w, del_uncovered, d);
}

static void del_deleted(struct obj_req *req)
{
	struct del *d = req->arg;
	enum obj_status st = req->result.status;

	if ((st == OBJ_OK || st == OBJ_UNKNOWN) && under_applies(d->v)) {
		d->outcome = st;
		del_check(d, req->result.version_id);
	} else if (st == OBJ_PRECONDITION && !d->adopted) {
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
	if (!d->adopted) {
		del_ask(d);
	} else if (st == OBJ_UNKNOWN || st == OBJ_CONFLICT) {
		del_end(d, OBJ_AWAY, "what became of a delete is not known"); /* the next try sees it */
	} else {
		del_end(d, OBJ_PRECONDITION, "changed by somebody else: kept");
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
		/* Or of a row that is no more: its delete was taken over. */
		return ofs_oid_equal(&m->oid, &d->oid) ||
		       (whose_is_nodes(d->v, m) && index_get(d->v->index, &m->oid) == NULL);
	default:
		return false;
	}
}

/* Of no file: an object that was left behind, or a copy. */
static bool del_goes_by_fence(const struct del *d)
{
	return d->etag != NULL && (d->row == NULL || (d->row->name == NULL && objmeta_fences(d->etag)));
}

/* Class F1: by a delete of ours, perhaps, after which nobody has looked; or what was under it is back. Then that is
 * done first. */
static bool del_was_tried(struct del *d, enum obj_status outcome)
{
	if (!under_applies(d->v) || d->expect == NULL || d->row == NULL) {
		return false;
	}
	d->outcome = outcome;
	d->since_ns = d->sent_ns != 0 ? d->sent_ns : d->since_ns - TRIED_NS;
	del_check(d, NULL);
	return true;
}

static void del_seen(struct obj_req *req)
{
	struct del *d = req->arg;
	struct obj_result *r = &req->result;
	struct objmeta m = {0};

	if (r->status == OBJ_NOT_FOUND && del_was_tried(d, OBJ_NOT_FOUND)) {
		objstore_req_free(&req);
		return;
	}
	if (r->status != OBJ_OK || r->etag == NULL) {
		del_end(d, r->status == OBJ_OK ? OBJ_AWAY : r->status, r->message);
		objstore_req_free(&req);
		return;
	}
	if (objstore_unfenced(d->v->store) && del_goes_by_fence(d) && strcmp(d->etag, r->etag) == 0) {
		d->adopted = true;
		del_now(d, false);
	} else if (del_may(d, r, &m)) {
		d->etag = talloc_strdup(d, r->etag);
		d->adopted = true;
		if (m.tombstone || objstore_unfenced(d->v->store)) {
			del_now(d, false);
		} else if (d->v->store->caps.delete_if_match) {
			del_now(d, true);
		} else {
			del_tombstone(d);
		}
	} else if (d->row == NULL && d->etag != NULL && strcmp(d->etag, r->etag) == 0) {
		del_end(d, OBJ_AWAY, "what became of a delete is not known"); /* nothing did: again */
	} else if (!del_was_tried(d, OBJ_PRECONDITION)) {
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
		const struct row *row, int64_t sent_ns,
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
	d->sent_ns = sent_ns;
	d->oid = *oid;
	d->expect = d->etag;
	d->done = done;
	d->arg = arg;
	d->since_ns = objstore_now_ns(v->store, v->clock);
	if (etag == NULL || objstore_unfenced(v->store) || (row != NULL && !objmeta_fences(etag))) {
		del_ask(d);
	} else if (v->store->caps.delete_if_match) {
		del_now(d, true);
	} else {
		del_tombstone(d);
	}
}
