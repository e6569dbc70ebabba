/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: when S3 holds somebody else's object under our name, keep both: ours goes on under a
 * conflict name, theirs comes into the mirror as a stub.
 * Way: whoever finds it (target.c, step.c, send.c, move.c, redirect.c) -> step_conflict -> worker renames the inode
 *      -> row, listing. under.c has made its own, and tells of it here (conflict_made).
 * Thread: core; the rename on a worker.
 * Owns: its job; the list of those that were made; ends the attempt.
 * Holds: 1. the local name is given up by rename(2) alone, so there is no moment without our data;
 *        2. after CONFLICTS_AN_HOUR within an hour no file is sent, over restarts, until somebody accepts that.
 */
#include "private.h"
#include "../core/announce.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CONFLICT_HOUR_NS (3600 * NS_PER_S)
#define CONFLICT_DAY_NS (24 * CONFLICT_HOUR_NS)
#define CONFLICT_HOLD_NS (60 * NS_PER_S)
#define CONFLICT_KV "conflicts_held"

/* ---- so many in an hour that something else is wrong ---- */

/* Those that are being made count, too. */
static bool conflict_is_one_too_many(const struct reconcile *rc)
{
	unsigned count = rc->conflicts_made + rc->conflicts_running;
	const struct conflict *oldest = &rc->conflicts[count % CONFLICTS_AN_HOUR];

	return count >= rc->conflicts_accepted + CONFLICTS_AN_HOUR &&
	       (rc->conflicts_running >= CONFLICTS_AN_HOUR ||
			       clock_now_ns(rc->v->clock) - oldest->at_ns < CONFLICT_HOUR_NS);
}

bool step_conflicts_hold(struct attempt *a)
{
	if (!reconcile_conflicts_held(a->item->rc)) {
		return false;
	}
	a->item->held = true;
	attempt_end_postponed(a, CONFLICT_HOLD_NS, "too many conflicts within an hour: objectfsctl "
			"accept-conflicts if they are meant");
	return true;
}

void conflict_brake(struct reconcile *rc)
{
	if (!reconcile_conflicts_held(rc) && conflict_is_one_too_many(rc)) {
		index_kv_set(rc->v->index, CONFLICT_KV, "yes"); /* a restart does not let go */
		index_commit(rc->v->index, NULL, NULL);
		log_error("reconcile", "more than %u conflicts within an hour: no file is sent any more. Does "
				"another program write to this bucket, or was it restored from a backup? If "
				"it is meant: objectfsctl -v %s accept-conflicts", CONFLICTS_AN_HOUR, rc->v->name);
	}
}

bool reconcile_conflicts_held(const struct reconcile *rc)
{
	return index_kv_get(rc->v->index, CONFLICT_KV) != NULL;
}

bool reconcile_accept_conflicts(struct reconcile *rc)
{
	bool held = reconcile_conflicts_held(rc);
	struct work *w, *next;

	index_kv_set(rc->v->index, CONFLICT_KV, NULL);
	index_commit(rc->v->index, NULL, NULL);
	rc->conflicts_accepted = rc->conflicts_made;
	for (w = rc->works; w != NULL; w = next) {
		next = w->next;
		if (w->held) {
			work_item(rc, w->row, 0);
		}
	}
	return held;
}

/* ---- which there were ---- */

void conflict_made(struct reconcile *rc, const char *path, const char *copy, const char *why)
{
	struct conflict *c = &rc->conflicts[rc->conflicts_made++ % CONFLICTS_AN_HOUR];

	stats_add(conflicts, 1);
	talloc_free(c->path);
	talloc_free(c->copy);
	*c = (struct conflict){
		.at_ns = clock_now_ns(rc->v->clock),
		.wall_ns = clock_wall_ns(rc->v->clock),
		.path = talloc_strdup(rc, path),
		.copy = copy != NULL ? talloc_strdup(rc, copy) : NULL,
		.why = why,
	};
}

json_t *reconcile_conflicts(struct reconcile *rc, unsigned most)
{
	json_t *list = json_array();
	unsigned made = rc->conflicts_made;

	for (unsigned n = made; n > 0 && made - n < CONFLICTS_AN_HOUR && made - n < most; n--) {
		const struct conflict *c = &rc->conflicts[(n - 1) % CONFLICTS_AN_HOUR];

		json_array_append_new(list, json_pack("{s:s, s:s?, s:s, s:f}", "path",
				c->path != NULL ? c->path : "?", "copy", c->copy, "reason", c->why, "at",
				(double)c->wall_ns / NS_PER_S));
	}
	return list;
}

unsigned reconcile_conflicts_lately(const struct reconcile *rc)
{
	unsigned made = rc->conflicts_made, lately = 0;

	for (unsigned n = made < CONFLICTS_AN_HOUR ? made : CONFLICTS_AN_HOUR; n > 0; n--) {
		lately += clock_now_ns(rc->v->clock) - rc->conflicts[n - 1].at_ns < CONFLICT_DAY_NS;
	}
	return lately;
}

/* ---- one ---- */

struct conflict_job {
	struct disk_job job;
	struct attempt *a; /* core only */
	struct ofs_record_io rio;
	struct ofs_oid oid, parent;
	int tree_fd;
	char *dir;
	char *name, *to; /* components */
	const char *why; /* constant */
	int status;
};

static void conflict_run(struct disk_job *job)
{
	struct conflict_job *c = (struct conflict_job *)job;
	int fd = look_open_dir(c->tree_fd, &c->rio, c->dir, &c->parent, O_PATH);
	struct ofs_record rec;

	if (fd < 0) {
		c->status = fd;
		return;
	}
	c->status = ofs_record_get_at(&c->rio, fd, c->name, &rec);
	if (c->status == 0 && !ofs_oid_equal(&rec.oid, &c->oid)) {
		c->status = -ESTALE;
	}
	if (c->status == 0 && renameat2(fd, c->name, fd, c->to, RENAME_NOREPLACE) != 0) {
		c->status = -errno;
	}
	close(fd);
}

static void conflict_done(struct disk_job *job)
{
	struct conflict_job *c = (struct conflict_job *)job;
	struct attempt *a = c->a;
	struct volume *v = a->v;
	char *dir = talloc_strdup(v, c->dir);
	struct news *news = NULL;

	a->item->rc->conflicts_running--;
	if (c->status == 0) {
		const char *below = strcmp(c->dir, ".") == 0 ? "" : c->dir, *slash = below[0] != '\0' ? "/" : "";
		char *path = talloc_asprintf(a, "%s%s%s", below, slash, c->name);
		char *copy = talloc_asprintf(a, "%s%s%s", below, slash, c->to);

		conflict_made(a->item->rc, path != NULL ? path : c->name, copy != NULL ? copy : c->to, c->why);
		log_warning("reconcile", "conflict: %s/%s: %s; this node's version is now %s", c->dir,
				c->name, c->why, c->to);
		if (a->old_key == NULL) {
			redirect_end_row(a->item->rc, a->row);
			index_clear_s3(v->index, a->row);
		} /* else its object is where it was, and moves to the conflict name */
		a->item->rc->since_ns = a->item->first_ns;
		news_add(a, &news, OFS_WIRE_NOTIFY_REMOVED, c->name, a->row->is_dir);
		news_add(a, &news, OFS_WIRE_NOTIFY_ADDED, c->to, a->row->is_dir);
		announce(v->announcer, &c->parent, &news);
		work_place(a->item->rc, &c->parent, c->to, 0);
		a->item->rc->since_ns = 0;
		attempt_end_done(a);
		if (dir != NULL) {
			mirror_relist(v->mirror, dir);
		}
	} else if (c->status == -ESTALE || c->status == -ENOENT || c->status == -ENODATA) {
		attempt_end_postponed(a, 200 * NS_PER_MS, "it has moved");
	} else {
		attempt_end_failed(a, "a conflict copy cannot be named: %s", strerror(-c->status));
	}
	talloc_free(dir);
	free(c->dir);
	free(c->name);
	free(c->to);
	free(c);
}

char *conflict_name_of(const char *name, const char *node, int64_t wall_ns)
{
	const char *dot = strrchr(name, '.');
	size_t stem = dot != NULL && dot != name ? (size_t)(dot - name) : strlen(name);
	time_t t = wall_ns / NS_PER_S;
	char date[32], tag[64], *out = malloc(OFS_NAME_MAX_BYTES + 1);
	struct tm tm;
	size_t ext = strlen(name + stem), room;

	if (out == NULL) {
		return NULL;
	}
	gmtime_r(&t, &tm);
	strftime(date, sizeof(date), "%Y-%m-%d %H%M%S", &tm);
	snprintf(tag, sizeof(tag), " (conflict %.8s %s)", node, date);
	if (ext > 60) {
		stem = strlen(name);
		ext = 0;
	}
	room = OFS_NAME_MAX_BYTES - strlen(tag) - ext;
	if (stem > room) {
		stem = room;
		while (stem > 0 && ((unsigned char)name[stem] & 0xc0) == 0x80) {
			stem--; /* not inside a UTF-8 sequence */
		}
	}
	snprintf(out, OFS_NAME_MAX_BYTES + 1, "%.*s%s%s", (int)stem, name, tag,
			ext > 0 ? name + strlen(name) - ext : "");
	return out;
}

/* An escape is one of the new name: where the old one was a file beside a directory, the new is not. */
static char *conflict_name(const struct row *row, const char *node, int64_t wall_ns)
{
	char *raw = name_to_raw(NULL, row->name, row->is_dir);
	char *to = raw != NULL ? conflict_name_of(raw, node, wall_ns) : NULL;
	char *local = to != NULL ? name_from_raw(raw, to) : NULL;

	free(to);
	to = local != NULL ? strdup(local) : NULL;
	talloc_free(raw);
	return to;
}

void step_conflict(struct attempt *a, const char *why)
{
	struct index *ix = a->v->index;
	struct row *dir = index_get(ix, &a->row->parent);
	char *path = dir != NULL ? index_path(ix, a, dir) : NULL;
	struct conflict_job *c;

	conflict_brake(a->item->rc);
	if (step_conflicts_hold(a)) {
		return;
	}
	if (a->row->live != ROW_HERE || path == NULL) {
		attempt_end_postponed(a, 200 * NS_PER_MS, "it has moved");
		return;
	}
	log_info("reconcile", "%s: %s", a->row->name, why);
	c = calloc(1, sizeof(*c));
	if (c != NULL && path != NULL) {
		c->dir = strdup(path);
		c->name = strdup(a->row->name);
		c->to = conflict_name(a->row, a->v->node_id, clock_wall_ns(a->v->clock));
		c->why = why;
	}
	if (c == NULL || c->dir == NULL || c->name == NULL || c->to == NULL) {
		if (c != NULL) {
			free(c->dir);
			free(c->name);
			free(c->to);
		}
		free(c);
		attempt_end_failed(a, "out of memory");
		return;
	}
	c->job.what = "conflict copy";
	c->job.run = conflict_run;
	c->job.done = conflict_done;
	c->a = a;
	c->rio = a->v->rio;
	c->oid = a->oid;
	c->parent = a->row->parent;
	c->tree_fd = a->v->tree_fd;
	a->item->rc->conflicts_running++;
	disk_submit(a->v->disk, DISK_ORDER, &c->job);
}
