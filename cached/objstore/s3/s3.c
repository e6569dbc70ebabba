/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The object store behind an S3 API: opening it, and handing requests to its thread.
 *
 *   core: s3_submit -> inbox -> engine.c: queue, attempts  -> mailbox -> core
 *                               request.c: sign and send  (sigv4.c)
 *                               receive.c: headers, bytes
 *                               response.c: understand    (xml.c, explain.c)
 *
 * Way:    objstore_submit (core) -> s3_submit; see the picture.
 * Thread: this file on the core thread; creds*.c on keeper.c's; everything else of this directory on
 *         the store's. They meet in the inbox, in the keeper and in the mailbox.
 * Owns:   configuration, credentials, the thread and its multi handle.
 * Holds:  1. Credentials are wiped when they are replaced or the store is freed, in libcurl's memory too, and never
 *            part of a message.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "s3.h"
#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define CONNECTIONS_DEFAULT 32u
#define CONNECTIONS_MAX 256u
#define RETRIES_DEFAULT 5u
#define TIMEOUT_DEFAULT_S 30u
#define WIPED_BYTES 65536u

static void s3_submit(struct objstore *store, struct obj_req *req)
{
	struct s3_store *s = (struct s3_store *)store;

	pthread_mutex_lock(&s->lock);
	*s->inbox_last = req;
	s->inbox_last = &req->next;
	pthread_mutex_unlock(&s->lock);
	curl_multi_wakeup(s->multi);
}

static void s3_login(struct objstore *store, struct obj_login *out)
{
	s3_keeper_describe(((struct s3_store *)store)->keeper, out);
}

static const struct objstore_ops s3_ops = {
	.name = "s3",
	.submit = s3_submit,
	.login = s3_login,
};

static int store_free(struct s3_store *s)
{
	if (s->thread_running) {
		pthread_mutex_lock(&s->lock);
		s->stop = true;
		pthread_mutex_unlock(&s->lock);
		curl_multi_wakeup(s->multi);
		pthread_join(s->thread, NULL);
	}
	TALLOC_FREE(s->keeper); /* wakes the multi handle */
	if (s->multi != NULL) {
		curl_multi_cleanup(s->multi);
	}
	pthread_mutex_destroy(&s->lock);
	s3_creds_wipe(&s->login.creds);
	OPENSSL_cleanse(&s->sse, sizeof(s->sse));
	return 0;
}

/* What libcurl has had in its hands: headers with tokens and keys, answers that hand them out. Of the large buffers
 * for bytes of files, which come and go with each request, headers are at the beginning. */
static void wiping_free(void *p)
{
	size_t room = p != NULL ? malloc_usable_size(p) : 0;

	if (p != NULL) {
		explicit_bzero(p, room < WIPED_BYTES ? room : WIPED_BYTES);
		free(p);
	}
}

static void *wiping_realloc(void *p, size_t size)
{
	size_t had = p != NULL ? malloc_usable_size(p) : 0;
	void *grown = malloc(size);

	if (grown != NULL && had > 0) {
		memcpy(grown, p, had < size ? had : size);
		wiping_free(p);
	}
	return grown;
}

static void curl_begin(void)
{
	curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, wiping_free, wiping_realloc, strdup, calloc);
}

/* Bucket naming rules of the Amazon S3 user guide, with the older stores' capitals and '_'. */
static bool bucket_valid(const char *bucket)
{
	size_t len = strlen(bucket);

	return len >= 3 && len <= 255 && bucket[0] != '.' &&
	       strspn(bucket, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") ==
			       len;
}

/* Scheme and host of an endpoint such as "http://127.0.0.1:7480". false: *error set. */
static bool endpoint_parse(struct s3_store *s, const char *endpoint, char **error)
{
	char *scheme = NULL, *host = NULL, *port = NULL, *path = NULL, *user = NULL;
	CURLU *u = curl_url();
	bool ok = false;

	if (u != NULL && curl_url_set(u, CURLUPART_URL, endpoint, 0) == CURLUE_OK &&
			curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
			curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
		curl_url_get(u, CURLUPART_PORT, &port, CURLU_NO_DEFAULT_PORT);
		curl_url_get(u, CURLUPART_PATH, &path, 0);
		curl_url_get(u, CURLUPART_USER, &user, 0);
		ok = (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) && user == NULL &&
		     (path == NULL || strcmp(path, "/") == 0);
	}
	if (ok) {
		s->scheme = talloc_strdup(s, scheme);
		s->host = talloc_asprintf(s, "%s%s%s", host, port == NULL ? "" : ":",
				port == NULL ? "" : port);
	} else {
		*error = talloc_strdup(talloc_parent(s), "The S3 endpoint is not of the form "
				"http://HOST[:PORT] or https://HOST[:PORT].");
	}
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_free(path);
	curl_free(user);
	curl_url_cleanup(u);
	return ok;
}

static bool host_is_aws(const struct s3_store *s)
{
	static const char aws[] = ".amazonaws.com";
	size_t len;

	if (s->host == NULL) {
		return true;
	}
	len = strlen(s->host);
	return len > sizeof(aws) - 1 && strcasecmp(s->host + len - (sizeof(aws) - 1), aws) == 0;
}

static bool take_addressing(struct s3_store *s, const struct objstore_s3_conf *conf, char **error)
{
	bool dots = strchr(s->bucket, '.') != NULL;

	switch (conf->addressing) {
	case OBJ_ADDR_PATH:
		s->virtual_host = false;
		return true;
	case OBJ_ADDR_VIRTUAL:
		if (s->host != NULL && (s->host[0] == '[' ||
				strspn(s->host, "0123456789.:") == strlen(s->host))) {
			*error = talloc_strdup(talloc_parent(s), "Virtual-host addressing needs an "
					"endpoint with a name, not an IP address.");
			return false;
		}
		s->virtual_host = true;
		return true;
	default:
		/* a bucket with dots does not match AWS's wildcard certificate */
		s->virtual_host = host_is_aws(s) && !dots;
		return true;
	}
}

static bool take_conf(struct s3_store *s, const struct objstore_s3_conf *conf, char **error)
{
	TALLOC_CTX *ctx = talloc_parent(s);
	const char *region = conf->region;

	if (conf->bucket == NULL || !bucket_valid(conf->bucket)) {
		*error = talloc_strdup(ctx, "The S3 bucket's name is missing or is none: 3 to 63 "
				"letters, digits, dots and hyphens.");
		return false;
	}
	if (region == NULL || region[0] == '\0') {
		region = getenv("AWS_REGION");
	}
	if (region == NULL || region[0] == '\0') {
		region = getenv("AWS_DEFAULT_REGION");
	}
	if (region == NULL || region[0] == '\0') {
		region = "us-east-1";
	}
	if (strlen(region) >= sizeof(s->region) ||
			strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(region)) {
		*error = talloc_asprintf(ctx, "The S3 region \"%s\" is not a region's name, such as "
				"us-east-1.", region);
		return false;
	}
	strcpy(s->region, region);
	s->endpoint = (conf->dual_stack ? S3_ENDPOINT_DUAL : 0) | (conf->acceleration ? S3_ENDPOINT_FAST : 0);
	s->request_payer = conf->request_payer;
	s->store.sum_wanted = conf->checksum;
	s->bucket = talloc_strdup(s, conf->bucket);
	s->scheme = talloc_strdup(s, "https");
	if (conf->endpoint != NULL && conf->endpoint[0] != '\0' &&
			!endpoint_parse(s, conf->endpoint, error)) {
		return false;
	}
	if (!take_addressing(s, conf, error)) {
		return false;
	}
	if (s->endpoint != 0 && s->host != NULL) {
		*error = talloc_strdup(ctx, "dual stack and acceleration are for AWS's own endpoints: leave "
				"the endpoint out.");
		return false;
	}
	if (conf->acceleration && (!s->virtual_host || strncmp(s->region, "cn-", 3) == 0)) {
		*error = talloc_strdup(ctx, "acceleration needs a bucket whose name has no dots, addressed by "
				"host name, and is not there in China.");
		return false;
	}
	if (conf->ca_file != NULL && conf->ca_file[0] != '\0') {
		if (access(conf->ca_file, R_OK) != 0) {
			*error = talloc_asprintf(ctx, "The file of certificate authorities %s cannot be "
					"read: %s.", conf->ca_file, strerror(errno));
			return false;
		}
		s->ca_file = talloc_strdup(s, conf->ca_file);
	}
	s->user_agent = talloc_strdup(s, conf->user_agent == NULL ? "ObjectFS" : conf->user_agent);
	s->max_connections = conf->max_connections == 0 ? CONNECTIONS_DEFAULT : conf->max_connections;
	if (s->max_connections > CONNECTIONS_MAX) {
		s->max_connections = CONNECTIONS_MAX;
	}
	s->retries = conf->retries == 0 ? RETRIES_DEFAULT : conf->retries;
	s->patience_ns = conf->patience_ns;
	s->timeout_s = conf->request_timeout_s == 0 ? TIMEOUT_DEFAULT_S : conf->request_timeout_s;
	s->store.where = talloc_asprintf(s, "s3://%s at %s://%s", s->bucket, s->scheme,
			s->host == NULL ? "AWS" : s->host);
	s->idle = talloc_array(s, CURL *, s->max_connections + 1);
	if (s->bucket == NULL || s->scheme == NULL || s->user_agent == NULL || s->idle == NULL ||
			s->store.where == NULL) {
		*error = talloc_strdup(ctx, "Out of memory.");
		return false;
	}
	return true;
}

static int thread_start(struct s3_store *s)
{
	sigset_t all, before;
	int ret;

	sigfillset(&all); /* signals are the core's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(&s->thread, NULL, s3_engine, s);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	s->thread_running = ret == 0;
	return -ret;
}

static void on_login(void *arg)
{
	curl_multi_wakeup(((struct s3_store *)arg)->multi);
}

static bool keeper_start(struct s3_store *s, const struct objstore_s3_conf *conf, char **error)
{
	struct s3_ask how = {
		.access_key = talloc_strdup(s, conf->access_key),
		.secret_key = talloc_strdup(s, conf->secret_key),
		.session_token = talloc_strdup(s, conf->session_token),
		.profile = talloc_strdup(s, conf->profile),
		.credentials_file = talloc_strdup(s, conf->credentials_file),
		.region = talloc_strdup(s, s->region),
		.ca_file = s->ca_file,
		.user_agent = s->user_agent,
	};

	s->keeper = s3_keeper_new(s, &how, &s->store.clock_offset_s, on_login, s, error);
	if (s->keeper == NULL && *error != NULL) {
		*error = talloc_steal(talloc_parent(s), *error);
	}
	return s->keeper != NULL;
}

struct objstore *objstore_s3_new(TALLOC_CTX *ctx, struct mailbox *mb,
		const struct objstore_s3_conf *conf, char **error)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct s3_store *s;
	int ret;

	*error = NULL;
	pthread_once(&once, curl_begin);
	s = talloc_zero(ctx, struct s3_store);
	if (s == NULL) {
		return NULL;
	}
	s->store.ops = &s3_ops;
	s->mb = mb;
	s->inbox_last = &s->inbox;
	s->bucket_seen_ns = INT64_MIN / 2;
	for (unsigned p = 0; p < S3_PRIOS; p++) {
		s->queue_last[p] = &s->queue[p];
	}
	pthread_mutex_init(&s->lock, NULL);
	talloc_set_destructor(s, store_free);
	if (!take_conf(s, conf, error) || !s3_sse_init(s, conf, error)) {
		talloc_free(s);
		return NULL;
	}
	s->multi = curl_multi_init();
	if (s->multi != NULL) {
		curl_multi_setopt(s->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
		curl_multi_setopt(s->multi, CURLMOPT_MAXCONNECTS, (long)s->max_connections);
		if (!keeper_start(s, conf, error)) {
			talloc_free(s);
			return NULL;
		}
	}
	ret = s->multi == NULL ? -ENOMEM : thread_start(s);
	if (ret != 0) {
		*error = talloc_asprintf(ctx, "The S3 store cannot be started: %s.", strerror(-ret));
		talloc_free(s);
		return NULL;
	}
	return &s->store;
}
