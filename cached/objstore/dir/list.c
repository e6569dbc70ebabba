/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Listing the directory store in key order, with delimiter and pages.
 *
 * Way:    ops.c -> dir_run_list; rows go into the request's result.
 * Thread: workers; blocks on the local disk.
 * Holds:  1. Rows come in byte order of whole keys: within a directory, names are compared with
 *            '/' behind those of directories, which is how they stand in keys.
 *         2. A token is the last row's key; rows up to and including it are skipped.
 *         3. What cannot be read is an error of the listing, never a gap in it. Directories
 *            without an object (a writer about to rename, a crash) are no prefix.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "dir.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_KEYS 1000u

struct child {
	char *name; /* component, unescaped, '/' behind it if a directory */
	char *path; /* relative to the root */
	bool is_dir;
};

struct children {
	struct child *list;
	size_t count, capacity;
};

struct walk {
	struct dir_job *job;
	const char *prefix;
	size_t prefix_len;
	const char *token;
	char delimiter;
	unsigned max;
	unsigned capacity;
	bool stop; /* the page is full, or an error is in the result */
};

static bool walk_dir(struct walk *w, const char *path, const char *key_base);

static void children_fini(struct children *c)
{
	for (size_t i = 0; i < c->count; i++) {
		free(c->list[i].name);
		free(c->list[i].path);
	}
	free(c->list);
}

static int child_cmp(const void *a, const void *b)
{
	return strcmp(((const struct child *)a)->name, ((const struct child *)b)->name);
}

static int child_add(struct children *c, const char *name, const char *dir, const char *file,
		bool is_dir)
{
	struct child *child;

	if (c->count == c->capacity) {
		size_t cap = c->capacity == 0 ? 64 : c->capacity * 2;
		struct child *grown = realloc(c->list, cap * sizeof(*grown));

		if (grown == NULL) {
			return -ENOMEM;
		}
		c->list = grown;
		c->capacity = cap;
	}
	child = &c->list[c->count++];
	child->is_dir = is_dir;
	child->name = strdup(name);
	if (asprintf(&child->path, "%s/%s", dir, file) < 0) {
		child->path = NULL;
	}
	return child->name == NULL || child->path == NULL ? -ENOMEM : 0;
}

/* Can keys that are (or begin with) `full` belong on this page? */
static bool wanted(const struct walk *w, const char *full, bool is_dir)
{
	size_t len = strlen(full);
	size_t common = len < w->prefix_len ? len : w->prefix_len;

	if (memcmp(full, w->prefix, common) != 0 || (len < w->prefix_len && !is_dir)) {
		return false;
	}
	if (w->token == NULL || strcmp(full, w->token) > 0) {
		return true;
	}
	return is_dir && strncmp(full, w->token, len) == 0;
}

static int entry_kind(const char *name, size_t *len)
{
	*len = strlen(name);
	if (*len > 2 && strcmp(name + *len - 2, DIR_SUFFIX_OBJECT) == 0) {
		*len -= 2;
		return 'o';
	}
	if (*len > 2 && strcmp(name + *len - 2, DIR_SUFFIX_CHUNK) == 0) {
		*len -= 2;
		return '+';
	}
	return 'd';
}

static int children_read(struct walk *w, const char *path, const char *key_base,
		const char *name_base, struct children *out);

/* The rest of components whose names begin with `name`. */
static int chunk_read(struct walk *w, const char *dir, const char *file, const char *key_base,
		const char *name, struct children *out)
{
	char *path;
	int ret;

	if (asprintf(&path, "%s/%s", dir, file) < 0) {
		return -ENOMEM;
	}
	ret = children_read(w, path, key_base, name, out);
	free(path);
	return ret == -ENOENT ? 0 : ret;
}

/* Names in one directory, those of long components put together. 0 or -errno. */
static int children_read(struct walk *w, const char *path, const char *key_base,
		const char *name_base, struct children *out)
{
	int fd = openat(w->job->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	int ret = 0;

	if (dir == NULL) {
		ret = -errno;
		if (fd >= 0) {
			close(fd);
		}
		return ret;
	}
	while (ret == 0 && (errno = 0, d = readdir(dir)) != NULL) {
		size_t len;
		int kind = entry_kind(d->d_name, &len);
		char part[256], full[2 * OBJ_KEY_MAX_BYTES];
		const char *name = full + strlen(key_base);
		int n;

		if (d->d_name[0] == '.' && (d->d_name[1] == '\0' ||
						 strcmp(d->d_name, "..") == 0)) {
			continue;
		}
		if (dir_name_decode(d->d_name, len, part) != 0 ||
				(kind == 'd' && d->d_type != DT_DIR && d->d_type != DT_UNKNOWN)) {
			continue; /* somebody else's file */
		}
		n = snprintf(full, sizeof(full), "%s%s%s%s", key_base, name_base, part,
				kind == 'd' ? "/" : "");
		if (n < 0 || (size_t)n >= sizeof(full)) {
			continue; /* longer than any key of ours */
		}
		if (kind == '+') {
			ret = chunk_read(w, path, d->d_name, key_base, name, out);
		} else if (wanted(w, full, kind == 'd')) {
			ret = child_add(out, name, path, d->d_name, kind == 'd');
		}
	}
	if (ret == 0 && errno != 0) {
		ret = -errno;
	}
	closedir(dir);
	return ret;
}

/* 1: somewhere below is an object; 0: none; -errno. */
static int has_object(int root_fd, const char *path)
{
	int fd = openat(root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	int ret = 0;

	if (dir == NULL) {
		ret = errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
		if (fd >= 0) {
			close(fd);
		}
		return ret;
	}
	while (ret == 0 && (errno = 0, d = readdir(dir)) != NULL) {
		size_t len;
		char *sub;

		if (entry_kind(d->d_name, &len) == 'o') {
			ret = 1;
		} else if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 &&
				d->d_type != DT_REG) {
			if (asprintf(&sub, "%s/%s", path, d->d_name) < 0) {
				ret = -ENOMEM;
				break;
			}
			ret = has_object(root_fd, sub);
			free(sub);
		}
	}
	if (ret == 0 && errno != 0) {
		ret = -errno;
	}
	closedir(dir);
	return ret;
}

static void walk_fail(struct walk *w, int ret, const char *what)
{
	w->stop = true;
	dir_fail(w->job, -ret, what);
}

/* A row, unless the page is full (then the listing goes on behind its last row). */
static struct obj_entry *row_add(struct walk *w, const char *key, size_t len)
{
	struct obj_result *r = &w->job->req->result;
	struct obj_entry *e;

	if (r->entry_count == w->max) {
		w->stop = true;
		r->next_token = strdup(r->entries[r->entry_count - 1].key);
		if (r->next_token == NULL) {
			walk_fail(w, -ENOMEM, "list");
		}
		return NULL;
	}
	e = obj_result_entry_add(r, &w->capacity);
	if (e != NULL) {
		e->key = strndup(key, len);
	}
	if (e == NULL || e->key == NULL) {
		walk_fail(w, -ENOMEM, "list");
		return NULL;
	}
	return e;
}

static void emit_prefix(struct walk *w, const char *key, size_t len)
{
	struct obj_result *r = &w->job->req->result;
	struct obj_entry *e;

	if (r->entry_count > 0) {
		e = &r->entries[r->entry_count - 1];
		if (e->is_prefix && strlen(e->key) == len && memcmp(e->key, key, len) == 0) {
			return;
		}
	}
	if (w->token != NULL && strlen(w->token) >= len && memcmp(w->token, key, len) == 0) {
		return;
	}
	e = row_add(w, key, len);
	if (e != NULL) {
		e->is_prefix = true;
	}
}

static void emit_object(struct walk *w, const char *key, const char *path)
{
	const char *cut = NULL;
	struct dir_head head;
	struct obj_entry *e;
	int fd, ret;

	if (w->delimiter != 0) {
		cut = strchr(key + w->prefix_len, w->delimiter);
	}
	if (cut != NULL) {
		emit_prefix(w, key, (size_t)(cut - key) + 1);
		return;
	}
	fd = openat(w->job->root_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		if (errno != ENOENT) { /* deleted since: no row */
			walk_fail(w, -errno, path);
		}
		return;
	}
	ret = dir_head_read(fd, &head);
	close(fd);
	if (ret != 0) {
		walk_fail(w, ret, path);
	} else {
		e = row_add(w, key, strlen(key));
		if (e != NULL) {
			e->size = head.size;
			e->mtime_ns = head.mtime_ns;
			e->etag = strdup(head.etag);
			e->storage_class = strdup("STANDARD");
			if (e->etag == NULL || e->storage_class == NULL) {
				walk_fail(w, -ENOMEM, "list");
			}
		}
	}
	dir_head_fini(&head);
}

static void walk_child(struct walk *w, const struct child *c, const char *key)
{
	int ret;

	if (!c->is_dir) {
		emit_object(w, key, c->path);
		return;
	}
	if (w->delimiter != '/' || strlen(key) <= w->prefix_len) {
		walk_dir(w, c->path, key);
		return;
	}
	ret = has_object(w->job->root_fd, c->path);
	if (ret < 0) {
		walk_fail(w, ret, c->path);
	} else if (ret == 1) {
		emit_prefix(w, key, strlen(key));
	}
}

/* false: stop. */
static bool walk_dir(struct walk *w, const char *path, const char *key_base)
{
	struct children c = { 0 };
	int ret = children_read(w, path, key_base, "", &c);

	if (ret != 0 && ret != -ENOENT && ret != -ENOTDIR) {
		walk_fail(w, ret, path);
	}
	if (c.count > 1) {
		qsort(c.list, c.count, sizeof(c.list[0]), child_cmp);
	}
	for (size_t i = 0; i < c.count && !w->stop; i++) {
		char *key;

		if (atomic_load(&w->job->req->cancelled)) {
			obj_fail(w->job->req, OBJ_CANCELLED, "cancelled");
			w->stop = true;
		} else if (asprintf(&key, "%s%s", key_base, c.list[i].name) < 0) {
			walk_fail(w, -ENOMEM, "list");
		} else {
			walk_child(w, &c.list[i], key);
			free(key);
		}
	}
	children_fini(&c);
	return !w->stop;
}

void dir_run_list(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct walk w = {
		.job = job,
		.prefix = req->key,
		.prefix_len = strlen(req->key),
		.token = req->token,
		.delimiter = req->delimiter,
		.max = req->max_keys == 0 ? PAGE_KEYS : (unsigned)req->max_keys,
	};
	char path[DIR_PATH_MAX];
	const char *slash = strrchr(req->key, '/');
	char *base = strndup(req->key, slash == NULL ? 0 : (size_t)(slash - req->key) + 1);
	int ret;

	if (base == NULL) {
		dir_fail(job, ENOMEM, "list");
		return;
	}
	ret = dir_path_of_prefix(base, path);
	if (ret != 0) {
		dir_fail(job, -ret, "list");
	} else if (faccessat(job->root_fd, DIR_OBJECTS, F_OK, 0) != 0) {
		dir_fail(job, errno, "list");
	} else {
		walk_dir(&w, path, base);
	}
	free(base);
	/* The tree may have gone away under the walk, which then saw only a part of it. */
	if (req->result.status == OBJ_OK && faccessat(job->root_fd, DIR_OBJECTS, F_OK, 0) != 0) {
		dir_fail(job, errno, "list");
	}
}
