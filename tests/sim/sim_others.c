/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Another tool writes to the bucket while clients work: it knows nothing of us, and acts between any two of our
 * requests, most often on the very object that the next one is about. The daemon is killed, alone or with its client,
 * answers are lost, and in three worlds of eleven the power goes, at any moment of a client's or the daemon's work. In the end nothing that anybody wrote is gone, unless somebody who knew it has replaced or deleted it
 * (sim_judge.h), or in a window that docs/SEMANTICS.md names for the class of the store; and each object is a file
 * that a client can read.
 *
 *   sim_others [SEEDS [FIRST]]   default: 48 seeds from 1, those that have failed once, and 12 with power cuts
 *   SIM_FENCE=N                  the store is of this class, 0 to 3, whatever the seed says
 *   SIM_POWER=0|1                the power goes, or does not, whatever the seed says
 *   SIM_CLOCK=0|1                this machine's clock is set now and then; two seeds of nine have that by themselves
 *   SIM_PARTS=0|1                files of a few bytes go in parts; every seventh seed has that by itself
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/core/rings.h"
#include "cached/reconcile/reconcile.h"
#include "sim_others.h"
#include "sim_share.h"
#include "sim_tally.h"

#define OPS_PER_SEED 120
#define ACTS_PER_SEED 60
#define DEPTH_BYTES_MOST 60
#define CUT_SEEDS 12u
#define MOMENTS_MOST 800u /* between two cuts */

/* ---- clients: they go by what is in the tree ---- */

/* The version that a client who sees this file knows has ended, by what it is about to do. */
static void client_knew(struct others *x, const char *path, const char *how)
{
	struct model_file *f = world_file(&x->w, path);
	const char *text = share_has_stub(&x->w, path) || f == NULL ? share_text(&x->j, path) : f->text;

	if (text != NULL) {
		judge_ended(&x->j, text, strlen(text), how);
	}
}

static void new_path(struct others *x, char path[256])
{
	struct world *w = &x->w;
	uint64_t i = sim_random(w->sim, w->dir_count + 1);
	const char *dir = i == w->dir_count ? "" : w->dirs[i];

	if (strlen(dir) > DEPTH_BYTES_MOST) {
		dir = "";
	}
	snprintf(path, 256, "%.200s%s%c", dir, *dir ? "/" : "", 'a' + (int)sim_random(w->sim, 6));
}

/* Listed, and so the name is free; or it is not. */
static bool may_make(struct others *x, const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[256];

	snprintf(dir, sizeof(dir), "%.*s", slash != NULL ? (int)(slash - path) : 0, path);
	if (x->w.v == NULL || !client_lists(&x->w, dir, false)) {
		return false;
	}
	share_look(&x->w);
	return share_has(&x->w, *dir ? dir : ".") && !share_has(&x->w, path) && x->w.file_count < FILES_MOST - 3 &&
	       x->w.dir_count < DIRS_MOST - 3;
}

static void op_create(struct others *x)
{
	char path[256], text[64];

	new_path(x, path);
	if (may_make(x, path)) {
		snprintf(text, sizeof(text), "client %u", x->serial++);
		judge_written(&x->j, text, false);
		client_create(&x->w, path, text);
	}
}

static void op_write(struct others *x, const char *path)
{
	bool stub = share_has_stub(&x->w, path);
	const char *was = stub ? share_text(&x->j, path) : NULL;
	char text[64];

	if (was != NULL) { /* from the first thing that is done on: the power may go before the last */
		judge_ended(&x->j, was, strlen(was), "overwritten by a client");
	}
	if (stub && !client_plain(&x->w, path, true)) {
		return;
	}
	share_look(&x->w);
	if (!share_has(&x->w, path) || share_has_stub(&x->w, path) || world_file(&x->w, path) == NULL) {
		return;
	}
	if (!stub) {
		was = world_file(&x->w, path)->text;
		judge_ended(&x->j, was, strlen(was), "overwritten by a client");
	}
	snprintf(text, sizeof(text), "client %u", x->serial++);
	judge_written(&x->j, text, false);
	client_write(&x->w, path, text);
}

static void op_read(struct others *x, const char *path)
{
	int fd;
	char text[64];
	ssize_t n;

	if (!client_plain(&x->w, path, false)) {
		return;
	}
	fd = openat(x->w.tree_fd, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	n = fd >= 0 ? pread(fd, text, sizeof(text), 0) : 0;
	if (n > 0) {
		judge_known(&x->j, text, (size_t)n, path);
	}
	close(fd);
}

static void op_flush(struct others *x)
{
	struct world *w = &x->w;
	int fd;

	share_look(w);
	if (w->file_count > 0) {
		const struct model_file *f = &w->files[sim_random(w->sim, w->file_count)];

		fd = openat(w->tree_fd, f->path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0 && fsync(fd) == 0) { /* else it is being sent */
			judge_flushed(&x->j, f->text);
		}
		close(fd);
	}
}

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static void op_rename(struct others *x, const char *from, bool over)
{
	struct world *w = &x->w;
	char to[256], source[256];

	snprintf(source, sizeof(source), "%s", from);
	if (over && w->file_count > 0) {
		snprintf(to, sizeof(to), "%s", w->files[sim_random(w->sim, w->file_count)].path);
	} else {
		new_path(x, to);
		if (!may_make(x, to) || !share_has(w, source)) {
			return;
		}
	}
	if (is_below(to, source) || (over && (share_has_stub(w, to) && w->v == NULL))) {
		return;
	}
	if (over) {
		client_knew(x, to, "replaced by a client's rename");
	}
	client_rename(w, source, to);
}

static void op_rmdir(struct others *x)
{
	struct world *w = &x->w;
	char path[256];

	snprintf(path, sizeof(path), "%s", w->dirs[sim_random(w->sim, w->dir_count)]);
	if (!client_lists(w, path, false) || !share_has(w, path)) {
		return;
	}
	share_look(w);
	for (unsigned i = 0; i < w->file_count; i++) {
		if (is_below(w->files[i].path, path)) {
			return;
		}
	}
	for (unsigned i = 0; i < w->dir_count; i++) {
		if (is_below(w->dirs[i], path) && strcmp(w->dirs[i], path) != 0) {
			return;
		}
	}
	client_rmdir(w, path);
}

static void one_operation(struct others *x)
{
	struct world *w = &x->w;
	char path[256] = "", dir[256] = "";

	world_clock(w);
	share_look(w);
	if (w->file_count > 0) {
		snprintf(path, sizeof(path), "%s", w->files[sim_random(w->sim, w->file_count)].path);
	}
	if (w->dir_count > 0) {
		snprintf(dir, sizeof(dir), "%s", w->dirs[sim_random(w->sim, w->dir_count)]);
	}
	switch (sim_random(w->sim, 20)) {
	default:
		op_create(x);
		return;
	case 3:
	case 4:
	case 5:
	case 6:
	case 7:
		if (*path != '\0') {
			op_write(x, path);
		}
		return;
	case 8:
	case 9:
		if (*path != '\0') {
			op_rename(x, path, false);
		}
		return;
	case 10:
		if (*path != '\0') {
			op_rename(x, path, true);
		}
		return;
	case 11:
		if (*path != '\0' && (w->v != NULL || !share_has_stub(w, path))) {
			client_knew(x, path, "deleted by a client");
			client_unlink(w, path);
		}
		return;
	case 12:
		new_path(x, path);
		if (may_make(x, path)) {
			client_mkdir(w, path);
		}
		return;
	case 13:
		if (*dir != '\0') {
			op_rename(x, dir, false);
		}
		return;
	case 14:
		if (*dir != '\0') {
			op_rmdir(x);
		}
		return;
	case 15:
	case 16:
		if (*path != '\0') {
			client_evict(w, path);
		}
		return;
	case 17:
		(void)client_lists(w, dir, true);
		return;
	case 18:
		if (*path != '\0') {
			op_read(x, path);
		}
		return;
	case 19:
		if (*path != '\0') {
			client_set_time(w, path);
		}
		return;
	}
}

/* ---- one seed ---- */

static void tool_acts(struct others *x)
{
	int64_t now = sim_store_ns(x->w.sim);

	if (now - x->killed_ns >= HIDDEN_NS) {
		x->killed_since_ns = now;
	}
	x->killed_ns = now;
	for (unsigned acts = (unsigned)sim_random(x->w.sim, 3); acts > 0; acts--) {
		tool_act(x);
	}
}

static void kill_one(struct others *x)
{
	struct world *w = &x->w;
	unsigned steps = (unsigned)sim_random(w->sim, 200);
	bool both = sim_random(w->sim, 3) == 0;

	while (steps-- > 0 && sim_step(w->sim)) {
	}
	daemon_kill(w);
	if (both) {
		client_lost(w);
	} else if (sim_random(w->sim, 2) == 0) {
		one_operation(x); /* nobody listens */
	}
	tool_acts(x);
	daemon_start(w);
	if (both) {
		client_start(w);
	}
	rings_drain(w->v->rings);
}

static void one_step(void *arg)
{
	struct others *x = arg;
	struct world *w = &x->w;

	one_operation(x);
	if (x->powered && cut_is_gone(&x->cut)) {
		return;
	}
	if (x->powered && sim_random(w->sim, 4) == 0) {
		op_flush(x);
	}
	if (sim_random(w->sim, 3) == 0) {
		sim_run_until(w->sim, NULL, NULL, (int64_t)sim_random(w->sim, 20 * NS_PER_S));
	}
	if (sim_random(w->sim, 20) == 0) {
		kill_one(x);
	}
}

static void next_cut(struct others *x)
{
	cut_in(&x->cut, 1 + (unsigned)sim_random(x->w.sim, MOMENTS_MOST));
}

static void lose_power(struct others *x)
{
	struct world *w = &x->w;

	cut_dies(&x->cut);
	cut_loses(&x->cut, (enum lossy_how)sim_random(w->sim, LOSSY_HOWS), sim_random(w->sim, 0));
	judge_cut(&x->j);
	x->cuts++;
	tool_acts(x);
	world_boot(w);
	next_cut(x);
}

static int fence_class_of(uint64_t seed)
{
	const char *forced = getenv("SIM_FENCE");

	return forced != NULL ? atoi(forced) : 3 - (int)(seed % 4);
}

static void run_seed(uint64_t seed, bool powered)
{
	struct others *x = calloc(1, sizeof(*x));
	struct world *w = &x->w;
	int64_t conflicts = stats_get(conflicts), rebased = stats_get(rebased);

	x->fence_class = fence_class_of(seed);
	x->j.w = w;
	world_open(w, seed, x->fence_class);
	w->others = true;
	sim_set_faults(w->sim, (struct sim_faults){.away = 20, .lost_answer = 20, .conflict = seed % 8 == 2 ? 50 : 0});
	tool_start(x, ACTS_PER_SEED);
	x->powered = powered;
	if (x->powered) {
		cut_begin(&x->cut, w, NULL, NULL);
		next_cut(x);
	}
	for (unsigned i = 0; i < OPS_PER_SEED; i++) {
		if (!x->powered) {
			one_step(x);
		} else if (cut_run(&x->cut, one_step, x)) {
			lose_power(x);
		}
	}
	if (x->powered) {
		cut_end(&x->cut);
	}
	tool_rest(x);
	sim_set_faults(w->sim, (struct sim_faults){0});
	(void)reconcile_accept_conflicts(w->v->reconcile);
	world_settle(w);
	share_list(w, 2);
	judge_store(&x->j);
	share_is_store(w);
	world_no_uploads(w);
	printf("seed %llu: F%d, %u versions, %u by another tool, %u power cuts, %lld conflicts, %lld rebased, %llu events, "
			"trace %016llx\n",
			(unsigned long long)seed, x->fence_class, x->j.count, ACTS_PER_SEED - x->acts, x->cuts,
			(long long)(stats_get(conflicts) - conflicts), (long long)(stats_get(rebased) - rebased),
			(unsigned long long)sim_events(w->sim), (unsigned long long)sim_trace(w->sim));
	fflush(stdout);
	tool_stop(x);
	world_close(w);
	judge_free(&x->j);
	free(x);
}

int main(int argc, char **argv)
{
	static const unsigned long failed[] = {106, 470, 703, 934};
	unsigned long seeds = argc > 1 ? strtoul(argv[1], NULL, 10) : 48;
	unsigned long first = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;

	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	for (unsigned long i = 0; i < seeds; i++) {
		run_seed(first + i, world_is_cut(first + i));
	}
	for (unsigned long i = 0; argc == 1 && i < sizeof(failed) / sizeof(failed[0]); i++) {
		run_seed(failed[i], world_is_cut(failed[i]));
	}
	for (unsigned long i = 1; argc == 1 && i <= CUT_SEEDS; i++) {
		run_seed(i, true);
	}
	tally_print();
	return 0;
}
