/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: `trust metadata = signed`: prove what is written, and believe only what is proven.
 * Way: volume_store.c attaches it to the store; from then on each request passes door_out, each answer
 *      door_in, before anybody else sees them.
 * Thread: core.
 * Owns: the keys, wiped with the store; which objects were told of.
 * Holds: 1. fail closed: what cannot be proven is another program's object, or a damaged one of the daemons'
 *           own; it grants nothing;
 *        2. a proof is of one key of one volume: copied elsewhere, or on other metadata, it is none;
 *        3. what this daemon has not believed it does not sign: an answer's `objectfs` is gone before anybody
 *           could copy it into a request;
 *        4. of a key that became known nothing counts but what the store had before that was known.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "trust.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/clock.h"
#include "../base/keyfile.h"
#include "../base/log.h"
#include "../base/stats.h"
#include "../mirror/base64.h"
#include "../mirror/objmeta.h"
#include "volrec.h"

#define KEY_BYTES TRUST_KEY_BYTES
#define KEY_TEXT_BYTES 44 /* its base64 */
#define LINE_BYTES 96     /* with a date */
#define KEY_ID_BYTES TRUST_ID_BYTES
#define PROOF_BYTES (KEY_ID_BYTES + 32)
#define TOLD_SLOTS 65536u /* a power of two */
#define TOLD_MOST (TOLD_SLOTS / 4 * 3)

struct trust {
	struct obj_door door;
	const char *prefix;
	struct trust_key keys[TRUST_KEYS];
	uint8_t ids[TRUST_KEYS][KEY_ID_BYTES]; /* what proofs call them */
	unsigned key_count;
	struct ofs_oid uuid;
	int64_t since_ns;
	uint64_t *told; /* hashes of objects, 0: free */
	uint64_t unproven;
	char *last;
};

/* ---- keys ---- */

static unsigned keys_none(const char **why, const char *text)
{
	*why = text;
	return 0;
}

/* One line: base64 of the key, and a time, if it counts no more since then. NULL, or what is wrong. */
static const char *key_parse(const char *line, size_t len, struct trust_key *key)
{
	const char *why = "each line is the base64 of 32 random bytes: openssl rand -base64 32";
	char date[LINE_BYTES] = "";
	size_t bytes = 0;
	uint8_t *raw = len >= KEY_TEXT_BYTES && len < LINE_BYTES ? base64_decode(line, KEY_TEXT_BYTES, &bytes) : NULL;

	key->until_ns = 0;
	if (raw != NULL && bytes == KEY_BYTES) {
		memcpy(key->bytes, raw, KEY_BYTES);
		why = NULL;
	}
	if (raw != NULL) {
		OPENSSL_cleanse(raw, bytes);
	}
	free(raw);
	if (why == NULL && len > KEY_TEXT_BYTES) {
		memcpy(date, line + KEY_TEXT_BYTES + 1, len - KEY_TEXT_BYTES - 1);
		if (line[KEY_TEXT_BYTES] != ' ' || !objmeta_rfc3339(date, &key->until_ns) || key->until_ns <= 0) {
			why = "behind a key there may be a blank and a time, as 2026-11-23T13:00:00Z, and no more";
		}
	}
	return why;
}

unsigned trust_keys_parse(const char *text, size_t len, struct trust_key keys[TRUST_KEYS], const char **why)
{
	unsigned count = 0;

	for (size_t at = 0, next; at < len; at = next) {
		const char *end = memchr(text + at, '\n', len - at);
		size_t chars = end != NULL ? (size_t)(end - text) - at : len - at;

		next = at + chars + 1;
		while (chars > 0 && (text[at + chars - 1] == '\r' || text[at + chars - 1] == ' ')) {
			chars--;
		}
		if (chars == 0) {
			continue;
		}
		if (count == TRUST_KEYS) {
			return keys_none(why, "it has more than eight keys: the first one signs, the others are accepted");
		}
		*why = key_parse(text + at, chars, &keys[count]);
		if (*why != NULL) {
			return 0;
		}
		count++;
	}
	if (count == 0) {
		return keys_none(why, "it is empty: each line is the base64 of 32 random bytes: openssl rand -base64 32");
	}
	return keys[0].until_ns == 0 ? count : keys_none(why, "its first key has a time: it is the one that signs");
}

/* false: out of memory. */
static bool key_id(const uint8_t key[KEY_BYTES], uint8_t id[KEY_ID_BYTES])
{
	static const char name[] = "objectfs key";
	uint8_t mac[EVP_MAX_MD_SIZE] = {0};
	bool good = HMAC(EVP_sha256(), key, KEY_BYTES, (const uint8_t *)name, sizeof(name) - 1, mac, NULL) != NULL;

	memcpy(id, mac, KEY_ID_BYTES);
	return good;
}

static const char *keys_load(struct trust *t, const char *file)
{
	char text[TRUST_KEYS * LINE_BYTES];
	const char *why = "it is too long for eight keys";
	ssize_t n = keyfile_read(file, text, sizeof(text), &why);

	if (n >= 0 && n < (ssize_t)sizeof(text)) {
		t->key_count = trust_keys_parse(text, (size_t)n, t->keys, &why);
	}
	OPENSSL_cleanse(text, sizeof(text));
	for (unsigned i = 0; i < t->key_count; i++) {
		if (!key_id(t->keys[i].bytes, t->ids[i])) {
			return "out of memory";
		}
	}
	return t->key_count > 0 ? NULL : why;
}

/* ---- proofs ---- */

/* false: out of memory. */
static bool proof_bytes(const uint8_t key[KEY_BYTES], const uint8_t id[KEY_ID_BYTES], const char *what,
		const struct ofs_oid *uuid, const char *object, const void *data, size_t len,
		uint8_t proof[PROOF_BYTES])
{
	char hex[OFS_OID_HEX_BYTES], sum_hex[2 * SHA256_DIGEST_LENGTH + 1], *text = NULL;
	uint8_t sum[SHA256_DIGEST_LENGTH], mac[EVP_MAX_MD_SIZE] = {0};
	bool good;
	int n;

	ofs_oid_hex(uuid, hex);
	SHA256(data, len, sum);
	for (unsigned i = 0; i < sizeof(sum); i++) {
		snprintf(sum_hex + 2 * i, 3, "%02x", sum[i]);
	}
	n = asprintf(&text, "objectfs proof 1\n%s\n%s\n%s\n%s", what, hex, sum_hex, object);
	if (n < 0) {
		return false;
	}
	good = HMAC(EVP_sha256(), key, KEY_BYTES, (const uint8_t *)text, (size_t)n, mac, NULL) != NULL;
	memcpy(proof, id, KEY_ID_BYTES);
	memcpy(proof + KEY_ID_BYTES, mac, PROOF_BYTES - KEY_ID_BYTES);
	free(text);
	return good;
}

char *trust_proof(const uint8_t key[KEY_BYTES], const char *what, const struct ofs_oid *uuid,
		const char *object, const void *data, size_t len)
{
	uint8_t proof[PROOF_BYTES], id[KEY_ID_BYTES];
	bool good = key_id(key, id) && proof_bytes(key, id, what, uuid, object, data, len, proof);

	return good ? base64_encode(proof, sizeof(proof)) : NULL;
}

/* By the key that signs. malloc; NULL: out of memory. */
static char *proof_text(const struct trust *t, const char *what, const struct ofs_oid *uuid, const char *object,
		const void *data, size_t len)
{
	uint8_t proof[PROOF_BYTES];
	bool good = proof_bytes(t->keys[0].bytes, t->ids[0], what, uuid, object, data, len, proof);

	return good ? base64_encode(proof, sizeof(proof)) : NULL;
}

/* Is what the key signed to be believed, of an object that the store dates so? */
static bool key_counts(const struct trust_key *key, int64_t mtime_ns)
{
	return key->until_ns == 0 || (mtime_ns > 0 && mtime_ns < key->until_ns);
}

static enum obj_proof proof_check(const struct trust *t, const struct obj_req *req, const char *what,
		const struct ofs_oid *uuid, const void *data, size_t len)
{
	const char *text = objstore_meta_get(&req->result, TRUST_PROOF_NAME);
	enum obj_proof judged = OBJ_PROOF_OTHER_KEY;
	uint8_t right[PROOF_BYTES], *said;
	size_t said_len = 0;

	if (text == NULL) {
		return OBJ_PROOF_MISSING;
	}
	said = strlen(text) <= 64 ? base64_decode(text, strlen(text), &said_len) : NULL;
	if (said == NULL || said_len != PROOF_BYTES) {
		free(said);
		return OBJ_PROOF_WRONG;
	}
	for (unsigned i = 0; i < t->key_count && judged == OBJ_PROOF_OTHER_KEY; i++) {
		if (memcmp(t->ids[i], said, KEY_ID_BYTES) == 0 && key_counts(&t->keys[i], req->result.mtime_ns)) {
			/* not known is not proven */
			judged = proof_bytes(t->keys[i].bytes, t->ids[i], what, uuid, req->key, data, len, right) &&
					CRYPTO_memcmp(right, said, PROOF_BYTES) == 0
				? OBJ_PROOF_GOOD
				: OBJ_PROOF_WRONG;
		}
	}
	free(said);
	return judged;
}

/* ---- which objects ---- */

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* What daemons say to daemons, as against what they keep for clients, scratch, and what its name proves
 * (blobs, chunks of bases). NULL: it is none; else its key below the prefix. */
static const char *control_of(const struct trust *t, const char *key)
{
	const char *below, *name, *slash;

	if (!begins(key, t->prefix) || !begins(key + strlen(t->prefix), OFS_OWN_PLACE)) {
		return NULL;
	}
	below = key + strlen(t->prefix);
	name = below + strlen(OFS_OWN_PLACE);
	slash = strrchr(name, '/');
	return strcmp(below, VOLREC_KEY) == 0 || strcmp(name, "sweep") == 0 || begins(name, "nodes/") ||
					begins(name, "log/") || begins(name, "rename/") ||
					(begins(name, "dir/") && slash != NULL && strcmp(slash, "/head") == 0)
			? below
			: NULL;
}

/* The record says which volume it is: nobody knows before. */
static const struct ofs_oid *uuid_for(const struct trust *t, const char *below)
{
	static const struct ofs_oid none;

	return strcmp(below, VOLREC_KEY) == 0 ? &none : &t->uuid;
}

/* ---- out ---- */

static void meta_remove(struct obj_req *req, const char *name)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < req->meta_count; i++) {
		if (strcmp(req->meta[i].name, name) == 0) {
			free(req->meta[i].name);
			free(req->meta[i].value);
		} else {
			req->meta[kept++] = req->meta[i];
		}
	}
	req->meta_count = kept;
}

static const char *meta_of(const struct obj_req *req, const char *name)
{
	for (unsigned i = 0; i < req->meta_count; i++) {
		if (strcmp(req->meta[i].name, name) == 0) {
			return req->meta[i].value;
		}
	}
	return NULL;
}

static int door_out(struct obj_door *door, struct obj_req *req)
{
	struct trust *t = (struct trust *)door;
	const char *control = req->op == OBJ_PUT && req->fd < 0 ? control_of(t, req->key) : NULL, *value;
	char *proof = NULL;
	int ret;

	if (req->op != OBJ_PUT && req->op != OBJ_MPU_CREATE && req->op != OBJ_COPY) {
		return 0;
	}
	meta_remove(req, TRUST_PROOF_NAME); /* of where it was copied from */
	meta_remove(req, TRUST_UNPROVEN_NAME);
	value = meta_of(req, OBJMETA_NAME);
	if (control != NULL) {
		proof = proof_text(t, "control", uuid_for(t, control), req->key, req->body,
				(size_t)req->length);
	} else if (value != NULL) {
		proof = proof_text(t, "object", &t->uuid, req->key, value, strlen(value));
	} else {
		return 0;
	}
	ret = proof != NULL ? objstore_req_meta(req, TRUST_PROOF_NAME, proof) : -ENOMEM;
	free(proof);
	return ret;
}

/* ---- in ---- */

/* Has this one been told of? Notes that it has. */
static bool told_before(struct trust *t, const struct obj_req *req)
{
	const char *etag = req->result.etag != NULL ? req->result.etag : "";
	uint8_t sum[SHA256_DIGEST_LENGTH];
	uint64_t h, at;
	char *text;

	if (t->unproven >= TOLD_MOST) {
		return true;
	}
	if (t->told == NULL && (t->told = talloc_zero_array(t, uint64_t, TOLD_SLOTS)) == NULL) {
		return true;
	}
	if (asprintf(&text, "%s\n%s", etag, req->key) < 0) {
		return true;
	}
	SHA256((const uint8_t *)text, strlen(text), sum);
	free(text);
	memcpy(&h, sum, sizeof(h));
	h |= 1;
	for (at = h % TOLD_SLOTS; t->told[at] != 0; at = (at + 1) % TOLD_SLOTS) {
		if (t->told[at] == h) {
			return true;
		}
	}
	t->told[at] = h;
	return false;
}

static void tell(struct trust *t, const struct obj_req *req, enum obj_proof judged, const char *then)
{
	static const char *const why[] = {
		[OBJ_PROOF_MISSING] = "nobody has signed its metadata",
		[OBJ_PROOF_OTHER_KEY] = "its metadata are signed with another key, or one that counts no more at its date",
		[OBJ_PROOF_WRONG] = "its metadata, or its content, are not those that were signed for this key",
	};

	if (told_before(t, req)) {
		return;
	}
	t->unproven++;
	talloc_free(t->last);
	t->last = talloc_strdup(t, req->key);
	stats_add(metadata_unproven, 1);
	log_warning("trust", "%s: %s: %s", req->key, why[judged], then);
}

/* Was it there before the volume was signed? Nobody but the store sets this time. */
static bool is_from_before(const struct trust *t, const struct obj_result *r, enum obj_proof judged)
{
	return judged == OBJ_PROOF_MISSING && r->mtime_ns > 0 && r->mtime_ns < t->since_ns;
}

static void answer_control(struct trust *t, struct obj_req *req, const char *below)
{
	struct obj_result *r = &req->result;

	r->proof = proof_check(t, req, "control", uuid_for(t, below), r->body, r->body_len);
	if (strcmp(below, VOLREC_KEY) == 0) {
		return;
	}
	if (is_from_before(t, r, r->proof)) {
		r->proof = OBJ_PROOF_GOOD;
	}
	if (r->proof != OBJ_PROOF_GOOD) {
		tell(t, req, r->proof, "it is not read");
		r->body_len = 0;
		if (r->body != NULL) {
			r->body[0] = '\0';
		}
	}
}

/* Other bytes under metadata that were kept. */
static bool is_other_content(const struct obj_req *req)
{
	const struct obj_result *r = &req->result;
	struct objmeta m = {0};
	bool damaged, other;

	if (req->op != OBJ_HEAD) {
		return false; /* a GET says how much it has delivered */
	}
	objmeta_read(r, &m, &damaged);
	other = m.ours && !m.old && m.size != r->size;
	objmeta_clear(&m);
	return other;
}

static void answer_object(struct trust *t, struct obj_req *req, unsigned at)
{
	struct obj_result *r = &req->result;
	const char *value = r->meta[at].value;
	char *name;

	r->proof = proof_check(t, req, "object", &t->uuid, value, strlen(value));
	if (r->proof == OBJ_PROOF_GOOD && is_other_content(req)) {
		r->proof = OBJ_PROOF_WRONG;
	}
	if (is_from_before(t, r, r->proof)) {
		r->proof = OBJ_PROOF_GOOD;
	}
	if (r->proof == OBJ_PROOF_GOOD) {
		return;
	}
	tell(t, req, r->proof, "it is taken for another program's, without rights of its own");
	name = strdup(TRUST_UNPROVEN_NAME);
	if (name == NULL) {
		r->meta[at].value[0] = '\0'; /* damaged, then: nothing is believed for want of memory */
		return;
	}
	free(r->meta[at].name);
	r->meta[at].name = name;
}

static void door_in(struct obj_door *door, struct obj_req *req)
{
	struct trust *t = (struct trust *)door;
	struct obj_result *r = &req->result;
	const char *control;

	if (r->status != OBJ_OK || (req->op != OBJ_GET && req->op != OBJ_HEAD)) {
		return;
	}
	control = req->op == OBJ_GET ? control_of(t, req->key) : NULL;
	if (control != NULL) {
		answer_control(t, req, control);
		return;
	}
	for (unsigned i = 0; i < r->meta_count; i++) {
		if (strcmp(r->meta[i].name, OBJMETA_NAME) == 0) {
			answer_object(t, req, i);
		}
	}
}

/* ---- life ---- */

static int trust_destroy(struct trust *t)
{
	OPENSSL_cleanse(t->keys, sizeof(t->keys));
	return 0;
}

int trust_attach(TALLOC_CTX *ctx, struct objstore *s, const struct conf_volume *cv, char **error)
{
	struct trust *t;
	const char *why;

	if (cv->trust_metadata != CONF_TRUST_SIGNED) {
		return 0;
	}
	t = talloc_zero(s, struct trust);
	if (t == NULL) {
		*error = talloc_strdup(ctx, "out of memory");
		return -ENOMEM;
	}
	talloc_set_destructor(t, trust_destroy);
	t->door.out = door_out;
	t->door.in = door_in;
	t->prefix = cv->prefix != NULL ? cv->prefix : "";
	why = keys_load(t, cv->signing_key_file);
	if (why != NULL) {
		*error = talloc_asprintf(ctx, "The signing key file %s cannot be used: %s.", cv->signing_key_file,
				why);
		talloc_free(t);
		return -EINVAL;
	}
	s->door = &t->door;
	return 0;
}

bool trust_is_signed(const struct objstore *s)
{
	return s->door != NULL;
}

bool trust_signer(const struct objstore *s, uint8_t id[TRUST_ID_BYTES])
{
	const struct trust *t = (const struct trust *)s->door;

	if (t != NULL) {
		memcpy(id, t->ids[0], KEY_ID_BYTES);
	}
	return t != NULL;
}

void trust_set(const struct objstore *s, const struct ofs_oid *uuid, int64_t since_s)
{
	struct trust *t = (struct trust *)s->door;

	if (t != NULL) {
		t->uuid = *uuid;
		t->since_ns = since_s > 0 && since_s < INT64_MAX / NS_PER_S ? since_s * NS_PER_S : 0;
	}
}

uint64_t trust_unproven(const struct objstore *s, const char **last)
{
	const struct trust *t = (const struct trust *)s->door;

	*last = t != NULL && t->last != NULL ? t->last : "";
	return t != NULL ? t->unproven : 0;
}
