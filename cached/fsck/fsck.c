/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: look at everything in the bucket once, and say what is not as it should be.
 * Way: admin_fsck.c -> who else serves, the log anew -> LIST, a HEAD for each object -> blobs (fsck_blobs.c) ->
 *      rows (fsck_rows.c) -> uploads -> the sweep's notes -> the answer.
 * Thread: core. Owns: struct fsck until the answer.
 * Holds: 1. what could not be asked is no finding; where a reference may be missing nothing is swept.
 *        2. nothing that a client wrote is deleted: only what a write of ours left beside it.
 *        3. what changes while it looks is asked for once more before it is called wrong.
 */
#include "private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "../base/log.h"
#include "../base/stats.h"
#include "../upload/begun.h"

#define FOLD_LOOK_NS (200 * NS_PER_MS)
#define LEFT_BY_STARTS_NS(f) ((f)->older_ns < 86400 * NS_PER_S ? (f)->older_ns : 86400 * NS_PER_S)
#define UPLOADS_AT_ONCE 100 /* they are ended one by one */
#define SWEEP_FORMAT "objectfs sweep 1"

static void list_page(struct fsck *f, const char *token);

/* --- what is found --- */

void fsck_found(struct fsck *f, const char *kind, const char *key, const char *mend,
		const char *fmt, ...)
{
	char detail[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(detail, sizeof(detail), fmt, ap);
	va_end(ap);
	f->wrong++;
	stats_add(fsck_found, 1);
	log_notice("fsck", "volume %s: %s: %s: %s", f->v->name, kind, key, detail);
	if (json_array_size(f->findings) < FSCK_FINDINGS_MOST) {
		json_t *k = json_string(key), *d = json_string(detail); /* not every key is text */

		json_array_append_new(f->findings, json_pack("{s:s, s:o, s:o, s:s?}", "kind", kind, "key",
				k != NULL ? k : json_string("?"), "detail", d != NULL ? d : json_string("?"),
				"mend", mend));
	}
}

void fsck_mended(struct fsck *f)
{
	f->mended++;
	stats_add(fsck_mended, 1);
}

void fsck_unseen(struct fsck *f, const char *what, const struct obj_req *req)
{
	const struct obj_result *r = &req->result;

	f->readable = false;
	log_warning("fsck", "volume %s: %s %s: %s", f->v->name, what, req->key,
			r->message != NULL ? r->message : objstore_status_name(r->status));
}

void fsck_failed(struct fsck *f, const char *doing, const struct obj_req *req)
{
	f->complete = false;
	fsck_unseen(f, doing, req);
}

struct obj_req *fsck_request(struct fsck *f, enum obj_op op, const char *key,
		void (*done)(struct obj_req *), void *arg)
{
	struct obj_req *req = objstore_req_new(op, key);

	if (req == NULL) {
		f->complete = f->readable = false;
		return NULL;
	}
	req->length = -1;
	req->prio = OBJ_PRIO_HOUSE;
	req->done = done;
	req->arg = arg;
	return req;
}

int64_t fsck_store_now_ns(const struct fsck *f)
{
	return objstore_now_ns(f->v->store, f->v->clock);
}

json_t *fsck_progress(const struct volume *v)
{
	const struct fsck *f = v->fsck;

	return f == NULL ? NULL : json_pack("{s:s, s:I, s:I, s:I}", "phase", f->phase, "objects",
			(json_int_t)f->objects, "blobs", (json_int_t)f->blob_count, "wrong",
			(json_int_t)f->wrong);
}

static void fsck_end(struct fsck *f)
{
	json_t *answer = json_pack("{s:s, s:b, s:b, s:I, s:I, s:o, s:b, s:I, s:I, s:i}", "volume",
			f->v->name, "complete", (int)f->readable, "repair",
			(int)f->repair, "objects", (json_int_t)f->objects, "blobs",
			(json_int_t)f->blob_count, "findings", json_incref(f->findings), "more",
			(int)(f->more || f->wrong > json_array_size(f->findings)), "wrong", (json_int_t)f->wrong,
			"mended", (json_int_t)f->mended, "swept", (int)f->swept);
	int status = f->readable ? 0 : -EIO;

	f->v->fsck = NULL;
	f->done(status, answer, f->arg);
	json_decref(f->findings);
	json_decref(f->notes);
	fsck_rows_free(f);
	talloc_free(f);
}

/* --- deleting what is left over --- */

struct fsck_gone {
	struct fsck *f;
	void (*next)(struct fsck *f);
};

static void on_gone(struct obj_req *req)
{
	struct fsck_gone *g = req->arg;
	struct fsck *f = g->f;
	void (*next)(struct fsck *) = g->next;

	if (req->result.status == OBJ_OK || req->result.status == OBJ_NOT_FOUND) {
		fsck_mended(f);
	}
	talloc_free(g);
	objstore_req_free(&req);
	f->running--;
	next(f);
}

/* etag NULL: whatever is there. */
static void remove_left(struct fsck *f, enum obj_op op, const char *key, const char *etag,
		const char *upload_id, void (*next)(struct fsck *f))
{
	struct fsck_gone *g = talloc_zero(f, struct fsck_gone);
	struct obj_req *req = g != NULL ? fsck_request(f, op, key, on_gone, g) : NULL;

	if (req == NULL) {
		return;
	}
	g->f = f;
	g->next = next;
	if (etag != NULL && f->v->store->caps.delete_if_match) {
		req->if_match = strdup(etag);
	}
	req->upload_id = upload_id != NULL ? strdup(upload_id) : NULL;
	f->running++;
	objstore_submit(f->v->store, req);
}

/* --- the sweep's notes, and the end --- */

static void on_notes_put(struct obj_req *req)
{
	struct fsck *f = req->arg;

	if (req->result.status != OBJ_OK) {
		log_info("fsck", "volume %s: %s is not written: %s", f->v->name, req->key,
				objstore_status_name(req->result.status));
	}
	objstore_req_free(&req);
	fsck_end(f);
}

static void notes_put(struct fsck *f)
{
	char *key = talloc_asprintf(f, "%s.objectfs/sweep", f->v->prefix);
	json_t *doc = json_pack("{s:s, s:s, s:O}", "format", SWEEP_FORMAT, "node", f->v->node_id, "blobs",
			f->notes);
	struct obj_req *req = NULL;

	f->phase = "notes";
	if (f->repair && f->complete && key != NULL && doc != NULL &&
			(json_object_size(f->notes) > 0 || f->notes_etag != NULL)) {
		req = fsck_request(f, OBJ_PUT, key, on_notes_put, f);
	}
	if (req != NULL && (req->body = (uint8_t *)json_dumps(doc, JSON_COMPACT)) != NULL) {
		req->length = (int64_t)strlen((char *)req->body);
		req->if_match = f->notes_etag != NULL ? strdup(f->notes_etag) : NULL;
		req->if_none_match = f->notes_etag == NULL;
		objstore_submit(f->v->store, req);
	} else {
		objstore_req_free(&req);
		fsck_end(f);
	}
	json_decref(doc);
}

/* --- multipart uploads --- */

static void uploads_list(struct fsck *f, const char *token);

static void uploads_check(struct fsck *f)
{
	const struct obj_result *r = &f->uploads->result;
	int64_t now = fsck_store_now_ns(f);
	char *token;

	while (f->running == 0 && f->upload_next < r->entry_count) {
		const struct obj_entry *e = &r->entries[f->upload_next++];

		if (now - e->mtime_ns < f->older_ns || begun_knows(f->v, e->version_id)) {
			continue; /* the daemon ends its own: upload/begun.h */
		}
		fsck_found(f, "upload", e->key, "ended; its parts go",
				"a multipart upload that was begun long ago and not ended is paid for");
		if (f->repair) {
			remove_left(f, OBJ_MPU_ABORT, e->key, NULL, e->version_id, uploads_check);
		}
	}
	if (f->running > 0) {
		return;
	}
	token = r->next_token != NULL ? talloc_strdup(f, r->next_token) : NULL;
	f->readable &= (r->next_token == NULL) == (token == NULL);
	objstore_req_free(&f->uploads);
	if (token != NULL) {
		uploads_list(f, token);
		talloc_free(token);
	} else {
		notes_put(f);
	}
}

static void on_uploads(struct obj_req *req)
{
	struct fsck *f = req->arg;

	f->uploads = req;
	f->upload_next = 0;
	if (req->result.status != OBJ_OK) {
		fsck_unseen(f, "what is left of uploads below", req); /* the blobs' references are known all the same */
		free(req->result.next_token);
		req->result.next_token = NULL;
	}
	uploads_check(f);
}

static void uploads_list(struct fsck *f, const char *token)
{
	struct obj_req *req = fsck_request(f, OBJ_UPLOADS, f->v->prefix, on_uploads, f);

	f->phase = "uploads";
	if (req == NULL || (token != NULL && (req->token = strdup(token)) == NULL)) {
		objstore_req_free(&req);
		f->readable = false;
		notes_put(f);
		return;
	}
	req->rights_told = true;
	req->max_keys = UPLOADS_AT_ONCE;
	objstore_submit(f->v->store, req);
}

void fsck_blobs_over(struct fsck *f)
{
	f->phase = "rows";
	fsck_rows_check(f);
}

void fsck_rows_over(struct fsck *f)
{
	uploads_list(f, NULL);
}

/* --- objects --- */

static void page_go_on(struct fsck *f);

static void object_left(struct fsck *f, const struct obj_req *req, const char *mend, const char *kind,
		const char *detail)
{
	fsck_found(f, kind, req->key, mend, "%s", detail);
	if (f->repair && mend != NULL) {
		remove_left(f, OBJ_DELETE, req->key, req->result.etag, NULL, page_go_on);
	}
}

static void on_object(struct obj_req *req)
{
	struct fsck *f = req->arg;
	const struct obj_result *r = &req->result;
	struct objmeta m = {0};
	bool damaged = false;

	f->running--;
	f->objects += r->status == OBJ_OK;
	if (r->status == OBJ_OK) {
		objmeta_read(r, &m, &damaged);
	} else if (r->status != OBJ_NOT_FOUND) {
		fsck_failed(f, "asking for", req);
	}
	if (r->proof > OBJ_PROOF_GOOD) {
		f->complete = false; /* it may name blobs: with its key put back it would be believed */
		fsck_found(f, "unproven", req->key, NULL, "its metadata are not signed with the volume's key, and "
				"not believed: set its rights anew on the share, or restore an older version");
	}
	if (damaged) {
		f->complete = false; /* what it names is not known */
		fsck_found(f, "metadata", req->key, NULL, "its metadata is damaged or of a later version; it is "
				"not shown: restore an older version, or copy the object without its metadata");
	} else if (m.tombstone && fsck_store_now_ns(f) - r->mtime_ns >= FSCK_WRITING_NS(f)) {
		object_left(f, req, "deleted", "tombstone", "the remains of a delete");
	}
	if (m.snapshot != NULL) {
		fsck_blobs_named(f, &m.oid, m.snapshot);
	}
	objmeta_clear(&m);
	objstore_req_free(&req);
	page_go_on(f);
}

/* What is below .objectfs/ and no blob. true: it is asked for, as it may name blobs. */
static bool own_key(struct fsck *f, const struct obj_entry *e, const char *name)
{
	int64_t age = fsck_store_now_ns(f) - e->mtime_ns;
	char id[OFS_OID_HEX_BYTES] = "", *intent;

	if (fsck_blobs_there(f, e, name) || strncmp(name, "log/", 4) == 0 ||
			strncmp(name, "nodes/", 6) == 0 || strcmp(name, "volume") == 0 ||
			strcmp(name, "sweep") == 0 || strcmp(name, "key") == 0) {
		return false;
	}
	if (strcmp(name, "root") == 0) {
		return true;
	}
	if (strncmp(name, "dir/", 4) == 0) {
		return false; /* a base names no blob but those of the objects, in the versions it is of */
	}
	if (strncmp(name, "probe/", 6) == 0 && age >= LEFT_BY_STARTS_NS(f)) {
		fsck_found(f, "probe", e->key, "deleted", "left by a daemon that died as it started");
		if (f->repair) {
			remove_left(f, OBJ_DELETE, e->key, e->etag, NULL, page_go_on);
		}
	} else if (strncmp(name, "rename/", 7) == 0 && strstr(name, ".stays") == NULL && age > f->older_ns) {
		fsck_found(f, "rename", e->key, NULL, "a rename that does not end: objectfsctl renames; another "
				"node's: objectfsctl nodes, forget-node");
	} else if (strncmp(name, "stage/", 6) == 0) {
		snprintf(id, sizeof(id), "%.32s", name + 6);
		intent = talloc_asprintf(f, "%s.objectfs/rename/%s", f->v->prefix, id);
		if (age > f->older_ns) {
			fsck_found(f, "stage", e->key, NULL, "waits for a name since long: if %s is not there, it "
					"was left by a move that is over, and may be somebody's only copy: look "
					"at it, then delete it", intent);
		}
		talloc_free(intent);
		return true;
	} else if (strncmp(name, "probe/", 6) != 0 && strncmp(name, "rename/", 7) != 0) {
		fsck_found(f, "unknown", e->key, NULL, "no key of this format: nothing reads it");
	}
	return false;
}

static bool page_wants(struct fsck *f, const struct obj_entry *e)
{
	const char *name = e->key + strlen(f->v->prefix);

	if (strncmp(name, OFS_OWN_PLACE, strlen(OFS_OWN_PLACE)) == 0) {
		return own_key(f, e, name + strlen(OFS_OWN_PLACE));
	}
	if (*name != '\0') {
		fsck_rows_saw(f, e);
	}
	return *name != '\0';
}

static void page_go_on(struct fsck *f)
{
	struct obj_result *r = &f->page->result;

	while (f->running < FSCK_AT_ONCE && f->page_next < r->entry_count) {
		const struct obj_entry *e = &r->entries[f->page_next++];
		struct obj_req *req;

		if (page_wants(f, e) && (req = fsck_request(f, OBJ_HEAD, e->key, on_object, f)) != NULL) {
			f->running++;
			objstore_submit(f->v->store, req);
		}
	}
	if (f->running == 0) {
		fsck_rows_page(f);
	}
}

void fsck_page_over(struct fsck *f)
{
	char *token = f->page->result.next_token != NULL ? talloc_strdup(f, f->page->result.next_token) : NULL;

	if (f->page->result.next_token != NULL && token == NULL) {
		f->complete = f->readable = false;
	}
	objstore_req_free(&f->page);
	if (token != NULL) {
		list_page(f, token);
		talloc_free(token);
	} else {
		f->phase = "blobs";
		fsck_blobs_check(f);
	}
}

static void on_page(struct obj_req *req)
{
	struct fsck *f = req->arg;

	if (req->result.status != OBJ_OK) {
		fsck_failed(f, "listing", req);
		free(req->result.next_token);
		req->result.next_token = NULL;
	}
	f->page = req;
	f->page_next = 0;
	page_go_on(f);
}

static void list_page(struct fsck *f, const char *token)
{
	struct obj_req *req = fsck_request(f, OBJ_LIST, f->v->prefix, on_page, f);

	f->phase = "objects";
	if (req == NULL || (token != NULL && (req->token = strdup(token)) == NULL)) {
		objstore_req_free(&req);
		f->complete = f->readable = false;
		fsck_blobs_check(f);
		return;
	}
	objstore_submit(f->v->store, req);
}

/* --- the log --- */

static void log_read(struct fsck *f);

static void log_entry(const struct metalog_entry *e, void *arg)
{
	struct fsck *f = arg;
	struct snapshot *s = NULL;

	if (snapshot_unpack(e->packed, e->packed_len, &s) != 0) {
		f->complete = false;
		return;
	}
	fsck_blobs_named(f, &e->oid, s);
	snapshot_free(&s);
}

static void on_folded(void *arg)
{
	struct fsck *f = arg;

	if (metalog_folds(f->v->metalog)) {
		clock_timer_add(f->v->clock, f, clock_now_ns(f->v->clock) + FOLD_LOOK_NS, on_folded, f);
	} else {
		log_read(f);
	}
}

static void on_log(int status, const char *message, void *arg)
{
	struct fsck *f = arg;
	bool mends = status == -EBADMSG && f->repair && !f->log_again && metalog_fold_now(f->v->metalog);

	if (status == -EBADMSG && !f->log_again) {
		fsck_found(f, "log", ".objectfs/log/", "this node's is written anew, from what was read when "
				"the daemon began; another node's has to be restored", "%s", message);
	}
	if (mends) {
		f->log_again = true;
		on_folded(f);
		return;
	}
	if (status == 0 && f->log_again) {
		fsck_mended(f);
	}
	if (status != 0) {
		f->complete = false;
		f->readable &= status == -EBADMSG;
	}
	metalog_each(f->v->metalog, log_entry, f);
	metalog_each(f->log, log_entry, f);
	list_page(f, NULL);
}

static void log_read(struct fsck *f)
{
	f->phase = "log";
	TALLOC_FREE(f->log);
	f->log = metalog_reader_new(f, f->v);
	if (f->log == NULL) {
		on_log(-ENOMEM, "out of memory", f);
		return;
	}
	metalog_load(f->log, on_log, f);
}

/* --- begin --- */

static void on_notes(struct obj_req *req)
{
	struct fsck *f = req->arg;
	const struct obj_result *r = &req->result;
	json_t *doc = NULL;
	const char *format;

	if (r->status == OBJ_OK) {
		f->notes_etag = talloc_strdup(f, r->etag != NULL ? r->etag : "");
		doc = json_loadb((char *)r->body, r->body_len, JSON_REJECT_DUPLICATES, NULL);
		format = json_string_value(json_object_get(doc, "format"));
		if (format != NULL && strcmp(format, SWEEP_FORMAT) == 0 &&
				json_is_object(json_object_get(doc, "blobs"))) {
			f->notes = json_incref(json_object_get(doc, "blobs"));
		}
		json_decref(doc);
	} else if (r->status != OBJ_NOT_FOUND) {
		fsck_failed(f, "reading", req);
	}
	objstore_req_free(&req);
	if (f->notes == NULL) {
		f->notes = json_object();
	}
	fsck_blobs_nodes(f, log_read);
}

void fsck_start(struct volume *v, bool repair, int64_t older_s,
		void (*done)(int status, json_t *answer, void *arg), void *arg)
{
	struct fsck *f = NULL;
	struct obj_req *req = NULL;
	char *key;

	if (v->fsck != NULL || v->state != VOLUME_READY) {
		done(v->fsck != NULL ? -EBUSY : -EROFS, NULL, arg);
		return;
	}
	f = talloc_zero(v, struct fsck);
	key = f != NULL ? talloc_asprintf(f, "%s.objectfs/sweep", v->prefix) : NULL;
	if (key != NULL) {
		f->v = v;
		f->repair = repair && v->read_only == NULL;
		f->older_ns = older_s * NS_PER_S;
		f->done = done;
		f->arg = arg;
		f->complete = f->readable = true;
		f->phase = "notes";
		f->findings = json_array();
		req = fsck_request(f, OBJ_GET, key, on_notes, f);
	}
	if (req == NULL || !fsck_rows_init(f) || !fsck_blobs_init(f)) {
		objstore_req_free(&req);
		if (f != NULL) {
			fsck_rows_free(f);
		}
		talloc_free(f);
		done(-ENOMEM, NULL, arg);
		return;
	}
	v->fsck = f;
	objstore_submit(v->store, req);
}
