/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any lines as bucket, endpoint and region: a store with one host, or an error; never a name that says more than
 * a host. */
/* Covers: cached/objstore/s3/s3.c cached/objstore/s3/endpoint.c */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdlib.h>
#include <string.h>
#include <tevent.h>
#include "cached/base/mailbox.h"
#include "cached/objstore/s3/s3.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sound(const struct s3_store *s)
{
	char *host = s3_endpoint_host(s);

	if (host == NULL || host[0] == '\0' || strpbrk(host, "/@ \t\r\n?#") != NULL ||
			(strcmp(s->scheme, "http") != 0 && strcmp(s->scheme, "https") != 0) ||
			s->store.where == NULL || strpbrk(s->store.where, "\r\n") != NULL) {
		abort();
	}
	free(host);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct tevent_context *ev;
	static struct mailbox *mb;
	struct objstore_s3_conf conf = { .access_key = (char *)(uintptr_t)"k", .secret_key = (char *)(uintptr_t)"s" };
	char *text = malloc(size + 1), *rest = text, *error = NULL;
	struct objstore *store;

	if (ev == NULL) {
		ev = tevent_context_init(NULL);
		mb = mailbox_new(ev, ev);
	}
	if (text == NULL || size < 1) {
		free(text);
		return 0;
	}
	memcpy(text, data, size);
	text[size] = '\0';
	conf.addressing = text[0] & 3;
	conf.dual_stack = (text[0] & 4) != 0;
	conf.acceleration = (text[0] & 8) != 0;
	rest++;
	conf.bucket = strsep(&rest, "\n");
	conf.endpoint = rest != NULL ? strsep(&rest, "\n") : NULL;
	conf.region = rest != NULL ? strsep(&rest, "\n") : NULL;
	store = objstore_s3_new(ev, mb, &conf, &error);
	if ((store == NULL) != (error != NULL)) {
		abort();
	}
	if (store != NULL) {
		sound((const struct s3_store *)store);
	}
	talloc_free(store);
	talloc_free(error);
	free(text);
	return 0;
}
