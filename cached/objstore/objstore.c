/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Requests to the object store: making, checking, counting and freeing them, whichever store runs
 * them.
 *
 * Way:    core (upload, recall, mirror, reconcile) -> objstore_submit -> s3/ or dir/ -> mailbox ->
 *         the request's `done`.
 * Thread: objstore_* on the core thread; obj_* (impl.h) on any thread. Nothing here blocks.
 * Owns:   everything that hangs off a request, result included; never its descriptors.
 * Holds:  1. No key, metadata or size beyond AWS's limits reaches a store: other stores take more,
 *            and what they took could not be moved to AWS any more.
 *         2. `done` is called once per submit, never from inside it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "impl.h"
#include "../base/clock.h"
#include "../base/log.h"
#include "../base/utf8.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cached/base/stats.h"

#define PROP_MAX_BYTES 1024u
#define TAGS_MAX_BYTES 6144u /* in one header, beside 2 KiB of metadata and the rest */
#define LIST_KEYS_MAX 1000
#define TROUBLE_AGAIN_NS (60 * 1000000000LL)

static const char *const op_names[OBJ_OP_MAX] = {
	[OBJ_HEAD] = "HEAD",
	[OBJ_GET] = "GET",
	[OBJ_PUT] = "PUT",
	[OBJ_COPY] = "COPY",
	[OBJ_DELETE] = "DELETE",
	[OBJ_LIST] = "LIST",
	[OBJ_VERSIONS] = "LIST-VERSIONS",
	[OBJ_UPLOADS] = "LIST-UPLOADS",
	[OBJ_VERSIONING] = "GET-VERSIONING",
	[OBJ_MPU_CREATE] = "CREATE-MULTIPART",
	[OBJ_MPU_PART] = "PUT-PART",
	[OBJ_MPU_COPY] = "COPY-PART",
	[OBJ_MPU_COMPLETE] = "COMPLETE-MULTIPART",
	[OBJ_MPU_ABORT] = "ABORT-MULTIPART",
	[OBJ_TAGS] = "GET-TAGS",
	[OBJ_SET_TAGS] = "PUT-TAGS",
};

static const char *const status_names[OBJ_STATUS_MAX] = {
	[OBJ_OK] = "ok",
	[OBJ_NOT_FOUND] = "not found",
	[OBJ_NO_BUCKET] = "no such bucket",
	[OBJ_PRECONDITION] = "precondition failed",
	[OBJ_CONFLICT] = "conflict",
	[OBJ_DENIED] = "denied",
	[OBJ_INVALID] = "refused as invalid",
	[OBJ_ARCHIVED] = "archived",
	[OBJ_DAMAGED] = "damaged",
	[OBJ_UNKNOWN] = "outcome unknown",
	[OBJ_AWAY] = "store away",
	[OBJ_CANCELLED] = "cancelled",
	[OBJ_LOCAL] = "local error",
};

#define NAMES(field, header, word) { header, word },
const struct obj_prop_names obj_prop_names[OBJ_PROP_MAX] = { OBJ_PROPS(NAMES) };

static _Atomic int64_t ended[OBJ_OP_MAX][OBJ_STATUS_MAX];

int64_t objstore_ended(enum obj_op op, enum obj_status s)
{
	return atomic_load_explicit(&ended[op][s], memory_order_relaxed);
}

const char *objstore_status_name(enum obj_status s)
{
	if ((unsigned)s >= OBJ_STATUS_MAX) {
		return "?";
	}
	return status_names[s];
}

bool objstore_status_transient(enum obj_status s)
{
	return s == OBJ_AWAY || s == OBJ_CONFLICT || s == OBJ_UNKNOWN;
}

const char *objstore_op_name(enum obj_op op)
{
	if ((unsigned)op >= OBJ_OP_MAX) {
		return "?";
	}
	return op_names[op];
}

bool obj_op_mutates(enum obj_op op)
{
	return op == OBJ_PUT || op == OBJ_COPY || op == OBJ_DELETE || op == OBJ_MPU_CREATE || op == OBJ_MPU_COMPLETE;
}

bool obj_req_conditional(const struct obj_req *req)
{
	return req->if_match != NULL || req->if_none_match || req->source_if_match != NULL;
}

void obj_hex(const uint8_t *data, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[data[i] >> 4];
		out[2 * i + 1] = digits[data[i] & 15];
	}
	out[2 * len] = '\0';
}

/* --- making and freeing --- */

int64_t objstore_now_ns(const struct objstore *s, struct clock *clock)
{
	int64_t since_boot_ns = atomic_load(&s->since_boot_ns);

	return since_boot_ns != 0 ? clock_now_ns(clock) + since_boot_ns : clock_wall_ns(clock);
}

struct obj_req *objstore_req_new(enum obj_op op, const char *key)
{
	struct obj_req *req = calloc(1, sizeof(*req));

	if (req == NULL) {
		return NULL;
	}
	req->op = op;
	req->fd = -1;
	req->sink_fd = -1;
	req->key = strdup(key);
	if (req->key == NULL) {
		free(req);
		return NULL;
	}
	return req;
}

static int meta_append(
		struct obj_meta **list, unsigned *count, const char *name, const char *value)
{
	struct obj_meta *grown = realloc(*list, (*count + 1) * sizeof(*grown));
	char *n, *v;

	if (grown == NULL) {
		return -ENOMEM;
	}
	*list = grown;
	n = strdup(name);
	v = strdup(value);
	if (n == NULL || v == NULL) {
		free(n);
		free(v);
		return -ENOMEM;
	}
	grown[*count].name = n;
	grown[*count].value = v;
	*count += 1;
	return 0;
}

static void meta_free(struct obj_meta *list, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		free(list[i].name);
		free(list[i].value);
	}
	free(list);
}

int objstore_req_meta(struct obj_req *req, const char *name, const char *value)
{
	return meta_append(&req->meta, &req->meta_count, name, value);
}

int obj_result_meta_add(struct obj_result *r, const char *name, const char *value)
{
	return meta_append(&r->meta, &r->meta_count, name, value);
}

int obj_props_copy(char *to[OBJ_PROP_MAX], char *const from[OBJ_PROP_MAX])
{
	for (unsigned i = 0; i < OBJ_PROP_MAX; i++) {
		char *copy = from[i] != NULL ? strdup(from[i]) : NULL;

		if (from[i] != NULL && copy == NULL) {
			return -ENOMEM;
		}
		if (copy != NULL) {
			free(to[i]);
			to[i] = copy;
		}
	}
	return 0;
}

void obj_props_free(char *props[OBJ_PROP_MAX])
{
	for (unsigned i = 0; i < OBJ_PROP_MAX; i++) {
		free(props[i]);
		props[i] = NULL;
	}
}

void obj_entry_clear(struct obj_entry *e)
{
	free(e->key);
	free(e->etag);
	free(e->storage_class);
	free(e->version_id);
	memset(e, 0, sizeof(*e));
}

void obj_result_clear(struct obj_result *r)
{
	free(r->message);
	free(r->request_id);
	free(r->etag);
	free(r->version_id);
	obj_props_free(r->props);
	meta_free(r->meta, r->meta_count);
	free(r->body);
	for (unsigned i = 0; i < r->entry_count; i++) {
		obj_entry_clear(&r->entries[i]);
	}
	free(r->entries);
	free(r->next_token);
	free(r->upload_id);
	free(r->sum);
	memset(r, 0, sizeof(*r));
}

void objstore_req_free(struct obj_req **reqp)
{
	struct obj_req *req = *reqp;

	if (req == NULL) {
		return;
	}
	*reqp = NULL;
	obj_result_clear(&req->result);
	meta_free(req->meta, req->meta_count);
	free(req->key);
	free(req->version_id);
	free(req->if_match);
	free(req->body);
	obj_props_free(req->props);
	free(req->source_key);
	free(req->source_if_match);
	free(req->source_version_id);
	free(req->token);
	free(req->after);
	free(req->upload_id);
	free(req->parts);
	free(req->whole_sum);
	free(req);
}

bool objstore_etag_opaque(const struct obj_result *r)
{
	return r->customer || (r->sse != NULL && strncmp(r->sse, "aws:kms", 7) == 0);
}

const char *objstore_meta_get(const struct obj_result *r, const char *name)
{
	for (unsigned i = 0; i < r->meta_count; i++) {
		if (strcmp(r->meta[i].name, name) == 0) {
			return r->meta[i].value;
		}
	}
	return NULL;
}

struct obj_entry *obj_result_entry_add(struct obj_result *r, unsigned *capacity)
{
	if (r->entry_count == *capacity) {
		unsigned cap = *capacity == 0 ? 64 : *capacity * 2;
		struct obj_entry *grown = realloc(r->entries, cap * sizeof(*grown));

		if (grown == NULL) {
			return NULL;
		}
		r->entries = grown;
		*capacity = cap;
	}
	struct obj_entry *e = &r->entries[r->entry_count++];

	memset(e, 0, sizeof(*e));
	return e;
}

static int entry_cmp(const void *a, const void *b)
{
	return strcmp(((const struct obj_entry *)a)->key, ((const struct obj_entry *)b)->key);
}

void obj_result_entries_sort(struct obj_result *r)
{
	if (r->entry_count > 1) {
		qsort(r->entries, r->entry_count, sizeof(r->entries[0]), entry_cmp);
	}
}

void obj_fail(struct obj_req *req, enum obj_status status, const char *fmt, ...)
{
	va_list ap;
	char *message = NULL;

	va_start(ap, fmt);
	if (vasprintf(&message, fmt, ap) < 0) {
		message = NULL;
	}
	va_end(ap);
	req->result.status = status;
	free(req->result.message);
	req->result.message = message;
}

/* --- limits --- */

static const char *key_refusal(const char *key, bool empty_allowed)
{
	size_t len = key == NULL ? 0 : strlen(key);

	if (key == NULL || (len == 0 && !empty_allowed)) {
		return "the object's key is empty";
	}
	if (len > OBJ_KEY_MAX_BYTES) {
		return "the object's key is longer than 1,024 bytes, the most S3 stores";
	}
	if (!utf8_is_sound(key)) {
		return "the object's key is not valid UTF-8";
	}
	return NULL;
}

/* What can travel as an HTTP header value without being changed on the way. */
static bool header_value_valid(const char *v)
{
	size_t len = strlen(v);

	if (len > 0 && (v[0] == ' ' || v[len - 1] == ' ')) {
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		if (v[i] < 0x20 || v[i] > 0x7e) {
			return false;
		}
	}
	return true;
}

const char *objstore_meta_refusal(const char *name, const char *value)
{
	size_t len = strlen(name);

	if (len == 0 || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != len) {
		return "a metadata name holds other characters than a-z, 0-9, '-', '_', '.'";
	}
	return header_value_valid(value)
		? NULL
		: "a metadata value is not printable ASCII, or begins or ends with a space";
}

const char *objstore_prop_refusal(enum obj_prop prop, const char *value)
{
	if (strlen(value) > (prop == OBJ_PROP_tags ? TAGS_MAX_BYTES : PROP_MAX_BYTES)) {
		return "a header's value is longer than can be sent";
	}
	return header_value_valid(value) ? NULL : "a header's value is not printable ASCII";
}

const char *objstore_prop_name(enum obj_prop prop)
{
	return obj_prop_names[prop].header;
}

static const char *meta_refusal(const struct obj_req *req)
{
	const char *why = NULL;
	size_t total = 0;

	for (unsigned i = 0; why == NULL && i < req->meta_count; i++) {
		why = objstore_meta_refusal(req->meta[i].name, req->meta[i].value);
		total += strlen(req->meta[i].name) + strlen(req->meta[i].value);
	}
	if (why == NULL && total > OBJ_META_MAX_BYTES) {
		return "the user metadata exceeds 2,048 bytes, the most S3 stores";
	}
	for (unsigned i = 0; why == NULL && i < OBJ_PROP_MAX; i++) {
		why = req->props[i] != NULL ? objstore_prop_refusal(i, req->props[i]) : NULL;
	}
	return why;
}

static bool etag_valid(const char *etag)
{
	if (etag == NULL) {
		return true;
	}
	return etag[0] != '\0' && strlen(etag) <= 128 && header_value_valid(etag) &&
		   strchr(etag, '"') == NULL && strchr(etag, ' ') == NULL;
}

static const char *body_refusal(const struct obj_req *req)
{
	if (req->length < 0 || req->offset < 0) {
		return "the body's range is negative";
	}
	if (req->length > OBJ_PUT_MAX_BYTES) {
		return "the body is larger than 5 GiB, the most one request may carry";
	}
	if (req->fd < 0 && req->body == NULL && req->length > 0) {
		return "the request has no body";
	}
	return NULL;
}

/* Ceph RGW 16 decodes the source of a part twice: for "a%20b" it takes "a b", and of "100%" it dies. */
const char *objstore_part_source_refusal(const char *key)
{
	return strpbrk(key, "%?") != NULL ? "parts are not copied from keys with '%' or '?': some stores take "
					    "another object for it"
					  : NULL;
}

static const char *range_refusal(const struct obj_req *req)
{
	if (req->offset < 0 || req->length == 0 || req->length < -1 ||
			(req->length > 0 && req->offset > INT64_MAX - req->length)) {
		return "the range to read is empty or negative";
	}
	return req->op == OBJ_MPU_COPY && req->length > OBJ_PUT_MAX_BYTES
		? "the part is larger than 5 GiB, the most one request may copy"
		: NULL;
}

static const char *multipart_refusal(const struct obj_req *req)
{
	if (req->upload_id == NULL || req->upload_id[0] == '\0') {
		return "the multipart upload has no id";
	}
	if (req->op != OBJ_MPU_COMPLETE && req->op != OBJ_MPU_ABORT && (req->part_number < 1 || req->part_number > OBJ_PARTS_MAX)) {
		return "part numbers go from 1 to 10,000";
	}
	if (req->op != OBJ_MPU_COMPLETE) {
		return NULL;
	}
	if (req->part_count < 1 || req->part_count > OBJ_PARTS_MAX || req->parts == NULL) {
		return "a multipart upload has 1 to 10,000 parts";
	}
	for (unsigned i = 0; i < req->part_count; i++) {
		int before = i == 0 ? 0 : req->parts[i - 1].number;

		if (req->parts[i].number <= before || req->parts[i].number > OBJ_PARTS_MAX) {
			return "the parts are not in ascending order from 1 to 10,000";
		}
		if (req->parts[i].etag == NULL || !etag_valid(req->parts[i].etag)) {
			return "a part has no ETag";
		}
	}
	return NULL;
}

/* NULL: the request is within AWS's limits and makes sense. */
static const char *req_refusal(const struct obj_req *req)
{
	const char *why = key_refusal(req->key, req->op == OBJ_LIST || req->op == OBJ_UPLOADS || req->op == OBJ_VERSIONING);

	if (why != NULL) {
		return why;
	}
	if (!etag_valid(req->if_match) || !etag_valid(req->source_if_match)) {
		return "a condition names something that is no ETag";
	}
	if (req->if_match != NULL && req->if_none_match) {
		return "If-Match and If-None-Match exclude each other";
	}
	switch (req->op) {
	case OBJ_GET:
		return range_refusal(req);
	case OBJ_PUT:
		why = body_refusal(req);
		return why != NULL ? why : meta_refusal(req);
	case OBJ_MPU_CREATE:
		return meta_refusal(req);
	case OBJ_COPY:
		why = key_refusal(req->source_key, false);
		return why != NULL ? why : meta_refusal(req);
	case OBJ_LIST:
	case OBJ_VERSIONS:
	case OBJ_UPLOADS:
		if (req->max_keys < 0 || req->max_keys > LIST_KEYS_MAX) {
			return "a listing has pages of 1 to 1,000 keys";
		}
		if (req->delimiter != 0 && (req->delimiter <= 0x20 || req->delimiter > 0x7e)) {
			return "the delimiter is not a printable ASCII character";
		}
		return NULL;
	case OBJ_MPU_PART:
		why = body_refusal(req);
		return why != NULL ? why : multipart_refusal(req);
	case OBJ_MPU_COPY:
		why = key_refusal(req->source_key, false);
		why = why != NULL ? why : objstore_part_source_refusal(req->source_key);
		why = why != NULL ? why : range_refusal(req);
		return why != NULL ? why : multipart_refusal(req);
	case OBJ_MPU_COMPLETE:
	case OBJ_MPU_ABORT:
		return multipart_refusal(req);
	case OBJ_HEAD:
	case OBJ_DELETE:
	case OBJ_TAGS:
	case OBJ_VERSIONING:
		return NULL;
	case OBJ_SET_TAGS:
		return req->tags == NULL ? "no tags are given" : meta_refusal(req);
	default:
		return "unknown operation";
	}
}

/* --- going out and coming home --- */

static bool req_changes(enum obj_op op)
{
	return op != OBJ_HEAD && op != OBJ_GET && op != OBJ_LIST && op != OBJ_VERSIONS && op != OBJ_VERSIONING &&
			op != OBJ_TAGS && op != OBJ_UPLOADS;
}

void objstore_submit(struct objstore *s, struct obj_req *req)
{
	const char *why;

	obj_result_clear(&req->result);
	req->next = NULL;
	req->impl = NULL;
	req->submitted_ns = times_now_ns();
	req->store = s;
	req->log = s->log;
	s->changes += req_changes(req->op);
	obj_rights_begin(s);
	if (objstore_unfenced(s) && req->op == OBJ_PUT && !req->as_it_is) {
		/* It takes no notice of such a condition, or refuses each. */
		if (!s->caps.put_if_match) {
			free(req->if_match);
			req->if_match = NULL;
		}
		req->if_none_match = req->if_none_match && s->caps.put_if_none_match;
	}
	req->has_door = s->door != NULL;
	if (req->has_door && s->door->out(s->door, req) != 0) {
		obj_fail(req, OBJ_LOCAL, "out of memory");
	}
	why = s->read_only && req_changes(req->op) ? "the volume is read-only here" : req_refusal(req);
	if (why != NULL) {
		obj_fail(req, OBJ_INVALID, "%s", why);
	}
	s->ops->submit(s, req);
}

static const struct {
	_Atomic int64_t *sent;
	struct times *time;
} cells[OBJ_OP_MAX] = {
	[OBJ_HEAD] = {&stats.s3_head, &times_cells.s3_request_head},
	[OBJ_GET] = {&stats.s3_get, &times_cells.s3_request_get},
	[OBJ_PUT] = {&stats.s3_put, &times_cells.s3_request_put},
	[OBJ_COPY] = {&stats.s3_copy, &times_cells.s3_request_copy},
	[OBJ_DELETE] = {&stats.s3_delete, &times_cells.s3_request_delete},
	[OBJ_LIST] = {&stats.s3_list, &times_cells.s3_request_list},
	[OBJ_VERSIONS] = {&stats.s3_list, &times_cells.s3_request_list},
	[OBJ_UPLOADS] = {&stats.s3_list, &times_cells.s3_request_list},
	[OBJ_VERSIONING] = {&stats.s3_other, &times_cells.s3_request_other},
	[OBJ_MPU_CREATE] = {&stats.s3_other, &times_cells.s3_request_other},
	[OBJ_MPU_PART] = {&stats.s3_put, &times_cells.s3_request_put},
	[OBJ_MPU_COPY] = {&stats.s3_copy, &times_cells.s3_request_copy},
	[OBJ_MPU_COMPLETE] = {&stats.s3_other, &times_cells.s3_request_other},
	[OBJ_MPU_ABORT] = {&stats.s3_other, &times_cells.s3_request_other},
	[OBJ_TAGS] = {&stats.s3_other, &times_cells.s3_request_other},
	[OBJ_SET_TAGS] = {&stats.s3_other, &times_cells.s3_request_other},
};

void obj_count(enum obj_op op)
{
	atomic_fetch_add_explicit(cells[op].sent, 1, memory_order_relaxed);
}

/* Once for an outage, and for its end; where it comes and goes, once a minute. */
static void trouble_tell(struct objstore *s, const struct obj_result *r)
{
	int64_t now = times_now_ns();

	if (r->status == OBJ_AWAY || r->status == OBJ_NO_BUCKET) {
		s->trouble_since_ns = s->trouble_since_ns != 0 ? s->trouble_since_ns : now;
		if (!s->trouble_told && (s->trouble_told_ns == 0 || now - s->trouble_told_ns >= TROUBLE_AGAIN_NS)) {
			s->trouble_told = true;
			s->trouble_told_ns = now;
			log_warning("store", "the store cannot be used: %s. Files whose data is here go on; changes wait "
					"here, and are sent by themselves once it can (objectfsctl status)",
					r->message != NULL ? r->message : objstore_status_name(r->status));
		}
	} else if (s->trouble_since_ns != 0 && atomic_load(&s->trouble) == OBJ_OK) {
		if (s->trouble_told) {
			log_notice("store", "the store can be used again, after %lld s: what has waited is sent",
					(long long)((now - s->trouble_since_ns) / 1000000000));
		}
		s->trouble_told = false;
		s->trouble_since_ns = 0;
	}
}

enum log_level objstore_trouble_level(const struct objstore *s, enum log_level level)
{
	return s->trouble_since_ns != 0 ? LOG_LVL_DEBUG : level;
}

void obj_heard(struct obj_req *req)
{
	if (obj_store_is_live(req->store)) {
		trouble_tell(req->store, &req->result);
	}
}

static void letter_open(struct letter *letter)
{
	struct obj_req *req =
			(struct obj_req *)((char *)letter - offsetof(struct obj_req, letter));
	const struct log_volume *before;

	before = log_enter(req->log);
	obj_rights_judge(req);
	obj_heard(req);
	if (req->has_door && obj_store_is_live(req->store)) {
		req->store->door->in(req->store->door, req);
	} else if (req->has_door && !obj_op_mutates(req->op)) {
		req->result.status = OBJ_CANCELLED; /* nobody is left who could say whether it may be believed */
	}
	req->done(req);
	(void)log_enter(before);
}

void obj_judge(const struct obj_req *req)
{
	const char *version = req->result.version_id;

	if (req->op == OBJ_PUT && req->result.status == OBJ_OK) {
		bool versioned = version != NULL && strcmp(version, "null") != 0;

		atomic_store(&req->store->put_versioned, versioned ? 1 : -1);
	}
	if ((req->op == OBJ_VERSIONING || req->op == OBJ_UPLOADS) && req->result.status == OBJ_DENIED) {
		return; /* it may be asked, and is not needed */
	}
	switch (req->result.status) {
	case OBJ_DENIED:
	case OBJ_NO_BUCKET:
	case OBJ_AWAY:
		atomic_store(&req->store->trouble, req->result.status);
		stats_add(s3_errors, 1);
		break;
	case OBJ_INVALID:
	case OBJ_DAMAGED:
	case OBJ_UNKNOWN:
	case OBJ_LOCAL:
		stats_add(s3_errors, 1);
		break;
	case OBJ_CANCELLED:
		break;
	default:
		atomic_store(&req->store->trouble, OBJ_OK);
		break;
	}
}

static void deliver_log(const struct obj_req *req)
{
	const struct obj_result *r = &req->result;
	const struct log_volume *before = log_enter(req->log);

	if (log_get_level() >= LOG_LVL_DEBUG) {
		log_line(LOG_LVL_DEBUG, "store", req->request_id,
				"%s %s%s%s: %s%s%s%s%s%s", objstore_op_name(req->op), req->key,
				req->source_key ? " from " : "", req->source_key ? req->source_key : "",
				objstore_status_name(r->status),
				r->status != OBJ_OK && r->message != NULL ? ": " : "",
				r->status != OBJ_OK && r->message != NULL ? r->message : "",
				r->request_id != NULL ? " (the store's request " : "",
				r->request_id != NULL ? r->request_id : "",
				r->request_id != NULL ? ")" : "");
	}
	(void)log_enter(before);
}

void obj_deliver(struct mailbox *mb, struct obj_req *req)
{
	times_record(cells[req->op].time, times_now_ns() - req->submitted_ns);
	atomic_fetch_add_explicit(&ended[req->op][req->result.status], 1, memory_order_relaxed);
	obj_judge(req);
	deliver_log(req);
	req->letter.next = NULL;
	req->letter.open = letter_open;
	mailbox_post(mb, &req->letter);
}
