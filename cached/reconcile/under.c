/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: on a store that fences nothing but keeps versions (class F1): what a write or a delete of ours has
 * covered unseen is made visible again.
 * Way: send.c and fenced.c, once the store has answered -> LIST of the key's versions -> HEAD and COPY of each
 *      that is not ours -> back, before the row is committed.
 * Thread: core.
 * Owns: struct under while its requests are in flight.
 * Holds:
 *  1. from the version written down to the one that was to be replaced (or a delete) none is left out; if
 *     that one is not there, the next below, and those that came while we wrote;
 *  2. a version becomes an object beside, whose name says which version it is: made again after a kill, it is
 *     the same one. Under a delete of ours the newest goes back to its name;
 *  3. nothing is committed before it is done: else it begins anew.
 *
 *   [under_list] <-> [under_plan] -> each: [under_seen] -> [under_place] -> [under_kept] -> done
 */
#include "private.h"
#include "../mirror/foreign.h"
#include <openssl/evp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define UNDER_OLD_MOST 10u
#define UNDER_TRIED_MOST 1000u
#define UNDER_RESTARTS_MOST 3u
#define UNDER_MARGIN_NS (60 * NS_PER_S) /* clocks, and the length of a write */

struct under {
	struct volume *v;
	struct under_write w; /* its strings are ours */
	struct obj_req *list; /* whose result holds the versions, newest first, as far as they are needed */
	struct obj_req *head; /* of the version at `at` */
	unsigned at, end;
	unsigned scanned, ours, old; /* ours: if it is found; old: below it, and older than our write */
	bool found;
	bool was_there; /* below it lies what was to be covered, as far as an ETag tells */
	bool finding; /* which version is ours: asked one by one */
	bool restored;
	bool again; /* what was put back at its name may have covered another */
	char *copy_version, *copy_etag; /* of that */
	unsigned made, restarts;
	char *target;
	int64_t since_ns; /* by the store's clock */
	under_done_fn done;
	void *arg;
};

static void under_next(struct under *u);
static void under_found(struct under *u, unsigned ours);
static void under_plan(struct under *u);
static void under_list(struct under *u, const char *token);
static void under_again(struct under *u);
static void under_restart(struct under *u);

bool under_applies(const struct volume *v)
{
	return v->store->caps.fence_class == 1;
}

static void under_end(struct under *u, enum obj_status st, const char *message)
{
	struct row *dir = u->made > 0 && u->w.dir != NULL ? index_get(u->v->index, u->w.dir) : NULL;
	char *path = dir != NULL ? index_path(u->v->index, u, dir) : NULL;

	if (path != NULL) {
		mirror_relist(u->v->mirror, path);
	}
	u->done(st, message, u->arg);
	talloc_free(u); /* the message may be of one of its requests */
}

static const struct obj_entry *under_at(const struct under *u)
{
	return &u->list->result.entries[u->at];
}

/* A request about the key, or another; NULL: the end has been told. */
static struct obj_req *under_req(struct under *u, enum obj_op op, const char *key,
		void (*done)(struct obj_req *))
{
	struct obj_req *req = objstore_req_new(op, key);

	if (req == NULL) {
		under_end(u, OBJ_LOCAL, "out of memory");
		return NULL;
	}
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = done;
	req->arg = u;
	return req;
}

/* ---- one version that is not ours ---- */

/* As clients call it; what none could, by its key. talloc child of u; NULL: out of memory. */
static char *under_path(struct under *u, const char *key)
{
	const char *below = key + strlen(u->v->prefix);
	char *path = index_path_of(u->v->index, u, below);

	return path != NULL ? path : talloc_strdup(u, below);
}

/* It is at `target` now; NULL: nowhere but among the key's versions. */
static void under_told(struct under *u, const char *target)
{
	const char *why = u->w.deleted ? "somebody else wrote it while this node deleted it"
				       : "somebody else wrote it while this node did";
	char *path = under_path(u, u->w.beside), *copy = target != NULL ? under_path(u, target) : NULL;
	const char *name = path != NULL ? path : u->w.beside;

	if (target == NULL) {
		log_warning("reconcile", "conflict: %s: %s: version %s is too large to be copied, and stays in the "
				"bucket as a version", name, why, under_at(u)->version_id);
	} else {
		log_warning("reconcile", "conflict: %s: %s: that version is %s%s", name, why,
				strcmp(target, u->w.key) == 0 ? "back at its name" : "now ",
				strcmp(target, u->w.key) == 0 ? "" : copy != NULL ? copy : target);
	}
	conflict_brake(u->v->reconcile); /* made all the same: nothing else shows that version */
	conflict_made(u->v->reconcile, name, copy, why);
	talloc_free(path);
	talloc_free(copy);
}

static void under_kept(struct obj_req *req)
{
	struct under *u = req->arg;
	const struct obj_result *r = &req->result;

	if (r->status == OBJ_UNKNOWN && strcmp(u->target, u->w.key) == 0 && ++u->restarts <= UNDER_RESTARTS_MOST) {
		u->w.tried = u->w.sent = true; /* the versions tell */
		u->w.version = NULL;
		objstore_req_free(&req);
		under_restart(u);
		return;
	}
	if (r->status != OBJ_OK) {
		under_end(u, r->status, r->message);
		objstore_req_free(&req);
		return;
	}
	under_told(u, u->target);
	u->made++;
	if (strcmp(u->target, u->w.key) == 0) {
		u->restored = u->again = true;
		u->copy_version = r->version_id != NULL ? talloc_strdup(u, r->version_id) : NULL;
		u->copy_etag = r->etag != NULL ? talloc_strdup(u, r->etag) : NULL;
	}
	objstore_req_free(&req);
	u->at++;
	under_next(u);
}

/* It may bear another file's id, ours even: beside that one it is nobody's but the store's. */
static int under_describe(const struct under *u, struct obj_req *req)
{
	const struct obj_result *r = &u->head->result;
	int ret = 0;

	if (strcmp(u->target, u->w.key) == 0 || objstore_meta_get(r, OBJMETA_NAME) == NULL) {
		return 0;
	}
	req->replace_meta = true;
	for (unsigned i = 0; i < OBJ_PROP_storage_class; i++) {
		const char *value = foreign_prop(r, i);

		if (value != NULL && (req->props[i] = strdup(value)) == NULL) {
			return -ENOMEM;
		}
	}
	for (unsigned i = 0; ret == 0 && i < r->meta_count; i++) {
		if (foreign_meta(r->meta[i].name)) {
			ret = objstore_req_meta(req, r->meta[i].name, r->meta[i].value);
		}
	}
	return ret;
}

static void under_copy(struct under *u)
{
	struct obj_req *req = under_req(u, OBJ_COPY, u->target, under_kept);

	if (req == NULL) {
		return;
	}
	if (under_describe(u, req) != 0 || (req->source_key = strdup(u->w.key)) == NULL ||
			(req->source_version_id = strdup(under_at(u)->version_id)) == NULL) {
		objstore_req_free(&req);
		under_end(u, OBJ_LOCAL, "out of memory");
		return;
	}
	objstore_submit(u->v->store, req);
}

static void under_target_seen(struct obj_req *req)
{
	struct under *u = req->arg;
	const struct obj_result *r = &req->result;
	enum obj_status st = r->status;

	if (st == OBJ_NOT_FOUND) {
		under_copy(u);
	} else if (st == OBJ_OK) { /* made before a kill */
		u->made++;
		u->at++;
		under_next(u);
	} else {
		under_end(u, st, r->message);
	}
	objstore_req_free(&req);
}

/* The name beside: of the version, so that it is the same each time. */
static char *under_name(struct under *u)
{
	const char *slash = strrchr(u->w.beside, '/'), *base = slash != NULL ? slash + 1 : u->w.beside;
	const struct obj_entry *e = under_at(u);
	unsigned char md[EVP_MAX_MD_SIZE];
	char tag[9], *name, *key;

	if (EVP_Digest(e->version_id, strlen(e->version_id), md, NULL, EVP_sha256(), NULL) != 1) {
		return NULL;
	}
	snprintf(tag, sizeof(tag), "%02x%02x%02x%02x", md[0], md[1], md[2], md[3]);
	name = conflict_name_of(base, tag, e->mtime_ns);
	key = name != NULL ? talloc_asprintf(u, "%.*s%s", (int)(base - u->w.beside), u->w.beside, name) : NULL;
	free(name);
	return key;
}

static void under_place(struct under *u)
{
	struct obj_req *req;

	talloc_free(u->target);
	if (u->w.deleted && !u->restored) {
		u->target = talloc_strdup(u, u->w.key);
	} else {
		u->target = under_name(u);
	}
	if (u->target == NULL) {
		under_end(u, OBJ_LOCAL, "out of memory");
	} else if (u->head->result.size > u->v->conf->copy_limit_bytes) {
		under_told(u, NULL);
		u->at++;
		under_next(u);
	} else if (strcmp(u->target, u->w.key) == 0) {
		under_copy(u);
	} else if ((req = under_req(u, OBJ_HEAD, u->target, under_target_seen)) != NULL) {
		objstore_submit(u->v->store, req);
	}
}

static void under_seen(struct obj_req *req)
{
	struct under *u = req->arg;
	struct obj_result *r = &req->result;
	const struct whose_known known = {.v = u->v, .oid = &u->w.oid, .row = u->w.row,
			.wid = ofs_oid_is_none(&u->w.wid) ? NULL : &u->w.wid};
	struct objmeta m = {0};
	enum whose who = WHOSE_FOREIGN;

	objstore_req_free(&u->head);
	u->head = req;
	if (r->status != OBJ_OK && r->status != OBJ_NOT_FOUND) {
		under_end(u, r->status, r->message);
		return;
	}
	if (r->status == OBJ_OK) {
		who = whose_is(&known, u->w.key, r, &m);
		objmeta_clear(&m);
	}
	if (u->finding && (who == WHOSE_NOW || who == WHOSE_EARLIER)) {
		under_found(u, u->at);
		under_plan(u);
		return;
	}
	if (!u->finding && who == WHOSE_ROWS) {
		u->at = u->end; /* what lies below was known */
		under_next(u);
		return;
	}
	if (u->finding || r->status == OBJ_NOT_FOUND || who == WHOSE_NOW || who == WHOSE_ROWS ||
			who == WHOSE_EARLIER || who == WHOSE_TOMBSTONE) {
		u->at++;
		under_next(u);
		return;
	}
	under_place(u);
}

static void under_next(struct under *u)
{
	const struct obj_entry *e;
	struct obj_req *req;

	for (; u->at < u->end; u->at++) {
		e = under_at(u);
		if (!e->is_marker && (u->finding || u->w.etag == NULL || e->etag == NULL ||
						strcmp(u->w.etag, e->etag) != 0)) {
			break; /* the bytes that were written are no loss */
		}
	}
	if (u->at == u->end && u->again) {
		under_again(u);
		return;
	}
	if (u->at == u->end) {
		under_end(u, OBJ_OK, NULL);
		return;
	}
	req = under_req(u, OBJ_HEAD, u->w.key, under_seen);
	if (req != NULL && (req->version_id = strdup(under_at(u)->version_id)) == NULL) {
		objstore_req_free(&req);
		under_end(u, OBJ_LOCAL, "out of memory");
		return;
	}
	if (req != NULL) {
		objstore_submit(u->v->store, req);
	}
}

/* ---- which ---- */

static bool under_is_ours(const struct under *u, const struct obj_entry *e)
{
	if (u->w.version != NULL) {
		return strcmp(e->version_id, u->w.version) == 0;
	}
	if (u->w.deleted) {
		return e->is_marker && e->mtime_ns >= u->since_ns;
	}
	return u->w.etag != NULL && !e->is_marker && e->etag != NULL && strcmp(e->etag, u->w.etag) == 0;
}

/* The version that was to be covered. An ETag comes again with the same bytes, sent by us once more, say: the row may
 * know the version itself. One of no bytes tells nothing where more is known. */
static bool under_is_expected(const struct under *u, const struct obj_entry *e)
{
	const struct row *row = u->w.row;

	if (u->w.expect == NULL || e->etag == NULL || strcmp(e->etag, u->w.expect) != 0) {
		return false;
	}
	if (row != NULL && row->etag != NULL && strcmp(row->etag, u->w.expect) == 0 && heir_version_known(row)) {
		return heir_version_is(row, e->version_id);
	}
	return row == NULL || objmeta_fences(u->w.expect);
}

/* Bytes that come again, or none at all, do not say where to end; but that the delete may be ours they do. */
static bool under_may_be_expected(const struct under *u, const struct obj_entry *e)
{
	const char *known = u->w.row != NULL ? u->w.row->etag : NULL;

	return e->etag != NULL && ((u->w.expect != NULL && strcmp(e->etag, u->w.expect) == 0) ||
						  (known != NULL && strcmp(e->etag, known) == 0));
}

/* Without a version that is surely the one that was to be covered. */
static bool under_bottom(struct under *u)
{
	u->end = u->w.tried && !u->w.sent && !u->was_there ? u->ours + 1 : u->end;
	return true;
}

/* Ours is known: how far below it has it covered what it did not know? false: what is listed does not tell. */
static bool under_last(struct under *u)
{
	const struct obj_result *r = &u->list->result;

	for (; u->scanned < r->entry_count; u->scanned++) {
		const struct obj_entry *e = &r->entries[u->scanned];
		bool young = e->mtime_ns >= u->since_ns;

		if (e->is_marker) {
			return under_bottom(u);
		}
		if (under_is_expected(u, e)) {
			u->end = u->scanned;
			return true;
		}
		u->was_there = u->was_there || under_may_be_expected(u, e);
		if (u->w.fresh || young || u->scanned == u->ours + 1) {
			u->end = u->scanned + 1;
		} else if (u->w.expect == NULL && ++u->old > UNDER_OLD_MOST) {
			return under_bottom(u);
		}
	}
	return r->next_token == NULL && under_bottom(u);
}

/* Those that ours may be: it is as young as its write, unless it is of parts, and as old as the first of them. */
static unsigned under_asked(const struct under *u)
{
	const struct obj_result *r = &u->list->result;
	unsigned i, old = 0;

	for (i = 0; i < r->entry_count; i++) {
		old += r->entries[i].mtime_ns < u->since_ns;
		if (old > UNDER_OLD_MOST) {
			break;
		}
	}
	return i;
}

static void under_found(struct under *u, unsigned ours)
{
	u->finding = false;
	u->found = true;
	u->ours = ours;
	u->end = u->scanned = ours + 1;
}

/* Looks on where it ended; then what is listed is enough, or the next page is asked for. */
static void under_plan(struct under *u)
{
	const struct obj_result *r = &u->list->result;
	bool enough;

	for (; !u->found && u->scanned < r->entry_count; u->scanned++) {
		if (under_is_ours(u, &r->entries[u->scanned])) {
			under_found(u, u->scanned);
			break;
		}
	}
	enough = u->found ? under_last(u) : r->next_token == NULL || under_asked(u) < r->entry_count;
	if (!enough) {
		under_list(u, r->next_token);
		return;
	}
	/* Else the answer was lost: it is known by what it says of itself, or it was not carried out. */
	u->finding = !u->found && !u->w.deleted && u->w.etag == NULL;
	u->at = u->found ? u->ours + 1 : 0;
	if (!u->found) {
		u->end = u->finding ? under_asked(u) : 0;
	}
	under_next(u);
}

/* The rows of a further page behind those of the first. */
static int under_append(struct obj_result *r, struct obj_result *page)
{
	size_t count = (size_t)r->entry_count + page->entry_count;
	struct obj_entry *grown = page->entry_count > 0 ? realloc(r->entries, count * sizeof(*grown)) : r->entries;

	if (page->entry_count > 0 && grown == NULL) {
		return -ENOMEM;
	}
	if (page->entry_count > 0) {
		memcpy(grown + r->entry_count, page->entries, page->entry_count * sizeof(*grown));
	}
	r->entries = grown;
	r->entry_count = (unsigned)count;
	page->entry_count = 0;
	free(r->next_token);
	r->next_token = page->next_token;
	page->next_token = NULL;
	return 0;
}

/* Which of those above the last delete is one from below it, put back by us; entry_count: none. */
static unsigned under_put_back(const struct under *u)
{
	const struct obj_result *r = &u->list->result;
	unsigned marker = 0;

	while (marker < r->entry_count && !r->entries[marker].is_marker) {
		marker++;
	}
	for (unsigned i = marker; i > 0 && marker < r->entry_count; i--) {
		for (unsigned below = marker + 1; below < r->entry_count; below++) {
			const char *put = r->entries[i - 1].etag, *was = r->entries[below].etag;

			if (put != NULL && was != NULL && strcmp(put, was) == 0) {
				return i - 1;
			}
		}
	}
	return r->entry_count;
}

/* A page is there. What was put back is known by what lies below the delete. */
static void under_begin(struct under *u)
{
	const struct obj_result *r = &u->list->result;
	unsigned put;

	if (u->w.tried && r->entry_count > 0 && !r->entries[0].is_marker) {
		if (r->next_token != NULL && r->entry_count < UNDER_TRIED_MOST) {
			under_list(u, r->next_token);
			return;
		}
		put = under_put_back(u);
		if (put == r->entry_count && u->w.sent) {
			under_plan(u); /* what came after our delete says nothing of what that has hidden */
			return;
		}
		u->w.deleted = u->w.tried = false;
		u->w.expect = NULL;
		u->w.fresh = true;
		if (put == r->entry_count) {
			under_end(u, OBJ_OK, NULL);
			return;
		}
		under_found(u, put);
	}
	under_plan(u);
}

static void under_listed(struct obj_req *req)
{
	struct under *u = req->arg;
	struct obj_result *r = &req->result;

	if (r->status != OBJ_OK) {
		under_end(u, r->status, r->message);
	} else if (u->list == NULL) {
		u->list = req;
		under_begin(u);
		return;
	} else if (under_append(&u->list->result, r) != 0) {
		under_end(u, OBJ_LOCAL, "out of memory");
	} else {
		under_begin(u);
	}
	objstore_req_free(&req);
}

static void under_list(struct under *u, const char *token)
{
	struct obj_req *req = under_req(u, OBJ_VERSIONS, u->w.key, under_listed);

	if (req != NULL && token != NULL && (req->token = strdup(token)) == NULL) {
		objstore_req_free(&req);
		under_end(u, OBJ_LOCAL, "out of memory");
		return;
	}
	if (req != NULL) {
		objstore_submit(u->v->store, req);
	}
}

static void under_restart(struct under *u)
{
	u->found = u->finding = u->was_there = false;
	u->scanned = u->at = u->end = u->old = 0;
	objstore_req_free(&u->list);
	under_list(u, NULL);
}

/* Down to the delete under which it was. */
static void under_again(struct under *u)
{
	u->again = u->w.deleted = u->w.tried = false;
	u->w.version = u->copy_version;
	u->w.etag = u->copy_etag;
	u->w.expect = NULL;
	u->w.fresh = true;
	under_restart(u);
}

/* With the volume, too, however far it is. */
static int under_destroy(struct under *u)
{
	objstore_req_free(&u->head);
	objstore_req_free(&u->list);
	return 0;
}

void under_check(struct volume *v, const struct under_write *w, under_done_fn done, void *arg)
{
	struct under *u = talloc_zero(v, struct under);

	if (u == NULL) {
		done(OBJ_LOCAL, "out of memory", arg);
		return;
	}
	talloc_set_destructor(u, under_destroy);
	u->v = v;
	u->w = *w;
	u->w.key = talloc_strdup(u, w->key);
	u->w.beside = talloc_strdup(u, w->beside != NULL ? w->beside : w->key);
	u->w.version = w->version != NULL ? talloc_strdup(u, w->version) : NULL;
	u->w.etag = w->etag != NULL ? talloc_strdup(u, w->etag) : NULL;
	u->w.expect = w->expect != NULL ? talloc_strdup(u, w->expect) : NULL;
	u->w.dir = w->dir != NULL ? talloc_memdup(u, w->dir, sizeof(*w->dir)) : NULL;
	u->since_ns = w->since_ns - UNDER_MARGIN_NS;
	u->done = done;
	u->arg = arg;
	if (u->w.key == NULL || u->w.beside == NULL) {
		under_end(u, OBJ_LOCAL, "out of memory");
		return;
	}
	under_list(u, NULL);
}
