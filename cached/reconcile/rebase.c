/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: an object of somebody else's that stands where a file was to be sent: are its bytes the file's? Then there is
 *       nothing to send and nothing to keep apart.
 * Way: send.c, after a refused write, -> GETs, each compared on a worker -> the metadata log (step_log), or a conflict.
 * Thread: core; the comparison on workers.
 * Owns: struct rebase, talloc child of the attempt: the answer to the HEAD, the GET in flight.
 * Holds:
 *  1. all bytes are read under the ETag that becomes the row's fence, and compared with what was to be sent;
 *  2. their object stays as it is; what this node says of the file goes to its log.
 */
#include "private.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../mirror/foreign.h"

#define REBASE_READ_BYTES (4LL << 20)

struct rebase {
	struct attempt *a;
	struct obj_req *head; /* its answer is of what stands there */
	struct ofs_oid wid;
	const char *why; /* it is a conflict if they differ; constant */
	int64_t at;
};

struct rebase_job {
	struct disk_job job;
	struct rebase *b; /* core only */
	int fd;
	int64_t at;
	struct obj_req *get; /* with the bytes */
	bool same;
	int status;
};

static int rebase_destructor(struct rebase *b)
{
	objstore_req_free(&b->head);
	return 0;
}

bool rebase_may(const struct attempt *a, enum whose who, const struct obj_result *r, const struct objmeta *m)
{
	/* Of another file's object a new disk would not know that it is this one. */
	bool file = !m->ours || ofs_oid_equal(&m->oid, &a->oid);

	return (who == WHOSE_FOREIGN || who == WHOSE_NODES || who == WHOSE_EDITED) && file && !a->row->is_dir &&
	       !a->unsure && a->old_key == NULL && a->item->copy == NULL && a->fd >= 0 && r->size == a->size &&
	       r->size <= a->v->conf->compare_limit_bytes;
}

/* The row is of their object from now on. */
static void rebase_equal(struct rebase *b)
{
	struct attempt *a = b->a;
	const struct obj_result *r = &b->head->result;
	struct index *ix = a->v->index;

	heir_gone(a->v, a->row->version_id);
	index_set_fence(ix, a->row, r->etag, r->version_id, &b->wid, r->size, r->mtime_ns);
	index_set_sha256(ix, a->row, NULL);
	index_set_plain(ix, a->row, foreign_none(r));
	index_set_gens(ix, a->row, a->rec.data_gen, a->row->s3_meta_gen);
	index_set_object(ix, a->row, true);
	stats_add(rebased, 1);
	log_notice("reconcile", "%s: %s, and its bytes are those of this node's version: it stays", a->key, b->why);
	talloc_free(b);
	a->upload_done = true; /* the content is in S3; what is said of it goes to the log */
	step_log(a);
}

static void rebase_go_on(struct rebase *b);

static void rebase_run(struct disk_job *job)
{
	struct rebase_job *j = (struct rebase_job *)job;
	size_t len = j->get->result.body_len, done = 0;
	uint8_t *ours = malloc(len + 1);
	ssize_t n = 1;

	while (ours != NULL && done < len && (n > 0 || (n < 0 && errno == EINTR))) {
		n = pread(j->fd, ours + done, len - done, j->at + (int64_t)done);
		done += n > 0 ? (size_t)n : 0;
	}
	j->status = ours == NULL ? -ENOMEM : n < 0 ? -errno : 0;
	j->same = done == len && memcmp(ours, j->get->result.body, len) == 0;
	free(ours);
}

static void rebase_compared(struct disk_job *job)
{
	struct rebase_job *j = (struct rebase_job *)job;
	struct rebase *b = j->b;
	struct attempt *a = b->a;
	const char *why = b->why;
	bool same = j->same;
	int status = j->status;

	b->at += (int64_t)j->get->result.body_len;
	objstore_req_free(&j->get);
	free(j);
	if (status != 0) {
		attempt_end_failed(a, "cannot be read: %s", strerror(-status));
	} else if (same) {
		rebase_go_on(b);
	} else {
		talloc_free(b);
		step_taken(a, why);
	}
}

static void rebase_got(struct obj_req *req)
{
	struct rebase *b = req->arg;
	struct attempt *a = b->a;
	const char *why = b->why;
	enum obj_status st = req->result.status;
	struct rebase_job *j = st == OBJ_OK ? calloc(1, sizeof(*j)) : NULL;

	if (j != NULL && (int64_t)req->result.body_len == req->length) {
		j->job.what = "compare with an object";
		j->job.run = rebase_run;
		j->job.done = rebase_compared;
		j->b = b;
		j->fd = a->fd;
		j->at = b->at;
		j->get = req;
		disk_submit(a->v->disk, DISK_ANY, &j->job);
		return;
	}
	free(j);
	if (objstore_status_transient(st) || st == OBJ_OK || st == OBJ_LOCAL || st == OBJ_NO_BUCKET) {
		attempt_end_store(a, "comparing with what somebody else has written", st == OBJ_OK ? OBJ_AWAY : st,
				req->result.message);
	} else if (st == OBJ_PRECONDITION || st == OBJ_NOT_FOUND) {
		talloc_free(b);
		step_ask_outcome(a);
	} else { /* nobody knows what it is: it is kept apart */
		talloc_free(b);
		step_taken(a, why);
	}
	objstore_req_free(&req);
}

static void rebase_go_on(struct rebase *b)
{
	struct attempt *a = b->a;
	int64_t left = b->head->result.size - b->at;
	struct obj_req *req;

	if (left == 0) {
		rebase_equal(b);
		return;
	}
	req = objstore_req_new(OBJ_GET, a->key);
	if (req == NULL || (req->if_match = strdup(b->head->result.etag)) == NULL) {
		objstore_req_free(&req);
		attempt_end_failed(a, "out of memory");
		return;
	}
	req->offset = b->at;
	req->length = left < REBASE_READ_BYTES ? left : REBASE_READ_BYTES;
	req->prio = OBJ_PRIO_UPLOAD;
	req->done = rebase_got;
	req->arg = b;
	objstore_submit(a->v->store, req);
}

void rebase_try(struct attempt *a, struct obj_req *head, const struct ofs_oid *wid, const char *why)
{
	struct rebase *b = talloc_zero(a, struct rebase);

	if (b == NULL) {
		objstore_req_free(&head);
		attempt_end_failed(a, "out of memory");
		return;
	}
	b->a = a;
	b->head = head;
	b->wid = *wid;
	b->why = why;
	talloc_set_destructor(b, rebase_destructor);
	rebase_go_on(b);
}
