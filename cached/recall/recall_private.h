/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside recall/ only. */
#ifndef OFS_RECALL_PRIVATE_H
#define OFS_RECALL_PRIVATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "recall.h"
#include "shared/ring.h"
#include "../base/log.h"
#include "../base/stats.h"
#include "../core/volume.h"
#include "../evict/evict.h"
#include "../mirror/mirror_private.h"
#include "../reconcile/index.h"

#define RECALL_EXTENT_BYTES (1LL << RECALL_EXTENT_SHIFT)
#define RECALL_AHEAD_MAX 16u /* extents */
#define RECALL_WHOLE_BYTES (4LL << 20) /* up to this size nothing is given out before all is verified */
#define RECALL_KEEP_NS (10 * NS_PER_S)
#define FETCH_OVER 4u /* GETs in flight, at most: so many times `parallel fetches` */

enum recall_state {
	RECALL_FILLING,
	RECALL_VERIFYING,  /* all here: is it what S3 has? */
	RECALL_FINISHING,  /* all here and right: the job that makes it plain is under way */
	RECALL_PLAIN,      /* marker and STUB are gone */
	RECALL_CHECKING,   /* GETs said 412: a HEAD is under way, or GETs still to end */
	RECALL_DISCARDING, /* GETs still to end, then the job that empties it */
	RECALL_DEAD,       /* changed or gone in S3: every reader gets `dead_status` */
};

struct recall_client { /* talloc child of recalls */
	struct recall_client *next;
	struct recalls *rs;
	uint64_t id;
	unsigned refs;    /* readers, waits, GETs */
	unsigned running; /* GETs */
	double left;      /* bytes of its budget, at since_ns */
	int64_t since_ns;
};

struct recall_wait { /* a fetch that waits; talloc child of the recall */
	struct recall_wait *next;
	struct recall_client *client;
	int64_t since_ns;
	bool slowed; /* its client was over its budget meanwhile */
	uint64_t request_id;
	uint64_t open_id;
	uint64_t at, end; /* extents; before `at` all are here or on their way */
	uint64_t first;   /* extent of the range */
	uint64_t here;    /* all from `first` to before it are here */
	bool whole;
	recall_done done;
	void *arg;
};

struct recall_reader { /* one open_id; talloc child of the recall */
	struct recall_reader *next;      /* of the recall */
	struct recall_reader *hash_next; /* of the table */
	struct recall *r;
	struct recall_client *client;
	uint64_t open_id;
	uint64_t seq_next; /* extent after the last range */
	uint64_t ahead_end;
	unsigned window; /* extents */
	bool whole; /* it has asked for all, and reads nothing before */
};

struct recall_get { /* talloc child of the recall */
	struct recall_get *next, **prev;
	struct recall *r;
	struct recall_client *client;
	struct obj_req *req;
	uint64_t extent;
	int64_t bytes; /* that are asked for */
	bool ahead;
};

struct recall { /* talloc child of recalls; core only */
	struct recalls *rs;
	struct recall *next, **prev;
	struct recall *turn_next; /* those with something to fetch, in turn */
	bool in_turn;
	uint64_t failed_at; /* of recalls.pumps: no GET could be made */
	enum recall_state state;
	uint64_t ino;
	struct ofs_oid oid;
	int fd;
	uint64_t size, extents, filled; /* filled: bits of `come` */
	int64_t since_ns; /* until the first extent is here, then 0 */
	int map_fd;
	_Atomic uint8_t *map; /* shared with readers: set after the bytes are in the file */
	size_t map_bytes;
	uint8_t *busy; /* bit: GET in flight */
	uint8_t *come; /* bit: the bytes are in the file; given out they are by `map` */
	bool whole_first;
	bool lent;     /* something was given out that was not verified */
	struct recall_reader *readers;
	struct recall_wait *waits; /* oldest first */
	struct recall_reader *ahead_by; /* for whom extents are read ahead; NULL: none are */
	uint64_t ahead_at, ahead_end;
	struct recall_get *gets;
	unsigned running;  /* GETs */
	bool job_running;  /* a job uses fd */
	bool head_running;
	bool asking;       /* waiting for the volume, or for a row */
	bool learned;      /* the row was made from the path */
	unsigned held;     /* callbacks under way may not free it */
	unsigned place;    /* which of the keys renames under way give it is asked (reconcile_moving_key) */
	unsigned moves;    /* changes of `place` since the last GET that gave something */
	unsigned checks;   /* HEADs since the last GET that gave something */
	bool verified;     /* what is here is right, or cannot be told */
	unsigned wrong;    /* times that it was not */
	struct clock_timer *timer;
	int dead_status;
	char *dead_message;
	/* discard */
	recall_done discarded;
	void *discarded_arg;
};

#define RECALL_DAMAGED_MAX 16u
struct recall_damage { /* an object that could not be read */
	struct ofs_oid oid;
	char *key, *etag; /* talloc children of recalls */
};

#define RECALL_HASH 256u
struct recalls { /* core only */
	struct volume *v;
	struct recall *list;
	struct recall_reader *hash[RECALL_HASH];
	uint64_t next_id;
	unsigned running; /* GETs of the volume */
	unsigned opening; /* open jobs in flight */
	uint64_t *plain;  /* inodes that became plain meanwhile: those jobs saw the past */
	unsigned plain_count;
	struct recall *turn, **turn_last;
	struct recall_client *clients;
	bool pumping, slowing; /* slowing: somebody waits for a budget */
	uint64_t pumps;
	struct clock_timer *look_timer; /* set while GETs wait for room, or for a budget */
	int64_t room_until_ns;          /* 0: there is room */
	struct recall_damage damage[RECALL_DAMAGED_MAX];
	unsigned damage_count;
};

/* --- recall.c --- */
/* Nobody reads it, nothing runs: closed, at once or after a while. */
void recall_settle(struct recall *r);
/* Around callbacks, which may release; the last unhold settles. */
void recall_hold(struct recall *r);
void recall_unhold(struct recall *r);
void recall_became_plain(struct recall *r);
void recall_bits_clear(struct recall *r);
bool recall_has(const struct recall *r, uint64_t extent); /* given out */
bool recall_came(const struct recall *r, uint64_t extent);
/* The bytes of this extent are in the file: given out at once, or with the rest once that is verified. */
void recall_take(struct recall *r, uint64_t extent);
void recall_give_all(struct recall *r);
/* From recall_go, once no GET writes into the file. */
void recall_discard_now(struct recall *r);

/* --- recall_client.c --- */
/* A reference. */
struct recall_client *recall_client_get(struct recalls *rs, uint64_t id);
struct recall_client *recall_client_again(struct recall_client *c);
void recall_client_put(struct recall_client *c);
/* Its budget is used up. */
bool recall_client_is_over(struct recall_client *c);
/* The same, and the wait has to wait for it. */
bool recall_client_slows(struct recall_wait *w);
/* Another GET of it is sent. */
void recall_client_pay(struct recall_client *c, int64_t bytes);
/* One more GET for it? file_idle: for a file that has none under way, and somebody waits. */
bool recall_client_may(const struct recall_client *c, bool file_idle);

/* --- recall_go.c --- */
/* Go on with what waits: answers, GETs, finishing. The recall may be freed. */
void recall_go(struct recall *r);
/* No GET, HEAD or job is under way, and nothing is waited for. */
bool recall_idle(const struct recall *r);
void recall_fail_waits(struct recall *r, int status, const char *message);
/* Those that need this extent. */
void recall_fail_extent(struct recall *r, uint64_t extent, int status, const char *message);
/* What they wait for may have to be asked for again; from its beginning: nothing is here any more. */
void recall_rewind_waits(struct recall *r);
void recall_restart_waits(struct recall *r);
/* All bytes are here, and are right. */
void recall_finish(struct recall *r);

/* --- recall_fetch.c --- */
/* Is there an extent to ask for? */
bool recall_fetch_wanted(struct recall *r);
/* The recall takes its turn: GETs are sent as far as the volume's number allows. */
void recall_fetch_enqueue(struct recall *r);
void recall_fetch_leave(struct recall *r);
void recall_cancel_gets(struct recall *r);
/* -errno of what did not succeed. */
int recall_errno(const struct obj_result *res);

/* --- recall_object.c --- */
/* Where the object is asked for now; talloc child of the recall; NULL: not known, or no memory. */
char *recall_key(struct recall *r, const struct row *row);
/* Row and key as they are now are not those the request was sent with: its answer says nothing. */
bool recall_outdated(struct recall *r, const struct obj_req *req);
/* It was not at its key: true if recall_key gives another one from now on. */
bool recall_elsewhere(struct recall *r);
/* In CHECKING, once it is idle: a HEAD. */
void recall_check_start(struct recall *r);
/* For recall_damaged: not all of it can be had; all of it was read. */
void recall_damage_note(struct recall *r, const char *key);
void recall_damage_forget(struct recall *r);
/* DEAD: every reader gets the status. */
void recall_kill(struct recall *r, int status, const char *message);

/* --- recall_check.c --- */
/* All bytes are here: recall_finish if they are those of the object; else they are fetched again. */
void recall_verify(struct recall *r);
/* Will that be able to tell? */
bool recall_may_verify(const struct recall *r);

/* --- recall_file.c: disk jobs --- */
struct recall_file_job {
	struct disk_job job;
	struct recalls *rs;
	struct recall *r; /* NULL: open */
	struct mirror_place place;
	int fd;
	struct ofs_oid oid;
	/* new state of the object, for recall_file_adopt */
	int64_t size, mtime_ns;
	struct ofs_clean clean; /* of the row; zeros: not known */
	/* out */
	int status;
	bool plain;
	uint64_t ino;
	struct ofs_record rec;
	int parent_fd;
	char name[OFS_NAME_MAX_BYTES + 1];
	void (*done)(struct recall_file_job *j); /* core; frees j */
	void *arg;
};
struct recall_file_job *recall_file_job_new(struct recalls *rs, struct recall *r);
/* fd: replaced by one for reading and writing if the file is marked; plain otherwise. */
void recall_file_open(struct recall_file_job *j);
/* All bytes are here: durable, times from the record, not marked any more. */
void recall_file_finish(struct recall_file_job *j);
/* Empty, dirty, not marked. */
void recall_file_discard(struct recall_file_job *j);
/* The object was replaced: size and times of the new one into the record. */
void recall_file_adopt(struct recall_file_job *j);
/* Where the file is now: its directory (parent_fd, the caller's) and its name in it. */
void recall_file_place(struct recall_file_job *j);

#endif
