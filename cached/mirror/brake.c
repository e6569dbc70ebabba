/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: much that is gone from the bucket at once is kept here until somebody says that it was meant.
 * Way: mirror_agree.c asks before names go; objectfsctl accept-removals lets them go.
 * Thread: core.
 * Owns: struct brake, child of the mirror: counts of an hour, what is held back, what was accepted.
 * Holds: 1. below no directory more than BRAKE_COUNT names and BRAKE_PERCENT of those known there go within
 *           an hour, in however many listings, unless it was accepted (rule 22). What is held back counts as well;
 *        2. where it stopped (the lowest such directory), it stays stopped for all below until what is held
 *           back is in the bucket again, or accepted; a restart does not let go;
 *        3. where memory lacks, names are kept. What more directories hold back than are remembered one by one
 *           is counted as a whole, stops the lowest directory that all of it is below, and is found again by
 *           their listings.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mirror_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BRAKE_COUNT 1000u
#define BRAKE_PERCENT 20u
#define BRAKE_SLOT_NS (300 * NS_PER_S)
#define BRAKE_SLOTS 13u /* the hour, and the one that has begun */
#define BRAKE_HOUR_NS (3600 * NS_PER_S)
#define BRAKE_BUCKETS 256u
#define BRAKE_HELD_MAX 1000u
#define BRAKE_REST_BITS 65536u
#define BRAKE_DEPTH_MAX 512u /* no key has more components; rows that are being renamed may form a circle */
#define BRAKE_KV "removals_held"

struct brake_hour { /* what went below a directory */
	struct brake_hour *next;
	struct ofs_oid dir;
	int64_t slot; /* the last of them */
	uint32_t gone[BRAKE_SLOTS]; /* by slot % BRAKE_SLOTS */
	int64_t known_slot; /* when it was counted */
	uint64_t known;     /* names below it, with those that had gone by then */
};

struct brake_held {
	struct brake_held *next;
	struct ofs_oid dir; /* none: the rest, of more directories than are remembered */
	struct ofs_oid at;  /* where it was stopped */
	uint64_t count;
};

struct brake_accepted {
	struct brake_accepted *next;
	struct ofs_oid dir;
	int64_t until_ns;
};

struct brake {
	struct brake_hour *hours[BRAKE_BUCKETS];
	int64_t swept_slot;
	struct brake_held *held;
	unsigned held_count; /* without the rest */
	uint8_t rest[BRAKE_REST_BITS / 8]; /* by id: directories whose names the rest counts */
	uint64_t rest_count; /* of these; an earlier daemon may have counted more */
	struct brake_accepted *accepted;
};

/* ---- where ---- */

static const struct row *brake_above(struct mirror *m, const struct row *row)
{
	if (row == NULL || ofs_oid_equal(&row->oid, &OFS_OID_ROOT)) {
		return NULL;
	}
	return index_get(m->v->index, row->in_s3 ? &row->s3_parent : &row->parent);
}

/* Is `dir` the directory `at`, or below it? */
static bool brake_is_below(struct mirror *m, const struct ofs_oid *dir, const struct ofs_oid *at)
{
	const struct row *row = index_get(m->v->index, dir);

	for (unsigned depth = 0; row != NULL && depth < BRAKE_DEPTH_MAX; depth++) {
		if (ofs_oid_equal(&row->oid, at)) {
			return true;
		}
		row = brake_above(m, row);
	}
	return false;
}

/* ---- the hour ---- */

static int64_t brake_slot(const struct mirror *m)
{
	return clock_now_ns(m->v->clock) / BRAKE_SLOT_NS;
}

/* Forget the slots that are over an hour old. */
static void hour_turn(struct brake_hour *h, int64_t slot)
{
	int64_t over = slot - h->slot;

	for (int64_t i = 1; i <= over && i <= (int64_t)BRAKE_SLOTS; i++) {
		h->gone[(h->slot + i) % BRAKE_SLOTS] = 0;
	}
	h->slot = slot;
}

static uint64_t hour_sum(const struct brake_hour *h)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < BRAKE_SLOTS; i++) {
		sum += h->gone[i];
	}
	return sum;
}

static void hours_sweep(struct brake *b, int64_t slot)
{
	if (b->swept_slot == slot) {
		return;
	}
	b->swept_slot = slot;
	for (unsigned i = 0; i < BRAKE_BUCKETS; i++) {
		struct brake_hour **pp = &b->hours[i], *h;

		while ((h = *pp) != NULL) {
			if (slot - h->slot >= (int64_t)BRAKE_SLOTS) {
				*pp = h->next;
				talloc_free(h);
			} else {
				pp = &h->next;
			}
		}
	}
}

static struct brake_hour *hour_get(struct mirror *m, const struct ofs_oid *dir, bool make)
{
	struct brake *b = m->brake;
	struct brake_hour **bucket = &b->hours[dir->bytes[0] % BRAKE_BUCKETS], *h;
	int64_t slot = brake_slot(m);

	hours_sweep(b, slot);
	for (h = *bucket; h != NULL; h = h->next) {
		if (ofs_oid_equal(&h->dir, dir)) {
			hour_turn(h, slot);
			return h;
		}
	}
	h = make ? talloc_zero(b, struct brake_hour) : NULL;
	if (h != NULL) {
		h->dir = *dir;
		h->slot = slot;
		h->known_slot = -1;
		h->next = *bucket;
		*bucket = h;
	}
	return h;
}

/* What went at `place` and below was meant: it counts no more, there and above. */
static void hours_accept(struct mirror *m, const struct row *place)
{
	struct brake_hour *p = hour_get(m, &place->oid, false), *h;
	const struct row *row = brake_above(m, place);

	for (unsigned depth = 0; p != NULL && row != NULL && depth < BRAKE_DEPTH_MAX; depth++) {
		h = hour_get(m, &row->oid, false);
		for (unsigned i = 0; h != NULL && i < BRAKE_SLOTS; i++) {
			h->gone[i] -= h->gone[i] < p->gone[i] ? h->gone[i] : p->gone[i];
			h->known_slot = -1;
		}
		row = brake_above(m, row);
	}
	for (unsigned i = 0; i < BRAKE_BUCKETS; i++) {
		for (h = m->brake->hours[i]; h != NULL; h = h->next) {
			if (brake_is_below(m, &h->dir, &place->oid)) {
				memset(h->gone, 0, sizeof(h->gone));
				h->known_slot = -1;
			}
		}
	}
}

/* Names known below it when the hour began, as far as that can be told; counting them walks them all. */
static uint64_t brake_known(struct mirror *m, const struct row *row, uint64_t gone)
{
	struct brake_hour *h = hour_get(m, &row->oid, true);
	int64_t slot = brake_slot(m);

	if (h == NULL) {
		return 0; /* any number is too much then */
	}
	if (h->known_slot != slot) {
		h->known = mirror_rows_below(m->v->index, row) + gone;
		h->known_slot = slot;
	}
	return h->known;
}

static bool brake_note(struct mirror *m, const struct ofs_oid *dir, uint64_t rows)
{
	const struct row *row = index_get(m->v->index, dir);
	bool noted = row != NULL;

	for (unsigned depth = 0; row != NULL && depth < BRAKE_DEPTH_MAX; depth++) {
		struct brake_hour *h = hour_get(m, &row->oid, true);

		if (h != NULL) {
			h->gone[h->slot % BRAKE_SLOTS] += (uint32_t)rows;
		} else {
			noted = false;
		}
		row = brake_above(m, row);
	}
	return noted;
}

void brake_stayed(struct mirror *m, const struct ofs_oid *dir, uint64_t rows)
{
	const struct row *row = index_get(m->v->index, dir);

	for (unsigned depth = 0; rows > 0 && row != NULL && depth < BRAKE_DEPTH_MAX; depth++) {
		struct brake_hour *h = hour_get(m, &row->oid, false);
		uint32_t *gone = h != NULL ? &h->gone[h->slot % BRAKE_SLOTS] : NULL;

		if (gone != NULL) {
			*gone -= *gone < rows ? *gone : (uint32_t)rows;
		}
		row = brake_above(m, row);
	}
}

/* ---- what is held back ---- */

static void held_save(struct mirror *m)
{
	char *text = m->brake->held != NULL ? talloc_strdup(m, "") : NULL;
	char dir[OFS_OID_HEX_BYTES], at[OFS_OID_HEX_BYTES];

	for (const struct brake_held *h = m->brake->held; h != NULL && text != NULL; h = h->next) {
		ofs_oid_hex(&h->dir, dir);
		ofs_oid_hex(&h->at, at);
		text = talloc_asprintf_append_buffer(text, "%s %s %" PRIu64 "\n", dir, at, h->count);
	}
	if (text != NULL || m->brake->held == NULL) {
		index_kv_set(m->v->index, BRAKE_KV, text);
	}
	talloc_free(text);
}

static void held_drop(struct mirror *m, struct brake_held **pp)
{
	struct brake_held *h = *pp;

	*pp = h->next;
	stats_add(removals_held, -(int64_t)h->count);
	if (ofs_oid_is_none(&h->dir)) {
		memset(m->brake->rest, 0, sizeof(m->brake->rest));
		m->brake->rest_count = 0;
	} else {
		m->brake->held_count--;
	}
	talloc_free(h);
}

static struct brake_held *held_get(struct brake *b, const struct ofs_oid *dir, const struct ofs_oid *at)
{
	struct brake_held *h = b->held;

	while (h != NULL && !ofs_oid_equal(&h->dir, dir)) {
		h = h->next;
	}
	if (h == NULL && (h = talloc_zero(b, struct brake_held)) != NULL) {
		h->dir = *dir;
		h->at = *at;
		h->next = b->held;
		b->held = h;
		b->held_count += ofs_oid_is_none(dir) ? 0 : 1;
	}
	return h;
}

/* Of more directories than are remembered: each is counted once, however often it is listed. */
static void held_rest(struct mirror *m, const struct ofs_oid *dir, const struct ofs_oid *at, uint64_t count)
{
	static const struct ofs_oid none;
	struct brake *b = m->brake;
	struct brake_held *h = held_get(b, &none, at);
	unsigned bit = (dir->bytes[0] | (unsigned)dir->bytes[1] << 8) % BRAKE_REST_BITS;
	const struct row *row = h != NULL ? index_get(m->v->index, &h->at) : NULL;

	if (h == NULL) {
		return; /* its names are kept all the same: its listing comes here again */
	}
	for (unsigned depth = 0; row != NULL && !brake_is_below(m, at, &row->oid) && depth < BRAKE_DEPTH_MAX;
			depth++) {
		row = brake_above(m, row);
	}
	h->at = row != NULL ? row->oid : OFS_OID_ROOT;
	if ((b->rest[bit / 8] >> bit % 8 & 1) == 0) {
		b->rest[bit / 8] |= (uint8_t)(1u << bit % 8);
		b->rest_count += count;
	}
	if (b->rest_count > h->count) {
		stats_add(removals_held, (int64_t)(b->rest_count - h->count));
		h->count = b->rest_count;
	}
}

static void held_add(struct mirror *m, const struct ofs_oid *dir, const struct ofs_oid *at, uint64_t count)
{
	struct brake *b = m->brake;
	struct brake_held *h;

	if (b->held_count >= BRAKE_HELD_MAX) {
		held_rest(m, dir, at, count);
		return;
	}
	h = held_get(b, dir, at);
	if (h != NULL) {
		h->at = *at;
		h->count += count;
		stats_add(removals_held, (int64_t)count);
	}
}

/* The rest is so many until its listings say more: which directories it is of is not noted. */
static void held_load_rest(struct mirror *m, const struct ofs_oid *none, const struct ofs_oid *at, uint64_t count)
{
	struct brake_held *h = held_get(m->brake, none, at);

	if (h != NULL) {
		h->count += count;
		stats_add(removals_held, (int64_t)count);
	}
}

/* Lines of an earlier daemon. */
static void held_load(struct mirror *m)
{
	const char *p = index_kv_get(m->v->index, BRAKE_KV);
	char dir[OFS_OID_HEX_BYTES], at[OFS_OID_HEX_BYTES];
	struct ofs_oid d, a;
	uint64_t count;
	int used;

	for (; p != NULL && *p != '\0'; p += used) {
		used = 0;
		if (sscanf(p, "%32[0-9a-f] %32[0-9a-f] %" SCNu64 "\n%n", dir, at, &count, &used) != 3 ||
				used == 0 || !ofs_oid_parse(dir, &d) || !ofs_oid_parse(at, &a)) {
			log_warning("mirror", "volume %s: the note on removals held back is damaged; what it "
					"said from here on is forgotten", m->v->name);
			return;
		}
		if (ofs_oid_is_none(&d)) {
			held_load_rest(m, &d, &a, count);
		} else {
			held_add(m, &d, &a, count);
		}
	}
}

static int brake_destructor(struct brake *b)
{
	for (const struct brake_held *h = b->held; h != NULL; h = h->next) {
		stats_add(removals_held, -(int64_t)h->count);
	}
	return 0;
}

struct brake *brake_new(struct mirror *m)
{
	struct brake *b = talloc_zero(m, struct brake);

	m->brake = b;
	if (b != NULL) {
		talloc_set_destructor(b, brake_destructor);
		held_load(m);
	}
	return b;
}

/* ---- may they go? ---- */

/* The directory that this one is stopped by, for what another below it holds; or NULL. */
static const struct brake_held *brake_stopped(struct mirror *m, const struct ofs_oid *dir)
{
	const struct brake_held *h;

	for (h = m->brake->held; h != NULL; h = h->next) {
		if (!ofs_oid_equal(&h->dir, dir) && brake_is_below(m, dir, &h->at)) {
			break;
		}
	}
	return h;
}

static uint64_t brake_held_below(struct mirror *m, const struct ofs_oid *dir)
{
	uint64_t sum = 0;

	for (const struct brake_held *h = m->brake->held; h != NULL; h = h->next) {
		sum += brake_is_below(m, ofs_oid_is_none(&h->dir) ? &h->at : &h->dir, dir) ? h->count : 0;
	}
	return sum;
}

/* The lowest directory below which it would be too much. */
static bool brake_at(struct mirror *m, const struct ofs_oid *dir, uint64_t rows, struct ofs_oid *at)
{
	const struct row *row = index_get(m->v->index, dir);

	for (unsigned depth = 0; row != NULL && depth < BRAKE_DEPTH_MAX; depth++) {
		struct brake_hour *h = hour_get(m, &row->oid, false);
		uint64_t gone = h != NULL ? hour_sum(h) : 0;
		uint64_t sum = gone + brake_held_below(m, &row->oid) + rows;

		if (sum > BRAKE_COUNT && sum * 100 > brake_known(m, row, gone) * BRAKE_PERCENT) {
			*at = row->oid;
			return true;
		}
		row = brake_above(m, row);
	}
	return false;
}

static bool brake_accepts(struct mirror *m, const struct ofs_oid *dir)
{
	struct brake_accepted **pp = &m->brake->accepted, *a;
	int64_t now = clock_now_ns(m->v->clock);
	bool yes = false;

	while ((a = *pp) != NULL) {
		if (a->until_ns <= now) {
			*pp = a->next;
			talloc_free(a);
			continue;
		}
		yes = yes || brake_is_below(m, dir, &a->dir);
		pp = &a->next;
	}
	return yes;
}

/* What was held of this directory is looked at anew. */
static bool held_forget(struct mirror *m, const struct ofs_oid *dir)
{
	struct brake_held **pp = &m->brake->held;
	bool any = false;

	while (*pp != NULL) {
		const struct ofs_oid *of = ofs_oid_is_none(&(*pp)->dir) ? &(*pp)->at : &(*pp)->dir;

		if (ofs_oid_equal(&(*pp)->dir, dir) || index_get(m->v->index, of) == NULL) {
			held_drop(m, pp);
			any = true;
		} else {
			pp = &(*pp)->next;
		}
	}
	if (m->brake->held_count == 0 && m->brake->held != NULL) {
		held_drop(m, &m->brake->held); /* nothing stands for the rest any more */
		any = true;
	}
	return any;
}

bool brake_allows(struct mirror *m, uint64_t request_id, const struct ofs_oid *dir, const char *where,
		uint64_t rows)
{
	bool changed = held_forget(m, dir), allowed = true;
	const struct brake_held *by;
	struct ofs_oid at = *dir;

	if (rows > 0 && !m->v->conf->accept_removals && !brake_accepts(m, dir)) {
		by = brake_stopped(m, dir);
		if (by != NULL) {
			at = by->at;
			allowed = false;
		} else {
			allowed = !brake_at(m, dir, rows, &at) && brake_note(m, dir, rows);
		}
	}
	if (!allowed) {
		held_add(m, dir, &at, rows);
		changed = true;
		log_line(LOG_LVL_WARNING, "mirror", request_id,
				"%" PRIu64 " known names below %s are gone from the bucket, too many within an "
				"hour; they are kept here. If this is meant: objectfsctl -v %s accept-removals",
				rows, where, m->v->name);
	}
	if (changed) {
		held_save(m);
	}
	return allowed;
}

/* ---- for people ---- */

/* The directory that all of them are below: where it was stopped, if that is one place. */
static char *held_path(struct mirror *m, TALLOC_CTX *ctx)
{
	const struct brake_held *h = m->brake->held;
	const struct ofs_oid *at = &h->at;
	const struct row *row;

	for (; h != NULL; h = h->next) {
		if (!ofs_oid_equal(&h->at, at)) {
			at = &OFS_OID_ROOT;
		}
	}
	row = index_get(m->v->index, at);
	return row != NULL ? index_path(m->v->index, ctx, row) : NULL;
}

uint64_t mirror_removals_held(struct mirror *m, TALLOC_CTX *ctx, char **path)
{
	uint64_t count = 0;

	for (const struct brake_held *h = m->brake->held; h != NULL; h = h->next) {
		count += h->count;
	}
	*path = count > 0 ? held_path(m, ctx) : NULL;
	return count;
}

/* ---- accepted ---- */

struct accepting { /* talloc child of the mirror */
	struct mirror *m;
	uint64_t request_id;
	struct ofs_oid *dirs;
	size_t count, at;
	uint64_t names;
	int status;
	char *message;
	mirror_accepted done;
	void *arg;
};

static void accept_next(struct accepting *a);

static void accept_listed(int status, const char *message, void *arg)
{
	struct accepting *a = arg;

	/* -ENOENT: it went with a directory above. */
	if (status != 0 && status != -ENOENT && a->status == 0) {
		a->status = status;
		a->message = talloc_strdup(a, message != NULL ? message : "");
	}
	accept_next(a);
}

static void accept_next(struct accepting *a)
{
	struct mirror *m = a->m;
	const struct row *row = NULL;
	char *path = NULL;

	while (a->at < a->count && path == NULL) {
		row = index_get(m->v->index, &a->dirs[a->at++]);
		path = row != NULL ? index_path(m->v->index, NULL, row) : NULL;
	}
	if (path != NULL) {
		mirror_refresh(m, a->request_id, path, accept_listed, a);
		talloc_free(path);
		return;
	}
	a->done(a->status, a->message, a->names, a->arg);
	talloc_free(a);
}

/* The directory at a path below the tree. */
static const struct row *accept_place(struct mirror *m, const char *path)
{
	struct row *row = index_get(m->v->index, &OFS_OID_ROOT);
	char *copy = talloc_strdup(m, path), *save = NULL, *name;

	for (name = copy ? strtok_r(copy, "/", &save) : NULL; name != NULL && row != NULL;
			name = strtok_r(NULL, "/", &save)) {
		if (strcmp(name, ".") != 0) {
			row = index_at_live(m->v->index, &row->oid, name);
		}
	}
	talloc_free(copy);
	return row != NULL && row->is_dir ? row : NULL;
}

void mirror_accept_removals(struct mirror *m, uint64_t request_id, const char *path, mirror_accepted done,
		void *arg)
{
	const struct row *place = accept_place(m, path);
	struct brake_accepted *ok = place ? talloc_zero(m->brake, struct brake_accepted) : NULL;
	struct accepting *a = ok ? talloc_zero(m, struct accepting) : NULL;
	struct brake_held **pp = &m->brake->held;

	if (a == NULL || (a->dirs = talloc_array(a, struct ofs_oid, m->brake->held_count + 1)) == NULL) {
		talloc_free(ok);
		talloc_free(a);
		done(place == NULL ? -ENOENT : -ENOMEM,
				place == NULL ? "no directory that is known here" : "out of memory", 0, arg);
		return;
	}
	a->m = m;
	a->request_id = request_id;
	a->done = done;
	a->arg = arg;
	ok->dir = place->oid;
	ok->until_ns = clock_now_ns(m->v->clock) + BRAKE_HOUR_NS;
	ok->next = m->brake->accepted;
	m->brake->accepted = ok;
	hours_accept(m, place);
	while (*pp != NULL) {
		const struct brake_held *h = *pp;

		if (brake_is_below(m, ofs_oid_is_none(&h->dir) ? &h->at : &h->dir, &place->oid)) {
			a->names += h->count;
			a->dirs[a->count++] = h->dir;
			held_drop(m, pp);
		} else {
			pp = &(*pp)->next;
		}
	}
	held_save(m);
	log_notice("mirror", "volume %s: names that are gone from the bucket may go here below %s, for an hour: "
			"accepted", m->v->name, path);
	accept_next(a);
}
