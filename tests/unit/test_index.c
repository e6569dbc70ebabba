/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the index keeps one row a place, finds it, and says which key and path it has.
 * Way: index_fixture.c.
 * Thread: core, and the DISK_INDEX worker.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "cached/base/log.h"
#include "cached/objstore/objstore.h"
#include "tests/lib/index_fixture.h"

static void test_root(void **state)
{
	struct fix *f = *state;
	struct row *root = index_get(f->ix, &OFS_OID_ROOT);

	assert_non_null(root);
	assert_true(root->is_dir && root->in_s3 && root->live == ROW_HERE);
	assert_string_equal(root->name, ".");
	assert_string_equal(root->s3_name, "");
	assert_memory_equal(OFS_OID_ROOT.bytes, "objectfs-root\0\0\1", 16);
	assert_memory_equal(OFS_OID_STAGE.bytes, "objectfs-stage\0\1", 16);
	index_remove(f->ix, root);
	index_clear_s3(f->ix, root);
	index_set_live(f->ix, root, ROW_NOT_HERE);
	assert_ptr_equal(index_get(f->ix, &OFS_OID_ROOT), root);
	assert_true(root->in_s3 && root->live == ROW_HERE);
	assert_int_equal(index_count(f->ix), 1);
}

static void test_places(void **state)
{
	struct fix *f = *state;
	struct row *d = fix_add(f, 1, true), *a = fix_add(f, 2, false), *b = fix_add(f, 3, false);

	assert_ptr_equal(fix_add(f, 2, false), a);
	index_set_here(f->ix, d, &OFS_OID_ROOT, "dir", 10);
	index_set_s3(f->ix, d, &OFS_OID_ROOT, "dir");
	index_set_here(f->ix, a, &d->oid, "x", 11);
	assert_ptr_equal(index_live_child(f->ix, d), a);
	/* its own strings and ids as arguments */
	index_set_s3(f->ix, a, &a->parent, a->name);
	assert_ptr_equal(index_at_s3(f->ix, &d->oid, "x", false), a);
	assert_ptr_equal(index_s3_child(f->ix, d), a);
	index_set_fence(f->ix, a, "etag", NULL, NULL, 5, 6);
	/* another takes both places, named by the loser's own strings */
	index_set_here(f->ix, b, &a->parent, a->name, 12);
	assert_int_equal(a->live, ROW_NOT_HERE);
	assert_ptr_equal(index_at_live(f->ix, &d->oid, "x"), b);
	index_set_s3(f->ix, b, &a->s3_parent, a->s3_name);
	assert_false(a->in_s3);
	assert_null(a->etag);
	assert_ptr_equal(index_at_s3(f->ix, &d->oid, "x", false), b);
	assert_ptr_equal(index_s3_child(f->ix, d), b);
	assert_null(index_s3_next(f->ix, b));
	/* trashed: keeps the name, not the place */
	index_set_live(f->ix, b, ROW_TRASHED);
	assert_null(index_at_live(f->ix, &d->oid, "x"));
	assert_string_equal(b->name, "x");
	assert_null(index_live_child(f->ix, d));
	index_set_here(f->ix, b, &OFS_OID_ROOT, "y", 12);
	assert_string_equal(b->s3_name, "x");
	index_clear_s3(f->ix, b);
	assert_string_equal(b->name, "y");
	index_remove(f->ix, a);
	assert_int_equal(index_count(f->ix), 3);
	assert_null(index_get(f->ix, &(struct ofs_oid){ { 7, 2 } }));
}

/* Rows come and go between two steps: those that stay are seen once. */
static void test_walk(void **state)
{
	struct fix *f = *state;
	struct index_walk walk, other;
	struct row *dir = fix_add(f, 1, true), *r;
	bool seen[40] = { false };
	char name[16];

	index_set_s3(f->ix, dir, &OFS_OID_ROOT, "dir");
	for (unsigned n = 10; n < 30; n++) {
		snprintf(name, sizeof(name), "f%u", n);
		index_set_s3(f->ix, fix_add(f, n, false), &dir->oid, name);
	}
	index_walk_begin(f->ix, &walk, dir);
	index_walk_begin(f->ix, &other, dir);
	for (unsigned step = 0; (r = index_walk_next(f->ix, &walk)) != NULL; step++) {
		unsigned n = r->oid.bytes[1];

		assert_ptr_equal(index_numbered(f->ix, r->number), r);
		assert_true(n >= 10 && n < 30);
		assert_false(seen[n]);
		seen[n] = true;
		if (step == 3) { /* the next two: one goes elsewhere, one for good; and a new one comes */
			struct row *next = index_s3_next(f->ix, r), *last = index_s3_next(f->ix, next);
			uint32_t number = last->number;

			seen[next->oid.bytes[1]] = seen[last->oid.bytes[1]] = true;
			index_set_s3(f->ix, next, &OFS_OID_ROOT, "elsewhere");
			index_clear_s3(f->ix, last);
			index_remove(f->ix, last);
			assert_null(index_numbered(f->ix, number));
			index_set_s3(f->ix, fix_add(f, 31, false), &dir->oid, "new");
		}
	}
	for (unsigned n = 10; n < 30; n++) {
		assert_true(seen[n]);
	}
	assert_null(index_walk_next(f->ix, &walk));
	index_walk_end(f->ix, &walk);
	index_walk_end(f->ix, &walk);
	assert_non_null(index_walk_next(f->ix, &other));
	index_walk_end(f->ix, &other);
}

/* "a" and "a/" are two keys: neither row takes the other's place, nor loses it by a restart. */
static void test_kinds(void **state)
{
	struct fix *f = *state;
	struct row *d = fix_add(f, 1, true), *a = fix_add(f, 2, false), *b = fix_add(f, 3, false), *x = fix_add(f, 4, false);
	char path[] = "a/x", twice[] = "a//x", both[] = "a", *rest = path;

	for (int round = 0; round < 2; round++) { /* either one first */
		index_set_s3(f->ix, round == 0 ? d : a, &OFS_OID_ROOT, "a");
		index_set_s3(f->ix, round == 0 ? a : d, &OFS_OID_ROOT, "a");
		assert_true(d->in_s3 && a->in_s3);
		assert_ptr_equal(index_at_s3(f->ix, &OFS_OID_ROOT, "a", true), d);
		assert_ptr_equal(index_at_s3(f->ix, &OFS_OID_ROOT, "a", false), a);
		index_clear_s3(f->ix, round == 0 ? d : a);
		assert_true(round == 0 ? a->in_s3 : d->in_s3);
		index_clear_s3(f->ix, round == 0 ? a : d);
	}
	index_set_s3(f->ix, d, &OFS_OID_ROOT, "a");
	index_set_s3(f->ix, a, &OFS_OID_ROOT, "a");
	index_set_s3(f->ix, b, &OFS_OID_ROOT, "a"); /* from the file alone */
	assert_true(d->in_s3 && b->in_s3 && !a->in_s3);
	index_set_s3(f->ix, x, &d->oid, "x");
	index_set_fence(f->ix, d, "marker", NULL, NULL, 0, 1);
	index_set_fence(f->ix, b, "file", NULL, NULL, 5, 1);
	index_set_here(f->ix, d, &OFS_OID_ROOT, "a", 1);
	index_set_here(f->ix, b, &OFS_OID_ROOT, "%~a%file", 2);
	assert_ptr_equal(index_below(f->ix, &OFS_OID_ROOT, &rest), d);
	assert_ptr_equal(index_below(f->ix, &d->oid, &rest), x);
	assert_null(index_below(f->ix, &x->oid, &rest));
	rest = both;
	assert_ptr_equal(index_below(f->ix, &OFS_OID_ROOT, &rest), b);
	rest = twice;
	assert_ptr_equal(index_below(f->ix, &OFS_OID_ROOT, &rest), d);
	assert_null(index_below(f->ix, &d->oid, &rest)); /* a component without a name */
	assert_string_equal(rest, "x");
	fix_reopen(f);
	d = index_at_s3(f->ix, &OFS_OID_ROOT, "a", true);
	b = index_at_s3(f->ix, &OFS_OID_ROOT, "a", false);
	assert_true(d != NULL && d->is_dir && b != NULL && !b->is_dir);
	assert_string_equal(d->etag, "marker");
	assert_string_equal(b->etag, "file");
	assert_ptr_equal(index_at_live(f->ix, &OFS_OID_ROOT, "%~a%file"), b);
}

static void test_orphans(void **state)
{
	struct fix *f = *state;
	struct ofs_oid parent = fix_oid(50);
	struct row *a = fix_add(f, 51, false), *d;

	index_set_here(f->ix, a, &parent, "x", 1);
	index_set_s3(f->ix, a, &parent, "x");
	assert_null(index_path(f->ix, f, a));
	assert_null(index_key(f->ix, f, "p/", &parent, "x", false, NULL));
	d = index_add(f->ix, &parent, true);
	assert_ptr_equal(index_live_child(f->ix, d), a);
	assert_ptr_equal(index_s3_child(f->ix, d), a);
	index_remove(f->ix, d);
	assert_ptr_equal(index_at_live(f->ix, &parent, "x"), a);
	index_remove(f->ix, a);
	assert_null(index_at_live(f->ix, &parent, "x"));
}

static void test_keys(void **state)
{
	struct fix *f = *state;
	struct row *d = fix_add(f, 1, true), *e = fix_add(f, 2, true), *a = fix_add(f, 3, false);
	char name[256];
	bool too_long = true;
	char *key;

	index_set_s3(f->ix, d, &OFS_OID_ROOT, "old");
	index_set_here(f->ix, d, &OFS_OID_ROOT, "new", 1);
	index_set_here(f->ix, e, &d->oid, "%~%2E", 2); /* the component "." */
	index_set_here(f->ix, a, &e->oid, "f", 3);
	assert_string_equal(index_key(f->ix, f, "p/", &OFS_OID_ROOT, "", false, NULL), "p/");
	assert_string_equal(index_key(f->ix, f, "", &OFS_OID_ROOT, "", true, NULL), "");
	assert_string_equal(index_key(f->ix, f, "p/", &OFS_OID_ROOT, "a", false, NULL), "p/a");
	key = index_key(f->ix, f, "p/", &a->parent, "f", false, &too_long);
	assert_string_equal(key, "p/old/./f");
	assert_false(too_long);
	assert_string_equal(index_key(f->ix, f, "p/", &d->oid, "e", true, NULL), "p/old/e/");
	assert_string_equal(index_key(f->ix, f, "p/", &OFS_OID_STAGE, "0a", false, NULL),
			"p/.objectfs/stage/0a");
	assert_string_equal(index_path(f->ix, f, a), "new/%~%2E/f");
	assert_string_equal(index_path(f->ix, f, index_get(f->ix, &OFS_OID_ROOT)), ".");
	/* 1,024 bytes are a key, 1,025 are not */
	memset(name, 'n', 255);
	name[255] = '\0';
	for (unsigned i = 0; i < 4; i++) {
		struct row *r = fix_add(f, 100 + i, true);
		struct ofs_oid up = fix_oid(99 + i);

		index_set_s3(f->ix, r, i == 0 ? &OFS_OID_ROOT : &up, name);
	}
	key = index_key(f->ix, f, "", &(struct ofs_oid){ { 7, 102 } }, name, true, &too_long);
	assert_int_equal(strlen(key), OBJ_KEY_MAX_BYTES);
	assert_null(index_key(f->ix, f, "p", &(struct ofs_oid){ { 7, 102 } }, name, true, &too_long));
	assert_true(too_long);
	/* parents in a circle */
	index_set_s3(f->ix, d, &e->oid, "d");
	index_set_s3(f->ix, e, &d->oid, "e");
	assert_null(index_key(f->ix, f, "", &d->oid, "x", false, &too_long));
	assert_true(too_long);
	index_set_here(f->ix, d, &e->oid, "d", 1);
	index_set_here(f->ix, e, &d->oid, "e", 1);
	assert_null(index_path(f->ix, f, a));
}

/* Millions of rows are kept in memory: a name of 18 bytes, an ETag and a SHA-256 take 300 bytes in all. */
static void test_memory(void **state)
{
	struct fix *f = *state;
	const uint8_t sum[32] = { 1 };
	const unsigned rows = 16000;
	struct mallinfo2 before, after;

	index_close(&f->ix);
	before = mallinfo2();
	fix_open(f);
	for (unsigned i = 0; i < rows; i++) {
		struct ofs_oid oid;
		struct row *r;
		char name[32];

		clock_random(f->clock, &oid, sizeof(oid));
		snprintf(name, sizeof(name), "report %06u.docx", i);
		r = index_add(f->ix, &oid, false);
		index_set_here(f->ix, r, &OFS_OID_ROOT, name, i + 2);
		index_set_s3(f->ix, r, &OFS_OID_ROOT, name);
		index_set_fence(f->ix, r, "\"d41d8cd98f00b204e9800998ecf8427e\"", NULL, NULL, 1, 1);
		index_set_sha256(f->ix, r, sum);
	}
	fix_reopen(f);
	assert_int_equal(index_count(f->ix), rows + 1);
	after = mallinfo2(); /* zeros where a sanitizer has the heap */
	assert_true(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd < 326ull * rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_root, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_places, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_walk, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_kinds, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_orphans, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_keys, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_memory, fix_setup, fix_teardown),
	};

	log_open("/dev/null", LOG_LVL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
