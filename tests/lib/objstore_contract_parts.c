/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The contract's tests of uploads in parts, listings, giving up, and stores that are broken.
 *
 * Way:    objstore_contract.c runs them.
 * Thread: one.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "objstore_contract.h"

#define MIB (1u << 20)

/* --- multipart --- */

static char *upload_begin(const char *key)
{
	struct obj_req *req = contract_req(OBJ_MPU_CREATE, key);
	char *id;

	assert_int_equal(objstore_req_meta(req, "kind", "multipart"), 0);
	req->content_type = contract_dup("video/mp4");
	contract_expect(req, OBJ_OK);
	assert_non_null(req->result.upload_id);
	id = contract_dup(req->result.upload_id);
	objstore_req_free(&req);
	return id;
}

static char *upload_part(const char *key, const char *id, int number, int fd, int64_t offset,
		int64_t length)
{
	struct obj_req *req = contract_req(OBJ_MPU_PART, key);
	char *etag;

	req->upload_id = contract_dup(id);
	req->part_number = number;
	req->fd = fd;
	req->offset = offset;
	req->length = length;
	contract_expect(req, OBJ_OK);
	assert_non_null(req->result.etag);
	etag = contract_dup(req->result.etag);
	objstore_req_free(&req);
	return etag;
}

static struct obj_req *complete_req(const char *key, const char *id, char **etags, unsigned count)
{
	struct obj_req *req = contract_req(OBJ_MPU_COMPLETE, key);

	req->upload_id = contract_dup(id);
	req->parts = calloc(count, sizeof(*req->parts));
	assert_non_null(req->parts);
	for (unsigned i = 0; i < count; i++) {
		req->parts[i].number = (int)i + 1;
		req->parts[i].etag = etags[i];
	}
	req->part_count = count;
	return req;
}

/* Among those of keys that begin so, which were begun and not ended? Page by page, each once. */
static bool upload_listed(const char *prefix, const char *id)
{
	char *token = NULL;
	unsigned found = 0;

	do {
		struct obj_req *req = contract_req(OBJ_UPLOADS, prefix);

		req->max_keys = 1;
		req->token = token;
		contract_expect(req, OBJ_OK);
		for (unsigned i = 0; i < req->result.entry_count; i++) {
			assert_true(req->result.entries[i].mtime_ns > 0);
			assert_memory_equal(req->result.entries[i].key, req->key, strlen(req->key));
			found += strcmp(req->result.entries[i].version_id, id) == 0;
		}
		token = req->result.next_token != NULL ? contract_dup(req->result.next_token) : NULL;
		objstore_req_free(&req);
	} while (token != NULL);
	assert_true(found <= 1);
	return found == 1;
}

static void upload_give_up(const char *key, const char *id)
{
	struct obj_req *req = contract_req(OBJ_MPU_ABORT, key);

	req->upload_id = contract_dup(id);
	contract_expect(req, OBJ_OK);
	objstore_req_free(&req);
}

static void test_multipart(void **state)
{
	size_t len = 13 * MIB + 5;
	uint8_t *data = contract_noise(len);
	int fd = contract_memory_file(data, len);
	char *id = upload_begin("big file");
	char *etags[3], *others[4];
	struct obj_req *req;

	(void)state;
	contract_delete("big file");
	etags[1] = upload_part("big file", id, 2, fd, 5 * MIB, 5 * MIB);
	etags[0] = upload_part("big file", id, 1, fd, 0, 5 * MIB);
	etags[2] = upload_part("big file", id, 3, fd, 10 * MIB, (int64_t)len - 10 * MIB);
	contract_expect_absent("big file"); /* nothing shows before Complete */
	req = complete_req("big file", id, etags, 3);
	contract_expect(req, OBJ_OK);
	objstore_req_free(&req);
	req = contract_req(OBJ_HEAD, "big file");
	contract_expect(req, OBJ_OK);
	assert_int_equal(req->result.size, len);
	assert_string_equal(objstore_meta_get(&req->result, "kind"), "multipart");
	assert_string_equal(req->result.content_type, "video/mp4");
	assert_non_null(strstr(req->result.etag, "-3"));
	objstore_req_free(&req);
	contract_expect_content("big file", data, len);

	/* an upload that is aborted leaves nothing, twice */
	free(id);
	id = upload_begin("big file");
	free(etags[0]);
	etags[0] = upload_part("big file", id, 1, fd, 0, 100);
	assert_true(upload_listed("big", id));
	assert_true(upload_listed("", id));
	assert_false(upload_listed("big file.", id));
	upload_give_up("another file", id); /* it has no such upload */
	for (int i = 0; i < 4; i++) {
		others[i] = upload_begin(i < 2 ? "big file" : "big & other");
	}
	assert_true(upload_listed("big", id));
	for (int i = 0; i < 4; i++) {
		assert_true(upload_listed("big", others[i]));
	}
	upload_give_up("big file", id);
	upload_give_up("big file", id);
	assert_false(upload_listed("big", id));
	for (int i = 0; i < 4; i++) {
		assert_true(upload_listed("big", others[i]));
		upload_give_up(i < 2 ? "big file" : "big & other", others[i]);
		free(others[i]);
	}
	req = complete_req("big file", id, etags, 1);
	contract_run(contract.store, req);
	/* Ceph RGW 16 says "InternalError" here, which tells nothing */
	assert_true(req->result.status == OBJ_INVALID || req->result.status == OBJ_UNKNOWN);
	objstore_req_free(&req);
	contract_expect_content("big file", data, len);
	contract_delete("big file");
	for (int i = 0; i < 3; i++) {
		free(etags[i]);
	}
	free(id);
	free(data);
	close(fd);
}

/* A copy is one object of its own: its ETag is no longer that of the parts. */
static void test_copy_of_parts(void **state)
{
	size_t len = 5 * MIB + 7;
	uint8_t *data = contract_noise(len), md5[EVP_MAX_MD_SIZE];
	int fd = contract_memory_file(data, len);
	char *id = upload_begin("in parts"), *etags[2], *etag, hex[33];
	struct obj_req *req;

	(void)state;
	etags[0] = upload_part("in parts", id, 1, fd, 0, 5 * MIB);
	etags[1] = upload_part("in parts", id, 2, fd, 5 * MIB, 7);
	req = complete_req("in parts", id, etags, 2);
	contract_expect(req, OBJ_OK);
	objstore_req_free(&req);
	req = contract_req(OBJ_HEAD, "in parts");
	contract_expect(req, OBJ_OK);
	assert_non_null(strstr(req->result.etag, "-2"));
	etag = contract_dup(req->result.etag);
	objstore_req_free(&req);

	req = contract_copy_req("in parts", "in one");
	req->source_if_match = etag;
	contract_expect(req, OBJ_OK);
	assert_non_null(req->result.etag);
	etag = contract_dup(req->result.etag);
	objstore_req_free(&req);
	req = contract_req(OBJ_HEAD, "in one");
	contract_expect(req, OBJ_OK);
	assert_string_equal(req->result.etag, etag);
	assert_string_equal(objstore_meta_get(&req->result, "kind"), "multipart");
	objstore_req_free(&req);
	if (contract.copy_joins) {
		assert_int_equal(EVP_Digest(data, len, md5, NULL, EVP_md5(), NULL), 1);
		for (unsigned i = 0; i < 16; i++) {
			snprintf(hex + 2 * i, 3, "%02x", md5[i]);
		}
		assert_string_equal(etag, hex);
	}
	contract_expect_content("in one", data, len);
	contract_delete("in parts");
	contract_delete("in one");
	free(etags[0]);
	free(etags[1]);
	free(etag);
	free(id);
	free(data);
	close(fd);
}

static struct obj_req *part_copy_req(const char *from, const char *key, const char *id, int number, int64_t offset,
		int64_t length)
{
	struct obj_req *req = contract_copy_req(from, key);

	req->op = OBJ_MPU_COPY;
	req->upload_id = contract_dup(id);
	req->part_number = number;
	req->offset = offset;
	req->length = length;
	return req;
}

/* What the store says of copying a part; its ETag in *etag, or that stays. */
static void part_copy(struct obj_req *req, enum obj_status want, char **etag)
{
	contract_expect(req, want);
	if (want == OBJ_OK) {
		assert_non_null(req->result.etag);
		free(*etag);
		*etag = contract_dup(req->result.etag);
	}
	objstore_req_free(&req);
}

/* Some parts are what another object, or the same before, has already. */
static void test_copied_parts(void **state)
{
	static const char from[] = "parts/s o+ur\xc3\xa7" "e";
	size_t len = 11 * MIB + 5;
	uint8_t *data = contract_noise(len);
	int fd = contract_memory_file(data, len);
	char *id = upload_begin("parts/to"), *etags[3] = {NULL}, *etag = NULL;
	struct obj_req *req;

	(void)state;
	assert_int_equal(contract_put(from, (const char *)data, len, NULL, false, &etag), OBJ_OK);
	part_copy(part_copy_req(from, "parts/to", id, 1, 1, 5 * MIB), OBJ_OK, &etags[0]);
	etags[1] = upload_part("parts/to", id, 2, fd, 0, 5 * MIB);
	part_copy(part_copy_req(from, "parts/to", id, 3, (int64_t)len - 3, 3), OBJ_OK, &etags[2]);
	part_copy(part_copy_req("parts/nothing", "parts/to", id, 3, 0, 3), OBJ_NOT_FOUND, &etags[2]);
	part_copy(part_copy_req("parts/100%", "parts/to", id, 3, 0, 3), OBJ_INVALID, &etags[2]);
	if (contract.store->caps.part_copy_if_match) {
		req = part_copy_req(from, "parts/to", id, 3, (int64_t)len - 3, 3);
		req->source_if_match = contract_dup(etag);
		part_copy(req, OBJ_OK, &etags[2]);
		req = part_copy_req(from, "parts/to", id, 3, 0, 5 * MIB);
		req->source_if_match = contract_dup("00000000000000000000000000000000");
		part_copy(req, OBJ_PRECONDITION, &etags[2]);
	} else {
		print_message("not run: parts copied with a condition on the source (not honoured)\n");
	}
	req = complete_req("parts/to", id, etags, 3);
	contract_expect(req, OBJ_OK);
	objstore_req_free(&req);
	memmove(data + 10 * MIB, data + len - 3, 3);
	memmove(data + 5 * MIB, data, 5 * MIB);
	assert_int_equal(pread(fd, data, 5 * MIB, 1), 5 * MIB);
	contract_expect_content("parts/to", data, 10 * MIB + 3);
	contract_delete(from);
	contract_delete("parts/to");
	for (int i = 0; i < 3; i++) {
		free(etags[i]);
	}
	free(etag);
	free(id);
	free(data);
	close(fd);
}

static void test_multipart_refused(void **state)
{
	int fd = contract_memory_file("0123456789", 10);
	char *id = upload_begin("small parts");
	char *etags[2];
	struct obj_req *req;

	(void)state;
	etags[0] = upload_part("small parts", id, 1, fd, 0, 5);
	etags[1] = upload_part("small parts", id, 2, fd, 5, 5);
	req = complete_req("small parts", id, etags, 2);
	contract_expect(req, OBJ_INVALID);
	objstore_req_free(&req);
	req = contract_req(OBJ_MPU_ABORT, "small parts");
	req->upload_id = contract_dup(id);
	contract_expect(req, OBJ_OK);
	objstore_req_free(&req);
	contract_expect_absent("small parts");
	free(etags[0]);
	free(etags[1]);
	free(id);
	close(fd);
}

static void test_multipart_conditions(void **state)
{
	int fd = contract_memory_file("part", 4);
	char *id, *etag;
	struct obj_req *req;

	(void)state;
	if (!contract.store->caps.complete_if_none_match) {
		print_message("skipped: the store ignores conditions on CompleteMultipartUpload\n");
		close(fd);
		skip();
	}
	assert_int_equal(contract_put("mcond", "there", 5, NULL, false, NULL), OBJ_OK);
	id = upload_begin("mcond");
	etag = upload_part("mcond", id, 1, fd, 0, 4);
	req = complete_req("mcond", id, &etag, 1);
	req->if_none_match = true;
	contract_expect(req, OBJ_PRECONDITION);
	objstore_req_free(&req);
	contract_expect_content("mcond", "there", 5);
	contract_delete("mcond");
	req = complete_req("mcond", id, &etag, 1);
	req->if_none_match = true;
	contract_expect(req, OBJ_OK);
	objstore_req_free(&req);
	contract_expect_content("mcond", "part", 4);
	contract_delete("mcond");
	free(etag);
	free(id);
	close(fd);
}

/* --- listing --- */

static void keys_in_parallel(enum obj_op op, unsigned count)
{
	struct obj_req **req = calloc(count, sizeof(*req));
	bool *done = calloc(count, sizeof(*done));

	assert_true(req != NULL && done != NULL);
	for (unsigned i = 0; i < count; i++) {
		char key[64];

		/* directories d0 to d9 between plain names, all sharing their beginnings */
		snprintf(key, sizeof(key), i % 5 == 0 ? "list/d%u/f%05u" : "list/d%u-%05u", i % 10, i);
		req[i] = contract_req(op, key);
		if (op == OBJ_PUT) {
			contract_body(req[i], key, strlen(key));
		}
		req[i]->done = contract_on_done;
		req[i]->arg = &done[i];
		objstore_submit(contract.store, req[i]);
	}
	for (unsigned i = 0; i < count; i++) {
		contract_loop(&done[i]);
		assert_int_equal(req[i]->result.status, OBJ_OK);
		objstore_req_free(&req[i]);
	}
	free(req);
	free(done);
}

/* All pages; checks order over page borders. Rows and prefixes counted. */
static void list_all(const char *prefix, char delimiter, int max_keys, unsigned *objects,
		unsigned *prefixes, unsigned *pages)
{
	char *token = NULL, *last = NULL;

	*objects = *prefixes = *pages = 0;
	do {
		struct obj_req *req = contract_req(OBJ_LIST, prefix);

		req->delimiter = delimiter;
		req->max_keys = max_keys;
		req->token = token;
		contract_expect(req, OBJ_OK);
		*pages += 1;
		for (unsigned i = 0; i < req->result.entry_count; i++) {
			struct obj_entry *e = &req->result.entries[i];

			assert_true(last == NULL || strcmp(last, e->key) < 0);
			free(last);
			last = contract_dup(e->key);
			if (e->is_prefix) {
				*prefixes += 1;
				assert_int_equal(e->key[strlen(e->key) - 1], delimiter);
			} else {
				*objects += 1;
				assert_int_equal(e->size, strlen(e->key) - strlen(contract.prefix));
				assert_int_equal(strlen(e->etag), 32);
				assert_true(e->mtime_ns / 1000000000 > time(NULL) - 600);
			}
		}
		token = req->result.next_token == NULL ? NULL : contract_dup(req->result.next_token);
		assert_true(token == NULL || req->result.entry_count > 0);
		objstore_req_free(&req);
	} while (token != NULL);
	free(last);
}

static void test_list(void **state)
{
	unsigned n = contract.list_keys, objects, prefixes, pages;

	(void)state;
	keys_in_parallel(OBJ_PUT, n);
	list_all("list/", 0, 0, &objects, &prefixes, &pages);
	assert_int_equal(objects, n);
	assert_int_equal(prefixes, 0);
	assert_int_equal(pages, (n + 999) / 1000);
	list_all("list/", '/', 0, &objects, &prefixes, &pages);
	assert_int_equal(prefixes, 2);
	assert_int_equal(objects, n - n / 5);
	list_all("list/d5", '/', 7, &objects, &prefixes, &pages);
	assert_int_equal(prefixes, 1);
	assert_int_equal(objects, 0);
	list_all("list/d0/", '/', 100, &objects, &prefixes, &pages);
	assert_int_equal(objects, n / 10);
	assert_int_equal(pages, (n / 10 + 99) / 100);
	list_all("list/d1", '/', 100, &objects, &prefixes, &pages);
	assert_int_equal(objects, n / 10);
	list_all("list", '/', 0, &objects, &prefixes, &pages);
	assert_int_equal(objects, 0);
	assert_int_equal(prefixes, 1);
	list_all("no such prefix/", '/', 0, &objects, &prefixes, &pages);
	assert_int_equal(objects + prefixes, 0);
	keys_in_parallel(OBJ_DELETE, n);
	list_all("list/", '/', 0, &objects, &prefixes, &pages);
	assert_int_equal(objects + prefixes, 0);
}

/* --- versions --- */

/* All versions of a key, by pages of max_keys: the ids one after another, a blank between, "x" before a marker's. */
static unsigned versions_of(const char *key, int max_keys, char *ids, size_t cap)
{
	unsigned count = 0;
	char *token = NULL;

	ids[0] = '\0';
	do {
		struct obj_req *req = contract_req(OBJ_VERSIONS, key);

		req->max_keys = max_keys;
		req->token = token;
		contract_expect(req, OBJ_OK);
		assert_true(max_keys == 0 || (int)req->result.entry_count <= max_keys);
		for (unsigned i = 0; i < req->result.entry_count; i++) {
			const struct obj_entry *e = &req->result.entries[i];
			size_t len = strlen(ids);

			assert_string_equal(e->key, req->key);
			assert_true(e->is_marker || (e->etag != NULL && e->mtime_ns > 0));
			assert_int_equal(e->size, e->is_marker ? 0 : 1);
			snprintf(ids + len, cap - len, "%s%s%s", len == 0 ? "" : " ",
					e->is_marker ? "x" : "", e->version_id);
			count++;
		}
		token = req->result.next_token == NULL ? NULL : contract_dup(req->result.next_token);
		objstore_req_free(&req);
	} while (token != NULL);
	return count;
}

static void put_version(const char *key, const char *data, char id[128])
{
	struct obj_req *req = contract_req(OBJ_PUT, key);

	contract_body(req, data, 1);
	contract_expect(req, OBJ_OK);
	assert_non_null(req->result.version_id);
	snprintf(id, 128, "%s", req->result.version_id);
	objstore_req_free(&req);
}

static void expect_version(const char *key, const char *id, const char *data)
{
	static const enum obj_op ops[] = { OBJ_GET, OBJ_HEAD };

	for (unsigned i = 0; i < 2; i++) {
		struct obj_req *req = contract_req(ops[i], key);

		req->length = -1;
		req->version_id = contract_dup(id);
		contract_expect(req, data == NULL ? OBJ_NOT_FOUND : OBJ_OK);
		if (data != NULL) {
			assert_int_equal(req->result.size, 1);
			assert_string_equal(req->result.version_id, id);
		}
		if (data != NULL && ops[i] == OBJ_GET) {
			assert_memory_equal(req->result.body, data, 1);
		}
		objstore_req_free(&req);
	}
}

static void expect_versioning(bool want)
{
	struct obj_req *req = objstore_req_new(OBJ_VERSIONING, "");

	contract_expect(req, OBJ_OK);
	assert_int_equal(req->result.versioned, want);
	objstore_req_free(&req);
}

static void test_no_versions(void **state)
{
	char ids[64];

	(void)state;
	if (contract.store->caps.versioned) {
		print_message("skipped: the store keeps versions\n");
		skip();
	}
	expect_versioning(false);
	assert_int_equal(contract_put("plain", "1", 1, NULL, false, NULL), OBJ_OK);
	assert_int_equal(versions_of("plain", 0, ids, sizeof(ids)), 1);
	assert_string_equal(ids, "null");
	assert_int_equal(contract_delete("plain"), OBJ_OK);
	assert_int_equal(versions_of("plain", 0, ids, sizeof(ids)), 0);
}

static void test_versions(void **state)
{
	static const char key[] = "versions/s \xc3\xbc+%41&x";
	char id[3][128], marker[128], ids[1024], want[1024];
	struct obj_req *req;

	(void)state;
	if (!contract.store->caps.versioned) {
		print_message("skipped: the store keeps no versions\n");
		skip();
	}
	expect_versioning(true);
	put_version(key, "a", id[0]);
	put_version("versions/s \xc3\xbc+%41&x longer", "z", id[1]);
	put_version(key, "b", id[1]);
	put_version(key, "c", id[2]);
	expect_version(key, id[0], "a");
	expect_version(key, id[2], "c");
	req = contract_req(OBJ_HEAD, key);
	contract_expect(req, OBJ_OK);
	assert_string_equal(req->result.version_id, id[2]);
	objstore_req_free(&req);

	req = contract_copy_req(key, "versions/copy");
	req->source_version_id = contract_dup(id[0]);
	contract_expect(req, OBJ_OK); /* RGW 16 does not say which version a copy made */
	objstore_req_free(&req);
	contract_expect_content("versions/copy", "a", 1);
	assert_true(contract.store->caps.part_copy_version);

	req = contract_req(OBJ_DELETE, key);
	contract_expect(req, OBJ_OK);
	assert_non_null(req->result.version_id);
	snprintf(marker, sizeof(marker), "%s", req->result.version_id);
	objstore_req_free(&req);
	contract_expect_absent(key);
	expect_version(key, id[1], "b");
	snprintf(want, sizeof(want), "x%s %s %s %s", marker, id[2], id[1], id[0]);
	assert_int_equal(versions_of(key, 0, ids, sizeof(ids)), 4);
	assert_string_equal(ids, want);
	assert_int_equal(versions_of(key, 1, ids, sizeof(ids)), 4); /* page by page */
	assert_string_equal(ids, want);
	assert_int_equal(versions_of(key, 3, ids, sizeof(ids)), 4);
	assert_string_equal(ids, want);
	put_version(key, "d", id[0]);
	contract_expect_content(key, "d", 1);
	assert_int_equal(versions_of(key, 2, ids, sizeof(ids)), 5);
	assert_int_equal(versions_of("versions/s", 0, ids, sizeof(ids)), 0);
	contract_delete(key);
	contract_delete("versions/copy");
	contract_delete("versions/s \xc3\xbc+%41&x longer");
}

/* --- giving up --- */

static bool never_valid(void *arg)
{
	*(bool *)arg = true;
	return false;
}

static void test_still_valid(void **state)
{
	size_t len = 3 * MIB;
	uint8_t *data = contract_noise(len);
	int fd = contract_memory_file(data, len);
	bool asked = false;
	struct obj_req *req;

	(void)state;
	assert_int_equal(contract_put("valid", "old", 3, NULL, false, NULL), OBJ_OK);
	for (int i = 0; i < 3; i++) { /* long, short, and empty bodies */
		req = contract_req(OBJ_PUT, "valid");
		req->fd = fd;
		req->length = i == 0 ? (int64_t)len : i == 1 ? 10 : 0;
		req->still_valid = never_valid;
		req->still_valid_arg = &asked;
		contract_expect(req, OBJ_CANCELLED);
		objstore_req_free(&req);
		assert_true(asked);
		contract_expect_content("valid", "old", 3);
	}
	contract_delete("valid");
	free(data);
	close(fd);
}

static void test_cancelled(void **state)
{
	struct obj_req *req = contract_req(OBJ_PUT, "cancelled");

	(void)state;
	contract_body(req, "new", 3);
	atomic_store(&req->cancelled, true);
	contract_expect(req, OBJ_CANCELLED);
	objstore_req_free(&req);
	contract_expect_absent("cancelled");
}

/* Closing the store brings every request home. */
static void test_close_with_requests(void **state)
{
	struct objstore *s = contract.open(contract.ctx, contract.mb);
	struct obj_req *req[50];
	bool done[50] = { false };

	(void)state;
	assert_non_null(s);
	for (int i = 0; i < 50; i++) {
		req[i] = contract_req(OBJ_HEAD, "nothing");
		req[i]->done = contract_on_done;
		req[i]->arg = &done[i];
		objstore_submit(s, req[i]);
	}
	talloc_free(s);
	for (int i = 0; i < 50; i++) {
		contract_loop(&done[i]);
		assert_true(req[i]->result.status == OBJ_CANCELLED ||
				req[i]->result.status == OBJ_NOT_FOUND);
		objstore_req_free(&req[i]);
	}
}

/* --- stores that are not as they should be --- */

static void expect_broken(struct objstore *(*open_broken)(TALLOC_CTX *, struct mailbox *),
		enum obj_status want)
{
	static const enum obj_op ops[] = { OBJ_PUT, OBJ_HEAD, OBJ_GET, OBJ_LIST, OBJ_DELETE };
	struct objstore *s;

	if (open_broken == NULL) {
		print_message("skipped: does not apply to this store\n");
		skip();
	}
	s = open_broken(contract.ctx, contract.mb);
	assert_non_null(s);
	for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		struct obj_req *req = contract_req(ops[i], "broken");

		req->length = ops[i] == OBJ_GET ? -1 : 0;
		contract_run(s, req);
		print_message("%s\n", req->result.message == NULL ? "-" : req->result.message);
		assert_int_equal(req->result.status, want);
		assert_non_null(req->result.message);
		assert_true(strlen(req->result.message) > 20);
		objstore_req_free(&req);
	}
	assert_int_equal(contract_probe(s), want);
	assert_int_equal(s->caps.fence_class, 0);
	talloc_free(s);
}

void contract_test_denied(void **state)
{
	(void)state;
	expect_broken(contract.open_denied, OBJ_DENIED);
}

static void test_no_bucket(void **state)
{
	(void)state;
	expect_broken(contract.open_no_bucket, OBJ_NO_BUCKET);
}

static void test_away(void **state)
{
	(void)state;
	expect_broken(contract.open_away, OBJ_AWAY);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_multipart),
	cmocka_unit_test(test_copy_of_parts),
	cmocka_unit_test(test_copied_parts),
	cmocka_unit_test(test_multipart_refused),
	cmocka_unit_test(test_multipart_conditions),
	cmocka_unit_test(test_list),
	cmocka_unit_test(test_no_versions),
	cmocka_unit_test(test_versions),
	cmocka_unit_test(test_still_valid),
	cmocka_unit_test(test_cancelled),
	cmocka_unit_test(test_close_with_requests),
	cmocka_unit_test(test_no_bucket),
	cmocka_unit_test(test_away),
};
const struct CMUnitTest *const contract_part_tests = tests;
const size_t contract_part_test_count = sizeof(tests) / sizeof(tests[0]);
