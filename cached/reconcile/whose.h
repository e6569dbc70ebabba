/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Whose is the object that is at a key of ours? Core thread only. */
#ifndef OFS_RECONCILE_WHOSE_H
#define OFS_RECONCILE_WHOSE_H

#include "../core/volume.h"
#include "../mirror/objmeta.h"
#include "index.h"

enum whose {
	WHOSE_ROWS,       /* the one that the row knows, or a copy of it */
	WHOSE_NOW,        /* what the attempt under way has sent */
	WHOSE_EARLIER,    /* what this node has sent before, and no answer came: it replaced the row's */
	WHOSE_TOMBSTONE,  /* nobody's: a delete that stopped half way */
	WHOSE_NODES,      /* our file, as another node has written it */
	WHOSE_EDITED,     /* our file, as another tool has made it of one of our versions */
	WHOSE_FOREIGN,    /* another file's, or another tool's */
	WHOSE_UNREADABLE, /* its metadata are damaged, or of a later version */
};

struct whose_known { /* borrowed; all but v and oid may be NULL */
	const struct volume *v;
	const struct ofs_oid *oid;    /* of the file */
	const struct row *row;        /* what S3 had of it, as last committed */
	const struct ofs_oid *wid;    /* of the attempt under way */
};

/* r: of a HEAD of `key` that found something. *m: its metadata, for objmeta_clear. */
enum whose whose_is(const struct whose_known *k, const char *key, const struct obj_result *r,
		struct objmeta *m);
/* Why a file here cannot replace it, for people; of those that it cannot. */
const char *whose_why(enum whose who);
/* Is nothing known of the row's object but that it is there? */
bool whose_is_lost(const struct row *row);
/* Is all that is known of the row's object what the inode's record says? Then it may be gone, or another, and bytes that
 * are here may be nowhere else. */
bool whose_is_forgotten(const struct row *row);
/* Of such a row: is its object, with this ETag and wid, as the record says? */
bool whose_is_as_recorded(const struct row *row, const char *etag, const struct ofs_oid *wid);
/* This node has written the object. */
bool whose_is_nodes(const struct volume *v, const struct objmeta *m);
/* A row whose object the index has forgotten: as the inode's record says. */
void whose_lost(struct index *ix, struct row *row, const struct ofs_clean *clean);
/* What a write that replaces the row's object names as its parent. */
void whose_parent(const struct row *row, struct ofs_oid *parent);

#endif
