/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A day in which no client does anything costs no request: nothing polls, nothing keeps itself alive.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include "cached/base/log.h"
#include "cached/core/fence.h"
#include "sim_world.h"

#define SETTLED_NS (5 * 60 * NS_PER_S) /* the log is flushed by then */
#define HOUR_NS (3600 * NS_PER_S)
#define HOURS 24

static bool never(void *arg)
{
	(void)arg;
	return false;
}

struct watch { /* what the volume does each second, beside its rooms' own timers */
	struct volume *v;
	struct fence *fence;
};

static void watch_tick(void *arg)
{
	struct watch *watch = arg;
	struct volume *v = watch->v;

	(void)fence_changed(watch->fence);
	(void)clock_timer_add(v->clock, v, clock_now_ns(v->clock) + NS_PER_S, watch_tick, watch);
}

static void idle(struct world *w, unsigned hours)
{
	uint64_t before = sim_requests(w->sim);

	for (unsigned hour = 0; hour < hours; hour++) {
		(void)sim_run_until(w->sim, never, NULL, HOUR_NS);
		if (sim_requests(w->sim) != before) {
			die(w, "an idle hour made requests", "");
		}
	}
}

/* The bucket is asked for its versioning so often. */
static void asked(struct world *w, unsigned times)
{
	if (sim_requests_of(w->sim, OBJ_VERSIONING) != times) {
		die(w, "the bucket's versioning was asked for too often or too rarely", "");
	}
}

int main(void)
{
	struct world w;
	struct watch watch;
	uint64_t before;

	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	world_open(&w, 1, 3);
	watch = (struct watch){w.v, fence_new(w.v, w.v)};
	watch_tick(&watch);
	client_mkdir(&w, "a");
	for (unsigned i = 0; i < 20; i++) {
		char path[16];

		snprintf(path, sizeof(path), "a/%u", i);
		client_create(&w, path, "some");
	}
	client_rename(&w, "a/1", "one");
	client_unlink(&w, "a/2");
	world_drain(&w);
	client_set_time(&w, "a/3");
	world_drain(&w);
	(void)sim_run_until(w.sim, never, NULL, SETTLED_NS);
	before = sim_requests(w.sim);
	idle(&w, HOURS);
	asked(&w, 0);
	for (unsigned i = 0; i < 12; i++) { /* two hours with something to do, from the first change on */
		char path[16];

		snprintf(path, sizeof(path), "b%u", i);
		client_create(&w, path, "some");
		world_drain(&w);
		(void)sim_run_until(w.sim, never, NULL, HOUR_NS / 6);
		asked(&w, 1 + i / 6);
	}
	(void)sim_run_until(w.sim, never, NULL, SETTLED_NS);
	idle(&w, HOURS);
	asked(&w, 2);
	printf("%d idle hours: no request; before them: %llu\n", 2 * HOURS, (unsigned long long)before);
	world_close(&w);
	return 0;
}
