/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: an object that the store does not copy by itself, because it is too large, or encrypted, or is to have other
 *       properties, comes to its new key through this machine.
 * Way: fenced.c (copy_fenced) -> here -> GET and PART of each range -> Complete -> fenced.c.
 * Thread: core; bytes are moved by the store's thread. One short open of a scratch file is ours.
 * Owns: struct pass, the scratch file (PASS_AT_ONCE parts long), the upload until its end.
 * Holds:
 *  1. every range is read under the source's ETag: the parts are of one state;
 *  2. nothing is visible under the new key before the Complete, which carries the condition (F3) or
 *     follows a look (F2); a pass that ends otherwise leaves nothing but an upload that is aborted;
 *  3. the copy says in COPY_OF_META what it is a copy of: its own ETag cannot.
 *
 *   [tags] -> [keep -> create] -> (get -> part) * n, PASS_AT_ONCE at a time -> [head] -> complete -> [head] -> done
 *                     \-----------------------------\----------\--> abort -> done
 *   [tags] -> get -> put -> done: a small one
 */
#include "private.h"
#include "../core/trust.h"
#include "../mirror/foreign.h"
#include "../upload/begun.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PASS_AT_ONCE 3u
#define PASS_WHOLE_BYTES (4LL << 20) /* in memory, with the condition on the PUT */

struct pass_slot {
	struct pass *p;
	int64_t at;  /* in the scratch file */
	int number;  /* of the part; 0: free */
};

struct pass { /* talloc child of the volume */
	struct volume *v;
	struct obj_req *head; /* of the source */
	struct obj_req *whole; /* a small one's PUT, until it is sent */
	const struct kept *kept; /* what others had set at the target */
	const struct kept *put;  /* what is put on the copy; NULL: nothing */
	char *etag;              /* of the copy */
	char *from, *to, *expect;
	int fd;
	char *upload_id;
	struct begun *begun; /* NULL: nothing is remembered of it */
	struct obj_req *create; /* it waits for that to be on the disk */
	int64_t part_bytes;
	int count, next;
	unsigned running;
	char **etags, **sums; /* checksums may be missing */
	struct pass_slot slots[PASS_AT_ONCE];
	enum obj_status failed;
	char *message;
	copy_done_fn done;
	void *arg;
};

static int pass_destructor(struct pass *p)
{
	objstore_req_free(&p->head);
	objstore_req_free(&p->whole);
	objstore_req_free(&p->create);
	if (p->fd >= 0) {
		close(p->fd);
	}
	return 0;
}

static void pass_end(struct pass *p, enum obj_status st, const char *message, const char *etag)
{
	if (st == OBJ_OK) {
		stats_add(copies_passed, 1);
	}
	begun_give_up(&p->begun); /* unless it has gone: what is there of it is ended */
	p->done(st, message, etag, p->arg);
	talloc_free(p);
}

static struct obj_req *pass_req(struct pass *p, enum obj_op op, const char *key,
		void (*done)(struct obj_req *), void *arg)
{
	struct obj_req *req = objstore_req_new(op, key);

	if (req != NULL && p->upload_id != NULL && op != OBJ_GET && op != OBJ_HEAD &&
			(req->upload_id = strdup(p->upload_id)) == NULL) {
		objstore_req_free(&req);
	}
	if (req != NULL) {
		req->prio = OBJ_PRIO_UPLOAD;
		req->done = done;
		req->arg = arg;
	}
	return req;
}

static void pass_aborted(struct obj_req *req)
{
	struct pass *p = req->arg;

	if (req->result.status == OBJ_OK) {
		begun_gone(&p->begun);
	}
	objstore_req_free(&req);
	pass_end(p, p->failed, p->message, NULL);
}

/* The first failure counts; the upload goes when nothing of it is in flight. */
static void pass_fail(struct pass *p, enum obj_status st, const char *message)
{
	struct obj_req *req;

	if (p->failed == OBJ_OK) {
		p->failed = st;
		p->message = talloc_strdup(p, message ? message : "");
	}
	if (p->running > 0) {
		return;
	}
	req = pass_req(p, OBJ_MPU_ABORT, p->to, pass_aborted, p);
	if (req == NULL) {
		pass_end(p, p->failed, p->message, NULL);
		return;
	}
	objstore_submit(p->v->store, req);
}

/* ---- the end ---- */

static void pass_checked(void *arg)
{
	struct pass *p = arg;

	pass_end(p, OBJ_OK, NULL, p->etag);
}

static void pass_there(struct pass *p, const char *etag)
{
	p->etag = talloc_strdup(p, etag);
	if (p->etag != NULL && kept_has_tags(p->put)) {
		kept_check(p->put, p->to, pass_checked, p);
	} else {
		pass_end(p, OBJ_OK, NULL, etag);
	}
}

static void pass_etag_seen(struct obj_req *req)
{
	struct pass *p = req->arg;
	struct obj_result *r = &req->result;

	if (r->status == OBJ_OK && r->etag != NULL) {
		pass_there(p, r->etag);
	} else {
		pass_end(p, OBJ_UNKNOWN, r->message, NULL);
	}
	objstore_req_free(&req);
}

static void pass_completed(struct obj_req *req)
{
	struct pass *p = req->arg;
	struct obj_result *r = &req->result;
	struct obj_req *head;

	if (r->status == OBJ_OK) {
		begun_gone(&p->begun);
	}
	if (r->status == OBJ_OK && r->etag != NULL && r->etag[0] != '\0') {
		pass_there(p, r->etag);
	} else if (r->status == OBJ_OK) {
		head = pass_req(p, OBJ_HEAD, p->to, pass_etag_seen, p);
		if (head != NULL) {
			objstore_submit(p->v->store, head);
		} else {
			pass_end(p, OBJ_UNKNOWN, "out of memory", NULL);
		}
	} else if (r->status == OBJ_UNKNOWN) {
		pass_end(p, OBJ_UNKNOWN, r->message, NULL); /* the next try looks */
	} else {
		pass_fail(p, r->status, r->message);
	}
	objstore_req_free(&req);
}

static void pass_complete(struct pass *p)
{
	struct obj_req *req = pass_req(p, OBJ_MPU_COMPLETE, p->to, pass_completed, p);
	bool fenced = objstore_complete_fenced(p->v->store, p->expect);
	int i;

	if (req == NULL || (req->parts = calloc(p->count, sizeof(*req->parts))) == NULL ||
			(fenced && p->expect != NULL &&
					(req->if_match = strdup(p->expect)) == NULL)) {
		objstore_req_free(&req);
		pass_fail(p, OBJ_LOCAL, "out of memory");
		return;
	}
	req->if_none_match = fenced && p->expect == NULL;
	for (i = 0; i < p->count; i++) {
		req->parts[i].number = i + 1;
		req->parts[i].etag = p->etags[i];
		req->parts[i].sum = p->sums[i];
	}
	req->part_count = p->count;
	req->length = p->head->result.size;
	objstore_submit(p->v->store, req);
}

/* Class F2: Complete takes no condition; a narrow window stays. */
static void pass_dest_seen(struct obj_req *req)
{
	struct pass *p = req->arg;
	struct obj_result *r = &req->result;

	if (r->status == OBJ_NOT_FOUND || (r->status == OBJ_OK && p->expect != NULL &&
			r->etag != NULL && strcmp(r->etag, p->expect) == 0)) {
		stats_add(fence_windows, 1);
		pass_complete(p);
	} else if (r->status == OBJ_OK) {
		pass_fail(p, OBJ_PRECONDITION, "the new name was taken in S3 meanwhile");
	} else {
		pass_fail(p, r->status, r->message);
	}
	objstore_req_free(&req);
}

static void pass_parts_done(struct pass *p)
{
	struct obj_req *req;

	if (objstore_complete_fenced(p->v->store, p->expect)) {
		pass_complete(p);
		return;
	}
	req = pass_req(p, OBJ_HEAD, p->to, pass_dest_seen, p);
	if (req == NULL) {
		pass_fail(p, OBJ_LOCAL, "out of memory");
		return;
	}
	req->may_lack = true;
	objstore_submit(p->v->store, req);
}

/* ---- the parts ---- */

static void pass_more(struct pass *p);

static void pass_slot_end(struct pass_slot *s, enum obj_status st, const char *message)
{
	struct pass *p = s->p;

	s->number = 0;
	p->running--;
	if (st != OBJ_OK || p->failed != OBJ_OK) {
		pass_fail(p, st, message);
	} else {
		pass_more(p);
	}
}

static void pass_part_done(struct obj_req *req)
{
	struct pass_slot *s = req->arg;
	struct pass *p = s->p;
	struct obj_result *r = &req->result;
	enum obj_status st = r->status;

	if (st == OBJ_OK) {
		p->sums[s->number - 1] = r->sum ? talloc_strdup(p, r->sum) : NULL;
		p->etags[s->number - 1] = r->etag ? talloc_strdup(p, r->etag) : NULL;
		st = p->etags[s->number - 1] != NULL ? OBJ_OK : OBJ_AWAY;
	} else if (st == OBJ_UNKNOWN) {
		st = OBJ_AWAY; /* a part alone is nothing */
	}
	pass_slot_end(s, st, r->message);
	objstore_req_free(&req);
}

static int64_t pass_part_length(const struct pass *p, int number)
{
	int64_t rest = p->head->result.size - (number - 1) * p->part_bytes;

	return rest < p->part_bytes ? rest : p->part_bytes;
}

static void pass_got(struct obj_req *req)
{
	struct pass_slot *s = req->arg;
	struct pass *p = s->p;
	struct obj_result *r = &req->result;
	int64_t length = pass_part_length(p, s->number);
	struct obj_req *part;

	if (r->status != OBJ_OK || r->size != length || p->failed != OBJ_OK) {
		pass_slot_end(s, r->status == OBJ_PRECONDITION ? OBJ_CONFLICT
				: r->status == OBJ_OK          ? OBJ_AWAY
							       : r->status,
				r->message ? r->message : "a range of it came short");
		objstore_req_free(&req);
		return;
	}
	objstore_req_free(&req);
	part = pass_req(p, OBJ_MPU_PART, p->to, pass_part_done, s);
	if (part == NULL) {
		pass_slot_end(s, OBJ_LOCAL, "out of memory");
		return;
	}
	part->part_number = s->number;
	part->opaque_etag = kept_is_encrypted(p->put);
	part->fd = p->fd;
	part->offset = s->at;
	part->length = length;
	objstore_submit(p->v->store, part);
}

static void pass_more(struct pass *p)
{
	unsigned i;

	for (i = 0; i < PASS_AT_ONCE && p->next <= p->count; i++) {
		struct pass_slot *s = &p->slots[i];
		struct obj_req *req;

		if (s->number != 0) {
			continue;
		}
		req = pass_req(p, OBJ_GET, p->from, pass_got, s);
		if (req == NULL || (req->if_match = strdup(p->head->result.etag)) == NULL) {
			objstore_req_free(&req);
			pass_fail(p, OBJ_LOCAL, "out of memory");
			return;
		}
		s->number = p->next++;
		p->running++;
		req->offset = (s->number - 1) * p->part_bytes;
		req->length = pass_part_length(p, s->number);
		req->sink_fd = p->fd;
		req->sink_offset = s->at;
		objstore_submit(p->v->store, req);
	}
	if (p->running == 0) {
		pass_parts_done(p);
	}
}

/* ---- the beginning ---- */

static void pass_created(struct obj_req *req)
{
	struct pass *p = req->arg;
	struct obj_result *r = &req->result;
	unsigned i;

	if (r->status != OBJ_OK || r->upload_id == NULL) {
		if (r->status != OBJ_OK && r->status != OBJ_UNKNOWN) {
			begun_gone(&p->begun);
		} /* else perhaps an empty one was begun */
		pass_end(p, r->status == OBJ_OK || r->status == OBJ_UNKNOWN ? OBJ_AWAY : r->status,
				r->message, NULL);
		objstore_req_free(&req);
		return;
	}
	p->upload_id = talloc_strdup(p, r->upload_id);
	if (p->begun != NULL && r->more_begun) {
		begun_stray(p->begun);
	}
	if (p->begun != NULL) {
		begun_id(p->begun, r->upload_id);
	}
	objstore_req_free(&req);
	if (p->upload_id == NULL) {
		pass_end(p, OBJ_LOCAL, "out of memory", NULL);
		return;
	}
	p->fd = openat(p->v->path_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (p->fd < 0) {
		pass_fail(p, OBJ_LOCAL, strerror(errno));
		return;
	}
	p->next = 1;
	p->etags = talloc_zero_array(p, char *, p->count);
	p->sums = talloc_zero_array(p, char *, p->count);
	if (p->etags == NULL || p->sums == NULL) {
		pass_fail(p, OBJ_LOCAL, "out of memory");
		return;
	}
	for (i = 0; i < PASS_AT_ONCE; i++) {
		p->slots[i].p = p;
		p->slots[i].at = i * p->part_bytes;
	}
	pass_more(p);
}

static void pass_create(void *arg)
{
	struct pass *p = arg;
	struct obj_req *req = p->create;

	p->create = NULL;
	objstore_submit(p->v->store, req);
}

/* Nobody will go on with it, but it will be ended. */
static void pass_begin(struct pass *p, struct obj_req *create)
{
	static const struct ofs_oid nobody;
	int64_t size = p->head->result.size;
	struct blocks *blocks;

	p->create = create;
	p->part_bytes = upload_part_bytes(p->v->conf, size);
	p->count = (int)((size + p->part_bytes - 1) / p->part_bytes);
	blocks = blocks_new(size, p->part_bytes);
	p->begun = blocks != NULL ? begun_new(p->v, &nobody, p->to, blocks, NULL, 0) : NULL;
	blocks_free(&blocks);
	if (p->begun != NULL) {
		begun_keep(p->begun, pass_create, p);
	} else {
		pass_create(p);
	}
}

/* false: it does not fit, or cannot be sent. */
static bool pass_fits(const struct pass *p, const struct obj_req *req, const char *name, const char *value)
{
	size_t bytes = strlen(name) + strlen(value) + (trust_is_signed(p->v->store) ? TRUST_META_BYTES : 0);

	for (unsigned i = 0; i < req->meta_count; i++) {
		bytes += strlen(req->meta[i].name) + strlen(req->meta[i].value);
	}
	return bytes <= OBJ_META_MAX_BYTES && objstore_meta_refusal(name, value) == NULL;
}

/* The write id says as well whose copy it is: of an object of ours the note leaves if there is no room. */
static int pass_describe(struct pass *p, struct obj_req *req, const struct kept *own, const char **why)
{
	const struct obj_result *r = &p->head->result;
	bool ours = objstore_meta_get(r, "objectfs") != NULL;
	int rc = 0;

	*why = NULL;
	p->put = own != NULL ? own : p->kept;
	for (unsigned i = 0; rc == 0 && i < r->meta_count; i++) {
		const struct obj_meta *m = &r->meta[i];

		if (!foreign_meta(m->name) && strcmp(m->name, COPY_OF_META) != 0 &&
				strcmp(m->name, TRUST_PROOF_NAME) != 0 && pass_fits(p, req, m->name, m->value)) {
			rc = objstore_req_meta(req, m->name, m->value);
		}
	}
	if (rc == 0 && !ours) {
		rc = objstore_req_meta(req, COPY_OF_META, r->etag);
	}
	if (rc == 0) {
		rc = kept_put(p->put, req, why);
	}
	if (rc == 0 && ours && pass_fits(p, req, COPY_OF_META, r->etag)) {
		rc = objstore_req_meta(req, COPY_OF_META, r->etag);
	}
	return rc;
}

/* ---- a small one: read, and put with the condition ---- */

static void pass_whole_put(struct obj_req *req)
{
	struct pass *p = req->arg;
	struct obj_result *r = &req->result;

	pass_end(p, r->status == OBJ_OK && r->etag == NULL ? OBJ_UNKNOWN : r->status, r->message, r->etag);
	objstore_req_free(&req);
}

static void pass_whole_send(struct pass *p)
{
	p->whole->prio = OBJ_PRIO_UPLOAD;
	objstore_submit(p->v->store, p->whole);
	p->whole = NULL;
}

static void pass_whole_got(struct obj_req *req)
{
	struct pass *p = req->arg;
	struct obj_result *r = &req->result;

	if (r->status != OBJ_OK) {
		pass_end(p, r->status == OBJ_PRECONDITION ? OBJ_CONFLICT : r->status, r->message, NULL);
	} else {
		p->whole->body = r->body;
		p->whole->length = (int64_t)r->body_len;
		r->body = NULL;
		pass_whole_send(p);
	}
	objstore_req_free(&req);
}

/* put: with all but its body. */
static void pass_whole(struct pass *p, struct obj_req *put)
{
	struct obj_req *get = NULL;

	p->whole = put;
	put->if_none_match = p->expect == NULL;
	put->if_match = p->expect != NULL ? strdup(p->expect) : NULL;
	if (p->head->result.size > 0) {
		get = pass_req(p, OBJ_GET, p->from, pass_whole_got, p);
	}
	if ((p->expect != NULL && put->if_match == NULL) || (p->head->result.size > 0 && (get == NULL ||
			(get->if_match = strdup(p->head->result.etag)) == NULL))) {
		objstore_req_free(&get);
		pass_end(p, OBJ_LOCAL, "out of memory", NULL);
	} else if (get != NULL) {
		get->length = -1;
		objstore_submit(p->v->store, get);
	} else {
		pass_whole_send(p);
	}
}

/* ---- the way it goes ---- */

static void pass_kept(enum obj_status st, const char *message, struct kept *own, void *arg)
{
	struct pass *p = arg;
	bool small = p->head->result.size <= PASS_WHOLE_BYTES;
	struct obj_req *req = st != OBJ_OK ? NULL
			: small ? pass_req(p, OBJ_PUT, p->to, pass_whole_put, p)
				: pass_req(p, OBJ_MPU_CREATE, p->to, pass_created, p);
	const char *why = NULL;
	int rc = req == NULL ? -ENOMEM : pass_describe(p, req, own, &why);

	if (st != OBJ_OK || rc != 0) {
		objstore_req_free(&req);
		pass_end(p, st != OBJ_OK ? st : rc == -EPERM ? OBJ_INVALID : OBJ_LOCAL,
				st != OBJ_OK ? message : why != NULL ? why : "out of memory", NULL);
		return;
	}
	log_info("reconcile", "%s is not copied by the store: it goes to %s through this machine", p->from,
			p->to);
	if (small) {
		pass_whole(p, req);
	} else {
		pass_begin(p, req);
	}
}

void pass_object(struct volume *v, struct obj_req *head, const char *to, const char *expect,
		const struct kept *kept, copy_done_fn done, void *arg)
{
	struct pass *p = talloc_zero(v, struct pass);

	if (p == NULL) {
		objstore_req_free(&head);
		done(OBJ_LOCAL, "out of memory", NULL, arg);
		return;
	}
	p->fd = -1;
	p->v = v;
	p->head = head;
	p->kept = kept;
	p->done = done;
	p->arg = arg;
	talloc_set_destructor(p, pass_destructor);
	p->from = talloc_strdup(p, head->key);
	p->to = talloc_strdup(p, to);
	p->expect = expect ? talloc_strdup(p, expect) : NULL;
	if (p->from == NULL || p->to == NULL || (expect != NULL && p->expect == NULL)) {
		pass_end(p, OBJ_LOCAL, "out of memory", NULL);
		return;
	}
	kept_of(p, v, head, pass_kept, p);
}
