/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The contract's tests of single objects: the probe, bytes, ranges, metadata, limits, keys, conditions.
 *
 * Way:    objstore_contract.c runs them, the probe first: what it finds decides which apply.
 * Thread: one.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "objstore_contract.h"

#define MIB (1u << 20)

/* --- the probe comes first: what it finds decides which tests apply --- */

static void test_probe(void **state)
{
	struct obj_req *req;

	(void)state;
	assert_int_equal(contract_probe(contract.store), OBJ_OK);
	assert_in_range(contract.store->caps.fence_class, contract.least_fence_class, contract.most_fence_class);

	req = contract_req(OBJ_LIST, ".objectfs/probe/"); /* the scratch objects are gone */
	contract_expect(req, OBJ_OK);
	assert_int_equal(req->result.entry_count, 0);
	objstore_req_free(&req);
}

/* --- objects --- */

static void test_put_get_head_delete(void **state)
{
	char *etag;
	struct obj_req *req;

	(void)state;
	assert_int_equal(contract_put("one", "hello", 5, NULL, false, &etag), OBJ_OK);
	assert_non_null(etag);
	assert_null(strchr(etag, '"'));
	req = contract_req(OBJ_HEAD, "one");
	contract_expect(req, OBJ_OK);
	assert_string_equal(req->result.etag, etag);
	assert_int_equal(req->result.size, 5);
	assert_true(req->result.mtime_ns / 1000000000 > time(NULL) - 120);
	assert_true(req->result.mtime_ns / 1000000000 < time(NULL) + 120);
	objstore_req_free(&req);
	contract_expect_content("one", "hello", 5);
	assert_int_equal(contract_put("one", "other", 5, NULL, false, NULL), OBJ_OK);
	contract_expect_content("one", "other", 5);
	assert_int_equal(contract_delete("one"), OBJ_OK);
	contract_expect_absent("one");
	req = contract_req(OBJ_GET, "one");
	req->length = -1;
	contract_expect(req, OBJ_NOT_FOUND);
	objstore_req_free(&req);
	assert_int_equal(contract_delete("one"), OBJ_OK); /* deleting nothing is no error */
	free(etag);
}

static void test_empty(void **state)
{
	struct obj_req *req = contract_req(OBJ_PUT, "empty");
	uint8_t md[32];
	int fd = contract_memory_file("", 0);

	(void)state;
	req->fd = fd;
	contract_expect(req, OBJ_OK);
	EVP_Digest("", 0, md, NULL, EVP_sha256(), NULL);
	assert_memory_equal(req->result.sha256, md, 32);
	objstore_req_free(&req);
	contract_expect_content("empty", "", 0);
	req = contract_req(OBJ_HEAD, "empty");
	contract_expect(req, OBJ_OK);
	assert_int_equal(req->result.size, 0);
	assert_string_equal(req->result.etag, "d41d8cd98f00b204e9800998ecf8427e");
	objstore_req_free(&req);
	contract_delete("empty");
	close(fd);
}

static void test_descriptors(void **state)
{
	size_t len = 3 * MIB + 17;
	uint8_t *data = contract_noise(len), *back = malloc(len);
	uint8_t md[32];
	int fd = contract_memory_file(data, len), sink = contract_memory_file("", 0);
	struct obj_req *req = contract_req(OBJ_PUT, "from-fd");

	(void)state;
	assert_non_null(back);
	req->fd = fd;
	req->offset = 100;
	req->length = (int64_t)len - 100;
	contract_expect(req, OBJ_OK);
	EVP_Digest(data + 100, len - 100, md, NULL, EVP_sha256(), NULL);
	assert_memory_equal(req->result.sha256, md, 32);
	objstore_req_free(&req);

	req = contract_req(OBJ_GET, "from-fd");
	req->length = -1;
	req->sink_fd = sink;
	req->sink_offset = 4096;
	contract_expect(req, OBJ_OK);
	assert_int_equal(req->result.size, len - 100);
	assert_null(req->result.body);
	assert_int_equal(pread(sink, back, len, 4096), len - 100);
	assert_memory_equal(back, data + 100, len - 100);
	objstore_req_free(&req);

	/* a source that ends too early, a sink that cannot be written */
	req = contract_req(OBJ_PUT, "from-fd");
	req->fd = fd;
	req->length = (int64_t)len + 1;
	contract_expect(req, OBJ_LOCAL);
	objstore_req_free(&req);
	close(sink);
	sink = open("/dev/null", O_RDONLY | O_CLOEXEC);
	req = contract_req(OBJ_GET, "from-fd");
	req->length = -1;
	req->sink_fd = sink;
	contract_expect(req, OBJ_LOCAL);
	assert_int_equal(req->result.local_errno, EBADF);
	objstore_req_free(&req);
	contract_expect_content("from-fd", data + 100, len - 100); /* nothing changed */
	contract_delete("from-fd");
	close(sink);
	close(fd);
	free(data);
	free(back);
}

static void expect_range(const uint8_t *data, int64_t from, int64_t length, size_t want)
{
	struct obj_req *req = contract_req(OBJ_GET, "ranges");

	req->offset = from;
	req->length = length;
	contract_expect(req, OBJ_OK);
	assert_int_equal(req->result.size, want);
	assert_int_equal(req->result.body_len, want);
	assert_memory_equal(req->result.body, data + from, want);
	assert_int_equal(req->result.body[want], 0);
	objstore_req_free(&req);
}

static void test_ranges(void **state)
{
	size_t len = 100000;
	uint8_t *data = contract_noise(len);
	struct obj_req *req;
	char *etag;

	(void)state;
	assert_int_equal(contract_put("ranges", data, len, NULL, false, &etag), OBJ_OK);
	expect_range(data, 0, 1, 1);
	expect_range(data, 0, (int64_t)len, len);
	expect_range(data, 99999, 1, 1);
	expect_range(data, 5000, 4096, 4096);
	expect_range(data, 5000, -1, len - 5000);
	expect_range(data, 99990, 4096, 10); /* cut at the end */
	req = contract_req(OBJ_GET, "ranges");
	req->offset = (int64_t)len;
	req->length = 1;
	contract_expect(req, OBJ_INVALID);
	objstore_req_free(&req);

	req = contract_req(OBJ_GET, "ranges");
	req->offset = 10;
	req->length = 10;
	req->if_match = contract_dup(etag);
	contract_expect(req, OBJ_OK);
	objstore_req_free(&req);
	req = contract_req(OBJ_GET, "ranges");
	req->length = -1;
	req->if_match = contract_dup("00000000000000000000000000000000");
	contract_expect(req, OBJ_PRECONDITION);
	objstore_req_free(&req);
	contract_delete("ranges");
	free(etag);
	free(data);
}

static void test_metadata(void **state)
{
	struct obj_req *req = contract_req(OBJ_PUT, "meta");
	char big[1901];

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	contract_body(req, "m", 1);
	req->content_type = contract_dup("text/plain; charset=utf-8");
	assert_int_equal(objstore_req_meta(req, "objectfs", big), 0);
	assert_int_equal(objstore_req_meta(req, "mtime", "1767225600.123456789"), 0);
	assert_int_equal(objstore_req_meta(req, "odd", "a  b;c,\"d\"=%41+/"), 0);
	contract_expect(req, OBJ_OK);
	objstore_req_free(&req);
	for (int i = 0; i < 2; i++) {
		req = contract_req(i == 0 ? OBJ_HEAD : OBJ_GET, "meta");
		req->length = -1;
		contract_expect(req, OBJ_OK);
		assert_int_equal(req->result.meta_count, 3);
		assert_string_equal(objstore_meta_get(&req->result, "objectfs"), big);
		assert_string_equal(objstore_meta_get(&req->result, "mtime"), "1767225600.123456789");
		assert_string_equal(objstore_meta_get(&req->result, "odd"), "a  b;c,\"d\"=%41+/");
		assert_null(objstore_meta_get(&req->result, "nothing"));
		assert_string_equal(req->result.content_type, "text/plain; charset=utf-8");
		objstore_req_free(&req);
	}
	contract_delete("meta");
}

static const struct {
	enum obj_prop prop;
	const char *value;
} set[] = {
	{OBJ_PROP_content_type, "text/html"},
	{OBJ_PROP_cache_control, "max-age=60, must-revalidate"},
	{OBJ_PROP_content_disposition, "attachment; filename=\"a b.html\""},
	{OBJ_PROP_content_encoding, "gzip"},
	{OBJ_PROP_content_language, "de-CH"},
	{OBJ_PROP_expires, "Wed, 21 Oct 2099 07:28:00 GMT"},
};

static void expect_properties(const char *key, const char *tags)
{
	struct obj_req *req = contract_req(OBJ_HEAD, key);

	contract_expect(req, OBJ_OK);
	for (unsigned i = 0; i < sizeof(set) / sizeof(set[0]); i++) {
		assert_non_null(req->result.props[set[i].prop]);
		assert_string_equal(req->result.props[set[i].prop], set[i].value);
	}
	assert_int_equal(req->result.tag_count, tags[0] == '\0' ? 0 : 2);
	assert_null(req->result.tags);
	objstore_req_free(&req);
	req = contract_req(OBJ_TAGS, key);
	contract_expect(req, OBJ_OK);
	assert_string_equal(req->result.tags, tags);
	objstore_req_free(&req);
}

/* What other tools set and ask for: told, and kept by copies and multipart uploads. */
static void test_properties(void **state)
{
	static const char tags[] = "class=a%2Fb%20c&empty=";
	struct obj_req *req = contract_req(OBJ_PUT, "properties");

	(void)state;
	contract_body(req, "p", 1);
	for (unsigned i = 0; i < sizeof(set) / sizeof(set[0]); i++) {
		req->props[set[i].prop] = contract_dup(set[i].value);
	}
	req->tags = contract_dup(tags);
	contract_expect(req, OBJ_OK);
	objstore_req_free(&req);
	expect_properties("properties", tags);
	req = contract_copy_req("properties", "properties-2");
	contract_expect(req, OBJ_OK);
	objstore_req_free(&req);
	expect_properties("properties-2", tags);
	contract_put("properties", "q", 1, NULL, false, NULL); /* as without them */
	req = contract_req(OBJ_HEAD, "properties");
	contract_expect(req, OBJ_OK);
	assert_null(req->result.cache_control);
	assert_int_equal(req->result.tag_count, 0);
	assert_string_equal(req->result.content_type, OBJ_DEFAULT_TYPE);
	objstore_req_free(&req);
	req = contract_req(OBJ_TAGS, "no such key");
	contract_expect(req, OBJ_NOT_FOUND);
	objstore_req_free(&req);
	contract_delete("properties");
	contract_delete("properties-2");
}

/* --- limits: refused before anything is sent --- */

static void expect_invalid(struct obj_req *req)
{
	contract_run(contract.store, req);
	assert_int_equal(req->result.status, OBJ_INVALID);
	assert_int_equal(req->result.http_status, 0);
	assert_non_null(req->result.message);
	objstore_req_free(&req);
}

static void test_limits(void **state)
{
	struct obj_req *req;
	char big[2049], key[1026];

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	req = contract_req(OBJ_PUT, "limits");
	assert_int_equal(objstore_req_meta(req, "a", big), 0);
	expect_invalid(req);
	req = contract_req(OBJ_PUT, "limits");
	assert_int_equal(objstore_req_meta(req, "a", "line\nbreak"), 0);
	expect_invalid(req);
	req = contract_req(OBJ_PUT, "limits");
	req->length = OBJ_PUT_MAX_BYTES + 1;
	req->fd = 0;
	expect_invalid(req);
	memset(key, 'k', sizeof(key) - 1);
	key[sizeof(key) - 1] = '\0';
	req = objstore_req_new(OBJ_PUT, key);
	expect_invalid(req);
	req = objstore_req_new(OBJ_PUT, "bad \xff utf-8");
	expect_invalid(req);
	req = objstore_req_new(OBJ_HEAD, "");
	expect_invalid(req);
	req = contract_req(OBJ_MPU_PART, "limits");
	req->upload_id = contract_dup("x");
	req->part_number = 10001;
	expect_invalid(req);
	contract_expect_absent("limits");
}

/* The prefixes of test_keys, as bytes: no encoding may shine through. */
static void expect_prefixes(void)
{
	static const char *const want[] = { "keys/../", "keys/./", "keys/a/", "keys/both/",
		"keys/p%41 +q\xc3\xa9\x01/", "keys/trail/",
		"keys/\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80/" };
	struct obj_req *req = contract_req(OBJ_LIST, "keys/");
	size_t n = 0;

	req->delimiter = '/';
	contract_expect(req, OBJ_OK);
	for (unsigned i = 0; i < req->result.entry_count; i++) {
		if (req->result.entries[i].is_prefix) {
			assert_true(n < sizeof(want) / sizeof(want[0]));
			assert_string_equal(req->result.entries[i].key + strlen(contract.prefix), want[n]);
			n++;
		}
	}
	assert_int_equal(n, sizeof(want) / sizeof(want[0]));
	objstore_req_free(&req);
}

static void test_keys(void **state)
{
	static const char *const keys[] = {
		"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80/\xe6\x97\xa5\xe6\x9c\xac.txt", "with space", "a+b",
		"100%", "%41", "a/../b", "..", "../x", "./y", ".", "a//b", "trail/", "both", "both/child",
		"q?x=1&y=2#z", "semi;colon:at@,'(paren)*!$~^`{|}<>[]\\\"", "tab\there", "%e", "x%o", "y%+",
		".hidden", "...", "p%41 +q\xc3\xa9\x01/child",
	};
	size_t count = sizeof(keys) / sizeof(keys[0]);
	char longest[1025], chunk[700], deep[900];

	(void)state;
	for (size_t i = 0; i < count; i++) {
		char key[256];

		snprintf(key, sizeof(key), "keys/%s", keys[i]);
		assert_int_equal(contract_put(key, keys[i], strlen(keys[i]), NULL, false, NULL), OBJ_OK);
	}
	for (size_t i = 0; i < count; i++) {
		char key[256];
		struct obj_req *req = contract_req(OBJ_LIST, "keys/");
		bool found = false;

		snprintf(key, sizeof(key), "keys/%s", keys[i]);
		contract_expect_content(key, keys[i], strlen(keys[i]));
		contract_expect(req, OBJ_OK);
		assert_int_equal(req->result.entry_count, count);
		for (unsigned e = 0; e < req->result.entry_count; e++) {
			const char *listed = req->result.entries[e].key + strlen(contract.prefix);

			found = found || strcmp(listed, key) == 0;
			assert_true(e == 0 || strcmp(req->result.entries[e - 1].key,
							      req->result.entries[e].key) < 0);
		}
		assert_true(found);
		objstore_req_free(&req);
	}
	expect_prefixes();
	for (size_t i = 0; i < count; i++) {
		char key[256];

		snprintf(key, sizeof(key), "keys/%s", keys[i]);
		assert_int_equal(contract_delete(key), OBJ_OK);
		contract_expect_absent(key);
	}
	/* 1,024 bytes in all: one component; and components of 300 bytes that end in dots */
	memset(longest, 'L', sizeof(longest) - 1);
	longest[1024 - strlen(contract.prefix)] = '\0';
	memset(chunk, 'c', sizeof(chunk));
	snprintf(chunk + 240, sizeof(chunk) - 240, "../%s", "x");
	memset(deep, '%', 300);
	strcpy(deep + 300, "/..../\x01\x02/end");
	const char *big[] = { longest, chunk, deep };
	for (int i = 0; i < 3; i++) {
		assert_int_equal(contract_put(big[i], "big", 3, NULL, false, NULL), OBJ_OK);
		contract_expect_content(big[i], "big", 3);
	}
	for (int i = 0; i < 3; i++) {
		struct obj_req *req = contract_req(OBJ_LIST, big[i]);

		contract_expect(req, OBJ_OK);
		assert_int_equal(req->result.entry_count, 1);
		assert_string_equal(req->result.entries[0].key + strlen(contract.prefix), big[i]);
		objstore_req_free(&req);
		assert_int_equal(contract_delete(big[i]), OBJ_OK);
		contract_expect_absent(big[i]);
	}
}

/* --- conditions --- */

static void test_put_if_none_match(void **state)
{
	(void)state;
	if (!contract.store->caps.put_if_none_match) {
		print_message("skipped: the store ignores If-None-Match on PUT\n");
		skip();
	}
	assert_int_equal(contract_put("inm", "1", 1, NULL, true, NULL), OBJ_OK);
	assert_int_equal(contract_put("inm", "2", 1, NULL, true, NULL), OBJ_PRECONDITION);
	contract_expect_content("inm", "1", 1);
	contract_delete("inm");
	assert_int_equal(contract_put("inm", "3", 1, NULL, true, NULL), OBJ_OK);
	contract_delete("inm");
}

static void test_put_if_match(void **state)
{
	char *first, *second;

	(void)state;
	if (!contract.store->caps.put_if_match) {
		print_message("skipped: the store does not honour If-Match on PUT\n");
		skip();
	}
	assert_int_equal(contract_put("im", "1", 1, NULL, false, &first), OBJ_OK);
	assert_int_equal(contract_put("im", "2", 1, first, false, &second), OBJ_OK);
	assert_int_equal(contract_put("im", "3", 1, first, false, NULL), OBJ_PRECONDITION);
	contract_expect_content("im", "2", 1);
	contract_delete("im");
	enum obj_status gone = contract_put("im", "4", 1, second, false, NULL);

	assert_true(gone == OBJ_NOT_FOUND || gone == OBJ_PRECONDITION);
	contract_expect_absent("im");
	free(first);
	free(second);
}

static void test_copy(void **state)
{
	struct obj_req *req = contract_req(OBJ_PUT, "copy/s o+u%r\xc3\xa7" "e");
	char *etag;

	(void)state;
	contract_body(req, "copied", 6);
	assert_int_equal(objstore_req_meta(req, "who", "source"), 0);
	contract_expect(req, OBJ_OK);
	etag = contract_dup(req->result.etag);
	objstore_req_free(&req);

	req = contract_copy_req("copy/s o+u%r\xc3\xa7" "e", "copy/to");
	contract_expect(req, OBJ_OK);
	assert_non_null(req->result.etag);
	assert_string_equal(req->result.etag, etag);
	objstore_req_free(&req);
	contract_expect_content("copy/to", "copied", 6);
	req = contract_req(OBJ_HEAD, "copy/to");
	contract_expect(req, OBJ_OK);
	assert_string_equal(objstore_meta_get(&req->result, "who"), "source");
	objstore_req_free(&req);

	req = contract_copy_req("copy/s o+u%r\xc3\xa7" "e", "copy/to");
	req->replace_meta = true;
	assert_int_equal(objstore_req_meta(req, "who", "replaced"), 0);
	contract_expect(req, OBJ_OK);
	objstore_req_free(&req);
	req = contract_req(OBJ_HEAD, "copy/to");
	contract_expect(req, OBJ_OK);
	assert_string_equal(objstore_meta_get(&req->result, "who"), "replaced");
	objstore_req_free(&req);

	req = contract_copy_req("copy/nothing", "copy/other");
	contract_expect(req, OBJ_NOT_FOUND);
	objstore_req_free(&req);
	contract_expect_absent("copy/other");
	if (contract.store->caps.copy_if_match_source) {
		req = contract_copy_req("copy/to", "copy/other");
		req->source_if_match = contract_dup(etag);
		contract_expect(req, OBJ_OK);
		objstore_req_free(&req);
		req = contract_copy_req("copy/to", "copy/third");
		req->source_if_match = contract_dup("00000000000000000000000000000000");
		contract_expect(req, OBJ_PRECONDITION);
		objstore_req_free(&req);
		contract_expect_absent("copy/third");
	} else {
		print_message("not run: copies with a condition on the source (not honoured)\n");
	}
	if (contract.store->caps.copy_if_none_match_dest) {
		req = contract_copy_req("copy/to", "copy/to2");
		req->if_none_match = true;
		contract_expect(req, OBJ_OK);
		objstore_req_free(&req);
		req = contract_copy_req("copy/s o+u%r\xc3\xa7" "e", "copy/to2");
		req->if_none_match = true;
		contract_expect(req, OBJ_PRECONDITION);
		objstore_req_free(&req);
	} else {
		print_message("not run: copies with a condition on the destination (not honoured)\n");
	}
	contract_delete("copy/s o+u%r\xc3\xa7" "e");
	contract_delete("copy/to");
	contract_delete("copy/to2");
	contract_delete("copy/other");
	free(etag);
}

static void test_delete_if_match(void **state)
{
	struct obj_req *req;
	char *etag;

	(void)state;
	if (!contract.store->caps.delete_if_match) {
		print_message("skipped: the store ignores If-Match on DELETE\n");
		skip();
	}
	assert_int_equal(contract_put("dim", "1", 1, NULL, false, &etag), OBJ_OK);
	req = contract_req(OBJ_DELETE, "dim");
	req->if_match = contract_dup("00000000000000000000000000000000");
	contract_expect(req, OBJ_PRECONDITION);
	objstore_req_free(&req);
	contract_expect_content("dim", "1", 1);
	req = contract_req(OBJ_DELETE, "dim");
	req->if_match = contract_dup(etag);
	contract_expect(req, OBJ_OK);
	objstore_req_free(&req);
	contract_expect_absent("dim");
	free(etag);
}

#define RACERS 8

/* Of many conditional writers with one fence, one wins, and what it wrote is there. */
static void race(const char *if_match, unsigned *won)
{
	struct obj_req *req[RACERS];
	bool done[RACERS] = { false };
	char body[RACERS][24];
	int winner = -1;

	*won = 0;
	for (int i = 0; i < RACERS; i++) {
		req[i] = contract_req(OBJ_PUT, "race");
		/* other bytes than the ETag in the condition stands for, or two could win */
		snprintf(body[i], sizeof(body[i]), "racer%c%d", if_match == NULL ? 'a' : 'b', i);
		contract_body(req[i], body[i], 7);
		req[i]->if_match = if_match == NULL ? NULL : contract_dup(if_match);
		req[i]->if_none_match = if_match == NULL;
		req[i]->done = contract_on_done;
		req[i]->arg = &done[i];
		objstore_submit(contract.store, req[i]);
	}
	for (int i = 0; i < RACERS; i++) {
		enum obj_status status;

		contract_loop(&done[i]);
		status = req[i]->result.status;
		if (status == OBJ_OK) {
			winner = i;
			*won += 1;
		} else {
			assert_true(status == OBJ_PRECONDITION || status == OBJ_CONFLICT ||
					status == OBJ_UNKNOWN);
		}
		objstore_req_free(&req[i]);
	}
	if (winner >= 0 && *won == 1) {
		contract_expect_content("race", body[winner], 7);
	}
}

static void test_race(void **state)
{
	unsigned won;

	(void)state;
	if (contract.store->caps.fence_class < 2) {
		print_message("skipped: the store has no conditional PUT\n");
		skip();
	}
	for (int round = 0; round < 10; round++) {
		struct obj_req *head;
		char *etag;

		contract_delete("race");
		race(NULL, &won);
		assert_true(won <= 1); /* 0: the winner's answer was "unknown" */
		head = contract_req(OBJ_HEAD, "race");
		contract_expect(head, OBJ_OK);
		etag = contract_dup(head->result.etag);
		objstore_req_free(&head);
		race(etag, &won);
		assert_true(won <= 1);
		free(etag);
	}
	contract_delete("race");
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_probe),
	cmocka_unit_test(test_put_get_head_delete),
	cmocka_unit_test(test_empty),
	cmocka_unit_test(test_descriptors),
	cmocka_unit_test(test_ranges),
	cmocka_unit_test(test_metadata),
	cmocka_unit_test(test_properties),
	cmocka_unit_test(test_limits),
	cmocka_unit_test(test_keys),
	cmocka_unit_test(test_put_if_none_match),
	cmocka_unit_test(test_put_if_match),
	cmocka_unit_test(test_copy),
	cmocka_unit_test(test_delete_if_match),
	cmocka_unit_test(test_race),
};
const struct CMUnitTest *const contract_key_tests = tests;
const size_t contract_key_test_count = sizeof(tests) / sizeof(tests[0]);
