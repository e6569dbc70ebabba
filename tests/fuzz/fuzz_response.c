/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Any bytes as what a store answers to one request, attempt after attempt: headers and body by curl's callbacks,
 * then what is made of it, and the next request built from what was learnt. Two bytes say which operation and how
 * it was asked; each answer is a byte (how curl ends, and how its body comes in pieces), header lines, an empty
 * line, and the body up to a byte 0xff.
 */
/* Covers: cached/objstore/s3/receive.c cached/objstore/s3/response.c */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdlib.h>
#include <string.h>
#include "cached/objstore/s3/s3.h"

#define ATTEMPTS_MAX 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const CURLcode ends[] = { CURLE_OK, CURLE_PARTIAL_FILE, CURLE_RECV_ERROR, CURLE_COULDNT_CONNECT };

static struct s3_store *store_new(uint8_t how)
{
	struct s3_store *s = calloc(1, sizeof(*s));

	if (s != NULL) {
		s->bucket = (char *)(uintptr_t)"bucket";
		s->scheme = (char *)(uintptr_t)"http";
		s->host = how & 1 ? NULL : (char *)(uintptr_t)"127.0.0.1:9";
		s->user_agent = (char *)(uintptr_t)"fuzz";
		s->store.where = (char *)(uintptr_t)"s3://bucket";
		s->timeout_s = 1;
		strcpy(s->region, "us-east-1");
		strcpy(s->login.creds.access_key, "key");
		strcpy(s->login.creds.secret_key, "secret");
		strcpy(s->login.creds.session_token, how & 2 ? "token" : "");
		s->endpoint = how & 1 ? S3_ENDPOINT_DUAL | S3_ENDPOINT_FAST : 0;
		s->sse.kind = how & 4 ? OBJ_SSE_CUSTOMER : OBJ_SSE_NONE;
		atomic_store(&s->store.sum, how & 8 ? OBJ_SUM_CRC32C : OBJ_SUM_NONE);
	}
	return s;
}

static struct obj_req *request_new(uint8_t op, uint8_t how)
{
	struct obj_req *req = objstore_req_new(op % OBJ_OP_MAX, "a");

	if (req != NULL) {
		req->length = how & 16 ? 10 : -1;
		req->offset = how & 32 ? 5 : 0;
		req->if_match = how & 64 ? strdup("0123") : NULL;
		if (req->op == OBJ_PUT || req->op == OBJ_MPU_PART || req->op == OBJ_SET_TAGS) {
			req->body = (uint8_t *)strdup("hello");
			req->length = 5;
			req->offset = 0;
		}
		req->tags = strdup("a=b");
		req->source_key = strdup("from");
		req->upload_id = strdup("u");
		req->part_number = 1;
	}
	return req;
}

/* Header lines and a body as curl would hand them over. What is left of the input. */
static size_t feed(struct s3_xfer *x, const uint8_t *data, size_t size, size_t piece)
{
	size_t at = 0;

	while (at < size) {
		const uint8_t *end = memchr(data + at, '\n', size - at);
		size_t n = end != NULL ? (size_t)(end - data) - at + 1 : size - at;
		bool empty = n == 1 || (n == 2 && data[at] == '\r');

		if (s3_on_header((char *)(uintptr_t)(data + at), 1, n, x) != n) {
			return size;
		}
		at += n;
		if (empty) {
			break;
		}
	}
	while (at < size && data[at] != 0xff) {
		const uint8_t *end = memchr(data + at, 0xff, size - at);
		size_t n = end != NULL ? (size_t)(end - data) - at : size - at;

		n = n < piece ? n : piece;
		if (s3_on_data((char *)(uintptr_t)(data + at), 1, n, x) != n) {
			break; /* curl ends it here */
		}
		at += n;
	}
	while (at < size && data[at] != 0xff) {
		at++;
	}
	return at < size ? at + 1 : size;
}

/* What the core relies on. */
static void sound(const struct s3_xfer *x)
{
	const struct obj_req *req = x->req;
	const struct obj_result *r = &req->result;

	if ((unsigned)r->status >= OBJ_STATUS_MAX || (r->status != OBJ_OK && r->message == NULL)) {
		abort();
	}
	if (r->status != OBJ_OK) {
		return;
	}
	if (r->size < 0 || (req->op == OBJ_GET && (r->body == NULL || (int64_t)r->body_len != r->size ||
			r->body[r->body_len] != '\0' || (req->length >= 0 && r->size > req->length)))) {
		abort();
	}
	for (unsigned i = 0; i < r->entry_count; i++) {
		if (r->entries[i].key == NULL || r->entries[i].key[0] == '\0' || r->entries[i].size < 0) {
			abort();
		}
	}
	if (req->op == OBJ_MPU_CREATE && (r->upload_id == NULL || r->upload_id[0] == '\0')) {
		abort();
	}
}

static void run(struct s3_xfer *x, const uint8_t *data, size_t size)
{
	enum s3_verdict verdict = S3_RETRY;

	for (unsigned i = 0; i < ATTEMPTS_MAX && verdict != S3_DONE && size > 0; i++) {
		uint8_t how = data[0];
		size_t used;

		s3_response_reset(x);
		if (s3_request_build(x) != 0) {
			return;
		}
		used = 1 + feed(x, data + 1, size - 1, 1 + how / 4);
		verdict = s3_judge(x, x->abort != S3_ABORT_NONE ? CURLE_WRITE_ERROR : ends[how % 4]);
		curl_easy_reset(x->easy);
		curl_slist_free_all(x->headers);
		x->headers = NULL;
		data += used < size ? used : size;
		size -= used < size ? used : size;
	}
	if (verdict == S3_DONE) {
		sound(x);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct s3_xfer x = { .login_tried = true }; /* no keeper to ask for other credentials */

	if (size < 3) {
		return 0;
	}
	x.s = store_new(data[1]);
	x.req = request_new(data[0], data[1]);
	x.easy = curl_easy_init();
	if (x.s != NULL && x.req != NULL && x.easy != NULL) {
		run(&x, data + 2, size - 2);
	}
	curl_easy_cleanup(x.easy);
	curl_slist_free_all(x.headers);
	EVP_MD_CTX_free(x.md5);
	EVP_MD_CTX_free(x.sha256);
	sum_fini(&x.sum);
	free(x.in);
	free(x.document);
	free(x.pinned);
	objstore_req_free(&x.req);
	free(x.s);
	return 0;
}
