/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the object behind a recall: under which key it is, whether it is still the one whose bytes
 *       are being read, and what its readers are told if it is not.
 * Way: recall_fetch.c meets 404, 412 or 416, or recall_go.c a row without ETag -> CHECKING ->
 *      recall_check_start, once it is idle -> HEAD -> FILLING again, or recall_kill.
 * Thread: core.
 * Owns: the HEAD in flight.
 * Holds: 1. bytes of two versions never stand beside each other under set bits (rule 19): if the object was
 *           replaced after something was filled, the map is cleared and its readers are refused;
 *        2. an object that brings rights of its own is not read under the old ones: the next
 *           listing takes both.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "recall_private.h"
#include "../mirror/foreign.h"
#include "../reconcile/reconcile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHECKS_MAX 4u
#define OBJECT_PLACES 32u /* five renames of directories one above the other */
#define OBJECT_MOVES_MAX 64

/* ---- where it is ---- */

char *recall_key(struct recall *r, const struct row *row)
{
	struct volume *v = r->rs->v;
	char *moved = r->place != 0 && v->reconcile != NULL
				      ? reconcile_moving_key(v->reconcile, r, row, r->place)
				      : NULL;

	return moved != NULL ? moved
			     : index_key(v->index, r, v->prefix, &row->s3_parent, row->s3_name, false,
					       NULL);
}

bool recall_outdated(struct recall *r, const struct obj_req *req)
{
	const struct row *row = index_get(r->rs->v->index, &r->oid);
	bool outdated = false;
	char *key;

	if (row == NULL || !row->in_s3) {
		return false;
	}
	key = recall_key(r, row);
	if (key != NULL) {
		outdated = strcmp(key, req->key) != 0 ||
			   (req->if_match != NULL && row->etag != NULL &&
					   strcmp(req->if_match, row->etag) != 0);
	}
	talloc_free(key);
	return outdated;
}

/* Directories above are being renamed in S3, perhaps one below the other: every key has its copy before
 * one is deleted, so the object is at one of the places at least. */
bool recall_elsewhere(struct recall *r)
{
	const struct row *row = index_get(r->rs->v->index, &r->oid);
	unsigned next = r->place;
	char *key = NULL;

	if (row == NULL || r->rs->v->reconcile == NULL || r->moves >= OBJECT_MOVES_MAX) {
		return false;
	}
	while (key == NULL && ++next < OBJECT_PLACES) {
		key = reconcile_moving_key(r->rs->v->reconcile, r, row, next);
	}
	talloc_free(key);
	next = key != NULL ? next : 0;
	if (next == r->place) {
		return false;
	}
	r->place = next;
	r->moves++;
	return true;
}

/* ---- it is damaged ---- */

static struct recall_damage *damage_of(struct recalls *rs, const struct ofs_oid *oid)
{
	for (unsigned i = 0; i < rs->damage_count; i++) {
		if (ofs_oid_equal(&rs->damage[i].oid, oid)) {
			return &rs->damage[i];
		}
	}
	return NULL;
}

static void damage_end(struct recalls *rs, struct recall_damage *d)
{
	talloc_free(d->key);
	talloc_free(d->etag);
	*d = rs->damage[--rs->damage_count];
}

void recall_damage_forget(struct recall *r)
{
	struct recall_damage *d = r->rs->damage_count > 0 ? damage_of(r->rs, &r->oid) : NULL;

	if (d != NULL) {
		damage_end(r->rs, d);
	}
}

void recall_damage_note(struct recall *r, const char *key)
{
	struct recalls *rs = r->rs;
	const struct row *row = index_get(rs->v->index, &r->oid);
	struct recall_damage *d;

	recall_damage_forget(r);
	if (row == NULL || row->etag == NULL) {
		return;
	}
	if (rs->damage_count == RECALL_DAMAGED_MAX) {
		damage_end(rs, &rs->damage[0]);
	}
	d = &rs->damage[rs->damage_count++];
	d->oid = r->oid;
	d->key = talloc_strdup(rs, key);
	d->etag = talloc_strdup(rs, row->etag);
}

unsigned recall_damaged(const struct recalls *rs, const char **key)
{
	unsigned count = 0;

	for (unsigned i = 0; i < rs->damage_count; i++) {
		const struct recall_damage *d = &rs->damage[i];
		const struct row *row = index_get(rs->v->index, &d->oid);

		if (row != NULL && row->in_s3 && row->etag != NULL && strcmp(row->etag, d->etag) == 0) {
			*key = d->key;
			count++;
		}
	}
	return count;
}

/* ---- it is another one, or gone ---- */

/* What S3 has is not what we read: every reader is told; the next open starts anew. */
void recall_kill(struct recall *r, int status, const char *message)
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
static void object_end(struct recall *r, int status, const char *message)
{
	struct volume *v = r->rs->v;
	const struct row *row = index_get(v->index, &r->oid), *dir;
	struct unlist_job *j;
	char *path;

	dir = row != NULL && row->live == ROW_HERE ? index_get(v->index, &row->parent) : NULL;
	path = dir ? index_path(v->index, r, dir) : NULL;
	if (path != NULL) {
		j = calloc(1, sizeof(*j));
		j->path = strdup(path);
		j->place = mirror_place_of(v->mirror);
		j->oid = dir->oid;
		j->job.what = "recall unlist";
		j->job.run = unlist_run;
		j->job.done = unlist_done;
		disk_submit(v->disk, DISK_ORDER, &j->job);
	}
	talloc_free(path);
	recall_kill(r, status, message);
}

static void object_gone(struct recall *r)
{
	object_end(r, -ENOENT, "the object was deleted in S3");
}

/* ---- is it still the same? ---- */

static void check_adopted(struct recall_file_job *j)
{
	struct recall *r = j->r;
	int status = j->status;

	free(j);
	if (status != 0) {
		log_warning("recall", "inode %llu: the new version cannot be taken on: %s",
				(unsigned long long)r->ino, strerror(-status));
	}
	recall_kill(r, -EIO, "the object changed in S3 while it was being read");
}

static void check_head(struct recall *r, const char *key, struct obj_result *res)
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
		object_gone(r);
		return;
	}
	same_etag = row != NULL && row->etag != NULL && res->etag != NULL &&
			strcmp(row->etag, res->etag) == 0;
	if (!same_etag && meta.snapshot != NULL) {
		/* It brings rights of its own: bytes must not be served under the old ones. The next
		 * listing takes both. */
		objmeta_clear(&meta);
		object_end(r, -EIO, "the object changed in S3 while it was being read");
		return;
	}
	objmeta_clear(&meta);
	if (row != NULL && !same_etag) {
		index_set_fence(v->index, row, res->etag, res->version_id, NULL, res->size,
				res->mtime_ns);
		index_set_plain(v->index, row, foreign_none(res));
		index_set_sha256(v->index, row, NULL);
	}
	if (same_size && (same_etag || r->filled == 0) && r->checks < CHECKS_MAX) {
		r->state = RECALL_FILLING;
		recall_rewind_waits(r);
		recall_go(r);
		return;
	}
	if (same_size && same_etag) { /* each HEAD says so, and each GET that it is not there */
		recall_damage_note(r, key);
		recall_kill(r, -EIO, "the store has the object, and does not give out all its bytes");
		return;
	}
	if (same_etag) { /* the row is of this version, and the file of another: to a listing it is one that has changed */
		index_set_fence(v->index, row, NULL, ROW_LOST, NULL, 0, 0);
		object_end(r, -EIO, "the file here is of another version than the one in S3");
		return;
	}
	stats_add(remote_changes, 1);
	recall_bits_clear(r);
	j = recall_file_job_new(r->rs, r);
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
	if (res->status == OBJ_OK) {
		check_head(r, req->key, res);
	} else if (res->status == OBJ_NOT_FOUND &&
			(recall_outdated(r, req) || recall_elsewhere(r))) {
		r->state = RECALL_FILLING;
		recall_rewind_waits(r);
		recall_go(r);
	} else if (res->status == OBJ_NOT_FOUND) {
		object_gone(r);
	} else {
		text = talloc_asprintf(r, "%s: %s", req->key,
				res->message ? res->message : objstore_status_name(res->status));
		status = recall_errno(res);
		r->state = RECALL_FILLING;
		recall_hold(r);
		recall_fail_waits(r, status, text);
		talloc_free(text);
		recall_unhold(r);
	}
	objstore_req_free(&req);
}

void recall_check_start(struct recall *r)
{
	const struct row *row = index_get(r->rs->v->index, &r->oid);
	char *key = row != NULL && row->in_s3 ? recall_key(r, row) : NULL;
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
