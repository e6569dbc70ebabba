/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what is pending, and what is being renamed, for people.
 * Way: admin/ -> here -> works, moves, index. Thread: core. Owns: nothing beyond the answer.
 * Holds: only reads; an answer has as many entries as were asked for, at most.
 */
#include "private.h"
#include <stdlib.h>
#include <string.h>

/* ---- what is pending, for people ---- */

char *work_path(TALLOC_CTX *ctx, const struct work *w)
{
	struct index *ix = w->rc->v->index;
	struct row *dir;
	char *path, *out;

	if (w->kind == WORK_ITEM && w->row->live == ROW_HERE) {
		path = index_path(ix, ctx, w->row);
		return path ? path : talloc_strdup(ctx, w->row->name ? w->row->name : "?");
	}
	dir = index_get(ix, w->kind == WORK_ITEM ? &w->row->parent : &w->parent);
	path = dir != NULL ? index_path(ix, ctx, dir) : NULL;
	out = talloc_asprintf(ctx, "%s%s%s", path && strcmp(path, ".") != 0 ? path : "",
			path && strcmp(path, ".") != 0 ? "/" : "",
			w->kind == WORK_ITEM ? (w->row->name ? w->row->name : "?") : w->name);
	talloc_free(path);
	return out;
}

static const char *work_state(const struct work *w)
{
	return w->running             ? "running"
	       : w->kind == WORK_ITEM && limit_holds(w->row) ? "held"
	       : w->blocked_on != NULL ? "waits"
	       : w->failures > 0      ? "retry"
				      : "settling";
}

/* Before S3 is used for the first time nothing was tried, and so nothing has failed. */
static const char *work_reason(TALLOC_CTX *ctx, const struct work *w)
{
	const struct volume *v = w->rc->v;
	const char *reason = w->reason;

	if (reason == NULL && !w->rc->started) {
		reason = talloc_asprintf(ctx, "S3 is not used now: %s",
				v->state_why != NULL ? v->state_why : "connecting");
	}
	return reason != NULL ? reason : "";
}

static bool work_is_rename(const struct work *w)
{
	return w->kind == WORK_ITEM && w->row->in_s3 && w->row->live == ROW_HERE &&
	       !step_at_home(w->row);
}

static json_t *work_json(struct work *w)
{
	TALLOC_CTX *tmp = talloc_new(w->rc);
	char *path = work_path(tmp, w);
	int64_t now = clock_now_ns(w->rc->v->clock);
	const char *kind = w->kind == WORK_PLACE          ? "look"
			   : w->row->live == ROW_TRASHED  ? "delete"
			   : work_is_rename(w)            ? "rename"
							  : "update";
	json_t *j = json_pack("{s:s, s:s, s:f, s:s, s:i, s:s}", "path", path ? path : "?", "kind",
			kind, "since_s", (double)(now - w->first_ns) / NS_PER_S, "state",
			work_state(w), "failures", (int)w->failures, "reason",
			work_reason(tmp, w));

	talloc_free(tmp);
	return j;
}

bool reconcile_pending_files(struct reconcile *rc, bool begin, unsigned most,
		void (*fn)(void *arg, const char *path), void *arg)
{
	struct work *w = begin ? rc->works : rc->measured;

	for (; w != NULL && most > 0; w = w->next, most--) {
		char *path = NULL;

		if (w->kind == WORK_PLACE || (!w->row->is_dir && w->row->live == ROW_HERE)) {
			path = work_path(rc, w);
		}
		if (path != NULL) {
			fn(arg, path);
		}
		talloc_free(path);
	}
	rc->measured = w;
	return w != NULL;
}

json_t *reconcile_pending(struct reconcile *rc, unsigned most)
{
	json_t *list = json_array();
	struct work *w;

	for (w = rc->works; w != NULL && json_array_size(list) < most; w = w->next) {
		json_t *j = work_json(w);

		if (j != NULL) {
			json_array_append_new(list, j);
		}
	}
	return list;
}

void reconcile_backlog(const struct reconcile *rc, size_t *count, int64_t *oldest_ns)
{
	int64_t first = INT64_MAX;

	for (const struct work *w = rc->works; w != NULL; w = w->next) {
		first = w->first_ns < first ? w->first_ns : first;
	}
	*count = rc->work_count;
	*oldest_ns = rc->works != NULL ? clock_now_ns(rc->v->clock) - first : 0;
}

size_t reconcile_disk_failed(const struct reconcile *rc, TALLOC_CTX *ctx, char **path)
{
	size_t count = 0;

	for (const struct work *w = rc->works; w != NULL; w = w->next) {
		if (w->disk_failed && count++ == 0) {
			*path = work_path(ctx, w);
		}
	}
	return count;
}

/* ---- renames ---- */

static const struct pmove *move_of(const struct work *w)
{
	const struct pmove *m = w->rc->moves;

	while (m != NULL && m->item != w) {
		m = m->list_next;
	}
	return m;
}

/* How much it is, or, held, at least. */
static void tally_tell(json_t *o, const struct tally *t)
{
	json_object_set_new(o, "archived", json_integer((json_int_t)t->archived));
	json_object_set_new(o, "cost_usd", json_real(t->usd));
}

/* How far it is: its keys are listed, then all are copied, then the copies listed, then the old ones go. */
static void move_add(json_t *o, const struct pmove *m)
{
	static const char *const phases[] = {[PMOVE_LISTING] = "listing", [PMOVE_COPYING] = "copying",
			[PMOVE_VERIFYING] = "verifying", [PMOVE_NOTING] = "noting what stays",
			[PMOVE_REMOVING] = "removing"};
	unsigned copied = m->phase == PMOVE_COPYING ? m->finished : m->count;

	json_object_set_new(o, "phase", json_string(phases[m->phase]));
	json_object_set_new(o, "objects",
			m->phase == PMOVE_LISTING ? json_null() : json_integer(m->count));
	json_object_set_new(o, "copied", json_integer(m->phase == PMOVE_LISTING ? 0 : copied));
	json_object_set_new(o, "removed",
			json_integer(m->phase == PMOVE_REMOVING ? m->finished : 0));
	json_object_set_new(o, "stays", json_integer(m->stay));
	if (m->phase != PMOVE_LISTING) {
		tally_tell(o, &m->tally);
	}
}

static json_t *rename_json(const struct work *w)
{
	struct volume *v = w->rc->v;
	TALLOC_CTX *tmp = talloc_new(w->rc);
	const struct row *row = w->row;
	const struct pmove *m = move_of(w);
	char *path = work_path(tmp, w);
	char *from = m != NULL ? m->from
			       : index_key(v->index, tmp, v->prefix, &row->s3_parent, row->s3_name,
						 row->is_dir, NULL);
	char *to = m != NULL ? m->to
			     : talloc_asprintf(tmp, "%s%s%s", v->prefix, path != NULL ? path : "?",
					       row->is_dir ? "/" : "");
	char *blocked = w->blocked_on != NULL ? work_path(tmp, w->blocked_on) : NULL;
	json_t *o = json_pack("{s:s, s:s, s:s?, s:s?, s:s?, s:f, s:s, s:s?}", "type",
			row->is_dir ? "directory" : "file", "state", work_state(w), "path", path,
			"from", from, "to", to, "since_s",
			(double)(clock_now_ns(v->clock) - w->first_ns) / NS_PER_S, "reason",
			work_reason(tmp, w), "blocked_by", blocked);

	if (o != NULL && m != NULL) {
		move_add(o, m);
	} else if (o != NULL && limit_holds(row)) {
		json_object_set_new(o, "at_least", json_integer((json_int_t)w->limit->tally.objects));
		tally_tell(o, &w->limit->tally);
	}
	talloc_free(tmp);
	return o;
}

static json_t *left_json(const struct pmove *m)
{
	json_t *o = json_pack("{s:s, s:s, s:n, s:s, s:s, s:f, s:s, s:n}", "type",
			m->single ? "file" : "directory", "state", "running", "path", "from",
			m->from, "to", m->to, "since_s",
			(double)(clock_now_ns(m->v->clock) - m->since_ns) / NS_PER_S, "reason",
			"left half way by another node, or before the last start", "blocked_by");

	if (o != NULL) {
		move_add(o, m);
	}
	return o;
}

json_t *reconcile_renames(struct reconcile *rc, unsigned most)
{
	json_t *list = json_array();

	for (const struct pmove *m = rc->moves; m != NULL && json_array_size(list) < most;
			m = m->list_next) {
		json_array_append_new(list, m->item != NULL ? rename_json(m->item) : left_json(m));
	}
	for (const struct work *w = rc->works; w != NULL && json_array_size(list) < most;
			w = w->next) {
		if (work_is_rename(w) && move_of(w) == NULL) {
			json_array_append_new(list, rename_json(w));
		}
	}
	redirects_json(rc, list, most);
	return list;
}
