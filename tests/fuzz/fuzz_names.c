/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as a component of a key, and as a name that a client gives: what comes of the first is one legal
 * name and leads back to the key; the second is never two files. */
/* Covers: cached/reconcile/names.c */
#include <stdlib.h>
#include <string.h>
#include "cached/reconcile/names.h"
#include "shared/ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Nothing that is opened by it is anywhere but in its directory. */
static void sound(const char *name)
{
	if (name == NULL || name[0] == '\0' || strlen(name) > OFS_NAME_MAX_BYTES || strchr(name, '/') != NULL ||
			strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		abort();
	}
	for (const char *p = name; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20 || strchr("\\:*?\"<>|", *p) != NULL) {
			abort();
		}
	}
}

static void from_key(TALLOC_CTX *ctx, const char *raw)
{
	char *name = name_from_raw(ctx, raw), *beside = name_from_raw_beside_dir(ctx, raw), *back;

	sound(name);
	sound(beside);
	if (!name_is_beside_dir(beside, raw) || strcmp(name, beside) == 0) {
		abort();
	}
	back = name_to_raw(ctx, name, false);
	if (strlen(name) < 200 && (back == NULL || strcmp(back, raw) != 0)) {
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	char *text = talloc_strndup(ctx, size > 0 ? (const char *)data : "", size);
	char *raw;

	if (text != NULL) {
		from_key(ctx, text);
		raw = name_to_raw(ctx, text, true);
		if (raw == NULL) {
			abort();
		}
		if (strcmp(raw, text) != 0 && size <= OFS_NAME_MAX_BYTES) { /* an escape: just the one that its key gets */
			char *again = name_from_raw(ctx, raw);

			if (again == NULL || strcmp(again, text) != 0) {
				abort();
			}
		}
		(void)name_is_reserved(&(struct ofs_oid){ { 0 } }, text);
	}
	talloc_free(ctx);
	return 0;
}
