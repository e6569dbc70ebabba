/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bytes out: one state of one file becomes one object. Core thread only.
 *
 * The caller gives a descriptor whose content does not move: of the file under F_RDLCK (`leased`),
 * or of a private copy. Blobs that the snapshot names go first; then a single conditional PUT, or
 * parts in parallel and a Complete under the same condition.
 */
#ifndef OFS_UPLOAD_H
#define OFS_UPLOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "../mirror/objmeta.h"
#include "../objstore/objstore.h"
#include "blocks.h"
#include "kept.h"

struct conf_volume;
struct volume;

struct upload {
	/* in; strings are talloc children of the upload */
	struct volume *v;
	int fd; /* borrowed; -1 for an object without content */
	bool leased;
	bool urgent;
	int64_t size;
	char *key;
	char *if_match;     /* NULL: only if absent */
	struct ofs_oid expect; /* wid of what is there; none: not known, or it has none */
	struct objmeta meta; /* owned, with its snapshot; its wid is another one if it went on with an earlier try */
	const struct kept *kept; /* borrowed; of what it overwrites; or NULL */
	bool whole;         /* nothing of it is to be copied from what it overwrites */
	uint64_t request_id;
	void (*done)(struct upload *u); /* once; frees u with talloc_free */
	void *arg;
	/* out */
	enum obj_status status;
	int local_errno; /* LOCAL: of the descriptor; 0: something else */
	char *message, *etag, *version_id;
	int64_t mtime_ns;
	int64_t begun_ns; /* by the store's clock: it went on with what was begun then; 0: it did not */
	bool has_sha256;
	uint8_t sha256[32];
	struct blocks *blocks; /* OK, UNKNOWN: of what was sent, without etag; NULL: not known */
	/* private */
	struct upload_state *state;
};

/* talloc; all zero, fd -1. */
struct upload *upload_new(TALLOC_CTX *ctx, struct volume *v, const char *key);
void upload_start(struct upload *u);
/* The lease is being broken: stop as soon as possible; done comes with OBJ_CANCELLED, or with OBJ_OK
 * if the object was complete. */
void upload_cancel(struct upload *u);
/* Size of the parts of an object so large: as configured, unless that made too many. */
int64_t upload_part_bytes(const struct conf_volume *conf, int64_t size);
/* How long a change of a file so large may wait for its close before a copy of it is sent; INT64_MAX: as long as it
 * takes. versions: the bucket keeps what is replaced. */
int64_t upload_open_interval_ns(const struct conf_volume *conf, int64_t size, bool versions);
/* Put the blobs a snapshot names (those with a value); done(status, message, arg). Values are copied. */
void upload_blobs(struct volume *v, const struct snapshot *s,
		void (*done)(enum obj_status status, const char *message, void *arg), void *arg);
/* For the sweep. It is being deleted: writers of it wait until it is not. NULL: none is. false: a writer of this
 * process relies on it, it must stay. */
bool blobs_doom(struct volume *v, const uint8_t *sha256);

#endif
