/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: remember, before it is written, every key that may come to hold a copy of ours.
 * Way: move.c and renames.c claim before they copy and redeem after it; target.c asks.
 * Thread: core.
 * Owns: the claim rows: oid derived from the row's, ROW_TRASHED, in S3 at the place claimed, CLAIM_TAG
 *       in place of a version: deriving is its own inverse, so the ids do not say which is which.
 * Holds:
 *  1. a claim is committed before the first copy to its key;
 *  2. a row has one claim at most; a file whose target has changed deletes the claimed key first, a
 *     directory finishes the claimed move first;
 *  3. redeeming is one commit: the row is at the new place, the old key belongs to a trashed row.
 *
 *   (none) --claim_make--> claimed --claim_redeem--> (none), row moved
 *                              \-------- item of the claim: key deleted --> (none)
 */
#include "private.h"
#include <errno.h>
#include <string.h>

#define CLAIM_LOOK_NS (100 * NS_PER_MS)
#define CLAIM_TAG "claim"

bool claim_is(const struct row *row)
{
	return row != NULL && row->version_id != NULL && strcmp(row->version_id, CLAIM_TAG) == 0;
}

static void claim_oid(const struct ofs_oid *of, struct ofs_oid *oid)
{
	unsigned i;

	for (i = 0; i < sizeof(oid->bytes); i++) {
		oid->bytes[i] = of->bytes[i] ^ 0xa5;
	}
}

struct row *claim_get(struct index *ix, const struct row *row)
{
	struct ofs_oid oid;
	struct row *c;

	claim_oid(&row->oid, &oid);
	c = index_get(ix, &oid);
	return claim_is(c) && c->in_s3 && c->live == ROW_TRASHED ? c : NULL;
}

struct row *claim_owner(struct index *ix, const struct row *claim)
{
	struct ofs_oid oid;

	if (!claim_is(claim)) {
		return NULL;
	}
	claim_oid(&claim->oid, &oid);
	return index_get(ix, &oid);
}

struct claim_commit {
	struct attempt *a;
	void (*go_on)(struct attempt *a);
};

static void claim_committed(int status, void *arg)
{
	struct claim_commit *cc = arg;
	struct attempt *a = cc->a;
	void (*go_on)(struct attempt *) = cc->go_on;

	talloc_free(cc);
	if (status != 0) {
		attempt_end_failed(a, "the index cannot be written: %s", strerror(-status));
		return;
	}
	go_on(a);
}

void claim_make(struct attempt *a, void (*go_on)(struct attempt *a))
{
	struct index *ix = a->v->index;
	struct claim_commit *cc = talloc_zero(a, struct claim_commit);
	struct ofs_oid oid;
	struct row *c;

	claim_oid(&a->oid, &oid);
	c = index_add(ix, &oid, a->row->is_dir);
	if (cc == NULL || c == NULL) {
		attempt_end_failed(a, "out of memory");
		return;
	}
	index_set_live(ix, c, ROW_TRASHED);
	index_set_s3(ix, c, &a->parent, a->raw);
	/* A directory's has the cut-off in place of a size, and an object once all is copied: renames.c. */
	index_set_fence(ix, c, move_etag(a), CLAIM_TAG, a->found != NULL ? &a->found->wid : &a->row->wid,
			a->row->is_dir ? 0 : a->row->s3_size, a->row->s3_mtime_ns);
	index_set_object(ix, c, !a->row->is_dir);
	a->replaced = c;
	cc->a = a;
	cc->go_on = go_on;
	index_commit(ix, claim_committed, cc);
}

/* The row without a place in S3; its item, if any, finds nothing to do. */
static void claim_forget(struct index *ix, struct row *c)
{
	index_clear_s3(ix, c);
	index_set_live(ix, c, ROW_NOT_HERE);
	if (c->work == NULL && !row_has_children(c)) {
		index_remove(ix, c);
	}
}

void claim_drop(struct attempt *a)
{
	if (a->replaced != NULL) {
		claim_forget(a->v->index, a->replaced);
		a->replaced = NULL;
	}
}

void claim_redeem(struct attempt *a, const char *etag, bool leave_old)
{
	struct index *ix = a->v->index;
	struct row *row = a->row, *old = NULL;
	struct ofs_oid parent = row->s3_parent;
	char *raw = talloc_strdup(a, row->s3_name);
	char *fence = row->etag ? talloc_strdup(a, row->etag) : NULL;
	const struct ofs_oid wid = row->wid;
	const struct found *f = a->found;
	char *version = f != NULL && row->version_id ? talloc_strdup(a, row->version_id) : NULL;
	int64_t size = row->s3_size, mtime_ns = row->s3_mtime_ns;
	bool plain = row->plain && a->item->inherited == NULL;
	uint64_t data_gen = row->s3_data_gen, meta_gen = row->s3_meta_gen;

	if (leave_old && raw != NULL) {
		old = f != NULL ? heir_leave(a->item, &a->oid, &parent, raw, f->etag, &f->wid, f->size, f->mtime_ns)
				: heir_leave(a->item, &a->oid, &parent, raw, fence, &wid, size, mtime_ns);
	}
	claim_drop(a);
	index_set_s3(ix, row, &a->parent, a->raw);
	if (f != NULL) {
		index_set_fence(ix, row, fence, version, &wid, size, mtime_ns);
	} else if (etag != NULL) {
		index_set_fence(ix, row, etag, NULL, &wid, size, mtime_ns);
	}
	index_set_plain(ix, row, plain);
	index_set_gens(ix, row, data_gen, meta_gen);
	index_set_object(ix, row, row->is_dir ? row->has_object : true);
	if (old != NULL) {
		work_follow(a->item, old);
	}
}

struct row *claim_above(struct index *ix, const struct row *row)
{
	struct ofs_oid at = row->s3_parent;
	unsigned depth;

	for (depth = 0; depth < 600 && !ofs_oid_is_none(&at); depth++) {
		struct row *dir = index_get(ix, &at);

		if (dir == NULL || !dir->in_s3) {
			return NULL;
		}
		if (claim_get(ix, dir) != NULL) {
			return dir;
		}
		at = dir->s3_parent;
	}
	return NULL;
}

bool claim_is_busy_below(struct reconcile *rc, const struct row *dir)
{
	struct index *ix = rc->v->index;
	const struct attempt *a;

	for (a = rc->attempts; a != NULL; a = a->next) {
		const struct ofs_oid *starts[2] = {&a->row->s3_parent, &a->parent};
		unsigned i;

		if (a->row == dir) {
			continue;
		}
		for (i = 0; i < 2; i++) {
			struct ofs_oid at = *starts[i];
			unsigned depth;

			for (depth = 0; depth < 600 && !ofs_oid_is_none(&at); depth++) {
				const struct row *up = index_get(ix, &at);

				if (ofs_oid_equal(&at, &dir->oid)) {
					return true;
				}
				if (up == NULL) {
					break;
				}
				at = up->in_s3 ? up->s3_parent : up->parent;
			}
		}
	}
	return false;
}

/* ---- for those who read S3 while a directory moves ---- */

struct still {
	struct reconcile *rc;
	struct ofs_oid dir;
	int64_t deadline_ns;
	void (*fn)(void *arg, int status);
	void *arg;
};

static bool still_moves(const struct reconcile *rc, const struct ofs_oid *oid)
{
	struct index *ix = rc->v->index;
	const struct row *dir = index_get(ix, oid);

	return rc->unseen > 0 || (rc->unseen_gone && rc->scans_running > 0 && !rc->intents_read) ||
	       (dir != NULL && (claim_get(ix, dir) != NULL || claim_above(ix, dir) != NULL));
}

static void still_look(void *arg)
{
	struct still *s = arg;
	struct clock *clock = s->rc->v->clock;
	int64_t now = clock_now_ns(clock);
	bool moving = still_moves(s->rc, &s->dir);

	if (moving && now < s->deadline_ns &&
			clock_timer_add(clock, s, now + CLAIM_LOOK_NS, still_look, s) != NULL) {
		return;
	}
	talloc_steal(s->rc, s); /* fn may free the ctx */
	s->fn(s->arg, moving ? -EAGAIN : 0);
	talloc_free(s);
}

void reconcile_when_still(struct reconcile *rc, TALLOC_CTX *ctx, const struct ofs_oid *dir,
		int64_t wait_ns, void (*fn)(void *arg, int status), void *arg)
{
	struct still *s;

	if (!still_moves(rc, dir)) {
		fn(arg, 0);
		return;
	}
	s = talloc_zero(ctx, struct still);
	if (s == NULL) {
		fn(arg, -ENOMEM);
		return;
	}
	s->rc = rc;
	s->dir = *dir;
	s->deadline_ns = clock_now_ns(rc->v->clock) + wait_ns;
	s->fn = fn;
	s->arg = arg;
	still_look(s);
}

char *reconcile_moving_key(struct reconcile *rc, TALLOC_CTX *ctx, const struct row *row, unsigned n)
{
	struct index *ix = rc->v->index;
	struct ofs_oid at = row->s3_parent;
	char *below = row->in_s3 ? talloc_strdup(ctx, row->s3_name) : NULL, *next, *key;

	while (n != 0 && below != NULL && strlen(below) <= OBJ_KEY_MAX_BYTES) {
		const struct row *dir = index_get(ix, &at), *claim, *place;

		if (dir == NULL || !dir->in_s3) {
			break;
		}
		claim = claim_get(ix, dir);
		place = claim != NULL && (n & 1) != 0 ? claim : dir;
		n = claim != NULL ? n >> 1 : n;
		next = talloc_asprintf(ctx, "%s/%s", place->s3_name, below);
		at = place->s3_parent;
		talloc_free(below);
		below = next;
	}
	key = n == 0 && below != NULL
		      ? index_key(ix, ctx, rc->v->prefix, &at, below, row->is_dir, NULL)
		      : NULL;
	talloc_free(below);
	return key;
}
