/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: whatever a base says of a version that is in the store, object or log say too: whoever goes by it has
 *       no older rights than whoever asks the object.
 * Way: sim_daemon.c at its start, sim_verify.c when a world has drained.
 * Thread: one.
 * Owns: nothing.
 * Holds: what fails here ends the program and names the seed.
 */
#include "sim_world.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cached/mirror/base.h"
#include "cached/mirror/objmeta.h"
#include "cached/reconcile/index.h"
#include "cached/reconcile/metalog.h"

static void read_meta(struct world *w, const struct sim_object *o, struct objmeta *m)
{
	struct obj_result r = {.meta = o->meta, .meta_count = o->meta_count};
	bool damaged;

	objmeta_read(&r, m, &damaged);
	if (damaged) {
		die(w, "damaged metadata", o->key);
	}
}

/* The key below which the directory of this id has its files; "": it is not in the store. */
static void prefix_of(struct world *w, const struct ofs_oid *dir, char prefix[300])
{
	const struct sim_object *o;

	snprintf(prefix, 300, "%s", ofs_oid_equal(dir, &OFS_OID_ROOT) ? "p/" : "");
	for (o = sim_objects(w->sim); o != NULL && prefix[0] == '\0'; o = o->next) {
		struct objmeta m = {0};

		if (o->key[strlen(o->key) - 1] == '/') {
			read_meta(w, o, &m);
			snprintf(prefix, 300, "%s", m.ours && ofs_oid_equal(&m.oid, dir) ? o->key : "");
			objmeta_clear(&m);
		}
	}
}

/* true: it is of a version that is there. */
static bool verify_row(struct world *w, struct metalog *ml, const char *prefix, const struct base_row *row)
{
	char key[700];
	const struct metalog_entry *e;
	const struct sim_object *o;
	struct snapshot *logged = NULL;
	struct objmeta m = {0};
	int64_t mtime_ns;

	snprintf(key, sizeof(key), "%s%s", prefix, row->name);
	o = sim_object(w->sim, key);
	if (o == NULL || strcmp(o->etag, row->etag) != 0 || (int64_t)o->len != row->size ||
			sim_listed_ns(o) != row->s3_mtime_ns) {
		return false;
	}
	read_meta(w, o, &m);
	if (row->snapshot == NULL) {
		if (m.ours) {
			die(w, "a base takes it for another program's", key);
		}
		return true;
	}
	/* What another program has overwritten is in the log. */
	if (m.ours && (!ofs_oid_equal(&m.oid, &row->oid) || m.data_gen != row->data_gen)) {
		die(w, "a base is of another file", key);
	}
	if (row->meta_gen < m.meta_gen) {
		die(w, "a base knows older metadata than its object", key);
	}
	mtime_ns = m.ours ? m.snapshot->mtime_ns : 0;
	e = metalog_find(ml, &row->oid, row->meta_gen - 1);
	if (row->meta_gen > m.meta_gen) {
		if (e == NULL) {
			die(w, "a base knows what neither object nor log say", key);
		}
		if (snapshot_unpack(e->packed, e->packed_len, &logged) != 0) {
			die(w, "log entry", key);
		}
		mtime_ns = logged->mtime_ns;
	}
	if ((e == NULL || e->meta_gen == row->meta_gen) && row->snapshot->mtime_ns != mtime_ns) {
		die(w, "a base has another write time", key);
	}
	snapshot_free(&logged);
	objmeta_clear(&m);
	return true;
}

static void verify_base(struct world *w, struct metalog *ml, const struct sim_object *head,
		struct bases_seen *seen)
{
	const size_t place = strlen("p/" BASE_PLACE);
	struct base_head *h;
	struct ofs_oid dir;
	char hex[OFS_OID_HEX_BYTES], prefix[300];

	snprintf(hex, sizeof(hex), "%.32s", head->key + place);
	if (!ofs_oid_parse(hex, &dir)) {
		die(w, "no key of a base", head->key);
	}
	h = base_head_parse(w->v, head->data, head->len, &w->v->uuid, &dir);
	if (h == NULL) {
		die(w, "damaged", head->key);
	}
	prefix_of(w, &dir, prefix);
	seen->heads++;
	for (unsigned i = 0; i < h->chunk_count; i++) {
		char *key = base_key(h, "p/", &dir, h->chunks[i].id);
		const struct sim_object *o = sim_object(w->sim, key);
		struct base_chunk *c = NULL;

		if (o == NULL || !base_chunk_is(&h->chunks[i], o->data, o->len) ||
				base_chunk_open(o->data, o->len, &w->v->uuid, &dir, &c) != 0) {
			die(w, "a chunk is missing or damaged", key);
		}
		for (unsigned n = 0; n < base_chunk_rows(c); n++) {
			struct base_row row;

			if (base_chunk_row(c, n, &row) != 0) {
				die(w, "a row is damaged", key);
			}
			seen->rows++;
			seen->valid += prefix[0] != '\0' && verify_row(w, ml, prefix, &row);
			base_row_clear(&row);
		}
		base_chunk_free(&c);
	}
	talloc_free(h);
}

void world_verify_bases(struct world *w, struct metalog *ml)
{
	const struct sim_object *o;

	for (o = w->others ? NULL : sim_objects(w->sim); o != NULL; o = o->next) {
		size_t len = strlen(o->key);

		if (strncmp(o->key, "p/" BASE_PLACE, strlen("p/" BASE_PLACE)) == 0 && len > 5 &&
				strcmp(o->key + len - 5, "/head") == 0) {
			verify_base(w, ml, o, &w->bases);
		}
	}
}
