/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside reconcile/ only. */
#ifndef OFS_RECONCILE_PRIVATE_H
#define OFS_RECONCILE_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <talloc.h>
#include "reconcile.h"
#include "names.h"
#include "../base/log.h"
#include "../base/stats.h"
#include "../core/volume.h"
#include "../mirror/mirror.h"
#include "../mirror/objmeta.h"
#include "../mirror/snapshot.h"
#include "../upload/kept.h"
#include "../upload/upload.h"
#include "metalog.h"
#include "whose.h"

enum work_kind {
	WORK_PLACE, /* look at parent/name in the tree */
	WORK_ITEM,  /* bring one row into agreement with S3 */
};

/* Somebody waits for a work to be done; moved from a place to the item found there. */
struct waiter {
	struct waiter *next;
	unsigned need_attempt; /* item: an attempt begun at or after this number */
	void (*done)(struct waiter *w, int status, const char *message);
	void *arg;
};

/* What S3 has of a file that was open for writing when it was sent, from a copy. */
struct sent {
	char *etag; /* talloc child of the work; NULL: nothing was sent so */
	uint64_t data_gen, writes; /* of the record, of the inode's stripe */
	int64_t size, mtime_ns;
};

/* What the rename of a directory takes. */
struct tally {
	uint64_t objects, archived;
	double usd; /* by AWS's public list */
};

/* The rename of a directory, counted before it begins. */
struct limit { /* talloc child of its item */
	char *from; /* the old prefix */
	struct tally tally; /* over: as far as it was counted */
	bool over, allowed; /* over: a limit was passed, and counting ended */
	char *why;          /* over: for people */
};

#define WORK_GONE_MAX 4u

struct work { /* core only; talloc child of rc */
	enum work_kind kind;
	struct reconcile *rc;
	struct work *next, **prev; /* rc->works */
	size_t heap_pos;           /* in rc->heap, or SIZE_MAX */
	int64_t due_ns;
	int64_t first_ns; /* of the change, or of the work that this one follows from */
	bool soon;    /* due_ns was asked for: what settles does not put it off */
	bool urgent;  /* a flush wants it: no settling, short retries */
	bool running; /* a job or request of it is in flight */
	bool again;   /* something changed while it was running */
	unsigned attempts, failures;
	char *reason; /* why it is not done yet, for people */
	bool disk_failed; /* the local disk failed the last try */
	bool store_failed; /* the store did: it is not reached, or refuses everybody */
	bool denied;       /* the store refused the last try */
	bool away;         /* it waits until the store is back */
	struct waiter *waiters;
	/* WORK_PLACE */
	struct work *hash_next;
	struct ofs_oid parent;
	char *name;
	struct ofs_oid gone[WORK_GONE_MAX]; /* oids said to have left this place */
	unsigned gone_count;
	bool scan; /* a directory moved here while others were scanned */
	bool unseen; /* the daemon was killed as it made a stub here, and nobody has looked since */
	/* WORK_ITEM */
	struct row *row;
	struct work *blocked_on;   /* the item that must go first, or NULL */
	struct work *blocked_next; /* siblings in blocked_on->blocks */
	bool times;                /* directory: its children changed, and with them its write time */
	bool unstored;             /* what the generation below wrote, the local disk did not take: it may have lost it */
	uint64_t unstored_gen;
	bool resend;               /* its data are wanted although they are clean: move.c */
	struct kept *inherited;    /* what others set on the object it replaced, which has gone first */
	bool ask;                  /* its fence does not hold: whose is the object by now? */
	struct limit *limit;       /* directory: of the rename that it is, or was, about to begin; NULL: not counted */
	bool held;                 /* its data wait: too many conflicts */
	bool relist;               /* what its name has in S3 is not what the row says: the directory is listed then */
	bool stage;                /* park its object in .objectfs/stage/ first (a swap) */
	struct work *blocks;       /* items that wait for this one */
	struct copying *copy;      /* a client wants another's object copied to its key: copy.c */
	bool copied;               /* it is there, and the file's own content is not */
	struct sent sent;
	uint64_t copied_gen;       /* data_gen, and write time, of the file at that moment */
	int64_t copied_mtime_ns;
};

#define RECONCILE_PLACE_BUCKETS 16384u
#define RECONCILE_MOVING 64u

struct conflict { /* talloc children of the reconcile */
	int64_t at_ns, wall_ns;
	char *path, *copy; /* below the tree; copy NULL: a version in the bucket is all there is of it */
	const char *why;   /* constant */
};

struct reconcile { /* core only */
	struct volume *v;
	bool started, fresh;
	struct work *works; /* youngest first */
	struct work *measured; /* the next whose file is measured: tell.c */
	size_t work_count, place_count;
	bool hurry; /* nothing settles */
	struct work *places[RECONCILE_PLACE_BUCKETS];
	struct work **heap;
	size_t heap_len, heap_cap;
	struct clock_timer *timer;
	int64_t timer_at_ns;
	int64_t since_ns; /* works made now follow from one of this time; 0: they do not */
	unsigned items_running, places_running, scans_running;
	int64_t outage, outage_ns; /* the store's trouble_since_ns, and since when it is that by the volume's clock */
	int64_t away_next_ns; /* the store is away: when the next item finds out whether it is back; 0: it is not */
	unsigned trash_running; /* looks into trash/ that are no place's */
	unsigned unseen; /* places of which that is true: S3 is asked of no name before, */
	bool unseen_gone; /* nor before the first scan has ended, if nothing was at one of them */
	int64_t scan_begin_ns, scan_end_ns; /* of the last one */
	bool rescan_wanted;
	bool scan_failed;       /* the one under way: something cannot be read */
	unsigned scan_failures; /* scans in a row */
	struct clock_timer *rescan_timer;
	struct {
		struct ofs_oid oid;
		int64_t until_ns;
	} moving[RECONCILE_MOVING]; /* gone from where they were, and not found yet; a ring */
	unsigned moving_at;
	bool intents_read; /* the intent file, once after the first scan */
	struct attempt *attempts; /* items in flight, for lease breaks */
	struct pmove *moves; /* under way */
	struct redirects *redirects; /* redirect.c; NULL: none */
	/* conflict.c: the last ones */
	struct conflict conflicts[CONFLICTS_AN_HOUR];
	unsigned conflicts_made, conflicts_accepted; /* the first so many are no reason to stop */
	unsigned conflicts_running; /* that are being made */
	/* marks.c */
	struct clock_timer *sweep_timer;
	bool sweeping;
};

/* --- reconcile.c: the table --- */
/* What must be done about a row; delay_ns < 0: the volume's settle time. NULL: out of memory. */
struct work *work_item(struct reconcile *rc, struct row *row, int64_t delay_ns);
/* The same at once, as what follows from `from`: who waits for that waits for this too. */
struct work *work_follow(struct work *from, struct row *row);
struct work *work_place(struct reconcile *rc, const struct ofs_oid *parent, const char *name,
		int64_t delay_ns);
/* An inode is said to have left the place: trash/ tells whether a client deleted it. */
struct work *work_place_gone(struct reconcile *rc, const struct ofs_oid *parent, const char *name,
		const struct ofs_oid *oid);
/* NULL does nothing. */
void work_unseen(struct work *place, bool unseen);
/* Run it again at now + delay. */
void work_postpone(struct work *w, int64_t delay_ns, const char *fmt, ...)
		__attribute__((format(printf, 3, 4)));
/* Done: waiters are answered, freed (unless `again`). */
void work_done(struct work *w);
/* A step of it is done, the next follows: waiters wait on, those blocked by it do not. */
void work_go_on(struct work *w, int64_t delay_ns);
/* A step failed: retried with backoff. */
void work_failed(struct work *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Its own item is at it: the object of a trashed row is being deleted. */
bool work_is_running(const struct row *row);
/* Not waited for, not running: the caller runs it now. */
void work_take(struct work *w);
void work_add_waiter(struct work *w, struct waiter *waiter);
void work_move_waiters(struct work *from, struct work *to);
/* `w` (running) waits until `on` is done; `on` is made as urgent. */
void work_block(struct work *w, struct work *on, const char *why);
/* It waits no more, and runs now. */
void work_unblock(struct work *w);
/* Does `w` wait for itself? A wait may have outlived its reason (a rename since): all look again. */
void work_open_circle(struct work *w);
/* After any change of due times. */
void reconcile_kick(struct reconcile *rc);

/* --- tell.c --- */
/* Where it is, or was, below the tree; talloc child of ctx. */
char *work_path(TALLOC_CTX *ctx, const struct work *w);

/* --- look.c: disk jobs that read the tree --- */
void look_start(struct work *place);
/* Does trash/ hold this oid? Then its row becomes TRASHED and an item. */
void look_trash(struct reconcile *rc, const struct ofs_oid *oid);
/* The file's data must be sent (again): marks its record dirty, then makes an item. */
void look_redirty(struct reconcile *rc, const struct row *row);
void look_purge_trash(struct reconcile *rc, const struct ofs_oid *oid);
/* The row of a deleted file, lost with the index, learns what the inode in trash/ knows. there: trash/ has it. */
void look_trash_record(struct attempt *a, void (*go_on)(struct attempt *a, bool there));

/* What is at one name, as a worker saw it. */
struct seen {
	char *name; /* malloc */
	int status; /* 0; -ENOENT; -EXDEV: a copied stub; -EMLINK: a new file that has another name;
		     * -EINVAL: neither file nor directory; -errno */
	bool is_dir, adopted; /* adopted: it got its record from us just now */
	uint64_t ino, bytes; /* bytes: on this disk, of a file */
	struct ofs_record rec;
};
/* Worker. */
void look_at(const struct ofs_record_io *rio, struct ofs_shm *shm, struct clock *clock, int dirfd,
		struct seen *s);
int look_open_dir(int tree_fd, const struct ofs_record_io *rio, const char *path,
		const struct ofs_oid *oid, int flags);
/* Core: take in what was seen at parent/name; the item made for it, or NULL. */
struct work *look_found(struct reconcile *rc, const struct ofs_oid *parent, const struct seen *s,
		int64_t delay_ns);
/* Core: a client deleted it, as trash/ says; the work that tells S3, or NULL. */
struct work *look_deleted(struct reconcile *rc, const struct ofs_oid *oid, bool is_dir);
/* It has left its place for another that was not looked at yet: its directory may have moved, too. */
bool look_is_moving(const struct reconcile *rc, const struct row *row);
/* Say what keeps a file from being sent, if status is -EXDEV or -EMLINK. */
void look_warn(int status, const char *dir, const char *name);

/* --- scan.c: whole directories, trash/, the intent file --- */
void scan_start(struct reconcile *rc);
/* Unless it was read since the last scan began. */
void scan_dir(struct reconcile *rc, struct row *dir);
/* Is one under way, or was when a hint that is read now was written? */
bool scan_is_recent(const struct reconcile *rc);

/* --- step.c: one item towards S3 --- */
void step_start(struct work *item);
/* The row's object has no fence: ask for it, then go on (or begin again, if it is to be parked). */
void step_ask_fence(struct attempt *a);

/* --- cycle.c: items that wait for each other --- */
/* `start`, which has an item, must wait: does that end at itself? Then one of the circle is parked. */
void cycle_break(struct row *start);

/* --- attempt.c: one try of one item --- */
struct found { /* talloc child of the attempt */
	char *etag;
	struct ofs_oid wid;
	int64_t size, mtime_ns;
};
/* In rc->attempts while a lease is held. */
struct attempt {
	struct attempt *next, **prev;
	struct work *item;
	struct volume *v;
	struct row *row;        /* valid while item is */
	struct ofs_oid oid;
	int fd;                 /* -1 when closed */
	bool leased, copied;    /* copied: fd is a private copy of a file open for writing */
	bool lease_broken;
	bool unchanged;         /* its data are as item->sent says */
	uint64_t writes;        /* copied: the stripe's counter at that moment */
	struct ofs_record rec;  /* as read under the lease */
	struct snapshot *snapshot;
	int64_t size, ctime_ns;
	struct ofs_oid parent;  /* target in S3 */
	char *raw;              /* target component */
	char *key;              /* target key */
	char *old_key;          /* of the row's S3 side, when it moves */
	struct row *replaced;   /* row that gives up the target key: trashed, or the claim; or NULL */
	struct found *found;    /* a stub that moves: what is at its old key, if not what the row says; or NULL */
	bool asked;             /* whose the object is has been asked */
	struct ofs_oid wid;
	struct upload *upload;
	struct content *content; /* its bytes are being compared: move.c */
	struct blocks *blocks;  /* what the last upload sent in parts; NULL: nothing, or not known */
	struct ofs_oid upload_expect; /* wid of the object that the condition names; none: it has none, or not known */
	char *upload_if_match;  /* condition of the last write, NULL: only if absent */
	bool times;             /* directory: send the marker for its write time alone */
	struct kept *kept;      /* what others set on the object that has kept_of for its ETag */
	char *kept_of;          /* NULL: not asked yet */
	unsigned logging;       /* entries for the log that are not committed yet */
	int log_status;         /* of the first that failed */
	bool unsure;            /* an upload of it was answered to nobody, */
	char *unsure_why;       /* and what the store, or the way to it, said */
	bool covered;           /* class F1: what lay under its write has been looked at */
	const char *taken_why;  /* class F1: of the conflict that it ends in, once what lies under it has been looked at */
	char *looked_under;     /* class F1: ETag of an earlier write of ours, of which the same is true */
	int64_t since_ns;       /* by the store's clock: its begin */
	int64_t deleting_ns;    /* a delete: the same of an earlier one, that may have gone out; 0: none has */
	bool upload_done;       /* content and metadata of `rec` are in S3 */
	int64_t sent_mtime_ns;  /* moved by an upload: Last-Modified of that; else 0 */
	unsigned tries;         /* of the conditional write, within this attempt */
};
struct attempt *attempt_new(struct work *item);
/* Ends the attempt: lease and descriptor given back, then the item is done, failed or postponed. */
void attempt_end_done(struct attempt *a);
/* Something is in S3, but not all yet. */
void attempt_end_again(struct attempt *a, int64_t delay_ns);
void attempt_end_failed(struct attempt *a, const char *fmt, ...)
		__attribute__((format(printf, 2, 3)));
void attempt_end_postponed(struct attempt *a, int64_t delay_ns, const char *fmt, ...)
		__attribute__((format(printf, 3, 4)));
/* Another row's item must be done first. */
void attempt_end_blocked(struct attempt *a, struct row *on, const char *why);
/* A store's answer that is no success: failed or postponed, with words for people. */
void attempt_end_store(struct attempt *a, const char *doing, enum obj_status st,
		const char *message);

/* --- target.c: where it belongs --- */
/* Fill parent, raw, key, old_key, replaced; false: the attempt has ended. */
bool step_target(struct attempt *a);
/* The row of an object that stands apart at this key of a file; NULL: none. */
struct row *step_apart_at(struct index *ix, const struct ofs_oid *parent, const char *raw);
/* The directories above a->parent are in S3 from now on; false: the attempt has ended. */
bool step_directories(struct attempt *a);
/* An ancestor in the mirror that must move in S3 first; NULL: none, or (*lost) not known. */
struct row *step_moving_ancestor(struct index *ix, const struct row *row, bool *lost);
/* The uppermost directory above `parent` (itself included) that must be made in S3 but whose name
 * another has there; NULL: none. */
struct row *step_taken_directory(struct index *ix, const struct ofs_oid *parent);

/* --- prepare.c: the inode, before and after --- */
/* A lease on fd, as root or as the file's owner. Worker. 0 or -errno. */
int prepare_lease(int fd, uid_t owner, int kind);
/* Look at the inode, take its lease; goes on with step_prepared or ends the attempt. */
void step_prepare(struct attempt *a);
void step_prepared(struct attempt *a);
/* The row was changed; commit it, let the record follow, end the attempt. */
void step_finish(struct attempt *a);

/* --- send.c: to the key --- */
/* The first PUT to a key: claims it, then step_upload. */
void step_first_upload(struct attempt *a);
/* if_match NULL: only if absent. */
void step_upload(struct attempt *a, const char *if_match);
/* What others set on the object that it is about to overwrite, or that it leaves behind. NULL: nothing. */
const struct kept *step_kept(const struct attempt *a);
/* The key holds what `rec` says, or is about to. */
void step_uploaded_ok(struct attempt *a, const char *etag, const char *version_id, int64_t mtime_ns,
		uint64_t data_gen, uint64_t meta_gen);
/* What the metadata that are sent now are called: the record's generation; but not below the log's, or the log's
 * entry would count and not they. */
uint64_t step_meta_gen(const struct attempt *a);
/* Metadata alone, to the node's log. */
void step_log(struct attempt *a);
/* A deep copy; NULL: out of memory. */
struct snapshot *step_snapshot_copy(const struct snapshot *s);

/* Its key holds something foreign: a conflict; why: constant. Ends the attempt. */
void step_taken(struct attempt *a, const char *why);
/* A write was refused, or nobody knows: what is there now? */
void step_ask_outcome(struct attempt *a);

/* --- rebase.c: somebody else has put the very same bytes there --- */
/* Is it to be found out? r: of a HEAD, m: its metadata. */
bool rebase_may(const struct attempt *a, enum whose who, const struct obj_result *r, const struct objmeta *m);
/* If so the row becomes that object's, else it is a conflict, for `why`. head is taken over. */
void rebase_try(struct attempt *a, struct obj_req *head, const struct ofs_oid *wid, const char *why);

/* --- conflict.c --- */
/* Too many of them, lately: nothing is sent; the attempt has ended. */
bool step_conflicts_hold(struct attempt *a);
/* Before one is made: would it be one too many? Then it is the last one, nothing is sent from now on. */
void conflict_brake(struct reconcile *rc);
/* One was made: counted, and told (reconcile_conflicts). Paths below the tree, `copy` NULL: the other one is a
 * version in the bucket, no more; `why` constant. */
void conflict_made(struct reconcile *rc, const char *path, const char *copy, const char *why);
/* Foreign and ours both stay: this one goes on under a conflict name. Ends the attempt. */
void step_conflict(struct attempt *a, const char *why);

/* "name (conflict TAG DATE).ext", cut to 255 bytes. malloc. */
char *conflict_name_of(const char *name, const char *tag, int64_t wall_ns);

/* --- under.c: stores that fence nothing and keep versions (class F1) --- */
struct under_write { /* what was done to a key; borrowed during the call */
	const char *key;
	const char *beside;  /* what the key is to be called; NULL: the same. What is made visible is beside that */
	const char *version; /* as the store told, of the write or the delete's marker; NULL: it did not */
	const char *etag;    /* of the write, or of a copy of ours that was deleted; NULL: neither, or no answer came */
	const char *expect;  /* ETag of what was to be covered; NULL: nothing, or not known */
	bool fresh;          /* nothing was: whatever lies there, down to a delete, was covered unseen */
	bool deleted;
	bool tried;          /* deleted, but by whom, and what came after it, is not known: without `expect` below, it was
			      * not this one */
	bool sent;           /* tried, and a delete of this node's may have gone out since since_ns: it is taken for that */
	struct ofs_oid oid, wid;   /* of the file, of the write */
	const struct row *row;     /* of the file, as before the write, until done; NULL: none */
	const struct ofs_oid *dir; /* whose listing shows what is made of others' versions; NULL: not known */
	int64_t since_ns;          /* by the store's clock: before the key was looked at */
};
typedef void (*under_done_fn)(enum obj_status st, const char *message, void *arg);
bool under_applies(const struct volume *v);
/* Before the row is committed: what others wrote that it has covered becomes objects beside, or, under a
 * delete, comes back. */
void under_check(struct volume *v, const struct under_write *w, under_done_fn done, void *arg);

/* --- copy.c: a client's copy of a whole stub --- */
/* In the place of step_prepared's decision. */
void copy_step(struct attempt *a);
/* Is there nothing that others set on the copy? */
bool copy_is_plain(const struct attempt *a);
/* In the place of the upload. */
void copy_send(struct attempt *a);
/* The attempt ends: tell who waits. */
void copy_answer(struct attempt *a, bool there);

/* --- flush.c --- */
/* Worker. What a descriptor of the tree is: its record, its directory's, its name there (malloc;
 * NULL: unlinked). 0 or -errno; -ESTALE, -ENOENT: it is being moved. */
int inode_locate(const struct ofs_record_io *rio, int tree_fd, int fd, struct ofs_record *rec,
		struct ofs_record *parent, char **name);

/* --- claim.c: keys that may hold a copy of ours --- */
/*
 * The claim of a row: a trashed row at the place its object is being copied to, committed before
 * the first copy. Whatever stops the copy, the key is not forgotten: it becomes the row's, or is
 * deleted. NULL: none.
 */
bool claim_is(const struct row *row); /* is it a claim? NULL is none */
struct row *claim_get(struct index *ix, const struct row *row);
/* Whose claim it is; NULL: nobody's, or no claim. */
struct row *claim_owner(struct index *ix, const struct row *claim);
/* Claim a->parent/a->raw (a->replaced becomes the claim) for what moves (move_etag), commit, then go on. */
void claim_make(struct attempt *a, void (*go_on)(struct attempt *a));
void claim_drop(struct attempt *a);
/* The row has its object at a->parent/a->raw now; the old key is left to a new trashed row, whose
 * item deletes it (etag NULL: nothing is there any more). */
void claim_redeem(struct attempt *a, const char *etag, bool leave_old);
/* A directory above (in S3) whose content is being copied elsewhere, or NULL. */
struct row *claim_above(struct index *ix, const struct row *row);
/* Is an attempt under way whose old or new key lies below the directory? */
bool claim_is_busy_below(struct reconcile *rc, const struct row *dir);

/* --- move.c: a file's object moves, a deleted one goes --- */
void move_file(struct attempt *a);   /* S3 side -> a->key */
/* The ETag of what moves. */
const char *move_etag(const struct attempt *a);
/* What the store cannot copy by itself and is here was uploaded to a->key instead. */
void move_sent(struct attempt *a, const char *etag, int64_t mtime_ns);
void stage_file(struct attempt *a);  /* S3 side -> .objectfs/stage/ */
void delete_item(struct attempt *a); /* a trashed row */
/* What S3 still has below a deleted directory and must leave first; NULL: nothing. */
struct row *delete_first_child(struct index *ix, struct row *dir);

/* --- fenced.c: copies and deletes of one object --- */
/*
 * Conditional delete of one key in the store's best way; absent is OBJ_OK. etag NULL: not known. oid: whose
 * versions are ours. row: what else is known of the object, lives until done; NULL: nothing. sent_ns: since when,
 * by the store's clock, an earlier delete of it may have gone out; 0: none has. What somebody
 * else has written since, or made of ours, stays: OBJ_PRECONDITION.
 */
void delete_fenced(struct volume *v, const char *key, const char *etag, const struct ofs_oid *oid,
		const struct row *row, int64_t sent_ns,
		void (*done)(enum obj_status st, const char *message, void *arg), void *arg);
/*
 * Copy one whole object, pinned to etag; `expect` is what the target may hold (NULL: only nothing).
 * meta NULL: as it is; a target that is the same object already is a success. Else (borrowed until
 * done) the copy is an object of its own, and never passes through this machine. kept (borrowed until done; or
 * NULL): what others had set at the target, for a copy that brings nothing of that kind itself, or has
 * metadata of its own. done's etag is of the copy; OBJ_PRECONDITION: of
 * what has the name, or NULL.
 */
typedef void (*copy_done_fn)(enum obj_status st, const char *message, const char *etag, void *arg);
void copy_fenced(struct volume *v, const char *from, const char *etag, const char *to,
		const char *expect, const struct objmeta *meta, const struct kept *kept,
		copy_done_fn done, void *arg);

/* --- pass.c: copies larger than `copy limit` --- */
/* The ETag of what an object is a copy of, in its user metadata. */
#define COPY_OF_META "objectfs-copy-of"
/* head: of the source (taken over), with its ETag; `to` holds `expect`, or nothing if that is NULL. kept: as
 * copy_fenced's. */
void pass_object(struct volume *v, struct obj_req *head, const char *to, const char *expect,
		const struct kept *kept, copy_done_fn done, void *arg);

/* --- heir.c: a file that has taken over the key of a deleted one, and has not been sent yet --- */
bool heir_is(const struct row *row);
/* The note for the row that takes over from `gone`, for index_set_fence's version; NULL: no memory. */
char *heir_note(TALLOC_CTX *ctx, const struct row *gone);
/* Does the note name this file as one that was to be replaced? */
bool heir_names(const char *note, const struct ofs_oid *oid);
/* Their objects are replaced: the log may forget them. */
void heir_gone(struct volume *v, const char *note);
/* An object of file `of` stays where the item's file was: its row, which takes the place; NULL: no memory. The caller
 * makes it an item (work_follow) when its own row has left. */
struct row *heir_leave(struct work *item, const struct ofs_oid *of, const struct ofs_oid *parent, const char *raw,
		const char *etag, const struct ofs_oid *wid, int64_t size, int64_t mtime_ns);
/* Is it such a row? Of which file? */
bool heir_left(const struct row *row, struct ofs_oid *of);
/* Since when, by the store's clock, a delete of the row's object may have gone out; 0: none has. */
int64_t heir_deleting_ns(const struct row *row);
/* Notes that in a row with a fence, once. */
void heir_deleting(struct index *ix, struct row *row, int64_t since_ns);
/* Is the version of the row's object known? Is it this one? */
bool heir_version_known(const struct row *row);
bool heir_version_is(const struct row *row, const char *version);

/* --- pmove.c: all keys below a prefix --- */
enum pmove_stay {
	STAY_NOT,
	STAY_TAKEN,    /* its new name holds something else */
	STAY_ARCHIVED, /* it must be restored before it can be copied */
	STAY_REFUSED,  /* the store will never take it under its new name: too long a key, perhaps */
	STAY_APART,    /* it has stayed before: it is called otherwise */
	STAY_FOREIGN,  /* it is none of the directory's */
};

enum pmove_phase { PMOVE_LISTING, PMOVE_COPYING, PMOVE_VERIFYING, PMOVE_NOTING, PMOVE_REMOVING };

struct pkey {
	char *suffix; /* below the prefix */
	char *etag;
	char *copy_etag; /* NULL: the same */
	enum pmove_stay stays;
	bool young; /* put since the rename had begun, and empty, or not what the row knows: whose is it? */
	bool late;  /* put since then, or not long before */
	char *aside; /* its name below the new prefix; NULL: the suffix */
	bool gone;  /* nothing to copy; a tombstone is removed like any key */
	bool seen;  /* the copy is listed */
	char *why;  /* it stays, for people */
};

struct pnote { /* what stays below the directory, and what it is called after the move */
	char *from, *to;
	const char *why; /* NULL: as before */
};

struct pmove {
	struct volume *v;
	char *from, *to; /* prefixes, ending in "/"; or whole keys if `single` */
	struct ofs_oid dir; /* whose keys they are; none: no row here is */
	int64_t cutoff_ns; /* by the store's clock: what nobody here knows and is younger stays; 0: nothing */
	struct ofs_oid tombstone; /* in the tombstones of its deletes */
	bool single;
	bool removing; /* an earlier try had begun to delete: every copy had been there */
	struct pkey *keys;
	unsigned count, cap, next, running, finished; /* finished: of this phase */
	enum pmove_phase phase;
	struct pnote *notes;
	unsigned note_count, note_next;
	struct plook *looks; /* pmove_look.c: keys that may have been deleted by an earlier try */
	unsigned look_count, look_cap, look_next;
	void (*looked)(struct pmove *m);
	unsigned asides;
	bool beside; /* what has found its new name taken goes to another; to be copied yet */
	struct tally tally;
	unsigned stay; /* keys that stay; if `single`, what cannot be moved is a failure */
	struct pmove *list_next, **list_prev; /* rc->moves */
	const struct work *item; /* whose row moves; NULL: adopt.c's */
	int64_t since_ns;
	enum obj_status failed;
	char *message;
	/* NULL, or every copy is there, and what stays is noted; goes on with pmove_remove. */
	void (*copied)(struct pmove *m);
	void (*done)(struct pmove *m, enum obj_status st, const char *message);
	void *arg;
};
void pmove_remove(struct pmove *m);
void pmove_end(struct pmove *m, enum obj_status st, const char *message);
/* All are copied, or once more what a copy is not of yet: what is there already is seen to be. */
void pmove_copies(struct pmove *m);
void pmove_stays(struct pmove *m, struct pkey *k, enum pmove_stay why);
/* Of a directory that was parked, and of no row: it goes beside what has its name now, a marker nowhere. false: its
 * row takes it along. The name is the same after a kill. */
bool pmove_beside(struct pmove *m, struct pkey *k);
/* token NULL: from the beginning. */
void pmove_list(struct pmove *m, const char *prefix, const char *token, void (*done)(struct obj_req *req));
/* The same as pmove_row, of a file or directory: a claim knows the object that was to be copied to the key, not what is
 * there. */
struct row *pmove_known(const struct pmove *m, const char *suffix);

/* --- pmove_verify.c: between copies and deletes --- */
void pmove_verify(struct pmove *m, const char *token);
/* Of those listed under the old prefix; NULL: none. */
struct pkey *pmove_key(const struct pmove *m, const char *suffix);
int pmove_key_compare(const void *a, const void *b); /* of struct pkey, by their suffixes */
/* The row of a key that is being moved, by the old names; NULL: none. */
struct row *pmove_row(const struct pmove *m, const char *suffix);
/* from, to: prefixes ending in "/", or both whole keys. talloc child of v's reconcile; NULL: no memory. */
struct pmove *pmove_new(struct volume *v, const char *from, const char *to);
/* m->done once, then m is freed. */
void pmove_start(struct pmove *m);

/* --- pmove_look.c: what deletes of an earlier try have covered unseen (class F1) --- */
/* Is the move one that may have been stopped among its deletes? */
bool pmove_looks(const struct pmove *m);
/* One of these was deleted, perhaps; the ETags may be NULL. */
void pmove_look_at(struct pmove *m, const char *suffix, const char *etag, const char *or_etag);
/* Looks; m->failed says whether it could. */
void pmove_look(struct pmove *m, void (*looked)(struct pmove *m));

/* --- renames.c: directories --- */
void rename_directory(struct attempt *a);
/* One that was deleted or is not to be seen while its rename was under way: that is finished. false:
 * none was, the attempt goes on; else it has ended or will. */
bool rename_finish(struct attempt *a);
/* The whole directory to .objectfs/stage/. */
void stage_directory(struct attempt *a);

/* --- limit.c: what is too much to be renamed unasked --- */
void tally_add(struct tally *t, const struct volume *v, const struct obj_entry *e);
/* May the rename from a->old_key begin? false: the attempt has ended or will. */
bool limit_allows(struct attempt *a);
/* A directory whose rename waits to be allowed: in S3 it is where it was. */
bool limit_holds(const struct row *row);
/* The row is at home: if its rename was held, that is over. */
void limit_over(struct reconcile *rc, struct row *row);

/* --- note.c: .objectfs/rename/ --- */
typedef void (*redirect_done)(enum obj_status st, const char *message, void *arg);
/* Write (to != NULL) or remove a note; done on the core thread. cutoff_ns 0: none. */
void rename_intent(struct volume *v, const char *id, const char *from, const char *to, int64_t cutoff_ns,
		redirect_done done, void *arg);
/* stays: why the object is not moved; NULL: it is being moved. */
void rename_intent_write(struct volume *v, const char *id, const char *from, const char *to,
		int64_t cutoff_ns, const char *stays, redirect_done done, void *arg);
struct rename_note {
	json_t *doc; /* to be freed; the strings are its */
	const char *node, *from, *to, *stays;
	int64_t cutoff_ns;
};
/* false: none that is understood; n->doc is to be freed all the same. */
bool rename_note_read(const struct volume *v, const struct obj_result *r, struct rename_note *n);
/* Is the key below .objectfs/stage/? */
bool rename_note_is_parked(const struct volume *v, const char *key);

/* --- redirect.c: objects that stay under an old key, and are called otherwise here --- */
#define REDIRECT_SUFFIX ".stays" /* of their notes' names */
/* Read the notes (names, the caller's until done); what was known before is forgotten. */
void redirects_load(struct reconcile *rc, char **ids, unsigned count, redirect_done done, void *arg);
/* Moving them is tried from time to time. */
void redirects_start(struct reconcile *rc);
/* The object at `from` is called `to` from now on, or instead of what it was called; in the bucket when done.
 * why: for people; NULL: as before. */
void redirect_put(struct volume *v, const char *from, const char *to, const char *why, redirect_done done,
		void *arg);
/* Its object has left the key, or is called by it again. */
void redirect_end(struct reconcile *rc, const char *from);
void redirect_end_row(struct reconcile *rc, const struct row *row);
/* Is the key (of a file) an object's that is called otherwise? *ending: it has left, and the note has not. */
bool redirect_holds(struct reconcile *rc, const char *key, bool *ending);
/* An attempt to move it was refused for good: a redirect, then the next attempt. */
void redirect_item(struct attempt *a, const char *why);
/*
 * Of a row in S3 that is called otherwise than its key: does a redirect say so? HOME: then its key is its target,
 * and nothing moves. WAIT: the attempt has ended or will. NONE: it moves, or tries to.
 */
enum redirect_home { REDIRECT_NONE, REDIRECT_HOME, REDIRECT_WAIT };
enum redirect_home redirect_home(struct attempt *a);
/* Its key is that of an object that cannot be moved: HOME: its target is another key, and a redirect says so. */
enum redirect_home redirect_beside(struct attempt *a, const char *why);
/* The attempt has sent the row's data: perhaps it can be moved now. */
void redirect_uploaded(struct attempt *a);
void redirects_json(struct reconcile *rc, json_t *list, unsigned most);

/* --- marks.c --- */
void marks_sweep_soon(struct reconcile *rc);

#endif
