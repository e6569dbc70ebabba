/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside of the S3 store; see s3.c for the picture. */
#ifndef OFS_OBJSTORE_S3_H
#define OFS_OBJSTORE_S3_H

#include <curl/curl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include "../impl.h"
#include "keeper.h"

#define S3_PRIOS (OBJ_PRIO_HOUSE + 1)
#define S3_REGION_BYTES 64u
#define S3_SIGNED_BODY_MAX_BYTES (16LL << 20)

struct s3_xfer;

struct s3_sse { /* constant after init */
	int kind; /* OBJ_SSE_* */
	char *kms_key;
	bool bucket_key;
	char key[48], key_md5[28]; /* base64; the key is a secret */
};

struct s3_store {
	struct objstore store;
	/* constant after init */
	struct mailbox *mb;
	char *bucket;
	char *scheme;   /* "http" or "https" */
	char *host;     /* with the port unless it is the scheme's own; NULL: AWS, from the region */
	bool virtual_host;
	bool request_payer;
	char *ca_file, *user_agent;
	struct s3_sse sse;
	struct s3_keeper *keeper;
	unsigned max_connections, retries, timeout_s;
	int64_t patience_ns;
	pthread_t thread;
	bool thread_running;
	CURLM *multi;
	/* shared, `lock` */
	pthread_mutex_t lock;
	struct obj_req *inbox, **inbox_last;
	bool stop;
	/* the store's thread only */
	struct s3_login login; /* as of the last look at the keeper */
	char region[S3_REGION_BYTES];
	unsigned endpoint, endpoint_away; /* bits of S3_ENDPOINT_*: in use; not reached */
	time_t clock_offset_s; /* server minus ours */
	enum { S3_ETAG_UNSURE, S3_ETAG_QUOTED, S3_ETAG_BARE } if_match_form; /* on PUT */
	enum { S3_MD5_UNSURE, S3_MD5_YES, S3_MD5_NO } etag_is_md5;
	int64_t away_since_ns;  /* the first attempt that did not reach it, with none since that did; 0: it is there */
	int64_t bucket_seen_ns; /* start of the last request that proved the bucket to be there */
	struct s3_xfer *queue[S3_PRIOS], **queue_last[S3_PRIOS];
	struct s3_xfer *waiting, *running; /* for their retry; on the wire */
	unsigned running_count, running_by[S3_PRIOS];
	CURL **idle; /* handles to use again */
	unsigned idle_count;
};

#define S3_ENDPOINT_DUAL 1u
#define S3_ENDPOINT_FAST 2u /* Transfer Acceleration */

enum s3_abort { S3_ABORT_NONE, S3_ABORT_CANCEL, S3_ABORT_LOCAL, S3_ABORT_BAD };

/* One request on its way through attempts; the store's thread only. */
struct s3_xfer {
	struct s3_store *s;
	struct obj_req *req;
	struct s3_xfer *next;
	/* this attempt */
	CURL *easy;
	struct curl_slist *headers;
	char error[CURL_ERROR_SIZE];
	bool confirm;        /* HEAD said 404 or 400: a GET asks what is missing, or why */
	bool bare;           /* If-Match without quotes */
	unsigned endpoint;   /* the kind that it went to */
	bool no_key;         /* what is to be read is not encrypted with the customer's key */
	const uint8_t *mem;  /* body; NULL: from req->fd */
	int64_t body_len, sent;
	bool signed_body;
	unsigned login;      /* generation of the credentials it is signed with */
	EVP_MD_CTX *md5, *sha256;
	struct sum sum;      /* PUT, PART: of what is sent; GET: of what has come; kind NONE: none */
	bool sum_of_parts;   /* GET: the store's is of parts' checksums */
	char sum_said[128];  /* GET: the store's; PUT, PART: what was sent with or behind the bytes */
	bool chunked;        /* PUT, PART: framed, the checksum behind the bytes */
	char frame[192];     /* what stands before them, then behind them */
	size_t frame_len, frame_sent;
	enum s3_abort abort;
	int64_t started_ns;
	/* its answer; what the caller gets is in req->result */
	long http;
	int64_t content_length; /* -1: not said */
	int64_t range_start, total; /* of Content-Range; -1: not said */
	bool framed;            /* where it ends is said */
	time_t date;            /* -1: not said */
	unsigned retry_after_s;
	char region[S3_REGION_BYTES];
	bool delete_marker, foreign_etag; /* encrypted: the ETag is no MD5 */
	uint8_t *in; /* XML, or the bytes of a GET into memory */
	size_t in_len, in_cap;
	/* over all attempts */
	uint8_t *document; /* body of Complete, of tags */
	int64_t got;       /* GET: bytes delivered */
	char *pinned;      /* GET: ETag of what `got` came from */
	unsigned attempt;
	int64_t due_ns;
	int64_t away_since_ns; /* its first attempt that did not reach the store; 0: none yet */
	bool maybe_done; /* an attempt may have taken effect */
	bool clock_set, region_set, bare_tried, confirmed, login_tried;
};

enum s3_verdict { S3_DONE, S3_RETRY, S3_AGAIN }; /* AGAIN: at once, as another request */

/* endpoint.c: the host that requests go to now; malloc, NULL: out of memory. What an attempt's end says of its kind of
 * endpoint: true: it is left, and the request goes again. */
char *s3_endpoint_host(const struct s3_store *s);
bool s3_endpoint_refused(struct s3_xfer *x, const char *said);
bool s3_endpoint_away(struct s3_xfer *x);
/* request.c: set up x->easy for the next attempt. 0 or -ENOMEM, -EINVAL. */
int s3_request_build(struct s3_xfer *x);
/* body.c: from its first byte, for another attempt; 0 or -ENOMEM. Its bytes on the wire. curl's callbacks. */
int s3_body_begin(struct s3_xfer *x);
int64_t s3_body_wire_bytes(const struct s3_xfer *x);
size_t s3_on_read(char *buf, size_t size, size_t count, void *arg);
int s3_on_seek(void *arg, curl_off_t offset, int origin);
/* receive.c: curl's callbacks; response.c: what an ended attempt means (req->result filled). */
size_t s3_on_header(char *data, size_t size, size_t count, void *arg);
size_t s3_on_data(char *data, size_t size, size_t count, void *arg);
enum s3_verdict s3_judge(struct s3_xfer *x, CURLcode code);
void s3_response_reset(struct s3_xfer *x);
/* explain.c: what went wrong; code, said: the store's, or NULL. */
void s3_explain(struct s3_xfer *x, enum obj_status status, const char *code, const char *said);
/* sse.c: false, and *error. What was asked for is in the store's answer; an ETag says nothing of the bytes. */
bool s3_sse_init(struct s3_store *s, const struct objstore_s3_conf *conf, char **error);
bool s3_sse_done(const struct s3_xfer *x);
bool s3_sse_hides_sums(const struct s3_xfer *x);
/* engine.c */
void *s3_engine(void *store);

static inline bool s3_range_asked(const struct s3_xfer *x)
{
	return x->req->length >= 0 || x->req->offset + x->got > 0;
}

#endif
