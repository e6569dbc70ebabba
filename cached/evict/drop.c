/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the stubs of a directory that nobody uses leave the mirror: names, rights, times and streams
 *       are in S3, and come back with the next lookup or listing.
 * Way: census.c, objectfsctl -> evict_drop -> look (a disk job) -> rows -> commit -> remove (a disk
 *      job) -> rows -> done.
 * Thread: core; look_run and remove_run on workers.
 * Owns: the queue of drops, of which the first is under way; those who wait for that.
 * Holds: 1. a stub goes only if S3 has it and its metadata: clean by its record, at home by its row,
 *           nobody's work; all files of the directory are such, or none goes;
 *        2. the directory is not LISTED before the first row says "not here", and the rows are committed
 *           before the first name goes: killed anywhere, a name that is missing is asked of S3. Files
 *           that a kill leaves without their rows are found by a scan (INDEX_KV_DROP, scan.c);
 *        3. who asks about the directory waits for the drop (mirror_locate), and whoever uses one whose
 *           listing is old has to ask; where it is young nothing is dropped;
 *        4. nothing is deleted in S3, for nothing is put into trash/.
 *
 *   asked -> look, LISTED off -> rows NOT_HERE -> commit -> limbo/, unlink each -> rows of what stayed
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../base/waits.h"
#include "../core/rings.h"
#include "../recall/recall.h"
#include "../reconcile/reconcile.h"

struct drop { /* talloc child of the evictor; core only */
	struct drop *next, **prev;
	struct evictor *ev;
	struct ofs_oid dir;
	int64_t before_ns;
	bool running, committing;
	struct drop_job *job;
	struct waiter *waits;
	void (*done)(void *arg, int status, uint64_t count);
	void *arg;
};

struct drop_file {
	char *name;
	struct ofs_oid oid;
	uint64_t ino;
	int status;
};

struct drop_job { /* malloc; two jobs, one after the other */
	struct disk_job job;
	struct drop *d; /* core only */
	struct mirror_target dir;
	char *path;
	int64_t before_ns;
	struct drop_file *files;
	size_t count, cap;
	int status;
};

/* ---- look: a worker ---- */

/* 0: it may go; -EALREADY: no file; -EBUSY. */
static int look_entry(struct drop_job *j, const char *name, struct drop_file *f)
{
	struct ofs_record rec;
	struct stat st;
	int fd, ret;

	if (fstatat(j->dir.fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		return -errno;
	}
	if (S_ISDIR(st.st_mode)) {
		return -EALREADY;
	}
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || timespec_ns(st.st_ctim) >= j->before_ns) {
		return -EBUSY;
	}
	fd = mirror_open_alone(j->dir.fd, name);
	if (fd < 0) {
		return -EBUSY;
	}
	ret = ofs_record_get(&j->dir.place.rio, fd, &rec);
	mirror_lease_drop(fd);
	close(fd);
	if (ret != 0 || !mirror_may_drop(&rec, &st)) {
		return -EBUSY;
	}
	f->oid = rec.oid;
	f->ino = st.st_ino;
	f->name = strdup(name);
	return f->name != NULL ? 0 : -ENOMEM;
}

static int look_names(struct drop_job *j)
{
	int own = openat(j->dir.fd, ".", O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC), ret = 0;
	DIR *dir = own >= 0 ? fdopendir(own) : NULL;
	struct dirent *de;

	if (dir == NULL) {
		ret = -errno;
		if (own >= 0) {
			close(own);
		}
		return ret;
	}
	while (ret == 0 && (errno = 0, de = readdir(dir)) != NULL) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0) {
			continue;
		}
		if (j->count == j->cap) {
			size_t cap = j->cap ? j->cap * 2 : 64;
			struct drop_file *more = realloc(j->files, cap * sizeof(*more));

			if (more == NULL) {
				ret = -ENOMEM;
				break;
			}
			j->files = more;
			j->cap = cap;
		}
		memset(&j->files[j->count], 0, sizeof(*j->files));
		ret = look_entry(j, de->d_name, &j->files[j->count]);
		j->count += ret == 0;
		ret = ret == -EALREADY ? 0 : ret;
	}
	ret = ret == 0 ? -errno : ret;
	closedir(dir);
	return ret != 0 ? ret : j->count == 0 ? -EALREADY : 0;
}

/* From now on a name that is not here is asked for; -EBUSY: somebody may rely on the last listing. */
static int look_unlist(struct drop_job *j, bool really)
{
	struct ofs_record rec;
	uint32_t stripe;
	int ret = mirror_lock(j->dir.place.shm, j->dir.fd, &stripe);

	if (ret != 0) {
		return ret;
	}
	ret = ofs_record_get(&j->dir.place.rio, j->dir.fd, &rec);
	if (ret == 0 && !ofs_oid_equal(&rec.oid, &j->dir.oid)) {
		ret = -ESTALE;
	}
	if (ret == 0 && (rec.flags & OFS_REC_LISTED) != 0 && rec.listed_ns >= j->before_ns) {
		ret = -EBUSY; /* whoever uses it has it listed anew */
	}
	if (ret == 0 && really && (rec.flags & OFS_REC_LISTED) != 0) {
		rec.flags &= ~(uint32_t)OFS_REC_LISTED;
		rec.listed_ns = 0;
		ret = ofs_record_set(&j->dir.place.rio, j->dir.fd, &rec);
	}
	ofs_shm_unlock(j->dir.place.shm, stripe);
	return ret;
}

static void look_run(struct disk_job *job)
{
	struct drop_job *j = (struct drop_job *)job;
	struct stat st;

	j->dir.fd = mirror_open_beneath(j->dir.place.tree_fd, j->path,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME);
	if (j->dir.fd < 0) {
		j->status = j->dir.fd;
		return;
	}
	if (fstat(j->dir.fd, &st) != 0) {
		j->status = -errno;
		return;
	}
	j->dir.changes = atomic_load(
			&j->dir.place.shm->stripe[ofs_shm_stripe_of(st.st_ino)].changes);
	j->status = fstat(j->dir.fd, &st) == 0 ? 0 : -errno;
	j->dir.mtime = st.st_mtim;
	j->status = j->status == 0 ? look_unlist(j, false) : j->status;
	j->status = j->status == 0 ? look_names(j) : j->status;
	j->status = j->status == 0 ? look_unlist(j, true) : j->status;
}

/* ---- remove: a worker ---- */

static void remove_run(struct disk_job *job)
{
	struct drop_job *j = (struct drop_job *)job;

	for (size_t i = 0; i < j->count; i++) {
		struct drop_file *f = &j->files[i];

		f->status = mirror_drop_one(&j->dir.place, j->dir.fd, f->name, &f->oid);
	}
	mirror_target_keep_times(&j->dir);
}

/* ---- the core ---- */

bool evict_drop_wait(struct evictor *ev, const struct ofs_oid *dir, void (*fn)(void *arg), void *arg)
{
	struct drop *d = ev != NULL ? ev->drops : NULL;

	if (d == NULL || !d->running || !ofs_oid_equal(&d->dir, dir)) {
		return false;
	}
	waits_add(&d->waits, d, fn, arg); /* a listing would make what is being removed */
	return true;
}

static void drop_job_free(struct drop *d)
{
	struct drop_job *j = d->job;

	d->job = NULL;
	if (j == NULL) {
		return;
	}
	for (size_t i = 0; i < j->count; i++) {
		free(j->files[i].name);
	}
	if (j->dir.fd >= 0) {
		close(j->dir.fd);
	}
	free(j->files);
	free(j->path);
	free(j);
}

/* The daemon ends: what waits for a commit is nobody's any more; what a worker has is the worker's. */
static int drop_destructor(struct drop *d)
{
	if (d->committing) {
		drop_job_free(d);
	}
	return 0;
}

static void drops_go(struct evictor *ev);

static void drop_end(struct drop *d, int status, uint64_t count)
{
	struct evictor *ev = d->ev;

	*d->prev = d->next;
	if (d->next != NULL) {
		d->next->prev = d->prev;
	}
	drop_job_free(d);
	waits_end(&d->waits);
	d->done(d->arg, status, count);
	talloc_free(d);
	drops_go(ev);
}

/* As far as the index knows: S3 has the file where it is here, and nobody is at it. */
static int drop_may_file(struct evictor *ev, const struct row *row)
{
	struct volume *v = ev->v;

	if (!row->in_s3 || row->etag == NULL || row->work != NULL || !step_at_home(row) ||
			recall_busy(v->recalls, row->ino) || evict_is_running(ev, row->ino) ||
			reconcile_place_is_pending(v->reconcile, &row->parent, row->name)) {
		return -EBUSY;
	}
	return evict_is_pinned(ev, row) ? -EPERM : 0;
}

static void drop_moving(void *arg, int status)
{
	*(int *)arg = status;
}

static int drop_may(struct evictor *ev, const struct row *dir)
{
	struct volume *v = ev->v;
	int ret = 0, moving = 0;

	if (dir == NULL || !dir->is_dir || dir->live != ROW_HERE) {
		return -ENOENT;
	}
	if (v->state != VOLUME_READY || v->away) {
		return -EAGAIN;
	}
	reconcile_when_still(v->reconcile, ev, &dir->oid, 0, drop_moving, &moving);
	if (moving != 0 || !dir->in_s3 || dir->work != NULL ||
			mirror_is_listing(v->mirror, &dir->oid)) {
		return -EBUSY;
	}
	for (const struct row *r = index_live_child(v->index, dir); r != NULL && ret == 0;
			r = index_live_next(v->index, r)) {
		ret = r->is_dir || r->live != ROW_HERE ? 0 : drop_may_file(ev, r);
	}
	return ret;
}

/* What is still where it was. */
static void drop_stays(struct drop *d, const struct drop_file *f)
{
	struct index *ix = d->ev->v->index;
	struct row *row = index_get(ix, &f->oid);

	if (row != NULL && row->live == ROW_NOT_HERE && f->status != -ENOENT &&
			index_at_live(ix, &d->dir, f->name) == NULL) {
		index_set_here(ix, row, &d->dir, f->name, f->ino);
		reconcile_touch(d->ev->v->reconcile, row); /* what changed meanwhile was no row's */
	}
}

static void drop_removed(struct disk_job *job)
{
	struct drop_job *j = (struct drop_job *)job;
	struct drop *d = j->d;
	struct index *ix = d->ev->v->index;
	uint64_t count = 0;

	for (size_t i = 0; i < j->count; i++) {
		struct drop_file *f = &j->files[i];
		struct row *row = index_get(ix, &f->oid);

		if (f->status != 0) {
			drop_stays(d, f);
			continue;
		}
		count++;
		if (row != NULL && row->live == ROW_HERE && row->ino == f->ino) {
			index_set_live(ix, row, ROW_NOT_HERE); /* looked at meanwhile */
		}
	}
	index_kv_set(ix, INDEX_KV_DROP, NULL);
	stats_add(stubs_dropped, (int64_t)count);
	log_debug("evict", "%s: %llu of %zu stubs dropped", j->path, (unsigned long long)count, j->count);
	drop_end(d, count == j->count ? 0 : -EBUSY, count);
}

static void drop_committed(int status, void *arg)
{
	struct drop *d = arg;
	struct drop_job *j = d->job;

	d->committing = false;
	if (status != 0) {
		for (size_t i = 0; i < j->count; i++) {
			drop_stays(d, &j->files[i]);
		}
		drop_end(d, status, 0);
		return;
	}
	memset(&j->job, 0, sizeof(j->job));
	j->job.what = "drop stubs";
	j->job.run = remove_run;
	j->job.done = drop_removed;
	disk_submit(d->ev->v->disk, DISK_ORDER, &j->job); /* no look sees what is gone when it is told */
}

static void drop_looked(struct disk_job *job)
{
	struct drop_job *j = (struct drop_job *)job;
	struct drop *d = j->d;
	struct volume *v = d->ev->v;
	const struct row *dir = index_get(v->index, &d->dir);
	char hex[OFS_OID_HEX_BYTES];
	struct stat st;

	for (size_t i = 0; i < j->count && j->status == 0; i++) {
		const struct row *row = index_get(v->index, &j->files[i].oid);

		if (row == NULL || row->live != ROW_HERE || row->ino != j->files[i].ino ||
				!ofs_oid_equal(&row->parent, &d->dir) || dir == NULL ||
				dir->work != NULL) {
			j->status = -EBUSY;
		} else {
			j->status = drop_may_file(d->ev, row);
		}
	}
	if (j->status != 0) {
		drop_end(d, j->status, 0);
		return;
	}
	for (size_t i = 0; i < j->count; i++) {
		index_set_live(v->index, index_get(v->index, &j->files[i].oid), ROW_NOT_HERE);
	}
	j->dir.keep_times = fstat(j->dir.fd, &st) == 0 &&
			(v->rings == NULL || !rings_inflight(v->rings, ofs_shm_stripe_of(st.st_ino)));
	ofs_oid_hex(&d->dir, hex);
	index_kv_set(v->index, INDEX_KV_DROP, hex);
	d->committing = true;
	index_commit(v->index, drop_committed, d);
}

int64_t evict_drop_before_ns(const struct evictor *ev, bool at_once)
{
	const struct conf_volume *cv = ev->v->conf;
	int64_t age = at_once ? 0 : cv->drop_age_ns;

	if (cv->listing_age_ns == 0) {
		return INT64_MIN; /* clients never ask again about what was listed once */
	}
	/* A client may have begun to read a directory when its listing was about to grow old. */
	age = age > 2 * cv->listing_age_ns ? age : 2 * cv->listing_age_ns;
	return clock_wall_ns(ev->v->clock) - age;
}

static void drop_start(struct drop *d)
{
	struct volume *v = d->ev->v;
	struct row *row = index_get(v->index, &d->dir);
	int status = drop_may(d->ev, row);
	struct drop_job *j = status == 0 ? calloc(1, sizeof(*j)) : NULL;
	char *path = j != NULL ? index_path(v->index, d, row) : NULL;

	d->running = true;
	if (path == NULL || (j->path = strdup(path)) == NULL) {
		free(j);
		drop_end(d, status != 0 ? status : -ENOMEM, 0);
		return;
	}
	d->job = j;
	j->d = d;
	j->dir.place = mirror_place_of(v->mirror);
	j->dir.oid = d->dir;
	j->dir.fd = -1;
	j->before_ns = d->before_ns;
	j->job.what = "look for stubs to drop";
	j->job.run = look_run;
	j->job.done = drop_looked;
	disk_submit(v->disk, DISK_ORDER, &j->job);
}

/* The first of the queue. One that ends at once is followed by the next from here, not from within:
 * there may be as many as there are directories. */
static void drops_go(struct evictor *ev)
{
	if (ev->drops_going) {
		return;
	}
	ev->drops_going = true;
	while (ev->drops != NULL && !ev->drops->running) {
		drop_start(ev->drops);
	}
	ev->drops_going = false;
}

void evict_drop(struct evictor *ev, const struct ofs_oid *dir, int64_t before_ns,
		void (*done)(void *arg, int status, uint64_t count), void *arg)
{
	struct drop *d = talloc_zero(ev, struct drop), **last;

	if (d == NULL) {
		done(arg, -ENOMEM, 0);
		return;
	}
	talloc_set_destructor(d, drop_destructor);
	d->ev = ev;
	d->dir = *dir;
	d->before_ns = before_ns;
	d->done = done;
	d->arg = arg;
	for (last = &ev->drops; *last != NULL; last = &(*last)->next) {
	}
	*last = d;
	d->prev = last;
	drops_go(ev);
}
