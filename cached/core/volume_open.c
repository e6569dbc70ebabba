/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what a volume has without S3 is made, and ended: shared memory, guard, store, index, rooms.
 * Way: volumes.c; volume_fs.c before all else; then volume.c starts it.
 * Thread: core (main, outside the loop). Owns: every room of the volume, the shared memory, the doorbell.
 * Holds: 1. what cannot be had stops the start, and says what to do. 2. modules that run go on with the shared memory
 * that there is. 3. an index is of the tree beside it, or set aside.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "accounts.h"
#include "announce.h"
#include "ask.h"
#include "nodes.h"
#include "rings.h"
#include "session.h"
#include "volume_private.h"
#include "volume_store.h"
#include "../base/log.h"
#include "../evict/evict.h"
#include "../guard/guard.h"
#include "../mirror/bases.h"
#include "../mirror/mirror.h"
#include "../recall/recall.h"
#include "../reconcile/index.h"
#include "../reconcile/metalog.h"
#include "../reconcile/reconcile.h"
#include "../upload/begun.h"
#include "../verify/verify.h"
#include "shared/version.h"

/* The page set outlives us: modules that run go on with the same locks. */
static int shm_open_file(struct volume_own *o, const char *run, char **error)
{
	struct volume *v = &o->v;
	char *path = talloc_asprintf(v, "%s/%s.shm", run, v->name);
	struct stat st;
	int ret = 0;

	if (path == NULL) {
		return -ENOMEM;
	}
	for (int try = 0; try < 2 && v->shm == NULL; try++) {
		o->shm_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (o->shm_fd < 0 || fstat(o->shm_fd, &st) != 0) {
			ret = -errno;
			break;
		}
		v->shm = ofs_shm_map(o->shm_fd, st.st_size == 0);
		if (v->shm == NULL) {
			/* Damaged, or of another version: a new one; modules get it by reconnecting. */
			ret = -errno;
			log_warning("core", "volume %s: %s cannot be used (%s) and is made anew",
					v->name, path, strerror(-ret));
			(void)unlink(path);
			close(o->shm_fd);
			o->shm_fd = -1;
		}
	}
	if (v->shm == NULL) {
		*error = talloc_asprintf(v, "%s: %s", path, strerror(-ret));
		talloc_free(path);
		return ret != 0 ? ret : -EIO;
	}
	talloc_free(path);
	/* First of all: nothing that an earlier daemon said of extents is believed from here on. */
	atomic_fetch_add(&v->shm->daemon_generation, 1);
	atomic_store(&v->shm->capacity_bytes, (uint64_t)v->conf->capacity_bytes);
	atomic_store(&v->shm->core_sleeps, 1);
	return 0;
}

static int store_open(struct volume_own *o, char **error)
{
	struct volume *v = &o->v;
	char *agent = talloc_asprintf(v, "objectfs/%s node/%.8s", OFS_VERSION, o->core->node_id);

	v->store = volume_store_new(v, o->core->mb, v->conf, agent, error);
	talloc_free(agent);
	if (v->store == NULL) {
		return -EINVAL;
	}
	v->store->log = v->log;
	return 0;
}

static const char *const index_ends[] = {"", "-wal", "-shm"};

/* The tree is new (its disk was lost or emptied) but an index of the old one lies there: it would
 * claim that files are here which are not. */
static void index_set_aside(struct volume *v, const char *path)
{
	int64_t now_s = clock_wall_ns(v->clock) / NS_PER_S;

	if (access(path, F_OK) != 0) {
		return;
	}
	log_warning("core", "volume %s: tree/ is new, the old index is set aside as %s.old-%lld",
			v->name, path, (long long)now_s);
	for (size_t i = 0; i < sizeof(index_ends) / sizeof(index_ends[0]); i++) {
		char *from = talloc_asprintf(v, "%s%s", path, index_ends[i]);
		char *to = talloc_asprintf(v, "%s.old-%lld%s", path, (long long)now_s,
				index_ends[i]);

		if (from != NULL && to != NULL && rename(from, to) != 0 && errno != ENOENT) {
			log_error("core", "volume %s: %s: %s", v->name, from, strerror(errno));
		}
		talloc_free(from);
		talloc_free(to);
	}
}

/* Names of files are nobody's business. */
static void index_close_to_others(struct volume *v, const char *path)
{
	for (size_t i = 0; i < sizeof(index_ends) / sizeof(index_ends[0]); i++) {
		char *file = talloc_asprintf(v, "%s%s", path, index_ends[i]);

		if (file != NULL && chmod(file, 0600) != 0 && errno != ENOENT) {
			log_warning("core", "%s: %s", file, strerror(errno));
		}
		talloc_free(file);
	}
}

static int index_open_file(struct volume_own *o, char **error)
{
	struct volume *v = &o->v;
	bool fresh;
	char *path = talloc_asprintf(v, "%s/index.db", v->path);

	if (path == NULL) {
		return -ENOMEM;
	}
	if (o->new_tree) {
		index_set_aside(v, path);
	}
	v->index = index_open(v, v->disk, v->clock, path, &fresh, error);
	if (v->index != NULL) {
		index_close_to_others(v, path);
	}
	talloc_free(path);
	return v->index != NULL ? 0 : -EIO;
}

static int rooms_new(struct volume_own *o, char **error)
{
	struct volume *v = &o->v;

	v->nodes = nodes_new(v, v, o->core->conf->global.cache_directory);
	v->rings = rings_new(v, v, o->core->conf->global.run_directory);
	v->metalog = metalog_new(v, v);
	v->mirror = mirror_new(v, v);
	v->bases = bases_new(v, v);
	v->recalls = recalls_new(v, v);
	v->reconcile = reconcile_new(v, v);
	v->evictor = evictor_new(v, v);
	v->verifier = verifier_new(v, v);
	v->begun = begun_open(v, v, error);
	v->accounts = accounts_new(v);
	v->asker = asker_new(v, o->core);
	v->announcer = announcer_new(v);
	o->fence = fence_new(v, v);
	o->sure = sure_watch_new(v, v);
	if (v->nodes == NULL || v->rings == NULL || v->metalog == NULL || v->mirror == NULL ||
			v->bases == NULL || v->recalls == NULL || v->verifier == NULL || v->reconcile == NULL ||
			v->evictor == NULL || v->begun == NULL || v->accounts == NULL ||
			v->asker == NULL || v->announcer == NULL || o->fence == NULL || o->sure == NULL) {
		*error = *error != NULL ? *error : talloc_strdup(v, "out of memory, or no descriptors left");
		return -ENOMEM;
	}
	return volume_ticks(o);
}

/* Does smbd run in this process, with our module on this volume? While it is between two connections,
 * its ring says so. */
static bool volume_knows(void *arg, pid_t pid)
{
	struct volume_own *o = arg;

	return server_has_process(o->core, &o->v, pid) || rings_have_writer(o->v.rings, pid);
}

static struct volume *volume_build(
		struct core *core, const struct conf_volume *cv, char **error)
{
	struct volume_own *o = talloc_zero(core, struct volume_own);
	struct volume *v = (struct volume *)o;
	char *why = NULL;
	int ret;

	if (o == NULL) {
		return NULL;
	}
	o->core = core;
	o->shm_fd = o->doorbell_fd = -1;
	o->retry_ns = VOLUME_RETRY_FIRST_NS;
	v->path_fd = v->tree_fd = v->trash_fd = v->limbo_fd = v->blocks_fd = -1;
	v->name = cv->name;
	v->log = log_here();
	v->conf = cv;
	v->clock = core->clock;
	v->disk = core->disk;
	v->coord = core->coord;
	v->prefix = cv->prefix != NULL ? cv->prefix : "";
	v->state = VOLUME_CONNECTING;
	v->state_why = talloc_strdup(v, "not yet connected");
	memcpy(v->node_id, core->node_id, sizeof(v->node_id));

	ret = volume_fs_open(v, core, &o->new_tree, &why);
	if (ret == 0) {
		ret = shm_open_file(o, core->conf->global.run_directory, &why);
	}
	if (ret == 0) {
		ret = guard_open(v, core->mb, volume_knows, o, &v->guard, &why);
	}
	if (ret == 0) {
		ret = store_open(o, &why);
	}
	if (ret == 0) {
		ret = index_open_file(o, &why);
	}
	if (ret == 0) {
		ret = rooms_new(o, &why);
	}
	if (ret != 0) {
		*error = talloc_strdup(core, why != NULL ? why : strerror(-ret));
		volume_stop_store(v);
		volume_close(&v);
		return NULL;
	}
	log_info("core", "volume %s: mirror %s/tree, records in %s, %llu rows, %s", v->name, v->path,
			v->rio.xattr, (unsigned long long)index_count(v->index), v->store->where);
	return v;
}

struct volume *volume_open(struct core *core, const struct conf_volume *cv, char **error)
{
	const struct log_volume *before = log_enter(log_volume(cv->name));
	struct volume *v = volume_build(core, cv, error);

	(void)log_enter(before);
	return v;
}

void volume_stop_store(struct volume *v)
{
	TALLOC_FREE(v->store);
}

void volume_close(struct volume **vp)
{
	struct volume *v = *vp;
	struct volume_own *o;

	if (v == NULL) {
		return;
	}
	o = volume_own(v);
	*vp = NULL;
	TALLOC_FREE(o->retry);
	TALLOC_FREE(o->tick);
	TALLOC_FREE(o->doorbell_fde);
	TALLOC_FREE(v->announcer); /* whoever ends now has nobody to tell */
	TALLOC_FREE(v->asker);
	TALLOC_FREE(v->accounts);
	TALLOC_FREE(v->evictor);
	TALLOC_FREE(v->reconcile);
	TALLOC_FREE(v->recalls);
	TALLOC_FREE(v->mirror);
	TALLOC_FREE(v->metalog);
	TALLOC_FREE(v->rings);
	if (v->index != NULL) {
		index_close(&v->index);
	}
	guard_close(&v->guard);
	if (o->doorbell_fd >= 0) {
		close(o->doorbell_fd);
	}
	if (v->shm != NULL) {
		/* Nobody listens: a module need not ring. The file stays. */
		atomic_store(&v->shm->core_sleeps, 0);
		ofs_shm_unmap(&v->shm);
	}
	if (o->shm_fd >= 0) {
		close(o->shm_fd);
	}
	volume_fs_close(v);
	talloc_free(o);
}

int volume_shm_fd(struct volume *v)
{
	return volume_own(v)->shm_fd;
}

int volume_doorbell_fd(struct volume *v)
{
	return volume_own(v)->doorbell_fd;
}

int volume_intent_open(struct volume *v)
{
	/* path_fd is O_PATH, which serves as a start for openat. */
	int fd = openat(v->path_fd, "intent",
			O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 ? -errno : fd;
}
