/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A small tree whose directory `a` is renamed to `m`, and what must be in the store. What is not so ends the program. */
#ifndef OFS_TESTS_SIM_TREE_H
#define OFS_TESTS_SIM_TREE_H

#include <stdbool.h>
#include "sim_world.h"

/* A world, drained: a/one, a/b/two and a/b/three have the texts 1, 2 and 3. Class F3 for even seeds, else F2. */
void tree_open(struct world *w, unsigned seed);
/* The rename has begun in the store, or is over there. */
bool tree_is_renamed(struct world *w);
/* The model's names are those below m, or those below a: who finds the rename begun, or not, goes on so. */
void tree_model(struct world *w, bool renamed);

/* A rename's intent is in the store. */
bool store_is_renaming(struct world *w);
/* How many objects below the prefix of keys have these bytes. */
unsigned store_count(struct world *w, const char *prefix, const char *text);
void want_object(struct world *w, const char *key, const char *text);
void want_none_below(struct world *w, const char *prefix);
/* Neither a rename is under way nor a swapped name. */
void want_nothing_half(struct world *w);

#endif
