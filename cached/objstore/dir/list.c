/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Listing the directory store in key order, with delimiter and pages.
 *
 * Way:    ops.c -> dir_run_list, names from children.c; rows go into the request's result.
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

		if (dir_entry_kind(d->d_name, &len) == 'o') {
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
			const char *class = head.props[OBJ_PROP_storage_class];

			e->size = head.size;
			e->mtime_ns = head.mtime_ns;
			e->etag = strdup(head.etag);
			e->storage_class = strdup(class == NULL ? "STANDARD" : class);
			if (e->etag == NULL || e->storage_class == NULL) {
				walk_fail(w, -ENOMEM, "list");
			}
		}
	}
	dir_head_fini(&head);
}

static void walk_child(struct walk *w, const struct dir_child *c, const char *key)
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

/* Those of one portion, from c->at on. */
static void walk_children(struct walk *w, struct dir_children *c, const char *key_base)
{
	for (; c->at < c->count && !w->stop; c->at++) {
		char *key;

		if (atomic_load(&w->job->req->cancelled)) {
			obj_fail(w->job->req, OBJ_CANCELLED, "cancelled");
			w->stop = true;
		} else if (asprintf(&key, "%s%s", key_base, c->list[c->at].name) < 0) {
			walk_fail(w, -ENOMEM, "list");
		} else {
			walk_child(w, &c->list[c->at], key);
			free(key);
		}
	}
}

/* false: stop. */
static bool walk_dir(struct walk *w, const char *path, const char *key_base)
{
	struct dir_range range = {.prefix = w->prefix, .prefix_len = w->prefix_len, .token = w->token,
		.page = w->max};
	char *after = NULL;
	bool whole = false;

	while (!whole && !w->stop) {
		struct dir_children *c = NULL;
		int ret = dir_children_take(w->job, path, key_base, &range, &c);

		if (ret != 0) {
			if (ret != -ENOENT && ret != -ENOTDIR) {
				walk_fail(w, ret, path);
			}
			break;
		}
		walk_children(w, c, key_base);
		whole = c->whole;
		free(after);
		after = NULL;
		if (!whole && !w->stop &&
				asprintf(&after, "%s%s", key_base, c->list[c->count - 1].name) < 0) {
			after = NULL;
			walk_fail(w, -ENOMEM, "list");
		}
		range.after = after;
		dir_children_give(w->job, &c);
	}
	free(after);
	return !w->stop;
}

void dir_run_list(struct dir_job *job)
{
	struct obj_req *req = job->req;
	struct walk w = {
		.job = job,
		.prefix = req->key,
		.prefix_len = strlen(req->key),
		.token = req->token != NULL ? req->token : req->after,
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
