/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the world of sim_world.h: a daemon on simulated doors and the model that judges it; sim_client.c
 *       is the client.
 * Way: from the sim programs; into the core's rooms.
 * Thread: one.
 * Owns: the scratch directory, the volume.
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
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/core/nodes.h"
#include "cached/core/rings.h"
#include "cached/core/volrec.h"
#include "cached/mirror/bases.h"
#include "cached/mirror/mirror_private.h"
#include "cached/mirror/objmeta.h"
#include "cached/reconcile/metalog.h"
#include "cached/evict/evict.h"
#include "cached/recall/recall.h"
#include "cached/reconcile/index_priv.h"
#include "cached/reconcile/reconcile.h"
#include "cached/upload/begun.h"
#include "cached/upload/blocks.h"
#include "sim_tally.h"
#include "tests/lib/scratch.h"

#define DRAIN_NS (4 * 3600 * NS_PER_S)
#define FLUSH_NS (600 * NS_PER_S)
#define UPLOAD_AGE_NS (7200 * NS_PER_S)

void die(struct world *w, const char *what, const char *detail)
{
	fprintf(stderr, "%s: seed %llu: %s: %s\n", program_invocation_short_name, (unsigned long long)w->seed, what,
			detail);
	tally_print();
	exit(1);
}

/* ---- the daemon's life ---- */

void world_trace(struct world *w, const char *what, const char *path, const char *detail)
{
	sim_note(w->sim, what, path);
	log_debug("module", "%s %s %s", what, path, detail);
}

/* The doors are faulty on purpose: again, as the daemon does. */
static void again(struct world *w, void (*step)(void *arg))
{
	if (w->restarts != NULL) { /* perhaps at once: later */
		(void)clock_timer_add(w->v->clock, w->v, clock_now_ns(w->v->clock) + NS_PER_S, step, w);
	} else {
		step(w);
	}
}

static void on_adopted(int status, const char *message, void *arg);
static void on_log(int status, const char *message, void *arg);
static void on_nodes(int status, const char *message, void *arg);
static void on_record(int status, const char *message, void *arg);

static void step_adopt(void *arg)
{
	struct world *w = arg;

	reconcile_adopt(w->v, on_adopted, w);
}

static void step_log(void *arg)
{
	struct world *w = arg;

	metalog_load(w->v->metalog, on_log, w);
}

static void step_nodes(void *arg)
{
	struct world *w = arg;

	nodes_open(w->v->nodes, w->seed % 5 == 0, on_nodes, w);
}

static void step_record(void *arg)
{
	struct world *w = arg;

	volrec_open(w->v, on_record, w);
}

static void on_adopted(int status, const char *message, void *arg)
{
	struct world *w = arg;
	int was;

	if (status != 0) {
		again(w, step_adopt);
		return;
	}
	(void)message;
	w->v->state = VOLUME_READY;
	was = sim_leave(w->sim);
	world_verify_bases(w, w->v->metalog); /* which is as it was read now */
	sim_back(w->sim, was);
	reconcile_start(w->v->reconcile);
	if (w->parts) {
		blocks_sweep(w->v);
		begun_start(w->v->begun);
	}
	evictor_start(w->v->evictor);
	bases_start(w->v->bases);
}

static void on_log(int status, const char *message, void *arg)
{
	struct world *w = arg;

	if (status == -EBADMSG) {
		die(w, "metadata log", message ? message : "damaged");
	}
	if (status != 0) {
		again(w, step_log);
		return;
	}
	step_adopt(w);
}

static void on_nodes(int status, const char *message, void *arg)
{
	struct world *w = arg;

	if (status == -EBUSY) {
		die(w, "nodes", message);
	}
	if (status != 0) {
		again(w, step_nodes);
		return;
	}
	step_log(w);
}

static void on_record(int status, const char *message, void *arg)
{
	struct world *w = arg;

	if (status == -ESTALE || status == -EPROTONOSUPPORT) {
		die(w, "volume record", message ? message : "?");
	}
	if (status != 0) {
		again(w, step_record);
		return;
	}
	step_nodes(w);
}

static struct volume *volume_make(struct world *w)
{
	struct volume *v = talloc_zero(NULL, struct volume);
	struct ofs_record root;

	if (w->killed) {
		tally_crash();
	}
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
	v->blocks_fd = w->blocks_fd;
	v->shm = w->shm;
	v->prefix = "p/";
	v->state_why = talloc_strdup(v, "starting");
	snprintf(v->node_id, sizeof(v->node_id), "00112233445566778899aabbccddeeff");
	return v;
}

/* Of core/volume.c's, what goes on after a failure. */
static void tick(void *arg)
{
	struct volume *v = arg;

	index_tick(v->index);
	rings_drain(v->rings);
	(void)clock_timer_add(v->clock, v, clock_now_ns(v->clock) + NS_PER_S, tick, v);
}

/* As core/volume.c does: what is not made, is not started. */
static void rooms_make(void *arg)
{
	struct world *w = arg;
	struct volume *v = w->v;
	char path[128], *error = NULL;
	bool fresh;

	snprintf(path, sizeof(path), "%s/index.db", w->root);
	v->index = index_open(v, v->disk, v->clock, path, &fresh, &error);
	if (v->index == NULL) {
		if (w->restarts == NULL) {
			die(w, "index", error);
		}
		return;
	}
	v->begun = w->parts ? begun_open(v, v, &error) : NULL;
	if (v->begun == NULL && w->parts) {
		die(w, "uploads", error);
	}
	v->nodes = nodes_new(v, v, "/sim");
	v->rings = rings_new(v, v, w->root);
	v->metalog = metalog_new(v, v);
	v->mirror = mirror_new(v, v);
	v->bases = bases_new(v, v);
	v->recalls = recalls_new(v, v);
	v->reconcile = reconcile_new(v, v, fresh);
	v->evictor = evictor_new(v, v);
	if (v->nodes == NULL || v->rings == NULL || v->metalog == NULL || v->mirror == NULL || v->bases == NULL ||
			v->recalls == NULL || v->reconcile == NULL || v->evictor == NULL) {
		return;
	}
	v->mirror->list_turn = 2; /* whatever happens, happens in the middle of a listing, too */
	w->lives++;
	if (w->restarts != NULL) {
		tick(v);
	}
	step_record(w);
}

void daemon_start(struct world *w)
{
	unsigned before = w->lives;

	w->v = volume_make(w);
	/* One that ended itself has been followed by another. */
	if (sim_enter(w->sim, rooms_make, w) && w->lives == before) {
		if (w->restarts == NULL) {
			die(w, "no daemon", "out of memory");
		}
		world_trace(w, "daemon refused to start", "", "");
		w->restarts(w);
		daemon_kill(w);
		daemon_start(w);
	}
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

/* What waited for a commit is nobody's now: reachable, as sim.c's jobs and requests are, for a leak checker. */
static struct index_wait *killed_with;

static void index_orphans(struct index *ix)
{
	while (ix->waits != NULL) {
		struct index_wait *wait = ix->waits;

		ix->waits = wait->next;
		wait->next = killed_with;
		killed_with = wait;
	}
	ix->waits_tail = &ix->waits;
}

static int compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* The daemon's descriptors, as the kernel does: with them go its leases. */
static void daemon_close_all(struct world *w)
{
	int kept[6 + HANDLES_MOST] = {w->path_fd, w->tree_fd, w->trash_fd, w->limbo_fd, w->shm_fd, w->ring.fd};
	int first = w->first_fd;

	memcpy(kept + 6, w->handle_fds, sizeof(w->handle_fds));
	qsort(kept, 6 + HANDLES_MOST, sizeof(kept[0]), compare_fds);
	for (unsigned i = 0; i < 6 + HANDLES_MOST; i++) {
		if (kept[i] > first) {
			close_range((unsigned)first, (unsigned)kept[i] - 1, 0);
		}
		first = kept[i] >= first ? kept[i] + 1 : first;
	}
	close_range((unsigned)first, ~0U, 0);
}

void daemon_kill(struct world *w)
{
	struct volume *v = w->v;

	world_trace(w, "daemon killed", "", "");
	sim_crash(w->sim);
	TALLOC_FREE(v->reconcile);
	TALLOC_FREE(v->recalls);
	TALLOC_FREE(v->bases);
	TALLOC_FREE(v->mirror);
	TALLOC_FREE(v->metalog);
	TALLOC_FREE(v->rings);
	index_files(w, "index.db", "index.killed");
	if (v->index != NULL) {
		index_orphans(v->index);
		talloc_free(v->index);
	}
	index_files(w, "index.killed", "index.db");
	talloc_free(v);
	daemon_close_all(w);
	w->v = NULL;
	w->killed = true;
}

void daemon_ended(struct world *w)
{
	world_trace(w, "daemon ended itself", "", "");
	w->restarts(w);
	sim_crash(w->sim);
	for (uint32_t i = 0; i < OFS_SHM_STRIPES; i++) { /* the kernel marks them: robust */
		if (w->shm->stripe[i].lock.__data.__owner == gettid()) {
			pthread_mutex_unlock(&w->shm->stripe[i].lock);
		}
	}
	index_files(w, "index.db", "index.killed");
	unlinkat(w->path_fd, "index.db-shm", 0);
	index_files(w, "index.killed", "index.db");
	w->v = NULL;
	daemon_start(w);
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

bool world_run(struct world *w, unsigned count)
{
	while (count-- > 0) {
		if (world_is_drained(w) || !sim_step(w->sim)) {
			return false;
		}
	}
	return true;
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
	if (!sim_run_until(w->sim, log_is_read, &l, FLUSH_NS) || l.status != 0) {
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

static bool is_ready(void *arg)
{
	return ((struct world *)arg)->v->state == VOLUME_READY;
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

	if (!sim_run_until(w->sim, is_ready, w, DRAIN_NS)) {
		die(w, "not ready", w->v->state_why);
	}
	rings_settle(w->v->rings); /* and what dead clients left */
	reconcile_flush(w->v->reconcile, NULL, 0, on_flushed, &f);
	if (!sim_run_until(w->sim, is_flushed, &f, FLUSH_NS) || f.status != 0) {
		json_t *left = reconcile_pending(w->v->reconcile, 5);

		die(w, f.done ? "the flush has failed" : "the flush does not end", json_dumps(left, 0));
	}
}

void world_settle(struct world *w)
{
	world_flush(w);
	/* trash looks and scans that were still under way */
	sim_run_until(w->sim, NULL, NULL, 60 * NS_PER_S);
	if (!sim_run_until(w->sim, drained, w, DRAIN_NS)) {
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

/* ---- another disk ---- */

static void disk_open(struct world *w)
{
	struct ofs_record root = {.flags = OFS_REC_DIR | (w->lost ? 0 : OFS_REC_LISTED)};

	mkdirat(w->path_fd, "tree", 0777);
	mkdirat(w->path_fd, "trash", 0700);
	mkdirat(w->path_fd, "limbo", 0700);
	mkdirat(w->path_fd, "blocks", 0700);
	w->tree_fd = openat(w->path_fd, "tree", O_RDONLY | O_DIRECTORY);
	w->trash_fd = openat(w->path_fd, "trash", O_RDONLY | O_DIRECTORY);
	w->limbo_fd = openat(w->path_fd, "limbo", O_RDONLY | O_DIRECTORY);
	w->blocks_fd = openat(w->path_fd, "blocks", O_RDONLY | O_DIRECTORY);
	root.oid = OFS_OID_ROOT;
	if (w->tree_fd < 0 || ofs_record_set(&w->rio, w->tree_fd, &root) != 0) {
		die(w, "mirror", strerror(errno));
	}
}

static void disk_close(struct world *w)
{
	close(w->blocks_fd);
	close(w->limbo_fd);
	close(w->trash_fd);
	close(w->tree_fd);
}

void world_lose_disk(struct world *w)
{
	static const char *const files[] = {"index.db", "index.db-wal", "index.db-shm", "index.killed",
			"index.killed-wal"};
	char path[128];

	client_lost(w);
	disk_close(w);
	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		unlinkat(w->path_fd, files[i], 0);
	}
	for (const char *const *dir = (const char *const[]){"tree", "trash", "limbo", "blocks", "uploads", NULL}; *dir != NULL; dir++) {
		snprintf(path, sizeof(path), "%s/%s", w->root, *dir);
		scratch_remove(path);
	}
	sim_uploads_end(w->sim); /* nobody knows of them any more */
	w->lost = true;
	disk_open(w);
	daemon_start(w);
	client_start(w);
	if (!sim_run_until(w->sim, is_ready, w, w->restarts != NULL ? FLUSH_NS : DRAIN_NS) && w->restarts == NULL) {
		die(w, "not ready", w->v->state_why);
	}
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
	if (!sim_run_until(w->sim, is_flushed, &f, FLUSH_NS) || f.status != 0) {
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

/* ---- the world ---- */

void world_no_uploads(struct world *w)
{
	if (sim_uploads(w->sim) > 0) {
		sim_run_until(w->sim, NULL, NULL, UPLOAD_AGE_NS + 3600 * NS_PER_S);
	}
	if (sim_uploads(w->sim) > 0) {
		die(w, "left in the store", "an upload in parts");
	}
}

void world_open(struct world *w, uint64_t seed, int fence_class)
{
	memset(w, 0, sizeof(*w));
	w->seed = seed;
	w->sim = sim_new(seed);
	sim_set_fence(w->sim, fence_class);
	w->parts = getenv("SIM_PARTS") != NULL ? atoi(getenv("SIM_PARTS")) != 0 : seed % 7 == 4;
	if (w->parts) {
		sim_set_parts(w->sim);
	}
	scratch_make(w->root, sizeof(w->root), "sim");
	for (unsigned i = 0; i < HANDLES_MOST; i++) {
		w->handle_fds[i] = -1;
	}
	w->path_fd = w->first_fd = open(w->root, O_RDONLY | O_DIRECTORY);
	w->shm_fd = openat(w->path_fd, "shm", O_RDWR | O_CREAT, 0600);
	w->shm = ofs_shm_map(w->shm_fd, true);
	snprintf(w->rio.xattr, sizeof(w->rio.xattr), "%s", OFS_RECORD_XATTR_USER);
	if (w->shm == NULL) {
		die(w, "shm", strerror(errno));
	}
	disk_open(w);
	w->conf.name = "sim";
	w->conf.settle_time_ns = 5 * NS_PER_S;
	w->conf.settle_limit_ns = 60 * NS_PER_S;
	w->conf.listing_age_ns = 900 * NS_PER_S;
	w->conf.part_size_bytes = w->parts ? 4 : 8 << 20;
	w->conf.delta_above_bytes = w->parts && seed % 3 != 0 ? 1 : 0;
	w->conf.upload_age_ns = UPLOAD_AGE_NS;
	w->conf.copy_limit_bytes = 5LL << 30;
	w->conf.compare_limit_bytes = 64 << 20;
	w->conf.parallel_uploads = 8;
	w->conf.parallel_fetches = 16;
	/* A flush does not wait for it. In two worlds of three segments are many, and folded. */
	w->conf.log_flush_ns = seed % 3 == 0 ? 3600 * NS_PER_S : 3 * NS_PER_S;
	w->conf.log_fold = 2;
	w->conf.base_names = 3;
	w->conf.base_quiet_ns = getenv("NOBASE") ? 0 : 8 * NS_PER_S;
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
	disk_close(w);
	close(w->path_fd);
	tally_time(clock_now_ns(sim_clock(w->sim)));
	sim_free(&w->sim);
	scratch_remove(w->root);
}
