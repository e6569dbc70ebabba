/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: listings and lookups where objects stay under other keys than their names' (redirects).
 * Way: mirror_list.c with all pages, mirror_ask.c for one name -> here -> reconcile's table, LIST of what is in
 *      doubt -> back.
 * Thread: core; paged_run on a worker.
 * Owns: struct below until answered.
 * Holds: 1. what is at a key and called otherwise is no name there, nor makes it a directory;
 *        2. what is called so is a name, and makes directories of all above it;
 *        3. without redirects nothing is asked, and nothing differs.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mirror_listing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../reconcile/reconcile.h"

#define BELOW_PAGE 1000u

/* ---- is anything below? ---- */

struct below { /* talloc child of the mirror */
	struct mirror *m;
	uint64_t request_id;
	char *prefix;
	void (*done)(int status, const char *message, bool any, void *arg);
	void *arg;
};

static void below_ask(struct below *b, const char *token);

static void below_page(struct obj_req *req)
{
	struct below *b = req->arg;
	struct obj_result *r = &req->result;
	char *token = r->next_token != NULL ? talloc_strdup(b, r->next_token) : NULL;
	bool any = false;
	unsigned i;

	for (i = 0; r->status == OBJ_OK && i < r->entry_count && !any; i++) {
		any = r->entries[i].key != NULL && !mirror_is_apart(b->m, r->entries[i].key);
	}
	if (r->status == OBJ_OK && !any && r->next_token != NULL && token == NULL) {
		b->done(-ENOMEM, "out of memory", false, b->arg);
		talloc_free(b);
	} else if (r->status == OBJ_OK && !any && token != NULL) {
		below_ask(b, token);
	} else {
		b->done(r->status == OBJ_NOT_FOUND ? -EIO : mirror_store_error(r->status), r->message, any,
				b->arg);
		talloc_free(b);
	}
	objstore_req_free(&req);
}

static void below_ask(struct below *b, const char *token)
{
	struct obj_req *req = objstore_req_new(OBJ_LIST, b->prefix);
	unsigned most = redirects_from_below(b->m->v->reconcile, b->prefix) + 1;

	if (req == NULL || (token != NULL && (req->token = strdup(token)) == NULL)) {
		objstore_req_free(&req);
		b->done(-ENOMEM, "out of memory", false, b->arg);
		talloc_free(b);
		return;
	}
	req->prio = OBJ_PRIO_READER;
	req->request_id = b->request_id;
	req->max_keys = (int)(most < BELOW_PAGE ? most : BELOW_PAGE);
	req->done = below_page;
	req->arg = b;
	objstore_submit(b->m->v->store, req);
}

void mirror_below(struct mirror *m, uint64_t request_id, const char *prefix,
		void (*done)(int status, const char *message, bool any, void *arg), void *arg)
{
	struct below *b;

	if (redirects_below(m->v->reconcile, prefix, NULL, NULL) > 0) {
		done(0, NULL, true, arg);
		return;
	}
	b = talloc_zero(m, struct below);
	if (b == NULL || (b->prefix = talloc_strdup(b, prefix)) == NULL) {
		talloc_free(b);
		done(-ENOMEM, "out of memory", false, arg);
		return;
	}
	b->m = m;
	b->request_id = request_id;
	b->done = done;
	b->arg = arg;
	below_ask(b, NULL);
}

struct row *mirror_file_row(struct mirror *m, const struct ofs_oid *dir, const char *raw)
{
	struct volume *v = m->v;
	struct row *row = index_at_s3(v->index, dir, raw, false);
	char *key = row == NULL && redirects_any(v->reconcile)
			? index_key(v->index, m, v->prefix, dir, raw, false, NULL) : NULL;
	const char *from = key != NULL ? redirect_of(v->reconcile, key) : NULL;

	if (from != NULL) {
		row = index_at_s3(v->index, &OFS_OID_APART, from + strlen(v->prefix), false);
	}
	talloc_free(key);
	return row;
}

/* ---- a listing ---- */

struct paged_job { /* which names the pages have */
	struct disk_job job;
	struct listing *l; /* core only */
	const struct list_entry *entries; /* nobody changes them meanwhile */
	size_t count;
	/* out */
	uint32_t *slots;
	size_t slot_mask;
};

/* They come in order: of many in one directory only the first makes it an entry. */
static void listing_redirect(void *arg, const char *from, const char *rest)
{
	struct listing *l = arg;
	const char *slash = strchr(rest, '/');
	size_t len = slash != NULL ? (size_t)(slash - rest) : strlen(rest);
	const struct list_entry *last = l->count > 0 ? &l->entries[l->count - 1] : NULL;
	char *raw;

	if (last != NULL && last->is_dir == (slash != NULL) && strlen(last->raw) == len &&
			strncmp(last->raw, rest, len) == 0) {
		return;
	}
	raw = talloc_strndup(l, rest, len);
	if (raw != NULL && listing_find(l, raw, slash != NULL) != NULL) {
		talloc_free(raw); /* of a file: somebody has put an object at its key meanwhile */
		return;
	}
	if (raw == NULL || listing_add(l, raw, slash != NULL, NULL, slash != NULL ? NULL : from) == NULL) {
		listing_fail(l, -ENOMEM, "out of memory");
	}
	talloc_free(raw);
}

static void listing_doubts(struct listing *l);

static void listing_doubted(int status, const char *message, bool any, void *arg)
{
	struct listing *l = arg;
	struct list_entry *e = &l->entries[l->doubt];

	if (status != 0) {
		listing_fail(l, status, message);
		listing_end(l);
		return;
	}
	if (any) {
		l->doubt++;
	} else {
		*e = l->entries[--l->count];
	}
	listing_doubts(l);
}

/* May there be nothing below this directory but what is called otherwise? 0, 1, -ENOMEM. */
static int listing_is_doubtful(const struct listing *l, const char *prefix)
{
	struct reconcile *rc = l->m->v->reconcile;

	return prefix == NULL ? -ENOMEM
			      : redirects_from_below(rc, prefix) > 0 && redirects_below(rc, prefix, NULL, NULL) == 0;
}

static void listing_doubts(struct listing *l)
{
	bool any = redirects_from_below(l->m->v->reconcile, l->prefix) > 0;

	while (any && l->doubt < l->count) {
		const struct list_entry *e = &l->entries[l->doubt];
		/* Nobody's child: the listing may end with the answer. */
		char *prefix = e->is_dir ? talloc_asprintf(NULL, "%s%s/", l->prefix, e->raw) : NULL;
		int doubt = e->is_dir ? listing_is_doubtful(l, prefix) : 0;

		if (doubt == 1) {
			mirror_below(l->m, l->request_id, prefix, listing_doubted, l);
			talloc_free(prefix);
			return;
		}
		talloc_free(prefix);
		if (doubt < 0) {
			listing_fail(l, doubt, "out of memory");
			listing_end(l);
			return;
		}
		l->doubt++;
		if (listing_pauses(l, listing_doubts)) {
			return;
		}
	}
	listing_scan(l);
}

/* What is called otherwise comes to what the pages had. */
static void listing_paged(struct disk_job *job)
{
	struct paged_job *j = (struct paged_job *)job;
	struct listing *l = j->l;

	l->slots = j->slots;
	l->slot_mask = j->slot_mask;
	free(j);
	if (l->slots != NULL) {
		redirects_below(l->m->v->reconcile, l->prefix, listing_redirect, l);
		free(l->slots); /* of the pages alone */
		l->slots = NULL;
	} else {
		listing_fail(l, -ENOMEM, "out of memory");
	}
	if (l->status != 0) {
		listing_end(l);
	} else {
		listing_doubts(l);
	}
}

static void paged_run(struct disk_job *job)
{
	struct paged_job *j = (struct paged_job *)job;

	j->slots = entries_hash(j->entries, j->count, &j->slot_mask);
}

void listing_redirects(struct listing *l)
{
	struct reconcile *rc = l->m->v->reconcile;
	struct paged_job *j;

	if (redirects_below(rc, l->prefix, NULL, NULL) == 0) {
		listing_doubts(l);
		return;
	}
	j = calloc(1, sizeof(*j));
	if (j == NULL) {
		listing_fail(l, -ENOMEM, "out of memory");
		listing_end(l);
		return;
	}
	j->l = l;
	j->entries = l->entries;
	j->count = l->count;
	j->job.what = "mirror redirects";
	j->job.run = paged_run;
	j->job.done = listing_paged;
	disk_submit(l->m->v->disk, DISK_ANY, &j->job);
}
