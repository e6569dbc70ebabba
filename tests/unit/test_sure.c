/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Duty: is it still this volume's bucket? No, as the store says it; not known, where it cannot be asked; asked no more often than
 * is said. An earlier state of the bucket is known by our node's object. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cached/base/log.h"
#include "cached/core/nodes.h"
#include "cached/core/sure.h"
#include "cached/core/volrec.h"
#include "tests/lib/volume_fixture.h"

#define RECORD "p/.objectfs/volume"
#define NODE "p/.objectfs/nodes/00112233445566778899aabbccddeeff"

static unsigned doubts;

static void on_doubt(struct volume *v)
{
	(void)v;
	doubts++;
}

static void serve(struct fixture *f)
{
	talloc_free(f->v->nodes);
	f->v->nodes = nodes_new(f->v, f->v, "/var/cache/objectfs");
	f->answers = 0;
	nodes_open(f->v->nodes, false, fixture_answer, f);
	fixture_wait(f, 1);
}

static int setup(void **state)
{
	struct fixture *f = fixture_new();

	memset(&f->v->uuid, 0, sizeof(f->v->uuid));
	volrec_open(f->v, fixture_answer, f);
	fixture_wait(f, 1);
	f->v->on_doubt = on_doubt;
	doubts = 0;
	serve(f);
	*state = f;
	return f->status;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fixture_free(&f);
	return 0;
}

static int sure(struct fixture *f)
{
	f->answers = 0;
	volume_sure(f->v, 7, fixture_answer, f);
	assert_int_equal(f->answers, 0);
	fixture_wait(f, 1);
	return f->status;
}

/* How many questions it took. */
static unsigned lately(struct fixture *f, int64_t age_ns)
{
	unsigned before = f->store->seen[OBJ_GET];

	f->answers = 0;
	volume_sure_lately(f->v, age_ns, fixture_answer, f);
	volume_sure_lately(f->v, age_ns, fixture_answer, f); /* it waits for the same answer */
	fixture_wait(f, 2);
	assert_int_equal(f->status, 0);
	return f->store->seen[OBJ_GET] - before;
}

static void epoch_next(struct fixture *f)
{
	nodes_epoch_next(f->v->nodes);
	while (f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
}

static void test_record(void **state)
{
	static const char another[] = "{\"format\":\"objectfs volume\",\"uuid\":\"00112233445566778899aabbccddeeff\","
			"\"write_version\":1,\"read_version\":1}";
	struct fixture *f = *state;

	assert_int_equal(sure(f), 0);
	assert_int_equal(f->store->seen[OBJ_PUT], 2); /* record and node: there is no epoch yet */
	f->store->fail_op = OBJ_GET;
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_AWAY;
	assert_int_equal(sure(f), -EIO);
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_DENIED;
	assert_int_equal(sure(f), -EACCES);
	assert_int_equal(doubts, 0);
	assert_int_equal(fixture_put(f, RECORD, another), OBJ_OK);
	assert_int_equal(sure(f), -ESTALE);
	assert_non_null(strstr(f->message, "another's"));
	assert_int_equal(fixture_delete(f, RECORD), OBJ_OK);
	assert_int_equal(sure(f), -ESTALE);
	assert_int_equal(doubts, 2);
}

static void test_lately(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(lately(f, 60 * NS_PER_S), 1);
	fixture_advance(f, 59 * NS_PER_S);
	assert_int_equal(lately(f, 60 * NS_PER_S), 0);
	fixture_advance(f, NS_PER_S);
	assert_int_equal(lately(f, 60 * NS_PER_S), 1);
	assert_int_equal(fixture_delete(f, RECORD), OBJ_OK);
	fixture_advance(f, 60 * NS_PER_S);
	f->answers = 0;
	volume_sure_lately(f->v, 60 * NS_PER_S, fixture_answer, f);
	fixture_wait(f, 1);
	assert_int_equal(f->status, -ESTALE); /* what was found before counts no more */
}

static void test_epoch(void **state)
{
	struct fixture *f = *state;
	char *first, *second;

	assert_int_equal(nodes_epoch(f->v->nodes), 0);
	epoch_next(f);
	first = fixture_get(f, NODE);
	assert_int_equal(sure(f), 0);
	epoch_next(f);
	assert_int_equal(nodes_epoch(f->v->nodes), 2);
	second = fixture_get(f, NODE);
	assert_int_equal(sure(f), 0);
	assert_int_equal(fixture_put(f, NODE, first), OBJ_OK);
	assert_int_equal(sure(f), -ESTALE);
	assert_non_null(strstr(f->message, "earlier state"));
	assert_int_equal(fixture_delete(f, NODE), OBJ_OK);
	assert_int_equal(sure(f), -ESTALE);
	assert_int_equal(doubts, 2);
	/* what cannot be read tells nothing, nor does what an earlier version wrote */
	assert_int_equal(fixture_put(f, NODE, "{}"), OBJ_OK);
	assert_int_equal(sure(f), 0);
	assert_int_equal(fixture_put(f, NODE, second), OBJ_OK);
	assert_int_equal(sure(f), 0);
	/* an epoch that was not acknowledged is none */
	f->store->fail_op = OBJ_PUT;
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_AWAY;
	epoch_next(f);
	assert_int_equal(nodes_epoch(f->v->nodes), 2);
	assert_int_equal(sure(f), 0);
	free(first);
	free(second);
}

/* So it is at a start, where nothing is written over what is there. */
static void test_start(void **state)
{
	struct fixture *f = *state;
	char *first, *text;

	epoch_next(f);
	first = fixture_get(f, NODE);
	epoch_next(f);
	serve(f);
	assert_int_equal(f->status, 0);
	assert_int_equal(fixture_put(f, NODE, first), OBJ_OK);
	serve(f);
	assert_int_equal(f->status, -ESTALE);
	assert_non_null(strstr(f->message, "nothing is removed locally"));
	text = fixture_get(f, NODE);
	assert_string_equal(text, first);
	free(text);
	assert_int_equal(fixture_delete(f, NODE), OBJ_OK);
	serve(f);
	assert_int_equal(f->status, -ESTALE);
	assert_null(fixture_get(f, NODE));
	/* a disk that knows of none begins there */
	fixture_index_new(f);
	serve(f);
	assert_int_equal(f->status, 0);
	assert_int_equal(nodes_epoch(f->v->nodes), 0);
	free(first);
}

static void test_watch(void **state)
{
	struct fixture *f = *state;
	struct sure_watch *w = sure_watch_new(f->v, f->v);

	f->store->s.changes = 5; /* on the way to READY */
	sure_watch_start(w);
	for (unsigned s = 0; s < 7200; s++) {
		sure_watch_tick(w);
		fixture_advance(f, NS_PER_S);
	}
	assert_int_equal(f->store->seen[OBJ_GET], 2); /* of the setup: nothing was changed since */
	for (unsigned s = 0; s < 7200; s++) {
		f->store->s.changes++;
		sure_watch_tick(w);
		while (f->store->in_flight > 0) {
			tevent_loop_once(f->ev);
		}
		fixture_advance(f, NS_PER_S);
	}
	assert_int_equal(nodes_epoch(f->v->nodes), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_record, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lately, setup, teardown),
		cmocka_unit_test_setup_teardown(test_epoch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch, setup, teardown),
	};

	log_open(NULL, LOG_LVL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
