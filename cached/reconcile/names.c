/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: local names for key components and back.
 * Way: listings (raw to local), uploads of new names (local to raw).
 * Thread: any; pure functions.
 * Owns: nothing.
 * Holds: 1. name_to_raw(name_from_raw(x)) == x for every x but those that end in a hash.
 *        2. name_from_raw(name_to_raw(y)) == y for every name y a client can give that does not end
 *           as a file beside a directory does: only what name_from_raw would have written is taken
 *           for an escape, so a user's own "%~x" stays what it is.
 *        3. A local name has no character that SMB refuses: a client could see it and not open it.
 */
#include "names.h"

#include <openssl/sha.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "shared/ring.h"

#define ESCAPE "%~"
#define ESCAPE_BYTES 2u
#define ESCAPE_EMPTY "%~%"
#define ESCAPE_BESIDE "%file"
#define ESCAPE_BESIDE_BYTES 5u
#define HASH_BYTES 16u
#define HASH_TAIL_BYTES (ESCAPE_BYTES + 2 * HASH_BYTES)

/* Bytes of the valid UTF-8 sequence at s (RFC 3629), 0: invalid. */
static size_t utf8_len(const uint8_t *s)
{
	uint32_t c;

	if (s[0] < 0x80) {
		return 1;
	}
	if (s[0] < 0xc2 || s[0] > 0xf4 || (s[1] & 0xc0) != 0x80) {
		return 0;
	}
	if (s[0] < 0xe0) {
		return 2;
	}
	if ((s[2] & 0xc0) != 0x80) {
		return 0;
	}
	c = ((uint32_t)s[0] & 0x0f) << 12 | ((uint32_t)s[1] & 0x3f) << 6 | (s[2] & 0x3f);
	if (s[0] < 0xf0) {
		return c >= 0x800 && (c < 0xd800 || c > 0xdfff) ? 3 : 0;
	}
	if ((s[3] & 0xc0) != 0x80) {
		return 0;
	}
	c = ((uint32_t)s[0] & 0x07) << 18 | ((uint32_t)s[1] & 0x3f) << 12 |
			((uint32_t)s[2] & 0x3f) << 6 | (s[3] & 0x3f);
	return c >= 0x10000 && c <= 0x10ffff ? 4 : 0;
}

static bool is_dots(const char *raw)
{
	return strcmp(raw, ".") == 0 || strcmp(raw, "..") == 0;
}

/* [MS-FSCC] 2.1.5: not in a file name; the slash too. A dot or space at the end is the client's. */
static bool is_refused(uint8_t c)
{
	return c < 0x20 || strchr("\\/:*?\"<>|", c) != NULL;
}

/* A local name as it stands (short enough, UTF-8, nothing that SMB refuses)? */
static bool is_legal(const char *raw)
{
	const uint8_t *s = (const uint8_t *)raw;

	if (raw[0] == '\0' || is_dots(raw) || strlen(raw) > OFS_NAME_MAX_BYTES) {
		return false;
	}
	while (*s != '\0') {
		size_t len = is_refused(*s) ? 0 : utf8_len(s);

		if (len == 0) {
			return false;
		}
		s += len;
	}
	return true;
}

/* "%~" + raw with %XX for what cannot stand. */
static char *escape(TALLOC_CTX *ctx, const char *raw)
{
	const uint8_t *s = (const uint8_t *)raw;
	bool dots = is_dots(raw);
	char *out, *p;

	if (raw[0] == '\0') {
		return talloc_strdup(ctx, ESCAPE_EMPTY);
	}
	out = talloc_array(ctx, char, ESCAPE_BYTES + 3 * strlen(raw) + 1);
	if (out == NULL) {
		return NULL;
	}
	memcpy(out, ESCAPE, ESCAPE_BYTES);
	p = out + ESCAPE_BYTES;
	while (*s != '\0') {
		size_t len = dots || is_refused(*s) || *s == '%' ? 0 : utf8_len(s);

		if (len == 0) {
			p += sprintf(p, "%%%02X", *s);
			s++;
			continue;
		}
		memcpy(p, s, len);
		p += len;
		s += len;
	}
	*p = '\0';
	return out;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Undo escape(); NULL: not what it would have written (or no memory). */
static char *unescape(TALLOC_CTX *ctx, const char *name)
{
	const char *s = name + ESCAPE_BYTES;
	char *raw, *again, *p;
	bool same;

	if (strncmp(name, ESCAPE, ESCAPE_BYTES) != 0) {
		return NULL;
	}
	if (strcmp(name, ESCAPE_EMPTY) == 0) {
		return talloc_strdup(ctx, "");
	}
	raw = talloc_array(ctx, char, strlen(name) + 1);
	if (raw == NULL) {
		return NULL;
	}
	for (p = raw; *s != '\0'; p++) {
		int high, low;

		if (*s != '%') {
			*p = *s++;
			continue;
		}
		high = hex_digit(s[1]);
		low = high >= 0 ? hex_digit(s[2]) : -1;
		if (low < 0 || (high == 0 && low == 0)) {
			talloc_free(raw);
			return NULL;
		}
		*p = (char)(high << 4 | low);
		s += 3;
	}
	*p = '\0';
	again = escape(raw, raw);
	same = again != NULL && strcmp(again, name) == 0;
	talloc_free(again);
	if (!same) {
		talloc_free(raw);
		return NULL;
	}
	return raw;
}

/* Does `name` end in the mark of a file beside a directory? Its escape without the mark. */
static char *beside_strip(TALLOC_CTX *ctx, const char *name)
{
	size_t len = strlen(name);

	if (len <= ESCAPE_BYTES + ESCAPE_BESIDE_BYTES ||
			strcmp(name + len - ESCAPE_BESIDE_BYTES, ESCAPE_BESIDE) != 0) {
		return NULL;
	}
	return talloc_strndup(ctx, name, len - ESCAPE_BESIDE_BYTES);
}

/* Raw form if `name` is one of our escapes, else NULL. */
static char *escape_meaning(TALLOC_CTX *ctx, const char *name, bool is_dir)
{
	char *raw = unescape(ctx, name);
	char *inner;

	if (raw == NULL) {
		inner = is_dir ? NULL : beside_strip(ctx, name);
		if (inner != NULL) {
			raw = unescape(ctx, inner);
			talloc_free(inner);
		}
		return raw;
	}
	/* "%~x" alone is nobody's escape: x would have stood as it is, unless it looks like one. Ends:
	 * each level is shorter. */
	if (is_legal(raw)) {
		inner = escape_meaning(ctx, raw, false);
		if (inner == NULL) {
			talloc_free(raw);
			return NULL;
		}
		talloc_free(inner);
	}
	return raw;
}

/* Too long: as much as fits, then "%~" and a hash of the whole. */
static char *hashed(TALLOC_CTX *ctx, const char *escaped, const char *raw, const char *tail)
{
	size_t keep = OFS_NAME_MAX_BYTES - HASH_TAIL_BYTES - strlen(tail);
	uint8_t sum[SHA256_DIGEST_LENGTH];
	char hex[2 * HASH_BYTES + 1];
	size_t at = 0;

	SHA256((const uint8_t *)raw, strlen(raw), sum);
	for (size_t i = 0; i < HASH_BYTES; i++) {
		sprintf(hex + 2 * i, "%02x", sum[i]);
	}
	while (escaped[at] != '\0') {
		size_t len = utf8_len((const uint8_t *)escaped + at);

		if (len == 0 || at + len > keep) {
			break;
		}
		at += len;
	}
	return talloc_asprintf(ctx, "%.*s%s%s%s", (int)at, escaped, ESCAPE, hex, tail);
}

static char *escape_fitting(TALLOC_CTX *ctx, const char *raw, const char *tail)
{
	char *escaped = escape(ctx, raw);
	char *out;

	if (escaped == NULL) {
		return NULL;
	}
	if (strlen(escaped) + strlen(tail) > OFS_NAME_MAX_BYTES) {
		out = hashed(ctx, escaped, raw, tail);
	} else {
		out = talloc_asprintf(ctx, "%s%s", escaped, tail);
	}
	talloc_free(escaped);
	return out;
}

char *name_from_raw(TALLOC_CTX *ctx, const char *raw)
{
	if (is_legal(raw)) {
		char *meaning = escape_meaning(ctx, raw, false);

		if (meaning == NULL) {
			return talloc_strdup(ctx, raw);
		}
		talloc_free(meaning);
	}
	return escape_fitting(ctx, raw, "");
}

char *name_from_raw_beside_dir(TALLOC_CTX *ctx, const char *raw)
{
	return escape_fitting(ctx, raw, ESCAPE_BESIDE);
}

bool name_is_beside_dir(const char *name, const char *raw)
{
	char *beside = name_from_raw_beside_dir(NULL, raw);
	bool same = beside != NULL && strcmp(beside, name) == 0;

	talloc_free(beside);
	return same;
}

char *name_to_raw(TALLOC_CTX *ctx, const char *name, bool is_dir)
{
	char *raw = escape_meaning(ctx, name, is_dir);

	return raw != NULL ? raw : talloc_strdup(ctx, name);
}

bool name_is_reserved(const struct ofs_oid *parent, const char *name)
{
	static const struct ofs_oid root = { { 'o', 'b', 'j', 'e', 'c', 't', 'f', 's', '-', 'r',
			'o', 'o', 't', 0, 0, 1 } };

	return ofs_oid_equal(parent, &root) && strcmp(name, OFS_OWN_NAME) == 0;
}
