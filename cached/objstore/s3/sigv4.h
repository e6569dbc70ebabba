/* SPDX-License-Identifier: GPL-3.0-or-later */
/* AWS Signature Version 4 in the Authorization header. Pure; any thread. */
#ifndef OFS_OBJSTORE_SIGV4_H
#define OFS_OBJSTORE_SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"
#define SIGV4_DATE_BYTES 17 /* "20130524T000000Z" and NUL */

struct sigv4_header {
	const char *name; /* lower case */
	const char *value;
};

struct sigv4_request {
	const char *method;
	const char *path;  /* as it goes over the wire, encoded; "/" at least */
	const char *query; /* as it goes over the wire: encoded, sorted by name, "name=" for no value */
	struct sigv4_header *headers; /* all to be signed, host included; sorted here */
	unsigned header_count;
	const char *payload; /* SHA-256 in hexadecimal, or SIGV4_UNSIGNED */
	const char *date;    /* the x-amz-date header */
	const char *region, *service;
	const char *access_key, *secret_key;
};

/* Value for the Authorization header (malloc), or NULL: out of memory. */
char *sigv4_authorization(const struct sigv4_request *r);
void sigv4_date(time_t when, char out[SIGV4_DATE_BYTES]);
void sigv4_sha256_hex(const void *data, size_t len, char out[65]);
/* RFC 3986 as AWS wants it: all but A-Z a-z 0-9 - . _ ~ becomes %XX; '/' too unless keep_slash.
 * malloc, or NULL: out of memory. */
char *sigv4_encode(const char *text, bool keep_slash);

#endif
