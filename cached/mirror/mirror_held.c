/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: which files clients hold open, as only smbd knows, and what waits until they do not.
 * Way: mirror_change.c, mirror_remove.c ask before they touch a file; one module breaks leases and
 *      oplocks and answers (ofs_asked.c). What cannot be done yet is noted here and tried again by
 *      listing its directory.
 * Thread: core; held_limbo_run on a worker.
 * Owns: what waits.
 * Holds: 1. where no module can be asked (rule 10), every file counts as held for as long as a durable handle
 *           may wait for its client: those are in no process, so no lease of the kernel's shows
 *           them;
 *        2. trying again costs a question to a module, and a listing only once the file is free;
 *        3. the directories of what waits are in the index, for the next daemon to list.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mirror_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../core/ask.h"
#include "shared/cursor.h"
#include "shared/wire.h"

#define LATER_MAX 4096u
#define LATER_FIRST_NS (200 * NS_PER_MS)
#define LATER_HELD_NS (5 * NS_PER_S)  /* between two questions */
#define LATER_VAIN_NS (60 * NS_PER_S) /* between two listings that did not help */
#define LATER_KV "later"
#define LATER_KV_MAX 256u /* directories */
#define FRAME_BYTES (64u + 8u * OFS_WIRE_BREAK_MAX)

/* ---- asking ---- */

struct held_ask { /* talloc child of the mirror */
	struct mirror *m;
	uint64_t *inodes;
	uint8_t *states;
	size_t count, at, asked;
	mirror_held_done done;
	void *arg;
};

static void held_ask_more(struct held_ask *h);

/* Nobody can say. */
static void held_unknown(struct held_ask *h, bool nobody)
{
	struct volume *v = h->m->v;
	int64_t left_ns = atomic_load(&v->shm->durable_until_ns) - clock_now_ns(v->clock);
	bool held = !nobody || (left_ns > 0 && left_ns <= OFS_SHM_DURABLE_NS); /* more: of a boot before this one */

	memset(h->states + h->at, held ? OFS_WIRE_HELD_KEEP : 0, h->count - h->at);
	h->at = h->count;
	held_ask_more(h);
}

static void held_answered(int status, const uint8_t *frame, size_t len, void *arg)
{
	struct held_ask *h = arg;
	struct ofs_break_rep rep;

	if (status != 0 || ofs_wire_decode_break_rep(frame, len, &rep) != 0 || rep.status != 0 ||
			rep.states.len != h->asked) {
		held_unknown(h, status == -ENOTCONN);
		return;
	}
	stats_add(breaks_sent, rep.broken);
	memcpy(h->states + h->at, rep.states.data, h->asked);
	h->at += h->asked;
	held_ask_more(h);
}

static void held_ask_more(struct held_ask *h)
{
	struct asker *as = h->m->v->asker;
	uint8_t inodes[8 * OFS_WIRE_BREAK_MAX], *frame;
	struct ofs_wr w = ofs_wr_init(inodes, sizeof(inodes));
	struct ofs_break_req m = {.inodes = {.data = inodes}};
	uint64_t id;
	ssize_t len;

	if (h->at == h->count) {
		h->done(h->states, h->arg);
		talloc_free(h);
		return;
	}
	h->asked = h->count - h->at < OFS_WIRE_BREAK_MAX ? h->count - h->at : OFS_WIRE_BREAK_MAX;
	for (size_t i = 0; i < h->asked; i++) {
		ofs_wr_u64(&w, h->inodes[h->at + i]);
	}
	m.inodes.len = (uint32_t)w.done;
	id = ask_next_id(as);
	frame = malloc(FRAME_BYTES);
	len = frame != NULL ? ofs_wire_encode_break_req(frame, FRAME_BYTES, id, &m) : 0;
	ask_send(as, id, frame, len, held_answered, h);
}

void mirror_held(struct mirror *m, const uint64_t *inodes, size_t count, mirror_held_done done,
		void *arg)
{
	struct held_ask *h = talloc_zero(m, struct held_ask);

	if (h != NULL) {
		h->m = m;
		h->inodes = talloc_array(h, uint64_t, count + 1);
		h->states = talloc_zero_size(h, count + 1);
	}
	if (h == NULL || h->inodes == NULL || h->states == NULL) {
		talloc_free(h);
		done(NULL, arg);
		return;
	}
	if (count > 0) {
		memcpy(h->inodes, inodes, count * sizeof(*inodes));
	}
	h->count = m->v->asker != NULL ? count : 0; /* no modules at all: nobody holds anything */
	h->done = done;
	h->arg = arg;
	held_ask_more(h);
}

/* ---- again, later ---- */

struct later { /* talloc child of the mirror */
	struct later *next;
	struct ofs_oid dir; /* to be listed again */
	uint64_t ino;       /* that is held; 0: `oid` waits in limbo/ */
	struct ofs_oid oid;
	int64_t wait_ns, at_ns;
	const void *busy; /* the job or round that is at work on it */
};

static void later_tick(void *arg);

static void later_arm(struct mirror *m)
{
	int64_t at = INT64_MAX;

	for (const struct later *l = m->later; l != NULL; l = l->next) {
		at = l->busy == NULL && l->at_ns < at ? l->at_ns : at;
	}
	TALLOC_FREE(m->later_timer);
	if (at != INT64_MAX) {
		m->later_timer = clock_timer_add(m->v->clock, m, at, later_tick, m);
	}
}

static void later_again(struct later *l, struct mirror *m, int64_t most_ns)
{
	l->wait_ns = l->wait_ns == 0 ? LATER_FIRST_NS : 2 * l->wait_ns;
	l->wait_ns = l->wait_ns < most_ns ? l->wait_ns : most_ns;
	l->at_ns = clock_now_ns(m->v->clock) + l->wait_ns;
	l->busy = NULL;
}

static bool later_has_dir(const struct mirror *m, const struct ofs_oid *dir)
{
	const struct later *l = m->later;

	while (l != NULL && (l->ino == 0 || !ofs_oid_equal(&l->dir, dir))) {
		l = l->next;
	}
	return l != NULL;
}

/* Each directory once, as hex. */
static void later_save(struct mirror *m)
{
	char *text = talloc_strdup(m, ""), hex[OFS_OID_HEX_BYTES];

	for (const struct later *l = m->later; l != NULL && text != NULL; l = l->next) {
		ofs_oid_hex(&l->dir, hex);
		if (l->ino != 0 && strlen(text) < LATER_KV_MAX * OFS_OID_HEX_BYTES &&
				strstr(text, hex) == NULL) {
			text = talloc_asprintf_append(text, "%s ", hex);
		}
	}
	index_kv_set(m->v->index, LATER_KV, text != NULL && *text != '\0' ? text : NULL);
	talloc_free(text);
}

static void later_remove(struct mirror *m, struct later *gone)
{
	struct later **at = &m->later;

	while (*at != gone) {
		at = &(*at)->next;
	}
	*at = gone->next;
	m->later_count--;
	if (gone->ino != 0 && !later_has_dir(m, &gone->dir)) {
		later_save(m);
	}
	talloc_free(gone);
}

static struct later *later_add(struct mirror *m)
{
	struct later *l = m->later_count < LATER_MAX ? talloc_zero(m, struct later) : NULL;

	if (l != NULL) {
		l->next = m->later;
		m->later = l;
		m->later_count++;
	}
	return l;
}

void mirror_later(struct mirror *m, const struct ofs_oid *dir, uint64_t ino)
{
	struct later *l = m->later;

	if (m->v->asker == NULL) {
		return;
	}
	while (l != NULL && (l->ino != ino || !ofs_oid_equal(&l->dir, dir))) {
		l = l->next;
	}
	if (l == NULL) {
		bool new_dir = !later_has_dir(m, dir);

		l = later_add(m);
		if (l == NULL) {
			return; /* the next listing finds it */
		}
		stats_add(remote_deferred, 1);
		l->dir = *dir;
		l->ino = ino;
		if (new_dir) {
			later_save(m);
		}
		later_again(l, m, LATER_HELD_NS);
	} else if (l->busy != NULL) { /* its directory was listed for it, in vain */
		later_again(l, m, LATER_VAIN_NS);
	}
	later_arm(m);
}

void mirror_later_limbo(struct mirror *m, const struct ofs_oid *oid)
{
	struct later *l = later_add(m);

	if (l != NULL) { /* else the next daemon does it */
		l->oid = *oid;
		later_again(l, m, LATER_HELD_NS);
		later_arm(m);
	}
}

static void later_started(int status, const char *message, void *arg)
{
	struct mirror *m = arg;

	if (status == 0 && m->later == NULL) {
		later_save(m);
	} else if (status != 0) {
		log_info("mirror", "what waited for files to be closed waits for the next listing: %s",
				message != NULL ? message : strerror(-status));
	}
}

void mirror_start(struct mirror *m)
{
	const char *kv = m->later_started ? NULL : index_kv_get(m->v->index, LATER_KV);
	char *text = kv != NULL ? talloc_strdup(m, kv) : NULL, *save = NULL;

	m->later_started = true;
	for (char *hex = text != NULL ? strtok_r(text, " ", &save) : NULL; hex != NULL;
			hex = strtok_r(NULL, " ", &save)) {
		struct ofs_oid dir;
		const struct row *row = ofs_oid_parse(hex, &dir) ? index_get(m->v->index, &dir) : NULL;
		char *path = row != NULL ? index_path(m->v->index, m, row) : NULL;

		if (path != NULL) {
			mirror_refresh(m, 0, path, later_started, m);
		}
		talloc_free(path);
	}
	talloc_free(text);
}

void mirror_can_ask(struct mirror *m)
{
	for (struct later *l = m->later; l != NULL; l = l->next) {
		if (l->ino != 0) {
			l->at_ns = 0;
		}
	}
	later_arm(m);
}

/* ---- ... what is in limbo/ ---- */

struct held_limbo_job {
	struct disk_job job;
	struct mirror *m;
	struct mirror_place place;
	struct ofs_oid oid;
	int status;
};

static void held_limbo_run(struct disk_job *job)
{
	struct held_limbo_job *j = (struct held_limbo_job *)job;

	j->status = mirror_limbo_drop(&j->place, &j->oid);
}

static void held_limbo_done(struct disk_job *job)
{
	struct held_limbo_job *j = (struct held_limbo_job *)job;
	struct mirror *m = j->m;
	struct later *l = m->later;

	while (l != NULL && (l->ino != 0 || !ofs_oid_equal(&l->oid, &j->oid))) {
		l = l->next;
	}
	if (l != NULL && j->status == -EAGAIN) {
		later_again(l, m, LATER_HELD_NS);
	} else if (l != NULL) {
		later_remove(m, l);
	}
	free(j);
	later_arm(m);
}

static void later_limbo(struct mirror *m, struct later *l)
{
	struct held_limbo_job *j = calloc(1, sizeof(*j));

	if (j == NULL) {
		later_again(l, m, LATER_HELD_NS);
		return;
	}
	l->busy = j;
	j->m = m;
	j->place = mirror_place_of(m);
	j->oid = l->oid;
	j->job.what = "mirror limbo";
	j->job.run = held_limbo_run;
	j->job.done = held_limbo_done;
	disk_submit(m->v->disk, DISK_ANY, &j->job);
}

/* ---- ... what is in the tree ---- */

struct later_round { /* talloc child of the mirror */
	struct mirror *m;
	struct ofs_oid dir;
	uint64_t *inodes;
	size_t count;
};

/* What the listing has not put back by mirror_later is done, or of no more concern. */
static void later_listed(int status, const char *message, void *arg)
{
	struct later_round *r = arg;
	struct mirror *m = r->m;
	struct later *l, *next;

	(void)message;
	for (l = m->later; l != NULL; l = next) {
		next = l->next;
		if (l->busy != r) {
			continue;
		}
		if (status != 0 && status != -ENOENT) {
			later_again(l, m, LATER_VAIN_NS); /* S3 is away */
		} else {
			later_remove(m, l);
		}
	}
	talloc_free(r);
	later_arm(m);
}

static bool later_is_free(const struct later_round *r, const uint8_t *states, uint64_t ino)
{
	for (size_t i = 0; i < r->count; i++) {
		if (r->inodes[i] == ino) {
			return states != NULL && states[i] == 0;
		}
	}
	return false;
}

static void later_asked(const uint8_t *states, void *arg)
{
	struct later_round *r = arg;
	struct mirror *m = r->m;
	const struct row *row = index_get(m->v->index, &r->dir);
	char *path = row != NULL ? index_path(m->v->index, r, row) : NULL;
	bool any = false;

	for (struct later *l = m->later; l != NULL; l = l->next) {
		if (l->busy != r) {
			continue;
		}
		if (path == NULL || later_is_free(r, states, l->ino)) {
			any = true;
		} else {
			later_again(l, m, LATER_HELD_NS);
		}
	}
	if (any && path != NULL) {
		mirror_refresh(m, 0, path, later_listed, r);
	} else {
		later_listed(path == NULL ? -ENOENT : 0, NULL, r);
	}
}

/* One question for all that waits in a directory. */
static void later_dir(struct mirror *m, const struct ofs_oid *dir, int64_t now)
{
	struct later_round *r = talloc_zero(m, struct later_round);
	struct later *l;

	if (r != NULL) {
		r->m = m;
		r->dir = *dir;
		r->inodes = talloc_array(r, uint64_t, m->later_count + 1);
	}
	for (l = m->later; l != NULL; l = l->next) {
		if (l->busy != NULL || l->ino == 0 || l->at_ns > now || !ofs_oid_equal(&l->dir, dir)) {
			continue;
		}
		if (r == NULL || r->inodes == NULL) {
			later_again(l, m, LATER_HELD_NS);
		} else {
			l->busy = r;
			r->inodes[r->count++] = l->ino;
		}
	}
	if (r == NULL || r->inodes == NULL) {
		talloc_free(r);
		return;
	}
	r->inodes[r->count] = 0;
	mirror_held(m, r->inodes, r->count, later_asked, r);
}

static void later_tick(void *arg)
{
	struct mirror *m = arg;
	int64_t now = clock_now_ns(m->v->clock);
	struct later *l;

	m->later_timer = NULL;
	for (l = m->later; l != NULL; l = l->next) {
		if (l->busy == NULL && l->ino == 0 && l->at_ns <= now) {
			later_limbo(m, l);
		}
	}
	do {
		l = m->later;
		while (l != NULL && (l->busy != NULL || l->ino == 0 || l->at_ns > now)) {
			l = l->next;
		}
		if (l != NULL) {
			struct ofs_oid dir = l->dir;

			later_dir(m, &dir, now);
		}
	} while (l != NULL);
	later_arm(m);
}
