/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: ask the bucket whose volume it holds, and whether it may be used, before anything is changed here.
 * Way: recover.c -> here -> the object store, on a loop of its own. Thread: the only one of ours; the
 * store has its own. Owns: the store, while it is asked.
 * Holds: writes nothing but what the probe writes and removes: a volume that is not there is not made.
 */
#include "recover.h"

#include <string.h>
#include <tevent.h>
#include "../core/volrec.h"
#include "../core/volume_store.h"
#include "shared/record.h"
#include "shared/version.h"

struct asked {
	struct recover *r;
	bool done;
};

static void on_record(struct obj_req *req)
{
	struct asked *a = req->arg;
	struct obj_result *res = &req->result;
	struct ofs_oid uuid;
	int64_t created_ns;
	char *why = NULL;

	a->done = true;
	if (res->status == OBJ_NOT_FOUND) {
		recover_refuse(a->r, "there is no volume at s3://%s/%s (no %s there); a new one is made by "
				"QUICKSTART.md", a->r->bucket, a->r->prefix, req->key);
	} else if (res->status != OBJ_OK) {
		recover_refuse(a->r, "the bucket cannot be read: %s", res->message != NULL
				? res->message : objstore_status_name(res->status));
	} else if (volrec_parse(a->r, (const char *)res->body, res->body_len, &uuid, &created_ns,
				&why) != 0) {
		recover_refuse(a->r, "%s", why != NULL ? why : "the volume record is damaged");
	} else {
		a->r->record = json_loadb((const char *)res->body, res->body_len, 0, NULL);
	}
	objstore_req_free(&req);
}

static void on_probe(enum obj_status status, const char *message, void *arg)
{
	struct asked *a = arg;

	a->done = true;
	if (status != OBJ_OK) {
		recover_refuse(a->r, "the bucket cannot be used: %s",
				message != NULL ? message : objstore_status_name(status));
	}
}

static void wait_for(struct tevent_context *ev, struct asked *a)
{
	while (!a->done && tevent_loop_once(ev) == 0) {
	}
	a->done = false;
}

bool recover_bucket(struct recover *r)
{
	struct tevent_context *ev = tevent_context_init(r);
	struct mailbox *mb = ev != NULL ? mailbox_new(ev, ev) : NULL;
	struct asked a = {.r = r};
	struct objstore *store = NULL;
	struct obj_req *req = NULL;
	char *error = NULL, *key = talloc_asprintf(r, "%s%s", r->cv->prefix, VOLREC_KEY);

	if (mb != NULL && key != NULL) {
		store = volume_store_new(ev, mb, r->cv, "objectfs/" OFS_VERSION " recover", &error);
		req = objstore_req_new(OBJ_GET, key);
	}
	if (store == NULL || req == NULL) {
		recover_refuse(r, "%s", error != NULL ? error : "out of memory");
		objstore_req_free(&req);
		goto out;
	}
	req->length = -1;
	req->done = on_record;
	req->arg = &a;
	objstore_submit(store, req);
	wait_for(ev, &a);
	if (r->record != NULL) {
		objstore_probe(store, r->cv->prefix, on_probe, &a);
		wait_for(ev, &a);
	}
out:
	talloc_free(store);
	talloc_free(ev);
	return r->refusals[0] == '\0';
}
