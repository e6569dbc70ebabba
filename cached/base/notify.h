/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a service manager is told: the protocol of sd_notify(3), one datagram a message. */
#ifndef OFS_BASE_NOTIFY_H
#define OFS_BASE_NOTIFY_H

#include <stdint.h>

/* From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID of the environment, which are taken out of it.
 * Without a service manager all calls do nothing. Before threads; once the process is the one that
 * serves. */
void notify_open(void);
void notify_close(void);
/* "READY=1\nSTATUS=text"; never blocks. */
void notify_send(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* How often the service manager must hear WATCHDOG=1; 0: it does not wait for that. */
int64_t notify_watchdog_ns(void);

#endif
