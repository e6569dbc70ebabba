/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The probe's second question: does this store check what is sent against a checksum, and take one behind the bytes?
 *
 *   PUT with a wrong checksum: refused? -> PUT with a right one: taken? -> PUT with one behind its bytes: taken?
 *   -> GET: are they the same?
 *
 * Way:    probe.c, after its own cases -> here -> store->sum, store->sum_trailer.
 * Thread: core only.
 * Owns:   struct sums (malloc), a memory file, until `done`; the scratch object is removed by probe.c.
 * Holds:  1. A store that ignores checksums, or takes none at all, gets none: on such a one what stands around the
 *            bytes of a trailer could become part of the object.
 *         2. What is no answer (probe.c, 2) ends it with that, and store->sum is what it was.
 *         3. `done` is called once; from inside the call only if memory is out.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "impl.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TEXT "a probe of checksums\n" /* with one behind it */
#define TEXT_BEFORE "a probe of a checksum in a header\n"

struct sums {
	struct objstore **store; /* the probe's: NULL there: it is gone */
	char *key;
	int fd;
	bool checks, trailer;
	void (*done)(enum obj_status, const char *message, void *arg);
	void *arg;
};

static void sums_end(struct sums *p, enum obj_status status, const char *message)
{
	void (*done)(enum obj_status, const char *message, void *arg) = p->done;
	void *arg = p->arg;

	if (p->fd >= 0) {
		close(p->fd);
	}
	free(p->key);
	free(p);
	done(status, message != NULL ? message : objstore_status_name(status), arg);
}

static void sums_known(struct sums *p)
{
	struct objstore *s = *p->store;
	char text[200];

	atomic_store(&s->sum, p->checks ? sum_of_name(sum_name(s->sum_wanted)) : OBJ_SUM_NONE); /* auto: which */
	atomic_store(&s->sum_trailer, p->trailer);
	if (p->checks || s->sum_wanted == OBJ_SUM_AUTO) {
		sums_end(p, OBJ_OK, NULL);
		return;
	}
	snprintf(text, sizeof(text), "the store does not check what it gets against %s, as the volume's checksum "
			"says: auto goes without", sum_name(s->sum_wanted));
	sums_end(p, OBJ_INVALID, text);
}

/* false: it was no answer, and all is over. The request is the caller's only if true. */
static bool sums_answered(struct sums *p, unsigned step, struct obj_req *req)
{
	const struct obj_result *r = &req->result;
	char text[400];

	if (*p->store != NULL && obj_probe_answered(*p->store, step, r, OBJ_OK)) {
		return true;
	}
	snprintf(text, sizeof(text), "whether it checks checksums: %s",
			r->message != NULL ? r->message : objstore_status_name(r->status));
	sums_end(p, *p->store == NULL ? OBJ_CANCELLED : r->status, text);
	objstore_req_free(&req);
	return false;
}

static struct obj_req *sums_request(struct sums *p, enum obj_op op, int kind, void (*done)(struct obj_req *))
{
	struct obj_req *req = objstore_req_new(op, p->key);

	if (req == NULL) {
		return NULL;
	}
	req->prio = OBJ_PRIO_HOUSE;
	req->rights_told = true;
	req->done = done;
	req->arg = p;
	req->sum_probe = kind;
	if (op == OBJ_GET) {
		req->length = -1;
	} else if (kind == OBJ_SUM_PROBE_TRAILER) {
		req->fd = p->fd;
		req->length = (int64_t)strlen(TEXT);
	} else {
		req->body = (uint8_t *)strdup(TEXT_BEFORE);
		req->length = (int64_t)strlen(TEXT_BEFORE);
	}
	if (op == OBJ_PUT && req->fd < 0 && req->body == NULL) {
		objstore_req_free(&req);
	}
	return req;
}

static void sums_next(struct sums *p, enum obj_op op, int kind, void (*done)(struct obj_req *))
{
	struct obj_req *req = sums_request(p, op, kind, done);

	if (req == NULL) {
		sums_end(p, OBJ_AWAY, "out of memory");
		return;
	}
	objstore_submit(*p->store, req);
}

static void sums_read(struct obj_req *req)
{
	struct sums *p = req->arg;
	const struct obj_result *r = &req->result;

	if (sums_answered(p, OBJ_PROBE_SUM_READ, req)) {
		p->trailer = r->status == OBJ_OK && r->body_len == strlen(TEXT) &&
			     memcmp(r->body, TEXT, strlen(TEXT)) == 0;
		objstore_req_free(&req);
		sums_known(p);
	}
}

static void sums_trailer_put(struct obj_req *req)
{
	struct sums *p = req->arg;
	bool taken = req->result.status == OBJ_OK;

	if (!sums_answered(p, OBJ_PROBE_SUM_TRAILER, req)) {
		return;
	}
	objstore_req_free(&req);
	if (taken) {
		sums_next(p, OBJ_GET, OBJ_SUM_PROBE_NONE, sums_read);
	} else {
		sums_known(p);
	}
}

static void sums_right_put(struct obj_req *req)
{
	struct sums *p = req->arg;

	if (!sums_answered(p, OBJ_PROBE_SUM_RIGHT, req)) {
		return;
	}
	p->checks = req->result.status == OBJ_OK;
	objstore_req_free(&req);
	if (p->checks) {
		sums_next(p, OBJ_PUT, OBJ_SUM_PROBE_TRAILER, sums_trailer_put);
	} else {
		sums_known(p);
	}
}

static void sums_wrong_put(struct obj_req *req)
{
	struct sums *p = req->arg;
	bool refused = req->result.status == OBJ_INVALID && !req->result.unsupported;

	if (!sums_answered(p, OBJ_PROBE_SUM_WRONG, req)) {
		return;
	}
	objstore_req_free(&req);
	if (refused) {
		sums_next(p, OBJ_PUT, OBJ_SUM_PROBE_RIGHT, sums_right_put);
	} else {
		sums_known(p);
	}
}

void obj_probe_sums(struct objstore **store, const char *base,
		void (*done)(enum obj_status, const char *message, void *arg), void *arg)
{
	struct sums *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		done(OBJ_AWAY, "out of memory", arg);
		return;
	}
	p->store = store;
	p->done = done;
	p->arg = arg;
	p->fd = memfd_create("probe", MFD_CLOEXEC);
	if (asprintf(&p->key, "%s%c", base, OBJ_PROBE_SUMS_KEY) < 0) {
		p->key = NULL;
	}
	if (p->key == NULL || p->fd < 0 || write(p->fd, TEXT, strlen(TEXT)) != (ssize_t)strlen(TEXT)) {
		sums_end(p, OBJ_AWAY, "out of memory");
		return;
	}
	sums_next(p, OBJ_PUT, OBJ_SUM_PROBE_WRONG, sums_wrong_put);
}
