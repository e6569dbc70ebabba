/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bounds-checked little-endian cursors with a sticky error: check `bad` once, at the end. After an
 * error reads give zero or "" and writes do nothing.
 */
#ifndef OFS_SHARED_CURSOR_H
#define OFS_SHARED_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct ofs_rd {
	const uint8_t *p;
	size_t left;
	bool bad;
};
struct ofs_wr {
	uint8_t *p;
	size_t left;
	size_t done;
	bool bad;
};

static inline struct ofs_rd ofs_rd_init(const uint8_t *buf, size_t len)
{
	return (struct ofs_rd){.p = buf, .left = len};
}
static inline struct ofs_wr ofs_wr_init(uint8_t *buf, size_t cap)
{
	return (struct ofs_wr){.p = buf, .left = cap};
}

/* NULL after an error; the bytes stay in the buffer. */
static inline const uint8_t *ofs_rd_bytes(struct ofs_rd *c, size_t len)
{
	const uint8_t *p = c->p;

	if (c->bad || len > c->left) {
		c->bad = true;
		return NULL;
	}
	c->p += len;
	c->left -= len;
	return p;
}
static inline uint64_t ofs_rd_le(struct ofs_rd *c, size_t len)
{
	const uint8_t *p = ofs_rd_bytes(c, len);
	uint64_t v = 0;

	for (size_t i = 0; p != NULL && i < len; i++) {
		v |= (uint64_t)p[i] << (8 * i);
	}
	return v;
}
static inline uint8_t ofs_rd_u8(struct ofs_rd *c)
{
	return (uint8_t)ofs_rd_le(c, 1);
}
static inline uint16_t ofs_rd_u16(struct ofs_rd *c)
{
	return (uint16_t)ofs_rd_le(c, 2);
}
static inline uint32_t ofs_rd_u32(struct ofs_rd *c)
{
	return (uint32_t)ofs_rd_le(c, 4);
}
static inline uint64_t ofs_rd_u64(struct ofs_rd *c)
{
	return ofs_rd_le(c, 8);
}
static inline void ofs_rd_copy(struct ofs_rd *c, void *to, size_t len)
{
	const uint8_t *p = ofs_rd_bytes(c, len);

	if (p == NULL) {
		memset(to, 0, len);
		return;
	}
	memcpy(to, p, len);
}

/* NULL after an error: no room. */
static inline uint8_t *ofs_wr_room(struct ofs_wr *c, size_t len)
{
	uint8_t *p = c->p;

	if (c->bad || len > c->left) {
		c->bad = true;
		return NULL;
	}
	c->p += len;
	c->left -= len;
	c->done += len;
	return p;
}
static inline void ofs_wr_le(struct ofs_wr *c, uint64_t v, size_t len)
{
	uint8_t *p = ofs_wr_room(c, len);

	for (size_t i = 0; p != NULL && i < len; i++) {
		p[i] = (uint8_t)(v >> (8 * i));
	}
}
static inline void ofs_wr_u8(struct ofs_wr *c, uint8_t v)
{
	ofs_wr_le(c, v, 1);
}
static inline void ofs_wr_u16(struct ofs_wr *c, uint16_t v)
{
	ofs_wr_le(c, v, 2);
}
static inline void ofs_wr_u32(struct ofs_wr *c, uint32_t v)
{
	ofs_wr_le(c, v, 4);
}
static inline void ofs_wr_u64(struct ofs_wr *c, uint64_t v)
{
	ofs_wr_le(c, v, 8);
}
static inline void ofs_wr_bytes(struct ofs_wr *c, const void *from, size_t len)
{
	uint8_t *p = ofs_wr_room(c, len);

	if (p != NULL && len > 0) {
		memcpy(p, from, len);
	}
}
static inline void ofs_wr_zero(struct ofs_wr *c, size_t len)
{
	uint8_t *p = ofs_wr_room(c, len);

	if (p != NULL) {
		memset(p, 0, len);
	}
}

#endif
