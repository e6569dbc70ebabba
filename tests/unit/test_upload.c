/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sizes of parts: up to the largest object that S3 takes. What an upload makes of each answer: parts that were
 * refused are ended, what may be an object is left alone. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_part_bytes),
		cmocka_unit_test(test_open_interval),
		cmocka_unit_test(test_outcomes),
	};

	return cmocka_run_group_tests_name("upload", tests, NULL, NULL);
}
