/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside evict/ only. */
#ifndef OFS_EVICT_PRIVATE_H
#define OFS_EVICT_PRIVATE_H

#include "evict.h"
#include "keep.h"
#include "../base/log.h"
#include "../base/stats.h"
#include "../core/volume.h"
#include "../mirror/mirror_private.h"

#define EVICT_AT_ONCE 16u
#define EVICT_ATTR_BYTES 65536u /* blocks of a stub that are extended attributes, at most */

struct eviction { /* talloc child of the evictor; core only */
	struct eviction *next, **prev;
	struct evictor *ev;
	struct ofs_oid oid;
	uint64_t ino;
	bool on_disk; /* the job runs: the inode is not to be touched */
	bool damaged;
	struct waiter *waits;
	void (*done)(void *arg, int status);
	void *arg;
};

struct evict_pins { /* core only */
	struct ofs_oid *oids;
	unsigned count;
};

struct evictor { /* core only */
	struct volume *v;
	struct keep *keep;
	struct eviction *running;
	unsigned count; /* of them */
	struct evict_pins pins;
	struct space *space;
	struct census *census;
	struct drop *drops;
	bool drops_going; /* further up the stack */
	bool started;
};

/* --- evict_file.c: the disk job --- */
struct evict_job {
	struct disk_job job;
	struct eviction *e; /* core only */
	struct mirror_place place;
	char *path;
	struct ofs_oid oid;
	uint64_t ino, data_gen;
	int64_t size; /* as S3 has it */
	/* out */
	int status; /* as evict_file; -EUCLEAN: changed behind our back, must be sent again */
	uint64_t freed;
};
void evict_job_run(struct disk_job *job);

/* --- pins.c --- */
void pins_load(struct evictor *ev);

/* --- census.c: what is here, from the tree itself --- */
struct census;
/* From the root down, one directory at a time, in the background. Again after it has ended. */
void census_start(struct evictor *ev);
bool census_running(const struct evictor *ev);

/* --- space.c: water marks, ages; slow and full --- */
struct space;
struct space *space_new(struct evictor *ev);
void space_start(struct space *s);
/* Something is here that was not: look soon. */
void space_kick(struct space *s);
bool space_has_room(const struct space *s);
/* So much was asked of S3; less: it has been noted, or does not come. */
void space_coming(struct space *s, int64_t bytes);
bool space_can_take(struct space *s, uint64_t bytes);
json_t *space_json(const struct space *s);

#endif
