/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Runs the object store's contract against a real S3 server, named by the environment:
 * S3_ENDPOINT S3_BUCKET S3_ACCESS_KEY S3_SECRET_KEY S3_REGION, S3_CA for a private authority,
 * S3_PREFIX (default "contract/"), S3_FENCE (the least class to accept, default 2), S3_STYLE
 * ("path", "virtual", default auto), S3_COPY_JOINS (1: a copy's ETag is as on AWS), S3_ONLY (which tests: test_p*).
 *
 * Way:    tests/scenario/contract-s3.sh, contract-s3sim.sh.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "objstore_contract.h"

static const char *env(const char *name)
{
	const char *v = getenv(name);

	return v == NULL || v[0] == '\0' ? NULL : v;
}

static struct objstore_s3_conf conf_good(void)
{
	const char *style = env("S3_STYLE");

	return (struct objstore_s3_conf){
		.bucket = env("S3_BUCKET"),
		.endpoint = env("S3_ENDPOINT"),
		.region = env("S3_REGION"),
		.ca_file = env("S3_CA"),
		.access_key = env("S3_ACCESS_KEY"),
		.secret_key = env("S3_SECRET_KEY"),
		.addressing = style == NULL                   ? OBJ_ADDR_AUTO
			      : strcmp(style, "virtual") == 0 ? OBJ_ADDR_VIRTUAL
							      : OBJ_ADDR_PATH,
		.max_connections = 16,
	};
}

static struct objstore *open_conf(TALLOC_CTX *ctx, struct mailbox *mb, struct objstore_s3_conf conf)
{
	char *error;
	struct objstore *s = objstore_s3_new(ctx, mb, &conf, &error);

	if (s == NULL) {
		fprintf(stderr, "%s\n", error);
	}
	return s;
}

static struct objstore *open_good(TALLOC_CTX *ctx, struct mailbox *mb)
{
	return open_conf(ctx, mb, conf_good());
}

static struct objstore *open_denied(TALLOC_CTX *ctx, struct mailbox *mb)
{
	struct objstore_s3_conf conf = conf_good();

	conf.secret_key = "not-the-secret-key";
	return open_conf(ctx, mb, conf);
}

static struct objstore *open_unknown_key(TALLOC_CTX *ctx, struct mailbox *mb)
{
	struct objstore_s3_conf conf = conf_good();

	conf.access_key = "nobody";
	return open_conf(ctx, mb, conf);
}

static struct objstore *open_no_bucket(TALLOC_CTX *ctx, struct mailbox *mb)
{
	struct objstore_s3_conf conf = conf_good();

	conf.bucket = "no-such-bucket-here";
	return open_conf(ctx, mb, conf);
}

/* A port that was free a moment ago. */
static struct objstore *open_away(TALLOC_CTX *ctx, struct mailbox *mb)
{
	struct objstore_s3_conf conf = conf_good();
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof(a);
	char endpoint[64];
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(sock, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(sock, (struct sockaddr *)&a, &len), 0);
	close(sock);
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d", ntohs(a.sin_port));
	conf.endpoint = endpoint;
	conf.addressing = OBJ_ADDR_PATH;
	conf.retries = 2;
	conf.request_timeout_s = 5;
	return open_conf(ctx, mb, conf);
}

struct contract contract = {
	.prefix = "contract/",
	.open = open_good,
	.open_denied = open_denied,
	.open_no_bucket = open_no_bucket,
	.open_away = open_away,
	.least_fence_class = 2,
	.most_fence_class = 3,
	.list_keys = 2500,
};

static void test_unknown_key(void **state)
{
	contract.open_denied = open_unknown_key;
	contract_test_denied(state);
	contract.open_denied = open_denied;
}

/* A certificate that the system does not know is refused, with the setting that helps. */
static void test_tls_is_verified(void **state)
{
	struct objstore_s3_conf conf = conf_good();
	struct objstore *s;
	struct obj_req *req;

	(void)state;
	if (conf.ca_file == NULL) {
		print_message("skipped: needs S3_CA and an https endpoint\n");
		skip();
	}
	conf.ca_file = NULL;
	s = open_conf(NULL, contract.mb, conf);
	assert_non_null(s);
	req = contract_req(OBJ_HEAD, "x");
	contract_run(s, req);
	assert_int_equal(req->result.status, OBJ_AWAY);
	assert_non_null(strstr(req->result.message, "ca file"));
	objstore_req_free(&req);
	talloc_free(s);
}

int main(void)
{
	static const char *const needed[] = { "S3_ENDPOINT", "S3_BUCKET", "S3_ACCESS_KEY",
		"S3_SECRET_KEY" };
	const struct CMUnitTest own[] = {
		cmocka_unit_test(contract_test_denied),
		cmocka_unit_test(test_unknown_key),
		cmocka_unit_test(test_tls_is_verified),
	};
	int failed;

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (env(needed[i]) == NULL) {
			fprintf(stderr, "%s is not set\n", needed[i]);
			return 2;
		}
	}
	if (env("S3_PREFIX") != NULL) {
		contract.prefix = env("S3_PREFIX");
	}
	if (env("S3_FENCE") != NULL) {
		contract.least_fence_class = atoi(env("S3_FENCE"));
	}
	contract.copy_joins = env("S3_COPY_JOINS") != NULL;
	cmocka_set_test_filter(env("S3_ONLY"));
	failed = contract_suite("s3 store, contract");
	failed += cmocka_run_group_tests_name("s3 store", own, contract_setup, contract_teardown);
	return failed != 0;
}
