/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Those who wait for the daemon's answers, synchronously or in tevent.
 * Way: from ofs_call.c; through ofs_link.c.
 * Thread: the client's smbd. Synchronous calls block up to their deadline, nothing else does.
 * Owns: struct ofs_waiter: what it still has to send, its descriptor, its reply until taken.
 * Holds: 1. Every waiter is completed: by its reply, its deadline, a lost connection, or teardown.
 *        2. Requests not yet sent survive a loss of the connection; those sent answer -ECONNRESET
 *           and are made again until their deadline: all are idempotent, or bound to a generation.
 *        3. A synchronous wait takes in the answers of others too; their callbacks run from the
 *           loop, never inside the wait.
 */
#include "ofs_link_impl.h"

/* however long the daemon has been away, a request gives it this long to show up */
#define ATTEMPT_MS 200

/* --- waiters --- */

int ofs_reply_destructor(struct ofs_reply *reply)
{
	while (reply->fd_count > 0) {
		int fd = reply->fds[--reply->fd_count];

		if (fd >= 0) {
			close(fd);
		}
	}
	return 0;
}

static void waiter_unlink(struct ofs_waiter *w)
{
	if (w->in_list) {
		DLIST_REMOVE(w->link->waiters, w);
		w->in_list = false;
	}
	if (w->fd >= 0) {
		close(w->fd);
		w->fd = -1;
	}
}

static int waiter_destructor(struct ofs_waiter *w)
{
	waiter_unlink(w);
	return 0;
}

static struct ofs_waiter *waiter_new(struct ofs_link *link, const struct ofs_frame *frame, int *err)
{
	struct ofs_waiter *w;

	*err = -ENOMEM;
	if (frame->len < 0) {
		*err = (int)frame->len;
		return NULL;
	}
	w = talloc_zero(link, struct ofs_waiter);
	if (w == NULL) {
		return NULL;
	}
	w->link = link;
	w->fd = -1;
	w->id = frame->id;
	w->op = frame->op;
	w->generation = frame->generation;
	w->deadline_ms = ofs_link_now_ms() + frame->timeout_ms;
	w->out_len = (size_t)frame->len;
	w->out = talloc_memdup(w, frame->bytes, w->out_len);
	if (w->out == NULL) {
		TALLOC_FREE(w);
		return NULL;
	}
	talloc_set_destructor(w, waiter_destructor);
	if (frame->fd >= 0) {
		w->fd = fcntl(frame->fd, F_DUPFD_CLOEXEC, 0);
		if (w->fd < 0) {
			*err = -errno;
			TALLOC_FREE(w);
			return NULL;
		}
	}
	DLIST_ADD_END(link->waiters, w);
	w->in_list = true;
	*err = 0;
	return w;
}

void ofs_waiter_complete(struct ofs_waiter *w, int error, struct ofs_reply *reply)
{
	struct tevent_req *req = w->req;

	waiter_unlink(w);
	TALLOC_FREE(w->timer);
	w->done = true;
	w->error = error;
	w->reply = reply != NULL ? talloc_move(w, &reply) : NULL;
	if (req != NULL) {
		w->req = NULL;
		if (error != 0) {
			tevent_req_error(req, -error);
		} else {
			tevent_req_done(req);
		}
	} else if (w->oneway) {
		talloc_free(w);
	}
}

/* --- calls --- */

static int link_call_once(struct ofs_link *link, const struct ofs_frame *frame,
		int64_t deadline_ms, TALLOC_CTX *ctx, struct ofs_reply **reply)
{
	int64_t grace_ms = ofs_link_now_ms() + ATTEMPT_MS;
	struct ofs_waiter *w;
	bool tried = false;
	int ret;

	w = waiter_new(link, frame, &ret);
	if (w == NULL) {
		return ret;
	}
	ofs_link_flush(link);
	while (!w->done) {
		int64_t now = ofs_link_now_ms();
		int64_t until = deadline_ms;

		if (link->state != LINK_UP) {
			if (w->generation != 0) {
				ofs_waiter_complete(w, -ESTALE, NULL);
				break;
			}
			/* one attempt is made at once, however long the daemon has been away and
			 * whatever the backoff says: it may just have come back */
			if (link->state == LINK_DOWN &&
					(!tried || now >= link->next_attempt_ms)) {
				tried = true;
				ofs_link_connect(link);
				continue;
			}
			if (now >= ofs_link_patience_ms(link) && link->state == LINK_DOWN) {
				ofs_link_log_away(link);
				ofs_waiter_complete(w, -ETIMEDOUT, NULL);
				break;
			}
			until = MIN(until, MAX(ofs_link_patience_ms(link), grace_ms));
		}
		if (now >= until) {
			if (link->state != LINK_UP) {
				ofs_link_log_away(link);
			} else {
				DBG_ERR("volume %s: no answer to request %ju %s in time\n",
						link->conn->volume, (uintmax_t)w->id,
						ofs_link_op_name(w->op));
			}
			ofs_waiter_complete(w, -ETIMEDOUT, NULL);
			break;
		}
		ofs_link_pump(link, until);
	}
	ret = w->error;
	if (ret == 0) {
		*reply = talloc_move(ctx, &w->reply);
	}
	talloc_free(w);
	return ret;
}

int ofs_link_call(struct ofs_link *link, const struct ofs_frame *frame, TALLOC_CTX *ctx,
		struct ofs_reply **reply)
{
	int64_t deadline_ms = ofs_link_now_ms() + frame->timeout_ms;
	int ret;

	do {
		ret = link_call_once(link, frame, deadline_ms, ctx, reply);
	} while (ret == -ECONNRESET && frame->generation == 0 &&
			ofs_link_now_ms() < deadline_ms);
	return ret == -ECONNRESET && frame->generation == 0 ? -ETIMEDOUT : ret;
}

struct call_state {
	struct ofs_waiter *w;
	struct ofs_reply *reply;
};

static void call_cleanup(struct tevent_req *req, enum tevent_req_state req_state)
{
	struct call_state *state = tevent_req_data(req, struct call_state);
	struct ofs_waiter *w = state->w;

	if (w == NULL) {
		return;
	}
	state->w = NULL;
	if (req_state == TEVENT_REQ_DONE) {
		state->reply = w->reply != NULL ? talloc_move(state, &w->reply) : NULL;
	}
	if (w->done || w->out == NULL || w->out_done == 0) {
		talloc_free(w);
		return;
	}
	/* half of it is in the socket: the rest has to follow, its answer is nobody's */
	w->req = NULL;
	w->oneway = true;
	TALLOC_FREE(w->timer);
}

static void call_deadline(struct tevent_context *ev, struct tevent_timer *te, struct timeval now,
		void *private_data)
{
	struct ofs_waiter *w = talloc_get_type_abort(private_data, struct ofs_waiter);

	(void)ev;
	(void)te;
	(void)now;
	DBG_ERR("volume %s: no answer to request %ju %s in time\n", w->link->conn->volume,
			(uintmax_t)w->id, ofs_link_op_name(w->op));
	w->timer = NULL;
	tevent_req_error(w->req, ETIMEDOUT);
}

struct tevent_req *ofs_link_call_send(TALLOC_CTX *ctx, struct ofs_link *link,
		const struct ofs_frame *frame)
{
	struct call_state *state;
	struct tevent_req *req;
	struct ofs_waiter *w;
	int64_t wait_ms = frame->timeout_ms;
	int ret;

	req = tevent_req_create(ctx, &state, struct call_state);
	if (req == NULL) {
		return NULL;
	}
	if (frame->generation != 0 && (link->state != LINK_UP ||
			frame->generation != link->generation)) {
		tevent_req_error(req, ESTALE);
		return tevent_req_post(req, link->ev);
	}
	w = waiter_new(link, frame, &ret);
	if (w == NULL) {
		tevent_req_error(req, -ret);
		return tevent_req_post(req, link->ev);
	}
	if (link->state == LINK_DOWN) {
		wait_ms = MIN(wait_ms, MAX(ofs_link_patience_ms(link) - ofs_link_now_ms(), ATTEMPT_MS));
	}
	w->timer = tevent_add_timer(link->ev, w, timeval_current_ofs_msec((uint32_t)wait_ms),
			call_deadline, w);
	if (w->timer == NULL) {
		talloc_free(w);
		tevent_req_error(req, ENOMEM);
		return tevent_req_post(req, link->ev);
	}
	w->req = req;
	state->w = w;
	tevent_req_set_cleanup_fn(req, call_cleanup);
	tevent_req_defer_callback(req, link->ev);
	if (link->state == LINK_DOWN) {
		ofs_link_connect(link);
	}
	ofs_link_flush(link);
	ofs_link_retry_arm(link);
	return req;
}

int ofs_link_call_recv(struct tevent_req *req, TALLOC_CTX *ctx, struct ofs_reply **reply)
{
	struct call_state *state = tevent_req_data(req, struct call_state);
	int err;

	if (tevent_req_is_unix_error(req, &err)) {
		tevent_req_received(req);
		return -err;
	}
	*reply = talloc_move(ctx, &state->reply);
	tevent_req_received(req);
	return *reply != NULL ? 0 : -EIO;
}

void ofs_link_post(struct ofs_link *link, const struct ofs_frame *frame)
{
	struct ofs_waiter *w;
	int ret;

	if (link->state != LINK_UP ||
			(frame->generation != 0 && frame->generation != link->generation)) {
		return; /* the session it speaks of is gone, and with it what it would release */
	}
	w = waiter_new(link, frame, &ret);
	if (w != NULL) {
		w->oneway = true;
		ofs_link_flush(link);
	}
}

void ofs_link_answer(struct ofs_link *link, const struct ofs_frame *frame)
{
	struct ofs_waiter *w;
	int ret;

	w = link->state == LINK_UP ? waiter_new(link, frame, &ret) : NULL;
	if (w != NULL) {
		w->oneway = true;
		w->answer = true;
		ofs_link_flush(link);
	}
}
