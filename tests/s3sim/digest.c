/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: MD5, SHA and the CRCs of what passes; written apart from the product's, so that neither covers the
 * other's mistakes.
 *
 * Way:    intake.c for each body; multipart.c joins CRCs of parts.
 * Thread: one.
 * Owns:   the digest's context, until digest_fini.
 */
#include "digest.h"
#include <string.h>
#include <strings.h>

const char *const digest_names[DIGEST_KINDS] = {
	[DIGEST_NONE] = "",
	[DIGEST_CRC32] = "crc32",
	[DIGEST_CRC32C] = "crc32c",
	[DIGEST_CRC64NVME] = "crc64nvme",
	[DIGEST_SHA1] = "sha1",
	[DIGEST_SHA256] = "sha256",
	[DIGEST_MD5] = "md5",
};

/* Reflected polynomials: of IEEE 802.3, of RFC 3720, and of the NVM Command Set Specification. */
static struct crc {
	unsigned bits;
	uint64_t polynomial, table[8][256];
	bool made;
} crcs[] = {
	[DIGEST_CRC32] = { .bits = 32, .polynomial = 0xedb88320u },
	[DIGEST_CRC32C] = { .bits = 32, .polynomial = 0x82f63b78u },
	[DIGEST_CRC64NVME] = { .bits = 64, .polynomial = 0x9a6c9329ac4bc9b5u },
};

static uint64_t ones(const struct crc *c)
{
	return UINT64_MAX >> (64 - c->bits);
}

static struct crc *crc_of(enum digest_kind kind)
{
	struct crc *c = &crcs[kind];

	if (c->made) {
		return c;
	}
	for (unsigned n = 0; n < 256; n++) {
		uint64_t v = n;

		for (unsigned bit = 0; bit < 8; bit++) {
			v = (v & 1) != 0 ? v >> 1 ^ c->polynomial : v >> 1;
		}
		c->table[0][n] = v;
	}
	for (unsigned k = 1; k < 8; k++) {
		for (unsigned n = 0; n < 256; n++) {
			uint64_t v = c->table[k - 1][n];

			c->table[k][n] = v >> 8 ^ c->table[0][v & 0xff];
		}
	}
	c->made = true;
	return c;
}

static uint64_t crc_add(struct crc *c, uint64_t value, const uint8_t *p, size_t len)
{
	uint64_t v = value ^ ones(c), word;

	for (; len >= 8; p += 8, len -= 8) {
		memcpy(&word, p, 8);
		v ^= word;
		v = c->table[7][v & 0xff] ^ c->table[6][v >> 8 & 0xff] ^ c->table[5][v >> 16 & 0xff] ^
		    c->table[4][v >> 24 & 0xff] ^ c->table[3][v >> 32 & 0xff] ^ c->table[2][v >> 40 & 0xff] ^
		    c->table[1][v >> 48 & 0xff] ^ c->table[0][v >> 56];
	}
	for (; len > 0; p++, len--) {
		v = v >> 8 ^ c->table[0][(v ^ *p) & 0xff];
	}
	return v ^ ones(c);
}

/* Of two polynomials, modulo the CRC's; the highest bit is x^0. */
static uint64_t multiply(const struct crc *c, uint64_t a, uint64_t b)
{
	uint64_t product = 0;

	for (uint64_t bit = 1ull << (c->bits - 1); bit != 0; bit >>= 1) {
		product ^= (a & bit) != 0 ? b : 0;
		b = (b & 1) != 0 ? b >> 1 ^ c->polynomial : b >> 1;
	}
	return product;
}

static uint64_t power_of_x(const struct crc *c, uint64_t n)
{
	uint64_t result = 1ull << (c->bits - 1), square = result >> 1;

	for (; n != 0; n >>= 1) {
		result = (n & 1) != 0 ? multiply(c, result, square) : result;
		square = multiply(c, square, square);
	}
	return result;
}

static bool crc_of_text(const struct crc *c, const char *text, uint64_t *value)
{
	uint8_t bytes[DIGEST_TEXT_BYTES];
	size_t len = strlen(text);

	if (len != (c->bits + 23) / 24 * 4 || EVP_DecodeBlock(bytes, (const uint8_t *)text, (int)len) < 0) {
		return false;
	}
	*value = 0;
	for (unsigned i = 0; i < c->bits / 8; i++) {
		*value = *value << 8 | bytes[i];
	}
	return true;
}

static size_t crc_bytes(const struct crc *c, uint64_t value, uint8_t *out)
{
	for (unsigned i = 0; i < c->bits / 8; i++) {
		out[i] = (uint8_t)(value >> (c->bits - 8 - 8 * i));
	}
	return c->bits / 8;
}

bool digest_join(enum digest_kind kind, const char *a, const char *b, int64_t b_bytes, char out[DIGEST_TEXT_BYTES])
{
	struct crc *c = crc_of(kind);
	uint64_t first, second;
	uint8_t bytes[8];

	if (!crc_of_text(c, a, &first) || !crc_of_text(c, b, &second)) {
		return false;
	}
	first = multiply(c, first, power_of_x(c, (uint64_t)b_bytes * 8)) ^ second;
	digest_base64(bytes, crc_bytes(c, first, bytes), out);
	return true;
}

enum digest_kind digest_of_name(const char *name)
{
	for (unsigned i = DIGEST_CRC32; i <= DIGEST_SHA256; i++) {
		if (strcasecmp(name, digest_names[i]) == 0) {
			return i;
		}
	}
	return DIGEST_NONE;
}

bool digest_is_crc(enum digest_kind kind)
{
	return kind >= DIGEST_CRC32 && kind <= DIGEST_CRC64NVME;
}

bool digest_begin(struct digest *d, enum digest_kind kind)
{
	static EVP_MD *known[DIGEST_KINDS];

	d->kind = kind;
	d->crc = 0;
	if (kind == DIGEST_NONE || digest_is_crc(kind)) {
		return true;
	}
	if (known[kind] == NULL) {
		known[kind] = EVP_MD_fetch(NULL, digest_names[kind], NULL);
	}
	if (d->md == NULL) {
		d->md = EVP_MD_CTX_new();
	}
	if (d->md == NULL || EVP_DigestInit_ex(d->md, known[kind], NULL) != 1) {
		d->kind = DIGEST_NONE;
		return false;
	}
	return true;
}

void digest_add(struct digest *d, const void *data, size_t len)
{
	if (digest_is_crc(d->kind)) {
		d->crc = crc_add(crc_of(d->kind), d->crc, data, len);
	} else if (d->kind != DIGEST_NONE) {
		EVP_DigestUpdate(d->md, data, len);
	}
}

size_t digest_end(struct digest *d, uint8_t out[EVP_MAX_MD_SIZE])
{
	unsigned len = 0;

	if (digest_is_crc(d->kind)) {
		return crc_bytes(crc_of(d->kind), d->crc, out);
	}
	if (d->kind != DIGEST_NONE) {
		EVP_DigestFinal_ex(d->md, out, &len);
	}
	return len;
}

void digest_base64(const uint8_t *value, size_t len, char out[DIGEST_TEXT_BYTES])
{
	EVP_EncodeBlock((unsigned char *)out, value, (int)len);
}

void digest_hex(const uint8_t *value, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[value[i] >> 4];
		out[2 * i + 1] = digits[value[i] & 15];
	}
	out[2 * len] = '\0';
}

void digest_fini(struct digest *d)
{
	EVP_MD_CTX_free(d->md);
	d->md = NULL;
	d->kind = DIGEST_NONE;
}
