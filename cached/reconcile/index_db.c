/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: keep the index's rows in a SQLite file: open, check, load, write batches.
 * Way: index.c opens and closes it, index_batch.c writes; nobody else knows SQL.
 * Thread: the opener before the loop runs; then one at a time (the DISK_INDEX worker, or the closer
 *         under the batch lock). Everything blocks on the disk.
 * Owns: the connection and its statements.
 * Holds: 1. A file that is damaged, of another version or makes no sense is renamed, never deleted
 *           and never written: it may belong to a newer release.
 *        2. A file that could not be read for another reason (rights, full, busy, a disk that fails) is
 *           an error: it is not set aside for that.
 *        3. The value "#clean" exists only between a clean close and the next open.
 *        4. What rows say was read in the tree: that is on the disk before them (rule 5).
 */
#include "index_db.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "shared/cursor.h"
#include "../base/log.h"

/* 1: a file and a directory of one name had one place in S3; 2: no `fixed`; 3: no wid in it */
#define DB_VERSION 4
#define DB_VERSION_NO_WID 3
#define DB_FIXED_BYTES 80u /* without the SHA-256 */
#define DB_WID_BYTES 16u
#define DB_SHA256_BYTES 32u
#define DB_BUSY_MS 5000
#define DB_KEY_CLEAN "#clean"
#define DB_BTRFS_MAGIC 0x9123683e

/* flags: INDEX_DB_*; NULL: none; oid: 16 bytes; fixed: what db_fixed_encode says, one column since reading
 * each of a million rows' columns takes as long as all else. Rows stand in the order they came (a table in
 * the order of random ids reads a cold disk at random: 50 s a million rows instead of 2). */
static const char db_schema[] =
		"CREATE TABLE row (n INTEGER PRIMARY KEY, oid BLOB NOT NULL UNIQUE,"
		" flags INTEGER NOT NULL, ino INTEGER NOT NULL, fixed BLOB NOT NULL,"
		" s3_name TEXT, etag TEXT, version_id TEXT, name TEXT);"
		"CREATE TABLE kv (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
		"PRAGMA user_version = 4;";

enum db_stmt {
	DB_BEGIN,
	DB_COMMIT,
	DB_ROLLBACK,
	DB_ROW_PUT,
	DB_ROW_DELETE,
	DB_KV_PUT,
	DB_KV_DELETE,
	DB_STMT_MAX
};
static const char *const db_sql[DB_STMT_MAX] = {
	[DB_BEGIN] = "BEGIN IMMEDIATE",
	[DB_COMMIT] = "COMMIT",
	[DB_ROLLBACK] = "ROLLBACK",
	[DB_ROW_PUT] = "INSERT INTO row (oid, flags, ino, fixed, s3_name, etag, version_id, name)"
		       " VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (oid) DO UPDATE SET"
		       " flags = excluded.flags, ino = excluded.ino, fixed = excluded.fixed,"
		       " s3_name = excluded.s3_name, etag = excluded.etag,"
		       " version_id = excluded.version_id, name = excluded.name",
	[DB_ROW_DELETE] = "DELETE FROM row WHERE oid = ?",
	[DB_KV_PUT] = "INSERT OR REPLACE INTO kv (key, value) VALUES (?, ?)",
	[DB_KV_DELETE] = "DELETE FROM kv WHERE key = ?",
};

struct index_db {
	sqlite3 *handle;
	int dir_fd;         /* where it is */
	bool waits_for_all; /* there an fsync waits for one inode alone */
	sqlite3_stmt *stmt[DB_STMT_MAX];
};

static int db_errno(int rc)
{
	if (rc == SQLITE_IOERR_SHORT_READ) {
		return -EBADMSG;
	}
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_ERROR: /* a statement of ours does not fit the schema found */
	case SQLITE_SCHEMA:
	case SQLITE_CONSTRAINT:
	case SQLITE_MISMATCH:
	case SQLITE_FORMAT:
		return -EBADMSG;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	default:
		return -EIO;
	}
}

static int db_exec(struct index_db *db, const char *sql)
{
	return db_errno(sqlite3_exec(db->handle, sql, NULL, NULL, NULL));
}

/* First column of the first row as a number. */
static int db_number(struct index_db *db, const char *sql, int64_t *value)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db->handle, sql, -1, &stmt, NULL);

	if (rc == SQLITE_OK) {
		rc = sqlite3_step(stmt);
	}
	if (rc == SQLITE_ROW) {
		*value = sqlite3_column_int64(stmt, 0);
	}
	sqlite3_finalize(stmt);
	if (rc == SQLITE_DONE) {
		return -EBADMSG;
	}
	return db_errno(rc);
}

/* First column of the first row equals `want`? 0, -EBADMSG if not. */
static int db_expect(struct index_db *db, const char *sql, const char *want)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db->handle, sql, -1, &stmt, NULL);
	int ret;

	if (rc == SQLITE_OK) {
		rc = sqlite3_step(stmt);
	}
	ret = db_errno(rc);
	if (ret == 0) {
		const char *text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;

		if (text == NULL || strcmp(text, want) != 0) {
			ret = -EBADMSG;
		}
	}
	sqlite3_finalize(stmt);
	return ret;
}

/* All of a fixed size but the id. Length without or with SHA-256. */
static size_t db_fixed_encode(const struct index_db_row *row,
		uint8_t buf[DB_FIXED_BYTES + DB_SHA256_BYTES])
{
	struct ofs_wr c = ofs_wr_init(buf, DB_FIXED_BYTES + DB_SHA256_BYTES);

	ofs_wr_bytes(&c, row->s3_parent.bytes, sizeof(row->s3_parent.bytes));
	ofs_wr_bytes(&c, row->parent.bytes, sizeof(row->parent.bytes));
	ofs_wr_u64(&c, (uint64_t)row->s3_size);
	ofs_wr_u64(&c, (uint64_t)row->s3_mtime_ns);
	ofs_wr_u64(&c, row->s3_data_gen);
	ofs_wr_u64(&c, row->s3_meta_gen);
	ofs_wr_bytes(&c, row->wid.bytes, sizeof(row->wid.bytes));
	if (row->sha256 == NULL) {
		return DB_FIXED_BYTES;
	}
	ofs_wr_bytes(&c, row->sha256, DB_SHA256_BYTES);
	return DB_FIXED_BYTES + DB_SHA256_BYTES;
}

/* Those that version 3 wrote have no wid; their length tells. */
static bool db_fixed_decode(const uint8_t *buf, size_t len, struct index_db_row *row)
{
	struct ofs_rd c = ofs_rd_init(buf, len);
	size_t plain = len == DB_FIXED_BYTES || len == DB_FIXED_BYTES + DB_SHA256_BYTES
				       ? DB_FIXED_BYTES
				       : DB_FIXED_BYTES - DB_WID_BYTES;

	ofs_rd_copy(&c, row->s3_parent.bytes, sizeof(row->s3_parent.bytes));
	ofs_rd_copy(&c, row->parent.bytes, sizeof(row->parent.bytes));
	row->s3_size = (int64_t)ofs_rd_u64(&c);
	row->s3_mtime_ns = (int64_t)ofs_rd_u64(&c);
	row->s3_data_gen = ofs_rd_u64(&c);
	row->s3_meta_gen = ofs_rd_u64(&c);
	memset(&row->wid, 0, sizeof(row->wid));
	if (plain == DB_FIXED_BYTES) {
		ofs_rd_copy(&c, row->wid.bytes, sizeof(row->wid.bytes));
	}
	row->sha256 = len > plain ? buf + plain : NULL;
	return len == plain || len == plain + DB_SHA256_BYTES;
}

/* Text column without NUL inside; false: not what we write. */
static bool db_text(sqlite3_stmt *stmt, int column, const char **text)
{
	*text = (const char *)sqlite3_column_text(stmt, column);
	if (*text == NULL) {
		return sqlite3_column_type(stmt, column) == SQLITE_NULL;
	}
	return strlen(*text) == (size_t)sqlite3_column_bytes(stmt, column);
}

static bool db_row_read(sqlite3_stmt *stmt, struct index_db_row *row)
{
	const void *oid = sqlite3_column_blob(stmt, 0), *fixed;

	if (oid == NULL || sqlite3_column_bytes(stmt, 0) != (int)sizeof(row->oid.bytes)) {
		return false;
	}
	memcpy(row->oid.bytes, oid, sizeof(row->oid.bytes));
	row->flags = (uint32_t)sqlite3_column_int64(stmt, 1);
	row->ino = (uint64_t)sqlite3_column_int64(stmt, 2);
	fixed = sqlite3_column_blob(stmt, 3);
	return fixed != NULL &&
	       db_fixed_decode(fixed, (size_t)sqlite3_column_bytes(stmt, 3), row) &&
	       db_text(stmt, 4, &row->s3_name) && db_text(stmt, 5, &row->etag) &&
	       db_text(stmt, 6, &row->version_id) && db_text(stmt, 7, &row->name);
}

static int db_load_rows(struct index_db *db, const struct index_db_loader *loader)
{
	sqlite3_stmt *stmt = NULL;
	struct index_db_row row;
	int ret = 0;
	int rc = sqlite3_prepare_v2(db->handle,
			"SELECT oid, flags, ino, fixed, s3_name, etag, version_id, name FROM row",
			-1, &stmt, NULL);

	if (rc != SQLITE_OK) {
		return db_errno(rc);
	}
	while (ret == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		ret = db_row_read(stmt, &row) ? loader->row(loader->arg, &row) : -EBADMSG;
	}
	sqlite3_finalize(stmt);
	return ret != 0 ? ret : db_errno(rc);
}

static int db_load_kv(struct index_db *db, const struct index_db_loader *loader, bool *clean)
{
	sqlite3_stmt *stmt = NULL;
	int ret = 0;
	int rc = sqlite3_prepare_v2(db->handle, "SELECT key, value FROM kv", -1, &stmt, NULL);

	if (rc != SQLITE_OK) {
		return db_errno(rc);
	}
	while (ret == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		const char *key, *value;

		if (!db_text(stmt, 0, &key) || !db_text(stmt, 1, &value) || key == NULL ||
				value == NULL) {
			ret = -EBADMSG;
		} else if (strcmp(key, DB_KEY_CLEAN) == 0) {
			*clean = true;
		} else {
			ret = loader->kv(loader->arg, key, value);
		}
	}
	sqlite3_finalize(stmt);
	return ret != 0 ? ret : db_errno(rc);
}

static int db_prepare(struct index_db *db)
{
	for (int i = 0; i < DB_STMT_MAX; i++) {
		int rc = sqlite3_prepare_v3(db->handle, db_sql[i], -1, SQLITE_PREPARE_PERSISTENT,
				&db->stmt[i], NULL);

		if (rc != SQLITE_OK) {
			return db_errno(rc);
		}
	}
	return 0;
}

/* *why: static, for the log. */
static int db_setup(struct index_db *db, const struct index_db_loader *loader, bool *fresh,
		const char **why)
{
	int64_t version = 0, count = 0;
	bool clean = false;
	int ret;

	*why = "cannot be read";
	sqlite3_extended_result_codes(db->handle, 1);
	sqlite3_busy_timeout(db->handle, DB_BUSY_MS);
	ret = db_number(db, "PRAGMA user_version", &version);
	if (ret == 0) {
		ret = db_number(db, "SELECT count(*) FROM sqlite_master", &count);
	}
	if (ret != 0) {
		return ret;
	}
	if (version != DB_VERSION && version != DB_VERSION_NO_WID && (version != 0 || count != 0)) {
		*why = "was written by another version of this program";
		return -EBADMSG;
	}
	if (db_expect(db, "PRAGMA journal_mode = WAL", "wal") != 0) {
		log_warning("index", "no write-ahead log on this file system: the index is slower");
	}
	ret = db_exec(db, "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;"
			  "PRAGMA cache_size = -16384");
	if (ret == 0 && version == 0) {
		*fresh = true;
		ret = db_exec(db, "BEGIN IMMEDIATE");
		ret = ret != 0 ? ret : db_exec(db, db_schema);
		ret = ret != 0 ? ret : db_exec(db, "COMMIT");
	}
	if (ret == 0) {
		ret = db_number(db, "SELECT count(*) FROM row", &count);
	}
	if (ret != 0) {
		return ret;
	}
	*why = "is damaged";
	loader->begin(loader->arg, (uint64_t)count);
	ret = db_load_kv(db, loader, &clean);
	if (ret == 0 && !clean && !*fresh) {
		ret = db_expect(db, "PRAGMA quick_check(1)", "ok");
	}
	ret = ret != 0 ? ret : db_load_rows(db, loader);
	sqlite3_db_release_memory(db->handle); /* pages that nobody will read again */
	if (ret == 0 && version == DB_VERSION_NO_WID) {
		ret = db_exec(db, "PRAGMA user_version = 4"); /* each row becomes one when it changes */
	}
	ret = ret != 0 ? ret : db_prepare(db);
	return ret != 0 ? ret : db_exec(db, "DELETE FROM kv WHERE key = '" DB_KEY_CLEAN "'");
}

static void db_free(struct index_db **pdb)
{
	struct index_db *db = *pdb;

	*pdb = NULL;
	if (db->dir_fd >= 0) {
		close(db->dir_fd);
	}
	for (int i = 0; i < DB_STMT_MAX; i++) {
		sqlite3_finalize(db->stmt[i]);
	}
	sqlite3_close(db->handle);
	free(db);
}

/* SQLite calls what the disk cannot read damaged, too. 0: every byte of file and log can be read; -errno. */
static int db_readable(const char *path)
{
	static const char *const suffix[] = { "", "-wal" };
	uint8_t buf[32768];
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < sizeof(suffix) / sizeof(suffix[0]); i++) {
		char name[PATH_MAX];
		ssize_t n;
		int fd;

		if (snprintf(name, sizeof(name), "%s%s", path, suffix[i]) >= (int)sizeof(name)) {
			return -ENAMETOOLONG;
		}
		fd = open(name, O_RDONLY | O_CLOEXEC);
		if (fd < 0) {
			ret = errno == ENOENT ? 0 : -errno;
			continue;
		}
		while ((n = read(fd, buf, sizeof(buf))) > 0 || (n < 0 && errno == EINTR)) {
		}
		ret = n < 0 ? -errno : 0;
		close(fd);
	}
	return ret;
}

/* The directory that it is in; the tree is on the same file system. 0 or -errno. */
static int db_dir_open(struct index_db *db, const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX];
	struct statfs fs;

	snprintf(dir, sizeof(dir), "%.*s", slash != NULL ? (int)(slash - path) : 1, slash != NULL ? path : ".");
	db->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (db->dir_fd < 0 || fstatfs(db->dir_fd, &fs) != 0) {
		return -errno;
	}
	db->waits_for_all = fs.f_type == DB_BTRFS_MAGIC;
	return 0;
}

/* While its log is written over, a sync of it waits for nothing else: the rows would survive a power cut that takes
 * back what they are about. Journals keep the order of changes, so an fsync of what was changed last waits for
 * all; on btrfs one waits for its own inode alone. */
static int db_tree_first(struct index_db *db)
{
	int ret = db->waits_for_all ? syncfs(db->dir_fd) : futimens(db->dir_fd, NULL);

	if (ret == 0 && !db->waits_for_all) {
		ret = fsync(db->dir_fd);
	}
	return ret == 0 ? 0 : -errno;
}

/* Rename the file and its log; both or neither matter to whoever looks at them later. */
static int db_set_aside(TALLOC_CTX *ctx, const char *path, const char *why)
{
	static const char *const suffix[] = { "", "-wal", "-shm" };
	char stamp[32];
	time_t now = time(NULL);
	struct tm tm;
	char *aside;

	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
	aside = talloc_asprintf(ctx, "%s.damaged-%s", path, stamp);
	for (int n = 2; aside != NULL && access(aside, F_OK) == 0; n++) {
		talloc_free(aside);
		aside = talloc_asprintf(ctx, "%s.damaged-%s.%d", path, stamp, n);
	}
	if (aside == NULL) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < sizeof(suffix) / sizeof(suffix[0]); i++) {
		char *from = talloc_asprintf(aside, "%s%s", path, suffix[i]);
		char *to = talloc_asprintf(aside, "%s%s", aside, suffix[i]);

		if (from == NULL || to == NULL) {
			talloc_free(aside);
			return -ENOMEM;
		}
		if (rename(from, to) != 0 && errno != ENOENT) {
			int err = errno;

			talloc_free(aside);
			return -err;
		}
	}
	log_warning("index", "%s %s; set aside as %s, the mirror is scanned instead", path, why, aside);
	talloc_free(aside);
	return 0;
}

int index_db_open(TALLOC_CTX *ctx, const char *path, const struct index_db_loader *loader,
		struct index_db **out, bool *fresh, char **error)
{
	const char *why = NULL;
	int ret = 0;

	*out = NULL;
	*fresh = false;
	/* Once more, since the disk may have failed for a moment; and at last after the file was set aside. */
	for (int round = 0; round < 3; round++) {
		struct index_db *db = calloc(1, sizeof(*db));
		int rc;

		if (db == NULL) {
			ret = -ENOMEM;
			break;
		}
		why = "cannot be opened";
		ret = db_dir_open(db, path);
		if (ret == 0) {
			rc = sqlite3_open_v2(path, &db->handle,
					SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
			ret = rc != SQLITE_OK ? db_errno(rc) : db_setup(db, loader, fresh, &why);
		}
		if (ret == 0) {
			*out = db;
			return 0;
		}
		*error = talloc_asprintf(ctx, "index %s %s: %s", path, why,
				db->handle != NULL ? sqlite3_errmsg(db->handle) : strerror(-ret));
		/* The loader takes no row of a broken file. */
		loader->begin(loader->arg, 0);
		db_free(&db);
		*fresh = false;
		if (ret == -EBADMSG) {
			ret = db_readable(path);
			if (ret != 0) {
				talloc_free(*error);
				*error = talloc_asprintf(ctx, "index %s: %s: the disk cannot read it; if it is to be "
						"given up, move it away", path, strerror(-ret));
			}
		}
		if (ret != 0) {
			return ret;
		}
		ret = round == 1 ? db_set_aside(ctx, path, why) : 0;
		if (ret != 0) {
			break;
		}
		talloc_free(*error);
		*error = NULL;
	}
	ret = ret != 0 ? ret : -EIO;
	if (*error == NULL) {
		*error = talloc_asprintf(ctx, "index %s: %s", path, strerror(-ret));
	}
	return ret;
}

static int db_step(sqlite3_stmt *stmt)
{
	int rc = sqlite3_step(stmt);
	int ret = db_errno(rc);

	sqlite3_reset(stmt);
	return ret;
}

static void db_bind_text(sqlite3_stmt *stmt, int at, const char *text)
{
	if (text == NULL) {
		sqlite3_bind_null(stmt, at);
	} else {
		sqlite3_bind_text(stmt, at, text, -1, SQLITE_STATIC);
	}
}

static int db_row_put(sqlite3_stmt *stmt, const struct index_db_row *row)
{
	uint8_t fixed[DB_FIXED_BYTES + DB_SHA256_BYTES];

	sqlite3_bind_blob(stmt, 1, row->oid.bytes, sizeof(row->oid.bytes), SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 2, row->flags);
	sqlite3_bind_int64(stmt, 3, (int64_t)row->ino);
	sqlite3_bind_blob(stmt, 4, fixed, (int)db_fixed_encode(row, fixed), SQLITE_STATIC);
	db_bind_text(stmt, 5, row->s3_name);
	db_bind_text(stmt, 6, row->etag);
	db_bind_text(stmt, 7, row->version_id);
	db_bind_text(stmt, 8, row->name);
	return db_step(stmt);
}

static int db_kv_put(struct index_db *db, const struct index_db_kv *kv)
{
	sqlite3_stmt *stmt = db->stmt[kv->value != NULL ? DB_KV_PUT : DB_KV_DELETE];

	sqlite3_bind_text(stmt, 1, kv->key, -1, SQLITE_STATIC);
	if (kv->value != NULL) {
		sqlite3_bind_text(stmt, 2, kv->value, -1, SQLITE_STATIC);
	}
	return db_step(stmt);
}

/* What a failed transaction has left, if anything; it may fail itself, and is tried again before the next one. */
static void db_rollback(struct index_db *db)
{
	if (!sqlite3_get_autocommit(db->handle)) {
		db_step(db->stmt[DB_ROLLBACK]);
	}
}

int index_db_write(struct index_db *db, const struct ofs_oid *deletes, size_t delete_count,
		const struct index_db_row *rows, size_t row_count, const struct index_db_kv *kvs,
		size_t kv_count)
{
	int ret = delete_count > 0 || row_count > 0 ? db_tree_first(db) : 0;

	if (ret != 0) {
		return ret;
	}
	db_rollback(db);
	ret = db_step(db->stmt[DB_BEGIN]);
	if (ret != 0) {
		return ret;
	}
	for (size_t i = 0; ret == 0 && i < delete_count; i++) {
		sqlite3_bind_blob(db->stmt[DB_ROW_DELETE], 1, deletes[i].bytes,
				sizeof(deletes[i].bytes), SQLITE_STATIC);
		ret = db_step(db->stmt[DB_ROW_DELETE]);
	}
	for (size_t i = 0; ret == 0 && i < row_count; i++) {
		ret = db_row_put(db->stmt[DB_ROW_PUT], &rows[i]);
	}
	for (size_t i = 0; ret == 0 && i < kv_count; i++) {
		ret = db_kv_put(db, &kvs[i]);
	}
	if (ret == 0) {
		ret = db_step(db->stmt[DB_COMMIT]);
	}
	if (ret != 0) {
		db_rollback(db);
	}
	return ret;
}

void index_db_close(struct index_db **pdb, bool clean)
{
	const struct index_db_kv kv = { .key = DB_KEY_CLEAN, .value = "1" };

	if (*pdb == NULL) {
		return;
	}
	if (clean) {
		int ret = index_db_write(*pdb, NULL, 0, NULL, 0, &kv, 1);

		if (ret != 0) {
			log_warning("index", "the index was not closed cleanly: %s", strerror(-ret));
		}
	}
	db_free(pdb);
}
