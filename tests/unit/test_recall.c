/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Recall: bytes of stubs from a real directory store into real files. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/base/stats.h"
#include "cached/objstore/impl.h"
#include "tests/lib/mirror_fixture.h"

#define MIB (1u << 20)
#define MTIME 1600000000LL

struct opened {
	bool done;
	int status, map_fd;
	uint64_t id, size;
};

struct fetched {
	bool done;
	int status;
	char message[256];
};

static uint8_t *pattern(size_t len, unsigned seed)
{
	uint8_t *p = malloc(len);
	size_t i;

	assert_non_null(p);
	for (i = 0; i < len; i++) {
		p[i] = (uint8_t)(i * 31 + (i >> 9) * 7 + (i >> 20) * 13 + seed);
	}
	return p;
}

/* An object and its stub. */
static uint8_t *stub(struct fixture *fx, const char *name, size_t len, unsigned seed)
{
	uint8_t *data = pattern(len, seed);

	talloc_free(fixture_put(fx, name, data, len, "mtime", "1600000000", NULL));
	assert_int_equal(fixture_lookup(fx, "", name), 0);
	return data;
}

static void on_opened(int status, const char *message, uint64_t open_id, uint64_t size, int map_fd,
		void *arg)
{
	struct opened *o = arg;

	assert_false(o->done);
	o->done = true;
	o->status = status;
	o->id = open_id;
	o->size = size;
	o->map_fd = map_fd;
	snprintf(fixture_message, sizeof(fixture_message), "%s", message ? message : "");
}

static struct opened open_it(struct fixture *fx, const char *name)
{
	struct opened o = {.map_fd = -1};

	recall_open(fx->v->recalls, 1, 1, fixture_open(fx, name, O_PATH), on_opened, &o);
	fixture_until(fx, &o.done);
	return o;
}

static void on_fetched(int status, const char *message, void *arg)
{
	struct fetched *f = arg;

	assert_false(f->done);
	f->done = true;
	f->status = status;
	snprintf(f->message, sizeof(f->message), "%s", message ? message : "");
}

static void ask(struct fixture *fx, struct fetched *f, uint64_t id, uint64_t offset, uint64_t len,
		bool whole)
{
	memset(f, 0, sizeof(*f));
	recall_fetch(fx->v->recalls, 1, id, offset, len, whole, on_fetched, f);
}

static int fetch(struct fixture *fx, uint64_t id, uint64_t offset, uint64_t len, bool whole)
{
	struct fetched f;

	ask(fx, &f, id, offset, len, whole);
	fixture_until(fx, &f.done);
	snprintf(fixture_message, sizeof(fixture_message), "%s", f.message);
	return f.status;
}

static void done_with(struct fixture *fx, struct opened *o)
{
	recall_release(fx->v->recalls, o->id);
	if (o->map_fd >= 0) {
		close(o->map_fd);
	}
}

static bool mapped(const struct opened *o, unsigned extent)
{
	uint8_t byte;

	assert_int_equal(pread(o->map_fd, &byte, 1, extent / 8), 1);
	return (byte >> (extent % 8)) & 1;
}

static void check_bytes(struct fixture *fx, const char *name, const uint8_t *want, size_t offset,
		size_t len)
{
	uint8_t *got = malloc(len ? len : 1);
	int fd = fixture_open(fx, name, O_RDONLY);

	assert_int_equal(pread(fd, got, len, (off_t)offset), (ssize_t)len);
	assert_int_equal(memcmp(got, want + offset, len), 0);
	close(fd);
	free(got);
}

static void check_plain(struct fixture *fx, const char *name, int64_t size)
{
	struct ofs_record rec = fixture_record(fx, name);
	struct stat st;

	assert_int_equal(fstatat(fx->v->tree_fd, name, &st, 0), 0);
	assert_int_equal(st.st_mode & OFS_MARKER_MODE, 0);
	assert_int_equal(st.st_size, size);
	assert_int_equal(rec.flags & OFS_REC_STUB, 0);
}

static void test_first_bytes(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "big", 24 * MIB + 17, 1);
	struct opened o = open_it(fx, "big");
	uint8_t *map;

	assert_int_equal(o.status, 0);
	assert_true(o.id != 0 && o.map_fd >= 0);
	assert_int_equal(o.size, 24 * MIB + 17);
	map = mmap(NULL, 4, PROT_READ, MAP_SHARED, o.map_fd, 0);
	assert_true(map != MAP_FAILED);
	assert_int_equal(map[0], 0);
	assert_int_equal(fetch(fx, o.id, 0, 4096, false), 0);
	assert_int_equal(map[0], 1);
	fixture_idle(fx, 50);
	assert_true(fx->asked_bytes < 2 * MIB);
	check_bytes(fx, "big", data, 0, 4096);
	/* the last, short extent; a range beyond the end; nothing */
	assert_int_equal(fetch(fx, o.id, 24 * MIB + 1, 4 * MIB, false), 0);
	assert_int_equal(map[3] & 1, 1);
	check_bytes(fx, "big", data, 24 * MIB, 17);
	assert_int_equal(fetch(fx, o.id, 30 * MIB, 1, false), 0);
	assert_int_equal(fetch(fx, o.id, 0, 0, false), 0);
	assert_true(fixture_record(fx, "big").flags & OFS_REC_STUB);
	assert_int_equal(fetch(fx, o.id + 99, 0, 1, false), -EBADF);
	munmap(map, 4);
	done_with(fx, &o);
	free(data);
}

static void test_whole(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", 5 * MIB + 1, 2);
	struct opened o = open_it(fx, "f"), again;
	int64_t whole = stats_get(recalls_whole);
	struct stat st;

	assert_int_equal(fetch(fx, o.id, 2 * MIB, 1, false), 0);
	assert_int_equal(fetch(fx, o.id, 0, 0, true), 0);
	check_plain(fx, "f", 5 * MIB + 1);
	check_bytes(fx, "f", data, 0, 5 * MIB + 1);
	assert_int_equal(fstatat(fx->v->tree_fd, "f", &st, 0), 0);
	assert_int_equal(st.st_mtim.tv_sec, MTIME);
	assert_int_equal(fixture_record(fx, "f").flags, OFS_REC_KNOWN);
	assert_int_equal(stats_get(recalls_whole), whole + 1);
	/* each extent once */
	assert_int_equal(fx->asked_bytes, 5 * MIB + 1);
	assert_false(recall_busy(fx->v->recalls, st.st_ino));
	assert_int_equal(fetch(fx, o.id, 0, 1, false), 0);
	again = open_it(fx, "f");
	assert_int_equal(again.status, 0);
	assert_int_equal(again.id, 0);
	assert_int_equal(again.map_fd, -1);
	done_with(fx, &o);
	free(data);
}

/* Every extent fetched by ranges: plain although nobody asked for the whole. */
static void test_ranges_make_whole(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", 3 * MIB, 3);
	struct opened o = open_it(fx, "f");
	int i;

	for (i = 0; i < 3; i++) {
		assert_int_equal(fetch(fx, o.id, (2 - i) * MIB, MIB, false), 0);
	}
	FIXTURE_UNTIL(fx, (fixture_record(fx, "f").flags & OFS_REC_STUB) == 0);
	check_plain(fx, "f", 3 * MIB);
	check_bytes(fx, "f", data, 0, 3 * MIB);
	done_with(fx, &o);
	free(data);
}

static void test_read_ahead(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", 40 * MIB, 4);
	struct opened o = open_it(fx, "f"), random;
	int i;

	for (i = 0; i < 12; i++) {
		assert_int_equal(fetch(fx, o.id, (uint64_t)i * MIB, 65536, false), 0);
	}
	FIXTURE_UNTIL(fx, mapped(&o, 12) && mapped(&o, 13) && mapped(&o, 14));
	check_bytes(fx, "f", data, 0, 12 * MIB);
	done_with(fx, &o);
	free(data);
	data = stub(fx, "g", 40 * MIB, 5);
	random = open_it(fx, "g");
	fx->asked_bytes = 0;
	for (i = 0; i < 8; i++) { /* backwards: no reading ahead */
		assert_int_equal(fetch(fx, random.id, (uint64_t)(39 - 3 * i) * MIB, 1, false), 0);
	}
	fixture_idle(fx, 50);
	assert_int_equal(fx->asked_bytes, 8 * MIB);
	done_with(fx, &random);
	free(data);
}

static void test_shared(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", 2 * MIB, 6);
	struct opened a = open_it(fx, "f"), b = open_it(fx, "f");
	struct fetched f[3];

	assert_true(a.id != b.id);
	fixture_fault(fx, OBJ_GET, "share/f", FAULT_HANG, OBJ_OK);
	ask(fx, &f[0], a.id, 0, 10, false);
	ask(fx, &f[1], b.id, 100, 10, false);
	ask(fx, &f[2], b.id, 5, 10, false);
	FIXTURE_UNTIL(fx, fx->hanging != NULL);
	fixture_idle(fx, 20);
	assert_false(f[0].done || f[1].done || f[2].done);
	assert_int_equal(fx->sent[OBJ_GET], 1); /* joined */
	done_with(fx, &b); /* its callbacks still come */
	fixture_release(fx);
	fixture_until(fx, &f[0].done);
	fixture_until(fx, &f[1].done);
	fixture_until(fx, &f[2].done);
	assert_int_equal(f[0].status | f[1].status | f[2].status, 0);
	done_with(fx, &a);
	free(data);
}

static void test_one_hangs(void **state)
{
	struct fixture *fx = *state;
	uint8_t *bad = stub(fx, "bad", 40 * MIB, 7), *good = stub(fx, "good", 3 * MIB, 8);
	struct opened o = open_it(fx, "bad"), p = open_it(fx, "good");
	struct fetched f;

	fixture_fault(fx, OBJ_GET, "share/bad", FAULT_HANG, OBJ_OK);
	ask(fx, &f, o.id, 0, 0, true);
	FIXTURE_UNTIL(fx, fx->hanging != NULL);
	assert_int_equal(fetch(fx, p.id, 0, 0, true), 0);
	check_plain(fx, "good", 3 * MIB);
	assert_false(f.done);
	fixture_release(fx);
	fixture_until(fx, &f.done);
	assert_int_equal(f.status, 0);
	check_bytes(fx, "bad", bad, 0, 40 * MIB);
	done_with(fx, &o);
	done_with(fx, &p);
	free(bad);
	free(good);
}

static void test_failure(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", 2 * MIB, 9);
	struct opened o = open_it(fx, "f");

	fixture_fault(fx, OBJ_GET, "share/f", FAULT_FAIL, OBJ_AWAY);
	assert_int_equal(fetch(fx, o.id, 0, 1, false), -EIO);
	assert_non_null(strstr(fixture_message, "made to fail"));
	fixture_fault(fx, OBJ_GET, "share/f", FAULT_FAIL, OBJ_DENIED);
	assert_int_equal(fetch(fx, o.id, 0, 1, false), -EACCES);
	assert_false(mapped(&o, 0));
	fixture_fault(fx, OBJ_GET, "", FAULT_NONE, OBJ_OK);
	assert_int_equal(fetch(fx, o.id, 0, 0, true), 0);
	check_bytes(fx, "f", data, 0, 2 * MIB);
	done_with(fx, &o);
	fx->v->state = VOLUME_HELD;
	free(data);
	fx->v->state = VOLUME_READY;
	data = stub(fx, "g", 2 * MIB, 10);
	fx->v->state = VOLUME_HELD;
	o = open_it(fx, "g");
	assert_int_equal(o.status, 0);
	assert_int_equal(fetch(fx, o.id, 0, 1, false), -EIO);
	done_with(fx, &o);
	free(data);
}

/* What was read ahead and did not come is asked for again by who waits for it. */
static void test_ahead_fails(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", 40 * MIB, 11);
	struct opened o = open_it(fx, "f");
	struct fetched f;
	struct obj_req *req;
	uint64_t at = 0;

	while (fx->hanging == NULL) {
		assert_int_equal(fetch(fx, o.id, at * MIB, 65536, false), 0);
		at++;
		if (at == 4) {
			FIXTURE_UNTIL(fx, mapped(&o, 4));
			fixture_idle(fx, 50);
			fixture_fault(fx, OBJ_GET, "share/f", FAULT_HANG, OBJ_OK);
		}
	}
	assert_int_equal(fx->hanging->prio, OBJ_PRIO_AHEAD);
	at = (uint64_t)fx->hanging->offset;
	ask(fx, &f, o.id, at, 1, false);
	fixture_idle(fx, 20);
	assert_false(f.done);
	fixture_fault(fx, OBJ_GET, "", FAULT_NONE, OBJ_OK);
	while ((req = fx->hanging) != NULL) {
		fx->hanging = req->next;
		req->next = NULL;
		obj_fail(req, OBJ_AWAY, "made to fail");
		obj_deliver(fx->mb, req);
	}
	fixture_until(fx, &f.done);
	assert_int_equal(f.status, 0);
	check_bytes(fx, "f", data, at, 1);
	done_with(fx, &o);
	free(data);
}

static int flips; /* so many more GETs */

/* The first byte comes as another. */
static void flip(struct obj_req *req)
{
	uint8_t byte;

	if (req->result.status == OBJ_OK && flips > 0 && flips-- > 0) {
		assert_int_equal(pread(req->sink_fd, &byte, 1, req->sink_offset), 1);
		byte ^= 1;
		assert_int_equal(pwrite(req->sink_fd, &byte, 1, req->sink_offset), 1);
	}
}

static void flipped(struct fixture *fx, const char *key, int count)
{
	flips = count;
	fx->fault_edit = flip;
	fixture_fault(fx, OBJ_GET, key, FAULT_EDIT, OBJ_OK);
}

static void verifying(struct fixture *fx)
{
	fx->conf.checksum = CONF_SUM_AUTO;
	fx->conf.part_size_bytes = 8 * MIB;
	atomic_store(&fx->v->store->etag_md5, true);
}

/* What comes range by range is held against the object's ETag before the file is plain. */
static void test_other_bytes(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", 5 * MIB + 1, 9);
	struct opened o = open_it(fx, "f"), p;
	int64_t wrong = stats_get(recalls_wrong), untold = stats_get(recalls_untold);
	const char *key = NULL;

	verifying(fx);
	flipped(fx, "share/f", 1);
	assert_int_equal(fetch(fx, o.id, 0, 0, true), 0);
	assert_int_equal(stats_get(recalls_wrong), wrong + 1);
	assert_int_equal(fx->asked_bytes, 2 * (5 * MIB + 1));
	assert_int_equal(fx->sent[OBJ_HEAD], 1 + 1); /* for the stub, and when it was wrong: is the ETag an MD5? */
	check_plain(fx, "f", 5 * MIB + 1);
	check_bytes(fx, "f", data, 0, 5 * MIB + 1);
	done_with(fx, &o);
	free(data);

	/* of ranges: the last one to come is given to nobody, and who has others gets an error */
	data = stub(fx, "g", 6 * MIB, 10);
	o = open_it(fx, "g");
	p = open_it(fx, "g");
	flipped(fx, "share/g", 1);
	for (unsigned i = 6; i > 1; i--) {
		assert_int_equal(fetch(fx, o.id, (i - 1) * MIB, MIB, false), 0);
	}
	assert_true(mapped(&o, 5));
	assert_int_equal(fetch(fx, o.id, 0, MIB, false), -EIO);
	assert_false(mapped(&o, 0) || mapped(&o, 5));
	assert_int_equal(fetch(fx, p.id, 2 * MIB, 1, false), -EIO);
	assert_int_equal(stats_get(recalls_wrong), wrong + 2);
	assert_int_equal(recall_damaged(fx->v->recalls, &key), 1);
	assert_true(fixture_record(fx, "g").flags & OFS_REC_STUB);
	done_with(fx, &o);
	done_with(fx, &p);
	o = open_it(fx, "g");
	assert_int_equal(fetch(fx, o.id, 0, 6 * MIB, false), 0);
	check_bytes(fx, "g", data, 0, 6 * MIB);
	FIXTURE_UNTIL(fx, recall_damaged(fx->v->recalls, &key) == 0);
	done_with(fx, &o);
	free(data);

	/* a small one is given out only when all is right */
	data = stub(fx, "small", 3 * MIB, 10);
	o = open_it(fx, "small");
	flipped(fx, "share/small", 2);
	assert_int_equal(fetch(fx, o.id, 0, 1, false), 0);
	assert_int_equal(stats_get(recalls_wrong), wrong + 3);
	check_bytes(fx, "small", data, 0, 3 * MIB);
	done_with(fx, &o);
	free(data);

	/* each time: an error, told until it is read */
	data = stub(fx, "h", 2 * MIB, 11);
	o = open_it(fx, "h");
	flipped(fx, "share/h", 1000);
	assert_int_equal(fetch(fx, o.id, 0, 0, true), -EIO);
	assert_non_null(strstr(fixture_message, "are not those of the object"));
	assert_int_equal(stats_get(recalls_wrong), wrong + 6);
	assert_false(mapped(&o, 0));
	assert_true(fixture_record(fx, "h").flags & OFS_REC_STUB);
	assert_int_equal(recall_damaged(fx->v->recalls, &key), 1);
	assert_string_equal(key, "share/h");
	done_with(fx, &o);
	fixture_fault(fx, OBJ_GET, "", FAULT_NONE, OBJ_OK);
	o = open_it(fx, "h");
	assert_int_equal(fetch(fx, o.id, 0, 0, true), 0);
	assert_int_equal(recall_damaged(fx->v->recalls, &key), 0);
	check_bytes(fx, "h", data, 0, 2 * MIB);
	done_with(fx, &o);
	free(data);
	assert_int_equal(stats_get(recalls_untold), untold);
}

/* Where it cannot be told nothing is refused; where the store cannot be asked whether it is wrong, it is not given. */
static void test_cannot_be_told(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data;
	struct opened o;
	int64_t untold = stats_get(recalls_untold), wrong = stats_get(recalls_wrong);

	verifying(fx);
	fx->conf.checksum = CONF_SUM_NONE; /* not wanted */
	data = stub(fx, "f", 2 * MIB, 12);
	o = open_it(fx, "f");
	flipped(fx, "share/f", 1);
	assert_int_equal(fetch(fx, o.id, 0, 0, true), 0);
	assert_int_equal(stats_get(recalls_untold), untold + 1);
	done_with(fx, &o);
	free(data);
	fx->conf.checksum = CONF_SUM_AUTO;
	data = stub(fx, "g", 2 * MIB, 13);
	atomic_store(&fx->v->store->etag_md5, false); /* nothing is known */
	o = open_it(fx, "g");
	assert_int_equal(fetch(fx, o.id, 0, 0, true), 0);
	assert_int_equal(stats_get(recalls_untold), untold + 2);
	atomic_store(&fx->v->store->etag_md5, true);
	done_with(fx, &o);
	free(data);
	data = stub(fx, "h", 6 * MIB, 14);
	o = open_it(fx, "h");
	flipped(fx, "share/h", 1);
	for (unsigned i = 6; i > 1; i--) {
		assert_int_equal(fetch(fx, o.id, (i - 1) * MIB, MIB, false), 0);
	}
	fixture_fault(fx, OBJ_HEAD, "share/h", FAULT_FAIL, OBJ_AWAY);
	assert_int_equal(fetch(fx, o.id, 0, MIB, false), -EIO);
	assert_false(mapped(&o, 0) || mapped(&o, 5));
	assert_int_equal(stats_get(recalls_wrong), wrong + 1);
	done_with(fx, &o);
	free(data);
}

/* The key is told until the object is read, replaced or gone. */
static void test_damaged(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "cut", 2 * MIB, 9);
	struct opened o = open_it(fx, "cut");
	const char *key = NULL;

	fixture_fault(fx, OBJ_GET, "share/cut", FAULT_FAIL, OBJ_AWAY);
	assert_int_equal(fetch(fx, o.id, 0, 1, false), -EIO);
	assert_int_equal(recall_damaged(fx->v->recalls, &key), 0);
	fixture_fault(fx, OBJ_GET, "share/cut", FAULT_FAIL, OBJ_DAMAGED);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fetch(fx, o.id, 0, 1, false), -EIO);
		assert_int_equal(recall_damaged(fx->v->recalls, &key), 1);
		assert_string_equal(key, "share/cut");
	}
	fixture_fault(fx, OBJ_GET, "", FAULT_NONE, OBJ_OK);
	assert_int_equal(fetch(fx, o.id, 0, 1, false), 0);
	assert_int_equal(recall_damaged(fx->v->recalls, &key), 1); /* not all of it */
	assert_int_equal(fetch(fx, o.id, 0, 0, true), 0);
	assert_int_equal(recall_damaged(fx->v->recalls, &key), 0);
	done_with(fx, &o);
	free(data);
	data = stub(fx, "two", 1, 10);
	o = open_it(fx, "two");
	/* each HEAD says that it is there */
	fixture_fault(fx, OBJ_GET, "share/two", FAULT_FAIL, OBJ_NOT_FOUND);
	assert_int_equal(fetch(fx, o.id, 0, 1, false), -EIO);
	assert_int_equal(recall_damaged(fx->v->recalls, &key), 1);
	index_set_fence(fx->v->index, fixture_row(fx, "two"), "another", NULL, NULL, 1, MTIME);
	assert_int_equal(recall_damaged(fx->v->recalls, &key), 0);
	done_with(fx, &o);
	free(data);
}

static void test_discard(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", 6 * MIB, 11);
	struct opened o = open_it(fx, "f"), p = open_it(fx, "f");
	struct ofs_record before = fixture_record(fx, "f"), after;
	struct fetched f, d = {0};

	fixture_fault(fx, OBJ_GET, "share/f", FAULT_HANG, OBJ_OK);
	ask(fx, &f, o.id, 0, 0, true);
	FIXTURE_UNTIL(fx, fx->hanging != NULL);
	recall_discard(fx->v->recalls, 1, p.id, on_fetched, &d);
	fixture_release(fx);
	fixture_until(fx, &d.done);
	fixture_until(fx, &f.done);
	assert_int_equal(d.status, 0);
	assert_int_equal(f.status, 0);
	check_plain(fx, "f", 0);
	after = fixture_record(fx, "f");
	assert_true(after.flags & OFS_REC_DATA_DIRTY);
	assert_true(after.flags & OFS_REC_KNOWN);
	assert_int_equal(after.data_gen, before.data_gen + 1);
	done_with(fx, &o);
	done_with(fx, &p);
	free(data);
}

/* The object is replaced before anything was read: same size goes on, other size is refused once. */
static void test_replaced_before(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", 2 * MIB, 12), *other = pattern(2 * MIB, 99);
	struct opened o = open_it(fx, "f");

	talloc_free(fixture_put(fx, "f", other, 2 * MIB, NULL));
	assert_int_equal(fetch(fx, o.id, 0, 0, true), 0);
	check_bytes(fx, "f", other, 0, 2 * MIB);
	done_with(fx, &o);
	free(data);
	data = stub(fx, "g", 2 * MIB, 13);
	o = open_it(fx, "g");
	talloc_free(fixture_put(fx, "g", other, MIB + 5, NULL));
	assert_int_equal(fetch(fx, o.id, 0, 1, false), -EIO);
	assert_non_null(strstr(fixture_message, "changed in S3"));
	done_with(fx, &o);
	o = open_it(fx, "g");
	assert_int_equal(o.size, MIB + 5);
	assert_int_equal(fetch(fx, o.id, 0, 0, true), 0);
	check_plain(fx, "g", MIB + 5);
	check_bytes(fx, "g", other, 0, MIB + 5);
	done_with(fx, &o);
	free(data);
	free(other);
}

/* After something was read: never bytes of two versions. */
static void test_replaced_after(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", 3 * MIB, 14), *other = pattern(3 * MIB, 98);
	struct opened o = open_it(fx, "f"), p = open_it(fx, "f");

	assert_int_equal(fetch(fx, o.id, 0, 1, false), 0);
	talloc_free(fixture_put(fx, "f", other, 3 * MIB, NULL));
	assert_int_equal(fetch(fx, o.id, 2 * MIB, 1, false), -EIO);
	assert_false(mapped(&o, 0));
	assert_int_equal(fetch(fx, p.id, 0, 1, false), -EIO);
	done_with(fx, &o);
	done_with(fx, &p);
	o = open_it(fx, "f");
	assert_int_equal(fetch(fx, o.id, 0, 0, true), 0);
	check_bytes(fx, "f", other, 0, 3 * MIB);
	done_with(fx, &o);
	free(data);
	free(other);
}

/* The row knows the object, and the file here is not of it: the next listing brings it. */
static void test_other_version(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", MIB, 16);
	struct ofs_record rec;
	struct opened o;
	int fd;

	assert_int_equal(fixture_list(fx, "", false), 0);
	rec = fixture_record(fx, "f");
	rec.size = MIB - 3;
	rec.clean.fence++;
	fd = fixture_open(fx, "f", O_RDONLY);
	assert_int_equal(ofs_record_set(&fx->v->rio, fd, &rec), 0);
	close(fd);
	o = open_it(fx, "f");
	assert_int_equal(o.size, MIB - 3);
	assert_int_equal(fetch(fx, o.id, 0, 1, false), -EIO);
	assert_non_null(strstr(fixture_message, "of another version"));
	done_with(fx, &o);
	FIXTURE_UNTIL(fx, (fixture_record(fx, "").flags & OFS_REC_LISTED) == 0);
	assert_int_equal(fixture_list(fx, "", false), 0);
	o = open_it(fx, "f");
	assert_int_equal(fetch(fx, o.id, 0, 0, true), 0);
	check_plain(fx, "f", MIB);
	check_bytes(fx, "f", data, 0, MIB);
	done_with(fx, &o);
	free(data);
}

static void test_deleted(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", MIB, 15);
	struct opened o;

	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_true(fixture_record(fx, "").flags & OFS_REC_LISTED);
	fixture_delete(fx, "f");
	o = open_it(fx, "f");
	assert_int_equal(fetch(fx, o.id, 0, 1, false), -ENOENT);
	assert_non_null(strstr(fixture_message, "deleted in S3"));
	done_with(fx, &o);
	FIXTURE_UNTIL(fx, (fixture_record(fx, "").flags & OFS_REC_LISTED) == 0);
	assert_int_equal(fixture_list(fx, "", false), 0);
	assert_false(fixture_exists(fx, "f"));
	free(data);
}

/* cp -a of a stub: marker and record, bound to the other inode. */
static void test_copied_stub(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", MIB, 16);
	uint8_t rec[OFS_RECORD_BYTES];
	struct opened o;
	int fd;

	fd = fixture_open(fx, "f", O_RDONLY);
	assert_int_equal(fgetxattr(fd, fx->v->rio.xattr, rec, sizeof(rec)), OFS_RECORD_BYTES);
	close(fd);
	fd = openat(fx->v->tree_fd, "copy", O_RDWR | O_CREAT, 0666);
	assert_int_equal(ftruncate(fd, MIB), 0);
	assert_int_equal(fsetxattr(fd, fx->v->rio.xattr, rec, sizeof(rec), 0), 0);
	o = open_it(fx, "copy"); /* no marker: a file as any other */
	assert_int_equal(o.status, 0);
	assert_int_equal(o.id, 0);
	assert_int_equal(fchmod(fd, 0666 | OFS_MARKER_MODE), 0);
	close(fd);
	o = open_it(fx, "copy");
	assert_int_equal(o.status, -EIO);
	free(data);
}

/* A stop between taking STUB and taking the marker off; STUB without a marker. */
static void test_half_made(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", MIB, 17);
	struct ofs_record rec = fixture_record(fx, "f");
	struct opened o;
	struct stat st;

	assert_int_equal(fchmodat(fx->v->tree_fd, "f", 0644, 0), 0);
	o = open_it(fx, "f");
	assert_true(o.id != 0);
	assert_int_equal(fstatat(fx->v->tree_fd, "f", &st, 0), 0);
	assert_true(st.st_mode & OFS_MARKER_MODE);
	done_with(fx, &o);
	rec.flags &= ~(uint32_t)OFS_REC_STUB;
	fixture_record_set(fx, "f", &rec);
	o = open_it(fx, "f");
	assert_int_equal(o.status, 0);
	assert_int_equal(o.id, 0);
	check_plain(fx, "f", MIB);
	free(data);
}

static void test_index_lost(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = pattern(MIB + 9, 18);
	struct opened o;

	talloc_free(fixture_put(fx, "d/e/f", data, MIB + 9, NULL));
	assert_int_equal(fixture_lookup(fx, "", "d"), 0);
	assert_int_equal(fixture_lookup(fx, "d", "e"), 0);
	assert_int_equal(fixture_lookup(fx, "d/e", "f"), 0);
	fixture_index_again(fx, true);
	o = open_it(fx, "d/e/f");
	assert_int_equal(fetch(fx, o.id, 0, 0, true), 0);
	check_plain(fx, "d/e/f", MIB + 9);
	check_bytes(fx, "d/e/f", data, 0, MIB + 9);
	done_with(fx, &o);
	free(data);
}

/* Readers come and go while the last extents arrive: nobody writes into a plain file. */
static void test_open_while_finishing(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", 2 * MIB, 19);
	struct opened o = open_it(fx, "f"), n[8];
	struct fetched f;
	unsigned i;

	memset(n, 0, sizeof(n));
	ask(fx, &f, o.id, 0, 0, true);
	for (i = 0; i < 8; i++) {
		recall_open(fx->v->recalls, 1, 1, fixture_open(fx, "f", O_PATH), on_opened, &n[i]);
		fixture_idle(fx, 2);
	}
	fixture_until(fx, &f.done);
	done_with(fx, &o);
	for (i = 0; i < 8; i++) {
		fixture_until(fx, &n[i].done);
		assert_int_equal(n[i].status, 0);
		if (n[i].id != 0) {
			assert_int_equal(fetch(fx, n[i].id, 0, 0, true), 0);
			done_with(fx, &n[i]);
		}
	}
	assert_int_equal(fx->asked_bytes, 2 * MIB);
	check_plain(fx, "f", 2 * MIB);
	check_bytes(fx, "f", data, 0, 2 * MIB);
	free(data);
}

/* Who holds the record for too long is an error to who waits for the last bytes, not to who asks next. */
static void test_locked_while_finishing(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", 2 * MIB, 20);
	struct opened o = open_it(fx, "f");
	struct stat st;
	uint32_t stripe;

	assert_int_equal(fstatat(fx->v->tree_fd, "f", &st, 0), 0);
	stripe = ofs_shm_stripe_of(st.st_ino);
	assert_int_equal(ofs_shm_lock(fx->v->shm, stripe, 0), 0);
	assert_int_equal(fetch(fx, o.id, 0, 0, true), -ETIMEDOUT);
	assert_non_null(strstr(fixture_message, "locked"));
	ofs_shm_unlock(fx->v->shm, stripe);
	assert_int_equal(fetch(fx, o.id, 0, 0, true), 0);
	check_plain(fx, "f", 2 * MIB);
	check_bytes(fx, "f", data, 0, 2 * MIB);
	done_with(fx, &o);
	assert_false(recall_busy(fx->v->recalls, st.st_ino)); /* or nobody gets a lease any more */
	free(data);
}

static uint64_t whole_bytes;

static void on_whole(int status, const char *message, uint64_t bytes, void *arg)
{
	whole_bytes = bytes;
	on_fetched(status, message, arg);
}

static struct fetched whole(struct fixture *fx, const char *path)
{
	struct fetched f = {0};

	recall_whole(fx->v->recalls, 1, path, on_whole, &f);
	fixture_until(fx, &f.done);
	return f;
}

/* What the daemon wants for itself; an error comes with words. */
static void test_for_itself(void **state)
{
	struct fixture *fx = *state;
	uint8_t *data = stub(fx, "f", MIB + 1, 21);
	struct fetched f = whole(fx, "f");

	assert_int_equal(f.status, 0);
	assert_string_equal(f.message, "");
	assert_int_equal(whole_bytes, MIB + 1);
	check_plain(fx, "f", MIB + 1);
	check_bytes(fx, "f", data, 0, MIB + 1);
	f = whole(fx, "f");
	assert_int_equal(f.status, 0);
	assert_int_equal(whole_bytes, 0);
	f = whole(fx, "g");
	assert_int_equal(f.status, -ENOENT);
	assert_string_equal(f.message, strerror(ENOENT));
	free(data);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(first_bytes),
		T(whole),
		T(ranges_make_whole),
		T(read_ahead),
		T(ahead_fails),
		T(shared),
		T(one_hangs),
		T(failure),
		T(other_bytes),
		T(cannot_be_told),
		T(damaged),
		T(discard),
		T(replaced_before),
		T(replaced_after),
		T(other_version),
		T(deleted),
		T(copied_stub),
		T(half_made),
		T(index_lost),
		T(open_while_finishing),
		T(locked_while_finishing),
		T(for_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
