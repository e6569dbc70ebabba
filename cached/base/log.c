/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The log: one line, one write(2).
 * Way: from everywhere in the daemon; to stderr or a file.
 * Thread: any; open and close on the core thread only.
 * Owns: the log file's descriptor; the volumes' entries, for the life of the process.
 * Holds: 1. Opening again (after rotation) replaces the file behind the descriptor (dup3), so a
 *           writer in another thread finds the old file or the new one, never a closed one.
 *        2. Nothing a client named can end a line, leave its JSON string or move a terminal's cursor:
 *           control bytes are written as \xNN, in JSON as \u00NN.
 *        3. A JSON line is one whole JSON text, however long the message and whatever its bytes.
 *        4. A volume's entry is never freed, so a thread may be at work for it at any time.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "log.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#include "utf8.h"

#define LOG_TEXT_BYTES 4096
#define LOG_HEAD_BYTES 512
#define LOG_LINE_BYTES (6 * LOG_TEXT_BYTES + LOG_HEAD_BYTES + 8) /* all of it \u00NN */
#define LEVEL_NOT_SET (-1)

struct log_volume {
	struct log_volume *next; /* constant once it can be found */
	char *name;
	_Atomic int level;
};

static _Atomic int log_fd = STDERR_FILENO;
static _Atomic int log_level_now = LOG_LVL_NOTICE;
static _Atomic int log_format_now = LOG_FORMAT_TEXT;
static pthread_mutex_t volumes_lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_volume *volumes; /* shared, volumes_lock */
static _Thread_local const struct log_volume *here;

static const char *const log_level_names[] = {
	[LOG_LVL_ERROR] = "error",
	[LOG_LVL_WARNING] = "warning",
	[LOG_LVL_NOTICE] = "notice",
	[LOG_LVL_INFO] = "info",
	[LOG_LVL_DEBUG] = "debug",
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

void log_close(void)
{
	int old = atomic_exchange(&log_fd, STDERR_FILENO);

	if (old != STDERR_FILENO) {
		close(old);
	}
}

void log_set_format(enum log_format format)
{
	atomic_store(&log_format_now, (int)format);
}

/* ---- volumes and levels ---- */

const struct log_volume *log_volume(const char *name)
{
	struct log_volume *v;

	pthread_mutex_lock(&volumes_lock);
	for (v = volumes; v != NULL && strcmp(v->name, name) != 0; v = v->next) {
	}
	if (v == NULL) {
		v = calloc(1, sizeof(*v));
		if (v != NULL && (v->name = strdup(name)) == NULL) {
			free(v);
			v = NULL;
		}
		if (v != NULL) {
			atomic_init(&v->level, LEVEL_NOT_SET);
			v->next = volumes;
			volumes = v;
		}
	}
	pthread_mutex_unlock(&volumes_lock);
	return v;
}

const struct log_volume *log_enter(const struct log_volume *volume)
{
	const struct log_volume *before = here;

	here = volume;
	return before;
}

const struct log_volume *log_here(void)
{
	return here;
}

void log_set_level(enum log_level level)
{
	atomic_store(&log_level_now, (int)level);
}

void log_volume_set_level(const struct log_volume *volume, int level)
{
	atomic_store(&((struct log_volume *)volume)->level, level);
}

enum log_level log_level_of(const struct log_volume *volume)
{
	int level = LEVEL_NOT_SET;

	if (volume != NULL) {
		level = atomic_load_explicit(&volume->level, memory_order_relaxed);
	}
	if (level == LEVEL_NOT_SET) {
		level = atomic_load_explicit(&log_level_now, memory_order_relaxed);
	}
	return (enum log_level)level;
}

enum log_level log_get_level(void)
{
	return log_level_of(here);
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

const char *log_level_name(enum log_level level)
{
	return (size_t)level < LOG_LEVELS ? log_level_names[level] : "?";
}

/* ---- lines ---- */

/* Copy text to out, which has room for it; the bytes written. */
static size_t escape_text(char *out, const char *text)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
		if (*p >= 0x20 && *p != 0x7f) {
			out[n++] = (char)*p;
			continue;
		}
		out[n++] = '\\';
		out[n++] = 'x';
		out[n++] = hex[*p >> 4];
		out[n++] = hex[*p & 15];
	}
	return n;
}

/* The same as the inside of a JSON string (RFC 8259, section 7); what is no UTF-8 becomes U+FFFD. */
static size_t escape_json(char *out, const char *text)
{
	size_t n = 0;

	while (*text != '\0') {
		size_t len = utf8_sequence(text);
		unsigned char c = (unsigned char)*text;

		if (len == 0) {
			n += (size_t)sprintf(out + n, "\\ufffd");
			len = 1;
		} else if (c == '"' || c == '\\') {
			out[n++] = '\\';
			out[n++] = (char)c;
		} else if (c < 0x20 || c == 0x7f) {
			n += (size_t)sprintf(out + n, "\\u%04x", c);
		} else {
			memcpy(out + n, text, len);
			n += len;
		}
		text += len;
	}
	return n;
}

/* Names of rooms and volumes are letters, digits, dots, hyphens: they need no escape. */
static size_t head_text(char *line, const struct tm *tm, const struct timespec *ts,
		enum log_level level, const char *room, uint64_t request_id)
{
	char upper[16] = "", req[40] = "";
	int n;

	for (size_t i = 0; log_level_names[level][i] != '\0'; i++) {
		upper[i] = (char)toupper((unsigned char)log_level_names[level][i]);
	}
	if (request_id != 0) {
		snprintf(req, sizeof(req), " [req %llu]", (unsigned long long)request_id);
	}
	n = snprintf(line, LOG_HEAD_BYTES,
			"%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ %s %.32s%s%.200s%s ", tm->tm_year + 1900,
			tm->tm_mon + 1, tm->tm_mday, tm->tm_hour, tm->tm_min, tm->tm_sec,
			ts->tv_nsec / 1000, upper, room, here != NULL ? "/" : "",
			here != NULL ? here->name : "", req);
	return n < 0 ? 0 : (size_t)n;
}

static size_t head_json(char *line, const struct tm *tm, const struct timespec *ts,
		enum log_level level, const char *room, uint64_t request_id)
{
	char req[40] = "";
	int n;

	if (request_id != 0) {
		snprintf(req, sizeof(req), "\"request\":%llu,", (unsigned long long)request_id);
	}
	n = snprintf(line, LOG_HEAD_BYTES,
			"{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ\",\"level\":\"%s\","
			"\"room\":\"%.32s\",%s%.200s%s%s\"message\":\"",
			tm->tm_year + 1900, tm->tm_mon + 1, tm->tm_mday, tm->tm_hour, tm->tm_min,
			tm->tm_sec, ts->tv_nsec / 1000000, log_level_names[level], room,
			here != NULL ? "\"volume\":\"" : "", here != NULL ? here->name : "",
			here != NULL ? "\"," : "", req);
	return n < 0 ? 0 : (size_t)n;
}

void log_line(enum log_level level, const char *room, uint64_t request_id, const char *fmt, ...)
{
	char text[LOG_TEXT_BYTES];
	char line[LOG_LINE_BYTES];
	int saved_errno = errno;
	struct timespec ts;
	struct tm tm;
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
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	if (atomic_load_explicit(&log_format_now, memory_order_relaxed) == LOG_FORMAT_JSON) {
		len = head_json(line, &tm, &ts, level, room, request_id);
		len += escape_json(line + len, text);
		memcpy(line + len, "\"}", 2);
		len += 2;
	} else {
		len = head_text(line, &tm, &ts, level, room, request_id);
		len += escape_text(line + len, text);
	}
	line[len++] = '\n';
	/* a log that cannot be written has nobody to tell */
	while (write(atomic_load(&log_fd), line, len) < 0 && errno == EINTR) {
	}
	errno = saved_errno;
}
