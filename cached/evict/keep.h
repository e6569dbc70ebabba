/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which files have data on this disk, how much, and which goes first: S3-FIFO over whole files (Yang
 * et al., SOSP 2023). A file is new to the small queue; used again there, it goes to the main queue;
 * one that comes back soon after it went is taken into the main queue at once. A scan passes through
 * the small queue and leaves the rest alone. Core thread only.
 */
#ifndef OFS_EVICT_KEEP_H
#define OFS_EVICT_KEEP_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "shared/record.h"

struct keep;

struct keep *keep_new(TALLOC_CTX *ctx);
/* The file has so many bytes here now (0: none, it is forgotten). now_s: in any clock, for keep_old. */
void keep_set(struct keep *k, const struct ofs_oid *oid, uint64_t bytes, int64_t now_s);
/* So many at least: what an earlier recall has left is here too. */
void keep_set_least(struct keep *k, const struct ofs_oid *oid, uint64_t bytes, int64_t now_s);
/* A client has opened it. Nothing if it has no data here. */
void keep_touch(struct keep *k, const struct ofs_oid *oid, int64_t now_s);
/* Its inode is gone, or its data is another's. */
void keep_drop(struct keep *k, const struct ofs_oid *oid);
bool keep_has(const struct keep *k, const struct ofs_oid *oid);
uint64_t keep_bytes(const struct keep *k);
uint64_t keep_count(const struct keep *k);
uint64_t keep_leaving(const struct keep *k); /* bytes picked or taken, whose fate is not known yet */

/*
 * The file that goes first; it is in no queue until keep_gone or keep_stays says what became of it.
 * false: none is left in the queues.
 */
bool keep_pick(struct keep *k, struct ofs_oid *oid);
/* A certain one is taken out of its queue; false: unknown, or already out. */
bool keep_take(struct keep *k, const struct ofs_oid *oid);
void keep_gone(struct keep *k, const struct ofs_oid *oid); /* remembered for a while */
void keep_stays(struct keep *k, const struct ofs_oid *oid); /* in use: to the main queue's young end */
/* The next (round and round) that nobody has opened since before_s; *look: places it may look at, less
 * those it did. */
bool keep_old(struct keep *k, int64_t before_s, unsigned *look, struct ofs_oid *oid);

#endif
