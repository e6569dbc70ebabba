/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: one name in a directory that is not listed: present, absent or unknown; may it be removed?
 * Way: LOOKUP and RMDIR from the client -> the tree -> the rows -> what is known to be absent -> HEAD and
 *      LIST of one key, at once.
 * Thread: core; the tree is read by mirror_dir.c, stubs are made by mirror_make.c.
 * Owns: struct lookup, struct rmdir until answered.
 * Holds: 1. what is in the tree is present, without a question;
 *        2. where S3 is behind the mirror (pending, moved, trashed) the mirror is the truth;
 *        3. -ENOENT only if both the file and the directory of that name are certainly absent, or the
 *           file has another name here (mirror_name_of).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mirror_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../reconcile/names.h"
#include "../reconcile/reconcile.h"

#define LOOKUP_ROUNDS 3

struct lookup { /* talloc child of the mirror */
	struct mirror *m;
	uint64_t request_id;
	struct mirror_dir *dir;
	char *name, *raw;
	bool beside; /* it can only be the name of a file beside a directory */
	mirror_done done;
	void *arg;
	unsigned rounds;
	uint64_t turn; /* of the directory, before S3 is asked */
	/* the two questions */
	unsigned waiting;
	char *key;         /* of the file */
	struct want *file; /* NULL: its place is busy, so the answer is not its object */
	bool is_dir;
	int status;
	char *message;
};

static bool ask_bad_name(const char *name)
{
	return *name == '\0' || strlen(name) > OFS_NAME_MAX_BYTES || strchr(name, '/') != NULL ||
			strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static void lookup_answer(struct lookup *k, int status, const char *message)
{
	k->done(status, message, k->arg);
	talloc_free(k);
}

/* Certain, for S3 was asked. */
static void lookup_absent(struct lookup *k)
{
	absent_keep(k->m, &k->dir->oid, k->name, k->turn);
	lookup_answer(k, -ENOENT, NULL);
}

static void lookup_located(int status, const char *message, struct mirror_dir *dir, void *arg);

/* Somebody else worked on the name: the tree says what came of it. */
static void lookup_again(struct lookup *k)
{
	int fd = fcntl(k->dir->fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0 || ++k->rounds >= LOOKUP_ROUNDS) {
		if (fd >= 0) {
			close(fd);
		}
		lookup_answer(k, -EIO, "the name keeps changing");
		return;
	}
	TALLOC_FREE(k->dir);
	TALLOC_FREE(k->file);
	TALLOC_FREE(k->raw);
	mirror_locate(k->m, k, fd, k->name, lookup_located, k);
}

static void lookup_made(int status, unsigned omitted, void *arg)
{
	struct lookup *k = arg;

	if (status != 0) {
		lookup_answer(k, status, "the name cannot be made in the mirror");
	} else if (omitted > 0) {
		lookup_answer(k, -EACCES, "its rights cannot be restored in this mirror");
	} else {
		lookup_again(k); /* and finds it */
	}
}

static void lookup_want_done(struct lookup *k, struct want *w)
{
	struct stub *s;

	switch (w->verdict) {
	case WANT_MAKE:
		s = w->stub;
		w->stub = NULL;
		mirror_make(k->m, k->request_id, k->dir, s, lookup_made, k);
		return;
	case WANT_ABSENT:
		lookup_absent(k);
		return;
	case WANT_OMIT:
		lookup_answer(k, -EACCES, w->message);
		return;
	case WANT_UNKNOWN:
		lookup_answer(k, w->status, w->message);
		return;
	case WANT_CHANGE:
	case WANT_LEAVE:
		break;
	}
	lookup_again(k);
}

static void lookup_dir_done(struct want *w)
{
	lookup_want_done(w->arg, w);
}

/* Both answers are in. */
static void lookup_both(struct lookup *k)
{
	struct want *w;
	char *key, *name;

	if (k->status != 0) {
		/* Even if there is a file: a directory would have its name. */
		lookup_answer(k, k->status, k->message);
		return;
	}
	if (!k->is_dir || k->beside) {
		name = mirror_name_of(k->m, k, &k->dir->oid, k->raw, false, k->is_dir);
		if (name == NULL) {
			lookup_answer(k, -ENOMEM, "out of memory");
		} else if (k->file == NULL) {
			lookup_answer(k, -ENOENT, NULL);
		} else if (strcmp(name, k->name) != 0) {
			lookup_absent(k);
		} else {
			lookup_want_done(k, k->file);
		}
		return;
	}
	key = talloc_asprintf(k, "%s/", k->key);
	w = key ? want_new(k, k->m, &k->dir->oid, k->raw, k->name, key, true) : NULL;
	if (w == NULL) {
		lookup_answer(k, -ENOMEM, "out of memory");
		return;
	}
	w->request_id = k->request_id;
	w->done = lookup_dir_done;
	w->arg = k;
	want_start(w);
}

static void lookup_file_done(struct want *w)
{
	struct lookup *k = w->arg;

	if (--k->waiting == 0) {
		lookup_both(k);
	}
}

static void lookup_list_done(int status, const char *message, bool any, void *arg)
{
	struct lookup *k = arg;

	k->is_dir = any;
	k->status = status;
	k->message = status != 0 ? talloc_strdup(k, message ? message : "") : NULL;
	if (--k->waiting == 0) {
		lookup_both(k);
	}
}

static void lookup_ask(struct lookup *k, bool file_busy)
{
	struct volume *v = k->m->v;
	bool too_long = false;
	char *key = index_key(v->index, k, v->prefix, &k->dir->oid, k->raw, true, &too_long);
	const char *from;
	char *prefix;

	if (key == NULL) {
		/* A name that no key can have is absent. */
		lookup_answer(k, too_long ? -ENOENT : -EIO,
				too_long ? NULL : "the directory has no place in S3 that is known");
		return;
	}
	prefix = talloc_strdup(k, key);
	key[strlen(key) - 1] = '\0';
	k->key = key;
	from = redirect_of(v->reconcile, key); /* where its object is; NULL: there */
	file_busy = file_busy || (from == NULL && mirror_is_apart(k->m, key));
	k->file = file_busy ? NULL
			    : want_new(k, k->m, &k->dir->oid, k->raw, k->name, key, false);
	if (prefix == NULL || (k->file == NULL && !file_busy) ||
			(k->file != NULL && from != NULL && want_set_apart(k->file, from) != 0)) {
		lookup_answer(k, -ENOMEM, "out of memory");
		return;
	}
	k->is_dir = false;
	k->status = 0;
	k->waiting = file_busy ? 1 : 2;
	if (k->file != NULL) {
		k->file->request_id = k->request_id;
		k->file->done = lookup_file_done;
		k->file->arg = k;
		want_start(k->file);
	}
	mirror_below(k->m, k->request_id, prefix, lookup_list_done, k);
}

static void lookup_still(void *arg, int status)
{
	struct lookup *k = arg;
	struct volume *v = k->m->v;
	struct row *file, *sub, *live;
	const struct row *dir = index_get(v->index, &k->dir->oid);
	bool file_busy;

	if (status != 0) {
		lookup_answer(k, status, MIRROR_MOVING_TEXT);
		return;
	}
	if (dir == NULL || !dir->in_s3 || name_is_reserved(&k->dir->oid, k->name)) {
		lookup_answer(k, dir == NULL ? -EIO : -ENOENT, NULL);
		return;
	}
	file = mirror_file_row(k->m, &k->dir->oid, k->raw);
	sub = k->beside ? NULL : index_at_s3(v->index, &k->dir->oid, k->raw, true);
	live = index_at_live(v->index, &k->dir->oid, k->name);
	if (live != NULL && (live == file || live == sub) && !row_is_coming(live) &&
			!mirror_place_busy(k->m, &k->dir->oid, k->name, live)) {
		/* its row says here, the tree does not: lost by a power cut */
		index_set_live(v->index, live, ROW_NOT_HERE);
	}
	file_busy = mirror_place_busy(k->m, &k->dir->oid, k->name, file);
	/* Not in the tree, and the tree is newer. Of a file that a client deleted or moved away from this
	 * name: it would have met a directory here. */
	if (mirror_place_busy(k->m, &k->dir->oid, k->name, sub) ||
			(file_busy && (k->beside || file->name == NULL ||
						      !name_is_beside_dir(file->name, k->raw)))) {
		lookup_answer(k, -ENOENT, NULL);
		return;
	}
	lookup_ask(k, file_busy);
}

static void lookup_ready(struct volume *v, void *arg, int status)
{
	struct lookup *k = arg;

	if (status != 0) {
		char *text = mirror_unready(k, v);

		lookup_answer(k, status, text);
		return;
	}
	mirror_when_still(k->m, k, &k->dir->oid, lookup_still, k);
}

static void lookup_located(int status, const char *message, struct mirror_dir *dir, void *arg)
{
	struct lookup *k = arg;
	const struct row *row;

	k->dir = dir;
	if (status != 0) {
		lookup_answer(k, status == -ENOENT ? -EIO : status, message);
		return;
	}
	if (dir->probe_there) {
		lookup_answer(k, 0, NULL);
		return;
	}
	row = index_get(k->m->v->index, &dir->oid);
	if (row != NULL && !row->in_s3) {
		lookup_answer(k, -ENOENT, NULL); /* a new directory: all there is is in it */
		return;
	}
	row = index_at_live(k->m->v->index, &dir->oid, k->name);
	k->raw = row != NULL && row->in_s3 && ofs_oid_equal(&row->s3_parent, &dir->oid)
			? talloc_strdup(k, row->s3_name)
			: name_to_raw(k, k->name, false);
	if (k->raw == NULL) {
		lookup_answer(k, -ENOMEM, "out of memory");
		return;
	}
	if (absent_known(k->m, &dir->oid, k->name)) {
		stats_add(names_absent_known, 1);
		lookup_answer(k, -ENOENT, NULL);
		return;
	}
	k->turn = absent_turn(k->m, &dir->oid);
	k->beside = name_is_beside_dir(k->name, k->raw);
	volume_when_ready(k->m->v, MIRROR_READY_WAIT_NS, lookup_ready, k);
}

void mirror_lookup(struct mirror *m, uint64_t request_id, int dirfd, const char *name,
		mirror_done done, void *arg)
{
	struct lookup *k = talloc_zero(m, struct lookup);

	stats_add(lookups, 1);
	if (k == NULL || (k->name = talloc_strdup(k, name)) == NULL || ask_bad_name(name)) {
		int status = k == NULL || k->name == NULL ? -ENOMEM : -EINVAL;

		talloc_free(k);
		close(dirfd);
		done(status, status == -EINVAL ? "not a name" : "out of memory", arg);
		return;
	}
	k->m = m;
	k->request_id = request_id;
	k->done = done;
	k->arg = arg;
	mirror_locate(m, k, dirfd, name, lookup_located, k);
}

/* ---- RMDIR ---- */

struct rmdir_ask { /* talloc child of the mirror */
	struct mirror *m;
	uint64_t request_id;
	struct mirror_dir *dir; /* the one that is to go */
	char *prefix;
	bool unseen; /* something is called so that the mirror does not have */
	mirror_done done;
	void *arg;
};

static void rmdir_answer(struct rmdir_ask *k, int status, const char *message)
{
	k->done(status, message, k->arg);
	talloc_free(k);
}

/* Does the mirror know that this key is about to go, or to go elsewhere? */
static bool rmdir_ignores(struct rmdir_ask *k, const char *key)
{
	struct index *ix = k->m->v->index;
	struct ofs_oid at = k->dir->oid;
	char *path, *rest;
	bool ignored = false;

	if (strncmp(key, k->prefix, strlen(k->prefix)) != 0 || mirror_is_apart(k->m, key)) {
		return true;
	}
	path = rest = talloc_strdup(k, key + strlen(k->prefix));
	while (rest != NULL && !ignored) {
		const struct row *row = index_below(ix, &at, &rest);

		if (row == NULL) {
			break;
		}
		ignored = row->live == ROW_TRASHED ||
				(row->live == ROW_HERE && !ofs_oid_equal(&row->parent, &at));
		at = row->oid;
	}
	talloc_free(path);
	return ignored;
}

/* What is called so and stands elsewhere: of no client's yet? What is in the mirror the kernel refuses. */
static void rmdir_redirect(void *arg, const char *from, const char *rest)
{
	struct rmdir_ask *k = arg;
	const struct row *row = index_at_s3(k->m->v->index, &OFS_OID_APART,
			from + strlen(k->m->v->prefix), false);

	(void)rest;
	k->unseen |= row == NULL || row->live == ROW_NOT_HERE;
}

static void rmdir_page(struct rmdir_ask *k, const char *token);

static void rmdir_page_done(struct obj_req *req)
{
	struct rmdir_ask *k = req->arg;
	struct obj_result *r = &req->result;
	char *text;
	unsigned i;

	if (r->status != OBJ_OK) {
		int status = r->status == OBJ_NOT_FOUND ? -EIO : mirror_store_error(r->status);

		text = talloc_strdup(k, r->message ? r->message : objstore_status_name(r->status));
		objstore_req_free(&req);
		rmdir_answer(k, status, text);
		return;
	}
	for (i = 0; i < r->entry_count; i++) {
		if (r->entries[i].key != NULL && strcmp(r->entries[i].key, k->prefix) != 0 &&
				!rmdir_ignores(k, r->entries[i].key)) {
			objstore_req_free(&req);
			rmdir_answer(k, -ENOTEMPTY, "the bucket holds more below it");
			return;
		}
	}
	text = r->next_token ? talloc_strdup(k, r->next_token) : NULL;
	objstore_req_free(&req);
	if (text == NULL) {
		rmdir_answer(k, 0, NULL);
		return;
	}
	rmdir_page(k, text);
	talloc_free(text);
}

static void rmdir_page(struct rmdir_ask *k, const char *token)
{
	struct obj_req *req = objstore_req_new(OBJ_LIST, k->prefix);

	if (req == NULL || (token != NULL && (req->token = strdup(token)) == NULL)) {
		objstore_req_free(&req);
		rmdir_answer(k, -ENOMEM, "out of memory");
		return;
	}
	req->prio = OBJ_PRIO_READER;
	req->request_id = k->request_id;
	req->max_keys = token ? 0 : 2;
	req->done = rmdir_page_done;
	req->arg = k;
	objstore_submit(k->m->v->store, req);
}

static void rmdir_still(void *arg, int status)
{
	struct rmdir_ask *k = arg;
	struct volume *v = k->m->v;
	bool too_long = false;

	if (status != 0) {
		rmdir_answer(k, status, MIRROR_MOVING_TEXT);
		return;
	}
	k->prefix = index_key(v->index, k, v->prefix, &k->dir->oid, "", false, &too_long);
	if (k->prefix == NULL) {
		rmdir_answer(k, too_long ? 0 : -EIO,
				too_long ? NULL : "the directory has no place in S3 that is known");
		return;
	}
	redirects_below(v->reconcile, k->prefix, rmdir_redirect, k);
	if (k->unseen) {
		rmdir_answer(k, -ENOTEMPTY, "objects that stay elsewhere are in it");
		return;
	}
	rmdir_page(k, NULL);
}

static void rmdir_ready(struct volume *v, void *arg, int status)
{
	struct rmdir_ask *k = arg;

	if (status != 0) {
		char *text = mirror_unready(k, v);

		rmdir_answer(k, status, text);
		return;
	}
	mirror_when_still(k->m, k, &k->dir->oid, rmdir_still, k);
}

static void rmdir_located(int status, const char *message, struct mirror_dir *dir, void *arg)
{
	struct rmdir_ask *k = arg;
	const struct row *row;

	if (status != 0) {
		rmdir_answer(k, status, message);
		return;
	}
	k->dir = dir;
	row = index_get(k->m->v->index, &dir->oid);
	if (row == NULL || !row->in_s3 || ofs_oid_equal(&dir->oid, &OFS_OID_ROOT)) {
		rmdir_answer(k, row == NULL ? -EIO : row->in_s3 ? -EBUSY : 0, NULL);
		return;
	}
	volume_when_ready(k->m->v, MIRROR_READY_WAIT_NS, rmdir_ready, k);
}

struct rmdir_job {
	struct disk_job job;
	struct rmdir_ask *k;
	int dirfd, fd;
	char name[OFS_NAME_MAX_BYTES + 1];
};

static void rmdir_open(struct disk_job *job)
{
	struct rmdir_job *j = (struct rmdir_job *)job;

	j->fd = openat(j->dirfd, j->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (j->fd < 0) {
		j->fd = -errno;
	}
	close(j->dirfd);
}

static void rmdir_opened(struct disk_job *job)
{
	struct rmdir_job *j = (struct rmdir_job *)job;
	struct rmdir_ask *k = j->k;
	int fd = j->fd;

	free(j);
	if (fd < 0) {
		rmdir_answer(k, fd, "the directory cannot be opened");
		return;
	}
	mirror_locate(k->m, k, fd, NULL, rmdir_located, k);
}

void mirror_rmdir_check(struct mirror *m, uint64_t request_id, int dirfd, const char *name,
		mirror_done done, void *arg)
{
	struct rmdir_ask *k = talloc_zero(m, struct rmdir_ask);
	struct rmdir_job *j = calloc(1, sizeof(*j));

	if (k == NULL || j == NULL || ask_bad_name(name)) {
		int status = k == NULL || j == NULL ? -ENOMEM : -EINVAL;

		talloc_free(k);
		free(j);
		close(dirfd);
		done(status, status == -EINVAL ? "not a name" : "out of memory", arg);
		return;
	}
	k->m = m;
	k->request_id = request_id;
	k->done = done;
	k->arg = arg;
	j->k = k;
	j->dirfd = dirfd;
	strcpy(j->name, name);
	j->job.what = "mirror rmdir";
	j->job.run = rmdir_open;
	j->job.done = rmdir_opened;
	disk_submit(m->v->disk, DISK_ORDER, &j->job);
}
