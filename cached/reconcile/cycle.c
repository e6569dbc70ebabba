/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: find items that wait for each other in a circle, and open it: one of them is parked.
 * Way: attempt.c, when an item must wait for another -> here -> that item runs with `stage` set.
 * Thread: core. Owns: nothing.
 * Holds:
 *  1. the graph is read from the index, not from what waits just now: an item that has not come to
 *     wait yet counts already;
 *  2. only an item whose leaving is waited for (by who wants its name, or by the deletion of its
 *     directory) is parked: parking frees its place in S3 and nothing else;
 *  3. a directory with a claim is never parked: it finishes what it began, and waits for nothing but
 *     other claims.
 */
#include "private.h"
#include <string.h>

#define CYCLE_STEPS_MAX 1000

/* What must happen before `r` can go on; *name: it is that one's leaving its place in S3. */
static struct row *cycle_next(struct index *ix, struct row *r, bool *name)
{
	struct row *claim, *above, *at;
	bool lost;
	char *raw;

	*name = false;
	above = r->in_s3 ? claim_above(ix, r) : NULL;
	if (above != NULL) {
		return above;
	}
	claim = claim_owner(ix, r);
	if (r->is_dir && claim != NULL && claim->in_s3) {
		return claim; /* `r` is one: who made it finishes what it began */
	}
	claim = claim_get(ix, r);
	if (r->live == ROW_TRASHED && r->is_dir && claim == NULL) {
		*name = true;
		return delete_first_child(ix, r);
	}
	if (r->live != ROW_HERE || (r->in_s3 && step_at_home(r))) {
		return NULL;
	}
	if (claim != NULL && r->is_dir) {
		return claim_above(ix, claim);
	}
	above = step_moving_ancestor(ix, r, &lost);
	if (above == NULL && !lost) {
		above = step_taken_directory(ix, &r->parent);
	}
	if (above != NULL || lost) {
		return above;
	}
	raw = name_to_raw(NULL, r->name, r->is_dir);
	at = raw != NULL ? index_at_s3(ix, &r->parent, raw, r->is_dir) : NULL;
	if (at == NULL && raw != NULL && !r->is_dir) {
		at = step_apart_at(ix, &r->parent, raw);
		at = at != NULL && at->work != NULL ? at : NULL;
	}
	talloc_free(raw);
	*name = true;
	return at == r ? NULL : at;
}

static bool cycle_may_park(struct index *ix, const struct row *r)
{
	return r->live == ROW_HERE && r->in_s3 &&
	       !ofs_oid_equal(&r->s3_parent, &OFS_OID_STAGE) &&
	       (!r->is_dir || claim_get(ix, r) == NULL) && !work_is_running(r);
}

void cycle_break(struct row *start)
{
	struct work *from = start->work;
	struct index *ix = from->rc->v->index;
	struct row *r = start, *park = NULL;
	struct work *w;
	unsigned n;
	bool name;

	for (n = 0; n < CYCLE_STEPS_MAX; n++) {
		r = cycle_next(ix, r, &name);
		if (r == NULL) {
			return;
		}
		if (name && cycle_may_park(ix, r) && (park == NULL || (park->is_dir && !r->is_dir))) {
			park = r;
		}
		if (r == start) {
			break;
		}
	}
	/* A circle that does not lead back to `start` is found by those in it. */
	if (r != start || park == NULL) {
		return;
	}
	w = park->work;
	if (w != NULL && w->stage) {
		return; /* asked for already: it waits for an unfinished copy of its own, perhaps */
	}
	w = work_follow(from, park);
	if (w != NULL) {
		log_debug("reconcile", "%s: parked, names were exchanged", park->name);
		w->stage = true;
		work_unblock(w);
	}
}
