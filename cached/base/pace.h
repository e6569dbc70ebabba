/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How soon a daemon that a service manager starts again and again may begin. */
#ifndef OFS_BASE_PACE_H
#define OFS_BASE_PACE_H

#include <stdint.h>

/* `count` starts came before this one, each within a minute of the next: how long this one waits. */
int64_t pace_wait_ns(unsigned count);
/* How many those are, by a file in the run directory; 0, too, where it cannot be read. `now_ns`: CLOCK_BOOTTIME. */
unsigned pace_count(const char *run_directory, int64_t now_ns);
/* It begins now, the wait is over. 0, -errno. */
int pace_begin(const char *run_directory, unsigned count, int64_t now_ns);
/* It has ended as it was told to: the next start is the first again. */
void pace_end(const char *run_directory);

#endif
