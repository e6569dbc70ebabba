/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: rows of one directory's base, by name.
 * Way: mirror_list.c (a listing of many unknown names) and base_write.c -> GET head -> GET chunk ->
 *      base_chunk_open on a worker -> row.
 * Thread: core; open_run on a worker.
 * Owns: head and chunk; what is on its way (struct base_ask) ends by itself when the reader is gone.
 * Holds: 1. a base is advice: whatever of it is missing, damaged or another's is no row;
 *        2. one chunk is in memory at a time: a million names pass through 32 MiB.
 *
 *   base_read_open -> head_done -> ready;  base_read_row -EAGAIN -> chunk_done -> open_done -> ready
 */
#include "base_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../base/log.h"
#include "../base/stats.h"
#include "../core/volume.h"

struct base_ask { /* malloc: a request, then a job */
	struct disk_job job;
	struct base_read *r; /* NULL: the reader is gone */
	struct ofs_oid uuid, dir;
	struct base_chunk_ref ref; /* its names are not used */
	uint8_t *bytes;
	size_t len;
	/* out */
	struct base_chunk *chunk;
	int status;
};

struct base_read {
	struct volume *v;
	struct ofs_oid dir;
	enum obj_prio prio;
	uint64_t request_id;
	void (*ready)(void *arg);
	void *arg;
	enum obj_status status;
	char *etag;
	struct base_head *head;
	struct base_ask *ask; /* under way */
	unsigned next;        /* the first chunk that was not asked for */
	struct base_chunk *chunk; /* number next - 1; NULL: it cannot be had */
};

static void ask_free(struct base_ask **pa)
{
	struct base_ask *a = *pa;

	*pa = NULL;
	base_chunk_free(&a->chunk);
	free(a->bytes);
	free(a);
}

static int read_destructor(struct base_read *r)
{
	if (r->ask != NULL) {
		r->ask->r = NULL;
	}
	base_chunk_free(&r->chunk);
	return 0;
}

/* The reader, if it is still there. */
static struct base_read *ask_ended(struct base_ask *a)
{
	struct base_read *r = a->r;

	if (r != NULL) {
		r->ask = NULL;
	}
	return r;
}

static bool ask_send(struct base_read *r, const char *chunk, int64_t length, struct base_ask *a,
		void (*done)(struct obj_req *))
{
	char *key = base_key(r, r->v->prefix, &r->dir, chunk);
	struct obj_req *req = key != NULL ? objstore_req_new(OBJ_GET, key) : NULL;

	talloc_free(key);
	if (req == NULL) {
		return false;
	}
	a->r = r;
	a->uuid = r->v->uuid;
	a->dir = r->dir;
	r->ask = a;
	req->prio = r->prio;
	req->request_id = r->request_id;
	req->length = length;
	req->done = done;
	req->arg = a;
	objstore_submit(r->v->store, req);
	return true;
}

/* ---- a chunk ---- */

static void chunk_unusable(struct base_read *r, const char *id, const char *why)
{
	char *key = base_key(r, r->v->prefix, &r->dir, id);

	stats_add(bases_unusable, 1);
	log_line(LOG_LVL_NOTICE, "mirror", r->request_id, "%s is %s: what it holds is asked for one by one",
			key != NULL ? key : id, why);
	talloc_free(key);
}

static void open_run(struct disk_job *job)
{
	struct base_ask *a = (struct base_ask *)job;

	a->status = base_chunk_is(&a->ref, a->bytes, a->len)
			? base_chunk_open(a->bytes, a->len, &a->uuid, &a->dir, &a->chunk) : -EBADMSG;
}

static void open_done(struct disk_job *job)
{
	struct base_ask *a = (struct base_ask *)job;
	struct base_read *r = ask_ended(a);

	if (r != NULL && a->status != 0) {
		chunk_unusable(r, a->ref.id, a->status == -EBADMSG ? "damaged" : strerror(-a->status));
	} else if (r != NULL) {
		r->chunk = a->chunk;
		a->chunk = NULL;
	}
	ask_free(&a);
	if (r != NULL) {
		r->ready(r->arg);
	}
}

static void chunk_done(struct obj_req *req)
{
	struct base_ask *a = req->arg;
	struct base_read *r = a->r;
	struct obj_result *res = &req->result;

	if (r != NULL && res->status == OBJ_OK) {
		a->bytes = res->body;
		a->len = res->body_len;
		res->body = NULL;
		a->job.what = "mirror base";
		a->job.run = open_run;
		a->job.done = open_done;
		disk_submit(r->v->disk, DISK_ANY, &a->job);
		objstore_req_free(&req);
		return;
	}
	if (r != NULL) {
		chunk_unusable(r, a->ref.id, res->status == OBJ_NOT_FOUND ? "missing"
									  : objstore_status_name(res->status));
	}
	objstore_req_free(&req);
	ask_ended(a);
	ask_free(&a);
	if (r != NULL) {
		r->ready(r->arg);
	}
}

int base_read_row(struct base_read *r, const char *name, struct base_row *row)
{
	const struct base_chunk_ref *ref = r->head != NULL ? base_head_find(r->head, name) : NULL;
	unsigned number = ref != NULL ? (unsigned)(ref - r->head->chunks) : 0;
	struct base_ask *a;
	int at;

	memset(row, 0, sizeof(*row));
	if (r->ask != NULL) {
		return -EAGAIN;
	}
	if (ref == NULL || number + 1 < r->next) {
		return -ENOENT;
	}
	if (number + 1 == r->next) {
		at = r->chunk != NULL ? base_chunk_find(r->chunk, name) : -1;
		if (at >= 0 && base_chunk_row(r->chunk, (unsigned)at, row) == 0) {
			return 0;
		}
		base_row_clear(row);
		return -ENOENT;
	}
	base_chunk_free(&r->chunk);
	r->next = number + 1;
	a = calloc(1, sizeof(*a));
	if (a == NULL) {
		return -ENOENT;
	}
	a->ref = *ref;
	if (!ask_send(r, ref->id, (int64_t)ref->bytes, a, chunk_done)) {
		ask_free(&a);
		return -ENOENT;
	}
	return -EAGAIN;
}

/* ---- the head ---- */

static void head_done(struct obj_req *req)
{
	struct base_ask *a = req->arg;
	struct base_read *r = ask_ended(a);
	struct obj_result *res = &req->result;

	ask_free(&a);
	if (r == NULL) {
		objstore_req_free(&req);
		return;
	}
	r->status = res->status;
	if (res->status == OBJ_OK) {
		r->etag = res->etag != NULL ? talloc_strdup(r, res->etag) : NULL;
		r->head = base_head_parse(r, res->body, res->body_len, &r->v->uuid, &r->dir);
		if (r->head == NULL) {
			chunk_unusable(r, NULL, "damaged, or of a later version");
		}
	}
	objstore_req_free(&req);
	r->ready(r->arg);
}

struct base_read *base_read_open(TALLOC_CTX *ctx, struct volume *v, const struct ofs_oid *dir,
		enum obj_prio prio, uint64_t request_id, void (*ready)(void *arg), void *arg)
{
	struct base_read *r = talloc_zero(ctx, struct base_read);
	struct base_ask *a = calloc(1, sizeof(*a));

	if (r == NULL || a == NULL) {
		free(a);
		talloc_free(r);
		return NULL;
	}
	r->v = v;
	r->dir = *dir;
	r->prio = prio;
	r->request_id = request_id;
	r->ready = ready;
	r->arg = arg;
	r->status = OBJ_AWAY;
	talloc_set_destructor(r, read_destructor);
	if (!ask_send(r, NULL, -1, a, head_done)) {
		ask_free(&a);
		talloc_free(r);
		return NULL;
	}
	return r;
}

enum obj_status base_read_status(const struct base_read *r)
{
	return r->status;
}

const char *base_read_etag(const struct base_read *r)
{
	return r->etag;
}

const struct base_head *base_read_head(const struct base_read *r)
{
	return r->head;
}
