/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the few steps on the local file system that listing, remote changes and recall share.
 * Way: from disk jobs of mirror/, recall/ and upload/; to the kernel.
 * Thread: workers; blocks on the local disk and, bounded, on a stripe's lock.
 * Owns: nothing. Descriptors returned are the caller's.
 * Holds: 1. no path is followed through a symlink or out of the tree;
 *        2. the marker goes on and off without touching the other mode bits; the guard (guard.h) is there
 *           before it comes, and until it is gone.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mirror_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FS_OPEN_TRIES 16

struct mirror_place mirror_place_of(const struct mirror *m)
{
	const struct volume *v = m->v;
	struct mirror_place p;

	memset(&p, 0, sizeof(p));
	p.rio = v->rio;
	p.shm = v->shm;
	p.tree_fd = v->tree_fd;
	p.clock = v->clock;
	p.guard = v->guard;
	p.limbo_fd = v->limbo_fd;
	p.blocks_fd = v->blocks_fd;
	memcpy(p.token, m->token, sizeof(p.token));
	return p;
}

/* Where openat2 is not allowed (old seccomp profiles) or the path is longer than PATH_MAX. */
static int fs_walk(int tree_fd, const char *path, int flags)
{
	int at = openat(tree_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char name[NAME_MAX + 1];

	while (at >= 0) {
		const char *slash;
		size_t n;
		int fd;

		path += strspn(path, "/");
		slash = strchr(path, '/');
		n = slash ? (size_t)(slash - path) : strlen(path);
		if (n > NAME_MAX) {
			close(at);
			return -ENAMETOOLONG;
		}
		memcpy(name, path, n);
		name[n] = '\0';
		if (strcmp(name, "..") == 0) {
			close(at);
			return -EXDEV;
		}
		path += n;
		path += strspn(path, "/");
		if (*path == '\0') {
			fd = openat(at, n ? name : ".", flags | O_NOFOLLOW | O_CLOEXEC);
			if (fd < 0) {
				fd = -errno;
			}
			close(at);
			return fd;
		}
		fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0) {
			fd = -errno;
			close(at);
			return fd;
		}
		close(at);
		at = fd;
	}
	return -errno;
}

int mirror_open_beneath(int tree_fd, const char *path, int flags)
{
	struct open_how how;
	long fd = -1;
	int i;

	memset(&how, 0, sizeof(how));
	how.flags = (uint64_t)(flags | O_CLOEXEC);
	how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
	if (path == NULL || *path == '\0') {
		path = ".";
	}
	/* A rename going on anywhere makes RESOLVE_BENEATH answer EAGAIN. */
	for (i = 0; i < FS_OPEN_TRIES; i++) {
		fd = syscall(SYS_openat2, tree_fd, path, &how, sizeof(how));
		if (fd >= 0) {
			return (int)fd;
		}
		if (errno != EAGAIN || (flags & O_NONBLOCK) != 0) {
			break;
		}
	}
	if (errno == ENOSYS || errno == EPERM || errno == ENAMETOOLONG) {
		return fs_walk(tree_fd, path, flags);
	}
	return -errno;
}

int mirror_reopen(int fd, int flags)
{
	char path[32];
	int ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ret = open(path, flags | O_CLOEXEC);
	return ret < 0 ? -errno : ret;
}

static int fs_chmod(int fd, mode_t mode)
{
	char path[32];

	if (fchmod(fd, mode) == 0) {
		return 0;
	}
	if (errno != EBADF) {
		return -errno;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd); /* O_PATH */
	return chmod(path, mode) == 0 ? 0 : -errno;
}

int mirror_marker_set(struct guard *guard, int fd, bool on)
{
	struct stat st;
	mode_t mode;
	int ret;

	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	if (!S_ISREG(st.st_mode)) {
		return -EINVAL;
	}
	mode = st.st_mode & 07777;
	mode = on ? (mode | OFS_MARKER_MODE) : (mode & ~(mode_t)OFS_MARKER_MODE);
	if (mode == (st.st_mode & 07777)) {
		return 0;
	}
	if (on) {
		guard_set(guard, fd);
	}
	ret = fs_chmod(fd, mode);
	if (ret == 0 && !on) {
		guard_clear(guard, fd);
	}
	return ret;
}

int mirror_lease_take(int fd, int type)
{
	struct stat st;
	int ret;

	(void)fcntl(fd, F_SETSIG, SIGURG); /* ignored: who holds it looks, SIGIO means something else */
	if (fcntl(fd, F_SETLEASE, type) == 0) {
		return 0;
	}
	if (errno != EACCES) {
		return -errno;
	}
	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	setfsuid(st.st_uid);
	ret = fcntl(fd, F_SETLEASE, type) == 0 ? 0 : -errno;
	setfsuid(geteuid());
	return ret;
}

void mirror_lease_drop(int fd)
{
	fcntl(fd, F_SETLEASE, F_UNLCK);
}

bool mirror_is_alone(int fd)
{
	return fcntl(fd, F_GETLEASE) == F_WRLCK;
}

int mirror_stub_say(const struct mirror_place *p, int fd, const struct ofs_record *was, struct ofs_record *now)
{
	struct ofs_record back = *was;
	int ret = ofs_record_set(&p->rio, fd, now);

	if (ret == 0) {
		ret = mirror_marker_set(p->guard, fd, true);
	}
	if (ret == 0 && !mirror_is_alone(fd)) {
		ret = -EBUSY;
	}
	if (ret == 0) {
		return 0;
	}
	if (ofs_record_set(&p->rio, fd, &back) == 0 && (was->flags & OFS_REC_STUB) == 0 &&
			mirror_marker_set(p->guard, fd, false) == 0) { /* else the next open does it */
		guard_clear(p->guard, fd);
	} else {
		guard_resume(p->guard, fd);
	}
	return ret;
}

int mirror_open_alone(int dir_fd, const char *name)
{
	const int flags = O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dir_fd, name, flags | O_NOATIME), ret;

	if (fd < 0 && errno == EPERM) {
		fd = openat(dir_fd, name, flags);
	}
	if (fd < 0) {
		return -errno;
	}
	ret = mirror_lease_take(fd, F_WRLCK);
	if (ret != 0) {
		close(fd);
		return ret;
	}
	return fd;
}

int64_t mirror_wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return timespec_ns(ts);
}

int mirror_lock(struct ofs_shm *shm, int fd, uint32_t *stripe)
{
	struct stat st;

	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	*stripe = ofs_shm_stripe_of(st.st_ino);
	return ofs_shm_lock(shm, *stripe, MIRROR_LOCK_MS);
}

int mirror_unlist(const struct mirror_place *p, const char *path, const struct ofs_oid *oid)
{
	struct ofs_record rec;
	uint32_t stripe = 0;
	int fd, ret;

	fd = mirror_open_beneath(p->tree_fd, path, O_RDONLY | O_DIRECTORY);
	if (fd < 0) {
		return fd;
	}
	ret = mirror_lock(p->shm, fd, &stripe);
	if (ret == 0) {
		ret = ofs_record_get(&p->rio, fd, &rec);
		if (ret == 0 && !ofs_oid_equal(&rec.oid, oid)) {
			ret = -ESTALE;
		}
		if (ret == 0 && (rec.flags & OFS_REC_LISTED) != 0) {
			/* The age alone would not do: 0 means that listings never expire. */
			rec.flags &= ~(uint32_t)OFS_REC_LISTED; /* listed_ns stays: it has been listed */
			ret = ofs_record_set(&p->rio, fd, &rec);
		}
		ofs_shm_unlock(p->shm, stripe);
	}
	close(fd);
	return ret;
}
