/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Clients that watch a directory hear of what others changed in the bucket, once it is in the tree.
 * smbd tells them of what SMB clients do; of the daemon's own work nobody hears. Core thread only.
 */
#ifndef OFS_CORE_ANNOUNCE_H
#define OFS_CORE_ANNOUNCE_H

#include <stdbool.h>
#include <talloc.h>
#include "shared/record.h"
#include "shared/wire.h"

struct announcer;
struct volume;
struct news;

struct announcer *announcer_new(struct volume *v);
/* One more in a directory; the first makes *n, a talloc child of ctx. kind: not MANY. */
void news_add(TALLOC_CTX *ctx, struct news **n, enum ofs_wire_notify kind, const char *name,
		bool is_dir);
/* Tell it: *n (may be NULL) is taken over. dir: where it happened. an NULL: nobody is told. */
void announce(struct announcer *an, const struct ofs_oid *dir, struct news **n);

#endif
