/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what an administrator wants to stay here.
 * Way: objectfsctl pin, unpin -> here -> the index; evict.c asks.
 * Thread: core. Owns: the list of ids.
 * Holds: the list in the index is the one in memory; who asked for a change is answered once it is on disk.
 */
#include "private.h"

#include <errno.h>
#include <string.h>

#define PINS_KV "pins"
#define PINS_MOST 1000u
#define PINS_DEPTH 600u /* a key has 1,024 bytes: deeper no path goes */

void pins_load(struct evictor *ev)
{
	const char *p = index_kv_get(ev->v->index, PINS_KV);
	char hex[OFS_OID_HEX_BYTES] = "";

	while (p != NULL && strlen(p) >= OFS_OID_HEX_BYTES - 1) {
		struct ofs_oid oid;

		memcpy(hex, p, OFS_OID_HEX_BYTES - 1);
		if (ofs_oid_parse(hex, &oid) && ev->pins.count < PINS_MOST) {
			ev->pins.oids = talloc_realloc(ev, ev->pins.oids, struct ofs_oid, ev->pins.count + 1);
			ev->pins.oids[ev->pins.count++] = oid;
		}
		p += OFS_OID_HEX_BYTES - 1;
		p += strspn(p, " ");
	}
}

static unsigned pins_find(const struct evictor *ev, const struct ofs_oid *oid)
{
	unsigned i = 0;

	while (i < ev->pins.count && !ofs_oid_equal(&ev->pins.oids[i], oid)) {
		i++;
	}
	return i;
}

static void pins_save(struct evictor *ev)
{
	char *text = talloc_strdup(ev, "");

	for (unsigned i = 0; i < ev->pins.count; i++) {
		char hex[OFS_OID_HEX_BYTES];

		ofs_oid_hex(&ev->pins.oids[i], hex);
		text = talloc_asprintf_append(text, "%s%s", i > 0 ? " " : "", hex);
	}
	index_kv_set(ev->v->index, PINS_KV, ev->pins.count > 0 ? text : NULL);
	talloc_free(text);
}

static int pins_change(struct evictor *ev, const struct ofs_oid *oid, bool on)
{
	unsigned at = pins_find(ev, oid);

	if (on == (at < ev->pins.count)) {
		return -EALREADY;
	}
	if (!on) {
		ev->pins.oids[at] = ev->pins.oids[--ev->pins.count];
	} else if (ev->pins.count < PINS_MOST) {
		ev->pins.oids = talloc_realloc(ev, ev->pins.oids, struct ofs_oid, ev->pins.count + 1);
		ev->pins.oids[ev->pins.count++] = *oid;
	} else {
		return -ENOSPC;
	}
	pins_save(ev);
	return 0;
}

struct pin { /* talloc child of the evictor, until it is committed */
	int status;
	void (*done)(void *arg, int status);
	void *arg;
};

static void pin_committed(int status, void *arg)
{
	struct pin *p = arg;

	p->done(p->arg, status != 0 ? status : p->status);
	talloc_free(p);
}

void evict_pin(struct evictor *ev, const struct ofs_oid *oid, bool on, void (*done)(void *arg, int status), void *arg)
{
	struct pin *p = talloc_zero(ev, struct pin);

	p->status = pins_change(ev, oid, on);
	p->done = done;
	p->arg = arg;
	index_commit(ev->v->index, pin_committed, p); /* what was so anyway may have been made so a moment ago */
}

void evict_pins_each(struct evictor *ev, void (*fn)(void *arg, const char *path), void *arg)
{
	for (unsigned i = 0; i < ev->pins.count; i++) {
		struct row *row = index_get(ev->v->index, &ev->pins.oids[i]);
		char *path = row != NULL ? index_path(ev->v->index, ev, row) : NULL;

		fn(arg, path);
		talloc_free(path);
	}
}

bool evict_is_pinned(struct evictor *ev, const struct row *row)
{
	const struct ofs_oid *at = &row->oid;

	for (unsigned depth = 0; ev->pins.count > 0 && depth < PINS_DEPTH && row != NULL; depth++) {
		if (pins_find(ev, at) < ev->pins.count) {
			return true;
		}
		if (ofs_oid_equal(at, &OFS_OID_ROOT)) {
			return false;
		}
		at = &row->parent;
		row = index_get(ev->v->index, at);
	}
	return false;
}
