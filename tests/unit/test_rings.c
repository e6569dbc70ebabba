/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * core/rings.c with real ring files and writers; reconcile is replaced by a list of what it was
 * told. Links core/rings.o, base, shared; not reconcile.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <tevent.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/core/rings.h"
#include "cached/core/volume.h"
#include "cached/mirror/mirror.h"
#include "cached/reconcile/reconcile.h"
#include "shared/ring.h"
#include "tests/lib/scratch.h"

static struct {
	unsigned hints, rescans, mirror_hints, mirror_lost;
	uint64_t last_ino;
	bool order_broken;
} told;

void mirror_hint(struct mirror *m, const struct ofs_hint *hint)
{
	(void)m;
	(void)hint;
	told.mirror_hints++;
}

void mirror_hints_lost(struct mirror *m)
{
	(void)m;
	told.mirror_lost++;
}

void reconcile_hint(struct reconcile *rc, const struct ofs_hint *hint)
{
	(void)rc;
	told.hints++;
	told.order_broken = told.order_broken || hint->ino <= told.last_ino;
	told.last_ino = hint->ino;
}

void reconcile_rescan(struct reconcile *rc)
{
	(void)rc;
	told.rescans++;
}

/* What rings.c reads with: fails while `read_fails`. */
static bool read_fails;

ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
	if (read_fails) {
		errno = EIO;
		return -1;
	}
	return (ssize_t)syscall(SYS_pread64, fd, buf, len, offset);
}

/* A clock that the test moves. */
static int64_t now_ns = NS_PER_S;

static int64_t test_now(struct clock *c)
{
	(void)c;
	return now_ns;
}

static void test_random(struct clock *c, void *buf, size_t len)
{
	(void)c;
	for (size_t i = 0; i < len; i++) {
		((uint8_t *)buf)[i] = (uint8_t)rand();
	}
}

static const struct clock_ops test_clock_ops = {.now_ns = test_now, .random = test_random};
static struct clock test_clock = {.ops = &test_clock_ops};

struct fixture {
	char dir[64];
	struct volume v;
	struct rings *rs;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	scratch_make(f->dir, sizeof(f->dir), "rings");
	memset(&told, 0, sizeof(told));
	f->v.name = "vol";
	f->v.clock = &test_clock;
	f->rs = rings_new(NULL, &f->v, f->dir);
	assert_non_null(f->rs);
	*state = f;
	return 0;
}

static unsigned ring_files(const struct fixture *f, char *first, size_t cap)
{
	char path[128];
	unsigned count = 0;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/vol.rings", f->dir);
	d = opendir(path);
	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] != '.') {
			count++;
			if (first != NULL) {
				snprintf(first, cap, "%s/%s", path, e->d_name);
			}
		}
	}
	closedir(d);
	return count;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	talloc_free(f->rs);
	scratch_remove(f->dir);
	free(f);
	return 0;
}

static void hint_write(struct ofs_ring_writer *w, uint64_t ino)
{
	struct ofs_hint h = {.kind = OFS_HINT_CREATED, .ino = ino, .name = "file"};

	h.oid.bytes[0] = 1;
	assert_int_equal(ofs_ring_write(w, &h, 5), 0);
}

static void writer_open(struct fixture *f, struct ofs_ring_writer *w)
{
	int fd = rings_add(f->rs, 1);

	assert_true(fd >= 0);
	assert_int_equal(ofs_ring_writer_init(w, fd), 0);
}

static void test_read_in_order_and_make_room(void **state)
{
	struct fixture *f = *state;
	struct ofs_ring_writer w;
	uint64_t ino = 0;

	writer_open(f, &w);
	for (int lap = 0; lap < 3; lap++) {
		for (unsigned i = 0; i < OFS_RING_SLOTS; i++) {
			hint_write(&w, ++ino);
		}
		assert_int_equal(rings_drain(f->rs), OFS_RING_SLOTS);
	}
	assert_int_equal(rings_drain(f->rs), 0);
	assert_int_equal(told.hints, 3 * OFS_RING_SLOTS);
	assert_int_equal(told.mirror_hints, 3 * OFS_RING_SLOTS);
	assert_false(told.order_broken);
	assert_int_equal(told.rescans, 0);
	assert_int_equal(told.mirror_lost, 0);
	ofs_ring_writer_fini(&w);
}

static void test_lost_hints_cause_a_rescan_once(void **state)
{
	struct fixture *f = *state;
	struct ofs_hint h = {.kind = OFS_HINT_CREATED, .ino = 1, .name = "x"};
	int64_t lost = stats_get(hints_lost);
	struct ofs_ring_writer w;

	writer_open(f, &w);
	for (unsigned i = 0; i < OFS_RING_SLOTS; i++) {
		hint_write(&w, i + 1);
	}
	assert_int_equal(ofs_ring_write(&w, &h, 1), -ENOSPC);
	assert_int_equal(ofs_ring_write(&w, &h, 1), -ENOSPC);
	assert_int_equal(stats_get(hints_lost), lost);
	assert_int_equal(rings_drain(f->rs), OFS_RING_SLOTS);
	assert_int_equal(stats_get(hints_lost), lost + 2);
	assert_int_equal(told.rescans, 1);
	assert_int_equal(told.mirror_lost, 1);
	rings_drain(f->rs);
	assert_int_equal(stats_get(hints_lost), lost + 2);
	assert_int_equal(told.rescans, 1);
	assert_int_equal(told.mirror_lost, 1);
	ofs_ring_writer_fini(&w);
}

static void test_dead_writer_is_read_then_removed(void **state)
{
	struct fixture *f = *state;
	int fd = rings_add(f->rs, 1), status;
	pid_t pid = fork();

	if (pid == 0) {
		struct ofs_ring_writer w;

		if (ofs_ring_writer_init(&w, fd) != 0) {
			_exit(1);
		}
		for (uint64_t i = 1; i <= 10; i++) {
			struct ofs_hint h = {.kind = OFS_HINT_DIRTY, .ino = i, .name = "n"};

			if (ofs_ring_write(&w, &h, 5) != 0) {
				_exit(2);
			}
		}
		/* written whole, but killed before the head was moved */
		atomic_fetch_sub(&w.head->head, 1);
		kill(getpid(), SIGKILL);
	}
	close(fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	now_ns += 10 * NS_PER_S;
	assert_int_equal(rings_drain(f->rs), 10);
	assert_int_equal(told.last_ino, 10);
	assert_int_equal(ring_files(f, NULL, 0), 0);
}

static void test_unmapped_ring_is_kept_for_its_module(void **state)
{
	struct fixture *f = *state;
	struct ofs_ring_writer w;
	int fd = rings_add(f->rs, 1);

	now_ns += 60 * NS_PER_S;
	rings_drain(f->rs);
	assert_int_equal(ring_files(f, NULL, 0), 1);
	assert_int_equal(ofs_ring_writer_init(&w, fd), 0);
	hint_write(&w, 1);
	assert_int_equal(rings_drain(f->rs), 1);
	ofs_ring_writer_fini(&w);
	now_ns += 2 * NS_PER_S;
	rings_drain(f->rs);
	assert_int_equal(ring_files(f, NULL, 0), 0);
}

static void test_restart_adopts_and_does_not_read_twice(void **state)
{
	struct fixture *f = *state;
	struct ofs_ring_writer w;

	writer_open(f, &w);
	hint_write(&w, 1);
	hint_write(&w, 2);
	assert_int_equal(rings_drain(f->rs), 2);
	TALLOC_FREE(f->rs);
	hint_write(&w, 3); /* the daemon is away */
	f->rs = rings_new(NULL, &f->v, f->dir);
	assert_non_null(f->rs);
	assert_int_equal(rings_drain(f->rs), 1);
	assert_int_equal(told.last_ino, 3);
	hint_write(&w, 4);
	assert_int_equal(rings_drain(f->rs), 1);
	assert_int_equal(told.rescans, 0);
	assert_int_equal(told.mirror_lost, 0);
	ofs_ring_writer_fini(&w);
}

static void test_damage_costs_a_rescan(void **state)
{
	struct fixture *f = *state;
	struct ofs_ring_writer w;
	char path[512];
	int64_t bad = stats_get(hints_bad);
	uint8_t junk[OFS_RING_SLOT_BYTES - 16];
	int fd;

	writer_open(f, &w);
	for (uint64_t i = 1; i <= 3; i++) {
		hint_write(&w, i);
	}
	assert_int_equal(ring_files(f, path, sizeof(path)), 1);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	memset(junk, 0x5a, sizeof(junk));
	assert_int_equal(pwrite(fd, junk, sizeof(junk),
					 OFS_RING_HEAD_BYTES + OFS_RING_SLOT_BYTES + 16),
			sizeof(junk));
	assert_int_equal(rings_drain(f->rs), 2); /* the second is skipped */
	assert_int_equal(told.last_ino, 3);
	assert_int_equal(told.rescans, 1);
	assert_int_equal(told.mirror_lost, 1);
	assert_int_equal(stats_get(hints_bad), bad + 1);
	/* an impossible head */
	atomic_store(&w.head->head, UINT64_MAX - 5);
	rings_drain(f->rs);
	assert_int_equal(told.rescans, 2);
	assert_int_equal(told.mirror_lost, 2);
	/* a truncated file */
	ofs_ring_writer_fini(&w);
	assert_int_equal(ftruncate(fd, 100), 0);
	rings_drain(f->rs);
	assert_true(told.rescans >= 3);
	close(fd);
}

/* Its smbd lives and writes on: it is kept, what it changes is looked for now and then, and marks stay. */
static void test_unreadable_ring_is_kept(void **state)
{
	struct fixture *f = *state;
	struct ofs_ring_writer w;
	int64_t bad = stats_get(hints_bad);

	writer_open(f, &w);
	hint_write(&w, 1);
	assert_int_equal(rings_drain(f->rs), 1);
	w.head->magic++;
	hint_write(&w, 2);
	assert_int_equal(rings_drain(f->rs), 0);
	assert_int_equal(told.rescans, 1);
	assert_true(rings_inflight(f->rs, 7)); /* who knows */
	assert_int_equal(rings_settle(f->rs), 0);
	assert_int_equal(ring_files(f, NULL, 0), 1);
	assert_int_equal(told.rescans, 1);
	now_ns += 31 * NS_PER_S;
	rings_drain(f->rs);
	assert_int_equal(told.rescans, 2);
	assert_int_equal(stats_get(hints_bad), bad + 1);
	w.head->magic--;
	assert_int_equal(rings_drain(f->rs), 1);
	assert_int_equal(told.last_ino, 2);
	w.head->magic++;
	ofs_ring_writer_fini(&w);
	now_ns += 2 * NS_PER_S;
	rings_drain(f->rs);
	assert_int_equal(ring_files(f, NULL, 0), 0);
	assert_int_equal(told.rescans, 3);
}

/* The same of a ring that the daemon finds at its start. */
static void test_unread_at_the_start_is_kept(void **state)
{
	struct fixture *f = *state;
	int64_t bad = stats_get(hints_bad);
	struct ofs_ring_writer w;

	writer_open(f, &w);
	hint_write(&w, 1);
	assert_int_equal(rings_drain(f->rs), 1);
	TALLOC_FREE(f->rs);
	hint_write(&w, 2);
	read_fails = true;
	f->rs = rings_new(NULL, &f->v, f->dir);
	assert_non_null(f->rs);
	assert_int_equal(rings_settle(f->rs), 0);
	assert_true(rings_inflight(f->rs, 7));
	assert_int_equal(told.rescans, 1);
	now_ns += 31 * NS_PER_S;
	assert_int_equal(rings_settle(f->rs), 0);
	assert_int_equal(told.rescans, 2);
	assert_int_equal(stats_get(hints_bad), bad + 1);
	read_fails = false;
	assert_int_equal(ring_files(f, NULL, 0), 1);
	hint_write(&w, 3);
	assert_int_equal(rings_drain(f->rs), 2); /* from where the former daemon ended */
	assert_int_equal(told.last_ino, 3);
	assert_int_equal(told.rescans, 2);
	ofs_ring_writer_fini(&w);
	rings_settle(f->rs);
	assert_int_equal(ring_files(f, NULL, 0), 0);
}

/* No descriptor is free but the two that reading the directory needs, one of which is free again after it. */
static void test_unopened_at_the_start_is_kept(void **state)
{
	struct fixture *f = *state;
	struct ofs_ring_writer w;
	struct rlimit before;
	int held[64];
	size_t count = 0;

	writer_open(f, &w);
	TALLOC_FREE(f->rs);
	hint_write(&w, 1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, before.rlim_max}), 0);
	while (count < 64 && (held[count] = dup(0)) >= 0) {
		count++;
	}
	assert_true(count > 2);
	close(held[--count]);
	close(held[--count]);
	f->rs = rings_new(NULL, &f->v, f->dir);
	while (count > 0) {
		close(held[--count]);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_non_null(f->rs);
	assert_int_equal(rings_drain(f->rs), 1);
	assert_int_equal(told.last_ino, 1);
	assert_int_equal(told.rescans, 1); /* that it could not be opened was noticed */
	ofs_ring_writer_fini(&w);
}

static void test_junk_in_the_directory_at_start(void **state)
{
	struct fixture *f = *state;
	char path[128];
	int fd;

	TALLOC_FREE(f->rs);
	snprintf(path, sizeof(path), "%s/vol.rings/dead.ring", f->dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, "junk", 4), 4);
	close(fd);
	f->rs = rings_new(NULL, &f->v, f->dir);
	assert_non_null(f->rs);
	rings_drain(f->rs);
	assert_int_equal(told.rescans, 1);
	assert_int_equal(told.mirror_lost, 1);
	assert_int_equal(ring_files(f, NULL, 0), 0);
}

static void test_inflight(void **state)
{
	struct fixture *f = *state;
	struct ofs_ring_writer w;

	writer_open(f, &w);
	assert_false(rings_inflight(f->rs, 7));
	atomic_store(&w.head->inflight[1], 8);
	assert_true(rings_inflight(f->rs, 7));
	assert_false(rings_inflight(f->rs, 8));
	ofs_ring_writer_fini(&w); /* died in the middle: its change may have happened, without a hint */
	assert_true(rings_inflight(f->rs, 7));
	assert_int_equal(told.rescans, 0);
	assert_int_equal(told.mirror_lost, 0);
	now_ns += 60 * NS_PER_S;
	rings_drain(f->rs);
	assert_int_equal(told.rescans, 1);
	assert_int_equal(told.mirror_lost, 1);
	assert_false(rings_inflight(f->rs, 7));
	assert_int_equal(ring_files(f, NULL, 0), 0);
	/* The next one dies right after a look. */
	writer_open(f, &w);
	atomic_store(&w.head->inflight[1], 8);
	rings_drain(f->rs);
	ofs_ring_writer_fini(&w);
	rings_drain(f->rs);
	assert_int_equal(told.rescans, 1);
	assert_int_equal(told.mirror_lost, 1);
	rings_settle(f->rs);
	assert_int_equal(told.rescans, 2);
	assert_int_equal(told.mirror_lost, 2);
	assert_int_equal(ring_files(f, NULL, 0), 0);
}

static void test_writing(void **state)
{
	struct fixture *f = *state;
	struct ofs_ring_writer a, b;

	writer_open(f, &a);
	writer_open(f, &b);
	assert_true(rings_writing(f->rs) == 0);
	atomic_store(&a.use->writing_bytes, 5);
	atomic_store(&b.use->writing_bytes, 7);
	assert_true(rings_writing(f->rs) == 12);
	ofs_ring_writer_fini(&a); /* what it has written or not is in the files */
	assert_true(rings_writing(f->rs) == 7);
	atomic_store(&b.use->writing_bytes, UINT64_MAX);
	writer_open(f, &a);
	atomic_store(&a.use->writing_bytes, 5);
	assert_true(rings_writing(f->rs) == UINT64_MAX);
	ofs_ring_writer_fini(&a);
	ofs_ring_writer_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(
					test_read_in_order_and_make_room, setup, teardown),
			cmocka_unit_test_setup_teardown(
					test_lost_hints_cause_a_rescan_once, setup, teardown),
			cmocka_unit_test_setup_teardown(
					test_dead_writer_is_read_then_removed, setup, teardown),
			cmocka_unit_test_setup_teardown(
					test_unmapped_ring_is_kept_for_its_module, setup, teardown),
			cmocka_unit_test_setup_teardown(
					test_restart_adopts_and_does_not_read_twice, setup, teardown),
			cmocka_unit_test_setup_teardown(
					test_damage_costs_a_rescan, setup, teardown),
			cmocka_unit_test_setup_teardown(
					test_unreadable_ring_is_kept, setup, teardown),
			cmocka_unit_test_setup_teardown(
					test_junk_in_the_directory_at_start, setup, teardown),
			cmocka_unit_test_setup_teardown(
					test_unread_at_the_start_is_kept, setup, teardown),
			cmocka_unit_test_setup_teardown(
					test_unopened_at_the_start_is_kept, setup, teardown),
			cmocka_unit_test_setup_teardown(test_inflight, setup, teardown),
			cmocka_unit_test_setup_teardown(test_writing, setup, teardown),
	};

	log_set_level(LOG_LVL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
