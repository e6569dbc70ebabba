/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What snapshot.c (inodes) and snapshot_pack.c (bytes) share. */
#ifndef OFS_MIRROR_SNAPSHOT_PRIV_H
#define OFS_MIRROR_SNAPSHOT_PRIV_H

#include "snapshot.h"

bool snapshot_name_is_acl(const char *name);
/* May a snapshot hold it? Checked when reading an inode, and again for what the bucket holds. */
bool snapshot_name_is_users(const char *name);
/* Does the value agree with what it was fetched by? */
bool snapshot_blob_is_right(const struct snapshot_xattr *x);
/* If all xattrs are in one bundle (snapshot_split): *whole has them. 0 with *whole NULL: there is
 * none. -ENODATA: not fetched; -EBADMSG: damaged; -ENOMEM. */
int snapshot_expand(const struct snapshot *s, struct snapshot **whole);

#endif
