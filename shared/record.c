/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The inode record: its bytes, its binding to one inode, and its xattr.
 * Way: from the module (client's process) and the daemon's workers; to the mirror's file system.
 * Thread: any; blocks on the local file system only.
 * Owns: nothing that outlives a call.
 * Holds: 1. A record is always written whole and at the same size.
 *        2. The binding names inode number, birth time and cache directory, so a record that was
 *           copied with its file (cp -a, rsync -X, tar --xattrs) is seen not to belong.
 *        3. An O_PATH descriptor gives EBADF to the f*xattr calls; /proc/self/fd/N then names the
 *           same inode, whatever its path is by now.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cursor.h"
#include "mix.h"

#define RECORD_MAGIC 0x5253464fu /* "OFSR" */
#define RECORD_VERSION 1u
#define RECORD_CRC_OFFSET (OFS_RECORD_BYTES - 4)
#define RECORD_RESERVED_BYTES 4

void ofs_record_encode(const struct ofs_record *rec, uint8_t buf[OFS_RECORD_BYTES])
{
	struct ofs_wr c = ofs_wr_init(buf, OFS_RECORD_BYTES);

	ofs_wr_u32(&c, RECORD_MAGIC);
	ofs_wr_u16(&c, RECORD_VERSION);
	ofs_wr_u16(&c, 0);
	ofs_wr_u32(&c, rec->flags);
	ofs_wr_u32(&c, 0);
	ofs_wr_u64(&c, rec->binding);
	ofs_wr_bytes(&c, rec->oid.bytes, sizeof(rec->oid.bytes));
	ofs_wr_u64(&c, rec->data_gen);
	ofs_wr_u64(&c, rec->meta_gen);
	ofs_wr_u64(&c, rec->size);
	ofs_wr_u64(&c, (uint64_t)rec->mtime_ns);
	ofs_wr_u64(&c, (uint64_t)rec->atime_ns);
	ofs_wr_u64(&c, (uint64_t)rec->ctime_clean_ns);
	ofs_wr_u64(&c, (uint64_t)rec->listed_ns);
	ofs_wr_bytes(&c, rec->clean.id.bytes, sizeof(rec->clean.id.bytes));
	ofs_wr_u64(&c, rec->clean.fence);
	ofs_wr_zero(&c, RECORD_RESERVED_BYTES);
	ofs_wr_u32(&c, ofs_crc32c(0, buf, RECORD_CRC_OFFSET));
}

int ofs_record_decode(const uint8_t *buf, size_t len, struct ofs_record *rec)
{
	struct ofs_rd c = ofs_rd_init(buf, len);
	uint32_t magic, crc;
	uint16_t version;

	memset(rec, 0, sizeof(*rec));
	if (len != OFS_RECORD_BYTES) {
		return -EBADMSG;
	}
	magic = ofs_rd_u32(&c);
	version = ofs_rd_u16(&c);
	if (magic != RECORD_MAGIC || version != RECORD_VERSION) {
		return -EBADMSG;
	}
	(void)ofs_rd_u16(&c);
	rec->flags = ofs_rd_u32(&c);
	(void)ofs_rd_u32(&c);
	rec->binding = ofs_rd_u64(&c);
	ofs_rd_copy(&c, rec->oid.bytes, sizeof(rec->oid.bytes));
	rec->data_gen = ofs_rd_u64(&c);
	rec->meta_gen = ofs_rd_u64(&c);
	rec->size = ofs_rd_u64(&c);
	rec->mtime_ns = (int64_t)ofs_rd_u64(&c);
	rec->atime_ns = (int64_t)ofs_rd_u64(&c);
	rec->ctime_clean_ns = (int64_t)ofs_rd_u64(&c);
	rec->listed_ns = (int64_t)ofs_rd_u64(&c);
	ofs_rd_copy(&c, rec->clean.id.bytes, sizeof(rec->clean.id.bytes));
	rec->clean.fence = ofs_rd_u64(&c);
	(void)ofs_rd_bytes(&c, RECORD_RESERVED_BYTES);
	crc = ofs_rd_u32(&c);
	if (c.bad || crc != ofs_crc32c(0, buf, RECORD_CRC_OFFSET)) {
		memset(rec, 0, sizeof(*rec));
		return -EBADMSG;
	}
	return 0;
}

/* Where the file system has no birth time, the inode number has to do. */
static int record_binding(const struct ofs_record_io *io, int fd, uint64_t *binding)
{
	struct statx stx;
	uint64_t half[2];
	uint64_t h = 0;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO | STATX_BTIME, &stx) != 0) {
		return -errno;
	}
	memcpy(half, io->cache_id, sizeof(half));
	h = ofs_mix64(h, half[0]);
	h = ofs_mix64(h, half[1]);
	h = ofs_mix64(h, stx.stx_ino);
	if ((stx.stx_mask & STATX_BTIME) != 0) {
		h = ofs_mix64(h, (uint64_t)stx.stx_btime.tv_sec);
		h = ofs_mix64(h, stx.stx_btime.tv_nsec);
	}
	*binding = h;
	return 0;
}

static void record_proc_path(char path[32], int fd)
{
	snprintf(path, 32, "/proc/self/fd/%d", fd);
}

int ofs_record_get(const struct ofs_record_io *io, int fd, struct ofs_record *rec)
{
	uint8_t buf[OFS_RECORD_BYTES];
	uint64_t binding;
	ssize_t n;
	int ret;

	memset(rec, 0, sizeof(*rec));
	n = fgetxattr(fd, io->xattr, buf, sizeof(buf));
	if (n < 0 && errno == EBADF) {
		char path[32];

		record_proc_path(path, fd);
		n = getxattr(path, io->xattr, buf, sizeof(buf));
		if (n < 0 && errno == ENOENT) { /* no such descriptor, or no /proc */
			return -EBADF;
		}
	}
	if (n < 0) {
		return errno == ERANGE ? -EBADMSG : -errno;
	}
	ret = ofs_record_decode(buf, (size_t)n, rec);
	if (ret != 0) {
		return ret;
	}
	ret = record_binding(io, fd, &binding);
	if (ret != 0) {
		return ret;
	}
	return binding == rec->binding ? 0 : -EXDEV;
}

/*
 * Through a descriptor and not by two path lookups: a rename between reading the xattr and the
 * inode number would else make a sound record look like a copy.
 */
int ofs_record_get_at(
		const struct ofs_record_io *io, int dirfd, const char *name, struct ofs_record *rec)
{
	int fd, ret;

	fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		memset(rec, 0, sizeof(*rec));
		return -errno;
	}
	ret = ofs_record_get(io, fd, rec);
	close(fd);
	return ret;
}

int ofs_record_set(const struct ofs_record_io *io, int fd, struct ofs_record *rec)
{
	uint8_t buf[OFS_RECORD_BYTES];
	int ret;

	ret = record_binding(io, fd, &rec->binding);
	if (ret != 0) {
		return ret;
	}
	ofs_record_encode(rec, buf);
	if (fsetxattr(fd, io->xattr, buf, sizeof(buf), 0) == 0) {
		return 0;
	}
	if (errno == EBADF) {
		char path[32];

		record_proc_path(path, fd);
		if (setxattr(path, io->xattr, buf, sizeof(buf), 0) == 0) {
			return 0;
		}
		if (errno == ENOENT) {
			return -EBADF;
		}
	}
	return -errno;
}
