/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the table of files with data here, in the order in which they are to go.
 * Way: reconcile, recall and the census say what is here; space.c asks who goes.
 * Thread: core.
 * Owns: one entry for each file; the ghosts.
 * Holds: 1. `bytes` is the sum over all entries, those in no queue included;
 *        2. an entry is in one queue, or OUT between keep_pick and what became of it.
 *
 *   new -> SMALL -opened twice-> MAIN -not opened for a round-> out
 *            \--------not-------------------------------------> out -> ghost -back-> MAIN
 */
#include "keep.h"

#include <stdlib.h>
#include <string.h>

#define KEEP_SMALL_PERCENT 10u /* of the bytes, for what has not proved itself */
#define KEEP_USES_MOST 3u
#define KEEP_GHOSTS 65536u /* a power of two */

enum keep_queue { KEEP_SMALL, KEEP_MAIN, KEEP_OUT, KEEP_QUEUES };

struct kept { /* malloc */
	struct kept *hash_next;
	struct kept *next, *prev; /* in its queue, oldest first */
	struct ofs_oid oid;
	uint64_t bytes;
	int64_t used_s;
	uint8_t queue, uses;
};

struct keep_list {
	struct kept *first, *last;
	uint64_t bytes;
};

struct keep {
	struct kept **hash;
	size_t buckets; /* a power of two */
	uint64_t count, bytes;
	struct keep_list queue[KEEP_QUEUES];
	size_t hand; /* of keep_old: a bucket */
	/* direct-mapped; a ghost counts while fewer than `count` others went after it */
	struct {
		uint64_t id, went;
	} *ghost;
	uint64_t went;
};

static int keep_destructor(struct keep *k)
{
	for (size_t i = 0; i < k->buckets; i++) {
		while (k->hash[i] != NULL) {
			struct kept *e = k->hash[i];

			k->hash[i] = e->hash_next;
			free(e);
		}
	}
	return 0;
}

struct keep *keep_new(TALLOC_CTX *ctx)
{
	struct keep *k = talloc_zero(ctx, struct keep);

	if (k == NULL) {
		return NULL;
	}
	k->buckets = 1024;
	k->hash = talloc_zero_array(k, struct kept *, k->buckets);
	k->ghost = talloc_zero_size(k, KEEP_GHOSTS * sizeof(*k->ghost));
	if (k->hash == NULL || k->ghost == NULL) {
		talloc_free(k);
		return NULL;
	}
	talloc_set_destructor(k, keep_destructor);
	return k;
}

/* Ids are random, or hashes. */
static uint64_t keep_id(const struct ofs_oid *oid)
{
	uint64_t id;

	memcpy(&id, oid->bytes, sizeof(id));
	return id;
}

static struct kept **keep_slot(const struct keep *k, const struct ofs_oid *oid)
{
	struct kept **pp = &k->hash[keep_id(oid) & (k->buckets - 1)];

	while (*pp != NULL && !ofs_oid_equal(&(*pp)->oid, oid)) {
		pp = &(*pp)->hash_next;
	}
	return pp;
}

static void keep_grow(struct keep *k)
{
	size_t buckets = k->buckets * 2;
	struct kept **hash = talloc_zero_array(k, struct kept *, buckets);

	if (hash == NULL) {
		return; /* longer chains */
	}
	for (size_t i = 0; i < k->buckets; i++) {
		while (k->hash[i] != NULL) {
			struct kept *e = k->hash[i], **to = &hash[keep_id(&e->oid) & (buckets - 1)];

			k->hash[i] = e->hash_next;
			e->hash_next = *to;
			*to = e;
		}
	}
	talloc_free(k->hash);
	k->hash = hash;
	k->buckets = buckets;
}

static void keep_leave(struct keep *k, struct kept *e)
{
	struct keep_list *q = &k->queue[e->queue];

	*(e->prev ? &e->prev->next : &q->first) = e->next;
	*(e->next ? &e->next->prev : &q->last) = e->prev;
	q->bytes -= e->bytes;
}

static void keep_enter(struct keep *k, struct kept *e, enum keep_queue queue)
{
	struct keep_list *q = &k->queue[queue];

	e->queue = (uint8_t)queue;
	e->next = NULL;
	e->prev = q->last;
	*(q->last ? &q->last->next : &q->first) = e;
	q->last = e;
	q->bytes += e->bytes;
}

static bool keep_was_here(const struct keep *k, const struct ofs_oid *oid)
{
	uint64_t id = keep_id(oid), most = k->count > 1024 ? k->count : 1024;
	uint64_t went = k->ghost[id & (KEEP_GHOSTS - 1)].went;

	return went != 0 && k->ghost[id & (KEEP_GHOSTS - 1)].id == id && k->went - went < most;
}

static void keep_free(struct keep *k, struct kept **slot)
{
	struct kept *e = *slot;

	keep_leave(k, e);
	*slot = e->hash_next;
	k->bytes -= e->bytes;
	k->count--;
	free(e);
}

void keep_set(struct keep *k, const struct ofs_oid *oid, uint64_t bytes, int64_t now_s)
{
	struct kept **slot = keep_slot(k, oid), *e = *slot;

	if (bytes == 0) {
		keep_drop(k, oid);
		return;
	}
	if (e == NULL) {
		e = calloc(1, sizeof(*e));
		if (e == NULL) {
			return; /* the next census finds it */
		}
		e->oid = *oid;
		e->used_s = now_s;
		e->hash_next = NULL;
		*slot = e;
		keep_enter(k, e, keep_was_here(k, oid) ? KEEP_MAIN : KEEP_SMALL);
		if (++k->count > k->buckets) {
			keep_grow(k);
		}
	}
	k->bytes += bytes - e->bytes;
	k->queue[e->queue].bytes += bytes - e->bytes;
	e->bytes = bytes;
}

void keep_set_least(struct keep *k, const struct ofs_oid *oid, uint64_t bytes, int64_t now_s)
{
	const struct kept *e = *keep_slot(k, oid);

	if (e == NULL || e->bytes < bytes) {
		keep_set(k, oid, bytes, now_s);
	}
}

void keep_touch(struct keep *k, const struct ofs_oid *oid, int64_t now_s)
{
	struct kept *e = *keep_slot(k, oid);

	if (e == NULL) {
		return;
	}
	e->used_s = now_s > e->used_s ? now_s : e->used_s;
	if (e->uses < KEEP_USES_MOST) {
		e->uses++;
	}
}

void keep_drop(struct keep *k, const struct ofs_oid *oid)
{
	struct kept **slot = keep_slot(k, oid);

	if (*slot != NULL) {
		keep_free(k, slot);
	}
}

bool keep_has(const struct keep *k, const struct ofs_oid *oid)
{
	return *keep_slot(k, oid) != NULL;
}

uint64_t keep_bytes(const struct keep *k)
{
	return k->bytes;
}

uint64_t keep_count(const struct keep *k)
{
	return k->count;
}

uint64_t keep_leaving(const struct keep *k)
{
	return k->queue[KEEP_OUT].bytes;
}

bool keep_pick(struct keep *k, struct ofs_oid *oid)
{
	struct keep_list *small = &k->queue[KEEP_SMALL], *main = &k->queue[KEEP_MAIN];
	struct kept *e;

	while (small->first != NULL || main->first != NULL) {
		bool from_small = small->first != NULL &&
				(main->first == NULL ||
						small->bytes > k->bytes / 100 * KEEP_SMALL_PERCENT);

		e = from_small ? small->first : main->first;
		keep_leave(k, e);
		if (e->uses == 0 || (from_small && e->uses == 1)) {
			keep_enter(k, e, KEEP_OUT);
			*oid = e->oid;
			return true;
		}
		e->uses = from_small ? 0 : e->uses - 1;
		keep_enter(k, e, KEEP_MAIN);
	}
	return false;
}

bool keep_take(struct keep *k, const struct ofs_oid *oid)
{
	struct kept *e = *keep_slot(k, oid);

	if (e == NULL || e->queue == KEEP_OUT) {
		return false;
	}
	keep_leave(k, e);
	keep_enter(k, e, KEEP_OUT);
	return true;
}

void keep_gone(struct keep *k, const struct ofs_oid *oid)
{
	uint64_t id = keep_id(oid);

	keep_drop(k, oid);
	k->ghost[id & (KEEP_GHOSTS - 1)].id = id;
	k->ghost[id & (KEEP_GHOSTS - 1)].went = ++k->went;
}

void keep_stays(struct keep *k, const struct ofs_oid *oid)
{
	struct kept *e = *keep_slot(k, oid);

	if (e != NULL && e->queue == KEEP_OUT) {
		keep_leave(k, e);
		keep_enter(k, e, KEEP_MAIN);
	}
}

/* To the end of its chain: those behind it have their turn when it stays. */
static void keep_behind(struct kept **slot)
{
	struct kept *e = *slot;

	*slot = e->hash_next;
	while (*slot != NULL) {
		slot = &(*slot)->hash_next;
	}
	e->hash_next = NULL;
	*slot = e;
}

bool keep_old(struct keep *k, int64_t before_s, unsigned *look, struct ofs_oid *oid)
{
	while (*look > 0) {
		struct kept **slot;

		(*look)--;
		k->hand = (k->hand + 1) & (k->buckets - 1);
		for (slot = &k->hash[k->hand]; *slot != NULL; slot = &(*slot)->hash_next) {
			if ((*slot)->used_s < before_s && (*slot)->queue != KEEP_OUT) {
				*oid = (*slot)->oid;
				keep_behind(slot);
				return true;
			}
		}
	}
	return false;
}
