/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: answer those who want to know when things are in S3: objectfsctl flush, SMB FLUSH, close.
 * Way: core -> here -> waiters on works -> answered by work_done.
 * Thread: core; one disk job tells which inode a descriptor is.
 * Owns: struct flush until every waiter has been answered and the caller has been told.
 * Holds: a waiter is satisfied only by an attempt that began after it was added; works that follow
 * from those waited for are waited for too, and so is what a scan finds meanwhile; the caller is told
 * once, the struct outlives its deadline until the last waiter has come back.
 */
#include "private.h"
#include "../evict/evict.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct flush {
	struct reconcile *rc;
	char *path;
	unsigned left;
	bool told;
	struct clock_timer *retry, *timer; /* look again; the deadline */
	int64_t begin_ns, deadline_ns;
	void (*done)(int status, json_t *left, void *arg);
	void *arg;
};

struct flush_waiter { /* talloc child of the flush */
	struct waiter waiter;
	struct flush *flush;
};

#define FLUSH_LOOK_NS (20 * NS_PER_MS)

static void flush_tell(struct flush *f, int status)
{
	json_t *left = NULL;

	if (f->told) {
		return;
	}
	f->told = true;
	TALLOC_FREE(f->timer);
	if (status != 0) {
		left = reconcile_pending(f->rc, 1000);
	}
	f->done(status, left, f->arg);
	json_decref(left);
}

static void flush_place(struct flush *f);

static void flush_look_again(void *arg)
{
	struct flush *f = arg;

	f->retry = NULL;
	if (f->told) {
		talloc_free(f); /* its deadline came first */
	} else {
		flush_place(f);
	}
}

static void flush_waiter_done(struct waiter *w, int status, const char *message)
{
	struct flush_waiter *fw = (struct flush_waiter *)w;
	struct flush *f = fw->flush;

	(void)message;
	talloc_free(fw);
	f->left--;
	if (status != 0) {
		flush_tell(f, status);
	}
	if (f->left == 0 && f->told) {
		talloc_free(f);
	} else if (f->left == 0) {
		flush_place(f); /* what followed from these, a deletion of the old name perhaps */
	}
}

static void flush_deadline(void *arg)
{
	struct flush *f = arg;

	f->timer = NULL;
	flush_tell(f, -ETIMEDOUT);
}

static bool flush_matches(struct flush *f, struct work *w)
{
	size_t len = f->path ? strlen(f->path) : 0;
	char *path;
	bool match;

	if (len == 0) {
		return true;
	}
	path = work_path(f, w);
	match = path != NULL && strncmp(path, f->path, len) == 0 &&
			(path[len] == '\0' || path[len] == '/');
	talloc_free(path);
	return match;
}

/* Wait for every work that is as old as this flush, or follows from one. */
static void flush_place(struct flush *f)
{
	struct reconcile *rc = f->rc;
	struct work *w, *next;

	f->left = 1; /* ours, until all waiters are placed */
	for (w = rc->works; w != NULL; w = next) {
		struct flush_waiter *fw;

		next = w->next;
		if (w->first_ns > f->begin_ns || !flush_matches(f, w)) {
			continue;
		}
		fw = talloc_zero(f, struct flush_waiter);
		if (fw == NULL) {
			flush_tell(f, -ENOMEM);
			break;
		}
		fw->flush = f;
		fw->waiter.done = flush_waiter_done;
		f->left++;
		work_add_waiter(w, &fw->waiter);
	}
	metalog_flush(rc->v->metalog);
	if (--f->left > 0) {
		return;
	}
	if ((rc->trash_running > 0 || rc->scans_running > 0) && !f->told) {
		/* What a name's new file has replaced, or what a new directory has in it, may be known in a moment. */
		f->retry = clock_timer_add(rc->v->clock, f,
				clock_now_ns(rc->v->clock) + FLUSH_LOOK_NS, flush_look_again, f);
		if (f->retry != NULL) {
			return;
		}
	}
	if (rc->scan_end_ns > f->begin_ns && !f->told) {
		f->begin_ns = clock_now_ns(rc->v->clock); /* what was found is as old as the flush */
		flush_place(f);
		return;
	}
	flush_tell(f, 0);
	talloc_free(f);
}

static void flush_begin(void *arg)
{
	struct flush *f = arg;
	struct reconcile *rc = f->rc;
	int64_t now = clock_now_ns(rc->v->clock);

	f->retry = NULL;
	if (!rc->started || rc->scans_running > 0 || rc->trash_running > 0 || rc->rescan_wanted) {
		/* What is pending is not known yet. A scan that waits for a quiet moment has waited enough. */
		if (rc->rescan_wanted && rc->rescan_timer == NULL) {
			reconcile_rescan(rc);
		}
		if (f->deadline_ns > 0 && now >= f->deadline_ns) {
			flush_tell(f, -ETIMEDOUT);
			talloc_free(f);
			return;
		}
		f->retry = clock_timer_add(rc->v->clock, f, now + 50 * NS_PER_MS, flush_begin, f);
		return;
	}
	f->begin_ns = now;
	if (f->deadline_ns > 0) {
		f->timer = clock_timer_add(rc->v->clock, f, f->deadline_ns, flush_deadline, f);
	}
	flush_place(f);
}

void reconcile_flush(struct reconcile *rc, const char *path, int64_t deadline_ns,
		void (*done)(int status, json_t *left, void *arg), void *arg)
{
	const struct log_volume *before;
	struct flush *f = talloc_zero(rc, struct flush);

	if (f == NULL) {
		done(-ENOMEM, NULL, arg);
		return;
	}
	f->rc = rc;
	f->path = path && *path && strcmp(path, ".") != 0 ? talloc_strdup(f, path) : NULL;
	f->deadline_ns = deadline_ns;
	f->done = done;
	f->arg = arg;
	before = log_enter(rc->v->log); /* it may be of all volumes */
	flush_begin(f);
	(void)log_enter(before);
}

/* ---- one inode ---- */

#define FLUSH_AGAIN_NS (100 * NS_PER_MS)
#define FLUSH_MOVED_MAX 10
#define FLUSH_FD_LIMIT_NS (600 * NS_PER_S)

struct flush_fd {
	struct disk_job job;
	struct waiter waiter;
	struct reconcile *rc; /* core only */
	struct ofs_record_io rio;
	int tree_fd, fd;
	int status;
	bool dirty;
	unsigned moved, evicts;
	struct ofs_record rec;
	struct ofs_record parent;
	char *name; /* malloc */
	int64_t deadline_ns;
	void (*done)(int status, const char *message, void *arg);
	void *arg;
};

int inode_locate(const struct ofs_record_io *rio, int tree_fd, int fd, struct ofs_record *rec,
		struct ofs_record *parent, char **name)
{
	char link[64], path[PATH_MAX], tree[PATH_MAX], *slash;
	struct stat st;
	ssize_t n, t;
	int dfd, rc;

	*name = NULL;
	rc = ofs_record_get(rio, fd, rec);
	if (rc != 0) {
		return rc;
	}
	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	if (st.st_nlink == 0) {
		return 0;
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", tree_fd);
	t = readlink(link, tree, sizeof(tree) - 1);
	if (n <= 0 || t <= 0 || n <= t + 1 || strncmp(path, tree, t) != 0) {
		return -ESTALE;
	}
	path[n] = '\0';
	slash = strrchr(path + t, '/');
	*slash = '\0';
	dfd = mirror_open_beneath(tree_fd, slash == path + t ? "." : path + t + 1,
			O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dfd < 0) {
		return dfd;
	}
	rc = ofs_record_get(rio, dfd, parent);
	close(dfd);
	*name = rc == 0 ? strdup(slash + 1) : NULL;
	return rc == 0 && *name == NULL ? -ENOMEM : rc;
}

static void flush_fd_run(struct disk_job *job)
{
	struct flush_fd *f = (struct flush_fd *)job;

	f->status = inode_locate(&f->rio, f->tree_fd, f->fd, &f->rec, &f->parent, &f->name);
	f->dirty = f->name != NULL &&
			(f->rec.flags & (OFS_REC_DATA_DIRTY | OFS_REC_META_DIRTY)) != 0;
}

static void flush_fd_tell(struct flush_fd *f, int status, const char *message)
{
	f->done(status, message, f->arg);
	close(f->fd);
	free(f->name);
	free(f);
}

#define FLUSH_EVICT_NS (5 * NS_PER_MS)
#define FLUSH_EVICT_TRIES 40

static void flush_fd_evicted(void *arg, int status);

static void flush_fd_evict(void *arg)
{
	struct flush_fd *f = arg;

	f->evicts++;
	evict_file(f->rc->v->evictor, &f->rec.oid, flush_fd_evicted, f);
}

/* Somebody has it open; or its close is still being looked at, or it is on its way out: the close
 * had been looked at before the flush came. */
static void flush_fd_evicted(void *arg, int status)
{
	struct flush_fd *f = arg;
	struct volume *v = f->rc->v;
	struct clock *c = v->clock;
	const struct row *row = index_get(v->index, &f->rec.oid);
	bool goes = row != NULL && evict_is_running(v->evictor, row->ino);
	bool looked_at = row != NULL && row->work != NULL && f->evicts < FLUSH_EVICT_TRIES;

	if (status == -EBUSY && (goes || looked_at) &&
			clock_timer_add(c, f->rc, clock_now_ns(c) + FLUSH_EVICT_NS, flush_fd_evict, f) !=
					NULL) {
		return;
	}
	flush_fd_tell(f, 0, NULL);
}

static void flush_fd_end(struct flush_fd *f, int status, const char *message)
{
	struct volume *v = f->rc->v;

	if (status == 0 && v->conf->evict_at_close && v->evictor != NULL) {
		flush_fd_evict(f);
	} else {
		flush_fd_tell(f, status, message);
	}
}

static void flush_fd_look(void *arg)
{
	struct flush_fd *f = arg;

	free(f->name);
	f->name = NULL;
	disk_submit(f->rc->v->disk, DISK_ANY, &f->job);
}

static void flush_fd_again(struct flush_fd *f)
{
	struct volume *v = f->rc->v;
	int64_t now = clock_now_ns(v->clock);

	if (now >= f->deadline_ns) {
		flush_fd_end(f, -ETIMEDOUT, "it is not in S3 yet");
	} else if (clock_timer_add(v->clock, f->rc, now + FLUSH_AGAIN_NS, flush_fd_look, f) == NULL) {
		flush_fd_end(f, -ENOMEM, "out of memory");
	}
}

/* The work is done; it need not have sent this file, which may have moved on meanwhile. */
static void flush_fd_waiter(struct waiter *w, int status, const char *message)
{
	struct flush_fd *f = (struct flush_fd *)((char *)w - offsetof(struct flush_fd, waiter));
	struct row *row = index_get(f->rc->v->index, &f->rec.oid);

	if (status != 0 || (row != NULL && row->in_s3 && row->s3_data_gen >= f->rec.data_gen &&
			row->s3_meta_gen >= f->rec.meta_gen)) {
		flush_fd_end(f, status, message);
	} else {
		flush_fd_again(f);
	}
}

/* Its bytes may be in S3 under the name that it had: then it waits for the rename. */
static bool flush_fd_is_there(const struct flush_fd *f)
{
	const struct row *row = index_get(f->rc->v->index, &f->rec.oid);

	return !f->dirty && (f->name == NULL || row == NULL || !row->in_s3 ||
			(ofs_oid_equal(&row->parent, &f->parent.oid) && strcmp(row->name, f->name) == 0 &&
					step_at_home(row)));
}

static void flush_fd_done(struct disk_job *job)
{
	struct flush_fd *f = (struct flush_fd *)job;
	struct reconcile *rc = f->rc;
	struct work *w = NULL;
	struct row *row;

	if ((f->status == -ESTALE || f->status == -ENOENT) && f->moved++ < FLUSH_MOVED_MAX) {
		flush_fd_again(f); /* a directory above it is being renamed */
		return;
	}
	if (f->status != 0 || flush_fd_is_there(f)) {
		flush_fd_end(f, f->status, f->status ? "not a file of this volume" : NULL);
		return;
	}
	row = index_get(rc->v->index, &f->rec.oid);
	if (row != NULL && row->live == ROW_HERE && row->work != NULL) {
		w = row->work;
	} else {
		w = work_place(rc, &f->parent.oid, f->name, 0);
	}
	if (w == NULL) {
		flush_fd_end(f, -ENOMEM, "out of memory");
		return;
	}
	work_add_waiter(w, &f->waiter);
	metalog_flush(rc->v->metalog); /* its rights or times may wait for the next segment */
}

void reconcile_flush_fd(struct reconcile *rc, int fd,
		void (*done)(int status, const char *message, void *arg), void *arg)
{
	struct flush_fd *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		close(fd);
		done(-ENOMEM, "out of memory", arg);
		return;
	}
	f->job.what = "flush";
	f->job.run = flush_fd_run;
	f->job.done = flush_fd_done;
	f->rc = rc;
	f->rio = rc->v->rio;
	f->tree_fd = rc->v->tree_fd;
	f->fd = fd;
	f->waiter.done = flush_fd_waiter;
	f->deadline_ns = clock_now_ns(rc->v->clock) + FLUSH_FD_LIMIT_NS;
	f->done = done;
	f->arg = arg;
	disk_submit(rc->v->disk, DISK_ANY, &f->job);
}
