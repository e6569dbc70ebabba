/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: a client that lists directory after directory (du, robocopy, an indexer) is a walker: all below what
 *       it has asked for so far is listed once, without a delimiter, and its listings are answered by that.
 * Way: mirror_list.c asks before its own first page -> (WALK_AFTER listings, each soon after the last) -> a
 *      sweep: page after page, into flat.c -> the listing goes on as with pages of its own.
 * Thread: core.
 * Owns: walkers, with one sweep each at most.
 * Holds: 1. a listing keeps its rules, whoever asked for its pages: these are older, it is of their age, and
 *           what has changed here since is not taken from them (flat.c, walk_row_changes);
 *        2. nobody but the walker waits for a page that has not come, and no longer than for WALK_PATIENCE;
 *        3. a sweep pauses while WALK_BYTES are kept that nobody has asked for, and ends with its walker;
 *        4. where a sweep is of no use a listing costs what it does without.
 *
 *   The prefix is the lowest directory that has all of what was asked for; it rises when the walker leaves it.
 *   If that is more than is kept, and the walker is elsewhere in it, the next is the part of it that he is in.
 */
#include "walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "flat.h"
#include "mirror_listing.h"

#define WALK_AFTER 4u
#define WALK_GAP_NS NS_PER_S	     /* soon: a person takes longer */
#define WALK_REST_NS (10 * NS_PER_S) /* a walker that asks for nothing so long has gone */
#define WALK_PATIENCE 16u	     /* pages */
#define WALK_BYTES ((size_t)32 << 20)
#define WALK_AGE_NS (450 * NS_PER_S) /* of pages, where listings have none */
#define WALK_BEHIND_OWN OFS_OWN_PLACE "~"

struct sweep { /* talloc child of the walks */
	struct walks *ws;
	struct walker *w; /* NULL: nobody wants it; it goes when its page comes */
	struct flat *flat;
	char *after; /* the last key of the pages */
	unsigned pages;
	bool flight; /* a page is under way */
	int64_t began_ns;
};

struct walker { /* talloc child of the walks */
	struct walker *next;
	uint64_t client;
	unsigned run;	 /* listings that nothing answered, each soon after the last */
	unsigned asking; /* listings of its now */
	int64_t last_ns; /* when one ended */
	char *top, *big; /* walk_choose */
	struct sweep *sweep;
	struct listing *waiting;
};

struct walks { /* talloc child of the mirror */
	struct mirror *m;
	struct walker *walkers;
	struct clock_timer *timer;
	struct clock_timer *serving; /* in the next turn of the loop */
	bool unordered; /* the store lists in another order than that of keys */
};

struct walks *walks_new(struct mirror *m)
{
	m->walks = talloc_zero(m, struct walks);
	if (m->walks != NULL) {
		m->walks->m = m;
	}
	return m->walks;
}

/* ---- which directory ---- */

/* Of the lowest directory that has both. */
static size_t walk_common(const char *a, const char *b)
{
	size_t common = 0;

	for (size_t i = 0; a[i] != '\0' && a[i] == b[i]; i++) {
		common = a[i] == '/' ? i + 1 : common;
	}
	return common;
}

char *walk_choose(TALLOC_CTX *ctx, const char *top, const char *big, const char *key)
{
	const char *slash;

	if (big == NULL) {
		return talloc_strdup(ctx, top);
	}
	slash = strchr(key + walk_common(big, key), '/');
	return slash != NULL ? talloc_strndup(ctx, key, (size_t)(slash - key) + 1) : NULL;
}

/* ---- sweeps ---- */

static void sweep_ask(struct sweep *s);

static bool sweep_pauses(const struct sweep *s)
{
	size_t bytes = 0;

	for (const struct walker *w = s->ws->walkers; w != NULL; w = w->next) {
		bytes += w->sweep != NULL ? flat_bytes(w->sweep->flat) : 0;
	}
	return bytes >= WALK_BYTES;
}

/* From a time that listings should not be from. */
static bool walk_is_old(const struct walks *ws, int64_t wall_ns)
{
	int64_t age = ws->m->v->conf->listing_age_ns, since_ns = clock_wall_ns(ws->m->v->clock) - wall_ns;

	return since_ns < 0 || since_ns > (age > 0 ? age / 2 : WALK_AGE_NS);
}

static void sweep_drop(struct walker *w)
{
	struct sweep *s = w->sweep;

	w->sweep = NULL;
	if (s == NULL) {
		return;
	}
	s->w = NULL;
	TALLOC_FREE(s->flat);
	if (!s->flight) {
		talloc_free(s);
	}
}

/* Whoever has what he waits for gets it; who waits in vain asks himself. */
static void walk_serve(struct walker *w)
{
	struct listing *l = w->waiting;
	struct sweep *s = w->sweep;

	w->waiting = NULL;
	while (l != NULL) {
		struct listing *next = l->walk_next;
		enum flat_answer answer = s != NULL && !listing_is_refresh(l) ? flat_ask(s->flat, l->prefix)
									      : FLAT_NOT;

		l->walk_next = NULL;
		if (answer == FLAT_HAS) {
			listing_flat(l, flat_take(s->flat, l->prefix));
		} else if (answer == FLAT_AHEAD && s->flight && s->pages < l->walk_until) {
			l->walk_next = w->waiting;
			w->waiting = l;
		} else {
			listing_pages(l);
		}
		l = next;
	}
}

static void walks_serve(void *arg)
{
	struct walks *ws = arg;

	ws->serving = NULL;
	for (struct walker *w = ws->walkers; w != NULL; w = w->next) {
		walk_serve(w);
	}
}

/* Not from inside: a listing goes on as far as it can. */
static void walks_serve_soon(struct walks *ws)
{
	struct clock *clock = ws->m->v->clock;

	if (ws->serving == NULL) {
		ws->serving = clock_timer_add(clock, ws, clock_now_ns(clock), walks_serve, ws);
	}
}

/* Is it of the volume's own place? */
static bool walk_is_own(const struct walks *ws, const char *key)
{
	size_t prefix = strlen(ws->m->v->prefix);

	return strncmp(key, ws->m->v->prefix, prefix) == 0 && strncmp(key + prefix, OFS_OWN_PLACE, strlen(OFS_OWN_PLACE)) == 0;
}

/* 0 or -errno. */
static int sweep_take(struct sweep *s, struct obj_result *r)
{
	const char *last = NULL;
	int ret = 0;

	for (unsigned i = 0; i < r->entry_count && ret == 0; i++) {
		const char *key = r->entries[i].key;

		if (key == NULL) {
			continue;
		}
		last = key;
		if (!walk_is_own(s->ws, key)) {
			ret = flat_add(s->flat, &r->entries[i]);
		}
	}
	if (last != NULL) {
		talloc_free(s->after);
		s->after = walk_is_own(s->ws, last) ? talloc_asprintf(s, "%s" WALK_BEHIND_OWN, s->ws->m->v->prefix)
						    : talloc_strdup(s, last);
	}
	if (ret == 0 && r->next_token == NULL) {
		flat_end(s->flat);
	} else if (ret == 0 && s->after == NULL) {
		ret = -ENOMEM;
	}
	return ret;
}

static void sweep_page(struct obj_req *req)
{
	struct sweep *s = req->arg;
	struct walker *w = s->w;
	int ret;

	s->flight = false;
	if (w == NULL) {
		objstore_req_free(&req);
		talloc_free(s);
		return;
	}
	s->pages++;
	stats_add(walk_pages, 1);
	ret = req->result.status == OBJ_OK ? sweep_take(s, &req->result) : -EIO;
	objstore_req_free(&req);
	if (ret == -EBADMSG) {
		s->ws->unordered = true;
		log_notice("mirror", "the store does not list in the order of keys: whoever walks through "
				"directories has each listed by itself");
	}
	if (ret != 0) {
		w->run = 0;
		sweep_drop(w);
	}
	if (w->sweep != NULL) {
		sweep_ask(s);
	}
	walk_serve(w);
}

/* The next page, if there is one and somebody is there for it. */
static void sweep_ask(struct sweep *s)
{
	struct mirror *m = s->ws->m;
	struct obj_req *req;

	if (s->flight || flat_is_whole(s->flat) || sweep_pauses(s) || (s->w->asking == 0 &&
			clock_now_ns(m->v->clock) - s->w->last_ns >= WALK_REST_NS)) {
		return;
	}
	req = objstore_req_new(OBJ_LIST, flat_prefix(s->flat));
	if (req == NULL || (s->after != NULL && (req->after = strdup(s->after)) == NULL)) {
		objstore_req_free(&req);
		return;
	}
	req->prio = OBJ_PRIO_READER;
	req->done = sweep_page;
	req->arg = s;
	s->flight = true;
	flat_asked(s->flat, ++m->list_clock, clock_wall_ns(m->v->clock));
	objstore_submit(m->v->store, req);
}

/* ---- walkers ---- */

static void walks_look(void *arg);

static void walks_look_later(struct walks *ws)
{
	struct clock *clock = ws->m->v->clock;

	if (ws->timer == NULL && ws->walkers != NULL) {
		ws->timer = clock_timer_add(clock, ws, clock_now_ns(clock) + WALK_REST_NS, walks_look, ws);
	}
}

/* Those that have gone are forgotten. */
static void walks_look(void *arg)
{
	struct walks *ws = arg;
	struct walker **pp = &ws->walkers, *w;
	int64_t now = clock_now_ns(ws->m->v->clock);

	ws->timer = NULL;
	walks_serve(ws); /* should a timer for it have failed */
	while ((w = *pp) != NULL) {
		if (w->asking > 0 || now - w->last_ns < WALK_REST_NS) {
			pp = &w->next;
			continue;
		}
		*pp = w->next;
		sweep_drop(w);
		talloc_free(w);
	}
	walks_look_later(ws);
}

static struct walker *walker_get(struct walks *ws, uint64_t client)
{
	struct walker *w = ws->walkers;

	while (w != NULL && w->client != client) {
		w = w->next;
	}
	if (w == NULL && (w = talloc_zero(ws, struct walker)) != NULL) {
		w->client = client;
		w->next = ws->walkers;
		ws->walkers = w;
		walks_look_later(ws);
	}
	return w;
}

/* It asks for one more that nothing has answered. */
static void walker_counts(struct walker *w, struct clock *clock, const char *key)
{
	int64_t rest = w->sweep != NULL ? WALK_REST_NS : WALK_GAP_NS;
	char *top;

	if (w->asking == 0 && clock_now_ns(clock) - w->last_ns > rest) {
		w->run = 0;
		sweep_drop(w);
	}
	if (w->run == 0) {
		TALLOC_FREE(w->top);
		TALLOC_FREE(w->big);
	}
	top = talloc_strndup(w, key, w->top != NULL ? walk_common(w->top, key) : strlen(key));
	talloc_free(w->top);
	w->top = top;
	w->run = top != NULL ? w->run + 1 : 0;
}

/* A sweep that will come to the directory with this key, if one is worth while. */
static void walker_sweeps(struct walks *ws, struct walker *w, const char *key)
{
	struct sweep *s = w->sweep;
	bool below = s != NULL && strncmp(key, flat_prefix(s->flat), strlen(flat_prefix(s->flat))) == 0;
	enum flat_answer answer = s != NULL ? flat_ask(s->flat, key) : FLAT_NOT;
	char *prefix;

	if (below && (answer == FLAT_AHEAD ? !sweep_pauses(s) : !walk_is_old(ws, s->began_ns))) {
		return; /* it will; or it has, and this one must be asked for by itself */
	}
	if (answer == FLAT_AHEAD) {
		talloc_free(w->big);
		w->big = talloc_strdup(w, flat_prefix(s->flat));
	}
	prefix = walk_choose(w, w->top, w->big, key);
	if (prefix == NULL) {
		return;
	}
	s = talloc_zero(ws, struct sweep);
	if (s != NULL) {
		bool kept = w->sweep != NULL && flat_is_whole(w->sweep->flat) && !walk_is_old(ws, w->sweep->began_ns);

		s->flat = flat_new(s, prefix, kept ? flat_prefix(w->sweep->flat) : NULL);
	}
	talloc_free(prefix);
	if (s == NULL || s->flat == NULL) {
		talloc_free(s);
		return;
	}
	sweep_drop(w);
	stats_add(walks, 1);
	s->ws = ws;
	s->w = w;
	s->began_ns = clock_wall_ns(ws->m->v->clock);
	w->sweep = s;
	sweep_ask(s);
	if (!s->flight) {
		walks_serve_soon(ws);
	}
}

/* The directory's rows, whoever's walk has them; NULL: none does. */
static struct flat_dir *walks_take(struct walks *ws, const char *key)
{
	for (struct walker *w = ws->walkers; w != NULL; w = w->next) {
		struct flat_dir *d = w->sweep != NULL && flat_ask(w->sweep->flat, key) == FLAT_HAS
				? flat_take(w->sweep->flat, key) : NULL;

		if (d != NULL && !walk_is_old(ws, d->wall_ns)) {
			return d;
		}
		flat_dir_free(&d);
	}
	return NULL;
}

bool walk_answers(struct listing *l)
{
	struct walks *ws = l->m->walks;
	struct walker *w = ws->unordered || listing_is_refresh(l) ? NULL : walker_get(ws, l->client);
	struct flat_dir *d;

	if (w == NULL) {
		return false;
	}
	d = walks_take(ws, l->prefix);
	if (d == NULL) {
		walker_counts(w, l->m->v->clock, l->prefix);
	}
	if (d == NULL && w->run >= WALK_AFTER) {
		walker_sweeps(ws, w, l->prefix);
	}
	l->walker = w;
	w->asking++;
	if (w->sweep != NULL) {
		sweep_ask(w->sweep);
	}
	if (d != NULL) {
		listing_flat(l, d);
		return true;
	}
	if (w->sweep == NULL || !w->sweep->flight || flat_ask(w->sweep->flat, l->prefix) != FLAT_AHEAD) {
		return false;
	}
	l->walk_until = w->sweep->pages + WALK_PATIENCE;
	l->walk_next = w->waiting;
	w->waiting = l;
	return true;
}

void walk_listing_ends(struct listing *l)
{
	if (l->walker != NULL) {
		l->walker->asking--;
		l->walker->last_ns = clock_now_ns(l->m->v->clock);
		l->walker = NULL;
	}
}

/* All keys below a directory are others, of which the pages had some. */
static void walks_end(struct walks *ws)
{
	for (struct walker *w = ws->walkers; w != NULL; w = w->next) {
		if (w->sweep != NULL) {
			sweep_drop(w);
			walks_serve_soon(ws);
		}
	}
}

void walk_row_changes(struct mirror *m, const struct row *row, enum index_change change)
{
	char *key = NULL;

	if (m != NULL && row->is_dir && change == INDEX_MOVES) {
		walks_end(m->walks);
		return;
	}
	for (struct walker *w = m != NULL ? m->walks->walkers : NULL; w != NULL; w = w->next) {
		if (w->sweep == NULL) {
			continue;
		}
		if (key == NULL) { /* that which its key is in: its name may be elsewhere */
			key = index_key(m->v->index, m, m->v->prefix, &row->s3_parent, row->s3_name, false, NULL);
			if (key == NULL) {
				return;
			}
			*(strrchr(key, '/') != NULL ? strrchr(key, '/') + 1 : key) = '\0';
		}
		flat_touch(w->sweep->flat, key);
	}
	talloc_free(key);
}
