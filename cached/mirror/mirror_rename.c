/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: files get another name in the mirror because a directory came to their name in the bucket, or
 * went: mirror_name_of says which.
 * Way: from mirror_agree.c before new names are made; a job works on the tree; the rows follow.
 *      mirror_make.c's jobs for files whose rows were lost.
 * Thread: core; rename_run on a worker (DISK_ORDER: later looks find the new name).
 * Owns: the list of renamings while the job runs.
 * Holds: 1. a file that anybody has open keeps its name: smbd goes by names at close, delete, reconnect;
 *        2. a name that is taken is left alone;
 *        3. the object stays where it is: both names stand for one key.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mirror_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../core/rings.h"
#include "../reconcile/names.h"

struct rename_job {
	struct disk_job job;
	struct mirror *m;
	struct mirror_dir *seen; /* core only */
	struct mirror_target dir;
	struct renaming *list;
	uint64_t *inodes;
	void (*done)(struct renaming *list, void *arg);
	void *arg;
};

void renaming_free(struct renaming **r)
{
	if (*r != NULL) {
		free((*r)->from);
		free((*r)->to);
		free(*r);
		*r = NULL;
	}
}

/* Is it called so already? Renamed before a crash that its row has not outlived. */
static bool rename_was_done(const struct rename_job *j, struct renaming *r)
{
	struct ofs_record rec;
	struct stat st;

	if (ofs_record_get_at(&j->dir.place.rio, j->dir.fd, r->to, &rec) != 0 ||
			!ofs_oid_equal(&rec.oid, &r->oid) ||
			fstatat(j->dir.fd, r->to, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		return false;
	}
	r->ino = st.st_ino;
	return true;
}

int mirror_rename_one(const struct mirror_place *p, int dir_fd, const char *from, const char *to,
		const struct ofs_oid *oid, uint64_t *ino)
{
	struct ofs_record rec;
	struct stat st;
	int fd, ret;

	if (ofs_record_get_at(&p->rio, dir_fd, from, &rec) != 0 || !ofs_oid_equal(&rec.oid, oid)) {
		return -ENOENT;
	}
	fd = mirror_open_alone(dir_fd, from);
	if (fd < 0) {
		return fd;
	}
	/* Again, of what is open now. */
	ret = ofs_record_get(&p->rio, fd, &rec) == 0 && ofs_oid_equal(&rec.oid, oid) ? 0 : -ENOENT;
	if (ret == 0 && (fstat(fd, &st) != 0 ||
					renameat2(dir_fd, from, dir_fd, to, RENAME_NOREPLACE) != 0)) {
		ret = -errno;
	}
	if (ret == 0) {
		*ino = st.st_ino;
	}
	mirror_lease_drop(fd);
	close(fd);
	return ret;
}

static void rename_run(struct disk_job *job)
{
	struct rename_job *j = (struct rename_job *)job;
	struct renaming *r;
	int ret = mirror_target_check(&j->dir);

	for (r = j->list; r != NULL; r = r->next) {
		r->status = ret == 0 && r->held ? -EAGAIN : ret;
		if (r->status == 0 && !rename_was_done(j, r)) {
			r->status = mirror_rename_one(&j->dir.place, j->dir.fd, r->from, r->to, &r->oid,
					&r->ino);
		}
	}
	if (ret == 0) {
		mirror_target_keep_times(&j->dir);
	}
}

static void rename_done(struct disk_job *job)
{
	struct rename_job *j = (struct rename_job *)job;
	struct index *ix = j->m->v->index;
	struct renaming *r;

	for (r = j->list; r != NULL; r = r->next) {
		struct row *row = index_get(ix, &r->oid);

		if (r->status == -EAGAIN && row != NULL) {
			mirror_later(j->m, &j->dir.oid, row->ino);
		}
		if (r->status == 0 && row != NULL && row->live != ROW_TRASHED) {
			index_set_here(ix, row, &j->dir.oid, r->to, r->ino);
			/* Also while its directory is listed for the first time: the name was seen. */
			news_add(j->seen, &j->seen->news, OFS_WIRE_NOTIFY_REMOVED, r->from, false);
			news_add(j->seen, &j->seen->news, OFS_WIRE_NOTIFY_ADDED, r->to, false);
			stats_add(files_beside, row->in_s3 && name_is_beside_dir(r->to, row->s3_name));
		}
	}
	close(j->dir.fd);
	j->done(j->list, j->arg);
	free(j);
}

/* smbd goes by names: at close, and when the client of a durable handle comes back. */
static void rename_asked(const uint8_t *states, void *arg)
{
	struct rename_job *j = arg;
	size_t i = 0;

	for (struct renaming *r = j->list; r != NULL; r = r->next) {
		r->held = states == NULL || states[i++] != 0;
	}
	free(j->inodes);
	disk_submit(j->m->v->disk, DISK_ORDER, &j->job);
}

void mirror_rename(struct mirror *m, struct mirror_dir *dir, struct renaming *list,
		void (*done)(struct renaming *list, void *arg), void *arg)
{
	struct rename_job *j = calloc(1, sizeof(*j));
	struct renaming *r;
	size_t count = 0;

	for (r = list; r != NULL; r = r->next) {
		count++;
	}
	if (j == NULL || (j->inodes = calloc(count + 1, sizeof(*j->inodes))) == NULL ||
			mirror_target_open(m, dir, &j->dir) != 0) {
		free(j != NULL ? j->inodes : NULL);
		free(j);
		for (r = list; r != NULL; r = r->next) {
			r->status = -ENOMEM;
		}
		done(list, arg);
		return;
	}
	j->m = m;
	j->seen = dir;
	j->list = list;
	j->done = done;
	j->arg = arg;
	j->job.what = "mirror rename";
	j->job.run = rename_run;
	j->job.done = rename_done;
	count = 0;
	for (r = list; r != NULL; r = r->next) {
		const struct row *row = index_get(m->v->index, &r->oid);

		j->inodes[count++] = row != NULL ? row->ino : 0;
	}
	mirror_held(m, j->inodes, count, rename_asked, j);
}
