/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sizes of parts: up to the largest object that S3 takes; which of them are sent. What an upload makes of each
 * answer: parts that were refused are ended, what may be an object is left alone. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "cached/base/clock.h"
#include "cached/base/conf.h"
#include "cached/upload/upload.h"
#include "tests/lib/volume_fixture.h"

#define MIB (1LL << 20)
#define GIB (1LL << 30)
#define TB 1000000000000LL
#define OBJECT_MAX_BYTES 53687091200000LL /* 10,000 parts of 5 GiB: "50 TB" */

static int64_t parts(int64_t size, int64_t each)
{
	return (size + each - 1) / each;
}

static void test_part_bytes(void **state)
{
	static const int64_t sizes[] = {1, 8 * MIB, 64 * MIB + 1, 5 * GIB, 70 * GIB, TB, 5 * TB, 48 * TB,
			49 * TB, 50 * TB, OBJECT_MAX_BYTES - 1, OBJECT_MAX_BYTES};
	struct conf_volume conf = {.part_size_bytes = 8 * MIB};

	(void)state;
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int64_t each = upload_part_bytes(&conf, sizes[i]);

		assert_true(each >= conf.part_size_bytes && each <= OBJ_PUT_MAX_BYTES);
		assert_true(parts(sizes[i], each) <= OBJ_PARTS_MAX);
	}
	assert_int_equal(upload_part_bytes(&conf, 70 * GIB), 8 * MIB);
	assert_int_equal(upload_part_bytes(&conf, 9000 * 16 * MIB), 16 * MIB);
	conf.part_size_bytes = 64 * MIB;
	assert_int_equal(upload_part_bytes(&conf, 70 * GIB), 64 * MIB);
	conf.part_size_bytes = 5 * GIB;
	assert_int_equal(upload_part_bytes(&conf, OBJECT_MAX_BYTES), 5 * GIB);
}

/* The limit, or what 10 MB take a second; versions of more than 1 GiB only at close. */
static void test_open_interval(void **state)
{
	struct conf_volume conf = {.settle_limit_ns = 60 * NS_PER_S};

	(void)state;
	assert_int_equal(upload_open_interval_ns(&conf, 0, false), 60 * NS_PER_S);
	assert_int_equal(upload_open_interval_ns(&conf, 600 * 1000000LL, false), 60 * NS_PER_S);
	assert_int_equal(upload_open_interval_ns(&conf, 610 * 1000000LL, false), 61 * NS_PER_S);
	assert_int_equal(upload_open_interval_ns(&conf, 100 * 1000000000LL, false), 10000 * NS_PER_S);
	assert_int_equal(upload_open_interval_ns(&conf, OBJECT_MAX_BYTES, false), OBJECT_MAX_BYTES / 10000000 * NS_PER_S);
	assert_int_equal(upload_open_interval_ns(&conf, GIB, true), 107 * NS_PER_S);
	assert_true(upload_open_interval_ns(&conf, GIB + 1, true) == INT64_MAX);
	conf.settle_limit_ns = 3600 * NS_PER_S;
	assert_int_equal(upload_open_interval_ns(&conf, GIB, true), 3600 * NS_PER_S);
}

static void uploaded(struct upload *u)
{
	fixture_answer((int)u->status, u->message, u->arg);
}

static enum obj_status send(struct fixture *f, int64_t size, const char *if_match)
{
	struct upload *u = upload_new(f, f->v, "p/k");
	int fd = memfd_create("sent", MFD_CLOEXEC), answers = f->answers;

	assert_true(fd >= 0 && ftruncate(fd, size) == 0);
	u->fd = fd;
	u->size = size;
	u->if_match = if_match != NULL ? talloc_strdup(u, if_match) : NULL;
	u->done = uploaded;
	u->arg = f;
	ofs_oid_new(&u->meta.oid);
	u->meta.snapshot = calloc(1, sizeof(*u->meta.snapshot));
	upload_start(u);
	fixture_advance(f, 1);
	fixture_wait(f, answers + 1);
	close(fd);
	talloc_free(u);
	return (enum obj_status)f->status;
}

static bool is_there(struct fixture *f)
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, "p/k");
	bool there = fixture_run(f, req) == OBJ_OK;

	objstore_req_free(&req);
	return there;
}

/* S3.md's outcomes, as they come out of an upload: who asked looks what is there, or sends all of it again. */
static void test_outcomes(void **state)
{
	static const struct {
		enum obj_op op;
		enum obj_status answer, want;
		bool ended; /* the parts are */
		bool there; /* the object is, whatever was answered */
	} rows[] = {
		{OBJ_PUT, OBJ_PRECONDITION, OBJ_PRECONDITION, false, false},
		{OBJ_PUT, OBJ_CONFLICT, OBJ_CONFLICT, false, false},
		{OBJ_PUT, OBJ_NOT_FOUND, OBJ_NOT_FOUND, false, false},
		{OBJ_PUT, OBJ_UNKNOWN, OBJ_UNKNOWN, false, true},
		{OBJ_MPU_CREATE, OBJ_UNKNOWN, OBJ_AWAY, false, false}, /* no object comes of it */
		{OBJ_MPU_PART, OBJ_AWAY, OBJ_AWAY, true, false},
		{OBJ_MPU_COMPLETE, OBJ_PRECONDITION, OBJ_PRECONDITION, true, false},
		{OBJ_MPU_COMPLETE, OBJ_CONFLICT, OBJ_CONFLICT, true, false}, /* none of its parts is of use */
		{OBJ_MPU_COMPLETE, OBJ_NOT_FOUND, OBJ_NOT_FOUND, true, false},
		{OBJ_MPU_COMPLETE, OBJ_UNKNOWN, OBJ_UNKNOWN, false, true},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fixture *f = fixture_new();
		int64_t size = rows[i].op == OBJ_PUT ? 5 : 64 * MIB + 1;

		f->conf.part_size_bytes = 32 * MIB;
		f->store->s.caps = (struct obj_caps){.fence_class = 3, .put_if_match = true,
			.put_if_none_match = true, .complete_if_match = true, .complete_if_none_match = true};
		f->store->fail_op = rows[i].op;
		f->store->fail_with = rows[i].answer;
		f->store->fail_count = 1;
		assert_int_equal(send(f, size, NULL), rows[i].want);
		assert_int_equal(f->store->seen[OBJ_MPU_ABORT], rows[i].ended);
		assert_int_equal(f->store->seen[rows[i].op], rows[i].op == OBJ_MPU_PART ? 3 : 1);
		assert_int_equal(is_there(f), rows[i].there);
		assert_int_equal(send(f, 5, NULL), rows[i].there ? OBJ_PRECONDITION : OBJ_OK);
		fixture_free(&f);
	}
}

static struct blocks *numbered(int64_t size)
{
	struct blocks *b = blocks_new(size, 8 * MIB);

	assert_non_null(b);
	for (unsigned i = 0; i < b->count; i++) {
		memset(b->sha256[i], (int)i + 1, 32);
	}
	return b;
}

/* The parts are the file, each byte once, in order; what is copied is the same, what is sent is one block. */
static void check_plan(const struct blocks *b, const bool *same, int64_t run, const char *want)
{
	struct blocks_part parts[64];
	unsigned n = blocks_plan(b, same, run, parts);
	char said[256] = "";
	int64_t at = 0;

	for (unsigned i = 0; i < n; i++) {
		size_t len = strlen(said);

		assert_int_equal(parts[i].offset, at);
		assert_true(parts[i].length > 0 && (i + 1 == n || parts[i].length >= OBJ_PART_MIN_BYTES));
		for (int64_t p = at; p < at + parts[i].length; p += b->each) {
			assert_int_equal(same[p / b->each], parts[i].copy);
		}
		at += parts[i].length;
		snprintf(said + len, sizeof(said) - len, "%s%s%lld", i == 0 ? "" : " ", parts[i].copy ? "c" : "s",
				(long long)(parts[i].length / MIB));
	}
	assert_int_equal(at, b->size);
	assert_string_equal(said, want);
}

static void test_plan(void **state)
{
	const bool none[10] = {false}, all[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
	const bool some[10] = {1, 1, 1, 0, 0, 1, 1, 1, 1, 0}, other[10] = {0, 1, 0, 1, 1, 1, 1, 1, 1, 1};
	struct blocks *b = numbered(73 * MIB);

	(void)state;
	assert_int_equal(b->count, 10);
	check_plan(b, none, 256 * MIB, "s8 s8 s8 s8 s8 s8 s8 s8 s8 s1");
	check_plan(b, all, 256 * MIB, "c73");
	check_plan(b, all, 72 * MIB, "c72 c1");
	check_plan(b, some, 256 * MIB, "c24 s8 s8 c32 s1");
	check_plan(b, some, 17 * MIB, "c16 c8 s8 s8 c16 c16 s1");
	check_plan(b, other, 0, "s8 c8 s8 c8 c8 c8 c8 c8 c8 c1");
	blocks_free(&b);
	assert_null(blocks_new(0, 8 * MIB));
	assert_null(blocks_new(8 * MIB, 4 * MIB)); /* no part may be so small */
	assert_null(blocks_new(8 * MIB, 6 * GIB));
	assert_null(blocks_new(OBJECT_MAX_BYTES, 5 * GIB - 1)); /* one too many */
	assert_null(blocks_new(-1, 8 * MIB));
	b = blocks_new(OBJECT_MAX_BYTES, 5 * GIB);
	assert_int_equal(b->count, OBJ_PARTS_MAX);
	blocks_free(&b);
}

static void test_blocks_file(void **state)
{
	struct blocks *b = numbered(73 * MIB), *c;
	uint8_t *data;
	size_t len;

	(void)state;
	b->etag = strdup("e-10");
	b->version = strdup("v 1");
	data = blocks_pack(b, &len);
	assert_non_null(data);
	c = blocks_unpack(data, len);
	assert_non_null(c);
	assert_int_equal(c->size, b->size);
	assert_int_equal(c->each, b->each);
	assert_string_equal(c->etag, "e-10");
	assert_string_equal(c->version, "v 1");
	assert_memory_equal(c->sha256, b->sha256, 320);
	blocks_free(&c);
	for (size_t i = 0; i < len; i++) { /* any byte other, or missing */
		data[i] ^= 1;
		assert_null(blocks_unpack(data, len));
		data[i] ^= 1;
		assert_null(blocks_unpack(data, i));
	}
	blocks_free(&b);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_part_bytes),
		cmocka_unit_test(test_open_interval),
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_plan),
		cmocka_unit_test(test_blocks_file),
	};

	return cmocka_run_group_tests_name("upload", tests, NULL, NULL);
}
