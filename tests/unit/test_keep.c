/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cached/evict/keep.c: sums that stay sums, the order in which files go, what comes back soon, and a
 * hundred thousand of them.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "cached/evict/keep.h"

#define HOT 100u
#define SCAN 5000u
#define MANY 100000u

/* Ids are random in life; a multiplicative hash spreads these, and is one to one. */
static struct ofs_oid oid_of(uint64_t n)
{
	uint64_t id = n * 0x9e3779b97f4a7c15ULL;
	struct ofs_oid oid;

	memcpy(oid.bytes, &id, sizeof(id));
	memcpy(oid.bytes + sizeof(id), &n, sizeof(n));
	return oid;
}

static uint64_t number_of(const struct ofs_oid *oid)
{
	uint64_t n;

	memcpy(&n, oid->bytes + sizeof(n), sizeof(n));
	return n;
}

static void set(struct keep *k, uint64_t n, uint64_t bytes)
{
	struct ofs_oid oid = oid_of(n);

	keep_set(k, &oid, bytes, 1);
}

static void touch(struct keep *k, uint64_t n)
{
	struct ofs_oid oid = oid_of(n);

	keep_touch(k, &oid, 1);
}

static void gone(struct keep *k, uint64_t n)
{
	struct ofs_oid oid = oid_of(n);

	keep_gone(k, &oid);
}

static bool has(const struct keep *k, uint64_t n)
{
	struct ofs_oid oid = oid_of(n);

	return keep_has(k, &oid);
}

/* The number of the file that goes, gone; 0: none. */
static uint64_t evict_one(struct keep *k)
{
	struct ofs_oid oid;

	if (!keep_pick(k, &oid)) {
		return 0;
	}
	keep_gone(k, &oid);
	return number_of(&oid);
}

static int setup(void **state)
{
	*state = keep_new(NULL);
	return *state != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	talloc_free(*state);
	return 0;
}

static void test_sums(void **state)
{
	struct keep *k = *state;

	set(k, 1, 100);
	set(k, 2, 200);
	assert_int_equal(keep_count(k), 2);
	assert_int_equal(keep_bytes(k), 300);
	set(k, 1, 50); /* shrunk */
	set(k, 2, 500); /* grown */
	assert_int_equal(keep_bytes(k), 550);
	assert_int_equal(keep_count(k), 2);
	set(k, 1, 0); /* nothing is left here */
	assert_false(has(k, 1));
	assert_int_equal(keep_bytes(k), 500);
	touch(k, 3); /* what is not here is not made by its use */
	assert_false(has(k, 3));
	set(k, 3, 0);
	assert_int_equal(keep_count(k), 1);
	gone(k, 2);
	gone(k, 4); /* unknown */
	assert_int_equal(keep_bytes(k), 0);
	assert_int_equal(keep_count(k), 0);
	assert_int_equal(keep_leaving(k), 0);
	assert_int_equal(evict_one(k), 0);
}

/* Between pick and its fate a file is counted, but is given to nobody else. */
static void test_what_is_left_of_an_earlier_recall_counts(void **state)
{
	struct keep *k = *state;
	struct ofs_oid oid = oid_of(1);

	keep_set_least(k, &oid, 300, 1);
	keep_set_least(k, &oid, 100, 1);
	assert_int_equal(keep_bytes(k), 300);
	keep_set_least(k, &oid, 400, 1);
	assert_int_equal(keep_bytes(k), 400);
	keep_set(k, &oid, 200, 1);
	assert_int_equal(keep_bytes(k), 200);
}

static void test_pick_then_fate(void **state)
{
	struct keep *k = *state;
	struct ofs_oid one, two, none;

	set(k, 1, 100);
	set(k, 2, 200);
	assert_true(keep_pick(k, &one));
	assert_int_equal(number_of(&one), 1);
	assert_int_equal(keep_leaving(k), 100);
	assert_int_equal(keep_bytes(k), 300);
	assert_false(keep_take(k, &one));
	set(k, 1, 150); /* it grows while it leaves */
	assert_int_equal(keep_leaving(k), 150);
	assert_true(keep_pick(k, &two));
	assert_int_equal(number_of(&two), 2);
	assert_false(keep_pick(k, &none));
	keep_stays(k, &one);
	assert_int_equal(keep_leaving(k), 200);
	keep_stays(k, &one); /* twice does not put it into two queues */
	keep_gone(k, &two);
	assert_int_equal(keep_leaving(k), 0);
	assert_int_equal(keep_bytes(k), 150);
	assert_true(keep_take(k, &one));
	assert_int_equal(keep_leaving(k), 150);
	assert_false(keep_pick(k, &none));
	keep_drop(k, &one); /* deleted by a client meanwhile */
	assert_int_equal(keep_leaving(k), 0);
	keep_stays(k, &one);
	keep_gone(k, &one);
	assert_int_equal(keep_count(k), 0);
}

static void test_oldest_first_used_ones_later(void **state)
{
	struct keep *k = *state;
	uint64_t n;

	for (n = 1; n <= 10; n++) {
		set(k, n, 100);
	}
	touch(k, 1); /* opened to be written, as all are: no proof yet */
	touch(k, 2);
	touch(k, 2);
	assert_int_equal(evict_one(k), 1);
	for (n = 3; n <= 10; n++) {
		assert_int_equal(evict_one(k), n);
	}
	assert_int_equal(evict_one(k), 2);
	assert_int_equal(evict_one(k), 0);
}

/* A backup reads everything once; what is used every day stays. */
static void test_scan_leaves_the_hot_set(void **state)
{
	struct keep *k = *state;
	uint64_t n, hot = 0;

	for (n = 1; n <= HOT; n++) {
		set(k, n, 100);
		touch(k, n);
		touch(k, n);
	}
	for (n = HOT + 1; n <= HOT + SCAN; n++) {
		set(k, n, 100);
		touch(k, n);
		while (keep_bytes(k) > 2 * HOT * 100) {
			assert_int_not_equal(evict_one(k), 0);
		}
	}
	for (n = 1; n <= HOT; n++) {
		hot += has(k, n);
	}
	assert_int_equal(hot, HOT);
	assert_int_equal(keep_bytes(k), 2 * HOT * 100);
}

/* The hot set is not for ever: what nobody opens for a round goes. */
static void test_what_was_hot_goes(void **state)
{
	struct keep *k = *state;
	unsigned i;

	set(k, 1, 100);
	for (i = 0; i < 1000; i++) {
		touch(k, 1);
	}
	set(k, 2, 100);
	for (i = 0; i < 10 && has(k, 1); i++) {
		set(k, 2, 100);
		(void)evict_one(k);
	}
	assert_false(has(k, 1));
}

static void test_what_comes_back_soon_is_kept(void **state)
{
	struct keep *k = *state;
	uint64_t n;

	set(k, 1, 100);
	assert_int_equal(evict_one(k), 1);
	set(k, 1, 100); /* back: to the main queue */
	for (n = 2; n <= 20; n++) {
		set(k, n, 100);
	}
	for (n = 2; n <= 18; n++) {
		assert_int_equal(evict_one(k), n);
		assert_true(has(k, 1));
	}
	/* One that went long ago is as new as any other. */
	set(k, MANY, 100);
	gone(k, MANY);
	for (n = 1000; n < 3000; n++) {
		gone(k, n);
	}
	gone(k, 1);
	set(k, MANY, 100);
	set(k, 30, 100);
	assert_int_equal(evict_one(k), 19);
	assert_int_equal(evict_one(k), 20);
	assert_int_equal(evict_one(k), MANY);
	assert_int_equal(evict_one(k), 30);
}

static void test_a_file_in_use_is_not_asked_at_once_again(void **state)
{
	struct keep *k = *state;
	struct ofs_oid oid;
	uint64_t n;

	for (n = 1; n <= 5; n++) {
		set(k, n, 100);
	}
	assert_true(keep_pick(k, &oid));
	assert_int_equal(number_of(&oid), 1);
	keep_stays(k, &oid);
	for (n = 2; n <= 5; n++) {
		assert_int_equal(evict_one(k), n);
	}
	assert_int_equal(evict_one(k), 1);
}

static void test_a_hundred_thousand(void **state)
{
	struct keep *k = *state;
	uint8_t *seen = calloc(MANY + 1, 1);
	uint64_t n, bytes = 0;

	assert_non_null(seen);
	for (n = 1; n <= MANY; n++) {
		set(k, n, n);
		bytes += n;
	}
	assert_int_equal(keep_count(k), MANY);
	assert_int_equal(keep_bytes(k), bytes);
	for (n = 1; n <= MANY; n++) {
		assert_true(has(k, n));
		if (n % 3 == 0) {
			set(k, n, 0);
			bytes -= n;
		}
	}
	assert_int_equal(keep_bytes(k), bytes);
	while ((n = evict_one(k)) != 0) {
		assert_false(seen[n] || n % 3 == 0);
		seen[n] = 1;
		bytes -= n;
		assert_int_equal(keep_bytes(k), bytes);
	}
	assert_int_equal(keep_count(k), 0);
	assert_int_equal(bytes, 0);
	free(seen);
}

/* All old ones are found, in turn, and none that was used since. */
static void test_age(void **state)
{
	struct keep *k = *state;
	unsigned found = 0, look = 1 << 20;
	struct ofs_oid oid;
	uint64_t n;

	for (n = 1; n <= 2000; n++) {
		oid = oid_of(n);
		keep_set(k, &oid, 100, 10);
		if (n % 2 == 0) {
			keep_touch(k, &oid, 50);
		}
	}
	oid = oid_of(1);
	keep_touch(k, &oid, 5); /* a clock that went back makes nothing older */
	assert_false(keep_old(k, 10, &look, &oid));
	assert_int_equal(look, 0);
	look = 1 << 20;
	while (keep_old(k, 11, &look, &oid)) {
		assert_int_equal(number_of(&oid) % 2, 1);
		assert_true(keep_take(k, &oid));
		keep_gone(k, &oid);
		found++;
	}
	assert_int_equal(found, 1000);
	set(k, 3000, 100);
	oid = oid_of(3000);
	assert_true(keep_take(k, &oid)); /* one that leaves already is not given twice */
	look = 1 << 20;
	assert_false(keep_old(k, 11, &look, &oid));
}

/* One that may not go does not hide others from their age. */
static void test_age_of_all(void **state)
{
	struct keep *k = *state;
	uint8_t *seen = calloc(2001, 1);
	unsigned found = 0, look = 100 * 1024;
	struct ofs_oid oid;

	assert_non_null(seen);
	for (uint64_t n = 1; n <= 2000; n++) {
		set(k, n, 100);
	}
	while (keep_old(k, 11, &look, &oid)) {
		found += !seen[number_of(&oid)];
		seen[number_of(&oid)] = 1;
	}
	assert_int_equal(look, 0);
	assert_int_equal(found, 2000);
	free(seen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(test_sums, setup, teardown),
			cmocka_unit_test_setup_teardown(test_what_is_left_of_an_earlier_recall_counts, setup, teardown),
			cmocka_unit_test_setup_teardown(test_pick_then_fate, setup, teardown),
			cmocka_unit_test_setup_teardown(
					test_oldest_first_used_ones_later, setup, teardown),
			cmocka_unit_test_setup_teardown(
					test_scan_leaves_the_hot_set, setup, teardown),
			cmocka_unit_test_setup_teardown(test_what_was_hot_goes, setup, teardown),
			cmocka_unit_test_setup_teardown(
					test_what_comes_back_soon_is_kept, setup, teardown),
			cmocka_unit_test_setup_teardown(
					test_a_file_in_use_is_not_asked_at_once_again, setup, teardown),
			cmocka_unit_test_setup_teardown(test_a_hundred_thousand, setup, teardown),
			cmocka_unit_test_setup_teardown(test_age, setup, teardown),
			cmocka_unit_test_setup_teardown(test_age_of_all, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
