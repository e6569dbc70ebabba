/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Bytes of objects: immutable once they are whole, shared by copies and parts. One thread. */
#ifndef OFS_S3SIM_BODY_H
#define OFS_S3SIM_BODY_H

#include <stddef.h>
#include <stdint.h>
#include <talloc.h>

struct blob;
struct piece {
	struct blob *blob;
	int64_t offset, length, begin; /* in the blob; where it begins in the body */
};
struct body {
	struct piece *pieces;
	unsigned count;
	int64_t size;
};

/* Empty. NULL: out of memory. Freed with its context, the bytes when no body has them any more. */
struct body *body_new(TALLOC_CTX *ctx);
/* At the end. 0 or -ENOMEM. */
int body_append(struct body *b, const void *data, size_t len);
/* Those bytes of another one, at the end; they are shared. The range lies within it. 0 or -ENOMEM. */
int body_share(struct body *b, const struct body *from, int64_t offset, int64_t length);
/* How many of len there were. */
size_t body_read(const struct body *b, int64_t offset, void *to, size_t len);
/* All of it, NUL-ended, or NULL: out of memory, or more than max. */
char *body_text(TALLOC_CTX *ctx, const struct body *b, size_t max);

#endif
