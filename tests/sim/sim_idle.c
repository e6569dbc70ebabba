/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A day in which no client does anything costs no request: nothing polls, nothing keeps itself alive.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include "cached/base/log.h"
#include "sim_world.h"

#define SETTLED_NS (5 * 60 * NS_PER_S) /* the log is flushed by then */
#define HOUR_NS (3600 * NS_PER_S)
#define HOURS 24

static bool never(void *arg)
{
	(void)arg;
	return false;
}

int main(void)
{
	struct world w;
	uint64_t before;

	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	world_open(&w, 1, 3);
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
	for (unsigned hour = 0; hour < HOURS; hour++) {
		(void)sim_run_until(w.sim, never, NULL, HOUR_NS);
		if (sim_requests(w.sim) != before) {
			die(&w, "an idle hour made requests", "");
		}
	}
	printf("%d idle hours: no request; before them: %llu\n", HOURS, (unsigned long long)before);
	world_close(&w);
	return 0;
}
