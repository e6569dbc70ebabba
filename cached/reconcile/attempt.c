/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: one try of one item: what it holds, and how it can end.
 * Way: step_start makes it; whoever ends it frees it, and the item runs again, waits or is done.
 * Thread: core.
 * Owns: the attempt: lease, descriptor, snapshot, keys.
 * Holds: an attempt ends once, by one of the functions here (one that failed: rule 15); rc->attempts lists
 *        those under way.
 */
#include "private.h"
#include "../evict/evict.h"
#include <fcntl.h>
#include <stdarg.h>
#include <unistd.h>

static int attempt_destructor(struct attempt *a)
{
	if (a->fd >= 0) {
		if (a->leased && !a->lease_broken) {
			fcntl(a->fd, F_SETLEASE, F_UNLCK);
		}
		close(a->fd);
	}
	snapshot_free(&a->snapshot);
	blocks_free(&a->blocks);
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
	a->since_ns = objstore_now_ns(rc->v->store, rc->v->clock);
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

/* The directory that is to be listed now; NULL: none. */
static char *attempt_relist(struct attempt *a)
{
	struct index *ix = a->v->index;
	struct row *dir = a->item->relist && !a->item->again && a->row->live == ROW_HERE
					  ? index_get(ix, &a->row->parent)
					  : NULL;

	return dir != NULL ? index_path(ix, a->v, dir) : NULL;
}

void attempt_end_done(struct attempt *a)
{
	struct volume *v = a->v;
	struct ofs_oid oid = a->oid;
	char *relist = attempt_relist(a);

	log_debug("reconcile", "%s: done%s", a->row->name ? a->row->name : "?",
			a->item->again ? ", again" : "");
	copy_answer(a, a->upload_done);
	work_done(attempt_close(a));
	evict_closed(v->evictor, &oid);
	if (relist != NULL) {
		mirror_relist(v->mirror, relist);
		talloc_free(relist);
	}
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
		o = work_follow(w, on);
	}
	if (o == NULL || o == w) {
		work_postpone(w, NS_PER_S, "%s", why);
		return;
	}
	work_block(w, o, why);
	cycle_break(w->row);
	work_open_circle(w);
}

void attempt_end_store(struct attempt *a, const char *doing, enum obj_status st,
		const char *message)
{
	if (st == OBJ_CANCELLED) {
		attempt_end_postponed(a, 500 * NS_PER_MS, "opened for writing while it was sent");
		return;
	}
	a->item->store_failed = st == OBJ_AWAY || st == OBJ_UNKNOWN || st == OBJ_NO_BUCKET;
	a->item->denied = st == OBJ_DENIED;
	attempt_end_failed(a, "%s: %s%s%s", doing, objstore_status_name(st),
			message && *message ? ": " : "", message ? message : "");
}
