/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: end the multipart uploads of ours that nobody goes on with, so that their parts are not paid for.
 * Way: begun.c and the timer -> here -> ABORT, or, where the id was never heard, LIST of the key's uploads -> ABORT.
 * Thread: core.
 * Owns: the requests in flight.
 * Holds:
 *  1. what is ended is ours: its id was the answer to our begin; or nobody heard the answer, and it was begun at the
 *     very key within the hour after we asked, has stood for `upload age`, and is nobody's whom we know;
 *  2. an upload of a file that is still to be sent is left to that, for `upload age`;
 *  3. what could not be ended is tried again, over restarts, until the store says that it is gone.
 *
 *   [begun_looks] -> abort -> gone | later
 *               \--> list -> [stray_next] abort* -> gone | later
 */
#include "begun.h"
#include <stdlib.h>
#include <string.h>
#include "../base/log.h"
#include "../base/stats.h"
#include "../core/volume.h"
#include "../objstore/objstore.h"
#include "../reconcile/index.h"

#define LOOK_NS (60 * NS_PER_S)
#define GRACE_NS (600 * NS_PER_S)     /* until the file of an upload that was left is found to be sent */
#define AWAY_NS (600 * NS_PER_S)      /* what the store did not do is asked for again, */
#define DENIED_NS (86400 * NS_PER_S)  /* what it may not */
#define STRAY_BEFORE_NS (300 * NS_PER_S) /* clocks */
#define STRAY_AFTER_NS (3600 * NS_PER_S) /* a begin waits for its turn, and is tried again and again */

static void begun_later(struct begun *b, enum obj_status st)
{
	b->used = false;
	b->retry_ns = clock_now_ns(b->v->clock) + (st == OBJ_DENIED ? DENIED_NS : AWAY_NS);
	begun_look_at(b->v->begun, LOOK_NS);
}

/* ---- one whose id is known ---- */

static void begun_ended(struct obj_req *req)
{
	struct begun *b = req->arg;
	enum obj_status st = req->result.status;

	if (st == OBJ_OK) {
		stats_add(uploads_ended, 1);
		log_info("upload", "%s: an upload that nobody went on with was ended, and its parts with it", b->key);
	}
	objstore_req_free(&req);
	if (st == OBJ_OK || st == OBJ_INVALID || st == OBJ_NOT_FOUND) {
		begun_gone(&b);
	} else {
		begun_later(b, st);
	}
}

static struct obj_req *begun_req(struct begun *b, enum obj_op op, const char *upload_id, void (*done)(struct obj_req *),
		void *arg)
{
	struct obj_req *req = objstore_req_new(op, b->key);

	req->upload_id = upload_id != NULL ? strdup(upload_id) : NULL;
	req->prio = OBJ_PRIO_HOUSE;
	req->done = done;
	req->arg = arg;
	return req;
}

static void begun_end(struct begun *b)
{
	b->used = true;
	objstore_submit(b->v->store, begun_req(b, OBJ_MPU_ABORT, b->upload_id, begun_ended, b));
}

/* ---- one whose begin was answered to nobody ---- */

struct stray { /* talloc child of its begun */
	struct begun *b;
	struct obj_req *list;
	unsigned next;
};

static void stray_list(struct stray *s, const char *token);

static int stray_destructor(struct stray *s)
{
	objstore_req_free(&s->list);
	return 0;
}

static void stray_end(struct stray *s, enum obj_status st)
{
	struct begun *b = s->b;

	talloc_free(s);
	if (objstore_status_transient(st) || st == OBJ_LOCAL || st == OBJ_CANCELLED || st == OBJ_NO_BUCKET) {
		begun_later(b, st);
	} else {
		begun_gone(&b); /* ended, never begun, or not to be seen by us: then it is fsck's, or a bucket rule's */
	}
}

static bool stray_is_ours(const struct begun *b, const struct obj_entry *e)
{
	return strcmp(e->key, b->key) == 0 && e->mtime_ns >= b->begun_ns - STRAY_BEFORE_NS &&
	       e->mtime_ns <= b->begun_ns + STRAY_AFTER_NS && !begun_knows(b->v, e->version_id);
}

static void stray_next(struct stray *s);

static void stray_ended(struct obj_req *req)
{
	struct stray *s = req->arg;
	enum obj_status st = req->result.status;

	objstore_req_free(&req);
	if (st != OBJ_OK) {
		stray_end(s, st);
		return;
	}
	stats_add(uploads_ended, 1);
	stray_next(s);
}

static void stray_next(struct stray *s)
{
	const struct obj_result *r = &s->list->result;

	while (s->next < r->entry_count) {
		const struct obj_entry *e = &r->entries[s->next++];

		if (stray_is_ours(s->b, e)) {
			objstore_submit(s->b->v->store, begun_req(s->b, OBJ_MPU_ABORT, e->version_id, stray_ended, s));
			return;
		}
	}
	if (r->next_token != NULL) {
		struct obj_req *last = s->list;

		s->list = NULL;
		stray_list(s, last->result.next_token);
		objstore_req_free(&last);
	} else {
		stray_end(s, OBJ_OK);
	}
}

static void stray_listed(struct obj_req *req)
{
	struct stray *s = req->arg;

	s->list = req;
	s->next = 0;
	if (req->result.status == OBJ_OK) {
		stray_next(s);
	} else {
		stray_end(s, req->result.status);
	}
}

static void stray_list(struct stray *s, const char *token)
{
	struct obj_req *req = begun_req(s->b, OBJ_UPLOADS, NULL, stray_listed, s);

	req->token = token != NULL ? strdup(token) : NULL;
	req->rights_told = true; /* it does without */
	objstore_submit(s->b->v->store, req);
}

static void begun_find_stray(struct begun *b)
{
	struct stray *s = talloc_zero(b, struct stray);

	talloc_set_destructor(s, stray_destructor);
	s->b = b;
	b->used = true;
	stray_list(s, NULL);
}

/* ---- all of them ---- */

/* Is its file still to be sent? */
static bool begun_is_wanted(const struct begun *b)
{
	const struct row *row = index_get(b->v->index, &b->oid);

	return row != NULL && row->live == ROW_HERE &&
	       (row->work != NULL || clock_now_ns(b->v->clock) - b->left_ns < GRACE_NS);
}

static void begun_looks(void *arg)
{
	struct begun_set *set = arg;
	struct volume *v = set->v;
	int64_t now = clock_now_ns(v->clock), age = v->conf->upload_age_ns;
	bool may = v->state == VOLUME_READY && v->read_only == NULL;
	struct begun *next;

	set->timer = NULL;
	for (struct begun *b = set->list; b != NULL; b = next) {
		bool old = age > 0 && begun_now_ns(v) - b->begun_ns >= age;

		next = b->next;
		if (b->used || !may || now < b->retry_ns) {
			continue;
		}
		if (b->upload_id == NULL && old) {
			begun_find_stray(b);
		} else if (b->upload_id != NULL && (old || !begun_is_wanted(b))) {
			begun_end(b);
		}
	}
	if (set->list != NULL) {
		begun_look_at(set, LOOK_NS);
	}
}

void begun_look_at(struct begun_set *set, int64_t delay_ns)
{
	if (!set->started || (set->timer != NULL && delay_ns > 0)) {
		return;
	}
	TALLOC_FREE(set->timer);
	set->timer = clock_timer_add(set->v->clock, set, clock_now_ns(set->v->clock) + delay_ns, begun_looks, set);
}

void begun_look(struct begun_set *set)
{
	if (set != NULL && set->list != NULL) {
		begun_look_at(set, 0);
	}
}

void begun_start(struct begun_set *set)
{
	if (set != NULL && !set->started) {
		set->started = true;
		begun_look_at(set, LOOK_NS);
	}
}
