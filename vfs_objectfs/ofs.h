/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of the module share: the state of one tree connection (struct ofs_conn), of one
 * open file (struct ofs_file), and the calls between them.
 *
 * Errors: functions that stand in the VFS table answer as Samba wants (-1 and errno); all others
 * 0 or -errno. Everything runs in the one thread of the client's smbd.
 */
#ifndef OFS_H
#define OFS_H

#include "ofs_compat.h"
#include "shared/record.h"
#include "shared/ring.h"
#include "shared/shm.h"
#include "shared/wire.h"
#include "ofs_link.h"

/* The stripe locks are held for microseconds; one that is not to be had is a bug or a dead disk. */
#define OFS_LOCK_TIMEOUT_MS 5000
#define OFS_RING_TIMEOUT_MS 5

struct ofs_conn { /* talloc child of the connection; handle->data */
	struct vfs_handle_struct *handle;
	struct ofs_link *link;

	/* smb.conf, constant */
	const char *volume;
	const char *socket;
	bool durable_s3;
	bool offline; /* clients see which files are not here */
	unsigned openat_retry_ms;
	unsigned request_timeout_ms;
	unsigned reconnect_timeout_ms;

	/* from HELLO; replaced by ofs_conn_adopt when the daemon has come back */
	struct ofs_record_io io;
	char *tree;
	size_t tree_len;
	dev_t tree_dev;
	ino_t tree_ino;
	dev_t file_dev; /* of regular files in it: not always the tree's own (overlayfs) */
	uint64_t listing_age_ns;
	uint64_t features; /* the daemon's */
	struct ofs_shm *shm;
	uint64_t daemon_generation; /* of the daemon that answered: shm's, as it was then */
	struct ofs_ring_writer ring;
	int intent_fd;
	int doorbell_fd;
	int trash_fd;

	/* changes under way, mirrored in the ring's head */
	uint32_t change_stripe[2];
	unsigned change_depth[2];

	/* the directory last seen with a good listing */
	dev_t fresh_dev;
	ino_t fresh_ino;
	int64_t fresh_until_ns;
	int64_t refresh_pause_until_ms; /* a listing could not be refreshed: do not ask for a while */
	uint64_t hints_written;
	uint64_t hints_lost;
	uint64_t writing_bytes; /* the ring's; a new ring gets it too */
};

struct ofs_file { /* fsp extension; there only where there is something to remember */
	struct ofs_conn *conn;
	int fd;       /* the descriptor it speaks of: smbd closes the old one after a reopen */
	bool marked;  /* not all data is here; cleared for good once the file is plain */
	bool fresh;   /* created by this open: S3 never saw it, dirty from the start */
	bool wrote;   /* the file is marked dirty for this handle */
	unsigned writing; /* writes under way */
	/* ofs_whole.c */
	bool copying;   /* its source is being copied to its key in S3 */
	bool no_whole;  /* that was refused */
	struct ofs_whole *whole; /* a stub of its source's copy, and the client has not asked for all */
	ino_t ino;
	uint32_t stripe;
	struct ofs_oid oid;

	/* attached to the daemon's recall while open_id != 0 and generation is the link's */
	uint64_t open_id;
	uint64_t generation;
	uint64_t size;
	unsigned extent_shift;
	const uint8_t *map;
	size_t map_len;
	struct ofs_recall_wait *waits; /* asynchronous requests that wait for its bytes */
};

/* What was done, for the daemon's counters (OFS_USE_TABLE). */
#define ofs_count(c, name, n) ofs_ring_count(&(c)->ring, name, n)

/* --- vfs_objectfs.c --- */
struct ofs_conn *ofs_conn_get(const struct vfs_handle_struct *handle);
/*
 * Take over what a HELLO reply brought; the descriptors are owned from here on, on failure too.
 * 0; -EBADMSG: not what was agreed; other -errno.
 */
int ofs_conn_adopt(struct ofs_conn *c, const struct ofs_hello_rep *rep, int fds[5]);

/* --- ofs_account.c --- */
/* Tell the daemon whose client this is. 0; -EACCES: it must not come in; other -errno: it was not told. */
int ofs_account_tell(struct ofs_conn *c);

/* --- ofs_root.c --- */
/* Until ofs_root_leave, file system rights are root's. Nothing of Samba may be called in between. */
uid_t ofs_root_enter(void);
void ofs_root_leave(uid_t euid);

/* --- ofs_mark.c: records, dirty-directory marks, hints --- */
struct ofs_place { /* where an inode lives: an O_PATH descriptor of its directory, and its name */
	int dirfd;     /* -1: nowhere (deleted, outside the tree) */
	bool is_root;  /* the tree's root itself: dirfd is the root, name is empty */
	char name[OFS_NAME_MAX_BYTES + 1];
};
int64_t ofs_wall_ns(void);
int64_t ofs_boot_ns(void); /* never set, and one for all processes of the machine */
/* A descriptor that setters of records and lookups of places may use, O_PATH included. */
int ofs_fsp_fd(const struct files_struct *fsp);
/* The kernel's own path of a descriptor, NUL-terminated; its length or -errno. */
ssize_t ofs_fd_path(int fd, char *buf, size_t cap);
bool ofs_fd_in_tree(const struct ofs_conn *c, int fd);
bool ofs_fd_is_tree(const struct ofs_conn *c, int fd);
/* Fills *place; 0 also when the answer is "nowhere"; -EIO: an inode of the mirror that cannot be reached
 * through the tree. Close with ofs_place_done. */
int ofs_place_of_fd(struct ofs_conn *c, int fd, struct ofs_place *place);
void ofs_place_done(struct ofs_place *place);

/* A valid record of an open inode, made up for one that has none (not yet stored). */
enum ofs_record_state {
	OFS_RECORD_VALID,
	OFS_RECORD_NEW,         /* none, or a copy's: the inode is new and dirty */
	OFS_RECORD_QUARANTINED, /* marked as stub, but the record is not its own */
};
/* st: stat of fd as the kernel gives it. 0 or -errno (then *state is not set). */
int ofs_record_look(struct ofs_conn *c, int fd, const struct stat *st, struct ofs_record *rec,
		enum ofs_record_state *state);
/* Store as root. */
int ofs_record_put(struct ofs_conn *c, int fd, struct ofs_record *rec);

/* May nothing be changed in this volume? */
static inline bool ofs_read_only(const struct ofs_conn *c)
{
	return c != NULL && atomic_load_explicit(&c->shm->read_only, memory_order_relaxed) != 0;
}
/*
 * Around every change of directory dirfd: marks it and its ancestors as perhaps different from S3,
 * durably, and tells the daemon that a change is under way. dir: the directory's id.
 */
int ofs_change_begin(struct ofs_conn *c, int dirfd, struct ofs_oid *dir, uint32_t *stripe);
void ofs_change_end(struct ofs_conn *c, uint32_t stripe);
void ofs_hint(struct ofs_conn *c, const struct ofs_hint *hint);
void ofs_hint_name(char dst[OFS_NAME_MAX_BYTES + 1], const char *name);

/* Its record, made and stored if it has none. made_now: by SMB, just now: a directory is listed. */
int ofs_record_create(struct ofs_conn *c, int fd, bool made_now, struct ofs_record *rec);

/* Around a change of an inode's metadata. */
struct ofs_meta {
	int fd;
	struct ofs_place place;
	struct ofs_oid dir;
	uint32_t stripe;
	bool begun;
};
/* fd: O_PATH will do; -1 is let through. */
int ofs_meta_begin(struct ofs_conn *c, int fd, struct ofs_meta *m);
/* changed: NEXT succeeded. times: of a marked file, to be kept in its record; NULL: not touched. */
void ofs_meta_end(struct ofs_conn *c, struct ofs_meta *m, bool changed,
		const struct smb_file_time *times);

/* --- ofs_dirty.c --- */
/* Before the first write of a handle: rule 4. Sets f->wrote. A file that is still marked is about
 * to be emptied: it becomes plain, and empty. -EAGAIN with f->marked: it has become a stub, see there. */
int ofs_first_write(struct ofs_conn *c, struct ofs_file *f);
/* Around each write, so that the daemon can take a copy of one moment. */
void ofs_writes_begin(struct ofs_conn *c, const struct ofs_file *f);
void ofs_writes_end(struct ofs_conn *c, const struct ofs_file *f);
/* After the last use of a handle that wrote. place: looked up before the close. */
void ofs_hint_closed(struct ofs_conn *c, const struct ofs_file *f, const struct ofs_place *place);

/* --- ofs_open.c --- */
struct ofs_file *ofs_file_get(struct vfs_handle_struct *handle, const struct files_struct *fsp);
/* The same, made if absent. NULL and errno. */
struct ofs_file *ofs_file_need(struct vfs_handle_struct *handle, struct files_struct *fsp);
int ofs_openat(struct vfs_handle_struct *handle, const struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, struct files_struct *fsp,
		const struct vfs_open_how *how);
int ofs_close(struct vfs_handle_struct *handle, struct files_struct *fsp);

/* --- ofs_asked.c --- */
NTSTATUS ofs_durable_disconnect(struct vfs_handle_struct *handle, struct files_struct *fsp,
		const DATA_BLOB old_cookie, TALLOC_CTX *mem_ctx, DATA_BLOB *new_cookie);

/* --- ofs_recall.c: a marked file's way to its bytes --- */
void ofs_recall_release(struct ofs_file *f);
/* Wait until [offset, offset + length) is here; nothing to do for a plain file. 0 or -errno. */
int ofs_recall_range(struct ofs_conn *c, struct ofs_file *f, uint64_t offset, uint64_t length);
/* Wait until the file is plain. */
int ofs_recall_whole(struct ofs_conn *c, struct ofs_file *f);
/* Make it plain and empty without a recall. */
int ofs_recall_discard(struct ofs_conn *c, struct ofs_file *f);
/* Asynchronous; whole: until plain. ev must be the connection's own loop. */
struct tevent_req *ofs_recall_send(TALLOC_CTX *ctx, struct tevent_context *ev, struct ofs_conn *c,
		struct ofs_file *f, uint64_t offset, uint64_t length, bool whole);
/* 0 or -errno; -EBADF: the file was closed meanwhile, and f is no more. */
int ofs_recall_recv(struct tevent_req *req);
/* The file goes: end what waits for its bytes. */
void ofs_recall_abandon(struct ofs_file *f);
/* True if every byte of the range is in the local file. */
bool ofs_recall_here(const struct ofs_file *f, uint64_t generation, uint64_t offset,
		uint64_t length);

/* --- ofs_lookup.c --- */
struct ofs_at { /* dirfsp + name cut into an open directory and one component */
	int dirfd;
	bool own;
	const char *name; /* into the smb_filename */
};
/* Parents missing in unlisted directories are brought in. 0 or -errno. */
int ofs_at_open(struct ofs_conn *c, const struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, struct ofs_at *at);
void ofs_at_done(struct ofs_at *at);
/*
 * Bring in, one after the other, the directories of a path that unlisted ones may hide. 0; -ENOENT:
 * one is absent, certain; other -errno.
 */
int ofs_materialize(struct ofs_conn *c, int dirfd, const char *path);
/*
 * The name is not in the mirror: is it in S3? 0: in the mirror by now, try again; -ENOENT: absent,
 * certain; other -errno: unknown.
 */
int ofs_resolve(struct ofs_conn *c, const struct ofs_at *at);
/* The same from a VFS call that failed with ENOENT; *at is not needed. */
int ofs_resolve_name(struct ofs_conn *c, const struct files_struct *dirfsp,
		const struct smb_filename *smb_fname);
/* An expired listing is refreshed if that can be had; never an error. */
void ofs_refresh(struct ofs_conn *c, const struct files_struct *dirfsp);
/* Of ours, and not, or no longer, listed: the mirror alone cannot tell what is in it. */
bool ofs_dir_unlisted(const struct ofs_conn *c, int dirfd);
DIR *ofs_fdopendir(struct vfs_handle_struct *handle, struct files_struct *fsp, const char *mask,
		uint32_t attributes);
int ofs_chdir(struct vfs_handle_struct *handle, const struct smb_filename *smb_fname);

/* --- ofs_victim.c --- */
struct ofs_victim { /* what a name stands for that is about to go */
	int fd; /* O_PATH; -1: nothing there */
	bool is_dir;
	bool regular;
	ino_t ino;
	struct ofs_oid oid; /* none: S3 cannot know it */
	bool known;
	char trash[64]; /* made by us; empty: nothing to take back */
};
/* 0 (also when it is not there), or -errno. End with ofs_victim_done. */
int ofs_victim_look(struct ofs_conn *c, const struct ofs_at *at, struct ofs_victim *v);
/* The same of a name that ought to be there: -ENOENT if it is not. */
int ofs_victim_find(struct ofs_conn *c, const struct ofs_at *at, struct ofs_victim *v);
/* May it be removed, as far as S3 knows? 0, also for what is no directory; -errno. */
int ofs_victim_empty(struct ofs_conn *c, const struct ofs_at *at, const struct ofs_victim *v);
/* Before the name goes: into the trash. 0 or -errno. */
int ofs_victim_keep(struct ofs_conn *c, struct ofs_victim *v);
/* Then: the name has gone, or it has not. */
void ofs_victim_gone(struct ofs_conn *c, struct ofs_victim *v);
void ofs_victim_give_back(struct ofs_conn *c, struct ofs_victim *v);
void ofs_victim_done(struct ofs_victim *v);

/* --- ofs_names.c --- */
int ofs_mkdirat(struct vfs_handle_struct *handle, struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, mode_t mode);
int ofs_unlinkat(struct vfs_handle_struct *handle, struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, int flags);
int ofs_renameat(struct vfs_handle_struct *handle, struct files_struct *srcdir_fsp,
		const struct smb_filename *smb_fname_src, struct files_struct *dstdir_fsp,
		const struct smb_filename *smb_fname_dst OFS_RENAME_HOW_ARG);
int ofs_symlinkat(struct vfs_handle_struct *handle, const struct smb_filename *link_contents,
		struct files_struct *dirfsp, const struct smb_filename *new_smb_fname);
int ofs_linkat(struct vfs_handle_struct *handle, struct files_struct *srcfsp,
		const struct smb_filename *old_smb_fname, struct files_struct *dstfsp,
		const struct smb_filename *new_smb_fname, int flags);
int ofs_mknodat(struct vfs_handle_struct *handle, struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, mode_t mode, SMB_DEV_T dev);

/* --- ofs_io.c --- */
/* The file if not all its data is here, else NULL. */
struct ofs_file *ofs_file_marked(struct vfs_handle_struct *handle, const struct files_struct *fsp);
/* All that must be true before a byte changes; empties: the file will have length 0. 0 or -errno;
 * *file is for ofs_write_end, after the write. */
int ofs_write_begin(struct vfs_handle_struct *handle, struct files_struct *fsp, bool empties,
		struct ofs_file **file);
void ofs_write_end(struct ofs_file *f);
/* Before ofs_write_begin of an asynchronous write: the file if it is to be recalled whole first and
 * `ev` can wait for it. NULL: nothing to wait for, or ofs_write_begin waits itself. */
struct ofs_file *ofs_write_awaits(struct vfs_handle_struct *handle, struct tevent_context *ev,
		const struct files_struct *fsp);
ssize_t ofs_pread(struct vfs_handle_struct *handle, struct files_struct *fsp, void *data, size_t n,
		off_t offset);
struct tevent_req *ofs_pread_send(struct vfs_handle_struct *handle, TALLOC_CTX *ctx,
		struct tevent_context *ev, struct files_struct *fsp, void *data, size_t n,
		off_t offset);
ssize_t ofs_pread_recv(struct tevent_req *req, struct vfs_aio_state *state);
ssize_t ofs_pwrite(struct vfs_handle_struct *handle, struct files_struct *fsp, const void *data,
		size_t n, off_t offset);
struct tevent_req *ofs_pwrite_send(struct vfs_handle_struct *handle, TALLOC_CTX *ctx,
		struct tevent_context *ev, struct files_struct *fsp, const void *data, size_t n,
		off_t offset);
ssize_t ofs_pwrite_recv(struct tevent_req *req, struct vfs_aio_state *state);
off_t ofs_lseek(struct vfs_handle_struct *handle, struct files_struct *fsp, off_t offset,
		int whence);
ssize_t ofs_sendfile(struct vfs_handle_struct *handle, int tofd, struct files_struct *fromfsp,
		const DATA_BLOB *header, off_t offset, size_t count);
ssize_t ofs_recvfile(struct vfs_handle_struct *handle, int fromfd, struct files_struct *tofsp,
		off_t offset, size_t count);
struct tevent_req *ofs_fsync_send(struct vfs_handle_struct *handle, TALLOC_CTX *ctx,
		struct tevent_context *ev, struct files_struct *fsp);
int ofs_fsync_recv(struct tevent_req *req, struct vfs_aio_state *state);
int ofs_ftruncate(struct vfs_handle_struct *handle, struct files_struct *fsp, off_t length);
int ofs_fallocate(struct vfs_handle_struct *handle, struct files_struct *fsp, uint32_t mode,
		off_t offset, off_t len);

/* --- ofs_room.c: the cache's size --- */
/* Room for n bytes more, taken: 0, and ofs_room_landed is due; -EAGAIN: not now; -ENOSPC: the cache
 * is full of what S3 does not have. */
int ofs_room_take(struct ofs_conn *c, uint64_t n);
/* The same where nobody can wait asynchronously: blocks for a second at most, then -ENOSPC. */
int ofs_room_take_now(struct ofs_conn *c, uint64_t n);
/* The write of n bytes has ended, with or without them. Keeps errno. */
void ofs_room_landed(struct ofs_conn *c, uint64_t n);
/* How long a write of n bytes should wait first, for uploads to keep pace; 0: not at all. */
unsigned ofs_room_wait_us(const struct ofs_conn *c, size_t n);
/* A resident file was opened. */
void ofs_room_used(struct ofs_conn *c, const struct ofs_record *rec, ino_t ino);

/* --- ofs_copy.c --- */
struct tevent_req *ofs_offload_read_send(TALLOC_CTX *ctx, struct tevent_context *ev,
		struct vfs_handle_struct *handle, struct files_struct *fsp, uint32_t fsctl,
		uint32_t ttl, off_t offset, size_t to_copy);
NTSTATUS ofs_offload_read_recv(struct tevent_req *req, struct vfs_handle_struct *handle,
		TALLOC_CTX *ctx, uint32_t *flags, uint64_t *xferlen, DATA_BLOB *token_blob);
struct tevent_req *ofs_offload_write_send(struct vfs_handle_struct *handle, TALLOC_CTX *ctx,
		struct tevent_context *ev, uint32_t fsctl, DATA_BLOB *token, off_t transfer_offset,
		struct files_struct *dest_fsp, off_t dest_off, off_t to_copy);
NTSTATUS ofs_offload_write_recv(struct vfs_handle_struct *handle, struct tevent_req *req,
		off_t *copied);

/* --- ofs_whole.c: a stub that is copied whole is copied in S3 --- */
struct ofs_chunk { /* one part of a client's copy; fsps are no streams */
	struct vfs_handle_struct *src_handle, *handle;
	struct files_struct *src_fsp, *fsp;
	off_t src_off, off, length;
};
enum ofs_whole_verdict {
	OFS_WHOLE_NO,    /* copy the bytes */
	OFS_WHOLE_DONE,  /* they are there already */
	OFS_WHOLE_ASK,   /* ofs_whole_send, then look again */
	OFS_WHOLE_LATER, /* another chunk has asked: look again in a moment */
};
enum ofs_whole_verdict ofs_whole_look(const struct ofs_chunk *chunk);
struct tevent_req *ofs_whole_send(TALLOC_CTX *ctx, const struct ofs_chunk *chunk);
void ofs_whole_recv(struct tevent_req *req, const struct ofs_chunk *chunk);
/* Something else than the rest of the copy happens to the file: it gets the size and the bytes that
 * were asked for, and no more. 0 or -errno. */
int ofs_whole_settle(struct ofs_file *f);
/* The same at the close, unless the file is deleted. */
int ofs_whole_close(struct ofs_file *f);

/* --- ofs_attrs.c --- */
int ofs_stat(struct vfs_handle_struct *handle, struct smb_filename *smb_fname);
int ofs_lstat(struct vfs_handle_struct *handle, struct smb_filename *smb_fname);
int ofs_fstat(struct vfs_handle_struct *handle, struct files_struct *fsp, SMB_STRUCT_STAT *sbuf);
int ofs_fstatat(struct vfs_handle_struct *handle, const struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, SMB_STRUCT_STAT *sbuf, int flags);
struct dirent *ofs_readdir(struct vfs_handle_struct *handle, struct files_struct *dirfsp,
		DIR *dirp OFS_READDIR_STAT_ARG);
uint64_t ofs_disk_free(struct vfs_handle_struct *handle, const struct smb_filename *smb_fname,
		uint64_t *bsize, uint64_t *dfree, uint64_t *dsize);
int ofs_statvfs(struct vfs_handle_struct *handle, const struct smb_filename *smb_fname,
		struct vfs_statvfs_struct *statbuf);
int ofs_fchmod(struct vfs_handle_struct *handle, struct files_struct *fsp, mode_t mode);
int ofs_fchown(struct vfs_handle_struct *handle, struct files_struct *fsp, uid_t uid, gid_t gid);
int ofs_lchown(struct vfs_handle_struct *handle, const struct smb_filename *smb_fname, uid_t uid,
		gid_t gid);
int ofs_fntimes(struct vfs_handle_struct *handle, struct files_struct *fsp,
		struct smb_file_time *ft);
int ofs_sys_acl_set_fd(struct vfs_handle_struct *handle, struct files_struct *fsp,
		SMB_ACL_TYPE_T type, SMB_ACL_T theacl);
int ofs_sys_acl_delete_def_fd(struct vfs_handle_struct *handle, struct files_struct *fsp);
NTSTATUS ofs_fget_dos_attributes(struct vfs_handle_struct *handle, struct files_struct *fsp,
		uint32_t *dosmode);
NTSTATUS ofs_fset_dos_attributes(struct vfs_handle_struct *handle, struct files_struct *fsp,
		uint32_t dosmode);
uint32_t ofs_fs_capabilities(struct vfs_handle_struct *handle, enum timestamp_set_resolution *resolution);
NTSTATUS ofs_create_file(struct vfs_handle_struct *handle, struct smb_request *req,
		struct files_struct *dirfsp, struct smb_filename *smb_fname, uint32_t access_mask,
		uint32_t share_access, uint32_t create_disposition, uint32_t create_options,
		uint32_t file_attributes, uint32_t oplock_request, const struct smb2_lease *lease,
		uint64_t allocation_size, uint32_t private_flags, struct security_descriptor *sd,
		struct ea_list *ea_list, files_struct **result, int *pinfo,
		const struct smb2_create_blobs *in_context_blobs,
		struct smb2_create_blobs *out_context_blobs);
ssize_t ofs_fgetxattr(struct vfs_handle_struct *handle, struct files_struct *fsp, const char *name,
		void *value, size_t size);
ssize_t ofs_flistxattr(struct vfs_handle_struct *handle, struct files_struct *fsp, char *list,
		size_t size);
int ofs_fremovexattr(struct vfs_handle_struct *handle, struct files_struct *fsp, const char *name);
int ofs_fsetxattr(struct vfs_handle_struct *handle, struct files_struct *fsp, const char *name,
		const void *value, size_t size, int flags);
struct tevent_req *ofs_getxattrat_send(TALLOC_CTX *ctx, struct tevent_context *ev,
		struct vfs_handle_struct *handle, struct files_struct *dir_fsp,
		const struct smb_filename *smb_fname, const char *xattr_name, size_t alloc_hint);
ssize_t ofs_getxattrat_recv(struct tevent_req *req, struct vfs_aio_state *aio_state,
		TALLOC_CTX *ctx, uint8_t **xattr_value);

#endif
