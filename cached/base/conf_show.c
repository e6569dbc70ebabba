/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: a configuration as it was understood, for people: every option, its value, its source.
 * Way: admin/ and objectfsctl -> here. Thread: any. Owns: nothing.
 * Holds: 1. every row of the table is shown, in its order, once for each section it belongs to;
 *        2. the value of a secret leaves only through conf_secrets_each, for those who take it out of
 *           other texts.
 */
#include "conf_private.h"

#include <string.h>

static const char *show_section(TALLOC_CTX *ctx, const struct conf *conf, unsigned n)
{
	return n == 0 ? "global" : talloc_asprintf(ctx, "volume %s", conf->volumes[n - 1].name);
}

static const void *show_base(const struct conf *conf, unsigned n)
{
	return n == 0 ? (const void *)&conf->global : (const void *)&conf->volumes[n - 1];
}

static bool show_belongs(const struct conf_option *o, unsigned n)
{
	return (strcmp(o->section, "global") == 0) == (n == 0);
}

/* As it would be written into the file; NULL: unset. talloc child of ctx or not to be freed. */
static const char *show_value(TALLOC_CTX *ctx, const struct conf_option *o, const void *base)
{
	const void *field = (const char *)base + o->offset;
	const char *const *words = conf_type_words(o->type);

	if (words != NULL) {
		return words[*(const unsigned *)field];
	}
	switch (o->type) {
	case CONF_STR:
	case CONF_PATH:
		return *(const char *const *)field;
	case CONF_BOOL:
		return *(const bool *)field ? "yes" : "no";
	case CONF_COUNT:
		return conf_number_format(ctx, o->type, *(const unsigned *)field);
	default:
		return conf_number_format(ctx, o->type, *(const int64_t *)field);
	}
}

json_t *conf_json(const struct conf *conf)
{
	TALLOC_CTX *tmp = talloc_new(NULL);
	json_t *list = json_array();

	for (unsigned n = 0; n <= conf->volume_count; n++) {
		for (unsigned i = 0; i < conf_option_count; i++) {
			const struct conf_option *o = &conf_options[i];
			unsigned line = conf->seen[n].line[i];
			const char *value = show_belongs(o, n)
							    ? show_value(tmp, o, show_base(conf, n))
							    : NULL;

			if (!show_belongs(o, n)) {
				continue;
			}
			if (value != NULL && (o->flags & CONF_SECRET) != 0) {
				value = "(set, not shown)";
			}
			json_array_append_new(list,
					json_pack("{s:s, s:s, s:s?, s:o}", "section",
							show_section(tmp, conf, n), "key", o->key,
							"value", value, "source",
							line != 0 ? json_sprintf("%s:%u",
										    conf->path,
										    line)
								  : json_string("default")));
		}
	}
	talloc_free(tmp);
	return list;
}

static bool show_same(TALLOC_CTX *ctx, const struct conf_option *o, const void *a, const void *b)
{
	const char *one = show_value(ctx, o, a), *two = show_value(ctx, o, b);

	return one == two || (one != NULL && two != NULL && strcmp(one, two) == 0);
}

static unsigned show_volume(const struct conf *conf, const char *name)
{
	const struct conf_volume *v = conf_volume_find(conf, name);

	return v != NULL ? (unsigned)(v - conf->volumes) + 1 : 0;
}

json_t *conf_changes(const struct conf *then, const struct conf *now)
{
	TALLOC_CTX *tmp = talloc_new(NULL);
	json_t *list = json_array();

	for (unsigned n = 0; n <= then->volume_count; n++) {
		unsigned m = n == 0 ? 0 : show_volume(now, then->volumes[n - 1].name);
		const char *section = show_section(tmp, then, n);

		if (n > 0 && m == 0) {
			json_array_append_new(list, json_sprintf("[%s] is gone", section));
			continue;
		}
		for (unsigned i = 0; i < conf_option_count; i++) {
			if (show_belongs(&conf_options[i], n) && !show_same(tmp, &conf_options[i],
					show_base(then, n), show_base(now, m))) {
				json_array_append_new(list, json_sprintf("[%s] %s", section,
						conf_options[i].key));
			}
		}
	}
	for (unsigned m = 1; m <= now->volume_count; m++) {
		if (show_volume(then, now->volumes[m - 1].name) == 0) {
			json_array_append_new(list, json_sprintf("[volume %s] is new",
					now->volumes[m - 1].name));
		}
	}
	talloc_free(tmp);
	return list;
}

void conf_secrets_each(
		const struct conf *conf, void (*fn)(void *arg, const char *secret), void *arg)
{
	for (unsigned n = 0; n <= conf->volume_count; n++) {
		for (unsigned i = 0; i < conf_option_count; i++) {
			const struct conf_option *o = &conf_options[i];

			if ((o->flags & CONF_SECRET) != 0 && show_belongs(o, n)) {
				const char *value = show_value(NULL, o, show_base(conf, n));

				if (value != NULL && value[0] != '\0') {
					fn(arg, value); /* a string's own: nothing was made for it */
				}
			}
		}
	}
}
