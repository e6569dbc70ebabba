/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: CopyObject, and the source of every copy.
 *
 * Way:    server.c -> op_copy; multipart.c asks for sources too.
 * Thread: one; the MD5 of what came in parts is computed at once, while others wait.
 * Holds:  1. A copy shares its source's bytes: they are immutable.
 *         2. A copy is one object: its ETag is the MD5 of its bytes, whatever the source's was.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "req.h"
#include <string.h>
#include <strings.h>

#define SOURCE_MAX_BYTES (5LL << 30)
#define STEP_BYTES (256u << 10)

/* "/bucket/key?versionId=...", encoded. */
static struct version *find_source(struct req *r)
{
	char *text = talloc_strdup(r, req_header(r, "x-amz-copy-source")), *id, *key;
	struct bucket *b;
	struct version *v;

	if (text == NULL) {
		answer_error(r, "InternalError", NULL);
		return NULL;
	}
	id = strstr(text, "?versionId=");
	if (id != NULL) {
		*id = '\0';
		id += strlen("?versionId=");
	}
	text += text[0] == '/';
	key = strchr(text, '/');
	if (key == NULL || !url_decode(text, false) || (id != NULL && !url_decode(id, false))) {
		answer_error(r, "InvalidArgument", NULL);
		return NULL;
	}
	key = strchr(text, '/'); /* it may have moved */
	*key++ = '\0';
	b = store_bucket(r->sim->store, text);
	if (b == NULL) {
		answer_error(r, "NoSuchBucket", NULL);
		return NULL;
	}
	v = id != NULL ? bucket_version(b, key, id) : bucket_current(b, key);
	if (v == NULL || v->marker) {
		answer_error(r, v != NULL ? "InvalidRequest" : id != NULL ? "NoSuchVersion" : "NoSuchKey", NULL);
		return NULL;
	}
	return v;
}

struct version *copy_source(struct req *r)
{
	bool part = strcmp(r->op->name, "UploadPartCopy") == 0;
	bool honoured = (r->sim->set.honours & (part ? HONOURS_PART_SOURCE : HONOURS_SOURCE)) != 0;
	struct version *v = find_source(r);

	if (v == NULL || (honoured && !condition_source(r, v)) || !about_opens(r, &v->about, "copy-source-")) {
		return NULL;
	}
	if (about_archived(v, now_ns(r->sim))) {
		answer_error(r, part ? "InvalidObjectState" : "ObjectNotInActiveTierError", NULL);
		return NULL;
	}
	if (v->key->bucket->versioning != VERSIONS_NEVER) {
		answer_header(r, "x-amz-copy-source-version-id", "%s", v->id);
	}
	return v;
}

static bool is_replace(const struct req *r, const char *header)
{
	const char *value = req_header(r, header);

	return value != NULL && strcmp(value, "REPLACE") == 0;
}

/* Metadata and tags: the source's, or those that were sent. */
static bool describe(struct req *r, struct version *v, const struct version *source)
{
	struct about sent = { 0 }, *a = &v->about;

	if (!about_read(r, v, &sent)) {
		return false;
	}
	if (about_copy(v, a, &source->about) != 0) {
		return answer_error(r, "InternalError", NULL);
	}
	if (is_replace(r, "x-amz-metadata-directive")) {
		a->headers = sent.headers;
	}
	if (is_replace(r, "x-amz-tagging-directive")) {
		a->tags = sent.tags;
	}
	a->storage_class = sent.storage_class;
	a->sse = sent.sse;
	a->sse_key = sent.sse_key;
	a->bucket_key = sent.bucket_key;
	a->customer_md5 = sent.customer_md5;
	return true;
}

bool object_measure(struct req *r, const struct body *b, enum digest_kind kind, char etag[33],
		char sum[DIGEST_TEXT_BYTES])
{
	struct digest md5 = { 0 }, other = { 0 };
	uint8_t *buffer = talloc_size(r, STEP_BYTES), value[EVP_MAX_MD_SIZE];
	bool good = buffer != NULL && digest_begin(&md5, DIGEST_MD5) && digest_begin(&other, kind);
	size_t n;

	for (int64_t at = 0; good && at < b->size; at += (int64_t)n) {
		n = body_read(b, at, buffer, STEP_BYTES);
		digest_add(&md5, buffer, n);
		digest_add(&other, buffer, n);
	}
	if (good) {
		digest_hex(value, digest_end(&md5, value), etag);
		digest_base64(value, digest_end(&other, value), sum);
	}
	digest_fini(&md5);
	digest_fini(&other);
	talloc_free(buffer);
	return good || answer_error(r, "InternalError", NULL);
}

static bool plain_md5(const struct version *v)
{
	return strlen(v->etag) == 32 && v->about.customer_md5 == NULL && strcmp(v->about.sse, "AES256") == 0 &&
	       !v->about.sum_of_parts && v->about.sum != NULL;
}

/* A copy of something to itself that changes nothing. */
static bool changes_nothing(const struct req *r, const struct version *source)
{
	return source->key->bucket == r->bucket && strcmp(source->key->name, r->key) == 0 &&
	       source == source->key->newest && !is_replace(r, "x-amz-metadata-directive") &&
	       !is_replace(r, "x-amz-tagging-directive") && req_header(r, "x-amz-storage-class") == NULL &&
	       req_header(r, "x-amz-server-side-encryption") == NULL &&
	       req_header(r, "x-amz-server-side-encryption-customer-algorithm") == NULL;
}

static void answer_copy(struct req *r, const struct version *v)
{
	FILE *f = answer_open(r);
	char when[40];

	if (f == NULL) {
		return;
	}
	time_iso(v->mtime_ns, when);
	fputs("<CopyObjectResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", f);
	xml_element(f, "LastModified", when);
	fprintf(f, "<ETag>&quot;%s&quot;</ETag></CopyObjectResult>", v->etag);
	answer_sealed(r, &v->about);
	answer_close(r, f, 200);
}

void op_copy(struct req *r)
{
	struct version *source = copy_source(r), *v;
	char etag[33], sum[DIGEST_TEXT_BYTES];

	if (source == NULL || !condition_write(r, (r->sim->set.honours & HONOURS_COPY) != 0)) {
		return;
	}
	if (source->body->size > SOURCE_MAX_BYTES || changes_nothing(r, source)) {
		answer_error(r, "InvalidRequest", NULL);
		return;
	}
	v = version_new(r->bucket, now_ns(r->sim));
	if (v == NULL || !describe(r, v, source)) {
		talloc_free(v);
		answer_error(r, "InternalError", NULL);
		return;
	}
	v->body = body_new(v);
	if (v->body == NULL || body_share(v->body, source->body, 0, source->body->size) != 0) {
		talloc_free(v);
		answer_error(r, "InternalError", NULL);
		return;
	}
	if (plain_md5(source)) {
		snprintf(etag, sizeof(etag), "%s", source->etag);
	} else if (object_measure(r, v->body, v->about.sum_kind, etag, sum)) {
		v->about.sum = talloc_strdup(v, sum);
		v->about.sum_of_parts = false;
	} else {
		talloc_free(v);
		return;
	}
	about_etag(r, &v->about, etag);
	v->etag = talloc_strdup(v, etag);
	if (v->etag != NULL && object_put(r, v)) {
		answer_copy(r, v);
	}
}
