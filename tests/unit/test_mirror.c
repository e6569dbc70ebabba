/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The mirror: names from a real directory store into a real tree, and what must not happen to it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/base/stats.h"
#include "cached/mirror/mirror_private.h"
#include "tests/lib/mirror_fixture.h"

static int setup(void **state)
{
	*state = fixture_new();
	return 0;
}

static int teardown(void **state)
{
	fixture_free((struct fixture **)state);
	return 0;
}

static void put(struct fixture *fx, const char *key, const char *text)
{
	talloc_free(fixture_put(fx, key, text, strlen(text), NULL));
}

static unsigned count_names(struct fixture *fx, const char *path)
{
	DIR *d = fdopendir(fixture_open(fx, path, O_RDONLY | O_DIRECTORY));
	struct dirent *de;
	unsigned n = 0;

	assert_non_null(d);
	while ((de = readdir(d)) != NULL) {
		n += de->d_name[0] != '.' || (de->d_name[1] != '\0' && de->d_name[1] != '.');
	}
	closedir(d);
	return n;
}

static struct stat stat_of(struct fixture *fx, const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(fx->v->tree_fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

static void write_local(struct fixture *fx, const char *path, const char *text)
{
	int fd = openat(fx->v->tree_fd, path, O_RDWR | O_CREAT | O_TRUNC, 0666);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static struct row *row_of(struct fixture *fx, const char *path)
{
	struct ofs_record rec = fixture_record(fx, path);

	return index_get(fx->v->index, &rec.oid);
}

static bool has_oid(struct fixture *fx, const char *path, const struct ofs_oid *oid)
{
	struct ofs_record rec = fixture_record(fx, path);

	return ofs_oid_equal(&rec.oid, oid);
}

static void test_list(void **state)
{
	struct fixture *fx = *state;
	struct timespec old[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};
	int64_t listings = stats_get(listings), stubs = stats_get(stubs_made);
	struct ofs_record rec;
	const struct row *row;
	struct stat st;

	talloc_free(fixture_put(fx, "file", "hello", 5, "mtime", "1600000000.25", NULL));
	put(fx, "empty", "");
	put(fx, "dir/sub/deep", "x");
	put(fx, "made/", "");
	assert_int_equal(futimens(fx->v->tree_fd, old), 0);
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(count_names(fx, ""), 4);
	assert_false(fixture_exists(fx, ".objectfs"));
	st = stat_of(fx, "file");
	assert_int_equal(st.st_size, 5);
	assert_int_equal(st.st_blocks * 512 > 4096, 0);
	assert_int_equal(st.st_mode & 07777, 0666 | OFS_MARKER_MODE);
	rec = fixture_record(fx, "file");
	assert_int_equal(rec.flags, OFS_REC_STUB | OFS_REC_KNOWN);
	assert_int_equal(rec.size, 5);
	assert_true(rec.mtime_ns == 1600000000250000000LL);
	assert_int_equal(stat_of(fx, "empty").st_mode & 07777, 0666);
	assert_int_equal(fixture_record(fx, "empty").flags, OFS_REC_KNOWN);
	assert_int_equal(fixture_record(fx, "dir").flags, OFS_REC_DIR);
	assert_int_equal(fixture_record(fx, "made").flags, OFS_REC_DIR | OFS_REC_KNOWN);
	assert_true(fixture_record(fx, "").flags & OFS_REC_LISTED);
	assert_int_equal(stat_of(fx, ".").st_mtim.tv_sec, 1000); /* no client changed it */
	row = row_of(fx, "file");
	assert_true(row != NULL && row->in_s3 && row->live == ROW_HERE && row->etag != NULL);
	assert_string_equal(row->s3_name, "file");
	assert_int_equal(row->ino, st.st_ino);
	assert_true(row_of(fx, "made")->has_object);
	assert_false(row_of(fx, "dir")->has_object);
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
	assert_int_equal(stat_of(fx, "dir/sub/deep").st_size, 1);
}

static void test_pages(void **state)
{
	struct fixture *fx = *state;
	struct timespec old[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};
	char key[32];
	int i;

	for (i = 0; i < 1005; i++) {
		snprintf(key, sizeof(key), "d/n%04d", i);
		put(fx, key, "z");
	}
	put(fx, "d/n0500/below", "z");
	assert_int_equal(fixture_lookup(fx, "", "d"), 0);
	assert_int_equal(utimensat(fx->v->tree_fd, "d", old, 0), 0);
	assert_int_equal(fixture_list(fx, "d", false), 0);
	assert_int_equal(stat_of(fx, "d").st_mtim.tv_sec, 1000); /* batches side by side */
	/* of the two with one name the directory has it */
	assert_int_equal(count_names(fx, "d"), 1006);
	assert_true(S_ISDIR(stat_of(fx, "d/n0500").st_mode));
	assert_int_equal(stat_of(fx, "d/%~n0500%file").st_size, 1);
	assert_int_equal(fx->sent[OBJ_LIST] >= 2, 1);
	assert_int_equal(fixture_list(fx, "d", true), 0);
	assert_int_equal(count_names(fx, "d"), 1006);
}

static void test_lookup(void **state)
{
	struct fixture *fx = *state;

	put(fx, "a/b/c", "text");
	put(fx, "e", "1");
	put(fx, "ab", "1");
	assert_int_equal(fixture_lookup(fx, "", "nothing"), -ENOENT);
	assert_int_equal(fixture_lookup(fx, "", "e"), 0);
	assert_int_equal(count_names(fx, ""), 1);
	assert_int_equal(fixture_lookup(fx, "", "a"), 0);
	assert_true(S_ISDIR(stat_of(fx, "a").st_mode));
	assert_int_equal(fixture_lookup(fx, "a", "b"), 0);
	assert_int_equal(fixture_lookup(fx, "a/b", "c"), 0);
	assert_int_equal(fixture_lookup(fx, "a/b", "d"), -ENOENT);
	assert_int_equal(fixture_lookup(fx, "", ".objectfs"), -ENOENT);
	assert_int_equal(fixture_lookup(fx, "", ".."), -EINVAL);
	assert_int_equal(fixture_lookup(fx, "", "x/y"), -EINVAL);
	assert_int_equal(fixture_record(fx, "").flags & OFS_REC_LISTED, 0);
	memset(fx->sent, 0, sizeof(fx->sent));
	assert_int_equal(fixture_lookup(fx, "", "e"), 0); /* here: no question */
	assert_int_equal(fx->sent[OBJ_HEAD] + fx->sent[OBJ_LIST], 0);
	/* unknown is not absent */
	fixture_fault(fx, OBJ_HEAD, "share/q", FAULT_FAIL, OBJ_AWAY);
	assert_int_equal(fixture_lookup(fx, "", "q"), -EIO);
	fixture_fault(fx, OBJ_LIST, "share/q", FAULT_FAIL, OBJ_DENIED);
	assert_int_equal(fixture_lookup(fx, "", "q"), -EACCES);
	fixture_fault(fx, OBJ_LIST, "", FAULT_NONE, OBJ_OK);
	fx->v->state = VOLUME_HELD;
	fx->v->state_why = "for a test";
	assert_int_equal(fixture_lookup(fx, "", "q"), -EROFS);
	assert_non_null(strstr(fixture_message, "for a test"));
	fx->v->state = VOLUME_READY;
}

static void test_failing_list(void **state)
{
	struct fixture *fx = *state;

	put(fx, "a", "1");
	put(fx, "b", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	fixture_delete(fx, "a");
	put(fx, "c", "1");
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

	put(fx, "f", "one");
	put(fx, "open", "one");
	put(fx, "dirty", "one");
	assert_int_equal(fixture_list(fx, "", false), 0);
	/* "f" has become resident */
	rec = fixture_record(fx, "f");
	rec.flags &= ~(uint32_t)OFS_REC_STUB;
	fixture_record_set(fx, "f", &rec);
	write_local(fx, "f", "one");
	assert_int_equal(fchmodat(fx->v->tree_fd, "f", 0640, 0), 0);
	rec = fixture_record(fx, "dirty");
	rec.flags = OFS_REC_KNOWN | OFS_REC_DATA_DIRTY;
	fixture_record_set(fx, "dirty", &rec);
	assert_int_equal(fchmodat(fx->v->tree_fd, "dirty", 0666, 0), 0);
	write_local(fx, "dirty", "mine");
	was = stat_of(fx, "f");
	fd = fixture_open(fx, "open", O_RDONLY);
	put(fx, "f", "two and more");
	put(fx, "open", "two and more");
	put(fx, "dirty", "two and more");
	assert_int_equal(fixture_list(fx, "", true), 0);
	st = stat_of(fx, "f");
	assert_int_equal(st.st_ino, was.st_ino);
	assert_int_equal(st.st_size, 12);
	assert_int_equal(st.st_mode & 07777, 0640 | OFS_MARKER_MODE); /* rights stay */
	rec = fixture_record(fx, "f");
	assert_int_equal(rec.flags, OFS_REC_STUB | OFS_REC_KNOWN);
	assert_int_equal(rec.size, 12);
	assert_int_equal(row_of(fx, "f")->s3_size, 12);
	assert_int_equal(stat_of(fx, "open").st_size, 3);
	assert_int_equal(row_of(fx, "open")->s3_size, 3);
	assert_int_equal(stat_of(fx, "dirty").st_size, 4);
	close(fd);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(stat_of(fx, "open").st_size, 12);
	/* to nothing: plain at once */
	put(fx, "f", "");
	assert_int_equal(fixture_list(fx, "", true), 0);
	st = stat_of(fx, "f");
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

	put(fx, "f", "1");
	put(fx, "open", "1");
	put(fx, "dirty", "1");
	put(fx, "d/e/f", "1");
	put(fx, "busy/e/f", "1");
	put(fx, "keep", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fixture_list(fx, "d", false), 0);
	assert_int_equal(fixture_list(fx, "d/e", false), 0);
	assert_int_equal(fixture_list(fx, "busy", false), 0);
	assert_int_equal(fixture_list(fx, "busy/e", false), 0);
	write_local(fx, "busy/e/new", "mine"); /* no record: new and dirty */
	write_local(fx, "new", "mine");
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
	put(fx, "keep/child", "1");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(S_ISDIR(stat_of(fx, "keep").st_mode));
	fixture_delete(fx, "keep/child");
	put(fx, "keep", "123");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(stat_of(fx, "keep").st_size, 3);
}

/* The bucket was emptied, or is another: nothing is removed. */
static void test_emptied_bucket(void **state)
{
	struct fixture *fx = *state;

	put(fx, "f", "1");
	put(fx, "d/g", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	fixture_delete(fx, "f");
	fixture_delete(fx, "d/g");
	fixture_delete(fx, ".objectfs/volume");
	assert_int_equal(fixture_list(fx, "", true), -EIO);
	assert_non_null(strstr(fixture_message, "emptied bucket"));
	assert_true(fixture_exists(fx, "f"));
	assert_true(fixture_exists(fx, "d"));
}

static void test_brake(void **state)
{
	struct fixture *fx = *state;
	char key[32];
	int i;

	for (i = 0; i < 1100; i++) {
		snprintf(key, sizeof(key), "n%04d", i);
		put(fx, key, "");
	}
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(count_names(fx, ""), 1100);
	for (i = 0; i < 1050; i++) {
		snprintf(key, sizeof(key), "n%04d", i);
		fixture_delete(fx, key);
	}
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(count_names(fx, ""), 1100);
	assert_int_equal(stats_get(removals_held), 1050);
	fx->conf.accept_removals = true;
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(count_names(fx, ""), 50);
	assert_int_equal(stats_get(removals_held), 0);
}

/* An object of ours: identity, rights, xattrs, blobs. */
static void ours(struct fixture *fx, struct objmeta *meta, const char *value, uint32_t len)
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
	(void)fx;
}

static void put_blob(struct fixture *fx, const struct objmeta *meta, const char *value, uint32_t len)
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
	ours(fx, &small, "red", 3);
	ours(fx, &large, big, sizeof(big));
	assert_true(large.snapshot->xattrs[0].is_blob);
	talloc_free(fixture_put_meta(fx, "small", "12345", 5, &small));
	talloc_free(fixture_put_meta(fx, "small copied", "12345", 5, &small));
	talloc_free(fixture_put_meta(fx, "large", "12345", 5, &large));
	put_blob(fx, &large, big, sizeof(big));
	memset(big, 'c', sizeof(big));
	ours(fx, &lost, big, sizeof(big));
	talloc_free(fixture_put_meta(fx, "lost", "12345", 5, &lost));
	assert_int_equal(fixture_list(fx, "", false), 0);
	/* rights that cannot be restored: not shown, and no other name suffers */
	assert_false(fixture_exists(fx, "lost"));
	assert_int_equal(count_names(fx, ""), 3);
	assert_int_equal(fixture_lookup(fx, "", "lost"), -EACCES);
	rec = fixture_record(fx, "small");
	assert_true(has_oid(fx, "small", &small.oid) != has_oid(fx, "small copied", &small.oid));
	assert_int_equal(rec.data_gen, 7);
	assert_int_equal(rec.meta_gen, 9);
	assert_true(rec.mtime_ns == small.snapshot->mtime_ns);
	st = stat_of(fx, "small");
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

static void test_tombstone(void **state)
{
	struct fixture *fx = *state;
	struct objmeta m;
	struct obj_req *req;

	memset(&m, 0, sizeof(m));
	m.ours = m.tombstone = true;
	ofs_oid_new(&m.oid);
	talloc_free(fixture_put_meta(fx, "t", "", 0, &m));
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_false(fixture_exists(fx, "t"));
	fixture_idle(fx, 50);
	req = objstore_req_new(OBJ_HEAD, "share/t");
	objstore_req_free(&req);
	assert_int_equal(fx->sent[OBJ_DELETE], 1);
	memset(fx->sent, 0, sizeof(fx->sent));
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fx->sent[OBJ_HEAD], 0); /* gone from the bucket */
}

static void test_rmdir(void **state)
{
	struct fixture *fx = *state;
	struct row *row;

	put(fx, "d/", "");
	put(fx, "e/x/y", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fixture_rmdir(fx, "", "d"), 0);
	assert_int_equal(fixture_rmdir(fx, "", "e"), -ENOTEMPTY);
	assert_int_equal(fixture_rmdir(fx, "", "nothing"), -ENOENT);
	assert_int_equal(fixture_list(fx, "e", false), 0);
	assert_int_equal(fixture_list(fx, "e/x", false), 0);
	row = row_of(fx, "e/x/y");
	index_set_live(fx->v->index, row, ROW_TRASHED); /* S3 does not know yet */
	assert_int_equal(fixture_rmdir(fx, "", "e"), 0);
	fixture_fault(fx, OBJ_LIST, "share/d", FAULT_FAIL, OBJ_AWAY);
	assert_int_equal(fixture_rmdir(fx, "", "d"), -EIO);
}

/* What S3 is behind with is left alone. */
static void test_pending_places(void **state)
{
	struct fixture *fx = *state;
	struct row *row;

	put(fx, "deleted", "1");
	put(fx, "moved", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	row = row_of(fx, "deleted");
	index_set_live(fx->v->index, row, ROW_TRASHED);
	assert_int_equal(unlinkat(fx->v->tree_fd, "deleted", 0), 0);
	row = row_of(fx, "moved");
	assert_int_equal(renameat(fx->v->tree_fd, "moved", fx->v->tree_fd, "there"), 0);
	index_set_here(fx->v->index, row, &OFS_OID_ROOT, "there", row->ino);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(count_names(fx, ""), 1);
	assert_true(fixture_exists(fx, "there"));
	assert_int_equal(fixture_lookup(fx, "", "deleted"), -ENOENT);
	assert_int_equal(fixture_lookup(fx, "", "moved"), -ENOENT);
}

/* The name went in a power cut, the row stayed: it comes back, as what it was. */
static void test_name_lost(void **state)
{
	struct fixture *fx = *state;
	struct ofs_oid oid;

	put(fx, "a", "1");
	put(fx, "b", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	oid = fixture_record(fx, "a").oid;
	assert_int_equal(unlinkat(fx->v->tree_fd, "a", 0), 0);
	assert_int_equal(unlinkat(fx->v->tree_fd, "b", 0), 0);
	assert_int_equal(fixture_lookup(fx, "", "b"), 0);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(fixture_exists(fx, "a") && fixture_exists(fx, "b"));
	assert_true(has_oid(fx, "a", &oid));
}

static bool is_dir(struct fixture *fx, const char *path)
{
	return S_ISDIR(stat_of(fx, path).st_mode);
}

/* Of "a" and "a/b" the directory is a and the file %~a%file, in whatever order they came. */
static void test_beside(void **state)
{
	struct fixture *fx = *state;
	int64_t counted = stats_get(files_beside);
	struct timespec old[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};
	struct ofs_oid file, early;
	char buf[8];
	int fd;

	/* both at once; each by its name, before any listing */
	put(fx, "both", "file");
	put(fx, "both/x", "1");
	put(fx, "alone", "1");
	assert_int_equal(fixture_lookup(fx, "", "%~alone%file"), -ENOENT);
	assert_int_equal(fixture_lookup(fx, "", "%~both%file"), 0);
	assert_int_equal(fixture_lookup(fx, "", "both"), 0);
	assert_true(is_dir(fx, "both") && !is_dir(fx, "%~both%file"));
	assert_int_equal(stats_get(files_beside), counted + 1);
	file = fixture_record(fx, "%~both%file").oid;

	/* the file first, then the directory */
	put(fx, "early", "file");
	put(fx, "late/x", "1");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(is_dir(fx, "early"));
	early = fixture_record(fx, "early").oid;
	put(fx, "early/x", "1");
	put(fx, "late", "file");
	fd = fixture_open(fx, "early", O_RDWR); /* somebody has it open: asked again soon */
	fx->conf.listing_age_ns = 900 * NS_PER_S;
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(fixture_record(fx, "").listed_ns < mirror_wall_ns() - 860 * NS_PER_S);
	assert_false(is_dir(fx, "early"));
	assert_false(fixture_exists(fx, "%~early%file"));
	assert_int_equal(read(fd, buf, sizeof(buf)), 4);
	close(fd);
	assert_int_equal(futimens(fx->v->tree_fd, old), 0);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(is_dir(fx, "early") && is_dir(fx, "late"));
	assert_true(has_oid(fx, "%~early%file", &early));
	assert_true(fixture_exists(fx, "%~late%file"));
	assert_true(fixture_record(fx, "").listed_ns > mirror_wall_ns() - 60 * NS_PER_S);
	assert_int_equal(stats_get(files_beside), counted + 3);
	assert_int_equal(fixture_list(fx, "early", false), 0);
	assert_true(fixture_exists(fx, "early/x"));
	assert_int_equal(stat_of(fx, ".").st_mtim.tv_sec, 1000); /* no client changed it */

	/* a change of the one is none of the other; the key of the file is no child of the directory */
	put(fx, "both", "longer than before");
	fixture_delete(fx, "late");
	fixture_delete(fx, "early/x");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(stat_of(fx, "%~both%file").st_size, 18);
	assert_true(has_oid(fx, "%~both%file", &file));
	assert_true(is_dir(fx, "late") && !fixture_exists(fx, "%~late%file"));
	assert_int_equal(fixture_list(fx, "late", true), 0);
	assert_true(fixture_exists(fx, "late/x"));

	/* the directory went: the file has its name again */
	assert_true(has_oid(fx, "early", &early));
	assert_false(fixture_exists(fx, "%~early%file"));

	/* the row says otherwise than the tree: killed, or the power went, in between */
	assert_int_equal(renameat(fx->v->tree_fd, "early", fx->v->tree_fd, "%~early%file"), 0);
	put(fx, "early/x", "1");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(is_dir(fx, "early") && has_oid(fx, "%~early%file", &early));
	assert_int_equal(unlinkat(fx->v->tree_fd, "%~early%file", 0), 0);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(is_dir(fx, "early") && has_oid(fx, "%~early%file", &early));
}

/* The rows are gone, the files are there under the names they had. */
static void test_beside_index_lost(void **state)
{
	struct fixture *fx = *state;
	struct ofs_oid came, went;
	int fd;

	put(fx, "came", "file");
	put(fx, "went", "file");
	put(fx, "went/x", "1");
	assert_int_equal(fixture_list(fx, "", true), 0);
	came = fixture_record(fx, "came").oid;
	went = fixture_record(fx, "%~went%file").oid;
	put(fx, "came/x", "1");
	fixture_delete(fx, "went/x");
	assert_int_equal(unlinkat(fx->v->tree_fd, "went", AT_REMOVEDIR), 0);
	fixture_index_again(fx, true);
	fd = fixture_open(fx, "came", O_RDONLY);
	fixture_lookup(fx, "", "%~came%file");
	assert_false(fixture_exists(fx, "%~came%file")); /* in use: not twice in the tree */
	close(fd);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(has_oid(fx, "%~came%file", &came) && is_dir(fx, "came"));
	assert_true(has_oid(fx, "went", &went));
	assert_int_equal(count_names(fx, ""), 3);
}

/* What the client deleted or moved under that name is not there again for the other's sake. */
static void test_beside_pending(void **state)
{
	struct fixture *fx = *state;
	struct row *row;

	put(fx, "a", "file");
	put(fx, "a/x", "1");
	assert_int_equal(fixture_lookup(fx, "", "%~a%file"), 0);
	row = row_of(fx, "%~a%file");
	index_set_live(fx->v->index, row, ROW_TRASHED);
	assert_int_equal(unlinkat(fx->v->tree_fd, "%~a%file", 0), 0);
	assert_int_equal(fixture_lookup(fx, "", "%~a%file"), -ENOENT);
	assert_int_equal(fixture_lookup(fx, "", "a"), 0); /* the directory is asked for all the same */
	assert_true(is_dir(fx, "a"));
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "%~a%file"));
	/* the directory goes here first: the file keeps its name while S3 has keys below */
	put(fx, "b", "file");
	put(fx, "b/x", "1");
	assert_int_equal(fixture_list(fx, "", true), 0);
	index_set_live(fx->v->index, row_of(fx, "b"), ROW_TRASHED);
	assert_int_equal(unlinkat(fx->v->tree_fd, "b", AT_REMOVEDIR), 0);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(fixture_exists(fx, "%~b%file") && !fixture_exists(fx, "b"));
	assert_int_equal(fixture_lookup(fx, "", "b"), -ENOENT);
}

static void test_index_lost(void **state)
{
	struct fixture *fx = *state;
	struct ofs_record rec;

	put(fx, "d/e/f", "1");
	put(fx, "d/e/g", "1");
	assert_int_equal(fixture_lookup(fx, "", "d"), 0);
	assert_int_equal(fixture_lookup(fx, "d", "e"), 0);
	assert_int_equal(mkdirat(fx->v->tree_fd, "local", 0777), 0);
	fixture_index_again(fx, true);
	assert_int_equal(fixture_list(fx, "d/e", true), 0);
	assert_int_equal(count_names(fx, "d/e"), 2);
	assert_true(row_of(fx, "d")->in_s3);
	/* made behind our back: gets a record, is not said to be in S3 */
	assert_int_equal(fixture_list(fx, "local", true), 0);
	rec = fixture_record(fx, "local");
	assert_true(rec.flags & OFS_REC_META_DIRTY);
	assert_true(rec.flags & OFS_REC_LISTED);
	assert_false(row_of(fx, "local")->in_s3);
	assert_int_equal(fixture_lookup(fx, "local", "x"), -ENOENT);
}

/* A client was faster: its file stays, and does not inherit the object's fence. */
static void test_name_taken(void **state)
{
	struct fixture *fx = *state;

	write_local(fx, "a", "mine");
	put(fx, "a", "theirs, longer");
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(stat_of(fx, "a").st_size, 4);
	assert_null(index_at_s3(fx->v->index, &OFS_OID_ROOT, "a", false));
	assert_int_equal(fixture_lookup(fx, "", "a"), 0);
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

	put(fx, "a", "1");
	memset(j, 0, sizeof(j));
	for (i = 0; i < 3; i++) {
		mirror_list(fx->v->mirror, i, fixture_open(fx, "", O_PATH), i == 2, on_joined, &j[i]);
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

static void test_beneath(void **state)
{
	struct fixture *fx = *state;
	int fd;

	assert_int_equal(mkdirat(fx->v->tree_fd, "d", 0777), 0);
	assert_int_equal(symlinkat("/etc", fx->v->tree_fd, "link"), 0);
	assert_int_equal(symlinkat("d", fx->v->tree_fd, "near"), 0);
	fd = mirror_open_beneath(fx->v->tree_fd, "d", O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	assert_int_equal(mirror_marker_set(fd, true), -EINVAL);
	close(fd);
	assert_int_equal(mirror_open_beneath(fx->v->tree_fd, "link/passwd", O_RDONLY), -ELOOP);
	assert_int_equal(mirror_open_beneath(fx->v->tree_fd, "near", O_RDONLY), -ELOOP);
	assert_int_equal(mirror_open_beneath(fx->v->tree_fd, "../trash", O_RDONLY), -EXDEV);
	assert_int_equal(mirror_open_beneath(fx->v->tree_fd, "/etc", O_RDONLY), -EXDEV);
	fd = mirror_open_beneath(fx->v->tree_fd, "", O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	close(fd);
}

/* Keys that are no legal names. */
static void test_strange_keys(void **state)
{
	struct fixture *fx = *state;
	char longer[400];

	memset(longer, 'l', 300);
	longer[300] = '\0';
	put(fx, "../up", "1");
	put(fx, "a//b", "1");
	put(fx, longer, "1");
	put(fx, "\xc3\xbc" "ber", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(count_names(fx, ""), 4);
	assert_int_equal(fixture_list(fx, "a", false), 0);
	assert_int_equal(count_names(fx, "a"), 1);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(count_names(fx, ""), 4);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(list),
		T(pages),
		T(lookup),
		T(failing_list),
		T(remote_change),
		T(remote_delete),
		T(emptied_bucket),
		T(brake),
		T(ours),
		T(tombstone),
		T(rmdir),
		T(pending_places),
		T(name_lost),
		T(beside),
		T(beside_index_lost),
		T(beside_pending),
		T(index_lost),
		T(name_taken),
		T(joined),
		T(beneath),
		T(strange_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
