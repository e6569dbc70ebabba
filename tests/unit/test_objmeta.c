/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Duty: our object metadata survives the way through a store; others' is understood; damage is
 * told from absence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cached/mirror/base64.h"
#include "cached/mirror/objmeta.h"

static void fill(struct objmeta *m)
{
	memset(m, 0, sizeof(*m));
	ofs_oid_new(&m->oid);
	ofs_oid_new(&m->node);
	ofs_oid_new(&m->wid);
	ofs_oid_new(&m->parent);
	m->size = 5;
	m->data_gen = UINT64_MAX;
	m->meta_gen = 7;
	m->snapshot = calloc(1, sizeof(*m->snapshot));
	m->snapshot->mode = 0100644;
	m->snapshot->uid = 1000;
	m->snapshot->gid = 100;
	m->snapshot->mtime_ns = 1700000000123456789LL;
	m->snapshot->xattrs = calloc(1, sizeof(*m->snapshot->xattrs));
	m->snapshot->xattr_count = 1;
	m->snapshot->xattrs[0].name = strdup("user.DOSATTRIB");
	m->snapshot->xattrs[0].value = (uint8_t *)strdup("value");
	m->snapshot->xattrs[0].len = 5;
}

static struct obj_result as_result(const struct obj_req *req)
{
	struct obj_result r = { .meta = req->meta, .meta_count = req->meta_count };

	return r;
}

static struct obj_result one(struct obj_meta *m, const char *name, const char *value)
{
	struct obj_result r = { .meta = m, .meta_count = 1 };

	m->name = (char *)name;
	m->value = (char *)value;
	return r;
}

static void test_round_trip(void **state)
{
	struct obj_req *req = objstore_req_new(OBJ_PUT, "k");
	struct objmeta m, back;
	struct obj_result r;
	bool damaged = true;

	(void)state;
	fill(&m);
	assert_int_equal(objmeta_put(req, &m), 0);
	r = as_result(req);
	assert_string_equal(objstore_meta_get(&r, "mtime"), "1700000000.123456789");
	assert_string_equal(objstore_meta_get(&r, "mode"), "33188");
	assert_string_equal(objstore_meta_get(&r, "uid"), "1000");
	assert_string_equal(objstore_meta_get(&r, "gid"), "100");
	objmeta_read(&r, &back, &damaged);
	assert_false(damaged);
	assert_true(back.ours && !back.tombstone);
	assert_true(ofs_oid_equal(&back.oid, &m.oid) && ofs_oid_equal(&back.node, &m.node));
	assert_true(ofs_oid_equal(&back.wid, &m.wid));
	assert_true(ofs_oid_equal(&back.parent, &m.parent) && back.size == 5 && !back.old);
	assert_true(back.data_gen == UINT64_MAX && back.meta_gen == 7);
	assert_true(back.snapshot->mtime_ns == m.snapshot->mtime_ns);
	assert_int_equal(back.snapshot->xattr_count, 1);
	assert_memory_equal(back.snapshot->xattrs[0].value, "value", 5);
	objmeta_clear(&m);
	objmeta_clear(&back);
	assert_null(back.snapshot);
	objstore_req_free(&req);
}

static void test_tombstone(void **state)
{
	struct obj_req *req = objstore_req_new(OBJ_PUT, "k");
	struct objmeta m, back;
	struct obj_result r;
	bool damaged;

	(void)state;
	fill(&m);
	snapshot_free(&m.snapshot);
	m.tombstone = true;
	assert_int_equal(objmeta_put(req, &m), 0);
	assert_int_equal(req->meta_count, 1);
	r = as_result(req);
	objmeta_read(&r, &back, &damaged);
	assert_true(back.ours && back.tombstone && !damaged);
	assert_null(back.snapshot);
	objstore_req_free(&req);
}

/* A time that a tool has set beside a value of ours, which it kept, is the file's. */
static void test_time_beside(void **state)
{
	struct obj_req *req = objstore_req_new(OBJ_PUT, "k");
	struct objmeta m, back;
	struct obj_result r;
	bool damaged;

	(void)state;
	fill(&m);
	assert_int_equal(objmeta_put(req, &m), 0);
	free(req->meta[1].value);
	req->meta[1].value = strdup("1800000000.5");
	r = as_result(req);
	objmeta_read(&r, &back, &damaged);
	assert_true(back.ours && back.snapshot->mtime_ns == 1800000000500000000LL);
	objmeta_clear(&back);
	objmeta_clear(&m);
	objstore_req_free(&req);
}

/* Version 1, as buckets have it: neither size nor proof behind the parent. */
static void test_old(void **state)
{
	static const uint8_t head[82] = { 1, 0, [2] = 'o', [18] = 5, [26] = 7, [34] = 'n', [50] = 'w' };
	static const struct snapshot empty = { .mode = 0100644, .mtime_ns = 3 };
	size_t len;
	uint8_t *packed = snapshot_pack(&empty, &len);
	uint8_t value[512];
	struct obj_meta pair;
	struct obj_result r;
	struct objmeta m;
	bool damaged;
	char *text;

	(void)state;
	memcpy(value, head, sizeof(head));
	memcpy(value + sizeof(head), packed, len);
	free(packed);
	text = base64_encode(value, sizeof(head) + len);
	r = one(&pair, "objectfs", text);
	objmeta_read(&r, &m, &damaged);
	assert_true(m.ours && m.old && !damaged && m.data_gen == 5 && m.meta_gen == 7);
	assert_true(m.wid.bytes[0] == 'w' && ofs_oid_is_none(&m.parent) && m.size == 0);
	assert_int_equal(m.snapshot->mtime_ns, 3);
	objmeta_clear(&m);
	free(text);
	value[0] = 3;
	text = base64_encode(value, sizeof(head) + len);
	r = one(&pair, "objectfs", text);
	objmeta_read(&r, &m, &damaged);
	assert_true(!m.ours && damaged);
	free(text);
}

static void test_budget(void **state)
{
	struct obj_req *req = objstore_req_new(OBJ_PUT, "k");
	struct objmeta m;
	size_t bytes = 0;

	(void)state;
	fill(&m);
	free(m.snapshot->xattrs[0].value);
	m.snapshot->xattrs[0].len = 3000;
	m.snapshot->xattrs[0].value = calloc(1, 3000);
	assert_int_equal(objmeta_put(req, &m), -E2BIG);
	assert_int_equal(req->meta_count, 0);
	/* as much inline as the budget allows, with the longest numbers */
	m.snapshot->xattrs[0].len = OBJMETA_SNAPSHOT_BUDGET - 31 - 1 - 14 - 1 - 4;
	m.snapshot->mtime_ns = INT64_MIN;
	m.snapshot->uid = m.snapshot->gid = m.snapshot->mode = UINT32_MAX;
	assert_int_equal(objmeta_put(req, &m), 0);
	for (unsigned i = 0; i < req->meta_count; i++) {
		bytes += strlen(req->meta[i].name) + strlen(req->meta[i].value);
	}
	assert_true(bytes <= OBJ_META_MAX_BYTES && bytes > 1600);
	/* a foreign value that was kept leaves too little */
	assert_int_equal(objmeta_put(req, &m), -E2BIG);
	objmeta_clear(&m);
	objstore_req_free(&req);
}

static void test_damaged(void **state)
{
	struct obj_req *req = objstore_req_new(OBJ_PUT, "k");
	struct objmeta m, back;
	struct obj_meta pair[2];
	struct obj_result r;
	bool damaged;
	char *text;
	size_t len;

	(void)state;
	fill(&m);
	assert_int_equal(objmeta_put(req, &m), 0);
	text = strdup(req->meta[0].value);
	len = strlen(text);
	for (size_t cut = 0; cut < len; cut++) {
		char *copy = strndup(text, cut);

		r = one(pair, "objectfs", copy);
		objmeta_read(&r, &back, &damaged);
		assert_true(!back.ours && damaged && back.snapshot == NULL);
		free(copy);
	}
	for (size_t i = 0; i < 8; i++) { /* no base64, or another version */
		char *copy = strdup(text);

		copy[i] = "=\n *-_\xff" "8"[i];
		r = one(pair, "objectfs", copy);
		objmeta_read(&r, &back, &damaged);
		if (back.ours) { /* the last one is a legal digit within the id */
			assert_int_equal(i, 7);
			assert_false(damaged);
		}
		objmeta_clear(&back);
		free(copy);
	}
	/* damaged: nothing of it is used, the rest counts as foreign */
	text[0] = '/';
	r = one(pair, "objectfs", text);
	pair[1].name = (char *)"mtime";
	pair[1].value = (char *)"12";
	r.meta_count = 2;
	objmeta_read(&r, &back, &damaged);
	assert_true(damaged && !back.ours && back.has_mtime && back.mtime_ns == 12000000000LL);
	assert_true(ofs_oid_is_none(&back.oid) && back.meta_gen == 0);
	free(text);
	objmeta_clear(&m);
	objstore_req_free(&req);
}

static void test_foreign_times(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
	} good[] = {
		{ "0", 0 },
		{ "1700000000", 1700000000000000000LL },
		{ "1700000000.5", 1700000000500000000LL },
		{ "1700000000.123456789", 1700000000123456789LL },
		{ "1700000000.1234567891", 1700000000123456789LL },
		{ "-1.5", -1500000000LL },
		{ "2023-11-14T22:13:20Z", 1700000000000000000LL },
		{ "2023-11-14T22:13:20.000000001Z", 1700000000000000001LL },
		{ "2023-11-14T23:43:20.5+01:30", 1700000000500000000LL },
		{ "2023-11-14T20:13:20-02:00", 1700000000000000000LL },
		{ "1969-12-31T23:59:59.25Z", -750000000LL },
		{ "2024-02-29T00:00:00Z", 1709164800000000000LL },
	};
	static const char *const bad[] = { "", "-", "abc", "1.", ".5", "1e9", "0x10", " 1", "1 ",
		"99999999999", "99999999999999999999999", "2023-13-01T00:00:00Z",
		"2023-11-14T22:13:20", "2023-11-14", "9999-01-01T00:00:00Z", "2023-11-14T22:13:20.Z",
		"2023-11-14T22:13:20+1:00", "2023-11-14T22:13:20Zx" };
	struct obj_meta pair;
	struct obj_result r;
	struct objmeta m;
	bool damaged;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		r = one(&pair, "mtime", good[i].text);
		objmeta_read(&r, &m, &damaged);
		if (!m.has_mtime || m.mtime_ns != good[i].ns || damaged || m.ours) {
			fail_msg("%s: %lld", good[i].text, (long long)m.mtime_ns);
		}
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		r = one(&pair, "mtime", bad[i]);
		objmeta_read(&r, &m, &damaged);
		if (m.has_mtime || damaged) {
			fail_msg("\"%s\" is taken for a time", bad[i]);
		}
	}
}

/* Of AWS's gateways: only where s3fs's and rclone's name says nothing. */
static void test_file_times(void **state)
{
	static const struct {
		const char *text;
		bool good;
		int64_t ns;
	} cases[] = {
		{ "1595002920000000123ns", true, 1595002920000000123LL },
		{ "1595002920000", true, 1595002920000000000LL },
		{ "-1500ns", true, -1500 },
		{ "0", true, 0 },
		{ "", false, 0 }, { "ns", false, 0 }, { "1s", false, 0 }, { "1ns ", false, 0 },
		{ "1.5", false, 0 }, { "99999999999999999999ns", false, 0 }, { "9223372036854775", false, 0 },
	};
	struct obj_meta pair, pairs[2] = { { (char *)"file-mtime", (char *)"5ns" }, { (char *)"mtime", (char *)"7" } };
	struct obj_result r;
	struct objmeta m;
	bool damaged;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		r = one(&pair, "file-mtime", cases[i].text);
		objmeta_read(&r, &m, &damaged);
		if (m.has_mtime != cases[i].good || m.mtime_ns != cases[i].ns || damaged) {
			fail_msg("\"%s\": %d %lld", cases[i].text, m.has_mtime, (long long)m.mtime_ns);
		}
	}
	r.meta = pairs;
	r.meta_count = 2;
	objmeta_read(&r, &m, &damaged);
	assert_true(m.has_mtime && m.mtime_ns == 7000000000LL);
}

static void test_foreign_modes(void **state)
{
	static const struct {
		const char *name, *text;
		bool good;
		uint32_t mode;
	} cases[] = {
		{ "mode", "33188", true, 0100644 }, { "mode", "33060", true, 0100444 },
		{ "mode", "16877", true, 040755 }, { "mode", "41471", true, 0120777 },
		{ "mode", "0100644", true, 0100644 }, { "mode", "100444", true, 0100444 },
		{ "mode", "0644", true, 0644 }, { "mode", "644", true, 0644 }, { "mode", "0120777", true, 0120777 },
		{ "mode", "40755", true, 040755 }, { "mode", "0106755", true, 0106755 },
		{ "file-permissions", "0100664", true, 0100664 }, { "file-permissions", "100755", true, 0100755 },
		{ "file-permissions", "0444", true, 0444 },
		{ "mode", "", false, 0 }, { "mode", "rw", false, 0 }, { "mode", "0x1ff", false, 0 },
		{ "mode", "-1", false, 0 }, { "mode", "99999999999999999999", false, 0 },
		{ "mode", "0200000", false, 0 }, { "mode", "0170644", false, 0 },
		{ "file-permissions", "33188", false, 0 }, { "file-permissions", "0777777777777", false, 0 },
	};
	struct obj_meta pair;
	struct obj_result r;
	struct objmeta m;
	bool damaged;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		r = one(&pair, cases[i].name, cases[i].text);
		objmeta_read(&r, &m, &damaged);
		if (m.has_mode != cases[i].good || m.mode != cases[i].mode || damaged || m.ours) {
			fail_msg("%s \"%s\": %d %o", cases[i].name, cases[i].text, m.has_mode, m.mode);
		}
	}
}

static void test_ids(void **state)
{
	const struct ofs_oid uuid = { { 1 } }, other = { { 2 } };
	const uint8_t sum[32] = { 0xab, [31] = 0x01 };
	struct ofs_oid a, b, c, d;
	char *key = objmeta_blob_key("p/", sum);

	(void)state;
	assert_string_equal(key, "p/.objectfs/blob/"
				 "ab00000000000000000000000000000000000000000000000000000000000001");
	free(key);
	objmeta_foreign_oid(&uuid, "k", &a);
	objmeta_foreign_oid(&uuid, "k", &b);
	objmeta_foreign_oid(&uuid, "l", &c);
	objmeta_foreign_oid(&other, "k", &d);
	assert_true(ofs_oid_equal(&a, &b));
	assert_false(ofs_oid_equal(&a, &c) || ofs_oid_equal(&a, &d) || ofs_oid_is_none(&a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_tombstone),
		cmocka_unit_test(test_time_beside),
		cmocka_unit_test(test_old),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_foreign_times),
		cmocka_unit_test(test_file_times),
		cmocka_unit_test(test_foreign_modes),
		cmocka_unit_test(test_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
