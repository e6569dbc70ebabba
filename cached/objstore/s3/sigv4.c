/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Signing of requests, after "Authenticating Requests: Using the Authorization Header (AWS
 * Signature Version 4)" in the Amazon S3 API Reference, whose examples are the unit test.
 *
 *   canonical request -> SHA-256 -> string to sign -> HMAC with the key of date, region, service
 *
 * Way:    request.c builds what is signed and sends exactly that.
 * Thread: any; pure.
 * Holds:  1. Keys derived from the secret, and what was signed, are wiped before return.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sigv4.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../impl.h"

#define KEY_BYTES 32u

void sigv4_sha256_hex(const void *data, size_t len, char out[65])
{
	uint8_t md[EVP_MAX_MD_SIZE] = { 0 };

	EVP_Digest(data, len, md, NULL, EVP_sha256(), NULL);
	obj_hex(md, 32, out);
}

void sigv4_date(time_t when, char out[SIGV4_DATE_BYTES])
{
	struct tm tm;

	gmtime_r(&when, &tm);
	strftime(out, SIGV4_DATE_BYTES, "%Y%m%dT%H%M%SZ", &tm);
}

char *sigv4_encode(const char *text, bool keep_slash)
{
	static const char digits[] = "0123456789ABCDEF";
	char *out = malloc(strlen(text) * 3 + 1);
	char *o = out;

	if (out == NULL) {
		return NULL;
	}
	for (const uint8_t *p = (const uint8_t *)text; *p != 0; p++) {
		bool plain = (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') ||
			     (*p >= '0' && *p <= '9') || *p == '-' || *p == '.' || *p == '_' ||
			     *p == '~' || (*p == '/' && keep_slash);

		if (plain) {
			*o++ = (char)*p;
		} else {
			*o++ = '%';
			*o++ = digits[*p >> 4];
			*o++ = digits[*p & 15];
		}
	}
	*o = '\0';
	return out;
}

static int header_cmp(const void *a, const void *b)
{
	return strcmp(((const struct sigv4_header *)a)->name,
			((const struct sigv4_header *)b)->name);
}

/* Trimmed, and runs of spaces as one. */
static void put_value(FILE *f, const char *v)
{
	size_t len;

	v += strspn(v, " ");
	len = strlen(v);
	while (len > 0 && v[len - 1] == ' ') {
		len--;
	}
	for (size_t i = 0; i < len; i++) {
		if (v[i] != ' ' || v[i - 1] != ' ') {
			fputc(v[i], f);
		}
	}
}

static void put_signed_names(FILE *f, const struct sigv4_request *r)
{
	for (unsigned i = 0; i < r->header_count; i++) {
		fprintf(f, "%s%s", i == 0 ? "" : ";", r->headers[i].name);
	}
}

/* Hex SHA-256 of the canonical request; false: out of memory. */
static bool canonical_hash(const struct sigv4_request *r, char out[65])
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (f == NULL) {
		return false;
	}
	fprintf(f, "%s\n%s\n%s\n", r->method, r->path, r->query);
	for (unsigned i = 0; i < r->header_count; i++) {
		fprintf(f, "%s:", r->headers[i].name);
		put_value(f, r->headers[i].value);
		fputc('\n', f);
	}
	fputc('\n', f);
	put_signed_names(f, r);
	fprintf(f, "\n%s", r->payload);
	if (fclose(f) != 0) {
		free(text);
		return false;
	}
	sigv4_sha256_hex(text, len, out);
	OPENSSL_cleanse(text, len); /* a token is in it */
	free(text);
	return true;
}

static void hmac(const void *key, size_t key_len, const char *text, uint8_t out[KEY_BYTES])
{
	unsigned len = KEY_BYTES;

	HMAC(EVP_sha256(), key, (int)key_len, (const uint8_t *)text, strlen(text), out, &len);
}

char *sigv4_authorization(const struct sigv4_request *r)
{
	char hash[65], day[9], signature[65];
	uint8_t key[KEY_BYTES], next[KEY_BYTES];
	char *secret = NULL, *scope = NULL, *text = NULL, *result = NULL;
	size_t len = 0;
	FILE *f;

	qsort(r->headers, r->header_count, sizeof(r->headers[0]), header_cmp);
	snprintf(day, sizeof(day), "%.8s", r->date);
	if (!canonical_hash(r, hash) ||
			asprintf(&scope, "%s/%s/%s/aws4_request", day, r->region, r->service) < 0) {
		scope = NULL;
		goto out;
	}
	if (asprintf(&text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", r->date, scope, hash) < 0) {
		text = NULL;
		goto out;
	}
	if (asprintf(&secret, "AWS4%s", r->secret_key) < 0) {
		secret = NULL;
		goto out;
	}
	hmac(secret, strlen(secret), day, key);
	hmac(key, KEY_BYTES, r->region, next);
	hmac(next, KEY_BYTES, r->service, key);
	hmac(key, KEY_BYTES, "aws4_request", next);
	hmac(next, KEY_BYTES, text, key);
	obj_hex(key, KEY_BYTES, signature);
	f = open_memstream(&result, &len);
	if (f == NULL) {
		goto out;
	}
	fprintf(f, "AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=", r->access_key, scope);
	put_signed_names(f, r);
	fprintf(f, ",Signature=%s", signature);
	if (fclose(f) != 0) {
		free(result);
		result = NULL;
	}
out:
	OPENSSL_cleanse(key, sizeof(key));
	OPENSSL_cleanse(next, sizeof(next));
	if (secret != NULL) {
		OPENSSL_cleanse(secret, strlen(secret));
	}
	free(secret);
	free(scope);
	free(text);
	return result;
}
