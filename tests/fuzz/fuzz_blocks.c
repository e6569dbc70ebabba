/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as a file of blocks/, as they are and with the digest made right: what is taken packs to what is
 * taken again, and the parts of it are the object, once. */
/* Covers: cached/upload/blocks.c */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include "cached/upload/blocks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void plan(const struct blocks *b, int64_t run_bytes)
{
	struct blocks_part *parts = calloc(b->count, sizeof(*parts));
	bool *same = calloc(b->count, sizeof(*same));
	int64_t at = 0;
	unsigned n;

	if (parts != NULL && same != NULL) {
		for (unsigned i = 0; i < b->count; i++) {
			same[i] = (b->sha256[i][0] & 1) != 0;
		}
		n = blocks_plan(b, same, run_bytes, parts);
		for (unsigned i = 0; i < n; i++) {
			if (parts[i].offset != at || parts[i].length <= 0) {
				abort();
			}
			at += parts[i].length;
		}
		if (n == 0 || n > b->count || at != b->size) {
			abort();
		}
	}
	free(parts);
	free(same);
}

static void take(const uint8_t *data, size_t size)
{
	struct blocks *b = blocks_unpack(data, size), *again;
	uint8_t *packed;
	size_t len;

	if (b == NULL) {
		return;
	}
	packed = blocks_pack(b, &len);
	if (packed != NULL) { /* its texts may be too long to be ours */
		again = blocks_unpack(packed, len);
		if (again == NULL || again->size != b->size || again->each != b->each ||
				strcmp(again->etag, b->etag) != 0 ||
				memcmp(again->sha256, b->sha256, 32u * b->count) != 0) {
			abort();
		}
		blocks_free(&again);
	}
	free(packed);
	plan(b, 0);
	plan(b, 64LL << 20);
	blocks_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t digest[EVP_MAX_MD_SIZE], *whole = malloc(size + 32);

	take(data, size);
	if (whole != NULL && EVP_Digest(data, size, digest, NULL, EVP_sha256(), NULL) == 1) {
		if (size > 0) {
			memcpy(whole, data, size);
		}
		memcpy(whole + size, digest, 32);
		take(whole, size + 32);
	}
	free(whole);
	return 0;
}
