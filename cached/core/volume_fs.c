/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the local side of a volume at start: its directories, whether the file system can carry a
 * mirror, which xattr holds the records, and whether this mirror is ours.
 * Way: volume_open.c, once, before anything else of the volume.
 * Thread: main, before the loop; blocks on the local disk.
 * Owns: path_fd, tree_fd, trash_fd, limbo_fd, blocks_fd of the volume.
 * Holds: (1) the record xattr, once a root record exists, never changes. (2) A root record bound to
 * another inode means the mirror was copied: refused, every record in it would be void. (3) Nothing
 * is refused without saying what to do about it. (4) A new root is KNOWN once it has its rights from
 * S3 (reconcile/adopt.c), and until then no client is let in (dispatch.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "core.h"
#include "../base/fscheck.h"
#include "../base/log.h"
#include "../reconcile/index.h"

static int dir_open(struct volume *v, const char *name, unsigned mode, int *fd, char **error)
{
	int ret;

	if (mkdirat(v->path_fd, name, mode) != 0 && errno != EEXIST) {
		ret = -errno;
	} else {
		*fd = openat(v->path_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		ret = *fd < 0 ? -errno : 0;
	}
	if (ret != 0) {
		*error = talloc_asprintf(v, "%s/%s: %s", v->path, name, strerror(-ret));
	}
	return ret;
}

static int dirs_open(struct volume *v, const struct core *core, char **error)
{
	struct stat tree, other;
	int fds[2], ret;

	v->path = talloc_asprintf(v, "%s/%s", core->conf->global.cache_directory, v->name);
	if (v->path == NULL) {
		return -ENOMEM;
	}
	ret = cachedir_make_path(v->path, 0711);
	if (ret == 0) {
		v->path_fd = open(v->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		ret = v->path_fd < 0 ? -errno : 0;
	}
	if (ret != 0) {
		*error = talloc_asprintf(v, "%s: %s", v->path, strerror(-ret));
		return ret;
	}
	ret = dir_open(v, "tree", 0777, &v->tree_fd, error);
	if (ret == 0) {
		ret = dir_open(v, "trash", 0700, &v->trash_fd, error);
	}
	if (ret == 0) {
		ret = dir_open(v, "limbo", 0700, &v->limbo_fd, error);
	}
	if (ret == 0) {
		ret = dir_open(v, "blocks", 0700, &v->blocks_fd, error);
	}
	if (ret != 0) {
		return ret;
	}
	fds[0] = v->trash_fd;
	fds[1] = v->limbo_fd;
	for (int i = 0; i < 2; i++) {
		if (fstat(v->tree_fd, &tree) != 0 || fstat(fds[i], &other) != 0) {
			ret = -errno;
			*error = talloc_asprintf(v, "%s: %s", v->path, strerror(-ret));
			return ret;
		}
		if (tree.st_dev != other.st_dev) {
			*error = talloc_asprintf(v,
					"%s/tree is on another file system than trash and limbo "
					"beside it: mount the file system at %s or above instead",
					v->path, v->path);
			return -EXDEV;
		}
	}
	return 0;
}

static void xattr_name_set(struct volume *v, const char *name)
{
	snprintf(v->rio.xattr, sizeof(v->rio.xattr), "%s", name);
}

/* Sets rio.xattr to the name under which the root has a record; *status: of that record. */
static bool xattr_find(struct volume *v, struct ofs_record *rec, int *status)
{
	static const char *const names[] = {OFS_RECORD_XATTR_SECURITY, OFS_RECORD_XATTR_USER};

	for (int i = 0; i < 2; i++) {
		xattr_name_set(v, names[i]);
		*status = ofs_record_get(&v->rio, v->tree_fd, rec);
		if (*status == 0 || *status == -EXDEV || *status == -EBADMSG) {
			return true;
		}
	}
	return false;
}

static const char *xattr_wanted(const struct volume *v)
{
	switch (v->conf->record_xattr) {
	case CONF_XATTR_SECURITY:
		return OFS_RECORD_XATTR_SECURITY;
	case CONF_XATTR_USER:
		return OFS_RECORD_XATTR_USER;
	default:
		return NULL;
	}
}

static int root_record_make(struct volume *v, bool damaged, char **error)
{
	struct ofs_record rec = {.flags = OFS_REC_DIR, .oid = OFS_OID_ROOT};
	const char *wanted = xattr_wanted(v);
	int ret;

	if (damaged) {
		/* What it knew is gone: whatever lies directly in the root is looked at again. Its
		 * rights are still there, perhaps newer than S3's. */
		rec.flags |= OFS_REC_MARKED | OFS_REC_KNOWN;
		v->root_known = true;
		log_warning("core", "volume %s: the record of %s/tree was damaged and is made anew",
				v->name, v->path);
	} else {
		xattr_name_set(v, wanted != NULL ? wanted : OFS_RECORD_XATTR_SECURITY);
	}
	ret = ofs_record_set(&v->rio, v->tree_fd, &rec);
	if (!damaged && wanted == NULL && (ret == -EPERM || ret == -EACCES || ret == -EOPNOTSUPP)) {
		log_warning("core",
				"volume %s: this process may not set %s (%s); records are kept in %s, "
				"which owners of files can change locally",
				v->name, OFS_RECORD_XATTR_SECURITY, strerror(-ret),
				OFS_RECORD_XATTR_USER);
		xattr_name_set(v, OFS_RECORD_XATTR_USER);
		ret = ofs_record_set(&v->rio, v->tree_fd, &rec);
	}
	if (ret != 0) {
		*error = talloc_asprintf(v, "%s/tree: cannot set %s: %s%s", v->path, v->rio.xattr,
				strerror(-ret),
				ret == -EPERM ? "; run the daemon as root, or set record xattr = user"
					      : "");
	}
	return ret;
}

static int root_record_check(struct volume *v, bool *new_tree, char **error)
{
	const char *wanted = xattr_wanted(v);
	struct ofs_record rec;
	int status = 0;

	*new_tree = false;
	if (!xattr_find(v, &rec, &status)) {
		*new_tree = true;
		return root_record_make(v, false, error);
	}
	if (wanted != NULL && strcmp(wanted, v->rio.xattr) != 0) {
		*error = talloc_asprintf(v,
				"record xattr: the records of %s are in %s, the configuration asks for "
				"%s: set it back, or start with a new cache directory",
				v->path, v->rio.xattr, wanted);
		return -EINVAL;
	}
	if (status == -EXDEV) {
		*error = talloc_asprintf(v,
				"%s is a copy of another mirror (the record of tree/ belongs to another "
				"inode or cache directory): use the original, or start with a new, empty "
				"directory; files come back from the store",
				v->path);
		return status;
	}
	if (status == -EBADMSG) {
		return root_record_make(v, true, error);
	}
	if (!ofs_oid_equal(&rec.oid, &OFS_OID_ROOT)) {
		*error = talloc_asprintf(v,
				"%s/tree is not the root of a mirror (its record has another object "
				"id): restore it, or start with a new cache directory",
				v->path);
		return -EINVAL;
	}
	v->root_known = (rec.flags & OFS_REC_KNOWN) != 0;
	return 0;
}

int volume_fs_open(struct volume *v, const struct core *core, bool *new_tree, char **error)
{
	int ret;

	v->path_fd = v->tree_fd = v->trash_fd = v->limbo_fd = v->blocks_fd = -1;
	memcpy(v->rio.cache_id, core->cache_id, sizeof(v->rio.cache_id));
	ret = dirs_open(v, core, error);
	if (ret == 0) {
		ret = fscheck_mirror(v, v->limbo_fd, v->path, &v->inodes_small, error);
	}
	if (ret == 0 && v->inodes_small) {
		log_warning("core",
				"volume %s: the inodes of %s are too small for security descriptors: "
				"creating files is slower than it need be; best is XFS made with "
				"-i size=1024 or ext4 made with -I 1024 -O ea_inode",
				v->name, v->path);
	}
	if (ret == 0) {
		ret = root_record_check(v, new_tree, error);
	}
	return ret;
}

int volume_fs_try(const struct volume *v, uint64_t *free_bytes, bool *inodes_gone)
{
	static const char some[4096];
	struct statfs fs;
	int fd, ret = 0;

	*free_bytes = 0;
	*inodes_gone = false;
	if (fstatfs(v->tree_fd, &fs) != 0) {
		return -errno;
	}
	*free_bytes = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	*inodes_gone = fs.f_files > 0 && fs.f_ffree == 0;
	fd = fscheck_scratch(v->limbo_fd);
	if (fd < 0) {
		return fd;
	}
	if (pwrite(fd, some, sizeof(some), 0) != (ssize_t)sizeof(some)) {
		ret = errno != 0 ? -errno : -ENOSPC;
	}
	close(fd);
	return ret;
}

void volume_fs_close(struct volume *v)
{
	int *fds[] = {&v->blocks_fd, &v->limbo_fd, &v->trash_fd, &v->tree_fd, &v->path_fd};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0) {
			close(*fds[i]);
			*fds[i] = -1;
		}
	}
}
