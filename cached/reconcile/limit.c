/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the rename of a directory that has very many objects, or archived ones, or costs much is not begun in S3
 *       before somebody has allowed it.
 * Way: renames.c asks, before its claim; LIST of what would move -> the item, with its limit, begins again.
 *      admin/ -> reconcile_allow_renames. pmove.c tallies what it moves, for people.
 * Thread: core.
 * Owns: struct counting until its last page; the limit belongs to the item.
 * Holds:
 *  1. nothing is claimed, nor written, before the limits are known to be kept, or allowed; what was begun is
 *     finished, whatever it costs;
 *  2. while it is held the directory is where it was in S3, and what is below it goes on being sent there;
 *  3. counting ends with the page that passes a limit.
 */
#include "private.h"
#include <stdlib.h>
#include <string.h>

#define LIMIT_AGAIN_NS (3600 * NS_PER_S) /* nothing changes by itself */
#define GIB_BYTES 1073741824.0

/* AWS's public list for us-east-1 ("Amazon S3 pricing"): a COPY to the same class, and what is read for it. */
#define HEAD_USD 0.0000004
#define PUT_USD 0.000005
static const struct {
	const char *name;
	double copy_usd, gib_usd;
	bool archived;
} classes[] = {
	{"STANDARD_IA", 0.00001, 0.01, false},
	{"ONEZONE_IA", 0.00001, 0.01, false},
	{"GLACIER_IR", 0.00002, 0.03, false},
	{"GLACIER", 0, 0, true},
	{"DEEP_ARCHIVE", 0, 0, true},
};

void tally_add(struct tally *t, const struct volume *v, const struct obj_entry *e)
{
	double copy_usd = PUT_USD, gib_usd = 0;
	bool archived = false;
	size_t i;

	for (i = 0; e->storage_class != NULL && i < sizeof(classes) / sizeof(classes[0]); i++) {
		if (strcmp(e->storage_class, classes[i].name) == 0) {
			copy_usd = classes[i].copy_usd;
			gib_usd = classes[i].gib_usd;
			archived = classes[i].archived;
		}
	}
	t->objects++;
	t->archived += archived;
	t->usd += 2 * HEAD_USD;
	if (archived) {
		t->usd += PUT_USD; /* the note of where it stays */
		return;
	}
	if (e->size > v->conf->copy_limit_bytes) {
		int64_t part_bytes = upload_part_bytes(v->conf, e->size);

		copy_usd += (double)(e->size / part_bytes + 1) * (PUT_USD + HEAD_USD);
	}
	t->usd += copy_usd + gib_usd * (double)e->size / GIB_BYTES;
	t->usd += v->store->caps.delete_if_match ? 0 : PUT_USD; /* the tombstone */
}

/* Has it passed one? Then it says so. */
static bool limit_passes(struct limit *l, const struct conf_volume *conf)
{
	char *what = NULL;

	if (conf->rename_limit != 0 && l->tally.objects > conf->rename_limit) {
		what = talloc_asprintf(l, "more than %u objects", conf->rename_limit);
	} else if (conf->rename_limit_archived != 0 && l->tally.archived > conf->rename_limit_archived) {
		what = talloc_asprintf(l, "more than %u archived objects, which would stay under the old name",
				conf->rename_limit_archived);
	} else if (conf->rename_limit_cost != 0 && l->tally.usd > conf->rename_limit_cost) {
		what = talloc_asprintf(l, "it would cost more than $%u", conf->rename_limit_cost);
	} else {
		return false;
	}
	l->why = talloc_asprintf(l, "not begun in S3: %s; objectfsctl renames --allow, or rename it back",
			what != NULL ? what : "too much");
	return true;
}

struct counting { /* talloc child of the attempt */
	struct attempt *a;
	struct limit *limit;
};

static void limit_list(struct counting *c, const char *token);

static void limit_counted(struct counting *c)
{
	struct attempt *a = c->a;
	struct limit *l = talloc_steal(a->item, c->limit);

	talloc_free(a->item->limit);
	a->item->limit = l;
	if (l->over) {
		stats_add(renames_held, 1);
		log_warning("reconcile", "the rename of %s to %s is %s", a->old_key, a->key,
				l->why != NULL ? l->why : "not begun in S3");
	}
	attempt_end_again(a, 0); /* its place may have been taken meanwhile */
}

static void limit_listed(struct obj_req *req)
{
	struct counting *c = req->arg;
	struct obj_result *r = &req->result;
	struct limit *l = c->limit;
	unsigned i;

	if (r->status != OBJ_OK) {
		attempt_end_store(c->a, "counting what a rename moves", r->status, r->message);
		objstore_req_free(&req);
		return;
	}
	for (i = 0; i < r->entry_count && !l->over; i++) {
		if (!r->entries[i].is_prefix) {
			tally_add(&l->tally, c->a->v, &r->entries[i]);
			l->over = limit_passes(l, c->a->v->conf);
		}
	}
	if (r->next_token != NULL && !l->over) {
		limit_list(c, r->next_token);
	} else {
		limit_counted(c);
	}
	objstore_req_free(&req);
}

static void limit_list(struct counting *c, const char *token)
{
	struct obj_req *req = objstore_req_new(OBJ_LIST, c->a->old_key);

	if (req == NULL || (token != NULL && (req->token = strdup(token)) == NULL)) {
		objstore_req_free(&req);
		attempt_end_failed(c->a, "out of memory");
		return;
	}
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = limit_listed;
	req->arg = c;
	objstore_submit(c->a->v->store, req);
}

bool limit_allows(struct attempt *a)
{
	const struct conf_volume *conf = a->v->conf;
	struct limit *l = a->item->limit;
	struct counting *c;

	if ((conf->rename_limit == 0 && conf->rename_limit_archived == 0 && conf->rename_limit_cost == 0) ||
			ofs_oid_equal(&a->row->s3_parent, &OFS_OID_STAGE)) {
		return true;
	}
	if (l != NULL && strcmp(l->from, a->old_key) == 0) {
		if (l->over && !l->allowed) {
			attempt_end_postponed(a, LIMIT_AGAIN_NS, "%s", l->why != NULL ? l->why : "out of memory");
			return false;
		}
		return true;
	}
	c = talloc_zero(a, struct counting);
	if (c == NULL || (c->limit = talloc_zero(c, struct limit)) == NULL ||
			(c->limit->from = talloc_strdup(c->limit, a->old_key)) == NULL) {
		attempt_end_failed(a, "out of memory");
		return false;
	}
	c->a = a;
	limit_list(c, NULL);
	return false;
}

bool limit_holds(const struct row *row)
{
	const struct work *w = row->work;
	const struct limit *l = w != NULL ? w->limit : NULL;

	return l != NULL && l->over && !l->allowed && row->in_s3 && row->live == ROW_HERE && !step_at_home(row);
}

void limit_over(struct reconcile *rc, struct row *row)
{
	struct work *w = row->work;

	if (w != NULL && w->limit != NULL && w->limit->over) {
		TALLOC_FREE(w->limit);
		work_item(rc, row, 0);
	}
}

unsigned reconcile_renames_held(const struct reconcile *rc)
{
	unsigned n = 0;

	for (const struct work *w = rc->works; w != NULL; w = w->next) {
		n += w->kind == WORK_ITEM && limit_holds(w->row);
	}
	return n;
}

unsigned reconcile_allow_renames(struct reconcile *rc, const char *path)
{
	size_t len = path != NULL && strcmp(path, ".") != 0 ? strlen(path) : 0;
	struct work *w, *next;
	unsigned n = 0;

	for (w = rc->works; w != NULL; w = next) {
		char *at;

		next = w->next;
		if (w->kind != WORK_ITEM || !limit_holds(w->row)) {
			continue;
		}
		at = work_path(rc, w);
		if (at != NULL && (len == 0 || (strncmp(at, path, len) == 0 &&
						(at[len] == '\0' || at[len] == '/')))) {
			w->limit->allowed = true;
			log_notice("reconcile", "the rename of %s to %s is allowed", w->limit->from, at);
			work_item(rc, w->row, 0);
			n++;
		}
		talloc_free(at);
	}
	return n;
}
