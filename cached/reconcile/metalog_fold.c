/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the node's log ends: what still counts of its segments is written again, then they go.
 * Way: metalog.c, after a segment or a load -> parts through its writer, between ordinary segments ->
 *      read back and compared -> DELETEs, the oldest first, one at a time.
 * Thread: core.
 * Owns: one struct metalog_fold (malloc: a request may outlive the log).
 * Holds: 1. base is the next number when the fold begins: all entries in segments before it are in the
 *           map, as `own`, since each was written, loaded or met by this daemon.
 *        2. The parts have the newest entry for each object that had one then; the last part, written
 *           when the others are in S3, says `base`. Nobody leaves out a segment before that.
 *        3. Only an object whose own metadata has this generation or a later one, or that was deleted,
 *           has nothing in the parts. That it is so was answered by the store, not assumed.
 *        4. The first DELETE follows the last part's comparison, byte by byte, with what was sent.
 *        5. Killed anywhere: what is there is read at the next start, parts and old segments alike, and
 *           is folded anew; a number below base that is missing is no gap.
 *
 *   begin -> write parts -> [metalog_fold_written] read back -> [fold_read] delete -> end
 */
#include "metalog_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "../base/log.h"
#include "../base/stats.h"
#include "../core/volume.h"

struct fold_part {
	uint64_t seq;
	uint8_t sha256[32];
};

struct metalog_fold {
	struct metalog *ml; /* NULL: the log is gone */
	struct ofs_oid *oids;
	size_t count, next;
	bool written; /* the last part is in S3 */
	uint64_t base;
	struct fold_part *parts;
	size_t part_count, part_room, checked;
	bool in_flight, failing;
	struct clock_timer *timer;
};

static void fold_step(struct metalog_fold *f);

static void fold_free(struct metalog_fold **pf)
{
	struct metalog_fold *f = *pf;

	*pf = NULL;
	free(f->oids);
	free(f->parts);
	free(f);
}

void metalog_fold_orphan(struct metalog_fold *f)
{
	f->ml = NULL; /* its timer goes with the log */
	if (!f->in_flight) {
		fold_free(&f);
	}
}

bool metalog_fold_writes(const struct metalog *ml)
{
	return ml->fold != NULL && !ml->fold->written && (ml->out == NULL || !ml->out->folds);
}

static void fold_collect(struct entry *e, void *arg)
{
	struct metalog_fold *f = arg;

	e->left_out = false;
	if (e->own) {
		f->oids[f->count++] = e->pub.oid;
	}
}

static void fold_begin(struct metalog *ml)
{
	uint64_t segments = ml->next_seq - ml->first_seq;
	struct metalog_fold *f;

	if (!ml->loaded || ml->v->read_only != NULL || ml->out != NULL || ml->fold != NULL || ml->fold_barred) {
		return;
	}
	f = calloc(1, sizeof(*f));
	if (f == NULL || (f->oids = calloc(ml->count + 1, sizeof(*f->oids))) == NULL) {
		free(f);
		return; /* after the next segment */
	}
	f->ml = ml;
	f->base = ml->next_seq;
	ml->fold = f;
	metalog_map_each(ml, fold_collect, f);
	log_info("metalog", "volume %s: %" PRIu64 " log segments of this node with %zu entries are folded",
			ml->v->name, segments, f->count);
}

void metalog_fold_consider(struct metalog *ml)
{
	if (ml->next_seq - ml->first_seq >= (uint64_t)ml->v->conf->log_fold + 2 * ml->fold_count) {
		fold_begin(ml);
	}
}

bool metalog_fold_now(struct metalog *ml)
{
	fold_begin(ml);
	if (metalog_fold_writes(ml)) {
		metalog_write(ml);
	}
	return ml->fold != NULL;
}

bool metalog_folds(const struct metalog *ml)
{
	return ml->fold != NULL;
}

/* --- written --- */

/* Line of the newest entry; *q NULL: none is needed. false: out of memory. */
static bool fold_line(struct metalog_fold *f, const struct ofs_oid *oid, struct queued **q)
{
	struct entry *e = metalog_map_find(f->ml, oid);

	*q = NULL;
	if (e == NULL) {
		return true;
	}
	e->left_out = e->object_gen >= e->pub.meta_gen;
	if (e->left_out) {
		return true;
	}
	*q = calloc(1, sizeof(**q));
	if (*q == NULL || ((*q)->line = metalog_line(&e->pub)) == NULL) {
		free(*q);
		return false;
	}
	return true;
}

bool metalog_fold_take(struct metalog *ml, struct segment *s)
{
	struct metalog_fold *f = ml->fold;
	struct queued **tail = &s->entries;
	size_t bytes = 0, at = f->next;

	for (; at < f->count && bytes < METALOG_SEGMENT_BYTES; at++) {
		struct queued *q;

		if (!fold_line(f, &f->oids[at], &q)) {
			return false;
		}
		if (q != NULL) {
			bytes += strlen(q->line);
			*tail = q;
			tail = &q->next;
			s->count++;
		}
	}
	f->next = at;
	s->folds = true;
	s->base = at == f->count ? f->base : 0;
	return true;
}

static bool fold_hash(const void *data, size_t len, uint8_t sha256[32])
{
	unsigned n = 0;

	return EVP_Digest(data, len, sha256, &n, EVP_sha256(), NULL) == 1 && n == 32;
}

/* Nothing is deleted; the segments are read at the next start as they are. */
static void fold_give_up(struct metalog_fold *f, const char *why)
{
	log_error("metalog", "volume %s: the log is not folded before the next start: %s", f->ml->v->name, why);
	f->ml->fold_barred = true;
	f->ml->fold = NULL;
	fold_free(&f);
}

void metalog_fold_written(struct metalog *ml, const struct segment *s)
{
	struct metalog_fold *f = ml->fold;
	struct fold_part *grown;

	if (f->part_count == f->part_room) {
		f->part_room = 2 * f->part_room + 4;
		grown = realloc(f->parts, f->part_room * sizeof(*grown));
		if (grown == NULL) {
			fold_give_up(f, "out of memory");
			return;
		}
		f->parts = grown;
	}
	f->parts[f->part_count].seq = s->seq;
	if (!fold_hash(s->text, s->len, f->parts[f->part_count++].sha256)) {
		fold_give_up(f, "no SHA-256");
		return;
	}
	if (s->base != 0) {
		f->written = true;
		ml->fold_count = s->seq - f->base + 1;
		fold_step(f);
	}
}

/* --- read back, then deleted --- */

static void fold_timer(void *arg)
{
	struct metalog_fold *f = arg;

	f->timer = NULL;
	fold_step(f);
}

static void fold_later(struct metalog_fold *f, int64_t delay_ns)
{
	struct clock *clock = f->ml->v->clock;

	f->timer = clock_timer_add(clock, f->ml, clock_now_ns(clock) + delay_ns, fold_timer, f);
}

/* The log is gone: true, and so is the fold. */
static bool fold_orphaned(struct metalog_fold *f, struct obj_req *req)
{
	f->in_flight = false;
	if (f->ml != NULL) {
		return false;
	}
	objstore_req_free(&req);
	fold_free(&f);
	return true;
}

static void fold_failed(struct metalog_fold *f, const struct obj_req *req)
{
	const struct obj_result *r = &req->result;

	if (!f->failing) {
		log_warning("metalog", "volume %s: folding the log waits, %s: %s", f->ml->v->name, req->key,
				r->message != NULL ? r->message : objstore_status_name(r->status));
	}
	f->failing = true;
	fold_later(f, METALOG_RETRY_MOST_NS);
}

static void fold_read(struct obj_req *req)
{
	struct metalog_fold *f = req->arg;
	const struct obj_result *r = &req->result;
	uint8_t sha256[32];

	if (fold_orphaned(f, req)) {
		return;
	}
	if (r->status == OBJ_NOT_FOUND) {
		fold_give_up(f, "a segment that was just written is gone");
	} else if (r->status != OBJ_OK) {
		fold_failed(f, req);
	} else if (!fold_hash(r->body, r->body_len, sha256) ||
			memcmp(sha256, f->parts[f->checked].sha256, sizeof(sha256)) != 0) {
		fold_give_up(f, "a segment that was just written has other bytes");
	} else {
		f->failing = false;
		f->checked++;
		fold_step(f);
	}
	objstore_req_free(&req);
}

static void fold_deleted(struct obj_req *req)
{
	struct metalog_fold *f = req->arg;
	enum obj_status status = req->result.status;

	if (fold_orphaned(f, req)) {
		return;
	}
	if (status == OBJ_OK || status == OBJ_NOT_FOUND) {
		f->failing = false;
		f->ml->first_seq++;
		stats_add(log_segments_folded, 1);
		fold_step(f);
	} else {
		fold_failed(f, req);
	}
	objstore_req_free(&req);
}

static void fold_end(struct metalog_fold *f)
{
	struct metalog *ml = f->ml;
	unsigned dropped = metalog_map_prune(ml);

	stats_add(log_entries_dropped, dropped);
	log_info("metalog", "volume %s: the log is folded into %" PRIu64 " segments, %u entries dropped",
			ml->v->name, ml->fold_count, dropped);
	ml->fold = NULL;
	fold_free(&f);
	metalog_fold_consider(ml);
	if (metalog_fold_writes(ml)) {
		metalog_write(ml);
	}
}

/* One request, for what comes next. */
static void fold_step(struct metalog_fold *f)
{
	struct metalog *ml = f->ml;
	bool reads = f->checked < f->part_count;
	struct obj_req *req;

	if (!reads && ml->first_seq >= f->base) {
		fold_end(f);
		return;
	}
	if (ml->v->state != VOLUME_READY) {
		fold_later(f, METALOG_RETRY_FIRST_NS);
		return;
	}
	req = metalog_request(ml, reads ? OBJ_GET : OBJ_DELETE,
			reads ? f->parts[f->checked].seq : ml->first_seq, f);
	if (req == NULL) {
		fold_later(f, METALOG_RETRY_MOST_NS);
		return;
	}
	req->prio = OBJ_PRIO_HOUSE;
	req->done = reads ? fold_read : fold_deleted;
	f->in_flight = true;
	objstore_submit(ml->v->store, req);
}
