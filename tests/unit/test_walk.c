/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The mirror: listings one after the other are answered by few requests, and by the same rules. */
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
#include "cached/base/stats.h"
#include "cached/mirror/mirror_private.h"
#include "cached/mirror/walk.h"
#include "tests/lib/mirror_fixture.h"

#define SUBS 30
#define FILES 3

static void watched(void *arg, const struct row *row, enum index_change change)
{
	struct fixture *fx = arg;

	if (!row->is_dir && change != INDEX_OTHER) {
		mirror_row_changes(fx->v->mirror, row);
	}
	walk_row_changes(fx->v->mirror, row, change);
}

static void put(struct fixture *fx, const char *key)
{
	fixture_put_text(fx, key, key);
}

/* Directories top/00 ... with files 0 ... */
static void fill(struct fixture *fx, const char *top)
{
	char key[64];

	for (int s = 0; s < SUBS; s++) {
		for (int f = 0; f < FILES; f++) {
			snprintf(key, sizeof(key), "%s/%02d/%d", top, s, f);
			put(fx, key);
		}
	}
}

struct asked {
	bool done;
	int status;
};

static void on_listed(int status, const char *message, void *arg)
{
	struct asked *a = arg;

	(void)message;
	a->done = true;
	a->status = status;
}

static void list_begin(struct fixture *fx, struct asked *a, uint64_t client, const char *path, bool refresh)
{
	memset(a, 0, sizeof(*a));
	mirror_list(fx->v->mirror, 1, client, fixture_open(fx, path, O_PATH), refresh, on_listed, a);
}

static void list_end(struct fixture *fx, struct asked *a)
{
	fixture_until(fx, &a->done);
	assert_int_equal(a->status, 0);
}

/* LISTs that it takes. */
static unsigned list(struct fixture *fx, uint64_t client, const char *path)
{
	unsigned before = fx->sent[OBJ_LIST];
	struct asked a;

	list_begin(fx, &a, client, path, false);
	list_end(fx, &a);
	return fx->sent[OBJ_LIST] - before;
}

/* top/from ... top/to-1, one after the other. */
static unsigned walk(struct fixture *fx, uint64_t client, const char *top, int from, int to)
{
	unsigned lists = 0;
	char path[64];

	for (int s = from; s < to; s++) {
		snprintf(path, sizeof(path), "%s/%02d", top, s);
		lists += list(fx, client, path);
	}
	return lists;
}

static void expire(struct fixture *fx)
{
	fx->ahead_ns += 2 * fx->conf.listing_age_ns;
}

/* A walk under way: all has come, "", a, and of that 00 to 03 are listed. */
static void begin(struct fixture *fx)
{
	index_watch(fx->v->index, watched, fx);
	fill(fx, "a");
	fill(fx, "b");
	assert_int_equal(list(fx, 1, ""), 1);
	assert_int_equal(list(fx, 1, "a"), 1);
	assert_int_equal(walk(fx, 1, "a", 0, 4), 2); /* 00, and the sweep */
}

static void test_counts(void **state)
{
	struct fixture *fx = *state;
	int64_t pages = stats_get(walk_pages), dirs = stats_get(walk_dirs);
	struct ofs_record rec;

	begin(fx);
	memset(fx->sent, 0, sizeof(fx->sent));
	assert_int_equal(walk(fx, 1, "a", 4, SUBS), 0);
	assert_int_equal(fx->sent[OBJ_HEAD], (SUBS - 4) * FILES); /* each may have metadata */
	assert_int_equal(stats_get(walk_pages) - pages, 1);
	assert_int_equal(stats_get(walk_dirs) - dirs, SUBS - 1); /* from 01 on */
	/* Another part: of all that has come no directory need be asked whether it has an object. */
	memset(fx->sent, 0, sizeof(fx->sent));
	assert_int_equal(list(fx, 1, "b") + walk(fx, 1, "b", 0, SUBS), 0);
	assert_int_equal(fx->sent[OBJ_HEAD], SUBS * FILES);
	assert_int_equal(fixture_count(fx, "a/29"), FILES);
	rec = fixture_record(fx, "a/29");
	assert_true((rec.flags & OFS_REC_LISTED) != 0);
	/* Again, when all of it is over its age, from somewhere else: a, and then all, since it leaves a. */
	expire(fx);
	memset(fx->sent, 0, sizeof(fx->sent));
	assert_int_equal(walk(fx, 1, "a", 0, SUBS), 3 + 1);
	assert_int_equal(walk(fx, 1, "b", 0, SUBS), 1);
	assert_int_equal(fx->sent[OBJ_HEAD], 0);
}

/* Many: of all directories of one page at once the rows are asked for in any order. */
static void test_order(void **state)
{
	struct fixture *fx = *state;

	begin(fx);
	assert_int_equal(walk(fx, 1, "a", 20, SUBS) + walk(fx, 1, "a", 4, 20), 0);
	assert_int_equal(fixture_count(fx, "a/15"), FILES);
}

static void test_others(void **state)
{
	struct fixture *fx = *state;
	struct ofs_record rec;
	int64_t before = clock_wall_ns(fx->v->clock), middle;

	begin(fx);
	middle = clock_wall_ns(fx->v->clock);
	/* What others do is seen by the next listing, as the one that is as old as this one would. */
	put(fx, "a/05/new");
	fixture_delete(fx, "a/05/1");
	assert_int_equal(walk(fx, 1, "a", 5, 6), 0);
	assert_false(fixture_exists(fx, "a/05/new"));
	assert_false(fixture_exists(fx, "a/05/1")); /* its HEAD said so */
	rec = fixture_record(fx, "a/05");
	assert_true(rec.listed_ns >= before && rec.listed_ns <= middle);
	/* A refresh has what is there now. */
	put(fx, "a/06/new");
	assert_int_equal(fixture_list(fx, "a/06", true), 0);
	assert_true(fixture_exists(fx, "a/06/new"));
	/* Pages of a time that has not come yet, as this machine's clock was set back, are not used. */
	fx->wall_ahead_ns = -86400 * NS_PER_S;
	put(fx, "a/09/new");
	assert_true(walk(fx, 1, "a", 9, 10) > 0);
	assert_true(fixture_exists(fx, "a/09/new"));
	fx->wall_ahead_ns = 0;
	/* Pages that are half as old as listings may be are not used any more. */
	fx->ahead_ns += fx->conf.listing_age_ns / 2 + NS_PER_S;
	put(fx, "a/07/new");
	assert_true(walk(fx, 1, "a", 7, 8) > 0);
	assert_true(fixture_exists(fx, "a/07/new"));
	expire(fx);
	assert_true(list(fx, 1, "a/05") > 0);
	assert_true(fixture_exists(fx, "a/05/new"));
}

/* What has come or gone here since its page was asked for is not concluded from. */
static void test_ours(void **state)
{
	struct fixture *fx = *state;
	struct ofs_oid oid;
	struct row *row;

	begin(fx);
	put(fx, "a/05/new");
	put(fx, "a/06/dir/file");
	assert_int_equal(fixture_lookup(fx, "a/05", "new"), 0); /* a row and a stub, which the page lacks */
	assert_int_equal(fixture_lookup(fx, "a/06", "dir"), 0);
	assert_int_equal(walk(fx, 1, "a", 5, 7), 2);
	assert_true(fixture_exists(fx, "a/05/new"));
	assert_true(fixture_exists(fx, "a/06/dir"));
	/* A file of ours that has left S3. */
	assert_int_equal(fixture_lookup(fx, "a/07", "1"), 0);
	row = fixture_row(fx, "a/07/1");
	oid = row->oid;
	assert_int_equal(walk(fx, 1, "a", 8, 9), 0);
	fixture_delete(fx, "a/07/1");
	index_clear_s3(fx->v->index, row);
	assert_int_equal(walk(fx, 1, "a", 7, 8), 1);
	assert_false(index_get(fx->v->index, &oid)->in_s3);
}

/* A directory's rename ends what was listed of the old keys, and of half of the new ones. */
static void test_renamed(void **state)
{
	struct fixture *fx = *state;
	struct row *row;
	char key[32];

	index_watch(fx->v->index, watched, fx);
	fill(fx, "a");
	list(fx, 1, "");
	list(fx, 1, "a");
	assert_int_equal(fixture_lookup(fx, "a/05", "1"), 0);
	put(fx, "a/other/0"); /* copied first */
	assert_int_equal(walk(fx, 1, "a", 0, 4), 2);
	for (int f = 0; f < FILES; f++) {
		snprintf(key, sizeof(key), "a/05/%d", f);
		fixture_delete(fx, key);
		snprintf(key, sizeof(key), "a/other/%d", f);
		put(fx, key);
	}
	row = fixture_row(fx, "a/05");
	index_set_s3(fx->v->index, row, &fixture_row(fx, "a")->oid, "other");
	assert_true(walk(fx, 1, "a", 5, 6) > 0);
	assert_int_equal(fixture_count(fx, "a/05"), FILES);
}

/* So it is for who waits for a page then: he asks for his own, and not while the index is at work. */
static void test_renamed_waiting(void **state)
{
	struct fixture *fx = *state;
	struct asked walker;
	unsigned lists;

	index_watch(fx->v->index, watched, fx);
	fill(fx, "a");
	list(fx, 1, "");
	list(fx, 1, "a");
	assert_int_equal(walk(fx, 1, "a", 0, 1), 1);
	fixture_fault(fx, OBJ_LIST, "share/", FAULT_HANG, OBJ_OK);
	list_begin(fx, &walker, 1, "a/01", false);
	FIXTURE_UNTIL(fx, fx->hanging != NULL);
	fx->fault = FAULT_NONE;
	lists = fx->sent[OBJ_LIST];
	index_set_s3(fx->v->index, fixture_row(fx, "a/05"), &fixture_row(fx, "a")->oid, "other");
	assert_int_equal(fx->sent[OBJ_LIST], lists);
	list_end(fx, &walker);
	assert_int_equal(fx->sent[OBJ_LIST], lists + 1);
	assert_int_equal(fixture_count(fx, "a/01"), FILES);
	fixture_release(fx);
	assert_int_equal(walk(fx, 1, "a", 2, 3), 1); /* the sweep that was on its way is nobody's */
}

/* An object that lies apart, below the old key of a file that is called otherwise now, follows its name: what the page
 * says of the directory that it was in is not used. */
static void test_apart(void **state)
{
	struct fixture *fx = *state;
	struct ofs_oid oid = {{9}};
	struct row *row;

	begin(fx);
	row = index_add(fx->v->index, &oid, false);
	index_set_here(fx->v->index, row, &OFS_OID_ROOT, "called", 9);
	index_set_apart(fx->v->index, row, "a/10/1");
	assert_int_equal(walk(fx, 1, "a", 9, 11), 1); /* 10 */
	assert_false(fixture_exists(fx, "a/10/1"));
	index_set_apart(fx->v->index, row, "a/11/1");
	assert_int_equal(walk(fx, 1, "a", 12, 13), 0);
	index_set_s3(fx->v->index, row, &fixture_row(fx, "a")->oid, "moved"); /* the last of 11 that is said of it */
	fixture_delete(fx, "a/11/1");
	assert_int_equal(walk(fx, 1, "a", 11, 12), 1);
	assert_int_equal(fixture_count(fx, "a/11"), FILES - 1);
}

static void edit_short(struct obj_req *req)
{
	struct obj_result *r = &req->result;

	if (strcmp(req->key, "share/") == 0) { /* the sweep's */
		assert_true(r->entry_count > SUBS);
		free(r->entries[SUBS].key);
		r->entries[SUBS].key = strdup("x");
	}
}

/* A store that lists other keys than were asked for, short ones among them, is asked for each directory from then on. */
static void test_strange(void **state)
{
	struct fixture *fx = *state;

	index_watch(fx->v->index, watched, fx);
	fill(fx, "a");
	list(fx, 1, "");
	list(fx, 1, "a");
	walk(fx, 1, "a", 0, 1);
	fixture_fault(fx, OBJ_LIST, "share/", FAULT_EDIT, OBJ_OK);
	fx->fault_edit = edit_short;
	assert_int_equal(walk(fx, 1, "a", 1, 2), 2); /* the sweep, and its own */
	fx->fault = FAULT_NONE;
	assert_int_equal(walk(fx, 1, "a", 2, SUBS), SUBS - 2);
	assert_int_equal(fixture_count(fx, "a/01"), FILES);
}

static void test_removals(void **state)
{
	struct fixture *fx = *state;
	char key[32];

	begin(fx);
	walk(fx, 1, "a", 4, SUBS);
	expire(fx);
	for (int s = 0; s < SUBS; s++) {
		snprintf(key, sizeof(key), "a/%02d/1", s);
		fixture_delete(fx, key);
	}
	put(fx, "a/20/new");
	for (int f = 0; f < FILES; f++) { /* a whole directory, with all in it */
		snprintf(key, sizeof(key), "a/21/%d", f);
		if (f != 1) {
			fixture_delete(fx, key);
		}
	}
	memset(fx->sent, 0, sizeof(fx->sent));
	assert_int_equal(walk(fx, 1, "a", 0, 21), 3 + 1); /* the sweep */
	assert_int_equal(walk(fx, 1, "a", 21, SUBS), 1);  /* 21: of nothing there are no rows */
	assert_int_equal(fixture_count(fx, "a/19"), FILES - 1);
	assert_int_equal(fixture_count(fx, "a/20"), FILES);
	assert_int_equal(fixture_count(fx, "a/21"), 0);
	assert_int_equal(fx->sent[OBJ_HEAD], 1); /* a/20/new */
	assert_true(fx->sent[OBJ_GET] >= SUBS); /* the volume's record, before anything goes */
}

/* Much that is gone, as a walk finds it, is held back. */
static void test_brake(void **state)
{
	struct fixture *fx = *state;
	char key[32];

	index_watch(fx->v->index, watched, fx);
	for (int s = 0; s < 8; s++) {
		for (int f = 0; f < 150; f++) {
			snprintf(key, sizeof(key), "a/%02d/%03d", s, f);
			fixture_put_text(fx, key, "");
		}
	}
	list(fx, 1, "");
	list(fx, 1, "a");
	walk(fx, 1, "a", 0, 8);
	expire(fx);
	for (int s = 0; s < 8; s++) {
		for (int f = 0; f < 149; f++) {
			snprintf(key, sizeof(key), "a/%02d/%03d", s, f);
			fixture_delete(fx, key);
		}
	}
	assert_int_equal(walk(fx, 1, "a", 0, 8), 4);
	assert_true(stats_get(removals_held) > 0);
	assert_int_equal(fixture_count(fx, "a/07"), 150);
	fx->conf.accept_removals = true;
	expire(fx);
	assert_int_equal(walk(fx, 1, "a", 0, 8), 4);
	assert_int_equal(fixture_count(fx, "a/07"), 1);
}

/* Nobody else waits for a walker's pages; who comes too late for a refresh gets one of his own. */
static void test_waiting(void **state)
{
	struct fixture *fx = *state;
	struct asked walker, fresh;

	index_watch(fx->v->index, watched, fx);
	fill(fx, "a");
	list(fx, 1, "");
	list(fx, 1, "a");
	assert_int_equal(walk(fx, 1, "a", 0, 1), 1);
	fixture_fault(fx, OBJ_LIST, "share/", FAULT_HANG, OBJ_OK);
	list_begin(fx, &walker, 1, "a/01", false); /* waits for the sweep's page */
	FIXTURE_UNTIL(fx, fx->hanging != NULL);
	assert_string_equal(fx->hanging->key, "share/");
	fx->fault = FAULT_NONE;
	assert_int_equal(list(fx, 2, "a/02"), 1);
	assert_false(walker.done);
	put(fx, "a/01/new");
	list_begin(fx, &fresh, 1, "a/01", true);
	fixture_idle(fx, 20);
	fixture_release(fx);
	list_end(fx, &walker);
	list_end(fx, &fresh);
	assert_true(fixture_exists(fx, "a/01/new"));
	assert_int_equal(walk(fx, 1, "a", 3, SUBS), 0);
}

static void test_failing(void **state)
{
	struct fixture *fx = *state;
	struct asked a;

	index_watch(fx->v->index, watched, fx);
	fill(fx, "a");
	list(fx, 1, "");
	list(fx, 1, "a");
	walk(fx, 1, "a", 0, 1);
	fixture_fault(fx, OBJ_LIST, "share/", FAULT_FAIL, OBJ_AWAY);
	list_begin(fx, &a, 1, "a/01", false);
	fixture_until(fx, &a.done);
	assert_int_equal(a.status, -EIO);
	assert_int_equal(fixture_record(fx, "a/01").flags & OFS_REC_LISTED, 0);
	fx->fault = FAULT_NONE;
	assert_int_equal(walk(fx, 1, "a", 1, SUBS), 3 + 1);
	assert_int_equal(fixture_count(fx, "a/01"), FILES);
	/* A walker that rests is forgotten. */
	fx->ahead_ns += 100 * NS_PER_S;
	put(fx, "a/30/1");
	assert_int_equal(fixture_list(fx, "a", true), 0);
	assert_int_equal(walk(fx, 1, "a", 30, 31), 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(counts),
		T(order),
		T(others),
		T(ours),
		T(renamed),
		T(renamed_waiting),
		T(apart),
		T(strange),
		T(removals),
		T(brake),
		T(waiting),
		T(failing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
