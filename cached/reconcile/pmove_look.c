/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: on a store that fences nothing but keeps versions (class F1): a move of keys that was stopped among its deletes
 *       looks what those have covered, although no listing shows these keys any more.
 * Way: pmove.c, when it repeats such a move, and pmove_verify.c of each, once every copy is listed -> LIST of a key's versions
 *      (under.c) -> back.
 * Thread: core.
 * Owns: nothing; what is to be looked at is the move's.
 * Holds: a key that may have been deleted is one that is listed under the new name and not under the old one, or one
 *        of whose file the index has its old place. What is listed under the old name and is younger than the rename
 *        may have been put back, over another. What clients deleted below is looked at by the first try, too: the look after
 *        its own delete may be to come, and would be at the new key. So is what may have been written since the row was
 *        committed: what that has covered becomes an object beside the new name. What this node wrote itself is known by
 *        the file's row.
 */
#include "private.h"
#include <stdlib.h>
#include <string.h>

#define LOOKS_AT_ONCE 16
#define LOOK_BACK_NS (15 * 60 * NS_PER_S) /* where nobody knows when the move began */
#define LOOK_DEPTH_MOST 600u

struct plook { /* of pmove.looks */
	char *suffix;
	char *etags[2]; /* of what was deleted, one of them; the first is under the new name. NULL: not known */
	unsigned at; /* of them */
	struct row *row; /* of the file, as it was; NULL: of none */
	bool written; /* a write of it may have been carried out; else the key was deleted */
	int64_t sent_ns; /* since when a delete of this file may have gone out, by the store's clock; 0: not known */
};

struct plooking {
	struct pmove *m;
	struct plook *l;
};

bool pmove_looks(const struct pmove *m)
{
	return under_applies(m->v) && (m->removing || m->item == NULL) && !rename_note_is_parked(m->v, m->from);
}

/* Every move looks at what clients deleted below. */
static bool plook_is_wanted(const struct pmove *m, const struct row *row)
{
	return !claim_is(row) && row->etag != NULL && (row->live == ROW_TRASHED || pmove_looks(m));
}

/* As the row is now: it may change while it is looked. talloc child of ctx; NULL: out of memory. */
static struct row *plook_row(TALLOC_CTX *ctx, const struct row *row)
{
	struct row *known = talloc_zero(ctx, struct row);

	if (known == NULL) {
		return NULL;
	}
	known->oid = row->oid;
	known->parent = row->parent;
	known->wid = row->wid;
	known->s3_size = row->s3_size;
	known->s3_data_gen = row->s3_data_gen;
	known->s3_meta_gen = row->s3_meta_gen;
	known->in_s3 = row->in_s3;
	known->live = row->live;
	known->etag = row->etag != NULL ? talloc_strdup(known, row->etag) : NULL;
	known->version_id = row->version_id != NULL ? talloc_strdup(known, row->version_id) : NULL;
	if ((row->etag != NULL && known->etag == NULL) || (row->version_id != NULL && known->version_id == NULL)) {
		TALLOC_FREE(known);
	}
	return known;
}

void pmove_look_at(struct pmove *m, const char *suffix, const char *etag, const char *or_etag)
{
	const struct row *row = pmove_known(m, suffix);
	struct plook *l;

	if (m->look_count == m->look_cap) {
		unsigned cap = m->look_cap > 0 ? 2 * m->look_cap : 64;

		l = talloc_realloc(m, m->looks, struct plook, cap);
		if (l == NULL) {
			m->failed = OBJ_LOCAL;
			return;
		}
		m->looks = l;
		m->look_cap = cap;
	}
	if (or_etag != NULL && etag != NULL && strcmp(etag, or_etag) == 0) {
		or_etag = NULL;
	}
	l = &m->looks[m->look_count++];
	*l = (struct plook){.suffix = talloc_strdup(m, suffix),
			.etags = {etag != NULL ? talloc_strdup(m, etag) : NULL,
					or_etag != NULL ? talloc_strdup(m, or_etag) : NULL}};
	if (row != NULL && !row->is_dir) {
		l->row = plook_row(m, row);
		l->sent_ns = heir_deleting_ns(row);
	}
	if (l->suffix == NULL || (row != NULL && !row->is_dir && l->row == NULL)) {
		m->failed = OBJ_LOCAL;
	}
}

static void plook_more(struct pmove *m);

static void plook_start(struct plooking *s);

static void plook_done(enum obj_status st, const char *message, void *arg)
{
	struct plooking *s = arg;
	struct pmove *m = s->m;

	if (st == OBJ_OK && s->l->at == 0 && s->l->etags[1] != NULL) {
		s->l->at = 1;
		plook_start(s);
		return;
	}
	talloc_free(s);
	m->running--;
	if (st != OBJ_OK && m->failed == OBJ_OK) {
		m->failed = st;
		m->message = talloc_strdup(m, message != NULL ? message : "");
	}
	plook_more(m);
}

/* Nothing at the key says that an earlier write of ours was answered, and looked under. */
static void plook_start_written(struct plooking *s)
{
	struct pmove *m = s->m;
	const struct row *row = s->l->row;
	char *key = talloc_asprintf(s, "%s%s", m->from, s->l->suffix);
	char *to = talloc_asprintf(s, "%s%s", m->to, s->l->suffix);
	const struct under_write w = {
		.key = key,
		.beside = to,
		.expect = row->etag,
		.fresh = row->etag == NULL && row->version_id == NULL,
		.oid = row->oid,
		.row = row,
		.dir = &row->parent,
		.since_ns = objstore_now_ns(m->v->store, m->v->clock) - LOOK_BACK_NS,
	};

	if (key == NULL || to == NULL) {
		plook_done(OBJ_LOCAL, "out of memory", s);
		return;
	}
	under_check(m->v, &w, plook_done, s);
}

static void plook_start(struct plooking *s)
{
	struct pmove *m = s->m;
	char *key = talloc_asprintf(s, "%s%s", m->from, s->l->suffix);
	int64_t since_ns = m->cutoff_ns != 0 ? m->cutoff_ns : objstore_now_ns(m->v->store, m->v->clock) - LOOK_BACK_NS;
	const struct under_write w = {
		.key = key,
		.expect = s->l->etags[s->l->at],
		.etag = s->l->at > 0 ? s->l->etags[0] : NULL,
		.deleted = true,
		.tried = true,
		.sent = s->l->sent_ns != 0,
		.oid = s->l->row != NULL ? s->l->row->oid : m->tombstone,
		.row = s->l->row,
		.since_ns = s->l->sent_ns != 0 && s->l->sent_ns < since_ns ? s->l->sent_ns : since_ns,
	};

	if (key == NULL) {
		plook_done(OBJ_LOCAL, "out of memory", s);
		return;
	}
	under_check(m->v, &w, plook_done, s);
}

static void plook_more(struct pmove *m)
{
	m->running++; /* an answer may come at once */
	while (m->failed == OBJ_OK && m->look_next < m->look_count && m->running <= LOOKS_AT_ONCE) {
		struct plooking *s = talloc_zero(m, struct plooking);

		if (s == NULL) {
			m->failed = OBJ_LOCAL;
			break;
		}
		s->m = m;
		s->l = &m->looks[m->look_next++];
		m->running++;
		if (s->l->written) {
			plook_start_written(s);
		} else {
			plook_start(s);
		}
	}
	if (--m->running == 0) {
		m->looked(m);
	}
}

static int plook_compare(const void *a, const void *b)
{
	return strcmp(((const struct plook *)a)->suffix, ((const struct plook *)b)->suffix);
}

/* Those of the index that neither listing has shown; the first `sorted` looks are in order. */
static void plook_rows(struct pmove *m, const struct row *dir, const char *path, unsigned depth, unsigned sorted)
{
	struct index *ix = m->v->index;

	for (struct row *row = index_s3_child(ix, dir); row != NULL && depth > 0; row = index_s3_next(ix, row)) {
		char *suffix = talloc_asprintf(m, "%s%s%s", path, row->s3_name, row->is_dir ? "/" : "");
		struct plook wanted = {.suffix = suffix};

		if (suffix == NULL) {
			m->failed = OBJ_LOCAL;
		} else if (row->is_dir) {
			plook_rows(m, row, suffix, depth - 1, sorted);
		} else if (plook_is_wanted(m, row) && pmove_key(m, suffix) == NULL && (sorted == 0 ||
				bsearch(&wanted, m->looks, sorted, sizeof(*m->looks), plook_compare) == NULL)) {
			pmove_look_at(m, suffix, row->etag, NULL);
		}
		talloc_free(suffix);
	}
}

/* Files that wait to be sent, and whose object is not what their rows know. */
static void plook_written(struct pmove *m)
{
	for (unsigned i = 0; !m->single && m->failed == OBJ_OK && i < m->count; i++) {
		const struct pkey *k = &m->keys[i];
		const struct row *row = k->gone || k->stays != STAY_NOT ? NULL : pmove_known(m, k->suffix);

		if (row == NULL || row->is_dir || row->work == NULL ||
				(row->etag != NULL && k->etag != NULL && strcmp(k->etag, row->etag) == 0)) {
			continue;
		}
		pmove_look_at(m, k->suffix, NULL, NULL);
		if (m->failed == OBJ_OK) {
			m->looks[m->look_count - 1].written = true;
		}
	}
}

void pmove_look(struct pmove *m, void (*looked)(struct pmove *m))
{
	const struct row *dir = ofs_oid_is_none(&m->dir) ? NULL : index_get(m->v->index, &m->dir);

	m->looked = looked;
	if (dir != NULL) {
		plook_rows(m, dir, "", LOOK_DEPTH_MOST, m->look_count);
	}
	for (unsigned i = 0; pmove_looks(m) && i < m->count; i++) {
		const struct pkey *k = &m->keys[i];
		const struct row *row = k->late ? pmove_row(m, k->suffix) : NULL;

		if (k->late) {
			pmove_look_at(m, k->suffix, row != NULL ? row->etag : k->etag, NULL);
		}
	}
	plook_written(m);
	plook_more(m);
}
