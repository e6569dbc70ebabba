/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Room on the local disk: before a write, whether the cache can take it; at an open, that the file is in
 * use.
 * Way: from ofs_io, ofs_copy, ofs_open; to the shared memory and the ring. cached/evict/space.c is the
 *      other end.
 * Thread: the client's smbd; ofs_room_take_now waits for a second at most.
 * Owns: nothing.
 * Holds: 1. A write is refused before anything of it has happened (rule 23): nothing acknowledged is lost, and
 *           the file is not marked dirty for it.
 *        2. Truncation and deletion are never refused: they make room.
 *        3. What all clients write between two looks of the daemon is no more than there is room for:
 *           each takes its part of it first. What then fails to be written counts until the next look.
 *           What is on its way at a look is in the ring: before it is taken, until it has landed.
 *        4. Hints of use give way to hints of change: they take half of a ring at most.
 */
#include "ofs.h"

#include <poll.h>

#define ROOM_WAIT_MOST_US 1000000u
#define ROOM_NOW_TRIES 50
#define ROOM_NOW_WAIT_MS 20

/* Seen by whoever sees what is added to written_bytes after it. */
static void room_writing(struct ofs_conn *c, uint64_t bytes)
{
	c->writing_bytes = bytes;
	atomic_store_explicit(&c->ring.use->writing_bytes, bytes, memory_order_release);
}

int ofs_room_take(struct ofs_conn *c, uint64_t n)
{
	struct ofs_shm *shm = c->shm;
	uint64_t limit = atomic_load(&shm->write_limit), had;

	if (atomic_load(&shm->write_full) != 0) {
		return -ENOSPC;
	}
	room_writing(c, c->writing_bytes + n);
	had = atomic_fetch_add(&shm->written_bytes, n);
	if (limit == 0 || (had < limit && n <= limit - had)) {
		return 0;
	}
	atomic_fetch_sub(&shm->written_bytes, n);
	room_writing(c, c->writing_bytes - n);
	atomic_fetch_add(&shm->write_waits, 1);
	return -EAGAIN;
}

void ofs_room_landed(struct ofs_conn *c, uint64_t n)
{
	room_writing(c, c->writing_bytes - n);
}

int ofs_room_take_now(struct ofs_conn *c, uint64_t n)
{
	int ret = ofs_room_take(c, n);

	for (int i = 0; i < ROOM_NOW_TRIES && ret == -EAGAIN; i++) {
		poll(NULL, 0, ROOM_NOW_WAIT_MS);
		ret = ofs_room_take(c, n);
	}
	return ret == -EAGAIN ? -ENOSPC : ret;
}

unsigned ofs_room_wait_us(const struct ofs_conn *c, size_t n)
{
	uint64_t slow = atomic_load_explicit(&c->shm->write_slow_us, memory_order_relaxed);

	return (unsigned)MIN(slow * n >> 20, ROOM_WAIT_MOST_US);
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
