/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Duty: metadata of real inodes read, packed, unpacked and applied; what is damaged or not allowed
 * is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cached/mirror/snapshot.h"
#include "shared/record.h"
#include "tests/lib/scratch.h"

#define SKIP OFS_RECORD_XATTR_USER

static char dir[64];

static int setup(void **state)
{
	(void)state;
	scratch_make(dir, sizeof(dir), "snapshot");
	umask(0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	scratch_remove(dir);
	return 0;
}

static int tmp_file(void)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "%s/f", dir);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

static void set(int fd, const char *name, const void *value, size_t len)
{
	if (fsetxattr(fd, name, value, len, 0) != 0) {
		fail_msg("%s: %s", name, strerror(errno));
	}
}

static void assert_value(int fd, const char *name, const void *value, size_t len)
{
	char buf[70000];
	ssize_t got = fgetxattr(fd, name, buf, sizeof(buf));

	assert_int_equal(got, (ssize_t)len);
	assert_memory_equal(buf, value, len);
}

static const struct snapshot_xattr *find(const struct snapshot *s, const char *name)
{
	for (unsigned i = 0; i < s->xattr_count; i++) {
		if (strcmp(s->xattrs[i].name, name) == 0) {
			return &s->xattrs[i];
		}
	}
	return NULL;
}

/* pack and unpack; blobs come back from `blobs`, as if fetched */
static struct snapshot *through_bytes(const struct snapshot *s)
{
	struct snapshot *out;
	size_t len;
	uint8_t *buf = snapshot_pack(s, &len);

	assert_non_null(buf);
	assert_int_equal(snapshot_unpack(buf, len, &out), 0);
	free(buf);
	assert_int_equal(out->xattr_count, s->xattr_count);
	for (unsigned i = 0; i < out->xattr_count; i++) {
		struct snapshot_xattr *x = &out->xattrs[i];

		assert_string_equal(x->name, s->xattrs[i].name);
		if (x->is_blob) {
			assert_null(x->value);
			assert_memory_equal(x->sha256, s->xattrs[i].sha256, 32);
			x->value = malloc(x->len + 1);
			memcpy(x->value, s->xattrs[i].value, x->len);
		}
	}
	return out;
}

static bool can_set_security(int fd)
{
	return fsetxattr(fd, "security.NTACL", "x", 1, 0) == 0 &&
			fremovexattr(fd, "security.NTACL") == 0;
}

static void test_round_trip(void **state)
{
	/* Where records live in user.*, the NT ACL does too; the snapshot has one name for both. */
	static const char *acl_name = "user.NTACL";
	int from = tmp_file(), to = tmp_file();
	struct snapshot *s, *again;
	char acl[1500], stream[1000]; /* ext4 holds 4 KiB of xattrs */
	struct stat st;

	(void)state;
	memset(acl, 'A', sizeof(acl));
	memset(stream, 'S', sizeof(stream));
	set(from, acl_name, acl, sizeof(acl));
	set(from, "user.DOSATTRIB", "\0\0\5\0", 4);
	set(from, "user.DosStream.x:$DATA", stream, sizeof(stream));
	set(from, "user.empty", "", 0);
	set(from, SKIP, "record", 6);
	assert_int_equal(fchmod(from, 01751), 0);
	assert_int_equal(snapshot_apply_times(from, -1500000001LL, 2500000003LL), 0);
	assert_int_equal(snapshot_read(from, SKIP, &s), 0);
	assert_int_equal(s->xattr_count, 4);
	assert_null(find(s, SKIP));
	assert_int_equal(s->mode & 07777, 0751); /* no marker */
	assert_true(s->mtime_ns == -1500000001LL);
	assert_true(s->atime_ns == 2500000003LL);
	assert_true(s->btime_ns > 0 || s->btime_ns == 0);
	snapshot_split(s, 1200);
	assert_null(find(s, acl_name));
	assert_true(find(s, "security.NTACL")->is_blob);
	assert_true(find(s, "user.DosStream.x:$DATA")->is_blob);
	assert_false(find(s, "user.DOSATTRIB")->is_blob);
	again = through_bytes(s);

	set(to, "user.other", "old", 3);
	set(to, "user.DOSATTRIB", "older", 5);
	set(to, SKIP, "mine", 4);
	assert_int_equal(fchmod(to, 01600), 0); /* a stub being filled */
	assert_int_equal(snapshot_apply(to, SKIP, again), 0);
	assert_value(to, acl_name, acl, sizeof(acl));
	assert_value(to, "user.DosStream.x:$DATA", stream, sizeof(stream));
	assert_value(to, "user.DOSATTRIB", "\0\0\5\0", 4);
	assert_value(to, "user.empty", "", 0);
	if (can_set_security(to)) {
		/* The same snapshot on a host that can set security.*. */
		int other = tmp_file();

		assert_int_equal(snapshot_apply(other, OFS_RECORD_XATTR_SECURITY, again), 0);
		assert_value(other, "security.NTACL", acl, sizeof(acl));
		assert_true(fgetxattr(other, acl_name, NULL, 0) < 0);
		close(other);
	}
	assert_value(to, SKIP, "mine", 4);
	assert_int_equal(fgetxattr(to, "user.other", NULL, 0), -1);
	assert_int_equal(fstat(to, &st), 0);
	assert_int_equal(st.st_mode & 07777, 01751); /* the marker stays */
	assert_true(st.st_mtim.tv_sec == -2 && st.st_mtim.tv_nsec == 499999999);
	snapshot_free(&s);
	snapshot_free(&again);
	assert_null(again);
	close(from);
	close(to);
}

static void test_set_id_dropped(void **state)
{
	struct snapshot s = { .mode = S_IFREG | 07755, .uid = geteuid(), .gid = getegid() };
	char path[96];
	int fd = tmp_file();
	struct stat st;

	(void)state;
	assert_int_equal(snapshot_apply(fd, SKIP, &s), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	close(fd);
	snprintf(path, sizeof(path), "%s/d", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	fd = open(path, O_RDONLY | O_DIRECTORY);
	s.mode = S_IFDIR | 03771;
	assert_int_equal(snapshot_apply(fd, SKIP, &s), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 01771);
	close(fd);
	rmdir(path);
}

/* Many streams: their names alone exceed the budget. */
static void test_bundle(void **state)
{
	int from = tmp_file(), to = tmp_file();
	struct snapshot *s, *again;
	char name[64], value[40];
	size_t len;

	(void)state;
	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "user.DosStream.some stream %d:$DATA", i);
		snprintf(value, sizeof(value), "value %d", i);
		set(from, name, value, strlen(value));
	}
	assert_int_equal(snapshot_read(from, SKIP, &s), 0);
	assert_int_equal(s->xattr_count, 40);
	snapshot_split(s, 1200);
	free(snapshot_pack(s, &len));
	assert_true(len <= 1200);
	assert_int_equal(s->xattr_count, 1);
	assert_true(s->xattrs[0].is_blob && s->xattrs[0].value != NULL);
	snapshot_split(s, 1200); /* again: nothing to do */
	again = through_bytes(s);
	again->mode = 0100644;
	assert_int_equal(snapshot_apply(to, SKIP, again), 0);
	assert_value(to, "user.DosStream.some stream 39:$DATA", "value 39", 8);
	assert_value(to, "user.DosStream.some stream 0:$DATA", "value 0", 7);
	/* not fetched, or not what was asked for: fails, touches nothing */
	again->xattrs[0].value[60] ^= 1;
	assert_int_equal(snapshot_apply(to, SKIP, again), -EBADMSG);
	free(again->xattrs[0].value);
	again->xattrs[0].value = NULL;
	assert_true(snapshot_has_missing_blobs(again));
	assert_int_equal(snapshot_apply(to, SKIP, again), -ENODATA);
	snapshot_free(&s);
	snapshot_free(&again);
	close(from);
	close(to);
}

static void test_fails_closed(void **state)
{
	struct snapshot_xattr x = { .name = (char *)"security.NTACL", .len = 3 };
	struct snapshot s = { .mode = 0100666, .uid = geteuid(), .gid = getegid(), .xattrs = &x,
		.xattr_count = 1 };
	int fd = tmp_file(), ro;
	char path[64];
	struct stat st;

	(void)state;
	/* the blob with the ACL was not fetched: the mode is not opened up either */
	x.is_blob = true;
	assert_int_equal(snapshot_apply(fd, SKIP, &s), -ENODATA);
	fstat(fd, &st);
	assert_int_equal(st.st_mode & 0777, 0640);
	/* fetched, but other bytes than asked for */
	x.value = (uint8_t *)"abc";
	assert_int_equal(snapshot_apply(fd, SKIP, &s), -ENODATA);
	fstat(fd, &st);
	assert_int_equal(st.st_mode & 0777, 0640);
	/* it cannot be set */
	x.is_blob = false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_PATH);
	assert_true(ro >= 0);
	assert_int_equal(snapshot_apply(ro, SKIP, &s), -EBADF);
	if (!can_set_security(fd)) {
		assert_int_equal(snapshot_apply(fd, OFS_RECORD_XATTR_SECURITY, &s), -EPERM);
		fstat(fd, &st);
		assert_int_equal(st.st_mode & 0777, 0640);
	}
	close(ro);
	close(fd);
}

static struct snapshot *sample(uint8_t **buf, size_t *len)
{
	static const char *const names[] = { "security.NTACL", "user.a", "user.b" };
	struct snapshot *s = calloc(1, sizeof(*s));

	s->xattrs = calloc(3, sizeof(*s->xattrs));
	s->mode = 0100644;
	s->mtime_ns = 5;
	for (unsigned i = 0; i < 3; i++) {
		s->xattrs[i].name = strdup(names[i]);
		s->xattrs[i].len = 300 - 100 * i;
		s->xattrs[i].value = calloc(1, 300);
		s->xattr_count++;
	}
	*buf = snapshot_pack(s, len);
	return s;
}

static void test_damaged(void **state)
{
	struct snapshot *s, *out;
	uint8_t *buf, *copy;
	size_t len;

	(void)state;
	s = sample(&buf, &len);
	assert_int_equal(snapshot_unpack(buf, len, &out), 0);
	snapshot_free(&out);
	for (size_t cut = 0; cut < len; cut++) {
		copy = malloc(cut + 1);
		memcpy(copy, buf, cut);
		assert_int_equal(snapshot_unpack(copy, cut, &out), -EBADMSG);
		assert_null(out);
		free(copy);
	}
	copy = malloc(len + 1);
	memcpy(copy, buf, len);
	copy[len] = 0;
	assert_int_equal(snapshot_unpack(copy, len + 1, &out), -EBADMSG); /* left over */
	copy[0] = 2;
	assert_int_equal(snapshot_unpack(copy, len, &out), -EBADMSG); /* version */
	free(copy);
	free(buf);
	snapshot_free(&s);
}

/* What the bucket must not be able to put on an inode. */
static void test_names_refused(void **state)
{
	static const char *const bad[] = { "security.objectfs", "user.objectfs",
		"security.capability", "trusted.overlay.opaque", "security.NTACL2", "user.", "usera",
		"system.nfs4_acl", "security.selinux" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct snapshot_xattr x = { .name = (char *)bad[i], .value = (uint8_t *)"v", .len = 1 };
		struct snapshot s = { .xattrs = &x, .xattr_count = 1 }, *out;
		size_t len;
		uint8_t *buf = snapshot_pack(&s, &len);

		assert_int_equal(snapshot_unpack(buf, len, &out), -EBADMSG);
		free(buf);
	}
}

static void test_order_and_twice(void **state)
{
	struct snapshot_xattr x[2] = {
		{ .name = (char *)"user.b", .value = (uint8_t *)"v", .len = 1 },
		{ .name = (char *)"user.a", .value = (uint8_t *)"v", .len = 1 },
	};
	struct snapshot s = { .xattrs = x, .xattr_count = 2 }, *out;
	size_t len;
	uint8_t *buf = snapshot_pack(&s, &len);

	(void)state;
	assert_int_equal(snapshot_unpack(buf, len, &out), -EBADMSG);
	free(buf);
	x[1].name = (char *)"user.b";
	buf = snapshot_pack(&s, &len);
	assert_int_equal(snapshot_unpack(buf, len, &out), -EBADMSG);
	free(buf);
}

static void test_split(void **state)
{
	struct snapshot *s;
	uint8_t *buf;
	size_t len, packed;

	(void)state;
	s = sample(&buf, &packed);
	snapshot_split(s, 4096);
	for (unsigned i = 0; i < 3; i++) {
		assert_false(s->xattrs[i].is_blob); /* 300 of an ACL, 200, 100: all below the limits */
	}
	snapshot_split(s, packed - 1); /* the largest goes */
	assert_true(s->xattrs[0].is_blob);
	assert_false(s->xattrs[1].is_blob);
	free(buf);
	buf = snapshot_pack(s, &len);
	assert_true(len <= packed - 1);
	free(buf);
	snapshot_free(&s);
}

static void test_create_time(void **state)
{
	/* as smbd 4.17 writes it for a directory made at 2024-01-01T00:00:00.5Z */
	static const uint8_t smbd[24] = {0, 0, 5, 0, 5, 0, 0, 0, 0x11, 0, 0, 0, 0x10, 0, 0, 0, 0x40,
		0x0b, 0xd6, 0x76, 0x45, 0x3c, 0xda, 0x01};
	uint8_t value[64];
	int fd = tmp_file();

	(void)state;
	assert_int_equal(snapshot_create_time_set(fd, 1704067200500000000LL), 0);
	assert_int_equal(fgetxattr(fd, "user.DOSATTRIB", value, sizeof(value)), sizeof(smbd));
	assert_memory_equal(value, smbd, sizeof(smbd));
	assert_int_equal(snapshot_create_time_set(fd, 1), 0); /* what is there stays */
	assert_int_equal(fgetxattr(fd, "user.DOSATTRIB", value, sizeof(value)), sizeof(smbd));
	assert_memory_equal(value, smbd, sizeof(smbd));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_set_id_dropped),
		cmocka_unit_test(test_bundle),
		cmocka_unit_test(test_fails_closed),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_names_refused),
		cmocka_unit_test(test_order_and_twice),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_create_time),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
