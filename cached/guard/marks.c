/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: which inodes the kernel asks about.
 * Way: mirror_marker_set, the census, jobs that take data away -> here -> fanotify_mark(2).
 * Thread: any; the kernel locks.
 * Owns: nothing; marks go with their inode, and with the last descriptor of the group.
 * Holds: 1. OPEN_PERM on a stub: its data is here before the open returns. Asking at reads alone
 *           would not do: cp asks for holes (SEEK_DATA) first, finds one, and reads nothing.
 *        2. Who opens a file while it loses its data has asked before there was a mark, or while
 *           nobody was asked, and is held by the lease. guard_pause refuses in the first case; in
 *           the second each read asks (PRE_ACCESS): the kernel decides at the open whether an open
 *           file may be asked about, and a mark that is ignored counts.
 *        3. While a lease is held under which data goes, that inode has no events: reading one
 *           would open the file, and break the lease.
 *
 *   plain -pause-> paused -resume-> OPEN_PERM [+ PRE_ACCESS if somebody came in] -clear-> plain
 *                    ^--------------- pause ----------|
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "../mirror/mirror_private.h"

#define MARK_IGNORED (FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY)
#define MARK_BOTH (FAN_OPEN_PERM | FAN_PRE_ACCESS)

static int mark_change(const struct guard *g, unsigned flags, uint64_t mask, int fd)
{
	char path[32];

	if (fanotify_mark(g->fd, flags, mask, fd, NULL) == 0) {
		return 0;
	}
	if (errno != EBADF) {
		return -errno;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd); /* O_PATH */
	return fanotify_mark(g->fd, flags, mask, AT_FDCWD, path) == 0 ? 0 : -errno;
}

static bool guards(const struct guard *g)
{
	return g != NULL && g->fd >= 0;
}

/* The stub stays unguarded. */
static void mark_refused(struct guard *g, int status)
{
	if (atomic_fetch_add(&g->refused, 1) == 0) {
		log_warning("guard", "some stubs stay unguarded: %s",
				status == -ENOSPC ? "guard limit" : strerror(-status));
	}
}

static bool mark_has_room(struct guard *g)
{
	if (atomic_load(&g->kept->marks) < g->limit) {
		return true;
	}
	mark_refused(g, -ENOSPC);
	return false;
}

static void mark_added(struct guard *g, int status)
{
	if (status == 0) {
		atomic_fetch_add(&g->kept->marks, 1);
	} else if (status != -ENOENT) {
		mark_refused(g, status);
	}
}

void guard_set(struct guard *g, int fd)
{
	if (guards(g) && mark_has_room(g)) {
		mark_added(g, mark_change(g, FAN_MARK_ADD, FAN_OPEN_PERM, fd));
	}
}

void guard_set_at(struct guard *g, int dir_fd, const char *name)
{
	const unsigned flags = FAN_MARK_ADD | FAN_MARK_DONT_FOLLOW;

	if (guards(g) && mark_has_room(g)) {
		int ret = fanotify_mark(g->fd, flags, FAN_OPEN_PERM, dir_fd, name);

		mark_added(g, ret == 0 ? 0 : -errno);
	}
}

void guard_clear(struct guard *g, int fd)
{
	if (!guards(g)) {
		return;
	}
	(void)mark_change(g, FAN_MARK_REMOVE | MARK_IGNORED, MARK_BOTH, fd);
	if (mark_change(g, FAN_MARK_REMOVE, MARK_BOTH, fd) == 0) {
		atomic_fetch_sub(&g->kept->marks, 1);
	}
}

int guard_pause(struct guard *g, int fd, bool is_stub)
{
	int ret;

	if (!guards(g) || (!is_stub && !mark_has_room(g))) {
		return 0;
	}
	ret = mark_change(g, FAN_MARK_ADD | MARK_IGNORED, MARK_BOTH, fd);
	if (ret == 0) {
		ret = mark_change(g, FAN_MARK_ADD, MARK_BOTH, fd);
	}
	if (ret != 0) {
		mark_refused(g, ret);
		(void)mark_change(g, FAN_MARK_REMOVE | MARK_IGNORED, MARK_BOTH, fd);
		return 0;
	}
	if (mirror_lease_take(fd, F_WRLCK) == 0) {
		return 0;
	}
	(void)mark_change(g, FAN_MARK_REMOVE, is_stub ? FAN_PRE_ACCESS : MARK_BOTH, fd);
	(void)mark_change(g, FAN_MARK_REMOVE | MARK_IGNORED, MARK_BOTH, fd);
	return -EAGAIN;
}

void guard_resume(struct guard *g, int fd)
{
	if (!guards(g)) {
		return;
	}
	(void)mark_change(g, FAN_MARK_REMOVE | MARK_IGNORED, FAN_OPEN_PERM, fd);
	/* Taken again it says whether somebody is between having asked and having opened. */
	if (mirror_lease_take(fd, F_WRLCK) == 0) {
		(void)mark_change(g, FAN_MARK_REMOVE, FAN_PRE_ACCESS, fd);
	}
	(void)mark_change(g, FAN_MARK_REMOVE | MARK_IGNORED, FAN_PRE_ACCESS, fd);
}
