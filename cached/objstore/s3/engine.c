/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The S3 store's one thread: queue by priority, attempts on libcurl's multi handle, retries.
 *
 *   inbox -> [take_inbox] queue -> [start] running -> [ended] done -> [deliver]
 *                           ^                              |
 *                           +---- [due] waiting <- [retry] +
 *
 * Way:    s3.c puts requests into the inbox and wakes; results leave by obj_deliver.
 * Thread: this one. It waits in curl_multi_poll only, and for disks in the body callbacks.
 * Owns:   every struct s3_xfer, the easy handles, the multi handle until the thread ends.
 * Holds:  1. Never more easy handles than max_connections: libcurl has no queue of its own here.
 *         2. A part of the connections is kept free for readers that wait: uploads take three
 *            quarters at most, housekeeping half.
 *         3. Nothing goes out while credentials are being looked for that the store would take.
 *         4. An outage no longer than the store's patience is not seen by who reads or lists.
 *         5. Delays between attempts have full jitter, so that many daemons do not beat in time.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "s3.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"

#define ROOM "s3"
#define BACKOFF_FIRST_NS 200000000LL
#define BACKOFF_MAX_NS 10000000000LL
#define BACKOFF_WAITED_NS 1000000000LL
#define LOOK_MS 250 /* how often `cancelled` is looked at */
#define IDLE_MS 60000
#define PROGRESS_BYTES (1 << 20)

static unsigned prio_of(const struct s3_xfer *x)
{
	return (unsigned)x->req->prio < S3_PRIOS ? x->req->prio : OBJ_PRIO_HOUSE;
}

static void enqueue(struct s3_store *s, struct s3_xfer *x, bool first)
{
	unsigned p = prio_of(x);

	if (first) {
		x->next = s->queue[p];
		s->queue[p] = x;
		if (x->next == NULL) {
			s->queue_last[p] = &x->next;
		}
		return;
	}
	x->next = NULL;
	*s->queue_last[p] = x;
	s->queue_last[p] = &x->next;
}

static void deliver(struct s3_store *s, struct s3_xfer *x)
{
	struct obj_req *req = x->req;
	enum obj_status status = req->result.status;

	if (x->maybe_done && (status == OBJ_AWAY || status == OBJ_CANCELLED || status == OBJ_LOCAL)) {
		char *why = req->result.message;

		req->result.message = NULL;
		obj_fail(req, OBJ_UNKNOWN, "it may or may not have happened: %s",
				why == NULL ? "" : why);
		free(why);
	}
	req->result.more_begun = req->op == OBJ_MPU_CREATE && x->maybe_done;
	EVP_MD_CTX_free(x->md5);
	EVP_MD_CTX_free(x->sha256);
	sum_fini(&x->sum);
	free(x->in);
	free(x->document);
	free(x->pinned);
	free(x);
	req->impl = NULL;
	obj_deliver(s->mb, req);
}

/* --- starting --- */

static bool gave_up(struct s3_xfer *x)
{
	struct obj_req *req = x->req;

	if (atomic_load(&req->cancelled) ||
			(req->still_valid != NULL && !req->still_valid(req->still_valid_arg))) {
		obj_result_clear(&req->result);
		obj_fail(req, OBJ_CANCELLED, "given up before the end");
		return true;
	}
	return false;
}

static CURL *handle_get(struct s3_store *s)
{
	return s->idle_count > 0 ? s->idle[--s->idle_count] : curl_easy_init();
}

static void attempt_end(struct s3_store *s, struct s3_xfer *x)
{
	if (x->easy != NULL) {
		curl_easy_reset(x->easy);
		s->idle[s->idle_count++] = x->easy;
		x->easy = NULL;
	}
	curl_slist_free_all(x->headers);
	x->headers = NULL;
}

/* On the wire, or delivered. */
static void start(struct s3_store *s, struct s3_xfer *x)
{
	struct obj_req *req = x->req;
	int ret;

	if (gave_up(x)) {
		deliver(s, x);
		return;
	}
	if (s->login.state == S3_LOGIN_NONE) {
		obj_result_clear(&req->result);
		obj_fail(req, s->login.transient ? OBJ_AWAY : OBJ_DENIED, "%s", s->login.error);
		deliver(s, x);
		return;
	}
	x->easy = handle_get(s);
	s3_response_reset(x);
	ret = x->easy == NULL ? -ENOMEM : s3_request_build(x);
	x->started_ns = s3_now_ns();
	if (ret == 0 && curl_multi_add_handle(s->multi, x->easy) != CURLM_OK) {
		ret = -ENOMEM;
	}
	if (ret != 0) {
		attempt_end(s, x);
		obj_fail(req, OBJ_AWAY, "the request could not be made: %s", strerror(-ret));
		deliver(s, x);
		return;
	}
	obj_count(x->confirm ? OBJ_GET : req->op);
	x->next = s->running;
	s->running = x;
	s->running_count++;
	s->running_by[prio_of(x)]++;
}

/* May another request of this priority go on the wire now? */
static bool room_for(const struct s3_store *s, unsigned prio)
{
	unsigned max = s->max_connections;
	unsigned late = s->running_by[OBJ_PRIO_UPLOAD] + s->running_by[OBJ_PRIO_HOUSE];

	if (s->running_count >= max) {
		return false;
	}
	switch (prio) {
	case OBJ_PRIO_READER:
		return true;
	case OBJ_PRIO_AHEAD:
		return s->running_count < max - max / 8;
	case OBJ_PRIO_UPLOAD:
		return late < max - max / 4;
	default:
		return late < max - max / 4 && s->running_by[prio] < (max + 1) / 2;
	}
}

static bool start_all(struct s3_store *s)
{
	bool any = false;

	s3_keeper_look(s->keeper, &s->login);
	if (s->login.state == S3_LOGIN_ASKING) {
		return false; /* the keeper wakes us, in a bounded time */
	}
	for (unsigned p = 0; p < S3_PRIOS; p++) {
		while (s->queue[p] != NULL && room_for(s, p)) {
			struct s3_xfer *x = s->queue[p];

			s->queue[p] = x->next;
			if (x->next == NULL) {
				s->queue_last[p] = &s->queue[p];
			}
			start(s, x);
			any = true;
		}
	}
	return any;
}

/* --- ending --- */

/* Somebody waits, and asking again changes nothing. */
static bool is_waited_for(const struct obj_req *req)
{
	return req->prio == OBJ_PRIO_READER && (req->op == OBJ_HEAD || req->op == OBJ_GET || req->op == OBJ_LIST);
}

static int64_t backoff_ns(const struct s3_xfer *x)
{
	int64_t top = BACKOFF_FIRST_NS, most = is_waited_for(x->req) ? BACKOFF_WAITED_NS : BACKOFF_MAX_NS;
	uint64_t random = 0;
	int64_t ns;

	for (unsigned i = 1; i < x->attempt && top < most; i++) {
		top *= 2;
	}
	top = top > most ? most : top;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
		random = (uint64_t)top;
	}
	ns = (int64_t)(random % (uint64_t)top);
	return ns + (int64_t)x->retry_after_s * 1000000000;
}

static void away_note(struct s3_store *s, struct s3_xfer *x, enum s3_verdict verdict)
{
	if (verdict == S3_RETRY && x->req->result.status == OBJ_AWAY) {
		x->away_since_ns = x->away_since_ns == 0 ? x->started_ns : x->away_since_ns;
		s->away_since_ns = s->away_since_ns == 0 ? x->started_ns : s->away_since_ns;
	} else if (x->http != 0 && x->http < 500) {
		s->away_since_ns = 0;
	}
}

/* Neither the store as a whole nor this request has been without an answer for long: one that others get must not
 * keep one waiting that fails each time, nor one that is new, when the store has long been away. */
static bool rides_out(const struct s3_store *s, const struct s3_xfer *x)
{
	int64_t now = s3_now_ns();

	return x->req->result.status == OBJ_AWAY && is_waited_for(x->req) && now - x->away_since_ns < s->patience_ns &&
			(s->away_since_ns == 0 || now - s->away_since_ns < s->patience_ns);
}

static void running_remove(struct s3_store *s, struct s3_xfer *x)
{
	struct s3_xfer **p = &s->running;

	while (*p != x) {
		p = &(*p)->next;
	}
	*p = x->next;
	s->running_count--;
	s->running_by[prio_of(x)]--;
}

static void ended(struct s3_store *s, struct s3_xfer *x, CURLcode code)
{
	struct obj_req *req = x->req;
	enum s3_verdict verdict = s3_judge(x, code);

	curl_multi_remove_handle(s->multi, x->easy);
	running_remove(s, x);
	if (verdict == S3_RETRY && req->op == OBJ_GET && x->sent >= PROGRESS_BYTES) {
		x->attempt = 0; /* it gets on: not the same failure again and again */
	}
	attempt_end(s, x);
	away_note(s, x, verdict);
	if (verdict == S3_RETRY && (x->attempt < s->retries || rides_out(s, x))) {
		const struct log_volume *before = log_enter(req->log);

		x->attempt++;
		stats_add(s3_retries, 1);
		x->due_ns = s3_now_ns() + backoff_ns(x);
		log_line(LOG_LVL_INFO, ROOM, req->request_id, "%s %s: attempt %u failed: %s",
				objstore_op_name(req->op), req->key, x->attempt,
				req->result.message == NULL ? "-" : req->result.message);
		(void)log_enter(before);
		x->next = s->waiting;
		s->waiting = x;
		return;
	}
	if (verdict == S3_AGAIN) {
		enqueue(s, x, true);
		return;
	}
	deliver(s, x);
}

static void collect(struct s3_store *s)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(s->multi, &left)) != NULL) {
		struct s3_xfer *x = NULL;
		CURLcode code = msg->data.result;

		if (msg->msg != CURLMSG_DONE) {
			continue;
		}
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&x);
		ended(s, x, code);
	}
}

/* --- the loop --- */

static void take_inbox(struct s3_store *s, bool *stop)
{
	struct obj_req *req;

	pthread_mutex_lock(&s->lock);
	req = s->inbox;
	s->inbox = NULL;
	s->inbox_last = &s->inbox;
	*stop = s->stop;
	pthread_mutex_unlock(&s->lock);
	while (req != NULL) {
		struct obj_req *next = req->next;
		struct s3_xfer *x;

		req->next = NULL;
		x = req->result.status == OBJ_OK ? calloc(1, sizeof(*x)) : NULL;
		if (x == NULL) {
			if (req->result.status == OBJ_OK) {
				obj_fail(req, OBJ_AWAY, "out of memory");
			}
			obj_deliver(s->mb, req);
		} else {
			x->s = s;
			x->req = req;
			req->impl = x;
			enqueue(s, x, false);
		}
		req = next;
	}
}

/* Those whose delay is over go to the head of their queue; ns until the next, or -1. */
static int64_t wake_due(struct s3_store *s)
{
	struct s3_xfer **p = &s->waiting;
	int64_t now = s3_now_ns();
	int64_t next = -1;

	while (*p != NULL) {
		struct s3_xfer *x = *p;

		if (x->due_ns <= now || atomic_load(&x->req->cancelled)) {
			*p = x->next;
			enqueue(s, x, true);
			continue;
		}
		if (next < 0 || x->due_ns - now < next) {
			next = x->due_ns - now;
		}
		p = &x->next;
	}
	return next;
}

static void cancel_queued(struct s3_store *s)
{
	for (unsigned q = 0; q < S3_PRIOS; q++) {
		struct s3_xfer **p = &s->queue[q];

		while (*p != NULL) {
			struct s3_xfer *x = *p;

			if (!atomic_load(&x->req->cancelled)) {
				p = &x->next;
				continue;
			}
			*p = x->next;
			obj_result_clear(&x->req->result);
			obj_fail(x->req, OBJ_CANCELLED, "cancelled");
			deliver(s, x);
		}
		s->queue_last[q] = p;
	}
}

static void cancel_running(struct s3_store *s, bool all)
{
	struct s3_xfer *x = s->running;

	while (x != NULL) {
		struct s3_xfer *next = x->next;

		if (all || atomic_load(&x->req->cancelled)) {
			x->abort = S3_ABORT_CANCEL;
			ended(s, x, CURLE_ABORTED_BY_CALLBACK);
		}
		x = next;
	}
}

/* Everything comes home. */
static void wind_up(struct s3_store *s)
{
	cancel_running(s, true);
	while (s->waiting != NULL) {
		struct s3_xfer *x = s->waiting;

		s->waiting = x->next;
		enqueue(s, x, false);
	}
	for (unsigned p = 0; p < S3_PRIOS; p++) {
		while (s->queue[p] != NULL) {
			struct s3_xfer *x = s->queue[p];

			s->queue[p] = x->next;
			obj_result_clear(&x->req->result);
			obj_fail(x->req, OBJ_CANCELLED, "the store is being closed");
			deliver(s, x);
		}
		s->queue_last[p] = &s->queue[p];
	}
	while (s->idle_count > 0) {
		curl_easy_cleanup(s->idle[--s->idle_count]);
	}
}

static int wait_ms(const struct s3_store *s, int64_t due_ns)
{
	int ms = IDLE_MS;

	for (unsigned p = 0; p < S3_PRIOS; p++) {
		if (s->queue[p] != NULL) {
			ms = LOOK_MS;
		}
	}
	if (s->running_count > 0 || s->waiting != NULL) {
		ms = LOOK_MS;
	}
	if (due_ns >= 0 && due_ns / 1000000 + 1 < ms) {
		ms = (int)(due_ns / 1000000) + 1;
	}
	return ms;
}

void *s3_engine(void *store)
{
	struct s3_store *s = store;
	int64_t looked_ns = s3_now_ns();
	bool stop = false;

	for (;;) {
		int64_t due_ns;
		int still;

		take_inbox(s, &stop);
		if (stop) {
			break;
		}
		due_ns = wake_due(s);
		if (s3_now_ns() - looked_ns > LOOK_MS * 1000000LL) {
			looked_ns = s3_now_ns();
			cancel_queued(s);
			cancel_running(s, false);
		}
		start_all(s);
		curl_multi_perform(s->multi, &still);
		collect(s);
		if (start_all(s)) { /* room was made: let it go out before sleeping */
			continue;
		}
		due_ns = wake_due(s);
		curl_multi_poll(s->multi, NULL, 0, wait_ms(s, due_ns), NULL);
	}
	wind_up(s);
	return NULL;
}
