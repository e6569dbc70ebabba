/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: commands about what is kept on the local disk: `evict`, `drop`, `warm`, `verify`.
 * Way: admin.c -> a task that goes through the rows below a path -> evict/, mirror/ and recall/, or verify/ ->
 *      the answer when all are through.
 * Thread: core; files are opened by a disk job. Owns: the tasks.
 * Holds: 1. a task is answered once; it goes on if who asked is gone;
 *        2. rows are found again by id after every wait: they may have gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "private.h"
#include "../base/log.h"
#include "../core/rings.h"
#include "../evict/evict.h"
#include "../mirror/mirror.h"
#include "../recall/recall.h"
#include "../reconcile/index.h"
#include "../verify/verify.h"

#define TASK_AT_ONCE 8u
#define TASK_STEPS_MOST 2000u /* rows in one turn of the loop */
#define TASK_FOUND_MOST 1000u /* told one by one */

enum task_kind { TASK_EVICT, TASK_DROP, TASK_WARM, TASK_VERIFY };
static const char *const task_names[] = {"evict", "drop", "warm", "verify"};

struct task { /* talloc child of core */
	struct admin_task task; /* first */
	struct admin_cmd *cmd;
	struct core *core;
	struct volume *v;
	char *path;
	enum task_kind kind;
	struct ofs_oid *todo;
	size_t count, cap;
	unsigned running;
	bool stepping, stopped;
	uint64_t files, plain, bytes, stay; /* done, had nothing to be done, bytes of them, could not */
	char *why; /* of the first that could not */
	int status;
	/* of verify */
	bool repair;
	uint64_t damaged, mended, untold, failed;
	json_t *found; /* of each that is damaged, or could not be told */
};

struct task_item { /* malloc; one file or directory on its way */
	struct disk_job job;
	struct task *t;
	struct ofs_oid oid;
	int tree_fd, fd, status;
	char *path;
	uint64_t bytes;
};

static void task_step(struct task *t);

/* ---- the task ---- */

static int task_destructor(struct task *t)
{
	admin_task_remove(&t->task);
	json_decref(t->found);
	return 0;
}

static bool task_push(struct task *t, const struct ofs_oid *oid)
{
	if (t->count == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 256;
		struct ofs_oid *more = talloc_realloc(t, t->todo, struct ofs_oid, cap);

		if (more == NULL) {
			t->status = -ENOMEM;
			return false;
		}
		t->todo = more;
		t->cap = cap;
	}
	t->todo[t->count++] = *oid;
	return true;
}

static void task_stays(struct task *t, const char *path, const char *why)
{
	t->stay++;
	if (t->why == NULL) {
		t->why = talloc_asprintf(t, "%s: %s", path != NULL ? path : "?", why);
	}
}

static json_t *task_json(const struct admin_task *task)
{
	const struct task *t = (const struct task *)task;

	json_t *o = json_pack("{s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:o}", "task",
			task_names[t->kind], "volume", t->v->name, "path",
			admin_string(t->path), "files", (json_int_t)t->files, "bytes",
			(json_int_t)t->bytes, "nothing_to_do", (json_int_t)t->plain, "stay",
			(json_int_t)t->stay, "left", (json_int_t)(t->count + t->running), "why",
			admin_string(t->why));

	if (t->kind == TASK_VERIFY) {
		json_object_set_new(o, "damaged", json_integer((json_int_t)t->damaged));
		json_object_set_new(o, "mended", json_integer((json_int_t)t->mended));
		json_object_set_new(o, "untold", json_integer((json_int_t)t->untold));
		json_object_set_new(o, "failed", json_integer((json_int_t)t->failed));
	}
	return o;
}

static void verify_end(struct task *t, json_t *o)
{
	json_object_set(o, "found", t->found);
	json_object_set_new(o, "more", json_boolean(t->damaged + t->failed > json_array_size(t->found)));
	if (t->damaged > t->mended) {
		admin_answer(t->cmd, -EUCLEAN, o, "%llu damaged, %llu mended%s", (unsigned long long)t->damaged,
				(unsigned long long)t->mended, t->repair ? "" : " (verify --repair fetches them again)");
	} else if (t->failed > 0) {
		admin_answer(t->cmd, -EAGAIN, o, "%llu could not be told", (unsigned long long)t->failed);
	} else {
		admin_answer(t->cmd, t->status, o, t->status != 0 ? "%s" : NULL, strerror(-t->status));
	}
}

static void task_end(struct task *t)
{
	int status = t->status != 0 ? t->status : t->stay > 0 ? -EBUSY : 0;
	json_t *o = task_json(&t->task);

	if (t->kind == TASK_VERIFY) {
		verify_end(t, o);
	} else if (status == -EBUSY) {
		admin_answer(t->cmd, status, o, "%llu %s, the first: %s", (unsigned long long)t->stay,
				t->kind == TASK_WARM ? "could not be fetched" : "could not go",
				t->why != NULL ? t->why : "?");
	} else if (status == -ENOSPC) {
		admin_answer(t->cmd, status, o, "the cache is full: what is left was not fetched "
				"(cache size, objectfsctl evict)");
	} else {
		admin_answer(t->cmd, status, o, status != 0 ? "%s" : NULL, strerror(-status));
	}
	talloc_free(t);
}

/* ---- one file out ---- */

static const char *stays_why(int status)
{
	switch (status) {
	case -EBUSY:
		return "it is open, or S3 does not have it as it is here yet";
	case -EPERM:
		return "it is pinned";
	case -ESTALE:
		return "S3 does not have, or give out, what is here";
	case -EAGAIN:
		return "S3 cannot be asked now";
	default:
		return strerror(-status);
	}
}

static void task_evicted(void *arg, int status)
{
	struct task_item *i = arg;
	struct task *t = i->t;

	if (status == 0) {
		t->files++;
		t->bytes += i->bytes;
	} else if (status == -EALREADY || status == -ENOENT) {
		t->plain++;
	} else {
		task_stays(t, i->path, stays_why(status));
	}
	free(i->path);
	free(i);
	t->running--;
	task_step(t);
}

/* ---- the stubs of one directory ---- */

static const char *drop_why(int status)
{
	switch (status) {
	case -EBUSY:
		return "a file in it was used lately, has data here, or is not in S3 as it is here";
	case -EPERM:
		return "it is pinned, or a file in it";
	default:
		return stays_why(status);
	}
}

static void task_dropped(void *arg, int status, uint64_t count)
{
	struct task_item *i = arg;
	struct task *t = i->t;

	t->files += count;
	if (status == -EALREADY || status == -ENOENT) {
		t->plain++;
	} else if (status != 0) {
		task_stays(t, i->path, drop_why(status));
	}
	free(i->path);
	free(i);
	t->running--;
	task_step(t);
}

/* ---- one file in, or one directory listed ---- */

static void task_item_end(struct task_item *i)
{
	struct task *t = i->t;

	free(i->path);
	free(i);
	t->running--;
	task_step(t);
}

static void task_fetched(int status, const char *message, uint64_t bytes, void *arg)
{
	struct task_item *i = arg;

	if (status == 0 && bytes > 0) {
		i->t->files++;
		i->t->bytes += bytes;
	} else if (status == 0) {
		i->t->plain++;
	} else if (status != -ENOENT || bytes > 0) { /* else deleted or renamed meanwhile */
		if (status == -ENOSPC) {
			i->t->status = status;
		}
		task_stays(i->t, i->path, message);
	}
	task_item_end(i);
}

/* ---- one file compared ---- */

static void task_found(struct task *t, const struct verify_result *r)
{
	if (json_array_size(t->found) < TASK_FOUND_MOST) {
		json_array_append_new(t->found, json_pack("{s:o, s:s, s:o, s:b, s:o}", "path", admin_string(r->path),
				"kind", r->found == VERIFY_DAMAGED ? "damaged" : "not told", "reason",
				admin_string(r->reason), "mended", r->mended, "stays", admin_string(r->stays)));
	}
}

static void task_verified(void *arg, const struct verify_result *r)
{
	struct task_item *i = arg;
	struct task *t = i->t;

	t->bytes += (uint64_t)r->bytes;
	switch (r->found) {
	case VERIFY_RIGHT:
		t->files++;
		break;
	case VERIFY_DAMAGED:
		t->files++;
		t->damaged++;
		t->mended += r->mended;
		task_found(t, r);
		break;
	case VERIFY_UNTOLD:
		t->untold++;
		break;
	case VERIFY_NOT_HERE:
		t->plain++;
		break;
	case VERIFY_IN_USE:
		task_stays(t, r->path, r->reason);
		break;
	default:
		t->failed++;
		task_found(t, r);
		break;
	}
	task_item_end(i);
}

static void task_children(struct task *t, const struct row *dir)
{
	for (struct row *r = index_live_child(t->v->index, dir); r != NULL;
			r = index_live_next(t->v->index, r)) {
		if ((t->kind != TASK_DROP || r->is_dir) && !task_push(t, &r->oid)) {
			return;
		}
	}
}

static void task_listed(int status, const char *message, void *arg)
{
	struct task_item *i = arg;
	struct row *row = index_get(i->t->v->index, &i->oid);

	if (status != 0) {
		task_stays(i->t, i->path, message != NULL ? message : strerror(-status));
	} else if (row != NULL && row->is_dir) {
		task_children(i->t, row);
	}
	task_item_end(i);
}

static void task_open_run(struct disk_job *job)
{
	struct task_item *i = (struct task_item *)job;

	i->fd = mirror_open_beneath(i->tree_fd, i->path,
			O_PATH | O_NOFOLLOW | O_CLOEXEC | O_DIRECTORY);
	i->status = i->fd < 0 ? i->fd : 0;
}

static void task_open_done(struct disk_job *job)
{
	struct task_item *i = (struct task_item *)job;
	struct task *t = i->t;

	if (i->status == -ENOENT) {
		task_item_end(i); /* deleted or renamed meanwhile */
	} else if (i->status != 0) {
		task_stays(t, i->path, strerror(-i->status));
		task_item_end(i);
	} else {
		mirror_list(t->v->mirror, t->cmd->request_id, MIRROR_CLIENT_OWN, i->fd, false, task_listed,
				i);
	}
}

/* ---- through the rows ---- */

static void task_row(struct task *t, const struct row *row)
{
	struct task_item *i;
	char *path;

	if (row->is_dir && t->kind != TASK_WARM) {
		task_children(t, row);
	}
	if (row->is_dir && (t->kind == TASK_EVICT || t->kind == TASK_VERIFY)) {
		return;
	}
	i = calloc(1, sizeof(*i));
	path = index_path(t->v->index, t, row);
	if (i == NULL || path == NULL || (i->path = strdup(path)) == NULL) {
		free(i);
		talloc_free(path);
		task_stays(t, row->name, "its directory is not known");
		return;
	}
	talloc_free(path);
	i->t = t;
	i->oid = row->oid;
	t->running++;
	if (t->kind == TASK_DROP) {
		evict_drop(t->v->evictor, &i->oid, evict_drop_before_ns(t->v->evictor, true), task_dropped,
				i);
		return;
	}
	if (t->kind == TASK_EVICT) {
		i->bytes = (uint64_t)(row->s3_size > 0 ? row->s3_size : 0);
		evict_file(t->v->evictor, &i->oid, task_evicted, i);
		return;
	}
	if (t->kind == TASK_VERIFY) {
		verify_file(t->v->verifier, &i->oid, t->repair, t->cmd->request_id, task_verified, i);
		return;
	}
	if (!row->is_dir) {
		recall_whole(t->v->recalls, t->cmd->request_id, i->path, task_fetched, i);
		return;
	}
	i->tree_fd = t->v->tree_fd;
	i->job.what = "warm";
	i->job.run = task_open_run;
	i->job.done = task_open_done;
	disk_submit(t->core->disk, DISK_ANY, &i->job);
}

static void task_turn(void *arg)
{
	struct task *t = arg;

	t->running--;
	task_step(t);
}

static void task_step(struct task *t)
{
	unsigned steps = 0;

	if (t->stepping) {
		return;
	}
	t->stepping = true;
	while (t->count > 0 && t->running < (t->kind == TASK_VERIFY ? 1 : TASK_AT_ONCE) && t->status == 0) {
		struct ofs_oid oid = t->todo[--t->count];
		struct row *row = index_get(t->v->index, &oid);

		if (t->kind == TASK_WARM && !evict_has_room(t->v->evictor)) {
			t->status = -ENOSPC;
			break;
		}
		if (row != NULL && row->live == ROW_HERE) {
			task_row(t, row);
		}
		if (++steps >= TASK_STEPS_MOST &&
				clock_timer_add(t->core->clock, t, clock_now_ns(t->core->clock), task_turn,
						t) != NULL) {
			t->running++;
			break;
		}
	}
	t->stepping = false;
	if (t->running == 0) {
		task_end(t);
	}
}

struct row *admin_row(struct admin_cmd *c)
{
	struct row *row = index_get(c->v->index, &OFS_OID_ROOT);
	char *rest = talloc_strdup(c, strcmp(c->path, ".") == 0 ? "" : c->path), *name, *save = NULL;

	rings_drain(c->v->rings);
	for (name = rest != NULL ? strtok_r(rest, "/", &save) : NULL; name != NULL && row != NULL;
			name = strtok_r(NULL, "/", &save)) {
		row = index_at_live(c->v->index, &row->oid, name);
	}
	if (row == NULL || rest == NULL) {
		admin_answer(c, -ENOENT, NULL,
				"%s: not known in volume %s (new, and not looked at yet: objectfsctl flush; in "
				"a directory that nobody has listed: objectfsctl refresh)", c->path,
				c->v->name);
		return NULL;
	}
	return row;
}

static void task_new(struct admin_cmd *c, enum task_kind kind)
{
	struct row *row = admin_row(c);
	struct task *t;

	if (row == NULL) {
		return;
	}
	t = talloc_zero(c->core, struct task);
	if (t == NULL) {
		admin_answer(c, -ENOMEM, NULL, "out of memory");
		return;
	}
	t->cmd = c;
	t->core = c->core;
	t->v = c->v;
	t->path = talloc_strdup(t, c->path);
	t->kind = kind;
	t->repair = words_option(&c->words, "--repair") != NULL;
	t->found = json_array();
	admin_task_add(&t->task, c, task_json);
	talloc_set_destructor(t, task_destructor);
	(void)task_push(t, &row->oid);
	task_step(t);
}

void admin_evict(struct admin_cmd *c)
{
	task_new(c, TASK_EVICT);
}

void admin_drop(struct admin_cmd *c)
{
	const struct row *row = admin_row(c);

	if (row != NULL && !row->is_dir) {
		admin_answer(c, -ENOTDIR, NULL, "%s: is a file; stubs go with all others of their directory",
				c->path);
	} else if (row != NULL && c->v->conf->listing_age_ns == 0) {
		admin_answer(c, -EOPNOTSUPP, NULL, "with listing age = 0 clients do not ask for what they "
				"listed once: nothing can be dropped");
	} else if (row != NULL) {
		task_new(c, TASK_DROP);
	}
}

void admin_warm(struct admin_cmd *c)
{
	task_new(c, TASK_WARM);
}

void admin_verify(struct admin_cmd *c)
{
	if (c->v == NULL && c->core->volume_count == 1) {
		c->v = c->core->volumes[0];
	}
	if (c->v == NULL) {
		char *names = volumes_names(c, c->core);

		admin_answer(c, -EINVAL, NULL, "verify in which volume? Say -v VOLUME, or VOLUME:path; there are: %s",
				names != NULL ? names : "?");
		return;
	}
	c->path = c->path != NULL ? c->path : ".";
	task_new(c, TASK_VERIFY);
}
