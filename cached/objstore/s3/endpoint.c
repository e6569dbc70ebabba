/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * AWS's kinds of endpoints (dual-stack, Transfer Acceleration), and back to the plain one.
 *
 * Way:    request.c asks for the host; response.c tells how an attempt ended.
 * Thread: the store's.
 * Holds:  1. An endpoint is left for what it says about itself, until the next start, not for what it says of an
 *            object.
 *         2. One that cannot be reached is left as long as the plain one can.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "s3.h"
#include <stdio.h>
#include <string.h>
#include "cached/base/log.h"

/* Amazon S3 user guide: "Virtual hosting of general purpose buckets", "Using dual-stack endpoints", "Getting started
 * with Transfer Acceleration". */
char *s3_endpoint_host(const struct s3_store *s)
{
	const char *bucket = s->virtual_host ? s->bucket : "";
	const char *dot = s->virtual_host ? "." : "";
	const char *dual = (s->endpoint & S3_ENDPOINT_DUAL) ? ".dualstack" : "";
	char *host = NULL;
	int ret;

	if (s->host != NULL) {
		ret = asprintf(&host, "%s%s%s", bucket, dot, s->host);
	} else if (s->endpoint & S3_ENDPOINT_FAST) {
		ret = asprintf(&host, "%s.s3-accelerate%s.amazonaws.com", s->bucket, dual);
	} else {
		ret = asprintf(&host, "%s%ss3%s.%s.amazonaws.com%s", bucket, dot, dual, s->region,
				strncmp(s->region, "cn-", 3) == 0 ? ".cn" : "");
	}
	return ret < 0 ? NULL : host;
}

bool s3_endpoint_refused(struct s3_xfer *x, const char *said)
{
	bool about_it = said != NULL && strstr(said, "Acceler") != NULL;
	const struct log_volume *before;

	if ((x->endpoint & S3_ENDPOINT_FAST) == 0 || (x->http != 400 && x->http != 403) || !about_it) {
		return false;
	}
	if (x->s->endpoint & S3_ENDPOINT_FAST) { /* another request may have left it already */
		before = log_enter(x->req->log);
		log_warning("s3", "no Transfer Acceleration: %s; the plain endpoint is used until the next start "
				"(%s)", said, x->s->store.where);
		(void)log_enter(before);
		x->s->endpoint &= ~S3_ENDPOINT_FAST;
	}
	return true;
}

bool s3_endpoint_away(struct s3_xfer *x)
{
	struct s3_store *s = x->s;
	unsigned kind = x->endpoint & S3_ENDPOINT_FAST ? S3_ENDPOINT_FAST : x->endpoint;

	if (kind == 0) { /* the plain one neither: it is the network */
		s->endpoint |= s->endpoint_away;
		s->endpoint_away = 0;
		return false;
	}
	s->endpoint_away |= s->endpoint & kind;
	s->endpoint &= ~kind;
	return true;
}
