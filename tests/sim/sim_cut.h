/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * When the power goes. A moment is each change of a world's disk by the daemon and each sync that it waits for, each event
 * in which it has written to the store, and each single thing that a client's module has done. The disk loses what was
 * not synced (tests/nth/lossy.h).
 */
#ifndef OFS_TESTS_SIM_CUT_H
#define OFS_TESTS_SIM_CUT_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include "sim_world.h"
#include "tests/nth/lossy.h"

struct cut {
	struct world *w;
	void (*told)(void *arg); /* hears of each thing that a client has done; NULL: nobody */
	void *arg;
	unsigned moments; /* that have passed since cut_in */
	unsigned moment;  /* the one of the cut; 0: none */
	/* --- sim_cut.c only --- */
	struct sim_border border;
	unsigned inside; /* it is the daemon's code that runs */
	uint64_t sent;
	bool armed, gone;
	jmp_buf env;
};

/* What is on the world's disk is kept, and loses from now on what is not synced. The cut stays where it is until cut_end. */
void cut_begin(struct cut *c, struct world *w, void (*told)(void *arg), void *arg);
void cut_end(struct cut *c);
/* The power goes at that moment from now, should one of cut_run come so far; 0: it does not. */
void cut_in(struct cut *c, unsigned moment);
/* Do it, and no more of it once the power is gone (true): cut_dies must follow. */
bool cut_run(struct cut *c, void (*fn)(void *arg), void *arg);
/* Inside cut_run: is it gone? Then nothing more need be done. */
bool cut_is_gone(const struct cut *c);
/* Everybody is dead, and nothing is lost yet; cut_loses must follow. */
void cut_dies(struct cut *c);
/* What is there is what the disk has; world_boot follows. */
void cut_loses(struct cut *c, enum lossy_how how, uint64_t seed);

#endif
