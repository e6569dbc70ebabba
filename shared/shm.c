/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The pages a volume's daemon and modules share: capacity, doorbell state, striped locks.
 * Way: made by the daemon, handed to modules with HELLO.
 * Thread: any; a lock waits up to the caller's deadline.
 * Owns: the mapping, between map and unmap; never the descriptor.
 * Holds: 1. `magic` is stored last, so a creation cut short is done again; sound pages of an
 *           earlier daemon are taken over as they are, for modules hold them mapped and locked.
 *        2. The file never shrinks, and all its pages are allocated: no SIGBUS from a full disk.
 *        3. A lock whose owner died is made consistent by the next one: what it protects is a
 *           record, replaced in one setxattr, never half done.
 *        4. Nobody unmaps while holding a lock (the C library's robust list points into it).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "mix.h"

_Static_assert(sizeof(struct ofs_shm_stripe) == 128, "a stripe fills two cache lines");
_Static_assert(offsetof(struct ofs_shm, stripe) == 128, "stripes are aligned");
_Static_assert((OFS_SHM_STRIPES & (OFS_SHM_STRIPES - 1)) == 0, "a power of two");

static int shm_init(struct ofs_shm *shm)
{
	pthread_mutexattr_t attr;
	int ret;

	memset(shm, 0, sizeof(*shm));
	ret = pthread_mutexattr_init(&attr);
	if (ret != 0) {
		return ret;
	}
	ret = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	if (ret == 0) {
		ret = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	}
	for (unsigned i = 0; ret == 0 && i < OFS_SHM_STRIPES; i++) {
		ret = pthread_mutex_init(&shm->stripe[i].lock, &attr);
	}
	pthread_mutexattr_destroy(&attr);
	if (ret == 0) {
		shm->stripes = OFS_SHM_STRIPES;
		__atomic_store_n(&shm->magic, OFS_SHM_MAGIC, __ATOMIC_RELEASE);
	}
	return ret;
}

static int shm_grow(int fd, off_t size)
{
	if (fallocate(fd, 0, 0, (off_t)sizeof(struct ofs_shm)) == 0) {
		return 0;
	}
	if (errno != EOPNOTSUPP) {
		return errno;
	}
	if (size < (off_t)sizeof(struct ofs_shm) && ftruncate(fd, sizeof(struct ofs_shm)) != 0) {
		return errno;
	}
	return 0;
}

struct ofs_shm *ofs_shm_map(int fd, bool create)
{
	struct ofs_shm *shm;
	struct stat st;
	int err = 0;

	if (fstat(fd, &st) != 0) {
		return NULL;
	}
	if (create) {
		err = shm_grow(fd, st.st_size);
	} else if (st.st_size < (off_t)sizeof(*shm)) {
		err = EBADMSG;
	}
	if (err != 0) {
		errno = err;
		return NULL;
	}
	shm = mmap(NULL, sizeof(*shm), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shm == MAP_FAILED) {
		return NULL;
	}
	if (__atomic_load_n(&shm->magic, __ATOMIC_ACQUIRE) != OFS_SHM_MAGIC ||
			shm->stripes != OFS_SHM_STRIPES) {
		err = create ? shm_init(shm) : EBADMSG;
	}
	if (err != 0) {
		munmap(shm, sizeof(*shm));
		errno = err;
		return NULL;
	}
	return shm;
}

void ofs_shm_unmap(struct ofs_shm **shm)
{
	if (*shm != NULL) {
		munmap(*shm, sizeof(**shm));
		*shm = NULL;
	}
}

uint32_t ofs_shm_stripe_of(ino_t ino)
{
	return (uint32_t)ofs_mix64(0, ino) & (OFS_SHM_STRIPES - 1);
}

static pthread_mutex_t *shm_mutex(struct ofs_shm *shm, uint32_t stripe)
{
	return &shm->stripe[stripe & (OFS_SHM_STRIPES - 1)].lock;
}

int ofs_shm_lock(struct ofs_shm *shm, uint32_t stripe, int timeout_ms)
{
	pthread_mutex_t *lock = shm_mutex(shm, stripe);
	int ret;

	ret = pthread_mutex_trylock(lock);
	if (ret == EBUSY && timeout_ms > 0) {
		struct timespec ts;

		clock_gettime(CLOCK_MONOTONIC, &ts);
		ts.tv_sec += timeout_ms / 1000;
		ts.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
		if (ts.tv_nsec >= 1000000000) {
			ts.tv_nsec -= 1000000000;
			ts.tv_sec++;
		}
		ret = pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, &ts);
	}
	if (ret == EOWNERDEAD) {
		ret = pthread_mutex_consistent(lock);
	}
	if (ret == EBUSY) {
		return -ETIMEDOUT;
	}
	return -ret;
}

void ofs_shm_unlock(struct ofs_shm *shm, uint32_t stripe)
{
	(void)pthread_mutex_unlock(shm_mutex(shm, stripe));
}
