/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: listings and lookups where objects stay under other keys than their names' (redirects).
 * Way: mirror_list.c with all pages, mirror_ask.c for one name -> here -> reconcile's table, LIST of what is in
 *      doubt -> back.
 * Thread: core.
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

/* Is it among what the pages had? */
static bool listing_has(const struct listing *l, const char *raw, size_t len, bool is_dir)
{
	for (size_t i = 0; i < l->paged; i++) {
		const struct list_entry *e = &l->entries[i];

		if (e->is_dir == is_dir && strlen(e->raw) == len && strncmp(e->raw, raw, len) == 0) {
			return true;
		}
	}
	return false;
}

/* They come in order: of many in one directory only the first makes it an entry. */
static void listing_redirect(void *arg, const char *from, const char *rest)
{
	struct listing *l = arg;
	const char *slash = strchr(rest, '/');
	size_t len = slash != NULL ? (size_t)(slash - rest) : strlen(rest);
	const struct list_entry *last = l->count > 0 ? &l->entries[l->count - 1] : NULL;
	char *raw;

	if ((last != NULL && last->is_dir == (slash != NULL) && strlen(last->raw) == len &&
			    strncmp(last->raw, rest, len) == 0) ||
			listing_has(l, rest, len, slash != NULL)) {
		return; /* of a file: somebody has put an object at its key meanwhile */
	}
	raw = talloc_strndup(l, rest, len);
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

/* Directories below which there may be nothing but what is called otherwise. */
static void listing_doubts(struct listing *l)
{
	for (; l->doubt < l->count; l->doubt++) {
		const struct list_entry *e = &l->entries[l->doubt];
		char *prefix;
		bool doubt;

		if (!e->is_dir) {
			continue;
		}
		prefix = talloc_asprintf(NULL, "%s%s/", l->prefix, e->raw); /* the listing may end with the answer */
		if (prefix == NULL) {
			listing_fail(l, -ENOMEM, "out of memory");
			listing_end(l);
			return;
		}
		doubt = redirects_from_below(l->m->v->reconcile, prefix) > 0 &&
				redirects_below(l->m->v->reconcile, prefix, NULL, NULL) == 0;
		if (doubt) {
			mirror_below(l->m, l->request_id, prefix, listing_doubted, l);
			talloc_free(prefix);
			return;
		}
		talloc_free(prefix);
	}
	listing_scan(l);
}

void listing_redirects(struct listing *l)
{
	l->paged = l->count;
	redirects_below(l->m->v->reconcile, l->prefix, listing_redirect, l);
	if (l->status != 0) {
		listing_end(l);
		return;
	}
	if (redirects_from_below(l->m->v->reconcile, l->prefix) == 0) {
		listing_scan(l);
		return;
	}
	listing_doubts(l);
}
