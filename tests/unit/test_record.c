/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Records, object ids and CRC-32C: layout, damage, copies, descriptors opened with O_PATH. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <cmocka.h>
#include "shared/record.h"
#include "tests/lib/scratch.h"

static char dir[4096];
static int dirfd_tmp = -1;
static struct ofs_record_io io;

static struct ofs_record sample(void)
{
	struct ofs_record rec = {
		.flags = OFS_REC_STUB | OFS_REC_KNOWN,
		.data_gen = 7,
		.meta_gen = 9,
		.size = 1ull << 40,
		.mtime_ns = -5,
		.atime_ns = 1700000000123456789,
		.ctime_clean_ns = 3,
		.listed_ns = 4,
	};

	for (size_t i = 0; i < sizeof(rec.oid.bytes); i++) {
		rec.oid.bytes[i] = (uint8_t)(i * 17);
	}
	return rec;
}

static void assert_same(const struct ofs_record *a, const struct ofs_record *b)
{
	uint8_t x[OFS_RECORD_BYTES], y[OFS_RECORD_BYTES];

	ofs_record_encode(a, x);
	ofs_record_encode(b, y);
	assert_memory_equal(x, y, sizeof(x));
}

/* RFC 3720 appendix B.4 */
static void test_crc32c_vectors(void **state)
{
	uint8_t buf[32];

	(void)state;
	memset(buf, 0, sizeof(buf));
	assert_int_equal(ofs_crc32c(0, buf, 32), 0x8a9136aa);
	memset(buf, 0xff, sizeof(buf));
	assert_int_equal(ofs_crc32c(0, buf, 32), 0x62a8ab43);
	for (unsigned i = 0; i < 32; i++) {
		buf[i] = (uint8_t)i;
	}
	assert_int_equal(ofs_crc32c(0, buf, 32), 0x46dd794e);
	assert_int_equal(ofs_crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(ofs_crc32c(0, "", 0), 0);
}

static void test_crc32c_pieces(void **state)
{
	uint8_t buf[100];
	uint32_t whole;

	(void)state;
	for (unsigned i = 0; i < sizeof(buf); i++) {
		buf[i] = (uint8_t)(i * 31 + 7);
	}
	whole = ofs_crc32c(0, buf, sizeof(buf));
	for (size_t cut = 0; cut <= sizeof(buf); cut++) {
		assert_int_equal(ofs_crc32c(ofs_crc32c(0, buf, cut), buf + cut, sizeof(buf) - cut),
				whole);
	}
}

static void test_encode_layout(void **state)
{
	struct ofs_record rec = sample(), back;
	uint8_t buf[OFS_RECORD_BYTES];

	(void)state;
	rec.binding = 0x1122334455667788u;
	ofs_record_encode(&rec, buf);
	assert_memory_equal(buf, "OFSR\x01\x00\x00\x00", 8);
	assert_int_equal(buf[8], OFS_REC_STUB | OFS_REC_KNOWN);
	assert_memory_equal(buf + 16, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
	assert_memory_equal(buf + 24, rec.oid.bytes, 16);
	assert_int_equal(ofs_record_decode(buf, sizeof(buf), &back), 0);
	assert_same(&rec, &back);
	assert_int_equal(back.size, rec.size);
	assert_int_equal(back.mtime_ns, -5);
	assert_int_equal(back.binding, rec.binding);
}

static void test_decode_damage(void **state)
{
	struct ofs_record rec = sample(), back;
	uint8_t buf[OFS_RECORD_BYTES + 1];

	(void)state;
	ofs_record_encode(&rec, buf);
	for (size_t bit = 0; bit < 8 * OFS_RECORD_BYTES; bit++) {
		buf[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		assert_int_equal(ofs_record_decode(buf, OFS_RECORD_BYTES, &back), -EBADMSG);
		buf[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	for (size_t len = 0; len < OFS_RECORD_BYTES; len++) {
		assert_int_equal(ofs_record_decode(buf, len, &back), -EBADMSG);
	}
	assert_int_equal(ofs_record_decode(buf, OFS_RECORD_BYTES + 1, &back), -EBADMSG);
}

static void test_oid(void **state)
{
	struct ofs_oid a, b;
	char hex[OFS_OID_HEX_BYTES];

	(void)state;
	ofs_oid_new(&a);
	ofs_oid_new(&b);
	assert_false(ofs_oid_is_none(&a));
	assert_false(ofs_oid_equal(&a, &b));
	ofs_oid_hex(&a, hex);
	assert_int_equal(strlen(hex), 32);
	assert_true(ofs_oid_parse(hex, &b));
	assert_true(ofs_oid_equal(&a, &b));
	assert_true(ofs_oid_parse("00000000000000000000000000000000", &b));
	assert_true(ofs_oid_is_none(&b));
	assert_false(ofs_oid_parse("", &b));
	assert_false(ofs_oid_parse("0123456789abcdef0123456789abcde", &b));
	assert_false(ofs_oid_parse("0123456789abcdef0123456789abcdef0", &b));
	assert_false(ofs_oid_parse("0123456789abcdef0123456789ABCDEF", &b));
	assert_false(ofs_oid_parse("0123456789abcdef0123456789abcdeg", &b));
}

/* --- on a file system --- */

static int setup(void **state)
{
	int fd;

	(void)state;
	scratch_make(dir, sizeof(dir), "record");
	dirfd_tmp = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	memset(io.cache_id, 0x42, sizeof(io.cache_id));
	fd = openat(dirfd_tmp, "probe", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (dirfd_tmp < 0 || fd < 0) {
		return -1;
	}
	if (fsetxattr(fd, OFS_RECORD_XATTR_SECURITY, "x", 1, 0) == 0) {
		strcpy(io.xattr, OFS_RECORD_XATTR_SECURITY);
	} else if (fsetxattr(fd, OFS_RECORD_XATTR_USER, "x", 1, 0) == 0) {
		strcpy(io.xattr, OFS_RECORD_XATTR_USER);
	}
	close(fd);
	unlinkat(dirfd_tmp, "probe", 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(dirfd_tmp);
	scratch_remove(dir);
	return 0;
}

#define NEED_XATTR()                                                                               \
	if (io.xattr[0] == '\0') {                                                                 \
		print_message("no xattrs on %s\n", dir);                                           \
		skip();                                                                            \
	}

static void test_set_and_get(void **state)
{
	struct ofs_record rec = sample(), back;
	int fd, path_fd;

	(void)state;
	NEED_XATTR();
	fd = openat(dirfd_tmp, "a", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ofs_record_get(&io, fd, &back), -ENODATA);
	assert_int_equal(ofs_record_set(&io, fd, &rec), 0);
	assert_int_not_equal(rec.binding, 0);
	assert_int_equal(ofs_record_get(&io, fd, &back), 0);
	assert_same(&rec, &back);
	/* O_PATH, for reading and writing, also when the name is gone */
	path_fd = openat(dirfd_tmp, "a", O_PATH | O_CLOEXEC);
	assert_true(path_fd >= 0);
	assert_int_equal(ofs_record_get(&io, path_fd, &back), 0);
	assert_same(&rec, &back);
	assert_int_equal(ofs_record_get_at(&io, dirfd_tmp, "a", &back), 0);
	assert_same(&rec, &back);
	assert_int_equal(renameat(dirfd_tmp, "a", dirfd_tmp, "b"), 0);
	assert_int_equal(ofs_record_get(&io, path_fd, &back), 0);
	assert_int_equal(unlinkat(dirfd_tmp, "b", 0), 0);
	rec.data_gen = 8;
	assert_int_equal(ofs_record_set(&io, path_fd, &rec), 0);
	assert_int_equal(ofs_record_get(&io, fd, &back), 0);
	assert_int_equal(back.data_gen, 8);
	close(path_fd);
	close(fd);
}

static void test_directory(void **state)
{
	struct ofs_record rec = sample(), back;
	int fd;

	(void)state;
	NEED_XATTR();
	rec.flags = OFS_REC_DIR | OFS_REC_LISTED;
	assert_int_equal(mkdirat(dirfd_tmp, "d", 0700), 0);
	fd = openat(dirfd_tmp, "d", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(ofs_record_set(&io, fd, &rec), 0);
	close(fd);
	assert_int_equal(ofs_record_get_at(&io, dirfd_tmp, "d", &back), 0);
	assert_same(&rec, &back);
}

/* cp -a and rsync -X copy the xattr: it must be seen not to belong. */
static void test_copy_is_seen(void **state)
{
	struct ofs_record rec = sample(), back;
	struct ofs_record_io other = io;
	uint8_t raw[OFS_RECORD_BYTES];
	int a, b;

	(void)state;
	NEED_XATTR();
	a = openat(dirfd_tmp, "a", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	b = openat(dirfd_tmp, "b", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(a >= 0 && b >= 0);
	assert_int_equal(ofs_record_set(&io, a, &rec), 0);
	assert_int_equal(fgetxattr(a, io.xattr, raw, sizeof(raw)), OFS_RECORD_BYTES);
	assert_int_equal(fsetxattr(b, io.xattr, raw, sizeof(raw), 0), 0);
	assert_int_equal(ofs_record_get(&io, b, &back), -EXDEV);
	assert_same(&rec, &back); /* filled all the same */
	/* another cache directory: another binding */
	other.cache_id[0] ^= 1;
	assert_int_equal(ofs_record_get(&other, a, &back), -EXDEV);
	assert_int_equal(ofs_record_get(&io, a, &back), 0);
	close(a);
	close(b);
}

static void test_damaged_xattr(void **state)
{
	struct ofs_record rec = sample(), back;
	uint8_t raw[OFS_RECORD_BYTES + 4] = {0};
	int fd;

	(void)state;
	NEED_XATTR();
	fd = openat(dirfd_tmp, "a", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(ofs_record_set(&io, fd, &rec), 0);
	assert_int_equal(fgetxattr(fd, io.xattr, raw, sizeof(raw)), OFS_RECORD_BYTES);
	assert_int_equal(fsetxattr(fd, io.xattr, raw, sizeof(raw), 0), 0);
	assert_int_equal(ofs_record_get(&io, fd, &back), -EBADMSG); /* longer */
	assert_int_equal(fsetxattr(fd, io.xattr, raw, 5, 0), 0);
	assert_int_equal(ofs_record_get(&io, fd, &back), -EBADMSG); /* shorter */
	assert_int_equal(fsetxattr(fd, io.xattr, "", 0, 0), 0);
	assert_int_equal(ofs_record_get(&io, fd, &back), -EBADMSG);
	close(fd);
	assert_int_equal(ofs_record_get(&io, fd, &back), -EBADF);
	assert_int_equal(ofs_record_get_at(&io, dirfd_tmp, "nothing", &back), -ENOENT);
}

static void test_symlink_not_followed(void **state)
{
	struct ofs_record rec = sample(), back;
	int fd, ret;

	(void)state;
	NEED_XATTR();
	fd = openat(dirfd_tmp, "a", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(ofs_record_set(&io, fd, &rec), 0);
	close(fd);
	unlinkat(dirfd_tmp, "b", 0);
	assert_int_equal(symlinkat("a", dirfd_tmp, "b"), 0);
	ret = ofs_record_get_at(&io, dirfd_tmp, "b", &back);
	assert_true(ret == -ENODATA || ret == -EPERM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc32c_vectors),
		cmocka_unit_test(test_crc32c_pieces),
		cmocka_unit_test(test_encode_layout),
		cmocka_unit_test(test_decode_damage),
		cmocka_unit_test(test_oid),
		cmocka_unit_test(test_set_and_get),
		cmocka_unit_test(test_directory),
		cmocka_unit_test(test_copy_is_seen),
		cmocka_unit_test(test_damaged_xattr),
		cmocka_unit_test(test_symlink_not_followed),
	};

	return cmocka_run_group_tests_name("record", tests, setup, teardown);
}
