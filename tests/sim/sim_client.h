/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The client's inside: sim_client.c and sim_handle.c only. */
#ifndef OFS_TESTS_SIM_CLIENT_H
#define OFS_TESTS_SIM_CLIENT_H

#include "sim_world.h"

/* One more thing is done: who enumerates crashes may end the client here. */
void client_effect(struct world *w);
/* Before a change in the directory of `path`: it and those above are marked; inflight[slot] says so until the hint
 * is out. */
void client_change_begin(struct world *w, const char *path, unsigned slot);
void client_hint(struct world *w, int kind, const char *path, const struct ofs_record *rec);
/* Before a file that S3 has is written, and on the disk. */
void client_intent(struct world *w, const struct ofs_record *rec, ino_t ino);
/* Never fails; a lease of the daemon's is broken first. */
int client_open(struct world *w, const char *path, int flags);
bool client_is_stub(struct world *w, int fd);
/* Whole and plain, or empty and plain. 0, or what the daemon says. */
int client_stub_plain(struct world *w, int fd, const char *path, bool empty);

#endif
