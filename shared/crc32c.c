/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * CRC-32C, eight bytes a step (slicing-by-8, Kounavis and Berry, Intel 2005).
 * Way: from record.c and ring.c, and from whoever reads a ring.
 * Thread: any; nothing is written.
 * Owns: nothing.
 * Holds: 1. A CRC table is linear: entry i is the XOR of the entries of i's bits, so the compiler
 *        makes all 8 x 256 entries from the eight of each row, and nothing is set up at run time.
 */
#include "record.h"

#define CRC_1(i, a, b, c, d, e, f, g, h)                                                           \
	((((i)&1) ? a : 0u) ^ (((i)&2) ? b : 0u) ^ (((i)&4) ? c : 0u) ^ (((i)&8) ? d : 0u) ^       \
			(((i)&16) ? e : 0u) ^ (((i)&32) ? f : 0u) ^ (((i)&64) ? g : 0u) ^          \
			(((i)&128) ? h : 0u))
#define CRC_4(i, ...)                                                                              \
	CRC_1((i), __VA_ARGS__), CRC_1((i) + 1, __VA_ARGS__), CRC_1((i) + 2, __VA_ARGS__),         \
			CRC_1((i) + 3, __VA_ARGS__)
#define CRC_16(i, ...)                                                                             \
	CRC_4((i), __VA_ARGS__), CRC_4((i) + 4, __VA_ARGS__), CRC_4((i) + 8, __VA_ARGS__),         \
			CRC_4((i) + 12, __VA_ARGS__)
#define CRC_64(i, ...)                                                                             \
	CRC_16((i), __VA_ARGS__), CRC_16((i) + 16, __VA_ARGS__), CRC_16((i) + 32, __VA_ARGS__),    \
			CRC_16((i) + 48, __VA_ARGS__)
#define CRC_TABLE(...)                                                                             \
	{                                                                                          \
		CRC_64(0, __VA_ARGS__), CRC_64(64, __VA_ARGS__), CRC_64(128, __VA_ARGS__),         \
				CRC_64(192, __VA_ARGS__)                                           \
	}

/* Row k: the CRC of one byte 1 << 0 ... 1 << 7 followed by k zero bytes, no inversion. */
static const uint32_t crc_table[8][256] = {
/* clang-format off */
	CRC_TABLE(0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf, 0x105ec76f, 0x20bd8ede, 0x417b1dbc, 0x82f63b78),
	CRC_TABLE(0x13a29877, 0x274530ee, 0x4e8a61dc, 0x9d14c3b8, 0x3fc5f181, 0x7f8be302, 0xff17c604, 0xfbc3faf9),
	CRC_TABLE(0xa541927e, 0x4f6f520d, 0x9edea41a, 0x38513ec5, 0x70a27d8a, 0xe144fb14, 0xc76580d9, 0x8b277743),
	CRC_TABLE(0xdd45aab8, 0xbf672381, 0x7b2231f3, 0xf64463e6, 0xe964b13d, 0xd725148b, 0xaba65fe7, 0x52a0c93f),
	CRC_TABLE(0x38116fac, 0x7022df58, 0xe045beb0, 0xc5670b91, 0x8f2261d3, 0x1ba8b557, 0x37516aae, 0x6ea2d55c),
	CRC_TABLE(0xef306b19, 0xdb8ca0c3, 0xb2f53777, 0x6006181f, 0xc00c303e, 0x85f4168d, 0x0e045beb, 0x1c08b7d6),
	CRC_TABLE(0x68032cc8, 0xd0065990, 0xa5e0c5d1, 0x4e2dfd53, 0x9c5bfaa6, 0x3d5b83bd, 0x7ab7077a, 0xf56e0ef4),
	CRC_TABLE(0x493c7d27, 0x9278fa4e, 0x211d826d, 0x423b04da, 0x847609b4, 0x0d006599, 0x1a00cb32, 0x34019664),
/* clang-format on */
};

uint32_t ofs_crc32c(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;

	crc = ~crc;
	while (len >= 8) {
		crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
				(uint32_t)p[3] << 24;
		crc = crc_table[7][crc & 0xff] ^ crc_table[6][(crc >> 8) & 0xff] ^
				crc_table[5][(crc >> 16) & 0xff] ^ crc_table[4][crc >> 24] ^
				crc_table[3][p[4]] ^ crc_table[2][p[5]] ^ crc_table[1][p[6]] ^
				crc_table[0][p[7]];
		p += 8;
		len -= 8;
	}
	while (len-- > 0) {
		crc = (crc >> 8) ^ crc_table[0][(crc ^ *p++) & 0xff];
	}
	return ~crc;
}
