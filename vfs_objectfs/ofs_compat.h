/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What differs between Samba's VFS interface 47 (4.17) and 50 (4.22), in one place. Every file of
 * the module includes Samba through this header.
 */
#ifndef OFS_COMPAT_H
#define OFS_COMPAT_H

#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "modules/offload_token.h"
#include "system/filesys.h"
#include "lib/util/tevent_unix.h"
#include "lib/util/tevent_ntstatus.h"

#ifndef OFS_SAMBA_VERSION
/* inside a Samba source tree (waf-wscript), which also names the init function of a module */
#include "version.h"
#define OFS_SAMBA_VERSION SAMBA_VERSION_OFFICIAL_STRING
#define OFS_IN_SAMBA_TREE
#endif

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

#if SMB_VFS_INTERFACE_VERSION >= 50
/* renameat has flags in a struct, readdir no stat any more */
#define OFS_RENAME_HOW_ARG , const struct vfs_rename_how *how
#define OFS_RENAME_HOW_PASS , how
#define OFS_RENAME_NO_REPLACE ((how->flags & VFS_RENAME_HOW_NO_REPLACE) != 0)
#define OFS_READDIR_STAT_ARG
#define OFS_READDIR_STAT NULL
#define OFS_NEXT_RENAMEAT(handle, srcfsp, src, dstfsp, dst)                                        \
	SMB_VFS_NEXT_RENAMEAT(handle, srcfsp, src, dstfsp, dst, how)
#define OFS_NEXT_READDIR(handle, dirfsp, dirp, st) SMB_VFS_NEXT_READDIR(handle, dirfsp, dirp)
#else
#define OFS_RENAME_HOW_ARG
#define OFS_RENAME_HOW_PASS
#define OFS_RENAME_NO_REPLACE false
#define OFS_READDIR_STAT_ARG , SMB_STRUCT_STAT *sbuf
#define OFS_READDIR_STAT sbuf
#define OFS_NEXT_RENAMEAT(handle, srcfsp, src, dstfsp, dst)                                        \
	SMB_VFS_NEXT_RENAMEAT(handle, srcfsp, src, dstfsp, dst)
#define OFS_NEXT_READDIR(handle, dirfsp, dirp, st) SMB_VFS_NEXT_READDIR(handle, dirfsp, dirp, st)
#endif

#endif
