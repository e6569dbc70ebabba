/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: one directory is brought into agreement with what S3 lists below its key.
 * Way: LIST from the client (or refresh) -> all pages (its own, or walk.c's) -> look at the tree -> removals
 *      -> HEAD of what is new or other -> stubs -> LISTED -> answers to all who wait.
 * Thread: core; scan_run and mark_run on a worker (DISK_ORDER).
 * Owns: struct listing until its callers are answered; the entries.
 * Holds: 1. nothing is concluded before all pages are in (rule 6);
 *        2. LISTED is set only if every name is here, or was refused and logged;
 *        3. a caller is answered exactly once;
 *        4. a refresh is answered from pages that were asked for after it came.
 *
 *   listing_start -> listing_ready -> listing_page* or listing_flat_rows -> listing_scanned
 *       -> (mirror_agree.c) -> listing_mark -> listing_end        (any failure -> listing_end)
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mirror_listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "flat.h"
#include "walk.h"
#include "../core/rings.h"
#include "../reconcile/names.h"
#include "../reconcile/reconcile.h"

struct list_caller { /* talloc child of the mirror, then of the listing */
	struct list_caller *next;
	struct mirror *m;
	uint64_t request_id, client;
	bool refresh;
	mirror_done done;
	void *arg;
	uint64_t came; /* on the mirror's list_clock */
	struct mirror_dir *dir; /* of a late one */
};

static int listing_destructor(struct listing *l)
{
	struct renaming *r;
	struct stub *s;

	while ((s = l->batch) != NULL) {
		l->batch = s->next;
		stub_free(&s);
	}
	while ((r = l->renamings) != NULL) {
		l->renamings = r->next;
		renaming_free(&r);
	}
	removals_free(&l->removals);
	if (l->m->v->index != NULL) {
		index_walk_end(l->m->v->index, &l->walk);
	}
	free(l->entries);
	free(l->slots);
	free(l->children);
	free(l->local);
	list_text_free(&l->text);
	list_text_free(&l->local_text);
	flat_dir_free(&l->flat);
	*l->prev = l->next;
	if (l->next != NULL) {
		l->next->prev = l->prev;
	}
	return 0;
}

static void list_located(int status, const char *message, struct mirror_dir *dir, void *arg);

/* Answer everybody, and list anew for the late; frees l. */
static void listing_answer(struct listing *l)
{
	struct list_caller *c = l->callers, *late = l->late;

	l->callers = l->late = NULL;
	walk_listing_ends(l);
	/* Out of the table first: a caller may ask again at once. */
	*l->prev = l->next;
	if (l->next != NULL) {
		l->next->prev = l->prev;
	}
	l->next = NULL;
	l->prev = &l->next;
	while (c != NULL) {
		struct list_caller *next = c->next;
		bool stale_will_do = l->extended && !c->refresh;

		c->done(stale_will_do ? 0 : l->status, stale_will_do ? NULL : l->message, c->arg);
		c = next;
	}
	talloc_free(l);
	while ((c = late) != NULL) {
		late = c->next;
		list_located(0, NULL, c->dir, c);
	}
}

static void listing_extended(int status, void *arg)
{
	struct listing *l = arg;

	l->extended = status == 0;
	listing_answer(l);
}

static void mark_listed(struct mirror *m, struct mirror_dir *dir, int64_t listed_ns,
		void (*done)(int status, void *arg), void *arg);

/* The time of a listing that serves a little while longer. */
static int64_t listing_soon_ns(const struct listing *l)
{
	int64_t age = l->m->v->conf->listing_age_ns;

	return clock_wall_ns(l->m->v->clock) - age +
			(age < LISTING_EXTEND_NS ? age / 2 : LISTING_EXTEND_NS);
}

void listing_end(struct listing *l)
{
	int64_t age = l->m->v->conf->listing_age_ns;
	bool known = (l->dir->flags & OFS_REC_LISTED) != 0;

	if (l->status == 0) {
		listing_answer(l);
		return;
	}
	log_line(volume_trouble_level(l->m->v, LOG_LVL_WARNING), "mirror", l->request_id, "listing %s: %s%s",
			l->prefix ? l->prefix : "a directory",
			l->message ? l->message : strerror(-l->status),
			known ? "; the names known so far are served" : "");
	if (!known || age == 0) {
		listing_answer(l);
		return;
	}
	/* Every name was here once, and local changes since then are here too. An S3 that is away must
	 * not take the share with it: the old listing serves a while longer, then S3 is asked again. */
	mark_listed(l->m, l->dir, listing_soon_ns(l), listing_extended, l);
}

void listing_fail(struct listing *l, int status, const char *message)
{
	if (l->status == 0) {
		l->status = status;
		l->message = talloc_strdup(l, message ? message : "");
	}
}

/* ---- the end: LISTED ---- */

struct mark_job {
	struct disk_job job;
	struct mirror *m;
	struct mirror_place place;
	int fd; /* own */
	struct ofs_oid oid;
	int64_t listed_ns;
	int status;
	void (*done)(int status, void *arg);
	void *arg;
};

static void mark_run(struct disk_job *job)
{
	struct mark_job *j = (struct mark_job *)job;
	struct ofs_record rec;
	uint32_t stripe;

	j->status = mirror_lock(j->place.shm, j->fd, &stripe);
	if (j->status != 0) {
		return;
	}
	j->status = ofs_record_get(&j->place.rio, j->fd, &rec);
	if (j->status == 0 && !ofs_oid_equal(&rec.oid, &j->oid)) {
		j->status = -ESTALE;
	}
	if (j->status == 0) {
		rec.flags |= OFS_REC_LISTED;
		rec.listed_ns = j->listed_ns;
		j->status = ofs_record_set(&j->place.rio, j->fd, &rec);
	}
	ofs_shm_unlock(j->place.shm, stripe);
}

static void mark_done(struct disk_job *job)
{
	struct mark_job *j = (struct mark_job *)job;

	close(j->fd);
	j->done(j->status, j->arg);
	free(j);
}

static void mark_listed(struct mirror *m, struct mirror_dir *dir, int64_t listed_ns,
		void (*done)(int status, void *arg), void *arg)
{
	struct mark_job *j = calloc(1, sizeof(*j));

	if (j == NULL || (j->fd = fcntl(dir->fd, F_DUPFD_CLOEXEC, 0)) < 0) {
		free(j);
		done(-ENOMEM, arg);
		return;
	}
	j->m = m;
	j->place = mirror_place_of(m);
	j->oid = dir->oid;
	j->listed_ns = listed_ns;
	j->done = done;
	j->arg = arg;
	j->job.what = "mirror listed";
	j->job.run = mark_run;
	j->job.done = mark_done;
	disk_submit(m->v->disk, DISK_ORDER, &j->job);
}

static void listing_marked(int status, void *arg)
{
	struct listing *l = arg;

	if (status != 0) {
		listing_fail(l, status, "the directory's record cannot be written");
	}
	listing_end(l);
}

void listing_mark(struct listing *l)
{
	int64_t at = l->started_wall_ns;

	if (l->status != 0) {
		listing_end(l);
		return;
	}
	if (l->omitted > 0) {
		log_line(LOG_LVL_WARNING, "mirror", l->request_id,
				"%u name(s) below %s are not shown", l->omitted, l->prefix);
	}
	absent_listed(l->m, &l->dir->oid, l->started_wall_ns, l->changed || l->soon || l->omitted > 0,
			l->refresh);
	if (l->soon && l->m->v->conf->listing_age_ns > 0 && listing_soon_ns(l) < at) {
		at = listing_soon_ns(l);
	}
	mark_listed(l->m, l->dir, at, listing_marked, l);
}

/* ---- the tree as it is ---- */

struct scan_job {
	struct disk_job job;
	struct listing *l; /* core only */
	struct ofs_record_io rio;
	int fd; /* own */
	const struct list_entry *entries; /* nobody changes them meanwhile */
	size_t entry_count;
	/* out */
	uint32_t *slots;
	size_t slot_mask;
	const char **names;
	struct list_text *text;
	size_t count, cap;
	bool marked;
	int status;
};

static int scan_name(struct scan_job *j, const char *name)
{
	if (j->count == j->cap) {
		size_t cap = j->cap ? j->cap * 2 : 64;
		const char **names = realloc(j->names, cap * sizeof(*names));

		if (names == NULL) {
			return -ENOMEM;
		}
		j->names = names;
		j->cap = cap;
	}
	j->names[j->count] = list_text_put(&j->text, name, NULL);
	return j->names[j->count++] != NULL ? 0 : -ENOMEM;
}

static void scan_run(struct disk_job *job)
{
	struct scan_job *j = (struct scan_job *)job;
	int fd = openat(j->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct ofs_record rec;
	struct dirent *de;

	if (d == NULL) {
		j->status = -errno;
		if (fd >= 0) {
			close(fd);
		}
		return;
	}
	j->marked = ofs_record_get(&j->rio, j->fd, &rec) != 0 ||
			(rec.flags & OFS_REC_MARKED) != 0;
	while (j->status == 0 && (errno = 0, de = readdir(d)) != NULL) {
		j->status = scan_name(j, de->d_name);
	}
	if (j->status == 0) {
		j->status = -errno;
	}
	closedir(d);
	if (j->status == 0 && j->count > 0) {
		qsort(j->names, j->count, sizeof(*j->names), listing_name_compare);
	}
	j->slots = entries_hash(j->entries, j->entry_count, &j->slot_mask);
	if (j->slots == NULL) {
		j->status = -ENOMEM;
	}
}

static void still_no_wait(void *arg, int status)
{
	*(int *)arg = status;
}

bool mirror_has_stayed(struct volume *v, const struct ofs_oid *dir, const char *prefix)
{
	char *now = index_key(v->index, NULL, v->prefix, dir, "", false, NULL);
	bool same = now != NULL && strcmp(now, prefix) == 0;
	int moving = 0;

	talloc_free(now);
	if (v->reconcile != NULL) {
		reconcile_when_still(v->reconcile, v, dir, 0, still_no_wait, &moving);
	}
	return same && moving == 0;
}

static void listing_scanned(struct disk_job *job)
{
	struct scan_job *j = (struct scan_job *)job;
	struct listing *l = j->l;
	struct rings *rings = l->m->v->rings;

	close(j->fd);
	l->slots = j->slots;
	l->slot_mask = j->slot_mask;
	l->local = j->names;
	l->local_count = j->status == 0 ? j->count : 0;
	l->local_text = j->text;
	/* What was begun before the scan and is not in its ring yet cannot be told from a loss. */
	l->unsure = j->marked ||
			(rings != NULL && rings_inflight(rings, ofs_shm_stripe_of(l->dir->ino)));
	if (j->status != 0) {
		listing_fail(l, j->status, "the directory cannot be read");
	}
	free(j);
	if (rings != NULL) {
		rings_drain(rings);
	}
	if (l->status == 0 && !mirror_has_stayed(l->m->v, &l->dir->oid, l->prefix)) {
		listing_fail(l, -EAGAIN, MIRROR_MOVING_TEXT);
	}
	if (l->status != 0) {
		listing_end(l);
		return;
	}
	listing_marks_gone(l);
	listing_agree(l);
}

void listing_scan(struct listing *l)
{
	struct scan_job *j = calloc(1, sizeof(*j));

	if (j == NULL || (j->fd = fcntl(l->dir->fd, F_DUPFD_CLOEXEC, 0)) < 0) {
		free(j);
		listing_fail(l, -ENOMEM, "out of memory");
		listing_end(l);
		return;
	}
	j->l = l;
	j->rio = l->m->v->rio;
	j->entries = l->entries;
	j->entry_count = l->count;
	j->job.what = "mirror scan";
	j->job.run = scan_run;
	j->job.done = listing_scanned;
	disk_submit(l->m->v->disk, DISK_ORDER, &j->job);
}

/* ---- pages ---- */

static void listing_page(struct listing *l, const char *token);

/* The directory's own marker was put by somebody else: its fence, for when we write it. */
static void listing_own_marker(struct listing *l, const struct obj_entry *e)
{
	struct volume *v = l->m->v;
	struct row *row = index_get(v->index, &l->dir->oid);

	if (row != NULL && row->in_s3 && !row->has_object && row->work == NULL) {
		index_set_object(v->index, row, true);
		index_set_fence(v->index, row, e->etag, NULL, NULL, e->size, e->mtime_ns);
	}
}

/* e: its key is cut. implied: of a directory, it has no object of its own, that is known. */
static int listing_take(struct listing *l, const struct obj_entry *e, bool implied)
{
	size_t prefix = strlen(l->prefix), len = strlen(e->key);
	struct list_entry *n;

	if (len < prefix || strncmp(e->key, l->prefix, prefix) != 0) {
		return 0; /* not what was asked for */
	}
	if (len == prefix) {
		if (prefix > strlen(l->m->v->prefix) && !e->is_prefix) {
			listing_own_marker(l, e);
		}
		return 0;
	}
	if (e->is_prefix) {
		e->key[len - 1] = '\0';
	}
	if (name_is_reserved(&l->dir->oid, e->key + prefix) ||
			(!e->is_prefix && mirror_is_apart(l->m, e->key))) {
		return 0;
	}
	n = listing_add(l, e->key + prefix, e->is_prefix, e->etag, NULL);
	if (n == NULL) {
		return -ENOMEM;
	}
	n->size = e->size;
	n->mtime_ns = e->mtime_ns;
	n->implied = implied;
	return 0;
}

static void listing_page_done(struct obj_req *req)
{
	struct listing *l = req->arg;
	struct obj_result *r = &req->result;
	char *token = NULL;
	unsigned i;
	int ret = 0;

	if (r->status != OBJ_OK) {
		listing_fail(l, r->status == OBJ_NOT_FOUND ? -EIO : mirror_store_error(r->status),
				r->message ? r->message : objstore_status_name(r->status));
		objstore_req_free(&req);
		listing_end(l);
		return;
	}
	for (i = 0; i < r->entry_count && ret == 0; i++) {
		ret = r->entries[i].key ? listing_take(l, &r->entries[i], false) : 0;
	}
	token = r->next_token ? talloc_strdup(l, r->next_token) : NULL;
	if (ret != 0 || (r->next_token != NULL && token == NULL)) {
		listing_fail(l, -ENOMEM, "out of memory");
	}
	objstore_req_free(&req);
	if (l->status != 0) {
		listing_end(l);
	} else if (token != NULL) {
		listing_page(l, token);
		talloc_free(token);
	} else {
		listing_redirects(l);
	}
}

static void listing_page(struct listing *l, const char *token)
{
	struct obj_req *req = objstore_req_new(OBJ_LIST, l->prefix);

	if (req == NULL || (token != NULL && (req->token = strdup(token)) == NULL)) {
		objstore_req_free(&req);
		listing_fail(l, -ENOMEM, "out of memory");
		listing_end(l);
		return;
	}
	req->prio = OBJ_PRIO_READER;
	req->request_id = l->request_id;
	req->delimiter = '/';
	req->done = listing_page_done;
	req->arg = l;
	objstore_submit(l->m->v->store, req);
}

void listing_pages(struct listing *l)
{
	l->started_wall_ns = clock_wall_ns(l->m->v->clock);
	l->asked = ++l->m->list_clock;
	stats_add(listings, 1);
	listing_page(l, NULL);
}

/* ---- or the pages of a walk ---- */

static void listing_flat_rows(struct listing *l)
{
	char key[2 * OBJ_KEY_MAX_BYTES];
	struct flat_row *row;
	int ret = 0;

	while (ret == 0 && (row = flat_dir_next(l->flat)) != NULL) {
		struct obj_entry e = {.key = key, .is_prefix = row->is_dir, .size = row->size,
			.mtime_ns = row->mtime_ns, .etag = (char *)row->etag};

		snprintf(key, sizeof(key), "%s%s%s", l->prefix, row->name, row->is_dir ? "/" : "");
		ret = listing_take(l, &e, row->implied);
		free(row);
		if (ret == 0 && listing_pauses(l, listing_flat_rows)) {
			return;
		}
	}
	flat_dir_free(&l->flat);
	if (ret != 0) {
		listing_fail(l, ret, "out of memory");
		listing_end(l);
		return;
	}
	listing_redirects(l);
}

void listing_flat(struct listing *l, struct flat_dir *d)
{
	l->flat = d;
	l->started_wall_ns = d->wall_ns;
	l->asked = d->asked;
	stats_add(listings, 1);
	stats_add(walk_dirs, 1);
	listing_flat_rows(l);
}

/* ---- the beginning ---- */

bool listing_is_refresh(const struct listing *l)
{
	const struct list_caller *c = l->callers;

	while (c != NULL && !c->refresh) {
		c = c->next;
	}
	return c != NULL;
}

static int listing_note_child(struct listing *l, const struct row *row)
{
	if (l->child_count == l->child_cap) {
		size_t cap = l->child_cap ? l->child_cap * 2 : 64;
		struct list_child *children = realloc(l->children, cap * sizeof(*children));

		if (children == NULL) {
			return -ENOMEM;
		}
		l->children = children;
		l->child_cap = cap;
	}
	l->children[l->child_count++] = (struct list_child){mirror_row_print(row), row->number, false};
	return 0;
}

/* A row that changes between its own turn and the first page has changed: nothing is concluded of it. */
static void listing_note_children(struct listing *l)
{
	struct index *ix = l->m->v->index;
	struct row *row;

	while ((row = index_walk_next(ix, &l->walk)) != NULL) {
		if (listing_note_child(l, row) != 0) {
			listing_fail(l, -ENOMEM, "out of memory");
			listing_end(l);
			return;
		}
		if (listing_pauses(l, listing_note_children)) {
			return;
		}
	}
	index_walk_end(ix, &l->walk);
	if (!walk_answers(l)) {
		listing_pages(l);
	}
}

static void listing_still(void *arg, int status)
{
	struct listing *l = arg;
	struct volume *v = l->m->v;
	struct row *row = index_get(v->index, &l->dir->oid);
	bool too_long = false;

	if (status != 0) {
		listing_fail(l, status, MIRROR_MOVING_TEXT);
		listing_end(l);
		return;
	}
	l->prefix = row ? index_key(v->index, l, v->prefix, &l->dir->oid, "", false, &too_long)
			: NULL;
	if (l->prefix == NULL && too_long) {
		l->prefix = talloc_strdup(l, "(a key beyond 1,024 bytes)");
		l->started_wall_ns = clock_wall_ns(v->clock);
		listing_mark(l); /* no key can be below it */
		return;
	}
	if (l->prefix == NULL) {
		listing_fail(l, -EIO, "the directory has no place in S3 that is known");
		listing_end(l);
		return;
	}
	index_walk_begin(v->index, &l->walk, row);
	listing_note_children(l);
}

static void listing_ready(struct volume *v, void *arg, int status)
{
	struct listing *l = arg;

	if (status != 0) {
		char *text = mirror_unready(l, v);

		listing_fail(l, status, text);
		listing_end(l);
		return;
	}
	mirror_when_still(l->m, l, &l->dir->oid, listing_still, l);
}

static void list_nothing_done(int status, void *arg)
{
	struct list_caller *c = arg;

	c->done(status, status ? "the directory's record cannot be written" : NULL, c->arg);
	talloc_free(c);
}

static void listing_start(struct list_caller *c, struct mirror_dir *dir)
{
	struct mirror *m = c->m;
	struct listing *l = talloc_zero(m, struct listing);

	if (l == NULL) {
		c->done(-ENOMEM, "out of memory", c->arg);
		talloc_free(c);
		return;
	}
	l->m = m;
	l->request_id = c->request_id;
	l->client = c->client;
	l->refresh = c->refresh;
	absent_forget(m, &dir->oid);
	l->dir = talloc_steal(l, dir);
	l->callers = talloc_steal(l, c);
	c->next = NULL;
	l->next = m->listings;
	l->prev = &m->listings;
	if (l->next != NULL) {
		l->next->prev = &l->next;
	}
	m->listings = l;
	talloc_set_destructor(l, listing_destructor);
	volume_when_ready(m->v, MIRROR_READY_WAIT_NS, listing_ready, l);
}

static void list_located(int status, const char *message, struct mirror_dir *dir, void *arg)
{
	struct list_caller *c = arg;
	struct mirror *m = c->m;
	const struct row *row;
	struct listing *l;
	int64_t age, now, at;

	if (status != 0) {
		c->done(status, message, c->arg);
		talloc_free(c);
		return;
	}
	for (l = m->listings; l != NULL; l = l->next) {
		if (ofs_oid_equal(&l->dir->oid, &dir->oid)) {
			if (c->refresh && l->asked != 0 && l->asked < c->came) {
				c->dir = dir;
				c->next = l->late;
				l->late = c;
				return;
			}
			c->next = l->callers;
			l->callers = talloc_steal(l, c);
			talloc_free(dir);
			return;
		}
	}
	age = m->v->conf->listing_age_ns;
	now = clock_wall_ns(m->v->clock);
	if (!c->refresh && (dir->flags & OFS_REC_LISTED) != 0 &&
			(age == 0 || (dir->listed_ns <= now && now - dir->listed_ns < age))) {
		c->done(0, NULL, c->arg);
		talloc_free(c);
		return;
	}
	row = index_get(m->v->index, &dir->oid);
	if (row != NULL && !row->in_s3) {
		mark_listed(m, dir, now, list_nothing_done, c);
		return; /* dir goes with c */
	}
	at = !c->refresh && (dir->flags & OFS_REC_LISTED) != 0 && age > 0 ? absent_listed_ns(m, &dir->oid) : 0;
	if (at != 0) {
		stats_add(listings_spared, 1);
		mark_listed(m, dir, at, list_nothing_done, c);
		return;
	}
	listing_start(c, dir);
}

bool mirror_is_listing(const struct mirror *m, const struct ofs_oid *dir)
{
	const struct listing *l = m->listings;

	while (l != NULL && !ofs_oid_equal(&l->dir->oid, dir)) {
		l = l->next;
	}
	return l != NULL;
}

void mirror_list(struct mirror *m, uint64_t request_id, uint64_t client, int dirfd, bool refresh,
		mirror_done done, void *arg)
{
	struct list_caller *c = talloc_zero(m, struct list_caller);

	if (c == NULL) {
		close(dirfd);
		done(-ENOMEM, "out of memory", arg);
		return;
	}
	c->m = m;
	c->request_id = request_id;
	c->client = client;
	c->refresh = refresh;
	c->came = ++m->list_clock;
	c->done = done;
	c->arg = arg;
	mirror_locate(m, c, dirfd, NULL, list_located, c);
}
