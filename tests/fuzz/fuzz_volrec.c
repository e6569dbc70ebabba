/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as the volume record: taken with an id, or refused with a message. */
/* Covers: cached/core/volrec.c */
#include <stdlib.h>
#include "cached/core/volrec.h"
#include "shared/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *message = NULL;
	struct ofs_oid uuid;
	int64_t created_ns;
	int ret = volrec_parse(NULL, (const char *)data, size, &uuid, &created_ns, &message);

	if (ret == 0 ? ofs_oid_is_none(&uuid) || message != NULL : message == NULL) {
		abort();
	}
	talloc_free(message);
	return 0;
}
