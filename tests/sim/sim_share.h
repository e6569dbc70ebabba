/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Where others write, too, the tree is what clients know: it is the model, and in the end it is what the store has. */
#ifndef OFS_TESTS_SIM_SHARE_H
#define OFS_TESTS_SIM_SHARE_H

#include <stdbool.h>
#include "sim_judge.h"

/* The world's model becomes what is in the tree; of a stub, no text. */
void share_look(struct world *w);
bool share_has(struct world *w, const char *path);
bool share_has_stub(struct world *w, const char *path);
/* What the row of the file at `path` was stored with; NULL: nothing that the judge knows. */
const char *share_text(struct judge *j, const char *path);
/* All of it is listed anew, so many times, and what follows from that is over. */
void share_list(struct world *w, unsigned times);
/* Each file of the share is an object with its bytes, and each object such a file, or the test has failed. */
void share_is_store(struct world *w);

#endif
