/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Keys to paths and back, so that every key is one file and no key leaves the store.
 *
 * Way:    from ops.c and list.c.
 * Thread: any; pure.
 * Holds:  1. One to one: "%XX" stands for '%', control bytes, and the dots of "." and ".."; "%e"
 *            for an empty component. The last component ends in "%o" (an object), so a key may be
 *            both an object and the beginning of others. A component longer than a file name goes
 *            through directories ending in "%+". Neither suffix can end an escaped name.
 *         2. No component of a path is ".", ".." or longer than 255 bytes.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "dir.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CHUNK_BYTES 240u

struct out {
	char *p;
	size_t len;
	bool overflow;
};

static void put(struct out *o, const char *text, size_t len)
{
	if (o->len + len >= DIR_PATH_MAX) {
		o->overflow = true;
		return;
	}
	memcpy(o->p + o->len, text, len);
	o->len += len;
	o->p[o->len] = '\0';
}

static void put_component(struct out *o, const char *c, size_t len)
{
	bool dots = (len == 1 && c[0] == '.') || (len == 2 && c[0] == '.' && c[1] == '.');
	size_t used = 0;

	if (len == 0) {
		put(o, "%e", 2);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		uint8_t b = (uint8_t)c[i];
		char esc[4];
		size_t n = 1;

		if (b < 0x20 || b == 0x7f || b == '%' || (dots && b == '.')) {
			snprintf(esc, sizeof(esc), "%%%02X", b);
			n = 3;
		} else {
			esc[0] = c[i];
		}
		if (used + n > CHUNK_BYTES) {
			put(o, DIR_SUFFIX_CHUNK "/", 3);
			used = 0;
			if (b == '.') { /* what is left might be ".." and no more */
				memcpy(esc, "%2E", 4);
				n = 3;
			}
		}
		put(o, esc, n);
		used += n;
	}
}

static int path_of(const char *top, const char *key, bool object, char out[DIR_PATH_MAX])
{
	struct out o = { .p = out };
	const char *slash;

	put(&o, top, strlen(top));
	while ((slash = strchr(key, '/')) != NULL) {
		put(&o, "/", 1);
		put_component(&o, key, (size_t)(slash - key));
		key = slash + 1;
	}
	if (object) {
		put(&o, "/", 1);
		put_component(&o, key, strlen(key));
		put(&o, DIR_SUFFIX_OBJECT, 2);
	}
	return o.overflow ? -ENAMETOOLONG : 0;
}

int dir_path_of_object(const char *key, char out[DIR_PATH_MAX])
{
	return path_of(DIR_OBJECTS, key, true, out);
}

int dir_path_of_versions(const char *key, char out[DIR_PATH_MAX])
{
	return path_of(DIR_VERSIONS, key, true, out);
}

int dir_path_of_prefix(const char *prefix, char out[DIR_PATH_MAX])
{
	return path_of(DIR_OBJECTS, prefix, false, out);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'A' && c <= 'F') {
		return c - 'A' + 10;
	}
	return -1;
}

int dir_name_decode(const char *name, size_t len, char *out)
{
	size_t n = 0;

	if (len == 2 && memcmp(name, "%e", 2) == 0) {
		out[0] = '\0';
		return 0;
	}
	for (size_t i = 0; i < len; i++) {
		int high, low;

		if (name[i] != '%') {
			out[n++] = name[i];
			continue;
		}
		if (i + 2 >= len) {
			return -EINVAL;
		}
		high = hex_digit(name[i + 1]);
		low = hex_digit(name[i + 2]);
		if (high < 0 || low < 0 || (high == 0 && low == 0)) {
			return -EINVAL;
		}
		out[n++] = (char)(high * 16 + low);
		i += 2;
	}
	out[n] = '\0';
	return n == 0 ? -EINVAL : 0;
}
