/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sizes of parts: up to the largest object that S3 takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_part_bytes),
	};

	return cmocka_run_group_tests_name("upload", tests, NULL, NULL);
}
