/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Faults to order: which request, and what happens to it. One thread. */
#ifndef OFS_S3SIM_FAULT_H
#define OFS_S3SIM_FAULT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim;
struct req;

enum fault_when { FAULT_BEFORE, FAULT_MID, FAULT_AFTER }; /* nothing has happened; half is sent; it has happened */
enum fault_do { FAULT_ERROR, FAULT_RESET, FAULT_STALL, FAULT_TRUNCATE, FAULT_CORRUPT, FAULT_TRICKLE, FAULT_ETAG,
	FAULT_INSIDE };

struct fault {
	struct fault *next;
	char *op, *key;         /* a pattern each, as of file names */
	long skip, count, hits; /* so many are spared first; then so many are met, -1: all */
	enum fault_when when;
	enum fault_do what;
	char *code;             /* of an error */
	int64_t bytes;          /* where it breaks off, or which byte becomes another; or bytes a second */
	int64_t ms;             /* of a stall; -1: until the faults are cleared */
};
#define FAULT_HELD (INT64_MAX / 2)

/* From a document of the control endpoint. NULL: ordered; else what is wrong with it. */
const char *fault_add(struct sim *s, const json_t *order);
json_t *fault_list(const struct sim *s);
/* Whoever is held goes on. */
void fault_clear(struct sim *s);
/* The first that meets this request, which counts as met; NULL: none. A copy that is the request's. */
struct fault *fault_find(struct req *r);
bool fault_is(const struct req *r, enum fault_do what, enum fault_when when);
/* What becomes of an answer's bytes [at, at + len): how many of them are told, changed where they are. */
size_t fault_bytes(const struct req *r, int64_t at, uint8_t *bytes, size_t len);
/* Is the answer itself to be another? */
bool fault_changes_answer(const struct req *r);
void fault_reset(struct req *r);

#endif
