/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files with a key in them. */
#ifndef OFS_BASE_KEYFILE_H
#define OFS_BASE_KEYFILE_H

#include <sys/types.h>

/* The first bytes of a regular file that nobody but its owner may read, `room` at most; `room`: there may be more.
 * -1: *why says it, constant or strerror's. Any thread; blocks. The caller wipes what it got. */
ssize_t keyfile_read(const char *path, void *text, size_t room, const char **why);

#endif
