/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: one row for every inode and object known, found by id, by S3 place and by live place.
 * Way: mirror, reconcile and upload ask and change it; changes go on to index_batch.c; index_open.c
 *      fills it at start; index_path.c makes keys and paths of it.
 * Thread: core.
 * Owns: the rows (malloc; Exception to talloc: a million rows, 100 bytes of head each).
 * Holds: 1. A row is in by_oid always, in by_s3 iff in_s3, in by_live iff live == ROW_HERE, and in
 *           its parent's list of children (or among the orphans) exactly then.
 *        2. One row a place: the one set last has it. A place in S3 is a key: parent, name and kind.
 *        3. name and s3_name are one string when equal; freed once.
 *        4. Ids and names come from the bucket too: the hash is keyed (SipHash-1-3).
 */
#include "index_priv.h"

#include <stdlib.h>
#include <string.h>

#include "../base/log.h"

#define INDEX_BUCKETS_MIN 1024u

const struct ofs_oid OFS_OID_ROOT = { { 'o', 'b', 'j', 'e', 'c', 't', 'f', 's', '-', 'r', 'o', 'o',
		't', 0, 0, 1 } };
const struct ofs_oid OFS_OID_STAGE = { { 'o', 'b', 'j', 'e', 'c', 't', 'f', 's', '-', 's', 't',
		'a', 'g', 'e', 0, 1 } };
const struct ofs_oid index_oid_none;

void *index_alloc(void *pointer)
{
	if (pointer == NULL) {
		log_error("index", "out of memory");
		abort();
	}
	return pointer;
}

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

static struct row **slot_oid(struct index *ix, const struct ofs_oid *oid)
{
	return &ix->by_oid[index_hash(ix, oid, NULL) & ix->mask];
}

static struct row **slot_s3(struct index *ix, const struct ofs_oid *parent, const char *name)
{
	return &ix->by_s3[index_hash(ix, parent, name) & ix->mask];
}

static struct row **slot_live(struct index *ix, const struct ofs_oid *parent, const char *name)
{
	return &ix->by_live[index_hash(ix, parent, name) & ix->mask];
}

void index_buckets(struct index *ix, uint64_t rows)
{
	struct row **old = ix->by_oid;
	uint64_t old_count = old != NULL ? ix->mask + 1 : 0;
	uint64_t buckets = INDEX_BUCKETS_MIN;

	while (buckets < rows) {
		buckets *= 2;
	}
	if (buckets <= old_count) {
		return;
	}
	free(ix->by_s3);
	free(ix->by_live);
	ix->by_oid = index_alloc(calloc(buckets, sizeof(*ix->by_oid)));
	ix->by_s3 = index_alloc(calloc(buckets, sizeof(*ix->by_s3)));
	ix->by_live = index_alloc(calloc(buckets, sizeof(*ix->by_live)));
	ix->mask = buckets - 1;
	for (uint64_t i = 0; i < old_count; i++) {
		struct row *next;

		for (struct row *r = old[i]; r != NULL; r = next) {
			struct row **slot = slot_oid(ix, &r->oid);

			next = r->hash_oid;
			r->hash_oid = *slot;
			*slot = r;
			if (r->in_s3) {
				slot = slot_s3(ix, &r->s3_parent, r->s3_name);
				r->hash_s3 = *slot;
				*slot = r;
			}
			if (r->live == ROW_HERE) {
				slot = slot_live(ix, &r->parent, r->name);
				r->hash_live = *slot;
				*slot = r;
			}
		}
	}
	free(old);
}

struct row *index_get(struct index *ix, const struct ofs_oid *oid)
{
	struct row *r = *slot_oid(ix, oid);

	while (r != NULL && memcmp(&r->oid, oid, sizeof(*oid)) != 0) {
		r = r->hash_oid;
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

struct row *index_at_s3(struct index *ix, const struct ofs_oid *parent, const char *raw_name,
		bool is_dir)
{
	struct row *r = *slot_s3(ix, parent, raw_name);

	while (r != NULL && !is_at_s3(r, parent, raw_name, is_dir)) {
		r = r->hash_s3;
	}
	return r;
}

struct row *index_at_live(struct index *ix, const struct ofs_oid *parent, const char *name)
{
	struct row *r = *slot_live(ix, parent, name);

	while (r != NULL && !is_at_live(r, parent, name)) {
		r = r->hash_live;
	}
	return r;
}

/* --- places --- */

static void sibling_s3_in(struct row *r, struct row **head)
{
	r->s3_next = *head;
	r->s3_prev = head;
	if (*head != NULL) {
		(*head)->s3_prev = &r->s3_next;
	}
	*head = r;
}

static void sibling_s3_out(struct row *r)
{
	*r->s3_prev = r->s3_next;
	if (r->s3_next != NULL) {
		r->s3_next->s3_prev = r->s3_prev;
	}
	r->s3_next = NULL;
	r->s3_prev = NULL;
}

static void sibling_live_in(struct row *r, struct row **head)
{
	r->live_next = *head;
	r->live_prev = head;
	if (*head != NULL) {
		(*head)->live_prev = &r->live_next;
	}
	*head = r;
}

static void sibling_live_out(struct row *r)
{
	*r->live_prev = r->live_next;
	if (r->live_next != NULL) {
		r->live_next->live_prev = r->live_prev;
	}
	r->live_next = NULL;
	r->live_prev = NULL;
}

void index_place_s3_in(struct index *ix, struct row *r)
{
	struct row **slot = slot_s3(ix, &r->s3_parent, r->s3_name);
	struct row *parent = index_get(ix, &r->s3_parent);

	r->hash_s3 = *slot;
	*slot = r;
	sibling_s3_in(r, parent != NULL ? &parent->s3_children : &ix->s3_orphans);
}

static void place_s3_out(struct index *ix, struct row *r)
{
	struct row **slot = slot_s3(ix, &r->s3_parent, r->s3_name);

	while (*slot != r) {
		slot = &(*slot)->hash_s3;
	}
	*slot = r->hash_s3;
	r->hash_s3 = NULL;
	sibling_s3_out(r);
}

void index_place_live_in(struct index *ix, struct row *r)
{
	struct row **slot = slot_live(ix, &r->parent, r->name);
	struct row *parent = index_get(ix, &r->parent);

	r->hash_live = *slot;
	*slot = r;
	sibling_live_in(r, parent != NULL ? &parent->live_children : &ix->live_orphans);
}

static void place_live_out(struct index *ix, struct row *r)
{
	struct row **slot = slot_live(ix, &r->parent, r->name);

	while (*slot != r) {
		slot = &(*slot)->hash_live;
	}
	*slot = r->hash_live;
	r->hash_live = NULL;
	sibling_live_out(r);
}

/* The row's loaded sides into their places, unless taken: then *s3_taken, *live_taken. One hash and
 * one look for the parent where both sides agree: a million rows come this way at start. */
void index_place_loaded(struct index *ix, struct row *r, struct row **s3_taken,
		struct row **live_taken)
{
	bool alike = r->in_s3 && r->live == ROW_HERE && r->name == r->s3_name &&
			ofs_oid_equal(&r->parent, &r->s3_parent);
	struct row *parent = NULL, *other;
	uint64_t hash = 0;

	*s3_taken = NULL;
	*live_taken = NULL;
	if (r->in_s3) {
		hash = index_hash(ix, &r->s3_parent, r->s3_name) & ix->mask;
		parent = index_get(ix, &r->s3_parent);
		other = ix->by_s3[hash];
		while (other != NULL && !is_at_s3(other, &r->s3_parent, r->s3_name, r->is_dir)) {
			other = other->hash_s3;
		}
		*s3_taken = other;
		if (other == NULL) {
			r->hash_s3 = ix->by_s3[hash];
			ix->by_s3[hash] = r;
			sibling_s3_in(r, parent != NULL ? &parent->s3_children : &ix->s3_orphans);
		}
	}
	if (r->live == ROW_HERE) {
		if (!alike) {
			hash = index_hash(ix, &r->parent, r->name) & ix->mask;
			parent = index_get(ix, &r->parent);
		}
		other = ix->by_live[hash];
		while (other != NULL && !is_at_live(other, &r->parent, r->name)) {
			other = other->hash_live;
		}
		*live_taken = other;
		if (other == NULL) {
			r->hash_live = ix->by_live[hash];
			ix->by_live[hash] = r;
			sibling_live_in(r, parent != NULL ? &parent->live_children : &ix->live_orphans);
		}
	}
}

char *index_row_copy(const char *s)
{
	return s != NULL ? index_alloc(strdup(s)) : NULL;
}

/* The value may be the row's own string; NULL: none. */
void index_row_set_name(struct row *r, const char *value)
{
	char *old = r->name;

	if (value != NULL && r->s3_name != NULL && strcmp(value, r->s3_name) == 0) {
		r->name = r->s3_name;
	} else if (value == NULL || old == NULL || strcmp(value, old) != 0) {
		r->name = index_row_copy(value);
	}
	if (old != r->name && old != r->s3_name) {
		free(old);
	}
}

void index_row_set_s3_name(struct row *r, const char *value)
{
	char *old = r->s3_name;

	if (value != NULL && r->name != NULL && strcmp(value, r->name) == 0) {
		r->s3_name = r->name;
	} else if (value == NULL || old == NULL || strcmp(value, old) != 0) {
		r->s3_name = index_row_copy(value);
	}
	if (old != r->s3_name && old != r->name) {
		free(old);
	}
}

bool index_row_set_string(char **slot, const char *value)
{
	char *old = *slot;

	if (old == value || (old != NULL && value != NULL && strcmp(old, value) == 0)) {
		return false;
	}
	*slot = index_row_copy(value);
	free(old);
	return true;
}

void index_row_free(struct row *r)
{
	if (r->name != r->s3_name) {
		free(r->name);
	}
	free(r->s3_name);
	free(r->etag);
	free(r->version_id);
	free(r);
}

/* --- changes --- */

struct row *index_row_new(struct index *ix, const struct ofs_oid *oid)
{
	struct row *r = index_alloc(calloc(1, sizeof(*r)));
	struct row **slot;

	index_buckets(ix, ix->count + 1);
	r->oid = *oid;
	slot = slot_oid(ix, oid);
	r->hash_oid = *slot;
	*slot = r;
	ix->count++;
	return r;
}

/* Children that were there before their parent. Rare: only damage makes orphans, STAGE's apart. */
static void orphans_adopt(struct index *ix, struct row *parent)
{
	struct row *next;

	for (struct row *r = ix->s3_orphans; r != NULL; r = next) {
		next = r->s3_next;
		if (ofs_oid_equal(&r->s3_parent, &parent->oid)) {
			sibling_s3_out(r);
			sibling_s3_in(r, &parent->s3_children);
		}
	}
	for (struct row *r = ix->live_orphans; r != NULL; r = next) {
		next = r->live_next;
		if (ofs_oid_equal(&r->parent, &parent->oid)) {
			sibling_live_out(r);
			sibling_live_in(r, &parent->live_children);
		}
	}
}

struct row *index_add(struct index *ix, const struct ofs_oid *oid, bool is_dir)
{
	struct row *r = index_get(ix, oid);

	if (r != NULL) {
		return r;
	}
	r = index_row_new(ix, oid);
	r->is_dir = is_dir;
	orphans_adopt(ix, r);
	index_mark(ix, r);
	return r;
}

void index_set_live(struct index *ix, struct row *r, enum row_live live)
{
	if (r == ix->root || live == ROW_HERE || r->live == live) {
		return;
	}
	if (r->live == ROW_HERE) {
		place_live_out(ix, r);
	}
	r->live = live;
	if (live == ROW_NOT_HERE) {
		r->parent = index_oid_none;
		r->ino = 0;
		index_row_set_name(r, NULL);
	}
	index_mark(ix, r);
}

void index_set_here(struct index *ix, struct row *r, const struct ofs_oid *parent,
		const char *name, uint64_t ino)
{
	const struct ofs_oid to = *parent; /* may be a field of a row that changes below */
	struct row *other;
	char *copy;

	if (r == ix->root) {
		if (r->ino != ino) {
			r->ino = ino;
			index_mark(ix, r);
		}
		return;
	}
	other = index_at_live(ix, parent, name);
	if (other == r) {
		if (r->ino != ino) {
			r->ino = ino;
			index_mark(ix, r);
		}
		return;
	}
	if (other == ix->root) {
		return;
	}
	copy = index_row_copy(name);
	if (other != NULL) {
		index_set_live(ix, other, ROW_NOT_HERE);
	}
	if (r->live == ROW_HERE) {
		place_live_out(ix, r);
	}
	r->parent = to;
	index_row_set_name(r, copy);
	free(copy);
	r->ino = ino;
	r->live = ROW_HERE;
	index_place_live_in(ix, r);
	index_mark(ix, r);
}

void index_clear_s3(struct index *ix, struct row *r)
{
	if (r == ix->root || !r->in_s3) {
		return;
	}
	place_s3_out(ix, r);
	r->in_s3 = false;
	r->has_object = false;
	r->s3_parent = index_oid_none;
	index_row_set_s3_name(r, NULL);
	index_row_set_string(&r->etag, NULL);
	index_row_set_string(&r->version_id, NULL);
	r->s3_size = 0;
	r->s3_mtime_ns = 0;
	r->s3_data_gen = 0;
	r->s3_meta_gen = 0;
	r->has_sha256 = false;
	memset(r->sha256, 0, sizeof(r->sha256));
	index_mark(ix, r);
}

void index_set_s3(struct index *ix, struct row *r, const struct ofs_oid *parent,
		const char *raw_name)
{
	const struct ofs_oid to = *parent;
	struct row *other = index_at_s3(ix, parent, raw_name, r->is_dir);
	char *copy;

	if (r == ix->root || other == r || other == ix->root) {
		return;
	}
	copy = index_row_copy(raw_name);
	if (other != NULL) {
		index_clear_s3(ix, other);
	}
	if (r->in_s3) {
		place_s3_out(ix, r);
	}
	r->s3_parent = to;
	index_row_set_s3_name(r, copy);
	free(copy);
	r->in_s3 = true;
	index_place_s3_in(ix, r);
	index_mark(ix, r);
}

void index_set_fence(struct index *ix, struct row *r, const char *etag, const char *version_id,
		int64_t size, int64_t mtime_ns)
{
	bool changed = index_row_set_string(&r->etag, etag);

	changed = index_row_set_string(&r->version_id, version_id) || changed;
	if (changed || r->s3_size != size || r->s3_mtime_ns != mtime_ns) {
		r->s3_size = size;
		r->s3_mtime_ns = mtime_ns;
		index_mark(ix, r);
	}
}

void index_set_gens(struct index *ix, struct row *r, uint64_t data_gen, uint64_t meta_gen)
{
	if (r->s3_data_gen != data_gen || r->s3_meta_gen != meta_gen) {
		r->s3_data_gen = data_gen;
		r->s3_meta_gen = meta_gen;
		index_mark(ix, r);
	}
}

void index_set_sha256(struct index *ix, struct row *r, const uint8_t sha256[32])
{
	static const uint8_t zero[32];
	const uint8_t *value = sha256 != NULL ? sha256 : zero;

	if (r->has_sha256 != (sha256 != NULL) || memcmp(r->sha256, value, 32) != 0) {
		r->has_sha256 = sha256 != NULL;
		memmove(r->sha256, value, 32);
		index_mark(ix, r);
	}
}

void index_set_object(struct index *ix, struct row *r, bool has_object)
{
	if (r->has_object != has_object) {
		r->has_object = has_object;
		index_mark(ix, r);
	}
}

void index_remove(struct index *ix, struct row *r)
{
	struct row **slot;

	if (r == ix->root || r->removed) {
		return;
	}
	if (r->in_s3) {
		place_s3_out(ix, r);
	}
	if (r->live == ROW_HERE) {
		place_live_out(ix, r);
	}
	while (r->s3_children != NULL) {
		struct row *child = r->s3_children;

		sibling_s3_out(child);
		sibling_s3_in(child, &ix->s3_orphans);
	}
	while (r->live_children != NULL) {
		struct row *child = r->live_children;

		sibling_live_out(child);
		sibling_live_in(child, &ix->live_orphans);
	}
	slot = slot_oid(ix, &r->oid);
	while (*slot != r) {
		slot = &(*slot)->hash_oid;
	}
	*slot = r->hash_oid;
	ix->count--;
	if (r->on_disk) {
		index_mark_deleted(ix, &r->oid);
	}
	if (r->dirty) {
		r->removed = true; /* still in the queue of changes, which frees it */
		return;
	}
	index_row_free(r);
}

uint64_t index_count(struct index *ix)
{
	return ix->count;
}

void index_each(struct index *ix, bool (*fn)(struct row *r, void *arg), void *arg)
{
	for (uint64_t i = 0; i <= ix->mask; i++) {
		for (struct row *r = ix->by_oid[i]; r != NULL; r = r->hash_oid) {
			if (!fn(r, arg)) {
				return;
			}
		}
	}
}
