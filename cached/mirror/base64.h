/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Base64 (RFC 4648 section 4), padded and strict. Any thread. */
#ifndef OFS_MIRROR_BASE64_H
#define OFS_MIRROR_BASE64_H

#include <stddef.h>
#include <stdint.h>

/* malloc, NUL-terminated; NULL: out of memory. */
char *base64_encode(const uint8_t *data, size_t len);
/* malloc; NULL: not base64, empty, or out of memory. text need not be NUL-terminated. */
uint8_t *base64_decode(const char *text, size_t chars, size_t *len);

#endif
