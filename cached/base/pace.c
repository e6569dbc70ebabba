/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: a daemon that dies is back within a second, and one that dies over and over does not ask the object store
 *       for what a start costs ten times a second, nor stays away because the service manager has given up.
 * Way: main, at the start and at the end -> here -> `starts` in the run directory: how many came within a minute of
 *      each other, and when the last one began.
 * Thread: core, before the loop and after it. Owns: the file.
 * Holds: 1. What cannot be read or written makes no start wait, and none fail.
 *        2. The file is of this boot: the run directory is, and so is the clock.
 */
#include "pace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>
#include "clock.h"

#define LIVED_NS (60 * NS_PER_S)    /* who lived so long died of something else */
#define AT_ONCE 2                   /* so many begin without a wait */
#define WAIT_FIRST_NS (NS_PER_S / 4)
#define WAIT_MOST_NS (30 * NS_PER_S)
#define COUNT_MOST 1000000u

static int pace_open(const char *run_directory, int flags)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/starts", run_directory) >= (int)sizeof(path)) {
		return -ENAMETOOLONG;
	}
	int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 ? -errno : fd;
}

int64_t pace_wait_ns(unsigned count)
{
	int64_t wait = WAIT_FIRST_NS;

	if (count <= AT_ONCE) {
		return 0;
	}
	for (unsigned i = AT_ONCE + 1; i < count && wait < WAIT_MOST_NS; i++) {
		wait *= 2;
	}
	return wait < WAIT_MOST_NS ? wait : WAIT_MOST_NS;
}

unsigned pace_count(const char *run_directory, int64_t now_ns)
{
	char text[64] = "";
	unsigned count = 0;
	int64_t last_ns = 0;
	int fd = pace_open(run_directory, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0) {
		close(fd);
	}
	if (n <= 0 || sscanf(text, "%u %" SCNd64, &count, &last_ns) != 2 || count >= COUNT_MOST || last_ns > now_ns ||
			now_ns - last_ns >= LIVED_NS) {
		return 0;
	}
	return count + 1;
}

int pace_begin(const char *run_directory, unsigned count, int64_t now_ns)
{
	int fd = pace_open(run_directory, O_WRONLY | O_CREAT | O_TRUNC), ret = 0;

	if (fd < 0) {
		return fd;
	}
	if (dprintf(fd, "%u %" PRId64 "\n", count, now_ns) < 0) {
		ret = -errno;
	}
	close(fd);
	return ret;
}

void pace_end(const char *run_directory)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/starts", run_directory) < (int)sizeof(path)) {
		(void)unlink(path);
	}
}
