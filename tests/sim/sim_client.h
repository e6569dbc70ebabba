/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The client's inside: sim_client.c, sim_stub.c, sim_handle.c and sim_asks.c only. */
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
/* Of what is open, perhaps for its path alone. What a power cut has left without one gets one, as from the module. */
void client_record(struct world *w, int fd, const char *path, struct ofs_record *rec);
/* Never fails; a lease of the daemon's is broken first. */
int client_open(struct world *w, const char *path, int flags);
/* --- sim_stub.c --- */
bool client_is_stub(struct world *w, int fd);
/* The record alone: a marker that could not be taken is the next open's. */
bool client_is_recorded_stub(struct world *w, int fd);
/* Whole and plain, or empty and plain. 0, or what the daemon says. */
int client_stub_plain(struct world *w, int fd, const char *path, bool empty);
/* What it asked for is the daemon's alone now, as it is when a connection ends. */
void client_asker_died(struct world *w);

#endif
