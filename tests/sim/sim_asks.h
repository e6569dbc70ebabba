/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What modules and administrators ask of the daemon beside bytes and names: a copy, a flush, a pin, a file made resident,
 * what is pending. Whoever asks may meet a daemon that fails or dies: it goes on as smbd or a person would.
 */
#ifndef OFS_TESTS_SIM_ASKS_H
#define OFS_TESTS_SIM_ASKS_H

#include <stdbool.h>
#include "sim_world.h"

/* A client copies a whole file to a new name, as vfs_objectfs/ofs_whole.c does: by the store where that can be, else byte by
 * byte. */
void client_copy(struct world *w, const char *from, const char *to);
/* SMB FLUSH where the share says `s3`; it is waited for so long, and ends later. true: it is in S3. */
bool client_flush(struct world *w, const char *path);
/* objectfsctl pin, unpin. */
void asks_pin(struct world *w, const char *path, bool on);
/* objectfsctl warm of one file. */
void asks_warm(struct world *w, const char *path);
/* objectfsctl flush of a directory or a file: nothing of it settles. */
void asks_flush(struct world *w, const char *path);
/* All that `status`, `pending`, `renames` and `conflicts` say. */
void asks_looks(struct world *w);

#endif
