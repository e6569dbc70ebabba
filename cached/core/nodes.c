/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: know who else serves this volume, and say that we do.
 * Way: volume.c, once the record is known, before the log is read; metalog.c says how far it is;
 *      adopt.c, metalog_load.c and admin/ ask.
 * Thread: core.
 * Owns: what each node says; lives as long as the volume.
 * Holds: 1. a node serves until somebody says that it does not: a cache directory without a daemon may
 *           hold what S3 has not.
 *        2. ours is written after the segment it names, and before we change anything in the bucket.
 *        3. what was acknowledged of ours is there: else the bucket is an earlier state of itself, and nothing in it is
 *           believed. A disk that knows of none believes what it finds.
 *        4. who must be alone writes first and reads then: of two that begin at once one at least
 *           sees the other.
 *
 *   nodes_open -> LIST, GETs -> [those in our place retire] -> PUT ours -> (alone: LIST, GETs) -> done
 *   nodes_look -> LIST, GETs -> done
 */
#include "nodes.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/log.h"
#include "volume.h"
#include "../reconcile/index.h"
#include "shared/version.h"

#define NODES_FORMAT "objectfs node 1"
#define NODES_KV_EPOCH "node_epoch" /* index: as last acknowledged */
#define NODES_RETRY_NS (60 * NS_PER_S)
#define NODES_TEXT_MAX_BYTES 4096

struct node { /* talloc child of nodes */
	struct node *next;
	char id[OFS_OID_HEX_BYTES];
	json_t *doc; /* NULL: damaged */
	char *etag;
};

typedef void (*nodes_done)(int status, const char *message, void *arg);

struct nodes {
	struct volume *v;
	char *host;
	char place[OFS_OID_HEX_BYTES];
	struct node *list; /* ours too; as LIST has them, ours first where it was not there yet */
	uint64_t log;
	uint64_t epoch; /* of ours as it is to be; what is acknowledged is in the index */
	bool serving;
	/* the way of nodes_open */
	bool alone, claimed;
	bool looking; /* nodes_look is under way: nothing is written for it */
	nodes_done done;
	void *arg;
	char **ids; /* listed, not read yet */
	unsigned id_count, id_next;
	struct node *read; /* what has been read of the new list */
	/* writing ours */
	bool writing, again;
	struct clock_timer *retry;
};

static void nodes_list(struct nodes *n, const char *token);
static void nodes_write(struct nodes *n);

static int node_destroy(struct node *node)
{
	json_decref(node->doc);
	return 0;
}

static void node_list_free(struct node **list)
{
	while (*list != NULL) {
		struct node *next = (*list)->next;

		talloc_free(*list);
		*list = next;
	}
}

static struct node *node_find(const struct nodes *n, const char *id)
{
	struct node *node = n->list;

	while (node != NULL && strcmp(node->id, id) != 0) {
		node = node->next;
	}
	return node;
}

static const char *doc_text(const json_t *doc, const char *name)
{
	const char *s = json_string_value(json_object_get(doc, name));

	return s != NULL ? s : "";
}

static bool node_serving(const struct node *node)
{
	return node->doc == NULL || json_is_true(json_object_get(node->doc, "serving"));
}

static bool node_is_ours(const struct nodes *n, const struct node *node)
{
	return strcmp(node->id, n->v->node_id) == 0;
}

json_t *nodes_doc_parse(const char *id, const void *text, size_t len)
{
	json_t *doc = len <= NODES_TEXT_MAX_BYTES ? json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL)
						  : NULL;

	if (doc == NULL || strcmp(doc_text(doc, "format"), NODES_FORMAT) != 0 ||
			strcmp(doc_text(doc, "node"), id) != 0 ||
			!json_is_string(json_object_get(doc, "host")) ||
			!json_is_string(json_object_get(doc, "place")) ||
			!json_is_string(json_object_get(doc, "version")) ||
			json_integer_value(json_object_get(doc, "log")) < 0 ||
			!json_is_integer(json_object_get(doc, "log")) ||
			!json_is_boolean(json_object_get(doc, "serving"))) {
		json_decref(doc);
		return NULL;
	}
	return doc;
}

static json_t *doc_ours(const struct nodes *n)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:b, s:I}", "format", NODES_FORMAT, "node",
			n->v->node_id, "host", n->host, "place", n->place, "version", OFS_VERSION,
			"log", (json_int_t)n->log, "serving", (int)n->serving, "epoch", (json_int_t)n->epoch);
}

/* --- the epoch --- */

static bool doc_is_earlier(const json_t *doc, uint64_t epoch)
{
	const json_t *said = json_object_get(doc, "epoch");

	return json_is_integer(said) && (uint64_t)json_integer_value(said) < epoch;
}

bool nodes_is_earlier(const char *id, const void *text, size_t len, uint64_t epoch)
{
	json_t *doc = nodes_doc_parse(id, text, len);
	bool earlier = doc_is_earlier(doc, epoch);

	json_decref(doc);
	return earlier;
}

uint64_t nodes_epoch(const struct nodes *n)
{
	const char *kv = n != NULL ? index_kv_get(n->v->index, NODES_KV_EPOCH) : NULL;
	const char *of = kv != NULL ? strchr(kv, ' ') : NULL;

	/* a cache directory that lost its node id begins anew */
	return of != NULL && strcmp(of + 1, n->v->node_id) == 0 ? strtoull(kv, NULL, 10) : 0;
}

static void epoch_acknowledged(struct nodes *n, const json_t *doc)
{
	uint64_t epoch = (uint64_t)json_integer_value(json_object_get(doc, "epoch"));
	char text[24 + OFS_OID_HEX_BYTES];

	if (epoch > nodes_epoch(n)) {
		snprintf(text, sizeof(text), "%llu %s", (unsigned long long)epoch, n->v->node_id);
		index_kv_set(n->v->index, NODES_KV_EPOCH, text);
	}
}

void nodes_epoch_next(struct nodes *n)
{
	if (n != NULL) {
		n->epoch++;
		nodes_write(n);
	}
}

/* Ours was written, and is not what is there. */
static bool nodes_are_earlier(const struct nodes *n, const struct node *ours)
{
	uint64_t epoch = nodes_epoch(n);

	return epoch > 0 && (ours == NULL || doc_is_earlier(ours->doc, epoch));
}

/* --- requests --- */

static struct obj_req *node_request(struct nodes *n, enum obj_op op, const char *id)
{
	char *key = talloc_asprintf(n, "%s" NODES_PLACE "%s", n->v->prefix, id);
	struct obj_req *req = key != NULL ? objstore_req_new(op, key) : NULL;

	talloc_free(key);
	if (req != NULL) {
		req->length = -1;
		req->prio = OBJ_PRIO_READER; /* the volume waits for it */
		req->arg = n;
	}
	return req;
}

static struct obj_req *node_put(struct nodes *n, const char *id, const json_t *doc)
{
	struct obj_req *req = doc != NULL ? node_request(n, OBJ_PUT, id) : NULL;

	if (req != NULL) {
		req->body = (uint8_t *)json_dumps(doc, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
		req->content_type = strdup("application/json");
	}
	if (req == NULL || req->body == NULL || req->content_type == NULL) {
		objstore_req_free(&req);
		return NULL;
	}
	req->length = (int64_t)strlen((const char *)req->body);
	return req;
}

static int store_errno(const struct obj_result *r)
{
	if (r->status == OBJ_DENIED) {
		return -EACCES;
	}
	return objstore_status_transient(r->status) ? -EAGAIN : -EIO;
}

static void nodes_end(struct nodes *n, int status, const char *message)
{
	nodes_done done = n->done;

	n->done = NULL;
	n->looking = false;
	TALLOC_FREE(n->ids);
	n->id_count = n->id_next = 0;
	node_list_free(&n->read);
	done(status, message, n->arg);
}

static void nodes_failed(struct nodes *n, const struct obj_req *req)
{
	const struct obj_result *r = &req->result;

	nodes_end(n, store_errno(r), r->message != NULL ? r->message : objstore_status_name(r->status));
}

/* --- saying that another serves no more --- */

struct retire { /* talloc child of nodes */
	struct nodes *n;
	char id[OFS_OID_HEX_BYTES];
	json_t *doc;
	nodes_done done;
	void *arg;
};

static void retire_end(struct retire *r, int status, const char *message)
{
	r->done(status, message, r->arg);
	json_decref(r->doc);
	talloc_free(r);
}

static void retire_written(struct obj_req *req)
{
	struct retire *r = req->arg;
	struct node *node = node_find(r->n, r->id);
	const struct obj_result *res = &req->result;

	if (res->status == OBJ_OK && node != NULL) {
		json_decref(node->doc);
		node->doc = json_incref(r->doc);
		talloc_free(node->etag);
		node->etag = talloc_strdup(node, res->etag != NULL ? res->etag : "");
		log_notice("core", "volume %s: node %s (%s) serves no more", r->n->v->name, r->id,
				doc_text(r->doc, "host"));
		retire_end(r, 0, NULL);
	} else if (res->status == OBJ_PRECONDITION) {
		retire_end(r, -EAGAIN, "it has just said something itself: look again (objectfsctl nodes)");
	} else {
		retire_end(r, store_errno(res),
				res->message != NULL ? res->message : objstore_status_name(res->status));
	}
	objstore_req_free(&req);
}

static void node_retire(struct nodes *n, struct node *node, nodes_done done, void *arg)
{
	struct retire *r = talloc_zero(n, struct retire);
	struct obj_req *req;

	if (r == NULL) {
		done(-ENOMEM, "out of memory", arg);
		return;
	}
	r->n = n;
	r->done = done;
	r->arg = arg;
	memcpy(r->id, node->id, sizeof(r->id));
	r->doc = node->doc != NULL ? json_copy(node->doc)
				   : json_pack("{s:s, s:s, s:s, s:s, s:s, s:i}", "format", NODES_FORMAT,
						   "node", node->id, "host", "", "place", "", "version",
						   "", "log", 0);
	json_object_set_new(r->doc, "serving", json_false());
	req = node_put(n, node->id, r->doc);
	if (req == NULL || (n->v->store->caps.put_if_match && node->etag != NULL &&
			(req->if_match = strdup(node->etag)) == NULL)) {
		objstore_req_free(&req);
		retire_end(r, -ENOMEM, "out of memory");
		return;
	}
	req->done = retire_written;
	req->arg = r;
	objstore_submit(n->v->store, req);
}

void nodes_forget(struct nodes *n, const char *id, nodes_done done, void *arg)
{
	struct node *node = node_find(n, id);

	if (node == NULL) {
		done(-ENOENT, "no node of this id has served the volume", arg);
	} else if (node_is_ours(n, node)) {
		done(-EBUSY, "this is the node that you ask", arg);
	} else {
		node_retire(n, node, done, arg);
	}
}

/* --- opening --- */

static void nodes_claim(struct nodes *n);

static void on_superseded(int status, const char *message, void *arg)
{
	struct nodes *n = arg;

	if (status != 0) {
		nodes_end(n, status == -EACCES ? status : -EAGAIN, message);
	} else {
		nodes_claim(n);
	}
}

static const struct node *nodes_other(const struct nodes *n)
{
	for (const struct node *node = n->list; node != NULL; node = node->next) {
		if (!node_is_ours(n, node) && node_serving(node)) {
			return node;
		}
	}
	return NULL;
}

/* Ours is to be taken back before anybody hears of it. */
static void nodes_refuse(struct nodes *n, const struct node *other)
{
	char *message = talloc_asprintf(n,
			"node %s (%s) serves this volume, and this store does not keep two apart (fence class "
			"F0); if its cache directory is gone: objectfsctl forget-node %s",
			other->id, other->doc != NULL ? doc_text(other->doc, "host") : "damaged record",
			other->id);

	n->serving = false;
	if (n->claimed) {
		nodes_write(n);
	}
	nodes_end(n, -EBUSY, message != NULL ? message : "another node serves this volume");
	talloc_free(message);
}

/* Everything is known: who has our place goes, then ours is written if it says something else. */
static void nodes_claim(struct nodes *n)
{
	const struct node *other;
	struct node *ours;
	json_t *doc;

	for (struct node *node = n->list; node != NULL; node = node->next) {
		if (!node_is_ours(n, node) && node->doc != NULL && node_serving(node) &&
				strcmp(doc_text(node->doc, "place"), n->place) == 0) {
			node_retire(n, node, on_superseded, n);
			return;
		}
	}
	other = n->alone ? nodes_other(n) : NULL;
	if (other != NULL) {
		nodes_refuse(n, other);
		return;
	}
	n->serving = true;
	ours = node_find(n, n->v->node_id);
	doc = doc_ours(n);
	if (ours != NULL && ours->doc != NULL && json_equal(ours->doc, doc)) {
		nodes_end(n, 0, NULL);
	} else {
		nodes_write(n);
	}
	json_decref(doc);
}

static void nodes_read(struct nodes *n)
{
	struct node *ours = n->looking ? node_find(n, n->v->node_id) : NULL;
	uint64_t log, epoch;

	for (struct node *node = n->read; ours != NULL && node != NULL; node = node->next) {
		if (node_is_ours(n, node)) { /* what has been written since is newer */
			json_decref(node->doc);
			node->doc = json_incref(ours->doc);
		}
	}
	node_list_free(&n->list);
	n->list = n->read;
	n->read = NULL;
	ours = node_find(n, n->v->node_id);
	log = ours != NULL ? (uint64_t)json_integer_value(json_object_get(ours->doc, "log")) : 0;
	n->log = log > n->log ? log : n->log;
	epoch = ours != NULL ? (uint64_t)json_integer_value(json_object_get(ours->doc, "epoch")) : 0;
	n->epoch = epoch > n->epoch ? epoch : n->epoch;
	if (!n->looking && nodes_are_earlier(n, ours)) {
		nodes_end(n, -ESTALE, "the bucket is an earlier state of itself, or not all of it: what this node wrote into it "
				"since is not there; nothing is removed locally; bring back what it was, or, if it was "
				"restored from a copy, see TROUBLESHOOTING.md");
	} else if (n->looking) {
		nodes_end(n, 0, NULL);
	} else {
		nodes_claim(n);
	}
}

static void nodes_get(struct nodes *n);

static void on_node(struct obj_req *req)
{
	struct nodes *n = req->arg;
	const struct obj_result *r = &req->result;
	const char *id = n->ids[n->id_next];
	struct node *node, **tail;

	if (r->status != OBJ_OK && r->status != OBJ_NOT_FOUND) {
		nodes_failed(n, req);
		objstore_req_free(&req);
		return;
	}
	node = r->status == OBJ_OK ? talloc_zero(n, struct node) : NULL;
	if (node != NULL) {
		snprintf(node->id, sizeof(node->id), "%s", id);
		node->doc = nodes_doc_parse(id, r->body, r->body_len);
		node->etag = r->etag != NULL ? talloc_strdup(node, r->etag) : NULL;
		talloc_set_destructor(node, node_destroy);
		if (node->doc == NULL) {
			log_warning("core", "volume %s: %s is damaged: a node of this id is taken for serving",
					n->v->name, req->key);
		}
		for (tail = &n->read; *tail != NULL; tail = &(*tail)->next) {
		}
		*tail = node;
	}
	n->id_next++;
	objstore_req_free(&req);
	nodes_get(n);
}

static void nodes_get(struct nodes *n)
{
	struct obj_req *req;

	if (n->id_next == n->id_count) {
		TALLOC_FREE(n->ids);
		n->id_count = n->id_next = 0;
		nodes_read(n);
		return;
	}
	req = node_request(n, OBJ_GET, n->ids[n->id_next]);
	if (req == NULL) {
		nodes_end(n, -ENOMEM, "out of memory");
		return;
	}
	req->done = on_node;
	objstore_submit(n->v->store, req);
}

static void on_list(struct obj_req *req)
{
	struct nodes *n = req->arg;
	const struct obj_result *r = &req->result;
	struct ofs_oid oid;

	if (r->status != OBJ_OK) {
		nodes_failed(n, req);
		objstore_req_free(&req);
		return;
	}
	n->ids = talloc_realloc(n, n->ids, char *, n->id_count + r->entry_count + 1);
	for (unsigned i = 0; n->ids != NULL && i < r->entry_count; i++) {
		const char *id = strrchr(r->entries[i].key, '/');

		if (id != NULL && strlen(id + 1) == OFS_OID_HEX_BYTES - 1 && ofs_oid_parse(id + 1, &oid)) {
			n->ids[n->id_count] = talloc_strdup(n->ids, id + 1);
			n->id_count += n->ids[n->id_count] != NULL;
		}
	}
	if (r->next_token != NULL) {
		nodes_list(n, r->next_token);
	} else {
		nodes_get(n);
	}
	objstore_req_free(&req);
}

static void nodes_list(struct nodes *n, const char *token)
{
	struct obj_req *req = node_request(n, OBJ_LIST, "");

	if (req == NULL || (token != NULL && (req->token = strdup(token)) == NULL)) {
		objstore_req_free(&req);
		nodes_end(n, -ENOMEM, "out of memory");
		return;
	}
	req->done = on_list;
	objstore_submit(n->v->store, req);
}

void nodes_open(struct nodes *n, bool alone, nodes_done done, void *arg)
{
	if (n->done != NULL) { /* nodes_look is under way */
		done(-EAGAIN, "it is being asked already who else serves", arg);
		return;
	}
	n->alone = alone;
	n->claimed = false;
	n->done = done;
	n->arg = arg;
	nodes_list(n, NULL);
}

void nodes_look(struct nodes *n, nodes_done done, void *arg)
{
	if (n == NULL || n->done != NULL) {
		done(n == NULL ? 0 : -EBUSY, n == NULL ? NULL : "it is being asked already who else serves", arg);
		return;
	}
	n->looking = true;
	n->done = done;
	n->arg = arg;
	nodes_list(n, NULL);
}

/* --- ours --- */

static void on_retry(void *arg)
{
	struct nodes *n = arg;

	n->retry = NULL;
	nodes_write(n);
}

/* What we just wrote is what others read. */
static bool nodes_keep(struct nodes *n, struct obj_req *req)
{
	struct node *ours = node_find(n, n->v->node_id);

	if (ours == NULL) {
		ours = talloc_zero(n, struct node);
		if (ours == NULL) {
			return false;
		}
		memcpy(ours->id, n->v->node_id, sizeof(ours->id));
		talloc_set_destructor(ours, node_destroy);
		ours->next = n->list;
		n->list = ours;
	}
	json_decref(ours->doc);
	ours->doc = nodes_doc_parse(ours->id, req->body, (size_t)req->length);
	epoch_acknowledged(n, ours->doc);
	return ours->doc != NULL;
}

static void on_written(struct obj_req *req)
{
	struct nodes *n = req->arg;
	const struct obj_result *r = &req->result;
	bool done = r->status == OBJ_OK && nodes_keep(n, req);
	bool opening = n->done != NULL && !n->looking;

	n->writing = false;
	if (opening && !done) {
		nodes_failed(n, req);
	} else if (opening && n->alone && !n->claimed) {
		n->claimed = true;
		nodes_list(n, NULL); /* did another do the same? */
	} else if (opening) {
		nodes_end(n, 0, NULL);
	} else if (!done) {
		log_info("core", "volume %s: %s is not written: %s", n->v->name, req->key,
				objstore_status_name(r->status));
		n->retry = clock_timer_add(n->v->clock, n,
				clock_now_ns(n->v->clock) + NODES_RETRY_NS, on_retry, n);
	} else if (n->again) {
		nodes_write(n);
	}
	objstore_req_free(&req);
}

static void nodes_write(struct nodes *n)
{
	json_t *doc = doc_ours(n);
	struct obj_req *req = n->writing ? NULL : node_put(n, n->v->node_id, doc);

	json_decref(doc);
	n->again = n->writing;
	if (n->writing) {
		return;
	}
	if (req == NULL) {
		if (n->done != NULL && !n->looking) {
			nodes_end(n, -ENOMEM, "out of memory");
		}
		return; /* the next change says it */
	}
	TALLOC_FREE(n->retry);
	req->done = on_written;
	n->writing = true;
	objstore_submit(n->v->store, req);
}

void nodes_log_at(struct nodes *n, uint64_t seq)
{
	if (n != NULL && seq > n->log) {
		n->log = seq;
		nodes_write(n);
	}
}

/* --- asked --- */

bool nodes_said(const struct nodes *n, unsigned i, const char **id, uint64_t *log)
{
	const struct node *node = n != NULL ? n->list : NULL;

	while (node != NULL && i-- > 0) {
		node = node->next;
	}
	if (node == NULL) {
		return false;
	}
	*id = node->id;
	*log = (uint64_t)json_integer_value(json_object_get(node->doc, "log"));
	return true;
}

bool nodes_serves(const struct nodes *n, const char *id)
{
	const struct node *node = n != NULL ? node_find(n, id) : NULL;

	return node != NULL && !node_is_ours(n, node) && node_serving(node);
}

json_t *nodes_json(const struct nodes *n)
{
	json_t *list = json_array();

	for (const struct node *node = n->list; node != NULL; node = node->next) {
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:O?, s:b, s:b}", "volume",
				n->v->name, "node", node->id, "host", doc_text(node->doc, "host"),
				"version", node->doc != NULL ? doc_text(node->doc, "version") : "damaged",
				"log", json_object_get(node->doc, "log"), "serving",
				(int)node_serving(node), "here", (int)node_is_ours(n, node)));
	}
	return list;
}

/* --- life --- */

/* A cache directory that is made anew has another id, in the same place. */
static bool place_of(struct nodes *n, const char *cache_directory)
{
	char machine[64] = "", host[256] = "";
	FILE *file = fopen("/etc/machine-id", "re");
	uint8_t hash[EVP_MAX_MD_SIZE];
	struct ofs_oid oid;
	unsigned len = 0;
	char *text;

	if (file != NULL) {
		if (fgets(machine, sizeof(machine), file) == NULL) {
			machine[0] = '\0';
		}
		fclose(file);
	}
	if (gethostname(host, sizeof(host) - 1) != 0) {
		snprintf(host, sizeof(host), "unknown");
	}
	n->host = talloc_strdup(n, host);
	text = talloc_asprintf(n, "objectfs place\n%s\n%s\n%s", machine, host, cache_directory);
	if (n->host == NULL || text == NULL ||
			EVP_Digest(text, strlen(text), hash, &len, EVP_sha256(), NULL) != 1) {
		return false;
	}
	talloc_free(text);
	memcpy(oid.bytes, hash, sizeof(oid.bytes));
	ofs_oid_hex(&oid, n->place);
	return true;
}

struct nodes *nodes_new(TALLOC_CTX *ctx, struct volume *v, const char *cache_directory)
{
	struct nodes *n = talloc_zero(ctx, struct nodes);

	if (n == NULL) {
		return NULL;
	}
	n->v = v;
	if (!place_of(n, cache_directory)) {
		TALLOC_FREE(n);
	}
	return n;
}
