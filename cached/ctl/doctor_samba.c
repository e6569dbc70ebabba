/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: doctor's look at Samba: is the module there, was it built for this Samba, do the shares that
 * load it have the settings they need?
 * Way: doctor.c -> here -> smbd -b, testparm -s. Thread: the only one. Owns: the children it runs.
 * Holds: smb.conf is read by testparm, as smbd reads it: includes, substitutions and defaults are its
 * business.
 */
#include "doctor.h"
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shared/samba.h"

#define MODULE_MAX_BYTES (64u << 20)
#define MODULE_SOCKET_DEFAULT "/run/objectfs/cached.sock"

/* What standalone.conf explains, and what happens to be lost without. */
const struct share_need share_needs[] = {
	{"kernel change notify", "no", SHARE_NEED_GLOBAL},
	{"smb3 directory leases", "no", SHARE_NEED_NEWER},
	{"acl_xattr:ignore system acls", "yes", SHARE_NEED},
	{"inherit acls", "yes", SHARE_NEED},
	{"create mask", "0777", SHARE_NEED},
	{"directory mask", "0777", SHARE_NEED},
	{"ea support", "yes", SHARE_NEED},
	{"store dos attributes", "yes", SHARE_NEED},
	{"map archive", "no", SHARE_NEED},
	{"map hidden", "no", SHARE_NEED},
	{"map system", "no", SHARE_NEED},
	{"map readonly", "no", SHARE_NEED},
	{"kernel oplocks", "no", SHARE_NEED},
	{"kernel share modes", "no", SHARE_NEED},
	{"posix locking", "no", SHARE_NEED},
	{"durable handles", "yes", SHARE_NEED},
	{"mangled names", "no", SHARE_NEED},
	{"strict sync", "yes", SHARE_NEED},
	{NULL, NULL, SHARE_NEED},
};

/* ---- the module ---- */

/* The version behind OFS_BUILT_FOR in the file; "" if it does not say. */
static void module_version(const char *path, char *version, size_t room)
{
	static const char mark[] = OFS_BUILT_FOR;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *bytes = NULL, *at = NULL;

	version[0] = '\0';
	if (fd < 0) {
		return;
	}
	if (fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size < MODULE_MAX_BYTES) {
		bytes = calloc(1, (size_t)st.st_size + 1);
	}
	if (bytes != NULL && pread(fd, bytes, (size_t)st.st_size, 0) == st.st_size) {
		at = memmem(bytes, (size_t)st.st_size, mark, sizeof(mark) - 1);
	}
	if (at != NULL) {
		snprintf(version, room, "%s", at + sizeof(mark) - 1);
	}
	free(bytes);
	close(fd);
}

/* The word behind "NAME: " in smbd -b; NULL: none. In place. */
static char *build_option(char *text, const char *name)
{
	char *at = strstr(text, name);

	if (at == NULL) {
		return NULL;
	}
	at += strlen(name);
	at += strspn(at, ": \t");
	at[strcspn(at, "\n")] = '\0';
	return at;
}

/* false: there is no smbd. */
static bool doctor_module(struct doctor *d)
{
	char *const ask_build[] = {"smbd", "-b", NULL}, *const ask_version[] = {"smbd", "-V", NULL};
	char path[PATH_MAX], built_for[64];
	char *build, *text, *running, *dir;
	int status;

	text = ctl_run(d, ask_version, &status);
	build = text != NULL ? ctl_run(d, ask_build, &status) : NULL;
	dir = build != NULL ? build_option(build, "MODULESDIR") : NULL;
	running = text != NULL ? strstr(text, "Version ") : NULL;
	if (dir == NULL || running == NULL) {
		return false;
	}
	running += strlen("Version ");
	running[strcspn(running, "\n")] = '\0';
	snprintf(path, sizeof(path), "%s/vfs/objectfs.so", dir);
	if (access(path, R_OK) != 0) {
		doctor_say(d, FINDING_MODULE_MISSING, NULL, "%s: %s", path, strerror(errno));
		return true;
	}
	module_version(path, built_for, sizeof(built_for));
	if (!ofs_samba_fits(built_for, running)) {
		doctor_say(d, FINDING_MODULE_OTHER, NULL, "%s is for Samba %s, installed is %s", path,
				built_for[0] != '\0' ? built_for : "of an unknown version", running);
	}
	return true;
}

/* ---- shares ---- */

/* The value of a key in a section of testparm's output, or NULL; in `value`. */
static const char *setting(const char *text, const char *section, const char *key, char *value,
		size_t room)
{
	bool inside = false;

	while (*text != '\0') {
		size_t len = strcspn(text, "\n"), key_len = strlen(key);
		const char *line = text;

		text += len + (text[len] == '\n');
		if (line[0] == '[') {
			inside = len == strlen(section) + 2 &&
				 strncmp(line + 1, section, len - 2) == 0;
			continue;
		}
		while (len > 0 && (*line == '\t' || *line == ' ')) {
			line++;
			len--;
		}
		if (!inside || len < key_len + 2 || strncasecmp(line, key, key_len) != 0 ||
				strncmp(line + key_len, " =", 2) != 0) {
			continue;
		}
		line += key_len + 2;
		len -= key_len + 2;
		while (len > 0 && *line == ' ') {
			line++;
			len--;
		}
		snprintf(value, room, "%.*s", (int)len, line);
		return value;
	}
	return NULL;
}

/* As smbd sees it: what the share does not say, [global] does. */
static const char *effective(const char *text, const char *share, const char *key, char *value,
		size_t room)
{
	const char *v = setting(text, share, key, value, room);

	return v != NULL ? v : setting(text, "global", key, value, room);
}

static void share_stack(struct doctor *d, const char *share, const char *modules)
{
	const char *ours = strstr(modules, "objectfs");
	const char *next = ours + strlen("objectfs");

	next += strspn(next, " ,\t");
	if (*next != '\0' && strncmp(next, "io_uring", 8) != 0) {
		doctor_say(d, FINDING_SHARE_SETTING, NULL,
				"[%s] vfs objects = %s: objectfs comes last, io_uring alone may follow",
				share, modules);
	}
	if (strstr(modules, "acl_xattr") == NULL || strstr(modules, "acl_xattr") > ours) {
		doctor_say(d, FINDING_SHARE_SETTING, NULL,
				"[%s] vfs objects = %s: without acl_xattr before objectfs no NT ACL is "
				"kept",
				share, modules);
	}
}

static void share_settings(struct doctor *d, const char *text, const char *share)
{
	char value[1024];

	for (const struct share_need *n = share_needs; n->key != NULL; n++) {
		const char *v = effective(text, share, n->key, value, sizeof(value));

		if (v == NULL && strchr(n->key, ':') == NULL) {
			continue; /* this Samba does not know it, else it would have a default */
		}
		if (v == NULL || strcasecmp(v, n->value) != 0) {
			doctor_say(d, FINDING_SHARE_SETTING, NULL, "[%s] %s = %s, and must be %s",
					share, n->key, v != NULL ? v : "(not set)",
					n->value);
		}
	}
}

static bool path_is_below(const char *path, const char *dir)
{
	char a[PATH_MAX], b[PATH_MAX];
	size_t len;

	if (realpath(path, a) == NULL || realpath(dir, b) == NULL) {
		return true; /* not here yet: the daemon judges when it is asked */
	}
	len = strlen(b);
	return strncmp(a, b, len) == 0 && (a[len] == '\0' || a[len] == '/');
}

static void share_volume(struct doctor *d, const char *text, const char *share)
{
	char name[256], path[PATH_MAX], socket[PATH_MAX];
	const struct conf_volume *volume = NULL;
	const char *ours = d->conf->global.socket;
	char *tree;

	if (effective(text, share, "objectfs:volume", name, sizeof(name)) == NULL) {
		doctor_say(d, FINDING_SHARE_VOLUME, NULL, "[%s] objectfs:volume is not set", share);
		return;
	}
	for (unsigned i = 0; i < d->conf->volume_count; i++) {
		if (strcmp(d->conf->volumes[i].name, name) == 0) {
			volume = &d->conf->volumes[i];
		}
	}
	if (volume == NULL) {
		doctor_say(d, FINDING_SHARE_VOLUME, NULL,
				"[%s] objectfs:volume = %s, and %s has no such volume", share, name,
				d->conf_path);
		return;
	}
	if (effective(text, share, "objectfs:socket", socket, sizeof(socket)) == NULL) {
		snprintf(socket, sizeof(socket), "%s", MODULE_SOCKET_DEFAULT);
	}
	if (strcmp(socket, ours) != 0) {
		doctor_say(d, FINDING_SHARE_VOLUME, name,
				"[%s] objectfs:socket = %s, and the daemon's is %s", share, socket, ours);
	}
	tree = talloc_asprintf(d, "%s/%s/tree", d->conf->global.cache_directory, name);
	if (tree != NULL && setting(text, share, "path", path, sizeof(path)) != NULL &&
			strchr(path, '%') == NULL && !path_is_below(path, tree)) {
		doctor_say(d, FINDING_SHARE_VOLUME, name, "[%s] path = %s, and must be %s or below it",
				share, path, tree);
	}
	talloc_free(tree);
}

/* "objectfs" as a word of its own. */
static bool loads_objectfs(const char *modules)
{
	const char *at = strstr(modules, "objectfs");
	const char *after = at != NULL ? at + strlen("objectfs") : "";

	return at != NULL && (at == modules || strchr(" ,\t", at[-1]) != NULL) &&
	       (*after == '\0' || strchr(" ,\t", *after) != NULL);
}

static void doctor_shares(struct doctor *d)
{
	char *argv[] = {"testparm", "-s", "-v", "--suppress-prompt", (char *)d->smb_conf, NULL};
	char share[256], modules[1024];
	int status, count = 0;
	char *text = ctl_run(d, argv, &status);

	if (text == NULL || status != 0) {
		doctor_say(d, FINDING_SAMBA_CONF, NULL, "testparm -s %s: exit status %d",
				d->smb_conf != NULL ? d->smb_conf : "", status);
		return;
	}
	for (const char *line = text; line != NULL && *line != '\0';) {
		if (line[0] == '[' && sscanf(line, "[%255[^]\n]]", share) == 1 &&
				strcmp(share, "global") != 0 &&
				effective(text, share, "vfs objects", modules, sizeof(modules)) != NULL &&
				loads_objectfs(modules)) {
			count++;
			share_stack(d, share, modules);
			share_settings(d, text, share);
			if (d->conf != NULL) {
				share_volume(d, text, share);
			}
		}
		line = strchr(line, '\n');
		line = line != NULL ? line + 1 : NULL;
	}
	if (count == 0) {
		doctor_say(d, FINDING_SHARE_NONE, NULL, "%s",
				d->smb_conf != NULL ? d->smb_conf : "smb.conf");
	}
	talloc_free(text);
}

void doctor_samba(struct doctor *d)
{
	if (doctor_module(d)) {
		doctor_shares(d);
	}
}
