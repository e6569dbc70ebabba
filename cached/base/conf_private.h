/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the parts of the configuration reader (conf.c, conf_value.c, conf_check.c) share. */
#ifndef OFS_BASE_CONF_PRIVATE_H
#define OFS_BASE_CONF_PRIVATE_H

#include "conf.h"

#define CONF_OPTIONS_MAX 80u

struct conf_seen { /* for each row of conf_options: the line that set it, 0: none */
	unsigned line[CONF_OPTIONS_MAX];
};

enum conf_section { CONF_IN_NONE, CONF_IN_GLOBAL, CONF_IN_VOLUME };

struct conf_parse {
	struct conf *conf;
	const char *path;
	FILE *stream;
	/* the line at hand */
	unsigned line;
	char *text;       /* getline's buffer */
	size_t text_room;
	const char *rest; /* what of the value inih has not been given yet */
	bool expect;      /* inih must call the handler for what it was given */
	char *value;
	enum conf_section section;
	/* what was set, and where */
	struct conf_seen global_seen;
	struct conf_seen *volume_seen; /* as conf->volumes */
	/* the first error; nothing is read after it */
	int ret;
	char *error;
};

/* Keep the first error, "FILE:LINE: key: reason"; key NULL or line 0: without. */
void conf_fail(struct conf_parse *p, int ret, unsigned line, const char *key, const char *fmt, ...)
		__attribute__((format(printf, 5, 6)));

/* A value as text into its field of `base`; false and *reason (child of ctx, never with the value
 * of a secret). Strings become children of ctx. */
bool conf_value_parse(TALLOC_CTX *ctx, const struct conf_option *opt, const char *text, void *base,
		char **reason);

/* What rows alone cannot say: combinations, and volumes against each other. Normalises prefixes
 * and endpoints. Errors by conf_fail. */
void conf_check(struct conf_parse *p);

#endif
