/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: remember whose object may still be at a key that another file has taken over, or whose delete may have gone out.
 * Way: send.c notes it in the row that takes over, before its first PUT, move.c a delete before it goes out; whose.c and move.c ask when they
 *      meet an object that is not the row's own; claim.c and step.c leave a row behind.
 * Thread: core.
 * Owns: nothing: the note stands in place of the row's version, and goes with the first fence of its own.
 * Holds:
 *  1. the note is committed with the taking over: the daemon may be killed at any time after it;
 *  2. only what this node wrote for a file that it was told to replace counts as replaced;
 *  3. an object left behind has a row of its own, of no file: its fence alone says what may be deleted; where
 *     that is of no bytes, what this node wrote of the same file (LEFT_TAG, in place of a version) may be, too;
 *  4. class F1: since when a delete may have gone out (DELETING_TAG, behind the version) is committed before it: what it has
 *     hidden is looked for below the youngest delete marker since then, however long the store was away.
 */
#include "private.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEIR_TAG "heir "
#define LEFT_TAG "left "
#define DELETING_TAG " deleting " /* and digits; last of all */
#define DELETING_DIGITS 16u
#define HEIR_ENTRY_BYTES OFS_OID_HEX_BYTES /* a space and 32 digits */
#define HEIR_MOST 64u                      /* older ones are forgotten: a conflict copy at worst */

/* The digits of a note; NULL: it is none. */
static const char *heir_entries(const char *note)
{
	size_t tag = strlen(HEIR_TAG);

	return note != NULL && strncmp(note, HEIR_TAG, tag) == 0 ? note + tag : NULL;
}

bool heir_is(const struct row *row)
{
	return heir_entries(row->version_id) != NULL;
}

char *heir_note(TALLOC_CTX *ctx, const struct row *gone)
{
	const char *before = heir_entries(gone->version_id);
	const char *lost = gone->etag == NULL && gone->version_id != NULL
				   ? strstr(gone->version_id, ROW_LOST)
				   : NULL;
	size_t most = (size_t)(HEIR_MOST - 1) * HEIR_ENTRY_BYTES - 1;
	char hex[OFS_OID_HEX_BYTES];

	if (before != NULL && lost != NULL && (size_t)(lost - before) < most) {
		most = (size_t)(lost - before - 1); /* it stands behind them */
	}
	ofs_oid_hex(&gone->oid, hex);
	return talloc_asprintf(ctx, HEIR_TAG "%s%s%.*s%s%s", hex, before ? " " : "", (int)most,
			before ? before : "", lost ? " " : "", lost ? lost : "");
}

bool heir_names(const char *note, const struct ofs_oid *oid)
{
	const char *entries = heir_entries(note);
	char hex[OFS_OID_HEX_BYTES];

	ofs_oid_hex(oid, hex);
	return entries != NULL && strstr(entries, hex) != NULL;
}

void heir_gone(struct volume *v, const char *note)
{
	const char *entries = heir_entries(note);
	char hex[OFS_OID_HEX_BYTES];
	struct ofs_oid oid;

	while (entries != NULL && strlen(entries) >= OFS_OID_HEX_BYTES - 1) {
		memcpy(hex, entries, OFS_OID_HEX_BYTES - 1);
		hex[OFS_OID_HEX_BYTES - 1] = '\0';
		if (ofs_oid_parse(hex, &oid)) {
			metalog_settled(v->metalog, &oid, METALOG_GONE);
		}
		entries += strlen(entries) > OFS_OID_HEX_BYTES ? OFS_OID_HEX_BYTES : strlen(entries);
	}
}

bool heir_left(const struct row *row, struct ofs_oid *of)
{
	size_t tag = strlen(LEFT_TAG);
	char hex[OFS_OID_HEX_BYTES];

	if (row->version_id == NULL || strncmp(row->version_id, LEFT_TAG, tag) != 0) {
		return false;
	}
	snprintf(hex, sizeof(hex), "%s", row->version_id + tag);
	return ofs_oid_parse(hex, of);
}

struct row *heir_leave(struct work *item, const struct ofs_oid *of, const struct ofs_oid *parent, const char *raw,
		const char *etag, const struct ofs_oid *wid, int64_t size, int64_t mtime_ns)
{
	struct index *ix = item->rc->v->index;
	char note[sizeof(LEFT_TAG) + OFS_OID_HEX_BYTES] = LEFT_TAG;
	struct ofs_oid oid;
	struct row *left;

	clock_random(item->rc->v->clock, &oid, sizeof(oid));
	left = index_add(ix, &oid, false);
	if (left == NULL) {
		item->rc->rescan_wanted = true;
		return NULL;
	}
	index_set_live(ix, left, ROW_TRASHED);
	index_set_s3(ix, left, parent, raw);
	ofs_oid_hex(of, note + strlen(LEFT_TAG));
	index_set_fence(ix, left, etag, note, wid, size, mtime_ns);
	index_set_object(ix, left, true);
	return left;
}

/* How long the version, or another note, is that stands before this one; -1: this one is not there. */
static ssize_t heir_before(const struct row *row)
{
	const size_t tag = strlen(DELETING_TAG), len = row->version_id != NULL ? strlen(row->version_id) : 0;
	ssize_t before = (ssize_t)len - (ssize_t)(tag + DELETING_DIGITS);

	return before >= 0 && strncmp(row->version_id + before, DELETING_TAG, tag) == 0 ? before : -1;
}

int64_t heir_deleting_ns(const struct row *row)
{
	ssize_t before = heir_before(row);

	return before >= 0 ? (int64_t)strtoull(row->version_id + before + strlen(DELETING_TAG), NULL, 16) : 0;
}

bool heir_version_known(const struct row *row)
{
	struct ofs_oid of;

	return row->version_id != NULL && heir_before(row) != 0 && !heir_is(row) && !heir_left(row, &of) && !claim_is(row);
}

bool heir_version_is(const struct row *row, const char *version)
{
	ssize_t before = heir_before(row);
	size_t len = before >= 0 ? (size_t)before : strlen(row->version_id);

	return strlen(version) == len && memcmp(version, row->version_id, len) == 0;
}

void heir_deleting(struct index *ix, struct row *row, int64_t since_ns)
{
	char *etag = talloc_strdup(NULL, row->etag);
	char *note = talloc_asprintf(etag, "%s" DELETING_TAG "%016" PRIx64, row->version_id != NULL ? row->version_id : "",
			(uint64_t)since_ns);
	const struct ofs_oid wid = row->wid;
	bool plain = row->plain;

	index_set_fence(ix, row, etag, note, &wid, row->s3_size, row->s3_mtime_ns);
	index_set_plain(ix, row, plain);
	talloc_free(etag);
}
