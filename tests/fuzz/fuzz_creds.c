/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What servers and programs that hand out credentials may answer, on any bytes; corpus/creds. */
/* Covers: cached/objstore/s3/creds.c */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "cached/objstore/s3/creds_ask.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct s3_ask ask;
	static struct s3_creds creds;
	char words[64];
	int ret;

	memset(&creds, 0, sizeof(creds));
	ask.error[0] = '\0';
	ret = s3_creds_json(&ask, (const char *)data, size, "Token", "the fuzzer", &creds);
	if ((ret == 0) != (creds.secret_key[0] != '\0') || (ret != 0) != (ask.error[0] != '\0')) {
		abort();
	}
	s3_creds_words((const char *)data, size, words, sizeof(words));
	for (const char *s = words; *s != '\0'; s++) {
		if (*s < 0x20 || *s > 0x7e) {
			abort();
		}
	}
	return 0;
}
