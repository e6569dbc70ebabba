/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: objectfsctl doctor: everything that is wrong here, each with what to do about it.
 * Way: objectfsctl.c -> here: configuration, daemon (its `health`), mirror, doctor_samba.c -> standard
 * output. Thread: the only one; blocks on disk, daemon and the programs it runs. Owns: the list.
 * Holds: (1) looks, and changes nothing. (2) What cannot be looked at is said or left out, never called
 * well. (3) Exit status 0: nothing but advice; 1: something is failed or degraded.
 */
#include "doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../base/fscheck.h"
#include "ctl.h"
#include "shared/record.h"

#define DAEMON_PATIENCE_S 30u
#define CONNECT_PATIENCE_S 5u
#define CONNECT_LOOK_MS 200
#define STUB_SEARCH_MAX 200000u

void doctor_say(struct doctor *d, enum finding_id id, const char *volume, const char *fmt, ...)
{
	va_list ap;
	char *text;
	json_t *item;

	va_start(ap, fmt);
	text = talloc_vasprintf(d, fmt, ap);
	va_end(ap);
	item = finding_json(id, volume, text);
	for (char *p = text; item == NULL && p != NULL && *p != '\0'; p++) {
		if ((unsigned char)*p >= 0x80) {
			*p = '?';
		}
	}
	if (item == NULL) {
		item = finding_json(id, volume, text);
	}
	json_array_append_new(d->list, item);
	talloc_free(text);
}

/* ---- the daemon, and what it knows ---- */

/* A daemon that was started just now has not heard of its store yet: that is no finding. */
static bool health_is_early(const json_t *health)
{
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(health, "components"), i, item)
	{
		if (json_is_true(json_object_get(item, "connecting"))) {
			return true;
		}
	}
	return false;
}

/* As ctl_ask; `health` once every volume has tried its store, or has not for CONNECT_PATIENCE_S. */
static int doctor_health(const struct doctor *d, struct ctl_reply *reply)
{
	int64_t until_ms = ctl_now_ms() + 1000LL * CONNECT_PATIENCE_S;
	bool said = false;
	int ret;

	while ((ret = ctl_ask_word(d->socket, "health", DAEMON_PATIENCE_S, reply)) == 0 &&
			health_is_early(reply->json) && ctl_now_ms() < until_ms) {
		if (!said) {
			fprintf(stderr, "objectfsctl: the daemon is connecting to its store: waiting, "
					"%u s at most\n", CONNECT_PATIENCE_S);
			said = true;
		}
		ctl_reply_done(reply);
		(void)poll(NULL, 0, CONNECT_LOOK_MS);
	}
	return ret;
}

static bool doctor_daemon(struct doctor *d)
{
	struct ctl_reply reply;
	const json_t *item;
	size_t i;
	int ret;

	ret = doctor_health(d, &reply);
	if (ret == -ETIMEDOUT) {
		doctor_say(d, FINDING_CORE_HANGS, NULL, "%s: waited for %u s", d->socket,
				DAEMON_PATIENCE_S);
		return true;
	}
	if (ret != 0 || reply.status != 0) {
		doctor_say(d, FINDING_DAEMON_AWAY, NULL, "%s: %s", d->socket,
				ret != 0 ? strerror(-ret) : reply.message);
	} else {
		json_array_foreach(json_object_get(reply.json, "components"), i, item)
		{
			if (json_object_get(item, "id") != NULL) {
				json_array_append(d->list, (json_t *)item);
			}
		}
	}
	ctl_reply_done(&reply);
	return ret == 0;
}

/* ---- the mirror ---- */

/* Why a daemon that is not there could not start: asked only then. */
static void doctor_disk(struct doctor *d)
{
	const char *dir = d->conf->global.cache_directory;
	char *error = NULL;
	bool small;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret;

	if (fd < 0 && errno == ENOENT) {
		return; /* the daemon makes it */
	}
	if (fd < 0) {
		doctor_say(d, FINDING_MIRROR_BAD, NULL, "%s: %s", dir, strerror(errno));
		return;
	}
	ret = fscheck_mirror(d, fd, dir, &small, &error);
	close(fd);
	if (ret == -EOPNOTSUPP || ret == -ENOTSUP) {
		doctor_say(d, FINDING_MIRROR_UNSUITABLE, NULL, "%s", error);
	} else if (ret == -ENOSPC || ret == -EDQUOT) {
		doctor_say(d, FINDING_MIRROR_FULL, NULL, "%s", error);
	} else if (ret != 0) {
		doctor_say(d, FINDING_MIRROR_BAD, NULL, "%s", error != NULL ? error : strerror(-ret));
	}
}

/* The first stub below the tree, "" if there is none among those looked at. */
static void stub_find(const char *tree, char *found, size_t room)
{
	char *const roots[] = {(char *)tree, NULL};
	FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	unsigned left = STUB_SEARCH_MAX;
	FTSENT *e;

	found[0] = '\0';
	while (fts != NULL && left-- > 0 && (e = fts_read(fts)) != NULL) {
		if (e->fts_info == FTS_F && (e->fts_statp->st_mode & OFS_MARKER_MODE) != 0) {
			snprintf(found, room, "%s", e->fts_path);
			break;
		}
	}
	if (fts != NULL) {
		fts_close(fts);
	}
}

const json_t *doctor_volume(const json_t *status, const char *name)
{
	const json_t *v;
	size_t i;

	json_array_foreach(json_object_get(status, "volumes"), i, v)
	{
		const char *has = json_string_value(json_object_get(v, "name"));

		if (has != NULL && strcmp(has, name) == 0) {
			return v;
		}
	}
	return NULL;
}

static json_t *doctor_status(struct doctor *d)
{
	struct ctl_reply reply;
	json_t *status;

	if (ctl_ask_word(d->socket, "status", DAEMON_PATIENCE_S, &reply) != 0) {
		return NULL;
	}
	status = json_incref(reply.json);
	ctl_reply_done(&reply);
	return status;
}

static void doctor_stubs(struct doctor *d, const json_t *status)
{
	char found[PATH_MAX];

	for (unsigned i = 0; i < d->conf->volume_count; i++) {
		const char *name = d->conf->volumes[i].name;
		const json_t *guard = json_object_get(doctor_volume(status, name), "guard");
		const char *state = json_string_value(json_object_get(guard, "state"));
		const char *why = json_string_value(json_object_get(guard, "why"));
		char *tree = talloc_asprintf(
				d, "%s/%s/tree", d->conf->global.cache_directory, name);

		if (tree == NULL || (state != NULL && strcmp(state, "on") == 0)) {
			talloc_free(tree);
			continue;
		}
		stub_find(tree, found, sizeof(found));
		if (found[0] != '\0') {
			doctor_say(d, FINDING_READERS_UNGUARDED, name, "%s, for one; %s", found,
					why != NULL ? why : state != NULL ? state : "no daemon");
		}
		talloc_free(tree);
	}
}

/* ---- the answer ---- */

static void print_finding(const json_t *item)
{
	const char *volume = json_string_value(json_object_get(item, "volume"));
	const char *reason = json_string_value(json_object_get(item, "reason"));

	printf("%-9s %s%s%s: %s [%s]\n", json_string_value(json_object_get(item, "level")),
			json_string_value(json_object_get(item, "component")),
			volume != NULL ? " of volume " : "", volume != NULL ? volume : "",
			json_string_value(json_object_get(item, "what")),
			json_string_value(json_object_get(item, "id")));
	if (reason != NULL) {
		printf("          (");
		print_safe(reason);
		printf(")\n");
	}
	printf("          do: %s\n", json_string_value(json_object_get(item, "remedy")));
}

void print_health(const json_t *answer)
{
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(answer, "components"), i, item)
	{
		const char *volume = json_string_value(json_object_get(item, "volume"));

		if (json_object_get(item, "id") != NULL) {
			print_finding(item);
			continue;
		}
		printf("%-9s %s%s%s\n", json_string_value(json_object_get(item, "state")),
				json_string_value(json_object_get(item, "component")),
				volume != NULL ? " of volume " : "", volume != NULL ? volume : "");
	}
}

static void print_findings(const json_t *list)
{
	const json_t *item;
	size_t i;

	for (int level = FINDING_FAILED; level >= FINDING_ADVICE; level--) {
		json_array_foreach(list, i, item)
		{
			const char *has = json_string_value(json_object_get(item, "level"));

			if (has != NULL && strcmp(has, finding_level_name(level)) == 0) {
				print_finding(item);
			}
		}
	}
	if (strcmp(findings_state(list), "ok") == 0) {
		printf("nothing is wrong%s\n",
				json_array_size(list) > 0 ? "; what is above is advice" : "");
	}
}

json_t *doctor_look(const struct ctl_options *o, const char *smb_conf)
{
	struct doctor *d = talloc_zero(NULL, struct doctor);
	char *socket = o->socket != NULL ? strdup(o->socket) : ctl_socket_of(o->conf);
	struct conf *conf = NULL;
	json_t *out = NULL, *status;
	char *error = NULL;

	if (d == NULL || socket == NULL) {
		goto out;
	}
	d->list = json_array();
	d->smb_conf = smb_conf;
	d->conf_path = o->conf;
	d->socket = socket;
	if (conf_load(d, o->conf, &conf, &error) != 0) {
		doctor_say(d, FINDING_CONFIG_BAD, NULL, "%s", error != NULL ? error : o->conf);
	}
	d->conf = conf;
	if (!doctor_daemon(d) && conf != NULL) {
		doctor_disk(d);
	}
	if (conf != NULL) {
		status = doctor_status(d);
		doctor_stubs(d, status);
		doctor_accounts(d, status);
		json_decref(status);
	}
	doctor_samba(d);
	out = json_pack("{s:s, s:o}", "state", findings_state(d->list), "findings", d->list);
out:
	free(socket);
	talloc_free(d);
	return out;
}

int ctl_doctor(const struct ctl_options *o, const struct words *w)
{
	json_t *out;
	bool ok;

	if (geteuid() != 0) {
		fprintf(stderr, "objectfsctl: doctor sees as root only what it must see\n");
		return CTL_EXIT_USAGE;
	}
	out = doctor_look(o, words_option(w, "--smb-conf"));
	if (out == NULL) {
		fprintf(stderr, "objectfsctl: out of memory\n");
		return CTL_EXIT_FAILED;
	}
	if (o->json) {
		json_dumpf(out, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		print_findings(json_object_get(out, "findings"));
	}
	ok = strcmp(text_of(out, "state"), "ok") == 0;
	json_decref(out);
	return fflush(stdout) == 0 && ok ? CTL_EXIT_OK : CTL_EXIT_FAILED;
}
