/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Credentials of a role, from the Security Token Service: AssumeRole and AssumeRoleWithWebIdentity
 * ("AWS Security Token Service API Reference").
 *
 * Way:    creds.c, creds_profile.c -> here -> creds_http.c.
 * Thread: the keeper's; waits for the service, TOTAL_MS and the caller's deadline at most.
 * Owns:   the form that is sent; wiped, a token is in it.
 * Holds:  1. Asked in one region only, by TLS unless AWS_ENDPOINT_URL_STS says otherwise.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "creds_ask.h"
#include <curl/curl.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#include "sigv4.h"
#include "xml.h"

#define CONNECT_MS 5000
#define TOTAL_MS 10000
#define FORM_TYPE "application/x-www-form-urlencoded; charset=utf-8"

struct form {
	char *text;
	size_t len;
	FILE *f;
	bool oom;
};

static void form_add(struct form *m, const char *name, const char *value)
{
	char *encoded = value == NULL ? NULL : sigv4_encode(value, false);

	if (encoded != NULL) {
		fprintf(m->f, "&%s=%s", name, encoded);
		OPENSSL_cleanse(encoded, strlen(encoded));
		free(encoded);
	} else if (value != NULL) {
		m->oom = true;
	}
}

static bool form_begin(struct form *m, const char *action, const struct s3_role *role)
{
	char session[64];

	memset(m, 0, sizeof(*m));
	m->f = open_memstream(&m->text, &m->len);
	if (m->f == NULL) {
		return false;
	}
	snprintf(session, sizeof(session), "objectfs-%ld", (long)getpid());
	fprintf(m->f, "Action=%s&Version=2011-06-15", action);
	form_add(m, "RoleArn", role->arn);
	form_add(m, "RoleSessionName", role->session == NULL ? session : role->session);
	form_add(m, "DurationSeconds", role->duration);
	return true;
}

static bool form_end(struct form *m)
{
	return m->f != NULL && fclose(m->f) == 0 && !m->oom && m->text != NULL;
}

static void form_fini(struct form *m)
{
	if (m->text != NULL) {
		OPENSSL_cleanse(m->text, m->len);
	}
	free(m->text);
}

/* --- where --- */

static const char *region_of(const struct s3_ask *a, const struct s3_role *role)
{
	const char *region = role->region;

	region = region == NULL ? s3_env("AWS_REGION") : region;
	region = region == NULL ? s3_env("AWS_DEFAULT_REGION") : region;
	region = region == NULL ? a->region : region;
	return region == NULL || region[0] == '\0' ? "us-east-1" : region;
}

/* URL and Host header. false: a->error. */
static bool where(struct s3_ask *a, const char *region, char *url, char *host, size_t cap)
{
	const char *endpoint = s3_env("AWS_ENDPOINT_URL_STS");
	const char *rest;
	size_t len;

	if (endpoint == NULL) {
		if (strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(region) ||
				strlen(region) > 63) {
			s3_creds_fail(a, -EINVAL, false, "\"%.64s\" is not a region's name.", region);
			return false;
		}
		snprintf(host, cap, "sts.%s.amazonaws.com%s", region,
				strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
		snprintf(url, cap, "https://%.200s/", host);
		return true;
	}
	rest = strncasecmp(endpoint, "http://", 7) == 0 ? endpoint + 7
			: strncasecmp(endpoint, "https://", 8) == 0 ? endpoint + 8 : "";
	len = strcspn(rest, "/");
	if (len == 0 || strspn(rest + len, "/") != strlen(rest + len) || strlen(endpoint) + 2 > cap ||
			strpbrk(rest, "@?# \t\r\n") != NULL) {
		s3_creds_fail(a, -EINVAL, false, "AWS_ENDPOINT_URL_STS is not of the form "
				"https://HOST[:PORT]: correct it.");
		return false;
	}
	snprintf(host, cap, "%.*s", (int)len, rest);
	snprintf(url, cap, "%.*s/", (int)(rest + len - endpoint), endpoint);
	return true;
}

/* --- asking --- */

static int understand(struct s3_ask *a, const struct s3_role *role, const struct s3_ask_http *h,
		struct s3_creds *out)
{
	struct s3_sts_answer answer;
	char source[S3_SOURCE_BYTES], words[256];
	int ret = s3_sts_parse(h->text, h->len, &answer);
	int64_t ns;

	snprintf(source, sizeof(source), "the role %.200s", role->arn);
	if (h->status != 200 && answer.code[0] != '\0') {
		s3_creds_words(answer.message, strlen(answer.message), words, sizeof(words));
		ret = s3_creds_fail(a, -EACCES, h->status >= 500 || strcmp(answer.code, "Throttling") == 0,
				"STS does not give %s (%.64s: %s): check the role's trust policy and who asks.",
				source, answer.code, words);
	} else if (h->status != 200) {
		s3_creds_words(h->text, h->len, words, sizeof(words));
		ret = s3_creds_fail(a, -EPROTO, true, "STS answers HTTP %ld for %s: %s.", h->status, source,
				words);
	} else if (ret != 0 || answer.creds.access_key[0] == '\0') {
		ret = s3_creds_fail(a, -EPROTO, true, "STS answers with something else than credentials for "
				"%s: is AWS_ENDPOINT_URL_STS right?", source);
	} else {
		ret = s3_creds_take(a, answer.creds.access_key, answer.creds.secret_key,
				answer.creds.session_token, source, out);
		ns = s3_time_parse(answer.expiration);
		out->expires_s = ns <= 0 ? 0 : ns / 1000000000;
	}
	OPENSSL_cleanse(&answer, sizeof(answer));
	return ret;
}

/* by NULL: not signed. */
static char *authorize(const struct s3_creds *by, const char *host, const char *date, const char *region,
		const char *body)
{
	char payload[65];
	struct sigv4_header headers[4] = {
		{ "content-type", FORM_TYPE }, { "host", host }, { "x-amz-date", date },
	};
	struct sigv4_request r = {
		.method = "POST",
		.path = "/",
		.query = "",
		.headers = headers,
		.header_count = 3,
		.payload = payload,
		.date = date,
		.region = region,
		.service = "sts",
		.access_key = by->access_key,
		.secret_key = by->secret_key,
	};

	if (by->session_token[0] != '\0') {
		headers[r.header_count].name = "x-amz-security-token";
		headers[r.header_count++].value = by->session_token;
	}
	sigv4_sha256_hex(body, strlen(body), payload);
	return sigv4_authorization(&r);
}

static int send_form(struct s3_ask *a, const struct s3_role *role, const struct s3_creds *by,
		const struct form *m, struct s3_ask_http *h, struct s3_creds *out)
{
	const char *region = region_of(a, role);
	char url[512], host[512], date[SIGV4_DATE_BYTES], date_line[64];
	char token[S3_TOKEN_BYTES + 32];
	char *authorization = NULL, *line = NULL;
	unsigned n = 0;
	int ret;

	if (!where(a, region, url, host, sizeof(url))) {
		return -EINVAL;
	}
	h->url = url;
	h->method = "POST";
	h->body = m->text;
	h->connect_ms = CONNECT_MS;
	h->total_ms = TOTAL_MS;
	h->ca_file = s3_env("AWS_ENDPOINT_URL_STS") == NULL ? s3_env("AWS_CA_BUNDLE") : a->ca_file;
	h->headers[n++] = "Content-Type: " FORM_TYPE;
	if (by != NULL) {
		sigv4_date(time(NULL) + a->clock_offset_s, date);
		authorization = authorize(by, host, date, region, m->text);
		if (authorization == NULL || asprintf(&line, "Authorization: %s", authorization) < 0) {
			free(authorization);
			return s3_creds_fail(a, -ENOMEM, true, "Out of memory.");
		}
		snprintf(date_line, sizeof(date_line), "X-Amz-Date: %s", date);
		snprintf(token, sizeof(token), "X-Amz-Security-Token: %s", by->session_token);
		h->headers[n++] = line;
		h->headers[n++] = date_line;
		h->headers[n] = by->session_token[0] == '\0' ? NULL : token;
	}
	ret = s3_ask_http(a, h);
	free(authorization);
	free(line);
	OPENSSL_cleanse(token, sizeof(token));
	if (ret != 0 && ret != -ECANCELED) {
		return s3_creds_fail(a, ret, true, "STS at %s does not answer for the role %.200s: %s.", url,
				role->arn, h->why);
	}
	return ret != 0 ? ret : understand(a, role, h, out);
}

static int ask(struct s3_ask *a, const struct s3_role *role, const struct s3_creds *by,
		struct form *m, struct s3_creds *out)
{
	struct s3_ask_http *h = calloc(1, sizeof(*h));
	int ret;

	if (!form_end(m) || h == NULL) {
		ret = s3_creds_fail(a, -ENOMEM, true, "Out of memory.");
	} else {
		ret = send_form(a, role, by, m, h, out);
		OPENSSL_cleanse(h->text, sizeof(h->text));
	}
	free(h);
	form_fini(m);
	return ret;
}

int s3_ask_role(struct s3_ask *a, const struct s3_role *role, const struct s3_creds *by,
		struct s3_creds *out)
{
	struct form m;

	if (!form_begin(&m, "AssumeRole", role)) {
		return s3_creds_fail(a, -ENOMEM, true, "Out of memory.");
	}
	form_add(&m, "ExternalId", role->external_id);
	return ask(a, role, by, &m, out);
}

int s3_ask_web_role(struct s3_ask *a, const struct s3_role *role, const char *token_file,
		struct s3_creds *out)
{
	char token[S3_TOKEN_BYTES];
	struct form m;
	int ret;

	if (a->here_only) {
		return -EAGAIN;
	}
	ret = s3_creds_read(a, token_file, "The web identity token file", token, sizeof(token));
	if (ret != 0) {
		return ret;
	}
	if (form_begin(&m, "AssumeRoleWithWebIdentity", role)) {
		form_add(&m, "WebIdentityToken", token);
		ret = ask(a, role, NULL, &m, out);
	} else {
		ret = s3_creds_fail(a, -ENOMEM, true, "Out of memory.");
	}
	OPENSSL_cleanse(token, sizeof(token));
	return ret;
}
