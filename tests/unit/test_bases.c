/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Duty: directory bases as bytes: what went in comes out, and nothing else does. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "cached/mirror/base.h"

static const struct ofs_oid uuid = { "uuid-of-a-volume" }, dir = { "id-of-directory!" };

/* A file with an ACL that all share, DOS attributes of its own, and a large stream. */
static void make_row(struct base_row *row, unsigned i)
{
	static const char *const names[] = { "security.NTACL", "user.DOSATTRIB", "user.DosStream.big:$DATA" };
	struct snapshot *s = calloc(1, sizeof(*s));

	memset(row, 0, sizeof(*row));
	assert_true(asprintf(&row->name, "file-%06u", i) > 0);
	assert_true(asprintf(&row->etag, "%032x", i * 7919) > 0);
	row->size = i;
	row->s3_mtime_ns = 1700000000123000000LL + i;
	row->oid.bytes[0] = 1;
	memcpy(row->oid.bytes + 8, &i, sizeof(i));
	row->data_gen = i + 1;
	row->meta_gen = 2 * i + 1;
	if (i % 10 == 9) {
		row->mtime_ns = 1600000000000000000LL + i;
		free(s);
		return;
	}
	s->mode = 0100644;
	s->uid = 1000 + i % 3;
	s->mtime_ns = 1650000000000000000LL + i;
	s->xattr_count = 3;
	s->xattrs = calloc(3, sizeof(*s->xattrs));
	for (unsigned n = 0; n < 3; n++) {
		struct snapshot_xattr *x = &s->xattrs[n];

		x->name = strdup(names[n]);
		x->len = n == 0 ? 600 : n == 1 ? 56 : BASE_INLINE_BYTES + 1 + i;
		x->is_blob = n != 1;
		x->value = n < 2 ? malloc(x->len) : NULL;
		if (n < 2) {
			memset(x->value, n == 0 ? 'a' : (int)i, x->len);
			SHA256(x->value, x->len, x->sha256);
		} else {
			memset(x->sha256, (int)i, sizeof(x->sha256));
		}
	}
	row->snapshot = s;
}

static void build(unsigned rows, uint8_t **bytes, size_t *len)
{
	struct base_build *b = base_build_new();
	struct base_row row;

	for (unsigned i = 0; i < rows; i++) {
		make_row(&row, i);
		assert_int_equal(base_build_add(b, &row), 0);
		base_row_clear(&row);
	}
	assert_int_equal(base_build_rows(b), rows);
	assert_int_equal(base_build_end(b, &uuid, &dir, bytes, len), 0);
	base_build_free(&b);
}

static void check_row(const struct base_chunk *c, unsigned i)
{
	struct base_row want, row;

	make_row(&want, i);
	assert_int_equal(base_chunk_find(c, want.name), i);
	assert_int_equal(base_chunk_row(c, i, &row), 0);
	assert_string_equal(row.name, want.name);
	assert_string_equal(row.etag, want.etag);
	assert_true(row.size == want.size && row.s3_mtime_ns == want.s3_mtime_ns &&
			row.data_gen == want.data_gen && row.meta_gen == want.meta_gen &&
			row.mtime_ns == want.mtime_ns && row.version_id == NULL);
	assert_true(ofs_oid_equal(&row.oid, &want.oid));
	assert_int_equal(row.snapshot == NULL, want.snapshot == NULL);
	for (unsigned n = 0; row.snapshot != NULL && n < 3; n++) {
		const struct snapshot_xattr *x = &row.snapshot->xattrs[n], *w = &want.snapshot->xattrs[n];

		assert_string_equal(x->name, w->name);
		assert_int_equal(x->len, w->len);
		assert_int_equal(x->is_blob, n == 2);
		assert_memory_equal(n == 2 ? x->sha256 : x->value, n == 2 ? w->sha256 : w->value,
				n == 2 ? 32 : w->len);
	}
	if (row.snapshot != NULL) {
		assert_true(row.snapshot->mtime_ns == want.snapshot->mtime_ns &&
				row.snapshot->uid == want.snapshot->uid);
	}
	base_row_clear(&row);
	base_row_clear(&want);
}

static void test_round_trip(void **state)
{
	struct base_chunk *c;
	uint8_t *bytes;
	size_t len;

	(void)state;
	build(1000, &bytes, &len);
	assert_true(len < 1000 * 100); /* shared rights stand once: they alone would be 600 KB */
	assert_int_equal(base_chunk_open(bytes, len, &uuid, &dir, &c), 0);
	assert_int_equal(base_chunk_rows(c), 1000);
	for (unsigned i = 0; i < 1000; i++) {
		check_row(c, i);
	}
	assert_int_equal(base_chunk_find(c, "file-"), -1);
	assert_int_equal(base_chunk_find(c, "file-001000"), -1);
	assert_int_equal(base_chunk_find(c, ""), -1);
	base_chunk_free(&c);
	assert_int_equal(base_chunk_open(bytes, len, &dir, &dir, &c), -EBADMSG);
	assert_int_equal(base_chunk_open(bytes, len, &uuid, &uuid, &c), -EBADMSG);
	free(bytes);
	build(0, &bytes, &len);
	assert_int_equal(base_chunk_open(bytes, len, &uuid, &dir, &c), 0);
	assert_int_equal(base_chunk_find(c, "a"), -1);
	base_chunk_free(&c);
	free(bytes);
}

/* Every cut and every changed byte of what is packed: refused, or rows that are whole. */
static void test_damage(void **state)
{
	uint8_t *bytes, *raw, *frame;
	struct base_chunk *c;
	size_t len, raw_len, bound;

	(void)state;
	build(12, &bytes, &len);
	for (size_t cut = 0; cut < len; cut++) {
		assert_int_equal(base_chunk_open(bytes, cut, &uuid, &dir, &c), -EBADMSG);
	}
	raw_len = ZSTD_getFrameContentSize(bytes, len);
	raw = malloc(raw_len + 1);
	assert_int_equal(ZSTD_decompress(raw, raw_len, bytes, len), raw_len);
	bound = ZSTD_compressBound(raw_len + 1);
	frame = malloc(bound);
	raw[raw_len] = 0;
	for (size_t cut = 0; cut <= raw_len + 1; cut++) {
		size_t n = ZSTD_compress(frame, bound, raw, cut, 1);

		assert_int_equal(base_chunk_open(frame, n, &uuid, &dir, &c), cut == raw_len ? 0 : -EBADMSG);
		base_chunk_free(&c);
	}
	for (size_t at = 0; at < raw_len; at++) {
		size_t n;

		raw[at] ^= 0xff;
		n = ZSTD_compress(frame, bound, raw, raw_len, 1);
		if (base_chunk_open(frame, n, &uuid, &dir, &c) == 0) {
			for (unsigned i = 0; i < base_chunk_rows(c); i++) {
				struct base_row row;

				(void)base_chunk_row(c, i, &row);
				base_row_clear(&row);
			}
		} else {
			assert_null(c);
		}
		base_chunk_free(&c);
		raw[at] ^= 0xff;
	}
	free(frame);
	free(raw);
	free(bytes);
}

/* What cannot stand in a chunk is refused one by one; a full chunk says so. */
static void test_limits(void **state)
{
	struct base_build *b = base_build_new();
	struct base_row row;
	char *name;

	(void)state;
	make_row(&row, 5);
	assert_int_equal(base_build_add(b, &row), 0);
	assert_int_equal(base_build_add(b, &row), -EINVAL); /* twice */
	base_row_clear(&row);
	make_row(&row, 4);
	assert_int_equal(base_build_add(b, &row), -EINVAL); /* back */
	base_row_clear(&row);
	make_row(&row, 6);
	name = row.name;
	row.name = "z/b";
	assert_int_equal(base_build_add(b, &row), -EINVAL);
	row.name = name;
	row.snapshot->xattrs[2].is_blob = false; /* neither here nor elsewhere */
	assert_int_equal(base_build_add(b, &row), -EINVAL);
	row.snapshot->xattrs[2].is_blob = true;
	row.snapshot->xattrs[2].name[0] = '\0'; /* a bundle */
	assert_int_equal(base_build_add(b, &row), -EINVAL);
	base_row_clear(&row);
	assert_int_equal(base_build_rows(b), 1);
	for (unsigned i = 6; i < BASE_CHUNK_ROWS + 5; i++) {
		make_row(&row, i);
		assert_int_equal(base_build_add(b, &row), 0);
		base_row_clear(&row);
	}
	make_row(&row, BASE_CHUNK_ROWS + 5);
	assert_int_equal(base_build_add(b, &row), -E2BIG);
	base_row_clear(&row);
	assert_string_equal(base_build_first(b), "file-000005");
	assert_string_equal(base_build_last(b), "file-050004");
	base_build_free(&b);
}

static void test_head(void **state)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	struct base_head *h = base_head_new(ctx), *again;
	const uint8_t bytes[] = "chunk";
	char *text, *other;
	size_t len;

	(void)state;
	assert_int_equal(base_head_add(h, "00112233445566778899aabbccddeeff", "a", "c\xff", 7, bytes, 5), 0);
	assert_int_equal(base_head_add(h, "10112233445566778899aabbccddeeff", "d", "d", 1, bytes, 4), 0);
	text = base_head_text(h, &uuid, &dir, "node", "n1");
	other = base_head_text(h, &uuid, &dir, "node", "n2");
	assert_string_not_equal(text, other);
	free(other);
	len = strlen(text);
	again = base_head_parse(ctx, (uint8_t *)text, len, &uuid, &dir);
	assert_non_null(again);
	assert_int_equal(again->chunk_count, 2);
	assert_int_equal(again->rows, 8);
	assert_ptr_equal(base_head_find(again, "a"), &again->chunks[0]);
	assert_ptr_equal(base_head_find(again, "c\xff"), &again->chunks[0]);
	assert_ptr_equal(base_head_find(again, "d"), &again->chunks[1]);
	assert_null(base_head_find(again, "A"));
	assert_null(base_head_find(again, "e"));
	assert_true(base_chunk_is(&again->chunks[0], bytes, 5));
	assert_false(base_chunk_is(&again->chunks[0], bytes, 4));
	assert_false(base_chunk_is(&again->chunks[0], (const uint8_t *)"chunK", 5));
	assert_null(base_head_parse(ctx, (uint8_t *)text, len, &dir, &dir));
	assert_null(base_head_parse(ctx, (uint8_t *)text, len, &uuid, &uuid));
	for (size_t cut = 0; cut < len; cut++) {
		assert_null(base_head_parse(ctx, (uint8_t *)text, cut, &uuid, &dir));
	}
	free(text);
	/* chunks that overlap */
	assert_int_equal(base_head_add(h, "20112233445566778899aabbccddeeff", "c", "e", 1, bytes, 4), 0);
	text = base_head_text(h, &uuid, &dir, "node", "n1");
	assert_null(base_head_parse(ctx, (uint8_t *)text, strlen(text), &uuid, &dir));
	free(text);
	talloc_free(ctx);
}

/* The first `from` in the head becomes `to`; ends: and that is all. */
static char *head_with(const char *text, const char *from, const char *to, bool ends)
{
	const char *at = strstr(text, from);
	char *made = NULL;

	assert_non_null(at);
	assert_true(asprintf(&made, "%.*s%s%s", (int)(at - text), text, to, ends ? "" : at + strlen(from)) > 0);
	return made;
}

/* Whoever may write to the bucket may have written it. */
static void test_head_damage(void **state)
{
	static const struct {
		const char *from, *to;
	} changes[] = {
		{"objectfs base 1", "objectfs base 2"},
		{"\"format\":\"objectfs base 1\"", "\"format\":1"},
		{"\"format\":", "\"formal\":"},
		{"\"uuid\":", "\"uuit\":"},
		{"\"directory\":\"", "\"directory\":\"z"},
		{"\"directory\":", "\"node\":\"twice\",\"directory\":"},
		{"\"chunks\":[", "\"chunks\":{},\"was\":["},
		{"\"id\":\"00", "\"id\":\""},
		{"\"id\":\"00", "\"id\":\"0G"},
		{"\"id\":\"00", "\"id\":\"G0"},
		{"\"id\":\"00", "\"id\":7,\"was\":\""},
		{"\"first\":\"YQ==", "\"first\":\""},
		{"\"first\":\"YQ==", "\"first\":\"YQA="}, /* a, and a zero */
		{"\"first\":\"YQ==", "\"first\":\"!!!!"},
		{"\"first\":\"YQ==", "\"first\":\"ZA=="}, /* d: behind the last */
		{"\"first\":\"YQ==", "\"farst\":\"YQ=="},
		{"\"last\":", "\"lost\":"},
		{"\"rows\":7,\"bytes\"", "\"rows\":0,\"bytes\""},
		{"\"rows\":7,\"bytes\"", "\"rows\":-1,\"bytes\""},
		{"\"rows\":7,\"bytes\"", "\"rows\":1000000,\"bytes\""},
		{"\"bytes\":5", "\"bytes\":0"},
		{"\"bytes\":5", "\"bytes\":1000000000"},
		{"\"sha256\":\"", "\"sha256\":\"0"},
		{"\"sha256\":", "\"sha512\":"},
	};
	TALLOC_CTX *ctx = talloc_new(NULL);
	struct base_head *h = base_head_new(ctx), *again;
	char *text, *made, *long_name;

	(void)state;
	assert_int_equal(base_head_add(h, "00112233445566778899aabbccddeeff", "a", "c\xff", 7, (const uint8_t *)"chunk", 5), 0);
	text = base_head_text(h, &uuid, &dir, "a node", "n1");
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		made = head_with(text, changes[i].from, changes[i].to, false);
		again = base_head_parse(ctx, (uint8_t *)made, strlen(made), &uuid, &dir);
		if (again != NULL) {
			fail_msg("this is no head: %s", made);
		}
		free(made);
	}
	assert_null(base_head_parse(ctx, NULL, 0, &uuid, &dir));
	assert_null(base_head_parse(ctx, (uint8_t *)text, BASE_HEAD_BYTES + 1, &uuid, &dir));
	/* a name that no key is long enough for: 1,025 bytes of "i" */
	long_name = talloc_zero_size(ctx, 1400);
	strcpy(long_name, "\"last\":\"");
	for (unsigned i = 0; i < 341; i++) {
		strcat(long_name, "aWlp");
	}
	made = head_with(text, "\"last\":\"", strcat(long_name, "aWlp\",\"was\":\""), false);
	assert_null(base_head_parse(ctx, (uint8_t *)made, strlen(made), &uuid, &dir));
	free(made);
	/* no chunk at all is a head */
	made = head_with(text, "\"chunks\":[", "\"chunks\":[]}", true);
	again = base_head_parse(ctx, (uint8_t *)made, strlen(made), &uuid, &dir);
	assert_true(again != NULL && again->chunk_count == 0 && base_head_find(again, "a") == NULL);
	free(made);
	assert_false(base_chunk_is(&h->chunks[0], NULL, 5));
	free(text);
	talloc_free(ctx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_head),
		cmocka_unit_test(test_head_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
