/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What main.c builds and core/ and admin/ share: the doors, the cache directory, the volumes. Core
 * thread only; "sync" functions block and run before the loop.
 */
#ifndef OFS_CORE_CORE_H
#define OFS_CORE_CORE_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include <tevent.h>
#include "../base/clock.h"
#include "../base/conf.h"
#include "../base/disk.h"
#include "../base/mailbox.h"
#include "../coord/coord.h"
#include "volume.h"

struct admin_task;
struct http;
struct server;

struct core {
	/* constant after main's init */
	const struct conf *conf;
	struct tevent_context *ev;
	struct mailbox *mb;
	struct clock *clock;
	struct disk *disk;
	struct coord *coord;
	int lock_fd;                     /* flock on <cache directory>/lock */
	char node_id[OFS_OID_HEX_BYTES]; /* hex of cache_id */
	uint8_t cache_id[16];
	int64_t start_ns;
	struct volume **volumes;
	unsigned volume_count;
	struct server *server;
	struct admin_task *tasks; /* admin/'s: commands that take their time */
	struct http *http;      /* NULL: off, or it cannot listen */
	const char *http_error; /* why it cannot */
};

/* --- core.c --- */
/* From a zeroed core with conf set: cache directory, doors, volumes, socket. Sync. 0 or -errno with
 * *error (talloc child of core, may stay NULL); core_close is called in both cases. */
int core_open(struct core *core, char **error);
void core_close(struct core *core);

/* --- cachedir.c --- */
/* Make the cache and run directories, take the lock, read or make the node id. Sync. 0 or -errno
 * with *error (talloc child of core). */
int cachedir_open(struct core *core, char **error);
void cachedir_close(struct core *core);
/* mkdir of a path whose parents may be missing (those get 0755). 0 or -errno. */
int cachedir_make_path(const char *path, unsigned mode);

/* --- privs.c --- */
/* Drop every capability the daemon does not need; a missing one is no error. core_dumps: a core may be left when it
 * ends by a fault. Before threads. */
void privs_drop(bool core_dumps);
/* Names of the capabilities on our list that this thread does not have, "" if none; *needed: without
 * one of them something does not work, not only worse. talloc child of ctx. */
char *privs_missing(TALLOC_CTX *ctx, bool *needed);
/* Open as many descriptors as the hard limit allows. */
void privs_raise_limits(void);

/* --- volume_fs.c --- */
/* Make and check the directories of a volume, choose the record xattr, check the root's record;
 * fills path, the descriptors, rio and root_known. Sync. *new_tree: the root had no record before.
 * 0 or -errno with *error (talloc child of v) that says what to do. */
int volume_fs_open(struct volume *v, const struct core *core, bool *new_tree, char **error);
void volume_fs_close(struct volume *v);
/* Can the mirror's file system be written? Worker thread; may block. 0 or -errno; *free_bytes: for those
 * who are not root; *inodes_gone: none is left. */
int volume_fs_try(const struct volume *v, uint64_t *free_bytes, bool *inodes_gone);

/* --- volume_open.c --- */
/* Everything of a volume that can be had without S3. Sync. NULL and *error (child of core). */
struct volume *volume_open(struct core *core, const struct conf_volume *cv, char **error);
/* Tear down; jobs and store threads have ended. */
void volume_close(struct volume **v);
/* Stop the store's threads (nothing posts letters afterwards). */
void volume_stop_store(struct volume *v);
/* Borrowed descriptors for HELLO. */
int volume_shm_fd(struct volume *v);
int volume_doorbell_fd(struct volume *v);
/* A new O_APPEND descriptor of the intent file, owned by the caller, or -errno. */
int volume_intent_open(struct volume *v);

/* --- volume.c --- */
/* Begin to reach S3. */
void volume_start(struct volume *v);
const char *volume_state_name(enum volume_state s);

/* --- volumes.c --- */
int volumes_open(struct core *core, char **error);
void volumes_start(struct core *core);
void volumes_close(struct core *core);
struct volume *volumes_find(const struct core *core, const char *name);
/* The volume whose tree holds the absolute path; *rest: the part below tree ("." for the root),
 * inside `path`. NULL: none. */
struct volume *volumes_by_path(const struct core *core, const char *path, const char **rest);
/* "a, b, c" for messages; talloc child of ctx. */
char *volumes_names(TALLOC_CTX *ctx, const struct core *core);

#endif
