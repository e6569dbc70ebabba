/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: requests over HTTP: in, to their operation, out again; never waiting for one of them.
 *
 *   NEW -[begin]-> BODY -[take]*-> BODY -[run]-> ANSWER -[send_answer]-> SENT -> [on_done]
 *
 * Faults (fault.c) are met at the arrows: before, in mid-body, after the operation, and in the answer's bytes.
 *
 * Way:    libmicrohttpd calls; main.c turns the loop.
 * Thread: one, main's. Who has to wait is suspended, and resumed by server_run.
 * Owns:   requests, from their first line to their end, all in the server's list.
 * Holds:  1. An operation runs once, at one moment, when all that was sent is there.
 *         2. A refused request's body is read all the same, unless the client waits to be asked for it: so connections
 *            are kept.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "req.h"
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "fault.h"

#define MEMORY_BYTES ((size_t)64 << 10) /* of a connection; libmicrohttpd clears all of it for each request */
#define BLOCK_BYTES ((size_t)256 << 10)
#define IDLE_S 120u
#define PACE_NS 20000000 /* bytes of so long at a time, where there is a limit */

enum stage { NEW, BODY, ANSWER, SENT };

int64_t mono_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t now_ns(const struct sim *s)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return ((int64_t)t.tv_sec + s->set.clock_s) * 1000000000 + t.tv_nsec;
}

/* --- waiting --- */

static void suspend(struct req *r, int64_t until_ns)
{
	r->due_ns = until_ns;
	r->suspended = true;
	MHD_suspend_connection(r->conn);
}

/* How many of len bytes may pass now; 0: none before *until. */
static size_t pace_one(int64_t *next_ns, int64_t bytes_s, size_t len, int64_t now, int64_t *until)
{
	size_t most = bytes_s * PACE_NS / 1000000000 > 0 ? (size_t)(bytes_s * PACE_NS / 1000000000) : 1;

	if (bytes_s <= 0) {
		return len;
	}
	if (*next_ns > now) {
		*until = *next_ns > *until ? *next_ns : *until;
		return 0;
	}
	return len < most ? len : most;
}

static void pace_used(int64_t *next_ns, int64_t bytes_s, size_t len, int64_t now)
{
	if (bytes_s > 0) {
		*next_ns = (*next_ns > now - PACE_NS ? *next_ns : now) + (int64_t)len * 1000000000 / bytes_s;
	}
}

static size_t pace(struct req *r, size_t len, int64_t *until)
{
	struct sim *s = r->sim;
	int64_t now = mono_ns(), bytes_s = s->set.bytes_s;
	size_t n;

	if (r->fault != NULL && r->fault->what == FAULT_TRICKLE) {
		bytes_s = r->fault->bytes;
	}

	if (bytes_s <= 0 && s->set.all_bytes_s <= 0) {
		return len;
	}
	n = pace_one(&r->next_ns, bytes_s, len, now, until);
	n = n == 0 ? 0 : pace_one(&s->all_next_ns, s->set.all_bytes_s, n, now, until);
	if (n > 0) {
		pace_used(&r->next_ns, bytes_s, n, now);
		pace_used(&s->all_next_ns, s->set.all_bytes_s, n, now);
	}
	return n;
}

/* Too many within this second? */
static bool too_fast(struct sim *s)
{
	int64_t second = mono_ns() / 1000000000;

	if (s->set.requests_s <= 0) {
		return false;
	}
	if (second != s->slot_s) {
		s->slot_s = second;
		s->slot_requests = 0;
	}
	return ++s->slot_requests > s->set.requests_s;
}

/* --- the end of it --- */

static void count(struct sim *s, const char *name, unsigned status)
{
	struct count *c = s->counts;

	while (c != NULL && (c->name != name || c->status != status)) {
		c = c->next;
	}
	if (c == NULL) {
		c = talloc_zero(s, struct count);
		if (c == NULL) {
			return;
		}
		c->name = name;
		c->status = status;
		c->next = s->counts;
		s->counts = c;
	}
	c->requests++;
}

static void log_request(struct req *r, bool whole)
{
	struct sim *s = r->sim;
	const char *name = r->op == NULL ? "-" : r->op->name;
	int64_t now = now_ns(s);
	char when[40];

	count(s, name, r->status);
	if (s->log == NULL) {
		return;
	}
	time_iso(now, when); /* it has no parts of a second: they go in their place */
	fprintf(s->log, "%.19s.%06dZ %s %s %u %s in=%" PRId64 " out=%" PRId64 " us=%" PRId64 "%s %s\n", when,
			(int)(now % 1000000000 / 1000), r->id, name, r->status,
			r->code == NULL ? "-" : r->code, r->in.wire_bytes, r->told_bytes,
			(mono_ns() - r->begun_ns) / 1000, whole ? "" : " broken-off", r->raw);
}

static void on_done(void *arg, struct MHD_Connection *conn, void **context, enum MHD_RequestTerminationCode code)
{
	struct req *r = *context;

	(void)arg;
	(void)conn;
	if (r == NULL) {
		return;
	}
	*context = NULL;
	log_request(r, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
	if (r->before != NULL) {
		r->before->next = r->next;
	} else {
		r->sim->live = r->next;
	}
	if (r->next != NULL) {
		r->next->before = r->before;
	}
	intake_fini(&r->in);
	free(r->text);
	talloc_free(r);
}

static void *on_line(void *arg, const char *line, struct MHD_Connection *conn)
{
	struct sim *s = arg;
	struct req *r = talloc_zero(s, struct req);

	if (r == NULL) {
		return NULL;
	}
	r->sim = s;
	r->conn = conn;
	r->begun_ns = mono_ns();
	r->raw = talloc_strdup(r, line);
	store_id(s->store, r->id, sizeof(r->id));
	r->next = s->live;
	if (r->next != NULL) {
		r->next->before = r;
	}
	s->live = r;
	return r;
}

/* --- sending --- */

static ssize_t on_bytes(void *arg, uint64_t at, char *to, size_t max)
{
	struct req *r = arg;
	int64_t until = 0, left = r->length - (int64_t)at;
	size_t len = left < (int64_t)max ? (size_t)left : max;

	len = pace(r, len, &until);
	if (len == 0) {
		suspend(r, until);
		return 0;
	}
	len = fault_bytes(r, (int64_t)at, (uint8_t *)to, body_read(r->body, r->from + (int64_t)at, to, len));
	if (len == 0) {
		return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	r->told_bytes += (int64_t)len;
	return (ssize_t)len;
}

static struct MHD_Response *small_body(struct req *r)
{
	void *bytes = malloc((size_t)r->length + 1);

	if (bytes == NULL || body_read(r->body, r->from, bytes, (size_t)r->length) != (size_t)r->length) {
		free(bytes);
		return NULL;
	}
	r->told_bytes = r->length;
	return MHD_create_response_from_buffer((size_t)r->length, bytes, MHD_RESPMEM_MUST_FREE);
}

static struct MHD_Response *response_of(struct req *r)
{
	bool head = r->method != NULL && strcmp(r->method, "HEAD") == 0;
	bool slow = r->sim->set.bytes_s > 0 || r->sim->set.all_bytes_s > 0 || fault_changes_answer(r);
	struct MHD_Response *response;

	if (r->text != NULL && r->body == NULL && !head && fault_changes_answer(r)) { /* told as an object's bytes are */
		r->body = body_new(r);
		r->length = (int64_t)r->text_len;
		if (r->body == NULL || body_append(r->body, r->text, r->text_len) != 0) {
			return NULL;
		}
	}

	if (r->body != NULL && !head && !slow && r->length <= (int64_t)BLOCK_BYTES) {
		return small_body(r);
	}
	if (r->body != NULL) {
		return MHD_create_response_from_callback((uint64_t)r->length, BLOCK_BYTES, on_bytes, r, NULL);
	}
	if (r->text == NULL || head || r->status == 204 || r->status == 304) {
		return MHD_create_response_from_buffer(0, "", MHD_RESPMEM_PERSISTENT);
	}
	r->told_bytes = (int64_t)r->text_len;
	response = MHD_create_response_from_buffer(r->text_len, r->text, MHD_RESPMEM_MUST_FREE);
	r->text = response == NULL ? r->text : NULL;
	return response;
}

static enum MHD_Result send_answer(struct req *r)
{
	struct MHD_Response *response = response_of(r);
	enum MHD_Result result;
	char when[40];

	if (response == NULL) {
		return MHD_NO;
	}
	r->stage = SENT;
	time_http(now_ns(r->sim), when);
	MHD_add_response_header(response, "Date", when);
	MHD_add_response_header(response, "Server", "s3sim");
	MHD_add_response_header(response, "x-amz-request-id", r->id);
	for (unsigned i = 0; i < r->headers.count; i++) {
		MHD_add_response_header(response, r->headers.list[i].name, r->headers.list[i].value);
	}
	result = MHD_queue_response(r->conn, r->status, response);
	MHD_destroy_response(response);
	return result;
}

/* --- the way in --- */

static bool has_bucket(struct req *r)
{
	return r->bucket != NULL || r->op->run == op_bucket_create || r->op->run == op_list_buckets ||
	       answer_error(r, "NoSuchBucket", NULL);
}

static enum MHD_Result begin(struct req *r, struct MHD_Connection *conn, const char *method)
{
	struct upload *u = NULL;

	r->conn = conn;
	r->stage = BODY;
	r->method = talloc_strdup(r, method);
	if (r->raw == NULL || r->method == NULL) {
		return MHD_NO;
	}
	if (too_fast(r->sim)) {
		answer_error(r, "SlowDown", NULL);
	}
	if (req_parse(r) && req_route(r) && auth_check(r) && has_bucket(r)) {
		u = r->op->run == op_upload_part ? upload_find(r) : NULL;
		if (r->status == 0) {
			intake_begin(r, u == NULL ? DIGEST_NONE : u->about.sum_kind);
		}
	}
	if (r->status == 0) {
		r->fault = fault_find(r);
	}
	if (fault_is(r, FAULT_RESET, FAULT_BEFORE)) {
		fault_reset(r);
		return MHD_NO;
	}
	if (r->status != 0 && req_header(r, "Expect") != NULL) {
		return send_answer(r);
	}
	return MHD_YES;
}

static enum MHD_Result take(struct req *r, const char *data, size_t *len)
{
	int64_t until = 0;
	size_t n = pace(r, *len, &until);

	if (n == 0) {
		suspend(r, until);
		return MHD_YES;
	}
	if (fault_is(r, FAULT_RESET, FAULT_MID) && r->in.wire_bytes + (int64_t)n > r->fault->bytes) {
		fault_reset(r);
		return MHD_NO;
	}
	if (fault_is(r, FAULT_CORRUPT, FAULT_MID)) { /* on its way to the store */
		intake_changed(r, data, n);
	} else {
		intake_add(r, data, n);
	}
	*len -= n;
	return MHD_YES;
}

/* The operation has been done, and its answer is another. */
static void answer_instead(struct req *r)
{
	const char *etag = pairs_get(&r->headers, "ETag");

	if (fault_is(r, FAULT_ERROR, FAULT_AFTER) || r->fault->what == FAULT_INSIDE) {
		r->status = 0;
		r->headers = (struct pairs){ 0 };
		r->body = NULL;
		answer_error(r, r->fault->code, NULL);
		r->status = r->fault->what == FAULT_INSIDE ? 200 : r->status;
	} else if (r->fault->what == FAULT_ETAG && etag != NULL) {
		for (unsigned i = 0; i < r->headers.count; i++) {
			if (r->headers.list[i].value == etag) {
				r->headers.list[i].value = "\"0123456789abcdef0123456789abcdef\"";
			}
		}
	} else if (fault_is(r, FAULT_STALL, FAULT_AFTER)) {
		r->due_ns = r->fault->ms < 0 ? FAULT_HELD : r->due_ns + r->fault->ms * 1000000;
	}
}

static void run(struct req *r)
{
	r->stage = ANSWER;
	r->due_ns = r->begun_ns + r->sim->set.rtt_us * 1000;
	if (r->status != 0) {
		return;
	}
	r->bucket = store_bucket(r->sim->store, r->bucket_name); /* it may have gone meanwhile */
	if (r->fault != NULL && r->fault->when == FAULT_BEFORE &&
			(r->fault->what == FAULT_ERROR || r->fault->what == FAULT_INSIDE)) {
		answer_error(r, r->fault->code, NULL);
		r->status = r->fault->what == FAULT_INSIDE ? 200 : r->status;
		return;
	}
	if (has_bucket(r) && intake_end(r)) {
		r->op->run(r);
	}
	if (r->status == 0) {
		answer_error(r, "InternalError", NULL);
	}
	if (r->fault != NULL) {
		answer_instead(r);
	}
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *conn, const char *url, const char *method,
		const char *version, const char *data, size_t *len, void **context)
{
	struct req *r = *context;

	(void)arg;
	(void)url;
	(void)version;
	if (r == NULL) {
		return MHD_NO;
	}
	if (r->stage == NEW) {
		return begin(r, conn, method);
	}
	if (*len > 0) {
		return take(r, data, len);
	}
	if (r->stage == BODY && fault_is(r, FAULT_STALL, FAULT_BEFORE) && r->fault->ms != 0) {
		suspend(r, r->fault->ms < 0 ? FAULT_HELD : mono_ns() + r->fault->ms * 1000000);
		r->fault->ms = 0;
		return MHD_YES;
	}
	if (r->stage == BODY) {
		run(r);
	}
	if (fault_is(r, FAULT_RESET, FAULT_AFTER)) {
		fault_reset(r);
		return MHD_NO;
	}
	if (r->stage == ANSWER && mono_ns() < r->due_ns) {
		suspend(r, r->due_ns);
		return MHD_YES;
	}
	return send_answer(r);
}

/* --- the loop's part --- */

int server_start(struct sim *s, const char *host, unsigned port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
		return -EINVAL;
	}
	s->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_SUPPRESS_DATE_NO_CLOCK, 0, NULL, NULL,
			on_request, s, MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_URI_LOG_CALLBACK, on_line, s,
			MHD_OPTION_NOTIFY_COMPLETED, on_done, s, MHD_OPTION_CONNECTION_MEMORY_LIMIT, MEMORY_BYTES,
			MHD_OPTION_CONNECTION_LIMIT, 4096u, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S,
			MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
	return s->daemon == NULL ? -EADDRINUSE : 0;
}

int server_fd(const struct sim *s)
{
	return s->daemon == NULL ? -1 : MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

static void resume_due(struct sim *s, bool all)
{
	int64_t now = mono_ns();

	for (struct req *r = s->live; r != NULL; r = r->next) {
		if (r->suspended && (all || r->due_ns <= now)) {
			r->suspended = false;
			MHD_resume_connection(r->conn);
		}
	}
}

int64_t server_patience(struct sim *s)
{
	int64_t least = INT64_MAX, now = mono_ns();
	MHD_UNSIGNED_LONG_LONG ms;

	if (s->daemon != NULL && MHD_get_timeout(s->daemon, &ms) == MHD_YES) {
		least = ms > 60000 ? 60000000000 : (int64_t)ms * 1000000;
	}
	for (struct req *r = s->live; r != NULL; r = r->next) {
		if (r->suspended && r->due_ns - now < least) {
			least = r->due_ns > now ? r->due_ns - now : 0;
		}
	}
	return least == INT64_MAX ? -1 : least;
}

void server_run(struct sim *s)
{
	if (s->daemon != NULL) {
		resume_due(s, false);
		MHD_run(s->daemon);
	}
}

void server_stop(struct sim *s)
{
	if (s->daemon != NULL) {
		resume_due(s, true);
		MHD_stop_daemon(s->daemon);
		s->daemon = NULL;
	}
}
