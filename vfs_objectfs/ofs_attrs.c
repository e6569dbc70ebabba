/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a client sees of an inode besides its bytes: stat overlay, metadata setters, xattrs, space.
 * Way: from all of smbd; NT ACLs, DOS attributes, EAs and streams arrive here as xattrs.
 * Thread: the client's smbd. No message, but for names missing in directories not listed.
 * Owns: nothing.
 * Holds: 1. What a client sees does not move when the daemon works (rule 7): for regular
 *           files ctime is mtime and blocks follow from the size, always; the marker is hidden.
 *        2. Times of a stub are its record's. A stat that shows the marker, beside a record that says
 *           plain, was taken before the file became so: its times may be those of the daemon's work,
 *           and it is taken again. Those of the inode are right before the record says plain.
 *        3. Every setter marks the directory before and the record after (META_DIRTY, meta_gen).
 *        4. The record's xattr does not exist for clients.
 *        5. Attributes that say where the bytes are follow the marker; they are never stored.
 *        6. fstat on an open handle never fails on our account (rule 9: smbd 4.17 panics at close).
 */
#include "ofs.h"

#define CLUSTER_BYTES 4096

/* --- stat --- */

static struct timespec ns_timespec(int64_t ns)
{
	struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

	if (ts.tv_nsec < 0) {
		ts.tv_nsec += 1000000000;
		ts.tv_sec--;
	}
	return ts;
}

static bool stat_is_marked(const SMB_STRUCT_STAT *st)
{
	return S_ISREG(st->st_ex_mode) && (st->st_ex_mode & OFS_MARKER_MODE) != 0;
}

/* rec: of a marked file; NULL: none, or not to be had. */
static void stat_overlay(SMB_STRUCT_STAT *st, const struct ofs_record *rec)
{
	if (!S_ISREG(st->st_ex_mode)) {
		return;
	}
	st->st_ex_mode &= ~(mode_t)OFS_MARKER_MODE;
	if (rec != NULL && (rec->flags & OFS_REC_STUB) != 0 && rec->size <= INT64_MAX) {
		st->st_ex_size = (off_t)rec->size;
		st->st_ex_mtime = ns_timespec(rec->mtime_ns);
		st->st_ex_atime = ns_timespec(rec->atime_ns);
	}
	st->st_ex_ctime = st->st_ex_mtime;
	/* in clusters, as on a local disk */
	st->st_ex_blocks = (st->st_ex_size + CLUSTER_BYTES - 1) / CLUSTER_BYTES * (CLUSTER_BYTES / 512);
	if ((st->st_ex_iflags & ST_EX_IFLAG_CALCULATED_BTIME) != 0) {
		/* the oldest of what the client is told, as Samba does it */
		st->st_ex_btime = timespec_compare(&st->st_ex_atime, &st->st_ex_mtime) < 0 ?
				st->st_ex_atime :
				st->st_ex_mtime;
	}
}

#define STAT_TRIES 3 /* how often a file may become plain while it is looked at */

/* st: of this inode; fd: O_PATH will do. */
static void stat_overlay_fd(const struct ofs_conn *c, int fd, SMB_STRUCT_STAT *st)
{
	struct ofs_record rec;
	struct stat now;
	bool have = false;

	for (int tries = 0; stat_is_marked(st); tries++) {
		have = ofs_record_get(&c->io, fd, &rec) == 0;
		if (!have || (rec.flags & OFS_REC_STUB) != 0 || tries == STAT_TRIES ||
				fstat(fd, &now) != 0) {
			break;
		}
		init_stat_ex_from_stat(st, &now, false);
	}
	stat_overlay(st, have ? &rec : NULL);
}

/* The name may be another inode's by now: then it is that one's. */
static void stat_overlay_at(const struct ofs_conn *c, int dirfd, const char *name,
		SMB_STRUCT_STAT *st)
{
	struct stat now;
	int fd = -1;

	if (stat_is_marked(st)) {
		fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd < 0) {
		stat_overlay(st, NULL);
		return;
	}
	if (fstat(fd, &now) == 0 && S_ISREG(now.st_mode)) {
		init_stat_ex_from_stat(st, &now, false);
	}
	stat_overlay_fd(c, fd, st);
	close(fd);
}

/* After ENOENT: true if the name is here now; else errno is set. */
static bool found_after_all(struct ofs_conn *c, const struct files_struct *dirfsp,
		const struct smb_filename *smb_fname)
{
	int ret;

	if (errno != ENOENT) {
		return false;
	}
	ret = ofs_resolve_name(c, dirfsp, smb_fname);
	errno = -ret;
	return ret == 0;
}

int ofs_stat(struct vfs_handle_struct *handle, struct smb_filename *smb_fname)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	int ret = SMB_VFS_NEXT_STAT(handle, smb_fname);

	if (ret != 0 && found_after_all(c, NULL, smb_fname)) {
		ret = SMB_VFS_NEXT_STAT(handle, smb_fname);
	}
	if (ret == 0) {
		stat_overlay_at(c, AT_FDCWD, smb_fname->base_name, &smb_fname->st);
	}
	return ret;
}

int ofs_lstat(struct vfs_handle_struct *handle, struct smb_filename *smb_fname)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	int ret = SMB_VFS_NEXT_LSTAT(handle, smb_fname);

	if (ret != 0 && found_after_all(c, NULL, smb_fname)) {
		ret = SMB_VFS_NEXT_LSTAT(handle, smb_fname);
	}
	if (ret == 0) {
		stat_overlay_at(c, AT_FDCWD, smb_fname->base_name, &smb_fname->st);
	}
	return ret;
}

int ofs_fstatat(struct vfs_handle_struct *handle, const struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, SMB_STRUCT_STAT *sbuf, int flags)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	int ret = SMB_VFS_NEXT_FSTATAT(handle, dirfsp, smb_fname, sbuf, flags);

	if (ret != 0 && found_after_all(c, dirfsp, smb_fname)) {
		ret = SMB_VFS_NEXT_FSTATAT(handle, dirfsp, smb_fname, sbuf, flags);
	}
	if (ret == 0) {
		stat_overlay_at(c, fsp_get_pathref_fd(dirfsp), smb_fname->base_name, sbuf);
	}
	return ret;
}

int ofs_fstat(struct vfs_handle_struct *handle, struct files_struct *fsp, SMB_STRUCT_STAT *sbuf)
{
	const struct ofs_conn *c = ofs_conn_get(handle);
	int ret = SMB_VFS_NEXT_FSTAT(handle, fsp, sbuf);

	if (ret == 0) {
		stat_overlay_fd(c, ofs_fsp_fd(fsp), sbuf);
	}
	return ret;
}

struct dirent *ofs_readdir(struct vfs_handle_struct *handle, struct files_struct *dirfsp,
		DIR *dirp OFS_READDIR_STAT_ARG)
{
	const struct ofs_conn *c = ofs_conn_get(handle);
	SMB_STRUCT_STAT *st = OFS_READDIR_STAT;
	struct dirent *d;

	d = OFS_NEXT_READDIR(handle, dirfsp, dirp, st);
	if (d != NULL && st != NULL && VALID_STAT(*st)) {
		stat_overlay_at(c, dirfd(dirp), d->d_name, st);
	}
	return d;
}

/* --- DOS attributes: where the bytes are --- */

#define RECALL_ON_DATA_ACCESS 0x00400000u /* MS-FSCC 2.6; Samba has no name for it */
#define PLACE_ATTRIBUTES (FILE_ATTRIBUTE_OFFLINE | RECALL_ON_DATA_ACCESS)

/* What smbd has of its stat is without the marker, and may be older. */
static bool file_is_away(const struct ofs_conn *c, const struct files_struct *fsp)
{
	struct stat st;

	if (c == NULL || !c->offline || !S_ISREG(fsp->fsp_name->st.st_ex_mode)) {
		return false;
	}
	return fstat(ofs_fsp_fd(fsp), &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & OFS_MARKER_MODE) != 0;
}

NTSTATUS ofs_fget_dos_attributes(struct vfs_handle_struct *handle, struct files_struct *fsp,
		uint32_t *dosmode)
{
	NTSTATUS status = SMB_VFS_NEXT_FGET_DOS_ATTRIBUTES(handle, fsp, dosmode);

	/* smbd takes the bits even if nothing is stored. */
	if (file_is_away(ofs_conn_get(handle), fsp)) {
		*dosmode |= PLACE_ATTRIBUTES;
	}
	return status;
}

/* smbd stores back what it was told, with a bit more. */
NTSTATUS ofs_fset_dos_attributes(struct vfs_handle_struct *handle, struct files_struct *fsp,
		uint32_t dosmode)
{
	return SMB_VFS_NEXT_FSET_DOS_ATTRIBUTES(handle, fsp, dosmode & ~PLACE_ATTRIBUTES);
}

uint32_t ofs_fs_capabilities(struct vfs_handle_struct *handle, enum timestamp_set_resolution *resolution)
{
	const struct ofs_conn *c = ofs_conn_get(handle);

	return SMB_VFS_NEXT_FS_CAPABILITIES(handle, resolution) |
			(c != NULL && c->offline ? FILE_SUPPORTS_REMOTE_STORAGE : 0);
}

/* --- space: the volume's, not the cache disk's --- */

#define SPACE_BLOCK_BYTES 4096u

static bool space_get(const struct ofs_conn *c, uint64_t *total_bytes, uint64_t *free_bytes)
{
	uint64_t used = atomic_load(&c->shm->used_bytes);

	*total_bytes = atomic_load(&c->shm->capacity_bytes);
	*free_bytes = used < *total_bytes ? *total_bytes - used : 0;
	return *total_bytes != 0;
}

uint64_t ofs_disk_free(struct vfs_handle_struct *handle, const struct smb_filename *smb_fname,
		uint64_t *bsize, uint64_t *dfree, uint64_t *dsize)
{
	uint64_t total_bytes, free_bytes;

	if (!space_get(ofs_conn_get(handle), &total_bytes, &free_bytes)) {
		return SMB_VFS_NEXT_DISK_FREE(handle, smb_fname, bsize, dfree, dsize);
	}
	*bsize = SPACE_BLOCK_BYTES;
	*dfree = free_bytes / SPACE_BLOCK_BYTES;
	*dsize = total_bytes / SPACE_BLOCK_BYTES;
	return free_bytes / 1024;
}

int ofs_statvfs(struct vfs_handle_struct *handle, const struct smb_filename *smb_fname,
		struct vfs_statvfs_struct *statbuf)
{
	int ret = SMB_VFS_NEXT_STATVFS(handle, smb_fname, statbuf);
	uint64_t total_bytes, free_bytes;

	if (ret == 0 && space_get(ofs_conn_get(handle), &total_bytes, &free_bytes)) {
		statbuf->BlockSize = SPACE_BLOCK_BYTES;
		statbuf->TotalBlocks = total_bytes / SPACE_BLOCK_BYTES;
		statbuf->BlocksAvail = free_bytes / SPACE_BLOCK_BYTES;
		statbuf->UserBlocksAvail = statbuf->BlocksAvail;
	}
	return ret;
}

/* --- setters --- */

/* The marker is ours: kept if it is there, refused if it is not. Under the stripe lock, for the
 * daemon may be about to take it off. */
static int fchmod_keeping_marker(struct vfs_handle_struct *handle, struct files_struct *fsp,
		mode_t mode)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	int fd = ofs_fsp_fd(fsp);
	struct stat st;
	uint32_t stripe;
	int ret, err;

	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		return SMB_VFS_NEXT_FCHMOD(handle, fsp, mode);
	}
	stripe = ofs_shm_stripe_of(st.st_ino);
	ret = ofs_shm_lock(c->shm, stripe, OFS_LOCK_TIMEOUT_MS);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	mode &= ~(mode_t)OFS_MARKER_MODE;
	if (fstat(fd, &st) == 0) {
		mode |= st.st_mode & OFS_MARKER_MODE;
	}
	ret = SMB_VFS_NEXT_FCHMOD(handle, fsp, mode);
	err = errno;
	ofs_shm_unlock(c->shm, stripe);
	errno = err;
	return ret;
}

int ofs_fchmod(struct vfs_handle_struct *handle, struct files_struct *fsp, mode_t mode)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	struct ofs_meta m;
	int ret;

	ret = ofs_meta_begin(c, ofs_fsp_fd(fsp), &m);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	ret = fchmod_keeping_marker(handle, fsp, mode);
	ofs_meta_end(c, &m, ret == 0, NULL);
	return ret;
}

int ofs_fchown(struct vfs_handle_struct *handle, struct files_struct *fsp, uid_t uid, gid_t gid)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	struct ofs_meta m;
	int ret;

	ret = ofs_meta_begin(c, ofs_fsp_fd(fsp), &m);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	ret = SMB_VFS_NEXT_FCHOWN(handle, fsp, uid, gid);
	ofs_meta_end(c, &m, ret == 0, NULL);
	return ret;
}

int ofs_lchown(struct vfs_handle_struct *handle, const struct smb_filename *smb_fname, uid_t uid,
		gid_t gid)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	struct ofs_meta m;
	int fd, ret;

	fd = open(smb_fname->base_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		return -1;
	}
	ret = ofs_meta_begin(c, fd, &m);
	if (ret != 0) {
		close(fd);
		errno = -ret;
		return -1;
	}
	ret = SMB_VFS_NEXT_LCHOWN(handle, smb_fname, uid, gid);
	ofs_meta_end(c, &m, ret == 0, NULL);
	close(fd);
	return ret;
}

int ofs_fntimes(struct vfs_handle_struct *handle, struct files_struct *fsp,
		struct smb_file_time *ft)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	struct ofs_meta m;
	int ret;

	if (fsp_is_alternate_stream(fsp)) {
		return SMB_VFS_NEXT_FNTIMES(handle, fsp, ft);
	}
	ret = ofs_meta_begin(c, ofs_fsp_fd(fsp), &m);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	ret = SMB_VFS_NEXT_FNTIMES(handle, fsp, ft);
	ofs_meta_end(c, &m, ret == 0, ft);
	return ret;
}

int ofs_sys_acl_set_fd(struct vfs_handle_struct *handle, struct files_struct *fsp,
		SMB_ACL_TYPE_T type, SMB_ACL_T theacl)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	struct ofs_meta m;
	int ret;

	ret = ofs_meta_begin(c, ofs_fsp_fd(fsp), &m);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	ret = SMB_VFS_NEXT_SYS_ACL_SET_FD(handle, fsp, type, theacl);
	ofs_meta_end(c, &m, ret == 0, NULL);
	return ret;
}

int ofs_sys_acl_delete_def_fd(struct vfs_handle_struct *handle, struct files_struct *fsp)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	struct ofs_meta m;
	int ret;

	ret = ofs_meta_begin(c, ofs_fsp_fd(fsp), &m);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	ret = SMB_VFS_NEXT_SYS_ACL_DELETE_DEF_FD(handle, fsp);
	ofs_meta_end(c, &m, ret == 0, NULL);
	return ret;
}

/* --- xattrs --- */

static bool xattr_is_ours(const char *name)
{
	return strcmp(name, OFS_RECORD_XATTR_SECURITY) == 0 ||
			strcmp(name, OFS_RECORD_XATTR_USER) == 0;
}

ssize_t ofs_fgetxattr(struct vfs_handle_struct *handle, struct files_struct *fsp, const char *name,
		void *value, size_t size)
{
	if (xattr_is_ours(name)) {
		errno = ENODATA;
		return -1;
	}
	return SMB_VFS_NEXT_FGETXATTR(handle, fsp, name, value, size);
}

ssize_t ofs_flistxattr(struct vfs_handle_struct *handle, struct files_struct *fsp, char *list,
		size_t size)
{
	ssize_t n = SMB_VFS_NEXT_FLISTXATTR(handle, fsp, list, size);
	ssize_t kept = 0;

	if (n <= 0 || size == 0 || list == NULL) {
		return n; /* asked for a size: an upper bound */
	}
	for (ssize_t at = 0; at < n;) {
		size_t len = strnlen(list + at, (size_t)(n - at)) + 1;

		if (at + (ssize_t)len > n) {
			break;
		}
		if (!xattr_is_ours(list + at)) {
			memmove(list + kept, list + at, len);
			kept += (ssize_t)len;
		}
		at += (ssize_t)len;
	}
	return kept;
}

int ofs_fremovexattr(struct vfs_handle_struct *handle, struct files_struct *fsp, const char *name)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	struct ofs_meta m;
	int ret;

	if (xattr_is_ours(name)) {
		errno = EACCES;
		return -1;
	}
	ret = ofs_meta_begin(c, ofs_fsp_fd(fsp), &m);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	ret = SMB_VFS_NEXT_FREMOVEXATTR(handle, fsp, name);
	ofs_meta_end(c, &m, ret == 0, NULL);
	return ret;
}

int ofs_fsetxattr(struct vfs_handle_struct *handle, struct files_struct *fsp, const char *name,
		const void *value, size_t size, int flags)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	struct ofs_meta m;
	int ret;

	if (xattr_is_ours(name)) {
		errno = EACCES;
		return -1;
	}
	ret = ofs_meta_begin(c, ofs_fsp_fd(fsp), &m);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	ret = SMB_VFS_NEXT_FSETXATTR(handle, fsp, name, value, size, flags);
	ofs_meta_end(c, &m, ret == 0, NULL);
	return ret;
}

struct getxattrat_state {
	ssize_t size;
	uint8_t *value;
	struct vfs_aio_state aio;
};

static void getxattrat_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	struct getxattrat_state *state = tevent_req_data(req, struct getxattrat_state);

	state->size = SMB_VFS_NEXT_GETXATTRAT_RECV(subreq, &state->aio, state, &state->value);
	TALLOC_FREE(subreq);
	if (state->size == -1) {
		tevent_req_error(req, state->aio.error);
		return;
	}
	tevent_req_done(req);
}

struct tevent_req *ofs_getxattrat_send(TALLOC_CTX *ctx, struct tevent_context *ev,
		struct vfs_handle_struct *handle, struct files_struct *dir_fsp,
		const struct smb_filename *smb_fname, const char *xattr_name, size_t alloc_hint)
{
	struct getxattrat_state *state;
	struct tevent_req *req, *subreq;

	req = tevent_req_create(ctx, &state, struct getxattrat_state);
	if (req == NULL) {
		return NULL;
	}
	if (xattr_is_ours(xattr_name)) {
		tevent_req_error(req, ENODATA);
		return tevent_req_post(req, ev);
	}
	subreq = SMB_VFS_NEXT_GETXATTRAT_SEND(
			state, ev, handle, dir_fsp, smb_fname, xattr_name, alloc_hint);
	if (tevent_req_nomem(subreq, req)) {
		return tevent_req_post(req, ev);
	}
	tevent_req_set_callback(subreq, getxattrat_done, req);
	return req;
}

ssize_t ofs_getxattrat_recv(struct tevent_req *req, struct vfs_aio_state *aio_state,
		TALLOC_CTX *ctx, uint8_t **xattr_value)
{
	struct getxattrat_state *state = tevent_req_data(req, struct getxattrat_state);
	ssize_t size;

	if (tevent_req_is_unix_error(req, &aio_state->error)) {
		tevent_req_received(req);
		return -1;
	}
	*aio_state = state->aio;
	size = state->size;
	if (xattr_value != NULL) {
		*xattr_value = talloc_move(ctx, &state->value);
	}
	tevent_req_received(req);
	return size;
}
