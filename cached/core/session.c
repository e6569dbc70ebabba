/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: connections and frames: is the frame whole, may they send it, back goes the answer.
 * Way: smbd's module and objectfsctl -> server.c -> here -> dispatch.c; replies come by request.
 * Thread: core; sockets are non-blocking.
 * Owns: every connection, its buffers, received descriptors until a request takes them, requests
 * until answered.
 * Holds: (1) a bad frame ends its connection and nothing else. (2) A peer that does not read its
 * answers is not read from. (3) Descriptors pair with frames in order: the kernel ends a recvmsg at
 * the data they came with, and each message has a fixed number of them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "ask.h"
#include "session.h"
#include "session_private.h"
#include "../base/log.h"
#include "../base/stats.h"
#include "../guard/guard.h"
#include "../recall/recall.h"

#define READ_CHUNK_BYTES 65536u
#define READS_AT_ONCE 8
#define IN_FLIGHT_MAX 256u
#define OUT_PAUSE_BYTES (1u << 20)
#define REPLY_BYTES 4096u
#define MESSAGE_MAX_BYTES 2000

struct outgoing {
	struct outgoing *next;
	uint8_t *frame;
	size_t len, sent;
	int fds[OFS_WIRE_FDS_MAX];
	unsigned fd_count;
};

struct session {
	struct session *next, **prev;
	struct core *core;
	uint64_t id;
	int fd;
	struct tevent_fd *fde;
	struct tevent_immediate *later;
	bool root, admin, dead;
	bool closing; /* once the answers are out */
	pid_t pid;
	uid_t uid;
	struct volume *v; /* NULL: no HELLO yet */
	char samba[64];
	int64_t since_ns;
	uint64_t count; /* requests, ever */
	/* in */
	uint8_t *in;
	size_t in_len, in_cap;
	int fds[OFS_WIRE_FDS_MAX];
	int fd_count;
	struct request *requests;
	unsigned in_flight;
	/* out */
	struct outgoing *out, **out_tail;
	size_t out_bytes;
	/* recalls */
	uint64_t *opens;
	size_t open_count, open_cap;
	/* what we ask */
	bool answers; /* it can be asked */
	bool slow;    /* it has let us wait, and not answered since */
};

static void session_process(struct session *s);

/* ---- the end of a connection ---- */

static void outgoing_free(struct outgoing *o)
{
	for (unsigned i = 0; i < o->fd_count; i++) {
		close(o->fds[i]);
	}
	free(o->frame);
	free(o);
}

/* Not before: a dispatch further up may still read the frame. */
static int session_destroy(struct session *s)
{
	free(s->in);
	return 0;
}

static void session_free_later(
		struct tevent_context *ev, struct tevent_immediate *im, void *private_data)
{
	(void)ev;
	(void)im;
	talloc_free(private_data);
}

/* Everything but the memory goes now; callers further up the stack still look at `dead`. */
void session_end(struct session *s, const char *why)
{
	struct outgoing *o;

	if (s->dead) {
		return;
	}
	s->dead = true;
	log_line(s->v != NULL ? LOG_LVL_INFO : LOG_LVL_DEBUG, "core", 0,
			"session %llu (process %ld) ended: %s", (unsigned long long)s->id,
			(long)s->pid, why);
	if (s->v != NULL) {
		stats_add(sessions, -1);
	}
	if (s->v != NULL && !server_has_process(s->core, s->v, s->pid)) {
		guard_smbd(s->v->guard, s->pid, false);
	}
	TALLOC_FREE(s->fde);
	close(s->fd);
	while (s->requests != NULL) {
		struct request *req = s->requests;

		s->requests = req->next;
		req->session = NULL;
		req->next = NULL;
		req->prev = NULL;
	}
	for (size_t i = 0; i < s->open_count; i++) {
		recall_release(s->v->recalls, s->opens[i]);
	}
	s->open_count = 0;
	while ((o = s->out) != NULL) {
		s->out = o->next;
		outgoing_free(o);
	}
	while (s->fd_count > 0) {
		close(s->fds[--s->fd_count]);
	}
	*s->prev = s->next;
	if (s->next != NULL) {
		s->next->prev = s->prev;
	}
	if (s->v != NULL) {
		ask_lost(s->v->asker, s);
	}
	tevent_schedule_immediate(s->later, s->core->ev, session_free_later, s);
}

static void session_bad(struct session *s, const char *why)
{
	stats_add(bad_frames, 1);
	log_warning("core", "session %llu (process %ld): malformed frame, connection closed: %s",
			(unsigned long long)s->id, (long)s->pid, why);
	session_end(s, "malformed frame");
}

/* ---- out ---- */

static bool session_is_paused(const struct session *s)
{
	return s->in_flight >= IN_FLIGHT_MAX || s->out_bytes >= OUT_PAUSE_BYTES || s->closing;
}

static void session_flags(struct session *s)
{
	uint16_t flags = 0;

	if (!session_is_paused(s)) {
		flags |= TEVENT_FD_READ;
	}
	if (s->out != NULL) {
		flags |= TEVENT_FD_WRITE;
	}
	tevent_fd_set_flags(s->fde, flags);
}

static void session_resume(struct tevent_context *ev, struct tevent_immediate *im, void *arg)
{
	struct session *s = arg;
	const struct log_volume *before = log_enter(s->v != NULL ? s->v->log : NULL);

	(void)ev;
	(void)im;
	session_process(s);
	(void)log_enter(before);
}

static void session_flush(struct session *s)
{
	bool was_paused = session_is_paused(s);
	struct outgoing *o;

	while ((o = s->out) != NULL) {
		ssize_t n = ofs_wire_send(s->fd, o->frame + o->sent, o->len - o->sent, o->fds,
				o->sent == 0 ? (int)o->fd_count : 0);

		if (n == -EAGAIN) {
			break;
		}
		if (n < 0) {
			session_end(s, strerror((int)-n));
			return;
		}
		o->sent += (size_t)n;
		if (o->sent < o->len) {
			continue;
		}
		s->out = o->next;
		if (s->out == NULL) {
			s->out_tail = &s->out;
		}
		s->out_bytes -= o->len;
		outgoing_free(o);
	}
	if (s->closing && s->out == NULL) {
		session_end(s, "closed by us");
		return;
	}
	session_flags(s);
	if (was_paused && !session_is_paused(s)) {
		tevent_schedule_immediate(s->later, s->core->ev, session_resume, s);
	}
}

/* Takes all over. */
static bool session_queue(struct session *s, uint8_t *frame, size_t len, const int *fds,
		unsigned fd_count)
{
	struct outgoing *o = calloc(1, sizeof(*o));

	if (o == NULL) {
		for (unsigned i = 0; i < fd_count; i++) {
			close(fds[i]);
		}
		free(frame);
		return false;
	}
	o->frame = frame;
	o->len = len;
	o->fd_count = fd_count;
	if (fd_count > 0) {
		memcpy(o->fds, fds, fd_count * sizeof(*fds));
	}
	*s->out_tail = o;
	s->out_tail = &o->next;
	s->out_bytes += len;
	return true;
}

static void session_send(struct session *s, uint8_t *frame, size_t len, const int *fds,
		unsigned fd_count)
{
	if (session_queue(s, frame, len, fds, fd_count)) {
		session_flush(s);
	} else {
		session_end(s, "out of memory");
	}
}

/* ---- requests ---- */

void request_free(struct request *req)
{
	struct session *s = req->session;

	if (req->fd >= 0) {
		close(req->fd);
	}
	if (s != NULL) {
		*req->prev = req->next;
		if (req->next != NULL) {
			req->next->prev = req->prev;
		}
		s->in_flight--;
		if (s->in_flight == IN_FLIGHT_MAX - 1 && !session_is_paused(s)) {
			session_flags(s);
			tevent_schedule_immediate(s->later, s->core->ev, session_resume, s);
		}
	}
	talloc_free(req);
}

/* What somebody at a client waits for. */
static void request_time(const struct request *req)
{
	static const struct {
		uint16_t op;
		struct times *time;
	} times[] = {{OFS_WIRE_OP_OPEN, &times_cells.step_recall_open},
			{OFS_WIRE_OP_FETCH, &times_cells.step_fetch},
			{OFS_WIRE_OP_LOOKUP, &times_cells.step_lookup},
			{OFS_WIRE_OP_LIST, &times_cells.step_list},
			{OFS_WIRE_OP_FLUSH, &times_cells.step_flush},
			{OFS_WIRE_OP_COPY, &times_cells.step_copy}};

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		if (times[i].op == req->info->op) {
			times_record(times[i].time,
					clock_now_ns(req->core->clock) - req->since_ns);
		}
	}
}

void request_reply_frame(struct request *req, uint8_t *frame, ssize_t len, const int *fds,
		unsigned fd_count)
{
	struct session *s = req->session;
	bool send = s != NULL && frame != NULL && len > 0;

	request_time(req);
	if (!send) {
		for (unsigned i = 0; i < fd_count; i++) {
			close(fds[i]);
		}
		free(frame);
	}
	request_free(req);
	if (send) {
		session_send(s, frame, (size_t)len, fds, fd_count);
	} else if (s != NULL) {
		session_end(s, "an answer could not be made");
	}
}

/* A reply of which only status and message say anything. */
static ssize_t reply_encode(uint16_t op, uint8_t *buf, size_t cap, uint64_t id, int status,
		const char *message)
{
	switch (op) {
#define REPLY_CASE(NAME, name, number, req_fds, rep_fds, who)                                      \
	case number: {                                                                             \
		struct ofs_##name##_rep rep = {.status = status, .message = message};              \
		return ofs_wire_encode_##name##_rep(buf, cap, id, &rep);                           \
	}
		OFS_WIRE_TABLE(REPLY_CASE)
#undef REPLY_CASE
	default:
		return -EINVAL;
	}
}

void request_reply(struct request *req, int status, const char *message)
{
	uint8_t *frame = malloc(REPLY_BYTES);
	char text[MESSAGE_MAX_BYTES + 1] = "";
	ssize_t len = 0;

	if (message == NULL && status != 0) {
		message = strerror(-status);
	}
	if (message != NULL) {
		snprintf(text, sizeof(text), "%s", message);
	}
	if (log_get_level() >= LOG_LVL_DEBUG) {
		log_line(LOG_LVL_DEBUG, "core", req->id, "%s answered after %lld us: %s%s%s",
				req->info->name,
				(long long)(clock_now_ns(req->core->clock) - req->since_ns) / 1000,
				status == 0 ? "done" : strerror(-status), text[0] != '\0' ? ", " : "",
				text);
	}
	if (frame != NULL) {
		len = reply_encode(req->info->op, frame, REPLY_BYTES, req->id, status, text);
	}
	request_reply_frame(req, frame, len, NULL, 0);
}

static struct request *request_new(struct session *s, const struct ofs_wire_head *head,
		const struct ofs_wire_op_info *info)
{
	/* Not a child of the session: it may outlive it. */
	struct request *req = talloc_zero(s->core, struct request);

	if (req == NULL) {
		return NULL;
	}
	req->session = s;
	req->core = s->core;
	req->v = s->v;
	req->info = info;
	req->id = head->request_id;
	req->fd = -1;
	req->since_ns = clock_now_ns(s->core->clock);
	if (info->request_fds > 0) {
		req->fd = s->fds[0];
		s->fd_count--;
		memmove(s->fds, s->fds + 1, (size_t)s->fd_count * sizeof(s->fds[0]));
	}
	req->next = s->requests;
	req->prev = &s->requests;
	if (req->next != NULL) {
		req->next->prev = &req->next;
	}
	s->requests = req;
	s->in_flight++;
	return req;
}

/* ---- in ---- */

static void session_refuse_version(struct session *s, const struct ofs_wire_head *head)
{
	const struct ofs_wire_op_info *info = ofs_wire_op_info(head->op);
	uint8_t *frame = malloc(REPLY_BYTES);
	char text[200];
	ssize_t len;

	snprintf(text, sizeof(text),
			"protocol version %u is not spoken here (this daemon speaks %u): module and "
			"daemon must be of one release; restart both after an upgrade",
			head->major, OFS_WIRE_MAJOR);
	log_warning("core", "session %llu (process %ld): %s", (unsigned long long)s->id,
			(long)s->pid, text);
	if (frame == NULL) {
		session_end(s, "out of memory");
		return;
	}
	len = reply_encode(info != NULL ? info->op : (uint16_t)OFS_WIRE_OP_HELLO, frame, REPLY_BYTES,
			head->request_id, -EPROTONOSUPPORT, text);
	if (len <= 0) {
		free(frame);
		session_end(s, "protocol version");
		return;
	}
	s->closing = true;
	session_send(s, frame, (size_t)len, NULL, 0);
}

/* One whole frame at the start of the buffer. */
static void session_frame(struct session *s, const struct ofs_wire_head *head)
{
	const struct ofs_wire_op_info *info = ofs_wire_op_info(head->op);
	struct request *req;

	if (info != NULL && info->who == OFS_WIRE_WHO_DAEMON && head->flags == OFS_WIRE_FLAG_REPLY &&
			s->v != NULL) {
		s->slow = false;
		ask_answered(s->v->asker, s, head->request_id, s->in, head->length);
		return;
	}
	if (info == NULL || info->who == OFS_WIRE_WHO_DAEMON || head->flags != 0) {
		session_bad(s, info == NULL ? "unknown message" : "unknown flags");
		return;
	}
	if (info->who == OFS_WIRE_WHO_ADMIN ? !s->admin : !s->root) {
		log_warning("core", "session %llu: user %ld (process %ld) may not send %s",
				(unsigned long long)s->id, (long)s->uid, (long)s->pid, info->name);
		session_end(s, "not permitted");
		return;
	}
	if (s->fd_count < info->request_fds) {
		session_bad(s, "a descriptor is missing");
		return;
	}
	stats_add(messages, 1);
	s->count++;
	req = request_new(s, head, info);
	if (req == NULL) {
		session_end(s, "out of memory");
		return;
	}
	log_line(LOG_LVL_DEBUG, "core", req->id, "%s from session %llu (process %ld)", info->name,
			(unsigned long long)s->id, (long)s->pid);
	if (dispatch(req, s->in, head->length) != 0 && !s->dead) {
		session_bad(s, info->name);
	}
}

/* All whole frames in the buffer, unless paused. */
static void session_process(struct session *s)
{
	struct ofs_wire_head head;

	while (!s->dead && !session_is_paused(s) && s->in_len >= OFS_WIRE_HEAD_BYTES) {
		int ret = ofs_wire_head_decode(s->in, &head);

		if (ret == -EPROTONOSUPPORT) {
			session_refuse_version(s, &head);
			return;
		}
		if (ret != 0) {
			session_bad(s, ret == -EMSGSIZE ? "impossible length" : "not our protocol");
			return;
		}
		if (s->in_len < head.length) {
			break;
		}
		session_frame(s, &head);
		if (s->dead) {
			return;
		}
		s->in_len -= head.length;
		memmove(s->in, s->in + head.length, s->in_len);
	}
	if (s->dead) {
		return;
	}
	if (s->in_len == 0 && s->fd_count > 0) {
		session_bad(s, "descriptors that belong to no message");
		return;
	}
	session_flags(s);
}

/* Room for the frame that has begun, as far as its length is known; bounded by the frame limit. */
static bool in_room(struct session *s)
{
	size_t want = s->in_len + READ_CHUNK_BYTES;
	uint8_t *p;

	if (s->in_cap >= want) {
		return true;
	}
	p = realloc(s->in, want);
	if (p == NULL) {
		return false;
	}
	s->in = p;
	s->in_cap = want;
	return true;
}

static void session_read(struct session *s)
{
	for (int i = 0; i < READS_AT_ONCE && !s->dead && !session_is_paused(s); i++) {
		ssize_t n;

		if (!in_room(s)) {
			session_end(s, "out of memory");
			return;
		}
		n = ofs_wire_recv(s->fd, s->in + s->in_len, s->in_cap - s->in_len, s->fds,
				&s->fd_count, OFS_WIRE_FDS_MAX);
		if (n == -EAGAIN) {
			return;
		}
		if (n == -EBADMSG) {
			session_bad(s, "too many descriptors");
			return;
		}
		if (n <= 0) {
			session_end(s, n == 0 ? "peer closed" : strerror((int)-n));
			return;
		}
		s->in_len += (size_t)n;
		session_process(s);
	}
}

static void on_session(struct tevent_context *ev, struct tevent_fd *fde, uint16_t flags, void *arg)
{
	struct session *s = arg;
	const struct log_volume *before = log_enter(s->v != NULL ? s->v->log : NULL);

	(void)ev;
	(void)fde;
	if ((flags & TEVENT_FD_WRITE) != 0) {
		session_flush(s);
	}
	if (!s->dead && (flags & TEVENT_FD_READ) != 0) {
		session_read(s);
	}
	(void)log_enter(before);
}

/* ---- what dispatch keeps here ---- */

uint64_t session_id(const struct session *s)
{
	return s->id;
}

uint64_t session_client(const struct session *s)
{
	/* one of another pid namespace has none here */
	return s->pid > 0 ? (uint64_t)s->pid : ((uint64_t)1 << 32) + s->id;
}

void session_attach(struct session *s, struct volume *v, const struct ofs_hello_req *m)
{
	s->v = v;
	s->answers = (m->features & OFS_WIRE_FEATURE_ASKED) != 0;
	s->since_ns = clock_now_ns(s->core->clock);
	snprintf(s->samba, sizeof(s->samba), "%s", m->samba);
	stats_add(sessions, 1);
	guard_smbd(v->guard, s->pid, true);
	log_info("core", "session %llu: smbd process %u (Samba %s) on volume %s",
			(unsigned long long)s->id, m->pid, m->samba, v->name);
}

struct session *session_to_ask(const struct core *core, const struct volume *v)
{
	struct session *s = core->server != NULL ? core->server->sessions : NULL, *best = NULL;

	for (; s != NULL; s = s->next) { /* the latest first */
		if (s->v == v && s->answers && !s->dead && (best == NULL || best->slow || !s->slow)) {
			best = s;
		}
	}
	return best;
}

/* Not sent at once: the asker must not see the connection end while it asks. */
void session_ask(struct session *s, const uint8_t *frame, size_t len)
{
	/* one that reads nothing has enough to read; somebody else is asked soon */
	uint8_t *copy = s->out_bytes < OUT_PAUSE_BYTES ? malloc(len) : NULL;

	if (copy != NULL) {
		memcpy(copy, frame, len);
		if (session_queue(s, copy, len, NULL, 0)) {
			session_flags(s);
		}
	}
}

void session_is_slow(struct session *s)
{
	if (!s->slow) {
		log_info("core", "session %llu (process %ld) does not answer: another one is asked",
				(unsigned long long)s->id, (long)s->pid);
	}
	s->slow = true;
}

bool session_is_attached(const struct session *s)
{
	return s->v != NULL;
}

int session_open_add(struct session *s, uint64_t open_id)
{
	if (s->open_count == s->open_cap) {
		size_t cap = s->open_cap != 0 ? s->open_cap * 2 : 16;
		uint64_t *p = talloc_realloc(s, s->opens, uint64_t, cap);

		if (p == NULL) {
			return -ENOMEM;
		}
		s->opens = p;
		s->open_cap = cap;
	}
	s->opens[s->open_count++] = open_id;
	return 0;
}

bool session_open_has(const struct session *s, uint64_t open_id)
{
	for (size_t i = 0; i < s->open_count; i++) {
		if (s->opens[i] == open_id) {
			return true;
		}
	}
	return false;
}

void session_open_drop(struct session *s, uint64_t open_id)
{
	for (size_t i = 0; i < s->open_count; i++) {
		if (s->opens[i] == open_id) {
			s->opens[i] = s->opens[--s->open_count];
			return;
		}
	}
}

void session_new(struct server *srv, int fd, const struct ucred *cred, bool root, bool admin)
{
	struct session *s = talloc_zero(srv, struct session);

	if (s == NULL) {
		close(fd);
		return;
	}
	talloc_set_destructor(s, session_destroy);
	s->core = srv->core;
	s->id = ++srv->next_id;
	s->fd = fd;
	s->root = root;
	s->admin = admin;
	s->pid = cred->pid;
	s->uid = cred->uid;
	s->out_tail = &s->out;
	s->later = tevent_create_immediate(s);
	s->fde = tevent_add_fd(srv->core->ev, s, fd, TEVENT_FD_READ, on_session, s);
	if (s->later == NULL || s->fde == NULL) {
		talloc_free(s);
		close(fd);
		return;
	}
	s->next = srv->sessions;
	s->prev = &srv->sessions;
	if (s->next != NULL) {
		s->next->prev = &s->next;
	}
	srv->sessions = s;
}

unsigned server_sessions(const struct core *core, const struct volume *v)
{
	unsigned count = 0;

	for (struct session *s = core->server != NULL ? core->server->sessions : NULL; s != NULL;
			s = s->next) {
		count += s->v == v ? 1 : 0;
	}
	return count;
}

bool server_has_process(const struct core *core, const struct volume *v, pid_t pid)
{
	const struct session *s = core->server != NULL ? core->server->sessions : NULL;

	while (s != NULL && (s->v != v || s->pid != pid || s->dead)) {
		s = s->next;
	}
	return s != NULL;
}

void server_each(const struct core *core, void (*fn)(void *arg, const struct session_info *info),
		void *arg)
{
	for (const struct session *s = core->server != NULL ? core->server->sessions : NULL;
			s != NULL; s = s->next) {
		struct session_info info = {s->id, s->v, s->pid, s->samba, s->since_ns, s->count,
				s->open_count};

		if (s->v != NULL) {
			fn(arg, &info);
		}
	}
}
