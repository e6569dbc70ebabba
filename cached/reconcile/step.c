/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: bring one row into agreement with S3, one step at a time.
 * Way: reconcile.c -> step_start -> prepare.c -> upload, log, move.c or renames.c -> prepare.c
 *      (step_finish) -> work_done.
 * Thread: core.
 * Owns: the attempt: lease, descriptor, snapshot, keys.
 * Holds:
 *  1. the row is committed before the record says clean;
 *  2. a key held by another row is never written blindly: a trashed row's fence is the condition, a
 *     living row moves away first;
 *  3. 412 or an unknown outcome is answered by HEAD: ours is adopted, foreign makes a conflict copy.
 *
 *   place ok? -> prepare -> [dir: marker] [moved: move] [data: upload] [metadata: log] -> finish
 */
#include "private.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP_TRIES_MAX 4
#define STEP_DEPTH_MAX 600 /* a key has 1,024 bytes: deeper no path goes */
#define REDIRTY_NS (50 * NS_PER_MS) /* a record is written meanwhile */

bool step_at_home(const struct row *row)
{
	char *local;
	bool same;

	if (!ofs_oid_equal(&row->s3_parent, &row->parent)) {
		return false;
	}
	if (strcmp(row->s3_name, row->name) == 0) {
		return true;
	}
	local = name_from_raw(NULL, row->s3_name);
	same = local != NULL && strcmp(local, row->name) == 0;
	talloc_free(local);
	return same || (!row->is_dir && name_is_beside_dir(row->name, row->s3_name));
}

/* ---- attempts ---- */

static int attempt_destructor(struct attempt *a)
{
	if (a->fd >= 0) {
		if (a->leased && !a->lease_broken) {
			fcntl(a->fd, F_SETLEASE, F_UNLCK);
		}
		close(a->fd);
	}
	snapshot_free(&a->snapshot);
	*a->prev = a->next;
	if (a->next != NULL) {
		a->next->prev = a->prev;
	}
	return 0;
}

struct attempt *attempt_new(struct work *item)
{
	struct reconcile *rc = item->rc;
	struct attempt *a = talloc_zero(rc, struct attempt);

	if (a == NULL) {
		return NULL;
	}
	a->item = item;
	a->v = rc->v;
	a->row = item->row;
	a->oid = item->row->oid;
	a->fd = -1;
	clock_random(rc->v->clock, &a->wid, sizeof(a->wid));
	a->next = rc->attempts;
	a->prev = &rc->attempts;
	if (rc->attempts != NULL) {
		rc->attempts->prev = &a->next;
	}
	rc->attempts = a;
	rc->items_running++;
	talloc_set_destructor(a, attempt_destructor);
	return a;
}

static struct work *attempt_close(struct attempt *a)
{
	struct work *w = a->item;

	copy_answer(a, false);
	w->rc->items_running--;
	talloc_free(a);
	return w;
}

void attempt_end_done(struct attempt *a)
{
	log_debug("reconcile", "%s: done%s", a->row->name ? a->row->name : "?",
			a->item->again ? ", again" : "");
	copy_answer(a, a->upload_done);
	work_done(attempt_close(a));
}

void attempt_end_again(struct attempt *a, int64_t delay_ns)
{
	struct work *w;

	a->item->times |= a->times;
	w = attempt_close(a);
	log_debug("reconcile", "%s: next step", w->row->name ? w->row->name : "?");
	work_go_on(w, delay_ns);
}

void attempt_end_failed(struct attempt *a, const char *fmt, ...)
{
	va_list ap;
	char *why;
	struct work *w;

	va_start(ap, fmt);
	why = talloc_vasprintf(a->item, fmt, ap);
	va_end(ap);
	a->item->times |= a->times;
	w = attempt_close(a);
	log_debug("reconcile", "%s: failed: %s", w->row->name ? w->row->name : "?", why ? why : "");
	stats_add(upload_failures, 1);
	work_failed(w, "%s", why ? why : "out of memory");
	talloc_free(why);
}

void attempt_end_postponed(struct attempt *a, int64_t delay_ns, const char *fmt, ...)
{
	va_list ap;
	char *why;
	struct work *w;

	va_start(ap, fmt);
	why = talloc_vasprintf(a->item, fmt, ap);
	va_end(ap);
	a->item->times |= a->times;
	w = attempt_close(a);
	log_debug("reconcile", "%s: later: %s", w->row->name ? w->row->name : "?", why ? why : "");
	work_postpone(w, delay_ns, "%s", why ? why : "out of memory");
	talloc_free(why);
}

void attempt_end_blocked(struct attempt *a, struct row *on, const char *why)
{
	struct work *w, *o = on->work;

	a->item->times |= a->times;
	w = attempt_close(a);

	if (o == NULL) {
		o = work_item(w->rc, on, 0);
	}
	if (o == NULL || o == w) {
		work_postpone(w, NS_PER_S, "%s", why);
		return;
	}
	work_block(w, o, why);
	cycle_break(w->rc, w->row);
	work_open_circle(w);
}

void attempt_end_store(struct attempt *a, const char *doing, enum obj_status st,
		const char *message)
{
	if (st == OBJ_CANCELLED) {
		attempt_end_postponed(a, 500 * NS_PER_MS, "opened for writing while it was sent");
		return;
	}
	attempt_end_failed(a, "%s: %s%s%s", doing, objstore_status_name(st),
			message && *message ? ": " : "", message ? message : "");
}

/* ---- where it belongs ---- */

struct row *step_moving_ancestor(struct index *ix, const struct row *row, bool *lost)
{
	struct ofs_oid at = row->parent;
	unsigned depth;

	*lost = false;
	for (depth = 0; depth < STEP_DEPTH_MAX && !ofs_oid_equal(&at, &OFS_OID_ROOT); depth++) {
		struct row *dir = index_get(ix, &at);

		if (dir == NULL || dir->live != ROW_HERE) {
			*lost = true;
			return NULL;
		}
		if (dir->in_s3 && (!step_at_home(dir) || claim_get(ix, dir) != NULL)) {
			return dir;
		}
		at = dir->parent;
	}
	return NULL;
}

struct occupant {
	struct attempt *a;
	struct ofs_oid oid;
};

/* A row claims its key before its first PUT. If that never came about and the file went, nothing is
 * there; an object that is there is not ours to replace. */
static void step_occupant_seen(struct obj_req *req)
{
	struct occupant *o = req->arg;
	struct attempt *a = o->a;
	struct row *row = index_get(a->v->index, &o->oid);

	if (req->result.status == OBJ_NOT_FOUND) {
		if (row != NULL && row->live == ROW_NOT_HERE && row->work == NULL) {
			index_clear_s3(a->v->index, row);
		}
		attempt_end_postponed(a, 0, "its name has become free");
	} else if (req->result.status == OBJ_OK) {
		step_conflict(a, "the name is taken in S3 by an object that is not in the mirror");
	} else {
		attempt_end_store(a, "asking who has its name", req->result.status,
				req->result.message);
	}
	talloc_free(o);
	objstore_req_free(&req);
}

static void step_ask_occupant(struct attempt *a, const struct row *occupant)
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, a->key);
	struct occupant *o = talloc_zero(a->v, struct occupant);

	if (req == NULL || o == NULL) {
		objstore_req_free(&req);
		talloc_free(o);
		attempt_end_failed(a, "out of memory");
		return;
	}
	o->a = a;
	o->oid = occupant->oid;
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = step_occupant_seen;
	req->arg = o;
	objstore_submit(a->v->store, req);
}

/* Fill parent, raw, key, old_key, replaced; false: the attempt has ended. */
static bool step_target(struct attempt *a)
{
	struct index *ix = a->v->index;
	struct row *row = a->row, *occupant, *moving;
	struct row *claim = claim_get(ix, row);
	bool lost, too_long = false;

	if (claim != NULL && row->is_dir && row->in_s3) {
		/* A rename that was begun is finished, whatever its new directory waits for. */
		moving = claim_above(ix, claim);
		lost = false;
	} else {
		moving = step_moving_ancestor(ix, row, &lost);
	}
	if (lost) {
		/* Deleted with its directory, perhaps: the tree says so. */
		work_place(a->item->rc, &row->parent, row->name, 0);
		attempt_end_postponed(a, 500 * NS_PER_MS, "its directory is not known yet");
		return false;
	}
	if (moving != NULL) {
		attempt_end_blocked(a, moving, "its directory is being renamed in S3");
		return false;
	}
	if (name_is_reserved(&row->parent, row->name)) {
		attempt_end_failed(a, "the name is reserved and cannot be stored; rename it");
		return false;
	}
	a->parent = row->parent;
	if (claim != NULL && row->is_dir && row->in_s3) {
		/* A rename that was begun is finished first, then what has changed since. */
		a->parent = claim->s3_parent;
		a->raw = talloc_strdup(a, claim->s3_name);
	} else {
		a->raw = row->in_s3 && step_at_home(row) ? talloc_strdup(a, row->s3_name)
							 : name_to_raw(a, row->name, row->is_dir);
	}
	if (a->raw == NULL) {
		attempt_end_failed(a, "out of memory");
		return false;
	}
	a->key = index_key(ix, a, a->v->prefix, &a->parent, a->raw, row->is_dir, &too_long);
	if (a->key == NULL) {
		attempt_end_failed(a, too_long ? "its path is longer than the 1,024 bytes of a key; "
						 "shorten it"
					       : "its directory is not known");
		return false;
	}
	if (row->in_s3 && (!step_at_home(row) || (claim != NULL && row->is_dir))) {
		a->old_key = index_key(ix, a, a->v->prefix, &row->s3_parent, row->s3_name,
				row->is_dir, NULL);
		if (a->old_key == NULL) {
			/* A place of which nobody knows where it is. */
			index_clear_s3(ix, row);
			attempt_end_again(a, 0);
			return false;
		}
	}
	occupant = index_at_s3(ix, &a->parent, a->raw, row->is_dir);
	if (claim != NULL && claim == occupant && !claim_is_being_deleted(claim)) {
		a->replaced = claim;
		return true;
	}
	if (claim != NULL) {
		/* A copy for a name it had meanwhile: that one goes first. */
		attempt_end_blocked(a, claim, "an unfinished copy is removed first");
		return false;
	}
	if (occupant == NULL || occupant == row) {
		return true;
	}
	if (occupant->live == ROW_TRASHED && !row->is_dir &&
			a->old_key == NULL &&
			(occupant->work == NULL || !((struct work *)occupant->work)->running)) {
		a->replaced = occupant;
		return true;
	}
	if (occupant->live == ROW_NOT_HERE && occupant->work == NULL) {
		struct reconcile *rc = a->item->rc;

		/* Perhaps it was renamed and its new place has not been looked at yet. */
		if (rc->place_count > 0 || rc->scans_running > 0) {
			attempt_end_postponed(a, 300 * NS_PER_MS, "other names are looked at first");
			return false;
		}
		if (!a->item->rescanned) {
			a->item->rescanned = true;
			attempt_end_postponed(a, NS_PER_S, "other names are looked for first");
			reconcile_rescan(rc);
			return false;
		}
		step_ask_occupant(a, occupant);
		return false;
	}
	if (occupant->live == ROW_HERE && occupant->work == NULL && step_at_home(occupant)) {
		/* Two names of one key: that of a file, and its escape beside a directory. Unless the other
		 * has just been renamed. */
		if (a->item->rc->place_count > 0 || a->item->rc->scans_running > 0) {
			attempt_end_postponed(a, 300 * NS_PER_MS, "other names are looked at first");
		} else {
			step_conflict(a, "its key in S3 is that of another file here");
		}
		return false;
	}
	attempt_end_blocked(a, occupant, "another file must leave its name in S3 first");
	return false;
}

/* The next directory above, and whether S3 does not have it yet; NULL: the top. */
static struct row *step_above(struct index *ix, struct ofs_oid *at, bool *missing)
{
	struct row *dir = ofs_oid_equal(at, &OFS_OID_ROOT) ? NULL : index_get(ix, at);

	if (dir == NULL || (!dir->in_s3 && dir->live != ROW_HERE)) {
		return NULL; /* or .objectfs/stage */
	}
	*missing = !dir->in_s3;
	*at = dir->in_s3 ? dir->s3_parent : dir->parent;
	return dir;
}

struct row *step_taken_directory(struct index *ix, const struct ofs_oid *parent)
{
	struct ofs_oid at = *parent;
	struct row *dir, *taken = NULL;
	unsigned depth;
	bool missing;

	for (depth = 0; depth < STEP_DEPTH_MAX; depth++) {
		char *raw;

		dir = step_above(ix, &at, &missing);
		if (dir == NULL) {
			break;
		}
		raw = missing ? name_to_raw(NULL, dir->name, true) : NULL;
		if (raw != NULL && index_at_s3(ix, &dir->parent, raw, true) != NULL) {
			taken = dir;
		}
		talloc_free(raw);
	}
	return taken;
}

/* The directories above are in S3 from now on, implied by what will be in them: renamed before their
 * own markers are there, they take it along. All of them or none, and every name must be free: else
 * two rows would stand for one key. false: the attempt has ended. */
static bool step_directories(struct attempt *a)
{
	struct index *ix = a->v->index;
	struct row *dir, *taken = step_taken_directory(ix, &a->parent);
	struct ofs_oid at = a->parent;
	unsigned depth;
	bool missing;

	if (taken != NULL) {
		work_item(a->item->rc, taken, 0);
		attempt_end_blocked(a, taken, "its directory comes first");
		return false;
	}
	for (depth = 0; depth < STEP_DEPTH_MAX; depth++) {
		char *raw;

		dir = step_above(ix, &at, &missing);
		if (dir == NULL) {
			break;
		}
		raw = missing ? name_to_raw(a, dir->name, true) : NULL;
		if (raw != NULL) {
			index_set_s3(ix, dir, &dir->parent, raw);
			index_set_object(ix, dir, false);
		} else if (missing) {
			attempt_end_failed(a, "out of memory");
			return false;
		}
		talloc_free(raw);
	}
	return true;
}

/* ---- upload ---- */

void step_uploaded_ok(struct attempt *a, const char *etag, const char *version_id,
		int64_t mtime_ns, uint64_t data_gen, uint64_t meta_gen)
{
	struct index *ix = a->v->index;
	struct row *row = a->row;

	if (a->old_key != NULL) {
		move_sent(a, etag, mtime_ns);
		return;
	}
	index_set_fence(ix, row, etag, version_id, row->is_dir ? 0 : a->size, mtime_ns);
	index_set_gens(ix, row, data_gen, meta_gen);
	index_set_object(ix, row, true);
	a->upload_done = true;
	step_finish(a);
}

static void step_place_committed(int status, void *arg)
{
	struct attempt *a = arg;

	if (status != 0) {
		attempt_end_failed(a, "the index cannot be written: %s", strerror(-status));
		return;
	}
	if (a->replaced != NULL) {
		work_item(a->item->rc, a->replaced, 0); /* only now may its trash entry go */
		a->replaced = NULL;
	}
	step_upload(a, a->row->has_object ? a->row->etag : NULL);
}

/* The row claims its key before the first PUT: whatever becomes of the answer, and wherever the
 * file is renamed to meanwhile, the key is not forgotten. Its fence is that of what it replaces. */
void step_first_upload(struct attempt *a)
{
	struct index *ix = a->v->index;
	struct row *row = a->row, *gone = a->replaced;

	if (gone != NULL) {
		char *etag = gone->etag ? talloc_strdup(a, gone->etag) : NULL;
		char *note = heir_note(a, gone);

		index_set_s3(ix, row, &a->parent, a->raw); /* takes the place from `gone` */
		index_set_fence(ix, row, etag, note, gone->s3_size, gone->s3_mtime_ns);
		index_set_object(ix, row, etag != NULL);
		index_set_live(ix, gone, ROW_NOT_HERE); /* forgets its name: only trash is left to purge */
		index_set_live(ix, gone, ROW_TRASHED);
	} else {
		index_set_s3(ix, row, &a->parent, a->raw);
		index_set_fence(ix, row, NULL, NULL, 0, 0);
		index_set_object(ix, row, false);
	}
	index_commit(ix, step_place_committed, a);
}

/* Is it this node's own work? */
static bool step_wrote(const struct volume *v, const struct objmeta *m)
{
	char node[OFS_OID_HEX_BYTES];

	ofs_oid_hex(&m->node, node);
	return m->ours && strcmp(node, v->node_id) == 0;
}

/* Its key holds something foreign. */
static void step_taken(struct attempt *a, const char *why)
{
	if (a->old_key != NULL) {
		claim_drop(a); /* nothing of ours was copied there */
	}
	step_conflict(a, why);
}

/* After 412 or an unknown outcome: what is there now? */
static void step_outcome(struct obj_req *req)
{
	struct attempt *a = req->arg;
	struct obj_result *r = &req->result;
	struct objmeta m = {0};
	bool damaged;

	if (r->status == OBJ_NOT_FOUND) {
		objstore_req_free(&req);
		if (++a->tries > STEP_TRIES_MAX) {
			attempt_end_failed(a, "the store keeps refusing the condition");
			return;
		}
		step_upload(a, NULL); /* deleted meanwhile: create it again */
		return;
	}
	if (r->status != OBJ_OK || r->etag == NULL) {
		attempt_end_store(a, "asking what became of an upload", r->status, r->message);
		objstore_req_free(&req);
		return;
	}
	objmeta_read(r, &m, &damaged);
	if (m.ours && !m.tombstone && ofs_oid_equal(&m.wid, &a->wid)) {
		step_uploaded_ok(a, r->etag, r->version_id, r->mtime_ns, m.data_gen, m.meta_gen);
	} else if (++a->tries > STEP_TRIES_MAX) {
		attempt_end_failed(a, "the store keeps refusing the condition");
	} else if (m.ours && ofs_oid_equal(&m.oid, &a->oid)) {
		/* An earlier attempt of this node, whose answer or row was lost. */
		if (step_wrote(a->v, &m) || m.tombstone || a->row->etag == NULL) {
			step_upload(a, r->etag);
		} else {
			step_taken(a, "another node has written it");
		}
	} else if (m.ours && m.tombstone) {
		step_upload(a, r->etag);
	} else if (heir_has(a->row->version_id, a->v, &m)) {
		step_upload(a, r->etag); /* the same, of the file that it replaces */
	} else if (a->row->is_dir) {
		step_upload(a, r->etag); /* markers of one directory: metadata is merged by overwriting */
	} else if (a->upload_if_match != NULL && strcmp(a->upload_if_match, r->etag) == 0) {
		step_upload(a, r->etag); /* nothing had happened */
	} else {
		step_taken(a, "somebody else has written it");
	}
	objmeta_clear(&m);
	objstore_req_free(&req);
}

static void step_ask_outcome(struct attempt *a)
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
	a->upload = NULL;
	switch (u->status) {
	case OBJ_OK:
		index_set_sha256(a->v->index, a->row, u->has_sha256 ? u->sha256 : NULL);
		if (u->etag == NULL) {
			step_ask_outcome(a); /* some stores do not say */
			break;
		}
		step_uploaded_ok(a, u->etag, u->version_id, u->mtime_ns, a->rec.data_gen,
				a->rec.meta_gen);
		break;
	case OBJ_PRECONDITION:
	case OBJ_UNKNOWN:
	case OBJ_CONFLICT:
	case OBJ_NOT_FOUND:
		step_ask_outcome(a);
		break;
	default:
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

void step_upload(struct attempt *a, const char *if_match)
{
	struct upload *u;

	talloc_free(a->upload_if_match);
	a->upload_if_match = if_match ? talloc_strdup(a, if_match) : NULL;
	if (a->item->copy != NULL) {
		copy_send(a);
		return;
	}
	a->item->copied = false;

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
	u->meta.ours = true;
	u->meta.oid = a->oid;
	u->meta.wid = a->wid;
	u->meta.data_gen = a->rec.data_gen;
	u->meta.meta_gen = a->rec.meta_gen;
	ofs_oid_parse(a->v->node_id, &u->meta.node);
	u->done = step_uploaded;
	u->arg = a;
	a->upload = u;
	upload_start(u);
}

/* ---- metadata alone ---- */

static void step_logged(int status, void *arg)
{
	struct attempt *a = arg;

	a->item->rc->items_running++;
	if (status != 0) {
		attempt_end_failed(a, "the metadata log cannot be written: %s", strerror(-status));
		return;
	}
	index_set_gens(a->v->index, a->row, a->row->s3_data_gen, a->rec.meta_gen);
	step_finish(a);
}

static void step_blobs_done(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;
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
	metalog_append(a->v->metalog, &a->oid, a->rec.meta_gen, a->rec.data_gen, packed, len,
			step_logged, a);
	if (a->item->urgent) {
		metalog_flush(a->v->metalog);
	}
}

static void step_log(struct attempt *a)
{
	snapshot_split(a->snapshot, OBJMETA_SNAPSHOT_BUDGET);
	upload_blobs(a->v, a->snapshot, step_blobs_done, a);
}

/* ---- the decision ---- */

/* What the row calls its object is not there, or not ours any more. */
static void step_object_gone(struct attempt *a)
{
	struct row *row = a->row;

	index_clear_s3(a->v->index, row);
	if (a->rec.flags & OFS_REC_STUB) {
		attempt_end_failed(a, "its object was deleted or replaced in S3, and its data is not here");
		return;
	}
	if (!row->is_dir) {
		look_redirty(a->item->rc, row); /* the data is here: sent as a new object */
	}
	attempt_end_again(a, REDIRTY_NS);
}

/* The fence of a row whose index was lost. */
static void step_fence_known(struct obj_req *req)
{
	struct attempt *a = req->arg;
	struct obj_result *r = &req->result;
	struct objmeta m = {0};
	struct ofs_oid foreign;
	bool damaged;

	if (r->status == OBJ_NOT_FOUND) {
		objstore_req_free(&req);
		step_object_gone(a);
		return;
	}
	if (r->status != OBJ_OK || r->etag == NULL) {
		attempt_end_store(a, "asking for the object's state", r->status, r->message);
		objstore_req_free(&req);
		return;
	}
	objmeta_read(r, &m, &damaged);
	objmeta_foreign_oid(&a->v->uuid, req->key, &foreign);
	if ((m.ours && ofs_oid_equal(&m.oid, &a->oid)) || ofs_oid_equal(&foreign, &a->oid) ||
			a->row->is_dir) {
		index_set_fence(a->v->index, a->row, r->etag, r->version_id, r->size, r->mtime_ns);
		index_set_object(a->v->index, a->row, true);
		if (a->item->stage) {
			attempt_end_again(a, 0);
		} else {
			step_prepared(a);
		}
	} else if (heir_has(a->row->version_id, a->v, &m) && a->old_key == NULL) {
		char *note = talloc_strdup(a, a->row->version_id);

		index_set_fence(a->v->index, a->row, r->etag, note, r->size, r->mtime_ns);
		index_set_object(a->v->index, a->row, true);
		step_prepared(a);
	} else if (a->old_key != NULL) {
		/* Somebody else's by now, or not replaced yet; we leave that name anyway. */
		if (heir_has(a->row->version_id, a->v, &m)) {
			heir_leave(a->item->rc, a->row, &m.oid, r->etag, r->size, r->mtime_ns);
		}
		step_object_gone(a);
	} else {
		index_clear_s3(a->v->index, a->row);
		step_conflict(a, "its name is taken in S3 by another object");
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

void step_prepared(struct attempt *a)
{
	struct row *row = a->row;
	bool dirty_data = (a->rec.flags & OFS_REC_DATA_DIRTY) && !(a->rec.flags & OFS_REC_STUB);
	bool dirty_meta = (a->rec.flags & OFS_REC_META_DIRTY) != 0;

	if (row->in_s3 && !row->is_dir &&
			(row->etag == NULL || (a->old_key != NULL && heir_is(row)))) {
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
		} else if (!row->in_s3) {
			step_first_upload(a);
		} else {
			step_upload(a, row->has_object ? row->etag : NULL);
		}
		return;
	}
	if (dirty_data || !row->in_s3) {
		if (a->rec.flags & OFS_REC_STUB) {
			attempt_end_failed(a, "its object is not in the bucket, and its data not here");
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
	talloc_free(item->reason);
	item->reason = NULL;
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
		if (step_is_being_replaced(a)) {
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
