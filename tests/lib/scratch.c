/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See scratch.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "scratch.h"
#include <err.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#define MEMORY "/dev/shm"

void scratch_make(char *path, size_t size, const char *name)
{
	const char *tmp = getenv("TMPDIR");
	int len = snprintf(path, size, "%s/%s.XXXXXX", tmp == NULL ? P_tmpdir : tmp, name);

	if (len < 0 || (size_t)len >= size) {
		errx(1, "%s is too long; set TMPDIR to a shorter path", path);
	}
	if (mkdtemp(path) == NULL) {
		err(1, "%s", path);
	}
}

void scratch_in_memory(void)
{
	const char *tmp = getenv("TMPDIR");

	if ((tmp == NULL || strncmp(tmp, MEMORY, strlen(MEMORY)) != 0) &&
			setxattr(MEMORY, "user.objectfs.probe", "", 0, 0) == 0) {
		removexattr(MEMORY, "user.objectfs.probe");
		setenv("TMPDIR", MEMORY, 1);
	}
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void scratch_remove(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
