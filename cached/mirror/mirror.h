/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The mirror: names and listings brought from S3 into the local tree, as stubs and directories.
 * Core thread only; what blocks is a disk job. All callbacks come on the core thread, perhaps from
 * inside the call. status: 0, -ENOENT (certain absence, lookup only), else unknown: -errno with a
 * message for people.
 */
#ifndef OFS_MIRROR_H
#define OFS_MIRROR_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "shared/record.h"
#include "../base/disk.h"
#include "../reconcile/index.h"

struct volume;
struct guard;
struct mirror;
typedef void (*mirror_done)(int status, const char *message, void *arg);

struct mirror *mirror_new(TALLOC_CTX *ctx, struct volume *v);
/* dirfd: any descriptor of the directory, taken over. */
void mirror_lookup(struct mirror *m, uint64_t request_id, int dirfd, const char *name,
		mirror_done done, void *arg);
/* client: whose listings these are (session.h), MIRROR_CLIENT_OWN: objectfsctl's; one that walks through
 * directories is answered by fewer requests. refresh: list even if listed and young. Joined with one under way for the same directory, but a
 * refresh never with one that has asked S3 before it: what was in S3 when it came is here at its answer. */
#define MIRROR_CLIENT_OWN 0u
void mirror_list(struct mirror *m, uint64_t request_id, uint64_t client, int dirfd, bool refresh,
		mirror_done done, void *arg);
/* The same by path below the tree ("" or "." = root); not recursive. */
void mirror_refresh(struct mirror *m, uint64_t request_id, const char *path, mirror_done done,
		void *arg);
/* The same, nobody waits for it: what fails is logged. */
void mirror_relist(struct mirror *m, const char *path);
/* Is a listing of this directory under way? */
bool mirror_is_listing(const struct mirror *m, const struct ofs_oid *dir);
/* 0: S3 holds no client-visible key below dirfd/name besides its own marker; -ENOTEMPTY. */
void mirror_rmdir_check(struct mirror *m, uint64_t request_id, int dirfd, const char *name,
		mirror_done done, void *arg);

/* Names that are gone from the bucket and kept here, because they are so many. *path: the directory they
 * are below, talloc, NULL if there are none or it is not here. */
uint64_t mirror_removals_held(struct mirror *m, TALLOC_CTX *ctx, char **path);
/* They were meant to go, those at `path` and below ("" or "." = root), and so is, for an hour, whatever else
 * goes there. Their directories, as far as they are remembered, are listed anew before done. names: held until
 * now. -ENOENT: no such directory. */
typedef void (*mirror_accepted)(int status, const char *message, uint64_t names, void *arg);
void mirror_accept_removals(struct mirror *m, uint64_t request_id, const char *path, mirror_accepted done,
		void *arg);

/* What clients did, and that it is not known: names that were absent may be there. */
struct ofs_hint;
void mirror_hint(struct mirror *m, const struct ofs_hint *h);
void mirror_hints_lost(struct mirror *m);

/* The volume is READY: go on with what waited for files to be closed when the last daemon ended. */
void mirror_start(struct mirror *m);
/* A module has connected: what waits for files to be closed is asked about. */
void mirror_can_ask(struct mirror *m);

/* --- helpers for disk jobs (worker threads); no core state --- */
/* Open a path below the tree without following symlinks or leaving it (openat2 RESOLVE_BENEATH |
 * RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS); fd or -errno. */
int mirror_open_beneath(int tree_fd, const char *path, int flags);
/* -EAGAIN while leased elsewhere. Marker on or off, keeping the other mode bits; the guard's mark goes
 * along with it. */
int mirror_marker_set(struct guard *guard, int fd, bool on);

#endif
