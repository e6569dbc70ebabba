/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the figures of sim_tally.h. Way: sim_world.c and sim_daemon.c count, the programs' mains print. Thread: one.
 * Owns: nothing but its counters, which processes that it forks count in, too; it alone prints.
 * Holds: real time is all of the process: worlds that are made and judged count, too.
 */
#include "sim_tally.h"
#include <err.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "cached/base/clock.h"

static struct tally {
	_Atomic uint64_t crashes;
	_Atomic int64_t simulated_ns;
	int64_t begun_ns;
	pid_t pid;
} *tally;

static int64_t real_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

__attribute__((constructor)) static void tally_begin(void)
{
	tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tally == MAP_FAILED) {
		err(1, "no memory");
	}
	tally->begun_ns = real_ns();
	tally->pid = getpid();
}

void tally_crash(void)
{
	tally->crashes++;
}

void tally_time(int64_t ns)
{
	tally->simulated_ns += ns;
}

void tally_print(void)
{
	double simulated = (double)tally->simulated_ns / NS_PER_S;
	double real = (double)(real_ns() - tally->begun_ns) / NS_PER_S;

	if (getpid() != tally->pid) {
		return;
	}
	printf("tally: %llu crash points, %.1f s simulated in %.3f s, %.0fx\n", (unsigned long long)tally->crashes,
			simulated, real, simulated / real);
	fflush(stdout);
}
