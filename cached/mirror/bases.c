/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: which directories are to get a base, and when.
 * Way: the index tells what changes in S3 -> a directory becomes due, by a bit in its row -> once it is quiet,
 *      base_write.c. A directory that leaves S3 takes its base along.
 * Thread: core.
 * Owns: the table of directories that are due; one write at a time.
 * Holds: 1. due is what has changed since its base was written, also after a restart;
 *        2. a base is written when nothing has changed for `base quiet`, or, at most once in that time, when a
 *           tenth of it is other; not for less than a hundredth, which a listing asks for at less cost than
 *           the LISTs of a write; never for fewer than `base names` files;
 *        3. what may have to look at a million rows does so over many turns of the loop.
 *
 *   (nothing) --watched--> due --look--> [counting] --> writing --written--> (nothing), or due again
 */
#include "bases.h"

#include <inttypes.h>
#include <string.h>
#include "base_write.h"
#include "mirror_private.h"
#include "walk.h"
#include "../reconcile/reconcile.h"

#define TABLE_SLOTS 1024u
#define LOOK_LEAST_NS (500 * NS_PER_MS)
#define LOOK_MOST_NS (30 * NS_PER_S)
#define QUIET_LEAST_NS (BASE_YOUNG_NS + 2 * NS_PER_S) /* by a clock that is known to the second */
#define LOOK_ROWS 1000u
#define WORTH_PERCENT 1u
#define HASTE_PERCENT 10u

struct due { /* talloc child of bases */
	struct due *next, **prev; /* of its slot */
	struct ofs_oid dir;
	uint64_t changes;   /* since the last write */
	int64_t changed_ns; /* the last of them */
	int64_t since_ns;   /* of the last write, or the first change */
	uint64_t too_few;   /* changes at the last look, which were not enough */
	int64_t again_ns;   /* not looked at before: its files have just been counted */
	bool enough;        /* they have, and so few they are that the changes are worth a write */
	bool uncounted;     /* more has changed than `changes` says */
};

/* A directory whose tree has moved, or one below it; what is below that is gone through first. */
struct moved { /* talloc child of bases */
	struct moved *above;
	struct volume *v;
	struct index_walk walk;
};

struct bases {
	struct volume *v;
	struct due *table[TABLE_SLOTS];
	unsigned due_count;
	bool started, muted;
	bool idle; /* nothing is due but what has too few changes: the next one wakes */
	struct clock_timer *timer;
	struct due *writing;
	uint64_t changes; /* of that, when it began */
	struct due *counting; /* whether it has more files than `files_most`, over many turns */
	struct index_walk count;
	uint64_t files, files_most;
	struct moved *moved; /* over many turns, too */
	struct clock_timer *moved_turn;
};

static void look(void *arg);

static struct due **due_slot(struct bases *b, const struct ofs_oid *dir)
{
	uint32_t h;

	memcpy(&h, dir->bytes + 12, sizeof(h));
	return &b->table[(h ^ dir->bytes[0]) % TABLE_SLOTS];
}

static struct due *due_find(struct bases *b, const struct ofs_oid *dir)
{
	struct due *d = *due_slot(b, dir);

	while (d != NULL && !ofs_oid_equal(&d->dir, dir)) {
		d = d->next;
	}
	return d;
}

static struct due *due_add(struct bases *b, const struct ofs_oid *dir)
{
	struct due **slot = due_slot(b, dir), *d = talloc_zero(b, struct due);

	if (d != NULL) {
		d->dir = *dir;
		d->since_ns = d->changed_ns = clock_now_ns(b->v->clock);
		d->next = *slot;
		d->prev = slot;
		if (d->next != NULL) {
			d->next->prev = &d->next;
		}
		*slot = d;
		b->due_count++;
	}
	return d;
}

static void due_end(struct bases *b, struct due *d)
{
	*d->prev = d->next;
	if (d->next != NULL) {
		d->next->prev = d->prev;
	}
	b->due_count--;
	talloc_free(d);
}

static int64_t quiet_ns(const struct bases *b)
{
	int64_t quiet = b->v->conf->base_quiet_ns;

	return quiet > QUIET_LEAST_NS ? quiet : QUIET_LEAST_NS;
}

static bool due_is_still(const struct bases *b, const struct due *d)
{
	return clock_now_ns(b->v->clock) - d->changed_ns >= quiet_ns(b);
}

static int64_t look_wait_ns(const struct bases *b)
{
	int64_t wait = quiet_ns(b) / 8;

	return wait < LOOK_LEAST_NS ? LOOK_LEAST_NS : wait > LOOK_MOST_NS ? LOOK_MOST_NS : wait;
}

static void look_later(struct bases *b)
{
	if (b->timer == NULL && b->started && b->due_count > 0 && !b->idle && b->writing == NULL &&
			b->counting == NULL && b->v->read_only == NULL) {
		b->timer = clock_timer_add(b->v->clock, b, clock_now_ns(b->v->clock) + look_wait_ns(b), look, b);
	}
}

/* Files of it in S3, counted up to `most`; of a directory of directories not all are looked at. */
static uint64_t files_of(struct bases *b, const struct row *dir, uint64_t most)
{
	const struct row *c = index_s3_child(b->v->index, dir);
	uint64_t count = 0, seen = 0;

	for (; c != NULL && count < most && seen < 2 * most + LOOK_ROWS; seen++) {
		count += !c->is_dir;
		c = index_s3_next(b->v->index, c);
	}
	return count;
}

/* ---- what changes ---- */

static void dir_changed(struct bases *b, struct row *dir)
{
	struct due *d = due_find(b, &dir->oid);

	if (d == NULL && files_of(b, dir, b->v->conf->base_names) < b->v->conf->base_names) {
		return;
	}
	if (d == NULL && (d = due_add(b, &dir->oid)) == NULL) {
		return; /* the next change tries again */
	}
	d->changes++;
	d->changed_ns = clock_now_ns(b->v->clock);
	index_set_base(b->v->index, dir, true, dir->has_base);
	b->idle = false;
	look_later(b);
}

/* ---- what moves ---- */

static int moved_destructor(struct moved *m)
{
	if (m->v->index != NULL) {
		index_walk_end(m->v->index, &m->walk);
	}
	return 0;
}

/* What a rename has copied is of another Last-Modified: the bases of all that moves say nothing any more. */
static void moved_dir(struct bases *b, struct row *dir)
{
	struct moved *m;
	struct due *d;

	if (dir->has_base) {
		dir_changed(b, dir);
		d = due_find(b, &dir->oid);
		if (d != NULL) {
			d->uncounted = true;
		}
	}
	m = dir->s3_children != 0 ? talloc_zero(b, struct moved) : NULL;
	if (m != NULL) { /* else it costs requests: what a base says is compared with what is listed */
		m->v = b->v;
		m->above = b->moved;
		b->moved = m;
		index_walk_begin(b->v->index, &m->walk, dir);
		talloc_set_destructor(m, moved_destructor);
	}
}

static void moved_turn(void *arg);

static void moved_go_on(struct bases *b)
{
	struct clock *clock = b->v->clock;

	if (b->moved != NULL && b->moved_turn == NULL) {
		b->moved_turn = clock_timer_add(clock, b, clock_now_ns(clock), moved_turn, b);
	}
}

static void moved_turn(void *arg)
{
	struct bases *b = arg;

	b->moved_turn = NULL;
	for (unsigned n = 0; n < b->v->mirror->list_turn && b->moved != NULL; n++) {
		struct moved *m = b->moved;
		struct row *c = index_walk_next(b->v->index, &m->walk);

		if (c == NULL) {
			b->moved = m->above;
			talloc_free(m);
		} else if (c->is_dir) {
			moved_dir(b, c);
		}
	}
	moved_go_on(b);
}

static void watched(void *arg, const struct row *row, enum index_change change)
{
	struct bases *b = arg;
	struct row *dir = index_get(b->v->index, row->is_dir ? &row->oid : &row->s3_parent);
	bool on = b->v->conf->base_quiet_ns > 0 && !b->muted && dir != NULL;

	if (!row->is_dir && (change != INDEX_OTHER || (!b->muted && row->etag != NULL))) {
		mirror_row_changes(b->v->mirror, row);
	}
	walk_row_changes(b->v->mirror, row, change);
	if (!row->is_dir && on && (change != INDEX_OTHER || row->etag != NULL)) {
		dir_changed(b, dir);
	} else if (row->is_dir && on && change == INDEX_MOVES) {
		moved_dir(b, dir);
		moved_go_on(b);
	} else if (row->is_dir && change == INDEX_LEAVES && row->has_base && b->started &&
			b->v->read_only == NULL) {
		base_remove(b, b->v, &row->oid);
	}
}

void bases_mute(struct bases *b, bool on)
{
	if (b != NULL) {
		b->muted = on;
	}
}

/* ---- when ---- */

static void written(const struct base_written *what, void *arg)
{
	struct bases *b = arg;
	struct due *d = b->writing;
	struct row *dir = index_get(b->v->index, &d->dir);
	char *path = dir != NULL && what->status == 0 ? index_path(b->v->index, b, dir) : NULL;

	if (path != NULL) {
		log_debug("mirror", "the base of %s has %" PRIu64 " names", path, what->rows);
	}
	talloc_free(path);
	b->writing = NULL;
	d->since_ns = clock_now_ns(b->v->clock);
	if (dir != NULL) {
		index_set_base(b->v->index, dir, dir->base_due, what->there || dir->has_base);
	}
	if (what->status == 0 && what->young == 0 && d->changes == b->changes) {
		if (dir != NULL) {
			index_set_base(b->v->index, dir, false, what->there);
		}
		due_end(b, d);
	} else {
		d->changed_ns = what->status != 0 || what->young > 0 ? d->since_ns : d->changed_ns;
		d->uncounted = d->uncounted && what->status != 0;
		d->changes -= what->status == 0 ? b->changes : 0;
		d->too_few = 0;
		d->changes += what->young;
	}
	look_later(b);
}

enum due_verdict { DUE_NOT_YET, DUE_NOW, DUE_COUNT, DUE_NEVER };

static bool due_is_too_little(const struct due *d)
{
	return d->too_few == d->changes && !d->uncounted;
}

static enum due_verdict due_look(struct bases *b, const struct due *d)
{
	const struct row *dir = index_get(b->v->index, &d->dir);
	int64_t now = clock_now_ns(b->v->clock);
	bool still = due_is_still(b, d);

	if (dir == NULL || !dir->in_s3 || dir->live == ROW_TRASHED) {
		return DUE_NEVER;
	}
	if ((!still && now - d->since_ns < quiet_ns(b)) || due_is_too_little(d) || now < d->again_ns ||
			mirror_is_listing(b->v->mirror, &d->dir)) {
		return DUE_NOT_YET;
	}
	if (files_of(b, dir, b->v->conf->base_names) < b->v->conf->base_names && !dir->has_base) {
		return still ? DUE_NEVER : DUE_NOT_YET;
	}
	return dir->has_base && !d->uncounted && !d->enough ? DUE_COUNT : DUE_NOW;
}

static void due_write(struct bases *b, struct due *d)
{
	b->changes = d->changes;
	b->idle = false;
	if (base_write_start(b, b->v, &d->dir, written, b) != NULL) {
		b->writing = d;
		d->enough = false;
	}
}

static void count_end(struct bases *b)
{
	struct due *d = b->counting;

	index_walk_end(b->v->index, &b->count);
	b->counting = NULL;
	d->enough = b->files <= b->files_most;
	if (!d->enough) {
		d->again_ns = clock_now_ns(b->v->clock) + look_wait_ns(b);
		d->too_few = due_is_still(b, d) ? d->changes : 0;
	}
	look(b);
}

static void count_turn(void *arg)
{
	struct bases *b = arg;
	struct clock *clock = b->v->clock;
	const struct row *c = NULL;

	for (unsigned n = 0; n < b->v->mirror->list_turn && b->files <= b->files_most; n++) {
		c = index_walk_next(b->v->index, &b->count);
		if (c == NULL) {
			break;
		}
		b->files += !c->is_dir;
	}
	if (c == NULL || b->files > b->files_most ||
			clock_timer_add(clock, b, clock_now_ns(clock), count_turn, b) == NULL) {
		count_end(b);
	}
}

/* Are there at most so many files that d->changes are that part of them? */
static void count_begin(struct bases *b, struct due *d, const struct row *dir)
{
	struct clock *clock = b->v->clock;

	if (clock_timer_add(clock, b, clock_now_ns(clock), count_turn, b) == NULL) {
		b->idle = false;
		return;
	}
	b->counting = d;
	b->files_most = d->changes * 100 / (due_is_still(b, d) ? WORTH_PERCENT : HASTE_PERCENT);
	b->files = 0;
	index_walk_begin(b->v->index, &b->count, dir);
}

static void look(void *arg)
{
	struct bases *b = arg;
	bool ready = b->v->state == VOLUME_READY && b->v->read_only == NULL;
	struct due *d, *next;

	b->timer = NULL;
	b->idle = ready;
	for (unsigned i = 0; i < TABLE_SLOTS && ready; i++) {
		for (d = b->table[i]; d != NULL && b->writing == NULL && b->counting == NULL; d = next) {
			enum due_verdict verdict = due_look(b, d);
			struct row *dir = index_get(b->v->index, &d->dir);

			next = d->next;
			if (verdict == DUE_NEVER) {
				if (dir != NULL) {
					index_set_base(b->v->index, dir, false, dir->has_base);
				}
				due_end(b, d);
			} else if (verdict == DUE_NOW) {
				due_write(b, d);
			} else if (verdict == DUE_COUNT) {
				count_begin(b, d, dir);
			} else {
				b->idle = b->idle && due_is_too_little(d);
			}
		}
	}
	look_later(b);
}

/* ---- life ---- */

static bool start_row(struct row *r, void *arg)
{
	struct bases *b = arg;
	struct due *d = r->base_due && due_find(b, &r->oid) == NULL ? due_add(b, &r->oid) : NULL;

	if (d != NULL) {
		d->uncounted = true;
	}
	return true;
}

void bases_start(struct bases *b)
{
	if (!b->started && b->v->conf->base_quiet_ns > 0) {
		index_each(b->v->index, start_row, b);
	}
	b->started = true;
	look_later(b);
}

static int bases_destructor(struct bases *b)
{
	if (b->counting != NULL && b->v->index != NULL) {
		index_walk_end(b->v->index, &b->count);
	}
	return 0;
}

struct bases *bases_new(TALLOC_CTX *ctx, struct volume *v)
{
	struct bases *b = talloc_zero(ctx, struct bases);

	if (b != NULL) {
		b->v = v;
		talloc_set_destructor(b, bases_destructor);
		index_watch(v->index, watched, b);
	}
	return b;
}
