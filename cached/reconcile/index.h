/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The index: one row for every inode we know of and every object we have seen, by object id.
 * It says where S3 has it (as last synced) and where the mirror has it; where the two differ, there
 * is work. All rows are in memory (core thread only); SQLite (<volume>/index.db, WAL,
 * synchronous=FULL) is written behind on the DISK_INDEX lane, many rows a transaction. What was
 * committed outlives a power cut: a row that knew less than the write before the last could not tell
 * this node's objects from others'. Losing index.db costs requests, never data.
 */
#ifndef OFS_RECONCILE_INDEX_H
#define OFS_RECONCILE_INDEX_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "shared/record.h"
#include "../base/clock.h"
#include "../base/disk.h"

extern const struct ofs_oid OFS_OID_ROOT;  /* the volume's root directory, the same everywhere */
extern const struct ofs_oid OFS_OID_STAGE; /* parent of objects parked in .objectfs/stage/ */
/* Parent of objects that could not follow their directory: their raw name is the whole key behind the
 * volume's prefix, so that no rename moves it. */
extern const struct ofs_oid OFS_OID_APART;

enum row_live {
	ROW_NOT_HERE, /* the mirror has no inode for it (dropped, or not looked at yet) */
	ROW_HERE,     /* at parent/name in the tree */
	ROW_TRASHED,  /* deleted by a client, S3 does not know yet; trash/ holds the inode */
};

#define ROW_SHA256_BYTES 32

/* In place of a version, where there is no fence: the index was lost, the inode says that S3 has it, and the
 * place is assumed. Then 16 digits: the fence that its record has (objmeta_clean); none if that has none. */
#define ROW_LOST "lost "

/* Read freely; change only through the functions below. What is meant to be small is: there may be
 * millions. A pointer to one of its strings is good until the row changes. */
struct row {
	uint32_t number;   /* for index_numbered; 0: free */
	uint32_t hash_oid; /* index only: rows' numbers, like all links here */
	struct ofs_oid oid;
	/* S3 side, meaningful if in_s3 */
	struct ofs_oid s3_parent;
	const char *s3_name;    /* raw key component, not escaped */
	const char *etag;       /* the fence; NULL: not known, HEAD first */
	const char *version_id;
	struct ofs_oid wid;     /* of the object that the fence names; none: it has none, or not known */
	int64_t s3_size;
	int64_t s3_mtime_ns;    /* of this version: not earlier than Last-Modified; 0: not known */
	uint64_t s3_data_gen, s3_meta_gen;
	/* mirror side, meaningful if live == ROW_HERE (parent, name: also ROW_TRASHED, as last) */
	struct ofs_oid parent;
	const char *name;       /* local name (escaped where the raw one is no legal name) */
	uint64_t ino;
	void *work;             /* reconcile's item for it, or NULL */
	/* index only */
	char *text;             /* where the strings are */
	uint32_t hash_s3, hash_live;
	uint32_t s3_next, s3_prev;     /* siblings under s3_parent */
	uint32_t live_next, live_prev;
	uint32_t s3_children, live_children; /* first ones, of directories */
	uint32_t dirty_next;
	bool dirty : 1, on_disk : 1, removed : 1;
	/* reconcile's */
	bool scanned : 1; /* directory: read, or about to be, since the last scan began */
	/* anybody's again */
	bool is_dir : 1;
	bool in_s3 : 1;
	bool has_object : 1; /* directory: a marker object exists (else implied by children) */
	bool has_sha256 : 1;
	bool plain : 1; /* nothing that another tool set is on the object; else it is asked before it is overwritten */
	bool base_due : 1; /* directory: its files in S3 have changed since its base was written */
	bool has_base : 1; /* directory: S3 may have a base of it */
	enum row_live live : 2;
};

static inline const uint8_t *row_sha256(const struct row *r) /* NULL: not known */
{
	return r->has_sha256 ? (const uint8_t *)r->text : NULL;
}
static inline bool row_has_children(const struct row *r)
{
	return r->s3_children != 0 || r->live_children != 0;
}

/* HERE, and its stub is being made (mirror_make.c), or was when the daemon was killed: scan.c looks whether it is. */
#define ROW_INO_UNKNOWN 0u
static inline bool row_is_coming(const struct row *r)
{
	return r->live == ROW_HERE && r->ino == ROW_INO_UNKNOWN && !ofs_oid_equal(&r->oid, &OFS_OID_ROOT);
}
static inline bool row_is_here(const struct row *r)
{
	return r->live == ROW_HERE && !row_is_coming(r);
}

struct index;

/* Open or make `path`, load all rows. A damaged or unknown file is set aside as
 * `<path>.damaged-<time>` with a log line and *fresh = true. NULL and *error otherwise.
 * Blocking: before the loop runs. *fresh: it did not exist. */
struct index *index_open(TALLOC_CTX *ctx, struct disk *disk, struct clock *clock, const char *path,
		bool *fresh, char **error);
struct row *index_get(struct index *ix, const struct ofs_oid *oid);
/* A place in S3 is a key: a file `a` and a directory `a/` are two. */
struct row *index_at_s3(struct index *ix, const struct ofs_oid *parent, const char *raw_name,
		bool is_dir);
struct row *index_at_live(struct index *ix, const struct ofs_oid *parent, const char *name);
/* Those whose parent it is, in no order: the first, and the next after one of them. NULL: no more. */
struct row *index_s3_child(struct index *ix, const struct row *dir);
struct row *index_s3_next(struct index *ix, const struct row *child);
/* The same of a large directory over many turns of the loop: of what comes or goes meanwhile it sees some. */
struct index_walk {
	struct index_walk *next; /* index only, like what follows */
	uint32_t at;
};
void index_walk_begin(struct index *ix, struct index_walk *w, const struct row *dir);
struct row *index_walk_next(struct index *ix, struct index_walk *w); /* NULL: no more */
void index_walk_end(struct index *ix, struct index_walk *w); /* always; again does nothing */
/* The row that had this number. NULL: it has gone; another, if that has it now. */
struct row *index_numbered(struct index *ix, uint32_t number);
/* All rows have numbers from 1 to below this one. */
uint32_t index_numbers(const struct index *ix);
struct row *index_live_child(struct index *ix, const struct row *dir);
struct row *index_live_next(struct index *ix, const struct row *child);
/* New row, neither in S3 nor here. The existing row if the oid is known. */
struct row *index_add(struct index *ix, const struct ofs_oid *oid, bool is_dir);
/* Another row at the same place loses it (becomes ROW_NOT_HERE). */
void index_set_here(struct index *ix, struct row *r, const struct ofs_oid *parent,
		const char *name, uint64_t ino);
void index_set_live(struct index *ix, struct row *r, enum row_live live); /* not ROW_HERE */
/* Where S3 has it; another row of its kind at the same place loses its S3 side. */
void index_set_s3(struct index *ix, struct row *r, const struct ofs_oid *parent,
		const char *raw_name);
/* At a key (behind the volume's prefix) of its own. */
void index_set_apart(struct index *ix, struct row *r, const char *below);
bool row_is_apart(const struct row *r);
/* wid: of the object with this etag, may be the row's own; NULL: it has none, or not known. */
void index_set_fence(struct index *ix, struct row *r, const char *etag, const char *version_id,
		const struct ofs_oid *wid, int64_t size, int64_t mtime_ns);
/* After a fence, which forgets it when it changes. */
void index_set_plain(struct index *ix, struct row *r, bool plain);
void index_set_gens(struct index *ix, struct row *r, uint64_t data_gen, uint64_t meta_gen);
void index_set_sha256(struct index *ix, struct row *r, const uint8_t sha256[32]); /* NULL: none */
void index_set_object(struct index *ix, struct row *r, bool has_object);
void index_set_base(struct index *ix, struct row *r, bool due, bool has);
void index_clear_s3(struct index *ix, struct row *r);
/* Forget it. Children must be gone (their parent ids would dangle). Frees the row. */
void index_remove(struct index *ix, struct row *r);
uint64_t index_count(struct index *ix);
/* What becomes of a row's S3 side. */
enum index_change {
	INDEX_OTHER,  /* it has come to its place, or has another fence (ETag, version, wid) */
	INDEX_MOVES,  /* it is about to leave its place for another */
	INDEX_LEAVES, /* it is about to leave S3 */
};
typedef void (*index_watcher)(void *arg, const struct row *r, enum index_change change);
/* fn hears of each change. One fn; it changes nobody's place or fence. */
void index_watch(struct index *ix, index_watcher fn, void *arg);
/* Every row once; fn returns false to stop. Rows may be changed, not added or removed. */
void index_each(struct index *ix, bool (*fn)(struct row *r, void *arg), void *arg);

/* Small values that outlive restarts: "uuid", "log_seq", ... value NULL: remove. */
#define INDEX_KV_READ "tree_read" /* the whole mirror was scanned since the index is there */
#define INDEX_KV_DROP "drop" /* id of the directory whose stubs are being dropped */
void index_kv_set(struct index *ix, const char *key, const char *value);
const char *index_kv_get(struct index *ix, const char *key); /* valid until the next set */

/* Everything changed so far is committed: then done(status, arg), 0 or -errno. Changes are also
 * written by themselves some 100 ms after they were made (index_tick from the owner's timer). */
void index_commit(struct index *ix, void (*done)(int status, void *arg), void *arg);
void index_tick(struct index *ix);
/* What was changed last could not be written, and is tried again: what S3 would be sent now, a daemon that is killed
 * meanwhile would not know for its own. */
bool index_is_failing(const struct index *ix);
/* Write what is left and close; blocking, at the end. */
void index_close(struct index **ix);

/*
 * Whole key of raw_name in the directory `parent`: by the S3 side of each ancestor, or its mirror
 * side if it is not in S3 yet. is_dir appends "/". Root with raw_name "" gives the prefix. NULL: an
 * ancestor is unknown, below .objectfs, or longer than 1,024 bytes (*too_long, may be NULL). talloc child of ctx.
 */
char *index_key(struct index *ix, TALLOC_CTX *ctx, const char *prefix,
		const struct ofs_oid *parent, const char *raw_name, bool is_dir, bool *too_long);
/* One step down the key below a directory: the row of the first component of *rest, which is cut off.
 * NULL: nothing is left, or no row is there. *rest is changed. */
struct row *index_below(struct index *ix, const struct ofs_oid *dir, char **rest);
/* Below tree/: of the file that has this key (below the prefix), or that would have it. NULL: its directory is not
 * known, or not here. talloc child of ctx. */
char *index_path_of(struct index *ix, TALLOC_CTX *ctx, const char *key);
/* "a/b/c" below tree/ of a row that is HERE ("." for the root); NULL: an ancestor is not here. */
char *index_path(struct index *ix, TALLOC_CTX *ctx, const struct row *r);

#endif
