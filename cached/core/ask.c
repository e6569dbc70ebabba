/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what only smbd can do is asked of one connected module, and of another one if that fails.
 * Way: announce.c, mirror/ -> here -> session.c -> the module (ofs_asked.c); the answer goes back
 *      to done.
 * Thread: core.
 * Owns: every question until done was called, its frame too.
 * Holds: 1. done comes once, after ASK_GIVE_UP_NS at the latest;
 *        2. questions are asked in order. They may be asked again of another module though the
 *           first one has done them: each is such that being done twice does no harm;
 *        3. a module that lets us wait is not chosen again before it has answered something.
 *
 *   ask_send -> asked of `chosen` -> [ask_answered]
 *                  | lost, or slow: ask_choose, all again
 *                  v
 *               nobody: -ENOTCONN; too late: -ETIMEDOUT
 */
#include "ask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../base/log.h"

#define ASK_SLOW_NS (5 * NS_PER_S)
#define ASK_GIVE_UP_NS (20 * NS_PER_S)
#define ASK_TICK_NS (500 * NS_PER_MS)

struct ask {
	struct ask *next;
	uint64_t id;
	uint8_t *frame;
	size_t len;
	int64_t since_ns, asked_ns;
	ask_done done;
	void *arg;
};

struct asker { /* talloc child of the volume */
	struct volume *v;
	struct core *core;
	struct session *chosen; /* NULL: none yet, or lost */
	struct ask *first, **last;
	uint64_t next_id;
	struct clock_timer *timer;
};

static void ask_free(struct ask *a)
{
	free(a->frame);
	free(a);
}

static int asker_destructor(struct asker *as)
{
	struct ask *a;

	while ((a = as->first) != NULL) {
		as->first = a->next;
		ask_free(a);
	}
	return 0;
}

struct asker *asker_new(struct volume *v, struct core *core)
{
	struct asker *as = talloc_zero(v, struct asker);

	if (as != NULL) {
		as->v = v;
		as->core = core;
		as->last = &as->first;
		talloc_set_destructor(as, asker_destructor);
	}
	return as;
}

bool ask_possible(const struct asker *as)
{
	return as != NULL && session_to_ask(as->core, as->v) != NULL;
}

uint64_t ask_next_id(struct asker *as)
{
	return OFS_WIRE_ID_DAEMON | ++as->next_id;
}

static void ask_put(struct asker *as, struct ask *a)
{
	a->asked_ns = clock_now_ns(as->v->clock);
	session_ask(as->chosen, a->frame, a->len);
}

/* Those to whom `status` is the answer; they may ask again. */
static void ask_fail(struct ask *list, int status)
{
	struct ask *a;

	while ((a = list) != NULL) {
		list = a->next;
		a->done(status, NULL, 0, a->arg);
		ask_free(a);
	}
}

/* Somebody else is asked all that has no answer yet; if there is nobody else, we go on waiting. */
static void ask_choose(struct asker *as)
{
	struct session *was = as->chosen;
	struct ask *list = as->first, *a;

	as->chosen = session_to_ask(as->core, as->v);
	if (as->chosen == NULL) {
		as->first = NULL;
		as->last = &as->first;
		ask_fail(list, -ENOTCONN);
		return;
	}
	for (a = list; a != NULL && as->chosen != was; a = a->next) {
		ask_put(as, a);
	}
}

static void ask_tick(void *arg)
{
	struct asker *as = arg;
	int64_t now = clock_now_ns(as->v->clock);
	struct ask *late = NULL, **late_last = &late, *a;
	bool slow = as->first != NULL && now - as->first->asked_ns >= ASK_SLOW_NS;

	as->timer = NULL;
	while ((a = as->first) != NULL && now - a->since_ns >= ASK_GIVE_UP_NS) {
		as->first = a->next;
		a->next = NULL;
		*late_last = a;
		late_last = &a->next;
	}
	if (as->first == NULL) {
		as->last = &as->first;
	}
	if (slow && as->chosen != NULL) {
		session_is_slow(as->chosen);
		ask_choose(as);
	}
	ask_fail(late, -ETIMEDOUT);
	if (as->first != NULL && as->timer == NULL) {
		as->timer = clock_timer_add(as->v->clock, as, now + ASK_TICK_NS, ask_tick, as);
	}
}

void ask_send(struct asker *as, uint64_t id, uint8_t *frame, ssize_t len, ask_done done, void *arg)
{
	struct ask *a = frame != NULL && len > 0 ? calloc(1, sizeof(*a)) : NULL;

	if (as->chosen == NULL) {
		as->chosen = session_to_ask(as->core, as->v);
	}
	if (a == NULL || as->chosen == NULL) {
		free(a);
		free(frame);
		done(as->chosen == NULL ? -ENOTCONN : -ENOMEM, NULL, 0, arg);
		return;
	}
	a->id = id;
	a->frame = frame;
	a->len = (size_t)len;
	a->since_ns = clock_now_ns(as->v->clock);
	a->done = done;
	a->arg = arg;
	*as->last = a;
	as->last = &a->next;
	if (as->timer == NULL) {
		as->timer = clock_timer_add(as->v->clock, as, a->since_ns + ASK_TICK_NS, ask_tick,
				as);
	}
	ask_put(as, a);
}

void ask_answered(struct asker *as, struct session *s, uint64_t id, const uint8_t *frame,
		size_t len)
{
	struct ask **at = &as->first, *a;

	while ((a = *at) != NULL && a->id != id) {
		at = &a->next;
	}
	if (a == NULL) {
		log_debug("core", "session %llu answers too late", (unsigned long long)session_id(s));
		return;
	}
	*at = a->next;
	if (a->next == NULL) {
		as->last = at;
	}
	a->done(0, frame, len, a->arg);
	ask_free(a);
}

void ask_lost(struct asker *as, const struct session *s)
{
	if (as->chosen == s) {
		as->chosen = NULL;
		ask_choose(as);
	}
}
