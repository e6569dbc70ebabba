/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What volume.c and volume_open.c share of a volume; nobody else includes it. Core thread only. */
#ifndef OFS_CORE_VOLUME_PRIVATE_H
#define OFS_CORE_VOLUME_PRIVATE_H

#include <tevent.h>
#include "core.h"
#include "fence.h"
#include "sure.h"
#include "volume.h"

#define VOLUME_RETRY_FIRST_NS (1 * NS_PER_S)

struct volume_own { /* a volume and what only these two know of it */
	struct volume v;
	struct core *core;
	int shm_fd, doorbell_fd;
	struct tevent_fd *doorbell_fde;
	struct clock_timer *retry, *tick;
	unsigned ticks;
	int64_t retry_ns;
	int64_t used_next_ns;
	bool alone;  /* no other volume's prefix is above ours */
	bool probed;
	bool started; /* its rooms are: it has been READY */
	bool key_missing; /* `.objectfs/key` is to be made */
	struct fence *fence;
	struct sure_watch *sure;
	bool new_tree; /* made at this start */
};

static inline struct volume_own *volume_own(struct volume *v)
{
	return (struct volume_own *)v;
}

/* --- volume.c --- */
/* The doorbell and the tick, from now on; volume_close ends them. 0 or -errno. */
int volume_ticks(struct volume_own *o);

#endif
