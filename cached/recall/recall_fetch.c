/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: extents that somebody waits for come from S3, pinned to one version of the object.
 * Way: recall.c -> recall_go -> GETs of one extent each, in turn over all files -> bits, answers; when
 *      all are here recall_file.c makes the file plain.
 * Thread: core.
 * Owns: GETs in flight; waits until answered.
 * Holds: 1. a bit is set after the bytes are in the file, and only for the version the row names;
 *        2. bytes of two versions never stand beside each other under set bits: if the object was
 *           replaced after something was filled, the map is cleared and its readers are refused;
 *        3. a file with nothing in flight may always start one GET: others that hang cannot stop it
 *           (up to FETCH_OVER times the volume's number).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "recall_private.h"
#include "../reconcile/reconcile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../reconcile/names.h"

#define FETCH_OVER 4u
#define CHECKS_MAX 4u

static bool fetch_busy(const struct recall *r, uint64_t extent)
{
	return (r->busy[extent / 8] >> (extent % 8)) & 1;
}

static void fetch_busy_set(struct recall *r, uint64_t extent, bool on)
{
	uint8_t bit = (uint8_t)(1u << (extent % 8));

	r->busy[extent / 8] = on ? (r->busy[extent / 8] | bit) : (r->busy[extent / 8] & ~bit);
}

static bool fetch_idle(const struct recall *r)
{
	return r->running == 0 && !r->job_running && !r->head_running && !r->asking;
}

/* ---- answers ---- */

static void wait_answer(struct recall_wait *w, int status, const char *message)
{
	w->done(status, message, w->arg);
	talloc_free(w);
}

static void waits_answer_list(struct recall_wait *list, int status, const char *message)
{
	while (list != NULL) {
		struct recall_wait *next = list->next;

		wait_answer(list, status, message);
		list = next;
	}
}

void recall_answer_waits(struct recall *r)
{
	struct recall_wait **pp = &r->waits, *ready = NULL, **last = &ready, *w;

	while ((w = *pp) != NULL) {
		while (w->here < w->end && recall_has(r, w->here)) {
			w->here++;
		}
		if (w->whole ? r->state == RECALL_PLAIN : w->here >= w->end) {
			*pp = w->next;
			w->next = NULL;
			*last = w;
			last = &w->next;
		} else {
			pp = &w->next;
		}
	}
	waits_answer_list(ready, 0, NULL);
}

void recall_fail_waits(struct recall *r, int status, const char *message)
{
	struct recall_wait *list = r->waits;

	r->waits = NULL;
	waits_answer_list(list, status, message);
}

/* Those that need this extent. */
static void fetch_fail_extent(struct recall *r, uint64_t extent, int status, const char *message)
{
	struct recall_wait **pp = &r->waits, *failed = NULL, *w;

	while ((w = *pp) != NULL) {
		if (w->first <= extent && extent < w->end) {
			*pp = w->next;
			w->next = failed;
			failed = w;
		} else {
			pp = &w->next;
		}
	}
	waits_answer_list(failed, status, message);
}

void recall_cancel_gets(struct recall *r)
{
	struct recall_get *g;

	for (g = r->gets; g != NULL; g = g->next) {
		atomic_store(&g->req->cancelled, true);
	}
}

static void fetch_rewind(struct recall *r)
{
	struct recall_wait *w;

	for (w = r->waits; w != NULL; w = w->next) {
		w->at = w->here;
	}
}

static int fetch_errno(const struct obj_result *res)
{
	switch (res->status) {
	case OBJ_DENIED:
		return -EACCES;
	case OBJ_LOCAL:
		return res->local_errno ? -abs(res->local_errno) : -EIO;
	default:
		return -EIO;
	}
}

/* What S3 has is not what we read: every reader is told; the next open starts anew. */
static void fetch_kill(struct recall *r, int status, const char *message)
{
	recall_done discarded = r->discarded;

	recall_hold(r);
	r->state = RECALL_DEAD;
	r->dead_status = status;
	r->dead_message = talloc_strdup(r, message);
	recall_bits_clear(r);
	recall_cancel_gets(r);
	log_notice("recall", "inode %llu: %s", (unsigned long long)r->ino, message);
	if (discarded != NULL) {
		r->discarded = NULL;
		discarded(status, message, r->discarded_arg);
	}
	recall_fail_waits(r, status, message);
	recall_unhold(r);
}

/* ---- the object is gone ---- */

struct unlist_job {
	struct disk_job job;
	struct mirror_place place;
	struct ofs_oid oid;
	char *path;
	int status;
};

static void unlist_run(struct disk_job *job)
{
	struct unlist_job *j = (struct unlist_job *)job;

	j->status = mirror_unlist(&j->place, j->path, &j->oid);
}

static void unlist_done(struct disk_job *job)
{
	struct unlist_job *j = (struct unlist_job *)job;

	if (j->status != 0) {
		log_info("recall", "%s: its listing could not be expired: %s", j->path,
				strerror(-j->status));
	}
	free(j->path);
	free(j);
}

/* The next listing of its directory takes the name away, or brings what it is now. */
static void fetch_end(struct recall *r, int status, const char *message)
{
	struct volume *v = r->rs->v;
	const struct row *row = index_get(v->index, &r->oid), *dir;
	struct unlist_job *j = NULL;
	char *path = NULL;

	dir = row != NULL && row->live == ROW_HERE ? index_get(v->index, &row->parent) : NULL;
	path = dir ? index_path(v->index, r, dir) : NULL;
	j = path ? calloc(1, sizeof(*j)) : NULL;
	if (j != NULL && (j->path = strdup(path)) != NULL) {
		j->place = mirror_place_of(v->mirror);
		j->oid = dir->oid;
		j->job.what = "recall unlist";
		j->job.run = unlist_run;
		j->job.done = unlist_done;
		disk_submit(v->disk, DISK_ORDER, &j->job);
	} else {
		free(j);
	}
	talloc_free(path);
	fetch_kill(r, status, message);
}

static void fetch_gone(struct recall *r)
{
	fetch_end(r, -ENOENT, "the object was deleted in S3");
}

/* ---- is it still the same object? ---- */

static void check_adopted(struct recall_file_job *j)
{
	struct recall *r = j->r;
	int status = j->status;

	free(j);
	if (status != 0) {
		log_warning("recall", "inode %llu: the new version cannot be taken on: %s",
				(unsigned long long)r->ino, strerror(-status));
	}
	fetch_kill(r, -EIO, "the object changed in S3 while it was being read");
}

#define FETCH_MOVES_MAX 64

static char *fetch_key(struct recall *r, const struct row *row)
{
	struct volume *v = r->rs->v;
	char *moved = r->moved && v->reconcile != NULL ? reconcile_moving_key(v->reconcile, r, row)
						       : NULL;

	return moved != NULL ? moved
			     : index_key(v->index, r, v->prefix, &row->s3_parent, row->s3_name, false,
					       NULL);
}

/* A directory above is being renamed in S3: the object is at the old key, at the new one, or at
 * both; the other one is tried. */
static bool fetch_elsewhere(struct recall *r)
{
	const struct row *row = index_get(r->rs->v->index, &r->oid);
	char *other = row != NULL && r->rs->v->reconcile != NULL
			? reconcile_moving_key(r->rs->v->reconcile, r, row) : NULL;

	if (other == NULL || r->moves >= FETCH_MOVES_MAX) {
		return false;
	}
	talloc_free(other);
	r->moved = !r->moved;
	r->moves++;
	return true;
}

static void check_head(struct recall *r, struct obj_result *res)
{
	struct volume *v = r->rs->v;
	struct row *row = index_get(v->index, &r->oid);
	bool same_size = res->size == (int64_t)r->size, same_etag;
	struct recall_file_job *j;
	struct objmeta meta;
	bool damaged = false;
	int64_t mtime_ns;

	memset(&meta, 0, sizeof(meta));
	objmeta_read(res, &meta, &damaged);
	mtime_ns = meta.snapshot != NULL ? meta.snapshot->mtime_ns
					 : (meta.has_mtime ? meta.mtime_ns : res->mtime_ns);
	if (meta.tombstone) {
		objmeta_clear(&meta);
		fetch_gone(r);
		return;
	}
	same_etag = row != NULL && row->etag != NULL && res->etag != NULL &&
			strcmp(row->etag, res->etag) == 0;
	if (!same_etag && meta.snapshot != NULL) {
		/* It brings rights of its own: bytes must not be served under the old ones. The next
		 * listing takes both. */
		objmeta_clear(&meta);
		fetch_end(r, -EIO, "the object changed in S3 while it was being read");
		return;
	}
	objmeta_clear(&meta);
	if (row != NULL && !same_etag) {
		index_set_fence(v->index, row, res->etag, res->version_id, res->size,
				res->mtime_ns);
		index_set_sha256(v->index, row, NULL);
	}
	if (same_size && (same_etag || r->filled == 0) && r->checks < CHECKS_MAX) {
		r->state = RECALL_FILLING;
		fetch_rewind(r);
		recall_go(r);
		return;
	}
	stats_add(remote_changes, 1);
	recall_bits_clear(r);
	j = recall_file_job_new(r->rs, r);
	if (j == NULL) {
		fetch_kill(r, -EIO, "the object changed in S3 while it was being read");
		return;
	}
	j->size = res->size;
	j->mtime_ns = mtime_ns;
	j->done = check_adopted;
	recall_file_adopt(j);
}

static void check_head_done(struct obj_req *req)
{
	struct recall *r = req->arg;
	struct obj_result *res = &req->result;
	char *text;
	int status;

	r->head_running = false;
	if (r->state != RECALL_CHECKING) {
		objstore_req_free(&req);
		recall_go(r);
		return;
	}
	if (res->status == OBJ_OK) {
		check_head(r, res);
	} else if (res->status == OBJ_NOT_FOUND && fetch_elsewhere(r)) {
		r->state = RECALL_FILLING;
		fetch_rewind(r);
		recall_go(r);
	} else if (res->status == OBJ_NOT_FOUND) {
		fetch_gone(r);
	} else {
		text = talloc_asprintf(r, "%s: %s", req->key,
				res->message ? res->message : objstore_status_name(res->status));
		status = fetch_errno(res);
		r->state = RECALL_FILLING;
		recall_hold(r);
		recall_fail_waits(r, status, text ? text : "S3 failed");
		talloc_free(text);
		recall_unhold(r);
	}
	objstore_req_free(&req);
}

static void check_start(struct recall *r)
{
	const struct row *row = index_get(r->rs->v->index, &r->oid);
	char *key = row != NULL && row->in_s3 ? fetch_key(r, row) : NULL;
	struct obj_req *req = key ? objstore_req_new(OBJ_HEAD, key) : NULL;

	talloc_free(key);
	if (req == NULL) {
		r->state = RECALL_FILLING;
		recall_hold(r);
		recall_fail_waits(r, -EIO, "the object's key is not known");
		recall_unhold(r);
		return;
	}
	r->head_running = true;
	r->checks++;
	req->prio = OBJ_PRIO_READER;
	req->request_id = r->waits ? r->waits->request_id : 0;
	req->done = check_head_done;
	req->arg = r;
	objstore_submit(r->rs->v->store, req);
}

/* ---- one extent ---- */

static void fetch_pump(struct recalls *rs);

static void fetch_got(struct recall *r, struct recall_get *g, struct obj_result *res)
{
	uint64_t extent = g->extent;

	if (r->state != RECALL_FILLING || recall_has(r, extent)) {
		return;
	}
	atomic_fetch_or_explicit(&r->map[extent / 8], (uint8_t)(1u << (extent % 8)),
			memory_order_release);
	r->filled++;
	r->checks = 0;
	r->moves = 0;
	stats_add(recall_bytes, res->size);
}

/* Row and key as they are now are not those the GET was sent with: it says nothing. */
static bool fetch_outdated(struct recall *r, const struct obj_req *req)
{
	const struct row *row = index_get(r->rs->v->index, &r->oid);
	char *key;
	bool outdated;

	if (row == NULL || !row->in_s3 || row->etag == NULL) {
		return false;
	}
	key = fetch_key(r, row);
	outdated = key != NULL && (strcmp(key, req->key) != 0 ||
			(req->if_match != NULL && strcmp(req->if_match, row->etag) != 0));
	talloc_free(key);
	return outdated;
}

static void fetch_failed(struct recall *r, struct recall_get *g, struct obj_req *req)
{
	struct obj_result *res = &req->result;
	char *text;

	if (r->state != RECALL_FILLING || res->status == OBJ_CANCELLED) {
		return;
	}
	if ((res->status == OBJ_PRECONDITION || res->status == OBJ_NOT_FOUND) &&
			(fetch_outdated(r, req) || fetch_elsewhere(r))) {
		fetch_rewind(r);
		return;
	}
	if (res->status == OBJ_PRECONDITION || res->status == OBJ_NOT_FOUND ||
			res->status == OBJ_INVALID) { /* 416 comes as invalid: it got shorter */
		r->state = RECALL_CHECKING;
		recall_cancel_gets(r);
		if (res->status != OBJ_INVALID) {
			return;
		}
	}
	stats_add(recall_failures, 1);
	if (g->ahead) {
		r->ahead_at = r->ahead_end = 0;
	}
	text = talloc_asprintf(r, "%s: %s", req->key,
			res->message ? res->message : objstore_status_name(res->status));
	log_line(LOG_LVL_WARNING, "recall", req->request_id, "%s", text ? text : "S3 failed");
	fetch_fail_extent(r, g->extent, fetch_errno(res), text ? text : "S3 failed");
	talloc_free(text);
}

static void fetch_get_done(struct obj_req *req)
{
	struct recall_get *g = req->arg;
	struct recall *r = g->r;
	struct recalls *rs = r->rs;

	recall_hold(r);
	*g->prev = g->next;
	if (g->next != NULL) {
		g->next->prev = g->prev;
	}
	r->running--;
	rs->running--;
	fetch_busy_set(r, g->extent, false);
	if (req->result.status == OBJ_OK && req->result.size != req->length) {
		req->result.status = OBJ_AWAY;
	}
	if (req->result.status == OBJ_OK) {
		fetch_got(r, g, &req->result);
	} else {
		fetch_failed(r, g, req);
	}
	talloc_free(g);
	objstore_req_free(&req);
	recall_go(r);
	recall_unhold(r);
	fetch_pump(rs);
}

static bool fetch_start(struct recall *r, const struct row *row, uint64_t extent,
		uint64_t request_id, bool ahead)
{
	struct recalls *rs = r->rs;
	struct recall_get *g = talloc_zero(r, struct recall_get);
	int64_t offset = (int64_t)(extent << RECALL_EXTENT_SHIFT);
	int64_t left = (int64_t)r->size - offset;
	char *key = fetch_key(r, row);
	struct obj_req *req = key ? objstore_req_new(OBJ_GET, key) : NULL;

	talloc_free(key);
	if (g == NULL || req == NULL || (req->if_match = strdup(row->etag)) == NULL) {
		talloc_free(g);
		objstore_req_free(&req);
		return false;
	}
	req->prio = ahead ? OBJ_PRIO_AHEAD : OBJ_PRIO_READER;
	req->request_id = request_id;
	req->offset = offset;
	req->length = left < RECALL_EXTENT_BYTES ? left : RECALL_EXTENT_BYTES;
	req->sink_fd = r->fd;
	req->sink_offset = offset;
	req->done = fetch_get_done;
	req->arg = g;
	g->r = r;
	g->req = req;
	g->extent = extent;
	g->ahead = ahead;
	g->next = r->gets;
	g->prev = &r->gets;
	if (g->next != NULL) {
		g->next->prev = &g->next;
	}
	r->gets = g;
	fetch_busy_set(r, extent, true);
	r->running++;
	rs->running++;
	objstore_submit(rs->v->store, req);
	return true;
}

/* ---- whose turn it is ---- */

/* The next extent to ask for; false: none. */
static bool fetch_pick(struct recall *r, uint64_t *extent, uint64_t *request_id, bool *ahead)
{
	struct recall_wait *w;

	for (w = r->waits; w != NULL; w = w->next) {
		while (w->at < w->end && (recall_has(r, w->at) || fetch_busy(r, w->at))) {
			w->at++;
		}
		if (w->at < w->end) {
			*extent = w->at;
			*request_id = w->request_id;
			*ahead = false;
			return true;
		}
	}
	while (r->ahead_at < r->ahead_end &&
			(recall_has(r, r->ahead_at) || fetch_busy(r, r->ahead_at))) {
		r->ahead_at++;
	}
	*extent = r->ahead_at;
	*request_id = 0;
	*ahead = true;
	return r->ahead_at < r->ahead_end;
}

static bool fetch_allowed(const struct recall *r, bool ahead)
{
	const struct recalls *rs = r->rs;
	unsigned most = rs->v->conf->parallel_fetches;
	unsigned own = most > 1 ? most / 2 : 1;

	if (r->running >= own) {
		return false;
	}
	return rs->running < most ||
			(!ahead && r->running == 0 && rs->running < FETCH_OVER * most);
}

/* One more GET for this file? */
static bool fetch_step(struct recall *r)
{
	const struct row *row = index_get(r->rs->v->index, &r->oid);
	uint64_t extent, request_id;
	bool ahead;

	if (r->state != RECALL_FILLING || r->asking || r->job_running || row == NULL ||
			!row->in_s3 || row->etag == NULL || !fetch_pick(r, &extent, &request_id, &ahead) ||
			!fetch_allowed(r, ahead)) {
		return false;
	}
	return fetch_start(r, row, extent, request_id, ahead);
}

static bool fetch_has_work(struct recall *r)
{
	uint64_t extent, request_id;
	bool ahead;

	return r->state == RECALL_FILLING && fetch_pick(r, &extent, &request_id, &ahead);
}

static bool fetch_lacks_row(const struct recall *r)
{
	const struct row *row = index_get(r->rs->v->index, &r->oid);

	return !r->asking && fetch_idle(r) &&
			(row == NULL || !row->in_s3 || row->etag == NULL);
}

/* Round and round until a whole round started nothing. */
static void fetch_pump(struct recalls *rs)
{
	struct recall *r, *stop = NULL;

	if (rs->pumping) {
		return;
	}
	rs->pumping = true;
	while ((r = rs->turn) != NULL && r != stop) {
		rs->turn = r->turn_next;
		if (rs->turn == NULL) {
			rs->turn_last = &rs->turn;
		}
		r->in_turn = false;
		if (!fetch_has_work(r)) {
			continue;
		}
		if (fetch_step(r)) {
			stop = NULL;
		} else if (fetch_lacks_row(r)) {
			recall_go(r); /* asks for it */
			continue;
		} else if (stop == NULL) {
			stop = r;
		}
		r->turn_next = NULL;
		*rs->turn_last = r;
		rs->turn_last = &r->turn_next;
		r->in_turn = true;
	}
	rs->pumping = false;
}

static void fetch_enqueue(struct recall *r)
{
	struct recalls *rs = r->rs;

	if (!r->in_turn) {
		r->turn_next = NULL;
		*rs->turn_last = r;
		rs->turn_last = &r->turn_next;
		r->in_turn = true;
	}
	fetch_pump(rs);
}

/* ---- before the first GET: volume, row, fence ---- */

static void ask_failed(struct recall *r, int status, const char *message)
{
	r->asking = false;
	r->ahead_at = r->ahead_end = 0;
	recall_hold(r);
	recall_fail_waits(r, status, message);
	recall_unhold(r);
}

struct ask_place { /* talloc child of the recall */
	struct recall *r;
	char *name;
};

/* The index was lost: the record says that S3 has it; where, its path says. */
static void ask_located(int status, const char *message, struct mirror_dir *dir, void *arg)
{
	struct ask_place *p = arg;
	struct recall *r = p->r;
	struct index *ix = r->rs->v->index;
	struct row *row;
	char *raw;

	if (status != 0) {
		ask_failed(r, -EIO, message);
		return;
	}
	raw = name_to_raw(p, p->name, false);
	row = index_get(ix, &r->oid);
	if (row == NULL) {
		row = index_add(ix, &r->oid, false);
	}
	if (row == NULL || raw == NULL || index_at_s3(ix, &dir->oid, raw, false) != NULL) {
		ask_failed(r, -EIO, "the object of this stub is not known; refresh its directory");
		return;
	}
	if (row->live == ROW_NOT_HERE) {
		index_set_here(ix, row, &dir->oid, p->name, r->ino);
	}
	if (!row->in_s3) {
		index_set_s3(ix, row, &dir->oid, raw);
	}
	talloc_free(p);
	r->asking = false;
	recall_go(r);
}

static void ask_placed(struct recall_file_job *j)
{
	struct recall *r = j->r;
	struct ask_place *p = talloc_zero(r, struct ask_place);

	if (p != NULL) {
		p->r = r;
		p->name = talloc_strdup(p, j->name);
	}
	if (j->status != 0 || p == NULL || p->name == NULL) {
		if (j->parent_fd >= 0) {
			close(j->parent_fd);
		}
		ask_failed(r, -EIO, "the object of this stub is not known, nor is its place");
	} else {
		mirror_locate(r->rs->v->mirror, p, j->parent_fd, NULL, ask_located, p);
	}
	free(j);
}

static void ask_ready(struct volume *v, void *arg, int status)
{
	struct recall *r = arg;
	const struct row *row = index_get(v->index, &r->oid);
	struct recall_file_job *j;

	if (status != 0) {
		char *text = mirror_unready(r, v, status);

		ask_failed(r, status, text ? text : "S3 is not reachable");
		return;
	}
	if (row != NULL && row->in_s3) {
		r->asking = false;
		recall_go(r);
		return;
	}
	j = r->learned ? NULL : recall_file_job_new(r->rs, r);
	r->learned = true;
	if (j == NULL) {
		ask_failed(r, -EIO, "the object of this stub is not known");
		return;
	}
	j->done = ask_placed;
	recall_file_place(j);
}

/* ---- the whole file is here ---- */

static void finish_done(struct recall_file_job *j)
{
	struct recall *r = j->r;
	int status = j->status;

	free(j);
	if (status == 0) {
		stats_add(recalls_whole, 1);
		recall_hold(r);
		recall_became_plain(r);
		recall_answer_waits(r);
		recall_unhold(r);
		return;
	}
	log_warning("recall", "inode %llu cannot be made resident: %s", (unsigned long long)r->ino,
			strerror(-status));
	if (status == -ETIMEDOUT) { /* a lock; the bytes are good */
		r->state = RECALL_FILLING;
		recall_hold(r);
		recall_fail_waits(r, status, "the file's record is locked");
		recall_unhold(r);
		return;
	}
	fetch_kill(r, status == -ESTALE || status == -ENODATA ? -EIO : status,
			"the file cannot be made resident");
}

static void finish_start(struct recall *r)
{
	struct recall_file_job *j = recall_file_job_new(r->rs, r);

	if (j == NULL) {
		recall_fail_waits(r, -ENOMEM, "out of memory");
		return;
	}
	r->state = RECALL_FINISHING;
	j->done = finish_done;
	recall_file_finish(j);
}

/* What FILLING needs next. */
static void fetch_go(struct recall *r)
{
	struct volume *v = r->rs->v;
	const struct row *row;

	if (r->filled == r->extents) {
		finish_start(r);
		return;
	}
	if (!fetch_has_work(r)) {
		return;
	}
	row = index_get(v->index, &r->oid);
	if (v->state != VOLUME_READY || row == NULL || !row->in_s3) {
		r->asking = true;
		volume_when_ready(v, MIRROR_READY_WAIT_NS, ask_ready, r);
	} else if (row->etag == NULL) { /* HEAD first */
		r->state = RECALL_CHECKING;
		if (fetch_idle(r)) {
			check_start(r);
		}
	} else {
		fetch_enqueue(r);
	}
}

void recall_go(struct recall *r)
{
	recall_hold(r);
	recall_answer_waits(r);
	if (r->state == RECALL_DISCARDING && r->running == 0 && !r->job_running &&
			r->discarded != NULL) {
		recall_discard_now(r);
	} else if (r->state == RECALL_CHECKING && fetch_idle(r)) {
		check_start(r);
	} else if (r->state == RECALL_FILLING && !r->asking && !r->job_running) {
		fetch_go(r);
	}
	recall_unhold(r);
}
