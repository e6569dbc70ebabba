/* SPDX-License-Identifier: GPL-3.0-or-later */
/* An index for tests: a real file in a scratch directory, real disk jobs, real loop. Core thread only. */
#ifndef OFS_TESTS_INDEX_FIXTURE_H
#define OFS_TESTS_INDEX_FIXTURE_H

#include <stdbool.h>
#include <tevent.h>
#include "cached/base/clock.h"
#include "cached/base/disk.h"
#include "cached/reconcile/index.h"

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

/* cmocka's: *state is the fixture. */
int fix_setup(void **state);
int fix_teardown(void **state);
void fix_open(struct fix *f);
/* Closed, and open again: as after a restart. */
void fix_reopen(struct fix *f);
/* index_commit, until it is done: its status. */
int fix_commit(struct fix *f);
/* For an index_commit that is not waited for: committed and status; arg: the fixture. */
void fix_on_commit(int status, void *arg);
/* The n-th id, and the row of it. */
struct ofs_oid fix_oid(unsigned n);
struct row *fix_add(struct fix *f, unsigned n, bool is_dir);

#endif
