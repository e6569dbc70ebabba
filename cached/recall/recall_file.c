/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what recall does to the inode itself: open, make plain, empty, take on another version.
 * Way: from recall.c, recall_go.c and recall_object.c as disk jobs (DISK_ANY); done goes back to
 *      them.
 * Thread: workers; blocks on the local disk and, bounded, on a stripe's lock.
 * Owns: the job until done. The descriptor stays the recall's.
 * Holds: 1. STUB and marker are taken off only after fdatasync (rule 5), STUB first, the marker last;
 *        2. a record is changed under its stripe's lock, and only if it is still the same stub;
 *        3. times of a stub are in its record, and go to the inode when it becomes plain.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "recall_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_OPEN_TRIES 100
#define FILE_OPEN_WAIT_MS 5
#define FILE_LOCK_TRIES 3

struct recall_file_job *recall_file_job_new(struct recalls *rs, struct recall *r)
{
	struct recall_file_job *j = calloc(1, sizeof(*j));
	const struct row *row = r != NULL ? index_get(rs->v->index, &r->oid) : NULL;

	j->rs = rs;
	j->r = r;
	j->place = mirror_place_of(rs->v->mirror);
	j->fd = r ? r->fd : -1;
	if (r != NULL) {
		j->oid = r->oid;
	}
	if (row != NULL) {
		objmeta_clean(&row->wid, row->etag, &j->clean);
	}
	return j;
}

static void file_done(struct disk_job *job)
{
	struct recall_file_job *j = (struct recall_file_job *)job;

	if (j->r != NULL) {
		j->r->job_running = false;
	}
	j->done(j);
}

static void file_submit(struct recall_file_job *j, const char *what, void (*run)(struct disk_job *))
{
	j->job.what = what;
	j->job.run = run;
	j->job.done = file_done;
	if (j->r != NULL) {
		j->r->job_running = true;
	}
	disk_submit(j->rs->v->disk, DISK_ANY, &j->job);
}

static int file_lock(struct recall_file_job *j, uint32_t *stripe)
{
	int i, ret = -ETIMEDOUT;

	for (i = 0; i < FILE_LOCK_TRIES && ret == -ETIMEDOUT; i++) {
		ret = mirror_lock(j->place.shm, j->fd, stripe);
	}
	return ret;
}

/* 0 if the record is that of the stub we know. */
static int file_same_stub(struct recall_file_job *j, struct ofs_record *rec)
{
	int ret = ofs_record_get(&j->place.rio, j->fd, rec);

	if (ret != 0) {
		return ret;
	}
	if (!ofs_oid_equal(&rec->oid, &j->oid)) {
		return -ESTALE;
	}
	return (rec->flags & OFS_REC_STUB) != 0 ? 0 : -EALREADY;
}

/* ---- open ---- */

/* An upload or a remote change may hold a lease for a moment. */
static int file_reopen(int fd)
{
	const int flags = O_RDWR | O_NONBLOCK | O_NOATIME;
	int i, ret = -EAGAIN;

	for (i = 0; i < FILE_OPEN_TRIES && ret == -EAGAIN; i++) {
		if (i > 0) {
			poll(NULL, 0, FILE_OPEN_WAIT_MS);
		}
		ret = mirror_reopen(fd, flags);
		if (ret == -EPERM) {
			ret = mirror_reopen(fd, flags & ~O_NOATIME);
		}
	}
	return ret;
}

/* Marker or STUB: make both agree under the lock. Sets plain. */
static int file_judge(struct recall_file_job *j)
{
	uint32_t stripe;
	int ret = file_lock(j, &stripe);

	if (ret != 0) {
		return ret;
	}
	ret = ofs_record_get(&j->place.rio, j->fd, &j->rec);
	if (ret == -ENODATA || ret == -EXDEV || ret == -EBADMSG) {
		ret = -EIO; /* marked, and nothing says what it is: a copy of a stub */
	} else if (ret == 0 && (j->rec.flags & OFS_REC_STUB) == 0) {
		/* A stop between the two last steps of making it plain. */
		ret = mirror_marker_set(j->place.guard, j->fd, false);
		j->plain = ret == 0;
	} else if (ret == 0) {
		ret = mirror_marker_set(j->place.guard, j->fd, true);
	}
	ofs_shm_unlock(j->place.shm, stripe);
	return ret;
}

/* A guard that is left on a plain file costs a question for each open: not twice. */
static void file_unguard(struct recall_file_job *j)
{
	struct ofs_record rec;
	struct stat st;
	uint32_t stripe;

	if (j->place.guard == NULL || file_lock(j, &stripe) != 0) {
		return;
	}
	if (fstat(j->fd, &st) == 0 && (st.st_mode & OFS_MARKER_MODE) == 0 &&
			(ofs_record_get(&j->place.rio, j->fd, &rec) != 0 ||
					(rec.flags & OFS_REC_STUB) == 0)) {
		guard_clear(j->place.guard, j->fd);
	}
	ofs_shm_unlock(j->place.shm, stripe);
}

static void file_open_run(struct disk_job *job)
{
	struct recall_file_job *j = (struct recall_file_job *)job;
	struct stat st;
	int fd, ret;

	j->status = 0;
	j->plain = false;
	if (fstat(j->fd, &st) != 0) {
		j->status = -errno;
		return;
	}
	if (!S_ISREG(st.st_mode)) {
		j->status = -EINVAL;
		return;
	}
	j->ino = st.st_ino;
	j->size = st.st_size;
	ret = ofs_record_get(&j->place.rio, j->fd, &j->rec);
	if ((st.st_mode & OFS_MARKER_MODE) == 0 && (ret != 0 || !(j->rec.flags & OFS_REC_STUB))) {
		j->plain = true;
		file_unguard(j);
		return;
	}
	fd = file_reopen(j->fd);
	if (fd < 0) {
		j->status = fd;
		return;
	}
	close(j->fd);
	j->fd = fd;
	j->status = file_judge(j);
	if (j->status == 0 && !j->plain && j->rec.size != (uint64_t)st.st_size &&
			ftruncate(fd, (off_t)j->rec.size) != 0) {
		j->status = -errno;
	}
	j->size = j->plain ? st.st_size : (int64_t)j->rec.size;
}

void recall_file_open(struct recall_file_job *j)
{
	file_submit(j, "recall open", file_open_run);
}

/* ---- plain ---- */

static int file_times(int fd, const struct ofs_record *rec)
{
	int64_t ns[2] = {rec->atime_ns, rec->mtime_ns};
	struct timespec ts[2];
	int i;

	for (i = 0; i < 2; i++) {
		ts[i].tv_sec = ns[i] / NS_PER_S;
		ts[i].tv_nsec = ns[i] % NS_PER_S;
		if (ts[i].tv_nsec < 0) { /* before 1970 */
			ts[i].tv_nsec += NS_PER_S;
			ts[i].tv_sec--;
		}
	}
	return futimens(fd, ts) == 0 ? 0 : -errno;
}

/* The record counts, and has been written: a marker that stays is no failure, and the next open takes it. */
static void file_unmark(struct recall_file_job *j)
{
	(void)mirror_marker_set(j->place.guard, j->fd, false);
}

static void file_finish_run(struct disk_job *job)
{
	struct recall_file_job *j = (struct recall_file_job *)job;
	struct ofs_record rec;
	uint32_t stripe;
	int ret;

	if (fdatasync(j->fd) != 0) {
		j->status = -errno;
		return;
	}
	ret = file_lock(j, &stripe);
	if (ret != 0) {
		j->status = ret;
		return;
	}
	ret = file_same_stub(j, &rec);
	if (ret == 0) {
		ret = file_times(j->fd, &rec);
	}
	if (ret == 0) {
		rec.flags &= ~(uint32_t)OFS_REC_STUB;
		if ((rec.flags & OFS_REC_META_DIRTY) == 0) {
			rec.ctime_clean_ns = mirror_wall_ns();
		}
		if (j->clean.fence != 0) {
			rec.clean = j->clean;
		}
		ret = ofs_record_set(&j->place.rio, j->fd, &rec);
	}
	if (ret == 0) {
		file_unmark(j);
	}
	ofs_shm_unlock(j->place.shm, stripe);
	j->status = ret == -EALREADY ? 0 : ret;
}

void recall_file_finish(struct recall_file_job *j)
{
	file_submit(j, "recall finish", file_finish_run);
}

/* ---- discard ---- */

static void file_discard_run(struct disk_job *job)
{
	struct recall_file_job *j = (struct recall_file_job *)job;
	struct ofs_record rec;
	uint32_t stripe;
	int ret = file_lock(j, &stripe);

	if (ret != 0) {
		j->status = ret;
		return;
	}
	ret = file_same_stub(j, &rec);
	if (ret == 0 && ftruncate(j->fd, 0) != 0) {
		ret = -errno;
	}
	if (ret == 0) {
		off_t size = (off_t)rec.size;

		rec.flags &= ~(uint32_t)OFS_REC_STUB;
		rec.flags |= OFS_REC_DATA_DIRTY;
		rec.data_gen++;
		rec.size = 0;
		ret = ofs_record_set(&j->place.rio, j->fd, &rec);
		if (ret != 0 && ftruncate(j->fd, size) != 0) {
			ret = -errno; /* the next open gives it its size */
		}
	}
	if (ret == 0) {
		file_unmark(j);
	}
	ofs_shm_unlock(j->place.shm, stripe);
	j->status = ret == -EALREADY ? 0 : ret;
}

void recall_file_discard(struct recall_file_job *j)
{
	file_submit(j, "recall discard", file_discard_run);
}

/* ---- another version ---- */

static void file_adopt_run(struct disk_job *job)
{
	struct recall_file_job *j = (struct recall_file_job *)job;
	struct ofs_record rec;
	uint32_t stripe;
	int ret = file_lock(j, &stripe);

	if (ret != 0) {
		j->status = ret;
		return;
	}
	ret = file_same_stub(j, &rec);
	if (ret == 0) {
		rec.size = (uint64_t)j->size;
		rec.clean = j->clean;
		if ((rec.flags & OFS_REC_META_DIRTY) == 0) {
			rec.mtime_ns = j->mtime_ns;
		}
		ret = ofs_record_set(&j->place.rio, j->fd, &rec);
	}
	if (ret == 0 && ftruncate(j->fd, j->size) != 0) {
		ret = -errno;
	}
	ofs_shm_unlock(j->place.shm, stripe);
	j->status = ret;
}

void recall_file_adopt(struct recall_file_job *j)
{
	file_submit(j, "recall adopt", file_adopt_run);
}

/* ---- where it is ---- */

static void file_place_run(struct disk_job *job)
{
	struct recall_file_job *j = (struct recall_file_job *)job;
	char link[32], path[PATH_MAX], tree[PATH_MAX], *slash;
	struct stat st, there;
	ssize_t n;

	j->parent_fd = -1;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", j->fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0) {
		j->status = -errno;
		return;
	}
	path[n] = '\0';
	snprintf(link, sizeof(link), "/proc/self/fd/%d", j->place.tree_fd);
	n = readlink(link, tree, sizeof(tree) - 1);
	if (n < 0) {
		j->status = -errno;
		return;
	}
	slash = strrchr(path, '/');
	if (strncmp(path, tree, (size_t)n) != 0 || path[n] != '/' || slash == NULL ||
			strlen(slash + 1) > OFS_NAME_MAX_BYTES) {
		j->status = -EXDEV;
		return;
	}
	strcpy(j->name, slash + 1);
	*slash = '\0';
	j->parent_fd = mirror_open_beneath(
			j->place.tree_fd, slash > path + n ? path + n + 1 : ".", O_RDONLY | O_DIRECTORY);
	if (j->parent_fd < 0) {
		j->status = j->parent_fd;
	} else if (fstat(j->fd, &st) != 0 ||
			fstatat(j->parent_fd, j->name, &there, AT_SYMLINK_NOFOLLOW) != 0 ||
			st.st_ino != there.st_ino) {
		j->status = -ENOENT; /* removed or renamed meanwhile */
	}
}

void recall_file_place(struct recall_file_job *j)
{
	file_submit(j, "recall place", file_place_run);
}
