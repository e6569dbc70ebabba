/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The names in one directory of the store, in the order of keys, so many pages at a time.
 *
 * Way:    list.c -> dir_children_take ... dir_children_give.
 * Thread: workers; blocks on the local disk.
 * Owns:   portions that wait for the next page of their listing.
 * Holds:  1. A page of a million names must not read a million: what was read for the last page serves the
 *            next, if nothing has changed in the directory since before it was read. Of that its write time
 *            tells, except of two changes in what is one moment to the file system: so that time must be of
 *            some seconds before the reading, else nothing is kept.
 *         2. Memory is for a portion, however large the directory is.
 *         3. Names with a rest in directories of their own (names.c) are not kept: those have other times.
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
#include <sys/stat.h>
#include <unistd.h>

#define PORTION_PAGES 50u
#define EXACT_NS (3 * 1000000000LL) /* no file system's times are less exact */

struct reading {
	struct dir_children *c;
	int root_fd;
	const struct dir_range *range;
	const char *key_base;
	size_t capacity, portion;
	bool cut; /* there are names behind the portion's last */
};

void dir_children_free(struct dir_children **pc)
{
	struct dir_children *c = *pc;

	*pc = NULL;
	if (c == NULL) {
		return;
	}
	for (size_t i = 0; i < c->count; i++) {
		free(c->list[i].name);
		free(c->list[i].path);
	}
	free(c->list);
	free(c->path);
	free(c->prefix);
	free(c->after);
	free(c);
}

static int child_cmp(const void *a, const void *b)
{
	return strcmp(((const struct dir_child *)a)->name, ((const struct dir_child *)b)->name);
}

/* Can keys that are (or begin with) `full` belong on this page? */
static bool wanted(const struct dir_range *range, const char *full, bool is_dir)
{
	size_t len = strlen(full);
	size_t common = len < range->prefix_len ? len : range->prefix_len;

	if (memcmp(full, range->prefix, common) != 0 || (len < range->prefix_len && !is_dir) ||
			(range->after != NULL && strcmp(full, range->after) <= 0)) {
		return false;
	}
	if (range->token == NULL || strcmp(full, range->token) > 0) {
		return true;
	}
	return is_dir && strncmp(full, range->token, len) == 0;
}

/* Twice the portion is here: the second half waits for another. */
static void portion_cut(struct reading *r)
{
	struct dir_children *c = r->c;

	qsort(c->list, c->count, sizeof(c->list[0]), child_cmp);
	while (c->count > r->portion) {
		c->count--;
		free(c->list[c->count].name);
		free(c->list[c->count].path);
	}
	r->cut = true;
}

static int child_add(struct reading *r, const char *name, const char *dir, const char *file, bool is_dir)
{
	struct dir_children *c = r->c;
	struct dir_child *child;

	if (c->count == 2 * r->portion) {
		portion_cut(r);
	}
	if (r->cut && strcmp(name, c->list[r->portion - 1].name) > 0) {
		return 0;
	}
	if (c->count == r->capacity) {
		size_t cap = r->capacity == 0 ? 64 : r->capacity * 2;
		struct dir_child *grown = realloc(c->list, cap * sizeof(*grown));

		if (grown == NULL) {
			return -ENOMEM;
		}
		c->list = grown;
		r->capacity = cap;
	}
	child = &c->list[c->count++];
	child->is_dir = is_dir;
	child->name = strdup(name);
	if (asprintf(&child->path, "%s/%s", dir, file) < 0) {
		child->path = NULL;
	}
	return child->name == NULL || child->path == NULL ? -ENOMEM : 0;
}

int dir_entry_kind(const char *name, size_t *len)
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

static int names_read(struct reading *r, const char *path, const char *name_base);

/* The rest of components whose names begin with `name`. */
static int chunk_read(struct reading *r, const char *dir, const char *file, const char *name)
{
	char *path;
	int ret;

	if (asprintf(&path, "%s/%s", dir, file) < 0) {
		return -ENOMEM;
	}
	r->c->settled = false;
	ret = names_read(r, path, name);
	free(path);
	return ret == -ENOENT ? 0 : ret;
}

static int name_read(struct reading *r, const char *path, const char *name_base, const struct dirent *d)
{
	size_t len;
	int kind = dir_entry_kind(d->d_name, &len);
	char part[256], full[2 * OBJ_KEY_MAX_BYTES];
	const char *name = full + strlen(r->key_base);
	int n;

	if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
			dir_name_decode(d->d_name, len, part) != 0 ||
			(kind == 'd' && d->d_type != DT_DIR && d->d_type != DT_UNKNOWN)) {
		return 0; /* somebody else's file */
	}
	n = snprintf(full, sizeof(full), "%s%s%s%s", r->key_base, name_base, part, kind == 'd' ? "/" : "");
	if (n < 0 || (size_t)n >= sizeof(full)) {
		return 0; /* longer than any key of ours */
	}
	if (kind == '+') {
		return chunk_read(r, path, d->d_name, name);
	}
	return wanted(r->range, full, kind == 'd') ? child_add(r, name, path, d->d_name, kind == 'd') : 0;
}

/* Names in one directory, those of long components put together. 0 or -errno. */
static int names_read(struct reading *r, const char *path, const char *name_base)
{
	int fd = openat(r->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
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
		ret = name_read(r, path, name_base, d);
	}
	if (ret == 0 && errno != 0) {
		ret = -errno;
	}
	closedir(dir);
	return ret;
}

static int children_read(int root_fd, const char *path, const char *key_base, const struct dir_range *range,
		struct dir_children **out)
{
	struct dir_children *c = calloc(1, sizeof(*c));
	struct reading r = {.c = c, .root_fd = root_fd, .range = range, .key_base = key_base,
		.portion = PORTION_PAGES * (size_t)range->page};
	const char *after = range->after != NULL ? range->after : range->token;
	struct stat st;
	int ret;

	if (c == NULL || (c->path = strdup(path)) == NULL || (c->prefix = strdup(range->prefix)) == NULL ||
			(after != NULL && (c->after = strdup(after)) == NULL)) {
		dir_children_free(&c);
		return -ENOMEM;
	}
	if (fstatat(root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		c->ino = st.st_ino;
		c->changed_ns = st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec;
		c->settled = c->changed_ns < dir_wall_ns() - EXACT_NS;
	}
	ret = names_read(&r, path, "");
	if (ret != 0) {
		dir_children_free(&c);
		return ret;
	}
	if (c->count > r.portion) {
		portion_cut(&r);
	} else if (c->count > 1) {
		qsort(c->list, c->count, sizeof(c->list[0]), child_cmp);
	}
	c->whole = !r.cut;
	*out = c;
	return 0;
}

/* ---- what waits for the next page ---- */

/* Behind where it begins? That may be a directory, of which nothing is in it. */
static bool is_behind(const struct dir_children *c, const char *after)
{
	size_t len = c->after != NULL ? strlen(c->after) : 0;

	if (len == 0) {
		return true;
	}
	return after != NULL && strcmp(c->after, after) <= 0 &&
			(c->after[len - 1] != '/' || strncmp(c->after, after, len) != 0);
}

static bool is_kept(const struct dir_children *c, int root_fd, const char *path, const struct dir_range *range)
{
	const char *after = range->after != NULL ? range->after : range->token;
	struct stat st;

	return c != NULL && strcmp(c->path, path) == 0 && strcmp(c->prefix, range->prefix) == 0 &&
			is_behind(c, after) &&
			fstatat(root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == c->ino &&
			st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec == c->changed_ns;
}

/* The first that may be on the page: all behind it may, as they ascend. */
static size_t first_wanted(const struct dir_children *c, const char *key_base, const struct dir_range *range)
{
	size_t from = 0, to = c->count;
	char full[2 * OBJ_KEY_MAX_BYTES];

	while (from < to) {
		size_t at = from + (to - from) / 2;

		snprintf(full, sizeof(full), "%s%s", key_base, c->list[at].name);
		if (wanted(range, full, c->list[at].is_dir)) {
			to = at;
		} else {
			from = at + 1;
		}
	}
	return from;
}

int dir_children_take(struct dir_job *job, const char *path, const char *key_base,
		const struct dir_range *range, struct dir_children **out)
{
	struct dir_kept *kept = job->kept;
	struct dir_children *c = NULL;

	pthread_mutex_lock(&kept->lock);
	for (unsigned i = 0; i < DIR_KEPT && c == NULL; i++) {
		if (is_kept(kept->slot[i], job->root_fd, path, range)) {
			c = kept->slot[i];
			kept->slot[i] = NULL;
		}
	}
	pthread_mutex_unlock(&kept->lock);
	if (c != NULL) {
		c->at = first_wanted(c, key_base, range);
		if (c->at < c->count || c->whole) {
			*out = c;
			return 0;
		}
		dir_children_free(&c);
	}
	return children_read(job->root_fd, path, key_base, range, out);
}

void dir_children_give(struct dir_job *job, struct dir_children **pc)
{
	struct dir_kept *kept = job->kept;
	struct dir_children *c = *pc;
	unsigned i = 0;

	*pc = NULL;
	if (c == NULL || !c->settled || c->at == c->count) {
		dir_children_free(&c);
		return;
	}
	pthread_mutex_lock(&kept->lock);
	while (i < DIR_KEPT - 1 && kept->slot[i] != NULL) {
		i++;
	}
	if (kept->slot[i] != NULL) { /* all are taken: the oldest goes */
		dir_children_free(&kept->slot[0]);
		memmove(&kept->slot[0], &kept->slot[1], (DIR_KEPT - 1) * sizeof(kept->slot[0]));
	}
	kept->slot[i] = c;
	pthread_mutex_unlock(&kept->lock);
}

void dir_kept_fini(struct dir_kept *kept)
{
	for (unsigned i = 0; i < DIR_KEPT; i++) {
		dir_children_free(&kept->slot[i]);
	}
	pthread_mutex_destroy(&kept->lock);
}
