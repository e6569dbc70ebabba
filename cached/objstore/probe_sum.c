/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The probe's second question: does this store check what is sent against a checksum, and take one behind the bytes?
 *
 *   PUT with a wrong checksum: refused? -> PUT with one behind its bytes: taken? -> GET: are they the same?
 *
 * Way:    probe.c, after its own cases -> here -> store->sum, store->sum_trailer.
 * Thread: core only.
 * Owns:   struct sums (malloc), a scratch object and a memory file, until `done`.
 * Holds:  1. A store that ignores checksums gets none: on such a one what stands around the bytes of a trailer
 *            could become part of the object.
 *         2. `done` is called once, never from inside the call.
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

#define TEXT "a probe of checksums\n"

struct sums {
	struct objstore *store;
	char *key;
	int fd;
	bool checks, trailer;
	void (*done)(enum obj_status, const char *message, void *arg);
	void *arg;
};

static void sums_next(struct sums *p, enum obj_op op, void (*done)(struct obj_req *));

static void sums_end(struct sums *p, enum obj_status status)
{
	struct objstore *s = p->store;
	void (*done)(enum obj_status, const char *message, void *arg) = p->done;
	void *arg = p->arg;
	bool refuse = !p->checks && s != NULL && s->sum_wanted != OBJ_SUM_AUTO;
	char text[200];

	if (status != OBJ_CANCELLED) {
		atomic_store(&s->sum, p->checks ? s->sum_wanted : OBJ_SUM_NONE);
		atomic_store(&s->sum_trailer, p->trailer);
	}
	if (status == OBJ_OK && refuse) {
		status = OBJ_INVALID;
		snprintf(text, sizeof(text), "the store does not check what it gets against %s, as the volume's "
				"checksum says: auto goes without", sum_name(s->sum_wanted));
	}
	close(p->fd);
	free(p->key);
	free(p);
	done(status, status == OBJ_INVALID ? text : objstore_status_name(status), arg);
}

/* false: the store is going. */
static bool sums_go_on(struct sums *p, struct obj_req *req)
{
	if (req->result.status != OBJ_CANCELLED) {
		return true;
	}
	objstore_req_free(&req);
	p->store = NULL;
	sums_end(p, OBJ_CANCELLED);
	return false;
}

static void sums_deleted(struct obj_req *req)
{
	struct sums *p = req->arg;

	if (sums_go_on(p, req)) {
		objstore_req_free(&req);
		sums_end(p, OBJ_OK);
	}
}

static void sums_read(struct obj_req *req)
{
	struct sums *p = req->arg;
	const struct obj_result *r = &req->result;

	if (sums_go_on(p, req)) {
		p->trailer = r->status == OBJ_OK && r->body_len == strlen(TEXT) &&
			     memcmp(r->body, TEXT, strlen(TEXT)) == 0;
		objstore_req_free(&req);
		sums_next(p, OBJ_DELETE, sums_deleted);
	}
}

static void sums_put(struct obj_req *req)
{
	struct sums *p = req->arg;
	bool taken = req->result.status == OBJ_OK;

	if (sums_go_on(p, req)) {
		objstore_req_free(&req);
		sums_next(p, taken ? OBJ_GET : OBJ_DELETE, taken ? sums_read : sums_deleted);
	}
}

static void sums_wrong_put(struct obj_req *req)
{
	struct sums *p = req->arg;

	if (sums_go_on(p, req)) {
		p->checks = req->result.status == OBJ_INVALID && !req->result.unsupported;
		objstore_req_free(&req);
		sums_next(p, p->checks ? OBJ_PUT : OBJ_DELETE, p->checks ? sums_put : sums_deleted);
	}
}

static void sums_next(struct sums *p, enum obj_op op, void (*done)(struct obj_req *))
{
	struct obj_req *req = objstore_req_new(op, p->key);

	if (req == NULL) {
		sums_end(p, OBJ_AWAY);
		return;
	}
	req->prio = OBJ_PRIO_HOUSE;
	req->rights_told = true;
	req->done = done;
	req->arg = p;
	if (op == OBJ_PUT) {
		req->fd = p->fd;
		req->length = (int64_t)strlen(TEXT);
		req->sum_probe = done == sums_put ? OBJ_SUM_PROBE_TRAILER : OBJ_SUM_PROBE_WRONG;
	} else if (op == OBJ_GET) {
		req->length = -1;
	}
	if (done == sums_wrong_put) {
		req->fd = -1;
		req->body = (uint8_t *)strdup(TEXT);
	}
	objstore_submit(p->store, req);
}

void obj_probe_sums(struct objstore *s, const char *base,
		void (*done)(enum obj_status, const char *message, void *arg), void *arg)
{
	struct sums *p = calloc(1, sizeof(*p));

	if (p == NULL || asprintf(&p->key, "%ss", base) < 0) {
		free(p);
		done(OBJ_AWAY, "out of memory", arg);
		return;
	}
	p->store = s;
	p->done = done;
	p->arg = arg;
	p->fd = memfd_create("probe", MFD_CLOEXEC);
	if (p->fd < 0 || write(p->fd, TEXT, strlen(TEXT)) != (ssize_t)strlen(TEXT)) {
		sums_end(p, OBJ_AWAY);
		return;
	}
	sums_next(p, OBJ_PUT, sums_wrong_put);
}
