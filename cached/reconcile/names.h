/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Raw key components and local names. Most are the same; what is no legal file name (empty, ".",
 * "..", longer than 255 bytes, invalid UTF-8, a character that SMB refuses) or would collide with an
 * escape is escaped reversibly. Pure functions, any thread.
 */
#ifndef OFS_RECONCILE_NAMES_H
#define OFS_RECONCILE_NAMES_H

#include <stdbool.h>
#include <talloc.h>
#include "shared/record.h"

/* Local name for a raw component, talloc; that of a file beside a directory of its name: below. A
 * component longer than 255 bytes gets a name ending in a hash; only the index knows its raw form. The
 * escape is "%~" and the component with bytes as %XX; "%~%" is the empty component. */
char *name_from_raw(TALLOC_CTX *ctx, const char *raw);
/* For the file where a directory has the name name_from_raw gives ("a" beside "a/"): the escape
 * ending in "%file". name_to_raw undoes it like the others. */
char *name_from_raw_beside_dir(TALLOC_CTX *ctx, const char *raw);
/* Is `name` what name_from_raw_beside_dir gives? */
bool name_is_beside_dir(const char *name, const char *raw);
/* Raw component for a local name: undoes the escape; other names are returned as they are. The
 * escape of a file beside a directory means nothing as the name of a directory. */
char *name_to_raw(TALLOC_CTX *ctx, const char *name, bool is_dir);
/* Names the volume keeps for itself at its root (".objectfs"). */
bool name_is_reserved(const struct ofs_oid *parent, const char *name);

#endif
