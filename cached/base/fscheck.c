/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: can this file system carry a mirror?
 * Way: core/volume_fs.c at start, and objectfsctl doctor when no daemon runs. Thread: any; blocks on the
 * local disk. Owns: a scratch file, for a moment.
 * Holds: nothing is refused without saying what to do about it.
 */
#include "fscheck.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xFF534D42
#endif
#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xFE534D42
#endif

#define PROBE_XATTR "user.objectfs.probe"

static int check_kind(TALLOC_CTX *ctx, int dir_fd, const char *path, char **error)
{
	struct statfs fs;
	const char *what = NULL;

	if (fstatfs(dir_fd, &fs) != 0) {
		int ret = -errno;

		*error = talloc_asprintf(ctx, "%s: %s", path, strerror(-ret));
		return ret;
	}
	switch ((unsigned long)fs.f_type & 0xffffffffUL) {
	case NFS_SUPER_MAGIC:
		what = "NFS";
		break;
	case CIFS_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case SMB_SUPER_MAGIC:
		what = "an SMB mount";
		break;
	default:
		break;
	}
	if (what == NULL) {
		return 0;
	}
	*error = talloc_asprintf(ctx,
			"%s is on %s, which cannot carry a mirror (no leases and locks that hold "
			"locally): put the cache directory on a local file system, XFS or ext4",
			path, what);
	return -EOPNOTSUPP;
}

int fscheck_scratch(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0) {
		return fd;
	}
	fd = openat(dir_fd, ".probe", O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		return -errno;
	}
	(void)unlinkat(dir_fd, ".probe", 0);
	return fd;
}

static int check_abilities(TALLOC_CTX *ctx, int dir_fd, const char *path, bool *inodes_small,
		char **error)
{
	static const char zeros[65536];
	struct stat before, after;
	int fd = fscheck_scratch(dir_fd);
	int ret = 0;

	if (fd < 0) {
		*error = talloc_asprintf(ctx, "%s: %s", path, strerror(-fd));
		return fd;
	}
	if (fsetxattr(fd, PROBE_XATTR, "1", 1, 0) != 0 && errno != EPERM) {
		ret = -errno;
		*error = talloc_asprintf(ctx,
				"the file system of %s holds no extended attributes (%s): mount it with "
				"user_xattr, or put the cache directory on XFS or ext4",
				path, strerror(-ret));
		goto out;
	}
	/* Three small ones: XFS keeps no value above 255 bytes in the inode, whatever its size. */
	if (fstat(fd, &before) != 0 || fsetxattr(fd, PROBE_XATTR, zeros, 200, 0) != 0 ||
			fsetxattr(fd, PROBE_XATTR "2", zeros, 200, 0) != 0 ||
			fsetxattr(fd, PROBE_XATTR "3", zeros, 200, 0) != 0 || fstat(fd, &after) != 0 ||
			after.st_blocks != before.st_blocks) {
		*inodes_small = true;
	}
	if (pwrite(fd, zeros, sizeof(zeros), 0) != (ssize_t)sizeof(zeros)) {
		ret = errno != 0 ? -errno : -EIO;
		*error = talloc_asprintf(ctx, "%s: %s", path, strerror(-ret));
		goto out;
	}
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, sizeof(zeros)) != 0) {
		ret = -errno;
		*error = talloc_asprintf(ctx,
				"the file system of %s cannot punch holes into files (%s): put the cache "
				"directory on XFS, ext4 or btrfs",
				path, strerror(-ret));
	}
out:
	close(fd);
	return ret;
}

int fscheck_mirror(TALLOC_CTX *ctx, int dir_fd, const char *path, bool *inodes_small, char **error)
{
	int ret = check_kind(ctx, dir_fd, path, error);

	*inodes_small = false;
	return ret != 0 ? ret : check_abilities(ctx, dir_fd, path, inodes_small, error);
}
