/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the tree as the model, and the tree against the store (sim_share.h).
 * Way: from the sim programs; by the client's own calls. Thread: one. Owns: nothing.
 * Holds: what fails here ends the program and names the seed.
 */
#include "sim_share.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cached/reconcile/index.h"
#include "cached/reconcile/reconcile.h"

#define PATH_BYTES_MOST 200 /* longer names, of conflicts of conflicts, are left alone */

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

void share_look(struct world *w)
{
	w->file_count = w->dir_count = 0;
	model_dir(w, "");
}

bool share_has(struct world *w, const char *path)
{
	struct stat st;

	return fstatat(w->tree_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

bool share_has_stub(struct world *w, const char *path)
{
	struct stat st;

	return fstatat(w->tree_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & OFS_MARKER_MODE) != 0;
}

const char *share_text(struct judge *j, const char *path)
{
	struct world *w = j->w;
	const struct row *row = NULL;
	struct ofs_record rec;

	if (w->v != NULL && ofs_record_get_at(&w->rio, w->tree_fd, path, &rec) == 0) {
		row = index_get(w->v->index, &rec.oid);
	}
	return row != NULL ? judge_text(j, row->etag) : NULL;
}

void share_list(struct world *w, unsigned times)
{
	while (times-- > 0) {
		unsigned tries = 0;

		(void)client_lists(w, "", true);
		share_look(w);
		for (unsigned i = 0; i < w->dir_count && tries < 100; i++, tries++) {
			(void)client_lists(w, w->dirs[i], true);
			share_look(w);
		}
		(void)reconcile_accept_conflicts(w->v->reconcile);
		world_settle(w);
	}
}

/* A daemon may have been killed when a stub was of a new version and its row not yet, and the store have the old one again
 * since: one reader finds that, and the next listing mends it. */
static void read_at_last(struct world *w, const char *path, unsigned *unread)
{
	if (client_plain(w, path, false)) {
		return;
	}
	share_list(w, 1);
	if (++*unread > 1 || !client_plain(w, path, false)) {
		die(w, path, "cannot be read at last");
	}
}

void share_is_store(struct world *w)
{
	unsigned files = 0, objects = 0, unread = 0;
	size_t longest = 0;
	char path[256];

	share_look(w);
	for (unsigned i = 0; i < w->file_count; i++) {
		struct model_file *f = &w->files[i];
		const struct sim_object *o;
		const struct row *row;
		struct ofs_record rec;
		char *key;

		snprintf(path, sizeof(path), "%s", f->path);
		read_at_last(w, path, &unread);
		share_look(w);
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
