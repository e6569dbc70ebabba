/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The sending of a request's body: from memory or a file, with its digests, and a checksum behind it.
 *
 * Way:    request.c sets it up for each attempt; curl asks for the bytes.
 * Thread: the store's; reads of the source file may block it.
 * Holds:  1. The last bytes of a body leave only while still_valid says so.
 *         2. A conditional mutation is never sent twice by libcurl itself: once its body has left,
 *            rewinding fails.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "s3.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int s3_body_begin(struct s3_xfer *x)
{
	x->sent = 0;
	if (x->chunked) {
		x->frame_len = (size_t)snprintf(x->frame, sizeof(x->frame), "%" PRIx64 "\r\n",
				(uint64_t)x->body_len);
		x->frame_sent = 0;
		if (!sum_begin(&x->sum, x->sum.kind)) {
			return -ENOMEM;
		}
	}
	if (x->req->op != OBJ_PUT && x->req->op != OBJ_MPU_PART) {
		return 0;
	}
	if (x->md5 == NULL) {
		x->md5 = EVP_MD_CTX_new();
	}
	if (x->sha256 == NULL) {
		x->sha256 = EVP_MD_CTX_new();
	}
	if (x->md5 == NULL || x->sha256 == NULL ||
			EVP_DigestInit_ex(x->md5, EVP_md5(), NULL) != 1 ||
			EVP_DigestInit_ex(x->sha256, EVP_sha256(), NULL) != 1) {
		return -ENOMEM;
	}
	return 0;
}

static size_t read_frame(struct s3_xfer *x, char *buf, size_t room)
{
	size_t n = x->frame_len - x->frame_sent < room ? x->frame_len - x->frame_sent : room;

	memcpy(buf, x->frame + x->frame_sent, n);
	x->frame_sent += n;
	return n;
}

/* All of the body has been read: what stands behind it. */
static void close_frame(struct s3_xfer *x)
{
	char text[OBJ_SUM_TEXT_BYTES];

	sum_text(&x->sum, text);
	snprintf(x->sum_said, sizeof(x->sum_said), "%s", text);
	x->frame_len = (size_t)snprintf(x->frame, sizeof(x->frame), "\r\n0\r\nx-amz-checksum-%s:%s\r\n\r\n",
			sum_name(x->sum.kind), text);
	x->frame_sent = 0;
}

int64_t s3_body_wire_bytes(const struct s3_xfer *x)
{
	char text[192];

	if (!x->chunked) {
		return x->body_len;
	}
	return x->body_len + snprintf(text, sizeof(text), "%" PRIx64 "\r\n\r\n0\r\nx-amz-checksum-%s:\r\n\r\n",
			(uint64_t)x->body_len, sum_name(x->sum.kind)) +
	       (x->sum.kind == OBJ_SUM_CRC32C ? 8 : x->sum.kind == OBJ_SUM_SHA256 ? 44 : 12);
}

size_t s3_on_read(char *buf, size_t size, size_t count, void *arg)
{
	struct s3_xfer *x = arg;
	struct obj_req *req = x->req;
	int64_t left = x->body_len - x->sent;
	ssize_t n = left < (int64_t)(size * count) ? (ssize_t)left : (ssize_t)(size * count);

	if (x->chunked && (x->frame_sent < x->frame_len || n == 0)) {
		return read_frame(x, buf, size * count);
	}
	if (n == 0) {
		return 0;
	}
	if (atomic_load(&req->cancelled)) {
		x->abort = S3_ABORT_CANCEL;
		return CURL_READFUNC_ABORT;
	}
	if (x->mem != NULL) {
		memcpy(buf, x->mem + x->sent, (size_t)n);
	} else {
		do {
			n = pread(req->fd, buf, (size_t)n, req->offset + x->sent);
		} while (n < 0 && errno == EINTR);
		if (n <= 0) {
			req->result.local_errno = n < 0 ? errno : ENODATA;
			x->abort = S3_ABORT_LOCAL;
			obj_fail(req, OBJ_LOCAL, "reading what was to be sent: %s",
					n < 0 ? strerror(errno) : "the file is shorter than it was");
			return CURL_READFUNC_ABORT;
		}
	}
	if (x->sent + n == x->body_len && req->still_valid != NULL &&
			!req->still_valid(req->still_valid_arg)) {
		x->abort = S3_ABORT_CANCEL;
		return CURL_READFUNC_ABORT;
	}
	if (x->md5 != NULL) {
		EVP_DigestUpdate(x->md5, buf, (size_t)n);
		EVP_DigestUpdate(x->sha256, buf, (size_t)n);
	}
	x->sent += n;
	if (x->chunked) {
		sum_add(&x->sum, buf, (size_t)n);
		if (x->sent == x->body_len) {
			close_frame(x);
		}
	}
	return (size_t)n;
}

/* curl rewinds when a connection it kept died under the request. */
int s3_on_seek(void *arg, curl_off_t offset, int origin)
{
	struct s3_xfer *x = arg;

	if (origin != SEEK_SET || offset != 0) {
		return CURL_SEEKFUNC_FAIL;
	}
	if (x->sent == x->body_len && obj_op_mutates(x->req->op) && obj_req_conditional(x->req)) {
		return CURL_SEEKFUNC_FAIL;
	}
	return s3_body_begin(x) == 0 ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
}
