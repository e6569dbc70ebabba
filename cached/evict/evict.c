/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: one file out of the local disk: may it go, does S3 have it, go.
 * Way: space.c, objectfsctl -> evict_file -> is the bucket ours (core/sure.c)? -> HEAD -> disk job (evict_file.c) ->
 *      the table of what is here -> done.
 * Thread: core.
 * Owns: evictions under way, at most EVICT_AT_ONCE by space.c.
 * Holds: 1. nothing goes that S3 was not just seen to have, in this version, and to give out (rule 18): a
 *           bucket that lost an object, or moved it to an archive, does not take ours along, nor does one that is
 *           not this volume's and was given the object by mistake, for longer than SEEN_AGE_NS;
 *        2. a recall of the same inode begins after the job has ended, and none is under way when it
 *           starts;
 *        3. done comes once.
 *
 *   asked -> bucket seen -> HEAD -> job -> out        (row changed, in use, not the same in S3: stays)
 */
#include "private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../base/waits.h"
#include "../core/sure.h"
#include "../mirror/foreign.h"
#include "../recall/recall.h"
#include "../reconcile/reconcile.h"

#define SEEN_AGE_NS (60 * NS_PER_S)

static int64_t now_s(const struct evictor *ev)
{
	return clock_wall_ns(ev->v->clock) / NS_PER_S;
}

struct evictor *evictor_new(TALLOC_CTX *ctx, struct volume *v)
{
	struct evictor *ev = talloc_zero(ctx, struct evictor);

	if (ev == NULL) {
		return NULL;
	}
	ev->v = v;
	ev->keep = keep_new(ev);
	ev->space = space_new(ev);
	if (ev->keep == NULL || ev->space == NULL) {
		talloc_free(ev);
		return NULL;
	}
	pins_load(ev);
	return ev;
}

void evictor_count(struct evictor *ev)
{
	if (ev->census == NULL) {
		census_start(ev);
	}
}

void evictor_start(struct evictor *ev)
{
	evictor_count(ev);
	if (!ev->started) {
		ev->started = true;
		space_start(ev->space);
	}
}

/* ---- what is here ---- */

void evict_note(struct evictor *ev, const struct ofs_oid *oid, uint64_t bytes)
{
	if (ev != NULL) {
		keep_set(ev->keep, oid, bytes, now_s(ev));
		space_kick(ev->space);
	}
}

void evict_note_least(struct evictor *ev, const struct ofs_oid *oid, uint64_t bytes)
{
	if (ev != NULL) {
		keep_set_least(ev->keep, oid, bytes, now_s(ev));
		space_kick(ev->space);
	}
}

void evict_note_use(struct evictor *ev, const struct ofs_oid *oid)
{
	if (ev != NULL) {
		keep_touch(ev->keep, oid, now_s(ev));
	}
}

void evict_note_gone(struct evictor *ev, const struct ofs_oid *oid)
{
	if (ev != NULL) {
		keep_drop(ev->keep, oid);
	}
}

bool evict_is_here(const struct evictor *ev, const struct ofs_oid *oid)
{
	return keep_has(ev->keep, oid);
}

bool evict_has_room(const struct evictor *ev)
{
	return space_has_room(ev->space);
}

void evict_coming(struct evictor *ev, int64_t bytes)
{
	if (ev != NULL) {
		space_coming(ev->space, bytes);
	}
}

bool evict_can_take(struct evictor *ev, uint64_t bytes)
{
	return ev == NULL || space_can_take(ev->space, bytes);
}

json_t *evict_json(struct evictor *ev)
{
	json_t *o = space_json(ev->space);

	json_object_set_new(o, "bytes", json_integer((json_int_t)keep_bytes(ev->keep)));
	json_object_set_new(o, "files", json_integer((json_int_t)keep_count(ev->keep)));
	json_object_set_new(o, "pins", json_integer(ev->pins.count));
	json_object_set_new(o, "census", json_boolean(ev->census == NULL || census_running(ev)));
	return o;
}

/* ---- one file ---- */

static struct eviction *eviction_of(struct evictor *ev, uint64_t ino)
{
	struct eviction *e = ev->running;

	while (e != NULL && e->ino != ino) {
		e = e->next;
	}
	return e;
}

bool evict_is_running(struct evictor *ev, uint64_t ino)
{
	return eviction_of(ev, ino) != NULL;
}

bool evict_wait(struct evictor *ev, uint64_t ino, void (*fn)(void *arg), void *arg)
{
	struct eviction *e = ev != NULL ? eviction_of(ev, ino) : NULL;

	if (e == NULL || !e->on_disk) {
		return false;
	}
	waits_add(&e->waits, e, fn, arg); /* the recall would fill what is being emptied */
	return true;
}

static void eviction_end(struct eviction *e, int status)
{
	struct evictor *ev = e->ev;

	*e->prev = e->next;
	if (e->next != NULL) {
		e->next->prev = e->prev;
	}
	ev->count--;
	if (status == 0 || status == -EALREADY) {
		keep_gone(ev->keep, &e->oid);
	} else {
		keep_stays(ev->keep, &e->oid);
	}
	waits_end(&e->waits);
	e->done(e->arg, status);
	talloc_free(e);
}

/* May it go, as far as the index knows? 0 or a status of evict_file. */
static int evict_may(struct evictor *ev, const struct row *row, bool damaged)
{
	struct volume *v = ev->v;
	char *moving;

	if (row == NULL || row->is_dir || row->live != ROW_HERE) {
		return -ENOENT;
	}
	if (!row->in_s3 || row->etag == NULL || row->work != NULL || recall_busy(v->recalls, row->ino)) {
		return -EBUSY;
	}
	if (!damaged && evict_is_pinned(ev, row)) {
		return -EPERM;
	}
	if (v->state != VOLUME_READY || v->away) {
		return -EAGAIN;
	}
	moving = reconcile_moving_key(v->reconcile, ev, row, 1);
	talloc_free(moving);
	return moving != NULL ? -EBUSY : 0;
}

static void evict_job_done(struct disk_job *job)
{
	struct evict_job *j = (struct evict_job *)job;
	struct eviction *e = j->e;
	struct volume *v = e->ev->v;
	struct row *row = index_get(v->index, &e->oid);
	int status = j->status;

	if (status == 0) {
		stats_add(evictions, 1);
		stats_add(evicted_bytes, j->freed);
		log_debug("evict", "%s: out, %llu bytes", j->path, (unsigned long long)j->freed);
	} else if (status == -EUCLEAN) {
		log_notice("evict", "%s was changed below the share, not through it: it is sent to S3",
				j->path);
		if (row != NULL && row->live == ROW_HERE) {
			reconcile_resend(v->reconcile, row);
		}
		status = -EBUSY;
	} else {
		log_debug("evict", "%s: stays: %s", j->path, strerror(-status));
	}
	free(j->path);
	free(j);
	eviction_end(e, status);
}

static void evict_submit(struct eviction *e, const struct row *row)
{
	struct volume *v = e->ev->v;
	struct evict_job *j = calloc(1, sizeof(*j));
	char *path = index_path(v->index, e, row);

	if (j == NULL || path == NULL || (j->path = strdup(path)) == NULL) {
		free(j);
		eviction_end(e, path == NULL ? -ENOENT : -ENOMEM);
		return;
	}
	talloc_free(path);
	j->job.what = "evict";
	j->job.run = evict_job_run;
	j->job.done = evict_job_done;
	j->e = e;
	j->place = mirror_place_of(v->mirror);
	j->oid = e->oid;
	j->ino = e->ino;
	j->data_gen = row->s3_data_gen;
	j->size = row->s3_size;
	e->on_disk = true;
	disk_submit(v->disk, DISK_ANY, &j->job);
}

static void evict_head_done(struct obj_req *req)
{
	struct eviction *e = req->arg;
	struct volume *v = e->ev->v;
	struct row *row = index_get(v->index, &e->oid);
	const struct obj_result *r = &req->result;
	int status = evict_may(e->ev, row, e->damaged);

	if (status == 0 && row->ino != e->ino) {
		status = -EBUSY;
	}
	if (status == 0 && r->status != OBJ_OK && r->status != OBJ_NOT_FOUND) {
		status = -EAGAIN;
	}
	if (status == 0 && (r->status == OBJ_NOT_FOUND || r->etag == NULL ||
					strcmp(r->etag, row->etag) != 0 || r->size != row->s3_size)) {
		stats_add(evict_refused, 1);
		log_warning("evict", "%s: S3 does not have what is here (%s): it stays; the next listing "
				"of its directory looks", req->key,
				r->status == OBJ_NOT_FOUND ? "no such object" : "another version");
		status = -ESTALE;
	}
	if (status == 0 && !foreign_none(r)) {
		index_set_plain(v->index, row, false); /* tags change neither ETag nor time */
	}
	/* A copy of it that cannot be had at once is no copy to rely on. */
	if (status == 0 && foreign_is_archived(r->storage_class)) {
		stats_add(evict_refused, 1);
		log_notice("evict", "%s: S3 has it in %s only: it stays", req->key, r->storage_class);
		status = -ESTALE;
	}
	objstore_req_free(&req);
	if (status == 0) {
		evict_submit(e, row);
	} else {
		eviction_end(e, status);
	}
}

static void evict_seen(int status, const char *message, void *arg)
{
	struct eviction *e = arg;
	struct volume *v = e->ev->v;
	const struct row *row = index_get(v->index, &e->oid);
	struct obj_req *req = NULL;
	char *key;

	(void)message;
	if (status == 0) {
		status = row != NULL && row->in_s3 ? 0 : -EBUSY;
	} else {
		status = -EAGAIN;
	}
	if (status == 0) {
		key = index_key(v->index, e, v->prefix, &row->s3_parent, row->s3_name, false, NULL);
		req = key != NULL ? objstore_req_new(OBJ_HEAD, key) : NULL;
		status = req != NULL ? 0 : -ENOMEM;
	}
	if (status != 0) {
		eviction_end(e, status);
		return;
	}
	req->prio = OBJ_PRIO_HOUSE;
	req->done = evict_head_done;
	req->arg = e;
	objstore_submit(v->store, req);
}

static void evict_begin(struct evictor *ev, const struct ofs_oid *oid, bool damaged, void (*done)(void *arg, int status),
		void *arg)
{
	struct volume *v = ev->v;
	struct row *row = index_get(v->index, oid);
	struct eviction *e;
	int status;

	if (row != NULL && row->live == ROW_HERE && !row->is_dir) {
		recall_forget(v->recalls, row->ino); /* kept only because readers come back */
	}
	status = evict_may(ev, row, damaged);
	if (status == 0 && (row->s3_size == 0 ||
				(!damaged && !keep_has(ev->keep, oid) && !census_running(ev)))) {
		status = -EALREADY; /* blocks of an empty file are its attributes */
	}
	if (status == 0 && eviction_of(ev, row->ino) != NULL) {
		status = -EBUSY;
	}
	if (status != 0) {
		if (status == -ENOENT || status == -EALREADY) {
			keep_drop(ev->keep, oid);
		} else {
			keep_stays(ev->keep, oid);
		}
		done(arg, status);
		return;
	}
	e = talloc_zero(ev, struct eviction);
	if (e == NULL) {
		keep_stays(ev->keep, oid);
		done(arg, -ENOMEM);
		return;
	}
	(void)keep_take(ev->keep, oid);
	e->ev = ev;
	e->oid = *oid;
	e->ino = row->ino;
	e->damaged = damaged;
	e->done = done;
	e->arg = arg;
	e->next = ev->running;
	e->prev = &ev->running;
	if (e->next != NULL) {
		e->next->prev = &e->next;
	}
	ev->running = e;
	ev->count++;
	volume_sure_lately(v, SEEN_AGE_NS, evict_seen, e);
}

void evict_file(struct evictor *ev, const struct ofs_oid *oid, void (*done)(void *arg, int status),
		void *arg)
{
	evict_begin(ev, oid, false, done, arg);
}

void evict_damaged(struct evictor *ev, const struct ofs_oid *oid, void (*done)(void *arg, int status),
		void *arg)
{
	evict_begin(ev, oid, true, done, arg);
}

static void evict_closed_done(void *arg, int status)
{
	(void)arg;
	(void)status; /* what is open after all goes later: space.c looks at all */
}

void evict_closed(struct evictor *ev, const struct ofs_oid *oid)
{
	if (ev != NULL && ev->v->conf->evict_at_close) {
		evict_file(ev, oid, evict_closed_done, NULL);
	}
}
