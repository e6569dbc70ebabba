/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whatever a store answers, and whichever directory is meant: an error is never an absence (rule 6). What is in the mirror
 * stays, what is not known is not shown, and with the next good answer all is there.
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/mirror/mirror_private.h"
#include "tests/lib/mirror_fixture.h"

/* ---- what a store answers ---- */

static int errno_of(enum obj_status st)
{
	return st == OBJ_DENIED ? -EACCES : st == OBJ_LOCAL ? -ENOMEM : st == OBJ_CANCELLED ? -ECANCELED : -EIO;
}

static void test_each_status(void **state)
{
	struct fixture *fx = *state;
	char name[32];
	int ret;

	fixture_put_text(fx, "d/", "");
	fixture_put_text(fx, "here", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	for (int st = OBJ_NOT_FOUND; st < OBJ_STATUS_MAX; st++) {
		snprintf(name, sizeof(name), "new%d", st);
		fixture_put_text(fx, name, "1");
		/* the listing fails, NoSuchKey to a LIST included: nothing is known */
		fixture_fault(fx, OBJ_LIST, "share/", FAULT_FAIL, (enum obj_status)st);
		ret = fixture_list(fx, "", true);
		assert_int_equal(ret, st == OBJ_NOT_FOUND ? -EIO : errno_of((enum obj_status)st));
		ret = fixture_rmdir(fx, "", "d");
		assert_int_equal(ret, st == OBJ_NOT_FOUND ? -EIO : errno_of((enum obj_status)st));
		assert_true(fixture_exists(fx, "here") && fixture_exists(fx, "d") && !fixture_exists(fx, name));
		/* what is listed cannot be asked */
		fixture_fault(fx, OBJ_HEAD, name, FAULT_FAIL, (enum obj_status)st);
		ret = fixture_lookup(fx, "", name);
		if (st == OBJ_NOT_FOUND) {
			assert_int_equal(ret, -ENOENT);
		} else {
			assert_true(ret != 0 && ret != -ENOENT);
		}
		ret = fixture_list(fx, "", true);
		assert_int_equal(ret, st == OBJ_NOT_FOUND || st == OBJ_INVALID ? 0 : errno_of((enum obj_status)st));
		assert_true(fixture_exists(fx, "here") && fixture_exists(fx, "d") && !fixture_exists(fx, name));
		fixture_fault(fx, OBJ_LIST, "", FAULT_NONE, OBJ_OK);
		fx->ahead_ns += 3600 * NS_PER_S;
		assert_int_equal(fixture_lookup(fx, "", name), 0);
		assert_true(fixture_exists(fx, name));
	}
}

/* Rights in a blob that is not to be had for now, or not at all. */
static void short_body(struct obj_req *req)
{
	req->result.body_len -= req->result.body_len > 0 ? 1 : 0;
}

static void test_blob(void **state)
{
	struct fixture *fx = *state;
	struct objmeta m = {.ours = true, .data_gen = 1, .meta_gen = 1};
	struct snapshot *s = calloc(1, sizeof(*s));
	char big[3000], got[3000], *key;
	int ret, fd;

	memset(big, 'b', sizeof(big));
	ofs_oid_new(&m.oid);
	ofs_oid_new(&m.node);
	ofs_oid_new(&m.wid);
	m.snapshot = s;
	s->mode = 0600;
	s->xattrs = calloc(1, sizeof(*s->xattrs));
	s->xattr_count = 1;
	s->xattrs[0].name = strdup("user.colour");
	s->xattrs[0].value = malloc(sizeof(big));
	memcpy(s->xattrs[0].value, big, sizeof(big));
	s->xattrs[0].len = sizeof(big);
	snapshot_split(s, OBJMETA_SNAPSHOT_BUDGET);
	assert_true(s->xattrs[0].is_blob);
	talloc_free(fixture_put_meta(fx, "f", "1", 1, &m));
	key = objmeta_blob_key("", s->xattrs[0].sha256);
	talloc_free(fixture_put(fx, key, big, sizeof(big), NULL));
	free(key);
	for (int st = OBJ_NOT_FOUND; st < OBJ_STATUS_MAX; st++) {
		fixture_fault(fx, OBJ_GET, "/blob/", FAULT_FAIL, (enum obj_status)st);
		ret = fixture_lookup(fx, "", "f");
		assert_true(ret != 0 && ret != -ENOENT);
		if (st == OBJ_NOT_FOUND || st == OBJ_INVALID) {
			assert_int_equal(ret, -EACCES);
		}
		assert_false(fixture_exists(fx, "f"));
		fx->ahead_ns += 3600 * NS_PER_S;
	}
	fixture_fault(fx, OBJ_GET, "/blob/", FAULT_EDIT, OBJ_OK);
	fx->fault_edit = short_body;
	assert_int_equal(fixture_lookup(fx, "", "f"), -EACCES);
	assert_non_null(strstr(fixture_message, "damaged"));
	assert_false(fixture_exists(fx, "f"));
	fixture_fault(fx, OBJ_LIST, "", FAULT_NONE, OBJ_OK);
	assert_int_equal(fixture_lookup(fx, "", "f"), 0);
	fd = fixture_open(fx, "f", O_RDONLY);
	assert_int_equal(fgetxattr(fd, "user.colour", got, sizeof(got)), sizeof(big));
	assert_memory_equal(got, big, sizeof(big));
	close(fd);
	/* another file with the same rights: the blob is remembered */
	ofs_oid_new(&m.oid);
	talloc_free(fixture_put_meta(fx, "g", "1", 1, &m));
	memset(fx->sent, 0, sizeof(fx->sent));
	assert_int_equal(fixture_lookup(fx, "", "g"), 0);
	assert_int_equal(fx->sent[OBJ_GET], 0);
	objmeta_clear(&m);
}

/* ---- which directory is meant ---- */

struct told {
	bool done;
	int status;
};

static void on_told(int status, const char *message, void *arg)
{
	struct told *t = arg;

	(void)message;
	t->status = status;
	t->done = true;
}

/* By its descriptor, which goes with it. */
static int list_fd(struct fixture *fx, int fd)
{
	struct told t = {0};

	assert_true(fd >= 0);
	mirror_list(fx->v->mirror, 1, 1, fd, true, on_told, &t);
	fixture_until(fx, &t.done);
	return t.status;
}

static int lookup_fd(struct fixture *fx, int fd, const char *name)
{
	struct told t = {0};

	assert_true(fd >= 0);
	mirror_lookup(fx->v->mirror, 1, fd, name, on_told, &t);
	fixture_until(fx, &t.done);
	return t.status;
}

static int rmdir_fd(struct fixture *fx, int fd, const char *name)
{
	struct told t = {0};

	assert_true(fd >= 0);
	mirror_rmdir_check(fx->v->mirror, 1, fd, name, on_told, &t);
	fixture_until(fx, &t.done);
	return t.status;
}

/* Not below the tree, not there any more, no directory: an error, and nothing is asked of S3 or made anywhere. */
static void test_elsewhere(void **state)
{
	static const char *const bad[] = {"", ".", "..", "a/b"};
	struct fixture *fx = *state;
	char long_name[300];
	int fd;

	fixture_put_text(fx, "d/f", "1");
	fixture_put_text(fx, "f", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	memset(fx->sent, 0, sizeof(fx->sent));
	assert_int_equal(list_fd(fx, dup(fx->v->trash_fd)), -EXDEV);
	assert_int_equal(lookup_fd(fx, dup(fx->v->trash_fd), "f"), -EXDEV);
	assert_true(rmdir_fd(fx, dup(fx->v->trash_fd), "d") != 0);
	assert_true(list_fd(fx, fixture_open(fx, "f", O_PATH)) != 0);
	assert_true(lookup_fd(fx, fixture_open(fx, "f", O_PATH), "f") != 0);
	assert_int_equal(mkdirat(fx->v->tree_fd, "gone", 0700), 0);
	fd = fixture_open(fx, "gone", O_PATH);
	assert_int_equal(unlinkat(fx->v->tree_fd, "gone", AT_REMOVEDIR), 0);
	assert_true(list_fd(fx, dup(fd)) != 0);
	assert_true(lookup_fd(fx, fd, "f") != 0);
	memset(long_name, 'n', sizeof(long_name));
	long_name[sizeof(long_name) - 1] = '\0';
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(fixture_lookup(fx, "", bad[i]), -EINVAL);
		assert_int_equal(fixture_rmdir(fx, "", bad[i]), -EINVAL);
	}
	assert_int_equal(fixture_lookup(fx, "", long_name), -EINVAL);
	assert_int_equal(fx->sent[OBJ_HEAD] + fx->sent[OBJ_LIST], 0);
	assert_int_equal(fixture_count(fx, "../trash"), 0);
}

/* Made by a local program, or their records are damaged: they get new ones on the way, and hold what was below them. */
static void test_unknown_directories(void **state)
{
	static const uint8_t nonsense[128] = "no record";
	struct fixture *fx = *state;
	struct ofs_oid oid;
	int fd;

	fixture_put_text(fx, "d/e/f", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fixture_list(fx, "d", false), 0);
	assert_int_equal(mkdirat(fx->v->tree_fd, "d/new", 0777), 0);
	assert_int_equal(mkdirat(fx->v->tree_fd, "d/new/sub", 0777), 0);
	assert_int_equal(fixture_list(fx, "d/new/sub", true), 0);
	assert_int_equal(fixture_count(fx, "d/new/sub"), 0);
	assert_true((fixture_record(fx, "d/new").flags & OFS_REC_META_DIRTY) != 0);
	assert_true((fixture_record(fx, "d/new/sub").flags & OFS_REC_META_DIRTY) != 0);
	assert_false(fixture_row(fx, "d/new/sub")->in_s3);
	oid = fixture_record(fx, "d/e").oid;
	fd = fixture_open(fx, "d/e", O_RDONLY);
	assert_int_equal(fsetxattr(fd, fx->v->rio.xattr, nonsense, sizeof(nonsense), 0), 0);
	close(fd);
	(void)fixture_list(fx, "d/e", true);
	assert_false(fixture_has_oid(fx, "d/e", &oid));
	assert_true((fixture_record(fx, "d/e").flags & OFS_REC_DIR) != 0);
	/* the root's: it is the root */
	assert_int_equal(fsetxattr(fx->v->tree_fd, fx->v->rio.xattr, nonsense, sizeof(nonsense), 0), 0);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(fixture_has_oid(fx, "", &OFS_OID_ROOT));
	assert_true(fixture_exists(fx, "d") && fixture_exists(fx, "d/new/sub"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(each_status),
		T(blob),
		T(elsewhere),
		T(unknown_directories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
