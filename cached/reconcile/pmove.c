/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: move every key below a prefix to another.
 * Way: renames.c, adopt.c, redirect.c -> here -> fenced.c's copies and deletes; pmove_verify.c in between.
 * Thread: core.
 * Owns: struct pmove until its done.
 * Holds:
 *  1. no key is deleted before every key has its copy, and before S3 lists those copies: others see
 *     duplicates, never gaps;
 *  2. every step can be repeated: copies that are there are skipped, absent sources too;
 *  3. what cannot be moved stays where it is and stops nothing else; its key says why (enum pmove_stay);
 *  4. nothing of a client's or another tool's stays in .objectfs/stage/, where nobody sees it: what finds its new name
 *     taken goes beside.
 *
 *   list -> copy (16 at once) -> (pmove_verify.c: list the copies -> note what stays) -> delete (16 at once)
 */
#include "private.h"
#include <stdlib.h>
#include <string.h>

#define PMOVE_AT_ONCE 16
#define PMOVE_LATE_NS (60 * NS_PER_S) /* the cut-off is later than the begin, and clocks differ */

void pmove_end(struct pmove *m, enum obj_status st, const char *message)
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

struct row *pmove_row(const struct pmove *m, const char *suffix)
{
	struct index *ix = m->v->index;
	struct row *row = ofs_oid_is_none(&m->dir) ? NULL : index_get(ix, &m->dir);
	char *path = talloc_strdup(m, suffix), *rest = path;

	while (row != NULL && rest != NULL && *rest != '\0') {
		row = index_below(ix, &row->oid, &rest);
	}
	talloc_free(path);
	return row;
}

struct row *pmove_known(const struct pmove *m, const char *suffix)
{
	struct row *row = pmove_row(m, suffix);

	return claim_is(row) ? NULL : row;
}

struct pstep {
	struct pmove *m;
	unsigned i;
};

static enum pmove_stay pmove_stay_of(const struct pmove *m, enum obj_status st)
{
	switch (st) {
	case OBJ_PRECONDITION:
		return m->single ? STAY_NOT : STAY_TAKEN;
	case OBJ_ARCHIVED:
		return m->single ? STAY_NOT : STAY_ARCHIVED;
	case OBJ_INVALID:
		return m->single ? STAY_NOT : STAY_REFUSED;
	default:
		return STAY_NOT;
	}
}

void pmove_stays(struct pmove *m, struct pkey *k, enum pmove_stay why)
{
	k->stays = why;
	m->stay++;
}

bool pmove_beside(struct pmove *m, struct pkey *k)
{
	static const char why[] = "another tool has put an object to its name while directories changed theirs";
	const char *suffix = k->aside != NULL ? k->aside : k->suffix, *slash = strrchr(suffix, '/');
	const char *base = slash != NULL ? slash + 1 : suffix;
	int64_t at_ns = m->cutoff_ns != 0 ? m->cutoff_ns : clock_wall_ns(m->v->clock);
	char *name, *aside;

	if (m->single || !rename_note_is_parked(m->v, m->from) || pmove_known(m, k->suffix) != NULL) {
		return false;
	}
	if (*base == '\0') {
		k->gone = true;
		return true;
	}
	name = conflict_name_of(base, m->v->node_id, at_ns);
	aside = name != NULL ? talloc_asprintf(m, "%.*s%s", (int)(base - suffix), suffix, name) : NULL;
	free(name);
	if (aside == NULL) {
		m->failed = OBJ_LOCAL;
		return true;
	}
	log_warning("reconcile", "conflict: %s%s: %s; what had it is now %s", m->to, suffix, why, aside);
	conflict_made(m->v->reconcile, suffix, aside, why);
	talloc_free(k->aside);
	k->aside = aside;
	m->asides++;
	m->beside = true;
	return true;
}

/* A copy in parts has a new ETag: the row of what was copied learns it. */
static void pmove_copied(enum obj_status st, const char *message, const char *etag, void *arg)
{
	struct pstep *s = arg;
	struct pmove *m = s->m;
	struct pkey *k = &m->keys[s->i];
	enum pmove_stay why = pmove_stay_of(m, st);
	struct row *row = pmove_known(m, k->suffix);

	talloc_free(s);
	if (why == STAY_TAKEN && m->removing && row != NULL && row->etag != NULL && etag != NULL &&
			strcmp(etag, row->etag) == 0) {
		why = STAY_FOREIGN; /* the row's object is moved: this came after it */
	}
	if (why == STAY_TAKEN) {
		char *to = talloc_asprintf(m, "%s%s", m->to, k->suffix);

		/* By an object that could not be moved itself: each is called by its name. */
		why = to != NULL && redirect_is_from(m->v->reconcile, to) ? STAY_ARCHIVED : why;
		talloc_free(to);
	}
	if (why == STAY_TAKEN && pmove_beside(m, k)) {
		why = STAY_NOT;
		st = OBJ_OK;
	} else if (st == OBJ_OK && etag != NULL && strcmp(etag, k->etag) != 0) {
		/* Else it is an earlier write of the row's that it does not know, or somebody else's. */
		if (row != NULL && !row->is_dir && row->etag != NULL && strcmp(row->etag, k->etag) == 0) {
			bool plain = row->plain;

			index_set_fence(m->v->index, row, etag, NULL, &row->wid, row->s3_size,
					row->s3_mtime_ns);
			index_set_plain(m->v->index, row, plain);
		}
		k->copy_etag = talloc_strdup(m, etag);
	}
	if (why != STAY_NOT) {
		pmove_stays(m, k, why);
		k->why = talloc_strdup(m, message ? message : objstore_status_name(st));
		log_notice("reconcile", "%s%s stays where it is: %s", m->from, k->suffix,
				k->why ? k->why : "");
		st = OBJ_OK;
	}
	if (st == OBJ_NOT_FOUND) {
		k->gone = true; /* since it was listed, or there is a tombstone yet to be removed */
		st = OBJ_OK;
	}
	pmove_step_done(m, st, message);
}

static void pmove_copy(struct pstep *s)
{
	struct pmove *m = s->m;
	struct pkey *k = &m->keys[s->i];
	char *from = talloc_asprintf(s, "%s%s", m->from, k->suffix);
	char *to = talloc_asprintf(s, "%s%s", m->to, k->aside != NULL ? k->aside : k->suffix);
	const struct row *row = pmove_known(m, k->suffix);
	const char *earlier = !m->removing && row != NULL && row->etag != NULL && strcmp(row->etag, k->etag) != 0
			? row->etag
			: NULL;

	if (from == NULL || to == NULL) {
		talloc_free(s);
		pmove_step_done(m, OBJ_LOCAL, "out of memory");
		return;
	}
	/* A copy of what the row remembers was made before the source changed. */
	copy_fenced(m->v, from, k->etag, to, earlier, NULL, NULL, pmove_copied, s);
}

/* What is younger than the rename: what is left of a delete, somebody's new object under the old name, or what the row
 * knows, which was changed. */
static void pmove_young_seen(struct obj_req *req)
{
	struct pstep *s = req->arg;
	struct pmove *m = s->m;
	struct pkey *k = &m->keys[s->i];
	const struct row *row = pmove_row(m, k->suffix);
	struct obj_result *r = &req->result;
	struct objmeta meta = {0};
	bool damaged, known;

	objmeta_read(r, &meta, &damaged);
	k->gone = r->status == OBJ_NOT_FOUND || (r->status == OBJ_OK && meta.ours && meta.tombstone);
	known = row != NULL && (!meta.ours || ofs_oid_equal(&meta.oid, &row->oid));
	objmeta_clear(&meta);
	if (r->status == OBJ_OK && !k->gone && known) {
		pmove_copy(s);
		objstore_req_free(&req);
		return;
	}
	if (r->status == OBJ_OK && !k->gone) {
		pmove_stays(m, k, STAY_FOREIGN);
	}
	talloc_free(s);
	pmove_step_done(m, r->status == OBJ_NOT_FOUND ? OBJ_OK : r->status, r->message);
	objstore_req_free(&req);
}

static void pmove_ask_young(struct pstep *s, const char *key)
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, key);
	struct pmove *m = s->m;

	if (req == NULL) {
		talloc_free(s);
		m->running--;
		m->failed = OBJ_LOCAL;
		return;
	}
	req->prio = OBJ_PRIO_UPLOAD;
	req->may_lack = true;
	req->done = pmove_young_seen;
	req->arg = s;
	objstore_submit(m->v->store, req);
}

static void pmove_deleted(enum obj_status st, const char *message, void *arg)
{
	struct pstep *s = arg;
	struct pmove *m = s->m;

	talloc_free(s);
	/* Changed under the old name by somebody else: it stays there. */
	pmove_step_done(m, st == OBJ_PRECONDITION ? OBJ_OK : st, message);
}

static bool pmove_one(struct pmove *m)
{
	struct pkey *k = &m->keys[m->next];
	struct pstep *s = talloc_zero(m, struct pstep);
	char *from = talloc_asprintf(m, "%s%s", m->from, k->suffix);

	if (s == NULL || from == NULL) {
		m->failed = OBJ_LOCAL;
		talloc_free(s);
		talloc_free(from);
		return false;
	}
	s->m = m;
	s->i = m->next++;
	m->running++;
	if (m->phase == PMOVE_REMOVING) {
		delete_fenced(m->v, from, k->etag, &m->tombstone, NULL, 0, pmove_deleted, s);
	} else if (k->young) {
		pmove_ask_young(s, from);
	} else {
		pmove_copy(s);
	}
	talloc_free(from);
	return true;
}

static void pmove_more(struct pmove *m)
{
	while (m->failed == OBJ_OK && m->next < m->count && m->running < PMOVE_AT_ONCE) {
		if (m->keys[m->next].stays != STAY_NOT || (m->phase == PMOVE_COPYING && m->keys[m->next].gone)) {
			m->next++;
			m->finished++;
		} else if (!pmove_one(m)) {
			break;
		}
	}
	if (m->running > 0) {
		return;
	}
	if (m->failed != OBJ_OK) {
		pmove_end(m, m->failed, m->message);
	} else if (m->phase == PMOVE_COPYING && m->single) {
		pmove_remove(m);
	} else if (m->phase == PMOVE_COPYING && m->beside) {
		pmove_copies(m);
	} else if (m->phase == PMOVE_COPYING) {
		m->phase = PMOVE_VERIFYING;
		pmove_verify(m, NULL);
	} else {
		pmove_end(m, OBJ_OK, NULL);
	}
}

void pmove_copies(struct pmove *m)
{
	m->phase = PMOVE_COPYING;
	m->beside = false;
	m->next = m->finished = 0;
	for (unsigned i = 0; i < m->count; i++) {
		m->keys[i].seen = false;
	}
	pmove_more(m);
}

void pmove_remove(struct pmove *m)
{
	m->phase = PMOVE_REMOVING;
	m->next = m->finished = 0;
	pmove_more(m);
}

/* ---- lists ---- */

void pmove_list(struct pmove *m, const char *prefix, const char *token,
		void (*done)(struct obj_req *req))
{
	struct obj_req *req = objstore_req_new(OBJ_LIST, prefix);

	if (req == NULL || (token != NULL && (req->token = strdup(token)) == NULL)) {
		objstore_req_free(&req);
		pmove_end(m, OBJ_LOCAL, "out of memory");
		return;
	}
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = done;
	req->arg = m;
	objstore_submit(m->v->store, req);
}

static struct pkey *pmove_add(struct pmove *m, const char *suffix, const char *etag)
{
	struct pkey *k;

	if (m->count == m->cap) {
		unsigned cap = m->cap ? m->cap * 2 : 256;
		struct pkey *n = talloc_realloc(m, m->keys, struct pkey, cap);

		if (n == NULL) {
			return NULL;
		}
		m->keys = n;
		m->cap = cap;
	}
	k = &m->keys[m->count++];
	*k = (struct pkey){.suffix = talloc_strdup(m, suffix),
			.etag = talloc_strdup(m, etag ? etag : "")};
	return k->suffix != NULL && k->etag != NULL ? k : NULL;
}

/* Is it none of the directory's? What nobody here knows and came after the rename had begun is somebody
 * else's new object under the old name; so may be what a row knows otherwise: another node may have finished the
 * rename, and given the name anew. What stands apart has left the directory before. */
static void pmove_judge(struct pmove *m, struct pkey *k, const struct obj_entry *e)
{
	const char *below = e->key + strlen(m->v->prefix);
	bool apart = index_at_s3(m->v->index, &OFS_OID_APART, below, false) != NULL ||
			redirect_is_from(m->v->reconcile, e->key);
	bool young = m->cutoff_ns != 0 && e->mtime_ns > m->cutoff_ns && !rename_note_is_parked(m->v, e->key);
	const struct row *row = young ? pmove_row(m, k->suffix) : NULL;
	bool other = row != NULL && (row->is_dir || row->etag == NULL || strcmp(row->etag, k->etag) != 0);

	k->late = e->mtime_ns > m->cutoff_ns - PMOVE_LATE_NS;
	k->young = !apart && young && (row != NULL ? other : e->size == 0);
	if (apart) {
		pmove_stays(m, k, STAY_APART);
	} else if (young && row == NULL && e->size > 0) {
		pmove_stays(m, k, STAY_FOREIGN);
	}
}

static void pmove_listed(struct obj_req *req)
{
	struct pmove *m = req->arg;
	struct obj_result *r = &req->result;
	struct pkey *k;
	unsigned i;

	if (r->status != OBJ_OK) {
		pmove_end(m, r->status, r->message);
		objstore_req_free(&req);
		return;
	}
	for (i = 0; i < r->entry_count; i++) {
		const struct obj_entry *e = &r->entries[i];

		if (e->is_prefix) {
			continue;
		}
		k = pmove_add(m, e->key + strlen(m->from), e->etag);
		if (k == NULL) {
			objstore_req_free(&req);
			pmove_end(m, OBJ_LOCAL, "out of memory");
			return;
		}
		pmove_judge(m, k, e);
		tally_add(&m->tally, m->v, e);
	}
	if (r->next_token != NULL) {
		pmove_list(m, m->from, r->next_token, pmove_listed);
	} else {
		if (m->count > 0) {
			qsort(m->keys, m->count, sizeof(*m->keys), pmove_key_compare);
		}
		pmove_copies(m);
	}
	objstore_req_free(&req);
}

static void pmove_head(struct pmove *m, const char *key, void (*done)(struct obj_req *req))
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, key);

	if (req == NULL) {
		pmove_end(m, OBJ_LOCAL, "out of memory");
		return;
	}
	req->done = done;
	req->arg = m;
	objstore_submit(m->v->store, req);
}

static void pmove_single_over(struct pmove *m)
{
	pmove_end(m, m->failed, m->message);
}

/* Class F1: what is under the old key, if it was deleted before? */
static void pmove_single_there(struct obj_req *req)
{
	struct pmove *m = req->arg;
	struct obj_result *r = &req->result;

	if (r->status == OBJ_OK) {
		pmove_look_at(m, "", r->etag, NULL);
	} else if (r->status != OBJ_NOT_FOUND) {
		m->failed = r->status;
		m->message = talloc_strdup(m, r->message != NULL ? r->message : "");
	}
	objstore_req_free(&req);
	pmove_look(m, pmove_single_over);
}

static void pmove_single_seen(struct obj_req *req)
{
	struct pmove *m = req->arg;
	struct obj_result *r = &req->result;

	m->phase = PMOVE_COPYING;
	if (r->status == OBJ_NOT_FOUND && pmove_looks(m)) {
		pmove_head(m, m->to, pmove_single_there);
	} else if (r->status == OBJ_NOT_FOUND) {
		pmove_end(m, OBJ_OK, NULL);
	} else if (r->status != OBJ_OK) {
		pmove_end(m, r->status, r->message);
	} else if (pmove_add(m, "", r->etag) == NULL) {
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
	if (m->single) {
		pmove_head(m, m->from, pmove_single_seen);
	} else {
		pmove_list(m, m->from, NULL, pmove_listed);
	}
}
