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
