/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The probe on a store that fails at each of its requests in turn: what is no answer is never taken for one, and
 * asked again the store is found to be what it is.
 *
 * Way:    a directory store of each kind, before whose door single requests are made to fail.
 * Thread: one, with its own tevent loop as the core, and the store's.
 * Holds:  nothing here outlives the test: what the store would wait for its disk for is not waited for.
 */
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
#include <sys/stat.h>
#include <tevent.h>
#include <time.h>
#include <unistd.h>
#include "cached/base/mailbox.h"
#include "cached/core/fence.h"
#include "cached/objstore/impl.h"
#include "tests/lib/probed.h"
#include "tests/lib/scratch.h"

#define WAIT_S 60
#define OUTAGE "an outage"

enum fault {
	AWAY,       /* nothing happened */
	LOST,       /* it happened, nobody heard of it */
	FAILED,     /* it happened, and HTTP 500 came */
	DENIED,     /* a right was taken away */
	SIGNATURE,  /* the credentials were */
	FAULTS
};

static struct world {
	char root[256];
	struct tevent_context *ev;
	struct objstore *store;
	const struct objstore_ops *real;
	unsigned asked, fail_at, fail_times;
	enum fault fault;
	enum obj_op failed_op;
	bool sums; /* as a store that checks them */
	void (*done)(struct obj_req *);
	void *arg;
} w;

int fsync(int fd)
{
	(void)fd;
	return 0;
}

static void come_home(struct obj_req *req)
{
	req->arg = w.arg;
	req->done = w.done;
	free(req->result.message);
	req->result.message = strdup(OUTAGE);
	req->result.status = OBJ_UNKNOWN;
	req->result.http_status = w.fault == FAILED ? 500 : 0;
	req->done(req);
}

static void break_it(struct obj_req *req)
{
	w.failed_op = req->op;
	switch (w.fault) {
	case DENIED:
		obj_fail(req, OBJ_DENIED, OUTAGE);
		strcpy(req->result.right, OBJ_RIGHT_NOT_SAID);
		break;
	case SIGNATURE:
		obj_fail(req, OBJ_DENIED, OUTAGE);
		break;
	default:
		if (w.fault != AWAY && obj_op_mutates(req->op) && req->result.status == OBJ_OK) {
			w.done = req->done;
			w.arg = req->arg;
			req->done = come_home;
		} else {
			obj_fail(req, OBJ_AWAY, OUTAGE);
		}
		break;
	}
}

static void submit(struct objstore *s, struct obj_req *req)
{
	if (req->sum_probe == OBJ_SUM_PROBE_WRONG && w.sums) {
		obj_fail(req, OBJ_INVALID, "BadDigest");
	}
	if (w.asked >= w.fail_at && w.asked < w.fail_at + w.fail_times) {
		break_it(req);
	}
	w.asked++;
	w.real->submit(s, req);
}

static const struct objstore_ops faulty = { .name = "faulty", .submit = submit };

static void store_open(const char *rules, bool sums)
{
	struct mailbox *mb;
	char path[300], *error;
	FILE *f;

	memset(&w, 0, sizeof(w));
	if (access("/dev/shm", W_OK) == 0) {
		setenv("TMPDIR", "/dev/shm", 1);
	}
	scratch_make(w.root, sizeof(w.root), "probe");
	snprintf(path, sizeof(path), "%s/store", w.root);
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "objectfs-store 1\n%s", rules);
	assert_int_equal(fclose(f), 0);
	w.ev = tevent_context_init(NULL);
	mb = mailbox_new(w.ev, w.ev);
	w.store = objstore_dir_new(NULL, mb, w.root, 1, &error);
	assert_non_null(w.store);
	w.real = w.store->ops;
	w.store->ops = &faulty;
	w.sums = sums;
	w.store->sum_wanted = sums ? OBJ_SUM_AUTO : OBJ_SUM_NONE;
}

static void store_close(void)
{
	talloc_free(w.store);
	talloc_free(w.ev);
	scratch_remove(w.root);
}

static void on_time(struct tevent_context *ev, struct tevent_timer *t, struct timeval now, void *arg)
{
	(void)ev;
	(void)t;
	(void)now;
	*(bool *)arg = true;
}

static void wait_for(const bool *done)
{
	bool late = false;
	struct tevent_timer *t = tevent_add_timer(w.ev, w.ev, tevent_timeval_current_ofs(WAIT_S, 0), on_time, &late);

	while (!*done && !late) {
		tevent_loop_once(w.ev);
	}
	assert_true(*done);
	talloc_free(t);
}

static struct probed probe_failing(unsigned at, unsigned times, enum fault fault)
{
	struct probed p = { 0 };

	w.asked = 0;
	w.fail_at = at;
	w.fail_times = times;
	w.fault = fault;
	objstore_probe(w.store, "vol/", probed_set, &p);
	wait_for(&p.done);
	return p;
}

static struct probed probe(void)
{
	struct probed p = probe_failing(0, 0, AWAY);

	assert_int_equal(p.status, OBJ_OK);
	return p;
}

struct known {
	struct obj_caps caps;
	int sum;
	bool trailer;
	char message[512];
};

static struct known what_is_known(const struct probed *p)
{
	struct known k;

	memset(&k, 0, sizeof(k));
	memcpy(&k.caps, &w.store->caps, sizeof(k.caps));
	k.sum = atomic_load(&w.store->sum);
	k.trailer = atomic_load(&w.store->sum_trailer);
	snprintf(k.message, sizeof(k.message), "%s", p->message);
	return k;
}

static void expect_known(const struct known *k, const struct probed *p)
{
	struct known now = what_is_known(p);

	assert_string_equal(now.message, k->message);
	assert_memory_equal(&now.caps, &k->caps, sizeof(now.caps));
	assert_int_equal(now.sum, k->sum);
	assert_int_equal(now.trailer, k->trailer);
}

/* Request `at` fails, and perhaps all after it: what comes of it? */
static void outage(const struct known *good, unsigned at, unsigned times, enum fault fault)
{
	struct probed p = probe_failing(at, times, fault);

	if (p.status == OBJ_OK && fault == DENIED && w.failed_op == OBJ_VERSIONS) {
		assert_true(w.store->caps.versions_denied);
		assert_non_null(strstr(fence_refusal(w.store), "s3:ListBucketVersions is missing"));
	} else if (p.status == OBJ_OK && fault == DENIED && w.failed_op == OBJ_MPU_COPY) {
		assert_true(good->caps.part_copy_version && !w.store->caps.part_copy_version);
	} else if (p.status == OBJ_OK) { /* it was the end of an upload that had been refused */
		assert_int_equal(w.failed_op, OBJ_MPU_ABORT);
		expect_known(good, &p);
	} else if (fault == DENIED || fault == SIGNATURE) {
		assert_int_equal(p.status, OBJ_DENIED);
	} else {
		assert_true(objstore_status_transient(p.status));
	}
	if (p.status != OBJ_OK && fault != DENIED && strstr(p.message, OUTAGE) == NULL) {
		print_error("request %u, fault %d: %s\n", at, fault, p.message);
	}
	if (p.status != OBJ_OK && fault != DENIED) {
		assert_non_null(strstr(p.message, OUTAGE)); /* nothing but what happened */
	}
}

static void each_request(const char *rules, bool sums, int fence_class)
{
	struct probed p;
	struct known good;
	unsigned requests;

	store_open(rules, sums);
	p = probe();
	good = what_is_known(&p);
	requests = w.asked;
	print_message("%s: %u requests\n", p.message, requests);
	assert_int_equal(good.caps.fence_class, fence_class);
	assert_int_equal(good.sum, sums ? OBJ_SUM_CRC64NVME : OBJ_SUM_NONE);
	assert_true(good.trailer == sums);
	assert_null(fence_refusal(w.store));
	for (unsigned at = 0; at < requests; at++) {
		outage(&good, at, 1000, AWAY);
		for (enum fault fault = AWAY; fault < FAULTS; fault++) {
			if (fault == AWAY || fault >= DENIED || obj_op_mutates(w.failed_op)) {
				outage(&good, at, 1, fault);
			}
		}
		p = probe(); /* once it is back */
		expect_known(&good, &p);
	}
	store_close();
}

static void test_fenced(void **state)
{
	(void)state;
	each_request("conditions put complete copy delete\n", true, 3);
}

static void test_versions_only(void **state)
{
	(void)state;
	each_request("conditions\nversions yes\n", false, 1);
}

/* What a store always answers with an error, and nothing else, it cannot do. */
static void test_always_fails(void **state)
{
	struct probed p;
	unsigned probes = 0;

	(void)state;
	store_open("conditions put complete copy delete\n", false);
	do {
		p = probe_failing(8, 1, FAILED); /* the copy with a condition on its source */
		assert_true(++probes < 10);
		assert_int_equal(w.failed_op, OBJ_COPY);
	} while (p.status == OBJ_UNKNOWN);
	assert_int_equal(p.status, OBJ_OK);
	assert_int_equal(probes, 5);
	assert_false(w.store->caps.copy_if_match_source);
	assert_int_equal(w.store->caps.fence_class, 2);
	p = probe();
	assert_int_equal(w.store->caps.fence_class, 3);
	store_close();
}

static int64_t all_ended(void)
{
	int64_t n = 0;

	for (unsigned op = 0; op < OBJ_OP_MAX; op++) {
		for (unsigned s = 0; s < OBJ_STATUS_MAX; s++) {
			n += objstore_ended((enum obj_op)op, (enum obj_status)s);
		}
	}
	return n;
}

/* The store goes while an answer lies in the mailbox. */
static void test_store_goes(void **state)
{
	unsigned requests;

	(void)state;
	store_open("conditions put complete copy delete\n", true);
	(void)probe();
	requests = w.asked;
	store_close();
	for (unsigned at = 0; at < requests; at++) {
		time_t end = time(NULL) + WAIT_S;
		struct probed p = { 0 };
		int64_t ended;

		store_open("conditions put complete copy delete\n", true);
		ended = all_ended() + at + 1;
		objstore_probe(w.store, "vol/", probed_set, &p);
		while (w.asked < at + 1) {
			assert_int_equal(tevent_loop_once(w.ev), 0);
		}
		while (all_ended() < ended) {
			assert_true(time(NULL) < end);
			usleep(1000);
		}
		TALLOC_FREE(w.store);
		wait_for(&p.done);
		assert_true(p.status == OBJ_CANCELLED || p.status == OBJ_OK); /* OK: it was the last */
		assert_true(p.status == OBJ_CANCELLED || at + 1 == requests);
		store_close();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fenced),
		cmocka_unit_test(test_versions_only),
		cmocka_unit_test(test_always_fails),
		cmocka_unit_test(test_store_goes),
	};

	return cmocka_run_group_tests_name("probe", tests, NULL, NULL);
}
