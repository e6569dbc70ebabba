/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The power goes in a world on a disk that loses what was not synced (tests/nth/lossy.h), and what is there afterwards
 * is judged by what docs/SEMANTICS.md says of it. Each text that a client writes is written once.
 */
#ifndef OFS_TESTS_SIM_POWER_H
#define OFS_TESTS_SIM_POWER_H

#include "sim_cut.h"

#define OWNERS_MOST 128u
#define OWNER_TEXTS 48u
#define OWNER_KEYS 48u

struct owner { /* a file, whatever it is called */
	struct ofs_oid oid;
	char texts[OWNER_TEXTS][64]; /* in the order of their writes */
	bool emptied[OWNER_TEXTS];   /* was it empty before that? */
	unsigned count, kept; /* those before `kept` may not come back */
	char keys[OWNER_KEYS][300]; /* that it had, one after the other */
	unsigned key_count;
	bool promised; /* the file itself may not be lost */
	bool named;    /* nor its last name: S3 has it under that alone */
	unsigned objects; /* that S3 has of it */
	bool ended;    /* a client was told that it is gone */
	bool here, plain; /* after a cut */
	char path[256];
	unsigned text; /* of texts, if plain; count: it is empty */
};

struct power {
	struct cut cut;
	struct world *w;
	struct owner owners[OWNERS_MOST];
	unsigned owner_count;
	int64_t conflicts; /* when it began */
	bool judging; /* it was cut, and the model is not what clients know */
};

/* The world's disk loses from now on what is not synced; what is there, is there. */
void power_begin(struct power *p, struct world *w);
void power_end(struct power *p);
/* Who is called what, and has which bytes: after each thing that a client was told to be done, by itself. */
void power_look(struct power *p);
/* The model's text of the file comes over the one before, which is never cut off. */
void power_patched(struct power *p, const char *path);
/* A client flushes it, and is told that its bytes are on the disk; or it is being sent, and is not flushed. */
void power_flush(struct power *p, const char *path);
/* Now. What is left is judged, and the machine starts again. Nobody has a file open. */
void power_cut(struct power *p, enum lossy_how how, uint64_t seed);
/* All is sent, listed anew, and judged; it may have been cut again before. The model is what is there then. */
void power_judge(struct power *p);

#endif
