/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Buckets, keys in order, and their versions. One thread. */
#ifndef OFS_S3SIM_STORE_H
#define OFS_S3SIM_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include "body.h"
#include "digest.h"

enum versioning { VERSIONS_NEVER, VERSIONS_ON, VERSIONS_SUSPENDED };

struct pair { /* a header, a tag, a parameter */
	char *name, *value;
};
struct pairs {
	struct pair *list;
	unsigned count;
};

/* What is said of an object beside its bytes: of a version, and of an upload before. */
struct about {
	struct pairs headers;   /* as they are told again: content-type, x-amz-meta-... */
	struct pairs tags;
	char *storage_class;    /* NULL: STANDARD */
	char *sse, *sse_key;    /* AES256, aws:kms; the key's id */
	bool bucket_key;
	char *customer_md5;     /* SSE-C */
	enum digest_kind sum_kind;
	bool sum_of_parts;      /* COMPOSITE */
	char *sum;              /* base64 */
};

struct version {
	struct key *key;
	struct version *older;
	char id[40];            /* "null" where none are kept */
	bool marker;
	int64_t mtime_ns;
	char *etag;             /* hexadecimal, without quotes */
	struct body *body;
	struct about about;
	int64_t restored_ns;    /* of an archived one: since when it can be read; 0: not asked for */
	int64_t restored_until_ns;
};

struct key {
	char *name;
	struct bucket *bucket;
	struct version *newest;
	unsigned height;
	struct key *next[];
};

struct part {
	int number;
	struct body *body;
	char *etag, *sum;
	int64_t mtime_ns;
};
struct upload {
	struct upload *next;
	char *key;
	char id[40];
	int64_t begun_ns;
	struct about about;
	struct part **parts;    /* by number */
	unsigned count;
};

struct bucket {
	struct bucket *next;
	char *name;
	int64_t made_ns;
	enum versioning versioning;
	struct key *head;       /* before the first */
	uint64_t keys, random;
	struct upload *uploads; /* by key, then by age */
	struct pairs documents; /* configurations, as they came: lifecycle, ... */
};

struct store {
	struct bucket *buckets;
	uint64_t ids;
};

struct store *store_new(TALLOC_CTX *ctx);
struct bucket *store_bucket(struct store *s, const char *name);
/* NULL: out of memory. There is none of that name. */
struct bucket *store_bucket_add(struct store *s, const char *name, int64_t now_ns);
/* It is empty. */
void store_bucket_remove(struct store *s, struct bucket *b);
/* A new id of a version, an upload, or a request. */
void store_id(struct store *s, char *out, size_t cap);

/* The key, or NULL. */
struct key *bucket_key(const struct bucket *b, const char *name);
/* The first one that is not before it, or NULL. */
struct key *bucket_from(const struct bucket *b, const char *name);
/* What a GET without a version would find: NULL for none, and for a marker. */
struct version *bucket_current(const struct bucket *b, const char *name);
struct version *bucket_version(const struct bucket *b, const char *name, const char *id);
/* Takes v, made with version_new, as the key's newest; as the versioning says, it replaces one without an id. 0 or
 * -ENOMEM. */
int bucket_put(struct store *s, struct bucket *b, const char *name, struct version *v);
/* One version goes for good, and with the last one its key. */
void bucket_remove(struct bucket *b, struct version *v);

struct version *version_new(struct bucket *b, int64_t now_ns);
/* 0 or -ENOMEM. */
int about_copy(TALLOC_CTX *ctx, struct about *to, const struct about *from);
int pairs_add(TALLOC_CTX *ctx, struct pairs *p, const char *name, const char *value);
int pairs_copy(TALLOC_CTX *ctx, struct pairs *to, const struct pairs *from);
/* The value, or NULL. Names in whatever case. */
const char *pairs_get(const struct pairs *p, const char *name);

void upload_add(struct bucket *b, struct upload *u);
void upload_remove(struct bucket *b, struct upload *u);

#endif
