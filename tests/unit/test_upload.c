/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sizes of parts: up to the largest object that S3 takes; which of them are sent. What an upload makes of each
 * answer: parts that were refused are ended, what may be an object is left alone. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "cached/base/clock.h"
#include "cached/base/conf.h"
#include "cached/core/trust.h"
#include "cached/objstore/impl.h"
#include "cached/upload/upload.h"
#include "tests/lib/volume_fixture.h"

#define MIB (1LL << 20)
#define GIB (1LL << 30)
#define TB 1000000000000LL
#define OBJECT_MAX_BYTES 53687091200000LL /* 10,000 parts of 5 GiB: "50 TB" */

static int64_t parts(int64_t size, int64_t each)
{
	return (size + each - 1) / each;
}

static void test_part_bytes(void **state)
{
	static const int64_t sizes[] = {1, 8 * MIB, 64 * MIB + 1, 5 * GIB, 70 * GIB, TB, 5 * TB, 48 * TB,
			49 * TB, 50 * TB, OBJECT_MAX_BYTES - 1, OBJECT_MAX_BYTES};
	struct conf_volume conf = {.part_size_bytes = 8 * MIB};

	(void)state;
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int64_t each = upload_part_bytes(&conf, sizes[i]);

		assert_true(each >= conf.part_size_bytes && each <= OBJ_PUT_MAX_BYTES);
		assert_true(parts(sizes[i], each) <= OBJ_PARTS_MAX);
	}
	assert_int_equal(upload_part_bytes(&conf, 70 * GIB), 8 * MIB);
	assert_int_equal(upload_part_bytes(&conf, 9000 * 16 * MIB), 16 * MIB);
	conf.part_size_bytes = 64 * MIB;
	assert_int_equal(upload_part_bytes(&conf, 70 * GIB), 64 * MIB);
	conf.part_size_bytes = 5 * GIB;
	assert_int_equal(upload_part_bytes(&conf, OBJECT_MAX_BYTES), 5 * GIB);
}

/* The limit, or what 10 MB take a second; versions of more than 1 GiB only at close. */
static void test_open_interval(void **state)
{
	struct conf_volume conf = {.settle_limit_ns = 60 * NS_PER_S};

	(void)state;
	assert_int_equal(upload_open_interval_ns(&conf, 0, false), 60 * NS_PER_S);
	assert_int_equal(upload_open_interval_ns(&conf, 600 * 1000000LL, false), 60 * NS_PER_S);
	assert_int_equal(upload_open_interval_ns(&conf, 610 * 1000000LL, false), 61 * NS_PER_S);
	assert_int_equal(upload_open_interval_ns(&conf, 100 * 1000000000LL, false), 10000 * NS_PER_S);
	assert_int_equal(upload_open_interval_ns(&conf, OBJECT_MAX_BYTES, false), OBJECT_MAX_BYTES / 10000000 * NS_PER_S);
	assert_int_equal(upload_open_interval_ns(&conf, GIB, true), 107 * NS_PER_S);
	assert_true(upload_open_interval_ns(&conf, GIB + 1, true) == INT64_MAX);
	conf.settle_limit_ns = 3600 * NS_PER_S;
	assert_int_equal(upload_open_interval_ns(&conf, GIB, true), 3600 * NS_PER_S);
}

static void uploaded(struct upload *u)
{
	fixture_answer((int)u->status, u->message, u->arg);
}

static enum obj_status send(struct fixture *f, int64_t size, const char *if_match)
{
	struct upload *u = upload_new(f, f->v, "p/k");
	int fd = memfd_create("sent", MFD_CLOEXEC), answers = f->answers;

	assert_true(fd >= 0 && ftruncate(fd, size) == 0);
	u->fd = fd;
	u->size = size;
	u->if_match = if_match != NULL ? talloc_strdup(u, if_match) : NULL;
	u->done = uploaded;
	u->arg = f;
	ofs_oid_new(&u->meta.oid);
	u->meta.snapshot = calloc(1, sizeof(*u->meta.snapshot));
	upload_start(u);
	fixture_advance(f, 1);
	fixture_wait(f, answers + 1);
	close(fd);
	talloc_free(u);
	return (enum obj_status)f->status;
}

static bool is_there(struct fixture *f)
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, "p/k");
	bool there = fixture_run(f, req) == OBJ_OK;

	objstore_req_free(&req);
	return there;
}

/* S3.md's outcomes, as they come out of an upload: who asked looks what is there, or sends all of it again. */
static void test_outcomes(void **state)
{
	static const struct {
		enum obj_op op;
		enum obj_status answer, want;
		bool ended; /* the parts are */
		bool there; /* the object is, whatever was answered */
	} rows[] = {
		{OBJ_PUT, OBJ_PRECONDITION, OBJ_PRECONDITION, false, false},
		{OBJ_PUT, OBJ_CONFLICT, OBJ_CONFLICT, false, false},
		{OBJ_PUT, OBJ_NOT_FOUND, OBJ_NOT_FOUND, false, false},
		{OBJ_PUT, OBJ_UNKNOWN, OBJ_UNKNOWN, false, true},
		{OBJ_MPU_CREATE, OBJ_UNKNOWN, OBJ_AWAY, false, false}, /* no object comes of it */
		{OBJ_MPU_PART, OBJ_AWAY, OBJ_AWAY, true, false},
		{OBJ_MPU_COMPLETE, OBJ_PRECONDITION, OBJ_PRECONDITION, true, false},
		{OBJ_MPU_COMPLETE, OBJ_CONFLICT, OBJ_CONFLICT, true, false}, /* none of its parts is of use */
		{OBJ_MPU_COMPLETE, OBJ_NOT_FOUND, OBJ_NOT_FOUND, true, false},
		{OBJ_MPU_COMPLETE, OBJ_UNKNOWN, OBJ_UNKNOWN, false, true},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fixture *f = fixture_new();
		int64_t size = rows[i].op == OBJ_PUT ? 5 : 64 * MIB + 1;

		f->conf.part_size_bytes = 32 * MIB;
		f->store->s.caps = (struct obj_caps){.fence_class = 3, .put_if_match = true,
			.put_if_none_match = true, .complete_if_match = true, .complete_if_none_match = true};
		f->store->fail_op = rows[i].op;
		f->store->fail_with = rows[i].answer;
		f->store->fail_count = 1;
		assert_int_equal(send(f, size, NULL), rows[i].want);
		assert_int_equal(f->store->seen[OBJ_MPU_ABORT], rows[i].ended);
		assert_int_equal(f->store->seen[rows[i].op], rows[i].op == OBJ_MPU_PART ? 3 : 1);
		assert_int_equal(is_there(f), rows[i].there);
		assert_int_equal(send(f, 5, NULL), rows[i].there ? OBJ_PRECONDITION : OBJ_OK);
		fixture_free(&f);
	}
}

/* Somebody else's object, put there while the parts were sent, stays: by Complete's condition, or by a look right
 * before where it has none. */
static void test_complete(void **state)
{
	static const struct {
		bool fenced;
		const char *if_match;
	} rows[] = {{true, "0123456789abcdef0123456789abcdef"}, {false, NULL}};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fixture *f = fixture_new();
		char *theirs;

		f->conf.part_size_bytes = 32 * MIB;
		f->store->s.caps = (struct obj_caps){.fence_class = rows[i].fenced ? 3 : 1,
			.put_if_match = rows[i].fenced, .put_if_none_match = rows[i].fenced,
			.complete_if_match = rows[i].fenced, .complete_if_none_match = rows[i].fenced};
		assert_int_equal(fixture_put(f, "p/k", "theirs"), OBJ_OK);
		assert_int_equal(send(f, 64 * MIB + 1, rows[i].if_match), OBJ_PRECONDITION);
		assert_int_equal(f->store->seen[OBJ_MPU_COMPLETE], rows[i].fenced);
		assert_int_equal(f->store->seen[OBJ_MPU_ABORT], 1);
		theirs = fixture_get(f, "p/k");
		assert_string_equal(theirs, "theirs");
		free(theirs);
		fixture_free(&f);
	}
}

/* ---- the look before ---- */

#define EMPTY_ETAG "d41d8cd98f00b204e9800998ecf8427e"

/* An empty object of this write is there. */
static void put_empty(struct fixture *f, const struct ofs_oid *wid)
{
	struct obj_req *req = objstore_req_new(OBJ_PUT, "p/k");
	struct objmeta m = {.ours = true, .wid = *wid};

	ofs_oid_new(&m.oid);
	m.snapshot = calloc(1, sizeof(*m.snapshot));
	req->body = calloc(1, 1);
	assert_int_equal(objmeta_put(req, &m), 0);
	assert_int_equal(fixture_run(f, req), OBJ_OK);
	objmeta_clear(&m);
	objstore_req_free(&req);
}

static enum obj_status overwrite(struct fixture *f, const char *if_match, const struct ofs_oid *expect)
{
	struct upload *u = upload_new(f, f->v, "p/k");
	int answers = f->answers;

	u->fd = memfd_create("sent", MFD_CLOEXEC);
	assert_true(u->fd >= 0 && ftruncate(u->fd, 5) == 0);
	u->size = 5;
	u->if_match = if_match != NULL ? talloc_strdup(u, if_match) : NULL;
	u->expect = *expect;
	u->done = uploaded;
	u->arg = f;
	ofs_oid_new(&u->meta.oid);
	u->meta.snapshot = calloc(1, sizeof(*u->meta.snapshot));
	upload_start(u);
	fixture_advance(f, 1);
	fixture_wait(f, answers + 1);
	close(u->fd);
	talloc_free(u);
	return (enum obj_status)f->status;
}

/* All empty objects have one ETag: who has written it? And a store without conditions is asked before each write. */
static void test_look(void **state)
{
	static const struct ofs_oid none, ours = {{1}}, theirs = {{2}};
	struct fixture *f = fixture_new();

	(void)state;
	f->store->s.caps = (struct obj_caps){.fence_class = 3, .put_if_match = true, .put_if_none_match = true};
	put_empty(f, &theirs);
	assert_int_equal(overwrite(f, EMPTY_ETAG, &ours), OBJ_PRECONDITION);
	assert_int_equal(f->store->seen[OBJ_PUT], 0);
	put_empty(f, &ours);
	assert_int_equal(overwrite(f, EMPTY_ETAG, &ours), OBJ_OK);
	f->store->s.caps = (struct obj_caps){.fence_class = 1, .versioned = true, .lists_versions = true};
	f->store->seen[OBJ_PUT] = 0;
	assert_int_equal(fixture_put(f, "p/k", "theirs"), OBJ_OK);
	assert_int_equal(overwrite(f, NULL, &none), OBJ_PRECONDITION);
	assert_int_equal(overwrite(f, "0123456789abcdef0123456789abcdef", &none), OBJ_PRECONDITION);
	assert_int_equal(f->store->seen[OBJ_PUT], 0);
	assert_int_equal(fixture_delete(f, "p/k"), OBJ_OK);
	assert_int_equal(overwrite(f, "0123456789abcdef0123456789abcdef", &none), OBJ_PRECONDITION);
	assert_int_equal(overwrite(f, NULL, &none), OBJ_OK);
	fixture_free(&f);
}

/* ---- what the object names is there before it ---- */

static struct upload *send_acl(struct fixture *f, int byte)
{
	struct upload *u = upload_new(f, f->v, "p/k");
	struct snapshot_xattr *x = calloc(1, sizeof(*x));

	x->name = strdup("security.NTACL");
	x->len = 500;
	x->value = malloc(x->len);
	memset(x->value, byte, x->len);
	u->meta.snapshot = calloc(1, sizeof(*u->meta.snapshot));
	u->meta.snapshot->xattrs = x;
	u->meta.snapshot->xattr_count = 1;
	ofs_oid_new(&u->meta.oid);
	u->done = uploaded;
	u->arg = f;
	upload_start(u);
	fixture_advance(f, 1);
	return u;
}

static void test_blob_first(void **state)
{
	struct fixture *f = fixture_new();
	struct upload *u;

	(void)state;
	f->store->s.caps = (struct obj_caps){.fence_class = 3, .put_if_match = true, .put_if_none_match = true};
	f->store->fail_op = OBJ_PUT;
	f->store->fail_with = OBJ_AWAY;
	f->store->fail_count = 1;
	u = send_acl(f, 'a');
	fixture_wait(f, 1);
	assert_int_equal(f->status, OBJ_AWAY);
	assert_int_equal(f->store->seen[OBJ_PUT], 1); /* the object's own was not sent */
	talloc_free(u);
	f->store->hold = OBJ_PUT;
	u = send_acl(f, 'b');
	while (f->store->held == NULL) {
		tevent_loop_once(f->ev);
	}
	assert_non_null(strstr(f->store->held->key, ".objectfs/blob/"));
	assert_int_equal(f->store->seen[OBJ_PUT], 1);
	test_store_release(f->store);
	fixture_wait(f, 2);
	assert_int_equal(f->status, OBJ_OK);
	assert_int_equal(f->store->seen[OBJ_PUT], 3);
	talloc_free(u);
	fixture_free(&f);
}

/* ---- 2,048 bytes of user metadata ---- */

/* As a signed volume's: what it adds is added last. */
static int proof_out(struct obj_door *door, struct obj_req *req)
{
	char proof[TRUST_META_BYTES - sizeof(TRUST_PROOF_NAME) + 2];

	(void)door;
	memset(proof, 'p', sizeof(proof) - 1);
	proof[sizeof(proof) - 1] = '\0';
	return req->op == OBJ_PUT ? objstore_req_meta(req, TRUST_PROOF_NAME, proof) : 0;
}

static void proof_in(struct obj_door *door, struct obj_req *req)
{
	(void)door;
	(void)req;
}

static void kept_known(enum obj_status st, const char *message, struct kept *kept, void *arg)
{
	(void)message;
	assert_int_equal(st, OBJ_OK);
	*(struct kept **)arg = kept;
}

/* Others' metadata of so many bytes on an object that is overwritten; how many of them the next one has. */
static size_t keep_others(struct fixture *f, unsigned bytes)
{
	struct obj_req *head = objstore_req_new(OBJ_HEAD, "p/k");
	struct upload *u = upload_new(f, f->v, "p/k");
	struct kept *kept = NULL;
	size_t total = 0, others = 0;
	int answers = f->answers;
	char value[2048];

	memset(value, 'v', bytes - 4);
	value[bytes - 4] = '\0';
	assert_int_equal(obj_result_meta_add(&head->result, "note", value), 0);
	kept_of(f, f->v, head, kept_known, &kept);
	objstore_req_free(&head);
	u->kept = kept;
	u->done = uploaded;
	u->arg = f;
	ofs_oid_new(&u->meta.oid);
	u->meta.ours = true;
	u->meta.snapshot = calloc(1, sizeof(*u->meta.snapshot));
	u->meta.snapshot->xattrs = calloc(4, sizeof(*u->meta.snapshot->xattrs));
	for (unsigned i = 0; i < 4; i++) { /* each small enough, all together if nobody else needs room */
		struct snapshot_xattr *x = &u->meta.snapshot->xattrs[u->meta.snapshot->xattr_count++];

		assert_true(asprintf(&x->name, "user.%u", i) > 0);
		x->len = 250;
		x->value = malloc(x->len);
		memset(x->value, (int)i, x->len);
	}
	upload_start(u);
	fixture_advance(f, 1);
	fixture_wait(f, answers + 1);
	if (f->status != OBJ_OK) {
		fail_msg("%u bytes: %s", bytes, f->message);
	}
	talloc_free(u);
	talloc_free(kept);
	head = objstore_req_new(OBJ_HEAD, "p/k");
	assert_int_equal(fixture_run(f, head), OBJ_OK);
	for (unsigned i = 0; i < head->result.meta_count; i++) {
		size_t len = strlen(head->result.meta[i].name) + strlen(head->result.meta[i].value);

		total += len;
		others += strcmp(head->result.meta[i].name, "note") == 0 ? len : 0;
	}
	assert_true(total <= OBJ_META_MAX_BYTES);
	objstore_req_free(&head);
	assert_int_equal(fixture_delete(f, "p/k"), OBJ_OK);
	return others;
}

/* Ours go elsewhere where others have some; what does not fit for all that is left out, and never refused. */
static void test_room(void **state)
{
	struct obj_door door = {.out = proof_out, .in = proof_in};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct fixture *f = fixture_new();
		size_t most = 0;

		f->store->s.caps.put_if_none_match = f->store->s.caps.put_if_match = true;
		f->store->s.door = i > 0 ? &door : NULL;
		for (unsigned bytes = 100; bytes <= 2000; bytes += 20) {
			size_t kept = keep_others(f, bytes);

			assert_true(kept == bytes || (kept == 0 && bytes > 1000));
			most = kept > most ? kept : most;
		}
		assert_true(most >= 1000 && most < 2000);
		fixture_free(&f);
	}
}

static struct blocks *numbered(int64_t size)
{
	struct blocks *b = blocks_new(size, 8 * MIB);

	assert_non_null(b);
	for (unsigned i = 0; i < b->count; i++) {
		memset(b->sha256[i], (int)i + 1, 32);
	}
	return b;
}

/* The parts are the file, each byte once, in order; what is copied is the same, what is sent is one block. */
static void check_plan(const struct blocks *b, const bool *same, int64_t run, const char *want)
{
	struct blocks_part parts[64];
	unsigned n = blocks_plan(b, same, run, parts);
	char said[256] = "";
	int64_t at = 0;

	for (unsigned i = 0; i < n; i++) {
		size_t len = strlen(said);

		assert_int_equal(parts[i].offset, at);
		assert_true(parts[i].length > 0 && (i + 1 == n || parts[i].length >= OBJ_PART_MIN_BYTES));
		for (int64_t p = at; p < at + parts[i].length; p += b->each) {
			assert_int_equal(same[p / b->each], parts[i].copy);
		}
		at += parts[i].length;
		snprintf(said + len, sizeof(said) - len, "%s%s%lld", i == 0 ? "" : " ", parts[i].copy ? "c" : "s",
				(long long)(parts[i].length / MIB));
	}
	assert_int_equal(at, b->size);
	assert_string_equal(said, want);
}

static void test_plan(void **state)
{
	const bool none[10] = {false}, all[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
	const bool some[10] = {1, 1, 1, 0, 0, 1, 1, 1, 1, 0}, other[10] = {0, 1, 0, 1, 1, 1, 1, 1, 1, 1};
	struct blocks *b = numbered(73 * MIB);

	(void)state;
	assert_int_equal(b->count, 10);
	check_plan(b, none, 256 * MIB, "s8 s8 s8 s8 s8 s8 s8 s8 s8 s1");
	check_plan(b, all, 256 * MIB, "c73");
	check_plan(b, all, 72 * MIB, "c72 c1");
	check_plan(b, some, 256 * MIB, "c24 s8 s8 c32 s1");
	check_plan(b, some, 17 * MIB, "c16 c8 s8 s8 c16 c16 s1");
	check_plan(b, other, 0, "s8 c8 s8 c8 c8 c8 c8 c8 c8 c1");
	blocks_free(&b);
	assert_null(blocks_new(0, 8 * MIB));
	assert_null(blocks_new(8 * MIB, 6 * GIB));
	assert_null(blocks_new(OBJECT_MAX_BYTES, 5 * GIB - 1)); /* one too many */
	assert_null(blocks_new(-1, 8 * MIB));
	b = blocks_new(OBJECT_MAX_BYTES, 5 * GIB);
	assert_int_equal(b->count, OBJ_PARTS_MAX);
	blocks_free(&b);
}

static void test_blocks_file(void **state)
{
	struct blocks *b = numbered(73 * MIB), *c;
	uint8_t *data;
	size_t len;

	(void)state;
	b->etag = strdup("e-10");
	b->version = strdup("v 1");
	data = blocks_pack(b, &len);
	assert_non_null(data);
	c = blocks_unpack(data, len);
	assert_non_null(c);
	assert_int_equal(c->size, b->size);
	assert_int_equal(c->each, b->each);
	assert_string_equal(c->etag, "e-10");
	assert_string_equal(c->version, "v 1");
	assert_memory_equal(c->sha256, b->sha256, 320);
	blocks_free(&c);
	for (size_t i = 0; i < len; i++) { /* any byte other, or missing */
		data[i] ^= 1;
		assert_null(blocks_unpack(data, len));
		data[i] ^= 1;
		assert_null(blocks_unpack(data, i));
	}
	blocks_free(&b);
	free(data);
}

/* ---- what has not changed is copied ---- */

#define DELTA_BLOCK (32 * MIB)
#define DELTA_BYTES (2 * DELTA_BLOCK + 1) /* two blocks of zeros, and one byte, which has changed */
#define DELTA_ETAG "0123456789abcdef0123456789abcdef-3"

static void nothing_kept(void *arg)
{
	*(bool *)arg = true;
}

/* What was sent of the file the last time, of an object of this ETag and version. */
static void delta_keep(struct fixture *f, const struct ofs_oid *oid, const char *etag, const char *version)
{
	struct blocks *b = blocks_new(DELTA_BYTES, DELTA_BLOCK);
	static uint8_t zeros[DELTA_BLOCK];
	bool kept = false;

	assert_non_null(b);
	assert_int_equal(EVP_Digest(zeros, sizeof(zeros), b->sha256[0], NULL, EVP_sha256(), NULL), 1);
	memcpy(b->sha256[1], b->sha256[0], 32);
	b->etag = strdup(etag);
	b->version = version != NULL ? strdup(version) : NULL;
	blocks_keep(f->v, oid, b, nothing_kept, &kept);
	while (!kept) {
		tevent_loop_once(f->ev);
	}
}

static struct upload *delta_start(struct fixture *f, const char *key, const char *version)
{
	struct upload *u = upload_new(f, f->v, key);

	u->fd = memfd_create("delta", MFD_CLOEXEC);
	assert_true(u->fd >= 0 && ftruncate(u->fd, DELTA_BYTES) == 0);
	assert_int_equal(pwrite(u->fd, "x", 1, DELTA_BYTES - 1), 1);
	u->size = DELTA_BYTES;
	u->if_match = talloc_strdup(u, DELTA_ETAG);
	u->done = uploaded;
	u->arg = f;
	ofs_oid_new(&u->meta.oid);
	u->meta.snapshot = calloc(1, sizeof(*u->meta.snapshot));
	delta_keep(f, &u->meta.oid, strcmp(version, "other") == 0 ? "e-3" : DELTA_ETAG,
			version[0] == 'v' ? version : NULL);
	upload_start(u);
	fixture_advance(f, 1);
	return u;
}

static struct fixture *delta_fixture(bool by_version, enum obj_op hold)
{
	struct fixture *f = fixture_new();

	f->conf.part_size_bytes = DELTA_BLOCK;
	f->conf.delta_above_bytes = 1;
	f->v->blocks_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->store->s.caps = (struct obj_caps){.fence_class = 3, .put_if_match = true, .put_if_none_match = true,
		.complete_if_match = true, .complete_if_none_match = true, .part_copy_if_match = !by_version,
		.part_copy_version = by_version};
	f->store->hold = (int)hold;
	return f;
}

static void delta_end(struct fixture *f, struct upload *u)
{
	close(u->fd);
	talloc_free(u);
	close(f->v->blocks_fd);
	fixture_free(&f);
}

/* The held request is answered so, in place of the store. */
static void delta_answer(struct fixture *f, enum obj_status status, const char *sum)
{
	struct obj_req *req = f->store->held;

	f->store->held = NULL;
	req->result.status = status;
	req->result.etag = strdup("e");
	req->result.sum = sum != NULL ? strdup(sum) : NULL;
	req->done(req);
}

/* A part that is copied is of the version that was compared, and of no other; what the store refuses, or copies
 * wrongly, is sent. */
static void test_delta(void **state)
{
	static const struct {
		const char *key, *version; /* of the object whose blocks are known; "": it has none; "other": not this one */
		bool by_version;     /* all that the store holds a copy to */
		enum obj_status answer;
		const char *sum;     /* that it says of the copy */
		enum obj_status want;
		unsigned copies, tries;
	} rows[] = {
		{"p/k", "", false, OBJ_PRECONDITION, NULL, OBJ_PRECONDITION, 1, 1},
		{"p/k", "v 7", true, OBJ_NOT_FOUND, NULL, OBJ_NOT_FOUND, 1, 1},
		{"p/k", "", true, OBJ_OK, NULL, OBJ_AWAY, 0, 1}, /* nothing to hold it to */
		{"p/k", "other", false, OBJ_OK, NULL, OBJ_AWAY, 0, 1},
		{"p/k", "", false, OBJ_DENIED, NULL, OBJ_AWAY, 1, 2},
		{"p/k", "", false, OBJ_OK, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", OBJ_AWAY, 1, 2},
		{"p/100%", "", false, OBJ_OK, NULL, OBJ_AWAY, 0, 1}, /* some stores would take another object's bytes */
		{"p/why?", "", false, OBJ_OK, NULL, OBJ_AWAY, 0, 1},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fixture *f = delta_fixture(rows[i].by_version, OBJ_MPU_COPY);
		struct upload *u;

		atomic_store(&f->store->s.sum, rows[i].sum != NULL ? OBJ_SUM_SHA256 : OBJ_SUM_NONE);
		f->conf.encryption = rows[i].by_version ? CONF_SSE_CUSTOMER : CONF_SSE_NONE;
		u = delta_start(f, rows[i].key, rows[i].version);
		f->store->fail_op = OBJ_MPU_PART;
		f->store->fail_with = OBJ_AWAY;
		f->store->fail_count = rows[i].copies == 0 ? 3 : 0;
		while (f->store->held == NULL && f->answers == 0) {
			tevent_loop_once(f->ev);
		}
		assert_int_equal(f->store->held != NULL, rows[i].copies);
		if (f->store->held != NULL) {
			const struct obj_req *req = f->store->held;

			assert_string_equal(req->source_key, "p/k");
			assert_int_equal(req->source_if_match != NULL, !rows[i].by_version);
			assert_true(rows[i].by_version || strcmp(req->source_if_match, DELTA_ETAG) == 0);
			assert_int_equal(req->source_version_id != NULL, rows[i].by_version);
			assert_true(!rows[i].by_version || strcmp(req->source_version_id, rows[i].version) == 0);
			assert_int_equal(req->source_customer, rows[i].by_version); /* without the key it is not read */
			assert_int_equal(req->length, rows[i].sum != NULL ? DELTA_BLOCK : 2 * DELTA_BLOCK);
			f->store->fail_count = 8; /* all that is sent after it */
			delta_answer(f, rows[i].answer, rows[i].sum);
		}
		fixture_wait(f, 1);
		assert_int_equal(f->status, rows[i].want);
		assert_int_equal(f->store->seen[OBJ_MPU_CREATE], rows[i].tries);
		assert_int_equal(f->store->seen[OBJ_MPU_ABORT], rows[i].tries);
		assert_int_equal(f->store->seen[OBJ_MPU_COMPLETE], 0);
		delta_end(f, u);
	}
}

/* The file moves between the look at its blocks and the sending of one: no object is made of two states. */
static void test_delta_moves(void **state)
{
	struct fixture *f = delta_fixture(false, OBJ_MPU_CREATE);
	struct upload *u = delta_start(f, "p/k", "");

	(void)state;
	while (f->store->held == NULL) {
		tevent_loop_once(f->ev);
	}
	assert_int_equal(pwrite(u->fd, "y", 1, DELTA_BYTES - 1), 1);
	test_store_release(f->store);
	f->store->hold = OBJ_MPU_COPY;
	while (f->store->held == NULL || f->store->seen[OBJ_MPU_PART] == 0 || f->store->in_flight > 0) {
		tevent_loop_once(f->ev);
	}
	delta_answer(f, OBJ_OK, NULL);
	fixture_wait(f, 1);
	assert_int_equal(f->status, OBJ_CANCELLED);
	assert_int_equal(f->store->seen[OBJ_MPU_COMPLETE], 0);
	assert_int_equal(f->store->seen[OBJ_MPU_ABORT], 1);
	delta_end(f, u);
}

/* A value that does not fit into metadata: nothing names it before it is there. */
static void test_blobs_first(void **state)
{
	static const char name[] = "user.large";
	struct fixture *f = fixture_new();
	struct upload *u = upload_new(f, f->v, "p/k");
	struct snapshot *s = calloc(1, sizeof(*s));
	int answers = f->answers;

	(void)state;
	f->store->s.caps = (struct obj_caps){.fence_class = 3, .put_if_match = true, .put_if_none_match = true};
	s->xattrs = calloc(1, sizeof(*s->xattrs));
	s->xattr_count = 1;
	s->xattrs[0].name = strdup(name);
	s->xattrs[0].len = 3000;
	s->xattrs[0].value = calloc(1, 3000);
	u->fd = memfd_create("sent", MFD_CLOEXEC);
	assert_int_equal(write(u->fd, "12345", 5), 5);
	u->size = 5;
	u->done = uploaded;
	u->arg = f;
	ofs_oid_new(&u->meta.oid);
	u->meta.snapshot = s;
	f->store->hold = OBJ_PUT;
	upload_start(u);
	for (int turns = 0; f->store->held == NULL && turns < 1000; turns++) {
		fixture_advance(f, 1);
		tevent_loop_once(f->ev);
	}
	assert_non_null(f->store->held);
	assert_memory_equal(f->store->held->key, "p/.objectfs/blob/", 17);
	assert_false(is_there(f));
	delta_answer(f, OBJ_AWAY, NULL);
	fixture_wait(f, answers + 1);
	assert_int_equal(f->status, OBJ_AWAY);
	assert_int_equal(f->store->seen[OBJ_PUT], 0); /* the object was not even tried */
	close(u->fd);
	talloc_free(u);
	fixture_free(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blobs_first),
		cmocka_unit_test(test_part_bytes),
		cmocka_unit_test(test_open_interval),
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_complete),
		cmocka_unit_test(test_look),
		cmocka_unit_test(test_blob_first),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_plan),
		cmocka_unit_test(test_blocks_file),
		cmocka_unit_test(test_delta),
		cmocka_unit_test(test_delta_moves),
	};

	return cmocka_run_group_tests_name("upload", tests, NULL, NULL);
}
