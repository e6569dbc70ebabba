/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: questions to the daemon beside bytes and names (sim_asks.h).
 * Way: a story -> here, through the border -> the daemon's core -> an answer, or another daemon.
 * Thread: the simulator's.
 * Owns: a question until it is answered; one that a dead daemon had is never answered, and is left.
 * Holds: a copy that the daemon refused, or began and did not end, leaves record and marker alike: whoever opens the file
 *        next sees what it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "sim_asks.h"
#include "sim_client.h"
#include "sim_handle.h"
#include "cached/evict/evict.h"
#include "cached/mirror/mirror_private.h"
#include "cached/recall/recall.h"
#include "cached/reconcile/reconcile.h"

#define ANSWER_NS (600 * NS_PER_S)
#define FLUSH_NS (60 * NS_PER_S)

struct question {
	struct world *w;
	unsigned life; /* of the daemon that is asked: no other answers */
	bool done;
	int status;
	int fd; /* the client's own; the daemon has another one of the same open file */
	struct ofs_oid oid;
	uint64_t size;
	const char *path;
	bool on;
};

static void on_answer(int status, const char *message, void *arg)
{
	struct question *q = arg;

	(void)message;
	q->status = status;
	q->done = true;
}

static bool answered(void *arg)
{
	struct question *q = arg;

	return q->done || q->life != q->w->lives;
}

/* NULL: there is no daemon to ask. */
static struct question *question_new(struct world *w, const char *path, int fd)
{
	struct question *q;

	if (w->v == NULL || w->v->state != VOLUME_READY) {
		return NULL;
	}
	q = calloc(1, sizeof(*q));
	q->w = w;
	q->life = w->lives;
	q->path = path;
	q->fd = fd;
	return q;
}

/* -ENOTCONN: whoever was asked has gone. -EINPROGRESS: it is not answered yet, and may be. */
static int question_ask(struct question *q, void (*ask)(void *arg), int64_t wait_ns)
{
	struct world *w = q->w;
	int status;

	(void)sim_enter(w->sim, ask, q);
	if (!sim_run_until(w->sim, answered, q, wait_ns)) {
		return -EINPROGRESS;
	}
	status = q->done ? q->status : -ENOTCONN;
	free(q);
	return status;
}

/* ---- a copy ---- */

static void ask_copy(void *arg)
{
	struct question *q = arg;

	reconcile_copy(q->w->v->reconcile, fcntl(q->fd, F_DUPFD_CLOEXEC, 0), &q->oid, q->size, on_answer, q);
}

static void ask_take(void *arg)
{
	struct question *q = arg;

	reconcile_copy_take(q->w->v->reconcile, fcntl(q->fd, F_DUPFD_CLOEXEC, 0), &q->oid, q->size, on_answer, q);
}

/* -EOPNOTSUPP: nobody to ask. */
static int copy_ask(struct world *w, int fd, void (*ask)(void *arg), const struct ofs_record *of, const char *path)
{
	struct question *q = question_new(w, path, fd);
	int status;

	if (q == NULL) {
		return -EOPNOTSUPP;
	}
	q->oid = of->oid;
	q->size = of->size;
	status = question_ask(q, ask, ANSWER_NS);
	if (status == -EINPROGRESS) {
		die(w, path, "no answer about a copy");
	}
	return status;
}

static bool is_marked(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & OFS_MARKER_MODE) != 0;
}

/* By the store. true: the new file is a stub of the copy. */
static bool copy_whole(struct world *w, struct handle *h, const struct ofs_record *source)
{
	struct ofs_record rec;
	int status;

	if (copy_ask(w, *h->fd, ask_copy, source, h->path) != 0 || ofs_record_get(&w->rio, *h->fd, &rec) != 0) {
		return false;
	}
	rec.size = source->size;
	status = copy_ask(w, *h->fd, ask_take, &rec, h->path);
	(void)fcntl(*h->fd, F_SETLEASE, F_UNLCK); /* of a daemon that died in between */
	if (status != -ENOTCONN && client_is_stub(w, *h->fd) != is_marked(*h->fd)) {
		die(w, h->path, "record and marker do not say the same of a copy");
	}
	return status == 0;
}

void client_copy(struct world *w, const char *from, const char *to)
{
	struct ofs_record source;
	struct handle h = {.path = ""};
	char text[sizeof(w->files[0].text)];
	int fd;

	snprintf(text, sizeof(text), "%s", world_file(w, from)->text);
	fd = openat(w->tree_fd, from, O_PATH | O_CLOEXEC);
	if (fd < 0 || ofs_record_get(&w->rio, fd, &source) != 0) {
		die(w, from, "no record");
	}
	close(fd);
	handle_create(w, &h, to);
	if ((source.flags & OFS_REC_STUB) == 0 || !copy_whole(w, &h, &source)) {
		if (!client_is_stub(w, *h.fd) || handle_empty(w, &h)) { /* else it is a stub of the very bytes */
			handle_write(w, &h, text, 0);
		}
	}
	snprintf(world_file(w, to)->text, sizeof(text), "%s", text);
	handle_close(w, &h);
}

/* ---- flush ---- */

static void ask_flush_fd(void *arg)
{
	struct question *q = arg;

	reconcile_flush_fd(q->w->v->reconcile, fcntl(q->fd, F_DUPFD_CLOEXEC, 0), on_answer, q);
}

bool client_flush(struct world *w, const char *path)
{
	int fd = client_open(w, path, O_RDWR);
	struct question *q = question_new(w, path, fd);
	bool there = q != NULL && question_ask(q, ask_flush_fd, FLUSH_NS) == 0;

	close(fd);
	return there;
}

static void on_flushed(int status, json_t *left, void *arg)
{
	(void)left;
	on_answer(status, NULL, arg);
}

static void ask_flush(void *arg)
{
	struct question *q = arg;

	reconcile_flush(q->w->v->reconcile, q->path, clock_now_ns(q->w->v->clock) + FLUSH_NS / 2, on_flushed, q);
}

void asks_flush(struct world *w, const char *path)
{
	struct question *q = question_new(w, path, -1);

	if (q != NULL) {
		(void)question_ask(q, ask_flush, FLUSH_NS);
	}
}

/* ---- what an administrator wants ---- */

static struct row *row_of(struct world *w, const char *path)
{
	struct ofs_record rec;

	return ofs_record_get_at(&w->rio, w->tree_fd, path, &rec) == 0 ? index_get(w->v->index, &rec.oid) : NULL;
}

static void on_pinned(void *arg, int status)
{
	on_answer(status, NULL, arg);
}

static void ask_pin(void *arg)
{
	struct question *q = arg;
	struct row *row = row_of(q->w, q->path);

	if (row == NULL) {
		on_answer(-ENOENT, NULL, q);
	} else {
		evict_pin(q->w->v->evictor, &row->oid, q->on, on_pinned, q);
	}
}

void asks_pin(struct world *w, const char *path, bool on)
{
	struct question *q = question_new(w, path, -1);

	if (q != NULL) {
		q->on = on;
		(void)question_ask(q, ask_pin, ANSWER_NS);
	}
}

static void on_warm(int status, const char *message, uint64_t bytes, void *arg)
{
	(void)bytes;
	on_answer(status, message, arg);
}

static void ask_warm(void *arg)
{
	struct question *q = arg;

	recall_whole(q->w->v->recalls, 1, q->path, on_warm, q);
}

void asks_warm(struct world *w, const char *path)
{
	struct question *q = question_new(w, path, -1);

	if (q != NULL && question_ask(q, ask_warm, ANSWER_NS) == -EINPROGRESS) {
		die(w, path, "no answer about a file that is to be resident");
	}
}

/* ---- what an administrator sees ---- */

static void pinned_path(void *arg, const char *path)
{
	(void)path;
	++*(unsigned *)arg;
}

static void look(void *arg)
{
	struct volume *v = ((struct world *)arg)->v;
	json_t *said[] = {reconcile_pending(v->reconcile, 5), reconcile_renames(v->reconcile, 5),
			reconcile_conflicts(v->reconcile, 5), evict_json(v->evictor), recalls_json(v->recalls)};
	unsigned pinned = 0;

	evict_pins_each(v->evictor, pinned_path, &pinned);
	if (pinned != json_integer_value(json_object_get(said[3], "pins"))) {
		die(arg, "pins", "of two numbers");
	}
	for (unsigned i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
		if (said[i] == NULL) {
			die(arg, "status", "says nothing");
		}
		json_decref(said[i]);
	}
}

void asks_looks(struct world *w)
{
	if (w->v != NULL && w->v->state == VOLUME_READY) {
		(void)sim_enter(w->sim, look, w);
	}
}
