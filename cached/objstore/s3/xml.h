/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The few XML documents S3 answers with. Pure; any thread; hostile input welcome. */
#ifndef OFS_OBJSTORE_XML_H
#define OFS_OBJSTORE_XML_H

#include <stddef.h>
#include "../impl.h"
#include "creds.h"

/* Fields of the small answers; malloc, NULL: not there. */
struct s3_answer {
	char *root; /* name of the document's element: "Error", "CopyObjectResult" ... */
	char *code, *message, *region, *request_id; /* Error */
	char *etag;          /* CopyObjectResult, CopyPartResult, CompleteMultipartUploadResult; without quotes */
	char *last_modified; /* CopyObjectResult */
	char *sums[OBJ_SUM_SHA256 + 1]; /* CopyPartResult: of the part, by their kinds */
	char *upload_id;     /* InitiateMultipartUploadResult */
	char *status;        /* VersioningConfiguration */
};
/* 0; -EBADMSG: no well-formed XML (what was read before stays); -ENOMEM. Always s3_answer_fini. */
int s3_answer_parse(const void *data, size_t len, struct s3_answer *out);
void s3_answer_fini(struct s3_answer *a);

/* An answer of STS; "" where it says nothing. Fields: xml.c's path of element names. */
struct s3_sts_answer {
	char code[128], message[512]; /* Error */
	char expiration[64];
	struct s3_creds creds; /* the keys and the token only */
};
/* 0; -EBADMSG; -ENOMEM. Holds secrets: wipe it. */
int s3_sts_parse(const void *data, size_t len, struct s3_sts_answer *out);

/* ListBucketResult into r (entries in key order, next_token). 0; -EBADMSG; -ENOMEM. Rows read
 * before an error stay in r; the caller clears it. */
int s3_listing_parse(const void *data, size_t len, struct obj_result *r);
/* ListVersionsResult into r: the versions of this key alone, in the store's order; next_token if there are
 * more of them. Else as above. */
int s3_versions_parse(const void *data, size_t len, const char *key, struct obj_result *r);

/* ListMultipartUploadsResult into r: uploads of keys that begin so; next_token: id, newline, key. Else as
 * above. */
int s3_uploads_parse(const void *data, size_t len, const char *key, struct obj_result *r);

/* A URL's query as Tagging; malloc, NULL: out of memory, or no such query. */
char *s3_tags_write(const char *tags);
/* Tagging into r->tags ("" if there are none), as a URL's query. 0; -EBADMSG; -ENOMEM. */
int s3_tags_parse(const void *data, size_t len, struct obj_result *r);

/* "2013-05-24T00:00:00.123Z", or with an offset such as +01:00, to ns; -1: not a date. */
int64_t s3_time_parse(const char *text);
/* Without quotes and "W/"; malloc; NULL if nothing is left or out of memory. */
char *s3_etag_plain(const char *text);

#endif
