/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: operations on buckets: make, find, remove, and their configurations.
 *
 * Way:    server.c, when all of a request is there.
 * Thread: one.
 * Holds:  1. Of configurations only versioning has an effect; the others are kept as they came and told again.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "req.h"
#include <string.h>

#define DOCUMENT_MAX_BYTES (4u << 20)
#define XMLNS "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

/* What is told of a configuration that nobody has made: a document, or an error. */
static const struct {
	const char *name, *document, *error;
} configurations[] = {
	{ "lifecycle", NULL, "NoSuchLifecycleConfiguration" },
	{ "encryption", "<ServerSideEncryptionConfiguration " XMLNS "><Rule><ApplyServerSideEncryptionByDefault>"
			"<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault>"
			"<BucketKeyEnabled>false</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>", NULL },
	{ "tagging", NULL, "NoSuchTagSet" },
	{ "notification", "<NotificationConfiguration " XMLNS "/>", NULL },
	{ "logging", "<BucketLoggingStatus " XMLNS "/>", NULL },
	{ "accelerate", "<AccelerateConfiguration " XMLNS "/>", NULL },
	{ "requestPayment", "<RequestPaymentConfiguration " XMLNS "><Payer>BucketOwner</Payer>"
			"</RequestPaymentConfiguration>", NULL },
	{ "policy", NULL, "NoSuchConfiguration" },
	{ "cors", NULL, "NoSuchConfiguration" },
	{ "replication", NULL, "NoSuchConfiguration" },
	{ "object-lock", NULL, "NoSuchConfiguration" },
	{ "ownershipControls", NULL, "NoSuchConfiguration" },
	{ "publicAccessBlock", NULL, "NoSuchConfiguration" },
};

static bool name_valid(const char *name)
{
	size_t len = strlen(name);

	return len >= 3 && len <= 63 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == len && name[0] != '-' &&
	       name[0] != '.' && name[len - 1] != '-' && name[len - 1] != '.';
}

void op_list_buckets(struct req *r)
{
	FILE *f = answer_open(r);
	char when[40];

	if (f == NULL) {
		return;
	}
	fputs("<ListAllMyBucketsResult " XMLNS "><Buckets>", f);
	for (struct bucket *b = r->sim->store->buckets; b != NULL; b = b->next) {
		time_iso(b->made_ns, when);
		fputs("<Bucket>", f);
		xml_element(f, "Name", b->name);
		xml_element(f, "CreationDate", when);
		fputs("</Bucket>", f);
	}
	fputs("</Buckets></ListAllMyBucketsResult>", f);
	answer_close(r, f, 200);
}

void op_bucket_create(struct req *r)
{
	if (r->bucket != NULL) {
		answer_error(r, "BucketAlreadyOwnedByYou", NULL);
		return;
	}
	if (!name_valid(r->bucket_name)) {
		answer_error(r, "InvalidBucketName", NULL);
		return;
	}
	r->bucket = store_bucket_add(r->sim->store, r->bucket_name, now_ns(r->sim));
	if (r->bucket == NULL) {
		answer_error(r, "InternalError", NULL);
		return;
	}
	answer_header(r, "Location", "/%s", r->bucket_name);
	r->status = 200;
}

void op_bucket_head(struct req *r)
{
	answer_header(r, "x-amz-bucket-region", "%s", r->sim->region);
	r->status = 200;
}

void op_bucket_delete(struct req *r)
{
	if (r->bucket->keys > 0 || r->bucket->uploads != NULL) {
		answer_error(r, "BucketNotEmpty", NULL);
		return;
	}
	for (struct req *other = r->sim->live; other != NULL; other = other->next) {
		if (other->bucket == r->bucket && other != r) {
			other->bucket = NULL; /* server.c asks again */
		}
	}
	store_bucket_remove(r->sim->store, r->bucket);
	r->bucket = NULL;
	r->status = 204;
}

/* --- configurations --- */

static void answer_document(struct req *r, const char *document)
{
	FILE *f = answer_open(r);

	if (f != NULL) {
		fputs(document, f);
		answer_close(r, f, 200);
	}
}

static void answer_versioning(struct req *r)
{
	const char *status = r->bucket->versioning == VERSIONS_ON ? "Enabled" : "Suspended";
	char *document = r->bucket->versioning == VERSIONS_NEVER
			? talloc_strdup(r, "<VersioningConfiguration " XMLNS "/>")
			: talloc_asprintf(r, "<VersioningConfiguration " XMLNS "><Status>%s</Status>"
					"</VersioningConfiguration>", status);

	answer_document(r, document == NULL ? "" : document);
}

/* The row of the request's parameter, or -1: answered. */
static int configuration(struct req *r)
{
	for (unsigned i = 0; i < sizeof(configurations) / sizeof(configurations[0]); i++) {
		if (req_param(r, configurations[i].name) != NULL) {
			return (int)i;
		}
	}
	answer_error(r, "NotImplemented", NULL);
	return -1;
}

void op_bucket_read(struct req *r)
{
	const char *kept;
	int row;

	if (req_param(r, "versioning") != NULL) {
		answer_versioning(r);
		return;
	}
	if (req_param(r, "location") != NULL) {
		const char *region = strcmp(r->sim->region, "us-east-1") == 0 ? "" : r->sim->region;
		char *document = talloc_asprintf(r, "<LocationConstraint " XMLNS ">%s</LocationConstraint>", region);

		answer_document(r, document == NULL ? "" : document);
		return;
	}
	row = configuration(r);
	if (row < 0) {
		return;
	}
	kept = pairs_get(&r->bucket->documents, configurations[row].name);
	if (kept == NULL && configurations[row].document == NULL) {
		answer_error(r, configurations[row].error, NULL);
		return;
	}
	answer_document(r, kept != NULL ? kept : configurations[row].document);
}

static void versioning_element(void *arg, unsigned depth, const char *parent, const char *name, const char *text)
{
	enum versioning *to = arg;

	(void)parent;
	if (depth == 2 && strcmp(name, "Status") == 0) {
		*to = strcmp(text, "Enabled") == 0 ? VERSIONS_ON : strcmp(text, "Suspended") == 0 ? VERSIONS_SUSPENDED
												   : VERSIONS_NEVER;
	}
}

static void ignore_element(void *arg, unsigned depth, const char *parent, const char *name, const char *text)
{
	(void)arg;
	(void)depth;
	(void)parent;
	(void)name;
	(void)text;
}

static void forget(struct pairs *documents, const char *name)
{
	for (unsigned i = 0; i < documents->count; i++) {
		if (strcmp(documents->list[i].name, name) == 0) {
			documents->list[i] = documents->list[--documents->count];
			return;
		}
	}
}

/* The document without its declaration, which the answer has again. */
static const char *without_declaration(const char *text)
{
	const char *end = strncmp(text, "<?xml", 5) == 0 ? strstr(text, "?>") : NULL;

	return end == NULL ? text : end + 2;
}

void op_bucket_write(struct req *r)
{
	char *text = body_text(r, r->in.body, DOCUMENT_MAX_BYTES);
	enum versioning versioning = VERSIONS_NEVER;
	bool is_versioning = req_param(r, "versioning") != NULL;
	int row = is_versioning ? 0 : configuration(r);

	if (row < 0) {
		return;
	}
	if (text == NULL || xml_read(text, is_versioning ? versioning_element : ignore_element, &versioning) != 0 ||
			(is_versioning && versioning == VERSIONS_NEVER)) {
		answer_error(r, "MalformedXML", NULL);
		return;
	}
	r->status = 200;
	if (is_versioning) {
		r->bucket->versioning = versioning;
		return;
	}
	forget(&r->bucket->documents, configurations[row].name);
	if (pairs_add(r->bucket, &r->bucket->documents, configurations[row].name, without_declaration(text)) != 0) {
		r->status = 0;
		answer_error(r, "InternalError", NULL);
	}
}

void op_bucket_clear(struct req *r)
{
	int row = configuration(r);

	if (row >= 0) {
		forget(&r->bucket->documents, configurations[row].name);
		r->status = 204;
	}
}
