/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Listings that come one after the other, answered by few requests. Inside mirror/ only. Core thread. */
#ifndef OFS_MIRROR_WALK_H
#define OFS_MIRROR_WALK_H

#include <stdbool.h>
#include <talloc.h>
#include "../reconcile/index.h"

struct listing;
struct mirror;
struct walks;

/* m->walks; NULL: out of memory. */
struct walks *walks_new(struct mirror *m);
/* Of a listing whose children are noted. true: listing_flat or listing_pages is called, perhaps at once; false:
 * it asks for its pages itself. */
bool walk_answers(struct listing *l);
/* It has ended. */
void walk_listing_ends(struct listing *l);
/* What S3 has of this row changes, or has changed, by us. m NULL: nobody lists yet. */
void walk_row_changes(struct mirror *m, const struct row *row, enum index_change change);
/*
 * What is listed as a whole for a walker that asks for the directory with this key: top has all that it has asked
 * for; big is more than is kept, and so is what is above it, NULL: not known. talloc child of ctx; NULL: nothing.
 */
char *walk_choose(TALLOC_CTX *ctx, const char *top, const char *big, const char *key);

#endif
