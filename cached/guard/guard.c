/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the kernel's questions about stubs of one volume: asked for, read, answered.
 * Way: fanotify(7) -> the thread here: we ourselves and smbd may at once -> letter -> core: an smbd
 *      without a connection may at once -> waits.c.
 * Thread: guard_thread reads, may block on the disk and, for a step of an eviction, on its lease;
 *         it waits for nobody here. All else: core.
 * Owns: the group, the thread, what is kept for the next daemon.
 * Holds: 1. Our own opens and smbd's are answered without the core: a worker that opens a stub waits
 *           for the thread alone, and that for no worker (marks.c).
 *        2. The group outlives us in the service manager's store: while nobody reads, who asks
 *           waits. Without a store it ends with us, and the kernel lets everybody pass; those
 *           known to wait get an error first.
 *        3. The queue has no limit: an event that found no room would be allowed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include "../base/notify.h"

#define GUARD_READ_BYTES 4096u
#define GUARD_STACK_BYTES (256u * 1024u)
#define GUARD_MARKS_UNKNOWN 100000 /* where the machine's memory is not known */

/* ---- questions ---- */

void guard_answer(struct guard *g, int fd, int slot, int status)
{
	struct fanotify_response r = {.fd = fd, .response = FAN_ALLOW};

	if (status != 0) {
		r.response = FAN_DENY_ERRNO(EIO);
	}
	/* Who asked goes on at the write: a lease it takes then must not find our descriptor open.
	 * Should a new event get the number in between, the kernel takes this answer for the older
	 * one, and that one's for the other; a refusal must not meet another. */
	if (status == 0) {
		close(fd);
	}
	if (write(g->fd, &r, sizeof(r)) < 0 && errno != ENOENT) {
		log_error("guard", "the kernel does not take an answer: %s", strerror(errno));
	}
	if (status != 0) {
		close(fd);
	}
	guard_slot_give(g, slot);
}

/* Core. */
static void event_open(struct letter *letter)
{
	struct guard_event *e = (struct guard_event *)letter;
	struct guard *g = e->g;
	const struct log_volume *before = log_enter(g->v->log);

	if (g->knows(g->knows_arg, e->pid)) {
		stats_add(guard_passed, 1);
		guard_answer(g, e->fd, e->slot, 0);
	} else {
		guard_wait_add(g, e->fd, e->slot, e->pid, false);
	}
	free(e);
	(void)log_enter(before);
}

static bool is_smbd(struct guard *g, pid_t pid)
{
	unsigned i = 0;

	while (i < GUARD_SMBD && atomic_load_explicit(&g->smbd[i], memory_order_relaxed) != pid) {
		i++;
	}
	return i < GUARD_SMBD;
}

void guard_smbd(struct guard *g, pid_t pid, bool runs)
{
	if (g == NULL || pid <= 0) {
		return;
	}
	for (unsigned i = 0; i < GUARD_SMBD && is_smbd(g, pid) != runs; i++) {
		if (atomic_load(&g->smbd[i]) == (runs ? 0 : pid)) {
			atomic_store(&g->smbd[i], runs ? pid : 0);
		}
	}
}

static void event_take(struct guard *g, const struct fanotify_event_metadata *m)
{
	struct guard_event *e;

	if (m->fd < 0) {
		return;
	}
	guard_slots_note(g, m->fd); /* should we die before the answer, the next daemon gives it */
	if (m->pid > 0 && is_smbd(g, m->pid)) {
		stats_add(guard_passed, 1);
		guard_answer(g, m->fd, -1, 0);
		return;
	}
	if (m->pid == g->pid) {
		guard_answer(g, m->fd, -1, 0);
		return;
	}
	e = calloc(1, sizeof(*e));
	if (e == NULL) {
		guard_answer(g, m->fd, -1, -ENOMEM);
		return;
	}
	e->letter.open = event_open;
	e->g = g;
	e->fd = m->fd;
	e->pid = m->pid;
	e->slot = guard_slot_take(g, m->fd);
	mailbox_post(g->mb, &e->letter);
}

/* False: this cannot go on. */
static bool events_read(struct guard *g)
{
	char buffer[GUARD_READ_BYTES] __attribute__((aligned(8)));
	const struct fanotify_event_metadata *m = (void *)buffer;
	ssize_t n = read(g->fd, buffer, sizeof(buffer));

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		/* The kernel has refused one: no descriptor, or the file cannot be opened. */
		log_warning("guard", "a local program was refused: %s", strerror(errno));
		return errno != EBADF && errno != EINVAL && errno != EFAULT;
	}
	for (; n > 0 && FAN_EVENT_OK(m, n); m = FAN_EVENT_NEXT(m, n)) {
		if (m->vers != FANOTIFY_METADATA_VERSION) {
			log_error("guard", "the kernel speaks another version of fanotify");
			return false;
		}
		event_take(g, m);
	}
	return true;
}

static void *guard_thread(void *arg)
{
	struct guard *g = arg;
	struct pollfd fds[2] = {
			{.fd = g->fd, .events = POLLIN}, {.fd = g->stop_fd, .events = POLLIN}};

	(void)log_enter(g->v->log);
	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR) {
			log_error("guard", "poll: %s", strerror(errno));
			break;
		}
		if ((fds[1].revents & POLLIN) != 0 || !events_read(g)) {
			break;
		}
	}
	return NULL;
}

static int thread_start(struct guard *g)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int ret;

	g->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (g->stop_fd < 0 || pthread_attr_init(&attr) != 0) {
		return -ENOMEM;
	}
	(void)pthread_attr_setstacksize(&attr, GUARD_STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(&g->thread, &attr, guard_thread, g);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	g->has_thread = ret == 0;
	if (ret == 0) {
		(void)pthread_setname_np(g->thread, "guard");
	}
	return -ret;
}

/* ---- the group ---- */

#define GROUP_EVENTS (FAN_OPEN_PERM | FAN_PRE_ACCESS)

/* Kernel, rights and this file system: does it all work? 0 and g->fd, or -errno and g->why. */
static int group_new(struct guard *g)
{
	g->fd = fanotify_init(FAN_CLASS_PRE_CONTENT | FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS |
					FAN_CLOEXEC | FAN_NONBLOCK,
			O_RDONLY | O_LARGEFILE | O_CLOEXEC | O_NOATIME);
	if (g->fd < 0) {
		g->why = errno == EPERM ? "the daemon lacks CAP_SYS_ADMIN"
		       : errno == EMFILE ? "no fanotify group is left (fs.fanotify.max_user_groups)"
					 : "this kernel has no fanotify permission events";
		return -errno;
	}
	if (fanotify_mark(g->fd, FAN_MARK_ADD, GROUP_EVENTS, g->v->limbo_fd, NULL) != 0) {
		int ret = -errno;

		g->why = ret == -EOPNOTSUPP ? "the mirror's file system has no events before access"
			 : ret == -EINVAL   ? "the kernel is older than 6.14"
					    : "the kernel takes no mark";
		close(g->fd);
		g->fd = -1;
		return ret;
	}
	(void)fanotify_mark(g->fd, FAN_MARK_REMOVE, GROUP_EVENTS, g->v->limbo_fd, NULL);
	return 0;
}

#define KEPT_NAME_BYTES 96

static void kept_names(const struct guard *g, char group[KEPT_NAME_BYTES],
		char slots[KEPT_NAME_BYTES])
{
	snprintf(group, KEPT_NAME_BYTES, "guard-%s", g->v->name);
	snprintf(slots, KEPT_NAME_BYTES, "guard-waits-%s", g->v->name);
}

/* The service manager, too, must let go of a group that nobody reads: whoever opens what is marked in
 * it would wait for ever, smbd as well. */
static void group_forget(struct guard *g)
{
	char group[KEPT_NAME_BYTES], slots[KEPT_NAME_BYTES];

	kept_names(g, group, slots);
	notify_fd_forget(group);
	notify_fd_forget(slots);
	g->is_kept = false;
}

/* What an earlier daemon left with the service manager, or new; 0 or -errno. */
static int group_open(struct guard *g, bool *is_new)
{
	char group[KEPT_NAME_BYTES], slots[KEPT_NAME_BYTES];
	int fd, kept_fd, ret;

	kept_names(g, group, slots);
	fd = notify_fd_take(group);
	kept_fd = notify_fd_take(slots);
	*is_new = fd < 0 || kept_fd < 0;
	if (!*is_new && guard_slots_open(g, kept_fd) == 0) {
		g->fd = fd;
		g->is_kept = true;
		return 0;
	}
	if (!*is_new) {
		*is_new = true;
		kept_fd = -1; /* taken over */
		log_error("guard", "what an earlier daemon left is damaged: the guard begins anew");
	}
	guard_slots_close(g);
	if (kept_fd >= 0) {
		close(kept_fd);
	}
	if (fd >= 0) {
		close(fd);
	}
	if (fd >= 0 || kept_fd >= 0) {
		group_forget(g);
	}
	ret = group_new(g);
	if (ret == 0) {
		ret = guard_slots_open(g, -1);
	}
	if (ret == 0) {
		g->is_kept = notify_fd_store(group, g->fd) && notify_fd_store(slots, g->kept_fd);
		if (!g->is_kept) {
			group_forget(g);
		}
	}
	return ret;
}

static int64_t limit_of(const struct volume *v)
{
	struct sysinfo si;

	if (v->conf->guard_limit > 0) {
		return v->conf->guard_limit;
	}
	return sysinfo(&si) != 0 ? GUARD_MARKS_UNKNOWN
				 : (int64_t)si.totalram * si.mem_unit / 8 / GUARD_MARK_BYTES;
}

/* ---- life ---- */

static int guard_begin(struct guard *g)
{
	bool is_new;
	int ret = group_open(g, &is_new);

	if (ret == 0 && !is_new) {
		guard_slots_adopt(g);
	}
	if (ret == 0) {
		ret = thread_start(g);
	}
	if (ret == 0) {
		return 0;
	}
	if (g->why == NULL) {
		g->why = talloc_strdup(g, strerror(-ret));
	}
	if (g->is_kept) {
		group_forget(g);
	}
	if (g->fd >= 0) {
		close(g->fd);
		g->fd = -1;
	}
	return ret;
}

int guard_open(struct volume *v, struct mailbox *mb, bool (*knows)(void *arg, pid_t pid), void *arg,
		struct guard **gp, char **error)
{
	struct guard *g = talloc_zero(v, struct guard);
	int ret;

	*gp = g;
	if (g == NULL) {
		return -ENOMEM;
	}
	g->v = v;
	g->mb = mb;
	g->knows = knows;
	g->knows_arg = arg;
	g->pid = getpid();
	g->fd = g->stop_fd = g->kept_fd = -1;
	g->limit = limit_of(v);
	if (v->conf->guard == CONF_GUARD_NO) {
		g->why = "guard = no";
		return 0;
	}
	ret = guard_begin(g);
	if (ret == 0) {
		return 0;
	}
	if (v->conf->guard == CONF_GUARD_YES) {
		*error = talloc_asprintf(v,
				"local readers cannot be guarded: %s; guard = auto serves without",
				g->why);
		return ret;
	}
	log_notice("guard", "local programs that read stubs read zeros: %s", g->why);
	return 0;
}

void guard_start(struct guard *g)
{
	guard_waits_start(g);
}

void guard_close(struct guard **gp)
{
	struct guard *g = *gp;
	static const uint64_t one = 1;

	*gp = NULL;
	if (g == NULL) {
		return;
	}
	if (g->has_thread && write(g->stop_fd, &one, sizeof(one)) == (ssize_t)sizeof(one)) {
		pthread_join(g->thread, NULL);
	}
	if (g->fd >= 0 && !g->is_kept) {
		struct pollfd left = {.fd = g->fd, .events = POLLIN};

		while (poll(&left, 1, 0) == 1 && events_read(g)) {
		}
		guard_slots_refuse(g);
	}
	guard_slots_close(g);
	if (g->stop_fd >= 0) {
		close(g->stop_fd);
	}
	if (g->fd >= 0) {
		close(g->fd);
	}
	talloc_free(g);
}

void guard_count(struct guard *g)
{
	if (g != NULL && g->fd >= 0) {
		if (atomic_exchange(&g->refused, 0) > 0) {
			atomic_store(&g->kept->complete, 0);
		}
		atomic_store(&g->kept->marks, 0);
	}
}

void guard_counted(struct guard *g, bool all)
{
	if (g == NULL || g->fd < 0) {
		return;
	}
	if (atomic_exchange(&g->kept->complete, all ? 1 : 0) == 0 && all) {
		log_notice("guard", "local programs that open stubs wait for data: %lld stubs%s",
				(long long)atomic_load(&g->kept->marks),
				atomic_load(&g->refused) > 0 ? ", but not at all of them" : "");
	}
}

static const char *guard_state(const struct guard *g)
{
	if (g->fd < 0) {
		return g->v->conf->guard == CONF_GUARD_NO ? "off" : "unable";
	}
	if (atomic_load(&g->kept->complete) == 0) {
		return "marking";
	}
	return atomic_load(&g->refused) > 0 ? "partly" : "on";
}

json_t *guard_json(const struct guard *g)
{
	int64_t marks = g->kept != NULL ? atomic_load(&g->kept->marks) : 0;

	return json_pack("{s:s, s:s?, s:I, s:I, s:i, s:b}", "state", guard_state(g), "why", g->why,
			"stubs", (json_int_t)(marks > 0 ? marks : 0), "unguarded",
			(json_int_t)atomic_load(&g->refused), "waiting", (int)guard_waits_count(g),
			"kept", g->is_kept);
}
