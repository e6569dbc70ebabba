/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: tell what another tool has set on an object from what we, or the store, did.
 * Way: whoever sees a HEAD asks whether there is anything; upload/kept.c puts it back.
 * Thread: any; pure functions.
 * Owns: nothing.
 * Holds: 1. what describes the old bytes (sums, times) is not put on new ones;
 *        2. new bytes do not go where nobody could read them: archives are no property to keep;
 *        3. SSE-S3 is what every object on AWS has: not to be told from none.
 */
#include "foreign.h"
#include <stddef.h>
#include <string.h>

static bool is_one_of(const char *name, const char *const *list)
{
	for (; *list != NULL; list++) {
		if (strcmp(name, *list) == 0) {
			return true;
		}
	}
	return false;
}

bool foreign_meta(const char *name)
{
	static const char *const ours[] = {"mtime", "mode", "uid", "gid", NULL};
	/* rclone's MD5 of what it sent in parts; s3cmd's, with the times; when the bytes came, as AWS File Gateway
	 * and s3fs say it: `mtime` has the new time, and these would contradict it. */
	static const char *const of_bytes[] = {"md5chksum", "s3cmd-attrs", "file-mtime", "ctime", NULL};

	return strncmp(name, "objectfs", 8) != 0 && !is_one_of(name, ours) && !is_one_of(name, of_bytes);
}

bool foreign_is_archived(const char *storage_class)
{
	static const char *const archives[] = {"GLACIER", "DEEP_ARCHIVE", NULL};

	return storage_class != NULL && is_one_of(storage_class, archives);
}

const char *foreign_prop(const struct obj_result *r, enum obj_prop prop)
{
	const char *value = r->props[prop];
	bool kms = r->sse != NULL && strncmp(r->sse, "aws:kms", 7) == 0;

	if (value == NULL || value[0] == '\0') {
		return NULL;
	}
	switch (prop) {
	case OBJ_PROP_content_type:
		return strcmp(value, OBJ_DEFAULT_TYPE) != 0 ? value : NULL;
	case OBJ_PROP_storage_class:
		return strcmp(value, "STANDARD") != 0 && !foreign_is_archived(value) ? value : NULL;
	case OBJ_PROP_sse:
	case OBJ_PROP_sse_key:
		return kms ? value : NULL;
	case OBJ_PROP_bucket_key:
		return kms && strcmp(value, "true") == 0 ? value : NULL;
	default:
		return value;
	}
}

bool foreign_none(const struct obj_result *r)
{
	for (unsigned i = 0; i < OBJ_PROP_MAX; i++) {
		if (foreign_prop(r, i) != NULL) {
			return false;
		}
	}
	for (unsigned i = 0; i < r->meta_count; i++) {
		if (foreign_meta(r->meta[i].name)) {
			return false;
		}
	}
	return r->tag_count == 0;
}
