/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the base of one directory, written anew or removed.
 * Way: bases.c says which -> last head -> LIST page by page, each -> base_rows.c -> chunks (compressed on a
 *      worker) -> head -> the last base's chunks go.
 * Thread: core; pack_run on a worker.
 * Owns: struct base_write and its pages.
 * Holds: 1. a head is put on condition that it is still the one that was read: who loses reads the winner's
 *           and takes its rows over, so that none is lost between two writers;
 *        2. chunks have names of their own, and are there before the head that names them, and until after
 *           the head that does not;
 *        3. no more than one chunk and one page are in memory.
 *
 *   begin -> old_ready -> write_page -> base_rows_ready -> (chunk_put) -> ... -> head_put -> over
 *     ^ lost, or not known: read again ----------------------------------------------/
 */
#include "base_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES_MAX 4u

static void write_begin(struct base_write *w);
static void rows_add(struct base_write *w);

/* ---- what is not named any more ---- */

static void drop_done(struct obj_req *req)
{
	enum obj_status st = req->result.status;

	if (st != OBJ_OK && st != OBJ_NOT_FOUND) {
		log_info("mirror", "%s stays, although nothing refers to it: %s", req->key,
				objstore_status_name(st));
	}
	objstore_req_free(&req);
}

static void drop_key(struct volume *v, const struct ofs_oid *dir, const char *chunk)
{
	char *key = base_key(NULL, v->prefix, dir, chunk);
	struct obj_req *req = key != NULL ? objstore_req_new(OBJ_DELETE, key) : NULL;

	talloc_free(key);
	if (req != NULL) {
		req->prio = OBJ_PRIO_HOUSE;
		req->done = drop_done;
		objstore_submit(v->store, req);
	}
}

static void drop_chunks(struct volume *v, const struct ofs_oid *dir, const struct base_head *h)
{
	for (unsigned i = 0; h != NULL && i < h->chunk_count; i++) {
		drop_key(v, dir, h->chunks[i].id);
	}
}

struct base_removal { /* talloc */
	struct volume *v;
	struct ofs_oid dir;
	struct base_read *old;
};

static void removal_head_done(struct obj_req *req)
{
	struct base_removal *rm = req->arg;
	enum obj_status st = req->result.status;

	drop_done(req);
	if (st == OBJ_OK || st == OBJ_NOT_FOUND) {
		drop_chunks(rm->v, &rm->dir, base_read_head(rm->old));
	}
	talloc_free(rm);
}

/* The head first: what it names is there as long as it is. */
static void removal_ready(void *arg)
{
	struct base_removal *rm = arg;
	const char *etag = base_read_etag(rm->old);
	char *key = base_key(rm, rm->v->prefix, &rm->dir, NULL);
	struct obj_req *req = NULL;

	if (base_read_status(rm->old) == OBJ_OK && key != NULL) {
		req = objstore_req_new(OBJ_DELETE, key);
	}
	if (req == NULL) {
		talloc_free(rm);
		return;
	}
	if (rm->v->store->caps.delete_if_match && etag != NULL) {
		req->if_match = strdup(etag);
	}
	req->prio = OBJ_PRIO_HOUSE;
	req->done = removal_head_done;
	req->arg = rm;
	objstore_submit(rm->v->store, req);
}

void base_remove(TALLOC_CTX *ctx, struct volume *v, const struct ofs_oid *dir)
{
	struct base_removal *rm = talloc_zero(ctx, struct base_removal);

	if (rm == NULL) {
		return; /* it costs its place, nothing else */
	}
	rm->v = v;
	rm->dir = *dir;
	rm->old = base_read_open(rm, v, dir, OBJ_PRIO_HOUSE, 0, removal_ready, rm);
	if (rm->old == NULL) {
		talloc_free(rm);
	}
}

/* ---- ends ---- */

static void write_over(struct base_write *w, int status)
{
	w->what.status = status;
	w->done(&w->what, w->arg);
	talloc_free(w);
}

void base_write_fail(struct base_write *w, int status, const char *why)
{
	log_info("mirror", "the base of %s is not written now: %s", w->prefix != NULL ? w->prefix : "a directory",
			why);
	drop_chunks(w->v, &w->dir, w->head);
	write_over(w, status);
}

static int write_destructor(struct base_write *w)
{
	base_rows_free(w);
	base_build_free(&w->build);
	return 0;
}

/* ---- head ---- */

/* Somebody else's head is there, or nobody knows which: the chunks sent are kept in mind until that is known. */
static void write_again(struct base_write *w, const char *why)
{
	if (++w->tries > TRIES_MAX) {
		base_write_fail(w, -EAGAIN, why);
		return;
	}
	talloc_free(w->lost);
	w->lost = w->old;
	w->old = NULL;
	write_begin(w);
}

static void head_put_done(struct obj_req *req)
{
	struct base_write *w = req->arg;
	struct obj_result *r = &req->result;

	switch (r->status) {
	case OBJ_OK:
		objstore_req_free(&req);
		stats_add(bases_written, 1);
		drop_chunks(w->v, &w->dir, base_read_head(w->old));
		w->what.rows = w->head->rows;
		w->what.there = true;
		write_over(w, 0);
		return;
	case OBJ_PRECONDITION:
	case OBJ_CONFLICT:
	case OBJ_NOT_FOUND:
	case OBJ_UNKNOWN:
		objstore_req_free(&req);
		write_again(w, "another node writes it");
		return;
	default:
		base_write_fail(w, -EAGAIN, r->message != NULL ? r->message : objstore_status_name(r->status));
		objstore_req_free(&req);
		return;
	}
}

static void write_head(struct base_write *w)
{
	const char *etag = base_read_etag(w->old);
	char *key = base_key(w, w->v->prefix, &w->dir, NULL), nonce[OFS_OID_HEX_BYTES], *text;
	struct ofs_oid random;
	struct obj_req *req;

	clock_random(w->v->clock, &random, sizeof(random));
	ofs_oid_hex(&random, nonce);
	text = base_head_text(w->head, &w->v->uuid, &w->dir, w->v->node_id, nonce);
	req = key != NULL && text != NULL ? objstore_req_new(OBJ_PUT, key) : NULL;
	talloc_free(key);
	if (req == NULL || (req->content_type = strdup("application/json")) == NULL ||
			(etag != NULL && (req->if_match = strdup(etag)) == NULL)) {
		objstore_req_free(&req);
		free(text);
		base_write_fail(w, -ENOMEM, "out of memory");
		return;
	}
	req->if_none_match = etag == NULL;
	req->body = (uint8_t *)text;
	req->length = (int64_t)strlen(text);
	req->prio = OBJ_PRIO_HOUSE;
	req->done = head_put_done;
	req->arg = w;
	objstore_submit(w->v->store, req);
}

/* All rows are in chunks, or in the one that is being filled and is not worth sending. */
static void write_end(struct base_write *w)
{
	const struct base_head *old = base_read_head(w->old);

	if (w->head->rows < w->v->conf->base_names) {
		drop_chunks(w->v, &w->dir, w->head);
		if (base_read_status(w->old) == OBJ_OK) {
			base_remove(talloc_parent(w), w->v, &w->dir);
		}
		w->what.there = false;
		write_over(w, 0);
	} else if (!mirror_has_stayed(w->v, &w->dir, w->prefix)) {
		base_write_fail(w, -EAGAIN, "it is being renamed");
	} else {
		w->what.there = old != NULL;
		write_head(w);
	}
}

/* ---- chunks ---- */

struct pack_job {
	struct disk_job job;
	struct base_write *w; /* core only */
	struct base_build *build;
	struct ofs_oid uuid, dir;
	/* out */
	uint8_t *bytes;
	size_t len;
	int status;
};

static void chunk_put_done(struct obj_req *req)
{
	struct base_write *w = req->arg;
	struct obj_result *r = &req->result;

	if (r->status != OBJ_OK) {
		base_write_fail(w, -EAGAIN, r->message != NULL ? r->message : objstore_status_name(r->status));
		objstore_req_free(&req);
		return;
	}
	objstore_req_free(&req);
	rows_add(w);
}

static void pack_run(struct disk_job *job)
{
	struct pack_job *j = (struct pack_job *)job;

	j->status = base_build_end(j->build, &j->uuid, &j->dir, &j->bytes, &j->len);
}

/* In the head before it is sent: whatever becomes of it, it is known to be ours. */
static void pack_done(struct disk_job *job)
{
	struct pack_job *j = (struct pack_job *)job;
	struct base_write *w = j->w;
	struct obj_req *req = NULL;
	struct ofs_oid random;
	char id[OFS_OID_HEX_BYTES], *key;

	clock_random(w->v->clock, &random, sizeof(random));
	ofs_oid_hex(&random, id);
	key = base_key(w, w->v->prefix, &w->dir, id);
	if (j->status == 0 && key != NULL && base_head_add(w->head, id, base_build_first(j->build),
			base_build_last(j->build), base_build_rows(j->build), j->bytes, j->len) == 0) {
		req = objstore_req_new(OBJ_PUT, key);
	}
	talloc_free(key); /* before w may go */
	if (req != NULL) {
		req->body = j->bytes;
		req->length = (int64_t)j->len;
		req->if_none_match = true;
		req->content_type = strdup("application/zstd");
		req->prio = OBJ_PRIO_HOUSE;
		req->done = chunk_put_done;
		req->arg = w;
		objstore_submit(w->v->store, req);
	} else {
		free(j->bytes);
		base_write_fail(w, -ENOMEM, "out of memory");
	}
	base_build_free(&j->build);
	free(j);
}

static void chunk_send(struct base_write *w)
{
	struct pack_job *j = calloc(1, sizeof(*j));

	if (j == NULL) {
		base_write_fail(w, -ENOMEM, "out of memory");
		return;
	}
	j->w = w;
	j->build = w->build;
	w->build = NULL;
	j->uuid = w->v->uuid;
	j->dir = w->dir;
	j->job.what = "mirror base chunk";
	j->job.run = pack_run;
	j->job.done = pack_done;
	disk_submit(w->v->disk, DISK_ANY, &j->job);
}

/* ---- rows ---- */

/* The last base is as good as what would be written now. */
static bool write_is_needless(const struct base_write *w)
{
	const struct base_head *old = base_read_head(w->old);

	return old != NULL && w->differs == 0 && w->head->chunk_count == 0 && w->build != NULL &&
			base_build_rows(w->build) == old->rows;
}

static void write_page(struct base_write *w);

static void rows_end(struct base_write *w)
{
	base_rows_free(w);
	if (w->token != NULL) {
		write_page(w);
	} else if (write_is_needless(w)) {
		w->what.there = true;
		w->what.rows = base_build_rows(w->build);
		write_over(w, 0);
	} else if (w->build != NULL && base_build_rows(w->build) > 0 &&
			w->head->rows + base_build_rows(w->build) >= w->v->conf->base_names) {
		chunk_send(w); /* comes back to here */
	} else {
		write_end(w);
	}
}

/* Again for each chunk that is full. */
static void rows_add(struct base_write *w)
{
	for (; w->at < w->count; w->at++) {
		const struct base_name *n = &w->names[w->at];
		const struct base_row *row;
		uint64_t differs = w->differs;
		int ret;

		if (w->build == NULL && (w->build = base_build_new()) == NULL) {
			base_write_fail(w, -ENOMEM, "out of memory");
			return;
		}
		row = base_rows_of(w, n);
		ret = row != NULL ? base_build_add(w->build, row) : 0;
		if (ret == -E2BIG) {
			w->differs = differs;
			chunk_send(w);
			return;
		}
		if (ret == -ENOMEM) {
			base_write_fail(w, ret, "out of memory");
			return;
		}
	}
	rows_end(w);
}

void base_rows_ready(struct base_write *w)
{
	rows_add(w);
}

/* ---- pages ---- */

static void page_done(struct obj_req *req)
{
	struct base_write *w = req->arg;
	struct obj_result *r = &req->result;
	int ret;

	TALLOC_FREE(w->token);
	if (r->status != OBJ_OK) {
		base_write_fail(w, -EAGAIN, r->message != NULL ? r->message : objstore_status_name(r->status));
		objstore_req_free(&req);
		return;
	}
	ret = base_rows_take(w, r);
	if (ret == 0 && r->next_token != NULL && (w->token = talloc_strdup(w, r->next_token)) == NULL) {
		ret = -ENOMEM;
	}
	objstore_req_free(&req);
	if (ret != 0) {
		base_write_fail(w, ret, "out of memory");
		return;
	}
	base_rows_start(w);
}

static void write_page(struct base_write *w)
{
	struct obj_req *req = objstore_req_new(OBJ_LIST, w->prefix);

	if (req == NULL || (w->token != NULL && (req->token = strdup(w->token)) == NULL)) {
		objstore_req_free(&req);
		base_write_fail(w, -ENOMEM, "out of memory");
		return;
	}
	req->prio = OBJ_PRIO_HOUSE;
	req->delimiter = '/';
	req->done = page_done;
	req->arg = w;
	objstore_submit(w->v->store, req);
}

/* ---- the beginning ---- */

/* The head is one of ours whose answer was lost. */
static bool head_is_ours(const struct base_write *w)
{
	const struct base_head *there = base_read_head(w->old);

	return w->head != NULL && w->head->chunk_count > 0 && there != NULL && there->chunk_count > 0 &&
			strcmp(there->chunks[0].id, w->head->chunks[0].id) == 0;
}

static void old_ready(void *arg)
{
	struct base_write *w = arg;
	enum obj_status st = base_read_status(w->old);

	if (w->names != NULL) {
		base_rows_go_on(w); /* a chunk of it */
		return;
	}
	if (st != OBJ_OK && st != OBJ_NOT_FOUND) {
		/* If the last head was ours after all, its chunks must stay. */
		w->head = NULL;
		base_write_fail(w, -EAGAIN, objstore_status_name(st));
		return;
	}
	if (head_is_ours(w)) {
		stats_add(bases_written, 1);
		drop_chunks(w->v, &w->dir, base_read_head(w->lost));
		w->what.rows = w->head->rows;
		w->what.there = true;
		write_over(w, 0);
		return;
	}
	drop_chunks(w->v, &w->dir, w->head);
	talloc_free(w->head);
	w->head = base_head_new(w);
	w->differs = 0;
	w->what.young = 0;
	w->asked_ns = objstore_now_ns(w->v->store, w->v->clock);
	if (w->head == NULL) {
		base_write_fail(w, -ENOMEM, "out of memory");
		return;
	}
	write_page(w);
}

static void write_begin(struct base_write *w)
{
	w->old = base_read_open(w, w->v, &w->dir, OBJ_PRIO_HOUSE, 0, old_ready, w);
	if (w->old == NULL) {
		w->head = NULL;
		base_write_fail(w, -ENOMEM, "out of memory");
	}
}

struct base_write *base_write_start(TALLOC_CTX *ctx, struct volume *v, const struct ofs_oid *dir,
		base_write_done done, void *arg)
{
	struct base_write *w = talloc_zero(ctx, struct base_write);

	if (w == NULL) {
		return NULL;
	}
	talloc_set_destructor(w, write_destructor);
	w->v = v;
	w->dir = *dir;
	w->done = done;
	w->arg = arg;
	w->prefix = index_key(v->index, w, v->prefix, dir, "", false, NULL);
	if (w->prefix != NULL) {
		w->old = base_read_open(w, v, dir, OBJ_PRIO_HOUSE, 0, old_ready, w);
	}
	if (w->old == NULL) {
		talloc_free(w);
		return NULL;
	}
	return w;
}
