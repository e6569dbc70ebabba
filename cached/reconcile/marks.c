/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: clear the dirty-directory marks once everything below them is in S3, so that the next
 * unclean start scans little.
 * Way: reconcile.c, when the table is empty -> collect (worker) -> check (core) -> clear (worker).
 * Thread: core between the jobs.
 * Owns: its job.
 * Holds (a mark may be missing only where nothing differs):
 *  1. `changes` of each marked directory's stripe is read before the rings are drained; a change
 *     bumps it under the stripe's lock before it begins (module), so one that is not drained yet is
 *     either in flight (rings_inflight) or seen by the comparison at the end;
 *  2. the intent file is emptied only when the root has been cleared;
 *  3. bottom-up: a directory below which a mark stays keeps its own, since a module that finds a mark
 *     goes no further up but bumps `changes` there;
 *  4. a file that is being emptied for a client, who may be dead by now, is a change too.
 */
#include "private.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../core/rings.h"
#include "../recall/recall.h"

#define MARKS_QUIET_NS (2 * NS_PER_S)
#define MARKS_MOST 100000u

struct mark {
	char *path;
	uint32_t stripe;
	uint64_t changes, meta_gen;
	unsigned parent; /* index of the parent's entry; 0 is the root */
	bool keep;
};

struct marks_job {
	struct disk_job job;
	struct reconcile *rc; /* core only */
	struct ofs_record_io rio;
	struct ofs_shm *shm;
	int tree_fd, path_fd;
	bool clearing;
	struct mark *marks; /* parents before children */
	unsigned count, cap;
};

static int marks_add(struct marks_job *m, int dirfd, const char *path, unsigned parent)
{
	struct ofs_record rec;
	struct mark *k;
	struct stat st;

	if (fstat(dirfd, &st) != 0 || ofs_record_get(&m->rio, dirfd, &rec) != 0 ||
			!(rec.flags & OFS_REC_MARKED)) {
		return -ENOENT;
	}
	if (m->count == m->cap) {
		unsigned cap = m->cap ? m->cap * 2 : 64;
		struct mark *n = cap <= MARKS_MOST ? realloc(m->marks, cap * sizeof(*n)) : NULL;

		if (n == NULL) {
			return -ENOMEM;
		}
		m->marks = n;
		m->cap = cap;
	}
	k = &m->marks[m->count];
	memset(k, 0, sizeof(*k));
	k->path = strdup(path);
	k->stripe = ofs_shm_stripe_of(st.st_ino);
	k->changes = atomic_load(&m->shm->stripe[k->stripe].changes);
	k->meta_gen = rec.meta_gen;
	k->parent = parent;
	if (k->path == NULL) {
		return -ENOMEM;
	}
	m->count++;
	return 0;
}

/* Breadth first, so that parents stand before their children. */
static void marks_collect(struct marks_job *m)
{
	unsigned at;

	if (marks_add(m, m->tree_fd, ".", 0) != 0) {
		return;
	}
	for (at = 0; at < m->count; at++) {
		int fd = mirror_open_beneath(m->tree_fd, m->marks[at].path,
				O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		struct dirent *de;
		DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

		if (dir == NULL) {
			if (fd >= 0) {
				close(fd);
			}
			m->marks[at].keep = true;
			continue;
		}
		while ((de = readdir(dir)) != NULL) {
			char *path;
			int sub;

			if ((de->d_type != DT_DIR && de->d_type != DT_UNKNOWN) ||
					strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0) {
				continue;
			}
			sub = openat(fd, de->d_name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (sub < 0) {
				continue;
			}
			if (asprintf(&path, "%s/%s", m->marks[at].path, de->d_name) > 0) {
				if (marks_add(m, sub, path, at) == -ENOMEM) {
					m->marks[at].keep = true;
				}
				free(path);
			}
			close(sub);
		}
		closedir(dir);
	}
}

/*
 * The root is clean and its stripe locked: nothing anywhere is dirty, and whoever is about to write
 * waits for this lock to mark the root before he appends his intent.
 */
static void marks_rotate_intents(struct marks_job *m)
{
	struct stat st;
	int fd = openat(m->path_fd, "intent", O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0 && ftruncate(fd, 0) == 0) {
		atomic_fetch_add(&m->shm->intent_epoch, 1);
	}
	if (fd >= 0) {
		close(fd);
	}
}

static void marks_clear(struct marks_job *m)
{
	unsigned i;

	for (i = m->count; i-- > 0;) {
		struct mark *k = &m->marks[i];
		struct ofs_record rec;
		int fd = -1;

		if (!k->keep && ofs_shm_lock(m->shm, k->stripe, 1000) == 0) {
			fd = mirror_open_beneath(m->tree_fd, k->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
			k->keep = true;
			if (fd >= 0 && ofs_record_get(&m->rio, fd, &rec) == 0 &&
					rec.meta_gen == k->meta_gen &&
					atomic_load(&m->shm->stripe[k->stripe].changes) == k->changes) {
				rec.flags &= ~(uint32_t)OFS_REC_MARKED;
				k->keep = ofs_record_set(&m->rio, fd, &rec) != 0;
			}
			if (i == 0 && !k->keep) {
				marks_rotate_intents(m);
			}
			ofs_shm_unlock(m->shm, k->stripe);
			if (fd >= 0) {
				close(fd);
			}
		} else {
			k->keep = true;
		}
		if (k->keep && i > 0) {
			m->marks[k->parent].keep = true;
		}
	}
}

static void marks_run(struct disk_job *job)
{
	struct marks_job *m = (struct marks_job *)job;

	if (m->clearing) {
		marks_clear(m);
	} else {
		marks_collect(m);
	}
}

static void marks_done(struct disk_job *job)
{
	struct marks_job *m = (struct marks_job *)job;
	struct reconcile *rc = m->rc;
	unsigned i;

	if (!m->clearing && m->count > 0) {
		for (i = 0; i < m->count; i++) {
			if (rings_inflight(rc->v->rings, m->marks[i].stripe)) {
				m->marks[i].keep = true;
			}
		}
		rings_drain(rc->v->rings);
		if (rc->work_count == 0 && rc->scans_running == 0 && rc->trash_running == 0 &&
				!recall_is_discarding(rc->v->recalls)) {
			m->clearing = true;
			disk_submit(rc->v->disk, DISK_ORDER, &m->job);
			return;
		}
	}
	rc->sweeping = false;
	for (i = 0; i < m->count; i++) {
		free(m->marks[i].path);
	}
	free(m->marks);
	free(m);
}

static void marks_sweep(void *arg)
{
	struct reconcile *rc = arg;
	struct marks_job *m;

	rc->sweep_timer = NULL;
	if (rc->work_count > 0 || rc->scans_running > 0 || rc->trash_running > 0 || rc->sweeping ||
			rc->rescan_wanted) {
		if (rc->rescan_wanted && rc->scans_running == 0) {
			scan_start(rc);
		}
		return; /* asked again when the table is empty */
	}
	m = calloc(1, sizeof(*m));
	if (m == NULL) {
		return;
	}
	m->job.what = "clear marks";
	m->job.run = marks_run;
	m->job.done = marks_done;
	m->rc = rc;
	m->rio = rc->v->rio;
	m->shm = rc->v->shm;
	m->tree_fd = rc->v->tree_fd;
	m->path_fd = rc->v->path_fd;
	rc->sweeping = true;
	disk_submit(rc->v->disk, DISK_ORDER, &m->job);
}

void marks_sweep_soon(struct reconcile *rc)
{
	if (!rc->started || rc->sweep_timer != NULL) {
		return;
	}
	rc->sweep_timer = clock_timer_add(rc->v->clock, rc,
			clock_now_ns(rc->v->clock) + MARKS_QUIET_NS, marks_sweep, rc);
}
