/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Signatures against the examples of "Authenticating Requests: Using the Authorization Header (AWS
 * Signature Version 4)" in the Amazon S3 API Reference.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "cached/objstore/s3/sigv4.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HOST { "host", "examplebucket.s3.amazonaws.com" }
#define DATE { "x-amz-date", "20130524T000000Z" }

static char *sign(const char *method, const char *path, const char *query, const char *payload,
		struct sigv4_header *headers, unsigned count)
{
	struct sigv4_request r = {
		.method = method,
		.path = path,
		.query = query,
		.headers = headers,
		.header_count = count,
		.payload = payload,
		.date = "20130524T000000Z",
		.region = "us-east-1",
		.service = "s3",
		.access_key = "AKIAIOSFODNN7EXAMPLE",
		.secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
	};

	return sigv4_authorization(&r);
}

#define CREDENTIAL                                                                                 \
	"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"

static void test_get_object(void **state)
{
	struct sigv4_header h[] = { DATE, { "range", "bytes=0-9" }, HOST,
		{ "x-amz-content-sha256", EMPTY } };
	char *a = sign("GET", "/test.txt", "", EMPTY, h, 4);

	(void)state;
	assert_string_equal(a, CREDENTIAL
			"SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
			"Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
	free(a);
}

static void test_put_object(void **state)
{
	char hash[65];
	char *path = sigv4_encode("/test$file.text", true);
	struct sigv4_header h[] = { HOST, DATE, { "date", "Fri, 24 May 2013 00:00:00 GMT" },
		{ "x-amz-storage-class", "REDUCED_REDUNDANCY" }, { "x-amz-content-sha256", hash } };
	char *a;

	(void)state;
	sigv4_sha256_hex("Welcome to Amazon S3.", 21, hash);
	assert_string_equal(hash, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
	a = sign("PUT", path, "", hash, h, 5);
	assert_string_equal(a, CREDENTIAL
			"SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,"
			"Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
	free(a);
	free(path);
}

static void test_get_lifecycle(void **state)
{
	struct sigv4_header h[] = { HOST, DATE, { "x-amz-content-sha256", EMPTY } };
	char *a = sign("GET", "/", "lifecycle=", EMPTY, h, 3);

	(void)state;
	assert_string_equal(a, CREDENTIAL
			"SignedHeaders=host;x-amz-content-sha256;x-amz-date,"
			"Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
	free(a);
}

static void test_list_objects(void **state)
{
	struct sigv4_header h[] = { HOST, DATE, { "x-amz-content-sha256", EMPTY } };
	char *a = sign("GET", "/", "max-keys=2&prefix=J", EMPTY, h, 3);

	(void)state;
	assert_string_equal(a, CREDENTIAL
			"SignedHeaders=host;x-amz-content-sha256;x-amz-date,"
			"Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
	free(a);
}

/* Runs of blanks count as one, those around a value not at all. */
static void test_values_are_trimmed(void **state)
{
	struct sigv4_header wide[] = { HOST, DATE, { "x-amz-meta-a", "  one   two " } };
	struct sigv4_header tight[] = { HOST, DATE, { "x-amz-meta-a", "one two" } };
	char *a = sign("PUT", "/x", "", SIGV4_UNSIGNED, wide, 3);
	char *b = sign("PUT", "/x", "", SIGV4_UNSIGNED, tight, 3);

	(void)state;
	assert_string_equal(a, b);
	free(a);
	free(b);
}

static void test_encode(void **state)
{
	char *e = sigv4_encode("a b/c+%~-._\xc3\xa9*\x01", true);

	(void)state;
	assert_string_equal(e, "a%20b/c%2B%25~-._%C3%A9%2A%01");
	free(e);
	e = sigv4_encode("a/b", false);
	assert_string_equal(e, "a%2Fb");
	free(e);
}

static void test_date(void **state)
{
	char date[SIGV4_DATE_BYTES];

	(void)state;
	sigv4_date(1369353600, date);
	assert_string_equal(date, "20130524T000000Z");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_get_object),
		cmocka_unit_test(test_put_object),
		cmocka_unit_test(test_get_lifecycle),
		cmocka_unit_test(test_list_objects),
		cmocka_unit_test(test_values_are_trimmed),
		cmocka_unit_test(test_encode),
		cmocka_unit_test(test_date),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
