/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as a directory's NT ACL: what it hands down fits into an xattr and can be handed down again,
 * and whom it names can be told. */
/* Covers: cached/mirror/ntacl.c */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cached/mirror/ntacl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_sid(void *arg, const char *sid)
{
	(void)arg;
	if (strncmp(sid, "S-", 2) != 0) {
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	(void)ntacl_sids(data, size, on_sid, NULL);
	for (int container = 0; container <= 1; container++) {
		uint8_t *child, *again;
		size_t len, again_len;

		if (ntacl_inherit(data, size, container, &child, &len) != 0 || child == NULL) {
			continue;
		}
		if (len > 65536 || ntacl_inherit(child, len, true, &again, &again_len) == -EBADMSG ||
				ntacl_sids(child, len, on_sid, NULL) != 0) {
			abort();
		}
		free(again);
		free(child);
	}
	return 0;
}
