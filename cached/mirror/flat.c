/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: pages of a LIST without delimiter become what a LIST with one would say of each directory.
 * Way: walk.c puts rows in, in order of keys, and takes directories out.
 * Thread: core.
 * Owns: the directories that nobody has taken.
 * Holds: 1. a directory can be had only when a key behind it has come, or the end: then all of it is here;
 *        2. a directory that changed here since its first page was asked for cannot be had;
 *        3. nor can one of which no key was seen: that nothing is left of it is for a LIST of its own to say;
 *        4. each can be had once.
 *
 *   flat_add --its first key--> open --a key behind it--> whole --flat_take--> the caller's
 *                                 \--flat_touch--> spoiled --a key behind it--> gone
 */
#include "flat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FLAT_SLOTS 16384u
#define FLAT_TOUCHED 256u

struct flat {
	char *prefix, *skip;
	struct flat_dir *slots[FLAT_SLOTS];
	struct flat_dir *at; /* of the last key; its `up`s are open, too */
	char last[OBJ_KEY_MAX_BYTES + 1];
	bool any, whole;
	uint64_t asked;
	int64_t wall_ns;
	size_t bytes;
	/* what changed here since the last page was asked for, and may be in it */
	char *touched[FLAT_TOUCHED];
	unsigned touched_count;
	bool touched_all; /* too many */
};

static struct flat_dir **flat_slot(struct flat *f, const char *key, size_t len)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < len; i++) {
		h = (h ^ (uint8_t)key[i]) * 16777619u;
	}
	return &f->slots[(h ^ h >> 15) % FLAT_SLOTS];
}

static struct flat_dir **flat_find(const struct flat *f, const char *key)
{
	size_t len = strlen(key);
	struct flat_dir **pp = flat_slot((struct flat *)f, key, len);

	while (*pp != NULL && ((*pp)->key_len != len || memcmp((*pp)->key, key, len) != 0)) {
		pp = &(*pp)->hash_next;
	}
	return pp;
}

struct flat_row *flat_dir_next(struct flat_dir *d)
{
	struct flat_row *row = d->rows;

	if (row != NULL) {
		d->rows = row->next;
	}
	return row;
}

void flat_dir_free(struct flat_dir **d)
{
	struct flat_row *row;

	while (*d != NULL && (row = flat_dir_next(*d)) != NULL) {
		free(row);
	}
	free(*d);
	*d = NULL;
}

static void flat_forget(struct flat *f, struct flat_dir **pp)
{
	struct flat_dir *d = *pp;

	*pp = d->hash_next;
	f->bytes -= d->bytes;
	flat_dir_free(&d);
}

static void flat_forget_touched(struct flat *f)
{
	while (f->touched_count > 0) {
		free(f->touched[--f->touched_count]);
	}
	f->touched_all = false;
}

static int flat_destructor(struct flat *f)
{
	for (unsigned i = 0; i < FLAT_SLOTS; i++) {
		while (f->slots[i] != NULL) {
			flat_forget(f, &f->slots[i]);
		}
	}
	flat_forget_touched(f);
	return 0;
}

struct flat *flat_new(TALLOC_CTX *ctx, const char *prefix, const char *skip)
{
	struct flat *f = talloc_zero(ctx, struct flat);

	if (f == NULL) {
		return NULL;
	}
	talloc_set_destructor(f, flat_destructor);
	f->prefix = talloc_strdup(f, prefix);
	f->skip = skip != NULL ? talloc_strdup(f, skip) : NULL;
	if (f->prefix == NULL || (skip != NULL && f->skip == NULL)) {
		TALLOC_FREE(f);
	}
	return f;
}

const char *flat_prefix(const struct flat *f)
{
	return f->prefix;
}

bool flat_is_whole(const struct flat *f)
{
	return f->whole;
}

size_t flat_bytes(const struct flat *f)
{
	return f->bytes;
}

/* ---- in ---- */

void flat_asked(struct flat *f, uint64_t asked, int64_t wall_ns)
{
	f->asked = asked;
	f->wall_ns = wall_ns;
	flat_forget_touched(f);
}

static bool flat_is_spoiled(const struct flat *f, const char *key, size_t len)
{
	size_t skip = f->skip != NULL ? strlen(f->skip) : 0;

	if (f->touched_all || (f->skip != NULL && len >= skip && memcmp(key, f->skip, skip) == 0)) {
		return true;
	}
	for (unsigned i = 0; i < f->touched_count; i++) {
		if (strlen(f->touched[i]) == len && memcmp(f->touched[i], key, len) == 0) {
			return true;
		}
	}
	return false;
}

/* A directory whose first key has come; the last one is in `up`. */
static int flat_open(struct flat *f, const char *key, size_t len)
{
	struct flat_dir **slot = flat_slot(f, key, len), *d = calloc(1, sizeof(*d) + len + 1);

	if (d == NULL) {
		return -ENOMEM;
	}
	memcpy(d->key, key, len);
	d->key_len = len;
	d->last = &d->rows;
	d->open = true;
	d->spoiled = flat_is_spoiled(f, key, len);
	d->asked = f->asked;
	d->wall_ns = f->wall_ns;
	d->bytes = sizeof(*d) + len + 1;
	d->up = f->at;
	f->bytes += d->bytes;
	d->hash_next = *slot;
	*slot = d;
	f->at = d;
	return 0;
}

/* No more of the innermost one. */
static void flat_close(struct flat *f)
{
	struct flat_dir *d = f->at;

	f->at = d->up;
	d->up = NULL;
	d->open = false;
	if (d->spoiled) {
		flat_forget(f, flat_find(f, d->key));
	}
}

/* e: the object; NULL: a directory. */
static int flat_row(struct flat *f, const char *name, size_t len, const struct obj_entry *e, bool implied)
{
	size_t etag = e != NULL && e->etag != NULL ? strlen(e->etag) + 1 : 0;
	struct flat_dir *d = f->at;
	size_t bytes = sizeof(struct flat_row) + len + 1 + etag;
	struct flat_row *row;

	if (d->spoiled) {
		return 0;
	}
	row = calloc(1, bytes);
	if (row == NULL) {
		return -ENOMEM;
	}
	memcpy(row->name, name, len);
	row->is_dir = e == NULL;
	row->implied = implied;
	if (e != NULL) {
		row->size = e->size;
		row->mtime_ns = e->mtime_ns;
	}
	if (etag > 0) {
		row->etag = memcpy(row->name + len + 1, e->etag, etag);
	}
	*d->last = row;
	d->last = &row->next;
	d->bytes += bytes;
	f->bytes += bytes;
	return 0;
}

/* Down to the directory that the key is in; those on the way are named in the ones above. */
static int flat_down(struct flat *f, const char *key)
{
	const char *rest = key + f->at->key_len, *slash;
	int ret = 0;

	while (ret == 0 && (slash = strchr(rest, '/')) != NULL) {
		ret = flat_row(f, rest, (size_t)(slash - rest), NULL, slash[1] != '\0');
		if (ret == 0) {
			ret = flat_open(f, key, (size_t)(slash - key) + 1);
		}
		rest = slash + 1;
	}
	return ret;
}

int flat_add(struct flat *f, const struct obj_entry *e)
{
	size_t prefix = strlen(f->prefix), len = strlen(e->key);
	int ret = 0;

	if (e->is_prefix || len > OBJ_KEY_MAX_BYTES || len < prefix || memcmp(e->key, f->prefix, prefix) != 0 ||
			f->whole || (f->any && strcmp(e->key, f->last) <= 0)) {
		return -EBADMSG;
	}
	memcpy(f->last, e->key, len + 1);
	f->any = true;
	if (f->at == NULL) {
		ret = flat_open(f, f->prefix, prefix);
	}
	while (ret == 0 && (len < f->at->key_len || memcmp(e->key, f->at->key, f->at->key_len) != 0)) {
		flat_close(f);
	}
	if (ret == 0) {
		ret = flat_down(f, e->key);
	}
	return ret != 0 ? ret : flat_row(f, e->key + f->at->key_len, len - f->at->key_len, e, false);
}

void flat_end(struct flat *f)
{
	while (f->at != NULL) {
		flat_close(f);
	}
	f->whole = true;
}

/* ---- out ---- */

enum flat_answer flat_ask(const struct flat *f, const char *key)
{
	const struct flat_dir *d = *flat_find(f, key);

	if (strncmp(key, f->prefix, strlen(f->prefix)) != 0) {
		return FLAT_NOT;
	}
	if (d != NULL) {
		return d->spoiled ? FLAT_NOT : d->open ? FLAT_AHEAD : FLAT_HAS;
	}
	return !f->whole && (!f->any || strcmp(key, f->last) > 0) ? FLAT_AHEAD : FLAT_NOT;
}

struct flat_dir *flat_take(struct flat *f, const char *key)
{
	struct flat_dir **pp = flat_find(f, key), *d = *pp;

	*pp = d->hash_next;
	f->bytes -= d->bytes;
	return d;
}

void flat_touch(struct flat *f, const char *key)
{
	struct flat_dir **pp = flat_find(f, key);

	if (*pp != NULL && (*pp)->open) {
		(*pp)->spoiled = true;
	} else if (*pp != NULL) {
		flat_forget(f, pp);
	} else if (flat_ask(f, key) == FLAT_AHEAD && !flat_is_spoiled(f, key, strlen(key))) {
		if (f->touched_count < FLAT_TOUCHED) {
			f->touched[f->touched_count] = strdup(key);
			f->touched_all = f->touched[f->touched_count] == NULL;
			f->touched_count += !f->touched_all;
		} else {
			f->touched_all = true;
		}
	}
}
