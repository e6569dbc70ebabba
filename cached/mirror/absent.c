/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what S3 was asked and need not be asked again so soon: names that are absent in directories that
 *       are not listed, and directories whose listings find nothing new.
 * Way: mirror_ask.c keeps and finds absent names; mirror_list.c says how listings ended, and asks whether
 *      one may serve longer; core/rings.c says what clients do.
 * Thread: core.
 * Owns: struct absent, child of the mirror; of a fixed size, but for the names.
 * Holds: 1. a name is absent for `listing age` at most, and only as long as nobody has made, moved or
 *           listed anything in its directory since before S3 was asked: the hints of whoever was answered
 *           are read first;
 *        2. the age of a listing doubles each time it is had anew and nothing has changed, up to `listing
 *           growth`; one change, and it is what it was.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mirror_private.h"

#include <string.h>
#include "../core/rings.h"
#include "shared/ring.h"

#define ABSENT_NAMES 8192u
#define ABSENT_TURNS 1024u
#define ABSENT_DIRS 4096u

struct absent_name {
	struct ofs_oid dir;
	uint64_t turn; /* of its directory, before S3 was asked */
	int64_t until_ns;
	char *name;
};

struct absent_dir {
	struct ofs_oid dir;
	int64_t asked_ns; /* wall clock */
	unsigned times;   /* so many listing ages; 0: not in use */
};

struct absent {
	struct absent_name names[ABSENT_NAMES];
	uint64_t turns[ABSENT_TURNS]; /* what happened in the directories that share one */
	struct absent_dir dirs[ABSENT_DIRS];
};

struct absent *absent_new(TALLOC_CTX *ctx)
{
	return talloc_zero(ctx, struct absent);
}

static uint32_t absent_hash(const struct ofs_oid *dir, const char *name)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < sizeof(dir->bytes); i++) {
		h = (h ^ dir->bytes[i]) * 16777619u;
	}
	for (; *name != '\0'; name++) {
		h = (h ^ (uint8_t)*name) * 16777619u;
	}
	return h ^ h >> 15;
}

/* ---- names ---- */

uint64_t absent_turn(const struct mirror *m, const struct ofs_oid *dir)
{
	return m->absent->turns[absent_hash(dir, "") % ABSENT_TURNS];
}

void absent_forget(struct mirror *m, const struct ofs_oid *dir)
{
	m->absent->turns[absent_hash(dir, "") % ABSENT_TURNS]++;
}

static struct absent_name *absent_slot(struct mirror *m, const struct ofs_oid *dir, const char *name)
{
	return &m->absent->names[absent_hash(dir, name) % ABSENT_NAMES];
}

void absent_keep(struct mirror *m, const struct ofs_oid *dir, const char *name, uint64_t turn)
{
	struct absent_name *n = absent_slot(m, dir, name);
	int64_t age = m->v->conf->listing_age_ns;

	TALLOC_FREE(n->name);
	n->name = talloc_strdup(m->absent, name);
	n->dir = *dir;
	n->turn = turn;
	n->until_ns = age > 0 ? clock_now_ns(m->v->clock) + age : INT64_MAX;
}

bool absent_known(struct mirror *m, const struct ofs_oid *dir, const char *name)
{
	const struct absent_name *n = absent_slot(m, dir, name);

	if (n->name == NULL || strcmp(n->name, name) != 0 || !ofs_oid_equal(&n->dir, dir) ||
			clock_now_ns(m->v->clock) >= n->until_ns) {
		return false;
	}
	if (m->v->rings != NULL) {
		rings_drain(m->v->rings);
	}
	return n->turn == absent_turn(m, dir);
}

void mirror_hint(struct mirror *m, const struct ofs_hint *h)
{
	switch (h->kind) {
	case OFS_HINT_RENAMED:
		absent_forget(m, &h->old_parent);
		absent_forget(m, &h->parent);
		break;
	case OFS_HINT_CREATED:
	case OFS_HINT_MKDIR:
	case OFS_HINT_UNLINKED:
	case OFS_HINT_RMDIR:
		absent_forget(m, &h->parent);
		break;
	default:
		break;
	}
}

void mirror_hints_lost(struct mirror *m)
{
	for (unsigned i = 0; i < ABSENT_TURNS; i++) {
		m->absent->turns[i]++;
	}
}

/* ---- listings ---- */

static struct absent_dir *absent_dir(struct mirror *m, const struct ofs_oid *dir)
{
	return &m->absent->dirs[absent_hash(dir, "") % ABSENT_DIRS];
}

void absent_listed(struct mirror *m, const struct ofs_oid *dir, int64_t asked_ns, bool changed, bool refresh)
{
	struct absent_dir *d = absent_dir(m, dir);
	unsigned times = d->times > 0 && ofs_oid_equal(&d->dir, dir) && !changed ? d->times : 0;

	d->dir = *dir;
	d->asked_ns = asked_ns;
	/* The first listing of all has nothing to be compared with; a refresh says nothing of how often. */
	d->times = times == 0 ? 1 : refresh ? times : 2 * times;
	if (d->times > m->v->conf->listing_growth) {
		d->times = m->v->conf->listing_growth;
	}
}

int64_t absent_listed_ns(struct mirror *m, const struct ofs_oid *dir)
{
	const struct absent_dir *d = absent_dir(m, dir);
	int64_t age = m->v->conf->listing_age_ns, now = clock_wall_ns(m->v->clock), last;

	if (d->times <= 1 || !ofs_oid_equal(&d->dir, dir) || d->asked_ns > now) {
		return 0;
	}
	last = d->asked_ns + (int64_t)(d->times - 1) * age;
	return now - last < age ? (last < now ? last : now) : 0;
}
