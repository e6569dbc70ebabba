/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what each answer to a conditional PUT, COPY, DELETE and CompleteMultipartUpload means, one row each: what
 * the daemon is told, and how often the store was asked. A condition is sent again only where nothing can have
 * happened.
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
#include "tests/lib/scripted_s3.h"

#define ERROR(status, code) ANSWER(status, "", XML_ERROR(code))
#define BARE(status) ANSWER(status, NO_BODY, "")
#define INSIDE(code) ANSWER("200 OK", "", " \n" XML_ERROR(code))
#define SENT 3u /* at most, as scripted_s3.c sets retries */

static const enum obj_op all[] = {OBJ_PUT, OBJ_COPY, OBJ_DELETE, OBJ_MPU_COMPLETE};
#define P 1u
#define C 2u
#define D 4u
#define M 8u

static const struct row {
	const char *what;
	unsigned ops;
	const char *answer;
	enum obj_status want;
	unsigned asked;
} rows[] = {
	{"somebody else wrote", P | C | D | M, ERROR("412 Precondition Failed", "PreconditionFailed"),
			OBJ_PRECONDITION, 1},
	{"the same without a reason", P | C | D | M, BARE("412 Precondition Failed"), OBJ_PRECONDITION, 1},
	{"at the same time", P | C | D | M, ERROR("409 Conflict", "ConditionalRequestConflict"), OBJ_CONFLICT, 1},
	{"the same by its older name", P | C | D | M, ERROR("409 Conflict", "OperationAborted"), OBJ_CONFLICT, 1},
	{"the same without a reason", P | C | D | M, BARE("409 Conflict"), OBJ_CONFLICT, 1},
	{"deleted meanwhile", P | C | M, ERROR("404 Not Found", "NoSuchKey"), OBJ_NOT_FOUND, 1},
	{"deleted already", D, ERROR("404 Not Found", "NoSuchKey"), OBJ_OK, 1},
	{"the bucket is gone", P | C | D | M, ERROR("404 Not Found", "NoSuchBucket"), OBJ_NO_BUCKET, 1},
	{"a proxy's 404", P | C | D | M, BARE("404 Not Found"), OBJ_AWAY, SENT},
	{"it broke", P | C | D | M, INTERNAL, OBJ_UNKNOWN, 1},
	{"it broke without a reason", P | C | D | M, BARE("500 Internal Server Error"), OBJ_UNKNOWN, 1},
	{"a gateway lost it", P | C | D | M, BARE("502 Bad Gateway"), OBJ_UNKNOWN, 1},
	{"a gateway waited too long", P | C | D | M, BARE("504 Gateway Timeout"), OBJ_UNKNOWN, 1},
	{"no answer", P | C | D | M, HANG_UP, OBJ_UNKNOWN, 1},
	{"not taken up", P | C | D | M, SLOW_DOWN, OBJ_AWAY, SENT},
	{"it broke after its 200", C | M, INSIDE("InternalError"), OBJ_UNKNOWN, 1},
	{"refused after its 200", C | M, INSIDE("PreconditionFailed"), OBJ_PRECONDITION, 1},
	{"at the same time, after its 200", C | M, INSIDE("ConditionalRequestConflict"), OBJ_CONFLICT, 1},
	{"half a document", C | M, ANSWER("200 OK", "", "<CopyObjectRes"), OBJ_UNKNOWN, 1},
	{"no document", C | M, BARE("200 OK"), OBJ_UNKNOWN, 1},
	{"the upload is gone", M, ERROR("404 Not Found", "NoSuchUpload"), OBJ_INVALID, 1},
	{"a part is gone", M, ERROR("400 Bad Request", "InvalidPart"), OBJ_INVALID, 1},
	{"archived", C, ERROR("403 Forbidden", "InvalidObjectState"), OBJ_ARCHIVED, 1},
};

static struct obj_req *make(enum obj_op op, bool if_none_match)
{
	struct obj_req *req = if_none_match ? scripted_make(op) : scripted_make_if(op);

	req->if_none_match = if_none_match;
	req->rights_told = true;
	if (op == OBJ_MPU_COMPLETE) {
		req->upload_id = strdup("u");
		req->parts = calloc(1, sizeof(*req->parts));
		req->parts[0] = (struct obj_part){.number = 1, .etag = "e"};
		req->part_count = 1;
	}
	return req;
}

static void one(const struct row *row, enum obj_op op, bool if_none_match)
{
	struct obj_req *req = make(op, if_none_match);
	/* Is the ETag to be sent without quotes here? Once, it is tried. */
	unsigned asked = row->asked + (op == OBJ_PUT && row->want == OBJ_PRECONDITION && !if_none_match);
	void *state = NULL;

	scripted_setup(&state);
	for (unsigned i = 0; i < asked; i++) {
		scripted_answer(row->answer);
	}
	if (row->asked == 1) {
		scripted_answer(row->want == OBJ_UNKNOWN ? PUT_OK : INTERNAL); /* to a second, which must not come */
	}
	print_message("%s, %s: %s\n", objstore_op_name(op), if_none_match ? "new" : "replacing", row->what);
	scripted_run(req, row->want);
	assert_int_equal(scripted_asked(), asked);
	for (unsigned i = 0; i < asked; i++) {
		assert_true(scripted_sent(i, if_none_match ? "\r\nif-none-match: *\r\n" : "\r\nif-match: "));
	}
	objstore_req_free(&req);
	scripted_teardown(&state);
}

static void run_all(bool if_none_match)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (unsigned op = 0; op < sizeof(all) / sizeof(all[0]); op++) {
			if ((rows[i].ops & 1u << op) != 0 && !(if_none_match && all[op] == OBJ_DELETE)) {
				one(&rows[i], all[op], if_none_match);
			}
		}
	}
}

static void test_replacing(void **state)
{
	(void)state;
	run_all(false);
}

static void test_new(void **state)
{
	(void)state;
	run_all(true);
}

/* Complete's answer may lack the ETag: it was done, and who wants the ETag asks. */
static void test_no_etag(void **state)
{
	struct obj_req *req = make(OBJ_MPU_COMPLETE, false);

	(void)state;
	scripted_answer(ANSWER("200 OK", "", "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"));
	scripted_run(req, OBJ_OK);
	assert_true(req->result.etag == NULL || req->result.etag[0] == '\0');
	objstore_req_free(&req);
	req = make(OBJ_MPU_COMPLETE, false);
	scripted_answer(ANSWER("200 OK", "",
			"<CompleteMultipartUploadResult><ETag></ETag></CompleteMultipartUploadResult>"));
	scripted_run(req, OBJ_OK);
	assert_true(req->result.etag == NULL || req->result.etag[0] == '\0');
	objstore_req_free(&req);
}

/* What a copy is held to at its other end. */
static void test_source(void **state)
{
	static const enum obj_op ops[] = {OBJ_COPY, OBJ_MPU_COPY};

	(void)state;
	for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		struct obj_req *req = scripted_make(ops[i]);

		if (ops[i] == OBJ_MPU_COPY) {
			req->source_key = strdup("from");
			req->upload_id = strdup("u");
			req->part_number = 1;
			req->offset = 5;
			req->length = 7;
		}
		req->source_if_match = strdup("77");
		req->source_version_id = strdup("v 1");
		scripted_answer(ERROR("412 Precondition Failed", "PreconditionFailed"));
		scripted_run(req, OBJ_PRECONDITION);
		assert_true(scripted_sent(i, "\r\nx-amz-copy-source: /bucket/from?versionId=v%201\r\n"));
		assert_true(scripted_sent(i, "\r\nx-amz-copy-source-if-match: \"77\"\r\n"));
		assert_int_equal(scripted_sent(i, "\r\nx-amz-copy-source-range: bytes=5-11\r\n"), ops[i] == OBJ_MPU_COPY);
		objstore_req_free(&req);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replacing),
		cmocka_unit_test(test_new),
		cmocka_unit_test_setup_teardown(test_source, scripted_setup, scripted_teardown),
		cmocka_unit_test_setup_teardown(test_no_etag, scripted_setup, scripted_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
