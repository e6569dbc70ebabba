/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From a marked file to its bytes: attach to the daemon's recall, look at the extent map, fetch.
 * Way: from ofs_io and ofs_open; through ofs_call.c to the daemon's recall.
 * Thread: the client's smbd; the plain calls wait, ofs_recall_send does not.
 * Owns: the mapping of the extent map and the open_id, both in struct ofs_file.
 * Holds: 1. A set bit is believed only while the daemon that mapped it is the last one that started:
 *           another one begins anew, and serves others before we have so much as noticed. While none
 *           is there nobody changes the file, and the bit holds.
 *        2. marked -> [OPEN] -> attached -> [FETCH] -> ... ; plain once OPEN answers no open_id,
 *           or a whole FETCH or DISCARD succeeded; never marked again while it is open.
 *        3. A lost connection is an attempt, not an answer: OPEN and FETCH are made again.
 *        4. smbd lets a file go once its own requests have ended, but a copy belongs to the file that
 *           is written: what still waits for bytes of a file that is closed ends with EBADF.
 */
#include "ofs.h"

#include <poll.h>
#include <sys/mman.h>

/* A daemon that is coming back may drop a connection several times: not faster than that, and not
 * longer than the reconnect timeout. */
#define RECALL_ATTEMPTS_AT_ONCE 2
#define RECALL_PAUSE_MS 100
#define EXTENT_SHIFT_MIN 12u
#define EXTENT_SHIFT_MAX 40u

static void recall_unmap(struct ofs_file *f)
{
	if (f->map != NULL) {
		munmap(discard_const_p(uint8_t, f->map), f->map_len);
		f->map = NULL;
	}
	f->open_id = 0;
}

void ofs_recall_release(struct ofs_file *f)
{
	if (f->open_id != 0) {
		ofs_call_release(f->conn->link, f->generation, f->open_id);
	}
	recall_unmap(f);
}

/* Forget the recall: the file is plain. */
static void recall_over(struct ofs_file *f)
{
	ofs_recall_release(f);
	f->marked = false;
}

static bool recall_attached(const struct ofs_conn *c, const struct ofs_file *f)
{
	return f->open_id != 0 && f->generation == ofs_link_generation(c->link);
}

/* Take over an OPEN reply and its descriptor. */
static int recall_attach(struct ofs_conn *c, struct ofs_file *f, const struct ofs_open_rep *rep,
		int map_fd)
{
	uint64_t generation = ofs_link_generation(c->link);
	uint64_t extents;
	struct stat st;
	void *map;
	int ret = 0;

	if (rep->open_id == 0) {
		recall_over(f);
		return 0;
	}
	if (recall_attached(c, f)) { /* another request of this file was faster */
		close(map_fd);
		ofs_call_release(c->link, generation, rep->open_id);
		return 0;
	}
	recall_unmap(f);
	if (rep->extent_shift < EXTENT_SHIFT_MIN || rep->extent_shift > EXTENT_SHIFT_MAX ||
			rep->size > INT64_MAX) {
		close(map_fd);
		return -EIO;
	}
	extents = (rep->size + (UINT64_C(1) << rep->extent_shift) - 1) >> rep->extent_shift;
	f->map_len = MAX((extents + 7) / 8, 1);
	if (fstat(map_fd, &st) != 0) {
		ret = -errno;
	} else if ((uint64_t)st.st_size < (extents + 7) / 8) {
		ret = -EIO;
	} else if (extents > 0) {
		map = mmap(NULL, f->map_len, PROT_READ, MAP_SHARED, map_fd, 0);
		if (map == MAP_FAILED) {
			ret = -errno;
		} else {
			f->map = map;
		}
	}
	close(map_fd);
	if (ret != 0) {
		ofs_call_release(c->link, generation, rep->open_id);
		return ret;
	}
	f->open_id = rep->open_id;
	f->generation = generation;
	f->size = rep->size;
	f->extent_shift = rep->extent_shift;
	return 0;
}

bool ofs_recall_here(const struct ofs_file *f, uint64_t generation, uint64_t offset,
		uint64_t length)
{
	uint64_t last;

	if (!f->marked) {
		return true;
	}
	if (f->open_id == 0 || f->generation != generation ||
			atomic_load(&f->conn->shm->daemon_generation) != f->conn->daemon_generation) {
		return false;
	}
	if (length == 0 || offset >= f->size) {
		return true;
	}
	length = MIN(length, f->size - offset);
	last = (offset + length - 1) >> f->extent_shift;
	for (uint64_t e = offset >> f->extent_shift; e <= last; e++) {
		uint8_t byte = __atomic_load_n(&f->map[e / 8], __ATOMIC_ACQUIRE);

		if ((byte & (1u << (e % 8))) == 0) {
			return false;
		}
	}
	return true;
}

/* These say that the way is gone, not that the bytes are. */
static bool recall_again(int ret)
{
	return ret == -ESTALE || ret == -ECONNRESET || ret == -EBADF;
}

static unsigned recall_attempts_max(const struct ofs_conn *c)
{
	return RECALL_ATTEMPTS_AT_ONCE + c->reconnect_timeout_ms / RECALL_PAUSE_MS;
}

static void recall_fetch_req(const struct ofs_file *f, struct ofs_fetch_req *m, uint64_t offset,
		uint64_t length, bool whole)
{
	memset(m, 0, sizeof(*m));
	m->open_id = f->open_id;
	if (whole) {
		m->length = f->size;
		m->flags = OFS_WIRE_FETCH_WHOLE;
	} else {
		m->offset = offset;
		m->length = MIN(length, f->size - MIN(offset, f->size));
	}
}

static int recall_open(struct ofs_conn *c, struct ofs_file *f, bool for_write)
{
	struct ofs_open_rep rep;
	int map_fd, ret;

	recall_unmap(f);
	ret = ofs_call_open(c->link, f->fd, for_write ? OFS_WIRE_OPEN_WRITE : 0, &rep, &map_fd);
	return ret == 0 ? recall_attach(c, f, &rep, map_fd) : ret;
}

static int recall_wait(struct ofs_conn *c, struct ofs_file *f, uint64_t offset, uint64_t length,
		bool whole)
{
	unsigned attempts = recall_attempts_max(c);
	int ret = 0;

	for (unsigned i = 0; i < attempts; i++) {
		struct ofs_fetch_req m;

		if (i >= RECALL_ATTEMPTS_AT_ONCE) {
			(void)poll(NULL, 0, RECALL_PAUSE_MS);
		}
		if (f->marked && !recall_attached(c, f)) {
			ret = recall_open(c, f, whole);
			if (recall_again(ret)) {
				continue;
			}
			if (ret != 0) {
				return ret;
			}
		}
		if (!f->marked || (!whole && ofs_recall_here(f, f->generation, offset, length))) {
			return 0;
		}
		recall_fetch_req(f, &m, offset, length, whole);
		ret = ofs_call_fetch(c->link, f->generation, &m, m.length);
		if (ret == 0 && whole) {
			recall_over(f);
		}
		if (!recall_again(ret)) {
			return ret;
		}
		recall_unmap(f);
	}
	return ret == -EBADF ? -EIO : -ETIMEDOUT;
}

int ofs_recall_range(struct ofs_conn *c, struct ofs_file *f, uint64_t offset, uint64_t length)
{
	return recall_wait(c, f, offset, length, false);
}

int ofs_recall_whole(struct ofs_conn *c, struct ofs_file *f)
{
	return recall_wait(c, f, 0, UINT64_MAX, true);
}

int ofs_recall_discard(struct ofs_conn *c, struct ofs_file *f)
{
	int ret = 0;

	for (unsigned i = 0; i < recall_attempts_max(c) && f->marked; i++) {
		if (i >= RECALL_ATTEMPTS_AT_ONCE) {
			(void)poll(NULL, 0, RECALL_PAUSE_MS);
		}
		if (!recall_attached(c, f)) {
			ret = recall_open(c, f, true);
			if (ret != 0) {
				return ret;
			}
			if (!f->marked) {
				return 0;
			}
		}
		ret = ofs_call_discard(c->link, f->generation, f->open_id);
		if (ret == 0) {
			recall_over(f);
			return 0;
		}
		if (!recall_again(ret)) {
			return ret;
		}
		recall_unmap(f);
	}
	return f->marked ? -EIO : 0;
}

/* --- the same without waiting --- */

struct ofs_recall_wait {
	struct ofs_recall_wait *prev, *next; /* of the file's */
	struct tevent_req *req;
	struct tevent_req *subreq; /* what it waits for */
	struct ofs_conn *conn;
	struct ofs_file *file;
	uint64_t offset, length;
	bool whole;
	struct tevent_context *ev;
	unsigned attempts;
};

static void recall_step(struct tevent_req *req);

static void recall_wait_for(struct tevent_req *req, struct tevent_req *subreq,
		void (*done)(struct tevent_req *subreq))
{
	struct ofs_recall_wait *state = tevent_req_data(req, struct ofs_recall_wait);

	if (!tevent_req_nomem(subreq, req)) {
		state->subreq = subreq;
		tevent_req_set_callback(subreq, done, req);
	}
}

static void recall_paused(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	struct ofs_recall_wait *state = tevent_req_data(req, struct ofs_recall_wait);

	(void)tevent_wakeup_recv(subreq);
	TALLOC_FREE(state->subreq);
	recall_step(req);
}

/* The way was lost: once more, after a pause unless it is the first time. */
static void recall_retry(struct tevent_req *req)
{
	struct ofs_recall_wait *state = tevent_req_data(req, struct ofs_recall_wait);
	struct tevent_req *subreq;

	if (++state->attempts < RECALL_ATTEMPTS_AT_ONCE) {
		recall_step(req);
		return;
	}
	if (state->attempts >= recall_attempts_max(state->conn)) {
		tevent_req_error(req, ETIMEDOUT);
		return;
	}
	subreq = tevent_wakeup_send(
			state, state->ev, timeval_current_ofs_msec(RECALL_PAUSE_MS));
	recall_wait_for(req, subreq, recall_paused);
}

static void recall_open_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	struct ofs_recall_wait *state = tevent_req_data(req, struct ofs_recall_wait);
	struct ofs_open_rep rep;
	int map_fd, ret;

	ret = ofs_call_open_recv(state->conn->link, subreq, &rep, &map_fd);
	TALLOC_FREE(state->subreq);
	if (ret == 0) {
		ret = recall_attach(state->conn, state->file, &rep, map_fd);
	}
	if (recall_again(ret)) {
		recall_retry(req);
	} else if (ret != 0) {
		tevent_req_error(req, -ret);
	} else {
		recall_step(req);
	}
}

static void recall_fetch_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	struct ofs_recall_wait *state = tevent_req_data(req, struct ofs_recall_wait);
	int ret;

	ret = ofs_call_fetch_recv(state->conn->link, subreq);
	TALLOC_FREE(state->subreq);
	if (ret == 0) {
		if (state->whole) {
			recall_over(state->file);
		}
		tevent_req_done(req);
		return;
	}
	if (!recall_again(ret)) {
		tevent_req_error(req, -ret);
		return;
	}
	recall_unmap(state->file);
	recall_retry(req);
}

static void recall_step(struct tevent_req *req)
{
	struct ofs_recall_wait *state = tevent_req_data(req, struct ofs_recall_wait);
	struct ofs_file *f = state->file;
	struct ofs_conn *c = state->conn;
	struct ofs_fetch_req m;
	struct tevent_req *subreq;

	if (ofs_recall_here(f, ofs_link_generation(c->link), state->offset, state->length) &&
			!(state->whole && f->marked)) {
		tevent_req_done(req);
		return;
	}
	if (!recall_attached(c, f)) {
		subreq = ofs_call_open_send(state, c->link, f->fd,
				state->whole ? OFS_WIRE_OPEN_WRITE : 0);
		recall_wait_for(req, subreq, recall_open_done);
		return;
	}
	recall_fetch_req(f, &m, state->offset, state->length, state->whole);
	subreq = ofs_call_fetch_send(state, c->link, f->generation, &m, m.length);
	recall_wait_for(req, subreq, recall_fetch_done);
}

static void recall_leave(struct tevent_req *req, enum tevent_req_state req_state)
{
	struct ofs_recall_wait *state = tevent_req_data(req, struct ofs_recall_wait);

	(void)req_state;
	if (state->file != NULL) {
		DLIST_REMOVE(state->file->waits, state);
		state->file = NULL;
	}
}

void ofs_recall_abandon(struct ofs_file *f)
{
	while (f->waits != NULL) {
		struct ofs_recall_wait *state = f->waits;

		TALLOC_FREE(state->subreq);
		tevent_req_defer_callback(state->req, state->ev);
		tevent_req_error(state->req, EBADF); /* leaves the list */
	}
}

struct tevent_req *ofs_recall_send(TALLOC_CTX *ctx, struct tevent_context *ev, struct ofs_conn *c,
		struct ofs_file *f, uint64_t offset, uint64_t length, bool whole)
{
	struct ofs_recall_wait *state;
	struct tevent_req *req;

	req = tevent_req_create(ctx, &state, struct ofs_recall_wait);
	if (req == NULL) {
		return NULL;
	}
	state->conn = c;
	state->file = f;
	state->offset = offset;
	state->length = length;
	state->whole = whole;
	state->ev = ev;
	state->req = req;
	DLIST_ADD(f->waits, state);
	tevent_req_set_cleanup_fn(req, recall_leave);
	recall_step(req);
	if (!tevent_req_is_in_progress(req)) {
		return tevent_req_post(req, ev);
	}
	return req;
}

int ofs_recall_recv(struct tevent_req *req)
{
	int err;

	if (tevent_req_is_unix_error(req, &err)) {
		tevent_req_received(req);
		return -err;
	}
	tevent_req_received(req);
	return 0;
}
