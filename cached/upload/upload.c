/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: turn one unmoving descriptor and its metadata into one object, conditionally.
 * Way: reconcile -> here -> object store, or parts.c; the answer goes back to reconcile.
 * Thread: core; bodies are read by the store's thread.
 * Owns: the requests in flight of each upload; the descriptor is the caller's.
 * Holds:
 *  1. blobs are in the bucket before the object that names them (rule 16);
 *  2. at most one mutation of the key is in flight, and it carries the condition (rule 13);
 *  3. done is called exactly once, never from inside upload_start.
 *
 *   start -> blobs -> [head] -> put -> done
 *                 \-> parts.c -------> done
 */
#include "upload_private.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "../base/log.h"
#include "../base/stats.h"
#include "../core/volume.h"

#define UPLOAD_SNAPSHOT_GIVES_BYTES 900u /* of its budget, for user metadata of others */

/* Of a file that stays open: 100 GB each minute would be 144 TB a day, and kept as versions for ever. */
#define OPEN_BYTES_EACH_S 10000000
#define OPEN_VERSION_MAX_BYTES (1LL << 30)

/* ---- one object ---- */

bool upload_still_leased(void *arg)
{
	int fd = (int)(intptr_t)arg;

	return fcntl(fd, F_GETLEASE) == F_RDLCK;
}

static int upload_destructor(struct upload *u)
{
	objmeta_clear(&u->meta);
	blocks_free(&u->blocks);
	if (u->state->comparing) {
		blocks_ask_leave(&u->state->ask);
	}
	blocks_ask_free(&u->state->ask);
	objstore_req_free(&u->state->create);
	begun_leave(&u->state->begun);
	begun_leave(&u->state->found);
	return 0;
}

struct upload *upload_new(TALLOC_CTX *ctx, struct volume *v, const char *key)
{
	struct upload *u = talloc_zero(ctx, struct upload);

	u->v = v;
	u->fd = -1;
	u->key = talloc_strdup(u, key);
	u->state = talloc_zero(u, struct upload_state);
	talloc_set_destructor(u, upload_destructor);
	return u;
}

void upload_finish(struct upload *u, enum obj_status status, const char *message)
{
	u->status = status;
	if (message != NULL && u->message == NULL) {
		u->message = talloc_strdup(u, message);
	}
	if ((status != OBJ_OK && status != OBJ_UNKNOWN) || !upload_may_copy(u)) {
		blocks_free(&u->blocks);
	}
	if (status == OBJ_OK) {
		stats_add(uploads, 1);
		stats_add(upload_bytes, u->size - upload_copied(u) - u->state->resumed);
		stats_add(delta_bytes, upload_copied(u));
		stats_add(deltas, u->state->delta);
		times_add(step, upload, clock_now_ns(u->v->clock) - u->state->since_ns);
	}
	u->done(u);
}

struct obj_req *upload_req(struct upload *u, enum obj_op op,
		void (*done)(struct obj_req *))
{
	struct obj_req *req = objstore_req_new(op, u->key);

	req->prio = u->urgent ? OBJ_PRIO_READER : OBJ_PRIO_UPLOAD;
	req->request_id = u->request_id;
	req->done = done;
	req->arg = u;
	if (u->leased && u->fd >= 0) {
		req->still_valid = upload_still_leased;
		req->still_valid_arg = (void *)(intptr_t)u->fd;
	}
	return req;
}

void upload_condition(struct upload *u, struct obj_req *req)
{
	if (u->if_match == NULL) {
		req->if_none_match = true;
	} else {
		req->if_match = strdup(u->if_match);
	}
}

void upload_take_result(struct upload *u, const struct obj_result *r)
{
	u->etag = r->etag ? talloc_strdup(u, r->etag) : NULL;
	u->version_id = r->version_id ? talloc_strdup(u, r->version_id) : NULL;
	u->mtime_ns = r->mtime_ns;
}

bool upload_describe(struct upload *u, struct obj_req **req)
{
	const char *why = NULL;
	int ret = objmeta_put(*req, &u->meta);

	ret = ret == 0 ? kept_put(u->kept, *req, &why) : ret;
	if (ret == 0) {
		return true;
	}
	objstore_req_free(req);
	upload_finish(u, ret == -EPERM ? OBJ_INVALID : OBJ_LOCAL,
			why != NULL ? why : "the metadata does not fit");
	return false;
}

static void upload_put_done(struct obj_req *req)
{
	struct upload *u = req->arg;
	enum obj_status st = req->result.status;

	u->state->single = NULL;
	u->local_errno = req->result.local_errno;
	if (st == OBJ_OK || st == OBJ_DAMAGED) {
		upload_take_result(u, &req->result);
	}
	if (st == OBJ_OK) {
		if (u->fd >= 0) {
			memcpy(u->sha256, req->result.sha256, sizeof(u->sha256));
			u->has_sha256 = true;
		}
	}
	if (req->result.message != NULL) {
		u->message = talloc_strdup(u, req->result.message);
	}
	objstore_req_free(&req);
	upload_finish(u, st, NULL);
}

static void upload_put(struct upload *u)
{
	struct obj_req *req = upload_req(u, OBJ_PUT, upload_put_done);

	if (!upload_describe(u, &req)) {
		return;
	}
	upload_condition(u, req);
	req->fd = u->fd;
	req->length = u->fd >= 0 ? u->size : 0;
	u->state->single = req;
	objstore_submit(u->v->store, req);
}

/* ---- the look before ---- */

bool upload_same(const struct upload *u, const struct obj_result *r)
{
	struct objmeta m = {0};
	bool damaged, same;

	if (r->status == OBJ_NOT_FOUND || u->if_match == NULL || r->etag == NULL) {
		return r->status == OBJ_NOT_FOUND && u->if_match == NULL;
	}
	objmeta_read(r, &m, &damaged);
	same = strcmp(r->etag, u->if_match) == 0 && !damaged &&
			(ofs_oid_is_none(&u->expect) || ofs_oid_equal(&u->expect, &m.wid));
	objmeta_clear(&m);
	return same;
}

bool upload_must_look(const struct upload *u)
{
	return (u->if_match != NULL && !objmeta_fences(u->if_match)) ||
	       (objstore_unfenced(u->v->store) && u->fd >= 0);
}

static void upload_looked(struct obj_req *req)
{
	struct upload *u = req->arg;
	enum obj_status st = req->result.status;
	bool answer = st == OBJ_OK || st == OBJ_NOT_FOUND;
	bool same = answer && upload_same(u, &req->result);

	if (!answer && req->result.message != NULL) {
		u->message = talloc_strdup(u, req->result.message);
	}
	objstore_req_free(&req);
	if (u->state->cancelled) {
		upload_finish(u, OBJ_CANCELLED, "opened for writing");
	} else if (!same) {
		upload_finish(u, answer ? OBJ_PRECONDITION : st, "another object is there");
	} else {
		stats_add(fence_windows, 1);
		upload_put(u);
	}
}

static void upload_look(struct upload *u)
{
	struct obj_req *req = upload_req(u, OBJ_HEAD, upload_looked);

	req->still_valid = NULL;
	req->may_lack = u->if_match == NULL;
	objstore_submit(u->v->store, req);
}

int64_t upload_part_bytes(const struct conf_volume *conf, int64_t size)
{
	int64_t least = (size / 9000 + 0xfffff) & ~0xfffffLL;

	if (least > OBJ_PUT_MAX_BYTES) {
		least = OBJ_PUT_MAX_BYTES; /* near 50 TB: closer to 10,000 parts, in place of larger ones */
	}
	return conf->part_size_bytes < least ? least : conf->part_size_bytes;
}

int64_t upload_open_interval_ns(const struct conf_volume *conf, int64_t size, bool versions)
{
	int64_t least = size / OPEN_BYTES_EACH_S * NS_PER_S;

	if (versions && size > OPEN_VERSION_MAX_BYTES) {
		return INT64_MAX;
	}
	return least > conf->settle_limit_ns ? least : conf->settle_limit_ns;
}

static void upload_blobs_done(enum obj_status status, const char *message, void *arg)
{
	struct upload *u = arg;
	int64_t single_max;
	bool parts;

	if (status != OBJ_OK) {
		/* The object itself was not touched. */
		upload_finish(u, status == OBJ_UNKNOWN ? OBJ_AWAY : status, message);
		return;
	}
	if (u->state->cancelled) {
		upload_finish(u, OBJ_CANCELLED, "opened for writing");
		return;
	}
	/* Class F2 has conditions on PUT alone: one PUT as far as it goes. */
	parts = objstore_complete_fenced(u->v->store, u->if_match) || !u->v->store->caps.put_if_match;
	single_max = parts ? objstore_parts_above(u->v->store) : objstore_put_max(u->v->store);
	if (u->size <= single_max && upload_must_look(u)) {
		upload_look(u);
	} else if (u->size <= single_max) {
		upload_put(u);
	} else {
		upload_parts(u);
	}
}

static void upload_begin(void *arg)
{
	struct upload *u = arg;

	if (u->meta.snapshot != NULL) {
		/* What others have there gets room: more of ours goes into blobs. */
		size_t others = kept_meta_bytes(u->kept) * 3 / 4;

		snapshot_split(u->meta.snapshot, others < UPLOAD_SNAPSHOT_GIVES_BYTES
				? OBJMETA_SNAPSHOT_BUDGET - others
				: OBJMETA_SNAPSHOT_BUDGET - UPLOAD_SNAPSHOT_GIVES_BYTES);
	}
	upload_blobs(u->v, u->meta.snapshot, upload_blobs_done, u);
}

void upload_start(struct upload *u)
{
	u->state->since_ns = clock_now_ns(u->v->clock);
	/* From the loop, so that done never comes from inside this call. */
	clock_timer_add(u->v->clock, u, clock_now_ns(u->v->clock), upload_begin, u);
}

void upload_cancel(struct upload *u)
{
	struct upload_state *s = u->state;

	s->cancelled = true;
	if (s->single != NULL) {
		atomic_store(&s->single->cancelled, true);
	}
	upload_parts_cancel(u);
}
