/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: copies and deletes of single objects, on a store of each fence class, while somebody else writes: before, and
 * while the one request is held that changes something. Theirs stays, or comes back, or lies beside; no copy is of
 * another state than was asked for.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "cached/base/clock.h"
#include "cached/base/conf.h"
#include "cached/reconcile/private.h"
#include "tests/lib/volume_fixture.h"

static const struct class {
	int number;
	const char *rules; /* of the directory store */
	struct obj_caps caps;
} classes[] = {
	{3, "objectfs-store 1\nconditions put complete copy delete\nversions no\n",
			{.fence_class = 3, .put_if_match = true, .put_if_none_match = true, .copy_if_match_source = true,
					.copy_if_none_match_dest = true, .delete_if_match = true}},
	{2, "objectfs-store 1\nconditions put\nversions no\n",
			{.fence_class = 2, .put_if_match = true, .put_if_none_match = true}},
	{1, "objectfs-store 1\nconditions\nversions yes\n",
			{.fence_class = 1, .versioned = true, .lists_versions = true}},
	{0, "objectfs-store 1\nconditions\nversions no\n", {.fence_class = 0}},
};
#define CLASSES (sizeof(classes) / sizeof(classes[0]))
#define KEPT_APART (CLASSES - 1) /* on the last one, F0, a race is lost unseen, as docs/SEMANTICS.md says */

static struct fixture *begin(const struct class *c)
{
	struct fixture *f = fixture_new();
	char path[96], *error = NULL;
	FILE *rules;

	talloc_free(f->store->real);
	snprintf(path, sizeof(path), "%s/store/store", f->dir);
	rules = fopen(path, "w");
	assert_true(rules != NULL && fputs(c->rules, rules) >= 0 && fclose(rules) == 0);
	snprintf(path, sizeof(path), "%s/store", f->dir);
	f->store->real = objstore_dir_new(f->ev, f->mb, path, 4, &error);
	if (f->store->real == NULL) {
		fail_msg("%s", error);
	}
	f->store->s.caps = c->caps;
	f->store->s.probe_count = 1; /* what a class is, is known */
	f->conf.copy_limit_bytes = OBJ_PUT_MAX_BYTES;
	f->v->reconcile = talloc_zero(f, struct reconcile); /* counts conflicts */
	f->v->reconcile->v = f->v;
	print_message("class F%d\n", c->number);
	return f;
}

/* The ETag of what is there; talloc. */
static char *etag_of(struct fixture *f, const char *key)
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, key);
	char *etag;

	assert_int_equal(fixture_run(f, req), OBJ_OK);
	etag = talloc_strdup(f, req->result.etag);
	objstore_req_free(&req);
	return etag;
}

static char *put(struct fixture *f, const char *key, const char *text)
{
	assert_int_equal(fixture_put(f, key, text), OBJ_OK);
	return etag_of(f, key);
}

/* Of this write; none: nobody's of ours. */
static void describe(struct obj_req *req, const struct ofs_oid *wid)
{
	struct objmeta m = {.ours = true, .oid = {{1}}, .wid = *wid, .snapshot = calloc(1, sizeof(*m.snapshot))};

	if (!ofs_oid_is_none(wid)) {
		assert_int_equal(objmeta_put(req, &m), 0);
	}
	objmeta_clear(&m);
}

/* One whose ETag says nothing of its bytes. */
static char *put_parts_of(struct fixture *f, const char *key, const char *text, const struct ofs_oid *wid)
{
	struct obj_req *create = objstore_req_new(OBJ_MPU_CREATE, key), *part = objstore_req_new(OBJ_MPU_PART, key);
	struct obj_req *complete = objstore_req_new(OBJ_MPU_COMPLETE, key);

	describe(create, wid);
	assert_int_equal(fixture_run(f, create), OBJ_OK);
	part->upload_id = strdup(create->result.upload_id);
	part->part_number = 1;
	part->body = (uint8_t *)strdup(text);
	part->length = (int64_t)strlen(text);
	assert_int_equal(fixture_run(f, part), OBJ_OK);
	complete->upload_id = strdup(create->result.upload_id);
	complete->parts = calloc(1, sizeof(*complete->parts));
	complete->parts[0] = (struct obj_part){.number = 1, .etag = part->result.etag};
	complete->part_count = 1;
	assert_int_equal(fixture_run(f, complete), OBJ_OK);
	objstore_req_free(&create);
	objstore_req_free(&part);
	objstore_req_free(&complete);
	return etag_of(f, key);
}

static char *put_parts(struct fixture *f, const char *key, const char *text)
{
	static const struct ofs_oid none;

	return put_parts_of(f, key, text, &none);
}

/* NULL: nothing is to be there. */
static void check_there(struct fixture *f, const char *key, const char *text)
{
	char *there = fixture_get(f, key);

	if (text == NULL) {
		assert_null(there);
	} else {
		assert_non_null(there);
		assert_string_equal(there, text);
	}
	free(there);
}

/* Under a conflict name beside. */
static void check_beside(struct fixture *f, const char *prefix, const char *text)
{
	struct obj_req *req = objstore_req_new(OBJ_LIST, prefix);

	assert_int_equal(fixture_run(f, req), OBJ_OK);
	assert_int_equal(req->result.entry_count, text != NULL);
	if (text != NULL) {
		check_there(f, req->result.entries[0].key, text);
	}
	objstore_req_free(&req);
}

static void copied(enum obj_status st, const char *message, const char *etag, void *arg)
{
	(void)etag;
	fixture_answer((int)st, message, arg);
}

static void deleted(enum obj_status st, const char *message, void *arg)
{
	fixture_answer((int)st, message, arg);
}

/* The request is held, and somebody writes this, or ("") deletes what is there; NULL: nobody. */
static enum obj_status race(struct fixture *f, const char *key, const char *text)
{
	while (text != NULL && f->store->held == NULL && f->answers == 0) {
		tevent_loop_once(f->ev);
	}
	if (text != NULL) {
		assert_non_null(f->store->held);
		assert_int_equal(*text != '\0' ? fixture_put(f, key, text) : fixture_delete(f, key), OBJ_OK);
		test_store_release(f->store);
	}
	fixture_wait(f, 1);
	return (enum obj_status)f->status;
}

/* ---- deletes ---- */

static enum obj_status delete(struct fixture *f, const char *etag, int hold, const char *text)
{
	struct ofs_oid oid;

	ofs_oid_new(&oid);
	f->store->hold = hold;
	delete_fenced(f->v, "p/k", etag, &oid, NULL, 0, deleted, f);
	return race(f, "p/k", text);
}

static void test_delete(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CLASSES; i++) {
		struct fixture *f = begin(&classes[i]);

		assert_int_equal(delete(f, put(f, "p/k", "ours"), -1, NULL), OBJ_OK);
		check_there(f, "p/k", NULL);
		assert_int_equal(f->store->seen[OBJ_PUT], classes[i].number == 2); /* the tombstone */
		f->answers = 0;
		assert_int_equal(delete(f, "gone", -1, NULL), OBJ_OK);
		fixture_free(&f);
	}
}

/* Theirs came before. */
static void test_delete_of_another(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CLASSES; i++) {
		struct fixture *f = begin(&classes[i]);
		char *etag = put(f, "p/k", "ours");

		put(f, "p/k", "theirs");
		assert_int_equal(delete(f, etag, -1, NULL), OBJ_PRECONDITION);
		check_there(f, "p/k", "theirs");
		fixture_free(&f);
	}
}

/* Theirs comes between the look and what the store is asked for. */
static void test_delete_race(void **state)
{
	(void)state;
	for (unsigned i = 0; i < KEPT_APART; i++) {
		struct fixture *f = begin(&classes[i]);
		char *etag = put(f, "p/k", "ours");
		enum obj_status st = delete(f, etag, classes[i].number == 2 ? OBJ_PUT : OBJ_DELETE, "theirs");

		/* F1 has covered it with its marker, and put it back. */
		assert_int_equal(st, classes[i].number == 1 ? OBJ_OK : OBJ_PRECONDITION);
		check_there(f, "p/k", "theirs");
		fixture_free(&f);
	}
}

/* ---- copies ---- */

static enum obj_status copy(struct fixture *f, const char *etag, const char *expect, const char *theirs,
		const char *text)
{
	f->store->hold = text != NULL ? (int)OBJ_COPY : -1;
	copy_fenced(f->v, "p/from", etag, "p/to", expect, NULL, NULL, copied, f);
	return race(f, theirs, text);
}

static void test_copy(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CLASSES; i++) {
		struct fixture *f = begin(&classes[i]);

		assert_int_equal(copy(f, put(f, "p/from", "ours"), NULL, NULL, NULL), OBJ_OK);
		check_there(f, "p/to", "ours");
		check_there(f, "p/from", "ours");
		check_beside(f, "p/to (", NULL);
		fixture_free(&f);
	}
}

/* The source is another by now, or becomes one: the copy is none, but where versions are kept it is of the right one. */
static void test_copy_source(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * CLASSES; i++) {
		struct fixture *f = begin(&classes[i / 2]);
		char *etag = i % 2 != 0 ? put_parts(f, "p/from", "ours") : put(f, "p/from", "ours");
		bool kept = classes[i / 2].caps.versioned;

		assert_int_equal(copy(f, etag, NULL, "p/from", "theirs"), kept ? OBJ_OK : OBJ_CONFLICT);
		check_there(f, "p/to", kept ? "ours" : NULL);
		f->answers = 0;
		f->store->seen[OBJ_COPY] = 0;
		assert_int_equal(fixture_delete(f, "p/to"), OBJ_OK);
		assert_int_equal(copy(f, etag, NULL, NULL, NULL), OBJ_CONFLICT);
		assert_int_equal(f->store->seen[OBJ_COPY], 0);
		check_there(f, "p/from", "theirs");
		fixture_free(&f);
	}
}

/* Somebody's object has the name; it may be what a first try left. */
static void test_copy_taken(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CLASSES; i++) {
		struct fixture *f = begin(&classes[i]);
		char *etag = put(f, "p/from", "ours"), *theirs = put(f, "p/to", "theirs");

		assert_int_equal(copy(f, etag, NULL, NULL, NULL), OBJ_PRECONDITION);
		check_there(f, "p/to", "theirs");
		f->answers = 0;
		assert_int_equal(copy(f, etag, theirs, NULL, NULL), OBJ_OK);
		check_there(f, "p/to", "ours");
		fixture_free(&f);
	}
}

/* Theirs comes to the name while it is free, or over what was expected there. On F2 nothing tells of it (a narrow
 * window, counted). */
static void test_copy_race(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * KEPT_APART; i++) {
		const struct class *c = &classes[i / 2];
		struct fixture *f = begin(c);
		char *etag = put(f, "p/from", "ours"), *before = i % 2 != 0 ? put(f, "p/to", "before") : NULL;
		enum obj_status st = copy(f, etag, before, "p/to", "theirs");

		assert_int_equal(st, c->number == 3 ? OBJ_CONFLICT : OBJ_OK);
		check_there(f, "p/to", c->number == 3 ? "theirs" : "ours");
		check_beside(f, "p/to (", c->number == 1 ? "theirs" : NULL);
		fixture_free(&f);
	}
}

/* The earlier copy that it is to replace goes meanwhile: "not found" is not said of the source, which would be deleted
 * then. */
static void test_copy_target_gone(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CLASSES; i++) {
		struct fixture *f = begin(&classes[i]);
		char *etag = put(f, "p/from", "ours"), *before = put(f, "p/to", "before");

		assert_int_not_equal(copy(f, etag, before, "p/to", ""), OBJ_NOT_FOUND);
		check_there(f, "p/from", "ours");
		fixture_free(&f);
	}
}

/* Whether a copy is one is not always to be seen by its ETag; what is seen in its place then, and is another's, stays. */
static void test_copy_covered(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CLASSES; i++) {
		struct fixture *f = begin(&classes[i]);
		char *etag = put_parts(f, "p/from", "ours");

		f->store->hold = OBJ_COPY;
		copy_fenced(f->v, "p/from", etag, "p/to", NULL, NULL, NULL, copied, f);
		while (f->store->held == NULL) {
			tevent_loop_once(f->ev);
		}
		f->store->hold = OBJ_HEAD;
		test_store_release(f->store);
		while (f->store->held == NULL && f->answers == 0) {
			tevent_loop_once(f->ev);
		}
		if (f->answers == 0) {
			assert_string_equal(f->store->held->key, "p/to");
			assert_int_equal(fixture_put(f, "p/to", "other"), OBJ_OK);
			test_store_release(f->store);
			fixture_wait(f, 1);
			check_there(f, "p/to", "other");
		}
		assert_int_equal(f->status, classes[i].caps.copy_if_match_source ? OBJ_OK : OBJ_CONFLICT);
		fixture_free(&f);
	}
}

/* Another tool has put bytes of its own, with the source's metadata, to the new name: it is taken. */
static void test_copy_alike(void **state)
{
	static const struct ofs_oid wid = {{7}};

	(void)state;
	for (unsigned i = 0; i < CLASSES; i++) {
		struct fixture *f = begin(&classes[i]);
		struct obj_req *theirs = objstore_req_new(OBJ_PUT, "p/to");
		char *etag = put_parts_of(f, "p/from", "ours", &wid);

		theirs->body = (uint8_t *)strdup("theirs");
		theirs->length = 6;
		describe(theirs, &wid);
		assert_int_equal(fixture_run(f, theirs), OBJ_OK);
		objstore_req_free(&theirs);
		assert_int_equal(copy(f, etag, NULL, NULL, NULL), OBJ_PRECONDITION);
		check_there(f, "p/to", "theirs");
		fixture_free(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delete),
		cmocka_unit_test(test_delete_of_another),
		cmocka_unit_test(test_delete_race),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_copy_source),
		cmocka_unit_test(test_copy_taken),
		cmocka_unit_test(test_copy_race),
		cmocka_unit_test(test_copy_target_gone),
		cmocka_unit_test(test_copy_covered),
		cmocka_unit_test(test_copy_alike),
	};

	return cmocka_run_group_tests_name("fenced", tests, NULL, NULL);
}
