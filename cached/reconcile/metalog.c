/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: metadata changes without a new object: the segments that bring ours to S3.
 * Way: reconcile appends -> map and queue -> a segment (1 MiB, `log flush`, or metalog_flush) -> PUT.
 *      metalog_load.c fills the map at start; metalog_fold.c writes parts of a fold in between.
 * Thread: core.
 * Owns: queue (malloc), the segment under way.
 * Holds: 1. One segment at a time, in sequence; a sequence number is used up only by a commit, so
 *           a node's segments have no gap.
 *        2. A PUT is If-None-Match; refused, the object is read: equal, an earlier attempt of ours
 *           made it; different, its entries are taken in (a fold must not lose them) and the same
 *           go out under the next number. What is not signed, where it should be, is replaced.
 *        3. Nothing is written before all segments were read (the next number is unknown) or while
 *           the volume is not READY.
 */
#include "metalog_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/log.h"
#include "../base/stats.h"
#include "../core/nodes.h"
#include "../core/volume.h"
#include "index.h"

#define TRIES_BEFORE_TOLD 3u

/* --- the segment under way --- */

static void queued_list_free(struct queued *q)
{
	while (q != NULL) {
		struct queued *next = q->next;

		free(q->line);
		free(q);
		q = next;
	}
}

void metalog_segment_free(struct segment **ps)
{
	struct segment *s = *ps;

	*ps = NULL;
	queued_list_free(s->entries);
	free(s->forged);
	free(s->text);
	free(s);
}

static void segment_put(struct segment *s);

/* Told once; the entries stay. */
static void segment_tell(struct segment *s, int status)
{
	for (struct queued *q = s->entries; q != NULL; q = q->next) {
		void (*committed)(int, void *) = q->committed;

		q->committed = NULL;
		if (committed != NULL) {
			committed(status, q->arg);
		}
	}
}

static bool segment_build(struct segment *s)
{
	const struct metalog_id id = {
		.uuid = &s->ml->v->uuid, .node = s->ml->v->node_id, .seq = s->seq, .base = s->base
	};
	const char **lines = calloc(s->count + 1, sizeof(*lines));
	unsigned n = 0;

	if (lines == NULL) {
		return false;
	}
	for (struct queued *q = s->entries; q != NULL; q = q->next) {
		lines[n++] = q->line;
	}
	free(s->text);
	s->text = metalog_segment_build(&id, lines, s->count, &s->len);
	free(lines);
	return s->text != NULL;
}

static void on_retry(void *arg)
{
	struct metalog *ml = arg;

	ml->retry_timer = NULL;
	if (ml->out != NULL) {
		segment_put(ml->out);
	} else {
		metalog_write(ml);
	}
}

static void retry_later(struct metalog *ml, int64_t delay_ns)
{
	if (ml->retry_timer == NULL) {
		ml->retry_timer = clock_timer_add(ml->v->clock, ml,
				clock_now_ns(ml->v->clock) + delay_ns, on_retry, ml);
	}
}

static void segment_failed(struct segment *s, int status, const char *message)
{
	struct metalog *ml = s->ml;
	bool soon = status == -EAGAIN;

	s->tries++;
	if (s->tries == 1 || s->tries % 10 == 0) {
		log_line(volume_trouble_level(ml->v, LOG_LVL_WARNING), "metalog", 0,
				"volume %s: log segment %" PRIu64 " not written, %s: %s", ml->v->name, s->seq, soon ? "tried again" : "tried again each minute",
				message != NULL ? message : strerror(-status));
	}
	retry_later(ml, soon ? ml->backoff_ns : METALOG_RETRY_MOST_NS);
	ml->backoff_ns = ml->backoff_ns * 2 > METALOG_RETRY_MOST_NS ? METALOG_RETRY_MOST_NS : ml->backoff_ns * 2;
	if (!soon || s->tries >= TRIES_BEFORE_TOLD) {
		segment_tell(s, status);
	}
}

static bool queue_is_due(const struct metalog *ml)
{
	return ml->queue != NULL &&
	       (ml->flush_wanted || ml->queue_bytes >= METALOG_SEGMENT_BYTES);
}

static void segment_committed(struct segment *s)
{
	struct metalog *ml = s->ml;
	char seq[32 + OFS_OID_HEX_BYTES];

	snprintf(seq, sizeof(seq), "%" PRIu64 " %s", s->seq, ml->v->node_id);
	index_kv_set(ml->v->index, METALOG_KV_SEQ, seq);
	nodes_log_at(ml->v->nodes, s->seq);
	ml->next_seq = s->seq + 1;
	ml->backoff_ns = METALOG_RETRY_FIRST_NS;
	ml->out = NULL;
	stats_add(log_segments, 1);
	log_debug("metalog", "volume %s: log segment %" PRIu64 " with %u entries", ml->v->name,
			s->seq, s->count);
	if (s->folds) {
		metalog_fold_written(ml, s);
	}
	metalog_fold_consider(ml);
	if (queue_is_due(ml) || metalog_fold_writes(ml)) {
		metalog_write(ml);
	}
	segment_tell(s, 0); /* last: they may append, flush or end the log */
	metalog_segment_free(&s);
}

/* A request's answer for a segment whose log is gone. */
static bool segment_orphaned(struct segment *s, struct obj_req *req)
{
	s->in_flight = false;
	if (s->ml != NULL) {
		return false;
	}
	objstore_req_free(&req);
	metalog_segment_free(&s);
	return true;
}

static void take_in(struct metalog_entry *e, void *arg)
{
	metalog_merge(arg, e, true);
}

/* Its number holds another segment of this node's. */
static void segment_taken(struct segment *s, const struct obj_result *r)
{
	struct metalog *ml = s->ml;
	struct metalog_id id = { .uuid = &ml->v->uuid, .node = ml->v->node_id, .seq = s->seq };
	const char *why;

	log_error("metalog",
			"volume %s: log segment %" PRIu64 " of this node was written by somebody "
			"else; is a copy of this cache directory in use elsewhere?",
			ml->v->name, s->seq);
	if (metalog_segment_parse((const char *)r->body, r->body_len, &id, take_in, ml, &why) != 0) {
		ml->fold_barred = true;
	}
	s->seq++;
	if (segment_build(s)) {
		segment_put(s);
	} else {
		segment_failed(s, -ENOMEM, NULL);
	}
}

static void on_compare(struct obj_req *req)
{
	struct segment *s = req->arg;
	const struct obj_result *r = &req->result;

	if (segment_orphaned(s, req)) {
		return;
	}
	if (r->status == OBJ_OK && r->body_len == s->len && memcmp(r->body, s->text, s->len) == 0) {
		segment_committed(s);
	} else if (r->status == OBJ_OK && r->proof > OBJ_PROOF_GOOD && r->etag != NULL) {
		free(s->forged);
		s->forged = strdup(r->etag);
		segment_put(s);
	} else if (r->status == OBJ_OK) {
		segment_taken(s, r);
	} else if (r->status == OBJ_NOT_FOUND) {
		segment_failed(s, -EAGAIN, "it came and went");
	} else {
		segment_failed(s, metalog_store_errno(r), r->message);
	}
	objstore_req_free(&req);
}

struct obj_req *metalog_request(struct metalog *ml, int op, uint64_t seq, void *arg)
{
	struct volume *v = ml->v;
	char *key = metalog_key(NULL, v->prefix, v->node_id, seq);
	struct obj_req *req = key != NULL ? objstore_req_new((enum obj_op)op, key) : NULL;

	talloc_free(key);
	if (req != NULL) {
		req->prio = OBJ_PRIO_UPLOAD;
		req->arg = arg;
		req->length = -1;
	}
	return req;
}

static void on_put(struct obj_req *req)
{
	struct segment *s = req->arg;
	const struct obj_result *r = &req->result;
	struct obj_req *get;

	if (segment_orphaned(s, req)) {
		return;
	}
	if (r->status == OBJ_OK) {
		segment_committed(s);
	} else if (r->status != OBJ_PRECONDITION) {
		segment_failed(s, metalog_store_errno(r), r->message);
	} else {
		get = metalog_request(s->ml, OBJ_GET, s->seq, s);
		if (get != NULL) {
			get->done = on_compare;
			s->in_flight = true;
			objstore_submit(s->ml->v->store, get);
		} else {
			segment_failed(s, -ENOMEM, NULL);
		}
	}
	objstore_req_free(&req);
}

static void segment_put(struct segment *s)
{
	struct metalog *ml = s->ml;
	struct obj_req *req;

	if (s->in_flight) {
		return;
	}
	if (ml->v->state != VOLUME_READY) {
		retry_later(ml, METALOG_RETRY_FIRST_NS);
		return;
	}
	req = s->text != NULL || segment_build(s) ? metalog_request(ml, OBJ_PUT, s->seq, s) : NULL;
	if (req != NULL) {
		req->content_type = strdup("text/plain; charset=us-ascii");
		req->body = malloc(s->len);
	}
	if (req == NULL || req->content_type == NULL || req->body == NULL) {
		objstore_req_free(&req);
		segment_failed(s, -ENOMEM, NULL);
		return;
	}
	memcpy(req->body, s->text, s->len);
	req->length = (int64_t)s->len;
	req->if_match = s->forged;
	req->if_none_match = s->forged == NULL;
	s->forged = NULL;
	req->done = on_put;
	s->in_flight = true;
	objstore_submit(ml->v->store, req);
}

/* --- the queue --- */

static void on_flush_time(void *arg)
{
	struct metalog *ml = arg;

	ml->flush_timer = NULL;
	metalog_flush(ml);
}

static void flush_later(struct metalog *ml)
{
	if (ml->flush_timer == NULL) {
		ml->flush_timer = clock_timer_add(ml->v->clock, ml,
				clock_now_ns(ml->v->clock) + ml->v->conf->log_flush_ns,
				on_flush_time, ml);
	}
}

/* A segment of what has waited longest. */
static void queue_take(struct metalog *ml, struct segment *s)
{
	struct queued **last;
	size_t bytes = 0;

	s->entries = ml->queue;
	for (last = &s->entries; *last != NULL && bytes < METALOG_SEGMENT_BYTES;
			last = &(*last)->next) {
		bytes += strlen((*last)->line);
		s->count++;
	}
	ml->queue = *last;
	*last = NULL;
	if (ml->queue == NULL) {
		ml->queue_tail = &ml->queue;
	}
	ml->queue_count -= s->count;
	ml->queue_bytes -= bytes;
	TALLOC_FREE(ml->flush_timer);
	if (ml->queue != NULL) {
		flush_later(ml);
	} else {
		ml->flush_wanted = false;
	}
}

void metalog_write(struct metalog *ml)
{
	bool folds = metalog_fold_writes(ml) && !queue_is_due(ml);
	struct segment *s;

	if (ml->out != NULL || (ml->queue == NULL && !folds)) {
		return;
	}
	if (!ml->loaded || ml->v->state != VOLUME_READY) {
		retry_later(ml, METALOG_RETRY_FIRST_NS);
		return;
	}
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		retry_later(ml, METALOG_RETRY_FIRST_NS);
		return;
	}
	s->ml = ml;
	s->seq = ml->next_seq;
	if (!folds) {
		queue_take(ml, s);
	} else if (!metalog_fold_take(ml, s)) {
		metalog_segment_free(&s);
		retry_later(ml, METALOG_RETRY_MOST_NS);
		return;
	}
	ml->out = s;
	segment_put(s);
}

/* The same change, already on its way (its earlier asker was told of a failure)? */
static bool queue_joined(struct metalog *ml, const struct metalog_entry *e,
		void (*committed)(int status, void *arg), void *arg)
{
	struct queued *lists[] = { ml->out != NULL ? ml->out->entries : NULL, ml->queue };

	for (int i = 0; i < 2; i++) {
		for (struct queued *q = lists[i]; q != NULL; q = q->next) {
			if (q->committed == NULL && q->meta_gen == e->meta_gen &&
					q->data_gen == e->data_gen &&
					ofs_oid_equal(&q->oid, &e->oid)) {
				q->committed = committed;
				q->arg = arg;
				return true;
			}
		}
	}
	return false;
}

/* false: out of memory. */
static bool queue_add(struct metalog *ml, const struct metalog_entry *e,
		void (*committed)(int status, void *arg), void *arg)
{
	struct queued *q = calloc(1, sizeof(*q));

	if (q != NULL) {
		q->line = metalog_line(e);
	}
	if (q == NULL || q->line == NULL) {
		free(q);
		return false;
	}
	q->oid = e->oid;
	q->meta_gen = e->meta_gen;
	q->data_gen = e->data_gen;
	q->committed = committed;
	q->arg = arg;
	*ml->queue_tail = q;
	ml->queue_tail = &q->next;
	ml->queue_count++;
	ml->queue_bytes += strlen(q->line);
	return true;
}

void metalog_append(struct metalog *ml, const struct ofs_oid *oid, uint64_t meta_gen,
		uint64_t data_gen, uint8_t *packed, size_t packed_len,
		void (*committed)(int status, void *arg), void *arg)
{
	struct metalog_entry e = { .oid = *oid,
		.meta_gen = meta_gen,
		.data_gen = data_gen,
		.packed = packed,
		.packed_len = packed_len };
	const struct entry *known = metalog_map_find(ml, oid);
	bool again = known != NULL && known->pub.meta_gen == meta_gen &&
			known->pub.data_gen == data_gen &&
			known->pub.packed_len == packed_len &&
			memcmp(known->pub.packed, packed, packed_len) == 0;

	if (again && queue_joined(ml, &e, committed, arg)) {
		free(packed);
		return;
	}
	if (!queue_add(ml, &e, committed, arg)) {
		free(packed);
		committed(-ENOMEM, arg);
		return;
	}
	metalog_merge(ml, &e, true);
	if (ml->queue_bytes >= METALOG_SEGMENT_BYTES || ml->flush_wanted) {
		metalog_write(ml);
	} else {
		flush_later(ml);
	}
}

void metalog_flush(struct metalog *ml)
{
	if (ml->queue != NULL) {
		ml->flush_wanted = true;
		metalog_write(ml);
	}
}

uint64_t metalog_queued(struct metalog *ml)
{
	return ml->queue_count + (ml->out != NULL && !ml->out->folds ? ml->out->count : 0);
}

uint64_t metalog_segments(struct metalog *ml)
{
	return ml->next_seq - ml->first_seq;
}

/* --- life --- */

bool metalog_load_begin(struct metalog *ml, struct metalog_load *load)
{
	if (ml->load != NULL) {
		return false;
	}
	ml->load = load;
	return true;
}

void metalog_load_over(struct metalog *ml, bool success, const struct metalog_own *own)
{
	ml->load = NULL;
	if (!success || ml->loaded) {
		return;
	}
	ml->loaded = true;
	ml->next_seq = own->last + 1;
	ml->first_seq = own->last != 0 ? own->first : ml->next_seq;
	ml->fold_count = own->fold_count;
	if (ml->reader) {
		return;
	}
	nodes_log_at(ml->v->nodes, own->last);
	metalog_fold_consider(ml);
	if (ml->flush_wanted || metalog_fold_writes(ml)) {
		metalog_write(ml);
	}
}

static int metalog_destroy(struct metalog *ml)
{
	if (ml->load != NULL) {
		metalog_load_orphan(ml->load);
	}
	if (ml->out != NULL) {
		ml->out->ml = NULL;
		if (!ml->out->in_flight) {
			metalog_segment_free(&ml->out);
		}
	}
	if (ml->fold != NULL) {
		metalog_fold_orphan(ml->fold);
	}
	queued_list_free(ml->queue);
	metalog_map_fini(ml);
	return 0;
}

struct metalog *metalog_new(TALLOC_CTX *ctx, struct volume *v)
{
	struct metalog *ml = talloc_zero(ctx, struct metalog);

	if (ml == NULL || !metalog_map_init(ml)) {
		talloc_free(ml);
		return NULL;
	}
	ml->v = v;
	clock_random(v->clock, &ml->seed, sizeof(ml->seed));
	ml->queue_tail = &ml->queue;
	ml->backoff_ns = METALOG_RETRY_FIRST_NS;
	talloc_set_destructor(ml, metalog_destroy);
	return ml;
}

struct metalog *metalog_reader_new(TALLOC_CTX *ctx, struct volume *v)
{
	struct metalog *ml = metalog_new(ctx, v);

	if (ml != NULL) {
		ml->reader = true;
	}
	return ml;
}
