/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: user metadata of objects: ours, and what other tools left.
 * Way: upload writes it, listings and HEADs read it.
 * Thread: any; pure functions.
 * Owns: what it returns.
 * Holds: what comes from the bucket is checked; what does not fit our form is damaged, and then
 *        nothing of it is used.
 */
#include "objmeta.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base64.h"

#define META_VERSION 2
#define META_VERSION_OLD 1
#define META_TOMBSTONE 1u
#define META_HEAD_OLD_BYTES (1 + 1 + 16 + 8 + 8 + 16 + 16 + 16)
#define META_HEAD_BYTES (META_HEAD_OLD_BYTES + 8 + 1)
#define META_PROOF_MAX_BYTES 64u
#define META_VALUE_MAX_BYTES 8192u /* more than a store gives: 2 KiB and base64 */
#define NS_PER_SECOND 1000000000LL
#define SECONDS_MAX (INT64_MAX / NS_PER_SECOND - 1)

static uint8_t *put_le64(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++) {
		*p++ = (uint8_t)(v >> (8 * i));
	}
	return p;
}

static uint64_t get_le64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++) {
		v |= (uint64_t)p[i] << (8 * i);
	}
	return v;
}

static uint8_t *put_oid(uint8_t *p, const struct ofs_oid *oid)
{
	memcpy(p, oid->bytes, sizeof(oid->bytes));
	return p + sizeof(oid->bytes);
}

/* --- writing --- */

/* The packed value in base64; malloc. */
static char *meta_value(const struct objmeta *m)
{
	size_t snap_len = 0, len;
	uint8_t *snap = NULL, *buf, *p;
	char *text = NULL;

	if (m->snapshot != NULL) {
		snap = snapshot_pack(m->snapshot, &snap_len);
		if (snap == NULL) {
			return NULL;
		}
	}
	len = META_HEAD_BYTES + snap_len;
	buf = malloc(len);
	if (buf != NULL) {
		p = buf;
		*p++ = META_VERSION;
		*p++ = m->tombstone ? META_TOMBSTONE : 0;
		p = put_oid(p, &m->oid);
		p = put_le64(p, m->data_gen);
		p = put_le64(p, m->meta_gen);
		p = put_oid(p, &m->node);
		p = put_oid(p, &m->wid);
		p = put_oid(p, &m->parent);
		p = put_le64(p, (uint64_t)m->size);
		*p++ = 0; /* bytes of proof */
		if (snap != NULL) {
			memcpy(p, snap, snap_len);
		}
		text = base64_encode(buf, len);
	}
	free(buf);
	free(snap);
	return text;
}

/* "-1.500000000" is one and a half seconds before 1970. */
static void format_seconds(int64_t ns, char *buf, size_t size)
{
	uint64_t all = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
	uint64_t seconds = all / (uint64_t)NS_PER_SECOND, fraction = all % (uint64_t)NS_PER_SECOND;
	const char *sign = ns < 0 ? "-" : "";

	if (fraction == 0) {
		snprintf(buf, size, "%s%" PRIu64, sign, seconds);
	} else {
		snprintf(buf, size, "%s%" PRIu64 ".%09" PRIu64, sign, seconds, fraction);
	}
}

int objmeta_put(struct obj_req *req, const struct objmeta *m)
{
	static const char *const names[] = { OBJMETA_NAME, "mtime", "mode", "uid", "gid" };
	char number[4][32];
	char *value = meta_value(m);
	const char *values[] = { value, number[0], number[1], number[2], number[3] };
	unsigned count = m->snapshot != NULL ? 5 : 1;
	size_t bytes = 0;
	int ret = 0;

	if (value == NULL) {
		return -ENOMEM;
	}
	if (m->snapshot != NULL) {
		format_seconds(m->snapshot->mtime_ns, number[0], sizeof(number[0]));
		snprintf(number[1], sizeof(number[1]), "%" PRIu32, m->snapshot->mode);
		snprintf(number[2], sizeof(number[2]), "%" PRIu32, m->snapshot->uid);
		snprintf(number[3], sizeof(number[3]), "%" PRIu32, m->snapshot->gid);
	}
	for (unsigned i = 0; i < req->meta_count; i++) {
		bytes += strlen(req->meta[i].name) + strlen(req->meta[i].value);
	}
	for (unsigned i = 0; i < count; i++) {
		bytes += strlen(names[i]) + strlen(values[i]);
	}
	if (bytes > OBJ_META_MAX_BYTES) {
		ret = -E2BIG;
	}
	for (unsigned i = 0; ret == 0 && i < count; i++) {
		ret = objstore_req_meta(req, names[i], values[i]);
	}
	free(value);
	return ret;
}

/* --- reading --- */

/* Where the snapshot begins; 0: damaged, or of a later version. */
static size_t meta_head(const uint8_t *p, size_t len, struct objmeta *m)
{
	uint64_t size;

	if (len >= META_HEAD_OLD_BYTES && p[0] == META_VERSION_OLD) {
		m->old = true;
		return META_HEAD_OLD_BYTES;
	}
	if (len < META_HEAD_BYTES || p[0] != META_VERSION) {
		return 0;
	}
	size = get_le64(p + META_HEAD_OLD_BYTES);
	m->size = (int64_t)size;
	return size <= INT64_MAX && p[META_HEAD_BYTES - 1] <= META_PROOF_MAX_BYTES &&
			len >= META_HEAD_BYTES + (size_t)p[META_HEAD_BYTES - 1]
		? META_HEAD_BYTES + p[META_HEAD_BYTES - 1]
		: 0;
}

static bool meta_parse(const char *text, struct objmeta *m)
{
	size_t len = 0;
	size_t chars = strlen(text);
	uint8_t *buf = chars <= META_VALUE_MAX_BYTES ? base64_decode(text, chars, &len) : NULL;
	size_t head = buf != NULL ? meta_head(buf, len, m) : 0;
	uint8_t flags;
	bool good = false;

	if (head == 0) {
		free(buf);
		return false;
	}
	flags = buf[1];
	memcpy(m->oid.bytes, buf + 2, 16);
	m->data_gen = get_le64(buf + 18);
	m->meta_gen = get_le64(buf + 26);
	memcpy(m->node.bytes, buf + 34, 16);
	memcpy(m->wid.bytes, buf + 50, 16);
	memcpy(m->parent.bytes, buf + 66, 16);
	if ((flags & ~META_TOMBSTONE) == 0 && !ofs_oid_is_none(&m->oid)) {
		m->tombstone = (flags & META_TOMBSTONE) != 0;
		if (m->tombstone) {
			good = len == head;
		} else {
			good = snapshot_unpack(buf + head, len - head, &m->snapshot) == 0;
		}
	}
	free(buf);
	return good;
}

/* Digits as nanoseconds ("5" is half a second); *end behind them. */
static int64_t parse_fraction(const char *s, const char **end)
{
	int64_t ns = 0, unit = NS_PER_SECOND / 10;

	for (; *s >= '0' && *s <= '9'; s++) {
		ns += (*s - '0') * unit;
		unit /= 10;
	}
	*end = s;
	return ns;
}

/* [-]seconds[.fraction] */
static bool parse_seconds(const char *s, int64_t *ns)
{
	bool negative = *s == '-';
	int64_t seconds = 0, fraction = 0;
	const char *first;

	s += negative ? 1 : 0;
	for (first = s; *s >= '0' && *s <= '9'; s++) {
		seconds = seconds * 10 + (*s - '0');
		if (seconds > SECONDS_MAX) {
			return false;
		}
	}
	if (s == first) {
		return false;
	}
	if (*s == '.') {
		if (s[1] < '0' || s[1] > '9') {
			return false;
		}
		fraction = parse_fraction(s + 1, &s);
	}
	if (*s != '\0') {
		return false;
	}
	*ns = seconds * NS_PER_SECOND + fraction;
	if (negative) {
		*ns = -*ns;
	}
	return true;
}

/* As AWS File Gateway, DataSync and FSx write it: nanoseconds and "ns", or milliseconds. */
static bool parse_file_time(const char *s, int64_t *ns)
{
	bool negative = *s == '-';
	uint64_t value = 0, unit;
	const char *first = s += negative ? 1 : 0;

	for (; *s >= '0' && *s <= '9'; s++) {
		if (value > (uint64_t)INT64_MAX / 10 - 1) {
			return false;
		}
		value = value * 10 + (uint64_t)(*s - '0');
	}
	unit = *s == '\0' ? 1000000 : 1;
	if (s == first || (unit == 1 && strcmp(s, "ns") != 0) || value > (uint64_t)INT64_MAX / unit) {
		return false;
	}
	*ns = negative ? -(int64_t)(value * unit) : (int64_t)(value * unit);
	return true;
}

/* A file's mode in this base, with its type or, where that may be left out, without. */
static bool parse_mode_in(const char *s, int base, bool type_needed, uint32_t *mode)
{
	uint32_t value = 0, type;

	for (; *s != '\0'; s++) {
		if (*s < '0' || *s >= '0' + base || value > (S_IFMT | 07777)) {
			return false;
		}
		value = value * (uint32_t)base + (uint32_t)(*s - '0');
	}
	type = value & S_IFMT;
	*mode = value;
	return value <= (S_IFMT | 07777) && ((type == 0 && !type_needed) || S_ISREG(type) || S_ISDIR(type) ||
			S_ISLNK(type) || S_ISCHR(type) || S_ISBLK(type) || S_ISFIFO(type) || S_ISSOCK(type));
}

/* `mode` is decimal as s3fs writes it, octal as rclone does: no mode with its type is both, but for devices. */
static bool parse_mode(const struct obj_result *r, uint32_t *mode)
{
	const char *other = objstore_meta_get(r, "mode"), *file = objstore_meta_get(r, "file-permissions");

	if (other != NULL && other[0] != '\0') {
		return (other[0] != '0' && parse_mode_in(other, 10, true, mode)) ||
				parse_mode_in(other, 8, false, mode);
	}
	return file != NULL && file[0] != '\0' && parse_mode_in(file, 8, false, mode);
}

static bool parse_digits(const char **s, int digits, int min, int max, int *value)
{
	*value = 0;
	for (int i = 0; i < digits; i++, (*s)++) {
		if (**s < '0' || **s > '9') {
			return false;
		}
		*value = *value * 10 + (**s - '0');
	}
	return *value >= min && *value <= max;
}

static bool parse_char(const char **s, const char *allowed)
{
	if (**s == '\0' || strchr(allowed, **s) == NULL) {
		return false;
	}
	(*s)++;
	return true;
}

/* Days since 1970 (proleptic Gregorian; H. Hinnant, "chrono-Compatible Low-Level Date Algorithms"). */
static int64_t days_from_civil(int year, int month, int day)
{
	int64_t y = year - (month <= 2);
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t yoe = y - era * 400;
	int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

bool objmeta_rfc3339(const char *s, int64_t *ns)
{
	int year, month, day, hour, minute, second, off_hour = 0, off_minute = 0;
	int64_t fraction = 0, seconds;
	bool west;

	if (!parse_digits(&s, 4, 0, 9999, &year) || !parse_char(&s, "-") ||
			!parse_digits(&s, 2, 1, 12, &month) || !parse_char(&s, "-") ||
			!parse_digits(&s, 2, 1, 31, &day) || !parse_char(&s, "Tt ") ||
			!parse_digits(&s, 2, 0, 23, &hour) || !parse_char(&s, ":") ||
			!parse_digits(&s, 2, 0, 59, &minute) || !parse_char(&s, ":") ||
			!parse_digits(&s, 2, 0, 60, &second)) {
		return false;
	}
	if (*s == '.') {
		if (s[1] < '0' || s[1] > '9') {
			return false;
		}
		fraction = parse_fraction(s + 1, &s);
	}
	west = *s == '-';
	if (*s == 'Z' || *s == 'z') {
		s++;
	} else if (!parse_char(&s, "+-") || !parse_digits(&s, 2, 0, 23, &off_hour) ||
			!parse_char(&s, ":") || !parse_digits(&s, 2, 0, 59, &off_minute)) {
		return false;
	}
	seconds = days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
	seconds -= (west ? -1 : 1) * (off_hour * 3600 + off_minute * 60);
	if (*s != '\0' || seconds > SECONDS_MAX || seconds < -SECONDS_MAX) {
		return false;
	}
	*ns = seconds * NS_PER_SECOND + fraction;
	return true;
}

void objmeta_read(const struct obj_result *r, struct objmeta *m, bool *damaged)
{
	const char *value = objstore_meta_get(r, OBJMETA_NAME);
	const char *mtime = objstore_meta_get(r, "mtime"), *file_mtime = objstore_meta_get(r, "file-mtime");
	int64_t mtime_ns = 0;
	bool has_mtime = mtime != NULL &&
			(parse_seconds(mtime, &mtime_ns) || objmeta_rfc3339(mtime, &mtime_ns));

	memset(m, 0, sizeof(*m));
	*damaged = false;
	if (value != NULL) {
		if (!meta_parse(value, m)) {
			objmeta_clear(m);
			*damaged = true;
		} else if (m->tombstone && r->size > 0) {
			objmeta_clear(m); /* something was written over it, by a tool that keeps metadata */
		} else {
			m->ours = true;
			if (has_mtime && m->snapshot != NULL) {
				m->snapshot->mtime_ns = mtime_ns; /* as we wrote it, or a tool that kept ours */
			}
			return;
		}
	}
	has_mtime = has_mtime || (file_mtime != NULL && parse_file_time(file_mtime, &mtime_ns));
	m->has_mtime = has_mtime;
	m->mtime_ns = has_mtime ? mtime_ns : 0;
	m->has_mode = parse_mode(r, &m->mode);
	m->mode = m->has_mode ? m->mode : 0;
}

void objmeta_clear(struct objmeta *m)
{
	snapshot_free(&m->snapshot);
	memset(m, 0, sizeof(*m));
}

char *objmeta_blob_key(const char *prefix, const uint8_t sha256[32])
{
	static const char place[] = OFS_OWN_PLACE "blob/";
	size_t len = strlen(prefix) + sizeof(place) + 64;
	char *key = malloc(len);
	int at;

	if (key == NULL) {
		return NULL;
	}
	at = snprintf(key, len, "%s%s", prefix, place);
	for (int i = 0; i < 32; i++) {
		at += snprintf(key + at, len - (size_t)at, "%02x", sha256[i]);
	}
	return key;
}

/* The first bytes of SHA-256. */
static void hash_id(const void *head, size_t head_len, const char *text, struct ofs_oid *id)
{
	uint8_t sum[SHA256_DIGEST_LENGTH];
	unsigned len = 0;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	/* These fail for want of memory only. */
	if (ctx == NULL || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1 ||
			EVP_DigestUpdate(ctx, head, head_len) != 1 ||
			EVP_DigestUpdate(ctx, text, strlen(text)) != 1 ||
			EVP_DigestFinal_ex(ctx, sum, &len) != 1) {
		abort();
	}
	EVP_MD_CTX_free(ctx);
	memcpy(id->bytes, sum, sizeof(id->bytes));
}

void objmeta_id(const struct ofs_oid *wid, const char *etag, struct ofs_oid *id)
{
	if (!ofs_oid_is_none(wid) || etag == NULL) {
		*id = *wid;
	} else {
		hash_id("", 0, etag, id);
	}
}

bool objmeta_fences(const char *etag)
{
	return strcmp(etag, "d41d8cd98f00b204e9800998ecf8427e") != 0; /* MD5 */
}

void objmeta_clean(const struct ofs_oid *wid, const char *etag, struct ofs_clean *clean)
{
	struct ofs_oid fence;

	memset(clean, 0, sizeof(*clean));
	if (etag != NULL) {
		objmeta_id(wid, etag, &clean->id);
		hash_id("", 0, etag, &fence);
		clean->fence = get_le64(fence.bytes);
	}
}

void objmeta_foreign_oid(const struct ofs_oid *uuid, const char *key, struct ofs_oid *oid)
{
	hash_id(uuid->bytes, sizeof(uuid->bytes), key, oid);
}
