/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Log lines: level, room, request id, text; to stderr or a file, one write(2) a line, any thread.
 * Secrets never come here: callers log what a person needs, not structures.
 */
#ifndef OFS_BASE_LOG_H
#define OFS_BASE_LOG_H

#include <stdint.h>

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARNING, LOG_LVL_NOTICE, LOG_LVL_INFO, LOG_LVL_DEBUG };

/* path NULL: stderr. 0 or -errno. */
int log_open(const char *path, enum log_level level);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
void log_close(void);
/* "2026-01-31T12:00:00.123456Z WARNING upload [req 42] text" */
void log_line(enum log_level level, const char *room, uint64_t request_id, const char *fmt, ...)
		__attribute__((format(printf, 4, 5)));
/* -1 if name is no level. */
int log_level_parse(const char *name);

#define log_error(room, ...) log_line(LOG_LVL_ERROR, room, 0, __VA_ARGS__)
#define log_warning(room, ...) log_line(LOG_LVL_WARNING, room, 0, __VA_ARGS__)
#define log_notice(room, ...) log_line(LOG_LVL_NOTICE, room, 0, __VA_ARGS__)
#define log_info(room, ...) log_line(LOG_LVL_INFO, room, 0, __VA_ARGS__)
#define log_debug(room, ...)                                                                       \
	do {                                                                                       \
		if (log_get_level() >= LOG_LVL_DEBUG) {                                            \
			log_line(LOG_LVL_DEBUG, room, 0, __VA_ARGS__);                             \
		}                                                                                  \
	} while (0)

#endif
