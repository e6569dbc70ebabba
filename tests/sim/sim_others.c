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
#include "sim_judge.h"

#define OPS_PER_SEED 120
#define ACTS_PER_SEED 60
#define DEPTH_BYTES_MOST 60
#define PATH_BYTES_MOST 200 /* longer names, of conflicts of conflicts, are left alone */
#define WINDOW_NS (200 * NS_PER_MS) /* from the look to the write that goes by it: two requests, and some */
#define YOUNG_NS (5 * NS_PER_S)    /* nobody may have been told yet that it is there: by metadata and size it is known */
#define BACKUPS 16
#define HIDDEN 16
#define HIDDEN_NS (300 * NS_PER_S) /* an outage, or a kill, and all that comes first then */

struct backup { /* as the other tool had it once */
	char key[300];
	char *text;
	struct obj_meta *meta;
	unsigned meta_count;
};

struct hidden { /* class F1: what a write of ours has covered, and may not have looked at yet */
	char key[300], text[64];
	int64_t at_ns;
};

struct others {
	struct world w;
	struct judge j;
	struct sim_watch watch;
	struct backup backups[BACKUPS];
	unsigned backup_count;
	struct hidden hidden[HIDDEN];
	unsigned hidden_count;
	unsigned acts, serial;
	bool acting;
	int fence_class;
};

/* ---- the other tool ---- */

static const char *text_of(const struct sim_object *o, char text[64])
{
	snprintf(text, 64, "%.*s", (int)o->len, (const char *)o->data);
	return text;
}

static void backup_free(struct backup *b)
{
	for (unsigned i = 0; i < b->meta_count; i++) {
		free(b->meta[i].name);
		free(b->meta[i].value);
	}
	free(b->meta);
	free(b->text);
}

static void backup_make(struct others *x, const struct sim_object *o)
{
	struct backup *b = &x->backups[x->backup_count % BACKUPS];
	char text[64];

	backup_free(b);
	snprintf(b->key, sizeof(b->key), "%s", o->key);
	b->text = strdup(text_of(o, text));
	b->meta = calloc(o->meta_count + 1, sizeof(*b->meta));
	b->meta_count = o->meta_count;
	for (unsigned i = 0; i < o->meta_count; i++) {
		b->meta[i].name = strdup(o->meta[i].name);
		b->meta[i].value = strdup(o->meta[i].value);
	}
	x->backup_count++;
}

static bool is_marker(const char *key)
{
	return key[strlen(key) - 1] == '/';
}

/* Some file's object, or NULL. */
static struct sim_object *pick_object(struct others *x, const char *prefix)
{
	struct sim_object *o, *picked = NULL;
	unsigned n = 0;

	for (o = sim_objects(x->w.sim); o != NULL; o = o->next) {
		if (strncmp(o->key, prefix, strlen(prefix)) == 0 && !is_marker(o->key) &&
				strncmp(o->key, "p/.objectfs/", 12) != 0 &&
				sim_random(x->w.sim, ++n) == 0) {
			picked = o;
		}
	}
	return picked;
}

/* What covers a write of ours before it has looked hides what lies under it. */
static void other_hides(struct others *x, const char *key)
{
	for (unsigned i = 0; i < HIDDEN; i++) {
		struct hidden *h = &x->hidden[i];

		if (strcmp(h->key, key) == 0 && clock_now_ns(sim_clock(x->w.sim)) - h->at_ns < HIDDEN_NS) {
			judge_ended(&x->j, h->text, strlen(h->text), "hidden by the other tool");
			h->key[0] = '\0';
		}
	}
}

/* What is there is replaced by who sees it; what is of no bytes is nobody's loss. */
static void other_put(struct others *x, const char *key, const char *text, bool is_new, const struct obj_meta *meta,
		unsigned count)
{
	static const struct obj_meta own[] = {{"author", "another tool"}, {"mtime", "1600000000.5"}};
	const struct sim_object *o = sim_object(x->w.sim, key);

	if (o != NULL && (o->len != strlen(text) || memcmp(o->data, text, o->len) != 0)) {
		judge_ended(&x->j, o->data, o->len, "overwritten by the other tool");
	}
	if (is_new) {
		judge_written(&x->j, text, true);
	}
	other_hides(x, key);
	world_trace(&x->w, "other puts", key, text);
	sim_put_with(x->w.sim, key, text, meta != NULL ? meta : own, meta != NULL ? count : 2);
}

static void other_remove(struct others *x, const char *key)
{
	const struct sim_object *o = sim_object(x->w.sim, key);

	if (o != NULL) {
		judge_ended(&x->j, o->data, o->len, "deleted by the other tool");
		other_hides(x, key);
		world_trace(&x->w, "other deletes", key, "");
		sim_remove(x->w.sim, key);
	}
}

static void fresh_key(struct others *x, const char *beside, char key[300])
{
	const char *slash = strrchr(beside, '/');

	snprintf(key, 300, "%.*so%u", slash != NULL ? (int)(slash + 1 - beside) : 0, beside, x->serial++);
}

static void new_text(struct others *x, const struct sim_object *o, char text[64])
{
	int pad = 0;

	if (o != NULL && sim_random(x->w.sim, 3) == 0) {
		pad = (int)o->len; /* of the same size */
	}
	snprintf(text, 64, "other %-*u", pad > 6 && pad < 64 ? pad - 6 : 0, x->serial++);
}

/* The bytes of the client's file of this key. */
static bool text_here(struct others *x, const char *key, char text[64])
{
	int fd = openat(x->w.tree_fd, key + 2, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct ofs_record rec;
	ssize_t n = -1;

	if (fd >= 0 && ofs_record_get(&x->w.rio, fd, &rec) == 0 && (rec.flags & OFS_REC_STUB) == 0) {
		n = pread(fd, text, 63, 0);
	}
	if (fd >= 0) {
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static void other_copy(struct others *x, const struct sim_object *o, bool rename)
{
	char to[300], text[64];

	fresh_key(x, o->key, to);
	other_put(x, to, text_of(o, text), true, o->meta, o->meta_count);
	if (rename) {
		other_remove(x, o->key);
	}
}

/* What is there now, or of another file: its metadata, on bytes of the tool's own. */
static void other_edit(struct others *x, const char *key, const struct sim_object *o, const struct sim_object *like)
{
	bool young = o != NULL && clock_wall_ns(sim_clock(x->w.sim)) - o->mtime_ns < YOUNG_NS;
	char text[64];

	new_text(x, young ? NULL : o, text);
	if (!young || o->len != strlen(text)) {
		other_put(x, key, text, true, like->meta, like->meta_count);
	}
}

static void other_puts_back(struct others *x)
{
	unsigned n = x->backup_count < BACKUPS ? x->backup_count : BACKUPS;
	const struct backup *b = n > 0 ? &x->backups[sim_random(x->w.sim, n)] : NULL;

	if (b != NULL && *b->text != '\0') {
		other_put(x, b->key, b->text, false, b->meta, b->meta_count);
	}
}

static void other_acts(struct others *x, const char *near)
{
	const struct sim_object *o = sim_object(x->w.sim, near), *like;
	char key[300], text[64];

	snprintf(key, sizeof(key), "%s", near);
	switch (sim_random(x->w.sim, 16)) {
	default:
		new_text(x, o, text);
		other_put(x, key, text, true, NULL, 0);
		return;
	case 4:
	case 5:
	case 6:
		other_remove(x, key);
		return;
	case 7:
		if (o != NULL && o->len > 0) {
			other_edit(x, key, o, o);
		}
		return;
	case 8:
		if (o != NULL) { /* and its metadata are lost */
			other_put(x, key, text_of(o, text), false, NULL, 0);
		}
		return;
	case 9:
		if (text_here(x, key, text)) {
			other_put(x, key, text, false, NULL, 0);
		}
		return;
	case 10:
	case 11:
		if (o != NULL && o->len > 0) {
			other_copy(x, o, sim_random(x->w.sim, 2) == 0);
		}
		return;
	case 12:
		other_puts_back(x);
		return;
	case 13:
		like = pick_object(x, "p/");
		if (like != NULL && like->len > 0) {
			other_edit(x, key, o, like);
		}
		return;
	case 14:
		other_put(x, key, "", false, NULL, 0);
		return;
	case 15:
		fresh_key(x, near, key);
		new_text(x, NULL, text);
		other_put(x, key, text, true, NULL, 0);
		return;
	}
}

/* ---- between two requests ---- */

static void on_request(void *arg, const struct obj_req *q)
{
	struct others *x = arg;
	const char *near = q->source_key != NULL && sim_random(x->w.sim, 2) == 0 ? q->source_key : q->key;
	const struct sim_object *o = NULL;
	char key[300];

	if (!x->acting || x->acts == 0 || strncmp(near, "p/", 2) != 0 ||
			strncmp(near, "p/.objectfs/", 12) == 0 || sim_random(x->w.sim, 5) != 0) {
		return;
	}
	if (q->op == OBJ_LIST) {
		o = pick_object(x, near);
	} else if (sim_random(x->w.sim, 8) == 0) {
		o = pick_object(x, "p/");
	}
	snprintf(key, sizeof(key), "%s", o != NULL ? o->key : near);
	if (is_marker(key) || (strstr(key, " (conflict ") != NULL && sim_object(x->w.sim, key) == NULL)) {
		return; /* nobody guesses these names */
	}
	x->acts--;
	other_acts(x, key);
}

static void on_covers(void *arg, const struct sim_object *o, const struct obj_req *q)
{
	struct others *x = arg;
	struct hidden *h = &x->hidden[x->hidden_count % HIDDEN];
	bool unfenced = x->fence_class == 0 || (x->fence_class == 2 && q->op != OBJ_PUT);

	if (o->foreign && unfenced && clock_wall_ns(sim_clock(x->w.sim)) - o->mtime_ns < WINDOW_NS) {
		judge_ended(&x->j, o->data, o->len, "covered in a window");
	} else if (o->foreign && x->fence_class == 1) {
		snprintf(h->key, sizeof(h->key), "%s", o->key);
		text_of(o, h->text);
		h->at_ns = clock_now_ns(sim_clock(x->w.sim));
		x->hidden_count++;
	}
}

static void on_stored(void *arg, const struct sim_object *o)
{
	struct others *x = arg;

	judge_stored(&x->j, o);
	if (!is_marker(o->key) && o->len > 0 && sim_random(x->w.sim, 4) == 0) {
		backup_make(x, o);
	}
}

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
		const struct sim_object *o = pick_object(x, "p/");
		char key[300];

		if (o != NULL && x->acting) {
			snprintf(key, sizeof(key), "%s", o->key);
			other_acts(x, key);
		}
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
		if (o == NULL || o->len != strlen(f->text) || memcmp(o->data, f->text, o->len) != 0) {
			fprintf(stderr, "%s; in %s: %.*s; row %s\n", f->text, row->s3_name, o != NULL ? (int)o->len : 0,
					o != NULL ? (const char *)o->data : "", row->etag != NULL ? row->etag : "-");
			die(w, path, "has other bytes than its object");
		}
		talloc_free(key);
		files++;
	}
	for (const struct sim_object *o = sim_objects(w->sim); o != NULL; o = o->next) {
		objects += strncmp(o->key, "p/.objectfs/", 12) != 0 && !is_marker(o->key);
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
	x->acts = ACTS_PER_SEED;
	world_open(w, seed, x->fence_class);
	w->others = true;
	x->watch = (struct sim_watch){on_request, on_covers, on_stored, x};
	sim_set_watch(w->sim, &x->watch);
	sim_set_faults(w->sim, (struct sim_faults){.away = 20, .lost_answer = 20, .conflict = seed % 8 == 2 ? 50 : 0});
	x->acting = true;
	for (unsigned i = 0; i < OPS_PER_SEED; i++) {
		one_operation(x);
		if (sim_random(w->sim, 3) == 0) {
			sim_run_until(w->sim, NULL, NULL, (int64_t)sim_random(w->sim, 20 * NS_PER_S));
		}
		if (sim_random(w->sim, 20) == 0) {
			kill_or_cut(x);
		}
	}
	x->acting = false;
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
	sim_set_watch(w->sim, NULL);
	world_close(w);
	for (unsigned i = 0; i < BACKUPS; i++) {
		backup_free(&x->backups[i]);
	}
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
	return 0;
}
