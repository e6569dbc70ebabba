/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The power goes in a world on a disk that loses what was not synced (tests/nth/lossy.h), and what is there afterwards
 * is judged by what docs/SEMANTICS.md says of it. Each text that a client writes is written once.
 */
#ifndef OFS_TESTS_SIM_POWER_H
#define OFS_TESTS_SIM_POWER_H

#include "sim_world.h"
#include "tests/nth/lossy.h"

#define OWNERS_MOST 96u
#define OWNER_TEXTS 48u
#define OWNER_PATHS 12u

struct owner { /* a file, whatever it is called */
	struct ofs_oid oid;
	char texts[OWNER_TEXTS][64]; /* in the order of their writes */
	bool emptied[OWNER_TEXTS];   /* was it empty before that? */
	unsigned count, kept; /* those before `kept` may not come back */
	char paths[OWNER_PATHS][256];
	unsigned path_count;
	bool promised; /* the file itself may not be lost */
	bool named;    /* nor its last name: S3 has it under that alone */
	unsigned objects; /* that S3 has of it */
	bool ended;    /* a client was told that it is gone */
	bool here, plain; /* after a cut */
	char path[256];
	unsigned text; /* of texts, if plain; count: it is empty */
};

struct power {
	struct world *w;
	struct owner owners[OWNERS_MOST];
	unsigned owner_count;
	int64_t conflicts; /* when it began */
};

/* The world's disk loses from now on what is not synced; what is there, is there. `changed`: lossy_begin. */
void power_begin(struct power *p, struct world *w, void (*changed)(void *arg), void *arg);
void power_end(struct power *p);
/* After each thing that a client was told to be done, and before a cut: who is called what, and has which bytes. */
void power_look(struct power *p);
/* The last text of the file came over the one before, which was never cut off. */
void power_patched(struct power *p, const char *path);
/* A client was told that the file's bytes are on the disk. */
void power_flushed(struct power *p, const char *path);
/* Now. What is left is judged; the machine starts again, all is sent, listed anew, and judged. The model is what is
 * there then. Nobody has a file open. */
void power_cut(struct power *p, enum lossy_how how, uint64_t seed);

#endif
