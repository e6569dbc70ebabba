/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The log: one line, one write(2).
 * Way: from everywhere in the daemon; to stderr or a file.
 * Thread: any; open and close on the core thread only.
 * Owns: the log file's descriptor.
 * Holds: 1. Opening again (after rotation) replaces the file behind the descriptor (dup3), so a
 *           writer in another thread finds the old file or the new one, never a closed one.
 *        2. Nothing a client named can end a line or move a terminal's cursor: control bytes are
 *           written as \xNN.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define LOG_TEXT_BYTES 4096
#define LOG_LINE_BYTES (LOG_TEXT_BYTES + 256)

static _Atomic int log_fd = STDERR_FILENO;
static _Atomic int log_level_now = LOG_LVL_NOTICE;

static const char *const log_level_names[] = {
	[LOG_LVL_ERROR] = "ERROR",
	[LOG_LVL_WARNING] = "WARNING",
	[LOG_LVL_NOTICE] = "NOTICE",
	[LOG_LVL_INFO] = "INFO",
	[LOG_LVL_DEBUG] = "DEBUG",
};
#define LOG_LEVELS (sizeof(log_level_names) / sizeof(log_level_names[0]))

int log_open(const char *path, enum log_level level)
{
	int fd = STDERR_FILENO;
	int old = atomic_load(&log_fd);

	if (path != NULL) {
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
		if (fd < 0) {
			return -errno;
		}
	}
	log_set_level(level);
	if (old == STDERR_FILENO) {
		atomic_store(&log_fd, fd);
		return 0;
	}
	if (dup3(fd, old, O_CLOEXEC) < 0) {
		int ret = -errno;

		if (path != NULL) {
			close(fd);
		}
		return ret;
	}
	if (path != NULL) {
		close(fd);
	}
	return 0;
}

void log_set_level(enum log_level level)
{
	atomic_store(&log_level_now, (int)level);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load_explicit(&log_level_now, memory_order_relaxed);
}

void log_close(void)
{
	int old = atomic_exchange(&log_fd, STDERR_FILENO);

	if (old != STDERR_FILENO) {
		close(old);
	}
}

/* Copy text to out (room for `cap`), escaping; the bytes written. */
static size_t log_escape(char *out, size_t cap, const char *text)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
		if (*p >= 0x20 && *p != 0x7f) {
			if (n + 1 > cap) {
				break;
			}
			out[n++] = (char)*p;
			continue;
		}
		if (n + 4 > cap) {
			break;
		}
		out[n++] = '\\';
		out[n++] = 'x';
		out[n++] = hex[*p >> 4];
		out[n++] = hex[*p & 15];
	}
	return n;
}

static size_t log_head(
		char *line, size_t cap, enum log_level level, const char *room, uint64_t request_id)
{
	char req[32] = "";
	struct timespec ts;
	struct tm tm;
	int n;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	if (request_id != 0) {
		snprintf(req, sizeof(req), " [req %llu]", (unsigned long long)request_id);
	}
	n = snprintf(line, cap, "%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ %s %.32s%s ",
			tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
			tm.tm_sec, ts.tv_nsec / 1000, log_level_names[level], room, req);
	return n < 0 ? 0 : (size_t)n < cap ? (size_t)n : cap - 1;
}

void log_line(enum log_level level, const char *room, uint64_t request_id, const char *fmt, ...)
{
	char text[LOG_TEXT_BYTES];
	char line[LOG_LINE_BYTES];
	int saved_errno = errno;
	size_t len;
	va_list ap;
	int n;

	if (level > log_get_level() || (size_t)level >= LOG_LEVELS) {
		return;
	}
	va_start(ap, fmt);
	errno = saved_errno; /* for %m */
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0) {
		snprintf(text, sizeof(text), "(a message that could not be formatted: %.64s)", fmt);
	} else if ((size_t)n >= sizeof(text)) {
		memcpy(text + sizeof(text) - 4, "...", 4);
	}
	len = log_head(line, 128, level, room, request_id);
	len += log_escape(line + len, sizeof(line) - len - 1, text);
	line[len++] = '\n';
	/* a log that cannot be written has nobody to tell */
	while (write(atomic_load(&log_fd), line, len) < 0 && errno == EINTR) {
	}
	errno = saved_errno;
}

int log_level_parse(const char *name)
{
	for (size_t i = 0; i < LOG_LEVELS; i++) {
		if (strcasecmp(name, log_level_names[i]) == 0) {
			return (int)i;
		}
	}
	return -1;
}
