/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A volume for tests of what speaks with the store: real loop, disk jobs, index and directory
 * store in a scratch directory; a clock whose time the test moves; a store in between that fails on
 * demand.
 */
#ifndef OFS_TESTS_VOLUME_FIXTURE_H
#define OFS_TESTS_VOLUME_FIXTURE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tevent.h>
#include <unistd.h>
#include "cached/core/volume.h"
#include "cached/reconcile/index.h"
#include "tests/lib/scratch.h"

struct test_timer {
	struct test_timer *next, **prev;
	int64_t at_ns;
	void (*fn)(void *arg);
	void *arg;
};

struct test_clock {
	struct clock c;
	int64_t now_ns;
	struct test_timer *timers;
};

struct test_store {
	struct objstore s;
	struct objstore *real;
	struct tevent_context *ev;
	enum obj_op fail_op;
	unsigned fail_count;       /* so many requests of fail_op fail */
	enum obj_status fail_with; /* UNKNOWN: it is done, but the answer is lost */
	unsigned served;           /* requests */
	unsigned cut_at;           /* of this one the answer is lost, those after it fail; 0: never */
	int hold;                  /* the next request of this kind waits; -1: none */
	struct obj_req *held;
	unsigned seen[OBJ_OP_MAX];
	unsigned in_flight;
};

struct fixture {
	char dir[64];
	struct tevent_context *ev;
	struct mailbox *mb;
	struct test_clock clock;
	struct test_store *store;
	struct conf_volume conf;
	struct volume *v;
	/* what the last answer said */
	int answers, status;
	char message[1024];
};

static int64_t test_now(struct clock *c)
{
	return ((struct test_clock *)c)->now_ns;
}

static int test_timer_gone(struct test_timer *t)
{
	*t->prev = t->next;
	if (t->next != NULL) {
		t->next->prev = t->prev;
	}
	return 0;
}

static struct clock_timer *test_timer_add(
		struct clock *c, TALLOC_CTX *ctx, int64_t at_ns, void (*fn)(void *), void *arg)
{
	struct test_clock *tc = (struct test_clock *)c;
	struct test_timer *t = talloc_zero(ctx, struct test_timer);

	t->at_ns = at_ns;
	t->fn = fn;
	t->arg = arg;
	t->next = tc->timers;
	t->prev = &tc->timers;
	if (t->next != NULL) {
		t->next->prev = &t->next;
	}
	tc->timers = t;
	talloc_set_destructor(t, test_timer_gone);
	return (struct clock_timer *)t;
}

static void test_random_bytes(struct clock *c, void *buf, size_t len)
{
	(void)c;
	for (size_t i = 0; i < len; i++) {
		((uint8_t *)buf)[i] = (uint8_t)random();
	}
}

static const struct clock_ops test_clock_ops = {
	.now_ns = test_now,
	.wall_ns = test_now,
	.timer_add = test_timer_add,
	.random = test_random_bytes,
};

/* Time passes; timers that are due run in the order of their time. */
static inline void fixture_advance(struct fixture *f, int64_t ns)
{
	int64_t until = f->clock.now_ns + ns;

	for (;;) {
		struct test_timer *first = NULL;
		void (*fn)(void *);
		void *arg;

		for (struct test_timer *t = f->clock.timers; t != NULL; t = t->next) {
			if (t->at_ns <= until && (first == NULL || t->at_ns < first->at_ns)) {
				first = t;
			}
		}
		if (first == NULL) {
			break;
		}
		if (first->at_ns > f->clock.now_ns) {
			f->clock.now_ns = first->at_ns;
		}
		fn = first->fn;
		arg = first->arg;
		talloc_free(first);
		fn(arg);
	}
	f->clock.now_ns = until;
}

struct test_way { /* a request on its way through the store in between */
	struct test_store *ts;
	void (*done)(struct obj_req *);
	void *arg;
	bool fails;
	enum obj_status status;
};

static void test_way_done(struct obj_req *req)
{
	struct test_way *w = req->arg;

	req->done = w->done;
	req->arg = w->arg;
	if (w->fails) {
		req->result.status = w->status;
	}
	w->ts->in_flight--;
	free(w);
	req->done(req);
}

static void test_fail_now(struct tevent_context *ev, struct tevent_immediate *im, void *req)
{
	(void)ev;
	talloc_free(im);
	test_way_done(req);
}

static void test_store_submit(struct objstore *s, struct obj_req *req)
{
	struct test_store *ts = (struct test_store *)s;
	struct test_way *w;

	if (ts->hold == (int)req->op) {
		ts->hold = -1;
		ts->held = req;
		return;
	}
	w = calloc(1, sizeof(*w));
	ts->seen[req->op]++;
	ts->in_flight++;
	w->ts = ts;
	w->done = req->done;
	w->arg = req->arg;
	req->done = test_way_done;
	req->arg = w;
	if (ts->fail_count > 0 && req->op == ts->fail_op) {
		ts->fail_count--;
		w->fails = true;
		w->status = ts->fail_with;
	}
	ts->served++;
	if (ts->cut_at != 0 && ts->served >= ts->cut_at) {
		w->fails = true;
		w->status = ts->served == ts->cut_at ? OBJ_UNKNOWN : OBJ_AWAY;
	}
	if (!w->fails || w->status == OBJ_UNKNOWN) {
		ts->real->ops->submit(ts->real, req);
	} else {
		tevent_schedule_immediate(
				tevent_create_immediate(ts->ev), ts->ev, test_fail_now, req);
	}
}

static const struct objstore_ops test_store_ops = {
	.name = "test",
	.submit = test_store_submit,
};

/* What was held goes on. */
static inline void test_store_release(struct test_store *ts)
{
	struct obj_req *req = ts->held;

	ts->held = NULL;
	test_store_submit(&ts->s, req);
}

/* A new, empty index, as after the loss of the disk. */
static inline void fixture_index_new(struct fixture *f)
{
	char path[96], *error = NULL;
	bool fresh;

	if (f->v->index != NULL) {
		index_close(&f->v->index);
	}
	snprintf(path, sizeof(path), "%s/index.db", f->dir);
	unlink(path);
	f->v->index = index_open(f->ev, f->v->disk, f->v->clock, path, &fresh, &error);
	if (f->v->index == NULL) {
		fail_msg("%s", error);
	}
}

static inline struct fixture *fixture_new(void)
{
	struct fixture *f = talloc_zero(NULL, struct fixture);
	char path[96], *error = NULL;

	scratch_make(f->dir, sizeof(f->dir), "volume");
	f->ev = tevent_context_init(f);
	f->mb = mailbox_new(f->ev, f->ev);
	f->clock.c.ops = &test_clock_ops;
	f->clock.now_ns = 1000 * NS_PER_S;
	f->store = talloc_zero(f->ev, struct test_store);
	f->store->s.ops = &test_store_ops;
	f->store->ev = f->ev;
	f->store->hold = -1;
	snprintf(path, sizeof(path), "%s/store", f->dir);
	f->store->real = objstore_dir_new(f->ev, f->mb, path, 4, &error);
	if (f->store->real == NULL) {
		fail_msg("%s", error);
	}
	f->store->s.where = f->store->real->where;
	f->conf.log_flush_ns = 60 * NS_PER_S;
	f->conf.log_fold = 100000;
	f->v = talloc_zero(f, struct volume);
	f->v->name = "test";
	f->v->conf = &f->conf;
	f->v->clock = &f->clock.c;
	f->v->disk = disk_real_new(f->ev, f->mb, 2);
	f->v->store = &f->store->s;
	f->v->prefix = "p/";
	snprintf(f->v->node_id, sizeof(f->v->node_id), "%s", "00112233445566778899aabbccddeeff");
	f->v->state = VOLUME_READY;
	f->v->uuid.bytes[0] = 1;
	fixture_index_new(f);
	return f;
}

static inline void fixture_free(struct fixture **pf)
{
	struct fixture *f = *pf;

	*pf = NULL;
	while (f->store->in_flight > 0) { /* requests whose asker is gone */
		tevent_loop_once(f->ev);
	}
	index_close(&f->v->index);
	talloc_free(f->v->disk);
	talloc_free(f->store->real);
	scratch_remove(f->dir);
	talloc_free(f);
}

/* for requests' done(status, message, arg) */
static inline void fixture_answer(int status, const char *message, void *arg)
{
	struct fixture *f = arg;

	f->answers++;
	f->status = status;
	snprintf(f->message, sizeof(f->message), "%s", message != NULL ? message : "");
}

static inline void fixture_committed(int status, void *arg)
{
	fixture_answer(status, NULL, arg);
}

/* Until `answers` have come in all. */
static inline void fixture_wait(struct fixture *f, int answers)
{
	while (f->answers < answers) {
		tevent_loop_once(f->ev);
	}
}

struct test_direct { /* a request of the test's own, past the failures */
	struct obj_req *req;
	bool done;
};

static void test_direct_done(struct obj_req *req)
{
	((struct test_direct *)req->arg)->done = true;
}

static inline enum obj_status fixture_run(struct fixture *f, struct obj_req *req)
{
	struct test_direct d = { .req = req };

	req->done = test_direct_done;
	req->arg = &d;
	objstore_submit(f->store->real, req);
	while (!d.done) {
		tevent_loop_once(f->ev);
	}
	return req->result.status;
}

static inline enum obj_status fixture_put(struct fixture *f, const char *key, const char *text)
{
	struct obj_req *req = objstore_req_new(OBJ_PUT, key);
	enum obj_status status;

	req->body = (uint8_t *)strdup(text);
	req->length = (int64_t)strlen(text);
	status = fixture_run(f, req);
	objstore_req_free(&req);
	return status;
}

/* malloc; NULL: absent */
static inline char *fixture_get(struct fixture *f, const char *key)
{
	struct obj_req *req = objstore_req_new(OBJ_GET, key);
	char *text = NULL;

	req->length = -1;
	if (fixture_run(f, req) == OBJ_OK) {
		text = strndup((const char *)req->result.body, req->result.body_len);
	}
	objstore_req_free(&req);
	return text;
}

static inline enum obj_status fixture_delete(struct fixture *f, const char *key)
{
	struct obj_req *req = objstore_req_new(OBJ_DELETE, key);
	enum obj_status status = fixture_run(f, req);

	objstore_req_free(&req);
	return status;
}

#endif
