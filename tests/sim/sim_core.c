/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The daemon's core on four simulated doors, through crashes.
 *
 * A simulated module does in a real scratch tree what smbd would: records, marks, trash links, hints
 * in a real ring. A model says which path holds which bytes. At random moments the daemon is killed
 * and started again. In the end, once everything has drained, the store must hold exactly the model.
 *
 *   sim_core [SEEDS [FIRST]]     default: 12 seeds from 1; prints the seed that failed
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cached/base/conf.h"
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/core/rings.h"
#include "cached/core/volume.h"
#include "cached/core/volrec.h"
#include "cached/mirror/mirror.h"
#include "cached/recall/recall.h"
#include "cached/reconcile/metalog.h"
#include "cached/reconcile/reconcile.h"
#include "shared/ring.h"
#include "sim.h"

#define FILES_MOST 64
#define DIRS_MOST 14
#define DEPTH_BYTES_MOST 60
#define OPS_PER_SEED 150
#define DRAIN_NS (4 * 3600 * NS_PER_S)

struct model_file {
	char path[256];
	char text[64];
};

struct world {
	struct sim *sim;
	uint64_t seed;
	char root[64];
	struct volume *v; /* NULL: the daemon is dead */
	struct conf_volume conf;
	struct ofs_record_io rio;
	struct ofs_shm *shm;
	int path_fd, tree_fd, trash_fd, limbo_fd, shm_fd;
	struct ofs_ring_writer ring;
	struct model_file files[FILES_MOST];
	unsigned file_count;
	char dirs[DIRS_MOST][256];
	unsigned dir_count, serial;
	bool dense; /* odd seeds: few names, many renames of directories, long backlogs */
};

static void die(struct world *w, const char *what, const char *detail)
{
	fprintf(stderr, "sim_core: seed %llu: %s: %s\n", (unsigned long long)w->seed, what, detail);
	exit(1);
}

/* ---- the daemon's life ---- */

static void trace(const char *what, const char *path, const char *detail)
{
	log_debug("module", "%s %s %s", what, path, detail);
}

static void on_adopted(int status, const char *message, void *arg)
{
	struct world *w = arg;

	if (status != 0) {
		/* The doors are faulty on purpose: again, as the daemon does. */
		reconcile_adopt(w->v, false, on_adopted, w);
		return;
	}
	(void)message;
	w->v->state = VOLUME_READY;
	reconcile_start(w->v->reconcile);
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
	reconcile_adopt(w->v, false, on_adopted, w);
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

static void daemon_start(struct world *w)
{
	struct volume *v = talloc_zero(NULL, struct volume);
	char path[128], *error = NULL;
	bool fresh;

	w->v = v;
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
	v->index = index_open(v, v->disk, path, &fresh, &error);
	if (v->index == NULL) {
		die(w, "index", error);
	}
	v->rings = rings_new(v, v, w->root);
	v->metalog = metalog_new(v, v);
	v->mirror = mirror_new(v, v);
	v->recalls = recalls_new(v, v);
	v->reconcile = reconcile_new(v, v, fresh);
	volrec_open(v, on_record, w);
}

static void daemon_kill(struct world *w)
{
	struct volume *v = w->v;

	trace("daemon killed", "", "");
	sim_crash(w->sim);
	TALLOC_FREE(v->reconcile);
	TALLOC_FREE(v->recalls);
	TALLOC_FREE(v->mirror);
	TALLOC_FREE(v->metalog);
	TALLOC_FREE(v->rings);
	talloc_free(v->index); /* not closed: what was not committed is lost */
	talloc_free(v);
	w->v = NULL;
}

/* ---- the simulated module ---- */

static void mark_dirs(struct world *w, const char *path)
{
	char p[256], *slash;

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
	ofs_ring_write(&w->ring, h, 0);
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

static void module_write(struct world *w, const char *path, const char *text, bool create)
{
	struct ofs_record rec = {0};
	int fd;

	trace(create ? "create" : "write", path, text);
	mark_dirs(w, path);
	do {
		fd = openat(w->tree_fd, path, O_RDWR | O_NONBLOCK | (create ? O_CREAT | O_EXCL : 0), 0666);
		/* A lease is being broken: the daemon's signal handler, by hand. */
		if (fd < 0 && errno == EWOULDBLOCK && w->v != NULL) {
			int i;

			for (i = 3; i < 256; i++) {
				if (fcntl(i, F_GETLEASE) == F_UNLCK) {
					reconcile_lease_broken(w->v->reconcile, i);
				}
			}
			errno = EWOULDBLOCK;
		}
	} while (fd < 0 && errno == EWOULDBLOCK);
	if (fd < 0) {
		die(w, path, strerror(errno));
	}
	if (create) {
		ofs_oid_new(&rec.oid);
		rec.flags = OFS_REC_META_DIRTY;
	} else if (ofs_record_get(&w->rio, fd, &rec) != 0) {
		die(w, path, "no record");
	}
	rec.flags |= OFS_REC_DATA_DIRTY;
	rec.data_gen++;
	ofs_record_set(&w->rio, fd, &rec);
	hint(w, create ? OFS_HINT_CREATED : OFS_HINT_DIRTY, path, &rec);
	if (ftruncate(fd, 0) != 0 || pwrite(fd, text, strlen(text), 0) != (ssize_t)strlen(text)) {
		die(w, path, "write");
	}
	close(fd);
	hint(w, OFS_HINT_CLOSED, path, &rec);
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

static void module_unlink(struct world *w, const char *path)
{
	struct ofs_record rec;

	trace("unlink", path, "");
	mark_dirs(w, path);
	module_trash(w, path, &rec);
	if (unlinkat(w->tree_fd, path, 0) != 0) {
		die(w, path, "unlink");
	}
	hint(w, OFS_HINT_UNLINKED, path, &rec);
}

static void module_mkdir(struct world *w, const char *path)
{
	struct ofs_record rec = {.flags = OFS_REC_DIR | OFS_REC_LISTED | OFS_REC_META_DIRTY};
	int fd;

	trace("mkdir", path, "");
	mark_dirs(w, path);
	if (mkdirat(w->tree_fd, path, 0777) != 0) {
		die(w, path, "mkdir");
	}
	fd = openat(w->tree_fd, path, O_RDONLY | O_DIRECTORY);
	ofs_oid_new(&rec.oid);
	rec.meta_gen = 1;
	ofs_record_set(&w->rio, fd, &rec);
	close(fd);
	hint(w, OFS_HINT_MKDIR, path, &rec);
}

static void module_rmdir(struct world *w, const char *path)
{
	struct ofs_record rec;
	char name[64] = "d.";
	int fd;

	trace("rmdir", path, "");
	mark_dirs(w, path);
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
	hint(w, OFS_HINT_RMDIR, path, &rec);
}

static void module_rename(struct world *w, const char *from, const char *to, bool replaces)
{
	struct ofs_record rec, target = {0};
	struct ofs_hint h = {.kind = OFS_HINT_RENAMED};

	trace("rename", from, to);
	mark_dirs(w, from);
	mark_dirs(w, to);
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
	hint_send(w, &h);
}

/* ---- the model ---- */

static struct model_file *pick_file(struct world *w)
{
	return w->file_count ? &w->files[sim_random(w->sim, w->file_count)] : NULL;
}

static const char *pick_dir(struct world *w)
{
	uint64_t i = sim_random(w->sim, w->dir_count + 1);

	return i == w->dir_count ? "" : w->dirs[i];
}

static bool is_taken(struct world *w, const char *path)
{
	unsigned i;

	for (i = 0; i < w->file_count; i++) {
		if (strcmp(w->files[i].path, path) == 0) {
			return true;
		}
	}
	for (i = 0; i < w->dir_count; i++) {
		if (strcmp(w->dirs[i], path) == 0) {
			return true;
		}
	}
	return false;
}

/* A free path. In dense worlds names come back: a few only, the same for files and directories. */
static void new_path(struct world *w, const char *stem, char out[256])
{
	unsigned tries;

	for (tries = 0; w->dense && tries < 20; tries++) {
		const char *dir = pick_dir(w);

		if (strlen(dir) > DEPTH_BYTES_MOST) {
			continue;
		}
		snprintf(out, 256, "%.200s%s%c", dir, *dir ? "/" : "", 'a' + (int)sim_random(w->sim, 5));
		if (!is_taken(w, out)) {
			return;
		}
	}
	do {
		const char *dir = pick_dir(w);

		if (strlen(dir) > DEPTH_BYTES_MOST) {
			dir = "";
		}
		snprintf(out, 256, "%.200s%s%s%u", dir, *dir ? "/" : "", stem, w->serial++);
	} while (is_taken(w, out));
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

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static void rename_dir(struct world *w)
{
	char path[256], old[256];
	unsigned i;

	if (w->dir_count == 0) {
		return;
	}
	snprintf(old, sizeof(old), "%s", w->dirs[sim_random(w->sim, w->dir_count)]);
	if (w->dense) {
		new_path(w, "m", path);
	} else {
		snprintf(path, sizeof(path), "m%u", w->serial++);
	}
	if (is_below(path, old)) {
		return;
	}
	module_rename(w, old, path, false);
	for (i = 0; i < w->file_count; i++) {
		rename_prefix(w->files[i].path, old, path);
	}
	for (i = 0; i < w->dir_count; i++) {
		rename_prefix(w->dirs[i], old, path);
	}
}

static void remove_dir(struct world *w)
{
	unsigned i, n;

	if (w->dir_count == 0) {
		return;
	}
	n = sim_random(w->sim, w->dir_count);
	for (i = 0; i < w->file_count; i++) {
		if (is_below(w->files[i].path, w->dirs[n])) {
			return;
		}
	}
	for (i = 0; i < w->dir_count; i++) {
		if (i != n && is_below(w->dirs[i], w->dirs[n])) {
			return;
		}
	}
	module_rmdir(w, w->dirs[n]);
	memmove(w->dirs[n], w->dirs[--w->dir_count], sizeof(w->dirs[n]));
}

static void one_operation(struct world *w)
{
	struct model_file *f = pick_file(w), *g = pick_file(w);
	char path[256];

	switch (sim_random(w->sim, w->dense ? 14 : 10)) {
	case 0:
	case 1:
	case 2:
		if (w->file_count == FILES_MOST) {
			return;
		}
		f = &w->files[w->file_count];
		new_path(w, "f", f->path);
		w->file_count++;
		snprintf(f->text, sizeof(f->text), "text %u", w->serial++);
		module_write(w, f->path, f->text, true);
		return;
	case 3:
	case 4:
		if (f != NULL) {
			snprintf(f->text, sizeof(f->text), "text %u", w->serial++);
			module_write(w, f->path, f->text, false);
		}
		return;
	case 5:
		if (f != NULL) {
			new_path(w, "r", path);
			module_rename(w, f->path, path, false);
			snprintf(f->path, sizeof(f->path), "%s", path);
		}
		return;
	case 6:
		if (f != NULL && f != g) {
			module_rename(w, f->path, g->path, true);
			snprintf(g->text, sizeof(g->text), "%s", f->text);
			*f = w->files[--w->file_count];
		}
		return;
	case 7:
		if (f != NULL) {
			module_unlink(w, f->path);
			*f = w->files[--w->file_count];
		}
		return;
	case 8:
		if (w->dir_count < DIRS_MOST) {
			new_path(w, "d", path);
			module_mkdir(w, path);
			snprintf(w->dirs[w->dir_count++], 256, "%s", path);
		}
		return;
	case 10:
	case 11:
		rename_dir(w);
		return;
	case 12:
	case 13:
		remove_dir(w);
		return;
	default:
		if (sim_random(w->sim, 2) == 0 && f != NULL && f != g) {
			/* a swap through a third name */
			char a[256], b[256];

			snprintf(a, sizeof(a), "%s", f->path);
			snprintf(b, sizeof(b), "%s", g->path);
			new_path(w, "t", path);
			module_rename(w, a, path, false);
			module_rename(w, b, a, false);
			module_rename(w, path, b, false);
			snprintf(f->path, sizeof(f->path), "%s", b);
			snprintf(g->path, sizeof(g->path), "%s", a);
			return;
		}
		rename_dir(w);
		return;
	}
}

static bool drained(void *arg)
{
	struct world *w = arg;
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

static void verify(struct world *w)
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
			snprintf(key, sizeof(key), "p/%s", w->files[i].path);
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
		snprintf(key, sizeof(key), "p/%s", w->files[i].path);
		for (o = sim_objects(w->sim); o != NULL && strcmp(o->key, key) != 0; o = o->next) {
		}
		if (o == NULL) {
			die(w, "file without object", key);
		}
	}
	if (dirs != w->dir_count) {
		die(w, "directories without marker", "");
	}
}

/* ---- one seed ---- */

static int rm_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static void world_open(struct world *w, uint64_t seed)
{
	struct ofs_record root = {.flags = OFS_REC_DIR | OFS_REC_KNOWN | OFS_REC_LISTED};
	char rings[128];
	int fd;

	memset(w, 0, sizeof(*w));
	w->seed = seed;
	w->dense = seed % 2 == 1;
	w->sim = sim_new(seed);
	snprintf(w->root, sizeof(w->root), "%s/sim-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (mkdtemp(w->root) == NULL) {
		die(w, w->root, strerror(errno));
	}
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
	w->conf.parallel_uploads = 8;
	w->conf.parallel_fetches = 16;
	w->conf.log_flush_ns = 60 * NS_PER_S;
	w->conf.capacity_bytes = 1LL << 40;
	daemon_start(w);
	fd = rings_add(w->v->rings);
	if (fd < 0 || ofs_ring_writer_init(&w->ring, fd) != 0) {
		snprintf(rings, sizeof(rings), "%d", fd);
		die(w, "ring", rings);
	}
}

static void world_close(struct world *w)
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
	nftw(w->root, rm_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void run_seed(uint64_t seed)
{
	struct world w;
	unsigned i, crashes = 0;
	uint64_t events;

	world_open(&w, seed);
	sim_set_faults(w.sim, (struct sim_faults){.away = 20, .lost_answer = 20});
	for (i = 0; i < OPS_PER_SEED; i++) {
		one_operation(&w);
		if (sim_random(w.sim, w.dense ? 12 : 3) == 0) {
			sim_run_until(w.sim, NULL, NULL, (int64_t)sim_random(w.sim, 10 * NS_PER_S));
		}
		if (sim_random(w.sim, 30) == 0) {
			unsigned steps = (unsigned)sim_random(w.sim, 200);

			while (steps-- > 0 && sim_step(w.sim)) {
			}
			daemon_kill(&w);
			crashes++;
			if (sim_random(w.sim, 2) == 0) {
				one_operation(&w); /* nobody listens */
			}
			daemon_start(&w);
			rings_drain(w.v->rings);
		}
	}
	sim_set_faults(w.sim, (struct sim_faults){0});
	rings_drain(w.v->rings);
	if (!sim_run_until(w.sim, drained, &w, DRAIN_NS)) {
		json_t *left = reconcile_pending(w.v->reconcile, 5);
		char *text = json_dumps(left, 0);

		die(&w, "not drained", text);
	}
	/* trash looks and scans that were still under way */
	sim_run_until(w.sim, NULL, NULL, 60 * NS_PER_S);
	if (!sim_run_until(w.sim, drained, &w, DRAIN_NS)) {
		die(&w, "not drained", "at last");
	}
	verify(&w);
	events = sim_events(w.sim);
	printf("seed %llu: %u files, %u crashes, %llu events\n", (unsigned long long)seed, w.file_count,
			crashes, (unsigned long long)events);
	world_close(&w);
}

int main(int argc, char **argv)
{
	unsigned long seeds = argc > 1 ? strtoul(argv[1], NULL, 10) : 12, i;
	unsigned long first = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;

	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	for (i = 0; i < seeds; i++) {
		run_seed(first + i);
	}
	return 0;
}
