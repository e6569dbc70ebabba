/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the client of sim_world.h: what smbd's module would leave in tree, records, trash and ring, and what
 *       it would tell the daemon; the model follows. What it asks: sim_stub.c.
 * Way: from the sim programs; hints through a real ring.
 * Thread: one. Owns: the ring.
 * Holds: what fails here ends the program and names the seed.
 */
#include "sim_world.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cached/core/rings.h"
#include "cached/reconcile/reconcile.h"
#include "shared/intent.h"
#include "sim_client.h"
#include "tests/lib/scratch.h"

#define TRASH_NAMES_MOST 100u /* of one file */
#define OPENS_MOST 100 /* of a file whose lease is to be given back at once */

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
	world_trace(w, "client killed", "", "");
	client_asker_died(w);
	ofs_ring_writer_fini(&w->ring); /* as the kernel does: the lock goes, the file stays */
}

/* Of the share, by whoever has not come to closing it. */
static void close_files(struct world *w)
{
	char of[72], target[300];
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *e;

	if (dir == NULL) {
		die(w, "/proc/self/fd", strerror(errno));
	}
	snprintf(of, sizeof(of), "%s/tree/", w->root);
	while ((e = readdir(dir)) != NULL) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1);

		target[n > 0 ? n : 0] = '\0';
		if (strncmp(target, of, strlen(of)) == 0) {
			close(atoi(e->d_name));
		}
	}
	closedir(dir);
}

void client_lost(struct world *w)
{
	char path[128];

	client_kill(w);
	close_files(w);
	snprintf(path, sizeof(path), "%s/sim.rings", w->root);
	scratch_remove(path);
}

void client_effect(struct world *w)
{
	if (w->effect != NULL) {
		w->effect(w->effect_arg);
	}
}

void client_record(struct world *w, int fd, const char *path, struct ofs_record *rec)
{
	int ret = ofs_record_get(&w->rio, fd, rec);
	struct stat st;

	if (ret == -ENODATA && w->booted && fstat(fd, &st) == 0 && (st.st_mode & OFS_MARKER_MODE) == 0) {
		*rec = (struct ofs_record){.flags = OFS_REC_META_DIRTY | (S_ISDIR(st.st_mode) ? OFS_REC_DIR : OFS_REC_DATA_DIRTY)};
		clock_random(sim_clock(w->sim), &rec->oid, sizeof(rec->oid));
		ret = ofs_record_set(&w->rio, fd, rec);
	}
	if (ret != 0) {
		die(w, path, "no record");
	}
}

static void client_record_at(struct world *w, const char *path, struct ofs_record *rec)
{
	int fd = openat(w->tree_fd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		die(w, path, strerror(errno));
	}
	client_record(w, fd, path, rec);
	close(fd);
}

static int dir_open(struct world *w, const char *path, struct stat *st, struct ofs_record *rec)
{
	int fd = openat(w->tree_fd, *path ? path : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, st) != 0) {
		die(w, "mark", path);
	}
	client_record(w, fd, path, rec);
	atomic_fetch_add(&w->shm->stripe[ofs_shm_stripe_of(st->st_ino)].changes, 1);
	return fd;
}

static void mark_one(struct world *w, int fd)
{
	struct ofs_record rec;

	if (ofs_record_get(&w->rio, fd, &rec) != 0) {
		die(w, "mark", strerror(errno));
	}
	if (!(rec.flags & OFS_REC_MARKED)) {
		rec.flags |= OFS_REC_MARKED;
		rec.meta_gen++;
		ofs_record_set(&w->rio, fd, &rec);
		client_effect(w);
	}
}

/* From above, so that below a mark there may be none, and above one there always is. */
static void mark_above(struct world *w, const char *path)
{
	struct ofs_record rec;
	struct stat st;
	char *above;
	int fd;

	if (*path == '\0') {
		return;
	}
	above = strdup(path);
	*(strrchr(above, '/') != NULL ? strrchr(above, '/') : above) = '\0';
	fd = dir_open(w, above, &st, &rec);
	if (!(rec.flags & OFS_REC_MARKED)) {
		mark_above(w, above);
		mark_one(w, fd);
	}
	close(fd);
	free(above);
}

void client_change_begin(struct world *w, const char *path, unsigned slot)
{
	const char *slash = strrchr(path, '/');
	struct ofs_record rec;
	char dir[256];
	struct stat st;
	int fd;

	snprintf(dir, sizeof(dir), "%.*s", slash != NULL ? (int)(slash - path) : 0, path);
	fd = dir_open(w, dir, &st, &rec);
	atomic_store(&w->ring.head->inflight[slot], ofs_shm_stripe_of(st.st_ino) + 1);
	if (!(rec.flags & OFS_REC_MARKED)) {
		mark_above(w, dir);
		mark_one(w, fd);
		mark_above(w, dir);
	}
	close(fd);
}

static void fill_parent(struct world *w, const char *path, struct ofs_oid *parent, char *name)
{
	const char *slash = strrchr(path, '/');
	char dir[256];
	struct ofs_record rec;
	int fd;

	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	fd = openat(w->tree_fd, dir, O_PATH | O_DIRECTORY);
	if (fd < 0) {
		die(w, "parent", path);
	}
	client_record(w, fd, path, &rec);
	close(fd);
	*parent = rec.oid;
	snprintf(name, OFS_NAME_MAX_BYTES + 1, "%s", slash ? slash + 1 : path);
}

static void ring_doorbell(void *arg)
{
	struct world *w = arg;

	rings_drain(w->v->rings);
}

static void hint_send(struct world *w, struct ofs_hint *h)
{
	if (w->dying) {
		client_kill(w);
		return;
	}
	ofs_ring_write(&w->ring, h, 0);
	client_effect(w);
	atomic_store(&w->ring.head->inflight[0], 0);
	atomic_store(&w->ring.head->inflight[1], 0);
	if (w->v != NULL) {
		(void)sim_enter(w->sim, ring_doorbell, w);
	}
}

void client_hint(struct world *w, int kind, const char *path, const struct ofs_record *rec)
{
	struct ofs_hint h = {.kind = kind, .is_dir = (rec->flags & OFS_REC_DIR) != 0, .oid = rec->oid};

	fill_parent(w, path, &h.parent, h.name);
	hint_send(w, &h);
}

/* A lease may be being broken: the daemon's signal handler, by hand. */
int client_open(struct world *w, const char *path, int flags)
{
	int fd, i, tries = 0;

	do {
		fd = openat(w->tree_fd, path, flags | O_NONBLOCK | O_CLOEXEC, 0666);
		for (i = 3; fd < 0 && errno == EWOULDBLOCK && w->v != NULL && i < 256; i++) {
			if (fcntl(i, F_GETLEASE) == F_UNLCK) {
				reconcile_lease_broken(w->v->reconcile, i);
			}
			errno = EWOULDBLOCK;
		}
	} while (fd < 0 && errno == EWOULDBLOCK && tries++ < OPENS_MOST);
	if (fd < 0) {
		die(w, path, strerror(errno));
	}
	return fd;
}

void client_intent(struct world *w, const struct ofs_record *rec, ino_t ino)
{
	const struct ofs_intent in = {.oid = rec->oid, .ino = ino, .data_gen = rec->data_gen};
	uint8_t buf[OFS_INTENT_BYTES];
	int fd = openat(w->path_fd, "intent", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

	ofs_intent_encode(&in, buf);
	if (fd < 0 || write(fd, buf, sizeof(buf)) != (ssize_t)sizeof(buf) || fdatasync(fd) != 0) {
		die(w, "intent", strerror(errno));
	}
	close(fd);
	client_effect(w);
}

static void module_write(struct world *w, const char *path, const char *text, bool create)
{
	const char *slash = strrchr(path, '/');
	struct ofs_record rec = {0};
	char said[300];
	struct stat st;
	int fd;

	/* Now and then the hints have a name that the file does not have any more. */
	snprintf(said, sizeof(said), "%s", path);
	if (!create && w->serial % 4 == 1) {
		snprintf(said, sizeof(said), "%.*sold name", slash ? (int)(slash + 1 - path) : 0, path);
	}
	world_trace(w, create ? "create" : "write", path, text);
	client_change_begin(w, path, 0);
	fd = client_open(w, path, O_RDWR | (create ? O_CREAT | O_EXCL : 0));
	if (!create && fstat(fd, &st) != 0) {
		die(w, path, strerror(errno));
	} else if (!create) {
		client_record(w, fd, path, &rec);
	}
	if (!create && (rec.flags & OFS_REC_DATA_DIRTY) == 0) {
		client_intent(w, &rec, st.st_ino);
	}
	if (client_is_stub(w, fd) && client_stub_plain(w, fd, path, true) != 0 && client_is_recorded_stub(w, fd)) {
		die(w, path, "cannot be emptied");
	}
	if (create) {
		clock_random(sim_clock(w->sim), &rec.oid, sizeof(rec.oid));
		rec.flags = OFS_REC_META_DIRTY;
	} else {
		client_record(w, fd, path, &rec);
	}
	rec.flags |= OFS_REC_DATA_DIRTY;
	rec.data_gen++;
	ofs_record_set(&w->rio, fd, &rec);
	client_hint(w, create ? OFS_HINT_CREATED : OFS_HINT_DIRTY, said, &rec);
	if (ftruncate(fd, 0) != 0 || pwrite(fd, text, strlen(text), 0) != (ssize_t)strlen(text)) {
		die(w, path, "write");
	}
	close(fd);
	client_hint(w, OFS_HINT_CLOSED, said, &rec);
}

void client_set_time(struct world *w, const char *path)
{
	const struct timespec now[2] = {{.tv_sec = 1500000000 + w->serial++}, {.tv_nsec = UTIME_OMIT}};
	struct ofs_record rec;
	int fd;

	world_trace(w, "set time", path, "");
	fd = openat(w->tree_fd, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) { /* a lease: not today */
		return;
	}
	client_change_begin(w, path, 0);
	client_record(w, fd, path, &rec);
	rec.flags |= OFS_REC_META_DIRTY;
	rec.meta_gen++;
	if (ofs_record_set(&w->rio, fd, &rec) != 0 || futimens(fd, now) != 0) {
		die(w, path, "time");
	}
	close(fd);
	client_hint(w, OFS_HINT_ATTR, path, &rec);
}

static bool is_same_file(int dir, const char *name, int other_dir, const char *other)
{
	struct stat a, b;

	return fstatat(dir, name, &a, AT_SYMLINK_NOFOLLOW) == 0 &&
	       fstatat(other_dir, other, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_ino == b.st_ino;
}

/* Who died before the name went has left a link; an earlier inode of this id, whose delete is not in S3 yet, may have the
 * name: as the module does it (ofs_victim.c). */
static void module_trash(struct world *w, const char *path, struct ofs_record *rec)
{
	char hex[OFS_OID_HEX_BYTES], name[64];
	bool kept = false;

	client_record_at(w, path, rec);
	ofs_oid_hex(&rec->oid, hex);
	snprintf(name, sizeof(name), "f.%s", hex);
	for (unsigned i = 1; (rec->flags & OFS_REC_KNOWN) && !kept; i++) {
		kept = linkat(w->tree_fd, path, w->trash_fd, name, 0) == 0 ||
				(errno == EEXIST && is_same_file(w->tree_fd, path, w->trash_fd, name));
		if (!kept && (errno != EEXIST || i == TRASH_NAMES_MOST)) {
			die(w, path, "trash");
		}
		snprintf(name, sizeof(name), "f.%s.%u", hex, i);
	}
	client_effect(w);
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

	*f = (struct model_file){.text = ""};
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

	world_trace(w, "unlink", path, "");
	client_change_begin(w, path, 0);
	module_trash(w, path, &rec);
	if (unlinkat(w->tree_fd, path, 0) != 0) {
		die(w, path, "unlink");
	}
	model_remove(w, path);
	client_effect(w);
	client_hint(w, OFS_HINT_UNLINKED, path, &rec);
}

void client_mkdir(struct world *w, const char *path)
{
	struct ofs_record rec = {.flags = OFS_REC_DIR | OFS_REC_LISTED | OFS_REC_META_DIRTY};
	int fd;

	world_trace(w, "mkdir", path, "");
	client_change_begin(w, path, 0);
	if (mkdirat(w->tree_fd, path, 0777) != 0) {
		die(w, path, "mkdir");
	}
	snprintf(w->dirs[w->dir_count++], 256, "%s", path);
	client_effect(w);
	fd = openat(w->tree_fd, path, O_RDONLY | O_DIRECTORY);
	clock_random(sim_clock(w->sim), &rec.oid, sizeof(rec.oid));
	rec.meta_gen = 1;
	ofs_record_set(&w->rio, fd, &rec);
	close(fd);
	client_effect(w);
	client_hint(w, OFS_HINT_MKDIR, path, &rec);
}

void client_rmdir(struct world *w, const char *path)
{
	struct ofs_record rec;
	char name[64] = "d.";
	unsigned i;
	int fd;

	world_trace(w, "rmdir", path, "");
	client_change_begin(w, path, 0);
	client_record_at(w, path, &rec);
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
	client_hint(w, OFS_HINT_RMDIR, path, &rec);
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

	world_trace(w, "rename", from, to);
	client_change_begin(w, from, 0);
	client_change_begin(w, to, 1);
	client_record_at(w, from, &rec);
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
	client_effect(w);
	hint_send(w, &h);
}
