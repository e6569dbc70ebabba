/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the checksums that S3 keeps with an object.
 * Way: both stores, while bytes pass.
 * Thread: any; a sum is its holder's alone.
 * Owns: the digest of a struct sum, until sum_fini.
 */
#include "sum.h"
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include "shared/record.h"

/* CRC-64/NVME (NVM Express NVM Command Set Specification 1.0, 5.2.1.3.4; check value of "123456789":
 * 0xae8b14860a799888), reflected; eight bytes a step, a table for each. */
#define CRC64_POLYNOMIAL 0x9a6c9329ac4bc9b5u

static uint64_t table[8][256];

static void table_make(void)
{
	for (unsigned n = 0; n < 256; n++) {
		uint64_t c = n;

		for (int bit = 0; bit < 8; bit++) {
			c = (c >> 1) ^ (c & 1 ? CRC64_POLYNOMIAL : 0);
		}
		table[0][n] = c;
	}
	for (unsigned n = 0; n < 256; n++) {
		for (unsigned k = 1; k < 8; k++) {
			table[k][n] = (table[k - 1][n] >> 8) ^ table[0][table[k - 1][n] & 0xff];
		}
	}
}

static uint64_t crc64(uint64_t crc, const uint8_t *p, size_t len)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	uint64_t c = ~crc;

	pthread_once(&once, table_make);
	for (; len >= 8; p += 8, len -= 8) {
		uint64_t next = 0;

		for (unsigned k = 0; k < 8; k++) {
			next ^= table[7 - k][(uint8_t)(c >> (8 * k)) ^ p[k]];
		}
		c = next;
	}
	for (; len > 0; len--) {
		c = (c >> 8) ^ table[0][(uint8_t)c ^ *p++];
	}
	return ~c;
}

static const char *const names[] = {
	[OBJ_SUM_NONE] = "",
	[OBJ_SUM_AUTO] = "crc64nvme",
	[OBJ_SUM_CRC64NVME] = "crc64nvme",
	[OBJ_SUM_CRC32C] = "crc32c",
	[OBJ_SUM_SHA256] = "sha256",
};

const char *sum_name(enum obj_sum kind)
{
	return names[kind];
}

enum obj_sum sum_of_name(const char *name)
{
	for (unsigned i = OBJ_SUM_CRC64NVME; i <= OBJ_SUM_SHA256; i++) {
		if (strcasecmp(name, names[i]) == 0) {
			return i;
		}
	}
	return OBJ_SUM_NONE;
}

bool sum_begin(struct sum *s, enum obj_sum kind)
{
	s->kind = kind;
	s->crc = 0;
	if (kind != OBJ_SUM_SHA256) {
		return true;
	}
	if (s->sha256 == NULL) {
		s->sha256 = EVP_MD_CTX_new();
	}
	if (s->sha256 == NULL || EVP_DigestInit_ex(s->sha256, EVP_sha256(), NULL) != 1) {
		s->kind = OBJ_SUM_NONE;
		return false;
	}
	return true;
}

void sum_add(struct sum *s, const void *data, size_t len)
{
	switch (s->kind) {
	case OBJ_SUM_NONE:
		break;
	case OBJ_SUM_CRC32C:
		s->crc = ofs_crc32c((uint32_t)s->crc, data, len);
		break;
	case OBJ_SUM_SHA256:
		EVP_DigestUpdate(s->sha256, data, len);
		break;
	default:
		s->crc = crc64(s->crc, data, len);
		break;
	}
}

void sum_text(struct sum *s, char out[OBJ_SUM_TEXT_BYTES])
{
	uint8_t bytes[EVP_MAX_MD_SIZE];
	int len = s->kind == OBJ_SUM_CRC32C ? 4 : s->kind == OBJ_SUM_SHA256 ? 32 : 8;

	if (s->kind == OBJ_SUM_SHA256) {
		EVP_DigestFinal_ex(s->sha256, bytes, NULL);
	}
	for (int i = 0; i < len && s->kind != OBJ_SUM_SHA256; i++) {
		bytes[i] = (uint8_t)(s->crc >> (8 * (len - 1 - i)));
	}
	EVP_EncodeBlock((unsigned char *)out, bytes, len);
}

void sum_fini(struct sum *s)
{
	EVP_MD_CTX_free(s->sha256);
	memset(s, 0, sizeof(*s));
}
