/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: directory renames in S3: intent, copy all, delete all, intent gone; and finishing those that
 * a lost node left behind.
 * Way: step.c -> rename_directory; volume start -> reconcile_adopt.
 * Thread: core.
 * Owns: struct pmove (a move of all keys below a prefix) until its done.
 * Holds:
 *  1. nothing is copied before the intent object is in the bucket;
 *  2. no key is deleted before every key has its copy: others see duplicates, never gaps;
 *  3. every step can be repeated: copies that are there are skipped, absent sources too;
 *  4. the row moves only when all is done; until then everything below waits (step.c).
 *
 *   claim -> intent -> list -> copy (16 at once) -> delete (16 at once) -> intent removed -> row
 */
#include "private.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PMOVE_AT_ONCE 16

struct pkey {
	char *suffix; /* below the prefix */
	char *etag;
	bool stays; /* its new name holds something else */
};

struct pmove {
	struct volume *v;
	char *from, *to; /* prefixes, ending in "/"; or whole keys if `single` */
	struct ofs_oid tombstone; /* in the tombstones of its deletes */
	bool single;
	struct pkey *keys;
	unsigned count, cap, next, running, finished;
	bool deleting;
	bool leave_taken; /* a key whose new name is taken stays; else it stops the whole */
	unsigned stay;
	enum obj_status failed;
	char *message;
	/* A copy got another ETag than its source had (parts). */
	void (*copied)(struct pmove *m, const char *suffix, const char *etag);
	void (*done)(struct pmove *m, enum obj_status st, const char *message);
	void *arg;
};

/* ---- intents ---- */

struct intent_op {
	void (*done)(enum obj_status st, const char *message, void *arg);
	void *arg;
};

static void intent_op_done(struct obj_req *req)
{
	struct intent_op *op = req->arg;
	enum obj_status st = req->result.status;

	if (op->done != NULL) {
		op->done(st == OBJ_NOT_FOUND && req->op == OBJ_DELETE ? OBJ_OK : st,
				req->result.message, op->arg);
	}
	talloc_free(op);
	objstore_req_free(&req);
}

void rename_intent(struct volume *v, const char *id, const char *from, const char *to,
		void (*done)(enum obj_status st, const char *message, void *arg), void *arg)
{
	char *key = talloc_asprintf(v, "%s.objectfs/rename/%s", v->prefix, id);
	struct obj_req *req = key ? objstore_req_new(to ? OBJ_PUT : OBJ_DELETE, key) : NULL;
	struct intent_op *op = talloc_zero(v, struct intent_op);
	json_t *doc = NULL;

	talloc_free(key);
	if (req == NULL || op == NULL) {
		goto nomem;
	}
	if (to != NULL) {
		doc = json_pack("{s:s, s:s, s:s, s:s}", "format", "objectfs rename 1", "node",
				v->node_id, "from", from, "to", to);
		req->body = doc ? (uint8_t *)json_dumps(doc, JSON_COMPACT) : NULL;
		json_decref(doc);
		if (req->body == NULL) {
			goto nomem;
		}
		req->length = strlen((char *)req->body);
		req->content_type = strdup("application/json");
	}
	op->done = done;
	op->arg = arg;
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = intent_op_done;
	req->arg = op;
	objstore_submit(v->store, req);
	return;
nomem:
	talloc_free(op);
	objstore_req_free(&req);
	if (done != NULL) {
		done(OBJ_LOCAL, "out of memory", arg);
	}
}

/* ---- all keys below a prefix ---- */

static void pmove_end(struct pmove *m, enum obj_status st, const char *message)
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

struct pstep {
	struct pmove *m;
	unsigned i;
};

static void pmove_copied(enum obj_status st, const char *message, const char *etag, void *arg)
{
	struct pstep *s = arg;
	struct pmove *m = s->m;
	struct pkey *k = &m->keys[s->i];

	if (st == OBJ_OK && m->copied != NULL && etag != NULL && strcmp(etag, k->etag) != 0) {
		m->copied(m, k->suffix, etag);
	}
	talloc_free(s);
	if (st == OBJ_PRECONDITION && m->leave_taken && !m->single) {
		k->stays = true;
		m->stay++;
		st = OBJ_OK;
	}
	/* Gone since it was listed: nothing to move. */
	pmove_step_done(m, st == OBJ_NOT_FOUND ? OBJ_OK : st, message);
}

static void pmove_deleted(enum obj_status st, const char *message, void *arg)
{
	struct pstep *s = arg;
	struct pmove *m = s->m;

	talloc_free(s);
	/* Changed under the old name by somebody else: it stays there. */
	pmove_step_done(m, st == OBJ_PRECONDITION ? OBJ_OK : st, message);
}

static void pmove_more(struct pmove *m)
{
	while (m->failed == OBJ_OK && m->next < m->count && m->running < PMOVE_AT_ONCE) {
		struct pkey *k = &m->keys[m->next];
		struct pstep *s;
		char *from, *to;

		if (m->deleting && k->stays) {
			m->next++;
			continue;
		}
		s = talloc_zero(m, struct pstep);
		from = talloc_asprintf(m, "%s%s", m->from, k->suffix);
		to = talloc_asprintf(m, "%s%s", m->to, k->suffix);
		if (s == NULL || from == NULL || to == NULL) {
			m->failed = OBJ_LOCAL;
			break;
		}
		s->m = m;
		s->i = m->next++;
		m->running++;
		if (m->deleting) {
			delete_fenced(m->v, from, k->etag, &m->tombstone, pmove_deleted, s);
		} else {
			copy_fenced(m->v, from, k->etag, to, NULL, pmove_copied, s);
		}
		talloc_free(from);
		talloc_free(to);
	}
	if (m->running > 0) {
		return;
	}
	if (m->failed != OBJ_OK) {
		pmove_end(m, m->failed, m->message);
	} else if (m->next >= m->count && !m->deleting) {
		m->deleting = true;
		m->next = 0;
		pmove_more(m);
	} else if (m->next >= m->count) {
		pmove_end(m, OBJ_OK, NULL);
	}
}

static void pmove_list(struct pmove *m, const char *token);

static bool pmove_add(struct pmove *m, const char *suffix, const char *etag)
{
	if (m->count == m->cap) {
		unsigned cap = m->cap ? m->cap * 2 : 256;
		struct pkey *n = talloc_realloc(m, m->keys, struct pkey, cap);

		if (n == NULL) {
			return false;
		}
		m->keys = n;
		m->cap = cap;
	}
	m->keys[m->count].suffix = talloc_strdup(m, suffix);
	m->keys[m->count].etag = talloc_strdup(m, etag ? etag : "");
	m->keys[m->count].stays = false;
	m->count++;
	return m->keys[m->count - 1].suffix != NULL && m->keys[m->count - 1].etag != NULL;
}

static void pmove_listed(struct obj_req *req)
{
	struct pmove *m = req->arg;
	struct obj_result *r = &req->result;
	size_t skip = strlen(m->from);
	unsigned i;

	if (r->status != OBJ_OK) {
		pmove_end(m, r->status, r->message);
		objstore_req_free(&req);
		return;
	}
	for (i = 0; i < r->entry_count; i++) {
		if (!r->entries[i].is_prefix &&
				!pmove_add(m, r->entries[i].key + skip, r->entries[i].etag)) {
			objstore_req_free(&req);
			pmove_end(m, OBJ_LOCAL, "out of memory");
			return;
		}
	}
	if (r->next_token != NULL) {
		pmove_list(m, r->next_token);
	} else {
		pmove_more(m);
	}
	objstore_req_free(&req);
}

static void pmove_list(struct pmove *m, const char *token)
{
	struct obj_req *req = objstore_req_new(OBJ_LIST, m->from);

	if (req == NULL || (token != NULL && (req->token = strdup(token)) == NULL)) {
		objstore_req_free(&req);
		pmove_end(m, OBJ_LOCAL, "out of memory");
		return;
	}
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = pmove_listed;
	req->arg = m;
	objstore_submit(m->v->store, req);
}

static void pmove_single_seen(struct obj_req *req)
{
	struct pmove *m = req->arg;
	struct obj_result *r = &req->result;

	if (r->status == OBJ_NOT_FOUND) {
		pmove_end(m, OBJ_OK, NULL);
	} else if (r->status != OBJ_OK) {
		pmove_end(m, r->status, r->message);
	} else if (!pmove_add(m, "", r->etag)) {
		pmove_end(m, OBJ_LOCAL, "out of memory");
	} else {
		pmove_more(m);
	}
	objstore_req_free(&req);
}

static struct pmove *pmove_new(struct volume *v, const char *from, const char *to)
{
	struct pmove *m = talloc_zero(v, struct pmove);

	if (m == NULL) {
		return NULL;
	}
	m->v = v;
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

static void pmove_start(struct pmove *m)
{
	struct obj_req *req;

	if (!m->single) {
		pmove_list(m, NULL);
		return;
	}
	req = objstore_req_new(OBJ_HEAD, m->from);
	if (req == NULL) {
		pmove_end(m, OBJ_LOCAL, "out of memory");
		return;
	}
	req->done = pmove_single_seen;
	req->arg = m;
	objstore_submit(m->v->store, req);
}

/* ---- a client's rename of a directory ---- */

static void rename_committed(int status, void *arg)
{
	struct attempt *a = arg;

	if (status != 0) {
		attempt_end_failed(a, "the index cannot be written: %s", strerror(-status));
		return;
	}
	stats_add(renames_dir, 1);
	attempt_end_again(a, 0); /* its own metadata comes next */
}

static void rename_intent_gone(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;

	if (st != OBJ_OK) {
		attempt_end_store(a, "removing the note of a directory rename", st, message);
		return;
	}
	claim_redeem(a, NULL, false);
	index_commit(a->v->index, rename_committed, a);
}

/* The intent goes before the row moves: left behind, it would one day move a new directory of the
 * old name. Until the row has moved the claim repeats the whole, which then finds nothing to do. */
static void rename_moved(struct pmove *m, enum obj_status st, const char *message)
{
	struct attempt *a = m->arg;
	char hex[OFS_OID_HEX_BYTES];

	if (st != OBJ_OK) {
		attempt_end_store(a, "renaming a directory", st, message);
		return;
	}
	if (ofs_oid_equal(&a->parent, &OFS_OID_STAGE)) {
		/* Parked: its intent stays until it has left again. */
		a->item->stage = false;
		rename_intent_gone(OBJ_OK, NULL, a);
		return;
	}
	ofs_oid_hex(&a->oid, hex);
	rename_intent(a->v, hex, NULL, NULL, rename_intent_gone, a);
}

/* A copy in parts has a new ETag: the row of what was copied learns it. */
static void rename_copied(struct pmove *m, const char *suffix, const char *etag)
{
	struct attempt *a = m->arg;
	struct index *ix = a->v->index;
	char *path = talloc_strdup(m, suffix), *part, *save = NULL;
	struct row *row = a->row;

	for (part = path ? strtok_r(path, "/", &save) : NULL; part != NULL && row != NULL;
			part = strtok_r(NULL, "/", &save)) {
		row = index_at_s3(ix, &row->oid, part);
	}
	if (row != NULL && row != a->row && !row->is_dir) {
		index_set_fence(ix, row, etag, NULL, row->s3_size, row->s3_mtime_ns);
	}
	talloc_free(path);
}

static void rename_intent_put(enum obj_status st, const char *message, void *arg)
{
	struct attempt *a = arg;
	struct pmove *m;

	if (st != OBJ_OK) {
		attempt_end_store(a, "noting a directory rename", st, message);
		return;
	}
	m = pmove_new(a->v, a->old_key, a->key);
	if (m == NULL) {
		attempt_end_failed(a, "out of memory");
		return;
	}
	m->copied = rename_copied;
	m->done = rename_moved;
	m->arg = a;
	pmove_start(m);
}

static void rename_claimed(struct attempt *a)
{
	char hex[OFS_OID_HEX_BYTES];

	if (claim_is_busy_below(a->item->rc, a->row)) {
		/* From the claim on nothing new begins below; what had begun ends soon. */
		attempt_end_postponed(a, 50 * NS_PER_MS, "files in it are being sent");
		return;
	}
	ofs_oid_hex(&a->oid, hex);
	if (ofs_oid_equal(&a->parent, &OFS_OID_STAGE)) {
		rename_intent(a->v, hex, a->key, a->upload_if_match, rename_intent_put, a);
		return;
	}
	rename_intent(a->v, hex, a->old_key, a->key, rename_intent_put, a);
}

/* Where whoever finds the disk lost puts a directory that is being parked, or is: beside its old
 * place, which may be another's by then, and whether or not all of it was copied. */
static char *stage_refuge(struct attempt *a, const char *old_key)
{
	char hex[OFS_OID_HEX_BYTES];

	ofs_oid_hex(&a->oid, hex);
	return talloc_asprintf(
			a, "%.*s (renamed %.8s)/", (int)strlen(old_key) - 1, old_key, hex);
}

void rename_directory(struct attempt *a)
{
	if (ofs_oid_equal(&a->parent, &OFS_OID_STAGE)) {
		a->upload_if_match = stage_refuge(a, a->old_key);
		if (a->upload_if_match == NULL) {
			attempt_end_failed(a, "out of memory");
			return;
		}
	}
	if (a->replaced != NULL) {
		rename_claimed(a);
	} else {
		claim_make(a, rename_claimed);
	}
}

void stage_directory(struct attempt *a)
{
	struct index *ix = a->v->index;
	struct row *row = a->row, *claim = claim_get(ix, row);
	char hex[OFS_OID_HEX_BYTES];

	if (claim != NULL && (!ofs_oid_equal(&claim->s3_parent, &OFS_OID_STAGE) ||
					     claim_is_being_deleted(claim))) {
		a->item->stage = false;
		attempt_end_postponed(a, 0, "a rename that was begun is finished first");
		return;
	}
	ofs_oid_hex(&a->oid, hex);
	a->parent = OFS_OID_STAGE;
	a->raw = talloc_strdup(a, hex);
	a->old_key = index_key(ix, a, a->v->prefix, &row->s3_parent, row->s3_name, true, NULL);
	a->key = a->raw ? index_key(ix, a, a->v->prefix, &a->parent, hex, true, NULL) : NULL;
	if (a->old_key == NULL || a->key == NULL || ofs_oid_equal(&row->s3_parent, &OFS_OID_STAGE)) {
		a->item->stage = false;
		attempt_end_postponed(a, NS_PER_S, "its name cannot be parked");
		return;
	}
	a->replaced = claim;
	rename_directory(a);
}

/* ---- at start: intents that somebody left, and the root's metadata ---- */

struct adopt {
	struct volume *v;
	bool fresh;
	struct snapshot *root; /* its metadata, blobs filled up to `blob` */
	unsigned blob;
	char **ids;
	unsigned count, next;
	void (*done)(int status, const char *message, void *arg);
	void *arg;
};

static void adopt_end(struct adopt *ad, int status, const char *message)
{
	ad->done(status, message, ad->arg);
	snapshot_free(&ad->root);
	talloc_free(ad);
}

struct root_apply {
	struct disk_job job;
	struct adopt *ad;
	int tree_fd;
	char xattr[32];
	struct snapshot *snapshot; /* ad->root */
	int status;
};

static void adopt_root_run(struct disk_job *job)
{
	struct root_apply *ra = (struct root_apply *)job;

	ra->status = snapshot_apply(ra->tree_fd, ra->xattr, ra->snapshot);
}

static void adopt_root_done(struct disk_job *job)
{
	struct root_apply *ra = (struct root_apply *)job;
	struct adopt *ad = ra->ad;
	int status = ra->status;

	free(ra);
	adopt_end(ad, status, status ? "the root's rights cannot be set on the mirror" : NULL);
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
	struct root_apply *ra;
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
	ra = calloc(1, sizeof(*ra));
	if (ra == NULL) {
		adopt_end(ad, -ENOMEM, "out of memory");
		return;
	}
	ra->job.what = "restore the root's metadata";
	ra->job.run = adopt_root_run;
	ra->job.done = adopt_root_done;
	ra->ad = ad;
	ra->tree_fd = ad->v->tree_fd;
	snprintf(ra->xattr, sizeof(ra->xattr), "%s", ad->v->rio.xattr);
	ra->snapshot = s;
	disk_submit(ad->v->disk, DISK_ANY, &ra->job);
}

static void adopt_root_seen(struct obj_req *req)
{
	struct adopt *ad = req->arg;
	struct obj_result *r = &req->result;
	struct objmeta m = {0};
	bool damaged;

	if (r->status == OBJ_NOT_FOUND) {
		adopt_end(ad, 0, NULL);
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
	} else {
		/* Rights that cannot be read are not made up: the volume waits. */
		adopt_end(ad, damaged ? -EIO : 0,
				damaged ? "the root's metadata (.objectfs/root) is damaged" : NULL);
	}
	objmeta_clear(&m);
	objstore_req_free(&req);
}

static void adopt_root(struct adopt *ad)
{
	char *key;
	struct obj_req *req;

	if (!ad->fresh) {
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

static bool adopt_is_parked(const struct adopt *ad, const char *key)
{
	static const char stage[] = ".objectfs/stage/";

	return strncmp(key + strlen(ad->v->prefix), stage, strlen(stage)) == 0;
}

static void adopt_moved(struct pmove *m, enum obj_status st, const char *message)
{
	struct adopt *ad = m->arg;

	if (st == OBJ_PRECONDITION && adopt_is_parked(ad, m->from) && strstr(m->to, "(renamed ") == NULL) {
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
				"%u objects whose new names are taken", m->from, m->to, m->stay);
	}
	rename_intent(ad->v, ad->ids[ad->next], NULL, NULL, adopt_intent_gone, ad);
}

static void adopt_intent_read(struct obj_req *req)
{
	struct adopt *ad = req->arg;
	struct obj_result *r = &req->result;
	const char *format = "", *from = NULL, *to = NULL;
	json_t *doc = NULL;
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
	doc = json_loadb((char *)r->body, r->body_len, JSON_REJECT_DUPLICATES, NULL);
	if (doc == NULL || json_unpack(doc, "{s:s, s:s, s:s}", "format", &format, "from", &from, "to",
					   &to) != 0 ||
			strcmp(format, "objectfs rename 1") != 0 ||
			strncmp(from, ad->v->prefix, strlen(ad->v->prefix)) != 0 ||
			strncmp(to, ad->v->prefix, strlen(ad->v->prefix)) != 0 ||
			strlen(from) <= strlen(ad->v->prefix) || strlen(to) <= strlen(ad->v->prefix)) {
		log_warning("reconcile", "%s is no rename intent this version understands: left alone",
				req->key);
		ad->next++;
		adopt_next(ad);
		goto out;
	}
	m = pmove_new(ad->v, from, to);
	if (m == NULL) {
		adopt_end(ad, -ENOMEM, "out of memory");
		goto out;
	}
	m->leave_taken = true;
	m->done = adopt_moved;
	m->arg = ad;
	pmove_start(m);
out:
	json_decref(doc);
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
			rename_intent(ad->v, ad->ids[ad->next], NULL, NULL, adopt_intent_gone, ad);
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
	for (i = 0; i < r->entry_count && ad->ids != NULL; i++) {
		const char *slash = strrchr(r->entries[i].key, '/');

		if (slash != NULL && slash[1] != '\0') {
			ad->ids[ad->count++] = talloc_strdup(ad, slash + 1);
		}
	}
	if (r->next_token != NULL) {
		adopt_list(ad, r->next_token);
	} else {
		adopt_next(ad);
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

void reconcile_adopt(struct volume *v, bool fresh,
		void (*done)(int status, const char *message, void *arg), void *arg)
{
	struct adopt *ad = talloc_zero(v, struct adopt);

	if (ad == NULL) {
		done(-ENOMEM, "out of memory", arg);
		return;
	}
	ad->v = v;
	ad->fresh = fresh;
	ad->done = done;
	ad->arg = arg;
	adopt_list(ad, NULL);
}
