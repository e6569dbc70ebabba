/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Log lines as text and as JSON, levels of volumes; addresses of the pages for monitoring. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <talloc.h>
#include <unistd.h>
#include <cmocka.h>
#include "cached/base/address.h"
#include "cached/base/log.h"
#include "tests/lib/scratch.h"

static char tmp[4096];

static int group_setup(void **state)
{
	(void)state;
	scratch_make(tmp, sizeof(tmp), "log");
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	scratch_remove(tmp);
	return 0;
}

static char *read_file(TALLOC_CTX *ctx, const char *path)
{
	char *buf = talloc_zero_size(ctx, 65536);
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	assert_true(read(fd, buf, 65535) >= 0);
	close(fd);
	return buf;
}

static void test_log(void **state)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	char *path = talloc_asprintf(ctx, "%s/log", tmp);
	char *old = talloc_asprintf(ctx, "%s/log.1", tmp);
	char *text, *big = talloc_zero_size(ctx, 10000);
	int y, mo, d, h, mi, s, us, end = 0;

	(void)state;
	assert_int_equal(log_open(talloc_asprintf(ctx, "%s/no/log", tmp), LOG_LVL_INFO), -ENOENT);
	assert_int_equal(log_open(path, LOG_LVL_INFO), 0);
	errno = EDOM;
	log_line(LOG_LVL_WARNING, "upload", 42, "text %d %m", 7);
	assert_int_equal(errno, EDOM);
	log_debug("core", "not seen");
	log_info("core", "a name: %s", "x\n\x1b[2J\x7fy\xc3\xa4");
	memset(big, 'b', 9999);
	log_error("core", "%s", big);
	text = read_file(ctx, path);
	assert_int_equal(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%6dZ %n", &y, &mo, &d, &h, &mi, &s,
					 &us, &end),
			7);
	assert_int_equal(end, 28);
	assert_int_equal(strncmp(text + end, "WARNING upload [req 42] text 7 Numerical", 40), 0);
	assert_null(strstr(text, "not seen"));
	assert_non_null(strstr(text, " INFO core a name: x\\x0a\\x1b[2J\\x7fy\xc3\xa4\n"));
	assert_non_null(strstr(text, "bbb...\n"));
	/* rotated away and opened again */
	assert_int_equal(rename(path, old), 0);
	log_notice("core", "still old");
	assert_int_equal(log_open(path, LOG_LVL_DEBUG), 0);
	log_debug("core", "new");
	log_close();
	assert_non_null(strstr(read_file(ctx, old), "still old"));
	assert_null(strstr(read_file(ctx, old), "DEBUG core new"));
	assert_non_null(strstr(read_file(ctx, path), "DEBUG core new"));
	assert_int_equal(log_level_parse("Warning"), LOG_LVL_WARNING);
	assert_int_equal(log_level_parse("loud"), -1);
	log_set_level(LOG_LVL_NOTICE);
	unlink(path);
	unlink(old);
	talloc_free(ctx);
}

static void test_log_json(void **state)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	char *path = talloc_asprintf(ctx, "%s/json", tmp), *big = talloc_zero_size(ctx, 10000);
	const struct log_volume *v = log_volume("vol");
	char *line, *rest;
	json_t *j;

	(void)state;
	memset(big, 1, 9999); /* each becomes six bytes */
	assert_int_equal(log_open(path, LOG_LVL_INFO), 0);
	log_set_format(LOG_FORMAT_JSON);
	assert_ptr_equal(log_volume("vol"), v);
	assert_null(log_enter(v));
	log_line(LOG_LVL_WARNING, "upload", 42, "a \"%s\"\n", "\\\x7f\xc3\xa4\xff");
	log_debug("core", "not seen");
	log_volume_set_level(v, LOG_LVL_DEBUG);
	log_debug("core", "seen");
	assert_ptr_equal(log_enter(NULL), v);
	log_debug("core", "not seen");
	log_info("core", "%s", big);
	log_volume_set_level(v, -1);
	assert_int_equal(log_level_of(v), LOG_LVL_INFO);
	log_set_format(LOG_FORMAT_TEXT);
	log_close();
	rest = read_file(ctx, path);
	for (int i = 0; (line = strsep(&rest, "\n")) != NULL && *line != '\0'; i++) {
		j = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
		assert_non_null(j);
		if (i == 0) {
			assert_string_equal(json_string_value(json_object_get(j, "volume")), "vol");
			assert_string_equal(json_string_value(json_object_get(j, "level")), "warning");
			assert_string_equal(json_string_value(json_object_get(j, "message")),
					"a \"\\\x7f\xc3\xa4\xef\xbf\xbd\"\n");
			assert_int_equal(json_integer_value(json_object_get(j, "request")), 42);
		}
		if (i == 1) {
			assert_string_equal(json_string_value(json_object_get(j, "message")), "seen");
		}
		if (i == 2) {
			assert_null(json_object_get(j, "volume"));
			assert_int_equal(json_string_length(json_object_get(j, "message")), 4095);
		}
		assert_true(i <= 2);
		json_decref(j);
	}
	log_set_level(LOG_LVL_NOTICE);
	unlink(path);
	talloc_free(ctx);
}

static void test_address(void **state)
{
	static const char *const wrong[] = {"", ":", "1.2.3.4", "1.2.3.4:", "1.2.3.4:0", "1.2.3:1",
			"1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4: 1", "::1:80", "[::1]", "[::1:80", "[]:80",
			"[1.2.3.4]:80", "localhost:80", "1.2.3.4:80x", "1.2.3.4:00000080"};
	struct sockaddr_storage a;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(address_parse(wrong[i], &a), -EINVAL);
	}
	assert_int_equal(address_parse("127.9.9.9:9470", &a), 0);
	assert_true(a.ss_family == AF_INET && address_is_loopback(&a));
	assert_int_equal(((struct sockaddr_in *)&a)->sin_port, htons(9470));
	assert_int_equal(address_parse("0.0.0.0:65535", &a), 0);
	assert_false(address_is_loopback(&a));
	assert_int_equal(address_parse("[::1]:1", &a), 0);
	assert_true(a.ss_family == AF_INET6 && address_is_loopback(&a));
	assert_int_equal(address_parse("[::]:80", &a), 0);
	assert_false(address_is_loopback(&a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_log_json),
		cmocka_unit_test(test_address),
	};

	return cmocka_run_group_tests_name("log", tests, group_setup, group_teardown);
}
