/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One page set per volume, mapped by the daemon and by every module connection of that volume;
 * a file <run directory>/<volume>.shm that outlives restarts of either side.
 *
 * Stripes are chosen by inode number. `lock` (robust, process-shared) is held around
 * read-compare-set of a record, by module and daemon alike; never across a wait. `changes` counts
 * changes begun in directories of the stripe, `writes` says of writes to files of
 * the stripe how many have begun (upper half) and how many are under way (lower half).
 */
#ifndef OFS_SHARED_SHM_H
#define OFS_SHARED_SHM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#define OFS_SHM_MAGIC 0x314d4853u /* "SHM1" */
#define OFS_SHM_STRIPES 1024u

struct ofs_shm_stripe {
	pthread_mutex_t lock;
	_Atomic uint64_t changes;
	_Atomic uint64_t writes;
	char pad[128 - sizeof(pthread_mutex_t) - 16];
};

#define OFS_SHM_DURABLE_NS (16LL * 60 * 1000000000) /* Samba keeps no durable handle for longer (smb2_create.c) */

struct ofs_shm {
	uint32_t magic;
	uint32_t stripes;
	_Atomic uint64_t capacity_bytes; /* what SMB clients are told, set by the daemon */
	_Atomic uint64_t used_bytes;
	_Atomic uint32_t core_sleeps; /* 1: a hint must ring the doorbell (exchange to 0 first) */
	_Atomic uint32_t intent_epoch; /* grows when the daemon has rotated the intent file */
	_Atomic uint64_t written_bytes; /* by all modules, ever; overwriting counts too */
	_Atomic uint32_t write_slow_us; /* modules let every MiB written wait for so long */
	_Atomic uint32_t write_full;    /* 1: writes are refused (ENOSPC), truncation is not */
	_Atomic uint64_t daemon_generation; /* grows with every start of the daemon, before it does anything */
	_Atomic uint64_t write_limit;   /* written_bytes stays below: writes wait for more; 0: no limit */
	/* for the next daemon, until it has counted: what was here when written_bytes was so much */
	_Atomic uint64_t cache_bytes, cache_at;
	_Atomic uint32_t write_waits;   /* grows while any of them waits for that */
	_Atomic int64_t durable_until_ns; /* CLOCK_BOOTTIME; no durable handle whose client is away lasts longer */
	_Atomic uint32_t read_only; /* 1: S3 may not be written, and nothing here is to be changed (EROFS) */
	char pad[128 - 100];
	struct ofs_shm_stripe stripe[OFS_SHM_STRIPES];
};

/* Around each write to a file of the stripe; the upper half may wrap, the lower never does. */
static inline void ofs_shm_write_begin(struct ofs_shm_stripe *s)
{
	atomic_fetch_add(&s->writes, ((uint64_t)1 << 32) + 1);
}
static inline void ofs_shm_write_end(struct ofs_shm_stripe *s)
{
	atomic_fetch_sub(&s->writes, 1);
}

/* Map fd (created and initialised when `create`); NULL and errno. */
struct ofs_shm *ofs_shm_map(int fd, bool create);
void ofs_shm_unmap(struct ofs_shm **shm);
uint32_t ofs_shm_stripe_of(ino_t ino);
/* 0, also after the death of an owner (made consistent); -ETIMEDOUT after timeout_ms. */
int ofs_shm_lock(struct ofs_shm *shm, uint32_t stripe, int timeout_ms);
void ofs_shm_unlock(struct ofs_shm *shm, uint32_t stripe);

#endif
