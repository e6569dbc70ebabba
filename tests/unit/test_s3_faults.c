/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The S3 store against a server that reads from a script: lost answers, throttling, broken-off
 * bodies, lying proxies. What matters is what it concludes, and what it sends again.
 *
 * Thread: the test's, one accepting, one for each connection; `server.lock` guards script and log.
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
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <tevent.h>
#include <time.h>
#include <unistd.h>
#include "cached/base/mailbox.h"
#include "cached/objstore/objstore.h"

#define STEPS_MAX 16
#define HEAD_BYTES 8192
#define WAIT_S 30

/* What to do with a request: answer (a whole HTTP message), hang up, or hold it unanswered. */
#define HANG_UP "hang up"
#define HOLD "hold"

static struct {
	pthread_mutex_t lock;
	int listener;
	pthread_t thread;
	int port;
	const char *script[STEPS_MAX];
	unsigned steps, asked;
	char heads[STEPS_MAX][HEAD_BYTES]; /* of the requests that came */
	bool keep_alive; /* else one request for each connection */
} server = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct tevent_context *ev;
static struct mailbox *mb;
static struct objstore *store;

/* --- the server --- */

/* A request's head into buf, its body away. false: the client went. */
static bool read_request(int sock, char *buf)
{
	size_t n = 0;
	char *body = NULL;
	const char *length;
	long left;

	while (body == NULL) {
		ssize_t got = n + 1 < HEAD_BYTES ? read(sock, buf + n, HEAD_BYTES - 1 - n) : -1;

		if (got <= 0) {
			return false;
		}
		n += (size_t)got;
		buf[n] = '\0';
		body = strstr(buf, "\r\n\r\n");
	}
	length = strcasestr(buf, "\r\ncontent-length:");
	left = length == NULL ? 0 : atol(length + 17);
	left -= (long)(n - (size_t)(body + 4 - buf));
	body[2] = '\0';
	while (left > 0) {
		char sink[65536];
		ssize_t got = read(sock, sink, left < (long)sizeof(sink) ? (size_t)left : sizeof(sink));

		if (got <= 0) {
			return false;
		}
		left -= got;
	}
	return true;
}

static void *serve(void *arg)
{
	int sock = (int)(intptr_t)arg;
	char head[HEAD_BYTES];
	bool more = true;

	while (more && read_request(sock, head)) {
		const char *answer = HANG_UP;

		pthread_mutex_lock(&server.lock);
		if (server.asked < STEPS_MAX) {
			memcpy(server.heads[server.asked], head, sizeof(head));
			if (server.asked < server.steps) {
				answer = server.script[server.asked];
			}
		}
		server.asked++;
		more = server.keep_alive;
		pthread_mutex_unlock(&server.lock);
		if (strcmp(answer, HANG_UP) == 0) {
			break;
		}
		if (strcmp(answer, HOLD) == 0) {
			more = read(sock, head, 1) > 0; /* until the client goes */
		} else if (write(sock, answer, strlen(answer)) < 0) {
			break;
		}
	}
	close(sock);
	return NULL;
}

static void *accept_all(void *arg)
{
	(void)arg;
	for (;;) {
		int sock = accept4(server.listener, NULL, NULL, SOCK_CLOEXEC);
		pthread_t t;

		if (sock < 0) {
			return NULL;
		}
		if (pthread_create(&t, NULL, serve, (void *)(intptr_t)sock) == 0) {
			pthread_detach(t);
		}
	}
}

static unsigned asked(void)
{
	unsigned n;

	pthread_mutex_lock(&server.lock);
	n = server.asked;
	pthread_mutex_unlock(&server.lock);
	return n;
}

/* --- one test's setting --- */

static int setup_with(unsigned connections)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof(a);
	char endpoint[64];
	char *error;
	struct objstore_s3_conf conf = {
		.bucket = "bucket",
		.endpoint = endpoint,
		.region = "us-east-1",
		.access_key = "key",
		.secret_key = "secret",
		.retries = 2,
		.request_timeout_s = 2,
		.max_connections = connections,
	};

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(server.listener, (struct sockaddr *)&a, sizeof(a)) != 0 ||
			listen(server.listener, 16) != 0 ||
			getsockname(server.listener, (struct sockaddr *)&a, &len) != 0) {
		return -1;
	}
	server.steps = server.asked = 0;
	server.keep_alive = false;
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d", ntohs(a.sin_port));
	if (pthread_create(&server.thread, NULL, accept_all, NULL) != 0) {
		return -1;
	}
	ev = tevent_context_init(NULL);
	mb = mailbox_new(ev, ev);
	store = objstore_s3_new(NULL, mb, &conf, &error);
	return store == NULL ? -1 : 0;
}

static int setup(void **state)
{
	(void)state;
	return setup_with(4);
}

static int setup_single(void **state)
{
	(void)state;
	return setup_with(1);
}

static int teardown(void **state)
{
	(void)state;
	shutdown(server.listener, SHUT_RDWR);
	pthread_join(server.thread, NULL);
	close(server.listener);
	talloc_free(store);
	talloc_free(ev);
	return 0;
}

static void script(const char *answer)
{
	pthread_mutex_lock(&server.lock);
	assert_true(server.steps < STEPS_MAX);
	server.script[server.steps++] = answer;
	pthread_mutex_unlock(&server.lock);
}

static void on_done(struct obj_req *req)
{
	*(bool *)req->arg = true;
}

static void on_tick(struct tevent_context *e, struct tevent_timer *t, struct timeval now, void *arg)
{
	(void)e;
	(void)t;
	(void)now;
	*(bool *)arg = true;
}

/* Turn the loop for a moment. */
static void turn(void)
{
	bool over = false;

	tevent_add_timer(ev, ev, tevent_timeval_current_ofs(0, 20000), on_tick, &over);
	while (!over) {
		tevent_loop_once(ev);
	}
}

static void submit(struct obj_req *req, bool *done)
{
	*done = false;
	req->done = on_done;
	req->arg = done;
	objstore_submit(store, req);
}

static void wait_for(const bool *done)
{
	time_t end = time(NULL) + WAIT_S;

	while (!*done) {
		assert_true(time(NULL) < end);
		turn();
	}
}

static void run(struct obj_req *req, enum obj_status want)
{
	bool done;

	submit(req, &done);
	wait_for(&done);
	if (req->result.status != want) {
		print_error("%s: %s\n", objstore_status_name(req->result.status),
				req->result.message == NULL ? "-" : req->result.message);
	}
	assert_int_equal(req->result.status, want);
}

static struct obj_req *make(enum obj_op op)
{
	struct obj_req *req = objstore_req_new(op, "k");

	assert_non_null(req);
	if (op == OBJ_PUT) {
		req->body = (uint8_t *)strdup("hello");
		req->length = 5;
	} else if (op == OBJ_COPY) {
		req->source_key = strdup("from");
	} else if (op == OBJ_GET) {
		req->length = -1;
	}
	return req;
}

static struct obj_req *make_if(enum obj_op op)
{
	struct obj_req *req = make(op);

	req->if_match = strdup("0123");
	return req;
}

static bool sent(unsigned i, const char *text)
{
	return strcasestr(server.heads[i], text) != NULL;
}

#define ANSWER(status, headers, body)                                                              \
	"HTTP/1.1 " status "\r\nConnection: close\r\n" headers "\r\n" body
#define NO_BODY "Content-Length: 0\r\n"
#define XML_ERROR(code) "<?xml version=\"1.0\"?><Error><Code>" code "</Code></Error>"
#define PUT_OK ANSWER("200 OK", NO_BODY "ETag: \"5d41402abc4b2a76b9719d911017c592\"\r\n", "")
#define SLOW_DOWN ANSWER("503 Slow Down", "", XML_ERROR("SlowDown"))
#define INTERNAL ANSWER("500 Oops", "", XML_ERROR("InternalError"))

/* --- mutations whose answer is lost --- */

static void test_conditional_put_lost(void **state)
{
	struct obj_req *req = make_if(OBJ_PUT);

	(void)state;
	script(HANG_UP);
	script(PUT_OK);
	run(req, OBJ_UNKNOWN);
	assert_int_equal(asked(), 1);
	objstore_req_free(&req);
}

static void test_conditional_put_500(void **state)
{
	struct obj_req *req = make_if(OBJ_PUT);

	(void)state;
	script(INTERNAL);
	script(PUT_OK);
	run(req, OBJ_UNKNOWN);
	assert_int_equal(asked(), 1);
	objstore_req_free(&req);
}

static void test_conditional_without_body_lost(void **state)
{
	static const enum obj_op ops[] = { OBJ_DELETE, OBJ_COPY };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct obj_req *req = make_if(ops[i]);

		script(HANG_UP);
		run(req, OBJ_UNKNOWN);
		assert_int_equal(asked(), i + 1);
		objstore_req_free(&req);
	}
}

/* A connection that was kept and dies under the next request: libcurl would send it again. */
static void test_kept_connection_dies(void **state)
{
	static const enum obj_op ops[] = { OBJ_PUT, OBJ_DELETE, OBJ_COPY };

	(void)state;
	server.keep_alive = true;
	for (unsigned i = 0; i < 3; i++) {
		unsigned before = asked();
		struct obj_req *req = make(OBJ_HEAD);

		script("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"e\"\r\n\r\n");
		run(req, OBJ_OK);
		objstore_req_free(&req);
		script(HANG_UP);
		req = make_if(ops[i]);
		run(req, OBJ_UNKNOWN);
		assert_int_equal(asked(), before + 2);
		objstore_req_free(&req);
	}
}

static void test_unconditional_put_lost(void **state)
{
	struct obj_req *req = make(OBJ_PUT);

	(void)state;
	script(HANG_UP);
	script(PUT_OK);
	run(req, OBJ_OK);
	assert_int_equal(asked(), 2);
	objstore_req_free(&req);
	script(HANG_UP); /* three attempts, and it may have happened in each */
	script(INTERNAL);
	script(HANG_UP);
	req = make(OBJ_PUT);
	run(req, OBJ_UNKNOWN);
	assert_int_equal(asked(), 5);
	objstore_req_free(&req);
}

static void test_slow_down(void **state)
{
	struct obj_req *req = make_if(OBJ_PUT);

	(void)state;
	script(SLOW_DOWN);
	script(SLOW_DOWN);
	script(PUT_OK);
	run(req, OBJ_OK);
	assert_int_equal(asked(), 3);
	objstore_req_free(&req);
	script(SLOW_DOWN);
	script(SLOW_DOWN);
	script(SLOW_DOWN);
	req = make_if(OBJ_PUT);
	run(req, OBJ_AWAY); /* nothing happened, surely */
	objstore_req_free(&req);
}

static void test_error_inside_200(void **state)
{
	struct obj_req *req = make_if(OBJ_COPY);

	(void)state;
	script(ANSWER("200 OK", "", XML_ERROR("InternalError")));
	run(req, OBJ_UNKNOWN);
	objstore_req_free(&req);
	script(ANSWER("200 OK", "", "   \n" XML_ERROR("InternalError"))); /* kept alive by blanks */
	script(ANSWER("200 OK", "", "<CopyObjectResult><ETag>\"e1\"</ETag></CopyObjectResult>"));
	script(ANSWER("200 OK", "", " \n" XML_ERROR("AccessDenied")));
	req = make(OBJ_COPY);
	run(req, OBJ_OK);
	assert_string_equal(req->result.etag, "e1");
	objstore_req_free(&req);
	req = make(OBJ_COPY);
	run(req, OBJ_DENIED);
	objstore_req_free(&req);
}

static void test_other_bytes_kept(void **state)
{
	struct obj_req *req = make(OBJ_PUT);
	int fd = memfd_create("body", MFD_CLOEXEC);

	(void)state;
	script(PUT_OK); /* this store's ETags are MD5s */
	run(req, OBJ_OK);
	objstore_req_free(&req);
	script(PUT_OK);
	assert_int_equal(write(fd, "HELLO", 5), 5);
	req = make(OBJ_PUT);
	req->fd = fd;
	run(req, OBJ_UNKNOWN);
	assert_non_null(strstr(req->result.message, "other bytes"));
	objstore_req_free(&req);
	close(fd);
}

static void test_if_match_form(void **state)
{
	struct obj_req *req = make_if(OBJ_PUT);

	(void)state;
	script(ANSWER("412 No", "", XML_ERROR("PreconditionFailed")));
	script(PUT_OK);
	script(PUT_OK);
	run(req, OBJ_OK);
	assert_true(sent(0, "if-match: \"0123\""));
	assert_true(sent(1, "if-match: 0123\r\n"));
	objstore_req_free(&req);
	req = make_if(OBJ_PUT); /* found out once, remembered */
	run(req, OBJ_OK);
	assert_true(sent(2, "if-match: 0123\r\n"));
	assert_int_equal(asked(), 3);
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
	struct obj_req *req = make(OBJ_GET);

	(void)state;
	script(ANSWER("200 OK", "Content-Length: 10\r\nETag: \"e1\"\r\n", "0123"));
	script(SLOW_DOWN); /* its words must not get among the bytes */
	script(ANSWER("206 Partial", "Content-Length: 6\r\nContent-Range: bytes 4-9/10\r\n"
				     "ETag: \"e1\"\r\n", "456789"));
	run(req, OBJ_OK);
	assert_true(sent(2, "range: bytes=4-"));
	assert_true(sent(2, "if-match: \"e1\""));
	expect_body(req, "0123456789");
	objstore_req_free(&req);
}

static void test_get_changed_meanwhile(void **state)
{
	struct obj_req *req = make(OBJ_GET);

	(void)state;
	script(ANSWER("200 OK", "Content-Length: 10\r\nETag: \"e1\"\r\n", "0123"));
	script(ANSWER("412 No", "", XML_ERROR("PreconditionFailed")));
	script(ANSWER("200 OK", "Content-Length: 3\r\nETag: \"e2\"\r\n", "new"));
	run(req, OBJ_OK);
	assert_false(sent(2, "if-match"));
	expect_body(req, "new");
	assert_string_equal(req->result.etag, "e2");
	objstore_req_free(&req);
}

static void test_get_short_range(void **state)
{
	struct obj_req *req = make(OBJ_GET);

	(void)state;
	req->offset = 2;
	req->length = 5;
	req->if_match = strdup("e1");
	script(ANSWER("206 Partial", "Content-Length: 2\r\nContent-Range: bytes 2-3/100\r\n"
				     "ETag: \"e1\"\r\n", "23"));
	script(ANSWER("206 Partial", "Content-Length: 3\r\nContent-Range: bytes 4-6/100\r\n"
				     "ETag: \"e1\"\r\n", "456"));
	run(req, OBJ_OK);
	assert_true(sent(0, "range: bytes=2-6"));
	assert_true(sent(1, "range: bytes=4-6"));
	expect_body(req, "23456");
	objstore_req_free(&req);
}

static void test_range_ignored(void **state)
{
	struct obj_req *req = make(OBJ_GET);

	(void)state;
	req->offset = 2;
	req->length = 2;
	script(ANSWER("200 OK", "Content-Length: 10\r\nETag: \"e1\"\r\n", "0123456789"));
	run(req, OBJ_INVALID);
	objstore_req_free(&req);
	req = make(OBJ_GET);
	req->offset = 2;
	req->length = 2;
	script(ANSWER("206 Partial", "Content-Length: 2\r\nContent-Range: bytes 3-4/10\r\n", "34"));
	run(req, OBJ_INVALID);
	objstore_req_free(&req);
}

/* --- absence --- */

static void test_head_404_is_confirmed(void **state)
{
	struct obj_req *req = make(OBJ_HEAD);

	(void)state;
	script(ANSWER("404 No", NO_BODY, ""));
	script(ANSWER("404 No", "", XML_ERROR("NoSuchBucket")));
	run(req, OBJ_NO_BUCKET);
	objstore_req_free(&req);
	script(ANSWER("404 No", NO_BODY, ""));
	script(ANSWER("404 No", "", XML_ERROR("NoSuchKey")));
	req = make(OBJ_HEAD);
	run(req, OBJ_NOT_FOUND);
	assert_int_equal(asked(), 4);
	objstore_req_free(&req);
	script(ANSWER("404 No", NO_BODY, "")); /* the bucket was there a moment ago */
	req = make(OBJ_HEAD);
	run(req, OBJ_NOT_FOUND);
	assert_int_equal(asked(), 5);
	objstore_req_free(&req);
}

static void test_a_proxys_404_is_no_absence(void **state)
{
	static const enum obj_op ops[] = { OBJ_GET, OBJ_LIST, OBJ_HEAD };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct obj_req *req = make(ops[i]);

		for (int n = 0; n < 4; n++) {
			script(ANSWER("404 Not Found", "", "<html>no such page</html>"));
		}
		run(req, OBJ_AWAY);
		objstore_req_free(&req);
		server.steps = server.asked = 0;
	}
}

static void test_half_a_listing(void **state)
{
	struct obj_req *req = make(OBJ_LIST);

	(void)state;
	for (int i = 0; i < 2; i++) {
		script(ANSWER("200 OK", "", "<ListBucketResult><IsTruncated>false</IsTruncated>"
					    "<Contents><Key>a</Key><Size>1</Size></Contents>"));
	}
	script(ANSWER("200 OK", "", "<ListBucketResult><IsTruncated>false</IsTruncated>"
				    "<Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>"));
	run(req, OBJ_OK);
	assert_int_equal(asked(), 3);
	assert_int_equal(req->result.entry_count, 1);
	objstore_req_free(&req);
}

/* --- the probe --- */

struct probed {
	bool done;
	enum obj_status status;
	char message[512];
};

static void on_probed(enum obj_status status, const char *message, void *arg)
{
	struct probed *p = arg;

	p->status = status;
	snprintf(p->message, sizeof(p->message), "%s", message);
	p->done = true;
}

/* Without s3:ListBucket, what is missing is answered with 403. */
static void test_probe_without_list_right(void **state)
{
	struct probed p = { 0 };

	(void)state;
	script(PUT_OK);
	script(ANSWER("200 OK", "Content-Length: 5\r\nETag: \"e\"\r\n", ""));
	script(ANSWER("403 Forbidden", NO_BODY, ""));
	for (int i = 0; i < 5; i++) {
		script(ANSWER("204 No Content", "", ""));
	}
	objstore_probe(store, "vol/", on_probed, &p);
	wait_for(&p.done);
	assert_int_equal(p.status, OBJ_DENIED);
	assert_non_null(strstr(p.message, "s3:ListBucket"));
	assert_true(sent(0, "PUT /bucket/vol/.objectfs/probe/"));
	assert_true(sent(7, "DELETE /bucket/vol/.objectfs/probe/")); /* tidied up all the same */
	assert_int_equal(asked(), 8);
}

static void test_probe_store_goes_away(void **state)
{
	struct probed p = { 0 };

	(void)state;
	script(PUT_OK);
	for (int i = 0; i < 3; i++) {
		script(SLOW_DOWN);
	}
	for (int i = 0; i < 3; i++) {
		script(SLOW_DOWN);
	}
	objstore_probe(store, "vol/", on_probed, &p);
	wait_for(&p.done);
	assert_int_equal(p.status, OBJ_AWAY);
	assert_int_equal(store->caps.fence_class, 0);
}

static void test_probe_store_is_closed(void **state)
{
	struct probed p = { 0 };

	(void)state;
	script(HOLD);
	objstore_probe(store, "vol/", on_probed, &p);
	while (asked() < 1) {
		turn();
	}
	TALLOC_FREE(store);
	wait_for(&p.done);
	assert_int_equal(p.status, OBJ_CANCELLED);
}

/* --- clock, region --- */

static void test_clock_is_corrected(void **state)
{
	struct obj_req *req = make(OBJ_PUT);

	(void)state;
	script(ANSWER("403 Skewed", "Date: Fri, 24 May 2013 00:00:00 GMT\r\n",
			XML_ERROR("RequestTimeTooSkewed")));
	script(PUT_OK);
	run(req, OBJ_OK);
	assert_true(sent(1, "x-amz-date: 20130524T0000"));
	objstore_req_free(&req);
}

static void test_region_is_corrected(void **state)
{
	struct obj_req *req = make(OBJ_HEAD);

	(void)state;
	script(ANSWER("301 Moved", NO_BODY "x-amz-bucket-region: eu-west-1\r\n", ""));
	script(ANSWER("200 OK", "Content-Length: 5\r\nETag: \"e\"\r\n", ""));
	run(req, OBJ_OK);
	assert_true(sent(0, "/us-east-1/s3/"));
	assert_true(sent(1, "/eu-west-1/s3/"));
	objstore_req_free(&req);
	script(ANSWER("301 Moved", NO_BODY "x-amz-bucket-region: eu-west-1\r\n", ""));
	req = make(OBJ_HEAD);
	run(req, OBJ_INVALID); /* in circles */
	objstore_req_free(&req);
}

/* --- time, cancelling, order --- */

static void test_silence(void **state)
{
	struct obj_req *req = make(OBJ_GET);

	(void)state;
	script(HOLD);
	script(ANSWER("200 OK", "Content-Length: 2\r\nETag: \"e1\"\r\n", "ok"));
	run(req, OBJ_OK);
	objstore_req_free(&req);
}

static void test_cancel_on_the_wire(void **state)
{
	static const enum obj_op ops[] = { OBJ_GET, OBJ_PUT };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct obj_req *req = make(ops[i]);
		bool done;

		script(HOLD);
		submit(req, &done);
		while (asked() < i + 1) {
			turn();
		}
		atomic_store(&req->cancelled, true);
		wait_for(&done);
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
		script(ANSWER("200 OK", "Content-Length: 0\r\nETag: \"e\"\r\n", ""));
	}
	for (int i = 0; i < 4; i++) {
		char key[2] = { (char)('a' + i), '\0' };

		req[i] = objstore_req_new(OBJ_HEAD, key);
		req[i]->prio = i == 3 ? OBJ_PRIO_READER : OBJ_PRIO_HOUSE;
		submit(req[i], &done[i]);
	}
	for (int i = 0; i < 4; i++) {
		wait_for(&done[i]);
		objstore_req_free(&req[i]);
	}
	/* "a" may have left already when the reader came */
	assert_true(sent(0, "HEAD /bucket/d ") || sent(1, "HEAD /bucket/d "));
}

static void test_store_closed_under_requests(void **state)
{
	struct obj_req *req[2] = { make(OBJ_GET), make_if(OBJ_PUT) };
	bool done[2];

	(void)state;
	script(HOLD);
	script(HOLD);
	for (int i = 0; i < 2; i++) {
		submit(req[i], &done[i]);
	}
	while (asked() < 2) {
		turn();
	}
	TALLOC_FREE(store);
	for (int i = 0; i < 2; i++) {
		wait_for(&done[i]);
		assert_int_equal(req[i]->result.status, i == 0 ? OBJ_CANCELLED : OBJ_UNKNOWN);
		objstore_req_free(&req[i]);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
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
		T(test_get_changed_meanwhile),
		T(test_get_short_range),
		T(test_range_ignored),
		T(test_head_404_is_confirmed),
		T(test_a_proxys_404_is_no_absence),
		T(test_half_a_listing),
		T(test_probe_without_list_right),
		T(test_probe_store_goes_away),
		T(test_probe_store_is_closed),
		T(test_clock_is_corrected),
		T(test_region_is_corrected),
		T(test_silence),
		T(test_cancel_on_the_wire),
		cmocka_unit_test_setup_teardown(test_readers_go_first, setup_single, teardown),
		T(test_store_closed_under_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
