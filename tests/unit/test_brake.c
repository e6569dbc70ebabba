/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The mirror's brake: much that is gone at once stays here, over directories, hours and restarts, until it was meant. */
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
#include <string.h>
#include <unistd.h>
#include "cached/base/stats.h"
#include "cached/mirror/mirror_private.h"
#include "tests/lib/mirror_fixture.h"

static void test_one_listing(void **state)
{
	struct fixture *fx = *state;
	char key[32];
	int i;

	for (i = 0; i < 1100; i++) {
		snprintf(key, sizeof(key), "n%04d", i);
		fixture_put_text(fx, key, "");
	}
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fixture_count(fx, ""), 1100);
	for (i = 0; i < 1050; i++) {
		snprintf(key, sizeof(key), "n%04d", i);
		fixture_delete(fx, key);
	}
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fixture_count(fx, ""), 1100);
	assert_int_equal(stats_get(removals_held), 1050);
	fx->conf.accept_removals = true;
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fixture_count(fx, ""), 50);
	assert_int_equal(stats_get(removals_held), 0);
}

/* Names of which only rows know. */
static void brake_rows(struct fixture *fx, const char *path, unsigned from, unsigned to)
{
	const struct ofs_oid dir = fixture_row(fx, path)->oid;
	char name[32];

	for (unsigned i = from; i < to; i++) {
		struct ofs_oid oid = {{0xfd, (uint8_t)i, (uint8_t)(i >> 8), dir.bytes[0]}};
		struct row *row = index_add(fx->v->index, &oid, false);

		snprintf(name, sizeof(name), "n%05u", i);
		index_set_here(fx->v->index, row, &dir, name, i + 1);
		index_set_s3(fx->v->index, row, &dir, name);
	}
	fx->ahead_ns += 301 * NS_PER_S; /* what is known is counted anew */
}

/* More than 1,000, and more than a fifth of what is known: neither alone holds anything. */
static void test_limits(void **state)
{
	struct fixture *fx = *state;

	fixture_put_text(fx, "d/sub/x", "");
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fixture_list(fx, "d", false), 0);
	assert_int_equal(fixture_list(fx, "d/sub", false), 0);
	brake_rows(fx, "d", 0, 1000);
	assert_int_equal(fixture_list(fx, "d", true), 0);
	assert_int_equal(stats_get(removals_held), 0);
	brake_rows(fx, "d", 1000, 1001);
	assert_int_equal(fixture_list(fx, "d", true), 0);
	assert_int_equal(stats_get(removals_held), 1001);
	brake_rows(fx, "d/sub", 0, 5004 - 1001 - 2); /* with sub and x: 5,004 */
	assert_int_equal(fixture_list(fx, "d", true), 0);
	assert_int_equal(stats_get(removals_held), 1001);
	brake_rows(fx, "d/sub", 5004 - 1001 - 2, 5005 - 1001 - 2);
	assert_int_equal(fixture_list(fx, "d", true), 0);
	assert_int_equal(stats_get(removals_held), 0);
}

/* ---- many small directories ---- */

#define MANY_DIRS 40
#define MANY_FILES 40

static void many_key(char key[32], int dir, int file)
{
	snprintf(key, 32, file < 0 ? "t/%02d" : "t/%02d/%02d", dir, file);
}

/* As if each directory were looked into by a client; how many names are left in them. */
static unsigned many_list(struct fixture *fx)
{
	unsigned left = 0;
	char key[32];

	for (int d = 0; d < MANY_DIRS; d++) {
		many_key(key, d, -1);
		assert_int_equal(fixture_list(fx, key, true), 0);
		left += fixture_count(fx, key);
	}
	return left;
}

static void many_empty(struct fixture *fx, int from, int to)
{
	char key[32];

	for (int d = from; d < to; d++) {
		for (int f = 0; f < MANY_FILES; f++) {
			many_key(key, d, f);
			fixture_delete(fx, key);
		}
	}
}

static void many_fill(struct fixture *fx)
{
	char key[32];

	for (int d = 0; d < MANY_DIRS; d++) {
		for (int f = 0; f < MANY_FILES; f++) {
			many_key(key, d, f);
			fixture_put_text(fx, key, "");
		}
	}
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fixture_list(fx, "t", false), 0);
	assert_int_equal(many_list(fx), MANY_DIRS * MANY_FILES);
}

struct accepted {
	bool done;
	int status;
	uint64_t names;
};

static void on_accepted(int status, const char *message, uint64_t names, void *arg)
{
	struct accepted *a = arg;

	(void)message;
	a->done = true;
	a->status = status;
	a->names = names;
}

static uint64_t many_accept(struct fixture *fx, const char *path)
{
	struct accepted a = {0};

	mirror_accept_removals(fx->v->mirror, 1, path, on_accepted, &a);
	fixture_until(fx, &a.done);
	assert_int_equal(a.status, 0);
	return a.names;
}

/* What is in use counts once; an hour later it does not count any more. */
static void many_slowly(struct fixture *fx)
{
	int fds[MANY_FILES];
	char key[32];

	for (int f = 0; f < MANY_FILES; f++) {
		many_key(key, 0, f);
		fds[f] = fixture_open(fx, key, O_RDONLY);
	}
	many_empty(fx, 0, 10);
	assert_int_equal(many_list(fx), 1200 + MANY_FILES);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(fixture_list(fx, "t/00", true), 0);
	}
	for (int f = 0; f < MANY_FILES; f++) {
		close(fds[f]);
	}
	fx->ahead_ns += 1950 * NS_PER_S;
	assert_int_equal(many_list(fx), 1200);
	fx->ahead_ns += 1950 * NS_PER_S;
}

/* An emptied tree whose directories are small, one by one. */
static void test_over_directories(void **state)
{
	struct fixture *fx = *state;
	struct accepted none = {0};
	char *below;

	many_fill(fx);
	fixture_put_text(fx, "other/a", "");
	fixture_put_text(fx, "other/b", "");
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(fixture_list(fx, "other", false), 0);
	many_slowly(fx);
	assert_int_equal(stats_get(removals_held), 0);
	many_empty(fx, 10, 20);
	assert_int_equal(many_list(fx), 800);
	/* what was meant counts no more; what went elsewhere does */
	assert_int_equal(many_accept(fx, "other"), 0);
	assert_int_equal(many_accept(fx, "t/12"), 0);
	many_empty(fx, 20, MANY_DIRS);
	/* With those 40, without the other 40, 1,000 go, then it stops: below t, not for what has nothing to do with it */
	assert_int_equal(many_list(fx), 200);
	assert_int_equal(stats_get(removals_held), 200);
	assert_int_equal(mirror_removals_held(fx->v->mirror, fx->ctx, &below), 200);
	assert_string_equal(below, "t");
	fixture_put_text(fx, "t/39/00", ""); /* some came back: its directory agrees, the others do not */
	assert_int_equal(many_list(fx), 200);
	assert_int_equal(stats_get(removals_held), 199);
	/* neither a restart nor an hour lets anything go */
	talloc_free(fx->v->mirror);
	fixture_index_again(fx, false);
	fx->v->mirror = mirror_new(fx->ctx, fx->v);
	fx->ahead_ns += 3900 * NS_PER_S;
	assert_int_equal(stats_get(removals_held), 199);
	assert_int_equal(many_list(fx), 200);
	mirror_accept_removals(fx->v->mirror, 1, "t/39/none", on_accepted, &none);
	assert_int_equal(none.status, -ENOENT);
	/* one directory, then all of it */
	assert_int_equal(many_accept(fx, "t/38"), 40);
	assert_false(fixture_exists(fx, "t/38/00"));
	assert_int_equal(many_list(fx), 160);
	assert_int_equal(many_accept(fx, "."), 159);
	assert_int_equal(many_list(fx), 1);
	assert_int_equal(stats_get(removals_held), 0);
	assert_int_equal(fixture_count(fx, "other"), 2);
}

#define HELD_FULL 1000
#define HELD_MORE 20

/* As many directories as are remembered, all stopped at t. */
static void held_fill(struct fixture *fx)
{
	const struct row *t = index_at_live(fx->v->index, &OFS_OID_ROOT, "t");
	char *text = talloc_strdup(fx->ctx, ""), at[OFS_OID_HEX_BYTES], name[16];

	assert_non_null(t);
	ofs_oid_hex(&t->oid, at);
	for (unsigned i = 0; i < HELD_FULL; i++) {
		struct ofs_oid oid = {{0xfe, (uint8_t)i, (uint8_t)(i >> 8)}};
		char dir[OFS_OID_HEX_BYTES];

		snprintf(name, sizeof(name), "held%u", i);
		index_set_here(fx->v->index, index_add(fx->v->index, &oid, true), &t->oid, name, 0);
		ofs_oid_hex(&oid, dir);
		text = talloc_asprintf_append_buffer(text, "%s %s 1\n", dir, at);
		assert_non_null(text);
	}
	index_kv_set(fx->v->index, "removals_held", text);
	talloc_free(text);
}

static void held_begin(struct fixture *fx)
{
	talloc_free(fx->v->mirror);
	fixture_index_again(fx, false);
	fx->v->mirror = mirror_new(fx->ctx, fx->v);
	assert_non_null(fx->v->mirror);
}

/* All of them, each with a name that is gone and stays: how much is held back then? */
static int64_t held_list(struct fixture *fx)
{
	char key[32];

	for (int d = 0; d < HELD_MORE; d++) {
		many_key(key, d, -1);
		assert_int_equal(fixture_list(fx, key, true), 0);
		assert_int_equal(fixture_count(fx, key), 1);
	}
	return stats_get(removals_held);
}

/* More directories than are remembered: none lets go, and none is counted twice. */
static void test_rest(void **state)
{
	struct fixture *fx = *state;
	int64_t held;
	char key[32];

	for (int d = 0; d < HELD_MORE; d++) {
		many_key(key, d, 0);
		fixture_put_text(fx, key, "");
	}
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fixture_list(fx, "t", false), 0);
	held_list(fx);
	held_fill(fx);
	held_begin(fx);
	assert_int_equal(stats_get(removals_held), HELD_FULL);
	for (int d = 0; d < HELD_MORE; d++) {
		many_key(key, d, 0);
		fixture_delete(fx, key);
	}
	held = held_list(fx);
	assert_in_range(held, HELD_FULL + 1, HELD_FULL + HELD_MORE);
	assert_int_equal(held_list(fx), held);
	/* a restart remembers the rest, wherever it stands in the note; its listings say again how much */
	for (int restart = 0; restart < 3; restart++) {
		held_begin(fx);
		assert_int_equal(stats_get(removals_held), held);
		assert_int_equal(held_list(fx), held);
	}
	many_accept(fx, "t");
	assert_int_equal(stats_get(removals_held), 0);
	assert_int_equal(fixture_list(fx, "t/00", true), 0);
	assert_int_equal(fixture_count(fx, "t/00"), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(one_listing),
		T(limits),
		T(over_directories),
		T(rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
