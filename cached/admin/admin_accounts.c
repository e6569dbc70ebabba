/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: `accept-accounts`: this server's users are meant by the rights in the bucket.
 * Way: admin.c -> core/accounts.c -> the volume record -> the answer.
 * Thread: core. Owns: nothing beyond the answer.
 * Holds: nothing is accepted that no module has told.
 */
#include <errno.h>
#include <string.h>
#include "private.h"
#include "../core/accounts.h"

static void accepted(int status, const char *message, void *arg)
{
	struct admin_cmd *c = arg;

	if (status != 0) {
		admin_answer(c, status, NULL, "volume %s: %s", c->v->name,
				message != NULL ? message : strerror(-status));
		return;
	}
	admin_answer(c, 0, accounts_json(c->v->accounts), NULL);
}

void admin_accept_accounts(struct admin_cmd *c)
{
	if (c->v == NULL && c->core->volume_count == 1) {
		c->v = c->core->volumes[0];
	}
	if (c->v == NULL) {
		admin_answer(c, -EINVAL, NULL, "which volume? Say -v VOLUME");
		return;
	}
	accounts_accept(c->v->accounts, accepted, c);
}
