/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: refuse another customer's key at the start, before anything is written with it.
 * Way: volume.c, with encryption = customer -> here -> `.objectfs/key`: read before the volume record is; if it is
 *      absent, made and read once the record is known to be ours.
 * Thread: core.
 * Owns: its request.
 * Holds: 1. the store compares the keys: no hash of one is kept anywhere;
 *        2. what cannot be told now is asked again, as the volume record is.
 */
#include "keycheck.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEYCHECK_TEXT "Encrypted with the volume's customer key, as all objects that it writes.\n"
#define KEYCHECK_TRIES 3

struct keycheck {
	struct volume *v;
	char *key;
	bool make;
	unsigned tries;
	void (*done)(int status, const char *message, void *arg);
	void *arg;
};

static void keycheck_get(struct keycheck *k);

static void keycheck_end(struct keycheck *k, int status, const char *message)
{
	k->done(status, message, k->arg);
	talloc_free(k);
}

static void keycheck_submit(struct keycheck *k, struct obj_req *req, void (*done)(struct obj_req *))
{
	if (req == NULL) {
		keycheck_end(k, -EAGAIN, "out of memory");
		return;
	}
	req->prio = OBJ_PRIO_READER;
	req->done = done;
	req->arg = k;
	objstore_submit(k->v->store, req);
}

static void keycheck_failed(struct keycheck *k, const struct obj_result *r)
{
	const char *why = r->message != NULL ? r->message : objstore_status_name(r->status);

	keycheck_end(k, objstore_status_transient(r->status) ? -EAGAIN
			: r->status == OBJ_DENIED            ? -EACCES
							     : -EIO, why);
}

static void keycheck_made(struct obj_req *req)
{
	struct keycheck *k = req->arg;

	if (req->result.status == OBJ_OK || req->result.status == OBJ_PRECONDITION ||
			req->result.status == OBJ_CONFLICT || req->result.status == OBJ_UNKNOWN) {
		keycheck_get(k);
	} else {
		keycheck_failed(k, &req->result);
	}
	objstore_req_free(&req);
}

static void keycheck_seen(struct obj_req *req)
{
	struct keycheck *k = req->arg;
	const struct obj_result *r = &req->result;
	struct obj_req *put;
	char *why;

	if (r->status == OBJ_OK && r->customer) {
		keycheck_end(k, 0, NULL);
	} else if (r->status == OBJ_OK || r->status == OBJ_INVALID || r->status == OBJ_DENIED) {
		why = talloc_asprintf(k, "the customer key file holds another key than this volume was "
				"written with: the store does not give out %s with it%s%s; bring the "
				"right one, nothing was written", k->key, r->message ? ": " : "",
				r->message ? r->message : "");
		keycheck_end(k, -EBADMSG, why);
	} else if (r->status == OBJ_NOT_FOUND && !k->make) {
		keycheck_end(k, -ENOENT, NULL);
	} else if (r->status == OBJ_NOT_FOUND && ++k->tries <= KEYCHECK_TRIES) {
		put = objstore_req_new(OBJ_PUT, k->key);
		if (put != NULL) {
			put->body = (uint8_t *)strdup(KEYCHECK_TEXT);
			put->length = put->body != NULL ? (int64_t)strlen(KEYCHECK_TEXT) : 0;
			put->content_type = strdup("text/plain");
			put->if_none_match = true;
		}
		keycheck_submit(k, put, keycheck_made);
	} else {
		keycheck_failed(k, r);
	}
	objstore_req_free(&req);
}

static void keycheck_get(struct keycheck *k)
{
	struct obj_req *req = objstore_req_new(OBJ_GET, k->key);

	if (req != NULL) {
		req->length = -1;
		req->rights_told = true;
	}
	keycheck_submit(k, req, keycheck_seen);
}

void keycheck_open(struct volume *v, bool make, void (*done)(int status, const char *message, void *arg), void *arg)
{
	struct keycheck *k = talloc_zero(v, struct keycheck);

	if (k == NULL || (k->key = talloc_asprintf(k, "%s.objectfs/key", v->prefix)) == NULL) {
		talloc_free(k);
		done(-EAGAIN, "out of memory", arg);
		return;
	}
	k->v = v;
	k->make = make;
	k->done = done;
	k->arg = arg;
	keycheck_get(k);
}
