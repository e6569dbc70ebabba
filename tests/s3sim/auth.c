/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: is a request signed with a key that may do this? (Amazon S3 API reference, "Authenticating Requests: Using
 * the Authorization Header (AWS Signature Version 4)"; written apart from the product's signing)
 *
 * Way:    server.c, before anything else of the request is believed.
 * Thread: one.
 * Owns:   keys, with the signing key of the day derived from each.
 * Holds:  1. Host and every x-amz- header must be signed, as S3 wants it.
 *         2. Secrets are told to nobody: neither in answers nor in the log.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "req.h"
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define SKEW_S 900

struct claim { /* what the header says */
	char *access, *day, *region, *names, *signature;
};

struct credential *credential_add(struct sim *s, const char *access, const char *secret, const char *token)
{
	struct credential **p = &s->keys, *c;

	while (*p != NULL && strcmp((*p)->access, access) != 0) {
		p = &(*p)->next;
	}
	if (*p != NULL) {
		c = *p;
		*p = c->next;
		talloc_free(c);
	}
	c = talloc_zero(s, struct credential);
	if (c == NULL) {
		return NULL;
	}
	c->access = talloc_strdup(c, access);
	c->secret = talloc_strdup(c, secret);
	c->token = talloc_strdup(c, token);
	if (c->access == NULL || c->secret == NULL || c->token == NULL) {
		talloc_free(c);
		return NULL;
	}
	c->next = s->keys;
	s->keys = c;
	return c;
}

static char *field(char *text, const char *name)
{
	char *at = strstr(text, name);

	return at == NULL ? NULL : at + strlen(name);
}

/* "AWS4-HMAC-SHA256 Credential=KEY/DAY/REGION/s3/aws4_request, SignedHeaders=A;B, Signature=HEX" */
static bool read_claim(struct req *r, struct claim *c)
{
	const char *header = req_header(r, "Authorization");
	char *text = header == NULL ? NULL : talloc_strdup(r, header), *service, *end;

	if (text == NULL || strncmp(text, "AWS4-HMAC-SHA256 ", 17) != 0) {
		return false;
	}
	c->access = field(text, "Credential=");
	c->names = field(text, "SignedHeaders=");
	c->signature = field(text, "Signature=");
	if (c->access == NULL || c->names == NULL || c->signature == NULL) {
		return false;
	}
	c->access[strcspn(c->access, ", ")] = '\0';
	c->names[strcspn(c->names, ", ")] = '\0';
	c->signature[strcspn(c->signature, ", ")] = '\0';
	c->day = strchr(c->access, '/');
	c->region = c->day == NULL ? NULL : strchr(c->day + 1, '/');
	service = c->region == NULL ? NULL : strchr(c->region + 1, '/');
	end = service == NULL ? NULL : strchr(service + 1, '/');
	if (end == NULL || strcmp(end, "/aws4_request") != 0) {
		return false;
	}
	*c->day++ = *c->region++ = *service++ = *end = '\0';
	return strcmp(service, "s3") == 0;
}

static void hmac(const void *key, size_t len, const char *text, uint8_t out[32])
{
	unsigned size = 32;

	HMAC(EVP_sha256(), key, (int)len, (const uint8_t *)text, strlen(text), out, &size);
}

static void derive(struct credential *who, const struct claim *c)
{
	char secret[512];
	uint8_t one[32], two[32];

	if (strcmp(who->day, c->day) == 0) {
		return;
	}
	snprintf(secret, sizeof(secret), "AWS4%s", who->secret);
	hmac(secret, strlen(secret), c->day, one);
	hmac(one, 32, c->region, two);
	hmac(two, 32, "s3", one);
	hmac(one, 32, "aws4_request", who->derived);
	snprintf(who->day, sizeof(who->day), "%.8s", c->day);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Parameters encoded anew, in order. */
static bool canonical_query(struct req *r, FILE *f)
{
	char **words = talloc_array(r, char *, r->query.count + 1);

	for (unsigned i = 0; i < r->query.count && words != NULL; i++) {
		const struct pair *p = &r->query.list[i];
		char *name = url_encode(words, p->name, ""), *value = url_encode(words, p->value, "");

		words[i] = name == NULL || value == NULL ? NULL : talloc_asprintf(words, "%s=%s", name, value);
		if (words[i] == NULL) {
			return false;
		}
	}
	if (words == NULL) {
		return false;
	}
	qsort(words, r->query.count, sizeof(words[0]), by_text);
	for (unsigned i = 0; i < r->query.count; i++) {
		fprintf(f, "%s%s", i == 0 ? "" : "&", words[i]);
	}
	talloc_free(words);
	return true;
}

/* Blanks around it go, and several are one. */
static void canonical_value(FILE *f, const char *v)
{
	bool blank = false, begun = false;

	for (; *v != '\0'; v++) {
		if (*v == ' ') {
			blank = begun;
			continue;
		}
		if (blank) {
			putc_unlocked(' ', f);
		}
		putc_unlocked(*v, f);
		blank = false;
		begun = true;
	}
}

struct headers {
	const char *names; /* ";a;b;" */
	bool all;
};

static enum MHD_Result is_signed(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct headers *h = arg;
	char word[260];

	(void)kind;
	(void)value;
	if (strncasecmp(name, "x-amz-", 6) == 0 || strcasecmp(name, "host") == 0) {
		snprintf(word, sizeof(word), ";%.256s;", name);
		h->all = h->all && strcasestr(h->names, word) != NULL;
	}
	return MHD_YES;
}

static bool canonical(struct req *r, struct claim *c, FILE *f)
{
	const char *payload = req_header(r, "x-amz-content-sha256");
	char *path = talloc_strndup(r, r->raw, strcspn(r->raw, "?")), *names = talloc_strdup(r, c->names), *save = NULL;
	char *encoded;

	if (path == NULL || names == NULL || payload == NULL || !url_decode(path, false)) {
		return false;
	}
	encoded = url_encode(r, path, "/");
	if (encoded == NULL) {
		return false;
	}
	fprintf(f, "%s\n%s\n", r->method, encoded);
	if (!canonical_query(r, f)) {
		return false;
	}
	putc_unlocked('\n', f);
	for (char *name = strtok_r(names, ";", &save); name != NULL; name = strtok_r(NULL, ";", &save)) {
		const char *value = req_header(r, name);

		fprintf(f, "%s:", name);
		canonical_value(f, value == NULL ? "" : value);
		putc_unlocked('\n', f);
	}
	fprintf(f, "\n%s\n%s", c->names, payload);
	return true;
}

static bool signature_good(struct req *r, struct claim *c, const char *date)
{
	char *text = NULL, hash[65], hex[65], *all;
	uint8_t value[EVP_MAX_MD_SIZE];
	struct digest d = { 0 };
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	bool good = f != NULL && canonical(r, c, f);

	if (f == NULL || fclose(f) != 0 || !good || !digest_begin(&d, DIGEST_SHA256)) {
		free(text);
		return false;
	}
	digest_add(&d, text, len);
	digest_hex(value, digest_end(&d, value), hash);
	digest_fini(&d);
	free(text);
	all = talloc_asprintf(r, "AWS4-HMAC-SHA256\n%s\n%s/%s/s3/aws4_request\n%s", date, c->day, c->region, hash);
	if (all == NULL) {
		return false;
	}
	derive(r->who, c);
	hmac(r->who->derived, 32, all, value);
	digest_hex(value, 32, hex);
	return strcmp(hex, c->signature) == 0;
}

static bool skewed(struct req *r, const char *date)
{
	struct tm tm = { 0 };
	const char *end = strptime(date, "%Y%m%dT%H%M%SZ", &tm);
	int64_t then = end == NULL ? 0 : (int64_t)timegm(&tm), now = now_ns(r->sim) / 1000000000;

	return end == NULL || *end != '\0' || then < now - SKEW_S || then > now + SKEW_S;
}

static bool may(struct req *r)
{
	const char *token = req_header(r, "x-amz-security-token");
	char word[64];

	if (strcmp(token == NULL ? "" : token, r->who->token) != 0) {
		return answer_error(r, "InvalidToken", NULL);
	}
	if (r->who->error != NULL) {
		return answer_error(r, r->who->error, NULL);
	}
	snprintf(word, sizeof(word), ",%s,", r->op->name);
	if (r->who->deny != NULL && strstr(r->who->deny, word) != NULL) {
		return answer_error(r, "AccessDenied", NULL);
	}
	return true;
}

bool auth_check(struct req *r)
{
	const char *date = req_header(r, "x-amz-date");
	struct claim c;
	struct headers h = { .all = true };

	if (!read_claim(r, &c) || date == NULL || strncmp(date, c.day, 8) != 0) {
		return answer_error(r, "AccessDenied", NULL);
	}
	for (r->who = r->sim->keys; r->who != NULL && strcmp(r->who->access, c.access) != 0;) {
		r->who = r->who->next;
	}
	if (r->who == NULL) {
		return answer_error(r, "InvalidAccessKeyId", NULL);
	}
	if (skewed(r, date)) {
		return answer_error(r, "RequestTimeTooSkewed", NULL);
	}
	if (strcmp(c.region, r->sim->region) != 0) {
		char *more = talloc_asprintf(r, "<Region>%s</Region>", r->sim->region);

		answer_header(r, "x-amz-bucket-region", "%s", r->sim->region);
		return answer_error(r, "AuthorizationHeaderMalformed", more);
	}
	h.names = talloc_asprintf(r, ";%s;", c.names);
	if (h.names == NULL) {
		return answer_error(r, "InternalError", NULL);
	}
	MHD_get_connection_values(r->conn, MHD_HEADER_KIND, is_signed, &h);
	if (!h.all) {
		return answer_error(r, "AccessDenied", "<HeadersNotSigned>x-amz- or host</HeadersNotSigned>");
	}
	if (!signature_good(r, &c, date)) {
		return answer_error(r, "SignatureDoesNotMatch", NULL);
	}
	return may(r);
}
