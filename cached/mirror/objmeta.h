/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What we write into an object's user metadata, and how we read ours and others' back.
 *
 * x-amz-meta-objectfs: base64 of version u8 = 2, flags u8 (1: tombstone), oid 16, data_gen u64,
 * meta_gen u64, node id 16, wid 16, parent 16, size of the content u64, length u8 of a proof, the proof (we
 * write none, and look at none), then the packed snapshot (snapshot.h). Version 1 has neither size nor
 * proof, and no parent.
 * x-amz-meta-mtime (decimal seconds, fraction allowed), -mode, -uid, -gid (decimal), as s3fs writes.
 */
#ifndef OFS_MIRROR_OBJMETA_H
#define OFS_MIRROR_OBJMETA_H

#include "shared/record.h"
#include "../objstore/objstore.h"
#include "snapshot.h"

struct objmeta {
	bool ours;      /* the objectfs value was there and whole */
	bool tombstone; /* a conditional delete stopped half way: not there for anybody */
	bool old;       /* of version 1: parent and size are not known */
	struct ofs_oid oid, node, wid;
	struct ofs_oid parent; /* what it replaced, as objmeta_id says */
	uint64_t data_gen, meta_gen;
	int64_t size;   /* of the content that it was written with */
	struct snapshot *snapshot; /* NULL: foreign, or tombstone */
	bool has_mtime; /* foreign: what s3fs, rclone or AWS's gateways say is understood */
	int64_t mtime_ns;
	bool has_mode;  /* the same; type, if it says one, and permissions */
	uint32_t mode;
};

/* Add the headers to a PUT, MPU_CREATE or COPY request; snapshot_split first with
 * OBJMETA_SNAPSHOT_BUDGET. 0; -E2BIG: does not fit (split again); -ENOMEM. */
#define OBJMETA_SNAPSHOT_BUDGET 1200u
/* Of our value in user metadata. */
#define OBJMETA_NAME "objectfs"
int objmeta_put(struct obj_req *req, const struct objmeta *m);
/* From a HEAD or GET result. Never fails: what is damaged is foreign (counted by the caller through
 * `ours` = false and *damaged = true). */
void objmeta_read(const struct obj_result *r, struct objmeta *m, bool *damaged);
void objmeta_clear(struct objmeta *m);
/* RFC 3339, as rclone writes it, in *ns since 1970. */
bool objmeta_rfc3339(const char *s, int64_t *ns);
/* Key of a blob: prefix + ".objectfs/blob/" + hex; malloc. */
char *objmeta_blob_key(const char *prefix, const uint8_t sha256[32]);
/* What names one state of an object for those that replace it: its wid, or, where it has none, the first 16
 * bytes of its ETag's SHA-256. None: neither is known. */
void objmeta_id(const struct ofs_oid *wid, const char *etag, struct ofs_oid *id);
/* Does an ETag tell one object from another? Not that of no bytes: all empty objects have it. */
bool objmeta_fences(const char *etag);
/* The same and the ETag, for the record of a file that is this object; etag NULL: not known, zeros. */
void objmeta_clean(const struct ofs_oid *wid, const char *etag, struct ofs_clean *clean);
/* Object id of a foreign object: keyed hash (SHA-256 over uuid and key, first 16 bytes). */
void objmeta_foreign_oid(const struct ofs_oid *uuid, const char *key, struct ofs_oid *oid);

#endif
