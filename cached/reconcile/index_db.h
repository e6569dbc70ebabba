/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The index's file: rows and small values in SQLite. Private to index*.c. */
#ifndef OFS_RECONCILE_INDEX_DB_H
#define OFS_RECONCILE_INDEX_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <talloc.h>
#include "shared/record.h"

#define INDEX_DB_IS_DIR 1u
#define INDEX_DB_IN_S3 2u
#define INDEX_DB_HAS_OBJECT 4u
#define INDEX_DB_PLAIN 8u
#define INDEX_DB_LIVE_SHIFT 4 /* two bits: enum row_live */
#define INDEX_DB_LIVE_MASK 3u
#define INDEX_DB_BASE_DUE 64u
#define INDEX_DB_HAS_BASE 128u

/* A row as the file has it: plain, strings borrowed. */
struct index_db_row {
	struct ofs_oid oid, s3_parent, parent;
	uint32_t flags;
	const char *s3_name, *etag, *version_id, *name; /* NULL: none */
	int64_t s3_size, s3_mtime_ns;
	uint64_t s3_data_gen, s3_meta_gen, ino;
	struct ofs_oid wid;
	const uint8_t *sha256; /* NULL: none */
};
struct index_db_kv {
	const char *key;
	const char *value; /* NULL: remove */
};

struct index_db; /* used by one thread at a time */

/* What index_db_open read; a row or value that makes no sense is refused: -EBADMSG. */
struct index_db_loader {
	void *arg;
	void (*begin)(void *arg, uint64_t row_count); /* again, empty, after a file was set aside */
	int (*row)(void *arg, const struct index_db_row *row);
	int (*kv)(void *arg, const char *key, const char *value);
};
/* 0 and *db; else -errno and *error (child of ctx). Blocking. */
int index_db_open(TALLOC_CTX *ctx, const char *path, const struct index_db_loader *loader,
		struct index_db **db, bool *fresh, char **error);
/* One transaction: deletes, then rows, then values. 0 or -errno, then nothing has changed. */
int index_db_write(struct index_db *db, const struct ofs_oid *deletes, size_t delete_count,
		const struct index_db_row *rows, size_t row_count, const struct index_db_kv *kvs,
		size_t kv_count);
/* clean: everything was written; the next open need not check the whole file. */
void index_db_close(struct index_db **db, bool clean);

#endif
