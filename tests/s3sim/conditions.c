/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: conditions on requests, exactly as S3 has them, or as a store that honours less.
 *
 *   write        there                 not there
 *   If-None-Match: *   412             goes on; 409 if it was deleted while this request was on its way
 *   If-Match: E  goes on, or 412       404
 *
 * Way:    operations, in the moment in which they take effect: nothing comes between.
 * Thread: one.
 * Holds:  1. Source: Amazon S3 user guide, "Add preconditions to S3 operations with conditional requests" and the
 *            pages below it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "req.h"
#include <string.h>
#include <time.h>

static const struct {
	const char *name;
	unsigned honours;
} fences[] = {
	{ "f3", HONOURS_PUT | HONOURS_COMPLETE | HONOURS_COPY | HONOURS_SOURCE | HONOURS_DELETE | HONOURS_PART_SOURCE },
	{ "f2", HONOURS_PUT },
	{ "f1", 0 }, /* with versioning */
	{ "f0", 0 },
};

bool settings_fence(struct settings *set, const char *name)
{
	for (unsigned i = 0; i < sizeof(fences) / sizeof(fences[0]); i++) {
		if (strcmp(name, fences[i].name) == 0) {
			set->honours = fences[i].honours;
			return true;
		}
	}
	return false;
}

bool etag_matches(const char *header, const char *etag)
{
	size_t len = strlen(header);

	if (strcmp(header, "*") == 0) {
		return true;
	}
	if (len >= 2 && header[0] == '"' && header[len - 1] == '"') {
		header++;
		len -= 2;
	}
	return len == strlen(etag) && strncmp(header, etag, len) == 0;
}

static bool failed(struct req *r, const char *condition)
{
	char *more = talloc_asprintf(r, "<Condition>%s</Condition>", condition);

	return answer_error(r, "PreconditionFailed", more);
}

bool condition_write(struct req *r, bool honoured)
{
	const char *match = req_header(r, "If-Match"), *none = req_header(r, "If-None-Match");
	const struct version *v = bucket_current(r->bucket, r->key);

	if (!honoured) {
		return true;
	}
	if (none != NULL && (strcmp(none, "*") != 0 || match != NULL)) {
		return answer_error(r, "NotImplemented", NULL);
	}
	if (none != NULL && v != NULL) {
		return failed(r, "If-None-Match");
	}
	if (none != NULL && r->deleted_meanwhile) {
		return answer_error(r, "ConditionalRequestConflict", "<Condition>If-None-Match</Condition>");
	}
	if (match != NULL && v == NULL) {
		return answer_error(r, "NoSuchKey", NULL);
	}
	if (match == NULL) {
		return true;
	}
	if (r->sim->set.bare_etags ? strcmp(match, v->etag) != 0 : !etag_matches(match, v->etag)) {
		return failed(r, "If-Match");
	}
	return true;
}

/* -1: there is none, or it is no date. */
static int64_t date_header(const struct req *r, const char *name)
{
	const char *text = req_header(r, name);
	struct tm tm = { 0 };

	if (text == NULL || strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm) == NULL) {
		return -1;
	}
	return (int64_t)timegm(&tm);
}

bool condition_read(struct req *r, const struct version *v)
{
	const char *match = req_header(r, "If-Match"), *none = req_header(r, "If-None-Match");
	int64_t since = date_header(r, "If-Modified-Since"), until = date_header(r, "If-Unmodified-Since");
	int64_t mtime = v->mtime_ns / 1000000000;

	if (match != NULL ? !etag_matches(match, v->etag) : until >= 0 && mtime > until) {
		return failed(r, match != NULL ? "If-Match" : "If-Unmodified-Since");
	}
	if (none != NULL ? etag_matches(none, v->etag) : since >= 0 && mtime <= since) {
		r->status = 304;
		answer_header(r, "ETag", "\"%s\"", v->etag);
		return false;
	}
	return true;
}

bool condition_source(struct req *r, const struct version *v)
{
	const char *match = req_header(r, "x-amz-copy-source-if-match");
	const char *none = req_header(r, "x-amz-copy-source-if-none-match");
	int64_t since = date_header(r, "x-amz-copy-source-if-modified-since");
	int64_t until = date_header(r, "x-amz-copy-source-if-unmodified-since");
	int64_t mtime = v->mtime_ns / 1000000000;

	if (match != NULL ? !etag_matches(match, v->etag) : until >= 0 && mtime > until) {
		return failed(r, match != NULL ? "x-amz-copy-source-If-Match" : "x-amz-copy-source-If-Unmodified-Since");
	}
	if (none != NULL ? etag_matches(none, v->etag) : since >= 0 && mtime <= since) {
		return failed(r, none != NULL ? "x-amz-copy-source-If-None-Match"
					      : "x-amz-copy-source-If-Modified-Since");
	}
	return true;
}
