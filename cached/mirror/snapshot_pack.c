/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: snapshots as bytes, with large values left to blobs.
 * Way: snapshot_read -> split -> pack -> object metadata or log; unpack -> blobs fetched -> apply.
 * Thread: any; pure functions.
 * Owns: what it returns.
 * Holds: 1. Every length is checked against what is left; names ascend and are the user's.
 *        2. What does not fit even as blobs (many streams: the names alone exceed the budget) goes
 *           into one blob, the bundle: an xattr with the empty name whose value is a packed
 *           snapshot with every value inline.
 */
#include "snapshot_priv.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#define PACK_VERSION 1
#define PACK_HEAD_BYTES (1 + 4 + 4 + 4 + 8 + 8 + 8 + 2)
#define PACK_BLOB_BYTES (32 + 4)
#define BLOB_ACL_BYTES 400u
#define BLOB_OTHER_BYTES 256u
#define VALUE_MAX_BYTES (64u << 20)

/* --- writing --- */

static uint8_t *put_le(uint8_t *p, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++) {
		*p++ = (uint8_t)(v >> (8 * i));
	}
	return p;
}

static size_t pack_bytes(const struct snapshot *s, bool blobs)
{
	size_t bytes = PACK_HEAD_BYTES;

	for (unsigned i = 0; i < s->xattr_count; i++) {
		const struct snapshot_xattr *x = &s->xattrs[i];

		bytes += 1 + strlen(x->name) + 1;
		bytes += blobs && x->is_blob ? PACK_BLOB_BYTES : 4 + (size_t)x->len;
	}
	return bytes;
}

static uint8_t *pack(const struct snapshot *s, bool blobs, size_t *len)
{
	uint8_t *buf, *p;

	*len = pack_bytes(s, blobs);
	buf = malloc(*len);
	if (buf == NULL) {
		return NULL;
	}
	p = buf;
	*p++ = PACK_VERSION;
	p = put_le(p, s->mode, 4);
	p = put_le(p, s->uid, 4);
	p = put_le(p, s->gid, 4);
	p = put_le(p, (uint64_t)s->mtime_ns, 8);
	p = put_le(p, (uint64_t)s->atime_ns, 8);
	p = put_le(p, (uint64_t)s->btime_ns, 8);
	p = put_le(p, s->xattr_count, 2);
	for (unsigned i = 0; i < s->xattr_count; i++) {
		const struct snapshot_xattr *x = &s->xattrs[i];
		size_t name_len = strlen(x->name);

		*p++ = (uint8_t)name_len;
		memcpy(p, x->name, name_len);
		p += name_len;
		if (blobs && x->is_blob) {
			*p++ = 1;
			memcpy(p, x->sha256, 32);
			p = put_le(p + 32, x->len, 4);
			continue;
		}
		*p++ = 0;
		p = put_le(p, x->len, 4);
		if (x->len > 0) {
			memcpy(p, x->value, x->len);
		}
		p += x->len;
	}
	return buf;
}

uint8_t *snapshot_pack(const struct snapshot *s, size_t *len)
{
	return pack(s, true, len);
}

static void make_blob(struct snapshot_xattr *x)
{
	x->is_blob = true;
	SHA256(x->value, x->len, x->sha256);
}

bool snapshot_blob_is(const uint8_t sha256[32], uint32_t len, const void *data, size_t data_len)
{
	uint8_t sum[SHA256_DIGEST_LENGTH];

	return data != NULL && data_len == len && SHA256(data, data_len, sum) != NULL &&
	       memcmp(sum, sha256, sizeof(sum)) == 0;
}

bool snapshot_blob_is_right(const struct snapshot_xattr *x)
{
	return snapshot_blob_is(x->sha256, x->len, x->value, x->len);
}

static void xattrs_free(struct snapshot *s)
{
	for (unsigned i = 0; i < s->xattr_count; i++) {
		free(s->xattrs[i].name);
		free(s->xattrs[i].value);
	}
	free(s->xattrs);
	s->xattrs = NULL;
	s->xattr_count = 0;
}

/* All values are here? (A snapshot from the bucket may lack blobs: it stays as it is.) */
static void make_bundle(struct snapshot *s)
{
	struct snapshot_xattr *bundle;
	uint8_t *value;
	size_t len;

	if (snapshot_has_missing_blobs(s) || pack_bytes(s, false) > VALUE_MAX_BYTES) {
		return;
	}
	bundle = calloc(1, sizeof(*bundle));
	value = pack(s, false, &len);
	if (bundle != NULL) {
		bundle->name = strdup("");
	}
	if (bundle == NULL || value == NULL || bundle->name == NULL) {
		if (bundle != NULL) {
			free(bundle->name);
		}
		free(bundle);
		free(value);
		return; /* too large then: the caller's E2BIG, tried again */
	}
	bundle->value = value;
	bundle->len = (uint32_t)len;
	make_blob(bundle);
	xattrs_free(s);
	s->xattrs = bundle;
	s->xattr_count = 1;
}

void snapshot_split(struct snapshot *s, size_t budget)
{
	for (unsigned i = 0; i < s->xattr_count; i++) {
		struct snapshot_xattr *x = &s->xattrs[i];

		if (!x->is_blob && x->len > (snapshot_name_is_acl(x->name) ? BLOB_ACL_BYTES
									    : BLOB_OTHER_BYTES)) {
			make_blob(x);
		}
	}
	while (pack_bytes(s, true) > budget) {
		struct snapshot_xattr *largest = NULL;

		for (unsigned i = 0; i < s->xattr_count; i++) {
			struct snapshot_xattr *x = &s->xattrs[i];

			if (!x->is_blob && 4 + (size_t)x->len > PACK_BLOB_BYTES &&
					(largest == NULL || x->len > largest->len)) {
				largest = x;
			}
		}
		if (largest == NULL) {
			make_bundle(s);
			return;
		}
		make_blob(largest);
	}
}

/* --- reading --- */

struct unpacker { /* a bounds-checked cursor; bad is sticky */
	const uint8_t *p;
	size_t left;
	bool bad;
};

static const uint8_t *take(struct unpacker *u, size_t bytes)
{
	const uint8_t *p = u->p;

	if (u->bad || bytes > u->left) {
		u->bad = true;
		return NULL;
	}
	u->p += bytes;
	u->left -= bytes;
	return p;
}

static uint64_t get_le(struct unpacker *u, int bytes)
{
	const uint8_t *p = take(u, (size_t)bytes);
	uint64_t v = 0;

	for (int i = 0; p != NULL && i < bytes; i++) {
		v |= (uint64_t)p[i] << (8 * i);
	}
	return v;
}

/* 0, -EBADMSG, -ENOMEM; what is there belongs to *x, also on error. */
static int unpack_xattr(struct unpacker *u, struct snapshot_xattr *x)
{
	size_t name_len = get_le(u, 1);
	const uint8_t *name = take(u, name_len);
	uint64_t kind = get_le(u, 1);
	const uint8_t *bytes;

	if (u->bad || memchr(name, 0, name_len) != NULL || kind > 1) {
		return -EBADMSG;
	}
	x->name = strndup((const char *)name, name_len);
	if (x->name == NULL) {
		return -ENOMEM;
	}
	if (name_len == 0 ? kind != 1 : !snapshot_name_is_users(x->name)) {
		return -EBADMSG;
	}
	if (kind == 1) {
		bytes = take(u, 32);
		x->is_blob = true;
		x->len = (uint32_t)get_le(u, 4);
		if (u->bad || x->len > VALUE_MAX_BYTES) {
			return -EBADMSG;
		}
		memcpy(x->sha256, bytes, 32);
		return 0;
	}
	x->len = (uint32_t)get_le(u, 4);
	bytes = take(u, x->len);
	if (u->bad) {
		return -EBADMSG;
	}
	x->value = malloc((size_t)x->len + 1);
	if (x->value == NULL) {
		return -ENOMEM;
	}
	memcpy(x->value, bytes, x->len);
	return 0;
}

int snapshot_unpack(const uint8_t *buf, size_t len, struct snapshot **out)
{
	struct unpacker u = { .p = buf, .left = len };
	struct snapshot *s;
	unsigned count;
	int ret = 0;

	*out = NULL;
	if (get_le(&u, 1) != PACK_VERSION || u.bad) {
		return -EBADMSG;
	}
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		return -ENOMEM;
	}
	s->mode = (uint32_t)get_le(&u, 4);
	s->uid = (uint32_t)get_le(&u, 4);
	s->gid = (uint32_t)get_le(&u, 4);
	s->mtime_ns = (int64_t)get_le(&u, 8);
	s->atime_ns = (int64_t)get_le(&u, 8);
	s->btime_ns = (int64_t)get_le(&u, 8);
	count = (unsigned)get_le(&u, 2);
	/* an xattr takes six bytes at least: no more memory than the input is worth */
	if (u.bad || count > u.left / 6) {
		snapshot_free(&s);
		return -EBADMSG;
	}
	s->xattrs = calloc(count + 1, sizeof(*s->xattrs));
	ret = s->xattrs != NULL ? 0 : -ENOMEM;
	for (unsigned i = 0; ret == 0 && i < count; i++) {
		struct snapshot_xattr *x = &s->xattrs[s->xattr_count++];

		ret = unpack_xattr(&u, x);
		if (ret == 0 && i > 0 && strcmp(x[-1].name, x->name) >= 0) {
			ret = -EBADMSG;
		}
		if (ret == 0 && x->name[0] == '\0' && count != 1) {
			ret = -EBADMSG;
		}
	}
	if (ret == 0 && u.left != 0) {
		ret = -EBADMSG;
	}
	if (ret != 0) {
		snapshot_free(&s);
		return ret;
	}
	*out = s;
	return 0;
}

int snapshot_expand(const struct snapshot *s, struct snapshot **whole)
{
	const struct snapshot_xattr *bundle = s->xattr_count == 1 ? &s->xattrs[0] : NULL;
	struct snapshot *inner;
	int ret;

	*whole = NULL;
	if (bundle == NULL || bundle->name[0] != '\0') {
		return 0;
	}
	if (!snapshot_blob_is_right(bundle)) {
		return bundle->value == NULL ? -ENODATA : -EBADMSG;
	}
	ret = snapshot_unpack(bundle->value, bundle->len, &inner);
	if (ret != 0) {
		return ret;
	}
	if (snapshot_has_missing_blobs(inner)) {
		snapshot_free(&inner);
		return -EBADMSG;
	}
	/* the rest of the outer one is newer when a log entry has replaced it */
	inner->mode = s->mode;
	inner->uid = s->uid;
	inner->gid = s->gid;
	inner->mtime_ns = s->mtime_ns;
	inner->atime_ns = s->atime_ns;
	inner->btime_ns = s->btime_ns;
	*whole = inner;
	return 0;
}

bool snapshot_has_missing_blobs(const struct snapshot *s)
{
	for (unsigned i = 0; i < s->xattr_count; i++) {
		if (s->xattrs[i].is_blob && s->xattrs[i].value == NULL) {
			return true;
		}
	}
	return false;
}

void snapshot_free(struct snapshot **ps)
{
	if (*ps != NULL) {
		xattrs_free(*ps);
		free(*ps);
		*ps = NULL;
	}
}
