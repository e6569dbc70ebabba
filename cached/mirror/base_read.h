/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The base of one directory, read from the bucket as it is needed. Core thread. */
#ifndef OFS_MIRROR_BASE_READ_H
#define OFS_MIRROR_BASE_READ_H

#include "base.h"
#include "../objstore/objstore.h"

struct volume;
struct base_read; /* talloc child of the caller's ctx; may be freed at any time */

/* Ask for the head; ready(arg) then, and whenever base_read_row has said -EAGAIN; never from inside a call.
 * NULL: out of memory. */
struct base_read *base_read_open(TALLOC_CTX *ctx, struct volume *v, const struct ofs_oid *dir,
		enum obj_prio prio, uint64_t request_id, void (*ready)(void *arg), void *arg);
/* OBJ_OK: there is a head, whole or not; OBJ_NOT_FOUND: none; else it could not be asked for. */
enum obj_status base_read_status(const struct base_read *r);
/* The head's ETag, and what it says: NULL where there is none, or a damaged one. */
const char *base_read_etag(const struct base_read *r);
const struct base_head *base_read_head(const struct base_read *r);
/*
 * The row of this name, the caller's (base_row_clear). 0; -ENOENT: none, or none that can be had: ask for the
 * object itself; -EAGAIN: ask again when ready was called. Names come in ascending order: one chunk is kept
 * at a time, and none is read twice.
 */
int base_read_row(struct base_read *r, const char *name, struct base_row *row);

#endif
