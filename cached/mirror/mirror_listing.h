/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One listing under way: mirror_list.c and mirror_agree.c only. */
#ifndef OFS_MIRROR_LISTING_H
#define OFS_MIRROR_LISTING_H

#include "base_read.h"
#include "mirror_private.h"

/* How long an expired listing serves when it cannot be had anew, and one that could not be followed. */
#define LISTING_EXTEND_NS (30 * NS_PER_S)

struct list_caller;

struct list_entry {
	char *key; /* malloc, whole; of a directory without its slash */
	const char *raw;
	bool is_dir;
	bool gone; /* a file that has left S3 since the first page was asked for */
	int64_t size, mtime_ns;
	char *etag;
	char *from; /* malloc; its object's key, if a redirect says that; or NULL */
};

struct list_child { /* a row that was in S3 here when the first page was asked for */
	struct ofs_oid oid;
	uint64_t print;
	bool there; /* the pages lack it, and it is there all the same */
};

struct listing { /* talloc child of the mirror */
	struct listing *next, **prev;
	struct mirror *m;
	uint64_t request_id;
	struct mirror_dir *dir;
	struct list_caller *callers;
	struct list_caller *late; /* refreshes that came after the first page was asked for */
	char *prefix;
	uint64_t asked;		 /* for the first page, on the mirror's list_clock; 0: not yet */
	int64_t started_wall_ns; /* the same as a time */
	struct list_entry *entries;
	size_t count, cap;
	size_t paged; /* of them from pages; the others are redirects */
	uint32_t *slots; /* open addressing: entry number + 1 */
	size_t slot_mask;
	struct list_child *children;
	size_t child_count, child_at; /* at: the next that is asked for by itself */
	char **local; /* sorted names in the tree */
	size_t local_count;
	bool unsure; /* a name missing in the tree may have been deleted just now */
	size_t at;   /* next entry */
	unsigned running; /* HEADs and jobs */
	bool dispatching;
	struct base_read *base; /* NULL: none, or not worth asking for */
	bool base_asked, base_waits;
	void (*base_more)(struct listing *l);
	char **gone; /* files that have left S3 since the first page was asked for; until there are slots */
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
	size_t doubt; /* the next of the entries that may be nothing but what is called otherwise */
};

/* --- mirror_redirect.c --- */
/* All pages are in: entries come and go as redirects say; then listing_scan. */
void listing_redirects(struct listing *l);

/* --- mirror_list.c --- */
void listing_scan(struct listing *l);
/* A copy of raw; -ENOMEM. */
int listing_add(struct listing *l, const char *raw, bool is_dir, const char *from);
/* The first failure stays. */
void listing_fail(struct listing *l, int status, const char *message);
/* Set LISTED unless it failed, then end. */
void listing_mark(struct listing *l);
/* Answer everybody; frees l. */
void listing_end(struct listing *l);
struct list_entry *listing_find(struct listing *l, const char *raw, bool is_dir);

/* --- mirror_agree.c --- */
int listing_name_compare(const void *a, const void *b);
/* Is a row that was in S3 not among the entries? */
bool listing_lacks_any(struct listing *l);
/* The volume record, then removals, then listing_names. */
void listing_check_record(struct listing *l);
/* Files that have another name now, then the entries; at the end listing_mark. */
void listing_names(struct listing *l);


/* --- mirror_known.c --- */
/* The base is asked for, if it may spare many questions; true: `more` is called when it is here. */
bool listing_base_begin(struct listing *l, void (*more)(struct listing *l));
/* What HEAD would say of the version that is listed. 0: *row, the caller's; -ENOENT: ask; -EAGAIN: `more` is
 * called. */
int listing_base_row(struct listing *l, const struct list_entry *e, struct base_row *row);
/* All pages are in and hashed: what has left meanwhile is marked. */
void listing_marks_gone(struct listing *l);

#endif
