/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A directory for one test: below TMPDIR, or where this system has its temporary files. */
#ifndef OFS_TESTS_SCRATCH_H
#define OFS_TESTS_SCRATCH_H

#include <stddef.h>

/* Make one called name.XXXXXX; its path to `path`. Ends the test if that cannot be. */
void scratch_make(char *path, size_t size, const char *name);
/* From now on they are in memory, where nothing is waited for, if that keeps extended attributes. */
void scratch_in_memory(void);
/* Remove a directory and all below it; what is not there is removed already. */
void scratch_remove(const char *path);

#endif
