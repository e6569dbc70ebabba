/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Finds the credentials of one volume: in objectfs.conf, in the environment as every AWS tool, or
 * in a profile file ("Configuration and credential file settings" in the AWS CLI's user guide).
 * What objectfs.conf names comes first, keys or a profile; the environment fills what it leaves open.
 *
 * Way:    s3.c at start.
 * Thread: core, before the store's thread exists; reads one small file.
 * Holds:  1. Secrets go into *out and nowhere else: no message, no log line.
 *         2. Half a pair is an error where it stands, never completed from another source.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "creds.h"
#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *set(const char *s)
{
	return s == NULL || s[0] == '\0' ? NULL : s;
}

static bool usable(const char *s)
{
	for (; *s != '\0'; s++) {
		if (!isgraph((unsigned char)*s)) {
			return false;
		}
	}
	return true;
}

static int take(TALLOC_CTX *ctx, const char *access, const char *secret, const char *token,
		const char *source, struct s3_creds *out, char **error)
{
	if (access == NULL || secret == NULL) {
		*error = talloc_asprintf(ctx, "%s names %s but no %s: give both or neither.", source,
				access == NULL ? "a secret key" : "an access key",
				access == NULL ? "access key" : "secret key");
		return -EINVAL;
	}
	if (!usable(access) || !usable(secret) || (token != NULL && !usable(token))) {
		*error = talloc_asprintf(ctx, "The credentials from %s hold blanks or control "
				"characters: copy them again.", source);
		return -EINVAL;
	}
	out->access_key = talloc_strdup(ctx, access);
	out->secret_key = talloc_strdup(ctx, secret);
	out->session_token = token == NULL ? NULL : talloc_strdup(ctx, token);
	out->source = source;
	if (out->access_key == NULL || out->secret_key == NULL ||
			(token != NULL && out->session_token == NULL)) {
		*error = talloc_strdup(ctx, "Out of memory.");
		return -ENOMEM;
	}
	return 0;
}

static char *trim(char *s)
{
	size_t len;

	s += strspn(s, " \t\r\n");
	len = strlen(s);
	while (len > 0 && strchr(" \t\r\n", s[len - 1]) != NULL) {
		s[--len] = '\0';
	}
	return s;
}

struct profile {
	char *access, *secret, *token;
	bool found;
};

static void profile_fini(struct profile *p)
{
	if (p->secret != NULL) {
		OPENSSL_cleanse(p->secret, strlen(p->secret));
	}
	free(p->access);
	free(p->secret);
	free(p->token);
}

/* One line of the file; true while inside the wanted section. */
static bool profile_line(struct profile *p, char *line, const char *name, bool inside)
{
	char *s = trim(line);
	char *value, **to = NULL;

	if (s[0] == '\0' || s[0] == '#' || s[0] == ';') {
		return inside;
	}
	if (s[0] == '[') {
		char *end = strchr(s, ']');

		if (end == NULL) {
			return false;
		}
		*end = '\0';
		inside = strcmp(trim(s + 1), name) == 0;
		p->found = p->found || inside;
		return inside;
	}
	value = strchr(s, '=');
	if (!inside || value == NULL) {
		return inside;
	}
	*value++ = '\0';
	s = trim(s);
	value = trim(value);
	if (strcmp(s, "aws_access_key_id") == 0) {
		to = &p->access;
	} else if (strcmp(s, "aws_secret_access_key") == 0) {
		to = &p->secret;
	} else if (strcmp(s, "aws_session_token") == 0) {
		to = &p->token;
	}
	if (to != NULL && value[0] != '\0') {
		free(*to);
		*to = strdup(value);
	}
	return inside;
}

static int from_file(TALLOC_CTX *ctx, const char *path, const char *name, bool explicit,
		struct s3_creds *out, char **error)
{
	FILE *f = fopen(path, "re");
	struct profile p = { 0 };
	char *line = NULL;
	size_t cap = 0;
	bool inside = false;
	int ret;

	if (f == NULL) {
		ret = -errno;
		if (ret == -ENOENT && !explicit) {
			*error = talloc_asprintf(ctx, "There are no S3 credentials: neither \"access "
					"key\" and \"secret key\" in the configuration, nor "
					"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, "
					"nor a file %s.", path);
		} else {
			*error = talloc_asprintf(ctx, "The credentials file %s cannot be read: %s.", path,
					strerror(-ret));
		}
		return ret;
	}
	while (getline(&line, &cap, f) >= 0) {
		inside = profile_line(&p, line, name, inside);
	}
	ret = ferror(f) ? -EIO : 0;
	fclose(f);
	if (line != NULL) {
		OPENSSL_cleanse(line, cap);
		free(line);
	}
	if (ret != 0) {
		*error = talloc_asprintf(ctx, "The credentials file %s cannot be read.", path);
	} else if (!p.found || (p.access == NULL && p.secret == NULL)) {
		*error = talloc_asprintf(ctx, "The credentials file %s has no %s [%s].", path,
				p.found ? "aws_access_key_id in profile" : "profile", name);
		ret = -ENOENT;
	} else {
		ret = take(ctx, p.access, p.secret, p.token, "the credentials file", out, error);
	}
	profile_fini(&p);
	return ret;
}

int s3_creds_find(TALLOC_CTX *ctx, const struct objstore_s3_conf *conf, struct s3_creds *out,
		char **error)
{
	const char *access = set(conf->access_key);
	const char *secret = set(conf->secret_key);
	const char *name = set(conf->profile);
	const char *path = set(conf->credentials_file);
	const char *home;
	char *made = NULL;
	bool explicit = path != NULL;
	int ret;

	memset(out, 0, sizeof(*out));
	*error = NULL;
	if (access != NULL || secret != NULL) {
		return take(ctx, access, secret, set(conf->session_token), "the configuration", out,
				error);
	}
	if (name == NULL && path == NULL) {
		access = set(getenv("AWS_ACCESS_KEY_ID"));
		secret = set(getenv("AWS_SECRET_ACCESS_KEY"));
	}
	if (access != NULL || secret != NULL) {
		return take(ctx, access, secret, set(getenv("AWS_SESSION_TOKEN")), "the environment",
				out, error);
	}
	if (name == NULL) {
		name = set(getenv("AWS_PROFILE"));
		name = name == NULL ? "default" : name;
	}
	if (path == NULL) {
		path = set(getenv("AWS_SHARED_CREDENTIALS_FILE"));
		explicit = path != NULL;
	}
	if (path == NULL) {
		home = set(getenv("HOME"));
		made = talloc_asprintf(ctx, "%s/.aws/credentials", home == NULL ? "/root" : home);
		if (made == NULL) {
			*error = NULL;
			return -ENOMEM;
		}
		path = made;
	}
	ret = from_file(ctx, path, name, explicit, out, error);
	talloc_free(made);
	return ret;
}

void s3_creds_wipe(struct s3_creds *c)
{
	if (c->secret_key != NULL) {
		OPENSSL_cleanse(c->secret_key, strlen(c->secret_key));
	}
	if (c->session_token != NULL) {
		OPENSSL_cleanse(c->session_token, strlen(c->session_token));
	}
}
