/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the set of volumes of this daemon: open, start, find, close.
 * Way: main; session and admin look volumes up here.
 * Thread: core (open and close: main, outside the loop). Owns: the array.
 * Holds: a volume that cannot be opened stops the start (its message says why): half a daemon
 * would look like an empty share.
 */
#include <errno.h>
#include <string.h>
#include "core.h"
#include "../base/log.h"

int volumes_open(struct core *core, char **error)
{
	const struct conf *conf = core->conf;

	core->volumes = talloc_zero_array(core, struct volume *, conf->volume_count);
	if (core->volumes == NULL) {
		*error = talloc_strdup(core, "out of memory");
		return -ENOMEM;
	}
	for (unsigned i = 0; i < conf->volume_count; i++) {
		char *why = NULL;
		struct volume *v = volume_open(core, &conf->volumes[i], &why);

		if (v == NULL) {
			*error = talloc_asprintf(core, "volume %s: %s", conf->volumes[i].name,
					why != NULL ? why : "out of memory");
			return -EINVAL;
		}
		core->volumes[core->volume_count++] = v;
	}
	return 0;
}

void volumes_start(struct core *core)
{
	for (unsigned i = 0; i < core->volume_count; i++) {
		volume_start(core->volumes[i]);
	}
}

void volumes_close(struct core *core)
{
	while (core->volume_count > 0) {
		volume_close(&core->volumes[--core->volume_count]);
	}
	TALLOC_FREE(core->volumes);
}

struct volume *volumes_find(const struct core *core, const char *name)
{
	for (unsigned i = 0; i < core->volume_count; i++) {
		if (strcmp(core->volumes[i]->name, name) == 0) {
			return core->volumes[i];
		}
	}
	return NULL;
}

struct volume *volumes_by_path(const struct core *core, const char *path, const char **rest)
{
	for (unsigned i = 0; i < core->volume_count; i++) {
		struct volume *v = core->volumes[i];
		size_t len = strlen(v->path);
		const char *p;

		if (strncmp(path, v->path, len) != 0 || strncmp(path + len, "/tree", 5) != 0) {
			continue;
		}
		p = path + len + 5;
		if (*p != '\0' && *p != '/') {
			continue;
		}
		while (*p == '/') {
			p++;
		}
		*rest = *p == '\0' ? "." : p;
		return v;
	}
	return NULL;
}

char *volumes_names(TALLOC_CTX *ctx, const struct core *core)
{
	char *s = talloc_strdup(ctx, "");

	for (unsigned i = 0; i < core->volume_count && s != NULL; i++) {
		s = talloc_asprintf_append(s, "%s%s", i > 0 ? ", " : "", core->volumes[i]->name);
	}
	return s;
}
