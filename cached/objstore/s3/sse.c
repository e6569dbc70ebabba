/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Encryption in the store: what a volume asks for, and the customer's key.
 *
 * Way:    s3.c at the start; request.c and response.c ask.
 * Thread: sse_init on the opener's, before the store's; then constant.
 * Owns:   the key, in the form of a header; wiped with the store.
 * Holds:  1. A customer's key is read from a file that nobody else may read, and goes to nobody but the
 *            store, over TLS, or to this machine itself.
 *         2. What the store does not say to have encrypted as asked counts as refused.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "s3.h"
#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>
#include "../../base/keyfile.h"

#define KEY_BYTES 32
#define KEY_TEXT_BYTES 44 /* its base64 */

/* 32 bytes, or their base64 and a newline. */
static bool key_decode(const uint8_t *text, ssize_t len, uint8_t key[KEY_BYTES + 3])
{
	if (len == KEY_BYTES) {
		memcpy(key, text, KEY_BYTES);
		return true;
	}
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r' || text[len - 1] == ' ')) {
		len--;
	}
	return len == KEY_TEXT_BYTES && text[KEY_TEXT_BYTES - 1] == '=' &&
	       text[KEY_TEXT_BYTES - 2] != '=' && EVP_DecodeBlock(key, text, KEY_TEXT_BYTES) == KEY_BYTES + 1;
}

static const char *key_load(struct s3_sse *sse, const char *path)
{
	uint8_t text[KEY_TEXT_BYTES + 4], key[KEY_BYTES + 3], md5[EVP_MAX_MD_SIZE];
	const char *why = NULL;
	ssize_t n = keyfile_read(path, text, sizeof(text), &why);

	if (n >= 0 && !key_decode(text, n, key)) {
		why = "it holds neither 32 bytes nor their base64; openssl rand -out FILE 32 makes one";
	} else if (n >= 0 && EVP_Digest(key, KEY_BYTES, md5, NULL, EVP_md5(), NULL) != 1) {
		why = "out of memory";
	} else if (n >= 0) {
		EVP_EncodeBlock((unsigned char *)sse->key, key, KEY_BYTES);
		EVP_EncodeBlock((unsigned char *)sse->key_md5, md5, 16);
	}
	OPENSSL_cleanse(text, sizeof(text));
	OPENSSL_cleanse(key, sizeof(key));
	return why;
}

/* By its address, or the one name that is always this machine's; host may have a port. */
static bool host_is_local(const char *host)
{
	char name[INET_ADDRSTRLEN];
	struct in_addr address;
	size_t n;

	if (host == NULL || strncmp(host, "[::1]", 5) == 0) {
		return host != NULL && (host[5] == '\0' || host[5] == ':');
	}
	n = strcspn(host, ":");
	if (n == strlen("localhost") && strncasecmp(host, "localhost", n) == 0) {
		return true;
	}
	if (n >= sizeof(name)) {
		return false;
	}
	memcpy(name, host, n);
	name[n] = '\0';
	return inet_pton(AF_INET, name, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

bool s3_sse_init(struct s3_store *s, const struct objstore_s3_conf *conf, char **error)
{
	TALLOC_CTX *ctx = talloc_parent(s);
	const char *why;

	s->sse.kind = conf->encryption;
	s->sse.bucket_key = conf->bucket_key;
	if (conf->kms_key != NULL) {
		s->sse.kms_key = talloc_strdup(s, conf->kms_key);
	}
	if (conf->encryption != OBJ_SSE_CUSTOMER) {
		return true;
	}
	if (strcmp(s->scheme, "https") != 0 && !host_is_local(s->host)) {
		*error = talloc_strdup(ctx, "encryption = customer sends the key with each request: the "
				"endpoint must begin with https://.");
		return false;
	}
	why = key_load(&s->sse, conf->customer_key_file);
	if (why != NULL) {
		*error = talloc_asprintf(ctx, "The customer key file %s cannot be used: %s.",
				conf->customer_key_file, why);
	}
	return why == NULL;
}

bool s3_sse_hides_sums(const struct s3_xfer *x)
{
	return x->s->sse.kind == OBJ_SSE_KMS || x->s->sse.kind == OBJ_SSE_CUSTOMER || x->req->opaque_etag ||
	       (x->req->sse != NULL && strncmp(x->req->sse, "aws:kms", 7) == 0);
}

bool s3_sse_done(const struct s3_xfer *x)
{
	const char *said = x->req->result.sse;

	switch (x->s->sse.kind) {
	case OBJ_SSE_S3:
		return said != NULL && strcmp(said, "AES256") == 0;
	case OBJ_SSE_KMS:
		return said != NULL && strcmp(said, "aws:kms") == 0;
	case OBJ_SSE_CUSTOMER:
		return x->req->result.customer;
	default:
		return true;
	}
}
