/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as user metadata of an object: as the text of our value and of a foreign time, and in
 * base64, so that the fields behind it are reached. */
/* Covers: cached/mirror/objmeta.c */
#include <stdlib.h>
#include <string.h>
#include "cached/mirror/base64.h"
#include "cached/mirror/objmeta.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Version 1, or a proof that we do not write: it would be another text. */
static bool is_rewritten(const char *text)
{
	size_t len = 0;
	uint8_t *raw = base64_decode(text, strlen(text), &len);
	bool other = raw == NULL || len <= 90 || raw[0] != 2 || raw[90] != 0;

	free(raw);
	return other;
}

static void check(char *text)
{
	struct obj_meta pairs[] = { { (char *)"objectfs", text }, { (char *)"mtime", text } };
	struct obj_result r = { .meta = pairs, .meta_count = 2 };
	struct obj_req *req;
	struct objmeta m;
	bool damaged;

	objmeta_read(&r, &m, &damaged);
	if (m.ours == damaged || (damaged && m.snapshot != NULL)) {
		abort();
	}
	if (m.ours && (req = objstore_req_new(OBJ_PUT, "k")) != NULL) {
		if (objmeta_put(req, &m) == 0 && strcmp(req->meta[0].value, text) != 0 && !is_rewritten(text)) {
			abort();
		}
		objstore_req_free(&req);
	}
	objmeta_clear(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (text != NULL) {
		memcpy(text, data, size);
		text[size] = '\0';
		check(text);
	}
	free(text);
	text = base64_encode(data, size);
	if (text != NULL) {
		check(text);
	}
	free(text);
	return 0;
}
