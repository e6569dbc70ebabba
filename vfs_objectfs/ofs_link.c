/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One tree connect's socket to the daemon: connecting, HELLO, frames out and in, loss and return.
 * Way: from ofs_wait.c; to the daemon's core/session.
 * Thread: the client's smbd. Blocks only in ofs_link_pump, for as long as its caller says.
 * Owns: the socket, its tevent_fd, the frame being read.
 * Holds: 1. Replies are matched by request id; late ones are dropped, their descriptors closed.
 *        2. A reply is read head first, then exactly its body, so descriptors, which travel with a
 *           frame's first byte, are known to be this frame's.
 *        3. DOWN -> [ofs_link_connect] -> HELLO -> [link_hello_reply] -> UP; any error ->
 *           [link_lost] -> DOWN. Only UP sends requests.
 *        4. connect(2) runs as root: the daemon asks SO_PEERCRED.
 *        5. An idle client is connected too: the daemon asks through it (ofs_asked.c).
 */
#include "ofs_link_impl.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 1000
#define BACKOFF_REFUSED_MS 10000 /* each refusal is a line in the daemon's log */
#define HELLO_MIN_MS 10000
#define LINKS_AT_ONCE 64

static struct ofs_link *links; /* of this process: one for each tree connect */
static uint64_t link_ids; /* with the process id before it: one request has one id in all logs */

int64_t ofs_link_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

uint64_t ofs_link_next_id(struct ofs_link *link)
{
	(void)link;
	return (uint64_t)getpid() << 24 | (++link_ids & 0xffffff);
}

uint64_t ofs_link_generation(const struct ofs_link *link)
{
	return link->generation;
}

bool ofs_link_up(const struct ofs_link *link)
{
	return link->state == LINK_UP;
}

struct tevent_context *ofs_link_ev(const struct ofs_link *link)
{
	return link->ev;
}

unsigned ofs_link_timeout_ms(const struct ofs_link *link)
{
	return link->conn->request_timeout_ms;
}

uint64_t ofs_link_sent(const struct ofs_link *link)
{
	return link->sent;
}

const char *ofs_link_op_name(uint16_t op)
{
	const struct ofs_wire_op_info *info = ofs_wire_op_info(op);

	return info != NULL ? info->name : "?";
}

/* --- down --- */

static void link_drop_input(struct ofs_link *link)
{
	while (link->in_fd_count > 0) {
		close(link->in_fds[--link->in_fd_count]);
	}
	TALLOC_FREE(link->body);
	link->in_done = 0;
}

static void link_close(struct ofs_link *link)
{
	TALLOC_FREE(link->fde);
	if (link->sock >= 0) {
		close(link->sock);
		link->sock = -1;
	}
	link_drop_input(link);
	link->state = LINK_DOWN;
}

static void link_lost(struct ofs_link *link, const char *why)
{
	int64_t now = ofs_link_now_ms();
	struct ofs_waiter *w, *next;
	int max_ms;

	if (link->state == LINK_UP) {
		DBG_NOTICE("volume %s: connection to objectfs-cached lost: %s\n",
				link->conn->volume, why);
		link->backoff_ms = BACKOFF_MIN_MS;
		link->away_logged = false;
	}
	link_close(link);
	TALLOC_FREE(link->retry); /* it may stand at the deadline of a HELLO that will not be answered */
	if (link->away_since_ms == 0) {
		link->away_since_ms = now;
	}
	max_ms = link->refused && link->waiters == NULL ? BACKOFF_REFUSED_MS : BACKOFF_MAX_MS;
	link->next_attempt_ms = now + MIN(link->backoff_ms, max_ms);
	link->backoff_ms = MIN(link->backoff_ms * 2, max_ms);
	for (w = link->waiters; w != NULL; w = next) {
		next = w->next;
		if (w->out != NULL && w->out_done == 0 && w->generation == 0 && !w->oneway) {
			continue; /* nobody has seen it: it goes out with the next connection */
		}
		ofs_waiter_complete(w, -ECONNRESET, NULL);
	}
	ofs_link_retry_arm(link);
}

void ofs_link_break(struct ofs_link *link, const char *why)
{
	DBG_ERR("volume %s: objectfs-cached broke the protocol: %s\n", link->conn->volume, why);
	if (link->state != LINK_DOWN) {
		link_lost(link, why);
	}
}

/* --- sending --- */

static void link_want(struct ofs_link *link)
{
	struct ofs_waiter *w;
	uint16_t flags = TEVENT_FD_READ;

	if (link->fde == NULL) {
		return;
	}
	for (w = link->waiters; w != NULL; w = w->next) {
		if (w->out != NULL && link->state == LINK_UP) {
			flags |= TEVENT_FD_WRITE;
			break;
		}
	}
	tevent_fd_set_flags(link->fde, flags);
}

/* One frame, as far as the socket takes it. 1: all sent; 0: the socket is full; -errno. */
static int link_send_one(struct ofs_link *link, struct ofs_waiter *w)
{
	while (w->out_done < w->out_len) {
		ssize_t n = ofs_wire_send(link->sock, w->out + w->out_done,
				w->out_len - w->out_done, &w->fd,
				w->out_done == 0 && w->fd >= 0 ? 1 : 0);

		if (n == -EAGAIN || n == -EWOULDBLOCK) {
			return 0;
		}
		if (n < 0) {
			return (int)n;
		}
		w->out_done += (size_t)n;
	}
	DBG_INFO("%s %ju %s sent\n", w->answer ? "answer to" : "request", (uintmax_t)w->id,
			ofs_link_op_name(w->op));
	link->sent += w->answer ? 0 : 1;
	TALLOC_FREE(w->out);
	if (w->fd >= 0) {
		close(w->fd);
		w->fd = -1;
	}
	if (w->oneway) {
		talloc_free(w);
	}
	return 1;
}

void ofs_link_flush(struct ofs_link *link)
{
	struct ofs_waiter *w, *next;

	for (w = link->waiters; w != NULL && link->state == LINK_UP; w = next) {
		int ret;

		next = w->next;
		if (w->out == NULL) {
			continue;
		}
		if (w->generation != 0 && w->generation != link->generation) {
			ofs_waiter_complete(w, -ESTALE, NULL);
			continue;
		}
		ret = link_send_one(link, w);
		if (ret < 0) {
			link_lost(link, strerror(-ret));
			return;
		}
		if (ret == 0) {
			break;
		}
	}
	link_want(link);
}

/* --- receiving --- */

static int link_hello_reply(struct ofs_link *link, struct ofs_reply *reply)
{
	struct ofs_hello_rep rep;
	int ret;

	if (ofs_wire_decode_hello_rep(reply->frame, reply->len, &rep) != 0) {
		return -EBADMSG;
	}
	if (rep.status != 0) {
		link->refused = true;
		link->refused_error = rep.status;
		TALLOC_FREE(link->refused_message);
		link->refused_message = talloc_strdup(link, rep.message);
		return rep.status;
	}
	if (reply->fd_count != 5) {
		return -EBADMSG;
	}
	reply->fd_count = 0; /* adopted below, whatever comes of it */
	ret = ofs_conn_adopt(link->conn, &rep, reply->fds);
	if (ret != 0) {
		return ret;
	}
	link->state = LINK_UP;
	link->generation++;
	link->away_since_ms = 0;
	link->backoff_ms = BACKOFF_MIN_MS;
	link->refused = false;
	TALLOC_FREE(link->retry);
	if (link->away_logged) {
		DBG_ERR("volume %s: objectfs-cached is back\n", link->conn->volume);
		link->away_logged = false;
	}
	return 0;
}

static void link_dispatch(struct ofs_link *link, struct ofs_reply *reply)
{
	const struct ofs_wire_head *head = &link->in_head;
	struct ofs_waiter *w;

	if (link->state == LINK_HELLO) {
		int ret = -EBADMSG;

		if (head->request_id == link->hello_id) {
			ret = link_hello_reply(link, reply);
		}
		talloc_free(reply);
		if (ret != 0) {
			link_lost(link, link->refused ? link->refused_message : strerror(-ret));
			return;
		}
		ofs_link_flush(link);
		return;
	}
	if ((head->flags & OFS_WIRE_FLAG_REPLY) == 0) {
		bool sound = ofs_asked(link->conn, link, head, reply->frame);

		talloc_free(reply);
		if (!sound) {
			ofs_link_break(link, "a question that cannot be decoded");
		}
		return;
	}
	for (w = link->waiters; w != NULL; w = w->next) {
		if (w->id == head->request_id) {
			break;
		}
	}
	if (w == NULL || w->out != NULL) {
		DBG_INFO("reply to request %ju came too late\n", (uintmax_t)head->request_id);
		ofs_call_unwanted(link, head->op, reply);
		talloc_free(reply);
		return;
	}
	if (w->op != head->op) {
		talloc_free(reply);
		ofs_link_break(link, "a reply of another kind than its request");
		return;
	}
	DBG_INFO("request %ju %s answered\n", (uintmax_t)w->id, ofs_link_op_name(w->op));
	ofs_waiter_complete(w, 0, reply);
}

/* A whole frame has been read. */
static bool link_frame_done(struct ofs_link *link)
{
	struct ofs_reply *reply = talloc_zero(link, struct ofs_reply);

	if (reply == NULL) {
		link_lost(link, "out of memory");
		return false;
	}
	reply->frame = talloc_move(reply, &link->body);
	reply->len = link->in_head.length;
	memcpy(reply->fds, link->in_fds, sizeof(reply->fds));
	reply->fd_count = link->in_fd_count;
	talloc_set_destructor(reply, ofs_reply_destructor);
	link->in_fd_count = 0;
	link->in_done = 0;
	link_dispatch(link, reply);
	return link->state != LINK_DOWN;
}

static int link_head_done(struct ofs_link *link)
{
	int ret = ofs_wire_head_decode(link->head, &link->in_head);

	if (ret != 0) {
		return ret;
	}
	if ((link->in_head.flags & ~OFS_WIRE_FLAG_REPLY) != 0) {
		return -EPROTO;
	}
	link->body = talloc_array(link, uint8_t, link->in_head.length);
	if (link->body == NULL) {
		return -ENOMEM;
	}
	memcpy(link->body, link->head, OFS_WIRE_HEAD_BYTES);
	return 0;
}

/* Read and dispatch until the socket is empty or the link is down. */
static void link_readable(struct ofs_link *link)
{
	while (link->state != LINK_DOWN) {
		bool in_head = link->body == NULL;
		uint8_t *buf = in_head ? link->head : link->body;
		size_t want = in_head ? OFS_WIRE_HEAD_BYTES : link->in_head.length;
		ssize_t n;

		if (link->in_done < want) {
			n = ofs_wire_recv(link->sock, buf + link->in_done, want - link->in_done,
					link->in_fds, &link->in_fd_count, OFS_WIRE_FDS_MAX);
			if (n == -EAGAIN || n == -EWOULDBLOCK) {
				return;
			}
			if (n <= 0) {
				link_lost(link, n == 0 ? "closed by the daemon" : strerror((int)-n));
				return;
			}
			link->in_done += (size_t)n;
			if (link->in_done < want) {
				continue;
			}
		}
		if (in_head) {
			int ret = link_head_done(link);

			if (ret != 0) {
				ofs_link_break(link, strerror(-ret));
				return;
			}
			if (link->in_head.length > OFS_WIRE_HEAD_BYTES) {
				continue;
			}
		}
		if (!link_frame_done(link)) {
			return;
		}
	}
}

static void link_fd_handler(struct tevent_context *ev, struct tevent_fd *fde, uint16_t flags,
		void *private_data)
{
	struct ofs_link *link = talloc_get_type_abort(private_data, struct ofs_link);

	(void)ev;
	(void)fde;
	if ((flags & TEVENT_FD_READ) != 0) {
		link_readable(link);
	}
	if ((flags & TEVENT_FD_WRITE) != 0 && link->state == LINK_UP) {
		ofs_link_flush(link);
	}
}

/* --- connecting --- */

static int link_socket(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int sock, ret;
	uid_t euid;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		return -ENAMETOOLONG;
	}
	memcpy(addr.sun_path, path, strlen(path) + 1);
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0) {
		return -errno;
	}
	euid = ofs_root_enter();
	ret = connect(sock, (struct sockaddr *)&addr, sizeof(addr)) == 0 ? 0 : -errno;
	ofs_root_leave(euid);
	if (ret != 0) {
		close(sock);
		return ret;
	}
	return sock;
}

static int link_hello(struct ofs_link *link)
{
	struct ofs_hello_req m = {
		.minor = OFS_WIRE_MINOR,
		.features = OFS_WIRE_FEATURE_ASKED,
		.pid = (uint32_t)getpid(),
		.volume = link->conn->volume,
		.path = link->conn->handle->conn->connectpath,
		.samba = samba_version_string(),
	};
	uint8_t buf[6144];
	ssize_t len, n;

	link->hello_id = ofs_link_next_id(link);
	len = ofs_wire_encode_hello_req(buf, sizeof(buf), link->hello_id, &m);
	if (len < 0) {
		return (int)len;
	}
	/* the first bytes on a fresh socket: its buffer takes them whole */
	n = ofs_wire_send(link->sock, buf, (size_t)len, NULL, 0);
	if (n != len) {
		return n < 0 ? (int)n : -EIO;
	}
	link->sent++;
	link->state = LINK_HELLO;
	link->hello_deadline_ms = ofs_link_now_ms() + link->conn->request_timeout_ms;
	DBG_INFO("request %ju HELLO sent for volume %s\n", (uintmax_t)link->hello_id, m.volume);
	return 0;
}

void ofs_link_connect(struct ofs_link *link)
{
	int ret;

	link_close(link);
	ret = link_socket(link->conn->socket);
	if (ret >= 0) {
		link->sock = ret;
		ret = link_hello(link);
	}
	if (ret != 0) {
		link_lost(link, strerror(-ret));
		return;
	}
	link->fde = tevent_add_fd(link->ev, link, link->sock, TEVENT_FD_READ, link_fd_handler,
			link);
	if (link->fde == NULL) {
		link_lost(link, "out of memory");
	}
}

static void link_retry_handler(struct tevent_context *ev, struct tevent_timer *te,
		struct timeval now, void *private_data)
{
	struct ofs_link *link = talloc_get_type_abort(private_data, struct ofs_link);

	(void)ev;
	(void)te;
	(void)now;
	TALLOC_FREE(link->retry);
	if (link->state == LINK_DOWN) {
		ofs_link_connect(link);
	} else if (link->state == LINK_HELLO && ofs_link_now_ms() >= link->hello_deadline_ms) {
		link_lost(link, "no answer to HELLO");
	}
	ofs_link_retry_arm(link);
}

void ofs_link_retry_arm(struct ofs_link *link)
{
	int64_t now = ofs_link_now_ms();
	int64_t when = link->state == LINK_HELLO ? link->hello_deadline_ms : link->next_attempt_ms;
	int64_t wait_ms = MAX(when - now, 1);

	if (link->state == LINK_UP || link->retry != NULL ||
			(link->waiters == NULL && link->generation == 0)) {
		return; /* before the first HELLO the one who connects does it all */
	}
	link->retry = tevent_add_timer(link->ev, link,
			timeval_current_ofs_msec((uint32_t)wait_ms), link_retry_handler, link);
}

int64_t ofs_link_patience_ms(const struct ofs_link *link)
{
	return link->away_since_ms == 0 ?
			INT64_MAX :
			link->away_since_ms + (int64_t)link->conn->reconnect_timeout_ms;
}

void ofs_link_log_away(struct ofs_link *link)
{
	if (!link->away_logged) {
		link->away_logged = true;
		DBG_ERR("volume %s: objectfs-cached does not answer on %s%s%s; files that are on "
			"the local disk are still served\n",
				link->conn->volume, link->conn->socket,
				link->refused ? ": " : "",
				link->refused ? link->refused_message : "");
	}
}

void ofs_link_pump(struct ofs_link *link, int64_t until_ms)
{
	int64_t now = ofs_link_now_ms();
	struct pollfd pfd[LINKS_AT_ONCE] = {{.fd = link->sock, .events = POLLIN}};
	struct ofs_link *others[LINKS_AT_ONCE] = {link}, *other;
	struct ofs_waiter *w;
	nfds_t count = 1;
	int ret;

	if (link->state == LINK_DOWN) {
		if (now >= link->next_attempt_ms) {
			ofs_link_connect(link);
			return;
		}
		until_ms = MIN(until_ms, link->next_attempt_ms);
	} else if (link->state == LINK_HELLO) {
		if (now >= link->hello_deadline_ms) {
			link_lost(link, "no answer to HELLO");
			return;
		}
		until_ms = MIN(until_ms, link->hello_deadline_ms);
	} else {
		for (w = link->waiters; w != NULL; w = w->next) {
			if (w->out != NULL) {
				pfd[0].events |= POLLOUT;
				break;
			}
		}
	}
	/* The daemon may answer this one only when it has been answered by another of this process. */
	for (other = links; other != NULL && count < LINKS_AT_ONCE; other = other->next) {
		if (other != link && other->state == LINK_UP) {
			others[count] = other;
			pfd[count++] = (struct pollfd){.fd = other->sock, .events = POLLIN};
		}
	}
	/* poll passes over -1 */
	ret = poll(pfd, count, (int)MIN(MAX(until_ms - now, 0), 60000));
	for (nfds_t i = 0; ret > 0 && i < count; i++) {
		if ((pfd[i].revents & (POLLIN | POLLERR | POLLHUP)) != 0) {
			link_readable(others[i]);
		}
	}
	if (ret > 0 && (pfd[0].revents & POLLOUT) != 0 && link->state == LINK_UP) {
		ofs_link_flush(link);
	}
}

/* --- life --- */

static int link_destructor(struct ofs_link *link)
{
	while (link->waiters != NULL) {
		ofs_waiter_complete(link->waiters, -EIO, NULL);
	}
	link_close(link);
	DLIST_REMOVE(links, link);
	return 0;
}

struct ofs_link *ofs_link_new(struct ofs_conn *c, struct tevent_context *ev)
{
	struct ofs_link *link = talloc_zero(c, struct ofs_link);

	if (link == NULL) {
		return NULL;
	}
	link->conn = c;
	link->ev = ev;
	link->sock = -1;
	link->backoff_ms = BACKOFF_MIN_MS;
	DLIST_ADD(links, link);
	talloc_set_destructor(link, link_destructor);
	return link;
}

int ofs_link_start(struct ofs_link *link, int timeout_ms, bool *refused, const char **message)
{
	int64_t deadline_ms = ofs_link_now_ms() + timeout_ms;
	/* a daemon that is there may have to ask S3 for the root first */
	int64_t hello_deadline_ms = ofs_link_now_ms() + MAX(timeout_ms, HELLO_MIN_MS);
	int64_t until_ms;

	*refused = false;
	*message = "";
	while (link->state != LINK_UP) {
		if (link->refused) {
			*refused = true;
			*message = link->refused_message != NULL ? link->refused_message : "";
			return link->refused_error;
		}
		until_ms = link->state == LINK_HELLO ? hello_deadline_ms : deadline_ms;
		if (ofs_link_now_ms() >= until_ms) {
			return -ETIMEDOUT;
		}
		ofs_link_pump(link, until_ms);
	}
	return 0;
}
