/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a volume's store honours: is it enough, and is it still so? Core thread only. */
#ifndef OFS_CORE_FENCE_H
#define OFS_CORE_FENCE_H

#include <stdbool.h>
#include <talloc.h>

struct objstore;
struct volume;
struct fence;

/* Why a store of which the probe found this cannot be used, as a sentence; NULL: it can. */
const char *fence_refusal(const struct objstore *s);
/* talloc child of ctx, which goes with the volume; NULL: no memory. */
struct fence *fence_new(TALLOC_CTX *ctx, struct volume *v);
/* Of a volume that is READY, each second: has the bucket's versioning been switched since the probe? Asks
 * the store once in an hour in which something was changed, and goes by what PUTs were answered. */
bool fence_changed(struct fence *f);

#endif
