/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what has come of a file, range by range, is its object, or it does not stay.
 * Way: recall_go.c, when all has come -> here -> verify/content.c -> recall_finish, or it counts as not come, and
 *      is fetched again; the third time it is the object, and who waits gets an error.
 * Thread: core.
 * Owns: the comparison under way.
 * Holds: 1. a file whose bytes are known to be wrong is never made plain: it stays a stub, whatever dies;
 *        2. who may have read some of them gets an error, and does not go on with the right ones: nobody has a
 *           copy of both; and nobody has read the last extent before (recall_take);
 *        3. what the store could not be asked is no verdict: those who wait are told, and whoever asks next asks
 *           it again.
 */
#include "recall_private.h"
#include "../verify/content.h"

#include <errno.h>
#include <string.h>

#define WRONG_MOST 3u

/* May somebody have read of it? Our own recalls, and who asked for all, read nothing before it is plain. */
static bool check_lent(const struct recall *r)
{
	const struct recall_reader *x = r->readers;

	while (x != NULL && (x->whole || x->client->id == RECALL_CLIENT_OWN)) {
		x = x->next;
	}
	return r->lent || (x != NULL && !r->whole_first);
}

static void check_wrong(struct recall *r, const struct content *c)
{
	bool lent = check_lent(r);

	stats_add(recalls_wrong, 1);
	r->wrong++;
	log_warning("recall", "%s: what came is not what S3 has, by %s: it is thrown away%s", c->key,
			content_means_name(c->means), lent ? "; clients may have read of it, and get an error" : "");
	recall_damage_note(r, c->key);
	if (lent || r->wrong == WRONG_MOST) {
		recall_kill(r, -EIO, "the bytes that came are not those of the object");
		return;
	}
	recall_bits_clear(r); /* it goes on as if nothing had come */
	recall_restart_waits(r);
	r->state = RECALL_FILLING;
	recall_go(r);
}

static void check_failed(struct recall *r, int status)
{
	r->state = RECALL_FILLING;
	r->ahead_by = NULL;
	recall_fail_waits(r, status == -EAGAIN ? -EIO : status,
			status == -EAGAIN ? "S3 could not be asked for the checksum of what it had given out"
					  : "what has come could not be read again");
}

static void check_done(struct content *c)
{
	struct recall *r = c->arg;
	const struct row *row = index_get(r->rs->v->index, &r->oid);

	r->job_running = false;
	recall_hold(r);
	if (c->verdict == CONTENT_WRONG || (c->verdict == CONTENT_FAILED && c->md5_wrong)) {
		check_wrong(r, c);
	} else if (c->verdict == CONTENT_FAILED && c->status != -ESTALE) {
		check_failed(r, c->status);
	} else if (row == NULL || row->etag == NULL || strcmp(row->etag, c->etag) != 0) {
		r->state = RECALL_FILLING; /* the row knows another object, perhaps a copy: compared with that */
		recall_go(r);
	} else {
		/* replaced in S3 meanwhile: the next listing sees that; what came was pinned to its ETag */
		r->verified = true;
		stats_add(recalls_untold, c->verdict != CONTENT_RIGHT);
		recall_finish(r);
	}
	content_free(&c);
	recall_unhold(r);
}

bool recall_may_verify(const struct recall *r)
{
	struct volume *v = r->rs->v;
	const struct row *row = index_get(v->index, &r->oid);

	return r->size > 0 && v->conf->checksum != CONF_SUM_NONE && row != NULL && row->in_s3 &&
	       row->s3_size == (int64_t)r->size && content_may_tell(v, row);
}

void recall_verify(struct recall *r)
{
	struct volume *v = r->rs->v;
	const struct row *row = index_get(v->index, &r->oid);
	bool wanted = !r->verified && recall_may_verify(r);
	char *key = wanted ? recall_key(r, row) : NULL;
	struct content *c = key != NULL ? content_new(v, row, key) : NULL;

	talloc_free(key);
	if (wanted && c == NULL) {
		check_failed(r, -ENOMEM);
	} else if (!wanted) {
		stats_add(recalls_untold, !r->verified && r->size > 0);
		r->verified = true;
		recall_finish(r);
	} else {
		r->state = RECALL_VERIFYING;
		r->job_running = true;
		c->fd = r->fd;
		c->prio = OBJ_PRIO_READER;
		c->done = check_done;
		c->arg = r;
		content_check(c);
	}
}
