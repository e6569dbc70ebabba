/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Directory bases: which are to be written, and when. Core thread only.
 */
#ifndef OFS_MIRROR_BASES_H
#define OFS_MIRROR_BASES_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>

struct volume;
struct bases;

/* Watches the volume's index, for listings under way and walks as well. NULL: out of memory. */
struct bases *bases_new(TALLOC_CTX *ctx, struct volume *v);
/* The volume is READY: what was due when the last daemon ended is due. */
void bases_start(struct bases *b);
/* What changes in the index while this is on is what a base says. b may be NULL. */
void bases_mute(struct bases *b, bool on);

#endif
