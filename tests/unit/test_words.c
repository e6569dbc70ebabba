/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is typed behind a command, against what the table says; a configuration as it is shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "cached/admin/words.h"
#include "cached/base/conf.h"

#define FLUSH "[--wait] [--timeout SECONDS] [PATH]"
#define COUNT(a) ((unsigned)(sizeof(a) / sizeof((a)[0])))

static void test_taken(void **state)
{
	const char *words[] = {"--timeout", "1.5", "a path", "--wait"}, *plain[] = {"--", "--wait"};
	char why[WORDS_WHY_BYTES];
	struct words w;

	(void)state;
	assert_int_equal(words_take(&w, FLUSH, COUNT(words), words, why), 0);
	assert_string_equal(words_option(&w, "--timeout"), "1.5");
	assert_string_equal(words_option(&w, "--wait"), "");
	assert_null(words_option(&w, "--limit"));
	assert_int_equal(w.plain_count, 1);
	assert_string_equal(w.plain[0], "a path");
	assert_int_equal(words_take(&w, FLUSH, COUNT(plain), plain, why), 0);
	assert_null(words_option(&w, "--wait"));
	assert_string_equal(w.plain[0], "--wait");
	assert_int_equal(words_take(&w, "", 0, NULL, why), 0);
}

static void test_refused(void **state)
{
	static const struct {
		const char *args, *words[3], *why;
	} rows[] = {
		{"", {"x"}, "too many"},
		{"PATH", {NULL}, "missing"},
		{"LEVEL [VOLUME]", {"a", "b", "c"}, "c is one word too many"},
		{FLUSH, {"--soon"}, "no option --soon"},
		{FLUSH, {"--wai"}, "no option --wai"},
		{FLUSH, {"--timeout"}, "needs SECONDS"},
		{FLUSH, {"--timeout", "0"}, "not 0"},
		{FLUSH, {"--timeout", "5x"}, "not 5x"},
		{"[--limit NUMBER]", {"--limit", "1e3"}, "not 1e3"},
		{"[--from PLACE]", {"--from", ""}, "needs PLACE"},
		{"[--wait] [PATH]", {"PATH]", "--PATH"}, "no option --PATH"},
	};
	char why[WORDS_WHY_BYTES];
	struct words w;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		unsigned n = 0;

		while (n < 3 && rows[i].words[n] != NULL) {
			n++;
		}
		assert_true(words_take(&w, rows[i].args, n, rows[i].words, why) < 0);
		if (strstr(why, rows[i].why) == NULL) {
			fail_msg("row %zu: %s", i, why);
		}
	}
}

/* Longer and more than there is room for. */
static void test_many(void **state)
{
	char large[2000], why[WORDS_WHY_BYTES];
	const char *many[100], *one[] = {large};
	struct words w;

	(void)state;
	memset(large, 'x', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	assert_int_equal(words_take(&w, "PATH", 1, one, why), 0);
	memset(large, '-', 2);
	assert_true(words_take(&w, "PATH", 1, one, why) < 0);
	for (size_t i = 0; i < COUNT(many); i++) {
		many[i] = "--wait";
	}
	assert_true(words_take(&w, FLUSH, COUNT(many), many, why) < 0);
}

/* ---- the configuration, shown ---- */

static struct conf *conf_of(TALLOC_CTX *ctx, const char *text)
{
	FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
	struct conf *conf = NULL;
	char *error = NULL;

	assert_int_equal(conf_load_stream(ctx, f, "x.conf", &conf, &error), 0);
	fclose(f);
	return conf;
}

#define VOLUME "[volume v]\nstore = s3\nbucket = buck\nsecret key = s3cr3t\naccess key = a\n"

static void note(void *arg, const char *secret)
{
	strcat(arg, secret);
}

static void test_shown(void **state)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	struct conf *conf = conf_of(ctx, "[global]\nworkers = 3\n" VOLUME);
	json_t *list = conf_json(conf);
	char *text = json_dumps(list, JSON_COMPACT), secrets[100] = "";

	(void)state;
	assert_null(strstr(text, "s3cr3t"));
	assert_non_null(strstr(text, "{\"section\":\"global\",\"key\":\"workers\",\"value\":\"3\","
				     "\"source\":\"x.conf:2\"}"));
	assert_non_null(strstr(text, "{\"section\":\"volume v\",\"key\":\"settle time\",\"value\":"
				     "\"5s\",\"source\":\"default\"}"));
	assert_non_null(strstr(text, "\"key\":\"profile\",\"value\":null"));
	conf_secrets_each(conf, note, secrets);
	assert_string_equal(secrets, "s3cr3t");
	free(text);
	json_decref(list);
	talloc_free(ctx);
}

static void test_changes(void **state)
{
	static const struct {
		const char *now, *changes;
	} rows[] = {
		{VOLUME, "[]"},
		{"[global]\nworkers = 8\n" VOLUME, "[]"},
		{"[global]\nworkers = 9\n" VOLUME, "[\"[global] workers\"]"},
		{"[volume v]\nstore = s3\nbucket = buck\nsecret key = other\naccess key = a\n",
			"[\"[volume v] secret key\"]"},
		{VOLUME "[volume w]\nstore = dir\ndirectory = /w\n", "[\"[volume w] is new\"]"},
		{"[volume w]\nstore = dir\ndirectory = /w\n",
			"[\"[volume v] is gone\",\"[volume w] is new\"]"},
	};
	TALLOC_CTX *ctx = talloc_new(NULL);
	struct conf *then = conf_of(ctx, VOLUME);

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		json_t *list = conf_changes(then, conf_of(ctx, rows[i].now));
		char *text = json_dumps(list, JSON_COMPACT);

		assert_string_equal(text, rows[i].changes);
		free(text);
		json_decref(list);
	}
	talloc_free(ctx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_shown),
		cmocka_unit_test(test_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
