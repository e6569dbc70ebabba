/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as a packed snapshot: what is taken packs to the same bytes again; splitting it makes
 * nothing unreadable. */
/* Covers: cached/mirror/snapshot_pack.c */
#include <stdlib.h>
#include <string.h>
#include "cached/mirror/snapshot.h"
#include "cached/mirror/snapshot_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snapshot *s, *again, *whole;
	uint8_t *buf;
	size_t len;

	if (snapshot_unpack(data, size, &s) != 0) {
		return 0;
	}
	buf = snapshot_pack(s, &len);
	if (buf == NULL || len != size || memcmp(buf, data, size) != 0) {
		abort();
	}
	free(buf);
	if (snapshot_expand(s, &whole) == 0) {
		snapshot_free(&whole);
	}
	snapshot_split(s, 200);
	buf = snapshot_pack(s, &len);
	if (buf == NULL || snapshot_unpack(buf, len, &again) != 0) {
		abort();
	}
	free(buf);
	snapshot_free(&again);
	snapshot_free(&s);
	return 0;
}
