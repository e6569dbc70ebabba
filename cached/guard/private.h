/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside guard/ only. */
#ifndef OFS_GUARD_PRIVATE_H
#define OFS_GUARD_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/fanotify.h>
#include "guard.h"
#include "../base/log.h"
#include "../base/mailbox.h"
#include "../base/stats.h"
#include "../core/volume.h"

/* <linux/fanotify.h> since 6.14; Debian 12's is older. */
#ifndef FAN_PRE_ACCESS
#define FAN_PRE_ACCESS 0x00100000
#endif
#ifndef FAN_DENY_ERRNO
#define FAN_DENY_ERRNO(err) (FAN_DENY | (((uint32_t)(err)&0xff) << 24))
#endif

#define GUARD_SLOTS 1024u
#define GUARD_HANDLE_BYTES 64u
#define GUARD_SMBD 1024u
#define GUARD_MARK_BYTES 1280u /* of kernel memory: an inode that stays, and its mark */

/*
 * What the next daemon must know, in memory that the service manager keeps beside the group: the
 * kernel gives an event out once, and is answered by its number.
 */
struct guard_slot {
	_Atomic int32_t number; /* of the event, and 1; 0: free */
	int32_t type;           /* of the handle */
	uint32_t bytes;         /* 0: there is none */
	uint8_t handle[GUARD_HANDLE_BYTES];
};
struct guard_kept {
	uint64_t magic;
	_Atomic uint32_t complete; /* every stub has its mark */
	_Atomic int32_t highest;   /* number of any event so far */
	_Atomic int64_t marks;     /* about */
	struct guard_slot slot[GUARD_SLOTS];
};

struct guard {
	/* constant after guard_open */
	struct volume *v;
	struct mailbox *mb;
	bool (*knows)(void *arg, pid_t pid);
	void *knows_arg;
	pid_t pid;        /* ours */
	int fd;           /* of the fanotify group; -1: nothing is guarded */
	const char *why;  /* then */
	int stop_fd, kept_fd;
	bool is_kept;     /* a service manager has the guard, too */
	int64_t limit;    /* of marks */
	pthread_t thread;
	bool has_thread;
	/* shared, atomics */
	struct guard_kept *kept;
	_Atomic pid_t smbd[GUARD_SMBD]; /* 0: free; who finds no room asks the core */
	_Atomic int64_t refused; /* stubs without a mark, since the last census */
	/* core only */
	struct guard_wait *waits;
};

struct guard_event { /* malloc'ed; from the thread to the core */
	struct letter letter;
	struct guard *g;
	int fd, slot;
	pid_t pid;
};

/* --- guard.c --- */
/* Let the open (or read) of this event go on, status 0, or fail. The event's descriptor is closed
 * and its slot (-1: none) given up. Any thread. */
void guard_answer(struct guard *g, int fd, int slot, int status);

/* --- slots.c --- */
/* The memory of an earlier daemon (kept_fd >= 0), or new one. 0 or -errno. */
int guard_slots_open(struct guard *g, int kept_fd);
void guard_slots_close(struct guard *g);
/* The thread's. -1: none is free. */
int guard_slot_take(struct guard *g, int fd);
void guard_slot_give(struct guard *g, int slot);
/* An event was read under this number. */
void guard_slots_note(struct guard *g, int fd);
/* Before the thread: those an earlier daemon left waiting become waits; of whom nothing is known
 * any more gets an error. */
void guard_slots_adopt(struct guard *g);
/* After the thread: whoever waits gets an error. */
void guard_slots_refuse(struct guard *g);

/* --- waits.c: core --- */
/* fd, slot: taken over. From an earlier daemon: begun by guard_waits_start. */
void guard_wait_add(struct guard *g, int fd, int slot, pid_t pid, bool later);
void guard_waits_start(struct guard *g);
/* Does one wait under this number? */
bool guard_wait_has(const struct guard *g, int number);
unsigned guard_waits_count(const struct guard *g);

#endif
