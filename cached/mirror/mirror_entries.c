/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what the pages of one listing say, by name; and passes over it that leave the core to others.
 * Way: mirror_list.c fills it, all of a listing look into it.
 * Thread: core; entries_hash on the worker that scans the tree.
 * Owns: nothing; the listing does.
 * Holds: 1. a pass over a million names takes many turns of the loop: each of list_turn names, a ms or two;
 *        2. names and ETags are in a few large pieces: a million small ones would cost as much again, and
 *           leave holes between the rows that stay.
 */
#include "mirror_listing.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_LEAST ((size_t)4096)
#define TEXT_MOST ((size_t)1 << 20)

/* ---- strings ---- */

const char *list_text_put(struct list_text **text, const char *one, const char *two)
{
	size_t len = strlen(one) + 1, second = two != NULL ? strlen(two) + 1 : 0;
	struct list_text *t = *text;
	char *at;

	if (t == NULL || t->room - t->used < len + second) {
		size_t room = t == NULL ? TEXT_LEAST : t->room < TEXT_MOST ? 2 * t->room : t->room;

		room = room < len + second ? len + second : room;
		t = malloc(sizeof(*t) + room);
		if (t == NULL) {
			return NULL;
		}
		t->next = *text;
		t->used = 0;
		t->room = room;
		*text = t;
	}
	at = t->bytes + t->used;
	memcpy(at, one, len);
	if (two != NULL) {
		memcpy(at + len, two, second);
	}
	t->used += len + second;
	return at;
}

void list_text_free(struct list_text **text)
{
	while (*text != NULL) {
		struct list_text *t = *text;

		*text = t->next;
		free(t);
	}
}

/* ---- entries ---- */

struct list_entry *listing_add(struct listing *l, const char *raw, bool is_dir, const char *etag,
		const char *from)
{
	struct list_entry *e;

	if (l->count == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 256;
		struct list_entry *entries = realloc(l->entries, cap * sizeof(*entries));

		if (entries == NULL) {
			return NULL;
		}
		l->entries = entries;
		l->cap = cap;
	}
	e = memset(&l->entries[l->count], 0, sizeof(*e));
	e->raw = list_text_put(&l->text, raw, from != NULL ? from : etag);
	if (e->raw == NULL) {
		return NULL;
	}
	e->is_dir = is_dir;
	e->apart = from != NULL;
	e->second = from != NULL || etag != NULL ? (uint32_t)strlen(raw) + 1 : 0;
	l->count++;
	return e;
}

static size_t entry_hash(const char *raw, bool is_dir)
{
	uint64_t h = is_dir ? 0x84222325cbf29ce4ULL : 0xcbf29ce484222325ULL;

	for (; *raw != '\0'; raw++) {
		h = (h ^ (uint8_t)*raw) * 0x100000001b3ULL;
	}
	return (size_t)(h ^ (h >> 29));
}

struct list_entry *listing_find(struct listing *l, const char *raw, bool is_dir)
{
	size_t i = entry_hash(raw, is_dir) & l->slot_mask;

	for (; l->slots[i] != 0; i = (i + 1) & l->slot_mask) {
		struct list_entry *e = &l->entries[l->slots[i] - 1];

		if (e->is_dir == is_dir && strcmp(e->raw, raw) == 0) {
			return e;
		}
	}
	return NULL;
}

uint32_t *entries_hash(const struct list_entry *entries, size_t count, size_t *mask)
{
	size_t slots = 16, i, at;
	uint32_t *table;

	while (slots < 2 * count) {
		slots *= 2;
	}
	table = calloc(slots, sizeof(*table));
	if (table == NULL) {
		return NULL;
	}
	*mask = slots - 1;
	for (i = 0; i < count; i++) {
		at = entry_hash(entries[i].raw, entries[i].is_dir) & *mask;
		while (table[at] != 0) {
			at = (at + 1) & *mask;
		}
		table[at] = (uint32_t)i + 1;
	}
	return table;
}

/* ---- turns ---- */

static void listing_turn(void *arg)
{
	struct listing *l = arg;

	l->turn = NULL;
	l->turn_fn(l);
}

bool listing_pauses(struct listing *l, void (*go_on)(struct listing *l))
{
	struct clock *clock = l->m->v->clock;

	if (++l->worked < l->m->list_turn) {
		return false;
	}
	l->worked = 0;
	l->turn_fn = go_on;
	l->turn = clock_timer_add(clock, l, clock_now_ns(clock), listing_turn, l);
	return l->turn != NULL; /* out of memory: all others wait a little longer */
}
