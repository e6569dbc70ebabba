/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the cache directory itself: its lock, its node id, the run directory beside it.
 * Way: main calls it before any volume is opened.
 * Thread: main, before the loop; blocks on the local disk.
 * Owns: the descriptor of the lock file.
 * Holds: (1) one daemon per cache directory (rule 21): the flock lives as long as the process. (2) The node
 * id is written once, whole (rename), before anything binds a record to it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core.h"
#include "../base/log.h"

int cachedir_make_path(const char *path, unsigned mode)
{
	char *copy = strdup(path);
	int ret = 0;

	if (copy == NULL) {
		return -ENOMEM;
	}
	for (char *p = strchr(copy + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(copy, 0755) != 0 && errno != EEXIST) {
			ret = -errno;
			goto out;
		}
		*p = '/';
	}
	if (mkdir(copy, mode) != 0 && errno != EEXIST) {
		ret = -errno;
	}
out:
	free(copy);
	return ret;
}

/* Pid in a lock file that another daemon holds; 0: unknown. */
static long lock_holder(int fd)
{
	char buf[32] = "";
	ssize_t n = pread(fd, buf, sizeof(buf) - 1, 0);

	return n > 0 ? strtol(buf, NULL, 10) : 0;
}

static int lock_take(struct core *core, int dirfd, const char *dir, char **error)
{
	int fd = openat(dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	char buf[32];
	int ret, len;

	if (fd < 0) {
		ret = -errno;
		*error = talloc_asprintf(core, "%s/lock: %s", dir, strerror(-ret));
		return ret;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		ret = errno == EWOULDBLOCK ? -EBUSY : -errno;
		if (ret == -EBUSY) {
			*error = talloc_asprintf(core,
					"the cache directory %s is in use by another objectfs-cached "
					"(process %ld): stop it, or give this one a cache directory "
					"of its own",
					dir, lock_holder(fd));
		} else {
			*error = talloc_asprintf(core, "%s/lock: %s", dir, strerror(-ret));
		}
		close(fd);
		return ret;
	}
	len = snprintf(buf, sizeof(buf), "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) != 0 || pwrite(fd, buf, (size_t)len, 0) != len) {
		log_warning("core", "%s/lock: cannot write the process id: %s", dir,
				strerror(errno));
	}
	core->lock_fd = fd;
	return 0;
}

static int node_id_write(int dirfd, const char *hex)
{
	int fd = openat(dirfd, "node-id.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int ret = 0;

	if (fd < 0) {
		return -errno;
	}
	if (dprintf(fd, "%s\n", hex) != OFS_OID_HEX_BYTES || fsync(fd) != 0 ||
			renameat(dirfd, "node-id.new", dirfd, "node-id") != 0 ||
			fsync(dirfd) != 0) {
		ret = errno != 0 ? -errno : -EIO;
	}
	close(fd);
	return ret;
}

static int node_id_load(struct core *core, int dirfd, const char *dir, char **error)
{
	char buf[OFS_OID_HEX_BYTES + 1] = "";
	struct ofs_oid id;
	int fd = openat(dirfd, "node-id", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int ret = 0;

	if (fd < 0 && errno == ENOENT) {
		ofs_oid_new(&id);
		ofs_oid_hex(&id, core->node_id);
		ret = node_id_write(dirfd, core->node_id);
	} else if (fd < 0) {
		ret = -errno;
	} else {
		ssize_t n = read(fd, buf, sizeof(buf) - 1);

		ret = n < 0 ? -errno : 0;
		close(fd);
		buf[strcspn(buf, "\n")] = '\0';
		if (ret == 0 && !ofs_oid_parse(buf, &id)) {
			*error = talloc_asprintf(core,
					"%s/node-id is damaged (32 hex digits expected): restore it, or "
					"start with a new cache directory",
					dir);
			return -EBADMSG;
		}
		ofs_oid_hex(&id, core->node_id);
	}
	if (ret != 0) {
		*error = talloc_asprintf(core, "%s/node-id: %s", dir, strerror(-ret));
		return ret;
	}
	memcpy(core->cache_id, id.bytes, sizeof(core->cache_id));
	return 0;
}

int cachedir_open(struct core *core, char **error)
{
	const char *dir = core->conf->global.cache_directory;
	const char *run = core->conf->global.run_directory;
	int dirfd, ret;

	core->lock_fd = -1;
	ret = cachedir_make_path(dir, 0711);
	if (ret != 0) {
		*error = talloc_asprintf(core, "cache directory %s: %s", dir, strerror(-ret));
		return ret;
	}
	ret = cachedir_make_path(run, 0755);
	if (ret != 0) {
		*error = talloc_asprintf(core, "run directory %s: %s", run, strerror(-ret));
		return ret;
	}
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0) {
		ret = -errno;
		*error = talloc_asprintf(core, "cache directory %s: %s", dir, strerror(-ret));
		return ret;
	}
	ret = lock_take(core, dirfd, dir, error);
	if (ret == 0) {
		ret = node_id_load(core, dirfd, dir, error);
	}
	close(dirfd);
	return ret;
}

void cachedir_close(struct core *core)
{
	if (core->lock_fd >= 0) {
		close(core->lock_fd);
		core->lock_fd = -1;
	}
}
