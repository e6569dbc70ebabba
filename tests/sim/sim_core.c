/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The daemon's core on four simulated doors, through crashes.
 *
 * Clients change files and directories at random; at random moments the daemon is killed and started
 * again. In the end, once everything has drained, the store must hold exactly the model. Worlds of odd
 * seeds are dense: few names, which come back, directories moved into each other, long backlogs. Some
 * files are called like directories. In three worlds of eleven the power goes, too, again and again, at any moment of a
 * client's or the daemon's work, and once more before all is as it was; what is left is judged by sim_power.h, and is
 * the model then. The first seeds run twice: one seed is one run.
 *
 *   sim_core [SEEDS [FIRST]]     default: 12 seeds from 1, those that have failed once, and 24 with power cuts; prints
 *                                the seed that failed
 *   SIM_POWER=0|1                the power goes, or does not, whatever the seed says
 *   SIM_FENCE=N                  the store is of this class, 1 to 3, whatever the seed says
 *   SIM_CLOCK=0|1                this machine's clock is set now and then; two seeds of nine have that by themselves
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
#include "sim_handle.h"
#include "sim_power.h"
#include "sim_share.h"
#include "sim_tally.h"
#include "sim_world.h"

#define OPS_PER_SEED 150
#define MOMENTS_MOST 800u /* between two cuts */
#define RESTORE_NS (25 * 3600 * NS_PER_S) /* what waits for it is tried again */
#define CUT_SEEDS 24u
#define AGAIN_MOST 120u    /* moments, before all has come back */
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

	world_clock(w);
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
			daemon_restart(w);
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

static unsigned unarchive(struct world *w)
{
	unsigned count = 0;

	for (struct sim_object *o = sim_objects(w->sim); o != NULL; o = o->next) {
		count += o->archived;
		o->archived = false;
	}
	return count;
}

/* The disk is lost, what is archived is restored, a day passes. */
static void restore_all(struct world *w)
{
	unsigned i, count;

	world_settle(w);
	client_find(w);
	daemon_kill(w);
	world_lose_disk(w);
	world_names(w);
	count = unarchive(w);
	for (i = 0; i < w->file_count; i++) {
		client_read(w, w->files[i].path, true);
	}
	sim_run_until(w->sim, NULL, NULL, RESTORE_NS);
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

struct life {
	struct world w;
	struct power p;
	struct handle handle;
	bool powered; /* until the power goes */
	unsigned crashes, cuts;
};

static void set_faults(struct life *l, bool on)
{
	struct sim_faults some = {.away = 20, .lost_answer = 20, .conflict = l->w.seed % 8 == 2 ? 50 : 0};

	sim_set_faults(l->w.sim, on ? some : (struct sim_faults){0});
}

static void steps_of(struct world *w, unsigned most)
{
	unsigned steps = (unsigned)sim_random(w->sim, most);

	while (steps-- > 0 && sim_step(w->sim)) {
	}
}

static void kill_one(struct life *l)
{
	struct world *w = &l->w;

	steps_of(w, 200);
	daemon_kill(w);
	l->crashes++;
	if (sim_random(w->sim, 2) == 0 && client_find(w)) {
		one_operation(w); /* nobody listens */
	}
	daemon_start(w);
	rings_drain(w->v->rings);
	read_some(w);
}

/* ---- the power ---- */

/* In place, twice, and long enough for it to be sent while it is open. */
static void patch_open(struct life *l, struct model_file *f)
{
	struct world *w = &l->w;
	char text[HANDLE_TEXT_MOST] = "", some[24];

	handle_open(w, &l->handle, f->path);
	for (unsigned times = 2; times > 0 && handle_before(w, &l->handle, text); times--) {
		snprintf(some, sizeof(some), "open %u", w->serial++);
		memcpy(text, some, strlen(some));
		snprintf(f->text, sizeof(f->text), "%s", text);
		power_patched(&l->p, f->path);
		handle_write(w, &l->handle, some, 0);
		sim_run_until(w->sim, NULL, NULL, (int64_t)sim_random(w->sim, 70 * NS_PER_S));
	}
	handle_close(w, &l->handle);
}

/* What a power cut may not take, or may take half of. */
static void more_operations(struct life *l)
{
	struct world *w = &l->w;
	struct model_file *f = pick_file(w);
	uint64_t which = sim_random(w->sim, 8);

	if (f == NULL || !share_has(w, f->path)) {
		return;
	}
	if (which < 3) {
		power_flush(&l->p, f->path);
	} else if (which == 3) {
		patch_open(l, f);
	} else if (which == 4) {
		char text[sizeof(f->rights)];

		snprintf(text, sizeof(text), "rights %u", w->serial++);
		handle_rights(w, f->path, text);
		strcpy(f->rights, text);
	}
}

/* The daemon comes back, is killed meanwhile, or goes on until it is cut again. */
static void come_back(void *arg)
{
	struct life *l = arg;

	steps_of(&l->w, 200);
	if (sim_random(l->w.sim, 2) == 0) {
		daemon_kill(&l->w);
		l->crashes++;
		daemon_start(&l->w);
	}
	steps_of(&l->w, 400);
}

static void next_cut(struct life *l, unsigned most)
{
	cut_in(&l->p.cut, 1 + (unsigned)sim_random(l->w.sim, most));
}

static void lose_power(struct life *l)
{
	struct world *w = &l->w;

	handle_lost(&l->handle);
	do {
		l->cuts++;
		power_cut(&l->p, (enum lossy_how)sim_random(w->sim, LOSSY_HOWS), sim_random(w->sim, 0));
		next_cut(l, AGAIN_MOST);
	} while (sim_random(w->sim, 2) == 0 && cut_run(&l->p.cut, come_back, l));
	set_faults(l, false);
	if (unarchive(w) > 0) { /* what is archived cannot be read, and so not be judged */
		sim_run_until(w->sim, NULL, NULL, RESTORE_NS);
	}
	power_judge(&l->p);
	set_faults(l, true);
	next_cut(l, MOMENTS_MOST);
}

/* ---- the whole of it ---- */

static void one_step(void *arg)
{
	struct life *l = arg;
	struct world *w = &l->w;

	if (drops(w)) {
		drop_some(w);
	}
	if (archives(w)) {
		archive_some(w);
	}
	one_operation(w);
	if (l->powered && cut_is_gone(&l->p.cut)) {
		return;
	}
	if (l->powered) {
		more_operations(l);
		if (cut_is_gone(&l->p.cut)) {
			return;
		}
	}
	if (sim_random(w->sim, is_dense(w) ? 12 : 3) == 0) {
		sim_run_until(w->sim, NULL, NULL, (int64_t)sim_random(w->sim, 10 * NS_PER_S));
	}
	if (sim_random(w->sim, 30) == 0) {
		kill_one(l);
	}
}

/* The hash of everything that happened. */
static uint64_t run_seed(uint64_t seed, bool powered, int fence_class)
{
	struct life *l = calloc(1, sizeof(*l));
	struct world *w = &l->w;
	uint64_t trace;

	world_open(w, seed, fence_class);
	l->powered = powered;
	if (l->powered) {
		power_begin(&l->p, w);
		next_cut(l, MOMENTS_MOST);
	}
	set_faults(l, true);
	for (unsigned i = 0; i < OPS_PER_SEED; i++) {
		if (!l->powered) {
			one_step(l);
		} else if (cut_run(&l->p.cut, one_step, l)) {
			lose_power(l);
		}
	}
	if (l->powered) {
		power_end(&l->p);
	}
	set_faults(l, false);
	if (archives(w)) {
		restore_all(w);
	}
	world_drain(w);
	client_find(w);
	for (unsigned i = 0; i < w->file_count; i++) {
		client_read(w, w->files[i].path, true);
	}
	if (stats_get(conflicts) != 0) {
		die(w, "a conflict", "nobody else writes");
	}
	world_no_uploads(w);
	trace = sim_trace(w->sim);
	printf("seed %llu: F%d, %u files, %u crashes, %u power cuts, %lld evictions, %lld dropped, %lld folded, %u base rows "
			"(%u valid), %llu events, trace %016llx\n",
			(unsigned long long)seed, fence_class, w->file_count, l->crashes, l->cuts,
			(long long)stats_get(evictions), (long long)stats_get(stubs_dropped),
			(long long)stats_get(log_segments_folded), w->bases.rows, w->bases.valid,
			(unsigned long long)sim_events(w->sim), (unsigned long long)trace);
	if (w->parts) {
		printf("  in parts: %lld uploads, %lld copied in part, %lld gone on with (%lld parts), %lld ended\n",
				(long long)stats_get(uploads), (long long)stats_get(deltas),
				(long long)stats_get(uploads_resumed), (long long)stats_get(parts_resumed),
				(long long)stats_get(uploads_ended));
	}
	fflush(stdout);
	world_close(w);
	free(l);
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
		uint64_t trace = run_seed(first + i, world_is_cut(first + i), fence_class_of(first + i));

		if (i < twice && run_seed(first + i, world_is_cut(first + i), fence_class_of(first + i)) != trace) {
			fprintf(stderr, "FAIL: seed %lu: a second run was another one\n", first + i);
			return 1;
		}
	}
	for (i = 0; argc == 1 && i < sizeof(failed) / sizeof(failed[0]); i++) {
		run_seed(failed[i], world_is_cut(failed[i]), fence_class_of(failed[i]));
	}
	for (i = 1; argc == 1 && i <= CUT_SEEDS; i++) {
		run_seed(i, true, fence_class_of(i));
	}
	if (argc == 1) {
		run_seed(23, true, 1); /* rights that no new disk would have had */
		run_seed(91, true, 2); /* a delete that S3 was told of, and the disk had not */
	}
	tally_print();
	return 0;
}
