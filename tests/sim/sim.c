/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the simulated doors of sim.h, but for the object store: sim_store.c.
 * Way: the core calls the doors; sim_step calls back. Thread: one.
 * Owns: the event queue.
 * Holds: everything that depends on chance asks sim_random, in the order of the calls.
 */
#include "cached/objstore/impl.h"
#include "sim_priv.h"
#include <stdlib.h>
#include <string.h>
#include "cached/base/log.h"

/* splitmix64 (Vigna) */
uint64_t sim_random(struct sim *s, uint64_t below)
{
	uint64_t z = (s->state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	z ^= z >> 31;
	return below ? z % below : z;
}

struct event *sim_event_add(struct sim *s, int64_t at_ns, enum event_kind kind)
{
	struct event *e = calloc(1, sizeof(*e)), **pp = &s->queue;

	e->at_ns = at_ns < s->now_ns ? s->now_ns : at_ns;
	e->order = ++s->order;
	e->kind = kind;
	while (*pp != NULL && (*pp)->at_ns <= e->at_ns) {
		pp = &(*pp)->next;
	}
	e->next = *pp;
	*pp = e;
	return e;
}

/* ---- the trace: FNV-1a ---- */

void sim_trace_bytes(struct sim *s, const void *data, size_t len)
{
	const uint8_t *b = data;

	while (len-- > 0) {
		s->trace = (s->trace ^ *b++) * 0x100000001b3u;
	}
}

void sim_note(struct sim *s, const char *what, const char *detail)
{
	sim_trace_bytes(s, &s->now_ns, sizeof(s->now_ns));
	sim_trace_bytes(s, what, strlen(what) + 1);
	sim_trace_bytes(s, detail, strlen(detail) + 1);
}

uint64_t sim_requests(const struct sim *s)
{
	uint64_t n = 0;

	for (unsigned op = 0; op < OBJ_OP_MAX; op++) {
		n += s->requests[op];
	}
	return n;
}

uint64_t sim_requests_of(const struct sim *s, enum obj_op op)
{
	return s->requests[op];
}

uint64_t sim_trace(struct sim *s)
{
	return s->trace;
}

/* ---- clock ---- */

static struct sim *clock_sim(struct clock *c)
{
	return ((struct sim_clock *)c)->sim;
}

static int64_t sim_now(struct clock *c)
{
	return clock_sim(c)->now_ns;
}

int64_t sim_store_ns(const struct sim *s)
{
	return 1700000000 * NS_PER_S + s->now_ns;
}

void sim_set_clock(struct sim *s, int64_t ahead_ns)
{
	s->clock_ahead_ns = ahead_ns;
}

static int64_t sim_wall(struct clock *c)
{
	return sim_store_ns(clock_sim(c)) + clock_sim(c)->clock_ahead_ns;
}

static int timer_destructor(struct clock_timer *t)
{
	if (t->event != NULL) {
		t->event->dead = true;
		t->event->timer = NULL;
	}
	return 0;
}

static struct clock_timer *sim_timer_add(
		struct clock *c, TALLOC_CTX *ctx, int64_t at_ns, void (*fn)(void *), void *arg)
{
	struct sim *s = clock_sim(c);
	int was = sim_leave(s);
	struct clock_timer *t = talloc_zero(ctx, struct clock_timer);

	t->fn = fn;
	t->arg = arg;
	t->event = sim_event_add(s, at_ns, EVENT_TIMER);
	t->event->timer = t;
	talloc_set_destructor(t, timer_destructor);
	sim_back(s, was);
	return t;
}

static void sim_clock_random(struct clock *c, void *buf, size_t len)
{
	uint8_t *b = buf;

	while (len-- > 0) {
		*b++ = (uint8_t)sim_random(clock_sim(c), 256);
	}
}

static const struct clock_ops clock_ops = {
		.now_ns = sim_now,
		.wall_ns = sim_wall,
		.timer_add = sim_timer_add,
		.random = sim_clock_random,
};

/* ---- disk ---- */

static void sim_disk_submit(struct disk *d, enum disk_lane lane, struct disk_job *job)
{
	struct sim *s = ((struct sim_disk *)d)->sim;
	int64_t at = s->now_ns + (int64_t)sim_random(s, 3 * NS_PER_MS);
	int was = sim_leave(s);

	if (lane != DISK_ANY) {
		if (at < s->lane_free_ns[lane]) {
			at = s->lane_free_ns[lane];
		}
		s->lane_free_ns[lane] = at;
	}
	sim_event_add(s, at, EVENT_JOB)->job = job;
	sim_back(s, was);
}

static const struct disk_ops disk_ops = {.submit = sim_disk_submit};

/* ---- the border ---- */

void sim_set_border(struct sim *s, const struct sim_border *border)
{
	s->border = border;
}

bool sim_enter(struct sim *s, void (*fn)(void *arg), void *arg)
{
	if (s->border != NULL) {
		return s->border->enter(s->border->arg, fn, arg);
	}
	fn(arg);
	return true;
}

int sim_leave(struct sim *s)
{
	return s->border != NULL ? s->border->leave(s->border->arg) : 0;
}

void sim_back(struct sim *s, int was)
{
	if (s->border != NULL) {
		s->border->back(s->border->arg, was);
	}
}

/* ---- the simulator ---- */

struct sim *sim_new(uint64_t seed)
{
	struct sim *s = calloc(1, sizeof(*s));

	s->state = seed;
	s->trace = 0xcbf29ce484222325u;
	s->now_ns = NS_PER_S;
	s->fence_class = 3;
	s->clock = (struct sim_clock){{&clock_ops}, s};
	s->disk = (struct sim_disk){{&disk_ops}, s};
	s->coord = coord_local_new(NULL);
	return s;
}

struct clock *sim_clock(struct sim *s)
{
	return &s->clock.clock;
}

struct disk *sim_disk(struct sim *s)
{
	return &s->disk.disk;
}

struct coord *sim_coord(struct sim *s)
{
	return s->coord;
}

void sim_set_faults(struct sim *s, struct sim_faults f)
{
	s->faults = f;
}

uint64_t sim_events(struct sim *s)
{
	return s->events;
}

void sim_set_step(struct sim *s, void (*stepped)(void *arg), void *arg)
{
	s->stepped = stepped;
	s->stepped_arg = arg;
}

static void job_run(void *arg)
{
	struct disk_job *job = arg;

	job->run(job);
	job->done(job);
}

static void request_done(void *arg)
{
	struct obj_req *q = arg;

	obj_judge(q);
	obj_heard(q);
	q->done(q);
}

bool sim_step(struct sim *s)
{
	struct event *e = s->queue;
	struct clock_timer *t;
	bool dead;

	if (e == NULL) {
		return false;
	}
	s->queue = e->next;
	s->now_ns = e->at_ns;
	if (!e->dead) {
		s->events++;
		switch (e->kind) {
		case EVENT_TIMER:
			t = e->timer;
			sim_note(s, "timer", "");
			{
				void (*fn)(void *) = t->fn;
				void *arg = t->arg;

				t->event = NULL;
				talloc_free(t);
				(void)sim_enter(s, fn, arg);
			}
			break;
		case EVENT_JOB:
			sim_note(s, "job", e->job->what);
			(void)sim_enter(s, job_run, e->job);
			break;
		case EVENT_REQUEST:
			sim_request_run(s, e->req);
			if (e->req->result.status != OBJ_AWAY) {
				atomic_store(&s->store->since_boot_ns, sim_store_ns(s) - s->now_ns);
			}
			(void)sim_enter(s, request_done, e->req);
			break;
		}
	}
	dead = e->dead;
	free(e);
	if (!dead && s->stepped != NULL) {
		s->stepped(s->stepped_arg);
	}
	return true;
}

bool sim_run_until(struct sim *s, bool (*done)(void *arg), void *arg, int64_t ns)
{
	int64_t end = s->now_ns + ns;

	while (done == NULL || !done(arg)) {
		if (s->queue == NULL || s->queue->at_ns > end) {
			s->now_ns = end;
			return done == NULL || done(arg);
		}
		sim_step(s);
	}
	return true;
}

/* Jobs and requests of killed daemons, which nobody frees: reachable, so that a leak checker tells real leaks
 * from these. */
static struct event *killed_with;

void sim_dies(struct sim *s)
{
	s->heard = s->heard != 0 ? s->heard : s->order;
}

void sim_crash(struct sim *s)
{
	while (s->queue != NULL) {
		struct event *e = s->queue;

		s->queue = e->next;
		if (e->timer != NULL) {
			e->timer->event = NULL;
		}
		if (e->kind == EVENT_REQUEST) {
			/* Sent or not, who knows: half of the mutations have happened. */
			if (sim_random(s, 2) == 0 && (s->heard == 0 || e->order <= s->heard)) {
				sim_request_run(s, e->req);
			}
		}
		if (e->kind == EVENT_TIMER) {
			free(e);
		} else {
			e->next = killed_with;
			killed_with = e;
		}
	}
	memset(s->lane_free_ns, 0, sizeof(s->lane_free_ns));
	s->heard = 0;
}

void sim_free(struct sim **sp)
{
	struct sim *s = *sp;

	sim_crash(s);
	sim_objects_free(s);
	talloc_free(s->coord);
	free(s);
	*sp = NULL;
}
