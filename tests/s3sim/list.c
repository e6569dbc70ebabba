/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: listings: of objects, of versions, of uploads; page by page, with delimiters.
 *
 *   [walk]  key by key from where the page begins; what has the delimiter behind the prefix becomes one row, and the
 *           walk goes on behind all that begins so
 *
 * Way:    server.c -> op_list..., from the store's keys to a document.
 * Thread: one.
 * Holds:  1. A page ends at a row, and the next one begins behind it, whatever was put or deleted between.
 *         2. Tokens are opaque: hexadecimal of the last row, with a letter for what it is.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "req.h"
#include <inttypes.h>
#include <string.h>

#define PAGE_MAX 1000
#define XMLNS "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

struct page {
	struct req *req;
	FILE *f;
	const char *prefix, *delimiter;
	bool encode, markers; /* markers are rows too */
	long max, rows;
	bool truncated;
	char *last;        /* key or prefix of the last row */
	bool last_prefix;
};

/* A key, as the caller wants it. */
static void key_text(struct page *p, const char *key)
{
	char *text;

	if (!p->encode) {
		xml_text(p->f, key);
		return;
	}
	text = url_encode(p->req, key, "/");
	for (const char *at = text; at != NULL && *at != '\0'; at++) {
		if (strncmp(at, "%20", 3) == 0) {
			putc_unlocked('+', p->f);
			at += 2;
		} else {
			putc_unlocked(*at, p->f);
		}
	}
	talloc_free(text);
}

static void key_element(struct page *p, const char *name, const char *key)
{
	fprintf(p->f, "<%s>", name);
	key_text(p, key);
	fprintf(p->f, "</%s>", name);
}

static bool page_open(struct page *p, struct req *r, const char *root, const char *max)
{
	const char *encoding = req_param(r, "encoding-type");

	p->req = r;
	p->prefix = req_param(r, "prefix") == NULL ? "" : req_param(r, "prefix");
	p->delimiter = req_param(r, "delimiter") == NULL ? "" : req_param(r, "delimiter");
	p->encode = encoding != NULL && strcmp(encoding, "url") == 0;
	if (!req_number(r, max, 0, PAGE_MAX, PAGE_MAX, &p->max)) {
		return false;
	}
	p->f = answer_open(r);
	if (p->f == NULL) {
		return false;
	}
	fprintf(p->f, "<%s " XMLNS ">", root);
	xml_element(p->f, "Name", r->bucket->name);
	key_element(p, "Prefix", p->prefix);
	if (p->delimiter[0] != '\0') {
		key_element(p, "Delimiter", p->delimiter);
	}
	if (p->encode) {
		xml_element(p->f, "EncodingType", "url");
	}
	return true;
}

static void page_close(struct page *p, const char *root)
{
	fprintf(p->f, "<IsTruncated>%s</IsTruncated></%s>", p->truncated ? "true" : "false", root);
	answer_close(p->req, p->f, 200);
}

/* The first bytes behind everything that begins with text; NULL: there are none. */
static char *behind(TALLOC_CTX *ctx, const char *text)
{
	char *next = talloc_strdup(ctx, text);
	size_t len = next == NULL ? 0 : strlen(next);

	while (len > 0 && (unsigned char)next[len - 1] == 0xff) {
		next[--len] = '\0';
	}
	if (len == 0) {
		return NULL;
	}
	next[len - 1]++;
	return next;
}

/* The part of the key up to the delimiter, if there is one behind the prefix. */
static char *common(const struct page *p, const char *key)
{
	const char *at = p->delimiter[0] == '\0' ? NULL : strstr(key + strlen(p->prefix), p->delimiter);

	return at == NULL ? NULL : talloc_strndup(p->req, key, (size_t)(at - key) + strlen(p->delimiter));
}

/* Is there room for one more row? It is remembered as the last one. */
static bool page_row(struct page *p, const char *key, bool prefix)
{
	if (p->rows == p->max) {
		p->truncated = p->max > 0;
		return false;
	}
	p->rows++;
	talloc_free(p->last);
	p->last = talloc_strdup(p->req, key);
	p->last_prefix = prefix;
	return true;
}

/* Is anything to be seen among the keys from k on that begin so? */
static bool counts(const struct page *p, const struct key *k, const char *group)
{
	size_t len = strlen(group);

	while (k != NULL && !p->markers && k->newest->marker && strncmp(k->name, group, len) == 0) {
		k = k->next[0];
	}
	return k != NULL && strncmp(k->name, group, len) == 0;
}

/* From the first key on that is not before start, those with the prefix. each: the rows of one key; false: the page is
 * full. */
static void walk(struct page *p, const char *start, bool (*each)(struct page *p, struct key *k))
{
	struct bucket *b = p->req->bucket;
	size_t len = strlen(p->prefix);
	struct key *k = bucket_from(b, strcmp(start, p->prefix) > 0 ? start : p->prefix);

	while (k != NULL && strncmp(k->name, p->prefix, len) == 0) {
		char *group = common(p, k->name), *next;

		if (group == NULL) {
			if (!each(p, k)) {
				return;
			}
			k = k->next[0];
			continue;
		}
		next = behind(p->req, group);
		if (counts(p, k, group)) {
			if (!page_row(p, group, true)) {
				return;
			}
			fputs("<CommonPrefixes>", p->f);
			key_element(p, "Prefix", group);
			fputs("</CommonPrefixes>", p->f);
		}
		k = next == NULL ? NULL : bucket_from(b, next);
		talloc_free(next);
		talloc_free(group);
	}
}

static void object_row(struct page *p, const struct version *v)
{
	char when[40];

	time_iso(v->mtime_ns, when);
	fputs("<Contents>", p->f);
	key_element(p, "Key", v->key->name);
	fprintf(p->f, "<LastModified>%s</LastModified><ETag>&quot;%s&quot;</ETag><Size>%" PRId64 "</Size>"
			"<StorageClass>%s</StorageClass></Contents>",
			when, v->etag, v->body->size,
			v->about.storage_class == NULL ? "STANDARD" : v->about.storage_class);
}

static bool list_key(struct page *p, struct key *k)
{
	if (k->newest->marker) {
		return true;
	}
	if (!page_row(p, k->name, false)) {
		return false;
	}
	object_row(p, k->newest);
	return true;
}

/* Behind the row that a token tells of. NULL: none, or it is no token (answered). */
static char *token_start(struct req *r, const char *token)
{
	size_t len = strlen(token);
	char *text = talloc_array(r, char, len + 2);

	if (text == NULL || len < 3 || len % 2 == 0 || strchr("kp", token[0]) == NULL) {
		answer_error(r, "InvalidArgument", NULL);
		return NULL;
	}
	for (size_t i = 0; i < len / 2; i++) {
		unsigned byte;

		if (sscanf(token + 1 + 2 * i, "%2x", &byte) != 1 || byte == 0) {
			answer_error(r, "InvalidArgument", NULL);
			return NULL;
		}
		text[i] = (char)byte;
	}
	text[len / 2] = '\0';
	if (token[0] == 'p') {
		return behind(r, text);
	}
	return talloc_asprintf(r, "%s\001", text); /* no key is between: bytes begin with 1 */
}

static char *token_of(struct page *p)
{
	size_t len = strlen(p->last);
	char *token = talloc_array(p->req, char, 2 * len + 2);

	if (token != NULL) {
		token[0] = p->last_prefix ? 'p' : 'k';
		digest_hex((const uint8_t *)p->last, len, token + 1);
	}
	return token;
}

void op_list(struct req *r)
{
	const char *token = req_param(r, "continuation-token"), *after = req_param(r, "start-after");
	char *start = token != NULL ? token_start(r, token) : after != NULL ? talloc_asprintf(r, "%s\001", after)
									     : talloc_strdup(r, "");
	struct page p = { 0 };

	if (r->status != 0 || !page_open(&p, r, "ListBucketResult", "max-keys")) {
		return;
	}
	if (start != NULL) {
		walk(&p, start, list_key);
	}
	fprintf(p.f, "<MaxKeys>%ld</MaxKeys><KeyCount>%ld</KeyCount>", p.max, p.rows);
	if (token != NULL) {
		xml_element(p.f, "ContinuationToken", token);
	}
	if (p.truncated) {
		xml_element(p.f, "NextContinuationToken", token_of(&p));
	}
	page_close(&p, "ListBucketResult");
}

/* Version 1: the marker is the last row's name itself. */
void op_list_old(struct req *r)
{
	const char *marker = req_param(r, "marker"), *delimiter = req_param(r, "delimiter");
	size_t len = marker == NULL ? 0 : strlen(marker), end = delimiter == NULL ? 0 : strlen(delimiter);
	bool group = end > 0 && len >= end && strcmp(marker + len - end, delimiter) == 0;
	char *start = marker == NULL ? talloc_strdup(r, "") : group ? behind(r, marker) : talloc_asprintf(r, "%s\001", marker);
	struct page p = { 0 };

	if (!page_open(&p, r, "ListBucketResult", "max-keys")) {
		return;
	}
	if (start != NULL) {
		walk(&p, start, list_key);
	}
	fprintf(p.f, "<MaxKeys>%ld</MaxKeys>", p.max);
	if (p.truncated) {
		key_element(&p, "NextMarker", p.last);
	}
	page_close(&p, "ListBucketResult");
}

/* --- versions --- */

struct versions {
	struct page page; /* first */
	const char *key, *id; /* behind which version the page begins */
	char last_id[40];
};

static void version_row(struct page *p, const struct version *v)
{
	const char *name = v->marker ? "DeleteMarker" : "Version";
	char when[40];

	time_iso(v->mtime_ns, when);
	fprintf(p->f, "<%s>", name);
	key_element(p, "Key", v->key->name);
	fprintf(p->f, "<VersionId>%s</VersionId><IsLatest>%s</IsLatest><LastModified>%s</LastModified>", v->id,
			v == v->key->newest ? "true" : "false", when);
	if (!v->marker) {
		fprintf(p->f, "<ETag>&quot;%s&quot;</ETag><Size>%" PRId64 "</Size><StorageClass>%s</StorageClass>", v->etag,
				v->body->size, v->about.storage_class == NULL ? "STANDARD" : v->about.storage_class);
	}
	fprintf(p->f, "</%s>", name);
}

static bool list_versions(struct page *p, struct key *k)
{
	struct versions *all = (struct versions *)p;
	struct version *v = k->newest;

	if (all->id != NULL && strcmp(k->name, all->key) == 0) {
		while (v != NULL && strcmp(v->id, all->id) != 0) {
			v = v->older;
		}
		v = v == NULL ? NULL : v->older;
	}
	for (; v != NULL; v = v->older) {
		if (!page_row(p, k->name, false)) {
			return false;
		}
		snprintf(all->last_id, sizeof(all->last_id), "%s", v->id);
		version_row(p, v);
	}
	return true;
}

void op_list_versions(struct req *r)
{
	struct versions all = { .key = req_param(r, "key-marker"), .id = req_param(r, "version-id-marker") };
	struct page *p = &all.page;
	char *start;

	if (all.id != NULL && all.key == NULL) {
		answer_error(r, "InvalidArgument", NULL);
		return;
	}
	start = all.key == NULL ? talloc_strdup(r, "") : all.id != NULL ? talloc_strdup(r, all.key)
									: talloc_asprintf(r, "%s\001", all.key);
	if (start == NULL || !page_open(p, r, "ListVersionsResult", "max-keys")) {
		return;
	}
	p->markers = true;
	walk(p, start, list_versions);
	fprintf(p->f, "<MaxKeys>%ld</MaxKeys>", p->max);
	if (p->truncated) {
		key_element(p, "NextKeyMarker", p->last);
		xml_element(p->f, "NextVersionIdMarker", p->last_prefix ? "" : all.last_id);
	}
	page_close(p, "ListVersionsResult");
}

/* --- uploads --- */

void op_list_uploads(struct req *r)
{
	const char *key = req_param(r, "key-marker"), *id = req_param(r, "upload-id-marker");
	const struct upload *u = r->bucket->uploads, *last = NULL;
	struct page p = { 0 };

	if (!page_open(&p, r, "ListMultipartUploadsResult", "max-uploads")) {
		return;
	}
	if (id != NULL && id[0] != '\0') { /* the one itself, wherever it is; else the first one behind the key */
		while (u != NULL && strcmp(u->id, id) != 0) {
			u = u->next;
		}
		u = u == NULL ? r->bucket->uploads : u->next;
	}
	for (; u != NULL; u = u->next) {
		bool behind_id = id != NULL && id[0] != '\0';
		char when[40];

		if (strncmp(u->key, p.prefix, strlen(p.prefix)) != 0 ||
				(key != NULL && strcmp(u->key, key) < (behind_id ? 0 : 1))) {
			continue;
		}
		if (p.rows == p.max) {
			p.truncated = true;
			break;
		}
		p.rows++;
		last = u;
		time_iso(u->begun_ns, when);
		fputs("<Upload>", p.f);
		key_element(&p, "Key", u->key);
		fprintf(p.f, "<UploadId>%s</UploadId><StorageClass>STANDARD</StorageClass><Initiated>%s</Initiated></Upload>",
				u->id, when);
	}
	if (p.truncated && last != NULL) {
		key_element(&p, "NextKeyMarker", last->key);
		xml_element(p.f, "NextUploadIdMarker", last->id);
	}
	page_close(&p, "ListMultipartUploadsResult");
}
