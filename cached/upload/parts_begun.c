/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: which of the parts that an earlier try, or an earlier daemon, has sent count for this upload.
 * Way: parts.c asks before it begins another, and tells each part that the store has; begun.c remembers.
 * Thread: core. Owns: nothing.
 * Holds: 1. one is gone on with if its object would be the same, metadata and all; 2. a part of it counts if it was of
 *        the bytes that the file has now, as they are read now.
 */
#include "upload_private.h"
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>
#include "../base/stats.h"
#include "../core/trust.h"
#include "../core/volume.h"

/* Of the digests of its blocks. */
static void parts_digest(const struct blocks *b, const struct blocks_part *part, uint8_t sha256[32])
{
	size_t first = (size_t)(part->offset / b->each), count = (size_t)((part->length - 1) / b->each) + 1;

	SHA256(b->sha256[first], 32 * count, sha256);
}

void parts_note(struct upload *u, int i, const struct obj_req *req)
{
	uint8_t sha256[32];

	if (u->state->begun != NULL) {
		parts_digest(u->blocks, &u->state->parts[i], sha256);
		begun_part(u->state->begun, (unsigned)i, req->result.etag, req->result.sum, sha256);
	}
}

void parts_what(const struct upload *u, const struct obj_req *create, bool copies, uint8_t what[32])
{
	const struct conf_volume *conf = u->v->conf;
	const struct objstore *store = u->v->store;
	const char *version = copies && u->state->ask->version != NULL ? u->state->ask->version : "";
	const char *rest[] = {copies ? u->if_match : "", version, conf->kms_key, conf->customer_key_file};
	int numbers[] = {(int)conf->encryption, conf->bucket_key, atomic_load(&store->sum),
			atomic_load(&store->sum_trailer)};
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	uint8_t signer[TRUST_ID_BYTES] = {0};

	EVP_DigestInit_ex(md, EVP_sha256(), NULL);
	for (unsigned i = 0; i < create->meta_count; i++) {
		EVP_DigestUpdate(md, create->meta[i].name, strlen(create->meta[i].name) + 1);
		EVP_DigestUpdate(md, create->meta[i].value, strlen(create->meta[i].value) + 1);
	}
	for (unsigned i = 0; i < OBJ_PROP_MAX + sizeof(rest) / sizeof(rest[0]); i++) {
		const char *text = i < OBJ_PROP_MAX ? create->props[i] : rest[i - OBJ_PROP_MAX];

		EVP_DigestUpdate(md, text != NULL ? "=" : "-", 1);
		EVP_DigestUpdate(md, text != NULL ? text : "", text != NULL ? strlen(text) + 1 : 1);
	}
	trust_signer(store, signer);
	EVP_DigestUpdate(md, signer, sizeof(signer));
	EVP_DigestUpdate(md, numbers, sizeof(numbers));
	EVP_DigestFinal_ex(md, what, NULL);
	EVP_MD_CTX_free(md);
}

void parts_find(struct upload *u)
{
	struct upload_state *s = u->state;
	struct begun *b;

	while ((b = begun_find(u->v, &u->meta.oid)) != NULL) {
		b->used = true;
		if (s->found == NULL && b->size == u->size && strcmp(b->key, u->key) == 0) {
			s->found = b;
		} else {
			begun_give_up(&b);
		}
	}
}

/* Which of its parts are there, of the bytes that the file has. false: another of them cannot be had any more. */
static bool parts_compare(struct upload *u, const struct begun *b)
{
	struct upload_state *s = u->state;
	uint8_t sha256[32];

	for (int i = 0; i < s->part_count; i++) {
		const struct blocks_part *part = &s->parts[i];

		parts_digest(u->blocks, part, sha256);
		if (b->done[i].etag != NULL && memcmp(sha256, b->done[i].sha256, 32) == 0) {
			s->etags[i] = talloc_strdup(u, b->done[i].etag);
			s->sums[i] = b->done[i].sum != NULL ? talloc_strdup(u, b->done[i].sum) : NULL;
			s->resumed += part->copy ? 0 : part->length;
			s->there++;
			continue;
		}
		for (int64_t at = part->offset; part->copy && at < part->offset + part->length; at += u->blocks->each) {
			if (!s->delta || !s->ask->same[at / u->blocks->each]) {
				return false;
			}
		}
	}
	return true;
}

/* Its parts, and what they are to be made of, in place of those of a new one. false: it cannot be. */
static bool parts_take(struct upload *u, const struct begun *b)
{
	struct upload_state *s = u->state;

	u->blocks = s->ask->now;
	s->ask->now = NULL;
	s->part_count = (int)b->part_count;
	s->parts = talloc_memdup(u, b->parts, b->part_count * sizeof(*b->parts));
	s->upload_id = talloc_strdup(u, b->upload_id);
	parts_tables(u);
	if (parts_compare(u, b)) {
		return true;
	}
	s->ask->now = u->blocks;
	u->blocks = NULL;
	s->part_count = 0;
	s->resumed = s->there = 0;
	TALLOC_FREE(s->parts);
	TALLOC_FREE(s->upload_id);
	return false;
}

static bool parts_has_copies(const struct begun *b)
{
	for (unsigned i = 0; i < b->part_count; i++) {
		if (b->parts[i].copy) {
			return true;
		}
	}
	return false;
}

bool parts_resume(struct upload *u, bool *ended)
{
	struct upload_state *s = u->state;
	struct begun *b = s->found;
	const struct ofs_oid wid = u->meta.wid;
	int64_t atime_ns = u->meta.snapshot != NULL ? u->meta.snapshot->atime_ns : 0;
	bool copies = parts_has_copies(b), same = false;
	struct obj_req *req;
	uint8_t what[32];

	*ended = false;
	if (s->ask == NULL || s->ask->now == NULL || s->ask->now->each != b->each || (copies && u->if_match == NULL)) {
		return false;
	}
	u->meta.wid = b->wid;
	if (u->meta.snapshot != NULL) {
		u->meta.snapshot->atime_ns = b->atime_ns; /* nobody sends a file because it was read */
	}
	req = upload_req(u, OBJ_MPU_CREATE, NULL);
	if (!upload_describe(u, &req)) {
		*ended = true;
		return false;
	}
	parts_what(u, req, copies, what);
	same = memcmp(what, b->what, 32) == 0;
	objstore_req_free(&req);
	if (same && parts_take(u, b)) {
		u->begun_ns = b->begun_ns;
		s->delta = copies;
		s->begun = b;
		s->found = NULL;
		stats_add(uploads_resumed, 1);
		stats_add(parts_resumed, s->there);
		return true;
	}
	u->meta.wid = wid;
	if (u->meta.snapshot != NULL) {
		u->meta.snapshot->atime_ns = atime_ns;
	}
	return false;
}
