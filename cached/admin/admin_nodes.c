/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: which nodes serve the volumes, and that one does no more.
 * Way: admin.c -> here -> core/nodes.c.
 * Thread: core.
 * Owns: a struct forget until its last answer.
 */
#include "private.h"

#include <errno.h>
#include <string.h>

#include "../core/nodes.h"

void admin_nodes(struct admin_cmd *c)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < c->core->volume_count; i++) {
		struct volume *v = c->core->volumes[i];

		if (c->v == NULL || c->v == v) {
			json_t *some = nodes_json(v->nodes);

			json_array_extend(list, some);
			json_decref(some);
		}
	}
	admin_answer(c, 0, json_pack("{s:o}", "nodes", list), NULL);
}

struct forget { /* talloc child of the command */
	struct admin_cmd *cmd;
	unsigned running, forgotten;
	int status; /* first failure */
	char *message;
};

static void forget_end(struct forget *f)
{
	if (--f->running > 0) {
		return;
	}
	if (f->status == 0 && f->forgotten == 0) {
		f->status = -ENOENT;
		f->message = talloc_asprintf(f, "no node %s is known here (objectfsctl nodes)",
				f->cmd->argv[0]);
	}
	if (f->status != 0) {
		admin_answer(f->cmd, f->status, NULL, "%s",
				f->message != NULL ? f->message : strerror(-f->status));
	} else {
		admin_answer(f->cmd, 0,
				json_pack("{s:s, s:i}", "node", f->cmd->argv[0], "volumes",
						(int)f->forgotten),
				NULL);
	}
}

static void forget_done(int status, const char *message, void *arg)
{
	struct forget *f = arg;

	if (status == 0) {
		f->forgotten++;
	} else if (status != -ENOENT && f->status == 0) {
		f->status = status;
		f->message = talloc_strdup(f, message != NULL ? message : "");
	}
	forget_end(f);
}

void admin_forget_node(struct admin_cmd *c)
{
	struct forget *f = talloc_zero(c, struct forget);

	if (f == NULL) {
		admin_answer(c, -ENOMEM, NULL, "out of memory");
		return;
	}
	f->cmd = c;
	f->running = 1;
	for (unsigned i = 0; i < c->core->volume_count; i++) {
		struct volume *v = c->core->volumes[i];

		if (c->v == NULL || c->v == v) {
			f->running++;
			nodes_forget(v->nodes, c->argv[0], forget_done, f);
		}
	}
	forget_end(f);
}
