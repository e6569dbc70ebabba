/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: every blob is what its name says, and somebody names it.
 * Way: fsck.c names and lists; fsck_blobs_check reads each that is named, mends from the local disk, and
 *      sweeps what nobody names.
 * Thread: core; local files are read on a worker. Owns: the table (talloc children of the fsck).
 * Holds: 1. swept is what nobody named in two whole looks (fsck.h says how far apart), is as old as that
 *           says by the store's clock, and no writer of this process relies on.
 *        2. nothing is swept where a reference may be unknown: another node serves, which is asked right before,
 *           or an object could not be read. (A directory's base names no blob but those.)
 *        3. a writer that comes while a blob goes waits, and writes it then (upload/blobs.c).
 */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/log.h"
#include "../base/stats.h"
#include "../core/nodes.h"
#include "../mirror/mirror.h"
#include "../upload/upload.h"

#define BUCKETS 4096u
#define MARKS_APART(f) ((f)->older_ns / 7)

struct look { /* at one blob */
	struct fsck *f;
	struct fsck_blob *b;
};

struct local { /* a blob from the local disk */
	struct disk_job job;
	struct fsck *f;
	struct fsck_blob *b;
	struct ofs_record_io rio;
	int tree_fd;
	char *path; /* malloc */
	struct ofs_oid oid;
	uint8_t sha256[32];
	uint8_t *value; /* NULL: it is not here */
	uint32_t len;
};

static void blobs_go_on(struct fsck *f);

bool fsck_blobs_init(struct fsck *f)
{
	f->buckets = talloc_zero_array(f, struct fsck_blob *, BUCKETS);
	return f->buckets != NULL;
}

static struct fsck_blob *blob_get(struct fsck *f, const uint8_t sha256[32])
{
	struct fsck_blob **slot = &f->buckets[(sha256[0] | sha256[1] << 8) % BUCKETS], *b;

	for (b = *slot; b != NULL && memcmp(b->sha256, sha256, 32) != 0; b = b->next) {
	}
	if (b == NULL && (b = talloc_zero(f, struct fsck_blob)) != NULL) {
		memcpy(b->sha256, sha256, 32);
		b->next = *slot;
		*slot = b;
		f->blob_count++;
	}
	if (b == NULL) {
		f->complete = false;
	}
	return b;
}

void fsck_blobs_named(struct fsck *f, const struct ofs_oid *of, const struct snapshot *s)
{
	for (unsigned i = 0; i < s->xattr_count; i++) {
		const struct snapshot_xattr *x = &s->xattrs[i];
		struct fsck_blob *b = x->is_blob ? blob_get(f, x->sha256) : NULL;
		const struct row *row = b != NULL ? index_get(f->v->index, of) : NULL;

		if (b == NULL) {
			continue;
		}
		b->unlike = b->unlike || (b->named && b->len != x->len);
		b->len = x->len;
		if (!b->named || (row != NULL && row->live == ROW_HERE)) {
			b->of = *of;
		}
		b->named = true;
	}
}

static bool hex_parse(const char *hex, uint8_t sha256[32])
{
	if (strlen(hex) != 64 || strspn(hex, "0123456789abcdef") != 64) {
		return false;
	}
	for (unsigned i = 0; i < 32; i++) {
		char pair[3] = { hex[2 * i], hex[2 * i + 1], '\0' };

		sha256[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return true;
}

bool fsck_blobs_there(struct fsck *f, const struct obj_entry *e, const char *name)
{
	struct fsck_blob *b;
	uint8_t sha256[32];

	if (strncmp(name, "blob/", 5) != 0 || !hex_parse(name + 5, sha256)) {
		return false;
	}
	b = blob_get(f, sha256);
	if (b != NULL) {
		b->there = true;
		b->mtime_ns = e->mtime_ns;
		b->etag = e->etag != NULL ? talloc_strdup(b, e->etag) : NULL;
	}
	return true;
}

static char *blob_key(const struct fsck *f, const struct fsck_blob *b)
{
	return objmeta_blob_key(f->v->prefix, b->sha256); /* malloc */
}

/* --- from the local disk --- */

static void local_run(struct disk_job *job)
{
	struct local *l = (struct local *)job;
	int fd = mirror_open_beneath(l->tree_fd, l->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	struct snapshot *s = NULL;
	struct ofs_record rec;

	if (fd >= 0 && ofs_record_get(&l->rio, fd, &rec) == 0 && ofs_oid_equal(&rec.oid, &l->oid) &&
			snapshot_read(fd, l->rio.xattr, &s) == 0) {
		snapshot_split(s, OBJMETA_SNAPSHOT_BUDGET);
		for (unsigned i = 0; i < s->xattr_count && l->value == NULL; i++) {
			struct snapshot_xattr *x = &s->xattrs[i];

			if (x->is_blob && x->value != NULL && memcmp(x->sha256, l->sha256, 32) == 0) {
				l->value = x->value;
				l->len = x->len;
				x->value = NULL;
			}
		}
	}
	snapshot_free(&s);
	if (fd >= 0) {
		close(fd);
	}
}

static void on_mended(struct obj_req *req)
{
	struct fsck *f = req->arg;

	f->running--;
	if (req->result.status == OBJ_OK || req->result.status == OBJ_PRECONDITION) {
		fsck_mended(f);
	} else {
		fsck_failed(f, "writing", req);
	}
	objstore_req_free(&req);
	blobs_go_on(f);
}

static void local_done(struct disk_job *job)
{
	struct local *l = (struct local *)job;
	struct fsck *f = l->f;
	char *key = blob_key(f, l->b);
	const char *what = l->b->there ? "damaged" : "missing";
	struct obj_req *req = NULL;

	f->running--;
	if (l->value == NULL) {
		fsck_found(f, "blob", key, NULL, "%s, and its value is not on this machine: what names it is not "
				"shown on a new disk; restore it from a version or a backup", what);
	} else {
		fsck_found(f, "blob", key, "written again from the local disk",
				"%s; what names it is not shown on a new disk", what);
		req = f->repair ? fsck_request(f, OBJ_PUT, key, on_mended, f) : NULL;
	}
	if (req != NULL) {
		req->body = l->value;
		req->length = l->len;
		l->value = NULL;
		req->if_match = l->b->there && l->b->etag != NULL && f->v->store->caps.put_if_match
				? strdup(l->b->etag) : NULL;
		req->if_none_match = !l->b->there;
		f->running++;
		objstore_submit(f->v->store, req);
	}
	free(key);
	free(l->value);
	free(l->path);
	free(l);
	blobs_go_on(f);
}

/* It is not what it should be: is its value here? */
static void blob_wrong(struct fsck *f, struct fsck_blob *b)
{
	const struct row *row = index_get(f->v->index, &b->of);
	char *path = row != NULL && row->live == ROW_HERE ? index_path(f->v->index, f, row) : NULL;
	struct local *l = calloc(1, sizeof(*l));

	if (l == NULL) {
		f->complete = f->readable = false;
		talloc_free(path);
		return;
	}
	l->job.what = "look for a blob";
	l->job.run = local_run;
	l->job.done = local_done;
	l->f = f;
	l->b = b;
	l->rio = f->v->rio;
	l->tree_fd = f->v->tree_fd;
	l->path = strdup(path != NULL ? path : "");
	l->oid = b->of;
	memcpy(l->sha256, b->sha256, 32);
	talloc_free(path);
	f->running++;
	if (l->path != NULL && l->path[0] != '\0') {
		disk_submit(f->v->disk, DISK_ANY, &l->job);
	} else {
		local_done(&l->job);
	}
}

/* --- what nobody names --- */

static bool may_sweep(const struct fsck *f)
{
	const char *id;
	uint64_t log;

	for (unsigned i = 0; nodes_said(f->v->nodes, i, &id, &log); i++) {
		if (nodes_serves(f->v->nodes, id)) {
			return false;
		}
	}
	return f->complete && f->readable;
}

struct nodes_asked { /* talloc child of the fsck */
	struct fsck *f;
	void (*next)(struct fsck *f);
};

/* Who came after the look began may have named anything, and be gone again. */
static void on_nodes(int status, const char *message, void *arg)
{
	struct nodes_asked *a = arg;
	struct fsck *f = a->f;
	void (*next)(struct fsck *) = a->next;
	unsigned count = 0;
	const char *id;
	uint64_t log;

	while (nodes_said(f->v->nodes, count, &id, &log)) {
		count++;
	}
	if (status != 0) {
		f->complete = f->readable = false;
		log_warning("fsck", "volume %s: who else serves it is not known: %s", f->v->name,
				message != NULL ? message : strerror(-status));
	}
	f->node_count = f->node_count == 0 ? count : f->node_count;
	f->complete &= count == f->node_count;
	talloc_free(a);
	f->running--;
	next(f);
}

void fsck_blobs_nodes(struct fsck *f, void (*next)(struct fsck *f))
{
	struct nodes_asked *a = talloc_zero(f, struct nodes_asked);

	f->running++;
	if (a == NULL) {
		f->complete = f->readable = false;
		f->running--;
		next(f);
		return;
	}
	a->f = f;
	a->next = next;
	nodes_look(f->v->nodes, on_nodes, a);
}

static void on_swept(struct obj_req *req)
{
	struct look *l = req->arg;
	struct fsck *f = l->f;

	f->running--;
	blobs_doom(f->v, NULL);
	if (req->result.status == OBJ_OK || req->result.status == OBJ_NOT_FOUND) {
		f->swept++;
		fsck_mended(f);
		stats_add(blobs_swept, 1);
	} else {
		fsck_failed(f, "deleting", req);
	}
	talloc_free(l);
	objstore_req_free(&req);
	blobs_go_on(f);
}

static void blob_orphan(struct fsck *f, struct fsck_blob *b)
{
	char *key = blob_key(f, b);
	const char *hex = key != NULL ? strrchr(key, '/') + 1 : "";
	int64_t now = fsck_store_now_ns(f);
	json_t *since = json_incref(json_object_get(f->notes, hex));
	int64_t marked_ns = since != NULL ? json_integer_value(since) * NS_PER_S : now;
	bool old = now - b->mtime_ns >= f->older_ns;
	bool twice = since != NULL && now - marked_ns >= MARKS_APART(f);
	struct look *l = NULL;
	struct obj_req *req = NULL;

	json_decref(since);
	if (key == NULL || !old) {
		free(key); /* its object may just be on its way */
		return;
	}
	if (f->repair && twice && may_sweep(f) && f->nodes_for != b) {
		f->nodes_for = b;
		f->blob_next--;
		free(key);
		fsck_blobs_nodes(f, blobs_go_on); /* it is come back to */
		return;
	}
	fsck_found(f, "orphan", key, !may_sweep(f) ? NULL : twice ? "deleted" : "deleted by a later look",
			"nothing names it%s", !may_sweep(f) ? "; it stays, as not all references are known "
			"(another node serves, or something could not be read)" : "");
	if (f->repair && since == NULL && may_sweep(f)) {
		json_object_set_new(f->notes, hex, json_integer(now / NS_PER_S));
	}
	if (f->repair && twice && may_sweep(f) && blobs_doom(f->v, b->sha256)) {
		json_object_del(f->notes, hex);
		l = talloc_zero(f, struct look);
		req = l != NULL ? fsck_request(f, OBJ_DELETE, key, on_swept, l) : NULL;
		if (req != NULL) {
			l->f = f;
			f->running++;
			objstore_submit(f->v->store, req);
		} else {
			blobs_doom(f->v, NULL);
		}
	}
	free(key);
}

/* --- one after the other --- */

static void on_blob(struct obj_req *req)
{
	struct look *l = req->arg;
	struct fsck *f = l->f;
	struct fsck_blob *b = l->b;
	const struct obj_result *r = &req->result;

	f->running--;
	talloc_free(l);
	if (r->status == OBJ_NOT_FOUND) {
		b->there = false;
		blob_wrong(f, b);
	} else if (r->status == OBJ_OK && b->unlike &&
			snapshot_blob_is(b->sha256, (uint32_t)r->body_len, r->body, r->body_len)) {
		fsck_found(f, "blob", req->key, NULL, "of those that name it some say that it is longer or shorter: "
				"they are not shown on a new disk; restore them from a version or a backup");
	} else if (r->status == OBJ_OK && !snapshot_blob_is(b->sha256, b->len, r->body, r->body_len)) {
		b->there = true;
		talloc_free(b->etag);
		b->etag = r->etag != NULL ? talloc_strdup(b, r->etag) : NULL;
		blob_wrong(f, b);
	} else if (r->status != OBJ_OK) {
		fsck_failed(f, "reading", req);
	}
	objstore_req_free(&req);
	blobs_go_on(f);
}

static void blob_read(struct fsck *f, struct fsck_blob *b)
{
	char *key = blob_key(f, b);
	struct look *l = talloc_zero(f, struct look);
	struct obj_req *req = l != NULL && key != NULL ? fsck_request(f, OBJ_GET, key, on_blob, l) : NULL;

	free(key);
	if (req == NULL) {
		talloc_free(l);
		f->complete = f->readable = false;
		return;
	}
	l->f = f;
	l->b = b;
	f->running++;
	objstore_submit(f->v->store, req);
}

/* A note of what is named again, or gone, counts no more. */
static void notes_clean(struct fsck *f)
{
	const char *hex;
	json_t *since;
	void *next;

	json_object_foreach_safe(f->notes, next, hex, since)
	{
		uint8_t sha256[32];
		struct fsck_blob *b = hex_parse(hex, sha256)
				? f->buckets[(sha256[0] | sha256[1] << 8) % BUCKETS] : NULL;

		while (b != NULL && memcmp(b->sha256, sha256, 32) != 0) {
			b = b->next;
		}
		if (b == NULL || b->named || !b->there || !json_is_integer(since) ||
				json_integer_value(since) <= 0 ||
				json_integer_value(since) > fsck_store_now_ns(f) / NS_PER_S) {
			json_object_del(f->notes, hex);
		}
	}
}

static void blobs_go_on(struct fsck *f)
{
	if (f->blobs_going) {
		return; /* an answer that came at once */
	}
	f->blobs_going = true;
	/* one at a time: what is just being deleted is one blob */
	while (f->running == 0 && f->blob_next < f->blob_count) {
		struct fsck_blob *b = f->all[f->blob_next++];

		if (b->named) {
			blob_read(f, b);
		} else {
			blob_orphan(f, b);
		}
	}
	f->blobs_going = false;
	if (f->running == 0 && f->blob_next == f->blob_count && f->all != NULL) {
		TALLOC_FREE(f->all);
		fsck_blobs_over(f);
	}
}

void fsck_blobs_check(struct fsck *f)
{
	size_t n = 0;

	f->all = talloc_array(f, struct fsck_blob *, f->blob_count + 1);
	if (f->all == NULL) {
		f->complete = f->readable = false;
		fsck_blobs_over(f);
		return;
	}
	for (unsigned i = 0; i < BUCKETS; i++) {
		for (struct fsck_blob *b = f->buckets[i]; b != NULL; b = b->next) {
			f->all[n++] = b;
		}
	}
	notes_clean(f);
	blobs_go_on(f);
}
