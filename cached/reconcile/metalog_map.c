/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the newest entry of the log for every object, of all nodes.
 * Way: metalog_load.c and metalog.c merge; mirror asks metalog_find; metalog_fold.c walks.
 * Thread: core.
 * Owns: entries (malloc).
 * Holds: 1. of two entries for an object the one with the higher meta_gen stays.
 *        2. `own` stays with an object once a segment of this node's has an entry for it, whose ever
 *           the newest is: what a fold writes for it is never older than what it replaces.
 */
#include "metalog_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../base/log.h"

#define MAP_BUCKETS_MIN 256u

static struct entry **map_slot(struct metalog *ml, const struct ofs_oid *oid)
{
	uint64_t a, b;

	memcpy(&a, oid->bytes, 8);
	memcpy(&b, oid->bytes + 8, 8);
	a = (a ^ ml->seed) * 0x9e3779b97f4a7c15ULL;
	b = (b + ml->seed + (a >> 32)) * 0xc2b2ae3d27d4eb4fULL;
	return &ml->buckets[(b ^ b >> 29) & ml->mask];
}

struct entry *metalog_map_find(struct metalog *ml, const struct ofs_oid *oid)
{
	struct entry *e = *map_slot(ml, oid);

	while (e != NULL && !ofs_oid_equal(&e->pub.oid, oid)) {
		e = e->next;
	}
	return e;
}

static bool map_grow(struct metalog *ml)
{
	struct entry **old = ml->buckets, *next;
	uint64_t old_count = old != NULL ? ml->mask + 1 : 0;
	uint64_t count = old_count != 0 ? 2 * old_count : MAP_BUCKETS_MIN;
	struct entry **grown = calloc(count, sizeof(*grown));

	if (grown == NULL) {
		return old != NULL; /* longer chains then */
	}
	ml->buckets = grown;
	ml->mask = count - 1;
	for (uint64_t i = 0; i < old_count; i++) {
		for (struct entry *e = old[i]; e != NULL; e = next) {
			struct entry **slot = map_slot(ml, &e->pub.oid);

			next = e->next;
			e->next = *slot;
			*slot = e;
		}
	}
	free(old);
	return true;
}

void metalog_merge(struct metalog *ml, struct metalog_entry *in, bool own)
{
	struct entry *e = metalog_map_find(ml, &in->oid);
	struct entry **slot;

	if (e != NULL) {
		e->own |= own;
		if (in->meta_gen < e->pub.meta_gen) {
			free(in->packed);
			return;
		}
		free(e->pub.packed);
		e->pub = *in;
		e->left_out = false; /* its segment comes after the fold's first */
		if (e->object_gen >= e->pub.meta_gen) {
			e->object_gen = 0; /* it was; who writes this knows better */
		}
		return;
	}
	e = calloc(1, sizeof(*e));
	if (e == NULL) {
		log_error("metalog", "out of memory");
		abort(); /* an ACL would be lost from sight; what is in S3 is read again at start */
	}
	if (ml->count > ml->mask) {
		map_grow(ml);
	}
	e->pub = *in;
	e->own = own;
	slot = map_slot(ml, &in->oid);
	e->next = *slot;
	*slot = e;
	ml->count++;
}

const struct metalog_entry *metalog_find(
		struct metalog *ml, const struct ofs_oid *oid, uint64_t than_gen)
{
	const struct entry *e = metalog_map_find(ml, oid);

	return e != NULL && e->pub.meta_gen > than_gen ? &e->pub : NULL;
}

/* Not in S3 yet, as far as is known. */
static bool is_on_its_way(const struct metalog *ml, const struct ofs_oid *oid)
{
	const struct queued *q = ml->queue;

	while (q != NULL && !ofs_oid_equal(&q->oid, oid)) {
		q = q->next;
	}
	if (q == NULL && ml->out != NULL) {
		for (q = ml->out->entries; q != NULL && !ofs_oid_equal(&q->oid, oid); q = q->next) {
		}
	}
	return q != NULL;
}

int metalog_append_above(struct metalog *ml, const struct ofs_oid *oid, uint64_t meta_gen,
		uint64_t data_gen, const uint8_t *packed, size_t packed_len,
		void (*committed)(int status, void *arg), void *arg)
{
	struct entry *e = metalog_map_find(ml, oid);
	uint64_t known_gen = e != NULL ? e->pub.meta_gen : 0;
	bool has = known_gen > 0 && known_gen >= meta_gen && e->pub.packed_len == packed_len &&
			memcmp(e->pub.packed, packed, packed_len) == 0;
	uint8_t *copy;

	if (has) {
		e->object_gen = 0; /* a fold must not leave it out */
	}
	if (has && !e->left_out && !is_on_its_way(ml, oid)) {
		committed(0, arg);
		return 0;
	}
	copy = malloc(packed_len);
	if (copy == NULL) {
		return -ENOMEM;
	}
	memcpy(copy, packed, packed_len);
	if (known_gen > 0 && known_gen >= meta_gen) {
		meta_gen = has ? known_gen : known_gen + 1;
	}
	metalog_append(ml, oid, meta_gen, data_gen, copy, packed_len, committed, arg);
	return 0;
}

void metalog_settled(struct metalog *ml, const struct ofs_oid *oid, uint64_t meta_gen)
{
	struct entry *e = metalog_map_find(ml, oid);

	if (e != NULL && e->object_gen < meta_gen) {
		e->object_gen = meta_gen;
	}
}

void metalog_map_each(struct metalog *ml, void (*fn)(struct entry *e, void *arg), void *arg)
{
	for (uint64_t i = 0; i <= ml->mask; i++) {
		for (struct entry *e = ml->buckets[i]; e != NULL; e = e->next) {
			fn(e, arg);
		}
	}
}

void metalog_each(struct metalog *ml, void (*fn)(const struct metalog_entry *e, void *arg), void *arg)
{
	for (uint64_t i = 0; i <= ml->mask; i++) {
		for (const struct entry *e = ml->buckets[i]; e != NULL; e = e->next) {
			fn(&e->pub, arg);
		}
	}
}

unsigned metalog_map_prune(struct metalog *ml)
{
	unsigned pruned = 0;

	for (uint64_t i = 0; i <= ml->mask; i++) {
		struct entry **pe = &ml->buckets[i];

		while (*pe != NULL) {
			struct entry *e = *pe;

			if (!e->left_out) {
				pe = &e->next;
				continue;
			}
			*pe = e->next;
			free(e->pub.packed);
			free(e);
			ml->count--;
			pruned++;
		}
	}
	return pruned;
}

bool metalog_map_init(struct metalog *ml)
{
	return map_grow(ml);
}

void metalog_map_fini(struct metalog *ml)
{
	for (uint64_t i = 0; ml->buckets != NULL && i <= ml->mask; i++) {
		struct entry *next;

		for (struct entry *e = ml->buckets[i]; e != NULL; e = next) {
			next = e->next;
			free(e->pub.packed);
			free(e);
		}
	}
	free(ml->buckets);
}
