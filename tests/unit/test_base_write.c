/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Directory bases in a store: what one node writes spares the next its HEADs, two writers lose nothing, and
 * no right is ever older than what object or log say. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/base/stats.h"
#include "cached/mirror/base_read.h"
#include "cached/mirror/base_write.h"
#include "cached/mirror/bases.h"
#include "cached/mirror/mirror_private.h"
#include "cached/reconcile/metalog.h"
#include "tests/lib/mirror_fixture.h"

#define FILES 120u
#define FOREIGN 3u /* the first of them have no metadata of ours */
#define VALUE_BYTES (BASE_INLINE_BYTES + 500)

static struct fixture *node_new(struct fixture *first)
{
	struct fixture *fx = fixture_new();
	char text[256], *error = NULL;

	if (first != NULL) { /* another disk, the same bucket */
		talloc_free(fx->inner);
		snprintf(text, sizeof(text), "%s/store", first->root);
		fx->inner = objstore_dir_new(fx->ctx, fx->mb, text, 4, &error);
		assert_non_null(fx->inner);
		fx->v->uuid = first->v->uuid;
	}
	fx->conf.base_names = 50;
	fx->conf.base_quiet_ns = 3600 * NS_PER_S;
	fixture_store_ahead(fx, 3600); /* no object is young */
	snprintf(fx->v->node_id, sizeof(fx->v->node_id), "%s", first ? "b" : "a");
	fx->v->bases = bases_new(fx->ctx, fx->v);
	return fx;
}

static void ours(struct objmeta *m, unsigned i, uint64_t meta_gen, const char *colour, size_t len)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	memset(m, 0, sizeof(*m));
	m->ours = true;
	m->oid.bytes[0] = 7;
	memcpy(m->oid.bytes + 4, &i, sizeof(i));
	m->data_gen = 3;
	m->meta_gen = meta_gen;
	s->mode = 0100640;
	s->mtime_ns = 1500000000000000000LL + i;
	s->xattrs = calloc(1, sizeof(*s->xattrs));
	s->xattr_count = 1;
	s->xattrs[0].name = strdup("user.colour");
	s->xattrs[0].value = malloc(len);
	memcpy(s->xattrs[0].value, colour, len);
	s->xattrs[0].len = (uint32_t)len;
	snapshot_split(s, OBJMETA_SNAPSHOT_BUDGET);
	m->snapshot = s;
}

static void put_ours(struct fixture *fx, unsigned i, uint64_t meta_gen, const char *colour, size_t len)
{
	struct objmeta m;
	char key[32], *blob;

	snprintf(key, sizeof(key), "d/f%04u", i);
	ours(&m, i, meta_gen, colour, len);
	if (m.snapshot->xattrs[0].is_blob) {
		blob = objmeta_blob_key("", m.snapshot->xattrs[0].sha256);
		talloc_free(fixture_put(fx, blob, colour, len, NULL));
		free(blob);
	}
	talloc_free(fixture_put_meta(fx, key, i % 2 ? "" : "bytes", i % 2 ? 0 : 5, &m));
	objmeta_clear(&m);
}

static void put_all(struct fixture *fx)
{
	char key[32];

	fixture_put_text(fx, "d/", "");
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(key, sizeof(key), "d/f%04u", i);
		if (i < FOREIGN) {
			talloc_free(fixture_put(fx, key, "theirs", 6, "mtime", "1400000000.5", NULL));
		} else {
			put_ours(fx, i, 9, "red", 3);
		}
	}
}

static void list_all(struct fixture *fx)
{
	assert_int_equal(fixture_list(fx, "", true), 0);
	memset(fx->sent, 0, sizeof(fx->sent));
	assert_int_equal(fixture_list(fx, "d", true), 0);
}

struct ended {
	bool over;
	struct base_written what;
};

static void on_written(const struct base_written *what, void *arg)
{
	struct ended *e = arg;

	e->what = *what;
	e->over = true;
}

static void start(struct fixture *fx, struct ended *e)
{
	const struct row *dir = fixture_row(fx, "d");

	memset(e, 0, sizeof(*e));
	assert_non_null(base_write_start(fx->ctx, fx->v, &dir->oid, on_written, e));
}

static struct base_written write_base(struct fixture *fx)
{
	struct ended e;

	start(fx, &e);
	fixture_until(fx, &e.over);
	return e.what;
}

static char *colour(struct fixture *fx, unsigned i, char value[32])
{
	char path[32];
	int fd;
	ssize_t n;

	snprintf(path, sizeof(path), "d/f%04u", i);
	fd = fixture_open(fx, path, O_RDONLY | O_NONBLOCK);
	n = fgetxattr(fd, "user.colour", value, 31);
	close(fd);
	value[n > 0 ? n : 0] = '\0';
	return value;
}

static void check_all(struct fixture *fx)
{
	char path[32], value[32];

	assert_int_equal(fixture_count(fx, "d"), FILES);
	for (unsigned i = 0; i < FILES; i++) {
		struct ofs_record rec;

		snprintf(path, sizeof(path), "d/f%04u", i);
		rec = fixture_record(fx, path);
		if (i < FOREIGN) {
			assert_int_equal(rec.meta_gen, 0);
			assert_true(rec.mtime_ns == 1400000000500000000LL);
			continue;
		}
		assert_int_equal(rec.data_gen, 3);
		assert_int_equal(rec.meta_gen, 9);
		if (i % 2 == 0) {
			assert_true(rec.mtime_ns == 1500000000000000000LL + i);
			assert_int_equal(rec.size, 5);
			assert_int_equal(fixture_stat(fx, path).st_mode & 07777, 0640 | OFS_MARKER_MODE);
		}
		assert_string_equal(colour(fx, i, value), "red");
	}
}

/* A base of all files, written by the first node. */
static void world(struct fixture **a, struct fixture **b)
{
	struct base_written w;

	*a = node_new(NULL);
	put_all(*a);
	list_all(*a);
	assert_int_equal((*a)->sent[OBJ_HEAD], FILES);
	memset((*a)->sent, 0, sizeof((*a)->sent));
	w = write_base(*a);
	assert_int_equal(w.status, 0);
	assert_true(w.there && w.young == 0);
	assert_int_equal(w.rows, FILES);
	*b = node_new(*a);
}

static void world_end(struct fixture **a, struct fixture **b)
{
	fixture_free(b);
	fixture_free(a);
}

static void base_key_of(struct fixture *fx, const char *chunk, char key[128])
{
	char *whole = base_key(fx->ctx, "", &fixture_row(fx, "d")->oid, chunk);

	snprintf(key, 128, "%s", whole);
	talloc_free(whole);
}

static void on_ready(void *arg)
{
	*(bool *)arg = true;
}

static struct base_read *read_head(struct fixture *fx)
{
	bool ready = false;
	struct base_read *r = base_read_open(fx->ctx, fx->v, &fixture_row(fx, "d")->oid, OBJ_PRIO_HOUSE, 0,
			on_ready, &ready);

	fixture_until(fx, &ready);
	assert_int_equal(base_read_status(r), OBJ_OK);
	return r;
}

static void test_spares(void **state)
{
	struct fixture *a, *b;
	int64_t names = stats_get(base_names);

	(void)state;
	world(&a, &b);
	assert_int_equal(a->sent[OBJ_HEAD], 0); /* the rows' sight is as new as the objects */
	assert_int_equal(a->sent[OBJ_LIST], 1);
	assert_int_equal(a->sent[OBJ_PUT], 2);
	assert_int_equal(a->sent[OBJ_GET], 1); /* is there one? */
	list_all(b);
	assert_int_equal(b->sent[OBJ_HEAD], 0);
	assert_int_equal(b->sent[OBJ_LIST], 1);
	assert_int_equal(b->sent[OBJ_GET], 2);
	assert_int_equal(stats_get(base_names), names + FILES);
	check_all(b);
	assert_true(fixture_row(b, "d")->has_base);
	assert_false(fixture_row(b, "d")->base_due); /* it is what the base says */
	/* what has not changed is not written again, by nobody */
	memset(b->sent, 0, sizeof(b->sent));
	assert_int_equal(write_base(b).status, 0);
	assert_int_equal(b->sent[OBJ_PUT] + b->sent[OBJ_HEAD], 0);
	world_end(&a, &b);
}

/* The same bytes, and so the same ETag, with newer metadata; an empty file; other bytes; a new name. */
static void test_other_versions(void **state)
{
	struct fixture *a, *b;
	char value[32];

	(void)state;
	world(&a, &b);
	put_ours(a, 10, 12, "blue", 4);
	put_ours(a, 11, 12, "blue", 4);
	talloc_free(fixture_put(a, "d/f0013", "foreign", 7, NULL));
	fixture_put_text(a, "d/new", "x");
	fixture_delete(a, "d/f0014");
	list_all(b);
	assert_int_equal(b->sent[OBJ_HEAD], 4);
	assert_string_equal(colour(b, 10, value), "blue");
	assert_string_equal(colour(b, 11, value), "blue");
	assert_string_equal(colour(b, 12, value), "red");
	assert_string_equal(colour(b, 13, value), "");
	assert_true(fixture_exists(b, "d/new"));
	assert_false(fixture_exists(b, "d/f0014"));
	/* who has not seen them does not write them: it asks, and leaves out what it does not know */
	memset(a->sent, 0, sizeof(a->sent));
	assert_int_equal(write_base(a).rows, FILES - 4);
	assert_int_equal(a->sent[OBJ_HEAD], 2); /* same ETag and size, younger than it knows */
	/* who has does */
	memset(b->sent, 0, sizeof(b->sent));
	assert_int_equal(write_base(b).rows, FILES);
	assert_int_equal(b->sent[OBJ_HEAD], 0);
	world_end(&a, &b);
}

/* The log knows newer metadata than the base. */
static void test_log(void **state)
{
	struct fixture *a, *b;
	char value[32];
	struct objmeta m;
	uint8_t *packed;
	size_t len;

	(void)state;
	world(&a, &b);
	b->v->metalog = metalog_new(b->ctx, b->v);
	ours(&m, 20, 11, "green", 5);
	packed = snapshot_pack(m.snapshot, &len);
	metalog_append(b->v->metalog, &m.oid, 11, 3, packed, len, NULL, NULL);
	objmeta_clear(&m);
	list_all(b);
	assert_int_equal(b->sent[OBJ_HEAD], 0);
	assert_string_equal(colour(b, 20, value), "green");
	assert_int_equal(fixture_record(b, "d/f0020").meta_gen, 11);
	assert_string_equal(colour(b, 21, value), "red");
	world_end(&a, &b);
}

/* Whatever is wrong with a base costs requests. */
static void test_damage(void **state)
{
	struct fixture *a, *b;
	int64_t unusable;
	struct base_read *r;
	char key[128];
	void *other;

	(void)state;
	world(&a, &b);
	r = read_head(a);
	for (unsigned i = 0; i < 5; i++) {
		struct fixture *c = node_new(a);

		unusable = stats_get(bases_unusable);
		base_key_of(a, i < 3 ? base_read_head(r)->chunks[0].id : NULL, key);
		switch (i) {
		case 0: /* bytes of the right length */
			other = calloc(1, base_read_head(r)->chunks[0].bytes);
			assert_non_null(other);
			talloc_free(fixture_put(a, key, other, base_read_head(r)->chunks[0].bytes, NULL));
			free(other);
			break;
		case 1:
			fixture_put_text(a, key, "");
			break;
		case 2:
			fixture_delete(a, key);
			break;
		case 3:
			fixture_put_text(a, key, "{\"format\":\"objectfs base 2\"}");
			break;
		case 4:
			fixture_delete(a, key);
			break;
		}
		list_all(c);
		check_all(c);
		assert_int_equal(c->sent[OBJ_HEAD], FILES);
		assert_int_equal(stats_get(bases_unusable), unusable + (i < 4 ? 1 : 0));
		fixture_free(&c);
	}
	/* and can be written anew */
	assert_int_equal(write_base(a).rows, FILES);
	list_all(b);
	assert_int_equal(b->sent[OBJ_HEAD], 0);
	talloc_free(r);
	world_end(&a, &b);
}

/* A large value is a blob of the object. Gone, the object is asked, not the base believed. */
static void test_blob(void **state)
{
	struct fixture *a = node_new(NULL), *b, *c;
	char *value = malloc(VALUE_BYTES), hex[65];
	uint8_t sum[32];

	(void)state;
	memset(value, 'v', VALUE_BYTES);
	put_all(a);
	put_ours(a, 30, 10, value, VALUE_BYTES);
	put_ours(a, 31, 10, value, 1000); /* a blob of its object, and yet in the base */
	list_all(a);
	assert_int_equal(write_base(a).rows, FILES);
	b = node_new(a);
	list_all(b);
	assert_int_equal(b->sent[OBJ_HEAD], 0);
	assert_int_equal(b->sent[OBJ_GET], 3);
	assert_int_equal(fixture_record(b, "d/f0030").meta_gen, 10);
	SHA256((uint8_t *)value, VALUE_BYTES, sum);
	for (unsigned i = 0; i < 32; i++) {
		snprintf(hex + 2 * i, 3, "%02x", sum[i]);
	}
	snprintf(value, VALUE_BYTES, ".objectfs/blob/%s", hex);
	fixture_delete(a, value);
	c = node_new(a);
	list_all(c);
	assert_int_equal(c->sent[OBJ_HEAD], 1);
	assert_false(fixture_exists(c, "d/f0030")); /* as its object says: rights that cannot be restored */
	assert_true(fixture_exists(c, "d/f0031"));
	fixture_free(&c);
	world_end(&a, &b);
	free(value);
}

/* Each node knows half; one's head comes while the other's is on its way. */
static void test_race(void **state)
{
	struct fixture *a = node_new(NULL), *b, *c;
	struct ended ea, eb;
	char name[32];
	struct base_read *r;

	(void)state;
	put_all(a);
	b = node_new(a);
	a->conf.base_names = b->conf.base_names = 20;
	for (unsigned i = 0; i < FILES; i++) {
		struct fixture *fx = i % 2 ? a : b;

		snprintf(name, sizeof(name), "f%04u", i);
		assert_int_equal(fixture_lookup(a, "", "d"), 0);
		assert_int_equal(fixture_lookup(b, "", "d"), 0);
		assert_int_equal(fixture_lookup(fx, "d", name), 0);
	}
	fixture_fault(a, OBJ_PUT, "head", FAULT_HANG, OBJ_OK);
	start(a, &ea);
	FIXTURE_UNTIL(a, a->hanging != NULL);
	start(b, &eb);
	fixture_until(b, &eb.over);
	assert_int_equal(eb.what.rows, FILES / 2);
	fixture_release(a);
	fixture_until(a, &ea.over);
	assert_int_equal(ea.what.status, 0);
	assert_int_equal(ea.what.rows, FILES);
	c = node_new(a);
	list_all(c);
	assert_int_equal(c->sent[OBJ_HEAD], 0);
	check_all(c);
	/* nothing is left of those that lost */
	r = read_head(a);
	assert_int_equal(base_read_head(r)->chunk_count, 1);
	assert_int_equal(fixture_list(a, "", true), 0);
	talloc_free(r);
	fixture_free(&c);
	world_end(&a, &b);
}

/* The answer to the head's PUT is lost: what is there says that it was done. */
static void test_unknown(void **state)
{
	struct fixture *a, *b;
	struct base_read *r;
	char key[128];

	(void)state;
	a = node_new(NULL);
	put_all(a);
	list_all(a);
	fixture_fault(a, OBJ_PUT, "head", FAULT_FAIL, OBJ_UNKNOWN);
	assert_int_equal(write_base(a).status, -EAGAIN); /* it was not: tried again, then later */
	fixture_fault(a, OBJ_PUT, "", FAULT_NONE, OBJ_OK);
	base_key_of(a, NULL, key);
	assert_false(fixture_stored(a, key));
	assert_int_equal(write_base(a).rows, FILES);
	r = read_head(a);
	base_key_of(a, base_read_head(r)->chunks[0].id, key);
	assert_true(fixture_stored(a, key));
	talloc_free(r);
	b = node_new(a);
	list_all(b);
	assert_int_equal(b->sent[OBJ_HEAD], 0);
	world_end(&a, &b);
}

static void on_listed(int status, const char *message, void *arg)
{
	(void)message;
	assert_int_equal(status, 0);
	*(bool *)arg = true;
}

/* A name that leaves S3 while its directory is listed does not come back from the base. */
static void test_leaves(void **state)
{
	struct fixture *a, *b;
	struct row *row;
	struct ofs_oid oid = {{9}}, dir;
	bool over = false;

	(void)state;
	world(&a, &b);
	assert_int_equal(fixture_list(b, "", true), 0);
	dir = fixture_row(b, "d")->oid;
	fixture_fault(b, OBJ_GET, ".objectfs/dir/", FAULT_HANG, OBJ_OK);
	mirror_list(b->v->mirror, 1, 1, fixture_open(b, "d", O_PATH), true, on_listed, &over);
	FIXTURE_UNTIL(b, b->hanging != NULL); /* all pages are in when the base is asked for */
	row = index_add(b->v->index, &oid, false);
	index_set_s3(b->v->index, row, &dir, "f0040");
	fixture_delete(a, "d/f0040");
	index_clear_s3(b->v->index, row);
	index_remove(b->v->index, row);
	memset(b->sent, 0, sizeof(b->sent));
	fixture_release(b);
	fixture_until(b, &over);
	assert_int_equal(b->sent[OBJ_HEAD], 1);
	assert_int_equal(fixture_count(b, "d"), FILES - 1);
	assert_false(fixture_exists(b, "d/f0040"));
	world_end(&a, &b);
}

/* Nor does one whose object has lain apart, below the directory's key, called otherwise: while the page is on its way it
 * follows its name, and the page still has its old key. */
static void test_leaves_apart(void **state)
{
	struct fixture *a, *b;
	struct ofs_oid oid = {{9}};
	struct row *row;
	bool over = false;

	(void)state;
	world(&a, &b);
	assert_int_equal(fixture_list(b, "", true), 0);
	row = index_add(b->v->index, &oid, false);
	index_set_apart(b->v->index, row, "d/f0040");
	fixture_fault(b, OBJ_LIST, "d/", FAULT_HANG, OBJ_OK);
	mirror_list(b->v->mirror, 1, 1, fixture_open(b, "d", O_PATH), true, on_listed, &over);
	FIXTURE_UNTIL(b, b->hanging != NULL);
	index_set_s3(b->v->index, row, &OFS_OID_ROOT, "called so");
	memset(b->sent, 0, sizeof(b->sent));
	fixture_release(b);
	fixture_until(b, &over);
	assert_int_equal(b->sent[OBJ_HEAD], 1);
	world_end(&a, &b);
}

/* Fewer files than make a base: what there is goes. */
static void test_few(void **state)
{
	struct fixture *a, *b;
	char key[128], name[32];
	struct base_written w;

	(void)state;
	world(&a, &b);
	base_key_of(a, NULL, key);
	assert_true(fixture_stored(a, key));
	for (unsigned i = 0; i < FILES - 49; i++) {
		snprintf(name, sizeof(name), "d/f%04u", i);
		fixture_delete(a, name);
	}
	w = write_base(a);
	assert_int_equal(w.status, 0);
	assert_false(w.there);
	FIXTURE_UNTIL(a, !fixture_stored(a, key));
	world_end(&a, &b);
}

/* Objects that are too young stay out: the same bytes could come once more with the same Last-Modified. */
static void test_young(void **state)
{
	struct fixture *a = node_new(NULL);
	struct base_written w;

	(void)state;
	put_all(a);
	list_all(a);
	fixture_store_ahead(a, 0);
	w = write_base(a);
	assert_int_equal(w.status, 0);
	assert_int_equal(w.young, FILES);
	assert_int_equal(w.rows, 0);
	fixture_free(&a);
}

/* ---- when ---- */

static struct {
	struct clock clock;
	int64_t now_ns, at_ns;
	void (*fn)(void *arg);
	void *arg;
	unsigned turns; /* timers that were due at once */
} hand; /* a clock whose one timer goes off when the test says so */

static int64_t hand_now(struct clock *c)
{
	(void)c;
	return hand.now_ns;
}

static struct clock_timer *hand_timer(struct clock *c, TALLOC_CTX *ctx, int64_t at_ns, void (*fn)(void *arg),
		void *arg)
{
	(void)c;
	assert_null(hand.fn);
	hand.at_ns = at_ns;
	hand.fn = fn;
	hand.arg = arg;
	return (struct clock_timer *)talloc_new(ctx);
}

static const struct clock_ops hand_ops = {hand_now, hand_now, hand_timer, NULL};

static void hand_fire(void)
{
	void (*fn)(void *) = hand.fn;

	assert_non_null(fn);
	hand.fn = NULL;
	fn(hand.arg);
}

/* So much later, whatever is waited for is looked at, and what goes on in other turns of the loop goes on. */
static void hand_fires(int64_t later_ns)
{
	hand.now_ns += later_ns;
	hand_fire();
	for (hand.turns = 0; hand.fn != NULL && hand.at_ns <= hand.now_ns; hand.turns++) {
		hand_fire();
	}
}

/* A directory of 250 files that has a base; the last of them. */
static struct row *hand_dir(struct fixture *fx, uint8_t id, const char *name)
{
	struct ofs_oid oid = {{0xd, id}};
	struct row *dir = index_add(fx->v->index, &oid, true), *file = NULL;
	char text[32];

	index_set_s3(fx->v->index, dir, &OFS_OID_ROOT, name);
	bases_mute(fx->v->bases, true);
	for (unsigned i = 0; i < 250; i++) {
		struct ofs_oid file_oid = {{0xf, (uint8_t)i, id}};

		snprintf(text, sizeof(text), "f%u", i);
		file = index_add(fx->v->index, &file_oid, false);
		index_set_s3(fx->v->index, file, &oid, text);
	}
	bases_mute(fx->v->bases, false);
	index_set_base(fx->v->index, dir, false, true);
	return file;
}

static struct clock *hand_begin(struct fixture *fx)
{
	struct clock *clock = fx->v->clock;

	hand.clock.ops = &hand_ops;
	hand.now_ns = 1000000 * NS_PER_S;
	hand.fn = NULL;
	fx->v->clock = &hand.clock;
	bases_start(fx->v->bases);
	assert_null(hand.fn);
	return clock;
}

static void hand_end(struct fixture **fx, struct clock *clock)
{
	(*fx)->v->clock = clock;
	TALLOC_FREE((*fx)->v->bases);
	index_watch((*fx)->v->index, NULL, NULL);
	fixture_free(fx);
}

static void changes(struct fixture *fx, struct row *file, unsigned times)
{
	static unsigned version;
	char etag[16];

	while (times-- > 0) {
		snprintf(etag, sizeof(etag), "%u", ++version);
		index_set_fence(fx->v->index, file, etag, NULL, NULL, 1, version);
	}
}

/* What has changed too little waits for the next change, and for no timer. */
static void test_idle(void **state)
{
	struct fixture *fx = node_new(NULL);
	struct row *file = hand_dir(fx, 1, "d"), *dir = index_get(fx->v->index, &file->s3_parent);
	struct clock *clock = hand_begin(fx);

	(void)state;
	changes(fx, file, 1);
	hand_fires(10 * NS_PER_S);
	assert_non_null(hand.fn); /* it may change on */
	hand_fires(2 * 3600 * NS_PER_S);
	assert_null(hand.fn);
	assert_in_range(hand.turns, 101 / fx->v->mirror->list_turn, 250); /* 101 were counted, few in one turn */
	assert_true(dir->base_due);
	changes(fx, file, 1);
	hand_fires(10 * NS_PER_S);
	hand_fires(2 * 3600 * NS_PER_S);
	assert_null(hand.fn);
	/* three of 250 are enough */
	changes(fx, file, 1);
	hand_fires(10 * NS_PER_S);
	assert_non_null(hand.fn);
	hand_end(&fx, clock);
}

/* Two directories have changed enough. Each has its files counted before it is written: one after the other they are,
 * and no third change wakes the second. */
static void test_one_after_the_other(void **state)
{
	struct fixture *fx = node_new(NULL);
	struct row *files[2] = {hand_dir(fx, 1, "d"), hand_dir(fx, 2, "e")};
	struct row *dirs[2] = {index_get(fx->v->index, &files[0]->s3_parent), index_get(fx->v->index, &files[1]->s3_parent)};
	struct clock *clock = hand_begin(fx);

	(void)state;
	changes(fx, files[0], 3);
	changes(fx, files[1], 3);
	hand_fires(2 * 3600 * NS_PER_S);
	assert_null(hand.fn); /* one is being written */
	FIXTURE_UNTIL(fx, !dirs[0]->base_due || !dirs[1]->base_due);
	assert_true(dirs[0]->base_due || dirs[1]->base_due);
	assert_non_null(hand.fn);
	hand_fires(3600 * NS_PER_S);
	FIXTURE_UNTIL(fx, !dirs[0]->base_due && !dirs[1]->base_due);
	assert_null(hand.fn);
	hand_end(&fx, clock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spares),
		cmocka_unit_test(test_other_versions),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_blob),
		cmocka_unit_test(test_race),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_leaves),
		cmocka_unit_test(test_leaves_apart),
		cmocka_unit_test(test_few),
		cmocka_unit_test(test_young),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_one_after_the_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
