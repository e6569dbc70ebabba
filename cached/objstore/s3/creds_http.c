/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Credentials that a server nearby hands out: the agent of a container, the instance metadata service
 * ("Container credential provider", "IMDS credential provider" in the AWS SDKs and Tools Reference
 * Guide; "Use IMDSv2" in the EC2 user guide). IMDSv1 is not spoken: who can make this machine send a
 * GET could have the keys by it.
 *
 * Way:    creds.c, creds_profile.c -> here; creds_sts.c sends its requests by s3_ask_http.
 * Thread: the keeper's; waits for servers, each with a limit, all with the caller's deadline.
 * Owns:   an easy handle for one request.
 * Holds:  1. Redirects are not followed, answers are bounded, neighbours are asked by no proxy.
 *         2. Plain http goes to this machine and to AWS's own link-local agents only.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "creds_ask.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NEAR_CONNECT_MS 1000
#define NEAR_TOTAL_MS 2000
#define AGENT "http://169.254.170.2"
#define IMDS_V4 "http://169.254.169.254"
#define IMDS_V6 "http://[fd00:ec2::254]"
#define IMDS_TOKEN_TTL "21600"
#define IMDS_ROLE "/latest/meta-data/iam/security-credentials/"

/* --- one request --- */

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
	struct s3_ask_http *h = arg;
	size_t len = size * count;

	if (len > S3_ANSWER_MAX_BYTES - h->len) {
		return 0;
	}
	memcpy(h->text + h->len, data, len);
	h->len += len;
	h->text[h->len] = '\0';
	return len;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	(void)a;
	(void)b;
	(void)c;
	(void)d;
	return s3_creds_stopped(arg) ? 1 : 0;
}

static struct curl_slist *list_of(const char *const *headers)
{
	struct curl_slist *list = NULL;

	for (; *headers != NULL; headers++) {
		struct curl_slist *grown = curl_slist_append(list, *headers);

		if (grown == NULL) {
			curl_slist_free_all(list);
			return NULL;
		}
		list = grown;
	}
	return list;
}

static int result_of(struct s3_ask_http *h, CURL *c, CURLcode code, const char *said)
{
	double connected_s = 0;

	curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &h->status);
	curl_easy_getinfo(c, CURLINFO_CONNECT_TIME, &connected_s);
	h->connected = connected_s > 0;
	snprintf(h->why, sizeof(h->why), "%s", said[0] == '\0' ? curl_easy_strerror(code) : said);
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_WRITE_ERROR:
		snprintf(h->why, sizeof(h->why), "its answer is larger than any should be");
		return -EFBIG;
	case CURLE_ABORTED_BY_CALLBACK:
		return -ECANCELED;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

int s3_ask_http(const struct s3_ask *a, struct s3_ask_http *h)
{
	CURL *c = curl_easy_init();
	struct curl_slist *list = list_of(h->headers);
	char said[CURL_ERROR_SIZE] = "";
	int ret = -ENOMEM;

	h->len = 0;
	h->text[0] = '\0';
	h->status = 0;
	h->connected = false;
	snprintf(h->why, sizeof(h->why), "out of memory");
	if (c != NULL && (list != NULL || h->headers[0] == NULL) &&
			curl_easy_setopt(c, CURLOPT_URL, h->url) == CURLE_OK) {
		curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
		curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
		curl_easy_setopt(c, CURLOPT_ERRORBUFFER, said);
		curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
		curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* no time limit holds for a resolver else */
		curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, s3_creds_left_ms(a, h->connect_ms));
		curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, s3_creds_left_ms(a, h->total_ms));
		curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
		curl_easy_setopt(c, CURLOPT_USERAGENT, a->user_agent == NULL ? "ObjectFS" : a->user_agent);
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, h->method);
		curl_easy_setopt(c, CURLOPT_HTTPHEADER, list);
		curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
		curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
		curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
		curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
		curl_easy_setopt(c, CURLOPT_XFERINFODATA, a);
		if (h->direct) {
			curl_easy_setopt(c, CURLOPT_PROXY, "");
		}
		if (h->body != NULL) {
			curl_easy_setopt(c, CURLOPT_POSTFIELDS, h->body);
		}
		if (h->ca_file != NULL && h->ca_file[0] != '\0') {
			curl_easy_setopt(c, CURLOPT_CAINFO, h->ca_file);
		}
		ret = result_of(h, c, curl_easy_perform(c), said);
	}
	curl_slist_free_all(list);
	curl_easy_cleanup(c);
	return ret;
}

static struct s3_ask_http *http_new(void)
{
	struct s3_ask_http *h = calloc(1, sizeof(*h));

	if (h != NULL) {
		h->method = "GET";
		h->connect_ms = NEAR_CONNECT_MS;
		h->total_ms = NEAR_TOTAL_MS;
		h->direct = true;
	}
	return h;
}

static void http_free(struct s3_ask_http *h)
{
	if (h != NULL) {
		OPENSSL_cleanse(h->text, sizeof(h->text));
		free(h);
	}
}

/* --- a container's agent --- */

static bool address_is_near(const char *host)
{
	struct in_addr v4;
	struct in6_addr v6;
	char text[INET6_ADDRSTRLEN + 1];
	size_t len = strlen(host);

	if (inet_pton(AF_INET, host, &v4) == 1) {
		return ntohl(v4.s_addr) >> 24 == 127 || strcmp(host, "169.254.170.2") == 0 ||
		       strcmp(host, "169.254.170.23") == 0;
	}
	if (len < 2 || len > sizeof(text) || host[0] != '[' || host[len - 1] != ']') {
		return false;
	}
	memcpy(text, host + 1, len - 2);
	text[len - 2] = '\0';
	if (inet_pton(AF_INET6, text, &v6) != 1 ||
			inet_ntop(AF_INET6, &v6, text, sizeof(text)) == NULL) {
		return false;
	}
	return strcmp(text, "::1") == 0 || strcmp(text, "fd00:ec2::23") == 0;
}

/* curl resolves "localhost" to the loopback by itself; other names are anybody's. */
static bool uri_is_allowed(const char *uri)
{
	char *scheme = NULL, *host = NULL;
	CURLU *u = curl_url();
	bool ok = false;

	if (u != NULL && curl_url_set(u, CURLUPART_URL, uri, 0) == CURLUE_OK &&
			curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
			curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
		ok = strcmp(scheme, "https") == 0 || (strcmp(scheme, "http") == 0 &&
				(strcasecmp(host, "localhost") == 0 || address_is_near(host)));
	}
	curl_free(scheme);
	curl_free(host);
	curl_url_cleanup(u);
	return ok;
}

/* "Authorization: ..." into line; 1: there is one. */
static int container_token(struct s3_ask *a, char *line, size_t cap)
{
	const char *file = s3_env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *token = s3_env("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	int n = snprintf(line, cap, "Authorization: ");
	int ret;

	if (file != NULL) {
		ret = s3_creds_read(a, file, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", line + n,
				cap - (size_t)n);
		return ret == 0 ? 1 : ret;
	}
	if (token == NULL) {
		return 0;
	}
	if (strpbrk(token, "\r\n") != NULL || strlen(token) >= cap - (size_t)n) {
		return s3_creds_fail(a, -EINVAL, false, "AWS_CONTAINER_AUTHORIZATION_TOKEN is too long or "
				"has more than one line: correct it.");
	}
	strcpy(line + n, token);
	return 1;
}

static int container_get(struct s3_ask *a, const char *url, struct s3_ask_http *h, struct s3_creds *out)
{
	char token[S3_TOKEN_BYTES + 32], source[S3_SOURCE_BYTES];
	int ret = container_token(a, token, sizeof(token));

	if (ret < 0) {
		return ret;
	}
	h->url = url;
	h->headers[0] = "Accept: application/json";
	h->headers[1] = ret == 1 ? token : NULL;
	snprintf(source, sizeof(source), "the container's agent at %.200s", url);
	ret = s3_ask_http(a, h);
	OPENSSL_cleanse(token, sizeof(token));
	if (ret == -ECANCELED) {
		return ret;
	}
	if (ret != 0) {
		return s3_creds_fail(a, ret, true, "%s does not answer: %s. Check that it runs.", source,
				h->why);
	}
	if (h->status != 200) {
		char words[256];

		s3_creds_words(h->text, h->len, words, sizeof(words));
		return s3_creds_fail(a, -EPROTO, true, "%s answers HTTP %ld: %s. Check "
				"AWS_CONTAINER_CREDENTIALS_* and AWS_CONTAINER_AUTHORIZATION_TOKEN(_FILE).",
				source, h->status, words);
	}
	return s3_creds_json(a, h->text, h->len, "Token", source, out);
}

int s3_ask_container(struct s3_ask *a, struct s3_creds *out)
{
	const char *relative = s3_env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = s3_env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
	struct s3_ask_http *h;
	char *url = NULL;
	int ret;

	if (relative == NULL && full == NULL) {
		return -ENOENT;
	}
	if (relative == NULL && !uri_is_allowed(full)) {
		return s3_creds_fail(a, -EINVAL, false, "AWS_CONTAINER_CREDENTIALS_FULL_URI must begin with "
				"https://, or name this machine (127.0.0.1, [::1], localhost) or an agent of "
				"AWS (169.254.170.2, 169.254.170.23, [fd00:ec2::23]): keys would else cross a "
				"network in the clear.");
	}
	if (relative != NULL && relative[0] != '/') {
		return s3_creds_fail(a, -EINVAL, false, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI must begin "
				"with a slash: correct it.");
	}
	if (a->here_only) {
		return -EAGAIN;
	}
	h = http_new();
	if (h == NULL || asprintf(&url, "%s%s", relative == NULL ? "" : AGENT,
				     relative == NULL ? full : relative) < 0) {
		http_free(h);
		return s3_creds_fail(a, -ENOMEM, true, "Out of memory.");
	}
	ret = container_get(a, url, h, out);
	free(url);
	http_free(h);
	return ret;
}

/* --- the instance's role --- */

static const char *imds_base(void)
{
	const char *endpoint = s3_env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
	const char *mode = s3_env("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");

	if (endpoint != NULL) {
		return endpoint;
	}
	return mode != NULL && strcasecmp(mode, "IPv6") == 0 ? IMDS_V6 : IMDS_V4;
}

/* Why the first question of all, that for a token, was not answered. */
static int imds_no_token(struct s3_ask *a, const char *base, int ret, const struct s3_ask_http *h)
{
	if (ret == -ECANCELED) {
		return ret;
	}
	if (ret == -ETIMEDOUT && h->connected) {
		return s3_creds_fail(a, ret, true, "The instance metadata service at %s takes the question "
				"for a token but its answer does not come; in a container its hop limit is "
				"too small then: aws ec2 modify-instance-metadata-options --instance-id ID "
				"--http-put-response-hop-limit 2.", base);
	}
	if (ret != 0) { /* where there is one it is always reached: on this machine somebody must act */
		return s3_creds_fail(a, ret, h->connected, "There is no instance metadata service at %s (%s).",
				base, h->why);
	}
	if (h->status == 403) {
		return s3_creds_fail(a, -EACCES, true, "The instance metadata service at %s is switched off: "
				"aws ec2 modify-instance-metadata-options --instance-id ID --http-endpoint "
				"enabled.", base);
	}
	return s3_creds_fail(a, -EPROTO, true, "The instance metadata service at %s gives no token (HTTP %ld)"
			": it must speak IMDSv2.", base, h->status);
}

static int imds_get(struct s3_ask *a, const char *base, const char *path, struct s3_ask_http *h)
{
	char *url;
	int ret;

	if (asprintf(&url, "%.*s%s", (int)(strlen(base) - (base[strlen(base) - 1] == '/')), base, path) < 0) {
		return s3_creds_fail(a, -ENOMEM, true, "Out of memory.");
	}
	h->url = url;
	ret = s3_ask_http(a, h);
	h->url = NULL;
	free(url);
	return ret;
}

static int imds_answer(struct s3_ask *a, const char *base, const char *what, int ret,
		struct s3_ask_http *h)
{
	if (ret == -ECANCELED || (ret == 0 && h->status == 200)) {
		return ret;
	}
	if (ret == 0 && h->status == 404) {
		return s3_creds_fail(a, -ENOENT, true, "The instance metadata service at %s knows no role: "
				"attach one to the instance (aws ec2 associate-iam-instance-profile).", base);
	}
	if (ret == 0) {
		snprintf(h->why, sizeof(h->why), "HTTP %ld", h->status);
	}
	return s3_creds_fail(a, ret == 0 ? -EPROTO : ret, true, "The instance metadata service at %s does not "
			"give %s: %s.", base, what, h->why);
}

/* The first line is the role's name. */
static bool role_take(const struct s3_ask_http *h, char *role, size_t cap)
{
	size_t len = strcspn(h->text, "\r\n");

	if (len == 0 || len >= cap) {
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)h->text[i]) && strchr("+=,.@_-", h->text[i]) == NULL) {
			return false;
		}
	}
	memcpy(role, h->text, len);
	role[len] = '\0';
	return true;
}

static int imds_ask(struct s3_ask *a, const char *base, struct s3_ask_http *h, struct s3_creds *out)
{
	char token[1100], role[129], path[256], source[S3_SOURCE_BYTES];
	int ret;

	h->method = "PUT";
	h->headers[0] = "X-aws-ec2-metadata-token-ttl-seconds: " IMDS_TOKEN_TTL;
	h->headers[1] = "Content-Length: 0";
	ret = imds_get(a, base, "/latest/api/token", h);
	if (ret != 0 || h->status != 200 || h->len == 0 || h->len > 1024 ||
			strcspn(h->text, " \t\r\n<") != h->len) {
		return imds_no_token(a, base, ret, h);
	}
	snprintf(token, sizeof(token), "X-aws-ec2-metadata-token: %.1024s", h->text);
	h->method = "GET";
	h->headers[0] = token;
	h->headers[1] = NULL;
	ret = imds_get(a, base, IMDS_ROLE, h);
	ret = imds_answer(a, base, "the name of its role", ret, h);
	if (ret == 0 && !role_take(h, role, sizeof(role))) {
		ret = s3_creds_fail(a, -EPROTO, true, "The instance metadata service at %s answers with "
				"something else than the name of a role.", base);
	}
	if (ret == 0) {
		snprintf(path, sizeof(path), "%s%s", IMDS_ROLE, role);
		ret = imds_get(a, base, path, h);
		ret = imds_answer(a, base, "the role's credentials", ret, h);
	}
	OPENSSL_cleanse(token, sizeof(token));
	snprintf(source, sizeof(source), "the instance's role %s", ret == 0 ? role : "");
	return ret == 0 ? s3_creds_json(a, h->text, h->len, "Token", source, out) : ret;
}

int s3_ask_imds(struct s3_ask *a, struct s3_creds *out)
{
	const char *off = s3_env("AWS_EC2_METADATA_DISABLED");
	struct s3_ask_http *h;
	int ret;

	if (off != NULL && strcasecmp(off, "true") == 0) {
		return s3_creds_fail(a, -ENOENT, false, "AWS_EC2_METADATA_DISABLED is set.");
	}
	if (a->here_only) {
		return -EAGAIN;
	}
	h = http_new();
	if (h == NULL) {
		return s3_creds_fail(a, -ENOMEM, true, "Out of memory.");
	}
	ret = imds_ask(a, imds_base(), h, out);
	http_free(h);
	return ret;
}
