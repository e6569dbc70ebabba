/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: before a volume is READY: finish the renames that a lost node or disk left half way, and give
 * a new mirror's root its metadata back.
 * Way: volume start -> reconcile_adopt -> pmove.c -> done.
 * Thread: core; the root's rights are applied on a worker.
 * Owns: struct adopt until its done.
 * Holds:
 *  1. an intent of a row that this index knows is left to that row's item, one of another node that
 *     serves to that node;
 *  2. nothing is moved into or out of .objectfs/ but what was parked in stage/;
 *  3. where both names hold different things both stay;
 *  4. rights that cannot be read are not made up: the volume waits, and the root stays closed until
 *     its record says KNOWN.
 */
#include "private.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "../core/nodes.h"

struct adopt {
	struct volume *v;
	struct snapshot *root; /* its metadata, blobs filled up to `blob` */
	unsigned blob;
	char **ids;
	unsigned count, next;
	char **stays; /* notes of what cannot be moved */
	unsigned stay_count;
	void (*done)(int status, const char *message, void *arg);
	void *arg;
};

static void adopt_end(struct adopt *ad, int status, const char *message)
{
	if (status == 0) {
		ad->v->root_known = true;
		redirects_start(ad->v->reconcile);
	}
	ad->done(status, message, ad->arg);
	snapshot_free(&ad->root);
	talloc_free(ad);
}

struct root_apply {
	struct disk_job job;
	struct adopt *ad;
	int tree_fd;
	struct ofs_record_io rio;
	struct ofs_shm *shm;
	struct snapshot *snapshot; /* ad->root; NULL: S3 has none */
	int64_t created_ns;
	int status;
};

static int adopt_root_known(const struct root_apply *ra)
{
	struct ofs_record rec;
	uint32_t stripe;
	struct stat st;
	int ret;

	if (fstat(ra->tree_fd, &st) != 0) {
		return -errno;
	}
	stripe = ofs_shm_stripe_of(st.st_ino);
	ret = ofs_shm_lock(ra->shm, stripe, 2000);
	if (ret != 0) {
		return ret;
	}
	ret = ofs_record_get(&ra->rio, ra->tree_fd, &rec);
	if (ret == 0) {
		rec.flags |= OFS_REC_KNOWN;
		ret = ofs_record_set(&ra->rio, ra->tree_fd, &rec);
	}
	ofs_shm_unlock(ra->shm, stripe);
	return ret;
}

static void adopt_root_run(struct disk_job *job)
{
	struct root_apply *ra = (struct root_apply *)job;

	/* Whatever was set here since, nobody had been let in to set it. */
	if (ra->snapshot != NULL) {
		ra->status = snapshot_apply(ra->tree_fd, ra->rio.xattr, ra->snapshot);
	}
	if (ra->status == 0 && ra->created_ns != 0) {
		ra->status = snapshot_create_time_set(ra->tree_fd, ra->created_ns);
	}
	if (ra->status == 0) {
		ra->status = adopt_root_known(ra);
	}
}

static void adopt_root_done(struct disk_job *job)
{
	struct root_apply *ra = (struct root_apply *)job;
	struct adopt *ad = ra->ad;
	int status = ra->status;

	free(ra);
	adopt_end(ad, status, status ? "the root's rights cannot be set on the mirror" : NULL);
}

/* snapshot NULL: there is none in S3. */
static void adopt_root_apply(struct adopt *ad)
{
	struct root_apply *ra = calloc(1, sizeof(*ra));

	if (ra == NULL) {
		adopt_end(ad, -ENOMEM, "out of memory");
		return;
	}
	ra->job.what = "restore the root's metadata";
	ra->job.run = adopt_root_run;
	ra->job.done = adopt_root_done;
	ra->ad = ad;
	ra->tree_fd = ad->v->tree_fd;
	ra->rio = ad->v->rio;
	ra->shm = ad->v->shm;
	ra->snapshot = ad->root;
	ra->created_ns = ad->v->created_ns;
	disk_submit(ad->v->disk, DISK_ANY, &ra->job);
}

static void adopt_root_blobs(struct adopt *ad);

static void adopt_root_blob(struct obj_req *req)
{
	struct adopt *ad = req->arg;
	struct obj_result *r = &req->result;
	struct snapshot_xattr *x = &ad->root->xattrs[ad->blob];

	if (r->status == OBJ_OK && r->body != NULL && r->body_len == x->len &&
			(x->value = malloc(r->body_len + 1)) != NULL) {
		memcpy(x->value, r->body, r->body_len);
		objstore_req_free(&req);
		adopt_root_blobs(ad);
		return;
	}
	adopt_end(ad, r->status == OBJ_OK ? -EIO : -EAGAIN,
			r->message ? r->message : "a blob with the root's rights cannot be read");
	objstore_req_free(&req);
}

/* Fetch what is not inline, one after the other; then apply (which checks what came). */
static void adopt_root_blobs(struct adopt *ad)
{
	struct snapshot *s = ad->root;
	struct obj_req *req;
	char *key;

	while (ad->blob < s->xattr_count &&
			(!s->xattrs[ad->blob].is_blob || s->xattrs[ad->blob].value != NULL)) {
		ad->blob++;
	}
	if (ad->blob < s->xattr_count) {
		key = objmeta_blob_key(ad->v->prefix, s->xattrs[ad->blob].sha256);
		req = key ? objstore_req_new(OBJ_GET, key) : NULL;
		free(key);
		if (req == NULL) {
			adopt_end(ad, -ENOMEM, "out of memory");
			return;
		}
		req->length = -1;
		req->done = adopt_root_blob;
		req->arg = ad;
		objstore_submit(ad->v->store, req);
		return;
	}
	adopt_root_apply(ad);
}

/* A share whose root nobody has ever changed begins as a new one; rights that were lost are not made up. */
static void adopt_root_none(struct adopt *ad)
{
	if (ad->v->root_kept) {
		adopt_end(ad, -EBADMSG,
				"the disk is new, and the rights of the share's root are lost: .objectfs/root is gone "
				"from the bucket, or is another tool's. Restore it from an older version or a backup; "
				"to begin with the rights of a new share instead, take \"root\": true out of "
				".objectfs/volume");
	} else {
		adopt_root_apply(ad);
	}
}

static void adopt_root_seen(struct obj_req *req)
{
	struct adopt *ad = req->arg;
	struct obj_result *r = &req->result;
	struct objmeta m = {0};
	bool damaged;

	if (r->status == OBJ_NOT_FOUND) {
		adopt_root_none(ad);
		objstore_req_free(&req);
		return;
	}
	if (r->status != OBJ_OK) {
		adopt_end(ad, -EAGAIN, r->message);
		objstore_req_free(&req);
		return;
	}
	objmeta_read(r, &m, &damaged);
	ad->root = m.snapshot;
	m.snapshot = NULL;
	if (ad->root != NULL) {
		adopt_root_blobs(ad);
	} else if (r->proof > OBJ_PROOF_GOOD) {
		adopt_end(ad, -EIO, "the root's metadata (.objectfs/root) are not signed with the volume's key: restore "
				"an older version of that object");
	} else if (damaged) {
		adopt_end(ad, -EIO, "the root's metadata (.objectfs/root) is damaged");
	} else {
		adopt_root_none(ad);
	}
	objmeta_clear(&m);
	objstore_req_free(&req);
}

static void adopt_root(struct adopt *ad)
{
	char *key;
	struct obj_req *req;

	if (ad->v->root_known) {
		adopt_end(ad, 0, NULL);
		return;
	}
	key = talloc_asprintf(ad, "%s.objectfs/root", ad->v->prefix);
	req = key ? objstore_req_new(OBJ_HEAD, key) : NULL;
	if (req == NULL) {
		adopt_end(ad, -ENOMEM, "out of memory");
		return;
	}
	req->done = adopt_root_seen;
	req->arg = ad;
	objstore_submit(ad->v->store, req);
}

static void adopt_next(struct adopt *ad);

static void adopt_intent_gone(enum obj_status st, const char *message, void *arg)
{
	struct adopt *ad = arg;

	if (st != OBJ_OK) {
		adopt_end(ad, -EAGAIN, message);
		return;
	}
	ad->next++;
	adopt_next(ad);
}

static void adopt_redirected(enum obj_status st, const char *message, void *arg)
{
	struct adopt *ad = arg;

	if (st != OBJ_OK) {
		adopt_end(ad, -EAGAIN, message);
		return;
	}
	rename_intent(ad->v, ad->ids[ad->next], NULL, NULL, 0, adopt_intent_gone, ad);
}

static void adopt_moved(struct pmove *m, enum obj_status st, const char *message)
{
	struct adopt *ad = m->arg;

	if (m->single && (st == OBJ_ARCHIVED || st == OBJ_INVALID)) {
		redirect_put(ad->v, m->from, m->to, message ? message : objstore_status_name(st),
				adopt_redirected, ad);
		return;
	}
	if (st == OBJ_PRECONDITION && rename_note_is_parked(ad->v, m->from) && strstr(m->to, "(renamed ") == NULL) {
		/* Nobody sees what stays in stage/. */
		struct pmove *aside;
		char *to = talloc_asprintf(m, "%s (renamed %.8s)", m->to, ad->ids[ad->next]);

		aside = to ? pmove_new(ad->v, m->from, to) : NULL;
		if (aside == NULL) {
			adopt_end(ad, -ENOMEM, "out of memory");
			return;
		}
		aside->done = adopt_moved;
		aside->arg = ad;
		pmove_start(aside);
		return;
	}
	if (st == OBJ_PRECONDITION) {
		/* Both names hold different things by now: nothing is lost by leaving both. */
		log_warning("reconcile", "the rename of %s to %s was not finished: %s; both stay",
				m->from, m->to, message ? message : "");
	} else if (st != OBJ_OK) {
		adopt_end(ad, -EAGAIN, message);
		return;
	} else {
		log_notice("reconcile", "finished the rename of %s to %s that was left half way, but for "
				"%u objects that stay", m->from, m->to, m->stay);
	}
	rename_intent(ad->v, ad->ids[ad->next], NULL, NULL, 0, adopt_intent_gone, ad);
}

static void adopt_intent_read(struct obj_req *req)
{
	struct adopt *ad = req->arg;
	struct obj_result *r = &req->result;
	struct rename_note n = {0};
	struct pmove *m = NULL;

	if (r->status == OBJ_NOT_FOUND) {
		ad->next++;
		adopt_next(ad);
		goto out;
	}
	if (r->status != OBJ_OK) {
		adopt_end(ad, -EAGAIN, r->message);
		goto out;
	}
	if (!rename_note_read(ad->v, r, &n) || n.stays != NULL) {
		log_warning("reconcile", "%s is no rename intent this version understands: left alone",
				req->key);
		ad->next++;
		adopt_next(ad);
		goto out;
	}
	if (nodes_serves(ad->v->nodes, n.node)) {
		log_notice("reconcile", "the rename of %s to %s is left to node %s; if that will not come back: "
				"objectfsctl forget-node %s", n.from, n.to, n.node, n.node);
		ad->next++;
		adopt_next(ad);
		goto out;
	}
	m = pmove_new(ad->v, n.from, n.to);
	if (m == NULL) {
		adopt_end(ad, -ENOMEM, "out of memory");
		goto out;
	}
	m->cutoff_ns = n.cutoff_ns;
	m->done = adopt_moved;
	m->arg = ad;
	pmove_start(m);
out:
	json_decref(n.doc);
	objstore_req_free(&req);
}

static void adopt_next(struct adopt *ad)
{
	char *key;
	struct obj_req *req;
	struct ofs_oid oid;
	struct row *row;

	while (ad->next < ad->count && ofs_oid_parse(ad->ids[ad->next], &oid)) {
		row = index_get(ad->v->index, &oid);
		if (row == NULL || !row->in_s3) {
			break;
		}
		if (row->live == ROW_HERE && step_at_home(row)) {
			/* Done and committed; only the intent was left. */
			rename_intent(ad->v, ad->ids[ad->next], NULL, NULL, 0, adopt_intent_gone, ad);
			return;
		}
		ad->next++; /* ours, and known: its item does it again and removes the intent */
	}
	if (ad->next >= ad->count) {
		adopt_root(ad);
		return;
	}
	key = talloc_asprintf(ad, "%s.objectfs/rename/%s", ad->v->prefix, ad->ids[ad->next]);
	req = key ? objstore_req_new(OBJ_GET, key) : NULL;
	if (req == NULL) {
		adopt_end(ad, -ENOMEM, "out of memory");
		return;
	}
	req->length = -1;
	req->done = adopt_intent_read;
	req->arg = ad;
	objstore_submit(ad->v->store, req);
}

static void adopt_list(struct adopt *ad, const char *token);

/* First what stays where: moves go by it. */
static void adopt_loaded(enum obj_status st, const char *message, void *arg)
{
	struct adopt *ad = arg;

	if (st != OBJ_OK) {
		adopt_end(ad, -EAGAIN, message);
		return;
	}
	adopt_next(ad);
}

static void adopt_listed(struct obj_req *req)
{
	struct adopt *ad = req->arg;
	struct obj_result *r = &req->result;
	unsigned i;

	if (r->status != OBJ_OK) {
		adopt_end(ad, -EAGAIN, r->message);
		objstore_req_free(&req);
		return;
	}
	ad->ids = talloc_realloc(ad, ad->ids, char *, ad->count + r->entry_count + 1);
	ad->stays = talloc_realloc(ad, ad->stays, char *, ad->stay_count + r->entry_count + 1);
	for (i = 0; i < r->entry_count && ad->ids != NULL && ad->stays != NULL; i++) {
		const char *slash = strrchr(r->entries[i].key, '/');

		if (slash == NULL || slash[1] == '\0') {
			continue;
		}
		if (strstr(slash, REDIRECT_SUFFIX) != NULL) {
			ad->stays[ad->stay_count++] = talloc_strdup(ad, slash + 1);
		} else {
			ad->ids[ad->count++] = talloc_strdup(ad, slash + 1);
		}
	}
	if (r->next_token != NULL) {
		adopt_list(ad, r->next_token);
	} else {
		redirects_load(ad->v->reconcile, ad->stays, ad->stay_count, adopt_loaded, ad);
	}
	objstore_req_free(&req);
}

static void adopt_list(struct adopt *ad, const char *token)
{
	char *prefix = talloc_asprintf(ad, "%s.objectfs/rename/", ad->v->prefix);
	struct obj_req *req = prefix ? objstore_req_new(OBJ_LIST, prefix) : NULL;

	if (req == NULL || (token != NULL && (req->token = strdup(token)) == NULL)) {
		objstore_req_free(&req);
		adopt_end(ad, -ENOMEM, "out of memory");
		return;
	}
	req->done = adopt_listed;
	req->arg = ad;
	objstore_submit(ad->v->store, req);
}

void reconcile_adopt(struct volume *v,
		void (*done)(int status, const char *message, void *arg), void *arg)
{
	struct adopt *ad = talloc_zero(v, struct adopt);

	if (ad == NULL) {
		done(-ENOMEM, "out of memory", arg);
		return;
	}
	ad->v = v;
	ad->done = done;
	ad->arg = arg;
	if (v->read_only != NULL) {
		adopt_root(ad); /* renames stay as they are */
	} else {
		adopt_list(ad, NULL);
	}
}
