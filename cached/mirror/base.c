/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: chunks of a directory base: rows to bytes and back.
 * Way: base_write.c makes chunks, base_read.c takes them apart.
 * Thread: any; pure functions.
 * Owns: what it returns.
 * Holds: 1. nothing of a chunk is given out before all of it was found whole: lengths, order of names,
 *           numbers of attributes, volume, directory;
 *        2. attributes stand once: files have the same rights mostly.
 */
#include "base.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "shared/cursor.h"

#define CHUNK_MAGIC "OFSBASE1"
#define CHUNK_MAGIC_BYTES 8u
#define CHUNK_HEAD_BYTES (CHUNK_MAGIC_BYTES + 16 + 16 + 4 + 4)
#define CHUNK_NAME_BYTES 1024u
#define CHUNK_ATTRS_MAX 65535u /* of one file */
#define CHUNK_LEVEL 3          /* zstd's default: 4 the time of its fastest, two thirds of the bytes */
#define ROW_FOREIGN 1u
#define ROW_PLAIN 2u
#define ROW_SNAPSHOT_BYTES (4 + 4 + 4 + 8 + 8 + 8 + 2)
#define SNAPSHOT_VERSION 1

void base_row_clear(struct base_row *row)
{
	free(row->name);
	free(row->etag);
	free(row->version_id);
	snapshot_free(&row->snapshot);
	memset(row, 0, sizeof(*row));
}

/* ---- bytes that grow ---- */

struct bytes {
	uint8_t *p;
	size_t len, cap;
	bool bad; /* out of memory; sticky */
};

static void bytes_put(struct bytes *b, const void *from, size_t len)
{
	if (b->len + len > b->cap && !b->bad) {
		size_t cap = b->cap * 2 > b->len + len ? b->cap * 2 : b->len + len + 4096;
		uint8_t *p = realloc(b->p, cap);

		b->bad = p == NULL;
		b->p = p != NULL ? p : b->p;
		b->cap = p != NULL ? cap : b->cap;
	}
	if (!b->bad && len > 0) {
		memcpy(b->p + b->len, from, len);
		b->len += len;
	}
}

static void bytes_put_le(struct bytes *b, uint64_t v, size_t len)
{
	uint8_t le[8];

	for (size_t i = 0; i < len; i++) {
		le[i] = (uint8_t)(v >> (8 * i));
	}
	bytes_put(b, le, len);
}

/* ---- making ---- */

struct base_build {
	struct bytes rows, attrs;
	unsigned row_count;
	char *first, *last;
	/* attributes by number, and a hash of them: number + 1 */
	uint32_t *attr_at;
	uint32_t attr_count, attr_cap;
	uint32_t *slots;
	size_t slot_mask;
};

struct base_build *base_build_new(void)
{
	struct base_build *b = calloc(1, sizeof(*b));

	if (b != NULL) {
		b->slot_mask = 1023;
		b->slots = calloc(b->slot_mask + 1, sizeof(*b->slots));
		if (b->slots == NULL) {
			base_build_free(&b);
		}
	}
	return b;
}

void base_build_free(struct base_build **pb)
{
	struct base_build *b = *pb;

	*pb = NULL;
	if (b != NULL) {
		free(b->rows.p);
		free(b->attrs.p);
		free(b->first);
		free(b->last);
		free(b->attr_at);
		free(b->slots);
		free(b);
	}
}

static size_t attr_hash(const uint8_t *p, size_t len)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	while (len-- > 0) {
		h = (h ^ *p++) * 0x100000001b3ULL; /* FNV-1a */
	}
	return (size_t)(h ^ (h >> 29));
}

static size_t attr_len(const struct base_build *b, uint32_t number)
{
	return (number + 1 < b->attr_count ? b->attr_at[number + 1] : b->attrs.len) - b->attr_at[number];
}

/* Where it is, or would be. */
static size_t attr_slot(const struct base_build *b, const uint8_t *p, size_t len)
{
	size_t i = attr_hash(p, len) & b->slot_mask;

	for (; b->slots[i] != 0; i = (i + 1) & b->slot_mask) {
		uint32_t n = b->slots[i] - 1;

		if (attr_len(b, n) == len && memcmp(b->attrs.p + b->attr_at[n], p, len) == 0) {
			break;
		}
	}
	return i;
}

static bool attrs_grow(struct base_build *b)
{
	size_t slots = 2 * (b->slot_mask + 1);
	uint32_t *grown = calloc(slots, sizeof(*grown));

	if (grown == NULL) {
		return false;
	}
	free(b->slots);
	b->slots = grown;
	b->slot_mask = slots - 1;
	for (uint32_t n = 0; n < b->attr_count; n++) {
		b->slots[attr_slot(b, b->attrs.p + b->attr_at[n], attr_len(b, n))] = n + 1;
	}
	return true;
}

/* An attribute's number. 0 or -ENOMEM. */
static int attr_number(struct base_build *b, const struct snapshot_xattr *x, uint32_t *number)
{
	struct bytes one = {0};
	size_t slot, name_len = strlen(x->name);
	bool blob = x->is_blob && (x->value == NULL || x->len > BASE_INLINE_BYTES);

	bytes_put_le(&one, name_len, 1);
	bytes_put(&one, x->name, name_len);
	bytes_put_le(&one, blob, 1);
	if (blob) {
		bytes_put(&one, x->sha256, sizeof(x->sha256));
	}
	bytes_put_le(&one, x->len, 4);
	if (!blob) {
		bytes_put(&one, x->value, x->len);
	}
	slot = one.bad ? 0 : attr_slot(b, one.p, one.len);
	if (!one.bad && b->slots[slot] == 0) {
		if (b->attr_count == b->attr_cap) {
			uint32_t cap = b->attr_cap ? 2 * b->attr_cap : 256;
			uint32_t *at = realloc(b->attr_at, cap * sizeof(*at));

			one.bad = at == NULL;
			b->attr_at = at != NULL ? at : b->attr_at;
			b->attr_cap = at != NULL ? cap : b->attr_cap;
		}
		if (!one.bad) {
			b->attr_at[b->attr_count++] = (uint32_t)b->attrs.len;
			bytes_put(&b->attrs, one.p, one.len);
			one.bad = b->attrs.bad;
			b->slots[slot] = b->attr_count;
		}
	}
	*number = one.bad ? 0 : b->slots[slot] - 1;
	free(one.p);
	if (!one.bad && 2 * b->attr_count > b->slot_mask && !attrs_grow(b)) {
		return -ENOMEM;
	}
	return one.bad ? -ENOMEM : 0;
}

/* No more bytes than this are put for it. */
static size_t row_bytes(const struct base_row *row)
{
	size_t bytes = 256 + CHUNK_NAME_BYTES + 512;

	for (unsigned i = 0; row->snapshot != NULL && i < row->snapshot->xattr_count; i++) {
		const struct snapshot_xattr *x = &row->snapshot->xattrs[i];

		bytes += 4 + 1 + 256 + 1 + 36 + (x->value != NULL && x->len <= BASE_INLINE_BYTES ? x->len : 0);
	}
	return bytes;
}

static bool text_fits(const char *text, size_t least, size_t most)
{
	size_t len = text != NULL ? strlen(text) : 0;

	return len >= least && len <= most;
}

static bool row_can_stand(const struct base_build *b, const struct base_row *row)
{
	const struct snapshot *s = row->snapshot;

	if (!text_fits(row->name, 1, CHUNK_NAME_BYTES) || strchr(row->name, '/') != NULL ||
			!text_fits(row->etag, 1, 255) || !text_fits(row->version_id, 0, 1024) ||
			row->size < 0 || ofs_oid_is_none(&row->oid) ||
			(b->last != NULL && strcmp(b->last, row->name) >= 0)) {
		return false;
	}
	for (unsigned i = 0; s != NULL && i < s->xattr_count; i++) {
		const struct snapshot_xattr *x = &s->xattrs[i];

		if (x->name[0] == '\0' || strlen(x->name) > 255 || (x->value == NULL && !x->is_blob) ||
				(x->len > BASE_INLINE_BYTES && !x->is_blob)) {
			return false;
		}
	}
	return s == NULL || s->xattr_count <= CHUNK_ATTRS_MAX;
}

static int row_put_snapshot(struct base_build *b, const struct snapshot *s)
{
	bytes_put_le(&b->rows, s->mode, 4);
	bytes_put_le(&b->rows, s->uid, 4);
	bytes_put_le(&b->rows, s->gid, 4);
	bytes_put_le(&b->rows, (uint64_t)s->mtime_ns, 8);
	bytes_put_le(&b->rows, (uint64_t)s->atime_ns, 8);
	bytes_put_le(&b->rows, (uint64_t)s->btime_ns, 8);
	bytes_put_le(&b->rows, s->xattr_count, 2);
	for (unsigned i = 0; i < s->xattr_count; i++) {
		uint32_t number;
		int ret = attr_number(b, &s->xattrs[i], &number);

		if (ret != 0) {
			return ret;
		}
		bytes_put_le(&b->rows, number, 4);
	}
	return 0;
}

int base_build_add(struct base_build *b, const struct base_row *row)
{
	size_t at = b->rows.len, version_len = row->version_id ? strlen(row->version_id) : 0;
	char *last;
	int ret = 0;

	if (!row_can_stand(b, row) || CHUNK_HEAD_BYTES + row_bytes(row) > BASE_CHUNK_RAW_BYTES) {
		return -EINVAL;
	}
	if (b->row_count == BASE_CHUNK_ROWS || CHUNK_HEAD_BYTES + b->rows.len + b->attrs.len +
			row_bytes(row) > BASE_CHUNK_RAW_BYTES) {
		return -E2BIG;
	}
	last = strdup(row->name);
	if (last == NULL || (b->first == NULL && (b->first = strdup(row->name)) == NULL)) {
		free(last);
		return -ENOMEM;
	}
	bytes_put_le(&b->rows, strlen(row->name), 2);
	bytes_put(&b->rows, row->name, strlen(row->name));
	bytes_put_le(&b->rows, strlen(row->etag), 1);
	bytes_put(&b->rows, row->etag, strlen(row->etag));
	bytes_put_le(&b->rows, (uint64_t)row->size, 8);
	bytes_put_le(&b->rows, (uint64_t)row->s3_mtime_ns, 8);
	bytes_put_le(&b->rows, version_len, 2);
	bytes_put(&b->rows, row->version_id, version_len);
	bytes_put_le(&b->rows, (row->snapshot == NULL ? ROW_FOREIGN : 0) | (row->plain ? ROW_PLAIN : 0), 1);
	bytes_put(&b->rows, row->oid.bytes, sizeof(row->oid.bytes));
	bytes_put(&b->rows, row->wid.bytes, sizeof(row->wid.bytes));
	bytes_put_le(&b->rows, row->data_gen, 8);
	bytes_put_le(&b->rows, row->meta_gen, 8);
	if (row->snapshot == NULL) {
		bytes_put_le(&b->rows, (uint64_t)row->mtime_ns, 8);
	} else {
		ret = row_put_snapshot(b, row->snapshot);
	}
	if (ret != 0 || b->rows.bad) {
		b->rows.len = at;
		free(last);
		return -ENOMEM;
	}
	free(b->last);
	b->last = last;
	b->row_count++;
	return 0;
}

unsigned base_build_rows(const struct base_build *b)
{
	return b->row_count;
}

const char *base_build_first(const struct base_build *b)
{
	return b->row_count > 0 ? b->first : NULL;
}

const char *base_build_last(const struct base_build *b)
{
	return b->last;
}

int base_build_end(const struct base_build *b, const struct ofs_oid *uuid, const struct ofs_oid *dir,
		uint8_t **bytes, size_t *len)
{
	struct bytes raw = {0};
	size_t bound;

	*bytes = NULL;
	bytes_put(&raw, CHUNK_MAGIC, CHUNK_MAGIC_BYTES);
	bytes_put(&raw, uuid->bytes, sizeof(uuid->bytes));
	bytes_put(&raw, dir->bytes, sizeof(dir->bytes));
	bytes_put_le(&raw, b->attr_count, 4);
	bytes_put_le(&raw, b->row_count, 4);
	bytes_put(&raw, b->attrs.p, b->attrs.len);
	bytes_put(&raw, b->rows.p, b->rows.len);
	bound = ZSTD_compressBound(raw.len);
	*bytes = raw.bad ? NULL : malloc(bound);
	if (*bytes != NULL) {
		*len = ZSTD_compress(*bytes, bound, raw.p, raw.len, CHUNK_LEVEL);
		if (ZSTD_isError(*len)) {
			free(*bytes);
			*bytes = NULL;
		}
	}
	free(raw.p);
	return *bytes != NULL ? 0 : -ENOMEM;
}

/* ---- reading ---- */

struct base_chunk {
	uint8_t *raw;
	size_t len;
	uint32_t attr_count, row_count;
	uint32_t *attr_at; /* offsets; one more than there are */
	uint32_t *row_at;
};

void base_chunk_free(struct base_chunk **pc)
{
	struct base_chunk *c = *pc;

	*pc = NULL;
	if (c != NULL) {
		free(c->raw);
		free(c->attr_at);
		free(c->row_at);
		free(c);
	}
}

static bool text_is_whole(const uint8_t *p, size_t len)
{
	return p != NULL && memchr(p, 0, len) == NULL;
}

/* What stands in it, not what it means: that is for snapshot_unpack, row by row. */
static void attr_skip(struct ofs_rd *r)
{
	size_t name_len = ofs_rd_u8(r);
	uint8_t kind;

	ofs_rd_bytes(r, name_len);
	kind = ofs_rd_u8(r);
	if (kind == 1) {
		ofs_rd_bytes(r, 32 + 4);
	} else {
		ofs_rd_bytes(r, ofs_rd_u32(r));
	}
	r->bad = r->bad || kind > 1;
}

struct row_parts { /* where a row's parts are */
	const uint8_t *name, *etag, *version;
	size_t name_len, etag_len, version_len;
	int64_t size, s3_mtime_ns;
	uint8_t flags;
	struct ofs_oid oid, wid;
	uint64_t data_gen, meta_gen;
	int64_t mtime_ns;
	const uint8_t *snapshot; /* its fixed part */
	const uint8_t *numbers;
	unsigned count;
};

static bool row_parse(struct ofs_rd *r, struct row_parts *p, uint32_t attr_count)
{
	memset(p, 0, sizeof(*p));
	p->name_len = ofs_rd_u16(r);
	p->name = ofs_rd_bytes(r, p->name_len);
	p->etag_len = ofs_rd_u8(r);
	p->etag = ofs_rd_bytes(r, p->etag_len);
	p->size = (int64_t)ofs_rd_u64(r);
	p->s3_mtime_ns = (int64_t)ofs_rd_u64(r);
	p->version_len = ofs_rd_u16(r);
	p->version = ofs_rd_bytes(r, p->version_len);
	p->flags = ofs_rd_u8(r);
	ofs_rd_copy(r, p->oid.bytes, sizeof(p->oid.bytes));
	ofs_rd_copy(r, p->wid.bytes, sizeof(p->wid.bytes));
	p->data_gen = ofs_rd_u64(r);
	p->meta_gen = ofs_rd_u64(r);
	if (p->flags & ROW_FOREIGN) {
		p->mtime_ns = (int64_t)ofs_rd_u64(r);
	} else {
		p->snapshot = ofs_rd_bytes(r, ROW_SNAPSHOT_BYTES);
		p->count = p->snapshot != NULL ? p->snapshot[36] | (unsigned)p->snapshot[37] << 8 : 0;
		p->numbers = ofs_rd_bytes(r, 4 * (size_t)p->count);
	}
	if (r->bad || p->name_len == 0 || p->name_len > CHUNK_NAME_BYTES || p->etag_len == 0 ||
			p->version_len > 1024 || p->size < 0 || p->flags > (ROW_FOREIGN | ROW_PLAIN) ||
			ofs_oid_is_none(&p->oid) || !text_is_whole(p->name, p->name_len) ||
			memchr(p->name, '/', p->name_len) != NULL ||
			!text_is_whole(p->etag, p->etag_len) ||
			!text_is_whole(p->version, p->version_len)) {
		return false;
	}
	for (unsigned i = 0; i < p->count; i++) {
		struct ofs_rd n = ofs_rd_init(p->numbers + 4 * (size_t)i, 4);

		if (ofs_rd_u32(&n) >= attr_count) {
			return false;
		}
	}
	return true;
}

static int name_order(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return order != 0 ? order : a_len < b_len ? -1 : a_len > b_len;
}

/* Counts are not believed beyond what so many bytes can hold. 0, -EBADMSG, -ENOMEM. */
static int chunk_tables(struct base_chunk *c, const struct ofs_oid *uuid, const struct ofs_oid *dir)
{
	struct ofs_rd r = ofs_rd_init(c->raw, c->len);
	const uint8_t *magic = ofs_rd_bytes(&r, CHUNK_MAGIC_BYTES);
	struct row_parts row, before = {0};
	struct ofs_oid of[2];

	ofs_rd_copy(&r, of[0].bytes, sizeof(of[0].bytes));
	ofs_rd_copy(&r, of[1].bytes, sizeof(of[1].bytes));
	c->attr_count = ofs_rd_u32(&r);
	c->row_count = ofs_rd_u32(&r);
	if (r.bad || memcmp(magic, CHUNK_MAGIC, CHUNK_MAGIC_BYTES) != 0 || !ofs_oid_equal(&of[0], uuid) ||
			!ofs_oid_equal(&of[1], dir) || c->row_count > BASE_CHUNK_ROWS ||
			c->attr_count > r.left / 6) {
		return -EBADMSG;
	}
	c->attr_at = calloc((size_t)c->attr_count + 1, sizeof(*c->attr_at));
	c->row_at = calloc((size_t)c->row_count + 1, sizeof(*c->row_at));
	if (c->attr_at == NULL || c->row_at == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < c->attr_count && !r.bad; i++) {
		c->attr_at[i] = (uint32_t)(r.p - c->raw);
		attr_skip(&r);
	}
	c->attr_at[c->attr_count] = (uint32_t)(r.p - c->raw);
	for (uint32_t i = 0; i < c->row_count; i++, before = row) {
		c->row_at[i] = (uint32_t)(r.p - c->raw);
		if (!row_parse(&r, &row, c->attr_count) || (i > 0 && name_order(before.name,
				before.name_len, row.name, row.name_len) >= 0)) {
			return -EBADMSG;
		}
	}
	return r.bad || r.left != 0 ? -EBADMSG : 0;
}

int base_chunk_open(const uint8_t *bytes, size_t len, const struct ofs_oid *uuid,
		const struct ofs_oid *dir, struct base_chunk **out)
{
	unsigned long long raw = ZSTD_getFrameContentSize(bytes, len);
	struct base_chunk *c;
	int ret;

	*out = NULL;
	if (raw == ZSTD_CONTENTSIZE_ERROR || raw == ZSTD_CONTENTSIZE_UNKNOWN ||
			raw < CHUNK_HEAD_BYTES || raw > BASE_CHUNK_RAW_BYTES ||
			ZSTD_findFrameCompressedSize(bytes, len) != len) {
		return -EBADMSG;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL || (c->raw = malloc(raw)) == NULL) {
		base_chunk_free(&c);
		return -ENOMEM;
	}
	c->len = ZSTD_decompress(c->raw, raw, bytes, len);
	ret = c->len == raw ? chunk_tables(c, uuid, dir) : -EBADMSG;
	if (ret != 0) {
		base_chunk_free(&c);
	}
	*out = c;
	return ret;
}

unsigned base_chunk_rows(const struct base_chunk *c)
{
	return c->row_count;
}

static void chunk_parts(const struct base_chunk *c, unsigned i, struct row_parts *p)
{
	struct ofs_rd r = ofs_rd_init(c->raw + c->row_at[i], c->len - c->row_at[i]);

	(void)row_parse(&r, p, c->attr_count); /* it was whole when the chunk was opened */
}

/* The row's attributes as a packed snapshot, which the one reader of those takes apart. */
static int row_snapshot(const struct base_chunk *c, const struct row_parts *p, struct snapshot **out)
{
	struct bytes packed = {0};
	int ret = -ENOMEM;

	bytes_put_le(&packed, SNAPSHOT_VERSION, 1);
	bytes_put(&packed, p->snapshot, ROW_SNAPSHOT_BYTES);
	for (unsigned i = 0; i < p->count; i++) {
		struct ofs_rd n = ofs_rd_init(p->numbers + 4 * (size_t)i, 4);
		uint32_t number = ofs_rd_u32(&n);

		bytes_put(&packed, c->raw + c->attr_at[number],
				c->attr_at[number + 1] - c->attr_at[number]);
	}
	if (!packed.bad) {
		ret = snapshot_unpack(packed.p, packed.len, out);
	}
	free(packed.p);
	return ret;
}

int base_chunk_row(const struct base_chunk *c, unsigned i, struct base_row *row)
{
	struct row_parts p;

	memset(row, 0, sizeof(*row));
	chunk_parts(c, i, &p);
	row->name = strndup((const char *)p.name, p.name_len);
	row->etag = strndup((const char *)p.etag, p.etag_len);
	row->version_id = p.version_len > 0 ? strndup((const char *)p.version, p.version_len) : NULL;
	row->size = p.size;
	row->s3_mtime_ns = p.s3_mtime_ns;
	row->oid = p.oid;
	row->wid = p.wid;
	row->plain = (p.flags & ROW_PLAIN) != 0;
	row->data_gen = p.data_gen;
	row->meta_gen = p.meta_gen;
	row->mtime_ns = p.mtime_ns;
	if (row->name == NULL || row->etag == NULL || (p.version_len > 0 && row->version_id == NULL)) {
		return -ENOMEM;
	}
	return p.flags & ROW_FOREIGN ? 0 : row_snapshot(c, &p, &row->snapshot);
}

int base_chunk_find(const struct base_chunk *c, const char *name)
{
	unsigned from = 0, to = c->row_count;

	while (from < to) {
		unsigned at = from + (to - from) / 2;
		struct row_parts p;
		int order;

		chunk_parts(c, at, &p);
		order = name_order((const uint8_t *)name, strlen(name), p.name, p.name_len);
		if (order == 0) {
			return (int)at;
		}
		from = order > 0 ? at + 1 : from;
		to = order < 0 ? at : to;
	}
	return -1;
}
