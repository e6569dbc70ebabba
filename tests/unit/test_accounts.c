/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Duty: whose accounts a volume's rights name is kept in its record, by additions alone; who would have
 * another's rights stays out. On the directory store, with its answers lost and refused. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cached/base/log.h"
#include "cached/core/accounts.h"
#include "cached/core/volrec.h"
#include "tests/lib/volume_fixture.h"

#define KEY "p/.objectfs/volume"
#define MACHINE "S-1-5-21-1-2-3"
#define OTHER "S-1-5-21-4-5-6"
#define PAIRS(text) text, sizeof(text) - 1

static int setup(void **state)
{
	struct fixture *f = fixture_new();

	memset(&f->v->uuid, 0, sizeof(f->v->uuid));
	f->v->accounts = accounts_new(f->v);
	volrec_open(f->v, fixture_answer, f);
	fixture_wait(f, 1);
	memset(f->store->seen, 0, sizeof(f->store->seen));
	*state = f;
	return f->status;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fixture_free(&f);
	return 0;
}

static int told(struct fixture *f, const char *sid, const char *names, size_t len)
{
	char *message = NULL;
	int ret = accounts_told(f->v->accounts, false, sid, names, len, f, &message);

	assert_true((ret == -EACCES) == (message != NULL));
	snprintf(f->message, sizeof(f->message), "%s", message != NULL ? message : "");
	/* what came of it */
	while (f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	return ret;
}

/* The daemon is started again, perhaps on another machine. */
static void again(struct fixture *f)
{
	talloc_free(f->v->accounts);
	f->v->accounts = accounts_new(f->v);
	f->answers = 0;
	volrec_open(f->v, fixture_answer, f);
	fixture_wait(f, 1);
	assert_int_equal(f->status, 0);
}

static bool record_has(struct fixture *f, const char *text)
{
	char *record = fixture_get(f, KEY);
	bool has = strstr(record, text) != NULL;

	free(record);
	return has;
}

#define ALICE MACHINE "-1000\0alice\0"
#define BOB MACHINE "-1001\0bob\0"
#define STAFF "S-1-22-2-50\0staff\0"

static void test_kept(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(told(f, MACHINE, PAIRS(ALICE STAFF)), 0);
	assert_true(record_has(f, "\"machine_sid\": \"" MACHINE "\""));
	assert_true(record_has(f, "\"" MACHINE "-1000\": \"alice\""));
	assert_true(record_has(f, "\"S-1-22-2-50\": \"staff\""));
	assert_true(record_has(f, "\"format\": \"objectfs volume\""));
	assert_int_equal(f->store->seen[OBJ_PUT], 1);
	/* what is known costs nothing */
	assert_int_equal(told(f, MACHINE, PAIRS(ALICE STAFF)), 0);
	assert_int_equal(f->store->seen[OBJ_PUT], 1);
	assert_int_equal(f->store->seen[OBJ_GET], 1);
	assert_int_equal(told(f, MACHINE, PAIRS(BOB)), 0);
	assert_true(record_has(f, "alice") && record_has(f, "bob"));
	assert_null(accounts_other(f->v->accounts, f));
	assert_null(accounts_renamed(f->v->accounts, f));
}

static void test_another_machine(void **state)
{
	struct fixture *f = *state;
	const char *why;

	assert_int_equal(told(f, MACHINE, PAIRS(ALICE)), 0);
	again(f);
	assert_int_equal(told(f, OTHER, PAIRS(OTHER "-1000\0carol\0")), 0);
	why = accounts_other(f->v->accounts, f);
	assert_non_null(why);
	assert_non_null(strstr(why, "net setlocalsid " MACHINE));
	assert_false(record_has(f, "carol"));
	/* meant so */
	f->answers = 0;
	accounts_accept(f->v->accounts, fixture_answer, f);
	fixture_wait(f, 1);
	assert_int_equal(f->status, 0);
	assert_true(record_has(f, OTHER) && record_has(f, "carol"));
	assert_false(record_has(f, "alice"));
	assert_null(accounts_other(f->v->accounts, f));
}

static void test_anothers_rights(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(told(f, MACHINE, PAIRS(ALICE STAFF)), 0);
	again(f);
	/* made again in another order */
	assert_int_equal(told(f, MACHINE, PAIRS(MACHINE "-1000\0bob\0")), -EACCES);
	assert_non_null(strstr(f->message, "alice"));
	assert_non_null(strstr(f->message, "bob"));
	assert_non_null(accounts_renamed(f->v->accounts, f));
	assert_true(record_has(f, "alice"));
	assert_false(record_has(f, "bob"));
	/* a number of a group, whatever the machine */
	assert_int_equal(told(f, OTHER, PAIRS("S-1-22-2-50\0games\0")), -EACCES);
	assert_int_equal(told(f, MACHINE, PAIRS(ALICE STAFF)), 0);
	assert_null(accounts_renamed(f->v->accounts, f));
	/* renamed */
	assert_int_equal(told(f, MACHINE, PAIRS(MACHINE "-1000\0alicia\0")), -EACCES);
	f->answers = 0;
	accounts_accept(f->v->accounts, fixture_answer, f);
	fixture_wait(f, 1);
	assert_int_equal(told(f, MACHINE, PAIRS(MACHINE "-1000\0alicia\0")), 0);
	assert_true(record_has(f, "alicia"));
}

/* Made again under another number: no danger, but files of the old one are nobody's. */
static void test_moved(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(told(f, MACHINE, PAIRS(ALICE "S-1-22-1-30\0alice\0")), 0);
	again(f);
	assert_int_equal(told(f, MACHINE, PAIRS(ALICE "S-1-22-1-31\0alice\0S-1-22-2-31\0alice\0")), 0);
	assert_non_null(strstr(accounts_other(f->v->accounts, f), "alice was S-1-22-1-30 when"));
	assert_false(record_has(f, "S-1-22-1-31"));
	assert_true(record_has(f, "S-1-22-2-31"));
	f->answers = 0;
	accounts_accept(f->v->accounts, fixture_answer, f);
	fixture_wait(f, 1);
	assert_true(record_has(f, "S-1-22-1-31"));
	assert_false(record_has(f, "S-1-22-1-30\""));
	assert_null(accounts_other(f->v->accounts, f));
}

static void test_domain(void **state)
{
	struct fixture *f = *state;
	char *message;

	assert_int_equal(accounts_told(f->v->accounts, true, MACHINE, PAIRS(ALICE), f, &message), 0);
	while (f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	assert_true(record_has(f, "\"domain\": true"));
	assert_false(record_has(f, "alice"));
	again(f);
	assert_int_equal(told(f, OTHER, PAIRS("")), 0);
	assert_non_null(strstr(accounts_other(f->v->accounts, f), "domain " MACHINE));
	assert_null(strstr(accounts_other(f->v->accounts, f), "setlocalsid"));
}

static void test_answers(void **state)
{
	struct fixture *f = *state;

	f->store->fail_op = OBJ_PUT;
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_UNKNOWN; /* done, and not heard of */
	assert_int_equal(told(f, MACHINE, PAIRS(ALICE)), 0);
	assert_int_equal(f->store->seen[OBJ_PUT], 1);
	assert_true(record_has(f, "alice"));
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_DENIED;
	assert_int_equal(told(f, MACHINE, PAIRS(BOB)), 0);
	assert_false(record_has(f, "bob"));
	assert_int_equal(told(f, MACHINE, PAIRS(MACHINE "-1000\0carol\0")), -EACCES); /* as before */
	assert_int_equal(told(f, MACHINE, PAIRS(ALICE)), 0);
	assert_true(record_has(f, "bob"));
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_PRECONDITION; /* somebody else was faster */
	assert_int_equal(told(f, MACHINE, PAIRS(STAFF)), 0);
	assert_true(record_has(f, "staff"));
}

static void test_before_the_bucket(void **state)
{
	struct fixture *f = *state;

	f->v->state = VOLUME_CONNECTING;
	assert_int_equal(told(f, MACHINE, PAIRS(ALICE)), 0);
	assert_int_equal(f->store->seen[OBJ_PUT], 0);
	f->v->state = VOLUME_READY;
	f->v->read_only = (char *)"a newer version is needed";
	accounts_ready(f->v->accounts);
	assert_int_equal(f->store->in_flight, 0);
	f->v->read_only = NULL;
	accounts_ready(f->v->accounts);
	while (f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	assert_true(record_has(f, "alice"));
}

static void test_unsound(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(told(f, "", PAIRS(ALICE)), -EINVAL);
	assert_int_equal(told(f, "S-1-5-21-x", PAIRS(ALICE)), -EINVAL);
	assert_int_equal(told(f, MACHINE, "S-1-5", 5), -EINVAL);
	assert_int_equal(told(f, MACHINE, PAIRS("S-1-5\0")), -EINVAL);
	assert_int_equal(told(f, MACHINE, PAIRS("nobody\0nobody\0")), -EINVAL);
	assert_int_equal(told(f, MACHINE, PAIRS(MACHINE "-1000\0\xff\xfe\0")), 0); /* no name for JSON */
	assert_false(record_has(f, "-1000"));
	/* a record that somebody else made */
	assert_int_equal(fixture_put(f, KEY, "{\"format\": \"objectfs volume\", "
			"\"uuid\": \"0123456789abcdef0123456789abcdef\", \"read_version\": 1, "
			"\"write_version\": 1, \"machine_sid\": 7, \"accounts\": [1], \"epoch\": 3}"), OBJ_OK);
	fixture_index_new(f);
	again(f);
	assert_int_equal(told(f, MACHINE, PAIRS(ALICE)), 0);
	assert_true(record_has(f, "alice") && record_has(f, "\"epoch\": 3"));
}

static void test_many(void **state)
{
	struct fixture *f = *state;
	char names[5000];
	char *record;

	for (int user = 0; user < 600; user += 60) {
		size_t len = 0;

		for (int i = user; i < user + 60; i++) {
			len += (size_t)snprintf(names + len, sizeof(names) - len, MACHINE "-%d", 1000 + i) + 1;
			len += (size_t)snprintf(names + len, sizeof(names) - len, "%040d", i) + 1;
		}
		assert_int_equal(told(f, MACHINE, names, len), 0);
	}
	record = fixture_get(f, KEY);
	assert_true(strlen(record) < 60000);
	free(record);
	again(f);
	assert_int_equal(told(f, MACHINE, PAIRS(MACHINE "-1001\0mallory\0")), -EACCES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_another_machine, setup, teardown),
		cmocka_unit_test_setup_teardown(test_anothers_rights, setup, teardown),
		cmocka_unit_test_setup_teardown(test_moved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_domain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_before_the_bucket, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unsound, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
	};

	log_open("/dev/null", LOG_LVL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
