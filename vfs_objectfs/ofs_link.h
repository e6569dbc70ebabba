/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The socket to the daemon: connect, HELLO, requests in flight, reconnection, deadlines; and, above
 * that, one call per message. One link per tree connect; one thread.
 *
 * A call waits for the daemon's answer or its deadline; an asynchronous one is a tevent_req on the
 * connection's own loop. Both kinds may be in flight at once: a synchronous wait also takes in
 * answers that belong to others, whose callbacks then run from the loop.
 */
#ifndef OFS_LINK_H
#define OFS_LINK_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include <tevent.h>
#include "shared/wire.h"

struct ofs_conn;
struct ofs_link;

struct ofs_reply { /* talloc; descriptors not taken are closed when it is freed */
	uint8_t *frame;
	size_t len;
	int fds[OFS_WIRE_FDS_MAX];
	int fd_count;
};

/* talloc child of c; freeing it completes every request in flight with EIO. NULL: no memory. */
struct ofs_link *ofs_link_new(struct ofs_conn *c, struct tevent_context *ev);
/*
 * First contact: connect within timeout_ms and HELLO (to a daemon that is there 10 s are given). 0;
 * -ETIMEDOUT when no daemon answered in time; what the daemon refused with otherwise, *refused set
 * and *message the daemon's own words (link's).
 */
int ofs_link_start(struct ofs_link *link, int timeout_ms, bool *refused, const char **message);
/* Grows with every HELLO; what was opened under another generation is gone. */
uint64_t ofs_link_generation(const struct ofs_link *link);
/* False while the daemon is known to be away. */
bool ofs_link_up(const struct ofs_link *link);
struct tevent_context *ofs_link_ev(const struct ofs_link *link);
unsigned ofs_link_timeout_ms(const struct ofs_link *link); /* of a plain request */
/* Requests sent since the connect, HELLO included. */
uint64_t ofs_link_sent(const struct ofs_link *link);
int64_t ofs_link_now_ms(void); /* CLOCK_MONOTONIC */

/* --- calls; 0 or -errno, of the daemon or of the way there (-ETIMEDOUT, -ECONNRESET) --- */
/* Who the client is (wire_table.h); -EACCES: he is not let in. */
int ofs_call_account(struct ofs_link *link, uint32_t flags, const char *sid, const char *names,
		size_t len);
int ofs_call_lookup(struct ofs_link *link, int dirfd, const char *name);
int ofs_call_list(struct ofs_link *link, int dirfd, uint32_t flags, int timeout_ms);
int ofs_call_rmdir(struct ofs_link *link, int dirfd, const char *name);
int ofs_call_flush(struct ofs_link *link, int fd, uint64_t bytes);
/* *map_fd: -1 with open_id 0; else owned by the caller. */
int ofs_call_open(struct ofs_link *link, int fd, uint32_t flags, struct ofs_open_rep *rep,
		int *map_fd);
/* -ESTALE: open_id is of another generation. */
int ofs_call_fetch(struct ofs_link *link, uint64_t generation, const struct ofs_fetch_req *m,
		uint64_t bytes);
int ofs_call_discard(struct ofs_link *link, uint64_t generation, uint64_t open_id);
/* The second half of COPY: only on the connection of `generation`, never made again. */
int ofs_call_copy_take(struct ofs_link *link, uint64_t generation, int fd,
		const struct ofs_oid *target, uint64_t size);
/* No answer; dropped if the daemon is away. */
void ofs_call_release(struct ofs_link *link, uint64_t generation, uint64_t open_id);

/* --- ofs_asked.c: what the daemon asks first --- */
/* Do what the frame asks for and send the answer; from the loop, or from inside a wait for the daemon.
 * False: the peer does not keep the protocol. */
bool ofs_asked(struct ofs_conn *c, struct ofs_link *link, const struct ofs_wire_head *head,
		const uint8_t *frame);

/* A reply that nobody waits for any more: what it opened is released. */
void ofs_call_unwanted(struct ofs_link *link, uint16_t op, struct ofs_reply *reply);

struct tevent_req *ofs_call_open_send(TALLOC_CTX *ctx, struct ofs_link *link, int fd,
		uint32_t flags);
int ofs_call_open_recv(struct ofs_link *link, struct tevent_req *req, struct ofs_open_rep *rep,
		int *map_fd);
struct tevent_req *ofs_call_fetch_send(TALLOC_CTX *ctx, struct ofs_link *link, uint64_t generation,
		const struct ofs_fetch_req *m, uint64_t bytes);
int ofs_call_fetch_recv(struct ofs_link *link, struct tevent_req *req);
struct tevent_req *ofs_call_flush_send(TALLOC_CTX *ctx, struct ofs_link *link, int fd,
		uint64_t bytes);
struct tevent_req *ofs_call_copy_send(TALLOC_CTX *ctx, struct ofs_link *link, int fd,
		const struct ofs_oid *source, uint64_t size);
int ofs_call_copy_recv(struct ofs_link *link, struct tevent_req *req);
int ofs_call_flush_recv(struct ofs_link *link, struct tevent_req *req);

/* --- between ofs_wait.c and ofs_call.c --- */
struct ofs_frame { /* a request ready to go; descriptors borrowed until the call returns */
	uint8_t bytes[6144];
	ssize_t len; /* < 0: the encoder's error */
	uint64_t id;
	uint16_t op;
	int fd; /* -1: none */
	uint64_t generation; /* 0: any; else only under this one */
	int timeout_ms;
};
uint64_t ofs_link_next_id(struct ofs_link *link);
int ofs_link_call(struct ofs_link *link, const struct ofs_frame *frame, TALLOC_CTX *ctx,
		struct ofs_reply **reply);
struct tevent_req *ofs_link_call_send(TALLOC_CTX *ctx, struct ofs_link *link,
		const struct ofs_frame *frame);
int ofs_link_call_recv(struct tevent_req *req, TALLOC_CTX *ctx, struct ofs_reply **reply);
void ofs_link_post(struct ofs_link *link, const struct ofs_frame *frame);
/* The answer to what the daemon asked; dropped if the connection has gone. */
void ofs_link_answer(struct ofs_link *link, const struct ofs_frame *frame);
/* The peer does not keep the protocol: end this connection. */
void ofs_link_break(struct ofs_link *link, const char *why);

#endif
