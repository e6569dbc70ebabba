/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: which files have data here, asked of the tree: at the start, and once a day because notes can
 *       get lost (an inode that came back from nowhere, memory that ran out). Directories of stubs
 *       alone are offered to be dropped on the way.
 * Way: evictor_start, space.c -> one directory after the other as a disk job -> the table, drop.c.
 * Thread: core; census_run on a worker.
 * Owns: the names of directories still to be read.
 * Holds: what somebody else has noted meanwhile is newer, and stands.
 */
#include "private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct census {
	struct evictor *ev;
	char **dirs; /* malloc'ed paths below the tree, a stack */
	size_t count, cap;
	bool running;
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
	int tree_fd;
	char *path;
	int status;
	struct ofs_oid dir;
	bool cold; /* files are in it, and all seem to be stubs */
	bool warm; /* one is not */
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
	if (!S_ISREG(st.st_mode)) {
		return 0;
	}
	j->cold = true;
	j->warm |= (st.st_mode & OFS_MARKER_MODE) == 0 && st.st_size > 0;
	if (st.st_blocks == 0 || ofs_record_get_at(&j->rio, dirfd, name, &rec) != 0) {
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
	int fd = mirror_open_beneath(j->tree_fd, j->path,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct ofs_record rec;
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
	j->cold = j->cold && !j->warm && j->status == 0 && ofs_record_get(&j->rio, dirfd(dir), &rec) == 0;
	if (j->cold) {
		j->dir = rec.oid;
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

static void census_dropped(void *arg, int status, uint64_t count)
{
	(void)status;
	(void)count;
	census_next(arg);
}

/* Nobody waits for it: one directory after the other. */
static bool census_drop(struct census *c, const struct census_job *j)
{
	int64_t before_ns = c->ev->v->conf->drop_age_ns > 0 ? evict_drop_before_ns(c->ev, false)
							   : INT64_MIN;

	if (!j->cold || before_ns == INT64_MIN) {
		return false;
	}
	evict_drop(c->ev, &j->dir, before_ns, census_dropped, c);
	return true;
}

static void census_done(struct disk_job *job)
{
	struct census_job *j = (struct census_job *)job;
	struct census *c = j->c;
	bool drops;
	size_t i;

	for (i = 0; i < j->file_count; i++) {
		if (!keep_has(c->ev->keep, &j->files[i].oid)) {
			keep_set(c->ev->keep, &j->files[i].oid, j->files[i].bytes, j->files[i].used_s);
		}
	}
	for (i = 0; i < j->dir_count; i++) {
		if (census_push(c, j->path, j->dirs[i]) != 0) {
			log_warning("evict", "out of memory: what is below %s is not counted until tomorrow",
					j->path);
		}
		free(j->dirs[i]);
	}
	if (j->status != 0 && j->status != -ENOENT) {
		log_warning("evict", "%s: cannot be read: %s", j->path, strerror(-j->status));
	}
	drops = census_drop(c, j);
	free(j->dirs);
	free(j->files);
	free(j->path);
	free(j);
	if (!drops) {
		census_next(c);
	}
}

static void census_end(struct census *c)
{
	c->running = false;
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
		census_end(c);
		return;
	}
	j = calloc(1, sizeof(*j));
	if (j == NULL) {
		census_end(c);
		return;
	}
	j->path = c->dirs[--c->count];
	j->job.what = "census";
	j->job.run = census_run;
	j->job.done = census_done;
	j->c = c;
	j->rio = v->rio;
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
	c->running = true;
	if (census_push(c, ".", ".") != 0) {
		c->running = false;
		return;
	}
	census_next(c);
}

bool census_running(const struct evictor *ev)
{
	return ev->census != NULL && ev->census->running;
}
