/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Is the bucket as FORMAT.md says, and as this mirror believes? Found, told, and mended where nothing that
 * could be somebody's data is lost by it. Core thread only; one at a time for each volume.
 */
#ifndef OFS_FSCK_H
#define OFS_FSCK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct volume;
struct fsck;

#define FSCK_OLDER_S (7 * 86400)

/*
 * older_s: what is left over counts from this age on; a blob that nothing names must have been so in two
 * looks a seventh of it apart. done(status, answer, arg): 0; -EBUSY: one is under way; -EROFS: the volume is
 * not READY; -EIO: it could not look at everything. answer (new reference, may be NULL): {volume, complete,
 * repair, objects, blobs, findings: [{kind, key, detail, mend}], more, wrong, mended}.
 */
void fsck_start(struct volume *v, bool repair, int64_t older_s,
		void (*done)(int status, json_t *answer, void *arg), void *arg);
/* {phase, objects, blobs, wrong} of the one under way; NULL: none is. */
json_t *fsck_progress(const struct volume *v);

#endif
