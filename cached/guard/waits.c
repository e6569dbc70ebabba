/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: one local program that waits for the data of one stub.
 * Way: guard.c's letter, or an earlier daemon's slot -> recall of the whole file -> the answer.
 * Thread: core.
 * Owns: the event's descriptor until the answer; a reader of the recall.
 * Holds: 1. Answered once: when the file is plain, when its recall has failed, or when no more of
 *           it has come for `guard patience`. An error is EIO, and a line in the log.
 *        2. The whole file: who opens it may write, and the first write must find it whole.
 *        3. Freed when it is answered and no callback is to come.
 */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "../recall/recall.h"

struct guard_wait { /* talloc child of the guard */
	struct guard_wait *next, **prev;
	struct guard *g;
	int fd, slot;
	pid_t pid; /* 0: not known any more */
	uint64_t open_id, here; /* bytes, at the last look */
	int64_t since_ns;
	struct clock_timer *timer;
	bool later, answered, asked; /* asked: a callback will come */
};

static int wait_destructor(struct guard_wait *w)
{
	*w->prev = w->next;
	if (w->next != NULL) {
		w->next->prev = w->prev;
	}
	return 0;
}

static void wait_log(const struct guard_wait *w, const char *message)
{
	char link[32], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", w->fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	log_warning("guard", "%s: process %ld gets an I/O error instead of zeros: %s", path,
			(long)w->pid, message);
}

static void wait_answer(struct guard_wait *w, int status, const char *message)
{
	struct guard *g = w->g;

	if (!w->answered) {
		TALLOC_FREE(w->timer);
		if (status != 0) {
			stats_add(guard_errors, 1);
			wait_log(w, message != NULL ? message : strerror(-status));
		} else {
			times_add(step, local_open, clock_now_ns(g->v->clock) - w->since_ns);
		}
		guard_answer(g, w->fd, w->slot, status);
		w->answered = true;
		w->fd = -1;
	}
	if (!w->asked) {
		talloc_free(w);
	}
}

static void wait_expired(void *arg);

static void wait_patience(struct guard_wait *w)
{
	struct volume *v = w->g->v;

	w->timer = clock_timer_add(v->clock, w, clock_now_ns(v->clock) + v->conf->guard_patience_ns,
			wait_expired, w);
	if (w->timer == NULL) {
		wait_answer(w, -ENOMEM, "out of memory");
	}
}

static void wait_expired(void *arg)
{
	struct guard_wait *w = arg;
	uint64_t here = recall_here(w->g->v->recalls, w->open_id);

	w->timer = NULL;
	if (here > w->here) {
		w->here = here;
		wait_patience(w);
		return;
	}
	wait_answer(w, -ETIMEDOUT, "nothing more of it came from S3 within guard patience");
}

static void wait_release(struct guard_wait *w)
{
	uint64_t open_id = w->open_id;

	w->open_id = 0;
	if (open_id != 0) {
		recall_release(w->g->v->recalls, open_id);
	}
}

static void wait_fetched(int status, const char *message, void *arg)
{
	struct guard_wait *w = arg;

	w->asked = false;
	wait_release(w);
	wait_answer(w, status, message);
}

static void wait_opened(int status, const char *message, uint64_t open_id, uint64_t size,
		int map_fd, void *arg)
{
	struct guard_wait *w = arg;

	(void)size;
	if (map_fd >= 0) {
		close(map_fd);
	}
	w->asked = false;
	w->open_id = open_id;
	if (status != 0 || open_id == 0 || w->answered) {
		wait_release(w);
		wait_answer(w, status, message);
		return;
	}
	w->asked = true;
	recall_fetch(w->g->v->recalls, 0, open_id, 0, 0, true, wait_fetched, w);
}

static void wait_start(struct guard_wait *w)
{
	int fd = fcntl(w->fd, F_DUPFD_CLOEXEC, 0);

	w->later = false;
	if (fd < 0) {
		wait_answer(w, -errno, NULL);
		return;
	}
	w->asked = true; /* before the timer: if there is none, it is answered and not yet freed */
	wait_patience(w);
	recall_open(w->g->v->recalls, 0, RECALL_CLIENT_OWN, fd, wait_opened, w);
}

void guard_wait_add(struct guard *g, int fd, int slot, pid_t pid, bool later)
{
	struct guard_wait *w = talloc_zero(g, struct guard_wait);

	stats_add(guard_waits, 1);
	if (w == NULL) {
		guard_answer(g, fd, slot, -ENOMEM);
		return;
	}
	w->g = g;
	w->fd = fd;
	w->slot = slot;
	w->pid = pid;
	w->later = later;
	w->since_ns = clock_now_ns(g->v->clock);
	w->next = g->waits;
	w->prev = &g->waits;
	if (w->next != NULL) {
		w->next->prev = &w->next;
	}
	g->waits = w;
	talloc_set_destructor(w, wait_destructor);
	if (!later) {
		wait_start(w);
	}
}

void guard_waits_start(struct guard *g)
{
	struct guard_wait *w, *next;

	/* One that starts may be answered at once; it never ends another. */
	for (w = g->waits; w != NULL; w = next) {
		next = w->next;
		if (w->later) {
			wait_start(w);
		}
	}
}

bool guard_wait_has(const struct guard *g, int number)
{
	const struct guard_wait *w = g->waits;

	while (w != NULL && w->fd != number) {
		w = w->next;
	}
	return w != NULL;
}

unsigned guard_waits_count(const struct guard *g)
{
	unsigned count = 0;

	for (const struct guard_wait *w = g->waits; w != NULL; w = w->next) {
		count += w->answered ? 0 : 1;
	}
	return count;
}
