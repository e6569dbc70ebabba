/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the tree is brought to what a whole listing says: names that are gone, new, or other.
 * Way: from mirror_list.c with all pages and the names in the tree; mirror_remove.c, mirror_rename.c,
 *      mirror_want.c, mirror_make.c and mirror_change.c do the work; back to listing_mark.
 * Thread: core.
 * Owns: the batch of stubs that is being filled.
 * Holds: 1. absence is concluded only for rows that were in S3 when the first page was asked for and
 *           have not changed since, another version only for such, and both in a bucket that is still
 *           ours, and no earlier state of it (core/sure.c);
 *        2. a place where S3 is behind the mirror is left alone;
 *        3. of a file and a directory with one name the directory has it, the file its escape,
 *           whichever came first: so files move aside before directories are made, and back after
 *           directories have gone.
 *
 *   listing_agree -> volume_sure -> listing_sure -> listing_remove -> listing_names -> listing_more*
 *       -> listing_mark
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mirror_listing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../core/sure.h"
#include "../recall/recall.h"
#include "../reconcile/reconcile.h"
#include "../reconcile/whose.h"

static void listing_more(struct listing *l);

/* ---- what is new or other ---- */

static void listing_made(int status, unsigned omitted, void *arg)
{
	struct listing *l = arg;

	l->running--;
	l->omitted += omitted;
	if (status != 0) {
		listing_fail(l, status, "names cannot be made in the mirror; see the log");
	}
	listing_more(l);
}

static void listing_changed(int status, void *arg)
{
	struct listing *l = arg;

	(void)status; /* logged; its row keeps the old fence, so the next listing tries again */
	l->running--;
	listing_more(l);
}

static void listing_send_batch(struct listing *l)
{
	struct stub *list = l->batch;

	l->batch = NULL;
	l->batch_count = 0;
	l->running++;
	mirror_make(l->m, l->request_id, l->dir, list, listing_made, l);
}

/* Is the bucket that has other versions ours? Then files that are here become those. */
static void listing_seen(int status, const char *message, void *arg)
{
	struct listing *l = arg;
	struct stub *s;

	l->seen = status == 0;
	l->seeing = false;
	if (status != 0) {
		listing_fail(l, status == -ESTALE ? -EIO : status, message);
	}
	l->running++; /* some changes end at once */
	while ((s = l->changes) != NULL) {
		l->changes = s->next;
		if (status == 0) {
			mirror_change(l->m, l->request_id, l->dir, s, listing_changed, l);
		} else {
			stub_free(&s);
			l->running--;
		}
	}
	l->running--;
	listing_more(l);
}

static void listing_change(struct listing *l, struct stub *s)
{
	if (l->seen) {
		mirror_change(l->m, l->request_id, l->dir, s, listing_changed, l);
		return;
	}
	s->next = l->changes;
	l->changes = s;
	if (!l->seeing) {
		l->seeing = true;
		volume_sure(l->m->v, l->request_id, listing_seen, l);
	}
}

static void listing_want_done(struct want *w)
{
	struct listing *l = w->arg;
	struct stub *s = w->stub;

	switch (w->verdict) {
	case WANT_MAKE:
		w->stub = NULL;
		s->next = l->batch;
		l->batch = s;
		l->batch_count++;
		break;
	case WANT_CHANGE:
		w->stub = NULL;
		l->running++;
		listing_change(l, s);
		break;
	case WANT_OMIT:
		l->omitted++;
		break;
	case WANT_UNKNOWN:
		listing_fail(l, w->status, w->message);
		break;
	case WANT_ABSENT: /* deleted since the LIST */
	case WANT_LEAVE:
		break;
	}
	talloc_free(w);
	l->running--;
	listing_more(l);
}

int listing_name_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Its place among the names in the tree, or NULL. */
static const char **listing_local(const struct listing *l, const char *name)
{
	return l->local_count == 0 ? NULL : bsearch(&name, l->local, l->local_count, sizeof(*l->local),
							    listing_name_compare);
}

static bool listing_has_local(const struct listing *l, const char *name)
{
	return listing_local(l, name) != NULL;
}

/* What the entry is called here. */
static char *listing_name(struct listing *l, const struct list_entry *e)
{
	return mirror_name_of(l->m, l, &l->dir->oid, e->raw, e->is_dir,
			!e->is_dir && listing_find(l, e->raw, true) != NULL);
}

/* The same bytes at a later time than this row is of: another write. Somebody may have put other headers on them.
 * Of a write of ours the row knows when it was answered; the first listing after it says when that was. */
static void listing_time(struct index *ix, struct row *row, int64_t mtime_ns)
{
	if (row->s3_mtime_ns == 0 || row->s3_mtime_ns / NS_PER_S == mtime_ns / NS_PER_S) {
		return;
	}
	if (mtime_ns > row->s3_mtime_ns) {
		index_set_plain(ix, row, false);
	} else {
		index_set_fence(ix, row, row->etag, row->version_id, &row->wid, row->s3_size, mtime_ns);
	}
}

/* The answer to the entry's question: by the base, or by S3. false: not yet, the base is being read. */
static bool listing_want(struct listing *l, const struct list_entry *e, const char *name)
{
	struct base_row base = {0};
	const char *from = entry_from(e);
	int known = from != NULL ? -ENOENT : listing_base_row(l, e, &base);
	struct want *w = NULL;
	char *key;

	if (known == -EAGAIN) {
		return false;
	}
	key = talloc_asprintf(l, "%s%s%s", l->prefix, e->raw, e->is_dir ? "/" : "");
	if (key != NULL) {
		w = want_new(l, l->m, &l->dir->oid, e->raw, name, key, e->is_dir);
	}
	talloc_free(key);
	if (w == NULL || (from != NULL && want_set_apart(w, from) != 0)) {
		talloc_free(w);
		base_row_clear(&base);
		listing_fail(l, -ENOMEM, "out of memory");
		return true;
	}
	l->changed = true;
	w->request_id = l->request_id;
	w->done = listing_want_done;
	w->arg = l;
	l->running++;
	if (known == 0) {
		want_start_known(w, &base);
	} else if (e->implied) {
		want_start_implied(w);
	} else {
		want_start(w);
	}
	base_row_clear(&base);
	return true;
}

/* Does this entry need a question? Then it is on its way. */
static void listing_entry(struct listing *l, struct list_entry *e)
{
	struct volume *v = l->m->v;
	const char *from = entry_from(e), *etag = entry_etag(e);
	struct row *row = from != NULL ? index_at_s3(v->index, &OFS_OID_APART, from + strlen(v->prefix), false)
				       : index_at_s3(v->index, &l->dir->oid, e->raw, e->is_dir);
	char *name = listing_name(l, e);

	if (name == NULL) {
		listing_fail(l, -ENOMEM, "out of memory");
		return;
	}
	if (mirror_place_busy(l->m, &l->dir->oid, name, row)) {
		talloc_free(name);
		return;
	}
	if (row != NULL && row_is_here(row) && !listing_has_local(l, name)) {
		/* A power cut took the name and left the row. */
		if (l->unsure) {
			talloc_free(name);
			return;
		}
		index_set_live(v->index, row, ROW_NOT_HERE);
	}
	if (row != NULL && row_is_coming(row) && listing_has_local(l, name)) {
		talloc_free(name); /* a lookup's: of which version it is, its row says soon */
		return;
	}
	if (row != NULL && row_is_here(row) &&
			(e->is_dir || from != NULL || (row->etag != NULL && etag != NULL &&
						strcmp(row->etag, etag) == 0 &&
						row->s3_size == e->size))) {
		if (!e->is_dir && e->mtime_ns != 0) {
			listing_time(v->index, row, e->mtime_ns);
		}
		talloc_free(name);
		return;
	}
	l->at -= listing_want(l, e, name) ? 0 : 1;
	talloc_free(name);
}

static void listing_more(struct listing *l)
{
	if (l->dispatching || l->turn != NULL) {
		return; /* further up the stack; in another turn */
	}
	l->dispatching = true;
	while (l->status == 0 && l->at < l->count && l->running < MIRROR_HEADS_AT_ONCE &&
			!l->base_waits && !listing_base_begin(l, listing_more)) {
		listing_entry(l, &l->entries[l->at++]);
		if (l->batch_count >= MIRROR_BATCH) {
			listing_send_batch(l);
		}
		if (listing_pauses(l, listing_more)) {
			l->dispatching = false;
			return;
		}
	}
	if (l->batch_count >= MIRROR_BATCH || (l->batch_count > 0 && l->running == 0)) {
		listing_send_batch(l);
	}
	l->dispatching = false;
	if (l->running == 0 && l->batch_count == 0 && (l->status != 0 || l->at == l->count)) {
		listing_mark(l);
	}
}

/* ---- what is called otherwise ---- */

/* The first of the sorted names that is not before this one. */
static size_t listing_place(const char *const *names, size_t count, const char *name)
{
	size_t low = 0;

	while (low < count) {
		size_t mid = low + (count - low) / 2;

		if (strcmp(names[mid], name) < 0) {
			low = mid + 1;
		} else {
			count = mid;
		}
	}
	return low;
}

/* The names that the tree has are others now: a few of a million, which are put between those that stay. */
static void listing_renamed_local(struct listing *l, struct renaming *list)
{
	size_t stay = 0, came = 0;
	const char **names;

	for (struct renaming *r = list; r != NULL; r = r->next) {
		const char **place = r->status == 0 ? listing_local(l, r->from) : NULL;

		r->place = place;
		r->now = place != NULL ? list_text_put(&l->local_text, r->to, NULL) : NULL;
	}
	for (struct renaming *r = list; r != NULL; r = r->next) {
		if (r->now != NULL) {
			*r->place = NULL;
		}
	}
	for (size_t i = 0; i < l->local_count; i++) {
		if (l->local[i] != NULL) {
			l->local[stay++] = l->local[i];
		}
	}
	for (struct renaming *r = list; r != NULL; r = r->next) {
		if (r->now != NULL) {
			l->local[stay + came++] = r->now;
		}
	}
	if (came == 0) {
		return;
	}
	names = malloc(came * sizeof(*names));
	if (names == NULL) {
		qsort(l->local, l->local_count, sizeof(*l->local), listing_name_compare);
		return;
	}
	memcpy(names, &l->local[stay], came * sizeof(*names));
	qsort(names, came, sizeof(*names), listing_name_compare);
	while (came-- > 0) {
		size_t at = listing_place(l->local, stay, names[came]);

		memmove(&l->local[at + came + 1], &l->local[at], (stay - at) * sizeof(*names));
		l->local[at + came] = names[came];
		stay = at;
	}
	free(names);
}

static void listing_stays(struct listing *l, const char *from, const char *to, const char *why)
{
	l->soon = true;
	log_line(LOG_LVL_NOTICE, "mirror", l->request_id, "%s%s is not called %s yet: %s", l->prefix,
			from, to, why);
}

static void listing_renamed(struct renaming *list, void *arg)
{
	struct listing *l = arg;

	listing_renamed_local(l, list);
	while (list != NULL) {
		struct renaming *r = list;

		list = r->next;
		if (r->status == 0) {
			log_line(LOG_LVL_INFO, "mirror", l->request_id, "%s%s is called %s now", l->prefix,
					r->from, r->to);
		} else {
			listing_stays(l, r->from, r->to,
					r->status == -EAGAIN ? "in use" : strerror(-r->status));
		}
		renaming_free(&r);
	}
	listing_more(l);
}

/* What must become of the name of a file that is here: NULL if nothing can be done now. */
static struct renaming *listing_renaming(struct listing *l, const struct list_entry *e)
{
	struct mirror *m = l->m;
	struct row *row = index_at_s3(m->v->index, &l->dir->oid, e->raw, false);
	struct renaming *r = NULL;
	char *name;

	l->unknown += row == NULL || row->live == ROW_NOT_HERE;
	if (row == NULL || !row_is_here(row) || !step_at_home(row) ||
			(strcmp(row->name, e->raw) == 0 && listing_find(l, e->raw, true) == NULL)) {
		return NULL;
	}
	name = listing_name(l, e);
	if (name == NULL || strcmp(name, row->name) == 0) {
		talloc_free(name);
		return NULL;
	}
	if (!listing_has_local(l, row->name) && !listing_has_local(l, name)) {
		if (!l->unsure && !mirror_place_busy(m, &l->dir->oid, row->name, row)) {
			index_set_live(m->v->index, row, ROW_NOT_HERE); /* lost in a power cut */
		}
	} else if (mirror_place_busy(m, &l->dir->oid, row->name, row) ||
			mirror_place_busy(m, &l->dir->oid, name, NULL) ||
			(m->v->recalls != NULL && recall_busy(m->v->recalls, row->ino))) {
		listing_stays(l, row->name, name, "in use, or changed here");
	} else if ((r = calloc(1, sizeof(*r))) != NULL) {
		r->from = strdup(row->name);
		r->to = strdup(name);
		r->oid = row->oid;
		if (r->from == NULL || r->to == NULL) {
			renaming_free(&r);
		}
	}
	talloc_free(name);
	return r;
}

static void listing_names(struct listing *l)
{
	struct renaming *list;

	while (l->at < l->count) {
		struct list_entry *e = &l->entries[l->at++];
		struct renaming *r = e->is_dir ? NULL : listing_renaming(l, e);

		if (r != NULL) {
			r->next = l->renamings;
			l->renamings = r;
		}
		if (listing_pauses(l, listing_names)) {
			return;
		}
	}
	l->at = 0;
	list = l->renamings;
	l->renamings = NULL;
	if (list != NULL) {
		l->changed = true;
		mirror_rename(l->m, l->dir, list, listing_renamed, l);
	} else {
		listing_more(l);
	}
}

/* ---- what is gone ---- */

static void listing_removed(uint64_t stayed, void *arg)
{
	struct listing *l = arg;

	brake_stayed(l->m, &l->dir->oid, stayed);
	if (--l->running == 0) {
		listing_names(l);
	}
}

void removals_free(struct removal **list)
{
	while (*list != NULL) {
		struct removal *r = *list;

		*list = r->next;
		free(r->name);
		free(r);
	}
}

/* The index was lost, and with it that S3 ever had this: what is here, at or below the row, is not deleted for it. Its
 * bytes and rights may be nowhere else, and are sent again (step.c). */
static bool listing_forgotten(struct volume *v, struct row *row)
{
	struct row *c = row->is_dir ? index_live_child(v->index, row) : NULL;
	bool any = whose_is_forgotten(row);

	if (any) {
		reconcile_send_again(v->reconcile, row);
	}
	for (; c != NULL; c = index_live_next(v->index, c)) {
		any = listing_forgotten(v, c) || any;
	}
	return any;
}

/* A row that the listing lacks: if it is here, it is to go; others are forgotten. */
static int listing_missing(struct listing *l, const struct list_child *c)
{
	struct mirror *m = l->m;
	struct row *row = index_numbered(m->v->index, c->number);
	struct removal *r;

	if (row == NULL || !row->in_s3 || mirror_row_print(row) != c->print || c->there || row->work != NULL) {
		return 0;
	}
	if (row->live == ROW_NOT_HERE) {
		index_clear_s3(m->v->index, row);
		mirror_forget(m, row);
		return 0;
	}
	if (row_is_coming(row) || mirror_place_busy(m, &l->dir->oid, row->name ? row->name : "", row)) {
		return 0;
	}
	if (m->v->reconcile != NULL && (reconcile_is_fresh(m->v->reconcile) || listing_forgotten(m->v, row))) {
		l->soon = true;
		return 0;
	}
	r = calloc(1, sizeof(*r));
	if (r == NULL || (r->name = strdup(row->name)) == NULL) {
		free(r);
		return -ENOMEM;
	}
	r->oid = row->oid;
	r->is_dir = row->is_dir;
	r->keep_if_listed = row->is_dir && !row->has_object && row->s3_children == 0;
	r->rows = 1 + (row->is_dir ? mirror_rows_below(m->v->index, row) : 0);
	r->next = l->removals;
	l->removals = r;
	l->removal_rows += r->rows;
	return 0;
}

static void listing_remove_found(struct listing *l)
{
	struct removal *list;

	l->changed = l->changed || l->removal_rows > 0;
	if (!brake_allows(l->m, l->request_id, &l->dir->oid, l->prefix, l->removal_rows)) {
		removals_free(&l->removals);
	}
	list = l->removals;
	l->removals = NULL;
	l->running++; /* until all are sent */
	while (list != NULL) {
		struct removal *batch = list, *last = list;
		unsigned n;

		for (n = 1; n < MIRROR_BATCH && last->next != NULL; n++) {
			last = last->next;
		}
		list = last->next;
		last->next = NULL;
		l->running++;
		mirror_remove(l->m, l->request_id, l->dir, batch, listing_removed, l);
	}
	listing_removed(0, l);
}

static void listing_remove(struct listing *l)
{
	while (l->child_at < l->child_count && listing_missing(l, &l->children[l->child_at]) == 0) {
		l->child_at++;
		if (listing_pauses(l, listing_remove)) {
			return;
		}
	}
	listing_remove_found(l);
}

/* ---- where listings may be behind ---- */

struct sure { /* talloc child of the listing; one question */
	struct listing *l;
	size_t child;
};

static void listing_sure(struct listing *l);

static void sure_answer(struct sure *s, int status, const char *message, bool there)
{
	struct listing *l = s->l;

	if (status != 0) {
		listing_fail(l, status, message);
	} else {
		l->children[s->child].there = there;
		l->soon = l->soon || there;
	}
	talloc_free(s);
	l->running--;
	if (!l->dispatching) {
		listing_sure(l);
	}
}

static void sure_below(int status, const char *message, bool any, void *arg)
{
	sure_answer(arg, status, message, any);
}

static void sure_head(struct obj_req *req)
{
	struct obj_result *r = &req->result;
	bool there = r->status == OBJ_OK && !mirror_is_apart(((struct sure *)req->arg)->l->m, req->key);

	sure_answer(req->arg, r->status == OBJ_NOT_FOUND ? 0 : mirror_store_error(r->status), r->message, there);
	objstore_req_free(&req);
}

/* Ask for a name that the pages lack: the object, or any below the directory. */
static void sure_ask(struct listing *l, size_t child)
{
	const struct row *row = index_numbered(l->m->v->index, l->children[child].number);
	struct obj_req *req = NULL;
	struct sure *s;
	char *key;

	if (row == NULL || mirror_row_print(row) != l->children[child].print) {
		return;
	}
	s = talloc_zero(l, struct sure);
	key = s != NULL ? talloc_asprintf(s, "%s%s%s", l->prefix, row->s3_name, row->is_dir ? "/" : "") : NULL;
	if (key != NULL && !row->is_dir) {
		req = objstore_req_new(OBJ_HEAD, key);
	}
	if (key == NULL || (req == NULL && !row->is_dir)) {
		talloc_free(s);
		listing_fail(l, -ENOMEM, "out of memory");
		return;
	}
	s->l = l;
	s->child = child;
	l->running++;
	if (row->is_dir) {
		mirror_below(l->m, l->request_id, key, sure_below, s);
		return;
	}
	req->prio = OBJ_PRIO_READER;
	req->request_id = l->request_id;
	req->done = sure_head;
	req->arg = s;
	objstore_submit(l->m->v->store, req);
}

static void listing_sure(struct listing *l)
{
	if (l->m->v->conf->doubt_listings) {
		l->dispatching = true; /* some answers come at once */
		while (l->status == 0 && l->child_at < l->child_count && l->running < MIRROR_HEADS_AT_ONCE) {
			sure_ask(l, l->child_at++);
		}
		l->dispatching = false;
		if (l->running > 0) {
			return;
		}
	}
	l->child_at = 0;
	if (l->status != 0) {
		listing_end(l);
	} else {
		listing_remove(l);
	}
}

/* Without its volume record, or what we wrote into it, the listing is of another bucket, or of what is left of ours. */
static void listing_bucket_known(int status, const char *message, void *arg)
{
	struct listing *l = arg;

	if (status == 0) {
		l->seen = true;
		listing_sure(l);
		return;
	}
	listing_fail(l, status == -ESTALE ? -EIO : status, message);
	listing_end(l);
}

/* ---- the beginning ---- */

/* Is this row not among the entries? One that has changed meanwhile is none of the listing's business. */
static bool listing_lacks(struct listing *l, const struct list_child *c)
{
	const struct row *row = index_numbered(l->m->v->index, c->number);

	return row != NULL && row->in_s3 && ofs_oid_equal(&row->s3_parent, &l->dir->oid) &&
			listing_find(l, row->s3_name, row->is_dir) == NULL;
}

/* Of the children only those stay that the pages lack: l->at of them so far. */
void listing_agree(struct listing *l)
{
	while (l->child_at < l->child_count) {
		const struct list_child *c = &l->children[l->child_at++];

		if (listing_lacks(l, c)) {
			l->children[l->at++] = *c;
		}
		if (listing_pauses(l, listing_agree)) {
			return;
		}
	}
	l->child_count = l->at;
	l->child_at = l->at = 0;
	if (l->child_count > 0) {
		volume_sure(l->m->v, l->request_id, listing_bucket_known, l);
	} else {
		(void)brake_allows(l->m, l->request_id, &l->dir->oid, l->prefix, 0);
		listing_names(l);
	}
}
