/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One listing under way: its files in mirror/ only. */
#ifndef OFS_MIRROR_LISTING_H
#define OFS_MIRROR_LISTING_H

#include "base_read.h"
#include "mirror_private.h"

/* How long an expired listing serves when it cannot be had anew, and one that could not be followed. */
#define LISTING_EXTEND_NS (30 * NS_PER_S)

struct list_caller;
struct flat_dir;
struct walker;

/* Of a million names these are a million: what is meant to be small is. */
struct list_entry {
	const char *raw; /* in the listing's text, like the second: its ETag or, if apart, its object's key */
	int64_t size, mtime_ns;
	uint32_t second; /* where, behind raw; 0: there is none */
	bool is_dir;
	bool gone;  /* a file that has left S3, or was written, since the first page was asked for */
	bool apart; /* a redirect says where its object is */
	bool implied; /* a directory that has no object of its own */
};

static inline const char *entry_etag(const struct list_entry *e) /* NULL: not known */
{
	return e->second != 0 && !e->apart ? e->raw + e->second : NULL;
}
static inline const char *entry_from(const struct list_entry *e) /* whole key; NULL: at its own place */
{
	return e->second != 0 && e->apart ? e->raw + e->second : NULL;
}

struct list_child { /* a row that was in S3 here when the first page was asked for */
	uint64_t print;
	uint32_t number; /* its row's */
	bool there; /* the pages lack it, and it is there all the same */
};

/* Strings in large pieces of memory; malloc. */
struct list_text {
	struct list_text *next;
	size_t used, room;
	char bytes[];
};

struct listing { /* talloc child of the mirror */
	struct listing *next, **prev;
	struct mirror *m;
	uint64_t request_id;
	uint64_t client; /* of the first caller */
	struct mirror_dir *dir;
	struct list_caller *callers;
	struct list_caller *late; /* refreshes that came after the first page was asked for */
	char *prefix;
	uint64_t asked;		 /* for the first page, on the mirror's list_clock; 0: not yet */
	int64_t started_wall_ns; /* the same as a time */
	struct list_text *text;
	struct list_entry *entries; /* malloc, like what is as many below */
	size_t count, cap;
	uint32_t *slots; /* open addressing: entry number + 1 */
	size_t slot_mask;
	struct index_walk walk; /* of rows that become children */
	struct list_child *children; /* when all pages are in: those that they lack */
	size_t child_count, child_cap, child_at; /* at: the next of a pass */
	const char **local; /* sorted names in the tree, in local_text */
	size_t local_count;
	struct list_text *local_text;
	bool unsure; /* a name missing in the tree may have been deleted just now */
	size_t at;   /* next entry of a pass */
	size_t unknown; /* files without a row here */
	bool seen, seeing; /* the bucket was found to be ours; it is being asked */
	struct stub *changes; /* what files here become if it is */
	struct renaming *renamings;
	struct removal *removals;
	uint64_t removal_rows;
	unsigned worked; /* in this turn of the loop */
	struct clock_timer *turn; /* the pass goes on then */
	void (*turn_fn)(struct listing *l);
	unsigned running; /* HEADs and jobs */
	bool dispatching;
	struct base_read *base; /* NULL: none, or not worth asking for */
	bool base_asked, base_waits;
	void (*base_more)(struct listing *l);
	char **gone; /* files that have left S3, or were written, since the first page was asked for; until there are slots */
	size_t gone_count;
	struct stub *batch;
	unsigned batch_count;
	unsigned omitted;
	bool refresh; /* somebody asked for it, whatever its age */
	bool changed; /* something was other than it is here */
	bool soon; /* something stays as it was only because it is in use: S3 is asked again soon */
	bool extended; /* S3 could not be asked: the old listing was given more time */
	int status;
	char *message;
	struct walker *walker;	 /* walk.c; NULL: it has not been asked */
	struct listing *walk_next; /* of those that wait for its pages */
	unsigned walk_until;	 /* so many of them */
	struct flat_dir *flat;	 /* rows that are still to be taken */
	size_t doubt; /* the next of the entries that may be nothing but what is called otherwise */
};

/* --- mirror_redirect.c --- */
/* All pages are in: entries come and go as redirects say; then listing_scan. */
void listing_redirects(struct listing *l);

/* --- mirror_list.c --- */
/* Somebody wants what is in S3 now. */
bool listing_is_refresh(const struct listing *l);
/* Its own pages. */
void listing_pages(struct listing *l);
/* Instead of them; takes d over. */
void listing_flat(struct listing *l, struct flat_dir *d);
void listing_scan(struct listing *l);
/* The first failure stays. */
void listing_fail(struct listing *l, int status, const char *message);
/* Set LISTED unless it failed, then end. */
void listing_mark(struct listing *l);
/* Answer everybody; frees l. */
void listing_end(struct listing *l);

/* --- mirror_entries.c --- */
/* Copies; NULL: out of memory. */
struct list_entry *listing_add(struct listing *l, const char *raw, bool is_dir, const char *etag,
		const char *from);
/* One more has been looked at. true: enough for this turn of the loop; go_on is called in another. */
bool listing_pauses(struct listing *l, void (*go_on)(struct listing *l));
/* A copy of both, one behind the other; NULL: out of memory. */
const char *list_text_put(struct list_text **text, const char *one, const char *two);
void list_text_free(struct list_text **text);
struct list_entry *listing_find(struct listing *l, const char *raw, bool is_dir);
/* For listing_find; malloc; NULL: out of memory. Any thread. */
uint32_t *entries_hash(const struct list_entry *entries, size_t count, size_t *mask);

/* --- mirror_agree.c --- */
int listing_name_compare(const void *a, const void *b);
void removals_free(struct removal **list);
/* All that the pages say and the tree does not: removals, renames, what is new; at the end listing_mark. */
void listing_agree(struct listing *l);

/* --- mirror_known.c --- */
/* The base is asked for, if it may spare many questions; true: `more` is called when it is here. */
bool listing_base_begin(struct listing *l, void (*more)(struct listing *l));
/* What HEAD would say of the version that is listed. 0: *row, the caller's; -ENOENT: ask; -EAGAIN: `more` is
 * called. */
int listing_base_row(struct listing *l, const struct list_entry *e, struct base_row *row);
/* All pages are in and hashed: what has left meanwhile is marked. */
void listing_marks_gone(struct listing *l);

#endif
