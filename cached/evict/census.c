/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: which files have data here, asked of the tree: at the start, and once a day because notes can
 *       get lost (an inode that came back from nowhere, memory that ran out). Stubs get the guard's
 *       mark; what came into the tree past smbd is told to reconcile; directories of stubs alone are
 *       offered to be dropped.
 * Way: evictor_count, space.c, `refresh` -> one directory after the other as a disk job -> the table,
 *      drop.c.
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
#include "../reconcile/reconcile.h"
#include "shared/samba.h"

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
	struct census *c; /* core only; NULL: this directory alone */
	struct evictor *ev;
	void (*looked)(void *arg); /* then */
	void *arg;
	struct ofs_record_io rio;
	struct guard *guard;
	int tree_fd;
	char *path;
	int status;
	bool cold; /* files are in it, and all seem to be stubs */
	bool warm; /* one is not */
	struct census_file *files;
	size_t file_count, file_cap;
	char **dirs; /* names */
	size_t dir_count, dir_cap;
	struct ofs_oid oid; /* of the directory; none: it is new itself */
	char **strange; /* names of what has no record, or a dirty one */
	size_t strange_count, strange_cap;
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

static int census_name(char ***names, size_t *count, size_t *cap, const char *name)
{
	int ret = census_grow((void **)names, *count, cap, sizeof(**names));

	if (ret == 0) {
		(*names)[*count] = strdup(name);
		ret = (*names)[*count] != NULL ? 0 : -ENOMEM;
	}
	*count += ret == 0 ? 1 : 0;
	return ret;
}

/* A local program has made it, or a daemon died before it was known to be pending. */
static bool census_is_strange(const struct census_job *j, int status, const struct ofs_record *rec)
{
	if (ofs_oid_is_none(&j->oid)) {
		return false; /* its directory is */
	}
	return status == -ENODATA || status == -EXDEV || status == -EBADMSG ||
			(status == 0 && (rec->flags & (OFS_REC_DATA_DIRTY | OFS_REC_META_DIRTY)) != 0);
}

static int census_entry(struct census_job *j, int dirfd, const char *name)
{
	struct ofs_record rec;
	struct stat st;
	int ret, status;

	if (ofs_samba_tmpname(name)) {
		return 0;
	}
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		return errno == ENOENT ? 0 : -errno;
	}
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) {
		return 0;
	}
	if (S_ISREG(st.st_mode) && (st.st_mode & OFS_MARKER_MODE) != 0) {
		j->cold = true;
		guard_set_at(j->guard, dirfd, name);
	} else if (S_ISREG(st.st_mode)) {
		j->cold = true;
		j->warm = j->warm || st.st_size > 0;
	}
	status = ofs_record_get_at(&j->rio, dirfd, name, &rec);
	ret = census_is_strange(j, status, &rec)
			? census_name(&j->strange, &j->strange_count, &j->strange_cap, name)
			: 0;
	if (ret == 0 && S_ISDIR(st.st_mode)) {
		return census_name(&j->dirs, &j->dir_count, &j->dir_cap, name);
	}
	if (ret != 0 || st.st_blocks == 0 || status != 0) {
		return ret;
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
	if (ofs_record_get(&j->rio, dirfd(dir), &rec) == 0) {
		j->oid = rec.oid;
	}
	while (j->status == 0 && (de = readdir(dir)) != NULL) {
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0) {
			j->status = census_entry(j, dirfd(dir), de->d_name);
		}
	}
	j->cold = j->cold && !j->warm && j->status == 0 && !ofs_oid_is_none(&j->oid);
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
	evict_drop(c->ev, &j->oid, before_ns, census_dropped, c);
	return true;
}

static void census_job_free(struct census_job *j)
{
	size_t i;

	for (i = 0; i < j->dir_count; i++) {
		free(j->dirs[i]);
	}
	for (i = 0; i < j->strange_count; i++) {
		free(j->strange[i]);
	}
	free(j->strange);
	free(j->dirs);
	free(j->files);
	free(j->path);
	free(j);
}

static void census_below(struct census *c, const struct census_job *j)
{
	size_t i;

	for (i = 0; i < j->dir_count; i++) {
		if (census_push(c, j->path, j->dirs[i]) != 0) {
			c->failed = true;
			log_warning("evict", "out of memory: what is below %s is not counted until tomorrow",
					j->path);
		}
	}
	c->moved = c->moved || j->status == -ENOENT;
	if (j->status != 0 && j->status != -ENOENT) {
		c->failed = true;
		log_warning("evict", "%s: cannot be read: %s", j->path, strerror(-j->status));
	}
}

static void census_done(struct disk_job *job)
{
	struct census_job *j = (struct census_job *)job;
	struct keep *keep = j->ev->keep;
	struct census *c = j->c;
	size_t i;

	for (i = 0; i < j->file_count; i++) {
		if (!keep_has(keep, &j->files[i].oid)) {
			keep_set(keep, &j->files[i].oid, j->files[i].bytes, j->files[i].used_s);
		}
	}
	for (i = 0; i < j->strange_count; i++) {
		reconcile_found(j->ev->v->reconcile, &j->oid, j->strange[i]);
	}
	if (c == NULL) {
		j->looked(j->arg);
	} else {
		census_below(c, j);
		if (!census_drop(c, j)) {
			census_next(c);
		}
	}
	census_job_free(j);
}

/* Takes path (malloc'ed) over. NULL: out of memory. */
static struct census_job *census_job_new(struct evictor *ev, char *path)
{
	struct census_job *j = path != NULL ? calloc(1, sizeof(*j)) : NULL;

	if (j == NULL) {
		free(path);
		return NULL;
	}
	j->path = path;
	j->ev = ev;
	j->job.what = "census";
	j->job.run = census_run;
	j->job.done = census_done;
	j->rio = ev->v->rio;
	j->guard = ev->v->guard;
	j->tree_fd = ev->v->tree_fd;
	return j;
}

void evict_look(struct evictor *ev, const char *path, void (*looked)(void *arg), void *arg)
{
	struct census_job *j = census_job_new(ev, strdup(path));

	if (j == NULL) {
		looked(arg);
		return;
	}
	j->looked = looked;
	j->arg = arg;
	disk_submit(ev->v->disk, DISK_ANY, &j->job);
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
	struct census_job *j;

	if (c->count == 0) {
		census_end(c, true);
		return;
	}
	j = census_job_new(c->ev, c->dirs[--c->count]);
	if (j == NULL) {
		census_end(c, false);
		return;
	}
	j->c = c;
	disk_submit(c->ev->v->disk, DISK_ANY, &j->job);
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
