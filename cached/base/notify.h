/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a service manager is told: the protocol of sd_notify(3), one datagram a message; and what it keeps
 * for us while we are away: the descriptors of sd_listen_fds(3). */
#ifndef OFS_BASE_NOTIFY_H
#define OFS_BASE_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

/* From NOTIFY_SOCKET, WATCHDOG_* and LISTEN_* of the environment, which are taken out of it.
 * Without a service manager all calls do nothing. Before threads; once the process is the one that
 * serves. false: there is none. */
bool notify_open(void);
void notify_close(void);
/* "READY=1\nSTATUS=text"; never blocks. */
void notify_send(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* How often the service manager must hear WATCHDOG=1; 0: it does not wait for that. */
int64_t notify_watchdog_ns(void);

/* Let the service manager keep a descriptor, which stays the caller's, for the next process. false: nobody
 * keeps it. */
bool notify_fd_store(const char *name, int fd);
/* One that the process before has stored, the caller's from now on; -1: there is none. */
int notify_fd_take(const char *name);
/* It is to keep nothing of that name any more. */
void notify_fd_forget(const char *name);
/* Nobody wants what is left: closed, here and there. */
void notify_fds_drop(void);

#endif
