/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Directories out of pages without a delimiter: what a LIST with one would say of each, and never too early. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cached/mirror/flat.h"
#include "cached/mirror/walk.h"

#define KEYS 300u

struct keys {
	char key[KEYS][64];
	unsigned count;
};

static int key_compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* Some of a few letters, so that they meet: "p/", "p/a", "p/a/", "p/a//b", "p/a.", ... */
static void keys_make(struct keys *k, unsigned seed)
{
	static const char letters[] = "aab/./-\xc3";
	unsigned n = 1 + seed % KEYS, i, j;

	srandom(seed);
	for (i = 0; i < n; i++) {
		unsigned len = (unsigned)random() % 9;

		strcpy(k->key[i], "p/");
		for (j = 0; j < len; j++) {
			k->key[i][2 + j] = letters[(unsigned)random() % (sizeof(letters) - 1)];
		}
		k->key[i][2 + len] = '\0';
	}
	qsort(k->key, n, sizeof(k->key[0]), key_compare);
	k->count = 0;
	for (i = 0; i < n; i++) {
		if (k->count == 0 || strcmp(k->key[k->count - 1], k->key[i]) != 0) {
			memmove(k->key[k->count++], k->key[i], sizeof(k->key[0]));
		}
	}
}

static int add(struct flat *f, const char *key)
{
	struct obj_entry e = {.key = (char *)key, .size = (int64_t)strlen(key), .mtime_ns = 5, .etag = (char *)"etag"};

	return flat_add(f, &e);
}

/* The directory's rows are those of a LIST with a delimiter. */
static void check_rows(const struct keys *k, const char *dir, struct flat_dir *d)
{
	size_t len = strlen(dir);
	struct flat_row *row;
	char last[64] = "-";

	for (unsigned i = 0; i < k->count; i++) {
		const char *rest = k->key[i] + len, *slash;
		size_t name;

		if (strncmp(k->key[i], dir, len) != 0) {
			continue;
		}
		slash = strchr(rest, '/');
		name = slash != NULL ? (size_t)(slash - rest) : strlen(rest);
		if (slash != NULL && strncmp(last, rest, name) == 0 && last[name] == '/') {
			continue; /* of the same prefix */
		}
		row = flat_dir_next(d);
		assert_non_null(row);
		assert_int_equal(strlen(row->name), name);
		assert_memory_equal(row->name, rest, name);
		assert_int_equal(row->is_dir, slash != NULL);
		if (slash != NULL) {
			snprintf(last, sizeof(last), "%.*s/", (int)name, rest);
			assert_int_equal(row->implied, slash[1] != '\0');
			assert_null(row->etag);
		} else {
			assert_int_equal(row->size, strlen(k->key[i]));
			assert_string_equal(row->etag, "etag");
		}
		free(row);
	}
	assert_null(flat_dir_next(d));
}

static void test_rows(void **state)
{
	static struct keys k;
	unsigned had = 0, ahead = 0;

	(void)state;
	for (unsigned seed = 1; seed < 400; seed++) {
		struct flat *f = flat_new(NULL, "p/", NULL);

		keys_make(&k, seed);
		flat_asked(f, 1, 1);
		for (unsigned i = 0; i <= k.count; i++) {
			char dir[64];
			struct flat_dir *d;
			char *slash;

			if (i < k.count) {
				assert_int_equal(add(f, k.key[i]), 0);
			} else {
				flat_end(f);
			}
			/* Some directory of some key, come or not. */
			snprintf(dir, sizeof(dir), "%s", k.key[(unsigned)random() % k.count]);
			slash = strrchr(dir, '/');
			slash[1] = '\0';
			if (flat_ask(f, dir) == FLAT_AHEAD) {
				ahead++;
				assert_true(i < k.count);
			} else if (flat_ask(f, dir) == FLAT_HAS) {
				had++;
				/* No key that is still to come is below it. */
				assert_true(i == k.count || strncmp(k.key[i], dir, strlen(dir)) != 0);
				d = flat_take(f, dir);
				check_rows(&k, dir, d);
				flat_dir_free(&d);
				assert_int_equal(flat_ask(f, dir), FLAT_NOT);
			}
		}
		talloc_free(f);
	}
	assert_true(had > 1000 && ahead > 1000);
}

static void test_answers(void **state)
{
	struct flat *f = flat_new(NULL, "p/", NULL);

	(void)state;
	flat_asked(f, 1, 1);
	assert_int_equal(flat_ask(f, "p/a/"), FLAT_AHEAD);
	assert_int_equal(flat_ask(f, "q/"), FLAT_NOT);
	assert_int_equal(add(f, "p/a/1"), 0);
	assert_int_equal(flat_ask(f, "p/a/"), FLAT_AHEAD); /* more of it may come */
	assert_int_equal(add(f, "p/c/1"), 0);
	assert_int_equal(flat_ask(f, "p/a/"), FLAT_HAS);
	assert_int_equal(flat_ask(f, "p/b/"), FLAT_NOT); /* it has no key: no LIST of its own, no conclusion */
	assert_int_equal(flat_ask(f, "p/"), FLAT_AHEAD);
	assert_int_equal(add(f, "p/b/1"), -EBADMSG);
	assert_int_equal(add(f, "p/c/1"), -EBADMSG);
	assert_int_equal(add(f, "other"), -EBADMSG);
	flat_end(f);
	assert_int_equal(flat_ask(f, "p/"), FLAT_HAS);
	assert_int_equal(flat_ask(f, "p/d/"), FLAT_NOT);
	talloc_free(f);
}

static void test_touched(void **state)
{
	struct flat *f = flat_new(NULL, "p/", "p/s/");
	char key[32];

	(void)state;
	flat_asked(f, 1, 1);
	flat_touch(f, "p/b/"); /* its page is under way, and may be from before */
	assert_int_equal(add(f, "p/a/1"), 0);
	assert_int_equal(add(f, "p/b/1"), 0);
	assert_int_equal(add(f, "p/c/1"), 0);
	assert_int_equal(flat_ask(f, "p/b/"), FLAT_NOT);
	flat_touch(f, "p/a/"); /* whole */
	assert_int_equal(flat_ask(f, "p/a/"), FLAT_NOT);
	flat_touch(f, "p/c/"); /* half of it is here */
	flat_touch(f, "p/e/"); /* before its page is asked for: that has it */
	flat_asked(f, 2, 2);
	assert_int_equal(add(f, "p/c/2"), 0);
	assert_int_equal(add(f, "p/d/1"), 0);
	assert_int_equal(add(f, "p/e/1"), 0);
	assert_int_equal(add(f, "p/s/1"), 0); /* nobody will ask */
	assert_int_equal(add(f, "p/s/t/1"), 0);
	for (unsigned i = 0; i < 300; i++) { /* more than it can keep apart */
		snprintf(key, sizeof(key), "p/z%u/", i);
		flat_touch(f, key);
	}
	assert_int_equal(add(f, "p/t/1"), 0);
	flat_end(f);
	assert_int_equal(flat_ask(f, "p/c/"), FLAT_NOT);
	assert_int_equal(flat_ask(f, "p/d/"), FLAT_HAS);
	assert_int_equal(flat_ask(f, "p/e/"), FLAT_HAS);
	assert_int_equal(flat_ask(f, "p/s/"), FLAT_NOT);
	assert_int_equal(flat_ask(f, "p/s/t/"), FLAT_NOT);
	assert_int_equal(flat_ask(f, "p/t/"), FLAT_NOT);
	assert_int_equal(flat_ask(f, "p/"), FLAT_HAS); /* with all that it names */
	talloc_free(f);
}

static void expect_choice(const char *top, const char *big, const char *key, const char *wanted)
{
	char *chosen = walk_choose(NULL, top, big, key);

	if (wanted == NULL) {
		assert_null(chosen);
	} else {
		assert_string_equal(chosen, wanted);
	}
	talloc_free(chosen);
}

static void test_choose(void **state)
{
	(void)state;
	expect_choice("p/a/", NULL, "p/a/b/", "p/a/");
	expect_choice("", NULL, "a/b/", "");
	expect_choice("p/", "p/", "p/a/b/", "p/a/");
	expect_choice("p/", "p/", "p/", NULL);
	expect_choice("p/", "p/a/", "p/a/b/c/", "p/a/b/");
	expect_choice("p/", "p/a/", "p/b/c/d/", "p/b/"); /* p/ is more than p/a/ */
	expect_choice("p/", "p/a/b/", "p/a/", NULL);
	expect_choice("p/", "p/ab/", "p/a/c/", "p/a/");
	expect_choice("", "", "a/b/", "a/");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_touched),
		cmocka_unit_test(test_choose),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
