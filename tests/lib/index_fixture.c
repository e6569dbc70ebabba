/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the index of index_fixture.h.
 * Way: cmocka's setup and teardown. Thread: core. Owns: the scratch directory, loop and disk jobs.
 */
#include "index_fixture.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include "cached/base/mailbox.h"
#include "tests/lib/scratch.h"

void fix_open(struct fix *f)
{
	char *error = NULL;

	f->ix = index_open(f->ev, f->disk, f->clock, f->path, &f->fresh, &error);
	if (f->ix == NULL) {
		fail_msg("%s", error);
	}
}

int fix_setup(void **state)
{
	struct fix *f = talloc_zero(NULL, struct fix);

	scratch_make(f->dir, sizeof(f->dir), "index");
	snprintf(f->path, sizeof(f->path), "%s/index.db", f->dir);
	f->ev = tevent_context_init(f);
	f->mb = mailbox_new(f->ev, f->ev);
	f->disk = disk_real_new(f->ev, f->mb, 2);
	f->clock = clock_real_new(f->ev, f->ev);
	fix_open(f);
	*state = f;
	return f->fresh ? 0 : -1;
}

int fix_teardown(void **state)
{
	struct fix *f = *state;

	index_close(&f->ix);
	talloc_free(f->disk);
	scratch_remove(f->dir);
	talloc_free(f);
	return 0;
}

void fix_on_commit(int status, void *arg)
{
	struct fix *f = arg;

	f->committed++;
	f->status = status;
}

int fix_commit(struct fix *f)
{
	int before = f->committed;

	index_commit(f->ix, fix_on_commit, f);
	assert_int_equal(f->committed, before); /* never from inside */
	while (f->committed == before) {
		tevent_loop_once(f->ev);
	}
	return f->status;
}

void fix_reopen(struct fix *f)
{
	index_close(&f->ix);
	assert_null(f->ix);
	fix_open(f);
}

struct ofs_oid fix_oid(unsigned n)
{
	struct ofs_oid oid = { { 7, (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16) } };

	return oid;
}

struct row *fix_add(struct fix *f, unsigned n, bool is_dir)
{
	struct ofs_oid oid = fix_oid(n);

	return index_add(f->ix, &oid, is_dir);
}
