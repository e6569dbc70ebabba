/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: large values of metadata to S3, before what names them; and not under the feet of the sweep.
 * Way: upload.c, send.c -> here -> PUTs. fsck asks and dooms.
 * Thread: core.
 * Owns: the table of blobs that a writer found to be there, the list of those that are on their way (talloc
 *       children of the volume).
 * Holds: 1. a blob's name is the hash of its content: what is there is the same.
 *        2. what a writer sends is not swept by this process while it is on its way; what was there, or may have
 *           been (a store without conditions says of no PUT that something was), never.
 *        3. a writer that comes while a blob is being deleted waits until it is.
 */
#include "upload.h"

#include <stdlib.h>
#include <string.h>

#include "../core/volume.h"
#include "../mirror/snapshot.h"

#define AGAIN_NS (200 * NS_PER_MS)

struct blob;

struct blobs_known {
	uint8_t (*slots)[32]; /* open addressing; all zero: free */
	size_t count, mask;
	uint8_t doomed[32];
	bool dooms;
	struct blob *sent;
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

static int known_gone(struct blobs_known *k);

static struct blobs_known *known_get(struct volume *v)
{
	if (v->blobs == NULL) {
		struct blobs_known *k = talloc_zero(v, struct blobs_known);

		k->slots = talloc_zero_size(k, 64 * 32);
		k->mask = 63;
		talloc_set_destructor(k, known_gone);
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

struct blobs {
	struct volume *v;
	unsigned left;
	enum obj_status status;
	char *message;
	void (*done)(enum obj_status status, const char *message, void *arg);
	void *arg;
};

struct blob { /* one of them; talloc child of blobs */
	struct blob *next, **prev; /* of those on their way */
	struct blobs *all;
	struct obj_req *req; /* it waits for a deletion */
	uint8_t sha256[32];
};

/* --- asked by the sweep --- */

bool blobs_doom(struct volume *v, const uint8_t *sha256)
{
	struct blobs_known *k = known_get(v);

	k->dooms = false;
	if (sha256 == NULL) {
		return true;
	}
	for (const struct blob *b = k->sent; b != NULL; b = b->next) {
		if (memcmp(b->sha256, sha256, 32) == 0) {
			return false;
		}
	}
	memcpy(k->doomed, sha256, sizeof(k->doomed));
	k->dooms = memcmp(known_slot(k, sha256), sha256, 32) != 0;
	return k->dooms;
}

/* --- writing --- */

static void blob_unlink(struct blob *b)
{
	if (b->prev != NULL) {
		*b->prev = b->next;
	}
	if (b->next != NULL) {
		b->next->prev = b->prev;
	}
	b->next = NULL;
	b->prev = NULL;
}

static int known_gone(struct blobs_known *k)
{
	while (k->sent != NULL) {
		blob_unlink(k->sent);
	}
	return 0;
}

static int blob_destroy(struct blob *b)
{
	blob_unlink(b);
	objstore_req_free(&b->req);
	return 0;
}

static void blob_wait(struct blob *b, struct obj_req *req);

static void blob_put_done(struct obj_req *req)
{
	struct blob *one = req->arg;
	struct blobs *b = one->all;
	bool there = req->result.status == OBJ_PRECONDITION ||
		     (req->result.status == OBJ_OK && objstore_unfenced(b->v->store));

	if (there && !known_add(b->v->blobs, one->sha256)) {
		blob_wait(one, req);
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

static void blob_send(void *arg)
{
	struct blob *b = arg;
	struct blobs_known *k = b->all->v->blobs;
	struct obj_req *req = b->req;

	b->req = NULL;
	if (k->dooms && memcmp(k->doomed, b->sha256, sizeof(k->doomed)) == 0) {
		blob_wait(b, req);
	} else {
		objstore_submit(b->all->v->store, req);
	}
}

/* It is just being deleted. */
static void blob_wait(struct blob *b, struct obj_req *req)
{
	struct clock *clock = b->all->v->clock;

	b->req = req;
	clock_timer_add(clock, b, clock_now_ns(clock) + AGAIN_NS, blob_send, b);
}

static struct obj_req *blob_request(struct blobs *b, const struct snapshot_xattr *x)
{
	struct blobs_known *k = known_get(b->v);
	struct blob *one = talloc_zero(b, struct blob);
	char *key = objmeta_blob_key(b->v->prefix, x->sha256);
	struct obj_req *req = objstore_req_new(OBJ_PUT, key);

	free(key);
	req->body = malloc(x->len + 1);
	one->next = k->sent;
	one->prev = &k->sent;
	if (one->next != NULL) {
		one->next->prev = &one->next;
	}
	k->sent = one;
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
	unsigned count = s != NULL ? s->xattr_count : 0, n = 0;
	struct obj_req **reqs = talloc_zero_array(b, struct obj_req *, count + 1);

	b->v = v;
	for (unsigned i = 0; i < count; i++) {
		if (s->xattrs[i].is_blob && s->xattrs[i].value != NULL) {
			reqs[n++] = blob_request(b, &s->xattrs[i]);
		}
	}
	if (n == 0) {
		talloc_free(b);
		done(OBJ_OK, NULL, arg);
		return;
	}
	b->done = done;
	b->arg = arg;
	b->left = n;
	for (unsigned i = 0; i < n; i++) {
		((struct blob *)reqs[i]->arg)->req = reqs[i];
		blob_send(reqs[i]->arg);
	}
}
