/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Local programs that open a stub wait until its data is here. The kernel asks (fanotify), on
 * marked inodes only: stubs carry a mark, files whose data is here carry none and cost nothing.
 *
 * Every volume of the daemon has a struct guard; NULL (simulations) is one that guards nothing.
 */
#ifndef OFS_GUARD_H
#define OFS_GUARD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <talloc.h>

struct volume;
struct mailbox;
struct guard;

/* --- life: core --- */
/* Sync; before anything opens a file of the mirror. `knows`: for whom guard_smbd was not called: is it
 * one of smbd's all the same (between two connections)? *g may guard nothing, and say why
 * (guard_json). 0; with `guard = yes` -errno and *error (talloc child of v). */
int guard_open(struct volume *v, struct mailbox *mb, bool (*knows)(void *arg, pid_t pid), void *arg,
		struct guard **g, char **error);
/* Rooms are there: those that an earlier daemon left waiting are served. */
void guard_start(struct guard *g);
/* After the workers have ended. Who waits goes on waiting if a service manager keeps the guard for
 * the next daemon, and gets an error if not. */
void guard_close(struct guard **g);
/* smbd with our module runs in this process (true), or ran: it asks for data itself, and is let pass
 * without the core. */
void guard_smbd(struct guard *g, pid_t pid, bool runs);
/* Around a walk over the tree that sets the mark of every stub. all: every directory was read. */
void guard_count(struct guard *g);
void guard_counted(struct guard *g, bool all);
/* For `status`: new reference. {"state": "on", "marking", "partly", "unable", "off", ...} */
json_t *guard_json(const struct guard *g);

/* --- marks: any thread; a few microseconds --- */
/* It is a stub, and nobody can have opened it as anything else. */
void guard_set(struct guard *g, int fd);
void guard_set_at(struct guard *g, int dir_fd, const char *name);
/* It is none any more. */
void guard_clear(struct guard *g, int fd);
/*
 * A file, or a stub, is about to lose its data under the F_WRLCK lease of fd. From here on nobody
 * is asked about, the lease alone holds openers off; each of them will be seen when it reads.
 * -EAGAIN: somebody opens it at this moment, nothing was done.
 */
int guard_pause(struct guard *g, int fd, bool is_stub);
/* It is a stub, and the lease is still held. */
void guard_resume(struct guard *g, int fd);

#endif
