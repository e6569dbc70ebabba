/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what a base says of the files on one page of LIST.
 * Way: base_write.c with a page -> the last base's rows -> the tree's metadata (a disk job) -> HEAD of what is
 *      not certain -> base_rows_ready.
 * Thread: core; snap_run on a worker.
 * Owns: the page's names.
 * Holds: 1. a row is of the version that LIST shows, or there is none. The tree's metadata are, if the
 *           object is not younger than the row's last sight of it; else HEAD says whose they are;
 *        2. they are clean: S3 has them, in the object or in the log;
 *        3. of two that know the same version the one with the higher meta_gen counts.
 *
 *   base_rows_start -> names_old -> snap_run -> names_ask -> base_rows_ready
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "base_priv.h"
#include "foreign.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../reconcile/names.h"

#define HEADS_AT_ONCE 8u

struct snap_file {
	struct base_name *name; /* core only */
	char *local;
	struct ofs_oid oid;
	uint64_t data_gen, meta_gen;
	/* out */
	int status;
	struct snapshot *snapshot;
};

struct snap_job {
	struct disk_job job;
	struct base_write *w; /* core only */
	struct ofs_record_io rio;
	int tree_fd;
	char *path;
	struct snap_file *files;
	unsigned count;
};

/* ---- the page ---- */

void base_rows_free(struct base_write *w)
{
	for (unsigned i = 0; i < w->count; i++) {
		free(w->names[i].raw);
		free(w->names[i].etag);
		base_row_clear(&w->names[i].known);
		base_row_clear(&w->names[i].own);
	}
	TALLOC_FREE(w->names);
	w->count = w->at = 0;
}

int base_rows_take(struct base_write *w, struct obj_result *page)
{
	size_t prefix = strlen(w->prefix);

	w->names = talloc_zero_array(w, struct base_name, page->entry_count + 1);
	if (w->names == NULL) {
		return -ENOMEM;
	}
	for (unsigned i = 0; i < page->entry_count; i++) {
		struct obj_entry *e = &page->entries[i];
		struct base_name *n = &w->names[w->count];

		if (e->is_prefix || e->key == NULL || e->etag == NULL || e->mtime_ns <= 0 ||
				strncmp(e->key, w->prefix, prefix) != 0 || e->key[prefix] == '\0' ||
				name_is_reserved(&w->dir, e->key + prefix)) {
			continue;
		}
		n->raw = strdup(e->key + prefix);
		if (n->raw == NULL) {
			return -ENOMEM;
		}
		n->etag = e->etag;
		e->etag = NULL;
		n->size = e->size;
		n->mtime_ns = e->mtime_ns;
		w->count++;
	}
	return 0;
}

/* Is this Last-Modified not later than the row's? Most answers that rows are from have whole seconds. */
static bool name_was_seen(const struct base_name *n, const struct row *row)
{
	if (row->s3_mtime_ns % NS_PER_S != 0) {
		return n->mtime_ns == row->s3_mtime_ns;
	}
	return row->s3_mtime_ns > 0 && n->mtime_ns < row->s3_mtime_ns + NS_PER_S;
}

/* Its row, if it is of this version and at rest: in the tree, clean as far as we know. */
static struct row *name_row(struct base_write *w, const struct base_name *n)
{
	struct row *row = index_at_s3(w->v->index, &w->dir, n->raw, false);

	return row != NULL && row->live == ROW_HERE && row->work == NULL && row->has_object &&
			row->etag != NULL && strcmp(row->etag, n->etag) == 0 && row->s3_size == n->size &&
			ofs_oid_equal(&row->parent, &w->dir) ? row : NULL;
}

/* ---- the tree: a worker ---- */

/* Clean before and after its metadata were read, in one generation: they are of that. */
static int snap_read(const struct snap_job *j, int dir_fd, struct snap_file *f)
{
	struct ofs_record rec, after;
	int fd = openat(dir_fd, f->local, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOATIME | O_CLOEXEC), ret;

	if (fd < 0) {
		return -errno;
	}
	ret = ofs_record_get(&j->rio, fd, &rec);
	ret = ret != 0 ? ret : snapshot_read(fd, j->rio.xattr, &f->snapshot);
	ret = ret != 0 ? ret : ofs_record_get(&j->rio, fd, &after);
	close(fd);
	if (ret != 0) {
		return ret;
	}
	if (!ofs_oid_equal(&rec.oid, &f->oid) || rec.data_gen != f->data_gen || rec.meta_gen != f->meta_gen ||
			((rec.flags | after.flags) & (OFS_REC_DATA_DIRTY | OFS_REC_META_DIRTY)) != 0 ||
			after.meta_gen != rec.meta_gen || after.flags != rec.flags) {
		return -EBUSY;
	}
	f->snapshot->mode &= ~(uint32_t)OFS_MARKER_MODE;
	if (rec.flags & OFS_REC_STUB) {
		f->snapshot->mtime_ns = rec.mtime_ns;
		f->snapshot->atime_ns = rec.atime_ns;
	}
	snapshot_split(f->snapshot, OBJMETA_SNAPSHOT_BUDGET);
	return 0;
}

static void snap_run(struct disk_job *job)
{
	struct snap_job *j = (struct snap_job *)job;
	int dir_fd = mirror_open_beneath(j->tree_fd, j->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (unsigned i = 0; i < j->count; i++) {
		j->files[i].status = dir_fd < 0 ? dir_fd : snap_read(j, dir_fd, &j->files[i]);
	}
	if (dir_fd >= 0) {
		close(dir_fd);
	}
}

static void snap_free(struct snap_job **pj)
{
	struct snap_job *j = *pj;

	*pj = NULL;
	for (unsigned i = 0; i < j->count; i++) {
		free(j->files[i].local);
		snapshot_free(&j->files[i].snapshot);
	}
	free(j->files);
	free(j->path);
	free(j);
}

/* ---- HEAD of what is not certain ---- */

static void names_ask(struct base_write *w);

static void name_drop_own(struct base_name *n)
{
	base_row_clear(&n->own);
	n->has_own = n->unsure = false;
}

/* Is the object the one that the tree's metadata is of, and nothing newer? */
static bool name_is_own(const struct base_name *n, const struct obj_result *r)
{
	struct objmeta m = {0};
	bool damaged = false, same;

	if (r->status != OBJ_OK || r->etag == NULL || strcmp(r->etag, n->etag) != 0 || r->size != n->size ||
			r->mtime_ns / NS_PER_S != n->mtime_ns / NS_PER_S) {
		return false;
	}
	objmeta_read(r, &m, &damaged);
	if (damaged || m.tombstone) {
		same = false;
	} else if (m.ours) {
		same = n->own.snapshot != NULL && ofs_oid_equal(&m.oid, &n->own.oid) &&
				(ofs_oid_is_none(&n->own.wid) ? m.meta_gen <= n->own.meta_gen
							      : ofs_oid_equal(&m.wid, &n->own.wid));
	} else {
		same = n->own.data_gen == 0; /* without a version of ours, perhaps with metadata in the log */
	}
	objmeta_clear(&m);
	return same;
}

struct name_ask { /* talloc child of the write */
	struct base_write *w;
	struct base_name *n;
};

static void ask_done(struct obj_req *req)
{
	struct name_ask *ask = req->arg;
	struct base_write *w = ask->w;
	struct base_name *n = ask->n;
	struct row *row = name_row(w, n);

	talloc_free(ask);
	w->running--;
	if (row == NULL || mirror_row_print(row) != n->print || !name_is_own(n, &req->result)) {
		name_drop_own(n);
	} else {
		n->unsure = false;
		index_set_fence(w->v->index, row, row->etag, row->version_id, &row->wid, row->s3_size,
				req->result.mtime_ns);
		n->own.plain = foreign_none(&req->result);
		index_set_plain(w->v->index, row, n->own.plain);
	}
	objstore_req_free(&req);
	names_ask(w);
}

static bool ask_send(struct base_write *w, struct base_name *n)
{
	char *key = talloc_asprintf(w, "%s%s", w->prefix, n->raw);
	struct name_ask *ask = talloc(w, struct name_ask);
	struct obj_req *req = key != NULL && ask != NULL ? objstore_req_new(OBJ_HEAD, key) : NULL;

	talloc_free(key);
	if (req == NULL) {
		talloc_free(ask);
		return false;
	}
	*ask = (struct name_ask){.w = w, .n = n};
	req->prio = OBJ_PRIO_HOUSE;
	req->done = ask_done;
	req->arg = ask;
	w->running++;
	objstore_submit(w->v->store, req);
	return true;
}

static void names_ask(struct base_write *w)
{
	while (w->at < w->count && w->running < HEADS_AT_ONCE) {
		struct base_name *n = &w->names[w->at++];

		if (n->unsure && !n->has_known && !ask_send(w, n)) {
			name_drop_own(n);
		}
	}
	if (w->at == w->count && w->running == 0) {
		w->at = 0;
		base_rows_ready(w);
	}
}

/* ---- what the tree says ---- */

static void name_take(struct base_write *w, struct base_name *n, struct snap_file *f)
{
	const struct row *row = name_row(w, n);
	struct ofs_oid foreign;
	char *key;

	if (f->status != 0 || row == NULL || mirror_row_print(row) != n->print) {
		return;
	}
	n->own.oid = row->oid;
	n->own.wid = row->wid;
	n->own.plain = row->plain;
	n->own.data_gen = row->s3_data_gen;
	n->own.meta_gen = row->s3_meta_gen;
	n->own.mtime_ns = f->snapshot->mtime_ns;
	if (row->s3_data_gen == 0 && row->s3_meta_gen == 0) {
		key = talloc_asprintf(w, "%s%s", w->prefix, n->raw);
		if (key != NULL) {
			objmeta_foreign_oid(&w->v->uuid, key, &foreign);
		}
		if (key == NULL || !ofs_oid_equal(&foreign, &row->oid)) {
			talloc_free(key);
			return; /* another program's, whose id was taken */
		}
		talloc_free(key);
	} else {
		n->own.snapshot = f->snapshot;
		f->snapshot = NULL;
	}
	n->own.name = strdup(n->raw);
	n->own.etag = strdup(n->etag);
	n->own.size = n->size;
	n->own.s3_mtime_ns = n->mtime_ns;
	n->own.version_id = w->v->store->caps.versioned && row->version_id != NULL ? strdup(row->version_id)
										   : NULL;
	n->has_own = n->own.name != NULL && n->own.etag != NULL;
	n->unsure = !name_was_seen(n, row);
}

static void snap_done(struct disk_job *job)
{
	struct snap_job *j = (struct snap_job *)job;
	struct base_write *w = j->w;

	for (unsigned i = 0; i < j->count; i++) {
		name_take(w, j->files[i].name, &j->files[i]);
	}
	snap_free(&j);
	w->at = 0;
	names_ask(w);
}

static bool snap_add(struct snap_job *j, struct base_write *w, struct base_name *n)
{
	const struct row *row = name_row(w, n);
	struct snap_file *f = &j->files[j->count];

	if (row == NULL || n->mtime_ns > w->asked_ns - BASE_YOUNG_NS) {
		w->what.young += row != NULL;
		return true;
	}
	f->name = n;
	f->local = strdup(row->name);
	f->oid = row->oid;
	f->data_gen = row->s3_data_gen;
	f->meta_gen = row->s3_meta_gen;
	n->print = mirror_row_print(row);
	j->count++;
	return f->local != NULL;
}

static void snap_start(struct base_write *w)
{
	struct row *dir = index_get(w->v->index, &w->dir);
	char *path = dir != NULL ? index_path(w->v->index, w, dir) : NULL;
	struct snap_job *j = calloc(1, sizeof(*j));
	bool memory = j != NULL && (j->files = calloc(w->count + 1, sizeof(*j->files))) != NULL &&
			(j->path = strdup(path != NULL ? path : "")) != NULL;

	for (unsigned i = 0; memory && i < w->count && path != NULL; i++) {
		memory = snap_add(j, w, &w->names[i]);
	}
	talloc_free(path);
	if (!memory) {
		if (j != NULL) {
			snap_free(&j);
		}
		base_write_fail(w, -ENOMEM, "out of memory");
		return;
	}
	j->w = w;
	j->rio = w->v->rio;
	j->tree_fd = w->v->tree_fd;
	j->job.what = "mirror base rows";
	j->job.run = snap_run;
	j->job.done = snap_done;
	disk_submit(w->v->disk, DISK_ANY, &j->job);
}

/* ---- what the last base says ---- */

void base_rows_go_on(struct base_write *w)
{
	while (w->at < w->count) {
		struct base_name *n = &w->names[w->at];
		int ret = base_read_row(w->old, n->raw, &n->known);

		if (ret == -EAGAIN) {
			return;
		}
		n->has_known = ret == 0 && strcmp(n->known.etag, n->etag) == 0 && n->known.size == n->size &&
				n->known.s3_mtime_ns == n->mtime_ns;
		if (!n->has_known) {
			base_row_clear(&n->known);
		}
		w->at++;
	}
	snap_start(w);
}

void base_rows_start(struct base_write *w)
{
	w->at = 0;
	base_rows_go_on(w);
}

const struct base_row *base_rows_of(struct base_write *w, const struct base_name *n)
{
	const struct base_row *k = &n->known, *o = &n->own;

	if (!n->has_own) {
		return n->has_known ? k : NULL;
	}
	if (!n->has_known) {
		w->differs++;
		return o;
	}
	if (k->meta_gen > o->meta_gen) {
		return k;
	}
	w->differs += k->meta_gen != o->meta_gen || k->data_gen != o->data_gen ||
			!ofs_oid_equal(&k->oid, &o->oid);
	return o;
}
