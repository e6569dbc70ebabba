/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: stubs and directories come into the tree.
 * Way: from mirror_list.c and mirror_ask.c with what mirror_want.c found; jobs work on the tree; the
 *      rows follow.
 * Thread: core; make_run on workers.
 * Owns: the list of stubs; inodes that have no name yet.
 * Holds: 1. an inode gets size, record, rights, times and marker first, its name last (linkat, or
 *           renameat2 from limbo/): a client never sees a half-made one, nor inotify a change of it;
 *        2. a name that is taken is left alone: a client was faster;
 *        3. times of the directory stay, unless a client may be changing them at this moment;
 *        4. a row says that it is here, committed, before its stub has a name: killed after that, the daemon looks.
 *
 *   row: NOT_HERE --mirror_stub_row--> in S3 --make_row_comes--> HERE, inode not known --make_row_done--> HERE
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mirror_private.h"
#include "ntacl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "../core/rings.h"
#include "../reconcile/names.h"
#include "../reconcile/reconcile.h"
#include "../reconcile/whose.h"

struct stub *stub_new(const char *name, const char *raw, bool is_dir)
{
	struct stub *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		return NULL;
	}
	s->name = strdup(name);
	s->raw = strdup(raw);
	s->is_dir = is_dir;
	if (s->name == NULL || s->raw == NULL) {
		stub_free(&s);
	}
	return s;
}

void stub_free(struct stub **s)
{
	if (*s == NULL) {
		return;
	}
	free((*s)->name);
	free((*s)->raw);
	free((*s)->apart);
	free((*s)->etag);
	free((*s)->version_id);
	snapshot_free(&(*s)->snapshot);
	free(*s);
	*s = NULL;
}

void mirror_stub_row(struct mirror *m, const struct ofs_oid *dir, const struct stub *s)
{
	struct index *ix = m->v->index;
	struct row *row = index_add(ix, &s->oid, s->is_dir);

	if (row == NULL) {
		return;
	}
	if (s->apart != NULL) {
		index_set_apart(ix, row, s->apart);
	} else {
		index_set_s3(ix, row, dir, s->raw);
	}
	if (s->has_object) {
		index_set_fence(ix, row, s->etag, s->version_id, &s->wid, s->size, s->s3_mtime_ns);
		index_set_plain(ix, row, s->plain);
	}
	index_set_gens(ix, row, s->data_gen, s->meta_gen);
	index_set_object(ix, row, s->has_object);
}

void mirror_stub_record(const struct stub *s, struct ofs_record *rec)
{
	memset(rec, 0, sizeof(*rec));
	rec->oid = s->oid;
	rec->data_gen = s->data_gen;
	rec->meta_gen = s->meta_gen;
	rec->ctime_clean_ns = mirror_wall_ns();
	if (s->is_dir) {
		rec->flags = OFS_REC_DIR | (s->has_object ? OFS_REC_KNOWN : 0);
		return;
	}
	rec->flags = OFS_REC_KNOWN | (s->size > 0 ? OFS_REC_STUB : 0);
	rec->size = (uint64_t)s->size;
	objmeta_clean(&s->wid, s->etag, &rec->clean);
	rec->mtime_ns = s->mtime_ns;
	rec->atime_ns = s->snapshot != NULL ? s->snapshot->atime_ns : s->mtime_ns;
}

/* ---- worker: one inode ---- */

struct make_acl {
	bool computed;
	int status;
	uint8_t *value; /* NULL: none */
	size_t len;
};

struct make_at { /* where a job works */
	const struct mirror_place *place;
	int dir_fd;
	struct stat dir_st;
	struct make_acl acl[2]; /* for foreign files; for foreign directories */
};

/* The directory's NT ACL, malloc; *value NULL: it has none. 0 or -errno. */
static int make_dir_acl(const struct make_at *at, uint8_t **value, size_t *len)
{
	const char *name = snapshot_ntacl_name(at->place->rio.xattr);
	ssize_t n;

	*value = NULL;
	*len = 0;
	n = fgetxattr(at->dir_fd, name, NULL, 0);
	if (n < 0) {
		return errno == ENODATA || errno == ENOTSUP ? 0 : -errno;
	}
	*value = malloc(XATTR_SIZE_MAX); /* it may grow between the two calls */
	if (*value == NULL) {
		return -ENOMEM;
	}
	n = fgetxattr(at->dir_fd, name, *value, XATTR_SIZE_MAX);
	*len = n > 0 ? (size_t)n : 0;
	return n >= 0 ? 0 : -errno;
}

/* What it hands down, computed once for all files of a batch, and once for all directories. */
static const struct make_acl *make_handed_down(struct make_at *at, bool is_dir)
{
	struct make_acl *acl = &at->acl[is_dir];
	uint8_t *value = NULL;
	size_t len = 0;

	if (!acl->computed) {
		acl->computed = true;
		acl->status = make_dir_acl(at, &value, &len);
		if (acl->status == 0 && value != NULL) {
			acl->status = ntacl_inherit(value, len, is_dir, &acl->value, &acl->len);
		}
		free(value);
	}
	return acl;
}

/* A foreign object has no rights of its own: it gets what a file made here by a client would get. */
static int make_inherited_acl(struct make_at *at, int fd, struct stub *s)
{
	const struct make_acl *acl = make_handed_down(at, s->is_dir);

	s->no_rights = acl->status != 0;
	if (acl->status != 0 || acl->value == NULL) {
		return acl->status;
	}
	return fsetxattr(fd, snapshot_ntacl_name(at->place->rio.xattr), acl->value, acl->len, 0) == 0
			? 0 : -errno;
}

/* Rights and times of an inode without a name. Foreign objects belong to who owns the directory. */
static int make_rights(struct make_at *at, int fd, struct stub *s)
{
	mode_t mode = s->is_dir ? 0777 : 0666;
	int ret;

	if (s->snapshot != NULL) {
		return snapshot_apply(fd, at->place->rio.xattr, s->snapshot);
	}
	if (fchown(fd, at->dir_st.st_uid, at->dir_st.st_gid) != 0 && errno != EPERM) {
		return -errno;
	}
	if (fchmod(fd, mode) != 0) {
		return -errno;
	}
	ret = make_inherited_acl(at, fd, s);
	if (ret == 0 && s->read_only) {
		ret = snapshot_read_only_set(fd);
	}
	if (ret != 0) {
		return ret;
	}
	return s->mtime_ns != 0 ? snapshot_apply_times(fd, s->mtime_ns, s->mtime_ns) : 0;
}

static int make_fill(struct make_at *at, int fd, struct stub *s)
{
	struct ofs_record rec;
	struct stat st;
	int ret;

	if (!s->is_dir && ftruncate(fd, s->size) != 0) {
		return -errno;
	}
	ret = make_rights(at, fd, s);
	if (ret != 0) {
		return ret;
	}
	mirror_stub_record(s, &rec);
	ret = ofs_record_set(&at->place->rio, fd, &rec);
	if (ret == 0 && (rec.flags & OFS_REC_STUB) != 0) {
		ret = mirror_marker_set(at->place->guard, fd, true);
	}
	if (ret == 0 && fstat(fd, &st) != 0) {
		ret = -errno;
	}
	if (ret == 0) {
		s->ino = st.st_ino;
	}
	return ret;
}

static void make_temp_name(const struct mirror_place *p, char name[64])
{
	struct ofs_oid id;
	char hex[OFS_OID_HEX_BYTES];

	clock_random(p->clock, &id, sizeof(id));
	ofs_oid_hex(&id, hex);
	snprintf(name, 64, "new.%s.%.24s", p->token, hex);
}

/* From limbo/ into the directory, or away with it. */
static int make_move_in(const struct make_at *at, const char *temp, const struct stub *s)
{
	int ret;

	if (renameat2(at->place->limbo_fd, temp, at->dir_fd, s->name, RENAME_NOREPLACE) == 0) {
		return 0;
	}
	ret = -errno;
	unlinkat(at->place->limbo_fd, temp, s->is_dir ? AT_REMOVEDIR : 0);
	return ret;
}

/* File systems without O_TMPFILE, and every directory: made in limbo/. */
static int make_in_limbo(struct make_at *at, struct stub *s)
{
	int limbo = at->place->limbo_fd, fd, ret;
	char temp[64];

	make_temp_name(at->place, temp);
	if (s->is_dir) {
		if (mkdirat(limbo, temp, 0700) != 0) {
			s->fatal = true;
			return -errno;
		}
		fd = openat(limbo, temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	} else {
		fd = openat(limbo, temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	}
	if (fd < 0) {
		ret = -errno;
		s->fatal = true;
		if (s->is_dir) {
			unlinkat(limbo, temp, AT_REMOVEDIR);
		}
		return ret;
	}
	ret = make_fill(at, fd, s);
	close(fd);
	if (ret != 0) {
		unlinkat(limbo, temp, s->is_dir ? AT_REMOVEDIR : 0);
		return ret;
	}
	return make_move_in(at, temp, s);
}

static int make_file(struct make_at *at, struct stub *s)
{
	char link[32];
	int fd, ret;

	fd = openat(at->dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0) {
		if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL) {
			return make_in_limbo(at, s);
		}
		s->fatal = true;
		return -errno;
	}
	ret = make_fill(at, fd, s);
	if (ret == 0) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		if (linkat(AT_FDCWD, link, at->dir_fd, s->name, AT_SYMLINK_FOLLOW) != 0) {
			ret = -errno;
		}
	}
	close(fd);
	return ret;
}

/* A file whose row was lost may be here under the other of its two names (mirror_name_of). 0: it has
 * the right one now; -ENOENT: it is not here. */
static int make_of_other_name(const struct make_at *at, struct stub *s)
{
	char *plain = name_from_raw(NULL, s->raw), *other;
	int ret = -ENOMEM;

	other = plain != NULL && strcmp(plain, s->name) == 0 ? name_from_raw_beside_dir(NULL, s->raw)
							     : talloc_strdup(NULL, plain);
	if (other != NULL) {
		ret = mirror_rename_one(at->place, at->dir_fd, other, s->name, &s->oid, &s->ino);
	}
	talloc_free(other);
	talloc_free(plain);
	return ret;
}

/* Something has the name: the same file, made by a lookup at the same time, or before a kill took its row? Then
 * its record says of which version it is. */
static void make_met(struct make_at *at, struct stub *s)
{
	struct ofs_clean clean;
	struct stat st;

	if (ofs_record_get_at(&at->place->rio, at->dir_fd, s->name, &s->found) != 0 ||
			!ofs_oid_equal(&s->found.oid, &s->oid) ||
			fstatat(at->dir_fd, s->name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		return;
	}
	objmeta_clean(&s->wid, s->etag, &clean);
	s->status = 0;
	s->ino = st.st_ino;
	s->met = true;
	s->other = !s->is_dir && s->found.clean.fence != clean.fence;
}

static void make_one(struct make_at *at, struct stub *s)
{
	s->status = s->is_dir ? -ENOENT : make_of_other_name(at, s);
	if (s->status == -ENOENT) {
		s->status = s->is_dir ? make_in_limbo(at, s) : make_file(at, s);
		s->appeared = s->status == 0;
	}
	if (s->status == -ENOENT || s->status == -EIO || s->status == -EROFS ||
			s->status == -EDQUOT || s->status == -EMFILE || s->status == -ENFILE) {
		s->fatal = true;
	}
	if (s->status == -EEXIST) {
		make_met(at, s);
	}
}

/* ---- a batch of new names ---- */

struct make_job {
	struct disk_job job;
	struct mirror *m;
	uint64_t request_id;
	struct mirror_dir *seen; /* core only */
	struct mirror_target dir;
	struct stub *list;
	int status;
	bool others; /* core only: files of other versions were met */
	void (*done)(int status, unsigned omitted, void *arg);
	void *arg;
};

static void make_run(struct disk_job *job)
{
	struct make_job *j = (struct make_job *)job;
	struct make_at at = {.place = &j->dir.place, .dir_fd = j->dir.fd};
	struct stub *s;

	j->status = mirror_target_check(&j->dir);
	if (j->status == 0 && fstat(j->dir.fd, &at.dir_st) != 0) {
		j->status = -errno;
	}
	if (j->status != 0) {
		return;
	}
	for (s = j->list; s != NULL; s = s->next) {
		make_one(&at, s);
	}
	free(at.acl[0].value);
	free(at.acl[1].value);
	/* Batches run side by side: each puts back what was there before the first. */
	mirror_target_keep_times(&j->dir);
}

/* Perhaps it was changed here, and nobody knows. Of another version than the row was given, it is what its record says,
 * and the next listing finds the change. */
static void make_row_met(struct make_job *j, const struct stub *s, struct row *row)
{
	struct volume *v = j->m->v;

	if (s->other) {
		whose_lost(v->index, row, &s->found.clean);
		index_set_gens(v->index, row, s->found.data_gen, s->found.meta_gen);
		j->others = true;
	}
	if (v->reconcile != NULL) {
		reconcile_found(v->reconcile, &j->dir.oid, s->name);
	}
}

static void make_row_comes(struct make_job *j, const struct stub *s)
{
	struct index *ix = j->m->v->index;
	struct row *row = index_get(ix, &s->oid);

	if (row != NULL && row->live == ROW_NOT_HERE && index_at_live(ix, &j->dir.oid, s->name) == NULL) {
		index_set_here(ix, row, &j->dir.oid, s->name, ROW_INO_UNKNOWN);
	}
}

static void make_row_done(struct make_job *j, const struct stub *s)
{
	struct index *ix = j->m->v->index;
	struct row *row = index_get(ix, &s->oid);
	struct row *live = index_at_live(ix, &j->dir.oid, s->name);

	if (row == NULL) {
		return;
	}
	if (row_is_coming(row) && row == live && s->status != 0) {
		index_set_live(ix, row, ROW_NOT_HERE);
	}
	if (s->status == 0) {
		if ((row->live == ROW_NOT_HERE && live == NULL) || (row_is_coming(row) && row == live)) {
			index_set_here(ix, row, &j->dir.oid, s->name, s->ino);
			if (s->met) {
				make_row_met(j, s, row);
			}
		}
	} else if (s->status == -EEXIST && row->live == ROW_NOT_HERE) {
		/* Somebody's own file has the name: it must not inherit the object's fence. */
		index_clear_s3(ix, row);
		mirror_forget(j->m, row);
	}
}

static void make_look_again(struct make_job *j)
{
	const struct row *dir = j->others ? index_get(j->m->v->index, &j->dir.oid) : NULL;
	char *path = dir != NULL ? index_path(j->m->v->index, NULL, dir) : NULL;

	if (path != NULL) {
		mirror_relist(j->m, path);
	}
	talloc_free(path);
}

static const char *make_hint(const struct stub *s)
{
	if (s->fatal) {
		return "";
	}
	if (s->no_rights) {
		return " (the NT ACL of its directory cannot be read: set it anew; not shown)";
	}
	return s->snapshot != NULL ? " (its rights or attributes do not fit here; not shown)" : "";
}

static void make_done(struct disk_job *job)
{
	struct make_job *j = (struct make_job *)job;
	unsigned omitted = 0;
	struct stub *s;

	while ((s = j->list) != NULL) {
		j->list = s->next;
		if (j->status != 0) {
			s->status = j->status;
			s->fatal = true;
		}
		make_row_done(j, s);
		if (s->status == 0) {
			stats_add(stubs_made, s->is_dir ? 0 : 1);
			if (s->appeared) {
				mirror_dir_news(j->seen, OFS_WIRE_NOTIFY_ADDED, s->name, s->is_dir);
			}
			if (strcmp(s->name, s->raw) != 0) {
				bool beside = !s->is_dir && name_is_beside_dir(s->name, s->raw);

				stats_add(files_beside, beside);
				stats_add(names_escaped, !beside);
			}
		} else if (s->status != -EEXIST) {
			omitted++;
			if (s->fatal) {
				j->status = s->status;
			}
			log_line(LOG_LVL_WARNING, "mirror", j->request_id,
					"%s cannot be made in the mirror: %s%s", s->name,
					strerror(-s->status),
					make_hint(s));
		}
		stub_free(&s);
	}
	make_look_again(j);
	close(j->dir.fd);
	j->done(j->status, omitted, j->arg);
	free(j);
}

/* A stub that can be renamed must be known by its object: the rows first. Else a kill between the
 * two, and a rename after it, would leave a stub whose object nobody can find; or, if the object goes, a name that no
 * listing takes away. */
static void make_committed(int status, void *arg)
{
	struct make_job *j = arg;

	if (status != 0) {
		j->status = status;
		make_done(&j->job);
		return;
	}
	disk_submit(j->m->v->disk, DISK_ANY, &j->job);
}

void mirror_make(struct mirror *m, uint64_t request_id, struct mirror_dir *dir, struct stub *list,
		void (*done)(int status, unsigned omitted, void *arg), void *arg)
{
	struct make_job *j = calloc(1, sizeof(*j));
	struct stub *s;

	if (j == NULL || mirror_target_open(m, dir, &j->dir) != 0) {
		free(j);
		while ((s = list) != NULL) {
			list = s->next;
			stub_free(&s);
		}
		done(-ENOMEM, 0, arg);
		return;
	}
	j->m = m;
	j->request_id = request_id;
	j->seen = dir;
	j->list = list;
	j->done = done;
	j->arg = arg;
	j->job.what = "mirror make";
	j->job.run = make_run;
	j->job.done = make_done;
	for (s = list; s != NULL; s = s->next) {
		make_row_comes(j, s);
	}
	index_commit(m->v->index, make_committed, j);
}
