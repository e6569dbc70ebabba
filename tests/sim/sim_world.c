/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the world of sim_world.h: a daemon on simulated doors, a module's traces in a scratch tree, a model.
 * Way: from the sim programs; into the core's rooms.
 * Thread: one.
 * Owns: the scratch directory, the volume, the ring.
 * Holds: what fails here ends the program and names the seed.
 */
#include "sim_world.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/core/rings.h"
#include "cached/core/volrec.h"
#include "cached/mirror/mirror.h"
#include "cached/reconcile/metalog.h"
#include "cached/evict/evict.h"
#include "cached/recall/recall.h"
#include "cached/reconcile/reconcile.h"
#include "tests/lib/scratch.h"

#define DRAIN_NS (4 * 3600 * NS_PER_S)

void die(struct world *w, const char *what, const char *detail)
{
	fprintf(stderr, "sim_core: seed %llu: %s: %s\n", (unsigned long long)w->seed, what, detail);
	exit(1);
}

/* ---- the daemon's life ---- */

static void trace(struct world *w, const char *what, const char *path, const char *detail)
{
	sim_note(w->sim, what, path);
	log_debug("module", "%s %s %s", what, path, detail);
}

static void on_adopted(int status, const char *message, void *arg)
{
	struct world *w = arg;

	if (status != 0) {
		/* The doors are faulty on purpose: again, as the daemon does. */
		reconcile_adopt(w->v, on_adopted, w);
		return;
	}
	(void)message;
	w->v->state = VOLUME_READY;
	reconcile_start(w->v->reconcile);
	evictor_start(w->v->evictor);
}

static void on_log(int status, const char *message, void *arg)
{
	struct world *w = arg;

	if (status == -EBADMSG) {
		die(w, "metadata log", message ? message : "damaged");
	}
	if (status != 0) {
		metalog_load(w->v->metalog, on_log, w);
		return;
	}
	reconcile_adopt(w->v, on_adopted, w);
}

static void on_record(int status, const char *message, void *arg)
{
	struct world *w = arg;

	if (status == -ESTALE || status == -EPROTONOSUPPORT) {
		die(w, "volume record", message ? message : "?");
	}
	if (status != 0) {
		volrec_open(w->v, on_record, w);
		return;
	}
	metalog_load(w->v->metalog, on_log, w);
}

void daemon_start(struct world *w)
{
	struct volume *v = talloc_zero(NULL, struct volume);
	char path[128], *error = NULL;
	struct ofs_record root;
	bool fresh;

	w->v = v;
	v->root_known = ofs_record_get(&w->rio, w->tree_fd, &root) == 0 &&
			(root.flags & OFS_REC_KNOWN) != 0;
	v->name = "sim";
	v->conf = &w->conf;
	v->clock = sim_clock(w->sim);
	v->disk = sim_disk(w->sim);
	v->coord = sim_coord(w->sim);
	v->store = sim_store(w->sim, v);
	v->rio = w->rio;
	v->path = w->root;
	v->path_fd = w->path_fd;
	v->tree_fd = w->tree_fd;
	v->trash_fd = w->trash_fd;
	v->limbo_fd = w->limbo_fd;
	v->shm = w->shm;
	v->prefix = "p/";
	v->state_why = talloc_strdup(v, "starting");
	snprintf(v->node_id, sizeof(v->node_id), "00112233445566778899aabbccddeeff");
	snprintf(path, sizeof(path), "%s/index.db", w->root);
	v->index = index_open(v, v->disk, v->clock, path, &fresh, &error);
	if (v->index == NULL) {
		die(w, "index", error);
	}
	v->rings = rings_new(v, v, w->root);
	v->metalog = metalog_new(v, v);
	v->mirror = mirror_new(v, v);
	v->recalls = recalls_new(v, v);
	v->reconcile = reconcile_new(v, v, fresh);
	v->evictor = evictor_new(v, v);
	volrec_open(v, on_record, w);
}

/* Closing an index writes what is left; a killed daemon does not. Its file and log as they are now. */
static void index_files(struct world *w, const char *from, const char *to)
{
	static const char *const tails[] = {"", "-wal"};
	unsigned i;

	for (i = 0; i < 2; i++) {
		char source[64], target[64];
		int in, out;
		off_t at = 0;
		struct stat st;

		snprintf(source, sizeof(source), "%s%s", from, tails[i]);
		snprintf(target, sizeof(target), "%s%s", to, tails[i]);
		unlinkat(w->path_fd, target, 0);
		in = openat(w->path_fd, source, O_RDONLY);
		if (in < 0) {
			continue;
		}
		out = openat(w->path_fd, target, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		if (fstat(in, &st) != 0 || out < 0) {
			die(w, target, strerror(errno));
		}
		while (at < st.st_size && sendfile(out, in, &at, (size_t)(st.st_size - at)) > 0) {
		}
		if (at < st.st_size) {
			die(w, target, strerror(errno));
		}
		close(in);
		close(out);
	}
}

void daemon_kill(struct world *w)
{
	struct volume *v = w->v;

	trace(w, "daemon killed", "", "");
	sim_crash(w->sim);
	TALLOC_FREE(v->reconcile);
	TALLOC_FREE(v->recalls);
	TALLOC_FREE(v->mirror);
	TALLOC_FREE(v->metalog);
	TALLOC_FREE(v->rings);
	index_files(w, "index.db", "index.killed");
	talloc_free(v->index);
	index_files(w, "index.killed", "index.db");
	talloc_free(v);
	w->v = NULL;
}

/* ---- the simulated module ---- */

void client_start(struct world *w)
{
	int fd = rings_add(w->v->rings, 1);

	if (fd < 0 || ofs_ring_writer_init(&w->ring, fd) != 0) {
		die(w, "ring", strerror(errno));
	}
	w->dying = false;
}

void client_kill(struct world *w)
{
	trace(w, "client killed", "", "");
	ofs_ring_writer_fini(&w->ring); /* as the kernel does: the lock goes, the file stays */
}

void client_lost(struct world *w)
{
	char path[128];

	client_kill(w);
	snprintf(path, sizeof(path), "%s/sim.rings", w->root);
	scratch_remove(path);
}

/* Before a change in the directory of `path`; inflight[slot] says so until the hint is out. */
static void change_begin(struct world *w, const char *path, unsigned slot)
{
	char p[256], *slash;
	bool first = true;

	snprintf(p, sizeof(p), "%s", path);
	for (;;) {
		struct ofs_record rec;
		struct stat st;
		int fd;

		slash = strrchr(p, '/');
		if (slash != NULL) {
			*slash = '\0';
		}
		fd = openat(w->tree_fd, slash ? p : ".", O_PATH | O_DIRECTORY);
		if (fd < 0 || fstat(fd, &st) != 0 || ofs_record_get(&w->rio, fd, &rec) != 0) {
			die(w, "mark", p);
		}
		if (first) {
			atomic_store(&w->ring.head->inflight[slot], ofs_shm_stripe_of(st.st_ino) + 1);
			first = false;
		}
		atomic_fetch_add(&w->shm->stripe[ofs_shm_stripe_of(st.st_ino)].changes, 1);
		if (!(rec.flags & OFS_REC_MARKED)) {
			rec.flags |= OFS_REC_MARKED;
			rec.meta_gen++;
			ofs_record_set(&w->rio, fd, &rec);
		}
		close(fd);
		if (slash == NULL) {
			return;
		}
	}
}

static void fill_parent(struct world *w, const char *path, struct ofs_oid *parent, char *name)
{
	const char *slash = strrchr(path, '/');
	char dir[256];
	struct ofs_record rec;
	int fd;

	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	fd = openat(w->tree_fd, dir, O_PATH | O_DIRECTORY);
	if (fd < 0 || ofs_record_get(&w->rio, fd, &rec) != 0) {
		die(w, "parent", path);
	}
	close(fd);
	*parent = rec.oid;
	snprintf(name, OFS_NAME_MAX_BYTES + 1, "%s", slash ? slash + 1 : path);
}

static void hint_send(struct world *w, struct ofs_hint *h)
{
	if (w->dying) {
		client_kill(w);
		return;
	}
	ofs_ring_write(&w->ring, h, 0);
	atomic_store(&w->ring.head->inflight[0], 0);
	atomic_store(&w->ring.head->inflight[1], 0);
	if (w->v != NULL) {
		rings_drain(w->v->rings);
	}
}

static void hint(struct world *w, int kind, const char *path, const struct ofs_record *rec)
{
	struct ofs_hint h = {.kind = kind, .is_dir = (rec->flags & OFS_REC_DIR) != 0, .oid = rec->oid};

	fill_parent(w, path, &h.parent, h.name);
	hint_send(w, &h);
}

static void on_evicted(void *arg, int status)
{
	(void)arg;
	(void)status;
}

/* ---- a stub's way to its bytes, or away from them ---- */

struct stub_ask {
	bool done;
	int status;
	uint64_t open_id;
};

static void on_stub_opened(int status, const char *message, uint64_t open_id, uint64_t size, int map_fd,
		void *arg)
{
	struct stub_ask *a = arg;

	(void)message;
	(void)size;
	if (map_fd >= 0) {
		close(map_fd);
	}
	a->status = status;
	a->open_id = open_id;
	a->done = true;
}

static void on_stub_done(int status, const char *message, void *arg)
{
	struct stub_ask *a = arg;

	(void)message;
	a->status = status;
	a->done = true;
}

static bool stub_answered(void *arg)
{
	return ((struct stub_ask *)arg)->done;
}

static void stub_wait(struct world *w, struct stub_ask *a, const char *path)
{
	if (!sim_run_until(w->sim, stub_answered, a, 600 * NS_PER_S)) {
		die(w, path, "no answer about a stub");
	}
}

static bool is_stub(struct world *w, int fd)
{
	struct ofs_record rec;

	return ofs_record_get(&w->rio, fd, &rec) == 0 && (rec.flags & OFS_REC_STUB) != 0;
}

/* Whole and plain, or empty and plain. 0, or what the daemon says. */
static int stub_make_plain(struct world *w, int fd, const char *path, bool empty)
{
	struct stub_ask a = {0};

	recall_open(w->v->recalls, 0, RECALL_CLIENT_OWN, fcntl(fd, F_DUPFD_CLOEXEC, 0), on_stub_opened, &a);
	stub_wait(w, &a, path);
	if (a.status == 0 && a.open_id != 0) {
		a.done = false;
		if (empty) {
			recall_discard(w->v->recalls, 0, a.open_id, on_stub_done, &a);
		} else {
			recall_fetch(w->v->recalls, 0, a.open_id, 0, 1, true, on_stub_done, &a);
		}
		stub_wait(w, &a, path);
		recall_release(w->v->recalls, a.open_id);
	}
	if (a.status == 0 && is_stub(w, fd)) {
		die(w, path, "still a stub");
	}
	return a.status;
}

/* A lease may be being broken: the daemon's signal handler, by hand. */
static int client_open(struct world *w, const char *path, int flags)
{
	int fd, i;

	do {
		fd = openat(w->tree_fd, path, flags | O_NONBLOCK | O_CLOEXEC, 0666);
		for (i = 3; fd < 0 && errno == EWOULDBLOCK && w->v != NULL && i < 256; i++) {
			if (fcntl(i, F_GETLEASE) == F_UNLCK) {
				reconcile_lease_broken(w->v->reconcile, i);
			}
			errno = EWOULDBLOCK;
		}
	} while (fd < 0 && errno == EWOULDBLOCK);
	if (fd < 0) {
		die(w, path, strerror(errno));
	}
	return fd;
}

void client_read(struct world *w, const char *path, bool must)
{
	struct model_file *f = world_file(w, path);
	int fd = client_open(w, path, O_RDONLY);
	char text[sizeof(f->text)];
	ssize_t n;

	trace(w, "read", path, "");
	if (is_stub(w, fd) && (w->v == NULL || stub_make_plain(w, fd, path, false) != 0)) {
		close(fd);
		if (must) {
			die(w, path, "cannot be read");
		}
		return;
	}
	n = pread(fd, text, sizeof(text), 0);
	if (n != (ssize_t)strlen(f->text) || memcmp(text, f->text, (size_t)n) != 0) {
		die(w, path, "other bytes were read");
	}
	close(fd);
}

void client_evict(struct world *w, const char *path)
{
	struct ofs_record rec;

	trace(w, "evict", path, "");
	if (w->v != NULL && ofs_record_get_at(&w->rio, w->tree_fd, path, &rec) == 0) {
		evict_file(w->v->evictor, &rec.oid, on_evicted, w);
	}
}

static void on_dropped(void *arg, int status, uint64_t count)
{
	(void)arg;
	(void)status;
	(void)count;
}

void client_drop(struct world *w, const char *path)
{
	struct ofs_record rec;
	unsigned i;

	if (w->v == NULL) {
		return;
	}
	for (i = 0; i < w->file_count; i++) {
		const char *slash = strrchr(w->files[i].path, '/');
		size_t len = slash ? (size_t)(slash - w->files[i].path) : 0;

		if (strlen(path) == len && strncmp(w->files[i].path, path, len) == 0) {
			client_evict(w, w->files[i].path);
		}
	}
	sim_run_until(w->sim, NULL, NULL, 20 * NS_PER_S);
	trace(w, "drop", path, "");
	if (ofs_record_get_at(&w->rio, w->tree_fd, *path ? path : ".", &rec) == 0) {
		evict_drop(w->v->evictor, &rec.oid, INT64_MAX, on_dropped, w);
	}
}

static bool client_has(const struct world *w, const char *path)
{
	struct stat st;

	return fstatat(w->tree_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int client_look_up(struct world *w, const char *path)
{
	const char *slash = strrchr(path, '/');
	struct stub_ask a = {0};
	char dir[256];

	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	trace(w, "look up", path, "");
	mirror_lookup(w->v->mirror, 0, openat(w->tree_fd, dir, O_RDONLY | O_DIRECTORY),
			slash ? slash + 1 : path, on_stub_done, &a);
	stub_wait(w, &a, path);
	return a.status;
}

/* A file called like a directory that has gone comes back under its plain name. */
static void client_plain_name(struct world *w, struct model_file *f)
{
	char plain[300];

	world_key(f->path, plain);
	if (strcmp(plain + 2, f->path) != 0 && client_look_up(w, plain + 2) == 0) {
		snprintf(f->path, sizeof(f->path), "%.250s", plain + 2);
	}
}

bool client_find(struct world *w)
{
	unsigned i, tries;

	for (i = 0; i < w->file_count; i++) {
		struct model_file *f = &w->files[i];

		for (tries = 0; !client_has(w, f->path); tries++) {
			if (w->v == NULL) {
				return false;
			}
			if (tries == 50) {
				die(w, f->path, "was dropped, and cannot be found");
			}
			if (client_look_up(w, f->path) == -ENOENT) {
				client_plain_name(w, f);
			}
		}
	}
	return true;
}

static void module_write(struct world *w, const char *path, const char *text, bool create)
{
	const char *slash = strrchr(path, '/');
	struct ofs_record rec = {0};
	char said[300];
	int fd;

	/* Now and then the hints have a name that the file does not have any more. */
	snprintf(said, sizeof(said), "%s", path);
	if (!create && w->serial % 4 == 1) {
		snprintf(said, sizeof(said), "%.*sold name", slash ? (int)(slash + 1 - path) : 0, path);
	}
	trace(w, create ? "create" : "write", path, text);
	change_begin(w, path, 0);
	fd = client_open(w, path, O_RDWR | (create ? O_CREAT | O_EXCL : 0));
	if (is_stub(w, fd) && stub_make_plain(w, fd, path, true) != 0) {
		die(w, path, "cannot be emptied");
	}
	if (create) {
		clock_random(sim_clock(w->sim), &rec.oid, sizeof(rec.oid));
		rec.flags = OFS_REC_META_DIRTY;
	} else if (ofs_record_get(&w->rio, fd, &rec) != 0) {
		die(w, path, "no record");
	}
	rec.flags |= OFS_REC_DATA_DIRTY;
	rec.data_gen++;
	ofs_record_set(&w->rio, fd, &rec);
	hint(w, create ? OFS_HINT_CREATED : OFS_HINT_DIRTY, said, &rec);
	if (ftruncate(fd, 0) != 0 || pwrite(fd, text, strlen(text), 0) != (ssize_t)strlen(text)) {
		die(w, path, "write");
	}
	close(fd);
	hint(w, OFS_HINT_CLOSED, said, &rec);
}

static void module_trash(struct world *w, const char *path, struct ofs_record *rec)
{
	char name[64] = "f.";

	if (ofs_record_get_at(&w->rio, w->tree_fd, path, rec) != 0) {
		die(w, path, "no record");
	}
	ofs_oid_hex(&rec->oid, name + 2);
	if ((rec->flags & OFS_REC_KNOWN) && linkat(w->tree_fd, path, w->trash_fd, name, 0) != 0) {
		die(w, path, "trash");
	}
}

static void model_remove(struct world *w, const char *path)
{
	struct model_file *f = world_file(w, path);

	if (f != NULL) {
		*f = w->files[--w->file_count];
	}
}

void client_create(struct world *w, const char *path, const char *text)
{
	struct model_file *f = &w->files[w->file_count++];

	snprintf(f->path, sizeof(f->path), "%s", path);
	snprintf(f->text, sizeof(f->text), "%s", text);
	module_write(w, path, text, true);
}

void client_write(struct world *w, const char *path, const char *text)
{
	struct model_file *f = world_file(w, path);
	struct ofs_record rec;

	if (w->v == NULL && ofs_record_get_at(&w->rio, w->tree_fd, path, &rec) == 0 &&
			(rec.flags & OFS_REC_STUB) != 0) {
		return; /* the client would wait for the daemon */
	}
	snprintf(f->text, sizeof(f->text), "%s", text);
	module_write(w, path, text, false);
}

void client_unlink(struct world *w, const char *path)
{
	struct ofs_record rec;

	trace(w, "unlink", path, "");
	change_begin(w, path, 0);
	module_trash(w, path, &rec);
	if (unlinkat(w->tree_fd, path, 0) != 0) {
		die(w, path, "unlink");
	}
	model_remove(w, path);
	hint(w, OFS_HINT_UNLINKED, path, &rec);
}

void client_mkdir(struct world *w, const char *path)
{
	struct ofs_record rec = {.flags = OFS_REC_DIR | OFS_REC_LISTED | OFS_REC_META_DIRTY};
	int fd;

	trace(w, "mkdir", path, "");
	change_begin(w, path, 0);
	if (mkdirat(w->tree_fd, path, 0777) != 0) {
		die(w, path, "mkdir");
	}
	fd = openat(w->tree_fd, path, O_RDONLY | O_DIRECTORY);
	clock_random(sim_clock(w->sim), &rec.oid, sizeof(rec.oid));
	rec.meta_gen = 1;
	ofs_record_set(&w->rio, fd, &rec);
	close(fd);
	snprintf(w->dirs[w->dir_count++], 256, "%s", path);
	hint(w, OFS_HINT_MKDIR, path, &rec);
}

void client_rmdir(struct world *w, const char *path)
{
	struct ofs_record rec;
	char name[64] = "d.";
	unsigned i;
	int fd;

	trace(w, "rmdir", path, "");
	change_begin(w, path, 0);
	if (ofs_record_get_at(&w->rio, w->tree_fd, path, &rec) != 0) {
		die(w, path, "no record");
	}
	ofs_oid_hex(&rec.oid, name + 2);
	fd = rec.flags & OFS_REC_KNOWN ? openat(w->trash_fd, name, O_CREAT | O_WRONLY, 0600) : -1;
	if (fd >= 0) {
		close(fd);
	}
	if (unlinkat(w->tree_fd, path, AT_REMOVEDIR) != 0) {
		die(w, path, strerror(errno));
	}
	for (i = 0; i < w->dir_count && strcmp(w->dirs[i], path) != 0; i++) {
	}
	memmove(w->dirs[i], w->dirs[--w->dir_count], sizeof(w->dirs[i]));
	hint(w, OFS_HINT_RMDIR, path, &rec);
}

static void rename_prefix(char *path, const char *from, const char *to)
{
	char rest[256];
	size_t n = strlen(from);

	if (strncmp(path, from, n) == 0 && (path[n] == '/' || path[n] == '\0')) {
		snprintf(rest, sizeof(rest), "%s", path + n);
		snprintf(path, 256, "%.120s%.120s", to, rest);
	}
}

static void model_rename(struct world *w, const char *from, const char *to)
{
	unsigned i;

	model_remove(w, to);
	for (i = 0; i < w->file_count; i++) {
		rename_prefix(w->files[i].path, from, to);
	}
	for (i = 0; i < w->dir_count; i++) {
		rename_prefix(w->dirs[i], from, to);
	}
}

void client_rename(struct world *w, const char *from, const char *to)
{
	bool replaces = world_file(w, to) != NULL;
	struct ofs_record rec, target = {0};
	struct ofs_hint h = {.kind = OFS_HINT_RENAMED};

	trace(w, "rename", from, to);
	change_begin(w, from, 0);
	change_begin(w, to, 1);
	if (ofs_record_get_at(&w->rio, w->tree_fd, from, &rec) != 0) {
		die(w, from, "no record");
	}
	if (replaces) {
		module_trash(w, to, &target);
		h.target = target.oid;
	}
	h.oid = rec.oid;
	h.is_dir = (rec.flags & OFS_REC_DIR) != 0;
	fill_parent(w, from, &h.old_parent, h.old_name);
	fill_parent(w, to, &h.parent, h.name);
	if (renameat(w->tree_fd, from, w->tree_fd, to) != 0) {
		die(w, from, strerror(errno));
	}
	model_rename(w, from, to);
	hint_send(w, &h);
}

/* ---- the model ---- */

void world_key(const char *path, char key[300])
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	if (strncmp(name, "%~", 2) == 0) {
		snprintf(key, 300, "p/%.*s%.*s", (int)(name - path), path, (int)strlen(name) - 7, name + 2);
	} else {
		snprintf(key, 300, "p/%s", path);
	}
}

struct model_file *world_file(struct world *w, const char *path)
{
	unsigned i;

	for (i = 0; i < w->file_count; i++) {
		if (strcmp(w->files[i].path, path) == 0) {
			return &w->files[i];
		}
	}
	return NULL;
}

bool world_is_drained(struct world *w)
{
	json_t *left;
	bool none;

	if (w->v->state != VOLUME_READY) {
		return false;
	}
	left = reconcile_pending(w->v->reconcile, 1);
	none = json_array_size(left) == 0;
	json_decref(left);
	return none;
}

void world_verify(struct world *w)
{
	struct sim_object *o;
	unsigned i, found = 0, dirs = 0;
	char key[300];

	for (o = sim_objects(w->sim); o != NULL; o = o->next) {
		size_t len = strlen(o->key);

		if (strncmp(o->key, "p/.objectfs/", 12) == 0) {
			if (strstr(o->key, "/stage/") || strstr(o->key, "/rename/")) {
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
		if (o->len != strlen(w->files[i].text) ||
				memcmp(o->data, w->files[i].text, o->len) != 0) {
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

static bool drained(void *arg)
{
	return world_is_drained(arg);
}

void world_drain(struct world *w)
{
	sim_run_until(w->sim, NULL, NULL, 2 * NS_PER_S);
	rings_drain(w->v->rings); /* and what dead clients left */
	if (!sim_run_until(w->sim, drained, w, DRAIN_NS)) {
		json_t *left = reconcile_pending(w->v->reconcile, 5);

		die(w, "not drained", json_dumps(left, 0));
	}
	/* trash looks and scans that were still under way */
	sim_run_until(w->sim, NULL, NULL, 60 * NS_PER_S);
	if (!sim_run_until(w->sim, drained, w, DRAIN_NS)) {
		die(w, "not drained", "at last");
	}
	world_verify(w);
}

/* ---- the world ---- */

void world_open(struct world *w, uint64_t seed)
{
	struct ofs_record root = {.flags = OFS_REC_DIR | OFS_REC_LISTED};

	memset(w, 0, sizeof(*w));
	w->seed = seed;
	w->sim = sim_new(seed);
	scratch_make(w->root, sizeof(w->root), "sim");
	w->path_fd = open(w->root, O_RDONLY | O_DIRECTORY);
	mkdirat(w->path_fd, "tree", 0777);
	mkdirat(w->path_fd, "trash", 0700);
	mkdirat(w->path_fd, "limbo", 0700);
	w->tree_fd = openat(w->path_fd, "tree", O_RDONLY | O_DIRECTORY);
	w->trash_fd = openat(w->path_fd, "trash", O_RDONLY | O_DIRECTORY);
	w->limbo_fd = openat(w->path_fd, "limbo", O_RDONLY | O_DIRECTORY);
	w->shm_fd = openat(w->path_fd, "shm", O_RDWR | O_CREAT, 0600);
	w->shm = ofs_shm_map(w->shm_fd, true);
	snprintf(w->rio.xattr, sizeof(w->rio.xattr), "%s", OFS_RECORD_XATTR_USER);
	root.oid = OFS_OID_ROOT;
	if (w->shm == NULL || ofs_record_set(&w->rio, w->tree_fd, &root) != 0) {
		die(w, "mirror", strerror(errno));
	}
	w->conf.name = "sim";
	w->conf.settle_time_ns = 5 * NS_PER_S;
	w->conf.settle_limit_ns = 60 * NS_PER_S;
	w->conf.listing_age_ns = 900 * NS_PER_S;
	w->conf.part_size_bytes = 8 << 20;
	w->conf.copy_limit_bytes = 5LL << 30;
	w->conf.parallel_uploads = 8;
	w->conf.parallel_fetches = 16;
	w->conf.log_flush_ns = 60 * NS_PER_S;
	w->conf.capacity_bytes = 1LL << 40;
	/* A block is 4 KiB: some ten files stay, less in every third world. */
	w->conf.cache_size_bytes = seed % 3 == 0 ? 16 << 10 : 48 << 10;
	w->conf.cache_high = 90;
	w->conf.cache_low = 60;
	daemon_start(w);
	client_start(w);
}

void world_close(struct world *w)
{
	ofs_ring_writer_fini(&w->ring);
	daemon_kill(w);
	ofs_shm_unmap(&w->shm);
	close(w->shm_fd);
	close(w->limbo_fd);
	close(w->trash_fd);
	close(w->tree_fd);
	close(w->path_fd);
	sim_free(&w->sim);
	scratch_remove(w->root);
}
