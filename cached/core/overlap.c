/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: no volume within another, and none twice: at the start of one, look for the record of another above its prefix, and,
 *       before its own record is made, below.
 * Way: core/volume.c before the probe, volrec.c before it creates -> GET of each `.objectfs/volume` above;
 *      LIST below -> done.
 * Thread: core.
 * Owns: one struct overlap until its answer; freed with the volume, its request finds NULL then.
 * Holds: 1. nothing is written, here or there;
 *        2. whoever starts second is refused. Below, OVERLAP_PAGES of keys are looked at; a volume further
 *           down refuses at its own next start, when it looks above.
 */
#include "overlap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core.h"
#include "volrec.h"
#include "volume.h"

#define OVERLAP_PAGES 10u

struct overlap {
	struct volume *v;
	struct overlap_req *req; /* in flight, or NULL */
	size_t cut;              /* above: bytes of our prefix that make the one asked for */
	char *key;
	unsigned pages;
	void (*done)(int status, const char *message, void *arg);
	void *arg;
};
struct overlap_req { /* malloc: outlives the volume if it must */
	struct overlap *o;
};

static void overlap_end(struct overlap *o, int status, const char *message)
{
	o->done(status, message, o->arg); /* message may hang off o */
	talloc_free(o);
}

static int overlap_destroy(struct overlap *o)
{
	if (o->req != NULL) {
		o->req->o = NULL;
	}
	return 0;
}

static struct overlap *overlap_new(struct volume *v, void (*done)(int status, const char *message, void *arg),
		void *arg)
{
	struct overlap *o = talloc_zero(v, struct overlap);

	if (o == NULL) {
		done(-ENOMEM, "out of memory", arg);
		return NULL;
	}
	o->v = v;
	o->done = done;
	o->arg = arg;
	talloc_set_destructor(o, overlap_destroy);
	return o;
}

static void overlap_submit(struct overlap *o, struct obj_req *req, void (*done)(struct obj_req *))
{
	struct overlap_req *link = req != NULL ? calloc(1, sizeof(*link)) : NULL;

	if (link == NULL) {
		objstore_req_free(&req);
		overlap_end(o, -ENOMEM, "out of memory");
		return;
	}
	link->o = o;
	o->req = link;
	req->prio = OBJ_PRIO_READER;
	req->rights_told = true;
	req->arg = link;
	req->done = done;
	objstore_submit(o->v->store, req);
}

/* The one waiting for this answer, or NULL; the link ends. */
static struct overlap *overlap_answered(struct obj_req *req)
{
	struct overlap_req *link = req->arg;
	struct overlap *o = link->o;

	free(link);
	if (o != NULL) {
		o->req = NULL;
	}
	return o;
}

static void overlap_found(struct overlap *o, const char *which, const char *prefix)
{
	char *message = talloc_asprintf(o,
			"the prefix \"%s\" lies %s another volume, \"%s\" in %s: volumes must not lie within each "
			"other; use a prefix that neither begins with another volume's nor is the beginning of it",
			o->v->prefix, which, prefix, o->v->store->where);

	overlap_end(o, -ESTALE, message != NULL ? message : "the volume overlaps with another");
}

/* ---- above ---- */

static void above_next(struct overlap *o);

static void above_read(struct obj_req *req)
{
	struct overlap *o = overlap_answered(req);
	const struct obj_result *r = &req->result;
	int64_t created_ns;
	struct ofs_oid uuid;
	char *why;
	int ret;

	if (o == NULL) {
		objstore_req_free(&req);
		return;
	}
	if (r->status == OBJ_OK) {
		ret = volrec_parse(o, (const char *)r->body, r->body_len, &uuid, &created_ns, &why);
		if (ret != -EBADMSG) {
			char *prefix = talloc_strndup(o, o->v->prefix, o->cut);

			objstore_req_free(&req);
			overlap_found(o, "within", prefix != NULL ? prefix : "");
			return;
		}
	} else if (objstore_status_transient(r->status)) {
		char *text = talloc_strdup(o, r->message != NULL ? r->message : objstore_status_name(r->status));

		objstore_req_free(&req);
		overlap_end(o, -EAGAIN, text);
		return;
	}
	objstore_req_free(&req);
	above_next(o);
}

/* The next shorter prefix. */
static void above_next(struct overlap *o)
{
	const char *prefix = o->v->prefix;
	char *key;
	struct obj_req *req;

	if (o->cut == 0) {
		overlap_end(o, 0, NULL);
		return;
	}
	for (o->cut--; o->cut > 0 && prefix[o->cut - 1] != '/'; o->cut--) {
	}
	key = talloc_asprintf(o, "%.*s" VOLREC_KEY, (int)o->cut, prefix);
	req = key != NULL ? objstore_req_new(OBJ_GET, key) : NULL;
	talloc_free(key);
	if (req != NULL) {
		req->length = -1;
	}
	overlap_submit(o, req, above_read);
}

void overlap_above(struct volume *v, void (*done)(int status, const char *message, void *arg), void *arg)
{
	struct overlap *o = overlap_new(v, done, arg);

	if (o != NULL) {
		o->cut = strlen(v->prefix);
		above_next(o);
	}
}

/* ---- below ---- */

static void below_page(struct overlap *o, const char *token);

static bool is_record(const struct overlap *o, const char *key)
{
	size_t own = strlen(o->v->prefix), len = strlen(key), end = strlen("/" VOLREC_KEY);

	return len > own + end && strcmp(key + len - end, "/" VOLREC_KEY) == 0;
}

static void below_listed(struct obj_req *req)
{
	struct overlap *o = overlap_answered(req);
	const struct obj_result *r = &req->result;
	char *token = NULL;

	if (o == NULL) {
		objstore_req_free(&req);
		return;
	}
	for (unsigned i = 0; r->status == OBJ_OK && i < r->entry_count; i++) {
		const char *key = r->entries[i].key;

		if (key != NULL && is_record(o, key)) {
			char *prefix = talloc_strndup(o, key, strlen(key) - strlen(VOLREC_KEY));

			objstore_req_free(&req);
			overlap_found(o, "above", prefix != NULL ? prefix : "");
			return;
		}
	}
	if (r->status == OBJ_OK && r->next_token != NULL && ++o->pages < OVERLAP_PAGES) {
		token = talloc_strdup(o, r->next_token);
	}
	if (r->status != OBJ_OK) {
		char *text = talloc_strdup(o, r->message != NULL ? r->message : objstore_status_name(r->status));

		objstore_req_free(&req);
		overlap_end(o, -EAGAIN, text);
		return;
	}
	objstore_req_free(&req);
	if (token != NULL) {
		below_page(o, token);
	} else {
		overlap_end(o, 0, NULL);
	}
}

static void below_page(struct overlap *o, const char *token)
{
	struct obj_req *req = objstore_req_new(OBJ_LIST, o->v->prefix);

	if (req != NULL && token != NULL && (req->token = strdup(token)) == NULL) {
		objstore_req_free(&req);
	}
	overlap_submit(o, req, below_listed);
}

void overlap_below(struct volume *v, void (*done)(int status, const char *message, void *arg), void *arg)
{
	struct overlap *o = overlap_new(v, done, arg);

	if (o != NULL) {
		below_page(o, NULL);
	}
}

/* ---- beside ---- */

const struct volume *overlap_twin(const struct core *core, const struct volume *v)
{
	for (unsigned i = 0; i < core->volume_count; i++) {
		const struct volume *other = core->volumes[i];

		if (other != v && other->served && ofs_oid_equal(&other->uuid, &v->uuid)) {
			return other;
		}
	}
	return NULL;
}
