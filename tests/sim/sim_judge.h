/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Who wrote what, and what may be gone: the judge of a world in which others write, too. Each version has bytes of
 * its own; it must be in the store in the end unless somebody who knew it has replaced or deleted it.
 */
#ifndef OFS_TESTS_SIM_JUDGE_H
#define OFS_TESTS_SIM_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include "sim_world.h"

#define VERSION_ETAGS 6u

struct version {
	char *text;
	bool foreign;
	unsigned live; /* so many objects must have it in the end, at least */
	char *etags[VERSION_ETAGS];
	unsigned etag_count;
	const char *ended; /* how the last of them went */
	bool flushed;      /* a client was told that it is on the disk */
};

struct judge {
	struct world *w;
	struct version *versions;
	unsigned count;
};

void judge_free(struct judge *j);
/* Somebody has written it, or (the text is known) the same once more. */
void judge_written(struct judge *j, const char *text, bool foreign);
/* It must be known: no object, no file has bytes of anything else. Nothing at all is known. */
struct version *judge_known(struct judge *j, const void *data, size_t len, const char *where);
/* Who knew it has replaced it (how), or it may be lost there. */
void judge_ended(struct judge *j, const void *data, size_t len, const char *how);
/* A client was told that it is on the disk. */
void judge_flushed(struct judge *j, const char *text);
/* The power was lost, and all are dead: what a client wrote may be gone if it was neither flushed nor in the store. */
void judge_cut(struct judge *j);
/* The text that was stored under this ETag; NULL: no such. */
const char *judge_text(const struct judge *j, const char *etag);
/* A file's object, neither a marker nor the volume's own. */
bool judge_is_file(const struct sim_object *o);
/* An object is so now. */
void judge_stored(struct judge *j, const struct sim_object *o);
/* All is over, and in the store: each version that must be is there, each file of the share is an object. */
void judge_store(struct judge *j);

#endif
