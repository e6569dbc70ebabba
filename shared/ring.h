/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The hint ring of one module connection: a file <run directory>/<volume>.rings/<name>.ring made by
 * the daemon, handed over with HELLO, mapped by the module (one writer, one thread), read by the
 * daemon with pread only (a truncate must not SIGBUS it). It outlives kill -9 of either side.
 *
 * Head page (4096 bytes), then OFS_RING_SLOTS slots of OFS_RING_SLOT_BYTES. Slot of hint number n
 * (from 1) is (n - 1) % SLOTS; its `seq` is stored last. The writer holds an OFD write lock on byte
 * 0 while it lives. `tail` (last hint consumed) is written by the daemon with pwrite. At
 * OFS_RING_USE_OFFSET of the head page the module counts what it does (struct ofs_use).
 */
#ifndef OFS_SHARED_RING_H
#define OFS_SHARED_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "record.h"

#define OFS_RING_MAGIC 0x31474e52u /* "RNG1" */
#define OFS_RING_SLOTS 1024u
#define OFS_RING_SLOT_BYTES 640u
#define OFS_RING_HEAD_BYTES 4096u
#define OFS_NAME_MAX_BYTES 255u

enum ofs_hint_kind {
	OFS_HINT_CREATED = 1,
	OFS_HINT_DIRTY,    /* first write of a handle */
	OFS_HINT_CLOSED,   /* last use of a handle that wrote */
	OFS_HINT_RENAMED,  /* old_parent/old_name -> parent/name; target = replaced oid or none */
	OFS_HINT_UNLINKED,
	OFS_HINT_MKDIR,
	OFS_HINT_RMDIR,
	OFS_HINT_ATTR, /* metadata changed */
	OFS_HINT_OPENED, /* a resident file, for its data: oid and ino are all it says */
	OFS_HINT_KIND_MAX
};

/* A hint as both sides see it. Names are NUL-terminated, one component each. */
struct ofs_hint {
	uint16_t kind;
	bool is_dir;
	uint64_t ino;
	struct ofs_oid oid;
	struct ofs_oid parent;
	struct ofs_oid old_parent; /* RENAMED only */
	struct ofs_oid target;     /* RENAMED only */
	char name[OFS_NAME_MAX_BYTES + 1];
	char old_name[OFS_NAME_MAX_BYTES + 1]; /* RENAMED only */
};

struct ofs_ring_head {
	uint32_t magic;
	uint32_t slots;
	uint64_t writer_pid;
	_Atomic uint64_t head; /* last hint written */
	_Atomic uint64_t lost; /* hints dropped since creation; their directories are marked */
	/* stripe + 1 of directories with a change under way, 0 for none; see shm.h changes */
	_Atomic uint32_t inflight[2];
	char pad[128 - 48 + 8];
	_Atomic uint64_t tail; /* own cache line; written by the daemon */
};

/*
 * What one connection has done, most of it without a message: U(name), each also a row of the
 * daemon's counters (base/stats_table.h). One writer, a page of its own: counting costs no more than
 * an addition.
 */
#define OFS_USE_TABLE(U)                                                                           \
	U(opens_here)                                                                              \
	U(opens_away)                                                                              \
	U(reads_here)                                                                              \
	U(reads_away)                                                                              \
	U(names_here)                                                                              \
	U(names_asked)                                                                             \
	U(lists_here)                                                                              \
	U(lists_asked)                                                                             \
	U(client_read_bytes)                                                                       \
	U(client_write_bytes)

#define OFS_USE_CELL(name) _Atomic uint64_t name;
struct ofs_use {
	OFS_USE_TABLE(OFS_USE_CELL)
	char user[64];    /* who and from where, NUL-terminated; "" : not said */
	char address[64];
	/* Bytes that shm's written_bytes has of this module, and that may not be in their files yet: more
	 * before it is counted there, less when the write has ended. */
	_Atomic uint64_t writing_bytes;
};
#undef OFS_USE_CELL
#define OFS_RING_USE_OFFSET 1024u

/* --- daemon: create, attach, read --- */
/* Make an empty ring file of full size at dirfd/name; descriptor or -errno. */
int ofs_ring_create(int dirfd, const char *name);
/*
 * Read hint number `seq` from a ring descriptor. 1: *hint filled; 0: not written yet;
 * -EBADMSG: damaged slot (skip it, treat as lost); other -errno.
 */
int ofs_ring_read(int fd, uint64_t seq, struct ofs_hint *hint);
/* Snapshot of the head page; 0, -EBADMSG, -errno. */
int ofs_ring_read_head(int fd, struct ofs_ring_head *head);
int ofs_ring_set_tail(int fd, uint64_t tail);
/* What its module has counted; its texts are terminated, and otherwise as the module wrote them.
 * 0, -EBADMSG, -errno. */
int ofs_ring_read_use(int fd, struct ofs_use *use);
/* true if nobody holds the writer's lock. */
bool ofs_ring_writer_dead(int fd);

/* --- module: map, write --- */
struct ofs_ring_writer {
	int fd;
	struct ofs_ring_head *head; /* mapping of the whole file; NULL when not open */
	off_t grown; /* on the first lap: the pages up to here are there */
	struct ofs_use *use;        /* in it */
};
#define ofs_ring_count(w, name, n)                                                                 \
	atomic_store_explicit(&(w)->use->name,                                                     \
			atomic_load_explicit(&(w)->use->name, memory_order_relaxed) + (n),         \
			memory_order_relaxed)
/* Map and take the writer's lock; the descriptor is owned by *w afterwards. 0; -EBUSY: another
 * writer lives; -EBADMSG: not a ring; other -errno. On failure the descriptor stays the caller's. */
int ofs_ring_writer_init(struct ofs_ring_writer *w, int fd);
void ofs_ring_writer_fini(struct ofs_ring_writer *w);
/* Hints that the daemon has not read yet. */
uint64_t ofs_ring_unread(const struct ofs_ring_writer *w);
/* 0; -ENOSPC: full after waiting `timeout_ms`; -EINVAL: no sound hint (a name is one component, and
 * may be "" only with DIRTY, CLOSED, ATTR, OPENED). Either way `lost` has been counted. */
int ofs_ring_write(struct ofs_ring_writer *w, const struct ofs_hint *hint, int timeout_ms);

#endif
