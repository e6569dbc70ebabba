/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Checksums: their values, how they are sent, that what is read is held against them, and how a store is found that
 * does not know them. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "cached/objstore/impl.h"
#include "tests/lib/scripted_s3.h"

#define DIGITS "123456789"
#define DIGITS_CRC64 "rosUhgp5mIg="
#define DIGITS_CRC32C "4waSgw=="
#define DIGITS_SHA256 "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="
#define GOT(sum) ANSWER("200 OK", "Content-Length: 9\r\nETag: \"e\"\r\nx-amz-checksum-crc64nvme: " sum "\r\n", DIGITS)
#define DELETED ANSWER("204 No Content", "", "")

static void test_values(void **state)
{
	static const struct {
		enum obj_sum kind;
		const char *text;
	} cases[] = {{OBJ_SUM_AUTO, DIGITS_CRC64}, {OBJ_SUM_CRC64NVME, DIGITS_CRC64},
			{OBJ_SUM_CRC32C, DIGITS_CRC32C}};
	struct sum s = {0};
	char text[OBJ_SUM_TEXT_BYTES], other[OBJ_SUM_TEXT_BYTES];
	uint8_t data[4099];

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_true(sum_begin(&s, cases[i].kind));
		sum_add(&s, DIGITS, 9);
		sum_text(&s, text);
		assert_string_equal(text, cases[i].text);
	}
	for (unsigned i = 0; i < sizeof(data); i++) {
		data[i] = (uint8_t)(i * 7 + i / 256);
	}
	for (enum obj_sum kind = OBJ_SUM_CRC64NVME; kind <= OBJ_SUM_SHA256; kind++) {
		assert_true(sum_begin(&s, kind));
		sum_add(&s, data, sizeof(data));
		sum_text(&s, text);
		assert_true(sum_begin(&s, kind)); /* in pieces of all lengths */
		for (size_t at = 0, n = 0; at < sizeof(data); at += n) {
			n = n + 1 < sizeof(data) - at ? n + 1 : sizeof(data) - at;
			sum_add(&s, data + at, n);
		}
		sum_text(&s, other);
		assert_string_equal(text, other);
		assert_int_equal(sum_of_name(sum_name(kind)), kind);
	}
	sum_fini(&s);
}

static void use(enum obj_sum kind, bool trailer)
{
	atomic_store(&scripted.store->sum, (int)kind);
	atomic_store(&scripted.store->sum_trailer, trailer);
}

static struct obj_req *digits(bool from_file)
{
	struct obj_req *req = objstore_req_new(OBJ_PUT, "k");

	req->length = 9;
	if (from_file) {
		req->fd = memfd_create("digits", MFD_CLOEXEC);
		assert_int_equal(write(req->fd, DIGITS, 9), 9);
	} else {
		req->body = (uint8_t *)strdup(DIGITS);
	}
	return req;
}

static void put(struct obj_req *req)
{
	int fd = req->fd;

	scripted_answer(PUT_OK);
	scripted_run(req, OBJ_OK);
	objstore_req_free(&req);
	if (fd >= 0) {
		close(fd);
	}
}

static void test_header(void **state)
{
	(void)state;
	put(digits(false));
	put(digits(true));
	assert_false(scripted_sent(0, "checksum") || scripted_sent(1, "checksum") || scripted_sent(1, "chunked"));
	use(OBJ_SUM_AUTO, false);
	put(digits(false));
	assert_true(scripted_sent(2, "\r\nx-amz-checksum-crc64nvme: " DIGITS_CRC64 "\r\n"));
	assert_string_equal(scripted.bodies[2], DIGITS);
	put(digits(true)); /* not known before, and not taken behind */
	assert_false(scripted_sent(3, "checksum"));
	assert_string_equal(scripted.bodies[3], DIGITS);
	use(OBJ_SUM_SHA256, false);
	put(digits(false));
	assert_true(scripted_sent(4, "\r\nx-amz-checksum-sha256: " DIGITS_SHA256 "\r\n"));
}

static void test_trailer(void **state)
{
	static const char framed[] = "9\r\n" DIGITS "\r\n0\r\nx-amz-checksum-crc32c:" DIGITS_CRC32C "\r\n\r\n";
	struct obj_req *req = digits(true);
	char length[64];

	(void)state;
	use(OBJ_SUM_CRC32C, true);
	req->content_encoding = strdup("gzip");
	put(req);
	snprintf(length, sizeof(length), "\r\nContent-Length: %zu\r\n", strlen(framed));
	assert_true(scripted_sent(0, length));
	assert_true(scripted_sent(0, "\r\nx-amz-decoded-content-length: 9\r\n"));
	assert_true(scripted_sent(0, "\r\nx-amz-trailer: x-amz-checksum-crc32c\r\n"));
	assert_true(scripted_sent(0, "\r\nx-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n"));
	assert_true(scripted_sent(0, "\r\ncontent-encoding: aws-chunked,gzip\r\n"));
	assert_string_equal(scripted.bodies[0], framed);
	scripted_answer(SLOW_DOWN); /* again from its beginning */
	put(digits(true));
	assert_string_equal(scripted.bodies[2], framed);
	assert_true(scripted_sent(2, "\r\ncontent-encoding: aws-chunked\r\n"));
}

/* What the store says of the transfer is not the object's: sent again it would grow by each overwrite. */
static void test_transfer_encoding(void **state)
{
	static const struct {
		const char *said, *is;
	} rows[] = {
		{"gzip", "gzip"}, {"gzip, br", "gzip, br"}, {"aws-chunked", ""}, {"aws-chunked,gzip", "gzip"},
		{"gzip, AWS-chunked", "gzip"}, {"aws-chunked,aws-chunked , gzip,br", "gzip,br"},
		{"x-aws-chunked", "x-aws-chunked"}, {",aws-chunked, ", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct obj_req *req = objstore_req_new(OBJ_HEAD, "k");
		char answer[256];

		snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"e\"\r\nContent-Length: 9\r\n"
				"Content-Encoding: %s\r\n\r\n", rows[i].said);
		scripted_answer(answer);
		scripted_run(req, OBJ_OK);
		assert_string_equal(req->result.content_encoding, rows[i].is);
		objstore_req_free(&req);
	}
}

static void test_parts(void **state)
{
	struct obj_req *req = objstore_req_new(OBJ_MPU_CREATE, "k");
	struct obj_part part = {.number = 1, .etag = "e", .sum = "c3Vt"};

	(void)state;
	use(OBJ_SUM_SHA256, true);
	scripted_answer(ANSWER("200 OK", "", "<InitiateMultipartUploadResult><UploadId>u</UploadId>"
			"</InitiateMultipartUploadResult>"));
	scripted_run(req, OBJ_OK);
	assert_true(scripted_sent(0, "\r\nx-amz-checksum-algorithm: SHA256\r\n"));
	assert_true(scripted_sent(0, "\r\nx-amz-checksum-type: COMPOSITE\r\n"));
	objstore_req_free(&req);
	req = digits(true);
	req->op = OBJ_MPU_PART;
	req->upload_id = strdup("u");
	req->part_number = 1;
	scripted_answer(PUT_OK);
	scripted_run(req, OBJ_OK);
	assert_string_equal(req->result.sum, DIGITS_SHA256);
	assert_non_null(strstr(scripted.bodies[1], "x-amz-checksum-sha256:" DIGITS_SHA256 "\r\n"));
	close(req->fd);
	objstore_req_free(&req);
	req = objstore_req_new(OBJ_MPU_COPY, "k");
	req->upload_id = strdup("u");
	req->part_number = 2;
	req->source_key = strdup("s o");
	req->source_if_match = strdup("old");
	req->source_version_id = strdup("v 1");
	req->offset = 5;
	req->length = 10;
	scripted_answer(ANSWER("200 OK", "", "<CopyPartResult><ETag>\"p\"</ETag><ChecksumCRC64NVME>x</ChecksumCRC64NVME>"
			"<ChecksumSHA256>" DIGITS_SHA256 "</ChecksumSHA256></CopyPartResult>"));
	scripted_run(req, OBJ_OK);
	assert_true(scripted_sent(2, "PUT /bucket/k?partNumber=2&uploadId=u HTTP"));
	assert_true(scripted_sent(2, "\r\nx-amz-copy-source: /bucket/s%20o?versionId=v%201\r\n"));
	assert_true(scripted_sent(2, "\r\nx-amz-copy-source-range: bytes=5-14\r\n"));
	assert_true(scripted_sent(2, "\r\nx-amz-copy-source-if-match: \"old\"\r\n"));
	assert_string_equal(req->result.etag, "p");
	assert_string_equal(req->result.sum, DIGITS_SHA256);
	objstore_req_free(&req);
	req = objstore_req_new(OBJ_MPU_COMPLETE, "k");
	req->upload_id = strdup("u");
	req->parts = malloc(sizeof(part));
	req->parts[0] = part;
	req->part_count = 1;
	req->whole_sum = strdup("d2hvbGU=");
	scripted_answer(ANSWER("200 OK", "", "<CompleteMultipartUploadResult><ETag>\"e-1\"</ETag>"
			"</CompleteMultipartUploadResult>"));
	scripted_run(req, OBJ_OK);
	assert_non_null(strstr(scripted.bodies[3], "<ChecksumSHA256>c3Vt</ChecksumSHA256></Part>"));
	assert_true(scripted_sent(3, "\r\nx-amz-checksum-sha256: d2hvbGU=\r\n"));
	objstore_req_free(&req);
}

static void get(int64_t length, enum obj_status want)
{
	struct obj_req *req = scripted_make(OBJ_GET);

	req->length = length;
	scripted_run(req, want);
	if (want == OBJ_OK) {
		assert_memory_equal(req->result.body, DIGITS, 9);
	} else {
		assert_null(req->result.body);
		assert_non_null(strstr(req->result.message, "checksum"));
	}
	objstore_req_free(&req);
}

static void test_read(void **state)
{
	(void)state;
	use(OBJ_SUM_AUTO, true);
	scripted_answer(GOT(DIGITS_CRC64));
	get(-1, OBJ_OK);
	assert_true(scripted_sent(0, "\r\nx-amz-checksum-mode: ENABLED\r\n"));
	scripted_answer(GOT("AAAAAAAAAAA=")); /* spoilt on the way, once */
	scripted_answer(GOT(DIGITS_CRC64));
	get(-1, OBJ_OK);
	for (unsigned i = 0; i < 3; i++) {
		scripted_answer(GOT("AAAAAAAAAAA="));
	}
	get(-1, OBJ_DAMAGED);
	/* of a range, or of parts' checksums, nothing is said */
	scripted_answer(ANSWER("206 Partial Content", "Content-Length: 9\r\nContent-Range: bytes 0-8/9\r\n"
			"ETag: \"e\"\r\nx-amz-checksum-crc64nvme: AAAAAAAAAAA=\r\n", DIGITS));
	get(9, OBJ_OK);
	assert_false(scripted_sent(6, "checksum-mode"));
	scripted_answer(ANSWER("200 OK", "Content-Length: 9\r\nETag: \"e\"\r\nx-amz-checksum-type: COMPOSITE\r\n"
			"x-amz-checksum-sha256: AAAA-2\r\n", DIGITS));
	get(-1, OBJ_OK);
	scripted_answer(ANSWER("200 OK", "Content-Length: 9\r\nETag: \"e\"\r\nx-amz-checksum-type: COMPOSITE\r\n"
			"x-amz-checksum-crc64nvme: AAAAAAAAAAA=\r\n", DIGITS));
	get(-1, OBJ_OK);
	/* broken off, and continued */
	scripted_answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nETag: \"e\"\r\nConnection: close\r\n"
			"x-amz-checksum-crc64nvme: " DIGITS_CRC64 "\r\n\r\n1234");
	scripted_answer(ANSWER("206 Partial Content", "Content-Length: 5\r\nContent-Range: bytes 4-8/9\r\n"
			"ETag: \"e\"\r\n", "56789"));
	get(-1, OBJ_OK);
}

struct probed {
	bool done;
	enum obj_status status;
	char message[256];
};

static void on_probed(enum obj_status status, const char *message, void *arg)
{
	struct probed *p = arg;

	p->done = true;
	p->status = status;
	snprintf(p->message, sizeof(p->message), "%s", message);
}

static struct probed probe(enum obj_sum wanted, const char *const *answers)
{
	struct probed p = {0};

	use(OBJ_SUM_NONE, false);
	scripted.store->sum_wanted = wanted;
	for (; *answers != NULL; answers++) {
		scripted_answer(*answers);
	}
	obj_probe_sums(&scripted.store, "p/", on_probed, &p);
	scripted_wait(&p.done);
	return p;
}

static void test_probe(void **state)
{
	static const char right[] = ANSWER("200 OK", "Content-Length: 21\r\nETag: \"e\"\r\n", "a probe of checksums\n");
	static const char framed[] = ANSWER("200 OK", "Content-Length: 25\r\nETag: \"e\"\r\n",
			"15\r\na probe of checksums\n");
	static const char bad[] = ANSWER("400 Bad Request", "", XML_ERROR("BadDigest"));
	static const char bad_argument[] = ANSWER("400 Bad Request", "", XML_ERROR("InvalidArgument"));
	static const char late[] = ANSWER("400 Bad Request", "", XML_ERROR("RequestTimeout"));
	static const char not_implemented[] = ANSWER("501 Not Implemented", "", XML_ERROR("NotImplemented"));
	struct probed p = probe(OBJ_SUM_AUTO, (const char *[]){bad, PUT_OK, PUT_OK, right, NULL});

	(void)state;
	assert_true(p.status == OBJ_OK && atomic_load(&scripted.store->sum) == OBJ_SUM_CRC64NVME);
	assert_true(atomic_load(&scripted.store->sum_trailer) && scripted_asked() == 4);
	assert_true(scripted_sent(0, "x-amz-checksum-crc64nvme: AAAAAAAAAAA=\r\n"));
	assert_true(scripted_sent(1, "x-amz-checksum-crc64nvme: ") && !scripted_sent(1, "AAAAAAAAAAA="));
	p = probe(OBJ_SUM_AUTO, (const char *[]){bad, PUT_OK, PUT_OK, framed, NULL});
	assert_true(p.status == OBJ_OK && atomic_load(&scripted.store->sum) == OBJ_SUM_CRC64NVME);
	assert_false(atomic_load(&scripted.store->sum_trailer));
	p = probe(OBJ_SUM_AUTO, (const char *[]){PUT_OK, NULL}); /* as Ceph RGW 16 */
	assert_true(p.status == OBJ_OK && atomic_load(&scripted.store->sum) == OBJ_SUM_NONE);
	assert_int_equal(scripted_asked(), 9);
	p = probe(OBJ_SUM_SHA256, (const char *[]){PUT_OK, NULL});
	assert_true(p.status == OBJ_INVALID && strstr(p.message, "sha256") != NULL);
	p = probe(OBJ_SUM_AUTO, (const char *[]){bad, bad_argument, NULL}); /* takes none, neither wrong nor right */
	assert_true(p.status == OBJ_OK && atomic_load(&scripted.store->sum) == OBJ_SUM_NONE);
	p = probe(OBJ_SUM_AUTO, (const char *[]){late, bad, PUT_OK, not_implemented, NULL}); /* `late` is not it */
	assert_true(p.status == OBJ_OK && atomic_load(&scripted.store->sum) == OBJ_SUM_CRC64NVME);
	assert_false(atomic_load(&scripted.store->sum_trailer));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test_setup_teardown(test_header, scripted_setup, scripted_teardown),
		cmocka_unit_test_setup_teardown(test_trailer, scripted_setup, scripted_teardown),
		cmocka_unit_test_setup_teardown(test_transfer_encoding, scripted_setup, scripted_teardown),
		cmocka_unit_test_setup_teardown(test_parts, scripted_setup, scripted_teardown),
		cmocka_unit_test_setup_teardown(test_read, scripted_setup, scripted_teardown),
		cmocka_unit_test_setup_teardown(test_probe, scripted_setup, scripted_teardown),
	};

	return cmocka_run_group_tests_name("s3_sums", tests, NULL, NULL);
}
