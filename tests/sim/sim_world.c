/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the world of sim_world.h, from its first disk to its last: its scratch directory, its settings, its model.
 * Way: from the sim programs; sim_daemon.c is the daemon, sim_client.c the client, sim_verify.c the judge.
 * Thread: one.
 * Owns: the scratch directory and its descriptors, the shared memory, the simulated doors.
 * Holds: what fails here ends the program and names the seed.
 */
#include "sim_world.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/reconcile/reconcile.h"
#include "sim_tally.h"
#include "tests/lib/scratch.h"

void die(struct world *w, const char *what, const char *detail)
{
	fprintf(stderr, "%s: seed %llu: %s: %s\n", program_invocation_short_name, (unsigned long long)w->seed, what,
			detail);
	tally_print();
	if (getenv("SIM_LOG") == NULL) {
		scratch_remove(w->root);
	} else {
		fprintf(stderr, "its disk is in %s\n", w->root);
	}
	exit(1);
}

void world_trace(struct world *w, const char *what, const char *path, const char *detail)
{
	sim_note(w->sim, what, path);
	log_debug("module", "%s %s %s", what, path, detail);
}

/* ---- the model ---- */

void world_key(const char *path, char key[300])
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	if (strncmp(name, "%~", 2) == 0) {
		snprintf(key, 300, "p/%.*s%.*s", (int)(name - path), path, (int)strlen(name) - 7, name + 2);
	} else {
		snprintf(key, 300, "p/%s", path);
	}
}

struct model_file *world_file(struct world *w, const char *path)
{
	unsigned i;

	for (i = 0; i < w->file_count; i++) {
		if (strcmp(w->files[i].path, path) == 0) {
			return &w->files[i];
		}
	}
	return NULL;
}

bool world_is_drained(struct world *w)
{
	json_t *left;
	bool none;

	if (w->v->state != VOLUME_READY) {
		return false;
	}
	left = reconcile_pending(w->v->reconcile, 1);
	none = json_array_size(left) == 0;
	json_decref(left);
	return none;
}

bool world_run(struct world *w, unsigned count)
{
	while (count-- > 0) {
		if (world_is_drained(w) || !sim_step(w->sim)) {
			return false;
		}
	}
	return true;
}

static bool is_ready(void *arg)
{
	return ((struct world *)arg)->v->state == VOLUME_READY;
}

bool world_wait_ready(struct world *w, int64_t limit_ns)
{
	return sim_run_until(w->sim, is_ready, w, limit_ns);
}

/* ---- another disk ---- */

#define SECOND_NODE "ffeeddccbbaa99887766554433221100"
#define AWAY "away" /* the disk of a node that does not serve */

static void disk_open(struct world *w)
{
	w->tree_fd = openat(w->path_fd, "tree", O_RDONLY | O_DIRECTORY);
	w->trash_fd = openat(w->path_fd, "trash", O_RDONLY | O_DIRECTORY);
	w->limbo_fd = openat(w->path_fd, "limbo", O_RDONLY | O_DIRECTORY);
	w->blocks_fd = openat(w->path_fd, "blocks", O_RDONLY | O_DIRECTORY);
}

static void disk_new(struct world *w)
{
	struct ofs_record root = {.flags = OFS_REC_DIR | (w->lost ? 0 : OFS_REC_LISTED)};

	mkdirat(w->path_fd, "tree", 0777);
	mkdirat(w->path_fd, "trash", 0700);
	mkdirat(w->path_fd, "limbo", 0700);
	mkdirat(w->path_fd, "blocks", 0700);
	disk_open(w);
	root.oid = OFS_OID_ROOT;
	if (w->tree_fd < 0 || ofs_record_set(&w->rio, w->tree_fd, &root) != 0) {
		die(w, "mirror", strerror(errno));
	}
}

static void disk_close(struct world *w)
{
	close(w->blocks_fd);
	close(w->limbo_fd);
	close(w->trash_fd);
	close(w->tree_fd);
}

/* What is on it, from one directory below the root into another; into NULL: it is no more. Shared memory stays. */
static void disk_move(struct world *w, const char *from, const char *to)
{
	char path[400];
	struct dirent *de;
	DIR *d = fdopendir(openat(w->path_fd, from, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	int to_fd = to != NULL ? openat(w->path_fd, to, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	while (d != NULL && (de = readdir(d)) != NULL) {
		if (de->d_name[0] == '.' || strcmp(de->d_name, "shm") == 0 || strcmp(de->d_name, AWAY) == 0) {
			continue;
		}
		snprintf(path, sizeof(path), "%s/%s/%s", w->root, from, de->d_name);
		if (to == NULL) {
			scratch_remove(path);
		} else if (renameat(dirfd(d), de->d_name, to_fd, de->d_name) != 0) {
			die(w, path, strerror(errno));
		}
	}
	closedir(d);
	if (to_fd >= 0) {
		close(to_fd);
	}
}

static void node_start(struct world *w)
{
	daemon_start(w);
	client_start(w);
	if (!world_wait_ready(w, w->restarts != NULL ? WORLD_FLUSH_NS : WORLD_DRAIN_NS) && w->restarts == NULL) {
		die(w, "not ready", w->v->state_why);
	}
}

static void node_stop(struct world *w)
{
	client_lost(w);
	disk_close(w);
	sim_uploads_end(w->sim); /* nobody knows of them any more */
}

void world_lose_disk(struct world *w)
{
	node_stop(w);
	disk_move(w, ".", NULL);
	w->lost = true;
	disk_new(w);
	node_start(w);
}

void world_second_node(struct world *w)
{
	node_stop(w);
	mkdirat(w->path_fd, AWAY, 0700);
	disk_move(w, ".", AWAY);
	w->node = SECOND_NODE;
	w->lost = true;
	disk_new(w);
	node_start(w);
}

void world_first_node(struct world *w)
{
	node_stop(w);
	disk_move(w, ".", NULL);
	disk_move(w, AWAY, ".");
	w->node = WORLD_NODE;
	disk_open(w);
	node_start(w);
}

/* ---- the world ---- */

bool world_is_cut(uint64_t seed)
{
	const char *forced = getenv("SIM_POWER");

	return forced != NULL ? atoi(forced) != 0 : seed % 11 == 1 || seed % 11 == 5 || seed % 11 == 9;
}

void world_open(struct world *w, uint64_t seed, int fence_class)
{
	memset(w, 0, sizeof(*w));
	w->seed = seed;
	w->sim = sim_new(seed);
	sim_set_fence(w->sim, fence_class);
	w->parts = getenv("SIM_PARTS") != NULL ? atoi(getenv("SIM_PARTS")) != 0 : seed % 7 == 4;
	if (w->parts) {
		sim_set_parts(w->sim);
	}
	scratch_in_memory();
	scratch_make(w->root, sizeof(w->root), "sim");
	for (unsigned i = 0; i < HANDLES_MOST; i++) {
		w->handle_fds[i] = -1;
	}
	w->path_fd = w->first_fd = open(w->root, O_RDONLY | O_DIRECTORY);
	w->shm_fd = openat(w->path_fd, "shm", O_RDWR | O_CREAT, 0600);
	w->shm = ofs_shm_map(w->shm_fd, true);
	snprintf(w->rio.xattr, sizeof(w->rio.xattr), "%s", OFS_RECORD_XATTR_USER);
	if (w->shm == NULL) {
		die(w, "shm", strerror(errno));
	}
	disk_new(w);
	w->node = WORLD_NODE;
	w->conf.name = "sim";
	w->conf.settle_time_ns = 5 * NS_PER_S;
	w->conf.settle_limit_ns = 60 * NS_PER_S;
	w->conf.listing_age_ns = 900 * NS_PER_S;
	w->conf.part_size_bytes = w->parts ? 4 : 8 << 20;
	w->conf.delta_above_bytes = w->parts && seed % 3 != 0 ? 1 : 0;
	w->conf.upload_age_ns = 7200 * NS_PER_S;
	w->conf.copy_limit_bytes = 5LL << 30;
	w->conf.compare_limit_bytes = 64 << 20;
	w->conf.parallel_uploads = 8;
	w->conf.parallel_fetches = 16;
	/* A flush does not wait for it. In two worlds of three segments are many, and folded. */
	w->conf.log_flush_ns = seed % 3 == 0 ? 3600 * NS_PER_S : 3 * NS_PER_S;
	w->conf.log_fold = 2;
	w->conf.base_names = 3;
	w->conf.base_quiet_ns = 8 * NS_PER_S;
	w->conf.capacity_bytes = 1LL << 40;
	/* A block is 4 KiB: some ten files stay, less in every third world. */
	w->conf.cache_size_bytes = seed % 3 == 0 ? 16 << 10 : 48 << 10;
	w->conf.cache_high = 90;
	w->conf.cache_low = 60;
	daemon_start(w);
	client_start(w);
}

/* Of its own numbers: what else a seed decides stays as it is. */
void world_clock(struct world *w)
{
	static const int64_t ahead_s[] = {0, 1200, -1200, 7200, -7200, 400 * 86400, -400 * 86400, 0};
	const char *forced = getenv("SIM_CLOCK");
	uint64_t n = (w->seed << 20) + ++w->clock_looks;

	if (forced != NULL ? atoi(forced) == 0 : w->seed % 9 != 5 && w->seed % 9 != 8) {
		return;
	}
	n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9;
	n = (n ^ n >> 27) * 0x94d049bb133111eb;
	if (n >> 32 & 7) {
		return;
	}
	log_debug("module", "the clock is set, %lld s ahead", (long long)ahead_s[n & 7]);
	sim_set_clock(w->sim, ahead_s[n & 7] * NS_PER_S);
}

void world_close(struct world *w)
{
	ofs_ring_writer_fini(&w->ring);
	daemon_kill(w);
	ofs_shm_unmap(&w->shm);
	close(w->shm_fd);
	disk_close(w);
	close(w->path_fd);
	tally_time(clock_now_ns(sim_clock(w->sim)));
	sim_free(&w->sim);
	scratch_remove(w->root);
}
