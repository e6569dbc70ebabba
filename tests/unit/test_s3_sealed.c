/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Encryption by the store: what is asked for, and that it is done. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/lib/scratch.h"
#include "tests/lib/scripted_s3.h"

#define SSE "x-amz-server-side-encryption"
#define ETAG "ETag: \"5d41402abc4b2a76b9719d911017c592\"\r\n"
#define OTHER_ETAG "ETag: \"00000000000000000000000000000000\"\r\n"
#define BAD_REQUEST ANSWER("400 Bad Request", NO_BODY, "")
#define KEY_BASE64 "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=" /* of 0123456789abcdef, twice */

static char key_path[4200], scratch[4096];

static void write_key(const char *text, mode_t mode)
{
	int fd;

	scratch_make(scratch, sizeof(scratch), "sealed");
	snprintf(key_path, sizeof(key_path), "%s/key", scratch);
	fd = open(key_path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static int setup_s3(void **state)
{
	scripted_conf.encryption = OBJ_SSE_S3;
	return scripted_setup(state);
}

static int setup_kms(void **state)
{
	scripted_conf.encryption = OBJ_SSE_KMS;
	scripted_conf.kms_key = "arn:aws:kms:eu-central-1:1:key/k";
	scripted_conf.bucket_key = true;
	return scripted_setup(state);
}

static int setup_customer(void **state)
{
	write_key(KEY_BASE64 "\n", 0600);
	scripted_conf.encryption = OBJ_SSE_CUSTOMER;
	scripted_conf.customer_key_file = key_path;
	return scripted_setup(state);
}

static int teardown_customer(void **state)
{
	scratch_remove(scratch);
	return scripted_teardown(state);
}

static void put(const char *answer, enum obj_status want)
{
	struct obj_req *req = scripted_make(OBJ_PUT);

	scripted_answer(answer);
	scripted_run(req, want);
	objstore_req_free(&req);
}

static void test_s3(void **state)
{
	(void)state;
	put(ANSWER("200 OK", NO_BODY ETAG SSE ": AES256\r\n", ""), OBJ_OK);
	assert_true(scripted_sent(0, SSE ": AES256\r\n"));
	put(PUT_OK, OBJ_INVALID); /* a store that does not care */
}

static void test_kms(void **state)
{
	struct obj_req *req = scripted_make(OBJ_PUT);

	(void)state;
	req->sse = strdup("aws:kms"); /* an object's own: the volume's goes before it */
	req->sse_key = strdup("another");
	scripted_answer(ANSWER("200 OK", NO_BODY OTHER_ETAG SSE ": aws:kms\r\n", ""));
	scripted_run(req, OBJ_OK); /* its ETag is no sum */
	assert_true(scripted_sent(0, SSE "-aws-kms-key-id: arn:aws:kms:eu-central-1:1:key/k\r\n"));
	assert_true(scripted_sent(0, SSE "-bucket-key-enabled: true\r\n"));
	assert_false(scripted_sent(0, "another"));
	objstore_req_free(&req);
	put(ANSWER("200 OK", NO_BODY ETAG SSE ": AES256\r\n", ""), OBJ_INVALID);
}

/* Of an object's own, when the volume says nothing. */
static void test_own(void **state)
{
	struct obj_req *req = scripted_make(OBJ_PUT);

	(void)state;
	req->sse = strdup("aws:kms");
	req->sse_key = strdup("its-own");
	scripted_answer(ANSWER("200 OK", NO_BODY OTHER_ETAG SSE ": aws:kms\r\n", ""));
	scripted_run(req, OBJ_OK);
	assert_true(scripted_sent(0, SSE "-aws-kms-key-id: its-own\r\n"));
	objstore_req_free(&req);
}

static void test_customer(void **state)
{
	struct obj_req *req;

	(void)state;
	put(ANSWER("200 OK", NO_BODY OTHER_ETAG SSE "-customer-algorithm: AES256\r\n", ""), OBJ_OK);
	assert_true(scripted_sent(0, SSE "-customer-key: " KEY_BASE64 "\r\n"));
	assert_true(scripted_sent(0, SSE "-customer-key-MD5: Tp4V52hZkhrlx9rR22ZSTg==\r\n") ||
			scripted_sent(0, SSE "-customer-key-md5: "));
	scripted_answer(BAD_REQUEST); /* another tool's, without the key */
	scripted_answer(ANSWER("200 OK", "Content-Length: 5\r\n" ETAG, ""));
	req = scripted_make(OBJ_HEAD);
	scripted_run(req, OBJ_OK);
	assert_false(req->result.customer);
	assert_true(scripted_sent(1, SSE "-customer-key: "));
	assert_false(scripted_sent(2, SSE "-customer"));
	objstore_req_free(&req);
	scripted_answer(BAD_REQUEST);
	scripted_answer(BAD_REQUEST);
	req = scripted_make(OBJ_HEAD);
	scripted_run(req, OBJ_INVALID);
	assert_non_null(strstr(req->result.message, "another key"));
	assert_null(strstr(req->result.message, KEY_BASE64));
	objstore_req_free(&req);
	req = scripted_make(OBJ_COPY);
	req->source_customer = true;
	scripted_answer(ANSWER("200 OK", SSE "-customer-algorithm: AES256\r\n",
			"<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>"));
	scripted_run(req, OBJ_OK);
	assert_true(scripted_sent(5, "x-amz-copy-source-server-side-encryption-customer-key: " KEY_BASE64));
	objstore_req_free(&req);
	req = objstore_req_new(OBJ_MPU_COMPLETE, "k");
	req->upload_id = strdup("u");
	req->parts = malloc(sizeof(*req->parts));
	req->parts[0] = (struct obj_part){.number = 1, .etag = "e"};
	req->part_count = 1;
	scripted_answer(ANSWER("200 OK", "", "<CompleteMultipartUploadResult><ETag>\"e-1\"</ETag>"
			"</CompleteMultipartUploadResult>"));
	scripted_run(req, OBJ_OK);
	assert_true(scripted_sent(6, SSE "-customer-algorithm: AES256\r\n"));
	assert_true(scripted_sent(6, SSE "-customer-key: " KEY_BASE64 "\r\n"));
	objstore_req_free(&req);
	req = scripted_make(OBJ_MPU_COPY);
	req->source_key = strdup("k");
	req->source_customer = true;
	req->upload_id = strdup("u");
	req->part_number = 1;
	req->length = -1;
	scripted_answer(ANSWER("200 OK", "", "<CopyPartResult><ETag>\"e\"</ETag></CopyPartResult>"));
	scripted_run(req, OBJ_OK);
	assert_true(scripted_sent(7, "x-amz-copy-source-server-side-encryption-customer-key: " KEY_BASE64));
	assert_true(scripted_sent(7, SSE "-customer-key: " KEY_BASE64));
	objstore_req_free(&req);
}

/* What a key file must be. */
static void test_key_file(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
		bool good;
	} cases[] = {
		{"0123456789abcdef0123456789abcdef", 0600, true},
		{KEY_BASE64, 0400, true},
		{KEY_BASE64 "\n", 0640, false},
		{"0123456789abcdef0123456789abcde", 0600, false},
		{"0123456789abcdef0123456789abcdef\n", 0600, false},
		{KEY_BASE64 "x", 0600, false},
		{"", 0600, false},
	};
	struct objstore_s3_conf conf = {.bucket = "bucket", .endpoint = "https://s3.example",
			.access_key = "a", .secret_key = "s", .encryption = OBJ_SSE_CUSTOMER,
			.customer_key_file = key_path};

	for (unsigned i = 0; i <= sizeof(cases) / sizeof(cases[0]); i++) {
		bool last = i == sizeof(cases) / sizeof(cases[0]); /* a good key, in the clear */
		struct objstore *store;
		char *error = NULL;

		write_key(cases[last ? 0 : i].text, cases[last ? 0 : i].mode);
		conf.endpoint = last ? "http://s3.example" : conf.endpoint;
		store = objstore_s3_new(NULL, scripted.mb, &conf, &error);
		scratch_remove(scratch);
		assert_int_equal(store != NULL, !last && cases[i].good);
		assert_int_equal(error == NULL, !last && cases[i].good);
		talloc_free(store);
		talloc_free(error);
	}
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_s3, setup_s3, scripted_teardown),
		cmocka_unit_test_setup_teardown(test_kms, setup_kms, scripted_teardown),
		cmocka_unit_test_setup_teardown(test_own, scripted_setup, scripted_teardown),
		cmocka_unit_test_setup_teardown(test_customer, setup_customer, teardown_customer),
		cmocka_unit_test_setup_teardown(test_key_file, scripted_setup, scripted_teardown),
	};

	return cmocka_run_group_tests_name("s3_sealed", tests, NULL, NULL);
}
