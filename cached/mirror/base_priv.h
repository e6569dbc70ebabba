/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What base_write.c (pages, chunks, head) and base_rows.c (the rows of one page) share. Core thread only. */
#ifndef OFS_MIRROR_BASE_PRIV_H
#define OFS_MIRROR_BASE_PRIV_H

#include "base_read.h"
#include "base_write.h"
#include "mirror_private.h"

struct base_name { /* a file as LIST has shown it */
	char *raw, *etag;
	int64_t size, mtime_ns; /* Last-Modified */
	struct base_row known;  /* from the last base, for this version */
	struct base_row own;    /* from the tree */
	bool has_known, has_own;
	bool unsure; /* is the object still the one that the tree's metadata is of? */
	uint64_t print; /* of the row, as own was taken */
};

struct base_write { /* talloc */
	struct volume *v;
	struct ofs_oid dir;
	base_write_done done;
	void *arg;
	char *prefix;
	unsigned tries;
	int64_t asked_ns; /* on the store's clock, before the first page */
	struct base_read *old, *lost; /* lost: what the head replaced whose outcome is not known */
	/* the page under way */
	char *token; /* of the next */
	struct base_name *names;
	unsigned count, at, running;
	bool dispatching;
	/* what becomes of it */
	struct base_build *build;
	struct base_head *head; /* chunks that were sent */
	uint64_t differs;       /* rows that the last base does not have */
	struct base_written what;
};

/* --- base_rows.c --- */
/* LIST's rows into w->names, and what the last base and the tree know of them; then base_rows_ready. */
int base_rows_take(struct base_write *w, struct obj_result *page);
void base_rows_start(struct base_write *w);
/* The row that stands for a name; NULL: it is asked for by who needs it. */
const struct base_row *base_rows_of(struct base_write *w, const struct base_name *n);
void base_rows_free(struct base_write *w);

/* --- base_write.c --- */
void base_rows_ready(struct base_write *w);
void base_write_fail(struct base_write *w, int status, const char *why);
/* The last base said -EAGAIN, and is here. */
void base_rows_go_on(struct base_write *w);

#endif
