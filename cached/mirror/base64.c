/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: base64 with the strictness that bytes from the bucket need (OpenSSL's decoder trims blanks
 *       and counts padding as data).
 * Way: object metadata and log segments.
 * Thread: any; pure. Owns: nothing.
 */
#include "base64.h"

#include <limits.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

char *base64_encode(const uint8_t *data, size_t len)
{
	char *text;

	if (len > INT_MAX / 2) {
		return NULL;
	}
	text = malloc(4 * ((len + 2) / 3) + 1);
	if (text != NULL) {
		EVP_EncodeBlock((unsigned char *)text, data, (int)len);
	}
	return text;
}

static bool is_digit(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
			c == '+' || c == '/';
}

uint8_t *base64_decode(const char *text, size_t chars, size_t *len)
{
	size_t pad = 0;
	uint8_t *buf;
	int got;

	if (chars == 0 || chars % 4 != 0 || chars > INT_MAX / 2) {
		return NULL;
	}
	while (pad < 2 && text[chars - 1 - pad] == '=') {
		pad++;
	}
	for (size_t i = 0; i < chars - pad; i++) {
		if (!is_digit(text[i])) {
			return NULL;
		}
	}
	buf = malloc(chars / 4 * 3);
	if (buf == NULL) {
		return NULL;
	}
	got = EVP_DecodeBlock(buf, (const unsigned char *)text, (int)chars);
	if (got < (int)pad) {
		free(buf);
		return NULL;
	}
	*len = (size_t)got - pad;
	/* bits behind the last byte are zero: one text for one value */
	if (pad > 0) {
		unsigned char last[5];

		EVP_EncodeBlock(last, buf + chars / 4 * 3 - 3, (int)(3 - pad));
		if (memcmp(last, text + chars - 4, 4) != 0) {
			free(buf);
			return NULL;
		}
	}
	return buf;
}
