/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Duty: what a directory's NT ACL hands down, rule by rule; every version of the xattr; damaged ones.
 * scenario/foreign-rights compares with smbd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cached/mirror/ntacl.h"

enum { OI = 1, CI = 2, NP = 4, IO = 8, INH = 16 };
enum who { OWNER, GROUP, CREATOR_OWNER, CREATOR_GROUP, EVERYONE };
#define AI 0x0400
#define DENY 1

static const struct {
	size_t len;
	uint8_t bytes[28];
} sids[] = {
	[OWNER] = {28, {1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0xe8, 3, 0, 0}},
	[GROUP] = {16, {1, 2, 0, 0, 0, 0, 0, 22, 2, 0, 0, 0, 5, 0, 0, 0}},
	[CREATOR_OWNER] = {12, {1, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0}},
	[CREATOR_GROUP] = {12, {1, 1, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0}},
	[EVERYONE] = {12, {1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}},
};

struct ace {
	uint8_t type, flags;
	uint32_t mask;
	enum who who;
};
#define END {0xff, 0, 0, 0}

struct value {
	uint8_t bytes[65536 + 512];
	size_t len;
};

static void put(struct value *v, uint64_t n, unsigned bytes)
{
	while (bytes-- > 0) {
		v->bytes[v->len++] = (uint8_t)n;
		n >>= 8;
	}
}

static void put_sid(struct value *v, enum who who)
{
	memcpy(v->bytes + v->len, sids[who].bytes, sids[who].len);
	v->len += sids[who].len;
}

static void put_dacl(struct value *v, const struct ace *aces)
{
	size_t begin = v->len;
	unsigned count = 0;

	put(v, 2, 4);
	put(v, 0, 4);
	for (; aces->type != 0xff; aces++, count++) {
		put(v, aces->type, 1);
		put(v, aces->flags, 1);
		put(v, 8 + sids[aces->who].len, 2);
		put(v, aces->mask, 4);
		put_sid(v, aces->who);
	}
	v->bytes[begin + 2] = (uint8_t)(v->len - begin);
	v->bytes[begin + 3] = (uint8_t)((v->len - begin) >> 8);
	v->bytes[begin + 4] = (uint8_t)count;
	v->bytes[begin + 5] = (uint8_t)(count >> 8);
}

/* aces NULL: no DACL. */
static void build(struct value *v, unsigned version, unsigned type, const struct ace *aces)
{
	size_t sd;

	v->len = 0;
	put(v, version, 2);
	put(v, version, 2);
	put(v, 0x20000, 4);
	if (version > 1) {
		put(v, 0x20004, 4);
	}
	if (version == 2) {
		put(v, 0, 8);
		put(v, 0, 8);
	} else if (version > 2) {
		put(v, 1, 2);
		memset(v->bytes + v->len, 0xaa, 64);
		v->len += 64;
	}
	if (version == 4) {
		memcpy(v->bytes + v->len, "posix", 6);
		v->len += 6;
		memset(v->bytes + v->len, 0xbb, 8 + 64);
		v->len += 8 + 64;
	} else if (version == 3) {
		put(v, 0, 2);
	}
	sd = v->len;
	put(v, 1, 2);
	put(v, 0x8000 | type | (aces != NULL ? 4 : 0), 2);
	put(v, sd + 20, 4);
	put(v, sd + 20 + sids[OWNER].len, 4);
	put(v, 0, 4);
	put(v, aces != NULL ? sd + 20 + sids[OWNER].len + sids[GROUP].len : 0, 4);
	put_sid(v, OWNER);
	put_sid(v, GROUP);
	if (aces != NULL) {
		put_dacl(v, aces);
	}
}

/* A directory with these ACEs hands down those, in every version. */
static void hands_down(unsigned type, const struct ace *dir, bool container,
		const struct ace *expected)
{
	static struct value from, want;
	uint8_t *out;
	size_t len;

	build(&want, 1, type & AI, expected);
	for (unsigned version = 1; version <= 4; version++) {
		build(&from, version, type, dir);
		assert_int_equal(ntacl_inherit(from.bytes, from.len, container, &out, &len), 0);
		assert_non_null(out);
		assert_int_equal(len, want.len);
		assert_memory_equal(out, want.bytes, len);
		free(out);
	}
}

static const struct ace plain[] = {
	{DENY, OI | CI, 0x2, EVERYONE},
	{0, OI, 0x10, EVERYONE},
	{0, CI, 0x20, EVERYONE},
	{0, 0, 0x40, EVERYONE},
	{0, OI | CI | IO, 0x80, EVERYONE},
	{0, OI | CI | INH, 0x100, EVERYONE},
	END};

static void test_files(void **state)
{
	(void)state;
	hands_down(0, plain, false, (struct ace[]){{DENY, 0, 0x2, EVERYONE}, {0, 0, 0x10, EVERYONE},
						    {0, 0, 0x80, EVERYONE}, {0, 0, 0x100, EVERYONE}, END});
	/* that the directory is protected concerns the directory */
	hands_down(AI | 0x1000, plain, false,
			(struct ace[]){{DENY, INH, 0x2, EVERYONE}, {0, INH, 0x10, EVERYONE},
					{0, INH, 0x80, EVERYONE}, {0, INH, 0x100, EVERYONE}, END});
}

static void test_directories(void **state)
{
	(void)state;
	hands_down(0, plain, true,
			(struct ace[]){{DENY, OI | CI, 0x2, EVERYONE}, {0, OI | IO, 0x10, EVERYONE},
					{0, CI, 0x20, EVERYONE}, {0, OI | CI, 0x80, EVERYONE},
					{0, OI | CI, 0x100, EVERYONE}, END});
}

static void test_no_propagate(void **state)
{
	static const struct ace dir[] = {{0, OI | CI | NP, 0x1, EVERYONE}, {0, OI | NP, 0x2, EVERYONE},
		{0, CI | NP | IO, 0x4, CREATOR_OWNER}, END};

	(void)state;
	hands_down(0, dir, false, (struct ace[]){{0, 0, 0x1, EVERYONE}, {0, 0, 0x2, EVERYONE}, END});
	hands_down(0, dir, true, (struct ace[]){{0, 0, 0x1, EVERYONE}, {0, 0, 0x4, OWNER}, END});
}

static void test_creators(void **state)
{
	static const struct ace dir[] = {{0, OI | CI | IO, 0x1, CREATOR_OWNER},
		{0, OI, 0x2, CREATOR_GROUP}, {0, CI, 0x4, CREATOR_GROUP}, END};

	(void)state;
	hands_down(0, dir, false, (struct ace[]){{0, 0, 0x1, OWNER}, {0, 0, 0x2, GROUP}, END});
	hands_down(AI, dir, true,
			(struct ace[]){{0, INH, 0x1, OWNER}, {0, OI | CI | IO | INH, 0x1, CREATOR_OWNER},
					{0, OI | IO | INH, 0x2, CREATOR_GROUP}, {0, INH, 0x4, GROUP},
					{0, CI | IO | INH, 0x4, CREATOR_GROUP}, END});
}

static void test_twice_is_once(void **state)
{
	static const struct ace dir[] = {{0, OI, 0x1, CREATOR_OWNER}, {0, OI | CI, 0x1, OWNER},
		{0, OI, 0x2, OWNER}, END};

	(void)state;
	hands_down(0, dir, false, (struct ace[]){{0, 0, 0x1, OWNER}, {0, 0, 0x2, OWNER}, END});
}

static void test_nothing_handed_down(void **state)
{
	static const struct ace own[] = {{0, 0, 0x1, OWNER}, {0, CI | IO, 0x2, EVERYONE},
		{DENY, 0, 0x4, EVERYONE}, END};
	static struct value v;
	uint8_t *out = (uint8_t *)1;
	size_t len;

	(void)state;
	hands_down(0, own, false, (struct ace[]){{0, 0, 0x1, OWNER}, {DENY, 0, 0x4, EVERYONE}, END});
	hands_down(0, (struct ace[]){END}, true, (struct ace[]){END}); /* nobody may */
	build(&v, 3, 0, NULL); /* everybody may */
	assert_int_equal(ntacl_inherit(v.bytes, v.len, false, &out, &len), 0);
	assert_null(out);
}

static void test_damaged(void **state)
{
	static struct value v;
	uint8_t *out, *copy;
	size_t len;

	(void)state;
	for (unsigned version = 0; version <= 5; version++) {
		build(&v, version, 0, plain);
		for (size_t cut = version == 0 || version == 5 ? 0 : 1; cut <= v.len; cut++) {
			/* of its own, for a sanitizer to guard its end */
			copy = malloc(v.len - cut + 1);
			memcpy(copy, v.bytes, v.len - cut);
			assert_int_equal(ntacl_inherit(copy, v.len - cut, true, &out, &len), -EBADMSG);
			assert_null(out);
			free(copy);
		}
	}
	build(&v, 1, 0, plain);
	v.bytes[8 + 4] = 0; /* no owner: a right of CREATOR OWNER would be nobody's */
	assert_int_equal(ntacl_inherit(v.bytes, v.len, false, &out, &len), -EBADMSG);
}

static void test_too_big(void **state)
{
	static struct ace aces[2001];
	static struct value v;
	uint8_t *out;
	size_t len;

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		aces[i] = (struct ace){0, OI | CI, i, CREATOR_OWNER};
	}
	aces[2000] = (struct ace)END;
	build(&v, 1, 0, aces);
	assert_int_equal(ntacl_inherit(v.bytes, v.len, true, &out, &len), -E2BIG);
	assert_null(out);
	aces[1000] = (struct ace)END;
	build(&v, 1, 0, aces);
	assert_int_equal(ntacl_inherit(v.bytes, v.len, true, &out, &len), 0);
	free(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_directories),
		cmocka_unit_test(test_no_propagate),
		cmocka_unit_test(test_creators),
		cmocka_unit_test(test_twice_is_once),
		cmocka_unit_test(test_nothing_handed_down),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_too_big),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
