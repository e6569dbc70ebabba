/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What differs between mirror and S3, and what to do about it. Core thread only.
 */
#ifndef OFS_RECONCILE_H
#define OFS_RECONCILE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "shared/ring.h"
#include "index.h"

struct volume;
struct reconcile;

/* With the index, which says whether the whole mirror is to be scanned: it is new, or its first scan has not ended. */
struct reconcile *reconcile_new(TALLOC_CTX *ctx, struct volume *v);
/* Before the volume is READY: finish directory renames that some node began and left, and, on a new
 * mirror (!v->root_known), give the root its metadata back. done(0) or -errno with a message (the
 * caller retries). */
void reconcile_adopt(struct volume *v,
		void (*done)(int status, const char *message, void *arg), void *arg);
/* The volume is READY: scan trash, intent file, marked directories; then work for ever. */
void reconcile_start(struct reconcile *rc);
void reconcile_hint(struct reconcile *rc, const struct ofs_hint *hint);
/* Hints were lost or damaged: marked directories are scanned again. */
void reconcile_rescan(struct reconcile *rc);
/*
 * Ignore settle for all that is pending now (below `path` of the tree; NULL: everything) and call
 * done when it is in S3: 0, or -EIO/-ETIMEDOUT with what is left listed in a JSON array (borrowed),
 * after deadline_ns, a time of the clock (0: no deadline). The caller has drained the rings.
 */
void reconcile_flush(struct reconcile *rc, const char *path, int64_t deadline_ns,
		void (*done)(int status, json_t *left, void *arg), void *arg);
/* The same for one inode (descriptor taken over), open or not, for SMB FLUSH and close. */
void reconcile_flush_fd(struct reconcile *rc, int fd,
		void (*done)(int status, const char *message, void *arg), void *arg);
/* Does S3 have the row (in_s3, HERE) at the place where the mirror has it? */
bool step_at_home(const struct row *row);
/*
 * A client copies a whole file, the stub `source` of `size` bytes, into the one behind the descriptor
 * (taken over), which has no data yet: S3 copies the object to its key. 0: the copy is there, until
 * something is written or a settle time passes; else nothing has changed for the client.
 */
void reconcile_copy(struct reconcile *rc, int fd, const struct ofs_oid *source, uint64_t size,
		void (*done)(int status, const char *message, void *arg), void *arg);
/* Then, with the client's own open file: it becomes a stub of the copy. -EOPNOTSUPP: it does not;
 * another error: it may have. */
void reconcile_copy_take(struct reconcile *rc, int fd, const struct ofs_oid *target, uint64_t size,
		void (*done)(int status, const char *message, void *arg), void *arg);
/* [{path, kind, since_s, state, reason}], at most `most`; new reference. */
json_t *reconcile_pending(struct reconcile *rc, unsigned most);
/* [{type, state, path, from, to, since_s, reason, blocked_by}], of those whose objects are being moved
 * also {phase, objects, copied, removed}; at most `most`; new reference. */
json_t *reconcile_renames(struct reconcile *rc, unsigned most);
/* How much is pending, and for how long the oldest of it has been; 0: nothing. */
void reconcile_backlog(const struct reconcile *rc, size_t *count, int64_t *oldest_ns);
/* How much of it waits because the local disk failed (EIO); *path: of the first, talloc child of ctx. */
size_t reconcile_disk_failed(const struct reconcile *rc, TALLOC_CTX *ctx, char **path);
/* Is S3 behind the mirror for this row or this place? Listings must then not touch it. */
bool reconcile_is_pending(struct reconcile *rc, const struct row *row);
bool reconcile_place_is_pending(struct reconcile *rc, const struct ofs_oid *parent,
		const char *name);
/*
 * Run fn(arg, 0) once no rename of the directory, or of one above it, is under way in S3, perhaps at
 * once: until then its keys are at two places and some at one only, and nothing can be concluded from
 * what a listing lacks. fn(arg, -EAGAIN) after wait_ns. ctx: freeing it cancels.
 */
void reconcile_when_still(struct reconcile *rc, TALLOC_CTX *ctx, const struct ofs_oid *dir,
		int64_t wait_ns, void (*fn)(void *arg, int status), void *arg);
/* Objects that could not be moved to the keys (whole) of their names here: where the file with this key is
 * (NULL: there; good until the table changes); is this key one that such an object has stayed at? */
const char *redirect_of(struct reconcile *rc, const char *key);
/* Is there any? Else nobody need make a key to ask. */
bool redirects_any(const struct reconcile *rc);
bool redirect_is_from(struct reconcile *rc, const char *key);
/* How many are called so below this prefix; each is told: where it is, and the rest of its name. */
unsigned redirects_below(struct reconcile *rc, const char *prefix,
		void (*fn)(void *arg, const char *from, const char *rest), void *arg);
/* How many have stayed below it. */
unsigned redirects_from_below(struct reconcile *rc, const char *prefix);
/* It could be read: perhaps it can be moved now. */
void redirect_retry(struct reconcile *rc, struct row *row);
/* The index was lost: the row's object is where a client's name says, or where a redirect does. false: another row's is. */
bool reconcile_assume_place(struct reconcile *rc, struct row *row, const struct ofs_oid *parent,
		const char *raw);
/*
 * The n-th of the keys a file may be at while directories above it are renamed in S3: the lowest bit says
 * whether the nearest of them is taken to be at its new place, the next bit the same of the next one above
 * that place. 0: the row's own key. NULL: not so many are being renamed. talloc child of ctx.
 */
char *reconcile_moving_key(struct reconcile *rc, TALLOC_CTX *ctx, const struct row *row, unsigned n);
/*
 * Paths below the tree of pending files and of places not looked at yet, so many works at a time:
 * from the first on (`begin`), else from where the last call stopped. True: there are more. Works
 * that come meanwhile have no turn.
 */
bool reconcile_pending_files(struct reconcile *rc, bool begin, unsigned most,
		void (*fn)(void *arg, const char *path), void *arg);
/* Room is short: from now on (until false) nothing settles before it is sent. */
void reconcile_hurry(struct reconcile *rc, bool hurry);
/* A resident file (HERE) differs from S3 though nobody marked it dirty: its data is sent. */
void reconcile_resend(struct reconcile *rc, const struct row *row);
/* Something is there that no hint told of. */
void reconcile_found(struct reconcile *rc, const struct ofs_oid *parent, const char *name);
/* Something happened to the row that no hint tells. */
void reconcile_touch(struct reconcile *rc, struct row *row);
/* What is here of a row whose object the index has forgotten goes to S3 again, if that does not have it. */
void reconcile_send_again(struct reconcile *rc, struct row *row);
/* The index is new, and the tree was not read yet: what is below a directory may have no rows. */
bool reconcile_is_fresh(const struct reconcile *rc);
#define CONFLICTS_AN_HOUR 100u
/* [{path, copy, reason, at}], the last ones since the start, newest first, CONFLICTS_AN_HOUR and `most` at most: one of
 * the two versions is at `path`, the other at `copy` (null: a version in the bucket), as clients see them. New
 * reference. */
json_t *reconcile_conflicts(struct reconcile *rc, unsigned most);
/* How many of them within the last day; CONFLICTS_AN_HOUR: perhaps more. */
unsigned reconcile_conflicts_lately(const struct reconcile *rc);
/* More than CONFLICTS_AN_HOUR have stopped the sending of files, until it is accepted. */
bool reconcile_conflicts_held(const struct reconcile *rc);
/* It goes on; false: it was not held. */
bool reconcile_accept_conflicts(struct reconcile *rc);
/* Renames of directories that wait to be allowed, as they are large or dear. */
unsigned reconcile_renames_held(const struct reconcile *rc);
/* Those at or below the path (NULL or ".": all) may begin; how many. */
unsigned reconcile_allow_renames(struct reconcile *rc, const char *path);
/* A lease of ours on this descriptor is being broken (signalfd, from core). */
void reconcile_lease_broken(struct reconcile *rc, int fd);

#endif
