/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: read the tree: what is at a place, and whether what has left it is in trash/.
 * Way: works -> disk job (DISK_ORDER, so that answers come in the order of the looks) ->
 *      rows and items.
 * Thread: *_run on a worker, without core state; the rest on the core.
 * Owns: its jobs; they carry plain copies.
 * Holds:
 *  1. the tree is the truth about where an inode is; of two looks the later one wins;
 *  2. what is absent is deleted only if trash/ says that a client deleted it (rule 20);
 *  3. an inode without a record of its own gets one here and is new and dirty; a copied stub is
 *     left alone and reported.
 */
#include "private.h"
#include "../evict/evict.h"
#include "../upload/begun.h"
#include "../upload/blocks.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shared/samba.h"

#define LOOK_DIR_TRIES 30 /* 100 ms apart, until a directory is taken for gone */
#define LOOK_MOVING_NS (10 * NS_PER_S) /* those, and a scan that tells */

/* Worker. The record of an inode; new inodes get theirs. */
static int look_record(const struct ofs_record_io *rio, struct ofs_shm *shm, struct clock *clock,
		int fd, const struct stat *st, struct seen *s)
{
	uint32_t stripe = ofs_shm_stripe_of(st->st_ino);
	int rc = ofs_record_get(rio, fd, &s->rec);

	if (rc == 0) {
		return 0;
	}
	if (rc != -ENODATA && rc != -EXDEV && rc != -EBADMSG) {
		return rc;
	}
	if (S_ISREG(st->st_mode) &&
			((st->st_mode & OFS_MARKER_MODE) ||
					(rc == -EXDEV && (s->rec.flags & OFS_REC_STUB)))) {
		return -EXDEV;
	}
	if (S_ISREG(st->st_mode) && st->st_nlink > 1) {
		return -EMLINK; /* whose it is cannot be told: its other name may be anywhere */
	}
	rc = ofs_shm_lock(shm, stripe, 2000);
	if (rc != 0) {
		return rc;
	}
	rc = ofs_record_get(rio, fd, &s->rec);
	if (rc == -ENODATA || rc == -EXDEV || rc == -EBADMSG) {
		memset(&s->rec, 0, sizeof(s->rec));
		clock_random(clock, &s->rec.oid, sizeof(s->rec.oid));
		s->rec.flags = S_ISDIR(st->st_mode) ? OFS_REC_DIR | OFS_REC_META_DIRTY | OFS_REC_MARKED
						    : OFS_REC_DATA_DIRTY | OFS_REC_META_DIRTY;
		s->rec.data_gen = 1;
		s->rec.meta_gen = 1;
		rc = ofs_record_set(rio, fd, &s->rec);
		s->adopted = rc == 0;
	}
	ofs_shm_unlock(shm, stripe);
	return rc;
}

/* Worker. */
void look_at(const struct ofs_record_io *rio, struct ofs_shm *shm, struct clock *clock, int dirfd,
		struct seen *s)
{
	struct stat st;
	int fd;

	if (ofs_samba_tmpname(s->name)) {
		s->status = -EINVAL;
		return;
	}
	fd = openat(dirfd, s->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		s->status = -errno;
		return;
	}
	if (fstat(fd, &st) != 0) {
		s->status = -errno;
	} else if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		s->status = -EINVAL;
	} else {
		s->is_dir = S_ISDIR(st.st_mode);
		s->ino = st.st_ino;
		s->bytes = S_ISREG(st.st_mode) ? (uint64_t)st.st_blocks * 512 : 0;
		s->status = look_record(rio, shm, clock, fd, &st, s);
	}
	close(fd);
}

/* Worker. Open a directory by path and make sure that it is still the one meant. */
int look_open_dir(int tree_fd, const struct ofs_record_io *rio, const char *path,
		const struct ofs_oid *oid, int flags)
{
	struct ofs_record rec;
	int fd = mirror_open_beneath(tree_fd, path, flags | O_DIRECTORY | O_CLOEXEC);
	int rc;

	if (fd < 0) {
		return fd;
	}
	rc = ofs_record_get(rio, fd, &rec);
	if (rc != 0 || !ofs_oid_equal(&rec.oid, oid)) {
		close(fd);
		return rc != 0 && rc != -ENODATA && rc != -EXDEV ? rc : -ESTALE;
	}
	return fd;
}

/* ---- on their way ---- */

bool look_is_moving(const struct reconcile *rc, const struct row *row)
{
	int64_t now = clock_now_ns(rc->v->clock);

	for (unsigned i = 0; row->live == ROW_NOT_HERE && i < RECONCILE_MOVING; i++) {
		if (now < rc->moving[i].until_ns && ofs_oid_equal(&rc->moving[i].oid, &row->oid)) {
			return true;
		}
	}
	return false;
}

/* A listing that took it for one that is only in S3 would make a second file of its id. */
static void look_moves(struct reconcile *rc, const struct row *row)
{
	unsigned i = rc->moving_at++ % RECONCILE_MOVING;

	rc->moving[i].oid = row->oid;
	rc->moving[i].until_ns = clock_now_ns(rc->v->clock) + LOOK_MOVING_NS;
}

/* It has been found: what is not here from now on is only in S3. */
static void look_has_moved(struct reconcile *rc, const struct ofs_oid *oid)
{
	for (unsigned i = 0; i < RECONCILE_MOVING; i++) {
		if (ofs_oid_equal(&rc->moving[i].oid, oid)) {
			rc->moving[i].until_ns = 0;
		}
	}
}

/* Core. Take in what was seen at parent/name; the item made for it, or NULL. */
struct work *look_found(struct reconcile *rc, const struct ofs_oid *parent,
		const struct seen *s, int64_t delay_ns)
{
	struct index *ix = rc->v->index;
	struct row *row = index_add(ix, &s->rec.oid, s->is_dir), *before;
	bool dirty = (s->rec.flags & (OFS_REC_DATA_DIRTY | OFS_REC_META_DIRTY)) != 0;
	bool moved;

	if (row == NULL) {
		rc->rescan_wanted = true;
		return NULL;
	}
	if (!s->is_dir && !(s->rec.flags & OFS_REC_STUB)) {
		evict_note(rc->v->evictor, &s->rec.oid, s->bytes);
	}
	before = index_at_live(ix, parent, s->name);
	if (before != NULL && before != row) {
		look_trash(rc, &before->oid); /* it loses the place: moved, or deleted? */
	}
	index_set_here(ix, row, parent, s->name, s->ino);
	look_has_moved(rc, &row->oid);
	if (!row->in_s3 && (s->rec.flags & OFS_REC_KNOWN)) {
		/* The index lost it: assume the same place; the fence is asked for before use. */
		char *raw = name_to_raw(rc, s->name, s->is_dir);

		if (raw != NULL && reconcile_assume_place(rc, row, parent, raw)) {
			whose_lost(ix, row, &s->rec.clean);
			index_set_gens(ix, row, s->rec.data_gen, s->rec.meta_gen);
		}
		talloc_free(raw);
	}
	moved = row->in_s3 && !step_at_home(row);
	if (!dirty && row->in_s3 && !moved) {
		limit_over(rc, row);
		return row->work; /* in agreement; an item that runs will see so itself */
	}
	return work_item(rc, row, delay_ns);
}

/* ---- trash ---- */

static void trash_name(const struct ofs_oid *oid, bool is_dir, char name[2 + OFS_OID_HEX_BYTES])
{
	name[0] = is_dir ? 'd' : 'f';
	name[1] = '.';
	ofs_oid_hex(oid, name + 2);
}

/* Worker. Did a client delete it? A file with two links was only about to be: the client's process
 * died before it unlinked the name. */
static bool trash_has(int trash_fd, const struct ofs_oid *oid, bool *is_dir)
{
	char name[2 + OFS_OID_HEX_BYTES];
	struct stat st;
	int d;

	for (d = 0; d < 2; d++) {
		trash_name(oid, d == 1, name);
		if (fstatat(trash_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
				(d == 1 || st.st_nlink == 1)) {
			*is_dir = d == 1;
			return true;
		}
	}
	return false;
}

/* Core. A client deleted it: the item that tells S3, or NULL. */
struct work *look_deleted(struct reconcile *rc, const struct ofs_oid *oid, bool is_dir)
{
	struct row *row = index_get(rc->v->index, oid);

	if (row == NULL) {
		/* The index is lost, and with it the key. The row stays: a listing that meets an object
		 * of this id knows by it that the object is deleted. */
		row = index_add(rc->v->index, oid, is_dir);
		if (row != NULL) {
			index_set_live(rc->v->index, row, ROW_TRASHED);
			index_set_fence(rc->v->index, row, NULL, ROW_LOST, NULL, 0, 0);
		}
		return NULL;
	}
	if (row->live == ROW_HERE) {
		/* Perhaps the client's process died before it removed the name: the tree decides. The id
		 * goes along, for by then another may have taken the place in the index. */
		return work_place_gone(rc, &row->parent, row->name, oid);
	}
	index_set_live(rc->v->index, row, ROW_TRASHED);
	return work_item(rc, row, -1);
}

/* ---- a place ---- */

void look_warn(int status, const char *dir, const char *name)
{
	if (status == -EXDEV) {
		log_warning("reconcile", "%s/%s is a copied stub: not opened, not uploaded; copy the file "
				"through the share instead, or, if its bytes are known to be right, chmod -t "
				"and objectfsctl refresh", dir, name);
	} else if (status == -EMLINK) {
		log_warning("reconcile", "%s/%s has another hard link, made by a local program: not uploaded; "
				"copy the file instead, or remove the other name, and objectfsctl refresh",
				dir, name);
	}
}

struct look_job {
	struct disk_job job;
	struct work *place; /* core only; lives while running */
	struct ofs_record_io rio;
	struct ofs_shm *shm;
	struct clock *clock;
	int tree_fd;
	char *path; /* of the parent */
	struct ofs_oid parent;
	struct seen seen;
	bool lost;  /* no such directory, for so long that nothing can be at this place */
	int dir_status;
	int trash_fd;
	struct ofs_oid gone[WORK_GONE_MAX + 1];
	bool gone_deleted[WORK_GONE_MAX + 1], gone_is_dir[WORK_GONE_MAX + 1];
	unsigned gone_hinted, gone_count; /* those hints told of come first */
};

static void look_run(struct disk_job *job)
{
	struct look_job *l = (struct look_job *)job;
	unsigned i;
	int fd = -1;

	if (!l->lost) {
		fd = look_open_dir(l->tree_fd, &l->rio, l->path, &l->parent, O_PATH);
		l->dir_status = fd < 0 ? fd : 0;
	}
	if (fd >= 0) {
		look_at(&l->rio, l->shm, l->clock, fd, &l->seen);
		close(fd);
	} else {
		l->seen.status = -ENOENT;
	}
	for (i = 0; i < l->gone_count; i++) {
		l->gone_deleted[i] = trash_has(l->trash_fd, &l->gone[i], &l->gone_is_dir[i]);
	}
}

/* No hint says where it went: killed after it had given a file a conflict name, the daemon finds it so. */
static void look_renamed_unsaid(struct reconcile *rc, const struct look_job *l, unsigned i)
{
	struct row *dir = index_get(rc->v->index, &l->parent);

	if (!l->gone_deleted[i] && i >= l->gone_hinted && !l->lost && dir != NULL) {
		scan_dir(rc, dir);
	}
}

/* Core. What had been here and is not any more; the item for a deleted one, or NULL. */
static struct work *look_gone(struct reconcile *rc, const struct look_job *l)
{
	struct index *ix = rc->v->index;
	struct work *item = NULL;
	unsigned i;

	for (i = 0; i < l->gone_count; i++) {
		struct row *row = index_get(ix, &l->gone[i]);

		if (l->seen.status == 0 && ofs_oid_equal(&l->seen.rec.oid, &l->gone[i])) {
			continue;
		}
		if (row != NULL && row->live == ROW_HERE && ofs_oid_equal(&row->parent, &l->parent) &&
				strcmp(row->name, l->seen.name) == 0) {
			bool coming = row_is_coming(row);

			/* A trashed row remembers its last place, the other does not. */
			index_set_live(ix, row, l->gone_deleted[i] ? ROW_TRASHED : ROW_NOT_HERE);
			rc->unseen_gone |= coming; /* never made; or moved, and the scan finds it */
			if (!l->gone_deleted[i] && !coming) {
				look_moves(rc, row);
			}
			look_renamed_unsaid(rc, l, i);
		}
		if (l->gone_deleted[i]) {
			item = look_deleted(rc, &l->gone[i], l->gone_is_dir[i]);
		} else if (row != NULL && row->live == ROW_NOT_HERE && !row->in_s3 && row->work == NULL &&
				!row_has_children(row)) {
			evict_note_gone(rc->v->evictor, &row->oid);
			index_remove(ix, row); /* came and went before S3 heard of it */
		}
	}
	return item;
}

static void look_done(struct disk_job *job)
{
	struct look_job *l = (struct look_job *)job;
	struct work *w = l->place, *item = NULL;
	struct reconcile *rc = w->rc;
	struct work *gone;
	unsigned i;

	rc->places_running--;
	if (log_get_level() >= LOG_LVL_DEBUG) {
		char hex[OFS_OID_HEX_BYTES];

		ofs_oid_hex(&l->seen.rec.oid, hex);
		log_debug("reconcile", "look %s/%s: %d %.8s flags %x, %u gone", l->path, l->seen.name,
				l->dir_status ? l->dir_status : l->seen.status, hex,
				l->seen.rec.flags, l->gone_count);
	}
	if (l->dir_status != 0) {
		/* The parent moved or went meanwhile: its own place says where. */
		l->lost = l->dir_status == -ENOENT || l->dir_status == -ENOTDIR ||
				l->dir_status == -ESTALE;
		if (!l->lost || w->failures < LOOK_DIR_TRIES) {
			for (i = 0; i < l->gone_hinted && w->gone_count < WORK_GONE_MAX; i++) {
				w->gone[w->gone_count++] = l->gone[i];
			}
			if (l->lost) {
				w->failures++;
				work_postpone(w, 100 * NS_PER_MS, "its directory has moved");
			} else {
				w->disk_failed = l->dir_status == -EIO;
				work_failed(w, "its directory cannot be looked at: %s",
						strerror(-l->dir_status));
			}
			goto out;
		}
	}
	if (l->lost && l->gone_count > 0) {
		/* Deleted before its directory was. Should it have moved with it unseen, a scan tells. */
		log_debug("reconcile", "%s: its directory is gone", w->name);
		rc->rescan_wanted = true;
	}
	rc->since_ns = w->first_ns;
	/* Before what is here now takes the place; `again` serves looks that this asks for. */
	gone = look_gone(rc, l);
	if (l->seen.status == 0) {
		item = look_found(rc, &l->parent, &l->seen, w->urgent ? 0 : -1);
		if (l->seen.is_dir &&
				(l->seen.adopted || (w->scan && (l->seen.rec.flags & OFS_REC_MARKED)))) {
			struct row *dir = index_get(rc->v->index, &l->seen.rec.oid);

			if (dir != NULL) {
				scan_dir(rc, dir);
			}
		}
		w->scan = false;
	} else if (l->seen.status == -EXDEV || l->seen.status == -EMLINK) {
		look_warn(l->seen.status, l->path, l->seen.name);
	} else if (l->seen.status != -EINVAL && l->seen.status != -ENOENT) {
		rc->since_ns = 0;
		w->disk_failed = l->seen.status == -EIO;
		work_failed(w, "cannot be looked at: %s", strerror(-l->seen.status));
		goto out;
	}
	rc->since_ns = 0;
	if (item == NULL) {
		item = gone;
	}
	if (item != NULL && item != w) {
		work_move_waiters(w, item);
	}
	work_done(w);
out:
	free(l->seen.name);
	free(l->path);
	free(l);
}

void look_start(struct work *place)
{
	struct reconcile *rc = place->rc;
	struct row *dir = index_get(rc->v->index, &place->parent);
	char *path = dir != NULL && dir->live == ROW_HERE ? index_path(rc->v->index, place, dir) : NULL;
	bool lost = path == NULL;
	struct row *here;
	struct look_job *l;

	if (lost) {
		/* A parent not looked at yet (rings have no common order), or one that is gone. */
		if (place->failures++ < LOOK_DIR_TRIES) {
			work_postpone(place, 100 * NS_PER_MS, "its directory is not known yet");
			return;
		}
		if (dir == NULL) {
			rc->rescan_wanted = true;
		}
	}
	l = calloc(1, sizeof(*l));
	if (l == NULL || (l->path = strdup(path != NULL ? path : "?")) == NULL ||
			(l->seen.name = strdup(place->name)) == NULL) {
		if (l != NULL) {
			free(l->path);
		}
		free(l);
		talloc_free(path);
		work_failed(place, "out of memory");
		return;
	}
	talloc_free(path);
	l->job.what = "look";
	l->job.run = look_run;
	l->job.done = look_done;
	l->place = place;
	l->rio = rc->v->rio;
	l->shm = rc->v->shm;
	l->clock = rc->v->clock;
	l->tree_fd = rc->v->tree_fd;
	l->parent = place->parent;
	l->lost = lost;
	l->trash_fd = rc->v->trash_fd;
	for (l->gone_count = 0; l->gone_count < place->gone_count; l->gone_count++) {
		l->gone[l->gone_count] = place->gone[l->gone_count];
	}
	l->gone_hinted = l->gone_count;
	place->gone_count = 0;
	here = index_at_live(rc->v->index, &place->parent, place->name);
	if (here != NULL) {
		l->gone[l->gone_count++] = here->oid;
	}
	rc->places_running++;
	disk_submit(rc->v->disk, DISK_ORDER, &l->job);
}

/* ---- one id in trash ---- */

struct trash_job {
	struct disk_job job;
	struct reconcile *rc; /* core only */
	int trash_fd, blocks_fd;
	struct ofs_oid oid;
	int64_t since_ns; /* of the work that asks */
	bool purge, is_dir, found;
};

static void trash_run(struct disk_job *job)
{
	struct trash_job *t = (struct trash_job *)job;
	char name[2 + OFS_OID_HEX_BYTES];
	int d;

	if (!t->purge) {
		t->found = trash_has(t->trash_fd, &t->oid, &t->is_dir);
		return;
	}
	for (d = 0; d < 2; d++) {
		trash_name(&t->oid, d == 1, name);
		unlinkat(t->trash_fd, name, 0);
	}
	blocks_forget(t->blocks_fd, &t->oid);
}

static void trash_done(struct disk_job *job)
{
	struct trash_job *t = (struct trash_job *)job;

	if (!t->purge) {
		t->rc->trash_running--;
		if (t->found) {
			t->rc->since_ns = t->since_ns;
			look_deleted(t->rc, &t->oid, t->is_dir);
			t->rc->since_ns = 0;
		}
		if (t->rc->work_count == 0) {
			marks_sweep_soon(t->rc);
		}
	}
	free(t);
}

static void trash_submit(struct reconcile *rc, const struct ofs_oid *oid, bool purge)
{
	struct trash_job *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		rc->rescan_wanted = true;
		return;
	}
	t->job.what = purge ? "purge trash" : "look into trash";
	t->job.run = trash_run;
	t->job.done = trash_done;
	t->rc = rc;
	t->trash_fd = rc->v->trash_fd;
	t->blocks_fd = rc->v->blocks_fd;
	t->oid = *oid;
	t->since_ns = rc->since_ns;
	t->purge = purge;
	rc->trash_running += !purge;
	disk_submit(rc->v->disk, DISK_ORDER, &t->job);
}

void look_trash(struct reconcile *rc, const struct ofs_oid *oid)
{
	if (!ofs_oid_is_none(oid)) {
		trash_submit(rc, oid, false);
	}
}

void look_purge_trash(struct reconcile *rc, const struct ofs_oid *oid)
{
	evict_note_gone(rc->v->evictor, oid);
	begun_look(rc->v->begun);
	trash_submit(rc, oid, true);
}

/* ---- what a deleted inode knows of its object ---- */

struct trash_record {
	struct disk_job job;
	struct attempt *a; /* core only */
	struct ofs_record_io rio;
	int trash_fd;
	struct ofs_oid oid;
	struct ofs_record rec; /* out; zeros: cannot be read */
	bool there; /* out */
	void (*go_on)(struct attempt *a, bool there);
};

static void trash_record_run(struct disk_job *job)
{
	struct trash_record *t = (struct trash_record *)job;
	char name[2 + OFS_OID_HEX_BYTES];

	trash_name(&t->oid, false, name);
	t->there = faccessat(t->trash_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
	if (!t->there || ofs_record_get_at(&t->rio, t->trash_fd, name, &t->rec) != 0) {
		memset(&t->rec, 0, sizeof(t->rec));
	}
}

static void trash_record_done(struct disk_job *job)
{
	struct trash_record *t = (struct trash_record *)job;

	whose_lost(t->a->v->index, t->a->row, &t->rec.clean);
	t->go_on(t->a, t->there);
	free(t);
}

void look_trash_record(struct attempt *a, void (*go_on)(struct attempt *a, bool there))
{
	struct trash_record *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		attempt_end_failed(a, "out of memory");
		return;
	}
	t->job.what = "look at a deleted file";
	t->job.run = trash_record_run;
	t->job.done = trash_record_done;
	t->a = a;
	t->rio = a->v->rio;
	t->trash_fd = a->v->trash_fd;
	t->oid = a->oid;
	t->go_on = go_on;
	disk_submit(a->v->disk, DISK_ANY, &t->job);
}

/* ---- send the data (again) ---- */

struct redirty_job {
	struct disk_job job;
	struct reconcile *rc; /* core only */
	struct ofs_record_io rio;
	struct ofs_shm *shm;
	int tree_fd;
	char *path;
	struct ofs_oid oid;
	bool set;
};

static void redirty_run(struct disk_job *job)
{
	struct redirty_job *r = (struct redirty_job *)job;
	struct ofs_record rec;
	struct stat st;
	int fd = mirror_open_beneath(r->tree_fd, r->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) != 0) {
		goto out;
	}
	if (ofs_shm_lock(r->shm, ofs_shm_stripe_of(st.st_ino), 2000) != 0) {
		goto out;
	}
	if (ofs_record_get(&r->rio, fd, &rec) == 0 && ofs_oid_equal(&rec.oid, &r->oid) &&
			!(rec.flags & OFS_REC_STUB)) {
		r->set = true;
		if (!(rec.flags & OFS_REC_DATA_DIRTY)) {
			rec.flags |= OFS_REC_DATA_DIRTY;
			rec.data_gen++;
			r->set = ofs_record_set(&r->rio, fd, &rec) == 0;
		}
	}
	ofs_shm_unlock(r->shm, ofs_shm_stripe_of(st.st_ino));
out:
	if (fd >= 0) {
		close(fd);
	}
}

static void redirty_done(struct disk_job *job)
{
	struct redirty_job *r = (struct redirty_job *)job;
	struct row *row = index_get(r->rc->v->index, &r->oid);

	if (r->set && row != NULL && row->live == ROW_HERE) {
		work_item(r->rc, row, -1);
	}
	free(r->path);
	free(r);
}

void look_redirty(struct reconcile *rc, const struct row *row)
{
	char *path = index_path(rc->v->index, rc, row);
	struct redirty_job *r = calloc(1, sizeof(*r));

	if (path == NULL || r == NULL || (r->path = strdup(path)) == NULL) {
		free(r);
		talloc_free(path);
		rc->rescan_wanted = true;
		return;
	}
	talloc_free(path);
	r->job.what = "mark dirty";
	r->job.run = redirty_run;
	r->job.done = redirty_done;
	r->rc = rc;
	r->rio = rc->v->rio;
	r->shm = rc->v->shm;
	r->tree_fd = rc->v->tree_fd;
	r->oid = row->oid;
	disk_submit(rc->v->disk, DISK_ORDER, &r->job);
}

void reconcile_send_again(struct reconcile *rc, struct row *row)
{
	struct work *item = work_item(rc, row, -1);

	if (item != NULL && row->is_dir) {
		item->times = true; /* its marker */
	}
}
