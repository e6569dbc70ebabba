/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The real clock: CLOCK_BOOTTIME, one timerfd on the core's loop, getrandom.
 * Way: from the core's rooms; to the kernel.
 * Thread: core only; clock_real_random any.
 * Owns: the timerfd and the heap of pending timers; a timer is its creator's talloc child.
 * Holds: 1. heap[0] is the earliest timer (then the one added first), and each timer knows its
 *           place, so cancelling costs O(log n).
 *        2. The timerfd is armed for heap[0], or off.
 *        3. Not tevent's own timers: they go by wall time, and a clock set back by an hour would
 *           hold every upload for an hour.
 *        4. A timer added while timers run waits for the next turn of the loop.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "clock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <tevent.h>
#include "log.h"

struct clock_real;
struct clock_timer {
	struct clock_real *clock; /* NULL: the clock is gone, or the timer has run */
	size_t place;
	int64_t at_ns;
	uint64_t order;
	void (*fn)(void *arg);
	void *arg;
	const struct log_volume *log; /* for whom */
};
struct clock_real {
	struct clock clock;
	int fd;
	struct clock_timer **heap;
	size_t count, room;
	uint64_t next_order;
};

static int64_t clock_read_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static int64_t clock_real_now(struct clock *clock)
{
	(void)clock;
	return clock_read_ns(CLOCK_BOOTTIME);
}

static int64_t clock_real_wall(struct clock *clock)
{
	(void)clock;
	return clock_read_ns(CLOCK_REALTIME);
}

static void clock_real_random(struct clock *clock, void *buf, size_t len)
{
	uint8_t *p = buf;

	(void)clock;
	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0) {
			if (errno == EINTR) {
				continue;
			}
			/* ids that may repeat would lose data */
			log_error("clock", "no random numbers: getrandom: %m");
			abort();
		}
		p += n;
		len -= (size_t)n;
	}
}

/* --- the heap --- */

static bool clock_timer_before(const struct clock_timer *a, const struct clock_timer *b)
{
	return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->order < b->order);
}

static void clock_heap_put(struct clock_real *c, size_t place, struct clock_timer *t)
{
	c->heap[place] = t;
	t->place = place;
}

static void clock_heap_settle(struct clock_real *c, size_t place, struct clock_timer *t)
{
	while (place > 0 && clock_timer_before(t, c->heap[(place - 1) / 2])) {
		clock_heap_put(c, place, c->heap[(place - 1) / 2]);
		place = (place - 1) / 2;
	}
	for (;;) {
		size_t child = 2 * place + 1;

		if (child >= c->count) {
			break;
		}
		if (child + 1 < c->count && clock_timer_before(c->heap[child + 1], c->heap[child])) {
			child++;
		}
		if (!clock_timer_before(c->heap[child], t)) {
			break;
		}
		clock_heap_put(c, place, c->heap[child]);
		place = child;
	}
	clock_heap_put(c, place, t);
}

static void clock_heap_remove(struct clock_real *c, struct clock_timer *t)
{
	struct clock_timer *last = c->heap[--c->count];

	if (last != t) {
		clock_heap_settle(c, t->place, last);
	}
	t->clock = NULL;
}

static void clock_arm(struct clock_real *c)
{
	struct itimerspec when = {0};

	if (c->count > 0) {
		int64_t at_ns = c->heap[0]->at_ns > 1 ? c->heap[0]->at_ns : 1; /* 0 is "off" */

		when.it_value.tv_sec = at_ns / NS_PER_S;
		when.it_value.tv_nsec = at_ns % NS_PER_S;
	}
	if (timerfd_settime(c->fd, TFD_TIMER_ABSTIME, &when, NULL) != 0) {
		log_error("clock", "timerfd_settime: %m");
	}
}

/* --- timers --- */

static int clock_timer_destroy(struct clock_timer *t)
{
	struct clock_real *c = t->clock;

	if (c != NULL) {
		bool first = t->place == 0;

		clock_heap_remove(c, t);
		if (first) {
			clock_arm(c);
		}
	}
	return 0;
}

static struct clock_timer *clock_real_timer_add(
		struct clock *clock, TALLOC_CTX *ctx, int64_t at_ns, void (*fn)(void *arg), void *arg)
{
	struct clock_real *c = talloc_get_type_abort(clock, struct clock_real);
	struct clock_timer *t;

	if (c->count == c->room) {
		size_t room = c->room == 0 ? 64 : 2 * c->room;
		struct clock_timer **heap;

		heap = talloc_realloc(c, c->heap, struct clock_timer *, room);
		if (heap == NULL) {
			return NULL;
		}
		c->heap = heap;
		c->room = room;
	}
	t = talloc_zero(ctx, struct clock_timer);
	if (t == NULL) {
		return NULL;
	}
	t->clock = c;
	t->at_ns = at_ns;
	t->order = c->next_order++;
	t->fn = fn;
	t->arg = arg;
	t->log = log_here();
	clock_heap_settle(c, c->count++, t);
	talloc_set_destructor(t, clock_timer_destroy);
	if (t->place == 0) {
		clock_arm(c);
	}
	return t;
}

static void clock_fire(
		struct tevent_context *ev, struct tevent_fd *fde, uint16_t flags, void *private_data)
{
	struct clock_real *c = talloc_get_type_abort(private_data, struct clock_real);
	int64_t now_ns = clock_read_ns(CLOCK_BOOTTIME);
	uint64_t newer = c->next_order;
	uint64_t expirations;

	(void)ev;
	(void)fde;
	(void)flags;
	while (read(c->fd, &expirations, sizeof(expirations)) < 0 && errno == EINTR) {
	}
	while (c->count > 0) {
		struct clock_timer *t = c->heap[0];
		void (*fn)(void *arg) = t->fn;
		void *arg = t->arg;
		const struct log_volume *log = t->log, *before;

		if (t->at_ns > now_ns || t->order >= newer) {
			break;
		}
		talloc_free(t);
		before = log_enter(log);
		fn(arg);
		(void)log_enter(before);
	}
	clock_arm(c);
}

static int clock_real_destroy(struct clock_real *c)
{
	for (size_t i = 0; i < c->count; i++) {
		c->heap[i]->clock = NULL;
	}
	c->count = 0;
	close(c->fd);
	return 0;
}

static const struct clock_ops clock_real_ops = {
	.now_ns = clock_real_now,
	.wall_ns = clock_real_wall,
	.timer_add = clock_real_timer_add,
	.random = clock_real_random,
};

struct clock *clock_real_new(TALLOC_CTX *ctx, struct tevent_context *ev)
{
	struct clock_real *c;

	c = talloc_zero(ctx, struct clock_real);
	if (c == NULL) {
		return NULL;
	}
	c->clock.ops = &clock_real_ops;
	c->fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (c->fd < 0) {
		talloc_free(c);
		return NULL;
	}
	talloc_set_destructor(c, clock_real_destroy);
	if (tevent_add_fd(ev, c, c->fd, TEVENT_FD_READ, clock_fire, c) == NULL) {
		talloc_free(c);
		return NULL;
	}
	return &c->clock;
}
