/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what the client of sim_world.h asks the daemon: names, listings, a stub's bytes, or that they leave the disk.
 * Way: from the sim programs and sim_client.c; straight into the core's rooms.
 * Thread: one. Owns: the question that is waited for.
 * Holds: 1. an answer is awaited as long as the daemon lives that was asked; it fails if that says nothing;
 *        2. what fails here ends the program and names the seed.
 */
#include "sim_world.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cached/evict/evict.h"
#include "cached/mirror/mirror.h"
#include "cached/recall/recall.h"
#include "sim_client.h"

struct stub_ask { /* a question to the daemon, and its answer */
	struct world *w;
	unsigned life; /* of the daemon that is asked: no other answers */
	int fd;
	const char *name;
	bool refresh, done;
	bool dead; /* the client has died, and the daemon not */
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
	if (a->dead && open_id != 0) {
		recall_release(a->w->v->recalls, open_id);
	}
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
	struct stub_ask *a = arg;

	return a->done || a->life != a->w->lives;
}

/* Ask, and wait for the answer; -ENOTCONN: whoever was asked has gone. */
static void stub_wait(struct world *w, struct stub_ask *a, void (*question)(void *ask), const char *path)
{
	a->w = w;
	a->life = w->lives;
	a->done = false;
	(void)sim_enter(w->sim, question, a);
	if (!sim_run_until(w->sim, stub_answered, a, 600 * NS_PER_S)) {
		die(w, path, "no answer about a stub");
	}
	if (!a->done) {
		a->status = -ENOTCONN;
	}
}

static void ask_open(void *arg)
{
	struct stub_ask *a = arg;

	recall_open(a->w->v->recalls, 0, RECALL_CLIENT_OWN, fcntl(a->fd, F_DUPFD_CLOEXEC, 0), on_stub_opened, a);
}

static void ask_discard(void *arg)
{
	struct stub_ask *a = arg;

	recall_discard(a->w->v->recalls, 0, a->open_id, on_stub_done, a);
}

static void ask_fetch(void *arg)
{
	struct stub_ask *a = arg;

	recall_fetch(a->w->v->recalls, 0, a->open_id, 0, 1, true, on_stub_done, a);
}

static void ask_release(void *arg)
{
	struct stub_ask *a = arg;

	recall_release(a->w->v->recalls, a->open_id);
}

static void ask_list(void *arg)
{
	struct stub_ask *a = arg;

	mirror_list(a->w->v->mirror, 0, 1, a->fd, a->refresh, on_stub_done, a);
}

static void ask_lookup(void *arg)
{
	struct stub_ask *a = arg;

	mirror_lookup(a->w->v->mirror, 0, a->fd, a->name, on_stub_done, a);
}

bool client_is_recorded_stub(struct world *w, int fd)
{
	struct ofs_record rec;

	return ofs_record_get(&w->rio, fd, &rec) == 0 && (rec.flags & OFS_REC_STUB) != 0;
}

bool client_is_stub(struct world *w, int fd)
{
	struct stat st;

	return (fstat(fd, &st) == 0 && (st.st_mode & OFS_MARKER_MODE) != 0) || client_is_recorded_stub(w, fd);
}

void client_asker_died(struct world *w)
{
	struct stub_ask *a = w->asking;

	if (a != NULL && w->v != NULL) {
		a->dead = true;
		if (a->open_id != 0) {
			recall_release(w->v->recalls, a->open_id);
		}
	}
	w->asking = NULL;
}

int client_stub_plain(struct world *w, int fd, const char *path, bool empty)
{
	struct stub_ask *a = calloc(1, sizeof(*a));
	int status;

	a->w = w;
	a->fd = fd;
	w->asking = a;
	stub_wait(w, a, ask_open, path);
	if (a->status == 0 && a->open_id != 0) {
		stub_wait(w, a, empty ? ask_discard : ask_fetch, path);
		if (a->life == w->lives) {
			(void)sim_enter(w->sim, ask_release, a);
		}
	}
	w->asking = NULL;
	status = a->status;
	free(a);
	if (status == 0 && client_is_recorded_stub(w, fd)) {
		die(w, path, "still a stub");
	}
	return status;
}

bool client_plain(struct world *w, const char *path, bool empty)
{
	int fd = client_open(w, path, O_RDONLY);
	struct stat st, there;
	bool plain = true;

	world_trace(w, empty ? "empty" : "recall", path, "");
	if (client_is_stub(w, fd)) {
		plain = w->v != NULL && client_stub_plain(w, fd, path, empty) == 0;
	}
	plain = plain && fstat(fd, &st) == 0 && fstatat(w->tree_fd, path, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
			st.st_ino == there.st_ino;
	close(fd);
	return plain;
}

bool client_lists(struct world *w, const char *path, bool refresh)
{
	struct stub_ask a = {0};
	int fd = w->v != NULL ? openat(w->tree_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd < 0) {
		return false;
	}
	world_trace(w, "list", path, refresh ? "anew" : "");
	a.fd = fd;
	a.refresh = refresh;
	stub_wait(w, &a, ask_list, path);
	return a.status == 0;
}

void client_read(struct world *w, const char *path, bool must)
{
	struct model_file *f = world_file(w, path);
	int fd = client_open(w, path, O_RDONLY);
	char text[sizeof(f->text)];
	int status = 0;
	ssize_t n;

	world_trace(w, "read", path, "");
	if (client_is_stub(w, fd)) {
		status = w->v != NULL ? client_stub_plain(w, fd, path, false) : -ENOTCONN;
	}
	if (status != 0) {
		close(fd);
		if (must) {
			die(w, path, "cannot be read");
		}
		if (status == -ENOENT) {
			die(w, path, "is there, and its object is said not to be");
		}
		return;
	}
	n = pread(fd, text, sizeof(text), 0);
	if (n != (ssize_t)strlen(f->text) || memcmp(text, f->text, (size_t)n) != 0) {
		die(w, path, "other bytes were read");
	}
	close(fd);
}

struct evict_ask {
	struct world *w;
	struct ofs_oid oid;
};

static void on_evicted(void *arg, int status)
{
	(void)arg;
	(void)status;
}

static void ask_evict(void *arg)
{
	struct evict_ask *a = arg;

	evict_file(a->w->v->evictor, &a->oid, on_evicted, a->w);
}

void client_evict(struct world *w, const char *path)
{
	struct ofs_record rec;

	world_trace(w, "evict", path, "");
	if (w->v != NULL && ofs_record_get_at(&w->rio, w->tree_fd, path, &rec) == 0) {
		(void)sim_enter(w->sim, ask_evict, &(struct evict_ask){w, rec.oid});
	}
}

static void on_dropped(void *arg, int status, uint64_t count)
{
	(void)arg;
	(void)status;
	(void)count;
}

static void ask_drop(void *arg)
{
	struct evict_ask *a = arg;

	evict_drop(a->w->v->evictor, &a->oid, INT64_MAX, on_dropped, a->w);
}

void client_drop(struct world *w, const char *path)
{
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
	client_drop_now(w, path);
}

void client_drop_now(struct world *w, const char *path)
{
	struct ofs_record rec;

	world_trace(w, "drop", path, "");
	if (ofs_record_get_at(&w->rio, w->tree_fd, *path ? path : ".", &rec) == 0) {
		(void)sim_enter(w->sim, ask_drop, &(struct evict_ask){w, rec.oid});
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
	world_trace(w, "look up", path, "");
	a.fd = openat(w->tree_fd, dir, O_RDONLY | O_DIRECTORY);
	a.name = slash ? slash + 1 : path;
	stub_wait(w, &a, ask_lookup, path);
	return a.status;
}

static void on_asked(int status, const char *message, void *arg)
{
	(void)status;
	(void)message;
	(void)arg;
}

void client_ask(struct world *w, const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[256];
	int fd;

	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	fd = w->v != NULL ? openat(w->tree_fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		world_trace(w, "ask for", path, "");
		mirror_lookup(w->v->mirror, 0, fd, slash ? slash + 1 : path, on_asked, NULL);
	}
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
