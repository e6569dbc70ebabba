/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the bytes of objects and parts, in memory.
 *
 *   body -> piece -> blob (counted)        A copy, and an object of parts, is another list of pieces.
 *
 * Way:    intake.c appends what comes, copy.c and multipart.c share, server.c reads.
 * Thread: one.
 * Owns:   blobs; each ends with the last piece that is of it.
 * Holds:  1. Only the body that made a blob appends to it, and only until it is shared or given to an object.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "body.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct blob {
	unsigned refs;
	int64_t size;
	uint8_t *memory;
	size_t room;
};

static void blob_put(struct blob *b)
{
	if (--b->refs > 0) {
		return;
	}
	free(b->memory);
	free(b);
}

static int body_free(struct body *b)
{
	for (unsigned i = 0; i < b->count; i++) {
		blob_put(b->pieces[i].blob);
	}
	return 0;
}

struct body *body_new(TALLOC_CTX *ctx)
{
	struct body *b = talloc_zero(ctx, struct body);

	if (b != NULL) {
		talloc_set_destructor(b, body_free);
	}
	return b;
}

static struct piece *piece_add(struct body *b)
{
	struct piece *grown = b->pieces;

	if (b->count == 0 || (b->count & (b->count - 1)) == 0) {
		grown = talloc_realloc(b, b->pieces, struct piece, b->count == 0 ? 1 : 2 * b->count);
	}
	if (grown == NULL) {
		return NULL;
	}
	b->pieces = grown;
	return &b->pieces[b->count];
}

static int blob_append(struct blob *b, const void *data, size_t len)
{
	size_t used = (size_t)b->size, room = b->room + b->room / 2;
	uint8_t *grown;

	if (b->room - used < len) {
		room = room > used + len ? room : used + len;
		grown = realloc(b->memory, room);
		if (grown == NULL) {
			return -ENOMEM;
		}
		b->memory = grown;
		b->room = room;
	}
	memcpy(b->memory + used, data, len);
	b->size += (int64_t)len;
	return 0;
}

int body_append(struct body *b, const void *data, size_t len)
{
	struct piece *p;
	int ret;

	if (len == 0) {
		return 0;
	}
	if (b->count == 0) {
		struct blob *blob = calloc(1, sizeof(*blob));

		p = piece_add(b);
		if (p == NULL || blob == NULL) {
			free(blob);
			return -ENOMEM;
		}
		blob->refs = 1;
		*p = (struct piece){ .blob = blob };
		b->count++;
	}
	p = &b->pieces[b->count - 1];
	ret = blob_append(p->blob, data, len);
	if (ret == 0) {
		p->length += (int64_t)len;
		b->size += (int64_t)len;
	}
	return ret;
}

int body_share(struct body *b, const struct body *from, int64_t offset, int64_t length)
{
	for (unsigned i = 0; i < from->count && length > 0; i++) {
		const struct piece *source = &from->pieces[i];
		int64_t skip = offset - source->begin, n = source->length - skip;
		struct piece *p;

		if (skip >= source->length) {
			continue;
		}
		n = n < length ? n : length;
		p = piece_add(b);
		if (p == NULL) {
			return -ENOMEM;
		}
		*p = (struct piece){ .blob = source->blob, .offset = source->offset + skip, .length = n,
			.begin = b->size };
		source->blob->refs++;
		b->count++;
		b->size += n;
		offset += n;
		length -= n;
	}
	return 0;
}

static const struct piece *piece_at(const struct body *b, int64_t offset)
{
	unsigned low = 0, high = b->count;

	while (high - low > 1) {
		unsigned middle = low + (high - low) / 2;

		if (b->pieces[middle].begin <= offset) {
			low = middle;
		} else {
			high = middle;
		}
	}
	return &b->pieces[low];
}

size_t body_read(const struct body *b, int64_t offset, void *to, size_t len)
{
	size_t done = 0;

	while (done < len && offset < b->size) {
		const struct piece *p = piece_at(b, offset);
		int64_t skip = offset - p->begin, left = p->length - skip;
		size_t n = left < (int64_t)(len - done) ? (size_t)left : len - done;

		memcpy((uint8_t *)to + done, p->blob->memory + p->offset + skip, n);
		done += n;
		offset += (int64_t)n;
	}
	return done;
}

char *body_text(TALLOC_CTX *ctx, const struct body *b, size_t max)
{
	char *text = b->size > (int64_t)max ? NULL : talloc_array(ctx, char, (size_t)b->size + 1);

	if (text == NULL || body_read(b, 0, text, (size_t)b->size) != (size_t)b->size) {
		talloc_free(text);
		return NULL;
	}
	text[b->size] = '\0';
	return text;
}
