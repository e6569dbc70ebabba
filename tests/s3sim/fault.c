/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: faults to order: the request that one is for, and what it does to bytes and connections.
 *
 * Way:    control.c orders; server.c asks once for each request, and does at its stages what is said here.
 * Thread: one.
 * Owns:   orders; the request's own copy is the request's.
 * Holds:  1. An order meets as many requests as it says, in the order in which their headers come.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "fault.h"
#include <fnmatch.h>
#include <string.h>
#include <sys/socket.h>
#include "req.h"

static const char *const whens[] = { [FAULT_BEFORE] = "before", [FAULT_MID] = "mid", [FAULT_AFTER] = "after" };
static const char *const whats[] = { [FAULT_ERROR] = "error", [FAULT_RESET] = "reset", [FAULT_STALL] = "stall",
	[FAULT_TRUNCATE] = "truncate", [FAULT_CORRUPT] = "corrupt", [FAULT_TRICKLE] = "trickle", [FAULT_ETAG] = "etag",
	[FAULT_INSIDE] = "inside" };

static int word(const char *text, const char *const *words, size_t count)
{
	for (size_t i = 0; text != NULL && i < count; i++) {
		if (strcmp(text, words[i]) == 0) {
			return (int)i;
		}
	}
	return -1;
}

const char *fault_add(struct sim *s, const json_t *order)
{
	const char *op = "*", *key = "*", *when = "before", *what = NULL, *code = "InternalError";
	struct fault *f, **p = &s->faults;
	json_int_t skip = 0, count = 1, bytes = 0, ms = 0;
	json_error_t error;
	int w, d;

	if (json_unpack_ex((json_t *)order, &error, JSON_STRICT, "{s?s, s?s, s?s, s:s, s?s, s?I, s?I, s?I, s?I}", "op", &op,
			    "key", &key, "when", &when, "do", &what, "code", &code, "skip", &skip, "count", &count,
			    "bytes", &bytes, "ms", &ms) != 0) {
		return "not {op, key, when, do, code, skip, count, bytes, ms}";
	}
	w = word(when, whens, sizeof(whens) / sizeof(whens[0]));
	d = word(what, whats, sizeof(whats) / sizeof(whats[0]));
	if (w < 0 || d < 0) {
		return "when: before, mid, after; do: error, reset, stall, truncate, corrupt, trickle, etag, inside";
	}
	f = talloc_zero(s, struct fault);
	if (f == NULL) {
		return "out of memory";
	}
	*f = (struct fault){ .skip = skip, .count = count, .when = (enum fault_when)w, .what = (enum fault_do)d,
		.bytes = bytes, .ms = ms, .op = talloc_strdup(f, op), .key = talloc_strdup(f, key),
		.code = talloc_strdup(f, code) };
	while (*p != NULL) {
		p = &(*p)->next;
	}
	*p = f;
	return NULL;
}

json_t *fault_list(const struct sim *s)
{
	json_t *all = json_array();

	for (const struct fault *f = s->faults; f != NULL; f = f->next) {
		json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "op", f->op, "key", f->key, "when",
				whens[f->when], "do", whats[f->what], "skip", (json_int_t)f->skip, "count",
				(json_int_t)f->count, "hits", (json_int_t)f->hits));
	}
	return all;
}

void fault_clear(struct sim *s)
{
	while (s->faults != NULL) {
		struct fault *f = s->faults;

		s->faults = f->next;
		talloc_free(f);
	}
	for (struct req *r = s->live; r != NULL; r = r->next) {
		r->due_ns = r->due_ns == FAULT_HELD ? 1 : r->due_ns;
		if (r->fault != NULL && r->fault->ms < 0) {
			r->fault->ms = 0; /* its body is on its way still: it would be held at its end */
		}
	}
}

struct fault *fault_find(struct req *r)
{
	struct fault *mine;

	for (struct fault *f = r->sim->faults; f != NULL; f = f->next) {
		if (f->count == 0 || fnmatch(f->op, r->op->name, 0) != 0 || fnmatch(f->key, r->key, 0) != 0) {
			continue;
		}
		if (f->skip > 0) {
			f->skip--;
			continue;
		}
		f->count -= f->count > 0;
		f->hits++;
		mine = talloc_memdup(r, f, sizeof(*f));
		if (mine != NULL) {
			mine->code = talloc_strdup(mine, f->code);
		}
		return mine;
	}
	return NULL;
}

bool fault_is(const struct req *r, enum fault_do what, enum fault_when when)
{
	return r->fault != NULL && r->fault->what == what && r->fault->when == when;
}

bool fault_changes_answer(const struct req *r)
{
	return r->fault != NULL && (r->fault->what == FAULT_TRUNCATE || r->fault->what == FAULT_CORRUPT ||
						   r->fault->what == FAULT_TRICKLE);
}

size_t fault_bytes(const struct req *r, int64_t at, uint8_t *bytes, size_t len)
{
	const struct fault *f = r->fault;

	if (f == NULL || f->bytes < at || f->bytes >= at + (int64_t)len) {
		return f != NULL && f->what == FAULT_TRUNCATE && f->bytes < at ? 0 : len;
	}
	if (f->what == FAULT_CORRUPT) {
		bytes[f->bytes - at] ^= 0x20;
	}
	return f->what == FAULT_TRUNCATE ? (size_t)(f->bytes - at) : len;
}

/* The peer gets a reset, not an end: what a socket does that is connected to nowhere. */
void fault_reset(struct req *r)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct sockaddr nowhere = { .sa_family = AF_UNSPEC };

	if (info != NULL && connect(info->connect_fd, &nowhere, sizeof(nowhere)) != 0) {
		shutdown(info->connect_fd, SHUT_RDWR);
	}
}
