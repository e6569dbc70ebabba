/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as a note below .objectfs/rename/: what is believed names no key of the volume's own but what was
 * parked, and none outside its prefix. */
/* Covers: cached/reconcile/note.c */
#include <stdlib.h>
#include <string.h>
#include "cached/core/volume.h"
#include "cached/reconcile/private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sound(const struct volume *v, const char *key)
{
	size_t len = strlen(v->prefix);

	if (strncmp(key, v->prefix, len) != 0 || key[len] == '\0' ||
			((strncmp(key + len, ".objectfs/", 10) == 0 || strcmp(key + len, ".objectfs") == 0) &&
					!rename_note_is_parked(v, key))) {
		abort();
	}
}

static void take(const char *prefix, const uint8_t *data, size_t size)
{
	static struct volume v;
	struct obj_result r = { .body = (uint8_t *)(uintptr_t)data, .body_len = size };
	struct rename_note n;

	v.prefix = (char *)(uintptr_t)prefix;
	if (rename_note_read(&v, &r, &n)) {
		sound(&v, n.from);
		sound(&v, n.to);
		if (n.cutoff_ns < 0) {
			abort();
		}
	}
	json_decref(n.doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	take("", data, size);
	take("p/", data, size);
	return 0;
}
