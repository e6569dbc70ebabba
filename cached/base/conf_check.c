/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What one option alone cannot show: combinations within a volume, and volumes against each other.
 * Way: from conf.c, when every line has been read and defaults are in place.
 * Thread: core, at start and for --check-config.
 * Owns: nothing.
 * Holds: 1. Two volumes never share a key: each daemon would take the other's objects for changes.
 *        2. After it, a prefix is empty or ends in a slash and does not begin with one, and an
 *           endpoint has no slash at its end.
 */
#include "address.h"
#include "conf_private.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* Line that set the field at this offset of struct conf_volume, or 0. */
static unsigned conf_volume_line(const struct conf_parse *p, unsigned volume, size_t offset)
{
	for (unsigned i = 0; i < conf_option_count; i++) {
		if (strcmp(conf_options[i].section, "volume") == 0 &&
				conf_options[i].offset == offset) {
			return p->volume_seen[volume].line[i];
		}
	}
	return 0;
}

static unsigned conf_global_line(const struct conf_parse *p, size_t offset)
{
	for (unsigned i = 0; i < conf_option_count; i++) {
		if (strcmp(conf_options[i].section, "global") == 0 &&
				conf_options[i].offset == offset) {
			return p->global_seen.line[i];
		}
	}
	return 0;
}

/* Line of a field, or of the section where the default stands. */
#define CHECK_LINE(field)                                                                          \
	(conf_volume_line(p, n, offsetof(struct conf_volume, field)) != 0                          \
					? conf_volume_line(p, n,                                   \
							  offsetof(struct conf_volume, field))     \
					: v->line)

static void check_store(struct conf_parse *p, unsigned n, const struct conf_volume *v)
{
	unsigned foreign = v->store == CONF_STORE_DIR ? CONF_S3_ONLY : CONF_DIR_ONLY;

	for (unsigned i = 0; i < conf_option_count; i++) {
		if ((conf_options[i].flags & foreign) != 0 && p->volume_seen[n].line[i] != 0) {
			conf_fail(p, -EINVAL, p->volume_seen[n].line[i], conf_options[i].key,
					"is for store = %s, but [volume %s] has store = %s",
					foreign == CONF_S3_ONLY ? "s3" : "dir", v->name,
					foreign == CONF_S3_ONLY ? "dir" : "s3");
			return;
		}
	}
	if (v->store == CONF_STORE_DIR && v->directory == NULL) {
		conf_fail(p, -EINVAL, v->line, "directory", "must be set with store = dir");
	}
	if (v->store == CONF_STORE_S3 && v->bucket == NULL) {
		conf_fail(p, -EINVAL, v->line, "bucket", "must be set with store = s3");
	}
}

static void check_cache(struct conf_parse *p, unsigned n, const struct conf_volume *v)
{
	if (v->cache_low >= v->cache_high) {
		conf_fail(p, -EINVAL, CHECK_LINE(cache_low), "cache low",
				"must be less than cache high (%u)", v->cache_high);
	}
	if (v->cache_size_bytes > 0 && v->cache_size_bytes < 64 * CONF_MIB) {
		conf_fail(p, -EINVAL, CHECK_LINE(cache_size_bytes), "cache size",
				"must be 64M at least, or 0");
	}
}

static void check_credentials(struct conf_parse *p, unsigned n, const struct conf_volume *v)
{
	if (v->access_key != NULL && v->secret_key == NULL) {
		conf_fail(p, -EINVAL, CHECK_LINE(access_key), "access key",
				"is useless without secret key");
	}
	if (v->secret_key != NULL && v->access_key == NULL) {
		conf_fail(p, -EINVAL, CHECK_LINE(secret_key), "secret key",
				"is useless without access key");
	}
	if (v->session_token != NULL && v->access_key == NULL) {
		conf_fail(p, -EINVAL, CHECK_LINE(session_token), "session token",
				"is useless without access key");
	}
	if (v->access_key != NULL && v->profile != NULL) {
		conf_fail(p, -EINVAL, CHECK_LINE(profile), "profile",
				"contradicts access key: set one of them");
	}
	if (v->access_key != NULL && v->credentials_file != NULL) {
		conf_fail(p, -EINVAL, CHECK_LINE(credentials_file), "credentials file",
				"contradicts access key: set one of them");
	}
}

static void check_aws(struct conf_parse *p, unsigned n, const struct conf_volume *v)
{
	if (v->endpoint != NULL && v->dual_stack) {
		conf_fail(p, -EINVAL, CHECK_LINE(dual_stack), "dual stack",
				"is for AWS's own endpoints: leave endpoint out");
	}
	if (v->endpoint != NULL && v->acceleration) {
		conf_fail(p, -EINVAL, CHECK_LINE(acceleration), "acceleration",
				"is for AWS's own endpoints: leave endpoint out");
	}
	if (v->acceleration && (v->addressing == CONF_ADDR_PATH || (v->bucket != NULL &&
			strchr(v->bucket, '.') != NULL))) {
		conf_fail(p, -EINVAL, CHECK_LINE(acceleration), "acceleration",
				"needs the bucket's name, without dots, in the host name");
	}
}

static void check_encryption(struct conf_parse *p, unsigned n, const struct conf_volume *v)
{
	if (v->kms_key != NULL && v->encryption != CONF_SSE_KMS) {
		conf_fail(p, -EINVAL, CHECK_LINE(kms_key), "kms key", "is for encryption = kms");
	}
	if (v->customer_key_file != NULL && v->encryption != CONF_SSE_CUSTOMER) {
		conf_fail(p, -EINVAL, CHECK_LINE(customer_key_file), "customer key file",
				"is for encryption = customer");
	}
	if (v->customer_key_file == NULL && v->encryption == CONF_SSE_CUSTOMER) {
		conf_fail(p, -EINVAL, CHECK_LINE(encryption), "encryption",
				"customer needs a customer key file");
	}
}

static void check_trust(struct conf_parse *p, unsigned n, const struct conf_volume *v)
{
	if (v->signing_key_file != NULL && v->trust_metadata != CONF_TRUST_SIGNED) {
		conf_fail(p, -EINVAL, CHECK_LINE(signing_key_file), "signing key file",
				"is for trust metadata = signed");
	}
	if (v->signing_key_file == NULL && v->trust_metadata == CONF_TRUST_SIGNED) {
		conf_fail(p, -EINVAL, CHECK_LINE(trust_metadata), "trust metadata",
				"signed needs a signing key file");
	}
}

static void check_bucket(struct conf_parse *p, unsigned n, const struct conf_volume *v)
{
	/* AWS's rules, and what older buckets and other servers allow beyond them */
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_";

	if (v->bucket != NULL && strspn(v->bucket, allowed) != strlen(v->bucket)) {
		conf_fail(p, -EINVAL, CHECK_LINE(bucket), "bucket",
				"\"%s\" is not the name of a bucket (letters, digits, dots, hyphens "
				"and underscores)",
				v->bucket);
	}
}

static void check_endpoint(struct conf_parse *p, unsigned n, struct conf_volume *v)
{
	const char *host;
	char *copy;
	size_t len;

	if (v->endpoint == NULL) {
		return;
	}
	host = strncasecmp(v->endpoint, "http://", 7) == 0 ? v->endpoint + 7
			: strncasecmp(v->endpoint, "https://", 8) == 0
			? v->endpoint + 8
			: NULL;
	if (host == NULL) {
		conf_fail(p, -EINVAL, CHECK_LINE(endpoint), "endpoint",
				"must begin with http:// or https://");
		return;
	}
	if (strchr(host, '@') != NULL) { /* the value may hold a password */
		conf_fail(p, -EINVAL, CHECK_LINE(endpoint), "endpoint",
				"must not hold credentials: use access key and secret key");
		return;
	}
	len = strcspn(host, "/");
	if (len == 0 || strspn(host + len, "/") != strlen(host + len) ||
			strpbrk(host, " \t?#\\") != NULL) {
		conf_fail(p, -EINVAL, CHECK_LINE(endpoint), "endpoint",
				"\"%s\" is not scheme://host or scheme://host:port", v->endpoint);
		return;
	}
	copy = talloc_strndup(p->conf, v->endpoint, (size_t)(host - v->endpoint) + len);
	if (copy == NULL) {
		conf_fail(p, -ENOMEM, CHECK_LINE(endpoint), "endpoint", "out of memory");
		return;
	}
	v->endpoint = copy;
}

/* No component is empty, "." or "..": a directory store could not hold it. */
static bool check_components(const char *prefix)
{
	for (const char *at = prefix; *at != '\0';) {
		size_t len = strcspn(at, "/");

		if (len == 0 || len > 255 || (len == 1 && at[0] == '.') ||
				(len == 2 && at[0] == '.' && at[1] == '.')) {
			return false;
		}
		at += len;
		at += *at == '/';
	}
	return true;
}

static void check_prefix(struct conf_parse *p, unsigned n, struct conf_volume *v)
{
	const char *from = v->prefix + strspn(v->prefix, "/");
	size_t len = strlen(from);
	char *copy;

	while (len > 0 && from[len - 1] == '/') {
		len--;
	}
	copy = talloc_asprintf(p->conf, "%.*s%s", (int)len, from, len > 0 ? "/" : "");
	if (copy == NULL) {
		conf_fail(p, -ENOMEM, CHECK_LINE(prefix), "prefix", "out of memory");
		return;
	}
	if (!check_components(copy)) {
		conf_fail(p, -EINVAL, CHECK_LINE(prefix), "prefix",
				"\"%s\" has a component that is empty, . or .., or too long",
				v->prefix);
		return;
	}
	v->prefix = copy;
}

/* Is `inner` the path `outer`, or below it? */
static bool check_below(const char *inner, const char *outer)
{
	size_t len = strlen(outer);

	return strncmp(inner, outer, len) == 0 && (inner[len] == '\0' || inner[len] == '/');
}

static void check_directory(struct conf_parse *p, unsigned n, const struct conf_volume *v)
{
	const char *cache = p->conf->global.cache_directory;

	if (v->directory != NULL &&
			(check_below(v->directory, cache) || check_below(cache, v->directory))) {
		conf_fail(p, -EINVAL, CHECK_LINE(directory), "directory",
				"%s and the cache directory %s must not hold each other",
				v->directory, cache);
	}
}

static bool check_same_endpoint(const struct conf_volume *a, const struct conf_volume *b)
{
	if (a->endpoint == NULL || b->endpoint == NULL) {
		return a->endpoint == b->endpoint;
	}
	return strcasecmp(a->endpoint, b->endpoint) == 0;
}

static void check_pair(struct conf_parse *p, unsigned n, const struct conf_volume *other)
{
	const struct conf_volume *v = &p->conf->volumes[n];
	size_t len = strlen(v->prefix), other_len = strlen(other->prefix);

	if (v->store != other->store) {
		return;
	}
	if (v->store == CONF_STORE_DIR) {
		if (check_below(v->directory, other->directory) ||
				check_below(other->directory, v->directory)) {
			conf_fail(p, -EINVAL, CHECK_LINE(directory), "directory",
					"overlaps that of [volume %s] in line %u", other->name,
					other->line);
		}
		return;
	}
	if (strcmp(v->bucket, other->bucket) == 0 && check_same_endpoint(v, other) &&
			strncmp(v->prefix, other->prefix, len < other_len ? len : other_len) == 0) {
		conf_fail(p, -EINVAL, CHECK_LINE(prefix), "prefix",
				"bucket %s and prefix \"%s\" overlap [volume %s] in line %u",
				v->bucket, v->prefix, other->name, other->line);
	}
}

static void check_http(struct conf_parse *p)
{
	struct conf_global *g = &p->conf->global;
	struct sockaddr_storage where;

	if (g->http_listen[0] == '\0') {
		g->http_listen = NULL;
	} else if (address_parse(g->http_listen, &where) != 0) {
		conf_fail(p, -EINVAL, conf_global_line(p, offsetof(struct conf_global, http_listen)),
				"http listen",
				"\"%s\" is not ADDRESS:PORT with a numeric address, such as "
				"127.0.0.1:9470 or [::1]:9470, nor empty",
				g->http_listen);
	}
}

void conf_check(struct conf_parse *p)
{
	check_http(p);
	for (unsigned n = 0; n < p->conf->volume_count && p->ret == 0; n++) {
		struct conf_volume *v = &p->conf->volumes[n];

		check_store(p, n, v);
		check_credentials(p, n, v);
		check_cache(p, n, v);
		check_bucket(p, n, v);
		check_encryption(p, n, v);
		check_trust(p, n, v);
		check_aws(p, n, v);
		check_endpoint(p, n, v);
		check_prefix(p, n, v);
		check_directory(p, n, v);
		if (v->settle_limit_ns < v->settle_time_ns) {
			conf_fail(p, -EINVAL, CHECK_LINE(settle_limit_ns), "settle limit",
					"is shorter than settle time");
		}
		for (unsigned i = 0; i < n && p->ret == 0; i++) {
			check_pair(p, n, &p->conf->volumes[i]);
		}
	}
}
