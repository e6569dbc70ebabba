/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The power goes at every moment. Small stories are told once to count moments: each change that the daemon makes on
 * the disk or in S3, each sync that it waits for, each single thing that a client's module does. Then once for each
 * moment and each kind of loss (tests/nth/lossy.h), and what is left is judged (sim_power.c).
 *
 *   sim_disk [STRIDE]               every STRIDEth moment, default 2; of short stories each
 *   sim_disk STORY MOMENT LOSS      one of them, as a failure prints it; SIM_LOG=1 shows every step
 *   DISK_STORY=NAME                 only this one
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "sim_handle.h"
#include "sim_power.h"
#include "sim_share.h"
#include "sim_tally.h"
#include "tests/lib/scratch.h"

#define STRIDE 2u
#define SHORT_MOMENTS 40u
#define CHILD_S 120u
#define FAILURES_MOST 20u

struct life;
struct story {
	const char *name;
	void (*tell)(struct life *l);
	const char *parts; /* SIM_PARTS */
};

struct life {
	struct world w;
	struct power p;
	struct handle handle;
	const struct story *story;
};

/* ---- the stories ---- */

/* What a client did is done; the daemon has time. */
static void pass(struct life *l, int64_t seconds)
{
	power_look(&l->p);
	sim_run_until(l->w.sim, NULL, NULL, seconds * NS_PER_S);
}

static void flush(struct life *l, const char *path)
{
	power_flush(&l->p, path);
}

static void patch(struct life *l, const char *path, const char *some)
{
	struct model_file *f = world_file(&l->w, path);
	char text[HANDLE_TEXT_MOST];

	if (handle_before(&l->w, &l->handle, text)) {
		memcpy(text, some, strlen(some));
		snprintf(f->text, sizeof(f->text), "%s", text);
		power_patched(&l->p, path);
		handle_write(&l->w, &l->handle, some, 0);
	}
}

static void story_evict(struct life *l)
{
	client_evict(&l->w, "a");
	client_evict(&l->w, "d/p");
	pass(l, 20);
}

static void story_recall(struct life *l)
{
	client_read(&l->w, "d/s", false);
	client_read(&l->w, "e/y", false);
	pass(l, 20);
	client_evict(&l->w, "d/s");
	client_set_time(&l->w, "e/y");
	pass(l, 60);
}

static void story_upload(struct life *l)
{
	client_create(&l->w, "n", "new n");
	flush(l, "n");
	client_create(&l->w, "d/n", "new d/n");
	pass(l, 20);
	client_mkdir(&l->w, "g");
	client_create(&l->w, "g/n", "new g/n");
	pass(l, 20);
}

static void story_overwrite(struct life *l)
{
	client_write(&l->w, "a", "second a");
	power_look(&l->p);
	flush(l, "a");
	client_write(&l->w, "d/s", "second d/s");
	pass(l, 20);
	client_write(&l->w, "a", "third a");
	pass(l, 3);
	client_write(&l->w, "a", "fourth a");
	pass(l, 20);
}

/* In place, and held open: it is sent from a copy. */
static void story_patch(struct life *l)
{
	handle_open(&l->w, &l->handle, "d/p");
	patch(l, "d/p", "2nd");
	pass(l, 70);
	patch(l, "d/p", "3rd");
	pass(l, 70);
	patch(l, "d/p", "4th");
	handle_close(&l->w, &l->handle);
	pass(l, 20);
}

static void story_rename(struct life *l)
{
	client_rename(&l->w, "a", "e/a");
	power_look(&l->p);
	client_rename(&l->w, "d/s", "s");
	pass(l, 20);
	client_rename(&l->w, "s", "e/x");
	pass(l, 20);
}

/* As programs do it. */
static void story_save(struct life *l)
{
	client_create(&l->w, "a.new", "saved a");
	power_look(&l->p);
	flush(l, "a.new");
	client_rename(&l->w, "a.new", "a");
	pass(l, 20);
	client_create(&l->w, "a.new", "saved again");
	power_look(&l->p);
	client_rename(&l->w, "a.new", "a");
	pass(l, 20);
}

static void story_swap(struct life *l)
{
	client_rename(&l->w, "a", "t");
	power_look(&l->p);
	client_rename(&l->w, "d/p", "a");
	power_look(&l->p);
	client_rename(&l->w, "t", "d/p");
	pass(l, 60);
}

static void story_directory(struct life *l)
{
	client_rename(&l->w, "e", "d/e");
	pass(l, 20);
	client_write(&l->w, "d/e/x", "second e/x");
	client_rename(&l->w, "d", "f");
	pass(l, 60);
}

static void story_delete(struct life *l)
{
	client_unlink(&l->w, "a");
	power_look(&l->p);
	client_unlink(&l->w, "d/s");
	pass(l, 20);
	client_unlink(&l->w, "e/x");
	client_unlink(&l->w, "e/y");
	client_rmdir(&l->w, "e");
	pass(l, 20);
	client_create(&l->w, "a", "another a");
	pass(l, 20);
}

static void story_drop(struct life *l)
{
	client_drop(&l->w, "e");
	pass(l, 20);
	client_lists(&l->w, "e", false);
	pass(l, 20);
}

static void rights(struct life *l, const char *path, const char *text)
{
	handle_rights(&l->w, path, text);
	snprintf(world_file(&l->w, path)->rights, sizeof(l->w.files[0].rights), "%s", text);
}

static void story_rights(struct life *l)
{
	rights(l, "a", "some");
	client_set_time(&l->w, "d/s");
	pass(l, 20);
	rights(l, "d/s", "others");
	pass(l, 60);
}

/* What goes in several requests. */
static void story_parts(struct life *l)
{
	client_write(&l->w, "a", "second a, of more than one part");
	pass(l, 20);
	client_create(&l->w, "d/n", "new d/n, of more than one part");
	flush(l, "d/n");
	pass(l, 20);
}

static const struct story stories[] = {
	{"evict", story_evict, "0"},
	{"recall", story_recall, "0"},
	{"upload", story_upload, "0"},
	{"overwrite", story_overwrite, "0"},
	{"patch", story_patch, "0"},
	{"rename", story_rename, "0"},
	{"save", story_save, "0"},
	{"swap", story_swap, "0"},
	{"directory", story_directory, "0"},
	{"delete", story_delete, "0"},
	{"drop", story_drop, "0"},
	{"rights", story_rights, "0"},
	{"parts", story_parts, "1"},
};
#define STORIES (sizeof(stories) / sizeof(stories[0]))
static const char *const losses[LOSSY_HOWS] = {"bytes", "metadata", "both", "some"};

/* ---- one life, in a process of its own ---- */

/* Its log begins anew over what it has: a sync of it then waits for nothing else, as it does while the log grows. */
static void index_folded(struct world *w)
{
	char path[128];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/index.db", w->root);
	if (sqlite3_open(path, &db) != SQLITE_OK ||
			sqlite3_exec(db, "PRAGMA wal_checkpoint(RESTART)", NULL, NULL, NULL) != SQLITE_OK) {
		die(w, "index.db", sqlite3_errmsg(db));
	}
	sqlite3_close(db);
}

static void setup(struct life *l, const struct story *story)
{
	struct world *w = &l->w;

	setenv("SIM_PARTS", story->parts, 1);
	world_open(w, 1, 3);
	w->conf.settle_time_ns = 2 * NS_PER_S;
	w->conf.settle_limit_ns = 10 * NS_PER_S;
	w->conf.cache_size_bytes = 1 << 30;
	w->conf.base_quiet_ns = 0;
	client_mkdir(w, "d");
	client_mkdir(w, "e");
	client_create(w, "a", "first a");
	client_create(w, "d/p", "first d/p");
	client_create(w, "d/s", "first d/s");
	client_create(w, "e/x", "first e/x");
	client_create(w, "e/y", "first e/y");
	world_settle(w);
	client_evict(w, "d/s");
	client_evict(w, "e/y");
	sim_run_until(w->sim, NULL, NULL, 20 * NS_PER_S);
	if (!share_has_stub(w, "d/s") || !share_has_stub(w, "e/y")) {
		die(w, "the beginning", "d/s");
	}
	index_folded(w);
	power_begin(&l->p, w);
}

static void tell(void *arg)
{
	struct life *l = arg;

	l->story->tell(l);
	power_look(&l->p);
	world_settle(&l->w);
}

/* Moments that there were. */
static unsigned live(const struct story *story, unsigned moment, enum lossy_how how)
{
	static struct life l;

	l.story = story;
	setup(&l, story);
	cut_in(&l.p.cut, moment);
	(void)cut_run(&l.p.cut, tell, &l);
	handle_lost(&l.handle);
	if (moment > 0) {
		power_cut(&l.p, how, moment);
		power_judge(&l.p);
	} else {
		world_drain(&l.w);
	}
	power_end(&l.p);
	world_close(&l.w);
	return l.p.cut.moments;
}

/* ---- all of them ---- */

struct run {
	char dir[64];
	unsigned *moments; /* shared with the child */
	unsigned failures, lives;
};

static void show(const char *path)
{
	char line[512];
	FILE *f = fopen(path, "r");

	for (unsigned n = 0; f != NULL && n < 20 && fgets(line, sizeof(line), f) != NULL; n++) {
		printf("    %s", line);
	}
	if (f != NULL) {
		fclose(f);
	}
}

static bool run_one(struct run *r, const struct story *story, unsigned moment, enum lossy_how how)
{
	char out[128];
	int status;
	pid_t pid;

	fflush(stdout);
	scratch_make(r->dir, sizeof(r->dir), "disk");
	snprintf(out, sizeof(out), "%s/out", r->dir);
	r->lives++;
	pid = fork();
	if (pid == 0) {
		int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);

		alarm(CHILD_S);
		setenv("TMPDIR", r->dir, 1);
		if (getenv("SIM_LOG") == NULL) {
			dup2(fd, 2);
			dup2(fd, 1);
		}
		*r->moments = live(story, moment, how);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (status != 0) {
		r->failures++;
		printf("FAIL: sim_disk %s %u %s (%s %d)\n", story->name, moment, losses[how],
				WIFSIGNALED(status) ? "signal" : "status",
				WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		show(out);
	}
	scratch_remove(r->dir);
	return status == 0;
}

static void run_story(struct run *r, const struct story *story, unsigned stride)
{
	unsigned moments;

	if (!run_one(r, story, 0, LOSSY_BOTH)) {
		return;
	}
	moments = *r->moments;
	stride = moments > SHORT_MOMENTS ? stride : 1;
	for (unsigned moment = 1; moment <= moments; moment += stride) {
		for (unsigned how = 0; how < LOSSY_HOWS && r->failures < FAILURES_MOST; how++) {
			run_one(r, story, moment, (enum lossy_how)how);
		}
	}
	printf("%s: %u moments\n", story->name, moments);
}

static int replay(struct run *r, char **argv)
{
	for (unsigned i = 0; i < STORIES; i++) {
		for (unsigned how = 0; how < LOSSY_HOWS; how++) {
			if (strcmp(stories[i].name, argv[1]) == 0 && strcmp(losses[how], argv[3]) == 0) {
				return run_one(r, &stories[i], (unsigned)atoi(argv[2]), (enum lossy_how)how) ? 0 : 1;
			}
		}
	}
	return 2;
}

int main(int argc, char **argv)
{
	const char *only = getenv("DISK_STORY");
	struct run r = {0};

	scratch_in_memory();
	r.moments = mmap(NULL, sizeof(*r.moments), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	if (argc == 4) {
		return replay(&r, argv);
	}
	for (unsigned i = 0; i < STORIES; i++) {
		if (only == NULL || strcmp(only, stories[i].name) == 0) {
			run_story(&r, &stories[i], argc > 1 ? (unsigned)atoi(argv[1]) : STRIDE);
		}
	}
	printf("%u lives, %u failures\n", r.lives, r.failures);
	return r.failures != 0;
}
