/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: tell the service manager that we serve, stop, open the log anew, or are alive.
 * Way: main -> here -> NOTIFY_SOCKET (sd_notify(3), "Notes": any language may speak it).
 * Thread: core. Owns: the socket.
 * Holds: 1. A service manager that does not listen holds up nothing: a message is lost with a
 *           warning, the first time.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "log.h"

#define NOTIFY_MAX_BYTES 512

static struct {
	int fd; /* connected, or -1 */
	int64_t watchdog_ns;
	bool warned;
} notify = {.fd = -1};

static void notify_warn(int err)
{
	if (!notify.warned) {
		log_warning("core", "the service manager is not reached: %s", strerror(err));
		notify.warned = true;
	}
}

static int64_t watchdog_take(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	long long n = usec != NULL ? strtoll(usec, NULL, 10) : 0;

	if (pid != NULL && strtoll(pid, NULL, 10) != (long long)getpid()) {
		return 0;
	}
	return n > 0 && n < INT64_MAX / 1000 ? n * 1000 : 0;
}

static void notify_connect(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(path);

	if ((path[0] != '/' && path[0] != '@') || len >= sizeof(addr.sun_path)) {
		notify_warn(EAFNOSUPPORT);
		return;
	}
	memcpy(addr.sun_path, path, len);
	if (path[0] == '@') {
		addr.sun_path[0] = '\0'; /* abstract: the length counts, no byte ends it */
	}
	notify.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (notify.fd < 0 || connect(notify.fd, (struct sockaddr *)&addr,
					     (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
							     len + (path[0] == '/' ? 1 : 0))) != 0) {
		notify_warn(errno);
		notify_close();
	}
}

void notify_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	if (path != NULL) {
		notify.watchdog_ns = watchdog_take();
		notify_connect(path);
	}
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void notify_close(void)
{
	if (notify.fd >= 0) {
		close(notify.fd);
		notify.fd = -1;
	}
}

void notify_send(const char *fmt, ...)
{
	char text[NOTIFY_MAX_BYTES];
	va_list ap;

	if (notify.fd < 0) {
		return;
	}
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (send(notify.fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		notify_warn(errno);
	}
}

int64_t notify_watchdog_ns(void)
{
	return notify.fd >= 0 ? notify.watchdog_ns : 0;
}
