/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: read every node's log segments at start.
 * Way: core/volume.c -> LIST, page by page -> sequences checked -> GETs, 16 at once -> metalog_merge.
 * Thread: core.
 * Owns: one struct metalog_load (malloc: its requests may outlive the log) until the last answer.
 * Holds: fail closed: a segment that is missing, damaged or not ours ends the load with an error,
 *        since an ACL in it might be the stricter one.
 */
#include "metalog_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/log.h"
#include "../core/volume.h"
#include "index.h"

#define GETS_AT_ONCE 16u

struct load_key {
	char node[METALOG_NODE_MAX_BYTES + 1];
	uint64_t seq;
};

struct metalog_load {
	struct metalog *ml; /* NULL: the log is gone */
	void (*done)(int status, const char *message, void *arg);
	void *arg;
	struct load_key *keys;
	size_t key_count, key_room;
	size_t next;        /* key to ask for */
	unsigned in_flight; /* requests */
	uint64_t highest_own;
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

/* The last answer is in. */
static void load_end(struct metalog_load *load)
{
	if (load->ml != NULL) {
		metalog_load_over(load->ml, load->status == 0, load->highest_own);
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

static void on_segment(struct obj_req *req)
{
	struct metalog_load *load = req->arg;
	const struct obj_result *r = &req->result;

	load->in_flight--;
	if (load->ml == NULL) {
		load->status = -ECANCELED;
	} else if (r->status == OBJ_NOT_FOUND) {
		load_fail(load, -EBADMSG,
				"log segment %s is gone from the bucket; rights may be in it, so nothing is "
				"served from S3: restore it (an older version or a backup)",
				req->key);
	} else if (r->status != OBJ_OK) {
		load_store_failed(load, req, "reading log segment");
	} else {
		struct volume *v = metalog_volume(load->ml);
		struct metalog_id id = { .uuid = &v->uuid };
		char node[METALOG_NODE_MAX_BYTES + 1];
		const char *why;
		int ret;

		metalog_key_parse(req->key + strlen(v->prefix) + strlen(METALOG_PLACE), node,
				&id.seq);
		id.node = node;
		ret = metalog_segment_parse((const char *)r->body, r->body_len, &id, metalog_merge,
				load->ml, &why);
		if (ret == -EBADMSG) {
			load_fail(load, ret,
					"log segment %s is damaged (%s); rights may be in it, so nothing is "
					"served from S3: restore it (an older version or a backup)",
					req->key, why);
		} else if (ret != 0) {
			load_fail(load, ret, "%s", strerror(-ret));
		}
	}
	objstore_req_free(&req);
	load_more(load);
}

static bool load_get(struct metalog_load *load, const struct load_key *k)
{
	struct volume *v = metalog_volume(load->ml);
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
		if (load->status == 0 && load->key_count > 0) {
			log_info("metalog", "volume %s: %zu log segments read",
					metalog_volume(load->ml)->name, load->key_count);
		}
		load_end(load);
	}
}

/* --- listing --- */

static int key_order(const void *a, const void *b)
{
	const struct load_key *x = a, *y = b;
	int order = strcmp(x->node, y->node);

	if (order != 0) {
		return order;
	}
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

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
	if (metalog_key_parse(key, k->node, &k->seq)) {
		load->key_count++;
	} else {
		log_warning("metalog", "volume %s: %s%s is no log segment, ignored",
				metalog_volume(load->ml)->name, METALOG_PLACE, key);
	}
	return true;
}

static void missing(struct metalog_load *load, const char *node, uint64_t seq)
{
	struct volume *v = metalog_volume(load->ml);

	load_fail(load, -EBADMSG,
			"log segment %s" METALOG_PLACE "%s/%016" PRIx64
			" is missing; rights may be in it, so nothing is served from S3: restore it (an "
			"older version or a backup)",
			v->prefix, node, seq);
}

/* No gaps; and ours goes as far as the index remembers. */
static void check_sequences(struct metalog_load *load)
{
	struct volume *v = metalog_volume(load->ml);
	const char *kv = index_kv_get(v->index, METALOG_KV_SEQ);
	const char *kv_node = kv != NULL ? strchr(kv, ' ') : NULL;
	uint64_t known = 0;

	/* a cache directory that lost its node id begins a sequence of its own */
	if (kv_node != NULL && strcmp(kv_node + 1, v->node_id) == 0) {
		known = strtoull(kv, NULL, 10);
	}
	if (load->key_count > 0) {
		qsort(load->keys, load->key_count, sizeof(*load->keys), key_order);
	}
	for (size_t i = 0; i < load->key_count; i++) {
		const struct load_key *k = &load->keys[i];

		if (i > 0 && strcmp(k[-1].node, k->node) == 0 && k->seq != k[-1].seq + 1) {
			missing(load, k->node, k[-1].seq + 1);
			return;
		}
		if (strcmp(k->node, v->node_id) == 0) {
			load->highest_own = k->seq;
		}
	}
	if (known > load->highest_own) {
		missing(load, v->node_id, load->highest_own + 1);
	}
}

static bool load_list(struct metalog_load *load, const char *token);

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
	if (load->status == 0) {
		check_sequences(load);
	}
	load_more(load);
}

static bool load_list(struct metalog_load *load, const char *token)
{
	struct volume *v = metalog_volume(load->ml);
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
