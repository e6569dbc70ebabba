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
	int least_fence_class;
	unsigned list_keys; /* how many the paging test writes */
	/* made by contract_setup */
	struct tevent_context *ev;
	struct mailbox *mb;
	struct objstore *store;
};
extern struct contract contract;

int contract_setup(void **state);
int contract_teardown(void **state);
extern const struct CMUnitTest *const contract_tests;
extern const size_t contract_test_count;
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

#endif
