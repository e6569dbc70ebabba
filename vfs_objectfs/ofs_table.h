/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef OFS_TABLE_H
#define OFS_TABLE_H

/*
 * One row per slot, in the order of Samba's vfs.h: T(slot, function, what it is, its test). NULL is
 * NEXT: Samba passes an empty slot on. What Samba's own code brings back to us as another call says
 * so. tests/unit/test_vfs_table.c checks that the tests exist.
 */
#if SMB_VFS_INTERFACE_VERSION >= 50
#define OFS_VFS_TABLE_47(T)
#else
#define OFS_VFS_TABLE_47(T)                                                                        \
	T(seekdir_fn, NULL, NEXT, "")                                                              \
	T(telldir_fn, NULL, NEXT, "")
#endif

#define OFS_VFS_TABLE(T)                                                                           \
	T(connect_fn, ofs_connect, ours, "tests/scenario/module-names.py")                         \
	T(disconnect_fn, ofs_disconnect, ours, "tests/scenario/module-names.py")                   \
	T(disk_free_fn, ofs_disk_free, ours, "tests/scenario/module-names.py")                     \
	T(get_quota_fn, NULL, NEXT, "")                                                            \
	T(set_quota_fn, NULL, NEXT, "")                                                            \
	T(get_shadow_copy_data_fn, NULL, NEXT, "")                                                 \
	T(statvfs_fn, ofs_statvfs, ours, "unreached: SMB1 and POSIX extensions only")              \
	T(fs_capabilities_fn, ofs_fs_capabilities, ours, "tests/scenario/evict.py")                 \
	T(get_dfs_referrals_fn, NULL, NEXT, "")                                                    \
	T(create_dfs_pathat_fn, NULL, NEXT, "its symlink is refused")                              \
	T(read_dfs_pathat_fn, NULL, NEXT, "")                                                      \
	T(fdopendir_fn, ofs_fdopendir, ours, "tests/scenario/module-names.py")                     \
	T(readdir_fn, ofs_readdir, ours, "tests/scenario/module-names.py")                         \
	OFS_VFS_TABLE_47(T)                                                                        \
	T(rewind_dir_fn, NULL, NEXT, "")                                                           \
	T(mkdirat_fn, ofs_mkdirat, ours, "tests/scenario/module-names.py")                         \
	T(closedir_fn, NULL, NEXT, "")                                                             \
	T(openat_fn, ofs_openat, ours, "tests/scenario/module-names.py")                           \
	T(create_file_fn, ofs_create_file, ours, "tests/scenario/bad-input.py")                    \
	T(close_fn, ofs_close, ours, "tests/scenario/module-data.py")                              \
	T(pread_fn, ofs_pread, ours, "tests/scenario/module-data.py")                              \
	T(pread_send_fn, ofs_pread_send, ours, "tests/scenario/module-data.py")                    \
	T(pread_recv_fn, ofs_pread_recv, ours, "tests/scenario/module-data.py")                    \
	T(pwrite_fn, ofs_pwrite, ours, "tests/scenario/module-data.py")                            \
	T(pwrite_send_fn, ofs_pwrite_send, ours, "tests/scenario/module-data.py")                  \
	T(pwrite_recv_fn, ofs_pwrite_recv, ours, "tests/scenario/module-data.py")                  \
	T(lseek_fn, ofs_lseek, ours, "tests/scenario/module-data.py")                              \
	T(sendfile_fn, ofs_sendfile, ours, "tests/scenario/module-data.py")                        \
	T(recvfile_fn, ofs_recvfile, ours, "tests/scenario/module-data.py")                        \
	T(renameat_fn, ofs_renameat, ours, "tests/scenario/module-names.py")                       \
	T(fsync_send_fn, ofs_fsync_send, ours, "tests/scenario/module-data.py")                    \
	T(fsync_recv_fn, ofs_fsync_recv, ours, "tests/scenario/module-data.py")                    \
	T(stat_fn, ofs_stat, ours, "tests/scenario/module-names.py")                               \
	T(fstat_fn, ofs_fstat, ours, "tests/scenario/module-names.py")                             \
	T(lstat_fn, ofs_lstat, ours, "unreached: POSIX extensions only")                           \
	T(fstatat_fn, ofs_fstatat, ours, "tests/scenario/module-names.py")                         \
	T(get_alloc_size_fn, NULL, NEXT, "from the blocks of our stat")                            \
	T(unlinkat_fn, ofs_unlinkat, ours, "tests/scenario/module-names.py")                       \
	T(fchmod_fn, ofs_fchmod, ours, "tests/scenario/module-names.py")                           \
	T(fchown_fn, ofs_fchown, ours, "unreached: needs a POSIX client or system ACLs")           \
	T(lchown_fn, ofs_lchown, ours, "unreached: SMB1 UNIX extensions only")                     \
	T(chdir_fn, ofs_chdir, ours, "tests/scenario/module-names.py")                             \
	T(getwd_fn, NULL, NEXT, "")                                                                \
	T(fntimes_fn, ofs_fntimes, ours, "tests/scenario/module-names.py")                         \
	T(ftruncate_fn, ofs_ftruncate, ours, "tests/scenario/module-data.py")                      \
	T(fallocate_fn, ofs_fallocate, ours, "tests/scenario/module-data.py")                      \
	T(lock_fn, NULL, NEXT, "")                                                                 \
	T(filesystem_sharemode_fn, NULL, NEXT, "")                                                 \
	T(fcntl_fn, NULL, NEXT, "")                                                                \
	T(linux_setlease_fn, NULL, NEXT, "")                                                       \
	T(getlock_fn, NULL, NEXT, "")                                                              \
	T(symlinkat_fn, ofs_symlinkat, refused, "unreached: POSIX extensions only")                \
	T(readlinkat_fn, NULL, NEXT, "")                                                           \
	T(linkat_fn, ofs_linkat, refused, "tests/scenario/module-names.py")                        \
	T(mknodat_fn, ofs_mknodat, refused, "unreached: SMB1 UNIX extensions only")                \
	T(realpath_fn, NULL, NEXT, "")                                                             \
	T(fchflags_fn, NULL, NEXT, "")                                                             \
	T(file_id_create_fn, NULL, NEXT, "device and inode: Samba's locks hang on it")             \
	T(fs_file_id_fn, NULL, NEXT, "")                                                           \
	T(offload_read_send_fn, ofs_offload_read_send, ours, "tests/scenario/module-data.py")      \
	T(offload_read_recv_fn, ofs_offload_read_recv, ours, "tests/scenario/module-data.py")      \
	T(offload_write_send_fn, ofs_offload_write_send, ours, "tests/scenario/copies.py")         \
	T(offload_write_recv_fn, ofs_offload_write_recv, ours, "tests/scenario/copies.py")         \
	T(fget_compression_fn, NULL, NEXT, "")                                                     \
	T(set_compression_fn, NULL, NEXT, "")                                                      \
	T(snap_check_path_fn, NULL, NEXT, "")                                                      \
	T(snap_create_fn, NULL, NEXT, "")                                                          \
	T(snap_delete_fn, NULL, NEXT, "")                                                          \
	T(fstreaminfo_fn, NULL, NEXT, "")                                                          \
	T(get_real_filename_at_fn, NULL, NEXT, "smbd scans, and our fdopendir lists")              \
	T(connectpath_fn, NULL, NEXT, "")                                                          \
	T(brl_lock_windows_fn, NULL, NEXT, "")                                                     \
	T(brl_unlock_windows_fn, NULL, NEXT, "")                                                   \
	T(strict_lock_check_fn, NULL, NEXT, "")                                                    \
	T(translate_name_fn, NULL, NEXT, "")                                                       \
	T(parent_pathname_fn, NULL, NEXT, "")                                                      \
	T(fsctl_fn, NULL, NEXT, "")                                                                \
	T(fget_dos_attributes_fn, ofs_fget_dos_attributes, ours, "tests/scenario/evict.py")        \
	T(fset_dos_attributes_fn, ofs_fset_dos_attributes, ours, "tests/scenario/evict.py")        \
	T(get_dos_attributes_send_fn, vfs_not_implemented_get_dos_attributes_send, refused, "unreached: smbd async dosmode = yes; smbd then asks fget_dos_attributes") \
	T(get_dos_attributes_recv_fn, vfs_not_implemented_get_dos_attributes_recv, refused, "unreached: as its send") \
	T(fget_nt_acl_fn, NULL, NEXT, "arrives as an xattr")                                       \
	T(fset_nt_acl_fn, NULL, NEXT, "arrives as an xattr, mode or POSIX ACL")                    \
	T(audit_file_fn, NULL, NEXT, "")                                                           \
	T(sys_acl_get_fd_fn, NULL, NEXT, "")                                                       \
	T(sys_acl_blob_get_fd_fn, NULL, NEXT, "")                                                  \
	T(sys_acl_set_fd_fn, ofs_sys_acl_set_fd, ours, "unreached: acl_xattr:ignore system acls = yes")	\
	T(sys_acl_delete_def_fd_fn, ofs_sys_acl_delete_def_fd, ours, "unreached: acl_xattr:ignore system acls = yes")	\
	T(getxattrat_send_fn, ofs_getxattrat_send, ours, "tests/scenario/module-names.py")         \
	T(getxattrat_recv_fn, ofs_getxattrat_recv, ours, "tests/scenario/module-names.py")         \
	T(fgetxattr_fn, ofs_fgetxattr, ours, "tests/scenario/module-names.py")                     \
	T(flistxattr_fn, ofs_flistxattr, ours, "tests/scenario/module-names.py")                   \
	T(fremovexattr_fn, ofs_fremovexattr, ours, "tests/scenario/module-names.py")               \
	T(fsetxattr_fn, ofs_fsetxattr, ours, "tests/scenario/module-names.py")                     \
	T(aio_force_fn, NULL, NEXT, "")                                                            \
	T(durable_cookie_fn, NULL, NEXT, "")                                                       \
	T(durable_disconnect_fn, ofs_durable_disconnect, ours, "tests/scenario/remote-changes.py") \
	T(durable_reconnect_fn, NULL, NEXT, "its open is ours")                                    \
	T(freaddir_attr_fn, NULL, NEXT, "")

#endif
