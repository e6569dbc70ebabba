/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The mirror: objects become files, their changes arrive, and what must not happen to either. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/core/ask.h"
#include "cached/core/core.h"
#include "cached/base/stats.h"
#include "cached/mirror/mirror_private.h"
#include "tests/lib/mirror_fixture.h"

static void test_list(void **state)
{
	struct fixture *fx = *state;
	struct timespec old[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};
	int64_t listings = stats_get(listings), stubs = stats_get(stubs_made);
	struct ofs_record rec;
	const struct row *row;
	struct stat st;

	talloc_free(fixture_put(fx, "file", "hello", 5, "mtime", "1600000000.25", NULL));
	fixture_put_text(fx, "empty", "");
	fixture_put_text(fx, "dir/sub/deep", "x");
	fixture_put_text(fx, "made/", "");
	assert_int_equal(futimens(fx->v->tree_fd, old), 0);
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fixture_count(fx, ""), 4);
	assert_false(fixture_exists(fx, ".objectfs"));
	st = fixture_stat(fx, "file");
	assert_int_equal(st.st_size, 5);
	assert_int_equal(st.st_blocks * 512 > 4096, 0);
	assert_int_equal(st.st_mode & 07777, 0666 | OFS_MARKER_MODE);
	rec = fixture_record(fx, "file");
	assert_int_equal(rec.flags, OFS_REC_STUB | OFS_REC_KNOWN);
	assert_int_equal(rec.size, 5);
	assert_true(rec.mtime_ns == 1600000000250000000LL);
	assert_int_equal(fixture_stat(fx, "empty").st_mode & 07777, 0666);
	assert_int_equal(fixture_record(fx, "empty").flags, OFS_REC_KNOWN);
	assert_int_equal(fixture_record(fx, "dir").flags, OFS_REC_DIR);
	assert_int_equal(fixture_record(fx, "made").flags, OFS_REC_DIR | OFS_REC_KNOWN);
	assert_true(fixture_record(fx, "").flags & OFS_REC_LISTED);
	assert_int_equal(fixture_stat(fx, ".").st_mtim.tv_sec, 1000); /* no client changed it */
	row = fixture_row(fx, "file");
	assert_true(row != NULL && row->in_s3 && row->live == ROW_HERE && row->etag != NULL);
	assert_string_equal(row->s3_name, "file");
	assert_int_equal(row->ino, st.st_ino);
	assert_true(fixture_row(fx, "made")->has_object);
	assert_false(fixture_row(fx, "dir")->has_object);
	assert_int_equal(stats_get(listings), listings + 1);
	assert_int_equal(stats_get(stubs_made), stubs + 2);
	/* young: no question; expired by age; refresh: nothing to do, no HEAD */
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(stats_get(listings), listings + 1);
	memset(fx->sent, 0, sizeof(fx->sent));
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fx->sent[OBJ_LIST], 1);
	assert_int_equal(fx->sent[OBJ_HEAD], 0);
	fx->conf.listing_age_ns = 1;
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(stats_get(listings), listings + 3);
	assert_int_equal(fixture_list(fx, "dir", false), 0);
	assert_int_equal(fixture_list(fx, "dir/sub", false), 0);
	assert_int_equal(fixture_stat(fx, "dir/sub/deep").st_size, 1);
}

static void test_failing_list(void **state)
{
	struct fixture *fx = *state;

	fixture_put_text(fx, "a", "1");
	fixture_put_text(fx, "b", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	fixture_delete(fx, "a");
	fixture_put_text(fx, "c", "1");
	fixture_fault(fx, OBJ_LIST, "share/", FAULT_FAIL, OBJ_AWAY);
	assert_int_equal(fixture_list(fx, "", true), -EIO);
	assert_true(fixture_exists(fx, "a"));
	assert_false(fixture_exists(fx, "c"));
	fixture_fault(fx, OBJ_HEAD, "share/c", FAULT_FAIL, OBJ_AWAY);
	assert_int_equal(fixture_list(fx, "", true), -EIO);
	fixture_fault(fx, OBJ_LIST, "", FAULT_NONE, OBJ_OK);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "a"));
	assert_true(fixture_exists(fx, "c"));
}

static void test_remote_change(void **state)
{
	struct fixture *fx = *state;
	struct ofs_record rec;
	struct stat st, was;
	int fd;

	fixture_put_text(fx, "f", "one");
	fixture_put_text(fx, "open", "one");
	fixture_put_text(fx, "dirty", "one");
	assert_int_equal(fixture_list(fx, "", false), 0);
	/* "f" has become resident */
	rec = fixture_record(fx, "f");
	rec.flags &= ~(uint32_t)OFS_REC_STUB;
	fixture_record_set(fx, "f", &rec);
	fixture_write(fx, "f", "one");
	assert_int_equal(fchmodat(fx->v->tree_fd, "f", 0640, 0), 0);
	rec = fixture_record(fx, "dirty");
	rec.flags = OFS_REC_KNOWN | OFS_REC_DATA_DIRTY;
	fixture_record_set(fx, "dirty", &rec);
	assert_int_equal(fchmodat(fx->v->tree_fd, "dirty", 0666, 0), 0);
	fixture_write(fx, "dirty", "mine");
	was = fixture_stat(fx, "f");
	fd = fixture_open(fx, "open", O_RDONLY);
	fixture_put_text(fx, "f", "two and more");
	fixture_put_text(fx, "open", "two and more");
	fixture_put_text(fx, "dirty", "two and more");
	assert_int_equal(fixture_list(fx, "", true), 0);
	st = fixture_stat(fx, "f");
	assert_int_equal(st.st_ino, was.st_ino);
	assert_int_equal(st.st_size, 12);
	assert_int_equal(st.st_mode & 07777, 0640 | OFS_MARKER_MODE); /* rights stay */
	rec = fixture_record(fx, "f");
	assert_int_equal(rec.flags, OFS_REC_STUB | OFS_REC_KNOWN);
	assert_int_equal(rec.size, 12);
	assert_int_equal(fixture_row(fx, "f")->s3_size, 12);
	assert_true(fixture_row(fx, "f")->plain); /* nothing is on it: no request before it is overwritten */
	assert_int_equal(fixture_stat(fx, "open").st_size, 3);
	assert_int_equal(fixture_row(fx, "open")->s3_size, 3);
	assert_int_equal(fixture_stat(fx, "dirty").st_size, 4);
	close(fd);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fixture_stat(fx, "open").st_size, 12);
	/* to nothing: plain at once */
	fixture_put_text(fx, "f", "");
	assert_int_equal(fixture_list(fx, "", true), 0);
	st = fixture_stat(fx, "f");
	assert_int_equal(st.st_size, 0);
	assert_int_equal(st.st_mode & OFS_MARKER_MODE, 0);
	assert_int_equal(fixture_record(fx, "f").flags, OFS_REC_KNOWN);
}

static void test_remote_delete(void **state)
{
	struct fixture *fx = *state;
	struct ofs_record rec;
	struct ofs_oid gone;
	int fd;

	fixture_put_text(fx, "f", "1");
	fixture_put_text(fx, "open", "1");
	fixture_put_text(fx, "dirty", "1");
	fixture_put_text(fx, "d/e/f", "1");
	fixture_put_text(fx, "busy/e/f", "1");
	fixture_put_text(fx, "keep", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fixture_list(fx, "d", false), 0);
	assert_int_equal(fixture_list(fx, "d/e", false), 0);
	assert_int_equal(fixture_list(fx, "busy", false), 0);
	assert_int_equal(fixture_list(fx, "busy/e", false), 0);
	fixture_write(fx, "busy/e/new", "mine"); /* no record: new and dirty */
	fixture_write(fx, "new", "mine");
	rec = fixture_record(fx, "dirty");
	rec.flags = OFS_REC_KNOWN | OFS_REC_META_DIRTY;
	fixture_record_set(fx, "dirty", &rec);
	gone = fixture_record(fx, "d/e/f").oid;
	fixture_delete(fx, "f");
	fixture_delete(fx, "open");
	fixture_delete(fx, "dirty");
	fixture_delete(fx, "d/e/f");
	fixture_delete(fx, "busy/e/f");
	fd = fixture_open(fx, "open", O_RDONLY);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "f"));
	assert_false(fixture_exists(fx, "d"));
	assert_null(index_get(fx->v->index, &gone));
	assert_true(fixture_exists(fx, "open"));
	assert_true(fixture_exists(fx, "dirty"));
	assert_true(fixture_exists(fx, "new"));
	assert_true(fixture_exists(fx, "keep"));
	assert_true(fixture_exists(fx, "busy/e/new"));
	assert_true(fixture_exists(fx, "busy/e/f")); /* all or nothing */
	close(fd);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "open"));
	/* file to directory and back */
	fixture_delete(fx, "keep");
	fixture_put_text(fx, "keep/child", "1");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(fixture_is_dir(fx, "keep"));
	fixture_delete(fx, "keep/child");
	fixture_put_text(fx, "keep", "123");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fixture_stat(fx, "keep").st_size, 3);
}

/* The bucket was emptied, or is another: nothing is removed. */
static void test_emptied_bucket(void **state)
{
	static const char another[] = "{\"format\":\"objectfs volume\",\"uuid\":\"00112233445566778899aabbccddeeff\","
			"\"write_version\":1,\"read_version\":1,\"features\":[],\"created\":\"2026-01-01T00:00:00Z\","
			"\"machine_sid\":\"\"}";
	struct fixture *fx = *state;

	fixture_put_text(fx, "f", "1");
	fixture_put_text(fx, "d/g", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	fixture_delete(fx, "f");
	fixture_delete(fx, "d/g");
	fixture_delete(fx, ".objectfs/volume");
	assert_int_equal(fixture_list(fx, "", true), -EIO);
	assert_non_null(strstr(fixture_message, "emptied bucket"));
	assert_true(fixture_exists(fx, "f"));
	assert_true(fixture_exists(fx, "d"));
	talloc_free(fixture_put(fx, ".objectfs/volume", another, strlen(another), NULL));
	assert_int_equal(fixture_list(fx, "", true), -EIO);
	assert_non_null(strstr(fixture_message, "another's"));
	talloc_free(fixture_put(fx, ".objectfs/volume", "{}", 2, NULL));
	assert_int_equal(fixture_list(fx, "", true), -EIO);
	assert_true(fixture_exists(fx, "f"));
	assert_true(fixture_exists(fx, "d"));
}

/* A listing that is behind the objects. */
static void test_doubted_listing(void **state)
{
	struct fixture *fx = *state;

	fixture_put_text(fx, "late/f", "1");
	fixture_put_text(fx, "late.txt", "1");
	fixture_put_text(fx, "gone", "1");
	fixture_put_text(fx, "other", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	fixture_delete(fx, "gone");
	fx->conf.doubt_listings = true;
	fixture_fault(fx, OBJ_LIST, "late", FAULT_STALE, OBJ_OK);
	memset(fx->sent, 0, sizeof(fx->sent));
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fx->sent[OBJ_HEAD], 2); /* late.txt, gone */
	assert_int_equal(fx->sent[OBJ_LIST], 2);
	assert_true(fixture_exists(fx, "late") && fixture_exists(fx, "late.txt") && fixture_exists(fx, "other"));
	assert_false(fixture_exists(fx, "gone"));
	/* an answer that is none is no absence */
	fixture_delete(fx, "other");
	fixture_fault(fx, OBJ_HEAD, "share/other", FAULT_FAIL, OBJ_AWAY);
	assert_int_equal(fixture_list(fx, "", true), -EIO);
	assert_true(fixture_exists(fx, "other"));
	/* as every other store is believed */
	fx->conf.doubt_listings = false;
	fixture_fault(fx, OBJ_LIST, "late", FAULT_STALE, OBJ_OK);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "late") || fixture_exists(fx, "late.txt") || fixture_exists(fx, "other"));
}

/* What was written to a file after its object had gone is in limbo/ under its id, and the object comes
 * back: the same id. */
static void test_limbo_keeps_what_was_written(void **state)
{
	struct fixture *fx = *state;
	char name[64] = "gone.";
	struct ofs_record rec;
	struct stat st;
	int fd;

	fixture_put_text(fx, "f", "again");
	assert_int_equal(fixture_list(fx, "", false), 0);
	rec = fixture_record(fx, "f");
	ofs_oid_hex(&rec.oid, name + 5);
	fd = openat(fx->v->limbo_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "written", 7), 7);
	close(fd);
	fixture_delete(fx, "f");
	fixture_put_text(fx, "other", "");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fstatat(fx->v->limbo_fd, name, &st, 0), 0);
	assert_int_equal(st.st_size, 7);
	assert_true(fixture_exists(fx, "f")); /* until somebody has looked at it */
	assert_int_equal(unlinkat(fx->v->limbo_fd, name, 0), 0);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "f"));
}

/* An object of ours: identity, rights, xattrs, blobs. */
static void ours(struct objmeta *meta, const char *value, uint32_t len)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	memset(meta, 0, sizeof(*meta));
	meta->ours = true;
	ofs_oid_new(&meta->oid);
	ofs_oid_new(&meta->node);
	ofs_oid_new(&meta->wid);
	meta->data_gen = 7;
	meta->meta_gen = 9;
	meta->snapshot = s;
	s->mode = 0640;
	s->mtime_ns = 1500000000123456700LL;
	s->btime_ns = s->mtime_ns;
	s->xattrs = calloc(1, sizeof(*s->xattrs));
	s->xattr_count = 1;
	s->xattrs[0].name = strdup("user.colour");
	s->xattrs[0].value = malloc(len);
	memcpy(s->xattrs[0].value, value, len);
	s->xattrs[0].len = len;
	snapshot_split(s, OBJMETA_SNAPSHOT_BUDGET);
}

static void put_blob(struct fixture *fx, const struct objmeta *meta, const char *value,
		uint32_t len)
{
	char *key = objmeta_blob_key("", meta->snapshot->xattrs[0].sha256);

	talloc_free(fixture_put(fx, key, value, len, NULL));
	free(key);
}

static void test_ours(void **state)
{
	struct fixture *fx = *state;
	struct objmeta small, large, lost;
	char big[1000], got[1000];
	struct ofs_record rec;
	struct stat st;
	int fd;

	memset(big, 'b', sizeof(big));
	ours(&small, "red", 3);
	ours(&large, big, sizeof(big));
	assert_true(large.snapshot->xattrs[0].is_blob);
	talloc_free(fixture_put_meta(fx, "small", "12345", 5, &small));
	talloc_free(fixture_put_meta(fx, "small copied", "12345", 5, &small));
	talloc_free(fixture_put_meta(fx, "large", "12345", 5, &large));
	put_blob(fx, &large, big, sizeof(big));
	memset(big, 'c', sizeof(big));
	ours(&lost, big, sizeof(big));
	talloc_free(fixture_put_meta(fx, "lost", "12345", 5, &lost));
	assert_int_equal(fixture_list(fx, "", false), 0);
	/* rights that cannot be restored: not shown, and no other name suffers */
	assert_false(fixture_exists(fx, "lost"));
	assert_int_equal(fixture_count(fx, ""), 3);
	assert_int_equal(fixture_lookup(fx, "", "lost"), -EACCES);
	rec = fixture_record(fx, "small");
	assert_true(fixture_has_oid(fx, "small", &small.oid) !=
			fixture_has_oid(fx, "small copied", &small.oid));
	assert_int_equal(rec.data_gen, 7);
	assert_int_equal(rec.meta_gen, 9);
	assert_true(rec.mtime_ns == small.snapshot->mtime_ns);
	st = fixture_stat(fx, "small");
	assert_int_equal(st.st_mode & 07777, 0640 | OFS_MARKER_MODE);
	fd = fixture_open(fx, "large", O_RDONLY);
	assert_int_equal(fgetxattr(fd, "user.colour", got, sizeof(got)), 1000);
	assert_int_equal(got[999], 'b');
	close(fd);
	/* the blob comes back, then the name */
	put_blob(fx, &lost, big, sizeof(big));
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(fixture_exists(fx, "lost"));
	/* damaged metadata */
	talloc_free(fixture_put(fx, "damaged", "1", 1, "objectfs", "AAAA", NULL));
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "damaged"));
	objmeta_clear(&small);
	objmeta_clear(&large);
	objmeta_clear(&lost);
}

/* Its stub has left the tree; an older version is put back meanwhile. */
static void test_older_rights(void **state)
{
	struct fixture *fx = *state;
	int64_t hidden = stats_get(names_hidden);
	struct objmeta m;
	struct row *row;

	ours(&m, "red", 3);
	talloc_free(fixture_put_meta(fx, "f", "12345", 5, &m));
	assert_int_equal(fixture_list(fx, "", false), 0);
	row = index_get(fx->v->index, &m.oid);
	assert_int_equal(row->s3_meta_gen, 9);
	assert_int_equal(unlinkat(fx->v->tree_fd, "f", 0), 0);
	index_set_live(fx->v->index, row, ROW_NOT_HERE);
	m.meta_gen = 8;
	talloc_free(fixture_put_meta(fx, "f", "older", 5, &m));
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "f"));
	assert_int_equal(fixture_lookup(fx, "", "f"), -EACCES);
	assert_int_equal(stats_get(names_hidden), hidden + 2);
	m.meta_gen = 9; /* the rights it had */
	talloc_free(fixture_put_meta(fx, "f", "newer", 5, &m));
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(fixture_exists(fx, "f"));
	assert_true(fixture_has_oid(fx, "f", &m.oid));
	m.meta_gen = 8; /* and while it is here: they stay, and are sent */
	talloc_free(fixture_put_meta(fx, "f", "again", 5, &m));
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true((fixture_record(fx, "f").flags & OFS_REC_META_DIRTY) != 0);
	assert_int_equal(fixture_record(fx, "f").meta_gen, 10);
	objmeta_clear(&m);
}

/* Here it is of the empty version, and a kill has taken its row; another tool has put bytes meanwhile. */
static void test_row_taken(void **state)
{
	struct fixture *fx = *state;
	struct row *row;
	struct stat st = {0};

	fixture_put_text(fx, "f", "");
	assert_int_equal(fixture_list(fx, "", false), 0);
	row = fixture_row(fx, "f");
	index_clear_s3(fx->v->index, row);
	index_set_live(fx->v->index, row, ROW_NOT_HERE);
	fixture_put_text(fx, "f", "bytes");
	assert_int_equal(fixture_list(fx, "", true), 0);
	FIXTURE_UNTIL(fx, fstatat(fx->v->tree_fd, "f", &st, 0) == 0 && st.st_size == 5);
	assert_true((fixture_record(fx, "f").flags & OFS_REC_STUB) != 0);
	FIXTURE_UNTIL(fx, !mirror_is_listing(fx->v->mirror, &OFS_OID_ROOT));
}

/* What other tools say of modes: READONLY is taken from it, links and devices are not made, nor rights. */
static void test_foreign_modes(void **state)
{
	static const struct {
		const char *name, *value;
		bool read_only;
	} modes[] = {{"mode", "33188", false}, {"mode", "33060", true}, {"mode", "0100444", true},
			{"file-permissions", "0100555", true}, {"mode", "41471", false}, {"mode", "0120777", false},
			{"mode", "0060666", false}, {"mode", "0020666", false}, {"mode", "0010666", false},
			{"mode", "0140777", false}, {"mode", "0106755", false}, {"mode", "16877", false},
			{"file-permissions", "0120444", true}};
	struct fixture *fx = *state;
	uint8_t value[64];
	char name[16];
	struct stat st;
	int fd;

	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		snprintf(name, sizeof(name), "m%u", i);
		talloc_free(fixture_put(fx, name, "../../etc/passwd", 16, modes[i].name, modes[i].value, "uid",
				"0", "gid", "0", NULL));
	}
	assert_int_equal(fixture_list(fx, "", false), 0);
	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		snprintf(name, sizeof(name), "m%u", i);
		st = fixture_stat(fx, name);
		assert_true(S_ISREG(st.st_mode) && st.st_size == 16);
		assert_int_equal(st.st_mode & 07777, 0666 | OFS_MARKER_MODE);
		fd = fixture_open(fx, name, O_RDONLY);
		assert_int_equal(fgetxattr(fd, "user.DOSATTRIB", value, sizeof(value)), modes[i].read_only ? 24 : -1);
		assert_true(!modes[i].read_only || (value[8] == 1 && value[12] == 0x21));
		close(fd);
	}
}

static void test_tombstone(void **state)
{
	struct fixture *fx = *state;
	struct objmeta m;

	memset(&m, 0, sizeof(m));
	m.ours = m.tombstone = true;
	ofs_oid_new(&m.oid);
	talloc_free(fixture_put_meta(fx, "t", "", 0, &m));
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_false(fixture_exists(fx, "t"));
	FIXTURE_UNTIL(fx, !fixture_stored(fx, "t"));
	assert_int_equal(fx->sent[OBJ_DELETE], 1);
	memset(fx->sent, 0, sizeof(fx->sent));
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fx->sent[OBJ_HEAD], 0); /* gone from the bucket */
}

/* Without a conditional delete it must be old: whoever wrote it would go on himself. */
static void test_tombstone_unfenced(void **state)
{
	struct fixture *fx = *state;
	struct objmeta m;

	memset(&m, 0, sizeof(m));
	m.ours = m.tombstone = true;
	ofs_oid_new(&m.oid);
	talloc_free(fixture_put_meta(fx, "t", "", 0, &m));
	fx->v->store->caps.delete_if_match = false;
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_false(fixture_exists(fx, "t"));
	assert_int_equal(fx->sent[OBJ_DELETE], 0);
	fixture_store_ahead(fx, 0);
	fx->wall_ahead_ns = 3600 * NS_PER_S; /* this machine's clock is set: to the store it is as young as before */
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fx->sent[OBJ_DELETE], 0);
	fx->wall_ahead_ns = 0;
	fixture_store_ahead(fx, 3600); /* of an hour ago, by the store's clock */
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "t"));
	FIXTURE_UNTIL(fx, !fixture_stored(fx, "t"));
	assert_int_equal(fx->sent[OBJ_DELETE], 1);
}

static void test_rmdir(void **state)
{
	struct fixture *fx = *state;
	struct row *row;

	fixture_put_text(fx, "d/", "");
	fixture_put_text(fx, "e/x/y", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fixture_rmdir(fx, "", "d"), 0);
	assert_int_equal(fixture_rmdir(fx, "", "e"), -ENOTEMPTY);
	assert_int_equal(fixture_rmdir(fx, "", "nothing"), -ENOENT);
	assert_int_equal(fixture_list(fx, "e", false), 0);
	assert_int_equal(fixture_list(fx, "e/x", false), 0);
	row = fixture_row(fx, "e/x/y");
	index_set_live(fx->v->index, row, ROW_TRASHED); /* S3 does not know yet */
	assert_int_equal(fixture_rmdir(fx, "", "e"), 0);
	fixture_fault(fx, OBJ_LIST, "share/d", FAULT_FAIL, OBJ_AWAY);
	assert_int_equal(fixture_rmdir(fx, "", "d"), -EIO);
}

struct joined {
	bool done;
	int status;
};

static void on_joined(int status, const char *message, void *arg)
{
	struct joined *j = arg;

	(void)message;
	j->done = true;
	j->status = status;
}

static void test_joined(void **state)
{
	struct fixture *fx = *state;
	struct joined j[3];
	unsigned i;

	fixture_put_text(fx, "a", "1");
	memset(j, 0, sizeof(j));
	for (i = 0; i < 3; i++) {
		mirror_list(fx->v->mirror, i, 1, fixture_open(fx, "", O_PATH), i == 2, on_joined, &j[i]);
	}
	for (i = 0; i < 3; i++) {
		fixture_until(fx, &j[i].done);
		assert_int_equal(j[i].status, 0);
	}
	assert_int_equal(fx->sent[OBJ_LIST], 1);
	memset(j, 0, sizeof(j));
	mirror_refresh(fx->v->mirror, 1, "a", on_joined, &j[0]);
	mirror_refresh(fx->v->mirror, 1, "/", on_joined, &j[1]);
	mirror_refresh(fx->v->mirror, 1, "none/below", on_joined, &j[2]);
	for (i = 0; i < 3; i++) {
		fixture_until(fx, &j[i].done);
	}
	assert_int_equal(j[0].status, 0);
	assert_int_equal(j[1].status, 0);
	assert_int_equal(j[2].status, -ENOENT);
}

/* A page is as old as its request: of a row that has changed since it says nothing. */
static void test_changed_meanwhile(void **state)
{
	struct fixture *fx = *state;
	struct joined j = {0};
	struct row *row;

	fixture_put_text(fx, "sent", "1");
	fixture_put_text(fx, "gone", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	fixture_delete(fx, "sent");
	fixture_delete(fx, "gone");
	fixture_fault(fx, OBJ_LIST, "", FAULT_HANG, OBJ_OK);
	mirror_list(fx->v->mirror, 1, 1, fixture_open(fx, "", O_PATH), true, on_joined, &j);
	FIXTURE_UNTIL(fx, fx->hanging != NULL);
	row = fixture_row(fx, "sent"); /* as an upload that ends now leaves it */
	index_set_fence(fx->v->index, row, "another", NULL, &row->wid, 1, row->s3_mtime_ns);
	fixture_release(fx);
	fixture_until(fx, &j.done);
	assert_int_equal(j.status, 0);
	assert_true(fixture_exists(fx, "sent"));
	assert_false(fixture_exists(fx, "gone"));
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "sent"));
}

/* Nobody is connected who could be asked, and a durable handle may come back to the file: however this machine's clock is
 * set it keeps its bytes till then, and no longer. */
static void test_durable(void **state)
{
	static const int64_t set_s[] = {0, 86400, -86400};
	struct fixture *fx = *state;
	struct core *core = talloc_zero(fx->ctx, struct core); /* without a session */
	int64_t now_ns = clock_now_ns(fx->v->clock);

	fx->v->asker = asker_new(fx->v, core);
	fixture_put_text(fx, "f", "first");
	assert_int_equal(fixture_list(fx, "", false), 0);
	fixture_put_text(fx, "f", "the second one");
	atomic_store(&fx->v->shm->durable_until_ns, now_ns + OFS_SHM_DURABLE_NS);
	for (unsigned i = 0; i < sizeof(set_s) / sizeof(set_s[0]); i++) {
		fx->wall_ahead_ns = set_s[i] * NS_PER_S;
		assert_int_equal(fixture_list(fx, "", true), 0);
		assert_int_equal(fixture_stat(fx, "f").st_size, strlen("first"));
	}
	fx->ahead_ns = OFS_SHM_DURABLE_NS;
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fixture_stat(fx, "f").st_size, strlen("the second one"));
	/* What the machine's last life has left says nothing. */
	atomic_store(&fx->v->shm->durable_until_ns, now_ns + 1000 * OFS_SHM_DURABLE_NS);
	fixture_put_text(fx, "f", "3");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fixture_stat(fx, "f").st_size, 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(list),
		T(failing_list),
		T(remote_change),
		T(remote_delete),
		T(emptied_bucket),
		T(doubted_listing),
		T(limbo_keeps_what_was_written),
		T(ours),
		T(older_rights),
		T(row_taken),
		T(foreign_modes),
		T(tombstone),
		T(tombstone_unfenced), T(durable),
		T(rmdir),
		T(joined),
		T(changed_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
