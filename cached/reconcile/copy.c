/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: a client's server-side copy of a whole stub: its object is copied in S3, and the new file
 * becomes a stub of the copy, without a byte passing through this machine.
 * Way: core -> reconcile_copy -> item of the new file -> target.c, step.c -> copy_step -> send.c
 *      (its claim) -> copy_send -> fenced.c (copy_fenced) -> send.c -> answer; core -> reconcile_copy_take ->
 *      worker.
 * Thread: core; *_run on workers.
 * Owns: struct copying until answered; the client's descriptor and a lease on it while it is
 *       taken.
 * Holds:
 *  1. the copy is this file's object like any upload: same claim, conditions, metadata, write id;
 *  2. until it is taken the file is dirty: a stop leaves a file that is sent as it is;
 *  3. it is taken only while nobody else has it open (F_WRLCK on the client's own open file), it
 *     has no data, and S3 holds the copy by a committed row; record first, then marker, then a look whether the
 *     lease is still held (mirror_stub_say), then size.
 *
 *   asked -> item runs -> copied (dirty here) -take-> clean stub
 *        \-> refused            \-settle time-> sent as any other
 */
#include "private.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../guard/guard.h"
#include "../mirror/mirror_private.h"

#define COPY_DIR_TRIES 20
#define COPY_DIR_WAIT_NS (50 * NS_PER_MS)

/* ---- S3 ---- */

struct copying {
	struct disk_job job;
	struct reconcile *rc; /* core only */
	struct ofs_record_io rio;
	int tree_fd, fd;
	struct ofs_oid source;
	int64_t size;
	unsigned tries;
	/* out of the job */
	int status;
	struct ofs_record rec, parent;
	char *name; /* malloc */
	struct objmeta meta; /* of the copy */
	void (*done)(int status, const char *message, void *arg);
	void *arg;
};

static void copying_end(struct copying *c, int status, const char *message)
{
	c->done(status, message, c->arg);
	objmeta_clear(&c->meta);
	close(c->fd);
	free(c->name);
	free(c);
}

static void copying_run(struct disk_job *job)
{
	struct copying *c = (struct copying *)job;

	c->status = inode_locate(&c->rio, c->tree_fd, c->fd, &c->rec, &c->parent, &c->name);
}

static void copying_look(void *arg)
{
	struct copying *c = arg;

	free(c->name);
	c->name = NULL;
	disk_submit(c->rc->v->disk, DISK_ANY, &c->job);
}

static void copying_done(struct disk_job *job)
{
	struct copying *c = (struct copying *)job;
	struct reconcile *rc = c->rc;
	struct volume *v = rc->v;
	struct seen seen = {.rec = c->rec, .name = c->name};
	struct row *dir;
	struct work *w;
	struct stat st;

	if (c->status != 0 || c->name == NULL || fstat(c->fd, &st) != 0) {
		copying_end(c, -EOPNOTSUPP, "not a file of this volume");
		return;
	}
	dir = index_get(v->index, &c->parent.oid);
	if (dir == NULL || dir->live != ROW_HERE) {
		/* Just made: it is being looked at. */
		if (++c->tries > COPY_DIR_TRIES ||
				clock_timer_add(v->clock, rc,
						clock_now_ns(v->clock) + COPY_DIR_WAIT_NS,
						copying_look, c) == NULL) {
			copying_end(c, -EOPNOTSUPP, "its directory is not known");
		}
		return;
	}
	seen.ino = st.st_ino;
	w = look_found(rc, &c->parent.oid, &seen, 0);
	if (w == NULL || w->running || w->blocked_on != NULL || w->copy != NULL) {
		copying_end(c, -EOPNOTSUPP, "it is clean, or being sent");
		return;
	}
	w->copy = c;
}

void reconcile_copy(struct reconcile *rc, int fd, const struct ofs_oid *source, uint64_t size,
		void (*done)(int status, const char *message, void *arg), void *arg)
{
	struct copying *c = rc->started && rc->v->state == VOLUME_READY ? calloc(1, sizeof(*c)) : NULL;

	if (c == NULL) {
		close(fd);
		done(-EOPNOTSUPP, "S3 is not used now", arg);
		return;
	}
	c->job.what = "copy";
	c->job.run = copying_run;
	c->job.done = copying_done;
	c->rc = rc;
	c->rio = rc->v->rio;
	c->tree_fd = rc->v->tree_fd;
	c->fd = fd;
	c->source = *source;
	c->size = size <= INT64_MAX ? (int64_t)size : -1;
	c->done = done;
	c->arg = arg;
	copying_look(c);
}

static char *copy_source_key(struct attempt *a, const struct row *source)
{
	struct index *ix = a->v->index;

	if (source == NULL || source->is_dir || !source->in_s3 || source->live != ROW_HERE ||
			source->etag == NULL || source->s3_size != a->item->copy->size ||
			source->s3_size > a->v->conf->copy_limit_bytes ||
			claim_above(ix, source) != NULL) {
		return NULL;
	}
	return index_key(ix, a, a->v->prefix, &source->s3_parent, source->s3_name, false, NULL);
}

void copy_step(struct attempt *a)
{
	const struct copying *c = a->item->copy;
	bool dirty = (a->rec.flags & OFS_REC_DATA_DIRTY) && !(a->rec.flags & OFS_REC_STUB);

	if (a->old_key != NULL || !dirty || (a->size != 0 && a->size != c->size)) {
		attempt_end_postponed(a, 0, "it is no new file to copy to");
		return;
	}
	if (copy_source_key(a, index_get(a->v->index, &c->source)) == NULL) {
		attempt_end_postponed(a, a->v->conf->settle_time_ns, "no object to copy from");
		return;
	}
	a->size = c->size;
	if (!a->row->in_s3) {
		step_first_upload(a);
	} else {
		step_upload(a, a->row->has_object ? a->row->etag : NULL);
	}
}

static void copy_sent(enum obj_status st, const char *message, const char *etag, void *arg)
{
	struct attempt *a = arg;
	struct copying *c = a->item->copy;
	const struct row *source = index_get(a->v->index, &c->source);

	if (st != OBJ_OK) {
		/* Whatever is at the key now: the upload that follows deals with it, as ever. */
		attempt_end_postponed(a, a->v->conf->settle_time_ns, "it was not copied in S3: %s%s%s",
				objstore_status_name(st), message ? ": " : "", message ? message : "");
		return;
	}
	stats_add(copies_whole, 1);
	index_set_sha256(a->v->index, a->row,
			source != NULL ? row_sha256(source) : NULL);
	step_uploaded_ok(a, etag, NULL, 0, a->rec.data_gen, step_meta_gen(a));
}

static void copy_blobs_done(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;
	struct copying *c = a->item->copy;
	const struct row *source = index_get(a->v->index, &c->source);
	char *from = copy_source_key(a, source);

	if (st != OBJ_OK || from == NULL) {
		attempt_end_postponed(a, a->v->conf->settle_time_ns, "it was not copied in S3: %s",
				st != OBJ_OK ? message : "its source has changed");
		return;
	}
	copy_fenced(a->v, from, source->etag, a->key, a->upload_if_match, &c->meta, step_kept(a),
			copy_sent, a);
}

/* Its headers are those of the source. */
bool copy_is_plain(const struct attempt *a)
{
	const struct row *source = index_get(a->v->index, &a->item->copy->source);

	return source != NULL && source->plain;
}

void copy_send(struct attempt *a)
{
	struct copying *c = a->item->copy;

	objmeta_clear(&c->meta);
	c->meta = (struct objmeta){
		.ours = true,
		.oid = a->oid,
		.wid = a->wid,
		.data_gen = a->rec.data_gen,
		.meta_gen = step_meta_gen(a),
		.size = c->size,
		.snapshot = step_snapshot_copy(a->snapshot),
	};
	whose_parent(a->row, &c->meta.parent);
	if (c->meta.snapshot == NULL) {
		attempt_end_failed(a, "out of memory");
		return;
	}
	ofs_oid_parse(a->v->node_id, &c->meta.node);
	snapshot_split(c->meta.snapshot, OBJMETA_SNAPSHOT_BUDGET);
	upload_blobs(a->v, c->meta.snapshot, copy_blobs_done, a);
}

void copy_answer(struct attempt *a, bool there)
{
	struct work *w = a->item;
	struct copying *c = w->copy;

	if (c == NULL) {
		return;
	}
	w->copy = NULL;
	if (there) {
		w->copied = true;
		w->copied_gen = a->rec.data_gen;
		w->copied_mtime_ns = a->snapshot->mtime_ns;
	}
	copying_end(c, there ? 0 : -EOPNOTSUPP, there ? NULL : "it was not copied in S3");
}

/* ---- the new file becomes a stub ---- */

struct take_job {
	struct disk_job job;
	struct attempt *a; /* core only */
	struct mirror_place place;
	int fd; /* the client's own open file */
	struct ofs_oid oid;
	int64_t size, mtime_ns;
	uint64_t data_gen;
	int status; /* out; -EOPNOTSUPP: it is what it was */
	void (*done)(int status, const char *message, void *arg);
	void *arg;
};

/* The offset of an open file is shared: it is put back. */
static bool take_is_hole(int fd)
{
	off_t was = lseek(fd, 0, SEEK_CUR);
	bool hole = lseek(fd, 0, SEEK_DATA) < 0 && errno == ENXIO;

	return lseek(fd, was, SEEK_SET) == was && hole;
}

/* Under the stripe's lock. Empty or a hole when the lease is surely held, and nobody else has it open when it says stub:
 * whoever gets in later asks for the bytes. */
static int take_record(struct take_job *t)
{
	struct ofs_record was, now;
	struct stat st;
	int rc = ofs_record_get(&t->place.rio, t->fd, &was);

	if (rc != 0 || !ofs_oid_equal(&was.oid, &t->oid) || was.data_gen != t->data_gen ||
			!(was.flags & OFS_REC_DATA_DIRTY) || (was.flags & OFS_REC_STUB)) {
		return -EOPNOTSUPP;
	}
	if (guard_pause(t->place.guard, t->fd, false) != 0) {
		return -EOPNOTSUPP;
	}
	if (fstat(t->fd, &st) != 0 || st.st_nlink == 0 ||
			(st.st_size != 0 && (st.st_size != t->size || !take_is_hole(t->fd)))) {
		guard_clear(t->place.guard, t->fd);
		return -EOPNOTSUPP;
	}
	now = was;
	now.flags &= ~(uint32_t)OFS_REC_DATA_DIRTY;
	now.flags |= OFS_REC_STUB;
	now.size = (uint64_t)t->size;
	now.mtime_ns = st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec;
	now.atime_ns = st.st_atim.tv_sec * NS_PER_S + st.st_atim.tv_nsec;
	if (now.mtime_ns != t->mtime_ns) {
		now.flags |= OFS_REC_META_DIRTY;
		now.meta_gen++;
	}
	rc = mirror_stub_say(&t->place, t->fd, &was, &now);
	return rc == -EBUSY ? -EOPNOTSUPP : rc;
}

static int take_leased(struct take_job *t)
{
	uint32_t stripe;
	int rc;

	if (mirror_lock(t->place.shm, t->fd, &stripe) != 0) {
		return -EOPNOTSUPP;
	}
	rc = take_record(t);
	ofs_shm_unlock(t->place.shm, stripe);
	if (rc != 0) {
		return rc;
	}
	rc = ftruncate(t->fd, t->size) == 0 ? 0 : -errno;
	guard_resume(t->place.guard, t->fd);
	return rc;
}

static void take_run(struct disk_job *job)
{
	struct take_job *t = (struct take_job *)job;
	struct stat st;

	t->status = -EOPNOTSUPP;
	fcntl(t->fd, F_SETSIG, SIGURG); /* nobody need be told: it is held for an instant */
	if (fstat(t->fd, &st) != 0 || prepare_lease(t->fd, st.st_uid, F_WRLCK) != 0) {
		return; /* somebody else has it open */
	}
	t->status = take_leased(t);
	prepare_lease(t->fd, st.st_uid, F_UNLCK);
}

static void take_done(struct disk_job *job)
{
	struct take_job *t = (struct take_job *)job;
	struct work *w = t->a->item;
	int status = t->status;

	w->copied = false;
	w->again = true; /* it may have been renamed meanwhile, its metadata changed, or nothing */
	attempt_end_done(t->a);
	t->done(status, status == -EOPNOTSUPP ? "the file is open elsewhere, or has data" : NULL,
			t->arg);
	close(t->fd);
	free(t);
}

void reconcile_copy_take(struct reconcile *rc, int fd, const struct ofs_oid *target, uint64_t size,
		void (*done)(int status, const char *message, void *arg), void *arg)
{
	struct row *row = index_get(rc->v->index, target);
	struct work *w = row != NULL && row->live == ROW_HERE ? row->work : NULL;
	struct take_job *t = NULL;

	if (w != NULL && w->copied && !w->running && w->blocked_on == NULL && row->in_s3 &&
			row->s3_size >= 0 && (uint64_t)row->s3_size == size) {
		t = calloc(1, sizeof(*t));
	}
	if (t != NULL) {
		t->a = attempt_new(w);
	}
	if (t == NULL || t->a == NULL) {
		free(t);
		close(fd);
		done(-EOPNOTSUPP, "there is no copy that it could be a stub of", arg);
		return;
	}
	work_take(w);
	t->job.what = "take a copy";
	t->job.run = take_run;
	t->job.done = take_done;
	t->place = mirror_place_of(rc->v->mirror);
	t->fd = fd;
	t->oid = *target;
	t->size = row->s3_size;
	t->mtime_ns = w->copied_mtime_ns;
	t->data_gen = w->copied_gen;
	t->done = done;
	t->arg = arg;
	disk_submit(rc->v->disk, DISK_ANY, &t->job);
}
