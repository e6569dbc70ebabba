/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Duty: a node says that it serves and how far its log is, when that changes and at no other time; who must
 * be alone is; the end of a log that somebody's record knows is missed on any disk. */
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
#include "cached/reconcile/metalog.h"
#include "tests/lib/volume_fixture.h"

#define OURS "00112233445566778899aabbccddeeff"
#define OTHER "ffeeddccbbaa99887766554433221100"
#define PLACE "p/.objectfs/nodes/"

static int setup(void **state)
{
	struct fixture *f = fixture_new();

	f->v->nodes = nodes_new(f->v, f->v, "/var/cache/objectfs");
	*state = f;
	return f->v->nodes != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fixture_free(&f);
	return 0;
}

/* As after a start of the daemon. */
static int open_nodes(struct fixture *f, bool alone)
{
	talloc_free(f->v->nodes);
	f->v->nodes = nodes_new(f->v, f->v, "/var/cache/objectfs");
	f->answers = 0;
	nodes_open(f->v->nodes, alone, fixture_answer, f);
	fixture_wait(f, 1);
	while (f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	return f->status;
}

static void other_says(struct fixture *f, const char *place, unsigned log, bool serving)
{
	char text[512];

	snprintf(text, sizeof(text),
			"{\"format\": \"objectfs node 1\", \"node\": \"" OTHER "\", \"host\": \"far\", "
			"\"place\": \"%s\", \"version\": \"1\", \"log\": %u, \"serving\": %s, \"more\": 1}",
			place, log, serving ? "true" : "false");
	assert_int_equal(fixture_put(f, PLACE OTHER, text), OBJ_OK);
}

static json_t *said(struct fixture *f, const char *id)
{
	char key[128], *text;
	json_t *doc;

	snprintf(key, sizeof(key), PLACE "%s", id);
	text = fixture_get(f, key);
	doc = text != NULL ? json_loads(text, 0, NULL) : NULL;
	free(text);
	return doc;
}

static void expect_said(struct fixture *f, const char *id, int log, bool serving)
{
	json_t *doc = said(f, id);

	assert_non_null(doc);
	assert_int_equal(json_integer_value(json_object_get(doc, "log")), log);
	assert_int_equal(json_is_true(json_object_get(doc, "serving")), serving);
	json_decref(doc);
}

static int forget(struct fixture *f, const char *id)
{
	f->answers = 0;
	nodes_forget(f->v->nodes, id, fixture_answer, f);
	fixture_wait(f, 1);
	return f->status;
}

static void test_ours(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(open_nodes(f, false), 0);
	assert_int_equal(f->store->seen[OBJ_PUT], 1);
	expect_said(f, OURS, 0, true);
	/* nothing new: nothing is written */
	assert_int_equal(open_nodes(f, false), 0);
	fixture_advance(f, 3600 * NS_PER_S);
	assert_int_equal(f->store->seen[OBJ_PUT], 1);
	/* many changes, few writes, the last one counts */
	for (uint64_t seq = 1; seq <= 5; seq++) {
		nodes_log_at(f->v->nodes, seq);
		nodes_log_at(f->v->nodes, seq - 1);
	}
	while (f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	assert_int_equal(f->store->seen[OBJ_PUT], 3);
	expect_said(f, OURS, 5, true);
	/* the store is away: written later */
	f->store->fail_op = OBJ_PUT;
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_AWAY;
	nodes_log_at(f->v->nodes, 6);
	while (f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	expect_said(f, OURS, 5, true);
	fixture_advance(f, 60 * NS_PER_S);
	while (f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	expect_said(f, OURS, 6, true);
	/* what it said is not forgotten with the index, nor with the record */
	assert_int_equal(open_nodes(f, false), 0);
	expect_said(f, OURS, 6, true);
	assert_int_equal(forget(f, OURS), -EBUSY);
	assert_int_equal(forget(f, OTHER), -ENOENT);
}

static void test_other(void **state)
{
	struct fixture *f = *state;

	other_says(f, "00000000000000000000000000000001", 7, true);
	assert_int_equal(open_nodes(f, false), 0);
	assert_true(nodes_serves(f->v->nodes, OTHER));
	assert_false(nodes_serves(f->v->nodes, OURS));
	assert_false(nodes_serves(f->v->nodes, "nobody"));
	expect_said(f, OURS, 0, true);
	/* the store is one for one node */
	assert_int_equal(open_nodes(f, true), -EBUSY);
	assert_non_null(strstr(f->message, "far"));
	assert_non_null(strstr(f->message, "forget-node " OTHER));
	assert_int_equal(forget(f, OTHER), 0);
	expect_said(f, OTHER, 7, false);
	assert_false(nodes_serves(f->v->nodes, OTHER));
	assert_int_equal(open_nodes(f, true), 0);
	expect_said(f, OURS, 0, true);
	/* the other comes again: it reads that we serve; we, asked once more, stay */
	assert_int_equal(open_nodes(f, true), 0);
}

/* Two begin at once: ours is written, then the other's is found. */
static void test_race(void **state)
{
	struct fixture *f = *state;

	nodes_open(f->v->nodes, true, fixture_answer, f);
	while (f->store->seen[OBJ_PUT] == 0) {
		tevent_loop_once(f->ev);
	}
	f->store->hold = OBJ_LIST; /* our second look waits for what the other does */
	other_says(f, "00000000000000000000000000000001", 0, true);
	while (f->store->held == NULL) {
		tevent_loop_once(f->ev);
	}
	test_store_release(f->store);
	fixture_wait(f, 1);
	assert_int_equal(f->status, -EBUSY);
	while (f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	expect_said(f, OURS, 0, false);
}

/* Our disk was lost: whoever was in our place is no more, but what it said of its log stands. */
static void test_place(void **state)
{
	struct fixture *f = *state;
	json_t *doc;

	assert_int_equal(open_nodes(f, false), 0);
	doc = said(f, OURS);
	other_says(f, json_string_value(json_object_get(doc, "place")), 9, true);
	json_decref(doc);
	assert_int_equal(open_nodes(f, true), 0);
	expect_said(f, OTHER, 9, false);
	doc = said(f, OTHER);
	assert_int_equal(json_integer_value(json_object_get(doc, "more")), 1);
	json_decref(doc);
}

static void test_damaged(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(fixture_put(f, PLACE OTHER, "{\"format\": \"objectfs node 1\"}"), OBJ_OK);
	assert_int_equal(fixture_put(f, PLACE "stray", "x"), OBJ_OK);
	assert_int_equal(open_nodes(f, false), 0);
	assert_true(nodes_serves(f->v->nodes, OTHER));
	assert_int_equal(open_nodes(f, true), -EBUSY);
	assert_int_equal(forget(f, OTHER), 0);
	assert_int_equal(open_nodes(f, true), 0);
	/* our own is written anew */
	assert_int_equal(fixture_put(f, PLACE OURS, "?"), OBJ_OK);
	assert_int_equal(open_nodes(f, false), 0);
	expect_said(f, OURS, 0, true);
}

static void test_store_fails(void **state)
{
	struct fixture *f = *state;

	f->store->fail_op = OBJ_LIST;
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_AWAY;
	assert_int_equal(open_nodes(f, false), -EAGAIN);
	f->store->fail_op = OBJ_PUT;
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_DENIED;
	assert_int_equal(open_nodes(f, false), -EACCES);
	assert_int_equal(open_nodes(f, false), 0);
}

static int look(struct fixture *f)
{
	f->answers = 0;
	nodes_look(f->v->nodes, fixture_answer, f);
	fixture_wait(f, 1);
	while (f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	return f->status;
}

/* Who has come since; nothing is written for it, and what we write meanwhile is not forgotten. */
static void test_look(void **state)
{
	struct fixture *f = *state;
	unsigned puts;
	uint64_t log = 0;
	const char *id;

	assert_int_equal(open_nodes(f, false), 0);
	other_says(f, "00000000000000000000000000000001", 7, true);
	puts = f->store->seen[OBJ_PUT];
	assert_false(nodes_serves(f->v->nodes, OTHER));
	f->store->hold = OBJ_LIST;
	f->answers = 0;
	nodes_look(f->v->nodes, fixture_answer, f);
	while (f->store->held == NULL) {
		tevent_loop_once(f->ev);
	}
	nodes_open(f->v->nodes, true, fixture_answer, f); /* the versioning was switched just now: again later */
	assert_int_equal(f->answers, 1);
	assert_int_equal(f->status, -EAGAIN);
	f->answers = 0;
	nodes_log_at(f->v->nodes, 5);
	while (f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	assert_int_equal(f->answers, 0);
	test_store_release(f->store);
	fixture_wait(f, 1);
	assert_int_equal(f->status, 0);
	while (f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	assert_true(nodes_serves(f->v->nodes, OTHER));
	assert_true(nodes_said(f->v->nodes, 0, &id, &log));
	assert_string_equal(id, OURS);
	assert_int_equal(log, 5);
	assert_int_equal(f->store->seen[OBJ_PUT], puts + 1);
	other_says(f, "00000000000000000000000000000001", 7, false);
	assert_int_equal(look(f), 0);
	assert_false(nodes_serves(f->v->nodes, OTHER));
	f->store->fail_op = OBJ_LIST;
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_AWAY;
	assert_int_equal(look(f), -EAGAIN);
	assert_int_equal(look(f), 0);
	assert_int_equal(open_nodes(f, false), 0);
}

static int load_log(struct fixture *f)
{
	talloc_free(f->v->metalog);
	f->v->metalog = metalog_new(f->ev, f->v);
	f->answers = 0;
	metalog_load(f->v->metalog, fixture_answer, f);
	fixture_wait(f, 1);
	return f->status;
}

/* A log that ends before its node says so, on whatever disk. */
static void test_log_end(void **state)
{
	struct fixture *f = *state;
	const struct ofs_oid oid = { { 1 } };

	assert_int_equal(open_nodes(f, false), 0);
	assert_int_equal(load_log(f), 0);
	for (uint64_t gen = 1; gen <= 3; gen++) {
		f->answers = 0;
		metalog_append(f->v->metalog, &oid, gen, 1, (uint8_t *)strdup("x"), 1,
				fixture_committed, f);
		metalog_flush(f->v->metalog);
		fixture_wait(f, 1);
	}
	while (f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	expect_said(f, OURS, 3, true);
	fixture_index_new(f);
	assert_int_equal(open_nodes(f, false), 0);
	assert_int_equal(load_log(f), 0);
	assert_int_equal(fixture_delete(f, "p/.objectfs/log/" OURS "/0000000000000003"), OBJ_OK);
	assert_int_equal(open_nodes(f, false), 0);
	assert_int_equal(load_log(f), -EBADMSG);
	assert_non_null(strstr(f->message, OURS "/0000000000000003 is missing"));
	/* another node's, of which nothing is left */
	f->v->node_id[0] = '1';
	other_says(f, "", 2, false);
	assert_int_equal(fixture_put(f, PLACE OURS, "?"), OBJ_OK);
	assert_int_equal(open_nodes(f, false), 0);
	assert_int_equal(load_log(f), -EBADMSG);
	assert_non_null(strstr(f->message, OTHER "/0000000000000001 is missing"));
	other_says(f, "", 0, false);
	assert_int_equal(open_nodes(f, false), 0);
	assert_int_equal(load_log(f), 0);
	TALLOC_FREE(f->v->metalog);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ours, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other, setup, teardown),
		cmocka_unit_test_setup_teardown(test_race, setup, teardown),
		cmocka_unit_test_setup_teardown(test_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_store_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_look, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log_end, setup, teardown),
	};

	log_open("/dev/null", LOG_LVL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
