/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From a request of ours to one of S3's; body.c sends its body.
 *
 * Way:    engine.c, for each attempt.
 * Thread: the store's.
 * Owns:   the header list of the attempt, freed by engine.c.
 * Holds:  1. The signature covers what is sent: path, query and headers are built once, for both.
 *         2. A key is never normalised on the way ("..", "//" and "+" are bytes like others).
 *         3. A conditional mutation without a body, and what begins an upload, gets a connection of its own:
 *            libcurl would send it twice by itself.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "s3.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "sigv4.h"
#include "xml.h"

#define BUFFER_BYTES (512L << 10)
#define IDLE_CONNECTION_S 4L
#define HEADERS_MAX (24u + OBJ_META_MAX_BYTES)

struct wire {
	const char *method;
	char *host, *path, *query;
	struct { /* all that is sent, and whether it is signed */
		char *name, *value;
		bool sign;
	} *headers;
	unsigned count;
	bool oom;
};

__attribute__((format(printf, 4, 5))) static void header(
		struct wire *w, const char *name, bool sign, const char *fmt, ...)
{
	va_list ap;
	char *value = NULL;

	va_start(ap, fmt);
	if (vasprintf(&value, fmt, ap) < 0) {
		value = NULL;
	}
	va_end(ap);
	if (value == NULL || w->count == HEADERS_MAX) {
		free(value);
		w->oom = true;
		return;
	}
	w->headers[w->count].name = strdup(name);
	w->headers[w->count].value = value;
	w->headers[w->count].sign = sign;
	w->oom = w->oom || w->headers[w->count].name == NULL;
	w->count++;
}

/* Name=value, to be called in order of names. */
static void query(struct wire *w, const char *name, const char *value)
{
	char *enc = sigv4_encode(value, false);
	char *grown = NULL;

	if (enc == NULL || asprintf(&grown, "%s%s%s=%s", w->query == NULL ? "" : w->query,
				   w->query == NULL ? "" : "&", name, enc) < 0) {
		w->oom = true;
		grown = NULL;
	}
	free(enc);
	free(w->query);
	w->query = grown;
}

static void wire_fini(struct wire *w)
{
	for (unsigned i = 0; i < w->count; i++) {
		free(w->headers[i].name);
		explicit_bzero(w->headers[i].value, strlen(w->headers[i].value)); /* a token, a customer's key */
		free(w->headers[i].value);
	}
	free(w->headers);
	free(w->host);
	free(w->path);
	free(w->query);
}

static void make_path(struct wire *w, const struct s3_store *s, const char *key)
{
	char *enc = sigv4_encode(key, true);
	int ret = -1;

	if (enc != NULL && s->virtual_host) {
		ret = asprintf(&w->path, "/%s", enc);
	} else if (enc != NULL) {
		ret = asprintf(&w->path, "/%s%s%s", s->bucket, key[0] == '\0' ? "" : "/", enc);
	}
	if (ret < 0) {
		w->path = NULL;
		w->oom = true;
	}
	free(enc);
}

static void customer_key(struct wire *w, const struct s3_sse *sse, const char *whose)
{
	static const char *const ends[] = {"algorithm", "key", "key-md5"};
	const char *const values[] = {"AES256", sse->key, sse->key_md5};
	char name[96];

	for (unsigned i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "x-amz-%sserver-side-encryption-customer-%s", whose, ends[i]);
		header(w, name, true, "%s", values[i]);
	}
}

/* As the volume says; says it nothing, as the request does. */
static void encryption(struct wire *w, const struct s3_sse *sse)
{
	switch (sse->kind) {
	case OBJ_SSE_S3:
		header(w, obj_prop_names[OBJ_PROP_sse].header, true, "AES256");
		break;
	case OBJ_SSE_KMS:
		header(w, obj_prop_names[OBJ_PROP_sse].header, true, "aws:kms");
		if (sse->kms_key != NULL) {
			header(w, obj_prop_names[OBJ_PROP_sse_key].header, true, "%s", sse->kms_key);
		}
		if (sse->bucket_key) {
			header(w, obj_prop_names[OBJ_PROP_bucket_key].header, true, "true");
		}
		break;
	case OBJ_SSE_CUSTOMER:
		customer_key(w, sse, "");
		break;
	default:
		break;
	}
}

static void describe_object(struct wire *w, const struct s3_store *s, const struct obj_req *req, bool chunked)
{
	char name[OBJ_META_MAX_BYTES + 16];

	encryption(w, &s->sse);

	for (unsigned i = 0; i < OBJ_PROP_MAX; i++) {
		bool sealed = i == OBJ_PROP_sse || i == OBJ_PROP_sse_key || i == OBJ_PROP_bucket_key;

		if (i == OBJ_PROP_content_encoding && chunked) {
			header(w, "content-encoding", true, "aws-chunked%s%s", req->props[i] ? "," : "",
					req->props[i] ? req->props[i] : "");
			continue;
		}
		if (req->props[i] != NULL && !(sealed && s->sse.kind != OBJ_SSE_NONE)) {
			header(w, obj_prop_names[i].header, true, "%s", req->props[i]);
		}
	}
	for (unsigned i = 0; i < req->meta_count; i++) {
		snprintf(name, sizeof(name), "x-amz-meta-%s", req->meta[i].name);
		header(w, name, true, "%s", req->meta[i].value);
	}
}

static void conditions(struct s3_xfer *x, struct wire *w)
{
	struct obj_req *req = x->req;

	if (req->if_none_match) {
		header(w, "if-none-match", false, "*");
	}
	if (req->if_match == NULL) {
		return;
	}
	x->bare = req->op != OBJ_GET && req->op != OBJ_HEAD &&
		  (x->s->if_match_form == S3_ETAG_BARE || x->bare_tried);
	header(w, "if-match", false, x->bare ? "%s" : "\"%s\"", req->if_match);
}

static void build_list(struct wire *w, const struct obj_req *req)
{
	char text[16];

	if (req->token != NULL) {
		query(w, "continuation-token", req->token);
	}
	if (req->delimiter != 0) {
		snprintf(text, sizeof(text), "%c", req->delimiter);
		query(w, "delimiter", text);
	}
	query(w, "encoding-type", "url");
	query(w, "list-type", "2");
	snprintf(text, sizeof(text), "%d", req->max_keys == 0 ? 1000 : req->max_keys);
	query(w, "max-keys", text);
	query(w, "prefix", req->key);
	if (req->after != NULL && req->token == NULL) {
		query(w, "start-after", req->after);
	}
}

static void build_versions(struct wire *w, const struct obj_req *req)
{
	char text[16];

	query(w, "encoding-type", "url");
	if (req->token != NULL) {
		query(w, "key-marker", req->key);
	}
	snprintf(text, sizeof(text), "%d", req->max_keys == 0 ? 1000 : req->max_keys);
	query(w, "max-keys", text);
	query(w, "prefix", req->key);
	if (req->token != NULL) {
		query(w, "version-id-marker", req->token);
	}
	query(w, "versions", "");
}

/* Encoded keys are not announced as such by every store: as they are. The token: s3_uploads_parse. */
static void build_uploads(struct wire *w, const struct obj_req *req)
{
	const char *key = req->token != NULL ? strchr(req->token, '\n') : NULL;
	char *id = key != NULL ? strndup(req->token, (size_t)(key - req->token)) : NULL;
	char text[16];

	w->oom = w->oom || (req->token != NULL && id == NULL);
	if (id != NULL) {
		query(w, "key-marker", key + 1);
	}
	snprintf(text, sizeof(text), "%d", req->max_keys == 0 ? 1000 : req->max_keys);
	query(w, "max-uploads", text);
	query(w, "prefix", req->key);
	if (id != NULL) {
		query(w, "upload-id-marker", id);
	}
	query(w, "uploads", "");
	free(id);
}

static void build_get(struct s3_xfer *x, struct wire *w)
{
	struct obj_req *req = x->req;
	int64_t from = req->offset + x->got;

	w->method = "GET";
	if (x->s->sse.kind == OBJ_SSE_CUSTOMER && !x->no_key) {
		customer_key(w, &x->s->sse, "");
	}
	if (req->version_id != NULL) {
		query(w, "versionId", req->version_id);
	}
	if (x->confirm) {
		header(w, "range", false, "bytes=0-0");
		return;
	}
	if (x->got > 0 && req->if_match == NULL && x->pinned != NULL) {
		header(w, "if-match", false, "\"%s\"", x->pinned); /* go on with the same object */
	}
	conditions(x, w);
	if (!s3_range_asked(x)) {
		if (atomic_load(&x->s->store.sum) != OBJ_SUM_NONE) {
			header(w, "x-amz-checksum-mode", true, "ENABLED");
		}
		return;
	}
	if (req->length >= 0) {
		header(w, "range", false, "bytes=%" PRId64 "-%" PRId64, from,
				req->offset + req->length - 1);
	} else {
		header(w, "range", false, "bytes=%" PRId64 "-", from);
	}
}

/* Which object, or version, and pinned to what. */
static void copy_source(struct s3_xfer *x, struct wire *w)
{
	struct obj_req *req = x->req;
	char *source = sigv4_encode(req->source_key, true);
	char *version = sigv4_encode(
			req->source_version_id == NULL ? "" : req->source_version_id, false);

	if (source == NULL || version == NULL) {
		w->oom = true;
	} else {
		header(w, "x-amz-copy-source", true, "/%s/%s%s%s", x->s->bucket, source,
				version[0] == '\0' ? "" : "?versionId=", version);
	}
	free(source);
	free(version);
	if (req->source_if_match != NULL) {
		header(w, "x-amz-copy-source-if-match", true, "\"%s\"", req->source_if_match);
	}
	if (req->source_customer) {
		customer_key(w, &x->s->sse, "copy-source-");
	}
}

static void build_copy(struct s3_xfer *x, struct wire *w)
{
	struct obj_req *req = x->req;

	w->method = "PUT";
	copy_source(x, w);
	header(w, "x-amz-metadata-directive", true, req->replace_meta ? "REPLACE" : "COPY");
	if (req->tags != NULL) {
		header(w, "x-amz-tagging-directive", true, "REPLACE");
	}
	describe_object(w, x->s, req, false);
	conditions(x, w);
}

static void build_complete(struct s3_xfer *x, struct wire *w)
{
	struct obj_req *req = x->req;
	char *text = NULL, name[64];
	size_t len = 0;
	FILE *f;

	w->method = "POST";
	query(w, "uploadId", req->upload_id);
	header(w, "content-type", true, "application/xml");
	if (x->s->sse.kind == OBJ_SSE_CUSTOMER) {
		/* Amazon S3 API reference, CompleteMultipartUpload: needed for what has checksums; by some stores
		 * (Ceph's of some years) always. */
		customer_key(w, &x->s->sse, "");
	}
	if (req->whole_sum != NULL) {
		snprintf(name, sizeof(name), "x-amz-checksum-%s", sum_name((enum obj_sum)atomic_load(&x->s->store.sum)));
		header(w, name, true, "%s", req->whole_sum);
	}
	if (req->length > 0) {
		header(w, "x-amz-mp-object-size", true, "%" PRId64, req->length); /* no part is left out */
	}
	conditions(x, w);
	if (x->document == NULL) {
		f = open_memstream(&text, &len);
		if (f == NULL) {
			w->oom = true;
			return;
		}
		fputs("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", f);
		for (unsigned i = 0; i < req->part_count; i++) {
			fprintf(f, "<Part><PartNumber>%d</PartNumber><ETag>&quot;", req->parts[i].number);
			for (const char *p = req->parts[i].etag; *p != '\0'; p++) {
				if (*p == '<' || *p == '>' || *p == '&') {
					fprintf(f, "&#%d;", *p);
				} else {
					fputc(*p, f);
				}
			}
			fputs("&quot;</ETag>", f);
			if (req->parts[i].sum != NULL && atomic_load(&x->s->store.sum) == OBJ_SUM_SHA256) {
				fprintf(f, "<ChecksumSHA256>%s</ChecksumSHA256>", req->parts[i].sum);
			}
			fputs("</Part>", f);
		}
		fputs("</CompleteMultipartUpload>", f);
		if (fclose(f) != 0) {
			free(text);
			w->oom = true;
			return;
		}
		x->document = (uint8_t *)text;
	}
	x->mem = x->document;
	x->body_len = (int64_t)strlen((char *)x->document);
}

/* The only request of ours that S3 wants an MD5 with. */
static void build_tags(struct s3_xfer *x, struct wire *w)
{
	uint8_t md5[EVP_MAX_MD_SIZE];
	char base64[32];

	w->method = "PUT";
	query(w, "tagging", "");
	if (x->document == NULL) {
		x->document = (uint8_t *)s3_tags_write(x->req->tags);
	}
	if (x->document == NULL) {
		w->oom = true;
		return;
	}
	x->mem = x->document;
	x->body_len = (int64_t)strlen((char *)x->document);
	if (EVP_Digest(x->mem, (size_t)x->body_len, md5, NULL, EVP_md5(), NULL) != 1) {
		w->oom = true;
		return;
	}
	EVP_EncodeBlock((unsigned char *)base64, md5, 16);
	header(w, "content-md5", true, "%s", base64);
	header(w, "content-type", true, "application/xml");
}

/* Which checksum goes with what is written now. */
static enum obj_sum checksum_kind(const struct s3_store *s, const struct obj_req *req)
{
	return req->sum_probe != OBJ_SUM_PROBE_NONE ? s->store.sum_wanted
						    : (enum obj_sum)atomic_load(&s->store.sum);
}

/* Known before the bytes are sent, in a header; else behind them, where the store takes it there (Amazon S3 user
 * guide: "Checking object integrity", "Signature calculations: trailing headers", unsigned payload). */
static void checksum(struct s3_xfer *x, struct wire *w)
{
	struct obj_req *req = x->req;
	enum obj_sum kind = checksum_kind(x->s, req);
	char name[64], text[OBJ_SUM_TEXT_BYTES];

	x->sum_said[0] = '\0';
	x->chunked = kind != OBJ_SUM_NONE && x->mem == NULL && x->body_len > 0 &&
		     (req->sum_probe == OBJ_SUM_PROBE_TRAILER || atomic_load(&x->s->store.sum_trailer));
	if (kind == OBJ_SUM_NONE || (x->mem == NULL && !x->chunked)) {
		sum_begin(&x->sum, OBJ_SUM_NONE);
		return;
	}
	if (!sum_begin(&x->sum, kind)) {
		w->oom = true;
		return;
	}
	snprintf(name, sizeof(name), "x-amz-checksum-%s", sum_name(kind));
	if (x->chunked) {
		header(w, "x-amz-trailer", true, "%s", name);
		header(w, "x-amz-decoded-content-length", true, "%" PRId64, x->body_len);
		return;
	}
	sum_add(&x->sum, req->sum_probe == OBJ_SUM_PROBE_WRONG ? (const uint8_t *)"" : x->mem,
			req->sum_probe == OBJ_SUM_PROBE_WRONG ? 0 : (size_t)x->body_len);
	sum_text(&x->sum, text);
	header(w, name, true, "%s", text);
	snprintf(x->sum_said, sizeof(x->sum_said), "%s", text);
	sum_begin(&x->sum, OBJ_SUM_NONE);
}

/* Parts come from files: each with its own, or none. Of CRCs the store makes one of the whole object. */
static void announce_checksum(const struct s3_store *s, struct wire *w)
{
	enum obj_sum kind = (enum obj_sum)atomic_load(&s->store.sum);
	const char *name = kind == OBJ_SUM_CRC32C ? "CRC32C" : kind == OBJ_SUM_SHA256 ? "SHA256" : "CRC64NVME";

	if (kind == OBJ_SUM_NONE || !atomic_load(&s->store.sum_trailer)) {
		return;
	}
	header(w, "x-amz-checksum-algorithm", true, "%s", name);
	header(w, "x-amz-checksum-type", true, kind == OBJ_SUM_SHA256 ? "COMPOSITE" : "FULL_OBJECT");
}

/* Of the request's bytes, or (UploadPartCopy) of an object's that the store has. */
static void build_part(struct s3_xfer *x, struct wire *w)
{
	struct obj_req *req = x->req;
	char text[16];

	w->method = "PUT";
	snprintf(text, sizeof(text), "%d", req->part_number);
	query(w, "partNumber", text);
	query(w, "uploadId", req->upload_id);
	if (req->op == OBJ_MPU_COPY) {
		copy_source(x, w);
		if (req->length >= 0) {
			header(w, "x-amz-copy-source-range", true, "bytes=%" PRId64 "-%" PRId64, req->offset,
					req->offset + req->length - 1);
		}
	} else {
		checksum(x, w);
	}
	if (x->chunked) {
		header(w, "content-encoding", true, "aws-chunked");
	}
	if (x->s->sse.kind == OBJ_SSE_CUSTOMER) {
		customer_key(w, &x->s->sse, "");
	}
}

static void build_op(struct s3_xfer *x, struct wire *w)
{
	struct obj_req *req = x->req;

	x->chunked = false;
	if (req->op == OBJ_PUT || req->op == OBJ_MPU_PART) {
		x->mem = req->fd < 0 ? (req->body == NULL ? (const uint8_t *)"" : req->body) : NULL;
		x->body_len = req->length;
	}

	switch (req->op) {
	case OBJ_HEAD:
		w->method = "HEAD";
		if (x->confirm) {
			build_get(x, w);
			break;
		}
		if (x->s->sse.kind == OBJ_SSE_CUSTOMER && !x->no_key) {
			customer_key(w, &x->s->sse, "");
		}
		if (req->version_id != NULL) {
			query(w, "versionId", req->version_id);
		}
		if (req->wants_sum && atomic_load(&x->s->store.sum) != OBJ_SUM_NONE) {
			header(w, "x-amz-checksum-mode", true, "ENABLED");
		}
		conditions(x, w);
		break;
	case OBJ_GET:
		build_get(x, w);
		break;
	case OBJ_PUT:
		w->method = "PUT";
		checksum(x, w);
		describe_object(w, x->s, req, x->chunked);
		conditions(x, w);
		break;
	case OBJ_MPU_PART:
	case OBJ_MPU_COPY:
		build_part(x, w);
		break;
	case OBJ_COPY:
		build_copy(x, w);
		break;
	case OBJ_DELETE:
		w->method = "DELETE";
		conditions(x, w);
		break;
	case OBJ_LIST:
		w->method = "GET";
		build_list(w, req);
		break;
	case OBJ_VERSIONS:
		w->method = "GET";
		build_versions(w, req);
		break;
	case OBJ_UPLOADS:
		w->method = "GET";
		build_uploads(w, req);
		break;
	case OBJ_VERSIONING:
		w->method = "GET";
		query(w, "versioning", "");
		break;
	case OBJ_MPU_CREATE:
		w->method = "POST";
		query(w, "uploads", "");
		announce_checksum(x->s, w);
		describe_object(w, x->s, req, false);
		break;
	case OBJ_MPU_COMPLETE:
		build_complete(x, w);
		break;
	case OBJ_TAGS:
		w->method = "GET";
		query(w, "tagging", "");
		break;
	case OBJ_SET_TAGS:
		build_tags(x, w);
		break;
	default:
		w->method = "DELETE";
		query(w, "uploadId", req->upload_id);
		break;
	}
}

/* Sign, and turn the headers into curl's list. */
static int sign(struct s3_xfer *x, struct wire *w)
{
	struct s3_store *s = x->s;
	char payload[65], date[SIGV4_DATE_BYTES];
	struct sigv4_header *signed_headers;
	struct sigv4_request r = {
		.method = w->method,
		.path = w->path,
		.query = w->query == NULL ? "" : w->query,
		.payload = payload,
		.date = date,
		.region = s->region,
		.service = "s3",
		.access_key = s->login.creds.access_key,
		.secret_key = s->login.creds.secret_key,
	};
	char *authorization = NULL;

	x->signed_body = x->body_len == 0 || (x->mem != NULL && x->body_len <= S3_SIGNED_BODY_MAX_BYTES);
	if (x->signed_body) {
		sigv4_sha256_hex(x->mem == NULL ? (const uint8_t *)"" : x->mem, (size_t)x->body_len,
				payload);
	} else {
		strcpy(payload, x->chunked ? "STREAMING-UNSIGNED-PAYLOAD-TRAILER" : SIGV4_UNSIGNED);
	}
	sigv4_date(time(NULL) + s->clock_offset_s, date);
	if (s->request_payer) {
		header(w, "x-amz-request-payer", true, "requester");
	}
	header(w, "host", true, "%s", w->host);
	header(w, "x-amz-content-sha256", true, "%s", payload);
	header(w, "x-amz-date", true, "%s", date);
	if (s->login.creds.session_token[0] != '\0') {
		header(w, "x-amz-security-token", true, "%s", s->login.creds.session_token);
	}
	x->login = s->login.generation;
	signed_headers = calloc(w->count, sizeof(*signed_headers));
	if (signed_headers == NULL || w->oom) {
		free(signed_headers);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < w->count; i++) {
		if (w->headers[i].sign) {
			signed_headers[r.header_count].name = w->headers[i].name;
			signed_headers[r.header_count++].value = w->headers[i].value;
		}
	}
	r.headers = signed_headers;
	authorization = sigv4_authorization(&r);
	free(signed_headers);
	if (authorization == NULL) {
		return -ENOMEM;
	}
	header(w, "authorization", false, "%s", authorization);
	free(authorization);
	header(w, "expect", false, "%s", ""); /* none: curl would wait for an answer to it */
	for (unsigned i = 0; i < w->count; i++) {
		bool none = strcmp(w->headers[i].name, "expect") == 0;
		bool empty = w->headers[i].value[0] == '\0' && !none;
		struct curl_slist *grown;
		char *line;

		/* curl: "name:" removes a header, "name;" sends it empty */
		if (asprintf(&line, "%s%s%s", w->headers[i].name, empty ? ";" : none ? ":" : ": ",
				    w->headers[i].value) < 0) {
			return -ENOMEM;
		}
		grown = curl_slist_append(x->headers, line);
		explicit_bzero(line, strlen(line));
		free(line);
		if (grown == NULL) {
			return -ENOMEM;
		}
		x->headers = grown;
	}
	return w->oom ? -ENOMEM : 0;
}

static int set_up_curl(struct s3_xfer *x, const struct wire *w)
{
	struct s3_store *s = x->s;
	CURL *c = x->easy;
	/* copies and completions answer when the store has moved the bytes */
	bool moves = x->req->op == OBJ_COPY || x->req->op == OBJ_MPU_COPY || x->req->op == OBJ_MPU_COMPLETE;
	long patience = moves ? 4 : 1;
	bool upload = strcmp(w->method, "PUT") == 0 || strcmp(w->method, "POST") == 0;
	char *url, agent[256];
	int ret;

	if (asprintf(&url, "%s://%s%s%s%s", s->scheme, w->host, w->path,
			    w->query == NULL ? "" : "?", w->query == NULL ? "" : w->query) < 0) {
		return -ENOMEM;
	}
	curl_easy_reset(c);
	x->error[0] = '\0';
	ret = curl_easy_setopt(c, CURLOPT_URL, url) != CURLE_OK ? -ENOMEM : 0;
	free(url);
	curl_easy_setopt(c, CURLOPT_PRIVATE, x);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, x->error);
	curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, x->headers);
	if (x->req->request_id != 0) { /* the store's access log says for whose request of a client */
		snprintf(agent, sizeof(agent), "%.200s req/%llu", s->user_agent,
				(unsigned long long)x->req->request_id);
	}
	curl_easy_setopt(c, CURLOPT_USERAGENT, x->req->request_id != 0 ? agent : s->user_agent);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(c, CURLOPT_MAXAGE_CONN, IDLE_CONNECTION_S);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)(s->timeout_s < 10 ? s->timeout_s : 10));
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)s->timeout_s * patience);
	curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (s->ca_file != NULL && curl_easy_setopt(c, CURLOPT_CAINFO, s->ca_file) != CURLE_OK) {
		ret = -EINVAL;
	}
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, s3_on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, s3_on_data);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
	if (upload) {
		curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
		curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)s3_body_wire_bytes(x));
		curl_easy_setopt(c, CURLOPT_READFUNCTION, s3_on_read);
		curl_easy_setopt(c, CURLOPT_READDATA, x);
		curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, s3_on_seek);
		curl_easy_setopt(c, CURLOPT_SEEKDATA, x);
	}
	if (strcmp(w->method, "HEAD") == 0) {
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	} else if (strcmp(w->method, "POST") == 0 || strcmp(w->method, "DELETE") == 0) {
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, w->method);
	}
	if (x->body_len == 0 && obj_op_mutates(x->req->op) &&
			(obj_req_conditional(x->req) || x->req->op == OBJ_MPU_CREATE)) {
		curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L);
	}
	return ret;
}

int s3_request_build(struct s3_xfer *x)
{
	struct wire w = { 0 };
	int ret;

	x->mem = NULL;
	x->body_len = 0;
	x->abort = S3_ABORT_NONE;
	w.headers = calloc(HEADERS_MAX, sizeof(*w.headers));
	if (w.headers == NULL) {
		return -ENOMEM;
	}
	w.host = s3_endpoint_host(x->s);
	x->endpoint = x->s->endpoint;
	w.oom = w.oom || w.host == NULL;
	make_path(&w, x->s, x->req->op == OBJ_LIST || x->req->op == OBJ_VERSIONS ||
			x->req->op == OBJ_UPLOADS ? "" : x->req->key);
	build_op(x, &w);
	ret = w.oom ? -ENOMEM : sign(x, &w);
	if (ret == 0) {
		ret = s3_body_begin(x);
	}
	if (ret == 0) {
		ret = set_up_curl(x, &w);
	}
	wire_fini(&w);
	return ret;
}
