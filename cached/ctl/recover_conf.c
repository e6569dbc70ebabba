/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the sections of a volume in objectfs.conf and smb.conf, where they are not there yet.
 * Way: recover.c -> here -> steps of the plan. Thread: the only one. Owns: nothing beyond the plan.
 * Holds: 1. what a file says stays as it is; a section is added behind it, or what is there serves;
 *        2. the new objectfs.conf has been read by the daemon's own reader before it is written.
 */
#include "recover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "doctor.h"

#define SMB_CONF_DEFAULT "/etc/samba/smb.conf"
#define CREDENTIALS_DEFAULT "/etc/objectfs/credentials"
#define FILE_MAX_BYTES (1u << 20)

/* The whole of a file, "" if there is none; NULL: it cannot be read, refused. */
static char *file_text(struct recover *r, const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = talloc_zero_array(r, char, FILE_MAX_BYTES + 1);
	size_t len;

	if (f == NULL && errno == ENOENT && text != NULL) {
		return text;
	}
	if (f == NULL || text == NULL) {
		recover_refuse(r, "%s: %s", path, strerror(errno));
		return NULL;
	}
	len = fread(text, 1, FILE_MAX_BYTES, f);
	if (ferror(f) || !feof(f)) {
		recover_refuse(r, "%s cannot be read as a whole", path);
		text = NULL;
	} else {
		text[len] = '\0';
	}
	fclose(f);
	return text;
}

static void write_file(struct recover *r, const char *path, char *text, bool secret)
{
	static const char *const none[] = {NULL};
	struct recover_step *s = recover_run(r, none);

	if (s != NULL) {
		s->what = talloc_asprintf(s, "write %s", path);
		s->path = talloc_strdup(s, path);
		s->text = text;
		s->secret = secret;
	}
}

/* The keys of the environment, in a file of the daemon's: it does not have this environment. */
static const char *credentials(struct recover *r)
{
	const char *key = getenv("AWS_ACCESS_KEY_ID"), *secret = getenv("AWS_SECRET_ACCESS_KEY");

	if (r->credentials != NULL || key == NULL || secret == NULL ||
			getenv("AWS_SESSION_TOKEN") != NULL) {
		return r->credentials;
	}
	if (access(CREDENTIALS_DEFAULT, F_OK) != 0) {
		write_file(r, CREDENTIALS_DEFAULT, talloc_asprintf(r,
				"[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", key,
				secret), true);
	}
	return CREDENTIALS_DEFAULT;
}

static char *conf_section(struct recover *r, const char *before, const char *keys)
{
	char *text = talloc_asprintf(r, "%s%s\n[volume %s]\n\tstore = s3\n\tbucket = %s\n", before,
			before[0] != '\0' ? "" : "[global]\n\tgroup = objectfs\n"
				"\tlog file = /var/log/objectfs/cached.log\n", r->name, r->bucket);
	const struct {
		const char *key, *value;
	} more[] = {{"prefix", r->prefix[0] != '\0' ? r->prefix : NULL}, {"endpoint", r->endpoint},
			{"region", r->region}, {"credentials file", keys}};

	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
		if (more[i].value != NULL) {
			text = talloc_asprintf_append(text, "\t%s = %s\n", more[i].key, more[i].value);
		}
	}
	return text;
}

/* What is there of this name is this volume, or nothing is done. */
static bool conf_serves(struct recover *r, const struct conf_volume *cv)
{
	const char *prefix = cv->prefix != NULL ? cv->prefix : "";
	size_t len = strlen(r->prefix);

	if (cv->store == CONF_STORE_S3 && strcmp(cv->bucket, r->bucket) == 0 &&
			strncmp(prefix, r->prefix, len) == 0 &&
			(prefix[len] == '\0' || strcmp(prefix + len, "/") == 0)) {
		return true;
	}
	recover_refuse(r, "%s has a volume %s, which is another one: give this one another --name",
			r->o->conf, r->name);
	return false;
}

/* As the daemon reads it; the file with the keys may not be there yet. */
static struct conf *conf_read(struct recover *r, const char *text)
{
	FILE *f = fmemopen((void *)text, strlen(text), "r");
	struct conf *conf = NULL;
	char *error = NULL;

	if (f == NULL || conf_load_stream(r, f, r->o->conf, &conf, &error) != 0) {
		recover_refuse(r, "%s", error != NULL ? error : r->o->conf);
		conf = NULL;
	}
	if (f != NULL) {
		fclose(f);
	}
	return conf;
}

bool recover_conf(struct recover *r)
{
	char *before = file_text(r, r->o->conf), *text;
	const char *keys;

	if (before == NULL) {
		return false;
	}
	if (before[0] != '\0') {
		r->conf = conf_read(r, before);
		if (r->conf == NULL) {
			return false;
		}
		r->cv = conf_volume_find(r->conf, r->name);
		if (r->cv != NULL) {
			return conf_serves(r, r->cv);
		}
	}
	keys = credentials(r);
	text = conf_section(r, before, keys);
	/* Until the file is written the keys are those of the environment. */
	r->conf = conf_read(r, conf_section(r, before,
			keys != NULL && access(keys, F_OK) == 0 ? keys : NULL));
	r->cv = r->conf != NULL ? conf_volume_find(r->conf, r->name) : NULL;
	if (r->cv == NULL) {
		return false;
	}
	write_file(r, r->o->conf, text, false);
	return true;
}

/* ---- smb.conf ---- */

static bool share_is_there(struct recover *r)
{
	const char *const argv[] = {"testparm", "-s", "--suppress-prompt", r->smb_conf, NULL};
	char *title = talloc_asprintf(r, "\n[%s]\n", r->name), *text;
	int status;

	text = ctl_run(r, (char *const *)argv, &status);
	if (text == NULL || status != 0) {
		recover_refuse(r, "testparm -s: exit status %d: correct smb.conf first", status);
		return true;
	}
	return title != NULL && strstr(text, title) != NULL;
}

static char *share_lines(char *text, const char *section, unsigned kind)
{
	if (section != NULL) {
		text = talloc_asprintf_append(text, "[%s]\n", section);
	}
	for (const struct share_need *n = share_needs; n->key != NULL; n++) {
		if (n->kind == kind) {
			text = talloc_asprintf_append(text, "\t%s = %s\n", n->key, n->value);
		}
	}
	return text;
}

void recover_share(struct recover *r)
{
	const char *path = r->smb_conf != NULL ? r->smb_conf : SMB_CONF_DEFAULT;
	char *text;

	if (share_is_there(r)) {
		return;
	}
	text = file_text(r, path);
	if (text == NULL) {
		return;
	}
	text = talloc_asprintf_append(text, "\n# What each line is for: smb.conf.d/standalone.conf\n");
	text = share_lines(text, "global", SHARE_NEED_GLOBAL);
	text = talloc_asprintf_append(text, "\n[%s]\n"
			"\tpath = %s/%s/tree\n\tvfs objects = acl_xattr streams_xattr objectfs\n"
			"\tobjectfs:volume = %s\n\tobjectfs:socket = %s\n\tread only = no\n", r->name,
			r->conf->global.cache_directory, r->name, r->name, r->conf->global.socket);
	text = share_lines(text, NULL, SHARE_NEED);
	write_file(r, path, text, false);
}
