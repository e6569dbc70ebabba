/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Is what lies on the local disk still what S3 has? One file at a time; what is damaged is fetched again, if that is
 * wanted, and never sent. Core thread only.
 */
#ifndef OFS_VERIFY_VERIFY_H
#define OFS_VERIFY_VERIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "shared/record.h"

struct volume;
struct verifier;

enum verify_found {
	VERIFY_RIGHT,
	VERIFY_DAMAGED,  /* other bytes, or they cannot be read */
	VERIFY_UNTOLD,   /* nothing is known of its object that they could be compared with */
	VERIFY_NOT_HERE, /* a stub, a directory, gone */
	VERIFY_IN_USE,   /* newer than S3, or on its way: next time */
	VERIFY_FAILED,   /* S3 could not be asked; out of memory */
};

struct verify_result { /* texts: as long as the call */
	enum verify_found found;
	const char *path;   /* below the tree; NULL: not known any more */
	const char *reason; /* for people; of DAMAGED, UNTOLD, IN_USE, FAILED */
	int64_t bytes;      /* that were compared */
	bool mended;
	const char *stays;  /* DAMAGED, and to be mended: why it is not; else NULL */
};
typedef void (*verify_done)(void *arg, const struct verify_result *r);

/* What is known to be damaged; nothing else is kept. */
struct verifier *verifier_new(TALLOC_CTX *ctx, struct volume *v);
/* done once, perhaps at once. */
void verify_file(struct verifier *vf, const struct ofs_oid *oid, bool repair, uint64_t request_id, verify_done done,
		void *arg);
/* The volume is READY for the first time: what is here is looked at by itself, each `verify age`; nothing is mended by it. */
void verifier_start(struct verifier *vf);
/* Files found damaged since the start, and neither mended nor changed since; path (borrowed): of one. */
unsigned verify_damaged(const struct verifier *vf, const char **path);

#endif
