/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: names and attributes of files, done and remembered (lossy.h).
 * Way: from calls.c; the kernel does it; changes to lossy.c.
 * Thread: one. Owns: nothing.
 * Holds: 1. what fails is not remembered;
 *        2. links in .grave are not counted in what stat says, and nothing is made in a directory that lies there.
 */
#include "lossy_priv.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "calls.h"

/* ---- places ---- */

/* Where a path ends; NULL: not with us, or in memory. */
static struct node *place_of(int dir, const char *path, struct place *at)
{
	const char *slash = strrchr(path, '/');
	char above[512] = ".";
	struct stat st;
	struct node *n;

	if (slash != NULL) {
		snprintf(above, sizeof(above), "%.*s", slash == path ? 1 : (int)(slash - path), path);
	}
	if (fstatat(dir, above, &st, 0) != 0) {
		return NULL;
	}
	n = lossy_node(st.st_ino);
	if (n == NULL) {
		return NULL;
	}
	*at = (struct place){.dir = st.st_ino, .mtime = st.st_mtim};
	snprintf(at->name, sizeof(at->name), "%s", slash != NULL ? slash + 1 : path);
	return st.st_ino == lossy.root_ino && lossy_is_loose(at->name) ? NULL : n;
}

static bool is_empty(int dir, const char *path)
{
	DIR *d = fdopendir(openat(dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
	unsigned names = 0;

	while (d != NULL && readdir(d) != NULL) {
		names++;
	}
	if (d != NULL) {
		closedir(d);
	}
	return names == 2;
}

/* What has this name gets one more in .grave, which for a directory is its only one. false: errno. */
static bool bury(struct change *c, int dir, const char *path, const struct stat *st)
{
	char grave[LOSSY_PATH];

	c->grave = ++lossy.graves;
	c->buried = st->st_ino;
	lossy_grave(c->grave, grave);
	if (S_ISDIR(st->st_mode)) {
		if (!is_empty(dir, path)) {
			errno = ENOTEMPTY;
			return false;
		}
		if (renameat2(dir, path, AT_FDCWD, grave, 0) != 0) {
			return false;
		}
		lossy_node(st->st_ino)->dead = true;
		return true;
	}
	if (linkat(dir, path, AT_FDCWD, grave, 0) != 0) {
		return false;
	}
	lossy_node(st->st_ino)->graves++;
	return true;
}

/* ---- names ---- */

static int gone(void)
{
	errno = ENOENT;
	return -1;
}

/* A name of that inode is there now. */
static void made(ino_t ino, const struct place *at, bool is_dir, bool fresh)
{
	struct change *c = lossy_change(CHANGE_MADE, ino);

	c->at[0] = *at;
	c->is_dir = is_dir;
	lossy_add(c);
	lossy_node(ino)->named = true;
	if (fresh) {
		lossy_node(ino)->data_seq = c->seq;
	}
	lossy_heard();
}

static int disk_openat(int dir, const char *path, int flags, mode_t mode)
{
	bool nameless = (flags & O_TMPFILE) == O_TMPFILE;
	struct place at;
	struct node *d = place_of(dir, path, &at);
	bool there;
	struct stat st;
	int fd;

	if (d == NULL) {
		return openat(dir, path, flags, mode);
	}
	there = fstatat(dir, path, &st, 0) == 0;
	if (lossy.still) {
		return nameless || !there ? openat(AT_FDCWD, lossy.root, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)
					  : openat(dir, path, flags & ~(O_CREAT | O_TRUNC), mode);
	}
	if (d->dead) {
		return gone();
	}
	fd = openat(dir, path, flags & ~O_TRUNC, mode);
	if (fd < 0 || fstat(fd, &st) != 0) {
		return -1;
	}
	if (nameless) {
		lossy_node_new(st.st_ino)->data_seq = lossy.seq;
	} else if (!there) {
		lossy_node_new(st.st_ino);
		made(st.st_ino, &at, false, true);
	} else if ((flags & O_TRUNC) != 0) {
		lossy_ftruncate(fd, 0);
	}
	return fd;
}

static int disk_linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	struct place at;
	struct node *d = place_of(to_dir, to, &at);
	struct stat st;

	if (d == NULL || lossy.still) {
		return d == NULL ? linkat(from_dir, from, to_dir, to, flags) : 0;
	}
	if (d->dead) {
		return gone();
	}
	if (linkat(from_dir, from, to_dir, to, flags) != 0) {
		return -1;
	}
	if (fstatat(to_dir, to, &st, AT_SYMLINK_NOFOLLOW) != 0 || lossy_node(st.st_ino) == NULL) {
		lossy_die("a link to what is not known");
	}
	made(st.st_ino, &at, false, false);
	return 0;
}

static int disk_mkdirat(int dir, const char *path, mode_t mode)
{
	struct place at;
	struct node *d = place_of(dir, path, &at);
	struct stat st;

	if (d == NULL) {
		return mkdirat(dir, path, mode);
	}
	if (lossy.still) {
		return 0;
	}
	if (d->dead) {
		return gone();
	}
	if (mkdirat(dir, path, mode) != 0) {
		return -1;
	}
	if (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		lossy_die(path);
	}
	lossy_node_new(st.st_ino);
	made(st.st_ino, &at, true, true);
	return 0;
}

static int disk_unlinkat(int dir, const char *path, int flags)
{
	struct place at;
	struct node *d = place_of(dir, path, &at), *n;
	struct stat st;
	struct change *c;

	if (d == NULL || fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
			S_ISDIR(st.st_mode) != ((flags & AT_REMOVEDIR) != 0)) {
		return unlinkat(dir, path, flags);
	}
	n = lossy_node(st.st_ino);
	if (n == NULL || lossy.still) {
		return n == NULL ? unlinkat(dir, path, flags) : 0;
	}
	c = lossy_change(CHANGE_GONE, st.st_ino);
	c->at[0] = at;
	c->is_dir = S_ISDIR(st.st_mode);
	if (!bury(c, dir, path, &st) || (!c->is_dir && unlinkat(dir, path, 0) != 0)) {
		free(c);
		return -1;
	}
	lossy_add(c);
	lossy_heard();
	return 0;
}

static int disk_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	struct place at, to_at;
	struct node *d = place_of(from_dir, from, &at), *to_d = place_of(to_dir, to, &to_at);
	struct stat st, victim;
	struct change *c;

	if (d == NULL || to_d == NULL || fstatat(from_dir, from, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		return renameat2(from_dir, from, to_dir, to, flags);
	}
	if (lossy.still) {
		return 0;
	}
	if (to_d->dead) {
		return gone();
	}
	c = lossy_change(CHANGE_MOVED, st.st_ino);
	c->at[0] = at;
	c->at[1] = to_at;
	if ((flags & RENAME_NOREPLACE) == 0 && fstatat(to_dir, to, &victim, AT_SYMLINK_NOFOLLOW) == 0) {
		if (victim.st_ino == st.st_ino || S_ISDIR(victim.st_mode)) {
			lossy_die("a rename over itself, or a directory");
		}
		if (!bury(c, to_dir, to, &victim)) {
			lossy_die("bury");
		}
	}
	if (renameat2(from_dir, from, to_dir, to, flags) != 0) {
		int err = errno;

		lossy_forget(c);
		errno = err;
		return -1;
	}
	lossy_add(c);
	if (c->grave != 0) {
		lossy_node(c->buried)->seq = c->seq;
	}
	lossy_heard();
	return 0;
}

/* ---- what is known of an inode ---- */

static int disk_fstat(int fd, struct stat *st)
{
	int ret = fstat(fd, st);
	const struct node *n = ret == 0 ? lossy_node(st->st_ino) : NULL;

	st->st_nlink -= n != NULL ? n->graves : 0;
	return ret;
}

static int disk_fstatat(int dir, const char *path, struct stat *st, int flags)
{
	int ret = fstatat(dir, path, st, flags);
	const struct node *n = ret == 0 ? lossy_node(st->st_ino) : NULL;

	st->st_nlink -= n != NULL ? n->graves : 0;
	return ret;
}

/* done: what was remembered happened. */
static int attribute(struct change *c, bool done)
{
	if (!done) {
		free(c->value);
		free(c);
		return -1;
	}
	lossy_add(c);
	lossy_heard();
	return 0;
}

static struct node *node_of_path(const char *path)
{
	struct stat st;

	return fstatat(AT_FDCWD, path, &st, 0) == 0 ? lossy_node(st.st_ino) : NULL;
}

/* As it is now; path: NULL: fd. */
static struct change *xattr_was(struct node *n, int fd, const char *path, const char *name)
{
	static char bytes[65536];
	struct change *c = lossy_change(CHANGE_XATTR, n->ino);

	snprintf(c->xattr, sizeof(c->xattr), "%s", name);
	c->len = path != NULL ? getxattr(path, name, bytes, sizeof(bytes)) : fgetxattr(fd, name, bytes, sizeof(bytes));
	if (c->len > 0) {
		c->value = malloc((size_t)c->len);
		memcpy(c->value, bytes, (size_t)c->len);
	}
	return c;
}

static int disk_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
	struct node *n = lossy_of_fd(fd);
	struct change *c;

	if (n == NULL || lossy.still) {
		return n == NULL ? fsetxattr(fd, name, value, size, flags) : 0;
	}
	c = xattr_was(n, fd, NULL, name);
	return attribute(c, fsetxattr(fd, name, value, size, flags) == 0);
}

static int disk_setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
	struct node *n = node_of_path(path);
	struct change *c;

	if (n == NULL || lossy.still) {
		return n == NULL ? setxattr(path, name, value, size, flags) : 0;
	}
	c = xattr_was(n, -1, path, name);
	return attribute(c, setxattr(path, name, value, size, flags) == 0);
}

static int disk_fremovexattr(int fd, const char *name)
{
	struct node *n = lossy_of_fd(fd);
	struct change *c;

	if (n == NULL || lossy.still) {
		return n == NULL ? fremovexattr(fd, name) : 0;
	}
	c = xattr_was(n, fd, NULL, name);
	return attribute(c, fremovexattr(fd, name) == 0);
}

static struct change *stat_was(enum change_kind kind, struct node *n, const struct stat *st)
{
	struct change *c = lossy_change(kind, n->ino);

	c->was = *st;
	return c;
}

static int disk_fchmod(int fd, mode_t mode)
{
	struct node *n = lossy_of_fd(fd);
	struct stat st;

	if (n == NULL || fstat(fd, &st) != 0) {
		return fchmod(fd, mode);
	}
	if (lossy.still) {
		return 0;
	}
	return attribute(stat_was(CHANGE_MODE, n, &st), fchmod(fd, mode) == 0);
}

static int disk_chmod(const char *path, mode_t mode)
{
	struct node *n = node_of_path(path);
	struct stat st;

	if (n == NULL || fstatat(AT_FDCWD, path, &st, 0) != 0) {
		return chmod(path, mode);
	}
	if (lossy.still) {
		return 0;
	}
	return attribute(stat_was(CHANGE_MODE, n, &st), chmod(path, mode) == 0);
}

static int disk_fchown(int fd, uid_t uid, gid_t gid)
{
	struct node *n = lossy_of_fd(fd);
	struct stat st;

	if (n == NULL || fstat(fd, &st) != 0) {
		return fchown(fd, uid, gid);
	}
	if (lossy.still) {
		return 0;
	}
	return attribute(stat_was(CHANGE_OWNER, n, &st), fchown(fd, uid, gid) == 0);
}

static int disk_futimens(int fd, const struct timespec times[2])
{
	struct node *n = lossy_of_fd(fd);
	struct stat st;

	if (n == NULL || fstat(fd, &st) != 0) {
		return futimens(fd, times);
	}
	if (lossy.still) {
		return 0;
	}
	return attribute(stat_was(CHANGE_TIMES, n, &st), futimens(fd, times) == 0);
}

const struct nth_disk lossy_calls = {
	.openat = disk_openat,
	.write = lossy_write,
	.pwrite = lossy_pwrite,
	.copy_file_range = lossy_copy_file_range,
	.fsync = lossy_fsync,
	.fdatasync = lossy_fdatasync,
	.ftruncate = lossy_ftruncate,
	.fallocate = lossy_fallocate,
	.renameat2 = disk_renameat2,
	.linkat = disk_linkat,
	.mkdirat = disk_mkdirat,
	.unlinkat = disk_unlinkat,
	.fstat = disk_fstat,
	.fstatat = disk_fstatat,
	.fsetxattr = disk_fsetxattr,
	.setxattr = disk_setxattr,
	.fremovexattr = disk_fremovexattr,
	.fchmod = disk_fchmod,
	.chmod = disk_chmod,
	.fchown = disk_fchown,
	.futimens = disk_futimens,
};
