/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as objectfs.conf: a sound configuration, or an error that says where. */
/* Covers: cached/base/conf.c cached/base/conf_value.c cached/base/conf_check.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cached/base/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sound(const struct conf *conf)
{
	if (conf->volume_count == 0 || conf->global.socket == NULL || conf->global.workers < 2) {
		abort();
	}
	for (unsigned i = 0; i < conf->volume_count; i++) {
		const struct conf_volume *v = &conf->volumes[i];
		size_t len = strlen(v->prefix);

		if (v->name == NULL || strchr(v->name, '/') != NULL || v->prefix[0] == '/' ||
				(len > 0 && v->prefix[len - 1] != '/') || v->capacity_bytes <= 0 ||
				(v->store == CONF_STORE_S3 ? v->bucket == NULL
							   : v->directory == NULL)) {
			abort();
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	TALLOC_CTX *ctx;
	struct conf *conf;
	char *error;
	FILE *f;
	int ret;

	if (size == 0) {
		return 0;
	}
	f = fmemopen((void *)(uintptr_t)data, size, "r");
	ctx = talloc_new(NULL);
	if (f == NULL || ctx == NULL) {
		abort();
	}
	ret = conf_load_stream(ctx, f, "f", &conf, &error);
	fclose(f);
	if ((ret == 0) != (conf != NULL) || (ret != 0 && strncmp(error, "f:", 2) != 0)) {
		abort();
	}
	if (conf != NULL) {
		sound(conf);
	}
	talloc_free(ctx);
	return 0;
}
