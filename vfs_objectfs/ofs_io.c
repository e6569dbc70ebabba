/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bytes: read, write, truncate, allocate, flush, copy within the server.
 * Way: from smbd's read, write, flush and ioctl code; to NEXT, after what a marked file needs.
 * Thread: the client's smbd. Asynchronous where smbd is; where it is not, or comes with another
 *         event loop than the connection's, a marked file's bytes are waited for, with a deadline.
 * Owns: nothing.
 * Holds: 1. A resident file's read goes to NEXT with one test of one flag.
 *        2. A marked file is never written: it is made whole, or emptied, first.
 *        3. The first write of a handle is marked before it happens (ofs_first_write); every write
 *           bumps the stripe's write counter before and after.
 *        4. What works on raw descriptors below the VFS (copy_file_range, sendfile, recvfile,
 *           SEEK_HOLE) is let at a marked file only once its bytes are here (DESIGN rule 8).
 */
#include "ofs.h"

/* --- read --- */

static struct ofs_file *marked_file(struct vfs_handle_struct *handle,
		const struct files_struct *fsp)
{
	struct ofs_file *f = ofs_file_get(handle, fsp);

	return f != NULL && f->marked ? f : NULL;
}

ssize_t ofs_pread(struct vfs_handle_struct *handle, struct files_struct *fsp, void *data, size_t n,
		off_t offset)
{
	struct ofs_file *f = marked_file(handle, fsp);

	if (f != NULL) {
		int ret = ofs_recall_range(f->conn, f, (uint64_t)offset, n);

		if (ret != 0) {
			errno = -ret;
			return -1;
		}
	}
	return SMB_VFS_NEXT_PREAD(handle, fsp, data, n, offset);
}

struct ofs_pread_state {
	struct vfs_handle_struct *handle;
	struct tevent_context *ev;
	struct files_struct *fsp;
	void *data;
	size_t n;
	off_t offset;
	ssize_t ret;
	struct vfs_aio_state aio;
};

static void pread_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	struct ofs_pread_state *state = tevent_req_data(req, struct ofs_pread_state);

	state->ret = SMB_VFS_PREAD_RECV(subreq, &state->aio);
	TALLOC_FREE(subreq);
	if (state->ret == -1) {
		tevent_req_error(req, state->aio.error);
		return;
	}
	tevent_req_done(req);
}

static void pread_recalled(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	struct ofs_pread_state *state = tevent_req_data(req, struct ofs_pread_state);
	int ret = ofs_recall_recv(subreq);

	TALLOC_FREE(subreq);
	if (ret != 0) {
		tevent_req_error(req, -ret);
		return;
	}
	subreq = SMB_VFS_NEXT_PREAD_SEND(state, state->ev, state->handle, state->fsp, state->data,
			state->n, state->offset);
	if (!tevent_req_nomem(subreq, req)) {
		tevent_req_set_callback(subreq, pread_done, req);
	}
}

struct tevent_req *ofs_pread_send(struct vfs_handle_struct *handle, TALLOC_CTX *ctx,
		struct tevent_context *ev, struct files_struct *fsp, void *data, size_t n,
		off_t offset)
{
	struct ofs_file *f = marked_file(handle, fsp);
	struct ofs_pread_state *state;
	struct tevent_req *req, *subreq;
	int ret = 0;

	if (f == NULL || ofs_recall_here(f, ofs_link_generation(f->conn->link), (uint64_t)offset,
				n)) {
		/* NEXT's own request; ofs_pread_recv tells it from ours by its state's type */
		return SMB_VFS_NEXT_PREAD_SEND(ctx, ev, handle, fsp, data, n, offset);
	}
	req = tevent_req_create(ctx, &state, struct ofs_pread_state);
	if (req == NULL) {
		return NULL;
	}
	*state = (struct ofs_pread_state){
		.handle = handle,
		.ev = ev,
		.fsp = fsp,
		.data = data,
		.n = n,
		.offset = offset,
	};
	if (ev != ofs_link_ev(f->conn->link)) {
		ret = ofs_recall_range(f->conn, f, (uint64_t)offset, n);
		if (ret != 0) {
			tevent_req_error(req, -ret);
			return tevent_req_post(req, ev);
		}
		subreq = SMB_VFS_NEXT_PREAD_SEND(state, ev, handle, fsp, data, n, offset);
		if (tevent_req_nomem(subreq, req)) {
			return tevent_req_post(req, ev);
		}
		tevent_req_set_callback(subreq, pread_done, req);
		return req;
	}
	subreq = ofs_recall_send(state, ev, f->conn, f, (uint64_t)offset, n, false);
	if (tevent_req_nomem(subreq, req)) {
		return tevent_req_post(req, ev);
	}
	tevent_req_set_callback(subreq, pread_recalled, req);
	return req;
}

ssize_t ofs_pread_recv(struct tevent_req *req, struct vfs_aio_state *aio)
{
	struct ofs_pread_state *state =
			talloc_get_type(_tevent_req_data(req), struct ofs_pread_state);
	ssize_t ret;

	if (state == NULL) {
		return SMB_VFS_PREAD_RECV(req, aio);
	}
	if (tevent_req_is_unix_error(req, &aio->error)) {
		tevent_req_received(req);
		return -1;
	}
	*aio = state->aio;
	ret = state->ret;
	tevent_req_received(req);
	return ret;
}

/* --- write --- */

/* All that must be true before a byte changes. 0 or -errno; *file: to bump around the write. */
static int write_begin(struct vfs_handle_struct *handle, struct files_struct *fsp, bool empties,
		struct ofs_file **file)
{
	struct ofs_file *f = ofs_file_need(handle, fsp);
	int ret = 0;

	if (f == NULL) {
		return -errno;
	}
	if (f->marked) {
		ret = empties ? ofs_recall_discard(f->conn, f) : ofs_recall_whole(f->conn, f);
	}
	if (ret == 0 && !f->wrote) {
		ret = ofs_first_write(f->conn, f);
	}
	if (ret != 0) {
		return ret;
	}
	ofs_writes_bump(f->conn, f);
	*file = f;
	return 0;
}

static void write_end(struct ofs_file *f)
{
	int err = errno;

	ofs_writes_bump(f->conn, f);
	errno = err;
}

ssize_t ofs_pwrite(struct vfs_handle_struct *handle, struct files_struct *fsp, const void *data,
		size_t n, off_t offset)
{
	struct ofs_file *f;
	ssize_t written;
	int ret;

	ret = write_begin(handle, fsp, false, &f);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	written = SMB_VFS_NEXT_PWRITE(handle, fsp, data, n, offset);
	write_end(f);
	return written;
}

int ofs_ftruncate(struct vfs_handle_struct *handle, struct files_struct *fsp, off_t length)
{
	struct ofs_file *f;
	int ret;

	ret = write_begin(handle, fsp, length == 0, &f);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	ret = SMB_VFS_NEXT_FTRUNCATE(handle, fsp, length);
	write_end(f);
	return ret;
}

int ofs_fallocate(struct vfs_handle_struct *handle, struct files_struct *fsp, uint32_t mode,
		off_t offset, off_t len)
{
	struct ofs_file *f;
	int ret;

	ret = write_begin(handle, fsp, false, &f);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	ret = SMB_VFS_NEXT_FALLOCATE(handle, fsp, mode, offset, len);
	write_end(f);
	return ret;
}

ssize_t ofs_recvfile(struct vfs_handle_struct *handle, int fromfd, struct files_struct *tofsp,
		off_t offset, size_t count)
{
	struct ofs_file *f;
	ssize_t written;
	int ret;

	ret = write_begin(handle, tofsp, false, &f);
	if (ret != 0) {
		/* the bytes are in the client's socket and must come out of it all the same */
		ssize_t drained = drain_socket(fromfd, count);

		errno = drained == (ssize_t)count ? -ret : EIO;
		return -1;
	}
	written = SMB_VFS_NEXT_RECVFILE(handle, fromfd, tofsp, offset, count);
	write_end(f);
	return written;
}

struct ofs_pwrite_state {
	struct vfs_handle_struct *handle;
	struct tevent_context *ev;
	struct files_struct *fsp;
	const void *data;
	size_t n;
	off_t offset;
	struct ofs_file *file;
	ssize_t ret;
	struct vfs_aio_state aio;
};

static void pwrite_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	struct ofs_pwrite_state *state = tevent_req_data(req, struct ofs_pwrite_state);

	state->ret = SMB_VFS_PWRITE_RECV(subreq, &state->aio);
	TALLOC_FREE(subreq);
	write_end(state->file);
	if (state->ret == -1) {
		tevent_req_error(req, state->aio.error);
		return;
	}
	tevent_req_done(req);
}

static void pwrite_go(struct tevent_req *req)
{
	struct ofs_pwrite_state *state = tevent_req_data(req, struct ofs_pwrite_state);
	struct tevent_req *subreq;
	int ret;

	ret = write_begin(state->handle, state->fsp, false, &state->file);
	if (ret != 0) {
		tevent_req_error(req, -ret);
		return;
	}
	subreq = SMB_VFS_NEXT_PWRITE_SEND(state, state->ev, state->handle, state->fsp, state->data,
			state->n, state->offset);
	if (tevent_req_nomem(subreq, req)) {
		write_end(state->file);
		return;
	}
	tevent_req_set_callback(subreq, pwrite_done, req);
}

static void pwrite_recalled(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	int ret = ofs_recall_recv(subreq);

	TALLOC_FREE(subreq);
	if (ret != 0) {
		tevent_req_error(req, -ret);
		return;
	}
	pwrite_go(req);
}

struct tevent_req *ofs_pwrite_send(struct vfs_handle_struct *handle, TALLOC_CTX *ctx,
		struct tevent_context *ev, struct files_struct *fsp, const void *data, size_t n,
		off_t offset)
{
	struct ofs_file *f = marked_file(handle, fsp);
	struct ofs_pwrite_state *state;
	struct tevent_req *req, *subreq;

	req = tevent_req_create(ctx, &state, struct ofs_pwrite_state);
	if (req == NULL) {
		return NULL;
	}
	*state = (struct ofs_pwrite_state){
		.handle = handle,
		.ev = ev,
		.fsp = fsp,
		.data = data,
		.n = n,
		.offset = offset,
	};
	if (f != NULL && ev == ofs_link_ev(f->conn->link)) {
		subreq = ofs_recall_send(state, ev, f->conn, f, 0, UINT64_MAX, true);
		if (tevent_req_nomem(subreq, req)) {
			return tevent_req_post(req, ev);
		}
		tevent_req_set_callback(subreq, pwrite_recalled, req);
		return req;
	}
	pwrite_go(req);
	return tevent_req_is_in_progress(req) ? req : tevent_req_post(req, ev);
}

ssize_t ofs_pwrite_recv(struct tevent_req *req, struct vfs_aio_state *aio)
{
	struct ofs_pwrite_state *state = tevent_req_data(req, struct ofs_pwrite_state);
	ssize_t ret;

	if (tevent_req_is_unix_error(req, &aio->error)) {
		tevent_req_received(req);
		return -1;
	}
	*aio = state->aio;
	ret = state->ret;
	tevent_req_received(req);
	return ret;
}

/* --- past the VFS --- */

/* A stub is one sparse hole on the disk and all data to a client. */
off_t ofs_lseek(struct vfs_handle_struct *handle, struct files_struct *fsp, off_t offset,
		int whence)
{
	struct ofs_file *f = marked_file(handle, fsp);
	struct stat st;

	if (f == NULL || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
		return SMB_VFS_NEXT_LSEEK(handle, fsp, offset, whence);
	}
	if (fstat(f->fd, &st) != 0) {
		return -1;
	}
	if (offset < 0 || offset >= st.st_size) {
		errno = ENXIO;
		return -1;
	}
	return whence == SEEK_DATA ? offset : st.st_size;
}

ssize_t ofs_sendfile(struct vfs_handle_struct *handle, int tofd, struct files_struct *fromfsp,
		const DATA_BLOB *header, off_t offset, size_t count)
{
	struct ofs_file *f = marked_file(handle, fromfsp);

	if (f != NULL) {
		int ret = ofs_recall_range(f->conn, f, (uint64_t)offset, count);

		if (ret != 0) {
			errno = -ret; /* smbd has promised the bytes: it ends the connection */
			return -1;
		}
	}
	return SMB_VFS_NEXT_SENDFILE(handle, tofd, fromfsp, header, offset, count);
}

/* --- flush --- */

struct ofs_fsync_state {
	struct vfs_handle_struct *handle;
	struct tevent_context *ev;
	struct ofs_conn *conn;
	struct files_struct *fsp;
	int attempts;
	struct vfs_aio_state aio;
};

#define FLUSH_ATTEMPTS 3

/* The daemon gets a path descriptor: one open for reading would do, but this one can never stand
 * in the way of a lease. */
static int flush_fd(const struct files_struct *fsp, uint64_t *bytes)
{
	char proc[32];
	struct stat st;
	int fd = fsp_get_io_fd(fsp);

	*bytes = fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	fd = open(proc, O_PATH | O_CLOEXEC);
	return fd >= 0 ? fd : -errno;
}

static void fsync_flush(struct tevent_req *req);

static void fsync_flushed(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	struct ofs_fsync_state *state = tevent_req_data(req, struct ofs_fsync_state);
	int ret = ofs_call_flush_recv(state->conn->link, subreq);

	TALLOC_FREE(subreq);
	if (ret == -ECONNRESET && ++state->attempts < FLUSH_ATTEMPTS) {
		fsync_flush(req);
		return;
	}
	if (ret != 0) {
		tevent_req_error(req, -ret);
		return;
	}
	tevent_req_done(req);
}

static void fsync_flush(struct tevent_req *req)
{
	struct ofs_fsync_state *state = tevent_req_data(req, struct ofs_fsync_state);
	struct tevent_req *subreq;
	uint64_t bytes;
	int fd, ret;

	fd = flush_fd(state->fsp, &bytes);
	if (fd < 0) {
		tevent_req_error(req, -fd);
		return;
	}
	if (state->ev != ofs_link_ev(state->conn->link)) {
		ret = ofs_call_flush(state->conn->link, fd, bytes);
		close(fd);
		if (ret != 0) {
			tevent_req_error(req, -ret);
		} else {
			tevent_req_done(req);
		}
		return;
	}
	subreq = ofs_call_flush_send(state, state->conn->link, fd, bytes);
	close(fd);
	if (!tevent_req_nomem(subreq, req)) {
		tevent_req_set_callback(subreq, fsync_flushed, req);
	}
}

static void fsync_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	struct ofs_fsync_state *state = tevent_req_data(req, struct ofs_fsync_state);
	int ret = SMB_VFS_FSYNC_RECV(subreq, &state->aio);

	TALLOC_FREE(subreq);
	if (ret == -1) {
		tevent_req_error(req, state->aio.error);
		return;
	}
	fsync_flush(req);
}

struct tevent_req *ofs_fsync_send(struct vfs_handle_struct *handle, TALLOC_CTX *ctx,
		struct tevent_context *ev, struct files_struct *fsp)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	struct ofs_fsync_state *state;
	struct tevent_req *req, *subreq;

	if (!c->durable_s3) {
		return SMB_VFS_NEXT_FSYNC_SEND(ctx, ev, handle, fsp);
	}
	req = tevent_req_create(ctx, &state, struct ofs_fsync_state);
	if (req == NULL) {
		return NULL;
	}
	*state = (struct ofs_fsync_state){.handle = handle, .ev = ev, .conn = c, .fsp = fsp};
	subreq = SMB_VFS_NEXT_FSYNC_SEND(state, ev, handle, fsp);
	if (tevent_req_nomem(subreq, req)) {
		return tevent_req_post(req, ev);
	}
	tevent_req_set_callback(subreq, fsync_done, req);
	return req;
}

int ofs_fsync_recv(struct tevent_req *req, struct vfs_aio_state *aio)
{
	struct ofs_fsync_state *state =
			talloc_get_type(_tevent_req_data(req), struct ofs_fsync_state);

	if (state == NULL) {
		return SMB_VFS_FSYNC_RECV(req, aio);
	}
	if (tevent_req_is_unix_error(req, &aio->error)) {
		tevent_req_received(req);
		return -1;
	}
	*aio = state->aio;
	tevent_req_received(req);
	return 0;
}

/* --- copies within the server --- */

static struct vfs_offload_ctx *offload_ctx; /* which handle a token means, as below us */

struct ofs_offload_read_state {
	struct vfs_handle_struct *handle;
	struct files_struct *fsp;
	uint32_t flags;
	uint64_t xferlen;
	DATA_BLOB token;
};

static void offload_read_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	struct ofs_offload_read_state *state =
			tevent_req_data(req, struct ofs_offload_read_state);
	NTSTATUS status;

	status = SMB_VFS_NEXT_OFFLOAD_READ_RECV(subreq, state->handle, state, &state->flags,
			&state->xferlen, &state->token);
	TALLOC_FREE(subreq);
	if (tevent_req_nterror(req, status)) {
		return;
	}
	status = vfs_offload_token_db_store_fsp(offload_ctx, state->fsp, &state->token);
	if (!tevent_req_nterror(req, status)) {
		tevent_req_done(req);
	}
}

struct tevent_req *ofs_offload_read_send(TALLOC_CTX *ctx, struct tevent_context *ev,
		struct vfs_handle_struct *handle, struct files_struct *fsp, uint32_t fsctl,
		uint32_t ttl, off_t offset, size_t to_copy)
{
	struct ofs_offload_read_state *state;
	struct tevent_req *req, *subreq;
	NTSTATUS status;

	req = tevent_req_create(ctx, &state, struct ofs_offload_read_state);
	if (req == NULL) {
		return NULL;
	}
	state->handle = handle;
	state->fsp = fsp;
	status = vfs_offload_token_ctx_init(handle->conn->sconn->client, &offload_ctx);
	if (tevent_req_nterror(req, status)) {
		return tevent_req_post(req, ev);
	}
	subreq = SMB_VFS_NEXT_OFFLOAD_READ_SEND(
			state, ev, handle, fsp, fsctl, ttl, offset, to_copy);
	if (tevent_req_nomem(subreq, req)) {
		return tevent_req_post(req, ev);
	}
	tevent_req_set_callback(subreq, offload_read_done, req);
	return req;
}

NTSTATUS ofs_offload_read_recv(struct tevent_req *req, struct vfs_handle_struct *handle,
		TALLOC_CTX *ctx, uint32_t *flags, uint64_t *xferlen, DATA_BLOB *token_blob)
{
	struct ofs_offload_read_state *state =
			tevent_req_data(req, struct ofs_offload_read_state);
	NTSTATUS status;

	(void)handle;
	if (tevent_req_is_nterror(req, &status)) {
		tevent_req_received(req);
		return status;
	}
	*flags = state->flags;
	*xferlen = state->xferlen;
	token_blob->length = state->token.length;
	token_blob->data = talloc_move(ctx, &state->token.data);
	tevent_req_received(req);
	return NT_STATUS_OK;
}

struct ofs_offload_write_state {
	struct vfs_handle_struct *handle;
	struct tevent_context *ev;
	uint32_t fsctl;
	DATA_BLOB *token;
	off_t transfer_offset;
	struct files_struct *src_fsp; /* NULL: not ours to prepare */
	struct vfs_handle_struct *src_handle; /* of another share, perhaps: with its own link */
	struct files_struct *dest_fsp;
	off_t dest_off;
	off_t to_copy;
	struct ofs_file *dest;
	off_t copied;
};

static void offload_write_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	struct ofs_offload_write_state *state =
			tevent_req_data(req, struct ofs_offload_write_state);
	NTSTATUS status;

	status = SMB_VFS_NEXT_OFFLOAD_WRITE_RECV(state->handle, subreq, &state->copied);
	TALLOC_FREE(subreq);
	if (state->dest != NULL) {
		write_end(state->dest);
	}
	if (!tevent_req_nterror(req, status)) {
		tevent_req_done(req);
	}
}

/* Both files are ready: the copy itself. */
static void offload_write_go(struct tevent_req *req)
{
	struct ofs_offload_write_state *state =
			tevent_req_data(req, struct ofs_offload_write_state);
	struct tevent_req *subreq;
	int ret = 0;

	if (!fsp_is_alternate_stream(state->dest_fsp) && state->to_copy > 0) {
		ret = write_begin(state->handle, state->dest_fsp, false, &state->dest);
	}
	if (ret != 0) {
		tevent_req_nterror(req, map_nt_error_from_unix(-ret));
		return;
	}
	subreq = SMB_VFS_NEXT_OFFLOAD_WRITE_SEND(state->handle, state, state->ev, state->fsctl,
			state->token, state->transfer_offset, state->dest_fsp, state->dest_off,
			state->to_copy);
	if (tevent_req_nomem(subreq, req)) {
		if (state->dest != NULL) {
			write_end(state->dest);
		}
		return;
	}
	tevent_req_set_callback(subreq, offload_write_done, req);
}

static bool offload_recall_ok(struct tevent_req *subreq, struct tevent_req *req)
{
	int ret = ofs_recall_recv(subreq);

	TALLOC_FREE(subreq);
	if (ret != 0) {
		tevent_req_nterror(req, map_nt_error_from_unix(-ret));
		return false;
	}
	return true;
}

static void offload_dest_here(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);

	if (offload_recall_ok(subreq, req)) {
		offload_write_go(req);
	}
}

static void offload_dest(struct tevent_req *req)
{
	struct ofs_offload_write_state *state =
			tevent_req_data(req, struct ofs_offload_write_state);
	struct ofs_file *f = NULL;
	struct tevent_req *subreq;

	if (!fsp_is_alternate_stream(state->dest_fsp)) {
		f = marked_file(state->handle, state->dest_fsp);
	}
	if (f == NULL || state->ev != ofs_link_ev(f->conn->link)) {
		offload_write_go(req);
		return;
	}
	subreq = ofs_recall_send(state, state->ev, f->conn, f, 0, UINT64_MAX, true);
	if (!tevent_req_nomem(subreq, req)) {
		tevent_req_set_callback(subreq, offload_dest_here, req);
	}
}

static void offload_src_here(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);

	if (offload_recall_ok(subreq, req)) {
		offload_dest(req);
	}
}

static void offload_src(struct tevent_req *req)
{
	struct ofs_offload_write_state *state =
			tevent_req_data(req, struct ofs_offload_write_state);
	struct ofs_file *f = NULL;
	struct tevent_req *subreq;

	if (state->src_handle != NULL && !fsp_is_alternate_stream(state->src_fsp)) {
		f = marked_file(state->src_handle, state->src_fsp);
	}
	if (f == NULL) {
		offload_dest(req);
		return;
	}
	if (state->ev != ofs_link_ev(f->conn->link)) {
		int ret = ofs_recall_range(f->conn, f, (uint64_t)state->transfer_offset,
				(uint64_t)state->to_copy);

		if (ret != 0) {
			tevent_req_nterror(req, map_nt_error_from_unix(-ret));
			return;
		}
		offload_dest(req);
		return;
	}
	subreq = ofs_recall_send(state, state->ev, f->conn, f, (uint64_t)state->transfer_offset,
			(uint64_t)state->to_copy, false);
	if (!tevent_req_nomem(subreq, req)) {
		tevent_req_set_callback(subreq, offload_src_here, req);
	}
}

/* This module's handle on the share an fsp belongs to; NULL: not one of ours. */
static struct vfs_handle_struct *handle_of(const struct files_struct *fsp,
		const struct vfs_fn_pointers *fns)
{
	struct vfs_handle_struct *h = fsp->conn->vfs_handles;

	while (h != NULL && h->fns != fns) {
		h = h->next;
	}
	return h;
}

struct tevent_req *ofs_offload_write_send(struct vfs_handle_struct *handle, TALLOC_CTX *ctx,
		struct tevent_context *ev, uint32_t fsctl, DATA_BLOB *token, off_t transfer_offset,
		struct files_struct *dest_fsp, off_t dest_off, off_t to_copy)
{
	struct ofs_offload_write_state *state;
	struct tevent_req *req;

	req = tevent_req_create(ctx, &state, struct ofs_offload_write_state);
	if (req == NULL) {
		return NULL;
	}
	*state = (struct ofs_offload_write_state){
		.handle = handle,
		.ev = ev,
		.fsctl = fsctl,
		.token = token,
		.transfer_offset = transfer_offset,
		.dest_fsp = dest_fsp,
		.dest_off = dest_off,
		.to_copy = to_copy,
	};
	if (offload_ctx != NULL && transfer_offset >= 0 && to_copy > 0 &&
			!NT_STATUS_IS_OK(vfs_offload_token_db_fetch_fsp(
					offload_ctx, token, &state->src_fsp))) {
		state->src_fsp = NULL; /* NEXT knows what to answer to a token of nobody */
	}
	if (state->src_fsp != NULL) {
		state->src_handle = handle_of(state->src_fsp, handle->fns);
	}
	offload_src(req);
	return tevent_req_is_in_progress(req) ? req : tevent_req_post(req, ev);
}

NTSTATUS ofs_offload_write_recv(struct vfs_handle_struct *handle, struct tevent_req *req,
		off_t *copied)
{
	struct ofs_offload_write_state *state =
			tevent_req_data(req, struct ofs_offload_write_state);
	NTSTATUS status;

	(void)handle;
	*copied = state->copied;
	if (tevent_req_is_nterror(req, &status)) {
		tevent_req_received(req);
		return status;
	}
	tevent_req_received(req);
	return NT_STATUS_OK;
}
