/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the local half of a step: look at the inode and take its lease before, make its record say
 * clean after.
 * Way: step.c -> step_prepare -> worker -> step_prepared (step.c); step_finish -> worker ->
 *      attempt_end_done.
 * Thread: *_run on workers, the rest on the core.
 * Owns: its jobs; descriptor and snapshot pass to the attempt.
 * Holds:
 *  1. what is uploaded is read under F_RDLCK, or from a private copy of one moment; data become clean
 *     only under F_RDLCK, and only if generation and lease are those of the beginning (rule 3);
 *  2. KNOWN is in the record before the first PUT, so that an unlink leaves a trash link (rule 20);
 *  3. metadata becomes clean only at the generation whose snapshot was sent (rule 1);
 *  4. what was sent from a copy is not sent again while nothing was written: record's generation and
 *     stripe's write counter are those of the copy. A write bumps the counter before it begins, and
 *     under the lease nobody writes: what is equal then is what S3 has. A write to another file of
 *     the stripe costs one upload more. The metadata are read after the copy: should they be older
 *     than its bytes, nothing would ever send them again;
 *  5. what the disk did not take when it was to be made durable is not sent as it is: the kernel says so once,
 *     and may have forgotten the bytes by the next try. A later write is another state, and is sent.
 */
#include "private.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PREPARE_BUSY_RETRY_NS (2 * NS_PER_S)
#define PREPARE_LARGE_RETRY_NS (10 * NS_PER_S)
#define PREPARE_LEASE_SIGNAL SIGRTMIN
#define PREPARE_TRIES 300 /* of 20 ms */
#define PREPARE_DEAD_TRIES 250

/* ---- prepare: look at the inode, take the lease ---- */

struct prepare_job {
	struct disk_job job;
	struct attempt *a; /* core only */
	struct ofs_record_io rio;
	struct ofs_shm *shm;
	int tree_fd, path_fd;
	char *path;
	struct ofs_oid oid;
	bool is_dir;
	bool urgent, failed, versions; /* what decides whether a file open for writing is copied, */
	int64_t waited_ns;             /* and since when it is to be sent */
	const struct conf_volume *conf;
	bool data, resend; /* its bytes are wanted too, if they are dirty; in any case */
	bool was_sent;
	struct sent sent; /* if was_sent; without its etag */
	bool unstored; /* in and out, as in the item */
	uint64_t unstored_gen;
	/* out */
	int status; /* 0; -ENOENT: not there; -EBUSY: open for writing; -errno */
	int fd;
	bool leased, copied, unchanged, may_copy;
	int64_t interval_ns; /* of a file that is open for writing */
	uint64_t writes;
	struct ofs_record rec;
	struct snapshot *snapshot;
	int64_t size, ctime_ns;
};

/* A lease needs CAP_LEASE or the owner's fsuid. */
int prepare_lease(int fd, uid_t owner, int kind)
{
	int rc = fcntl(fd, F_SETLEASE, kind) == 0 ? 0 : -errno;

	if (rc == -EACCES) {
		uid_t was = (uid_t)setfsuid(owner);

		rc = fcntl(fd, F_SETLEASE, kind) == 0 ? 0 : -errno;
		setfsuid(was);
	}
	return rc;
}

/* Worker. No write to the stripe under way; one said to be so for long is a dead process's. */
static bool prepare_quiet(uint64_t writes, uint64_t last, unsigned *same_count)
{
	*same_count = writes == last ? *same_count + 1 : 0;
	return (uint32_t)writes == 0 || *same_count > PREPARE_DEAD_TRIES;
}

/* Worker. A private copy of a file that is open for writing: of one moment; its descriptor, or -EBUSY. */
static int prepare_copy(struct prepare_job *p, const struct stat *st)
{
	struct ofs_shm_stripe *stripe = &p->shm->stripe[ofs_shm_stripe_of(st->st_ino)];
	int out = openat(p->path_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	unsigned tries, same_count = 0;
	uint64_t last = 0;

	if (out < 0) {
		return -errno;
	}
	for (tries = 0; tries < PREPARE_TRIES; tries++) {
		uint64_t before = atomic_load(&stripe->writes);
		off_t in_at = 0, out_at = 0;
		ssize_t n = 1;

		if (prepare_quiet(before, last, &same_count) && ftruncate(out, 0) == 0) {
			/* A reflink is of one moment, but a write may be half done at that moment. */
			if (ioctl(out, FICLONE, p->fd) != 0) {
				while ((n = copy_file_range(p->fd, &in_at, out, &out_at, 64 << 20, 0)) > 0) {
				}
			}
			if (n < 0) {
				n = -errno;
				close(out);
				return (int)n;
			}
			if (atomic_load(&stripe->writes) == before) {
				p->writes = before;
				return out;
			}
		}
		last = before;
		nanosleep(&(struct timespec){0, 20 * NS_PER_MS}, NULL);
	}
	close(out);
	return -EBUSY;
}

static bool prepare_wants_data(const struct prepare_job *p)
{
	return p->data && (p->resend || (p->rec.flags & OFS_REC_DATA_DIRTY)) &&
			!(p->rec.flags & OFS_REC_STUB);
}

/* Worker. Are the data what S3 has already? Local programs do not count their writes: size and write
 * time tell of some. */
static bool prepare_is_unchanged(const struct prepare_job *p)
{
	struct stat st;

	return p->was_sent && prepare_wants_data(p) && fstat(p->fd, &st) == 0 &&
			p->rec.data_gen == p->sent.data_gen && st.st_size == p->sent.size &&
			((p->rec.flags & OFS_REC_META_DIRTY) ||
					timespec_ns(st.st_mtim) ==
							p->sent.mtime_ns) &&
			atomic_load(&p->shm->stripe[ofs_shm_stripe_of(st.st_ino)].writes) ==
					p->sent.writes;
}

/* Worker. Is it time to send a file from a copy, although its writer has not closed it? */
static bool prepare_is_due(struct prepare_job *p, int64_t size)
{
	p->interval_ns = upload_open_interval_ns(p->conf, size, p->versions);
	return p->urgent || p->waited_ns > p->interval_ns ||
	       (p->failed && p->interval_ns <= p->conf->settle_limit_ns);
}

/* Worker. The record as of now, and KNOWN before anything goes to S3. */
static int prepare_record(struct prepare_job *p, ino_t ino)
{
	uint32_t stripe = ofs_shm_stripe_of(ino);
	int rc = ofs_shm_lock(p->shm, stripe, 2000);

	if (rc != 0) {
		return rc;
	}
	rc = ofs_record_get(&p->rio, p->fd, &p->rec);
	if (rc == 0 && !(p->rec.flags & OFS_REC_KNOWN)) {
		p->rec.flags |= OFS_REC_KNOWN;
		rc = ofs_record_set(&p->rio, p->fd, &p->rec);
	}
	ofs_shm_unlock(p->shm, stripe);
	return rc;
}

/* Worker. What is sent was read before. S3 must never be ahead of what this disk would hold after a power cut: a
 * record that says clean vouches for bytes and metadata, and a dirty file that lost them would replace good ones. */
static int prepare_durable(struct prepare_job *p)
{
	bool data = prepare_wants_data(p) && !p->unchanged, meta = (p->rec.flags & OFS_REC_META_DIRTY) != 0;
	int err;

	if ((!data && !meta) || (meta ? fsync(p->fd) : fdatasync(p->fd)) == 0) {
		return 0;
	}
	err = errno;
	if (data) {
		p->unstored = err == EIO;
		p->unstored_gen = p->rec.data_gen;
	}
	return -err;
}

/* Worker. The bytes, if there is no lease on them, then the metadata. */
static int prepare_content(struct prepare_job *p, const struct stat *st)
{
	int copy = -1;
	int rc;

	if (prepare_wants_data(p) && !p->leased && !p->unchanged) {
		copy = p->may_copy ? prepare_copy(p, st) : -EBUSY;
		if (copy < 0) {
			return copy;
		}
	}
	rc = snapshot_read(p->fd, p->rio.xattr, &p->snapshot);
	rc = rc != 0 ? rc : prepare_durable(p);
	if (copy >= 0) {
		close(p->fd);
		p->fd = copy;
		p->copied = true;
	}
	if (rc != 0) {
		return rc;
	}
	p->snapshot->mode &= ~(uint32_t)OFS_MARKER_MODE;
	if (p->rec.flags & OFS_REC_STUB) {
		p->snapshot->mtime_ns = p->rec.mtime_ns;
		p->snapshot->atime_ns = p->rec.atime_ns;
	}
	return 0;
}

static int prepare_file(struct prepare_job *p)
{
	struct stat st;
	int rc;

	p->fd = mirror_open_beneath(p->tree_fd, p->path,
			O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOATIME | O_CLOEXEC |
					(p->is_dir ? O_DIRECTORY : 0));
	if (p->fd < 0) {
		return p->fd == -EAGAIN ? -EBUSY : p->fd;
	}
	if (fstat(p->fd, &st) != 0) {
		return -errno;
	}
	if (p->is_dir != S_ISDIR(st.st_mode) || (!p->is_dir && !S_ISREG(st.st_mode))) {
		return -ENOENT;
	}
	rc = ofs_record_get(&p->rio, p->fd, &p->rec);
	if (rc != 0 || !ofs_oid_equal(&p->rec.oid, &p->oid)) {
		return -ENOENT;
	}
	p->may_copy = prepare_is_due(p, st.st_size);
	if (prepare_wants_data(p)) {
		fcntl(p->fd, F_SETSIG, PREPARE_LEASE_SIGNAL);
		fcntl(p->fd, F_SETOWN, getpid());
		rc = prepare_lease(p->fd, st.st_uid, F_RDLCK);
		p->leased = rc == 0;
		if (rc == -EAGAIN && !p->may_copy && !p->was_sent) {
			return -EBUSY;
		}
		if (rc != 0 && rc != -EAGAIN) {
			return rc;
		}
	}
	rc = prepare_record(p, st.st_ino);
	if (rc != 0) {
		return rc;
	}
	if (prepare_wants_data(p) && p->unstored && p->rec.data_gen == p->unstored_gen) {
		return -EIO;
	}
	p->unchanged = prepare_is_unchanged(p);
	rc = prepare_content(p, &st);
	if (rc != 0) {
		return rc;
	}
	if (fstat(p->fd, &st) != 0) {
		return -errno;
	}
	if (st.st_nlink == 0 && !p->copied) {
		return -ENOENT; /* unlinked since: KNOWN came too late for a trash link */
	}
	p->size = st.st_size;
	p->ctime_ns = timespec_ns(st.st_ctim);
	return 0;
}

static void prepare_run(struct disk_job *job)
{
	struct prepare_job *p = (struct prepare_job *)job;

	p->fd = -1;
	p->status = prepare_file(p);
	if (p->status != 0 && p->fd >= 0) {
		close(p->fd);
		p->fd = -1;
	}
}

static void prepare_busy(struct attempt *a, int64_t interval_ns)
{
	if (interval_ns <= a->v->conf->settle_limit_ns) {
		attempt_end_postponed(a, PREPARE_BUSY_RETRY_NS, "open for writing");
	} else if (interval_ns == INT64_MAX) {
		attempt_end_postponed(a, PREPARE_LARGE_RETRY_NS, "open for writing: where versions are kept, so "
				"large a file is sent when it is closed");
	} else {
		attempt_end_postponed(a, PREPARE_LARGE_RETRY_NS, "open for writing: so large a file is sent each "
				"%lld s, and when it is closed", (long long)(interval_ns / NS_PER_S));
	}
}

static void prepare_done(struct disk_job *job)
{
	struct prepare_job *p = (struct prepare_job *)job;
	struct attempt *a = p->a;
	int64_t interval_ns = p->interval_ns;
	int status = p->status;

	a->fd = p->fd;
	a->leased = p->leased;
	a->copied = p->copied;
	a->unchanged = p->unchanged;
	a->writes = p->writes;
	if (a->leased && fcntl(a->fd, F_GETLEASE) != F_RDLCK) {
		/* Broken before this attempt was known to reconcile_lease_broken. */
		fcntl(a->fd, F_SETLEASE, F_UNLCK);
		a->lease_broken = true;
	}
	a->rec = p->rec;
	a->snapshot = p->snapshot;
	a->size = p->size;
	a->ctime_ns = p->ctime_ns;
	a->item->unstored = p->unstored;
	a->item->unstored_gen = p->unstored_gen;
	a->item->disk_failed = status == -EIO;
	free(p->path);
	free(p);
	if (status == -ENOENT || status == -ESTALE || status == -ENOTDIR || status == -ELOOP) {
		/* Not where the index says: the place is looked at again, then this. */
		struct row *row = a->row;

		if (row->live == ROW_HERE) {
			work_place(a->item->rc, &row->parent, row->name, 0);
		}
		attempt_end_postponed(a, 200 * NS_PER_MS, "it has moved");
		return;
	}
	if (status == -EBUSY) {
		prepare_busy(a, interval_ns);
		return;
	}
	if (status == -EIO && a->item->unstored) {
		attempt_end_failed(a, "the local disk did not take what was written to it: it is not sent before it is "
				"written again");
		return;
	}
	if (status != 0) {
		attempt_end_failed(a, "cannot be read: %s", strerror(-status));
		return;
	}
	step_prepared(a);
}

/* S3 still has what was sent from a copy, as this row's own object. */
static bool prepare_was_sent(const struct attempt *a)
{
	const struct row *row = a->row;
	const char *etag = a->item->sent.etag;

	return etag != NULL && row->in_s3 && row->has_object && !heir_is(row) && row->etag != NULL &&
			strcmp(row->etag, etag) == 0;
}

void step_prepare(struct attempt *a)
{
	struct prepare_job *p = calloc(1, sizeof(*p));
	char *path = index_path(a->v->index, a, a->row);

	if (p == NULL || path == NULL || (p->path = strdup(path)) == NULL) {
		free(p);
		attempt_end_failed(a, path == NULL ? "its directory is not known" : "out of memory");
		return;
	}
	p->job.what = "prepare upload";
	p->job.run = prepare_run;
	p->job.done = prepare_done;
	p->a = a;
	p->rio = a->v->rio;
	p->shm = a->v->shm;
	p->tree_fd = a->v->tree_fd;
	p->path_fd = a->v->path_fd;
	p->oid = a->oid;
	p->is_dir = a->row->is_dir;
	p->resend = a->item->resend;
	p->data = !p->is_dir && a->item->copy == NULL &&
			(p->resend || !reconcile_conflicts_held(a->item->rc)); /* then they are not sent */
	p->was_sent = !p->resend && prepare_was_sent(a);
	p->sent = a->item->sent;
	p->unstored = a->item->unstored;
	p->unstored_gen = a->item->unstored_gen;
	p->urgent = a->item->urgent;
	p->failed = a->item->failures > 0;
	p->versions = a->v->store->caps.versioned;
	p->waited_ns = clock_now_ns(a->v->clock) - a->item->first_ns;
	p->conf = a->v->conf;
	disk_submit(a->v->disk, DISK_ANY, &p->job);
}

/* ---- finish: the record says clean, if nothing has moved ---- */

struct finish_job {
	struct disk_job job;
	struct attempt *a; /* core only */
	struct ofs_record_io rio;
	struct ofs_shm *shm;
	int tree_fd, fd;
	char *path; /* to reopen a file that had no lease */
	struct ofs_oid oid;
	uint64_t data_gen, meta_gen;
	bool data, leased;
	struct ofs_clean object; /* of the row; zeros: not known */
	bool clean; /* out: nothing is left to do */
};

/* Size and write time of a file that S3 has: should it look otherwise later without being dirty, then
 * something below the share has changed it (evict_file.c). */
static void finish_note_state(const struct finish_job *f, const struct stat *st, uint32_t before,
		struct ofs_record *rec)
{
	if (!S_ISREG(st->st_mode) || (rec->flags & OFS_REC_STUB) != 0 ||
			(rec->flags & OFS_REC_DATA_DIRTY) != 0) {
		return;
	}
	if ((before & OFS_REC_DATA_DIRTY) != 0 || f->data) {
		rec->size = (uint64_t)st->st_size;
	} else if (rec->size != (uint64_t)st->st_size) {
		return;
	}
	rec->mtime_ns = timespec_ns(st->st_mtim);
}

static void finish_run(struct disk_job *job)
{
	struct finish_job *f = (struct finish_job *)job;
	struct ofs_record rec;
	struct stat st;
	uint32_t stripe;
	int fd = f->fd;

	if (fd < 0) {
		fd = mirror_open_beneath(f->tree_fd, f->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd < 0 || fstat(fd, &st) != 0) {
		goto out;
	}
	stripe = ofs_shm_stripe_of(st.st_ino);
	if (ofs_shm_lock(f->shm, stripe, 2000) != 0) {
		goto out;
	}
	if (ofs_record_get(&f->rio, fd, &rec) == 0 && ofs_oid_equal(&rec.oid, &f->oid)) {
		const struct ofs_record was = rec;

		if (f->data && f->leased && fcntl(fd, F_GETLEASE) == F_RDLCK &&
				rec.data_gen == f->data_gen) {
			rec.flags &= ~(uint32_t)OFS_REC_DATA_DIRTY;
		}
		if (rec.meta_gen == f->meta_gen) {
			rec.flags &= ~(uint32_t)OFS_REC_META_DIRTY;
			rec.ctime_clean_ns = timespec_ns(st.st_ctim);
		}
		finish_note_state(f, &st, was.flags, &rec);
		if (f->object.fence != 0) {
			rec.clean = f->object;
		}
		if (memcmp(&rec, &was, sizeof(rec)) == 0 || ofs_record_set(&f->rio, fd, &rec) == 0) {
			f->clean = !(rec.flags & (OFS_REC_DATA_DIRTY | OFS_REC_META_DIRTY));
		}
	}
	ofs_shm_unlock(f->shm, stripe);
out:
	if (fd >= 0 && fd != f->fd) {
		close(fd);
	}
}

/* The attempt sent a file that was open for writing, or metadata of one that had been sent so. */
static void finish_note(struct attempt *a)
{
	struct sent *s = &a->item->sent;

	if (a->copied && a->upload_done && a->row->etag != NULL) {
		stats_add(uploads_open, 1);
		s->etag = talloc_strdup(a->item, a->row->etag); /* step_upload has freed the last one */
		s->data_gen = a->rec.data_gen;
		s->writes = a->writes;
		s->size = a->size;
	}
	if (s->etag != NULL) {
		s->mtime_ns = a->snapshot->mtime_ns;
	}
}

static void finish_done(struct disk_job *job)
{
	struct finish_job *f = (struct finish_job *)job;
	struct attempt *a = f->a;

	finish_note(a);

	if (!f->clean) {
		a->item->again = true; /* changed meanwhile, or still open for writing */
	}
	free(f->path);
	free(f);
	attempt_end_done(a);
}

/* The row has been updated; commit it, then let the record follow. */
static void step_finish_committed(int status, void *arg)
{
	struct attempt *a = arg;
	char *path = index_path(a->v->index, a, a->row);
	struct finish_job *f;

	if (status != 0) {
		attempt_end_failed(a, "the index cannot be written: %s", strerror(-status));
		return;
	}
	f = calloc(1, sizeof(*f));
	if (f == NULL || path == NULL || (f->path = strdup(path)) == NULL) {
		free(f);
		attempt_end_postponed(a, NS_PER_S, "its directory is not known");
		return;
	}
	f->job.what = "finish upload";
	f->job.run = finish_run;
	f->job.done = finish_done;
	f->a = a;
	f->rio = a->v->rio;
	f->shm = a->v->shm;
	f->tree_fd = a->v->tree_fd;
	f->fd = a->copied ? -1 : a->fd;
	f->oid = a->oid;
	f->data_gen = a->rec.data_gen;
	f->meta_gen = a->rec.meta_gen;
	f->data = a->upload_done || a->unchanged;
	f->leased = a->leased && !a->lease_broken;
	if (!a->row->is_dir && a->row->in_s3 && a->row->has_object && !heir_is(a->row)) {
		objmeta_clean(&a->row->wid, a->row->etag, &f->object);
	}
	disk_submit(a->v->disk, DISK_ANY, &f->job);
}

void step_finish(struct attempt *a)
{
	index_commit(a->v->index, step_finish_committed, a);
}
