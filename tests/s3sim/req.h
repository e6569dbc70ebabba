/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A request on its way through the server, and what is answered. One thread. */
#ifndef OFS_S3SIM_REQ_H
#define OFS_S3SIM_REQ_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "sim.h"
#include "store.h"

struct req;

enum op_body { OP_NONE, OP_TEXT, OP_BYTES }; /* what is done with what is sent */
struct op {
	const char *name, *method;
	char on;             /* 's' service, 'b' bucket, 'k' key */
	const char *param;   /* NULL, or a parameter it must have */
	const char *header;  /* NULL, or a header it must have */
	enum op_body body;
	void (*run)(struct req *);
};

/* What is sent, decoded and checked (intake.c). */
struct intake {
	struct body *body;
	struct digest md5, sha256, sum;
	char etag[33], sum_text[DIGEST_TEXT_BYTES]; /* at the end */
	bool chunked;                                /* aws-chunked, with a trailer */
	int where;
	int64_t left, wire_bytes;
	char line[256];
	unsigned line_len;
	char trailer[DIGEST_TEXT_BYTES];
};

struct req {
	struct sim *sim;
	struct MHD_Connection *conn;
	struct req *next, *before;       /* of all that live */
	int64_t begun_ns;
	char id[40];

	/* what is asked */
	char *raw;                       /* path?query, as it came */
	const char *method;
	char *bucket_name, *key;         /* decoded; key "" for none */
	struct pairs query;
	const struct op *op;
	struct credential *who;
	struct bucket *bucket;
	struct intake in;
	bool deleted_meanwhile;          /* the key, while this request was on its way */

	/* what is answered */
	unsigned status;                 /* 0: not yet known */
	const char *code;                /* of an error */
	struct pairs headers;
	char *text;                      /* a document, or NULL */
	size_t text_len;
	struct body *body;               /* bytes of an object, or NULL */
	int64_t from, length;

	/* the way of it (server.c) */
	int stage;
	bool suspended;
	int64_t due_ns, told_bytes, next_ns;
	struct fault *fault;
};

/* --- asking (request.c) --- */
/* From the raw path and query. false: answered. */
bool req_parse(struct req *r);
/* Which operation it is, and whether there is such a bucket. false: answered. */
bool req_route(struct req *r);
const char *req_header(const struct req *r, const char *name);
const char *req_param(const struct req *r, const char *name);
/* A whole number in [low, high]; missing if it is not given. false: answered InvalidArgument. */
bool req_number(struct req *r, const char *param, long low, long high, long missing, long *value);
/* Decodes %XX in place. false: a broken one, or a NUL. */
bool url_decode(char *text, bool plus);
/* As SigV4 wants it. */
char *url_encode(TALLOC_CTX *ctx, const char *text, const char *kept);
/* "%Y-%m-%dT%H:%M:%S.000Z", and as in HTTP. */
void time_iso(int64_t ns, char out[40]);
void time_http(int64_t ns, char out[40]);

/* --- answering (answer.c) --- */
void answer_header(struct req *r, const char *name, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* An error of S3's, by its code; always false. more: elements of the document, or NULL. */
bool answer_error(struct req *r, const char *code, const char *more);
/* A document begins; write to it, and end it. NULL: answered, no memory. */
FILE *answer_open(struct req *r);
void answer_close(struct req *r, FILE *f, unsigned status);
void xml_text(FILE *f, const char *text);
/* <name>text</name> */
void xml_element(FILE *f, const char *name, const char *text);
/* What HEAD and GET tell of a version. */
void answer_about(struct req *r, const struct version *v, bool sums);
void answer_sum(struct req *r, const struct about *a);
void answer_version(struct req *r, const struct version *v);
void answer_sealed(struct req *r, const struct about *a);
/* Elements of a document, in the order in which they end: how deep, its parent's name, its own, its text. NULL as name
 * never. 0, -EBADMSG, -ENOMEM. */
int xml_read(const char *text, void (*element)(void *arg, unsigned depth, const char *parent, const char *name,
		const char *text), void *arg);

/* --- the way (server.c) --- */
int server_start(struct sim *s, const char *host, unsigned port);
/* What must be polled, and how long at most (ns; -1: nothing waits). */
int server_fd(const struct sim *s);
int64_t server_patience(struct sim *s);
void server_run(struct sim *s);
void server_stop(struct sim *s);

/* --- what comes with it (intake.c) --- */
/* After the headers. false: answered. */
bool intake_begin(struct req *r, enum digest_kind wanted);
int intake_add(struct req *r, const char *data, size_t len);
/* ... with one byte changed, as the request's fault says. */
void intake_changed(struct req *r, const char *data, size_t len);
/* Is it what was announced? false: answered. */
bool intake_end(struct req *r);
void intake_fini(struct intake *in);

/* --- what it may do (auth.c, conditions.c) --- */
/* Signature and key. false: answered. */
bool auth_check(struct req *r);
/* If-Match, If-None-Match of a GET or HEAD. false: answered. */
bool condition_read(struct req *r, const struct version *v);
/* ... of a write to the request's key. honoured: this store looks at them. false: answered. */
bool condition_write(struct req *r, bool honoured);
/* x-amz-copy-source-if-... false: answered. */
bool condition_source(struct req *r, const struct version *v);
bool etag_matches(const char *header, const char *etag);

/* --- what is said of objects (about.c) --- */
/* From the headers of a PUT, a CreateMultipartUpload or a copy. false: answered. */
bool about_read(struct req *r, TALLOC_CTX *ctx, struct about *a);
/* x-amz-server-side-encryption-customer-..., or of a copy's source, against what the object has. false: answered. */
bool about_opens(struct req *r, const struct about *a, const char *whose);
/* Can its bytes be read now? false: answered InvalidObjectState. */
bool about_readable(struct req *r, const struct version *v);
bool about_archived(const struct version *v, int64_t now_ns);
bool tags_parse(struct req *r, TALLOC_CTX *ctx, struct pairs *tags, const char *text);
/* No MD5 where it must not be one. etag: 33 bytes of hexadecimal, or more. */
void about_etag(struct req *r, const struct about *a, char *etag);

/* --- operations --- */
void op_get(struct req *r);
void op_put(struct req *r);
void op_delete(struct req *r);
void op_delete_many(struct req *r);
void op_copy(struct req *r);
void op_get_tags(struct req *r);
void op_put_tags(struct req *r);
void op_delete_tags(struct req *r);
void op_restore(struct req *r);
void op_upload_create(struct req *r);
void op_upload_part(struct req *r);
void op_upload_copy(struct req *r);
void op_upload_complete(struct req *r);
void op_upload_abort(struct req *r);
void op_upload_parts(struct req *r);
void op_list(struct req *r);
void op_list_old(struct req *r);
void op_list_versions(struct req *r);
void op_list_uploads(struct req *r);
void op_list_buckets(struct req *r);
void op_bucket_create(struct req *r);
void op_bucket_head(struct req *r);
void op_bucket_delete(struct req *r);
void op_bucket_read(struct req *r);
void op_bucket_write(struct req *r);
void op_bucket_clear(struct req *r);
/* The source of a copy, allowed and pinned. NULL: answered. */
struct version *copy_source(struct req *r);
/* ETag and checksum of bytes. false: answered. */
bool object_measure(struct req *r, const struct body *b, enum digest_kind kind, char etag[33],
		char sum[DIGEST_TEXT_BYTES]);
struct upload *upload_find(struct req *r);
/* v becomes the key's, and whoever asked about the key before hears of it. false: answered. */
bool object_put(struct req *r, struct version *v);
/* The key as a DELETE without a version leaves it. false: answered. */
bool object_delete(struct req *r, const char *key);

#endif
