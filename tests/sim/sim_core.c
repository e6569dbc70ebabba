/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The daemon's core on four simulated doors, through crashes.
 *
 * Clients change files and directories at random; at random moments the daemon is killed and started
 * again. In the end, once everything has drained, the store must hold exactly the model. The first
 * seeds run twice: one seed is one run.
 *
 *   sim_core [SEEDS [FIRST]]     default: 130 seeds from 1; prints the seed that failed
 *   SIM_TWICE=N                  so many of them twice, default 3
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cached/base/log.h"
#include "cached/core/rings.h"
#include "sim_world.h"

#define OPS_PER_SEED 150

/* ---- what clients do ---- */

static struct model_file *pick_file(struct world *w)
{
	return w->file_count ? &w->files[sim_random(w->sim, w->file_count)] : NULL;
}

static const char *pick_dir(struct world *w)
{
	uint64_t i = sim_random(w->sim, w->dir_count + 1);

	return i == w->dir_count ? "" : w->dirs[i];
}

static void new_path(struct world *w, const char *stem, char out[256])
{
	const char *dir = pick_dir(w);

	snprintf(out, 256, "%.200s%s%s%u", dir, *dir ? "/" : "", stem, w->serial++);
}

static void one_operation(struct world *w)
{
	struct model_file *f = pick_file(w), *g = pick_file(w);
	char path[256], text[64], a[256], b[256];

	switch (sim_random(w->sim, 10)) {
	case 0:
	case 1:
	case 2:
		if (w->file_count < FILES_MOST) {
			new_path(w, "f", path);
			snprintf(text, sizeof(text), "text %u", w->serial++);
			client_create(w, path, text);
		}
		return;
	case 3:
	case 4:
		if (f != NULL) {
			snprintf(text, sizeof(text), "text %u", w->serial++);
			client_write(w, f->path, text);
		}
		return;
	case 5:
		if (f != NULL) {
			new_path(w, "r", path);
			client_rename(w, strcpy(a, f->path), path);
		}
		return;
	case 6:
		if (f != NULL && f != g) {
			client_rename(w, strcpy(a, f->path), strcpy(b, g->path));
		}
		return;
	case 7:
		if (f != NULL) {
			client_unlink(w, strcpy(a, f->path));
		}
		return;
	case 8:
		if (w->dir_count < 8) {
			new_path(w, "d", path);
			client_mkdir(w, path);
		}
		return;
	default:
		if (sim_random(w->sim, 2) == 0 && f != NULL && f != g) {
			/* a swap through a third name */
			strcpy(a, f->path);
			strcpy(b, g->path);
			new_path(w, "t", path);
			client_rename(w, a, path);
			client_rename(w, b, a);
			client_rename(w, path, b);
		} else if (w->dir_count > 0) {
			strcpy(a, w->dirs[sim_random(w->sim, w->dir_count)]);
			snprintf(path, sizeof(path), "m%u", w->serial++);
			client_rename(w, a, path);
		}
		return;
	}
}

/* ---- one seed ---- */

/* The hash of everything that happened. */
static uint64_t run_seed(uint64_t seed)
{
	struct world w;
	unsigned i, crashes = 0;
	uint64_t trace;

	world_open(&w, seed);
	sim_set_faults(w.sim, (struct sim_faults){.away = 20, .lost_answer = 20});
	for (i = 0; i < OPS_PER_SEED; i++) {
		one_operation(&w);
		if (sim_random(w.sim, 3) == 0) {
			sim_run_until(w.sim, NULL, NULL, (int64_t)sim_random(w.sim, 10 * NS_PER_S));
		}
		if (sim_random(w.sim, 30) == 0) {
			unsigned steps = (unsigned)sim_random(w.sim, 200);

			while (steps-- > 0 && sim_step(w.sim)) {
			}
			daemon_kill(&w);
			crashes++;
			if (sim_random(w.sim, 2) == 0) {
				one_operation(&w); /* nobody listens */
			}
			daemon_start(&w);
			rings_drain(w.v->rings);
		}
	}
	sim_set_faults(w.sim, (struct sim_faults){0});
	world_drain(&w);
	trace = sim_trace(w.sim);
	printf("seed %llu: %u files, %u crashes, %llu events, trace %016llx\n",
			(unsigned long long)seed, w.file_count, crashes,
			(unsigned long long)sim_events(w.sim), (unsigned long long)trace);
	world_close(&w);
	return trace;
}

int main(int argc, char **argv)
{
	unsigned long seeds = argc > 1 ? strtoul(argv[1], NULL, 10) : 130, i;
	unsigned long first = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
	unsigned long twice = getenv("SIM_TWICE") ? strtoul(getenv("SIM_TWICE"), NULL, 10) : 3;

	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	for (i = 0; i < seeds; i++) {
		uint64_t trace = run_seed(first + i);

		if (i < twice && run_seed(first + i) != trace) {
			fprintf(stderr, "FAIL: seed %lu: a second run was another one\n", first + i);
			return 1;
		}
	}
	return 0;
}
