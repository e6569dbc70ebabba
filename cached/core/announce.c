/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: change notify for what others changed: each change once, to all clients that watch, and
 * never a flood.
 * Way: mirror/, reconcile/conflict.c collect the news of a directory while they work on it -> here
 *      -> ask.c -> one module -> Samba's notify daemon -> every smbd with a client that watches.
 * Thread: core.
 * Owns: the queue.
 * Holds: 1. told after the tree shows it, once (rule 11): who looks then, sees it;
 *        2. more than NEWS_MAX in one directory at once, or more than fits into the queue, is told
 *           as one: "look again" (STATUS_NOTIFY_ENUM_DIR), as smbd itself does beyond as many;
 *        3. what cannot be told in time is counted and forgotten: the tree is right whoever hears
 *           of it.
 */
#include "announce.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "ask.h"
#include "../base/log.h"
#include "../base/stats.h"
#include "../reconcile/index.h"

#define NEWS_MAX 1000u
#define QUEUE_MAX 10000u
#define AT_ONCE 64u
#define FRAME_BYTES 8192u
#define HOLD_NS (10 * NS_PER_S) /* so long a module may need to come back to a restarted daemon */
#define LOOK_NS (500 * NS_PER_MS)

struct news_item {
	enum ofs_wire_notify kind;
	bool is_dir;
	char *name;
};

struct news { /* talloc */
	struct news *next;
	struct news_item *items; /* NULL with many */
	size_t count;
	bool many;
	/* of the announcer */
	char *dir; /* path below the tree, "" its root */
	size_t at;
	int64_t since_ns;
};

struct announcer { /* talloc child of the volume */
	struct volume *v;
	struct news *first, **last;
	size_t queued; /* items */
	unsigned asked;
	bool telling; /* further up the stack */
	struct clock_timer *timer;
};

struct announcer *announcer_new(struct volume *v)
{
	struct announcer *an = talloc_zero(v, struct announcer);

	if (an != NULL) {
		an->v = v;
		an->last = &an->first;
	}
	return an;
}

/* ---- collecting ---- */

static void news_merge(struct news *n)
{
	n->many = true;
	n->count = 1;
	TALLOC_FREE(n->items);
}

void news_add(TALLOC_CTX *ctx, struct news **np, enum ofs_wire_notify kind, const char *name,
		bool is_dir)
{
	struct news *n = *np != NULL ? *np : talloc_zero(ctx, struct news);
	struct news_item *items;

	*np = n;
	if (n == NULL || n->many) {
		return;
	}
	if (n->count == NEWS_MAX) {
		news_merge(n);
		return;
	}
	items = talloc_realloc(n, n->items, struct news_item, n->count + 1);
	if (items == NULL) {
		news_merge(n);
		return;
	}
	n->items = items;
	items[n->count].kind = kind;
	items[n->count].is_dir = is_dir;
	items[n->count].name = talloc_strdup(items, name);
	if (items[n->count].name == NULL) {
		news_merge(n);
		return;
	}
	n->count++;
}

/* ---- telling ---- */

static void announce_more(struct announcer *an);

static void announce_answered(int status, const uint8_t *frame, size_t len, void *arg)
{
	struct announcer *an = arg;
	struct ofs_notify_rep rep;

	an->asked--;
	if (status == 0 && ofs_wire_decode_notify_rep(frame, len, &rep) == 0) {
		status = rep.status;
	} else if (status == 0) {
		status = -EBADMSG;
	}
	if (status == 0) {
		stats_add(notifies_sent, 1);
	} else if (status != -ENOTCONN) { /* where no module is connected, nobody watches */
		stats_add(notifies_dropped, 1);
		log_notice("core", "clients are not told of a remote change: %s",
				strerror(-status));
	}
	announce_more(an);
}

static void announce_item(struct announcer *an, const struct news *n)
{
	const struct news_item *item = n->many ? NULL : &n->items[n->at];
	char *path = talloc_asprintf(an, "%s%s%s", n->dir,
			n->dir[0] != '\0' && item != NULL ? "/" : "",
			item != NULL ? item->name : "");
	struct ofs_notify_req m = {
			.kind = item != NULL ? item->kind : OFS_WIRE_NOTIFY_MANY,
			.flags = item != NULL && item->is_dir ? OFS_WIRE_NOTIFY_DIR : 0,
			.path = path,
	};
	uint64_t id = ask_next_id(an->v->asker);
	uint8_t *frame = path != NULL ? malloc(FRAME_BYTES) : NULL;
	ssize_t len = frame != NULL ? ofs_wire_encode_notify_req(frame, FRAME_BYTES, id, &m) : 0;

	an->asked++;
	ask_send(an->v->asker, id, frame, len, announce_answered, an);
	talloc_free(path);
}

static void announce_timer(void *arg)
{
	struct announcer *an = arg;

	an->timer = NULL;
	announce_more(an);
}

static void announce_drop_first(struct announcer *an)
{
	struct news *n = an->first;

	an->first = n->next;
	if (an->first == NULL) {
		an->last = &an->first;
	}
	an->queued -= n->count - n->at;
	talloc_free(n);
}

static void announce_more(struct announcer *an)
{
	int64_t now = clock_now_ns(an->v->clock);
	struct news *n;

	if (an->telling) {
		return;
	}
	an->telling = true;
	while ((n = an->first) != NULL && an->asked < AT_ONCE) {
		if (!ask_possible(an->v->asker)) {
			if (now - n->since_ns < HOLD_NS) {
				if (an->timer == NULL) {
					an->timer = clock_timer_add(an->v->clock, an, now + LOOK_NS,
							announce_timer, an);
				}
				break;
			}
			announce_drop_first(an);
			continue;
		}
		if (n->at < n->count) {
			announce_item(an, n);
			n->at++;
			an->queued--;
		}
		if (n->at == n->count) {
			announce_drop_first(an);
		}
	}
	an->telling = false;
}

void announce(struct announcer *an, const struct ofs_oid *dir, struct news **np)
{
	struct news *n = *np;
	const struct row *row;

	*np = NULL;
	if (n == NULL || an == NULL) {
		talloc_free(n);
		return;
	}
	row = index_get(an->v->index, dir);
	n->dir = row != NULL ? index_path(an->v->index, n, row) : NULL;
	if (n->dir == NULL) {
		talloc_free(n); /* the directory has gone, and its own going is told */
		return;
	}
	if (strcmp(n->dir, ".") == 0) {
		n->dir[0] = '\0';
	}
	if (!n->many && n->count > 1 && an->queued + n->count > QUEUE_MAX) {
		news_merge(n);
	}
	if (an->queued >= 2 * QUEUE_MAX) {
		stats_add(notifies_dropped, 1);
		talloc_free(n);
		return;
	}
	n->since_ns = clock_now_ns(an->v->clock);
	talloc_steal(an, n);
	*an->last = n;
	an->last = &n->next;
	an->queued += n->count;
	announce_more(an);
}
