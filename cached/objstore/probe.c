/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The probe: which conditions does this store really honour?
 *
 * For every operation one case where the condition holds (it must succeed) and one where it does
 * not (it must be refused): a store may ignore a condition, or refuse every one. The cases are rows
 * of a table, run one after the other on scratch objects that are removed at the end.
 *
 *   objstore_probe -> [next_step] -> one or more requests -> [step_done] -> ... -> [clean] -> done
 *
 * Way:    core -> objstore_probe -> objstore_submit; answers come as for any request.
 * Thread: core only.
 * Owns:   struct probe (malloc, so that it outlives the store), freed before `done` is called.
 * Holds:  1. A capability is believed only if all its cases came out as they must.
 *         2. An error that is no answer to the question (away, denied, who knows) ends the probe with it, and
 *            changes nothing of what is known: the question is asked again. Only what a store answers with HTTP
 *            500 in UNSURE_PROBES probes one after the other, while it answered all before it, it cannot do.
 *         3. `done` comes later than the call, unless memory is out.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "impl.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum cond { NONE, ABSENT, GOOD, BAD, SRC_GOOD, SRC_BAD, SRC_OLD };
enum cap { CAP_NONE, PUT_MATCH, PUT_ABSENT, COMPLETE_MATCH, COMPLETE_ABSENT, COPY_SOURCE,
	COPY_ABSENT, DELETE_MATCH, PART_SOURCE, PART_VERSION, CAPS };

struct step {
	enum obj_op op; /* OBJ_MPU_COMPLETE: with create and one part before it; OBJ_MPU_COPY: with create, if there
			 * is no upload yet, which OBJ_MPU_ABORT ends; whether that may be done is for rights.c */
	char key;       /* 'a'..'e', 'z' never exists; copies read 'a' */
	enum cond cond;
	enum obj_status expect;
	enum cap cap; /* CAP_NONE: must come out so, or the store cannot be used */
	const char *needs;
};

static const struct step steps[] = {
	{ OBJ_PUT, 'a', NONE, OBJ_OK, CAP_NONE, "s3:PutObject" },
	{ OBJ_HEAD, 'a', NONE, OBJ_OK, CAP_NONE, "s3:GetObject" },
	{ OBJ_HEAD, 'z', NONE, OBJ_NOT_FOUND, CAP_NONE, "s3:ListBucket" },
	{ OBJ_LIST, 'a', NONE, OBJ_OK, CAP_NONE, "s3:ListBucket" },
	{ OBJ_PUT, 'a', ABSENT, OBJ_PRECONDITION, PUT_ABSENT, "s3:PutObject" },
	{ OBJ_PUT, 'b', ABSENT, OBJ_OK, PUT_ABSENT, "s3:PutObject" },
	{ OBJ_PUT, 'a', GOOD, OBJ_OK, PUT_MATCH, "s3:PutObject" },
	{ OBJ_PUT, 'a', BAD, OBJ_PRECONDITION, PUT_MATCH, "s3:PutObject" },
	{ OBJ_COPY, 'c', SRC_GOOD, OBJ_OK, COPY_SOURCE, "s3:GetObject or s3:PutObject" },
	{ OBJ_COPY, 'c', SRC_BAD, OBJ_PRECONDITION, COPY_SOURCE, "s3:GetObject or s3:PutObject" },
	{ OBJ_COPY, 'b', ABSENT, OBJ_PRECONDITION, COPY_ABSENT, "s3:GetObject or s3:PutObject" },
	{ OBJ_COPY, 'd', ABSENT, OBJ_OK, COPY_ABSENT, "s3:GetObject or s3:PutObject" },
	{ OBJ_MPU_COMPLETE, 'a', ABSENT, OBJ_PRECONDITION, COMPLETE_ABSENT, "s3:PutObject" },
	{ OBJ_MPU_COMPLETE, 'e', ABSENT, OBJ_OK, COMPLETE_ABSENT, "s3:PutObject" },
	{ OBJ_MPU_COMPLETE, 'e', BAD, OBJ_PRECONDITION, COMPLETE_MATCH, "s3:PutObject" },
	{ OBJ_MPU_COMPLETE, 'e', GOOD, OBJ_OK, COMPLETE_MATCH, "s3:PutObject" },
	{ OBJ_DELETE, 'b', BAD, OBJ_PRECONDITION, DELETE_MATCH, "s3:DeleteObject" },
	{ OBJ_DELETE, 'e', GOOD, OBJ_OK, DELETE_MATCH, "s3:DeleteObject" },
	{ OBJ_MPU_COPY, 'a', SRC_GOOD, OBJ_OK, PART_SOURCE, "s3:GetObject or s3:PutObject" },
	{ OBJ_MPU_COPY, 'a', SRC_BAD, OBJ_PRECONDITION, PART_SOURCE, "s3:GetObject or s3:PutObject" },
	{ OBJ_MPU_COPY, 'a', SRC_OLD, OBJ_OK, PART_VERSION, "s3:GetObjectVersion" },
	{ OBJ_MPU_ABORT, 'a', NONE, OBJ_OK, CAP_NONE, "s3:PutObject" },
};
#define STEPS (sizeof(steps) / sizeof(steps[0]))
#define KEYS 5u /* 'a' to 'e' */
#define UNSURE_PROBES 5u
#define NOT_ASKED OBJ_STATUS_MAX /* of a store without versions */

struct probe;

/* A talloc child of the store, to learn that it is gone. */
struct watch {
	struct probe *probe;
};

struct probe {
	struct objstore *store; /* NULL: freed meanwhile */
	struct watch *watch;
	void (*done)(enum obj_status, const char *, void *);
	void *arg;
	char *base; /* of the scratch keys */
	unsigned step;
	unsigned cleaned;
	bool sums; /* the scratch object of checksums may be there too */
	bool refused[CAPS]; /* a case came out wrong */
	bool versioned, lists_versions, versions_denied;
	bool no_copy;
	enum obj_op last_op; /* of the last answer */
	bool right_not_said;
	enum obj_status got[STEPS];
	char *etag[KEYS]; /* last known */
	char *old_version, *old_etag; /* of the first 'a'; no version: the store keeps none */
	char *upload_id, *part_etag;
	struct obj_part part;
	enum obj_status status; /* of the probe */
	char *message;
	struct obj_result refusal; /* status and message, kept over the abort of a refused upload */
};

static void next_step(struct probe *p);
static void clean(struct probe *p);

static int store_gone(struct watch *w)
{
	if (w->probe != NULL) {
		w->probe->store = NULL;
		w->probe->watch = NULL;
	}
	return 0;
}

static void finish(struct probe *p)
{
	enum obj_status status = p->status;
	void (*done)(enum obj_status, const char *, void *) = p->done;
	void *arg = p->arg;
	char *message = p->message;

	if (p->watch != NULL) {
		p->watch->probe = NULL;
		talloc_free(p->watch);
	}
	for (unsigned i = 0; i < KEYS; i++) {
		free(p->etag[i]);
	}
	free(p->old_version);
	free(p->old_etag);
	free(p->upload_id);
	free(p->part_etag);
	free(p->refusal.message);
	free(p->base);
	free(p);
	done(status, message == NULL ? "out of memory" : message, arg);
	free(message);
}

static void give_up(struct probe *p, enum obj_status status, const char *needs, const char *why)
{
	const char *said = why == NULL ? objstore_status_name(status) : why;
	char *text = NULL;

	if (p->store == NULL) {
		status = OBJ_CANCELLED;
		said = "the store is being closed";
	}
	if (p->status == OBJ_OK) {
		p->status = status;
		if (status == OBJ_DENIED && p->right_not_said && p->step < STEPS && steps[p->step].key == 'z') {
			if (asprintf(&text, "s3:ListBucket is missing, or tied to a prefix that requests "
					"without one do not have: an object that does not exist is "
					"answered with 403, so that nothing can be known to be absent; "
					"grant it (IAM.md)") < 0) {
				text = NULL;
			}
		} else if (status == OBJ_DENIED && p->right_not_said) {
			if (asprintf(&text, "%s is missing: %s was denied (%s); grant it (IAM.md)",
					    needs, objstore_op_name(p->last_op),
					    p->store->where) < 0) {
				text = NULL;
			}
		} else if (asprintf(&text, "%s", said) < 0) {
			text = NULL;
		}
		free(p->message);
		p->message = text;
	}
	if (status == OBJ_CANCELLED) { /* the store is going: nothing more can be sent */
		finish(p);
	} else {
		clean(p);
	}
}

static struct obj_req *make(struct probe *p, enum obj_op op, char key,
		void (*done)(struct obj_req *))
{
	char text[OBJ_KEY_MAX_BYTES + 64];
	struct obj_req *req;

	if (p->store == NULL) {
		return NULL;
	}
	snprintf(text, sizeof(text), "%s%c", p->base, key);
	req = objstore_req_new(op, text);
	if (req == NULL) {
		return NULL;
	}
	req->prio = OBJ_PRIO_HOUSE;
	req->rights_told = op != OBJ_MPU_ABORT;
	req->as_it_is = true;
	req->done = done;
	req->arg = p;
	return req;
}

/* --- the end --- */

static void clean_done(struct obj_req *req)
{
	struct probe *p = req->arg;
	enum obj_status status = req->result.status;

	if (status != OBJ_OK && status != OBJ_NOT_FOUND && p->status == OBJ_OK) {
		p->status = status;
		free(p->message);
		p->message = NULL;
		if (asprintf(&p->message, "removing the probe's scratch objects: %s",
				    req->result.message == NULL ? objstore_status_name(status)
								: req->result.message) < 0) {
			p->message = NULL;
		}
	}
	objstore_req_free(&req);
	if (status == OBJ_CANCELLED || status == OBJ_AWAY) {
		finish(p);
		return;
	}
	p->cleaned++;
	clean(p);
}

static void clean(struct probe *p)
{
	struct obj_req *req;
	bool nothing_written = p->step == 0 && p->status != OBJ_OK && p->status != OBJ_UNKNOWN;

	if (p->cleaned == KEYS + (p->sums ? 1 : 0) || nothing_written) {
		finish(p);
		return;
	}
	req = make(p, OBJ_DELETE, p->cleaned < KEYS ? (char)('a' + p->cleaned) : OBJ_PROBE_SUMS_KEY, clean_done);
	if (req == NULL) {
		p->status = p->store == NULL ? OBJ_CANCELLED : OBJ_AWAY;
		finish(p);
		return;
	}
	objstore_submit(p->store, req);
}

static void transcript(const struct probe *p)
{
	static const char *const conditions[] = {
		[NONE] = "none",
		[ABSENT] = "If-None-Match: *",
		[GOOD] = "If-Match: its ETag",
		[BAD] = "If-Match: another ETag",
		[SRC_GOOD] = "source If-Match: its ETag",
		[SRC_BAD] = "source If-Match: another ETag",
		[SRC_OLD] = "source: its first version",
	};
	struct objstore *s = p->store;
	unsigned n = 0;

	_Static_assert(STEPS <= OBJ_PROBE_STEPS_MAX, "a probe's transcript has room for all");
	for (unsigned i = 0; i < STEPS; i++) {
		if (p->got[i] == NOT_ASKED) {
			continue;
		}
		s->probe_steps[n++] = (struct obj_probe_step){ objstore_op_name(steps[i].op),
			conditions[steps[i].cond], steps[i].expect, p->got[i] };
	}
	s->probe_count = n;
	atomic_store(&s->put_versioned, 0);
}

static void sums_known(enum obj_status status, const char *message, void *arg)
{
	struct probe *p = arg;

	if (status != OBJ_OK) {
		give_up(p, status, "", message);
	} else {
		clean(p);
	}
}

static void judge(struct probe *p)
{
	struct obj_caps *c = &p->store->caps;
	char *text = NULL;

	memset(c, 0, sizeof(*c));
	c->put_if_match = !p->refused[PUT_MATCH];
	c->put_if_none_match = !p->refused[PUT_ABSENT];
	c->complete_if_match = !p->refused[COMPLETE_MATCH];
	c->complete_if_none_match = !p->refused[COMPLETE_ABSENT];
	c->copy_if_match_source = !p->refused[COPY_SOURCE];
	c->copy_if_none_match_dest = !p->refused[COPY_ABSENT];
	c->delete_if_match = !p->refused[DELETE_MATCH];
	c->part_copy_if_match = !p->refused[PART_SOURCE];
	c->part_copy_version = !p->refused[PART_VERSION];
	c->versioned = p->versioned;
	c->no_copy = p->no_copy;
	c->lists_versions = p->lists_versions;
	c->versions_denied = p->versions_denied;
	transcript(p);
	if (c->put_if_match && c->put_if_none_match && c->complete_if_match &&
			c->complete_if_none_match && c->copy_if_match_source &&
			c->copy_if_none_match_dest && c->delete_if_match) {
		c->fence_class = 3;
	} else if (c->put_if_match && c->put_if_none_match) {
		c->fence_class = 2;
	} else {
		c->fence_class = c->versioned ? 1 : 0;
	}
	if (asprintf(&text, "fence class F%d: PUT if-match %s, if-none-match %s; Complete %s, %s; "
			    "Copy source %s, destination %s; Delete %s; parts from a source pinned by ETag %s, "
			    "by version %s; %s%s",
			    c->fence_class, c->put_if_match ? "yes" : "no",
			    c->put_if_none_match ? "yes" : "no",
			    c->complete_if_match ? "yes" : "no",
			    c->complete_if_none_match ? "yes" : "no",
			    c->copy_if_match_source ? "yes" : "no",
			    c->copy_if_none_match_dest ? "yes" : "no",
			    c->delete_if_match ? "yes" : "no",
			    c->part_copy_if_match ? "yes" : "no",
			    c->part_copy_version ? "yes" : "no",
			    c->versioned ? "versioned" : "unversioned",
			    c->no_copy ? "; copies pass through this machine" : "") < 0) {
		text = NULL;
	}
	free(p->message);
	p->message = text;
	if (p->store->sum_wanted != OBJ_SUM_NONE) {
		p->sums = true;
		obj_probe_sums(&p->store, p->base, sums_known, p);
	} else {
		clean(p);
	}
}

static void remember_right(struct probe *p, const struct obj_req *req)
{
	p->last_op = req->op;
	p->right_not_said = strcmp(req->result.right, OBJ_RIGHT_NOT_SAID) == 0;
}

bool obj_probe_answered(struct objstore *s, unsigned step, const struct obj_result *r, enum obj_status expect)
{
	bool clear = r->status == OBJ_OK || r->status == OBJ_PRECONDITION || r->status == OBJ_INVALID ||
		     r->status == OBJ_NOT_FOUND || (r->status == OBJ_CONFLICT && expect == OBJ_PRECONDITION);
	/* bytes that come otherwise each time; a signature over the form of a body that the store does not know */
	bool odd = (step == OBJ_PROBE_SUM_READ && r->status == OBJ_DAMAGED) ||
		   (step == OBJ_PROBE_SUM_TRAILER && r->status == OBJ_DENIED && r->right[0] == '\0');
	bool failed = odd || r->status == OBJ_CONFLICT || (r->status == OBJ_UNKNOWN && r->http_status == 500);
	unsigned char *unsure = &s->probe_unsure[step];

	if (clear) {
		*unsure = 0;
	} else if (failed && *unsure < UNSURE_PROBES) {
		++*unsure;
	}
	return clear || (failed && *unsure == UNSURE_PROBES);
}

/* It ends with what is no answer. */
static void give_up_at(struct probe *p, struct obj_req *req, const char *needs)
{
	enum obj_status status = req->result.status;
	char *message = req->result.message;

	req->result.message = NULL;
	remember_right(p, req);
	objstore_req_free(&req);
	give_up(p, status, needs, message);
	free(message);
}

static void versions_listed(struct obj_req *req)
{
	struct probe *p = req->arg;
	enum obj_status status = req->result.status;
	bool no_right = status == OBJ_DENIED && req->result.right[0] != '\0';

	if (status != OBJ_OK && status != OBJ_INVALID && !no_right) {
		give_up_at(p, req, "s3:ListBucketVersions");
		return;
	}
	p->lists_versions = status == OBJ_OK && req->result.entry_count > 1;
	p->versions_denied = no_right;
	objstore_req_free(&req);
	if (p->store == NULL) {
		give_up(p, OBJ_CANCELLED, "", NULL);
		return;
	}
	judge(p);
}

/* Where PUT is not fenced, versions are what is left: may they be listed? */
static void last_step(struct probe *p)
{
	bool fenced = !p->refused[PUT_MATCH] && !p->refused[PUT_ABSENT];
	struct obj_req *req = p->versioned && !fenced ? make(p, OBJ_VERSIONS, 'a', versions_listed) : NULL;

	if (req == NULL) {
		judge(p);
		return;
	}
	objstore_submit(p->store, req);
}

/* --- one step --- */

static void remember_etag(struct probe *p, char key, const char *etag)
{
	if (key >= 'a' && key < (char)('a' + KEYS)) {
		free(p->etag[key - 'a']);
		p->etag[key - 'a'] = etag == NULL ? NULL : strdup(etag);
	}
}

/* The store's answer to a step's question; r: of the request that asked it, its message becomes ours. */
static void step_over(struct probe *p, struct obj_result *r)
{
	const struct step *s = &steps[p->step];
	enum obj_status status = r->status;
	char *message = r->message;

	r->message = NULL;
	if (p->store == NULL) {
		give_up(p, OBJ_CANCELLED, "", NULL);
	} else if (s->cap == CAP_NONE ? status != s->expect : !obj_probe_answered(p->store, p->step, r, s->expect)) {
		/* a listing or HEAD that says "not found" of what was just written is no store */
		give_up(p, status == OBJ_OK || status == OBJ_NOT_FOUND ? OBJ_INVALID : status,
				s->needs, message != NULL ? message
				: status == OBJ_OK        ? "the store shows an object that was never written"
				: status == OBJ_NOT_FOUND ? "the store does not show what was just written"
							  : NULL);
	} else {
		if (status != s->expect && !(s->expect == OBJ_PRECONDITION && status == OBJ_CONFLICT)) {
			p->refused[s->cap] = true;
		}
		p->got[p->step] = status;
		p->step++;
		next_step(p);
	}
	free(message);
}

/* As step_over, with the request that the answer came to. */
static void step_answered(struct probe *p, struct obj_req *req)
{
	struct obj_result r = { .status = req->result.status, .http_status = req->result.http_status,
		.message = req->result.message };

	req->result.message = NULL;
	objstore_req_free(&req);
	step_over(p, &r);
}

/* The first version of 'a', so that it can be told from those that replaced it. */
static void remember_version(struct probe *p, const struct obj_result *r)
{
	if (p->old_version == NULL && r->version_id != NULL && r->etag != NULL) {
		p->old_version = strdup(r->version_id);
		p->old_etag = strdup(r->etag);
	}
}

static void step_done(struct obj_req *req)
{
	struct probe *p = req->arg;
	const struct step *s = &steps[p->step];
	enum obj_status status = req->result.status;
	const char *version = req->result.version_id;

	remember_right(p, req);
	p->no_copy = p->no_copy || (s->op == OBJ_COPY && req->result.unsupported);
	if (status == OBJ_OK) {
		if (s->op == OBJ_PUT || s->op == OBJ_COPY || s->op == OBJ_HEAD) {
			remember_etag(p, s->key, req->result.etag);
		}
		if (s->op == OBJ_PUT && version != NULL && strcmp(version, "null") != 0) {
			p->versioned = true; /* AWS: "x-amz-version-id" only on versioned buckets */
			remember_version(p, &req->result);
		}
	} else if (status == OBJ_UNKNOWN) {
		remember_etag(p, s->key, NULL);
	}
	step_answered(p, req);
}

static void etag_found(struct obj_req *req)
{
	struct probe *p = req->arg;
	enum obj_status status = req->result.status;

	if (status == OBJ_OK && req->result.etag != NULL) {
		remember_etag(p, steps[p->step].key, req->result.etag);
	} else if (status == OBJ_OK || status == OBJ_NOT_FOUND) {
		/* the object of an earlier case is not there: the capability is void already */
		p->refused[steps[p->step].cap] = true;
		p->got[p->step] = OBJ_NOT_FOUND;
		p->step++;
	} else {
		give_up_at(p, req, "s3:GetObject");
		return;
	}
	objstore_req_free(&req);
	next_step(p);
}

static bool set_condition(struct probe *p, const struct step *s, struct obj_req *req)
{
	static const char other[] = "00000000000000000000000000000000";

	switch (s->cond) {
	case ABSENT:
		req->if_none_match = true;
		return true;
	case GOOD:
		req->if_match = strdup(p->etag[s->key - 'a']);
		return req->if_match != NULL;
	case BAD:
		req->if_match = strdup(other);
		return req->if_match != NULL;
	case SRC_GOOD:
		req->source_if_match = p->etag[0] == NULL ? NULL : strdup(p->etag[0]);
		return req->source_if_match != NULL;
	case SRC_BAD:
		req->source_if_match = strdup(other);
		return req->source_if_match != NULL;
	case SRC_OLD:
		req->source_version_id = strdup(p->old_version);
		return req->source_version_id != NULL;
	default:
		return true;
	}
}

/* --- multipart steps: create, one part, complete, or parts that are copies; abort if refused --- */

static void abort_done(struct obj_req *req)
{
	struct probe *p = req->arg;

	objstore_req_free(&req);
	step_over(p, &p->refusal);
}

static void upload_refused(struct probe *p, struct obj_req *req)
{
	struct obj_req *abort_req = make(p, OBJ_MPU_ABORT, steps[p->step].key, abort_done);

	remember_right(p, req);
	if (abort_req == NULL || p->upload_id == NULL || req->result.status == OBJ_CANCELLED) {
		objstore_req_free(&abort_req);
		step_answered(p, req);
		return;
	}
	p->refusal = (struct obj_result){ .status = req->result.status, .http_status = req->result.http_status,
		.message = req->result.message };
	req->result.message = NULL;
	objstore_req_free(&req);
	abort_req->upload_id = p->upload_id;
	p->upload_id = NULL;
	objstore_submit(p->store, abort_req);
}

/* An answer without what it must tell, or no memory to go on with. */
static void upload_fails(struct probe *p, struct obj_req *req, enum obj_status status, const char *why)
{
	if (req->result.status == OBJ_OK) {
		obj_fail(req, status, "%s", why);
	}
	upload_refused(p, req);
}

static void complete_done(struct obj_req *req)
{
	struct probe *p = req->arg;

	if (req->result.status != OBJ_OK) {
		upload_refused(p, req);
		return;
	}
	remember_etag(p, steps[p->step].key, req->result.etag);
	free(p->upload_id);
	p->upload_id = NULL;
	step_answered(p, req);
}

static void part_done(struct obj_req *req)
{
	struct probe *p = req->arg;
	struct obj_req *next;

	if (req->result.status != OBJ_OK || req->result.etag == NULL) {
		upload_fails(p, req, OBJ_INVALID, "a part has no ETag");
		return;
	}
	free(p->part_etag);
	p->part_etag = req->result.etag;
	req->result.etag = NULL;
	next = make(p, OBJ_MPU_COMPLETE, steps[p->step].key, complete_done);
	if (next != NULL) {
		next->upload_id = strdup(p->upload_id);
		next->parts = malloc(sizeof(*next->parts));
	}
	if (next == NULL || next->upload_id == NULL || next->parts == NULL ||
			!set_condition(p, &steps[p->step], next)) {
		objstore_req_free(&next);
		upload_fails(p, req, OBJ_AWAY, "out of memory");
		return;
	}
	next->parts[0] = (struct obj_part){ .number = 1, .etag = p->part_etag };
	next->part_count = 1;
	objstore_req_free(&req);
	objstore_submit(p->store, next);
}

static bool set_body(struct probe *p, struct obj_req *req)
{
	req->body = malloc(16); /* other bytes each time, so that ETags differ */
	if (req->body == NULL) {
		return false;
	}
	req->length = snprintf((char *)req->body, 16, "probe %u\n", p->step);
	return true;
}

static void part_copied(struct obj_req *req)
{
	struct probe *p = req->arg;
	struct obj_result *r = &req->result;
	bool old = steps[p->step].cond == SRC_OLD;
	bool other = old && r->status == OBJ_OK && (r->etag == NULL || strcmp(r->etag, p->old_etag) != 0);
	bool no_right = old && r->status == OBJ_DENIED && r->right[0] != '\0';

	if (other || no_right) {
		r->status = OBJ_INVALID; /* other bytes, or nobody knows which; it can be done without */
	}
	if (r->status != OBJ_OK && r->status != OBJ_PRECONDITION) {
		upload_refused(p, req);
	} else {
		step_answered(p, req);
	}
}

static bool set_source(struct probe *p, struct obj_req *req)
{
	return asprintf(&req->source_key, "%sa", p->base) >= 0 && set_condition(p, &steps[p->step], req);
}

static void copy_part(struct probe *p)
{
	struct obj_req *req = make(p, OBJ_MPU_COPY, steps[p->step].key, part_copied);

	if (req != NULL) {
		req->upload_id = strdup(p->upload_id);
		req->part_number = 1;
		req->length = -1;
	}
	if (req == NULL || req->upload_id == NULL || !set_source(p, req)) {
		objstore_req_free(&req);
		give_up(p, OBJ_AWAY, "", "out of memory");
		return;
	}
	objstore_submit(p->store, req);
}

static void create_done(struct obj_req *req)
{
	struct probe *p = req->arg;
	struct obj_req *next;

	free(p->upload_id);
	p->upload_id = NULL;
	if (req->result.status != OBJ_OK || req->result.upload_id == NULL) {
		upload_fails(p, req, OBJ_INVALID, "a multipart upload has no id");
		return;
	}
	p->upload_id = req->result.upload_id;
	req->result.upload_id = NULL;
	if (steps[p->step].op == OBJ_MPU_ABORT) {
		upload_refused(p, req);
		return;
	}
	if (steps[p->step].op == OBJ_MPU_COPY) {
		objstore_req_free(&req);
		copy_part(p);
		return;
	}
	next = make(p, OBJ_MPU_PART, steps[p->step].key, part_done);
	if (next != NULL) {
		next->upload_id = strdup(p->upload_id);
		next->part_number = 1;
	}
	if (next == NULL || next->upload_id == NULL || !set_body(p, next)) {
		objstore_req_free(&next);
		upload_fails(p, req, OBJ_AWAY, "out of memory");
		return;
	}
	objstore_req_free(&req);
	objstore_submit(p->store, next);
}

static void next_step(struct probe *p)
{
	const struct step *s;
	struct obj_req *req;
	bool pins, ok = true;

	if (p->store == NULL) {
		give_up(p, OBJ_CANCELLED, "", NULL);
		return;
	}
	if (p->step == STEPS) {
		last_step(p);
		return;
	}
	s = &steps[p->step];
	pins = s->cond == GOOD || (s->cond == SRC_GOOD && s->op == OBJ_MPU_COPY);
	if (s->cond == SRC_OLD && (p->old_version == NULL || p->old_etag == NULL)) {
		p->refused[s->cap] = true;
		p->got[p->step++] = NOT_ASKED;
		next_step(p);
		return;
	}
	if (pins && p->etag[s->key - 'a'] == NULL) {
		req = make(p, OBJ_HEAD, s->key, etag_found); /* Complete may tell no ETag */
	} else if (s->op == OBJ_MPU_COPY && p->upload_id != NULL) {
		copy_part(p);
		return;
	} else if (s->op == OBJ_MPU_ABORT && p->upload_id != NULL) {
		req = make(p, OBJ_MPU_ABORT, s->key, abort_done);
		if (req != NULL) {
			req->upload_id = p->upload_id;
			p->upload_id = NULL;
			p->refusal = (struct obj_result){ .status = OBJ_OK };
		}
	} else if (s->op == OBJ_MPU_COMPLETE || s->op == OBJ_MPU_COPY || s->op == OBJ_MPU_ABORT) {
		req = make(p, OBJ_MPU_CREATE, s->key, create_done);
	} else {
		req = make(p, s->op, s->key, step_done);
		if (req != NULL && s->op == OBJ_PUT) {
			ok = set_body(p, req);
		}
		ok = ok && req != NULL && (s->op == OBJ_COPY ? set_source(p, req) : set_condition(p, s, req));
	}
	if (req == NULL || !ok) {
		objstore_req_free(&req);
		give_up(p, OBJ_AWAY, "", "out of memory");
		return;
	}
	objstore_submit(p->store, req);
}

void objstore_probe(struct objstore *s, const char *prefix,
		void (*done)(enum obj_status, const char *message, void *arg), void *arg)
{
	struct probe *p = calloc(1, sizeof(*p));
	uint8_t random[8];
	char hex[17];

	if (p == NULL || getrandom(random, sizeof(random), 0) != sizeof(random)) {
		free(p);
		done(OBJ_AWAY, "out of memory", arg);
		return;
	}
	obj_hex(random, sizeof(random), hex);
	p->store = s;
	p->done = done;
	p->arg = arg;
	p->watch = talloc(s, struct watch);
	if (p->watch == NULL) {
		free(p);
		done(OBJ_AWAY, "out of memory", arg);
		return;
	}
	p->watch->probe = p;
	talloc_set_destructor(p->watch, store_gone);
	if (asprintf(&p->base, "%s.objectfs/probe/%s/", prefix, hex) < 0) {
		p->base = NULL;
		p->status = OBJ_AWAY;
		finish(p);
		return;
	}
	next_step(p);
}
