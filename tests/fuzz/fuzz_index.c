/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Any bytes as index.db: the file itself, or rows of it whose cells are of any type and length. What is taken is an
 * index in which each row is found by its id, all walks end, and each path stays below the tree.
 */
/* Covers: cached/reconcile/index_db.c cached/reconcile/index_open.c cached/reconcile/index_path.c */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <tevent.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/reconcile/index.h"
#include "shared/cursor.h"
#include "tests/lib/scratch.h"

#define ROWS_MAX 40u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64], path[96];
static struct tevent_context *ev;
static struct clock *fuzz_clock;

static void clean(void)
{
	scratch_remove(dir);
}

static void begin(void)
{
	if (access("/dev/shm", W_OK) == 0) {
		setenv("TMPDIR", "/dev/shm", 1); /* SQLite syncs: ten times faster in memory */
	}
	scratch_make(dir, sizeof(dir), "fuzz-index");
	snprintf(path, sizeof(path), "%s/index.db", dir);
	atexit(clean);
	ev = tevent_context_init(NULL);
	fuzz_clock = clock_real_new(ev, ev);
	log_set_level(LOG_LVL_ERROR);
}

/* One cell: a byte says the type and, of texts and blobs, the length. */
static void cell(sqlite3_stmt *stmt, int at, struct ofs_rd *r)
{
	uint8_t kind = ofs_rd_u8(r);
	size_t len = kind >> 2;
	const uint8_t *p;

	if (len > 58) {
		len = len > 60 ? 112 : 80; /* the fixed column's, with or without a digest */
	}
	if (len > r->left) {
		len = r->left;
	}
	switch (kind & 3) {
	case 0:
		sqlite3_bind_int64(stmt, at, (int64_t)ofs_rd_u64(r));
		break;
	case 1:
		p = ofs_rd_bytes(r, len);
		sqlite3_bind_text(stmt, at, p != NULL ? (const char *)p : "", p != NULL ? (int)len : 0, SQLITE_STATIC);
		break;
	case 2:
		p = ofs_rd_bytes(r, len);
		sqlite3_bind_blob(stmt, at, p != NULL ? p : (const uint8_t *)"", p != NULL ? (int)len : 0, SQLITE_STATIC);
		break;
	default:
		break; /* NULL */
	}
}

/* An id of few, so that rows name each other; those that mean something are among them. */
static void small_id(uint8_t n, uint8_t id[16])
{
	const struct ofs_oid *known[] = { &OFS_OID_ROOT, &OFS_OID_STAGE, &OFS_OID_APART };

	memset(id, 0, 16);
	id[15] = n % 8;
	if (n % 8 < 3) {
		memcpy(id, known[n % 8], 16);
	}
}

static void rows_make(sqlite3 *db, struct ofs_rd *r)
{
	sqlite3_stmt *stmt = NULL;

	if (sqlite3_prepare_v2(db, "INSERT OR REPLACE INTO row (oid, flags, ino, fixed, s3_name, etag, version_id, "
			"name) VALUES (?,?,?,?,?,?,?,?)", -1, &stmt, NULL) != SQLITE_OK) {
		return; /* the table is another one */
	}
	for (unsigned i = 0; i < ROWS_MAX && r->left > 0; i++) {
		uint8_t how = ofs_rd_u8(r), id[16], fixed[16 + 16 + 4 * 8 + 16] = { 0 };

		sqlite3_clear_bindings(stmt);
		if (how & 1) { /* a row as we write it, of any family */
			small_id(ofs_rd_u8(r), id);
			small_id(ofs_rd_u8(r), fixed);
			small_id(ofs_rd_u8(r), fixed + 16);
			sqlite3_bind_blob(stmt, 1, id, sizeof(id), SQLITE_STATIC);
			sqlite3_bind_int64(stmt, 2, ofs_rd_u8(r));
			sqlite3_bind_int64(stmt, 3, ofs_rd_u8(r));
			sqlite3_bind_blob(stmt, 4, fixed, sizeof(fixed), SQLITE_STATIC);
		} else {
			for (int at = 1; at <= 4; at++) {
				cell(stmt, at, r);
			}
		}
		for (int at = 5; at <= 8; at++) {
			cell(stmt, at, r);
		}
		sqlite3_step(stmt);
		sqlite3_reset(stmt);
	}
	sqlite3_finalize(stmt);
}

static void file_make(const uint8_t *data, size_t size)
{
	static const char schema[] = "CREATE TABLE row (n INTEGER PRIMARY KEY, oid BLOB NOT NULL UNIQUE,"
		" flags INTEGER NOT NULL, ino INTEGER NOT NULL, fixed BLOB NOT NULL,"
		" s3_name TEXT, etag TEXT, version_id TEXT, name TEXT);"
		"CREATE TABLE kv (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;";
	struct ofs_rd r = ofs_rd_init(data + 1, size - 1);
	char version[48];
	sqlite3 *db = NULL;
	int fd;

	if (data[0] & 1) {
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0 || write(fd, data + 1, size - 1) != (ssize_t)(size - 1)) {
			abort();
		}
		close(fd);
		return;
	}
	if (sqlite3_open(path, &db) != SQLITE_OK) {
		abort();
	}
	snprintf(version, sizeof(version), "PRAGMA user_version = %d", data[0] & 2 ? 3 : 4);
	sqlite3_exec(db, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF", NULL, NULL, NULL);
	sqlite3_exec(db, schema, NULL, NULL, NULL);
	sqlite3_exec(db, version, NULL, NULL, NULL);
	rows_make(db, &r);
	sqlite3_close(db);
}

struct seen {
	struct index *ix;
	unsigned count;
};

static bool sound(struct row *r, void *arg)
{
	struct seen *seen = arg;
	TALLOC_CTX *ctx = talloc_new(NULL);
	struct index_walk w;
	unsigned children = 0;
	char *text;

	seen->count++;
	if (index_get(seen->ix, &r->oid) != r || (r->in_s3 && r->s3_name == NULL) ||
			(r->live == ROW_HERE && r->name == NULL)) {
		abort();
	}
	text = index_path(seen->ix, ctx, r);
	if (text != NULL && (text[0] == '/' || strcmp(text, "..") == 0 || strncmp(text, "../", 3) == 0 ||
			strstr(text, "/../") != NULL)) {
		abort();
	}
	if (r->in_s3) {
		text = index_key(seen->ix, ctx, "p/", &r->s3_parent, r->s3_name, r->is_dir, NULL);
		if (text != NULL && strncmp(text, "p/", 2) != 0) {
			abort();
		}
	}
	index_walk_begin(seen->ix, &w, r);
	while (index_walk_next(seen->ix, &w) != NULL && children <= ROWS_MAX + 8) {
		children++;
	}
	index_walk_end(seen->ix, &w);
	if (children > ROWS_MAX + 8) {
		abort();
	}
	talloc_free(ctx);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen seen = { 0 };
	char *error = NULL;
	bool fresh;

	if (ev == NULL) {
		begin();
	}
	if (size < 2) {
		return 0;
	}
	file_make(data, size);
	seen.ix = index_open(ev, NULL, fuzz_clock, path, &fresh, &error);
	if ((seen.ix == NULL) != (error != NULL)) {
		abort();
	}
	if (seen.ix != NULL) {
		index_each(seen.ix, sound, &seen);
		if (seen.count != index_count(seen.ix)) {
			abort();
		}
		index_close(&seen.ix);
	}
	talloc_free(error);
	clean(); /* what was set aside, too */
	if (mkdir(dir, 0700) != 0) {
		abort();
	}
	return 0;
}
