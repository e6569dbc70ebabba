/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Room on the local disk, and what is used of it: before a write, whether the cache can take it; after
 * it, how much it was; at an open, that the file is in use.
 * Way: from ofs_io, ofs_copy, ofs_open; to the shared memory and the ring. cached/evict/space.c is the
 *      other end.
 * Thread: the client's smbd; never waits.
 * Owns: nothing.
 * Holds: 1. A write is refused before anything of it has happened: nothing acknowledged is lost, and
 *           the file is not marked dirty for it.
 *        2. Truncation and deletion are never refused: they make room.
 *        3. Hints of use give way to hints of change: they take half of a ring at most.
 */
#include "ofs.h"

#define ROOM_WAIT_MOST_US 1000000u

int ofs_room_check(const struct ofs_conn *c)
{
	return atomic_load_explicit(&c->shm->write_full, memory_order_relaxed) != 0 ? -ENOSPC : 0;
}

unsigned ofs_room_wait_us(const struct ofs_conn *c, size_t n)
{
	uint64_t slow = atomic_load_explicit(&c->shm->write_slow_us, memory_order_relaxed);

	return (unsigned)MIN(slow * n >> 20, ROOM_WAIT_MOST_US);
}

void ofs_room_wrote(const struct ofs_conn *c, off_t n)
{
	if (n > 0) {
		atomic_fetch_add_explicit(&c->shm->written_bytes, (uint64_t)n, memory_order_relaxed);
	}
}

void ofs_room_used(struct ofs_conn *c, const struct ofs_record *rec, ino_t ino)
{
	struct ofs_hint hint;

	if (ofs_ring_unread(&c->ring) >= OFS_RING_SLOTS / 2) {
		return;
	}
	memset(&hint, 0, sizeof(hint));
	hint.kind = OFS_HINT_OPENED;
	hint.ino = ino;
	hint.oid = rec->oid;
	(void)ofs_ring_write(&c->ring, &hint, 0); /* no doorbell: it is read when there is more */
}
