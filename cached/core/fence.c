/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: is what the store honours enough to keep writers apart, and is it still so?
 * Way: volume.c asks after a probe, and each second while the volume is READY.
 * Thread: core. Owns: when the bucket was last asked for its versioning.
 * Holds: (1) a bucket that may not be asked for its versioning is no trouble: the answers to PUTs tell;
 * (2) it is asked when something has just been changed, once in an hour: where nobody does anything, nothing
 * is asked.
 */
#include "fence.h"
#include "volume.h"
#include "../base/clock.h"
#include "../base/log.h"
#include "../objstore/objstore.h"

#define ASK_EVERY_NS (3600 * NS_PER_S)

struct fence {
	struct volume *v;
	int64_t asked_ns;
	uint64_t changes; /* seen so far */
	bool changed;
};

const char *fence_refusal(const struct objstore *s)
{
	const struct obj_caps *c = &s->caps;

	if (c->fence_class != 1 || c->lists_versions) { /* F0: for one node, core/nodes.c */
		return NULL;
	}
	if (!c->versions_denied) {
		return "the store honours no condition on PUT (fence class F1), and does not list the versions of an "
		       "object: what others write at the same time cannot be seen; use a store that honours If-Match "
		       "and If-None-Match, or lists versions";
	}
	return "the store honours no condition on PUT (fence class F1), and the bucket's versions cannot be listed: "
	       "s3:ListBucketVersions is missing; grant it (IAM.md), so that what others write at the same time is "
	       "seen, or use a store that honours If-Match and If-None-Match";
}

struct fence *fence_new(TALLOC_CTX *ctx, struct volume *v)
{
	struct fence *f = talloc_zero(ctx, struct fence);

	if (f != NULL) {
		f->v = v;
		f->asked_ns = clock_now_ns(v->clock); /* the probe comes first */
	}
	return f;
}

static void on_versioning(struct obj_req *req)
{
	struct fence *f = req->arg;
	const struct objstore *s = f->v->store;

	if (req->result.status == OBJ_OK && s != NULL) { /* the store may have gone meanwhile */
		f->changed = req->result.versioned != s->caps.versioned;
	}
	objstore_req_free(&req);
}

static void ask(struct fence *f)
{
	struct obj_req *req = objstore_req_new(OBJ_VERSIONING, "");

	if (req == NULL) {
		return;
	}
	req->prio = OBJ_PRIO_HOUSE;
	req->rights_told = true;
	req->done = on_versioning;
	req->arg = f;
	objstore_submit(f->v->store, req);
}

bool fence_changed(struct fence *f)
{
	struct objstore *s = f->v->store;
	int64_t now = clock_now_ns(f->v->clock);
	int put = atomic_load(&s->put_versioned);
	bool changed = f->changed || (put != 0 && (put == 1) != s->caps.versioned);
	bool active = s->changes != f->changes;

	f->changes = s->changes;
	if (s->read_only) { /* nothing is written, a probe neither */
		return false;
	}
	if (changed || (active && now - f->asked_ns >= ASK_EVERY_NS)) {
		f->asked_ns = now;
		f->changed = false;
		if (!changed) {
			ask(f);
		}
	}
	return changed;
}
