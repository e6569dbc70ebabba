/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Opening and closing: what an open file is, decided on its real descriptor after the real open.
 * Way: from smbd's open.c and close.c; to the mirror, records and hints.
 * Thread: the client's smbd; waits for the daemon only where a name is missing in a directory not
 *         listed, or for `durability = s3` at close.
 * Owns: struct ofs_file, a child of the fsp.
 * Holds: 1. A resident file opened for reading has no struct ofs_file and costs no message.
 *        2. A file is marked dirty, and its directory too, before O_CREAT is answered.
 *        3. smbd opens a path descriptor first, then the data by /proc/self/fd, and closes the
 *           first one through us while the second is not in the fsp yet: ofs_file.fd tells which.
 */
#include "ofs.h"

#include <sys/mman.h>

static bool name_is_proc_fd(const struct smb_filename *smb_fname)
{
	return strncmp(smb_fname->base_name, "/proc/self/fd/", strlen("/proc/self/fd/")) == 0;
}

static bool name_is_child(const struct smb_filename *smb_fname)
{
	return smb_fname->base_name[0] != '/' && !ISDOT(smb_fname->base_name) &&
			!ISDOTDOT(smb_fname->base_name);
}

/* --- struct ofs_file --- */

static void file_destroy(void *p)
{
	struct ofs_file *f = p;

	ofs_recall_abandon(f);
	/* after a close there is nothing left; without one the session ends all the same */
	if (f->map != NULL) {
		munmap(discard_const_p(uint8_t, f->map), f->map_len);
		f->map = NULL;
	}
	TALLOC_FREE(f->whole);
}

struct ofs_file *ofs_file_get(struct vfs_handle_struct *handle, const struct files_struct *fsp)
{
	struct ofs_file *f = VFS_FETCH_FSP_EXTENSION(handle, fsp);

	return f != NULL && f->fd == fsp_get_pathref_fd(fsp) ? f : NULL;
}

static struct ofs_file *file_make(struct vfs_handle_struct *handle, struct files_struct *fsp,
		int fd)
{
	struct ofs_file *f;
	struct stat st;

	if (fstat(fd, &st) != 0) {
		return NULL;
	}
	f = VFS_ADD_FSP_EXTENSION(handle, fsp, struct ofs_file, file_destroy);
	if (f == NULL) {
		errno = ENOMEM;
		return NULL;
	}
	file_destroy(f); /* of an earlier open of this fsp */
	*f = (struct ofs_file){
		.conn = ofs_conn_get(handle),
		.fd = fd,
		.ino = st.st_ino,
		.stripe = ofs_shm_stripe_of(st.st_ino),
	};
	return f;
}

struct ofs_file *ofs_file_need(struct vfs_handle_struct *handle, struct files_struct *fsp)
{
	struct ofs_file *f = ofs_file_get(handle, fsp);

	return f != NULL ? f : file_make(handle, fsp, fsp_get_io_fd(fsp));
}

/* --- open --- */

#define OPENAT_MUST_MS 5000

/* An open that would have slept in the kernel: the flag was for the open alone. */
static int openat_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	int err;

	if (flags >= 0 && ((flags & O_PATH) != 0 || /* NEXT makes it one where that will do */
			fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0)) {
		return fd;
	}
	err = errno;
	close(fd);
	errno = err;
	return -1;
}

/*
 * The daemon gives a lease up within milliseconds. What smbd opens with O_NONBLOCK it can put off, and
 * asks again in a second. What it does not (a durable handle that comes back) fails for good, or, in the
 * kernel, sleeps for up to lease-break-time, 45 s, while the file's share modes are locked for everybody:
 * here it has some seconds.
 */
static int next_openat(struct vfs_handle_struct *handle, const struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, struct files_struct *fsp,
		const struct vfs_open_how *how)
{
	bool can_wait = (how->flags & (O_NONBLOCK | O_PATH | O_DIRECTORY)) != 0; /* no lease there */
	int64_t until_ms = 0;
	struct vfs_open_how h = *how;
	int fd;

	if (!can_wait) {
		h.flags |= O_NONBLOCK;
	}
	for (;;) {
		fd = SMB_VFS_NEXT_OPENAT(handle, dirfsp, smb_fname, fsp, &h);
		if (fd >= 0 || errno != EAGAIN) {
			return fd >= 0 && !can_wait ? openat_blocking(fd) : fd;
		}
		if (until_ms == 0) {
			until_ms = ofs_link_now_ms() + (can_wait ? ofs_conn_get(handle)->openat_retry_ms
								 : OPENAT_MUST_MS);
		} else if (ofs_link_now_ms() >= until_ms) {
			errno = EAGAIN;
			return -1;
		}
		usleep(1500);
	}
}

/* Look at a data descriptor: plain, marked, or not to be touched. 0 or -errno. */
static int opened_data(struct vfs_handle_struct *handle, struct files_struct *fsp, int fd)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	enum ofs_record_state state;
	struct ofs_record rec;
	struct ofs_file *f;
	struct stat st;
	int ret;

	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	if (!S_ISREG(st.st_mode)) {
		return 0;
	}
	if (st.st_nlink == 0) {
		return -EAGAIN; /* removed between smbd's look and its open: it looks again */
	}
	ret = ofs_record_look(c, fd, &st, &rec, &state);
	if (ret != 0) {
		return ret;
	}
	if (state == OFS_RECORD_QUARANTINED) {
		DBG_ERR("volume %s: %s is marked as a stub but its record belongs to another file "
			"(a copy of a stub?): it is not opened\n",
				c->volume, fsp_str_dbg(fsp));
		return -EIO;
	}
	if ((st.st_mode & OFS_MARKER_MODE) == 0 &&
			(state != OFS_RECORD_VALID || (rec.flags & OFS_REC_STUB) == 0)) {
		ofs_count(c, opens_here, 1);
		if (state == OFS_RECORD_VALID) {
			ofs_room_used(c, &rec, st.st_ino);
		}
		return 0;
	}
	if (st.st_dev != c->file_dev) {
		/* its record is the live file's: the daemon refuses its recall, but a copy of it
		 * would be one of what the live file is by now */
		DBG_ERR("volume %s: %s is not here, and lies on another file system than the mirror (in a "
			"snapshot?): its data can be had through the mirror alone; it is not opened\n",
				c->volume, fsp_str_dbg(fsp));
		return -EIO;
	}
	f = file_make(handle, fsp, fd);
	if (f == NULL) {
		return -errno;
	}
	f->marked = true;
	f->oid = rec.oid;
	ofs_count(c, opens_away, 1);
	return 0;
}

/* O_TRUNC, which is never passed on: the file is emptied under the rules of writing. */
static int opened_truncate(struct vfs_handle_struct *handle, struct files_struct *fsp, int fd)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	struct ofs_file *f = VFS_FETCH_FSP_EXTENSION(handle, fsp);
	struct stat st;
	int ret = 0;

	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	if (!S_ISREG(st.st_mode)) {
		return 0;
	}
	if (f == NULL || f->fd != fd) {
		f = file_make(handle, fsp, fd);
		if (f == NULL) {
			return -errno;
		}
	}
	if (!f->wrote) {
		ret = ofs_first_write(c, f);
	}
	if (ret == -EAGAIN && f->marked) { /* a stub after all */
		ret = ofs_first_write(c, f);
	}
	if (ret == 0) {
		ofs_writes_begin(c, f);
		ret = ftruncate(fd, 0) == 0 ? 0 : -errno;
		ofs_writes_end(c, f);
	}
	return ret;
}

/* A file that was not there before: record and hint. */
static int opened_new(struct vfs_handle_struct *handle, struct files_struct *fsp, int fd,
		const struct ofs_at *at, const struct ofs_oid *dir)
{
	struct ofs_hint hint = {.kind = OFS_HINT_CREATED, .parent = *dir};
	struct ofs_conn *c = ofs_conn_get(handle);
	struct ofs_record rec;
	struct ofs_file *f;
	int ret;

	ret = ofs_record_create(c, fd, true, &rec);
	if (ret != 0) {
		return ret;
	}
	f = file_make(handle, fsp, fd);
	if (f == NULL) {
		return -errno;
	}
	f->fresh = true;
	f->wrote = true; /* even if nothing more comes: an empty file is content too */
	f->oid = rec.oid;
	hint.ino = f->ino;
	hint.oid = rec.oid;
	ofs_hint_name(hint.name, at->name);
	ofs_hint(c, &hint);
	return 0;
}

/* Is this regular file without a record of its own, that is, new to us? */
static bool fd_is_new(struct ofs_conn *c, int fd)
{
	enum ofs_record_state state;
	struct ofs_record rec;
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
			ofs_record_look(c, fd, &st, &rec, &state) == 0 &&
			state == OFS_RECORD_NEW;
}

static int open_create(struct vfs_handle_struct *handle, const struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, struct files_struct *fsp,
		const struct vfs_open_how *how)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	struct ofs_at at;
	struct ofs_oid dir;
	uint32_t stripe;
	struct stat st;
	int fd = -1;
	int ret;

	ret = ofs_at_open(c, dirfsp, smb_fname, &at);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	if (fstatat(at.dirfd, at.name, &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT) {
		ret = ofs_resolve(c, &at);
		if (ret != 0 && ret != -ENOENT) {
			goto out;
		}
	}
	ret = ofs_change_begin(c, at.dirfd, &dir, &stripe);
	if (ret != 0) {
		goto out;
	}
	fd = next_openat(handle, dirfsp, smb_fname, fsp, how);
	ret = fd >= 0 ? 0 : -errno;
	if (ret == 0) {
		ret = fd_is_new(c, fd) ? opened_new(handle, fsp, fd, &at, &dir) : opened_data(handle, fsp, fd);
	}
	if (ret != 0 && fd >= 0 && (how->flags & O_EXCL) != 0) { /* made, and nobody would hear of it */
		uid_t euid = ofs_root_enter();

		(void)unlinkat(at.dirfd, at.name, 0);
		ofs_root_leave(euid);
	}
	ofs_change_end(c, stripe);
out:
	ofs_at_done(&at);
	if (ret != 0) {
		if (fd >= 0) {
			close(fd);
		}
		errno = -ret;
		return -1;
	}
	return fd;
}

static int open_existing(struct vfs_handle_struct *handle, const struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, struct files_struct *fsp,
		const struct vfs_open_how *how, bool data)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	bool by_name = !name_is_proc_fd(smb_fname);
	int fd, ret;

	if (by_name && name_is_child(smb_fname) && strchr(smb_fname->base_name, '/') == NULL) {
		ofs_refresh(c, dirfsp);
	}
	fd = next_openat(handle, dirfsp, smb_fname, fsp, how);
	if (fd >= 0 && by_name) {
		ofs_count(c, names_here, 1);
	}
	if (fd < 0 && errno == ENOENT && by_name) {
		ret = ofs_resolve_name(c, dirfsp, smb_fname);
		if (ret != 0) {
			errno = -ret;
			return -1;
		}
		fd = next_openat(handle, dirfsp, smb_fname, fsp, how);
	}
	if (fd < 0 || !data) {
		return fd;
	}
	ret = opened_data(handle, fsp, fd);
	if (ret != 0) {
		close(fd);
		errno = -ret;
		return -1;
	}
	return fd;
}

/* To delete or to set something smbd opens without writing, and would hear of it when nobody listens any more. */
#define ACCESS_CHANGES                                                                             \
	(SEC_FILE_WRITE_DATA | SEC_FILE_APPEND_DATA | SEC_FILE_WRITE_EA | SEC_FILE_WRITE_ATTRIBUTE | \
			SEC_DIR_DELETE_CHILD | SEC_STD_DELETE | SEC_STD_WRITE_DAC |                \
			SEC_STD_WRITE_OWNER | SEC_GENERIC_WRITE | SEC_GENERIC_ALL)

NTSTATUS ofs_create_file(struct vfs_handle_struct *handle, struct smb_request *req,
		struct files_struct *dirfsp, struct smb_filename *smb_fname, uint32_t access_mask,
		uint32_t share_access, uint32_t create_disposition, uint32_t create_options,
		uint32_t file_attributes, uint32_t oplock_request, const struct smb2_lease *lease,
		uint64_t allocation_size, uint32_t private_flags, struct security_descriptor *sd,
		struct ea_list *ea_list, files_struct **result, int *pinfo,
		const struct smb2_create_blobs *in_context_blobs,
		struct smb2_create_blobs *out_context_blobs)
{
	if (ofs_read_only(ofs_conn_get(handle)) &&
			((access_mask & ACCESS_CHANGES) != 0 ||
					(create_disposition != FILE_OPEN && create_disposition != FILE_OPEN_IF))) {
		return NT_STATUS_MEDIA_WRITE_PROTECTED;
	}
	return SMB_VFS_NEXT_CREATE_FILE(handle, req, dirfsp, smb_fname, access_mask, share_access,
			create_disposition, create_options, file_attributes, oplock_request, lease,
			allocation_size, private_flags, sd, ea_list, result, pinfo, in_context_blobs,
			out_context_blobs);
}

int ofs_openat(struct vfs_handle_struct *handle, const struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, struct files_struct *fsp,
		const struct vfs_open_how *how)
{
	bool data = !fsp->fsp_flags.is_pathref && (how->flags & O_PATH) == 0;
	struct vfs_open_how h = *how;
	int fd, ret;

	if (data && ofs_read_only(ofs_conn_get(handle)) &&
			((how->flags & O_ACCMODE) != O_RDONLY || (how->flags & (O_CREAT | O_TRUNC)) != 0)) {
		errno = EROFS;
		return -1;
	}
	if (data) {
		h.flags &= ~O_TRUNC;
		h.mode &= ~(mode_t)OFS_MARKER_MODE;
	}
	if (data && (h.flags & O_CREAT) != 0 && !name_is_proc_fd(smb_fname)) {
		fd = open_create(handle, dirfsp, smb_fname, fsp, &h);
	} else {
		fd = open_existing(handle, dirfsp, smb_fname, fsp, &h, data);
	}
	if (fd >= 0 && data && (how->flags & O_TRUNC) != 0) {
		ret = opened_truncate(handle, fsp, fd);
		if (ret != 0) {
			close(fd);
			errno = -ret;
			return -1;
		}
	}
	return fd;
}

/* --- close --- */

/* An O_PATH descriptor does not stand in the way of the daemon's lease. */
static int path_fd(int fd)
{
	char proc[32];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return open(proc, O_PATH | O_CLOEXEC);
}

int ofs_close(struct vfs_handle_struct *handle, struct files_struct *fsp)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	struct ofs_file *f = ofs_file_get(handle, fsp);
	struct ofs_place place = {.dirfd = -1};
	struct ofs_file last;
	struct stat st = {.st_size = 0};
	int flush_fd = -1;
	int ret, err, settled;

	if (f == NULL) {
		return SMB_VFS_NEXT_CLOSE(handle, fsp);
	}
	settled = ofs_whole_close(f);
	ofs_recall_release(f);
	last = *f;
	if (f->wrote) {
		ret = ofs_place_of_fd(c, f->fd, &place);
		if (ret != 0) {
			DBG_WARNING("volume %s: where %s is cannot be told: %s\n", c->volume,
					fsp_str_dbg(fsp), strerror(-ret));
		}
		if (c->durable_s3 && place.dirfd >= 0) {
			flush_fd = path_fd(f->fd);
			(void)fstat(f->fd, &st);
		}
	}
	ret = SMB_VFS_NEXT_CLOSE(handle, fsp);
	err = errno;
	VFS_REMOVE_FSP_EXTENSION(handle, fsp);
	if (ret == 0 && settled != 0) {
		ret = -1;
		err = -settled;
	}
	if (last.wrote) {
		ofs_hint_closed(c, &last, &place);
	}
	if (flush_fd >= 0) {
		if (ret == 0) {
			int flushed = ofs_call_flush(c->link, flush_fd, (uint64_t)st.st_size);

			if (flushed != 0) {
				DBG_ERR("volume %s: closed, but not in S3 yet: %s\n", c->volume,
						strerror(-flushed));
				ret = -1;
				err = -flushed;
			}
		}
		close(flush_fd);
	}
	ofs_place_done(&place);
	errno = err;
	return ret;
}
