/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A disk that remembers the order in which it was written, and fails where it is told to: a file for a loop
 * device, by FUSE.
 * Way: the kernel's loop driver writes `disk`, its flushes come as fsync (FUA as a write and a flush, as the
 *      driver offers none); a test writes a line to `mark`. Each is appended to the log as it is answered.
 *      A write to `faults` says which bytes answer EIO from then on, and takes back what was said before: lines
 *      "read OFFSET LENGTH" and "write OFFSET LENGTH", or an empty one.
 * Thread: one, so the log's order is one in which the writes may have happened. What the log has before a flush
 *      the disk had when the flush came.
 * Owns: the image, the log, the mount; all end with the process.
 * Holds: 1. Nothing is kept back: the kernel has no write-back cache here, a request is in the log before
 *           its answer.
 *        2. An entry: kind, 0 (32 bits each), offset, length (64 bits each), little-endian as all is here;
 *           then the bytes of a write or a mark.
 *        3. Without a log it is a disk like any other, whose flushes cost nothing.
 *        4. What answers EIO has done nothing. A discard never does.
 *
 * usage: power_disk IMAGE LOG|- MOUNTPOINT
 */
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { KIND_WRITE = 1, KIND_FLUSH, KIND_ZERO, KIND_MARK };

struct entry {
	uint32_t kind;
	uint32_t zero;
	uint64_t offset;
	uint64_t length;
};

enum name { NAME_DISK, NAME_MARK, NAME_FAULTS };
#define FAULTS_MAX 64

struct fault {
	bool write;
	uint64_t offset, length;
};

struct disk {
	int image_fd;
	int log_fd; /* -1: no log */
	struct fault faults[FAULTS_MAX];
	unsigned fault_count;
};

static struct disk *disk_get(void)
{
	return fuse_get_context()->private_data;
}

static int log_append(enum kind kind, uint64_t offset, uint64_t length, const char *bytes)
{
	struct disk *d = disk_get();
	struct entry e = {.kind = kind, .offset = offset, .length = length};
	struct iovec iov[2] = {{.iov_base = &e, .iov_len = sizeof(e)},
			{.iov_base = (void *)bytes, .iov_len = bytes != NULL ? length : 0}};
	ssize_t n;

	if (d->log_fd < 0) {
		return 0;
	}
	n = writev(d->log_fd, iov, 2);
	if (n < 0) {
		return -errno;
	}
	return (size_t)n == iov[0].iov_len + iov[1].iov_len ? 0 : -ENOSPC;
}

static bool is_bad(bool write, uint64_t offset, uint64_t length)
{
	const struct disk *d = disk_get();

	for (unsigned i = 0; i < d->fault_count; i++) {
		const struct fault *f = &d->faults[i];

		if (f->write == write && offset < f->offset + f->length && f->offset < offset + length) {
			return true;
		}
	}
	return false;
}

/* 0; -EINVAL: not such lines, or too many; those before it count. */
static int faults_set(const char *text, size_t size)
{
	struct disk *d = disk_get();
	char lines[4096], word[8], *rest = lines, *line;

	if (size >= sizeof(lines)) {
		return -EINVAL;
	}
	memcpy(lines, text, size);
	lines[size] = '\0';
	d->fault_count = 0;
	while ((line = strsep(&rest, "\n")) != NULL) {
		struct fault *f = &d->faults[d->fault_count];

		if (line[0] == '\0') {
			continue;
		}
		if (d->fault_count == FAULTS_MAX ||
				sscanf(line, "%7s %" SCNu64 " %" SCNu64, word, &f->offset, &f->length) != 3) {
			return -EINVAL;
		}
		f->write = strcmp(word, "write") == 0;
		d->fault_count++;
	}
	return 0;
}

static int disk_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	(void)fi;
	if (strcmp(path, "/disk") == 0) {
		if (fstat(disk_get()->image_fd, st) != 0) {
			return -errno;
		}
		st->st_mode = S_IFREG | 0600;
		return 0;
	}
	memset(st, 0, sizeof(*st));
	st->st_nlink = 1;
	if (strcmp(path, "/") == 0) {
		st->st_mode = S_IFDIR | 0700;
		return 0;
	}
	st->st_mode = S_IFREG | 0600;
	return strcmp(path, "/mark") == 0 || strcmp(path, "/faults") == 0 ? 0 : -ENOENT;
}

static int disk_open(const char *path, struct fuse_file_info *fi)
{
	fi->direct_io = 1;
	fi->fh = strcmp(path, "/mark") == 0 ? NAME_MARK : strcmp(path, "/faults") == 0 ? NAME_FAULTS : NAME_DISK;
	return 0;
}

static int disk_read(const char *path, char *buf, size_t size, off_t offset,
		struct fuse_file_info *fi)
{
	ssize_t n;

	(void)path;
	if (fi->fh != NAME_DISK) {
		return 0;
	}
	if (is_bad(false, (uint64_t)offset, size)) {
		return -EIO;
	}
	n = pread(disk_get()->image_fd, buf, size, offset);
	return n < 0 ? -errno : (int)n;
}

static int disk_write(const char *path, const char *buf, size_t size, off_t offset,
		struct fuse_file_info *fi)
{
	ssize_t n = (ssize_t)size;
	int ret;

	(void)path;
	if (fi->fh == NAME_FAULTS) {
		ret = faults_set(buf, size);
		return ret != 0 ? ret : (int)size;
	}
	if (fi->fh == NAME_DISK) {
		if (is_bad(true, (uint64_t)offset, size)) {
			return -EIO;
		}
		n = pwrite(disk_get()->image_fd, buf, size, offset);
	}
	if (n < 0) {
		return -errno;
	}
	ret = log_append(fi->fh == NAME_MARK ? KIND_MARK : KIND_WRITE, (uint64_t)offset, (uint64_t)n, buf);
	return ret != 0 ? ret : (int)n;
}

static int disk_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	(void)path;
	(void)size;
	(void)fi;
	return 0; /* the others are opened as a shell opens them; the disk keeps its size */
}

static int disk_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
	(void)path;
	(void)datasync;
	return fi->fh != NAME_DISK ? 0 : log_append(KIND_FLUSH, 0, 0, NULL);
}

/* Discards and zeroes; both read as zeros afterwards, as loop devices do. */
static int disk_fallocate(const char *path, int mode, off_t offset, off_t length,
		struct fuse_file_info *fi)
{
	const int how = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	(void)path;
	if (fi->fh != NAME_DISK || (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == 0) {
		return -EOPNOTSUPP;
	}
	if (fallocate(disk_get()->image_fd, how, offset, length) != 0) {
		return -errno;
	}
	return log_append(KIND_ZERO, (uint64_t)offset, (uint64_t)length, NULL);
}

static const struct fuse_operations disk_operations = {
	.getattr = disk_getattr,
	.open = disk_open,
	.read = disk_read,
	.write = disk_write,
	.truncate = disk_truncate,
	.fsync = disk_fsync,
	.fallocate = disk_fallocate,
};

int main(int argc, char **argv)
{
	struct disk d = {.image_fd = -1, .log_fd = -1};
	/* in the foreground, by one thread */
	char *fuse_argv[] = {argv[0], "-f", "-s", argc == 4 ? argv[3] : NULL, NULL};

	if (argc != 4) {
		fprintf(stderr, "usage: power_disk IMAGE LOG|- MOUNTPOINT\n");
		return 2;
	}
	d.image_fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (d.image_fd < 0) {
		perror(argv[1]);
		return 1;
	}
	if (strcmp(argv[2], "-") != 0) {
		d.log_fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
		if (d.log_fd < 0) {
			perror(argv[2]);
			return 1;
		}
	}
	return fuse_main(4, fuse_argv, &disk_operations, &d);
}
