/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: objectfsctl: what an administrator types, checked, sent to the daemon, answered as text or
 * JSON.
 * Way: command line -> link.c -> daemon -> print.c. Thread: the only one. Owns: nothing lasting.
 * Holds: the exit status is the answer: 0 done, 1 failed or something is not in S3 yet, 2 usage,
 * 3 the daemon is not reachable.
 */
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../admin/command_table.h"
#include "ctl.h"
#include "shared/version.h"

#define CONF_DEFAULT "/etc/objectfs/objectfs.conf"
#define WORDS_MAX_BYTES 65536u
#define PATIENCE_S 120u

#define COMMAND_ROW(name, fn, path, patience, print, args, help)                                     \
	{name, args, help, print, COMMAND_PATH_##path != COMMAND_PATH_NO,                          \
			COMMAND_PATIENCE_##patience == COMMAND_PATIENCE_LONG, NULL},
#define LOCAL_ROW(name, fn, args, help) {name, args, help, NULL, false, false, fn},
static const struct command {
	const char *name, *args, *help;
	void (*print)(const json_t *answer);
	bool takes_path;
	bool endless; /* may take as long as S3 does */
	int (*local)(const struct ctl_options *o,
			const struct words *w); /* not sent to the daemon */
} commands[] = {OFS_COMMAND_TABLE(COMMAND_ROW) OFS_LOCAL_COMMAND_TABLE(LOCAL_ROW)};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

struct line { /* words joined by NUL */
	uint8_t bytes[WORDS_MAX_BYTES];
	size_t len;
};

static void usage(FILE *to)
{
	fprintf(to, "usage: objectfsctl [-c FILE] [-s SOCKET] [-v VOLUME] [--json] COMMAND ...\n"
		    "  -c FILE    configuration, default " CONF_DEFAULT "\n"
		    "  -s SOCKET  the daemon's socket, default the one of the configuration\n"
		    "  -v VOLUME  the volume, where there are several\n"
		    "  --json     the daemon's answer as it is\n"
		    "commands\n");
	for (size_t i = 0; i < COMMANDS; i++) {
		fprintf(to, "  %s%s%s\n      %s\n", commands[i].name,
				commands[i].args[0] != '\0' ? " " : "", commands[i].args,
				commands[i].help);
	}
	fprintf(to, "PATH: absolute below the mirror, ./ or ../ from here, VOLUME:path, or relative "
		    "to the volume\n"
		    "exit status: 0 done, 1 failed, not all in S3, or something is wrong,\n"
		    "2 usage, 3 no daemon\n");
}

static bool options_parse(struct ctl_options *o, int argc, char **argv)
{
	static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
			{"socket", required_argument, NULL, 's'},
			{"volume", required_argument, NULL, 'v'}, {"json", no_argument, NULL, 'j'},
			{"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'},
			{NULL, 0, NULL, 0}};
	int c;

	o->conf = CONF_DEFAULT;
	while ((c = getopt_long(argc, argv, "+c:s:v:h", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->conf = optarg;
			break;
		case 's':
			o->socket = optarg;
			break;
		case 'v':
			o->volume = optarg;
			break;
		case 'j':
			o->json = true;
			break;
		case 'h':
			usage(stdout);
			exit(CTL_EXIT_OK);
		case 'V':
			printf("objectfsctl %s\n", OFS_VERSION);
			exit(CTL_EXIT_OK);
		default:
			return false;
		}
	}
	return optind < argc;
}

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(commands[i].name, name) == 0) {
			return &commands[i];
		}
	}
	return NULL;
}

static bool line_add(struct line *w, const char *word)
{
	size_t len = strlen(word) + 1;

	if (len > sizeof(w->bytes) - w->len) {
		return false;
	}
	memcpy(w->bytes + w->len, word, len);
	w->len += len;
	return true;
}

/* A path from here becomes absolute and free of symlinks in its directories, so that the daemon
 * can find the volume; the last component may be missing, or a name to be looked at itself. */
static char *path_resolve(const char *word)
{
	char *copy, *base_copy, *dir, *real, *out = NULL;
	const char *base;

	if (word[0] != '/' && strncmp(word, "./", 2) != 0 && strncmp(word, "../", 3) != 0 &&
			strcmp(word, "..") != 0) {
		return strdup(word);
	}
	copy = strdup(word);
	base_copy = strdup(word);
	if (copy == NULL || base_copy == NULL) {
		goto out;
	}
	base = basename(base_copy);
	if (strcmp(base, ".") == 0 || strcmp(base, "..") == 0 || strcmp(base, "/") == 0) {
		out = realpath(word, NULL);
		goto out;
	}
	dir = dirname(copy);
	real = realpath(dir, NULL);
	if (real != NULL && asprintf(&out, "%s/%s", strcmp(real, "/") == 0 ? "" : real, base) < 0) {
		out = NULL;
	}
	free(real);
out:
	free(copy);
	free(base_copy);
	return out != NULL ? out : strdup(word);
}

/* As the daemon takes them; from NULL: as typed. */
static bool words_build(struct line *l, const struct ctl_options *o, const struct command *cmd,
		const struct words *w, const char *from)
{
	bool ok = true;

	l->len = 0;
	if (o->volume != NULL) {
		ok = line_add(l, "-v") && line_add(l, o->volume);
	}
	ok = ok && line_add(l, cmd->name);
	for (unsigned i = 0; i < w->option_count && ok; i++) {
		ok = line_add(l, w->options[i].name) &&
		     (w->options[i].value[0] == '\0' || line_add(l, w->options[i].value));
	}
	ok = ok && (from == NULL || (line_add(l, "--from") && line_add(l, from)));
	for (unsigned i = 0; i < w->plain_count && ok; i++) {
		char *path = cmd->takes_path ? path_resolve(w->plain[i]) : NULL;

		ok = (strncmp(w->plain[i], "--", 2) != 0 || line_add(l, "--")) &&
		     line_add(l, path != NULL ? path : w->plain[i]);
		free(path);
	}
	return ok;
}

int ctl_report_away(const char *socket, const struct ctl_options *o, int ret)
{
	if (ret == -ETIMEDOUT || ret == -ECONNRESET || ret == -EBADMSG || ret == -EPROTO) {
		fprintf(stderr, "objectfsctl: the daemon on %s does not answer: %s\n", socket,
				strerror(-ret));
		return ret == -ETIMEDOUT ? CTL_EXIT_FAILED : CTL_EXIT_AWAY;
	}
	if (ret == -EACCES || ret == -EPERM) {
		fprintf(stderr, "objectfsctl: %s: not permitted: be root, or in the group of the "
				"configuration\n",
				socket);
		return CTL_EXIT_AWAY;
	}
	fprintf(stderr, "objectfsctl: no daemon on %s (%s); start it with\n"
			"  systemctl start objectfs-cached    or    objectfs-cached -c %s\n",
			socket, strerror(-ret), o->conf);
	return CTL_EXIT_AWAY;
}

static int report(const struct ctl_options *o, const struct command *cmd, const struct ctl_reply *r)
{
	if (o->json) {
		json_t *out = r->json != NULL ? json_incref(r->json) : json_object();

		if (r->status != 0 && json_is_object(out)) {
			json_object_set_new(out, "error", json_string(strerror(-r->status)));
			json_object_set_new(out, "message", json_string(r->message));
		}
		json_dumpf(out, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(out);
	} else if (r->json != NULL) {
		cmd->print(r->json);
	}
	if (r->status != 0) {
		fflush(stdout);
		fprintf(stderr, "objectfsctl: %s\n",
				r->message[0] != '\0' ? r->message : strerror(-r->status));
		return r->status == -EINVAL ? CTL_EXIT_USAGE : CTL_EXIT_FAILED;
	}
	return fflush(stdout) == 0 ? CTL_EXIT_OK : CTL_EXIT_FAILED;
}

/* Text goes on where an answer says that there is more, unless so many were asked for. */
static const char *goes_on(const struct ctl_options *o, const struct words *w, const json_t *answer)
{
	return o->json || words_option(w, "--limit") != NULL ? NULL
			: json_string_value(json_object_get(answer, "next"));
}

static int ask(const struct ctl_options *o, const struct command *cmd, const struct words *w)
{
	static struct line line;
	char *socket = o->socket != NULL ? strdup(o->socket) : ctl_socket_of(o->conf);
	struct progress bar = {.socket = socket, .what = cmd->name,
			.request_id = ((uint64_t)getpid() << 16) + 1};
	struct ctl_wait wait = {
			.timeout_s = cmd->endless ? 0 : PATIENCE_S, .request_id = bar.request_id};
	struct ctl_reply reply = {0};
	char *from = NULL;
	int ret = socket != NULL ? CTL_EXIT_OK : CTL_EXIT_FAILED;
	bool more = ret == CTL_EXIT_OK;

	if (cmd->endless && isatty(STDERR_FILENO)) {
		wait.tick = progress_tick;
		wait.arg = &bar;
	}
	while (more) {
		if (!words_build(&line, o, cmd, w, from)) {
			fprintf(stderr, "objectfsctl: too many words\n");
			ret = CTL_EXIT_USAGE;
			break;
		}
		ret = ctl_ask(socket, line.bytes, line.len, &wait, &reply);
		progress_end(&bar);
		ret = ret != 0 ? ctl_report_away(socket, o, ret) : report(o, cmd, &reply);
		free(from);
		from = NULL;
		if (ret == CTL_EXIT_OK && goes_on(o, w, reply.json) != NULL) {
			from = strdup(goes_on(o, w, reply.json));
		}
		more = from != NULL;
		ctl_reply_done(&reply);
	}
	free(from);
	free(socket);
	return ret;
}

/* "--json" may stand anywhere before "--"; the rest is what the table says the command takes. */
static bool words_read(struct ctl_options *o, const struct command *cmd, int argc, char **argv,
		struct words *w)
{
	char why[WORDS_WHY_BYTES];
	int count = 0;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0) {
			while (i < argc) {
				argv[count++] = argv[i++];
			}
		} else if (strcmp(argv[i], "--json") == 0) {
			o->json = true;
		} else {
			argv[count++] = argv[i];
		}
	}
	if (words_take(w, cmd->args, (unsigned)count, (const char *const *)argv, why) == 0) {
		return true;
	}
	fprintf(stderr, "objectfsctl: %s: %s\nusage: objectfsctl %s%s%s\n", cmd->name, why,
			cmd->name, cmd->args[0] != '\0' ? " " : "", cmd->args);
	return false;
}

int main(int argc, char **argv)
{
	struct ctl_options o = {0};
	const struct command *cmd;
	struct words w;

	if (!options_parse(&o, argc, argv)) {
		usage(stderr);
		return CTL_EXIT_USAGE;
	}
	if (strcmp(argv[optind], "help") == 0) {
		usage(stdout);
		return CTL_EXIT_OK;
	}
	cmd = command_find(argv[optind]);
	if (cmd == NULL) {
		fprintf(stderr,
				"objectfsctl: there is no command %s; objectfsctl help lists "
				"them\n",
				argv[optind]);
		return CTL_EXIT_USAGE;
	}
	if (!words_read(&o, cmd, argc - optind - 1, argv + optind + 1, &w)) {
		return CTL_EXIT_USAGE;
	}
	return cmd->local != NULL ? cmd->local(&o, &w) : ask(&o, cmd, &w);
}
