/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as the file of a signed volume's keys: keys of whole length, or a reason. */
/* Covers: cached/core/trust.c */
#include <stdlib.h>
#include <string.h>
#include "cached/core/trust.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct ofs_oid uuid = { "uuid-of-a-volume" };
	struct trust_key keys[TRUST_KEYS];
	const char *why = NULL;
	unsigned n = trust_keys_parse((const char *)data, size, keys, &why);
	char *proof;

	if (n > TRUST_KEYS || (n == 0) != (why != NULL)) {
		abort();
	}
	for (unsigned i = 0; i < n; i++) {
		proof = trust_proof(keys[i].bytes, "object", &uuid, "k", data, size);
		if (keys[i].until_ns < 0 || proof == NULL || strlen(proof) != 48) {
			abort();
		}
		free(proof);
	}
	return 0;
}
