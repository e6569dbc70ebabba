/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: uploads in parts of the simulated object store: begun, sent or copied part by part, completed under its
 *       conditions, aborted, listed.
 * Way: sim_store.c. Thread: one.
 * Owns: the uploads, which outlive every daemon until they are ended.
 * Holds: what a part has is what was sent last under its number; a Complete that is refused changes nothing.
 */
#include "sim_priv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/evp.h>
#include "cached/objstore/impl.h"

#define PARTS_MOST 32u
#define PAGE 2u

struct sim_part {
	uint8_t *data;
	size_t len;
	char etag[33];
};

struct sim_upload {
	struct sim_upload *next; /* newest first */
	char *key, id[24];
	struct obj_req *about; /* metadata of the object */
	int64_t begun_ns;
	struct sim_part parts[PARTS_MOST + 1]; /* by number */
};

static struct sim_upload **upload_find(struct sim *s, const struct obj_req *q)
{
	struct sim_upload **pp = &s->uploads;

	while (*pp != NULL && (strcmp((*pp)->id, q->upload_id) != 0 || strcmp((*pp)->key, q->key) != 0)) {
		pp = &(*pp)->next;
	}
	return pp;
}

static struct sim_upload *upload_get(struct sim *s, struct obj_req *q)
{
	struct sim_upload *u = *upload_find(s, q);

	if (u == NULL) {
		q->result.status = OBJ_INVALID;
		q->result.upload_gone = true;
	}
	return u;
}

static void upload_remove(struct sim_upload **pp)
{
	struct sim_upload *u = *pp;

	*pp = u->next;
	for (unsigned i = 0; i <= PARTS_MOST; i++) {
		free(u->parts[i].data);
	}
	objstore_req_free(&u->about);
	free(u->key);
	free(u);
}

static struct sim_upload *do_create(struct sim *s, const struct obj_req *q)
{
	struct sim_upload *u = calloc(1, sizeof(*u));

	u->key = strdup(q->key);
	snprintf(u->id, sizeof(u->id), "%u", ++s->upload_count);
	u->about = objstore_req_new(OBJ_PUT, q->key);
	for (unsigned i = 0; i < q->meta_count; i++) {
		objstore_req_meta(u->about, q->meta[i].name, q->meta[i].value);
	}
	u->begun_ns = sim_store_ns(s);
	u->next = s->uploads;
	s->uploads = u;
	return u;
}

static void part_set(struct sim_part *p, uint8_t *data, size_t len, struct obj_req *q)
{
	uint8_t md[16];

	free(p->data);
	p->data = data;
	p->len = len;
	EVP_Digest(data, len, md, NULL, EVP_md5(), NULL);
	obj_hex(md, sizeof(md), p->etag);
	q->result.etag = strdup(p->etag);
	EVP_Digest(data, len, q->result.sha256, NULL, EVP_sha256(), NULL);
}

static void do_part(struct sim *s, struct obj_req *q)
{
	struct sim_upload *u = upload_get(s, q);
	uint8_t *data = u != NULL ? sim_body(q) : NULL;

	if (data != NULL && (unsigned)q->part_number <= PARTS_MOST) {
		part_set(&u->parts[q->part_number], data, (size_t)q->length, q);
	}
}

static void do_part_copy(struct sim *s, struct obj_req *q)
{
	struct sim_upload *u = upload_get(s, q);
	const struct sim_object *o = sim_object_at(s, q->source_key, q->source_version_id);
	uint8_t *data;

	if (u == NULL) {
		return;
	}
	if (o == NULL) {
		q->result.status = OBJ_NOT_FOUND;
	} else if (s->fence_class == 3 && q->source_if_match != NULL && strcmp(q->source_if_match, o->etag) != 0) {
		q->result.status = OBJ_PRECONDITION;
	} else if (o->archived) {
		q->result.status = OBJ_ARCHIVED;
	} else if (q->offset + q->length > (int64_t)o->len || (unsigned)q->part_number > PARTS_MOST) {
		q->result.status = OBJ_INVALID;
	} else {
		data = calloc(1, (size_t)q->length + 1);
		memcpy(data, o->data + q->offset, (size_t)q->length);
		part_set(&u->parts[q->part_number], data, (size_t)q->length, q);
	}
}

/* All its bytes, and its ETag, as S3 makes it of the parts' own. NULL: it is not as it was said to be. */
static uint8_t *joined(const struct sim_upload *u, const struct obj_req *q, size_t *len, char etag[48])
{
	uint8_t md[16], *all = calloc(1, 1);
	EVP_MD_CTX *sums = EVP_MD_CTX_new();
	bool good = true;

	EVP_DigestInit_ex(sums, EVP_md5(), NULL);
	*len = 0;
	for (unsigned i = 0; i < q->part_count && good; i++) {
		const struct sim_part *p = &u->parts[q->parts[i].number];

		good = p->data != NULL && strcmp(p->etag, q->parts[i].etag) == 0 &&
		       (p->len >= SIM_PART_MIN_BYTES || i + 1 == q->part_count);
		if (good) {
			all = realloc(all, *len + p->len + 1);
			memcpy(all + *len, p->data, p->len);
			*len += p->len;
			EVP_Digest(p->data, p->len, md, NULL, EVP_md5(), NULL);
			EVP_DigestUpdate(sums, md, sizeof(md));
		}
	}
	EVP_DigestFinal_ex(sums, md, NULL);
	EVP_MD_CTX_free(sums);
	obj_hex(md, sizeof(md), etag);
	snprintf(etag + 32, 16, "-%u", q->part_count);
	if (!good || (q->length > 0 && *len != (size_t)q->length)) {
		free(all);
		return NULL;
	}
	return all;
}

static void do_complete(struct sim *s, struct obj_req *q)
{
	struct sim_upload *u = upload_get(s, q);
	char etag[48];
	uint8_t *data;
	size_t len;

	if (u == NULL || sim_condition_fails(s, q)) {
		return;
	}
	data = joined(u, q, &len, etag);
	if (data == NULL) {
		q->result.status = OBJ_INVALID;
		return;
	}
	sim_stores(s, q, data, len, u->about, etag);
	upload_remove(upload_find(s, q));
}

static void do_abort(struct sim *s, struct obj_req *q)
{
	struct sim_upload **pp = upload_find(s, q);

	if (*pp != NULL) {
		upload_remove(pp);
	}
}

/* Newest first; the token is the id of the last one that was told, be it there or not. */
static void do_uploads(struct sim *s, struct obj_req *q)
{
	unsigned below = q->token != NULL ? (unsigned)atoi(q->token) : s->upload_count + 1, capacity = 0;

	for (const struct sim_upload *u = s->uploads; u != NULL; u = u->next) {
		struct obj_entry *e;

		if (strncmp(u->key, q->key, strlen(q->key)) != 0 || (unsigned)atoi(u->id) >= below) {
			continue;
		}
		if (q->result.entry_count == PAGE) {
			q->result.next_token = strdup(q->result.entries[PAGE - 1].version_id);
			return;
		}
		e = obj_result_entry_add(&q->result, &capacity);
		e->key = strdup(u->key);
		e->version_id = strdup(u->id);
		e->mtime_ns = u->begun_ns;
	}
}

/* What the engine makes of answers that do not come: a begin is tried again, a Complete's outcome is not known. */
static void lose(struct sim *s, struct obj_req *q)
{
	bool again = sim_random(s, 2) == 0;

	if (q->op == OBJ_MPU_CREATE && again) {
		free(q->result.upload_id);
		q->result.upload_id = strdup(do_create(s, q)->id);
		q->result.more_begun = true;
		return;
	}
	q->result.status = q->op == OBJ_MPU_CREATE || q->op == OBJ_MPU_COMPLETE ? OBJ_UNKNOWN : OBJ_AWAY;
	free(q->result.etag);
	free(q->result.version_id);
	free(q->result.upload_id);
	q->result.etag = q->result.version_id = q->result.upload_id = NULL;
}

bool sim_parts_serve(struct sim *s, struct obj_req *q)
{
	switch (q->op) {
	case OBJ_MPU_CREATE:
		q->result.upload_id = strdup(do_create(s, q)->id);
		break;
	case OBJ_MPU_PART:
		do_part(s, q);
		break;
	case OBJ_MPU_COPY:
		do_part_copy(s, q);
		break;
	case OBJ_MPU_COMPLETE:
		if (sim_random(s, 1000) < s->faults.lost_answer) {
			q->result.status = OBJ_UNKNOWN; /* 200, and an error inside: nothing has happened */
			return true;
		}
		do_complete(s, q);
		break;
	case OBJ_MPU_ABORT:
		do_abort(s, q);
		break;
	case OBJ_UPLOADS:
		do_uploads(s, q);
		return true;
	default:
		return false;
	}
	if (q->result.status == OBJ_OK && sim_random(s, 1000) < s->faults.lost_answer) {
		lose(s, q);
	}
	return true;
}

unsigned sim_uploads(const struct sim *s)
{
	unsigned count = 0;

	for (const struct sim_upload *u = s->uploads; u != NULL; u = u->next) {
		count++;
	}
	return count;
}

void sim_uploads_end(struct sim *s)
{
	while (s->uploads != NULL) {
		upload_remove(&s->uploads);
	}
}
