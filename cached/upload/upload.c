/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: turn one unmoving descriptor and its metadata into one object, conditionally.
 * Way: reconcile -> here -> object store; the answer goes back to reconcile.
 * Thread: core; bodies are read by the store's thread.
 * Owns: the requests in flight of each upload; the descriptor is the caller's.
 * Holds:
 *  1. blobs are in the bucket before the object that names them;
 *  2. at most one mutation of the key is in flight, and it carries the condition;
 *  3. a multipart upload that does not end in OBJ_OK or OBJ_UNKNOWN is aborted;
 *  4. done is called exactly once, never from inside upload_start;
 *  5. a part that is a copy is of the object that is replaced, held to it by its ETag or version, and of a
 *     block whose bytes are the same; whatever the store has against it, all is sent.
 *
 *   start -> blobs -> [head] -> put--------------------------------------> done
 *                 \-> [compare] -> create -> parts -> [head] -> complete -> done
 *                                    |  \-------\------\---> abort -> done
 *                                    \------------------------/ (all is sent)
 */
#include "upload.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "../base/log.h"
#include "../base/stats.h"
#include "../core/volume.h"

#define UPLOAD_SINGLE_MAX_BYTES (64LL << 20) /* above: parts, where Complete is conditional */
#define UPLOAD_PARTS_AT_ONCE 4
#define UPLOAD_COPY_BYTES (256LL << 20) /* of one copied part, if a block is not larger */
#define UPLOAD_SNAPSHOT_GIVES_BYTES 900u /* of its budget, for user metadata of others */

/* Of a file that stays open: 100 GB each minute would be 144 TB a day, and kept as versions for ever. */
#define OPEN_BYTES_EACH_S 10000000
#define OPEN_VERSION_MAX_BYTES (1LL << 30)

struct upload_state {
	int64_t since_ns;
	bool cancelled;
	struct obj_req *single; /* the PUT or Complete in flight */
	char *upload_id;
	int part_count, next_part, parts_running;
	struct blocks_part *parts; /* by part number - 1 */
	struct blocks_ask *ask; /* what the object has already; NULL: nothing, or it was not asked */
	bool comparing; /* it is being asked */
	bool again;     /* once it is aborted: all is sent */
	char **etags, **sums;  /* by part number - 1; checksums may be missing */
	struct obj_req **running; /* by part number - 1, NULL when not in flight */
	enum obj_status failed;
	char *failed_message;
};

/* ---- one object ---- */

static bool upload_still_leased(void *arg)
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
	return 0;
}

struct upload *upload_new(TALLOC_CTX *ctx, struct volume *v, const char *key)
{
	struct upload *u = talloc_zero(ctx, struct upload);

	if (u == NULL) {
		return NULL;
	}
	u->v = v;
	u->fd = -1;
	u->key = talloc_strdup(u, key);
	u->state = talloc_zero(u, struct upload_state);
	if (u->key == NULL || u->state == NULL) {
		talloc_free(u);
		return NULL;
	}
	talloc_set_destructor(u, upload_destructor);
	return u;
}

/* May what has not changed be copied, of this object or of its next version? */
static bool upload_may_copy(const struct upload *u)
{
	const struct obj_caps *caps = &u->v->store->caps;
	int64_t above = u->v->conf->delta_above_bytes;

	return above > 0 && u->size >= above && (caps->part_copy_if_match || caps->part_copy_version) &&
	       objstore_part_source_refusal(u->key) == NULL;
}

/* Bytes that were not sent. */
static int64_t upload_copied(const struct upload *u)
{
	const struct upload_state *s = u->state;
	int64_t bytes = 0;

	for (int i = 0; i < s->part_count; i++) {
		bytes += s->parts[i].copy ? s->parts[i].length : 0;
	}
	return bytes;
}

static void upload_finish(struct upload *u, enum obj_status status, const char *message)
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
		stats_add(upload_bytes, u->size - upload_copied(u));
		stats_add(delta_bytes, upload_copied(u));
		stats_add(deltas, u->state->ask != NULL);
		times_add(step, upload, clock_now_ns(u->v->clock) - u->state->since_ns);
	}
	u->done(u);
}

/* Common fields of a request that belongs to an upload. NULL: out of memory. */
static struct obj_req *upload_req(struct upload *u, enum obj_op op,
		void (*done)(struct obj_req *))
{
	struct obj_req *req = objstore_req_new(op, u->key);

	if (req == NULL) {
		return NULL;
	}
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

static int upload_condition(struct upload *u, struct obj_req *req)
{
	if (u->if_match == NULL) {
		req->if_none_match = true;
		return 0;
	}
	req->if_match = strdup(u->if_match);
	return req->if_match ? 0 : -1;
}

static void upload_take_result(struct upload *u, const struct obj_result *r)
{
	u->etag = r->etag ? talloc_strdup(u, r->etag) : NULL;
	u->version_id = r->version_id ? talloc_strdup(u, r->version_id) : NULL;
	u->mtime_ns = r->mtime_ns;
}

/* Our metadata, and what others had set. false: the upload has ended. */
static bool upload_describe(struct upload *u, struct obj_req **req)
{
	const char *why = NULL;
	int ret = *req == NULL ? -ENOMEM : objmeta_put(*req, &u->meta);

	ret = ret == 0 ? kept_put(u->kept, *req, &why) : ret;
	if (ret == 0) {
		return true;
	}
	objstore_req_free(req);
	upload_finish(u, ret == -EPERM ? OBJ_INVALID : OBJ_LOCAL,
			why != NULL ? why : "the metadata does not fit, or out of memory");
	return false;
}

static void upload_put_done(struct obj_req *req)
{
	struct upload *u = req->arg;
	enum obj_status st = req->result.status;

	u->state->single = NULL;
	if (st == OBJ_OK) {
		upload_take_result(u, &req->result);
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
	if (upload_condition(u, req) != 0) {
		objstore_req_free(&req);
		upload_finish(u, OBJ_LOCAL, "out of memory");
		return;
	}
	req->fd = u->fd;
	req->length = u->fd >= 0 ? u->size : 0;
	u->state->single = req;
	objstore_submit(u->v->store, req);
}

/* ---- the look before ---- */

/* What is there is what is to be replaced. */
static bool upload_same(const struct upload *u, const struct obj_result *r)
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

/* Its condition would hold for any empty object: who has put this one? Or the store has none. */
static bool upload_must_look(const struct upload *u)
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

	if (req == NULL) {
		upload_finish(u, OBJ_LOCAL, "out of memory");
		return;
	}
	req->still_valid = NULL;
	objstore_submit(u->v->store, req);
}

/* ---- parts ---- */

static void upload_create(struct upload *u);

/* From its beginning, without what the store does not copy. */
static void upload_all(struct upload *u)
{
	struct upload_state *s = u->state;

	stats_add(delta_refused, 1);
	log_notice("upload", "%s is sent whole: the store would not copy what has not changed (%s)", u->key,
			s->failed_message);
	blocks_ask_free(&s->ask);
	s->again = false;
	s->failed = OBJ_OK;
	s->part_count = s->next_part = 0;
	TALLOC_FREE(s->parts);
	TALLOC_FREE(s->upload_id);
	if (s->cancelled) {
		upload_finish(u, OBJ_CANCELLED, "opened for writing");
	} else {
		upload_create(u);
	}
}

static void upload_abort_done(struct obj_req *req)
{
	struct upload *u = req->arg;

	if (req->result.status != OBJ_OK) {
		log_notice("upload", "parts of %s could not be removed (%s): remove them with a bucket "
				"rule for incomplete multipart uploads", u->key,
				objstore_status_name(req->result.status));
	}
	objstore_req_free(&req);
	if (u->state->again) {
		upload_all(u);
	} else {
		upload_finish(u, u->state->failed, u->state->failed_message);
	}
}

static void upload_abort(struct upload *u)
{
	struct obj_req *req = upload_req(u, OBJ_MPU_ABORT, upload_abort_done);

	if (req == NULL || (req->upload_id = strdup(u->state->upload_id)) == NULL) {
		objstore_req_free(&req);
		u->state->again = false;
		upload_finish(u, u->state->failed, u->state->failed_message);
		return;
	}
	req->still_valid = NULL;
	objstore_submit(u->v->store, req);
}

static void upload_fail(struct upload *u, enum obj_status status, const char *message)
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
		upload_abort(u);
	}
}

/* The same as `status`, unless it was about copied parts: those may have been what the store did not take. */
static void upload_fail_copy(struct upload *u, enum obj_status status, const char *message)
{
	u->state->again = u->state->again || (u->state->failed == OBJ_OK && u->state->ask != NULL &&
			(status == OBJ_INVALID || status == OBJ_DENIED || status == OBJ_ARCHIVED || status == OBJ_DAMAGED));
	upload_fail(u, status, message);
}

static void upload_checked(void *arg)
{
	upload_finish(arg, OBJ_OK, NULL);
}

static void upload_complete_done(struct obj_req *req)
{
	struct upload *u = req->arg;
	enum obj_status st = req->result.status;

	u->state->single = NULL;
	if (st == OBJ_OK) {
		upload_take_result(u, &req->result);
	}
	if (st == OBJ_OK && kept_has_tags(u->kept)) {
		objstore_req_free(&req);
		kept_check(u->kept, u->key, upload_checked, u);
		return;
	}
	if (st == OBJ_OK || st == OBJ_UNKNOWN) {
		if (req->result.message != NULL) {
			u->message = talloc_strdup(u, req->result.message);
		}
		objstore_req_free(&req);
		upload_finish(u, st, NULL);
		return;
	}
	upload_fail_copy(u, st, req->result.message);
	objstore_req_free(&req);
}

static void upload_complete(struct upload *u)
{
	struct upload_state *s = u->state;
	struct obj_req *req = upload_req(u, OBJ_MPU_COMPLETE, upload_complete_done);
	int i;

	if (req == NULL || (req->upload_id = strdup(s->upload_id)) == NULL ||
			(req->parts = calloc(s->part_count, sizeof(*req->parts))) == NULL) {
		objstore_req_free(&req);
		upload_fail(u, OBJ_LOCAL, "out of memory");
		return;
	}
	for (i = 0; i < s->part_count; i++) {
		req->parts[i].number = i + 1;
		req->parts[i].etag = s->etags[i];
		req->parts[i].sum = s->sums[i];
	}
	req->part_count = s->part_count;
	if (s->ask != NULL && s->ask->sum[0] != '\0') {
		req->whole_sum = strdup(s->ask->sum);
	}
	if (objstore_complete_fenced(u->v->store, u->if_match) && upload_condition(u, req) != 0) {
		objstore_req_free(&req);
		upload_fail(u, OBJ_LOCAL, "out of memory");
		return;
	}
	s->single = req;
	objstore_submit(u->v->store, req);
}

/* Stores whose Complete takes no condition (class F2), or one that tells nothing: look right before; a narrow
 * window stays. */
static void upload_head_done(struct obj_req *req)
{
	struct upload *u = req->arg;
	struct obj_result *r = &req->result;
	bool same;

	if (r->status != OBJ_OK && r->status != OBJ_NOT_FOUND) {
		upload_fail(u, r->status, r->message);
		objstore_req_free(&req);
		return;
	}
	same = upload_same(u, r);
	objstore_req_free(&req);
	if (!same) {
		upload_fail(u, OBJ_PRECONDITION, "changed while its parts were being sent");
		return;
	}
	stats_add(fence_windows, 1);
	upload_complete(u);
}

static void upload_parts_done(struct upload *u)
{
	struct obj_req *req;

	if (u->leased && !upload_still_leased((void *)(intptr_t)u->fd)) {
		upload_fail(u, OBJ_CANCELLED, "opened for writing");
		return;
	}
	if (objstore_complete_fenced(u->v->store, u->if_match) && !upload_must_look(u)) {
		upload_complete(u);
		return;
	}
	req = upload_req(u, OBJ_HEAD, upload_head_done);
	if (req == NULL) {
		upload_fail(u, OBJ_LOCAL, "out of memory");
		return;
	}
	req->still_valid = NULL;
	objstore_submit(u->v->store, req);
}

static void upload_parts_more(struct upload *u);

/* Of a part that was sent: what it was made of, now; false: it is not what it was when it was compared. */
static bool upload_sent(struct upload *u, const struct blocks_part *part, const uint8_t sha256[32])
{
	unsigned i = u->blocks != NULL ? (unsigned)(part->offset / u->blocks->each) : 0;

	if (u->blocks == NULL || part->copy) {
		return true;
	}
	if (u->state->ask != NULL) {
		return memcmp(u->blocks->sha256[i], sha256, 32) == 0;
	}
	memcpy(u->blocks->sha256[i], sha256, 32);
	return true;
}

/* Where the store tells a copied part's SHA-256, the part is one block. */
static bool upload_copied_right(const struct upload *u, const struct obj_req *req)
{
	char text[OBJ_SUM_TEXT_BYTES];

	if (req->result.sum == NULL || atomic_load(&u->v->store->sum) != OBJ_SUM_SHA256 ||
			req->length != blocks_bytes(u->blocks, (unsigned)(req->offset / u->blocks->each))) {
		return true;
	}
	EVP_EncodeBlock((unsigned char *)text, u->blocks->sha256[req->offset / u->blocks->each], 32);
	return strcmp(text, req->result.sum) == 0;
}

static void upload_part_done(struct obj_req *req)
{
	struct upload *u = req->arg;
	struct upload_state *s = u->state;
	int i = req->part_number - 1;

	s->running[i] = NULL;
	s->parts_running--;
	if (req->op == OBJ_MPU_COPY && (req->result.status != OBJ_OK || !upload_copied_right(u, req))) {
		upload_fail_copy(u, req->result.status == OBJ_OK ? OBJ_DAMAGED : req->result.status,
				req->result.message != NULL ? req->result.message : "a copy has another checksum");
		objstore_req_free(&req);
		return;
	}
	if (req->result.status == OBJ_OK && !upload_sent(u, &s->parts[i], req->result.sha256)) {
		upload_fail(u, OBJ_CANCELLED, "it was changed while it was sent");
		objstore_req_free(&req);
		return;
	}
	if (req->result.status != OBJ_OK || req->result.etag == NULL) {
		upload_fail(u, req->result.status == OBJ_OK ? OBJ_UNKNOWN : req->result.status,
				req->result.message);
		objstore_req_free(&req);
		return;
	}
	s->etags[i] = talloc_strdup(u, req->result.etag);
	s->sums[i] = req->result.sum ? talloc_strdup(u, req->result.sum) : NULL;
	objstore_req_free(&req);
	if (s->failed != OBJ_OK || s->etags[i] == NULL) {
		upload_fail(u, OBJ_LOCAL, "out of memory");
		return;
	}
	upload_parts_more(u);
}

/* The object that is replaced, held to what was compared. */
static bool upload_source(const struct upload *u, struct obj_req *req)
{
	const struct obj_caps *caps = &u->v->store->caps;
	const char *version = caps->part_copy_version ? u->state->ask->version : NULL;

	req->source_key = strdup(u->key);
	req->source_if_match = caps->part_copy_if_match ? strdup(u->if_match) : NULL;
	req->source_version_id = version != NULL ? strdup(version) : NULL;
	req->source_customer = u->v->conf->encryption == CONF_SSE_CUSTOMER;
	return req->source_key != NULL && (!caps->part_copy_if_match || req->source_if_match != NULL) &&
	       (version == NULL || req->source_version_id != NULL);
}

static void upload_parts_more(struct upload *u)
{
	struct upload_state *s = u->state;

	while (s->next_part < s->part_count && s->parts_running < UPLOAD_PARTS_AT_ONCE) {
		int i = s->next_part;
		const struct blocks_part *part = &s->parts[i];
		struct obj_req *req = upload_req(u, part->copy ? OBJ_MPU_COPY : OBJ_MPU_PART, upload_part_done);

		if (req == NULL || (req->upload_id = strdup(s->upload_id)) == NULL ||
				(part->copy && !upload_source(u, req))) {
			objstore_req_free(&req);
			upload_fail(u, OBJ_LOCAL, "out of memory");
			return;
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
		upload_parts_done(u);
	}
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

/* Which parts it has, and what is to be known of them. */
static bool upload_divide(struct upload *u)
{
	struct upload_state *s = u->state;
	int64_t each = upload_part_bytes(u->v->conf, u->size), run;
	struct blocks *b;

	blocks_free(&u->blocks);
	if (s->ask != NULL) {
		u->blocks = s->ask->now;
		s->ask->now = NULL;
	} else {
		u->blocks = blocks_new(u->size, each);
	}
	b = u->blocks;
	if (b == NULL || (s->parts = talloc_zero_array(u, struct blocks_part, b->count)) == NULL) {
		return false;
	}
	/* Of parts with a SHA-256 each is compared: so they are blocks. */
	run = atomic_load(&u->v->store->sum) == OBJ_SUM_SHA256 ? 0 : UPLOAD_COPY_BYTES;
	if (s->ask != NULL) {
		s->part_count = (int)blocks_plan(b, s->ask->same, run, s->parts);
		return true;
	}
	for (s->part_count = 0; s->part_count < (int)b->count; s->part_count++) {
		s->parts[s->part_count].offset = each * s->part_count;
		s->parts[s->part_count].length = blocks_bytes(b, (unsigned)s->part_count);
	}
	return true;
}

static void upload_create_done(struct obj_req *req)
{
	struct upload *u = req->arg;
	struct upload_state *s = u->state;

	if (req->result.status != OBJ_OK || req->result.upload_id == NULL) {
		enum obj_status st = req->result.status;

		/* A Create of unknown outcome leaves nothing but an empty upload. */
		u->message = talloc_strdup(u, req->result.message ? req->result.message : "");
		objstore_req_free(&req);
		upload_finish(u, st == OBJ_OK || st == OBJ_UNKNOWN ? OBJ_AWAY : st, NULL);
		return;
	}
	s->upload_id = talloc_strdup(u, req->result.upload_id);
	objstore_req_free(&req);
	if (s->upload_id == NULL) {
		upload_finish(u, OBJ_LOCAL, "out of memory");
		return;
	}
	if (!upload_divide(u)) {
		upload_fail(u, OBJ_LOCAL, "out of memory");
		return;
	}
	s->etags = talloc_zero_array(u, char *, s->part_count);
	s->sums = talloc_zero_array(u, char *, s->part_count);
	s->running = talloc_zero_array(u, struct obj_req *, s->part_count);
	if (s->etags == NULL || s->sums == NULL || s->running == NULL) {
		s->part_count = 0; /* none runs */
		upload_fail(u, OBJ_LOCAL, "out of memory");
		return;
	}
	if (s->cancelled) {
		upload_fail(u, OBJ_CANCELLED, "opened for writing");
		return;
	}
	upload_parts_more(u);
}

static void upload_create(struct upload *u)
{
	struct obj_req *req = upload_req(u, OBJ_MPU_CREATE, upload_create_done);

	if (!upload_describe(u, &req)) {
		return;
	}
	req->still_valid = NULL;
	objstore_submit(u->v->store, req);
}

static void upload_compared(struct blocks_ask *q)
{
	struct upload *u = q->arg;

	u->state->comparing = false;
	if (!q->known || (q->version == NULL && !u->v->store->caps.part_copy_if_match)) {
		blocks_ask_free(&u->state->ask);
	}
	if (u->state->cancelled) {
		upload_finish(u, OBJ_CANCELLED, "opened for writing");
	} else {
		upload_create(u);
	}
}

/* Is something of the object that it replaces to be had from there? */
static void upload_compare(struct upload *u)
{
	enum obj_sum kind = (enum obj_sum)atomic_load(&u->v->store->sum);
	struct blocks_ask *q = NULL;

	if (u->if_match != NULL && !u->whole && upload_may_copy(u)) {
		q = calloc(1, sizeof(*q));
	}
	if (q != NULL) {
		q->fd = fcntl(u->fd, F_DUPFD_CLOEXEC, 0); /* who goes may leave it behind */
	}
	if (q == NULL || q->fd < 0 || (q->etag = strdup(u->if_match)) == NULL) {
		blocks_ask_free(&q);
		upload_create(u);
		return;
	}
	q->v = u->v;
	q->oid = u->meta.oid;
	q->size = u->size;
	q->sum_kind = kind != OBJ_SUM_SHA256 && atomic_load(&u->v->store->sum_trailer) ? kind : OBJ_SUM_NONE;
	q->done = upload_compared;
	q->arg = u;
	u->state->ask = q;
	u->state->comparing = true;
	blocks_ask(q);
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
	single_max = parts ? UPLOAD_SINGLE_MAX_BYTES : OBJ_PUT_MAX_BYTES;
	if (u->size <= single_max && upload_must_look(u)) {
		upload_look(u);
	} else if (u->size <= single_max) {
		upload_put(u);
	} else {
		upload_compare(u);
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
	if (clock_timer_add(u->v->clock, u, clock_now_ns(u->v->clock), upload_begin, u) == NULL) {
		upload_begin(u);
	}
}

void upload_cancel(struct upload *u)
{
	struct upload_state *s = u->state;

	s->cancelled = true;
	if (s->comparing) {
		atomic_store(&s->ask->cancelled, true);
	}
	if (s->single != NULL) {
		atomic_store(&s->single->cancelled, true);
	}
	if (s->upload_id != NULL && s->single == NULL && s->failed == OBJ_OK && s->parts_running > 0) {
		upload_fail(u, OBJ_CANCELLED, "opened for writing");
	}
}
