/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Duty: metadata changes reach the bucket once and in sequence, and come back; what is missing or
 * damaged there is noticed. On the directory store, with its answers lost and refused. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cached/base/log.h"
#include "cached/reconcile/metalog.h"
#include "cached/reconcile/metalog_priv.h"
#include "tests/lib/volume_fixture.h"

#define KEY(seq) "p/.objectfs/log/00112233445566778899aabbccddeeff/000000000000000" #seq
#define OTHER(seq) "p/.objectfs/log/ffeeddccbbaa99887766554433221100/000000000000000" #seq

static int setup(void **state)
{
	struct fixture *f = fixture_new();

	f->v->metalog = metalog_new(f->ev, f->v);
	metalog_load(f->v->metalog, fixture_answer, f);
	fixture_wait(f, 1);
	f->answers = 0;
	*state = f;
	return f->status;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	talloc_free(f->v->metalog);
	fixture_free(&f);
	return 0;
}

static struct ofs_oid oid_of(unsigned n)
{
	struct ofs_oid oid = { { 9, (uint8_t)n, (uint8_t)(n >> 8) } };

	return oid;
}

static void append(struct fixture *f, unsigned n, uint64_t gen, const char *packed)
{
	struct ofs_oid oid = oid_of(n);

	metalog_append(f->v->metalog, &oid, gen, gen + 1, (uint8_t *)strdup(packed), strlen(packed),
			fixture_committed, f);
}

static void expect_entry_of(struct fixture *f, unsigned n, uint64_t gen, uint64_t data_gen, const char *packed)
{
	struct ofs_oid oid = oid_of(n);
	const struct metalog_entry *e = metalog_find(f->v->metalog, &oid, gen - 1);

	assert_non_null(e);
	assert_true(e->meta_gen == gen && e->data_gen == data_gen);
	assert_int_equal(e->packed_len, strlen(packed));
	assert_memory_equal(e->packed, packed, e->packed_len);
	assert_null(metalog_find(f->v->metalog, &oid, gen));
}

static void expect_entry(struct fixture *f, unsigned n, uint64_t gen, const char *packed)
{
	expect_entry_of(f, n, gen, gen + 1, packed);
}

/* As after a restart of the daemon; the answer's status. */
static int reload(struct fixture *f)
{
	talloc_free(f->v->metalog);
	f->v->metalog = metalog_new(f->ev, f->v);
	f->answers = 0;
	metalog_load(f->v->metalog, fixture_answer, f);
	fixture_wait(f, 1);
	f->answers = 0;
	return f->status;
}

static void test_write_and_read(void **state)
{
	struct fixture *f = *state;
	char *text;

	append(f, 1, 5, "one");
	append(f, 2, 1, "two");
	append(f, 1, 6, "one again");
	assert_int_equal(metalog_queued(f->v->metalog), 3);
	expect_entry(f, 1, 6, "one again");
	assert_int_equal(f->store->seen[OBJ_PUT], 0);
	fixture_advance(f, 59 * NS_PER_S);
	assert_int_equal(f->store->seen[OBJ_PUT], 0);
	fixture_advance(f, NS_PER_S);
	fixture_wait(f, 3);
	assert_int_equal(f->status, 0);
	assert_int_equal(f->store->seen[OBJ_PUT], 1);
	assert_int_equal(metalog_queued(f->v->metalog), 0);
	text = fixture_get(f, KEY(1));
	assert_non_null(text);
	assert_ptr_equal(strstr(text, "objectfs-log 1 01000000000000000000000000000000 "
				      "00112233445566778899aabbccddeeff 1\n"),
			text);
	assert_non_null(strstr(text, "\nM 09010000000000000000000000000000 5 6 b25l\n"));
	assert_non_null(strstr(text, "\nend 3 "));
	free(text);
	append(f, 3, 1, "three");
	metalog_flush(f->v->metalog);
	fixture_wait(f, 4);
	fixture_index_new(f); /* the disk is lost too */
	assert_int_equal(reload(f), 0);
	expect_entry(f, 1, 6, "one again");
	expect_entry(f, 2, 1, "two");
	expect_entry(f, 3, 1, "three");
	/* the sequence goes on */
	append(f, 4, 1, "four");
	metalog_flush(f->v->metalog);
	fixture_wait(f, 1);
	text = fixture_get(f, KEY(3));
	assert_non_null(text);
	free(text);
	assert_int_equal(reload(f), 0);
	expect_entry(f, 4, 1, "four");
}

static void test_answer_lost(void **state)
{
	struct fixture *f = *state;

	f->store->fail_op = OBJ_PUT;
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_UNKNOWN; /* committed all the same */
	append(f, 1, 1, "one");
	metalog_flush(f->v->metalog);
	while (f->store->fail_count > 0 || f->clock.timers == NULL) {
		tevent_loop_once(f->ev);
	}
	assert_int_equal(f->answers, 0);
	append(f, 2, 1, "two"); /* for the next segment: the first must stay as it was sent */
	fixture_advance(f, 2 * NS_PER_S);
	fixture_wait(f, 1);
	assert_int_equal(f->status, 0);
	assert_int_equal(f->store->seen[OBJ_PUT], 2);
	fixture_advance(f, 60 * NS_PER_S);
	fixture_wait(f, 2);
	assert_int_equal(reload(f), 0);
	expect_entry(f, 1, 1, "one");
	expect_entry(f, 2, 1, "two");
}

static void test_number_taken(void **state)
{
	struct fixture *f = *state;
	char *text;

	assert_int_equal(fixture_put(f, KEY(1), "somebody else's"), OBJ_OK);
	append(f, 1, 1, "one");
	metalog_flush(f->v->metalog);
	fixture_wait(f, 1);
	assert_int_equal(f->status, 0);
	text = fixture_get(f, KEY(1));
	assert_string_equal(text, "somebody else's");
	free(text);
	text = fixture_get(f, KEY(2));
	assert_non_null(strstr(text, "eeff 2\n"));
	free(text);
}

static void test_store_away(void **state)
{
	struct fixture *f = *state;

	f->store->fail_op = OBJ_PUT;
	f->store->fail_count = 1000;
	f->store->fail_with = OBJ_AWAY;
	append(f, 1, 1, "one");
	metalog_flush(f->v->metalog);
	for (;;) {
		while (f->clock.timers == NULL) {
			tevent_loop_once(f->ev);
		}
		if (f->answers > 0) {
			break;
		}
		fixture_advance(f, 60 * NS_PER_S);
	}
	assert_int_equal(f->store->seen[OBJ_PUT], 3);
	assert_int_equal(f->answers, 1);
	assert_int_equal(f->status, -EAGAIN);
	assert_int_equal(metalog_queued(f->v->metalog), 1);
	/* asked again with the same change: no second entry */
	append(f, 1, 1, "one");
	assert_int_equal(metalog_queued(f->v->metalog), 1);
	f->store->fail_count = 0;
	while (f->answers < 2) {
		while (f->clock.timers == NULL && f->answers < 2) {
			tevent_loop_once(f->ev);
		}
		fixture_advance(f, 60 * NS_PER_S);
	}
	assert_int_equal(f->status, 0);
	assert_int_equal(reload(f), 0);
	expect_entry(f, 1, 1, "one");
}

static void test_denied(void **state)
{
	struct fixture *f = *state;

	f->store->fail_op = OBJ_PUT;
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_DENIED;
	append(f, 1, 1, "one");
	metalog_flush(f->v->metalog);
	fixture_wait(f, 1);
	assert_int_equal(f->status, -EACCES); /* told at once, tried again all the same */
	fixture_advance(f, 60 * NS_PER_S);
	while (metalog_queued(f->v->metalog) > 0) {
		tevent_loop_once(f->ev);
	}
	assert_int_equal(f->answers, 1);
	assert_int_equal(reload(f), 0);
	expect_entry(f, 1, 1, "one");
}

static void test_large(void **state)
{
	struct fixture *f = *state;
	char packed[3001];

	memset(packed, 'p', 3000);
	packed[3000] = '\0';
	for (unsigned i = 0; i < 600; i++) { /* 2.4 MB of text */
		append(f, i, 1, packed);
	}
	assert_int_equal(f->store->seen[OBJ_PUT], 1); /* full: without waiting */
	metalog_flush(f->v->metalog);
	fixture_wait(f, 600);
	assert_int_equal(f->store->seen[OBJ_PUT], 3);
	assert_int_equal(reload(f), 0);
	expect_entry(f, 0, 1, packed);
	expect_entry(f, 599, 1, packed);
}

static void test_not_ready(void **state)
{
	struct fixture *f = *state;

	f->v->state = VOLUME_HELD;
	append(f, 1, 1, "one");
	metalog_flush(f->v->metalog);
	fixture_advance(f, 100 * NS_PER_S);
	assert_int_equal(f->store->seen[OBJ_PUT], 0);
	f->v->state = VOLUME_READY;
	fixture_advance(f, 2 * NS_PER_S);
	fixture_wait(f, 1);
	assert_int_equal(f->status, 0);
}

static void segment(struct fixture *f, const char *key, const char *node, uint64_t seq, unsigned n,
		uint64_t gen, const char *packed)
{
	struct metalog_entry e = { .oid = oid_of(n), .meta_gen = gen, .data_gen = gen + 1,
		.packed = (uint8_t *)packed, .packed_len = strlen(packed) };
	struct metalog_id id = { .uuid = &f->v->uuid, .node = node, .seq = seq };
	char *line = metalog_line(&e), *text;
	size_t len;

	text = metalog_segment_build(&id, (const char *const *)&line, 1, &len);
	assert_int_equal(fixture_put(f, key, text), OBJ_OK);
	free(text);
	free(line);
}

static void test_other_nodes(void **state)
{
	struct fixture *f = *state;
	static const char other[] = "ffeeddccbbaa99887766554433221100";

	segment(f, OTHER(1), other, 1, 1, 9, "newer");
	segment(f, OTHER(2), other, 2, 2, 3, "older");
	append(f, 1, 8, "mine");
	append(f, 2, 4, "mine");
	metalog_flush(f->v->metalog);
	fixture_wait(f, 2);
	assert_int_equal(reload(f), 0);
	expect_entry(f, 1, 9, "newer");
	expect_entry(f, 2, 4, "mine");
	/* a gap */
	segment(f, OTHER(4), other, 4, 3, 1, "x");
	assert_int_equal(reload(f), -EBADMSG);
	assert_non_null(strstr(f->message, OTHER(3)));
	/* repaired */
	segment(f, OTHER(3), other, 3, 3, 2, "y");
	assert_int_equal(reload(f), 0);
	expect_entry(f, 3, 2, "y");
	/* the first one is gone */
	assert_int_equal(fixture_delete(f, OTHER(1)), OBJ_OK);
	assert_int_equal(reload(f), -EBADMSG);
	assert_non_null(strstr(f->message, OTHER(1)));
	segment(f, OTHER(1), other, 1, 1, 9, "newer");
	/* a key that is none of ours does no harm */
	assert_int_equal(fixture_put(f, "p/.objectfs/log/readme", "x"), OBJ_OK);
	assert_int_equal(reload(f), 0);
}

static void test_damaged(void **state)
{
	struct fixture *f = *state;
	char *text;

	append(f, 1, 1, "one");
	metalog_flush(f->v->metalog);
	fixture_wait(f, 1);
	text = fixture_get(f, KEY(1));
	for (size_t i = 0; i < strlen(text); i += 7) {
		char *bad = strdup(text);

		bad[i] ^= 1;
		assert_int_equal(fixture_put(f, KEY(1), bad), OBJ_OK);
		assert_int_equal(reload(f), -EBADMSG);
		assert_non_null(strstr(f->message, KEY(1)));
		free(bad);
	}
	for (size_t cut = 0; cut < strlen(text); cut += 11) {
		char *bad = strndup(text, cut);

		assert_int_equal(fixture_put(f, KEY(1), bad), OBJ_OK);
		assert_int_equal(reload(f), -EBADMSG);
		free(bad);
	}
	/* whole, but of another place or volume */
	assert_int_equal(fixture_put(f, KEY(1), text), OBJ_OK);
	assert_int_equal(fixture_put(f, KEY(2), text), OBJ_OK);
	assert_int_equal(reload(f), -EBADMSG);
	assert_int_equal(fixture_delete(f, KEY(2)), OBJ_OK);
	assert_int_equal(reload(f), 0);
	f->v->uuid.bytes[0] ^= 1;
	assert_int_equal(reload(f), -EBADMSG);
	f->v->uuid.bytes[0] ^= 1;
	/* the index remembers a segment that is gone */
	assert_int_equal(fixture_delete(f, KEY(1)), OBJ_OK);
	assert_int_equal(reload(f), -EBADMSG);
	assert_non_null(strstr(f->message, KEY(1)));
	/* another node id: not its segment */
	f->v->node_id[0] = 'a';
	assert_int_equal(reload(f), 0);
	free(text);
}

static void test_load_fails(void **state)
{
	struct fixture *f = *state;

	append(f, 1, 1, "one");
	metalog_flush(f->v->metalog);
	fixture_wait(f, 1);
	f->store->fail_op = OBJ_LIST;
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_AWAY;
	assert_int_equal(reload(f), -EAGAIN);
	f->store->fail_op = OBJ_GET;
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_DENIED;
	assert_int_equal(reload(f), -EACCES);
	/* gone between listing and reading, as when another node folds its log: listed again */
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_NOT_FOUND;
	assert_int_equal(reload(f), 0);
	f->store->fail_count = 1000;
	assert_int_equal(reload(f), -EBADMSG);
	assert_non_null(strstr(f->message, "is gone"));
	f->store->fail_count = 0;
	/* the same log, asked again */
	metalog_load(f->v->metalog, fixture_answer, f);
	fixture_wait(f, 1);
	assert_int_equal(f->status, 0);
	expect_entry(f, 1, 1, "one");
}

static void test_pages(void **state)
{
	struct fixture *f = *state;
	char key[128];

	for (uint64_t seq = 1; seq <= 1003; seq++) {
		snprintf(key, sizeof(key), "p/.objectfs/log/%s/%016llx", f->v->node_id,
				(unsigned long long)seq);
		segment(f, key, f->v->node_id, seq, (unsigned)seq, 1, "x");
	}
	assert_int_equal(reload(f), 0);
	expect_entry(f, 1003, 1, "x");
	append(f, 1, 2, "after");
	metalog_flush(f->v->metalog);
	fixture_wait(f, 1);
	assert_int_equal(reload(f), 0);
	expect_entry(f, 1, 2, "after");
}

/* --- folding --- */

static unsigned segments(struct fixture *f)
{
	struct obj_req *req = objstore_req_new(OBJ_LIST, "p/.objectfs/log/");
	unsigned count;

	assert_int_equal(fixture_run(f, req), OBJ_OK);
	count = req->result.entry_count;
	objstore_req_free(&req);
	return count;
}

/* Until nothing is under way any more, for an hour. */
static void quiet(struct fixture *f)
{
	for (unsigned i = 0; i < 60; i++) {
		while (f->store->in_flight > 0) {
			tevent_loop_once(f->ev);
		}
		fixture_advance(f, 60 * NS_PER_S);
	}
}

static void write_segment(struct fixture *f, unsigned n, uint64_t gen, const char *packed)
{
	int before = f->answers;

	append(f, n, gen, packed);
	metalog_flush(f->v->metalog);
	fixture_wait(f, before + 1);
}

static void settled(struct fixture *f, unsigned n, uint64_t gen)
{
	struct ofs_oid oid = oid_of(n);

	metalog_settled(f->v->metalog, &oid, gen);
}

static int append_above(struct fixture *f, unsigned n, uint64_t gen, const char *packed)
{
	struct ofs_oid oid = oid_of(n);

	return metalog_append_above(f->v->metalog, &oid, gen, gen + 1, (const uint8_t *)packed,
			strlen(packed), fixture_committed, f);
}

/* What this node says of a file counts, although the log has a newer generation of it: it goes above. */
static void test_above(void **state)
{
	struct fixture *f = *state;

	append(f, 1, 5, "another's");
	assert_int_equal(append_above(f, 1, 3, "ours"), 0);
	expect_entry_of(f, 1, 6, 4, "ours");
	assert_int_equal(append_above(f, 1, 6, "again"), 0);
	expect_entry_of(f, 1, 7, 7, "again");
	metalog_flush(f->v->metalog);
	fixture_wait(f, 3);
	assert_int_equal(append_above(f, 1, 2, "again"), 0); /* as it is there */
	fixture_wait(f, 4);
	assert_int_equal(reload(f), 0);
	expect_entry_of(f, 1, 7, 7, "again");
}

static void expect_none(struct fixture *f, unsigned n)
{
	struct ofs_oid oid = oid_of(n);

	assert_null(metalog_find(f->v->metalog, &oid, 0));
}

static void test_fold(void **state)
{
	struct fixture *f = *state;
	char *text;

	for (unsigned i = 1; i <= 4; i++) {
		write_segment(f, i, 1, "old");
	}
	settled(f, 2, 1); /* what follows is newer */
	write_segment(f, 2, 2, "new");
	settled(f, 3, 1);            /* its object has it */
	settled(f, 4, METALOG_GONE); /* has no object any more */
	settled(f, 1, 1); /* had it, until another tool's PUT: only the log has it now */
	assert_int_equal(append_above(f, 1, 1, "old"), 0);
	quiet(f);
	assert_int_equal(segments(f), 5);
	f->conf.log_fold = 6;
	write_segment(f, 5, 7, "last");
	quiet(f);
	assert_int_equal(segments(f), 1);
	text = fixture_get(f, KEY(7));
	assert_non_null(text);
	assert_ptr_equal(strstr(text, "objectfs-log 2 01000000000000000000000000000000 "
				      "00112233445566778899aabbccddeeff 7 7\n"),
			text);
	assert_non_null(strstr(text, "\nend 3 "));
	free(text);
	for (int round = 0; round < 2; round++) {
		expect_entry(f, 1, 1, "old");
		expect_entry(f, 2, 2, "new");
		expect_none(f, 3);
		expect_none(f, 4);
		expect_entry(f, 5, 7, "last");
		assert_int_equal(reload(f), 0);
	}
	/* it goes on behind, and is folded again when there are as many again */
	for (unsigned i = 1; i <= 6; i++) {
		write_segment(f, 10 + i, 1, "more");
		quiet(f);
		assert_int_equal(segments(f), 1 + i);
	}
	write_segment(f, 17, 1, "more");
	quiet(f);
	assert_int_equal(segments(f), 1);
	assert_int_equal(reload(f), 0);
	expect_entry(f, 2, 2, "new");
	expect_entry(f, 17, 1, "more");
	/* the segment that says so is gone, or the one it needs */
	assert_int_equal(fixture_delete(f, "p/.objectfs/log/00112233445566778899aabbccddeeff/000000000000000f"),
			OBJ_OK);
	assert_int_equal(reload(f), -EBADMSG);
}

/* What is written while a fold goes on is in neither case lost: it is what the fold writes, or comes behind. */
static void test_fold_large(void **state)
{
	struct fixture *f = *state;
	char packed[3001];
	int answers;

	memset(packed, 'p', 3000);
	packed[3000] = '\0';
	for (unsigned i = 0; i < 600; i++) { /* 2.4 MB of text */
		append(f, i, 1, packed);
	}
	metalog_flush(f->v->metalog);
	fixture_wait(f, 600);
	f->conf.log_fold = 4;
	answers = f->answers;
	for (unsigned i = 0; i < 20; i++) {
		append(f, 30 * i, 2, "changed");
		metalog_flush(f->v->metalog);
		while (f->answers == answers) {
			tevent_loop_once(f->ev);
		}
		answers = f->answers;
	}
	quiet(f);
	fixture_index_new(f);
	assert_int_equal(reload(f), 0);
	for (unsigned i = 0; i < 600; i++) {
		if (i % 30 == 0) {
			expect_entry(f, i, 2, "changed");
		} else {
			expect_entry(f, i, 1, packed);
		}
	}
	assert_true(segments(f) < 14);
}

/* The daemon dies at each request in turn: its answer never comes, nothing follows. */
static void test_fold_killed(void **state)
{
	struct fixture *f = *state;
	char packed[700001];
	unsigned cut = 1;
	bool ended;

	memset(packed, 'q', 700000);
	packed[700000] = '\0';
	for (unsigned i = 1; i <= 3; i++) { /* parts of a fold: two */
		write_segment(f, i, 1, packed);
	}
	for (unsigned i = 1; i <= 3; i++) {
		write_segment(f, 20 + i, i, "small");
	}
	do {
		unsigned before = segments(f);

		f->conf.log_fold = 2;
		f->store->served = 0;
		f->store->cut_at = cut;
		append(f, 40, cut, "before the kill");
		metalog_flush(f->v->metalog);
		quiet(f);
		ended = f->store->served < cut;
		f->store->cut_at = 0;
		f->conf.log_fold = 100000;
		fixture_index_new(f); /* nobody remembers how far it was */
		assert_int_equal(reload(f), 0);
		for (unsigned i = 1; i <= 3; i++) {
			expect_entry(f, i, 1, packed);
			expect_entry(f, 20 + i, i, "small");
		}
		assert_true(segments(f) <= before + 6);
		expect_entry(f, 40, cut, "before the kill");
		if (cut == 1) {
			fixture_index_new(f);
		}
		/* as many old ones as before, for the next try */
		while (segments(f) < 7) {
			write_segment(f, 41, 1000 * cut + segments(f), "fill");
		}
		cut++;
	} while (!ended);
	assert_true(cut > 9);
}

/* What comes back from the store is not what was sent: nothing is deleted. */
static void test_fold_damaged(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 1; i <= 3; i++) {
		write_segment(f, i, 1, "x");
	}
	f->conf.log_fold = 4;
	f->store->fail_op = OBJ_GET;
	f->store->fail_count = 1;
	f->store->fail_with = OBJ_NOT_FOUND;
	write_segment(f, 4, 1, "x");
	quiet(f);
	assert_int_equal(segments(f), 5);
	write_segment(f, 5, 1, "x");
	quiet(f);
	assert_int_equal(segments(f), 6);
	f->conf.log_fold = 100000;
	assert_int_equal(reload(f), 0);
	for (unsigned i = 1; i <= 5; i++) {
		expect_entry(f, i, 1, "x");
	}
}

/* Two daemons with one node id: what the other wrote is not folded away. */
static void test_fold_twins(void **state)
{
	struct fixture *f = *state;

	write_segment(f, 1, 1, "mine");
	segment(f, KEY(2), f->v->node_id, 2, 2, 1, "twin's");
	segment(f, KEY(3), f->v->node_id, 3, 3, 1, "twin's");
	f->conf.log_fold = 4;
	write_segment(f, 4, 1, "mine");
	quiet(f);
	assert_int_equal(segments(f), 1);
	assert_int_equal(reload(f), 0);
	expect_entry(f, 1, 1, "mine");
	expect_entry(f, 2, 1, "twin's");
	expect_entry(f, 3, 1, "twin's");
	expect_entry(f, 4, 1, "mine");
}

/* The log goes away while requests are under way. */
static void test_freed(void **state)
{
	struct fixture *f = *state;
	char *text = NULL;

	append(f, 1, 1, "one");
	metalog_flush(f->v->metalog);
	append(f, 2, 1, "two");
	TALLOC_FREE(f->v->metalog);
	while (text == NULL) {
		text = fixture_get(f, KEY(1));
	}
	free(text);
	f->v->metalog = metalog_new(f->ev, f->v);
	metalog_load(f->v->metalog, fixture_answer, f);
	TALLOC_FREE(f->v->metalog);
	f->v->metalog = metalog_new(f->ev, f->v);
	assert_int_equal(reload(f), 0);
	expect_entry(f, 1, 1, "one");
	assert_int_equal(f->answers, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_write_and_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answer_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_number_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_store_away, setup, teardown),
		cmocka_unit_test_setup_teardown(test_denied, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_ready, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_nodes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_load_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_above, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fold, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fold_large, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fold_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fold_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fold_twins, setup, teardown),
		cmocka_unit_test_setup_teardown(test_freed, setup, teardown),
	};

	log_open("/dev/null", LOG_LVL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
