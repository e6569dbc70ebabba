/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: read, check, create or amend the volume record.
 * Way: core/volume.c after the store's probe; then the metadata log is read. accounts.c amends it.
 * Thread: core.
 * Owns: one struct volrec until its answer; freed with the volume, its request finds NULL then.
 * Holds: 1. A mirror that belongs to a volume never creates a record: an absent one means the wrong
 *           or an emptied bucket, and nothing may be concluded from what else is absent.
 *        2. Creation is If-None-Match, a change If-Match; whoever loses or does not know reads again.
 *        3. A change leaves members alone that it does not know.
 */
#include "volrec.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../base/log.h"
#include "../mirror/objmeta.h"
#include "../reconcile/index.h"
#include "accounts.h"
#include "overlap.h"
#include "trust.h"
#include "volume.h"

#define VOLREC_FORMAT "objectfs volume"
#define VOLREC_VERSION 1
#define VOLREC_BYTES_MAX (64 * 1024)
#define VOLREC_TRIES 5u
#define WRITE_FEATURE "write-"

struct volrec {
	struct volume *v;
	struct volrec_req *req; /* in flight, or NULL */
	char *key;
	unsigned tries;
	bool (*edit)(json_t *record, void *arg); /* NULL: it is only opened */
	void (*done)(int status, const char *message, void *arg);
	void *arg;
};
struct volrec_req { /* malloc: outlives the volume if it must */
	struct volrec *vr;
};

/* --- text --- */

/* The first feature we do not know; writers: of those that concern writers only. */
static const char *feature_unknown(const json_t *features, bool writers)
{
	const json_t *f;
	size_t i;

	json_array_foreach (features, i, f) {
		const char *name = json_string_value(f);
		bool only_writers = name != NULL &&
				strncmp(name, WRITE_FEATURE, strlen(WRITE_FEATURE)) == 0;

		if (name != NULL && strcmp(name, TRUST_FEATURE) == 0) {
			continue;
		}
		if (only_writers == writers) {
			return name != NULL ? name : "(no name)";
		}
	}
	return NULL;
}

static int parse_json(
		TALLOC_CTX *ctx, const json_t *root, struct ofs_oid *uuid, int64_t *created_ns,
		char **message)
{
	const char *created = json_string_value(json_object_get(root, "created"));
	const char *format = json_string_value(json_object_get(root, "format"));
	const char *hex = json_string_value(json_object_get(root, "uuid"));
	const json_t *features = json_object_get(root, "features");
	json_int_t reader = json_integer_value(json_object_get(root, "read_version"));
	json_int_t writer = json_integer_value(json_object_get(root, "write_version"));
	const char *feature;

	if (format == NULL || strcmp(format, VOLREC_FORMAT) != 0 || reader <= 0 || writer <= 0 ||
			(features != NULL && !json_is_array(features))) {
		*message = talloc_strdup(ctx, "the volume record " VOLREC_KEY
					      " in the bucket is not one of this program");
		return -EBADMSG;
	}
	feature = feature_unknown(features, false);
	if (reader > VOLREC_VERSION || feature != NULL) {
		*message = talloc_asprintf(ctx,
				"the volume needs a newer version of this program to be read (format %" PRId64
				"%s%s)",
				(int64_t)reader, feature != NULL ? ", feature " : "",
				feature != NULL ? feature : "");
		return -EPROTONOSUPPORT;
	}
	if (hex == NULL || !ofs_oid_parse(hex, uuid) || ofs_oid_is_none(uuid)) {
		*message = talloc_strdup(
				ctx, "the volume record " VOLREC_KEY " in the bucket has no valid uuid");
		return -EBADMSG;
	}
	if (created == NULL || !objmeta_rfc3339(created, created_ns)) {
		*created_ns = 0;
	}
	feature = feature_unknown(features, true);
	if (writer > VOLREC_VERSION || feature != NULL) {
		*message = talloc_asprintf(ctx,
				"the volume needs a newer version of this program to be written (format "
				"%" PRId64 "%s%s); it is read-only here",
				(int64_t)writer, feature != NULL ? ", feature " : "",
				feature != NULL ? feature : "");
		return -EROFS;
	}
	return 0;
}

/* As volrec_parse; *rootp: a reference where the answer is 0 or -EROFS. */
static int volrec_load(TALLOC_CTX *ctx, const char *text, size_t len, json_t **rootp,
		struct ofs_oid *uuid, int64_t *created_ns, char **message)
{
	json_error_t error;
	json_t *root = NULL;
	int ret;

	*rootp = NULL;
	*message = NULL;
	memset(uuid, 0, sizeof(*uuid));
	*created_ns = 0;
	if (text != NULL && len <= VOLREC_BYTES_MAX) {
		root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	}
	if (root == NULL) {
		*message = talloc_strdup(
				ctx, "the volume record " VOLREC_KEY " in the bucket is damaged");
		return -EBADMSG;
	}
	ret = parse_json(ctx, root, uuid, created_ns, message);
	if (ret == 0 || ret == -EROFS) {
		*rootp = root;
	} else {
		json_decref(root);
	}
	return ret;
}

int volrec_parse(TALLOC_CTX *ctx, const char *text, size_t len, struct ofs_oid *uuid,
		int64_t *created_ns, char **message)
{
	json_t *root;
	int ret = volrec_load(ctx, text, len, &root, uuid, created_ns, message);

	json_decref(root);
	return ret;
}

/* What is older than `since_s` and not signed is believed. */
static bool record_sign(json_t *record, int64_t since_s)
{
	json_t *features = json_object_get(record, "features");

	if (!json_is_array(features)) {
		features = json_array();
		json_object_set_new(record, "features", features);
	}
	return json_array_append_new(features, json_string(TRUST_FEATURE)) == 0 &&
			json_object_set_new(record, TRUST_MEMBER,
					json_pack("{s:I}", "since", (json_int_t)since_s)) == 0;
}

bool volrec_is_signed(const json_t *record)
{
	const json_t *features = json_object_get(record, "features"), *f;
	size_t i;

	json_array_foreach (features, i, f) {
		if (json_is_string(f) && strcmp(json_string_value(f), TRUST_FEATURE) == 0) {
			return true;
		}
	}
	return json_object_get(record, TRUST_MEMBER) != NULL;
}

/* malloc */
static char *volrec_text(struct volume *v, const struct ofs_oid *uuid)
{
	time_t now = (time_t)(clock_wall_ns(v->clock) / NS_PER_S);
	char hex[OFS_OID_HEX_BYTES], created[32];
	json_t *root;
	char *text;
	struct tm tm;

	ofs_oid_hex(uuid, hex);
	strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	root = json_pack("{s:s, s:s, s:i, s:i, s:[], s:s, s:s}", "format", VOLREC_FORMAT, "uuid", hex,
			"write_version", VOLREC_VERSION, "read_version", VOLREC_VERSION, "features",
			"created", created, "machine_sid", "");
	if (root != NULL && trust_is_signed(v->store) && !record_sign(root, 0)) {
		json_decref(root);
		root = NULL; /* never one that says it is not signed */
	}
	text = root != NULL ? json_dumps(root, JSON_INDENT(1)) : NULL;
	json_decref(root);
	return text;
}

/* --- requests --- */

static void volrec_get(struct volrec *vr);

static void volrec_end(struct volrec *vr, int status, const char *message)
{
	vr->done(status, message, vr->arg); /* message may hang off vr */
	talloc_free(vr);
}

static int volrec_destroy(struct volrec *vr)
{
	if (vr->req != NULL) {
		vr->req->vr = NULL;
	}
	return 0;
}

/* The one waiting for this answer, or NULL; the link ends. */
static struct volrec *volrec_answered(struct obj_req *req)
{
	struct volrec_req *link = req->arg;
	struct volrec *vr = link->vr;

	free(link);
	if (vr != NULL) {
		vr->req = NULL;
	}
	return vr;
}

static bool volrec_submit(struct volrec *vr, struct obj_req *req, void (*done)(struct obj_req *))
{
	struct volrec_req *link = calloc(1, sizeof(*link));

	if (link == NULL) {
		objstore_req_free(&req);
		return false;
	}
	link->vr = vr;
	vr->req = link;
	req->prio = OBJ_PRIO_READER;
	req->arg = link;
	req->done = done;
	objstore_submit(vr->v->store, req);
	return true;
}

static void volrec_store_failed(struct volrec *vr, const struct obj_req *req)
{
	const struct obj_result *r = &req->result;
	const char *message = r->message != NULL ? r->message : objstore_status_name(r->status);
	int status = -EIO;

	if (objstore_status_transient(r->status)) {
		status = -EAGAIN;
	} else if (r->status == OBJ_DENIED) {
		status = -EACCES;
	} else if (r->status == OBJ_NO_BUCKET) {
		status = -ENOENT;
	}
	volrec_end(vr, status, message);
}

static void volrec_known(struct volrec *vr, const struct ofs_oid *uuid, int status, const char *why)
{
	struct volume *v = vr->v;
	const char *mine = index_kv_get(v->index, VOLREC_KV_UUID);
	char hex[OFS_OID_HEX_BYTES];

	ofs_oid_hex(uuid, hex);
	if (mine != NULL && strcmp(mine, hex) != 0) {
		char *message = talloc_asprintf(vr,
				"wrong bucket: this mirror belongs to volume %s, %s holds volume %s; nothing "
				"is removed locally; correct the configuration or start with a new cache "
				"directory",
				mine, v->store->where, hex);

		volrec_end(vr, -ESTALE, message);
		return;
	}
	v->uuid = *uuid;
	index_kv_set(v->index, VOLREC_KV_UUID, hex);
	index_commit(v->index, NULL, NULL);
	volrec_end(vr, status, why);
}

static void on_created(struct obj_req *req)
{
	struct volrec *vr = volrec_answered(req);
	enum obj_status status = req->result.status;

	if (vr == NULL) {
		objstore_req_free(&req);
		return;
	}
	/* Made by us, by a faster one, or unknown: what is there counts. */
	if (status == OBJ_OK || status == OBJ_PRECONDITION || status == OBJ_CONFLICT ||
			status == OBJ_UNKNOWN) {
		if (status == OBJ_OK) {
			log_notice("core", "volume %s: new, record %s written", vr->v->name, req->key);
		}
		volrec_get(vr);
	} else {
		volrec_store_failed(vr, req);
	}
	objstore_req_free(&req);
}

static void volrec_create(struct volrec *vr)
{
	struct obj_req *req = objstore_req_new(OBJ_PUT, vr->key);
	struct ofs_oid uuid;

	clock_random(vr->v->clock, uuid.bytes, sizeof(uuid.bytes));
	if (req != NULL) {
		req->body = (uint8_t *)volrec_text(vr->v, &uuid);
		req->content_type = strdup("application/json");
	}
	if (req == NULL || req->body == NULL || req->content_type == NULL) {
		objstore_req_free(&req);
		volrec_end(vr, -ENOMEM, "out of memory");
		return;
	}
	req->length = (int64_t)strlen((const char *)req->body);
	req->if_none_match = true;
	if (!volrec_submit(vr, req, on_created)) {
		volrec_end(vr, -ENOMEM, "out of memory");
	}
}

static void on_none_below(int status, const char *message, void *arg)
{
	struct volrec *vr = arg;

	if (status != 0) {
		volrec_end(vr, status, message);
	} else {
		volrec_create(vr);
	}
}

static void volrec_absent(struct volrec *vr)
{
	const char *mine = index_kv_get(vr->v->index, VOLREC_KV_UUID);

	if (mine != NULL) {
		char *message = talloc_asprintf(vr,
				"the bucket has no volume record although this mirror belongs to volume %s: "
				"wrong or emptied bucket (%s); nothing is removed locally; restore the record "
				"%s or start with a new cache directory",
				mine, vr->v->store->where, vr->key);

		volrec_end(vr, -ESTALE, message);
		return;
	}
	if (++vr->tries > VOLREC_TRIES) {
		volrec_end(vr, -EAGAIN, "the volume record comes and goes");
		return;
	}
	overlap_below(vr->v, on_none_below, vr);
}

/* ---- a change ---- */

static void on_amended(struct obj_req *req)
{
	struct volrec *vr = volrec_answered(req);
	enum obj_status status = req->result.status;

	if (vr == NULL) {
		objstore_req_free(&req);
		return;
	}
	if (status == OBJ_OK && vr->edit == NULL) {
		log_notice("core", "volume %s: what is in the bucket is signed from now on; what is older is believed "
				"as it is", vr->v->name);
		volrec_get(vr);
	} else if (status == OBJ_OK) {
		volrec_end(vr, 0, NULL);
	} else if (status == OBJ_PRECONDITION || status == OBJ_CONFLICT || status == OBJ_UNKNOWN) {
		if (++vr->tries > VOLREC_TRIES) {
			volrec_end(vr, -EAGAIN, "others keep changing the volume record");
		} else {
			volrec_get(vr);
		}
	} else {
		volrec_store_failed(vr, req);
	}
	objstore_req_free(&req);
}

static void volrec_put(struct volrec *vr, const json_t *root, const char *etag)
{
	struct obj_req *req = objstore_req_new(OBJ_PUT, vr->key);
	size_t len;

	if (req != NULL) {
		req->body = (uint8_t *)json_dumps(root, JSON_INDENT(1));
		req->content_type = strdup("application/json");
		req->if_match = etag != NULL ? strdup(etag) : NULL;
	}
	if (req == NULL || req->body == NULL || req->content_type == NULL || req->if_match == NULL) {
		objstore_req_free(&req);
		volrec_end(vr, -ENOMEM, "out of memory, or the store does not say ETags");
		return;
	}
	len = strlen((const char *)req->body);
	if (len > VOLREC_BYTES_MAX) {
		objstore_req_free(&req);
		volrec_end(vr, -EFBIG, "the volume record would become too large");
		return;
	}
	req->length = (int64_t)len;
	if (!volrec_submit(vr, req, on_amended)) {
		volrec_end(vr, -ENOMEM, "out of memory");
	}
}

/* ---- what is there ---- */

static void volrec_held(struct volrec *vr, int status, const char *fmt, const char *what)
{
	char *message = talloc_asprintf(vr, fmt, what);

	volrec_end(vr, status, message != NULL ? message : "out of memory");
}

/* An existing mirror turns its volume into a signed one: the store's time tells what was there before. */
static void volrec_sign(struct volrec *vr, json_t *root, const char *etag)
{
	struct volume *v = vr->v;
	int64_t now_ns = objstore_now_ns(v->store, v->clock);

	if (++vr->tries > VOLREC_TRIES || !record_sign(root, now_ns / NS_PER_S + 1)) {
		volrec_end(vr, -EAGAIN, "the volume record cannot be signed");
		return;
	}
	volrec_put(vr, root, etag);
}

/* Is the record to be believed? false: it has ended, or is being signed. */
static bool volrec_trusted(struct volrec *vr, json_t *root, const struct ofs_oid *uuid,
		const struct obj_result *r)
{
	struct volume *v = vr->v;
	const char *mine = index_kv_get(v->index, VOLREC_KV_UUID);
	bool here = mine != NULL && index_kv_get(v->index, VOLREC_KV_SIGNED) == NULL;
	char hex[OFS_OID_HEX_BYTES];

	if (!trust_is_signed(v->store)) {
		if (!volrec_is_signed(root)) {
			return true;
		}
		volrec_held(vr, -EPROTONOSUPPORT, "%s", "the volume's metadata are signed, and there is no key "
				"here: set trust metadata = signed, and signing key file to a file with the key "
				"of the host that served it (RECOVERY.md)");
		return false;
	}
	ofs_oid_hex(uuid, hex);
	if (r->proof == OBJ_PROOF_GOOD) {
		trust_set(v->store, uuid, json_integer_value(json_object_get(
				json_object_get(root, TRUST_MEMBER), "since")));
		index_kv_set(v->index, VOLREC_KV_SIGNED, "1");
		return true;
	}
	if (r->proof == OBJ_PROOF_OTHER_KEY) {
		volrec_held(vr, -ESTALE, "the volume record is signed with another key than those in %s: put the key "
				"of the host that served the volume there", v->conf->signing_key_file);
	} else if (here && strcmp(mine, hex) == 0 && !volrec_is_signed(root)) {
		volrec_sign(vr, root, r->etag);
	} else {
		volrec_held(vr, -ESTALE, "the volume record %s in the bucket is not signed: somebody else has written "
				"it, or the volume never was signed; restore an older version of it, or begin to sign "
				"where its mirror is (OPERATIONS.md)", vr->key);
	}
	return false;
}

static void volrec_read(struct volrec *vr, const struct obj_result *r)
{
	struct ofs_oid uuid;
	int64_t created_ns;
	char *message;
	json_t *root;
	int status = volrec_load(vr, (const char *)r->body, r->body_len, &root, &uuid, &created_ns,
			&message);

	if (root == NULL) {
		volrec_end(vr, status, message);
		return;
	}
	if (!volrec_trusted(vr, root, &uuid, r)) {
		json_decref(root);
		return;
	}
	if (vr->edit == NULL) {
		vr->v->created_ns = created_ns;
		accounts_loaded(vr->v->accounts, root);
		vr->v->root_kept = json_is_true(json_object_get(root, VOLREC_ROOT));
		volrec_known(vr, &uuid, status, message);
	} else if (status != 0 || !ofs_oid_equal(&uuid, &vr->v->uuid)) {
		volrec_end(vr, status != 0 ? status : -ESTALE,
				status != 0 ? message : "the volume record is another volume's");
	} else {
		if (vr->edit(root, vr->arg)) {
			volrec_put(vr, root, r->etag);
		} else {
			volrec_end(vr, 0, NULL);
		}
	}
	json_decref(root);
}

static void on_read(struct obj_req *req)
{
	struct volrec *vr = volrec_answered(req);
	const struct obj_result *r = &req->result;

	if (vr == NULL) {
		objstore_req_free(&req);
		return;
	}
	if (r->status == OBJ_NOT_FOUND && vr->edit != NULL) {
		volrec_end(vr, -ESTALE, "the volume record is gone");
	} else if (r->status == OBJ_NOT_FOUND) {
		volrec_absent(vr);
	} else if (r->status != OBJ_OK) {
		volrec_store_failed(vr, req);
	} else {
		volrec_read(vr, r);
	}
	objstore_req_free(&req);
}

static void volrec_get(struct volrec *vr)
{
	struct obj_req *req = objstore_req_new(OBJ_GET, vr->key);

	if (req != NULL) {
		req->length = -1;
	}
	if (req == NULL || !volrec_submit(vr, req, on_read)) {
		volrec_end(vr, -ENOMEM, "out of memory");
	}
}

static void volrec_begin(struct volume *v, bool (*edit)(json_t *record, void *arg),
		void (*done)(int status, const char *message, void *arg), void *arg)
{
	struct volrec *vr = talloc_zero(v, struct volrec);

	if (vr != NULL) {
		vr->key = talloc_asprintf(vr, "%s%s", v->prefix, VOLREC_KEY);
	}
	if (vr == NULL || vr->key == NULL) {
		talloc_free(vr);
		done(-ENOMEM, "out of memory", arg);
		return;
	}
	talloc_set_destructor(vr, volrec_destroy);
	vr->v = v;
	vr->edit = edit;
	vr->done = done;
	vr->arg = arg;
	volrec_get(vr);
}

void volrec_open(struct volume *v, void (*done)(int status, const char *message, void *arg),
		void *arg)
{
	volrec_begin(v, NULL, done, arg);
}

void volrec_amend(struct volume *v, bool (*edit)(json_t *record, void *arg),
		void (*done)(int status, const char *message, void *arg), void *arg)
{
	volrec_begin(v, edit, done, arg);
}

/* --- what follows from it --- */

void volume_read_only(struct volume *v, const char *why)
{
	if (why != NULL && v->read_only == NULL) {
		log_warning("core", "volume %s: READ ONLY: %s", v->name, why);
	}
	TALLOC_FREE(v->read_only);
	v->read_only = why != NULL ? talloc_strdup(v, why) : NULL;
	v->store->read_only = why != NULL;
	atomic_store(&v->shm->read_only, why != NULL ? 1 : 0);
}

static bool edit_root_kept(json_t *record, void *arg)
{
	(void)arg;
	return !json_is_true(json_object_get(record, VOLREC_ROOT)) &&
			json_object_set_new(record, VOLREC_ROOT, json_true()) == 0;
}

static void on_root_kept(int status, const char *message, void *arg)
{
	struct volume *v = arg;

	(void)message;
	v->root_kept = status == 0; /* else again with the next change of the root, or the next start */
}

void volume_root_kept(struct volume *v)
{
	if (!v->root_kept && v->read_only == NULL) {
		v->root_kept = true;
		volrec_amend(v, edit_root_kept, on_root_kept, v);
	}
}
