/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: ask the bucket whose volume it holds, who served it, and whether it may be used, before anything is
 * changed here; then say there that the lost host serves no more.
 * Way: recover.c -> here -> the object store, on a loop of its own. Thread: the only one of ours; the
 * store has its own. Owns: the store, while it is asked.
 * Holds: 1. until there was a yes nothing is written but what the probe writes and removes; a volume that is
 *           not there is not made;
 *        2. what is said of a node is written over what was read of it, and over nothing newer, where the store
 *           honours that condition (some refuse each).
 */
#include "recover.h"

#include <stdio.h>
#include <string.h>
#include <tevent.h>
#include "../core/nodes.h"
#include "../core/trust.h"
#include "../core/volrec.h"
#include "../core/volume_store.h"
#include "shared/record.h"
#include "shared/version.h"

struct bucket { /* talloc */
	struct recover *r;
	struct tevent_context *ev;
	struct objstore *store;
	bool done;
};

static int bucket_close(struct bucket *b)
{
	TALLOC_FREE(b->store); /* before the loop it speaks to */
	return 0;
}

/* What is signed can be told from here on. */
static void bucket_trusts(struct bucket *b)
{
	const json_t *said = json_object_get(b->r->record, TRUST_MEMBER);

	trust_set(b->store, &b->r->uuid, json_integer_value(json_object_get(said, "since")));
}

/* NULL: refused. */
static struct bucket *bucket_open(struct recover *r)
{
	struct bucket *b = talloc_zero(r, struct bucket);
	struct mailbox *mb = NULL;
	char *error = NULL;

	if (b != NULL) {
		talloc_set_destructor(b, bucket_close);
		b->r = r;
		b->ev = tevent_context_init(b);
		mb = b->ev != NULL ? mailbox_new(b, b->ev) : NULL;
	}
	if (mb != NULL) {
		b->store = volume_store_new(b, mb, r->cv, "objectfs/" OFS_VERSION " recover", &error);
	}
	if (b == NULL || b->store == NULL) {
		recover_refuse(r, "%s", error != NULL ? error : "out of memory");
		talloc_free(b);
		return NULL;
	}
	if (r->record != NULL) {
		bucket_trusts(b);
	}
	return b;
}

static void wait_for(struct bucket *b)
{
	while (!b->done && tevent_loop_once(b->ev) == 0) {
	}
	b->done = false;
}

static void on_done(struct obj_req *req)
{
	((struct bucket *)req->arg)->done = true;
}

/* The request with its result, for the caller to free; NULL: no memory. */
static struct obj_req *bucket_ask(struct bucket *b, struct obj_req *req)
{
	if (req != NULL) {
		req->done = on_done;
		req->arg = b;
		objstore_submit(b->store, req);
		wait_for(b);
	}
	return req;
}

static struct obj_req *bucket_get(struct bucket *b, const char *key)
{
	struct obj_req *req = objstore_req_new(OBJ_GET, key);

	if (req != NULL) {
		req->length = -1;
	}
	return bucket_ask(b, req);
}

static const char *said(const struct obj_req *req)
{
	if (req == NULL) {
		return "out of memory";
	}
	return req->result.message != NULL ? req->result.message
			: objstore_status_name(req->result.status);
}

static bool is(const struct obj_req *req, enum obj_status status)
{
	return req != NULL && req->result.status == status;
}

/* ---- the record ---- */

static void bucket_record(struct bucket *b)
{
	struct recover *r = b->r;
	char *key = talloc_asprintf(b, "%s%s", r->cv->prefix, VOLREC_KEY), *why = NULL;
	struct obj_req *req = bucket_get(b, key);
	int64_t created_ns;

	if (is(req, OBJ_NOT_FOUND)) {
		recover_refuse(r, "there is no volume at s3://%s/%s (no %s there); a new one is made by "
				"QUICKSTART.md", r->bucket, r->prefix, key);
	} else if (!is(req, OBJ_OK)) {
		recover_refuse(r, "the bucket cannot be read: %s", said(req));
	} else if (volrec_parse(r, (const char *)req->result.body, req->result.body_len, &r->uuid,
				&created_ns, &why) != 0) {
		recover_refuse(r, "%s", why != NULL ? why : "the volume record is damaged");
	} else if (trust_is_signed(b->store) && req->result.proof != OBJ_PROOF_GOOD) {
		recover_refuse(r, "the volume record %s is not signed with a key of %s: put the key of the lost host "
				"there (RECOVERY.md)", key, r->cv->signing_key_file);
	} else {
		r->record = json_loadb(
				(const char *)req->result.body, req->result.body_len, 0, NULL);
		bucket_trusts(b);
	}
	if (r->record != NULL && !trust_is_signed(b->store) && volrec_is_signed(r->record)) {
		recover_refuse(r, "the volume's metadata are signed, and there is no key here: put a section [volume "
				"%s] with trust metadata = signed and signing key file into %s first "
				"(RECOVERY.md)", r->name, r->o->conf);
	}
	objstore_req_free(&req);
}

static void on_probe(enum obj_status status, const char *message, void *arg)
{
	struct bucket *b = arg;

	b->done = true;
	b->r->put_if_match = b->store->caps.put_if_match;
	if (status != OBJ_OK) {
		recover_refuse(b->r, "the bucket cannot be used: %s",
				message != NULL ? message : objstore_status_name(status));
	}
}

/* ---- who served ---- */

/* What a node says, and its ETag; NULL: nothing that can be read. New reference. */
static json_t *node_read(struct bucket *b, const char *key, char **etag)
{
	struct obj_req *req = bucket_get(b, key);
	json_t *doc = NULL;

	if (is(req, OBJ_OK)) {
		doc = json_loadb((const char *)req->result.body, req->result.body_len,
				JSON_REJECT_DUPLICATES, NULL);
		*etag = talloc_strdup(b, req->result.etag != NULL ? req->result.etag : "");
	}
	objstore_req_free(&req);
	return doc;
}

static void bucket_node(struct bucket *b, const char *key)
{
	const char *id = strrchr(key, '/');
	struct ofs_oid oid;
	char *etag;
	json_t *doc;

	if (id == NULL || strlen(id + 1) != OFS_OID_HEX_BYTES - 1 || !ofs_oid_parse(id + 1, &oid)) {
		return; /* not a node's */
	}
	doc = node_read(b, key, &etag);
	if (json_is_true(json_object_get(doc, "serving"))) {
		recover_retire(b->r, key, text_of(doc, "host"));
	}
	json_decref(doc);
}

static void bucket_nodes(struct bucket *b)
{
	char *place = talloc_asprintf(b, "%s" NODES_PLACE, b->r->cv->prefix), *token = NULL;

	do {
		struct obj_req *req = objstore_req_new(OBJ_LIST, place);

		if (req != NULL) {
			req->token = token;
		}
		token = NULL;
		req = bucket_ask(b, req);
		if (!is(req, OBJ_OK)) {
			recover_refuse(b->r, "the bucket cannot be listed: %s", said(req));
		}
		for (unsigned i = 0; is(req, OBJ_OK) && i < req->result.entry_count; i++) {
			bucket_node(b, req->result.entries[i].key);
		}
		if (is(req, OBJ_OK)) {
			token = req->result.next_token;
			req->result.next_token = NULL;
		}
		objstore_req_free(&req);
	} while (token != NULL);
}

static bool node_serves(struct bucket *b, const char *key)
{
	char *etag;
	json_t *doc = node_read(b, key, &etag);
	bool serves = !json_is_false(json_object_get(doc, "serving"));

	json_decref(doc);
	return serves;
}

bool recover_retired(struct recover *r, const char *key)
{
	struct bucket *b = bucket_open(r);
	struct obj_req *req = NULL;
	char *etag = NULL;
	json_t *doc = b != NULL ? node_read(b, key, &etag) : NULL;
	bool good = false;

	if (doc != NULL && json_object_set_new(doc, "serving", json_false()) == 0) {
		req = objstore_req_new(OBJ_PUT, key);
	}
	if (req != NULL) {
		req->body = (uint8_t *)json_dumps(doc, JSON_INDENT(1));
		req->length = req->body != NULL ? (int64_t)strlen((const char *)req->body) : 0;
		req->content_type = strdup("application/json");
		req->if_match = r->put_if_match && etag[0] != '\0' ? strdup(etag) : NULL;
		req = bucket_ask(b, req);
		good = is(req, OBJ_OK) || (is(req, OBJ_UNKNOWN) && !node_serves(b, key));
	}
	if (!good) {
		fprintf(stderr, "objectfsctl: ");
		print_safe_to(stderr, key);
		fprintf(stderr, ": %s\n", doc != NULL ? said(req) : "it cannot be read any more");
	}
	objstore_req_free(&req);
	json_decref(doc);
	talloc_free(b);
	return good;
}

bool recover_bucket(struct recover *r)
{
	struct bucket *b = bucket_open(r);

	if (b == NULL) {
		return false;
	}
	bucket_record(b);
	if (r->record != NULL) {
		objstore_probe(b->store, r->cv->prefix, on_probe, b);
		wait_for(b);
		bucket_nodes(b);
	}
	talloc_free(b);
	return r->refusals[0] == '\0';
}
