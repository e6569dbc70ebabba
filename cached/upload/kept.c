/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: carry what others set on an object over to the object that replaces it.
 * Way: reconcile asks before it overwrites; upload.c and reconcile/fenced.c put it into their requests.
 * Thread: core.
 * Owns: copies of what a HEAD said, and the tags.
 * Holds:
 *  1. our own metadata comes first; what of the others' does not fit is told, never cut;
 *  2. what is lost is logged and counted, or nothing is sent: as `foreign properties` says;
 *  3. tags that are there and may not be read are not taken for none.
 */
#include "kept.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../base/log.h"
#include "../base/stats.h"
#include "../core/trust.h"
#include "../core/volume.h"
#include "../mirror/foreign.h"

struct kept {
	struct volume *v;
	char *props[OBJ_PROP_MAX];
	struct obj_meta *meta;
	unsigned meta_count;
	const char *unread; /* why the tags are not known */
	kept_fn done;
	void *arg;
};

static void kept_take(struct kept *k, const struct obj_result *r)
{
	k->meta = talloc_zero_array(k, struct obj_meta, r->meta_count + 1);
	for (unsigned i = 0; i < OBJ_PROP_MAX; i++) {
		const char *value = foreign_prop(r, i);

		k->props[i] = value != NULL ? talloc_strdup(k, value) : NULL;
	}
	for (unsigned i = 0; i < r->meta_count; i++) {
		struct obj_meta *m = &k->meta[k->meta_count];

		if (!foreign_meta(r->meta[i].name)) {
			continue;
		}
		m->name = talloc_strdup(k, r->meta[i].name);
		m->value = talloc_strdup(k, r->meta[i].value);
		k->meta_count++;
	}
}

static void kept_end(struct kept *k, enum obj_status st, const char *message)
{
	if (st == OBJ_OK) {
		k->done(OBJ_OK, NULL, k, k->arg);
		return;
	}
	talloc_steal(k->v, k); /* `done` may end its ctx */
	k->done(st, message, NULL, k->arg);
	talloc_free(k);
}

static void kept_tags(struct obj_req *req)
{
	struct kept *k = req->arg;
	struct obj_result *r = &req->result;
	bool never = r->status == OBJ_DENIED || r->status == OBJ_INVALID;

	if (r->status == OBJ_OK) {
		k->props[OBJ_PROP_tags] = r->tags[0] != '\0' ? talloc_strdup(k, r->tags) : NULL;
		kept_end(k, OBJ_OK, NULL);
	} else if (never && k->v->conf->foreign_properties == CONF_FOREIGN_LOG) {
		k->unread = "they cannot be read";
		kept_end(k, OBJ_OK, NULL);
	} else {
		kept_end(k, r->status == OBJ_NOT_FOUND ? OBJ_CONFLICT : r->status, r->message);
	}
	objstore_req_free(&req);
}

void kept_of(TALLOC_CTX *ctx, struct volume *v, const struct obj_req *head, kept_fn done, void *arg)
{
	struct kept *k = NULL;
	struct obj_req *req;

	if (foreign_none(&head->result)) {
		done(OBJ_OK, NULL, NULL, arg);
		return;
	}
	k = talloc_zero(ctx, struct kept);
	kept_take(k, &head->result);
	k->v = v;
	k->done = done;
	k->arg = arg;
	if (head->result.tag_count == 0) {
		kept_end(k, OBJ_OK, NULL);
		return;
	}
	req = objstore_req_new(OBJ_TAGS, head->key);
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = kept_tags;
	req->arg = k;
	objstore_submit(v->store, req);
}

struct asking {
	TALLOC_CTX *ctx;
	struct volume *v;
	char *etag;
	kept_fn done;
	void *arg;
};

static void kept_seen(struct obj_req *req)
{
	struct asking *q = req->arg;
	const struct obj_result *r = &req->result;

	if (r->status == OBJ_OK && r->etag != NULL && strcmp(r->etag, q->etag) == 0) {
		kept_of(q->ctx, q->v, req, q->done, q->arg);
	} else if (r->status == OBJ_OK || r->status == OBJ_NOT_FOUND) {
		q->done(OBJ_OK, NULL, NULL, q->arg); /* the condition will tell */
	} else {
		q->done(r->status, r->message, NULL, q->arg);
	}
	talloc_free(q);
	objstore_req_free(&req);
}

void kept_ask(TALLOC_CTX *ctx, struct volume *v, const char *key, const char *etag, kept_fn done,
		void *arg)
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, key);
	struct asking *q = talloc_zero(v, struct asking);

	q->etag = talloc_strdup(q, etag);
	q->ctx = ctx;
	q->v = v;
	q->done = done;
	q->arg = arg;
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = kept_seen;
	req->arg = q;
	objstore_submit(v->store, req);
}

size_t kept_meta_bytes(const struct kept *k)
{
	size_t bytes = 0;

	for (unsigned i = 0; k != NULL && i < k->meta_count; i++) {
		bytes += strlen(k->meta[i].name) + strlen(k->meta[i].value);
	}
	return bytes;
}

static void lose(char **lost, const char *what, const char *why)
{
	*lost = talloc_asprintf_append(*lost, "%s%s (%s)", (*lost)[0] != '\0' ? ", " : "", what, why);
}

static void put_meta(const struct kept *k, struct obj_req *req, char **lost)
{
	size_t bytes = trust_is_signed(k->v->store) ? TRUST_META_BYTES : 0;

	for (unsigned i = 0; i < req->meta_count; i++) {
		bytes += strlen(req->meta[i].name) + strlen(req->meta[i].value);
	}
	for (unsigned i = 0; i < k->meta_count; i++) {
		const struct obj_meta *m = &k->meta[i];
		const char *why = objstore_meta_refusal(m->name, m->value);
		size_t more = strlen(m->name) + strlen(m->value);

		if (why == NULL && bytes + more > OBJ_META_MAX_BYTES) {
			why = "no room: S3 takes 2,048 bytes of user metadata";
		}
		if (why != NULL) {
			lose(lost, m->name, why);
		} else {
			objstore_req_meta(req, m->name, m->value);
			bytes += more;
		}
	}
}

int kept_put(const struct kept *k, struct obj_req *req, const char **why)
{
	char *lost;

	*why = NULL;
	if (k == NULL) {
		return 0;
	}
	lost = talloc_strdup(k, "");
	put_meta(k, req, &lost);
	for (unsigned i = 0; i < OBJ_PROP_MAX; i++) {
		const char *refusal = k->props[i] ? objstore_prop_refusal(i, k->props[i]) : NULL;

		if (k->props[i] == NULL || req->props[i] != NULL) {
			continue;
		}
		if (refusal != NULL) {
			lose(&lost, objstore_prop_name(i), refusal);
		} else {
			req->props[i] = strdup(k->props[i]);
		}
	}
	if (k->unread != NULL) {
		lose(&lost, "its tags", k->unread);
	}
	if (lost[0] != '\0') {
		if (k->v->conf->foreign_properties == CONF_FOREIGN_REFUSE) {
			*why = talloc_asprintf(k, "another tool has set what cannot be kept: %s", lost);
			return -EPERM;
		}
		stats_add(properties_lost, 1);
		log_notice("upload", "%s: another tool had set what is not kept: %s", req->key, lost);
	}
	talloc_free(lost);
	return 0;
}

int kept_copy(struct obj_req *req, const struct obj_result *source, const struct objmeta *meta)
{
	/* Its proof is of the old key: the same metadata are put on once more. */
	bool proven = meta == NULL && source->proof == OBJ_PROOF_GOOD;
	unsigned from = meta != NULL || proven ? 0 : OBJ_PROP_storage_class; /* a copy has those before it by itself */
	unsigned end = meta != NULL ? OBJ_PROP_storage_class : OBJ_PROP_tags;
	int ret = meta != NULL ? objmeta_put(req, meta) : 0;

	req->replace_meta = meta != NULL || proven;
	for (unsigned i = 0; proven && i < source->meta_count; i++) {
		objstore_req_meta(req, source->meta[i].name, source->meta[i].value);
	}
	for (unsigned i = from; i < end; i++) {
		const char *value = foreign_prop(source, i);

		req->props[i] = value != NULL ? strdup(value) : NULL;
	}
	return ret;
}

bool kept_is_encrypted(const struct kept *k)
{
	return k != NULL && k->props[OBJ_PROP_sse] != NULL;
}

bool kept_has_tags(const struct kept *k)
{
	return k != NULL && k->props[OBJ_PROP_tags] != NULL;
}

struct check {
	char *key, *tags;
	unsigned count;
	struct volume *v;
	void (*done)(void *arg);
	void *arg;
};

static void check_end(struct check *c)
{
	c->done(c->arg);
	talloc_free(c);
}

static void check_submit(struct check *c, enum obj_op op, void (*done)(struct obj_req *))
{
	struct obj_req *req = objstore_req_new(op, c->key);

	req->tags = op == OBJ_SET_TAGS ? strdup(c->tags) : NULL;
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = done;
	req->arg = c;
	objstore_submit(c->v->store, req);
}

static void check_set(struct obj_req *req)
{
	struct check *c = req->arg;

	if (req->result.status != OBJ_OK) {
		stats_add(properties_lost, 1);
		log_notice("upload", "%s: its tags are not kept: %s", c->key,
				req->result.message != NULL ? req->result.message : "");
	}
	objstore_req_free(&req);
	check_end(c);
}

static void check_seen(struct obj_req *req)
{
	struct check *c = req->arg;
	bool there = req->result.status == OBJ_OK && req->result.tag_count == c->count;

	objstore_req_free(&req);
	if (there) {
		check_end(c);
	} else {
		check_submit(c, OBJ_SET_TAGS, check_set);
	}
}

void kept_check(const struct kept *k, const char *key, void (*done)(void *arg), void *arg)
{
	struct check *c = talloc_zero(k->v, struct check);
	const char *tags = k->props[OBJ_PROP_tags];

	c->key = talloc_strdup(c, key);
	c->tags = talloc_strdup(c, tags);
	for (c->count = 1; (tags = strchr(tags, '&')) != NULL; tags++) {
		c->count++;
	}
	c->v = k->v;
	c->done = done;
	c->arg = arg;
	check_submit(c, OBJ_TAGS, check_seen);
}
