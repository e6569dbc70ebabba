/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: commands about a path: `stat`, `refresh`, `accept-removals`, `flush`; and `accept-conflicts`.
 * Way: admin.c -> here -> disk job, mirror, reconcile -> the answer.
 * Thread: core; the tree is read by a disk job. Owns: the jobs and the flushes under way.
 * Holds: a flush of several volumes is answered when the last of them is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "private.h"
#include "../base/log.h"
#include "../core/rings.h"
#include "../evict/evict.h"
#include "../mirror/mirror.h"
#include "../reconcile/index.h"
#include "../reconcile/reconcile.h"

#define NOBODY_WAITS_NS (600 * NS_PER_S)

/* ---- stat ---- */

struct stat_job { /* owner: as disk.h says */
	struct disk_job job;
	struct admin_cmd *cmd;
	struct ofs_record_io rio;
	int tree_fd;
	char *path;
	int status, record_status;
	struct stat st;
	struct ofs_record rec;
};

static void stat_run(struct disk_job *job)
{
	struct stat_job *s = (struct stat_job *)job;
	int fd = mirror_open_beneath(s->tree_fd, s->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		s->status = fd;
		return;
	}
	if (fstat(fd, &s->st) != 0) {
		s->status = -errno;
	} else {
		s->record_status = ofs_record_get(&s->rio, fd, &s->rec);
	}
	close(fd);
}

json_t *admin_time(int64_t ns)
{
	return ns == 0 ? json_null() : json_real((double)ns / 1e9);
}

static json_t *record_json(const struct ofs_record *rec)
{
	static const struct {
		uint32_t flag;
		const char *name;
	} names[] = {{OFS_REC_DIR, "dir"}, {OFS_REC_STUB, "stub"},
			{OFS_REC_DATA_DIRTY, "data-dirty"}, {OFS_REC_META_DIRTY, "meta-dirty"},
			{OFS_REC_KNOWN, "known"}, {OFS_REC_LISTED, "listed"},
			{OFS_REC_MARKED, "marked"}};
	char oid[OFS_OID_HEX_BYTES];
	json_t *flags = json_array();

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if ((rec->flags & names[i].flag) != 0) {
			json_array_append_new(flags, json_string(names[i].name));
		}
	}
	ofs_oid_hex(&rec->oid, oid);
	return json_pack("{s:o, s:s, s:I, s:I, s:I, s:o, s:o}", "flags", flags, "oid", oid,
			"data_gen", (json_int_t)rec->data_gen, "meta_gen",
			(json_int_t)rec->meta_gen, "size", (json_int_t)rec->size, "mtime",
			admin_time(rec->mtime_ns), "listed", admin_time(rec->listed_ns));
}

static json_t *row_json(struct volume *v, const struct row *r)
{
	static const char *const live[] = {"not-here", "here", "trashed"};
	json_t *o = json_object();
	char *key = NULL;
	char sum[65];

	json_object_set_new(o, "in_s3", json_boolean(r->in_s3));
	json_object_set_new(o, "live", json_string(live[r->live]));
	if (r->in_s3) {
		key = index_key(v->index, NULL, v->prefix, &r->s3_parent,
				r->s3_name != NULL ? r->s3_name : "", r->is_dir, NULL);
		json_object_set_new(o, "key", admin_string(key));
		json_object_set_new(o, "etag", admin_string(r->etag));
		json_object_set_new(o, "version_id", admin_string(r->version_id));
		json_object_set_new(o, "size", json_integer((json_int_t)r->s3_size));
		json_object_set_new(o, "last_modified", admin_time(r->s3_mtime_ns));
		json_object_set_new(o, "data_gen", json_integer((json_int_t)r->s3_data_gen));
		json_object_set_new(o, "meta_gen", json_integer((json_int_t)r->s3_meta_gen));
		if (r->is_dir) {
			json_object_set_new(o, "marker_object", json_boolean(r->has_object));
		}
	}
	if (r->has_sha256) {
		for (int i = 0; i < 32; i++) {
			snprintf(sum + 2 * i, 3, "%02x", row_sha256(r)[i]);
		}
		json_object_set_new(o, "sha256", json_string(sum));
	}
	talloc_free(key);
	return o;
}

const char *admin_state_name(const struct stat *st, int record_status, const struct ofs_record *rec)
{
	bool valid = record_status == 0;
	bool marker = S_ISREG(st->st_mode) && (st->st_mode & OFS_MARKER_MODE) != 0;

	if (S_ISDIR(st->st_mode)) {
		return valid && (rec->flags & OFS_REC_LISTED) != 0 ? "listed" : "unlisted";
	}
	if (marker || (valid && (rec->flags & OFS_REC_STUB) != 0)) {
		return valid ? "stub" : "quarantined";
	}
	if (!valid || (rec->flags & (OFS_REC_DATA_DIRTY | OFS_REC_META_DIRTY)) != 0) {
		return "dirty";
	}
	return "resident";
}

static void stat_done(struct disk_job *job)
{
	struct stat_job *s = (struct stat_job *)job;
	struct admin_cmd *c = s->cmd;
	struct volume *v = c->v;
	struct row *r = NULL;
	char mode[16];
	json_t *o;

	if (s->status == -ENOENT) {
		admin_answer(c, s->status, NULL,
				"%s: not in the mirror of volume %s (a directory nobody has listed may "
				"hold it in S3: objectfsctl refresh)",
				c->path, v->name);
		goto out;
	}
	if (s->status != 0) {
		admin_answer(c, s->status, NULL, "%s: %s", c->path, strerror(-s->status));
		goto out;
	}
	if (s->record_status == 0) {
		r = index_get(v->index, &s->rec.oid);
	}
	snprintf(mode, sizeof(mode), "%04o",
			(unsigned)(s->st.st_mode & (S_ISREG(s->st.st_mode) ? 06777 : 07777)));
	o = json_pack("{s:s, s:o, s:s, s:s, s:I, s:s, s:I, s:o}", "volume", v->name, "path",
			admin_string(c->path), "type",
			S_ISDIR(s->st.st_mode)	 ? "directory"
			: S_ISREG(s->st.st_mode) ? "file"
						 : "other",
			"state", admin_state_name(&s->st, s->record_status, &s->rec), "size",
			(json_int_t)s->st.st_size, "mode", mode, "inode", (json_int_t)s->st.st_ino,
			"mtime",
			json_real((double)s->st.st_mtim.tv_sec +
					(double)s->st.st_mtim.tv_nsec / 1e9));
	json_object_set_new(o, "record",
			s->record_status == 0 ? record_json(&s->rec) : json_null());
	if (s->record_status != 0) {
		json_object_set_new(o, "record_problem",
				json_string(s->record_status == -EXDEV
								? "belongs to another inode (a copy)"
								: strerror(-s->record_status)));
	}
	json_object_set_new(o, "row", r != NULL ? row_json(v, r) : json_null());
	json_object_set_new(o, "pending",
			json_boolean(r != NULL && reconcile_is_pending(v->reconcile, r)));
	admin_answer(c, 0, o, NULL);
out:
	free(s->path);
	free(s);
}

void admin_stat(struct admin_cmd *c)
{
	struct stat_job *s = calloc(1, sizeof(*s));

	if (s != NULL) {
		s->path = strdup(c->path);
	}
	if (s == NULL || s->path == NULL) {
		free(s);
		admin_answer(c, -ENOMEM, NULL, "out of memory");
		return;
	}
	rings_drain(c->v->rings);
	s->job.what = "ctl stat";
	s->job.run = stat_run;
	s->job.done = stat_done;
	s->cmd = c;
	s->rio = c->v->rio;
	s->tree_fd = c->v->tree_fd;
	disk_submit(c->core->disk, DISK_ANY, &s->job);
}

/* ---- refresh ---- */

struct refresh { /* talloc child of the command */
	struct admin_cmd *cmd;
	size_t cut;     /* bytes of the path that are being listed */
	bool down;      /* the directory above was listed just now */
	bool only_file; /* the path is a file: its directory is what is listed */
};

static void refresh_step(struct refresh *r);

static size_t path_parent(const char *path, size_t len)
{
	while (len > 0 && path[len - 1] != '/') {
		len--;
	}
	return len > 0 ? len - 1 : 0;
}

/* What local programs have put there is looked at, too. */
static void refresh_looked(void *arg)
{
	struct refresh *r = arg;
	struct admin_cmd *c = r->cmd;

	admin_answer(c, 0, json_pack("{s:s, s:o}", "volume", c->v->name, "refreshed",
					   admin_string(c->path[0] != '\0' ? c->path : ".")),
			NULL);
}

static void refresh_done(int status, const char *message, void *arg)
{
	struct refresh *r = arg;
	struct admin_cmd *c = r->cmd;
	size_t full = strlen(c->path);

	if (status == -ENOTDIR && r->down) {
		status = 0; /* a file, and the directory it is in was listed */
		r->only_file = true;
	}
	if (status == 0 && (r->cut == full || r->only_file)) {
		size_t listed = r->only_file ? path_parent(c->path, full) : r->cut;
		char *path = talloc_strndup(r, c->path, listed);

		evict_look(c->v->evictor, path != NULL && path[0] != '\0' ? path : ".", refresh_looked, r);
		return;
	}
	if (status == 0) {
		size_t from = r->cut + (r->cut > 0 ? 1 : 0);

		r->down = true;
		r->cut = from + strcspn(c->path + from, "/");
		refresh_step(r);
		return;
	}
	if ((status == -ENOENT || status == -ENOTDIR) && !r->down && r->cut > 0) {
		r->only_file = status == -ENOTDIR;
		r->cut = path_parent(c->path, r->cut);
		refresh_step(r);
		return;
	}
	if (status == -ENOENT) {
		admin_answer(c, status, NULL, "%s: neither in the mirror nor in S3", c->path);
		return;
	}
	admin_answer(c, status, NULL, "%s: %s", c->path,
			message != NULL && message[0] != '\0' ? message : strerror(-status));
}

static void refresh_step(struct refresh *r)
{
	struct admin_cmd *c = r->cmd;
	char *path = talloc_strndup(r, c->path, r->cut);

	if (path == NULL) {
		admin_answer(c, -ENOMEM, NULL, "out of memory");
		return;
	}
	mirror_refresh(c->v->mirror, c->request_id, path[0] != '\0' ? path : ".", refresh_done, r);
}

void admin_refresh(struct admin_cmd *c)
{
	struct refresh *r = talloc_zero(c, struct refresh);

	if (r == NULL) {
		admin_answer(c, -ENOMEM, NULL, "out of memory");
		return;
	}
	rings_drain(c->v->rings);
	if (strcmp(c->path, ".") == 0) {
		c->path = "";
	}
	r->cmd = c;
	r->cut = strlen(c->path);
	refresh_step(r);
}

/* ---- accept-removals ---- */

struct accept { /* talloc child of the command */
	struct admin_cmd *cmd;
	unsigned running;
	uint64_t names;
	int status;
	char *message;
};

static void accept_end(struct accept *a)
{
	struct admin_cmd *c = a->cmd;

	if (--a->running > 0) {
		return;
	}
	if (a->status != 0) {
		admin_answer(c, a->status, NULL, "%s: %s", c->path,
				a->message[0] != '\0' ? a->message : strerror(-a->status));
		return;
	}
	admin_answer(c, 0, json_pack("{s:o, s:I}", "accepted", admin_string(c->path), "names",
					   (json_int_t)a->names), NULL);
}

static void accept_done(int status, const char *message, uint64_t names, void *arg)
{
	struct accept *a = arg;

	a->names += names;
	if (status != 0 && a->status == 0) {
		a->status = status;
		a->message = talloc_strdup(a, message != NULL ? message : "");
	}
	accept_end(a);
}

/* Without a path: all there is, of each volume asked for. */
void admin_accept(struct admin_cmd *c)
{
	struct accept *a = talloc_zero(c, struct accept);

	if (a == NULL) {
		admin_answer(c, -ENOMEM, NULL, "out of memory");
		return;
	}
	a->cmd = c;
	a->running = 1; /* ours: no volume may end it before all have begun */
	c->path = c->path != NULL ? c->path : ".";
	for (unsigned i = 0; i < c->core->volume_count; i++) {
		struct volume *v = c->core->volumes[i];

		if (c->v == NULL || c->v == v) {
			a->running++;
			rings_drain(v->rings);
			mirror_accept_removals(v->mirror, c->request_id, c->path, accept_done, a);
		}
	}
	accept_end(a);
}

/* ---- accept-conflicts ---- */

void admin_accept_conflicts(struct admin_cmd *c)
{
	json_int_t volumes = 0;

	for (unsigned i = 0; i < c->core->volume_count; i++) {
		struct volume *v = c->core->volumes[i];

		if ((c->v == NULL || c->v == v) && v->reconcile != NULL) {
			volumes += reconcile_accept_conflicts(v->reconcile);
		}
	}
	admin_answer(c, 0, json_pack("{s:I}", "volumes", volumes), NULL);
}

/* ---- flush ---- */

struct flush { /* talloc child of the command, or of core when nobody waits */
	struct admin_task task; /* first; listed while somebody waits */
	struct admin_cmd *cmd; /* NULL: answered already */
	unsigned running;
	int status;
	json_t *left;
};

struct flush_part {
	struct flush *f;
	struct volume *v;
};

static void flush_left_add(struct flush *f, struct volume *v, json_t *left)
{
	json_t *item;
	size_t i;

	json_array_foreach(left, i, item)
	{
		json_t *copy = json_copy(item);

		json_object_set_new(copy, "volume", json_string(v->name));
		json_array_append_new(f->left, copy);
	}
}

/* What is pending of the volumes asked for: new changes too. */
static json_t *flush_json(const struct admin_task *t)
{
	const struct flush *f = (const struct flush *)t;
	const struct core *core = f->cmd->core;
	size_t left = 0;

	for (unsigned i = 0; i < core->volume_count; i++) {
		size_t count;
		int64_t oldest_ns;

		if (f->cmd->v == NULL || f->cmd->v == core->volumes[i]) {
			reconcile_backlog(core->volumes[i]->reconcile, &count, &oldest_ns);
			left += count;
		}
	}
	return json_pack("{s:s, s:s?, s:o, s:I}", "task", "flush", "volume",
			f->cmd->v != NULL ? f->cmd->v->name : NULL, "path",
			admin_string(f->cmd->path), "left", (json_int_t)left);
}

static void flush_finish(struct flush *f)
{
	struct admin_cmd *c = f->cmd;
	size_t count = json_array_size(f->left);
	json_t *left = f->left;
	int status = f->status;

	admin_task_remove(&f->task);
	if (c == NULL) {
		json_decref(left);
		talloc_free(f);
		return;
	}
	if (status == 0) {
		admin_answer(c, 0, json_pack("{s:o, s:b}", "left", left, "done", 1), NULL);
	} else if (status == -ETIMEDOUT && count == 0) {
		admin_answer(c, status, json_pack("{s:o}", "left", left),
				"time was up before all that is pending was known: see objectfsctl status");
	} else if (status == -EROFS) {
		admin_answer(c, status, json_pack("{s:o}", "left", left),
				"a volume is held or read-only, nothing of it is sent to S3: see objectfsctl "
				"status");
	} else {
		admin_answer(c, status, json_pack("{s:o}", "left", left),
				"%zu %s not in S3 yet%s", count, count == 1 ? "name is" : "names are",
				status == -ETIMEDOUT ? " (time is up)" : "");
	}
}

static void flush_part_done(int status, json_t *left, void *arg)
{
	struct flush_part *p = arg;
	struct flush *f = p->f;

	if (status != 0 && f->status == 0) {
		f->status = status;
	}
	if (status != 0) {
		flush_left_add(f, p->v, left);
	}
	talloc_free(p);
	if (--f->running == 0) {
		flush_finish(f);
	}
}

static void flush_volume(struct flush *f, struct volume *v, const char *path, int64_t deadline_ns)
{
	struct flush_part *p = talloc(f, struct flush_part);
	json_t *left;

	rings_settle(v->rings);
	if (p == NULL) {
		f->status = -ENOMEM;
		return;
	}
	p->f = f;
	p->v = v;
	f->running++;
	if (v->state == VOLUME_HELD || v->read_only != NULL) {
		left = reconcile_pending(v->reconcile, ADMIN_PENDING_MAX);
		flush_part_done(-EROFS, left, p); /* perhaps nothing: what is pending is not known */
		json_decref(left);
		return;
	}
	reconcile_flush(v->reconcile, path, deadline_ns, flush_part_done, p);
}

void admin_flush(struct admin_cmd *c)
{
	struct core *core = c->core;
	const char *timeout = words_option(&c->words, "--timeout");
	bool wait = words_option(&c->words, "--wait") != NULL;
	struct flush *f = talloc_zero(wait ? (void *)c : (void *)core, struct flush);
	const char *path = c->path != NULL && strcmp(c->path, ".") != 0 ? c->path : NULL;
	int64_t patience_ns = timeout != NULL ? (int64_t)(strtod(timeout, NULL) * NS_PER_S) : 0;
	int64_t deadline_ns = 0;

	if (f == NULL) {
		admin_answer(c, -ENOMEM, NULL, "out of memory");
		return;
	}
	f->left = json_array();
	f->cmd = wait ? c : NULL;
	f->running = 1; /* ours: no part may end it before all have begun */
	if (wait) {
		admin_task_add(&f->task, c, flush_json);
	}
	if (!wait && patience_ns == 0) {
		patience_ns = NOBODY_WAITS_NS;
	}
	if (patience_ns > 0) {
		deadline_ns = clock_now_ns(core->clock) + patience_ns;
	}
	for (unsigned i = 0; i < core->volume_count; i++) {
		if (c->v == NULL || c->v == core->volumes[i]) {
			flush_volume(f, core->volumes[i], path, deadline_ns);
		}
	}
	if (!wait) {
		admin_answer(c, 0, json_pack("{s:b}", "begun", 1), NULL);
	}
	if (--f->running == 0) {
		flush_finish(f);
	}
}
