/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the object of a file that was renamed or parked moves; that of a deleted inode goes.
 * Way: step.c, send.c -> here -> fenced.c -> the row, committed.
 * Thread: core.
 * Owns: nothing.
 * Holds: 1. the source is deleted only after the copy is known to be there, and the row that says so committed
 *           (rule 16);
 *        2. bytes of a clean file that are not its object's (a disk that forgets) are not sent in its place.
 */
#include "private.h"
#include <string.h>
#include "../verify/content.h"

/* ---- a file's object moves ---- */

const char *move_etag(const struct attempt *a)
{
	return a->found != NULL ? a->found->etag : a->row->etag;
}

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
		step_uploaded_ok(a, etag, NULL, a->sent_mtime_ns, a->rec.data_gen,
				step_meta_gen(a));
		return;
	}
	index_commit(a->v->index, move_redeemed, a);
}

static void move_cannot_park(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;

	if (st != OBJ_OK) {
		attempt_end_store(a, "removing the note of a swap", st, message);
		return;
	}
	a->item->stage = false;
	redirect_item(a, "it cannot be copied");
}

/* The store will not copy it, now or ever: it stays, and is called by its name. */
static void move_refused(struct attempt *a, const char *why)
{
	claim_drop(a);
	if (!ofs_oid_equal(&a->parent, &OFS_OID_STAGE)) {
		redirect_item(a, why);
		return;
	}
	a->key = a->upload_if_match; /* where it belongs */
	rename_intent(a->v, a->raw, NULL, NULL, 0, move_cannot_park, a);
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
		if ((a->rec.flags & OFS_REC_STUB) && !a->asked) {
			/* Taken by what the old key has by now, perhaps: a copy that nobody heard of. */
			a->item->ask = true;
			attempt_end_again(a, 0);
			break;
		}
		claim_drop(a);
		step_conflict(a, "the new name is taken in S3");
		break;
	case OBJ_ARCHIVED:
	case OBJ_INVALID:
		move_refused(a, message ? message : objstore_status_name(st));
		break;
	default:
		attempt_end_store(a, "renaming", st, message);
		break;
	}
}

static void move_copy(struct attempt *a)
{
	copy_fenced(a->v, a->old_key, move_etag(a), a->key, a->replaced->etag, NULL, a->item->inherited,
			move_copied, a);
}

static void move_compared(struct content *c)
{
	struct attempt *a = c->arg;

	a->content = NULL;
	if (c->verdict == CONTENT_WRONG) {
		log_warning("reconcile", "%s: its bytes here are not those of its object, by %s: these are copied (objectfsctl "
				"verify)", a->old_key, content_means_name(c->means));
		move_copy(a);
	} else {
		step_upload(a, NULL);
	}
	content_free(&c);
}

/* What S3 has is sent once more from here: only if it is the same. false: it is not known to be clean, or cannot be
 * told. */
static bool move_compare(struct attempt *a)
{
	bool clean = a->leased && (a->rec.flags & OFS_REC_DATA_DIRTY) == 0 && a->size == a->row->s3_size;
	struct content *c = clean && content_may_tell(a->v, a->row) ? content_new(a->v, a->row, a->old_key) : NULL;

	if (c == NULL) {
		return false;
	}
	c->fd = a->fd;
	c->prio = OBJ_PRIO_UPLOAD;
	c->done = move_compared;
	c->arg = a;
	a->content = c;
	content_check(c);
	return true;
}

static void move_claimed(struct attempt *a)
{
	if (!a->item->resend || (!a->leased && !a->copied)) {
		move_copy(a);
	} else if (!move_compare(a)) {
		step_upload(a, NULL);
	}
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
	if (a->found == NULL && (row->etag == NULL || a->item->ask || heir_is(row))) {
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

	redirect_end_row(rc, row);
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
	struct row *owner = claim_owner(a->v->index, a->row);
	struct ofs_oid oid = owner != NULL ? owner->oid : a->oid;

	/* A copy bears the id of what it was copied from. Not in S3 as far as the row knows: a PUT may have been
	 * answered to nobody; without a fence it is asked. The copy of an empty object may have been of a later one of
	 * the same file, which has the same ETag: it goes, too. */
	if (a->row->in_s3 && a->row->etag != NULL && !objmeta_fences(a->row->etag)) {
		(void)heir_left(a->row, &oid);
	}
	delete_fenced(a->v, a->key, a->row->in_s3 ? a->row->etag : NULL, &oid, a->row, a->deleting_ns,
			delete_done, a);
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

/* What is at its key now came when its delete was done. */
static void delete_nothing(struct attempt *a)
{
	struct row *dir = index_get(a->v->index, &a->row->s3_parent);
	char *path = dir != NULL ? index_path(a->v->index, a->v, dir) : NULL;

	delete_finished(a);
	if (path != NULL) {
		mirror_relist(a->v->mirror, path);
	}
	talloc_free(path);
}

static void delete_known(struct attempt *a, bool deleted)
{
	if (!deleted) {
		delete_nothing(a);
	} else if (a->row->in_s3 && ofs_oid_equal(&a->row->s3_parent, &OFS_OID_STAGE)) {
		rename_intent(a->v, a->row->s3_name, NULL, NULL, 0, delete_unparked, a);
	} else {
		delete_unparked(OBJ_OK, NULL, a);
	}
}

/* That a client deleted it is on this disk before S3 is told (rule 5): after a power cut the file would be back here, clean, and
 * gone from S3. What a moved file leaves behind may be its only object yet: only after the commit that says where the
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
		delete_known(a, true);
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

/* Class F1: where a delete, should nobody hear of it, is to be known for this node's. */
static bool delete_may_hide(const struct attempt *a)
{
	const struct row *row = a->row;

	return under_applies(a->v) && !row->is_dir && row->in_s3 && row->etag != NULL && !claim_is(row);
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
	apart = a->key == NULL || row->is_dir ? NULL
			: index_at_s3(ix, &OFS_OID_APART, a->key + strlen(a->v->prefix), false);
	if (a->key == NULL || (apart != NULL && apart != row)) {
		delete_finished(a); /* nothing is there, or what stands apart there */
		return;
	}
	a->deleting_ns = heir_deleting_ns(row);
	if (a->deleting_ns == 0 && delete_may_hide(a)) {
		heir_deleting(ix, row, a->since_ns);
	}
	index_commit(ix, delete_committed, a);
}
