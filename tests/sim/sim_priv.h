/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The simulator's inside: sim.c, sim_store.c and sim_parts.c only. */
#ifndef OFS_TESTS_SIM_PRIV_H
#define OFS_TESTS_SIM_PRIV_H

#include "sim.h"

enum event_kind { EVENT_TIMER, EVENT_JOB, EVENT_REQUEST };

struct event {
	struct event *next;
	int64_t at_ns;
	uint64_t order;
	enum event_kind kind;
	struct clock_timer *timer;
	struct disk_job *job;
	struct obj_req *req;
	bool dead;
};

struct clock_timer {
	struct event *event;
	void (*fn)(void *arg);
	void *arg;
};

struct sim_clock {
	struct clock clock;
	struct sim *sim;
};
struct sim_disk {
	struct disk disk;
	struct sim *sim;
};
struct sim_store {
	struct objstore store;
	struct sim *sim;
};

struct sim {
	uint64_t state, order, events, trace;
	uint64_t heard; /* the last event that the world outside hears of, if the machine has died; else 0 */
	uint64_t requests[OBJ_OP_MAX];
	int64_t now_ns, lane_free_ns[DISK_LANES];
	int64_t clock_ahead_ns; /* the machine's wall clock, before the store's */
	struct objstore *store; /* the last one, which a living daemon has; each answer says what time it is */
	struct event *queue; /* by at_ns, then order */
	struct sim_clock clock;
	struct sim_disk disk;
	struct coord *coord;
	struct sim_object *objects; /* by key */
	struct sim_faults faults;
	const struct sim_watch *watch; /* NULL: nobody */
	void (*stepped)(void *arg);    /* NULL: nobody */
	void *stepped_arg;
	const struct sim_border *border; /* NULL: none */
	int fence_class;
	struct sim_version *versions; /* newest first; class F1 */
	const char *slow_key; /* the caller's */
	unsigned etag_count;
	bool in_parts; /* the store takes little in one request */
	struct sim_upload *uploads;
	unsigned upload_count;
};
#define SIM_PART_MIN_BYTES 4u

/* --- sim.c --- */
struct event *sim_event_add(struct sim *s, int64_t at_ns, enum event_kind kind);
void sim_trace_bytes(struct sim *s, const void *data, size_t len);

/* --- sim_store.c --- */
/* Serve it: the result is in the request; its `done` is the caller's. */
void sim_request_run(struct sim *s, struct obj_req *q);
void sim_objects_free(struct sim *s);
/* The object, or this version of it; NULL: there is none. */
struct sim_object *sim_object_at(struct sim *s, const char *key, const char *id);
/* Against what is at the key; the result is set. */
bool sim_condition_fails(struct sim *s, struct obj_req *q);
/* malloc; NULL: it cannot be read, or is given up, and the result is set. */
uint8_t *sim_body(struct obj_req *q);
/* It is what is at the key now (data is taken over), with the metadata of `about`; etag NULL: its MD5. The result is set. */
void sim_stores(struct sim *s, struct obj_req *q, uint8_t *data, size_t len, const struct obj_req *about,
		const char *etag);

/* --- sim_parts.c --- */
/* false: it is about no upload in parts. */
bool sim_parts_serve(struct sim *s, struct obj_req *q);

#endif
