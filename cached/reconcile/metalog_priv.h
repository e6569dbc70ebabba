/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What metalog.c (map, writing), metalog_load.c and metalog_segment.c share. Core thread only,
 * metalog_segment.c apart: pure functions. */
#ifndef OFS_RECONCILE_METALOG_PRIV_H
#define OFS_RECONCILE_METALOG_PRIV_H

#include <stdbool.h>

#include "metalog.h"

#define METALOG_PLACE ".objectfs/log/"
#define METALOG_NODE_MAX_BYTES 64u
#define METALOG_KV_SEQ "log_seq" /* index: "<last segment known to be in S3> <node>" */

struct obj_result;

/* --- metalog_segment.c --- */
struct metalog_id { /* what a segment's first line and key say */
	const struct ofs_oid *uuid;
	const char *node;
	uint64_t seq;
};
/* One entry's line, newline included; malloc, NULL: out of memory. */
char *metalog_line(const struct metalog_entry *e);
/* Whole segment from `count` lines; malloc. */
char *metalog_segment_build(const struct metalog_id *id, const char *const *lines, unsigned count,
		size_t *len);
/* Check all of it, then fn for each entry; fn takes over e->packed. 0; -EBADMSG; -ENOMEM. *why is
 * static. */
int metalog_segment_parse(const char *text, size_t len, const struct metalog_id *id,
		void (*fn)(struct metalog_entry *e, void *arg), void *arg, const char **why);
/* "<node>/<16 hex digits>" behind METALOG_PLACE; node has METALOG_NODE_MAX_BYTES + 1. */
bool metalog_key_parse(const char *key, char *node, uint64_t *seq);
/* Whole key; talloc. */
char *metalog_key(TALLOC_CTX *ctx, const char *prefix, const char *node, uint64_t seq);
/* -errno for what the store said; -EAGAIN: worth trying again. */
int metalog_store_errno(const struct obj_result *r);

/* --- metalog.c for metalog_load.c --- */
struct metalog_load;
struct volume *metalog_volume(struct metalog *ml);
/* Newest wins; takes e->packed over. */
void metalog_merge(struct metalog_entry *e, void *ml);
/* The load is over; success: what is queued may be written from here on. */
void metalog_load_over(struct metalog *ml, bool success, uint64_t highest_own);
bool metalog_load_begin(struct metalog *ml, struct metalog_load *load); /* false: one runs */

/* --- metalog_load.c for metalog.c --- */
void metalog_load_orphan(struct metalog_load *load); /* the log goes away */

#endif
