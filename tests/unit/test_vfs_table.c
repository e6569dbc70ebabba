/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The module's table of VFS operations: what is ours or refused names a test that is there, or the
 * reason why no client gets to it; what is NEXT has no function. That no slot is missing is checked
 * by the compiler in vfs_objectfs.c.
 * Way: run from the root of the checkout, as tests/run does, or with ROOT set.
 */
#include "vfs_objectfs/ofs_compat.h"
#include "vfs_objectfs/ofs_table.h"

#include <setjmp.h>
#include <cmocka.h>

struct row {
	const char *slot, *function, *what, *test;
};

#define ROW(slot, function, what, test) {#slot, #function, #what, test},
static const struct row rows[] = {OFS_VFS_TABLE(ROW)};

static bool test_exists(const char *path)
{
	const char *root = getenv("ROOT");
	char full[PATH_MAX];

	snprintf(full, sizeof(full), "%s/%s", root != NULL ? root : ".", path);
	return access(full, X_OK) == 0;
}

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[i];
		bool next = strcmp(r->what, "NEXT") == 0;

		if (next != (strcmp(r->function, "NULL") == 0)) {
			fail_msg("%s: %s with function %s", r->slot, r->what, r->function);
		}
		if (!next && strcmp(r->what, "ours") != 0 && strcmp(r->what, "refused") != 0) {
			fail_msg("%s: what is '%s'?", r->slot, r->what);
		}
		if (!next && strncmp(r->test, "unreached: ", 11) != 0 && !test_exists(r->test)) {
			fail_msg("%s: no test '%s'", r->slot, r->test);
		}
	}
}

static void test_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		for (size_t j = i + 1; j < ARRAY_SIZE(rows); j++) {
			assert_string_not_equal(rows[i].slot, rows[j].slot);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
