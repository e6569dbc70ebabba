/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: is the bucket still this volume's, and no earlier state of itself?
 * Way: who is about to believe that something is gone (mirror_agree.c, send.c) or to rely on what is there (evict.c), and
 *      each hour of changes -> GET of the volume record -> GET of what our node says -> done; if it is not, volume.c looks
 *      as at a start, and holds.
 * Thread: core.
 * Owns: struct sure until its answer; the index's notes of when the bucket was last seen.
 * Holds: 1. no is what the store has said: a record that is gone or another's, a node's object that is gone or older than
 *           was acknowledged before it was asked for. What cannot be asked, or read, is no answer;
 *        2. what was sent since the bucket was last seen is sent again once it is back, if it was not seen to be ours
 *           meanwhile: it may be in another one. So it was seen, and noted, before (rule 18: evict.c).
 */
#include "sure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "../base/clock.h"
#include "../base/log.h"
#include "../reconcile/index.h"
#include "../reconcile/reconcile.h"
#include "nodes.h"
#include "volrec.h"
#include "volume.h"

#define KV_SEEN "bucket_seen"	/* seconds, by the store's clock, which dates what is sent */
#define KV_DOUBT "bucket_doubt" /* it was not it at a later look */
#define SEEN_STEP_NS (60 * NS_PER_S)
#define EPOCH_NS (3600 * NS_PER_S)
#define AGAIN_BEFORE_NS (900 * NS_PER_S) /* clocks differ */

struct sure_waiter {
	struct sure_waiter *next;
	void (*done)(int status, const char *message, void *arg);
	void *arg;
};

struct sure { /* talloc child of the volume */
	struct volume *v;
	uint64_t request_id;
	int64_t asked_ns;
	uint64_t epoch; /* that our node's object had when this was asked; 0: none */
	struct sure_waiter *waiters;
};

struct sure_watch {
	struct volume *v;
	uint64_t changes;   /* seen so far */
	int64_t next_ns; /* when the epoch goes on, if something is changed */
	bool asking;
};

/* ---- when it was seen ---- */

static int64_t seen_s(const struct volume *v)
{
	const char *text = index_kv_get(v->index, KV_SEEN);

	return text != NULL ? strtoll(text, NULL, 10) : 0;
}

static void seen_note(struct volume *v, int64_t asked_ns)
{
	int64_t now_s = (objstore_now_ns(v->store, v->clock) - (clock_now_ns(v->clock) - asked_ns)) / NS_PER_S;
	char text[24];

	v->seen_ns = asked_ns;
	if (now_s < seen_s(v) || now_s - seen_s(v) >= SEEN_STEP_NS / NS_PER_S) {
		snprintf(text, sizeof(text), "%lld", (long long)now_s);
		index_kv_set(v->index, KV_SEEN, text);
	}
}

static bool seen_again(struct row *row, void *arg)
{
	struct volume *v = arg;
	int64_t since_ns = seen_s(v) * NS_PER_S - AGAIN_BEFORE_NS;

	if (row->live == ROW_HERE && !row->is_dir && row->in_s3 && row->s3_mtime_ns >= since_ns) {
		reconcile_touch(v->reconcile, row); /* from here on no listing takes it away */
		reconcile_resend(v->reconcile, row);
	}
	return true;
}

void volume_seen(struct volume *v)
{
	if (index_kv_get(v->index, KV_DOUBT) != NULL) {
		log_notice("core", "volume %s: its bucket is there again; what was sent since it was last seen is sent again",
				v->name);
		index_each(v->index, seen_again, v);
		index_kv_set(v->index, KV_DOUBT, NULL);
	}
	seen_note(v, clock_now_ns(v->clock));
}

static void doubt_kept(int status, void *arg)
{
	(void)status; /* the index says so, and tries again */
	(void)arg;
}

void volume_not_seen(struct volume *v)
{
	if (index_kv_get(v->index, KV_SEEN) != NULL && index_kv_get(v->index, KV_DOUBT) == NULL) {
		index_kv_set(v->index, KV_DOUBT, "1");
		index_commit(v->index, doubt_kept, NULL); /* now: a daemon that is killed would believe the next bucket */
	}
}

/* ---- one question ---- */

static void sure_end(struct sure *s, int status, const char *message)
{
	struct volume *v = s->v;
	struct sure_waiter *w;

	if (v->asking == s) {
		v->asking = NULL;
	}
	if (status == 0) {
		seen_note(v, s->asked_ns);
	} else if (status == -ESTALE && v->on_doubt != NULL) {
		v->on_doubt(v);
	}
	while ((w = s->waiters) != NULL) {
		s->waiters = w->next;
		w->done(status, message, w->arg);
	}
	talloc_free(s);
}

static int sure_errno(const struct obj_result *r)
{
	if (r->status == OBJ_DENIED) {
		return -EACCES;
	}
	return r->status == OBJ_CANCELLED ? -ECANCELED : -EIO;
}

static void sure_submit(struct sure *s, const char *key, void (*done)(struct obj_req *))
{
	struct obj_req *req = key != NULL ? objstore_req_new(OBJ_GET, key) : NULL;

	if (req == NULL) {
		sure_end(s, -ENOMEM, "out of memory");
		return;
	}
	req->prio = OBJ_PRIO_READER;
	req->request_id = s->request_id;
	req->length = -1;
	req->done = done;
	req->arg = s;
	objstore_submit(s->v->store, req);
}

static void on_node(struct obj_req *req)
{
	struct sure *s = req->arg;
	const struct obj_result *r = &req->result;
	bool gone = r->status == OBJ_NOT_FOUND;

	if (gone || (r->status == OBJ_OK && nodes_is_earlier(s->v->node_id, r->body, r->body_len, s->epoch))) {
		sure_end(s, -ESTALE, "the bucket is an earlier state of itself, or not all of it: restored from a copy? "
				"nothing is removed here");
	} else if (r->status != OBJ_OK) {
		sure_end(s, sure_errno(r), r->message);
	} else {
		sure_end(s, 0, NULL);
	}
	objstore_req_free(&req);
}

static void on_record(struct obj_req *req)
{
	struct sure *s = req->arg;
	struct volume *v = s->v;
	const struct obj_result *r = &req->result;
	struct ofs_oid uuid;
	int64_t created_ns;
	char *why = NULL, *key;
	int ret = -ENOENT;

	if (r->status == OBJ_OK && r->body != NULL) {
		ret = volrec_parse(s, (char *)r->body, r->body_len, &uuid, &created_ns, &why);
	}
	if ((ret == 0 || ret == -EROFS) && ofs_oid_equal(&uuid, &v->uuid)) {
		if (ret == -EROFS) {
			volume_read_only(v, why);
		}
		key = s->epoch > 0 ? talloc_asprintf(s, "%s" NODES_PLACE "%s", v->prefix, v->node_id) : NULL;
		if (s->epoch == 0) {
			sure_end(s, 0, NULL);
		} else {
			sure_submit(s, key, on_node);
		}
	} else if (r->status == OBJ_OK || r->status == OBJ_NOT_FOUND) {
		sure_end(s, -ESTALE, "the bucket's volume record is gone or another's: wrong or emptied bucket; nothing is "
				"removed here");
	} else {
		sure_end(s, sure_errno(r), r->message);
	}
	objstore_req_free(&req);
}

static bool sure_wait(struct sure *s, void (*done)(int status, const char *message, void *arg), void *arg)
{
	struct sure_waiter *w = talloc_zero(s, struct sure_waiter);

	if (w == NULL) {
		return false;
	}
	w->done = done;
	w->arg = arg;
	w->next = s->waiters;
	s->waiters = w;
	return true;
}

void volume_sure(struct volume *v, uint64_t request_id, void (*done)(int status, const char *message, void *arg),
		void *arg)
{
	struct sure *s = talloc_zero(v, struct sure);
	char *key;

	if (s == NULL || !sure_wait(s, done, arg)) {
		talloc_free(s);
		done(-ENOMEM, "out of memory", arg);
		return;
	}
	s->v = v;
	s->request_id = request_id;
	s->asked_ns = clock_now_ns(v->clock);
	s->epoch = nodes_epoch(v->nodes);
	v->asking = s;
	key = talloc_asprintf(s, "%s" VOLREC_KEY, v->prefix);
	sure_submit(s, key, on_record);
}

void volume_sure_lately(struct volume *v, int64_t age_ns, void (*done)(int status, const char *message, void *arg),
		void *arg)
{
	if (v->seen_ns != 0 && clock_now_ns(v->clock) - v->seen_ns < age_ns) {
		done(0, NULL, arg);
	} else if (v->asking == NULL || !sure_wait(v->asking, done, arg)) {
		volume_sure(v, 0, done, arg);
	}
}

/* ---- each hour of changes ---- */

struct sure_watch *sure_watch_new(TALLOC_CTX *ctx, struct volume *v)
{
	struct sure_watch *w = talloc_zero(ctx, struct sure_watch);

	if (w != NULL) {
		w->v = v;
	}
	return w;
}

void sure_watch_start(struct sure_watch *w)
{
	w->changes = w->v->store->changes;
}

static void watch_seen(int status, const char *message, void *arg)
{
	struct sure_watch *w = arg;

	(void)message;
	w->asking = false;
	if (status == 0) {
		nodes_epoch_next(w->v->nodes);
	}
	/* what that has changed is no change */
	w->changes = w->v->store->changes;
	w->next_ns = clock_now_ns(w->v->clock) + EPOCH_NS;
}

void sure_watch_tick(struct sure_watch *w)
{
	struct volume *v = w->v;
	bool active = v->store->changes != w->changes;

	if (active && !w->asking && v->read_only == NULL && clock_now_ns(v->clock) >= w->next_ns) {
		w->asking = true;
		volume_sure_lately(v, SEEN_STEP_NS, watch_seen, w);
	}
}
