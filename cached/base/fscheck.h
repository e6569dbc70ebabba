/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Whether a file system can carry a mirror. Blocks; any thread. */
#ifndef OFS_BASE_FSCHECK_H
#define OFS_BASE_FSCHECK_H

#include <stdbool.h>
#include <talloc.h>

/* Kind of file system, extended attributes, holes: tried with a scratch file in the directory. `path`: of
 * it, for messages. 0 or -errno with *error (talloc child of ctx) that says what to do. */
int fscheck_mirror(TALLOC_CTX *ctx, int dir_fd, const char *path, bool *inodes_small, char **error);
/* A file without a name in the directory; overlayfs may lack O_TMPFILE. Descriptor or -errno. */
int fscheck_scratch(int dir_fd);

#endif
