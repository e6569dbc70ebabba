/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: commands about what stays on the local disk: `pin`, `unpin`, `pins`.
 * Way: admin.c -> evict/. Thread: core. Owns: nothing.
 */
#include <errno.h>
#include <string.h>
#include "private.h"
#include "../evict/evict.h"

static void pin_done(struct admin_cmd *c, bool on, int status)
{
	if (status == -ENOSPC) {
		admin_answer(c, status, NULL, "too many pins: pin a directory above instead");
	} else if (status != 0 && status != -EALREADY) {
		admin_answer(c, status, NULL, "the index cannot be written: %s", strerror(-status));
	} else {
		admin_answer(c, 0, json_pack("{s:s, s:o, s:b}", "volume", c->v->name, "path",
						   admin_string(c->path), "pinned", on),
				NULL);
	}
}

static void pinned(void *arg, int status)
{
	pin_done(arg, true, status);
}

static void unpinned(void *arg, int status)
{
	pin_done(arg, false, status);
}

static void pin_set(struct admin_cmd *c, bool on)
{
	struct row *row = admin_row(c);

	if (row != NULL) {
		evict_pin(c->v->evictor, &row->oid, on, on ? pinned : unpinned, c);
	}
}

void admin_pin(struct admin_cmd *c)
{
	pin_set(c, true);
}

void admin_unpin(struct admin_cmd *c)
{
	pin_set(c, false);
}

struct pins_list {
	const struct volume *v;
	json_t *list;
};

static void pins_add(void *arg, const char *path)
{
	struct pins_list *p = arg;

	json_array_append_new(p->list, json_pack("{s:s, s:o}", "volume", p->v->name, "path",
						       admin_string(path)));
}

void admin_pins(struct admin_cmd *c)
{
	struct pins_list p = {.list = json_array()};

	for (unsigned i = 0; i < c->core->volume_count; i++) {
		p.v = c->core->volumes[i];
		if (c->v == NULL || c->v == p.v) {
			evict_pins_each(p.v->evictor, pins_add, &p);
		}
	}
	admin_answer(c, 0, json_pack("{s:o}", "pins", p.list), NULL);
}
