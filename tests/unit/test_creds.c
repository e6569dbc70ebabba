/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Where credentials are found, in which order, and what is said when they are not. */
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
#include <sys/stat.h>
#include <unistd.h>
#include "cached/objstore/s3/creds.h"
#include "tests/lib/scratch.h"

static char home[128], path[160];

static int setup(void **state)
{
	static const char *const names[] = { "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
		"AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE",
		"AWS_CONFIG_FILE" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		unsetenv(names[i]);
	}
	scratch_make(home, sizeof(home), "creds");
	snprintf(path, sizeof(path), "%s/.aws", home);
	mkdir(path, 0700);
	strcat(path, "/credentials");
	setenv("HOME", home, 1);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	(void)state;
	return 0;
}

static int teardown(void **state)
{
	scratch_remove(home);
	(void)state;
	return 0;
}

static void write_file(const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static struct s3_ask ask; /* its error stays to be looked at */

static int find(struct objstore_s3_conf conf, struct s3_creds *c)
{
	int ret;

	ask = (struct s3_ask){ .access_key = conf.access_key, .secret_key = conf.secret_key,
		.session_token = conf.session_token, .profile = conf.profile,
		.credentials_file = conf.credentials_file, .here_only = true };
	ret = s3_creds_find(&ask, c);
	assert_true((ret == 0 || ret == -EAGAIN) == (ask.error[0] == '\0'));
	return ret;
}

static void test_order(void **state)
{
	struct s3_creds c;
	struct objstore_s3_conf all = { .access_key = "CONF", .secret_key = "s1", .session_token = "t1" };
	struct objstore_s3_conf none = { 0 };
	struct objstore_s3_conf profile = { .profile = "default" };
	struct objstore_s3_conf file = { .credentials_file = path };

	(void)state;
	write_file("[default]\naws_access_key_id = FILE\naws_secret_access_key = s3\n");
	setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "s2", 1);
	setenv("AWS_SESSION_TOKEN", "t2", 1);
	assert_int_equal(find(all, &c), 0);
	assert_string_equal(c.access_key, "CONF");
	assert_string_equal(c.session_token, "t1");
	assert_int_equal(find(none, &c), 0);
	assert_string_equal(c.access_key, "ENV");
	assert_string_equal(c.secret_key, "s2");
	assert_string_equal(c.session_token, "t2");
	/* what the configuration names comes before what happens to be in the environment */
	assert_int_equal(find(profile, &c), 0);
	assert_string_equal(c.access_key, "FILE");
	assert_string_equal(c.session_token, "");
	assert_int_equal(find(file, &c), 0);
	assert_string_equal(c.access_key, "FILE");
	profile.profile = "missing";
	assert_int_equal(find(profile, &c), -EINVAL);
	setenv("AWS_PROFILE", "default", 1); /* not named by the configuration */
	assert_int_equal(find(none, &c), 0);
	assert_string_equal(c.access_key, "ENV");
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	assert_int_equal(find(none, &c), 0);
	assert_string_equal(c.access_key, "FILE");
	assert_string_equal(c.secret_key, "s3");
	assert_string_equal(c.session_token, ""); /* the environment's belongs to other keys */
	s3_creds_wipe(&c);
	assert_int_equal(c.secret_key[0], 0);
}

static void test_profiles(void **state)
{
	struct s3_creds c;
	struct objstore_s3_conf conf = { .profile = "backup" };

	(void)state;
	write_file("# comment\r\n[default]\r\naws_access_key_id=D\r\naws_secret_access_key=d\r\n\r\n"
		   "[ backup ]\r\n  aws_access_key_id\t=\tB\r\naws_secret_access_key = b=/+b\r\n"
		   "aws_session_token = TOK\r\ns3 =\r\n  aws_access_key_id = N\r\nregion = x\r\n[other]\r\naws_access_key_id = O\r\n");
	assert_int_equal(find(conf, &c), 0);
	assert_string_equal(c.access_key, "B");
	assert_string_equal(c.secret_key, "b=/+b");
	assert_string_equal(c.session_token, "TOK");
	conf.profile = NULL;
	setenv("AWS_PROFILE", "backup", 1);
	assert_int_equal(find(conf, &c), 0);
	assert_string_equal(c.access_key, "B");
	conf.profile = "default";
	assert_int_equal(find(conf, &c), 0);
	assert_string_equal(c.access_key, "D");
	conf.profile = "other"; /* half a pair */
	assert_int_equal(find(conf, &c), -EINVAL);
	assert_non_null(strstr(ask.error, "secret key"));
	conf.profile = "missing";
	assert_int_equal(find(conf, &c), -EINVAL);
	assert_non_null(strstr(ask.error, "missing"));
	assert_non_null(strstr(ask.error, path));
}

static void test_refused(void **state)
{
	struct s3_creds c;
	struct objstore_s3_conf conf = { 0 };

	(void)state;
	assert_int_equal(find(conf, &c), -ENOENT);
	assert_non_null(strstr(ask.error, "AWS_ACCESS_KEY_ID"));
	conf.credentials_file = "/no/such/file";
	assert_int_equal(find(conf, &c), -EINVAL);
	assert_non_null(strstr(ask.error, "/no/such/file"));
	assert_int_equal(mkfifo(path, 0600), 0);
	conf.credentials_file = path;
	assert_int_equal(find(conf, &c), -EINVAL);
	assert_non_null(strstr(ask.error, "no regular file"));
	unlink(path);
	conf.credentials_file = NULL;
	conf.access_key = "half";
	assert_int_equal(find(conf, &c), -EINVAL);
	conf.secret_key = "with blank\n";
	assert_int_equal(find(conf, &c), -EINVAL);
	assert_null(strstr(ask.error, "with blank")); /* no secret in a message */
	conf.access_key = conf.secret_key = "";
	write_file("");
	assert_int_equal(find(conf, &c), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_profiles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
