/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: judge whose an object is that stands where one of ours is expected.
 * Way: send.c, step.c, fenced.c, copy.c, look.c and under.c ask, after the HEAD that answers a refused or
 *      unknown write.
 * Thread: core; pure. Owns: nothing.
 * Holds:
 *  1. a row is committed before the next write of its file begins; so whatever of this node's writes the row
 *     does not know yet replaced what the row knows, and says so (parent), however many there were;
 *  2. metadata are not proof: tools keep them on other bytes, and backups bring them back. An object is ours
 *     by its fence and its wid, or by its parent and its size;
 *  3. what was sent in parts, or is encrypted, gets another ETag from a copy: there the size decides;
 *  4. a row that lost its fence with the index knows what the inode's record knew. Only where that is nothing
 *     (records of an earlier version) the id of the file decides alone.
 */
#include "whose.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "private.h"

const char *whose_why(enum whose who)
{
	switch (who) {
	case WHOSE_NODES:
		return "another node has written it";
	case WHOSE_EDITED:
		return "another tool has changed it and kept its metadata, or put an older version back";
	case WHOSE_UNREADABLE:
		return "it has metadata that are damaged, or of a later version";
	default:
		return "somebody else has written it";
	}
}

void whose_parent(const struct row *row, struct ofs_oid *parent)
{
	objmeta_id(&row->wid, row->etag, parent);
}

void whose_lost(struct index *ix, struct row *row, const struct ofs_clean *clean)
{
	char note[sizeof(ROW_LOST) + 16] = ROW_LOST;

	if (clean->fence != 0) {
		snprintf(note, sizeof(note), ROW_LOST "%016" PRIx64, clean->fence);
	}
	index_set_fence(ix, row, NULL, note, &clean->id, 0, 0);
}

/* The digits of the note, perhaps behind an heir's; NULL: the row is not lost. */
static const char *whose_lost_fence(const struct row *row)
{
	const char *note = row->etag == NULL && row->version_id != NULL
				   ? strstr(row->version_id, ROW_LOST)
				   : NULL;

	return note != NULL ? note + strlen(ROW_LOST) : NULL;
}

bool whose_is_lost(const struct row *row)
{
	return whose_lost_fence(row) != NULL && ofs_oid_is_none(&row->wid);
}

bool whose_is_forgotten(const struct row *row)
{
	return whose_lost_fence(row) != NULL;
}

static bool whose_same_fence(const struct row *row, const char *etag)
{
	const char *digits = whose_lost_fence(row);
	struct ofs_oid none = {{0}};
	struct ofs_clean clean;

	if (etag == NULL || row->etag != NULL || digits == NULL || *digits == '\0') {
		return etag != NULL && row->etag != NULL && strcmp(row->etag, etag) == 0;
	}
	objmeta_clean(&none, etag, &clean);
	return strtoull(digits, NULL, 16) == clean.fence;
}

bool whose_is_as_recorded(const struct row *row, const char *etag, const struct ofs_oid *wid)
{
	struct ofs_oid id;

	if (etag == NULL || !whose_is_forgotten(row) || ofs_oid_is_none(&row->wid) || !whose_same_fence(row, etag)) {
		return false;
	}
	objmeta_id(wid, etag, &id);
	return ofs_oid_equal(&row->wid, &id);
}

bool whose_is_nodes(const struct volume *v, const struct objmeta *m)
{
	char node[OFS_OID_HEX_BYTES];

	ofs_oid_hex(&m->node, node);
	return strcmp(node, v->node_id) == 0;
}

/* Is the file, or one that it replaces, the one that the object says? */
static bool whose_file(const struct whose_known *k, const char *key, const struct objmeta *m)
{
	struct ofs_oid foreign;

	if (!m->ours) {
		objmeta_foreign_oid(&k->v->uuid, key, &foreign);
		return ofs_oid_equal(&foreign, k->oid);
	}
	return ofs_oid_equal(&m->oid, k->oid) ||
	       (k->row != NULL && heir_names(k->row->version_id, &m->oid));
}

/* Of one wid: a copy of what was sent in parts, or is encrypted with a key of somebody's? */
static bool whose_copy(const struct row *row, const struct obj_result *r, const struct objmeta *m)
{
	bool parts = (row->etag != NULL && strchr(row->etag, '-') != NULL) ||
			(r->etag != NULL && strchr(r->etag, '-') != NULL) || objstore_etag_opaque(r);

	return parts && (row->etag == NULL || r->size == row->s3_size) && (m->old || m->size == r->size);
}

/* The very state that the row knows? WHOSE_EDITED: it was; WHOSE_FOREIGN: no. */
static enum whose whose_state(const struct row *row, const struct obj_result *r,
		const struct objmeta *m)
{
	bool known = !ofs_oid_is_none(&row->wid);
	const char *lost = whose_lost_fence(row);
	struct ofs_oid id;
	bool same_id;

	objmeta_id(&m->wid, r->etag, &id);
	same_id = known && ofs_oid_equal(&row->wid, &id);
	if (whose_same_fence(row, r->etag) && (!known || same_id)) {
		return WHOSE_ROWS;
	}
	if (!same_id) {
		return WHOSE_FOREIGN;
	}
	if (row->etag == NULL && (lost == NULL || *lost == '\0')) { /* in_s3, and its ETag was not kept */
		return m->old || m->size == r->size ? WHOSE_ROWS : WHOSE_EDITED;
	}
	return whose_copy(row, r, m) ? WHOSE_ROWS : WHOSE_EDITED;
}

/* A write of this node that the row does not know. Version 1 does not say what it replaced. */
static bool whose_is_later(const struct row *row, const struct obj_result *r, const struct objmeta *m)
{
	struct ofs_oid parent = {{0}};

	if (row != NULL) {
		whose_parent(row, &parent);
	}
	if (m->old) {
		return ofs_oid_is_none(&parent) || (row->etag != NULL && (m->data_gen > row->s3_data_gen ||
						m->meta_gen > row->s3_meta_gen));
	}
	return m->size == r->size && ofs_oid_equal(&m->parent, &parent);
}

enum whose whose_is(const struct whose_known *k, const char *key, const struct obj_result *r,
		struct objmeta *m)
{
	const struct row *row = k->row;
	enum whose state = WHOSE_FOREIGN;
	bool damaged;

	objmeta_read(r, m, &damaged);
	if (damaged) {
		return WHOSE_UNREADABLE;
	}
	if (m->ours && m->tombstone) {
		return WHOSE_TOMBSTONE;
	}
	if (m->ours && k->wid != NULL && ofs_oid_equal(&m->wid, k->wid)) {
		return m->old || m->size == r->size ? WHOSE_NOW : WHOSE_EDITED;
	}
	if (row != NULL) {
		state = whose_state(row, r, m);
	}
	if (state != WHOSE_FOREIGN || !whose_file(k, key, m)) {
		return state;
	}
	if (row != NULL && whose_is_lost(row)) {
		return WHOSE_ROWS; /* nothing is known that would tell them apart */
	}
	if (!m->ours) {
		return WHOSE_FOREIGN;
	}
	if (!whose_is_nodes(k->v, m)) {
		return WHOSE_NODES;
	}
	return whose_is_later(row, r, m) ? WHOSE_EARLIER : WHOSE_EDITED;
}
