/* SPDX-License-Identifier: GPL-3.0-or-later */
/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. Any thread. */
#ifndef OFS_BASE_UTF8_H
#define OFS_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the sound sequence at s (NUL-terminated text), 1 to 4; 0: it is none. Table 3-7 of the Unicode
 * standard. */
static inline size_t utf8_sequence(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	unsigned char low = 0x80, high = 0xbf;
	size_t more = *s < 0x80 ? 0 : *s >= 0xf0 ? 3 : *s >= 0xe0 ? 2 : 1;

	if ((*s >= 0x80 && *s < 0xc2) || *s > 0xf4) {
		return 0;
	}
	if (*s == 0xe0) {
		low = 0xa0;
	} else if (*s == 0xed) {
		high = 0x9f;
	} else if (*s == 0xf0) {
		low = 0x90;
	} else if (*s == 0xf4) {
		high = 0x8f;
	}
	for (size_t i = 1; i <= more; i++) {
		if (s[i] < low || s[i] > high) {
			return 0;
		}
		low = 0x80;
		high = 0xbf;
	}
	return more + 1;
}

static inline bool utf8_is_sound(const char *text)
{
	while (*text != '\0') {
		size_t n = utf8_sequence(text);

		if (n == 0) {
			return false;
		}
		text += n;
	}
	return true;
}

#endif
