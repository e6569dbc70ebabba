/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Door two: everything that may block on the local disk runs as a disk job on a worker thread.
 * Real: threads. Simulated: jobs run in seeded order on the calling thread (tests/sim).
 *
 * A job is plain self-contained memory (malloc) with one owner: the core until submit, the worker
 * while run, the core again from done on, which frees it. run must not touch core state.
 */
#ifndef OFS_BASE_DISK_H
#define OFS_BASE_DISK_H

#include <talloc.h>
#include "mailbox.h"

struct log_volume;

enum disk_lane {
	DISK_ANY,   /* any worker, no order */
	DISK_ORDER, /* one worker, first in first out: looking at the tree */
	DISK_INDEX, /* one worker, first in first out: the SQLite writer */
	DISK_LANES
};

struct disk_job {
	struct letter letter; /* disk only */
	struct disk_job *next; /* disk only */
	int64_t submitted_ns;  /* disk only */
	const struct log_volume *log; /* disk only: for whom it was submitted */
	const char *what;      /* static, for log and counters */
	void (*run)(struct disk_job *);  /* worker thread, may block */
	void (*done)(struct disk_job *); /* core thread */
};

struct disk;
struct disk_ops {
	void (*submit)(struct disk *, enum disk_lane, struct disk_job *);
};
struct disk {
	const struct disk_ops *ops;
};
static inline void disk_submit(struct disk *d, enum disk_lane lane, struct disk_job *job)
{
	d->ops->submit(d, lane, job);
}

/* Threads: `workers` for DISK_ANY, one for each other lane. Freed by talloc: waits for running
 * jobs, done of what had not run is not called. NULL: no memory or threads. */
struct disk *disk_real_new(TALLOC_CTX *ctx, struct mailbox *mb, unsigned workers);

#endif
