/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the metadata of an inode: read it, make another inode match it.
 * Way: upload and the log read; mirror applies what came back from S3.
 * Thread: worker (blocks on the disk). Packing is in snapshot_pack.c.
 * Owns: the snapshots it makes, until snapshot_free.
 * Holds: 1. Fail closed: an ACL that cannot be set is an error before anything is opened up.
 *        2. Only names of snapshot_name_is_users are read, set or removed: the bucket can write
 *           neither our record nor security.capability, trusted.* and the like.
 *        3. Set-id bits never come from a snapshot; the marker (S_ISVTX of a regular file) is
 *           neither read nor changed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* statx */
#endif
#include "snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "shared/record.h"
#include "snapshot_priv.h"

#define SNAPSHOT_NTACL "security.NTACL"
#define SNAPSHOT_NTACL_USER "user.NTACL"
#define SNAPSHOT_DOSATTRIB "user.DOSATTRIB"
#define NT_EPOCH_100NS 116444736000000000ULL /* 1601 to 1970 */
#define NS_PER_SECOND 1000000000LL
#define XATTR_TRIES 8 /* the inode may change while it is read */
#define MODE_PERMISSIONS 0777u

bool snapshot_name_is_acl(const char *name)
{
	/* user.NTACL: acl_xattr in containers that cannot set security.* */
	return strcmp(name, SNAPSHOT_NTACL) == 0 || strcmp(name, SNAPSHOT_NTACL_USER) == 0;
}

static bool name_is_posix_acl(const char *name)
{
	return strcmp(name, "system.posix_acl_access") == 0 ||
			strcmp(name, "system.posix_acl_default") == 0;
}

bool snapshot_name_is_users(const char *name)
{
	if (strcmp(name, OFS_RECORD_XATTR_USER) == 0) {
		return false;
	}
	return (strncmp(name, "user.", 5) == 0 && name[5] != '\0') || snapshot_name_is_acl(name) ||
			name_is_posix_acl(name);
}

static bool name_is_ours(const char *name, const char *skip)
{
	return snapshot_name_is_users(name) && (skip == NULL || strcmp(name, skip) != 0);
}

/*
 * A snapshot calls the NT ACL security.NTACL everywhere. Where that cannot be set (containers, whose
 * records are in user.objectfs too) it lives in user.NTACL. Without this an ACL written on one kind
 * of host would be there, but not looked at, on the other.
 */
static const char *name_of_host(const char *name, const char *skip)
{
	if (skip != NULL && strcmp(skip, OFS_RECORD_XATTR_USER) == 0 &&
			strcmp(name, SNAPSHOT_NTACL) == 0) {
		return SNAPSHOT_NTACL_USER;
	}
	return name;
}

const char *snapshot_ntacl_name(const char *record_xattr)
{
	return name_of_host(SNAPSHOT_NTACL, record_xattr);
}

static const char *name_of_snapshot(const char *name, const char *skip)
{
	if (skip != NULL && strcmp(skip, OFS_RECORD_XATTR_USER) == 0 &&
			strcmp(name, SNAPSHOT_NTACL_USER) == 0) {
		return SNAPSHOT_NTACL;
	}
	return name;
}

/* All names, NUL-terminated one after the other; malloc. 0 or -errno. */
static int xattr_names(int fd, char **names, size_t *len)
{
	for (int i = 0; i < XATTR_TRIES; i++) {
		ssize_t need = flistxattr(fd, NULL, 0);
		char *buf;

		if (need < 0) {
			return errno == ENOTSUP ? 0 : -errno;
		}
		buf = malloc((size_t)need + 1);
		if (buf == NULL) {
			return -ENOMEM;
		}
		need = flistxattr(fd, buf, (size_t)need);
		if (need >= 0) {
			buf[need] = '\0';
			*names = buf;
			*len = (size_t)need;
			return 0;
		}
		free(buf);
		if (errno != ERANGE) {
			return -errno;
		}
	}
	return -EAGAIN;
}

/* One value; malloc. 0, -ENODATA: gone meanwhile, or -errno. */
static int xattr_value(int fd, const char *name, uint8_t **value, uint32_t *len)
{
	for (int i = 0; i < XATTR_TRIES; i++) {
		ssize_t need = fgetxattr(fd, name, NULL, 0);
		uint8_t *buf;

		if (need < 0) {
			return -errno;
		}
		buf = malloc((size_t)need + 1);
		if (buf == NULL) {
			return -ENOMEM;
		}
		/* a size of 0 would ask for the length again */
		need = fgetxattr(fd, name, buf, (size_t)need + 1);
		if (need >= 0) {
			*value = buf;
			*len = (uint32_t)need;
			return 0;
		}
		free(buf);
		if (errno != ERANGE) {
			return -errno;
		}
	}
	return -EAGAIN;
}

static int xattr_order(const void *a, const void *b)
{
	const struct snapshot_xattr *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int read_xattrs(int fd, const char *skip, struct snapshot *s)
{
	char *names = NULL;
	size_t len = 0;
	unsigned room = 0;
	int ret = xattr_names(fd, &names, &len);

	if (ret != 0) {
		return ret;
	}
	for (size_t at = 0; at < len; at += strlen(names + at) + 1) {
		room++;
	}
	s->xattrs = calloc(room + 1, sizeof(*s->xattrs));
	if (s->xattrs == NULL) {
		ret = -ENOMEM;
	}
	for (size_t at = 0; ret == 0 && at < len; at += strlen(names + at) + 1) {
		struct snapshot_xattr *x = &s->xattrs[s->xattr_count];

		if (!name_is_ours(names + at, skip)) {
			continue;
		}
		ret = xattr_value(fd, names + at, &x->value, &x->len);
		if (ret == -ENODATA) {
			ret = 0;
			continue;
		}
		if (ret != 0) {
			break;
		}
		s->xattr_count++;
		x->name = strdup(name_of_snapshot(names + at, skip));
		ret = x->name != NULL ? 0 : -ENOMEM;
	}
	free(names);
	if (ret == 0) {
		qsort(s->xattrs, s->xattr_count, sizeof(*s->xattrs), xattr_order);
	}
	return ret;
}

/* Times beyond 2262 are that. */
static int64_t statx_ns(const struct statx_timestamp *t)
{
	if (t->tv_sec > INT64_MAX / NS_PER_SECOND - 1) {
		return INT64_MAX;
	}
	if (t->tv_sec < INT64_MIN / NS_PER_SECOND + 1) {
		return INT64_MIN;
	}
	return t->tv_sec * NS_PER_SECOND + t->tv_nsec;
}

int snapshot_read(int fd, const char *skip, struct snapshot **out)
{
	struct snapshot *s;
	struct statx sx;
	int ret;

	*out = NULL;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &sx) != 0) {
		return -errno;
	}
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		return -ENOMEM;
	}
	s->mode = S_ISREG(sx.stx_mode) ? sx.stx_mode & ~(uint32_t)OFS_MARKER_MODE : sx.stx_mode;
	s->uid = sx.stx_uid;
	s->gid = sx.stx_gid;
	s->mtime_ns = statx_ns(&sx.stx_mtime);
	s->atime_ns = statx_ns(&sx.stx_atime);
	if ((sx.stx_mask & STATX_BTIME) != 0) {
		s->btime_ns = statx_ns(&sx.stx_btime);
	}
	ret = read_xattrs(fd, skip, s);
	if (ret != 0) {
		snapshot_free(&s);
		return ret;
	}
	*out = s;
	return 0;
}

/* --- apply --- */

static const struct snapshot_xattr *snapshot_find(const struct snapshot *s, const char *name)
{
	for (unsigned i = 0; i < s->xattr_count; i++) {
		if (strcmp(s->xattrs[i].name, name) == 0) {
			return &s->xattrs[i];
		}
	}
	return NULL;
}

/* Only numbers of uids and gids: worthless elsewhere, and not every file system has them. */
static int posix_acl_error(const char *name, int err)
{
	return name_is_posix_acl(name) && (err == EOPNOTSUPP || err == EPERM || err == EINVAL) ? 0
											       : -err;
}

static int apply_set(int fd, const char *skip, const struct snapshot_xattr *x)
{
	const char *name = name_of_host(x->name, skip);
	uint8_t *now = NULL;
	uint32_t now_len = 0;
	bool same;

	if (xattr_value(fd, name, &now, &now_len) == 0) {
		same = now_len == x->len && memcmp(now, x->value, now_len) == 0;
		free(now);
		if (same) {
			return 0;
		}
	}
	if (fsetxattr(fd, name, x->value, x->len, 0) != 0) {
		return posix_acl_error(x->name, errno);
	}
	return 0;
}

static int apply_remove_others(int fd, const char *skip, const struct snapshot *s)
{
	char *names = NULL;
	size_t len = 0;
	int ret = xattr_names(fd, &names, &len);

	for (size_t at = 0; ret == 0 && at < len; at += strlen(names + at) + 1) {
		const char *name = names + at;

		if (!name_is_ours(name, skip) || snapshot_find(s, name_of_snapshot(name, skip)) != NULL) {
			continue;
		}
		if (fremovexattr(fd, name) != 0 && errno != ENODATA) {
			ret = posix_acl_error(name, errno);
		}
	}
	free(names);
	return ret;
}

static int apply_owner_mode(int fd, const struct snapshot *s)
{
	struct stat st;
	mode_t want;

	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	if ((st.st_uid != s->uid || st.st_gid != s->gid) && fchown(fd, s->uid, s->gid) != 0 &&
			errno != EPERM && errno != EINVAL) {
		return -errno;
	}
	want = s->mode & MODE_PERMISSIONS;
	if (S_ISDIR(st.st_mode)) {
		want |= s->mode & S_ISVTX;
	} else {
		want |= st.st_mode & OFS_MARKER_MODE;
	}
	if ((st.st_mode & 07777) != want && fchmod(fd, want) != 0) {
		return -errno;
	}
	return 0;
}

static struct timespec timespec_of(int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / NS_PER_SECOND, .tv_nsec = ns % NS_PER_SECOND };

	if (ts.tv_nsec < 0) {
		ts.tv_sec--;
		ts.tv_nsec += NS_PER_SECOND;
	}
	return ts;
}

int snapshot_apply_times(int fd, int64_t mtime_ns, int64_t atime_ns)
{
	struct timespec ts[2] = { timespec_of(atime_ns), timespec_of(mtime_ns) };

	return futimens(fd, ts) == 0 ? 0 : -errno;
}

/* Samba's user.DOSATTRIB, version 5 (xattr.idl, NDR): an empty string, version u16, again u16,
 * valid fields u32, attributes u32, creation time u64 in 100 ns since 1601. */
static int dosattrib_set(int fd, uint8_t fields, uint8_t attributes, uint64_t nt)
{
	uint8_t value[24] = {0, 0, 5, 0, 5, 0, 0, 0, fields, 0, 0, 0, attributes};

	for (int i = 0; i < 8; i++) {
		value[16 + i] = (uint8_t)(nt >> (8 * i));
	}
	if (fsetxattr(fd, SNAPSHOT_DOSATTRIB, value, sizeof(value), XATTR_CREATE) != 0 &&
			errno != EEXIST) {
		return -errno;
	}
	return 0;
}

int snapshot_create_time_set(int fd, int64_t create_ns)
{
	return dosattrib_set(fd, 0x11, 0x10 /* a directory */, (uint64_t)(create_ns / 100) + NT_EPOCH_100NS);
}

int snapshot_read_only_set(int fd)
{
	return dosattrib_set(fd, 0x01, 0x21 /* READONLY, ARCHIVE */, 0);
}

static int apply_plain(int fd, const char *skip, const struct snapshot *s)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < s->xattr_count; i++) {
		const struct snapshot_xattr *x = &s->xattrs[i];

		if (x->value == NULL || !name_is_ours(x->name, NULL) ||
				(x->is_blob && !snapshot_blob_is_right(x))) {
			return -ENODATA;
		}
		if (strcmp(x->name, SNAPSHOT_NTACL) == 0) {
			ret = apply_set(fd, skip, x);
		}
	}
	ret = ret != 0 ? ret : apply_owner_mode(fd, s);
	for (unsigned i = 0; ret == 0 && i < s->xattr_count; i++) {
		const struct snapshot_xattr *x = &s->xattrs[i];

		if (strcmp(x->name, SNAPSHOT_NTACL) != 0 && name_is_ours(x->name, skip) &&
				name_of_snapshot(x->name, skip) == x->name) {
			ret = apply_set(fd, skip, x);
		}
	}
	ret = ret != 0 ? ret : apply_remove_others(fd, skip, s);
	return ret != 0 ? ret : snapshot_apply_times(fd, s->mtime_ns, s->atime_ns);
}

int snapshot_apply(int fd, const char *skip, const struct snapshot *s)
{
	struct snapshot *whole = NULL;
	int ret = snapshot_expand(s, &whole);

	if (ret != 0) {
		return ret;
	}
	ret = apply_plain(fd, skip, whole != NULL ? whole : s);
	snapshot_free(&whole);
	return ret;
}
