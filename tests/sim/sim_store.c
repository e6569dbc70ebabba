/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the simulated object store: a sorted list of objects, and of versions where it keeps them.
 * Way: the core submits; an event of sim.c's serves the request. Thread: one.
 * Owns: objects and versions, which outlive every daemon.
 * Holds: a condition is honoured by its class alone; what is not honoured is ignored, as real stores do.
 */
#include "sim_priv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <openssl/evp.h>
#include "cached/base/log.h"
#include "cached/objstore/impl.h"

#define SLOW_NS (120 * NS_PER_S)
#define VERSIONS_PAGE 3u

void sim_slow_delete(struct sim *s, const char *key)
{
	s->slow_key = key;
}

struct sim_version {
	struct sim_version *next;
	struct sim_object o; /* no content: a delete's marker */
	char id[17];
	int64_t mtime_ns;
};

static struct sim_object **object_find(struct sim *s, const char *key)
{
	struct sim_object **pp = &s->objects;

	while (*pp != NULL && strcmp((*pp)->key, key) < 0) {
		pp = &(*pp)->next;
	}
	return pp;
}

static struct sim_object *object_get(struct sim *s, const char *key)
{
	struct sim_object *o = *object_find(s, key);

	return o != NULL && strcmp(o->key, key) == 0 ? o : NULL;
}

static void object_free_content(struct sim_object *o)
{
	unsigned i;

	for (i = 0; i < o->meta_count; i++) {
		free(o->meta[i].name);
		free(o->meta[i].value);
	}
	free(o->meta);
	free(o->data);
	free(o->etag);
}

/* ---- who looks on ---- */

static bool is_watched(const char *key)
{
	return strncmp(key, "p/.objectfs/", 12) != 0 || strncmp(key, "p/.objectfs/stage/", 18) == 0;
}

static void watch_covers(struct sim *s, const struct obj_req *q)
{
	const struct sim_object *o = object_get(s, q->key);

	if (s->watch != NULL && s->watch->covers != NULL && o != NULL && is_watched(q->key)) {
		s->watch->covers(s->watch->arg, o, q);
	}
}

static void object_delete(struct sim *s, const char *key)
{
	struct sim_object **pp = object_find(s, key), *o = *pp;

	if (o != NULL && strcmp(o->key, key) == 0) {
		*pp = o->next;
		object_free_content(o);
		free(o->key);
		free(o);
	}
}

static char *object_etag(const uint8_t *data, size_t len)
{
	unsigned char md[16];
	char *hex = calloc(1, 33);
	unsigned i;

	EVP_Digest(data, len, md, NULL, EVP_md5(), NULL);
	for (i = 0; i < 16; i++) {
		snprintf(hex + 2 * i, 3, "%02x", md[i]);
	}
	return hex;
}

static void content_set(struct sim_object *o, uint8_t *data, size_t len, const struct obj_meta *meta,
		unsigned meta_count, const char *etag)
{
	o->data = data;
	o->len = len;
	o->etag = etag != NULL ? strdup(etag) : object_etag(data, len);
	o->meta = calloc(meta_count + 1, sizeof(*o->meta));
	o->meta_count = meta_count;
	for (unsigned i = 0; i < meta_count; i++) {
		o->meta[i].name = strdup(meta[i].name);
		o->meta[i].value = strdup(meta[i].value);
	}
}

/* What is at the key now becomes its newest version; nothing is: a marker. */
static void version_add(struct sim *s, const char *key)
{
	struct sim_object *o = object_get(s, key);
	struct sim_version *v;
	uint8_t *data;

	if (s->fence_class != 1) {
		return;
	}
	v = calloc(1, sizeof(*v));
	v->o.key = strdup(key);
	v->mtime_ns = sim_store_ns(s);
	snprintf(v->id, sizeof(v->id), "v%u", ++s->etag_count);
	if (o != NULL) {
		data = calloc(1, o->len + 1);
		memcpy(data, o->data, o->len);
		content_set(&v->o, data, o->len, o->meta, o->meta_count, o->etag);
	}
	v->next = s->versions;
	s->versions = v;
}

static struct sim_version *version_get(struct sim *s, const char *key, const char *id)
{
	struct sim_version *v = s->versions;

	while (v != NULL && (strcmp(v->o.key, key) != 0 || (id != NULL && strcmp(v->id, id) != 0))) {
		v = v->next;
	}
	return v;
}

struct sim_object *sim_object_at(struct sim *s, const char *key, const char *id)
{
	struct sim_version *v = id != NULL ? version_get(s, key, id) : NULL;

	if (id == NULL) {
		return object_get(s, key);
	}
	return v != NULL && v->o.etag != NULL ? &v->o : NULL;
}

static void result_version(struct sim *s, struct obj_req *q, const char *id)
{
	struct sim_version *v = s->fence_class == 1 ? version_get(s, q->key, id) : NULL;

	q->result.version_id = v != NULL ? strdup(v->id) : NULL;
}

static void do_versions(struct sim *s, struct obj_req *q)
{
	struct sim_version *v;
	unsigned capacity = 0;
	bool begun = q->token == NULL;

	for (v = s->versions; v != NULL; v = v->next) {
		struct obj_entry *e;

		if (strcmp(v->o.key, q->key) != 0) {
			continue;
		}
		if (!begun) {
			begun = strcmp(v->id, q->token) == 0;
			continue;
		}
		if (q->result.entry_count == VERSIONS_PAGE) {
			q->result.next_token = strdup(q->result.entries[VERSIONS_PAGE - 1].version_id);
			return;
		}
		e = obj_result_entry_add(&q->result, &capacity);
		e->key = strdup(v->o.key);
		e->version_id = strdup(v->id);
		e->is_marker = v->o.etag == NULL;
		e->etag = e->is_marker ? NULL : strdup(v->o.etag);
		e->size = (int64_t)v->o.len;
		e->mtime_ns = v->mtime_ns;
	}
}

/* etag NULL: the MD5 of its bytes. */
static void object_put(struct sim *s, const char *key, uint8_t *data, size_t len,
		const struct obj_meta *meta, unsigned meta_count, const char *etag, bool foreign)
{
	struct sim_object **pp = object_find(s, key), *o = *pp, was;

	if (o == NULL || strcmp(o->key, key) != 0) {
		o = calloc(1, sizeof(*o));
		o->key = strdup(key);
		o->next = *pp;
		*pp = o;
	}
	was = *o;
	o->mtime_ns = sim_store_ns(s);
	o->archived = false;
	o->foreign = foreign;
	content_set(o, data, len, meta, meta_count, etag); /* which may be its own metadata */
	object_free_content(&was);
	version_add(s, key);
	if (s->watch != NULL && s->watch->put != NULL && is_watched(key)) {
		s->watch->put(s->watch->arg, o);
	}
}

int64_t sim_listed_ns(const struct sim_object *o)
{
	return o->mtime_ns - o->mtime_ns % NS_PER_MS;
}

static void result_object(struct obj_result *r, const struct sim_object *o, bool meta)
{
	unsigned i;

	r->etag = strdup(o->etag);
	r->size = (int64_t)o->len;
	r->mtime_ns = o->mtime_ns - o->mtime_ns % NS_PER_S;
	if (!meta) {
		return;
	}
	r->meta = calloc(o->meta_count + 1, sizeof(*r->meta));
	for (i = 0; i < o->meta_count; i++) {
		r->meta[i].name = strdup(o->meta[i].name);
		r->meta[i].value = strdup(o->meta[i].value);
	}
	r->meta_count = o->meta_count;
}

bool sim_condition_fails(struct sim *s, struct obj_req *q)
{
	const struct sim_object *o = object_get(s, q->key);

	if (s->fence_class < (q->op == OBJ_PUT ? 2 : 3)) {
		return false; /* it takes no notice of conditions on these */
	}
	if (q->if_none_match && o != NULL) {
		q->result.status = OBJ_PRECONDITION;
		return true;
	}
	if (q->if_match != NULL && o == NULL) {
		q->result.status = OBJ_NOT_FOUND;
		return true;
	}
	if (q->if_match != NULL && strcmp(q->if_match, o->etag) != 0) {
		q->result.status = OBJ_PRECONDITION;
		return true;
	}
	return false;
}

uint8_t *sim_body(struct obj_req *q)
{
	uint8_t *data = calloc(1, q->length + 1);

	if (q->fd < 0 && q->length > 0) {
		memcpy(data, q->body, q->length);
	} else if (q->fd >= 0 && pread(q->fd, data, q->length, q->offset) != q->length) {
		q->result.status = OBJ_LOCAL;
	}
	if (q->result.status == OBJ_OK && q->still_valid != NULL && !q->still_valid(q->still_valid_arg)) {
		q->result.status = OBJ_CANCELLED;
	}
	if (q->result.status != OBJ_OK) {
		free(data);
		return NULL;
	}
	return data;
}

void sim_stores(struct sim *s, struct obj_req *q, uint8_t *data, size_t len, const struct obj_req *about,
		const char *etag)
{
	watch_covers(s, q);
	object_put(s, q->key, data, len, about->meta, about->meta_count, etag, false);
	result_object(&q->result, object_get(s, q->key), false);
	result_version(s, q, NULL);
}

static void do_put(struct sim *s, struct obj_req *q)
{
	uint8_t *data = sim_condition_fails(s, q) ? NULL : sim_body(q);

	if (data != NULL) {
		EVP_Digest(data, q->length, q->result.sha256, NULL, EVP_sha256(), NULL);
		sim_stores(s, q, data, q->length, q, NULL);
	}
}

static void do_copy(struct sim *s, struct obj_req *q)
{
	struct sim_object *o = sim_object_at(s, q->source_key, q->source_version_id);
	uint8_t *data;

	if (o == NULL) {
		q->result.status = OBJ_NOT_FOUND;
		return;
	}
	if (s->fence_class == 3 && q->source_if_match != NULL && strcmp(q->source_if_match, o->etag) != 0) {
		q->result.status = OBJ_PRECONDITION;
		return;
	}
	if (sim_condition_fails(s, q)) {
		return;
	}
	if (o->archived) {
		q->result.status = OBJ_ARCHIVED;
		return;
	}
	data = calloc(1, o->len + 1);
	memcpy(data, o->data, o->len);
	watch_covers(s, q);
	object_put(s, q->key, data, o->len, q->replace_meta ? q->meta : o->meta,
			q->replace_meta ? q->meta_count : o->meta_count, NULL, false);
	result_object(&q->result, object_get(s, q->key), false);
}

static void do_list(struct sim *s, struct obj_req *q)
{
	struct obj_result *r = &q->result;
	size_t plen = strlen(q->key);
	unsigned max = q->max_keys > 0 ? (unsigned)q->max_keys : 1000;
	struct sim_object *o;

	r->entries = calloc(max + 1, sizeof(*r->entries));
	for (o = s->objects; o != NULL; o = o->next) {
		struct obj_entry *e = &r->entries[r->entry_count];
		const char *cut = NULL;
		char *name;

		if (strncmp(o->key, q->key, plen) != 0) {
			continue;
		}
		if (q->delimiter) {
			cut = strchr(o->key + plen, q->delimiter);
		}
		name = cut != NULL ? strndup(o->key, cut - o->key + 1) : strdup(o->key);
		if ((q->token != NULL && strcmp(name, q->token) <= 0) ||
				(q->after != NULL && strcmp(name, q->after) <= 0) ||
				(r->entry_count > 0 && strcmp(e[-1].key, name) == 0)) {
			free(name);
			continue;
		}
		if (r->entry_count == max) {
			r->next_token = strdup(e[-1].key);
			free(name);
			break;
		}
		e->key = name;
		e->is_prefix = cut != NULL;
		e->size = cut != NULL ? 0 : (int64_t)o->len;
		e->mtime_ns = cut != NULL ? 0 : sim_listed_ns(o);
		e->etag = cut != NULL ? NULL : strdup(o->etag);
		r->entry_count++;
	}
}

static void do_get(struct sim *s, struct obj_req *q)
{
	struct sim_object *o = sim_object_at(s, q->key, q->version_id);
	size_t off = q->op == OBJ_GET ? (size_t)q->offset : 0, len;

	if (o == NULL) {
		q->result.status = OBJ_NOT_FOUND;
		return;
	}
	if (q->if_match != NULL && strcmp(q->if_match, o->etag) != 0) {
		q->result.status = OBJ_PRECONDITION;
		return;
	}
	if (q->op == OBJ_GET && o->archived) {
		q->result.status = OBJ_ARCHIVED;
		return;
	}
	result_object(&q->result, o, true);
	result_version(s, q, q->version_id);
	if (q->op == OBJ_HEAD) {
		return;
	}
	off = off > o->len ? o->len : off;
	len = o->len - off;
	if (q->length >= 0 && (size_t)q->length < len) {
		len = q->length;
	}
	q->result.size = (int64_t)len;
	if (q->sink_fd >= 0) {
		if (pwrite(q->sink_fd, o->data + off, len, q->sink_offset) != (ssize_t)len) {
			q->result.status = OBJ_LOCAL;
		}
		return;
	}
	q->result.body = calloc(1, len + 1);
	memcpy(q->result.body, o->data + off, len);
	q->result.body_len = len;
}

static void request_serve(struct sim *s, struct obj_req *q)
{
	bool mutation = q->op == OBJ_PUT || q->op == OBJ_COPY || q->op == OBJ_DELETE || q->op == OBJ_MPU_COMPLETE;

	if (atomic_load(&q->cancelled)) {
		q->result.status = OBJ_CANCELLED;
		return;
	}
	if (sim_random(s, 1000) < s->faults.away) {
		q->result.status = OBJ_AWAY;
		q->result.message = strdup("simulated: away");
		return;
	}
	if (mutation && (q->if_none_match || q->if_match != NULL) && s->faults.conflict > 0 &&
			sim_random(s, 1000) < s->faults.conflict) {
		q->result.status = OBJ_CONFLICT;
		q->result.message = strdup("simulated: somebody writes at the same time");
		return;
	}
	if (sim_parts_serve(s, q)) {
		return;
	}
	switch (q->op) {
	case OBJ_PUT:
		do_put(s, q);
		break;
	case OBJ_COPY:
		do_copy(s, q);
		break;
	case OBJ_DELETE:
		if (!sim_condition_fails(s, q)) {
			watch_covers(s, q);
			object_delete(s, q->key);
			version_add(s, q->key);
			result_version(s, q, NULL);
		}
		break;
	case OBJ_VERSIONS:
		do_versions(s, q);
		break;
	case OBJ_LIST:
		do_list(s, q);
		break;
	case OBJ_HEAD:
	case OBJ_GET:
		do_get(s, q);
		break;
	case OBJ_VERSIONING:
		q->result.versioned = s->fence_class == 1;
		break;
	default:
		q->result.status = OBJ_INVALID;
		break;
	}
	if (mutation && q->result.status == OBJ_OK && sim_random(s, 1000) < s->faults.lost_answer) {
		q->result.status = OBJ_UNKNOWN;
		free(q->result.etag);
		free(q->result.version_id);
		q->result.etag = q->result.version_id = NULL;
	}
}

void sim_request_run(struct sim *s, struct obj_req *q)
{
	int what[2];

	if (s->watch != NULL && s->watch->before != NULL) {
		s->watch->before(s->watch->arg, q);
	}
	if (s->border == NULL || s->border->request == NULL || !s->border->request(s->border->arg, q, false)) {
		request_serve(s, q);
	}
	if (s->border != NULL && s->border->request != NULL) {
		(void)s->border->request(s->border->arg, q, true);
	}
	what[0] = (int)q->op;
	what[1] = (int)q->result.status;
	sim_trace_bytes(s, what, sizeof(what));
	sim_note(s, "request", q->key);
	log_debug("store", "%s %s%s%s: %s", objstore_op_name(q->op), q->key,
			q->source_key ? " from " : "", q->source_key ? q->source_key : "",
			objstore_status_name(q->result.status));
}

static void sim_submit(struct objstore *st, struct obj_req *req)
{
	struct sim *s = ((struct sim_store *)st)->sim;
	int64_t at = s->now_ns + NS_PER_MS + (int64_t)sim_random(s, 50 * NS_PER_MS);
	int was = sim_leave(s);

	s->requests[req->op]++;
	if (req->op == OBJ_DELETE && s->slow_key != NULL && strcmp(req->key, s->slow_key) == 0) {
		at += SLOW_NS;
	}
	sim_event_add(s, at, EVENT_REQUEST)->req = req;
	sim_back(s, was);
}

static const struct objstore_ops store_ops = {.name = "sim", .submit = sim_submit};

struct objstore *sim_store(struct sim *s, TALLOC_CTX *ctx)
{
	struct sim_store *st = talloc_zero(ctx, struct sim_store);

	st->sim = s;
	s->store = &st->store;
	st->store.ops = &store_ops;
	st->store.where = talloc_strdup(st, "simulated");
	st->store.caps = (struct obj_caps){.fence_class = s->fence_class};
	st->store.probe_count = 1;
	st->store.caps.versioned = st->store.caps.lists_versions = s->fence_class == 1;
	if (s->fence_class >= 2) {
		st->store.caps.put_if_match = st->store.caps.put_if_none_match = true;
	}
	if (s->fence_class == 3) {
		st->store.caps.complete_if_match = st->store.caps.complete_if_none_match = true;
		st->store.caps.copy_if_match_source = st->store.caps.copy_if_none_match_dest = true;
		st->store.caps.delete_if_match = true;
	}
	if (s->in_parts) {
		st->store.put_max_bytes = st->store.parts_above_bytes = SIM_PART_MIN_BYTES;
		st->store.caps.part_copy_if_match = s->fence_class == 3;
		st->store.caps.part_copy_version = s->fence_class == 1;
	}
	return &st->store;
}

void sim_set_parts(struct sim *s)
{
	s->in_parts = true;
}

void sim_set_fence(struct sim *s, int fence_class)
{
	s->fence_class = fence_class;
}

struct sim_object *sim_object(struct sim *s, const char *key)
{
	return object_get(s, key);
}

bool sim_object_is(const struct sim_object *o, const char *text)
{
	return o != NULL && o->len == strlen(text) && memcmp(o->data, text, o->len) == 0;
}

void sim_put_with(struct sim *s, const char *key, const char *text, const struct obj_meta *meta, unsigned count)
{
	object_put(s, key, (uint8_t *)strdup(text), strlen(text), meta, count, NULL, true);
}

void sim_put(struct sim *s, const char *key, const char *text)
{
	sim_put_with(s, key, text, NULL, 0);
}

void sim_edit(struct sim *s, const char *key, const char *text, bool keeps)
{
	const struct sim_object *o = keeps ? object_get(s, key) : NULL;

	sim_put_with(s, key, text, o != NULL ? o->meta : NULL, o != NULL ? o->meta_count : 0);
}

void sim_remove(struct sim *s, const char *key)
{
	if (object_get(s, key) != NULL) {
		char *gone = strdup(key); /* which may be the object's own */

		object_delete(s, gone);
		version_add(s, gone);
		free(gone);
	}
}

void sim_set_watch(struct sim *s, const struct sim_watch *watch)
{
	s->watch = watch;
}

struct sim_object *sim_objects(struct sim *s)
{
	return s->objects;
}

void sim_objects_free(struct sim *s)
{
	sim_uploads_end(s);
	while (s->objects != NULL) {
		object_delete(s, s->objects->key);
	}
	while (s->versions != NULL) {
		struct sim_version *v = s->versions;

		s->versions = v->next;
		object_free_content(&v->o);
		free(v->o.key);
		free(v);
	}
}
