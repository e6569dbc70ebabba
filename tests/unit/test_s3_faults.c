/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The S3 store against a server that reads from a script: lost answers, throttling, broken-off
 * bodies, lying proxies. What matters is what it concludes, and what it sends again.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "tests/lib/probed.h"
#include "cached/base/clock.h"
#include "tests/lib/scripted_s3.h"

/* --- mutations whose answer is lost --- */

static void test_conditional_put_lost(void **state)
{
	struct obj_req *req = scripted_make_if(OBJ_PUT);

	(void)state;
	scripted_answer(HANG_UP);
	scripted_answer(PUT_OK);
	scripted_run(req, OBJ_UNKNOWN);
	assert_int_equal(scripted_asked(), 1);
	objstore_req_free(&req);
}

static void test_conditional_put_500(void **state)
{
	struct obj_req *req = scripted_make_if(OBJ_PUT);

	(void)state;
	scripted_answer(INTERNAL);
	scripted_answer(PUT_OK);
	scripted_run(req, OBJ_UNKNOWN);
	assert_int_equal(scripted_asked(), 1);
	objstore_req_free(&req);
}

static void test_conditional_without_body_lost(void **state)
{
	static const enum obj_op ops[] = { OBJ_DELETE, OBJ_COPY };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct obj_req *req = scripted_make_if(ops[i]);

		scripted_answer(HANG_UP);
		scripted_run(req, OBJ_UNKNOWN);
		assert_int_equal(scripted_asked(), i + 1);
		objstore_req_free(&req);
	}
}

/* A connection that was kept and dies under the next request: libcurl would send it again. */
static void test_kept_connection_dies(void **state)
{
	static const enum obj_op ops[] = { OBJ_PUT, OBJ_DELETE, OBJ_COPY };

	(void)state;
	scripted.keep_alive = true;
	for (unsigned i = 0; i < 3; i++) {
		unsigned before = scripted_asked();
		struct obj_req *req = scripted_make(OBJ_HEAD);

		scripted_answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"e\"\r\n\r\n");
		scripted_run(req, OBJ_OK);
		objstore_req_free(&req);
		scripted_answer(HANG_UP);
		req = scripted_make_if(ops[i]);
		scripted_run(req, OBJ_UNKNOWN);
		assert_int_equal(scripted_asked(), before + 2);
		objstore_req_free(&req);
	}
}

static void test_unconditional_put_lost(void **state)
{
	struct obj_req *req = scripted_make(OBJ_PUT);

	(void)state;
	scripted_answer(HANG_UP);
	scripted_answer(PUT_OK);
	scripted_run(req, OBJ_OK);
	assert_int_equal(scripted_asked(), 2);
	objstore_req_free(&req);
	scripted_answer(HANG_UP); /* three attempts, and it may have happened in each */
	scripted_answer(INTERNAL);
	scripted_answer(HANG_UP);
	req = scripted_make(OBJ_PUT);
	scripted_run(req, OBJ_UNKNOWN);
	assert_int_equal(scripted_asked(), 5);
	objstore_req_free(&req);
}

static void test_slow_down(void **state)
{
	struct obj_req *req = scripted_make_if(OBJ_PUT);

	(void)state;
	scripted_answer(SLOW_DOWN);
	scripted_answer(SLOW_DOWN);
	scripted_answer(PUT_OK);
	scripted_run(req, OBJ_OK);
	assert_int_equal(scripted_asked(), 3);
	objstore_req_free(&req);
	scripted_answer(SLOW_DOWN);
	scripted_answer(SLOW_DOWN);
	scripted_answer(SLOW_DOWN);
	req = scripted_make_if(OBJ_PUT);
	scripted_run(req, OBJ_AWAY); /* nothing happened, surely */
	objstore_req_free(&req);
}

static void test_error_inside_200(void **state)
{
	struct obj_req *req = scripted_make_if(OBJ_COPY);

	(void)state;
	scripted_answer(ANSWER("200 OK", "", XML_ERROR("InternalError")));
	scripted_run(req, OBJ_UNKNOWN);
	objstore_req_free(&req);
	scripted_answer(ANSWER("200 OK", "", "   \n" XML_ERROR("InternalError"))); /* kept alive by blanks */
	scripted_answer(ANSWER("200 OK", "", "<CopyObjectResult><ETag>\"e1\"</ETag></CopyObjectResult>"));
	scripted_answer(ANSWER("200 OK", "", " \n" XML_ERROR("AccessDenied")));
	req = scripted_make(OBJ_COPY);
	scripted_run(req, OBJ_OK);
	assert_string_equal(req->result.etag, "e1");
	objstore_req_free(&req);
	req = scripted_make(OBJ_COPY);
	req->rights_told = true;
	scripted_run(req, OBJ_DENIED);
	objstore_req_free(&req);
}

static void test_other_bytes_kept(void **state)
{
	struct obj_req *req = scripted_make(OBJ_PUT);
	int fd = memfd_create("body", MFD_CLOEXEC);

	(void)state;
	scripted_answer(PUT_OK); /* this store's ETags are MD5s */
	scripted_run(req, OBJ_OK);
	objstore_req_free(&req);
	scripted_answer(PUT_OK);
	assert_int_equal(write(fd, "HELLO", 5), 5);
	req = scripted_make(OBJ_PUT);
	req->fd = fd;
	scripted_run(req, OBJ_DAMAGED);
	assert_non_null(strstr(req->result.message, "other bytes"));
	assert_non_null(req->result.etag); /* what is there, to be written over */
	objstore_req_free(&req);
	close(fd);
}

static void test_if_match_form(void **state)
{
	struct obj_req *req = scripted_make_if(OBJ_PUT);

	(void)state;
	scripted_answer(ANSWER("412 No", "", XML_ERROR("PreconditionFailed")));
	scripted_answer(PUT_OK);
	scripted_answer(PUT_OK);
	scripted_run(req, OBJ_OK);
	assert_true(scripted_sent(0, "if-match: \"0123\""));
	assert_true(scripted_sent(1, "if-match: 0123\r\n"));
	objstore_req_free(&req);
	req = scripted_make_if(OBJ_PUT); /* found out once, remembered */
	scripted_run(req, OBJ_OK);
	assert_true(scripted_sent(2, "if-match: 0123\r\n"));
	assert_int_equal(scripted_asked(), 3);
	objstore_req_free(&req);
}

/* --- reading --- */

static void expect_body(struct obj_req *req, const char *text)
{
	assert_int_equal(req->result.body_len, strlen(text));
	assert_string_equal((char *)req->result.body, text);
	assert_int_equal(req->result.size, strlen(text));
}

static void test_get_broken_off(void **state)
{
	struct obj_req *req = scripted_make(OBJ_GET);

	(void)state;
	scripted_answer(ANSWER("200 OK", "Content-Length: 10\r\nETag: \"e1\"\r\n", "0123"));
	scripted_answer(SLOW_DOWN); /* its words must not get among the bytes */
	scripted_answer(ANSWER("206 Partial", "Content-Length: 6\r\nContent-Range: bytes 4-9/10\r\n"
				     "ETag: \"e1\"\r\n", "456789"));
	scripted_run(req, OBJ_OK);
	assert_true(scripted_sent(2, "range: bytes=4-"));
	assert_true(scripted_sent(2, "if-match: \"e1\""));
	expect_body(req, "0123456789");
	objstore_req_free(&req);
}

/* An answer that does not say where it ends, or has nothing of the rest that was asked for, is not all of it. */
static void test_get_without_end(void **state)
{
	struct obj_req *req = scripted_make(OBJ_GET);

	(void)state;
	scripted_answer(ANSWER("200 OK", "ETag: \"e1\"\r\n", "0123"));
	scripted_answer(ANSWER("206 Partial", "Content-Length: 6\r\nContent-Range: bytes 4-9/10\r\n"
				     "ETag: \"e1\"\r\n", "456789"));
	scripted_run(req, OBJ_OK);
	expect_body(req, "0123456789");
	objstore_req_free(&req);
	req = scripted_make(OBJ_GET);
	scripted_answer(ANSWER("200 OK", "Content-Length: 10\r\nETag: \"e1\"\r\n", "0123"));
	scripted_answer(ANSWER("200 OK", NO_BODY "ETag: \"e1\"\r\n", ""));
	scripted_answer(ANSWER("206 Partial", "Content-Length: 6\r\nContent-Range: bytes 4-9/10\r\n"
				     "ETag: \"e1\"\r\n", "456789"));
	scripted_run(req, OBJ_OK);
	expect_body(req, "0123456789");
	objstore_req_free(&req);
	req = scripted_make(OBJ_GET);
	scripted_answer(ANSWER("200 OK", "Transfer-Encoding: chunked\r\nETag: \"e1\"\r\n", "4\r\n0123\r\n0\r\n\r\n"));
	scripted_run(req, OBJ_OK);
	expect_body(req, "0123");
	objstore_req_free(&req);
}

/* Each time: it is not the network. */
static void test_get_damaged(void **state)
{
	struct obj_req *req = scripted_make(OBJ_GET);

	(void)state;
	scripted_answer(ANSWER("200 OK", "Content-Length: 10\r\nETag: \"e1\"\r\n", "0123"));
	for (int i = 0; i < 2; i++) {
		scripted_answer(ANSWER("206 Partial", "Content-Length: 6\r\nContent-Range: bytes 4-9/10\r\n"
					     "ETag: \"e1\"\r\n", ""));
	}
	scripted_run(req, OBJ_DAMAGED);
	objstore_req_free(&req);
	req = scripted_make(OBJ_GET);
	scripted_answer(ANSWER("200 OK", "Content-Length: 10\r\nETag: \"e1\"\r\n", "0123"));
	scripted_answer(SLOW_DOWN);
	scripted_answer(SLOW_DOWN);
	scripted_run(req, OBJ_AWAY);
	objstore_req_free(&req);
}

static void test_get_changed_meanwhile(void **state)
{
	struct obj_req *req = scripted_make(OBJ_GET);

	(void)state;
	scripted_answer(ANSWER("200 OK", "Content-Length: 10\r\nETag: \"e1\"\r\n", "0123"));
	scripted_answer(ANSWER("412 No", "", XML_ERROR("PreconditionFailed")));
	scripted_answer(ANSWER("200 OK", "Content-Length: 3\r\nETag: \"e2\"\r\n", "new"));
	scripted_run(req, OBJ_OK);
	assert_false(scripted_sent(2, "if-match"));
	expect_body(req, "new");
	assert_string_equal(req->result.etag, "e2");
	objstore_req_free(&req);
}

static void test_get_short_range(void **state)
{
	struct obj_req *req = scripted_make(OBJ_GET);

	(void)state;
	req->offset = 2;
	req->length = 5;
	req->if_match = strdup("e1");
	scripted_answer(ANSWER("206 Partial", "Content-Length: 2\r\nContent-Range: bytes 2-3/100\r\n"
				     "ETag: \"e1\"\r\n", "23"));
	scripted_answer(ANSWER("206 Partial", "Content-Length: 3\r\nContent-Range: bytes 4-6/100\r\n"
				     "ETag: \"e1\"\r\n", "456"));
	scripted_run(req, OBJ_OK);
	assert_true(scripted_sent(0, "range: bytes=2-6"));
	assert_true(scripted_sent(1, "range: bytes=4-6"));
	expect_body(req, "23456");
	objstore_req_free(&req);
}

/* Whoever answers may not send the daemon elsewhere, signed requests and all. */
static void test_redirect_is_not_followed(void **state)
{
	struct obj_req *req = scripted_make(OBJ_GET);
	char answer[256];
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	(void)state;
	assert_int_equal(getsockname(scripted.listener, (struct sockaddr *)&a, &len), 0);
	snprintf(answer, sizeof(answer), ANSWER("302 Found", NO_BODY "Location: http://127.0.0.1:%d/other\r\n", ""),
			ntohs(a.sin_port));
	for (int i = 0; i < 3; i++) {
		scripted_answer(answer);
	}
	scripted_run(req, OBJ_AWAY);
	assert_int_equal(scripted_asked(), 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_false(scripted_sent(i, "/other"));
	}
	objstore_req_free(&req);
}

static void test_range_ignored(void **state)
{
	struct obj_req *req = scripted_make(OBJ_GET);

	(void)state;
	req->offset = 2;
	req->length = 2;
	scripted_answer(ANSWER("200 OK", "Content-Length: 10\r\nETag: \"e1\"\r\n", "0123456789"));
	scripted_run(req, OBJ_INVALID);
	objstore_req_free(&req);
	req = scripted_make(OBJ_GET);
	req->offset = 2;
	req->length = 2;
	scripted_answer(ANSWER("206 Partial", "Content-Length: 2\r\nContent-Range: bytes 3-4/10\r\n", "34"));
	scripted_run(req, OBJ_INVALID);
	objstore_req_free(&req);
}

/* --- absence --- */

/* A HEAD that is refused without a word, and what the request after it says of why. */
static void head_and_why(const char *head, const char *why, enum obj_status status)
{
	struct obj_req *req = scripted_make(OBJ_HEAD);

	scripted_answer(head);
	scripted_answer(why);
	scripted_run(req, status);
	objstore_req_free(&req);
}

static void test_head_404_is_confirmed(void **state)
{
	struct obj_req *req;

	(void)state;
	head_and_why(ANSWER("404 No", NO_BODY, ""), ANSWER("404 No", "", XML_ERROR("NoSuchBucket")), OBJ_NO_BUCKET);
	head_and_why(ANSWER("404 No", NO_BODY, ""), ANSWER("404 No", "", XML_ERROR("NoSuchKey")), OBJ_NOT_FOUND);
	assert_int_equal(scripted_asked(), 4);
	/* the bucket was there a moment ago, which is enough where nothing is lost by it; a store says so */
	for (unsigned i = 0; i < 3; i++) {
		scripted_answer(i == 1 ? ANSWER("404 No", NO_BODY, "") : ANSWER("404 No", NO_BODY "x-amz-request-id: 1\r\n", ""));
		if (i > 0) {
			scripted_answer(ANSWER("404 No", "", XML_ERROR("NoSuchBucket")));
		}
		req = scripted_make(OBJ_HEAD);
		req->may_lack = i < 2;
		scripted_run(req, i == 0 ? OBJ_NOT_FOUND : OBJ_NO_BUCKET);
		assert_int_equal(scripted_asked(), 5 + 2 * i);
		objstore_req_free(&req);
	}
}

/* A GET says what a HEAD was refused for: it may be over in a moment. */
static void test_head_400_is_asked_for_its_reason(void **state)
{
	struct obj_req *req = scripted_make(OBJ_HEAD);

	(void)state;
	scripted_answer(ANSWER("400 Bad", NO_BODY, ""));
	scripted_answer(ANSWER("400 Bad", "", XML_ERROR("RequestTimeout")));
	scripted_answer(ANSWER("206 Partial", "Content-Length: 1\r\nContent-Range: bytes 0-0/9\r\nETag: \"e\"\r\n", "1"));
	scripted_answer(ANSWER("200 OK", "Content-Length: 9\r\nETag: \"e\"\r\n", ""));
	scripted_run(req, OBJ_OK);
	assert_int_equal(scripted_asked(), 4);
	objstore_req_free(&req);
	head_and_why(ANSWER("400 Bad", NO_BODY, ""), ANSWER("400 Bad", "", XML_ERROR("InvalidRequest")), OBJ_INVALID);
}

/* A captive portal, a proxy: neither success nor refusal. */
static void test_a_portals_page_says_nothing(void **state)
{
	static const struct {
		enum obj_op op;
		enum obj_status status;
	} cases[] = { { OBJ_HEAD, OBJ_AWAY }, { OBJ_GET, OBJ_AWAY }, { OBJ_LIST, OBJ_AWAY }, { OBJ_VERSIONING, OBJ_AWAY },
		{ OBJ_PUT, OBJ_UNKNOWN }, { OBJ_DELETE, OBJ_UNKNOWN }, { OBJ_COPY, OBJ_UNKNOWN } };
	static const char *const pages[] = { ANSWER("200 OK", "Content-Length: 26\r\n", "<html><body>hi</body></html"),
		ANSWER("200 OK", "Content-Length: 0\r\n", ""), ANSWER("302 Found", "", "<html/>"),
		ANSWER("307 Elsewhere", "", "<html/>"), ANSWER("400 Bad", "", "<html/>") };

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned p = 0; p < sizeof(pages) / sizeof(pages[0]); p++) {
			struct obj_req *req = scripted_make(cases[i].op);

			for (int n = 0; n < 4; n++) {
				scripted_answer(pages[p]);
			}
			/* what cannot have been done by a refusal has not been */
			scripted_run(req, p >= 2 ? OBJ_AWAY : cases[i].status);
			objstore_req_free(&req);
			scripted_forget();
		}
	}
}

static void test_a_proxys_404_is_no_absence(void **state)
{
	static const enum obj_op ops[] = { OBJ_GET, OBJ_LIST, OBJ_HEAD };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct obj_req *req = scripted_make(ops[i]);

		for (int n = 0; n < 4; n++) {
			scripted_answer(ANSWER("404 Not Found", "", "<html>no such page</html>"));
		}
		scripted_run(req, OBJ_AWAY);
		objstore_req_free(&req);
		scripted_forget();
	}
}

static void test_half_a_listing(void **state)
{
	struct obj_req *req = scripted_make(OBJ_LIST);

	(void)state;
	scripted_answer(ANSWER("200 OK", "", "<ListBucketResult><IsTruncated>false</IsTruncated>"
				    "<Contents><Key>k1</Key><Size>1</Size></Contents>"));
	/* what does not begin as was asked */
	scripted_answer(ANSWER("200 OK", "", "<ListBucketResult><IsTruncated>false</IsTruncated>"
				    "<Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>"));
	scripted_answer(ANSWER("200 OK", "", "<ListBucketResult><IsTruncated>false</IsTruncated>"
				    "<Contents><Key>k1</Key><Size>1</Size></Contents></ListBucketResult>"));
	scripted_run(req, OBJ_OK);
	assert_int_equal(scripted_asked(), 3);
	assert_int_equal(req->result.entry_count, 1);
	objstore_req_free(&req);
}

/* --- rights --- */

#define REFUSED(words) ANSWER("403 Forbidden", "", "<Error><Code>AccessDenied</Code><Message>" words     \
			      "</Message></Error>")

static void expect_denied(enum obj_want want, const char *right)
{
	const char *why = objstore_denied(scripted.store, want);
	char words[128];

	snprintf(words, sizeof(words), "%s is missing", right);
	assert_non_null(why);
	assert_non_null(strstr(why, words));
}

static void run_op(enum obj_op op, enum obj_status expected)
{
	struct obj_req *req = scripted_make(op);

	scripted_run(req, expected);
	objstore_req_free(&req);
}

static void test_rights(void **state)
{
	(void)state;
	scripted_answer(REFUSED(""));
	scripted_answer(ANSWER("200 OK", "", "<ListBucketResult><IsTruncated>false</IsTruncated>"
				"<Contents><Key>k</Key><Size>1</Size></Contents></ListBucketResult>"));
	run_op(OBJ_GET, OBJ_DENIED);
	while (objstore_denied(scripted.store, OBJ_WANT_READ) == NULL) {
		scripted_turn(); /* the key is listed, so it is there */
	}
	expect_denied(OBJ_WANT_READ, "s3:GetObject");
	assert_true(scripted_sent(1, "prefix=k"));
	scripted_answer(REFUSED("User: arn:aws:iam::111122223333:user/u is not authorized to perform: "
				"kms:GenerateDataKey on resource: arn:aws:kms:x"));
	run_op(OBJ_PUT, OBJ_DENIED);
	expect_denied(OBJ_WANT_WRITE, "kms:GenerateDataKey");
	scripted_answer(PUT_OK);
	run_op(OBJ_PUT, OBJ_OK);
	assert_null(objstore_denied(scripted.store, OBJ_WANT_WRITE));
	scripted_answer(REFUSED(""));
	run_op(OBJ_LIST, OBJ_DENIED);
	expect_denied(OBJ_WANT_LIST, "s3:ListBucket");
	assert_null(objstore_denied(scripted.store, OBJ_WANT_READ)); /* nobody knows, without listings */
}

/* --- the probe --- */

/* Without s3:ListBucket, what is missing is answered with 403. */
static void test_probe_without_list_right(void **state)
{
	struct probed p = { 0 };

	(void)state;
	scripted_answer(PUT_OK);
	scripted_answer(ANSWER("200 OK", "Content-Length: 5\r\nETag: \"e\"\r\n", ""));
	scripted_answer(ANSWER("403 Forbidden", NO_BODY, ""));
	for (int i = 0; i < 5; i++) {
		scripted_answer(ANSWER("204 No Content", "", ""));
	}
	objstore_probe(scripted.store, "vol/", probed_set, &p);
	scripted_wait(&p.done);
	assert_int_equal(p.status, OBJ_DENIED);
	assert_non_null(strstr(p.message, "s3:ListBucket"));
	assert_true(scripted_sent(0, "PUT /bucket/vol/.objectfs/probe/"));
	assert_true(scripted_sent(7, "DELETE /bucket/vol/.objectfs/probe/")); /* tidied up all the same */
	assert_int_equal(scripted_asked(), 8);
}

static void test_probe_store_goes_away(void **state)
{
	struct probed p = { 0 };

	(void)state;
	scripted_answer(PUT_OK);
	for (int i = 0; i < 3; i++) {
		scripted_answer(SLOW_DOWN);
	}
	for (int i = 0; i < 3; i++) {
		scripted_answer(SLOW_DOWN);
	}
	objstore_probe(scripted.store, "vol/", probed_set, &p);
	scripted_wait(&p.done);
	assert_int_equal(p.status, OBJ_AWAY);
	assert_int_equal(scripted.store->caps.fence_class, 0);
}

static void test_probe_store_is_closed(void **state)
{
	struct probed p = { 0 };

	(void)state;
	scripted_answer(HOLD);
	objstore_probe(scripted.store, "vol/", probed_set, &p);
	while (scripted_asked() < 1) {
		scripted_turn();
	}
	TALLOC_FREE(scripted.store);
	scripted_wait(&p.done);
	assert_int_equal(p.status, OBJ_CANCELLED);
}

/* --- clock, region --- */

static int64_t boot_ns(struct clock *c)
{
	struct timespec ts;

	(void)c;
	clock_gettime(CLOCK_BOOTTIME, &ts);
	return timespec_ns(ts);
}

static int64_t set_ns(struct clock *c)
{
	(void)c;
	return 4711; /* as somebody has set it */
}

static void test_clock_is_corrected(void **state)
{
	static const struct clock_ops ops = {.now_ns = boot_ns, .wall_ns = set_ns};
	struct clock clock = {.ops = &ops};
	struct obj_req *req = scripted_make(OBJ_PUT);
	int64_t now_s;

	(void)state;
	assert_int_equal(objstore_now_ns(scripted.store, &clock), 4711); /* it has not said */
	scripted_answer(ANSWER("403 Skewed", "Date: Fri, 24 May 2013 00:00:00 GMT\r\n",
			XML_ERROR("RequestTimeTooSkewed")));
	scripted_answer(PUT_OK);
	scripted_run(req, OBJ_OK);
	assert_true(scripted_sent(1, "x-amz-date: 20130524T0000"));
	now_s = objstore_now_ns(scripted.store, &clock) / NS_PER_S; /* what the store said, and since then the machine's age */
	assert_in_range(now_s, 1369353600, 1369353600 + 3600);
	objstore_req_free(&req);
	req = scripted_make(OBJ_HEAD); /* whose answer has no body to say why */
	scripted_answer(ANSWER("403 Forbidden", NO_BODY "Date: Sat, 24 May 2014 00:00:00 GMT\r\n", ""));
	scripted_answer(ANSWER("200 OK", "Content-Length: 5\r\nETag: \"e\"\r\n", ""));
	scripted_run(req, OBJ_OK);
	assert_true(scripted_sent(3, "x-amz-date: 20140524T0000"));
	objstore_req_free(&req);
	req = scripted_make(OBJ_PUT); /* once for each request: a store that is never content is told of */
	scripted_answer(ANSWER("403 Skewed", "Date: Sun, 24 May 2015 00:00:00 GMT\r\n",
			XML_ERROR("RequestTimeTooSkewed")));
	scripted_answer(ANSWER("403 Skewed", "Date: Tue, 24 May 2016 00:00:00 GMT\r\n",
			XML_ERROR("RequestTimeTooSkewed")));
	scripted_run(req, OBJ_DENIED);
	assert_int_equal(scripted_asked(), 6);
	objstore_req_free(&req);
}

static void test_region_is_corrected(void **state)
{
	struct obj_req *req = scripted_make(OBJ_HEAD);

	(void)state;
	scripted_answer(ANSWER("301 Moved", NO_BODY "x-amz-bucket-region: eu-west-1\r\n", ""));
	scripted_answer(ANSWER("200 OK", "Content-Length: 5\r\nETag: \"e\"\r\n", ""));
	scripted_run(req, OBJ_OK);
	assert_true(scripted_sent(0, "/us-east-1/s3/"));
	assert_true(scripted_sent(1, "/eu-west-1/s3/"));
	objstore_req_free(&req);
	scripted_answer(ANSWER("301 Moved", NO_BODY "x-amz-bucket-region: eu-west-1\r\n", ""));
	req = scripted_make(OBJ_HEAD);
	scripted_run(req, OBJ_INVALID); /* in circles */
	objstore_req_free(&req);
}

/* --- time, cancelling, order --- */

static void test_silence(void **state)
{
	struct obj_req *req = scripted_make(OBJ_GET);

	(void)state;
	scripted_answer(HOLD);
	scripted_answer(ANSWER("200 OK", "Content-Length: 2\r\nETag: \"e1\"\r\n", "ok"));
	scripted_run(req, OBJ_OK);
	objstore_req_free(&req);
}

static void test_cancel_on_the_wire(void **state)
{
	static const enum obj_op ops[] = { OBJ_GET, OBJ_PUT };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct obj_req *req = scripted_make(ops[i]);
		bool done;

		scripted_answer(HOLD);
		scripted_submit(req, &done);
		while (scripted_asked() < i + 1) {
			scripted_turn();
		}
		atomic_store(&req->cancelled, true);
		scripted_wait(&done);
		/* the PUT had left: who knows */
		assert_int_equal(req->result.status, i == 0 ? OBJ_CANCELLED : OBJ_UNKNOWN);
		objstore_req_free(&req);
	}
}

static void test_readers_go_first(void **state)
{
	struct obj_req *req[4];
	bool done[4];

	(void)state;
	for (int i = 0; i < 4; i++) {
		scripted_answer(ANSWER("200 OK", "Content-Length: 0\r\nETag: \"e\"\r\n", ""));
	}
	for (int i = 0; i < 4; i++) {
		char key[2] = { (char)('a' + i), '\0' };

		req[i] = objstore_req_new(OBJ_HEAD, key);
		req[i]->prio = i == 3 ? OBJ_PRIO_READER : OBJ_PRIO_HOUSE;
		scripted_submit(req[i], &done[i]);
	}
	for (int i = 0; i < 4; i++) {
		scripted_wait(&done[i]);
		objstore_req_free(&req[i]);
	}
	/* "a" may have left already when the reader came */
	assert_true(scripted_sent(0, "HEAD /bucket/d ") || scripted_sent(1, "HEAD /bucket/d "));
}

static void test_store_closed_under_requests(void **state)
{
	struct obj_req *req[2] = { scripted_make(OBJ_GET), scripted_make_if(OBJ_PUT) };
	bool done[2];

	(void)state;
	scripted_answer(HOLD);
	scripted_answer(HOLD);
	for (int i = 0; i < 2; i++) {
		scripted_submit(req[i], &done[i]);
	}
	while (scripted_asked() < 2) {
		scripted_turn();
	}
	TALLOC_FREE(scripted.store);
	for (int i = 0; i < 2; i++) {
		scripted_wait(&done[i]);
		assert_int_equal(req[i]->result.status, i == 0 ? OBJ_CANCELLED : OBJ_UNKNOWN);
		objstore_req_free(&req[i]);
	}
}

/* --- outages --- */

static int setup_patient(void **state)
{
	scripted_conf.patience_ns = 600 * 1000000000LL;
	return scripted_setup(state);
}

/* What somebody waits for is asked for until the store is back; the rest as often as ever, and what is no outage is none. */
static void test_outage_is_ridden_out(void **state)
{
	static const char *const away[] = { HANG_UP, SLOW_DOWN, INTERNAL, HANG_UP, HANG_UP };
	struct obj_req *req;
	unsigned before;

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		scripted_answer(away[i]);
	}
	scripted_answer(ANSWER("200 OK", "Content-Length: 2\r\nETag: \"e1\"\r\n", "ok"));
	req = scripted_make(OBJ_GET);
	scripted_run(req, OBJ_OK);
	assert_int_equal(scripted_asked(), 6);
	objstore_req_free(&req);

	before = scripted_asked();
	for (unsigned i = 0; i < 3; i++) {
		scripted_answer(SLOW_DOWN);
	}
	req = scripted_make(OBJ_GET);
	req->prio = OBJ_PRIO_AHEAD;
	scripted_run(req, OBJ_AWAY);
	assert_int_equal(scripted_asked(), before + 3);
	objstore_req_free(&req);

	before = scripted_asked();
	scripted_answer(ANSWER("200 OK", "Content-Length: 5\r\nETag: \"e1\"\r\n", "ok"));
	for (unsigned i = 0; i < 2; i++) {
		scripted_answer(ANSWER("206 Partial", "Content-Length: 3\r\nContent-Range: bytes 2-4/5\r\nETag: \"e1\"\r\n", ""));
	}
	req = scripted_make(OBJ_GET);
	scripted_run(req, OBJ_DAMAGED);
	assert_int_equal(scripted_asked(), before + 3);
	objstore_req_free(&req);
}

static int setup_hasty(void **state)
{
	scripted_conf.patience_ns = 1;
	return scripted_setup(state);
}

static void test_long_outage_is_told(void **state)
{
	struct obj_req *req;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		scripted_answer(HANG_UP);
	}
	req = scripted_make(OBJ_GET);
	scripted_run(req, OBJ_AWAY);
	assert_int_equal(scripted_asked(), 3);
	objstore_req_free(&req);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, scripted_setup, scripted_teardown)
	const struct CMUnitTest tests[] = {
		T(test_conditional_put_lost),
		T(test_conditional_put_500),
		T(test_conditional_without_body_lost),
		T(test_kept_connection_dies),
		T(test_unconditional_put_lost),
		T(test_slow_down),
		T(test_error_inside_200),
		T(test_other_bytes_kept),
		T(test_if_match_form),
		T(test_get_broken_off),
		T(test_get_damaged),
		T(test_get_without_end),
		T(test_get_changed_meanwhile),
		T(test_get_short_range),
		T(test_redirect_is_not_followed),
		T(test_range_ignored),
		T(test_head_404_is_confirmed),
		T(test_head_400_is_asked_for_its_reason),
		T(test_a_portals_page_says_nothing),
		T(test_a_proxys_404_is_no_absence),
		T(test_rights),
		T(test_half_a_listing),
		T(test_probe_without_list_right),
		T(test_probe_store_goes_away),
		T(test_probe_store_is_closed),
		T(test_clock_is_corrected),
		T(test_region_is_corrected),
		T(test_silence),
		T(test_cancel_on_the_wire),
		cmocka_unit_test_setup_teardown(test_readers_go_first, scripted_setup_single, scripted_teardown),
		T(test_store_closed_under_requests),
		cmocka_unit_test_setup_teardown(test_outage_is_ridden_out, setup_patient, scripted_teardown),
		cmocka_unit_test_setup_teardown(test_long_outage_is_told, setup_hasty, scripted_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
