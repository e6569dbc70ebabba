/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The hint ring: order over laps, full, damage, dead writers, a reader beside a live writer. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "shared/ring.h"
#include "tests/lib/scratch.h"

struct fixture {
	char dir[4096];
	int dirfd;
	int reader; /* as the daemon: an open file description of its own */
	struct ofs_ring_writer w;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd;

	scratch_make(f->dir, sizeof(f->dir), "ring");
	f->dirfd = open(f->dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	fd = ofs_ring_create(f->dirfd, "1.ring");
	f->reader = openat(f->dirfd, "1.ring", O_RDWR | O_CLOEXEC);
	if (fd < 0 || f->reader < 0 || ofs_ring_writer_init(&f->w, fd) != 0) {
		return -1;
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ofs_ring_writer_fini(&f->w);
	close(f->reader);
	close(f->dirfd);
	scratch_remove(f->dir);
	free(f);
	return 0;
}

static struct ofs_hint numbered(uint64_t n)
{
	struct ofs_hint h = {.kind = OFS_HINT_CREATED, .ino = n};

	memcpy(h.oid.bytes, &n, sizeof(n));
	snprintf(h.name, sizeof(h.name), "file %llu", (unsigned long long)n);
	return h;
}

static void test_round_trip(void **state)
{
	struct fixture *f = *state;
	struct ofs_hint h = {.kind = OFS_HINT_RENAMED, .is_dir = true, .ino = 12}, back;
	struct ofs_ring_head head;

	for (size_t i = 0; i < 16; i++) {
		h.oid.bytes[i] = (uint8_t)i;
		h.parent.bytes[i] = (uint8_t)(i + 16);
		h.old_parent.bytes[i] = (uint8_t)(i + 32);
		h.target.bytes[i] = (uint8_t)(i + 48);
	}
	memset(h.name, 'n', OFS_NAME_MAX_BYTES);
	memset(h.old_name, 'o', OFS_NAME_MAX_BYTES);
	assert_int_equal(ofs_ring_read(f->reader, 1, &back), 0);
	assert_int_equal(ofs_ring_write(&f->w, &h, 5), 0);
	assert_int_equal(ofs_ring_read(f->reader, 1, &back), 1);
	assert_memory_equal(&h, &back, sizeof(h));
	assert_int_equal(ofs_ring_read(f->reader, 2, &back), 0);
	assert_int_equal(ofs_ring_read(f->reader, 0, &back), -EINVAL);
	assert_int_equal(ofs_ring_read_head(f->reader, &head), 0);
	assert_int_equal(head.head, 1);
	assert_int_equal(head.writer_pid, getpid());
	/* a change of a share's root has no name */
	h = (struct ofs_hint){.kind = OFS_HINT_ATTR, .is_dir = true, .ino = 2};
	assert_int_equal(ofs_ring_write(&f->w, &h, 5), 0);
	assert_int_equal(ofs_ring_read(f->reader, 2, &back), 1);
	assert_memory_equal(&h, &back, sizeof(h));
}

static void test_create_twice(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ofs_ring_create(f->dirfd, "1.ring"), -EEXIST);
	assert_int_equal(ofs_ring_create(f->dirfd, "no/1.ring"), -ENOENT);
}

static void test_laps(void **state)
{
	struct fixture *f = *state;
	uint64_t tail = 0;

	for (uint64_t n = 1; n <= 3 * OFS_RING_SLOTS + 5; n++) {
		struct ofs_hint h = numbered(n), back;

		assert_int_equal(ofs_ring_write(&f->w, &h, 0), 0);
		if (n % 700 != 0) {
			continue;
		}
		while (ofs_ring_read(f->reader, tail + 1, &back) == 1) {
			tail++;
			assert_int_equal(back.ino, tail);
		}
		assert_int_equal(tail, n);
		assert_int_equal(ofs_ring_set_tail(f->reader, tail), 0);
	}
}

static void test_full(void **state)
{
	struct fixture *f = *state;
	struct ofs_hint h = numbered(1), back;

	for (unsigned n = 0; n < OFS_RING_SLOTS; n++) {
		assert_int_equal(ofs_ring_write(&f->w, &h, 0), 0);
	}
	assert_int_equal(ofs_ring_write(&f->w, &h, 2), -ENOSPC);
	assert_int_equal(atomic_load(&f->w.head->lost), 1);
	assert_int_equal(atomic_load(&f->w.head->head), OFS_RING_SLOTS);
	assert_int_equal(ofs_ring_set_tail(f->reader, 1), 0);
	assert_int_equal(ofs_ring_write(&f->w, &h, 0), 0);
	assert_int_equal(ofs_ring_read(f->reader, OFS_RING_SLOTS + 1, &back), 1);
	/* slot 1 is overwritten: number 1 is gone, and that is said */
	assert_int_equal(ofs_ring_read(f->reader, 1, &back), -EBADMSG);
	/* a tail nobody could have written counts as full, not as room */
	assert_int_equal(ofs_ring_set_tail(f->reader, 1u << 30), 0);
	assert_int_equal(ofs_ring_write(&f->w, &h, 0), -ENOSPC);
}

static void test_bad_hints(void **state)
{
	struct fixture *f = *state;
	struct ofs_hint h;
	static const char *const names[] = {"", ".", "..", "a/b", "/"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		h = numbered(1);
		strcpy(h.name, names[i]);
		assert_int_equal(ofs_ring_write(&f->w, &h, 0), -EINVAL);
	}
	h = numbered(1);
	h.kind = OFS_HINT_KIND_MAX;
	assert_int_equal(ofs_ring_write(&f->w, &h, 0), -EINVAL);
	h.kind = OFS_HINT_RENAMED; /* without an old name */
	assert_int_equal(ofs_ring_write(&f->w, &h, 0), -EINVAL);
	h = numbered(1);
	memset(h.name, 'x', sizeof(h.name)); /* no NUL */
	assert_int_equal(ofs_ring_write(&f->w, &h, 0), -EINVAL);
	assert_int_equal(atomic_load(&f->w.head->head), 0);
	assert_true(atomic_load(&f->w.head->lost) > 0);
}

/* What the module counts is seen from outside, whatever it wrote. */
static void test_use(void **state)
{
	struct fixture *f = *state;
	struct ofs_use use;

	ofs_ring_count(&f->w, opens_here, 2);
	ofs_ring_count(&f->w, opens_here, 3);
	ofs_ring_count(&f->w, client_write_bytes, 1ull << 40);
	memset(f->w.use->user, 'u', sizeof(f->w.use->user));
	assert_int_equal(ofs_ring_read_use(f->reader, &use), 0);
	assert_int_equal(atomic_load(&use.opens_here), 5);
	assert_true(atomic_load(&use.client_write_bytes) == 1ull << 40);
	assert_int_equal(strlen(use.user), sizeof(use.user) - 1);
	assert_int_equal(use.address[0], 0);
	assert_int_equal(atomic_load(&f->w.head->head), 0);
	assert_int_equal(ftruncate(f->reader, 100), 0);
	assert_int_equal(ofs_ring_read_use(f->reader, &use), -EBADMSG);
}

static void test_damage(void **state)
{
	struct fixture *f = *state;
	struct ofs_hint h = numbered(1), back;
	struct ofs_ring_head head;
	uint8_t byte;

	assert_int_equal(ofs_ring_write(&f->w, &h, 0), 0);
	/* every byte of the slot behind seq is covered */
	for (off_t at = OFS_RING_HEAD_BYTES + 8; at < OFS_RING_HEAD_BYTES + OFS_RING_SLOT_BYTES;
			at++) {
		assert_int_equal(pread(f->reader, &byte, 1, at), 1);
		byte ^= 0x10;
		assert_int_equal(pwrite(f->reader, &byte, 1, at), 1);
		assert_int_equal(ofs_ring_read(f->reader, 1, &back), -EBADMSG);
		byte ^= 0x10;
		assert_int_equal(pwrite(f->reader, &byte, 1, at), 1);
	}
	assert_int_equal(ofs_ring_read(f->reader, 1, &back), 1);
	/* a hostile truncate is an error and no signal */
	assert_int_equal(ftruncate(f->reader, OFS_RING_HEAD_BYTES + 100), 0);
	assert_int_equal(ofs_ring_read(f->reader, 1, &back), -EBADMSG);
	assert_int_equal(ofs_ring_read_head(f->reader, &head), -EBADMSG);
	assert_int_equal(ftruncate(f->reader, 0), 0);
	assert_int_equal(ofs_ring_read_head(f->reader, &head), -EBADMSG);
}

static void test_refused_files(void **state)
{
	struct fixture *f = *state;
	struct ofs_ring_writer w;
	int fd;

	/* in use */
	fd = openat(f->dirfd, "1.ring", O_RDWR | O_CLOEXEC);
	assert_int_equal(ofs_ring_writer_init(&w, fd), -EBUSY);
	close(fd);
	/* not a ring */
	fd = openat(f->dirfd, "1.ring", O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "x", 1, 0), 1);
	assert_int_equal(ofs_ring_writer_init(&w, fd), -EBADMSG);
	close(fd);
	assert_null(w.head);
	ofs_ring_writer_fini(&w); /* harmless */
}

static void test_writer_death(void **state)
{
	struct fixture *f = *state;
	struct ofs_hint back;
	int ready[2], fd, status;
	char c;
	pid_t pid;

	assert_false(ofs_ring_writer_dead(f->reader));
	ofs_ring_writer_fini(&f->w);
	assert_true(ofs_ring_writer_dead(f->reader));
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		struct ofs_ring_writer w;
		struct ofs_hint h = numbered(1);

		fd = openat(f->dirfd, "1.ring", O_RDWR | O_CLOEXEC);
		if (ofs_ring_writer_init(&w, fd) != 0 || ofs_ring_write(&w, &h, 0) != 0) {
			_exit(1);
		}
		/* as if killed between seq and head */
		atomic_store(&w.head->head, 0);
		if (write(ready[1], "x", 1) != 1) {
			_exit(1);
		}
		pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_false(ofs_ring_writer_dead(f->reader));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	assert_true(ofs_ring_writer_dead(f->reader));
	/* what it wrote is there, and the next writer goes on behind it */
	assert_int_equal(ofs_ring_read(f->reader, 1, &back), 1);
	fd = openat(f->dirfd, "1.ring", O_RDWR | O_CLOEXEC);
	assert_int_equal(ofs_ring_writer_init(&f->w, fd), 0);
	back = numbered(2);
	assert_int_equal(ofs_ring_write(&f->w, &back, 0), 0);
	assert_int_equal(ofs_ring_read(f->reader, 2, &back), 1);
	assert_int_equal(back.ino, 2);
	close(ready[0]);
	close(ready[1]);
}

/* A reader that never waits beside a writer: every hint once, in order, none damaged. */
#define LIVE_HINTS 20000u

static void *live_writer(void *arg)
{
	struct fixture *f = arg;

	for (uint64_t n = 1; n <= LIVE_HINTS; n++) {
		struct ofs_hint h = numbered(n);

		if (ofs_ring_write(&f->w, &h, 10000) != 0) {
			return "lost";
		}
	}
	return NULL;
}

static void test_live(void **state)
{
	struct fixture *f = *state;
	struct ofs_hint back;
	pthread_t thread;
	uint64_t tail = 0;
	void *result;

	assert_int_equal(pthread_create(&thread, NULL, live_writer, f), 0);
	while (tail < LIVE_HINTS) {
		int ret = ofs_ring_read(f->reader, tail + 1, &back);

		if (ret == 0) {
			ofs_ring_set_tail(f->reader, tail);
			continue;
		}
		assert_int_equal(ret, 1);
		tail++;
		assert_int_equal(back.ino, tail);
		if (tail % 100 == 0) {
			ofs_ring_set_tail(f->reader, tail);
		}
	}
	pthread_join(thread, &result);
	assert_null(result);
}

/* A file system without room: a lost hint and no SIGBUS. */
static void test_no_space(void **state)
{
	struct fixture *f = *state;
	struct ofs_hint h = numbered(1);
	int fd;

	fd = openat(f->dirfd, "1.ring", O_RDONLY | O_CLOEXEC); /* fallocate refuses it */
	close(f->w.fd);
	f->w.fd = fd;
	assert_int_equal(ofs_ring_write(&f->w, &h, 0), -ENOSPC);
	assert_int_equal(atomic_load(&f->w.head->lost), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_create_twice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_laps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_hints, setup, teardown),
		cmocka_unit_test_setup_teardown(test_use, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_writer_death, setup, teardown),
		cmocka_unit_test_setup_teardown(test_live, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_space, setup, teardown),
	};

	return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
