/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: which rights the store has refused of late, each with one sentence: what is missing, what is
 * lost without it, where it is granted.
 * Way: objstore.c, before the answer's `done` -> here; admin asks with objstore_denied.
 * Thread: core; obj_right_needed any.
 * Owns: the list of stores that are there; the sentences lie in the stores.
 * Holds: 1. A refusal counts until the same kind of request is let through, or for an hour: nobody
 *           may ever ask for that again.
 *        2. Without s3:ListBucket what does not exist is refused like what may not be read, and a copy
 *           may fail for reading or writing. So a first refused read is followed by a listing of its
 *           key, a first refused copy by a HEAD of its source; only the answers tell what is missing.
 *        3. An answer may be opened when its store has gone: only stores in the list are touched.
 */
#include "impl.h"
#include "../base/log.h"
#include "../base/stats.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DENIAL_NS (3600 * 1000000000LL)
#define MISSING "%s is missing: %s; grant it (IAM.md)"

static const struct right {
	const char *name, *without;
	const char *unsure; /* what a single refusal may lack; NULL: the name */
} rights[OBJ_WANTS] = {
	[OBJ_WANT_LIST] = { "s3:ListBucket", "nothing is listed, and nothing is taken for absent", NULL },
	[OBJ_WANT_READ] = { "s3:GetObject", "what is only in S3 cannot be read",
		"s3:GetObject (or s3:ListBucket, if there is no such object)" },
	[OBJ_WANT_WRITE] = { "s3:PutObject", "changes wait on this machine's disk", NULL },
	[OBJ_WANT_COPY] = { "s3:PutObject, or, as the object has tags, s3:GetObjectTagging or "
			    "s3:PutObjectTagging,", "renames wait",
		"s3:GetObject or s3:PutObject (or, if the object has tags, s3:GetObjectTagging or "
		"s3:PutObjectTagging)" },
	[OBJ_WANT_DELETE] = { "s3:DeleteObject",
		"the keys of what was deleted or renamed stay in the bucket", NULL },
	[OBJ_WANT_ABORT] = { "s3:AbortMultipartUpload",
		"parts of uploads that were given up stay in the bucket, and are paid for", NULL },
	[OBJ_WANT_UPLOADS] = { "s3:ListBucketMultipartUploads", "what is left of uploads is not found", NULL },
	[OBJ_WANT_TAGS] = { "s3:GetObjectTagging", "objects that have tags are not overwritten", NULL },
	[OBJ_WANT_VERSIONS] = { "s3:ListBucketVersions", "it is not seen whose versions lie under ours", NULL },
	[OBJ_WANT_VERSIONING] = { "s3:GetBucketVersioning", "it is not seen when versioning is switched", NULL },
	[OBJ_WANT_SET_TAGS] = { "s3:PutObjectTagging", "large objects lose their tags when they are overwritten", NULL },
};

static struct objstore *live;

struct tie { /* a talloc child of the store */
	struct objstore *s;
};

static int store_gone(struct tie *t)
{
	struct objstore **p = &live;

	while (*p != NULL && *p != t->s) {
		p = &(*p)->live_next;
	}
	if (*p != NULL) {
		*p = t->s->live_next;
	}
	return 0;
}

bool obj_store_is_live(const struct objstore *s)
{
	const struct objstore *o = live;

	while (o != NULL && o != s) {
		o = o->live_next;
	}
	return o != NULL;
}

void obj_rights_begin(struct objstore *s)
{
	struct tie *t = s->live ? NULL : talloc(s, struct tie);

	if (t == NULL) {
		return;
	}
	t->s = s;
	talloc_set_destructor(t, store_gone);
	s->live = true;
	s->live_next = live;
	live = s;
}

static enum obj_want want_of(enum obj_op op)
{
	switch (op) {
	case OBJ_HEAD:
	case OBJ_GET:
		return OBJ_WANT_READ;
	case OBJ_LIST:
		return OBJ_WANT_LIST;
	case OBJ_VERSIONS:
		return OBJ_WANT_VERSIONS;
	case OBJ_VERSIONING:
		return OBJ_WANT_VERSIONING;
	case OBJ_COPY:
	case OBJ_MPU_COPY:
		return OBJ_WANT_COPY;
	case OBJ_DELETE:
		return OBJ_WANT_DELETE;
	case OBJ_MPU_ABORT:
		return OBJ_WANT_ABORT;
	case OBJ_UPLOADS:
		return OBJ_WANT_UPLOADS;
	case OBJ_TAGS:
		return OBJ_WANT_TAGS;
	case OBJ_SET_TAGS:
		return OBJ_WANT_SET_TAGS;
	default:
		return OBJ_WANT_WRITE;
	}
}

const char *obj_right_needed(enum obj_op op)
{
	const struct right *r = &rights[want_of(op)];

	return r->unsure != NULL ? r->unsure : r->name;
}

__attribute__((format(printf, 4, 5))) static void refuse(struct objstore *s, enum obj_want want,
		uint64_t request_id, const char *fmt, ...)
{
	struct obj_denial *d = &s->denied[want];
	bool new = d->at_ns == 0;
	va_list ap;

	d->at_ns = times_now_ns();
	va_start(ap, fmt);
	vsnprintf(d->text, sizeof(d->text), fmt, ap);
	va_end(ap);
	if (new) {
		log_line(LOG_LVL_WARNING, "store", request_id, "%s", d->text);
	}
}

static void refuse_read(struct objstore *s, const struct obj_req *listing)
{
	const struct obj_result *r = &listing->result;
	bool there = r->entry_count > 0 && strcmp(r->entries[0].key, listing->key) == 0;

	refuse(s, OBJ_WANT_READ, listing->request_id, MISSING,
			there ? rights[OBJ_WANT_READ].name
			      : "s3:GetObject, or s3:ListBucket without a condition on the prefix,",
			rights[OBJ_WANT_READ].without);
}

static void asked(struct obj_req *req)
{
	struct objstore *s = req->store;

	if (obj_store_is_live(s)) {
		s->asking &= ~(1u << req->op);
		if (req->result.status == OBJ_OK && req->op == OBJ_LIST) {
			refuse_read(s, req);
		} else if (req->result.status == OBJ_OK) {
			refuse(s, OBJ_WANT_COPY, req->request_id, MISSING, rights[OBJ_WANT_COPY].name,
					rights[OBJ_WANT_COPY].without);
		}
	}
	objstore_req_free(&req);
}

/* What is it that is missing? A refusal of this question is judged by itself. */
static void ask(struct objstore *s, enum obj_op op, const char *key, uint64_t request_id)
{
	bool asks = (s->asking & (1u << op)) != 0;
	struct obj_req *req = asks ? NULL : objstore_req_new(op, key);

	if (req != NULL) {
		req->prio = OBJ_PRIO_HOUSE;
		req->request_id = request_id;
		req->max_keys = 1;
		req->done = asked;
		s->asking |= 1u << op;
		objstore_submit(s, req);
	}
}

static void refused(struct objstore *s, const struct obj_req *req, enum obj_want want)
{
	const struct obj_result *r = &req->result;
	bool said = strcmp(r->right, OBJ_RIGHT_NOT_SAID) != 0;

	for (unsigned w = 0; w < OBJ_WANTS; w++) {
		want = strcmp(r->right, rights[w].name) == 0 ? w : want;
	}
	if (r->right[0] == '\0') {
		refuse(s, want, req->request_id, "%s", r->message != NULL ? r->message : "denied");
	} else if (said) {
		refuse(s, want, req->request_id, MISSING, r->right, rights[want].without);
	} else if (s->denied[want].at_ns != 0) {
		s->denied[want].at_ns = times_now_ns();
	} else if (want == OBJ_WANT_READ) {
		ask(s, OBJ_LIST, req->key, req->request_id);
	} else if (want == OBJ_WANT_COPY) {
		ask(s, OBJ_HEAD, req->source_key, req->request_id);
	} else {
		refuse(s, want, req->request_id, MISSING, rights[want].name, rights[want].without);
	}
}

static void let_through(struct objstore *s, enum obj_want want)
{
	if (s->denied[want].at_ns != 0) {
		s->denied[want].at_ns = 0;
		log_notice("store", "no longer refused: %s", rights[want].name);
	}
}

void obj_rights_judge(const struct obj_req *req)
{
	struct objstore *s = req->store;
	enum obj_want want = want_of(req->op);

	if (!obj_store_is_live(s)) {
		return;
	}
	switch (req->result.status) {
	case OBJ_DENIED:
		if (!req->rights_told) {
			refused(s, req, want);
		}
		break;
	case OBJ_OK:
		let_through(s, want);
		if (want == OBJ_WANT_COPY) {
			let_through(s, OBJ_WANT_READ);
			let_through(s, OBJ_WANT_WRITE);
		}
		break;
	default:
		break;
	}
}

static bool stands(const struct obj_denial *d)
{
	return d->at_ns != 0 && times_now_ns() - d->at_ns < DENIAL_NS;
}

const char *objstore_denied(const struct objstore *s, enum obj_want want)
{
	const struct obj_denial *d = &s->denied[want];
	bool explained = want == OBJ_WANT_READ || want == OBJ_WANT_COPY; /* by any kind before it */

	for (unsigned w = 0; w < want; w++) {
		if (stands(&s->denied[w]) &&
				(explained || strcmp(s->denied[w].text, d->text) == 0)) {
			return NULL;
		}
	}
	return stands(d) ? d->text : NULL;
}
