/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A world in which another tool writes to the bucket, too: it knows nothing of us, and acts between any two of our
 * requests, most often on the very object that the next one is about.
 */
#ifndef OFS_TESTS_SIM_OTHERS_H
#define OFS_TESTS_SIM_OTHERS_H

#include <stdbool.h>
#include <stdint.h>
#include "sim_cut.h"
#include "sim_judge.h"

#define BACKUPS 16
#define HIDDEN 16
#define HIDDEN_NS (300 * NS_PER_S) /* an outage, or a kill, and all that comes first then: for so long, too */

struct backup { /* as the other tool had it once */
	char key[300];
	char *text;
	struct obj_meta *meta;
	unsigned meta_count;
};

struct hidden { /* class F1: what a write of ours has covered, and may not have looked at yet */
	char key[300], text[64];
	int64_t at_ns;
};

struct others {
	struct world w;
	struct judge j;
	struct sim_watch watch;
	struct backup backups[BACKUPS];
	unsigned backup_count;
	struct hidden hidden[HIDDEN];
	unsigned hidden_count;
	int64_t killed_since_ns, killed_ns; /* by the store's clock: when daemons were, one soon after the other */
	unsigned acts, serial; /* acts: that are left; serial: no two texts are alike */
	bool acting;
	int fence_class;
	struct cut cut;
	bool powered; /* until the power goes */
	unsigned cuts;
};

/* From now on it hears of each request, and acts so many times at most. */
void tool_start(struct others *x, unsigned acts);
/* Once more, on some file's object. */
void tool_act(struct others *x);
/* It only looks on. */
void tool_rest(struct others *x);
void tool_stop(struct others *x);

#endif
