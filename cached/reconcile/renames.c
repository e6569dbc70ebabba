/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: a client's rename of a directory, in S3.
 * Way: step.c -> rename_directory -> pmove.c -> row. adopt.c finishes what a lost node left behind.
 * Thread: core.
 * Owns: nothing; the attempt ends here.
 * Holds:
 *  1. nothing is copied before the intent object is in the bucket;
 *  2. the row moves only when all is done; until then everything below waits (step.c);
 *  3. what cannot be moved stops nothing: its row keeps its key (OFS_OID_APART), and its own item goes on
 *     with it: under a conflict name if its name is taken.
 *
 *   (limit.c) -> claim -> intent -> (pmove.c) -> what could not move stands apart -> intent removed -> row
 */
#include "private.h"
#include <string.h>

#define CUTOFF_SLACK_NS (5 * NS_PER_S) /* between the clocks */

/* What stands apart below it, since now or earlier, goes where its name says by itself. */
static void rename_wake_apart(struct attempt *a)
{
	struct index *ix = a->v->index;
	const struct row *apart = index_get(ix, &OFS_OID_APART);
	struct row *row;

	for (row = apart ? index_s3_child(ix, apart) : NULL; row != NULL; row = index_s3_next(ix, row)) {
		struct row *up = row;
		unsigned depth;

		for (depth = 0; depth < OBJ_KEY_MAX_BYTES && up != NULL && up->live == ROW_HERE &&
				up != a->row; depth++) {
			up = index_get(ix, &up->parent);
		}
		if (up == a->row) {
			work_follow(a->item, row);
		}
	}
}

static void rename_committed(int status, void *arg)
{
	struct attempt *a = arg;

	if (status != 0) {
		attempt_end_failed(a, "the index cannot be written: %s", strerror(-status));
		return;
	}
	stats_add(renames_dir, 1);
	rename_wake_apart(a);
	attempt_end_again(a, 0); /* its own metadata comes next */
}

/* Renames below it that have begun: all their keys are younger now than their cut-offs, and these begin anew. */
static void rename_renew_below(struct index *ix, const struct row *dir)
{
	for (struct row *row = index_s3_child(ix, dir); row != NULL; row = index_s3_next(ix, row)) {
		struct row *claim = row->is_dir ? claim_get(ix, row) : NULL;
		char *etag = claim != NULL && claim->etag != NULL ? talloc_strdup(NULL, claim->etag) : NULL;
		char *tag = claim != NULL ? talloc_strdup(NULL, claim->version_id) : NULL;

		if (tag != NULL) {
			index_set_fence(ix, claim, etag, tag, &claim->wid, 0, claim->s3_mtime_ns);
		}
		talloc_free(etag);
		talloc_free(tag);
		if (row->is_dir) {
			rename_renew_below(ix, row);
		}
	}
}

static void rename_intent_gone(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;

	if (st != OBJ_OK) {
		attempt_end_store(a, "removing the note of a directory rename", st, message);
		return;
	}
	claim_redeem(a, NULL, false);
	rename_renew_below(a->v->index, a->row);
	index_commit(a->v->index, rename_committed, a);
}

/* What could not be moved leaves the directory: its key does not change with that any more. */
static void rename_set_apart(struct pmove *m)
{
	struct index *ix = m->v->index;
	unsigned i;

	for (i = 0; m->stay > 0 && i < m->count; i++) {
		const struct pkey *k = &m->keys[i];
		struct row *row = NULL;
		char *key;

		if (k->stays == STAY_TAKEN || k->stays == STAY_ARCHIVED || k->stays == STAY_REFUSED ||
				k->stays == STAY_APART) {
			row = pmove_row(m, k->suffix);
		}
		if (row == NULL || row->is_dir) {
			continue;
		}
		key = talloc_asprintf(m, "%s%s", m->from + strlen(m->v->prefix), k->suffix);
		if (key != NULL) {
			index_set_apart(ix, row, key);
		}
		talloc_free(key);
	}
}

/* The intent goes before the row moves: left behind, it would one day move a new directory of the
 * old name. Until the row has moved the claim repeats the whole, which then finds nothing to do. */
static void rename_moved(struct pmove *m, enum obj_status st, const char *message)
{
	struct attempt *a = m->arg;
	char hex[OFS_OID_HEX_BYTES];

	if (st != OBJ_OK) {
		attempt_end_store(a, "renaming a directory", st, message);
		return;
	}
	rename_set_apart(m);
	if (ofs_oid_equal(&a->parent, &OFS_OID_STAGE)) {
		/* Parked: its intent stays until it has left again. */
		a->item->stage = false;
		rename_intent_gone(OBJ_OK, NULL, a);
		return;
	}
	ofs_oid_hex(&a->oid, hex);
	rename_intent(a->v, hex, NULL, NULL, 0, rename_intent_gone, a);
}

static void rename_removal_committed(int status, void *arg)
{
	struct pmove *m = arg;

	if (status != 0) {
		m->failed = OBJ_LOCAL; /* and so it ends before the first delete */
	}
	pmove_remove(m);
}

/* What is found under an old name after this is somebody's new object, also after a kill. */
static void rename_copied(struct pmove *m)
{
	struct attempt *a = m->arg;

	index_set_object(a->v->index, a->replaced, true);
	index_commit(a->v->index, rename_removal_committed, m);
}

static void rename_intent_put(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;
	struct pmove *m;

	if (st != OBJ_OK) {
		attempt_end_store(a, "noting a directory rename", st, message);
		return;
	}
	m = pmove_new(a->v, a->old_key, a->key);
	if (m == NULL) {
		attempt_end_failed(a, "out of memory");
		return;
	}
	m->item = a->item;
	m->dir = a->oid;
	m->cutoff_ns = a->replaced->s3_size;
	m->removing = a->replaced->has_object;
	m->copied = rename_copied;
	m->done = rename_moved;
	m->arg = a;
	pmove_start(m);
}

/* By the store's clock, as well as it is known. The claim keeps it in place of a size (and has an object once
 * every copy is there): what is found after a
 * restart is measured by the moment of the first try. */
static void rename_set_cutoff(struct attempt *a)
{
	struct row *claim = a->replaced;
	int64_t now = objstore_now_ns(a->v->store, a->v->clock) + CUTOFF_SLACK_NS;
	char *etag = claim->etag ? talloc_strdup(a, claim->etag) : NULL;
	char *tag = talloc_strdup(a, claim->version_id);

	index_set_fence(a->v->index, claim, etag, tag, &claim->wid, now, claim->s3_mtime_ns);
}

/* The same after a kill: nothing that comes now is taken for older. */
static void rename_cutoff_committed(int status, void *arg)
{
	struct attempt *a = arg;
	char hex[OFS_OID_HEX_BYTES];

	if (status != 0) {
		attempt_end_failed(a, "the index cannot be written: %s", strerror(-status));
		return;
	}
	ofs_oid_hex(&a->oid, hex);
	if (ofs_oid_equal(&a->parent, &OFS_OID_STAGE)) {
		rename_intent(a->v, hex, a->key, a->upload_if_match, a->replaced->s3_size,
				rename_intent_put, a);
		return;
	}
	rename_intent(a->v, hex, a->old_key, a->key, a->replaced->s3_size, rename_intent_put, a);
}

static void rename_claimed(struct attempt *a)
{
	if (claim_is_busy_below(a->item->rc, a->row)) {
		/* From the claim on nothing new begins below; what had begun ends soon. */
		attempt_end_postponed(a, 50 * NS_PER_MS, "files in it are being sent");
		return;
	}
	if (a->replaced->s3_size == 0) {
		rename_set_cutoff(a);
	}
	index_commit(a->v->index, rename_cutoff_committed, a);
}

/* Where whoever finds the disk lost puts a directory that is being parked, or is: beside its old
 * place, which may be another's by then, and whether or not all of it was copied. */
static char *stage_refuge(struct attempt *a, const char *old_key)
{
	char hex[OFS_OID_HEX_BYTES];

	ofs_oid_hex(&a->oid, hex);
	return talloc_asprintf(
			a, "%.*s (renamed %.8s)/", (int)strlen(old_key) - 1, old_key, hex);
}

void rename_directory(struct attempt *a)
{
	if (strncmp(a->key, a->old_key, strlen(a->old_key)) == 0) {
		/* Never: what is listed would be what was copied. */
		attempt_end_failed(a, "its new place in S3 would be inside itself");
		return;
	}
	if (ofs_oid_equal(&a->parent, &OFS_OID_STAGE)) {
		a->upload_if_match = stage_refuge(a, a->old_key);
		if (a->upload_if_match == NULL) {
			attempt_end_failed(a, "out of memory");
			return;
		}
	}
	if (a->replaced != NULL) {
		rename_claimed(a);
	} else if (limit_allows(a)) {
		claim_make(a, rename_claimed);
	}
}

bool rename_finish(struct attempt *a)
{
	struct index *ix = a->v->index;
	struct row *row = a->row, *claim = row->in_s3 ? claim_get(ix, row) : NULL, *above;

	if (claim == NULL || work_is_running(claim)) {
		return false;
	}
	above = claim_above(ix, claim);
	if (above != NULL) {
		attempt_end_blocked(a, above, "its directory is being renamed in S3");
		return true;
	}
	a->parent = claim->s3_parent;
	a->raw = talloc_strdup(a, claim->s3_name);
	a->replaced = claim;
	a->old_key = index_key(ix, a, a->v->prefix, &row->s3_parent, row->s3_name, true, NULL);
	a->key = a->raw ? index_key(ix, a, a->v->prefix, &a->parent, a->raw, true, NULL) : NULL;
	if (a->old_key == NULL || a->key == NULL) {
		return false;
	}
	rename_directory(a);
	return true;
}

void stage_directory(struct attempt *a)
{
	struct index *ix = a->v->index;
	struct row *row = a->row, *claim = claim_get(ix, row);
	char hex[OFS_OID_HEX_BYTES];

	if (claim != NULL && (!ofs_oid_equal(&claim->s3_parent, &OFS_OID_STAGE) ||
					     work_is_running(claim))) {
		a->item->stage = false;
		attempt_end_postponed(a, 0, "a rename that was begun is finished first");
		return;
	}
	ofs_oid_hex(&a->oid, hex);
	a->parent = OFS_OID_STAGE;
	a->raw = talloc_strdup(a, hex);
	a->old_key = index_key(ix, a, a->v->prefix, &row->s3_parent, row->s3_name, true, NULL);
	a->key = a->raw ? index_key(ix, a, a->v->prefix, &a->parent, hex, true, NULL) : NULL;
	if (a->old_key == NULL || a->key == NULL || ofs_oid_equal(&row->s3_parent, &OFS_OID_STAGE)) {
		a->item->stage = false;
		attempt_end_postponed(a, NS_PER_S, "its name cannot be parked");
		return;
	}
	a->replaced = claim;
	rename_directory(a);
}
