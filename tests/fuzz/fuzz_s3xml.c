/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The readers of S3's and STS's XML on any bytes; corpus/s3xml. */
/* Covers: cached/objstore/s3/xml.c */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "cached/objstore/s3/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct s3_answer answer;
	struct s3_sts_answer sts;
	struct obj_result result = { 0 };

	s3_answer_parse(data, size, &answer);
	s3_answer_fini(&answer);
	(void)s3_sts_parse(data, size, &sts);
	if (memchr(sts.creds.session_token, '\0', sizeof(sts.creds.session_token)) == NULL) {
		abort();
	}
	if (s3_listing_parse(data, size, &result) == 0) {
		for (unsigned i = 0; i < result.entry_count; i++) {
			const struct obj_entry *e = &result.entries[i];

			if (e->key == NULL || e->key[0] == '\0' || e->size < 0 ||
					(i > 0 && strcmp(e[-1].key, e->key) > 0)) {
				abort();
			}
		}
	}
	obj_result_clear(&result);
	(void)s3_tags_parse(data, size, &result);
	obj_result_clear(&result);
	if (s3_versions_parse(data, size, "a", &result) == 0) {
		for (unsigned i = 0; i < result.entry_count; i++) {
			const struct obj_entry *e = &result.entries[i];

			if (strcmp(e->key, "a") != 0 || e->version_id == NULL || e->version_id[0] == '\0' ||
					e->size < 0) {
				abort();
			}
		}
	}
	obj_result_clear(&result);
	return 0;
}
