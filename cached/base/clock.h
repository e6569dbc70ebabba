/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Door one: time, timers and randomness for the core. Real: CLOCK_BOOTTIME, tevent, getrandom.
 * Simulated: a seeded queue (tests/sim).
 */
#ifndef OFS_BASE_CLOCK_H
#define OFS_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>
#include <talloc.h>
#include <time.h>

#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL

static inline int64_t timespec_ns(struct timespec t)
{
	return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

struct clock;
struct clock_timer; /* talloc child of the ctx given; talloc_free cancels it */

struct clock_ops {
	int64_t (*now_ns)(struct clock *);  /* monotonic, counts suspend */
	int64_t (*wall_ns)(struct clock *); /* CLOCK_REALTIME */
	struct clock_timer *(*timer_add)(struct clock *, TALLOC_CTX *ctx, int64_t at_ns,
			void (*fn)(void *arg), void *arg); /* one shot, core thread */
	void (*random)(struct clock *, void *buf, size_t len); /* any thread */
};
struct clock {
	const struct clock_ops *ops;
};

static inline int64_t clock_now_ns(struct clock *c)
{
	return c->ops->now_ns(c);
}
static inline int64_t clock_wall_ns(struct clock *c)
{
	return c->ops->wall_ns(c);
}
/* NULL: out of memory. The timer is freed before fn runs. */
static inline struct clock_timer *clock_timer_add(
		struct clock *c, TALLOC_CTX *ctx, int64_t at_ns, void (*fn)(void *), void *arg)
{
	return c->ops->timer_add(c, ctx, at_ns, fn, arg);
}
/* Also from disk jobs: what is new there gets its id of this door too. */
static inline void clock_random(struct clock *c, void *buf, size_t len)
{
	c->ops->random(c, buf, len);
}

struct tevent_context;
/* The real clock on the core's loop; talloc child of ctx, NULL: out of memory. */
struct clock *clock_real_new(TALLOC_CTX *ctx, struct tevent_context *ev);

#endif
