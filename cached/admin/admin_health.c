/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: `health`: every component with its state, and, where it is not well, reason and remedy.
 * Way: http/ and objectfsctl doctor -> admin.c -> here: a job tries every mirror -> the answer.
 * Thread: core; the job on a worker, where a broken disk may hold it. Owns: the job.
 * Holds: (1) every component of every volume is told once at least, in the order of the volumes.
 * (2) Only looks: nothing here repairs or tries S3. What is said of the store is what the last
 * request found.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "findings.h"
#include "private.h"
#include "../core/accounts.h"
#include "../core/trust.h"
#include "../mirror/mirror.h"
#include "../recall/recall.h"
#include "../reconcile/reconcile.h"
#include "../verify/verify.h"

#define CLOCK_OFF_S 300 /* S3 refuses at 900 */
#define MIRROR_FREE_MIN_BYTES (16u << 20)

struct health_try {
	int status;
	uint64_t free_bytes;
	bool inodes_gone;
};

struct health_job { /* owner: as disk.h says */
	struct disk_job job;
	struct admin_cmd *cmd;
	unsigned count;
	struct volume **volumes; /* the core's: as old as the daemon */
	struct health_try tries[];
};

static void say(json_t *list, json_t *item)
{
	json_array_append_new(list, item); /* NULL, out of memory, is refused there */
}

static void say_finding(json_t *list, enum finding_id id, const struct volume *v, const char *reason)
{
	json_t *text = admin_string(reason);

	say(list, finding_json(id, v != NULL ? v->name : NULL, json_string_value(text)));
	json_decref(text);
}

static void say_if_well(json_t *list, size_t before, const char *component, const struct volume *v)
{
	if (json_array_size(list) == before) {
		say(list, finding_ok_json(component, v != NULL ? v->name : NULL));
	}
}

static void health_daemon(const struct core *core, TALLOC_CTX *ctx, json_t *list)
{
	size_t before = json_array_size(list);
	bool needed;
	char *missing = privs_missing(ctx, &needed);

	if (missing != NULL && missing[0] != '\0') {
		say_finding(list, needed ? FINDING_RIGHTS_MISSING : FINDING_RIGHTS_FEW, NULL,
				missing);
	}
	if (core->http_error != NULL) {
		say_finding(list, FINDING_HTTP_OFF, NULL, core->http_error);
	}
	say_if_well(list, before, "daemon", NULL);
}

/* A volume that is ready: which rights are missing, and how the last request ended. */
static void health_answers(const struct volume *v, json_t *list)
{
	enum obj_status trouble = atomic_load(&v->store->trouble);
	bool denied = false;

	for (unsigned want = 0; want < OBJ_WANTS; want++) {
		const char *why = objstore_denied(v->store, want);

		if (why != NULL) {
			denied = true;
			say_finding(list, want == OBJ_WANT_ABORT ? FINDING_PARTS_LEFT
								 : FINDING_STORE_DENIED, v, why);
		}
	}
	if (trouble != OBJ_OK && !(trouble == OBJ_DENIED && denied)) {
		say_finding(list, FINDING_STORE_FAILING, v, objstore_status_name(trouble));
	}
}

/* What came out otherwise when the store was probed. */
static void health_fence(const struct volume *v, TALLOC_CTX *ctx, json_t *list)
{
	const struct objstore *s = v->store;
	char *why = talloc_asprintf(ctx, "class F%d", s->caps.fence_class);

	if (s->probe_count == 0 || s->caps.fence_class == 3) {
		return;
	}
	for (unsigned i = 0; i < s->probe_count && why != NULL; i++) {
		const struct obj_probe_step *p = &s->probe_steps[i];

		if (p->got != p->expected) {
			why = talloc_asprintf_append(why, "; %s, %s: expected \"%s\", got \"%s\"", p->op,
					p->condition, objstore_status_name(p->expected),
					objstore_status_name(p->got));
		}
	}
	say_finding(list, FINDING_FENCE_LESS, v, why);
}

static void health_store(const struct volume *v, TALLOC_CTX *ctx, json_t *list)
{
	long long offset_s = atomic_load(&v->store->clock_offset_s);
	size_t before = json_array_size(list);
	struct obj_login login = {0};
	const char *key = NULL, *last;
	char *below = NULL;
	unsigned damaged, conflicts;
	uint64_t held, unproven;

	if (v->state == VOLUME_HELD) {
		say_finding(list, FINDING_STORE_HELD, v, v->state_why);
	} else if (atomic_load(&v->store->trouble) == OBJ_NO_BUCKET) {
		say_finding(list, FINDING_BUCKET_GONE, v, v->store->where);
	} else if (v->state == VOLUME_CONNECTING) {
		say_finding(list, v->denied ? FINDING_STORE_DENIED : FINDING_STORE_AWAY, v,
				v->state_why != NULL ? v->state_why : "connecting");
		if (!v->tried) { /* doctor waits for it */
			json_object_set_new(json_array_get(list, json_array_size(list) - 1),
					"connecting", json_true());
		}
	} else {
		health_answers(v, list);
	}
	if (v->store->ops->login != NULL) {
		v->store->ops->login(v->store, &login);
	}
	if (login.source[0] != '\0' && login.error[0] != '\0') {
		say_finding(list, FINDING_CREDENTIALS_OLD, v, login.error);
	}
	if (offset_s > CLOCK_OFF_S || offset_s < -CLOCK_OFF_S) {
		say_finding(list, FINDING_CLOCK_OFF, v,
				talloc_asprintf(ctx, "this machine's clock is %lld s %s",
						offset_s < 0 ? -offset_s : offset_s,
						offset_s < 0 ? "ahead" : "behind"));
	}
	damaged = recall_damaged(v->recalls, &key);
	if (damaged > 0) {
		say_finding(list, FINDING_OBJECT_DAMAGED, v,
				talloc_asprintf(ctx, "%s%s", key, damaged > 1 ? ", and others" : ""));
	}
	health_fence(v, ctx, list);
	if (v->store->caps.versioned) {
		say_finding(list, FINDING_VERSIONS_KEPT, v, v->store->where);
	}
	if (v->read_only != NULL) {
		say_finding(list, FINDING_READ_ONLY, v, v->read_only);
	}
	unproven = trust_unproven(v->store, &last);
	if (unproven > 0) {
		say_finding(list, FINDING_METADATA_UNPROVEN, v,
				talloc_asprintf(ctx, "%" PRIu64 " objects since the start, the last one %s", unproven,
						last));
	}
	conflicts = v->reconcile != NULL ? reconcile_conflicts_lately(v->reconcile) : 0;
	if (conflicts > 0) {
		say_finding(list, FINDING_CONFLICTS_MADE, v, talloc_asprintf(ctx, "%u within the last day%s",
				conflicts, conflicts == 100 ? ", or more" : ""));
	}
	if (v->reconcile != NULL && reconcile_conflicts_held(v->reconcile)) {
		say_finding(list, FINDING_CONFLICTS_MANY, v, v->store->where);
	}
	if (v->reconcile != NULL && reconcile_renames_held(v->reconcile) > 0) {
		say_finding(list, FINDING_RENAMES_HELD, v, v->store->where);
	}
	held = mirror_removals_held(v->mirror, ctx, &below);
	if (held > 0) {
		say_finding(list, FINDING_REMOVALS_HELD, v,
				talloc_asprintf(ctx, "%" PRIu64 " names below %s", held,
						below != NULL ? below : "?"));
	}
	say_if_well(list, before, "store", v);
}

static void health_mirror(const struct volume *v, const struct health_try *t, TALLOC_CTX *ctx,
		json_t *list)
{
	size_t before = json_array_size(list), failed;
	char *path = NULL;
	const char *damaged_path = NULL;
	unsigned damaged;

	if (t->status == -ENOSPC || t->status == -EDQUOT ||
			(t->status == 0 && t->free_bytes < MIRROR_FREE_MIN_BYTES)) {
		say_finding(list, FINDING_MIRROR_FULL, v,
				talloc_asprintf(ctx, "%llu bytes%s are free below %s",
						(unsigned long long)t->free_bytes,
						t->inodes_gone ? " and no inodes" : "", v->path));
	} else if (t->status != 0) {
		say_finding(list, FINDING_MIRROR_BAD, v,
				talloc_asprintf(ctx, "%s: %s", v->path, strerror(-t->status)));
	}
	failed = v->reconcile != NULL ? reconcile_disk_failed(v->reconcile, ctx, &path) : 0;
	if (failed > 0) {
		say_finding(list, FINDING_DISK_FAILS, v,
				talloc_asprintf(ctx, "%s%s", path != NULL ? path : "?", failed > 1 ? ", and others" : ""));
	}
	if (atomic_load(&v->shm->write_full) != 0) {
		say_finding(list, FINDING_CACHE_FULL, v, v->path);
	}
	damaged = verify_damaged(v->verifier, &damaged_path);
	if (damaged > 0) {
		say_finding(list, FINDING_FILE_DAMAGED, v,
				talloc_asprintf(ctx, "%s%s", damaged_path, damaged > 1 ? ", and others" : ""));
	}
	if (v->inodes_small) {
		say_finding(list, FINDING_MIRROR_INODES, v, v->path);
	}
	if (strcmp(v->rio.xattr, OFS_RECORD_XATTR_USER) == 0) {
		say_finding(list, FINDING_RECORDS_USER, v, v->path);
	}
	say_if_well(list, before, "mirror", v);
}

static void health_backlog(const struct volume *v, TALLOC_CTX *ctx, json_t *list)
{
	int64_t oldest_ns;
	size_t count;

	reconcile_backlog(v->reconcile, &count, &oldest_ns);
	if (oldest_ns > v->conf->backlog_age_ns) {
		say_finding(list, FINDING_BACKLOG_OLD, v,
				talloc_asprintf(ctx, "%zu changes, the oldest for %lld s", count,
						(long long)(oldest_ns / NS_PER_S)));
	} else {
		say(list, finding_ok_json("backlog", v->name));
	}
}

static void health_accounts(const struct volume *v, TALLOC_CTX *ctx, json_t *list)
{
	size_t before = json_array_size(list);
	const char *other = accounts_other(v->accounts, ctx);
	const char *renamed = accounts_renamed(v->accounts, ctx);

	if (other != NULL) {
		say_finding(list, FINDING_ACCOUNTS_OTHER, v, other);
	}
	if (renamed != NULL) {
		say_finding(list, FINDING_ACCOUNT_RENAMED, v, renamed);
	}
	say_if_well(list, before, "accounts", v);
}

static void health_run(struct disk_job *job)
{
	struct health_job *h = (struct health_job *)job;

	for (unsigned i = 0; i < h->count; i++) {
		h->tries[i].status = volume_fs_try(h->volumes[i], &h->tries[i].free_bytes,
				&h->tries[i].inodes_gone);
	}
}

static void health_done(struct disk_job *job)
{
	struct health_job *h = (struct health_job *)job;
	struct admin_cmd *c = h->cmd;
	json_t *list = json_array();

	health_daemon(c->core, c, list);
	for (unsigned i = 0; i < h->count; i++) {
		const struct volume *v = h->volumes[i];

		health_store(v, c, list);
		health_mirror(v, &h->tries[i], c, list);
		health_backlog(v, c, list);
		health_accounts(v, c, list);
	}
	free(h);
	admin_answer(c, 0,
			json_pack("{s:s, s:o}", "state", findings_state(list), "components", list),
			NULL);
}

void admin_health(struct admin_cmd *c)
{
	unsigned count = c->core->volume_count;
	struct health_job *h = calloc(1, sizeof(*h) + count * sizeof(h->tries[0]));

	if (h == NULL) {
		admin_answer(c, -ENOMEM, NULL, "out of memory");
		return;
	}
	h->job.what = "health";
	h->job.run = health_run;
	h->job.done = health_done;
	h->cmd = c;
	h->count = count;
	h->volumes = c->core->volumes;
	disk_submit(c->core->disk, DISK_ANY, &h->job);
}
