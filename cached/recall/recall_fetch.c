/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: extents that somebody waits for come from S3, pinned to one version of the object.
 * Way: recall_go.c -> recall_fetch_enqueue -> GETs of one extent each, in turn over all clients
 *      (recall_client.c) and their files -> bits -> recall_go; what S3 has no more, or has in another
 *      version: recall_object.c.
 * Thread: core.
 * Owns: GETs in flight; the turn.
 * Holds: 1. an extent counts as come after its bytes are in the file (rule 5), and only for the version the row
 *           names;
 *        2. the next GET is for the client that has the fewest under way, and of its files for the one
 *           whose turn is longest ago: who reads a million files is one reader among others.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "recall_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FETCH_ROOM_NS (2 * NS_PER_S) /* GETs wait so long for the cache to have room */
#define FETCH_LOOK_NS (20 * NS_PER_MS)

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

	if (r->state != RECALL_FILLING || recall_came(r, extent)) {
		return;
	}
	r->verified = r->verified || (res->held && r->extents == 1);
	recall_take(r, extent);
	r->checks = 0;
	r->moves = 0;
	stats_add(recall_bytes, res->size);
	evict_note_least(r->rs->v->evictor, &r->oid, r->filled << RECALL_EXTENT_SHIFT);
	if (r->since_ns != 0) {
		times_add(step, first_extent, clock_now_ns(r->rs->v->clock) - r->since_ns);
		r->since_ns = 0;
	}
}

static void fetch_failed(struct recall *r, struct recall_get *g, struct obj_req *req)
{
	struct obj_result *res = &req->result;
	char *text;

	if (r->state != RECALL_FILLING || res->status == OBJ_CANCELLED) {
		return;
	}
	if ((res->status == OBJ_PRECONDITION || res->status == OBJ_NOT_FOUND) &&
			(recall_outdated(r, req) || recall_elsewhere(r))) {
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
	if (g->ahead && res->status == OBJ_AWAY) { /* who has come to wait for it asks himself, and longer */
		r->ahead_by = NULL;
		recall_rewind_waits(r);
		return;
	}
	stats_add(recall_failures, 1);
	if (res->status == OBJ_DAMAGED) {
		recall_damage_note(r, req->key);
	}
	if (g->ahead) {
		r->ahead_by = NULL;
	}
	text = talloc_asprintf(r, "%s: %s", req->key,
			res->message ? res->message : objstore_status_name(res->status));
	log_line(volume_trouble_level(r->rs->v, LOG_LVL_WARNING), "recall", req->request_id, "%s", text);
	recall_fail_extent(r, g->extent, recall_errno(res), text);
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
	g->client->running--;
	recall_client_put(g->client);
	fetch_busy_set(r, g->extent, false);
	if (req->result.status == OBJ_OK && req->result.size != g->bytes) {
		req->result.status = OBJ_PRECONDITION; /* it is not what the file says, whatever its ETag */
	}
	if (req->result.status == OBJ_OK) {
		fetch_got(r, g, &req->result);
	} else {
		fetch_failed(r, g, req);
	}
	evict_coming(rs->v->evictor, -g->bytes);
	talloc_free(g);
	objstore_req_free(&req);
	recall_go(r);
	recall_unhold(r);
	fetch_pump(rs);
}

/* The GET to be sent next. */
struct fetch_choice {
	struct recall *r; /* NULL: none may be sent */
	struct recall_client *client;
	uint64_t extent, request_id;
	bool ahead;
};

static bool fetch_start(const struct fetch_choice *c)
{
	struct recall *r = c->r;
	struct recalls *rs = r->rs;
	const struct row *row = index_get(rs->v->index, &r->oid);
	struct recall_get *g = talloc_zero(r, struct recall_get);
	int64_t offset = (int64_t)(c->extent << RECALL_EXTENT_SHIFT);
	int64_t left = (int64_t)r->size - offset;
	char *key = recall_key(r, row);
	struct obj_req *req;

	if (key == NULL) {
		talloc_free(g);
		return false;
	}
	req = objstore_req_new(OBJ_GET, key);
	talloc_free(key);
	req->if_match = strdup(row->etag);
	req->prio = c->ahead ? OBJ_PRIO_AHEAD : OBJ_PRIO_READER;
	req->request_id = c->request_id;
	req->offset = offset;
	g->bytes = left < RECALL_EXTENT_BYTES ? left : RECALL_EXTENT_BYTES;
	req->length = offset == 0 && g->bytes == left ? -1 : g->bytes; /* whole: held against its checksum */
	req->sink_fd = r->fd;
	req->sink_offset = offset;
	req->done = fetch_get_done;
	req->arg = g;
	g->r = r;
	g->client = recall_client_again(c->client);
	g->req = req;
	g->extent = c->extent;
	g->ahead = c->ahead;
	g->next = r->gets;
	g->prev = &r->gets;
	if (g->next != NULL) {
		g->next->prev = &g->next;
	}
	r->gets = g;
	fetch_busy_set(r, c->extent, true);
	r->running++;
	rs->running++;
	recall_client_pay(c->client, g->bytes);
	evict_coming(rs->v->evictor, g->bytes);
	objstore_submit(rs->v->store, req);
	return true;
}

/* ---- whose turn it is ---- */

static bool wait_wants(struct recall *r, struct recall_wait *w)
{
	while (w->at < w->end && (recall_came(r, w->at) || fetch_busy(r, w->at))) {
		w->at++;
	}
	return w->at < w->end;
}

static bool ahead_wants(struct recall *r)
{
	if (r->ahead_by == NULL) {
		return false;
	}
	while (r->ahead_at < r->ahead_end &&
			(recall_came(r, r->ahead_at) || fetch_busy(r, r->ahead_at))) {
		r->ahead_at++;
	}
	return r->ahead_at < r->ahead_end;
}

bool recall_fetch_wanted(struct recall *r)
{
	struct recall_wait *w;

	if (r->state != RECALL_FILLING) {
		return false;
	}
	for (w = r->waits; w != NULL; w = w->next) {
		if (wait_wants(r, w)) {
			return true;
		}
	}
	return ahead_wants(r);
}

/* Fewer under way, and then: somebody waits. */
static unsigned choice_rank(const struct recall_client *client, bool ahead)
{
	return 2 * client->running + ahead;
}

static void fetch_choose(struct recall *r, struct fetch_choice *c)
{
	struct recall_wait *w;

	for (w = r->waits; w != NULL; w = w->next) {
		if (!wait_wants(r, w) || !recall_client_may(w->client, r->running == 0) ||
				(c->r != NULL && choice_rank(w->client, false) >=
								choice_rank(c->client, c->ahead))) {
			continue;
		}
		if (recall_client_slows(w)) {
			r->rs->slowing = true;
			continue;
		}
		*c = (struct fetch_choice){r, w->client, w->at, w->request_id, false};
	}
	if (!ahead_wants(r) || !recall_client_may(r->ahead_by->client, false) ||
			recall_client_is_over(r->ahead_by->client) ||
			(c->r != NULL && choice_rank(r->ahead_by->client, true) >=
							choice_rank(c->client, c->ahead))) {
		return;
	}
	*c = (struct fetch_choice){r, r->ahead_by->client, r->ahead_at, 0, true};
}

/* May a GET be sent for this file, whoever wants it? */
static bool fetch_allowed(const struct recall *r)
{
	const struct row *row = index_get(r->rs->v->index, &r->oid);
	unsigned most = r->rs->v->conf->parallel_fetches;

	return !r->asking && !r->job_running && row != NULL && row->in_s3 && row->etag != NULL &&
			r->failed_at != r->rs->pumps && r->running < (most > 1 ? most / 2 : 1);
}

static bool fetch_lacks_row(const struct recall *r)
{
	const struct row *row = index_get(r->rs->v->index, &r->oid);

	return !r->asking && recall_idle(r) &&
			(row == NULL || !row->in_s3 || row->etag == NULL);
}

static void turn_cut(struct recalls *rs, struct recall **at)
{
	struct recall *r = *at;

	*at = r->turn_next;
	if (rs->turn_last == &r->turn_next) {
		rs->turn_last = at;
	}
	r->in_turn = false;
}

static void turn_enter(struct recall *r)
{
	struct recalls *rs = r->rs;

	r->turn_next = NULL;
	*rs->turn_last = r;
	rs->turn_last = &r->turn_next;
	r->in_turn = true;
}

void recall_fetch_leave(struct recall *r)
{
	struct recall **pp = &r->rs->turn;

	if (!r->in_turn) {
		return;
	}
	while (*pp != r) {
		pp = &(*pp)->turn_next;
	}
	turn_cut(r->rs, pp);
}

/* Who is next of all; those that want nothing more leave the turn. */
static struct fetch_choice fetch_next(struct recalls *rs)
{
	struct fetch_choice c = {0};
	struct recall **pp = &rs->turn, *r;

	rs->slowing = false;
	while ((r = *pp) != NULL) {
		if (!recall_fetch_wanted(r)) {
			turn_cut(rs, pp);
		} else if (fetch_lacks_row(r)) {
			turn_cut(rs, pp);
			recall_go(r); /* asks for it; whatever it calls may change the turn */
			c.r = NULL;
			pp = &rs->turn;
		} else {
			if (fetch_allowed(r)) {
				fetch_choose(r, &c);
			}
			pp = &r->turn_next;
		}
	}
	return c;
}

static void fetch_look(void *arg)
{
	struct recalls *rs = arg;

	rs->look_timer = NULL;
	fetch_pump(rs);
}

static void fetch_look_later(struct recalls *rs)
{
	struct clock *c = rs->v->clock;

	if (rs->look_timer == NULL) {
		rs->look_timer = clock_timer_add(c, rs, clock_now_ns(c) + FETCH_LOOK_NS, fetch_look, rs);
	}
}

/* The cache is full: files are to go first. They have FETCH_ROOM_NS for it; reads are never refused. */
static bool fetch_is_held(struct recalls *rs)
{
	int64_t now = clock_now_ns(rs->v->clock);

	if (evict_can_take(rs->v->evictor, RECALL_EXTENT_BYTES)) {
		rs->room_until_ns = 0;
		return false;
	}
	if (rs->room_until_ns == 0) {
		rs->room_until_ns = now + FETCH_ROOM_NS;
	}
	if (now >= rs->room_until_ns) {
		return false;
	}
	fetch_look_later(rs);
	return true;
}

/* As many as may be sent. */
static void fetch_pump(struct recalls *rs)
{
	struct fetch_choice c;

	if (rs->pumping) {
		return;
	}
	rs->pumping = true;
	rs->pumps++;
	rs->slowing = false;
	while (rs->turn != NULL && !fetch_is_held(rs)) {
		c = fetch_next(rs);
		if (c.r == NULL) {
			break;
		}
		if (!fetch_start(&c)) {
			c.r->failed_at = rs->pumps;
		}
		recall_fetch_leave(c.r);
		turn_enter(c.r);
	}
	rs->pumping = false;
	if (rs->slowing) {
		fetch_look_later(rs);
	}
}

void recall_fetch_enqueue(struct recall *r)
{
	if (!r->in_turn) {
		turn_enter(r);
	}
	fetch_pump(r->rs);
}
