/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A whole small world on the simulated doors: the daemon's core, a client whose module leaves in a real
 * scratch tree what smbd's would (records, marks, trash links, hints in a real ring), and a model that says
 * which path holds which bytes.
 */
#ifndef OFS_TESTS_SIM_WORLD_H
#define OFS_TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include "cached/base/conf.h"
#include "cached/core/volume.h"
#include "shared/record.h"
#include "shared/ring.h"
#include "sim.h"

#define WORLD_NODE "00112233445566778899aabbccddeeff"
#define FILES_MOST 64 /* of a random life */
#define MODEL_FILES 512 /* of the model */
#define HANDLES_MOST 6u /* files that the client has open at the same time */
#define DIRS_MOST 16
/* So long after, at the latest: */
#define WORLD_DRAIN_NS (4 * 3600 * NS_PER_S) /* all is done that was tried again and again */
#define WORLD_FLUSH_NS (600 * NS_PER_S) /* somebody who waits has an answer */

struct model_file {
	char path[256];
	char text[64];
	char rights[24]; /* that a client has set; "": none */
};

struct world {
	struct sim *sim;
	uint64_t seed;
	char root[64];
	const char *node; /* its id */
	struct volume *v; /* NULL: the daemon is dead */
	struct conf_volume conf;
	struct ofs_record_io rio;
	struct ofs_shm *shm;
	int path_fd, tree_fd, trash_fd, limbo_fd, blocks_fd, shm_fd;
	struct ofs_ring_writer ring;
	int handle_fds[HANDLES_MOST]; /* -1: none */
	int first_fd; /* those below are not this world's */
	bool killed; /* a daemon was, and the next one goes on */
	bool lost;  /* the disk it began with: its root is not listed */
	bool others; /* write, too, and keep our metadata on what is not ours: bases are not looked at */
	bool parts; /* files of more than a few bytes are sent in parts */
	bool dying; /* the client is killed before its next hint */
	/* Calls of the daemon fail: it may end itself, or refuse to start; then this is called, and it is started
	 * again. NULL: neither may be. */
	void (*restarts)(struct world *w);
	/* A dead daemon changes nothing on the disk, although it is taken apart here; NULL: only its index is kept so. */
	void (*still)(bool still);
	unsigned lives; /* daemons, so far */
	bool booted; /* the power was away: what was not synced may lack anything */
	struct model_file files[MODEL_FILES];
	unsigned file_count;
	char dirs[DIRS_MOST][256];
	unsigned dir_count, serial, clock_looks;
	struct stub_ask *asking; /* the client waits for the daemon; NULL: it does not */
	void (*effect)(void *arg); /* hears of each single thing the client has done, and need not come back; NULL: nobody */
	void *effect_arg;
	struct bases_seen {
		unsigned heads, rows, valid; /* valid: of versions that are there */
	} bases;
};

/* The test has failed: say so and exit; with SIM_LOG its disk stays, to be looked at. */
void die(struct world *w, const char *what, const char *detail) __attribute__((noreturn));

/* A line for SIM_LOG=1, part of what two runs of a seed must have alike. */
void world_trace(struct world *w, const char *what, const char *path, const char *detail);

/* An empty volume with its daemon running, and a client; the store's fence class. */
void world_open(struct world *w, uint64_t seed, int fence_class);
void world_close(struct world *w);
/* Does the power go in this life? SIM_POWER=0|1, else the seed says. */
bool world_is_cut(uint64_t seed);
/* Run until nothing is pending; the store holds exactly the model, or the test has failed. */
void world_drain(struct world *w);
/* The same, and what the store holds is not looked at. */
void world_settle(struct world *w);
void world_verify(struct world *w);
/* Every base in the store agrees with objects and log. */
struct metalog;
void world_verify_bases(struct world *w, struct metalog *ml);
/* Their age passes: no upload in parts is left in the store. */
void world_no_uploads(struct world *w);
/* In two worlds of nine (SIM_CLOCK=0: in none, 1: in all) this machine's clock is set now and then, off by
 * minutes to a year. */
void world_clock(struct world *w);
/* The key of a file: one that is called like a directory has an escape in the tree, "%~NAME%file". */
void world_key(const char *path, char key[300]);
/* A file of the model; NULL: there is none of this path. */
struct model_file *world_file(struct world *w, const char *path);

void daemon_start(struct world *w);
/* kill -9: what was not committed is lost. */
void daemon_kill(struct world *w);
void daemon_restart(struct world *w);
/* It has ended itself somewhere, and its memory cannot be looked at any more; another one is started. */
void daemon_ended(struct world *w);

/* The machine starts again after its power was lost, with what its disk has: the daemon is dead, the client gone. */
void world_boot(struct world *w);

/* The daemon is dead: its disk is lost too, and it comes back on an empty one, ready. */
void world_lose_disk(struct world *w);
/* The daemon is dead: its disk is put away, and a second node is set up in its place, on an empty one, ready. */
void world_second_node(struct world *w);
/* The second node is dead, and its disk lost: the first one's is back as it was, ready; there is no client's change on it
 * that no hint has told, but what the marks say. */
void world_first_node(struct world *w);
/* Listed as a client would, the share has the model's names and no other. */
void world_names(struct world *w);

/* Run until the daemon is READY; false: it is not, so long after. */
bool world_wait_ready(struct world *w, int64_t limit_ns);
/* Has the store all that changed? */
bool world_is_drained(struct world *w);
/* Run so many events; false: everything was done before. */
bool world_run(struct world *w, unsigned count);

/* The client's process: a ring, and the lock on it. */
void client_start(struct world *w);
void client_kill(struct world *w);
/* The machine lost power: the client is gone, and what lay in memory, its hints, with it. */
void client_lost(struct world *w);

/* What the module does; the model follows. */
void client_create(struct world *w, const char *path, const char *text);
void client_write(struct world *w, const char *path, const char *text);
/* Metadata alone. */
void client_set_time(struct world *w, const char *path);
/* Recalled if it has to be; other bytes than the model's: the test has failed. must: so is no bytes. */
void client_read(struct world *w, const char *path, bool must);
/* Its bytes are here, or (empty) none of them; false: they cannot be had, or the name is another's meanwhile. */
bool client_plain(struct world *w, const char *path, bool empty);
/* false: it cannot be listed now, or has gone. */
bool client_lists(struct world *w, const char *path, bool refresh);
/* The daemon is asked to take it from the disk, and may decline. */
void client_evict(struct world *w, const char *path);
/* The same for the names of a directory ("": the root), once its files have been evicted. */
void client_drop(struct world *w, const char *path);
/* The same of stubs, without waiting. */
void client_drop_now(struct world *w, const char *path);
/* Every file that was dropped is asked for, as a module would before it goes on; false: one is missing, and
 * nobody is there to be asked. */
bool client_find(struct world *w);
/* Somebody asks for a name, and does not wait. */
void client_ask(struct world *w, const char *path);
void client_unlink(struct world *w, const char *path);
void client_mkdir(struct world *w, const char *path);
void client_rmdir(struct world *w, const char *path);
/* A file or a directory; a file that is at `to` is replaced. */
void client_rename(struct world *w, const char *from, const char *to);

#endif
