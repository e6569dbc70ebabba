/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: take the data of one inode from the disk.
 * Way: evict.c -> here -> the kernel.
 * Thread: a worker; blocks on the local disk and, bounded, on a stripe's lock.
 * Owns: the descriptor and the lease while it runs.
 * Holds: 1. nobody has the file open: F_WRLCK, looked at again under the stripe's lock once record and
 *           marker say stub. Who opens the file later sees the marker and asks the daemon, which
 *           waits for this job; who got in by force before (lease-break-time) has broken the lease,
 *           and everything is put back before the lock is given up;
 *        2. record, marker, and both durable, before the first byte goes (rule 2): a crash leaves a stub;
 *        3. bytes go in steps, each under an unbroken lease: whoever wants the file waits for one;
 *        4. a local program that opens the file meanwhile is seen at its reads, later at its open (guard.h).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVICT_STEP_BYTES (16LL << 20) /* who opens the file waits for one */

/* 0: S3 has what is here. */
static int evict_check(const struct evict_job *j, const struct ofs_record *rec, const struct stat *st)
{
	if (!ofs_oid_equal(&rec->oid, &j->oid)) {
		return -ENOENT;
	}
	if ((rec->flags & (OFS_REC_DATA_DIRTY | OFS_REC_META_DIRTY)) != 0 ||
			(rec->flags & OFS_REC_KNOWN) == 0 || rec->data_gen != j->data_gen) {
		return -EBUSY;
	}
	if ((rec->flags & OFS_REC_STUB) != 0) {
		return 0;
	}
	if (st->st_size != j->size) {
		return -EUCLEAN;
	}
	/* Something other than smbd has written to it. */
	return (uint64_t)st->st_size == rec->size && timespec_ns(st->st_mtim) == rec->mtime_ns ? 0
										      : -EUCLEAN;
}

/* Record and marker say stub; or all is as it was. 0 or as evict_job.status. The guard takes the lease anew: what
 * is looked at is looked at after that, for somebody may have got in by force, and have left again. */
static int evict_mark(struct evict_job *j, int fd)
{
	struct ofs_record was, rec;
	struct stat st;
	uint32_t stripe;
	int ret = mirror_lock(j->place.shm, fd, &stripe);

	if (ret != 0) {
		return ret;
	}
	ret = ofs_record_get(&j->place.rio, fd, &was);
	if (ret == 0) {
		ret = guard_pause(j->place.guard, fd, (was.flags & OFS_REC_STUB) != 0) == 0 ? 0 : -EBUSY;
	}
	if (ret != 0) {
		goto out;
	}
	ret = fstat(fd, &st) == 0 ? evict_check(j, &was, &st) : -errno;
	if (ret != 0) {
		((was.flags & OFS_REC_STUB) != 0 ? guard_resume : guard_clear)(j->place.guard, fd);
		goto out;
	}
	rec = was;
	if ((was.flags & OFS_REC_STUB) == 0) {
		rec.flags |= OFS_REC_STUB;
		rec.size = (uint64_t)st.st_size;
		rec.mtime_ns = timespec_ns(st.st_mtim);
		rec.atime_ns = timespec_ns(st.st_atim);
	}
	ret = mirror_stub_say(&j->place, fd, &was, &rec);
out:
	ofs_shm_unlock(j->place.shm, stripe);
	return ret;
}

/* The bytes, in steps. -EBUSY: somebody wants the file; what is left of it counts for nothing. */
static int evict_punch(int fd, const struct stat *st)
{
	int64_t block = st->st_blksize > 0 ? st->st_blksize : 4096;
	int64_t end = (st->st_size + block - 1) / block * block, at;

	if (!mirror_is_alone(fd)) {
		return -EBUSY;
	}
	if (ftruncate(fd, st->st_size) != 0) { /* what was allocated beyond the end */
		return -errno;
	}
	for (at = 0; at < end; at += EVICT_STEP_BYTES) {
		int64_t n = end - at < EVICT_STEP_BYTES ? end - at : EVICT_STEP_BYTES;

		if (!mirror_is_alone(fd)) {
			return -EBUSY;
		}
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, n) != 0) {
			return -errno;
		}
	}
	return 0;
}

static int evict_inode(struct evict_job *j, int fd)
{
	struct stat st, after;
	int ret;

	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	if (!S_ISREG(st.st_mode) || st.st_ino != j->ino || st.st_nlink != 1) {
		return st.st_nlink != 1 ? -EBUSY : -ENOENT;
	}
	ret = evict_mark(j, fd);
	if (ret != 0) {
		return ret;
	}
	ret = fsync(fd) == 0 ? evict_punch(fd, &st) : -errno;
	guard_resume(j->place.guard, fd);
	if (fstat(fd, &after) == 0 && after.st_blocks < st.st_blocks) {
		j->freed = (uint64_t)(st.st_blocks - after.st_blocks) * 512;
	}
	return ret;
}

void evict_job_run(struct disk_job *job)
{
	struct evict_job *j = (struct evict_job *)job;
	const int flags = O_RDWR | O_NONBLOCK | O_NOFOLLOW;
	int fd = mirror_open_beneath(j->place.tree_fd, j->path, flags | O_NOATIME);

	if (fd < 0) {
		j->status = fd == -EAGAIN ? -EBUSY : fd == -ELOOP || fd == -ENOTDIR ? -ENOENT : fd;
		return;
	}
	j->status = mirror_lease_take(fd, F_WRLCK);
	if (j->status == 0) {
		j->status = evict_inode(j, fd);
		mirror_lease_drop(fd);
	} else if (j->status == -EAGAIN) {
		j->status = -EBUSY;
	}
	close(fd);
}
