/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Another tool writes to the bucket while clients work: it knows nothing of us, and acts between any two of our
 * requests, most often on the very object that the next one is about. The daemon is killed, the power fails, answers
 * are lost. In the end nothing that anybody wrote is gone, unless somebody who knew it has replaced or deleted it
 * (sim_judge.h), or in a window that docs/SEMANTICS.md names for the class of the store; and each object is a file
 * that a client can read.
 *
 *   sim_others [SEEDS [FIRST]]   default: 48 seeds from 1, and those that have failed once
 *   SIM_FENCE=N                  the store is of this class, 0 to 3, whatever the seed says
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/core/rings.h"
#include "cached/reconcile/index.h"
#include "cached/reconcile/reconcile.h"
#include "sim_others.h"
#include "sim_tally.h"

#define OPS_PER_SEED 120
#define ACTS_PER_SEED 60
#define DEPTH_BYTES_MOST 60
#define PATH_BYTES_MOST 200 /* longer names, of conflicts of conflicts, are left alone */

/* ---- clients: they go by what is in the tree ---- */

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void model_file(struct world *w, const char *path, struct stat *st)
{
	struct model_file *f = &w->files[w->file_count];
	int fd;

	if (w->file_count == FILES_MOST - 2 || strlen(path) > PATH_BYTES_MOST) {
		return;
	}
	w->file_count++;
	snprintf(f->path, sizeof(f->path), "%s", path);
	memset(f->text, 0, sizeof(f->text));
	fd = (st->st_mode & OFS_MARKER_MODE) == 0 ? openat(w->tree_fd, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
	if (fd >= 0) {
		if (pread(fd, f->text, sizeof(f->text) - 1, 0) < 0) {
			die(w, path, "cannot be read");
		}
		close(fd);
	}
}

static void model_dir(struct world *w, const char *path)
{
	char *names[512], name[700];
	unsigned count = 0;
	struct dirent *de;
	struct stat st;
	DIR *d = fdopendir(openat(w->tree_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	while (d != NULL && (de = readdir(d)) != NULL && count < 512) {
		if (de->d_name[0] != '.') {
			names[count++] = strdup(de->d_name);
		}
	}
	closedir(d);
	qsort(names, count, sizeof(names[0]), compare_names);
	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%s%s%s", path, *path ? "/" : "", names[i]);
		free(names[i]);
		if (fstatat(w->tree_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
			die(w, name, "cannot be looked at");
		} else if (!S_ISDIR(st.st_mode)) {
			model_file(w, name, &st);
		} else if (w->dir_count < DIRS_MOST - 2 && strlen(name) < PATH_BYTES_MOST) {
			snprintf(w->dirs[w->dir_count++], 256, "%s", name);
			model_dir(w, name);
		}
	}
}

static void model_look(struct world *w)
{
	w->file_count = w->dir_count = 0;
	model_dir(w, "");
}

static bool is_there(struct world *w, const char *path)
{
	struct stat st;

	return fstatat(w->tree_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool is_stub(struct world *w, const char *path)
{
	struct stat st;

	return fstatat(w->tree_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & OFS_MARKER_MODE) != 0;
}

static const char *text_of_row(struct others *x, const char *path)
{
	struct world *w = &x->w;
	const struct row *row = NULL;
	struct ofs_record rec;

	if (w->v != NULL && ofs_record_get_at(&w->rio, w->tree_fd, path, &rec) == 0) {
		row = index_get(w->v->index, &rec.oid);
	}
	return row != NULL ? judge_text(&x->j, row->etag) : NULL;
}

/* The version that a client who sees this file knows has ended, by what it is about to do. */
static void client_knew(struct others *x, const char *path, const char *how)
{
	struct model_file *f = world_file(&x->w, path);
	const char *text = is_stub(&x->w, path) || f == NULL ? text_of_row(x, path) : f->text;

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
	model_look(&x->w);
	return is_there(&x->w, *dir ? dir : ".") && !is_there(&x->w, path) && x->w.file_count < FILES_MOST - 3 &&
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
	bool stub = is_stub(&x->w, path);
	char text[64];
	const char *was = NULL;

	if (stub && !client_plain(&x->w, path, true)) {
		return;
	}
	model_look(&x->w);
	if (!is_there(&x->w, path) || is_stub(&x->w, path) || world_file(&x->w, path) == NULL) {
		return;
	}
	was = stub ? text_of_row(x, path) : world_file(&x->w, path)->text;
	if (was != NULL) {
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
		if (!may_make(x, to) || !is_there(w, source)) {
			return;
		}
	}
	if (is_below(to, source) || (over && (is_stub(w, to) && w->v == NULL))) {
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
	if (!client_lists(w, path, false) || !is_there(w, path)) {
		return;
	}
	model_look(w);
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

	model_look(w);
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
		if (*path != '\0' && (w->v != NULL || !is_stub(w, path))) {
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

static void kill_or_cut(struct others *x)
{
	struct world *w = &x->w;
	unsigned steps = (unsigned)sim_random(w->sim, 200);
	bool cut = sim_random(w->sim, 3) == 0;

	while (steps-- > 0 && sim_step(w->sim)) {
	}
	daemon_kill(w);
	if (cut) {
		client_lost(w);
	} else if (sim_random(w->sim, 2) == 0) {
		one_operation(x); /* nobody listens */
	}
	for (unsigned acts = (unsigned)sim_random(w->sim, 3); acts > 0; acts--) {
		tool_act(x);
	}
	daemon_start(w);
	if (cut) {
		client_start(w);
	}
	rings_drain(w->v->rings);
}

static void list_all(struct others *x, unsigned times)
{
	struct world *w = &x->w;

	while (times-- > 0) {
		unsigned tries = 0;

		(void)client_lists(w, "", true);
		model_look(w);
		for (unsigned i = 0; i < w->dir_count && tries < 100; i++, tries++) {
			(void)client_lists(w, w->dirs[i], true);
			model_look(w);
		}
		(void)reconcile_accept_conflicts(w->v->reconcile);
		world_settle(w);
	}
}

/* Each file of the share is an object with its bytes, and each object such a file. */
static void share_is_store(struct others *x)
{
	struct world *w = &x->w;
	unsigned files = 0, objects = 0;
	size_t longest = 0;
	char path[256];

	model_look(w);
	for (unsigned i = 0; i < w->file_count; i++) {
		struct model_file *f = &w->files[i];
		const struct sim_object *o;
		const struct row *row;
		struct ofs_record rec;
		char *key;

		snprintf(path, sizeof(path), "%s", f->path);
		if (!client_plain(w, path, false)) {
			die(w, path, "cannot be read at last");
		}
		model_look(w);
		f = world_file(w, path);
		if (f == NULL || ofs_record_get_at(&w->rio, w->tree_fd, path, &rec) != 0 ||
				(row = index_get(w->v->index, &rec.oid)) == NULL || !row->in_s3) {
			die(w, path, "is not in S3 at last");
		}
		key = index_key(w->v->index, w->v, "p/", &row->s3_parent, row->s3_name, false, NULL);
		o = key != NULL ? sim_object(w->sim, key) : NULL;
		if (!sim_object_is(o, f->text)) {
			fprintf(stderr, "%s; in %s: %.*s; row %s\n", f->text, row->s3_name, o != NULL ? (int)o->len : 0,
					o != NULL ? (const char *)o->data : "", row->etag != NULL ? row->etag : "-");
			die(w, path, "has other bytes than its object");
		}
		talloc_free(key);
		files++;
	}
	for (const struct sim_object *o = sim_objects(w->sim); o != NULL; o = o->next) {
		objects += judge_is_file(o);
		longest = strlen(o->key) > longest ? strlen(o->key) : longest;
	}
	if (files != objects && longest < PATH_BYTES_MOST && w->file_count < FILES_MOST - 2 && w->dir_count < DIRS_MOST - 2) {
		die(w, "objects that are no files", "");
	}
}

static int fence_class_of(uint64_t seed)
{
	const char *forced = getenv("SIM_FENCE");

	return forced != NULL ? atoi(forced) : 3 - (int)(seed % 4);
}

static void run_seed(uint64_t seed)
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
	for (unsigned i = 0; i < OPS_PER_SEED; i++) {
		one_operation(x);
		if (sim_random(w->sim, 3) == 0) {
			sim_run_until(w->sim, NULL, NULL, (int64_t)sim_random(w->sim, 20 * NS_PER_S));
		}
		if (sim_random(w->sim, 20) == 0) {
			kill_or_cut(x);
		}
	}
	tool_rest(x);
	sim_set_faults(w->sim, (struct sim_faults){0});
	(void)reconcile_accept_conflicts(w->v->reconcile);
	world_settle(w);
	list_all(x, 2);
	judge_store(&x->j);
	share_is_store(x);
	printf("seed %llu: F%d, %u versions, %u by another tool, %lld conflicts, %lld rebased, %llu events, trace %016llx\n",
			(unsigned long long)seed, x->fence_class, x->j.count, ACTS_PER_SEED - x->acts,
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
		run_seed(first + i);
	}
	for (unsigned long i = 0; argc == 1 && i < sizeof(failed) / sizeof(failed[0]); i++) {
		run_seed(failed[i]);
	}
	tally_print();
	return 0;
}
