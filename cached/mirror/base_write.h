/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One directory's base, written or removed. Core thread. */
#ifndef OFS_MIRROR_BASE_WRITE_H
#define OFS_MIRROR_BASE_WRITE_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "shared/record.h"

struct volume;

/* A version younger than this is not put into a base: another write of the same bytes could still get the
 * same Last-Modified. */
#define BASE_YOUNG_NS (5 * NS_PER_S)

struct base_written {
	int status;    /* 0: the base in S3 is as good as it can be; -EAGAIN, -errno: later */
	bool there;    /* S3 may have a base of the directory */
	uint64_t young; /* versions that are too young and were left out */
	uint64_t rows; /* that the base has now */
};
typedef void (*base_write_done)(const struct base_written *what, void *arg);
/* done once, never from inside. NULL: out of memory, and no done. Freed after done. */
struct base_write *base_write_start(TALLOC_CTX *ctx, struct volume *v, const struct ofs_oid *dir,
		base_write_done done, void *arg);
/* The base of a directory that is no more goes, some time. */
void base_remove(TALLOC_CTX *ctx, struct volume *v, const struct ofs_oid *dir);

#endif
