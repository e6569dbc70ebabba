/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: where an item belongs in S3, and who must go first.
 * Way: step.c -> step_target, step_directories -> the attempt's keys, or its end.
 * Thread: core. Owns: nothing.
 * Holds:
 *  1. a key held by another row is never written blindly: a trashed row's fence is the condition, a
 *     living row moves away first;
 *  2. no two rows stand for one key: directories above appear in S3 all together, their names free;
 *  3. what waits names whom it waits for, so that circles can be seen (cycle.c).
 */
#include "private.h"
#include <string.h>

#define STEP_DEPTH_MAX 600 /* a key has 1,024 bytes: deeper no path goes */

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
		if (dir->in_s3 && (claim_get(ix, dir) != NULL || (!step_at_home(dir) && !limit_holds(dir)))) {
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
	req->may_lack = true;
	req->done = step_occupant_seen;
	req->arg = o;
	objstore_submit(a->v->store, req);
}

struct row *step_apart_at(struct index *ix, const struct ofs_oid *parent, const char *raw)
{
	char *below = index_key(ix, NULL, "", parent, raw, false, NULL);
	struct row *row = below != NULL ? index_at_s3(ix, &OFS_OID_APART, below, false) : NULL;

	talloc_free(below);
	return row;
}

/* Its directory has come back to where the object is: its place is what its name says. */
static bool step_comes_back(struct attempt *a, struct row *claim)
{
	struct index *ix = a->v->index;
	struct row *row = a->row, *occupant = index_at_s3(ix, &a->parent, a->raw, false);

	if (!row_is_apart(row) || strcmp(a->old_key, a->key) != 0 ||
			(occupant != NULL && occupant != claim)) {
		return false;
	}
	a->replaced = claim;
	claim_drop(a);
	redirect_end(a->item->rc, a->key);
	index_set_s3(ix, row, &a->parent, a->raw);
	TALLOC_FREE(a->old_key);
	return true;
}

/* Its key is that of another object, which stands apart and may have to stay: then this one is called by the
 * name, and stays where it is, or goes to a key beside it. */
static enum redirect_home step_gives_way(struct attempt *a, struct row *claim)
{
	static const char why[] = "its key in S3 is that of an object that cannot be moved";
	struct row *apart = index_at_s3(a->v->index, &OFS_OID_APART, a->key + strlen(a->v->prefix), false);
	bool ending, held = redirect_holds(a->item->rc, a->key, &ending);

	if (apart == a->row || (apart == NULL && !held)) {
		return REDIRECT_NONE;
	}
	if (apart != NULL && apart->work != NULL) {
		attempt_end_blocked(a, apart, "another file must leave its name in S3 first");
	} else if (ending) {
		attempt_end_postponed(a, NS_PER_S, "the note of what was at its name is removed first");
	} else if (claim != NULL) {
		attempt_end_blocked(a, claim, "an unfinished copy is removed first");
	} else if (a->old_key != NULL && !ofs_oid_equal(&a->row->s3_parent, &OFS_OID_STAGE)) {
		redirect_item(a, why);
	} else {
		return redirect_beside(a, why);
	}
	return REDIRECT_WAIT;
}

/* Where a file's object has its home, if not where its name says. false: the attempt has ended or will. */
static bool step_home(struct attempt *a, struct row *claim, bool *settled)
{
	enum redirect_home home = REDIRECT_NONE;

	*settled = a->old_key != NULL && step_comes_back(a, claim);
	if (*settled) {
		return true;
	}
	if (a->old_key != NULL && claim == NULL) {
		home = redirect_home(a);
		*settled = home == REDIRECT_HOME;
	}
	if (home == REDIRECT_NONE) {
		home = step_gives_way(a, claim);
	}
	return home != REDIRECT_WAIT;
}

bool step_target(struct attempt *a)
{
	struct index *ix = a->v->index;
	struct row *row = a->row, *occupant, *moving, *copying;
	struct row *claim = claim_get(ix, row);
	bool lost, too_long = false, settled = false;

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
	if (!row->is_dir && !step_home(a, claim, &settled)) {
		return false;
	}
	if (settled) {
		return true;
	}
	occupant = index_at_s3(ix, &a->parent, a->raw, row->is_dir);
	if (claim != NULL && claim == occupant && !work_is_running(claim)) {
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
	copying = claim_owner(ix, occupant);
	if (copying != NULL && work_is_running(copying)) {
		attempt_end_blocked(a, copying, "a copy to its name is under way");
		return false;
	}
	if (occupant->live == ROW_TRASHED && !row->is_dir && a->old_key == NULL &&
			!work_is_running(occupant) && heir_deleting_ns(occupant) == 0) {
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
		if (rc->scan_begin_ns <= a->item->first_ns) { /* a scan since then has seen it */
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

/* Implied by what will be in them: renamed before their own markers are there, they take it along. All
 * of them or none, and every name must be free: else two rows would stand for one key. */
bool step_directories(struct attempt *a)
{
	struct index *ix = a->v->index;
	struct row *dir, *taken = step_taken_directory(ix, &a->parent);
	struct ofs_oid at = a->parent;
	unsigned depth;
	bool missing;

	if (taken != NULL) {
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
