/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What comes of an answer: headers to the result, bytes to the caller's sink or to memory.
 *
 * Way:    curl on the store's thread, while an attempt runs; response.c judges at its end.
 * Thread: the store's; writes to the sink may block it.
 * Holds:  a GET's bytes are taken only where they belong: what breaks off is continued from there, pinned to
 *         the ETag it began with.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "s3.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "cached/base/clock.h"
#include "cached/base/stats.h"
#include "xml.h"

#define DOCUMENT_MAX_BYTES (32u << 20)
#define MEMORY_SINK_MAX_BYTES (1u << 30)
#define META_PREFIX "x-amz-meta-"

void s3_response_reset(struct s3_xfer *x)
{
	obj_result_clear(&x->req->result);
	x->http = 0;
	x->content_length = -1;
	x->range_start = -1;
	x->total = -1;
	x->date = -1;
	x->retry_after_s = 0;
	x->region[0] = '\0';
	x->framed = false;
	x->delete_marker = false;
	x->foreign_etag = false;
	x->sum_of_parts = false;
	if (x->req->op == OBJ_GET && x->got == 0) {
		sum_begin(&x->sum, OBJ_SUM_NONE);
	}
	/* what broke off is not done, and nothing else that came belongs to it */
	x->in_len = x->req->op == OBJ_GET && !x->confirm && x->req->sink_fd < 0 ? (size_t)x->got : 0;
}

/* --- headers --- */

static void keep(char **to, const char *value)
{
	free(*to);
	*to = strdup(value);
}

/* In place: of a list of encodings what is the object's. "aws-chunked" was its transfer's, and some stores keep
 * it (Amazon S3 API Reference, "Signature calculations: transferring payload in multiple chunks"). */
static void without_chunked(char *value)
{
	char *out = value;
	size_t n;

	if (strcasestr(value, "aws-chunked") == NULL) {
		return;
	}
	for (char *p = value; *p != '\0'; p += n + (p[n] == ',')) {
		const char *token = p + strspn(p, " \t");
		size_t len;

		n = strcspn(p, ",");
		len = (size_t)(p + n - token);
		while (len > 0 && (token[len - 1] == ' ' || token[len - 1] == '\t')) {
			len--;
		}
		if (len == 0 || (len == 11 && strncasecmp(token, "aws-chunked", len) == 0)) {
			continue;
		}
		if (out != value) {
			*out++ = ',';
		}
		memmove(out, token, len);
		out += len;
	}
	*out = '\0';
}

/* Seconds that fit as nanoseconds, too; -1: not a date. */
static time_t http_date(const char *value)
{
	time_t t = curl_getdate(value, NULL);

	return t >= 0 && t <= INT64_MAX / 1000000000 ? t : -1;
}

/* Of a whole object, in one of the kinds we know; not that of parts' checksums ("...-3"). */
static void take_checksum(struct s3_xfer *x, const char *name, const char *value)
{
	enum obj_sum kind = sum_of_name(name);

	bool reads = x->req->op == OBJ_GET || x->req->op == OBJ_HEAD;

	if (reads && strcasecmp(name, "type") == 0 && strcasecmp(value, "COMPOSITE") == 0) {
		x->sum_of_parts = true; /* before its value, or behind it */
		sum_begin(&x->sum, OBJ_SUM_NONE);
		free(x->req->result.sum);
		x->req->result.sum = NULL;
	}
	if (x->req->op == OBJ_HEAD && kind != OBJ_SUM_NONE && !x->sum_of_parts && !x->confirm &&
			x->req->result.sum == NULL && strchr(value, '-') == NULL) {
		x->req->result.sum = strdup(value);
		x->req->result.sum_kind = kind;
	}
	if (kind != OBJ_SUM_NONE && x->req->op == OBJ_GET && !x->sum_of_parts && !x->confirm && x->got == 0 && !s3_range_asked(x) &&
			x->http == 200 && strchr(value, '-') == NULL && sum_begin(&x->sum, kind)) {
		snprintf(x->sum_said, sizeof(x->sum_said), "%s", value);
	}
}

static void take_header(struct s3_xfer *x, const char *name, char *value)
{
	struct obj_result *r = &x->req->result;

	if (strcasecmp(name, "content-encoding") == 0) {
		without_chunked(value);
	}
	for (unsigned i = 0; i < OBJ_PROP_MAX; i++) {
		if (strcasecmp(name, obj_prop_names[i].header) == 0) {
			keep(&r->props[i], value);
		}
	}
	if (strncasecmp(name, "x-amz-checksum-", 15) == 0) {
		take_checksum(x, name + 15, value);
	}
	if (strncasecmp(name, META_PREFIX, strlen(META_PREFIX)) == 0) {
		char lower[256];
		size_t i = 0;

		for (name += strlen(META_PREFIX); *name != '\0' && i < sizeof(lower) - 1; name++) {
			lower[i++] = (char)tolower((unsigned char)*name);
		}
		lower[i] = '\0';
		obj_result_meta_add(r, lower, value);
	} else if (strcasecmp(name, "etag") == 0) {
		free(r->etag);
		r->etag = s3_etag_plain(value);
	} else if (strcasecmp(name, "content-length") == 0) {
		x->content_length = strtoll(value, NULL, 10);
		x->framed = true;
	} else if (strcasecmp(name, "transfer-encoding") == 0) {
		x->framed = x->framed || strcasestr(value, "chunked") != NULL;
	} else if (strcasecmp(name, "content-range") == 0) {
		int n = sscanf(value, "bytes %" SCNd64 "-%*d/%" SCNd64, &x->range_start, &x->total);

		x->range_start = n < 1 ? -1 : x->range_start;
		x->total = n < 2 ? -1 : x->total;
	} else if (strcasecmp(name, "last-modified") == 0) {
		time_t t = http_date(value);

		r->mtime_ns = t == -1 ? 0 : (int64_t)t * 1000000000;
	} else if (strcasecmp(name, "date") == 0) {
		x->date = http_date(value);
		if (x->date != -1) {
			struct timespec ts;

			clock_gettime(CLOCK_BOOTTIME, &ts);
			atomic_store(&x->s->store.clock_offset_s, (int64_t)x->date - time(NULL));
			atomic_store(&x->s->store.since_boot_ns, (int64_t)x->date * NS_PER_S - timespec_ns(ts));
		}
	} else if (strcasecmp(name, "x-amz-tagging-count") == 0) {
		r->tag_count = (unsigned)strtoul(value, NULL, 10);
	} else if (strcasecmp(name, "x-amz-version-id") == 0) {
		keep(&r->version_id, value);
	} else if (strcasecmp(name, "x-amz-request-id") == 0) {
		keep(&r->request_id, value);
	} else if (strcasecmp(name, "x-amz-bucket-region") == 0) {
		snprintf(x->region, sizeof(x->region), "%s", value);
	} else if (strcasecmp(name, "x-amz-delete-marker") == 0) {
		x->delete_marker = strcmp(value, "true") == 0;
	} else if (strcasecmp(name, "x-amz-server-side-encryption") == 0) {
		x->foreign_etag = x->foreign_etag || strcmp(value, "AES256") != 0;
	} else if (strcasecmp(name, "x-amz-server-side-encryption-customer-algorithm") == 0) {
		x->foreign_etag = true;
		r->customer = true;
	} else if (strcasecmp(name, "retry-after") == 0) {
		unsigned long s = strtoul(value, NULL, 10);

		x->retry_after_s = s > 20 ? 20 : (unsigned)s;
	}
}

size_t s3_on_header(char *data, size_t size, size_t count, void *arg)
{
	struct s3_xfer *x = arg;
	size_t len = size * count;
	char line[8192];
	char *value;
	size_t n = len < sizeof(line) ? len : sizeof(line) - 1;

	memcpy(line, data, n);
	line[n] = '\0';
	while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' ')) {
		line[--n] = '\0';
	}
	if (strncmp(line, "HTTP/", 5) == 0) { /* each answer begins anew, "100 Continue" too */
		s3_response_reset(x);
		if (sscanf(line, "HTTP/%*s %ld", &x->http) != 1) {
			x->http = 0;
		}
		return len;
	}
	value = strchr(line, ':');
	if (value != NULL) {
		*value++ = '\0';
		take_header(x, line, value + strspn(value, " \t"));
	}
	return len;
}

/* --- bytes --- */

static bool append(struct s3_xfer *x, const char *data, size_t len, size_t max)
{
	if (len > max || x->in_len > max - len) {
		x->abort = S3_ABORT_BAD;
		obj_fail(x->req, OBJ_INVALID, "the store's answer is larger than any should be");
		return false;
	}
	if (x->in_len + len + 1 > x->in_cap) {
		size_t cap = x->in_cap == 0 ? 4096 : x->in_cap;
		uint8_t *grown;

		while (cap < x->in_len + len + 1) {
			cap *= 2;
		}
		grown = realloc(x->in, cap);
		if (grown == NULL) {
			x->abort = S3_ABORT_LOCAL;
			x->req->result.local_errno = ENOMEM;
			obj_fail(x->req, OBJ_LOCAL, "out of memory");
			return false;
		}
		x->in = grown;
		x->in_cap = cap;
	}
	memcpy(x->in + x->in_len, data, len);
	x->in_len += len;
	x->in[x->in_len] = 0;
	return true;
}

/* Is this the part of the object that was asked for? */
static bool expected_part(struct s3_xfer *x, size_t len)
{
	struct obj_req *req = x->req;
	int64_t from = req->offset + x->got;
	bool ok = x->http == 206 ? x->range_start >= 0 : x->http == 200;

	if (x->http == 206 && x->sent == 0) {
		ok = x->range_start == from;
	} else if (x->http == 200 && x->range_start < 0 && from > 0 && x->sent == 0) {
		ok = false; /* the whole object although a range was asked for */
	}
	if (ok && req->length >= 0 && x->got + (int64_t)len > req->length) {
		ok = false;
	}
	if (!ok) {
		x->abort = S3_ABORT_BAD;
		obj_fail(req, OBJ_INVALID, "the store does not keep to the range asked for: it "
				"cannot be used");
	}
	return ok;
}

static bool to_sink(struct s3_xfer *x, const char *data, size_t len)
{
	struct obj_req *req = x->req;
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(req->sink_fd, data + done, len - done,
				req->sink_offset + x->got + (int64_t)done);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			req->result.local_errno = n < 0 ? errno : EIO;
			x->abort = S3_ABORT_LOCAL;
			obj_fail(req, OBJ_LOCAL, "writing what was read: %s",
					strerror(req->result.local_errno));
			return false;
		}
		done += (size_t)n;
	}
	return true;
}

size_t s3_on_data(char *data, size_t size, size_t count, void *arg)
{
	struct s3_xfer *x = arg;
	size_t len = size * count;
	bool object = x->req->op == OBJ_GET && x->http >= 200 && x->http < 300;

	if (atomic_load(&x->req->cancelled)) {
		x->abort = S3_ABORT_CANCEL;
		return 0;
	}
	if (x->confirm && x->http >= 200 && x->http < 300) {
		return len;
	}
	if (!object) {
		return append(x, data, len, DOCUMENT_MAX_BYTES) ? len : 0;
	}
	if (!expected_part(x, len) || !(x->req->sink_fd >= 0
						  ? to_sink(x, data, len)
						  : append(x, data, len, MEMORY_SINK_MAX_BYTES))) {
		return 0;
	}
	sum_add(&x->sum, data, len);
	x->got += (int64_t)len;
	x->sent += (int64_t)len; /* of this attempt */
	stats_add(s3_bytes_in, (int64_t)len);
	if (x->pinned == NULL && x->req->result.etag != NULL) {
		x->pinned = strdup(x->req->result.etag);
	}
	return len;
}
