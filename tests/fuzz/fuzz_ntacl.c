/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as a directory's NT ACL: what it hands down fits into an xattr and can be handed down again. */
#include <errno.h>
#include <stdlib.h>
#include "cached/mirror/ntacl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (int container = 0; container <= 1; container++) {
		uint8_t *child, *again;
		size_t len, again_len;

		if (ntacl_inherit(data, size, container, &child, &len) != 0 || child == NULL) {
			continue;
		}
		if (len > 65536 || ntacl_inherit(child, len, true, &again, &again_len) == -EBADMSG) {
			abort();
		}
		free(again);
		free(child);
	}
	return 0;
}
