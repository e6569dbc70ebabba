/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what is in the store: buckets, keys in the order of their bytes, versions from the newest on.
 *
 *   store -> bucket -> key (a skip list) -> version -> version ...
 *
 * Way:    the operations' files ask and change; list.c walks.
 * Thread: one.
 * Owns:   all of it, below the store's talloc context.
 * Holds:  1. A key has a version, or it is not there.
 *         2. At most one version of a key has the id "null".
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "store.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#define HEIGHT_MAX 20u

/* --- names and values --- */

int pairs_add(TALLOC_CTX *ctx, struct pairs *p, const char *name, const char *value)
{
	struct pair *grown = talloc_realloc(ctx, p->list, struct pair, p->count + 1);

	if (grown == NULL) {
		return -ENOMEM;
	}
	p->list = grown;
	grown[p->count].name = talloc_strdup(grown, name);
	grown[p->count].value = talloc_strdup(grown, value);
	if (grown[p->count].name == NULL || grown[p->count].value == NULL) {
		return -ENOMEM;
	}
	p->count++;
	return 0;
}

int pairs_copy(TALLOC_CTX *ctx, struct pairs *to, const struct pairs *from)
{
	int ret = 0;

	*to = (struct pairs){ 0 };
	for (unsigned i = 0; i < from->count && ret == 0; i++) {
		ret = pairs_add(ctx, to, from->list[i].name, from->list[i].value);
	}
	return ret;
}

const char *pairs_get(const struct pairs *p, const char *name)
{
	for (unsigned i = 0; i < p->count; i++) {
		if (strcasecmp(p->list[i].name, name) == 0) {
			return p->list[i].value;
		}
	}
	return NULL;
}

static int copy_text(TALLOC_CTX *ctx, char **to, const char *from)
{
	*to = from == NULL ? NULL : talloc_strdup(ctx, from);
	return from != NULL && *to == NULL ? -ENOMEM : 0;
}

int about_copy(TALLOC_CTX *ctx, struct about *to, const struct about *from)
{
	*to = (struct about){ .bucket_key = from->bucket_key, .sum_kind = from->sum_kind,
		.sum_of_parts = from->sum_of_parts };
	if (pairs_copy(ctx, &to->headers, &from->headers) != 0 || pairs_copy(ctx, &to->tags, &from->tags) != 0 ||
			copy_text(ctx, &to->storage_class, from->storage_class) != 0 ||
			copy_text(ctx, &to->sse, from->sse) != 0 || copy_text(ctx, &to->sse_key, from->sse_key) != 0 ||
			copy_text(ctx, &to->customer_md5, from->customer_md5) != 0 ||
			copy_text(ctx, &to->sum, from->sum) != 0) {
		return -ENOMEM;
	}
	return 0;
}

/* --- buckets --- */

struct store *store_new(TALLOC_CTX *ctx)
{
	struct store *s = talloc_zero(ctx, struct store);

	if (s != NULL && getrandom(&s->ids, sizeof(s->ids), 0) != sizeof(s->ids)) {
		talloc_free(s);
		return NULL;
	}
	return s;
}

/* splitmix64: whatever comes one after the other looks like nothing in particular. */
static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

void store_id(struct store *s, char *out, size_t cap)
{
	uint64_t first = mix(s->ids += 0x9e3779b97f4a7c15u), second = mix(s->ids += 0x9e3779b97f4a7c15u);

	snprintf(out, cap, "%016llX%016llX", (unsigned long long)first, (unsigned long long)second);
}

struct bucket *store_bucket(struct store *s, const char *name)
{
	for (struct bucket *b = s->buckets; b != NULL; b = b->next) {
		if (strcmp(b->name, name) == 0) {
			return b;
		}
	}
	return NULL;
}

static struct key *key_new(struct bucket *b, const char *name, unsigned height)
{
	struct key *k = talloc_zero_size(b, sizeof(*k) + height * sizeof(k->next[0]));

	if (k == NULL) {
		return NULL;
	}
	k->height = height;
	k->bucket = b;
	k->name = talloc_strdup(k, name);
	if (k->name == NULL) {
		talloc_free(k);
		return NULL;
	}
	return k;
}

struct bucket *store_bucket_add(struct store *s, const char *name, int64_t now_ns)
{
	struct bucket *b = talloc_zero(s, struct bucket);

	if (b == NULL) {
		return NULL;
	}
	b->name = talloc_strdup(b, name);
	b->head = key_new(b, "", HEIGHT_MAX);
	b->made_ns = now_ns;
	b->random = mix(s->ids);
	if (b->name == NULL || b->head == NULL) {
		talloc_free(b);
		return NULL;
	}
	b->next = s->buckets;
	s->buckets = b;
	return b;
}

void store_bucket_remove(struct store *s, struct bucket *b)
{
	struct bucket **p = &s->buckets;

	while (*p != b) {
		p = &(*p)->next;
	}
	*p = b->next;
	talloc_free(b);
}

/* --- keys --- */

/* The last one before the name, on each level. */
static struct key *search(const struct bucket *b, const char *name, struct key **before)
{
	struct key *k = b->head;

	for (unsigned level = HEIGHT_MAX; level-- > 0;) {
		while (k->next[level] != NULL && strcmp(k->next[level]->name, name) < 0) {
			k = k->next[level];
		}
		if (before != NULL) {
			before[level] = k;
		}
	}
	return k->next[0];
}

struct key *bucket_from(const struct bucket *b, const char *name)
{
	return search(b, name, NULL);
}

struct key *bucket_key(const struct bucket *b, const char *name)
{
	struct key *k = search(b, name, NULL);

	return k != NULL && strcmp(k->name, name) == 0 ? k : NULL;
}

static struct key *key_add(struct bucket *b, const char *name)
{
	struct key *before[HEIGHT_MAX], *k = search(b, name, before);
	unsigned height = 1;

	if (k != NULL && strcmp(k->name, name) == 0) {
		return k;
	}
	for (b->random = mix(b->random + 1); height < HEIGHT_MAX && (b->random >> (2 * height) & 3) == 0;) {
		height++;
	}
	k = key_new(b, name, height);
	for (unsigned level = 0; k != NULL && level < height; level++) {
		k->next[level] = before[level]->next[level];
		before[level]->next[level] = k;
	}
	b->keys += k != NULL ? 1 : 0;
	return k;
}

static void key_remove(struct bucket *b, struct key *k)
{
	struct key *before[HEIGHT_MAX];

	search(b, k->name, before);
	for (unsigned level = 0; level < k->height; level++) {
		before[level]->next[level] = k->next[level];
	}
	b->keys--;
	talloc_free(k);
}

/* --- versions --- */

struct version *bucket_current(const struct bucket *b, const char *name)
{
	struct key *k = bucket_key(b, name);

	return k == NULL || k->newest->marker ? NULL : k->newest;
}

struct version *bucket_version(const struct bucket *b, const char *name, const char *id)
{
	struct key *k = bucket_key(b, name);
	struct version *v = k == NULL ? NULL : k->newest;

	while (v != NULL && strcmp(v->id, id) != 0) {
		v = v->older;
	}
	return v;
}

struct version *version_new(struct bucket *b, int64_t now_ns)
{
	struct version *v = talloc_zero(b, struct version);

	if (v != NULL) {
		v->mtime_ns = now_ns;
	}
	return v;
}

static void version_unlink(struct version *v)
{
	struct version **p = &v->key->newest;

	while (*p != v) {
		p = &(*p)->older;
	}
	*p = v->older;
	talloc_free(v);
}

int bucket_put(struct store *s, struct bucket *b, const char *name, struct version *v)
{
	struct key *k = key_add(b, name);
	struct version *replaced = NULL;

	if (k == NULL) {
		return -ENOMEM;
	}
	if (b->versioning == VERSIONS_ON) {
		store_id(s, v->id, sizeof(v->id));
	} else {
		replaced = bucket_version(b, name, "null");
		strcpy(v->id, "null");
	}
	v->key = k;
	v->older = k->newest;
	k->newest = talloc_steal(k, v);
	if (replaced != NULL) {
		version_unlink(replaced);
	}
	return 0;
}

void bucket_remove(struct bucket *b, struct version *v)
{
	struct key *k = v->key;

	version_unlink(v);
	if (k->newest == NULL) {
		key_remove(b, k);
	}
}

/* --- uploads --- */

void upload_add(struct bucket *b, struct upload *u)
{
	struct upload **p = &b->uploads;

	while (*p != NULL && strcmp((*p)->key, u->key) <= 0) {
		p = &(*p)->next;
	}
	u->next = *p;
	*p = talloc_steal(b, u);
}

void upload_remove(struct bucket *b, struct upload *u)
{
	struct upload **p = &b->uploads;

	while (*p != u) {
		p = &(*p)->next;
	}
	*p = u->next;
	talloc_free(u);
}
