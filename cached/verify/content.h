/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Are the bytes of a file those of its object? Compared with whatever is known of these, the cheapest first; no byte
 * of the object is fetched for it. Core thread only, but for what is said to be a worker's.
 */
#ifndef OFS_VERIFY_CONTENT_H
#define OFS_VERIFY_CONTENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "shared/record.h"
#include "../base/disk.h"
#include "../objstore/objstore.h"
#include "../reconcile/index.h"

struct volume;
struct blocks;

enum content_verdict {
	CONTENT_RIGHT,
	CONTENT_WRONG,   /* they are not those that the object was made of, or that the store has the checksum of */
	CONTENT_UNKNOWN, /* nothing is known of the object that they could be compared with */
	CONTENT_FAILED,  /* `status` */
};

enum content_means { /* in the order in which they are tried */
	CONTENT_START,
	CONTENT_BLOCKS, /* SHA-256 of each block, as sent from here: blocks/ */
	CONTENT_SHA256, /* of the whole, as sent from here: the row; what it does not confirm may still be right */
	CONTENT_MD5,    /* the ETag of an object that came in one piece */
	CONTENT_SUM,    /* the store's checksum of the whole */
	CONTENT_PARTS,  /* the ETag of one that came in parts, if they had the size that we give them; the same */
	CONTENT_END
};

struct content { /* malloc */
	struct disk_job job;
	/* in */
	struct volume *v; /* core only */
	struct ofs_oid oid;
	char *key, *etag; /* owned; of the object */
	int64_t size;
	bool has_sha256;
	uint8_t sha256[32];
	int fd; /* borrowed until `done`; -1: take and give */
	/* Worker, around each while of reading: a descriptor, or -errno; closed again, and 0, or -errno: what was
	 * read does not count. Both may be NULL if there is an fd. */
	int (*take)(struct content *c);
	int (*give)(struct content *c, int fd);
	int64_t bytes_s; /* read at most; 0: as fast as it goes */
	enum obj_prio prio; /* of what the store is asked */
	void (*done)(struct content *c); /* once, never from inside content_check */
	void *arg;
	_Atomic bool cancelled; /* by who asked: it ends soon, with CONTENT_FAILED and -ECANCELED */
	/* out */
	enum content_verdict verdict;
	int status;
	enum content_means means; /* by which it was found; END: by none */
	/* private */
	bool matched, md5_wrong, asked, opaque;
	char *sum; /* the store's */
	enum obj_sum sum_kind;
	struct blocks *blocks;
	int64_t each, at, turn_ns;
	struct content_digest *digest;
};

/* Of what the row says S3 has; takes no descriptor yet. NULL: no memory, or S3 has nothing that is known. */
struct content *content_new(struct volume *v, const struct row *row, const char *key);
void content_free(struct content **c);
/* Is there anything that its bytes could be compared with? Else none need be read. */
bool content_may_tell(struct volume *v, const struct row *row);
void content_check(struct content *c);
/* For people: "its SHA-256 when it was sent", ... */
const char *content_means_name(enum content_means means);

#endif
