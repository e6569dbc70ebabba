/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What mirror/ does on the local disk itself: paths that are too long for the kernel stay below the tree, and what a
 * stop, or somebody who had a file open, has left in limbo/ goes only if S3 has all there is of it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/mirror/mirror_private.h"
#include "tests/lib/mirror_fixture.h"

#define DEEP 20 /* directories of LONG bytes each: more than PATH_MAX */
#define LONG 240

/* ---- paths ---- */

/* DEEP directories in each other, in the last one the file "f", and links that lead out. The path of that one. */
static char *deep_make(struct fixture *fx)
{
	char name[LONG + 1], *path = calloc(1, DEEP * (LONG + 1) + 1);
	int at = dup(fx->v->tree_fd), next;

	assert_non_null(path);
	memset(name, 'd', LONG);
	name[LONG] = '\0';
	for (unsigned i = 0; i < DEEP; i++) {
		assert_int_equal(mkdirat(at, name, 0700), 0);
		next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(at);
		at = next;
		strcat(strcat(path, i > 0 ? "/" : ""), name);
	}
	next = openat(at, "f", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(next >= 0 && write(next, "deep", 4) == 4);
	close(next);
	assert_int_equal(symlinkat("/", at, "out"), 0);
	assert_int_equal(symlinkat("f", at, "link"), 0);
	close(at);
	return path;
}

/* What mirror_open_beneath says of dir/rest. */
static int beneath(struct fixture *fx, const char *dir, const char *rest, int flags)
{
	char *path = NULL;
	int fd;

	assert_true(asprintf(&path, "%s/%s", dir, rest) > PATH_MAX);
	fd = mirror_open_beneath(fx->v->tree_fd, path, flags);
	free(path);
	return fd;
}

static void test_long_paths(void **state)
{
	struct fixture *fx = *state;
	char *dir = deep_make(fx), long_name[NAME_MAX + 2], text[8] = "";
	struct stat st, tree;
	int fd = beneath(fx, dir, "f", O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, text, sizeof(text)), 4);
	assert_string_equal(text, "deep");
	assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	close(fd);
	fd = beneath(fx, dir, "///", O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	assert_int_equal(fstatat(fd, "f", &st, 0), 0);
	close(fd);
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	assert_int_equal(beneath(fx, dir, "none", O_RDONLY), -ENOENT);
	assert_int_equal(beneath(fx, dir, "none/f", O_RDONLY), -ENOENT);
	assert_int_equal(beneath(fx, dir, "f/f", O_RDONLY), -ENOTDIR);
	assert_int_equal(beneath(fx, dir, long_name, O_RDONLY), -ENAMETOOLONG);
	/* not out of the tree, nor by a link */
	assert_int_equal(beneath(fx, dir, "../f", O_RDONLY), -EXDEV);
	assert_int_equal(beneath(fx, dir, "..", O_RDONLY), -EXDEV);
	assert_int_equal(beneath(fx, dir, "out/etc", O_RDONLY), -ENOTDIR);
	assert_int_equal(beneath(fx, dir, "out", O_RDONLY), -ELOOP);
	assert_int_equal(beneath(fx, dir, "link", O_RDONLY), -ELOOP);
	free(dir);
	/* short ones, which the kernel follows, alike */
	assert_int_equal(symlinkat("/", fx->v->tree_fd, "out"), 0);
	assert_int_equal(mirror_open_beneath(fx->v->tree_fd, "..", O_RDONLY), -EXDEV);
	assert_int_equal(mirror_open_beneath(fx->v->tree_fd, "out/etc", O_RDONLY), -ELOOP);
	assert_int_equal(mirror_open_beneath(fx->v->tree_fd, "none", O_RDONLY), -ENOENT);
	assert_int_equal(fstat(fx->v->tree_fd, &tree), 0);
	for (int i = 0; i < 2; i++) {
		fd = mirror_open_beneath(fx->v->tree_fd, i ? "" : NULL, O_RDONLY);
		assert_true(fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == tree.st_ino);
		close(fd);
	}
	/* whose mark of having been listed is to go, and is another by now */
	{
		struct mirror_place p = mirror_place_of(fx->v->mirror);
		struct ofs_oid other;

		ofs_oid_new(&other);
		assert_int_equal(mirror_unlist(&p, "", &other), -ESTALE);
		assert_int_equal(mirror_unlist(&p, "none", &other), -ENOENT);
		assert_int_equal(mirror_unlist(&p, "out", &other), -ELOOP);
		assert_int_equal(mirror_unlist(&p, "", &OFS_OID_ROOT), 0);
	}
}

/* ---- limbo/ ---- */

/* In limbo/, with a record of these flags; 0: without one. */
static void left(struct fixture *fx, const char *name, bool is_dir, uint32_t flags)
{
	struct ofs_record rec = {.flags = flags};
	int fd;

	if (is_dir) {
		assert_int_equal(mkdirat(fx->v->limbo_fd, name, 0700), 0);
	}
	fd = openat(fx->v->limbo_fd, name, is_dir ? O_RDONLY | O_DIRECTORY : O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	ofs_oid_new(&rec.oid);
	if (flags != 0) {
		assert_int_equal(ofs_record_set(&fx->v->rio, fd, &rec), 0);
	}
	close(fd);
}

static bool lies(struct fixture *fx, const char *name)
{
	struct stat st;

	return fstatat(fx->v->limbo_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A daemon starts: an earlier one's scratch goes, and of removals what S3 has. */
static void test_sweep(void **state)
{
	struct fixture *fx = *state;
	struct mirror *was = fx->v->mirror;
	char earlier[64];

	snprintf(earlier, sizeof(earlier), "new.%s.1", was->token);
	left(fx, "new.0.file", false, 0);
	left(fx, "new.0.dir", true, 0);
	left(fx, "gone.clean", false, OFS_REC_KNOWN);
	left(fx, "gone.stub", false, OFS_REC_KNOWN | OFS_REC_STUB);
	left(fx, "gone.empty", true, OFS_REC_DIR | OFS_REC_KNOWN);
	left(fx, "gone.bytes", false, OFS_REC_KNOWN | OFS_REC_DATA_DIRTY);
	left(fx, "gone.rights", false, OFS_REC_KNOWN | OFS_REC_META_DIRTY);
	left(fx, "gone.unknown", false, 0);
	left(fx, "gone.full", true, OFS_REC_DIR | OFS_REC_KNOWN);
	left(fx, "gone.full/f", false, OFS_REC_KNOWN);
	left(fx, "of-somebody", false, OFS_REC_KNOWN);
	left(fx, earlier, false, 0);
	talloc_free(was);
	fx->v->mirror = mirror_new(fx->ctx, fx->v);
	assert_non_null(fx->v->mirror);
	FIXTURE_UNTIL(fx, !lies(fx, "new.0.file") && !lies(fx, "new.0.dir") && !lies(fx, earlier) &&
			!lies(fx, "gone.clean") && !lies(fx, "gone.stub") && !lies(fx, "gone.empty"));
	assert_true(lies(fx, "gone.bytes") && lies(fx, "gone.rights") && lies(fx, "gone.unknown"));
	assert_true(lies(fx, "gone.full/f") && lies(fx, "of-somebody"));
}

/* Files that were read when their objects went: once they are closed they go, unless somebody has written. */
static void test_limbo_drop(void **state)
{
	struct fixture *fx = *state;
	struct mirror_place p = mirror_place_of(fx->v->mirror);
	struct ofs_record rec;
	char name[64] = "gone.";
	int fd;

	memset(&rec, 0, sizeof(rec));
	ofs_oid_new(&rec.oid);
	ofs_oid_hex(&rec.oid, name + 5);
	assert_int_equal(mirror_limbo_drop(&p, &rec.oid), 0); /* is not there: settled */
	fd = openat(fx->v->limbo_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(mirror_limbo_drop(&p, &rec.oid), -EAGAIN);
	close(fd);
	assert_int_equal(mirror_limbo_drop(&p, &rec.oid), 0); /* no record: it stays, and is told */
	assert_true(lies(fx, name));
	for (int i = 0; i < 2; i++) {
		rec.flags = OFS_REC_KNOWN | (i == 0 ? OFS_REC_DATA_DIRTY : 0);
		fd = openat(fx->v->limbo_fd, name, O_RDWR | O_CLOEXEC);
		assert_true(fd >= 0);
		assert_int_equal(ofs_record_set(&p.rio, fd, &rec), 0);
		assert_int_equal(mirror_limbo_drop(&p, &rec.oid), -EAGAIN);
		close(fd);
		assert_int_equal(mirror_limbo_drop(&p, &rec.oid), 0);
		assert_int_equal(lies(fx, name), i == 0);
	}
}

/* A directory, or a file, is gone from the bucket, and what a crash has left of an earlier one is in the way. */
static void test_limbo_in_the_way(void **state)
{
	struct fixture *fx = *state;
	char name[64] = "gone.", inside[80];
	struct ofs_record rec;

	fixture_put_text(fx, "d/", "");
	fixture_put_text(fx, "d/g", "1");
	fixture_put_text(fx, "f", "1");
	fixture_put_text(fx, "other", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fixture_list(fx, "d", false), 0);
	rec = fixture_record(fx, "d");
	ofs_oid_hex(&rec.oid, name + 5);
	left(fx, name, true, OFS_REC_DIR | OFS_REC_KNOWN);
	snprintf(inside, sizeof(inside), "%s/mine", name);
	left(fx, inside, false, OFS_REC_DATA_DIRTY);
	fixture_delete(fx, "d/");
	fixture_delete(fx, "d/g");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(lies(fx, inside) && fixture_exists(fx, "d/g")); /* until somebody has looked */
	assert_int_equal(unlinkat(fx->v->limbo_fd, inside, 0), 0);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "d") || lies(fx, name));
	rec = fixture_record(fx, "f");
	ofs_oid_hex(&rec.oid, name + 5);
	left(fx, name, false, OFS_REC_KNOWN);
	fixture_delete(fx, "f");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "f") || lies(fx, name));
	assert_true(fixture_exists(fx, "other"));
}

/* A directory is gone from the bucket; of what lies in it here something is nobody's, changed, or in use. */
static void test_directory_with_more(void **state)
{
	static const char *const names[] = {"pipe", "link", "new", "dir", "changed", "open"};
	struct fixture *fx = *state;
	struct ofs_record rec;
	char path[64];
	int fd = -1;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/g", names[i]);
		fixture_put_text(fx, path, "1");
	}
	fixture_put_text(fx, "plain/sub/g", "1");
	fixture_put_text(fx, "other", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fixture_list(fx, "plain", false), 0);
	assert_int_equal(fixture_list(fx, "plain/sub", false), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(fixture_list(fx, names[i], false), 0);
		snprintf(path, sizeof(path), "%s/g", names[i]);
		fixture_delete(fx, path);
	}
	fixture_delete(fx, "plain/sub/g");
	assert_int_equal(mkfifoat(fx->v->tree_fd, "pipe/p", 0600), 0);
	assert_int_equal(symlinkat("x", fx->v->tree_fd, "link/l"), 0);
	fd = openat(fx->v->tree_fd, "new/n", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(mkdirat(fx->v->tree_fd, "dir/d", 0700), 0);
	rec = fixture_record(fx, "changed/g");
	rec.flags |= OFS_REC_META_DIRTY;
	fixture_record_set(fx, "changed/g", &rec);
	fd = fixture_open(fx, "open/g", O_RDONLY);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "plain"));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/g", names[i]);
		assert_true(fixture_exists(fx, path));
	}
	assert_true(fixture_exists(fx, "new/n") && fixture_exists(fx, "dir/d"));
	close(fd);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "open"));
	assert_true(fixture_exists(fx, "changed/g") && fixture_exists(fx, "new/n") && fixture_exists(fx, "other"));
	assert_int_equal(fixture_count(fx, "../limbo"), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(long_paths),
		T(sweep),
		T(limbo_drop),
		T(limbo_in_the_way),
		T(directory_with_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
