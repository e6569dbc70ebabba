/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Door three: the object store. One interface, three implementations: s3/ (AWS and compatible),
 * dir/ (a local directory), and the simulated one in tests/sim. The contract suite runs on all.
 *
 * A request is malloc'ed, filled and owned by the core; submit lends it to the store, which calls
 * `done` on the core thread exactly once (never from inside submit), after retries. What `result`
 * holds then belongs to the request and is freed by objstore_req_free. Keys are whole keys (the
 * volume's prefix included), UTF-8, 1 to 1,024 bytes.
 */
#ifndef OFS_OBJSTORE_H
#define OFS_OBJSTORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <talloc.h>
#include "../base/log.h"
#include "../base/mailbox.h"
#include "sum.h"

#define OBJ_KEY_MAX_BYTES 1024u
#define OBJ_META_MAX_BYTES 2048u /* user metadata, names and values */
#define OBJ_PUT_MAX_BYTES (5LL << 30)
#define OBJ_PART_MIN_BYTES (5LL << 20)
#define OBJ_PARTS_ABOVE_BYTES (64LL << 20)
#define OBJ_PARTS_MAX 10000

enum obj_op {
	OBJ_HEAD,
	OBJ_GET,
	OBJ_PUT,
	OBJ_COPY,
	OBJ_DELETE,
	OBJ_LIST,
	OBJ_VERSIONS,   /* of one key, newest first */
	OBJ_UPLOADS,    /* multipart uploads not ended, of keys that begin so, in pages: rows whose version_id
			 * is the upload's id, mtime when it began */
	OBJ_VERSIONING, /* of the bucket; the key is "" */
	OBJ_MPU_CREATE,
	OBJ_MPU_PART,
	OBJ_MPU_COPY, /* a part, of bytes that the store has already: source_* */
	OBJ_MPU_COMPLETE,
	OBJ_MPU_ABORT,
	OBJ_TAGS,
	OBJ_SET_TAGS, /* all of them: `tags` of the request */
	OBJ_OP_MAX
};

/* The only place where retryability is decided. */
enum obj_status {
	OBJ_OK,
	OBJ_NOT_FOUND,    /* certain: the key is absent */
	OBJ_NO_BUCKET,    /* the bucket is absent: nothing may be concluded about keys */
	OBJ_PRECONDITION, /* 412: someone else wrote */
	OBJ_CONFLICT,     /* 409: re-read and try again */
	OBJ_DENIED,       /* credentials or rights; message names what is missing */
	OBJ_INVALID,      /* the store refuses the request as such; no retry helps */
	OBJ_ARCHIVED,     /* the object must be restored before it can be read or copied */
	OBJ_DAMAGED,      /* the store has the object and gives out only a part of it, each time; PUT: has it, under
			   * the result's ETag, with other bytes than were sent */
	OBJ_UNKNOWN,      /* a mutation whose outcome is not known: HEAD and compare (MPU_CREATE: list) */
	OBJ_AWAY,         /* unreachable, throttled or failing after all retries; nothing happened */
	OBJ_CANCELLED,    /* the caller's `cancelled` or `still_valid` said so; nothing happened */
	OBJ_LOCAL,        /* reading the source or writing the sink failed; local_errno */
	OBJ_STATUS_MAX
};

/* Kinds of requests that need a right of their own. What stands first explains what comes after it. */
enum obj_want {
	OBJ_WANT_LIST,
	OBJ_WANT_READ,
	OBJ_WANT_WRITE,
	OBJ_WANT_COPY,
	OBJ_WANT_DELETE,
	OBJ_WANT_ABORT,
	OBJ_WANT_UPLOADS,
	OBJ_WANT_TAGS,
	OBJ_WANT_VERSIONS,
	OBJ_WANT_VERSIONING,
	OBJ_WANT_SET_TAGS,
	OBJ_WANTS
};
#define OBJ_RIGHT_BYTES 64u
#define OBJ_RIGHT_NOT_SAID "?"
struct obj_denial {
	int64_t at_ns; /* times_now_ns; 0: not refused */
	char text[320];
};

enum obj_prio { OBJ_PRIO_READER, OBJ_PRIO_AHEAD, OBJ_PRIO_UPLOAD, OBJ_PRIO_HOUSE };

/* What the store honours, found by a probe in the volume's prefix. */
struct obj_caps {
	bool put_if_match, put_if_none_match;
	bool complete_if_match, complete_if_none_match;
	bool copy_if_match_source, copy_if_none_match_dest;
	bool part_copy_if_match, part_copy_version; /* what pins the source of a part that is a copy */
	bool delete_if_match;
	bool versioned, lists_versions; /* lists_versions: asked where nothing else tells writers apart */
	bool versions_denied;           /* not lists_versions, because a right is missing */
	int fence_class; /* 3, 2, 1, 0 as in the design */
	bool no_copy;    /* it does not copy the volume's objects by itself (encrypted ones: RGW 16) */
};

/* One question of a probe, for people. */
#define OBJ_PROBE_STEPS_MAX 24u
enum obj_probe_sum_step { /* after them */
	OBJ_PROBE_SUM_WRONG = OBJ_PROBE_STEPS_MAX,
	OBJ_PROBE_SUM_RIGHT,
	OBJ_PROBE_SUM_TRAILER,
	OBJ_PROBE_SUM_READ,
	OBJ_PROBE_ALL_STEPS
};
struct obj_probe_step {
	const char *op, *condition; /* constant */
	enum obj_status expected, got;
};

struct obj_meta { /* user metadata without the x-amz-meta- prefix, names lower case */
	char *name;
	char *value;
};

/*
 * What an object has beside bytes and user metadata: P(field, HTTP header, word in dir/'s heads). A request
 * sets what it names (PUT, MPU_CREATE, COPY with replace_meta; a COPY without takes those of the source but
 * for what begins with storage_class), an answer to HEAD or GET tells all but the tags: these, as a URL's
 * query, OBJ_TAGS does.
 */
#define OBJ_PROPS(P)                                                                               \
	P(content_type, "content-type", "type")                                                    \
	P(cache_control, "cache-control", "cache-control")                                         \
	P(content_disposition, "content-disposition", "disposition")                               \
	P(content_encoding, "content-encoding", "encoding")                                        \
	P(content_language, "content-language", "language")                                        \
	P(expires, "expires", "expires")                                                           \
	P(redirect, "x-amz-website-redirect-location", "redirect")                                 \
	P(storage_class, "x-amz-storage-class", "class")                                           \
	P(sse, "x-amz-server-side-encryption", "sse")                                              \
	P(sse_key, "x-amz-server-side-encryption-aws-kms-key-id", "sse-key")                       \
	P(bucket_key, "x-amz-server-side-encryption-bucket-key-enabled", "bucket-key")             \
	P(tags, "x-amz-tagging", "tags")
#define OBJ_PROP_NUMBER(field, header, word) OBJ_PROP_##field,
#define OBJ_PROP_FIELD(field, header, word) char *field;
enum obj_prop { OBJ_PROPS(OBJ_PROP_NUMBER) OBJ_PROP_MAX };
#define OBJ_DEFAULT_TYPE "binary/octet-stream" /* of what was put without one */

struct obj_entry { /* a LIST or VERSIONS row */
	char *key;  /* whole key, or common prefix ending in the delimiter */
	bool is_prefix;
	int64_t size;
	int64_t mtime_ns;
	char *etag;
	char *storage_class;
	char *version_id; /* VERSIONS; "null": from a time without versions */
	bool is_marker;   /* VERSIONS: of a delete; no size, no ETag */
};

/* May what an answer says be believed? Only where there is a door. */
enum obj_proof {
	OBJ_PROOF_NOT_ASKED,
	OBJ_PROOF_GOOD,
	OBJ_PROOF_MISSING,
	OBJ_PROOF_OTHER_KEY,
	OBJ_PROOF_WRONG,
};

struct obj_result {
	enum obj_status status;
	int http_status;   /* 0: none */
	int local_errno;
	char *message;     /* for people, with the remedy where one is known; never secrets */
	char *request_id;  /* the store's own, for the log */
	bool unsupported;  /* INVALID: the store does not do this at all, though others do */
	char right[OBJ_RIGHT_BYTES]; /* DENIED for lack of a right: which, if the store says it, else
				      * OBJ_RIGHT_NOT_SAID; "": no right would help */
	/* HEAD, GET, PUT, COPY, COMPLETE, PART, MPU_COPY (of the part), DELETE (of the marker it left): */
	char *etag;        /* without quotes; NULL: the store did not say */
	char *version_id;  /* NULL: unversioned, or not said */
	int64_t size;      /* HEAD: of the object; GET: bytes delivered */
	int64_t mtime_ns;  /* Last-Modified; PUT, COMPLETE: not earlier than that; 0: not known */
	union { /* HEAD, GET, TAGS; owned */
		char *props[OBJ_PROP_MAX];
		struct { OBJ_PROPS(OBJ_PROP_FIELD) };
	};
	bool customer;      /* encrypted with a key of the customer's, the volume's that is */
	unsigned tag_count; /* HEAD, GET: as far as we may know */
	struct obj_meta *meta; /* HEAD, GET */
	unsigned meta_count;
	enum obj_proof proof;  /* HEAD, GET */
	uint8_t *body;     /* GET with sink OBJ_SINK_MEMORY; malloc, NUL added behind */
	size_t body_len;
	uint8_t sha256[32]; /* PUT, PART from a descriptor: of the bytes that were sent */
	/* LIST, VERSIONS: */
	struct obj_entry *entries;
	unsigned entry_count;
	char *next_token;  /* NULL: the listing is complete */
	char *upload_id;   /* MPU_CREATE */
	bool more_begun;   /* MPU_CREATE: another try of it was answered to nobody, and may have begun one, too */
	bool upload_gone;  /* PART, MPU_COPY, COMPLETE: the store knows no such upload (any more) */
	char *sum;         /* PART: the checksum that was sent, for Complete; MPU_COPY: that the store made; HEAD, if asked
			    * for: of the whole object; NULL: none */
	enum obj_sum sum_kind; /* HEAD: of which kind it is */
	bool held;         /* GET: what has come is what the store has the checksum of */
	bool versioned;    /* VERSIONING: what is replaced or deleted stays as a version */
};

struct obj_part { /* MPU_COMPLETE */
	int number; /* from 1, ascending */
	const char *etag;
	const char *sum; /* its answer's; NULL: none */
};

struct obj_req {
	/* constant after submit */
	enum obj_op op;
	enum obj_prio prio;
	bool as_it_is;    /* conditions of a PUT are sent though the store does not honour them */
	bool rights_told; /* the caller says what a refusal means: rights.c does not */
	bool wants_sum;   /* HEAD: the checksum that the store keeps of the whole object, if it does */
	uint64_t request_id; /* of the client's request that caused it, 0: none; for the log */
	char *key;           /* owned; LIST: the prefix ("" allowed) */
	char *version_id;    /* owned; HEAD, GET: this version, NULL: the current one */
	char *if_match;      /* owned, ETag without quotes; PUT, GET, COPY (dest), DELETE, COMPLETE */
	bool if_none_match;  /* "*": only if absent; PUT, COPY (dest), COMPLETE */
	/* PUT, PART: the body is memory (owned, malloc) or a range of a descriptor (borrowed) */
	uint8_t *body;
	int fd;              /* -1: body */
	int64_t offset;      /* PUT, PART: of the range in fd; GET, MPU_COPY: first byte wanted */
	int64_t length;      /* PUT, PART: bytes of fd or body; GET, MPU_COPY: bytes wanted, -1: all; COMPLETE: of the
			      * object, 0: not said */
	struct obj_meta *meta; /* owned; PUT, MPU_CREATE, COPY with replace_meta */
	unsigned meta_count;
	union { /* owned; NULL: the store's default */
		char *props[OBJ_PROP_MAX];
		struct { OBJ_PROPS(OBJ_PROP_FIELD) };
	};
	/* HEAD: that there is none is nothing unusual, and does no harm where it is not so: believed of a store that
	 * has lately had the bucket. Else it is asked for once more, in a way that tells which of the two is gone. */
	bool may_lack;
	/* GET: sink_fd >= 0: pwrite at sink_offset (borrowed); -1: result.body */
	int sink_fd;
	int64_t sink_offset;
	/* COPY, MPU_COPY */
	char *source_key;        /* owned */
	char *source_if_match;   /* owned */
	char *source_version_id; /* owned or NULL */
	bool source_customer;    /* it is encrypted with the volume's own key */
	bool replace_meta;       /* false: metadata of the source */
	/* LIST, VERSIONS */
	char delimiter;      /* 0: flat */
	char *token;         /* owned; NULL: from the start */
	char *after;         /* LIST: owned; only what stands behind this key below the prefix, be it there or not */
	int max_keys;        /* 0: 1,000 */
	/* MPU_PART, MPU_COPY, COMPLETE, ABORT */
	char *upload_id;     /* owned */
	int part_number;
	bool opaque_etag; /* PART: of an object that will be encrypted, its ETag says nothing of the bytes */
	struct obj_part *parts; /* owned array, etags borrowed */
	unsigned part_count;
	char *whole_sum;  /* COMPLETE: owned; of the whole object, of the kind that the parts have, a CRC; NULL: not known */
	/* PUT: the probe's; a checksum that is wrong, a right one, or one behind the bytes, although nobody knows yet */
	enum { OBJ_SUM_PROBE_NONE, OBJ_SUM_PROBE_WRONG, OBJ_SUM_PROBE_RIGHT, OBJ_SUM_PROBE_TRAILER } sum_probe;
	/* Polled by the store's thread before sending the last bytes of a body; false: cancel. */
	bool (*still_valid)(void *arg);
	void *still_valid_arg;
	/* shared: set by the core at any time */
	_Atomic bool cancelled;
	/* core only */
	void (*done)(struct obj_req *);
	void *arg;
	struct obj_result result;
	/* store only */
	struct letter letter;
	struct obj_req *next;
	int64_t submitted_ns;
	const struct log_volume *log; /* the store's */
	bool has_door;
	struct objstore *store;
	void *impl;
};

/* Where a store's credentials are from, for people; no secrets. */
struct obj_login {
	char source[256];  /* "": there are none yet */
	int64_t expires_s; /* since the epoch; 0: not said */
	char error[1536];  /* why the last search for new ones failed; "": it did not */
};

/* Who sees each request before the store does, and each answer before its `done`. Core thread. */
struct obj_door {
	int (*out)(struct obj_door *, struct obj_req *); /* 0, or -ENOMEM: it is not sent */
	void (*in)(struct obj_door *, struct obj_req *);
};

struct log_volume;
struct objstore;
struct objstore_ops {
	const char *name;
	/* A request whose result.status is not OBJ_OK was refused by objstore_submit: deliver it as it
	 * is, run nothing. */
	void (*submit)(struct objstore *, struct obj_req *);
	/* Which credentials it goes by; NULL: needs none. */
	void (*login)(struct objstore *, struct obj_login *out);
};
/* talloc; implementations embed it first. talloc_free stops its threads; requests not finished come
 * back through the mailbox as OBJ_CANCELLED (OBJ_UNKNOWN where they may have taken effect). */
struct objstore {
	const struct objstore_ops *ops;
	struct obj_caps caps; /* core only; all false until objstore_probe is done */
	struct obj_probe_step probe_steps[OBJ_PROBE_STEPS_MAX]; /* core only: what it concluded from */
	unsigned probe_count;
	unsigned char probe_unsure[OBJ_PROBE_ALL_STEPS]; /* core only: probes in a row in which a step failed */
	/* Versions came with the last PUT: 1; none came: -1; 0: none since the last probe. Any thread. */
	_Atomic int put_versioned;
	struct obj_denial denied[OBJ_WANTS]; /* core only, as what follows: rights.c */
	struct objstore *live_next;
	unsigned asking; /* bits of enum obj_op */
	bool live;
	const struct log_volume *log; /* whose store it is; set before the first request */
	struct obj_door *door; /* NULL: none; set before the first request */
	uint64_t changes;     /* core only: requests so far that may change the bucket */
	bool read_only;       /* core only: what would change the bucket is refused (INVALID) */
	/* Constant: the most that one PUT takes, and from which size on parts are better; 0: as on AWS. */
	int64_t put_max_bytes, parts_above_bytes;
	enum obj_sum sum_wanted; /* constant */
	_Atomic int sum;           /* enum obj_sum that it checks, not AUTO; set by the probe; any thread */
	_Atomic bool sum_trailer;  /* it takes one behind the bytes */
	_Atomic bool etag_md5;     /* an ETag of 32 digits is the MD5 of the bytes, unless they are encrypted
				    * (objstore_etag_opaque): found by writes whose bytes it had checked */
	_Atomic int trouble;    /* enum obj_status of the last answer that says the store cannot be used as
				 * it is: AWAY, DENIED, NO_BUCKET; OBJ_OK since another one; any thread */
	int64_t trouble_since_ns; /* core only, by times_now_ns: requests have been failing for that since; 0: they do not */
	int64_t trouble_told_ns;  /* core only: when the log last said so; 0: never */
	bool trouble_told;        /* core only: it has, and not yet that it is over */
	_Atomic int64_t clock_offset_s; /* the store's clock minus ours, by its last answer; any thread */
	_Atomic int64_t since_boot_ns;  /* the store's clock minus CLOCK_BOOTTIME, by the same; 0: it never said; any thread */
	char *where;          /* for people: "s3://bucket/prefix at http://..." or "dir /path" */
};

struct clock;
/* What time it is by the store's clock, which dates objects: however this machine's clock is set meanwhile, two of
 * these can be compared. A store that never said has this machine's. Core only. */
int64_t objstore_now_ns(const struct objstore *s, struct clock *clock);
/* All fields zero, fd and sink_fd -1, key copied. NULL: out of memory. */
struct obj_req *objstore_req_new(enum obj_op op, const char *key);
/* Append user metadata (copied). 0 or -ENOMEM. */
int objstore_req_meta(struct obj_req *req, const char *name, const char *value);
void objstore_req_free(struct obj_req **req);
/* Refuses (through done, OBJ_INVALID) keys, metadata and sizes beyond AWS's limits. */
void objstore_submit(struct objstore *s, struct obj_req *req);
/* The object is encrypted so that its ETag says nothing of its bytes, and a copy of it has another one. */
bool objstore_etag_opaque(const struct obj_result *r);
/* What keeps `value` from being sent as this property, or NULL. */
const char *objstore_prop_refusal(enum obj_prop prop, const char *value);
/* What keeps this user metadata from being sent, its length apart; or NULL. */
const char *objstore_meta_refusal(const char *name, const char *value);
/* What keeps parts from being copied from this key, or NULL. */
const char *objstore_part_source_refusal(const char *key);
/* The header's name, as people know it. */
const char *objstore_prop_name(enum obj_prop prop);
/* Value of user metadata in a result, or NULL. */
const char *objstore_meta_get(const struct obj_result *r, const char *name);
const char *objstore_status_name(enum obj_status s);
/* Requests of this kind that ended so since the start of the process, retries not counted. Any thread. */
int64_t objstore_ended(enum obj_op op, enum obj_status s);
const char *objstore_op_name(enum obj_op op);
/* What requests of this kind are refused for, as one sentence that names the right; NULL: they are not, or an
 * earlier kind's sentence says it. Core; as old as the store, changes with it. */
const char *objstore_denied(const struct objstore *s, enum obj_want want);
/* At which level to log that something failed for the store: `level`, or, while it cannot be used at all and the log
 * says so once for all, debug. Core. */
enum log_level objstore_trouble_level(const struct objstore *s, enum log_level level);
/* true: the same request may succeed later without anybody acting (AWAY, CONFLICT, UNKNOWN). */
bool objstore_status_transient(enum obj_status s);

/*
 * Find out what the store honours, one positive and one negative case per operation, with scratch
 * objects below `prefix` (removed again); fills s->caps and s->probe_steps. done(status, message) on the core thread.
 */
void objstore_probe(struct objstore *s, const char *prefix,
		void (*done)(enum obj_status, const char *message, void *arg), void *arg);

/* It honours no conditions on PUT, or not all: whoever relies on one looks himself. Not known before the probe. */
static inline bool objstore_unfenced(const struct objstore *s)
{
	return s->caps.fence_class == 1 || (s->caps.fence_class == 0 && s->probe_count > 0);
}

static inline int64_t objstore_put_max(const struct objstore *s)
{
	return s->put_max_bytes > 0 ? s->put_max_bytes : OBJ_PUT_MAX_BYTES;
}

static inline int64_t objstore_parts_above(const struct objstore *s)
{
	return s->parts_above_bytes > 0 ? s->parts_above_bytes : OBJ_PARTS_ABOVE_BYTES;
}

static inline bool objstore_complete_fenced(const struct objstore *s, const char *if_match)
{
	return if_match != NULL ? s->caps.complete_if_match : s->caps.complete_if_none_match;
}

struct objstore_s3_conf { /* strings borrowed during new */
	const char *bucket, *endpoint, *region; /* endpoint NULL: AWS's for the region */
	enum { OBJ_ADDR_AUTO, OBJ_ADDR_PATH, OBJ_ADDR_VIRTUAL } addressing;
	bool dual_stack, acceleration; /* AWS's endpoints of that kind, as far as they answer; endpoint NULL */
	bool request_payer; /* we pay for requests to somebody else's bucket */
	const char *ca_file; /* NULL: system's */
	enum { OBJ_SSE_NONE, OBJ_SSE_S3, OBJ_SSE_KMS, OBJ_SSE_CUSTOMER } encryption; /* of all that is written */
	enum obj_sum checksum;
	const char *kms_key; /* NULL: the account's own */
	bool bucket_key;
	const char *customer_key_file;
	/* credentials: these, or whatever AWS's tools would find (s3/creds.h) */
	const char *access_key, *secret_key, *session_token;
	const char *profile, *credentials_file;
	const char *user_agent;
	unsigned max_connections;   /* 0: 32 */
	unsigned retries;           /* 0: 5 */
	int64_t patience_ns;        /* so long from its beginning an outage is ridden out by what a reader waits for */
	unsigned request_timeout_s; /* 0: 30; no byte moved for so long */
};
/* NULL and *error (talloc child of ctx, a sentence that says what to do). */
struct objstore *objstore_s3_new(TALLOC_CTX *ctx, struct mailbox *mb,
		const struct objstore_s3_conf *conf, char **error);
/* Objects as files below `root` (made if absent); safe for several processes at once. Fence class 3,
 * no versions, unless ROOT/store says otherwise (dir/rules.c). Threads of its own. NULL and *error. */
struct objstore *objstore_dir_new(TALLOC_CTX *ctx, struct mailbox *mb, const char *root,
		unsigned threads, char **error);

#endif
