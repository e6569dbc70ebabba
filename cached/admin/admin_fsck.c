/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: `fsck` as a command.
 * Way: admin.c -> here -> fsck/. Thread: core. Owns: its task until the answer.
 */
#include "private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../fsck/fsck.h"

#define OLDER_MOST_S (3650LL * 86400)

struct admin_fsck { /* talloc child of the command */
	struct admin_task task; /* first */
	struct admin_cmd *cmd;
	struct volume *v;
};

static json_t *fsck_json(const struct admin_task *t)
{
	const struct admin_fsck *a = (const struct admin_fsck *)t;
	json_t *o = fsck_progress(a->v);

	if (o == NULL) {
		o = json_object();
	}
	json_object_set_new(o, "task", json_string("fsck"));
	json_object_set_new(o, "volume", json_string(a->v->name));
	json_object_set_new(o, "path", json_null());
	return o;
}

static void fsck_done(int status, json_t *answer, void *arg)
{
	struct admin_fsck *a = arg;
	struct admin_cmd *c = a->cmd;
	int wrong = (int)json_integer_value(json_object_get(answer, "wrong"));
	int mended = (int)json_integer_value(json_object_get(answer, "mended"));

	admin_task_remove(&a->task);
	if (status == -EBUSY) {
		admin_answer(c, status, NULL, "fsck of this volume is under way (objectfsctl tasks)");
	} else if (status == -EROFS) {
		admin_answer(c, status, NULL, "volume %s is not ready: %s", a->v->name,
				a->v->state_why != NULL ? a->v->state_why : "");
	} else if (status != 0) {
		admin_answer(c, status, answer, "not everything could be looked at: see the daemon's log");
	} else if (wrong > mended) {
		admin_answer(c, -EUCLEAN, answer, "%d found, %d mended", wrong, mended);
	} else {
		admin_answer(c, 0, answer, NULL);
	}
}

void admin_fsck(struct admin_cmd *c)
{
	const char *older = words_option(&c->words, "--older");
	long long older_s = FSCK_OLDER_S;
	struct admin_fsck *a;
	char *end;

	if (c->argc == 1 && c->v == NULL) {
		c->v = volumes_find(c->core, c->argv[0]);
	} else if (c->v == NULL && c->core->volume_count == 1) {
		c->v = c->core->volumes[0];
	}
	if (c->v == NULL) {
		char *names = volumes_names(c, c->core);

		admin_answer(c, -ENOENT, NULL, "fsck of which volume? There are: %s",
				names != NULL ? names : "?");
		return;
	}
	if (older != NULL) {
		older_s = strtoll(older, &end, 10);
		if (end == older || *end != '\0' || older_s < 0 || older_s > OLDER_MOST_S) {
			admin_answer(c, -EINVAL, NULL, "--older: seconds are wanted");
			return;
		}
	}
	a = talloc_zero(c, struct admin_fsck);
	if (a == NULL) {
		admin_answer(c, -ENOMEM, NULL, "out of memory");
		return;
	}
	a->cmd = c;
	a->v = c->v;
	admin_task_add(&a->task, c, fsck_json);
	fsck_start(c->v, words_option(&c->words, "--repair") != NULL, older_s, fsck_done, a);
}
