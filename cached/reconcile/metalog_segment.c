/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the text of a log segment: make it, check it, take it apart (form: metalog.h).
 * Way: metalog.c writes with it, metalog_load.c reads with it.
 * Thread: any; pure functions.
 * Owns: nothing.
 * Holds: nothing of a segment is used before its CRC, its identity and its count were right.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* asprintf */
#endif
#include "metalog_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../mirror/base64.h"
#include "../objstore/objstore.h"

#define SEGMENT_HEAD "objectfs-log "

char *metalog_line(const struct metalog_entry *e)
{
	char hex[OFS_OID_HEX_BYTES];
	char *text = base64_encode(e->packed, e->packed_len);
	char *line = NULL;

	if (text == NULL) {
		return NULL;
	}
	ofs_oid_hex(&e->oid, hex);
	if (asprintf(&line, "M %s %" PRIu64 " %" PRIu64 " %s\n", hex, e->meta_gen, e->data_gen,
			    text) < 0) {
		line = NULL;
	}
	free(text);
	return line;
}

/* The first line, without its end if `bare`. */
static int head_format(char *buf, size_t size, const struct metalog_id *id, int version, bool bare)
{
	char hex[OFS_OID_HEX_BYTES], base[24] = "";

	ofs_oid_hex(id->uuid, hex);
	if (version == 2 && !bare) {
		snprintf(base, sizeof(base), " %" PRIu64, id->base);
	}
	return snprintf(buf, size, SEGMENT_HEAD "%d %s %s %" PRIu64 "%s%s", version, hex, id->node,
			id->seq, base, bare ? "" : "\n");
}

char *metalog_segment_build(
		const struct metalog_id *id, const char *const *lines, unsigned count, size_t *len)
{
	char head[256], tail[64];
	size_t bytes = (size_t)head_format(head, sizeof(head), id, id->base != 0 ? 2 : 1, false);
	size_t at = bytes;
	char *text;

	for (unsigned i = 0; i < count; i++) {
		bytes += strlen(lines[i]);
	}
	text = malloc(bytes + sizeof(tail));
	if (text == NULL) {
		return NULL;
	}
	memcpy(text, head, at);
	for (unsigned i = 0; i < count; i++) {
		size_t n = strlen(lines[i]);

		memcpy(text + at, lines[i], n);
		at += n;
	}
	*len = at + (size_t)sprintf(text + at, "end %u %08" PRIx32 "\n", count,
				    ofs_crc32c(0, text, at));
	return text;
}

/* A decimal number followed by `stop`; the cursor moves behind it. */
static bool parse_number(const char **p, const char *end, char stop, uint64_t *value)
{
	const char *s = *p;

	*value = 0;
	while (s < end && *s >= '0' && *s <= '9' && s - *p < 20) {
		uint64_t digit = (uint64_t)(*s++ - '0');

		if (*value > (UINT64_MAX - digit) / 10) {
			return false;
		}
		*value = *value * 10 + digit;
	}
	if (s == *p || s >= end || *s != stop) {
		return false;
	}
	*p = s + 1;
	return true;
}

static bool parse_hex(const char *s, unsigned digits, uint64_t *value)
{
	*value = 0;
	for (unsigned i = 0; i < digits; i++) {
		if (s[i] >= '0' && s[i] <= '9') {
			*value = *value << 4 | (uint64_t)(s[i] - '0');
		} else if (s[i] >= 'a' && s[i] <= 'f') {
			*value = *value << 4 | (uint64_t)(s[i] - 'a' + 10);
		} else {
			return false;
		}
	}
	return true;
}

/* `line` up to its newline at `end`. 0, -EBADMSG, -ENOMEM. */
static int parse_entry(const char *line, const char *end, struct metalog_entry *e)
{
	const char *p = line + 2 + OFS_OID_HEX_BYTES;
	char hex[OFS_OID_HEX_BYTES];

	if (end - line < 2 + (ptrdiff_t)OFS_OID_HEX_BYTES || line[0] != 'M' || line[1] != ' ' ||
			p[-1] != ' ') {
		return -EBADMSG;
	}
	memcpy(hex, line + 2, sizeof(hex) - 1);
	hex[sizeof(hex) - 1] = '\0';
	if (!ofs_oid_parse(hex, &e->oid) || !parse_number(&p, end, ' ', &e->meta_gen) ||
			!parse_number(&p, end, ' ', &e->data_gen)) {
		return -EBADMSG;
	}
	e->packed = base64_decode(p, (size_t)(end - p), &e->packed_len);
	return e->packed != NULL ? 0 : -EBADMSG;
}

/* The last line agrees with all before it; *body_len: its offset. */
static bool check_tail(const char *text, size_t len, size_t *body_len, uint64_t *count)
{
	size_t at = len;
	const char *p;
	uint64_t crc;

	if (len < 2 || text[len - 1] != '\n') {
		return false;
	}
	for (at = len - 1; at > 0 && text[at - 1] != '\n'; at--) {
	}
	p = text + at;
	if (len - at < 4 || memcmp(p, "end ", 4) != 0) {
		return false;
	}
	p += 4;
	if (!parse_number(&p, text + len, ' ', count) || text + len - p != 9 ||
			!parse_hex(p, 8, &crc)) {
		return false;
	}
	*body_len = at;
	return ofs_crc32c(0, text, at) == (uint32_t)crc;
}

/* The first line is that of `id`; *len: its length. Fills id->base. */
static bool check_head(const char *text, size_t body_len, struct metalog_id *id, size_t *len)
{
	char head[256];
	const char *p;

	id->base = 0;
	*len = (size_t)head_format(head, sizeof(head), id, 1, false);
	if (body_len >= *len && memcmp(text, head, *len) == 0) {
		return true;
	}
	*len = (size_t)head_format(head, sizeof(head), id, 2, true);
	if (body_len <= *len || memcmp(text, head, *len) != 0 || text[*len] != ' ') {
		return false;
	}
	p = text + *len + 1;
	if (!parse_number(&p, text + body_len, '\n', &id->base)) {
		return false;
	}
	*len = (size_t)(p - text);
	return id->base >= 1 && id->base <= id->seq;
}

int metalog_segment_parse(const char *text, size_t len, struct metalog_id *id,
		void (*fn)(struct metalog_entry *e, void *arg), void *arg, const char **why)
{
	size_t head_len = 0;
	size_t body_len = 0;
	uint64_t count = 0, seen = 0;
	const char *p, *end;

	*why = "its checksum is wrong";
	if (!check_tail(text, len, &body_len, &count)) {
		return -EBADMSG;
	}
	*why = "it belongs to another volume, node or place";
	if (!check_head(text, body_len, id, &head_len)) {
		return -EBADMSG;
	}
	*why = "it has more or fewer entries than it says";
	for (p = text + head_len; p < text + body_len; p++) {
		seen += *p == '\n';
	}
	if (seen != count) {
		return -EBADMSG;
	}
	*why = "an entry cannot be read";
	for (p = text + head_len; p < text + body_len; p = end + 1) {
		struct metalog_entry e = { 0 };
		int ret;

		end = memchr(p, '\n', (size_t)(text + body_len - p));
		ret = end != NULL ? parse_entry(p, end, &e) : -EBADMSG;
		if (ret != 0) {
			return ret;
		}
		fn(&e, arg);
	}
	return 0;
}

bool metalog_key_parse(const char *key, char *node, uint64_t *seq)
{
	const char *slash = strchr(key, '/');
	size_t node_len = slash != NULL ? (size_t)(slash - key) : 0;

	if (node_len == 0 || node_len > METALOG_NODE_MAX_BYTES || strlen(slash + 1) != 16 ||
			!parse_hex(slash + 1, 16, seq)) {
		return false;
	}
	memcpy(node, key, node_len);
	node[node_len] = '\0';
	return true;
}

char *metalog_key(TALLOC_CTX *ctx, const char *prefix, const char *node, uint64_t seq)
{
	return talloc_asprintf(ctx, "%s" METALOG_PLACE "%s/%016" PRIx64, prefix, node, seq);
}

int metalog_store_errno(const struct obj_result *r)
{
	switch (r->status) {
	case OBJ_OK:
		return 0;
	case OBJ_DENIED:
		return -EACCES;
	case OBJ_NO_BUCKET:
		return -ENOENT;
	case OBJ_LOCAL:
		return r->local_errno > 0 ? -r->local_errno : -EIO;
	default:
		return objstore_status_transient(r->status) ? -EAGAIN : -EIO;
	}
}
