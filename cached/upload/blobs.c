/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: large values of metadata to S3, before what names them; and not under the feet of the sweep.
 * Way: upload.c, send.c -> here -> PUTs. fsck asks and dooms.
 * Thread: core.
 * Owns: the table of blobs that a writer found to be there (talloc child of the volume).
 * Holds: 1. a blob's name is the hash of its content: what is there is the same.
 *        2. from the moment a writer relies on a blob that was there, this process does not sweep it.
 *        3. a writer that finds a blob which is just being deleted writes it again afterwards.
 */
#include "upload.h"

#include <stdlib.h>
#include <string.h>

#include "../core/volume.h"
#include "../mirror/snapshot.h"

#define AGAIN_NS (200 * NS_PER_MS)

struct blobs_known {
	uint8_t (*slots)[32]; /* open addressing; all zero: free */
	size_t count, mask;
	uint8_t doomed[32];
	bool dooms;
};

static uint8_t *known_slot(const struct blobs_known *k, const uint8_t sha256[32])
{
	static const uint8_t none[32];
	size_t i;

	memcpy(&i, sha256, sizeof(i));
	for (i &= k->mask; memcmp(k->slots[i], none, 32) != 0 && memcmp(k->slots[i], sha256, 32) != 0;) {
		i = (i + 1) & k->mask;
	}
	return k->slots[i];
}

static struct blobs_known *known_get(struct volume *v)
{
	if (v->blobs == NULL) {
		struct blobs_known *k = talloc_zero(v, struct blobs_known);

		if (k == NULL || (k->slots = talloc_zero_size(k, 64 * 32)) == NULL) {
			talloc_free(k);
			return NULL;
		}
		k->mask = 63;
		v->blobs = k;
	}
	return v->blobs;
}

static bool known_add(struct blobs_known *k, const uint8_t sha256[32])
{
	static const uint8_t none[32];

	if (2 * k->count > k->mask) {
		struct blobs_known grown = { .mask = 2 * k->mask + 1 };

		grown.slots = talloc_zero_size(k, (grown.mask + 1) * 32);
		if (grown.slots == NULL) {
			return false;
		}
		for (size_t i = 0; i <= k->mask; i++) {
			if (memcmp(k->slots[i], none, 32) != 0) {
				memcpy(known_slot(&grown, k->slots[i]), k->slots[i], 32);
			}
		}
		talloc_free(k->slots);
		k->slots = grown.slots;
		k->mask = grown.mask;
	}
	if (memcmp(known_slot(k, sha256), sha256, 32) != 0) {
		memcpy(known_slot(k, sha256), sha256, 32);
		k->count++;
	}
	return true;
}

bool blobs_reused(const struct volume *v, const uint8_t sha256[32])
{
	return v->blobs != NULL && memcmp(known_slot(v->blobs, sha256), sha256, 32) == 0;
}

bool blobs_doom(struct volume *v, const uint8_t *sha256)
{
	struct blobs_known *k = known_get(v);

	if (k == NULL) {
		return false;
	}
	k->dooms = sha256 != NULL;
	if (sha256 == NULL) {
		return true;
	}
	memcpy(k->doomed, sha256, sizeof(k->doomed));
	k->dooms = !blobs_reused(v, sha256);
	return k->dooms;
}

/* --- writing --- */

struct blobs {
	struct volume *v;
	unsigned left;
	enum obj_status status;
	char *message;
	void (*done)(enum obj_status status, const char *message, void *arg);
	void *arg;
};

struct blob { /* one of them; talloc child of blobs */
	struct blobs *all;
	struct obj_req *req; /* it waits for a deletion */
	uint8_t sha256[32];
};

static int blob_destroy(struct blob *b)
{
	objstore_req_free(&b->req);
	return 0;
}

static void blob_again(void *arg)
{
	struct blob *b = arg;
	struct obj_req *req = b->req;

	b->req = NULL;
	objstore_submit(b->all->v->store, req);
}

/* It was there. true: it is just being deleted, and is put again afterwards. */
static bool blob_found(struct blob *b, struct obj_req *req)
{
	struct volume *v = b->all->v;
	struct blobs_known *k = known_get(v);
	bool doomed = k != NULL && k->dooms && memcmp(k->doomed, b->sha256, 32) == 0;

	if (k == NULL || doomed || !known_add(k, b->sha256)) {
		b->req = req;
		if (clock_timer_add(v->clock, b, clock_now_ns(v->clock) + AGAIN_NS, blob_again, b) != NULL) {
			return true;
		}
		b->req = NULL;
		req->result.status = OBJ_LOCAL;
	}
	return false;
}

static void blob_put_done(struct obj_req *req)
{
	struct blob *one = req->arg;
	struct blobs *b = one->all;

	if (req->result.status == OBJ_PRECONDITION && blob_found(one, req)) {
		return;
	}
	if (req->result.status != OBJ_OK && req->result.status != OBJ_PRECONDITION && b->status == OBJ_OK) {
		b->status = req->result.status;
		b->message = talloc_strdup(b, req->result.message ? req->result.message : "");
	}
	objstore_req_free(&req);
	if (--b->left == 0) {
		b->done(b->status, b->message, b->arg);
		talloc_free(b);
	}
}

static struct obj_req *blob_request(struct blobs *b, const struct snapshot_xattr *x)
{
	struct blob *one = talloc_zero(b, struct blob);
	char *key = objmeta_blob_key(b->v->prefix, x->sha256);
	struct obj_req *req = one != NULL && key != NULL ? objstore_req_new(OBJ_PUT, key) : NULL;

	free(key);
	if (req == NULL || (req->body = malloc(x->len + 1)) == NULL) {
		objstore_req_free(&req);
		return NULL;
	}
	talloc_set_destructor(one, blob_destroy);
	one->all = b;
	memcpy(one->sha256, x->sha256, sizeof(one->sha256));
	memcpy(req->body, x->value, x->len);
	req->length = x->len;
	req->if_none_match = true;
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = blob_put_done;
	req->arg = one;
	return req;
}

void upload_blobs(struct volume *v, const struct snapshot *s,
		void (*done)(enum obj_status status, const char *message, void *arg), void *arg)
{
	struct blobs *b = talloc_zero(v, struct blobs);
	struct obj_req **reqs = b != NULL ? talloc_zero_array(b, struct obj_req *,
			(s != NULL ? s->xattr_count : 0) + 1) : NULL;
	unsigned n = 0;
	enum obj_status st = reqs != NULL ? OBJ_OK : OBJ_LOCAL;

	for (unsigned i = 0; st == OBJ_OK && s != NULL && i < s->xattr_count; i++) {
		b->v = v;
		if (s->xattrs[i].is_blob && s->xattrs[i].value != NULL &&
				(reqs[n++] = blob_request(b, &s->xattrs[i])) == NULL) {
			st = OBJ_LOCAL;
			n--;
		}
	}
	if (st != OBJ_OK || n == 0) {
		while (n > 0) {
			objstore_req_free(&reqs[--n]);
		}
		talloc_free(b);
		done(st, st == OBJ_OK ? NULL : "out of memory", arg);
		return;
	}
	b->done = done;
	b->arg = arg;
	b->left = n;
	for (unsigned i = 0; i < n; i++) {
		objstore_submit(v->store, reqs[i]);
	}
}
