/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any bytes as a frame: what decodes must encode to the same bytes again. */
/* Covers: shared/wire.c */
#include <stdlib.h>
#include <string.h>
#include "shared/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t out[OFS_WIRE_FRAME_MAX_BYTES];

static void check(const uint8_t *data, size_t size, ssize_t len)
{
	if (len != (ssize_t)size || memcmp(data, out, size) != 0) {
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ofs_wire_head head;

	if (size < OFS_WIRE_HEAD_BYTES || ofs_wire_head_decode(data, &head) != 0) {
		return 0;
	}
	(void)ofs_wire_op_info(head.op);
#define FUZZ(NAME, name, number, req_fds, rep_fds, who)                                            \
	do {                                                                                       \
		struct ofs_##name##_req req;                                                       \
		struct ofs_##name##_rep rep;                                                       \
                                                                                                   \
		if (ofs_wire_decode_##name##_req(data, size, &req) == 0) {                         \
			check(data, size,                                                          \
					ofs_wire_encode_##name##_req(out, sizeof(out),             \
							head.request_id, &req));                   \
		}                                                                                  \
		if (ofs_wire_decode_##name##_rep(data, size, &rep) == 0) {                         \
			check(data, size,                                                          \
					ofs_wire_encode_##name##_rep(out, sizeof(out),             \
							head.request_id, &rep));                   \
		}                                                                                  \
	} while (0);
	OFS_WIRE_TABLE(FUZZ)
	return 0;
}
