/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the head of a directory base: which chunks there are, and what each holds.
 * Way: base_write.c makes heads, base_read.c reads them.
 * Thread: any; pure functions.
 * Owns: what it returns.
 * Holds: 1. chunks ascend and do not overlap: a name is in one at most;
 *        2. two heads are never equal bytes, so that their ETags tell them apart.
 */
#include "base.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"

#define HEAD_FORMAT "objectfs base 1"
#define HEAD_NAME_BYTES 1024u

struct base_head *base_head_new(TALLOC_CTX *ctx)
{
	return talloc_zero(ctx, struct base_head);
}

static struct base_chunk_ref *head_room(struct base_head *h)
{
	struct base_chunk_ref *grown = talloc_realloc(h, h->chunks, struct base_chunk_ref, h->chunk_count + 1);

	if (grown == NULL) {
		return NULL;
	}
	h->chunks = grown;
	memset(&grown[h->chunk_count], 0, sizeof(*grown));
	return &grown[h->chunk_count];
}

int base_head_add(struct base_head *h, const char *id, const char *first, const char *last,
		unsigned rows, const uint8_t *bytes, size_t len)
{
	struct base_chunk_ref *c = head_room(h);

	if (c == NULL || (c->first = talloc_strdup(h, first)) == NULL ||
			(c->last = talloc_strdup(h, last)) == NULL) {
		return -ENOMEM;
	}
	snprintf(c->id, sizeof(c->id), "%s", id);
	c->rows = rows;
	c->bytes = len;
	SHA256(bytes, len, c->sha256);
	h->rows += rows;
	h->chunk_count++;
	return 0;
}

static json_t *json_hex(const uint8_t *bytes, size_t len)
{
	char hex[65];

	for (size_t i = 0; i < len && i < 32; i++) {
		snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
	}
	return json_string(hex);
}

/* Names are bytes: not every key is text that JSON could hold. */
static json_t *json_name(const char *name)
{
	char *text = base64_encode((const uint8_t *)name, strlen(name));
	json_t *j = text != NULL ? json_string(text) : NULL;

	free(text);
	return j;
}

char *base_head_text(const struct base_head *h, const struct ofs_oid *uuid, const struct ofs_oid *dir,
		const char *node, const char *nonce)
{
	json_t *chunks = json_array(), *doc;
	char *text;

	for (unsigned i = 0; i < h->chunk_count; i++) {
		const struct base_chunk_ref *c = &h->chunks[i];

		json_array_append_new(chunks, json_pack("{s:s, s:o, s:o, s:I, s:I, s:o}", "id", c->id,
				"first", json_name(c->first), "last", json_name(c->last),
				"rows", (json_int_t)c->rows, "bytes", (json_int_t)c->bytes,
				"sha256", json_hex(c->sha256, sizeof(c->sha256))));
	}
	doc = json_pack("{s:s, s:o, s:o, s:s, s:s, s:I, s:o}", "format", HEAD_FORMAT,
			"uuid", json_hex(uuid->bytes, sizeof(uuid->bytes)),
			"directory", json_hex(dir->bytes, sizeof(dir->bytes)), "node", node,
			"nonce", nonce, "rows", (json_int_t)h->rows, "chunks", chunks);
	if (doc == NULL || json_array_size(chunks) != h->chunk_count) {
		json_decref(doc);
		return NULL;
	}
	text = json_dumps(doc, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(doc);
	return text;
}

static bool parse_hex(const char *hex, uint8_t *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	if (hex == NULL || strlen(hex) != 2 * len) {
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		const char *high = strchr(digits, hex[2 * i]), *low = strchr(digits, hex[2 * i + 1]);

		if (high == NULL || low == NULL) {
			return false;
		}
		bytes[i] = (uint8_t)((high - digits) << 4 | (low - digits));
	}
	return true;
}

static char *parse_name(TALLOC_CTX *ctx, const char *text)
{
	size_t len = 0;
	uint8_t *bytes = text != NULL ? base64_decode(text, strlen(text), &len) : NULL;
	char *name = NULL;

	if (bytes != NULL && len > 0 && len <= HEAD_NAME_BYTES && memchr(bytes, 0, len) == NULL) {
		name = talloc_strndup(ctx, (const char *)bytes, len);
	}
	free(bytes);
	return name;
}

static bool parse_chunk(struct base_head *h, const json_t *j)
{
	struct base_chunk_ref *c = head_room(h);
	json_int_t rows = json_integer_value(json_object_get(j, "rows"));
	json_int_t bytes = json_integer_value(json_object_get(j, "bytes"));
	const char *id = json_string_value(json_object_get(j, "id"));
	uint8_t id_bytes[16];

	if (c == NULL || rows <= 0 || rows > BASE_CHUNK_ROWS || bytes <= 0 ||
			bytes > 2 * (json_int_t)BASE_CHUNK_RAW_BYTES ||
			!parse_hex(id, id_bytes, sizeof(id_bytes)) ||
			!parse_hex(json_string_value(json_object_get(j, "sha256")), c->sha256,
					sizeof(c->sha256))) {
		return false;
	}
	snprintf(c->id, sizeof(c->id), "%s", id);
	c->first = parse_name(h, json_string_value(json_object_get(j, "first")));
	c->last = parse_name(h, json_string_value(json_object_get(j, "last")));
	c->rows = (unsigned)rows;
	c->bytes = (size_t)bytes;
	if (c->first == NULL || c->last == NULL || strcmp(c->first, c->last) > 0 ||
			(h->chunk_count > 0 && strcmp(c[-1].last, c->first) >= 0)) {
		return false;
	}
	h->rows += c->rows;
	h->chunk_count++;
	return true;
}

static bool is_oid(const json_t *doc, const char *member, const struct ofs_oid *oid)
{
	const char *hex = json_string_value(json_object_get(doc, member));
	struct ofs_oid said;

	return hex != NULL && ofs_oid_parse(hex, &said) && ofs_oid_equal(&said, oid);
}

struct base_head *base_head_parse(TALLOC_CTX *ctx, const uint8_t *text, size_t len,
		const struct ofs_oid *uuid, const struct ofs_oid *dir)
{
	json_t *doc = text != NULL && len <= BASE_HEAD_BYTES
			? json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
	const char *format = json_string_value(json_object_get(doc, "format"));
	const json_t *chunks = json_object_get(doc, "chunks");
	struct base_head *h = base_head_new(ctx);
	bool right = h != NULL && format != NULL && strcmp(format, HEAD_FORMAT) == 0 &&
			is_oid(doc, "uuid", uuid) && is_oid(doc, "directory", dir) &&
			json_is_array(chunks) && json_array_size(chunks) <= BASE_CHUNKS_MAX;

	for (size_t i = 0; right && i < json_array_size(chunks); i++) {
		right = parse_chunk(h, json_array_get(chunks, i));
	}
	if (!right) {
		TALLOC_FREE(h);
	}
	json_decref(doc);
	return h;
}

const struct base_chunk_ref *base_head_find(const struct base_head *h, const char *name)
{
	unsigned from = 0, to = h->chunk_count;

	while (from < to) {
		unsigned at = from + (to - from) / 2;
		const struct base_chunk_ref *c = &h->chunks[at];

		if (strcmp(name, c->first) < 0) {
			to = at;
		} else if (strcmp(name, c->last) > 0) {
			from = at + 1;
		} else {
			return c;
		}
	}
	return NULL;
}

bool base_chunk_is(const struct base_chunk_ref *ref, const uint8_t *bytes, size_t len)
{
	uint8_t sum[SHA256_DIGEST_LENGTH];

	if (bytes == NULL || len != ref->bytes) {
		return false;
	}
	SHA256(bytes, len, sum);
	return memcmp(sum, ref->sha256, sizeof(sum)) == 0;
}

char *base_key(TALLOC_CTX *ctx, const char *prefix, const struct ofs_oid *dir, const char *chunk)
{
	char hex[OFS_OID_HEX_BYTES];

	ofs_oid_hex(dir, hex);
	return talloc_asprintf(ctx, "%s" BASE_PLACE "%s/%s", prefix, hex, chunk != NULL ? chunk : "head");
}
