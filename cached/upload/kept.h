/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What others have set on an object, from before it is overwritten until it is on what replaces it: headers, user
 * metadata, storage class, encryption, tags. Core thread only.
 */
#ifndef OFS_UPLOAD_KEPT_H
#define OFS_UPLOAD_KEPT_H

#include <stddef.h>
#include <talloc.h>
#include "../mirror/objmeta.h"
#include "../objstore/objstore.h"

struct kept;
struct volume;

/* kept: talloc child of the asker's ctx, NULL: there is nothing to keep. Not OBJ_OK: not known, or not to be
 * had; message for people. From inside the call only where said, or when memory is out. */
typedef void (*kept_fn)(enum obj_status st, const char *message, struct kept *kept, void *arg);
/* Of the object that has this ETag; nothing is kept of another. ctx lives until `done`. */
void kept_ask(TALLOC_CTX *ctx, struct volume *v, const char *key, const char *etag, kept_fn done,
		void *arg);
/* The same of a HEAD that is there already (borrowed): one request if it has tags; without, `done` is called
 * at once. */
void kept_of(TALLOC_CTX *ctx, struct volume *v, const struct obj_req *head, kept_fn done, void *arg);
/* Bytes of user metadata. */
size_t kept_meta_bytes(const struct kept *k);
/* Add it to a request that has its own metadata already; k may be NULL. 0, or -EPERM: not all
 * of it can be kept, and `foreign properties` says that it is not to be sent then (*why, talloc child of k). */
int kept_put(const struct kept *k, struct obj_req *req, const char **why);

/* What a copy that the store makes is to have: a rename takes all along, class and encryption too; an object of
 * its own (meta) has the source's headers. (Metadata that are signed are signed anew, for the new key.)
 * 0 or -E2BIG. */
int kept_copy(struct obj_req *req, const struct obj_result *source, const struct objmeta *meta);
/* After an object was made of parts: not all stores put the tags on it that the begin of the upload named. Then
 * they are put on now. */
void kept_check(const struct kept *k, const char *key, void (*done)(void *arg), void *arg);
/* Parts of the object have ETags that say nothing of their bytes. */
bool kept_is_encrypted(const struct kept *k);
bool kept_has_tags(const struct kept *k);

#endif
