/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: names that are gone from the bucket leave the tree.
 * Way: from mirror_list.c, after a whole listing and the brake; jobs work on the tree; rows follow.
 * Thread: core; remove_run on a worker.
 * Owns: the list of removals; inodes in limbo/ until they are unlinked.
 * Holds: 1. only what is clean, known to S3 and not open goes; a directory only if all below it is so,
 *           looked at again once no client can reach it. A file that clients only read waits in limbo/
 *           for them to close it;
 *        2. an inode is moved to limbo/ under the stripe's lock with its record checked, so that a
 *           change is either seen or comes too late to be made. It goes back if somebody got in by force meanwhile
 *           (lease-break-time);
 *        3. what cannot go is left as it was; the next listing asks again.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mirror_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../reconcile/reconcile.h"
#include "../upload/blocks.h"

#define REMOVE_DEPTH_MAX 200

struct removed {
	struct ofs_oid oid;
	uint64_t ino;
};

struct remove_job {
	struct disk_job job;
	struct mirror *m;
	uint64_t request_id;
	struct mirror_dir *dir; /* core only */
	struct mirror_place place;
	int dir_fd; /* own */
	struct removal *list;
	uint64_t *inodes; /* of all files that are to go */
	size_t inode_count, inode_cap;
	struct removed *gone; /* children before their directory */
	size_t gone_count, gone_cap;
	void (*done)(uint64_t stayed, void *arg);
	void *arg;
};

static int remove_note(struct remove_job *j, const struct ofs_oid *oid, uint64_t ino)
{
	if (j->gone_count == j->gone_cap) {
		size_t cap = j->gone_cap ? j->gone_cap * 2 : 64;
		struct removed *g = realloc(j->gone, cap * sizeof(*g));

		if (g == NULL) {
			return -ENOMEM;
		}
		j->gone = g;
		j->gone_cap = cap;
	}
	j->gone[j->gone_count].oid = *oid;
	j->gone[j->gone_count++].ino = ino;
	blocks_forget(j->place.blocks_fd, oid);
	return 0;
}

static void remove_limbo_name(const struct ofs_oid *oid, char name[64])
{
	char hex[OFS_OID_HEX_BYTES];

	ofs_oid_hex(oid, hex);
	snprintf(name, 64, "gone.%s", hex);
}

/* 0: the record says that S3 has all there is of it. */
static int remove_check(const struct mirror_place *p, int fd, bool is_dir, struct ofs_record *rec)
{
	int ret = ofs_record_get(&p->rio, fd, rec);

	if (ret != 0) {
		return ret;
	}
	if (((rec->flags & OFS_REC_DIR) != 0) != is_dir ||
			(rec->flags & (OFS_REC_DATA_DIRTY | OFS_REC_META_DIRTY)) != 0 ||
			(!is_dir && (rec->flags & OFS_REC_KNOWN) == 0)) {
		return -EBUSY;
	}
	return 0;
}

/* It was gone from the tree before it was closed. */
int mirror_limbo_drop(const struct mirror_place *p, const struct ofs_oid *oid)
{
	struct ofs_record rec;
	char name[64];
	int fd, ret;

	remove_limbo_name(oid, name);
	fd = mirror_open_alone(p->limbo_fd, name);
	if (fd < 0) {
		return fd == -EAGAIN ? -EAGAIN : 0;
	}
	ret = ofs_record_get(&p->rio, fd, &rec);
	if (ret != 0 || (rec.flags & OFS_REC_DATA_DIRTY) != 0) {
		log_warning("mirror", "limbo/%s was written after it had been deleted in the bucket: look at "
				"it and move or delete it", name);
	} else if (unlinkat(p->limbo_fd, name, 0) != 0) {
		log_warning("mirror", "limbo/%s stays: %s", name, strerror(errno));
	}
	mirror_lease_drop(fd);
	close(fd);
	return 0;
}

/* dir_fd/name, whose inode is behind fd, to limbo/. leased: by F_WRLCK. 0, or -errno with the name where it was. */
static int remove_to_limbo(const struct mirror_place *p, int dir_fd, const char *name, int fd, bool leased,
		const struct ofs_oid *oid, char limbo[64])
{
	struct stat st, moved;
	int ret, tries;

	remove_limbo_name(oid, limbo);
	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	for (tries = 0; tries < 2; tries++) {
		if (renameat2(dir_fd, name, p->limbo_fd, limbo, RENAME_NOREPLACE) == 0) {
			break;
		}
		ret = -errno;
		if (ret != -EEXIST || tries > 0) {
			return ret;
		}
		/* Left by a crash between rename and unlink; or one that somebody has open, or has written
		 * to: an object that comes back under its key is the same file again. */
		if (!S_ISDIR(st.st_mode)) {
			ret = mirror_limbo_drop(p, oid);
		} else {
			ret = unlinkat(p->limbo_fd, limbo, AT_REMOVEDIR) == 0 ? 0 : -errno;
		}
		if (ret != 0) {
			return ret;
		}
	}
	if (fstatat(p->limbo_fd, limbo, &moved, AT_SYMLINK_NOFOLLOW) != 0) {
		return -errno;
	}
	ret = moved.st_ino != st.st_ino ? -EBUSY : leased && !mirror_is_alone(fd) ? -EAGAIN : 0;
	if (ret == 0) {
		return 0;
	}
	/* Another file had taken the name, or somebody has got in by force (lease-break-time): it goes back. */
	if (renameat2(p->limbo_fd, limbo, dir_fd, name, RENAME_NOREPLACE) != 0) {
		log_error("mirror", "%s could not be moved back from limbo/%s: %s", name, limbo,
				strerror(errno));
	}
	return ret;
}

static int remove_file(struct remove_job *j, struct removal *r)
{
	struct ofs_record rec;
	struct stat st;
	char limbo[64];
	uint32_t stripe;
	int fd, ret;

	r->limbo = r->held != 0;
	fd = r->limbo ? openat(j->dir_fd, r->name, O_PATH | O_NOFOLLOW | O_CLOEXEC)
		      : mirror_open_alone(j->dir_fd, r->name);
	if (fd < 0) {
		return r->limbo ? -errno : fd;
	}
	ret = mirror_lock(j->place.shm, fd, &stripe);
	if (ret == 0) {
		ret = remove_check(&j->place, fd, false, &rec);
		if (ret == 0 && !ofs_oid_equal(&rec.oid, &r->oid)) {
			ret = -ESTALE;
		}
		if (ret == 0) {
			ret = remove_to_limbo(&j->place, j->dir_fd, r->name, fd, !r->limbo, &r->oid, limbo);
		}
		ofs_shm_unlock(j->place.shm, stripe);
	}
	if (ret == 0) {
		ret = fstat(fd, &st) == 0 ? remove_note(j, &r->oid, st.st_ino) : -errno;
		if (!r->limbo && unlinkat(j->place.limbo_fd, limbo, 0) != 0) {
			log_warning("mirror", "limbo/%s stays: %s", limbo, strerror(errno));
		}
	}
	if (!r->limbo) {
		mirror_lease_drop(fd);
	}
	close(fd);
	return ret;
}

/* ---- stubs that are dropped: cached/evict/drop.c ---- */

bool mirror_may_drop(const struct ofs_record *rec, const struct stat *st)
{
	if ((rec->flags & (OFS_REC_DATA_DIRTY | OFS_REC_META_DIRTY)) != 0 ||
			(rec->flags & OFS_REC_KNOWN) == 0) {
		return false;
	}
	return (rec->flags & OFS_REC_STUB) != 0 ||
			(st->st_size == 0 && rec->size == 0 && timespec_ns(st->st_mtim) == rec->mtime_ns);
}

/* Under the stripe's lock; a client that deletes it has linked it into trash/ first. */
static int drop_locked(const struct mirror_place *p, int dir_fd, const char *name, int fd,
		const struct ofs_oid *oid)
{
	struct ofs_record rec;
	struct stat st;
	char limbo[64];
	int ret = remove_check(p, fd, false, &rec);

	if (ret == 0 && !ofs_oid_equal(&rec.oid, oid)) {
		ret = -ENOENT; /* another file's name by now */
	}
	if (ret == 0 && (fstat(fd, &st) != 0 || st.st_nlink != 1 || !mirror_may_drop(&rec, &st))) {
		ret = -EBUSY;
	}
	if (ret == 0) {
		ret = remove_to_limbo(p, dir_fd, name, fd, true, oid, limbo);
	}
	if (ret != 0) {
		return ret;
	}
	if ((fstat(fd, &st) != 0 || st.st_nlink != 1) &&
			renameat2(p->limbo_fd, limbo, dir_fd, name, RENAME_NOREPLACE) == 0) {
		return -EBUSY;
	}
	return unlinkat(p->limbo_fd, limbo, 0) == 0 ? 0 : -errno;
}

int mirror_drop_one(const struct mirror_place *p, int dir_fd, const char *name,
		const struct ofs_oid *oid)
{
	int fd = mirror_open_alone(dir_fd, name), ret;
	uint32_t stripe;

	if (fd < 0) {
		return fd;
	}
	ret = mirror_lock(p->shm, fd, &stripe);
	if (ret == 0) {
		ret = drop_locked(p, dir_fd, name, fd, oid);
		ofs_shm_unlock(p->shm, stripe);
	}
	mirror_lease_drop(fd);
	close(fd);
	return ret;
}

/* ---- directories ---- */

static int remove_tree(struct remove_job *j, int fd, bool really, int depth);

/* One entry below a directory that is to go. */
static int remove_entry(struct remove_job *j, int dir_fd, const char *name, bool really, int depth)
{
	struct ofs_record rec;
	struct stat st;
	int fd, ret;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		return -errno;
	}
	if (S_ISDIR(st.st_mode)) {
		fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0) {
			return -errno;
		}
		ret = remove_check(&j->place, fd, true, &rec);
		if (ret == 0) {
			ret = remove_tree(j, fd, really, depth + 1);
		}
	} else if (S_ISREG(st.st_mode)) {
		fd = mirror_open_alone(dir_fd, name);
		if (fd < 0) {
			return fd;
		}
		ret = remove_check(&j->place, fd, false, &rec);
	} else {
		return -EBUSY;
	}
	if (ret == 0 && really) {
		ret = unlinkat(dir_fd, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) == 0 ? 0
											  : -errno;
		if (ret == 0) {
			ret = remove_note(j, &rec.oid, st.st_ino);
		}
	}
	close(fd); /* and with it a file's lease: nobody gets in between the look and the unlink */
	return ret;
}

/* Look at (or remove) all there is in a directory. 0: all of it may go (is gone). */
static int remove_tree(struct remove_job *j, int fd, bool really, int depth)
{
	struct dirent *de;
	int own, ret = 0;
	DIR *d;

	if (depth > REMOVE_DEPTH_MAX) {
		return -ELOOP;
	}
	own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = own >= 0 ? fdopendir(own) : NULL;
	if (d == NULL) {
		ret = -errno;
		if (own >= 0) {
			close(own);
		}
		return ret;
	}
	for (;;) {
		errno = 0;
		de = readdir(d);
		if (de == NULL) {
			ret = ret ? ret : -errno;
			break;
		}
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0) {
			continue;
		}
		ret = remove_entry(j, fd, de->d_name, really, depth);
		if (ret != 0) {
			break;
		}
	}
	closedir(d);
	return ret;
}

static bool remove_dir_is_empty(int fd)
{
	struct stat st;
	DIR *d;
	bool empty = true;
	struct dirent *de;
	int own;

	if (fstat(fd, &st) == 0 && st.st_nlink > 2) {
		return false;
	}
	own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = own >= 0 ? fdopendir(own) : NULL;
	if (d == NULL) {
		if (own >= 0) {
			close(own);
		}
		return false;
	}
	while (empty && (de = readdir(d)) != NULL) {
		empty = strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0;
	}
	closedir(d);
	return empty;
}

static int remove_dir(struct remove_job *j, struct removal *r)
{
	struct ofs_record rec;
	struct stat st;
	char limbo[64];
	int fd, ret;

	fd = openat(j->dir_fd, r->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	ret = fstat(fd, &st) == 0 ? remove_check(&j->place, fd, true, &rec) : -errno;
	if (ret == 0 && !ofs_oid_equal(&rec.oid, &r->oid)) {
		ret = -ESTALE;
	}
	/* Emptied by clients, which takes its keys away but not the directory. */
	if (ret == 0 && r->keep_if_listed && (rec.flags & OFS_REC_LISTED) != 0 &&
			remove_dir_is_empty(fd)) {
		ret = -EBUSY;
	}
	if (ret == 0) {
		ret = remove_tree(j, fd, false, 0);
	}
	if (ret == 0) {
		ret = remove_to_limbo(&j->place, j->dir_fd, r->name, fd, false, &r->oid, limbo);
	}
	if (ret != 0) {
		close(fd);
		return ret;
	}
	ret = remove_tree(j, fd, false, 0);
	if (ret == 0) {
		ret = remove_tree(j, fd, true, 0);
	}
	if (ret == 0 && unlinkat(j->place.limbo_fd, limbo, AT_REMOVEDIR) == 0) {
		ret = remove_note(j, &r->oid, st.st_ino);
	} else if (renameat2(j->place.limbo_fd, limbo, j->dir_fd, r->name, RENAME_NOREPLACE)) {
		log_error("mirror", "%s is in use, yet could not be moved back from limbo/%s: %s",
				r->name, limbo, strerror(errno));
		ret = ret ? ret : -EBUSY;
	} else {
		ret = ret ? ret : -EBUSY;
	}
	close(fd);
	return ret;
}

static void remove_run(struct disk_job *job)
{
	struct remove_job *j = (struct remove_job *)job;
	struct removal *r;

	for (r = j->list; r != NULL; r = r->next) {
		if ((r->held & OFS_WIRE_HELD_KEEP) != 0 || (r->is_dir && r->held != 0)) {
			r->status = -EAGAIN;
		} else {
			r->status = r->is_dir ? remove_dir(j, r) : remove_file(j, r);
		}
	}
}

/* ---- rows ---- */

uint64_t mirror_rows_below(struct index *ix, const struct row *row)
{
	const struct row *c;
	uint64_t n = 0;

	for (c = index_s3_child(ix, row); c != NULL; c = index_s3_next(ix, c)) {
		n += (c->live == ROW_HERE ? 1 : 0) + (c->is_dir ? mirror_rows_below(ix, c) : 0);
	}
	return n;
}

void mirror_forget(struct mirror *m, struct row *row)
{
	struct index *ix = m->v->index;
	struct row *c, *next;

	if (row->in_s3 || row->live != ROW_NOT_HERE || row->work != NULL ||
			ofs_oid_equal(&row->oid, &OFS_OID_ROOT)) {
		return;
	}
	for (c = index_s3_child(ix, row); c != NULL; c = next) {
		next = index_s3_next(ix, c);
		if (c->live == ROW_NOT_HERE && c->work == NULL) {
			index_clear_s3(ix, c);
			mirror_forget(m, c);
		}
	}
	if (!row_has_children(row)) {
		index_remove(ix, row);
	}
}

/* Those of its files that are in use say when to try again. */
static void remove_later(struct remove_job *j, const struct removal *r)
{
	for (size_t i = r->first; r->status == -EAGAIN && i < r->first + r->count; i++) {
		mirror_later(j->m, &j->dir->oid, j->inodes[i]);
	}
}

static void remove_done(struct disk_job *job)
{
	struct remove_job *j = (struct remove_job *)job;
	struct index *ix = j->m->v->index;
	uint64_t stayed = 0;
	struct removal *r;
	size_t i;

	for (i = 0; i < j->gone_count; i++) {
		struct row *row = index_get(ix, &j->gone[i].oid);

		evict_note_gone(j->m->v->evictor, &j->gone[i].oid);
		if (row == NULL || row->live == ROW_TRASHED) {
			continue;
		}
		if (row->live == ROW_HERE) {
			index_set_live(ix, row, ROW_NOT_HERE);
		}
		index_clear_s3(ix, row);
		mirror_forget(j->m, row);
	}
	while ((r = j->list) != NULL) {
		j->list = r->next;
		if (r->status == 0) {
			stats_add(remote_changes, 1);
			mirror_dir_news(j->dir, OFS_WIRE_NOTIFY_REMOVED, r->name, r->is_dir);
			if (r->limbo) {
				mirror_later_limbo(j->m, &r->oid);
			}
		} else {
			stayed += r->rows;
			remove_later(j, r);
			log_line(LOG_LVL_INFO, "mirror", j->request_id,
					"%s is gone from the bucket but stays for now: %s", r->name,
					r->status == -EAGAIN || r->status == -EBUSY
							? "in use, or changed here"
							: strerror(-r->status));
		}
		free(r->name);
		free(r);
	}
	free(j->gone);
	free(j->inodes);
	close(j->dir_fd);
	j->done(stayed, j->arg);
	free(j);
}

static void remove_asked(const uint8_t *states, void *arg)
{
	struct remove_job *j = arg;

	for (struct removal *r = j->list; r != NULL; r = r->next) {
		for (size_t i = r->first; i < r->first + r->count; i++) {
			r->held |= states != NULL ? states[i] : OFS_WIRE_HELD_KEEP;
		}
	}
	disk_submit(j->m->v->disk, DISK_ANY, &j->job);
}

/* The files at and below a row. */
static bool remove_collect(struct remove_job *j, const struct row *row)
{
	struct index *ix = j->m->v->index;
	const struct row *c;

	if (row->live != ROW_HERE) {
		return true;
	}
	if (row_is_coming(row)) {
		return false; /* whether somebody has it open is not known */
	}
	if (row->is_dir) {
		for (c = index_live_child(ix, row); c != NULL; c = index_live_next(ix, c)) {
			if (!remove_collect(j, c)) {
				return false;
			}
		}
		return true;
	}
	if (j->inode_count == j->inode_cap) {
		size_t cap = j->inode_cap ? j->inode_cap * 2 : 64;
		uint64_t *inodes = realloc(j->inodes, cap * sizeof(*inodes));

		if (inodes == NULL) {
			return false;
		}
		j->inodes = inodes;
		j->inode_cap = cap;
	}
	j->inodes[j->inode_count++] = row->ino;
	return true;
}

void mirror_remove(struct mirror *m, uint64_t request_id, struct mirror_dir *dir,
		struct removal *list, void (*done)(uint64_t stayed, void *arg), void *arg)
{
	struct remove_job *j = calloc(1, sizeof(*j));
	int fd = j ? fcntl(dir->fd, F_DUPFD_CLOEXEC, 0) : -1;
	uint64_t stayed = 0;
	struct removal *r;

	if (fd < 0) {
		free(j);
		while ((r = list) != NULL) {
			list = r->next;
			stayed += r->rows;
			free(r->name);
			free(r);
		}
		done(stayed, arg);
		return;
	}
	j->m = m;
	j->request_id = request_id;
	j->dir = dir;
	j->place = mirror_place_of(m);
	j->dir_fd = fd;
	j->list = list;
	j->done = done;
	j->arg = arg;
	j->job.what = "mirror remove";
	j->job.run = remove_run;
	j->job.done = remove_done;
	for (r = list; r != NULL; r = r->next) {
		const struct row *row = index_get(m->v->index, &r->oid);

		r->first = j->inode_count;
		if (row != NULL && !remove_collect(j, row)) {
			r->held = OFS_WIRE_HELD_KEEP;
		}
		r->count = j->inode_count - r->first;
	}
	mirror_held(m, j->inodes, j->inode_count, remove_asked, j);
}
