/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a directory's NT ACL hands down to something new in it. Any thread; pure. */
#ifndef OFS_MIRROR_NTACL_H
#define OFS_MIRROR_NTACL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * dir: the value of the directory's NT ACL xattr, of any version Samba writes. container: the new
 * thing is a directory. 0: *out (malloc) is the value for the new one, or NULL if the directory has no
 * DACL, i.e. is open to all. -EBADMSG: damaged, or of an unknown version; -E2BIG: no xattr holds the
 * result; -ENOMEM.
 */
int ntacl_inherit(const uint8_t *dir, size_t dir_len, bool container, uint8_t **out,
		size_t *out_len);

/* Whom the value of an NT ACL xattr names: owner, group and each trustee of its DACL, as text, perhaps
 * more than once. 0; -EBADMSG: damaged, or of an unknown version. */
int ntacl_sids(const uint8_t *value, size_t len, void (*fn)(void *arg, const char *sid), void *arg);

#endif
