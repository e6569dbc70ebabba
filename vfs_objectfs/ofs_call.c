/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the module asks of the daemon, one function per message.
 * Way: from ofs_lookup, ofs_victim, ofs_open, ofs_recall, ofs_io, ofs_whole; through ofs_link.c.
 * Thread: the client's smbd; blocks as ofs_link.c says.
 * Owns: nothing; descriptors in replies pass to the caller.
 * Holds: 1. A reply that does not decode ends the connection; the call answers -EIO.
 *        2. What comes back is an errno smbd has a status for (call_border).
 *        3. Deadlines grow with the bytes that have to move: OFS_CALL_BYTES_PER_MS.
 */
#include "ofs.h"

/* 1 MiB/s: slower than this counts as hanging */
#define OFS_CALL_BYTES_PER_MS 1048

static int call_timeout_ms(const struct ofs_link *link, uint64_t bytes)
{
	uint64_t ms = ofs_link_timeout_ms(link) + bytes / OFS_CALL_BYTES_PER_MS;

	return (int)MIN(ms, (uint64_t)INT32_MAX);
}

static void call_frame(struct ofs_link *link, struct ofs_frame *f, uint16_t op, int fd,
		uint64_t generation, uint64_t bytes)
{
	f->op = op;
	f->id = ofs_link_next_id(link);
	f->fd = fd;
	f->generation = generation;
	f->timeout_ms = call_timeout_ms(link, bytes);
}

/*
 * The border: what the daemon may say to a client. The rest, what smbd would take for something else
 * (EAGAIN: more entries) or has no word for (it says ACCESS_DENIED), becomes EIO.
 */
static int call_border(int status)
{
	switch (status) {
	case 0:
	case -ENOENT:
	case -ENOTEMPTY:
	case -EACCES:
	case -EROFS:
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG:
	case -EBUSY:
	case -EEXIST:
	case -ENOTDIR:
	case -EISDIR:
	case -ENAMETOOLONG:
	case -ENOMEM:
	case -ETIMEDOUT:
	case -EOPNOTSUPP:
	case -ESTALE: /* these two are ours: ofs_recall.c opens again */
	case -EBADF:
		return status;
	default:
		return -EIO;
	}
}

/* Status of a reply of op; its other fields are left in the frame. */
#define CALL_STATUS(NAME, name)                                                                    \
	case OFS_WIRE_OP_##NAME: {                                                                 \
		struct ofs_##name##_rep m;                                                         \
		ret = ofs_wire_decode_##name##_rep(reply->frame, reply->len, &m);                  \
		status = m.status;                                                                 \
		message = m.message;                                                               \
		break;                                                                             \
	}

static int call_status(struct ofs_link *link, uint16_t op, const struct ofs_reply *reply)
{
	const char *message = "";
	int ret = -EBADMSG;
	int status = -EIO;

	switch (op) {
	CALL_STATUS(LOOKUP, lookup)
	CALL_STATUS(LIST, list)
	CALL_STATUS(OPEN, open)
	CALL_STATUS(FETCH, fetch)
	CALL_STATUS(FLUSH, flush)
	CALL_STATUS(RMDIR, rmdir)
	CALL_STATUS(DISCARD, discard)
	CALL_STATUS(COPY, copy)
	CALL_STATUS(ACCOUNT, account)
	default:
		break;
	}
	if (ret != 0) {
		ofs_link_break(link, "a reply that cannot be decoded");
		return -EIO;
	}
	if (status != 0 && status != -ENOENT && status != -ENOTEMPTY && status != -ESTALE &&
			status != -EOPNOTSUPP) {
		DBG_WARNING("objectfs-cached answers %s: %s\n", strerror(-status), message);
	}
	return call_border(status);
}

static int call_simple(struct ofs_link *link, const struct ofs_frame *f)
{
	struct ofs_reply *reply = NULL;
	int ret = ofs_link_call(link, f, talloc_tos(), &reply);

	if (ret == 0) {
		ret = call_status(link, f->op, reply);
	}
	TALLOC_FREE(reply);
	return ret;
}

int ofs_call_account(struct ofs_link *link, uint32_t flags, const char *sid, const char *names,
		size_t len)
{
	struct ofs_account_req m = {
			.flags = flags,
			.sid = sid,
			.names = {.data = (const uint8_t *)names, .len = (uint32_t)len},
	};
	struct ofs_frame f;

	call_frame(link, &f, OFS_WIRE_OP_ACCOUNT, -1, 0, 0);
	f.len = ofs_wire_encode_account_req(f.bytes, sizeof(f.bytes), f.id, &m);
	return call_simple(link, &f);
}

int ofs_call_lookup(struct ofs_link *link, int dirfd, const char *name)
{
	struct ofs_lookup_req m = {.name = name};
	struct ofs_frame f;

	call_frame(link, &f, OFS_WIRE_OP_LOOKUP, dirfd, 0, 0);
	f.len = ofs_wire_encode_lookup_req(f.bytes, sizeof(f.bytes), f.id, &m);
	return call_simple(link, &f);
}

int ofs_call_list(struct ofs_link *link, int dirfd, uint32_t flags, int timeout_ms)
{
	struct ofs_list_req m = {.flags = flags};
	struct ofs_frame f;

	call_frame(link, &f, OFS_WIRE_OP_LIST, dirfd, 0, 0);
	f.len = ofs_wire_encode_list_req(f.bytes, sizeof(f.bytes), f.id, &m);
	f.timeout_ms = timeout_ms;
	return call_simple(link, &f);
}

int ofs_call_rmdir(struct ofs_link *link, int dirfd, const char *name)
{
	struct ofs_rmdir_req m = {.name = name};
	struct ofs_frame f;

	call_frame(link, &f, OFS_WIRE_OP_RMDIR, dirfd, 0, 0);
	f.len = ofs_wire_encode_rmdir_req(f.bytes, sizeof(f.bytes), f.id, &m);
	return call_simple(link, &f);
}

static void flush_frame(struct ofs_link *link, struct ofs_frame *f, int fd, uint64_t bytes)
{
	struct ofs_flush_req m = {.flags = 0};

	call_frame(link, f, OFS_WIRE_OP_FLUSH, fd, 0, bytes);
	f->len = ofs_wire_encode_flush_req(f->bytes, sizeof(f->bytes), f->id, &m);
}

int ofs_call_flush(struct ofs_link *link, int fd, uint64_t bytes)
{
	struct ofs_frame f;

	flush_frame(link, &f, fd, bytes);
	return call_simple(link, &f);
}

static void open_frame(struct ofs_link *link, struct ofs_frame *f, int fd, uint32_t flags)
{
	struct ofs_open_req m = {.flags = flags};

	call_frame(link, f, OFS_WIRE_OP_OPEN, fd, 0, 0);
	f->len = ofs_wire_encode_open_req(f->bytes, sizeof(f->bytes), f->id, &m);
}

/* The extent map goes with an open_id and only with one. */
static int open_reply(struct ofs_link *link, struct ofs_reply *reply, struct ofs_open_rep *rep,
		int *map_fd)
{
	int ret = call_status(link, OFS_WIRE_OP_OPEN, reply);

	*map_fd = -1;
	if (ret != 0) {
		return ret;
	}
	(void)ofs_wire_decode_open_rep(reply->frame, reply->len, rep);
	rep->message = "";
	if ((rep->open_id != 0) != (reply->fd_count == 1)) {
		ofs_link_break(link, "an OPEN reply with the wrong descriptors");
		return -EIO;
	}
	if (rep->open_id != 0) {
		*map_fd = reply->fds[0];
		reply->fd_count = 0;
	}
	return 0;
}

int ofs_call_open(struct ofs_link *link, int fd, uint32_t flags, struct ofs_open_rep *rep,
		int *map_fd)
{
	struct ofs_reply *reply = NULL;
	struct ofs_frame f;
	int ret;

	*map_fd = -1;
	open_frame(link, &f, fd, flags);
	ret = ofs_link_call(link, &f, talloc_tos(), &reply);
	if (ret == 0) {
		ret = open_reply(link, reply, rep, map_fd);
	}
	TALLOC_FREE(reply);
	return ret;
}

static void fetch_frame(struct ofs_link *link, struct ofs_frame *f, uint64_t generation,
		const struct ofs_fetch_req *m, uint64_t bytes)
{
	call_frame(link, f, OFS_WIRE_OP_FETCH, -1, generation, bytes);
	f->len = ofs_wire_encode_fetch_req(f->bytes, sizeof(f->bytes), f->id, m);
}

int ofs_call_fetch(struct ofs_link *link, uint64_t generation, const struct ofs_fetch_req *m,
		uint64_t bytes)
{
	struct ofs_frame f;

	fetch_frame(link, &f, generation, m, bytes);
	return call_simple(link, &f);
}

int ofs_call_discard(struct ofs_link *link, uint64_t generation, uint64_t open_id)
{
	struct ofs_discard_req m = {.open_id = open_id};
	struct ofs_frame f;

	call_frame(link, &f, OFS_WIRE_OP_DISCARD, -1, generation, 0);
	f.len = ofs_wire_encode_discard_req(f.bytes, sizeof(f.bytes), f.id, &m);
	return call_simple(link, &f);
}

static void copy_frame(struct ofs_link *link, struct ofs_frame *f, int fd, uint64_t generation,
		const struct ofs_copy_req *m)
{
	call_frame(link, f, OFS_WIRE_OP_COPY, fd, generation, m->size);
	f->len = ofs_wire_encode_copy_req(f->bytes, sizeof(f->bytes), f->id, m);
}

int ofs_call_copy_take(struct ofs_link *link, uint64_t generation, int fd,
		const struct ofs_oid *target, uint64_t size)
{
	struct ofs_copy_req m = {.flags = OFS_WIRE_COPY_TAKE, .target = *target, .size = size};
	struct ofs_frame f;

	copy_frame(link, &f, fd, generation, &m);
	f.timeout_ms = (int)ofs_link_timeout_ms(link);
	return call_simple(link, &f);
}

void ofs_call_release(struct ofs_link *link, uint64_t generation, uint64_t open_id)
{
	struct ofs_release_req m = {.open_id = open_id};
	struct ofs_frame f;

	call_frame(link, &f, OFS_WIRE_OP_RELEASE, -1, generation, 0);
	f.len = ofs_wire_encode_release_req(f.bytes, sizeof(f.bytes), f.id, &m);
	ofs_link_post(link, &f);
}

void ofs_call_unwanted(struct ofs_link *link, uint16_t op, struct ofs_reply *reply)
{
	struct ofs_open_rep rep;
	int map_fd;

	if (op != OFS_WIRE_OP_OPEN || open_reply(link, reply, &rep, &map_fd) != 0 ||
			rep.open_id == 0) {
		return;
	}
	close(map_fd);
	ofs_call_release(link, ofs_link_generation(link), rep.open_id);
}

struct tevent_req *ofs_call_open_send(TALLOC_CTX *ctx, struct ofs_link *link, int fd,
		uint32_t flags)
{
	struct ofs_frame f;

	open_frame(link, &f, fd, flags);
	return ofs_link_call_send(ctx, link, &f);
}

int ofs_call_open_recv(struct ofs_link *link, struct tevent_req *req, struct ofs_open_rep *rep,
		int *map_fd)
{
	struct ofs_reply *reply = NULL;
	int ret = ofs_link_call_recv(req, talloc_tos(), &reply);

	*map_fd = -1;
	if (ret == 0) {
		ret = open_reply(link, reply, rep, map_fd);
	}
	TALLOC_FREE(reply);
	return ret;
}

struct tevent_req *ofs_call_fetch_send(TALLOC_CTX *ctx, struct ofs_link *link, uint64_t generation,
		const struct ofs_fetch_req *m, uint64_t bytes)
{
	struct ofs_frame f;

	fetch_frame(link, &f, generation, m, bytes);
	return ofs_link_call_send(ctx, link, &f);
}

struct tevent_req *ofs_call_flush_send(TALLOC_CTX *ctx, struct ofs_link *link, int fd,
		uint64_t bytes)
{
	struct ofs_frame f;

	flush_frame(link, &f, fd, bytes);
	return ofs_link_call_send(ctx, link, &f);
}

struct tevent_req *ofs_call_copy_send(TALLOC_CTX *ctx, struct ofs_link *link, int fd,
		const struct ofs_oid *source, uint64_t size)
{
	struct ofs_copy_req m = {.source = *source, .size = size};
	struct ofs_frame f;

	copy_frame(link, &f, fd, 0, &m);
	return ofs_link_call_send(ctx, link, &f);
}

static int call_simple_recv(struct ofs_link *link, struct tevent_req *req, uint16_t op)
{
	struct ofs_reply *reply = NULL;
	int ret = ofs_link_call_recv(req, talloc_tos(), &reply);

	if (ret == 0) {
		ret = call_status(link, op, reply);
	}
	TALLOC_FREE(reply);
	return ret;
}

int ofs_call_fetch_recv(struct ofs_link *link, struct tevent_req *req)
{
	return call_simple_recv(link, req, OFS_WIRE_OP_FETCH);
}

int ofs_call_copy_recv(struct ofs_link *link, struct tevent_req *req)
{
	return call_simple_recv(link, req, OFS_WIRE_OP_COPY);
}

int ofs_call_flush_recv(struct ofs_link *link, struct tevent_req *req)
{
	return call_simple_recv(link, req, OFS_WIRE_OP_FLUSH);
}
