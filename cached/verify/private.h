/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside verify/ only. */
#ifndef OFS_VERIFY_PRIVATE_H
#define OFS_VERIFY_PRIVATE_H

#include "verify.h"
#include "../base/clock.h"

#define DAMAGED_MOST 16u

struct damaged {
	struct ofs_oid oid;
	char *path, *etag; /* talloc children of the verifier */
};

struct verifier { /* core only */
	struct volume *v;
	struct damaged list[DAMAGED_MOST];
	unsigned count;
	/* pass.c */
	int64_t since_s, saved_s; /* wall clock: begin of the pass under way, or of the last one; its place was noted */
	uint32_t next;            /* row that is looked at next, by its number; 0: no pass is under way */
	uint64_t files, damaged;  /* of this pass, since the start */
	bool waiting;             /* for a file */
};

#endif
