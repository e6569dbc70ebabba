/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: objects that cannot follow their new names (archived, or refused by the store): where each of them
 *       is, and what it is called.
 * Way: pmove.c, adopt.c -> redirect_put; move.c and target.c -> redirect_item, redirect_beside; adopt.c loads
 *      what is in the bucket; mirror/ asks; whoever moves or deletes what is there ends it.
 * Thread: core.
 * Owns: the table, which is what .objectfs/rename/<hash of the old key>.stays say, and its timers.
 * Holds:
 *  1. a redirect is in the bucket before anything counts on it, and in the table until it has left the
 *     bucket: the old key is nobody else's before that;
 *  2. one redirect for an object; a new name replaces it, in one PUT;
 *  3. moving is tried again after a start, once a day, and when the object could be read; no client
 *     waits for it, and it is not pending.
 */
#include "private.h"
#include <stdlib.h>
#include <string.h>

#define REDIRECT_FIRST_NS (60 * NS_PER_S)
#define REDIRECT_AGAIN_NS (24 * 3600 * NS_PER_S)
#define REDIRECT_END_NS (10 * NS_PER_S)
#define REDIRECT_AT_ONCE 32u

struct redirect { /* talloc child of the table */
	char *from, *to; /* whole keys */
	char *why;
	bool retry;  /* moving is tried before it is believed */
	bool ending; /* its object has left the key: it is being removed */
	bool ended;  /* it has since the last PUT of the note began */
	bool busy;   /* a request is under way */
};

struct redirects {
	struct reconcile *rc;
	struct redirect **by_from, **by_to;
	unsigned count, cap;
	bool to_sorted; /* by_from always is */
	unsigned next; /* of those that no row stands for, when they are tried */
	struct clock_timer *timer, *end_timer;
};

/* ---- the table ---- */

static int to_compare(const void *a, const void *b)
{
	return strcmp((*(struct redirect *const *)a)->to, (*(struct redirect *const *)b)->to);
}

static struct redirects *redirects_of(struct reconcile *rc)
{
	if (rc->redirects == NULL) {
		rc->redirects = talloc_zero(rc, struct redirects);
		if (rc->redirects != NULL) {
			rc->redirects->rc = rc;
		}
	}
	return rc->redirects;
}

/* The first whose key is not below `key` in order. */
static unsigned redirect_at(struct redirects *t, const char *key, bool by_to)
{
	unsigned low = 0, high = t->count;

	if (by_to && !t->to_sorted && t->count > 0) {
		qsort(t->by_to, t->count, sizeof(*t->by_to), to_compare);
	}
	t->to_sorted = t->to_sorted || by_to;
	while (low < high) {
		unsigned middle = (low + high) / 2;
		const struct redirect *r = by_to ? t->by_to[middle] : t->by_from[middle];

		if (strcmp(by_to ? r->to : r->from, key) < 0) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

static struct redirect *redirect_find(struct reconcile *rc, const char *from)
{
	struct redirects *t = rc != NULL ? rc->redirects : NULL;
	unsigned i = t != NULL ? redirect_at(t, from, false) : 0;

	return t != NULL && i < t->count && strcmp(t->by_from[i]->from, from) == 0 ? t->by_from[i] : NULL;
}

static struct redirect *redirect_add(struct reconcile *rc, const char *from)
{
	struct redirects *t = redirects_of(rc);
	struct redirect *r = redirect_find(rc, from);
	unsigned at;

	if (r != NULL || t == NULL) {
		return r;
	}
	if (t->count == t->cap) {
		unsigned cap = t->cap ? 2 * t->cap : 64;
		struct redirect **f = talloc_realloc(t, t->by_from, struct redirect *, cap);
		struct redirect **o = talloc_realloc(t, t->by_to, struct redirect *, cap);

		t->by_from = f != NULL ? f : t->by_from;
		t->by_to = o != NULL ? o : t->by_to;
		if (f == NULL || o == NULL) {
			return NULL;
		}
		t->cap = cap;
	}
	r = talloc_zero(t, struct redirect);
	if (r == NULL || (r->from = talloc_strdup(r, from)) == NULL ||
			(r->to = talloc_strdup(r, "")) == NULL || (r->why = talloc_strdup(r, "")) == NULL) {
		talloc_free(r);
		return NULL;
	}
	at = redirect_at(t, from, false);
	memmove(&t->by_from[at + 1], &t->by_from[at], (t->count - at) * sizeof(*t->by_from));
	t->by_from[at] = t->by_to[t->count] = r;
	t->count++;
	t->next += at < t->next ? 1 : 0;
	t->to_sorted = false;
	stats_add(redirects, 1);
	return r;
}

static bool redirect_name(struct redirect *r, const char *to, const char *why)
{
	char *t = talloc_strdup(r, to), *w = talloc_strdup(r, why);

	if (t == NULL || w == NULL) {
		talloc_free(t);
		talloc_free(w);
		return false;
	}
	talloc_free(r->to);
	talloc_free(r->why);
	r->to = t;
	r->why = w;
	return true;
}

static void redirect_forget(struct redirects *t, struct redirect *r)
{
	unsigned i, f = 0, o = 0;

	for (i = 0; i < t->count; i++) {
		if (t->by_from[i] != r) {
			t->by_from[f++] = t->by_from[i];
		} else if (i < t->next) {
			t->next--;
		}
		if (t->by_to[i] != r) {
			t->by_to[o++] = t->by_to[i];
		}
	}
	t->count--;
	talloc_free(r);
	stats_add(redirects, -1);
}

static void redirects_clear(struct reconcile *rc)
{
	stats_add(redirects, rc->redirects != NULL ? -(int64_t)rc->redirects->count : 0);
	TALLOC_FREE(rc->redirects);
}

/* ---- in the bucket ---- */

static char *redirect_id(struct volume *v, TALLOC_CTX *ctx, const char *from)
{
	char hex[OFS_OID_HEX_BYTES];
	struct ofs_oid id;

	objmeta_foreign_oid(&v->uuid, from, &id);
	ofs_oid_hex(&id, hex);
	return talloc_asprintf(ctx, "%s" REDIRECT_SUFFIX, hex);
}

struct putting {
	struct reconcile *rc;
	char *from, *to, *why;
	redirect_done done;
	void *arg;
};

static void redirect_put_done(enum obj_status st, const char *message, void *arg)
{
	struct putting *p = arg;
	struct redirect *r = redirect_find(p->rc, p->from);

	if (r != NULL) {
		r->busy = false;
	}
	if (st == OBJ_OK && (r == NULL || !redirect_name(r, p->to, p->why))) {
		st = OBJ_LOCAL;
		message = "out of memory";
	}
	if (st == OBJ_OK) {
		r->ending = r->ended;
		r->retry = false;
		p->rc->redirects->to_sorted = false;
		log_notice("reconcile", "%s is called %s here and stays where it is: %s", p->from, p->to,
				p->why);
	} else if (r != NULL && *r->to == '\0') {
		redirect_forget(p->rc->redirects, r); /* it never was */
	}
	p->done(st, message, p->arg);
	talloc_free(p);
}

void redirect_put(struct volume *v, const char *from, const char *to, const char *why, redirect_done done,
		void *arg)
{
	struct redirect *r = redirect_add(v->reconcile, from);
	struct putting *p = talloc_zero(v->reconcile, struct putting);
	char *id = p != NULL ? redirect_id(v, p, from) : NULL;

	if (r == NULL || id == NULL || (p->from = talloc_strdup(p, from)) == NULL ||
			(p->to = talloc_strdup(p, to)) == NULL ||
			(p->why = talloc_strdup(p, why != NULL ? why : r->why)) == NULL) {
		talloc_free(p);
		if (r != NULL && !r->busy && *r->to == '\0') {
			redirect_forget(v->reconcile->redirects, r);
		}
		done(OBJ_LOCAL, "out of memory", arg);
		return;
	}
	if (r->busy) {
		talloc_free(p);
		done(OBJ_AWAY, "an earlier redirect of it is being removed", arg);
		return;
	}
	r->busy = true;
	r->ended = false;
	p->rc = v->reconcile;
	p->done = done;
	p->arg = arg;
	rename_intent_write(v, id, from, to, 0, p->why, redirect_put_done, p);
}

/* Who is called by the key that has become free can move there. */
static void redirect_wake(struct redirects *t, const char *key)
{
	struct index *ix = t->rc->v->index;
	const char *from = redirect_of(t->rc, key);
	struct row *row = from != NULL ? index_at_s3(ix, &OFS_OID_APART,
							 from + strlen(t->rc->v->prefix), false)
				       : NULL;

	if (row != NULL && row->live == ROW_HERE) {
		redirect_retry(t->rc, row);
	}
}

static void redirects_end(void *arg);

static void redirect_end_later(struct redirects *t)
{
	struct clock *clock = t->rc->v->clock;

	if (t->end_timer == NULL) {
		t->end_timer = clock_timer_add(clock, t, clock_now_ns(clock) + REDIRECT_END_NS,
				redirects_end, t);
	}
}

static void redirect_ended(enum obj_status st, const char *message, void *arg)
{
	struct putting *p = arg;
	struct redirect *r = redirect_find(p->rc, p->from);

	if (r != NULL) {
		r->busy = false;
	}
	if (r != NULL && st == OBJ_OK) {
		log_info("reconcile", "%s: nothing stays there any more", p->from);
		redirect_forget(p->rc->redirects, r);
		redirect_wake(p->rc->redirects, p->from);
	} else if (r != NULL) {
		log_info("reconcile", "%s: its redirect is not removed yet: %s", p->from,
				message ? message : objstore_status_name(st));
		redirect_end_later(p->rc->redirects);
	}
	talloc_free(p);
}

static void redirect_remove(struct redirects *t, struct redirect *r)
{
	struct putting *p = talloc_zero(t->rc, struct putting); /* the table may be loaded anew meanwhile */
	char *id = p != NULL ? redirect_id(t->rc->v, p, r->from) : NULL;

	if (id == NULL || (p->from = talloc_strdup(p, r->from)) == NULL) {
		talloc_free(p);
		redirect_end_later(t);
		return;
	}
	p->rc = t->rc;
	r->busy = true;
	rename_intent(t->rc->v, id, NULL, NULL, 0, redirect_ended, p);
}

static void redirects_end(void *arg)
{
	struct redirects *t = arg;
	unsigned i;

	t->end_timer = NULL;
	for (i = 0; i < t->count; i++) {
		if (t->by_from[i]->ending && t->by_from[i]->busy) {
			redirect_end_later(t);
		} else if (t->by_from[i]->ending) {
			redirect_remove(t, t->by_from[i]);
		}
	}
}

void redirect_end(struct reconcile *rc, const char *from)
{
	struct redirect *r = redirect_find(rc, from);

	if (r == NULL) {
		return;
	}
	r->ended = true;
	if (r->ending) {
		return;
	}
	r->ending = true;
	if (r->busy) {
		redirect_end_later(rc->redirects);
	} else {
		redirect_remove(rc->redirects, r);
	}
}

void redirect_end_row(struct reconcile *rc, const struct row *row)
{
	char *key = row_is_apart(row) ? talloc_asprintf(rc, "%s%s", rc->v->prefix, row->s3_name) : NULL;

	if (key != NULL) {
		redirect_end(rc, key);
	}
	talloc_free(key);
}

/* ---- what is asked ---- */

bool redirect_is_from(struct reconcile *rc, const char *key)
{
	const struct redirect *r = redirect_find(rc, key);

	return r != NULL && !r->ending;
}

bool redirect_holds(struct reconcile *rc, const char *key, bool *ending)
{
	const struct redirect *r = redirect_find(rc, key);

	*ending = r != NULL && r->ending;
	return r != NULL;
}

bool redirects_any(const struct reconcile *rc)
{
	return rc != NULL && rc->redirects != NULL && rc->redirects->count > 0;
}

bool reconcile_assume_place(struct reconcile *rc, struct row *row, const struct ofs_oid *parent,
		const char *raw)
{
	struct volume *v = rc->v;
	char *key = row->is_dir || !redirects_any(rc)
			? NULL : index_key(v->index, rc, v->prefix, parent, raw, false, NULL);
	const char *from = key != NULL ? redirect_of(rc, key) : NULL;
	const char *below = from != NULL ? from + strlen(v->prefix) : NULL;
	bool taken = index_at_s3(v->index, parent, raw, row->is_dir) != NULL ||
			(below != NULL && index_at_s3(v->index, &OFS_OID_APART, below, false) != NULL);

	if (!taken && below != NULL) {
		index_set_apart(v->index, row, below);
	} else if (!taken) {
		index_set_s3(v->index, row, parent, raw);
	}
	talloc_free(key);
	return !taken;
}

const char *redirect_of(struct reconcile *rc, const char *key)
{
	struct redirects *t = rc != NULL ? rc->redirects : NULL;
	unsigned i = t != NULL ? redirect_at(t, key, true) : 0;

	for (; t != NULL && i < t->count && strcmp(t->by_to[i]->to, key) == 0; i++) {
		if (!t->by_to[i]->ending) {
			return t->by_to[i]->from;
		}
	}
	return NULL;
}

unsigned redirects_below(struct reconcile *rc, const char *prefix,
		void (*fn)(void *arg, const char *from, const char *rest), void *arg)
{
	struct redirects *t = rc != NULL ? rc->redirects : NULL;
	size_t len = strlen(prefix);
	unsigned i = t != NULL ? redirect_at(t, prefix, true) : 0, n = 0;

	for (; t != NULL && i < t->count && strncmp(t->by_to[i]->to, prefix, len) == 0; i++) {
		if (!t->by_to[i]->ending) {
			n++;
			if (fn != NULL) {
				fn(arg, t->by_to[i]->from, t->by_to[i]->to + len);
			}
		}
	}
	return n;
}

unsigned redirects_from_below(struct reconcile *rc, const char *prefix)
{
	struct redirects *t = rc != NULL ? rc->redirects : NULL;
	size_t len = strlen(prefix);
	unsigned i = t != NULL ? redirect_at(t, prefix, false) : 0, n = 0;

	while (t != NULL && i + n < t->count && strncmp(t->by_from[i + n]->from, prefix, len) == 0) {
		n++;
	}
	return n;
}

void redirects_json(struct reconcile *rc, json_t *list, unsigned most)
{
	struct redirects *t = rc != NULL ? rc->redirects : NULL;

	for (unsigned i = 0; t != NULL && i < t->count && json_array_size(list) < most; i++) {
		const struct redirect *r = t->by_from[i];

		json_array_append_new(list, json_pack("{s:s, s:s, s:n, s:s, s:s, s:f, s:s, s:n}", "type",
				"file", "state", "stays", "path", "from", r->from, "to", r->to, "since_s",
				0.0, "reason", r->why, "blocked_by"));
	}
}

/* ---- an item whose object may stand where a redirect says ---- */

static void redirect_renamed(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;

	if (st != OBJ_OK) {
		attempt_end_store(a, "noting where an object stays", st, message);
		return;
	}
	index_set_apart(a->v->index, a->row, a->old_key + strlen(a->v->prefix));
	attempt_end_again(a, 0);
}

void redirect_item(struct attempt *a, const char *why)
{
	const struct redirect *r = redirect_find(a->item->rc, a->old_key);

	if (r != NULL && !r->ending && strcmp(r->to, a->key) == 0) {
		redirect_renamed(OBJ_OK, NULL, a); /* as before */
		return;
	}
	redirect_put(a->v, a->old_key, a->key, why, redirect_renamed, a);
}

static void redirect_home_noted(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;

	if (st != OBJ_OK) {
		attempt_end_store(a, "noting where an object is to be", st, message);
	} else {
		attempt_end_again(a, 0);
	}
}

enum redirect_home redirect_home(struct attempt *a)
{
	struct redirect *r = redirect_find(a->item->rc, a->old_key);

	if (r == NULL || r->ending || r->busy) {
		return REDIRECT_NONE;
	}
	if (!row_is_apart(a->row)) {
		index_set_apart(a->v->index, a->row, a->old_key + strlen(a->v->prefix));
	}
	if (r->retry) {
		r->retry = false;
		return REDIRECT_NONE;
	}
	if (strcmp(r->to, a->key) != 0) {
		redirect_put(a->v, a->old_key, a->key, NULL, redirect_home_noted, a);
		return REDIRECT_WAIT;
	}
	a->key = a->old_key;
	a->old_key = NULL;
	a->parent = OFS_OID_APART;
	a->raw = talloc_strdup(a, a->row->s3_name);
	return REDIRECT_HOME;
}

enum redirect_home redirect_beside(struct attempt *a, const char *why)
{
	char hex[OFS_OID_HEX_BYTES], *beside;
	struct redirect *r;

	ofs_oid_hex(&a->oid, hex);
	beside = talloc_asprintf(a, "%s (beside %.8s)", a->key, hex);
	if (beside == NULL || strlen(beside) > OBJ_KEY_MAX_BYTES) {
		step_conflict(a, why);
		return REDIRECT_WAIT;
	}
	r = redirect_find(a->item->rc, beside);
	if (r == NULL || r->ending || strcmp(r->to, a->key) != 0) {
		redirect_put(a->v, beside, a->key, why, redirect_home_noted, a);
		return REDIRECT_WAIT;
	}
	a->key = beside;
	a->parent = OFS_OID_APART;
	a->raw = talloc_strdup(a, beside + strlen(a->v->prefix));
	return REDIRECT_HOME;
}

void redirect_uploaded(struct attempt *a)
{
	struct redirect *r = row_is_apart(a->row) ? redirect_find(a->item->rc, a->key) : NULL;

	if (r != NULL) {
		r->retry = true; /* what is new can be copied */
		a->item->again = true;
	}
}

void redirect_retry(struct reconcile *rc, struct row *row)
{
	char *key = row_is_apart(row) ? talloc_asprintf(rc, "%s%s", rc->v->prefix, row->s3_name) : NULL;
	struct redirect *r = key != NULL ? redirect_find(rc, key) : NULL;

	if (r != NULL) {
		r->retry = true;
		work_item(rc, row, 0);
	}
	talloc_free(key);
}

/* ---- again, from time to time ---- */

static struct row *redirect_row(struct redirects *t, const struct redirect *r)
{
	return index_at_s3(t->rc->v->index, &OFS_OID_APART, r->from + strlen(t->rc->v->prefix), false);
}

static void redirects_go_on(struct redirects *t);

/* Of one that no row stood for when this began. */
static void redirect_moved(struct pmove *m, enum obj_status st, const char *message)
{
	struct redirects *t = m->arg;
	struct redirect *r = redirect_find(t->rc, m->from);
	struct row *row = r != NULL ? redirect_row(t, r) : NULL;

	if (st == OBJ_OK && row != NULL && row->live != ROW_NOT_HERE) {
		redirect_retry(t->rc, row); /* it has come meanwhile: its item sees what was done */
	} else if (st == OBJ_OK && r != NULL) {
		if (row != NULL) {
			index_clear_s3(t->rc->v->index, row);
		}
		redirect_end(t->rc, r->from);
	} else {
		log_info("reconcile", "%s stays where it is: %s", m->from, message ? message : "");
	}
	redirects_go_on(t);
}

static void redirects_go_on(struct redirects *t)
{
	struct reconcile *rc = t->rc;

	for (; t->next < t->count; t->next++) {
		struct redirect *r = t->by_from[t->next];
		struct row *row = redirect_row(t, r);
		struct pmove *m;

		if (r->ending || r->busy) {
			continue;
		}
		if (row != NULL && row->live != ROW_NOT_HERE) {
			r->retry = true;
			work_item(rc, row, 0);
			continue;
		}
		m = pmove_new(rc->v, r->from, r->to);
		if (m == NULL) {
			continue;
		}
		t->next++;
		m->single = true; /* a directory's marker, too: what is below it has moved */
		m->done = redirect_moved;
		m->arg = t;
		pmove_start(m);
		return;
	}
}

static void redirects_sweep(void *arg)
{
	struct redirects *t = arg;
	struct clock *clock = t->rc->v->clock;

	t->timer = clock_timer_add(clock, t, clock_now_ns(clock) + REDIRECT_AGAIN_NS, redirects_sweep, t);
	t->next = 0;
	redirects_go_on(t);
}

void redirects_start(struct reconcile *rc)
{
	struct redirects *t = redirects_of(rc);
	struct clock *clock = rc->v->clock;

	if (t != NULL && t->timer == NULL) {
		t->timer = clock_timer_add(clock, t, clock_now_ns(clock) + REDIRECT_FIRST_NS,
				redirects_sweep, t);
	}
}

/* ---- what is in the bucket, at the start ---- */

struct loading {
	struct reconcile *rc;
	char **ids;
	unsigned count, next, running;
	enum obj_status failed;
	char *message;
	redirect_done done;
	void *arg;
};

static void loading_more(struct loading *l);

static void redirect_take(struct reconcile *rc, const struct obj_req *req)
{
	struct rename_note n;
	struct redirect *r;

	if (!rename_note_read(rc->v, &req->result, &n) || n.stays == NULL) {
		log_warning("reconcile", "%s is no redirect this version understands: left alone", req->key);
		goto out;
	}
	r = redirect_add(rc, n.from);
	if (r != NULL && redirect_name(r, n.to, n.stays)) {
		r->retry = true;
		rc->redirects->to_sorted = false;
	}
out:
	json_decref(n.doc);
}

static void redirect_read(struct obj_req *req)
{
	struct loading *l = req->arg;
	struct obj_result *r = &req->result;

	l->running--;
	if (r->status == OBJ_OK) {
		redirect_take(l->rc, req);
	} else if (r->status != OBJ_NOT_FOUND && l->failed == OBJ_OK) {
		l->failed = r->status;
		l->message = talloc_strdup(l, r->message ? r->message : "");
	}
	objstore_req_free(&req);
	loading_more(l);
}

static void loading_more(struct loading *l)
{
	struct volume *v = l->rc->v;

	while (l->failed == OBJ_OK && l->next < l->count && l->running < REDIRECT_AT_ONCE) {
		char *key = talloc_asprintf(l, "%s.objectfs/rename/%s", v->prefix, l->ids[l->next]);
		struct obj_req *req = key ? objstore_req_new(OBJ_GET, key) : NULL;

		talloc_free(key);
		if (req == NULL) {
			l->failed = OBJ_LOCAL;
			break;
		}
		l->next++;
		l->running++;
		req->length = -1;
		req->done = redirect_read;
		req->arg = l;
		objstore_submit(v->store, req);
	}
	if (l->running == 0) {
		l->done(l->failed, l->message, l->arg);
		talloc_free(l);
	}
}

void redirects_load(struct reconcile *rc, char **ids, unsigned count, redirect_done done, void *arg)
{
	struct loading *l = talloc_zero(rc, struct loading);

	redirects_clear(rc);
	if (l == NULL) {
		done(OBJ_LOCAL, "out of memory", arg);
		return;
	}
	l->rc = rc;
	l->ids = ids;
	l->count = count;
	l->done = done;
	l->arg = arg;
	loading_more(l);
}
