/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The one place where threads meet: any thread posts a letter, the core thread opens it.
 * Letters are embedded in what crosses (a job, a request), never allocated here; order is kept.
 */
#ifndef OFS_BASE_MAILBOX_H
#define OFS_BASE_MAILBOX_H

#include <talloc.h>

struct tevent_context;
struct mailbox;

struct letter {
	struct letter *next;              /* mailbox only */
	void (*open)(struct letter *self); /* runs on the core thread */
};

/* talloc child of ctx; NULL: out of memory or descriptors. */
struct mailbox *mailbox_new(TALLOC_CTX *ctx, struct tevent_context *ev);
/* Any thread; never blocks longer than a short lock, never fails. */
void mailbox_post(struct mailbox *mb, struct letter *letter);

#endif
