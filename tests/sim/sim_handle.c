/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the open files of sim_handle.h, in the module's order (vfs_objectfs/ofs_dirty.c, ofs_names.c).
 * Way: from sim_sequences.c; hints by sim_client.c's ring, questions into the core's rooms. Thread: one.
 * Owns: descriptors, until handle_close or handle_lost.
 * Holds:
 *  1. of a clean file the intent is on the disk before its first write;
 *  2. each write lies between two counts of its stripe. A client never dies between them here: its daemon would wait
 *     some seconds of real time for a dead writer (prepare.c).
 */
#include "sim_handle.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/mirror/snapshot.h"
#include "cached/reconcile/reconcile.h"
#include "sim_client.h"

#define FLUSH_NS (600 * NS_PER_S)

static ino_t inode_of(struct world *w, int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0) {
		die(w, "fstat", strerror(errno));
	}
	return st.st_ino;
}

static int *free_fd(struct world *w)
{
	for (unsigned i = 0; i < HANDLES_MOST; i++) {
		if (w->handle_fds[i] < 0) {
			return &w->handle_fds[i];
		}
	}
	die(w, "too many files are open", "");
}

bool handle_is_open(const struct handle *h)
{
	return h->fd != NULL;
}

void handle_open(struct world *w, struct handle *h, const char *path)
{
	snprintf(h->path, sizeof(h->path), "%s", path);
	h->fd = free_fd(w);
	*h->fd = client_open(w, path, O_RDWR);
	h->wrote = false;
}

void handle_create(struct world *w, struct handle *h, const char *path)
{
	struct ofs_record rec = {.flags = OFS_REC_META_DIRTY | OFS_REC_DATA_DIRTY, .data_gen = 1};

	world_trace(w, "create", path, "");
	client_change_begin(w, path, 0);
	snprintf(h->path, sizeof(h->path), "%s", path);
	h->fd = free_fd(w);
	*h->fd = client_open(w, path, O_RDWR | O_CREAT | O_EXCL);
	h->wrote = true;
	w->files[w->file_count] = (struct model_file){.text = ""};
	snprintf(w->files[w->file_count++].path, sizeof(h->path), "%s", path);
	client_effect(w);
	clock_random(sim_clock(w->sim), &rec.oid, sizeof(rec.oid));
	if (ofs_record_set(&w->rio, *h->fd, &rec) != 0) {
		die(w, path, "no record");
	}
	client_effect(w);
	client_hint(w, OFS_HINT_CREATED, path, &rec);
}

/* Intent, record, hint, within the change that has begun. */
static void dirty_set(struct world *w, struct handle *h)
{
	struct ofs_record rec;

	client_record(w, *h->fd, h->path, &rec);
	if (!(rec.flags & OFS_REC_DATA_DIRTY)) {
		client_intent(w, &rec, inode_of(w, *h->fd));
	}
	rec.flags |= OFS_REC_DATA_DIRTY;
	rec.data_gen++;
	if (ofs_record_set(&w->rio, *h->fd, &rec) != 0) {
		die(w, h->path, "no record");
	}
	client_effect(w);
	client_hint(w, OFS_HINT_DIRTY, h->path, &rec);
	h->wrote = true;
}

bool handle_before(struct world *w, struct handle *h, char text[HANDLE_TEXT_MOST])
{
	ssize_t n;

	if (client_is_stub(w, *h->fd) && client_stub_plain(w, *h->fd, h->path, false) != 0) {
		return false;
	}
	n = pread(*h->fd, text, HANDLE_TEXT_MOST - 1, 0);
	if (n < 0) {
		die(w, h->path, strerror(errno));
	}
	text[n] = '\0';
	return true;
}

static void first_write(struct world *w, struct handle *h)
{
	if (!h->wrote && h->path[0] != '\0') {
		client_change_begin(w, h->path, 0);
		dirty_set(w, h);
	}
}

void handle_write(struct world *w, struct handle *h, const char *text, off_t offset)
{
	struct ofs_shm_stripe *stripe = &w->shm->stripe[ofs_shm_stripe_of(inode_of(w, *h->fd))];

	world_trace(w, "write", h->path, text);
	first_write(w, h);
	ofs_shm_write_begin(stripe);
	if (pwrite(*h->fd, text, strlen(text), offset) != (ssize_t)strlen(text)) {
		die(w, h->path, "write");
	}
	ofs_shm_write_end(stripe);
	client_effect(w);
}

bool handle_empty(struct world *w, struct handle *h)
{
	struct ofs_shm_stripe *stripe = &w->shm->stripe[ofs_shm_stripe_of(inode_of(w, *h->fd))];
	struct ofs_record rec;

	world_trace(w, "empty", h->path, "");
	if (client_is_stub(w, *h->fd)) {
		client_change_begin(w, h->path, 0);
		client_record(w, *h->fd, h->path, &rec);
		client_intent(w, &rec, inode_of(w, *h->fd));
		if (client_stub_plain(w, *h->fd, h->path, true) != 0) {
			atomic_store(&w->ring.head->inflight[0], 0);
			return false;
		}
		client_effect(w);
		dirty_set(w, h);
	}
	first_write(w, h);
	ofs_shm_write_begin(stripe);
	if (ftruncate(*h->fd, 0) != 0) {
		die(w, h->path, "truncate");
	}
	ofs_shm_write_end(stripe);
	client_effect(w);
	return true;
}

/* By a descriptor that breaks no lease, as smbd sets them. */
void handle_rights(struct world *w, const char *path, const char *text)
{
	struct ofs_record rec;
	char proc[64];
	int fd;

	world_trace(w, "rights", path, text);
	client_change_begin(w, path, 0);
	fd = openat(w->tree_fd, path, O_PATH | O_CLOEXEC);
	client_record(w, fd, path, &rec);
	rec.flags |= OFS_REC_META_DIRTY;
	rec.meta_gen++;
	if (ofs_record_set(&w->rio, fd, &rec) != 0) {
		die(w, path, "no record");
	}
	client_effect(w);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (setxattr(proc, snapshot_ntacl_name(w->rio.xattr), text, strlen(text), 0) != 0) {
		die(w, path, "rights");
	}
	client_effect(w);
	close(fd);
	client_hint(w, OFS_HINT_ATTR, path, &rec);
}

struct flushing {
	bool done;
	int status;
};

static void on_flushed(int status, const char *message, void *arg)
{
	struct flushing *f = arg;

	(void)message;
	f->status = status;
	f->done = true;
}

static bool is_flushed(void *arg)
{
	return ((struct flushing *)arg)->done;
}

int handle_flush(struct world *w, struct handle *h)
{
	struct flushing *f = calloc(1, sizeof(*f)); /* not on the stack: who waits may be killed */
	int status;

	world_trace(w, "flush", h->path, "");
	reconcile_flush_fd(w->v->reconcile, fcntl(*h->fd, F_DUPFD_CLOEXEC, 0), on_flushed, f);
	if (!sim_run_until(w->sim, is_flushed, f, FLUSH_NS)) {
		die(w, "a flush does not end", h->path);
	}
	status = f->status;
	free(f);
	return status;
}

void handle_lost(struct handle *h)
{
	if (h->fd != NULL) {
		close(*h->fd);
		*h->fd = -1;
		h->fd = NULL;
	}
}

void handle_close(struct world *w, struct handle *h)
{
	struct ofs_record rec;

	if (h->fd == NULL) {
		return;
	}
	world_trace(w, "close", h->path, "");
	client_record(w, *h->fd, h->path, &rec);
	handle_lost(h);
	client_effect(w);
	if (h->wrote && h->path[0] != '\0') {
		client_hint(w, OFS_HINT_CLOSED, h->path, &rec);
	}
}
