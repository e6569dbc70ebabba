/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: extents that somebody waits for come from S3, pinned to one version of the object.
 * Way: recall_go.c -> recall_fetch_enqueue -> GETs of one extent each, in turn over all files ->
 *      bits -> recall_go; what S3 has no more, or has in another version: recall_object.c.
 * Thread: core.
 * Owns: GETs in flight; the turn.
 * Holds: 1. a bit is set after the bytes are in the file, and only for the version the row names;
 *        2. a file with nothing in flight may always start one GET: others that hang cannot stop it
 *           (up to FETCH_OVER times the volume's number).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "recall_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FETCH_ROOM_NS (2 * NS_PER_S) /* GETs wait so long for the cache to have room */
#define FETCH_ROOM_LOOK_NS (10 * NS_PER_MS)
#define FETCH_OVER 4u

static bool fetch_busy(const struct recall *r, uint64_t extent)
{
	return (r->busy[extent / 8] >> (extent % 8)) & 1;
}

static void fetch_busy_set(struct recall *r, uint64_t extent, bool on)
{
	uint8_t bit = (uint8_t)(1u << (extent % 8));

	r->busy[extent / 8] = on ? (r->busy[extent / 8] | bit) : (r->busy[extent / 8] & ~bit);
}

/* ---- one extent ---- */

static void fetch_pump(struct recalls *rs);

void recall_cancel_gets(struct recall *r)
{
	struct recall_get *g;

	for (g = r->gets; g != NULL; g = g->next) {
		atomic_store(&g->req->cancelled, true);
	}
}

int recall_errno(const struct obj_result *res)
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
	evict_note_least(r->rs->v->evictor, &r->oid, r->filled << RECALL_EXTENT_SHIFT);
	if (r->since_ns != 0) {
		times_add(step, first_extent, clock_now_ns(r->rs->v->clock) - r->since_ns);
		r->since_ns = 0;
	}
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
	key = recall_key(r, row);
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
			(fetch_outdated(r, req) || recall_elsewhere(r))) {
		recall_rewind_waits(r);
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
	if (res->status == OBJ_DAMAGED) {
		recall_damage_note(r, req->key);
	}
	if (g->ahead) {
		r->ahead_at = r->ahead_end = 0;
	}
	text = talloc_asprintf(r, "%s: %s", req->key,
			res->message ? res->message : objstore_status_name(res->status));
	log_line(LOG_LVL_WARNING, "recall", req->request_id, "%s", text ? text : "S3 failed");
	recall_fail_extent(r, g->extent, recall_errno(res), text ? text : "S3 failed");
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
	char *key = recall_key(r, row);
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

bool recall_fetch_wanted(struct recall *r)
{
	uint64_t extent, request_id;
	bool ahead;

	return r->state == RECALL_FILLING && fetch_pick(r, &extent, &request_id, &ahead);
}

static bool fetch_lacks_row(const struct recall *r)
{
	const struct row *row = index_get(r->rs->v->index, &r->oid);

	return !r->asking && recall_idle(r) &&
			(row == NULL || !row->in_s3 || row->etag == NULL);
}

static void fetch_pump(struct recalls *rs);

static void fetch_held_over(void *arg)
{
	struct recalls *rs = arg;

	rs->room_timer = NULL;
	fetch_pump(rs);
}

/* The cache is full: files are to go first. They have FETCH_ROOM_NS for it; reads are never refused. */
static bool fetch_is_held(struct recalls *rs)
{
	struct clock *c = rs->v->clock;
	int64_t now = clock_now_ns(c);

	if (evict_can_take(rs->v->evictor, ((uint64_t)rs->running + 1) << RECALL_EXTENT_SHIFT)) {
		rs->room_until_ns = 0;
		return false;
	}
	if (rs->room_until_ns == 0) {
		rs->room_until_ns = now + FETCH_ROOM_NS;
	}
	if (now >= rs->room_until_ns) {
		return false;
	}
	if (rs->room_timer == NULL) {
		rs->room_timer = clock_timer_add(c, rs, now + FETCH_ROOM_LOOK_NS, fetch_held_over, rs);
	}
	return rs->room_timer != NULL;
}

/* Round and round until a whole round started nothing. */
static void fetch_pump(struct recalls *rs)
{
	struct recall *r, *stop = NULL;

	if (rs->pumping) {
		return;
	}
	rs->pumping = true;
	while ((r = rs->turn) != NULL && r != stop && !fetch_is_held(rs)) {
		rs->turn = r->turn_next;
		if (rs->turn == NULL) {
			rs->turn_last = &rs->turn;
		}
		r->in_turn = false;
		if (!recall_fetch_wanted(r)) {
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

void recall_fetch_enqueue(struct recall *r)
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
