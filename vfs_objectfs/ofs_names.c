/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Names: made, removed, renamed.
 * Way: from smbd's close.c and reply code; to the mirror, then a hint. What is there: ofs_lookup.c;
 *      what goes: ofs_victim.c.
 * Thread: the client's smbd; waits for the daemon only about directories not, or no longer, listed.
 * Owns: nothing.
 * Holds: 1. A change of a directory, and its hint, lie between ofs_change_begin and ofs_change_end.
 *        2. The daemon is asked before anything changes.
 */
#include "ofs.h"
#include "shared/samba.h"

/* --- unlink, rmdir --- */

static int unlink_at(struct vfs_handle_struct *handle, struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, int flags, const struct ofs_at *at)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	bool removedir = (flags & AT_REMOVEDIR) != 0;
	struct ofs_hint hint = {.kind = removedir ? OFS_HINT_RMDIR : OFS_HINT_UNLINKED};
	struct ofs_victim v;
	uint32_t stripe;
	int ret;

	ret = ofs_victim_find(c, at, &v);
	if (ret != 0) {
		return ret;
	}
	if (removedir && v.is_dir) {
		ret = ofs_victim_empty(c, at, &v);
		if (ret != 0) {
			goto out;
		}
	}
	ret = ofs_change_begin(c, at->dirfd, &hint.parent, &stripe);
	if (ret != 0) {
		goto out;
	}
	if (removedir == v.is_dir) {
		ret = ofs_victim_keep(c, &v);
	}
	if (ret == 0 && SMB_VFS_NEXT_UNLINKAT(handle, dirfsp, smb_fname, flags) != 0) {
		ret = -errno;
		ofs_victim_give_back(c, &v);
	}
	if (ret == 0) {
		ofs_victim_gone(c, &v);
	}
	if (ret == 0 && (v.is_dir || v.regular)) {
		hint.ino = v.ino;
		hint.oid = v.oid;
		hint.is_dir = v.is_dir;
		ofs_hint_name(hint.name, at->name);
		ofs_hint(c, &hint);
	}
	ofs_change_end(c, stripe);
out:
	ofs_victim_done(&v);
	return ret;
}

int ofs_unlinkat(struct vfs_handle_struct *handle, struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, int flags)
{
	struct ofs_at at;
	int ret;

	ret = ofs_at_open(ofs_conn_get(handle), dirfsp, smb_fname, &at);
	if (ret == 0) {
		ret = unlink_at(handle, dirfsp, smb_fname, flags, &at);
		ofs_at_done(&at);
	}
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	return 0;
}

/* --- mkdir --- */

/* In a directory not listed, a name that is missing here may be there. */
static int absent_or_brought(struct ofs_conn *c, const struct ofs_at *at)
{
	struct stat st;
	int ret;

	if (ofs_samba_tmpname(at->name) ||
			fstatat(at->dirfd, at->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		return 0;
	}
	if (errno != ENOENT) {
		return -errno;
	}
	ret = ofs_resolve(c, at);
	return ret == -ENOENT ? 0 : ret;
}

static int mkdir_note(struct ofs_conn *c, const struct ofs_at *at, struct ofs_hint *hint)
{
	struct ofs_record rec;
	struct stat st;
	int fd, ret;

	fd = openat(at->dirfd, at->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	ret = fstat(fd, &st) == 0 ? ofs_record_create(c, fd, true, &rec) : -errno;
	/* one with a name of smbd's own is announced when it gets its real one */
	if (ret == 0 && !ofs_samba_tmpname(at->name)) {
		hint->ino = st.st_ino;
		hint->oid = rec.oid;
		hint->is_dir = true;
		ofs_hint_name(hint->name, at->name);
		ofs_hint(c, hint);
	}
	close(fd);
	return ret;
}

static int mkdir_at(struct vfs_handle_struct *handle, struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, mode_t mode, const struct ofs_at *at)
{
	struct ofs_hint hint = {.kind = OFS_HINT_MKDIR};
	struct ofs_conn *c = ofs_conn_get(handle);
	uint32_t stripe;
	int ret;

	ret = absent_or_brought(c, at);
	if (ret != 0) {
		return ret;
	}
	ret = ofs_change_begin(c, at->dirfd, &hint.parent, &stripe);
	if (ret != 0) {
		return ret;
	}
	if (SMB_VFS_NEXT_MKDIRAT(handle, dirfsp, smb_fname, mode) != 0) {
		ret = -errno;
	} else {
		ret = mkdir_note(c, at, &hint);
		if (ret != 0) {
			uid_t euid = ofs_root_enter();

			(void)unlinkat(at->dirfd, at->name, AT_REMOVEDIR);
			ofs_root_leave(euid);
		}
	}
	ofs_change_end(c, stripe);
	return ret;
}

int ofs_mkdirat(struct vfs_handle_struct *handle, struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, mode_t mode)
{
	struct ofs_at at;
	int ret;

	ret = ofs_at_open(ofs_conn_get(handle), dirfsp, smb_fname, &at);
	if (ret == 0) {
		ret = mkdir_at(handle, dirfsp, smb_fname, mode, &at);
		ofs_at_done(&at);
	}
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	return 0;
}

/* --- rename --- */

struct rename {
	struct ofs_at src, dst;
	struct ofs_victim from, to;
	struct ofs_hint hint;
	uint32_t src_stripe, dst_stripe;
	bool no_replace;
};

/* Everything that may fail or wait, before anything changes. */
static int rename_prepare(struct ofs_conn *c, struct rename *r)
{
	struct ofs_record rec;
	int ret;

	ret = ofs_victim_find(c, &r->src, &r->from);
	if (ret != 0) {
		return ret;
	}
	ret = absent_or_brought(c, &r->dst);
	if (ret != 0) {
		return ret;
	}
	ret = ofs_victim_look(c, &r->dst, &r->to);
	if (ret != 0) {
		return ret;
	}
	if (r->to.fd >= 0 && r->no_replace) {
		return -EEXIST;
	}
	if (r->to.fd >= 0 && r->from.is_dir && r->to.is_dir && r->from.ino != r->to.ino) {
		ret = ofs_victim_empty(c, &r->dst, &r->to);
		if (ret != 0) {
			return ret;
		}
	}
	if (ofs_oid_is_none(&r->from.oid) && (r->from.is_dir || r->from.regular)) {
		ret = ofs_record_create(c, r->from.fd, false, &rec);
		if (ret != 0) {
			return ret;
		}
		r->from.oid = rec.oid;
	}
	return 0;
}

static int rename_change(struct vfs_handle_struct *handle, struct files_struct *srcdir_fsp,
		const struct smb_filename *smb_fname_src, struct files_struct *dstdir_fsp,
		const struct smb_filename *smb_fname_dst OFS_RENAME_HOW_ARG, struct rename *r)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	bool replaces = r->to.fd >= 0 && r->to.ino != r->from.ino;
	int ret = 0;

	if (replaces && r->to.is_dir == r->from.is_dir) {
		ret = ofs_victim_keep(c, &r->to);
	}
	if (ret == 0 && OFS_NEXT_RENAMEAT(handle, srcdir_fsp, smb_fname_src, dstdir_fsp,
				smb_fname_dst) != 0) {
		ret = -errno;
		ofs_victim_give_back(c, &r->to);
	}
	if (ret == 0 && replaces) {
		ofs_victim_gone(c, &r->to);
	}
	if (ret == 0 && (r->from.is_dir || r->from.regular)) {
		r->hint.kind = ofs_samba_tmpname(r->src.name) ? OFS_HINT_MKDIR : OFS_HINT_RENAMED;
		r->hint.ino = r->from.ino;
		r->hint.oid = r->from.oid;
		r->hint.is_dir = r->from.is_dir;
		if (replaces) {
			r->hint.target = r->to.oid;
		}
		ofs_hint_name(r->hint.name, r->dst.name);
		ofs_hint_name(r->hint.old_name, r->src.name);
		ofs_hint(c, &r->hint);
	}
	return ret;
}

static int rename_at(struct vfs_handle_struct *handle, struct files_struct *srcdir_fsp,
		const struct smb_filename *smb_fname_src, struct files_struct *dstdir_fsp,
		const struct smb_filename *smb_fname_dst OFS_RENAME_HOW_ARG, struct rename *r)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	int ret;

	ret = rename_prepare(c, r);
	if (ret != 0) {
		return ret;
	}
	ret = ofs_change_begin(c, r->src.dirfd, &r->hint.old_parent, &r->src_stripe);
	if (ret != 0) {
		return ret;
	}
	ret = ofs_change_begin(c, r->dst.dirfd, &r->hint.parent, &r->dst_stripe);
	if (ret == 0) {
		ret = rename_change(handle, srcdir_fsp, smb_fname_src, dstdir_fsp,
				smb_fname_dst OFS_RENAME_HOW_PASS, r);
		ofs_change_end(c, r->dst_stripe);
	}
	ofs_change_end(c, r->src_stripe);
	return ret;
}

int ofs_renameat(struct vfs_handle_struct *handle, struct files_struct *srcdir_fsp,
		const struct smb_filename *smb_fname_src, struct files_struct *dstdir_fsp,
		const struct smb_filename *smb_fname_dst OFS_RENAME_HOW_ARG)
{
	struct rename r = {.from.fd = -1, .to.fd = -1, .no_replace = OFS_RENAME_NO_REPLACE};
	struct ofs_conn *c = ofs_conn_get(handle);
	int ret;

	ret = ofs_at_open(c, srcdir_fsp, smb_fname_src, &r.src);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	ret = ofs_at_open(c, dstdir_fsp, smb_fname_dst, &r.dst);
	if (ret == 0) {
		ret = rename_at(handle, srcdir_fsp, smb_fname_src, dstdir_fsp,
				smb_fname_dst OFS_RENAME_HOW_PASS, &r);
		ofs_at_done(&r.dst);
	}
	ofs_at_done(&r.src);
	ofs_victim_done(&r.from);
	ofs_victim_done(&r.to);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	return 0;
}

/* --- refused: an object has one name, and content is bytes --- */

int ofs_symlinkat(struct vfs_handle_struct *handle, const struct smb_filename *link_contents,
		struct files_struct *dirfsp, const struct smb_filename *new_smb_fname)
{
	(void)handle;
	(void)link_contents;
	(void)dirfsp;
	(void)new_smb_fname;
	errno = EOPNOTSUPP;
	return -1;
}

int ofs_linkat(struct vfs_handle_struct *handle, struct files_struct *srcfsp,
		const struct smb_filename *old_smb_fname, struct files_struct *dstfsp,
		const struct smb_filename *new_smb_fname, int flags)
{
	(void)handle;
	(void)srcfsp;
	(void)old_smb_fname;
	(void)dstfsp;
	(void)new_smb_fname;
	(void)flags;
	errno = EOPNOTSUPP;
	return -1;
}

int ofs_mknodat(struct vfs_handle_struct *handle, struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, mode_t mode, SMB_DEV_T dev)
{
	(void)handle;
	(void)dirfsp;
	(void)smb_fname;
	(void)mode;
	(void)dev;
	errno = EOPNOTSUPP;
	return -1;
}
