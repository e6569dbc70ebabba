/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The volume record `.objectfs/volume`: whose bucket this is. It must match before anything in the
 * bucket, above all the absence of something, is believed. JSON: format "objectfs volume", uuid
 * (hex), write_version, read_version, features (names; beginning with "write-": they concern
 * writers only), created (RFC 3339), root (whether there is `.objectfs/root`), and what accounts.h keeps there. Core thread only.
 */
#ifndef OFS_CORE_VOLREC_H
#define OFS_CORE_VOLREC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "shared/record.h"

struct volume;

#define VOLREC_KEY OFS_OWN_PLACE "volume"
#define VOLREC_ROOT "root" /* member: true once .objectfs/root was written */
#define VOLREC_KV_UUID "uuid" /* index: the volume this mirror belongs to */
#define VOLREC_KV_SIGNED "signed" /* index: its record was once, and is from then on */

/*
 * Read the record, or create it for a new volume; sets v->uuid, v->created_ns and the index's "uuid".
 * done comes later, once; message (for people) lives during the call. status: 0; -ESTALE: another or
 * an emptied bucket; -EPROTONOSUPPORT: needs a newer version to read; -EROFS: to write (v->uuid is
 * set); -EBADMSG: the record is damaged; -EAGAIN: try again later; -EACCES; -ENOENT: no bucket;
 * other -errno.
 */
void volrec_open(struct volume *v, void (*done)(int status, const char *message, void *arg),
		void *arg);

/*
 * Change the record of a READY volume: edit makes of it what it should be, perhaps more than once, and
 * says whether that is any change. done as above; edit and done get arg.
 */
void volrec_amend(struct volume *v, bool (*edit)(json_t *record, void *arg),
		void (*done)(int status, const char *message, void *arg), void *arg);

/* Does the record say that what is in the bucket is signed (trust.h)? */
bool volrec_is_signed(const json_t *record);

/* --- for tests and the fuzz target --- */
/* Check a record's text. 0, -EROFS: *uuid and *created_ns (0: not said) are set; else *message (child
 * of ctx). */
struct ofs_oid;
int volrec_parse(TALLOC_CTX *ctx, const char *text, size_t len, struct ofs_oid *uuid,
		int64_t *created_ns, char **message);

#endif
