/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what is said of an object beside its bytes: headers, metadata, tags, class, encryption; and what follows.
 *
 * Way:    object.c, copy.c and multipart.c, from a request's headers to a version.
 * Thread: one.
 * Holds:  1. Nothing is really encrypted: what was asked for is remembered, and a customer's key is checked by its MD5.
 *         2. An archived object's bytes can be read only between a restore's end and its expiry.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "req.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define META "x-amz-meta-"
#define META_MAX_BYTES 2048u
#define TAGS_MAX 10u

static const char *const kept[] = { "Content-Type", "Cache-Control", "Content-Disposition", "Content-Encoding",
	"Content-Language", "Expires", "x-amz-website-redirect-location" };
static const char *const classes[] = { "STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA",
	"INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE" };

struct reading {
	struct about *about;
	TALLOC_CTX *ctx;
	size_t bytes;
	bool failed;
};

/* "aws-chunked" was of the way, not of the object. */
static const char *without_chunked(TALLOC_CTX *ctx, const char *value)
{
	char *copy = talloc_strdup(ctx, value), *all = talloc_strdup(ctx, ""), *save = NULL;

	for (char *word = strtok_r(copy, ", ", &save); word != NULL && all != NULL; word = strtok_r(NULL, ", ", &save)) {
		if (strcasecmp(word, "aws-chunked") != 0) {
			all = talloc_asprintf_append(all, "%s%s", all[0] == '\0' ? "" : ",", word);
		}
	}
	return all;
}

static enum MHD_Result take_header(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct reading *x = arg;
	char lower[256];
	size_t len = strlen(name);

	(void)kind;
	if (strncasecmp(name, META, strlen(META)) == 0 && len < sizeof(lower)) {
		for (size_t i = 0; i <= len; i++) {
			lower[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
		}
		x->bytes += len - strlen(META) + strlen(value);
		x->failed = x->failed || pairs_add(x->ctx, &x->about->headers, lower, value) != 0;
		return MHD_YES;
	}
	for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		if (strcasecmp(name, kept[i]) != 0) {
			continue;
		}
		if (strcasecmp(name, "Content-Encoding") == 0) {
			value = without_chunked(x->ctx, value);
		}
		if (value != NULL && value[0] != '\0') {
			x->failed = x->failed || pairs_add(x->ctx, &x->about->headers, kept[i], value) != 0;
		}
	}
	return MHD_YES;
}

bool tags_parse(struct req *r, TALLOC_CTX *ctx, struct pairs *tags, const char *text)
{
	char *copy = talloc_strdup(ctx, text), *save = NULL;

	for (char *word = strtok_r(copy, "&", &save); word != NULL; word = strtok_r(NULL, "&", &save)) {
		char *value = strchr(word, '=');

		if (value != NULL) {
			*value++ = '\0';
		}
		if (!url_decode(word, true) || (value != NULL && !url_decode(value, true)) || word[0] == '\0' ||
				pairs_get(tags, word) != NULL || tags->count == TAGS_MAX) {
			return answer_error(r, "InvalidTag", NULL);
		}
		if (pairs_add(ctx, tags, word, value == NULL ? "" : value) != 0) {
			return answer_error(r, "InternalError", NULL);
		}
	}
	return true;
}

static bool read_class(struct req *r, TALLOC_CTX *ctx, struct about *a)
{
	const char *value = req_header(r, "x-amz-storage-class");

	for (unsigned i = 0; value != NULL && i < sizeof(classes) / sizeof(classes[0]); i++) {
		if (strcmp(value, classes[i]) == 0) {
			a->storage_class = i == 0 ? NULL : talloc_strdup(ctx, value);
			return true;
		}
	}
	return value == NULL || answer_error(r, "InvalidStorageClass", NULL);
}

/* The MD5 of a customer's key, which must be that of the key. NULL: none was sent, or answered. */
static const char *customer_md5(struct req *r, const char *whose)
{
	char name[96];
	const char *key, *md5;
	uint8_t bytes[64], value[EVP_MAX_MD_SIZE];
	char text[DIGEST_TEXT_BYTES];

	snprintf(name, sizeof(name), "x-amz-%sserver-side-encryption-customer-key", whose);
	key = req_header(r, name);
	snprintf(name, sizeof(name), "x-amz-%sserver-side-encryption-customer-key-MD5", whose);
	md5 = req_header(r, name);
	if (key == NULL && md5 == NULL) {
		return NULL;
	}
	if (key == NULL || md5 == NULL || strlen(key) != 44 || EVP_DecodeBlock(bytes, (const uint8_t *)key, 44) != 33 ||
			EVP_Digest(bytes, 32, value, NULL, EVP_md5(), NULL) != 1) {
		answer_error(r, "InvalidArgument", NULL);
		return NULL;
	}
	digest_base64(value, 16, text);
	if (strcmp(text, md5) != 0) {
		answer_error(r, "InvalidArgument", NULL);
		return NULL;
	}
	return md5;
}

/* Encryption, as headers or the bucket say it. false: answered. */
static bool about_seal(struct req *r, TALLOC_CTX *ctx, struct about *a)
{
	const char *sse = req_header(r, "x-amz-server-side-encryption");
	const char *key = req_header(r, "x-amz-server-side-encryption-aws-kms-key-id");
	const char *bucket_key = req_header(r, "x-amz-server-side-encryption-bucket-key-enabled");
	const char *md5 = customer_md5(r, "");

	if (r->status != 0) {
		return false;
	}
	if (sse != NULL && strcmp(sse, "AES256") != 0 && strcmp(sse, "aws:kms") != 0 && strcmp(sse, "aws:kms:dsse") != 0) {
		return answer_error(r, "InvalidArgument", NULL);
	}
	if (md5 != NULL && sse != NULL) {
		return answer_error(r, "InvalidArgument", NULL);
	}
	if (sse != NULL && strncmp(sse, "aws:kms", 7) == 0 && key == NULL) {
		key = "arn:aws:kms:us-east-1:000000000000:key/aws-s3";
	}
	a->customer_md5 = md5 == NULL ? NULL : talloc_strdup(ctx, md5);
	a->sse = talloc_strdup(ctx, sse == NULL ? "AES256" : sse);
	a->sse_key = key == NULL ? NULL : talloc_strdup(ctx, key);
	a->bucket_key = bucket_key != NULL && strcmp(bucket_key, "true") == 0;
	return a->sse != NULL || answer_error(r, "InternalError", NULL);
}

bool about_read(struct req *r, TALLOC_CTX *ctx, struct about *a)
{
	struct reading x = { .about = a, .ctx = ctx };
	const char *tags = req_header(r, "x-amz-tagging");

	MHD_get_connection_values(r->conn, MHD_HEADER_KIND, take_header, &x);
	if (pairs_get(&a->headers, "Content-Type") == NULL) {
		x.failed = x.failed || pairs_add(ctx, &a->headers, "Content-Type", "binary/octet-stream") != 0;
	}
	if (x.failed) {
		return answer_error(r, "InternalError", NULL);
	}
	if (x.bytes > META_MAX_BYTES) {
		return answer_error(r, "MetadataTooLarge", NULL);
	}
	return (tags == NULL || tags_parse(r, ctx, &a->tags, tags)) && read_class(r, ctx, a) && about_seal(r, ctx, a);
}

bool about_opens(struct req *r, const struct about *a, const char *whose)
{
	const char *md5 = customer_md5(r, whose);

	if (r->status != 0) {
		return false;
	}
	if ((md5 == NULL) != (a->customer_md5 == NULL)) {
		return answer_error(r, "InvalidRequest", NULL);
	}
	return md5 == NULL || strcmp(md5, a->customer_md5) == 0 || answer_error(r, "AccessDenied", NULL);
}

bool about_archived(const struct version *v, int64_t now)
{
	const char *class = v->about.storage_class;

	if (class == NULL || (strcmp(class, "GLACIER") != 0 && strcmp(class, "DEEP_ARCHIVE") != 0)) {
		return false;
	}
	return v->restored_ns == 0 || now < v->restored_ns || now >= v->restored_until_ns;
}

bool about_readable(struct req *r, const struct version *v)
{
	char *more;

	if (!about_archived(v, now_ns(r->sim))) {
		return true;
	}
	more = talloc_asprintf(r, "<StorageClass>%s</StorageClass>", v->about.storage_class);
	return answer_error(r, "InvalidObjectState", more);
}

void about_etag(struct req *r, const struct about *a, char *etag)
{
	struct digest d = { 0 };
	uint8_t value[EVP_MAX_MD_SIZE];

	if ((a->customer_md5 == NULL && strncmp(a->sse, "aws:kms", 7) != 0) || !digest_begin(&d, DIGEST_MD5)) {
		return;
	}
	digest_add(&d, etag, 32);
	digest_add(&d, r->id, strlen(r->id));
	digest_hex(value, digest_end(&d, value), etag);
	digest_fini(&d);
}
