/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reads S3's answers with expat: one pass, a path of element names, the text of leaves.
 *
 * Way:    response.c hands over a whole body.
 * Thread: any; pure.
 * Owns:   the text collected between two tags.
 * Holds:  1. Document types, and so entities and their expansion, are refused.
 *         2. A listing is taken only if it is whole: the root closed, IsTruncated said, a token
 *            where it says true, every row with a key. Half a listing would read as absence.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "xml.h"
#include <errno.h>
#include <expat.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "sigv4.h"

#define DEPTH_MAX 8u
#define TEXT_MAX_BYTES 65536u

struct reader {
	XML_Parser parser;
	unsigned depth;
	char names[DEPTH_MAX][32];
	char *text;
	size_t text_len;
	int error;
	bool closed;
	void (*open)(struct reader *);
	void (*leaf)(struct reader *); /* an element at names[depth - 1] ends; text is NUL-ended */
	/* for the documents */
	struct s3_answer *answer;
	struct s3_sts_answer *sts;
	struct obj_result *result;
	unsigned capacity;
	struct obj_entry *row;
	char *tag_key, *tag_value;
	bool url_encoded, truncated, truncated_said;
	bool versions, uploads;
	char *next_key; /* of a list of versions or uploads */
};

static void fail(struct reader *r, int error)
{
	if (r->error == 0) {
		r->error = error;
	}
	XML_StopParser(r->parser, XML_FALSE);
}

static void XMLCALL on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
	struct reader *r = arg;
	const char *colon = strrchr(name, ':'); /* a namespace prefix says nothing here */

	(void)attributes;
	if (r->depth == DEPTH_MAX) {
		fail(r, -EBADMSG);
		return;
	}
	snprintf(r->names[r->depth], sizeof(r->names[0]), "%.31s", colon == NULL ? name : colon + 1);
	r->depth++;
	r->text_len = 0;
	if (r->open != NULL) {
		r->open(r);
	}
}

static void XMLCALL on_end(void *arg, const XML_Char *name)
{
	struct reader *r = arg;

	(void)name;
	if (r->error == 0 && r->text != NULL) {
		r->text[r->text_len] = '\0';
		r->leaf(r);
	}
	r->depth--;
	r->text_len = 0;
	r->closed = r->depth == 0;
}

static void XMLCALL on_text(void *arg, const XML_Char *s, int len)
{
	struct reader *r = arg;

	if (r->text_len + (size_t)len > TEXT_MAX_BYTES) {
		fail(r, -EBADMSG);
		return;
	}
	memcpy(r->text + r->text_len, s, (size_t)len);
	r->text_len += (size_t)len;
}

static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *sysid,
		const XML_Char *pubid, int internal)
{
	(void)name;
	(void)sysid;
	(void)pubid;
	(void)internal;
	fail(arg, -EBADMSG);
}

static int read_document(struct reader *r, const void *data, size_t len)
{
	r->parser = XML_ParserCreate(NULL);
	r->text = malloc(TEXT_MAX_BYTES + 1);
	if (r->parser == NULL || r->text == NULL || len > INT_MAX) {
		r->error = len > INT_MAX ? -EBADMSG : -ENOMEM;
	} else {
		XML_SetUserData(r->parser, r);
		XML_SetElementHandler(r->parser, on_start, on_end);
		XML_SetCharacterDataHandler(r->parser, on_text);
		XML_SetStartDoctypeDeclHandler(r->parser, on_doctype);
		if (XML_Parse(r->parser, data, (int)len, 1) != XML_STATUS_OK && r->error == 0) {
			r->error = XML_GetErrorCode(r->parser) == XML_ERROR_NO_MEMORY ? -ENOMEM
										      : -EBADMSG;
		}
	}
	if (r->parser != NULL) {
		XML_ParserFree(r->parser);
	}
	if (r->text != NULL && r->sts != NULL) {
		OPENSSL_cleanse(r->text, TEXT_MAX_BYTES);
	}
	free(r->text);
	return r->error;
}

/* --- small answers --- */

char *s3_etag_plain(const char *text)
{
	size_t len;

	if (strncmp(text, "W/", 2) == 0) {
		text += 2;
	}
	len = strlen(text);
	if (len >= 2 && text[0] == '"' && text[len - 1] == '"') {
		text++;
		len -= 2;
	}
	return len == 0 ? NULL : strndup(text, len);
}

static void keep(struct reader *r, char **to, char *value)
{
	if (value == NULL) {
		fail(r, -ENOMEM);
		return;
	}
	free(*to);
	*to = value;
}

static void answer_open(struct reader *r)
{
	if (r->depth == 1) {
		keep(r, &r->answer->root, strdup(r->names[0]));
	}
}

static void answer_leaf(struct reader *r)
{
	struct s3_answer *a = r->answer;
	const char *name = r->names[r->depth - 1];

	if (r->depth != 2) {
		return;
	}
	if (strcmp(name, "Code") == 0) {
		keep(r, &a->code, strdup(r->text));
	} else if (strcmp(name, "Message") == 0) {
		keep(r, &a->message, strdup(r->text));
	} else if (strcmp(name, "Region") == 0) {
		keep(r, &a->region, strdup(r->text));
	} else if (strcmp(name, "RequestId") == 0) {
		keep(r, &a->request_id, strdup(r->text));
	} else if (strcmp(name, "UploadId") == 0) {
		keep(r, &a->upload_id, strdup(r->text));
	} else if (strcmp(name, "Status") == 0) {
		keep(r, &a->status, strdup(r->text));
	} else if (strcmp(name, "LastModified") == 0) {
		keep(r, &a->last_modified, strdup(r->text));
	} else if (strcmp(name, "ETag") == 0) {
		free(a->etag);
		a->etag = s3_etag_plain(r->text); /* may be empty: RGW's Complete */
	} else if (strncmp(name, "Checksum", 8) == 0 && sum_of_name(name + 8) != OBJ_SUM_NONE) {
		keep(r, &a->sums[sum_of_name(name + 8)], strdup(r->text));
	}
}

int s3_answer_parse(const void *data, size_t len, struct s3_answer *out)
{
	struct reader r = { .answer = out, .open = answer_open, .leaf = answer_leaf };
	const char *p = data;

	memset(out, 0, sizeof(*out));
	/* a long copy is kept alive by blanks, before which XML has no place for its declaration */
	while (len > 0 && strchr(" \t\r\n", *p) != NULL && *p != '\0') {
		p++;
		len--;
	}
	return read_document(&r, p, len);
}

void s3_answer_fini(struct s3_answer *a)
{
	free(a->root);
	free(a->code);
	free(a->message);
	free(a->region);
	free(a->request_id);
	free(a->etag);
	free(a->last_modified);
	free(a->upload_id);
	free(a->status);
	for (unsigned i = 0; i <= OBJ_SUM_SHA256; i++) {
		free(a->sums[i]);
	}
	memset(a, 0, sizeof(*a));
}

/* --- STS --- */

static void sts_leaf(struct reader *r)
{
	struct s3_sts_answer *a = r->sts;
	const char *name = r->names[r->depth - 1], *above = r->depth < 2 ? "" : r->names[r->depth - 2];
	const struct {
		const char *above, *name;
		char *to;
		size_t cap;
	} fields[] = {
		{ "Credentials", "AccessKeyId", a->creds.access_key, sizeof(a->creds.access_key) },
		{ "Credentials", "SecretAccessKey", a->creds.secret_key, sizeof(a->creds.secret_key) },
		{ "Credentials", "SessionToken", a->creds.session_token, sizeof(a->creds.session_token) },
		{ "Credentials", "Expiration", a->expiration, sizeof(a->expiration) },
		{ "Error", "Code", a->code, sizeof(a->code) },
		{ "Error", "Message", a->message, sizeof(a->message) },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (strcmp(above, fields[i].above) != 0 || strcmp(name, fields[i].name) != 0) {
			continue;
		}
		if (r->text_len >= fields[i].cap && strcmp(name, "Message") != 0) {
			fail(r, -EBADMSG); /* half a key is none */
			return;
		}
		snprintf(fields[i].to, fields[i].cap, "%s", r->text);
	}
}

int s3_sts_parse(const void *data, size_t len, struct s3_sts_answer *out)
{
	struct reader r = { .sts = out, .leaf = sts_leaf };

	memset(out, 0, sizeof(*out));
	return read_document(&r, data, len);
}

/* --- listings --- */

int64_t s3_time_parse(const char *text)
{
	struct tm tm = { 0 };
	int64_t ns = 0, unit = 100000000;
	int hours = 0, minutes = 0;
	char sign[2];
	time_t seconds;
	const char *p;

	p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (p == NULL) {
		return -1;
	}
	if (*p == '.') {
		for (p++; *p >= '0' && *p <= '9'; p++) {
			ns += (*p - '0') * unit;
			unit /= 10;
		}
	}
	seconds = timegm(&tm);
	if (sscanf(p, "%1[+-]%2d:%2d", sign, &hours, &minutes) == 3) {
		seconds += (sign[0] == '+' ? -1 : 1) * (hours * 3600 + minutes * 60);
	}
	if (seconds < 0 || seconds > INT64_MAX / 1000000000 - 1) {
		return -1;
	}
	return (int64_t)seconds * 1000000000 + ns;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	if (c >= 'A' && c <= 'F') {
		return c - 'A' + 10;
	}
	return -1;
}

/* In place; false: a broken escape, or a NUL, which no key can hold. */
static bool url_decode(char *s)
{
	char *out = s;

	for (; *s != '\0'; s++) {
		int high, low;

		if (*s == '+') {
			*out++ = ' ';
			continue;
		}
		if (*s != '%') {
			*out++ = *s;
			continue;
		}
		high = hex_value(s[1]);
		low = high < 0 ? -1 : hex_value(s[2]);
		if (low < 0 || (high == 0 && low == 0)) {
			return false;
		}
		*out++ = (char)(high * 16 + low);
		s += 2;
	}
	*out = '\0';
	return true;
}

static bool is_row(const struct reader *r, const char *name)
{
	if (r->uploads) {
		return strcmp(name, "Upload") == 0;
	}
	if (r->versions) {
		return strcmp(name, "Version") == 0 || strcmp(name, "DeleteMarker") == 0;
	}
	return strcmp(name, "Contents") == 0 || strcmp(name, "CommonPrefixes") == 0;
}

static void listing_open(struct reader *r)
{
	const char *name = r->names[r->depth - 1];
	bool prefix = strcmp(name, "CommonPrefixes") == 0, marker = strcmp(name, "DeleteMarker") == 0;

	if (r->depth == 1 && strcmp(name, r->uploads ? "ListMultipartUploadsResult" :
			r->versions ? "ListVersionsResult" : "ListBucketResult") != 0) {
		fail(r, -EBADMSG);
	}
	if (r->depth == 2 && is_row(r, name)) {
		r->row = obj_result_entry_add(r->result, &r->capacity);
		if (r->row == NULL) {
			fail(r, -ENOMEM);
			return;
		}
		r->row->is_prefix = prefix;
		r->row->is_marker = marker;
		r->row->size = prefix || marker || r->uploads ? 0 : -1;
	}
}

static void row_leaf(struct reader *r, const char *name)
{
	struct obj_entry *row = r->row;

	if (strcmp(name, row->is_prefix ? "Prefix" : "Key") == 0) {
		keep(r, &row->key, strdup(r->text));
	} else if (row->is_prefix) {
		return;
	} else if (strcmp(name, "Size") == 0) {
		char *end;

		errno = 0;
		row->size = strtoll(r->text, &end, 10);
		if (errno != 0 || end == r->text || *end != '\0' || row->size < 0) {
			fail(r, -EBADMSG);
		}
	} else if (strcmp(name, r->uploads ? "Initiated" : "LastModified") == 0) {
		row->mtime_ns = s3_time_parse(r->text);
		if (row->mtime_ns < 0) {
			fail(r, -EBADMSG);
		}
	} else if (strcmp(name, "ETag") == 0) {
		free(row->etag);
		row->etag = s3_etag_plain(r->text);
	} else if (strcmp(name, "StorageClass") == 0) {
		keep(r, &row->storage_class, strdup(r->text));
	} else if ((strcmp(name, "VersionId") == 0 && r->versions) ||
			(strcmp(name, "UploadId") == 0 && r->uploads)) {
		keep(r, &row->version_id, strdup(r->text));
	}
}

static void listing_leaf(struct reader *r)
{
	const char *name = r->names[r->depth - 1];

	if (r->depth == 3 && r->row != NULL) {
		row_leaf(r, name);
		return;
	}
	if (r->depth != 2) {
		return;
	}
	if (r->row != NULL && is_row(r, name)) {
		const char *id = r->row->version_id;

		if (r->row->key == NULL || r->row->key[0] == '\0' || r->row->size < 0 ||
				((r->versions || r->uploads) && (id == NULL || id[0] == '\0'))) {
			fail(r, -EBADMSG);
		}
		r->row = NULL;
	} else if (strcmp(name, "IsTruncated") == 0) {
		r->truncated_said = true;
		r->truncated = strcmp(r->text, "true") == 0;
	} else if (strcmp(name, "NextKeyMarker") == 0 && (r->versions || r->uploads)) {
		keep(r, &r->next_key, strdup(r->text));
	} else if (strcmp(name, r->versions  ? "NextVersionIdMarker"
				: r->uploads ? "NextUploadIdMarker"
					     : "NextContinuationToken") == 0) {
		keep(r, &r->result->next_token, strdup(r->text));
	} else if (strcmp(name, "EncodingType") == 0) {
		r->url_encoded = strcmp(r->text, "url") == 0;
	}
}

/* Length of a control character at p, raw or as a reference; 0: something else is there. */
static size_t control_at(const char *p, const char *end)
{
	const char *q = p + 2;
	unsigned value = 0;
	unsigned base = 10;

	if ((uint8_t)*p < 0x20 && *p != '\t' && *p != '\n' && *p != '\r') {
		return 1;
	}
	if (end - p < 4 || p[0] != '&' || p[1] != '#') {
		return 0;
	}
	if (*q == 'x') {
		base = 16;
		q++;
	}
	for (; q < end && q - p < 8 && hex_value(*q) >= 0; q++) {
		value = value * base + (unsigned)hex_value(*q);
	}
	if (q == end || *q != ';' || value >= 0x20 || value == '\t' || value == '\n' || value == '\r') {
		return 0;
	}
	return (size_t)(q - p) + 1;
}

/*
 * XML has no control characters, not even as references, yet stores echo them in <Prefix> where one
 * was asked for that holds some. A copy with '?' in their place, or NULL: there are none. Keys are
 * url-encoded and not touched.
 */
static char *without_controls(const char *data, size_t len, size_t *new_len)
{
	const char *end = data + len;
	const char *p = data;
	char *copy, *out;

	while (p < end && control_at(p, end) == 0) {
		p++;
	}
	if (p == end) {
		return NULL;
	}
	copy = out = malloc(len);
	if (copy == NULL) {
		return NULL;
	}
	for (p = data; p < end;) {
		size_t n = control_at(p, end);

		*out++ = n == 0 ? *p : '?';
		p += n == 0 ? 1 : n;
	}
	*new_len = (size_t)(out - copy);
	return copy;
}

/* The whole document, its keys decoded. */
static int read_listing(struct reader *r, const void *data, size_t len)
{
	struct obj_result *result = r->result;
	char *clean = without_controls(data, len, &len);
	int ret;

	r->open = listing_open;
	r->leaf = listing_leaf;
	ret = read_document(r, clean == NULL ? data : clean, len);
	if (ret == 0 && clean != NULL && !r->url_encoded) {
		ret = -EBADMSG; /* a key may have been among them */
	}
	free(clean);

	for (unsigned i = 0; i < result->entry_count; i++) {
		char *key = result->entries[i].key;

		if (ret == 0 && r->url_encoded && !url_decode(key)) {
			ret = -EBADMSG;
		}
		if (ret == 0 && key[0] == '\0') {
			ret = -EBADMSG;
		}
	}
	if (ret == 0 && (!r->closed || !r->truncated_said)) {
		ret = -EBADMSG;
	}
	return ret;
}

int s3_listing_parse(const void *data, size_t len, struct obj_result *result)
{
	struct reader r = { .result = result };
	int ret = read_listing(&r, data, len);

	if (ret != 0) {
		return ret;
	}
	if (r.truncated && result->next_token == NULL) {
		return -EBADMSG;
	}
	if (!r.truncated) {
		free(result->next_token);
		result->next_token = NULL;
	}
	obj_result_entries_sort(result);
	return 0;
}

/* --- tags --- */

static void tags_open(struct reader *r)
{
	if (r->depth == 1 && strcmp(r->names[0], "Tagging") != 0) {
		fail(r, -EBADMSG);
	}
}

static void tag_end(struct reader *r)
{
	char *name = r->tag_key != NULL ? sigv4_encode(r->tag_key, false) : NULL;
	char *value = sigv4_encode(r->tag_value != NULL ? r->tag_value : "", false);
	char *all = NULL;

	if (r->tag_key == NULL) {
		fail(r, -EBADMSG);
	} else if (name == NULL || value == NULL ||
			asprintf(&all, "%s%s%s=%s", r->result->tags, r->result->tags[0] == '\0' ? "" : "&",
					name, value) < 0) {
		fail(r, -ENOMEM);
	} else {
		free(r->result->tags);
		r->result->tags = all;
		r->result->tag_count++;
	}
	free(name);
	free(value);
	free(r->tag_key);
	free(r->tag_value);
	r->tag_key = r->tag_value = NULL;
}

static void tags_leaf(struct reader *r)
{
	const char *name = r->names[r->depth - 1];

	if (r->depth == 4 && strcmp(name, "Key") == 0) {
		keep(r, &r->tag_key, strdup(r->text));
	} else if (r->depth == 4 && strcmp(name, "Value") == 0) {
		keep(r, &r->tag_value, strdup(r->text));
	} else if (r->depth == 3 && strcmp(name, "Tag") == 0) {
		tag_end(r);
	}
}

int s3_tags_parse(const void *data, size_t len, struct obj_result *result)
{
	struct reader r = { .result = result, .open = tags_open, .leaf = tags_leaf };
	int ret;

	result->tags = strdup("");
	ret = result->tags == NULL ? -ENOMEM : read_document(&r, data, len);
	free(r.tag_key);
	free(r.tag_value);
	return ret == 0 && !r.closed ? -EBADMSG : ret;
}

/* Rows of other keys go: of those that are longer, or, with `longer`, do not begin so. */
static void keep_rows_of(struct obj_result *result, const char *key, bool longer)
{
	size_t len = strlen(key);
	unsigned kept = 0;

	for (unsigned i = 0; i < result->entry_count; i++) {
		struct obj_entry *e = &result->entries[i];

		if (strncmp(e->key, key, len) == 0 && (longer || e->key[len] == '\0')) {
			result->entries[kept++] = *e;
		} else {
			obj_entry_clear(e);
		}
	}
	result->entry_count = kept;
}

/* AWS encodes it, Ceph RGW 16 does not. */
static bool next_is(const struct reader *r, const char *key)
{
	return r->truncated && r->next_key != NULL &&
	       (strcmp(r->next_key, key) == 0 || (r->url_encoded && url_decode(r->next_key) &&
						      strcmp(r->next_key, key) == 0));
}

int s3_versions_parse(const void *data, size_t len, const char *key, struct obj_result *result)
{
	struct reader r = { .result = result, .versions = true };
	int ret = read_listing(&r, data, len);
	bool more;

	if (ret == 0 && r.truncated && r.next_key == NULL) {
		ret = -EBADMSG;
	}
	more = ret == 0 && next_is(&r, key);
	free(r.next_key);
	if (ret != 0) {
		return ret;
	}
	if (more && (result->next_token == NULL || result->next_token[0] == '\0')) {
		return -EBADMSG;
	}
	if (!more) {
		free(result->next_token);
		result->next_token = NULL;
	}
	keep_rows_of(result, key, false);
	return 0;
}

/* Ceph RGW 16 looks at keys with a dot and the upload's id behind them. */
int s3_uploads_parse(const void *data, size_t len, const char *key, struct obj_result *result)
{
	struct reader r = { .result = result, .uploads = true };
	int ret = read_listing(&r, data, len);
	char *id = result->next_token;

	result->next_token = NULL;
	if (ret == 0 && r.truncated) {
		if (id == NULL || id[0] == '\0' || r.next_key == NULL) {
			ret = -EBADMSG;
		} else if (asprintf(&result->next_token, "%s\n%s", id, r.next_key) < 0) {
			result->next_token = NULL;
			ret = -ENOMEM;
		}
	}
	free(id);
	free(r.next_key);
	if (ret == 0) {
		keep_rows_of(result, key, true);
	}
	return ret;
}

static void write_text(FILE *f, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '<' || *text == '>' || *text == '&' || *text == '\r') {
			fprintf(f, "&#%d;", *text);
		} else {
			fputc(*text, f);
		}
	}
}

char *s3_tags_write(const char *tags)
{
	char *copy = strdup(tags), *text = NULL, *save = NULL;
	size_t len = 0;
	FILE *f = copy != NULL ? open_memstream(&text, &len) : NULL;
	bool good = f != NULL;

	if (f != NULL) {
		fputs("<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet>", f);
	}
	for (char *tag = good ? strtok_r(copy, "&", &save) : NULL; tag != NULL && good;
			tag = strtok_r(NULL, "&", &save)) {
		char *value = strchr(tag, '=');

		if (value != NULL) {
			*value++ = '\0';
		}
		good = url_decode(tag) && (value == NULL || url_decode(value));
		fputs("<Tag><Key>", f);
		write_text(f, tag);
		fputs("</Key><Value>", f);
		write_text(f, value != NULL ? value : "");
		fputs("</Value></Tag>", f);
	}
	if (f != NULL) {
		fputs("</TagSet></Tagging>", f);
		good = fclose(f) == 0 && good;
	}
	free(copy);
	if (!good) {
		free(text);
		text = NULL;
	}
	return text;
}
