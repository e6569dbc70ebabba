/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who waits for the end of something that the core has under way. Core only. */
#ifndef OFS_BASE_WAITS_H
#define OFS_BASE_WAITS_H

#include <talloc.h>

struct waiter; /* one of a list; NULL: nobody */

/* A talloc child of ctx, before the others. Never fails: the daemon ends instead, for who goes on unheard would work on
 * what is being taken away. */
void waits_add(struct waiter **list, TALLOC_CTX *ctx, void (*fn)(void *arg), void *arg);
/* Each is called, once, and *list is NULL before the first is. */
void waits_end(struct waiter **list);

#endif
