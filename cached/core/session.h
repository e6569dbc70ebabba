/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The daemon's socket: connections, frames, requests. Core thread only.
 *
 * A request lives from its frame to its reply and survives its connection: then the reply goes
 * nowhere and descriptors in it are closed.
 */
#ifndef OFS_CORE_SESSION_H
#define OFS_CORE_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "core.h"
#include "shared/wire.h"

struct session;

struct request {
	struct request *next, **prev; /* of the session */
	struct session *session;      /* NULL: the connection is gone */
	struct core *core;
	struct volume *v; /* of the session; NULL for CTL and the first HELLO */
	const struct ofs_wire_op_info *info;
	uint64_t id;
	int fd; /* received with it, owned, -1: none (any more) */
	int64_t since_ns;
};

/* Listen on the configured socket. Sync. 0 or -errno with *error (talloc child of core). */
int server_open(struct core *core, char **error);
/* Close every connection and the socket, and remove it. */
void server_close(struct core *core);
struct session_info { /* one module connection */
	uint64_t id;
	const struct volume *v;
	pid_t pid; /* of its smbd */
	const char *samba;
	int64_t since_ns;
	uint64_t requests; /* since then, HELLO included */
	size_t opens;      /* recalls it has open */
};
/* Every module connection, the youngest first. */
void server_each(const struct core *core, void (*fn)(void *arg, const struct session_info *info),
		void *arg);
/* Module connections of a volume. */
unsigned server_sessions(const struct core *core, const struct volume *v);
/* Has this process one? */
bool server_has_process(const struct core *core, const struct volume *v, pid_t pid);

/* --- dispatch.c --- */
/* Begin what the frame asks for. -EBADMSG: malformed, the connection must end (the request was
 * freed); 0: the request is under way or answered. */
int dispatch(struct request *req, const uint8_t *frame, size_t len);

/* --- session.c, for dispatch --- */
/* Answer with status and message alone, and free the request. */
void request_reply(struct request *req, int status, const char *message);
/* Answer with a whole frame (malloc'ed, taken over, NULL: out of memory) and descriptors (owned
 * here afterwards), and free the request. */
void request_reply_frame(struct request *req, uint8_t *frame, ssize_t len, const int *fds,
		unsigned fd_count);
/* No answer. */
void request_free(struct request *req);

uint64_t session_id(const struct session *s);
/* Who is at the other end: a process, that is, a client machine with all its shares. Not 0. */
uint64_t session_client(const struct session *s);
/* HELLO succeeded; of m: pid, features, samba. */
void session_attach(struct session *s, struct volume *v, const struct ofs_hello_req *m);
bool session_is_attached(const struct session *s);
/* The recalls a connection has open; released when it ends. 0 or -ENOMEM. */
int session_open_add(struct session *s, uint64_t open_id);
bool session_open_has(const struct session *s, uint64_t open_id);
void session_open_drop(struct session *s, uint64_t open_id);

/* --- session.c, for ask.c --- */
/* A module connection of the volume that answers questions: the oldest one, whose tree connect is
 * long done; those that are slow last. NULL: none. */
struct session *session_to_ask(const struct core *core, const struct volume *v);
/* Queue a question (copied); what comes of a connection that ends of it is told by ask_lost. */
void session_ask(struct session *s, const uint8_t *frame, size_t len);
/* It has let a question wait. */
void session_is_slow(struct session *s);

#endif
