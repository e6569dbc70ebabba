/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: read every node's log segments at start.
 * Way: core/volume.c -> LIST, page by page -> GETs, 16 at once -> metalog_merge -> sequences checked.
 * Thread: core.
 * Owns: one struct metalog_load (malloc: its requests may outlive the log) until the last answer.
 * Holds: 1. fail closed: a segment that is missing, damaged or not ours ends the load with an error,
 *           since an ACL in it might be the stricter one.
 *        2. a node's sequence begins with 1, or where its newest fold says, and goes as far as
 *           `nodes/<id>` says; in between it has no gap.
 *        3. what looks like a gap is asked for again first: another node may just be folding its log.
 */
#include "metalog_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/log.h"
#include "../core/nodes.h"
#include "../core/volume.h"
#include "index.h"

#define GETS_AT_ONCE 16u
#define ROUNDS_MOST 3u

struct load_key {
	char node[METALOG_NODE_MAX_BYTES + 1];
	uint64_t seq;
	uint64_t base; /* as the segment says */
	bool unproven; /* not signed: it is not there */
};

struct metalog_load {
	struct metalog *ml; /* NULL: the log is gone */
	void (*done)(int status, const char *message, void *arg);
	void *arg;
	struct load_key *keys;
	size_t key_count, key_room;
	size_t next;        /* key to ask for */
	unsigned in_flight; /* requests */
	unsigned rounds;    /* listings so far */
	bool doubt;         /* something seems to be missing: `message` */
	bool unproven;      /* some segment is */
	struct metalog_own own;
	int status; /* first failure */
	char message[512];
};

static void load_fail(struct metalog_load *load, int status, const char *fmt, ...)
		__attribute__((format(printf, 3, 4)));
static void load_fail(struct metalog_load *load, int status, const char *fmt, ...)
{
	va_list ap;

	if (load->status != 0) {
		return;
	}
	load->status = status;
	va_start(ap, fmt);
	vsnprintf(load->message, sizeof(load->message), fmt, ap);
	va_end(ap);
}

static void load_doubt(struct metalog_load *load, const char *key, const char *what)
{
	if (!load->doubt) {
		load->doubt = true;
		snprintf(load->message, sizeof(load->message),
				"log segment %s %s; rights may be in it, so nothing is served from S3: "
				"restore it (an older version or a backup)%s",
				key, what, load->unproven ? "; the log names segments that are not signed with "
				"the volume's key" : "");
	}
}

/* The last answer is in. */
static void load_end(struct metalog_load *load)
{
	if (load->ml != NULL) {
		metalog_load_over(load->ml, load->status == 0, &load->own);
		load->done(load->status, load->status != 0 ? load->message : NULL, load->arg);
	}
	free(load->keys);
	free(load);
}

void metalog_load_orphan(struct metalog_load *load)
{
	load->ml = NULL; /* ends with its last request */
}

static void load_store_failed(
		struct metalog_load *load, const struct obj_req *req, const char *doing)
{
	const struct obj_result *r = &req->result;

	load_fail(load, metalog_store_errno(r), "%s %s: %s", doing, req->key,
			r->message != NULL ? r->message : objstore_status_name(r->status));
}

/* --- segments --- */

static void load_more(struct metalog_load *load);

struct load_merge {
	struct metalog *ml;
	bool own;
};

static void load_entry(struct metalog_entry *e, void *arg)
{
	struct load_merge *m = arg;

	metalog_merge(m->ml, e, m->own);
}

static void load_segment(struct metalog_load *load, struct load_key *k, const struct obj_req *req)
{
	struct volume *v = load->ml->v;
	struct metalog_id id = { .uuid = &v->uuid, .node = k->node, .seq = k->seq };
	struct load_merge m = { .ml = load->ml, .own = strcmp(k->node, v->node_id) == 0 };
	const char *why;
	int ret = metalog_segment_parse((const char *)req->result.body, req->result.body_len, &id,
			load_entry, &m, &why);

	k->base = id.base;
	if (ret == -EBADMSG) {
		load_fail(load, ret,
				"log segment %s is damaged (%s); rights may be in it, so nothing is "
				"served from S3: restore it (an older version or a backup)",
				req->key, why);
	} else if (ret != 0) {
		load_fail(load, ret, "%s", strerror(-ret));
	}
}

static int key_order(const void *a, const void *b)
{
	const struct load_key *x = a, *y = b;
	int order = strcmp(x->node, y->node);

	if (order != 0) {
		return order;
	}
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static void on_segment(struct obj_req *req)
{
	struct metalog_load *load = req->arg;
	const struct obj_result *r = &req->result;
	struct load_key wanted = { 0 }, *k;

	load->in_flight--;
	if (load->ml == NULL) {
		load->status = -ECANCELED;
	} else if (r->status == OBJ_NOT_FOUND) {
		load_doubt(load, req->key, "is gone from the bucket");
	} else if (r->status != OBJ_OK) {
		load_store_failed(load, req, "reading log segment");
	} else {
		metalog_key_parse(req->key + strlen(load->ml->v->prefix) +
						strlen(METALOG_PLACE),
				wanted.node, &wanted.seq);
		k = bsearch(&wanted, load->keys, load->key_count, sizeof(*k), key_order);
		k->unproven = r->proof > OBJ_PROOF_GOOD;
		load->unproven |= k->unproven;
		if (!k->unproven) {
			load_segment(load, k, req);
		}
	}
	objstore_req_free(&req);
	load_more(load);
}

static bool load_get(struct metalog_load *load, const struct load_key *k)
{
	struct volume *v = load->ml->v;
	char *key = metalog_key(NULL, v->prefix, k->node, k->seq);
	struct obj_req *req = key != NULL ? objstore_req_new(OBJ_GET, key) : NULL;

	talloc_free(key);
	if (req == NULL) {
		load_fail(load, -ENOMEM, "out of memory");
		return false;
	}
	req->length = -1;
	req->prio = OBJ_PRIO_READER; /* the volume waits for it */
	req->arg = load;
	req->done = on_segment;
	load->in_flight++;
	objstore_submit(v->store, req);
	return true;
}

static bool load_list(struct metalog_load *load, const char *token);
static void check_sequences(struct metalog_load *load);

/* What nobody has signed is no part of the log: where one of ours should be there is a gap now. */
static void drop_unproven(struct metalog_load *load)
{
	size_t kept = 0;

	for (size_t i = 0; i < load->key_count; i++) {
		if (!load->keys[i].unproven) {
			load->keys[kept++] = load->keys[i];
		}
	}
	load->key_count = kept;
}

/* All answers are in. */
static void load_read(struct metalog_load *load)
{
	drop_unproven(load);
	if (load->status == 0 && !load->doubt) {
		check_sequences(load);
	}
	if (load->status == 0 && load->doubt && ++load->rounds < ROUNDS_MOST) {
		load->doubt = false;
		load->key_count = load->next = 0;
		memset(&load->own, 0, sizeof(load->own));
		if (load_list(load, NULL)) {
			return;
		}
	} else if (load->status == 0 && load->doubt) {
		load->status = -EBADMSG;
	}
	if (load->status == 0 && load->key_count > 0) {
		log_info("metalog", "volume %s: %zu log segments read",
				load->ml->v->name, load->key_count);
	}
	load_end(load);
}

static void load_more(struct metalog_load *load)
{
	while (load->status == 0 && load->next < load->key_count &&
			load->in_flight < GETS_AT_ONCE) {
		if (!load_get(load, &load->keys[load->next])) {
			break;
		}
		load->next++;
	}
	if (load->in_flight == 0) {
		load_read(load);
	}
}

/* --- listing --- */

static bool load_key_add(struct metalog_load *load, const char *key)
{
	struct load_key *k;

	if (load->key_count == load->key_room) {
		size_t room = load->key_room == 0 ? 64 : 2 * load->key_room;
		struct load_key *grown = realloc(load->keys, room * sizeof(*grown));

		if (grown == NULL) {
			return false;
		}
		load->keys = grown;
		load->key_room = room;
	}
	k = &load->keys[load->key_count];
	k->base = 0;
	k->unproven = false;
	if (metalog_key_parse(key, k->node, &k->seq)) {
		load->key_count++;
	} else {
		log_warning("metalog", "volume %s: %s%s is no log segment, ignored",
				load->ml->v->name, METALOG_PLACE, key);
	}
	return true;
}

static void missing(struct metalog_load *load, const char *node, uint64_t seq)
{
	char *key = metalog_key(NULL, load->ml->v->prefix, node, seq);

	load_doubt(load, key != NULL ? key : node, "is missing");
	talloc_free(key);
}

/* Those of one node, in order. */
static void check_node(struct metalog_load *load, const struct load_key *k, size_t count)
{
	uint64_t base = 1;
	size_t first = 0;

	for (size_t i = 0; i < count; i++) {
		base = k[i].base > base ? k[i].base : base;
	}
	while (first < count && k[first].seq < base) {
		first++;
	}
	for (size_t i = first; i < count; i++) {
		if (k[i].seq != base + (i - first)) {
			missing(load, k->node, base + (i - first));
			return;
		}
	}
	if (strcmp(k->node, load->ml->v->node_id) != 0) {
		return;
	}
	load->own.first = k[0].seq;
	load->own.last = k[count - 1].seq;
	for (size_t i = first; i < count; i++) {
		if (k[i].base == base && base > 1) {
			load->own.fold_count = k[i].seq - base + 1;
		}
	}
}

/* 0: there is no segment of this node. */
static uint64_t last_of(const struct metalog_load *load, const char *node)
{
	uint64_t last = 0;

	for (size_t i = 0; i < load->key_count; i++) {
		if (strcmp(load->keys[i].node, node) == 0) {
			last = load->keys[i].seq;
		}
	}
	return last;
}

/* Every node's from its beginning; as far as it said itself before we listed; and ours as far as the
 * index remembers. */
static void check_sequences(struct metalog_load *load)
{
	struct volume *v = load->ml->v;
	const char *kv = index_kv_get(v->index, METALOG_KV_SEQ);
	const char *kv_node = kv != NULL ? strchr(kv, ' ') : NULL;
	uint64_t known = 0, said;
	const char *node;
	size_t end;

	/* a cache directory that lost its node id begins a sequence of its own */
	if (kv_node != NULL && strcmp(kv_node + 1, v->node_id) == 0) {
		known = strtoull(kv, NULL, 10);
	}
	for (size_t i = 0; i < load->key_count && !load->doubt; i = end) {
		for (end = i + 1; end < load->key_count &&
				strcmp(load->keys[end].node, load->keys[i].node) == 0; end++) {
		}
		check_node(load, &load->keys[i], end - i);
	}
	if (known > load->own.last && !load->doubt) {
		missing(load, v->node_id, load->own.last + 1);
	}
	for (unsigned i = 0; !load->doubt && nodes_said(v->nodes, i, &node, &said); i++) {
		uint64_t last = last_of(load, node);

		if (said > last) {
			missing(load, node, last + 1);
		}
	}
}

static void on_list(struct obj_req *req)
{
	struct metalog_load *load = req->arg;
	const struct obj_result *r = &req->result;
	size_t skip = strlen(req->key);
	bool more = false;

	load->in_flight--;
	if (load->ml == NULL) {
		load->status = -ECANCELED;
	} else if (r->status != OBJ_OK) {
		load_store_failed(load, req, "listing");
	} else {
		for (unsigned i = 0; i < r->entry_count; i++) {
			if (strlen(r->entries[i].key) <= skip) {
				continue;
			}
			if (!load_key_add(load, r->entries[i].key + skip)) {
				load_fail(load, -ENOMEM, "out of memory");
				break;
			}
		}
		more = load->status == 0 && r->next_token != NULL &&
				load_list(load, r->next_token);
	}
	objstore_req_free(&req);
	if (more) {
		return;
	}
	if (load->key_count > 0) {
		qsort(load->keys, load->key_count, sizeof(*load->keys), key_order);
	}
	load_more(load);
}

static bool load_list(struct metalog_load *load, const char *token)
{
	struct volume *v = load->ml->v;
	char *prefix = talloc_asprintf(NULL, "%s" METALOG_PLACE, v->prefix);
	struct obj_req *req = prefix != NULL ? objstore_req_new(OBJ_LIST, prefix) : NULL;

	talloc_free(prefix);
	if (req != NULL && token != NULL) {
		req->token = strdup(token);
	}
	if (req == NULL || (token != NULL && req->token == NULL)) {
		objstore_req_free(&req);
		load_fail(load, -ENOMEM, "out of memory");
		return false;
	}
	req->prio = OBJ_PRIO_READER;
	req->arg = load;
	req->done = on_list;
	load->in_flight++;
	objstore_submit(v->store, req);
	return true;
}

void metalog_load(struct metalog *ml, void (*done)(int status, const char *message, void *arg),
		void *arg)
{
	struct metalog_load *load = calloc(1, sizeof(*load));

	if (load == NULL || !metalog_load_begin(ml, load)) {
		free(load);
		done(-EAGAIN, "the log is being read already", arg);
		return;
	}
	load->ml = ml;
	load->done = done;
	load->arg = arg;
	if (!load_list(load, NULL)) {
		load_end(load);
	}
}
