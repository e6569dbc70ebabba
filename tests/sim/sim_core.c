/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The daemon's core on four simulated doors, through crashes.
 *
 * Clients change files and directories at random; at random moments the daemon is killed and started
 * again. In the end, once everything has drained, the store must hold exactly the model. Worlds of odd
 * seeds are dense: few names, which come back, directories moved into each other, long backlogs. Some
 * files are called like directories. The first seeds run twice: one seed is one run.
 *
 *   sim_core [SEEDS [FIRST]]     default: 12 seeds from 1, and those that have failed once; prints the
 *                                seed that failed
 *   SIM_FENCE=N                  the store is of this class, 1 to 3, whatever the seed says
 *   SIM_PARTS=0|1                files of a few bytes go in parts; every seventh seed has that by itself
 *   SIM_TWICE=N                  so many of them twice, default 3
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/core/rings.h"
#include "sim_tally.h"
#include "sim_world.h"

#define OPS_PER_SEED 150
#define DEPTH_BYTES_MOST 60

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

static bool is_dense(const struct world *w)
{
	return w->seed % 2 == 1;
}

/* Every fifth world has objects that are archived, and restored at its end. */
static bool archives(const struct world *w)
{
	return w->seed % 5 == 3;
}

/* Of files by the key. */
static bool is_taken(struct world *w, const char *path)
{
	char key[300], other[300];
	unsigned i;

	world_key(path, key);
	for (i = 0; i < w->file_count; i++) {
		world_key(w->files[i].path, other);
		if (strcmp(other, key) == 0) {
			return true;
		}
	}
	for (i = 0; i < w->dir_count; i++) {
		if (strcmp(w->dirs[i], path) == 0) {
			return true;
		}
	}
	return false;
}

/* A free path. Dense worlds have a few names only, the same for files and directories. */
static void new_path(struct world *w, const char *stem, char out[256])
{
	unsigned tries;
	const char *dir;

	for (tries = 0; is_dense(w) && tries < 20; tries++) {
		dir = pick_dir(w);
		snprintf(out, 256, "%.200s%s%c", dir, *dir ? "/" : "", 'a' + (int)sim_random(w->sim, 5));
		if (strlen(dir) <= DEPTH_BYTES_MOST && !is_taken(w, out)) {
			return;
		}
	}
	dir = pick_dir(w);
	if (strlen(dir) > DEPTH_BYTES_MOST) {
		dir = "";
	}
	snprintf(out, 256, "%.200s%s%s%u", dir, *dir ? "/" : "", stem, w->serial++);
}

/* Every fifth file is called like a directory. */
static void new_file_path(struct world *w, const char *stem, char out[256])
{
	const char *dir, *slash;
	char path[256];
	size_t up;

	new_path(w, stem, out);
	if (w->dir_count == 0 || w->serial % 5 != 0) {
		return;
	}
	dir = w->dirs[w->serial % w->dir_count];
	slash = strrchr(dir, '/');
	up = slash ? (size_t)(slash + 1 - dir) : 0;
	snprintf(path, sizeof(path), "%.*s%%~%.200s%%file", (int)up, dir, dir + up);
	if (!is_taken(w, path)) {
		strcpy(out, path);
	}
}

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static void rename_dir(struct world *w)
{
	char from[256], to[256];

	if (w->dir_count == 0) {
		return;
	}
	strcpy(from, w->dirs[sim_random(w->sim, w->dir_count)]);
	if (is_dense(w)) {
		new_path(w, "m", to);
	} else {
		snprintf(to, sizeof(to), "m%u", w->serial++);
	}
	if (!is_below(to, from)) {
		client_rename(w, from, to);
	}
}

static void remove_dir(struct world *w)
{
	char path[256];
	unsigned i, below = 0;

	if (w->dir_count == 0) {
		return;
	}
	strcpy(path, w->dirs[sim_random(w->sim, w->dir_count)]);
	for (i = 0; i < w->file_count; i++) {
		below += is_below(w->files[i].path, path);
	}
	for (i = 0; i < w->dir_count; i++) {
		below += is_below(w->dirs[i], path);
	}
	if (below == 1) {
		client_rmdir(w, path);
	}
}

/* Every fourth world has directories that are cold now and then. */
static bool drops(const struct world *w)
{
	return w->seed % 4 == 2;
}

/* As smbd does before it makes a name in a directory that is not listed; the answer, that there is none, may
 * come before the name is made or after it. */
static void ask_first(struct world *w, const char *path)
{
	for (unsigned times = drops(w) ? 2 : 0; times > 0; times--) {
		unsigned steps = (unsigned)sim_random(w->sim, 40);

		client_ask(w, path);
		while (steps-- > 0 && sim_step(w->sim)) {
		}
	}
	if (drops(w)) {
		client_find(w); /* a drop went on meanwhile */
	}
}

static void one_operation(struct world *w)
{
	struct model_file *f = pick_file(w), *g = pick_file(w);
	char path[256], text[64], a[256], b[256];

	switch (sim_random(w->sim, is_dense(w) ? 18 : 14)) {
	case 0:
	case 1:
	case 2:
		if (w->file_count < FILES_MOST) {
			new_file_path(w, "f", path);
			ask_first(w, path);
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
			new_file_path(w, "r", path);
			ask_first(w, path);
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
		if (w->dir_count < (is_dense(w) ? DIRS_MOST - 2 : 8)) {
			new_path(w, "d", path);
			client_mkdir(w, path);
		}
		return;
	case 9:
		if (sim_random(w->sim, 2) == 0 && f != NULL && f != g) {
			/* a swap through a third name */
			strcpy(a, f->path);
			strcpy(b, g->path);
			new_path(w, "t", path);
			client_rename(w, a, path);
			client_rename(w, b, a);
			client_rename(w, path, b);
		} else {
			rename_dir(w);
		}
		return;
	case 10:
		if (f != NULL) {
			client_read(w, f->path, false);
		}
		return;
	case 11:
	case 12:
		if (f != NULL) {
			client_evict(w, f->path);
		}
		return;
	case 13:
		if (f != NULL) {
			client_set_time(w, f->path);
		}
		return;
	case 14:
	case 15:
		rename_dir(w);
		return;
	default:
		remove_dir(w);
		return;
	}
}

/* ---- one seed ---- */

/* Quiet until most of it is in the store; then the daemon may be killed at any step of a drop, or clients go on
 * in the middle of it. */
static void drop_some(struct world *w)
{
	if (sim_random(w->sim, 12) == 0) {
		unsigned steps = (unsigned)sim_random(w->sim, 24);

		sim_run_until(w->sim, NULL, NULL, 120 * NS_PER_S);
		client_drop(w, pick_dir(w));
		while (steps-- > 0 && sim_step(w->sim)) {
		}
		if (sim_random(w->sim, 2) == 0) {
			daemon_kill(w);
			daemon_start(w);
			rings_drain(w->v->rings);
		}
	}
	client_find(w);
}

/* Quiet first: an object is the model's then. */
static void archive_some(struct world *w)
{
	struct model_file *f = pick_file(w);
	struct sim_object *o;
	char key[300];

	if (f == NULL || sim_random(w->sim, 6) != 0) {
		return;
	}
	sim_run_until(w->sim, NULL, NULL, 120 * NS_PER_S);
	world_key(f->path, key);
	o = world_is_drained(w) ? sim_object(w->sim, key) : NULL;
	if (o != NULL) {
		world_trace(w, "archive", key, "");
		o->archived = true;
	}
	client_find(w); /* a drop that was begun has gone on meanwhile */
}

/* The disk is lost, what is archived is restored, a day passes. */
static void restore_all(struct world *w)
{
	unsigned i, count = 0;

	world_settle(w);
	client_find(w);
	daemon_kill(w);
	world_lose_disk(w);
	world_names(w);
	for (struct sim_object *o = sim_objects(w->sim); o != NULL; o = o->next) {
		count += o->archived;
		o->archived = false;
	}
	for (i = 0; i < w->file_count; i++) {
		client_read(w, w->files[i].path, true);
	}
	sim_run_until(w->sim, NULL, NULL, 25 * 3600 * NS_PER_S);
	world_settle(w);
	world_trace(w, "restored", count > 0 ? "some" : "none", "");
}

/* While the daemon goes on with what its predecessor had begun. */
static void read_some(struct world *w)
{
	unsigned i;

	for (i = 0; i < 4 && w->file_count > 0; i++) {
		client_find(w);
		client_read(w, pick_file(w)->path, false);
		sim_run_until(w->sim, NULL, NULL, (int64_t)sim_random(w->sim, NS_PER_S));
	}
}

static int fence_class_of(uint64_t seed)
{
	const char *forced = getenv("SIM_FENCE");

	return forced != NULL ? atoi(forced) : 3 - (int)(seed / 3 % 3);
}

/* The hash of everything that happened. */
static uint64_t run_seed(uint64_t seed)
{
	struct world w;
	unsigned i, crashes = 0;
	uint64_t trace;

	world_open(&w, seed, fence_class_of(seed));
	sim_set_faults(w.sim, (struct sim_faults){.away = 20, .lost_answer = 20,
			.conflict = seed % 8 == 2 ? 50 : 0});
	for (i = 0; i < OPS_PER_SEED; i++) {
		if (drops(&w)) {
			drop_some(&w);
		}
		if (archives(&w)) {
			archive_some(&w);
		}
		one_operation(&w);
		if (sim_random(w.sim, is_dense(&w) ? 12 : 3) == 0) {
			sim_run_until(w.sim, NULL, NULL, (int64_t)sim_random(w.sim, 10 * NS_PER_S));
		}
		if (sim_random(w.sim, 30) == 0) {
			unsigned steps = (unsigned)sim_random(w.sim, 200);

			while (steps-- > 0 && sim_step(w.sim)) {
			}
			daemon_kill(&w);
			crashes++;
			if (sim_random(w.sim, 2) == 0 && client_find(&w)) {
				one_operation(&w); /* nobody listens */
			}
			daemon_start(&w);
			rings_drain(w.v->rings);
			read_some(&w);
		}
	}
	sim_set_faults(w.sim, (struct sim_faults){0});
	if (archives(&w)) {
		restore_all(&w);
	}
	world_drain(&w);
	client_find(&w);
	for (i = 0; i < w.file_count; i++) {
		client_read(&w, w.files[i].path, true);
	}
	if (stats_get(conflicts) != 0) {
		die(&w, "a conflict", "nobody else writes");
	}
	world_no_uploads(&w);
	trace = sim_trace(w.sim);
	printf("seed %llu: F%d, %u files, %u crashes, %lld evictions, %lld dropped, %lld folded, %u base rows "
			"(%u valid), %llu events, trace %016llx\n",
			(unsigned long long)seed, fence_class_of(seed), w.file_count, crashes,
			(long long)stats_get(evictions), (long long)stats_get(stubs_dropped),
			(long long)stats_get(log_segments_folded), w.bases.rows, w.bases.valid,
			(unsigned long long)sim_events(w.sim), (unsigned long long)trace);
	if (w.parts) {
		printf("  in parts: %lld uploads, %lld copied in part, %lld gone on with (%lld parts), %lld ended\n",
				(long long)stats_get(uploads), (long long)stats_get(deltas),
				(long long)stats_get(uploads_resumed), (long long)stats_get(parts_resumed),
				(long long)stats_get(uploads_ended));
	}
	fflush(stdout);
	world_close(&w);
	return trace;
}

int main(int argc, char **argv)
{
	static const unsigned long failed[] = {124, 1102, 1128, 4081};
	unsigned long seeds = argc > 1 ? strtoul(argv[1], NULL, 10) : 12, i;
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
	for (i = 0; argc == 1 && i < sizeof(failed) / sizeof(failed[0]); i++) {
		run_seed(failed[i]);
	}
	tally_print();
	return 0;
}
