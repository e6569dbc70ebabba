/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What may not leave the local disk does not, for each reason there is, and the asker hears which; what may, comes back as
 * it was. Each case begins with a file that is clean, closed and in S3, makes one thing of it otherwise, and asks for the file,
 * or for the names of its directory, to go.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/evict/evict.h"
#include "cached/reconcile/reconcile.h"
#include "sim_asks.h"
#include "sim_handle.h"
#include "sim_world.h"

#define FILE_NAME "d/file"
#define FILE_KEY "p/d/file"
#define TEXT "what it was"
#define PINS_MOST 1000u /* evict.h: -ENOSPC */
#define DAY_NS (24 * 3600 * NS_PER_S)

struct answer {
	bool done;
	int status;
	uint64_t count;
};

static void on_file(void *arg, int status)
{
	struct answer *a = arg;

	a->status = status;
	a->done = true;
}

static void on_names(void *arg, int status, uint64_t count)
{
	((struct answer *)arg)->count = count;
	on_file(arg, status);
}

static bool is_done(void *arg)
{
	return ((struct answer *)arg)->done;
}

static struct ofs_oid oid_at(struct world *w, const char *path)
{
	struct ofs_record rec;

	if (ofs_record_get_at(&w->rio, w->tree_fd, path, &rec) != 0) {
		die(w, path, "no record");
	}
	return rec.oid;
}

static int answer_of(struct world *w, struct answer *a)
{
	if (!sim_run_until(w->sim, is_done, a, 600 * NS_PER_S)) {
		die(w, "no answer", FILE_NAME);
	}
	return a->status;
}

static int evict(struct world *w, const char *path)
{
	struct ofs_oid oid = oid_at(w, path);
	struct answer a = {0};

	evict_file(w->v->evictor, &oid, on_file, &a);
	return answer_of(w, &a);
}

static int pin(struct world *w, const struct ofs_oid *oid, bool on)
{
	struct answer a = {0};

	evict_pin(w->v->evictor, oid, on, on_file, &a);
	return answer_of(w, &a);
}

static int drop(struct world *w, uint64_t count)
{
	struct ofs_oid oid = oid_at(w, "d");
	struct answer a = {0};
	int status;

	evict_drop(w->v->evictor, &oid, INT64_MAX, on_names, &a);
	status = answer_of(w, &a);
	if (a.count != count) {
		die(w, "another number of names has gone", FILE_NAME);
	}
	return status;
}

static void pass(struct world *w, int64_t ns)
{
	sim_run_until(w->sim, NULL, NULL, ns);
}

static blkcnt_t blocks(struct world *w, const char *path)
{
	struct stat st;

	if (fstatat(w->tree_fd, path, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		die(w, path, strerror(errno));
	}
	return st.st_blocks;
}

/* ---- one thing is otherwise ---- */

static void nothing(struct world *w)
{
	(void)w;
}

static struct handle held;

static void open_here(struct world *w)
{
	handle_open(w, &held, FILE_NAME);
}

static void linked(struct world *w)
{
	if (linkat(w->tree_fd, FILE_NAME, w->path_fd, "link", 0) != 0) {
		die(w, "link", strerror(errno));
	}
}

static void newer(struct world *w)
{
	client_write(w, FILE_NAME, "newer");
}

static void behind_our_back(struct world *w)
{
	int fd = openat(w->tree_fd, FILE_NAME, O_WRONLY);

	if (fd < 0 || pwrite(fd, "WHAT", 4, 0) != 4) {
		die(w, "write", strerror(errno));
	}
	close(fd);
	memcpy(world_file(w, FILE_NAME)->text, "WHAT", 4);
}

static void replaced(struct world *w)
{
	sim_put(w->sim, FILE_KEY, "of another tool");
}

static void deleted(struct world *w)
{
	sim_remove(w->sim, FILE_KEY);
}

static void store_away(struct world *w)
{
	sim_set_faults(w->sim, (struct sim_faults){.away = 1000});
}

static void pinned(struct world *w)
{
	asks_pin(w, FILE_NAME, true);
}

/* With all that is below it, whatever else is pinned, and over a restart. */
static void pinned_above(struct world *w)
{
	asks_pin(w, "e", true);
	asks_pin(w, "d", true);
	daemon_restart(w);
	if (!world_wait_ready(w, 600 * NS_PER_S)) {
		die(w, "not ready", "");
	}
	pass(w, 60 * NS_PER_S);
	asks_looks(w);
}

static void emptied(struct world *w)
{
	client_write(w, FILE_NAME, "");
	pass(w, 60 * NS_PER_S);
}

static void gone_already(struct world *w)
{
	if (evict(w, FILE_NAME) != 0) {
		die(w, "it stays", FILE_NAME);
	}
}

static void evicted(struct world *w)
{
	gone_already(w);
	pass(w, 60 * NS_PER_S);
}

static void open_stub(struct world *w)
{
	evicted(w);
	open_here(w);
}

static void evicted_pinned(struct world *w)
{
	evicted(w);
	pinned(w);
}

static void evicted_away(struct world *w)
{
	evicted(w);
	w->v->away = true;
}

static void evicted_new_beside(struct world *w)
{
	evicted(w);
	client_create(w, "d/new", "n");
}

static void evicted_no_more(struct world *w)
{
	evicted(w);
	client_unlink(w, FILE_NAME);
	pass(w, 60 * NS_PER_S);
}

struct refusal {
	const char *what;
	void (*prepare)(struct world *w);
	int status;
	uint64_t names; /* that have gone; of the file: 0 */
};

static const struct refusal of_files[] = {
	{"clean", nothing, 0, 0},
	{"open", open_here, -EBUSY, 0},
	{"linked below the share", linked, -EBUSY, 0},
	{"newer than S3", newer, -EBUSY, 0},
	{"changed below the share", behind_our_back, -EBUSY, 0},
	{"another version in S3", replaced, -ESTALE, 0},
	{"not in S3 any more", deleted, -ESTALE, 0},
	{"the store away", store_away, -EAGAIN, 0},
	{"pinned", pinned, -EPERM, 0},
	{"its directory pinned", pinned_above, -EPERM, 0},
	{"empty", emptied, -EALREADY, 0},
	{"gone", gone_already, -EALREADY, 0},
};

static const struct refusal of_names[] = {
	{"stubs", evicted, 0, 1},
	{"data here", nothing, -EBUSY, 0},
	{"an open stub", open_stub, -EBUSY, 0},
	{"a pinned stub", evicted_pinned, -EPERM, 0},
	{"the store away", evicted_away, -EAGAIN, 0},
	{"a new file beside it", evicted_new_beside, -EBUSY, 0},
	{"no file", evicted_no_more, -EALREADY, 0},
};

static void world_begin(struct world *w)
{
	world_open(w, 1, 3);
	client_mkdir(w, "d");
	client_mkdir(w, "e");
	client_create(w, FILE_NAME, TEXT);
	world_drain(w);
	pass(w, DAY_NS);
}

/* Whatever was made otherwise is over. */
static void world_end(struct world *w)
{
	handle_close(w, &held);
	sim_set_faults(w->sim, (struct sim_faults){0});
	w->v->away = false;
	world_close(w);
}

static void refuse_file(const struct refusal *r)
{
	struct world w;
	blkcnt_t before;
	int status;

	world_begin(&w);
	r->prepare(&w);
	before = blocks(&w, FILE_NAME);
	status = evict(&w, FILE_NAME);
	if (status != r->status || (status == 0) != (blocks(&w, FILE_NAME) < before)) {
		die(&w, r->what, strerror(-status));
	}
	if (r->prepare == behind_our_back) {
		pass(&w, 60 * NS_PER_S);
		world_drain(&w); /* it was sent */
	}
	world_end(&w);
}

static void refuse_names(const struct refusal *r)
{
	struct world w;
	int status;

	world_begin(&w);
	r->prepare(&w);
	status = drop(&w, r->names);
	if (status != r->status) {
		die(&w, r->what, strerror(-status));
	}
	world_end(&w);
}

/* ---- what comes back ---- */

/* Times before 1970, too, and of a second's part. */
static void times_stay(void)
{
	const struct timespec old[2] = {{.tv_sec = -86400 * 365, .tv_nsec = 500}, {.tv_sec = -1, .tv_nsec = 999999999}};
	struct stat before, after;
	struct world w;

	world_open(&w, 1, 3);
	client_create(&w, "old", TEXT);
	if (utimensat(w.tree_fd, "old", old, 0) != 0) {
		die(&w, "times", strerror(errno));
	}
	world_drain(&w);
	if (fstatat(w.tree_fd, "old", &before, 0) != 0 || evict(&w, "old") != 0) {
		die(&w, "old", "stays");
	}
	client_read(&w, "old", true);
	if (fstatat(w.tree_fd, "old", &after, 0) != 0 || after.st_mtim.tv_sec != -1 || after.st_mtim.tv_nsec != 999999999 ||
			before.st_mtim.tv_nsec != after.st_mtim.tv_nsec) {
		die(&w, "old", "has another time");
	}
	world_close(&w);
}

/* ---- what is no file, and more pins than there may be ---- */

static void no_file(void)
{
	const struct ofs_oid nobody = {.bytes = {1, 2, 3}};
	struct answer a = {0};
	struct ofs_oid oid;
	struct world w;

	world_begin(&w);
	if (evict(&w, "d") != -ENOENT) {
		die(&w, "a directory", "is evicted");
	}
	evict_file(w.v->evictor, &nobody, on_file, &a);
	if (answer_of(&w, &a) != -ENOENT) {
		die(&w, "a file that is not there", "is evicted");
	}
	for (unsigned i = 0; i < PINS_MOST; i++) {
		clock_random(sim_clock(w.sim), &oid, sizeof(oid));
		if (pin(&w, &oid, true) != 0) {
			die(&w, "pin", "too soon too many");
		}
	}
	oid = oid_at(&w, FILE_NAME);
	if (pin(&w, &oid, true) != -ENOSPC || pin(&w, &oid, false) != -EALREADY) {
		die(&w, "pin", "one more than there may be");
	}
	if (evict(&w, FILE_NAME) != 0) {
		die(&w, FILE_NAME, "is kept by others' pins");
	}
	asks_looks(&w);
	world_close(&w);
}

int main(void)
{
	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	for (unsigned i = 0; i < sizeof(of_files) / sizeof(of_files[0]); i++) {
		refuse_file(&of_files[i]);
	}
	for (unsigned i = 0; i < sizeof(of_names) / sizeof(of_names[0]); i++) {
		refuse_names(&of_names[i]);
	}
	times_stay();
	no_file();
	return 0;
}
