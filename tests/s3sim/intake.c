/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the body of a request: out of its chunks, into a body, against its digests.
 *
 *   LENGTH -> DATA -> AFTER -> LENGTH ... -> TRAILER -> OVER      (aws-chunked; else DATA alone)
 *
 * Way:    server.c, as bytes come.
 * Thread: one.
 * Owns:   body and digests until an operation takes the body.
 * Holds:  1. An operation runs only on what was announced: all bytes, each digest that was said.
 *         2. What is wrong is answered when all has been read, as S3 does.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "req.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "fault.h"

#define OBJECT_MAX_BYTES (5LL << 30)
#define DOCUMENT_MAX_BYTES (4 << 20)

enum where { LENGTH, DATA, AFTER, TRAILER, OVER };

/* The one that is said in a header or announced as a trailer. false: two are. */
static bool said_kind(const struct req *r, enum digest_kind *kind)
{
	const char *trailer = req_header(r, "x-amz-trailer");
	char name[64];

	*kind = DIGEST_NONE;
	for (enum digest_kind k = DIGEST_CRC32; k <= DIGEST_SHA256; k++) {
		snprintf(name, sizeof(name), "x-amz-checksum-%s", digest_names[k]);
		if (req_header(r, name) != NULL || (trailer != NULL && strcasecmp(trailer, name) == 0)) {
			if (*kind != DIGEST_NONE) {
				return false;
			}
			*kind = k;
		}
	}
	return true;
}

bool intake_begin(struct req *r, enum digest_kind wanted)
{
	const char *payload = req_header(r, "x-amz-content-sha256"), *length = req_header(r, "Content-Length");
	struct intake *in = &r->in;
	enum digest_kind kind;

	if (!said_kind(r, &kind)) {
		return answer_error(r, "InvalidRequest", NULL);
	}
	if (kind != DIGEST_NONE && wanted != DIGEST_NONE && kind != wanted) {
		return answer_error(r, "InvalidRequest", NULL); /* the upload was begun with another */
	}
	kind = kind != DIGEST_NONE ? kind : wanted != DIGEST_NONE ? wanted : DIGEST_CRC64NVME;
	in->chunked = payload != NULL && strncmp(payload, "STREAMING-", 10) == 0;
	if (in->chunked && strcmp(payload, "STREAMING-UNSIGNED-PAYLOAD-TRAILER") != 0) {
		return answer_error(r, "NotImplemented", NULL);
	}
	in->where = in->chunked ? LENGTH : DATA;
	in->body = body_new(r);
	if (in->body == NULL || !digest_begin(&in->sum, r->op->body == OP_BYTES ? kind : DIGEST_NONE) ||
			!digest_begin(&in->md5, DIGEST_MD5) ||
			!digest_begin(&in->sha256, payload != NULL && strlen(payload) == 64 ? DIGEST_SHA256 : DIGEST_NONE)) {
		return answer_error(r, "InternalError", NULL);
	}
	if (r->op->body == OP_BYTES && length == NULL && req_header(r, "Transfer-Encoding") == NULL) {
		return answer_error(r, "MissingContentLength", NULL);
	}
	return true;
}

static void take_bytes(struct req *r, const char *data, size_t len)
{
	struct intake *in = &r->in;
	int64_t max;

	if (r->status != 0) {
		return; /* it is only read */
	}
	max = r->op->body == OP_BYTES ? OBJECT_MAX_BYTES : DOCUMENT_MAX_BYTES;
	if (in->body->size + (int64_t)len > max) {
		answer_error(r, r->op->body == OP_BYTES ? "EntityTooLarge" : "MalformedXML", NULL);
		return;
	}
	if (!in->chunked) {
		digest_add(&in->sha256, data, len);
	}
	digest_add(&in->md5, data, len);
	digest_add(&in->sum, data, len);
	if (body_append(in->body, data, len) != 0) {
		answer_error(r, "InternalError", NULL);
	}
}

/* A line around chunks is whole. */
static void take_line(struct req *r)
{
	struct intake *in = &r->in;
	char *end;

	if (in->where == LENGTH) {
		errno = 0;
		in->left = strtoll(in->line, &end, 16);
		if (errno != 0 || end == in->line || in->left < 0 || (*end != '\0' && *end != ';')) {
			answer_error(r, "InvalidRequest", NULL);
			in->where = OVER;
			return;
		}
		in->where = in->left == 0 ? TRAILER : DATA;
	} else if (in->where == AFTER) {
		in->where = LENGTH;
	} else if (in->line[0] == '\0') {
		in->where = OVER;
	} else if (strncasecmp(in->line, "x-amz-checksum-", 15) == 0 && strchr(in->line, ':') != NULL) {
		const char *value = strchr(in->line, ':') + 1;

		snprintf(in->trailer, sizeof(in->trailer), "%s", value + strspn(value, " "));
	}
}

static size_t take_of_line(struct req *r, const char *data, size_t len)
{
	struct intake *in = &r->in;
	const char *end = memchr(data, '\n', len);
	size_t n = end == NULL ? len : (size_t)(end - data);

	if (in->line_len + n >= sizeof(in->line)) {
		answer_error(r, "InvalidRequest", NULL);
		in->where = OVER;
		return len;
	}
	memcpy(in->line + in->line_len, data, n);
	in->line_len += (unsigned)n;
	if (end == NULL) {
		return n;
	}
	if (in->line_len > 0 && in->line[in->line_len - 1] == '\r') {
		in->line_len--;
	}
	in->line[in->line_len] = '\0';
	in->line_len = 0;
	take_line(r);
	return n + 1;
}

int intake_add(struct req *r, const char *data, size_t len)
{
	struct intake *in = &r->in;

	in->wire_bytes += (int64_t)len;
	if (!in->chunked) {
		take_bytes(r, data, len);
		return 0;
	}
	while (len > 0 && in->where != OVER) {
		size_t n = len;

		if (in->where == DATA) {
			n = (int64_t)len < in->left ? len : (size_t)in->left;
			take_bytes(r, data, n);
			in->left -= (int64_t)n;
			in->where = in->left == 0 ? AFTER : DATA;
		} else {
			n = take_of_line(r, data, len);
		}
		data += n;
		len -= n;
	}
	return 0;
}

void intake_changed(struct req *r, const char *data, size_t len)
{
	char *copy = talloc_memdup(r, data, len);
	int64_t at = r->fault->bytes - r->in.wire_bytes;

	if (copy != NULL && at >= 0 && at < (int64_t)len) {
		copy[at] ^= 0x20;
	}
	intake_add(r, copy == NULL ? data : copy, len);
	talloc_free(copy);
}

static bool same_payload(struct req *r)
{
	const char *said = req_header(r, "x-amz-content-sha256");
	uint8_t value[EVP_MAX_MD_SIZE];
	char text[2 * EVP_MAX_MD_SIZE + 1];
	size_t len;

	if (r->in.sha256.kind == DIGEST_NONE) {
		return true;
	}
	len = digest_end(&r->in.sha256, value);
	digest_hex(value, len, text);
	return strcmp(text, said) == 0 || answer_error(r, "XAmzContentSHA256Mismatch", NULL);
}

static bool same_sum(struct req *r)
{
	struct intake *in = &r->in;
	uint8_t value[EVP_MAX_MD_SIZE];
	const char *said;
	char name[64];

	if (in->sum.kind == DIGEST_NONE) {
		return true;
	}
	digest_base64(value, digest_end(&in->sum, value), in->sum_text);
	snprintf(name, sizeof(name), "x-amz-checksum-%s", digest_names[in->sum.kind]);
	said = in->chunked && in->trailer[0] != '\0' ? in->trailer : req_header(r, name);
	if (said == NULL && req_header(r, "x-amz-trailer") != NULL) {
		return answer_error(r, "InvalidRequest", NULL); /* announced, and not there */
	}
	return said == NULL || strcmp(said, in->sum_text) == 0 || answer_error(r, "BadDigest", NULL);
}

bool intake_end(struct req *r)
{
	struct intake *in = &r->in;
	const char *md5 = req_header(r, "Content-MD5"), *decoded = req_header(r, "x-amz-decoded-content-length");
	uint8_t value[EVP_MAX_MD_SIZE];
	char text[DIGEST_TEXT_BYTES];
	size_t len;

	if (r->status != 0) {
		return false;
	}
	if (in->chunked && (in->where != OVER || decoded == NULL || strtoll(decoded, NULL, 10) != in->body->size)) {
		return answer_error(r, "IncompleteBody", NULL);
	}
	if (!same_payload(r)) {
		return false;
	}
	len = digest_end(&in->md5, value);
	digest_hex(value, len, in->etag);
	digest_base64(value, len, text);
	if (md5 != NULL && strlen(md5) != 24) {
		return answer_error(r, "InvalidDigest", NULL);
	}
	if (md5 != NULL && strcmp(md5, text) != 0) {
		return answer_error(r, "BadDigest", NULL);
	}
	return same_sum(r);
}

void intake_fini(struct intake *in)
{
	digest_fini(&in->md5);
	digest_fini(&in->sha256);
	digest_fini(&in->sum);
}
