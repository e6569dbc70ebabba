/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared pages: creation, taking over, locks across processes, deadlines, death of an owner. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "shared/shm.h"

static void test_create_and_take_over(void **state)
{
	int fd = memfd_create("shm", MFD_CLOEXEC);
	struct ofs_shm *a, *b;

	(void)state;
	assert_null(ofs_shm_map(fd, false)); /* nothing there yet */
	assert_int_equal(errno, EBADMSG);
	a = ofs_shm_map(fd, true);
	assert_non_null(a);
	atomic_store(&a->capacity_bytes, 77);
	atomic_store(&a->stripe[OFS_SHM_STRIPES - 1].changes, 5);
	b = ofs_shm_map(fd, false);
	assert_non_null(b);
	assert_int_equal(atomic_load(&b->capacity_bytes), 77);
	/* a restarted daemon does not wipe what modules hold */
	assert_int_equal(ofs_shm_lock(b, 3, 0), 0);
	ofs_shm_unmap(&a);
	assert_null(a);
	a = ofs_shm_map(fd, true);
	assert_non_null(a);
	assert_int_equal(atomic_load(&a->stripe[OFS_SHM_STRIPES - 1].changes), 5);
	assert_int_equal(ofs_shm_lock(a, 3, 0), -ETIMEDOUT);
	ofs_shm_unlock(b, 3);
	/* creation cut short: done again */
	a->magic = 0;
	assert_null(ofs_shm_map(fd, false));
	assert_int_equal(errno, EBADMSG);
	ofs_shm_unmap(&b);
	b = ofs_shm_map(fd, true);
	assert_non_null(b);
	assert_int_equal(atomic_load(&b->capacity_bytes), 0);
	ofs_shm_unmap(&a);
	ofs_shm_unmap(&b);
	close(fd);
	assert_null(ofs_shm_map(fd, true));
	assert_int_equal(errno, EBADF);
}

static void test_stripes(void **state)
{
	unsigned seen[OFS_SHM_STRIPES] = {0}, most = 0;

	(void)state;
	for (ino_t ino = 1; ino <= 64 * OFS_SHM_STRIPES; ino++) {
		uint32_t s = ofs_shm_stripe_of(ino * 4096);

		assert_true(s < OFS_SHM_STRIPES);
		seen[s]++;
		most = seen[s] > most ? seen[s] : most;
	}
	assert_true(most < 128); /* 64 each on average */
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* A process that takes the lock, says so, and waits to be killed. */
static pid_t holder(struct ofs_shm *shm, uint32_t stripe)
{
	int ready[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		if (ofs_shm_lock(shm, stripe, 1000) != 0 || write(ready[1], "x", 1) != 1) {
			_exit(1);
		}
		for (;;) {
			pause();
		}
	}
	assert_true(pid > 0);
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

static void test_lock_between_processes(void **state)
{
	int fd = memfd_create("shm", MFD_CLOEXEC);
	struct ofs_shm *shm = ofs_shm_map(fd, true);
	int64_t start;
	int status;
	pid_t pid;

	(void)state;
	assert_non_null(shm);
	pid = holder(shm, 7);
	start = now_ms();
	assert_int_equal(ofs_shm_lock(shm, 7, 1100), -ETIMEDOUT);
	assert_true(now_ms() - start >= 1099);
	assert_int_equal(ofs_shm_lock(shm, 7, 0), -ETIMEDOUT);
	assert_int_equal(ofs_shm_lock(shm, 8, 0), 0); /* others are free */
	ofs_shm_unlock(shm, 8);
	/* its owner dies: ours, and usable ever after */
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	assert_int_equal(ofs_shm_lock(shm, 7, 5000), 0);
	ofs_shm_unlock(shm, 7);
	assert_int_equal(ofs_shm_lock(shm, 7, 0), 0);
	ofs_shm_unlock(shm, 7);
	ofs_shm_unmap(&shm);
	close(fd);
}

static void test_counting(void **state)
{
	int fd = memfd_create("shm", MFD_CLOEXEC);
	struct ofs_shm *shm = ofs_shm_map(fd, true);
	uint64_t *plain;
	pid_t pid[3];

	(void)state;
	assert_non_null(shm);
	/* a plain increment under the lock, from three processes */
	plain = (uint64_t *)(void *)&shm->stripe[5].pad[0];
	for (int i = 0; i < 3; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			for (int n = 0; n < 5000; n++) {
				if (ofs_shm_lock(shm, 5, 10000) != 0) {
					_exit(1);
				}
				*plain += 1;
				ofs_shm_unlock(shm, 5);
			}
			_exit(0);
		}
	}
	for (int i = 0; i < 3; i++) {
		int status;

		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(*plain, 15000);
	ofs_shm_unmap(&shm);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create_and_take_over),
		cmocka_unit_test(test_stripes),
		cmocka_unit_test(test_lock_between_processes),
		cmocka_unit_test(test_counting),
	};

	return cmocka_run_group_tests_name("shm", tests, NULL, NULL);
}
