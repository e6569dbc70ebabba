/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What ofs_link.c (the socket) and ofs_wait.c (those who wait for its answers) share. Nobody else
 * includes this.
 */
#ifndef OFS_LINK_IMPL_H
#define OFS_LINK_IMPL_H

#include "ofs.h"

enum ofs_link_state { LINK_DOWN, LINK_HELLO, LINK_UP };

struct ofs_waiter {
	struct ofs_waiter *prev, *next;
	struct ofs_link *link;
	uint64_t id;
	uint16_t op;
	uint64_t generation;
	int64_t deadline_ms;
	uint8_t *out; /* talloc; NULL once sent */
	size_t out_len;
	size_t out_done;
	int fd; /* own duplicate until sent; -1 */
	bool oneway;
	bool answer; /* to what the daemon asked */
	bool in_list;
	bool done;
	int error;
	struct ofs_reply *reply;
	struct tevent_req *req; /* asynchronous; NULL: none, or given up */
	struct tevent_timer *timer;
};

struct ofs_link {
	struct ofs_link *prev, *next; /* all of this process */
	struct ofs_conn *conn;
	struct tevent_context *ev;
	enum ofs_link_state state;
	int sock;
	struct tevent_fd *fde;
	struct tevent_timer *retry;
	struct ofs_waiter *waiters; /* in the order of sending */
	uint64_t generation;
	uint64_t sent;
	int64_t away_since_ms; /* 0: not away */
	int64_t next_attempt_ms;
	int backoff_ms;
	bool away_logged;

	uint64_t hello_id;
	int64_t hello_deadline_ms;
	bool refused; /* by the last HELLO */
	int refused_error;
	char *refused_message;

	/* the frame being read */
	uint8_t head[OFS_WIRE_HEAD_BYTES];
	uint8_t *body;
	size_t in_done;
	struct ofs_wire_head in_head;
	int in_fds[OFS_WIRE_FDS_MAX];
	int in_fd_count;
};

const char *ofs_link_op_name(uint16_t op);
/* One attempt; state HELLO afterwards, or DOWN. */
void ofs_link_connect(struct ofs_link *link);
/* Send what the socket takes. */
void ofs_link_flush(struct ofs_link *link);
/* Let time pass until something happens, at most until `until_ms`. */
void ofs_link_pump(struct ofs_link *link, int64_t until_ms);
/* Until when a request that needs the daemon may wait for it to come back. */
int64_t ofs_link_patience_ms(const struct ofs_link *link);
/* The loop does the reconnecting: for those who wait asynchronously, and so that the daemon can ask. */
void ofs_link_retry_arm(struct ofs_link *link);
void ofs_link_log_away(struct ofs_link *link);
/* The answer is known: hand it to whoever waits; a waiter nobody waits for any more ends here. */
void ofs_waiter_complete(struct ofs_waiter *w, int error, struct ofs_reply *reply);
int ofs_reply_destructor(struct ofs_reply *reply);

#endif
