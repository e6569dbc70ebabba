/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The mirror: what S3 is not asked again, and when it is. */
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
#include "cached/base/stats.h"
#include "cached/mirror/mirror_private.h"
#include "shared/ring.h"
#include "tests/lib/mirror_fixture.h"

/* What the store was asked since the last time. */
static unsigned asked(struct fixture *fx)
{
	unsigned n = fx->sent[OBJ_HEAD] + fx->sent[OBJ_LIST];

	memset(fx->sent, 0, sizeof(fx->sent));
	return n;
}

static void hint(struct fixture *fx, enum ofs_hint_kind kind, const char *old_dir, const char *dir)
{
	struct ofs_hint h;

	memset(&h, 0, sizeof(h));
	h.kind = kind;
	h.parent = fixture_record(fx, dir).oid;
	if (old_dir != NULL) {
		h.old_parent = fixture_record(fx, old_dir).oid;
	}
	mirror_hint(fx->v->mirror, &h);
}

static void known(struct fixture *fx, const char *dir, const char *name, bool is)
{
	int64_t before = stats_get(names_absent_known);

	(void)asked(fx);
	assert_int_equal(fixture_lookup(fx, dir, name), -ENOENT);
	assert_int_equal(asked(fx), is ? 0 : 2);
	assert_int_equal(stats_get(names_absent_known), before + (is ? 1 : 0));
}

static void test_names(void **state)
{
	static const struct {
		enum ofs_hint_kind kind;
		bool forgets;
	} kinds[] = {{OFS_HINT_CREATED, true}, {OFS_HINT_MKDIR, true}, {OFS_HINT_RENAMED, true},
			{OFS_HINT_UNLINKED, true}, {OFS_HINT_RMDIR, true}, {OFS_HINT_ATTR, false},
			{OFS_HINT_OPENED, false}, {OFS_HINT_CLOSED, false}};
	struct fixture *fx = *state;

	fixture_put_text(fx, "d/f", "1");
	fixture_put_text(fx, "e/f", "1");
	assert_int_equal(fixture_lookup(fx, "", "d"), 0);
	assert_int_equal(fixture_lookup(fx, "", "e"), 0);
	known(fx, "d", "x", false);
	known(fx, "d", "x", true);
	known(fx, "e", "x", false); /* a name of one directory is not another's */
	known(fx, "d", "X", false);
	assert_int_equal(fixture_lookup(fx, "d", "f"), 0);
	/* as long as a listing serves */
	fixture_put_text(fx, "d/x", "1");
	known(fx, "d", "x", true);
	fx->ahead_ns += fx->conf.listing_age_ns - 60 * NS_PER_S;
	known(fx, "d", "x", true);
	fx->ahead_ns += 61 * NS_PER_S;
	assert_int_equal(fixture_lookup(fx, "d", "x"), 0);
	/* what clients do, here and there */
	known(fx, "e", "y", false);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		hint(fx, kinds[i].kind, kinds[i].kind == OFS_HINT_RENAMED ? "" : NULL, "e");
		known(fx, "e", "y", !kinds[i].forgets);
	}
	hint(fx, OFS_HINT_RENAMED, "e", "");
	known(fx, "e", "y", false);
	mirror_hints_lost(fx->v->mirror);
	known(fx, "e", "y", false);
	hint(fx, OFS_HINT_CREATED, NULL, "d");
	known(fx, "e", "y", true);
	/* a listing, well or not */
	fixture_put_text(fx, "e/y", "1");
	fixture_fault(fx, OBJ_LIST, "share/e/", FAULT_FAIL, OBJ_AWAY);
	assert_int_equal(fixture_list(fx, "e", false), -EIO);
	fixture_fault(fx, OBJ_LIST, "", FAULT_NONE, OBJ_OK);
	assert_int_equal(fixture_lookup(fx, "e", "y"), 0);
}

struct answer {
	bool done;
	int status;
};

static void on_answer(int status, const char *message, void *arg)
{
	struct answer *a = arg;

	(void)message;
	a->done = true;
	a->status = status;
}

/* Made while S3 is asked: the answer is as of before. */
static void test_made_meanwhile(void **state)
{
	struct fixture *fx = *state;
	struct answer a = {0};

	fixture_fault(fx, OBJ_HEAD, "share/x", FAULT_HANG, OBJ_OK);
	mirror_lookup(fx->v->mirror, 1, fixture_open(fx, "", O_PATH), "x", on_answer, &a);
	FIXTURE_UNTIL(fx, fx->hanging != NULL);
	hint(fx, OFS_HINT_CREATED, NULL, "");
	fixture_fault(fx, OBJ_HEAD, "", FAULT_NONE, OBJ_OK);
	fixture_release(fx);
	fixture_until(fx, &a.done);
	assert_int_equal(a.status, -ENOENT);
	known(fx, "", "x", false);
}

/* An unsure answer is not kept, nor one that S3 was not asked for. */
static void test_unsure(void **state)
{
	struct fixture *fx = *state;

	fixture_fault(fx, OBJ_HEAD, "share/x", FAULT_FAIL, OBJ_AWAY);
	assert_int_equal(fixture_lookup(fx, "", "x"), -EIO);
	fixture_fault(fx, OBJ_LIST, "share/x", FAULT_FAIL, OBJ_DENIED);
	assert_int_equal(fixture_lookup(fx, "", "x"), -EACCES);
	fixture_fault(fx, OBJ_LIST, "", FAULT_NONE, OBJ_OK);
	known(fx, "", "x", false);
	assert_int_equal(fixture_lookup(fx, "", ".objectfs"), -ENOENT);
	assert_int_equal(asked(fx), 0);
}

/* How many listings S3 gives in `ages` listing ages, one of a client in each. */
static unsigned listings(struct fixture *fx, unsigned ages)
{
	(void)asked(fx);
	for (unsigned i = 0; i < ages; i++) {
		fx->ahead_ns += fx->conf.listing_age_ns + NS_PER_S;
		assert_int_equal(fixture_list(fx, "", false), 0);
	}
	return fx->sent[OBJ_LIST];
}

static void test_listings(void **state)
{
	struct fixture *fx = *state;
	int64_t spared = stats_get(listings_spared);

	fx->conf.listing_growth = 16;
	fixture_put_text(fx, "f", "1");
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(listings(fx, 1), 1);      /* 1: nothing new */
	assert_int_equal(listings(fx, 2), 1);      /* 2 */
	assert_int_equal(listings(fx, 4), 1);      /* 4 */
	assert_int_equal(listings(fx, 8), 1);      /* 8 */
	assert_int_equal(listings(fx, 16 * 3), 3); /* 16, and no more */
	assert_int_equal(stats_get(listings_spared) - spared, 1 + 2 + 4 + 8 + 16 * 3 - 7);
	/* a refresh neither waits nor counts; what is new is seen, and asked for as at first */
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(listings(fx, 16), 1);
	fixture_put_text(fx, "g", "1");
	assert_int_equal(listings(fx, 16), 1);
	assert_true(fixture_exists(fx, "g"));
	assert_int_equal(listings(fx, 1), 1);
	assert_int_equal(listings(fx, 2), 1);
	fixture_delete(fx, "g");
	assert_int_equal(listings(fx, 4), 1);
	assert_false(fixture_exists(fx, "g"));
	assert_int_equal(listings(fx, 1), 1);
	/* switched off; a clock that is put back */
	fx->conf.listing_growth = 1;
	assert_int_equal(fixture_list(fx, "", true), 0);
	assert_int_equal(listings(fx, 4), 4);
	fx->conf.listing_growth = 16;
	assert_int_equal(listings(fx, 1), 1);
	fx->ahead_ns -= 10 * fx->conf.listing_age_ns;
	(void)asked(fx);
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_int_equal(fx->sent[OBJ_LIST], 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(names),
		T(made_meanwhile),
		T(unsure),
		T(listings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
