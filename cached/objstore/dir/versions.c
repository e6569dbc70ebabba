/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Versions of objects, where the store keeps them (rules.c): what is replaced or deleted stays.
 *
 *   ROOT/versions/photos/2024/cat.jpg%o/0000000000000003      the object's own file, a second name
 *                                       0000000000000004m     a delete
 *
 * The greatest number is the newest; the current object is versions' newest, unless that is a delete's
 * marker. What was there before versions were kept is "null", 0 once it has been replaced.
 *
 * Way:    stage.c and ops.c.
 * Thread: workers; blocks on the local disk and on other holders of the key's lock.
 * Holds:  1. A number is given under the key's lock, once; nothing takes a version away again.
 *         2. A version is there before the object is: a crash between leaves one that nobody was told of.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "dir.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_VERSIONS 1000u
#define DIGITS (DIR_VERSION_BYTES - 1)
#define NULL_ID "null"

/* Is this the name of a version's file? */
static bool parse_name(const char *name, uint64_t *number, bool *is_marker)
{
	size_t len = strlen(name);

	if (strspn(name, "0123456789abcdef") != DIGITS || len > DIGITS + 1 ||
			(len == DIGITS + 1 && name[DIGITS] != 'm')) {
		return false;
	}
	*number = strtoull(name, NULL, 16);
	*is_marker = len == DIGITS + 1;
	return true;
}

static int version_path(const char *key, uint64_t number, const char *suffix, char out[DIR_PATH_MAX])
{
	int ret = dir_path_of_versions(key, out);
	size_t len = strlen(out);

	if (ret == 0 && len + 1 + DIGITS + 2 > DIR_PATH_MAX) {
		ret = -ENAMETOOLONG;
	}
	if (ret == 0) {
		snprintf(out + len, DIR_PATH_MAX - len, "/%016" PRIx64 "%s", number, suffix);
	}
	return ret;
}

int dir_path_of_version(const char *key, const char *id, char out[DIR_PATH_MAX])
{
	uint64_t number;
	bool is_marker;

	if (strcmp(id, NULL_ID) == 0) {
		return version_path(key, 0, "", out);
	}
	if (!parse_name(id, &number, &is_marker) || is_marker || number == 0) {
		return -ENOENT;
	}
	return version_path(key, number, "", out);
}

/* --- the list --- */

struct version {
	uint64_t number;
	bool is_marker;
};

struct versions {
	struct version *list;
	size_t count, capacity;
};

static int version_cmp(const void *a, const void *b)
{
	uint64_t x = ((const struct version *)a)->number, y = ((const struct version *)b)->number;

	return x < y ? 1 : x > y ? -1 : 0;
}

static int versions_add(struct versions *v, uint64_t number, bool is_marker)
{
	if (v->count == v->capacity) {
		size_t cap = v->capacity == 0 ? 16 : v->capacity * 2;
		struct version *grown = realloc(v->list, cap * sizeof(*grown));

		if (grown == NULL) {
			return -ENOMEM;
		}
		v->list = grown;
		v->capacity = cap;
	}
	v->list[v->count++] = (struct version){ number, is_marker };
	return 0;
}

/* Newest first. 0 or -errno; the caller frees the list in either case. */
static int versions_read(int root_fd, const char *key, struct versions *out)
{
	char path[DIR_PATH_MAX];
	struct dirent *d;
	DIR *dir;
	int fd, ret;

	memset(out, 0, sizeof(*out));
	ret = dir_path_of_versions(key, path);
	if (ret != 0) {
		return ret;
	}
	fd = openat(root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (dir == NULL) {
		ret = -errno;
		if (fd >= 0) {
			close(fd);
		}
		return ret == -ENOENT || ret == -ENOTDIR ? 0 : ret;
	}
	while (ret == 0 && (errno = 0, d = readdir(dir)) != NULL) {
		uint64_t number;
		bool is_marker;

		if (parse_name(d->d_name, &number, &is_marker)) {
			ret = versions_add(out, number, is_marker);
		}
	}
	if (ret == 0 && errno != 0) {
		ret = -errno;
	}
	closedir(dir);
	if (out->count > 1) {
		qsort(out->list, out->count, sizeof(out->list[0]), version_cmp);
	}
	return ret;
}

/* The current object is from a time without versions. 1, 0, -errno. */
static int current_is_null(struct dir_job *job)
{
	char path[DIR_PATH_MAX];
	struct dir_head head;
	int ret = dir_path_of_object(job->req->key, path);
	int fd = ret == 0 ? openat(job->root_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;

	if (fd < 0) {
		return ret != 0 ? ret : errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	}
	ret = dir_head_read(fd, &head);
	if (ret == 0) {
		ret = head.version[0] == '\0';
	}
	dir_head_fini(&head);
	close(fd);
	return ret == -EBADMSG ? 0 : ret; /* damaged: it may be replaced all the same */
}

static struct obj_entry *row_add(struct dir_job *job, unsigned *capacity)
{
	struct obj_entry *e = obj_result_entry_add(&job->req->result, capacity);

	if (e != NULL) {
		e->key = strdup(job->req->key);
		e->version_id = malloc(DIR_VERSION_BYTES);
	}
	if (e == NULL || e->key == NULL || e->version_id == NULL) {
		dir_fail(job, ENOMEM, "list versions");
		return NULL;
	}
	return e;
}

static bool row_describe(struct dir_job *job, struct obj_entry *e)
{
	struct dir_head head;
	const char *class;
	int fd = dir_object_open(job, job->req->key, e->version_id, &head);

	if (fd < 0) {
		return false;
	}
	e->size = head.size;
	e->mtime_ns = head.mtime_ns;
	e->etag = strdup(head.etag);
	class = head.props[OBJ_PROP_storage_class];
	e->storage_class = strdup(class == NULL ? "STANDARD" : class);
	dir_head_fini(&head);
	close(fd);
	if (e->etag == NULL || e->storage_class == NULL) {
		dir_fail(job, ENOMEM, "list versions");
		return false;
	}
	return true;
}

static void emit(struct dir_job *job, const struct versions *v)
{
	struct obj_req *req = job->req;
	unsigned max = req->max_keys == 0 ? PAGE_VERSIONS : (unsigned)req->max_keys;
	uint64_t below = req->token == NULL ? UINT64_MAX : strtoull(req->token, NULL, 16);
	unsigned capacity = 0;

	for (size_t i = 0; i < v->count; i++) {
		const struct version *one = &v->list[i];
		struct obj_entry *e;

		if (one->number >= below) {
			continue;
		}
		if (req->result.entry_count == max) {
			req->result.next_token = strdup(req->result.entries[max - 1].version_id);
			if (req->result.next_token == NULL) {
				dir_fail(job, ENOMEM, "list versions");
			}
			return;
		}
		e = row_add(job, &capacity);
		if (e == NULL) {
			return;
		}
		snprintf(e->version_id, DIR_VERSION_BYTES, one->number == 0 ? NULL_ID : "%016" PRIx64,
				one->number);
		e->is_marker = one->is_marker;
		if (!e->is_marker && !row_describe(job, e)) {
			return;
		}
	}
}

void dir_run_versions(struct dir_job *job)
{
	struct versions v = { 0 };
	int ret, lock;

	if (faccessat(job->root_fd, DIR_OBJECTS, F_OK, 0) != 0) {
		dir_fail(job, errno, "list versions");
		return;
	}
	lock = dir_key_lock(job, job->req->key);
	if (lock < 0) {
		return;
	}
	ret = versions_read(job->root_fd, job->req->key, &v);
	if (ret == 0) {
		ret = current_is_null(job);
	}
	if (ret == 1) {
		ret = versions_add(&v, 0, false);
	}
	if (ret < 0) {
		dir_fail(job, -ret, "list versions");
	} else {
		emit(job, &v);
	}
	free(v.list);
	close(lock);
}

/* --- a new one --- */

static int link_version(int root_fd, const char *from, const char *to)
{
	int ret = 0;

	if (linkat(root_fd, from, root_fd, to, 0) == 0) {
		return dir_sync_parent(root_fd, to);
	}
	ret = errno == ENOENT ? dir_parents_make(root_fd, to) : -errno;
	if (ret == 0 && linkat(root_fd, from, root_fd, to, 0) != 0) {
		ret = -errno;
	}
	return ret == 0 ? dir_sync_parent(root_fd, to) : ret;
}

/* What is from a time without versions stays as one of them. 0 or -errno. */
static int keep_null(struct dir_job *job)
{
	char object[DIR_PATH_MAX], version[DIR_PATH_MAX];
	int ret = current_is_null(job);

	if (ret != 1) {
		return ret;
	}
	ret = dir_path_of_object(job->req->key, object);
	if (ret == 0) {
		ret = version_path(job->req->key, 0, "", version);
	}
	if (ret == 0) {
		unlinkat(job->root_fd, version, 0);
		ret = link_version(job->root_fd, object, version);
	}
	return ret;
}

/* The number of the next version. 0 or -errno. */
static int next_number(struct dir_job *job, uint64_t *number)
{
	struct versions v;
	int ret = keep_null(job);

	if (ret != 0) {
		return ret;
	}
	ret = versions_read(job->root_fd, job->req->key, &v);
	*number = v.count == 0 ? 1 : v.list[0].number + 1;
	free(v.list);
	return ret;
}

bool dir_version_add(struct dir_job *job, struct dir_stage *s)
{
	char path[DIR_PATH_MAX];
	uint64_t number;
	int ret = next_number(job, &number);

	if (ret == 0) {
		snprintf(s->head.version, sizeof(s->head.version), "%016" PRIx64, number);
		ret = dir_stage_seal(s);
	}
	if (ret == 0) {
		ret = version_path(job->req->key, number, "", path);
	}
	if (ret == 0) {
		ret = link_version(job->root_fd, s->path, path);
	}
	if (ret != 0) {
		dir_fail(job, -ret, "add a version");
	}
	return ret == 0;
}

bool dir_version_mark(struct dir_job *job)
{
	char path[DIR_PATH_MAX];
	uint64_t number;
	int fd = -1, ret = next_number(job, &number);

	if (ret == 0) {
		ret = version_path(job->req->key, number, "m", path);
	}
	if (ret == 0) {
		ret = dir_parents_make(job->root_fd, path);
	}
	if (ret == 0) {
		fd = openat(job->root_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		ret = fd < 0 ? -errno : dir_sync_parent(job->root_fd, path);
	}
	if (fd >= 0) {
		close(fd);
	}
	if (ret != 0) {
		dir_fail(job, -ret, "mark a delete");
		return false;
	}
	job->req->result.version_id = malloc(DIR_VERSION_BYTES);
	if (job->req->result.version_id != NULL) {
		snprintf(job->req->result.version_id, DIR_VERSION_BYTES, "%016" PRIx64, number);
	}
	return true;
}
