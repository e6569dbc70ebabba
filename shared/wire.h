/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Frames, cursor, and encode/decode of every message in wire_table.h.
 *
 * Frame: magic u32, length u32 (of the whole frame), major u16, op u16, flags u32, request id u64;
 * little-endian; checked in that order. Bytes left over after the last field are an error.
 */
#ifndef OFS_SHARED_WIRE_H
#define OFS_SHARED_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "record.h"
#include <sys/types.h>
#include "wire_table.h"

#define OFS_WIRE_MAGIC 0x3153464fu /* "OFS1" */
#define OFS_WIRE_MAJOR 1u
#define OFS_WIRE_MINOR 1u
#define OFS_WIRE_HEAD_BYTES 24u
#define OFS_WIRE_FRAME_MAX_BYTES (4u << 20)
#define OFS_WIRE_FDS_MAX 8
#define OFS_WIRE_FLAG_REPLY 1u

#define OFS_WIRE_OPEN_WRITE 1u    /* OPEN flags */
#define OFS_WIRE_FETCH_WHOLE 1u   /* FETCH flags */
#define OFS_WIRE_LIST_REFRESH 1u  /* LIST flags */
#define OFS_WIRE_COPY_TAKE 1u     /* COPY flags */
#define OFS_WIRE_ACCOUNT_DOMAIN 1u /* ACCOUNT flags */
#define OFS_WIRE_NOTIFY_DIR 1u    /* NOTIFY flags */

#define OFS_WIRE_BREAK_MAX 512u
#define OFS_WIRE_HELD_OPEN 1u /* open, to read */
#define OFS_WIRE_HELD_KEEP 2u /* to write, or by a durable handle whose client is away: must stay as it is */

/* HELLO features: what a side can do beyond the first version. */
#define OFS_WIRE_FEATURE_ASKED 1u /* it answers what the daemon asks first */
#define OFS_WIRE_FEATURE_ACCOUNT 2u /* the daemon knows ACCOUNT */

/* In the ids of what the daemon asks, and in no module's. */
#define OFS_WIRE_ID_DAEMON ((uint64_t)1 << 63)

enum ofs_wire_notify { /* NOTIFY kind */
	OFS_WIRE_NOTIFY_ADDED = 1,
	OFS_WIRE_NOTIFY_REMOVED,
	OFS_WIRE_NOTIFY_MODIFIED,
	OFS_WIRE_NOTIFY_MANY,
};

struct ofs_wire_head {
	uint32_t length;
	uint16_t major;
	uint16_t op;
	uint32_t flags;
	uint64_t request_id;
};

struct ofs_blob {
	const uint8_t *data;
	uint32_t len;
};

enum ofs_wire_op {
#define OFS_WIRE_ENUM(NAME, name, number, req_fds, rep_fds, who) OFS_WIRE_OP_##NAME = number,
	OFS_WIRE_TABLE(OFS_WIRE_ENUM)
#undef OFS_WIRE_ENUM
};

/* struct ofs_<name>_req, struct ofs_<name>_rep. Decoded strings point into the frame. */
#define OFS_WIRE_CTYPE_u32 uint32_t
#define OFS_WIRE_CTYPE_u64 uint64_t
#define OFS_WIRE_CTYPE_i32 int32_t
#define OFS_WIRE_CTYPE_id struct ofs_oid
#define OFS_WIRE_CTYPE_str const char *
#define OFS_WIRE_CTYPE_blob struct ofs_blob
#define OFS_WIRE_FIELD(type, name) OFS_WIRE_CTYPE_##type name;
#define OFS_WIRE_STRUCTS(NAME, name, number, req_fds, rep_fds, who)                                \
	struct ofs_##name##_req {                                                                  \
		OFS_WIRE_##NAME##_REQ(OFS_WIRE_FIELD)                                              \
		char unused_;                                                                      \
	};                                                                                         \
	struct ofs_##name##_rep {                                                                  \
		int32_t status;                                                                    \
		const char *message;                                                               \
		OFS_WIRE_##NAME##_REP(OFS_WIRE_FIELD)                                              \
	};                                                                                         \
	/* Whole frame into buf; its length, or -EMSGSIZE if cap or a field limit is too small. */ \
	ssize_t ofs_wire_encode_##name##_req(                                                      \
			uint8_t *buf, size_t cap, uint64_t id, const struct ofs_##name##_req *m);  \
	ssize_t ofs_wire_encode_##name##_rep(                                                      \
			uint8_t *buf, size_t cap, uint64_t id, const struct ofs_##name##_rep *m);  \
	/* From a whole frame, head included; 0 or -EBADMSG.*/     \
	int ofs_wire_decode_##name##_req(                                                          \
			const uint8_t *frame, size_t len, struct ofs_##name##_req *m);                   \
	int ofs_wire_decode_##name##_rep(                                                          \
			const uint8_t *frame, size_t len, struct ofs_##name##_rep *m);
OFS_WIRE_TABLE(OFS_WIRE_STRUCTS)
#undef OFS_WIRE_STRUCTS

/* Parse and check a head of OFS_WIRE_HEAD_BYTES. 0; -EPROTO magic, -EMSGSIZE length,
 * -EPROTONOSUPPORT major. */
int ofs_wire_head_decode(const uint8_t *buf, struct ofs_wire_head *head);

struct ofs_wire_op_info {
	const char *name; /* "HELLO" */
	uint16_t op;
	uint8_t request_fds;
	uint8_t reply_fds;
	enum {
		OFS_WIRE_WHO_MODULE,
		OFS_WIRE_WHO_ADMIN,
		OFS_WIRE_WHO_ONEWAY,
		OFS_WIRE_WHO_DAEMON
	} who;
};
/* NULL: no such op. */
const struct ofs_wire_op_info *ofs_wire_op_info(uint16_t op);

/* Send a whole frame with descriptors on a blocking or non-blocking stream socket; bytes sent or
 * -errno. The first byte carries the descriptors. */
ssize_t ofs_wire_send(int sock, const uint8_t *buf, size_t len, const int *fds, int fd_count);
/* Receive up to cap bytes; descriptors are appended to fds (CLOEXEC), *fd_count updated; excess
 * descriptors are closed and give -EBADMSG. 0: peer closed. */
ssize_t ofs_wire_recv(int sock, uint8_t *buf, size_t cap, int *fds, int *fd_count, int fd_max);

#endif
