/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From S3's answers to the few statuses the rest of the daemon knows.
 *
 *   headers, bytes -> [receive.c]  the end -> [s3_judge] -> done, retry, again
 *
 * Way:    curl on the store's thread; then engine.c acts on the verdict.
 * Thread: the store's.
 * Holds:  1. Absence is certain or it is not said: a 404 counts with S3's own reason only, and
 *            HEAD, which has no body to carry one, is confirmed by a GET; so is what it is refused for.
 *         2. A 200 whose body is an <Error> is an error (Copy, Complete).
 *         3. Nothing is "away" that may have happened: x->maybe_done turns it into OBJ_UNKNOWN
 *            (engine.c, deliver).
 *         4. A GET is whole or not OK.
 *         5. What has not the marks of S3's answers is somebody's in between (a captive portal's page,
 *            a proxy's), and says nothing: neither success nor refusal.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "s3.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "cached/base/stats.h"
#include "xml.h"

#define BUCKET_SEEN_FOR_NS (10 * 1000000000LL)
#define SKEW_S 300

/* --- errors --- */

enum kind {
	K_STATUS,   /* final */
	K_THROTTLE, /* nothing happened: again, slower */
	K_REPEAT,   /* nothing happened: again */
	K_UNSURE,   /* a mutation may have happened */
	K_SKEW,
	K_REGION,
	K_UPLOAD_GONE,
	K_LOGIN,    /* the credentials are refused as such */
};

static const struct known {
	const char *code;
	enum kind kind;
	enum obj_status status;
} known[] = {
	{ "NoSuchBucket", K_STATUS, OBJ_NO_BUCKET },
	{ "NoSuchKey", K_STATUS, OBJ_NOT_FOUND },
	{ "NoSuchVersion", K_STATUS, OBJ_NOT_FOUND },
	{ "NoSuchUpload", K_UPLOAD_GONE, OBJ_INVALID },
	{ "PreconditionFailed", K_STATUS, OBJ_PRECONDITION },
	{ "ConditionalRequestConflict", K_STATUS, OBJ_CONFLICT },
	{ "OperationAborted", K_STATUS, OBJ_CONFLICT },
	{ "InvalidObjectState", K_STATUS, OBJ_ARCHIVED },
	{ "ExpiredToken", K_LOGIN, OBJ_DENIED },
	{ "TokenRefreshRequired", K_LOGIN, OBJ_DENIED },
	{ "InvalidToken", K_LOGIN, OBJ_DENIED },
	{ "InvalidAccessKeyId", K_LOGIN, OBJ_DENIED },
	{ "SignatureDoesNotMatch", K_LOGIN, OBJ_DENIED },
	{ "AccessDenied", K_STATUS, OBJ_DENIED },
	{ "RequestTimeTooSkewed", K_SKEW, OBJ_DENIED },
	{ "AuthorizationHeaderMalformed", K_REGION, OBJ_DENIED },
	{ "PermanentRedirect", K_REGION, OBJ_INVALID },
	{ "TemporaryRedirect", K_REGION, OBJ_INVALID },
	{ "SlowDown", K_THROTTLE, OBJ_AWAY },
	{ "ServiceUnavailable", K_THROTTLE, OBJ_AWAY },
	{ "Throttling", K_THROTTLE, OBJ_AWAY },
	{ "RequestLimitExceeded", K_THROTTLE, OBJ_AWAY },
	{ "RequestTimeout", K_REPEAT, OBJ_AWAY },
	{ "IncompleteBody", K_REPEAT, OBJ_AWAY },
	{ "BadDigest", K_REPEAT, OBJ_AWAY },
	{ "XAmzContentSHA256Mismatch", K_REPEAT, OBJ_AWAY },
	{ "InternalError", K_UNSURE, OBJ_AWAY },
};

static struct known classify(const struct s3_xfer *x, const char *code)
{
	struct known k = { code, K_STATUS, OBJ_INVALID };

	bool wrong_sum = x->req->sum_probe == OBJ_SUM_PROBE_WRONG && x->http == 400;

	if (wrong_sum && code != NULL &&
			(strcmp(code, "BadDigest") == 0 || strcmp(code, "XAmzContentSHA256Mismatch") == 0)) {
		return k; /* what it was sent for */
	}
	for (size_t i = 0; code != NULL && i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(known[i].code, code) == 0) {
			return known[i];
		}
	}
	if (wrong_sum) {
		return k;
	}
	switch (x->http) {
	case 301:
	case 307:
		k.kind = K_REGION;
		if (code != NULL || x->region[0] != '\0') {
			break;
		}
		/* fall through */
	case 300:
	case 302:
	case 303:
	case 308:
		k.kind = K_REPEAT;
		k.status = OBJ_AWAY;
		break;
	case 401:
	case 403:
		k.status = OBJ_DENIED;
		if (code == NULL && x->date != -1 && llabs((long long)(x->date - time(NULL) -
						       x->s->clock_offset_s)) > SKEW_S) {
			k.kind = K_SKEW;
		} else if (code == NULL && x->req->op == OBJ_HEAD) {
			k.kind = K_LOGIN; /* no body says whether it is a right or the key */
		}
		break;
	case 404: /* some proxy's: says nothing about the key */
		k.kind = K_REPEAT;
		k.status = OBJ_AWAY;
		break;
	case 408:
		k.kind = K_REPEAT;
		k.status = OBJ_AWAY;
		break;
	case 409:
		k.status = OBJ_CONFLICT;
		break;
	case 412:
		k.status = OBJ_PRECONDITION;
		break;
	case 429:
	case 503:
		k.kind = K_THROTTLE;
		k.status = OBJ_AWAY;
		break;
	case 501:
		break;
	default:
		if (x->http >= 500) {
			k.kind = K_UNSURE;
			k.status = OBJ_AWAY;
		}
		break;
	}
	if (code == NULL && x->http == 400 && x->region[0] != '\0') {
		k.kind = K_REGION; /* HEAD: no body, but this header */
	} else if (code == NULL && x->http == 400 && (x->req->op != OBJ_HEAD || x->confirm)) {
		k.kind = K_REPEAT;
		k.status = OBJ_AWAY;
	} else if (code == NULL && x->http == 400 && x->s->login.creds.session_token[0] != '\0') {
		k.kind = K_LOGIN; /* so AWS answers a HEAD with a token that has expired */
		k.status = OBJ_DENIED;
	}
	return k;
}

static bool region_valid(const char *region)
{
	size_t len = strlen(region);

	return len > 0 && len < S3_REGION_BYTES &&
	       strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

/* The request reached the store whole, so that it may have been carried out. */
static bool went_out(const struct s3_xfer *x)
{
	long bytes = 0;

	if (x->body_len > 0) {
		return x->sent == x->body_len;
	}
	curl_easy_getinfo(x->easy, CURLINFO_REQUEST_SIZE, &bytes);
	return bytes > 0;
}

static enum s3_verdict unsure(struct s3_xfer *x)
{
	if (obj_op_mutates(x->req->op) && went_out(x)) {
		x->maybe_done = true;
		if (obj_req_conditional(x->req)) {
			return S3_DONE; /* again, it might fail for its own first success */
		}
	}
	return S3_RETRY;
}

static enum s3_verdict judge_kind(struct s3_xfer *x, struct known k, const char *region)
{
	switch (k.kind) {
	case K_THROTTLE:
	case K_REPEAT:
		return S3_RETRY;
	case K_UNSURE:
		return unsure(x);
	case K_UPLOAD_GONE:
		x->req->result.upload_gone = true;
		if (x->req->op == OBJ_MPU_ABORT) {
			obj_result_clear(&x->req->result); /* nothing to end */
		} else if (x->maybe_done) {
			obj_fail(x->req, OBJ_UNKNOWN, "the multipart upload is gone, perhaps because an "
					"earlier attempt completed it");
		}
		return S3_DONE;
	case K_SKEW:
		if (!x->clock_set && x->date != -1) {
			x->clock_set = true;
			x->s->clock_offset_s = x->date - time(NULL);
			return S3_AGAIN;
		}
		return S3_DONE;
	case K_LOGIN:
		if (!x->login_tried && s3_keeper_refused(x->s->keeper, x->login)) {
			x->login_tried = true;
			return S3_AGAIN;
		}
		return S3_DONE;
	case K_REGION:
		if (!x->region_set && region_valid(region) && strcmp(region, x->s->region) != 0) {
			x->region_set = true;
			snprintf(x->s->region, sizeof(x->s->region), "%s", region);
			return S3_AGAIN;
		}
		obj_fail(x->req, OBJ_INVALID, "the bucket \"%s\" is in another region than \"%s\"%s%s: "
				"correct the volume's region", x->s->bucket, x->s->region,
				region_valid(region) ? ", in " : "", region_valid(region) ? region : "");
		return S3_DONE;
	default:
		return S3_DONE;
	}
}

/* What has come of the object counts for nothing. */
static void from_the_beginning(struct s3_xfer *x)
{
	x->got = 0;
	x->in_len = 0;
	free(x->pinned);
	x->pinned = NULL;
}

/* An object that changed under a broken-off GET: from its beginning, unless one was asked for. */
static bool restart_get(struct s3_xfer *x)
{
	if (x->req->op != OBJ_GET || x->http != 412 || x->req->if_match != NULL || x->got == 0) {
		return false;
	}
	from_the_beginning(x);
	return true;
}

static enum s3_verdict judge_error(struct s3_xfer *x)
{
	struct obj_req *req = x->req;
	struct s3_answer a = { 0 };
	struct known k;
	enum s3_verdict v;
	/* a GET that goes on has object bytes before the error's text */
	size_t skip = req->op == OBJ_GET && req->sink_fd < 0 ? (size_t)x->got : 0;

	if (x->in_len > skip) {
		s3_answer_parse(x->in + skip, x->in_len - skip, &a);
		x->in_len = skip;
	}
	k = classify(x, a.code);
	if (k.status == OBJ_NOT_FOUND || k.status == OBJ_PRECONDITION) {
		x->s->bucket_seen_ns = x->started_ns;
	}
	if (x->http == 404 && a.code == NULL && req->op == OBJ_HEAD && !x->confirm) {
		s3_answer_fini(&a);
		if (x->delete_marker || (req->may_lack && req->result.request_id != NULL &&
				s3_now_ns() - x->s->bucket_seen_ns < BUCKET_SEEN_FOR_NS)) {
			obj_fail(req, OBJ_NOT_FOUND, "no such object");
			return S3_DONE;
		}
		x->confirm = true;
		return S3_AGAIN;
	}
	if (x->http == 400 && a.code == NULL && req->op == OBJ_HEAD && !x->confirm && x->region[0] == '\0' &&
			x->s->sse.kind != OBJ_SSE_CUSTOMER && x->s->login.creds.session_token[0] == '\0') {
		s3_answer_fini(&a);
		x->confirm = true; /* a time-out, a token, a key: GET says which */
		return S3_AGAIN;
	}
	if (x->s->sse.kind == OBJ_SSE_CUSTOMER && x->http == 400 && !x->no_key &&
			(req->op == OBJ_HEAD || req->op == OBJ_GET)) {
		s3_answer_fini(&a);
		x->no_key = true; /* perhaps another tool's, and encrypted otherwise or not at all */
		return S3_AGAIN;
	}
	if (s3_endpoint_refused(x, a.message)) {
		s3_answer_fini(&a);
		return S3_AGAIN;
	}
	if (restart_get(x)) {
		s3_answer_fini(&a);
		obj_fail(req, OBJ_AWAY, "the object keeps changing while it is read");
		return S3_RETRY;
	}
	if (k.status == OBJ_PRECONDITION && req->if_match != NULL && req->op == OBJ_PUT &&
			x->s->if_match_form == S3_ETAG_UNSURE && !x->bare_tried) {
		x->bare_tried = true; /* Ceph RGW 16 compares with the bare ETag only */
		s3_answer_fini(&a);
		return S3_AGAIN;
	}
	s3_explain(x, k.status, a.code, a.message);
	req->result.unsupported = x->http == 501;
	if (a.request_id != NULL && req->result.request_id == NULL) {
		req->result.request_id = a.request_id;
		a.request_id = NULL;
	}
	if (req->op == OBJ_DELETE && k.status == OBJ_NOT_FOUND && k.kind == K_STATUS) {
		obj_result_clear(&req->result);
		v = S3_DONE;
	} else {
		v = judge_kind(x, k, a.region != NULL ? a.region : x->region);
	}
	s3_answer_fini(&a);
	return v;
}

/* --- successes --- */

static enum s3_verdict not_understood(struct s3_xfer *x)
{
	obj_fail(x->req, OBJ_AWAY, "%s: the store's answer could not be understood (%s)",
			objstore_op_name(x->req->op), x->s->store.where);
	return unsure(x);
}

/* No answer to a PUT says Last-Modified; it is not later than the answer. */
static void date_stands_for_mtime(struct s3_xfer *x)
{
	if (x->req->result.mtime_ns == 0 && x->date != -1) {
		x->req->result.mtime_ns = (int64_t)x->date * 1000000000;
	}
}

static enum s3_verdict judge_document(struct s3_xfer *x)
{
	struct obj_req *req = x->req;
	struct s3_answer a;
	int ret = s3_answer_parse(x->in == NULL ? (const uint8_t *)"" : x->in, x->in_len, &a);
	enum s3_verdict v = S3_DONE;

	if (a.root != NULL && strcmp(a.root, "Error") == 0) {
		s3_answer_fini(&a);
		x->http = 500; /* what it would have been, had the answer not begun already */
		return judge_error(x);
	}
	if (ret != 0 || a.root == NULL || strcasecmp(a.root, "html") == 0) {
		v = not_understood(x);
	} else if (req->op == OBJ_VERSIONING) {
		req->result.versioned = a.status != NULL && strcmp(a.status, "Enabled") == 0;
	} else if (req->op == OBJ_MPU_CREATE) {
		req->result.upload_id = a.upload_id;
		a.upload_id = NULL;
		if (req->result.upload_id == NULL || req->result.upload_id[0] == '\0') {
			v = not_understood(x);
		}
	} else {
		enum obj_sum kind = (enum obj_sum)atomic_load(&x->s->store.sum);

		free(req->result.etag);
		req->result.etag = a.etag;
		a.etag = NULL;
		if (req->op == OBJ_MPU_COPY && kind != OBJ_SUM_NONE) {
			req->result.sum = a.sums[kind];
			a.sums[kind] = NULL;
		}
		if (a.last_modified != NULL) {
			int64_t ns = s3_time_parse(a.last_modified);

			req->result.mtime_ns = ns < 0 ? 0 : ns;
		}
		date_stands_for_mtime(x);
	}
	s3_answer_fini(&a);
	return v;
}

/* Once, it is the network; as the last of all attempts, it is the object. */
static enum s3_verdict broke_off(struct s3_xfer *x)
{
	obj_fail(x->req, OBJ_DAMAGED, "the store's answer broke off each time: it does not give out all "
			"bytes of the object (%s)", x->s->store.where);
	return S3_RETRY;
}

/* What has come against what the store keeps the checksum of. Once, it is the way; each time, the object. */
static bool same_sum(struct s3_xfer *x)
{
	char text[OBJ_SUM_TEXT_BYTES];

	if (x->sum.kind == OBJ_SUM_NONE) {
		return true;
	}
	sum_text(&x->sum, text);
	if (strcmp(text, x->sum_said) == 0) {
		x->req->result.held = true;
		return true;
	}
	obj_fail(x->req, OBJ_DAMAGED, "the bytes that came are not those that the store has the checksum of (%s, "
			"%s)", sum_name(x->sum.kind), x->s->store.where);
	from_the_beginning(x);
	return false;
}

static enum s3_verdict judge_get(struct s3_xfer *x)
{
	struct obj_req *req = x->req;

	bool cut = x->total >= 0 && req->offset + x->got < x->total &&
		   (req->length < 0 || x->got < req->length);

	if (cut || (x->content_length >= 0 && x->sent != x->content_length)) {
		return broke_off(x);
	}
	/* It has ended; but is that all? Nothing, in answer to what should begin further on, is no rest either. */
	if (!x->framed || (x->sent == 0 && x->total < 0 && req->offset + x->got > 0)) {
		return not_understood(x);
	}
	if (!same_sum(x)) {
		return S3_RETRY;
	}
	req->result.size = x->got;
	if (req->sink_fd < 0) {
		if (x->in == NULL) {
			x->in = calloc(1, 1);
		}
		if (x->in == NULL) {
			obj_fail(req, OBJ_LOCAL, "out of memory");
			return S3_DONE;
		}
		x->in[x->in_len] = 0;
		req->result.body = x->in;
		req->result.body_len = x->in_len;
		x->in = NULL;
		x->in_len = x->in_cap = 0;
	}
	return S3_DONE;
}

/* What the store keeps, as far as its ETag tells, against what was sent. */
static enum s3_verdict judge_put(struct s3_xfer *x)
{
	struct obj_result *r = &x->req->result;
	uint8_t md[EVP_MAX_MD_SIZE] = { 0 };
	char hex[33];
	bool plain;

	if (x->req->op == OBJ_PUT && x->req->if_match != NULL) {
		x->s->if_match_form = x->bare ? S3_ETAG_BARE : S3_ETAG_QUOTED;
	}
	EVP_DigestFinal_ex(x->md5, md, NULL);
	obj_hex(md, 16, hex);
	EVP_DigestFinal_ex(x->sha256, r->sha256, NULL);
	r->size = x->body_len;
	date_stands_for_mtime(x);
	if (x->req->op == OBJ_MPU_PART && x->sum_said[0] != '\0') {
		r->sum = strdup(x->sum_said);
	}
	plain = r->etag != NULL && strlen(r->etag) == 32 && !x->foreign_etag && !s3_sse_hides_sums(x) &&
		strspn(r->etag, "0123456789abcdef") == 32;
	if (plain && x->signed_body && x->s->etag_is_md5 == S3_MD5_UNSURE) {
		/* the store has checked this body's SHA-256, so its ETag tells how it makes them */
		x->s->etag_is_md5 = strcmp(r->etag, hex) == 0 ? S3_MD5_YES : S3_MD5_NO;
		atomic_store(&x->s->store.etag_md5, x->s->etag_is_md5 == S3_MD5_YES);
	}
	if (plain && x->s->etag_is_md5 == S3_MD5_YES && strcmp(r->etag, hex) != 0) {
		obj_fail(x->req, x->req->op == OBJ_PUT ? OBJ_DAMAGED : OBJ_UNKNOWN,
				"the store kept other bytes than were sent");
	}
	return S3_DONE;
}

static enum s3_verdict judge_parsed(struct s3_xfer *x, int ret)
{
	switch (ret) {
	case 0:
		return S3_DONE;
	case -ENOMEM:
		obj_fail(x->req, OBJ_LOCAL, "out of memory");
		return S3_DONE;
	default:
		return not_understood(x);
	}
}

/* A row that was not asked for makes the page none: callers take what stands behind the prefix. */
static enum s3_verdict judge_listing(struct s3_xfer *x, const void *in)
{
	struct obj_req *req = x->req;
	int ret = s3_listing_parse(in, x->in_len, &req->result);

	for (unsigned i = 0; ret == 0 && i < req->result.entry_count; i++) {
		if (strncmp(req->result.entries[i].key, req->key, strlen(req->key)) != 0) {
			ret = -EBADMSG;
		}
	}
	return judge_parsed(x, ret);
}

/* Was what was written encrypted as the volume says? */
static enum s3_verdict judge_encryption(struct s3_xfer *x, enum s3_verdict v)
{
	struct obj_result *r = &x->req->result;

	if (v == S3_DONE && r->status == OBJ_OK && !s3_sse_done(x)) {
		obj_fail(x->req, OBJ_INVALID, "the store does not encrypt what is sent to it as the volume's "
				"encryption says (%s)", x->s->store.where);
		r->unsupported = true;
	}
	return v;
}

/* Has the answer what S3's have? Those that are documents are known by their root (xml.c). */
static bool is_of_s3(const struct s3_xfer *x)
{
	const struct obj_result *r = &x->req->result;

	switch (x->req->op) {
	case OBJ_HEAD:
	case OBJ_GET:
		return r->etag != NULL;
	case OBJ_PUT:
	case OBJ_MPU_PART:
		return x->in_len == 0 && (r->etag != NULL || r->request_id != NULL);
	case OBJ_DELETE:
	case OBJ_MPU_ABORT:
	case OBJ_SET_TAGS:
		return x->in_len == 0 && (x->http == 204 || r->request_id != NULL);
	default:
		return true;
	}
}

static enum s3_verdict judge_success(struct s3_xfer *x)
{
	struct obj_req *req = x->req;
	const void *in = x->in == NULL ? (const uint8_t *)"" : x->in;

	if (!is_of_s3(x)) {
		from_the_beginning(x);
		return not_understood(x);
	}
	x->s->bucket_seen_ns = x->started_ns;
	switch (req->op) {
	case OBJ_HEAD:
		req->result.size = x->content_length < 0 ? 0 : x->content_length;
		return x->content_length < 0 ? not_understood(x) : S3_DONE;
	case OBJ_GET:
		return judge_get(x);
	case OBJ_PUT:
		return judge_encryption(x, judge_put(x));
	case OBJ_MPU_PART:
		return judge_put(x);
	case OBJ_COPY:
	case OBJ_MPU_CREATE:
		return judge_encryption(x, judge_document(x));
	case OBJ_MPU_COMPLETE:
	case OBJ_MPU_COPY:
	case OBJ_VERSIONING:
		return judge_document(x);
	case OBJ_LIST:
		return judge_listing(x, in);
	case OBJ_VERSIONS:
		return judge_parsed(x, s3_versions_parse(in, x->in_len, req->key, &req->result));
	case OBJ_UPLOADS:
		return judge_parsed(x, s3_uploads_parse(in, x->in_len, req->key, &req->result));
	case OBJ_TAGS:
		return judge_parsed(x, s3_tags_parse(in, x->in_len, &req->result));
	default:
		return S3_DONE;
	}
}

/* --- the end of an attempt --- */

static enum s3_verdict judge_curl(struct s3_xfer *x, CURLcode code)
{
	struct obj_req *req = x->req;
	const char *words = x->error[0] == '\0' ? curl_easy_strerror(code) : x->error;

	if (code == CURLE_PARTIAL_FILE && req->op == OBJ_GET) {
		return broke_off(x);
	}
	switch (code) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
		obj_fail(req, OBJ_AWAY, "the store's TLS certificate is not trusted (%s): name its "
				"certificate authority in the volume's \"ca file\" (%s)", words,
				x->s->store.where);
		return S3_DONE;
	case CURLE_COULDNT_CONNECT:
	case CURLE_COULDNT_RESOLVE_HOST:
		if (s3_endpoint_away(x)) {
			return S3_AGAIN;
		}
		/* fall through */
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_SSL_CONNECT_ERROR:
		obj_fail(req, OBJ_AWAY, "the store cannot be reached: %s (%s)", words,
				x->s->store.where);
		return S3_RETRY;
	case CURLE_OUT_OF_MEMORY:
		obj_fail(req, OBJ_AWAY, "out of memory");
		return S3_RETRY;
	default:
		obj_fail(req, OBJ_AWAY, "the connection to the store failed: %s (%s)", words,
				x->s->store.where);
		return unsure(x);
	}
}

enum s3_verdict s3_judge(struct s3_xfer *x, CURLcode code)
{
	struct obj_req *req = x->req;

	req->result.http_status = (int)x->http;
	if (req->op == OBJ_PUT || req->op == OBJ_MPU_PART) {
		stats_add(s3_bytes_out, x->sent);
	}
	switch (x->abort) {
	case S3_ABORT_CANCEL:
		x->maybe_done = x->maybe_done || (obj_op_mutates(req->op) && went_out(x));
		obj_fail(req, OBJ_CANCELLED, "given up before the end");
		return S3_DONE;
	case S3_ABORT_LOCAL:
	case S3_ABORT_BAD:
		return S3_DONE;
	default:
		break;
	}
	/* an error's own words may end early and still be an answer */
	if (code != CURLE_OK && x->http < 300) {
		return judge_curl(x, code);
	}
	if (x->confirm && x->http != 404 && (x->http < 300 || x->http == 416)) {
		x->confirm = false;
		if (x->confirmed) {
			obj_fail(req, OBJ_AWAY, "HEAD and GET disagree about the object");
			return S3_DONE;
		}
		x->confirmed = true; /* it has appeared just now */
		return S3_AGAIN;
	}
	if (x->http >= 200 && x->http < 300) {
		return judge_success(x);
	}
	return judge_error(x);
}
