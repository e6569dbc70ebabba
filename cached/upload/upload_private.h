/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What upload.c (one request), parts.c and parts_begun.c (many) share of an upload: only they include it. Core thread. */
#ifndef OFS_UPLOAD_PRIVATE_H
#define OFS_UPLOAD_PRIVATE_H

#include "begun.h"
#include "upload.h"

struct upload_state {
	int64_t since_ns;
	bool cancelled;
	struct obj_req *single; /* the PUT or Complete in flight */
	/* parts.c */
	struct begun *begun; /* what is remembered of it; NULL: nothing */
	struct begun *found; /* of an earlier try: perhaps it can be gone on with */
	struct obj_req *create; /* it waits for that to be on the disk */
	bool delta;          /* some of it is copied */
	int64_t resumed;     /* bytes that an earlier try has sent, or had copied */
	char *upload_id;
	int part_count, next_part, parts_running, there; /* there: from the begin, of an earlier try */
	struct blocks_part *parts; /* by part number - 1 */
	struct blocks_ask *ask; /* the file as it was read, and what the object has of it; NULL: it was not */
	bool comparing; /* it is being read */
	bool again;     /* once it is aborted: all is sent */
	bool gone;      /* the store has it no more */
	char **etags, **sums;  /* by part number - 1; checksums may be missing */
	struct obj_req **running; /* by part number - 1, NULL when not in flight */
	enum obj_status failed;
	char *failed_message;
};

/* --- upload.c --- */
/* It has ended: calls `done`. message may be NULL. */
void upload_finish(struct upload *u, enum obj_status status, const char *message);
/* Common fields of a request that belongs to an upload; it is given up once the lease is. */
struct obj_req *upload_req(struct upload *u, enum obj_op op, void (*done)(struct obj_req *));
/* What it may replace, as the request's condition. */
void upload_condition(struct upload *u, struct obj_req *req);
/* ETag, version and date of what was stored. */
void upload_take_result(struct upload *u, const struct obj_result *r);
/* Our metadata, and what others had set. false: the upload has ended, and *req is freed. */
bool upload_describe(struct upload *u, struct obj_req **req);
/* What is there is what is to be replaced. */
bool upload_same(const struct upload *u, const struct obj_result *r);
/* Its condition would hold for any empty object: who has put this one? Or the store has none. */
bool upload_must_look(const struct upload *u);
bool upload_still_leased(void *fd);

/* --- parts.c --- */
void upload_parts(struct upload *u);
/* Bytes that the store copied. */
int64_t upload_copied(const struct upload *u);
/* May what has not changed be copied, of this object or of its next version? */
bool upload_may_copy(const struct upload *u);
/* The lease is being broken: parts in flight are given up. */
void upload_parts_cancel(struct upload *u);
/* Room for what is known of each part. */
void parts_tables(struct upload *u);

/* --- parts_begun.c --- */
/* Of those that were begun for this file one may be gone on with: state->found. */
void parts_find(struct upload *u);
/* Would it make the same object as a new one? Then it is gone on with. *ended: the upload is over. */
bool parts_resume(struct upload *u, bool *ended);
/* What an upload is begun with, as far as it decides whether another one may be gone on with in its place: all that
 * its object will have, where its copies are from, how it is encrypted, signed and summed. */
void parts_what(const struct upload *u, const struct obj_req *create, bool copies, uint8_t what[32]);
/* The store has a part: the next try, or the next daemon, need not send it. */
void parts_note(struct upload *u, int i, const struct obj_req *req);

#endif
