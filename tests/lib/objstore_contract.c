/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The contract of door three, told by tests: every operation, its conditions both ways, its limits
 * and its failures, through objstore.h alone. Here: how its tests ask, and the suite.
 *
 * Way:    test_objstore_dir.c and contract_s3.c set `contract` and call contract_suite; the tests are in
 *         objstore_contract_keys.c (single objects) and objstore_contract_parts.c (the rest).
 * Thread: one, with its own tevent loop as the core.
 * Holds:  1. What a store's probe says it cannot do is skipped by name, never passed silently.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <tevent.h>
#include <unistd.h>
#include "objstore_contract.h"
#include "probed.h"

#define WAIT_S 120

/* --- plumbing --- */

void contract_on_done(struct obj_req *req)
{
	*(bool *)req->arg = true;
}

static void on_timeout(
		struct tevent_context *ev, struct tevent_timer *t, struct timeval now, void *arg)
{
	(void)ev;
	(void)t;
	(void)now;
	*(bool *)arg = true;
}

void contract_loop(const bool *flag)
{
	bool late = false;
	struct tevent_timer *t = tevent_add_timer(contract.ev, contract.ctx,
			tevent_timeval_current_ofs(WAIT_S, 0), on_timeout, &late);

	assert_non_null(t);
	while (!*flag && !late) {
		assert_int_equal(tevent_loop_once(contract.ev), 0);
	}
	assert_true(*flag);
	talloc_free(t);
}

void contract_run(struct objstore *s, struct obj_req *req)
{
	bool done = false;

	req->done = contract_on_done;
	req->arg = &done;
	objstore_submit(s, req);
	assert_false(done); /* never from inside submit */
	contract_loop(&done);
}

struct obj_req *contract_req(enum obj_op op, const char *key)
{
	char whole[4096];
	struct obj_req *req;

	snprintf(whole, sizeof(whole), "%s%s", contract.prefix, key);
	req = objstore_req_new(op, whole);
	assert_non_null(req);
	return req;
}

char *contract_dup(const char *s)
{
	char *d = strdup(s);

	assert_non_null(d);
	return d;
}

void contract_expect(struct obj_req *req, enum obj_status want)
{
	contract_run(contract.store, req);
	if (req->result.status != want) {
		print_error("%s: %s (http %d): %s\n", req->key, objstore_status_name(req->result.status),
				req->result.http_status,
				req->result.message == NULL ? "-" : req->result.message);
	}
	assert_int_equal(req->result.status, want);
}

void contract_body(struct obj_req *req, const void *data, size_t len)
{
	req->body = malloc(len + 1);
	assert_non_null(req->body);
	memcpy(req->body, data, len);
	req->length = (int64_t)len;
}

enum obj_status contract_put(const char *key, const void *data, size_t len, const char *if_match,
		bool if_none_match, char **etag)
{
	struct obj_req *req = contract_req(OBJ_PUT, key);
	enum obj_status status;

	contract_body(req, data, len);
	req->if_match = if_match == NULL ? NULL : contract_dup(if_match);
	req->if_none_match = if_none_match;
	contract_run(contract.store, req);
	status = req->result.status;
	if (status != OBJ_OK && req->result.message != NULL && status != OBJ_PRECONDITION) {
		print_message("PUT %s: %s: %s\n", key, objstore_status_name(status), req->result.message);
	}
	if (etag != NULL) {
		*etag = req->result.etag == NULL ? NULL : contract_dup(req->result.etag);
	}
	objstore_req_free(&req);
	return status;
}

enum obj_status contract_delete(const char *key)
{
	struct obj_req *req = contract_req(OBJ_DELETE, key);
	enum obj_status status;

	contract_run(contract.store, req);
	status = req->result.status;
	objstore_req_free(&req);
	return status;
}

void contract_expect_content(const char *key, const void *data, size_t len)
{
	struct obj_req *req = contract_req(OBJ_GET, key);

	req->length = -1;
	contract_expect(req, OBJ_OK);
	assert_int_equal(req->result.size, len);
	assert_int_equal(req->result.body_len, len);
	assert_memory_equal(req->result.body, data, len);
	objstore_req_free(&req);
}

void contract_expect_absent(const char *key)
{
	struct obj_req *req = contract_req(OBJ_HEAD, key);

	contract_expect(req, OBJ_NOT_FOUND);
	objstore_req_free(&req);
}

int contract_memory_file(const void *data, size_t len)
{
	int fd = memfd_create("contract", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, 0), len);
	return fd;
}

uint8_t *contract_noise(size_t len)
{
	uint8_t *data = malloc(len);
	uint32_t x = 2463534242u;

	assert_non_null(data);
	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		data[i] = (uint8_t)x;
	}
	return data;
}

struct obj_req *contract_copy_req(const char *from, const char *to)
{
	struct obj_req *req = contract_req(OBJ_COPY, to);
	struct obj_req *source = contract_req(OBJ_HEAD, from);

	req->source_key = source->key;
	source->key = NULL;
	objstore_req_free(&source);
	return req;
}

/* --- the suite --- */

enum obj_status contract_probe(struct objstore *s)
{
	struct probed p = { 0 };

	objstore_probe(s, contract.prefix, probed_set, &p);
	contract_loop(&p.done);
	print_message("%s: %s\n", s->where, p.message);
	return p.status;
}

int contract_setup(void **state)
{
	(void)state;
	contract.ctx = talloc_new(NULL);
	contract.ev = tevent_context_init(contract.ctx);
	contract.mb = contract.ev == NULL ? NULL : mailbox_new(contract.ctx, contract.ev);
	if (contract.mb == NULL) {
		return -1;
	}
	contract.store = contract.open(contract.ctx, contract.mb);
	return contract.store == NULL ? -1 : 0;
}

int contract_teardown(void **state)
{
	(void)state;
	talloc_free(contract.store); /* before the mailbox it writes to */
	contract.store = NULL;
	TALLOC_FREE(contract.ctx);
	return 0;
}

int contract_suite(const char *name)
{
	struct CMUnitTest tests[32];
	size_t count = contract_key_test_count + contract_part_test_count;

	assert(count <= sizeof(tests) / sizeof(tests[0]));
	memcpy(tests, contract_key_tests, contract_key_test_count * sizeof(tests[0]));
	memcpy(tests + contract_key_test_count, contract_part_tests,
			contract_part_test_count * sizeof(tests[0]));
	return _cmocka_run_group_tests(name, tests, count, contract_setup, contract_teardown);
}
