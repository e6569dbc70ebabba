/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The four doors, simulated: one seed decides every delay, order, id and fault. One seed is one run: its
 * trace, a hash of every event in order, is the same each time (on one kind of file system: the order in
 * which a directory is read is the scratch directory's own).
 *
 * Time stands still between events; sim_run_until moves it. Disk jobs do their real work on a scratch
 * directory, on this thread, in an order the seed chooses (lanes that promise order keep it). The
 * object store is a sorted list in memory with AWS's exact conditions, or fewer; it can lose answers and be away.
 */
#ifndef OFS_TESTS_SIM_H
#define OFS_TESTS_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "cached/base/clock.h"
#include "cached/base/disk.h"
#include "cached/coord/coord.h"
#include "cached/objstore/objstore.h"

struct sim;

struct sim_object {
	struct sim_object *next;
	char *key, *etag;
	uint8_t *data;
	size_t len;
	struct obj_meta *meta;
	unsigned meta_count;
	int64_t mtime_ns; /* by the store's clock */
	bool archived; /* its bytes cannot be read or copied */
	bool foreign;  /* another tool has written it */
};

/* Who looks on: before a request is served another tool may act; of a client's keys and those parked `covers` hears
 * what a request of ours is about to replace or delete, `put` what is there after whoever's write. Each may be NULL. */
struct sim_watch {
	void (*before)(void *arg, const struct obj_req *q);
	void (*covers)(void *arg, const struct sim_object *o, const struct obj_req *q);
	void (*put)(void *arg, const struct sim_object *o);
	void *arg;
};

/* Whose code runs: what breaks the daemon's calls must leave the simulator's and the client's alone. */
struct sim_border {
	/* Run what is the daemon's. false: it has ended itself in there, and another one may run since. */
	bool (*enter)(void *arg, void (*fn)(void *fn_arg), void *fn_arg);
	/* The daemon's code has called the simulator's; back(what it returned) before that returns. */
	int (*leave)(void *arg);
	void (*back)(void *arg, int was);
	/* A request is served (after) or about to be (!after): true: q->result is what the caller is told. */
	bool (*request)(void *arg, struct obj_req *q, bool after);
	void *arg;
};

struct sim_faults { /* of 1,000 requests */
	unsigned away, lost_answer;
	unsigned conflict; /* of conditional writes: 409, nothing was done */
};

struct sim *sim_new(uint64_t seed);
void sim_free(struct sim **s);
uint64_t sim_random(struct sim *s, uint64_t below);
struct clock *sim_clock(struct sim *s);
/* The machine's wall clock is set: so far ahead of the store's, which is never set. */
void sim_set_clock(struct sim *s, int64_t ahead_ns);
int64_t sim_store_ns(const struct sim *s);
struct disk *sim_disk(struct sim *s);
struct coord *sim_coord(struct sim *s);
/* A new store handle on the objects, which outlive it. */
struct objstore *sim_store(struct sim *s, TALLOC_CTX *ctx);
void sim_set_faults(struct sim *s, struct sim_faults f);
/* The watcher's memory stays the caller's; NULL: nobody. */
void sim_set_watch(struct sim *s, const struct sim_watch *watch);
/* What the store honours, 3 unless this says otherwise; before the first sim_store. */
void sim_set_fence(struct sim *s, int fence_class);
/* What is larger than a few bytes goes in parts of a few bytes; before the first sim_store. */
void sim_set_parts(struct sim *s);
/* Uploads in parts that have not ended. */
unsigned sim_uploads(const struct sim *s);
/* They are ended, as by a rule of the bucket. */
void sim_uploads_end(struct sim *s);
/* Deletes of this key take two minutes from now on; NULL: of none. The key stays the caller's. */
void sim_slow_delete(struct sim *s, const char *key);
/* Who hears of each event when it is over, and need not come back (longjmp); NULL: nobody. */
void sim_set_step(struct sim *s, void (*stepped)(void *arg), void *arg);
/* The border's memory stays the caller's; NULL: there is none. */
void sim_set_border(struct sim *s, const struct sim_border *border);
/* What a client asks goes into the daemon by this; false: the daemon has ended itself there. */
bool sim_enter(struct sim *s, void (*fn)(void *arg), void *arg);
int sim_leave(struct sim *s);
void sim_back(struct sim *s, int was);
/* Run the next event; false: there is none. */
bool sim_step(struct sim *s);
/* Run events until done(arg), or `ns` of simulated time have passed (false). */
bool sim_run_until(struct sim *s, bool (*done)(void *arg), void *arg, int64_t ns);
/* The machine dies: what is asked from now on is never heard. Until sim_crash, which follows. */
void sim_dies(struct sim *s);
/* kill -9: timers, jobs and requests that have not run are gone. The objects stay. */
void sim_crash(struct sim *s);
struct sim_object *sim_objects(struct sim *s);
/* NULL: nothing is there. */
struct sim_object *sim_object(struct sim *s, const char *key);
/* Has it these bytes? NULL has none. */
bool sim_object_is(const struct sim_object *o, const char *text);
/* Another tool puts it, now. */
void sim_put(struct sim *s, const char *key, const char *text);
void sim_put_with(struct sim *s, const char *key, const char *text, const struct obj_meta *meta, unsigned count);
/* The same, with the metadata that is there if it `keeps` that. */
void sim_edit(struct sim *s, const char *key, const char *text, bool keeps);
/* Another tool deletes what is there, if anything is. */
void sim_remove(struct sim *s, const char *key);
/* Last-Modified as LIST says it: milliseconds; HEAD and GET have seconds, PUT has its answer's Date. */
int64_t sim_listed_ns(const struct sim_object *o);
uint64_t sim_events(struct sim *s);
/* To the store, ever. */
uint64_t sim_requests(const struct sim *s);
uint64_t sim_requests_of(const struct sim *s, enum obj_op op);
/* What else happened, for the trace. */
void sim_note(struct sim *s, const char *what, const char *detail);
uint64_t sim_trace(struct sim *s);

#endif
