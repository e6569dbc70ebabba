/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Names: looked up, listed, made, removed, renamed.
 * Way: from smbd's filename.c, dir.c, close.c, reply code; to the mirror, and to the daemon's
 *      mirror room for names in directories that are not listed.
 * Thread: the client's smbd; waits for the daemon only in directories not listed, or whose listing
 *         is older than the volume's listing age.
 * Owns: nothing.
 * Holds: 1. Three answers: present, absent, unknown. Absence is told only of a listed directory or
 *           by the daemon; anything else that goes wrong is an error (DESIGN rule 6).
 *        2. What S3 may hold stays reachable when its name goes: a link in the trash first, the
 *           name second, the hint third; the link is taken back if the name stays.
 *        3. Trash is handled as root, the mirror as the user.
 */
#include "ofs.h"

#define TRASH_NAMES_MAX 100
#define REFRESH_PAUSE_MS 30000

/* --- places --- */

static int open_path_dir(int dirfd, const char *path)
{
	int fd = openat(dirfd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 ? fd : -errno;
}

int ofs_materialize(struct ofs_conn *c, int dirfd, const char *path)
{
	char buf[PATH_MAX];
	char *save = NULL;
	int fd, ret;

	if (strlen(path) >= sizeof(buf)) {
		return -ENAMETOOLONG;
	}
	memcpy(buf, path, strlen(path) + 1);
	fd = open_path_dir(dirfd, path[0] == '/' ? "/" : ".");
	if (fd < 0) {
		return fd;
	}
	for (char *name = strtok_r(buf, "/", &save); name != NULL;
			name = strtok_r(NULL, "/", &save)) {
		struct ofs_at at = {.dirfd = fd, .name = name};
		int next = open_path_dir(fd, name);

		if (next == -ENOENT) {
			ret = ofs_resolve(c, &at);
			next = ret == 0 ? open_path_dir(fd, name) : ret;
		}
		close(fd);
		if (next < 0) {
			return next;
		}
		fd = next;
	}
	close(fd);
	return 0;
}

/* The volume keeps one name at its root for itself; nobody else makes or touches it. */
static int at_allowed(struct ofs_conn *c, struct ofs_at *at)
{
	if (strcmp(at->name, OFS_RESERVED_NAME) == 0 && ofs_fd_is_tree(c, at->dirfd)) {
		ofs_at_done(at);
		return -EACCES;
	}
	return 0;
}

int ofs_at_open(struct ofs_conn *c, const struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, struct ofs_at *at)
{
	int dirfd = dirfsp != NULL ? fsp_get_pathref_fd(dirfsp) : AT_FDCWD;
	const char *base = smb_fname->base_name;
	const char *slash = strrchr(base, '/');
	char parent[PATH_MAX];
	size_t len;
	int ret;

	at->dirfd = -1;
	at->own = false;
	at->name = slash != NULL ? slash + 1 : base;
	if (at->name[0] == '\0' || ISDOT(at->name) || ISDOTDOT(at->name)) {
		return -EINVAL;
	}
	if (slash == NULL && dirfd != AT_FDCWD) {
		at->dirfd = dirfd;
		return at_allowed(c, at);
	}
	len = slash == NULL ? 0 : (size_t)(slash - base);
	if (len >= sizeof(parent)) {
		return -ENAMETOOLONG;
	}
	if (len == 0) {
		snprintf(parent, sizeof(parent), "%s", slash == NULL ? "." : "/");
	} else {
		memcpy(parent, base, len);
		parent[len] = '\0';
	}
	ret = open_path_dir(dirfd, parent);
	if (ret == -ENOENT) {
		ret = ofs_materialize(c, dirfd, parent);
		if (ret == 0) {
			ret = open_path_dir(dirfd, parent);
		}
	}
	if (ret < 0) {
		return ret;
	}
	at->dirfd = ret;
	at->own = true;
	return at_allowed(c, at);
}

void ofs_at_done(struct ofs_at *at)
{
	if (at->own && at->dirfd >= 0) {
		close(at->dirfd);
	}
	at->dirfd = -1;
}

/* --- listed or not --- */

enum listing { LISTING_NONE, LISTING_OLD, LISTING_GOOD };

/* until_ns: wall clock time of the end of a good listing. */
static enum listing listing_until(const struct ofs_conn *c, int dirfd, int64_t *until_ns)
{
	struct ofs_record rec;
	int64_t age_ns;

	*until_ns = INT64_MAX;
	if (ofs_record_get(&c->io, dirfd, &rec) != 0 || (rec.flags & OFS_REC_LISTED) == 0) {
		return LISTING_NONE;
	}
	if (c->listing_age_ns == 0) {
		return LISTING_GOOD;
	}
	age_ns = ofs_wall_ns() - rec.listed_ns;
	*until_ns = rec.listed_ns + (int64_t)MIN(c->listing_age_ns, (uint64_t)INT64_MAX / 4);
	return age_ns >= 0 && (uint64_t)age_ns < c->listing_age_ns ? LISTING_GOOD : LISTING_OLD;
}

static enum listing listing_of(const struct ofs_conn *c, int dirfd)
{
	int64_t until_ns;

	return listing_until(c, dirfd, &until_ns);
}

/* Listing a large directory takes the daemon longer than a plain request. */
static int call_list(struct ofs_conn *c, int dirfd)
{
	return ofs_call_list(c->link, dirfd, 0, (int)MIN(c->request_timeout_ms * 4, INT32_MAX));
}

static bool dir_is_ours(const struct ofs_conn *c, int dirfd)
{
	struct stat st;

	return fstat(dirfd, &st) == 0 && S_ISDIR(st.st_mode) && st.st_nlink > 0 &&
			ofs_fd_in_tree(c, dirfd);
}

int ofs_resolve(struct ofs_conn *c, const struct ofs_at *at)
{
	enum listing listing = listing_of(c, at->dirfd);
	struct stat st;
	int ret;

	if (listing == LISTING_GOOD || !dir_is_ours(c, at->dirfd)) {
		return -ENOENT;
	}
	if (strlen(at->name) > OFS_NAME_MAX_BYTES) {
		return -ENAMETOOLONG;
	}
	if (listing == LISTING_NONE) {
		return ofs_call_lookup(c->link, at->dirfd, at->name);
	}
	ret = call_list(c, at->dirfd);
	if (ret != 0) {
		return ret == -ENOENT ? -EIO : ret; /* it is the listing that failed */
	}
	return fstatat(at->dirfd, at->name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : -errno;
}

int ofs_resolve_name(struct ofs_conn *c, const struct files_struct *dirfsp,
		const struct smb_filename *smb_fname)
{
	struct ofs_at at;
	int ret;

	ret = ofs_at_open(c, dirfsp, smb_fname, &at);
	if (ret != 0) {
		return ret == -EINVAL ? -ENOENT : ret;
	}
	ret = ofs_resolve(c, &at);
	ofs_at_done(&at);
	return ret;
}

/* Every open by name comes here, and mostly in the same directory as the one before. */
static bool refresh_is_recent(const struct ofs_conn *c, const SMB_STRUCT_STAT *st)
{
	return VALID_STAT(*st) && st->st_ex_ino == c->fresh_ino && st->st_ex_dev == c->fresh_dev &&
			ofs_wall_ns() < c->fresh_until_ns;
}

static void refresh_fd(struct ofs_conn *c, int fd, const SMB_STRUCT_STAT *st)
{
	enum listing listing;
	int64_t until_ns;

	listing = listing_until(c, fd, &until_ns);
	if (listing == LISTING_GOOD && st != NULL && VALID_STAT(*st)) {
		c->fresh_dev = st->st_ex_dev;
		c->fresh_ino = st->st_ex_ino;
		c->fresh_until_ns = until_ns;
	}
	if (listing != LISTING_OLD || ofs_link_now_ms() < c->refresh_pause_until_ms ||
			!ofs_link_up(c->link) || !dir_is_ours(c, fd)) {
		return;
	}
	if (call_list(c, fd) != 0) {
		c->refresh_pause_until_ms = ofs_link_now_ms() + REFRESH_PAUSE_MS;
	}
}

void ofs_refresh(struct ofs_conn *c, const struct files_struct *dirfsp)
{
	int fd = fsp_get_pathref_fd(dirfsp);
	int own;

	if (c->listing_age_ns == 0) {
		return;
	}
	if (fd != AT_FDCWD) {
		if (fd >= 0 && !refresh_is_recent(c, &dirfsp->fsp_name->st)) {
			refresh_fd(c, fd, &dirfsp->fsp_name->st);
		}
		return;
	}
	own = open_path_dir(AT_FDCWD, "."); /* what stat it has may be another directory's */
	if (own >= 0) {
		refresh_fd(c, own, NULL);
		close(own);
	}
}

DIR *ofs_fdopendir(struct vfs_handle_struct *handle, struct files_struct *fsp, const char *mask,
		uint32_t attributes)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	int fd = fsp_get_pathref_fd(fsp);

	if (listing_of(c, fd) != LISTING_GOOD && dir_is_ours(c, fd)) {
		int ret = call_list(c, fd);

		if (ret != 0) {
			DBG_WARNING("volume %s: directory %s cannot be listed: %s\n", c->volume,
					fsp_str_dbg(fsp), strerror(-ret));
			errno = ret == -ENOENT ? EIO : -ret;
			return NULL;
		}
	}
	return SMB_VFS_NEXT_FDOPENDIR(handle, fsp, mask, attributes);
}

int ofs_chdir(struct vfs_handle_struct *handle, const struct smb_filename *smb_fname)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	int ret = SMB_VFS_NEXT_CHDIR(handle, smb_fname);

	if (ret == -1 && errno == ENOENT) {
		ret = ofs_materialize(c, AT_FDCWD, smb_fname->base_name);
		if (ret != 0) {
			errno = -ret;
			return -1;
		}
		ret = SMB_VFS_NEXT_CHDIR(handle, smb_fname);
	}
	return ret;
}

/* --- what is about to go --- */

struct victim {
	int fd; /* O_PATH; -1: nothing there */
	bool is_dir;
	bool regular;
	ino_t ino;
	struct ofs_oid oid; /* none: S3 cannot know it */
	bool known;
	char trash[64]; /* made by us; empty: nothing to take back */
};

static void victim_done(struct victim *v)
{
	if (v->fd >= 0) {
		close(v->fd);
		v->fd = -1;
	}
}

/* Look at a name. 0 (also when it is not there), or -errno. */
static int victim_look(struct ofs_conn *c, const struct ofs_at *at, struct victim *v)
{
	enum ofs_record_state state;
	struct ofs_record rec;
	struct stat st;
	int ret;

	*v = (struct victim){.fd = -1};
	v->fd = openat(at->dirfd, at->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (v->fd < 0) {
		return errno == ENOENT ? 0 : -errno;
	}
	if (fstat(v->fd, &st) != 0) {
		ret = -errno;
		victim_done(v);
		return ret;
	}
	v->ino = st.st_ino;
	v->is_dir = S_ISDIR(st.st_mode);
	v->regular = S_ISREG(st.st_mode);
	if (!v->is_dir && !v->regular) {
		return 0;
	}
	ret = ofs_record_look(c, v->fd, &st, &rec, &state);
	if (ret != 0) {
		victim_done(v);
		return ret;
	}
	if (state == OFS_RECORD_VALID) {
		v->oid = rec.oid;
		v->known = (rec.flags & OFS_REC_KNOWN) != 0;
	}
	return 0;
}

/* 1: linked; 0: there already, or nothing to keep; -errno. As root. */
static int trash_link(struct ofs_conn *c, struct victim *v)
{
	char hex[OFS_OID_HEX_BYTES];
	char proc[32];
	struct stat st;

	ofs_oid_hex(&v->oid, hex);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", v->fd);
	for (int i = 0; i < TRASH_NAMES_MAX; i++) {
		if (i == 0) {
			snprintf(v->trash, sizeof(v->trash), "f.%s", hex);
		} else {
			snprintf(v->trash, sizeof(v->trash), "f.%s.%d", hex, i);
		}
		if (linkat(AT_FDCWD, proc, c->trash_fd, v->trash, AT_SYMLINK_FOLLOW) == 0) {
			return 1;
		}
		if (errno == ENOENT) {
			return 0; /* the name went while we looked */
		}
		if (errno != EEXIST) {
			return -errno;
		}
		if (fstatat(c->trash_fd, v->trash, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
				st.st_ino == v->ino) {
			return 0;
		}
	}
	return -EEXIST;
}

static int trash_dir(struct ofs_conn *c, struct victim *v)
{
	char hex[OFS_OID_HEX_BYTES];
	int fd;

	ofs_oid_hex(&v->oid, hex);
	snprintf(v->trash, sizeof(v->trash), "d.%s", hex);
	fd = openat(c->trash_fd, v->trash, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW,
			0600);
	if (fd < 0) {
		return errno == EEXIST ? 0 : -errno;
	}
	close(fd);
	return 1;
}

/* Before the name goes. */
static int victim_keep(struct ofs_conn *c, struct victim *v)
{
	uid_t euid;
	int ret;

	if (v->fd < 0 || !v->known) {
		return 0;
	}
	euid = ofs_root_enter();
	ret = v->is_dir ? trash_dir(c, v) : trash_link(c, v);
	ofs_root_leave(euid);
	if (ret != 1) {
		v->trash[0] = '\0';
	}
	if (ret < 0) {
		DBG_ERR("volume %s: a removal cannot be put into the trash: %s\n", c->volume,
				strerror(-ret));
		return ret;
	}
	return 0;
}

/* The name has not gone. A link that is the last one is not ours to take back: somebody else has
 * unlinked the name and counts on it. */
static void victim_give_back(struct ofs_conn *c, struct victim *v)
{
	struct stat st;

	if (v->trash[0] != '\0') {
		uid_t euid = ofs_root_enter();

		if (v->is_dir || (fstat(v->fd, &st) == 0 && st.st_nlink > 1)) {
			(void)unlinkat(c->trash_fd, v->trash, 0);
		}
		ofs_root_leave(euid);
		v->trash[0] = '\0';
	}
}

/* The name has gone. Its first upload may have begun after we looked: then S3 must be told. */
static void victim_gone(struct ofs_conn *c, struct victim *v)
{
	char name[2 + OFS_OID_HEX_BYTES] = "f.";
	struct ofs_record rec;
	uint32_t stripe;
	bool known;
	uid_t euid;
	int fd;

	if (v->fd < 0 || !v->regular || v->known || ofs_oid_is_none(&v->oid)) {
		return;
	}
	stripe = ofs_shm_stripe_of(v->ino);
	if (ofs_shm_lock(c->shm, stripe, OFS_LOCK_TIMEOUT_MS) != 0) {
		return;
	}
	known = ofs_record_get(&c->io, v->fd, &rec) == 0 && (rec.flags & OFS_REC_KNOWN) != 0;
	ofs_shm_unlock(c->shm, stripe);
	if (!known) {
		return; /* whoever sets KNOWN from now on sees that no name is left */
	}
	ofs_oid_hex(&v->oid, name + 2);
	euid = ofs_root_enter();
	fd = openat(c->trash_fd, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
	ofs_root_leave(euid);
	if (fd >= 0) {
		close(fd);
	}
}

/* May a directory that is not, or no longer, listed be removed? */
static int victim_empty(struct ofs_conn *c, const struct ofs_at *at, const struct victim *v)
{
	if (v->fd < 0 || !v->is_dir || listing_of(c, v->fd) == LISTING_GOOD ||
			!dir_is_ours(c, v->fd)) {
		return 0;
	}
	return ofs_call_rmdir(c->link, at->dirfd, at->name);
}

/* Look at a name that ought to be there. */
static int victim_find(struct ofs_conn *c, const struct ofs_at *at, struct victim *v)
{
	int ret = victim_look(c, at, v);

	if (ret == 0 && v->fd < 0) {
		ret = ofs_resolve(c, at);
		if (ret == 0) {
			ret = victim_look(c, at, v);
		}
	}
	if (ret == 0 && v->fd < 0) {
		ret = -ENOENT;
	}
	return ret;
}

/* --- unlink, rmdir --- */

static int unlink_at(struct vfs_handle_struct *handle, struct files_struct *dirfsp,
		const struct smb_filename *smb_fname, int flags, const struct ofs_at *at)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	bool removedir = (flags & AT_REMOVEDIR) != 0;
	struct ofs_hint hint = {.kind = removedir ? OFS_HINT_RMDIR : OFS_HINT_UNLINKED};
	struct victim v;
	uint32_t stripe;
	int ret;

	ret = victim_find(c, at, &v);
	if (ret != 0) {
		return ret;
	}
	if (removedir && v.is_dir) {
		ret = victim_empty(c, at, &v);
		if (ret != 0) {
			goto out;
		}
	}
	ret = ofs_change_begin(c, at->dirfd, &hint.parent, &stripe);
	if (ret != 0) {
		goto out;
	}
	if (removedir == v.is_dir) {
		ret = victim_keep(c, &v);
	}
	if (ret == 0 && SMB_VFS_NEXT_UNLINKAT(handle, dirfsp, smb_fname, flags) != 0) {
		ret = -errno;
		victim_give_back(c, &v);
	}
	if (ret == 0) {
		victim_gone(c, &v);
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
	victim_done(&v);
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

	if (fstatat(at->dirfd, at->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
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
	ret = ofs_record_create(c, fd, true, &rec);
	if (ret == 0 && fstat(fd, &st) == 0) {
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
	struct victim from, to;
	struct ofs_hint hint;
	uint32_t src_stripe, dst_stripe;
};

/* Everything that may fail or wait, before anything changes. */
static int rename_prepare(struct ofs_conn *c, struct rename *r)
{
	struct ofs_record rec;
	int ret;

	ret = victim_find(c, &r->src, &r->from);
	if (ret != 0) {
		return ret;
	}
	ret = absent_or_brought(c, &r->dst);
	if (ret != 0) {
		return ret;
	}
	ret = victim_look(c, &r->dst, &r->to);
	if (ret != 0) {
		return ret;
	}
	if (r->to.fd >= 0 && r->from.is_dir && r->to.is_dir && r->from.ino != r->to.ino) {
		ret = victim_empty(c, &r->dst, &r->to);
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
		ret = victim_keep(c, &r->to);
	}
	if (ret == 0 && OFS_NEXT_RENAMEAT(handle, srcdir_fsp, smb_fname_src, dstdir_fsp,
				smb_fname_dst) != 0) {
		ret = -errno;
		victim_give_back(c, &r->to);
	}
	if (ret == 0 && replaces) {
		victim_gone(c, &r->to);
	}
	if (ret == 0 && (r->from.is_dir || r->from.regular)) {
		r->hint.kind = OFS_HINT_RENAMED;
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
	struct rename r = {.from.fd = -1, .to.fd = -1};
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
	victim_done(&r.from);
	victim_done(&r.to);
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
