/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: metadata changes without a new object: the newest for every object, and the segments that
 *       bring ours to S3.
 * Way: reconcile appends -> queue -> a segment (1 MiB, `log flush`, or metalog_flush) -> PUT; mirror
 *      asks metalog_find. metalog_load.c fills the map at start.
 * Thread: core.
 * Owns: entries and queue (malloc), the segment under way.
 * Holds: 1. One segment at a time, in sequence; a sequence number is used up only by a commit, so
 *           a node's segments have no gap.
 *        2. A PUT is If-None-Match; refused, the object is read: equal, an earlier attempt of ours
 *           made it; different, the same entries go out under the next number.
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
#include "../core/volume.h"
#include "index.h"

#define SEGMENT_BYTES (1u << 20)
#define RETRY_FIRST_NS NS_PER_S
#define RETRY_MOST_NS (60 * NS_PER_S)
#define TRIES_BEFORE_TOLD 3u
#define MAP_BUCKETS_MIN 256u

struct entry { /* in the map */
	struct metalog_entry pub;
	struct entry *next;
};

struct queued { /* an entry's line on its way */
	struct queued *next;
	struct ofs_oid oid;
	uint64_t meta_gen, data_gen;
	char *line;
	void (*committed)(int status, void *arg); /* NULL: told, or nobody asked */
	void *arg;
};

struct segment { /* malloc: its request may outlive the log */
	struct metalog *ml; /* NULL: the log is gone */
	struct queued *entries;
	unsigned count;
	uint64_t seq;
	char *text;
	size_t len;
	unsigned tries;
	bool in_flight;
};

struct metalog { /* core only */
	struct volume *v;
	struct entry **buckets;
	uint64_t mask, count;
	uint64_t seed;
	struct queued *queue, **queue_tail;
	uint64_t queue_count;
	size_t queue_bytes;
	struct segment *out;
	bool flush_wanted;
	bool loaded;
	struct metalog_load *load;
	uint64_t next_seq;
	int64_t backoff_ns;
	struct clock_timer *flush_timer, *retry_timer;
};

/* --- the map --- */

static struct entry **map_slot(struct metalog *ml, const struct ofs_oid *oid)
{
	uint64_t a, b;

	memcpy(&a, oid->bytes, 8);
	memcpy(&b, oid->bytes + 8, 8);
	a = (a ^ ml->seed) * 0x9e3779b97f4a7c15ULL;
	b = (b + ml->seed + (a >> 32)) * 0xc2b2ae3d27d4eb4fULL;
	return &ml->buckets[(b ^ b >> 29) & ml->mask];
}

static struct entry *map_find(struct metalog *ml, const struct ofs_oid *oid)
{
	struct entry *e = *map_slot(ml, oid);

	while (e != NULL && !ofs_oid_equal(&e->pub.oid, oid)) {
		e = e->next;
	}
	return e;
}

static bool map_grow(struct metalog *ml)
{
	struct entry **old = ml->buckets, *next;
	uint64_t old_count = old != NULL ? ml->mask + 1 : 0;
	uint64_t count = old_count != 0 ? 2 * old_count : MAP_BUCKETS_MIN;
	struct entry **grown = calloc(count, sizeof(*grown));

	if (grown == NULL) {
		return old != NULL; /* longer chains then */
	}
	ml->buckets = grown;
	ml->mask = count - 1;
	for (uint64_t i = 0; i < old_count; i++) {
		for (struct entry *e = old[i]; e != NULL; e = next) {
			struct entry **slot = map_slot(ml, &e->pub.oid);

			next = e->next;
			e->next = *slot;
			*slot = e;
		}
	}
	free(old);
	return true;
}

void metalog_merge(struct metalog_entry *in, void *arg)
{
	struct metalog *ml = arg;
	struct entry *e = map_find(ml, &in->oid);
	struct entry **slot;

	if (e != NULL) {
		if (in->meta_gen < e->pub.meta_gen) {
			free(in->packed);
			return;
		}
		free(e->pub.packed);
		e->pub = *in;
		return;
	}
	e = calloc(1, sizeof(*e));
	if (e == NULL) {
		log_error("metalog", "out of memory");
		abort(); /* an ACL would be lost from sight; what is in S3 is read again at start */
	}
	if (ml->count > ml->mask) {
		map_grow(ml);
	}
	e->pub = *in;
	slot = map_slot(ml, &in->oid);
	e->next = *slot;
	*slot = e;
	ml->count++;
}

const struct metalog_entry *metalog_find(
		struct metalog *ml, const struct ofs_oid *oid, uint64_t than_gen)
{
	const struct entry *e = map_find(ml, oid);

	return e != NULL && e->pub.meta_gen > than_gen ? &e->pub : NULL;
}

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

static void segment_free(struct segment **ps)
{
	struct segment *s = *ps;

	*ps = NULL;
	queued_list_free(s->entries);
	free(s->text);
	free(s);
}

static void metalog_write(struct metalog *ml);
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
		.uuid = &s->ml->v->uuid, .node = s->ml->v->node_id, .seq = s->seq
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
		log_warning("metalog", "volume %s: log segment %" PRIu64 " not written, %s: %s",
				ml->v->name, s->seq, soon ? "tried again" : "tried again each minute",
				message != NULL ? message : strerror(-status));
	}
	retry_later(ml, soon ? ml->backoff_ns : RETRY_MOST_NS);
	ml->backoff_ns = ml->backoff_ns * 2 > RETRY_MOST_NS ? RETRY_MOST_NS : ml->backoff_ns * 2;
	if (!soon || s->tries >= TRIES_BEFORE_TOLD) {
		segment_tell(s, status);
	}
}

static void segment_committed(struct segment *s)
{
	struct metalog *ml = s->ml;
	char seq[32 + OFS_OID_HEX_BYTES];

	snprintf(seq, sizeof(seq), "%" PRIu64 " %s", s->seq, ml->v->node_id);
	index_kv_set(ml->v->index, METALOG_KV_SEQ, seq);
	ml->next_seq = s->seq + 1;
	ml->backoff_ns = RETRY_FIRST_NS;
	ml->out = NULL;
	stats_add(log_segments, 1);
	log_debug("metalog", "volume %s: log segment %" PRIu64 " with %u entries", ml->v->name,
			s->seq, s->count);
	if (ml->flush_wanted || ml->queue_bytes >= SEGMENT_BYTES) {
		metalog_write(ml);
	}
	segment_tell(s, 0); /* last: they may append, flush or end the log */
	segment_free(&s);
}

/* A request's answer for a segment whose log is gone. */
static bool segment_orphaned(struct segment *s, struct obj_req *req)
{
	s->in_flight = false;
	if (s->ml != NULL) {
		return false;
	}
	objstore_req_free(&req);
	segment_free(&s);
	return true;
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
	} else if (r->status == OBJ_OK) {
		log_error("metalog",
				"volume %s: log segment %" PRIu64 " of this node was written by somebody "
				"else; is a copy of this cache directory in use elsewhere?",
				s->ml->v->name, s->seq);
		s->seq++;
		if (segment_build(s)) {
			segment_put(s);
		} else {
			segment_failed(s, -ENOMEM, NULL);
		}
	} else if (r->status == OBJ_NOT_FOUND) {
		segment_failed(s, -EAGAIN, "it came and went");
	} else {
		segment_failed(s, metalog_store_errno(r), r->message);
	}
	objstore_req_free(&req);
}

static struct obj_req *segment_request(struct segment *s, enum obj_op op)
{
	struct volume *v = s->ml->v;
	char *key = metalog_key(NULL, v->prefix, v->node_id, s->seq);
	struct obj_req *req = key != NULL ? objstore_req_new(op, key) : NULL;

	talloc_free(key);
	if (req != NULL) {
		req->prio = OBJ_PRIO_UPLOAD;
		req->arg = s;
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
		get = segment_request(s, OBJ_GET);
		if (get != NULL) {
			get->length = -1;
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
		retry_later(ml, RETRY_FIRST_NS);
		return;
	}
	req = s->text != NULL || segment_build(s) ? segment_request(s, OBJ_PUT) : NULL;
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
	req->if_none_match = true;
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

static void metalog_write(struct metalog *ml)
{
	struct segment *s;
	struct queued **last;
	size_t bytes = 0;

	if (ml->out != NULL || ml->queue == NULL) {
		return;
	}
	if (!ml->loaded || ml->v->state != VOLUME_READY) {
		retry_later(ml, RETRY_FIRST_NS);
		return;
	}
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		retry_later(ml, RETRY_FIRST_NS);
		return;
	}
	s->ml = ml;
	s->seq = ml->next_seq;
	s->entries = ml->queue;
	for (last = &s->entries; *last != NULL && bytes < SEGMENT_BYTES; last = &(*last)->next) {
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
	ml->out = s;
	TALLOC_FREE(ml->flush_timer);
	if (ml->queue != NULL) {
		flush_later(ml);
	} else {
		ml->flush_wanted = false;
	}
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
	const struct entry *known = map_find(ml, oid);
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
	metalog_merge(&e, ml);
	if (ml->queue_bytes >= SEGMENT_BYTES || ml->flush_wanted) {
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
	return ml->queue_count + (ml->out != NULL ? ml->out->count : 0);
}

/* --- life --- */

struct volume *metalog_volume(struct metalog *ml)
{
	return ml->v;
}

bool metalog_load_begin(struct metalog *ml, struct metalog_load *load)
{
	if (ml->load != NULL) {
		return false;
	}
	ml->load = load;
	return true;
}

void metalog_load_over(struct metalog *ml, bool success, uint64_t highest_own)
{
	ml->load = NULL;
	if (!success || ml->loaded) {
		return;
	}
	ml->loaded = true;
	ml->next_seq = highest_own + 1;
	if (ml->flush_wanted) {
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
			segment_free(&ml->out);
		}
	}
	queued_list_free(ml->queue);
	for (uint64_t i = 0; i <= ml->mask; i++) {
		struct entry *next;

		for (struct entry *e = ml->buckets[i]; e != NULL; e = next) {
			next = e->next;
			free(e->pub.packed);
			free(e);
		}
	}
	free(ml->buckets);
	return 0;
}

struct metalog *metalog_new(TALLOC_CTX *ctx, struct volume *v)
{
	struct metalog *ml = talloc_zero(ctx, struct metalog);

	if (ml == NULL || !map_grow(ml)) {
		talloc_free(ml);
		return NULL;
	}
	ml->v = v;
	clock_random(v->clock, &ml->seed, sizeof(ml->seed));
	ml->queue_tail = &ml->queue;
	ml->backoff_ns = RETRY_FIRST_NS;
	talloc_set_destructor(ml, metalog_destroy);
	return ml;
}
