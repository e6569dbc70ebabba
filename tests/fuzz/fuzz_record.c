/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Any bytes as a record, as they are and with the checksum made right, so that the fields behind
 * it are reached; and as an object id in hex.
 */
/* Covers: shared/record.c */
#include <stdlib.h>
#include <string.h>
#include "shared/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const uint8_t *buf, size_t size)
{
	uint8_t once[OFS_RECORD_BYTES], twice[OFS_RECORD_BYTES];
	struct ofs_record rec, again;

	if (ofs_record_decode(buf, size, &rec) != 0) {
		return;
	}
	ofs_record_encode(&rec, once);
	if (ofs_record_decode(once, sizeof(once), &again) != 0) {
		abort();
	}
	ofs_record_encode(&again, twice);
	if (memcmp(once, twice, sizeof(once)) != 0) {
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[OFS_RECORD_BYTES] = {0};
	char hex[OFS_OID_HEX_BYTES], text[64] = "";
	struct ofs_oid oid;
	uint32_t crc;

	check(data, size);
	memcpy(buf, data, size < sizeof(buf) ? size : sizeof(buf));
	crc = ofs_crc32c(0, buf, sizeof(buf) - 4);
	for (int i = 0; i < 4; i++) {
		buf[sizeof(buf) - 4 + i] = (uint8_t)(crc >> (8 * i));
	}
	check(buf, sizeof(buf));

	memcpy(text, data, size < sizeof(text) - 1 ? size : sizeof(text) - 1);
	if (ofs_oid_parse(text, &oid)) {
		ofs_oid_hex(&oid, hex);
		if (strcmp(hex, text) != 0) {
			abort();
		}
	}
	return 0;
}
