/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What metalog.c (writing), metalog_map.c, metalog_load.c, metalog_fold.c and metalog_segment.c share.
 * Core thread only, metalog_segment.c apart: pure functions. */
#ifndef OFS_RECONCILE_METALOG_PRIV_H
#define OFS_RECONCILE_METALOG_PRIV_H

#include <stdbool.h>

#include "metalog.h"
#include "shared/record.h"
#include "../base/clock.h"

#define METALOG_PLACE OFS_OWN_PLACE "log/"
#define METALOG_NODE_MAX_BYTES 64u
#define METALOG_KV_SEQ "log_seq" /* index: "<last segment known to be in S3> <node>" */
#define METALOG_SEGMENT_BYTES (1u << 20)
#define METALOG_RETRY_FIRST_NS NS_PER_S
#define METALOG_RETRY_MOST_NS (60 * NS_PER_S)

struct obj_req;
struct obj_result;
struct metalog_load;
struct metalog_fold;

/* --- metalog_segment.c --- */
struct metalog_id { /* what a segment's first line and key say */
	const struct ofs_oid *uuid;
	const char *node;
	uint64_t seq;
	uint64_t base; /* what still counts of the node's segments before it is in those from it to this
			* one; 0: this one says nothing of the kind */
};
/* One entry's line, newline included; malloc, NULL: out of memory. */
char *metalog_line(const struct metalog_entry *e);
/* Whole segment from `count` lines; malloc. */
char *metalog_segment_build(const struct metalog_id *id, const char *const *lines, unsigned count,
		size_t *len);
/* Check all of it, then fn for each entry; fn takes over e->packed. Fills id->base. 0; -EBADMSG;
 * -ENOMEM. *why is static. */
int metalog_segment_parse(const char *text, size_t len, struct metalog_id *id,
		void (*fn)(struct metalog_entry *e, void *arg), void *arg, const char **why);
/* "<node>/<16 hex digits>" behind METALOG_PLACE; node has METALOG_NODE_MAX_BYTES + 1. */
bool metalog_key_parse(const char *key, char *node, uint64_t *seq);
/* Whole key; talloc. */
char *metalog_key(TALLOC_CTX *ctx, const char *prefix, const char *node, uint64_t seq);
/* -errno for what the store said; -EAGAIN: worth trying again. */
int metalog_store_errno(const struct obj_result *r);

/* --- the log --- */
struct entry { /* in the map */
	struct metalog_entry pub;
	struct entry *next;
	uint64_t object_gen; /* the object's own metadata has this generation, as far as we know */
	bool own;            /* a segment of this node's has, or will have, an entry for it */
	bool left_out;       /* the fold under way has nothing of it */
};

struct queued { /* an entry's line on its way */
	struct queued *next;
	struct ofs_oid oid;
	uint64_t meta_gen, data_gen;
	char *line;
	void (*committed)(int status, void *arg); /* NULL: told, or nobody asked */
	void *arg;
};

struct segment { /* malloc: its request may outlive the log */
	struct metalog *ml; /* NULL: the log is gone */
	struct queued *entries;
	unsigned count;
	uint64_t seq, base;
	char *text;
	size_t len;
	unsigned tries;
	char *forged; /* ETag of what somebody else has put at its number, unsigned; it goes */
	bool in_flight;
	bool folds; /* a part of the fold under way */
};

struct metalog { /* core only */
	struct volume *v;
	struct entry **buckets;
	uint64_t mask, count;
	uint64_t seed;
	struct queued *queue, **queue_tail;
	uint64_t queue_count;
	size_t queue_bytes;
	struct segment *out;
	bool flush_wanted;
	bool loaded;
	bool reader; /* writes nothing */
	struct metalog_load *load;
	uint64_t next_seq;
	uint64_t first_seq;  /* our oldest segment in the bucket; next_seq: there is none */
	uint64_t fold_count; /* segments of the last fold */
	struct metalog_fold *fold;
	bool fold_barred; /* until the next start: something in the bucket is not as we left it */
	int64_t backoff_ns;
	struct clock_timer *flush_timer, *retry_timer;
};

/* --- metalog_map.c --- */
bool metalog_map_init(struct metalog *ml);
void metalog_map_fini(struct metalog *ml);
struct entry *metalog_map_find(struct metalog *ml, const struct ofs_oid *oid);
/* Newest wins; takes e->packed over. `own`: of this node's segments. */
void metalog_merge(struct metalog *ml, struct metalog_entry *e, bool own);
void metalog_map_each(struct metalog *ml, void (*fn)(struct entry *e, void *arg), void *arg);
/* Forget what the fold left out. Their number. */
unsigned metalog_map_prune(struct metalog *ml);

/* --- metalog.c for metalog_load.c and metalog_fold.c --- */
/* The load is over; success: what is queued may be written from here on. `own`: of this node, what its
 * segments in the bucket are: first and last (0: none), and the length of the last fold. */
struct metalog_own {
	uint64_t first, last, fold_count;
};
void metalog_load_over(struct metalog *ml, bool success, const struct metalog_own *own);
bool metalog_load_begin(struct metalog *ml, struct metalog_load *load); /* false: one runs */
/* Write what is to be written: of the queue, of the fold. */
void metalog_write(struct metalog *ml);
void metalog_segment_free(struct segment **s);
/* A request for segment `seq` of this node; NULL: out of memory. */
struct obj_req *metalog_request(struct metalog *ml, int op, uint64_t seq, void *arg);

/* --- metalog_load.c for metalog.c --- */
void metalog_load_orphan(struct metalog_load *load); /* the log goes away */

/* --- metalog_fold.c for metalog.c --- */
/* There are many segments and none is being written: begin. */
void metalog_fold_consider(struct metalog *ml);
bool metalog_fold_writes(const struct metalog *ml); /* it has something to write */
/* Fill a segment with the next part. false: out of memory. */
bool metalog_fold_take(struct metalog *ml, struct segment *s);
void metalog_fold_written(struct metalog *ml, const struct segment *s);
void metalog_fold_orphan(struct metalog_fold *fold); /* the log goes away */

#endif
