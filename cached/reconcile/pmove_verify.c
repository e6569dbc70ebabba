/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: between the copies and the deletes of a move of keys: are the copies there, and where is it said what stays?
 * Way: pmove.c -> LIST under the new name -> (pmove_look.c) -> notes (redirect.c) -> m->copied, or pmove_remove.
 * Thread: core.
 * Owns: nothing; all is the move's.
 * Holds:
 *  1. a key whose copy is not listed, or is another's by now, is not deleted;
 *  2. what stays, and is called otherwise after the move, is noted before the first delete.
 */
#include "private.h"
#include <stdlib.h>
#include <string.h>

#define NOTES_AT_ONCE 16

/* ---- what stays is noted before anything is deleted ---- */

static void pmove_note_more(struct pmove *m);

static void pmove_noted(enum obj_status st, const char *message, void *arg)
{
	struct pmove *m = arg;

	m->running--;
	if (st != OBJ_OK && m->failed == OBJ_OK) {
		m->failed = st;
		m->message = talloc_strdup(m, message ? message : "");
	}
	pmove_note_more(m);
}

static void pmove_note_more(struct pmove *m)
{
	m->running++; /* an answer may come at once */
	while (m->failed == OBJ_OK && m->note_next < m->note_count && m->running <= NOTES_AT_ONCE) {
		const struct pnote *n = &m->notes[m->note_next++];

		if (strcmp(n->from, n->to) == 0) {
			redirect_end(m->v->reconcile, n->from); /* the directory comes back to it */
			continue;
		}
		m->running++;
		redirect_put(m->v, n->from, n->to, n->why, pmove_noted, m);
	}
	if (--m->running > 0) {
		return;
	}
	if (m->failed != OBJ_OK) {
		pmove_end(m, m->failed, m->message);
	} else if (m->copied != NULL) {
		m->copied(m);
	} else {
		pmove_remove(m);
	}
}

static void pmove_note(struct pmove *m, const char *from, const char *rest, const char *why)
{
	struct pnote *n = talloc_realloc(m, m->notes, struct pnote, m->note_count + 1);

	if (n == NULL) {
		m->failed = OBJ_LOCAL;
		return;
	}
	m->notes = n;
	n = &n[m->note_count++];
	*n = (struct pnote){.from = talloc_strdup(m, from),
			.to = talloc_asprintf(m, "%s%s", m->to, rest),
			.why = why};
	if (n->from == NULL || n->to == NULL) {
		m->failed = OBJ_LOCAL;
	}
}

/* It has stayed when a directory was renamed before, and is called otherwise once more. */
static void pmove_note_before(void *arg, const char *from, const char *rest)
{
	pmove_note(arg, from, rest, NULL);
}

static void pmove_notes(struct pmove *m)
{
	unsigned i;

	m->phase = PMOVE_NOTING;
	redirects_below(m->v->reconcile, m->from, pmove_note_before, m);
	for (i = 0; m->stay > 0 && i < m->count; i++) {
		const struct pkey *k = &m->keys[i];
		bool fits = strlen(m->to) + strlen(k->suffix) <= OBJ_KEY_MAX_BYTES;

		if (k->stays == STAY_ARCHIVED || (k->stays == STAY_REFUSED && fits)) {
			char *from = talloc_asprintf(m, "%s%s", m->from, k->suffix);

			pmove_note(m, from ? from : "", k->suffix, k->why ? k->why : "");
			talloc_free(from);
		}
	}
	pmove_note_more(m);
}

/* ---- are the copies there? ---- */

int pmove_key_compare(const void *a, const void *b)
{
	return strcmp(((const struct pkey *)a)->suffix, ((const struct pkey *)b)->suffix);
}

struct pkey *pmove_key(const struct pmove *m, const char *suffix)
{
	const struct pkey wanted = {.suffix = (char *)suffix};

	return m->count > 0 ? bsearch(&wanted, m->keys, m->count, sizeof(*m->keys), pmove_key_compare) : NULL;
}

/* Which of them is to be there; NULL: none. */
static struct pkey *pmove_key_at(struct pmove *m, const char *suffix)
{
	struct pkey *k = pmove_key(m, suffix);

	for (unsigned i = 0; k == NULL && m->asides > 0 && i < m->count; i++) {
		k = m->keys[i].aside != NULL && strcmp(m->keys[i].aside, suffix) == 0 ? &m->keys[i] : NULL;
	}
	return k == NULL || k->aside == NULL || strcmp(k->aside, suffix) == 0 ? k : NULL;
}

/* What is listed under the new name is what was copied there, or somebody else's by now. */
static void pmove_verify_entry(struct pmove *m, const struct obj_entry *e)
{
	const char *suffix = e->key + strlen(m->to), *etag;
	struct pkey *k = pmove_key_at(m, suffix);
	const struct row *row;

	if (k == NULL && pmove_looks(m)) {
		row = pmove_known(m, suffix);
		pmove_look_at(m, suffix, e->etag, row != NULL ? row->etag : NULL);
	}
	if (k == NULL || k->stays != STAY_NOT || k->gone) {
		return;
	}
	k->seen = true;
	etag = k->copy_etag != NULL ? k->copy_etag : k->etag;
	if (e->etag != NULL && *etag != '\0' && strcmp(e->etag, etag) != 0 && !pmove_beside(m, k)) {
		log_notice("reconcile", "%s was replaced while its directory was renamed: %s%s stays "
				"where it is", e->key, m->from, k->suffix);
		pmove_stays(m, k, STAY_TAKEN);
	}
}

static void pmove_looked(struct pmove *m)
{
	if (m->failed != OBJ_OK) {
		pmove_end(m, m->failed, m->message);
	} else {
		pmove_notes(m);
	}
}

static void pmove_verified(struct pmove *m)
{
	unsigned i;

	if (m->beside) {
		m->look_count = 0;
		pmove_copies(m);
		return;
	}
	for (i = 0; i < m->count; i++) {
		if (m->keys[i].stays == STAY_NOT && !m->keys[i].seen && !m->keys[i].gone) {
			m->failed = OBJ_AWAY;
			m->message = talloc_asprintf(m, "the copy %s%s is not listed; nothing was "
					"deleted", m->to, m->keys[i].suffix);
			pmove_end(m, m->failed, m->message);
			return;
		}
	}
	if (under_applies(m->v) && !rename_note_is_parked(m->v, m->from)) {
		pmove_look(m, pmove_looked);
	} else {
		pmove_looked(m);
	}
}

static void pmove_verify_page(struct obj_req *req)
{
	struct pmove *m = req->arg;
	struct obj_result *r = &req->result;
	unsigned i;

	if (r->status != OBJ_OK) {
		pmove_end(m, r->status, r->message);
		objstore_req_free(&req);
		return;
	}
	for (i = 0; i < r->entry_count; i++) {
		if (!r->entries[i].is_prefix) {
			pmove_verify_entry(m, &r->entries[i]);
		}
	}
	if (r->next_token != NULL) {
		pmove_verify(m, r->next_token);
	} else {
		pmove_verified(m);
	}
	objstore_req_free(&req);
}

void pmove_verify(struct pmove *m, const char *token)
{
	pmove_list(m, m->to, token, pmove_verify_page);
}
