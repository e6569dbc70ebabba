/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What of an object another tool has set, and a write of ours would lose. Pure; any thread. */
#ifndef OFS_MIRROR_FOREIGN_H
#define OFS_MIRROR_FOREIGN_H

#include "../objstore/objstore.h"

/* A property that is to be put back on other bytes, or NULL: not set, the default, or not for them. */
const char *foreign_prop(const struct obj_result *r, enum obj_prop prop);
/* User metadata of others that is to be put back on other bytes. */
bool foreign_meta(const char *name);
/* Nothing of it all: the answer to a HEAD or GET. */
bool foreign_none(const struct obj_result *r);
/* Can it be read at once? Else new bytes must not go there. */
bool foreign_is_archived(const char *storage_class);

#endif
