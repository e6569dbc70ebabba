/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The daemon's side of all hint rings of a volume: adopt, read, retire. Core thread only. */
#ifndef OFS_CORE_RINGS_H
#define OFS_CORE_RINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <talloc.h>

struct ofs_use;
struct volume;
struct rings;

/* Opens <run directory>/<volume>.rings/ and adopts what a former daemon left there. */
struct rings *rings_new(TALLOC_CTX *ctx, struct volume *v, const char *run_directory);
/* A new ring for a session; the descriptor for the module, or -errno. The ring lives until its
 * writer is dead and its hints are read, then its file is removed. */
int rings_add(struct rings *rs, uint64_t session);
/* What the modules have counted since the last call is added to the counters. */
void rings_count(struct rings *rs);
/* What one session's module has counted so far; false: not known. */
bool rings_use(const struct rings *rs, uint64_t session, struct ofs_use *use);
/* What all living modules are writing at the moment (ring.h, writing_bytes). */
uint64_t rings_writing(const struct rings *rs);
/* Read every hint written so far into reconcile_hint. Returns how many. */
unsigned rings_drain(struct rings *rs);
/* The same, and what clients left that have just died is found now, not at the next look: for whoever
 * is to be told that all is done. */
unsigned rings_settle(struct rings *rs);
/* Is this process the living writer of one? */
bool rings_have_writer(const struct rings *rs, pid_t pid);
/* Has any live module a change under way in a directory of this stripe (shm.h)? */
bool rings_inflight(struct rings *rs, uint32_t stripe);

#endif
