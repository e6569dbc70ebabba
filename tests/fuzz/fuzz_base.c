/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as a head, as a chunk, and as what a chunk holds: what is taken makes the same rows again. */
/* Covers: cached/mirror/base.c cached/mirror/base_head.c */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include "cached/mirror/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct ofs_oid uuid = { "uuid-of-a-volume" }, dir = { "id-of-directory!" };

static void take(const uint8_t *bytes, size_t len)
{
	struct base_chunk *c, *again;
	struct base_build *b = base_build_new();
	struct base_row row;
	unsigned taken = 0;
	uint8_t *built;

	if (b == NULL || base_chunk_open(bytes, len, &uuid, &dir, &c) != 0) {
		base_build_free(&b);
		return;
	}
	for (unsigned i = 0; i < base_chunk_rows(c); i++) {
		int ret = base_chunk_row(c, i, &row);

		if (row.name == NULL || base_chunk_find(c, row.name) != (int)i) {
			abort();
		}
		taken += ret == 0 && base_build_add(b, &row) == 0;
		base_row_clear(&row);
	}
	if (base_build_end(b, &uuid, &dir, &built, &len) != 0 ||
			base_chunk_open(built, len, &uuid, &dir, &again) != 0 ||
			base_chunk_rows(again) != taken) {
		abort();
	}
	free(built);
	base_chunk_free(&again);
	base_chunk_free(&c);
	base_build_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct base_head *h = base_head_parse(NULL, data, size, &uuid, &dir);
	size_t bound = ZSTD_compressBound(size);
	uint8_t *frame = malloc(bound);

	if (h != NULL) {
		free(base_head_text(h, &uuid, &dir, "n", "m"));
	}
	talloc_free(h);
	take(data, size);
	if (frame != NULL) {
		take(frame, ZSTD_compress(frame, bound, data, size, 1));
	}
	free(frame);
	return 0;
}
