/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reads objectfs.conf: libinih splits the lines, the table of options says what they mean.
 * Way: from main and objectfsctl; to the file.
 * Thread: core, at start and for --check-config; blocks on the file.
 * Owns: the open file and the parse state, until conf_load returns; the result is the caller's.
 * Holds: 1. The first error ends the reading, and names file and line.
 *        2. inih cuts lines at 200 bytes and section names at 49, takes indented lines for
 *           continuations and " ;" for a comment. So it is given lines without indentation, a
 *           long value in pieces as continuation lines, and the bytes it would act on in disguise
 *           (no control byte passes from the file); the section is remembered here.
 *        3. Values come back whole to conf_ini_handler when the last piece has been given.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "conf.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "conf_private.h"
#include "utf8.h"

#define CONF_LINE_MAX_BYTES 8192
#define CONF_KEY_MAX_BYTES 40
#define CONF_FILE_LINES_MAX 100000u

#define CONF_ROW(type, field, key, def, min, max, flags, help)                                     \
	{CONF_ROW_SECTION, key, CONF_##type, def, min, max, flags, help,                           \
			offsetof(CONF_ROW_STRUCT, field)},
const struct conf_option conf_options[] = {
#define CONF_ROW_SECTION "global"
#define CONF_ROW_STRUCT struct conf_global
	CONF_GLOBAL_TABLE(CONF_ROW)
#undef CONF_ROW_SECTION
#undef CONF_ROW_STRUCT
#define CONF_ROW_SECTION "volume"
#define CONF_ROW_STRUCT struct conf_volume
	CONF_VOLUME_TABLE(CONF_ROW)
};
#define CONF_OPTIONS (sizeof(conf_options) / sizeof(conf_options[0]))
const unsigned conf_option_count = CONF_OPTIONS;
_Static_assert(CONF_OPTIONS <= CONF_OPTIONS_MAX, "struct conf_seen has room");
_Static_assert(sizeof(enum log_level) == sizeof(unsigned) &&
				sizeof(enum conf_store) == sizeof(unsigned),
		"enumerations are stored as unsigned");

void conf_fail(struct conf_parse *p, int ret, unsigned line, const char *key, const char *fmt, ...)
{
	char *reason;
	va_list ap;

	if (p->ret != 0) {
		return;
	}
	p->ret = ret;
	va_start(ap, fmt);
	reason = talloc_vasprintf(p->conf, fmt, ap);
	va_end(ap);
	p->error = line == 0 ? talloc_asprintf(p->conf, "%s: ", p->path)
			     : talloc_asprintf(p->conf, "%s:%u: ", p->path, line);
	if (reason == NULL || p->error == NULL) {
		p->ret = -ENOMEM;
		return;
	}
	p->error = talloc_asprintf_append(p->error, "%s%s%s", key == NULL ? "" : key,
			key == NULL ? "" : ": ", reason);
}

/* --- keys and values --- */

/* As Samba compares parameters: neither case nor spaces count. */
static bool conf_key_equal(const char *a, const char *b)
{
	for (;;) {
		while (isspace((unsigned char)*a)) {
			a++;
		}
		while (isspace((unsigned char)*b)) {
			b++;
		}
		if (tolower((unsigned char)*a) != tolower((unsigned char)*b)) {
			return false;
		}
		if (*a == '\0') {
			return true;
		}
		a++;
		b++;
	}
}

static const char *conf_section_name(enum conf_section section)
{
	return section == CONF_IN_GLOBAL ? "global" : "volume";
}

static const struct conf_option *conf_option_find(const char *section, const char *key)
{
	for (unsigned i = 0; i < conf_option_count; i++) {
		if (strcmp(conf_options[i].section, section) == 0 &&
				conf_key_equal(conf_options[i].key, key)) {
			return &conf_options[i];
		}
	}
	return NULL;
}

static void conf_fail_unknown(struct conf_parse *p, const char *key)
{
	enum conf_section other = p->section == CONF_IN_GLOBAL ? CONF_IN_VOLUME : CONF_IN_GLOBAL;

	if (conf_option_find(conf_section_name(other), key) != NULL) {
		conf_fail(p, -EINVAL, p->line, key, "belongs into %s",
				other == CONF_IN_GLOBAL ? "[global]" : "[volume NAME]");
		return;
	}
	conf_fail(p, -EINVAL, p->line, NULL, "unknown key \"%s\" in [%s]", key,
			conf_section_name(p->section));
}

static void conf_set(struct conf_parse *p, const char *key, const char *value)
{
	const struct conf_option *opt;
	struct conf_seen *seen = &p->global_seen;
	void *base = &p->conf->global;
	unsigned *line;
	char *reason;

	opt = conf_option_find(conf_section_name(p->section), key);
	if (opt == NULL) {
		conf_fail_unknown(p, key);
		return;
	}
	if (p->section == CONF_IN_VOLUME) {
		base = &p->conf->volumes[p->conf->volume_count - 1];
		seen = &p->volume_seen[p->conf->volume_count - 1];
	}
	line = &seen->line[opt - conf_options];
	if (*line != 0) {
		conf_fail(p, -EINVAL, p->line, opt->key, "already set in line %u", *line);
		return;
	}
	*line = p->line;
	if (!conf_value_parse(p->conf, opt, value, base, &reason)) {
		if (reason == NULL) {
			conf_fail(p, -ENOMEM, p->line, opt->key, "out of memory");
		} else {
			conf_fail(p, -EINVAL, p->line, opt->key, "%s", reason);
		}
	}
}

/* --- sections --- */

static bool conf_volume_name_sound(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t len = strlen(name);

	return len > 0 && len <= CONF_VOLUME_NAME_MAX_BYTES && name[0] != '.' &&
			strspn(name, allowed) == len;
}

static void conf_volume_begin(struct conf_parse *p, const char *name)
{
	struct conf *conf = p->conf;
	unsigned n = conf->volume_count;

	if (!conf_volume_name_sound(name)) {
		conf_fail(p, -EINVAL, p->line, NULL,
				"[volume %s]: a volume's name is 1 to %u letters, digits, dots, "
				"underscores and hyphens, and does not begin with a dot",
				name, CONF_VOLUME_NAME_MAX_BYTES);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		if (strcasecmp(conf->volumes[i].name, name) == 0) {
			conf_fail(p, -EINVAL, p->line, NULL,
					"[volume %s]: already defined in line %u", name,
					conf->volumes[i].line);
			return;
		}
	}
	conf->volumes = talloc_realloc(conf, conf->volumes, struct conf_volume, n + 1);
	p->volume_seen = talloc_realloc(conf, p->volume_seen, struct conf_seen, n + 1);
	if (conf->volumes == NULL || p->volume_seen == NULL) {
		conf_fail(p, -ENOMEM, p->line, NULL, "out of memory");
		return;
	}
	memset(&conf->volumes[n], 0, sizeof(conf->volumes[n]));
	memset(&p->volume_seen[n], 0, sizeof(p->volume_seen[n]));
	conf->volumes[n].line = p->line;
	conf->volumes[n].name = talloc_strdup(conf, name);
	if (conf->volumes[n].name == NULL) {
		conf_fail(p, -ENOMEM, p->line, NULL, "out of memory");
		return;
	}
	conf->volume_count = n + 1;
	p->section = CONF_IN_VOLUME;
}

/* Without spaces at both ends, in place. */
static char *conf_trim(char *text)
{
	size_t len;

	while (*text == ' ' || *text == '\t') {
		text++;
	}
	len = strlen(text);
	while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL) {
		text[--len] = '\0';
	}
	return text;
}

static void conf_section_begin(struct conf_parse *p, char *text)
{
	size_t len = strlen(text);
	char *name;

	if (text[len - 1] != ']') {
		conf_fail(p, -EINVAL, p->line, NULL, "a section's line must end in ]");
		return;
	}
	text[len - 1] = '\0';
	name = conf_trim(text + 1);
	if (strcasecmp(name, "global") == 0) {
		p->section = CONF_IN_GLOBAL;
		return;
	}
	if (strncasecmp(name, "volume", 6) == 0 && (name[6] == ' ' || name[6] == '\t')) {
		conf_volume_begin(p, conf_trim(name + 6));
		return;
	}
	conf_fail(p, -EINVAL, p->line, NULL,
			"unknown section [%s]: there are [global] and [volume NAME]", name);
}

/* --- lines --- */

/* The next line that says something, trimmed; NULL: the end, or an error. */
static char *conf_line_next(struct conf_parse *p)
{
	for (;;) {
		ssize_t len;
		char *text;

		errno = 0;
		len = getline(&p->text, &p->text_room, p->stream);
		if (len < 0) {
			if (ferror(p->stream) || errno == ENOMEM) {
				int err = errno != 0 ? errno : EIO;

				conf_fail(p, -err, 0, NULL, "%s", strerror(err));
			}
			return NULL;
		}
		p->line++;
		if (len > CONF_LINE_MAX_BYTES || p->line > CONF_FILE_LINES_MAX) {
			conf_fail(p, -EINVAL, p->line, NULL,
					"too long: a line has at most %d bytes, the file %u lines",
					CONF_LINE_MAX_BYTES, CONF_FILE_LINES_MAX);
			return NULL;
		}
		text = p->text;
		if (p->line == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0) {
			text += 3;
			len -= 3;
		}
		if (strlen(text) != (size_t)len || !utf8_is_sound(text)) {
			conf_fail(p, -EINVAL, p->line, NULL, "not text in UTF-8");
			return NULL;
		}
		text = conf_trim(text);
		for (const char *c = text; *c != '\0'; c++) {
			if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f) {
				conf_fail(p, -EINVAL, p->line, NULL, "control character");
				return NULL;
			}
		}
		if (*text != '\0' && *text != '#' && *text != ';') {
			return text;
		}
	}
}

/* Bytes that would mean something to inih inside a value, and what stands for them there. */
static const char conf_plain[] = " \t;#";
static const char conf_disguise[] = "\x01\x02\x03\x04";

static void conf_translate(char *text, const char *from, const char *to)
{
	for (; *text != '\0'; text++) {
		const char *at = strchr(from, *text);

		if (at != NULL) {
			*text = to[at - from];
		}
	}
}

/* The next piece of the value behind what `buf` holds already. */
static char *conf_give(struct conf_parse *p, char *buf, size_t used, size_t room)
{
	size_t len = strlen(p->rest);

	if (used + 2 >= room) {
		conf_fail(p, -EINVAL, p->line, NULL, "this line cannot be read");
		return NULL;
	}
	if (len > room - used - 2) {
		len = room - used - 2;
	}
	memcpy(buf + used, p->rest, len);
	memcpy(buf + used + len, "\n", 2);
	p->rest += len;
	p->expect = true;
	return buf;
}

static char *conf_give_key(struct conf_parse *p, char *text, char *buf, size_t room)
{
	char *equals = strchr(text, '=');
	char *key;
	int used;

	if (equals == NULL) {
		/* not repeated: it may be half of a secret */
		conf_fail(p, -EINVAL, p->line, NULL, "neither \"key = value\" nor a section");
		return NULL;
	}
	*equals = '\0';
	key = conf_trim(text);
	if (p->section == CONF_IN_NONE) {
		conf_fail(p, -EINVAL, p->line, key, "stands before the first section");
		return NULL;
	}
	if (strlen(key) > CONF_KEY_MAX_BYTES || *key == '\0' ||
			strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ \t") !=
					strlen(key)) {
		conf_fail_unknown(p, key);
		return NULL;
	}
	p->rest = conf_trim(equals + 1);
	conf_translate(equals + 1, conf_plain, conf_disguise);
	p->value = talloc_strdup(p->conf, "");
	used = snprintf(buf, room, "%s = ", key);
	return conf_give(p, buf, used < 0 ? room : (size_t)used, room);
}

/* inih's fgets. */
static char *conf_ini_reader(char *buf, int num, void *stream)
{
	struct conf_parse *p = stream;
	size_t room = num > 0 ? (size_t)num : 0;
	char *text;

	if (p->ret == 0 && p->expect) {
		conf_fail(p, -EINVAL, p->line, NULL, "this line cannot be read");
	}
	if (p->ret != 0 || room < 16) {
		return NULL;
	}
	if (p->rest != NULL) {
		buf[0] = ' ';
		return conf_give(p, buf, 1, room);
	}
	text = conf_line_next(p);
	if (text == NULL) {
		return NULL;
	}
	if (*text == '[') {
		conf_section_begin(p, text);
		return strcpy(buf, "[s]\n"); /* inih forgets the key before */
	}
	return conf_give_key(p, text, buf, room);
}

static int conf_ini_handler(void *user, const char *section, const char *name, const char *value)
{
	struct conf_parse *p = user;

	(void)section;
	if (p->ret != 0 || !p->expect) {
		return 1;
	}
	p->expect = false;
	p->value = talloc_strdup_append(p->value, value);
	if (p->value == NULL) {
		conf_fail(p, -ENOMEM, p->line, NULL, "out of memory");
		return 1;
	}
	if (*p->rest == '\0') {
		p->rest = NULL; /* it points into a buffer that the next line overwrites */
		conf_translate(p->value, conf_disguise, conf_plain);
		conf_set(p, name, p->value);
		/* a secret does not stay in memory twice */
		explicit_bzero(p->value, strlen(p->value));
		TALLOC_FREE(p->value);
	}
	return 1;
}

/* --- the whole --- */

static void conf_defaults(struct conf_parse *p, const char *section, const struct conf_seen *seen,
		void *base, unsigned section_line)
{
	for (unsigned i = 0; i < conf_option_count; i++) {
		const struct conf_option *opt = &conf_options[i];
		char *reason;

		if (strcmp(opt->section, section) != 0 || seen->line[i] != 0) {
			continue;
		}
		if ((opt->flags & CONF_REQUIRED) != 0) {
			conf_fail(p, -EINVAL, section_line, opt->key, "must be set");
			return;
		}
		if (opt->def != NULL && !conf_value_parse(p->conf, opt, opt->def, base, &reason)) {
			conf_fail(p, -EINVAL, 0, opt->key, "default: %s",
					reason == NULL ? "out of memory" : reason);
			return;
		}
	}
}

static void conf_finish(struct conf_parse *p)
{
	if (p->ret == 0 && p->conf->volume_count == 0) {
		conf_fail(p, -EINVAL, 0, NULL, "no [volume NAME] section: nothing to serve");
	}
	if (p->ret == 0) {
		conf_defaults(p, "global", &p->global_seen, &p->conf->global, 0);
	}
	for (unsigned i = 0; p->ret == 0 && i < p->conf->volume_count; i++) {
		conf_defaults(p, "volume", &p->volume_seen[i], &p->conf->volumes[i],
				p->conf->volumes[i].line);
	}
	if (p->ret == 0) {
		conf_check(p);
	}
}

/* A file with secrets that `mode` lets everyone use. */
static void conf_check_mode(struct conf_parse *p, mode_t mode)
{
	if ((mode & S_IRWXO) == 0) {
		return;
	}
	for (unsigned v = 0; v < p->conf->volume_count; v++) {
		for (unsigned i = 0; i < conf_option_count; i++) {
			if ((conf_options[i].flags & CONF_SECRET) != 0 &&
					p->volume_seen[v].line[i] != 0) {
				conf_fail(p, -EACCES, p->volume_seen[v].line[i],
						conf_options[i].key,
						"everyone may read this file (mode %03o): chmod "
						"600 %s",
						(unsigned)(mode & 0777), p->path);
			}
		}
	}
}

/* Which lines said what, for whoever shows the configuration. */
static int conf_keep_lines(struct conf_parse *p)
{
	unsigned n = p->conf->volume_count;
	struct conf_seen *seen = talloc_array(p->conf, struct conf_seen, n + 1);

	if (seen == NULL) {
		return -ENOMEM;
	}
	seen[0] = p->global_seen;
	memcpy(&seen[1], p->volume_seen, n * sizeof(*seen));
	TALLOC_FREE(p->volume_seen);
	p->conf->seen = seen;
	return 0;
}

static int conf_read(TALLOC_CTX *ctx, FILE *stream, const char *path, mode_t mode,
		struct conf **conf, char **error)
{
	struct conf_parse *p;
	int ini, ret;

	*conf = NULL;
	*error = NULL;
	p = talloc_zero(ctx, struct conf_parse);
	if (p == NULL) {
		return -ENOMEM;
	}
	p->conf = talloc_zero(p, struct conf);
	if (p->conf == NULL) {
		talloc_free(p);
		return -ENOMEM;
	}
	p->path = path;
	p->stream = stream;
	p->conf->path = talloc_strdup(p->conf, path);
	ini = ini_parse_stream(conf_ini_reader, p, conf_ini_handler, p);
	if (ini != 0 || p->expect) {
		conf_fail(p, ini == -2 ? -ENOMEM : -EINVAL, p->line, NULL,
				"this line cannot be read");
	}
	conf_finish(p);
	conf_check_mode(p, mode);
	ret = p->ret;
	if (ret == 0) {
		ret = conf_keep_lines(p);
	}
	if (ret == 0) {
		*conf = talloc_steal(ctx, p->conf);
	} else {
		*error = p->error == NULL ? NULL : talloc_steal(ctx, p->error);
	}
	if (p->text != NULL) {
		explicit_bzero(p->text, p->text_room);
		free(p->text);
	}
	talloc_free(p);
	return ret;
}

int conf_load_stream(
		TALLOC_CTX *ctx, FILE *stream, const char *path, struct conf **conf, char **error)
{
	return conf_read(ctx, stream, path, 0, conf, error);
}

int conf_load(TALLOC_CTX *ctx, const char *path, struct conf **conf, char **error)
{
	struct stat st;
	FILE *stream;
	int ret;

	*conf = NULL;
	stream = fopen(path, "re");
	if (stream == NULL || fstat(fileno(stream), &st) != 0) {
		ret = -errno;
		*error = talloc_asprintf(ctx, "%s: %s", path, strerror(-ret));
		if (stream != NULL) {
			fclose(stream);
		}
		return ret;
	}
	ret = conf_read(ctx, stream, path, st.st_mode, conf, error);
	fclose(stream);
	return ret;
}

const struct conf_volume *conf_volume_find(const struct conf *conf, const char *name)
{
	for (unsigned i = 0; i < conf->volume_count; i++) {
		if (strcmp(conf->volumes[i].name, name) == 0) {
			return &conf->volumes[i];
		}
	}
	return NULL;
}
