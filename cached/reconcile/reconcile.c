/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the table of what may differ between mirror and S3, and when each entry is worked on.
 * Way: hints (rings), scans and flushes put works in; look.c turns a place into an item, step.c
 *      brings an item into agreement.
 * Thread: core. Owns: every struct work, the heap, waiters until answered.
 * Holds:
 *  1. a hint is never forgotten: it is a work until mirror and S3 have been compared after it;
 *  2. one work per place, one per row (row->work); what changes while it runs sets `again`;
 *  3. a waiter is answered exactly once.
 *
 *   hint -> PLACE --settle--> look -> ITEM --settle--> step -> (done | failed -> backoff -> step)
 */
#include "private.h"
#include "../evict/evict.h"
#include "../verify/content.h"
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORK_PLACES_AT_ONCE 64
#define WORK_RETRY_MIN_NS (1 * NS_PER_S)
#define WORK_RETRY_MAX_NS (60 * NS_PER_S)
#define AWAY_AFTER_NS (10 * NS_PER_S)
#define AWAY_TRY_NS NS_PER_S
#define AWAY_BEHIND_MOST 900u

/* ---- heap by due time ---- */

static void heap_place(struct reconcile *rc, size_t pos, struct work *w)
{
	rc->heap[pos] = w;
	w->heap_pos = pos;
}

/* Of two that are due the one that changed first. */
static bool work_before(const struct work *a, const struct work *b)
{
	return a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->first_ns < b->first_ns);
}

static void heap_fix(struct reconcile *rc, size_t pos)
{
	struct work *w = rc->heap[pos];

	while (pos > 0 && work_before(w, rc->heap[(pos - 1) / 2])) {
		heap_place(rc, pos, rc->heap[(pos - 1) / 2]);
		pos = (pos - 1) / 2;
	}
	for (;;) {
		size_t c = 2 * pos + 1;

		if (c >= rc->heap_len) {
			break;
		}
		if (c + 1 < rc->heap_len && work_before(rc->heap[c + 1], rc->heap[c])) {
			c++;
		}
		if (!work_before(rc->heap[c], w)) {
			break;
		}
		heap_place(rc, pos, rc->heap[c]);
		pos = c;
	}
	heap_place(rc, pos, w);
}

static void heap_remove(struct work *w)
{
	struct reconcile *rc = w->rc;
	size_t pos = w->heap_pos;
	struct work *last;

	if (pos == SIZE_MAX) {
		return;
	}
	w->heap_pos = SIZE_MAX;
	last = rc->heap[--rc->heap_len];
	if (last != w) {
		heap_place(rc, pos, last);
		heap_fix(rc, pos);
	}
}

static void heap_set(struct work *w, int64_t due_ns)
{
	struct reconcile *rc = w->rc;

	w->due_ns = due_ns;
	if (w->heap_pos == SIZE_MAX) {
		/* Room for every work was made in work_new. */
		rc->heap[rc->heap_len] = w;
		w->heap_pos = rc->heap_len++;
	}
	heap_fix(rc, w->heap_pos);
}

/* ---- works ---- */

static struct work *work_new(struct reconcile *rc, enum work_kind kind)
{
	struct work *w = talloc_zero(rc, struct work);

	if (w == NULL) {
		return NULL;
	}
	if (rc->work_count + 1 > rc->heap_cap) {
		size_t cap = rc->heap_cap ? rc->heap_cap * 2 : 256;
		struct work **h = talloc_realloc(rc, rc->heap, struct work *, cap);

		if (h == NULL) {
			talloc_free(w);
			return NULL;
		}
		rc->heap = h;
		rc->heap_cap = cap;
	}
	w->kind = kind;
	w->rc = rc;
	w->heap_pos = SIZE_MAX;
	w->first_ns = rc->since_ns != 0 ? rc->since_ns : clock_now_ns(rc->v->clock);
	w->next = rc->works;
	w->prev = &rc->works;
	if (rc->works != NULL) {
		rc->works->prev = &w->next;
	}
	rc->works = w;
	rc->work_count++;
	rc->place_count += kind == WORK_PLACE;
	stats_add(pending, 1);
	return w;
}

static struct work **place_bucket(struct reconcile *rc, const struct ofs_oid *parent,
		const char *name)
{
	uint32_t h = ofs_crc32c(0, parent->bytes, sizeof(parent->bytes));

	h = ofs_crc32c(h, name, strlen(name));
	return &rc->places[h % RECONCILE_PLACE_BUCKETS];
}

static void work_wake_blocked(struct work *w)
{
	int64_t now = clock_now_ns(w->rc->v->clock);

	while (w->blocks != NULL) {
		struct work *b = w->blocks;

		w->blocks = b->blocked_next;
		b->blocked_on = NULL;
		b->blocked_next = NULL;
		heap_set(b, now);
	}
	reconcile_kick(w->rc);
}

static void work_free(struct work *w)
{
	struct reconcile *rc = w->rc;

	heap_remove(w);
	work_wake_blocked(w);
	*w->prev = w->next;
	if (w->next != NULL) {
		w->next->prev = w->prev;
	}
	if (rc->measured == w) {
		rc->measured = w->next;
	}
	if (w->row != NULL) {
		w->row->work = NULL;
	}
	if (w->kind == WORK_PLACE && w->name != NULL) {
		struct work **pp = place_bucket(rc, &w->parent, w->name);

		while (*pp != NULL && *pp != w) {
			pp = &(*pp)->hash_next;
		}
		if (*pp == w) {
			*pp = w->hash_next;
		}
	}
	if (w->kind == WORK_ITEM) {
		times_add(step, backlog, clock_now_ns(rc->v->clock) - w->first_ns);
	}
	rc->work_count--;
	rc->place_count -= w->kind == WORK_PLACE;
	work_unseen(w, false);
	stats_add(pending, -1);
	talloc_free(w);
	if (rc->work_count == 0) {
		marks_sweep_soon(rc);
	}
}

void work_block(struct work *w, struct work *on, const char *why)
{
	talloc_free(w->reason);
	w->reason = talloc_strdup(w, why);
	w->running = false;
	w->again = false;
	w->blocked_on = on;
	w->blocked_next = on->blocks;
	on->blocks = w;
	if (w->urgent && !on->urgent) {
		on->urgent = true;
		if (!on->running && on->blocked_on == NULL) {
			heap_set(on, clock_now_ns(w->rc->v->clock));
		}
	}
	reconcile_kick(w->rc);
}

void work_unblock(struct work *w)
{
	struct work **pp;

	if (w->blocked_on == NULL) {
		return;
	}
	for (pp = &w->blocked_on->blocks; *pp != w; pp = &(*pp)->blocked_next) {
	}
	*pp = w->blocked_next;
	w->blocked_on = NULL;
	w->blocked_next = NULL;
	heap_set(w, clock_now_ns(w->rc->v->clock));
	reconcile_kick(w->rc);
}

void work_open_circle(struct work *w)
{
	int64_t due = clock_now_ns(w->rc->v->clock) + WORK_RETRY_MIN_NS;
	struct work *x = w->blocked_on;
	size_t steps;

	for (steps = 0; x != NULL && x != w && steps < w->rc->work_count; steps++) {
		x = x->blocked_on;
	}
	if (x != w) {
		return;
	}
	do {
		struct work *next = x->blocked_on;

		work_unblock(x);
		heap_set(x, due);
		x = next;
	} while (x != w);
}

/* Settle: wait for quiet, but not longer than the limit after the first change. */
static void work_schedule(struct work *w, int64_t delay_ns)
{
	struct volume *v = w->rc->v;
	int64_t now = clock_now_ns(v->clock), due;

	if (w->rc->since_ns != 0 && w->first_ns > w->rc->since_ns) {
		w->first_ns = w->rc->since_ns; /* it was there before; a flush is to wait for what follows from it, too */
	}
	if (w->running) {
		w->again = true;
		return;
	}
	if (w->blocked_on != NULL) {
		return; /* runs when the other is done */
	}
	if (delay_ns < 0) {
		delay_ns = w->urgent || w->rc->hurry ? 0 : v->conf->settle_time_ns;
		due = now + delay_ns;
		if (due > w->first_ns + v->conf->settle_limit_ns) {
			due = w->first_ns + v->conf->settle_limit_ns;
		}
		if (w->soon && w->due_ns < due) {
			due = w->due_ns;
		}
	} else {
		due = now + delay_ns;
		if (w->heap_pos != SIZE_MAX && w->failures == 0 && w->due_ns < due) {
			due = w->due_ns; /* sooner was promised */
		}
		w->soon = true;
	}
	heap_set(w, due);
	reconcile_kick(w->rc);
}

struct work *work_item(struct reconcile *rc, struct row *row, int64_t delay_ns)
{
	struct work *w = row->work;

	if (w == NULL) {
		w = work_new(rc, WORK_ITEM);
		if (w == NULL) {
			rc->rescan_wanted = true;
			return NULL;
		}
		w->row = row;
		row->work = w;
	}
	work_schedule(w, delay_ns);
	return w;
}

struct work *work_follow(struct work *from, struct row *row)
{
	struct work *w = work_item(from->rc, row, 0);

	if (w != NULL && w->first_ns > from->first_ns) {
		w->first_ns = from->first_ns;
	}
	return w;
}

static struct work *work_find_place(struct reconcile *rc, const struct ofs_oid *parent,
		const char *name)
{
	struct work *w;

	for (w = *place_bucket(rc, parent, name); w != NULL; w = w->hash_next) {
		if (ofs_oid_equal(&w->parent, parent) && strcmp(w->name, name) == 0) {
			return w;
		}
	}
	return NULL;
}

struct work *work_place(struct reconcile *rc, const struct ofs_oid *parent, const char *name,
		int64_t delay_ns)
{
	struct work *w = work_find_place(rc, parent, name), **bucket;

	if (w == NULL) {
		w = work_new(rc, WORK_PLACE);
		if (w == NULL || (w->name = talloc_strdup(w, name)) == NULL) {
			if (w != NULL) {
				work_free(w);
			}
			rc->rescan_wanted = true;
			return NULL;
		}
		w->parent = *parent;
		bucket = place_bucket(rc, parent, name);
		w->hash_next = *bucket;
		*bucket = w;
	}
	work_schedule(w, delay_ns);
	return w;
}

void work_unseen(struct work *place, bool unseen)
{
	if (place != NULL && place->unseen != unseen) {
		place->unseen = unseen;
		place->rc->unseen += unseen ? 1 : -1;
	}
}

struct work *work_place_gone(struct reconcile *rc, const struct ofs_oid *parent, const char *name,
		const struct ofs_oid *oid)
{
	struct work *w = work_place(rc, parent, name, 0);
	unsigned i;

	if (w == NULL || ofs_oid_is_none(oid)) {
		return w;
	}
	for (i = 0; i < w->gone_count; i++) {
		if (ofs_oid_equal(&w->gone[i], oid)) {
			return w;
		}
	}
	if (w->gone_count < WORK_GONE_MAX) {
		w->gone[w->gone_count++] = *oid;
	} else {
		look_trash(rc, oid);
	}
	return w;
}

static void work_reason(struct work *w, const char *fmt, va_list ap)
{
	char *r = talloc_vasprintf(w, fmt, ap);

	talloc_free(w->reason);
	w->reason = r;
}

void work_postpone(struct work *w, int64_t delay_ns, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	work_reason(w, fmt, ap);
	va_end(ap);
	w->running = false;
	if (w->again) {
		w->again = false;
		delay_ns = delay_ns < 100 * NS_PER_MS ? delay_ns : 100 * NS_PER_MS;
	}
	heap_set(w, clock_now_ns(w->rc->v->clock) + delay_ns);
	reconcile_kick(w->rc);
}

void work_go_on(struct work *w, int64_t delay_ns)
{
	w->running = false;
	w->again = false;
	heap_set(w, clock_now_ns(w->rc->v->clock) + delay_ns);
	work_wake_blocked(w);
}

void work_failed(struct work *w, const char *fmt, ...)
{
	int64_t wait = WORK_RETRY_MIN_NS << (w->failures < 6 ? w->failures : 6);
	uint32_t jitter;
	va_list ap;

	va_start(ap, fmt);
	work_reason(w, fmt, ap);
	va_end(ap);
	w->failures++;
	w->running = false;
	w->again = false;
	work_unseen(w, false); /* nobody waits for a disk that fails */
	if (wait > WORK_RETRY_MAX_NS) {
		wait = WORK_RETRY_MAX_NS;
	}
	if (w->urgent && wait > 4 * NS_PER_S) {
		wait = 4 * NS_PER_S;
	}
	clock_random(w->rc->v->clock, &jitter, sizeof(jitter));
	wait = wait / 2 + (int64_t)(jitter % 1000) * (wait / 2 / 1000);
	if (w->failures == 1 || w->failures % 10 == 0) {
		enum log_level level = LOG_LVL_WARNING;

		if (w->store_failed) {
			level = volume_trouble_level(w->rc->v, level);
		} else if (w->denied) {
			level = LOG_LVL_DEBUG; /* objstore/rights.c has said it, once */
		}
		log_line(level, "reconcile", 0, "%s: %s; retried (failure %u)",
				w->kind == WORK_ITEM && w->row->name ? w->row->name
								     : (w->name ? w->name : "?"),
				w->reason ? w->reason : "out of memory", w->failures);
	}
	w->store_failed = w->denied = false;
	heap_set(w, clock_now_ns(w->rc->v->clock) + wait);
	reconcile_kick(w->rc);
}

static void waiter_answer_list(struct waiter *w, int status, const char *message)
{
	while (w != NULL) {
		struct waiter *next = w->next;

		w->done(w, status, message);
		w = next;
	}
}

void work_done(struct work *w)
{
	struct reconcile *rc = w->rc;
	struct waiter **pp = &w->waiters, *ready = NULL;

	w->running = false;
	while (*pp != NULL) {
		struct waiter *x = *pp;

		if (w->attempts >= x->need_attempt) {
			*pp = x->next;
			x->next = ready;
			ready = x;
		} else {
			pp = &x->next;
		}
	}
	if (w->again) {
		w->again = false;
		work_wake_blocked(w);
		w->failures = 0;
		w->urgent = w->waiters != NULL;
		if (w->waiters == NULL) {
			w->first_ns = clock_now_ns(rc->v->clock); /* else what follows is waited for, too */
		}
		work_schedule(w, -1);
	} else {
		struct waiter *rest = w->waiters;

		w->waiters = NULL;
		work_free(w);
		waiter_answer_list(rest, 0, NULL);
	}
	waiter_answer_list(ready, 0, NULL);
}

bool work_is_running(const struct row *row)
{
	const struct work *w = row->work;

	return w != NULL && w->running;
}

void work_take(struct work *w)
{
	heap_remove(w);
	w->running = true;
	w->soon = false;
	w->attempts++;
}

void work_add_waiter(struct work *w, struct waiter *waiter)
{
	waiter->need_attempt = w->attempts + 1;
	waiter->next = w->waiters;
	w->waiters = waiter;
	w->urgent = true;
	if (w->running) {
		w->again = true;
		metalog_flush(w->rc->v->metalog); /* it may wait for its entry to be written, begun when nobody waited */
	} else if (w->blocked_on == NULL) {
		heap_set(w, clock_now_ns(w->rc->v->clock));
		reconcile_kick(w->rc);
	}
}

void work_move_waiters(struct work *from, struct work *to)
{
	struct waiter **pp = &from->waiters;

	while (*pp != NULL) {
		struct waiter *x = *pp;

		if (from->attempts < x->need_attempt) {
			pp = &x->next; /* added while it ran: for the next look */
			continue;
		}
		*pp = x->next;
		work_add_waiter(to, x);
	}
}

/* ---- the clockwork ---- */

/* It is back: all that waited for it goes, in the order in which it changed. */
static void reconcile_is_back(struct reconcile *rc, int64_t now)
{
	for (struct work *w = rc->works; w != NULL; w = w->next) {
		if (w->away && w->heap_pos != SIZE_MAX) {
			heap_set(w, now);
		}
		w->away = false;
	}
	rc->away_next_ns = 0;
}

/* While the store is away - nothing at all has succeeded for a while - an item finds out each second whether it is back,
 * those that have not failed before the others: a day of that with 10,000 files that wait is some 86,000 tries, not 15
 * million. Where only some keys fail the others do not wait for them. */
static bool reconcile_is_away(struct reconcile *rc, struct work *w, int64_t now)
{
	int64_t behind_ns = (int64_t)(w->failures < AWAY_BEHIND_MOST ? w->failures : AWAY_BEHIND_MOST) * NS_PER_MS;
	int64_t outage = rc->v->store->trouble_since_ns;

	if (outage != rc->outage) {
		rc->outage = outage;
		rc->outage_ns = now;
	}
	if (outage == 0 || now - rc->outage_ns < AWAY_AFTER_NS) {
		bool was_away = rc->away_next_ns != 0;

		if (was_away) {
			reconcile_is_back(rc, now);
		}
		return was_away; /* another may be first now */
	}
	if (now < rc->away_next_ns) {
		if (w->reason == NULL) {
			w->reason = talloc_strdup(w, "the store cannot be reached");
		}
		w->away = true;
		heap_set(w, rc->away_next_ns + behind_ns);
		return true;
	}
	rc->away_next_ns = now + AWAY_TRY_NS;
	return false;
}

static void reconcile_run(void *arg)
{
	struct reconcile *rc = arg;
	int64_t now = clock_now_ns(rc->v->clock);
	unsigned limit = rc->v->conf->parallel_uploads;

	rc->timer = NULL;
	while (rc->started && rc->heap_len > 0 && rc->heap[0]->due_ns <= now) {
		struct work *w = rc->heap[0];

		if (w->kind == WORK_PLACE ? rc->places_running >= WORK_PLACES_AT_ONCE
					  : rc->items_running >= limit) {
			/* Full: look again soon; finishing works kick too. */
			heap_set(w, now + 20 * NS_PER_MS);
			continue;
		}
		if (w->kind == WORK_ITEM && reconcile_is_away(rc, w, now)) {
			continue;
		}
		work_take(w);
		if (w->kind == WORK_PLACE) {
			look_start(w);
		} else {
			step_start(w);
		}
	}
	reconcile_kick(rc);
}

void reconcile_kick(struct reconcile *rc)
{
	if (!rc->started || rc->heap_len == 0) {
		return;
	}
	if (rc->timer != NULL && rc->timer_at_ns <= rc->heap[0]->due_ns) {
		return;
	}
	talloc_free(rc->timer);
	rc->timer_at_ns = rc->heap[0]->due_ns;
	rc->timer = clock_timer_add(rc->v->clock, rc, rc->timer_at_ns, reconcile_run, rc);
}

struct reconcile *reconcile_new(TALLOC_CTX *ctx, struct volume *v)
{
	struct reconcile *rc = talloc_zero(ctx, struct reconcile);

	if (rc != NULL) {
		rc->v = v;
		rc->fresh = index_kv_get(v->index, INDEX_KV_READ) == NULL;
	}
	return rc;
}

void reconcile_start(struct reconcile *rc)
{
	if (rc->started) {
		return;
	}
	rc->started = true;
	scan_start(rc);
	reconcile_kick(rc);
}

void reconcile_rescan(struct reconcile *rc)
{
	rc->rescan_wanted = true;
	if (rc->started && rc->scans_running == 0) {
		scan_start(rc);
	}
}

void reconcile_hurry(struct reconcile *rc, bool hurry)
{
	int64_t now = clock_now_ns(rc->v->clock);
	struct work *w;

	if (hurry == rc->hurry) {
		return;
	}
	rc->hurry = hurry;
	for (w = hurry ? rc->works : NULL; w != NULL; w = w->next) {
		if (w->heap_pos != SIZE_MAX && w->failures == 0 && w->due_ns > now) {
			heap_set(w, now);
		}
	}
	reconcile_kick(rc);
}

/* ---- hints ---- */

/* A name came or went: the directory's write time is another. Sent once it is quiet. */
static void hint_directory(struct reconcile *rc, const struct ofs_oid *oid)
{
	struct row *dir = index_get(rc->v->index, oid);
	struct work *w = dir != NULL && dir->live == ROW_HERE ? work_item(rc, dir, -1) : NULL;

	if (w != NULL) {
		w->times = true;
	}
}

/* The daemon may give a file another name (a conflict, a directory of its name) between the moment the
 * module reads the old one and its hint. */
static void hint_renamed_below(struct reconcile *rc, const struct ofs_hint *h)
{
	const struct row *row = index_get(rc->v->index, &h->oid);

	if (row != NULL && row->live == ROW_HERE && row->name != NULL &&
			(!ofs_oid_equal(&row->parent, &h->parent) || strcmp(row->name, h->name) != 0)) {
		work_place(rc, &row->parent, row->name, -1);
	}
}

void reconcile_hint(struct reconcile *rc, const struct ofs_hint *h)
{
	struct work *w;

	switch (h->kind) {
	case OFS_HINT_OPENED:
		evict_note_use(rc->v->evictor, &h->oid);
		break;
	case OFS_HINT_RENAMED:
		/* Looked at without settling: paths are found through what this learns. */
		work_place_gone(rc, &h->old_parent, h->old_name, &h->oid);
		w = work_place_gone(rc, &h->parent, h->name, &h->target);
		if (w != NULL && h->is_dir && scan_is_recent(rc)) {
			w->scan = true;
		}
		evict_note_moved(rc->v->evictor);
		hint_directory(rc, &h->old_parent);
		hint_directory(rc, &h->parent);
		break;
	case OFS_HINT_UNLINKED:
	case OFS_HINT_RMDIR:
		work_place_gone(rc, &h->parent, h->name, &h->oid);
		hint_directory(rc, &h->parent);
		break;
	case OFS_HINT_MKDIR:
		work_place(rc, &h->parent, h->name, 0);
		hint_directory(rc, &h->parent);
		break;
	case OFS_HINT_CREATED:
		work_place(rc, &h->parent, h->name, -1);
		hint_directory(rc, &h->parent);
		break;
	default:
		if (h->name[0] == '\0') {
			/* The root is at no place: its own metadata changed. */
			work_item(rc, index_get(rc->v->index, &OFS_OID_ROOT), -1);
			break;
		}
		work_place(rc, &h->parent, h->name, -1);
		hint_renamed_below(rc, h);
		break;
	}
}

bool reconcile_is_pending(struct reconcile *rc, const struct row *row)
{
	return row->work != NULL || row->live == ROW_TRASHED || look_is_moving(rc, row);
}

void reconcile_resend(struct reconcile *rc, const struct row *row)
{
	look_redirty(rc, row);
}

void reconcile_found(struct reconcile *rc, const struct ofs_oid *parent, const char *name)
{
	work_place(rc, parent, name, -1);
}

void reconcile_touch(struct reconcile *rc, struct row *row)
{
	work_item(rc, row, -1);
}

bool reconcile_place_is_pending(struct reconcile *rc, const struct ofs_oid *parent,
		const char *name)
{
	return work_find_place(rc, parent, name) != NULL;
}

void reconcile_lease_broken(struct reconcile *rc, int fd)
{
	struct attempt *a;

	for (a = rc->attempts; a != NULL; a = a->next) {
		if (a->fd == fd && a->leased && !a->lease_broken) {
			a->lease_broken = true;
			stats_add(upload_broken, 1);
			/* The writer waits for this; what was read so far is thrown away. */
			fcntl(fd, F_SETLEASE, F_UNLCK);
			if (a->upload != NULL) {
				upload_cancel(a->upload);
			}
			if (a->content != NULL) {
				atomic_store(&a->content->cancelled, true);
			}
			return;
		}
	}
}
