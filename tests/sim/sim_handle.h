/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files that the client has open, as the module keeps them: the intent, the mark and the hint before the first write,
 * the stripe's counter around each. Whoever crashes in between leaves what was done so far (sim_world.h: effect).
 */
#ifndef OFS_TESTS_SIM_HANDLE_H
#define OFS_TESTS_SIM_HANDLE_H

#include <stdbool.h>
#include "sim_world.h"

#define HANDLE_TEXT_MOST 64

struct handle {
	char path[256]; /* "": unlinked, or replaced */
	int *fd; /* in the world; NULL: it is not open */
	bool wrote;
};

/* Open what is there. */
void handle_open(struct world *w, struct handle *h, const char *path);
/* A new file, open. */
void handle_create(struct world *w, struct handle *h, const char *path);
/* Whole, and about to be written: its bytes now; false: they cannot be had. */
bool handle_before(struct world *w, struct handle *h, char text[HANDLE_TEXT_MOST]);
void handle_write(struct world *w, struct handle *h, const char *text, off_t offset);
/* To nothing, which needs no recall; false: the daemon says no. */
bool handle_empty(struct world *w, struct handle *h);
/* Its rights are `text`; an open handle is not needed. */
void handle_rights(struct world *w, const char *path, const char *text);
/* SMB FLUSH where the share says `s3`: 0 once it is there. */
int handle_flush(struct world *w, struct handle *h);
void handle_close(struct world *w, struct handle *h);
/* Its process has died. */
void handle_lost(struct handle *h);
bool handle_is_open(const struct handle *h);

#endif
