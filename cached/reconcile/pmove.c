/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: move every key below a prefix to another, and the notes (intents) that say so.
 * Way: renames.c, move.c, adopt.c -> here -> move.c's copies and deletes.
 * Thread: core.
 * Owns: struct pmove until its done.
 * Holds:
 *  1. no key is deleted before every key has its copy: others see duplicates, never gaps;
 *  2. every step can be repeated: copies that are there are skipped, absent sources too.
 */
#include "private.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PMOVE_AT_ONCE 16

/* ---- intents ---- */

struct intent_op {
	void (*done)(enum obj_status st, const char *message, void *arg);
	void *arg;
};

static void intent_op_done(struct obj_req *req)
{
	struct intent_op *op = req->arg;
	enum obj_status st = req->result.status;

	if (op->done != NULL) {
		op->done(st == OBJ_NOT_FOUND && req->op == OBJ_DELETE ? OBJ_OK : st,
				req->result.message, op->arg);
	}
	talloc_free(op);
	objstore_req_free(&req);
}

void rename_intent(struct volume *v, const char *id, const char *from, const char *to,
		void (*done)(enum obj_status st, const char *message, void *arg), void *arg)
{
	char *key = talloc_asprintf(v, "%s.objectfs/rename/%s", v->prefix, id);
	struct obj_req *req = key ? objstore_req_new(to ? OBJ_PUT : OBJ_DELETE, key) : NULL;
	struct intent_op *op = talloc_zero(v, struct intent_op);
	json_t *doc = NULL;

	talloc_free(key);
	if (req == NULL || op == NULL) {
		goto nomem;
	}
	if (to != NULL) {
		doc = json_pack("{s:s, s:s, s:s, s:s}", "format", "objectfs rename 1", "node",
				v->node_id, "from", from, "to", to);
		req->body = doc ? (uint8_t *)json_dumps(doc, JSON_COMPACT) : NULL;
		json_decref(doc);
		if (req->body == NULL) {
			goto nomem;
		}
		req->length = strlen((char *)req->body);
		req->content_type = strdup("application/json");
	}
	op->done = done;
	op->arg = arg;
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = intent_op_done;
	req->arg = op;
	objstore_submit(v->store, req);
	return;
nomem:
	talloc_free(op);
	objstore_req_free(&req);
	if (done != NULL) {
		done(OBJ_LOCAL, "out of memory", arg);
	}
}

/* ---- all keys below a prefix ---- */

static void pmove_end(struct pmove *m, enum obj_status st, const char *message)
{
	m->done(m, st, message);
	talloc_free(m);
}

static void pmove_more(struct pmove *m);

static void pmove_step_done(struct pmove *m, enum obj_status st, const char *message)
{
	m->running--;
	m->finished++;
	if (st != OBJ_OK && m->failed == OBJ_OK) {
		m->failed = st;
		m->message = talloc_strdup(m, message ? message : "");
	}
	pmove_more(m);
}

struct pstep {
	struct pmove *m;
	unsigned i;
};

static void pmove_copied(enum obj_status st, const char *message, const char *etag, void *arg)
{
	struct pstep *s = arg;
	struct pmove *m = s->m;
	struct pkey *k = &m->keys[s->i];

	if (st == OBJ_OK && m->copied != NULL && etag != NULL && strcmp(etag, k->etag) != 0) {
		m->copied(m, k->suffix, etag);
	}
	talloc_free(s);
	if (st == OBJ_PRECONDITION && m->leave_taken && !m->single) {
		k->stays = true;
		m->stay++;
		st = OBJ_OK;
	}
	/* Gone since it was listed: nothing to move. */
	pmove_step_done(m, st == OBJ_NOT_FOUND ? OBJ_OK : st, message);
}

static void pmove_deleted(enum obj_status st, const char *message, void *arg)
{
	struct pstep *s = arg;
	struct pmove *m = s->m;

	talloc_free(s);
	/* Changed under the old name by somebody else: it stays there. */
	pmove_step_done(m, st == OBJ_PRECONDITION ? OBJ_OK : st, message);
}

static void pmove_more(struct pmove *m)
{
	while (m->failed == OBJ_OK && m->next < m->count && m->running < PMOVE_AT_ONCE) {
		struct pkey *k = &m->keys[m->next];
		struct pstep *s;
		char *from, *to;

		if (m->deleting && k->stays) {
			m->next++;
			continue;
		}
		s = talloc_zero(m, struct pstep);
		from = talloc_asprintf(m, "%s%s", m->from, k->suffix);
		to = talloc_asprintf(m, "%s%s", m->to, k->suffix);
		if (s == NULL || from == NULL || to == NULL) {
			m->failed = OBJ_LOCAL;
			break;
		}
		s->m = m;
		s->i = m->next++;
		m->running++;
		if (m->deleting) {
			delete_fenced(m->v, from, k->etag, &m->tombstone, NULL, pmove_deleted, s);
		} else {
			copy_fenced(m->v, from, k->etag, to, NULL, NULL, NULL, pmove_copied, s);
		}
		talloc_free(from);
		talloc_free(to);
	}
	if (m->running > 0) {
		return;
	}
	if (m->failed != OBJ_OK) {
		pmove_end(m, m->failed, m->message);
	} else if (m->next >= m->count && !m->deleting) {
		m->deleting = true;
		m->next = 0;
		pmove_more(m);
	} else if (m->next >= m->count) {
		pmove_end(m, OBJ_OK, NULL);
	}
}

static void pmove_list(struct pmove *m, const char *token);

static bool pmove_add(struct pmove *m, const char *suffix, const char *etag)
{
	if (m->count == m->cap) {
		unsigned cap = m->cap ? m->cap * 2 : 256;
		struct pkey *n = talloc_realloc(m, m->keys, struct pkey, cap);

		if (n == NULL) {
			return false;
		}
		m->keys = n;
		m->cap = cap;
	}
	m->keys[m->count].suffix = talloc_strdup(m, suffix);
	m->keys[m->count].etag = talloc_strdup(m, etag ? etag : "");
	m->keys[m->count].stays = false;
	m->count++;
	return m->keys[m->count - 1].suffix != NULL && m->keys[m->count - 1].etag != NULL;
}

static void pmove_listed(struct obj_req *req)
{
	struct pmove *m = req->arg;
	struct obj_result *r = &req->result;
	size_t skip = strlen(m->from);
	unsigned i;

	if (r->status != OBJ_OK) {
		pmove_end(m, r->status, r->message);
		objstore_req_free(&req);
		return;
	}
	for (i = 0; i < r->entry_count; i++) {
		if (!r->entries[i].is_prefix &&
				!pmove_add(m, r->entries[i].key + skip, r->entries[i].etag)) {
			objstore_req_free(&req);
			pmove_end(m, OBJ_LOCAL, "out of memory");
			return;
		}
	}
	if (r->next_token != NULL) {
		pmove_list(m, r->next_token);
	} else {
		pmove_more(m);
	}
	objstore_req_free(&req);
}

static void pmove_list(struct pmove *m, const char *token)
{
	struct obj_req *req = objstore_req_new(OBJ_LIST, m->from);

	if (req == NULL || (token != NULL && (req->token = strdup(token)) == NULL)) {
		objstore_req_free(&req);
		pmove_end(m, OBJ_LOCAL, "out of memory");
		return;
	}
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = pmove_listed;
	req->arg = m;
	objstore_submit(m->v->store, req);
}

static void pmove_single_seen(struct obj_req *req)
{
	struct pmove *m = req->arg;
	struct obj_result *r = &req->result;

	if (r->status == OBJ_NOT_FOUND) {
		pmove_end(m, OBJ_OK, NULL);
	} else if (r->status != OBJ_OK) {
		pmove_end(m, r->status, r->message);
	} else if (!pmove_add(m, "", r->etag)) {
		pmove_end(m, OBJ_LOCAL, "out of memory");
	} else {
		pmove_more(m);
	}
	objstore_req_free(&req);
}

static int pmove_destructor(struct pmove *m)
{
	*m->list_prev = m->list_next;
	if (m->list_next != NULL) {
		m->list_next->list_prev = m->list_prev;
	}
	return 0;
}

struct pmove *pmove_new(struct volume *v, const char *from, const char *to)
{
	struct pmove *m = talloc_zero(v->reconcile, struct pmove);

	if (m == NULL) {
		return NULL;
	}
	m->v = v;
	m->since_ns = clock_now_ns(v->clock);
	m->list_next = v->reconcile->moves;
	m->list_prev = &v->reconcile->moves;
	if (m->list_next != NULL) {
		m->list_next->list_prev = &m->list_next;
	}
	v->reconcile->moves = m;
	talloc_set_destructor(m, pmove_destructor);
	m->from = talloc_strdup(m, from);
	m->to = talloc_strdup(m, to);
	if (m->from == NULL || m->to == NULL) {
		talloc_free(m);
		return NULL;
	}
	clock_random(v->clock, &m->tombstone, sizeof(m->tombstone));
	m->single = m->from[0] != '\0' && m->from[strlen(m->from) - 1] != '/';
	return m;
}

void pmove_start(struct pmove *m)
{
	struct obj_req *req;

	if (!m->single) {
		pmove_list(m, NULL);
		return;
	}
	req = objstore_req_new(OBJ_HEAD, m->from);
	if (req == NULL) {
		pmove_end(m, OBJ_LOCAL, "out of memory");
		return;
	}
	req->done = pmove_single_seen;
	req->arg = m;
	objstore_submit(m->v->store, req);
}
