/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Duty: a note of a rename, read back: whoever may write to the bucket may have written it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdint.h>
#include <string.h>
#include "cached/reconcile/private.h"

/* Is this a note? Where it is: the time from which on keys are others', in seconds. */
static bool reads(const char *text, int64_t *cutoff_s)
{
	struct volume v = {.prefix = (char *)"share/"};
	struct obj_result r = {.body = (uint8_t *)text, .body_len = strlen(text)};
	struct rename_note n;
	bool is = rename_note_read(&v, &r, &n);

	*cutoff_s = n.cutoff_ns / NS_PER_S;
	json_decref(n.doc);
	return is;
}

#define NOTE(rest) "{\"format\": \"objectfs rename 2\", " rest "}"
#define FROM "\"from\": \"share/a/\", "

static void test_good(void **state)
{
	static const char *const notes[] = {
		NOTE(FROM "\"to\": \"share/b/\", \"node\": \"n\", \"cutoff\": 1600000000"),
		"{\"format\": \"objectfs rename 1\", " FROM "\"to\": \"share/b/\"}",
		NOTE("\"from\": \"share/.objectfs/stage/0/\", \"to\": \"share/b/\""),
		NOTE(FROM "\"to\": \"share/.objectfs/stage/0/\", \"stays\": \"archived\""),
		NOTE("\"from\": \"share/.objectfs-old/\", \"to\": \"share/.objectfsx\""), /* a client's names */
	};
	int64_t cutoff_s;

	(void)state;
	for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
		assert_true(reads(notes[i], &cutoff_s));
		assert_int_equal(cutoff_s, i == 0 ? 1600000000 : 0);
	}
}

/* What would move something that is no client's, or elsewhere, moves nothing. */
static void test_forged(void **state)
{
	static const char *const notes[] = {
		"",
		"[]",
		NOTE(FROM "\"from\": \"share/c/\", \"to\": \"share/b/\""),
		NOTE("\"from\": \"share/a/\""),
		NOTE("\"to\": \"share/b/\""),
		NOTE(FROM "\"to\": 7"),
		NOTE(FROM "\"to\": \"share/b/\", \"node\": 7"),
		NOTE(FROM "\"to\": \"share/b/\", \"stays\": 7"),
		NOTE(FROM "\"to\": \"share/b/\", \"cutoff\": \"7\""),
		NOTE(FROM "\"to\": \"share/b/\", \"cutoff\": -1"),
		NOTE(FROM "\"to\": \"share/b/\", \"cutoff\": 9223372037"),
		"{\"format\": \"objectfs rename 3\", " FROM "\"to\": \"share/b/\"}",
		NOTE("\"from\": \"other/a/\", \"to\": \"share/b/\""),
		NOTE("\"from\": \"share/\", \"to\": \"share/b/\""),
		NOTE("\"from\": \"share/.objectfs/log/1\", \"to\": \"share/b\""),
		NOTE(FROM "\"to\": \"other/b/\""),
		NOTE(FROM "\"to\": \"share/\""),
		NOTE(FROM "\"to\": \"share/.objectfs\""),
		NOTE(FROM "\"to\": \"share/.objectfs/volume\""),
		NOTE(FROM "\"to\": \"share/.objectfs/stage/0/\""),
		NOTE(FROM "\"to\": \"share/.objectfs/volume\", \"stays\": \"archived\""),
	};
	int64_t cutoff_s;

	(void)state;
	for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
		if (reads(notes[i], &cutoff_s)) {
			fail_msg("this is no note: %s", notes[i]);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_forged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
