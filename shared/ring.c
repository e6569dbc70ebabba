/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The hint ring: written through a mapping by one module connection, read with pread by the daemon.
 * Way: module (writer half) to daemon (reader half); the doorbell is rung by the module.
 * Thread: writer: the one thread of its smbd; reader: the daemon's core or a worker. The writer
 *         blocks up to its timeout when the ring is full, the reader never waits.
 * Owns: the writer: its descriptor, mapping and OFD lock; the reader: nothing.
 * Holds: 1. Store order of a slot: payload, crc, seq (release), then head. A reader that sees seq
 *           therefore sees the rest, but for a copy torn across the store: so seq is read first,
 *           then the slot, and a crc that does not fit is read again before it counts as damage.
 *        2. A slot is written again only when tail has passed it.
 *        3. The crc covers seq, so an old lap's payload is never taken for a new one.
 *        4. On the first lap every slot's pages are allocated before they are touched: a full
 *           file system gives a lost hint and not a SIGBUS in smbd.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "cursor.h"

#define RING_FILE_BYTES (OFS_RING_HEAD_BYTES + (size_t)OFS_RING_SLOTS * OFS_RING_SLOT_BYTES)
#define RING_CRC_OFFSET 8u
#define RING_PAYLOAD_OFFSET 12u
#define RING_GROW_BYTES 65536 /* a hundred slots at a time */
#define RING_WAIT_NS 100000L
#define RING_READ_TRIES 3

_Static_assert(offsetof(struct ofs_ring_head, tail) == 128, "tail has its own cache line");
_Static_assert(sizeof(struct ofs_ring_head) <= OFS_RING_USE_OFFSET &&
				OFS_RING_USE_OFFSET + sizeof(struct ofs_use) <= OFS_RING_HEAD_BYTES,
		"both fit the head page");
_Static_assert(OFS_RING_SLOT_BYTES % 8 == 0 && OFS_RING_HEAD_BYTES % 8 == 0, "seq is aligned");
/* kind, is_dir, two name lengths, ino, four ids, two names */
_Static_assert(RING_PAYLOAD_OFFSET + 2 + 1 + 2 + 8 + 4 * 16 + 2 * OFS_NAME_MAX_BYTES <=
				OFS_RING_SLOT_BYTES, "payload fits a slot");

static off_t ring_slot_offset(uint64_t seq)
{
	return (off_t)(OFS_RING_HEAD_BYTES + (seq - 1) % OFS_RING_SLOTS * OFS_RING_SLOT_BYTES);
}

/* --- a slot's bytes --- */

/* A component; empty only where no name is needed: a change of a share's root, a file unlinked. */
static bool ring_name_sound(const char *name, size_t len, bool may_be_empty)
{
	if (len == 0) {
		return may_be_empty;
	}
	if (len > OFS_NAME_MAX_BYTES || memchr(name, '/', len) != NULL ||
			memchr(name, '\0', len) != NULL) {
		return false;
	}
	return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

static bool ring_hint_sound(const struct ofs_hint *hint, size_t name_len, size_t old_len)
{
	bool needs_name = true;

	switch (hint->kind) {
	case OFS_HINT_DIRTY:
	case OFS_HINT_CLOSED:
	case OFS_HINT_ATTR:
	case OFS_HINT_OPENED:
		needs_name = false;
		break;
	case OFS_HINT_CREATED:
	case OFS_HINT_RENAMED:
	case OFS_HINT_UNLINKED:
	case OFS_HINT_MKDIR:
	case OFS_HINT_RMDIR:
		break;
	default:
		return false;
	}
	return ring_name_sound(hint->name, name_len, !needs_name) &&
			ring_name_sound(hint->old_name, old_len, hint->kind != OFS_HINT_RENAMED);
}

/* False if the hint says nothing sound. The seq is left as it is. */
static bool ring_slot_encode(uint8_t slot[OFS_RING_SLOT_BYTES], const struct ofs_hint *hint)
{
	size_t name_len = strnlen(hint->name, sizeof(hint->name));
	size_t old_len = strnlen(hint->old_name, sizeof(hint->old_name));
	struct ofs_wr c = ofs_wr_init(
			slot + RING_PAYLOAD_OFFSET, OFS_RING_SLOT_BYTES - RING_PAYLOAD_OFFSET);

	if (!ring_hint_sound(hint, name_len, old_len)) {
		return false;
	}
	ofs_wr_u16(&c, hint->kind);
	ofs_wr_u8(&c, hint->is_dir ? 1 : 0);
	ofs_wr_u8(&c, (uint8_t)name_len);
	ofs_wr_u8(&c, (uint8_t)old_len);
	ofs_wr_u64(&c, hint->ino);
	ofs_wr_bytes(&c, hint->oid.bytes, sizeof(hint->oid.bytes));
	ofs_wr_bytes(&c, hint->parent.bytes, sizeof(hint->parent.bytes));
	ofs_wr_bytes(&c, hint->old_parent.bytes, sizeof(hint->old_parent.bytes));
	ofs_wr_bytes(&c, hint->target.bytes, sizeof(hint->target.bytes));
	ofs_wr_bytes(&c, hint->name, name_len);
	ofs_wr_bytes(&c, hint->old_name, old_len);
	ofs_wr_zero(&c, c.left);
	return !c.bad;
}

static bool ring_slot_decode(const uint8_t slot[OFS_RING_SLOT_BYTES], struct ofs_hint *hint)
{
	struct ofs_rd c = ofs_rd_init(
			slot + RING_PAYLOAD_OFFSET, OFS_RING_SLOT_BYTES - RING_PAYLOAD_OFFSET);
	uint8_t is_dir, name_len, old_len;

	memset(hint, 0, sizeof(*hint));
	hint->kind = ofs_rd_u16(&c);
	is_dir = ofs_rd_u8(&c);
	name_len = ofs_rd_u8(&c);
	old_len = ofs_rd_u8(&c);
	hint->ino = ofs_rd_u64(&c);
	ofs_rd_copy(&c, hint->oid.bytes, sizeof(hint->oid.bytes));
	ofs_rd_copy(&c, hint->parent.bytes, sizeof(hint->parent.bytes));
	ofs_rd_copy(&c, hint->old_parent.bytes, sizeof(hint->old_parent.bytes));
	ofs_rd_copy(&c, hint->target.bytes, sizeof(hint->target.bytes));
	ofs_rd_copy(&c, hint->name, name_len);
	ofs_rd_copy(&c, hint->old_name, old_len);
	hint->is_dir = is_dir == 1;
	return !c.bad && is_dir <= 1 && ring_hint_sound(hint, name_len, old_len);
}

static uint32_t ring_slot_crc(uint64_t seq, const uint8_t slot[OFS_RING_SLOT_BYTES])
{
	uint8_t le[8];
	struct ofs_wr c = ofs_wr_init(le, sizeof(le));

	ofs_wr_u64(&c, seq);
	return ofs_crc32c(ofs_crc32c(0, le, sizeof(le)), slot + RING_PAYLOAD_OFFSET,
			OFS_RING_SLOT_BYTES - RING_PAYLOAD_OFFSET);
}

/* --- daemon --- */

static int ring_pread(int fd, void *buf, size_t len, off_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (uint8_t *)buf + done, len - done, offset + (off_t)done);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return n < 0 ? -errno : -EBADMSG; /* truncated by somebody */
		}
		done += (size_t)n;
	}
	return 0;
}

static int ring_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, (const uint8_t *)buf + done, len - done, offset + (off_t)done);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return n < 0 ? -errno : -EIO;
		}
		done += (size_t)n;
	}
	return 0;
}

int ofs_ring_create(int dirfd, const char *name)
{
	struct ofs_ring_head head = {.magic = OFS_RING_MAGIC, .slots = OFS_RING_SLOTS};
	uint8_t page[OFS_RING_HEAD_BYTES] = {0}; /* whole: the module must not find a hole in it */
	int fd, ret;

	memcpy(page, &head, sizeof(head));

	fd = openat(dirfd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		return -errno;
	}
	if (ftruncate(fd, (off_t)RING_FILE_BYTES) != 0) {
		ret = -errno;
	} else {
		ret = ring_pwrite(fd, page, sizeof(page), 0);
	}
	if (ret != 0) {
		unlinkat(dirfd, name, 0);
		close(fd);
		return ret;
	}
	return fd;
}

int ofs_ring_read(int fd, uint64_t seq, struct ofs_hint *hint)
{
	off_t offset = ring_slot_offset(seq);

	memset(hint, 0, sizeof(*hint));
	if (seq == 0) {
		return -EINVAL;
	}
	for (int i = 0; i < RING_READ_TRIES; i++) {
		uint8_t slot[OFS_RING_SLOT_BYTES];
		uint64_t before, after;
		uint32_t crc;
		int ret;

		ret = ring_pread(fd, &before, sizeof(before), offset);
		if (ret != 0) {
			return ret;
		}
		if (before < seq) {
			return 0;
		}
		if (before > seq) { /* overrun: this writer keeps no rules */
			return -EBADMSG;
		}
		ret = ring_pread(fd, slot, sizeof(slot), offset);
		if (ret == 0) {
			ret = ring_pread(fd, &after, sizeof(after), offset);
		}
		if (ret != 0) {
			return ret;
		}
		memcpy(&before, slot, sizeof(before));
		memcpy(&crc, slot + RING_CRC_OFFSET, sizeof(crc));
		if (before == seq && after == seq && crc == ring_slot_crc(seq, slot)) {
			if (ring_slot_decode(slot, hint)) {
				return 1;
			}
			memset(hint, 0, sizeof(*hint));
			return -EBADMSG;
		}
	}
	return -EBADMSG;
}

int ofs_ring_read_head(int fd, struct ofs_ring_head *head)
{
	struct stat st;
	int ret;

	ret = ring_pread(fd, head, sizeof(*head), 0);
	if (ret != 0) {
		return ret;
	}
	if (head->magic != OFS_RING_MAGIC || head->slots != OFS_RING_SLOTS) {
		return -EBADMSG;
	}
	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	return S_ISREG(st.st_mode) && st.st_size == (off_t)RING_FILE_BYTES ? 0 : -EBADMSG;
}

int ofs_ring_set_tail(int fd, uint64_t tail)
{
	return ring_pwrite(fd, &tail, sizeof(tail), offsetof(struct ofs_ring_head, tail));
}

int ofs_ring_read_use(int fd, struct ofs_use *use)
{
	int ret = ring_pread(fd, use, sizeof(*use), OFS_RING_USE_OFFSET);

	use->user[sizeof(use->user) - 1] = '\0';
	use->address[sizeof(use->address) - 1] = '\0';
	return ret;
}

static struct flock ring_writer_lock(void)
{
	return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
}

/* An error answers false: a ring given up too early loses hints, one kept too long does not. */
bool ofs_ring_writer_dead(int fd)
{
	struct flock lock = ring_writer_lock();

	if (fcntl(fd, F_OFD_GETLK, &lock) != 0) {
		return false;
	}
	return lock.l_type == F_UNLCK;
}

/* --- module --- */

static uint8_t *ring_slot(const struct ofs_ring_writer *w, uint64_t seq)
{
	return (uint8_t *)w->head + ring_slot_offset(seq);
}

static _Atomic uint64_t *ring_slot_seq(const struct ofs_ring_writer *w, uint64_t seq)
{
	return (_Atomic uint64_t *)(void *)ring_slot(w, seq);
}

int ofs_ring_writer_init(struct ofs_ring_writer *w, int fd)
{
	struct flock lock = ring_writer_lock();
	struct ofs_ring_head head;
	uint64_t last;
	void *map;
	int ret;

	w->fd = -1;
	w->head = NULL;
	w->use = NULL;
	ret = ofs_ring_read_head(fd, &head);
	if (ret != 0) {
		return ret;
	}
	if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
		return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
	}
	map = mmap(NULL, RING_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		ret = -errno;
		lock.l_type = F_UNLCK;
		(void)fcntl(fd, F_OFD_SETLK, &lock);
		return ret;
	}
	w->fd = fd;
	w->head = map;
	w->grown = 0;
	w->use = (struct ofs_use *)((uint8_t *)map + OFS_RING_USE_OFFSET);
	w->head->writer_pid = (uint64_t)getpid();
	/* a writer killed between seq and head has left head one behind */
	last = atomic_load(&w->head->head);
	while (last < UINT64_MAX && atomic_load(ring_slot_seq(w, last + 1)) == last + 1) {
		last++;
	}
	atomic_store(&w->head->head, last);
	return 0;
}

void ofs_ring_writer_fini(struct ofs_ring_writer *w)
{
	if (w->head != NULL) {
		munmap(w->head, RING_FILE_BYTES);
		w->head = NULL;
		w->use = NULL;
		close(w->fd); /* and with it, the lock */
		w->fd = -1;
	}
}

static int64_t ring_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

uint64_t ofs_ring_unread(const struct ofs_ring_writer *w)
{
	return atomic_load_explicit(&w->head->head, memory_order_relaxed) -
	       atomic_load_explicit(&w->head->tail, memory_order_relaxed);
}

static bool ring_full(const struct ofs_ring_writer *w, uint64_t last)
{
	uint64_t tail = atomic_load_explicit(&w->head->tail, memory_order_acquire);

	return last - tail >= OFS_RING_SLOTS; /* true also for a tail beyond head: damaged */
}

static bool ring_wait_room(const struct ofs_ring_writer *w, uint64_t last, int timeout_ms)
{
	int64_t deadline;

	if (!ring_full(w, last)) {
		return true;
	}
	deadline = ring_now_ns() + (int64_t)timeout_ms * 1000000;
	do {
		struct timespec pause = {.tv_nsec = RING_WAIT_NS};

		if (ring_now_ns() >= deadline) {
			return false;
		}
		nanosleep(&pause, NULL);
	} while (ring_full(w, last));
	return true;
}

/* The pages of the slot are there, and those of the next ones. */
static bool ring_grow(struct ofs_ring_writer *w, uint64_t seq)
{
	off_t at = ring_slot_offset(seq), len = (off_t)RING_FILE_BYTES - at;

	if (seq > OFS_RING_SLOTS || at + (off_t)OFS_RING_SLOT_BYTES <= w->grown) {
		return true;
	}
	len = len < RING_GROW_BYTES ? len : RING_GROW_BYTES;
	if (fallocate(w->fd, 0, at, len) != 0 && errno != EOPNOTSUPP) {
		return false;
	}
	w->grown = at + len;
	return true;
}

int ofs_ring_write(struct ofs_ring_writer *w, const struct ofs_hint *hint, int timeout_ms)
{
	uint64_t last = atomic_load_explicit(&w->head->head, memory_order_relaxed);
	uint64_t seq = last + 1;
	uint8_t encoded[OFS_RING_SLOT_BYTES];
	uint8_t *slot = ring_slot(w, seq);
	uint32_t crc;
	bool room;

	if (!ring_slot_encode(encoded, hint)) {
		atomic_fetch_add(&w->head->lost, 1);
		return -EINVAL;
	}
	room = ring_wait_room(w, last, timeout_ms) && ring_grow(w, seq);
	if (!room) {
		atomic_fetch_add(&w->head->lost, 1);
		return -ENOSPC;
	}
	crc = ring_slot_crc(seq, encoded);
	memcpy(slot + RING_PAYLOAD_OFFSET, encoded + RING_PAYLOAD_OFFSET,
			OFS_RING_SLOT_BYTES - RING_PAYLOAD_OFFSET);
	memcpy(slot + RING_CRC_OFFSET, &crc, sizeof(crc));
	atomic_store_explicit(ring_slot_seq(w, seq), seq, memory_order_release);
	/* sequentially consistent: the module looks at `core_sleeps` next */
	atomic_store(&w->head->head, seq);
	return 0;
}
