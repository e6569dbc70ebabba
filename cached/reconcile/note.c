/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the notes below .objectfs/rename/: what is being moved, and what stays under which old key.
 * Way: renames.c, move.c, redirect.c write and remove them; adopt.c and redirect.c read them.
 * Thread: core.
 * Owns: a request's end until it is told.
 * Holds: a note is believed only if no key of it is the volume's own, but what was parked.
 */
#include "private.h"
#include <string.h>

#define FORMAT_BEFORE "objectfs rename 1" /* without cut-off, and nothing that stays */
#define FORMAT "objectfs rename 2"

struct note_op {
	redirect_done done;
	void *arg;
};

static void note_op_done(struct obj_req *req)
{
	struct note_op *op = req->arg;
	enum obj_status st = req->result.status;

	op->done(st == OBJ_NOT_FOUND && req->op == OBJ_DELETE ? OBJ_OK : st, req->result.message, op->arg);
	talloc_free(op);
	objstore_req_free(&req);
}

static bool note_body(struct volume *v, struct obj_req *req, const char *from, const char *to,
		int64_t cutoff_ns, const char *stays)
{
	json_t *doc = json_pack("{s:s, s:s, s:s, s:s, s:I, s:s*}", "format", FORMAT, "node", v->node_id, "from",
			from, "to", to, "cutoff", (json_int_t)(cutoff_ns / NS_PER_S), "stays", stays);

	req->body = doc ? (uint8_t *)json_dumps(doc, JSON_COMPACT) : NULL;
	json_decref(doc);
	if (req->body == NULL) {
		return false;
	}
	req->length = strlen((char *)req->body);
	req->content_type = strdup("application/json");
	return true;
}

void rename_intent_write(struct volume *v, const char *id, const char *from, const char *to,
		int64_t cutoff_ns, const char *stays, redirect_done done, void *arg)
{
	char *key = talloc_asprintf(v, "%s.objectfs/rename/%s", v->prefix, id);
	struct obj_req *req = key ? objstore_req_new(to ? OBJ_PUT : OBJ_DELETE, key) : NULL;
	struct note_op *op = talloc_zero(v, struct note_op);

	talloc_free(key);
	if (req == NULL || op == NULL ||
			(to != NULL && !note_body(v, req, from, to, cutoff_ns, stays))) {
		talloc_free(op);
		objstore_req_free(&req);
		done(OBJ_LOCAL, "out of memory", arg);
		return;
	}
	op->done = done;
	op->arg = arg;
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = note_op_done;
	req->arg = op;
	objstore_submit(v->store, req);
}

void rename_intent(struct volume *v, const char *id, const char *from, const char *to, int64_t cutoff_ns,
		redirect_done done, void *arg)
{
	rename_intent_write(v, id, from, to, cutoff_ns, NULL, done, arg);
}

bool rename_note_is_parked(const struct volume *v, const char *key)
{
	static const char stage[] = OFS_OWN_PLACE "stage/";
	size_t len = strlen(v->prefix);

	return strncmp(key, v->prefix, len) == 0 && strncmp(key + len, stage, strlen(stage)) == 0;
}

/* A key that a client's file or directory may have. */
static bool note_is_clients(const struct volume *v, const char *key)
{
	size_t len = strlen(v->prefix), own = strlen(OFS_OWN_NAME);

	if (strncmp(key, v->prefix, len) != 0 || key[len] == '\0') {
		return false;
	}
	key += len;
	return strncmp(key, OFS_OWN_NAME, own) != 0 || (key[own] != '/' && key[own] != '\0');
}

bool rename_note_read(const struct volume *v, const struct obj_result *r, struct rename_note *n)
{
	const char *format = "";
	json_int_t cutoff_s = 0;

	memset(n, 0, sizeof(*n));
	n->node = "";
	n->doc = json_loadb((char *)r->body, r->body_len, JSON_REJECT_DUPLICATES, NULL);
	if (n->doc == NULL || json_unpack(n->doc, "{s:s, s:s, s:s, s?s, s?I, s?s}", "format", &format, "from",
					      &n->from, "to", &n->to, "node", &n->node, "cutoff", &cutoff_s, "stays",
					      &n->stays) != 0) {
		return false;
	}
	if (cutoff_s < 0 || cutoff_s > INT64_MAX / NS_PER_S) {
		return false;
	}
	n->cutoff_ns = cutoff_s * NS_PER_S;
	return (strcmp(format, FORMAT) == 0 || strcmp(format, FORMAT_BEFORE) == 0) &&
	       (note_is_clients(v, n->from) || rename_note_is_parked(v, n->from)) &&
	       (note_is_clients(v, n->to) || (n->stays != NULL && rename_note_is_parked(v, n->to)));
}
