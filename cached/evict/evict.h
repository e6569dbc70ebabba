/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bytes out of the local disk: files become stubs again. Core thread only; the work on the inode is a
 * disk job.
 */
#ifndef OFS_EVICT_H
#define OFS_EVICT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "../reconcile/index.h"

struct volume;
struct evictor;
struct recall_file_job;

struct evictor *evictor_new(TALLOC_CTX *ctx, struct volume *v);
/* See what is here; S3 is not needed for it. */
void evictor_count(struct evictor *ev);
/* The volume is READY for the first time: keep the marks. */
void evictor_start(struct evictor *ev);

/* --- what is here (any room, any time; ev NULL: nobody keeps count) --- */
void evict_note(struct evictor *ev, const struct ofs_oid *oid, uint64_t bytes);
void evict_note_least(struct evictor *ev, const struct ofs_oid *oid, uint64_t bytes);
void evict_note_use(struct evictor *ev, const struct ofs_oid *oid);
void evict_note_gone(struct evictor *ev, const struct ofs_oid *oid);
/* Has it data here, as far as is known? ev is not NULL. */
bool evict_is_here(const struct evictor *ev, const struct ofs_oid *oid);
/* What is in one directory (a path below the tree) that nobody told of? Then looked(arg). */
void evict_look(struct evictor *ev, const char *path, void (*looked)(void *arg), void *arg);
/* Something was renamed: a walk over the tree may have missed it. */
void evict_note_moved(struct evictor *ev);

/*
 * One file out, if it is clean, in S3 and nobody's. done(arg, 0) when it is a stub without data;
 * -EBUSY: it is open, being sent or recalled, or newer than S3; -EPERM: pinned; -ESTALE: S3 does not
 * have what this disk has; -EALREADY: nothing is here; -ENOENT: no such row; -EAGAIN: S3 cannot be
 * asked; other -errno. Perhaps at once.
 */
void evict_file(struct evictor *ev, const struct ofs_oid *oid, void (*done)(void *arg, int status),
		void *arg);
/* The same of one whose data is known to be damaged: also if it is pinned. */
void evict_damaged(struct evictor *ev, const struct ofs_oid *oid, void (*done)(void *arg, int status),
		void *arg);
/* Nobody may have it open any more, and S3 may have it: out with it, if that is how the volume is set. */
void evict_closed(struct evictor *ev, const struct ofs_oid *oid);
/* Is S3 being asked about the inode, or its data going? */
bool evict_is_running(struct evictor *ev, uint64_t ino);
/* Is the inode being evicted? Then fn(arg) comes once it is not; else false, and fn never comes. */
bool evict_wait(struct evictor *ev, uint64_t ino, void (*fn)(void *arg), void *arg);

/*
 * The stubs in a directory leave the mirror, if all files in it are clean stubs (or empty) and nobody
 * has used them since before_ns (wall clock). done(arg, 0, count); -EALREADY: no file is in it; -EBUSY:
 * one is in use, has data here, or differs from S3 (count others may have gone); -EPERM: pinned;
 * -EAGAIN: S3 is away; -ENOENT; other -errno. Perhaps at once.
 */
void evict_drop(struct evictor *ev, const struct ofs_oid *dir, int64_t before_ns,
		void (*done)(void *arg, int status, uint64_t count), void *arg);
/* `drop age` ago; at_once: as long as a client may rely on a listing. INT64_MIN: nothing may be dropped. */
int64_t evict_drop_before_ns(const struct evictor *ev, bool at_once);
/* Are stubs of this directory being dropped? Then fn(arg) comes at the end; else false. */
bool evict_drop_wait(struct evictor *ev, const struct ofs_oid *dir, void (*fn)(void *arg), void *arg);

/* Pins: of files and of directories with all below. By object id: they stay through renames. Kept in
 * the index, so losing the index loses them. done(arg, 0) once it is on disk; -EALREADY: (not) pinned anyway;
 * -ENOSPC: too many; other -errno: it is so until the daemon ends, as the index cannot be written. */
void evict_pin(struct evictor *ev, const struct ofs_oid *oid, bool on, void (*done)(void *arg, int status), void *arg);
/* Each; path NULL: where it is is not known (any more). */
void evict_pins_each(struct evictor *ev, void (*fn)(void *arg, const char *path), void *arg);
/* Pinned itself, or below a directory that is. */
bool evict_is_pinned(struct evictor *ev, const struct row *row);

/* Below the high mark, and the file system has what it is to keep free. */
bool evict_has_room(const struct evictor *ev);
/* Recalls have asked S3 for so much; less: it has been noted, or does not come. NULL: nothing. */
void evict_coming(struct evictor *ev, int64_t bytes);
/* Half of what is above the high mark is left when so much more, and what was asked for, has come; if not, files
 * go. NULL: true. */
bool evict_can_take(struct evictor *ev, uint64_t bytes);
/* For `status`: new reference. */
json_t *evict_json(struct evictor *ev);

#endif
