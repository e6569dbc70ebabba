/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the module writes down for the daemon: records, dirty-directory marks, hints.
 * Way: from ofs_dirty, ofs_open, ofs_names, ofs_victim, ofs_whole, ofs_attrs; into xattrs, shared
 *      memory and the ring.
 * Thread: the client's smbd; blocks on the local file system and, for microseconds, on stripe
 *         locks. No message is sent from here.
 * Owns: nothing.
 * Holds: 1. A directory is MARKED, and so are all its ancestors, before anything in it changes:
 *           top down, and looked at again afterwards, for the daemon clears bottom up.
 *        2. From ofs_change_begin to ofs_change_end (after the hint) the stripe of the directory
 *           stands in the ring's head, and its `changes` has grown: the daemon does not clear it.
 *        3. Records are read, compared and set under the stripe lock of their inode; set as root.
 */
#include "ofs.h"
#include "shared/samba.h"

#include <linux/openat2.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#define DEPTH_MAX 1024

static int64_t clock_ns(clockid_t which)
{
	struct timespec ts;

	clock_gettime(which, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t ofs_wall_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

int64_t ofs_boot_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

int ofs_fsp_fd(const struct files_struct *fsp)
{
	if (fsp->base_fsp != NULL) {
		fsp = fsp->base_fsp;
	}
	return fsp_get_pathref_fd(fsp);
}

/* --- where an inode is --- */

ssize_t ofs_fd_path(int fd, char *buf, size_t cap)
{
	char proc[32];
	ssize_t n;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	n = readlink(proc, buf, cap - 1);
	if (n < 0) {
		return -errno;
	}
	buf[n] = '\0';
	return n;
}

static bool path_in_tree(const struct ofs_conn *c, const char *path)
{
	return strncmp(path, c->tree, c->tree_len) == 0 &&
			(path[c->tree_len] == '/' || path[c->tree_len] == '\0');
}

bool ofs_fd_in_tree(const struct ofs_conn *c, int fd)
{
	char path[PATH_MAX];

	return ofs_fd_path(fd, path, sizeof(path)) > 0 && path_in_tree(c, path);
}

static bool stat_is_tree(const struct ofs_conn *c, const struct stat *st)
{
	return st->st_ino == c->tree_ino && st->st_dev == c->tree_dev;
}

bool ofs_fd_is_tree(const struct ofs_conn *c, int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && stat_is_tree(c, &st);
}

/* No symlink on the way, whoever puts one there meanwhile; path: "..", or as the kernel spells it. */
static int open_straight(int dirfd, const char *path)
{
	const struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
			.resolve = RESOLVE_NO_SYMLINKS};
	char there[PATH_MAX];
	int fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

	if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) {
		return fd;
	}
	fd = openat(dirfd, path, (int)how.flags); /* a container's old seccomp profile: it is looked at then */
	if (fd >= 0 && path[0] == '/' &&
			(ofs_fd_path(fd, there, sizeof(there)) < 0 || strcmp(there, path) != 0)) {
		close(fd);
		errno = ELOOP;
		return -1;
	}
	return fd;
}

/* The user may use a file whose directories he may not search: then as root. */
static int open_dir(int dirfd, const char *path)
{
	int fd = open_straight(dirfd, path);

	if (fd < 0 && errno == EACCES) {
		uid_t euid = ofs_root_enter();
		int err;

		fd = open_straight(dirfd, path);
		err = errno;
		ofs_root_leave(euid);
		errno = err;
	}
	return fd >= 0 ? fd : -errno;
}

void ofs_place_done(struct ofs_place *place)
{
	if (place->dirfd >= 0) {
		close(place->dirfd);
		place->dirfd = -1;
	}
}

/*
 * Outside the tree: nothing of ours, or what the daemon has put aside. But an inode of the mirror that
 * came there by mounts (the tree's was taken away lazily, or moved) would be changed without a word to
 * anybody: acknowledged, and lost.
 */
static int place_outside(struct ofs_conn *c, int fd, const char *path)
{
	size_t volume_len = (size_t)(strrchr(c->tree, '/') - c->tree) + 1;
	struct ofs_record rec;

	if (strncmp(path, c->tree, volume_len) == 0 || ofs_record_get(&c->io, fd, &rec) != 0) {
		return 0;
	}
	DBG_ERR("volume %s: %s belongs to the mirror, but is not below %s (was that unmounted, or mounted "
		"over?): it is not changed; connect again once the mirror is where it was\n", c->volume, path,
			c->tree);
	return -EIO;
}

/* 0; -EAGAIN: renamed while we looked; other -errno. */
static int place_try(struct ofs_conn *c, int fd, const struct stat *st, struct ofs_place *place)
{
	char path[PATH_MAX];
	struct stat there;
	char *slash;
	ssize_t n;

	n = ofs_fd_path(fd, path, sizeof(path));
	if (n < 0) {
		return (int)n;
	}
	if (!path_in_tree(c, path)) {
		return place_outside(c, fd, path);
	}
	slash = strrchr(path, '/');
	if (slash == NULL || strlen(slash + 1) > OFS_NAME_MAX_BYTES + strlen(" (deleted)")) {
		return 0;
	}
	if (strlen(slash + 1) > OFS_NAME_MAX_BYTES) {
		return -EAGAIN; /* only a deleted one is so long */
	}
	memcpy(place->name, slash + 1, strlen(slash + 1) + 1);
	*slash = '\0';
	place->dirfd = open_dir(AT_FDCWD, path);
	if (place->dirfd < 0) {
		int ret = place->dirfd;

		place->dirfd = -1;
		return ret == -ENOENT || ret == -ENOTDIR || ret == -ELOOP ? -EAGAIN : ret;
	}
	/* this sorts out " (deleted)" as well: a name may really end so */
	if (fstatat(place->dirfd, place->name, &there, AT_SYMLINK_NOFOLLOW) != 0) {
		if (errno == EACCES) {
			return 0; /* a directory the user may not search: the kernel's word has to do */
		}
	} else if (there.st_ino == st->st_ino && there.st_dev == st->st_dev) {
		return 0;
	}
	ofs_place_done(place);
	return -EAGAIN;
}

int ofs_place_of_fd(struct ofs_conn *c, int fd, struct ofs_place *place)
{
	struct stat st;
	int ret = 0;

	place->dirfd = -1;
	place->is_root = false;
	place->name[0] = '\0';
	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	if (stat_is_tree(c, &st)) {
		place->is_root = true;
		place->dirfd = open_dir(AT_FDCWD, c->tree);
		return place->dirfd < 0 ? place->dirfd : 0;
	}
	for (int i = 0; i < 3; i++) {
		ret = place_try(c, fd, &st, place);
		if (ret != -EAGAIN) {
			return ret;
		}
	}
	place->name[0] = '\0';
	return 0; /* deleted */
}

/* --- records --- */

int ofs_record_look(struct ofs_conn *c, int fd, const struct stat *st, struct ofs_record *rec,
		enum ofs_record_state *state)
{
	int ret = ofs_record_get(&c->io, fd, rec);
	bool regular = S_ISREG(st->st_mode);

	if (ret == 0) {
		*state = OFS_RECORD_VALID;
		return 0;
	}
	if (ret != -ENODATA && ret != -EXDEV && ret != -EBADMSG) {
		return ret;
	}
	if (regular && ((st->st_mode & OFS_MARKER_MODE) != 0 ||
			(ret == -EXDEV && (rec->flags & OFS_REC_STUB) != 0))) {
		*state = OFS_RECORD_QUARANTINED;
		return 0;
	}
	memset(rec, 0, sizeof(*rec));
	ofs_oid_new(&rec->oid);
	rec->flags = OFS_REC_META_DIRTY | (regular ? OFS_REC_DATA_DIRTY : OFS_REC_DIR);
	*state = OFS_RECORD_NEW;
	return 0;
}

int ofs_record_put(struct ofs_conn *c, int fd, struct ofs_record *rec)
{
	uid_t euid = ofs_root_enter();
	int ret;

	ret = ofs_record_set(&c->io, fd, rec);
	ofs_root_leave(euid);
	if (ret != 0) {
		DBG_ERR("volume %s: a record cannot be stored: %s\n", c->volume, strerror(-ret));
	}
	return ret;
}

int ofs_record_create(struct ofs_conn *c, int fd, bool made_now, struct ofs_record *rec)
{
	enum ofs_record_state state;
	struct stat st;
	uint32_t stripe;
	int ret;

	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	stripe = ofs_shm_stripe_of(st.st_ino);
	ret = ofs_shm_lock(c->shm, stripe, OFS_LOCK_TIMEOUT_MS);
	if (ret != 0) {
		return ret;
	}
	ret = ofs_record_look(c, fd, &st, rec, &state);
	if (ret == 0 && state == OFS_RECORD_QUARANTINED) {
		ret = -EIO;
	} else if (ret == 0 && state == OFS_RECORD_NEW) {
		if (made_now && S_ISDIR(st.st_mode)) {
			rec->flags |= OFS_REC_LISTED; /* nobody else can have put anything in it */
			rec->listed_ns = ofs_wall_ns();
		}
		ret = ofs_record_put(c, fd, rec);
	}
	ofs_shm_unlock(c->shm, stripe);
	return ret;
}

/* --- marks --- */

/* Set MARKED in one directory's record. dir: its id; NULL: not wanted. */
static int mark_one(struct ofs_conn *c, int fd, const struct stat *st, struct ofs_oid *dir)
{
	uint32_t stripe = ofs_shm_stripe_of(st->st_ino);
	enum ofs_record_state state;
	struct ofs_record rec;
	int ret;

	ret = ofs_shm_lock(c->shm, stripe, OFS_LOCK_TIMEOUT_MS);
	if (ret != 0) {
		return ret;
	}
	ret = ofs_record_look(c, fd, st, &rec, &state);
	if (ret == 0 && (state != OFS_RECORD_VALID || (rec.flags & OFS_REC_MARKED) == 0)) {
		rec.flags |= OFS_REC_MARKED;
		rec.meta_gen++;
		ret = ofs_record_put(c, fd, &rec);
	}
	ofs_shm_unlock(c->shm, stripe);
	if (ret == 0 && dir != NULL) {
		*dir = rec.oid;
	}
	return ret;
}

/*
 * Look at an ancestor. `changes` grows even where it is marked already: a sweep of the daemon that is
 * under way must not clear it over a directory below that has just been marked.
 */
static int visit_one(struct ofs_conn *c, int fd, const struct stat *st, struct ofs_record *rec,
		enum ofs_record_state *state)
{
	uint32_t stripe = ofs_shm_stripe_of(st->st_ino);
	int ret = ofs_shm_lock(c->shm, stripe, OFS_LOCK_TIMEOUT_MS);

	if (ret != 0) {
		return ret;
	}
	atomic_fetch_add(&c->shm->stripe[stripe].changes, 1);
	ret = ofs_record_look(c, fd, st, rec, state);
	ofs_shm_unlock(c->shm, stripe);
	return ret;
}

/* Mark what lies above a directory, up to the first that is marked already or the tree's root. */
static int mark_above(struct ofs_conn *c, int dirfd, unsigned depth)
{
	enum ofs_record_state state;
	struct ofs_record rec;
	struct stat st;
	int fd, ret;

	if (depth > DEPTH_MAX) {
		return -ELOOP;
	}
	if (ofs_fd_is_tree(c, dirfd)) {
		return 0;
	}
	fd = open_dir(dirfd, "..");
	if (fd < 0) {
		return fd;
	}
	ret = fstat(fd, &st) == 0 ? visit_one(c, fd, &st, &rec, &state) : -errno;
	if (ret == 0 && (state != OFS_RECORD_VALID || (rec.flags & OFS_REC_MARKED) == 0)) {
		ret = mark_above(c, fd, depth + 1);
		if (ret == 0) {
			ret = mark_one(c, fd, &st, NULL);
		}
	}
	close(fd);
	return ret;
}

/* A slot of the ring's head per stripe; changes of one stripe may be nested. */
static void change_enter(struct ofs_conn *c, uint32_t stripe)
{
	for (unsigned i = 0; i < 2; i++) {
		if (c->change_depth[i] > 0 && c->change_stripe[i] == stripe) {
			c->change_depth[i]++;
			return;
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		if (c->change_depth[i] == 0) {
			c->change_stripe[i] = stripe;
			c->change_depth[i] = 1;
			atomic_store(&c->ring.head->inflight[i], stripe + 1);
			return;
		}
	}
	DBG_ERR("volume %s: more than two directories changing at once\n", c->volume);
}

void ofs_change_end(struct ofs_conn *c, uint32_t stripe)
{
	for (unsigned i = 0; i < 2; i++) {
		if (c->change_depth[i] > 0 && c->change_stripe[i] == stripe) {
			if (--c->change_depth[i] == 0) {
				atomic_store(&c->ring.head->inflight[i], 0);
			}
			return;
		}
	}
}

int ofs_change_begin(struct ofs_conn *c, int dirfd, struct ofs_oid *dir, uint32_t *stripe)
{
	enum ofs_record_state state = OFS_RECORD_NEW;
	struct ofs_record rec;
	struct stat st;
	int ret;

	if (ofs_read_only(c)) {
		return -EROFS;
	}
	if (fstat(dirfd, &st) != 0) {
		return -errno;
	}
	*stripe = ofs_shm_stripe_of(st.st_ino);
	ret = ofs_shm_lock(c->shm, *stripe, OFS_LOCK_TIMEOUT_MS);
	if (ret != 0) {
		return ret;
	}
	change_enter(c, *stripe);
	atomic_fetch_add(&c->shm->stripe[*stripe].changes, 1);
	ret = ofs_record_look(c, dirfd, &st, &rec, &state);
	ofs_shm_unlock(c->shm, *stripe);
	*dir = rec.oid;
	if (ret == 0 && state == OFS_RECORD_VALID && (rec.flags & OFS_REC_MARKED) != 0) {
		return 0;
	}
	if (ret == 0) {
		ret = mark_above(c, dirfd, 0);
	}
	if (ret == 0) {
		ret = mark_one(c, dirfd, &st, dir);
	}
	if (ret == 0) {
		ret = mark_above(c, dirfd, 0);
	}
	if (ret != 0) {
		DBG_ERR("volume %s: a directory cannot be marked as changing: %s\n", c->volume,
				strerror(-ret));
		ofs_change_end(c, *stripe);
	}
	return ret;
}

/* --- hints --- */

void ofs_hint_name(char dst[OFS_NAME_MAX_BYTES + 1], const char *name)
{
	size_t len = strnlen(name, OFS_NAME_MAX_BYTES);

	memcpy(dst, name, len);
	dst[len] = '\0';
}

void ofs_hint(struct ofs_conn *c, const struct ofs_hint *hint)
{
	uint64_t one = 1;

	if (ofs_ring_write(&c->ring, hint, OFS_RING_TIMEOUT_MS) != 0) {
		/* counted in the ring; the directory's mark makes the daemon look itself */
		c->hints_lost++;
		return;
	}
	c->hints_written++;
	if (atomic_load(&c->shm->core_sleeps) != 0 &&
			atomic_exchange(&c->shm->core_sleeps, 0) != 0) {
		(void)!write(c->doorbell_fd, &one, sizeof(one));
	}
}

/* --- metadata --- */

/* Before the change: should this process die right after it, the record says so already. */
static int meta_announce(struct ofs_conn *c, const struct ofs_meta *m)
{
	enum ofs_record_state state;
	struct ofs_record rec;
	struct stat st;
	uint32_t stripe;
	int ret;

	if (fstat(m->fd, &st) != 0 || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))) {
		return 0;
	}
	stripe = ofs_shm_stripe_of(st.st_ino);
	ret = ofs_shm_lock(c->shm, stripe, OFS_LOCK_TIMEOUT_MS);
	if (ret != 0) {
		return ret;
	}
	ret = ofs_record_look(c, m->fd, &st, &rec, &state);
	if (ret == 0 && state == OFS_RECORD_VALID && (rec.flags & OFS_REC_META_DIRTY) == 0) {
		rec.flags |= OFS_REC_META_DIRTY;
		rec.meta_gen++;
		ret = ofs_record_put(c, m->fd, &rec);
	}
	ofs_shm_unlock(c->shm, stripe);
	return ret;
}

/* An inode that left the tree as a stub: its file may live on under another one. */
static bool is_dropped(struct ofs_conn *c, int fd)
{
	struct ofs_record rec;
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 0 &&
			ofs_record_get(&c->io, fd, &rec) == 0 && (rec.flags & OFS_REC_STUB) != 0;
}

int ofs_meta_begin(struct ofs_conn *c, int fd, struct ofs_meta *m)
{
	int ret;

	m->fd = fd;
	m->begun = false;
	m->place.dirfd = -1;
	if (m->fd < 0) {
		return 0; /* NEXT will say what it thinks of that */
	}
	ret = ofs_place_of_fd(c, m->fd, &m->place);
	if (ret == 0 && m->place.dirfd < 0 && is_dropped(c, m->fd)) {
		ret = -EIO;
	}
	if (ret != 0 || m->place.dirfd < 0) {
		return ret;
	}
	ret = ofs_change_begin(c, m->place.dirfd, &m->dir, &m->stripe);
	if (ret != 0) {
		ofs_place_done(&m->place);
		return ret;
	}
	ret = meta_announce(c, m);
	if (ret != 0) {
		ofs_change_end(c, m->stripe);
		ofs_place_done(&m->place);
		return ret;
	}
	m->begun = true;
	return 0;
}

static int64_t timespec_ns(const struct timespec *ts)
{
	return (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

static void meta_times(struct ofs_record *rec, const struct smb_file_time *times)
{
	if (times == NULL || (rec->flags & OFS_REC_STUB) == 0) {
		return;
	}
	if (!is_omit_timespec(&times->mtime)) {
		rec->mtime_ns = timespec_ns(&times->mtime);
	}
	if (!is_omit_timespec(&times->atime)) {
		rec->atime_ns = timespec_ns(&times->atime);
	}
}

static void meta_dirty(struct ofs_conn *c, struct ofs_meta *m, const struct smb_file_time *times)
{
	struct ofs_hint hint = {.kind = OFS_HINT_ATTR, .parent = m->dir};
	enum ofs_record_state state;
	struct ofs_record rec;
	struct stat st;
	uint32_t stripe;
	int ret;

	if (fstat(m->fd, &st) != 0 || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))) {
		return;
	}
	stripe = ofs_shm_stripe_of(st.st_ino);
	ret = ofs_shm_lock(c->shm, stripe, OFS_LOCK_TIMEOUT_MS);
	if (ret == 0) {
		ret = ofs_record_look(c, m->fd, &st, &rec, &state);
		if (ret == 0 && state == OFS_RECORD_QUARANTINED) {
			ret = -EIO;
		}
		if (ret == 0) {
			rec.flags |= OFS_REC_META_DIRTY;
			rec.meta_gen++;
			meta_times(&rec, times);
			ret = ofs_record_put(c, m->fd, &rec);
		}
		ofs_shm_unlock(c->shm, stripe);
	}
	if (ret != 0) {
		/* META_DIRTY was set before the change */
		DBG_ERR("volume %s: a metadata change is not noted: %s\n", c->volume,
				strerror(-ret));
		return;
	}
	if (ofs_samba_tmpname(m->place.name)) {
		return;
	}
	hint.ino = st.st_ino;
	hint.oid = rec.oid;
	hint.is_dir = S_ISDIR(st.st_mode);
	ofs_hint_name(hint.name, m->place.name);
	ofs_hint(c, &hint);
}

void ofs_meta_end(struct ofs_conn *c, struct ofs_meta *m, bool changed,
		const struct smb_file_time *times)
{
	int err = errno;

	if (m->begun) {
		if (changed) {
			meta_dirty(c, m, times);
		}
		ofs_change_end(c, m->stripe);
		ofs_place_done(&m->place);
	}
	errno = err;
}
