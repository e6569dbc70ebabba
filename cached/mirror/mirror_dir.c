/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: from a descriptor of a directory in the tree to its object id and its row.
 * Way: from mirror_list.c and mirror_ask.c with the client's descriptor; a job reads the record; the index answers.
 *      Where record or row is missing (index lost, directory made behind our back), a second job
 *      walks from the root and every ancestor gets what it lacks.
 * Thread: core; locate_read and locate_walk on a worker (DISK_ORDER).
 * Owns: the descriptor, until it is in a struct mirror_dir.
 * Holds: 1. a valid record is never replaced;
 *        2. a directory that was never in S3 is not said to be there: KNOWN, or not LISTED (clients
 *           make directories LISTED, the daemon makes them without) is what tells.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mirror_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../core/rings.h"
#include "../reconcile/names.h"
#include "../reconcile/reconcile.h"

struct locate_step { /* one directory on the way down */
	char name[NAME_MAX + 1];
	struct ofs_record rec;
	uint64_t ino;
	bool made; /* had no valid record */
};

struct locate {
	struct disk_job job;
	struct mirror *m;
	TALLOC_CTX *ctx;
	struct mirror_place place;
	int fd; /* given; later of the directory, readable */
	char *probe;
	mirror_found found;
	void *arg;
	/* out */
	int status;
	struct ofs_record rec;
	uint64_t ino;
	bool probe_there;
	struct timespec mtime;
	uint64_t changes;
	struct locate_step *steps;
	unsigned count;
};

void mirror_dir_news(struct mirror_dir *dir, enum ofs_wire_notify kind, const char *name, bool is_dir)
{
	/* What a directory is first seen to hold is no change of it. */
	if (kind != OFS_WIRE_NOTIFY_ADDED || (dir->flags & OFS_REC_LISTED) != 0 ||
			dir->listed_ns != 0) {
		news_add(dir, &dir->news, kind, name, is_dir);
	}
}

static int mirror_dir_destructor(struct mirror_dir *d)
{
	announce(d->m->v->announcer, &d->oid, &d->news);
	if (d->fd >= 0) {
		close(d->fd);
	}
	return 0;
}

static void locate_answer(struct locate *l, int status, const char *message)
{
	struct mirror_dir *d = NULL;

	if (status == 0) {
		d = talloc_zero(l->ctx, struct mirror_dir);
		if (d == NULL) {
			status = -ENOMEM;
			message = "out of memory";
		}
	}
	if (d != NULL) {
		d->fd = l->fd;
		d->ino = l->ino;
		d->oid = l->rec.oid;
		d->flags = l->rec.flags;
		d->listed_ns = l->rec.listed_ns;
		d->m = l->m;
		d->probe_there = l->probe_there;
		d->mtime = l->mtime;
		d->changes = l->changes;
		d->steady = l->m->v->rings == NULL ||
				!rings_inflight(l->m->v->rings, ofs_shm_stripe_of(l->ino));
		talloc_set_destructor(d, mirror_dir_destructor);
	} else if (l->fd >= 0) {
		close(l->fd);
	}
	l->found(status, message, d, l->arg);
	free(l->steps);
	free(l->probe);
	free(l);
}

/* ---- the record of the directory itself ---- */

static int locate_path(const struct locate *l, char *rel, size_t cap);

static bool locate_same_mount(int a, int b)
{
	struct statx x, y;

	return statx(a, "", AT_EMPTY_PATH, STATX_MNT_ID, &x) == 0 &&
	       statx(b, "", AT_EMPTY_PATH, STATX_MNT_ID, &y) == 0 &&
	       (x.stx_mask & y.stx_mask & STATX_MNT_ID) != 0 && x.stx_mnt_id == y.stx_mnt_id;
}

/* smbd may live in a mount namespace of its own (containers, PrivateTmp=), and rename(2) and link(2)
 * refuse two mounts of one file system: open the directory through our mount. */
static int locate_here(struct locate *l, const struct stat *st)
{
	char rel[PATH_MAX];
	struct stat here;
	int fd, ret;

	if (locate_same_mount(l->fd, l->place.tree_fd)) {
		return 0;
	}
	ret = locate_path(l, rel, sizeof(rel));
	if (ret != 0) {
		return ret;
	}
	fd = mirror_open_beneath(l->place.tree_fd, rel[0] != '\0' ? rel : ".",
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		return fd;
	}
	if (fstat(fd, &here) != 0 || here.st_ino != st->st_ino || here.st_dev != st->st_dev) {
		close(fd);
		return -ESTALE; /* renamed meanwhile */
	}
	close(l->fd);
	l->fd = fd;
	return 0;
}

static void locate_read(struct disk_job *job)
{
	struct locate *l = (struct locate *)job;
	struct stat st;
	int fd = mirror_reopen(l->fd, O_RDONLY | O_DIRECTORY);

	close(l->fd);
	l->fd = fd;
	if (fd < 0) {
		l->status = fd;
		return;
	}
	if (fstat(fd, &st) != 0) {
		l->status = -errno;
		return;
	}
	for (int try = 0; try < 3; try++) {
		l->status = locate_here(l, &st);
		if (l->status != -ESTALE) {
			break;
		}
	}
	if (l->status != 0) {
		return;
	}
	fd = l->fd;
	l->ino = st.st_ino;
	l->changes = atomic_load(&l->place.shm->stripe[ofs_shm_stripe_of(st.st_ino)].changes);
	if (fstat(fd, &st) != 0) {
		l->status = -errno;
		return;
	}
	l->mtime = st.st_mtim;
	if (l->probe != NULL) {
		l->probe_there = fstatat(fd, l->probe, &st, AT_SYMLINK_NOFOLLOW) == 0;
		if (!l->probe_there && errno != ENOENT) {
			l->status = -errno;
			return;
		}
	}
	l->status = ofs_record_get(&l->place.rio, fd, &l->rec);
	if (l->status == -ENODATA || l->status == -EXDEV || l->status == -EBADMSG) {
		memset(&l->rec, 0, sizeof(l->rec)); /* told apart by the walk */
		l->status = 0;
	}
}

/* ---- the walk ---- */

/* Where the directory is now, relative to the tree ("" for its root). 0 or -errno. */
static int locate_path(const struct locate *l, char *rel, size_t cap)
{
	char tree[PATH_MAX], dir[PATH_MAX], link[32];
	struct stat st;
	ssize_t n;
	size_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", l->place.tree_fd);
	n = readlink(link, tree, sizeof(tree) - 1);
	if (n < 0) {
		return -errno;
	}
	tree[n] = '\0';
	len = (size_t)n;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", l->fd);
	n = readlink(link, dir, sizeof(dir) - 1);
	if (n < 0) {
		return -errno;
	}
	dir[n] = '\0';
	if (fstat(l->fd, &st) != 0 || st.st_nlink == 0) {
		return -ENOENT;
	}
	if (strncmp(dir, tree, len) != 0 || (dir[len] != '/' && dir[len] != '\0')) {
		return -EXDEV;
	}
	if (strlen(dir + len) >= cap) {
		return -ENAMETOOLONG;
	}
	strcpy(rel, dir + len + (dir[len] == '/'));
	return 0;
}

/* Read the record of a directory, or give it one. */
static int locate_record(const struct locate *l, int fd, bool root, struct locate_step *step)
{
	const struct ofs_record_io *rio = &l->place.rio;
	struct stat st;
	uint32_t stripe;
	int ret;

	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	step->ino = st.st_ino;
	ret = ofs_record_get(rio, fd, &step->rec);
	if (ret != -ENODATA && ret != -EXDEV && ret != -EBADMSG) {
		return ret;
	}
	ret = mirror_lock(l->place.shm, fd, &stripe);
	if (ret != 0) {
		return ret;
	}
	ret = ofs_record_get(rio, fd, &step->rec);
	if (ret == -ENODATA || ret == -EXDEV || ret == -EBADMSG) {
		memset(&step->rec, 0, sizeof(step->rec));
		step->rec.flags = OFS_REC_DIR | (root ? OFS_REC_KNOWN : OFS_REC_META_DIRTY);
		if (root) {
			step->rec.oid = OFS_OID_ROOT;
		} else {
			clock_random(l->place.clock, &step->rec.oid, sizeof(step->rec.oid));
		}
		ret = ofs_record_set(rio, fd, &step->rec);
		step->made = ret == 0;
	}
	ofs_shm_unlock(l->place.shm, stripe);
	return ret;
}

static void locate_walk(struct disk_job *job)
{
	struct locate *l = (struct locate *)job;
	char rel[PATH_MAX], *save = NULL, *name;
	struct locate_step root, *last = &root;
	int at, fd;

	memset(&root, 0, sizeof(root));
	l->status = locate_path(l, rel, sizeof(rel));
	if (l->status != 0) {
		return;
	}
	at = openat(l->place.tree_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at < 0) {
		l->status = -errno;
		return;
	}
	l->status = locate_record(l, at, true, &root);
	for (name = strtok_r(rel, "/", &save); name != NULL && l->status == 0;
			name = strtok_r(NULL, "/", &save)) {
		struct locate_step *s = realloc(l->steps, (l->count + 1) * sizeof(*s));

		if (s == NULL) {
			l->status = -ENOMEM;
			break;
		}
		l->steps = s;
		s += l->count;
		memset(s, 0, sizeof(*s));
		snprintf(s->name, sizeof(s->name), "%s", name);
		fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0) {
			l->status = -errno;
			break;
		}
		close(at);
		at = fd;
		l->status = locate_record(l, at, false, s);
		l->count++;
		last = s;
	}
	close(at);
	if (l->status == 0 && last->ino != l->ino) {
		l->status = -ESTALE; /* renamed while we walked */
	}
	if (l->status == 0) {
		l->rec = last->rec;
	}
}

/* A directory whose row is missing or not here: believe the tree. */
static void locate_learn(struct mirror *m, const struct ofs_oid *parent, struct locate_step *s)
{
	struct index *ix = m->v->index;
	struct row *row = index_get(ix, &s->rec.oid), *at;
	char *raw;

	if (row != NULL && (row->live == ROW_HERE || !row->is_dir)) {
		return;
	}
	if (row == NULL) {
		row = index_add(ix, &s->rec.oid, true);
	}
	raw = name_to_raw(m, s->name, true);
	if (row == NULL || raw == NULL) {
		talloc_free(raw);
		return;
	}
	index_set_here(ix, row, parent, s->name, s->ino);
	at = index_at_s3(ix, parent, raw, true);
	if (!row->in_s3 && !s->made && (at == NULL || at->live == ROW_NOT_HERE) &&
			((s->rec.flags & OFS_REC_KNOWN) != 0 ||
					(s->rec.flags & OFS_REC_LISTED) == 0)) {
		const struct row *up = index_get(ix, parent);

		if (up != NULL && up->in_s3) {
			index_set_s3(ix, row, parent, raw);
			index_set_object(ix, row, (s->rec.flags & OFS_REC_KNOWN) != 0);
		}
	}
	if (s->made && m->v->reconcile != NULL) {
		struct ofs_hint hint;

		memset(&hint, 0, sizeof(hint));
		hint.kind = OFS_HINT_MKDIR;
		hint.is_dir = true;
		hint.ino = s->ino;
		hint.oid = s->rec.oid;
		hint.parent = *parent;
		snprintf(hint.name, sizeof(hint.name), "%s", s->name);
		reconcile_hint(m->v->reconcile, &hint);
	}
	talloc_free(raw);
}

static void locate_walk_done(struct disk_job *job)
{
	struct locate *l = (struct locate *)job;
	struct ofs_oid parent = OFS_OID_ROOT;
	unsigned i;

	if (l->status != 0) {
		locate_answer(l, l->status == -ESTALE ? -EIO : l->status,
				"the directory cannot be followed to the root of the mirror");
		return;
	}
	for (i = 0; i < l->count; i++) {
		locate_learn(l->m, &parent, &l->steps[i]);
		parent = l->steps[i].rec.oid;
	}
	locate_answer(l, 0, NULL);
}

static void locate_start(struct locate *l);

/* Its stubs were being dropped. */
static void locate_again(void *arg)
{
	locate_start(arg);
}

static void locate_read_done(struct disk_job *job)
{
	struct locate *l = (struct locate *)job;
	const struct row *row;

	if (l->status != 0) {
		locate_answer(l, l->status, "the directory cannot be read");
		return;
	}
	if (evict_drop_wait(l->m->v->evictor, &l->rec.oid, locate_again, l)) {
		return;
	}
	row = ofs_oid_is_none(&l->rec.oid) ? NULL : index_get(l->m->v->index, &l->rec.oid);
	if (row != NULL && row->is_dir && row->live == ROW_HERE) {
		locate_answer(l, 0, NULL);
		return;
	}
	memset(&l->job, 0, sizeof(l->job));
	l->job.what = "mirror walk";
	l->job.run = locate_walk;
	l->job.done = locate_walk_done;
	disk_submit(l->m->v->disk, DISK_ORDER, &l->job);
}

static void locate_start(struct locate *l)
{
	memset(&l->job, 0, sizeof(l->job));
	l->job.what = "mirror locate";
	l->job.run = locate_read;
	l->job.done = locate_read_done;
	disk_submit(l->m->v->disk, DISK_ORDER, &l->job);
}

void mirror_locate(struct mirror *m, TALLOC_CTX *ctx, int dirfd, const char *probe,
		mirror_found found, void *arg)
{
	struct locate *l = calloc(1, sizeof(*l));

	if (l != NULL && probe != NULL) {
		l->probe = strdup(probe);
	}
	if (l == NULL || (probe != NULL && l->probe == NULL)) {
		free(l);
		close(dirfd);
		found(-ENOMEM, "out of memory", NULL, arg);
		return;
	}
	l->m = m;
	l->ctx = ctx;
	l->place = mirror_place_of(m);
	l->fd = dirfd;
	l->found = found;
	l->arg = arg;
	locate_start(l);
}

/* ---- to change what is in it ---- */

int mirror_target_open(struct mirror *m, const struct mirror_dir *dir, struct mirror_target *t)
{
	t->place = mirror_place_of(m);
	t->oid = dir->oid;
	t->mtime = dir->mtime;
	t->changes = dir->changes;
	t->keep_times = dir->steady && (m->v->rings == NULL ||
			!rings_inflight(m->v->rings, ofs_shm_stripe_of(dir->ino)));
	t->fd = fcntl(dir->fd, F_DUPFD_CLOEXEC, 0);
	return t->fd < 0 ? -errno : 0;
}

int mirror_target_check(const struct mirror_target *t)
{
	struct ofs_record rec;
	int ret = ofs_record_get(&t->place.rio, t->fd, &rec);

	return ret == 0 && !ofs_oid_equal(&rec.oid, &t->oid) ? -ESTALE : ret;
}

void mirror_target_keep_times(const struct mirror_target *t)
{
	struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, t->mtime};
	struct stat st;

	if (t->keep_times && fstat(t->fd, &st) == 0 &&
			atomic_load(&t->place.shm->stripe[ofs_shm_stripe_of(st.st_ino)].changes) ==
					t->changes) {
		futimens(t->fd, ts);
	}
}
