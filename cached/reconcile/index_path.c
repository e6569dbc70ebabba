/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: whole keys and paths from the rows' chains of parents.
 * Way: asked by mirror, reconcile and upload.
 * Thread: core. Owns: nothing.
 * Holds: the walk up ends: every step adds at least a slash and both are limited in length, so a
 *        cycle of parents (possible in a damaged index) is an answer like "too long".
 */
#include "index.h"

#include <string.h>

#include "../objstore/objstore.h"
#include "names.h"

#define PATH_BYTES_MAX 65536u
#define STAGE_PLACE OFS_OWN_PLACE "stage/"

struct walk { /* filled from the end */
	char *buf;
	size_t at;
};

static bool walk_put(struct walk *w, const char *s)
{
	size_t len = strlen(s);

	if (len > w->at) {
		return false;
	}
	w->at -= len;
	memcpy(w->buf + w->at, s, len);
	return true;
}

/* The component of an ancestor and the next one up. false: unknown. */
static bool key_step(TALLOC_CTX *ctx, const struct row *r, struct ofs_oid *parent, char **raw)
{
	if (r->in_s3) {
		*parent = r->s3_parent;
		*raw = talloc_strdup(ctx, r->s3_name);
	} else if (r->live != ROW_NOT_HERE && r->name != NULL) {
		*parent = r->parent;
		*raw = name_to_raw(ctx, r->name, true);
	} else {
		return false;
	}
	return *raw != NULL;
}

char *index_key(struct index *ix, TALLOC_CTX *ctx, const char *prefix,
		const struct ofs_oid *parent, const char *raw_name, bool is_dir, bool *too_long)
{
	char buf[OBJ_KEY_MAX_BYTES + 1];
	struct walk w = { .buf = buf, .at = sizeof(buf) - 1 };
	struct ofs_oid up = *parent;
	bool fits;

	if (too_long != NULL) {
		*too_long = false;
	}
	buf[w.at] = '\0';
	if (raw_name[0] == '\0' && (ofs_oid_is_none(parent) || ofs_oid_equal(parent, &OFS_OID_ROOT))) {
		return talloc_strdup(ctx, prefix);
	}
	if (name_is_reserved(parent, raw_name)) {
		return NULL;
	}
	fits = (!is_dir || walk_put(&w, "/")) && walk_put(&w, raw_name);
	while (fits && !ofs_oid_equal(&up, &OFS_OID_ROOT)) {
		struct row *r;
		char *raw = NULL;

		if (ofs_oid_equal(&up, &OFS_OID_APART)) {
			break;
		}
		if (ofs_oid_equal(&up, &OFS_OID_STAGE)) {
			fits = walk_put(&w, STAGE_PLACE);
			break;
		}
		r = index_get(ix, &up);
		if (r == NULL || !key_step(ctx, r, &up, &raw)) {
			return NULL;
		}
		if (name_is_reserved(&up, raw)) {
			talloc_free(raw);
			return NULL; /* nothing of a client's goes below the volume's own name */
		}
		fits = walk_put(&w, "/") && walk_put(&w, raw);
		talloc_free(raw);
	}
	if (!fits || !walk_put(&w, prefix)) {
		if (too_long != NULL) {
			*too_long = true;
		}
		return NULL;
	}
	return talloc_strdup(ctx, buf + w.at);
}

struct row *index_below(struct index *ix, const struct ofs_oid *dir, char **rest)
{
	char *name = *rest, *slash = strchr(name, '/');

	if (*name == '\0') {
		return NULL;
	}
	*rest = slash != NULL ? slash + 1 : name + strlen(name);
	if (slash != NULL) {
		*slash = '\0';
	}
	return index_at_s3(ix, dir, name, slash != NULL);
}

char *index_path(struct index *ix, TALLOC_CTX *ctx, const struct row *r)
{
	char buf[PATH_BYTES_MAX];
	struct walk w = { .buf = buf, .at = PATH_BYTES_MAX - 1 };
	char *path = NULL;
	bool first = true;

	if (ofs_oid_equal(&r->oid, &OFS_OID_ROOT)) {
		return talloc_strdup(ctx, ".");
	}
	w.buf[w.at] = '\0';
	for (; r != NULL && r->live == ROW_HERE; r = index_get(ix, &r->parent)) {
		if (ofs_oid_equal(&r->oid, &OFS_OID_ROOT)) {
			path = talloc_strdup(ctx, w.buf + w.at);
			break;
		}
		if ((!first && !walk_put(&w, "/")) || !walk_put(&w, r->name)) {
			break;
		}
		first = false;
	}
	return path;
}

char *index_path_of(struct index *ix, TALLOC_CTX *ctx, const char *key)
{
	char *copy = talloc_strdup(ctx, key), *rest = copy, *name, *dir, *path = NULL;
	const struct row *row = index_get(ix, &OFS_OID_ROOT), *file, *live;

	while (rest != NULL && row != NULL && strchr(rest, '/') != NULL) {
		row = index_below(ix, &row->oid, &rest);
	}
	if (rest == NULL || row == NULL) {
		talloc_free(copy);
		return NULL;
	}
	file = index_at_s3(ix, &row->oid, rest, false);
	if (file != NULL && file->live == ROW_HERE) {
		path = index_path(ix, ctx, file);
		talloc_free(copy);
		return path;
	}
	dir = index_path(ix, copy, row);
	name = name_from_raw(copy, rest);
	live = name != NULL ? index_at_live(ix, &row->oid, name) : NULL;
	if (live != NULL && live->is_dir) {
		name = name_from_raw_beside_dir(copy, rest);
	}
	if (dir != NULL && name != NULL) {
		path = strcmp(dir, ".") == 0 ? talloc_strdup(ctx, name) : talloc_asprintf(ctx, "%s/%s", dir, name);
	}
	talloc_free(copy);
	return path;
}
