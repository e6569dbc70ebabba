/* SPDX-License-Identifier: GPL-3.0-or-later */
/* An S3 server that reads its answers from a script, for what no real server does on request. */
#ifndef OFS_TESTS_SCRIPTED_S3_H
#define OFS_TESTS_SCRIPTED_S3_H

#include <pthread.h>
#include <stdbool.h>
#include "cached/objstore/objstore.h"

#define SCRIPTED_STEPS_MAX 16
#define SCRIPTED_HEAD_BYTES 8192
#define SCRIPTED_BODY_BYTES 256

struct tevent_context;

/* What to do with a request: answer (a whole HTTP message), hang up, or hold it unanswered. */
#define HANG_UP "hang up"
#define HOLD "hold"

extern struct scripted {
	pthread_mutex_t lock;
	int listener;
	pthread_t thread;
	char *script[SCRIPTED_STEPS_MAX];
	unsigned steps, asked;
	char heads[SCRIPTED_STEPS_MAX][SCRIPTED_HEAD_BYTES]; /* of the requests that came */
	char bodies[SCRIPTED_STEPS_MAX][SCRIPTED_BODY_BYTES]; /* their first bytes */
	bool keep_alive; /* else one request for each connection */
	struct tevent_context *ev;
	struct mailbox *mb;
	struct objstore *store;
} scripted;

/* What the store is opened with beside an endpoint and credentials; cleared by each teardown. */
extern struct objstore_s3_conf scripted_conf;
/* cmocka's; with four connections, or with one */
int scripted_setup(void **state);
int scripted_setup_single(void **state);
int scripted_teardown(void **state);
/* The answer to the next request; is copied. */
void scripted_answer(const char *answer);
/* No answers yet, and no requests. */
void scripted_forget(void);
/* How many requests came. */
unsigned scripted_asked(void);
/* Did the head of request i hold this text? */
bool scripted_sent(unsigned i, const char *text);
/* New request for "k"; with if_match. */
struct obj_req *scripted_make(enum obj_op op);
struct obj_req *scripted_make_if(enum obj_op op);
/* Submit, and *done when it is; turn the loop until then; turn it for a moment; all of it. */
void scripted_submit(struct obj_req *req, bool *done);
void scripted_wait(const bool *done);
void scripted_turn(void);
void scripted_run(struct obj_req *req, enum obj_status want);

#define ANSWER(status, headers, body)                                                              \
	"HTTP/1.1 " status "\r\nConnection: close\r\n" headers "\r\n" body
#define NO_BODY "Content-Length: 0\r\n"
#define XML_ERROR(code) "<?xml version=\"1.0\"?><Error><Code>" code "</Code></Error>"
#define PUT_OK ANSWER("200 OK", NO_BODY "ETag: \"5d41402abc4b2a76b9719d911017c592\"\r\n", "")
#define SLOW_DOWN ANSWER("503 Slow Down", "", XML_ERROR("SlowDown"))
#define INTERNAL ANSWER("500 Oops", "", XML_ERROR("InternalError"))

#endif
