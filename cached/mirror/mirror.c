/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the mirror's room as a whole: made, swept at start, asked by path.
 * Way: core opens it with the volume; objectfsctl asks mirror_refresh, reconcile mirror_relist.
 * Thread: core; sweep_run and refresh_run on a worker.
 * Owns: struct mirror.
 * Holds: what is in limbo/ at start was being made (removed: it never had a name a client knew) or was
 *        being removed when the daemon died (removed if it is clean, else kept and reported).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mirror_private.h"
#include "walk.h"
#include "../reconcile/reconcile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- sweeping limbo/ ---- */

struct sweep_job {
	struct disk_job job;
	struct mirror_place place;
};

static void sweep_entry(const struct mirror_place *p, int limbo, const char *name)
{
	struct ofs_record rec;
	struct stat st;
	bool dirty;

	if (strncmp(name, "new.", 4) == 0) {
		if (strncmp(name + 4, p->token, strlen(p->token)) != 0 &&
				unlinkat(limbo, name, 0) != 0 && errno == EISDIR) {
			unlinkat(limbo, name, AT_REMOVEDIR);
		}
		return;
	}
	if (strncmp(name, "gone.", 5) != 0 ||
			fstatat(limbo, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		return;
	}
	dirty = ofs_record_get_at(&p->rio, limbo, name, &rec) != 0 ||
			(rec.flags & (OFS_REC_DATA_DIRTY | OFS_REC_META_DIRTY)) != 0;
	if (!dirty && unlinkat(limbo, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) == 0) {
		return;
	}
	log_warning("mirror", "limbo/%s was left there by a stop in the middle of a removal and %s; "
			"look at it and move or delete it", name,
			dirty ? "holds changes that are not in S3" : "is not empty");
}

static void sweep_run(struct disk_job *job)
{
	struct sweep_job *j = (struct sweep_job *)job;
	int fd = openat(j->place.limbo_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	if (d == NULL) {
		if (fd >= 0) {
			close(fd);
		}
		return;
	}
	while ((de = readdir(d)) != NULL) {
		if (de->d_name[0] != '.') {
			sweep_entry(&j->place, j->place.limbo_fd, de->d_name);
		}
	}
	closedir(d);
}

static void sweep_done(struct disk_job *job)
{
	free(job);
}

struct mirror *mirror_new(TALLOC_CTX *ctx, struct volume *v)
{
	struct mirror *m = talloc_zero(ctx, struct mirror);
	struct sweep_job *j;
	uint64_t token;

	if (m == NULL) {
		return NULL;
	}
	m->v = v;
	m->list_turn = MIRROR_LIST_TURN;
	m->blobs = blob_cache_new(m);
	clock_random(v->clock, &token, sizeof(token));
	snprintf(m->token, sizeof(m->token), "%016llx", (unsigned long long)token);
	j = calloc(1, sizeof(*j));
	m->absent = absent_new(m);
	if (m->blobs == NULL || m->absent == NULL || j == NULL || brake_new(m) == NULL || walks_new(m) == NULL) {
		free(j);
		talloc_free(m);
		return NULL;
	}
	j->place = mirror_place_of(m);
	j->job.what = "mirror sweep";
	j->job.run = sweep_run;
	j->job.done = sweep_done;
	disk_submit(v->disk, DISK_ORDER, &j->job);
	return m;
}

char *mirror_unready(TALLOC_CTX *ctx, const struct volume *v)
{
	const char *why = v->state_why ? v->state_why : "not connected yet";

	if (v->state == VOLUME_HELD) {
		return talloc_asprintf(ctx, "volume %s does not use S3: %s", v->name, why);
	}
	return talloc_asprintf(ctx, "S3 is not reachable: %s", why);
}

/* ---- by path ---- */

struct refresh_job {
	struct disk_job job;
	struct mirror *m;
	uint64_t request_id;
	struct mirror_place place;
	char *path;
	int fd;
	mirror_done done;
	void *arg;
};

static void refresh_run(struct disk_job *job)
{
	struct refresh_job *j = (struct refresh_job *)job;

	j->fd = mirror_open_beneath(j->place.tree_fd, j->path, O_RDONLY | O_DIRECTORY);
	if (j->fd == -ENOTDIR) { /* of a file: the directory it is in */
		j->fd = mirror_open_beneath(
				j->place.tree_fd, dirname(j->path), O_RDONLY | O_DIRECTORY);
	}
}

static void refresh_done(struct disk_job *job)
{
	struct refresh_job *j = (struct refresh_job *)job;

	if (j->fd < 0) {
		j->done(j->fd == -ENOENT ? -ENOENT : j->fd,
				j->fd == -ENOENT ? "not in the mirror: refresh the directory above it first"
						 : "cannot be opened in the mirror",
				j->arg);
	} else {
		mirror_list(j->m, j->request_id, MIRROR_CLIENT_OWN, j->fd, true, j->done, j->arg);
	}
	free(j->path);
	free(j);
}

void mirror_refresh(struct mirror *m, uint64_t request_id, const char *path, mirror_done done,
		void *arg)
{
	struct refresh_job *j = calloc(1, sizeof(*j));

	path = path ? path + strspn(path, "/") : "";
	if (j == NULL || (j->path = strdup(*path ? path : ".")) == NULL) {
		free(j);
		done(-ENOMEM, "out of memory", arg);
		return;
	}
	j->m = m;
	j->request_id = request_id;
	j->place = mirror_place_of(m);
	j->done = done;
	j->arg = arg;
	j->job.what = "mirror refresh";
	j->job.run = refresh_run;
	j->job.done = refresh_done;
	disk_submit(m->v->disk, DISK_ORDER, &j->job);
}

static void relisted(int status, const char *message, void *arg)
{
	(void)arg;
	if (status != 0) {
		log_notice("mirror", "listing again: %s", message != NULL ? message : strerror(-status));
	}
}

void mirror_relist(struct mirror *m, const char *path)
{
	mirror_refresh(m, 0, path, relisted, NULL);
}

void mirror_when_still(struct mirror *m, TALLOC_CTX *ctx, const struct ofs_oid *dir,
		void (*fn)(void *arg, int status), void *arg)
{
	if (m->v->reconcile == NULL) {
		fn(arg, 0);
		return;
	}
	reconcile_when_still(m->v->reconcile, ctx, dir, MIRROR_STILL_WAIT_NS, fn, arg);
}
