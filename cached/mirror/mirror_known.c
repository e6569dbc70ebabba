/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what a listing need not ask S3 for, because the directory's base says it.
 * Way: mirror_agree.c, before its first entry and for each; base_read.c reads.
 * Thread: core.
 * Owns: nothing; the listing does.
 * Holds: 1. a row counts for the version that LIST has shown, by ETag, size and Last-Modified, and for no
 *           other: what changes an object's metadata makes a version of another Last-Modified, whatever
 *           its bytes are;
 *        2. a name that has left S3 since the first page, or was written, is asked for: base and page may be of
 *           before.
 */
#include "mirror_listing.h"

#include <errno.h>
#include <string.h>

static void known_ready(void *arg)
{
	struct listing *l = arg;
	struct row *dir = index_get(l->m->v->index, &l->dir->oid);

	if (dir != NULL && base_read_status(l->base) == OBJ_OK) {
		index_set_base(l->m->v->index, dir, dir->base_due, true);
	}
	l->base_waits = false;
	l->running--;
	l->base_more(l);
}

static void known_wait(struct listing *l)
{
	l->base_waits = true;
	l->running++;
}

bool listing_base_begin(struct listing *l, void (*more)(struct listing *l))
{
	if (l->base_asked) {
		return false;
	}
	l->base_asked = true;
	l->base_more = more;
	if (l->unknown < l->m->v->conf->base_names) { /* would each cost a HEAD */
		return false;
	}
	l->base = base_read_open(l, l->m->v, &l->dir->oid, OBJ_PRIO_READER, l->request_id, known_ready, l);
	if (l->base == NULL) {
		return false;
	}
	known_wait(l);
	return true;
}

int listing_base_row(struct listing *l, const struct list_entry *e, struct base_row *row)
{
	const char *etag = entry_etag(e);
	int ret;

	if (e->is_dir || e->gone || l->base == NULL || etag == NULL || e->mtime_ns <= 0) {
		return -ENOENT;
	}
	ret = base_read_row(l->base, e->raw, row);
	if (ret == -EAGAIN) {
		known_wait(l);
	} else if (ret == 0 && (strcmp(row->etag, etag) != 0 || row->size != e->size ||
				row->s3_mtime_ns != e->mtime_ns)) {
		base_row_clear(row);
		ret = -ENOENT;
	}
	return ret;
}

/* ---- names that leave S3, or are written, meanwhile ---- */

static void known_mark(struct listing *l, const char *raw)
{
	struct list_entry *e = listing_find(l, raw, false);

	if (e != NULL) {
		e->gone = true;
	}
}

void listing_marks_gone(struct listing *l)
{
	for (size_t i = 0; i < l->gone_count; i++) {
		known_mark(l, l->gone[i]);
	}
	TALLOC_FREE(l->gone);
	l->gone_count = 0;
}

/* What the pages call its object; NULL: it is in another directory. One that lies apart has a whole key for a name. */
static const char *known_name(const struct listing *l, const struct row *row)
{
	const char *below = l->prefix + strlen(l->m->v->prefix);
	size_t len = strlen(below);

	if (!row_is_apart(row)) {
		return ofs_oid_equal(&l->dir->oid, &row->s3_parent) ? row->s3_name : NULL;
	}
	return strncmp(row->s3_name, below, len) == 0 && strchr(row->s3_name + len, '/') == NULL
			? row->s3_name + len : NULL;
}

void mirror_row_changes(struct mirror *m, const struct row *row)
{
	for (struct listing *l = m->listings; l != NULL; l = l->next) {
		const char *name = l->asked != 0 ? known_name(l, row) : NULL;
		char **gone;

		if (name == NULL) {
			continue;
		}
		if (l->slots != NULL) {
			known_mark(l, name);
			continue;
		}
		gone = talloc_realloc(l, l->gone, char *, l->gone_count + 1);
		if (gone != NULL) {
			l->gone = gone;
			gone[l->gone_count] = talloc_strdup(gone, name);
		}
		if (gone == NULL || gone[l->gone_count] == NULL) {
			l->base_asked = true; /* without a base, then */
			continue;
		}
		l->gone_count++;
	}
}
