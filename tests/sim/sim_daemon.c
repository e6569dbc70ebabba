/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the daemon of a world: it is started as core/volume.c starts one, is killed, or has ended itself.
 * Way: from the sim programs and sim_world.c; into the core's rooms.
 * Thread: one.
 * Owns: the volume and its rooms.
 * Holds: of a daemon that died nothing is left but what is on disk: no descriptor, no row that was not committed.
 */
#include "sim_world.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cached/core/nodes.h"
#include "cached/core/rings.h"
#include "cached/core/volrec.h"
#include "cached/evict/evict.h"
#include "cached/mirror/bases.h"
#include "cached/mirror/mirror_private.h"
#include "cached/recall/recall.h"
#include "cached/reconcile/index_priv.h"
#include "cached/reconcile/metalog.h"
#include "cached/reconcile/reconcile.h"
#include "cached/upload/begun.h"
#include "cached/upload/blocks.h"
#include "sim_tally.h"

#define OTHER_BOOT "11111111-2222-3333-4444-555555555555\n"

/* The doors are faulty on purpose: again, as the daemon does. */
static void again(struct world *w, void (*step)(void *arg))
{
	if (w->restarts != NULL) { /* perhaps at once: later */
		(void)clock_timer_add(w->v->clock, w->v, clock_now_ns(w->v->clock) + NS_PER_S, step, w);
	} else {
		step(w);
	}
}

static void on_adopted(int status, const char *message, void *arg);
static void on_log(int status, const char *message, void *arg);
static void on_nodes(int status, const char *message, void *arg);
static void on_record(int status, const char *message, void *arg);

static void step_adopt(void *arg)
{
	struct world *w = arg;

	reconcile_adopt(w->v, on_adopted, w);
}

static void step_log(void *arg)
{
	struct world *w = arg;

	metalog_load(w->v->metalog, on_log, w);
}

static void step_nodes(void *arg)
{
	struct world *w = arg;

	nodes_open(w->v->nodes, w->seed % 5 == 0, on_nodes, w);
}

static void step_record(void *arg)
{
	struct world *w = arg;

	volrec_open(w->v, on_record, w);
}

static void on_adopted(int status, const char *message, void *arg)
{
	struct world *w = arg;
	int was;

	if (status != 0) {
		again(w, step_adopt);
		return;
	}
	(void)message;
	w->v->state = VOLUME_READY;
	was = sim_leave(w->sim);
	world_verify_bases(w, w->v->metalog); /* which is as it was read now */
	sim_back(w->sim, was);
	reconcile_start(w->v->reconcile);
	if (w->parts) {
		blocks_sweep(w->v);
		begun_start(w->v->begun);
	}
	evictor_start(w->v->evictor);
	bases_start(w->v->bases);
}

static void on_log(int status, const char *message, void *arg)
{
	struct world *w = arg;

	if (status == -EBADMSG) {
		die(w, "metadata log", message ? message : "damaged");
	}
	if (status != 0) {
		again(w, step_log);
		return;
	}
	step_adopt(w);
}

static void on_nodes(int status, const char *message, void *arg)
{
	struct world *w = arg;

	if (status == -EBUSY) {
		die(w, "nodes", message);
	}
	if (status != 0) {
		again(w, step_nodes);
		return;
	}
	step_log(w);
}

static void on_record(int status, const char *message, void *arg)
{
	struct world *w = arg;

	if (status == -ESTALE || status == -EPROTONOSUPPORT) {
		die(w, "volume record", message ? message : "?");
	}
	if (status != 0) {
		again(w, step_record);
		return;
	}
	step_nodes(w);
}

static struct volume *volume_make(struct world *w)
{
	struct volume *v = talloc_zero(NULL, struct volume);
	struct ofs_record root;

	if (w->killed) {
		tally_crash();
	}
	v->root_known = ofs_record_get(&w->rio, w->tree_fd, &root) == 0 &&
			(root.flags & OFS_REC_KNOWN) != 0;
	v->name = "sim";
	v->conf = &w->conf;
	v->clock = sim_clock(w->sim);
	v->disk = sim_disk(w->sim);
	v->coord = sim_coord(w->sim);
	v->store = sim_store(w->sim, v);
	v->rio = w->rio;
	v->path = w->root;
	v->path_fd = w->path_fd;
	v->tree_fd = w->tree_fd;
	v->trash_fd = w->trash_fd;
	v->limbo_fd = w->limbo_fd;
	v->blocks_fd = w->blocks_fd;
	v->shm = w->shm;
	v->prefix = "p/";
	v->state_why = talloc_strdup(v, "starting");
	snprintf(v->node_id, sizeof(v->node_id), "%s", w->node);
	return v;
}

/* Of core/volume.c's, what goes on after a failure. */
static void tick(void *arg)
{
	struct volume *v = arg;

	index_tick(v->index);
	rings_drain(v->rings);
	(void)clock_timer_add(v->clock, v, clock_now_ns(v->clock) + NS_PER_S, tick, v);
}

/* As core/volume.c does: what is not made, is not started. */
static void rooms_make(void *arg)
{
	struct world *w = arg;
	struct volume *v = w->v;
	char path[128], *error = NULL;
	bool fresh;

	snprintf(path, sizeof(path), "%s/index.db", w->root);
	v->index = index_open(v, v->disk, v->clock, path, &fresh, &error);
	if (v->index == NULL) {
		if (w->restarts == NULL) {
			die(w, "index", error);
		}
		return;
	}
	v->begun = w->parts ? begun_open(v, v, &error) : NULL;
	if (v->begun == NULL && w->parts) {
		if (w->restarts == NULL) {
			die(w, "uploads", error);
		}
		return;
	}
	v->nodes = nodes_new(v, v, "/sim");
	v->rings = rings_new(v, v, w->root);
	v->metalog = metalog_new(v, v);
	v->mirror = mirror_new(v, v);
	v->bases = bases_new(v, v);
	v->recalls = recalls_new(v, v);
	v->reconcile = reconcile_new(v, v);
	v->evictor = evictor_new(v, v);
	if (v->nodes == NULL || v->rings == NULL || v->metalog == NULL || v->mirror == NULL || v->bases == NULL ||
			v->recalls == NULL || v->reconcile == NULL || v->evictor == NULL) {
		return;
	}
	v->mirror->list_turn = 2; /* whatever happens, happens in the middle of a listing, too */
	w->lives++;
	if (w->restarts != NULL) {
		tick(v);
	}
	step_record(w);
}

void daemon_start(struct world *w)
{
	unsigned before = w->lives;

	w->v = volume_make(w);
	/* One that ended itself has been followed by another. */
	if (sim_enter(w->sim, rooms_make, w) && w->lives == before) {
		if (w->restarts == NULL) {
			die(w, "no daemon", "out of memory");
		}
		world_trace(w, "daemon refused to start", "", "");
		w->restarts(w);
		daemon_restart(w);
	}
}

/* Closing an index writes what is left; a killed daemon does not. Its file and log as they are now. */
static void index_files(struct world *w, const char *from, const char *to)
{
	static const char *const tails[] = {"", "-wal"};
	unsigned i;

	for (i = 0; i < 2; i++) {
		char source[64], target[64];
		int in, out;
		off_t at = 0;
		struct stat st;

		snprintf(source, sizeof(source), "%s%s", from, tails[i]);
		snprintf(target, sizeof(target), "%s%s", to, tails[i]);
		unlinkat(w->path_fd, target, 0);
		in = openat(w->path_fd, source, O_RDONLY);
		if (in < 0) {
			continue;
		}
		out = openat(w->path_fd, target, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		if (fstat(in, &st) != 0 || out < 0) {
			die(w, target, strerror(errno));
		}
		while (at < st.st_size && sendfile(out, in, &at, (size_t)(st.st_size - at)) > 0) {
		}
		if (at < st.st_size) {
			die(w, target, strerror(errno));
		}
		close(in);
		close(out);
	}
}

/* What waited for a commit is nobody's now: reachable, as sim.c's jobs and requests are, for a leak checker. */
static struct index_wait *killed_with;

static void index_orphans(struct index *ix)
{
	while (ix->waits != NULL) {
		struct index_wait *wait = ix->waits;

		ix->waits = wait->next;
		wait->next = killed_with;
		killed_with = wait;
	}
	ix->waits_tail = &ix->waits;
}

static int compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* The daemon's descriptors, as the kernel does: with them go its leases. */
static void daemon_close_all(struct world *w)
{
	int kept[7 + HANDLES_MOST] = {w->path_fd, w->tree_fd, w->trash_fd, w->limbo_fd, w->blocks_fd, w->shm_fd, w->ring.fd};
	int first = w->first_fd;

	memcpy(kept + 7, w->handle_fds, sizeof(w->handle_fds));
	qsort(kept, 7 + HANDLES_MOST, sizeof(kept[0]), compare_fds);
	for (unsigned i = 0; i < 7 + HANDLES_MOST; i++) {
		if (kept[i] > first) {
			close_range((unsigned)first, (unsigned)kept[i] - 1, 0);
		}
		first = kept[i] >= first ? kept[i] + 1 : first;
	}
	close_range((unsigned)first, ~0U, 0);
}

void daemon_kill(struct world *w)
{
	struct volume *v = w->v;

	world_trace(w, "daemon killed", "", "");
	sim_crash(w->sim);
	TALLOC_FREE(v->reconcile);
	TALLOC_FREE(v->recalls);
	TALLOC_FREE(v->bases);
	TALLOC_FREE(v->mirror);
	TALLOC_FREE(v->metalog);
	TALLOC_FREE(v->rings);
	if (w->still != NULL) {
		w->still(true);
	} else {
		index_files(w, "index.db", "index.killed");
	}
	if (v->index != NULL) {
		index_orphans(v->index);
		talloc_free(v->index);
	}
	if (w->still != NULL) {
		w->still(false);
	} else {
		index_files(w, "index.killed", "index.db");
	}
	talloc_free(v);
	daemon_close_all(w);
	w->v = NULL;
	w->killed = true;
}

void daemon_restart(struct world *w)
{
	daemon_kill(w);
	daemon_start(w);
}

void daemon_ended(struct world *w)
{
	world_trace(w, "daemon ended itself", "", "");
	w->restarts(w);
	sim_crash(w->sim);
	for (uint32_t i = 0; i < OFS_SHM_STRIPES; i++) { /* the kernel marks them: robust */
		if (w->shm->stripe[i].lock.__data.__owner == gettid()) {
			pthread_mutex_unlock(&w->shm->stripe[i].lock);
		}
	}
	index_files(w, "index.db", "index.killed");
	unlinkat(w->path_fd, "index.db-shm", 0);
	index_files(w, "index.killed", "index.db");
	w->v = NULL;
	daemon_start(w);
}

void world_boot(struct world *w)
{
	int fd = openat(w->path_fd, "boot-id", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	w->booted = true;
	client_lost(w);
	unlinkat(w->path_fd, "index.db-shm", 0);
	ofs_shm_unmap(&w->shm);
	if (ftruncate(w->shm_fd, 0) != 0 || (w->shm = ofs_shm_map(w->shm_fd, true)) == NULL) {
		die(w, "shm", strerror(errno));
	}
	if (fd < 0 || pwrite(fd, OTHER_BOOT, strlen(OTHER_BOOT), 0) < 0 || fsync(fd) != 0) {
		die(w, "boot-id", strerror(errno));
	}
	close(fd);
	daemon_start(w);
	client_start(w);
}
