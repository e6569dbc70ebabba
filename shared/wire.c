/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Encode and decode of every message of wire_table.h, and frames with descriptors on a socket.
 * Way: module, daemon and objectfsctl, both directions.
 * Thread: any; blocks only where the socket given to send or recv does.
 * Owns: nothing; descriptors received belong to the caller, those refused are closed here.
 * Holds: 1. A frame that decodes is exactly what encode would make of the result: one form each.
 *        2. Decoded strings end in NUL and hold none; nothing points outside the frame.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include "cursor.h"

/* --- fields --- */

static void wire_put_u32(struct ofs_wr *c, uint32_t v)
{
	ofs_wr_u32(c, v);
}
static void wire_put_u64(struct ofs_wr *c, uint64_t v)
{
	ofs_wr_u64(c, v);
}
static void wire_put_i32(struct ofs_wr *c, int32_t v)
{
	ofs_wr_u32(c, (uint32_t)v);
}
static void wire_put_id(struct ofs_wr *c, struct ofs_oid v)
{
	ofs_wr_bytes(c, v.bytes, sizeof(v.bytes));
}
/* NULL is sent as "". */
static void wire_put_str(struct ofs_wr *c, const char *v)
{
	size_t len = v == NULL ? 0 : strlen(v);

	if (len > UINT16_MAX) {
		c->bad = true;
		return;
	}
	ofs_wr_u16(c, (uint16_t)len);
	ofs_wr_bytes(c, v, len);
	ofs_wr_u8(c, 0);
}
static void wire_put_blob(struct ofs_wr *c, struct ofs_blob v)
{
	ofs_wr_u32(c, v.len);
	ofs_wr_bytes(c, v.data, v.len);
}

static uint32_t wire_get_u32(struct ofs_rd *c)
{
	return ofs_rd_u32(c);
}
static uint64_t wire_get_u64(struct ofs_rd *c)
{
	return ofs_rd_u64(c);
}
static int32_t wire_get_i32(struct ofs_rd *c)
{
	return (int32_t)ofs_rd_u32(c);
}
static struct ofs_oid wire_get_id(struct ofs_rd *c)
{
	struct ofs_oid v;

	ofs_rd_copy(c, v.bytes, sizeof(v.bytes));
	return v;
}
static const char *wire_get_str(struct ofs_rd *c)
{
	size_t len = ofs_rd_u16(c);
	const uint8_t *p = ofs_rd_bytes(c, len + 1);

	if (p == NULL || memchr(p, '\0', len + 1) != p + len) {
		c->bad = true;
		return "";
	}
	return (const char *)p;
}
static struct ofs_blob wire_get_blob(struct ofs_rd *c)
{
	struct ofs_blob v = {.data = NULL, .len = ofs_rd_u32(c)};

	v.data = ofs_rd_bytes(c, v.len);
	if (v.data == NULL) {
		v.len = 0;
	}
	return v;
}

/* --- frames --- */

static void wire_begin(struct ofs_wr *c, uint8_t *buf, size_t cap)
{
	*c = ofs_wr_init(buf, cap < OFS_WIRE_FRAME_MAX_BYTES ? cap : OFS_WIRE_FRAME_MAX_BYTES);
	ofs_wr_zero(c, OFS_WIRE_HEAD_BYTES);
}

static ssize_t wire_end(const struct ofs_wr *c, uint8_t *buf, uint16_t op, uint32_t flags, uint64_t id)
{
	struct ofs_wr head = ofs_wr_init(buf, OFS_WIRE_HEAD_BYTES);

	if (c->bad) {
		return -EMSGSIZE;
	}
	ofs_wr_u32(&head, OFS_WIRE_MAGIC);
	ofs_wr_u32(&head, (uint32_t)c->done);
	ofs_wr_u16(&head, OFS_WIRE_MAJOR);
	ofs_wr_u16(&head, op);
	ofs_wr_u32(&head, flags);
	ofs_wr_u64(&head, id);
	return (ssize_t)c->done;
}

int ofs_wire_head_decode(const uint8_t *buf, struct ofs_wire_head *head)
{
	struct ofs_rd c = ofs_rd_init(buf, OFS_WIRE_HEAD_BYTES);
	uint32_t magic;

	magic = ofs_rd_u32(&c);
	head->length = ofs_rd_u32(&c);
	head->major = ofs_rd_u16(&c);
	head->op = ofs_rd_u16(&c);
	head->flags = ofs_rd_u32(&c);
	head->request_id = ofs_rd_u64(&c);
	if (magic != OFS_WIRE_MAGIC) {
		return -EPROTO;
	}
	if (head->length < OFS_WIRE_HEAD_BYTES || head->length > OFS_WIRE_FRAME_MAX_BYTES) {
		return -EMSGSIZE;
	}
	if (head->major != OFS_WIRE_MAJOR) {
		return -EPROTONOSUPPORT;
	}
	return 0;
}

/* A cursor behind the head of a frame that must be this message. */
static struct ofs_rd wire_open(const uint8_t *frame, size_t len, uint16_t op, uint32_t flags)
{
	struct ofs_rd c = {.bad = true};
	struct ofs_wire_head head;

	if (len < OFS_WIRE_HEAD_BYTES || ofs_wire_head_decode(frame, &head) != 0 ||
			head.length != len || head.op != op || head.flags != flags) {
		return c;
	}
	return ofs_rd_init(frame + OFS_WIRE_HEAD_BYTES, len - OFS_WIRE_HEAD_BYTES);
}

static int wire_close(const struct ofs_rd *c)
{
	return c->bad || c->left != 0 ? -EBADMSG : 0;
}

#define WIRE_PUT(type, field) wire_put_##type(&c, m->field);
#define WIRE_GET(type, field) m->field = wire_get_##type(&c);
/* A status is 0 or -errno; anything else is nobody's answer. */
#define WIRE_STATUS_MIN (-4095)

#define WIRE_DEFINE(NAME, name, number, req_fds, rep_fds, who)                                     \
	ssize_t ofs_wire_encode_##name##_req(                                                      \
			uint8_t *buf, size_t cap, uint64_t id, const struct ofs_##name##_req *m)   \
	{                                                                                          \
		struct ofs_wr c;                                                                   \
                                                                                                   \
		wire_begin(&c, buf, cap);                                                          \
		OFS_WIRE_##NAME##_REQ(WIRE_PUT) return wire_end(&c, buf, number, 0, id);           \
	}                                                                                          \
	ssize_t ofs_wire_encode_##name##_rep(                                                      \
			uint8_t *buf, size_t cap, uint64_t id, const struct ofs_##name##_rep *m)   \
	{                                                                                          \
		struct ofs_wr c;                                                                   \
                                                                                                   \
		wire_begin(&c, buf, cap);                                                          \
		WIRE_PUT(i32, status)                                                              \
		WIRE_PUT(str, message)                                                             \
		OFS_WIRE_##NAME##_REP(WIRE_PUT) return wire_end(                                   \
				&c, buf, number, OFS_WIRE_FLAG_REPLY, id);                         \
	}                                                                                          \
	int ofs_wire_decode_##name##_req(                                                          \
			const uint8_t *frame, size_t len, struct ofs_##name##_req *m)              \
	{                                                                                          \
		struct ofs_rd c = wire_open(frame, len, number, 0);                                \
                                                                                                   \
		memset(m, 0, sizeof(*m));                                                          \
		OFS_WIRE_##NAME##_REQ(WIRE_GET) return wire_close(&c);                             \
	}                                                                                          \
	int ofs_wire_decode_##name##_rep(                                                          \
			const uint8_t *frame, size_t len, struct ofs_##name##_rep *m)              \
	{                                                                                          \
		struct ofs_rd c = wire_open(frame, len, number, OFS_WIRE_FLAG_REPLY);              \
                                                                                                   \
		memset(m, 0, sizeof(*m));                                                          \
		WIRE_GET(i32, status)                                                              \
		WIRE_GET(str, message)                                                             \
		OFS_WIRE_##NAME##_REP(WIRE_GET)                                                    \
		if (m->status > 0 || m->status < WIRE_STATUS_MIN) {                                \
			c.bad = true;                                                              \
		}                                                                                  \
		return wire_close(&c);                                                             \
	}
OFS_WIRE_TABLE(WIRE_DEFINE)

#define WIRE_INFO(NAME, name, number, req_fds, rep_fds, who)                                       \
	{#NAME, number, req_fds, rep_fds, OFS_WIRE_WHO_##who},
static const struct ofs_wire_op_info wire_ops[] = {OFS_WIRE_TABLE(WIRE_INFO)};

#define WIRE_CHECK_FDS(NAME, name, number, req_fds, rep_fds, who)                                  \
	_Static_assert((req_fds) <= OFS_WIRE_FDS_MAX && (rep_fds) <= OFS_WIRE_FDS_MAX,             \
			"descriptors of " #NAME);
OFS_WIRE_TABLE(WIRE_CHECK_FDS)

const struct ofs_wire_op_info *ofs_wire_op_info(uint16_t op)
{
	for (size_t i = 0; i < sizeof(wire_ops) / sizeof(wire_ops[0]); i++) {
		if (wire_ops[i].op == op) {
			return &wire_ops[i];
		}
	}
	return NULL;
}

/* --- the socket --- */

union wire_control {
	struct cmsghdr align;
	char buf[CMSG_SPACE(sizeof(int) * OFS_WIRE_FDS_MAX)];
};

ssize_t ofs_wire_send(int sock, const uint8_t *buf, size_t len, const int *fds, int fd_count)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	union wire_control control;
	ssize_t n;

	if (fd_count < 0 || fd_count > OFS_WIRE_FDS_MAX || len == 0) {
		return -EINVAL;
	}
	if (fd_count > 0) {
		struct cmsghdr *cmsg;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)fd_count);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)fd_count);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * (size_t)fd_count);
	}
	do {
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* The descriptors of one control message; false if there was no room for all of them. */
static bool wire_take_fds(const struct cmsghdr *cmsg, int *fds, int *fd_count, int fd_max)
{
	size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	bool fits = true;

	for (size_t i = 0; i < count; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
		if (*fd_count < fd_max) {
			fds[(*fd_count)++] = fd;
		} else {
			close(fd);
			fits = false;
		}
	}
	return fits;
}

ssize_t ofs_wire_recv(int sock, uint8_t *buf, size_t cap, int *fds, int *fd_count, int fd_max)
{
	struct iovec iov = {.iov_base = buf, .iov_len = cap};
	union wire_control control;
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	int had = *fd_count;
	bool fits = true;
	ssize_t n;

	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		return -errno;
	}
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg); cmsg != NULL;
			cmsg = CMSG_NXTHDR(&msg, cmsg)) {
		if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS) {
			fits = wire_take_fds(cmsg, fds, fd_count, fd_max) && fits;
		}
	}
	/* what the kernel could not deliver it has closed */
	if (!fits || (msg.msg_flags & MSG_CTRUNC) != 0) {
		while (*fd_count > had) {
			close(fds[--(*fd_count)]);
		}
		return -EBADMSG;
	}
	return n;
}
