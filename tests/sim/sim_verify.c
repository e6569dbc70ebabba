/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the store, and the share as a client lists it, against the model, once all has been sent.
 * Way: from the sim programs; what the daemon has to send is flushed, and waited for.
 * Thread: one. Owns: nothing.
 * Holds: what fails here ends the program and names the seed.
 */
#include "sim_world.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/core/rings.h"
#include "cached/mirror/mirror.h"
#include "cached/mirror/objmeta.h"
#include "cached/reconcile/metalog.h"
#include "cached/reconcile/reconcile.h"

void world_verify(struct world *w)
{
	struct sim_object *o;
	unsigned i, found = 0, dirs = 0;
	char key[300];

	for (o = sim_objects(w->sim); o != NULL; o = o->next) {
		size_t len = strlen(o->key);

		if (strncmp(o->key, "p/.objectfs/", 12) == 0) {
			if (strstr(o->key, "/stage/") || strstr(o->key, "/rename/")) {
				fprintf(stderr, "%.*s\n", (int)o->len, (const char *)o->data);
				die(w, "left behind", o->key);
			}
			continue;
		}
		if (o->key[len - 1] == '/') {
			snprintf(key, sizeof(key), "%.*s", (int)(len - 3), o->key + 2);
			for (i = 0; i < w->dir_count && strcmp(key, w->dirs[i]) != 0; i++) {
			}
			if (i == w->dir_count) {
				die(w, "marker of no directory", o->key);
			}
			dirs++;
			continue;
		}
		for (i = 0; i < w->file_count; i++) {
			world_key(w->files[i].path, key);
			if (strcmp(key, o->key) == 0) {
				break;
			}
		}
		if (i == w->file_count) {
			die(w, "object of no file", o->key);
		}
		if (!sim_object_is(o, w->files[i].text)) {
			die(w, "wrong bytes", o->key);
		}
		found++;
	}
	for (i = 0; i < w->file_count && found != w->file_count; i++) {
		world_key(w->files[i].path, key);
		for (o = sim_objects(w->sim); o != NULL && strcmp(o->key, key) != 0; o = o->next) {
		}
		if (o == NULL) {
			die(w, "file without object", key);
		}
	}
	if (dirs != w->dir_count) {
		die(w, "a directory has no marker", "");
	}
}

struct log_read {
	bool done;
	int status;
};

static void on_log_read(int status, const char *message, void *arg)
{
	struct log_read *l = arg;

	(void)message;
	l->status = status;
	l->done = true;
}

static bool log_is_read(void *arg)
{
	return ((struct log_read *)arg)->done;
}

/* What a new disk would have: the newer of what the object says and what the log does. */
static struct snapshot *stored_snapshot(struct world *w, struct metalog *ml, const struct sim_object *o)
{
	struct obj_result r = {.meta = o->meta, .meta_count = o->meta_count};
	const struct metalog_entry *e;
	struct snapshot *newest = NULL;
	struct objmeta m = {0};
	bool damaged;

	objmeta_read(&r, &m, &damaged);
	if (damaged || m.snapshot == NULL) {
		die(w, "no metadata", o->key);
	}
	e = metalog_find(ml, &m.oid, m.meta_gen);
	if (e != NULL && snapshot_unpack(e->packed, e->packed_len, &newest) != 0) {
		die(w, "log entry", o->key);
	}
	if (newest == NULL) {
		newest = m.snapshot;
		m.snapshot = NULL;
	}
	objmeta_clear(&m);
	return newest;
}

/* Write time and rights of the open file, and those that a client has set, are in the store. */
static void verify_metadata(struct world *w, struct metalog *ml, const struct sim_object *o, const struct model_file *f,
		int fd)
{
	struct snapshot *s = stored_snapshot(w, ml, o);
	char here[sizeof(f->rights)] = "", there[sizeof(f->rights)] = "";
	struct ofs_record rec;
	struct stat st;

	if (fstat(fd, &st) != 0 || ofs_record_get(&w->rio, fd, &rec) != 0) {
		die(w, "no record", o->key);
	}
	if (s->mtime_ns != ((rec.flags & OFS_REC_STUB) != 0 ? rec.mtime_ns : timespec_ns(st.st_mtim))) {
		die(w, "another write time in the store", o->key);
	}
	for (unsigned i = 0; i < s->xattr_count; i++) {
		if (strcmp(s->xattrs[i].name, "security.NTACL") == 0) {
			snprintf(there, sizeof(there), "%.*s", (int)s->xattrs[i].len, (const char *)s->xattrs[i].value);
		}
	}
	if (fgetxattr(fd, snapshot_ntacl_name(w->rio.xattr), here, sizeof(here) - 1) < 0) {
		here[0] = '\0';
	}
	if (strcmp(here, f->rights) != 0) {
		die(w, "not the rights that a client has set", o->key);
	}
	if (strcmp(there, here) != 0) {
		fprintf(stderr, "'%s', and here '%s'\n", there, here);
		die(w, "other rights in the store", o->key);
	}
	snapshot_free(&s);
}

/* Every file's metadata are in the store, in its object or in the log, however often that was folded. */
static void world_verify_metadata(struct world *w)
{
	struct metalog *ml = metalog_reader_new(w->v, w->v);
	struct log_read l = {0};
	const struct sim_object *o;
	char key[300];
	int fd;

	metalog_load(ml, on_log_read, &l);
	if (!sim_run_until(w->sim, log_is_read, &l, WORLD_FLUSH_NS) || l.status != 0) {
		die(w, "the log cannot be read", "at last");
	}
	for (unsigned i = 0; i < w->file_count; i++) {
		world_key(w->files[i].path, key);
		o = sim_object(w->sim, key);
		fd = openat(w->tree_fd, w->files[i].path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0) { /* else it was dropped */
			if (o != NULL) {
				verify_metadata(w, ml, o, &w->files[i], fd);
			}
			close(fd);
		}
	}
	world_verify_bases(w, ml);
	talloc_free(ml);
}

static bool drained(void *arg)
{
	return world_is_drained(arg);
}

struct flushed {
	bool done;
	int status;
};

static void on_flushed(int status, json_t *left, void *arg)
{
	struct flushed *f = arg;

	(void)left;
	f->status = status;
	f->done = true;
}

static bool is_flushed(void *arg)
{
	return ((struct flushed *)arg)->done;
}

static void world_flush(struct world *w)
{
	struct flushed f = {0};

	if (!world_wait_ready(w, WORLD_DRAIN_NS)) {
		die(w, "not ready", w->v->state_why);
	}
	rings_settle(w->v->rings); /* and what dead clients left */
	reconcile_flush(w->v->reconcile, NULL, 0, on_flushed, &f);
	if (!sim_run_until(w->sim, is_flushed, &f, WORLD_FLUSH_NS) || f.status != 0) {
		json_t *left = reconcile_pending(w->v->reconcile, 5);

		die(w, f.done ? "the flush has failed" : "the flush does not end", json_dumps(left, 0));
	}
}

void world_settle(struct world *w)
{
	world_flush(w);
	/* trash looks and scans that were still under way */
	sim_run_until(w->sim, NULL, NULL, 60 * NS_PER_S);
	if (!sim_run_until(w->sim, drained, w, WORLD_DRAIN_NS)) {
		die(w, "not drained", "at last");
	}
}

void world_drain(struct world *w)
{
	world_flush(w);
	world_verify(w);
	world_settle(w);
	world_verify(w);
	world_verify_metadata(w);
}

static void on_listed(int status, const char *message, void *arg)
{
	struct flushed *f = arg;

	(void)message;
	f->status = status;
	f->done = true;
}

static bool is_known(struct world *w, const char *path)
{
	for (unsigned i = 0; i < w->dir_count; i++) {
		if (strcmp(w->dirs[i], path) == 0) {
			return true;
		}
	}
	/* A file called like a directory that has gone is called by its plain name now. */
	for (unsigned i = 0; i < w->file_count && world_file(w, path) == NULL; i++) {
		char key[300];

		world_key(w->files[i].path, key);
		if (strcmp(key + 2, path) == 0) {
			snprintf(w->files[i].path, sizeof(w->files[i].path), "%.250s", path);
		}
	}
	return world_file(w, path) != NULL;
}

static void names_of(struct world *w, const char *path, unsigned *found)
{
	struct flushed f = {0};
	struct dirent *de;
	DIR *d;

	mirror_list(w->v->mirror, 0, 1, openat(w->tree_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY), true,
			on_listed, &f);
	if (!sim_run_until(w->sim, is_flushed, &f, WORLD_FLUSH_NS) || f.status != 0) {
		die(w, "cannot be listed", path);
	}
	d = fdopendir(openat(w->tree_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY));
	while (d != NULL && (de = readdir(d)) != NULL) {
		char name[600];

		if (de->d_name[0] == '.') {
			continue;
		}
		snprintf(name, sizeof(name), "%s%s%s", path, *path ? "/" : "", de->d_name);
		if (!is_known(w, name)) {
			die(w, "a name that should not be there", name);
		}
		(*found)++;
		if (world_file(w, name) == NULL) {
			names_of(w, name, found);
		}
	}
	closedir(d);
}

void world_names(struct world *w)
{
	unsigned found = 0;

	names_of(w, "", &found);
	if (found != w->file_count + w->dir_count) {
		die(w, "names are missing", "");
	}
}

void world_no_uploads(struct world *w)
{
	if (sim_uploads(w->sim) > 0) {
		sim_run_until(w->sim, NULL, NULL, w->conf.upload_age_ns + 3600 * NS_PER_S);
	}
	if (sim_uploads(w->sim) > 0) {
		die(w, "left in the store", "an upload in parts");
	}
}
