/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what a request asks: bucket and key of its path or host, parameters, and which operation it is.
 *
 * Way:    server.c, when the headers are there.
 * Thread: one.
 * Holds:  1. A key is the bytes that were sent, once decoded: nothing is normalised.
 *         2. The first row of the table that fits is the operation: those with a parameter stand before those without.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "req.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define KEY_MAX_BYTES 1024u

static const struct op ops[] = {
	{ .name = "ListBuckets", .method = "GET", .on = 's', .run = op_list_buckets },
	{ .name = "ListObjectsV2", .method = "GET", .on = 'b', .param = "list-type", .run = op_list },
	{ .name = "ListObjectVersions", .method = "GET", .on = 'b', .param = "versions", .run = op_list_versions },
	{ .name = "ListMultipartUploads", .method = "GET", .on = 'b', .param = "uploads", .run = op_list_uploads },
	{ .name = "DeleteObjects", .method = "POST", .on = 'b', .param = "delete", .body = OP_TEXT,
		.run = op_delete_many },
	{ .name = "GetBucketConfiguration", .method = "GET", .on = 'b', .param = "*", .run = op_bucket_read },
	{ .name = "PutBucketConfiguration", .method = "PUT", .on = 'b', .param = "*", .body = OP_TEXT,
		.run = op_bucket_write },
	{ .name = "DeleteBucketConfiguration", .method = "DELETE", .on = 'b', .param = "*", .run = op_bucket_clear },
	{ .name = "ListObjects", .method = "GET", .on = 'b', .run = op_list_old },
	{ .name = "HeadBucket", .method = "HEAD", .on = 'b', .run = op_bucket_head },
	{ .name = "CreateBucket", .method = "PUT", .on = 'b', .body = OP_TEXT, .run = op_bucket_create },
	{ .name = "DeleteBucket", .method = "DELETE", .on = 'b', .run = op_bucket_delete },
	{ .name = "GetObjectTagging", .method = "GET", .on = 'k', .param = "tagging", .run = op_get_tags },
	{ .name = "PutObjectTagging", .method = "PUT", .on = 'k', .param = "tagging", .body = OP_TEXT,
		.run = op_put_tags },
	{ .name = "DeleteObjectTagging", .method = "DELETE", .on = 'k', .param = "tagging", .run = op_delete_tags },
	{ .name = "RestoreObject", .method = "POST", .on = 'k', .param = "restore", .body = OP_TEXT, .run = op_restore },
	{ .name = "CreateMultipartUpload", .method = "POST", .on = 'k', .param = "uploads", .run = op_upload_create },
	{ .name = "UploadPartCopy", .method = "PUT", .on = 'k', .param = "uploadId", .header = "x-amz-copy-source",
		.run = op_upload_copy },
	{ .name = "UploadPart", .method = "PUT", .on = 'k', .param = "uploadId", .body = OP_BYTES, .run = op_upload_part },
	{ .name = "CompleteMultipartUpload", .method = "POST", .on = 'k', .param = "uploadId", .body = OP_TEXT,
		.run = op_upload_complete },
	{ .name = "AbortMultipartUpload", .method = "DELETE", .on = 'k', .param = "uploadId", .run = op_upload_abort },
	{ .name = "ListParts", .method = "GET", .on = 'k', .param = "uploadId", .run = op_upload_parts },
	{ .name = "CopyObject", .method = "PUT", .on = 'k', .header = "x-amz-copy-source", .run = op_copy },
	{ .name = "PutObject", .method = "PUT", .on = 'k', .body = OP_BYTES, .run = op_put },
	{ .name = "GetObject", .method = "GET", .on = 'k', .run = op_get },
	{ .name = "HeadObject", .method = "HEAD", .on = 'k', .run = op_get },
	{ .name = "DeleteObject", .method = "DELETE", .on = 'k', .run = op_delete },
};

/* Parameters of a key that name something of it which is not here: not to be taken for the object itself. */
static const char *const absent[] = { "acl", "legal-hold", "retention", "torrent", "attributes", "select", "object-lock" };
/* Parameters of a bucket that are no configuration. */
static const char *const plain[] = { "prefix", "delimiter", "marker", "max-keys", "encoding-type", "x-id" };

void time_iso(int64_t ns, char out[40])
{
	time_t t = (time_t)(ns / 1000000000);
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(out, 40, "%Y-%m-%dT%H:%M:%S.000Z", &tm);
}

void time_http(int64_t ns, char out[40])
{
	static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct",
		"Nov", "Dec" };
	time_t t = (time_t)(ns / 1000000000);
	struct tm tm;

	gmtime_r(&t, &tm);
	snprintf(out, 40, "%s, %02d %s %d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
			tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static int hex(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = c == '\0' ? NULL : strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c);

	return at == NULL ? -1 : (int)(at - digits);
}

bool url_decode(char *text, bool plus)
{
	char *out = text;

	for (; *text != '\0'; text++) {
		int value = (unsigned char)*text;

		if (*text == '%') {
			if (hex(text[1]) < 0 || hex(text[2]) < 0) {
				return false;
			}
			value = hex(text[1]) * 16 + hex(text[2]);
			text += 2;
		} else if (*text == '+' && plus) {
			value = ' ';
		}
		if (value == 0) {
			return false;
		}
		*out++ = (char)value;
	}
	*out = '\0';
	return true;
}

char *url_encode(TALLOC_CTX *ctx, const char *text, const char *kept)
{
	static const char digits[] = "0123456789ABCDEF";
	static const char plain_bytes[] =
			"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	char *all = talloc_array(ctx, char, 3 * strlen(text) + 1), *out = all;

	if (all == NULL) {
		return NULL;
	}
	for (; *text != '\0'; text++) {
		if (strchr(plain_bytes, *text) != NULL || strchr(kept, *text) != NULL) {
			*out++ = *text;
		} else {
			*out++ = '%';
			*out++ = digits[(unsigned char)*text >> 4];
			*out++ = digits[(unsigned char)*text & 15];
		}
	}
	*out = '\0';
	return all;
}

const char *req_header(const struct req *r, const char *name)
{
	return MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, name);
}

const char *req_param(const struct req *r, const char *name)
{
	for (unsigned i = 0; i < r->query.count; i++) {
		if (strcmp(r->query.list[i].name, name) == 0) {
			return r->query.list[i].value;
		}
	}
	return NULL;
}

bool req_number(struct req *r, const char *param, long low, long high, long missing, long *value)
{
	const char *text = req_param(r, param);
	char *end;

	*value = missing;
	if (text == NULL) {
		return true;
	}
	errno = 0;
	*value = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || *value < low) {
		return answer_error(r, "InvalidArgument", NULL);
	}
	*value = *value > high ? high : *value;
	return true;
}

static bool parse_query(struct req *r, char *text)
{
	char *save = NULL;

	for (char *word = strtok_r(text, "&", &save); word != NULL; word = strtok_r(NULL, "&", &save)) {
		char *value = strchr(word, '=');

		if (value != NULL) {
			*value++ = '\0';
		}
		if (!url_decode(word, true) || (value != NULL && !url_decode(value, true))) {
			return false;
		}
		if (pairs_add(r, &r->query, word, value == NULL ? "" : value) != 0) {
			return false;
		}
	}
	return true;
}

/* The bucket that the host names, or NULL. */
static char *bucket_of_host(struct req *r)
{
	const char *host = req_header(r, "Host");
	size_t len = host == NULL ? 0 : strcspn(host, ":"), domain = strlen(r->sim->domain);

	if (domain == 0 || len <= domain + 1 || host[len - domain - 1] != '.' ||
			strncasecmp(host + len - domain, r->sim->domain, domain) != 0) {
		return NULL;
	}
	return talloc_strndup(r, host, len - domain - 1);
}

bool req_parse(struct req *r)
{
	char *copy = talloc_strdup(r, r->raw), *query = copy == NULL ? NULL : strchr(copy, '?'), *slash;

	if (query != NULL) {
		*query++ = '\0';
	}
	if (copy == NULL || copy[0] != '/' || !url_decode(copy, false) || (query != NULL && !parse_query(r, query))) {
		r->bucket_name = r->key = "";
		return answer_error(r, "InvalidURI", NULL);
	}
	r->bucket_name = bucket_of_host(r);
	r->key = copy + 1;
	if (r->bucket_name == NULL) {
		slash = strchr(copy + 1, '/');
		r->bucket_name = copy + 1;
		r->key = slash == NULL ? "" : slash + 1;
		if (slash != NULL) {
			*slash = '\0';
		}
	}
	if (strlen(r->key) > KEY_MAX_BYTES) {
		return answer_error(r, "KeyTooLongError", NULL);
	}
	return true;
}

static bool is_one_of(const char *name, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(name, list[i]) == 0) {
			return true;
		}
	}
	return false;
}

/* Has it a parameter that is no detail of a listing? */
static bool has_configuration(const struct req *r)
{
	for (unsigned i = 0; i < r->query.count; i++) {
		if (!is_one_of(r->query.list[i].name, plain, sizeof(plain) / sizeof(plain[0]))) {
			return true;
		}
	}
	return false;
}

static bool fits(const struct req *r, const struct op *o, char on)
{
	if (o->on != on || strcmp(o->method, r->method) != 0 || (o->header != NULL && req_header(r, o->header) == NULL)) {
		return false;
	}
	return o->param == NULL || (strcmp(o->param, "*") == 0 ? has_configuration(r) : req_param(r, o->param) != NULL);
}

bool req_route(struct req *r)
{
	char on = r->bucket_name[0] == '\0' ? 's' : r->key[0] == '\0' ? 'b' : 'k';

	for (unsigned i = 0; i < r->query.count && on == 'k'; i++) {
		if (is_one_of(r->query.list[i].name, absent, sizeof(absent) / sizeof(absent[0]))) {
			return answer_error(r, "NotImplemented", NULL);
		}
	}
	for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]) && r->op == NULL; i++) {
		r->op = fits(r, &ops[i], on) ? &ops[i] : NULL;
	}
	if (r->op == NULL) {
		return answer_error(r, "MethodNotAllowed", NULL);
	}
	r->bucket = store_bucket(r->sim->store, r->bucket_name);
	return true;
}
