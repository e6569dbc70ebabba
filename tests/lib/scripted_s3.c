/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An S3 server that reads its answers from a script, and an S3 store that talks to it.
 *
 * Way:    tests script answers, submit requests, and look at what was sent.
 * Thread: the test's, one accepting, one for each connection; `scripted.lock` guards script and log.
 * Owns:   the server and the store of one test.
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
#include <tevent.h>
#include <time.h>
#include <unistd.h>
#include "cached/base/mailbox.h"
#include "scripted_s3.h"

#define WAIT_S 30

struct objstore_s3_conf scripted_conf;
struct scripted scripted = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- the server --- */

/* A request's head into buf, its body away. false: the client went. */
static bool read_request(int sock, char *buf, char first[SCRIPTED_BODY_BYTES])
{
	size_t n = 0, kept;
	char *body = NULL;
	const char *length;
	long left;

	while (body == NULL) {
		ssize_t got = n + 1 < SCRIPTED_HEAD_BYTES ? read(sock, buf + n, SCRIPTED_HEAD_BYTES - 1 - n) : -1;

		if (got <= 0) {
			return false;
		}
		n += (size_t)got;
		buf[n] = '\0';
		body = strstr(buf, "\r\n\r\n");
	}
	length = strcasestr(buf, "\r\ncontent-length:");
	left = length == NULL ? 0 : atol(length + 17);
	kept = n - (size_t)(body + 4 - buf);
	left -= (long)kept;
	kept = kept < SCRIPTED_BODY_BYTES - 1 ? kept : SCRIPTED_BODY_BYTES - 1;
	memcpy(first, body + 4, kept);
	body[2] = '\0';
	while (left > 0) {
		char sink[65536];
		ssize_t got = read(sock, sink, left < (long)sizeof(sink) ? (size_t)left : sizeof(sink));

		if (got <= 0) {
			return false;
		}
		left -= got;
		for (ssize_t i = 0; i < got && kept < SCRIPTED_BODY_BYTES - 1; i++) {
			first[kept++] = sink[i];
		}
	}
	first[kept] = '\0';
	return true;
}

static void *serve(void *arg)
{
	int sock = (int)(intptr_t)arg;
	char head[SCRIPTED_HEAD_BYTES], body[SCRIPTED_BODY_BYTES];
	bool more = true;

	while (more && read_request(sock, head, body)) {
		char *answer;

		pthread_mutex_lock(&scripted.lock);
		if (scripted.asked < SCRIPTED_STEPS_MAX) {
			memcpy(scripted.heads[scripted.asked], head, sizeof(head));
			memcpy(scripted.bodies[scripted.asked], body, sizeof(body));
		}
		/* its own: the test may be elsewhere before it is written */
		answer = strdup(scripted.asked < scripted.steps ? scripted.script[scripted.asked] : HANG_UP);
		scripted.asked++;
		more = scripted.keep_alive;
		pthread_mutex_unlock(&scripted.lock);
		if (answer == NULL || strcmp(answer, HANG_UP) == 0) {
			more = false;
		} else if (strcmp(answer, HOLD) == 0) {
			more = read(sock, head, 1) > 0; /* until the client goes */
		} else if (write(sock, answer, strlen(answer)) < 0) {
			more = false;
		}
		free(answer);
	}
	close(sock);
	return NULL;
}

static void *accept_all(void *arg)
{
	(void)arg;
	for (;;) {
		int sock = accept4(scripted.listener, NULL, NULL, SOCK_CLOEXEC);
		pthread_t t;

		if (sock < 0) {
			return NULL;
		}
		if (pthread_create(&t, NULL, serve, (void *)(intptr_t)sock) == 0) {
			pthread_detach(t);
		}
	}
}

unsigned scripted_asked(void)
{
	unsigned n;

	pthread_mutex_lock(&scripted.lock);
	n = scripted.asked;
	pthread_mutex_unlock(&scripted.lock);
	return n;
}

/* --- one test's setting --- */

static int scripted_setup_with(unsigned connections)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof(a);
	char endpoint[64];
	char *error;
	struct objstore_s3_conf conf = scripted_conf;

	conf.bucket = "bucket";
	conf.endpoint = endpoint;
	conf.region = "us-east-1";
	conf.access_key = "key";
	conf.secret_key = "secret";
	conf.retries = 2;
	conf.request_timeout_s = 2;
	conf.max_connections = connections;
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	scripted.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(scripted.listener, (struct sockaddr *)&a, sizeof(a)) != 0 ||
			listen(scripted.listener, 16) != 0 ||
			getsockname(scripted.listener, (struct sockaddr *)&a, &len) != 0) {
		return -1;
	}
	scripted_forget();
	pthread_mutex_lock(&scripted.lock); /* the last test's connections may still be ending */
	scripted.keep_alive = false;
	pthread_mutex_unlock(&scripted.lock);
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d", ntohs(a.sin_port));
	if (pthread_create(&scripted.thread, NULL, accept_all, NULL) != 0) {
		return -1;
	}
	scripted.ev = tevent_context_init(NULL);
	scripted.mb = mailbox_new(scripted.ev, scripted.ev);
	scripted.store = objstore_s3_new(NULL, scripted.mb, &conf, &error);
	return scripted.store == NULL ? -1 : 0;
}

int scripted_setup(void **state)
{
	(void)state;
	return scripted_setup_with(4);
}

int scripted_setup_single(void **state)
{
	(void)state;
	return scripted_setup_with(1);
}

int scripted_teardown(void **state)
{
	(void)state;
	shutdown(scripted.listener, SHUT_RDWR);
	pthread_join(scripted.thread, NULL);
	close(scripted.listener);
	talloc_free(scripted.store);
	talloc_free(scripted.ev);
	scripted_forget();
	memset(&scripted_conf, 0, sizeof(scripted_conf));
	return 0;
}

void scripted_answer(const char *answer)
{
	pthread_mutex_lock(&scripted.lock);
	assert_true(scripted.steps < SCRIPTED_STEPS_MAX);
	scripted.script[scripted.steps] = strdup(answer);
	assert_non_null(scripted.script[scripted.steps++]);
	pthread_mutex_unlock(&scripted.lock);
}

void scripted_forget(void)
{
	pthread_mutex_lock(&scripted.lock);
	while (scripted.steps > 0) {
		free(scripted.script[--scripted.steps]);
	}
	scripted.asked = 0;
	pthread_mutex_unlock(&scripted.lock);
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

void scripted_turn(void)
{
	bool over = false;

	tevent_add_timer(scripted.ev, scripted.ev, tevent_timeval_current_ofs(0, 20000), on_tick, &over);
	while (!over) {
		tevent_loop_once(scripted.ev);
	}
}

void scripted_submit(struct obj_req *req, bool *done)
{
	*done = false;
	req->done = on_done;
	req->arg = done;
	objstore_submit(scripted.store, req);
}

void scripted_wait(const bool *done)
{
	time_t end = time(NULL) + WAIT_S;

	while (!*done) {
		assert_true(time(NULL) < end);
		scripted_turn();
	}
}

void scripted_run(struct obj_req *req, enum obj_status want)
{
	bool done;

	scripted_submit(req, &done);
	scripted_wait(&done);
	if (req->result.status != want) {
		print_error("%s: %s\n", objstore_status_name(req->result.status),
				req->result.message == NULL ? "-" : req->result.message);
	}
	assert_int_equal(req->result.status, want);
}

struct obj_req *scripted_make(enum obj_op op)
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

struct obj_req *scripted_make_if(enum obj_op op)
{
	struct obj_req *req = scripted_make(op);

	req->if_match = strdup("0123");
	return req;
}

bool scripted_sent(unsigned i, const char *text)
{
	return strcasestr(scripted.heads[i], text) != NULL;
}
