/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the NT ACL that a file or directory which nobody gave one takes over from its directory.
 * Way: mirror_make.c, for objects that other programs put into the bucket.
 * Thread: any; pure. Owns: nothing.
 * Holds: 1. The rules are those of [MS-DTYP] 2.5.3.4 as smbd has them (DACL only, generic rights are
 *           not mapped; owner and group are the directory's), so that a foreign file has the rights of
 *           one that a client makes in the same place.
 *        2. One difference: where nothing is handed down smbd leaves the new file open to all; here
 *           the directory's own ACL holds for it. Nobody made that file, so nobody chose that.
 *        3. What cannot be understood is an error, never an ACL that allows more.
 *        4. Written is xattr_NTACL version 1, which has no hash of a local POSIX ACL to agree with:
 *           smbd believes it whatever "ignore system acls" says.
 *
 * xattr_NTACL (Samba's xattr.idl, NDR little-endian; every offset counts from the value's begin):
 *   version u16, again u16, pointer u32, then
 *   1: descriptor | 2: pointer u32, hash 16, descriptor | 3: pointer u32, hash type u16, hash 64,
 *   descriptor | 4: as 3, then description NUL-terminated, time u64, hash 64, descriptor
 */
#include "ntacl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XATTR_BYTES_MAX 65536u
#define NTACL_HEAD_BYTES 8u
#define NTACL_HASH_END 78u /* versions 3 and 4 */
#define SD_BYTES 20u
#define SD_TYPE_DACL_PRESENT 0x0004u
#define SD_TYPE_DACL_AUTO_INHERITED 0x0400u
#define SD_TYPE_SELF_RELATIVE 0x8000u
#define ACL_BYTES 8u
#define ACE_BYTES 8u
#define SID_BYTES 8u
#define SID_SUBS_MAX 15u
#define SID_BYTES_MAX (SID_BYTES + 4 * SID_SUBS_MAX)

enum ace_flag {
	ACE_OBJECT_INHERIT = 0x01,
	ACE_CONTAINER_INHERIT = 0x02,
	ACE_NO_PROPAGATE = 0x04,
	ACE_INHERIT_ONLY = 0x08,
	ACE_INHERITED = 0x10,
};

struct span {
	const uint8_t *at;
	size_t len;
};

struct descriptor {
	unsigned type;
	struct span owner, group;
	struct span dacl; /* at NULL: none */
};

struct ace {
	const uint8_t *at;
	size_t len;
	struct span trustee; /* in it */
};

struct child {
	uint8_t *buf;
	size_t len;
	size_t aces; /* where they begin in buf */
	unsigned count;
	bool too_big;
};

static const uint8_t creator_owner[] = {1, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0}; /* S-1-3-0 */
static const uint8_t creator_group[] = {1, 1, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0}; /* S-1-3-1 */

static unsigned le16(const uint8_t *p)
{
	return p[0] | (unsigned)p[1] << 8;
}

static uint32_t le32(const uint8_t *p)
{
	return le16(p) | (uint32_t)le16(p + 2) << 16;
}

static void put16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, size_t v)
{
	put16(p, v);
	put16(p + 2, v >> 16);
}

/* ---- reading ---- */

static bool sid_read(const uint8_t *buf, size_t len, size_t at, struct span *sid)
{
	if (at == 0 || at > len || len - at < SID_BYTES || buf[at + 1] > SID_SUBS_MAX) {
		return false;
	}
	sid->at = buf + at;
	sid->len = SID_BYTES + 4u * buf[at + 1];
	return sid->len <= len - at;
}

/* Where the descriptor begins; 0: damaged, or a version we do not know. */
static size_t descriptor_begin(const uint8_t *buf, size_t len)
{
	const uint8_t *end;

	if (len < NTACL_HEAD_BYTES + 4 || le16(buf) != le16(buf + 2) || le32(buf + 4) == 0) {
		return 0;
	}
	if (le16(buf) != 1 && le32(buf + NTACL_HEAD_BYTES) == 0) {
		return 0;
	}
	switch (le16(buf)) {
	case 1:
		return NTACL_HEAD_BYTES;
	case 2:
		return NTACL_HEAD_BYTES + 4 + 16;
	case 3:
		return NTACL_HASH_END + 2;
	case 4:
		end = len > NTACL_HASH_END ? memchr(buf + NTACL_HASH_END, 0, len - NTACL_HASH_END) : NULL;
		return end != NULL ? (((size_t)(end - buf) + 1 + 3) & ~(size_t)3) + 8 + 64 : 0;
	default:
		return 0;
	}
}

static bool descriptor_read(const uint8_t *buf, size_t len, struct descriptor *d)
{
	size_t at = descriptor_begin(buf, len), dacl;

	memset(d, 0, sizeof(*d));
	if (at == 0 || at > len || len - at < SD_BYTES || buf[at] != 1 ||
			!sid_read(buf, len, le32(buf + at + 4), &d->owner) ||
			!sid_read(buf, len, le32(buf + at + 8), &d->group)) {
		return false;
	}
	d->type = le16(buf + at + 2);
	dacl = le32(buf + at + 16);
	if (dacl == 0) {
		return true;
	}
	if (dacl > len || len - dacl < ACL_BYTES) {
		return false;
	}
	d->dacl.at = buf + dacl;
	d->dacl.len = le16(buf + dacl + 2);
	return d->dacl.len >= ACL_BYTES && d->dacl.len <= len - dacl;
}

/* Where the trustee stands: ACEs for objects have two GUIDs, or one, or none, before it. */
static size_t ace_trustee_at(const uint8_t *at, size_t len)
{
	switch (at[0]) {
	case 0x05: /* allowed, denied, audit, alarm; the same with a condition */
	case 0x06:
	case 0x07:
	case 0x08:
	case 0x0b:
	case 0x0c:
	case 0x0f:
	case 0x10:
		if (len < ACE_BYTES + 4) {
			return len;
		}
		return ACE_BYTES + 4 + ((at[8] & 1) ? 16u : 0u) + ((at[8] & 2) ? 16u : 0u);
	default:
		return ACE_BYTES;
	}
}

/* The ACE at *offset of the DACL, which moves on; false: damaged. */
static bool ace_read(const struct span *dacl, size_t *offset, struct ace *ace)
{
	size_t left = dacl->len - *offset;

	ace->at = dacl->at + *offset;
	if (left < ACE_BYTES) {
		return false;
	}
	ace->len = le16(ace->at + 2);
	if (ace->len < ACE_BYTES || ace->len > left || ace->len % 4 != 0 ||
			!sid_read(ace->at, ace->len, ace_trustee_at(ace->at, ace->len),
					&ace->trustee)) {
		return false;
	}
	*offset += ace->len;
	return true;
}

/* ---- whom it names ---- */

static void sid_say(const struct span *sid, void (*fn)(void *arg, const char *sid), void *arg)
{
	char text[32 + 11 * SID_SUBS_MAX];
	uint64_t authority = 0;
	int len;

	for (unsigned i = 0; i < 6; i++) {
		authority = authority << 8 | sid->at[2 + i];
	}
	len = snprintf(text, sizeof(text), "S-%u-%llu", sid->at[0], (unsigned long long)authority);
	for (unsigned i = 0; i < sid->at[1]; i++) {
		len += snprintf(text + len, sizeof(text) - (size_t)len, "-%lu",
				(unsigned long)le32(sid->at + SID_BYTES + 4 * i));
	}
	fn(arg, text);
}

int ntacl_sids(const uint8_t *value, size_t len, void (*fn)(void *arg, const char *sid), void *arg)
{
	struct descriptor d;
	struct ace ace;
	size_t offset = ACL_BYTES;

	if (!descriptor_read(value, len, &d)) {
		return -EBADMSG;
	}
	sid_say(&d.owner, fn, arg);
	sid_say(&d.group, fn, arg);
	for (unsigned i = 0; d.dacl.at != NULL && i < le16(d.dacl.at + 4); i++) {
		if (!ace_read(&d.dacl, &offset, &ace)) {
			return -EBADMSG;
		}
		sid_say(&ace.trustee, fn, arg);
	}
	return 0;
}

/* ---- writing ---- */

static bool child_has(const struct child *c, const uint8_t *ace, size_t len)
{
	const uint8_t *p = c->buf + c->aces;

	for (unsigned i = 0; i < c->count; i++) {
		if (le16(p + 2) == len && memcmp(p, ace, len) == 0) {
			return true;
		}
		p += le16(p + 2);
	}
	return false;
}

/* The ACE with other flags and trustee, unless it is there already. */
static void child_add(struct child *c, const struct ace *ace, unsigned flags,
		const struct span *trustee)
{
	size_t head = (size_t)(ace->trustee.at - ace->at);
	size_t tail = ace->len - head - ace->trustee.len;
	size_t len = head + trustee->len + tail;
	uint8_t *to = c->buf + c->len;

	if (len > UINT16_MAX) {
		c->too_big = true;
		return;
	}
	memcpy(to, ace->at, head);
	memcpy(to + head, trustee->at, trustee->len);
	memcpy(to + head + trustee->len, ace->trustee.at + ace->trustee.len, tail);
	to[1] = (uint8_t)flags;
	put16(to + 2, len);
	if (!child_has(c, to, len)) {
		c->len += len;
		c->count++;
	}
}

static bool sid_is(const struct span *sid, const uint8_t *other, size_t len)
{
	return sid->len == len && memcmp(sid->at, other, len) == 0;
}

static bool ace_is_inheritable(unsigned flags, bool container)
{
	if (!container) {
		return (flags & ACE_OBJECT_INHERIT) != 0;
	}
	return (flags & ACE_CONTAINER_INHERIT) != 0 ||
			((flags & ACE_OBJECT_INHERIT) != 0 && (flags & ACE_NO_PROPAGATE) == 0);
}

/* What one ACE of the directory becomes in the child: nothing, itself, or for a directory's creator
 * the right itself and the one to hand on. */
static void inherit_one(struct child *c, const struct descriptor *d, const struct ace *ace,
		bool container)
{
	unsigned was = ace->at[1], flags = 0;
	unsigned mark = (d->type & SD_TYPE_DACL_AUTO_INHERITED) != 0 ? ACE_INHERITED : 0;
	const struct span *trustee = &ace->trustee;

	if (!ace_is_inheritable(was, container)) {
		return;
	}
	if (container && (was & ACE_NO_PROPAGATE) == 0) {
		flags = was & ~(unsigned)(ACE_INHERIT_ONLY | ACE_INHERITED);
		if ((flags & ACE_CONTAINER_INHERIT) == 0) {
			flags |= ACE_INHERIT_ONLY;
		}
	}
	if (sid_is(trustee, creator_owner, sizeof(creator_owner))) {
		trustee = &d->owner;
	} else if (sid_is(trustee, creator_group, sizeof(creator_group))) {
		trustee = &d->group;
	}
	if (flags == 0 || trustee == &ace->trustee) {
		child_add(c, ace, flags | mark, trustee);
		return;
	}
	if ((flags & ACE_CONTAINER_INHERIT) != 0) {
		child_add(c, ace, mark, trustee);
	}
	child_add(c, ace, flags | ACE_INHERIT_ONLY | mark, &ace->trustee);
}

/* Of a directory that hands nothing down: the rights it has itself. */
static void inherit_own(struct child *c, const struct ace *ace)
{
	if ((ace->at[1] & ACE_INHERIT_ONLY) == 0) {
		child_add(c, ace, 0, &ace->trustee);
	}
}

static int child_aces(struct child *c, const struct descriptor *d, bool container, bool own)
{
	uint32_t count = le32(d->dacl.at + 4);
	size_t offset = ACL_BYTES;
	struct ace ace;

	while (count-- > 0) {
		if (!ace_read(&d->dacl, &offset, &ace)) {
			return -EBADMSG;
		}
		if (own) {
			inherit_own(c, &ace);
		} else {
			inherit_one(c, d, &ace, container);
		}
	}
	return 0;
}

/* Everything before the ACEs. */
static void child_begin(struct child *c, const struct descriptor *d)
{
	uint8_t *sd = c->buf + NTACL_HEAD_BYTES;
	size_t owner = NTACL_HEAD_BYTES + SD_BYTES;
	size_t group = owner + d->owner.len, dacl = group + d->group.len;

	put16(c->buf, 1);
	put16(c->buf + 2, 1);
	put32(c->buf + 4, 0x00020000); /* NDR: any number but 0 */
	sd[0] = 1;
	put16(sd + 2, SD_TYPE_SELF_RELATIVE | SD_TYPE_DACL_PRESENT |
					(d->type & SD_TYPE_DACL_AUTO_INHERITED));
	put32(sd + 4, owner);
	put32(sd + 8, group);
	put32(sd + 16, dacl);
	memcpy(c->buf + owner, d->owner.at, d->owner.len);
	memcpy(c->buf + group, d->group.at, d->group.len);
	c->buf[dacl] = d->dacl.at[0]; /* revision */
	c->aces = c->len = dacl + ACL_BYTES;
}

int ntacl_inherit(const uint8_t *dir, size_t dir_len, bool container, uint8_t **out,
		size_t *out_len)
{
	struct descriptor d;
	struct child c = {0};
	int ret;

	*out = NULL;
	*out_len = 0;
	if (!descriptor_read(dir, dir_len, &d)) {
		return -EBADMSG;
	}
	if (d.dacl.at == NULL) {
		return 0;
	}
	/* Of each ACE at most two, with another trustee; an ACE has 16 bytes at least. */
	c.buf = calloc(1, NTACL_HEAD_BYTES + SD_BYTES + 2 * SID_BYTES_MAX + ACL_BYTES +
					2 * (d.dacl.len + d.dacl.len / 16 * SID_BYTES_MAX));
	if (c.buf == NULL) {
		return -ENOMEM;
	}
	child_begin(&c, &d);
	ret = child_aces(&c, &d, container, false);
	if (ret == 0 && c.count == 0) {
		ret = child_aces(&c, &d, container, true);
	}
	if (ret == 0 && (c.too_big || c.len > XATTR_BYTES_MAX ||
					c.len - c.aces + ACL_BYTES > UINT16_MAX)) {
		ret = -E2BIG;
	}
	if (ret != 0) {
		free(c.buf);
		return ret;
	}
	put16(c.buf + c.aces - ACL_BYTES + 2, c.len - c.aces + ACL_BYTES);
	put32(c.buf + c.aces - ACL_BYTES + 4, c.count);
	*out = c.buf;
	*out_len = c.len;
	return 0;
}
