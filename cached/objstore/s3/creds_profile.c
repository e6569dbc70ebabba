/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Credentials of a profile in AWS's files ("Shared config and credentials files", "Assume role
 * credential provider" in the AWS SDKs and Tools Reference Guide).
 *
 *   profile -> role_arn by source_profile (another profile), credential_source, or a token's file
 *           -> else its keys -> else credential_process
 *
 * Way:    creds.c -> here -> creds_sts.c, creds_process.c, creds_http.c.
 * Thread: any; reads two small files anew each time.
 * Owns:   what a profile says; secrets are wiped.
 * Holds:  1. ~/.aws/credentials wins over ~/.aws/config. A file that objectfs.conf names is the only
 *            one.
 *         2. No program is run that somebody else than root or the daemon's user could have named.
 *         3. Profiles that name each other end in an error.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "creds_ask.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHAIN_MAX 5u
#define PATH_BYTES 1200u

enum key {
	ACCESS, SECRET, TOKEN, ROLE, SOURCE_PROFILE, CREDENTIAL_SOURCE, PROCESS, WEB_TOKEN_FILE, SESSION,
	EXTERNAL_ID, DURATION, REGION, MFA, SSO_SESSION, SSO_URL, LOGIN, KEY_MAX
};
static const char *const key_names[KEY_MAX] = {
	[ACCESS] = "aws_access_key_id", [SECRET] = "aws_secret_access_key",
	[TOKEN] = "aws_session_token", [ROLE] = "role_arn", [SOURCE_PROFILE] = "source_profile",
	[CREDENTIAL_SOURCE] = "credential_source", [PROCESS] = "credential_process",
	[WEB_TOKEN_FILE] = "web_identity_token_file", [SESSION] = "role_session_name",
	[EXTERNAL_ID] = "external_id", [DURATION] = "duration_seconds", [REGION] = "region",
	[MFA] = "mfa_serial", [SSO_SESSION] = "sso_session", [SSO_URL] = "sso_start_url",
	[LOGIN] = "login_session",
};

struct profile {
	char *value[KEY_MAX];
	bool found;
	bool nested; /* indented lines belong to a setting of many values, such as "s3 =" */
	bool unsafe; /* credential_process stands in a file that others may write */
};

struct files {
	char config[PATH_BYTES], credentials[PATH_BYTES]; /* config "": credentials is the only one */
	bool must; /* somebody named the file: its absence is an error */
};

/* --- one file --- */

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

static void value_free(char **value)
{
	if (*value != NULL) {
		OPENSSL_cleanse(*value, strlen(*value));
	}
	free(*value);
	*value = NULL;
}

static void profile_fini(struct profile *p)
{
	for (unsigned i = 0; i < KEY_MAX; i++) {
		value_free(&p->value[i]);
	}
}

/* "[NAME]", and "[profile NAME]" where a config file has it. */
static bool section_is(char *title, const char *name)
{
	char *s = trim(title);

	if (strcmp(s, name) == 0) {
		return true;
	}
	return strncmp(s, "profile", 7) == 0 && strchr(" \t", s[7]) != NULL && s[7] != '\0' &&
	       strcmp(trim(s + 7), name) == 0;
}

/* One line; true while inside the wanted section. */
static bool profile_line(struct profile *p, char *line, const char *name, bool inside, bool unsafe)
{
	bool indented = line[0] == ' ' || line[0] == '\t';
	char *s = trim(line), *value;

	if (s[0] == '\0' || s[0] == '#' || s[0] == ';' || (p->nested && indented)) {
		return inside;
	}
	p->nested = false;
	if (s[0] == '[') {
		char *end = strchr(s, ']');

		if (end == NULL) {
			return false;
		}
		*end = '\0';
		inside = section_is(s + 1, name);
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
	p->nested = value[0] == '\0';
	for (unsigned i = 0; i < KEY_MAX; i++) {
		if (strcmp(s, key_names[i]) == 0 && value[0] != '\0') {
			value_free(&p->value[i]);
			p->value[i] = strdup(value);
			p->unsafe = i == PROCESS ? unsafe : p->unsafe;
		}
	}
	return inside;
}

/* 0, also without the file unless `must`. */
static int file_read(struct s3_ask *a, const char *path, const char *name, bool must, struct profile *p)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* it may be a pipe */
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	char *line = NULL;
	size_t cap = 0;
	bool inside = false;
	struct stat st;
	int ret;

	if (f == NULL) {
		ret = -errno;
		if (fd >= 0) {
			close(fd);
		}
		if ((ret == -ENOENT || ret == -ENOTDIR) && !must) {
			return 0;
		}
		return s3_creds_fail(a, -EINVAL, false, "The credentials file %s cannot be read: %s.", path,
				strerror(-ret));
	}
	if (fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode)) {
		fclose(f);
		return s3_creds_fail(a, -EINVAL, false, "The credentials file %s is no regular file.", path);
	}
	while (getline(&line, &cap, f) >= 0) {
		inside = profile_line(p, line, name, inside, (st.st_mode & 022) != 0 ||
				(st.st_uid != 0 && st.st_uid != geteuid()));
	}
	ret = ferror(f) ? -EIO : 0;
	fclose(f);
	if (line != NULL) {
		OPENSSL_cleanse(line, cap);
		free(line);
	}
	return ret == 0 ? 0 : s3_creds_fail(a, ret, false, "The credentials file %s cannot be read.", path);
}

/* --- which files --- */

static void files_find(const struct s3_ask *a, struct files *f)
{
	const char *home = s3_env("HOME");
	const char *config = s3_env("AWS_CONFIG_FILE");
	const char *credentials = s3_env("AWS_SHARED_CREDENTIALS_FILE");
	struct passwd pw, *is = NULL;
	char room[4096];

	memset(f, 0, sizeof(*f));
	if (a->credentials_file != NULL && a->credentials_file[0] != '\0') {
		snprintf(f->credentials, sizeof(f->credentials), "%s", a->credentials_file);
		f->must = true;
		return;
	}
	if (home == NULL) { /* a service has none */
		(void)getpwuid_r(geteuid(), &pw, room, sizeof(room), &is);
		home = is == NULL ? "/root" : is->pw_dir;
	}
	snprintf(f->config, sizeof(f->config), "%s%s", config == NULL ? home : config,
			config == NULL ? "/.aws/config" : "");
	snprintf(f->credentials, sizeof(f->credentials), "%s%s", credentials == NULL ? home : credentials,
			credentials == NULL ? "/.aws/credentials" : "");
	f->must = credentials != NULL;
}

static int profile_read(struct s3_ask *a, const struct files *f, const char *name, struct profile *p)
{
	int ret = 0;

	memset(p, 0, sizeof(*p));
	if (f->config[0] != '\0') {
		ret = file_read(a, f->config, name, false, p);
	}
	if (ret == 0) {
		ret = file_read(a, f->credentials, name, f->must, p);
	}
	if (ret != 0) {
		profile_fini(p);
	}
	return ret;
}

/* --- what a profile means --- */

static int from_profile(struct s3_ask *a, const struct files *f, const char *name, unsigned depth,
		bool keys_only, struct s3_creds *out);

static int refuse(struct s3_ask *a, const char *name, const char *what)
{
	return s3_creds_fail(a, -EINVAL, false, "The profile [%s] %s.", name, what);
}

static int by_source(struct s3_ask *a, const char *name, const char *source, struct s3_creds *by)
{
	const char *access = s3_env("AWS_ACCESS_KEY_ID"), *secret = s3_env("AWS_SECRET_ACCESS_KEY");
	int ret;

	if (strcmp(source, "Environment") == 0 && access == NULL && secret == NULL) {
		return refuse(a, name, "has credential_source = Environment, but AWS_ACCESS_KEY_ID is not set");
	}
	if (strcmp(source, "Environment") == 0) {
		return s3_creds_take(a, access, secret, s3_env("AWS_SESSION_TOKEN"), "the environment", by);
	}
	if (strcmp(source, "EcsContainer") == 0) {
		ret = s3_ask_container(a, by);
		return ret != -ENOENT ? ret : refuse(a, name, "has credential_source = EcsContainer, but "
				"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI is not set");
	}
	if (strcmp(source, "Ec2InstanceMetadata") == 0) {
		ret = s3_ask_imds(a, by);
		return ret == -ENOENT ? -EINVAL : ret; /* it was named: nobody else is asked */
	}
	return refuse(a, name, "has a credential_source that is none of Environment, EcsContainer, "
			"Ec2InstanceMetadata");
}

static int from_role(struct s3_ask *a, const struct files *f, const char *name, const struct profile *p,
		unsigned depth, struct s3_creds *out)
{
	struct s3_role role = {
		.arn = p->value[ROLE],
		.session = p->value[SESSION],
		.external_id = p->value[EXTERNAL_ID],
		.duration = p->value[DURATION],
		.region = p->value[REGION],
	};
	const char *source = p->value[SOURCE_PROFILE];
	struct s3_creds by;
	int ret;

	if (p->value[MFA] != NULL) {
		return refuse(a, name, "wants a second factor (mfa_serial), which a service cannot give");
	}
	if (source != NULL && p->value[CREDENTIAL_SOURCE] != NULL) {
		return refuse(a, name, "has source_profile and credential_source: keep one");
	}
	if (source == NULL && p->value[CREDENTIAL_SOURCE] == NULL) {
		return p->value[WEB_TOKEN_FILE] != NULL
				? s3_ask_web_role(a, &role, p->value[WEB_TOKEN_FILE], out)
				: refuse(a, name, "has a role_arn, but neither source_profile, nor "
						"credential_source, nor web_identity_token_file");
	}
	if (a->here_only) {
		return -EAGAIN;
	}
	if (source != NULL) {
		ret = from_profile(a, f, source, depth + 1, strcmp(source, name) == 0, &by);
		ret = ret != -ENOENT ? ret : refuse(a, source, "is a source_profile, but there is no such "
				"profile, or nothing in it");
	} else {
		ret = by_source(a, name, p->value[CREDENTIAL_SOURCE], &by);
	}
	if (ret == 0) {
		ret = s3_ask_role(a, &role, &by, out);
	}
	s3_creds_wipe(&by);
	return ret;
}

static int from_values(struct s3_ask *a, const struct files *f, const char *name, const struct profile *p,
		unsigned depth, bool keys_only, struct s3_creds *out)
{
	char source[S3_SOURCE_BYTES];

	if (p->value[ROLE] != NULL && !keys_only) {
		return from_role(a, f, name, p, depth, out);
	}
	if (p->value[ACCESS] != NULL || p->value[SECRET] != NULL) {
		snprintf(source, sizeof(source), "the credentials file, profile [%.128s]", name);
		return s3_creds_take(a, p->value[ACCESS], p->value[SECRET], p->value[TOKEN], source, out);
	}
	if (p->value[PROCESS] != NULL) {
		return p->unsafe ? refuse(a, name, "has a credential_process, but stands in a file that others "
						"may write, or own: chown root, chmod 600")
				 : s3_ask_process(a, p->value[PROCESS], out);
	}
	if (p->value[SSO_SESSION] != NULL || p->value[SSO_URL] != NULL || p->value[LOGIN] != NULL) {
		return refuse(a, name, "wants a person to sign in: for a service use a role, or "
				"credential_process");
	}
	return -ENOENT;
}

static int from_profile(struct s3_ask *a, const struct files *f, const char *name, unsigned depth,
		bool keys_only, struct s3_creds *out)
{
	struct profile p;
	int ret;

	if (depth >= CHAIN_MAX) {
		return refuse(a, name, "is named by a chain of source_profile that is too long, or a circle");
	}
	ret = profile_read(a, f, name, &p);
	if (ret != 0) {
		return ret;
	}
	ret = p.found ? from_values(a, f, name, &p, depth, keys_only, out) : -ENOENT;
	profile_fini(&p);
	return ret;
}

int s3_ask_profile(struct s3_ask *a, char *looked, size_t cap, struct s3_creds *out)
{
	const char *name = a->profile;
	bool named = true;
	struct files f;
	int ret;

	if (name == NULL || name[0] == '\0') {
		name = s3_env("AWS_PROFILE");
		named = name != NULL;
		name = named ? name : "default";
	}
	files_find(a, &f);
	snprintf(looked, cap, "%.80s%s%.80s (no profile [%.64s] with keys, role or process)", f.config,
			f.config[0] == '\0' ? "" : " and ", f.credentials, name);
	ret = from_profile(a, &f, name, 0, false, out);
	if (ret == -ENOENT && (named || f.must) && a->error[0] == '\0') {
		return s3_creds_fail(a, -EINVAL, false, "There are no S3 credentials in profile [%s]: it is "
				"missing in %s%s%s, or has neither aws_access_key_id, nor role_arn, nor "
				"credential_process.", name, f.config, f.config[0] == '\0' ? "" : " and ",
				f.credentials);
	}
	return ret;
}
