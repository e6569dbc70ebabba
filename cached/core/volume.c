/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the life of one volume between open and close: its way to S3, and what keeps it moving.
 * Way: volumes.c starts what volume_open.c has made; its rooms ask volume_when_ready; timers keep index and rings
 * moving. Thread: core. Owns: the timers, those who wait for READY.
 * Holds: (1) nothing is sent to S3 besides the probe and the volume record before the record is known to be
 * ours; nothing more where the record asks of writers what we lack. (2) HELD and CONNECTING are tried again
 * for ever; a why is logged once.
 *
 *  CONNECTING -probe-> -volume record-> -who else serves?-> -read the logs-> -finish renames-> READY [volume_ready]
 *      ^  failure: try again later [volume_retry]
 *      ^  READY, and versioning was switched [volume_probe_again]: who else serves?, if nobody is kept apart
 *      +--- HELD: wrong or emptied bucket, unknown format, missing log, no conditions [volume_hold]
 *      +--- READY, and it is not our bucket any more [volume_doubt]
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "accounts.h"
#include "core.h"
#include "fence.h"
#include "keycheck.h"
#include "nodes.h"
#include "overlap.h"
#include "rings.h"
#include "volrec.h"
#include "volume_private.h"
#include "../base/log.h"
#include "../evict/evict.h"
#include "../guard/guard.h"
#include "../mirror/bases.h"
#include "../mirror/mirror.h"
#include "../reconcile/index.h"
#include "../reconcile/metalog.h"
#include "../reconcile/reconcile.h"
#include "../upload/begun.h"
#include "../upload/blocks.h"
#include "../verify/verify.h"

#define RETRY_MOST_NS (15 * NS_PER_S)
#define RETRY_HELD_NS (60 * NS_PER_S)
#define TICK_NS (100 * NS_PER_MS)
#define TICKS_PER_S 10

struct volume_wait {
	struct volume_wait *next, **prev;
	struct volume *v;
	struct clock_timer *timer;
	void (*fn)(struct volume *v, void *arg, int status);
	void *arg;
};

static void volume_connect(void *arg);

/* ---- waiting for READY ---- */

static void wait_end(struct volume_wait *w, int status)
{
	*w->prev = w->next;
	if (w->next != NULL) {
		w->next->prev = w->prev;
	}
	TALLOC_FREE(w->timer);
	w->fn(w->v, w->arg, status);
	talloc_free(w);
}

static void wait_expired(void *arg)
{
	struct volume_wait *w = arg;

	w->timer = NULL; /* freed by the clock */
	wait_end(w, -ETIMEDOUT);
}

static int stuck_status(const struct volume *v)
{
	return v->denied ? -EACCES : -EIO;
}

void volume_when_ready(struct volume *v, int64_t deadline_ns,
		void (*fn)(struct volume *v, void *arg, int status), void *arg)
{
	struct volume_wait *w;

	if (v->state != VOLUME_CONNECTING) {
		fn(v, arg, v->state == VOLUME_READY ? 0 : -EIO);
		return;
	}
	if (v->stuck) {
		fn(v, arg, stuck_status(v));
		return;
	}
	w = talloc_zero(v, struct volume_wait);
	if (w == NULL) {
		fn(v, arg, -ENOMEM);
		return;
	}
	w->v = v;
	w->fn = fn;
	w->arg = arg;
	w->timer = clock_timer_add(
			v->clock, w, clock_now_ns(v->clock) + deadline_ns, wait_expired, w);
	if (w->timer == NULL) {
		talloc_free(w);
		fn(v, arg, -ENOMEM);
		return;
	}
	w->next = v->waiting;
	w->prev = &v->waiting;
	if (w->next != NULL) {
		w->next->prev = &w->next;
	}
	v->waiting = w;
}

static void waits_wake(struct volume *v, int status)
{
	/* One at a time from the head: a callback may add or end others. */
	while (v->waiting != NULL && (v->state != VOLUME_CONNECTING || v->stuck)) {
		wait_end(v->waiting, status);
	}
}

/* ---- states ---- */

const char *volume_state_name(enum volume_state s)
{
	switch (s) {
	case VOLUME_CONNECTING:
		return "connecting";
	case VOLUME_READY:
		return "ready";
	case VOLUME_HELD:
		return "held";
	}
	return "?";
}

enum log_level volume_trouble_level(const struct volume *v, enum log_level level)
{
	return v->state != VOLUME_READY ? LOG_LVL_DEBUG : objstore_trouble_level(v->store, level);
}

static void state_set(struct volume *v, enum volume_state state, const char *why)
{
	bool changed = v->state != state || v->state_why == NULL || why == NULL ||
		       strcmp(v->state_why, why) != 0;

	v->state = state;
	v->tried = true;
	if (!changed) {
		return;
	}
	TALLOC_FREE(v->state_why);
	if (why != NULL) {
		v->state_why = talloc_strdup(v, why);
	}
	if (state == VOLUME_READY) {
		log_notice("core", "volume %s: ready, %s, fence class F%d", v->name, v->store->where,
				v->store->caps.fence_class);
	} else {
		log_warning("core", "volume %s: %s: %s", v->name, volume_state_name(state), why);
	}
}

static void retry_at(struct volume_own *o, int64_t delay_ns)
{
	struct volume *v = &o->v;

	TALLOC_FREE(o->retry);
	o->retry = clock_timer_add(
			v->clock, v, clock_now_ns(v->clock) + delay_ns, volume_connect, o);
	if (o->retry == NULL) {
		log_error("core", "volume %s: out of memory, not tried again", v->name);
	}
}

/* Not reached: try again. Somebody must act first: slowly. */
static void volume_retry(struct volume_own *o, bool transient, const char *why)
{
	o->v.away = true;
	if (o->v.state != VOLUME_HELD) {
		state_set(&o->v, VOLUME_CONNECTING, why);
	}
	o->v.stuck = !transient;
	if (!transient) {
		o->retry_ns = RETRY_MOST_NS;
		waits_wake(&o->v, stuck_status(&o->v));
	}
	retry_at(o, o->retry_ns);
	o->retry_ns = o->retry_ns * 2 > RETRY_MOST_NS ? RETRY_MOST_NS : o->retry_ns * 2;
}

static void volume_hold(struct volume_own *o, const char *why)
{
	state_set(&o->v, VOLUME_HELD, why);
	retry_at(o, RETRY_HELD_NS);
	waits_wake(&o->v, -EIO);
}

static void volume_ready(struct volume_own *o)
{
	struct volume *v = &o->v;
	const struct row *root = index_get(v->index, &OFS_OID_ROOT);

	state_set(v, VOLUME_READY, NULL);
	o->retry_ns = VOLUME_RETRY_FIRST_NS;
	v->away = false;
	v->denied = false;
	v->stuck = false;
	if (!o->started) {
		o->started = true;
		sure_watch_start(o->sure);
		reconcile_start(v->reconcile);
		blocks_sweep(v);
		begun_start(v->begun);
		evictor_start(v->evictor);
		verifier_start(v->verifier);
		mirror_start(v->mirror);
		bases_start(v->bases);
		accounts_ready(v->accounts);
		if (root != NULL && root->etag != NULL) {
			volume_root_kept(v); /* written before records said so */
		}
		if (v->on_ready != NULL) {
			v->on_ready(v);
		}
	}
	volume_seen(v);
	waits_wake(v, 0);
}

/* A step on the way to READY did not come out: later again, or held. */
static void volume_not_yet(struct volume_own *o, bool hold, bool transient, int status, const char *message)
{
	const char *why = message != NULL && message[0] != '\0' ? message : strerror(-status);

	if (hold) {
		volume_hold(o, why);
		return;
	}
	o->v.denied = status == -EACCES;
	volume_retry(o, transient, why);
}

static void on_adopted(int status, const char *message, void *arg)
{
	if (status == 0) {
		volume_ready(arg);
	} else {
		volume_not_yet(arg, status == -EBADMSG, status != -EACCES, status, message);
	}
}

static void on_metalog(int status, const char *message, void *arg)
{
	struct volume_own *o = arg;

	if (status == 0) {
		reconcile_adopt(&o->v, on_adopted, o);
	} else {
		volume_not_yet(o, status == -EBADMSG, status != -EACCES, status, message);
	}
}

static void on_nodes(int status, const char *message, void *arg)
{
	struct volume_own *o = arg;

	if (status != 0) {
		if (status == -ESTALE) {
			volume_not_seen(&o->v);
		}
		volume_not_yet(o, status == -EBUSY || status == -ESTALE, status != -EACCES, status, message);
	} else if (o->started) {
		o->probed = true;
		volume_ready(o);
	} else {
		metalog_load(o->v.metalog, on_metalog, o);
	}
}

static void volume_nodes(struct volume_own *o)
{
	nodes_open(o->v.nodes, o->v.store->caps.fence_class == 0, on_nodes, o);
}

static void on_key_made(int status, const char *message, void *arg)
{
	if (status == 0) {
		volume_nodes(arg);
	} else {
		volume_not_yet(arg, status == -EBADMSG, status == -EAGAIN, status, message);
	}
}

static void on_volrec(int status, const char *message, void *arg)
{
	struct volume_own *o = arg;
	const struct volume *twin = status == 0 || status == -EROFS ? overlap_twin(o->core, &o->v) : NULL;

	if (twin != NULL) {
		char *why = talloc_asprintf(o, "volume %s of this daemon is the same one (%s): one of the two has "
				"the wrong bucket, or a copy of another's .objectfs/volume", twin->name,
				twin->store->where);

		volume_hold(o, why != NULL ? why : "another volume of this daemon is the same one");
		talloc_free(why);
		return;
	}
	switch (status) {
	case 0:
		o->v.served = true;
		volume_read_only(&o->v, NULL);
		if (o->key_missing) {
			keycheck_open(&o->v, true, on_key_made, o);
		} else {
			volume_nodes(o);
		}
		return;
	case -EROFS: /* nor do we say that we are here */
		o->v.served = true;
		volume_read_only(&o->v, message != NULL ? message : "");
		metalog_load(o->v.metalog, on_metalog, o);
		return;
	case -ESTALE:
		volume_not_seen(&o->v);
		/* fall through */
	default:
		volume_not_yet(o, status == -ESTALE || status == -EPROTONOSUPPORT || status == -EBADMSG,
				status == -EAGAIN, status, message);
		return;
	}
}

static void on_key(int status, const char *message, void *arg)
{
	struct volume_own *o = arg;

	o->key_missing = status == -ENOENT;
	if (status == 0 || status == -ENOENT) {
		volrec_open(&o->v, on_volrec, o);
	} else {
		volume_not_yet(o, status == -EBADMSG, status == -EAGAIN, status, message);
	}
}

static void volume_records(struct volume_own *o)
{
	if (o->v.conf->encryption == CONF_SSE_CUSTOMER) {
		keycheck_open(&o->v, false, on_key, o);
	} else {
		volrec_open(&o->v, on_volrec, o);
	}
}

static void on_probe(enum obj_status status, const char *message, void *arg)
{
	struct volume_own *o = arg;
	struct volume *v = &o->v;
	const char *why;

	if (status != OBJ_OK) {
		v->denied = status == OBJ_DENIED;
		volume_retry(o, objstore_status_transient(status),
				message != NULL ? message : objstore_status_name(status));
		return;
	}
	why = fence_refusal(v->store);
	if (why != NULL) {
		volume_hold(o, why);
		return;
	}
	if (o->started && v->store->caps.fence_class == 0) {
		volume_nodes(o); /* by now it keeps nobody apart: are we alone? */
		return;
	}
	o->probed = true;
	if (o->started) {
		volume_ready(o);
		return;
	}
	volume_records(o);
}

static void on_alone(int status, const char *message, void *arg)
{
	struct volume_own *o = arg;

	if (status != 0) {
		volume_not_yet(o, status == -ESTALE, true, status, message);
		return;
	}
	o->alone = true;
	objstore_probe(o->v.store, o->v.prefix, on_probe, o);
}

static void volume_connect(void *arg)
{
	struct volume_own *o = arg;

	o->retry = NULL;
	if (!o->alone) {
		overlap_above(&o->v, on_alone, o);
	} else if (o->probed) {
		volume_records(o);
	} else {
		objstore_probe(o->v.store, o->v.prefix, on_probe, o);
	}
}

/* What the way to READY found is not so any more: why not, it says. */
static void volume_doubt(struct volume *v)
{
	struct volume_own *o = volume_own(v);

	volume_not_seen(v);
	if (v->state == VOLUME_READY) {
		v->state = VOLUME_CONNECTING; /* told once it is held */
		volume_records(o);
	}
}

void volume_start(struct volume *v)
{
	const struct log_volume *before = log_enter(v->log);

	v->on_doubt = volume_doubt;
	guard_start(v->guard);
	evictor_count(v->evictor);
	volume_connect(volume_own(v));
	(void)log_enter(before);
}

/* ---- what ticks ---- */

static bool used_add(struct row *r, void *arg)
{
	if (r->in_s3 && !r->is_dir && r->live != ROW_TRASHED && r->s3_size > 0) {
		*(uint64_t *)arg += (uint64_t)r->s3_size;
	}
	return true;
}

/* Every second, or more rarely when there are so many rows that it takes over 1 % of the time. */
static void used_update(struct volume_own *o)
{
	struct volume *v = &o->v;
	int64_t from = clock_now_ns(v->clock), took;
	uint64_t used = 0;

	if (from < o->used_next_ns) {
		return;
	}
	index_each(v->index, used_add, &used);
	atomic_store(&v->shm->used_bytes, used);
	took = clock_now_ns(v->clock) - from;
	o->used_next_ns = from + (took > 10 * NS_PER_MS ? 100 * took : NS_PER_S);
}

/* What is under way ends as it was begun; nothing new is sent until the store is known again. */
static void volume_probe_again(struct volume_own *o)
{
	log_notice("core", "volume %s: the bucket's versioning has been switched", o->v.name);
	state_set(&o->v, VOLUME_CONNECTING,
			"the bucket's versioning has been switched: what the store honours is found out anew");
	o->probed = false;
	volume_connect(o);
}

static void tick(void *arg)
{
	struct volume_own *o = arg;
	struct volume *v = &o->v;

	index_tick(v->index);
	if (++o->ticks % TICKS_PER_S == 0) {
		rings_drain(v->rings);
		used_update(o);
		if (v->state == VOLUME_READY && fence_changed(o->fence)) {
			volume_probe_again(o);
		} else if (v->state == VOLUME_READY) {
			sure_watch_tick(o->sure);
		}
	}
	o->tick = clock_timer_add(v->clock, v, clock_now_ns(v->clock) + TICK_NS, tick, o);
	if (o->tick == NULL) {
		log_error("core", "volume %s: out of memory for a timer", v->name);
	}
}

static void on_doorbell(struct tevent_context *ev, struct tevent_fd *fde, uint16_t flags, void *arg)
{
	struct volume_own *o = arg;
	const struct log_volume *before = log_enter(o->v.log);
	uint64_t rung;

	(void)ev;
	(void)fde;
	(void)flags;
	while (read(o->doorbell_fd, &rung, sizeof(rung)) < 0 && errno == EINTR) {
	}
	rings_drain(o->v.rings);
	/* From here on a hint rings again; what came before this line is seen by the second look. */
	atomic_store(&o->v.shm->core_sleeps, 1);
	rings_drain(o->v.rings);
	(void)log_enter(before);
}

int volume_ticks(struct volume_own *o)
{
	struct volume *v = &o->v;

	o->doorbell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (o->doorbell_fd < 0) {
		return -errno;
	}
	o->doorbell_fde = tevent_add_fd(
			o->core->ev, v, o->doorbell_fd, TEVENT_FD_READ, on_doorbell, o);
	if (o->doorbell_fde == NULL) {
		return -ENOMEM;
	}
	o->tick = clock_timer_add(v->clock, v, clock_now_ns(v->clock) + TICK_NS, tick, o);
	return o->tick != NULL ? 0 : -ENOMEM;
}
