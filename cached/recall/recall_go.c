/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what a recall needs next: the volume and its row, a look at the object, GETs, or to be made
 *       plain; and those who wait are answered.
 * Way: recall.c, and whatever has ended -> recall_go -> recall_fetch.c, recall_object.c,
 *      recall_check.c, recall_file.c -> recall_go again.
 * Thread: core.
 * Owns: waits until answered.
 * Holds: 1. a wait leaves the list before it is answered: once, whatever its callback does;
 *        2. callbacks run while the recall is held: they may release it;
 *        3. a file is made plain only when all its bits are set, and recall_check.c has nothing against it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "recall_private.h"
#include "../reconcile/reconcile.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "../reconcile/names.h"

/* ---- those who wait ---- */

static void wait_answer(struct recall_wait *w, int status, const char *message)
{
	recall_client_put(w->client);
	w->done(status, message, w->arg);
	talloc_free(w);
}

static void waits_answer_list(struct recall_wait *list, int status, const char *message)
{
	while (list != NULL) {
		struct recall_wait *next = list->next;

		wait_answer(list, status, message);
		list = next;
	}
}

/* Those whose range is here. */
static void recall_answer_waits(struct recall *r)
{
	struct recall_wait **pp = &r->waits, *ready = NULL, **last = &ready, *w;

	while ((w = *pp) != NULL) {
		while (w->here < w->end && recall_has(r, w->here)) {
			w->here++;
		}
		if (w->whole ? r->state == RECALL_PLAIN : w->here >= w->end) {
			*pp = w->next;
			w->next = NULL;
			r->lent = r->lent || (!r->verified && w->here > w->first);
			*last = w;
			last = &w->next;
		} else {
			pp = &w->next;
		}
	}
	waits_answer_list(ready, 0, NULL);
}

void recall_fail_waits(struct recall *r, int status, const char *message)
{
	struct recall_wait *list = r->waits;

	r->waits = NULL;
	waits_answer_list(list, status, message);
}

void recall_fail_extent(struct recall *r, uint64_t extent, int status, const char *message)
{
	struct recall_wait **pp = &r->waits, *failed = NULL, *w;

	while ((w = *pp) != NULL) {
		if (w->first <= extent && extent < w->end) {
			*pp = w->next;
			w->next = failed;
			failed = w;
		} else {
			pp = &w->next;
		}
	}
	waits_answer_list(failed, status, message);
}

void recall_rewind_waits(struct recall *r)
{
	struct recall_wait *w;

	for (w = r->waits; w != NULL; w = w->next) {
		w->at = w->here;
	}
}

void recall_restart_waits(struct recall *r)
{
	struct recall_wait *w;

	for (w = r->waits; w != NULL; w = w->next) {
		w->at = w->here = w->first;
	}
}

/* ---- before the first GET: volume, row, fence ---- */

static void ask_failed(struct recall *r, int status, const char *message)
{
	r->asking = false;
	r->ahead_by = NULL;
	recall_hold(r);
	recall_fail_waits(r, status, message);
	recall_unhold(r);
}

struct ask_place { /* talloc child of the recall */
	struct recall *r;
	char *name;
};

/* The index was lost: the record says that S3 has it; where, its path says. */
static void ask_located(int status, const char *message, struct mirror_dir *dir, void *arg)
{
	struct ask_place *p = arg;
	struct recall *r = p->r;
	struct index *ix = r->rs->v->index;
	struct row *row;
	char *raw;

	if (status != 0) {
		ask_failed(r, -EIO, message);
		return;
	}
	raw = name_to_raw(p, p->name, false);
	row = index_get(ix, &r->oid);
	if (row == NULL) {
		row = index_add(ix, &r->oid, false);
	}
	if (index_at_s3(ix, &dir->oid, raw, false) != NULL) {
		ask_failed(r, -EIO, "the object of this stub is not known; refresh its directory");
		return;
	}
	if (row->live == ROW_NOT_HERE) {
		index_set_here(ix, row, &dir->oid, p->name, r->ino);
	}
	if (!row->in_s3 && r->rs->v->reconcile == NULL) {
		index_set_s3(ix, row, &dir->oid, raw);
	} else if (!row->in_s3 && !reconcile_assume_place(r->rs->v->reconcile, row, &dir->oid, raw)) {
		ask_failed(r, -EIO, "the object of this stub is not known; refresh its directory");
		return;
	}
	talloc_free(p);
	r->asking = false;
	recall_go(r);
}

static void ask_placed(struct recall_file_job *j)
{
	struct recall *r = j->r;
	struct ask_place *p = talloc_zero(r, struct ask_place);

	p->r = r;
	p->name = talloc_strdup(p, j->name);
	if (j->status != 0) {
		if (j->parent_fd >= 0) {
			close(j->parent_fd);
		}
		ask_failed(r, -EIO, "the object of this stub is not known, nor is its place");
	} else {
		mirror_locate(r->rs->v->mirror, p, j->parent_fd, NULL, ask_located, p);
	}
	free(j);
}

static void ask_ready(struct volume *v, void *arg, int status)
{
	struct recall *r = arg;
	const struct row *row = index_get(v->index, &r->oid);
	struct recall_file_job *j;

	if (status != 0) {
		ask_failed(r, status, mirror_unready(r, v));
		return;
	}
	if (row != NULL && row->in_s3) {
		r->asking = false;
		recall_go(r);
		return;
	}
	if (r->learned) {
		ask_failed(r, -EIO, "the object of this stub is not known");
		return;
	}
	r->learned = true;
	j = recall_file_job_new(r->rs, r);
	j->done = ask_placed;
	recall_file_place(j);
}

/* ---- the whole file is here ---- */

static void finish_done(struct recall_file_job *j)
{
	struct recall *r = j->r;
	struct evictor *ev = r->rs->v->evictor;
	struct ofs_oid oid = r->oid;
	int status = j->status;
	bool last;

	free(j);
	if (status == 0) {
		stats_add(recalls_whole, 1);
		recall_damage_forget(r);
		evict_note(ev, &oid, r->size);
		recall_hold(r);
		recall_became_plain(r);
		recall_answer_waits(r);
		last = r->readers == NULL;
		recall_unhold(r);
		if (last) {
			evict_closed(ev, &oid);
		}
		return;
	}
	log_warning("recall", "inode %llu cannot be made resident: %s", (unsigned long long)r->ino,
			strerror(-status));
	if (status == -ETIMEDOUT) { /* a lock; the bytes are good */
		r->state = RECALL_FILLING;
		recall_hold(r);
		recall_fail_waits(r, status, "the file's record is locked");
		recall_unhold(r);
		return;
	}
	recall_kill(r, status == -ESTALE || status == -ENODATA ? -EIO : status,
			"the file cannot be made resident");
}

void recall_finish(struct recall *r)
{
	struct recall_file_job *j = recall_file_job_new(r->rs, r);

	recall_give_all(r);
	recall_answer_waits(r);
	r->state = RECALL_FINISHING;
	j->done = finish_done;
	recall_file_finish(j);
}

/* ---- what is next ---- */

bool recall_idle(const struct recall *r)
{
	return r->running == 0 && !r->job_running && !r->head_running && !r->asking;
}

/* What FILLING needs next. */
static void go_filling(struct recall *r)
{
	struct volume *v = r->rs->v;
	const struct row *row;

	if (r->filled == r->extents) {
		recall_verify(r);
		return;
	}
	if (!recall_fetch_wanted(r)) {
		return;
	}
	row = index_get(v->index, &r->oid);
	if (v->state != VOLUME_READY || row == NULL || !row->in_s3) {
		r->asking = true;
		volume_when_ready(v, MIRROR_READY_WAIT_NS, ask_ready, r);
	} else if (row->etag == NULL) { /* HEAD first */
		r->state = RECALL_CHECKING;
		if (recall_idle(r)) {
			recall_check_start(r);
		}
	} else {
		recall_fetch_enqueue(r);
	}
}

void recall_go(struct recall *r)
{
	recall_hold(r);
	recall_answer_waits(r);
	if (r->state == RECALL_DISCARDING && r->running == 0 && !r->job_running &&
			r->discarded != NULL) {
		recall_discard_now(r);
	} else if (r->state == RECALL_CHECKING && recall_idle(r)) {
		recall_check_start(r);
	} else if (r->state == RECALL_FILLING && !r->asking && !r->job_running) {
		go_filling(r);
	}
	recall_unhold(r);
}
