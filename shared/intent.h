/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An entry of the intent file: "this inode, clean until now, is about to be written". Appended by
 * the module (one write(2) on the O_APPEND descriptor of HELLO) and made durable before the first
 * write to a clean file; read by the daemon after an unclean stop.
 *
 * Layout (64 bytes, little-endian): magic u32, crc u32 (CRC-32C of the 56 bytes after it), oid 16,
 * ino u64, data_gen u64 (before the write), zero 24. An entry whose magic or crc is wrong is torn.
 */
#ifndef OFS_SHARED_INTENT_H
#define OFS_SHARED_INTENT_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include "record.h"

#define OFS_INTENT_BYTES 64u
#define OFS_INTENT_MAGIC 0x31544e49u /* "INT1" */

struct ofs_intent {
	struct ofs_oid oid;
	uint64_t ino;
	uint64_t data_gen;
};

static inline void ofs_intent_put_le(uint8_t *p, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++) {
		p[i] = (uint8_t)(v >> (8 * i));
	}
}

static inline uint64_t ofs_intent_get_le(const uint8_t *p, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++) {
		v |= (uint64_t)p[i] << (8 * i);
	}
	return v;
}

static inline void ofs_intent_encode(const struct ofs_intent *in, uint8_t buf[OFS_INTENT_BYTES])
{
	memset(buf, 0, OFS_INTENT_BYTES);
	ofs_intent_put_le(buf, OFS_INTENT_MAGIC, 4);
	memcpy(buf + 8, in->oid.bytes, sizeof(in->oid.bytes));
	ofs_intent_put_le(buf + 24, in->ino, 8);
	ofs_intent_put_le(buf + 32, in->data_gen, 8);
	ofs_intent_put_le(buf + 4, ofs_crc32c(0, buf + 8, OFS_INTENT_BYTES - 8), 4);
}

/* 0 or -EBADMSG (torn or damaged). */
static inline int ofs_intent_decode(const uint8_t buf[OFS_INTENT_BYTES], struct ofs_intent *in)
{
	if (ofs_intent_get_le(buf, 4) != OFS_INTENT_MAGIC ||
			ofs_intent_get_le(buf + 4, 4) !=
					ofs_crc32c(0, buf + 8, OFS_INTENT_BYTES - 8)) {
		return -EBADMSG;
	}
	memcpy(in->oid.bytes, buf + 8, sizeof(in->oid.bytes));
	in->ino = ofs_intent_get_le(buf + 24, 8);
	in->data_gen = ofs_intent_get_le(buf + 32, 8);
	return 0;
}

#endif
