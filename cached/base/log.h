/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Log lines: level, room, volume, request id, text; to stderr or a file, one write(2) a line, any thread.
 * Secrets never come here: callers log what a person needs, not structures.
 *
 * Nobody names the volume in a call: it is where the thread is at work. Who begins work for a volume enters
 * it; jobs and timers take it along (disk.c, clock.c), answers of a store come back into its own
 * (objstore.c).
 */
#ifndef OFS_BASE_LOG_H
#define OFS_BASE_LOG_H

#include <stdint.h>

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARNING, LOG_LVL_NOTICE, LOG_LVL_INFO, LOG_LVL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

struct log_volume; /* lives as long as the process */

/* path NULL: stderr. Opened again it replaces what was open. 0 or -errno. */
int log_open(const char *path, enum log_level level);
void log_close(void);
void log_set_format(enum log_format format);
void log_set_level(enum log_level level);
/* -1: the level of all others. */
void log_volume_set_level(const struct log_volume *volume, int level);
/* What applies to a volume; NULL: to what is of none. */
enum log_level log_level_of(const struct log_volume *volume);
/* What applies where this thread is at work. */
enum log_level log_get_level(void);

/* The same for the same name, made when first asked for; NULL: out of memory, its lines name none. */
const struct log_volume *log_volume(const char *name);
/* This thread works for the volume (NULL: for none) from now on. What was before, to go back to. */
const struct log_volume *log_enter(const struct log_volume *volume);
const struct log_volume *log_here(void);

/*
 * Text: "2026-01-31T12:00:00.123456Z WARNING upload/projects [req 42] text".
 * JSON: {"time":"2026-01-31T12:00:00.123Z","level":"warning","room":"upload","volume":"projects",
 * "request":42,"message":"text"}; volume and request only where there is one.
 */
void log_line(enum log_level level, const char *room, uint64_t request_id, const char *fmt, ...)
		__attribute__((format(printf, 4, 5)));
/* -1 if name is no level. */
int log_level_parse(const char *name);
const char *log_level_name(enum log_level level);

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
