/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Object ids: made, compared, written and read.
 * Way: from everywhere; to getrandom(2). The daemon's core asks the clock door instead.
 * Thread: any; does not block once the system has booted.
 * Owns: nothing.
 * Holds: 1. A new id is never "none".
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void ofs_oid_new(struct ofs_oid *oid)
{
	do {
		ssize_t n;

		/* up to 256 bytes come whole */
		n = getrandom(oid->bytes, sizeof(oid->bytes), 0);
		if (n != (ssize_t)sizeof(oid->bytes)) {
			if (n < 0 && errno != EINTR) {
				/* no such call: an id that may repeat would lose data */
				abort();
			}
			memset(oid, 0, sizeof(*oid));
		}
	} while (ofs_oid_is_none(oid));
}

bool ofs_oid_equal(const struct ofs_oid *a, const struct ofs_oid *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool ofs_oid_is_none(const struct ofs_oid *oid)
{
	static const struct ofs_oid none;

	return ofs_oid_equal(oid, &none);
}

void ofs_oid_hex(const struct ofs_oid *oid, char hex[OFS_OID_HEX_BYTES])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < sizeof(oid->bytes); i++) {
		hex[2 * i] = digits[oid->bytes[i] >> 4];
		hex[2 * i + 1] = digits[oid->bytes[i] & 15];
	}
	hex[OFS_OID_HEX_BYTES - 1] = '\0';
}

static int oid_digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	return -1;
}

bool ofs_oid_parse(const char *hex, struct ofs_oid *oid)
{
	memset(oid, 0, sizeof(*oid));
	for (size_t i = 0; i < 2 * sizeof(oid->bytes); i++) {
		int digit = oid_digit(hex[i]);

		if (digit < 0) { /* the NUL of a short string too */
			memset(oid, 0, sizeof(*oid));
			return false;
		}
		oid->bytes[i / 2] = (uint8_t)(oid->bytes[i / 2] << 4 | digit);
	}
	if (hex[2 * sizeof(oid->bytes)] != '\0') {
		memset(oid, 0, sizeof(*oid));
		return false;
	}
	return true;
}
