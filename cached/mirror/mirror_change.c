/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: a file whose object changed in the bucket becomes a stub of what is there now.
 * Way: from mirror_agree.c with what mirror_want.c found; mirror_held.c says whether clients have the
 *      file; a job works on it; the row follows.
 * Thread: core; change_run on workers.
 * Owns: the list of changes that are on the disk, and who waits for the end of each.
 * Holds: 1. a file is changed only if no client has it open, or may come back to it, and under F_WRLCK
 *           (nobody else has), clean, and still the same; the lease is looked at again when record and marker say
 *           stub (mirror_stub_say), for the kernel takes it away from who stands still for lease-break-time. Whoever
 *           opens the file later asks for its recall, which waits for the job (mirror_change_wait);
 *        2. rights that are newer here than what came with the object stay, and are dirty.
 */
#include "mirror_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../base/waits.h"
#include "../recall/recall.h"
#include "../reconcile/reconcile.h"
#include "../reconcile/whose.h"

struct change_job {
	struct disk_job job;
	struct change_job *next, **prev; /* core only; of those on the disk */
	struct waiter *waits;            /* core only */
	uint64_t ino;
	struct mirror *m;
	uint64_t request_id;
	struct mirror_dir *dir; /* core only */
	struct mirror_place place;
	int dir_fd; /* own */
	struct stub *s;
	uint64_t print;
	bool forgotten; /* the index was lost: bytes that are here may be nowhere else */
	bool only_here; /* out: they may */
	int status;
	void (*done)(int status, void *arg);
	void *arg;
};

/* The record of what is there now. */
static void change_record(struct stub *s, const struct ofs_record *was, struct ofs_record *now)
{
	mirror_stub_record(s, now);
	now->flags |= OFS_REC_STUB; /* until the old bytes are gone, also if none come */
	if (now->data_gen < was->data_gen) {
		now->data_gen = was->data_gen;
	}
	if (now->meta_gen < was->meta_gen) {
		/* Without rights, or with older ones, put over what had those that are here: no other place
		 * has them any more. */
		s->rights_kept = true;
		now->meta_gen = was->meta_gen + 1;
		now->flags |= OFS_REC_META_DIRTY;
	}
	s->data_gen = now->data_gen;
	s->meta_gen = now->meta_gen;
}

/* Record and marker first, so that a crash leaves a stub, and nobody has it open for a plain file: whoever got in by
 * force reads the old bytes, and it changes once he has closed it. Under the stripe's lock. */
static int change_mark(struct change_job *j, int fd)
{
	struct ofs_record was, now;
	struct stat st;
	int ret = ofs_record_get(&j->place.rio, fd, &was);

	if (ret == 0 && !ofs_oid_equal(&was.oid, &j->s->oid)) {
		ret = -ESTALE;
	}
	if (ret == 0 && (was.flags & (OFS_REC_DATA_DIRTY | OFS_REC_META_DIRTY)) != 0) {
		ret = -EBUSY;
	}
	if (ret == 0 && j->forgotten && (was.flags & OFS_REC_STUB) == 0) {
		ret = fstat(fd, &st) != 0 ? -errno : st.st_size > 0 ? -EBUSY : 0;
		j->only_here = ret == -EBUSY;
	}
	if (ret == 0) {
		ret = guard_pause(j->place.guard, fd, (was.flags & OFS_REC_STUB) != 0);
	}
	if (ret != 0) {
		return ret;
	}
	change_record(j->s, &was, &now);
	ret = mirror_stub_say(&j->place, fd, &was, &now);
	return ret == -EBUSY ? -EAGAIN : ret;
}

/* The old bytes go, the new metadata come. */
static int change_apply(struct change_job *j, int fd)
{
	struct stub *s = j->s;
	int ret = 0;

	if (ftruncate(fd, 0) != 0 || ftruncate(fd, s->size) != 0) {
		return -errno;
	}
	if (s->snapshot != NULL && !s->rights_kept) {
		ret = snapshot_apply(fd, j->place.rio.xattr, s->snapshot);
		if (ret == 0) {
			ret = mirror_marker_set(j->place.guard, fd, true);
		}
	}
	return ret;
}

/* An empty object needs no recall: plain at once. */
static int change_make_plain(struct change_job *j, int fd)
{
	struct ofs_record rec;
	uint32_t stripe;
	int ret = mirror_lock(j->place.shm, fd, &stripe);

	if (ret != 0) {
		return ret;
	}
	ret = ofs_record_get(&j->place.rio, fd, &rec);
	if (ret == 0 && ofs_oid_equal(&rec.oid, &j->s->oid) &&
			(rec.flags & OFS_REC_STUB) != 0) {
		rec.flags &= ~(uint32_t)OFS_REC_STUB;
		ret = snapshot_apply_times(fd, rec.mtime_ns, rec.atime_ns);
		if (ret == 0) {
			ret = ofs_record_set(&j->place.rio, fd, &rec);
		}
		if (ret == 0) {
			ret = mirror_marker_set(j->place.guard, fd, false);
		}
	}
	ofs_shm_unlock(j->place.shm, stripe);
	return ret;
}

static void change_run(struct disk_job *job)
{
	struct change_job *j = (struct change_job *)job;
	int fd = mirror_open_alone(j->dir_fd, j->s->name);
	uint32_t stripe;

	if (fd < 0) {
		j->status = fd;
		return;
	}
	j->status = mirror_lock(j->place.shm, fd, &stripe);
	if (j->status == 0) {
		j->status = change_mark(j, fd);
		ofs_shm_unlock(j->place.shm, stripe);
	}
	if (j->status == 0) {
		j->status = change_apply(j, fd);
		if (j->status == 0 && j->s->size == 0) {
			j->status = change_make_plain(j, fd);
		}
		guard_resume(j->place.guard, fd);
	}
	mirror_lease_drop(fd);
	close(fd);
}

bool mirror_change_wait(struct mirror *m, uint64_t ino, void (*fn)(void *arg), void *arg)
{
	struct change_job *j = m->changes;

	while (j != NULL && j->ino != ino) {
		j = j->next;
	}
	if (j == NULL) {
		return false;
	}
	waits_add(&j->waits, m, fn, arg); /* the recall would fill what is being emptied */
	return true;
}

static void change_finish(struct change_job *j)
{
	struct index *ix = j->m->v->index;
	struct stub *s = j->s;
	struct row *row = index_get(ix, &s->oid);

	if (j->status == 0 && row != NULL && mirror_row_print(row) == j->print) {
		index_set_fence(ix, row, s->etag, s->version_id, &s->wid, s->size, s->s3_mtime_ns);
		index_set_plain(ix, row, s->plain);
		index_set_gens(ix, row, s->data_gen, s->meta_gen);
		index_set_sha256(ix, row, NULL);
		index_set_object(ix, row, true);
		stats_add(remote_changes, 1);
		if (s->rights_kept && j->m->v->reconcile != NULL) {
			reconcile_touch(j->m->v->reconcile, row);
		}
		mirror_dir_news(j->dir, OFS_WIRE_NOTIFY_MODIFIED, s->name, false);
		evict_note_gone(j->m->v->evictor, &s->oid);
	} else if (j->status != 0) {
		if (j->status == -EAGAIN && row != NULL && row->live == ROW_HERE) {
			mirror_later(j->m, &j->dir->oid, row->ino);
		}
		if (j->only_here && row != NULL && j->m->v->reconcile != NULL) {
			reconcile_touch(j->m->v->reconcile, row); /* which keeps both */
		}
		log_line(LOG_LVL_INFO, "mirror", j->request_id,
				"%s changed in the bucket; not applied yet: %s", s->name,
				j->status == -EAGAIN || j->status == -EBUSY ? "in use"
									   : strerror(-j->status));
	}
	stub_free(&j->s);
	close(j->dir_fd);
	j->done(j->status, j->arg);
	free(j);
}

static void change_done(struct disk_job *job)
{
	struct change_job *j = (struct change_job *)job;
	struct waiter *waits = j->waits;

	*j->prev = j->next;
	if (j->next != NULL) {
		j->next->prev = j->prev;
	}
	change_finish(j);
	waits_end(&waits);
}

/* What a client holds open, or may come back to, keeps its bytes. */
static void change_asked(const uint8_t *states, void *arg)
{
	struct change_job *j = arg;

	if (states == NULL || states[0] != 0) {
		j->status = states == NULL ? -ENOMEM : -EAGAIN;
		change_finish(j);
		return;
	}
	j->next = j->m->changes;
	j->prev = &j->m->changes;
	if (j->next != NULL) {
		j->next->prev = &j->next;
	}
	j->m->changes = j;
	disk_submit(j->m->v->disk, DISK_ANY, &j->job);
}

void mirror_change(struct mirror *m, uint64_t request_id, struct mirror_dir *dir, struct stub *s,
		void (*done)(int status, void *arg), void *arg)
{
	struct row *row = index_get(m->v->index, &s->oid);
	struct change_job *j;
	int fd;

	if (row == NULL || (m->v->recalls != NULL && recall_busy(m->v->recalls, row->ino))) {
		if (row != NULL) {
			mirror_later(m, &dir->oid, row->ino);
		}
		stub_free(&s);
		done(-EAGAIN, arg);
		return;
	}
	j = calloc(1, sizeof(*j));
	fd = j ? fcntl(dir->fd, F_DUPFD_CLOEXEC, 0) : -1;
	if (fd < 0) {
		free(j);
		stub_free(&s);
		done(-ENOMEM, arg);
		return;
	}
	j->m = m;
	j->ino = row->ino;
	j->request_id = request_id;
	j->dir = dir;
	j->place = mirror_place_of(m);
	j->dir_fd = fd;
	j->s = s;
	j->print = mirror_row_print(row);
	j->forgotten = whose_is_forgotten(row);
	j->done = done;
	j->arg = arg;
	j->job.what = "mirror change";
	j->job.run = change_run;
	j->job.done = change_done;
	mirror_held(m, &row->ino, 1, change_asked, j);
}
