/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Large values of metadata: what a writer relies on is not swept, on stores with conditions and without. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "cached/mirror/snapshot.h"
#include "cached/upload/upload.h"
#include "tests/lib/mirror_fixture.h"

#define VALUE_BYTES 20000u
#define MANY 200u

struct written {
	bool over;
	enum obj_status status;
};

static struct snapshot *value_new(char fill)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	s->mode = 0100640;
	s->xattrs = calloc(1, sizeof(*s->xattrs));
	s->xattr_count = 1;
	s->xattrs[0].name = strdup("user.colour");
	s->xattrs[0].value = malloc(VALUE_BYTES);
	memset(s->xattrs[0].value, fill, VALUE_BYTES);
	s->xattrs[0].len = VALUE_BYTES;
	snapshot_split(s, OBJMETA_SNAPSHOT_BUDGET);
	assert_true(s->xattrs[0].is_blob);
	return s;
}

static const uint8_t *hash_of(const struct snapshot *s)
{
	return s->xattrs[0].sha256;
}

static bool stored(struct fixture *fx, const struct snapshot *s)
{
	char *key = objmeta_blob_key("", hash_of(s));
	bool there = fixture_stored(fx, key);

	free(key);
	return there;
}

static void on_written(enum obj_status status, const char *message, void *arg)
{
	struct written *w = arg;

	(void)message;
	w->status = status;
	w->over = true;
}

static void start(struct fixture *fx, const struct snapshot *s, struct written *w)
{
	memset(w, 0, sizeof(*w));
	upload_blobs(fx->v, s, on_written, w);
}

static void end(struct fixture *fx, const struct snapshot *s, struct written *w)
{
	fixture_until(fx, &w->over);
	assert_int_equal(w->status, OBJ_OK);
	assert_true(stored(fx, s));
}

static bool may_go(struct fixture *fx, const struct snapshot *s)
{
	bool goes = blobs_doom(fx->v, hash_of(s));

	blobs_doom(fx->v, NULL);
	return goes;
}

static void test_on_its_way(void **state)
{
	struct fixture *fx = *state;
	struct snapshot *s = value_new('a');
	struct written w, again;

	assert_true(may_go(fx, s));
	fixture_fault(fx, OBJ_PUT, "blob/", FAULT_HANG, OBJ_OK);
	start(fx, s, &w);
	assert_false(may_go(fx, s)); /* who sends it says so before the store does */
	fixture_release(fx);
	end(fx, s, &w);
	assert_true(may_go(fx, s)); /* it was not there: so young that it is not swept */
	start(fx, s, &again);
	end(fx, s, &again);
	assert_false(may_go(fx, s)); /* it was there, and may be old */
	snapshot_free(&s);
}

/* Those that were there are remembered, however many. */
static void test_many(void **state)
{
	struct fixture *fx = *state;
	struct snapshot *s[MANY];
	struct written w;

	for (unsigned i = 0; i < MANY; i++) {
		s[i] = value_new((char)i);
		start(fx, s[i], &w);
		end(fx, s[i], &w);
		assert_true(may_go(fx, s[i]));
		start(fx, s[i], &w);
		end(fx, s[i], &w);
	}
	for (unsigned i = 0; i < MANY; i++) {
		assert_false(may_go(fx, s[i]));
		snapshot_free(&s[i]);
	}
}

static void test_waits(void **state)
{
	struct fixture *fx = *state;
	struct snapshot *s = value_new('b'), *other = value_new('c');
	struct written w, w2;

	assert_true(blobs_doom(fx->v, hash_of(s)));
	start(fx, s, &w);
	start(fx, other, &w2);
	end(fx, other, &w2); /* is not concerned */
	fx->ahead_ns += NS_PER_S;
	fixture_idle(fx, 300);
	assert_int_equal(fx->sent[OBJ_PUT], 1);
	assert_false(w.over);
	blobs_doom(fx->v, NULL);
	end(fx, s, &w);
	snapshot_free(&s);
	snapshot_free(&other);
}

/* Where a PUT does not say that something was there, it may have been. */
static void test_unfenced(void **state)
{
	struct fixture *fx = *state;
	struct objstore *store = fx->v->store;

	for (int class = 0; class <= 1; class++) {
		struct snapshot *s = value_new((char)('d' + class));
		struct written w;

		memset(&store->caps, 0, sizeof(store->caps));
		store->caps.fence_class = class;
		store->probe_count = 1;
		start(fx, s, &w);
		end(fx, s, &w);
		assert_false(may_go(fx, s));
		start(fx, s, &w); /* without a condition */
		end(fx, s, &w);
		assert_false(may_go(fx, s));
		snapshot_free(&s);
	}
}

static void on_put(struct obj_req *req)
{
	on_written(req->result.status, NULL, req->arg);
}

static enum obj_status put(struct fixture *fx, const char *if_match, bool if_none_match)
{
	struct obj_req *req = objstore_req_new(OBJ_PUT, "k");
	struct written w = {0};

	req->if_match = if_match != NULL ? strdup(if_match) : NULL;
	req->if_none_match = if_none_match;
	req->done = on_put;
	req->arg = &w;
	objstore_submit(fx->v->store, req);
	fixture_until(fx, &w.over);
	objstore_req_free(&req);
	return w.status;
}

/* Only conditions that the store honours are sent to it. */
static void test_conditions(void **state)
{
	struct fixture *fx = *state;
	struct objstore *store = fx->v->store;

	fixture_put_text(fx, "k", "there");
	for (int class = 0; class <= 1; class++) {
		memset(&store->caps, 0, sizeof(store->caps));
		store->caps.fence_class = class;
		store->probe_count = 0;
		assert_int_equal(objstore_unfenced(store), class == 1);
		store->probe_count = 1;
		assert_true(objstore_unfenced(store));
		assert_int_equal(put(fx, NULL, true), OBJ_OK);
		assert_int_equal(put(fx, "0123", false), OBJ_OK);
		store->caps.put_if_none_match = true;
		assert_int_equal(put(fx, NULL, true), OBJ_PRECONDITION);
		assert_int_equal(put(fx, "0123", false), OBJ_OK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_on_its_way, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_many, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_waits, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_unfenced, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_conditions, fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests_name("blobs", tests, NULL, NULL);
}
