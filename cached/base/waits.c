/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: lists of callbacks that wait for one end.
 * Way: from the rooms of the core that take a file or a directory's names away. Thread: core.
 * Owns: the waiters, until the end or with their ctx.
 */
#include "waits.h"
#include <stdlib.h>

struct waiter {
	struct waiter *next;
	void (*fn)(void *arg);
	void *arg;
};

void waits_add(struct waiter **list, TALLOC_CTX *ctx, void (*fn)(void *arg), void *arg)
{
	struct waiter *w = talloc(ctx, struct waiter);

	if (w == NULL) {
		abort(); /* Exception to errors as values: see waits.h */
	}
	*w = (struct waiter){.next = *list, .fn = fn, .arg = arg};
	*list = w;
}

void waits_end(struct waiter **list)
{
	struct waiter *w = *list;

	*list = NULL;
	while (w != NULL) {
		struct waiter *next = w->next;

		w->fn(w->arg);
		talloc_free(w);
		w = next;
	}
}
