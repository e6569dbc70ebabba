/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Finding: names looked up and directories listed, where the mirror alone may not know them.
 * Way: from smbd's filename.c and dir.c, and from ofs_open, ofs_names, ofs_victim, ofs_attrs; to
 *      the mirror, and to the daemon's mirror room for names in directories that are not listed.
 * Thread: the client's smbd; waits for the daemon only in directories not listed, or whose listing
 *         is older than the volume's listing age.
 * Owns: nothing; an ofs_at is its caller's until ofs_at_done.
 * Holds: 1. Three answers: present, absent, unknown. Absence is told only of a listed directory or
 *           by the daemon; anything else that goes wrong is an error (rule 6).
 */
#include "ofs.h"

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
	if (strcmp(at->name, OFS_OWN_NAME) == 0 && ofs_fd_is_tree(c, at->dirfd)) {
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

/* In a snapshot of the mirror, and was not listed then: what else was in it nobody can tell. (A single
 * name shadow_copy2 looks for itself.) */
static bool dir_is_unknown(const struct ofs_conn *c, int dirfd)
{
	struct ofs_record rec;
	struct stat st;

	return fstat(dirfd, &st) == 0 && S_ISDIR(st.st_mode) && st.st_dev != c->tree_dev &&
			ofs_record_get(&c->io, dirfd, &rec) == 0 && (rec.flags & OFS_REC_LISTED) == 0;
}

bool ofs_dir_unlisted(const struct ofs_conn *c, int dirfd)
{
	return listing_of(c, dirfd) != LISTING_GOOD && dir_is_ours(c, dirfd);
}

int ofs_resolve(struct ofs_conn *c, const struct ofs_at *at)
{
	enum listing listing = listing_of(c, at->dirfd);
	struct stat st;
	int ret;

	if (listing == LISTING_GOOD || !dir_is_ours(c, at->dirfd)) {
		ofs_count(c, names_here, 1);
		return -ENOENT;
	}
	ofs_count(c, names_asked, 1);
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
	int64_t left_ns = c->fresh_until_ns - ofs_wall_ns();

	return VALID_STAT(*st) && st->st_ex_ino == c->fresh_ino && st->st_ex_dev == c->fresh_dev && left_ns > 0 &&
			(c->listing_age_ns == 0 || (uint64_t)left_ns <= c->listing_age_ns); /* more: the clock was set back */
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
	bool is_good = listing_of(c, fd) == LISTING_GOOD;
	bool is_asked = !is_good && dir_is_ours(c, fd);

	if (!is_good && !is_asked && dir_is_unknown(c, fd)) {
		DBG_WARNING("volume %s: directory %s of a snapshot had not been listed then: its names "
			"are in S3\n", c->volume, fsp_str_dbg(fsp));
		errno = EIO;
		return NULL;
	}
	if (!is_asked) {
		ofs_count(c, lists_here, 1);
	} else {
		int ret = call_list(c, fd);

		ofs_count(c, lists_asked, 1);
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
