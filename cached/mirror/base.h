/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A directory base as bytes: what HEAD would say of the files of one directory, each in the version that
 * LIST shows with this ETag, size and Last-Modified. A head object names chunks; a chunk is zstd over
 * rows that ascend by name. Form: docs/FORMAT.md. Pure functions, any thread.
 */
#ifndef OFS_MIRROR_BASE_H
#define OFS_MIRROR_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <talloc.h>
#include "shared/record.h"
#include "snapshot.h"

#define BASE_PLACE OFS_OWN_PLACE "dir/"
#define BASE_CHUNK_ROWS 50000u
#define BASE_CHUNK_RAW_BYTES (32u << 20) /* unpacked, at most */
#define BASE_INLINE_BYTES 2048u          /* longer values are blobs of their objects, which hold no more */
#define BASE_HEAD_BYTES (4u << 20)
#define BASE_CHUNKS_MAX 4096u
#define BASE_CHUNK_ID_BYTES 33 /* hex and NUL */

struct base_row {
	char *name; /* raw component of the key */
	/* the version: as LIST shows it */
	char *etag;
	int64_t size, s3_mtime_ns;
	char *version_id; /* NULL: not known */
	/* what its metadata says; the log may know newer */
	struct ofs_oid oid, wid; /* wid none: it has none, or not known */
	bool plain;              /* other programs have set nothing on it */
	uint64_t data_gen, meta_gen;
	struct snapshot *snapshot; /* NULL: another program's object */
	int64_t mtime_ns;          /* of that */
};
void base_row_clear(struct base_row *row);

/* --- making a chunk --- */
struct base_build; /* malloc */
struct base_build *base_build_new(void); /* NULL: out of memory */
/* The row stays the caller's. 0; -E2BIG: the chunk is full, this row begins the next; -EINVAL: it cannot stand
 * in a chunk, or not behind the last; -ENOMEM. */
int base_build_add(struct base_build *b, const struct base_row *row);
unsigned base_build_rows(const struct base_build *b);
const char *base_build_first(const struct base_build *b); /* names; NULL: no row */
const char *base_build_last(const struct base_build *b);
/* The chunk; malloc. 0 or -errno. */
int base_build_end(const struct base_build *b, const struct ofs_oid *uuid, const struct ofs_oid *dir,
		uint8_t **bytes, size_t *len);
void base_build_free(struct base_build **b);

/* --- reading one --- */
struct base_chunk; /* malloc; does not change once it is open */
/* Whole, and of this directory? 0; -EBADMSG; -ENOMEM. */
int base_chunk_open(const uint8_t *bytes, size_t len, const struct ofs_oid *uuid,
		const struct ofs_oid *dir, struct base_chunk **out);
unsigned base_chunk_rows(const struct base_chunk *c);
/* Row number i; the caller's (base_row_clear), also after an error. 0; -EBADMSG; -ENOMEM. */
int base_chunk_row(const struct base_chunk *c, unsigned i, struct base_row *row);
/* The number of the row of this name; -1: none. */
int base_chunk_find(const struct base_chunk *c, const char *name);
void base_chunk_free(struct base_chunk **c);

/* --- the head --- */
struct base_chunk_ref {
	char id[BASE_CHUNK_ID_BYTES]; /* last part of its key */
	char *first, *last;           /* names; talloc */
	unsigned rows;
	size_t bytes;
	uint8_t sha256[32];
};
struct base_head { /* talloc */
	uint64_t rows;
	struct base_chunk_ref *chunks; /* ascending by names */
	unsigned chunk_count;
};
/* NULL: out of memory. */
struct base_head *base_head_new(TALLOC_CTX *ctx);
/* Another chunk behind the last. 0 or -ENOMEM. */
int base_head_add(struct base_head *h, const char *id, const char *first, const char *last,
		unsigned rows, const uint8_t *bytes, size_t len);
/* malloc; NULL: out of memory. node: whose it is, so that no two heads are equal bytes. */
char *base_head_text(const struct base_head *h, const struct ofs_oid *uuid, const struct ofs_oid *dir,
		const char *node, const char *nonce);
/* NULL: damaged, or of another directory or version, or out of memory. */
struct base_head *base_head_parse(TALLOC_CTX *ctx, const uint8_t *text, size_t len,
		const struct ofs_oid *uuid, const struct ofs_oid *dir);
/* The chunk that may have this name, or NULL. */
const struct base_chunk_ref *base_head_find(const struct base_head *h, const char *name);
/* Are these the bytes that the head speaks of? */
bool base_chunk_is(const struct base_chunk_ref *ref, const uint8_t *bytes, size_t len);
/* Whole key of the head, or of a chunk; talloc. */
char *base_key(TALLOC_CTX *ctx, const char *prefix, const struct ofs_oid *dir, const char *chunk);

#endif
