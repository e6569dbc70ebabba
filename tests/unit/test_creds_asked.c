/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Servers and programs that hand out credentials, when they answer wrongly: each an error that says what
 * to do, none of them later than its time. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cached/objstore/s3/creds.h"
#include "tests/lib/scratch.h"
#include "tests/lib/scripted_s3.h"

#define TOKEN ANSWER("200 OK", "Content-Length: 5\r\n", "token")
#define ROLE ANSWER("200 OK", "Content-Length: 4\r\n", "role")
#define KEYS "\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"SK\",\"Token\":\"TK\""
#define STS_KEYS                                                                                   \
	"<R xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>"   \
	"<AccessKeyId>AK</AccessKeyId><SecretAccessKey>SK</SecretAccessKey>"                       \
	"<SessionToken>TK</SessionToken><Expiration>2030-01-02T03:04:05Z</Expiration>"             \
	"</Credentials></AssumeRoleResult></R>"
#define ARN "arn:aws:iam::1:role/r"

static char home[128], base[64], path[192];
static struct s3_ask ask;
static struct s3_creds creds;

static int setup(void **state)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	clearenv();
	scratch_make(home, sizeof(home), "creds");
	setenv("HOME", home, 1);
	setenv("PATH", "/usr/bin:/bin", 1);
	snprintf(path, sizeof(path), "%s/.aws", home);
	mkdir(path, 0700);
	strcat(path, "/config");
	if (scripted_setup(state) != 0 || getsockname(scripted.listener, (struct sockaddr *)&a, &len) != 0) {
		return -1;
	}
	snprintf(base, sizeof(base), "http://127.0.0.1:%d", ntohs(a.sin_port));
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", base, 1);
	setenv("AWS_ENDPOINT_URL_STS", base, 1);
	return 0;
}

static int teardown(void **state)
{
	scripted_teardown(state);
	scratch_remove(home);
	return 0;
}

static void write_file(const char *name, const char *text, mode_t mode)
{
	FILE *f = fopen(name, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(name, mode), 0);
}

static int find_within(int64_t limit_ms)
{
	int64_t from = s3_now_ns();
	int ret;

	ask = (struct s3_ask){ .region = "us-east-1", .deadline_ns = from + limit_ms * 1000000 };
	ret = s3_creds_find(&ask, &creds);
	assert_true(s3_now_ns() - from < (limit_ms + 1000) * 1000000);
	assert_true((ret == 0) == (ask.error[0] == '\0'));
	return ret;
}

static void wrong(const char *words)
{
	assert_int_not_equal(find_within(3000), 0);
	if (strstr(ask.error, words) == NULL) {
		print_error("%s\n", ask.error);
	}
	assert_non_null(strstr(ask.error, words));
	assert_int_equal(creds.secret_key[0], 0);
}

static char huge[200000];

static const char *huge_answer(void)
{
	int n = snprintf(huge, sizeof(huge), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{");

	memset(huge + n, ' ', sizeof(huge) - (size_t)n - 1);
	return huge;
}

/* --- the instance's role --- */

static void test_imds(void **state)
{
	(void)state;
	scripted_answer(TOKEN);
	scripted_answer(ROLE);
	scripted_answer(ANSWER("200 OK", "", "{\"Code\":\"Success\"," KEYS
			",\"Expiration\":\"2030-01-02T03:04:05Z\"}"));
	assert_int_equal(find_within(3000), 0);
	assert_string_equal(creds.access_key, "AK");
	assert_string_equal(creds.secret_key, "SK");
	assert_string_equal(creds.session_token, "TK");
	assert_int_equal(creds.expires_s, 1893553445);
	assert_true(scripted_sent(0, "PUT /latest/api/token "));
	assert_true(scripted_sent(0, "X-aws-ec2-metadata-token-ttl-seconds: 21600"));
	assert_true(scripted_sent(1, "X-aws-ec2-metadata-token: token"));
	assert_true(scripted_sent(2, "GET /latest/meta-data/iam/security-credentials/role "));
	assert_true(scripted_sent(2, "X-aws-ec2-metadata-token: token"));
}

static void test_imds_wrong(void **state)
{
	(void)state;
	scripted_answer(ANSWER("403 Forbidden", NO_BODY, ""));
	wrong("switched off");
	scripted_answer(ANSWER("404 Not Found", NO_BODY, "")); /* IMDSv1 only: it is not spoken */
	wrong("must speak IMDSv2");
	scripted_answer(ANSWER("200 OK", "", "<html>not a token</html>"));
	wrong("gives no token");
	scripted_answer(TOKEN);
	scripted_answer(ANSWER("404 Not Found", NO_BODY, ""));
	wrong("knows no role");
	scripted_answer(TOKEN);
	scripted_answer(ANSWER("200 OK", "", "<html><body>login</body></html>"));
	wrong("something else than the name of a role");
	scripted_answer(TOKEN);
	scripted_answer(ANSWER("302 Found", "Location: http://127.0.0.1/\r\n" NO_BODY, ""));
	wrong("HTTP 302");
	assert_int_equal(scripted_asked(), 9);
}

static void test_imds_credentials_wrong(void **state)
{
	const char *answers[][2] = {
		{ ANSWER("200 OK", "", "{\"Code\":\"Failed\",\"Message\":\"no such\"}"), "no such" },
		{ ANSWER("200 OK", "Content-Length: 900\r\n", "{" KEYS), "does not give" },
		{ ANSWER("200 OK", "", "{" KEYS ",\"Expiration\":\"soon\"}"), "no date" },
		{ huge_answer(), "larger than any should be" },
		{ ANSWER("200 OK", "", "{\"AccessKeyId\":\"A K\",\"SecretAccessKey\":\"S\"}"), "blanks" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		scripted_answer(TOKEN);
		scripted_answer(ROLE);
		scripted_answer(answers[i][0]);
		wrong(answers[i][1]);
	}
}

static void test_imds_hop_limit(void **state)
{
	(void)state;
	scripted_answer(HOLD);
	wrong("--http-put-response-hop-limit 2");
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	wrong("AWS_EC2_METADATA_DISABLED is set");
	assert_int_equal(scripted_asked(), 1);
}

/* --- a container's agent --- */

static void test_container(void **state)
{
	static const char *const refused[] = { "http://169.254.169.254/x", "http://example.com/x",
		"http://127.0.0.1.example.com/", "http://[::2]/", "ftp://127.0.0.1/", "nonsense" };
	char uri[96];

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", refused[i], 1);
		wrong("AWS_CONTAINER_CREDENTIALS_FULL_URI must begin with");
	}
	assert_int_equal(scripted_asked(), 0);
	snprintf(uri, sizeof(uri), "%s/agent?a=1", base);
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri, 1);
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic abc", 1);
	scripted_answer(ANSWER("200 OK", "", "{" KEYS "}"));
	assert_int_equal(find_within(3000), 0);
	assert_int_equal(creds.expires_s, 0);
	assert_true(scripted_sent(0, "GET /agent?a=1 "));
	assert_true(scripted_sent(0, "Authorization: Basic abc"));
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "a\r\nEvil: b", 1);
	wrong("more than one line");
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/no/such/file", 1);
	wrong("/no/such/file");
	unsetenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	unsetenv("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	scripted_answer(ANSWER("500 Oops", "", "<html>\x1b[31mred"));
	wrong("HTTP 500: <html> [31mred");
	scripted_answer(ANSWER("200 OK", "", "<html>"));
	wrong("something else than credentials");
	scripted_answer(HANG_UP);
	wrong("does not answer");
}

/* --- STS --- */

static void test_web_identity(void **state)
{
	char token[192];

	(void)state;
	snprintf(token, sizeof(token), "%s/token", home);
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token, 1);
	wrong("AWS_ROLE_ARN");
	setenv("AWS_ROLE_ARN", ARN, 1);
	wrong("web identity token file");
	write_file(token, "jwt\n", 0600);
	scripted_answer(ANSWER("200 OK", "", STS_KEYS));
	assert_int_equal(find_within(3000), 0);
	assert_string_equal(creds.session_token, "TK");
	assert_int_equal(creds.expires_s, 1893553445);
	scripted_answer(ANSWER("403 Forbidden", "", "<ErrorResponse><Error><Code>AccessDenied</Code>"
			"<Message>not you</Message></Error></ErrorResponse>"));
	wrong("AccessDenied: not you");
	scripted_answer(ANSWER("200 OK", "", "<html>"));
	wrong("something else than credentials");
	scripted_answer(ANSWER("502 Bad Gateway", "", "<html>"));
	wrong("HTTP 502");
	scripted_answer(huge_answer());
	wrong("larger than any should be");
	setenv("AWS_ENDPOINT_URL_STS", "http://user@127.0.0.1/", 1);
	wrong("AWS_ENDPOINT_URL_STS");
}

static void test_roles(void **state)
{
	(void)state;
	setenv("AWS_PROFILE", "far", 1);
	write_file(path, "[profile far]\nrole_arn=" ARN "\nsource_profile = far\naws_access_key_id = NEAR\n"
			"aws_secret_access_key = n\nregion = eu-west-1\n", 0600);
	scripted_answer(ANSWER("200 OK", "", STS_KEYS));
	assert_int_equal(find_within(3000), 0);
	assert_true(scripted_sent(0, "Credential=NEAR/"));
	assert_true(scripted_sent(0, "/eu-west-1/sts/aws4_request"));
	write_file(path, "[profile far]\nrole_arn=" ARN "\nsource_profile = b\n"
			"[profile b]\nrole_arn=" ARN "\nsource_profile = far\n", 0600);
	wrong("a circle");
	write_file(path, "[profile far]\nrole_arn=" ARN "\nsource_profile = b\n", 0600);
	wrong("[b]");
	write_file(path, "[profile far]\nrole_arn=" ARN "\n", 0600);
	wrong("neither source_profile");
	write_file(path, "[profile far]\nrole_arn=" ARN "\ncredential_source = Moon\n", 0600);
	wrong("credential_source");
	write_file(path, "[profile far]\nrole_arn=" ARN "\nsource_profile = b\nmfa_serial = 1\n", 0600);
	wrong("second factor");
	write_file(path, "[profile far]\nsso_session = s\n", 0600);
	wrong("sign in");
	write_file(path, "[profile far]\nrole_arn=" ARN "\ncredential_source = Ec2InstanceMetadata\n", 0600);
	scripted_answer(TOKEN);
	scripted_answer(ROLE);
	scripted_answer(ANSWER("200 OK", "", "{" KEYS "}"));
	scripted_answer(ANSWER("200 OK", "", STS_KEYS));
	assert_int_equal(find_within(3000), 0);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", base, 1); /* not what the profile names */
	wrong("AWS_EC2_METADATA_DISABLED");
	assert_true(scripted_sent(4, "Credential=AK/"));
	assert_true(scripted_sent(4, "X-Amz-Security-Token: TK"));
	assert_int_equal(scripted_asked(), 5);
}

/* --- programs --- */

static void process(const char *command)
{
	char text[512];

	snprintf(text, sizeof(text), "[default]\ncredential_process = %s\n", command);
	write_file(path, text, 0600);
}

static void test_process(void **state)
{
	(void)state;
	process("printf '%s' '{\"Version\":1,\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"SK\","
		"\"SessionToken\":\"TK\",\"Expiration\":\"2030-01-02T04:04:05+01:00\"}'");
	assert_int_equal(find_within(3000), 0);
	assert_string_equal(creds.session_token, "TK");
	assert_int_equal(creds.expires_s, 1893553445);
	chmod(path, 0620);
	wrong("others may write");
	process("echo '{\"Version\":2}'");
	wrong("\"Version\": 1");
	process("echo '{\"Version\":1}'");
	wrong("AccessKeyId or SecretAccessKey is missing");
	process("echo no json");
	wrong("something else than credentials");
	process("exit 3");
	wrong("exit status 3");
	process("kill -9 $$");
	wrong("signal 9");
	process("/no/such/program");
	wrong("exit status 127");
	process("yes");
	wrong("64 KiB");
	assert_int_equal(scripted_asked(), 0);
}

/* It ends, and so does what it has started, which holds its pipes open. */
static void test_process_hangs(void **state)
{
	char command[256], file[192];
	pid_t pid = 0;
	FILE *f;

	(void)state;
	snprintf(file, sizeof(file), "%s/pid", home);
	snprintf(command, sizeof(command), "sleep 100 & echo $! >%s; exit 0", file);
	process(command);
	assert_int_equal(find_within(700), -ETIMEDOUT);
	assert_non_null(strstr(ask.error, "took too long"));
	f = fopen(file, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%d", &pid), 1);
	fclose(f);
	snprintf(file, sizeof(file), "/proc/%d/cmdline", pid);
	for (int i = 0; i < 500; i++) { /* killed: gone, or a zombie, as soon as it is scheduled */
		char byte;

		f = fopen(file, "r");
		if (f == NULL || fread(&byte, 1, 1, f) == 0) {
			if (f != NULL) {
				fclose(f);
			}
			return;
		}
		fclose(f);
		usleep(10000);
	}
	fail_msg("what the program had started still runs");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_imds),
		T(test_imds_wrong),
		T(test_imds_credentials_wrong),
		T(test_imds_hop_limit),
		T(test_container),
		T(test_web_identity),
		T(test_roles),
		T(test_process),
		T(test_process_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
