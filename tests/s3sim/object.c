/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: operations on one object: GET, HEAD, PUT, DELETE, tags, restore.
 *
 * Way:    server.c, when all of the request is there; the answer is made here, and sent there.
 * Thread: one: between a condition and what it allows, nothing happens.
 * Holds:  1. What is deleted is told to the writers of that key that are on their way (conditions.c: 409).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "req.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DOCUMENT_MAX_BYTES (4u << 20)

/* --- reading --- */

/* The version asked for. NULL: answered. */
static struct version *wanted(struct req *r)
{
	const char *id = req_param(r, "versionId");
	struct key *k = bucket_key(r->bucket, r->key);
	struct version *v = id == NULL ? (k == NULL ? NULL : k->newest) : bucket_version(r->bucket, r->key, id);

	if (v == NULL) {
		answer_error(r, id != NULL ? "NoSuchVersion" : "NoSuchKey", NULL);
		return NULL;
	}
	if (v->marker) {
		answer_header(r, "x-amz-delete-marker", "true");
		answer_version(r, v);
		answer_error(r, id != NULL ? "MethodNotAllowed" : "NoSuchKey", NULL);
		return NULL;
	}
	return v;
}

/* "bytes=1-2", "1-", "-2"; 0: none that counts, 1: as set, -1: there are no such bytes. */
static int read_range(const char *text, int64_t size, int64_t *from, int64_t *length)
{
	char *end;
	int64_t first, last = size - 1;

	if (text == NULL || strncmp(text, "bytes=", 6) != 0 || strchr(text, ',') != NULL) {
		return 0;
	}
	text += 6;
	errno = 0;
	if (*text == '-') {
		last = strtoll(text + 1, &end, 10);
		if (errno != 0 || end == text + 1 || *end != '\0' || last < 0) {
			return 0;
		}
		first = last > size ? 0 : size - last;
		last = size - 1;
	} else {
		first = strtoll(text, &end, 10);
		if (errno != 0 || end == text || *end != '-' || first < 0) {
			return 0;
		}
		if (end[1] != '\0') {
			const char *second = end + 1;

			last = strtoll(second, &end, 10);
			if (errno != 0 || *end != '\0' || last < first) {
				return 0;
			}
			last = last < size - 1 ? last : size - 1;
		}
	}
	*from = first;
	*length = last - first + 1;
	return first >= size || *length <= 0 ? -1 : 1;
}

void op_get(struct req *r)
{
	const char *mode = req_header(r, "x-amz-checksum-mode");
	struct version *v = wanted(r);
	int range;

	if (v == NULL || !about_opens(r, &v->about, "") || !condition_read(r, v)) {
		return;
	}
	if (strcmp(r->method, "GET") == 0 && !about_readable(r, v)) {
		return;
	}
	r->from = 0;
	r->length = v->body->size;
	range = read_range(req_header(r, "Range"), v->body->size, &r->from, &r->length);
	if (range < 0) {
		answer_header(r, "Content-Range", "bytes */%" PRId64, v->body->size);
		answer_error(r, "InvalidRange", NULL);
		return;
	}
	r->body = body_new(r);
	if (r->body == NULL || body_share(r->body, v->body, 0, v->body->size) != 0) {
		answer_error(r, "InternalError", NULL);
		return;
	}
	answer_about(r, v, range == 0 && mode != NULL && strcmp(mode, "ENABLED") == 0);
	if (range > 0) {
		answer_header(r, "Content-Range", "bytes %" PRId64 "-%" PRId64 "/%" PRId64, r->from,
				r->from + r->length - 1, v->body->size);
	}
	r->status = range > 0 ? 206 : 200;
}

/* --- writing --- */

bool object_put(struct req *r, struct version *v)
{
	if (bucket_put(r->sim->store, r->bucket, r->key, v) != 0) {
		talloc_free(v);
		return answer_error(r, "InternalError", NULL);
	}
	answer_version(r, v);
	return true;
}

void op_put(struct req *r)
{
	struct version *v;

	if (!condition_write(r, (r->sim->set.honours & HONOURS_PUT) != 0)) {
		return;
	}
	v = version_new(r->bucket, now_ns(r->sim));
	if (v == NULL || !about_read(r, v, &v->about)) {
		talloc_free(v);
		answer_error(r, "InternalError", NULL);
		return;
	}
	about_etag(r, &v->about, r->in.etag);
	v->etag = talloc_strdup(v, r->in.etag);
	v->about.sum = talloc_strdup(v, r->in.sum_text);
	v->about.sum_kind = r->in.sum.kind;
	v->body = talloc_steal(v, r->in.body);
	if (v->etag == NULL || v->about.sum == NULL || !object_put(r, v)) {
		answer_error(r, "InternalError", NULL);
		return;
	}
	answer_header(r, "ETag", "\"%s\"", v->etag);
	answer_sum(r, &v->about);
	answer_sealed(r, &v->about);
	r->status = 200;
}

static void tell_writers(struct req *r, const char *key)
{
	for (struct req *other = r->sim->live; other != NULL; other = other->next) {
		if (other != r && other->bucket == r->bucket && strcmp(other->key, key) == 0) {
			other->deleted_meanwhile = true;
		}
	}
}

bool object_delete(struct req *r, const char *key)
{
	struct version *v = bucket_current(r->bucket, key), *marker;

	if (v != NULL) {
		tell_writers(r, key);
	}
	if (r->bucket->versioning == VERSIONS_NEVER) {
		if (v != NULL) {
			bucket_remove(r->bucket, v);
		}
		return true;
	}
	marker = version_new(r->bucket, now_ns(r->sim));
	if (marker == NULL || bucket_put(r->sim->store, r->bucket, key, marker) != 0) {
		talloc_free(marker);
		return answer_error(r, "InternalError", NULL);
	}
	marker->marker = true;
	answer_header(r, "x-amz-delete-marker", "true");
	answer_version(r, marker);
	return true;
}

void op_delete(struct req *r)
{
	const char *id = req_param(r, "versionId");
	struct version *v = id == NULL ? NULL : bucket_version(r->bucket, r->key, id);

	if (!condition_write(r, (r->sim->set.honours & HONOURS_DELETE) != 0)) {
		return;
	}
	if (id == NULL) {
		if (!object_delete(r, r->key)) {
			return;
		}
	} else if (v != NULL) {
		answer_version(r, v);
		if (v->marker) {
			answer_header(r, "x-amz-delete-marker", "true");
		}
		if (v == v->key->newest) {
			tell_writers(r, r->key);
		}
		bucket_remove(r->bucket, v);
	}
	r->status = 204;
}

/* --- several at once --- */

struct deletion {
	struct req *req;
	char *key, *id, *etag;
	FILE *out;
	unsigned count;
	bool quiet;
};

static void delete_one(struct deletion *d)
{
	struct req *r = d->req;
	struct version *v = d->id != NULL ? bucket_version(r->bucket, d->key, d->id) : bucket_current(r->bucket, d->key);
	bool refused = d->etag != NULL && (v == NULL || !etag_matches(d->etag, v->etag == NULL ? "" : v->etag)) &&
		       (r->sim->set.honours & HONOURS_DELETE) != 0;

	if (!refused && d->id != NULL && v != NULL) {
		bucket_remove(r->bucket, v);
	} else if (!refused && d->id == NULL && !object_delete(r, d->key)) {
		refused = true;
	}
	if (refused || !d->quiet) {
		fprintf(d->out, "<%s>", refused ? "Error" : "Deleted");
		xml_element(d->out, "Key", d->key);
		if (refused) {
			xml_element(d->out, "Code", "PreconditionFailed");
		}
		fprintf(d->out, "</%s>", refused ? "Error" : "Deleted");
	}
}

static void deletion_element(void *arg, unsigned depth, const char *parent, const char *name, const char *text)
{
	struct deletion *d = arg;

	(void)parent;
	if (depth == 2 && strcmp(name, "Quiet") == 0) {
		d->quiet = strcmp(text, "true") == 0;
	} else if (depth == 3 && strcmp(name, "Key") == 0) {
		d->key = talloc_strdup(d->req, text);
	} else if (depth == 3 && strcmp(name, "VersionId") == 0) {
		d->id = talloc_strdup(d->req, text);
	} else if (depth == 3 && strcmp(name, "ETag") == 0) {
		d->etag = talloc_strdup(d->req, text);
	} else if (depth == 2 && strcmp(name, "Object") == 0 && d->key != NULL && d->count++ < 1000) {
		delete_one(d);
		d->key = d->id = d->etag = NULL;
	}
}

void op_delete_many(struct req *r)
{
	struct deletion d = { .req = r };
	char *text = body_text(r, r->in.body, DOCUMENT_MAX_BYTES);
	FILE *f = text == NULL ? NULL : answer_open(r);

	if (f == NULL) {
		answer_error(r, "InternalError", NULL);
		return;
	}
	d.out = f;
	fputs("<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", f);
	if (xml_read(text, deletion_element, &d) != 0) {
		fclose(f);
		answer_error(r, "MalformedXML", NULL);
		return;
	}
	fputs("</DeleteResult>", f);
	r->headers = (struct pairs){ 0 }; /* those of single markers */
	answer_close(r, f, 200);
}

/* --- tags --- */

void op_get_tags(struct req *r)
{
	struct version *v = wanted(r);
	FILE *f = v == NULL ? NULL : answer_open(r);

	if (f == NULL) {
		return;
	}
	answer_version(r, v);
	fputs("<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet>", f);
	for (unsigned i = 0; i < v->about.tags.count; i++) {
		fputs("<Tag>", f);
		xml_element(f, "Key", v->about.tags.list[i].name);
		xml_element(f, "Value", v->about.tags.list[i].value);
		fputs("</Tag>", f);
	}
	fputs("</TagSet></Tagging>", f);
	answer_close(r, f, 200);
}

struct tagging {
	struct req *req;
	struct version *v;
	struct pairs tags;
	char *name, *value;
	bool failed;
};

static void tagging_element(void *arg, unsigned depth, const char *parent, const char *name, const char *text)
{
	struct tagging *t = arg;

	(void)parent;
	if (depth == 4 && strcmp(name, "Key") == 0) {
		t->name = talloc_strdup(t->req, text);
	} else if (depth == 4 && strcmp(name, "Value") == 0) {
		t->value = talloc_strdup(t->req, text);
	} else if (depth == 3 && strcmp(name, "Tag") == 0) {
		t->failed = t->failed || t->name == NULL || t->name[0] == '\0' || t->tags.count == 10 ||
			    pairs_add(t->v, &t->tags, t->name, t->value == NULL ? "" : t->value) != 0;
		t->name = t->value = NULL;
	}
}

void op_put_tags(struct req *r)
{
	char *text = body_text(r, r->in.body, DOCUMENT_MAX_BYTES);
	struct tagging t = { .req = r, .v = wanted(r) };

	if (t.v == NULL) {
		return;
	}
	if (text == NULL || xml_read(text, tagging_element, &t) != 0) {
		answer_error(r, "MalformedXML", NULL);
		return;
	}
	if (t.failed) {
		answer_error(r, "InvalidTag", NULL);
		return;
	}
	t.v->about.tags = t.tags;
	answer_version(r, t.v);
	r->status = 200;
}

void op_delete_tags(struct req *r)
{
	struct version *v = wanted(r);

	if (v != NULL) {
		v->about.tags = (struct pairs){ 0 };
		answer_version(r, v);
		r->status = 204;
	}
}

/* --- archived --- */

static void restore_element(void *arg, unsigned depth, const char *parent, const char *name, const char *text)
{
	(void)parent;
	if (depth == 2 && strcmp(name, "Days") == 0) {
		*(long *)arg = strtol(text, NULL, 10);
	}
}

void op_restore(struct req *r)
{
	char *text = body_text(r, r->in.body, DOCUMENT_MAX_BYTES);
	struct version *v = wanted(r);
	int64_t now = now_ns(r->sim);
	long days = 0;

	if (v == NULL) {
		return;
	}
	if (text == NULL || xml_read(text, restore_element, &days) != 0 || days < 1 || days > 36500) {
		answer_error(r, "MalformedXML", NULL);
		return;
	}
	if (!about_archived(v, now)) {
		if (v->restored_ns == 0) {
			answer_error(r, "InvalidObjectState", NULL); /* of a class that is read as it is */
			return;
		}
		v->restored_until_ns = now + days * 86400 * 1000000000LL;
		r->status = 200;
		return;
	}
	if (v->restored_ns > now) {
		answer_error(r, "RestoreAlreadyInProgress", NULL);
		return;
	}
	v->restored_ns = now + r->sim->set.restore_ms * 1000000;
	v->restored_until_ns = v->restored_ns + days * 86400 * 1000000000LL;
	r->status = 202;
}
