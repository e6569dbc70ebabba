/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the index's file has what its rows had, over restarts and failures, and is set aside if it cannot be understood.
 * Way: index_fixture.c; SQLite's reads come through here.
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
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cached/base/log.h"
#include "tests/lib/index_fixture.h"

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

static void test_restart(void **state)
{
	struct fix *f = *state;
	const uint8_t sum[32] = { 1, 2, 3, [31] = 9 };
	struct ofs_oid ids[3] = { fix_oid(1), fix_oid(2), fix_oid(3) };
	struct row *r = fix_add(f, 1, true);

	index_set_here(f->ix, r, &OFS_OID_ROOT, "d", 77);
	index_set_s3(f->ix, r, &OFS_OID_ROOT, "d");
	index_set_object(f->ix, r, true);
	r = fix_add(f, 2, false);
	index_set_s3(f->ix, r, &ids[0], "\xc3\xa4 raw");
	index_set_here(f->ix, r, &ids[0], "local", 78);
	index_set_fence(f->ix, r, "e1", "v1", &ids[2], 1LL << 40, -5);
	index_set_gens(f->ix, r, UINT64_MAX, 3);
	index_set_sha256(f->ix, r, sum);
	fix_add(f, 3, false);
	index_set_live(f->ix, fix_add(f, 3, false), ROW_TRASHED);
	index_kv_set(f->ix, "uuid", "abc");
	index_kv_set(f->ix, "gone", "x");
	assert_int_equal(fix_commit(f), 0);
	index_kv_set(f->ix, "gone", NULL);
	assert_null(index_kv_get(f->ix, "gone"));
	fix_reopen(f);
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
	r = fix_add(f, 2, false);
	index_set_here(f->ix, r, &OFS_OID_ROOT, "again", 5);
	index_remove(f->ix, index_get(f->ix, &ids[2]));
	fix_reopen(f);
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

	fix_add(f, 1, false);
	index_tick(f->ix);
	index_tick(f->ix);
	fix_add(f, 2, false);
	assert_int_equal(fix_commit(f), 0);
	assert_int_equal(fix_commit(f), 0); /* nothing left to write: answered all the same */
	/* what a kill -9 would leave: the rows are in the file, unclean */
	other = index_open(f->ev, f->disk, f->clock, f->path, &fresh, &error);
	assert_non_null(other);
	assert_false(fresh);
	assert_int_equal(index_count(other), 3);
	index_close(&other);
	/* a commit under way when the index is closed */
	fix_add(f, 3, false);
	index_commit(f->ix, fix_on_commit, f);
	fix_add(f, 4, false);
	fix_reopen(f);
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

	fix_add(f, 1, false);
	assert_int_equal(fix_commit(f), 0);
	sql(f, "ALTER TABLE row RENAME TO away");
	fix_add(f, 2, false);
	index_kv_set(f->ix, "k", "v");
	assert_true(fix_commit(f) < 0);
	fix_add(f, 3, false);
	index_tick(f->ix);
	sql(f, "ALTER TABLE away RENAME TO row");
	f->committed = 0;
	index_commit(f->ix, fix_on_commit, f);
	for (int i = 0; i < 10; i++) {
		index_tick(f->ix);
	}
	while (f->committed == 0) {
		tevent_loop_once(f->ev);
	}
	assert_int_equal(f->status, 0);
	fix_reopen(f);
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
		index_set_here(f->ix, fix_add(f, i, false), &OFS_OID_ROOT, name, i + 1);
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
}

/* A row or a pair that we would not have written, in a file that is a database of ours. */
static void test_nonsense(void **state)
{
	static const char *const changes[] = {
		"UPDATE row SET fixed = x'0102' WHERE ino = 7",
		"UPDATE row SET fixed = zeroblob(1000) WHERE ino = 7",
		"UPDATE row SET fixed = x'' WHERE ino = 7",
		"UPDATE row SET oid = x'0102' WHERE ino = 7",
		"UPDATE row SET oid = x'' WHERE ino = 7",
		"UPDATE row SET flags = flags | 48 WHERE ino = 7",
		"UPDATE row SET flags = flags | 2, s3_name = NULL WHERE ino = 7",
		"UPDATE row SET s3_name = CAST(x'610062' AS TEXT) WHERE ino = 7",
		"UPDATE row SET etag = CAST(x'610062' AS TEXT) WHERE ino = 7",
		"UPDATE row SET version_id = CAST(x'610062' AS TEXT) WHERE ino = 7",
		"UPDATE row SET name = CAST(x'610062' AS TEXT) WHERE ino = 7",
		"UPDATE row SET name = '' WHERE ino = 7",
		"UPDATE row SET name = '.' WHERE ino = 7",
		"UPDATE row SET name = '..' WHERE ino = 7",
		"UPDATE row SET name = '../name7' WHERE ino = 7",
		"UPDATE kv SET key = CAST(x'610062' AS TEXT) WHERE key = 'k'",
		"UPDATE kv SET value = CAST(x'610062' AS TEXT) WHERE key = 'k'",
		"ALTER TABLE kv RENAME COLUMN value TO worth",
		"ALTER TABLE kv RENAME TO pairs",
		"ALTER TABLE row RENAME TO rows",
	};
	struct fix *f = *state;

	for (unsigned i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		fill(f);
		sql(f, changes[i]);
		expect_set_aside(f, i + 1);
	}
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
	struct ofs_oid wid = fix_oid(9);
	struct row *r;

	for (unsigned i = 1; i <= 2; i++) {
		r = fix_add(f, i, false);
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
			struct ofs_oid oid = fix_oid(i);

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
	struct row *r = fix_add(f, 1, false);
	unsigned s3 = 0, here = 0;

	index_set_s3(f->ix, r, &OFS_OID_ROOT, "a");
	index_set_fence(f->ix, r, "e", NULL, NULL, 1, 1);
	index_set_here(f->ix, r, &OFS_OID_ROOT, "a", 1);
	r = fix_add(f, 2, false);
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
			struct ofs_oid oid = fix_oid(i);

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
		struct row *r = fix_add(f, (unsigned)random() % 3000 + 1, random() % 4 == 0);
		struct ofs_oid parent = random() % 3 ? OFS_OID_ROOT : fix_oid(random() % 50 + 1);

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
			assert_int_equal(fix_commit(f), 0);
		}
	}
	before = sum_all(f);
	fix_reopen(f);
	after = sum_all(f);
	assert_true(before.rows == after.rows && before.sum == after.sum);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_restart, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_tick, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_write_fails, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_damaged, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_nonsense, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_unreadable, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_migrated, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_unusable, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_clash, fix_setup, fix_teardown),
		cmocka_unit_test_setup_teardown(test_random, fix_setup, fix_teardown),
	};

	log_open("/dev/null", LOG_LVL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
