/* SPDX-License-Identifier: GPL-3.0-or-later */
/* AWS's host names, and what is left when such a host is not there. The scripted server stands for AWS as curl's
 * proxy: it sees whole URLs. */
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
#include "cached/objstore/s3/s3.h"
#include "tests/lib/scripted_s3.h"

static struct objstore *open_aws(struct objstore_s3_conf conf, const char *bucket, const char *region)
{
	struct objstore *store;
	char *error = NULL;

	conf.bucket = bucket;
	conf.region = region;
	conf.access_key = "key";
	conf.secret_key = "secret";
	conf.request_timeout_s = 2;
	store = objstore_s3_new(NULL, scripted.mb, &conf, &error);
	talloc_free(error);
	return store;
}

static void test_hosts(void **state)
{
	static const struct {
		const char *bucket, *region;
		bool dual, fast;
		const char *host; /* NULL: refused */
	} cases[] = {
		{"bucket", "eu-central-1", false, false, "bucket.s3.eu-central-1.amazonaws.com"},
		{"a.b", "eu-central-1", false, false, "s3.eu-central-1.amazonaws.com"},
		{"bucket", "eu-central-1", true, false, "bucket.s3.dualstack.eu-central-1.amazonaws.com"},
		{"a.b", "eu-central-1", true, false, "s3.dualstack.eu-central-1.amazonaws.com"},
		{"bucket", "cn-north-1", true, false, "bucket.s3.dualstack.cn-north-1.amazonaws.com.cn"},
		{"bucket", "eu-central-1", false, true, "bucket.s3-accelerate.amazonaws.com"},
		{"bucket", "eu-central-1", true, true, "bucket.s3-accelerate.dualstack.amazonaws.com"},
		{"a.b", "eu-central-1", false, true, NULL},
		{"bucket", "cn-north-1", false, true, NULL},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct objstore *store = open_aws((struct objstore_s3_conf){.dual_stack = cases[i].dual,
				.acceleration = cases[i].fast}, cases[i].bucket, cases[i].region);
		char *host;

		assert_int_equal(store != NULL, cases[i].host != NULL);
		if (store != NULL) {
			host = s3_endpoint_host((struct s3_store *)store);
			assert_string_equal(host, cases[i].host);
			free(host);
		}
		talloc_free(store);
	}
	assert_null(open_aws((struct objstore_s3_conf){.dual_stack = true, .endpoint = "https://s3.example"},
			"bucket", "eu-central-1"));
}

static int setup_aws(void **state)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	char proxy[64];

	if (scripted_setup(state) != 0 ||
			getsockname(scripted.listener, (struct sockaddr *)&a, &len) != 0) {
		return -1;
	}
	snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%d", ntohs(a.sin_port));
	setenv("http_proxy", proxy, 1);
	talloc_free(scripted.store);
	scripted.store = open_aws((struct objstore_s3_conf){.dual_stack = true, .acceleration = true,
			.request_payer = true, .retries = 1}, "bucket", "eu-central-1");
	((struct s3_store *)scripted.store)->scheme = "http";
	return 0;
}

static int teardown_aws(void **state)
{
	unsetenv("http_proxy");
	return scripted_teardown(state);
}

static void put(void)
{
	struct obj_req *req = scripted_make_if(OBJ_PUT);

	scripted_run(req, OBJ_OK);
	objstore_req_free(&req);
}

static void test_no_acceleration(void **state)
{
	(void)state;
	scripted_answer(ANSWER("400 Bad Request", "", "<Error><Code>InvalidRequest</Code><Message>S3 Transfer "
			"Acceleration is not configured on this bucket</Message></Error>"));
	scripted_answer(PUT_OK);
	scripted_answer(PUT_OK);
	put();
	put();
	assert_int_equal(scripted_asked(), 3);
	assert_true(scripted_sent(0, "PUT http://bucket.s3-accelerate.dualstack.amazonaws.com/k "));
	assert_true(scripted_sent(1, "PUT http://bucket.s3.dualstack.eu-central-1.amazonaws.com/k "));
	assert_true(scripted_sent(2, "PUT http://bucket.s3.dualstack.eu-central-1.amazonaws.com/k "));
	assert_true(scripted_sent(2, "x-amz-request-payer: requester\r\n"));
}

/* What such an endpoint says of an object is no reason to leave it. */
static void test_other_refusals(void **state)
{
	struct obj_req *req = scripted_make_if(OBJ_PUT);

	(void)state;
	scripted_answer(ANSWER("403 Forbidden", "", XML_ERROR("AccessDenied")));
	scripted_run(req, OBJ_DENIED);
	objstore_req_free(&req);
	scripted_answer(PUT_OK);
	put();
	assert_true(scripted_sent(1, "PUT http://bucket.s3-accelerate.dualstack.amazonaws.com/k "));
}

/* Without it the owner of such a bucket refuses each request, of whatever kind. */
static void test_payer(void **state)
{
	static const struct {
		enum obj_op op;
		const char *answer;
	} asked[] = {
		{OBJ_HEAD, ANSWER("200 OK", "Content-Length: 5\r\nETag: \"e\"\r\n", "")},
		{OBJ_GET, ANSWER("200 OK", "Content-Length: 5\r\nETag: \"e\"\r\n", "hello")},
		{OBJ_LIST, ANSWER("200 OK", "", "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")},
		{OBJ_VERSIONS, ANSWER("200 OK", "", "<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>")},
		{OBJ_COPY, ANSWER("200 OK", "", "<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>")},
		{OBJ_MPU_CREATE, ANSWER("200 OK", "", "<InitiateMultipartUploadResult><UploadId>u</UploadId>"
				"</InitiateMultipartUploadResult>")},
		{OBJ_TAGS, ANSWER("200 OK", "", "<Tagging><TagSet></TagSet></Tagging>")},
		{OBJ_DELETE, ANSWER("204 No Content", "", "")},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		struct obj_req *req = scripted_make(asked[i].op);

		print_message("%s\n", objstore_op_name(asked[i].op));
		scripted_answer(asked[i].answer);
		scripted_run(req, OBJ_OK);
		assert_true(scripted_sent(i, "\r\nx-amz-request-payer: requester\r\n"));
		objstore_req_free(&req);
	}
}

/* Nobody there: from one to the other, and when the plain one is not there either it is the network: all are tried
 * again. Once one of them answers, it is used. */
static void test_nobody_there(void **state)
{
	struct obj_req *req = scripted_make_if(OBJ_PUT);

	(void)state;
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	scripted_run(req, OBJ_AWAY);
	objstore_req_free(&req);
	assert_int_equal(((struct s3_store *)scripted.store)->endpoint, S3_ENDPOINT_DUAL | S3_ENDPOINT_FAST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_hosts, scripted_setup, scripted_teardown),
		cmocka_unit_test_setup_teardown(test_no_acceleration, setup_aws, teardown_aws),
		cmocka_unit_test_setup_teardown(test_other_refusals, setup_aws, teardown_aws),
		cmocka_unit_test_setup_teardown(test_payer, setup_aws, teardown_aws),
		cmocka_unit_test_setup_teardown(test_nobody_there, setup_aws, teardown_aws),
	};

	return cmocka_run_group_tests_name("s3_endpoint", tests, NULL, NULL);
}
