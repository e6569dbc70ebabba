/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The mirror: which names the keys of a bucket have in the tree, and which file has a name. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cached/base/stats.h"
#include "cached/mirror/mirror_private.h"
#include "tests/lib/mirror_fixture.h"

static void test_pages(void **state)
{
	struct fixture *fx = *state;
	struct timespec old[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};
	char key[32];
	int i;

	for (i = 0; i < 1005; i++) {
		snprintf(key, sizeof(key), "d/n%04d", i);
		fixture_put_text(fx, key, "z");
	}
	fixture_put_text(fx, "d/n0500/below", "z");
	assert_int_equal(fixture_lookup(fx, "", "d"), 0);
	assert_int_equal(utimensat(fx->v->tree_fd, "d", old, 0), 0);
	assert_int_equal(fixture_list(fx, "d", false), 0);
	assert_int_equal(fixture_stat(fx, "d").st_mtim.tv_sec, 1000); /* batches side by side */
	/* of the two with one name the directory has it */
	assert_int_equal(fixture_count(fx, "d"), 1006);
	assert_true(fixture_is_dir(fx, "d/n0500"));
	assert_int_equal(fixture_stat(fx, "d/%~n0500%file").st_size, 1);
	assert_int_equal(fx->sent[OBJ_LIST] >= 2, 1);
	assert_int_equal(fixture_list(fx, "d", true), 0);
	assert_int_equal(fixture_count(fx, "d"), 1006);
}

static void test_lookup(void **state)
{
	struct fixture *fx = *state;

	fixture_put_text(fx, "a/b/c", "text");
	fixture_put_text(fx, "e", "1");
	fixture_put_text(fx, "ab", "1");
	assert_int_equal(fixture_lookup(fx, "", "nothing"), -ENOENT);
	assert_int_equal(fixture_lookup(fx, "", "e"), 0);
	assert_int_equal(fixture_count(fx, ""), 1);
	assert_int_equal(fixture_lookup(fx, "", "a"), 0);
	assert_true(fixture_is_dir(fx, "a"));
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
	assert_int_equal(fixture_lookup(fx, "", "q"), -EIO);
	assert_non_null(strstr(fixture_message, "for a test"));
	fx->v->state = VOLUME_READY;
}

/* What S3 is behind with is left alone. */
static void test_pending_places(void **state)
{
	struct fixture *fx = *state;
	struct row *row;

	fixture_put_text(fx, "deleted", "1");
	fixture_put_text(fx, "moved", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	row = fixture_row(fx, "deleted");
	index_set_live(fx->v->index, row, ROW_TRASHED);
	assert_int_equal(unlinkat(fx->v->tree_fd, "deleted", 0), 0);
	row = fixture_row(fx, "moved");
	assert_int_equal(renameat(fx->v->tree_fd, "moved", fx->v->tree_fd, "there"), 0);
	index_set_here(fx->v->index, row, &OFS_OID_ROOT, "there", row->ino);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fixture_count(fx, ""), 1);
	assert_true(fixture_exists(fx, "there"));
	assert_int_equal(fixture_lookup(fx, "", "deleted"), -ENOENT);
	assert_int_equal(fixture_lookup(fx, "", "moved"), -ENOENT);
}

/* The name went in a power cut, the row stayed: it comes back, as what it was. */
static void test_name_lost(void **state)
{
	struct fixture *fx = *state;
	struct ofs_oid oid;

	fixture_put_text(fx, "a", "1");
	fixture_put_text(fx, "b", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	oid = fixture_record(fx, "a").oid;
	assert_int_equal(unlinkat(fx->v->tree_fd, "a", 0), 0);
	assert_int_equal(unlinkat(fx->v->tree_fd, "b", 0), 0);
	assert_int_equal(fixture_lookup(fx, "", "b"), 0);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(fixture_exists(fx, "a") && fixture_exists(fx, "b"));
	assert_true(fixture_has_oid(fx, "a", &oid));
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
	fixture_put_text(fx, "both", "file");
	fixture_put_text(fx, "both/x", "1");
	fixture_put_text(fx, "alone", "1");
	assert_int_equal(fixture_lookup(fx, "", "%~alone%file"), -ENOENT);
	assert_int_equal(fixture_lookup(fx, "", "%~both%file"), 0);
	assert_int_equal(fixture_lookup(fx, "", "both"), 0);
	assert_true(fixture_is_dir(fx, "both") && !fixture_is_dir(fx, "%~both%file"));
	assert_int_equal(stats_get(files_beside), counted + 1);
	file = fixture_record(fx, "%~both%file").oid;

	/* the file first, then the directory */
	fixture_put_text(fx, "early", "file");
	fixture_put_text(fx, "late/x", "1");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_is_dir(fx, "early"));
	early = fixture_record(fx, "early").oid;
	fixture_put_text(fx, "early/x", "1");
	fixture_put_text(fx, "late", "file");
	fd = fixture_open(fx, "early", O_RDWR); /* somebody has it open: asked again soon */
	fx->conf.listing_age_ns = 900 * NS_PER_S;
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(fixture_record(fx, "").listed_ns < mirror_wall_ns() - 860 * NS_PER_S);
	assert_false(fixture_is_dir(fx, "early"));
	assert_false(fixture_exists(fx, "%~early%file"));
	assert_int_equal(read(fd, buf, sizeof(buf)), 4);
	close(fd);
	assert_int_equal(futimens(fx->v->tree_fd, old), 0);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(fixture_is_dir(fx, "early") && fixture_is_dir(fx, "late"));
	assert_true(fixture_has_oid(fx, "%~early%file", &early));
	assert_true(fixture_exists(fx, "%~late%file"));
	assert_true(fixture_record(fx, "").listed_ns > mirror_wall_ns() - 60 * NS_PER_S);
	assert_int_equal(stats_get(files_beside), counted + 3);
	assert_int_equal(fixture_list(fx, "early", false), 0);
	assert_true(fixture_exists(fx, "early/x"));
	assert_int_equal(fixture_stat(fx, ".").st_mtim.tv_sec, 1000); /* no client changed it */

	/* a change of the one is none of the other; the key of the file is no child of the directory */
	fixture_put_text(fx, "both", "longer than before");
	fixture_delete(fx, "late");
	fixture_delete(fx, "early/x");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fixture_stat(fx, "%~both%file").st_size, 18);
	assert_true(fixture_has_oid(fx, "%~both%file", &file));
	assert_true(fixture_is_dir(fx, "late") && !fixture_exists(fx, "%~late%file"));
	assert_int_equal(fixture_list(fx, "late", true), 0);
	assert_true(fixture_exists(fx, "late/x"));

	/* the directory went: the file has its name again */
	assert_true(fixture_has_oid(fx, "early", &early));
	assert_false(fixture_exists(fx, "%~early%file"));

	/* the row says otherwise than the tree: killed, or the power went, in between */
	assert_int_equal(renameat(fx->v->tree_fd, "early", fx->v->tree_fd, "%~early%file"), 0);
	fixture_put_text(fx, "early/x", "1");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(fixture_is_dir(fx, "early") && fixture_has_oid(fx, "%~early%file", &early));
	assert_int_equal(unlinkat(fx->v->tree_fd, "%~early%file", 0), 0);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(fixture_is_dir(fx, "early") && fixture_has_oid(fx, "%~early%file", &early));
}

/* The rows are gone, the files are there under the names they had. */
static void test_beside_index_lost(void **state)
{
	struct fixture *fx = *state;
	struct ofs_oid came, went;
	int fd;

	fixture_put_text(fx, "came", "file");
	fixture_put_text(fx, "went", "file");
	fixture_put_text(fx, "went/x", "1");
	assert_int_equal(fixture_list(fx, "", true), 0);
	came = fixture_record(fx, "came").oid;
	went = fixture_record(fx, "%~went%file").oid;
	fixture_put_text(fx, "came/x", "1");
	fixture_delete(fx, "went/x");
	assert_int_equal(unlinkat(fx->v->tree_fd, "went", AT_REMOVEDIR), 0);
	fixture_index_again(fx, true);
	fd = fixture_open(fx, "came", O_RDONLY);
	fixture_lookup(fx, "", "%~came%file");
	assert_false(fixture_exists(fx, "%~came%file")); /* in use: not twice in the tree */
	close(fd);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(fixture_has_oid(fx, "%~came%file", &came) && fixture_is_dir(fx, "came"));
	assert_true(fixture_has_oid(fx, "went", &went));
	assert_int_equal(fixture_count(fx, ""), 3);
}

/* What the client deleted or moved under that name is not there again for the other's sake. */
static void test_beside_pending(void **state)
{
	struct fixture *fx = *state;
	struct row *row;

	fixture_put_text(fx, "a", "file");
	fixture_put_text(fx, "a/x", "1");
	assert_int_equal(fixture_lookup(fx, "", "%~a%file"), 0);
	row = fixture_row(fx, "%~a%file");
	index_set_live(fx->v->index, row, ROW_TRASHED);
	assert_int_equal(unlinkat(fx->v->tree_fd, "%~a%file", 0), 0);
	assert_int_equal(fixture_lookup(fx, "", "%~a%file"), -ENOENT);
	assert_int_equal(fixture_lookup(fx, "", "a"), 0); /* the directory is asked for all the same */
	assert_true(fixture_is_dir(fx, "a"));
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_false(fixture_exists(fx, "%~a%file"));
	/* the directory goes here first: the file keeps its name while S3 has keys below */
	fixture_put_text(fx, "b", "file");
	fixture_put_text(fx, "b/x", "1");
	assert_int_equal(fixture_list(fx, "", true), 0);
	index_set_live(fx->v->index, fixture_row(fx, "b"), ROW_TRASHED);
	assert_int_equal(unlinkat(fx->v->tree_fd, "b", AT_REMOVEDIR), 0);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_true(fixture_exists(fx, "%~b%file") && !fixture_exists(fx, "b"));
	assert_int_equal(fixture_lookup(fx, "", "b"), -ENOENT);
}

static void test_index_lost(void **state)
{
	struct fixture *fx = *state;
	struct ofs_record rec;

	fixture_put_text(fx, "d/e/f", "1");
	fixture_put_text(fx, "d/e/g", "1");
	assert_int_equal(fixture_lookup(fx, "", "d"), 0);
	assert_int_equal(fixture_lookup(fx, "d", "e"), 0);
	assert_int_equal(mkdirat(fx->v->tree_fd, "local", 0777), 0);
	fixture_index_again(fx, true);
	assert_int_equal(fixture_list(fx, "d/e", true), 0);
	assert_int_equal(fixture_count(fx, "d/e"), 2);
	assert_true(fixture_row(fx, "d")->in_s3);
	/* made behind our back: gets a record, is not said to be in S3 */
	assert_int_equal(fixture_list(fx, "local", true), 0);
	rec = fixture_record(fx, "local");
	assert_true(rec.flags & OFS_REC_META_DIRTY);
	assert_true(rec.flags & OFS_REC_LISTED);
	assert_false(fixture_row(fx, "local")->in_s3);
	assert_int_equal(fixture_lookup(fx, "local", "x"), -ENOENT);
}

/* A client was faster: its file stays, and does not inherit the object's fence. */
static void test_name_taken(void **state)
{
	struct fixture *fx = *state;

	fixture_write(fx, "a", "mine");
	fixture_put_text(fx, "a", "theirs, longer");
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fixture_stat(fx, "a").st_size, 4);
	assert_null(index_at_s3(fx->v->index, &OFS_OID_ROOT, "a", false));
	assert_int_equal(fixture_lookup(fx, "", "a"), 0);
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
	assert_int_equal(mirror_marker_set(NULL, fd, true), -EINVAL);
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
	fixture_put_text(fx, "../up", "1");
	fixture_put_text(fx, "a//b", "1");
	fixture_put_text(fx, longer, "1");
	fixture_put_text(fx, "\xc3\xbc" "ber", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fixture_count(fx, ""), 4);
	assert_int_equal(fixture_list(fx, "a", false), 0);
	assert_int_equal(fixture_count(fx, "a"), 1);
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fixture_count(fx, ""), 4);
}

struct other_mount {
	const char *path;
	int fd, error, status;
	bool done;
	sem_t opened, over; /* the namespace is there as long as its thread */
};

static void *other_mount_open(void *arg)
{
	struct other_mount *o = arg;

	o->fd = unshare(CLONE_NEWNS) == 0 ? open(o->path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	o->error = errno;
	sem_post(&o->opened);
	sem_wait(&o->over);
	return NULL;
}

static void other_mount_answered(int status, const char *message, void *arg)
{
	struct other_mount *o = arg;

	(void)message;
	o->status = status;
	o->done = true;
}

/* smbd may have a mount namespace of its own: what it has open is of another mount of the same tree. */
static void test_other_mount(void **state)
{
	struct fixture *fx = *state;
	char link[64], path[256];
	struct other_mount o = {.path = path};
	pthread_t thread;
	ssize_t n;

	fixture_put_text(fx, "f", "1");
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fx->v->tree_fd);
	n = readlink(link, path, sizeof(path) - 1);
	assert_true(n > 0);
	path[n] = '\0';
	sem_init(&o.opened, 0, 0);
	sem_init(&o.over, 0, 0);
	assert_int_equal(pthread_create(&thread, NULL, other_mount_open, &o), 0);
	sem_wait(&o.opened);
	if (o.fd >= 0) {
		mirror_lookup(fx->v->mirror, 1, o.fd, "f", other_mount_answered, &o);
		fixture_until(fx, &o.done);
	}
	sem_post(&o.over);
	assert_int_equal(pthread_join(thread, NULL), 0);
	sem_destroy(&o.opened);
	sem_destroy(&o.over);
	if (o.fd < 0) {
		assert_int_equal(o.error, EPERM);
		skip();
	}
	assert_int_equal(o.status, 0);
	assert_true(fixture_exists(fx, "f"));
}

/* The first page of what is below it comes with nothing in it, and more behind. */
static void edit_empty_page(struct obj_req *req)
{
	struct obj_result *r = &req->result;

	if (req->token != NULL) {
		return;
	}
	for (unsigned i = 0; i < r->entry_count; i++) {
		free(r->entries[i].key);
		r->entries[i].key = NULL;
	}
	free(r->next_token);
	r->next_token = strdup(req->key);
}

static void test_empty_page(void **state)
{
	struct fixture *fx = *state;

	fixture_put_text(fx, "d/f", "1");
	fixture_fault(fx, OBJ_LIST, "share/d/", FAULT_EDIT, OBJ_OK);
	fx->fault_edit = edit_empty_page;
	assert_int_equal(fixture_lookup(fx, "", "d"), 0);
	assert_true(fixture_is_dir(fx, "d"));
	assert_int_equal(fx->sent[OBJ_LIST], 2);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(pages),
		T(lookup),
		T(pending_places),
		T(name_lost),
		T(beside),
		T(beside_index_lost),
		T(beside_pending),
		T(index_lost),
		T(name_taken),
		T(beneath),
		T(strange_keys),
		T(other_mount),
		T(empty_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
