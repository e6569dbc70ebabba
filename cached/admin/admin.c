/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what an administrator asks of the running daemon: words in, JSON out.
 * Way: objectfsctl -> CTL (core/dispatch.c) -> admin_run -> a command of the table -> the answer.
 * Thread: core; commands that look at the disk use jobs.
 * Owns: one struct admin_cmd for each command under way, until it is answered.
 * Holds: every command is answered exactly once; the words come from outside and are checked here.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "command_table.h"
#include "private.h"
#include "../base/log.h"
#include "shared/version.h"
#include "shared/wire.h"

#define WORDS_MAX 64

json_t *admin_string(const char *s)
{
	json_t *j = s != NULL ? json_string(s) : json_null();
	char *copy;

	if (j != NULL) {
		return j;
	}
	copy = strdup(s);
	for (char *p = copy; p != NULL && *p != '\0'; p++) {
		if ((unsigned char)*p >= 0x80) {
			*p = '?';
		}
	}
	j = copy != NULL ? json_string(copy) : NULL;
	free(copy);
	return j != NULL ? j : json_null();
}

void admin_answer(struct admin_cmd *c, int status, json_t *answer, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	if (fmt != NULL) {
		va_start(ap, fmt);
		text = talloc_vasprintf(c, fmt, ap);
		va_end(ap);
	}
	c->done(status, text, answer, c->arg);
	json_decref(answer);
	talloc_free(c);
}

/* ---- what takes its time ---- */

void admin_task_add(struct admin_task *t, const struct admin_cmd *c,
		json_t *(*json)(const struct admin_task *t))
{
	t->cmd = c;
	t->json = json;
	t->next = c->core->tasks;
	t->prev = &c->core->tasks;
	if (t->next != NULL) {
		t->next->prev = &t->next;
	}
	c->core->tasks = t;
}

void admin_task_remove(struct admin_task *t)
{
	if (t->prev == NULL) {
		return;
	}
	*t->prev = t->next;
	if (t->next != NULL) {
		t->next->prev = t->prev;
	}
	t->prev = NULL;
}

void admin_tasks(struct admin_cmd *c)
{
	json_t *list = json_array();

	for (const struct admin_task *t = c->core->tasks; t != NULL; t = t->next) {
		json_t *o = t->json(t);

		json_object_set_new(o, "request", json_integer((json_int_t)t->cmd->request_id));
		json_array_append_new(list, o);
	}
	admin_answer(c, 0, json_pack("{s:o}", "tasks", list), NULL);
}

/* ---- commands of one line ---- */

static void admin_version(struct admin_cmd *c)
{
	admin_answer(c, 0,
			json_pack("{s:s, s:i, s:i}", "version", OFS_VERSION, "protocol_major",
					(int)OFS_WIRE_MAJOR, "protocol_minor", (int)OFS_WIRE_MINOR),
			NULL);
}

/* LEVEL [VOLUME]; "default" gives a volume the level of all again. Until the next start. */
static void admin_log(struct admin_cmd *c)
{
	struct volume *v = c->v;
	int level = log_level_parse(c->argv[0]);
	bool back = strcmp(c->argv[0], "default") == 0;

	if (c->argc == 2 && v == NULL) {
		v = volumes_find(c->core, c->argv[1]);
		if (v == NULL) {
			char *names = volumes_names(c, c->core);

			admin_answer(c, -ENOENT, NULL, "there is no volume %s; there are: %s", c->argv[1],
					names != NULL ? names : "?");
			return;
		}
	}
	if ((level < 0 && !back) || (back && v == NULL) || (v != NULL && v->log == NULL)) {
		admin_answer(c, -EINVAL, NULL,
				"log needs one of: error warning notice info debug, and perhaps a volume, "
				"for which default takes its own level away");
		return;
	}
	if (v != NULL) {
		log_volume_set_level(v->log, back ? -1 : level);
	} else {
		log_set_level((enum log_level)level);
	}
	log_notice("admin", "log level%s%s is %s now", v != NULL ? " of volume " : "",
			v != NULL ? v->name : "", c->argv[0]);
	admin_answer(c, 0,
			json_pack("{s:s, s:s?}", "log_level",
					log_level_name(log_level_of(v != NULL ? v->log : NULL)),
					"volume", v != NULL ? v->name : NULL),
			NULL);
}

#define COMMAND_ROW(name, fn, path, patience, print, args, help)                                     \
	{name, args, COMMAND_PATH_##path, fn},
static const struct command {
	const char *name, *args;
	enum command_path path;
	void (*fn)(struct admin_cmd *c);
} commands[] = {OFS_COMMAND_TABLE(COMMAND_ROW)};

/* No "..": what lies above the tree is nobody's business, and openat2 would refuse it anyway. */
static bool path_is_clean(const char *path)
{
	const char *p = path;

	while (*p != '\0') {
		size_t len = strcspn(p, "/");

		if (len == 2 && p[0] == '.' && p[1] == '.') {
			return false;
		}
		p += len;
		p += strspn(p, "/");
	}
	return strlen(path) < 4096;
}

/* "a//b/" -> "a/b", "" -> "." */
static char *path_normal(TALLOC_CTX *ctx, const char *path)
{
	char *out = talloc_strdup(ctx, "");

	while (out != NULL && *path != '\0') {
		size_t len = strcspn(path, "/");

		if (len > 0 && !(len == 1 && path[0] == '.')) {
			out = talloc_asprintf_append(
					out, "%s%.*s", out[0] != '\0' ? "/" : "", (int)len, path);
		}
		path += len;
		path += strspn(path, "/");
	}
	if (out != NULL && out[0] == '\0') {
		out = talloc_strdup_append(out, ".");
	}
	return out;
}

/* Sets c->v and c->path; false: answered. */
static bool path_take(struct admin_cmd *c, const char *word)
{
	struct core *core = c->core;
	const char *colon = strchr(word, ':'), *rest = word;
	char *names;

	if (word[0] == '/') {
		struct volume *v = volumes_by_path(core, word, &rest);

		if (v == NULL || (c->v != NULL && c->v != v)) {
			admin_answer(c, -EINVAL, NULL, "%s is not below the tree of %s", word,
					c->v != NULL ? c->v->name : "any volume");
			return false;
		}
		c->v = v;
	} else if (c->v == NULL && colon != NULL) {
		char *name = talloc_strndup(c, word, (size_t)(colon - word));

		c->v = name != NULL ? volumes_find(core, name) : NULL;
		rest = c->v != NULL ? colon + 1 : word;
	}
	if (c->v == NULL && core->volume_count == 1) {
		c->v = core->volumes[0];
	}
	if (c->v == NULL) {
		names = volumes_names(c, core);
		admin_answer(c, -EINVAL, NULL,
				"%s: which volume? Say VOLUME:path, or -v VOLUME; there are: %s", word,
				names != NULL ? names : "?");
		return false;
	}
	if (!path_is_clean(rest)) {
		admin_answer(c, -EINVAL, NULL, "%s: a path without \"..\" is needed", word);
		return false;
	}
	c->path = path_normal(c, rest);
	if (c->path == NULL) {
		admin_answer(c, -ENOMEM, NULL, "out of memory");
		return false;
	}
	return true;
}

static void command_run(struct admin_cmd *c, const struct command *cmd)
{
	const struct log_volume *before;
	char why[WORDS_WHY_BYTES];

	if (words_take(&c->words, cmd->args, c->argc, c->argv, why) != 0) {
		admin_answer(c, -EINVAL, NULL, "%s: %s; it takes: %s", cmd->name, why,
				cmd->args[0] != '\0' ? cmd->args : "nothing");
		return;
	}
	c->argv = c->words.plain;
	c->argc = c->words.plain_count;
	if (cmd->path != COMMAND_PATH_NO && c->argc == 1 && !path_take(c, c->argv[0])) {
		return;
	}
	before = log_enter(c->v != NULL ? c->v->log : NULL);
	cmd->fn(c);
	(void)log_enter(before);
}

/* Split at NULs; the last word may lack its own. */
static int words_split(struct admin_cmd *c, const char *argv, uint32_t bytes)
{
	char *copy = talloc_array(c, char, bytes + 1);
	const char **words = talloc_zero_array(c, const char *, WORDS_MAX);
	char *p = copy, *end;

	c->argv = words;
	if (copy == NULL || words == NULL) {
		return -ENOMEM;
	}
	if (bytes > 0) {
		memcpy(copy, argv, bytes);
	}
	copy[bytes] = '\0';
	end = copy + bytes;
	while (p < end) {
		if (c->argc == WORDS_MAX) {
			return -E2BIG;
		}
		words[c->argc++] = p;
		p += strlen(p) + 1;
	}
	return 0;
}

void admin_run(struct core *core, uint64_t request_id, const char *argv, uint32_t argv_bytes,
		admin_done done, void *arg)
{
	struct admin_cmd *c = talloc_zero(core, struct admin_cmd);
	const char *name;
	int ret;

	if (c == NULL) {
		done(-ENOMEM, "out of memory", NULL, arg);
		return;
	}
	c->core = core;
	c->request_id = request_id;
	c->done = done;
	c->arg = arg;
	ret = words_split(c, argv, argv_bytes);
	if (ret != 0) {
		admin_answer(c, ret, NULL, ret == -E2BIG ? "too many words" : "out of memory");
		return;
	}
	if (c->argc >= 2 && strcmp(c->argv[0], "-v") == 0) {
		c->v = volumes_find(core, c->argv[1]);
		if (c->v == NULL) {
			char *names = volumes_names(c, core);

			admin_answer(c, -ENOENT, NULL, "there is no volume %s; there are: %s",
					c->argv[1], names != NULL ? names : "?");
			return;
		}
		c->argv += 2;
		c->argc -= 2;
	}
	name = c->argc > 0 ? c->argv[0] : "";
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(commands[i].name, name) == 0) {
			c->argv++;
			c->argc--;
			command_run(c, &commands[i]);
			return;
		}
	}
	admin_answer(c, -EINVAL, NULL, "the daemon has no command \"%s\"", name);
}
