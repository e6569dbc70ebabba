/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What every object store must do, as cmocka tests; run on dir/ and on s3/ with a real server. */
#ifndef OFS_TESTS_OBJSTORE_CONTRACT_H
#define OFS_TESTS_OBJSTORE_CONTRACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <talloc.h>
#include "cached/objstore/objstore.h"

struct tevent_context;
struct CMUnitTest;

/* How to reach the store under test, and broken variants of it; set before the tests run. */
struct contract {
	const char *prefix; /* all keys are made below it */
	struct objstore *(*open)(TALLOC_CTX *ctx, struct mailbox *mb);
	/* NULL: does not apply to this store */
	struct objstore *(*open_denied)(TALLOC_CTX *ctx, struct mailbox *mb);
	struct objstore *(*open_no_bucket)(TALLOC_CTX *ctx, struct mailbox *mb);
	struct objstore *(*open_away)(TALLOC_CTX *ctx, struct mailbox *mb);
	int least_fence_class, most_fence_class;
	bool copy_joins; /* a copy of an object in parts has the MD5 of its bytes for an ETag, as on AWS */
	unsigned list_keys; /* how many the paging test writes */
	/* made by contract_setup */
	TALLOC_CTX *ctx;
	struct tevent_context *ev;
	struct mailbox *mb;
	struct objstore *store;
};
extern struct contract contract;

int contract_setup(void **state);
int contract_teardown(void **state);
/* All of it, as a group of that name; the number of tests that failed. */
int contract_suite(const char *name);
extern const struct CMUnitTest *const contract_key_tests, *const contract_part_tests;
extern const size_t contract_key_test_count, contract_part_test_count;
/* Wrong credentials; only for stores that have some. */
void contract_test_denied(void **state);

/* --- for further tests on the same store --- */
/* Submit and wait (120 s, then the test fails). */
void contract_run(struct objstore *s, struct obj_req *req);
/* New request for prefix + key. */
struct obj_req *contract_req(enum obj_op op, const char *key);
/* PUT of memory, unconditional or not; the result's status, *etag (malloc) if wanted. */
enum obj_status contract_put(const char *key, const void *data, size_t len, const char *if_match,
		bool if_none_match, char **etag);
enum obj_status contract_delete(const char *key);
/* Run, and complain with the store's words if the status is another. */
void contract_expect(struct obj_req *req, enum obj_status want);
/* The object is there and holds exactly these bytes. */
void contract_expect_content(const char *key, const void *data, size_t len);
void contract_expect_absent(const char *key);
/* New request for a copy of prefix + from. */
struct obj_req *contract_copy_req(const char *from, const char *to);
/* Probe and wait. */
enum obj_status contract_probe(struct objstore *s);
void contract_body(struct obj_req *req, const void *data, size_t len);
/* Turn the loop until *flag, which contract_on_done sets for a request whose arg it is. */
void contract_loop(const bool *flag);
void contract_on_done(struct obj_req *req);
/* malloc */
char *contract_dup(const char *s);
uint8_t *contract_noise(size_t len);
/* Descriptor of a memory file. */
int contract_memory_file(const void *data, size_t len);

#endif
