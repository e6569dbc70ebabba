/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what was typed behind a command, against what the table says it takes.
 * Way: objectfsctl, before it asks, and admin.c, which believes nobody -> here.
 * Thread: any. Owns: nothing.
 * Holds: 1. what the table does not name is refused, with the whole of what it does name;
 *        2. "--" ends the options.
 */
#include "words.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The word of args that begins at *p; false: no more. "[--limit NUMBER]" is two words. */
static bool spec_next(const char **p, const char **word, size_t *len, bool *optional)
{
	*p += strspn(*p, " ]");
	*optional = **p == '[';
	*p += *optional ? 1 : 0;
	*word = *p;
	*len = strcspn(*p, " ]");
	*p += *len;
	return *len > 0;
}

/* The word that says what an option's value is; *value NULL: it takes none. false: no such option. */
static bool spec_option(const char *args, const char *name, const char **value, size_t *value_len)
{
	const char *word;
	size_t len;
	bool optional;

	while (spec_next(&args, &word, &len, &optional)) {
		if (strncmp(word, name, len) != 0 || name[len] != '\0') {
			continue;
		}
		*value = NULL;
		if (*args == ' ') { /* not closed yet */
			(void)spec_next(&args, value, value_len, &optional);
		}
		return true;
	}
	return false;
}

/* How many plain words there must and may be, options and their values apart. */
static void spec_plain(const char *args, unsigned *least, unsigned *most)
{
	const char *word;
	size_t len;
	bool optional;

	*least = *most = 0;
	while (spec_next(&args, &word, &len, &optional)) {
		if (strncmp(word, "--", 2) != 0) {
			*most += 1;
			*least += optional ? 0 : 1;
		} else if (*args == ' ') {
			(void)spec_next(&args, &word, &len, &optional);
		}
	}
}

static bool value_fits(const char *kind, size_t len, const char *text)
{
	char *end = NULL;
	double n;

	if (strncmp(kind, "SECONDS", len) != 0 && strncmp(kind, "NUMBER", len) != 0) {
		return text[0] != '\0';
	}
	n = strtod(text, &end);
	if (end == text || *end != '\0' || !(n > 0 && n < 1e9)) {
		return false;
	}
	return kind[0] == 'S' || strspn(text, "0123456789") == strlen(text);
}

static int option_take(struct words *w, const char *args, unsigned argc, const char *const *argv,
		unsigned *at, char *why)
{
	const char *name = argv[*at], *kind = NULL, *value = "";
	size_t len = 0;

	if (!spec_option(args, name, &kind, &len) || strlen(name) >= sizeof(w->options[0].name) ||
			w->option_count == WORDS_OPTIONS_MAX) {
		snprintf(why, WORDS_WHY_BYTES, "there is no option %.40s", name);
		return -EINVAL;
	}
	if (kind != NULL) {
		if (*at + 1 >= argc || !value_fits(kind, len, argv[*at + 1])) {
			snprintf(why, WORDS_WHY_BYTES, "%s needs %.*s%s%.40s", name, (int)len, kind,
					*at + 1 < argc ? ", not " : "",
					*at + 1 < argc ? argv[*at + 1] : "");
			return -EINVAL;
		}
		value = argv[++*at];
	}
	strcpy(w->options[w->option_count].name, name);
	w->options[w->option_count++].value = value;
	return 0;
}

int words_take(struct words *w, const char *args, unsigned argc, const char *const *argv,
		char why[WORDS_WHY_BYTES])
{
	unsigned least, most;
	bool plain = false;

	memset(w, 0, sizeof(*w));
	spec_plain(args, &least, &most);
	for (unsigned i = 0; i < argc; i++) {
		if (!plain && strcmp(argv[i], "--") == 0) {
			plain = true;
		} else if (!plain && strncmp(argv[i], "--", 2) == 0) {
			if (option_take(w, args, argc, argv, &i, why) != 0) {
				return -EINVAL;
			}
		} else if (w->plain_count == most || w->plain_count == WORDS_PLAIN_MAX) {
			snprintf(why, WORDS_WHY_BYTES, "%.60s is one word too many", argv[i]);
			return -EINVAL;
		} else {
			w->plain[w->plain_count++] = argv[i];
		}
	}
	if (w->plain_count < least) {
		snprintf(why, WORDS_WHY_BYTES, "something is missing");
		return -EINVAL;
	}
	return 0;
}

const char *words_option(const struct words *w, const char *name)
{
	for (unsigned i = w->option_count; i > 0; i--) {
		if (strcmp(w->options[i - 1].name, name) == 0) {
			return w->options[i - 1].value;
		}
	}
	return NULL;
}
