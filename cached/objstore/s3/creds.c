/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Finds the credentials of one volume, in the order of "Understand the credential provider chain"
 * (AWS SDKs and Tools Reference Guide). What objectfs.conf names comes before all of it.
 *
 *   objectfs.conf > environment > web identity > profile files > container > instance's role
 *                                 (creds_sts.c)  (creds_profile.c)  (creds_http.c)
 *
 * Way:    s3.c at start, with here_only; keeper.c ever after.
 * Thread: any; waits in the sources, with the caller's deadline.
 * Holds:  1. Secrets go into *out and nowhere else: no message, no log line.
 *         2. Half a pair is an error where it stands, never completed from another source.
 *         3. A source that is named and fails ends the search: nobody gets another's rights.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "creds_ask.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "xml.h"

const char *s3_env(const char *name)
{
	const char *s = getenv(name);

	return s == NULL || s[0] == '\0' ? NULL : s;
}

static const char *set(const char *s)
{
	return s == NULL || s[0] == '\0' ? NULL : s;
}

int s3_creds_fail(struct s3_ask *a, int error, bool transient, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->error, sizeof(a->error), fmt, ap);
	va_end(ap);
	a->transient = transient;
	return error;
}

int64_t s3_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

long s3_creds_left_ms(const struct s3_ask *a, long most)
{
	int64_t left = (a->deadline_ns - s3_now_ns()) / 1000000;

	return left < 1 ? 1 : left < most ? (long)left : most;
}

bool s3_creds_stopped(const struct s3_ask *a)
{
	return a->stop != NULL && atomic_load(a->stop);
}

void s3_creds_words(const char *text, size_t len, char *out, size_t cap)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n + 1 < cap && n < 200; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c > 0x20 && c < 0x7f) {
			out[n++] = (char)c;
		} else if (n > 0 && out[n - 1] != ' ') {
			out[n++] = ' ';
		}
	}
	out[n] = '\0';
}

/* --- taking what was found --- */

static bool usable(const char *s)
{
	for (; *s != '\0'; s++) {
		if (!isgraph((unsigned char)*s)) {
			return false;
		}
	}
	return true;
}

int s3_creds_take(struct s3_ask *a, const char *access, const char *secret, const char *token,
		const char *source, struct s3_creds *out)
{
	access = set(access);
	secret = set(secret);
	token = set(token);
	if (access == NULL || secret == NULL) {
		return s3_creds_fail(a, -EINVAL, false, "%s names %s but no %s: give both or neither.",
				source, access == NULL ? "a secret key" : "an access key",
				access == NULL ? "access key" : "secret key");
	}
	if (!usable(access) || !usable(secret) || (token != NULL && !usable(token))) {
		return s3_creds_fail(a, -EINVAL, false, "The credentials from %s hold blanks or control "
				"characters: copy them again.", source);
	}
	if (strlen(access) >= sizeof(out->access_key) || strlen(secret) >= sizeof(out->secret_key) ||
			(token != NULL && strlen(token) >= sizeof(out->session_token))) {
		return s3_creds_fail(a, -EINVAL, false, "The credentials from %s are longer than any "
				"should be: copy them again.", source);
	}
	memset(out, 0, sizeof(*out));
	strcpy(out->access_key, access);
	strcpy(out->secret_key, secret);
	strcpy(out->session_token, token == NULL ? "" : token);
	snprintf(out->source, sizeof(out->source), "%s", source);
	return 0;
}

void s3_creds_wipe(struct s3_creds *c)
{
	OPENSSL_cleanse(c->secret_key, sizeof(c->secret_key));
	OPENSSL_cleanse(c->session_token, sizeof(c->session_token));
}

static const char *text_of(const json_t *o, const char *key)
{
	return set(json_string_value(json_object_get(o, key)));
}

int s3_creds_json(struct s3_ask *a, const char *text, size_t len, const char *token, const char *source,
		struct s3_creds *out)
{
	json_t *o = json_loadb(text, len, 0, NULL);
	const char *code = text_of(o, "Code"), *expires = text_of(o, "Expiration");
	char words[256];
	int64_t ns;
	int ret;

	if (!json_is_object(o)) {
		ret = s3_creds_fail(a, -EPROTO, true, "%s answers with something else than credentials "
				"in JSON: look at what it says.", source);
	} else if (text_of(o, "AccessKeyId") == NULL || text_of(o, "SecretAccessKey") == NULL) {
		const char *said = text_of(o, "Message");

		said = said == NULL ? text_of(o, "message") : said;
		said = said == NULL ? code : said;
		said = said == NULL ? "AccessKeyId or SecretAccessKey is missing" : said;
		s3_creds_words(said, strlen(said), words, sizeof(words));
		ret = s3_creds_fail(a, -EPROTO, true, "%s gives no credentials: %s.", source, words);
	} else {
		ret = s3_creds_take(a, text_of(o, "AccessKeyId"), text_of(o, "SecretAccessKey"),
				text_of(o, token), source, out);
	}
	if (ret == 0 && expires != NULL) {
		ns = s3_time_parse(expires);
		out->expires_s = ns / 1000000000;
		if (ns <= 0) {
			s3_creds_wipe(out);
			ret = s3_creds_fail(a, -EPROTO, true, "%s says an Expiration that is no date.", source);
		}
	}
	json_decref(o);
	return ret;
}

int s3_creds_read(struct s3_ask *a, const char *path, const char *what, char *out, size_t cap)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	size_t len = 0;
	ssize_t n = 1;
	int ret = fd < 0 ? -errno : 0;

	while (ret == 0 && n > 0) {
		n = read(fd, out + len, cap - len);
		if (n < 0 && errno != EINTR) {
			ret = -errno;
		}
		len += n > 0 ? (size_t)n : 0;
		if (len == cap) {
			ret = -EFBIG;
		}
	}
	if (fd >= 0) {
		close(fd);
	}
	if (ret != 0) {
		return s3_creds_fail(a, -EINVAL, false, "%s %s cannot be read: %s.", what, path,
				strerror(-ret));
	}
	while (len > 0 && strchr(" \t\r\n", out[len - 1]) != NULL) {
		len--;
	}
	out[len] = '\0';
	if (len == 0 || strlen(out) != len || strpbrk(out, "\r\n") != NULL) {
		return s3_creds_fail(a, -EINVAL, true, "%s %s holds no token, or more than one line.", what,
				path);
	}
	return 0;
}

/* --- the chain --- */

static int ask_environment(struct s3_ask *a, struct s3_creds *out)
{
	const char *access = s3_env("AWS_ACCESS_KEY_ID"), *secret = s3_env("AWS_SECRET_ACCESS_KEY");

	int ret;

	if (access == NULL && secret == NULL) {
		return -ENOENT;
	}
	ret = s3_creds_take(a, access, secret, s3_env("AWS_SESSION_TOKEN"), "the environment", out);
	out->fixed = ret == 0;
	return ret;
}

static int ask_web_identity(struct s3_ask *a, struct s3_creds *out)
{
	const char *file = s3_env("AWS_WEB_IDENTITY_TOKEN_FILE");
	struct s3_role role = {
		.arn = s3_env("AWS_ROLE_ARN"),
		.session = s3_env("AWS_ROLE_SESSION_NAME"),
	};

	if (file == NULL) { /* AWS_ROLE_ARN alone is nobody's word for a web identity */
		return -ENOENT;
	}
	if (role.arn == NULL) {
		return s3_creds_fail(a, -EINVAL, false, "The environment names "
				"AWS_WEB_IDENTITY_TOKEN_FILE but no AWS_ROLE_ARN: set both or neither.");
	}
	return s3_ask_web_role(a, &role, file, out);
}

static int find_anywhere(struct s3_ask *a, struct s3_creds *out)
{
	char looked[256] = "";
	char imds[S3_CREDS_ERROR_BYTES];
	int ret = ask_environment(a, out);

	if (ret == -ENOENT) {
		ret = ask_web_identity(a, out);
	}
	if (ret == -ENOENT) {
		ret = s3_ask_profile(a, looked, sizeof(looked), out);
	}
	if (ret == -ENOENT) {
		ret = s3_ask_container(a, out);
	}
	if (ret != -ENOENT) {
		return ret;
	}
	ret = s3_ask_imds(a, out);
	if (ret == 0 || ret == -EAGAIN || ret == -ECANCELED) {
		return ret;
	}
	memcpy(imds, a->error, sizeof(imds));
	return s3_creds_fail(a, -ENOENT, a->transient, "There are no S3 credentials. Tried: objectfs.conf "
			"(no access key, profile or credentials file); the environment (no AWS_ACCESS_KEY_ID, "
			"no AWS_WEB_IDENTITY_TOKEN_FILE); %s; a container's agent (no "
			"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI); the instance's role: %.600s Set "
			"\"access key\" and \"secret key\", \"profile\" or \"credentials file\" in objectfs.conf, "
			"or give the machine a role.", looked, imds);
}

int s3_creds_find(struct s3_ask *a, struct s3_creds *out)
{
	char looked[256] = "";
	int ret;

	memset(out, 0, sizeof(*out));
	a->error[0] = '\0';
	a->transient = false;
	if (set(a->access_key) != NULL || set(a->secret_key) != NULL) {
		ret = s3_creds_take(a, a->access_key, a->secret_key, a->session_token,
				"the configuration", out);
		out->fixed = ret == 0;
		return ret;
	}
	if (set(a->profile) == NULL && set(a->credentials_file) == NULL) {
		return find_anywhere(a, out);
	}
	return s3_ask_profile(a, looked, sizeof(looked), out);
}
