/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What server.c and session.c share. */
#ifndef OFS_CORE_SESSION_PRIVATE_H
#define OFS_CORE_SESSION_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include "session.h"

struct server { /* core only */
	struct core *core;
	int fd;
	struct tevent_fd *fde;
	struct session *sessions;
	uint64_t next_id;
	bool has_group;
	gid_t group;
};

/* A connection was accepted (fd taken over); root: may send everything, admin: CTL. */
void session_new(struct server *srv, int fd, const struct ucred *cred, bool root, bool admin);
/* Close it; its memory goes when the loop runs next, or with the server. */
void session_end(struct session *s, const char *why);

#endif
