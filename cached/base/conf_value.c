/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Values of objectfs.conf: text to number, word, path or string, with a reason when it is none.
 * Way: from conf.c, for values of the file and for defaults alike.
 * Thread: core, at start and for --check-config.
 * Owns: nothing; strings made here belong to the configuration.
 * Holds: 1. No reason repeats the value of a secret.
 */
#include "conf_private.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct conf_unit {
	const char *suffix;
	int64_t factor;
};
static const struct conf_unit conf_size_units[] = { /* largest first */
	{"T", CONF_TIB}, {"G", CONF_GIB}, {"M", CONF_MIB}, {"K", CONF_KIB}, {"", 1}, {NULL, 0}};
static const struct conf_unit conf_duration_units[] = {{"d", CONF_DAY}, {"h", 3600 * CONF_S},
	{"m", 60 * CONF_S}, {"s", CONF_S}, {"ms", CONF_MS}, {"", CONF_S}, {NULL, 0}};
static const struct conf_unit conf_count_units[] = {{"", 1}, {NULL, 0}};

static const char *const conf_words_level[] = {
	[LOG_LVL_ERROR] = "error",
	[LOG_LVL_WARNING] = "warning",
	[LOG_LVL_NOTICE] = "notice",
	[LOG_LVL_INFO] = "info",
	[LOG_LVL_DEBUG] = "debug",
	NULL,
};
static const char *const conf_words_format[] = {
	[LOG_FORMAT_TEXT] = "text", [LOG_FORMAT_JSON] = "json", NULL};
static const char *const conf_words_store[] = {
	[CONF_STORE_DIR] = "dir", [CONF_STORE_S3] = "s3", NULL};
static const char *const conf_words_addressing[] = {[CONF_ADDR_AUTO] = "auto",
	[CONF_ADDR_PATH] = "path",
	[CONF_ADDR_VIRTUAL] = "virtual",
	NULL};
static const char *const conf_words_xattr[] = {[CONF_XATTR_AUTO] = "auto",
	[CONF_XATTR_SECURITY] = "security",
	[CONF_XATTR_USER] = "user",
	NULL};
static const char *const conf_words_guard[] = {
	[CONF_GUARD_AUTO] = "auto", [CONF_GUARD_YES] = "yes", [CONF_GUARD_NO] = "no", NULL};
static const char *const conf_words_encryption[] = {[CONF_SSE_NONE] = "none",
	[CONF_SSE_S3] = "s3",
	[CONF_SSE_KMS] = "kms",
	[CONF_SSE_CUSTOMER] = "customer",
	NULL};
static const char *const conf_words_checksum[] = {[CONF_SUM_NONE] = "none",
	[CONF_SUM_AUTO] = "auto",
	[CONF_SUM_CRC64NVME] = "crc64nvme",
	[CONF_SUM_CRC32C] = "crc32c",
	[CONF_SUM_SHA256] = "sha256",
	NULL};
static const char *const conf_words_foreign[] = {[CONF_FOREIGN_KEEP] = "keep",
	[CONF_FOREIGN_LOG] = "log",
	[CONF_FOREIGN_REFUSE] = "refuse",
	NULL};
static const char *const conf_words_trust[] = {
	[CONF_TRUST_ALL] = "all", [CONF_TRUST_SIGNED] = "signed", NULL};

const char *const *conf_type_words(enum conf_type type)
{
	switch (type) {
	case CONF_LEVEL:
		return conf_words_level;
	case CONF_FORMAT:
		return conf_words_format;
	case CONF_STORE:
		return conf_words_store;
	case CONF_ADDRESSING:
		return conf_words_addressing;
	case CONF_XATTR:
		return conf_words_xattr;
	case CONF_GUARD:
		return conf_words_guard;
	case CONF_FOREIGN:
		return conf_words_foreign;
	case CONF_ENCRYPTION:
		return conf_words_encryption;
	case CONF_CHECKSUM:
		return conf_words_checksum;
	case CONF_TRUST:
		return conf_words_trust;
	case CONF_STR:
	case CONF_PATH:
	case CONF_BOOL:
	case CONF_COUNT:
	case CONF_SIZE:
	case CONF_DURATION:
		break;
	}
	return NULL;
}

/* --- numbers --- */

static const struct conf_unit *conf_units(enum conf_type type)
{
	if (type == CONF_SIZE) {
		return conf_size_units;
	}
	return type == CONF_DURATION ? conf_duration_units : conf_count_units;
}

char *conf_number_format(TALLOC_CTX *ctx, enum conf_type type, int64_t value)
{
	const struct conf_unit *u;

	for (u = conf_units(type); u->suffix != NULL; u++) {
		if (value != 0 && value % u->factor == 0) {
			return talloc_asprintf(ctx, "%lld%s", (long long)(value / u->factor),
					u->suffix);
		}
	}
	return talloc_asprintf(ctx, "%lld", (long long)value);
}

static bool conf_number_parse(enum conf_type type, const char *text, int64_t *value)
{
	const struct conf_unit *u;
	char *end;

	if (!isdigit((unsigned char)text[0])) {
		return false;
	}
	errno = 0;
	*value = strtoll(text, &end, 10);
	if (errno != 0) {
		return false;
	}
	for (u = conf_units(type); u->suffix != NULL; u++) {
		if (strcasecmp(end, u->suffix) == 0) {
			return !__builtin_mul_overflow(*value, u->factor, value);
		}
	}
	return false;
}

static bool conf_number_value(TALLOC_CTX *ctx, const struct conf_option *opt, const char *text,
		int64_t *value, char **reason)
{
	static const char *const what[] = {
		[CONF_COUNT] = "a number",
		[CONF_SIZE] = "a size (a number, with K, M, G or T)",
		[CONF_DURATION] = "a duration (a number with ms, s, m, h or d; seconds without)",
	};

	if (!conf_number_parse(opt->type, text, value)) {
		*reason = talloc_asprintf(ctx, "\"%s\" is not %s", text, what[opt->type]);
		return false;
	}
	if (*value >= opt->min && *value <= opt->max) {
		return true;
	}
	if (opt->max == INT64_MAX) {
		*reason = talloc_asprintf(ctx, "\"%s\" is too small: at least %s", text,
				conf_number_format(ctx, opt->type, opt->min));
	} else {
		*reason = talloc_asprintf(ctx, "\"%s\" is out of range: %s to %s", text,
				conf_number_format(ctx, opt->type, opt->min),
				conf_number_format(ctx, opt->type, opt->max));
	}
	return false;
}

/* --- words --- */

static bool conf_bool_value(TALLOC_CTX *ctx, const char *text, bool *value, char **reason)
{
	static const char *const yes[] = {"yes", "true", "on", "1"};
	static const char *const no[] = {"no", "false", "off", "0"};

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		if (strcasecmp(text, yes[i]) == 0) {
			*value = true;
			return true;
		}
		if (strcasecmp(text, no[i]) == 0) {
			*value = false;
			return true;
		}
	}
	*reason = talloc_asprintf(ctx, "\"%s\" is neither yes nor no", text);
	return false;
}

static int conf_word_value(
		TALLOC_CTX *ctx, const struct conf_option *opt, const char *text, char **reason)
{
	const char *const *words = conf_type_words(opt->type);
	char *list = NULL;

	for (int i = 0; words[i] != NULL; i++) {
		if (strcasecmp(text, words[i]) == 0) {
			return i;
		}
		list = talloc_asprintf(ctx, "%s%s%s", list == NULL ? "" : list,
				list == NULL ? "" : ", ", words[i]);
	}
	*reason = talloc_asprintf(ctx, "\"%s\" is none of: %s", text, list);
	return -1;
}

/* --- strings --- */

/* One slash between components, none at the end; NULL: a component is "." or "..". */
static char *conf_path_normal(TALLOC_CTX *ctx, const char *text)
{
	char *path = talloc_strdup(ctx, text);
	char *out = path;

	if (path == NULL) {
		return NULL;
	}
	for (const char *p = text; *p != '\0';) {
		size_t len;

		while (*p == '/') {
			p++;
		}
		len = strcspn(p, "/");
		if ((len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.')) {
			talloc_free(path);
			return NULL;
		}
		if (len > 0) {
			*out++ = '/';
			memcpy(out, p, len);
			out += len;
		}
		p += len;
	}
	*out = '\0';
	return path;
}

static bool conf_string_value(TALLOC_CTX *ctx, const struct conf_option *opt, const char *text,
		const char **value, char **reason)
{
	char *copy;
	int64_t len;

	if (text[0] == '\0' && opt->def == NULL) { /* written down, but unset */
		*value = NULL;
		return true;
	}
	if (opt->type == CONF_PATH) {
		if (text[0] != '/') {
			*reason = talloc_asprintf(
					ctx, "\"%s\" is not an absolute path: begin with /", text);
			return false;
		}
		copy = conf_path_normal(ctx, text);
		if (copy == NULL) {
			*reason = talloc_asprintf(
					ctx, "\"%s\": a path must not go through . or ..", text);
			return false;
		}
	} else {
		copy = talloc_strdup(ctx, text);
		if (copy == NULL) {
			*reason = NULL;
			return false;
		}
	}
	len = (int64_t)strlen(copy);
	if (len < opt->min || len > opt->max) {
		*reason = talloc_asprintf(ctx, "is %lld bytes long: %lld to %lld are allowed",
				(long long)len, (long long)opt->min, (long long)opt->max);
		return false;
	}
	*value = copy;
	return true;
}

bool conf_value_parse(TALLOC_CTX *ctx, const struct conf_option *opt, const char *text, void *base,
		char **reason)
{
	void *field = (char *)base + opt->offset;
	int64_t number;
	int word;

	*reason = NULL;
	switch (opt->type) {
	case CONF_STR:
	case CONF_PATH:
		return conf_string_value(ctx, opt, text, field, reason);
	case CONF_BOOL:
		return conf_bool_value(ctx, text, field, reason);
	case CONF_COUNT:
		if (!conf_number_value(ctx, opt, text, &number, reason)) {
			return false;
		}
		*(unsigned *)field = (unsigned)number; /* the table's maxima fit */
		return true;
	case CONF_SIZE:
	case CONF_DURATION:
		return conf_number_value(ctx, opt, text, field, reason);
	case CONF_LEVEL:
	case CONF_FORMAT:
	case CONF_STORE:
	case CONF_ADDRESSING:
	case CONF_XATTR:
	case CONF_GUARD:
	case CONF_FOREIGN:
	case CONF_ENCRYPTION:
	case CONF_CHECKSUM:
	case CONF_TRUST:
		word = conf_word_value(ctx, opt, text, reason);
		if (word < 0) {
			return false;
		}
		/* each is an enum of small values, an unsigned int in this ABI */
		*(unsigned *)field = (unsigned)word;
		return true;
	}
	return false;
}
