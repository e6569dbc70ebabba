/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the memory of the index's rows: few bytes a row, and no allocation that could be spared.
 * Way: index.c and index_open.c make, change and free rows; nobody else.
 * Thread: core.
 * Owns: the slabs (malloc; a million rows would have 100 MB of talloc's heads), each row's text.
 * Holds: 1. Rows have numbers and never move; number 0 is none. Links between rows are numbers: half
 *           of a pointer.
 *        2. All that a row has of no fixed size, and its SHA-256, is one piece: sum, name, raw name if
 *           it is another, ETag, version. A change of one makes the piece anew: no pointer to a
 *           row's string outlives a change of that row.
 *        3. Of a freed row number (0) and hash_oid (the next free one) can be read, nothing else.
 */
#include "index_priv.h"

#include <sanitizer/asan_interface.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "../base/memory.h"

#define ROW_KEPT_BYTES offsetof(struct row, oid)

void *index_alloc(void *pointer)
{
	if (pointer == NULL) {
		memory_ends(0);
	}
	return pointer;
}

/* --- rows --- */

static uint32_t row_number_new(struct index *ix)
{
	uint32_t number = ix->rows_free, slab;

	if (number != 0) {
		struct row *r = index_row_at(ix, number);

		ix->rows_free = r->hash_oid;
		ASAN_UNPOISON_MEMORY_REGION(r, sizeof(*r));
		return number;
	}
	number = ix->rows_used + 1;
	slab = number / INDEX_SLAB_ROWS;
	if (slab == ix->slab_count) {
		ix->slabs = index_alloc(realloc(ix->slabs, (slab + 1) * sizeof(*ix->slabs)));
		ix->slabs[slab] = index_alloc(calloc(INDEX_SLAB_ROWS, sizeof(struct row)));
		ix->slab_count++;
	}
	ix->rows_used = number;
	return number;
}

struct row *index_row_new(struct index *ix)
{
	uint32_t number = row_number_new(ix);
	struct row *r = index_row_at(ix, number);

	memset(r, 0, sizeof(*r));
	r->number = number;
	ix->count++;
	return r;
}

void index_row_free(struct index *ix, struct row *r)
{
	uint32_t number = r->number;

	free(r->text);
	memset(r, 0, sizeof(*r));
	r->hash_oid = ix->rows_free;
	ix->rows_free = number;
	ASAN_POISON_MEMORY_REGION((char *)r + ROW_KEPT_BYTES, sizeof(*r) - ROW_KEPT_BYTES);
}

void index_rows_free(struct index *ix)
{
	for (uint32_t n = 1; n <= ix->rows_used; n++) {
		struct row *r = index_row_at(ix, n);

		if (r->number != 0) {
			free(r->text);
		}
	}
	for (uint32_t i = 0; i < ix->slab_count; i++) {
		ASAN_UNPOISON_MEMORY_REGION(ix->slabs[i], INDEX_SLAB_ROWS * sizeof(struct row));
		free(ix->slabs[i]);
	}
	free(ix->slabs);
	ix->slabs = NULL;
	ix->slab_count = 0;
	ix->rows_used = 0;
	ix->rows_free = 0;
}

/* --- their text --- */

static size_t text_bytes(const char *s)
{
	return s != NULL ? strlen(s) + 1 : 0;
}

static const char *text_put(char **at, const char *s)
{
	size_t bytes = text_bytes(s);
	char *copy = *at;

	if (s == NULL) {
		return NULL;
	}
	memcpy(copy, s, bytes);
	*at += bytes;
	return copy;
}

struct row_text index_row_text(const struct row *r)
{
	return (struct row_text){ .name = r->name, .s3_name = r->s3_name, .etag = r->etag,
		.version_id = r->version_id, .sha256 = row_sha256(r) };
}

void index_row_set_text(struct row *r, const struct row_text *t)
{
	bool one_name = t->name != NULL && t->s3_name != NULL && strcmp(t->name, t->s3_name) == 0;
	size_t bytes = (t->sha256 != NULL ? ROW_SHA256_BYTES : 0) + text_bytes(t->name) +
			(one_name ? 0 : text_bytes(t->s3_name)) + text_bytes(t->etag) +
			text_bytes(t->version_id);
	char *text = bytes > 0 ? index_alloc(malloc(bytes)) : NULL, *at = text;

	r->has_sha256 = t->sha256 != NULL;
	if (t->sha256 != NULL) {
		memcpy(at, t->sha256, ROW_SHA256_BYTES);
		at += ROW_SHA256_BYTES;
	}
	r->name = text_put(&at, t->name);
	r->s3_name = one_name ? r->name : text_put(&at, t->s3_name);
	r->etag = text_put(&at, t->etag);
	r->version_id = text_put(&at, t->version_id);
	free(r->text); /* last: what was put may come from there */
	r->text = text;
}
