/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Duty: what is signed is what FORMAT.md says (numbers from Python's hmac); forged, moved, older or other
 * metadata are not believed; the key file is refused when it cannot be right. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cached/base/clock.h"
#include "cached/core/trust.h"
#include "cached/mirror/objmeta.h"
#include "tests/lib/scratch.h"

#define KEY_TEXT "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" /* 00 01 ... 1f */
#define OTHER_TEXT "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
#define PROOF "gfMu0D/tb68Bxnr+oMmUqdizcH9GDwqNxQqDyopHzDazFz4B"
#define PROOF_CONTROL "gfMu0JIiZd8MmmcdP6HlaOG7w77KTp56GCk0WIQEl0P9kafv"

struct world {
	char dir[64], *file;
	struct conf_volume cv;
	struct objstore *s;
	struct ofs_oid uuid;
	char *error;
};

static void write_key(const struct world *w, const char *text)
{
	int fd = open(w->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* A store with these keys; NULL: refused. */
static struct objstore *attach(struct world *w, const char *keys)
{
	TALLOC_FREE(w->s);
	write_key(w, keys);
	w->s = talloc_zero(NULL, struct objstore);
	if (trust_attach(NULL, w->s, &w->cv, &w->error) != 0) {
		TALLOC_FREE(w->s);
		return NULL;
	}
	trust_set(w->s, &w->uuid, 0);
	return w->s;
}

#define TWO_KEYS KEY_TEXT "\n" OTHER_TEXT "\n"
#define EIGHT_KEYS TWO_KEYS TWO_KEYS TWO_KEYS TWO_KEYS
#define NINE_KEYS EIGHT_KEYS KEY_TEXT "\n"

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	scratch_make(w->dir, sizeof(w->dir), "trust");
	assert_true(asprintf(&w->file, "%s/key", w->dir) > 0);
	w->cv.prefix = "p/";
	w->cv.trust_metadata = CONF_TRUST_SIGNED;
	w->cv.signing_key_file = w->file;
	for (unsigned i = 0; i < sizeof(w->uuid.bytes); i++) {
		w->uuid.bytes[i] = (uint8_t)i;
	}
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	TALLOC_FREE(w->s);
	scratch_remove(w->dir);
	free(w->file);
	free(w);
	return 0;
}

/* What a file of five bytes is written with. */
static struct obj_req *written(struct world *w, enum obj_op op, const char *key)
{
	struct obj_req *req = objstore_req_new(op, key);
	struct objmeta m = {.size = 5, .data_gen = 1, .meta_gen = 2};

	ofs_oid_new(&m.oid);
	m.snapshot = calloc(1, sizeof(*m.snapshot));
	m.snapshot->mode = 0100600;
	req->replace_meta = op == OBJ_COPY;
	assert_int_equal(objmeta_put(req, &m), 0);
	objmeta_clear(&m);
	assert_int_equal(w->s->door->out(w->s->door, req), 0);
	return req;
}

/* The answer to a HEAD of `key` that has these metadata. */
static struct obj_req *answer(struct world *w, const char *key, const struct obj_req *meta, int64_t size)
{
	struct obj_req *req = objstore_req_new(OBJ_HEAD, key);
	struct obj_req *copy = objstore_req_new(OBJ_PUT, key);

	for (unsigned i = 0; i < meta->meta_count; i++) {
		assert_int_equal(objstore_req_meta(copy, meta->meta[i].name, meta->meta[i].value), 0);
	}
	req->result.meta = copy->meta;
	req->result.meta_count = copy->meta_count;
	copy->meta = NULL;
	copy->meta_count = 0;
	objstore_req_free(&copy);
	req->result.size = size;
	req->result.mtime_ns = 100 * NS_PER_S;
	w->s->door->in(w->s->door, req);
	return req;
}

static bool believed(struct world *w, const char *key, const struct obj_req *meta, int64_t size)
{
	struct obj_req *req = answer(w, key, meta, size);
	struct objmeta m;
	bool damaged, ours;

	objmeta_read(&req->result, &m, &damaged);
	assert_false(damaged);
	ours = m.ours;
	assert_int_equal(ours, req->result.proof == OBJ_PROOF_GOOD);
	objmeta_clear(&m);
	objstore_req_free(&req);
	return ours;
}

static char *meta_of(struct obj_req *req, const char *name)
{
	for (unsigned i = 0; i < req->meta_count; i++) {
		if (strcmp(req->meta[i].name, name) == 0) {
			return req->meta[i].value;
		}
	}
	return NULL;
}

static void test_vectors(void **state)
{
	struct world *w = *state;
	struct trust_key keys[TRUST_KEYS];
	const char *why = NULL;
	char *proof;

	assert_int_equal(trust_keys_parse(KEY_TEXT, strlen(KEY_TEXT), keys, &why), 1);
	assert_int_equal(keys[0].bytes[31], 31);
	proof = trust_proof(keys[0].bytes, "object", &w->uuid, "p/a b.txt", "dmFsdWU=", 8);
	assert_string_equal(proof, PROOF);
	free(proof);
	proof = trust_proof(keys[0].bytes, "control", &w->uuid, "p/.objectfs/volume", "{}", 2);
	assert_string_equal(proof, PROOF_CONTROL);
	free(proof);
	assert_int_equal(TRUST_META_BYTES, strlen(TRUST_PROOF_NAME) + strlen(PROOF));
}

static void test_key_files(void **state)
{
	static const char *const bad[] = {"", "\n", "secret", KEY_TEXT "x", "A" KEY_TEXT,
		NINE_KEYS, KEY_TEXT "\nshort\n", KEY_TEXT "\n" OTHER_TEXT " yesterday", KEY_TEXT "\n" OTHER_TEXT
		" 2026-11-23T13:00:00Z x", KEY_TEXT "\n" OTHER_TEXT "\t2026-11-23T13:00:00Z",
		KEY_TEXT " 2026-11-23T13:00:00Z\n" OTHER_TEXT, KEY_TEXT "\n" OTHER_TEXT " 1960-01-01T00:00:00Z"};
	struct world *w = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_null(attach(w, bad[i]));
		assert_non_null(strstr(w->error, w->file));
		assert_null(strstr(w->error, KEY_TEXT));
		TALLOC_FREE(w->error);
	}
	assert_non_null(attach(w, KEY_TEXT));
	assert_non_null(attach(w, KEY_TEXT "\r\n\n" OTHER_TEXT "\n"));
	assert_non_null(attach(w, EIGHT_KEYS));
	assert_non_null(attach(w, KEY_TEXT "\r\n" OTHER_TEXT " 2026-11-23T13:00:00Z\r\n"));
	assert_int_equal(chmod(w->file, 0640), 0);
	assert_null(attach(w, KEY_TEXT));
	assert_non_null(strstr(w->error, "chmod 600"));
	TALLOC_FREE(w->error);
	assert_int_equal(unlink(w->file), 0);
	assert_int_equal(mkdir(w->file, 0700), 0);
	w->s = talloc_zero(NULL, struct objstore);
	assert_int_equal(trust_attach(NULL, w->s, &w->cv, &w->error), -EINVAL);
	assert_non_null(strstr(w->error, "no regular file"));
	TALLOC_FREE(w->error);
	assert_int_equal(rmdir(w->file), 0);
}

static void test_objects(void **state)
{
	struct world *w = *state;
	struct obj_req *a, *b;
	char *value;
	const char *last;

	assert_non_null(attach(w, KEY_TEXT));
	a = written(w, OBJ_PUT, "p/a");
	b = written(w, OBJ_MPU_CREATE, "p/b");
	assert_true(believed(w, "p/a", a, 5) && believed(w, "p/b", b, 5));
	assert_int_equal(trust_unproven(w->s, &last), 0);
	assert_false(believed(w, "p/b", a, 5)); /* moved, with its proof */
	assert_false(believed(w, "p/a", a, 6)); /* other bytes */
	value = meta_of(a, "objectfs");
	value[0] = value[0] == 'A' ? 'B' : 'A';
	assert_false(believed(w, "p/a", a, 5));
	value[0] = 'A';
	value = meta_of(a, TRUST_PROOF_NAME);
	memcpy(value, meta_of(b, TRUST_PROOF_NAME), strlen(value)); /* another object's proof */
	assert_false(believed(w, "p/a", a, 5));
	strcpy(value, "AAAA");
	assert_false(believed(w, "p/a", a, 5));
	value[0] = '\0';
	assert_false(believed(w, "p/a", a, 5));
	assert_int_equal(trust_unproven(w->s, &last), 2); /* each object once */
	assert_string_equal(last, "p/a");
	objstore_req_free(&a);

	a = written(w, OBJ_COPY, "p/a"); /* signed anew under its new key, and the old proof is gone */
	strcpy(meta_of(a, TRUST_PROOF_NAME), PROOF);
	assert_int_equal(objstore_req_meta(a, TRUST_UNPROVEN_NAME, "x"), 0);
	assert_int_equal(w->s->door->out(w->s->door, a), 0);
	assert_true(believed(w, "p/a", a, 5));
	assert_null(meta_of(a, TRUST_UNPROVEN_NAME));
	w->uuid.bytes[0] ^= 1; /* a volume beside it, with the same key */
	trust_set(w->s, &w->uuid, 0);
	assert_false(believed(w, "p/a", a, 5));
	objstore_req_free(&a);
	objstore_req_free(&b);
}

static void test_two_keys(void **state)
{
	struct world *w = *state;
	struct obj_req *old, *now, *head;

	assert_non_null(attach(w, KEY_TEXT));
	old = written(w, OBJ_PUT, "p/a");
	assert_non_null(attach(w, OTHER_TEXT "\n" KEY_TEXT "\n"));
	now = written(w, OBJ_PUT, "p/a");
	assert_string_not_equal(meta_of(old, TRUST_PROOF_NAME), meta_of(now, TRUST_PROOF_NAME));
	assert_true(believed(w, "p/a", old, 5) && believed(w, "p/a", now, 5));
	assert_non_null(attach(w, KEY_TEXT));
	assert_true(believed(w, "p/a", old, 5));
	head = answer(w, "p/a", now, 5);
	assert_int_equal(head->result.proof, OBJ_PROOF_OTHER_KEY);
	objstore_req_free(&head);
	objstore_req_free(&old);
	objstore_req_free(&now);
}

/* A key became known: what it signed counts if the store had it before, 100 s here. */
static void test_known_key(void **state)
{
	static const struct {
		const char *until;
		bool counts;
	} rows[] = {{"1970-01-01T00:01:40Z", false}, {"1970-01-01T00:01:41Z", true}, {"1970-01-01T00:01:39Z", false},
			{"1970-01-01T01:01:41+01:00", true}};
	struct world *w = *state;
	struct obj_req *old, *now, *head;
	char *keys = NULL;

	assert_non_null(attach(w, OTHER_TEXT));
	now = written(w, OBJ_PUT, "p/a");
	assert_non_null(attach(w, KEY_TEXT));
	old = written(w, OBJ_PUT, "p/a");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_true(asprintf(&keys, OTHER_TEXT "\n" KEY_TEXT " %s\n", rows[i].until) > 0);
		assert_non_null(attach(w, keys));
		free(keys);
		assert_int_equal(believed(w, "p/a", old, 5), rows[i].counts);
		assert_true(believed(w, "p/a", now, 5)); /* the one that signs always counts */
	}
	assert_non_null(attach(w, OTHER_TEXT "\n" KEY_TEXT " 1970-01-01T00:01:40Z"));
	head = answer(w, "p/a", old, 5);
	assert_int_equal(head->result.proof, OBJ_PROOF_OTHER_KEY);
	objstore_req_free(&head);
	objstore_req_free(&old);
	objstore_req_free(&now);
}

/* The store's time says what was there before the volume was signed: 100 s here. */
static void test_since(void **state)
{
	struct world *w = *state;
	struct obj_req *a;

	assert_non_null(attach(w, KEY_TEXT));
	a = written(w, OBJ_PUT, "p/a");
	free(a->meta[--a->meta_count].name); /* the proof */
	free(a->meta[a->meta_count].value);
	trust_set(w->s, &w->uuid, 100);
	assert_false(believed(w, "p/a", a, 5));
	trust_set(w->s, &w->uuid, 101);
	assert_true(believed(w, "p/a", a, 5));
	assert_int_equal(objstore_req_meta(a, TRUST_PROOF_NAME, PROOF), 0); /* signed, wrongly */
	assert_false(believed(w, "p/a", a, 5));
	objstore_req_free(&a);
}

static struct obj_req *control(struct world *w, const char *key, const char *body, const char *proof)
{
	struct obj_req *req = objstore_req_new(OBJ_GET, key);

	req->result.body = (uint8_t *)strdup(body);
	req->result.body_len = strlen(body);
	if (proof != NULL) {
		req->result.meta = calloc(1, sizeof(*req->result.meta));
		req->result.meta_count = 1;
		req->result.meta[0].name = strdup(TRUST_PROOF_NAME);
		req->result.meta[0].value = strdup(proof);
	}
	w->s->door->in(w->s->door, req);
	return req;
}

static void test_control(void **state)
{
	static const char *const keys[] = {"p/.objectfs/nodes/x", "p/.objectfs/log/x/1", "p/.objectfs/rename/x",
		"p/.objectfs/rename/x.stays", "p/.objectfs/dir/x/head", "p/.objectfs/sweep"};
	static const char *const others[] = {"p/.objectfs/blob/x", "p/.objectfs/dir/x/y", "p/.objectfs/key",
		"p/.objectfs/probe/x/a", "p/x", "x", ".objectfs/volume", "p/q/.objectfs/volume"};
	struct world *w = *state;
	struct obj_req *put, *get;

	assert_non_null(attach(w, KEY_TEXT));
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		put = objstore_req_new(OBJ_PUT, keys[i]);
		put->body = (uint8_t *)strdup("body");
		put->length = 4;
		assert_int_equal(w->s->door->out(w->s->door, put), 0);
		get = control(w, keys[i], "body", meta_of(put, TRUST_PROOF_NAME));
		assert_int_equal(get->result.body_len, 4);
		objstore_req_free(&get);
		get = control(w, keys[i], "BODY", meta_of(put, TRUST_PROOF_NAME));
		assert_int_equal(get->result.body_len, 0);
		assert_int_equal(get->result.proof, OBJ_PROOF_WRONG);
		objstore_req_free(&get);
		get = control(w, keys[i], "body", NULL);
		assert_int_equal(get->result.body_len, 0);
		assert_int_equal(get->result.body[0], '\0');
		objstore_req_free(&get);
		get = control(w, "p/.objectfs/log/x/2", "body", meta_of(put, TRUST_PROOF_NAME));
		assert_int_equal(get->result.body_len, 0);
		objstore_req_free(&get);
		objstore_req_free(&put);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		get = control(w, others[i], "body", NULL);
		assert_int_equal(get->result.body_len, 4);
		assert_int_equal(get->result.proof, OBJ_PROOF_NOT_ASKED);
		objstore_req_free(&get);
	}
	get = control(w, "p/.objectfs/volume", "{}", PROOF_CONTROL); /* which is of no volume: it says which it is */
	assert_int_equal(get->result.proof, OBJ_PROOF_WRONG);
	assert_int_equal(get->result.body_len, 2);
	objstore_req_free(&get);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_vectors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_key_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_objects, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_known_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_since, setup, teardown),
		cmocka_unit_test_setup_teardown(test_control, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
