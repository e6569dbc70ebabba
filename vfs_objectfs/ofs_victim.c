/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What is about to lose its name: looked at, kept in the trash before, given back if it stays.
 * Way: from ofs_names, around unlink, rmdir and a rename over something; to the mirror and the
 *      trash beside it.
 * Thread: the client's smbd; waits for the daemon only about directories not, or no longer, listed.
 * Owns: nothing; an ofs_victim is its caller's until ofs_victim_done.
 * Holds: 1. What S3 may hold stays reachable when its name goes: a link in the trash first, the
 *           name second, the hint third; the link is taken back if the name stays.
 *        2. Trash is handled as root, the mirror as the user.
 */
#include "ofs.h"

#define TRASH_NAMES_MAX 100

void ofs_victim_done(struct ofs_victim *v)
{
	if (v->fd >= 0) {
		close(v->fd);
		v->fd = -1;
	}
}

int ofs_victim_look(struct ofs_conn *c, const struct ofs_at *at, struct ofs_victim *v)
{
	enum ofs_record_state state;
	struct ofs_record rec;
	struct stat st;
	int ret;

	*v = (struct ofs_victim){.fd = -1};
	v->fd = openat(at->dirfd, at->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (v->fd < 0) {
		return errno == ENOENT ? 0 : -errno;
	}
	if (fstat(v->fd, &st) != 0) {
		ret = -errno;
		ofs_victim_done(v);
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
		ofs_victim_done(v);
		return ret;
	}
	if (state == OFS_RECORD_VALID) {
		v->oid = rec.oid;
		v->known = (rec.flags & OFS_REC_KNOWN) != 0;
	}
	return 0;
}

/* 1: linked; 0: there already, or nothing to keep; -errno. As root. */
static int trash_link(struct ofs_conn *c, struct ofs_victim *v)
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

static int trash_dir(struct ofs_conn *c, struct ofs_victim *v)
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

int ofs_victim_keep(struct ofs_conn *c, struct ofs_victim *v)
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

/* A link that is the last one is not ours to take back: somebody else has unlinked the name and
 * counts on it. */
void ofs_victim_give_back(struct ofs_conn *c, struct ofs_victim *v)
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

/* Its first upload may have begun after we looked: then S3 must be told. */
void ofs_victim_gone(struct ofs_conn *c, struct ofs_victim *v)
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

int ofs_victim_empty(struct ofs_conn *c, const struct ofs_at *at, const struct ofs_victim *v)
{
	if (v->fd < 0 || !v->is_dir || !ofs_dir_unlisted(c, v->fd)) {
		return 0;
	}
	return ofs_call_rmdir(c->link, at->dirfd, at->name);
}

int ofs_victim_find(struct ofs_conn *c, const struct ofs_at *at, struct ofs_victim *v)
{
	int ret = ofs_victim_look(c, at, v);

	if (ret == 0 && v->fd < 0) {
		ret = ofs_resolve(c, at);
		if (ret == 0) {
			ret = ofs_victim_look(c, at, v);
		}
	}
	if (ret == 0 && v->fd < 0) {
		ret = -ENOENT;
	}
	return ret;
}
