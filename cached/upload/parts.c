/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: a large object in parts, from the first to Complete or Abort.
 * Way: upload.c -> here (parts_begun.c says what is there already) -> object store; the end is upload.c's again.
 * Thread: core; bodies are read by the store's thread.
 * Owns: the requests in flight, and the upload in the store until it is completed, aborted or left.
 * Holds:
 *  1. a multipart upload that does not end in OBJ_OK is remembered, or aborted: what may be gone on with (the store
 *     is away, refuses for now, or did not say what became of it) is left, all else goes (rule 17);
 *  2. a part that is a copy is of the object that is replaced, held to it by its ETag or version, and of a
 *     block whose bytes are the same; whatever the store has against it, all is sent;
 *  3. the object is of one state: what is sent beside parts that are there is compared with what was read.
 *
 *   [read] -> [keep -> create] -> parts -> [head] -> complete -> done
 *                      |  \---------\-------\---> abort, or leave -> done
 *                      \----------------------------/ (all is sent)
 */
#include "upload_private.h"
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include "../base/log.h"
#include "../base/stats.h"
#include "../core/volume.h"

#define UPLOAD_PARTS_AT_ONCE 4
#define UPLOAD_COPY_BYTES (256LL << 20) /* of one copied part, if a block is not larger */

bool upload_may_copy(const struct upload *u)
{
	const struct obj_caps *caps = &u->v->store->caps;
	int64_t above = u->v->conf->delta_above_bytes;

	return above > 0 && u->size >= above && (caps->part_copy_if_match || caps->part_copy_version) &&
	       objstore_part_source_refusal(u->key) == NULL;
}

int64_t upload_copied(const struct upload *u)
{
	const struct upload_state *s = u->state;
	int64_t bytes = 0;

	for (int i = 0; i < s->part_count; i++) {
		bytes += s->parts[i].copy ? s->parts[i].length : 0;
	}
	return bytes;
}

static void parts_create(struct upload *u);

/* From its beginning, without what the store does not copy, or has of an earlier try. */
static void parts_all(struct upload *u)
{
	struct upload_state *s = u->state;

	stats_add(delta_refused, s->delta);
	log_notice("upload", "%s is sent whole: the store would not take what %s (%s)", u->key,
			s->delta ? "has not changed from the version before" : "it was sent before", s->failed_message);
	blocks_ask_free(&s->ask);
	s->again = s->delta = false;
	s->resumed = u->begun_ns = 0;
	s->failed = OBJ_OK;
	s->part_count = s->next_part = 0;
	TALLOC_FREE(s->parts);
	TALLOC_FREE(s->upload_id);
	if (s->cancelled) {
		upload_finish(u, OBJ_CANCELLED, "opened for writing");
	} else {
		parts_create(u);
	}
}

static void parts_abort_done(struct obj_req *req)
{
	struct upload *u = req->arg;

	if (req->result.status == OBJ_OK) {
		begun_gone(&u->state->begun);
	} else {
		log_notice("upload", "parts of %s could not be removed (%s): it is tried again; a bucket rule for "
				"incomplete multipart uploads removes them, too", u->key,
				objstore_status_name(req->result.status));
		begun_give_up(&u->state->begun);
	}
	objstore_req_free(&req);
	if (u->state->again) {
		parts_all(u);
	} else {
		upload_finish(u, u->state->failed, u->state->failed_message);
	}
}

static void parts_abort(struct upload *u)
{
	struct obj_req *req = upload_req(u, OBJ_MPU_ABORT, parts_abort_done);

	req->upload_id = strdup(u->state->upload_id);
	req->still_valid = NULL;
	objstore_submit(u->v->store, req);
}

/* Nothing of it is in flight any more. */
static void parts_end(struct upload *u)
{
	struct upload_state *s = u->state;
	bool later = s->failed == OBJ_AWAY || s->failed == OBJ_DENIED || s->failed == OBJ_UNKNOWN;

	if (s->gone) {
		begun_gone(&s->begun);
		upload_finish(u, s->failed, s->failed_message);
	} else if (!s->again && ((later && s->begun != NULL) || s->failed == OBJ_UNKNOWN)) {
		begun_leave(&s->begun); /* the next try goes on with it */
		upload_finish(u, s->failed, s->failed_message);
	} else {
		parts_abort(u);
	}
}

static void parts_fail(struct upload *u, enum obj_status status, const char *message)
{
	struct upload_state *s = u->state;
	int i;

	if (s->failed == OBJ_OK) {
		s->failed = status;
		s->failed_message = talloc_strdup(u, message ? message : "");
		for (i = 0; i < s->part_count; i++) {
			if (s->running[i] != NULL) {
				atomic_store(&s->running[i]->cancelled, true);
			}
		}
	}
	if (s->parts_running == 0) {
		parts_end(u);
	}
}

/* The same of a part's answer, or Complete's, that was no success. Where parts are copies, or of an earlier try, those
 * may have been what the store did not take: all is sent. An upload that is gone, and was gone on with, may have been
 * completed by who began it: look. */
static void parts_refused(struct upload *u, const struct obj_req *req)
{
	struct upload_state *s = u->state;
	enum obj_status status = req->result.status;
	const char *message = req->result.message;

	if (req->result.upload_gone) {
		s->gone = true;
		parts_fail(u, u->begun_ns != 0 || status == OBJ_UNKNOWN ? OBJ_UNKNOWN : OBJ_AWAY, message);
		return;
	}
	if (s->failed == OBJ_OK && ((s->delta && (status == OBJ_DENIED || status == OBJ_ARCHIVED ||
			status == OBJ_DAMAGED)) || ((s->delta || u->begun_ns != 0) && status == OBJ_INVALID))) {
		s->again = true;
	}
	parts_fail(u, status, message);
}

static void parts_checked(void *arg)
{
	upload_finish(arg, OBJ_OK, NULL);
}

static void parts_complete_done(struct obj_req *req)
{
	struct upload *u = req->arg;
	enum obj_status st = req->result.status;

	u->state->single = NULL;
	if (st == OBJ_OK) {
		upload_take_result(u, &req->result);
		begun_gone(&u->state->begun);
	}
	if (st == OBJ_OK && kept_has_tags(u->kept)) {
		objstore_req_free(&req);
		kept_check(u->kept, u->key, parts_checked, u);
		return;
	}
	if (st == OBJ_OK) {
		objstore_req_free(&req);
		upload_finish(u, OBJ_OK, NULL);
		return;
	}
	parts_refused(u, req);
	objstore_req_free(&req);
}

static void parts_complete(struct upload *u)
{
	struct upload_state *s = u->state;
	struct obj_req *req = upload_req(u, OBJ_MPU_COMPLETE, parts_complete_done);
	int i;

	req->upload_id = strdup(s->upload_id);
	req->parts = calloc(s->part_count, sizeof(*req->parts));
	for (i = 0; i < s->part_count; i++) {
		req->parts[i].number = i + 1;
		req->parts[i].etag = s->etags[i];
		req->parts[i].sum = s->sums[i];
	}
	req->part_count = s->part_count;
	req->length = u->size;
	if (s->ask != NULL && s->ask->sum[0] != '\0') {
		req->whole_sum = strdup(s->ask->sum);
	}
	if (objstore_complete_fenced(u->v->store, u->if_match)) {
		upload_condition(u, req);
	}
	s->single = req;
	objstore_submit(u->v->store, req);
}

/* Stores whose Complete takes no condition (class F2), or one that tells nothing: look right before; a narrow
 * window stays. */
static void parts_head_done(struct obj_req *req)
{
	struct upload *u = req->arg;
	struct obj_result *r = &req->result;
	bool same;

	if (r->status != OBJ_OK && r->status != OBJ_NOT_FOUND) {
		parts_fail(u, r->status, r->message);
		objstore_req_free(&req);
		return;
	}
	same = upload_same(u, r);
	objstore_req_free(&req);
	if (!same) {
		parts_fail(u, OBJ_PRECONDITION, "changed while its parts were being sent");
		return;
	}
	stats_add(fence_windows, 1);
	parts_complete(u);
}

static void parts_done(struct upload *u)
{
	struct obj_req *req;

	if (u->leased && !upload_still_leased((void *)(intptr_t)u->fd)) {
		parts_fail(u, OBJ_CANCELLED, "opened for writing");
		return;
	}
	if (objstore_complete_fenced(u->v->store, u->if_match) && !upload_must_look(u)) {
		parts_complete(u);
		return;
	}
	req = upload_req(u, OBJ_HEAD, parts_head_done);
	req->still_valid = NULL;
	req->may_lack = u->if_match == NULL;
	objstore_submit(u->v->store, req);
}

static void parts_more(struct upload *u);

/* Of a part that was sent: what it was made of, now; false: it is not what it was when it was compared. */
static bool parts_sent(struct upload *u, const struct blocks_part *part, const uint8_t sha256[32])
{
	unsigned i = (unsigned)(part->offset / u->blocks->each);

	if (part->copy) {
		return true;
	}
	if (u->state->ask != NULL) { /* all was read before */
		return memcmp(u->blocks->sha256[i], sha256, 32) == 0;
	}
	memcpy(u->blocks->sha256[i], sha256, 32);
	return true;
}

/* Where the store tells a copied part's SHA-256, the part is one block. */
static bool parts_copied_right(const struct upload *u, const struct obj_req *req)
{
	char text[OBJ_SUM_TEXT_BYTES];

	if (req->result.sum == NULL || atomic_load(&u->v->store->sum) != OBJ_SUM_SHA256 ||
			req->length != blocks_bytes(u->blocks, (unsigned)(req->offset / u->blocks->each))) {
		return true;
	}
	EVP_EncodeBlock((unsigned char *)text, u->blocks->sha256[req->offset / u->blocks->each], 32);
	return strcmp(text, req->result.sum) == 0;
}

static void parts_part_done(struct obj_req *req)
{
	struct upload *u = req->arg;
	struct upload_state *s = u->state;
	int i = req->part_number - 1;

	s->running[i] = NULL;
	s->parts_running--;
	if (req->op == OBJ_MPU_COPY && req->result.status == OBJ_OK && !parts_copied_right(u, req)) {
		req->result.status = OBJ_DAMAGED;
	}
	if (req->result.status == OBJ_OK && !parts_sent(u, &s->parts[i], req->result.sha256)) {
		parts_fail(u, OBJ_CANCELLED, "it was changed while it was sent");
		objstore_req_free(&req);
		return;
	}
	if (req->result.status == OBJ_OK && req->result.etag == NULL) {
		req->result.status = OBJ_AWAY;
	}
	if (req->result.status != OBJ_OK) {
		u->local_errno = s->failed == OBJ_OK ? req->result.local_errno : u->local_errno;
		parts_refused(u, req);
		objstore_req_free(&req);
		return;
	}
	parts_note(u, i, req);
	s->etags[i] = talloc_strdup(u, req->result.etag);
	s->sums[i] = req->result.sum ? talloc_strdup(u, req->result.sum) : NULL;
	objstore_req_free(&req);
	if (s->failed != OBJ_OK) {
		parts_fail(u, s->failed, NULL);
		return;
	}
	parts_more(u);
}

/* The object that is replaced, held to what was compared. */
static void parts_source(const struct upload *u, struct obj_req *req)
{
	const struct obj_caps *caps = &u->v->store->caps;
	const char *version = caps->part_copy_version ? u->state->ask->version : NULL;

	req->source_key = strdup(u->key);
	req->source_if_match = caps->part_copy_if_match ? strdup(u->if_match) : NULL;
	req->source_version_id = version != NULL ? strdup(version) : NULL;
	req->source_customer = u->v->conf->encryption == CONF_SSE_CUSTOMER;
}

static void parts_more(struct upload *u)
{
	struct upload_state *s = u->state;

	while (s->next_part < s->part_count && s->parts_running < UPLOAD_PARTS_AT_ONCE) {
		int i = s->next_part;
		const struct blocks_part *part = &s->parts[i];
		struct obj_req *req;

		if (s->etags[i] != NULL) {
			s->next_part++; /* it is there */
			continue;
		}
		req = upload_req(u, part->copy ? OBJ_MPU_COPY : OBJ_MPU_PART, parts_part_done);
		req->upload_id = strdup(s->upload_id);
		if (part->copy) {
			parts_source(u, req);
		}
		req->part_number = i + 1;
		req->opaque_etag = kept_is_encrypted(u->kept);
		req->fd = part->copy ? -1 : u->fd;
		req->offset = part->offset;
		req->length = part->length;
		s->running[i] = req;
		s->next_part++;
		s->parts_running++;
		objstore_submit(u->v->store, req);
	}
	if (s->parts_running == 0) {
		parts_done(u);
	}
}

/* Of parts with a SHA-256 each is compared: so they are blocks. */
static int64_t parts_run(const struct upload *u)
{
	return atomic_load(&u->v->store->sum) == OBJ_SUM_SHA256 ? 0 : UPLOAD_COPY_BYTES;
}

/* Which parts it has, and what is to be known of them. */
static void parts_divide(struct upload *u)
{
	struct upload_state *s = u->state;
	static const bool none[OBJ_PARTS_MAX];

	blocks_free(&u->blocks);
	if (s->delta) {
		u->blocks = s->ask->now;
		s->ask->now = NULL;
	} else {
		blocks_ask_free(&s->ask);
		u->blocks = blocks_new(u->size, upload_part_bytes(u->v->conf, u->size));
	}
	s->parts = talloc_zero_array(u, struct blocks_part, u->blocks->count);
	s->part_count = (int)blocks_plan(u->blocks, s->delta ? s->ask->same : none, parts_run(u), s->parts);
}

void parts_tables(struct upload *u)
{
	struct upload_state *s = u->state;

	s->etags = talloc_zero_array(u, char *, s->part_count);
	s->sums = talloc_zero_array(u, char *, s->part_count);
	s->running = talloc_zero_array(u, struct obj_req *, s->part_count);
}

/* ---- a new one ---- */

static void parts_create_done(struct obj_req *req)
{
	struct upload *u = req->arg;
	struct upload_state *s = u->state;
	const struct obj_result *r = &req->result;
	enum obj_status st = r->status;

	if (st != OBJ_OK || r->upload_id == NULL) {
		u->message = talloc_strdup(u, r->message ? r->message : "");
		if (st == OBJ_OK || st == OBJ_UNKNOWN) {
			begun_give_up(&s->begun); /* perhaps an empty one was begun */
		} else {
			begun_gone(&s->begun);
		}
		objstore_req_free(&req);
		upload_finish(u, st == OBJ_OK || st == OBJ_UNKNOWN ? OBJ_AWAY : st, NULL);
		return;
	}
	s->upload_id = talloc_strdup(u, r->upload_id);
	if (s->begun != NULL && r->more_begun) {
		begun_stray(s->begun);
	}
	if (s->begun != NULL) {
		begun_id(s->begun, r->upload_id);
	}
	objstore_req_free(&req);
	if (s->cancelled) {
		parts_fail(u, OBJ_CANCELLED, "opened for writing");
	} else {
		parts_more(u);
	}
}

static void parts_kept(void *arg)
{
	struct upload *u = arg;
	struct obj_req *req = u->state->create;

	u->state->create = NULL;
	if (u->state->cancelled) {
		objstore_req_free(&req);
		begun_gone(&u->state->begun);
		upload_finish(u, OBJ_CANCELLED, "opened for writing");
		return;
	}
	objstore_submit(u->v->store, req);
}

static void parts_create(struct upload *u)
{
	struct upload_state *s = u->state;
	struct obj_req *req;

	parts_divide(u);
	parts_tables(u);
	req = upload_req(u, OBJ_MPU_CREATE, parts_create_done);
	if (!upload_describe(u, &req)) {
		return;
	}
	req->still_valid = NULL;
	s->create = req;
	s->begun = begun_new(u->v, &u->meta.oid, u->key, u->blocks, s->delta ? s->ask->same : NULL, parts_run(u));
	if (s->begun == NULL) {
		parts_kept(u);
		return;
	}
	s->begun->wid = u->meta.wid;
	s->begun->atime_ns = u->meta.snapshot != NULL ? u->meta.snapshot->atime_ns : 0;
	parts_what(u, req, s->delta, s->begun->what);
	begun_keep(s->begun, parts_kept, u);
}

/* ---- one that was begun before ---- */

static void parts_begin(struct upload *u)
{
	struct upload_state *s = u->state;
	bool ended = false;

	if (s->cancelled) {
		begun_leave(&s->found);
		upload_finish(u, OBJ_CANCELLED, "opened for writing");
		return;
	}
	if (s->found != NULL && parts_resume(u, &ended)) {
		log_info("upload", "%s: gone on with: %d of %d parts are there", u->key, s->there, s->part_count);
		parts_more(u);
	} else if (!ended) {
		begun_give_up(&s->found); /* of another state */
		parts_create(u);
	}
}

static void parts_read(struct blocks_ask *q)
{
	struct upload *u = q->arg;

	u->state->comparing = false;
	u->state->delta = q->known && (q->version != NULL || u->v->store->caps.part_copy_if_match);
	parts_begin(u);
}

/* Is something of the object that it replaces, or of an earlier try, to be had from there? Then the file is read. */
void upload_parts(struct upload *u)
{
	struct upload_state *s = u->state;
	enum obj_sum kind = (enum obj_sum)atomic_load(&u->v->store->sum);
	bool compare = u->if_match != NULL && !u->whole && upload_may_copy(u);
	struct blocks_ask *q;
	int fd;

	parts_find(u);
	fd = compare || s->found != NULL ? fcntl(u->fd, F_DUPFD_CLOEXEC, 0) : -1; /* who goes may leave it behind */
	if (fd < 0) {
		parts_begin(u);
		return;
	}
	q = calloc(1, sizeof(*q));
	q->fd = fd;
	q->etag = compare ? strdup(u->if_match) : NULL;
	q->v = u->v;
	q->oid = u->meta.oid;
	q->size = u->size;
	q->each = s->found != NULL ? s->found->each : 0;
	q->sum_kind = kind != OBJ_SUM_SHA256 && atomic_load(&u->v->store->sum_trailer) ? kind : OBJ_SUM_NONE;
	q->done = parts_read;
	q->arg = u;
	s->ask = q;
	s->comparing = true;
	blocks_ask(q);
}

void upload_parts_cancel(struct upload *u)
{
	struct upload_state *s = u->state;

	if (s->comparing) {
		atomic_store(&s->ask->cancelled, true);
	}
	if (s->upload_id != NULL && s->single == NULL && s->failed == OBJ_OK && s->parts_running > 0) {
		parts_fail(u, OBJ_CANCELLED, "opened for writing");
	}
}
