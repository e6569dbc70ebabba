/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: each row of a file has its object, and each object that a listing has come by has its row.
 * Way: fsck.c says what is listed and when a page is over; fsck_rows_check asks once more for what lacks the
 *      other, and mends.
 * Thread: core; directories' records are read on a worker. Owns: the bits, what is in doubt.
 * Holds: 1. only a directory that is listed must know what is in it, and only what was there before;
 *        2. what was in doubt as the bucket was listed is asked for again before it is called wrong.
 */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/log.h"
#include "../mirror/mirror.h"
#include "../reconcile/names.h"
#include "../reconcile/reconcile.h"

struct place { /* a directory that lacks something */
	struct ofs_oid dir;
	char *path;        /* talloc, of nobody; NULL: it is not here */
	int64_t listed_ns; /* 0: it is not listed */
};

struct places_job {
	struct disk_job job;
	struct fsck *f;
	struct ofs_record_io rio;
	int tree_fd;
	struct place *places;
	size_t count;
};

struct asked { /* talloc child of the fsck */
	struct fsck *f;
	struct fsck_lack *lack;
};

static bool row_number(struct row *r, void *arg)
{
	uint32_t *most = arg;

	*most = r->number > *most ? r->number : *most;
	return true;
}

bool fsck_rows_init(struct fsck *f)
{
	uint32_t most = 0;

	index_each(f->v->index, row_number, &most);
	f->seen_bytes = most / 8 + 1;
	f->seen = calloc(f->seen_bytes, 1);
	f->page_lacks_end = &f->page_lacks;
	f->lacks_end = &f->lacks;
	return f->seen != NULL;
}

void fsck_rows_free(struct fsck *f)
{
	free(f->seen);
	free(f->rows);
}

/* --- a page of the listing --- */

static void lack_add(struct fsck *f, const struct ofs_oid *dir, const char *name, bool is_dir,
		const struct obj_entry *e)
{
	struct fsck_lack *lack = talloc_zero(f, struct fsck_lack);

	if (lack == NULL || (lack->name = talloc_strdup(lack, name)) == NULL ||
			(lack->key = talloc_strdup(lack, e->key)) == NULL) {
		talloc_free(lack);
		f->readable = false;
		return;
	}
	lack->dir = *dir;
	lack->is_dir = is_dir;
	lack->mtime_ns = e->mtime_ns;
	*f->page_lacks_end = lack;
	f->page_lacks_end = &lack->next;
}

static void row_seen(struct fsck *f, const struct row *row)
{
	if (row->number / 8 < f->seen_bytes) {
		f->seen[row->number / 8] |= (uint8_t)(1u << row->number % 8);
	}
}

void fsck_rows_saw(struct fsck *f, const struct obj_entry *e)
{
	struct index *ix = f->v->index;
	const char *below = e->key + strlen(f->v->prefix);
	char *copy = talloc_strdup(f, below), *rest = copy, *name = copy;
	struct row *row = index_at_s3(ix, &OFS_OID_APART, below, false);
	struct ofs_oid dir = OFS_OID_ROOT;

	if (copy == NULL) {
		f->readable = false;
		return;
	}
	while (row == NULL && *(name = rest) != '\0' && (row = index_below(ix, &dir, &rest)) != NULL) {
		dir = row->oid;
		row = *rest == '\0' ? row : NULL;
	}
	if (row != NULL) {
		row_seen(f, row);
	} else if (!name_is_reserved(&dir, name) && !redirect_is_from(f->v->reconcile, e->key)) {
		lack_add(f, &dir, name, below[name - copy + (ptrdiff_t)strlen(name)] == '/', e);
	}
	talloc_free(copy);
}

static void places_run(struct disk_job *job)
{
	struct places_job *j = (struct places_job *)job;

	for (size_t i = 0; i < j->count; i++) {
		struct place *p = &j->places[i];
		struct ofs_record rec;
		int fd = p->path != NULL ? mirror_open_beneath(j->tree_fd, p->path, O_RDONLY | O_DIRECTORY) : -1;

		if (fd >= 0 && ofs_record_get(&j->rio, fd, &rec) == 0 && ofs_oid_equal(&rec.oid, &p->dir) &&
				(rec.flags & OFS_REC_LISTED) != 0) {
			p->listed_ns = rec.listed_ns;
		}
		if (fd >= 0) {
			close(fd);
		}
	}
}

/* A listing that does not age serves for ever; one that does has seen what was there before it. */
static bool lack_counts(const struct fsck *f, const struct fsck_lack *lack, int64_t listed_ns)
{
	int64_t ahead = fsck_store_now_ns(f) - clock_wall_ns(f->v->clock);
	int64_t until = f->v->conf->listing_age_ns > 0 ? listed_ns + ahead : fsck_store_now_ns(f);

	return listed_ns > 0 && until - lack->mtime_ns >= FSCK_WRITING_NS(f);
}

static void places_done(struct disk_job *job)
{
	struct places_job *j = (struct places_job *)job;
	struct fsck *f = j->f;
	struct fsck_lack *lack;
	size_t at = 0;

	while ((lack = f->page_lacks) != NULL) {
		f->page_lacks = lack->next;
		while (!ofs_oid_equal(&j->places[at].dir, &lack->dir)) {
			at++;
		}
		if (!lack_counts(f, lack, j->places[at].listed_ns)) {
			talloc_free(lack);
		} else if (f->lack_count == FSCK_FINDINGS_MOST) {
			f->more = true;
			talloc_free(lack);
		} else {
			lack->next = NULL;
			*f->lacks_end = lack;
			f->lacks_end = &lack->next;
			f->lack_count++;
		}
	}
	f->page_lacks_end = &f->page_lacks;
	for (size_t i = 0; i < j->count; i++) {
		talloc_free(j->places[i].path);
	}
	free(j->places);
	free(j);
	fsck_page_over(f);
}

/* One place for all that follow each other in one directory. */
static bool places_fill(struct places_job *j, const struct fsck *f)
{
	const struct fsck_lack *lack;
	struct ofs_oid last = {{0}};
	size_t room = 0;

	for (lack = f->page_lacks; lack != NULL; lack = lack->next) {
		room++;
	}
	j->places = calloc(room, sizeof(*j->places));
	for (lack = f->page_lacks; lack != NULL && j->places != NULL; lack = lack->next) {
		const struct row *row = index_get(f->v->index, &lack->dir);

		if (j->count > 0 && ofs_oid_equal(&lack->dir, &last)) {
			continue;
		}
		last = j->places[j->count].dir = lack->dir;
		j->places[j->count++].path = row != NULL ? index_path(f->v->index, NULL, row) : NULL;
	}
	return j->places != NULL;
}

void fsck_rows_page(struct fsck *f)
{
	struct places_job *j = f->page_lacks != NULL ? calloc(1, sizeof(*j)) : NULL;

	if (j == NULL || !places_fill(j, f)) {
		f->readable &= f->page_lacks == NULL;
		free(j);
		fsck_page_over(f);
		return;
	}
	j->job.what = "look for listings";
	j->job.run = places_run;
	j->job.done = places_done;
	j->f = f;
	j->rio = f->v->rio;
	j->tree_fd = f->v->tree_fd;
	disk_submit(f->v->disk, DISK_ANY, &j->job);
}

/* --- objects without rows --- */

static bool lack_stands(const struct fsck *f, const struct fsck_lack *lack)
{
	return index_get(f->v->index, &lack->dir) != NULL &&
	       index_at_s3(f->v->index, &lack->dir, lack->name, lack->is_dir) == NULL &&
	       !reconcile_place_is_pending(f->v->reconcile, &lack->dir, lack->name);
}

static void lacks_check(struct fsck *f);

static void on_refreshed(int status, const char *message, void *arg)
{
	struct asked *a = arg;
	struct fsck *f = a->f;

	if (status != 0) {
		log_warning("fsck", "volume %s: listing for %s: %s", f->v->name, a->lack->key,
				message != NULL ? message : strerror(-status));
	} else if (!lack_stands(f, a->lack)) {
		fsck_mended(f);
	}
	talloc_free(a);
	f->running--;
	lacks_check(f);
}

static void lack_found(struct fsck *f, struct asked *a)
{
	const struct row *row = index_get(f->v->index, &a->lack->dir);
	char *path = row != NULL ? index_path(f->v->index, a, row) : NULL;

	fsck_found(f, "row-missing", a->lack->key, "its directory is listed anew",
			"it is there, and its directory was listed; no client sees it");
	f->lack_told = a->lack;
	if (f->repair && path != NULL) {
		mirror_refresh(f->v->mirror, 0, path, on_refreshed, a);
		return;
	}
	talloc_free(a);
	f->running--;
	lacks_check(f);
}

static void on_lack(struct obj_req *req)
{
	struct asked *a = req->arg;
	struct fsck *f = a->f;
	const struct obj_result *r = &req->result;
	struct objmeta m = {0};
	bool damaged = false, shown = false;

	if (r->status == OBJ_OK) {
		objmeta_read(r, &m, &damaged);
		shown = !damaged && !m.tombstone; /* each is told elsewhere */
		objmeta_clear(&m);
	} else if (r->status != OBJ_NOT_FOUND) {
		fsck_unseen(f, "asking for", req);
	}
	objstore_req_free(&req);
	if (shown && lack_stands(f, a->lack)) {
		lack_found(f, a);
		return;
	}
	talloc_free(a);
	f->running--;
	lacks_check(f);
}

/* Of many objects below a directory that is lacking the first stands for all. */
static bool lack_is_told(const struct fsck *f, const struct fsck_lack *lack)
{
	const struct fsck_lack *told = f->lack_told;

	return told != NULL && ofs_oid_equal(&told->dir, &lack->dir) && strcmp(told->name, lack->name) == 0 &&
	       told->is_dir == lack->is_dir;
}

static void lacks_check(struct fsck *f)
{
	while (f->running == 0 && f->lacks != NULL) {
		struct fsck_lack *lack = f->lacks;
		struct asked *a = NULL;
		struct obj_req *req = NULL;

		f->lacks = lack->next;
		if (lack_is_told(f, lack) || !lack_stands(f, lack)) {
			continue;
		}
		a = talloc_zero(f, struct asked);
		req = a != NULL ? fsck_request(f, OBJ_HEAD, lack->key, on_lack, a) : NULL;
		if (req == NULL) {
			talloc_free(a);
			f->readable = false;
			continue;
		}
		a->f = f;
		a->lack = lack;
		f->running++;
		objstore_submit(f->v->store, req);
	}
	if (f->running == 0) {
		fsck_rows_over(f);
	}
}

/* --- rows without objects --- */

static void rows_go_on(struct fsck *f);

static bool row_settled(const struct fsck *f, const struct row *r)
{
	return r->in_s3 && r->etag != NULL && r->live == ROW_HERE && !r->is_dir && step_at_home(r) &&
	       !reconcile_is_pending(f->v->reconcile, r);
}

static bool row_unseen(struct row *r, void *arg)
{
	struct fsck *f = arg;
	struct ofs_oid *grown;

	if (!row_settled(f, r) || (r->number / 8 < f->seen_bytes &&
			(f->seen[r->number / 8] >> r->number % 8 & 1) != 0)) {
		return true;
	}
	if (f->row_count == f->row_room) {
		f->row_room = 2 * f->row_room + 64;
		grown = realloc(f->rows, f->row_room * sizeof(*grown));
		if (grown == NULL) {
			f->readable = false;
			return false;
		}
		f->rows = grown;
	}
	f->rows[f->row_count++] = r->oid;
	return true;
}

static void on_row(struct obj_req *req)
{
	struct fsck *f = req->arg;
	struct row *row = index_get(f->v->index, &f->rows[f->row_next - 1]);
	enum obj_status status = req->result.status;
	bool stub = true;

	f->running--;
	if (status == OBJ_NOT_FOUND && row != NULL && row_settled(f, row)) {
		/* Exception: a system call on this thread, for a file whose object is lost. */
		struct ofs_record rec;
		char *path = index_path(f->v->index, f, row);
		int fd = path != NULL ? mirror_open_beneath(f->v->tree_fd, path, O_PATH | O_NOFOLLOW) : -1;

		stub = fd < 0 || ofs_record_get(&f->v->rio, fd, &rec) != 0 ||
				(rec.flags & OFS_REC_STUB) != 0;
		if (fd >= 0) {
			close(fd);
		}
		talloc_free(path);
		fsck_found(f, "object-missing", req->key, stub ? NULL : "sent again from the local disk",
				stub ? "the file is known, its object is not there, nor is its data here: the "
				       "next listing removes the name; restore the object from a version or a backup"
				     : "the file is here, its object is not there");
		if (!stub && f->repair) {
			reconcile_resend(f->v->reconcile, row);
			fsck_mended(f);
		}
	} else if (status != OBJ_OK && status != OBJ_NOT_FOUND) {
		fsck_failed(f, "asking for", req);
	}
	objstore_req_free(&req);
	rows_go_on(f);
}

static void rows_go_on(struct fsck *f)
{
	while (f->row_next < f->row_count) {
		struct row *row = index_get(f->v->index, &f->rows[f->row_next++]);
		char *key = row != NULL && row_settled(f, row)
				? index_key(f->v->index, f, f->v->prefix, &row->s3_parent, row->s3_name,
						  false, NULL) : NULL;
		struct obj_req *req = key != NULL ? fsck_request(f, OBJ_HEAD, key, on_row, f) : NULL;

		talloc_free(key);
		if (req != NULL) {
			f->running++;
			objstore_submit(f->v->store, req);
			return;
		}
	}
	lacks_check(f);
}

void fsck_rows_check(struct fsck *f)
{
	if (f->readable) {
		index_each(f->v->index, row_unseen, f);
	}
	rows_go_on(f);
}
