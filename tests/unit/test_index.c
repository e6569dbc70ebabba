/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the index keeps one row a place, survives restarts, and sets aside what it cannot read.
 * Way: real file in a scratch directory, real disk jobs, real loop.
 * Thread: core, and the DISK_INDEX worker.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tevent.h>
#include <unistd.h>

#include "cached/base/clock.h"
#include "cached/base/disk.h"
#include "cached/base/log.h"
#include "cached/base/mailbox.h"
#include "cached/objstore/objstore.h"
#include "cached/reconcile/index.h"
#include "tests/lib/scratch.h"

/* SQLite's own reads, and ours: so many of them fail. */
static int reads_to_fail;

static bool read_fails(void)
{
	if (reads_to_fail > 0) {
		reads_to_fail--;
		errno = EIO;
		return true;
	}
	return false;
}

ssize_t pread64(int fd, void *buf, size_t len, off_t at)
{
	static ssize_t (*real)(int, void *, size_t, off_t);

	if (real == NULL) {
		*(void **)&real = dlsym(RTLD_NEXT, "pread64");
	}
	return read_fails() ? -1 : real(fd, buf, len, at);
}

ssize_t read(int fd, void *buf, size_t len)
{
	static ssize_t (*real)(int, void *, size_t);

	if (real == NULL) {
		*(void **)&real = dlsym(RTLD_NEXT, "read");
	}
	return read_fails() ? -1 : real(fd, buf, len);
}

struct fix {
	char dir[64];
	char path[96];
	struct tevent_context *ev;
	struct mailbox *mb;
	struct disk *disk;
	struct clock *clock;
	struct index *ix;
	bool fresh;
	int committed, status;
};

static void fix_open(struct fix *f)
{
	char *error = NULL;

	f->ix = index_open(f->ev, f->disk, f->clock, f->path, &f->fresh, &error);
	if (f->ix == NULL) {
		fail_msg("%s", error);
	}
}

static int setup(void **state)
{
	struct fix *f = talloc_zero(NULL, struct fix);

	scratch_make(f->dir, sizeof(f->dir), "index");
	snprintf(f->path, sizeof(f->path), "%s/index.db", f->dir);
	f->ev = tevent_context_init(f);
	f->mb = mailbox_new(f->ev, f->ev);
	f->disk = disk_real_new(f->ev, f->mb, 2);
	f->clock = clock_real_new(f->ev, f->ev);
	fix_open(f);
	*state = f;
	return f->fresh ? 0 : -1;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	index_close(&f->ix);
	talloc_free(f->disk);
	scratch_remove(f->dir);
	talloc_free(f);
	return 0;
}

static void on_commit(int status, void *arg)
{
	struct fix *f = arg;

	f->committed++;
	f->status = status;
}

static int commit(struct fix *f)
{
	int before = f->committed;

	index_commit(f->ix, on_commit, f);
	assert_int_equal(f->committed, before); /* never from inside */
	while (f->committed == before) {
		tevent_loop_once(f->ev);
	}
	return f->status;
}

static void reopen(struct fix *f)
{
	index_close(&f->ix);
	assert_null(f->ix);
	fix_open(f);
}

static unsigned aside_count(struct fix *f)
{
	DIR *d = opendir(f->dir);
	struct dirent *e;
	unsigned n = 0;

	while ((e = readdir(d)) != NULL) {
		n += strstr(e->d_name, ".damaged-") != NULL && strstr(e->d_name, "-wal") == NULL &&
				strstr(e->d_name, "-shm") == NULL;
	}
	closedir(d);
	return n;
}

static struct ofs_oid oid_of(unsigned n)
{
	struct ofs_oid oid = { { 7, (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16) } };

	return oid;
}

static struct row *add(struct fix *f, unsigned n, bool is_dir)
{
	struct ofs_oid oid = oid_of(n);

	return index_add(f->ix, &oid, is_dir);
}

static void test_root(void **state)
{
	struct fix *f = *state;
	struct row *root = index_get(f->ix, &OFS_OID_ROOT);

	assert_non_null(root);
	assert_true(root->is_dir && root->in_s3 && root->live == ROW_HERE);
	assert_string_equal(root->name, ".");
	assert_string_equal(root->s3_name, "");
	assert_memory_equal(OFS_OID_ROOT.bytes, "objectfs-root\0\0\1", 16);
	assert_memory_equal(OFS_OID_STAGE.bytes, "objectfs-stage\0\1", 16);
	index_remove(f->ix, root);
	index_clear_s3(f->ix, root);
	index_set_live(f->ix, root, ROW_NOT_HERE);
	assert_ptr_equal(index_get(f->ix, &OFS_OID_ROOT), root);
	assert_true(root->in_s3 && root->live == ROW_HERE);
	assert_int_equal(index_count(f->ix), 1);
}

static void test_places(void **state)
{
	struct fix *f = *state;
	struct row *d = add(f, 1, true), *a = add(f, 2, false), *b = add(f, 3, false);

	assert_ptr_equal(add(f, 2, false), a);
	index_set_here(f->ix, d, &OFS_OID_ROOT, "dir", 10);
	index_set_s3(f->ix, d, &OFS_OID_ROOT, "dir");
	index_set_here(f->ix, a, &d->oid, "x", 11);
	assert_ptr_equal(index_live_child(f->ix, d), a);
	/* its own strings and ids as arguments */
	index_set_s3(f->ix, a, &a->parent, a->name);
	assert_ptr_equal(index_at_s3(f->ix, &d->oid, "x", false), a);
	assert_ptr_equal(index_s3_child(f->ix, d), a);
	index_set_fence(f->ix, a, "etag", NULL, NULL, 5, 6);
	/* another takes both places, named by the loser's own strings */
	index_set_here(f->ix, b, &a->parent, a->name, 12);
	assert_int_equal(a->live, ROW_NOT_HERE);
	assert_ptr_equal(index_at_live(f->ix, &d->oid, "x"), b);
	index_set_s3(f->ix, b, &a->s3_parent, a->s3_name);
	assert_false(a->in_s3);
	assert_null(a->etag);
	assert_ptr_equal(index_at_s3(f->ix, &d->oid, "x", false), b);
	assert_ptr_equal(index_s3_child(f->ix, d), b);
	assert_null(index_s3_next(f->ix, b));
	/* trashed: keeps the name, not the place */
	index_set_live(f->ix, b, ROW_TRASHED);
	assert_null(index_at_live(f->ix, &d->oid, "x"));
	assert_string_equal(b->name, "x");
	assert_null(index_live_child(f->ix, d));
	index_set_here(f->ix, b, &OFS_OID_ROOT, "y", 12);
	assert_string_equal(b->s3_name, "x");
	index_clear_s3(f->ix, b);
	assert_string_equal(b->name, "y");
	index_remove(f->ix, a);
	assert_int_equal(index_count(f->ix), 3);
	assert_null(index_get(f->ix, &(struct ofs_oid){ { 7, 2 } }));
}

/* "a" and "a/" are two keys: neither row takes the other's place, nor loses it by a restart. */
/* Rows come and go between two steps: those that stay are seen once. */
static void test_walk(void **state)
{
	struct fix *f = *state;
	struct index_walk walk, other;
	struct row *dir = add(f, 1, true), *r;
	bool seen[40] = { false };
	char name[16];

	index_set_s3(f->ix, dir, &OFS_OID_ROOT, "dir");
	for (unsigned n = 10; n < 30; n++) {
		snprintf(name, sizeof(name), "f%u", n);
		index_set_s3(f->ix, add(f, n, false), &dir->oid, name);
	}
	index_walk_begin(f->ix, &walk, dir);
	index_walk_begin(f->ix, &other, dir);
	for (unsigned step = 0; (r = index_walk_next(f->ix, &walk)) != NULL; step++) {
		unsigned n = r->oid.bytes[1];

		assert_ptr_equal(index_numbered(f->ix, r->number), r);
		assert_true(n >= 10 && n < 30);
		assert_false(seen[n]);
		seen[n] = true;
		if (step == 3) { /* the next two: one goes elsewhere, one for good; and a new one comes */
			struct row *next = index_s3_next(f->ix, r), *last = index_s3_next(f->ix, next);
			uint32_t number = last->number;

			seen[next->oid.bytes[1]] = seen[last->oid.bytes[1]] = true;
			index_set_s3(f->ix, next, &OFS_OID_ROOT, "elsewhere");
			index_clear_s3(f->ix, last);
			index_remove(f->ix, last);
			assert_null(index_numbered(f->ix, number));
			index_set_s3(f->ix, add(f, 31, false), &dir->oid, "new");
		}
	}
	for (unsigned n = 10; n < 30; n++) {
		assert_true(seen[n]);
	}
	assert_null(index_walk_next(f->ix, &walk));
	index_walk_end(f->ix, &walk);
	index_walk_end(f->ix, &walk);
	assert_non_null(index_walk_next(f->ix, &other));
	index_walk_end(f->ix, &other);
}

static void test_kinds(void **state)
{
	struct fix *f = *state;
	struct row *d = add(f, 1, true), *a = add(f, 2, false), *b = add(f, 3, false), *x = add(f, 4, false);
	char path[] = "a/x", twice[] = "a//x", both[] = "a", *rest = path;

	for (int round = 0; round < 2; round++) { /* either one first */
		index_set_s3(f->ix, round == 0 ? d : a, &OFS_OID_ROOT, "a");
		index_set_s3(f->ix, round == 0 ? a : d, &OFS_OID_ROOT, "a");
		assert_true(d->in_s3 && a->in_s3);
		assert_ptr_equal(index_at_s3(f->ix, &OFS_OID_ROOT, "a", true), d);
		assert_ptr_equal(index_at_s3(f->ix, &OFS_OID_ROOT, "a", false), a);
		index_clear_s3(f->ix, round == 0 ? d : a);
		assert_true(round == 0 ? a->in_s3 : d->in_s3);
		index_clear_s3(f->ix, round == 0 ? a : d);
	}
	index_set_s3(f->ix, d, &OFS_OID_ROOT, "a");
	index_set_s3(f->ix, a, &OFS_OID_ROOT, "a");
	index_set_s3(f->ix, b, &OFS_OID_ROOT, "a"); /* from the file alone */
	assert_true(d->in_s3 && b->in_s3 && !a->in_s3);
	index_set_s3(f->ix, x, &d->oid, "x");
	index_set_fence(f->ix, d, "marker", NULL, NULL, 0, 1);
	index_set_fence(f->ix, b, "file", NULL, NULL, 5, 1);
	index_set_here(f->ix, d, &OFS_OID_ROOT, "a", 1);
	index_set_here(f->ix, b, &OFS_OID_ROOT, "%~a%file", 2);
	assert_ptr_equal(index_below(f->ix, &OFS_OID_ROOT, &rest), d);
	assert_ptr_equal(index_below(f->ix, &d->oid, &rest), x);
	assert_null(index_below(f->ix, &x->oid, &rest));
	rest = both;
	assert_ptr_equal(index_below(f->ix, &OFS_OID_ROOT, &rest), b);
	rest = twice;
	assert_ptr_equal(index_below(f->ix, &OFS_OID_ROOT, &rest), d);
	assert_null(index_below(f->ix, &d->oid, &rest)); /* a component without a name */
	assert_string_equal(rest, "x");
	reopen(f);
	d = index_at_s3(f->ix, &OFS_OID_ROOT, "a", true);
	b = index_at_s3(f->ix, &OFS_OID_ROOT, "a", false);
	assert_true(d != NULL && d->is_dir && b != NULL && !b->is_dir);
	assert_string_equal(d->etag, "marker");
	assert_string_equal(b->etag, "file");
	assert_ptr_equal(index_at_live(f->ix, &OFS_OID_ROOT, "%~a%file"), b);
}

static void test_orphans(void **state)
{
	struct fix *f = *state;
	struct ofs_oid parent = oid_of(50);
	struct row *a = add(f, 51, false), *d;

	index_set_here(f->ix, a, &parent, "x", 1);
	index_set_s3(f->ix, a, &parent, "x");
	assert_null(index_path(f->ix, f, a));
	assert_null(index_key(f->ix, f, "p/", &parent, "x", false, NULL));
	d = index_add(f->ix, &parent, true);
	assert_ptr_equal(index_live_child(f->ix, d), a);
	assert_ptr_equal(index_s3_child(f->ix, d), a);
	index_remove(f->ix, d);
	assert_ptr_equal(index_at_live(f->ix, &parent, "x"), a);
	index_remove(f->ix, a);
	assert_null(index_at_live(f->ix, &parent, "x"));
}

static void test_keys(void **state)
{
	struct fix *f = *state;
	struct row *d = add(f, 1, true), *e = add(f, 2, true), *a = add(f, 3, false);
	char name[256];
	bool too_long = true;
	char *key;

	index_set_s3(f->ix, d, &OFS_OID_ROOT, "old");
	index_set_here(f->ix, d, &OFS_OID_ROOT, "new", 1);
	index_set_here(f->ix, e, &d->oid, "%~%2E", 2); /* the component "." */
	index_set_here(f->ix, a, &e->oid, "f", 3);
	assert_string_equal(index_key(f->ix, f, "p/", &OFS_OID_ROOT, "", false, NULL), "p/");
	assert_string_equal(index_key(f->ix, f, "", &OFS_OID_ROOT, "", true, NULL), "");
	assert_string_equal(index_key(f->ix, f, "p/", &OFS_OID_ROOT, "a", false, NULL), "p/a");
	key = index_key(f->ix, f, "p/", &a->parent, "f", false, &too_long);
	assert_string_equal(key, "p/old/./f");
	assert_false(too_long);
	assert_string_equal(index_key(f->ix, f, "p/", &d->oid, "e", true, NULL), "p/old/e/");
	assert_string_equal(index_key(f->ix, f, "p/", &OFS_OID_STAGE, "0a", false, NULL),
			"p/.objectfs/stage/0a");
	assert_string_equal(index_path(f->ix, f, a), "new/%~%2E/f");
	assert_string_equal(index_path(f->ix, f, index_get(f->ix, &OFS_OID_ROOT)), ".");
	/* 1,024 bytes are a key, 1,025 are not */
	memset(name, 'n', 255);
	name[255] = '\0';
	for (unsigned i = 0; i < 4; i++) {
		struct row *r = add(f, 100 + i, true);
		struct ofs_oid up = oid_of(99 + i);

		index_set_s3(f->ix, r, i == 0 ? &OFS_OID_ROOT : &up, name);
	}
	key = index_key(f->ix, f, "", &(struct ofs_oid){ { 7, 102 } }, name, true, &too_long);
	assert_int_equal(strlen(key), OBJ_KEY_MAX_BYTES);
	assert_null(index_key(f->ix, f, "p", &(struct ofs_oid){ { 7, 102 } }, name, true, &too_long));
	assert_true(too_long);
	/* parents in a circle */
	index_set_s3(f->ix, d, &e->oid, "d");
	index_set_s3(f->ix, e, &d->oid, "e");
	assert_null(index_key(f->ix, f, "", &d->oid, "x", false, &too_long));
	assert_true(too_long);
	index_set_here(f->ix, d, &e->oid, "d", 1);
	index_set_here(f->ix, e, &d->oid, "e", 1);
	assert_null(index_path(f->ix, f, a));
}

static void test_restart(void **state)
{
	struct fix *f = *state;
	const uint8_t sum[32] = { 1, 2, 3, [31] = 9 };
	struct ofs_oid ids[3] = { oid_of(1), oid_of(2), oid_of(3) };
	struct row *r = add(f, 1, true);

	index_set_here(f->ix, r, &OFS_OID_ROOT, "d", 77);
	index_set_s3(f->ix, r, &OFS_OID_ROOT, "d");
	index_set_object(f->ix, r, true);
	r = add(f, 2, false);
	index_set_s3(f->ix, r, &ids[0], "\xc3\xa4 raw");
	index_set_here(f->ix, r, &ids[0], "local", 78);
	index_set_fence(f->ix, r, "e1", "v1", &ids[2], 1LL << 40, -5);
	index_set_gens(f->ix, r, UINT64_MAX, 3);
	index_set_sha256(f->ix, r, sum);
	add(f, 3, false);
	index_set_live(f->ix, add(f, 3, false), ROW_TRASHED);
	index_kv_set(f->ix, "uuid", "abc");
	index_kv_set(f->ix, "gone", "x");
	assert_int_equal(commit(f), 0);
	index_kv_set(f->ix, "gone", NULL);
	assert_null(index_kv_get(f->ix, "gone"));
	reopen(f);
	assert_false(f->fresh);
	assert_int_equal(index_count(f->ix), 4);
	assert_string_equal(index_kv_get(f->ix, "uuid"), "abc");
	assert_null(index_kv_get(f->ix, "gone"));
	r = index_get(f->ix, &ids[0]);
	assert_true(r->is_dir && r->has_object && r->in_s3 && r->live == ROW_HERE);
	assert_ptr_equal(index_s3_child(f->ix, r), index_get(f->ix, &ids[1]));
	assert_ptr_equal(index_live_child(f->ix, r), index_get(f->ix, &ids[1]));
	r = index_at_live(f->ix, &ids[0], "local");
	assert_non_null(r);
	assert_ptr_equal(r, index_at_s3(f->ix, &ids[0], "\xc3\xa4 raw", false));
	assert_string_equal(r->etag, "e1");
	assert_string_equal(r->version_id, "v1");
	assert_true(ofs_oid_equal(&r->wid, &ids[2]));
	assert_true(r->s3_size == 1LL << 40 && r->s3_mtime_ns == -5 && r->ino == 78);
	assert_true(r->s3_data_gen == UINT64_MAX && r->s3_meta_gen == 3 && r->has_sha256);
	assert_memory_equal(row_sha256(r), sum, 32);
	assert_int_equal(index_get(f->ix, &ids[2])->live, ROW_TRASHED);
	/* removed, and made again before the removal was written */
	index_remove(f->ix, r);
	r = add(f, 2, false);
	index_set_here(f->ix, r, &OFS_OID_ROOT, "again", 5);
	index_remove(f->ix, index_get(f->ix, &ids[2]));
	reopen(f);
	assert_non_null(index_at_live(f->ix, &OFS_OID_ROOT, "again"));
	assert_null(index_get(f->ix, &ids[1])->etag);
	assert_null(index_get(f->ix, &ids[2]));
}

static void test_tick(void **state)
{
	struct fix *f = *state;
	struct index *other;
	bool fresh;
	char *error;

	add(f, 1, false);
	index_tick(f->ix);
	index_tick(f->ix);
	add(f, 2, false);
	assert_int_equal(commit(f), 0);
	assert_int_equal(commit(f), 0); /* nothing left to write: answered all the same */
	/* what a kill -9 would leave: the rows are in the file, unclean */
	other = index_open(f->ev, f->disk, f->clock, f->path, &fresh, &error);
	assert_non_null(other);
	assert_false(fresh);
	assert_int_equal(index_count(other), 3);
	index_close(&other);
	/* a commit under way when the index is closed */
	add(f, 3, false);
	index_commit(f->ix, on_commit, f);
	add(f, 4, false);
	reopen(f);
	assert_int_equal(index_count(f->ix), 5);
	assert_int_equal(f->committed, 2);
	tevent_loop_once(f->ev); /* the letter of the closed index's batch */
}

static void sql(struct fix *f, const char *text)
{
	sqlite3 *db;
	char *error = NULL;

	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	if (sqlite3_exec(db, text, NULL, NULL, &error) != SQLITE_OK) {
		fail_msg("%s", error);
	}
	sqlite3_close(db);
}

static void test_write_fails(void **state)
{
	struct fix *f = *state;

	add(f, 1, false);
	assert_int_equal(commit(f), 0);
	sql(f, "ALTER TABLE row RENAME TO away");
	add(f, 2, false);
	index_kv_set(f->ix, "k", "v");
	assert_true(commit(f) < 0);
	add(f, 3, false);
	index_tick(f->ix);
	sql(f, "ALTER TABLE away RENAME TO row");
	f->committed = 0;
	index_commit(f->ix, on_commit, f);
	for (int i = 0; i < 10; i++) {
		index_tick(f->ix);
	}
	while (f->committed == 0) {
		tevent_loop_once(f->ev);
	}
	assert_int_equal(f->status, 0);
	reopen(f);
	assert_int_equal(index_count(f->ix), 4);
	assert_string_equal(index_kv_get(f->ix, "k"), "v");
}

static void expect_set_aside(struct fix *f, unsigned asides)
{
	fix_open(f);
	assert_true(f->fresh);
	assert_int_equal(index_count(f->ix), 1);
	assert_null(index_kv_get(f->ix, "k"));
	assert_int_equal(aside_count(f), asides);
}

static void fill(struct fix *f)
{
	for (unsigned i = 0; i < 2000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "name%u", i);
		index_set_here(f->ix, add(f, i, false), &OFS_OID_ROOT, name, i + 1);
	}
	index_kv_set(f->ix, "k", "v");
	index_close(&f->ix);
}

static void test_damaged(void **state)
{
	struct fix *f = *state;
	static const char garbage[4096] = "this is no database";
	FILE *file;
	int fd;

	fill(f); /* not a database at all */
	file = fopen(f->path, "w");
	assert_int_equal(fwrite(garbage, 1, sizeof(garbage), file), sizeof(garbage));
	fclose(file);
	expect_set_aside(f, 1);

	fill(f); /* pages overwritten */
	fd = open(f->path, O_WRONLY);
	for (off_t at = 8192; at < 120000; at += 4096) {
		assert_int_equal(pwrite(fd, garbage, sizeof(garbage), at), sizeof(garbage));
	}
	close(fd);
	expect_set_aside(f, 2);

	fill(f); /* truncated */
	assert_int_equal(truncate(f->path, 20000), 0);
	expect_set_aside(f, 3);

	fill(f); /* another version, which must stay as it is for those who know it */
	sql(f, "PRAGMA user_version = 99");
	expect_set_aside(f, 4);

	fill(f); /* a foreign database */
	sql(f, "DROP TABLE row; DROP TABLE kv; CREATE TABLE t (x); PRAGMA user_version = 0");
	expect_set_aside(f, 5);

	fill(f); /* a column is missing */
	sql(f, "ALTER TABLE row RENAME COLUMN etag TO etak");
	expect_set_aside(f, 6);

	fill(f); /* a row that makes no sense */
	sql(f, "UPDATE row SET name = NULL WHERE ino = 7");
	expect_set_aside(f, 7);

	fill(f);
	sql(f, "UPDATE row SET fixed = x'0102' WHERE ino = 7");
	expect_set_aside(f, 8);
}

/* What the disk cannot read is not damaged: not set aside, and all there when it can. */
static void test_unreadable(void **state)
{
	struct fix *f = *state;
	char *error = NULL;

	fill(f);
	reads_to_fail = INT_MAX;
	f->ix = index_open(f->ev, f->disk, f->clock, f->path, &f->fresh, &error);
	assert_null(f->ix);
	assert_non_null(strstr(error, "I/O error"));
	assert_int_equal(aside_count(f), 0);
	for (int n = 1; n < 40; n++) { /* a moment's failure, at one place after the other */
		reads_to_fail = 0;
		fix_open(f);
		assert_false(f->fresh);
		assert_int_equal(index_count(f->ix), 2001);
		index_close(&f->ix);
		reads_to_fail = n;
		f->ix = index_open(f->ev, f->disk, f->clock, f->path, &f->fresh, &error);
		assert_true(f->ix == NULL || !f->fresh);
		index_close(&f->ix);
		assert_int_equal(aside_count(f), 0);
	}
	reads_to_fail = 0;
	fix_open(f);
	assert_int_equal(index_count(f->ix), 2001);
}

/* Of the version before: read as it is, and each row written anew when it changes. */
static void test_migrated(void **state)
{
	struct fix *f = *state;
	const uint8_t sum[32] = { 7 };
	struct ofs_oid wid = oid_of(9);
	struct row *r;

	for (unsigned i = 1; i <= 2; i++) {
		r = add(f, i, false);
		index_set_here(f->ix, r, &OFS_OID_ROOT, i == 1 ? "a" : "b", i);
		index_set_s3(f->ix, r, &OFS_OID_ROOT, i == 1 ? "a" : "b");
		index_set_fence(f->ix, r, "e", NULL, &wid, 5, 6);
		index_set_sha256(f->ix, r, i == 1 ? sum : NULL);
	}
	index_close(&f->ix);
	sql(f, "UPDATE row SET fixed = substr(fixed, 1, 64) || substr(fixed, 81); PRAGMA user_version = 3");
	for (int round = 0; round < 2; round++) {
		fix_open(f);
		assert_false(f->fresh);
		assert_int_equal(aside_count(f), 0);
		for (unsigned i = 1; i <= 2; i++) {
			struct ofs_oid oid = oid_of(i);

			r = index_get(f->ix, &oid);
			assert_true(r != NULL && r->in_s3 && r->live == ROW_HERE && r->s3_size == 5);
			assert_string_equal(r->etag, "e");
			assert_int_equal(ofs_oid_is_none(&r->wid), i == 2 || round == 0);
			assert_int_equal(r->has_sha256, i == 1);
			if (i == 1) {
				assert_memory_equal(row_sha256(r), sum, 32);
				index_set_fence(f->ix, r, "e", NULL, &wid, 5, 6);
			}
		}
		index_close(&f->ix);
	}
	fix_open(f);
}

static void test_unusable(void **state)
{
	struct fix *f = *state;
	bool fresh;
	char *error = NULL;

	index_close(&f->ix);
	assert_null(index_open(f->ev, f->disk, f->clock, "/nonexistent/index.db", &fresh, &error));
	assert_non_null(strstr(error, "/nonexistent/index.db"));
	fix_open(f);
	assert_int_equal(aside_count(f), 0);
}

static void test_clash(void **state)
{
	struct fix *f = *state;
	struct row *r = add(f, 1, false);
	unsigned s3 = 0, here = 0;

	index_set_s3(f->ix, r, &OFS_OID_ROOT, "a");
	index_set_fence(f->ix, r, "e", NULL, NULL, 1, 1);
	index_set_here(f->ix, r, &OFS_OID_ROOT, "a", 1);
	r = add(f, 2, false);
	index_set_s3(f->ix, r, &OFS_OID_ROOT, "b");
	index_set_fence(f->ix, r, "e", NULL, NULL, 1, 1);
	index_set_here(f->ix, r, &OFS_OID_ROOT, "b", 2);
	index_close(&f->ix);
	sql(f, "UPDATE row SET name = 'a', s3_name = 'a' WHERE ino = 2");
	for (int round = 0; round < 2; round++) {
		fix_open(f);
		assert_false(f->fresh);
		s3 = here = 0;
		for (unsigned i = 1; i <= 2; i++) {
			struct ofs_oid oid = oid_of(i);

			r = index_get(f->ix, &oid);
			s3 += r->in_s3;
			here += r->live == ROW_HERE;
			assert_true(!r->in_s3 || r->etag == NULL);
		}
		assert_int_equal(s3, 1);
		assert_int_equal(here, 1);
		index_close(&f->ix);
	}
	fix_open(f);
}

/* Many random changes, restarts between; the file must hold what memory held. */
struct seen {
	uint64_t sum;
	uint64_t rows;
};

static uint64_t mix(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len-- > 0) {
		h = (h ^ *p++) * 1099511628211ULL;
	}
	return h;
}

static bool sum_row(struct row *r, void *arg)
{
	struct seen *s = arg;
	const uint8_t live = r->live;
	uint64_t h = mix(14695981039346656037ULL, r->oid.bytes, 16);

	h = mix(h, r->in_s3 ? r->s3_name : "-", strlen(r->in_s3 ? r->s3_name : "-"));
	h = mix(h, r->live != ROW_NOT_HERE && r->name ? r->name : "-", r->name ? strlen(r->name) : 1);
	h = mix(h, r->parent.bytes, 16);
	h = mix(h, r->s3_parent.bytes, 16);
	h = mix(h, &live, sizeof(live));
	h = mix(h, r->etag ? r->etag : "-", r->etag ? strlen(r->etag) : 1);
	s->sum += h;
	s->rows++;
	return true;
}

static struct seen sum_all(struct fix *f)
{
	struct seen s = { 0 };

	index_each(f->ix, sum_row, &s);
	assert_int_equal(s.rows, index_count(f->ix));
	return s;
}

static void test_random(void **state)
{
	struct fix *f = *state;
	const char *env = getenv("OFS_SEED");
	unsigned seed = env != NULL ? (unsigned)atoi(env) : (unsigned)getpid();
	struct seen before, after;
	char name[16];

	print_message("seed %u\n", seed);
	srandom(seed);
	for (unsigned i = 0; i < 20000; i++) {
		struct row *r = add(f, (unsigned)random() % 3000 + 1, random() % 4 == 0);
		struct ofs_oid parent = random() % 3 ? OFS_OID_ROOT : oid_of(random() % 50 + 1);

		snprintf(name, sizeof(name), "n%ld", random() % 2000);
		switch (random() % 8) {
		case 0:
		case 1:
			index_set_here(f->ix, r, &parent, name, (uint64_t)random());
			break;
		case 2:
		case 3:
			index_set_s3(f->ix, r, &parent, name);
			index_set_fence(f->ix, r, random() % 2 ? name : NULL, NULL, NULL, 1, 1);
			break;
		case 4:
			index_set_live(f->ix, r, random() % 2 ? ROW_NOT_HERE : ROW_TRASHED);
			break;
		case 5:
			index_clear_s3(f->ix, r);
			break;
		case 6:
			index_remove(f->ix, r);
			break;
		default:
			index_set_gens(f->ix, r, (uint64_t)random(), (uint64_t)random());
		}
		if (random() % 500 == 0) {
			index_tick(f->ix);
		}
		if (random() % 2000 == 0) {
			assert_int_equal(commit(f), 0);
		}
	}
	before = sum_all(f);
	reopen(f);
	after = sum_all(f);
	assert_true(before.rows == after.rows && before.sum == after.sum);
}

/* Millions of rows are kept in memory: a name of 18 bytes, an ETag and a SHA-256 take 300 bytes in all. */
static void test_memory(void **state)
{
	struct fix *f = *state;
	const uint8_t sum[32] = { 1 };
	const unsigned rows = 16000;
	struct mallinfo2 before, after;

	index_close(&f->ix);
	before = mallinfo2();
	fix_open(f);
	for (unsigned i = 0; i < rows; i++) {
		struct ofs_oid oid;
		struct row *r;
		char name[32];

		clock_random(f->clock, &oid, sizeof(oid));
		snprintf(name, sizeof(name), "report %06u.docx", i);
		r = index_add(f->ix, &oid, false);
		index_set_here(f->ix, r, &OFS_OID_ROOT, name, i + 2);
		index_set_s3(f->ix, r, &OFS_OID_ROOT, name);
		index_set_fence(f->ix, r, "\"d41d8cd98f00b204e9800998ecf8427e\"", NULL, NULL, 1, 1);
		index_set_sha256(f->ix, r, sum);
	}
	reopen(f);
	assert_int_equal(index_count(f->ix), rows + 1);
	after = mallinfo2(); /* zeros where a sanitizer has the heap */
	assert_true(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd < 326ull * rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_root, setup, teardown),
		cmocka_unit_test_setup_teardown(test_places, setup, teardown),
		cmocka_unit_test_setup_teardown(test_walk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kinds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_orphans, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tick, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unreadable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_migrated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unusable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clash, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
	};

	log_open("/dev/null", LOG_LVL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
