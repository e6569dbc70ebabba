/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Duty: a mirror and its bucket know each other: created once, refused when wrong, emptied or too
 * new. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cached/base/log.h"
#include "cached/core/volrec.h"
#include "tests/lib/volume_fixture.h"

#define KEY "p/.objectfs/volume"

static int setup(void **state)
{
	struct fixture *f = fixture_new();

	memset(&f->v->uuid, 0, sizeof(f->v->uuid));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fixture_free(&f);
	return 0;
}

static int open_volume(struct fixture *f)
{
	f->answers = 0;
	volrec_open(f->v, fixture_answer, f);
	assert_int_equal(f->answers, 0);
	fixture_wait(f, 1);
	return f->status;
}

static void test_create(void **state)
{
	struct fixture *f = *state;
	struct ofs_oid uuid;
	char hex[OFS_OID_HEX_BYTES], *text;

	assert_int_equal(open_volume(f), 0);
	uuid = f->v->uuid;
	assert_false(ofs_oid_is_none(&uuid));
	ofs_oid_hex(&uuid, hex);
	assert_string_equal(index_kv_get(f->v->index, "uuid"), hex);
	assert_int_equal(f->v->created_ns, 1000 * NS_PER_S);
	text = fixture_get(f, KEY);
	assert_non_null(strstr(text, "\"format\": \"objectfs volume\""));
	assert_non_null(strstr(text, hex));
	assert_non_null(strstr(text, "\"created\": \"1970-01-01T00:16:40Z\""));
	free(text);
	/* after a restart, and after the loss of the disk */
	memset(&f->v->uuid, 0, sizeof(f->v->uuid));
	assert_int_equal(open_volume(f), 0);
	assert_true(ofs_oid_equal(&uuid, &f->v->uuid));
	fixture_index_new(f);
	memset(&f->v->uuid, 0, sizeof(f->v->uuid));
	f->v->created_ns = 0;
	f->clock.now_ns += NS_PER_S;
	assert_int_equal(open_volume(f), 0);
	assert_true(ofs_oid_equal(&uuid, &f->v->uuid));
	assert_int_equal(f->v->created_ns, 1000 * NS_PER_S);
	assert_string_equal(index_kv_get(f->v->index, "uuid"), hex);
}

static void test_emptied(void **state)
{
	struct fixture *f = *state;
	char hex[OFS_OID_HEX_BYTES];

	assert_int_equal(open_volume(f), 0);
	ofs_oid_hex(&f->v->uuid, hex);
	assert_int_equal(fixture_delete(f, KEY), OBJ_OK);
	assert_int_equal(open_volume(f), -ESTALE);
	assert_non_null(strstr(f->message, hex));
	assert_non_null(strstr(f->message, "nothing is removed locally"));
	assert_null(fixture_get(f, KEY)); /* and none was made */
}

static void test_wrong_bucket(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(open_volume(f), 0);
	index_kv_set(f->v->index, "uuid", "00000000000000000000000000000abc");
	assert_int_equal(open_volume(f), -ESTALE);
	assert_non_null(strstr(f->message, "00000000000000000000000000000abc"));
	assert_non_null(strstr(f->message, "wrong bucket"));
}

static void test_race(void **state)
{
	struct fixture *f = *state;
	struct ofs_oid first;

	/* two nodes find no record at the same time; so do two asks here */
	volrec_open(f->v, fixture_answer, f);
	volrec_open(f->v, fixture_answer, f);
	fixture_wait(f, 1);
	assert_int_equal(f->status, 0);
	first = f->v->uuid;
	fixture_wait(f, 2);
	assert_int_equal(f->status, 0);
	assert_true(ofs_oid_equal(&first, &f->v->uuid));
	assert_int_equal(f->store->seen[OBJ_PUT], 2);
}

static void test_answer_lost(void **state)
{
	struct fixture *f = *state;

	f->store->fail_op = OBJ_PUT;
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_UNKNOWN;
	assert_int_equal(open_volume(f), 0);
	assert_int_equal(f->store->seen[OBJ_PUT], 1);
}

static void test_store_says_no(void **state)
{
	static const struct {
		enum obj_status status;
		int want;
	} cases[] = { { OBJ_AWAY, -EAGAIN }, { OBJ_DENIED, -EACCES }, { OBJ_NO_BUCKET, -ENOENT },
		{ OBJ_INVALID, -EIO } };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (int op = 0; op < 2; op++) {
			f->store->fail_op = op == 0 ? OBJ_GET : OBJ_PUT;
			f->store->fail_count = 1;
			f->store->fail_with = cases[i].status;
			assert_int_equal(open_volume(f), cases[i].want);
			assert_true(f->message[0] != '\0');
			assert_null(index_kv_get(f->v->index, "uuid"));
		}
	}
}

#define UUID "\"uuid\": \"0123456789abcdef0123456789abcdef\""
#define FORMAT "{\"format\": \"objectfs volume\", "

static void test_texts(void **state)
{
	static const struct {
		const char *text;
		int want;
	} cases[] = {
		{ FORMAT UUID ", \"read_version\": 1, \"write_version\": 1}", 0 },
		{ FORMAT UUID ", \"read_version\": 1, \"write_version\": 1, \"new\": {}}", 0 },
		{ FORMAT UUID ", \"read_version\": 2, \"write_version\": 2}", -EPROTONOSUPPORT },
		{ FORMAT UUID ", \"read_version\": 1, \"write_version\": 2}", -EROFS },
		{ FORMAT UUID ", \"read_version\": 1, \"write_version\": 1, \"features\": [\"x\"]}",
				-EPROTONOSUPPORT },
		{ FORMAT UUID ", \"read_version\": 1, \"write_version\": 1, \"features\": [1]}",
				-EPROTONOSUPPORT },
		{ FORMAT UUID ", \"read_version\": 1, \"write_version\": 1,"
			       " \"features\": [\"write-x\"]}",
				-EROFS },
		{ FORMAT UUID "}", -EBADMSG },
		{ FORMAT "\"uuid\": \"0123\", \"read_version\": 1, \"write_version\": 1}", -EBADMSG },
		{ "{" UUID ", \"read_version\": 1, \"write_version\": 1}", -EBADMSG },
		{ "", -EBADMSG },
		{ "[]", -EBADMSG },
		{ "{", -EBADMSG },
		{ "<html>", -EBADMSG },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(fixture_put(f, KEY, cases[i].text), OBJ_OK);
		if (open_volume(f) != cases[i].want) {
			fail_msg("%s: %d %s", cases[i].text, f->status, f->message);
		}
		assert_true(f->status == 0 || f->message[0] != '\0');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_create, setup, teardown),
		cmocka_unit_test_setup_teardown(test_emptied, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_bucket, setup, teardown),
		cmocka_unit_test_setup_teardown(test_race, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answer_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_store_says_no, setup, teardown),
		cmocka_unit_test_setup_teardown(test_texts, setup, teardown),
	};

	log_open("/dev/null", LOG_LVL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
