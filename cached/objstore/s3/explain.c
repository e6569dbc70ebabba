/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What went wrong, as a sentence for people, with the remedy where one is known.
 *
 * Way:    response.c -> here -> the request's message.
 * Thread: the store's.
 * Holds:  1. What the store says is shown as printable ASCII, and shortened.
 *         2. No secret is in a sentence: of the credentials only where they are from.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "s3.h"
#include <string.h>

/* AWS names what is missing: "... is not authorized to perform: s3:PutObject on resource: ...". */
static void find_right(struct obj_result *r, const char *words)
{
	static const char before[] = "not authorized to perform: ";
	const char *at = strstr(words, before);
	size_t len;

	strcpy(r->right, OBJ_RIGHT_NOT_SAID);
	if (at == NULL) {
		return;
	}
	at += sizeof(before) - 1;
	len = strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-");
	if (len > 0 && len < sizeof(r->right)) {
		memcpy(r->right, at, len);
		r->right[len] = '\0';
	}
}

void s3_explain(struct s3_xfer *x, enum obj_status status, const char *code, const char *said)
{
	struct obj_req *req = x->req;
	struct s3_store *s = x->s;
	const struct s3_login *login = &s->login;
	const char *renew = login->error[0] != '\0' ? login->error
			: login->creds.fixed ? "correct it and restart the daemon"
			: "correct it there; it is read again by itself";
	char words[256];
	size_t n = 0;

	for (; said != NULL && *said != '\0' && n < sizeof(words) - 1; said++) {
		words[n++] = *said >= 0x20 && *said < 0x7f ? *said : '?';
	}
	words[n] = '\0';
	code = code == NULL ? "no reason given" : code;
	if (status == OBJ_NO_BUCKET) {
		obj_fail(req, status, "the bucket \"%s\" does not exist: create it, or correct the "
				"volume's bucket (%s)", s->bucket, s->store.where);
	} else if (strcmp(code, "InvalidAccessKeyId") == 0) {
		obj_fail(req, status, "the store does not know the access key from %s: %s (%s)",
				login->creds.source, renew, s->store.where);
	} else if (strcmp(code, "SignatureDoesNotMatch") == 0) {
		obj_fail(req, status, "the secret key from %s does not belong to the access key: %s (%s)",
				login->creds.source, renew, s->store.where);
	} else if (strcmp(code, "ExpiredToken") == 0 || strcmp(code, "InvalidToken") == 0) {
		obj_fail(req, status, "the session token from %s has expired or is not valid: %s (%s)",
				login->creds.source, renew, s->store.where);
	} else if (strcmp(code, "RequestTimeTooSkewed") == 0) {
		obj_fail(req, status, "this machine's clock and the store's differ too much: set the "
				"clock");
	} else if (strcmp(code, "InvalidObjectState") == 0) {
		obj_fail(req, status, "the object is archived and must be restored before it can be read");
	} else if (x->http == 400 && (req->op == OBJ_HEAD || req->op == OBJ_GET) && status == OBJ_INVALID) {
		obj_fail(req, status, "%s: HTTP 400, %s%s%s: the object may be encrypted with %s (%s)",
				objstore_op_name(req->op), code, n == 0 ? "" : ": ", words,
				s->sse.kind == OBJ_SSE_CUSTOMER ? "another key than that of the volume's "
								  "customer key file"
								: "a key that the volume does not have",
				s->store.where);
	} else if (status == OBJ_DENIED) {
		find_right(&req->result, words);
		obj_fail(req, status, "%s is missing: %s in bucket \"%s\" was denied (%s%s%s); grant it to "
				"the credentials from %s (IAM.md)",
				strcmp(req->result.right, OBJ_RIGHT_NOT_SAID) == 0 ? obj_right_needed(req->op)
										   : req->result.right,
				objstore_op_name(req->op), s->bucket, code, n == 0 ? "" : ": ", words,
				login->creds.source);
	} else {
		obj_fail(req, status, "%s: HTTP %ld, %s%s%s (%s)", objstore_op_name(req->op), x->http, code,
				n == 0 ? "" : ": ", words, s->store.where);
	}
}
