/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The inode record: 128 bytes in one xattr that say what an inode of the mirror is.
 *
 * Layout (little-endian): magic 4, version 2, reserved 2, flags 4, reserved 4, binding 8, oid 16,
 * data_gen 8, meta_gen 8, size 8, mtime_ns 8, atime_ns 8, ctime_clean_ns 8, listed_ns 8,
 * clean id 16, clean fence 8, reserved 4, crc32c 4 (over the 124 bytes before it). Always replaced at the same size.
 */
#ifndef OFS_SHARED_RECORD_H
#define OFS_SHARED_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define OFS_RECORD_BYTES 128
/* In the root of a volume: what the daemon keeps in the bucket. No client's name, and below its keys no client's key. */
#define OFS_OWN_NAME ".objectfs"
#define OFS_OWN_PLACE OFS_OWN_NAME "/"

#define OFS_RECORD_XATTR_SECURITY "security.objectfs"
#define OFS_RECORD_XATTR_USER "user.objectfs"

/* The marker: "not plain, read the record". Only ever on regular files. */
#define OFS_MARKER_MODE 01000 /* S_ISVTX */

/* 128 random bits, chosen by whoever creates the inode; all zero means "none". */
struct ofs_oid {
	uint8_t bytes[16];
};
#define OFS_OID_HEX_BYTES 33 /* with the terminating NUL */

enum ofs_record_flag {
	OFS_REC_DIR = 1u << 0,
	OFS_REC_STUB = 1u << 1,       /* not all data is here; goes with the marker */
	OFS_REC_DATA_DIRTY = 1u << 2, /* data newer than S3 */
	OFS_REC_META_DIRTY = 1u << 3, /* times, mode or xattrs newer than S3 */
	OFS_REC_KNOWN = 1u << 4,      /* S3 may hold it: an unlink must leave a trash link; of the
	                               * root: it has the rights that S3 has for it */
	OFS_REC_LISTED = 1u << 5,     /* directory: every child is in the mirror */
	OFS_REC_MARKED = 1u << 6,     /* directory: something in or below it may differ from S3 */
};

/* Which object of S3 a file was made of, or has last become; the daemon's (objmeta_clean). Zeros: none, or
 * written by a version that did not say. */
struct ofs_clean {
	struct ofs_oid id;
	uint64_t fence;
};

struct ofs_record {
	uint32_t flags;
	uint64_t binding; /* filled by ofs_record_set, checked by ofs_record_get */
	struct ofs_oid oid;
	uint64_t data_gen; /* grows with the first write of every handle */
	uint64_t meta_gen; /* grows with every metadata change; for a marked dir with every marking */
	/* Of a stub: what stat must say. Of a file that S3 has: as it was then; if it looks otherwise
	 * without being dirty, something below the share has changed it. */
	uint64_t size;
	int64_t mtime_ns; /* since 1970 */
	int64_t atime_ns;
	int64_t ctime_clean_ns; /* ctime of the inode when its metadata was last clean */
	int64_t listed_ns;      /* directory: CLOCK_REALTIME of the listing */
	struct ofs_clean clean; /* of a file */
};

/* How records are kept on this mirror; constant after HELLO (module) or start (daemon). */
struct ofs_record_io {
	char xattr[32];       /* one of OFS_RECORD_XATTR_* */
	uint8_t cache_id[16]; /* of the cache directory; part of the binding */
};

void ofs_record_encode(const struct ofs_record *rec, uint8_t buf[OFS_RECORD_BYTES]);
/* 0; -EBADMSG: damaged, wrong magic, version or length. */
int ofs_record_decode(const uint8_t *buf, size_t len, struct ofs_record *rec);

/*
 * Read the record of an open descriptor (O_PATH works). 0; -ENODATA: none; -EXDEV: bound to
 * another inode, i.e. a copy (*rec is filled all the same); -EBADMSG: damaged; other -errno.
 */
int ofs_record_get(const struct ofs_record_io *io, int fd, struct ofs_record *rec);
/* The same for a path relative to dirfd, not following a symlink. */
int ofs_record_get_at(const struct ofs_record_io *io, int dirfd, const char *name,
		struct ofs_record *rec);
/* Bind to the inode and store. Needs the right to set the xattr (root). 0 or -errno. */
int ofs_record_set(const struct ofs_record_io *io, int fd, struct ofs_record *rec);

/* Random id from getrandom(2). */
void ofs_oid_new(struct ofs_oid *oid);
bool ofs_oid_equal(const struct ofs_oid *a, const struct ofs_oid *b);
bool ofs_oid_is_none(const struct ofs_oid *oid);
void ofs_oid_hex(const struct ofs_oid *oid, char hex[OFS_OID_HEX_BYTES]);
/* false if hex is not 32 hex digits (lower case) followed by NUL. */
bool ofs_oid_parse(const char *hex, struct ofs_oid *oid);

/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), crc = 0 to begin; table driven. */
uint32_t ofs_crc32c(uint32_t crc, const void *data, size_t len);

#endif
