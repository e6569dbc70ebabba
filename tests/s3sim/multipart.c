/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: uploads in parts: begin, parts sent or copied, complete, abort, list of parts.
 *
 *   create -> upload -> parts -> [op_upload_complete] -> version        [op_upload_abort]: gone
 *
 * Way:    server.c, when all of a request is there.
 * Thread: one; the digest of a copied part is computed at once.
 * Owns:   an upload and its parts until it is completed or aborted.
 * Holds:  1. A Complete that is refused changes nothing: the upload stays.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "req.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_MAX 10000
#define DOCUMENT_MAX_BYTES (4u << 20)
#define XMLNS "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

static const char *sum_element(enum digest_kind kind)
{
	static const char *const names[DIGEST_KINDS] = { [DIGEST_CRC32] = "ChecksumCRC32",
		[DIGEST_CRC32C] = "ChecksumCRC32C", [DIGEST_CRC64NVME] = "ChecksumCRC64NVME",
		[DIGEST_SHA1] = "ChecksumSHA1", [DIGEST_SHA256] = "ChecksumSHA256" };

	return names[kind];
}

/* Which checksum parts have, and what is made of them. */
static bool read_algorithm(struct req *r, struct about *a)
{
	const char *name = req_header(r, "x-amz-checksum-algorithm"), *type = req_header(r, "x-amz-checksum-type");

	a->sum_kind = name == NULL ? DIGEST_CRC64NVME : digest_of_name(name);
	if (a->sum_kind == DIGEST_NONE || (type != NULL && name == NULL)) {
		return answer_error(r, "InvalidRequest", NULL);
	}
	a->sum_of_parts = type != NULL ? strcmp(type, "COMPOSITE") == 0 : a->sum_kind != DIGEST_CRC64NVME;
	if (a->sum_of_parts ? a->sum_kind == DIGEST_CRC64NVME : !digest_is_crc(a->sum_kind)) {
		return answer_error(r, "InvalidRequest", NULL);
	}
	return true;
}

void op_upload_create(struct req *r)
{
	struct upload *u = talloc_zero(r, struct upload);
	FILE *f;

	if (u == NULL || !about_read(r, u, &u->about) || !read_algorithm(r, &u->about)) {
		answer_error(r, "InternalError", NULL);
		return;
	}
	u->key = talloc_strdup(u, r->key);
	u->begun_ns = now_ns(r->sim);
	store_id(r->sim->store, u->id, sizeof(u->id));
	f = u->key == NULL ? NULL : answer_open(r);
	if (f == NULL) {
		answer_error(r, "InternalError", NULL);
		return;
	}
	upload_add(r->bucket, u);
	fputs("<InitiateMultipartUploadResult " XMLNS ">", f);
	xml_element(f, "Bucket", r->bucket->name);
	xml_element(f, "Key", r->key);
	xml_element(f, "UploadId", u->id);
	fputs("</InitiateMultipartUploadResult>", f);
	if (req_header(r, "x-amz-checksum-algorithm") != NULL) {
		answer_header(r, "x-amz-checksum-algorithm", "%s", sum_element(u->about.sum_kind) + strlen("Checksum"));
		answer_header(r, "x-amz-checksum-type", u->about.sum_of_parts ? "COMPOSITE" : "FULL_OBJECT");
	}
	answer_sealed(r, &u->about);
	answer_close(r, f, 200);
}

struct upload *upload_find(struct req *r)
{
	const char *id = req_param(r, "uploadId");

	for (struct upload *u = r->bucket->uploads; u != NULL; u = u->next) {
		if (strcmp(u->id, id) == 0 && strcmp(u->key, r->key) == 0) {
			return u;
		}
	}
	answer_error(r, "NoSuchUpload", NULL);
	return NULL;
}

/* --- parts --- */

/* Where the part is, or would be. */
static unsigned part_place(const struct upload *u, int number)
{
	unsigned low = 0, high = u->count;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;

		if (u->parts[middle]->number < number) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

static bool part_keep(struct req *r, struct upload *u, struct part *p)
{
	unsigned at = part_place(u, p->number);
	struct part **grown;

	talloc_steal(u, p);
	if (at < u->count && u->parts[at]->number == p->number) {
		talloc_free(u->parts[at]);
		u->parts[at] = p;
		return true;
	}
	grown = talloc_realloc(u, u->parts, struct part *, u->count + 1);
	if (grown == NULL) {
		return answer_error(r, "InternalError", NULL);
	}
	u->parts = grown;
	memmove(grown + at + 1, grown + at, (u->count - at) * sizeof(grown[0]));
	grown[at] = p;
	u->count++;
	return true;
}

static struct part *part_new(struct req *r, struct body *body, const char *etag, const char *sum)
{
	struct part *p = talloc_zero(r, struct part);
	long number;

	if (!req_number(r, "partNumber", 1, PARTS_MAX + 1, 0, &number)) {
		return NULL;
	}
	if (number < 1 || number > PARTS_MAX) {
		answer_error(r, "InvalidArgument", NULL);
		return NULL;
	}
	if (p == NULL) {
		answer_error(r, "InternalError", NULL);
		return NULL;
	}
	p->number = (int)number;
	p->mtime_ns = now_ns(r->sim);
	p->body = talloc_steal(p, body);
	p->etag = talloc_strdup(p, etag);
	p->sum = talloc_strdup(p, sum);
	return p;
}

void op_upload_part(struct req *r)
{
	struct upload *u = upload_find(r);
	struct part *p;
	char name[64];

	if (u == NULL || !about_opens(r, &u->about, "")) {
		return;
	}
	about_etag(r, &u->about, r->in.etag);
	p = part_new(r, r->in.body, r->in.etag, r->in.sum_text);
	if (p == NULL || !part_keep(r, u, p)) {
		return;
	}
	answer_header(r, "ETag", "\"%s\"", p->etag);
	snprintf(name, sizeof(name), "x-amz-checksum-%s", digest_names[r->in.sum.kind]);
	answer_header(r, name, "%s", p->sum);
	answer_sealed(r, &u->about);
	r->status = 200;
}

/* "bytes=FIRST-LAST" within the source. false: answered. */
static bool source_range(struct req *r, const struct version *source, int64_t *from, int64_t *length)
{
	const char *text = req_header(r, "x-amz-copy-source-range");
	int64_t last;
	char beyond;

	*from = 0;
	*length = source->body->size;
	if (text == NULL) {
		return true;
	}
	if (sscanf(text, "bytes=%" SCNd64 "-%" SCNd64 "%c", from, &last, &beyond) != 2 || *from < 0 || last < *from) {
		return answer_error(r, "InvalidArgument", NULL);
	}
	*length = last - *from + 1;
	return last < source->body->size || answer_error(r, "InvalidRange", NULL);
}

void op_upload_copy(struct req *r)
{
	struct upload *u = upload_find(r);
	struct version *source = u == NULL ? NULL : copy_source(r);
	char etag[33], sum[DIGEST_TEXT_BYTES], when[40];
	int64_t from, length;
	struct body *b;
	struct part *p;
	FILE *f;

	if (source == NULL || !about_opens(r, &u->about, "") || !source_range(r, source, &from, &length)) {
		return;
	}
	b = body_new(r);
	if (b == NULL || body_share(b, source->body, from, length) != 0) {
		answer_error(r, "InternalError", NULL);
		return;
	}
	if (!object_measure(r, b, u->about.sum_kind, etag, sum)) {
		return;
	}
	about_etag(r, &u->about, etag);
	p = part_new(r, b, etag, sum);
	f = p == NULL || !part_keep(r, u, p) ? NULL : answer_open(r);
	if (f == NULL) {
		return;
	}
	time_iso(p->mtime_ns, when);
	fputs("<CopyPartResult " XMLNS ">", f);
	xml_element(f, "LastModified", when);
	fprintf(f, "<ETag>&quot;%s&quot;</ETag>", p->etag);
	xml_element(f, sum_element(u->about.sum_kind), p->sum);
	fputs("</CopyPartResult>", f);
	answer_close(r, f, 200);
}

/* --- the end --- */

struct wanted {
	struct req *req;
	struct upload *upload;
	struct part **parts;
	unsigned count;
	int number;
	char *etag, *sum;
	const char *error;
};

static void wanted_part(struct wanted *w)
{
	struct upload *u = w->upload;
	unsigned at = part_place(u, w->number);
	struct part *p = at < u->count && u->parts[at]->number == w->number ? u->parts[at] : NULL;

	if (w->error != NULL) {
		return;
	}
	if (w->count > 0 && w->parts[w->count - 1]->number >= w->number) {
		w->error = "InvalidPartOrder";
	} else if (p == NULL || w->etag == NULL || !etag_matches(w->etag, p->etag) ||
			(w->sum != NULL && strcmp(w->sum, p->sum) != 0)) {
		w->error = "InvalidPart";
	} else if (w->count > 0 && w->parts[w->count - 1]->body->size < w->req->sim->set.part_min_bytes) {
		w->error = "EntityTooSmall";
	} else {
		w->parts[w->count++] = p;
	}
}

static void wanted_element(void *arg, unsigned depth, const char *parent, const char *name, const char *text)
{
	struct wanted *w = arg;

	(void)parent;
	if (depth == 3 && strcmp(name, "PartNumber") == 0) {
		w->number = atoi(text);
	} else if (depth == 3 && strcmp(name, "ETag") == 0) {
		w->etag = talloc_strdup(w->req, text);
	} else if (depth == 3 && strcmp(name, sum_element(w->upload->about.sum_kind)) == 0) {
		w->sum = talloc_strdup(w->req, text);
	} else if (depth == 2 && strcmp(name, "Part") == 0) {
		wanted_part(w);
		w->number = 0;
		w->etag = w->sum = NULL;
	}
}

static bool wanted_read(struct req *r, struct wanted *w)
{
	char *text = body_text(r, r->in.body, DOCUMENT_MAX_BYTES);

	w->parts = talloc_array(r, struct part *, w->upload->count + 1);
	if (text == NULL || w->parts == NULL) {
		return answer_error(r, "InternalError", NULL);
	}
	if (xml_read(text, wanted_element, w) != 0 || (w->count == 0 && w->error == NULL)) {
		return answer_error(r, "MalformedXML", NULL);
	}
	return w->error == NULL || answer_error(r, w->error, NULL);
}

/* The object's ETag and checksum, of those of the parts. */
static bool join(struct req *r, struct wanted *w, struct version *v)
{
	struct about *a = &v->about;
	struct digest md5 = { 0 }, sums = { 0 };
	uint8_t value[EVP_MAX_MD_SIZE], bytes[DIGEST_TEXT_BYTES];
	char hex[33], text[DIGEST_TEXT_BYTES];
	bool good = digest_begin(&md5, DIGEST_MD5) && digest_begin(&sums, a->sum_kind);

	snprintf(text, sizeof(text), "%s", w->parts[0]->sum);
	for (unsigned i = 0; i < w->count && good; i++) {
		struct part *p = w->parts[i];
		size_t len = strlen(p->sum);
		int n = EVP_DecodeBlock(bytes, (const uint8_t *)p->sum, (int)len);

		for (unsigned k = 0; k < 16; k++) {
			unsigned byte = 0;

			sscanf(p->etag + 2 * k, "%2x", &byte);
			value[k] = (uint8_t)byte;
		}
		digest_add(&md5, value, 16);
		while (len > 0 && p->sum[len - 1] == '=') { /* padding is no value */
			len--;
			n--;
		}
		digest_add(&sums, bytes, (size_t)n);
		good = a->sum_of_parts || i == 0 || digest_join(a->sum_kind, text, p->sum, p->body->size, text);
		good = good && body_share(v->body, p->body, 0, p->body->size) == 0;
	}
	if (good) {
		digest_hex(value, digest_end(&md5, value), hex);
		v->etag = talloc_asprintf(v, "%s-%u", hex, w->count);
		if (a->sum_of_parts) {
			digest_base64(value, digest_end(&sums, value), text);
		}
		a->sum = a->sum_of_parts ? talloc_asprintf(v, "%s-%u", text, w->count) : talloc_strdup(v, text);
	}
	digest_fini(&md5);
	digest_fini(&sums);
	return (v->etag != NULL && a->sum != NULL) || answer_error(r, "InternalError", NULL);
}

/* What the client says of the whole. false: answered. */
static bool as_said(struct req *r, const struct version *v)
{
	const char *size = req_header(r, "x-amz-mp-object-size"), *said;
	char name[64];

	snprintf(name, sizeof(name), "x-amz-checksum-%s", digest_names[v->about.sum_kind]);
	said = req_header(r, name);
	if (size != NULL && strtoll(size, NULL, 10) != v->body->size) {
		return answer_error(r, "InvalidRequest", NULL);
	}
	return said == NULL || strncmp(said, v->about.sum, strcspn(v->about.sum, "-")) == 0 ||
	       answer_error(r, "BadDigest", NULL);
}

static void answer_complete(struct req *r, const struct version *v)
{
	FILE *f = answer_open(r);

	if (f == NULL) {
		return;
	}
	fputs("<CompleteMultipartUploadResult " XMLNS ">", f);
	xml_element(f, "Bucket", r->bucket->name);
	xml_element(f, "Key", r->key);
	fprintf(f, "<ETag>%s%s%s</ETag>", r->sim->set.silent_complete ? "" : "&quot;",
			r->sim->set.silent_complete ? "" : v->etag, r->sim->set.silent_complete ? "" : "&quot;");
	xml_element(f, sum_element(v->about.sum_kind), v->about.sum);
	fputs("</CompleteMultipartUploadResult>", f);
	answer_sealed(r, &v->about);
	answer_close(r, f, 200);
}

void op_upload_complete(struct req *r)
{
	struct wanted w = { .req = r, .upload = upload_find(r) };
	struct version *v;

	if (w.upload == NULL || !wanted_read(r, &w) ||
			!condition_write(r, (r->sim->set.honours & HONOURS_COMPLETE) != 0)) {
		return;
	}
	v = version_new(r->bucket, now_ns(r->sim));
	if (v == NULL || about_copy(v, &v->about, &w.upload->about) != 0) {
		talloc_free(v);
		answer_error(r, "InternalError", NULL);
		return;
	}
	v->body = body_new(v);
	if (v->body == NULL || !join(r, &w, v) || !as_said(r, v)) {
		talloc_free(v);
		answer_error(r, "InternalError", NULL);
		return;
	}
	if (object_put(r, v)) {
		upload_remove(r->bucket, w.upload);
		answer_complete(r, v);
	}
}

void op_upload_abort(struct req *r)
{
	struct upload *u = upload_find(r);

	if (u != NULL) {
		upload_remove(r->bucket, u);
		r->status = 204;
	}
}

void op_upload_parts(struct req *r)
{
	struct upload *u = upload_find(r);
	long after, max;
	unsigned at;
	FILE *f;

	if (u == NULL || !req_number(r, "part-number-marker", 0, PARTS_MAX, 0, &after) ||
			!req_number(r, "max-parts", 1, 1000, 1000, &max)) {
		return;
	}
	f = answer_open(r);
	if (f == NULL) {
		return;
	}
	fputs("<ListPartsResult " XMLNS ">", f);
	xml_element(f, "Bucket", r->bucket->name);
	xml_element(f, "Key", u->key);
	xml_element(f, "UploadId", u->id);
	for (at = part_place(u, (int)after + 1); at < u->count && max > 0; at++, max--) {
		char when[40];

		time_iso(u->parts[at]->mtime_ns, when);
		fprintf(f, "<Part><PartNumber>%d</PartNumber><ETag>&quot;%s&quot;</ETag><Size>%" PRId64 "</Size>",
				u->parts[at]->number, u->parts[at]->etag, u->parts[at]->body->size);
		xml_element(f, "LastModified", when);
		xml_element(f, sum_element(u->about.sum_kind), u->parts[at]->sum);
		fputs("</Part>", f);
		after = u->parts[at]->number;
	}
	fprintf(f, "<NextPartNumberMarker>%ld</NextPartNumberMarker><IsTruncated>%s</IsTruncated></ListPartsResult>",
			after, at < u->count ? "true" : "false");
	answer_close(r, f, 200);
}
