/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: commands about what is kept on the local disk: `evict`, `drop`, `warm`, `pin`, `unpin`, `pins`.
 * Way: admin.c -> a task that goes through the rows below a path -> evict/, or mirror/ and recall/ ->
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

#define TASK_AT_ONCE 8u
#define TASK_STEPS_MOST 2000u /* rows in one turn of the loop */

enum task_kind { TASK_EVICT, TASK_DROP, TASK_WARM };
static const char *const task_names[] = {"evict", "drop", "warm"};

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
};

struct task_item { /* malloc; one file or directory on its way */
	struct disk_job job;
	struct task *t;
	struct ofs_oid oid;
	int tree_fd, fd, status;
	bool is_dir;
	char *path;
	uint64_t bytes, open_id;
};

static void task_step(struct task *t);

/* ---- the task ---- */

static int task_destructor(struct task *t)
{
	admin_task_remove(&t->task);
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

	return json_pack("{s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:o}", "task",
			task_names[t->kind], "volume", t->v->name, "path",
			admin_string(t->path), "files", (json_int_t)t->files, "bytes",
			(json_int_t)t->bytes, "nothing_to_do", (json_int_t)t->plain, "stay",
			(json_int_t)t->stay, "left", (json_int_t)(t->count + t->running), "why",
			admin_string(t->why));
}

static void task_end(struct task *t)
{
	int status = t->status != 0 ? t->status : t->stay > 0 ? -EBUSY : 0;
	json_t *o = task_json(&t->task);

	if (status == -EBUSY) {
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

	if (i->open_id != 0) {
		recall_release(t->v->recalls, i->open_id);
	}
	free(i->path);
	free(i);
	t->running--;
	task_step(t);
}

static void task_fetched(int status, const char *message, void *arg)
{
	struct task_item *i = arg;

	if (status == 0) {
		i->t->files++;
		i->t->bytes += i->bytes;
	} else {
		if (status == -ENOSPC) {
			i->t->status = status;
		}
		task_stays(i->t, i->path, message != NULL ? message : strerror(-status));
	}
	task_item_end(i);
}

static void task_opened(int status, const char *message, uint64_t open_id, uint64_t size, int map_fd,
		void *arg)
{
	struct task_item *i = arg;

	if (map_fd >= 0) {
		close(map_fd);
	}
	if (status != 0) {
		task_stays(i->t, i->path, message != NULL ? message : strerror(-status));
		task_item_end(i);
	} else if (open_id == 0) {
		i->t->plain++;
		task_item_end(i);
	} else {
		i->open_id = open_id;
		i->bytes = size;
		recall_fetch(i->t->v->recalls, i->t->cmd->request_id, open_id, 0, size, true, task_fetched,
				i);
	}
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
			O_PATH | O_NOFOLLOW | O_CLOEXEC | (i->is_dir ? O_DIRECTORY : 0));
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
	} else if (i->is_dir) {
		mirror_list(t->v->mirror, t->cmd->request_id, MIRROR_CLIENT_OWN, i->fd, false, task_listed,
				i);
	} else {
		recall_open(t->v->recalls, t->cmd->request_id, RECALL_CLIENT_OWN, i->fd, task_opened, i);
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
	if (row->is_dir && t->kind == TASK_EVICT) {
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
	i->is_dir = row->is_dir;
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
	while (t->count > 0 && t->running < TASK_AT_ONCE && t->status == 0) {
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

/* The row at c->path, or NULL and answered. */
static struct row *cache_row(struct admin_cmd *c)
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
	struct row *row = cache_row(c);
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
	const struct row *row = cache_row(c);

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

static void cache_pin(struct admin_cmd *c, bool on)
{
	struct row *row = cache_row(c);
	int ret;

	if (row == NULL) {
		return;
	}
	ret = evict_pin(c->v->evictor, &row->oid, on);
	if (ret == -ENOSPC) {
		admin_answer(c, ret, NULL, "too many pins: pin a directory above instead");
	} else if (ret != 0 && ret != -EALREADY) {
		admin_answer(c, ret, NULL, "%s", strerror(-ret));
	} else {
		admin_answer(c, 0, json_pack("{s:s, s:o, s:b}", "volume", c->v->name, "path",
						   admin_string(c->path), "pinned", on),
				NULL);
	}
}

void admin_pin(struct admin_cmd *c)
{
	cache_pin(c, true);
}

void admin_unpin(struct admin_cmd *c)
{
	cache_pin(c, false);
}

struct pins_list {
	const struct volume *v;
	json_t *list;
};

static void pins_add(void *arg, const char *path)
{
	struct pins_list *p = arg;

	json_array_append_new(p->list, json_pack("{s:s, s:o}", "volume", p->v->name, "path",
						       admin_string(path)));
}

void admin_pins(struct admin_cmd *c)
{
	struct pins_list p = {.list = json_array()};

	for (unsigned i = 0; i < c->core->volume_count; i++) {
		p.v = c->core->volumes[i];
		if (c->v == NULL || c->v == p.v) {
			evict_pins_each(p.v->evictor, pins_add, &p);
		}
	}
	admin_answer(c, 0, json_pack("{s:o}", "pins", p.list), NULL);
}
