/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: which files have data here, asked of the tree: at the start, and once a day because notes can
 *       get lost (an inode that came back from nowhere, memory that ran out). Stubs get the guard's mark.
 * Way: evictor_count, space.c -> one directory after the other as a disk job -> the table, the guard.
 * Thread: core; census_run on a worker.
 * Owns: the names of directories still to be read.
 * Holds: 1. what somebody else has noted meanwhile is newer, and stands;
 *        2. what moves while it runs may have moved from where it had not been to where it had: it goes
 *           round again, CENSUS_ROUNDS in all.
 */
#include "private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CENSUS_ROUNDS 3u

struct census {
	struct evictor *ev;
	char **dirs; /* malloc'ed paths below the tree, a stack */
	size_t count, cap;
	bool running;
	bool moved;  /* something, in this round */
	bool failed; /* a directory could not be read, in this round */
	unsigned rounds;
};

struct census_file {
	struct ofs_oid oid;
	uint64_t bytes;
	int64_t used_s;
};

struct census_job {
	struct disk_job job;
	struct census *c; /* core only */
	struct ofs_record_io rio;
	struct guard *guard;
	int tree_fd;
	char *path;
	int status;
	struct census_file *files;
	size_t file_count, file_cap;
	char **dirs; /* names */
	size_t dir_count, dir_cap;
};

/* Worker. */
static int census_grow(void **array, size_t count, size_t *cap, size_t size)
{
	size_t more = *cap ? *cap * 2 : 64;
	void *n;

	if (count < *cap) {
		return 0;
	}
	n = realloc(*array, more * size);
	if (n == NULL) {
		return -ENOMEM;
	}
	*array = n;
	*cap = more;
	return 0;
}

static int census_entry(struct census_job *j, int dirfd, const char *name)
{
	struct ofs_record rec;
	struct stat st;
	int ret;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		return errno == ENOENT ? 0 : -errno;
	}
	if (S_ISDIR(st.st_mode)) {
		ret = census_grow((void **)&j->dirs, j->dir_count, &j->dir_cap, sizeof(*j->dirs));
		if (ret == 0 && (j->dirs[j->dir_count] = strdup(name)) != NULL) {
			j->dir_count++;
		}
		return ret;
	}
	if (S_ISREG(st.st_mode) && (st.st_mode & OFS_MARKER_MODE) != 0) {
		guard_set_at(j->guard, dirfd, name);
	}
	if (!S_ISREG(st.st_mode) || st.st_blocks == 0 ||
			ofs_record_get_at(&j->rio, dirfd, name, &rec) != 0) {
		return 0;
	}
	ret = census_grow((void **)&j->files, j->file_count, &j->file_cap, sizeof(*j->files));
	if (ret == 0) {
		struct census_file *f = &j->files[j->file_count++];

		f->oid = rec.oid;
		f->bytes = (uint64_t)st.st_blocks * 512;
		f->used_s = st.st_atime > st.st_mtime ? st.st_atime : st.st_mtime;
		/* What its attributes take is not data. */
		if ((rec.flags & OFS_REC_STUB) != 0 && f->bytes <= EVICT_ATTR_BYTES) {
			j->file_count--;
		}
	}
	return ret;
}

static void census_run(struct disk_job *job)
{
	struct census_job *j = (struct census_job *)job;
	int fd = mirror_open_beneath(j->tree_fd, j->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	if (dir == NULL) {
		j->status = fd < 0 ? fd : -errno;
		if (fd >= 0) {
			close(fd);
		}
		return;
	}
	while (j->status == 0 && (de = readdir(dir)) != NULL) {
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0) {
			j->status = census_entry(j, dirfd(dir), de->d_name);
		}
	}
	closedir(dir);
}

static int census_push(struct census *c, const char *above, const char *name)
{
	int ret = census_grow((void **)&c->dirs, c->count, &c->cap, sizeof(*c->dirs));
	char *path = NULL;

	if (ret != 0) {
		return ret;
	}
	if (asprintf(&path, "%s%s%s", strcmp(above, ".") == 0 ? "" : above,
			    strcmp(above, ".") == 0 ? "" : "/", name) < 0) {
		return -ENOMEM;
	}
	c->dirs[c->count++] = path;
	return 0;
}

static void census_next(struct census *c);

static void census_done(struct disk_job *job)
{
	struct census_job *j = (struct census_job *)job;
	struct census *c = j->c;
	size_t i;

	for (i = 0; i < j->file_count; i++) {
		if (!keep_has(c->ev->keep, &j->files[i].oid)) {
			keep_set(c->ev->keep, &j->files[i].oid, j->files[i].bytes, j->files[i].used_s);
		}
	}
	for (i = 0; i < j->dir_count; i++) {
		if (census_push(c, j->path, j->dirs[i]) != 0) {
			c->failed = true;
			log_warning("evict", "out of memory: what is below %s is not counted until tomorrow",
					j->path);
		}
		free(j->dirs[i]);
	}
	c->moved = c->moved || j->status == -ENOENT;
	if (j->status != 0 && j->status != -ENOENT) {
		c->failed = true;
		log_warning("evict", "%s: cannot be read: %s", j->path, strerror(-j->status));
	}
	free(j->dirs);
	free(j->files);
	free(j->path);
	free(j);
	census_next(c);
}

static bool census_round(struct census *c)
{
	c->moved = c->failed = false;
	guard_count(c->ev->v->guard);
	return census_push(c, ".", ".") == 0;
}

static void census_end(struct census *c, bool all)
{
	if (all && c->moved && ++c->rounds < CENSUS_ROUNDS && census_round(c)) {
		census_next(c);
		return;
	}
	c->running = false;
	guard_counted(c->ev->v->guard, all && !c->failed);
	log_info("evict", "volume %s: %llu files have %llu bytes here", c->ev->v->name,
			(unsigned long long)keep_count(c->ev->keep),
			(unsigned long long)keep_bytes(c->ev->keep));
	space_kick(c->ev->space);
}

static void census_next(struct census *c)
{
	struct volume *v = c->ev->v;
	struct census_job *j;

	if (c->count == 0) {
		census_end(c, true);
		return;
	}
	j = calloc(1, sizeof(*j));
	if (j == NULL) {
		census_end(c, false);
		return;
	}
	j->path = c->dirs[--c->count];
	j->job.what = "census";
	j->job.run = census_run;
	j->job.done = census_done;
	j->c = c;
	j->rio = v->rio;
	j->guard = v->guard;
	j->tree_fd = v->tree_fd;
	disk_submit(v->disk, DISK_ANY, &j->job);
}

static int census_destructor(struct census *c)
{
	while (c->count > 0) {
		free(c->dirs[--c->count]);
	}
	free(c->dirs);
	return 0;
}

void census_start(struct evictor *ev)
{
	struct census *c = ev->census;

	if (c == NULL) {
		c = ev->census = talloc_zero(ev, struct census);
		if (c == NULL) {
			return;
		}
		c->ev = ev;
		talloc_set_destructor(c, census_destructor);
	}
	if (c->running) {
		return;
	}
	c->rounds = 0;
	c->running = census_round(c);
	if (c->running) {
		census_next(c);
	}
}

void evict_note_moved(struct evictor *ev)
{
	if (ev != NULL && ev->census != NULL) {
		ev->census->moved = true;
	}
}

bool census_running(const struct evictor *ev)
{
	return ev->census != NULL && ev->census->running;
}
