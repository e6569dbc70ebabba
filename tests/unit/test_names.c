/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Duty: key components and local names: legal, reversible, users' own names untouched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cached/reconcile/names.h"
#include "shared/ring.h"

static void expect(const char *raw, const char *name)
{
	char *got = name_from_raw(NULL, raw);
	char *back = name_to_raw(NULL, got, false);

	assert_string_equal(got, name);
	assert_string_equal(back, raw);
	talloc_free(got);
	talloc_free(back);
}

static void test_pairs(void **state)
{
	(void)state;
	expect("a", "a");
	expect("100%", "100%");
	expect("%~x", "%~x");
	expect("...", "...");
	expect("\xf0\x9f\x98\x80 \xe2\x82\xac", "\xf0\x9f\x98\x80 \xe2\x82\xac");
	expect("", "%~%");
	expect(".", "%~%2E");
	expect("..", "%~%2E%2E");
	expect("a/b", "%~a%2Fb");
	expect("12:30", "%~12%3A30"); /* a client could see it and not open it */
	expect("\\*?\"<>|\x1f", "%~%5C%2A%3F%22%3C%3E%7C%1F");
	expect("x ", "x ");
	expect("x.", "x.");
	expect("a\xff%", "%~a%FF%25");
	expect("\xc0\xaf", "%~%C0%AF");         /* overlong slash */
	expect("\xed\xa0\x80", "%~%ED%A0%80");  /* surrogate */
	expect("\xf4\x90\x80\x80", "%~%F4%90%80%80");
	expect("\xc3", "%~%C3"); /* cut short */
	/* what looks like an escape is escaped */
	expect("%~%2E", "%~%25~%252E");
	expect("%~%", "%~%25~%25");
	expect("%~a%file", "%~%25~a%25file");
}

static void test_users_names(void **state)
{
	static const char *const names[] = { "%~", "%~foo", "%~%41", "%~%2e", "%~a%2", "%~%25~foo",
		"%~%00", "%file", "%~%file%" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *raw = name_to_raw(NULL, names[i], false);
		char *back = name_from_raw(NULL, raw);

		assert_string_equal(raw, names[i]);
		assert_string_equal(back, names[i]);
		talloc_free(raw);
		talloc_free(back);
	}
}

static void test_beside(void **state)
{
	static const char *const raws[] = { "a", "a%file", "%~a%file", "\xff", "." };

	(void)state;
	for (size_t i = 0; i < sizeof(raws) / sizeof(raws[0]); i++) {
		char *name = name_from_raw_beside_dir(NULL, raws[i]);
		char *plain = name_from_raw(NULL, raws[i]);
		char *back = name_to_raw(NULL, name, false);

		assert_string_not_equal(name, plain);
		assert_string_equal(back, raws[i]);
		assert_true(name_is_beside_dir(name, raws[i]));
		assert_false(name_is_beside_dir(plain, raws[i]));
		talloc_free(back);
		back = name_to_raw(NULL, name, true); /* of a directory it is a name like any */
		assert_string_equal(back, name);
		talloc_free(back);
		back = name_to_raw(NULL, plain, true);
		assert_string_equal(back, raws[i]);
		talloc_free(name);
		talloc_free(plain);
		talloc_free(back);
	}
}

static void test_long(void **state)
{
	char raw[700], other[700];
	char *a, *b;

	(void)state;
	for (size_t i = 0; i < sizeof(raw); i += 2) {
		memcpy(raw + i, "\xc3\xa4", 2);
	}
	raw[254] = '\0';
	expect(raw, raw);
	raw[254] = '\xc3';
	raw[sizeof(raw) - 2] = '\0';
	memcpy(other, raw, sizeof(raw));
	other[sizeof(raw) - 3] = 'x';
	other[sizeof(raw) - 4] = 'x';
	a = name_from_raw(NULL, raw);
	b = name_from_raw(NULL, other);
	assert_true(strlen(a) <= OFS_NAME_MAX_BYTES && strlen(a) > 200);
	assert_string_not_equal(a, b);
	expect(a, a); /* a legal name that means itself */
	talloc_free(a);
	talloc_free(b);
	a = name_from_raw_beside_dir(NULL, raw);
	assert_true(strlen(a) <= OFS_NAME_MAX_BYTES);
	expect(a, a);
	talloc_free(a);
	memset(raw, '\xff', 255); /* its escape would be too long */
	raw[255] = '\0';
	a = name_from_raw(NULL, raw);
	assert_true(strlen(a) <= OFS_NAME_MAX_BYTES);
	talloc_free(a);
}

static void test_random(void **state)
{
	static const char alphabet[] = "%~%2E5/.a\xff\xc3\xa4"
				       "file";
	char raw[16];

	(void)state;
	srandom(1);
	for (int i = 0; i < 200000; i++) {
		size_t len = (size_t)random() % 12;
		char *name, *back;

		for (size_t j = 0; j < len; j++) {
			raw[j] = alphabet[(size_t)random() % (sizeof(alphabet) - 1)];
		}
		raw[len] = '\0';
		name = name_from_raw(NULL, raw);
		back = name_to_raw(NULL, name, false);
		if (strcmp(back, raw) != 0 || name[0] == '\0' || strchr(name, '/') != NULL ||
				strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
			fail_msg("\"%s\" became \"%s\", then \"%s\"", raw, name, back);
		}
		talloc_free(back);
		talloc_free(name);
	}
}

static void test_reserved(void **state)
{
	struct ofs_oid root = { "objectfs-root\0\0\1" }, other = { { 1 } };

	(void)state;
	assert_true(name_is_reserved(&root, ".objectfs"));
	assert_false(name_is_reserved(&root, "objectfs"));
	assert_false(name_is_reserved(&other, ".objectfs"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_users_names),
		cmocka_unit_test(test_beside),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_reserved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
