/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The metadata of one inode as a value: times, mode, owner, and every xattr that is the user's
 * (user.*, security.NTACL, system.posix_acl_*), without our record. Read from and applied to an
 * open descriptor on a worker thread; packed into bytes for object metadata and log.
 *
 * Packed (little-endian): version u8 = 1, mode u32, uid u32, gid u32, mtime_ns i64, atime_ns i64,
 * btime_ns i64, count u16, then per xattr: name u8 length + bytes, kind u8 (0 inline, 1 blob),
 * inline: u32 length + bytes, blob: sha256 32 bytes + u32 length.
 */
#ifndef OFS_MIRROR_SNAPSHOT_H
#define OFS_MIRROR_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct snapshot_xattr {
	char *name;
	uint8_t *value; /* NULL with is_blob: not fetched yet */
	uint32_t len;
	bool is_blob;       /* lives in .objectfs/blob/<sha256 hex> */
	uint8_t sha256[32]; /* if is_blob */
};

struct snapshot { /* malloc'ed; no references: may cross threads */
	uint32_t mode, uid, gid;
	int64_t mtime_ns, atime_ns, btime_ns;
	struct snapshot_xattr *xattrs; /* sorted by name */
	unsigned xattr_count;
};

/* Worker. `skip` is the record's xattr. 0 or -errno (an xattr that cannot be read is an error). */
int snapshot_read(int fd, const char *skip, struct snapshot **out);
/*
 * Worker. Make the inode match: mode (permission bits only; never the marker, set-id bits are
 * dropped), owner where permitted (else kept, not an error), xattrs (missing ones set, others
 * removed except skip), times last. Security descriptor first; if it cannot be set: -errno and the
 * caller must not show the file (fail closed).
 */
int snapshot_apply(int fd, const char *skip, const struct snapshot *s);
/* Worker. Give a directory without DOS attributes the creation time that clients are to see. 0 or
 * -errno. */
int snapshot_create_time_set(int fd, int64_t create_ns);
/* Worker. Give a file without DOS attributes READONLY. 0 or -errno. */
int snapshot_read_only_set(int fd);
/* Only the times. */
int snapshot_apply_times(int fd, int64_t mtime_ns, int64_t atime_ns);

/* Values longer than this become blobs: NT ACLs 400 bytes, others 256; and, largest first, whatever
 * exceeds `budget` bytes of packed form. Marks xattrs is_blob and fills their sha256. What even then
 * does not fit (many names) is replaced by one xattr with the empty name, a blob that holds them all
 * ("bundle"); snapshot_apply unfolds it. */
void snapshot_split(struct snapshot *s, size_t budget);
/* Is this the blob that a snapshot names by hash and length? */
bool snapshot_blob_is(const uint8_t sha256[32], uint32_t len, const void *data, size_t data_len);
/* malloc; length in *len; NULL: no memory. */
uint8_t *snapshot_pack(const struct snapshot *s, size_t *len);
/* 0; -EBADMSG: damaged, unknown version; -ENOMEM. Blob values are left NULL. */
int snapshot_unpack(const uint8_t *buf, size_t len, struct snapshot **out);
bool snapshot_has_missing_blobs(const struct snapshot *s);
void snapshot_free(struct snapshot **s);

/* The xattr of the NT ACL on a mirror whose records are in `record_xattr`. Static. */
const char *snapshot_ntacl_name(const char *record_xattr);

#endif
