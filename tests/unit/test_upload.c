/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sizes of parts: up to the largest object that S3 takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cached/base/clock.h"
#include "cached/base/conf.h"
#include "cached/upload/upload.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_part_bytes),
		cmocka_unit_test(test_open_interval),
	};

	return cmocka_run_group_tests_name("upload", tests, NULL, NULL);
}
