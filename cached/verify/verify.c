/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: one file of the mirror against its object: look, compare, mend.
 * Way: objectfsctl verify, pass.c -> a look at the inode -> content.c -> [evict_damaged -> recall_whole] -> done.
 * Thread: core; look_run and what content.c calls on workers.
 * Owns: files under way; the list of those known to be damaged.
 * Holds:
 *  1. only what is clean, by its record and by its times, before and after each while of reading, is judged: what a
 *     client is writing is never called damaged. No lease is taken and nothing stays open: nobody waits for it;
 *  2. bytes come from the disk (O_DIRECT, where the file system can), not from what the kernel has of them;
 *  3. a damaged file leaves the disk as every other does (evict_file.c: a lease, and S3 has just been seen to have
 *     it), and is a stub, whatever dies, until right bytes have come.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "content.h"
#include "../base/log.h"
#include "../base/stats.h"
#include "../core/volume.h"
#include "../evict/evict.h"
#include "../mirror/mirror_private.h"
#include "../recall/recall.h"
#include "../reconcile/reconcile.h"

struct verify { /* malloc; one file */
	struct disk_job job;
	struct verifier *vf; /* core only */
	struct content *content;
	struct mirror_place place; /* constant, like what follows */
	struct ofs_oid oid;
	char *path;
	uint64_t ino, data_gen;
	int64_t size;
	int status;
	bool repair; /* core only, like what follows */
	uint64_t request_id;
	char *reason;
	verify_done done;
	void *arg;
};

struct verifier *verifier_new(TALLOC_CTX *ctx, struct volume *v)
{
	struct verifier *vf = talloc_zero(ctx, struct verifier);

	if (vf != NULL) {
		vf->v = v;
	}
	return vf;
}

/* ---- what is known to be damaged ---- */

static void damaged_forget(struct verifier *vf, const struct ofs_oid *oid)
{
	for (unsigned i = 0; i < vf->count; i++) {
		if (ofs_oid_equal(&vf->list[i].oid, oid)) {
			talloc_free(vf->list[i].path);
			talloc_free(vf->list[i].etag);
			vf->list[i] = vf->list[--vf->count];
			return;
		}
	}
}

static void damaged_note(struct verifier *vf, const struct ofs_oid *oid, const char *path)
{
	const struct row *row = index_get(vf->v->index, oid);
	struct damaged *d;

	damaged_forget(vf, oid);
	if (row == NULL || row->etag == NULL || vf->count == DAMAGED_MOST) {
		return;
	}
	d = &vf->list[vf->count++];
	d->oid = *oid;
	d->path = talloc_strdup(vf, path);
	d->etag = talloc_strdup(vf, row->etag);
}

unsigned verify_damaged(const struct verifier *vf, const char **path)
{
	unsigned count = 0;

	for (unsigned i = 0; i < vf->count; i++) {
		const struct damaged *d = &vf->list[i];
		const struct row *row = index_get(vf->v->index, &d->oid);

		if (row != NULL && row->live == ROW_HERE && row->etag != NULL && d->path != NULL && d->etag != NULL &&
				strcmp(row->etag, d->etag) == 0) {
			*path = d->path;
			count++;
		}
	}
	return count;
}

/* ---- the inode: workers ---- */

/* 0: clean, and all here; -EALREADY: a stub; -EBUSY: not clean; -errno. */
static int inode_state(const struct verify *f, int fd)
{
	struct ofs_record rec;
	struct stat st;
	int ret;

	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	if (!S_ISREG(st.st_mode) || st.st_ino != f->ino) {
		return -ENOENT;
	}
	ret = ofs_record_get(&f->place.rio, fd, &rec);
	if (ret != 0 || !ofs_oid_equal(&rec.oid, &f->oid)) {
		return -EBUSY; /* a new file, or a copy: not judged by what was here before */
	}
	if ((st.st_mode & OFS_MARKER_MODE) != 0 || (rec.flags & OFS_REC_STUB) != 0) {
		return -EALREADY;
	}
	if ((rec.flags & (OFS_REC_DATA_DIRTY | OFS_REC_META_DIRTY)) != 0 || (rec.flags & OFS_REC_KNOWN) == 0 ||
			rec.data_gen != f->data_gen || st.st_size != f->size || rec.size != (uint64_t)f->size ||
			timespec_ns(st.st_mtim) != rec.mtime_ns) {
		return -EBUSY;
	}
	return 0;
}

static int inode_open(const struct verify *f)
{
	const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_CLOEXEC;
	int fd = mirror_open_beneath(f->place.tree_fd, f->path, flags | O_DIRECT), ret;

	if (fd == -EINVAL) {
		fd = mirror_open_beneath(f->place.tree_fd, f->path, flags);
	}
	if (fd < 0) {
		return fd == -EAGAIN || fd == -ENOENT || fd == -ELOOP || fd == -ENOTDIR ? -EBUSY : fd;
	}
	ret = inode_state(f, fd);
	if (ret != 0) {
		close(fd);
		return ret;
	}
	return fd;
}

static int inode_take(struct content *c)
{
	return inode_open(c->arg);
}

static int inode_give(struct content *c, int fd)
{
	int ret = inode_state(c->arg, fd);

	close(fd);
	return ret;
}

static void look_run(struct disk_job *job)
{
	struct verify *f = (struct verify *)job;
	int fd = inode_open(f);

	f->status = fd < 0 ? fd : 0;
	if (fd >= 0) {
		close(fd);
	}
}

/* ---- the core ---- */

static void file_end(struct verify *f, enum verify_found found, const char *reason, bool mended, const char *stays)
{
	const struct verify_result r = {
		.found = found,
		.path = f->path,
		.reason = reason,
		.bytes = found == VERIFY_RIGHT || found == VERIFY_DAMAGED ? f->size : 0,
		.mended = mended,
		.stays = stays,
	};

	f->done(f->arg, &r);
	content_free(&f->content);
	free(f->path);
	free(f->reason);
	free(f);
}

static void file_fetched(int status, const char *message, uint64_t bytes, void *arg)
{
	struct verify *f = arg;
	char *text;

	(void)bytes;
	if (status == 0) {
		stats_add(verify_mended, 1);
		log_notice("verify", "%s: fetched again from S3", f->path);
		damaged_forget(f->vf, &f->oid);
		file_end(f, VERIFY_DAMAGED, f->reason, true, NULL);
		return;
	}
	text = talloc_asprintf(f->vf, "it is a stub now, and cannot be fetched: %s", message);
	file_end(f, VERIFY_DAMAGED, f->reason, false, text != NULL ? text : "out of memory");
	talloc_free(text);
}

static const char *stays_why(int status)
{
	switch (status) {
	case -EBUSY:
		return "it is open, or was changed just now";
	case -ESTALE:
		return "S3 does not have it, or not so that it can be read at once";
	case -EAGAIN:
		return "S3 cannot be asked now";
	default:
		return strerror(-status);
	}
}

static void file_out(void *arg, int status)
{
	struct verify *f = arg;
	struct verifier *vf = f->vf;
	const struct row *row = index_get(vf->v->index, &f->oid);
	char *path;

	if (status != 0 && status != -EALREADY) {
		file_end(f, VERIFY_DAMAGED, f->reason, false, stays_why(status));
		return;
	}
	path = row != NULL ? index_path(vf->v->index, vf, row) : NULL; /* it may have been renamed */
	recall_whole(vf->v->recalls, f->request_id, path != NULL ? path : f->path, file_fetched, f);
	talloc_free(path);
}

static void file_damaged(struct verify *f, const char *reason)
{
	stats_add(verify_damaged, 1);
	log_warning("verify", "%s: %s%s", f->path, reason, f->repair ? "" : ": objectfsctl verify --repair fetches it again");
	damaged_note(f->vf, &f->oid, f->path);
	f->reason = strdup(reason);
	if (f->repair) {
		evict_damaged(f->vf->v->evictor, &f->oid, file_out, f);
	} else {
		file_end(f, VERIFY_DAMAGED, f->reason, false, NULL);
	}
}

/* What could not be looked at, or not be compared. */
static void file_failed(struct verify *f, int status)
{
	switch (status) {
	case -EALREADY:
		file_end(f, VERIFY_NOT_HERE, NULL, false, NULL);
		break;
	case -EBUSY:
	case -ESTALE:
		file_end(f, VERIFY_IN_USE, "it is newer than S3, or is being changed", false, NULL);
		break;
	case -EIO:
		file_damaged(f, "the disk does not give out its bytes");
		break;
	case -EAGAIN:
		file_end(f, VERIFY_FAILED, "S3 could not be asked for its checksum", false, NULL);
		break;
	default:
		file_end(f, VERIFY_FAILED, strerror(-status), false, NULL);
		break;
	}
}

static void file_compared(struct content *c)
{
	struct verify *f = c->arg;
	char reason[160];

	switch (c->verdict) {
	case CONTENT_RIGHT:
		stats_add(verify_files, 1);
		stats_add(verify_bytes, f->size);
		damaged_forget(f->vf, &f->oid);
		file_end(f, VERIFY_RIGHT, NULL, false, NULL);
		break;
	case CONTENT_WRONG:
		stats_add(verify_files, 1);
		stats_add(verify_bytes, f->size);
		snprintf(reason, sizeof(reason), "its bytes here are not those of its object, by %s",
				content_means_name(c->means));
		file_damaged(f, reason);
		break;
	case CONTENT_UNKNOWN:
		file_end(f, VERIFY_UNTOLD, "nothing is known of its object's bytes", false, NULL);
		break;
	default:
		file_failed(f, c->status);
		break;
	}
}

/* As far as the index knows: S3 has it, and nobody is at it. */
static bool file_is_still(const struct volume *v, const struct row *row)
{
	return row != NULL && row->live == ROW_HERE && row->in_s3 && row->etag != NULL && row->work == NULL &&
	       !recall_busy(v->recalls, row->ino) && !evict_is_running(v->evictor, row->ino);
}

static void file_looked(struct disk_job *job)
{
	struct verify *f = (struct verify *)job;
	struct volume *v = f->vf->v;
	const struct row *row = index_get(v->index, &f->oid);
	char *key;

	if (f->status != 0) {
		file_failed(f, f->status);
		return;
	}
	if (!file_is_still(v, row) || row->ino != f->ino || row->s3_data_gen != f->data_gen || row->s3_size != f->size) {
		file_failed(f, -EBUSY);
		return;
	}
	if (!content_may_tell(v, row)) {
		file_end(f, VERIFY_UNTOLD, "nothing is known of its object's bytes", false, NULL);
		return;
	}
	key = index_key(v->index, f->vf, v->prefix, &row->s3_parent, row->s3_name, false, NULL);
	f->content = key != NULL ? content_new(v, row, key) : NULL;
	talloc_free(key);
	if (f->content == NULL) {
		file_failed(f, -ENOMEM);
		return;
	}
	f->content->take = inode_take;
	f->content->give = inode_give;
	f->content->bytes_s = v->conf->verify_rate_bytes;
	f->content->prio = OBJ_PRIO_HOUSE;
	f->content->done = file_compared;
	f->content->arg = f;
	content_check(f->content);
}

void verify_file(struct verifier *vf, const struct ofs_oid *oid, bool repair, uint64_t request_id, verify_done done,
		void *arg)
{
	const struct row *row = index_get(vf->v->index, oid);
	struct verify_result r = {.found = VERIFY_NOT_HERE};
	struct verify *f;
	char *path;

	if (row == NULL || row->is_dir || row->live != ROW_HERE || (row->in_s3 && row->s3_size == 0)) {
		done(arg, &r);
		return;
	}
	f = calloc(1, sizeof(*f));
	path = index_path(vf->v->index, vf, row);
	if (f == NULL || path == NULL || (f->path = strdup(path)) == NULL || !file_is_still(vf->v, row)) {
		r.found = f == NULL || path == NULL || f->path == NULL ? VERIFY_FAILED : VERIFY_IN_USE;
		r.path = path;
		r.reason = r.found == VERIFY_FAILED ? "out of memory" : "S3 does not have it as it is here, or it is on its way";
		done(arg, &r);
		free(f != NULL ? f->path : NULL);
		free(f);
		talloc_free(path);
		return;
	}
	talloc_free(path);
	f->vf = vf;
	f->place = mirror_place_of(vf->v->mirror);
	f->oid = *oid;
	f->ino = row->ino;
	f->data_gen = row->s3_data_gen;
	f->size = row->s3_size;
	f->repair = repair;
	f->request_id = request_id;
	f->done = done;
	f->arg = arg;
	f->job.what = "look at a file to compare";
	f->job.run = look_run;
	f->job.done = file_looked;
	disk_submit(vf->v->disk, DISK_ANY, &f->job);
}
