/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: `sessions`: who is connected, and what each has done.
 * Way: admin.c -> core/'s sessions, and what each module counts in its ring -> the answer.
 * Thread: core. Owns: nothing beyond the answer.
 * Holds: SESSIONS_MOST at most, those that did most, and how many there are.
 */
#include <errno.h>
#include <stdlib.h>
#include "private.h"
#include "../core/rings.h"
#include "../core/session.h"
#include "shared/ring.h"

#define SESSIONS_MOST 500u
#define DID_BYTES 65536u /* count as one request */

struct seen_session {
	struct session_info info;
	struct ofs_use use;
	uint64_t did; /* to order them */
};

struct sessions_seen { /* talloc child of the command */
	const struct admin_cmd *cmd;
	struct seen_session *list;
	unsigned count;
	bool failed;
};

static void session_see(void *arg, const struct session_info *info)
{
	struct sessions_seen *s = arg;
	struct seen_session *one;

	if ((s->cmd->v != NULL && s->cmd->v != info->v) || s->failed) {
		return;
	}
	one = talloc_realloc(s, s->list, struct seen_session, s->count + 1);
	if (one == NULL) {
		s->failed = true;
		return;
	}
	s->list = one;
	one = &s->list[s->count++];
	one->info = *info;
	if (!rings_use(info->v->rings, info->id, &one->use)) {
		one->use = (struct ofs_use){0};
	}
	one->did = info->requests + atomic_load(&one->use.opens_here) +
		   atomic_load(&one->use.opens_away) + atomic_load(&one->use.names_here) +
		   (atomic_load(&one->use.client_read_bytes) +
				   atomic_load(&one->use.client_write_bytes)) / DID_BYTES;
}

static int session_compare(const void *a, const void *b)
{
	const struct seen_session *one = a, *two = b;

	return one->did < two->did ? 1 : one->did > two->did ? -1 : 0;
}

static json_t *session_json(const struct core *core, const struct seen_session *s)
{
	json_t *o = json_pack("{s:I, s:s, s:i, s:o, s:o, s:s, s:f, s:I, s:I}", "session",
			(json_int_t)s->info.id, "volume", s->info.v->name, "pid", (int)s->info.pid,
			"user", admin_string(s->use.user), "address", admin_string(s->use.address),
			"samba", s->info.samba, "since_s",
			(double)(clock_now_ns(core->clock) - s->info.since_ns) / NS_PER_S,
			"requests", (json_int_t)s->info.requests, "recalls_open",
			(json_int_t)s->info.opens);

#define USE_ROW(name)                                                                              \
	json_object_set_new(o, #name, json_integer((json_int_t)atomic_load(&s->use.name)));
	OFS_USE_TABLE(USE_ROW)
#undef USE_ROW
	return o;
}

void admin_sessions(struct admin_cmd *c)
{
	struct sessions_seen *s = talloc_zero(c, struct sessions_seen);
	json_t *list = json_array();

	if (s != NULL) {
		s->cmd = c;
		server_each(c->core, session_see, s);
	}
	if (s == NULL || s->failed) {
		json_decref(list);
		admin_answer(c, -ENOMEM, NULL, "out of memory");
		return;
	}
	if (s->count > 0) {
		qsort(s->list, s->count, sizeof(s->list[0]), session_compare);
	}
	for (unsigned i = 0; i < s->count && i < SESSIONS_MOST; i++) {
		json_array_append_new(list, session_json(c->core, &s->list[i]));
	}
	admin_answer(c, 0, json_pack("{s:o, s:I}", "sessions", list, "count", (json_int_t)s->count),
			NULL);
}
