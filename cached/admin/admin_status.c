/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: `status`, `pending`, `renames` and `conflicts`: how each volume is, what is not yet in S3, the counters.
 * Way: admin.c -> here. Thread: core. Owns: nothing beyond the answer.
 * Holds: only reads; no secret is in what it reads.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "private.h"
#include "../base/log.h"
#include "../base/stats.h"
#include "../core/accounts.h"
#include "../core/trust.h"
#include "../core/rings.h"
#include "../core/session.h"
#include "../evict/evict.h"
#include "../guard/guard.h"
#include "../mirror/mirror.h"
#include "../recall/recall.h"
#include "../reconcile/index.h"
#include "../reconcile/metalog.h"
#include "../reconcile/reconcile.h"
#include "shared/version.h"

static json_t *caps_json(const struct obj_caps *c)
{
	return json_pack("{s:i, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b}", "class", c->fence_class,
			"put_if_match", c->put_if_match, "put_if_none_match", c->put_if_none_match,
			"complete_if_match", c->complete_if_match, "complete_if_none_match",
			c->complete_if_none_match, "copy_if_match_source", c->copy_if_match_source,
			"copy_if_none_match_dest", c->copy_if_none_match_dest, "delete_if_match",
			c->delete_if_match, "part_copy_if_match", c->part_copy_if_match, "part_copy_version",
			c->part_copy_version, "versioned", c->versioned);
}

/* What the class was concluded from. */
static json_t *probe_json(const struct objstore *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->probe_count; i++) {
		const struct obj_probe_step *p = &s->probe_steps[i];

		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "step", p->op, "condition",
				p->condition, "expected", objstore_status_name(p->expected), "got",
				objstore_status_name(p->got)));
	}
	return list;
}

/* Where its credentials are from; null: the store needs none. */
static void login_say(json_t *o, struct objstore *store)
{
	struct obj_login login = {0};
	json_t *said = NULL;

	if (store->ops->login != NULL) {
		store->ops->login(store, &login);
		said = json_object();
		json_object_set_new(said, "source", admin_string(login.source));
		json_object_set_new(said, "error", admin_string(login.error));
	}
	json_object_set_new(o, "login", said != NULL ? said : json_null());
	json_object_set_new(o, "login_expires", json_integer(login.expires_s));
}

/* What the store refuses, one sentence for each right. */
static json_t *denied_json(const struct objstore *s)
{
	json_t *list = json_array();

	for (unsigned want = 0; want < OBJ_WANTS; want++) {
		const char *why = objstore_denied(s, want);

		if (why != NULL) {
			json_array_append_new(list, admin_string(why));
		}
	}
	return list;
}

static json_t *volume_json(struct core *core, struct volume *v)
{
	char uuid[OFS_OID_HEX_BYTES];
	json_t *o = json_object();
	const char *last;
	char *below = NULL;
	int64_t oldest_ns;
	size_t pending;

	rings_drain(v->rings);
	rings_count(v->rings);
	ofs_oid_hex(&v->uuid, uuid);
	json_object_set_new(o, "name", json_string(v->name));
	json_object_set_new(o, "log_level", json_string(log_level_name(log_level_of(v->log))));
	json_object_set_new(o, "state", json_string(volume_state_name(v->state)));
	json_object_set_new(o, "why", admin_string(v->state_why));
	json_object_set_new(o, "read_only", admin_string(v->read_only));
	json_object_set_new(o, "guard", guard_json(v->guard));
	json_object_set_new(o, "store", admin_string(v->store->where));
	json_object_set_new(o, "denied", denied_json(v->store));
	json_object_set_new(o, "kind", admin_string(v->store->ops->name));
	login_say(o, v->store);
	json_object_set_new(o, "prefix", admin_string(v->prefix));
	json_object_set_new(o, "fence", caps_json(&v->store->caps));
	json_object_set_new(o, "probe", probe_json(v->store));
	json_object_set_new(o, "trust", json_string(trust_is_signed(v->store) ? "signed" : "all"));
	json_object_set_new(o, "unproven", json_integer((json_int_t)trust_unproven(v->store, &last)));
	json_object_set_new(o, "uuid",
			ofs_oid_is_none(&v->uuid) ? json_null() : json_string(uuid));
	json_object_set_new(o, "node", json_string(v->node_id));
	json_object_set_new(o, "accounts", accounts_json(v->accounts));
	json_object_set_new(o, "mirror", json_sprintf("%s/tree", v->path));
	json_object_set_new(o, "record_xattr", json_string(v->rio.xattr));
	json_object_set_new(o, "sessions", json_integer(server_sessions(core, v)));
	json_object_set_new(o, "rows", json_integer((json_int_t)index_count(v->index)));
	json_object_set_new(
			o, "log_queued", json_integer((json_int_t)metalog_queued(v->metalog)));
	json_object_set_new(
			o, "log_segments", json_integer((json_int_t)metalog_segments(v->metalog)));
	json_object_set_new(o, "capacity_bytes",
			json_integer((json_int_t)atomic_load(&v->shm->capacity_bytes)));
	json_object_set_new(o, "used_bytes",
			json_integer((json_int_t)atomic_load(&v->shm->used_bytes)));
	json_object_set_new(o, "cache", evict_json(v->evictor));
	json_object_set_new(o, "recall", recalls_json(v->recalls));
	reconcile_backlog(v->reconcile, &pending, &oldest_ns);
	json_object_set_new(o, "pending", json_integer((json_int_t)pending));
	json_object_set_new(o, "oldest_pending_s", json_real((double)oldest_ns / NS_PER_S));
	json_object_set_new(o, "removals_held",
			json_integer((json_int_t)mirror_removals_held(v->mirror, core, &below)));
	json_object_set_new(o, "removals_below", admin_string(below));
	talloc_free(below);
	json_object_set_new(o, "clock_offset_s",
			json_integer(atomic_load(&v->store->clock_offset_s)));
	return o;
}

/* {family: {row: {count, seconds}}}: buckets are on the page for monitoring. */
static json_t *times_json(void)
{
	json_t *all = json_object();

	for (unsigned i = 0; i < times_row_count; i++) {
		const struct times_row *r = &times_rows[i];
		json_t *family = json_object_get(all, r->family);
		int64_t count = 0;

		for (unsigned b = 0; b < TIMES_BUCKETS; b++) {
			count += atomic_load_explicit(&r->cell->bucket[b], memory_order_relaxed);
		}
		if (family == NULL) {
			family = json_object();
			json_object_set_new(all, r->family, family);
		}
		json_object_set_new(family, r->value, json_pack("{s:I, s:f}", "count",
				(json_int_t)count, "seconds", (double)atomic_load_explicit(
						&r->cell->sum_ns, memory_order_relaxed) / 1e9));
	}
	return all;
}

static json_t *counters_json(void)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < stats_row_count; i++) {
		json_object_set_new(o, stats_rows[i].name,
				json_integer((json_int_t)atomic_load_explicit(
						stats_rows[i].cell, memory_order_relaxed)));
	}
	return o;
}

void admin_status(struct admin_cmd *c)
{
	struct core *core = c->core;
	json_t *volumes = json_array(), *o;

	for (unsigned i = 0; i < core->volume_count; i++) {
		if (c->v == NULL || c->v == core->volumes[i]) {
			json_array_append_new(volumes, volume_json(core, core->volumes[i]));
		}
	}
	o = json_pack("{s:s, s:i, s:f, s:s, s:s, s:s, s:s?, s:o, s:o, s:o}", "version", OFS_VERSION,
			"pid", (int)getpid(), "uptime_s",
			(double)(clock_now_ns(core->clock) - core->start_ns) / 1e9, "node",
			core->node_id, "log_level", log_level_name(log_level_of(NULL)),
			"configuration", core->conf->path, "http",
			core->http != NULL ? core->conf->global.http_listen : NULL, "volumes",
			volumes, "counters", counters_json(), "times", times_json());
	admin_answer(c, o != NULL ? 0 : -ENOMEM, o, NULL);
}

/* ---- what waits ---- */

static bool item_is_below(const json_t *item, const char *path)
{
	const char *p = json_string_value(json_object_get(item, "path"));
	size_t len = strlen(path);

	if (strcmp(path, ".") == 0) {
		return true;
	}
	return p != NULL && strncmp(p, path, len) == 0 && (p[len] == '\0' || p[len] == '/');
}

static size_t item_text_bytes(const json_t *item)
{
	static const char *const keys[] = {"path", "reason", "from", "to", "blocked_by", "copy"};
	size_t bytes = 0;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		bytes += json_string_length(json_object_get(item, keys[i]));
	}
	return bytes;
}

/* The lists of all volumes asked for as one that fits a frame; `more`: it is not all. */
static void items_answer(struct admin_cmd *c, const char *name, unsigned most,
		json_t *(*list_of)(struct reconcile *rc, unsigned most))
{
	size_t room = ADMIN_ITEMS_TEXT_BYTES, i;
	json_t *all = json_array(), *item;
	bool more = false;

	for (unsigned n = 0; n < c->core->volume_count; n++) {
		struct volume *v = c->core->volumes[n];
		json_t *list;

		if (c->v != NULL && c->v != v) {
			continue;
		}
		rings_drain(v->rings);
		list = list_of(v->reconcile, most);
		more = more || json_array_size(list) == most;
		json_array_foreach(list, i, item)
		{
			size_t text = item_text_bytes(item);

			if (c->path != NULL && !item_is_below(item, c->path)) {
				continue;
			}
			if (text > room) {
				more = true;
				break;
			}
			room -= text;
			json_object_set_new(item, "volume", json_string(v->name));
			json_array_append(all, item);
		}
		json_decref(list);
	}
	admin_answer(c, 0, json_pack("{s:o, s:b}", name, all, "more", more), NULL);
}

void admin_conflicts(struct admin_cmd *c)
{
	items_answer(c, "conflicts", CONFLICTS_AN_HOUR, reconcile_conflicts);
}

void admin_pending(struct admin_cmd *c)
{
	items_answer(c, "pending", ADMIN_PENDING_MAX, reconcile_pending);
}

static void renames_allow(struct admin_cmd *c)
{
	json_int_t allowed = 0;

	for (unsigned n = 0; n < c->core->volume_count; n++) {
		struct volume *v = c->core->volumes[n];

		if ((c->v == NULL || c->v == v) && v->reconcile != NULL) {
			rings_drain(v->rings);
			allowed += reconcile_allow_renames(v->reconcile, c->path);
		}
	}
	admin_answer(c, 0, json_pack("{s:I}", "allowed", allowed), NULL);
}

void admin_renames(struct admin_cmd *c)
{
	if (words_option(&c->words, "--allow") != NULL) {
		renames_allow(c);
		return;
	}
	items_answer(c, "renames", ADMIN_RENAMES_MAX, reconcile_renames);
}
