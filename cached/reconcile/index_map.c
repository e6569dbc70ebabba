/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: rows of the index are found: by id, by S3 place, by live place, from their directory, one after the other.
 * Way: whoever asks the index; index.c puts a row in and takes it out; index_open.c all that were loaded.
 * Thread: core.
 * Owns: the three maps.
 * Holds: 1. A row is in by_oid always, in by_s3 iff in_s3, in by_live iff live == ROW_HERE, and in
 *           its parent's list of children (or among the orphans) exactly then.
 *        2. Ids and names come from the bucket too: the hash is keyed (SipHash-1-3).
 */
#include "index_priv.h"

#include <stdlib.h>
#include <string.h>

#define INDEX_BUCKETS_MIN 1024u

/* --- hashing: SipHash-1-3 (Aumasson, Bernstein: SipHash, 2012) --- */

static uint64_t sip_rotl(uint64_t x, int b)
{
	return (x << b) | (x >> (64 - b));
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = sip_rotl(v[1], 13) ^ v[0];
	v[0] = sip_rotl(v[0], 32);
	v[2] += v[3];
	v[3] = sip_rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = sip_rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = sip_rotl(v[1], 17) ^ v[2];
	v[2] = sip_rotl(v[2], 32);
}

static uint64_t sip_word(const uint8_t *p, size_t len)
{
	uint64_t w = 0;

	memcpy(&w, p, len < 8 ? len : 8);
	return w;
}

/* Of an id and, if not NULL, a name. */
static uint64_t index_hash(const struct index *ix, const struct ofs_oid *oid, const char *name)
{
	uint64_t v[4] = { ix->seed[0] ^ 0x736f6d6570736575ULL, ix->seed[1] ^ 0x646f72616e646f6dULL,
		ix->seed[0] ^ 0x6c7967656e657261ULL, ix->seed[1] ^ 0x7465646279746573ULL };
	const uint8_t *p = (const uint8_t *)name;
	size_t len = name != NULL ? strlen(name) : 0;
	uint64_t last = (uint64_t)(len & 0xff) << 56;
	uint64_t w[2] = { sip_word(oid->bytes, 8), sip_word(oid->bytes + 8, 8) };

	for (int i = 0; i < 2; i++) {
		v[3] ^= w[i];
		sip_round(v);
		v[0] ^= w[i];
	}
	for (; len >= 8; p += 8, len -= 8) {
		uint64_t m = sip_word(p, 8);

		v[3] ^= m;
		sip_round(v);
		v[0] ^= m;
	}
	if (len > 0) {
		last |= sip_word(p, len);
	}
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++) {
		sip_round(v);
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* --- the three maps --- */

/* Linear hashing (Litwin, 1980): the buckets before buckets & mask/2 have been split, so a million rows never
 * move in one turn of the loop. */
static uint64_t bucket_of(const struct index *ix, uint64_t hash)
{
	uint64_t at = hash & ix->mask;

	return at < ix->buckets ? at : at & (ix->mask >> 1);
}

static uint32_t *slot_oid(struct index *ix, const struct ofs_oid *oid)
{
	return &ix->by_oid[bucket_of(ix, index_hash(ix, oid, NULL))];
}

static uint32_t *slot_s3(struct index *ix, const struct ofs_oid *parent, const char *name)
{
	return &ix->by_s3[bucket_of(ix, index_hash(ix, parent, name))];
}

static uint32_t *slot_live(struct index *ix, const struct ofs_oid *parent, const char *name)
{
	return &ix->by_live[bucket_of(ix, index_hash(ix, parent, name))];
}

static void chain_in(uint32_t *slot, uint32_t *link, const struct row *r)
{
	*link = *slot;
	*slot = r->number;
}

/* The last bucket is new: some of what was in `from` belongs there. */
static void bucket_split(struct index *ix, uint64_t from)
{
	uint64_t to = ix->buckets - 1;
	struct row *r, *next;

	r = index_row(ix, ix->by_oid[from]);
	for (ix->by_oid[from] = ix->by_oid[to] = 0; r != NULL; r = next) {
		next = index_row(ix, r->hash_oid);
		chain_in(slot_oid(ix, &r->oid), &r->hash_oid, r);
	}
	r = index_row(ix, ix->by_s3[from]);
	for (ix->by_s3[from] = ix->by_s3[to] = 0; r != NULL; r = next) {
		next = index_row(ix, r->hash_s3);
		chain_in(slot_s3(ix, &r->s3_parent, r->s3_name), &r->hash_s3, r);
	}
	r = index_row(ix, ix->by_live[from]);
	for (ix->by_live[from] = ix->by_live[to] = 0; r != NULL; r = next) {
		next = index_row(ix, r->hash_live);
		chain_in(slot_live(ix, &r->parent, r->name), &r->hash_live, r);
	}
}

static void bucket_add(struct index *ix)
{
	if (ix->buckets == ix->room) {
		ix->room *= 2;
		ix->by_oid = index_alloc(realloc(ix->by_oid, ix->room * sizeof(*ix->by_oid)));
		ix->by_s3 = index_alloc(realloc(ix->by_s3, ix->room * sizeof(*ix->by_s3)));
		ix->by_live = index_alloc(realloc(ix->by_live, ix->room * sizeof(*ix->by_live)));
	}
	if (ix->buckets > ix->mask) {
		ix->mask = 2 * ix->mask + 1;
	}
	ix->buckets++;
	bucket_split(ix, (ix->buckets - 1) & (ix->mask >> 1));
}

void index_buckets(struct index *ix, uint64_t rows)
{
	if (ix->by_oid == NULL) {
		ix->buckets = ix->room = rows > INDEX_BUCKETS_MIN ? rows : INDEX_BUCKETS_MIN;
		for (ix->mask = 1; ix->mask < ix->buckets - 1;) {
			ix->mask = 2 * ix->mask + 1;
		}
		ix->by_oid = index_alloc(calloc(ix->room, sizeof(*ix->by_oid)));
		ix->by_s3 = index_alloc(calloc(ix->room, sizeof(*ix->by_s3)));
		ix->by_live = index_alloc(calloc(ix->room, sizeof(*ix->by_live)));
	}
	while (ix->buckets < rows) {
		bucket_add(ix);
	}
}

struct row *index_get(struct index *ix, const struct ofs_oid *oid)
{
	struct row *r = index_row(ix, *slot_oid(ix, oid));

	while (r != NULL && memcmp(&r->oid, oid, sizeof(*oid)) != 0) {
		r = index_row(ix, r->hash_oid);
	}
	return r;
}

static bool is_at_s3(const struct row *r, const struct ofs_oid *parent, const char *raw_name,
		bool is_dir)
{
	return r->is_dir == is_dir && memcmp(&r->s3_parent, parent, sizeof(*parent)) == 0 &&
			strcmp(r->s3_name, raw_name) == 0;
}

static bool is_at_live(const struct row *r, const struct ofs_oid *parent, const char *name)
{
	return memcmp(&r->parent, parent, sizeof(*parent)) == 0 && strcmp(r->name, name) == 0;
}

/* The one of a chain that is at the place. */
static struct row *chain_s3(struct index *ix, uint32_t number, const struct ofs_oid *parent,
		const char *raw_name, bool is_dir)
{
	struct row *r = index_row(ix, number);

	while (r != NULL && !is_at_s3(r, parent, raw_name, is_dir)) {
		r = index_row(ix, r->hash_s3);
	}
	return r;
}

static struct row *chain_live(struct index *ix, uint32_t number, const struct ofs_oid *parent,
		const char *name)
{
	struct row *r = index_row(ix, number);

	while (r != NULL && !is_at_live(r, parent, name)) {
		r = index_row(ix, r->hash_live);
	}
	return r;
}

struct row *index_at_s3(struct index *ix, const struct ofs_oid *parent, const char *raw_name,
		bool is_dir)
{
	return chain_s3(ix, *slot_s3(ix, parent, raw_name), parent, raw_name, is_dir);
}

struct row *index_at_live(struct index *ix, const struct ofs_oid *parent, const char *name)
{
	return chain_live(ix, *slot_live(ix, parent, name), parent, name);
}

/* --- places --- */

uint64_t index_count(struct index *ix)
{
	return ix->count;
}

void index_each(struct index *ix, bool (*fn)(struct row *r, void *arg), void *arg)
{
	for (uint32_t n = 1; n <= ix->rows_used; n++) {
		struct row *r = index_row(ix, n);

		if (r->number != 0 && !r->removed && !fn(r, arg)) {
			return;
		}
	}
}

struct row *index_s3_child(struct index *ix, const struct row *dir)
{
	return index_row(ix, dir->s3_children);
}

struct row *index_s3_next(struct index *ix, const struct row *child)
{
	return index_row(ix, child->s3_next);
}

void index_walk_begin(struct index *ix, struct index_walk *w, const struct row *dir)
{
	w->at = dir->s3_children;
	w->next = ix->walks;
	ix->walks = w;
}

struct row *index_walk_next(struct index *ix, struct index_walk *w)
{
	struct row *r = index_row(ix, w->at);

	w->at = r != NULL ? r->s3_next : 0;
	return r;
}

void index_walk_end(struct index *ix, struct index_walk *w)
{
	struct index_walk **at = &ix->walks;

	while (*at != NULL && *at != w) {
		at = &(*at)->next;
	}
	if (*at != NULL) {
		*at = w->next;
	}
}

struct row *index_numbered(struct index *ix, uint32_t number)
{
	struct row *r = number != 0 && number <= ix->rows_used ? index_row_at(ix, number) : NULL;

	return r != NULL && r->number != 0 && !r->removed ? r : NULL;
}

uint32_t index_numbers(const struct index *ix)
{
	return ix->rows_used + 1;
}

struct row *index_live_child(struct index *ix, const struct row *dir)
{
	return index_row(ix, dir->live_children);
}

struct row *index_live_next(struct index *ix, const struct row *child)
{
	return index_row(ix, child->live_next);
}

/* Where a parent's list begins; of one that is not known, the orphans'. */
static uint32_t *head_s3(struct index *ix, struct row *parent)
{
	return parent != NULL ? &parent->s3_children : &ix->s3_orphans;
}

static uint32_t *head_live(struct index *ix, struct row *parent)
{
	return parent != NULL ? &parent->live_children : &ix->live_orphans;
}

static void sibling_s3_in(struct index *ix, struct row *r, uint32_t *head)
{
	r->s3_next = *head;
	r->s3_prev = 0;
	if (*head != 0) {
		index_row(ix, *head)->s3_prev = r->number;
	}
	*head = r->number;
}

static void sibling_s3_out(struct index *ix, struct row *r, uint32_t *head)
{
	for (struct index_walk *w = ix->walks; w != NULL; w = w->next) {
		w->at = w->at == r->number ? r->s3_next : w->at;
	}
	if (r->s3_prev != 0) {
		index_row(ix, r->s3_prev)->s3_next = r->s3_next;
	} else {
		*head = r->s3_next;
	}
	if (r->s3_next != 0) {
		index_row(ix, r->s3_next)->s3_prev = r->s3_prev;
	}
	r->s3_next = 0;
	r->s3_prev = 0;
}

static void sibling_live_in(struct index *ix, struct row *r, uint32_t *head)
{
	r->live_next = *head;
	r->live_prev = 0;
	if (*head != 0) {
		index_row(ix, *head)->live_prev = r->number;
	}
	*head = r->number;
}

static void sibling_live_out(struct index *ix, struct row *r, uint32_t *head)
{
	if (r->live_prev != 0) {
		index_row(ix, r->live_prev)->live_next = r->live_next;
	} else {
		*head = r->live_next;
	}
	if (r->live_next != 0) {
		index_row(ix, r->live_next)->live_prev = r->live_prev;
	}
	r->live_next = 0;
	r->live_prev = 0;
}

void index_place_s3_in(struct index *ix, struct row *r)
{
	chain_in(slot_s3(ix, &r->s3_parent, r->s3_name), &r->hash_s3, r);
	sibling_s3_in(ix, r, head_s3(ix, index_get(ix, &r->s3_parent)));
}

void index_place_s3_out(struct index *ix, struct row *r)
{
	uint32_t *slot = slot_s3(ix, &r->s3_parent, r->s3_name);

	while (*slot != r->number) {
		slot = &index_row(ix, *slot)->hash_s3;
	}
	*slot = r->hash_s3;
	r->hash_s3 = 0;
	sibling_s3_out(ix, r, head_s3(ix, index_get(ix, &r->s3_parent)));
}

void index_place_live_in(struct index *ix, struct row *r)
{
	chain_in(slot_live(ix, &r->parent, r->name), &r->hash_live, r);
	sibling_live_in(ix, r, head_live(ix, index_get(ix, &r->parent)));
}

void index_place_live_out(struct index *ix, struct row *r)
{
	uint32_t *slot = slot_live(ix, &r->parent, r->name);

	while (*slot != r->number) {
		slot = &index_row(ix, *slot)->hash_live;
	}
	*slot = r->hash_live;
	r->hash_live = 0;
	sibling_live_out(ix, r, head_live(ix, index_get(ix, &r->parent)));
}

void index_oid_in(struct index *ix, struct row *r)
{
	chain_in(slot_oid(ix, &r->oid), &r->hash_oid, r);
}

void index_oid_out(struct index *ix, struct row *r)
{
	uint32_t *slot = slot_oid(ix, &r->oid);

	while (r->s3_children != 0) {
		struct row *child = index_s3_child(ix, r);

		sibling_s3_out(ix, child, &r->s3_children);
		sibling_s3_in(ix, child, &ix->s3_orphans);
	}
	while (r->live_children != 0) {
		struct row *child = index_live_child(ix, r);

		sibling_live_out(ix, child, &r->live_children);
		sibling_live_in(ix, child, &ix->live_orphans);
	}
	while (*slot != r->number) {
		slot = &index_row(ix, *slot)->hash_oid;
	}
	*slot = r->hash_oid;
}

void index_orphans_adopt(struct index *ix, struct row *parent)
{
	struct row *next;

	for (struct row *r = index_row(ix, ix->s3_orphans); r != NULL; r = next) {
		next = index_s3_next(ix, r);
		if (ofs_oid_equal(&r->s3_parent, &parent->oid)) {
			sibling_s3_out(ix, r, &ix->s3_orphans);
			sibling_s3_in(ix, r, &parent->s3_children);
		}
	}
	for (struct row *r = index_row(ix, ix->live_orphans); r != NULL; r = next) {
		next = index_live_next(ix, r);
		if (ofs_oid_equal(&r->parent, &parent->oid)) {
			sibling_live_out(ix, r, &ix->live_orphans);
			sibling_live_in(ix, r, &parent->live_children);
		}
	}
}

/* --- rows as they are loaded: a million random places in memory, so a few at once are asked for --- */

/* Both sides at one place: one hash and one look for the parent do. */
static bool row_is_alike(const struct row *r)
{
	return r->in_s3 && r->live == ROW_HERE && r->name == r->s3_name &&
	       ofs_oid_equal(&r->parent, &r->s3_parent);
}

static void loaded_oids_in(struct index *ix, uint32_t first, uint32_t count)
{
	uint32_t *slots[INDEX_LOAD_AT_ONCE];

	for (uint32_t i = 0; i < count; i++) {
		slots[i] = slot_oid(ix, &index_row(ix, first + i)->oid);
		__builtin_prefetch(slots[i], 1);
	}
	for (uint32_t i = 0; i < count; i++) {
		struct row *r = index_row(ix, first + i);

		chain_in(slots[i], &r->hash_oid, r);
	}
}

void index_loaded_in(struct index *ix)
{
	for (uint32_t n = 1; n <= ix->rows_used; n += INDEX_LOAD_AT_ONCE) {
		uint32_t left = ix->rows_used - n + 1;

		loaded_oids_in(ix, n, left < INDEX_LOAD_AT_ONCE ? left : INDEX_LOAD_AT_ONCE);
	}
}

void index_slots_loaded(struct index *ix, uint32_t first, uint32_t count,
		struct index_slots slots[INDEX_LOAD_AT_ONCE])
{
	for (uint32_t i = 0; i < count; i++) {
		const struct row *r = index_row(ix, first + i);
		uint64_t hash = r->in_s3 ? bucket_of(ix, index_hash(ix, &r->s3_parent, r->s3_name)) : 0;

		slots[i].s3 = &ix->by_s3[hash];
		__builtin_prefetch(slots[i].s3, 1);
		if (r->live == ROW_HERE && !row_is_alike(r)) {
			hash = bucket_of(ix, index_hash(ix, &r->parent, r->name));
		}
		slots[i].live = &ix->by_live[hash];
		__builtin_prefetch(slots[i].live, 1);
	}
	for (uint32_t i = 0; i < count; i++) {
		/* Mostly the same row; and where they are, what is_at_s3 and is_at_live look at. */
		const struct row *other = index_row(ix, *slots[i].s3);

		__builtin_prefetch(other);
		__builtin_prefetch(other != NULL ? &other->parent : NULL);
	}
}

void index_place_loaded(struct index *ix, struct row *r, const struct index_slots *slots,
		struct row **s3_taken, struct row **live_taken)
{
	struct row *parent = NULL;

	*s3_taken = NULL;
	*live_taken = NULL;
	if (r->in_s3) {
		parent = index_get(ix, &r->s3_parent);
		*s3_taken = chain_s3(ix, *slots->s3, &r->s3_parent, r->s3_name, r->is_dir);
		if (*s3_taken == NULL) {
			chain_in(slots->s3, &r->hash_s3, r);
			sibling_s3_in(ix, r, head_s3(ix, parent));
		}
	}
	if (r->live == ROW_HERE) {
		if (!row_is_alike(r)) {
			parent = index_get(ix, &r->parent);
		}
		*live_taken = chain_live(ix, *slots->live, &r->parent, r->name);
		if (*live_taken == NULL) {
			chain_in(slots->live, &r->hash_live, r);
			sibling_live_in(ix, r, head_live(ix, parent));
		}
	}
}
