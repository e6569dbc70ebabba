/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: tell the service manager that we serve, stop, open the log anew, or are alive; let it keep
 *       descriptors.
 * Way: main, guard/ -> here -> NOTIFY_SOCKET (sd_notify(3), "Notes": any language may speak it).
 * Thread: core. Owns: the socket; descriptors of an earlier process until they are taken.
 * Holds: 1. A service manager that does not listen holds up nothing: a message is lost with a
 *           warning, the first time.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "notify.h"

#include <errno.h>
#include <fcntl.h>
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
#define FDS_FIRST 3 /* SD_LISTEN_FDS_START */
#define FDS_MAX 1024

static struct {
	int fd; /* connected, or -1 */
	int64_t watchdog_ns;
	bool warned;
	int kept[FDS_MAX]; /* -1: taken */
	int kept_count;
	char *kept_names; /* as LISTEN_FDNAMES */
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

static void fds_receive(void)
{
	const char *count = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
	const char *names = getenv("LISTEN_FDNAMES");
	long n = count != NULL ? strtol(count, NULL, 10) : 0;

	if (pid == NULL || strtoll(pid, NULL, 10) != (long long)getpid() || names == NULL) {
		return;
	}
	notify.kept_names = strdup(names);
	for (int i = 0; notify.kept_names != NULL && i < n && i < FDS_MAX; i++) {
		notify.kept[i] = fcntl(FDS_FIRST + i, F_SETFD, FD_CLOEXEC) == 0 ? FDS_FIRST + i : -1;
		notify.kept_count = i + 1;
	}
}

/* The i-th of the names, and its length. */
static const char *fds_name(int i, size_t *len)
{
	const char *at = notify.kept_names;

	while (i-- > 0 && *at != '\0') {
		at += strcspn(at, ":");
		at += *at == ':' ? 1 : 0;
	}
	*len = strcspn(at, ":");
	return at;
}

bool notify_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	if (path != NULL) {
		notify.watchdog_ns = watchdog_take();
		notify_connect(path);
	}
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	fds_receive();
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDNAMES");
	return notify.fd >= 0;
}

void notify_close(void)
{
	if (notify.fd >= 0) {
		close(notify.fd);
		notify.fd = -1;
	}
	free(notify.kept_names);
	notify.kept_names = NULL;
	notify.kept_count = 0;
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

/* ---- what it keeps ---- */

bool notify_fd_store(const char *name, int fd)
{
	char text[NOTIFY_MAX_BYTES];
	struct iovec iov = {.iov_base = text};
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET,
				     .cmsg_type = SCM_RIGHTS}};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			.msg_controllen = sizeof(control)};

	if (notify.fd < 0) {
		return false;
	}
	iov.iov_len = (size_t)snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	if (sendmsg(notify.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		notify_warn(errno);
		return false;
	}
	return true;
}

int notify_fd_take(const char *name)
{
	for (int i = 0; i < notify.kept_count; i++) {
		size_t len;
		const char *at = fds_name(i, &len);

		if (notify.kept[i] >= 0 && len == strlen(name) && strncmp(at, name, len) == 0) {
			int fd = notify.kept[i];

			notify.kept[i] = -1;
			return fd;
		}
	}
	return -1;
}

void notify_fd_forget(const char *name)
{
	notify_send("FDSTOREREMOVE=1\nFDNAME=%s", name);
}

void notify_fds_drop(void)
{
	for (int i = 0; i < notify.kept_count; i++) {
		size_t len;
		const char *at = fds_name(i, &len);

		if (notify.kept[i] >= 0) {
			notify_send("FDSTOREREMOVE=1\nFDNAME=%.*s", (int)len, at);
			close(notify.kept[i]);
			notify.kept[i] = -1;
		}
	}
}
