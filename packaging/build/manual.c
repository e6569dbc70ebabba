/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the manual's tables, and the shell completion, from the tables in code: a page (mdoc) in,
 * the same out, each line "@NAME" replaced by the table of that name.
 * Way: make -> here, on docs/man/NAME.SECTION or packaging/completion -> build/.
 * Thread: the only one. Owns: nothing lasting.
 * Holds: an unknown "@NAME" is an error, so that no page can lose its table by a slip.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cached/admin/command_table.h"
#include "cached/admin/findings.h"
#include "cached/base/conf.h"
#include "cached/base/stats.h"
#include "shared/version.h"
#include "vfs_objectfs/ofs_conf_table.h"

/* Text as roff takes it for text, wherever it stands. */
static void put(const char *text)
{
	if (text[0] == '.' || text[0] == '\'') {
		fputs("\\&", stdout);
	}
	for (const char *p = text; *p != '\0'; p++) {
		switch (*p) {
		case '\\':
			fputs("\\e", stdout);
			break;
		case '~':
			fputs("\\(ti", stdout);
			break;
		case '"':
			fputs("\\(dq", stdout);
			break;
		default:
			putchar(*p);
		}
	}
}

static void list_begin(void)
{
	printf(".Bl -tag -width Ds\n");
}

static void list_end(void)
{
	printf(".El\n");
}

static void option_item(const char *before, const char *key, const char *value, const char *help)
{
	printf(".It Ic \"%s%s\" = Ar %s\n", before, key, value);
	put(help);
	printf(".\n");
}

static void default_line(const char *def)
{
	if (def == NULL || def[0] == '\0') {
		return;
	}
	printf("Default:\n.Ql ");
	put(def);
	printf(" .\n");
}

/* --- objectfs.conf --- */

static const char *type_word(enum conf_type type)
{
	switch (type) {
	case CONF_PATH:
		return "path";
	case CONF_BOOL:
		return "yes | no";
	case CONF_COUNT:
		return "number";
	case CONF_SIZE:
		return "size";
	case CONF_DURATION:
		return "duration";
	default:
		return "text";
	}
}

static const char *words_of(enum conf_type type, char *buf, size_t room)
{
	const char *const *words = conf_type_words(type);

	if (words == NULL) {
		return type_word(type);
	}
	buf[0] = '\0';
	for (size_t i = 0; words[i] != NULL; i++) {
		size_t len = strlen(buf);

		snprintf(buf + len, room - len, "%s%s", i > 0 ? " | " : "", words[i]);
	}
	return buf;
}

static void limits_line(const struct conf_option *o)
{
	char *min, *max;

	if (o->type != CONF_COUNT && o->type != CONF_SIZE && o->type != CONF_DURATION) {
		return;
	}
	min = conf_number_format(NULL, o->type, o->min);
	max = conf_number_format(NULL, o->type, o->max);
	if (o->max == INT64_MAX) {
		printf("At least %s.\n", min);
	} else {
		printf("From %s to %s.\n", min, max);
	}
	talloc_free(min);
	talloc_free(max);
}

static void conf_section(const char *section)
{
	char words[128];

	list_begin();
	for (unsigned i = 0; i < conf_option_count; i++) {
		const struct conf_option *o = &conf_options[i];

		if (strcmp(o->section, section) != 0) {
			continue;
		}
		option_item("", o->key, words_of(o->type, words, sizeof(words)), o->help);
		if ((o->flags & CONF_REQUIRED) != 0) {
			printf("Required.\n");
		}
		if ((o->flags & (CONF_S3_ONLY | CONF_DIR_ONLY)) != 0) {
			printf("Only with\n.Ql store = %s .\n",
					(o->flags & CONF_S3_ONLY) != 0 ? "s3" : "dir");
		}
		limits_line(o);
		default_line(o->def);
	}
	list_end();
}

static void conf_global(void)
{
	conf_section("global");
}

static void conf_volume(void)
{
	conf_section("volume");
}

/* --- smb.conf --- */

static void share_TEXT(const char *key, const char *def, const char *help)
{
	option_item("objectfs:", key, "text", help);
	default_line(def);
}

static void share_BOOL(const char *key, bool def, const char *help)
{
	option_item("objectfs:", key, "yes | no", help);
	default_line(def ? "yes" : "no");
}

static void share_COUNT(const char *key, int def, const char *help)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", def);
	option_item("objectfs:", key, "number", help);
	default_line(text);
}

static void share_options(void)
{
	list_begin();
#define SHARE_ROW(type, field, key, def, help) share_##type(key, def, help);
	OFS_CONF_TABLE(SHARE_ROW)
	list_end();
}

/* --- counters and commands --- */

static void counters(void)
{
	list_begin();
	for (unsigned i = 0; i < stats_row_count; i++) {
		const struct stats_row *s = &stats_rows[i];

		printf(".It Va %s Pq %s%s\n", s->name, s->unit,
				s->kind == STATS_GAUGE ? ", now" : "");
		put(s->help);
		printf(".\n");
	}
	list_end();
}

static void times(void)
{
	list_begin();
	for (unsigned i = 0; i < times_row_count; i++) {
		const struct times_row *t = &times_rows[i];

		printf(".It Va objectfs_%s_seconds Pq %s %s\n", t->family, t->label, t->value);
		put(t->help);
		printf(".\n");
	}
	list_end();
}

static void findings_list(void)
{
	list_begin();
	for (unsigned i = 0; i < FINDINGS; i++) {
		const struct finding *f = &findings[i];

		printf(".It Sy %s Pq %s, %s\n", f->id, f->component, finding_level_name(f->level));
		put(f->what);
		printf(".\nRemedy:\n");
		put(f->remedy);
		printf(".\n");
	}
	list_end();
}

static const struct command {
	const char *name, *args, *help;
} commands[] = {
#define COMMAND_ROW(name, fn, path, patience, print, args, help) {name, args, help},
#define LOCAL_ROW(name, fn, args, help) {name, args, help},
		OFS_COMMAND_TABLE(COMMAND_ROW) OFS_LOCAL_COMMAND_TABLE(LOCAL_ROW)};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* "[--wait] [--timeout SECONDS] [PATH]" in mdoc's words */
static void command_args(const char *args)
{
	char copy[256], *save = NULL;

	snprintf(copy, sizeof(copy), "%s", args);
	for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
		size_t len;
		bool close;

		if (w[0] == '[') {
			printf(" Oo");
			w++;
		}
		len = strcspn(w, "]");
		close = w[len] == ']';
		w[len] = '\0';
		if (strncmp(w, "--", 2) == 0) {
			printf(" Fl -%s", w + 2);
		} else {
			printf(" Ar %s", w);
		}
		printf("%s", close ? " Oc" : "");
	}
}

static void command_list(void)
{
	list_begin();
	for (size_t i = 0; i < COMMANDS; i++) {
		printf(".It Cm %s", commands[i].name);
		command_args(commands[i].args);
		putchar('\n');
		put(commands[i].help);
		printf(".\n");
	}
	list_end();
}

/* As lines of a shell's case: "flush) args="--wait --timeout=SECONDS PATH" ;;" */
static void completion(void)
{
	printf("\tlocal commands=\"help");
	for (size_t i = 0; i < COMMANDS; i++) {
		printf(" %s", commands[i].name);
	}
	printf("\"\n\tcase $command in\n");
	for (size_t i = 0; i < COMMANDS; i++) {
		printf("\t%s) args=\"", commands[i].name);
		for (const char *p = commands[i].args, *open = NULL; *p != '\0'; p++) {
			if (*p == '[' || *p == ']') {
				open = *p == '[' ? p : NULL;
			} else {
				putchar(*p == ' ' && open != NULL ? '=' : *p);
			}
		}
		printf("\" ;;\n");
	}
	printf("\tesac\n");
}

static void levels(void)
{
	const char *const *words = conf_type_words(CONF_LEVEL);

	printf("\tlocal levels=\"");
	for (size_t i = 0; words[i] != NULL; i++) {
		printf("%s%s", i > 0 ? " " : "", words[i]);
	}
	printf("\"\n");
}

static void version(void)
{
	printf(".Os ObjectFS %s\n", OFS_VERSION);
}

static const struct {
	const char *name;
	void (*print)(void);
} tables[] = {{"conf-global", conf_global}, {"conf-volume", conf_volume}, {"share", share_options},
		{"counters", counters}, {"times", times},
		{"findings", findings_list}, {"commands", command_list}, {"completion", completion},
		{"levels", levels}, {"version", version}};

static bool table_print(const char *name)
{
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		if (strcmp(tables[i].name, name) == 0) {
			tables[i].print();
			return true;
		}
	}
	return false;
}

int main(void)
{
	char line[4096];

	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (line[0] != '@') {
			fputs(line, stdout);
			continue;
		}
		line[strcspn(line, "\n")] = '\0';
		if (!table_print(line + 1)) {
			fprintf(stderr, "manual: there is no table %s\n", line);
			return 1;
		}
	}
	return ferror(stdin) || fflush(stdout) != 0 ? 1 : 0;
}
