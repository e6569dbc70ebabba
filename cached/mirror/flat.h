/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What pages of a LIST without delimiter say, directory by directory, as far as they have come. Core
 * thread only; malloc'ed, but for struct flat, which is talloc.
 */
#ifndef OFS_MIRROR_FLAT_H
#define OFS_MIRROR_FLAT_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "../objstore/objstore.h"

struct flat_row {
	struct flat_row *next;
	bool is_dir;
	bool implied; /* directory: it has no object of its own */
	int64_t size, mtime_ns;
	const char *etag; /* NULL: not said */
	char name[];	  /* behind the directory's key; "": that of its own object */
};

struct flat_dir {
	struct flat_dir *hash_next;
	struct flat_dir *up;	       /* which it is in; while keys of it may come */
	struct flat_row *rows, **last; /* in order of keys */
	bool open;		       /* keys of it may come */
	bool spoiled;		       /* it changed here meanwhile, or nobody will ask: it keeps no rows */
	uint64_t asked;		       /* of the first page with something of it */
	int64_t wall_ns;
	size_t bytes;
	size_t key_len;
	char key[]; /* whole, ending in "/", or the prefix */
};

struct flat;

/* prefix: of keys; "" or ending in "/". skip: what is below this one is not kept; NULL: all is. */
struct flat *flat_new(TALLOC_CTX *ctx, const char *prefix, const char *skip);
const char *flat_prefix(const struct flat *f);
/* A page is asked for: what follows is as of now. */
void flat_asked(struct flat *f, uint64_t asked, int64_t wall_ns);
/* A row of the page. 0; -ENOMEM; -EBADMSG: not in the order of keys, nothing can be concluded from then on. */
int flat_add(struct flat *f, const struct obj_entry *e);
/* The last page is in. */
void flat_end(struct flat *f);
bool flat_is_whole(const struct flat *f);
size_t flat_bytes(const struct flat *f);

enum flat_answer {
	FLAT_NOT,   /* nothing that can be used: below another prefix, changed here, had already, without a key */
	FLAT_AHEAD, /* not all of its keys have come */
	FLAT_HAS,
};
enum flat_answer flat_ask(const struct flat *f, const char *key);
/* The directory, FLAT_HAS, leaves the table: the caller's now. */
struct flat_dir *flat_take(struct flat *f, const char *key);
/* Its first row, the caller's (free); NULL: no more. */
struct flat_row *flat_dir_next(struct flat_dir *d);
void flat_dir_free(struct flat_dir **d);
/* Something has changed in this directory, by us: what pages say that were asked for before is not used. */
void flat_touch(struct flat *f, const char *key);

#endif
