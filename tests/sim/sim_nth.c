/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The Nth allocation, system call, call of SQLite or request to the store fails, for every N there is: alone, and from
 * then on until it is over. Small stories are told once to count the daemon's calls, and once for each of them
 * and each way in which it can fail (tests/nth/calls.h). In the end the store holds what clients were told, what
 * they can read is that, nothing waits for ever, no descriptor is kept, and the log is not filled. The daemon may end itself for lack of
 * memory, and is started again; nothing else may end it.
 *
 *   sim_nth [STRIDE [FIRST]]            every STRIDEth call from FIRST on, of classes with few calls more; default: 97.
 *                                       1: each, and that takes half an hour
 *   sim_nth places                      the first call from each place in the code
 *   sim_nth STORY CLASS N HOW HELD      one of them, as a failure prints it; SIM_LOG=1 shows every step
 *   NTH_STORY, NTH_CLASS, NTH_HELD      only these
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/core/rings.h"
#include "cached/objstore/impl.h"
#include "cached/reconcile/reconcile.h"
#include "sim_asks.h"
#include "tests/lib/scratch.h"
#include "tests/nth/calls.h"

#define STRIDE 97u
#define CHILD_S 120u
#define FAILURES_MOST 40u
#define HELD_NS (600 * NS_PER_S) /* so long all goes wrong */
#define LINES_MOST 100u /* of warnings and errors, in a life in which everything fails */

static const char *const class_names[NTH_CLASSES] = {"memory", "system", "sqlite", "request"};

static struct nth_seen *seen;

/* ---- the border ---- */

static bool border_enter(void *arg, void (*fn)(void *fn_arg), void *fn_arg)
{
	struct world *w = arg;
	sigjmp_buf here, *outer = nth_gate;
	char index[128];

	if (sigsetjmp(here, 0) == 0) {
		nth_gate = &here;
		nth_inside = 1;
		fn(fn_arg);
		nth_inside = 0;
		nth_gate = outer;
		return true;
	}
	nth_inside = 0;
	nth_gate = outer;
	/* SQLite must not meet the inode of its dead connection again. */
	snprintf(index, sizeof(index), "%s/index.db", w->root);
	nth_fds_close(index);
	daemon_ended(w);
	return false;
}

static int border_leave(void *arg)
{
	int was = nth_inside;

	(void)arg;
	nth_inside = 0;
	return was;
}

static void border_back(void *arg, int was)
{
	(void)arg;
	nth_inside = was;
}

/* What it is to fail with; of a write whose answer is lost, once it is done. */
static bool border_request(void *arg, struct obj_req *q, bool after)
{
	static int how;
	enum nth_requests kind = NTH_READS;

	(void)arg;
	if (after) {
		if (how == OBJ_UNKNOWN && q->result.status == OBJ_OK) {
			obj_result_clear(&q->result);
			q->result.status = OBJ_UNKNOWN;
		}
		return false;
	}
	if (q->op == OBJ_PUT || q->op == OBJ_COPY || q->op == OBJ_DELETE) {
		kind = q->if_none_match || q->if_match != NULL ? NTH_WRITES_IF : NTH_WRITES;
	}
	how = nth_request(kind);
	if (how == 0 || how == OBJ_UNKNOWN) {
		return false;
	}
	q->result.status = (enum obj_status)how;
	q->result.message = strdup("simulated");
	return true;
}

/* ---- the stories ---- */

static void pass(struct world *w, int64_t seconds)
{
	sim_run_until(w->sim, NULL, NULL, seconds * NS_PER_S);
}

/* By then the machine is well. */
static void restarts(struct world *w)
{
	(void)w;
	nth_lift();
}

static void tree_open(struct world *w, struct sim_border *border)
{
	int fd;

	world_open(w, 1, 3);
	daemon_kill(w);
	border->arg = w;
	sim_set_border(w->sim, border);
	w->restarts = restarts;
	daemon_start(w);
	client_mkdir(w, "a");
	client_mkdir(w, "a/b");
	client_mkdir(w, "c");
	client_create(w, "a/one", "1");
	client_create(w, "a/stub", "far away");
	client_create(w, "a/b/two", "2");
	client_create(w, "a/b/three", "3");
	client_create(w, "c/four", "4");
	fd = openat(w->tree_fd, "a/one", O_RDWR | O_NONBLOCK);
	if (fsetxattr(fd, "user.colour", "blue", 4, 0) != 0) {
		die(w, "xattr", strerror(errno));
	}
	close(fd);
	world_drain(w);
	client_evict(w, "a/stub");
	pass(w, 20);
}

static void story_write(struct world *w)
{
	client_create(w, "new", "n");
	client_write(w, "a/one", "one");
	client_mkdir(w, "d");
	client_create(w, "d/five", "5");
	client_set_time(w, "a/b/two");
	pass(w, 20);
	client_rename(w, "a/b/two", "c/two");
	client_unlink(w, "a/b/three");
	client_rename(w, "new", "c/four");
	pass(w, 60);
}

static void story_directory(struct world *w)
{
	client_rename(w, "a", "c/a");
	pass(w, 20);
	client_rename(w, "c/a/b", "b");
	client_create(w, "c/a/six", "6");
	pass(w, 60);
	client_unlink(w, "b/two");
	client_unlink(w, "b/three");
	client_rmdir(w, "b");
	pass(w, 60);
}

static void story_evict(struct world *w)
{
	client_read(w, "a/stub", false);
	client_evict(w, "a/one");
	client_evict(w, "c/four");
	pass(w, 20);
	client_read(w, "a/one", false);
	/* The module asks the next daemon again: it may be empty by now. */
	if (client_plain(w, "c/four", true) || client_plain(w, "c/four", true)) {
		client_write(w, "c/four", "four");
	}
	client_rename(w, "a/stub", "c/stub");
	pass(w, 60);
}

static void story_drop(struct world *w)
{
	client_drop(w, "a/b");
	pass(w, 20);
	client_lists(w, "a/b", false);
	pass(w, 20);
	client_ask(w, "a/b/three");
	client_ask(w, "a/b/none");
	pass(w, 20);
}

/* What another tool does, while clients look. */
static void story_remote(struct world *w)
{
	struct model_file *f = &w->files[w->file_count++];

	sim_put(w->sim, "p/a/foreign", "from elsewhere");
	snprintf(f->path, sizeof(f->path), "a/foreign");
	snprintf(f->text, sizeof(f->text), "from elsewhere");
	sim_edit(w->sim, "p/a/b/two", "zwei", false);
	strcpy(world_file(w, "a/b/two")->text, "zwei");
	sim_edit(w->sim, "p/a/stub", "weit weg", true);
	strcpy(world_file(w, "a/stub")->text, "weit weg");
	sim_remove(w->sim, "p/c/four");
	*world_file(w, "c/four") = w->files[--w->file_count];
	client_lists(w, "a", true);
	client_lists(w, "a/b", true);
	client_lists(w, "c", true);
	client_lists(w, "", true);
	pass(w, 60);
}

static void story_start(struct world *w)
{
	daemon_kill(w);
	client_write(w, "a/one", "unheard");
	client_rename(w, "a/b", "c/b");
	client_create(w, "late", "l");
	client_unlink(w, "c/four");
	daemon_start(w);
	pass(w, 60);
}

static void story_new_disk(struct world *w)
{
	daemon_kill(w);
	world_lose_disk(w);
	client_lists(w, "", false);
	client_lists(w, "a", false);
	client_lists(w, "a/b", false);
	client_lists(w, "c", false);
	pass(w, 20);
}

static void story_asks(struct world *w)
{
	client_evict(w, "a/one");
	pass(w, 20);
	client_copy(w, "a/one", "c/copy");
	client_copy(w, "a/stub", "a/b/copy");
	asks_looks(w);
	asks_pin(w, "a/b", true);
	asks_pin(w, "c/four", true);
	client_write(w, "c/four", "44");
	client_flush(w, "c/four");
	client_evict(w, "a/b/two");
	client_evict(w, "c/four");
	pass(w, 20);
	asks_warm(w, "a/stub");
	client_rename(w, "a", "d");
	client_create(w, "d/six", "6");
	asks_looks(w);
	asks_flush(w, "d");
	daemon_restart(w);
	pass(w, 20);
	asks_pin(w, "d/b", false);
	asks_looks(w);
	client_copy(w, "d/b/copy", "late");
	client_flush(w, "late");
	pass(w, 60);
}

/* An object that cannot be read or copied, until somebody restores it. */
static void story_archived(struct world *w)
{
	sim_object(w->sim, "p/a/stub")->archived = true;
	sim_object(w->sim, "p/a/b/two")->archived = true;
	client_rename(w, "a", "d");
	pass(w, 60);
	client_read(w, "d/stub", false);
	client_rename(w, "d/stub", "c/stub");
	client_unlink(w, "d/b/two");
	pass(w, 60);
	asks_looks(w);
	for (struct sim_object *o = sim_objects(w->sim); o != NULL; o = o->next) {
		o->archived = false;
	}
	client_read(w, "c/stub", false);
	pass(w, 60);
}

/* What is sent in parts: whole, what has changed of it, while it changes, over a daemon's death, and not to its end. */
static void story_parts(struct world *w)
{
	client_create(w, "long", "aaaabbbbccccddddee");
	client_create(w, "a/longer", "0000111122223333444455556666777788");
	pass(w, 20);
	client_write(w, "long", "aaaaBBBBccccddddEE");
	pass(w, 10);
	client_write(w, "long", "aaaaBBBBCCCCddddEEEE");
	world_run(w, 40);
	client_write(w, "a/longer", "0000xxxx2222yyyy444455556666zzzz88");
	world_run(w, 60);
	daemon_kill(w);
	client_kill(w);
	daemon_start(w);
	client_start(w);
	pass(w, 60);
	client_write(w, "c/four", "four, and then some more of it");
	world_run(w, 50);
	client_unlink(w, "c/four");
	client_write(w, "a/one", "another that is sent in parts");
	pass(w, 60);
	client_evict(w, "long");
	pass(w, 20);
	client_read(w, "long", false);
	pass(w, 60);
}

struct story {
	const char *name;
	void (*tell)(struct world *w);
	bool parts; /* what is larger than a few bytes is sent in them */
};

static const struct story stories[] = {
	{"write", story_write, false},
	{"directory", story_directory, false},
	{"evict", story_evict, false},
	{"drop", story_drop, false},
	{"remote", story_remote, false},
	{"start", story_start, false},
	{"new-disk", story_new_disk, false},
	{"asks", story_asks, false},
	{"archived", story_archived, false},
	{"parts", story_parts, true},
};
#define STORIES (sizeof(stories) / sizeof(stories[0]))

/* ---- one life, in a process of its own ---- */

static void on_talloc_abort(const char *reason)
{
	fprintf(stderr, "talloc: %s\n", reason);
	nth_inside = 0;
	abort();
}

/* Warnings and errors. */
static unsigned log_count(const char *path)
{
	FILE *f = fopen(path, "r");
	char line[1024];
	unsigned n = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		n += strstr(line, "Z WARNING ") != NULL || strstr(line, "Z ERROR ") != NULL;
	}
	if (f != NULL) {
		fclose(f);
	}
	return n;
}

/* What the disk did not take waits, as pending says, until it is written again: somebody has read that, and does so. */
static void unstored_write(struct world *w)
{
	json_t *items, *item;
	char text[sizeof(w->files[0].text)];
	size_t i;

	pass(w, 60);
	items = reconcile_pending(w->v->reconcile, 100);
	json_array_foreach(items, i, item) {
		const char *path = json_string_value(json_object_get(item, "path"));
		const char *reason = json_string_value(json_object_get(item, "reason"));

		if (path != NULL && reason != NULL && strstr(reason, "did not take what was written") != NULL) {
			snprintf(text, sizeof(text), "%s", world_file(w, path)->text);
			client_write(w, path, text);
		}
	}
	json_decref(items);
}

/* It has been read: no marker is left that every later open would ask the daemon about. */
static void unmarked(struct world *w, const char *path)
{
	struct stat st;

	if (fstatat(w->tree_fd, path, &st, AT_SYMLINK_NOFOLLOW) != 0 || (st.st_mode & OFS_MARKER_MODE) != 0) {
		die(w, path, "the marker stays");
	}
}

/* Everywhere a client looks there is what it was told, and nothing else. */
static void world_judge(struct world *w, bool foreign, bool refused)
{
	if (refused) {
		pass(w, 25 * 3600); /* what was not to be had, is asked for once a day */
	}
	unstored_write(w);
	world_settle(w);
	world_names(w);
	client_find(w);
	for (unsigned i = 0; i < w->file_count; i++) {
		client_read(w, w->files[i].path, true);
		unmarked(w, w->files[i].path);
	}
	if (foreign) {
		world_settle(w);
		world_verify(w);
	} else {
		world_drain(w);
	}
	if (stats_get(conflicts) != 0) {
		die(w, "a conflict", "nobody else writes to what clients have changed");
	}
}

static void live(const struct story *story, const struct nth_plan *plan, const char *log)
{
	struct sim_border border = {border_enter, border_leave, border_back, border_request, NULL};
	static struct world w;
	unsigned fds, lines, lives;

	talloc_set_abort_fn(on_talloc_abort);
	tree_open(&w, &border);
	fds = nth_fds();
	lives = w.lives;
	nth_begin(plan);
	story->tell(&w);
	if (plan->held && seen->failed > 0) {
		sim_run_until(w.sim, NULL, NULL, HELD_NS);
	}
	nth_lift();
	lines = log_count(log);
	if (lines > LINES_MOST) {
		fprintf(stderr, "%u lines\n", lines);
		die(&w, "the log is filled", "");
	}
	world_judge(&w, story->tell == story_remote,
			story->tell == story_archived || (plan->class == NTH_REQUEST && plan->how == OBJ_INVALID));
	if (w.lives == lives && nth_fds() > fds) {
		fprintf(stderr, "%u descriptors, %u before\n", nth_fds(), fds);
		die(&w, "descriptors are kept", "");
	}
}

/* ---- all of them ---- */

struct run {
	char dir[64];
	unsigned failures, lives;
};

static void child(const struct run *r, const struct story *story, const struct nth_plan *plan)
{
	char path[128];
	struct stat ours, st;
	int fd;

	alarm(CHILD_S);
	snprintf(path, sizeof(path), "%s/out", r->dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
	if (getenv("SIM_LOG") == NULL) {
		dup2(fd, 2);
	}
	snprintf(path, sizeof(path), "%s/log", r->dir);
	unlink(path);
	log_open(getenv("SIM_LOG") ? NULL : path, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_WARNING);
	for (fd = 3; getenv("SIM_LOG") == NULL && stat(path, &ours) == 0 && fd < 64; fd++) {
		if (fstat(fd, &st) == 0 && st.st_ino == ours.st_ino && st.st_dev == ours.st_dev) {
			nth_log_fd = fd;
		}
	}
	live(story, plan, path);
	_exit(0);
}

static void show(const char *dir, const char *name)
{
	char path[128], line[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "r");
	for (unsigned n = 0; f != NULL && n < 40 && fgets(line, sizeof(line), f) != NULL; n++) {
		printf("    %s", line);
	}
	if (f != NULL) {
		fclose(f);
	}
}

/* true: it came out well. */
static bool run_one(struct run *r, const struct story *story, const struct nth_plan *plan)
{
	int status;
	pid_t pid;

	fflush(stdout);
	snprintf(r->dir, sizeof(r->dir), "%s", "");
	scratch_make(r->dir, sizeof(r->dir), "nth");
	r->lives++;
	pid = fork();
	if (pid == 0) {
		setenv("TMPDIR", r->dir, 1);
		setenv("SIM_PARTS", story->parts ? "1" : "0", 1);
		child(r, story, plan);
	}
	waitpid(pid, &status, 0);
	if (status != 0) {
		const struct nth_kind *kind = nth_kind_of(plan->class, plan->n != 0 ? seen->kinds[plan->class][plan->n] : 0);

		r->failures++;
		printf("FAIL: sim_nth %s %s %u %d %d  (%s, %s %d)\n", story->name, class_names[plan->class], plan->n,
				plan->how, plan->held, kind->name,
				WIFSIGNALED(status) ? "signal" : "status",
				WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		show(r->dir, "out");
		show(r->dir, "log");
	}
	scratch_remove(r->dir);
	return status == 0;
}

static bool chosen(const char *variable, const char *name)
{
	const char *only = getenv(variable);

	return only == NULL || strcmp(only, name) == 0;
}

/* There are few requests, and fewer calls of SQLite. */
static unsigned stride_of(enum nth_class class, unsigned stride)
{
	switch (class) {
	case NTH_REQUEST:
		return (stride + 7) / 8;
	case NTH_SQLITE:
		return (stride + 3) / 4;
	default:
		return stride;
	}
}

static struct nth_seen told; /* of the story at hand, where nothing fails */

/* stride 0: the next that is the first from its place. */
static uint32_t next_call(enum nth_class class, uint32_t n, unsigned stride)
{
	if (stride != 0) {
		return n + stride_of(class, stride);
	}
	do {
		n++;
	} while (n <= told.counts[class] && !told.firsts[class][n]);
	return n;
}

static void run_story(struct run *r, const struct story *story, unsigned stride, unsigned first)
{
	struct nth_plan plan = {0};

	if (!run_one(r, story, &plan)) {
		return;
	}
	told = *seen;
	printf("%s: %u allocations, %u system calls, %u calls of SQLite, %u requests\n", story->name,
			told.counts[NTH_MEMORY], told.counts[NTH_SYSTEM], told.counts[NTH_SQLITE],
			told.counts[NTH_REQUEST]);
	for (plan.class = 0; plan.class < NTH_CLASSES; plan.class++) {
		for (plan.n = first; chosen("NTH_CLASS", class_names[plan.class]) &&
				plan.n <= told.counts[plan.class];
				plan.n = next_call(plan.class, plan.n, stride)) {
			const struct nth_kind *kind = nth_kind_of(plan.class, told.kinds[plan.class][plan.n]);

			for (unsigned i = 0; i < NTH_HOWS && kind->hows[i] != 0; i++) {
				plan.how = kind->hows[i];
				for (int held = 0; held < 2 && r->failures < FAILURES_MOST; held++) {
					plan.held = held;
					if (chosen("NTH_HELD", held ? "1" : "0") &&
							!(held && (plan.how == NTH_SHORT || plan.how == EINTR ||
									plan.class == NTH_MEMORY))) {
						run_one(r, story, &plan);
					}
				}
			}
		}
	}
}

static int replay(char **argv)
{
	struct nth_plan plan = {.n = (uint32_t)atol(argv[3]), .how = atoi(argv[4]), .held = atoi(argv[5]) != 0};
	struct run r = {0};

	for (unsigned i = 0; i < STORIES; i++) {
		for (plan.class = 0; plan.class < NTH_CLASSES; plan.class++) {
			if (strcmp(stories[i].name, argv[1]) == 0 && strcmp(class_names[plan.class], argv[2]) == 0) {
				return run_one(&r, &stories[i], &plan) ? 0 : 1;
			}
		}
	}
	return 2;
}

int main(int argc, char **argv)
{
	bool places = argc == 2 && strcmp(argv[1], "places") == 0;
	unsigned stride = places ? 0 : argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : STRIDE;
	unsigned first = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 1;
	struct run r = {0};

	scratch_in_memory();
	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	seen = nth_init();
	if (argc == 6) {
		nth_shows = true;
		return replay(argv);
	}
	for (unsigned i = 0; i < STORIES; i++) {
		if (chosen("NTH_STORY", stories[i].name)) {
			run_story(&r, &stories[i], stride, first);
		}
	}
	printf("%u lives, %u failures\n", r.lives, r.failures);
	return r.failures != 0;
}
