/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the figures of sim_tally.h. Way: sim_world.c counts, the programs' mains print. Thread: one.
 * Owns: nothing but its counters.
 * Holds: real time is all of the process: worlds that are made and judged count, too.
 */
#include "sim_tally.h"
#include <stdio.h>
#include <time.h>
#include "cached/base/clock.h"

static uint64_t crashes;
static int64_t simulated_ns, begun_ns;

static int64_t real_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

__attribute__((constructor)) static void tally_begin(void)
{
	begun_ns = real_ns();
}

void tally_crash(void)
{
	crashes++;
}

void tally_time(int64_t ns)
{
	simulated_ns += ns;
}

void tally_print(void)
{
	double simulated = (double)simulated_ns / NS_PER_S, real = (double)(real_ns() - begun_ns) / NS_PER_S;

	printf("tally: %llu crash points, %.1f s simulated in %.3f s, %.0fx\n", (unsigned long long)crashes,
			simulated, real, simulated / real);
	fflush(stdout);
}
