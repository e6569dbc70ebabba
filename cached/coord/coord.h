/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Door four: agreement with other nodes. One node: everything is granted at once (local.c).
 * Redis comes with the multi-node issue; callers already wait for the answer.
 */
#ifndef OFS_COORD_H
#define OFS_COORD_H

#include <talloc.h>
#include "shared/record.h"

struct coord;
struct coord_ops {
	/* May this node change the object's S3 side now? granted(status, arg) on the core thread,
	 * never from inside the call's stack when status != 0; 0 or -errno. */
	void (*acquire)(struct coord *, const struct ofs_oid *oid,
			void (*granted)(int status, void *arg), void *arg);
	void (*release)(struct coord *, const struct ofs_oid *oid);
};
struct coord {
	const struct coord_ops *ops;
};
struct coord *coord_local_new(TALLOC_CTX *ctx);

#endif
