/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside mirror/ only (other rooms' disk jobs use the helpers as well). */
#ifndef OFS_MIRROR_PRIVATE_H
#define OFS_MIRROR_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <talloc.h>
#include <time.h>
#include "mirror.h"
#include "objmeta.h"
#include "snapshot.h"
#include "../base/log.h"
#include "../base/stats.h"
#include "../core/announce.h"
#include "../core/volume.h"
#include "../evict/evict.h"
#include "../guard/guard.h"

#define MIRROR_STILL_WAIT_NS (25 * NS_PER_S) /* for a directory rename in S3 to be done */
#define MIRROR_MOVING_TEXT "the directory is being renamed in S3: try again"
#define MIRROR_READY_WAIT_NS (20 * NS_PER_S)
#define MIRROR_HEADS_AT_ONCE 32u
#define MIRROR_BATCH 64u
#define MIRROR_LIST_TURN 250u
#define MIRROR_LOCK_MS 2000

struct blob_cache;
struct listing;
struct mirror { /* core only */
	struct volume *v;
	struct listing *listings; /* under way */
	uint64_t list_clock; /* counts what asks for listings and what is asked: which came first */
	unsigned list_turn; /* names that one listing looks at in one turn of the loop; tests make it few */
	struct blob_cache *blobs;
	char token[17];
	struct brake *brake;      /* brake.c */
	struct absent *absent;    /* absent.c */
	struct walks *walks;      /* walk.c */
	struct change_job *changes; /* mirror_change.c; on the disk */
	struct later *later;      /* mirror_held.c */
	unsigned later_count;
	bool later_started;
	struct clock_timer *later_timer;
};

/* --- mirror_fs.c: disk jobs only --- */
struct mirror_place { /* plain copies of what a job may use of a volume; constant */
	struct ofs_record_io rio;
	struct ofs_shm *shm;
	struct clock *clock; /* for ids */
	struct guard *guard;
	int tree_fd, limbo_fd, blocks_fd;
	char token[17]; /* in the names of what is being made in limbo/, new with every start */
};
struct mirror_place mirror_place_of(const struct mirror *m);
/* Another descriptor of the inode behind fd (O_PATH works); or -errno. */
int mirror_reopen(int fd, int flags);
/* A lease for this process, with the owner's fsuid where CAP_LEASE is lacking. 0; -EAGAIN: somebody
 * has the file open. */
int mirror_lease_take(int fd, int type);
void mirror_lease_drop(int fd);
/* Is F_WRLCK still held? Not if somebody wants the file, or has got in by force (lease-break-time). */
bool mirror_is_alone(int fd);
/*
 * Record and marker say stub: `now`, in place of `was`, which may be a stub's. Under F_WRLCK, the stripe's lock and
 * guard_pause. 0: whoever opens the file from here on is told, and nobody has it open. Else all is as it was, and the guard
 * has resumed: -EBUSY: somebody has got in by force, and reads a plain file; -errno.
 */
int mirror_stub_say(const struct mirror_place *p, int fd, const struct ofs_record *was, struct ofs_record *now);
/* A file, readable and writable, under F_WRLCK: nobody else has it open. A descriptor or -errno;
 * -EAGAIN: in use. */
int mirror_open_alone(int dir_fd, const char *name);
int64_t mirror_wall_ns(void);
/* Lock the stripe of the inode; its number in *stripe. 0 or -errno. */
int mirror_lock(struct ofs_shm *shm, int fd, uint32_t *stripe);
/* Expire the listing of the directory `oid` at `path` below the tree. 0 or -errno. */
int mirror_unlist(const struct mirror_place *p, const char *path, const struct ofs_oid *oid);

/* --- mirror_dir.c: which directory is meant --- */
struct mirror_dir { /* talloc; closes fd; jobs on what is in it end before it is freed */
	int fd; /* O_RDONLY | O_DIRECTORY; follows renames */
	uint64_t ino;
	struct ofs_oid oid;
	uint32_t flags; /* of its record */
	int64_t listed_ns;
	bool probe_there; /* the name asked for is in the tree */
	/* what its mtime stays as long as no client changes it */
	struct timespec mtime;
	uint64_t changes; /* of its stripe (shm.h), read before mtime */
	bool steady;      /* no client was changing it then */
	struct mirror *m;
	struct news *news; /* for clients that watch it; told when this is freed */
};
/* Somebody else's change of a name in it is in the tree now. */
void mirror_dir_news(struct mirror_dir *dir, enum ofs_wire_notify kind, const char *name, bool is_dir);
/* The same for a job that changes what is in the directory: plain copies, and a descriptor of its own. */
struct mirror_target {
	struct mirror_place place;
	struct ofs_oid oid;
	int fd; /* -1: not open */
	struct timespec mtime;
	uint64_t changes;
	bool keep_times; /* no client was changing it, nor is */
};
/* 0 or -errno. The caller closes t->fd. */
int mirror_target_open(struct mirror *m, const struct mirror_dir *dir, struct mirror_target *t);
/* Worker. Is it still that directory? 0; -ESTALE; -errno. */
int mirror_target_check(const struct mirror_target *t);
/* Worker. Its write time is what it was before our own work, unless a client may have changed it. */
void mirror_target_keep_times(const struct mirror_target *t);
typedef void (*mirror_found)(int status, const char *message, struct mirror_dir *dir, void *arg);
/* Takes dirfd over. *dir is a talloc child of ctx. `probe`: a name to look for in it, or NULL. */
void mirror_locate(struct mirror *m, TALLOC_CTX *ctx, int dirfd, const char *probe,
		mirror_found found, void *arg);

/* --- mirror_make.c: stubs and directories into the tree --- */
struct stub { /* malloc'ed; moves between threads */
	struct stub *next;
	char *name; /* local */
	char *raw;  /* S3 component */
	char *apart; /* its object's key behind the volume's prefix, if that is none of the directory's; or NULL */
	bool is_dir, has_object, foreign;
	bool plain; /* as the row's */
	bool read_only; /* foreign: whoever wrote it lets nobody write it */
	struct ofs_oid oid;
	uint64_t data_gen, meta_gen;
	int64_t size, mtime_ns, s3_mtime_ns;
	char *etag, *version_id;
	struct ofs_oid wid;
	struct snapshot *snapshot; /* NULL: foreign or implied */
	/* out */
	int status; /* 0: made; -EEXIST: something else has the name; -errno */
	bool rights_kept; /* changed: the rights that are here stay, and go to the log */
	bool appeared; /* it was not there before */
	bool met; /* a file of this id was there */
	bool other; /* of another version of the object: its record says which */
	struct ofs_record found; /* that */
	bool fatal; /* the failure is not this name's own */
	bool no_rights; /* what its directory hands down cannot be told */
	uint64_t ino;
};
struct stub *stub_new(const char *name, const char *raw, bool is_dir);
void stub_free(struct stub **s);
/* Give it a row with its S3 side, before it is made: its identity is taken then, and a client that
 * renames the stub before we hear of it finds the row. */
void mirror_stub_row(struct mirror *m, const struct ofs_oid *dir, const struct stub *s);
/* Any thread. The record of an inode that is made of it: clean, of its version, a stub unless it is empty. */
void mirror_stub_record(const struct stub *s, struct ofs_record *rec);
/* Their rows get a mirror side when the name is there. Takes the list over.
 * Names that cannot be made are logged and counted; `status` is that of a failure which concerns the
 * whole directory (disk full, directory gone), 0 otherwise. */
void mirror_make(struct mirror *m, uint64_t request_id, struct mirror_dir *dir, struct stub *list,
		void (*done)(int status, unsigned omitted, void *arg), void *arg);

/* --- mirror_change.c: files whose object is another by now --- */
/* The object behind a file that is here has changed. Takes s over. */
void mirror_change(struct mirror *m, uint64_t request_id, struct mirror_dir *dir, struct stub *s,
		void (*done)(int status, void *arg), void *arg);
/* Is it changing so at this moment? Then fn(arg) comes once it has; else false, and fn never comes. */
bool mirror_change_wait(struct mirror *m, uint64_t ino, void (*fn)(void *arg), void *arg);

/* --- mirror_remove.c: names that are gone from the bucket --- */
struct removal { /* malloc'ed */
	struct removal *next;
	char *name;
	struct ofs_oid oid;
	bool is_dir;
	bool keep_if_listed;
	uint64_t rows; /* it, and those below it */
	int status;
	/* mirror_remove.c */
	size_t first, count; /* its files among those asked about */
	uint8_t held;        /* OFS_WIRE_HELD_* of any of them */
	bool limbo;          /* it waits there for its readers */
};
/* Takes the list over. stayed: rows of what is here still. */
void mirror_remove(struct mirror *m, uint64_t request_id, struct mirror_dir *dir,
		struct removal *list, void (*done)(uint64_t stayed, void *arg), void *arg);
/* May this file leave the mirror without a loss, by record and inode? */
bool mirror_may_drop(const struct ofs_record *rec, const struct stat *st);
/* Worker. It leaves, if nobody has it open. 0; -ENOENT: it is not called so any more; -EBUSY, -EAGAIN: in
 * use, or changed; -errno. */
int mirror_drop_one(const struct mirror_place *p, int dir_fd, const char *name,
		const struct ofs_oid *oid);
/* Rows below a directory that S3 no longer has and the mirror never had. */
void mirror_forget(struct mirror *m, struct row *row);
uint64_t mirror_rows_below(struct index *ix, const struct row *row);

/* Worker. An inode that went to limbo/ while a client read it. 0: it is settled; -EAGAIN: still open. */
int mirror_limbo_drop(const struct mirror_place *p, const struct ofs_oid *oid);

/* --- mirror_list.c --- */
/* No rename in S3 of this directory, or of one above, has begun or ended since its keys began with prefix. */
bool mirror_has_stayed(struct volume *v, const struct ofs_oid *dir, const char *prefix);

/* --- mirror_held.c: what clients hold open --- */
/* states: OFS_WIRE_HELD_* of each; NULL: out of memory. */
typedef void (*mirror_held_done)(const uint8_t *states, void *arg);
/* Break what clients cache of these files, and say who holds them. Perhaps at once. */
void mirror_held(struct mirror *m, const uint64_t *inodes, size_t count, mirror_held_done done, void *arg);
/* A change of this file, found by listing dir, waits until nobody has it open: then dir is listed again. */
void mirror_later(struct mirror *m, const struct ofs_oid *dir, uint64_t ino);
/* mirror_limbo_drop, until it is settled. */
void mirror_later_limbo(struct mirror *m, const struct ofs_oid *oid);

/* --- mirror_rename.c: files whose name here is another now --- */
struct renaming { /* malloc'ed */
	struct renaming *next;
	char *from, *to; /* local */
	struct ofs_oid oid;
	uint64_t ino;
	bool held;  /* by a client */
	int status; /* 0; -EAGAIN: in use; -EEXIST; -errno: it stays as it is */
	const char **place, *now; /* the caller's */
};
void renaming_free(struct renaming **r);
/* On a worker. 0; -ENOENT: nothing of that id is called `from`; -EAGAIN: in use; -errno. */
int mirror_rename_one(const struct mirror_place *p, int dir_fd, const char *from, const char *to,
		const struct ofs_oid *oid, uint64_t *ino);
/* The list comes back with every status; rows follow before. */
void mirror_rename(struct mirror *m, struct mirror_dir *dir, struct renaming *list,
		void (*done)(struct renaming *list, void *arg), void *arg);

/* --- mirror_want.c: what S3 has at one place --- */
enum want_verdict {
	WANT_ABSENT, /* certain */
	WANT_LEAVE,  /* agrees already, or S3 is behind the mirror */
	WANT_MAKE,   /* stub holds what to make; it has a row */
	WANT_CHANGE, /* stub holds what the file that is here must become */
	WANT_OMIT,   /* must not be shown: its rights cannot be restored; message */
	WANT_UNKNOWN, /* status, message */
};
struct want { /* talloc */
	struct mirror *m;
	uint64_t request_id;
	struct ofs_oid dir;
	char *raw, *name, *key;
	char *apart; /* want_set_apart; NULL: it is at its place */
	bool is_dir;
	void (*done)(struct want *w);
	void *arg;
	/* out */
	enum want_verdict verdict;
	int status;
	char *message;
	struct stub *stub; /* MAKE, CHANGE; taken by the caller, else freed with the want */
	/* private */
	uint64_t print;
	struct objmeta meta;
	unsigned blob_next;
	bool known; /* from the base: the object was not asked */
	bool plain; /* known: as the row's */
};
/* NULL: out of memory. key: whole key, ending in "/" for a directory. */
struct want *want_new(TALLOC_CTX *ctx, struct mirror *m, const struct ofs_oid *dir,
		const char *raw, const char *name, const char *key, bool is_dir);
/* Its object is at this key (whole), and not where the name says. 0 or -ENOMEM. */
int want_set_apart(struct want *w, const char *from);
void want_start(struct want *w);
/* The same of a directory that has no object of its own: nobody is asked. */
void want_start_implied(struct want *w);
/* Has what S3 has at this key of a file another name here, wherever that is? A row that says so of nothing here is
 * forgotten. */
bool mirror_is_apart(struct mirror *m, const char *key);
/* The row of the file that is called so in a directory, wherever its object is; NULL: none. */
struct row *mirror_file_row(struct mirror *m, const struct ofs_oid *dir, const char *raw);
/* The same without asking the object: the base's row of the version that LIST has shown. Its snapshot is
 * taken over. Perhaps done before this returns. */
struct base_row;
void want_start_known(struct want *w, struct base_row *base);
/* The local name of what S3 has at `raw`, talloc. Of a file and a directory of one name the directory
 * has it, whichever came first: `beside` (S3 has a directory there) or a directory here gives the file
 * its escape. */
char *mirror_name_of(struct mirror *m, TALLOC_CTX *ctx, const struct ofs_oid *dir, const char *raw,
		bool is_dir, bool beside);
/* Number that changes when the row does; NULL: 0. */
uint64_t mirror_row_print(const struct row *row);
/* Is this place none of the listing's business now? row: of the S3 place, or NULL. */
bool mirror_place_busy(struct mirror *m, const struct ofs_oid *dir, const char *name,
		const struct row *row);
/* -errno for a store's failure (not for NOT_FOUND of a key). */
int mirror_store_error(enum obj_status st);
struct blob_cache *blob_cache_new(TALLOC_CTX *ctx);

/* --- mirror_redirect.c --- */
/* Is anything called below this prefix of keys? What is there and called otherwise does not count, what is
 * elsewhere and called so does. done once, with 0 or -errno; freeing ctx is no way to stop it. */
void mirror_below(struct mirror *m, uint64_t request_id, const char *prefix,
		void (*done)(int status, const char *message, bool any, void *arg), void *arg);

/* --- brake.c: much that is gone at once --- */
/* m->brake; NULL: out of memory. */
struct brake *brake_new(struct mirror *m);
/* A listing of dir lacks `rows` names that are here, those below included. May they go? They are counted
 * then; else held back. `where`: for the log. */
bool brake_allows(struct mirror *m, uint64_t request_id, const struct ofs_oid *dir, const char *where,
		uint64_t rows);
/* So many of those that might have gone are still here. */
void brake_stayed(struct mirror *m, const struct ofs_oid *dir, uint64_t rows);

/* --- absent.c: what S3 need not be asked again --- */
/* NULL: out of memory. */
struct absent *absent_new(TALLOC_CTX *ctx);
/* A number that changes when something happens to names in the directory. */
uint64_t absent_turn(const struct mirror *m, const struct ofs_oid *dir);
void absent_forget(struct mirror *m, const struct ofs_oid *dir);
/* S3 has nothing of that name. turn: from before it was asked. */
void absent_keep(struct mirror *m, const struct ofs_oid *dir, const char *name, uint64_t turn);
bool absent_known(struct mirror *m, const struct ofs_oid *dir, const char *name);
/* A listing has ended well; asked_ns: wall clock, of its first page. */
void absent_listed(struct mirror *m, const struct ofs_oid *dir, int64_t asked_ns, bool changed, bool refresh);
/* When a listing that is over its age is to be said to be from, because nothing has changed for so long;
 * 0: S3 is to be asked. */
int64_t absent_listed_ns(struct mirror *m, const struct ofs_oid *dir);

/* --- mirror_known.c --- */
/* What S3 has of a file's row has changed, or it is about to leave its place: what listings under way know from the
 * directory's base does not count for it. */
void mirror_row_changes(struct mirror *m, const struct row *row);

/* --- mirror.c --- */
/* Talloc message for a failure of volume_when_ready. */
char *mirror_unready(TALLOC_CTX *ctx, const struct volume *v);

/* reconcile_when_still with the mirror's patience; at once where there is no reconcile. */
void mirror_when_still(struct mirror *m, TALLOC_CTX *ctx, const struct ofs_oid *dir,
		void (*fn)(void *arg, int status), void *arg);

#endif
