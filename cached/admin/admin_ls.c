/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: `ls`: what is here of each child of a directory, and whether S3 has it.
 * Way: admin.c -> a job reads a part of the directory -> index, recalls, pins -> the answer.
 * Thread: core; the directory is read by a disk job. Owns: the job.
 * Holds: 1. an answer has LS_MOST entries at most, however large the directory is: it fits a frame,
 *           and the next one begins where this one ended, at the directory's own place, which costs
 *           nothing to find and needs nothing remembered here;
 *        2. only a directory that fits one answer is sorted: of a larger one none knows all names.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "private.h"
#include "../core/rings.h"
#include "../evict/evict.h"
#include "../mirror/mirror.h"
#include "../recall/recall.h"
#include "../reconcile/index.h"
#include "../reconcile/reconcile.h"

#define LS_MOST 2000u /* with the longest names, all of them \u00NN: 3.6 MB */
#define LS_USUAL 1000u

struct ls_entry {
	char *name; /* malloc */
	int record_status;
	struct stat st;
	struct ofs_record rec;
};

struct ls_job { /* owner: as disk.h says */
	struct disk_job job;
	struct admin_cmd *cmd;
	struct ofs_record_io rio;
	int tree_fd;
	char *path;
	int64_t from; /* 0: the beginning */
	/* out */
	int status;
	bool listed, is_file;
	int64_t next; /* 0: that was all */
	unsigned count, most;
	struct ls_entry entries[];
};

/* ---- the job ---- */

/* One that has gone meanwhile is left out. */
static void ls_entry_look(struct ls_job *l, int dirfd, const char *name)
{
	struct ls_entry *e = &l->entries[l->count];
	int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		return;
	}
	if (fstat(fd, &e->st) == 0 && (e->name = strdup(name)) != NULL) {
		e->record_status = ofs_record_get(&l->rio, fd, &e->rec);
		l->count++;
	}
	close(fd);
}

static int ls_compare(const void *a, const void *b)
{
	return strcmp(((const struct ls_entry *)a)->name, ((const struct ls_entry *)b)->name);
}

static void ls_read(struct ls_job *l, DIR *dir)
{
	const struct dirent *e;

	while ((errno = 0, e = readdir(dir)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
			continue;
		}
		if (l->count == l->most) {
			return; /* l->next is where this one begins */
		}
		ls_entry_look(l, dirfd(dir), e->d_name);
		l->next = e->d_off;
	}
	l->status = -errno;
	l->next = 0;
	if (l->from == 0) {
		qsort(l->entries, l->count, sizeof(l->entries[0]), ls_compare);
	}
}

static void ls_file(struct ls_job *l)
{
	const char *slash = strrchr(l->path, '/');
	char *parent = slash != NULL ? strndup(l->path, (size_t)(slash - l->path)) : strdup(".");
	int fd = parent != NULL ? mirror_open_beneath(l->tree_fd, parent,
						  O_PATH | O_DIRECTORY | O_CLOEXEC)
				: -ENOMEM;

	free(parent);
	if (fd < 0) {
		l->status = fd;
		return;
	}
	l->is_file = true;
	ls_entry_look(l, fd, slash != NULL ? slash + 1 : l->path);
	l->status = l->count == 1 ? 0 : -ENOENT;
	close(fd);
}

static void ls_run(struct disk_job *job)
{
	struct ls_job *l = (struct ls_job *)job;
	int fd = mirror_open_beneath(
			l->tree_fd, l->path, O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC);
	struct ofs_record rec;
	DIR *dir;

	if (fd == -ENOTDIR) {
		ls_file(l);
		return;
	}
	if (fd < 0) {
		l->status = fd;
		return;
	}
	l->listed = ofs_record_get(&l->rio, fd, &rec) == 0 && (rec.flags & OFS_REC_LISTED) != 0;
	if (l->from != 0 && lseek(fd, l->from, SEEK_SET) < 0) {
		l->status = -errno;
		close(fd);
		return;
	}
	dir = fdopendir(fd);
	if (dir == NULL) {
		l->status = -errno;
		close(fd);
		return;
	}
	ls_read(l, dir);
	closedir(dir);
}

/* ---- the answer ---- */

/* In S3 as it is here: "same"; S3 has something older, or at another place: "older"; "no"; "?":
 * that is not known just now. */
static const char *ls_in_s3(struct volume *v, const struct row *row, bool known)
{
	if (row == NULL) {
		return known ? "?" : "no";
	}
	if (!row->in_s3) {
		return row->is_dir && row_has_children(row) ? "?" : "no";
	}
	if (!reconcile_is_pending(v->reconcile, row)) {
		return "same";
	}
	return row->etag != NULL || row->is_dir ? "older" : "?"; /* its first PUT is under way */
}

static json_t *ls_entry_json(struct volume *v, const struct ls_entry *e)
{
	struct row *row = e->record_status == 0 ? index_get(v->index, &e->rec.oid) : NULL;
	const char *state = admin_state_name(&e->st, e->record_status, &e->rec);
	bool stub = strcmp(state, "stub") == 0;
	uint64_t here = stub ? recall_bytes_here(v->recalls, e->st.st_ino) : 0;
	int64_t mtime_ns = e->st.st_mtim.tv_sec * NS_PER_S + e->st.st_mtim.tv_nsec;
	json_t *o;

	if (stub && here > 0) {
		state = "partial";
	}
	if (strcmp(state, "resident") == 0 && row != NULL &&
			reconcile_is_pending(v->reconcile, row)) {
		state = "dirty";
	}
	o = json_pack("{s:o, s:s, s:s, s:s, s:b, s:I, s:o}", "name", admin_string(e->name), "type",
			S_ISDIR(e->st.st_mode)	 ? "directory"
			: S_ISREG(e->st.st_mode) ? "file"
						 : "other",
			"state", state, "in_s3", ls_in_s3(v, row, e->record_status == 0), "pinned",
			row != NULL && evict_is_pinned(v->evictor, row), "size",
			(json_int_t)(S_ISREG(e->st.st_mode) ? e->st.st_size : 0), "mtime",
			admin_time(stub && e->rec.mtime_ns != 0 ? e->rec.mtime_ns : mtime_ns));
	if (here > 0) {
		json_object_set_new(o, "here", json_integer((json_int_t)here));
	}
	return o;
}

static void ls_free(struct ls_job *l)
{
	for (unsigned i = 0; i < l->count; i++) {
		free(l->entries[i].name);
	}
	free(l->path);
	free(l);
}

static void ls_done(struct disk_job *job)
{
	struct ls_job *l = (struct ls_job *)job;
	struct admin_cmd *c = l->cmd;
	json_t *list, *o;

	if (l->status == -ENOENT) {
		admin_answer(c, l->status, NULL,
				"%s: not in the mirror of volume %s (a directory nobody has listed "
				"may hold it in S3: objectfsctl refresh)",
				c->path, c->v->name);
		ls_free(l);
		return;
	}
	if (l->status != 0) {
		admin_answer(c, l->status, NULL, "%s: %s%s", c->path, strerror(-l->status),
				l->from != 0 ? " (--from is the \"next\" of an answer)" : "");
		ls_free(l);
		return;
	}
	list = json_array();
	for (unsigned i = 0; i < l->count; i++) {
		json_array_append_new(list, ls_entry_json(c->v, &l->entries[i]));
	}
	o = json_pack("{s:s, s:o, s:b, s:b, s:o}", "volume", c->v->name, "path",
			admin_string(c->path), "listed", l->listed || l->is_file, "sorted",
			l->from == 0 && l->next == 0, "entries", list);
	/* Text: no number of JavaScript holds all of it. */
	json_object_set_new(o, "from", json_sprintf("%lld", (long long)l->from));
	json_object_set_new(o, "next",
			l->next != 0 ? json_sprintf("%lld", (long long)l->next) : json_null());
	admin_answer(c, 0, o, NULL);
	ls_free(l);
}

void admin_ls(struct admin_cmd *c)
{
	const char *limit = words_option(&c->words, "--limit"),
		   *from = words_option(&c->words, "--from");
	unsigned long most = limit != NULL ? strtoul(limit, NULL, 10) : LS_USUAL;
	struct ls_job *l;
	char *end = NULL;

	if (c->v == NULL && c->core->volume_count == 1) {
		c->v = c->core->volumes[0];
	}
	if (c->v == NULL) {
		char *names = volumes_names(c, c->core);

		admin_answer(c, -EINVAL, NULL,
				"ls: of which volume? Say VOLUME:path, or -v VOLUME; there are: "
				"%s",
				names != NULL ? names : "?");
		return;
	}
	if (c->path == NULL) {
		c->path = ".";
	}
	most = most > LS_MOST ? LS_MOST : most;
	l = calloc(1, sizeof(*l) + most * sizeof(l->entries[0]));
	if (l != NULL) {
		l->from = from != NULL ? strtoll(from, &end, 10) : 0;
		l->path = strdup(c->path);
	}
	if (l == NULL || l->path == NULL || (end != NULL && (*end != '\0' || l->from < 0))) {
		admin_answer(c, end != NULL ? -EINVAL : -ENOMEM, NULL,
				end != NULL ? "ls: --from is the \"next\" of an answer before"
					    : "out of memory");
		if (l != NULL) {
			ls_free(l);
		}
		return;
	}
	rings_drain(c->v->rings);
	l->job.what = "ctl ls";
	l->job.run = ls_run;
	l->job.done = ls_done;
	l->cmd = c;
	l->rio = c->v->rio;
	l->tree_fd = c->v->tree_fd;
	l->most = (unsigned)most;
	disk_submit(c->core->disk, DISK_ANY, &l->job);
}
