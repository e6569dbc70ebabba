/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what answers are made of: S3's errors, documents, and the headers that tell of an object.
 *
 * Way:    operations -> here -> server.c sends.
 * Thread: one.
 * Holds:  1. A request is answered once: the first error stays.
 *         2. Sources: Amazon S3 API reference, "Error responses", and the response of each operation.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "req.h"
#include <errno.h>
#include <expat.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 8u

static const struct error {
	const char *code;
	unsigned status;
	const char *message;
} errors[] = {
	{ "AccessDenied", 403, "Access Denied" },
	{ "AuthorizationHeaderMalformed", 400, "The authorization header is malformed; the region is wrong" },
	{ "BadDigest", 400, "The Content-MD5 or checksum you specified did not match what was received" },
	{ "BucketAlreadyOwnedByYou", 409, "Your previous request to create the named bucket succeeded" },
	{ "BucketNotEmpty", 409, "The bucket you tried to delete is not empty" },
	{ "ConditionalRequestConflict", 409, "A conflicting operation occurred during this one" },
	{ "EntityTooLarge", 400, "Your proposed upload exceeds the maximum allowed size" },
	{ "EntityTooSmall", 400, "Your proposed upload is smaller than the minimum allowed size" },
	{ "ExpiredToken", 400, "The provided token has expired" },
	{ "IncompleteBody", 400, "You did not provide the number of bytes announced" },
	{ "InternalError", 500, "We encountered an internal error. Please try again" },
	{ "InvalidAccessKeyId", 403, "The access key Id you provided does not exist in our records" },
	{ "InvalidArgument", 400, "Invalid Argument" },
	{ "InvalidBucketName", 400, "The specified bucket is not valid" },
	{ "InvalidDigest", 400, "The Content-MD5 you specified is not valid" },
	{ "InvalidObjectState", 403, "The operation is not valid for the object's storage class" },
	{ "InvalidPart", 400, "One or more of the specified parts could not be found or has another entity tag" },
	{ "InvalidPartOrder", 400, "The list of parts was not in ascending order" },
	{ "InvalidRange", 416, "The requested range is not satisfiable" },
	{ "InvalidRequest", 400, "Invalid Request" },
	{ "InvalidStorageClass", 400, "The storage class you specified is not valid" },
	{ "InvalidTag", 400, "The tag provided was not a valid tag" },
	{ "InvalidToken", 400, "The provided token is malformed or otherwise not valid" },
	{ "InvalidURI", 400, "Couldn't parse the specified URI" },
	{ "KeyTooLongError", 400, "Your key is too long" },
	{ "MalformedXML", 400, "The XML you provided was not well-formed or did not validate" },
	{ "MetadataTooLarge", 400, "Your metadata headers exceed the maximum allowed metadata size" },
	{ "MethodNotAllowed", 405, "The specified method is not allowed against this resource" },
	{ "MissingContentLength", 411, "You must provide the Content-Length HTTP header" },
	{ "NoSuchBucket", 404, "The specified bucket does not exist" },
	{ "NoSuchConfiguration", 404, "The specified configuration does not exist" },
	{ "NoSuchKey", 404, "The specified key does not exist." },
	{ "NoSuchLifecycleConfiguration", 404, "The lifecycle configuration does not exist" },
	{ "NoSuchTagSet", 404, "The TagSet does not exist" },
	{ "NoSuchUpload", 404, "The specified multipart upload does not exist, was aborted or completed" },
	{ "NoSuchVersion", 404, "The specified version does not exist" },
	{ "NotImplemented", 501, "A header or parameter you provided implies functionality that is not implemented" },
	{ "ObjectNotInActiveTierError", 403, "The source object of the copy is not in the active tier" },
	{ "PreconditionFailed", 412, "At least one of the pre-conditions you specified did not hold" },
	{ "RequestTimeTooSkewed", 403, "The difference between the request time and the current time is too large" },
	{ "RequestTimeout", 400, "Your socket connection to the server was not read from or written to in time" },
	{ "RestoreAlreadyInProgress", 409, "Object restore is already in progress" },
	{ "ServiceUnavailable", 503, "Service is unable to handle the request" },
	{ "SignatureDoesNotMatch", 403, "The request signature we calculated does not match the one you provided" },
	{ "SlowDown", 503, "Please reduce your request rate" },
	{ "XAmzContentSHA256Mismatch", 400, "The provided x-amz-content-sha256 does not match what was computed" },
};

void answer_header(struct req *r, const char *name, const char *fmt, ...)
{
	va_list ap;
	char *value;

	va_start(ap, fmt);
	value = talloc_vasprintf(r, fmt, ap);
	va_end(ap);
	if (value == NULL || pairs_add(r, &r->headers, name, value) != 0) {
		r->status = 500;
	}
	talloc_free(value);
}

/* What XML has no place for is told as a reference all the same, as AWS does. */
void xml_text(FILE *f, const char *text)
{
	for (; *text != '\0'; text++) {
		if (strchr("<>&\"", *text) != NULL || (unsigned char)*text < 0x20) {
			fprintf(f, "&#x%x;", (unsigned char)*text);
		} else {
			putc_unlocked(*text, f);
		}
	}
}

void xml_element(FILE *f, const char *name, const char *text)
{
	fprintf(f, "<%s>", name);
	xml_text(f, text);
	fprintf(f, "</%s>", name);
}

FILE *answer_open(struct req *r)
{
	FILE *f;

	free(r->text);
	r->text = NULL;
	f = open_memstream(&r->text, &r->text_len);
	if (f == NULL) {
		r->status = 500;
		return NULL;
	}
	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", f);
	return f;
}

void answer_close(struct req *r, FILE *f, unsigned status)
{
	r->status = status;
	if (fclose(f) != 0) {
		r->status = 500;
	}
	answer_header(r, "Content-Type", "application/xml");
}

bool answer_error(struct req *r, const char *code, const char *more)
{
	const struct error *e = errors;
	FILE *f;

	if (r->status != 0) {
		return false;
	}
	for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		e = strcmp(errors[i].code, code) == 0 ? &errors[i] : e;
	}
	r->code = e->code;
	f = answer_open(r);
	if (f != NULL) {
		fputs("<Error>", f);
		xml_element(f, "Code", e->code);
		xml_element(f, "Message", e->message);
		fputs(more == NULL ? "" : more, f);
		xml_element(f, "RequestId", r->id);
		fputs("</Error>", f);
		answer_close(r, f, e->status);
	}
	return false;
}

/* --- of objects --- */

void answer_version(struct req *r, const struct version *v)
{
	if (r->bucket->versioning != VERSIONS_NEVER) {
		answer_header(r, "x-amz-version-id", "%s", v->id);
	}
}

void answer_sealed(struct req *r, const struct about *a)
{
	if (a->customer_md5 != NULL) {
		answer_header(r, "x-amz-server-side-encryption-customer-algorithm", "AES256");
		answer_header(r, "x-amz-server-side-encryption-customer-key-MD5", "%s", a->customer_md5);
		return;
	}
	answer_header(r, "x-amz-server-side-encryption", "%s", a->sse);
	if (a->sse_key != NULL) {
		answer_header(r, "x-amz-server-side-encryption-aws-kms-key-id", "%s", a->sse_key);
	}
	if (a->bucket_key) {
		answer_header(r, "x-amz-server-side-encryption-bucket-key-enabled", "true");
	}
}

static void answer_restore(struct req *r, const struct version *v)
{
	char until[40];

	if (v->restored_ns == 0) {
		return;
	}
	if (now_ns(r->sim) < v->restored_ns) {
		answer_header(r, "x-amz-restore", "ongoing-request=\"true\"");
	} else if (now_ns(r->sim) < v->restored_until_ns) {
		time_http(v->restored_until_ns, until);
		answer_header(r, "x-amz-restore", "ongoing-request=\"false\", expiry-date=\"%s\"", until);
	}
}

void answer_sum(struct req *r, const struct about *a)
{
	char name[64];

	if (a->sum != NULL) {
		snprintf(name, sizeof(name), "x-amz-checksum-%s", digest_names[a->sum_kind]);
		answer_header(r, name, "%s", a->sum);
		answer_header(r, "x-amz-checksum-type", a->sum_of_parts ? "COMPOSITE" : "FULL_OBJECT");
	}
}

void answer_about(struct req *r, const struct version *v, bool sums)
{
	const struct about *a = &v->about;
	char when[40];

	time_http(v->mtime_ns, when);
	answer_header(r, "Last-Modified", "%s", when);
	answer_header(r, "ETag", "\"%s\"", v->etag);
	answer_header(r, "Accept-Ranges", "bytes");
	for (unsigned i = 0; i < a->headers.count; i++) {
		answer_header(r, a->headers.list[i].name, "%s", a->headers.list[i].value);
	}
	if (a->storage_class != NULL) {
		answer_header(r, "x-amz-storage-class", "%s", a->storage_class);
	}
	if (a->tags.count > 0) {
		answer_header(r, "x-amz-tagging-count", "%u", a->tags.count);
	}
	if (sums) {
		answer_sum(r, a);
	}
	answer_sealed(r, a);
	answer_restore(r, v);
	answer_version(r, v);
}

/* --- documents that were sent --- */

struct reader {
	XML_Parser parser;
	char names[DEPTH_MAX][40];
	unsigned depth;
	char *text;
	size_t len, room;
	int error;
	void (*element)(void *, unsigned, const char *, const char *, const char *);
	void *arg;
};

static void stop(struct reader *x, int error)
{
	x->error = x->error == 0 ? error : x->error;
	XML_StopParser(x->parser, XML_FALSE);
}

static void XMLCALL on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
	struct reader *x = arg;

	(void)attributes;
	if (x->depth == DEPTH_MAX) {
		stop(x, -EBADMSG);
		return;
	}
	snprintf(x->names[x->depth++], sizeof(x->names[0]), "%.39s", name);
	x->len = 0;
}

static void XMLCALL on_text(void *arg, const XML_Char *text, int len)
{
	struct reader *x = arg;

	if (x->len + (size_t)len + 1 > x->room) {
		size_t room = 2 * (x->len + (size_t)len + 1);
		char *grown = realloc(x->text, room);

		if (grown == NULL) {
			stop(x, -ENOMEM);
			return;
		}
		x->text = grown;
		x->room = room;
	}
	memcpy(x->text + x->len, text, (size_t)len);
	x->len += (size_t)len;
	x->text[x->len] = '\0';
}

static void XMLCALL on_end(void *arg, const XML_Char *name)
{
	struct reader *x = arg;

	(void)name;
	if (x->error == 0) {
		x->element(x->arg, x->depth, x->depth < 2 ? "" : x->names[x->depth - 2], x->names[x->depth - 1],
				x->len == 0 ? "" : x->text);
	}
	x->depth--;
	x->len = 0;
}

static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *system, const XML_Char *public, int own)
{
	(void)name;
	(void)system;
	(void)public;
	(void)own;
	stop(arg, -EBADMSG);
}

int xml_read(const char *text, void (*element)(void *, unsigned, const char *, const char *, const char *), void *arg)
{
	struct reader x = { .element = element, .arg = arg, .parser = XML_ParserCreate(NULL) };

	if (x.parser == NULL) {
		return -ENOMEM;
	}
	XML_SetUserData(x.parser, &x);
	XML_SetElementHandler(x.parser, on_start, on_end);
	XML_SetCharacterDataHandler(x.parser, on_text);
	XML_SetStartDoctypeDeclHandler(x.parser, on_doctype);
	if (XML_Parse(x.parser, text, (int)strlen(text), 1) != XML_STATUS_OK && x.error == 0) {
		x.error = -EBADMSG;
	}
	XML_ParserFree(x.parser);
	free(x.text);
	return x.error;
}
