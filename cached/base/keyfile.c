/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: read a file that holds a key, if it is kept as one.
 * Way: objstore/s3/sse.c, core/trust.c at a volume's start -> here.
 * Thread: the caller's; blocks on the local disk. Owns: nothing.
 * Holds: what somebody else may read is no key; a fifo or a device holds nobody up.
 */
#include "keyfile.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

ssize_t keyfile_read(const char *path, void *text, size_t room, const char **why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ssize_t n = -1;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0) {
		*why = strerror(errno);
	} else if (!S_ISREG(st.st_mode)) {
		*why = "it is no regular file";
	} else if ((st.st_mode & 077) != 0) {
		*why = "others may read it: chmod 600";
	} else if ((n = read(fd, text, room)) < 0) {
		*why = strerror(errno);
	}
	if (fd >= 0) {
		close(fd);
	}
	return n;
}
