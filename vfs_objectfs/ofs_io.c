/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bytes: read, write, truncate, allocate, flush.
 * Way: from smbd's read, write, flush and ioctl code; to NEXT, after what a marked file needs.
 * Thread: the client's smbd. Asynchronous where smbd is; where it is not, or comes with another
 *         event loop than the connection's, a marked file's bytes are waited for, with a deadline.
 * Owns: nothing.
 * Holds: 1. A resident file's read goes to NEXT with one test of one flag.
 *        2. A marked file is never written: it is made whole, or emptied, first.
 *        3. The first write of a handle is marked before it happens (ofs_first_write); every write
 *           bumps the stripe's write counter before and after.
 *        4. What works on raw descriptors below the VFS (sendfile, recvfile, SEEK_HOLE) is let at a
 *           marked file only once its bytes are here (rule 8); copies: ofs_copy.c.
 */
#include "ofs.h"

#define PWRITE_ROOM_S 20 /* a write waits so long for the cache to have room; clients wait for 60 s */
#define PWRITE_ROOM_TRY_US 20000

/* --- read --- */

struct ofs_file *ofs_file_marked(struct vfs_handle_struct *handle,
		const struct files_struct *fsp)
{
	struct ofs_file *f = ofs_file_get(handle, fsp);

	return f != NULL && f->marked ? f : NULL;
}

/* The file if it must wait for bytes of the range; else NULL: they are here. */
static struct ofs_file *read_awaits(struct vfs_handle_struct *handle,
		const struct files_struct *fsp, size_t n, off_t offset)
{
	struct ofs_file *f = ofs_file_marked(handle, fsp);
	struct ofs_conn *c = ofs_conn_get(handle);

	if (f == NULL || ofs_recall_here(f, ofs_link_generation(c->link), (uint64_t)offset, n)) {
		ofs_count(c, reads_here, 1);
		return NULL;
	}
	ofs_count(c, reads_away, 1);
	return f;
}

ssize_t ofs_pread(struct vfs_handle_struct *handle, struct files_struct *fsp, void *data, size_t n,
		off_t offset)
{
	struct ofs_file *f = read_awaits(handle, fsp, n, offset);
	ssize_t got;

	if (f != NULL) {
		int ret = ofs_recall_range(f->conn, f, (uint64_t)offset, n);

		if (ret != 0) {
			errno = -ret;
			return -1;
		}
	}
	got = SMB_VFS_NEXT_PREAD(handle, fsp, data, n, offset);
	ofs_count(ofs_conn_get(handle), client_read_bytes, got > 0 ? (size_t)got : 0);
	return got;
}

/* As many bytes of the range as the file has, as far as smbd knows: so many will be answered. */
static size_t read_inside(const struct files_struct *fsp, size_t n, off_t offset)
{
	off_t size = fsp->fsp_name->st.st_ex_size;

	return offset < size ? MIN(n, (size_t)(size - offset)) : 0;
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
	ofs_count(ofs_conn_get(state->handle), client_read_bytes, (size_t)state->ret);
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
	struct ofs_file *f = read_awaits(handle, fsp, n, offset);
	struct ofs_pread_state *state;
	struct tevent_req *req, *subreq;
	int ret = 0;

	if (f == NULL) {
		/* NEXT's own request; ofs_pread_recv tells it from ours by its state's type */
		ofs_count(ofs_conn_get(handle), client_read_bytes, read_inside(fsp, n, offset));
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

static int write_ready(struct ofs_file *f, bool empties)
{
	int ret = f->marked && !empties ? ofs_recall_whole(f->conn, f) : 0;

	return ret == 0 && !f->wrote ? ofs_first_write(f->conn, f) : ret;
}

int ofs_write_begin(struct vfs_handle_struct *handle, struct files_struct *fsp, bool empties,
		struct ofs_file **file)
{
	struct ofs_file *f = ofs_file_need(handle, fsp);
	int ret = 0;

	if (f == NULL) {
		return -errno;
	}
	if (empties) {
		TALLOC_FREE(f->whole);
	} else if (f->whole != NULL) {
		ret = ofs_whole_settle(f);
	}
	if (ret == 0) {
		ret = write_ready(f, empties);
	}
	if (ret == -EAGAIN && f->marked) { /* a stub after all */
		ret = write_ready(f, empties);
	}
	if (ret != 0) {
		return ret;
	}
	ofs_writes_begin(f->conn, f);
	f->writing++;
	*file = f;
	return 0;
}

void ofs_write_end(struct ofs_file *f)
{
	int err = errno;

	f->writing--;
	ofs_writes_end(f->conn, f);
	errno = err;
}

struct ofs_file *ofs_write_awaits(struct vfs_handle_struct *handle, struct tevent_context *ev,
		const struct files_struct *fsp)
{
	struct ofs_file *f = ofs_file_marked(handle, fsp);

	return f != NULL && ev == ofs_link_ev(f->conn->link) ? f : NULL;
}

/* Room first, then the file: 0, and write_landed is due. */
static int write_admit(struct vfs_handle_struct *handle, struct files_struct *fsp, uint64_t n,
		struct ofs_file **file)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	int ret = ofs_room_take_now(c, n);

	if (ret != 0) {
		return ret;
	}
	ret = ofs_write_begin(handle, fsp, false, file);
	if (ret != 0) {
		ofs_room_landed(c, n);
	}
	return ret;
}

static void write_landed(struct ofs_file *f, uint64_t n)
{
	ofs_room_landed(f->conn, n);
	ofs_write_end(f);
}

ssize_t ofs_pwrite(struct vfs_handle_struct *handle, struct files_struct *fsp, const void *data,
		size_t n, off_t offset)
{
	struct ofs_file *f;
	ssize_t written;
	int ret;

	ret = write_admit(handle, fsp, n, &f);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	ofs_count(f->conn, client_write_bytes, n);
	written = SMB_VFS_NEXT_PWRITE(handle, fsp, data, n, offset);
	write_landed(f, n);
	return written;
}

int ofs_ftruncate(struct vfs_handle_struct *handle, struct files_struct *fsp, off_t length)
{
	struct ofs_file *f;
	int ret;

	ret = ofs_write_begin(handle, fsp, length == 0, &f);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	ret = SMB_VFS_NEXT_FTRUNCATE(handle, fsp, length);
	ofs_write_end(f);
	return ret;
}

int ofs_fallocate(struct vfs_handle_struct *handle, struct files_struct *fsp, uint32_t mode,
		off_t offset, off_t len)
{
	struct ofs_file *f = ofs_file_marked(handle, fsp);
	int ret;

	if (f != NULL && mode == VFS_FALLOCATE_FL_KEEP_SIZE) {
		return 0; /* space set aside, which a file that may leave the disk does not keep anyway */
	}
	ret = write_admit(handle, fsp, (uint64_t)len, &f);
	if (ret != 0) {
		errno = -ret;
		return -1;
	}
	ret = SMB_VFS_NEXT_FALLOCATE(handle, fsp, mode, offset, len);
	write_landed(f, (uint64_t)len);
	return ret;
}

ssize_t ofs_recvfile(struct vfs_handle_struct *handle, int fromfd, struct files_struct *tofsp,
		off_t offset, size_t count)
{
	struct ofs_file *f;
	ssize_t written;
	int ret;

	ret = write_admit(handle, tofsp, count, &f);
	if (ret != 0) {
		/* the bytes are in the client's socket and must come out of it all the same */
		ssize_t drained = drain_socket(fromfd, count);

		errno = drained == (ssize_t)count ? -ret : EIO;
		return -1;
	}
	ofs_count(f->conn, client_write_bytes, count);
	written = SMB_VFS_NEXT_RECVFILE(handle, fromfd, tofsp, offset, count);
	write_landed(f, count);
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
	struct timeval room_until; /* unset: it has not waited for room yet */
	bool room;                 /* taken, and not landed */
	ssize_t ret;
	struct vfs_aio_state aio;
};

static void pwrite_cleanup(struct tevent_req *req, enum tevent_req_state req_state)
{
	struct ofs_pwrite_state *state = tevent_req_data(req, struct ofs_pwrite_state);
	struct ofs_conn *c = state->room ? ofs_conn_get(state->handle) : NULL;

	(void)req_state;
	if (c != NULL) {
		ofs_room_landed(c, state->n);
	}
	state->room = false;
}

static void pwrite_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	struct ofs_pwrite_state *state = tevent_req_data(req, struct ofs_pwrite_state);

	state->ret = SMB_VFS_PWRITE_RECV(subreq, &state->aio);
	TALLOC_FREE(subreq);
	ofs_write_end(state->file);
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

	ret = ofs_write_begin(state->handle, state->fsp, false, &state->file);
	if (ret != 0) {
		tevent_req_error(req, -ret);
		return;
	}
	ofs_count(state->file->conn, client_write_bytes, state->n);
	subreq = SMB_VFS_NEXT_PWRITE_SEND(state, state->ev, state->handle, state->fsp, state->data,
			state->n, state->offset);
	if (tevent_req_nomem(subreq, req)) {
		ofs_write_end(state->file);
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

static void pwrite_waited(struct tevent_req *subreq);

/* Again in `us`, perhaps from the start. */
static void pwrite_later(struct tevent_req *req, uint32_t us)
{
	struct ofs_pwrite_state *state = tevent_req_data(req, struct ofs_pwrite_state);
	struct tevent_req *subreq = tevent_wakeup_send(
			state, state->ev, tevent_timeval_current_ofs(0, us));

	if (!tevent_req_nomem(subreq, req)) {
		tevent_req_set_callback(subreq, pwrite_waited, req);
	}
}

/* 0 if there is room; else the request waits, or has failed. */
static int pwrite_room(struct tevent_req *req)
{
	struct ofs_pwrite_state *state = tevent_req_data(req, struct ofs_pwrite_state);
	struct ofs_conn *c = ofs_conn_get(state->handle);
	bool can_wait = state->ev == ofs_link_ev(c->link);
	int ret = can_wait ? ofs_room_take(c, state->n) : ofs_room_take_now(c, state->n);

	if (ret == -EAGAIN && tevent_timeval_is_zero(&state->room_until)) {
		state->room_until = tevent_timeval_current_ofs(PWRITE_ROOM_S, 0);
	}
	if (ret == -EAGAIN) {
		struct timeval now = tevent_timeval_current();

		if (tevent_timeval_compare(&now, &state->room_until) < 0) {
			pwrite_later(req, PWRITE_ROOM_TRY_US);
			return ret;
		}
		ret = -ENOSPC;
	}
	state->room = ret == 0;
	if (ret != 0) {
		tevent_req_error(req, -ret);
	}
	return ret;
}

/* Room and, for a marked file, its bytes: then the write. */
static void pwrite_admitted(struct tevent_req *req)
{
	struct ofs_pwrite_state *state = tevent_req_data(req, struct ofs_pwrite_state);
	struct ofs_file *f;
	struct tevent_req *subreq;

	if (pwrite_room(req) != 0) {
		return;
	}
	f = ofs_write_awaits(state->handle, state->ev, state->fsp);
	if (f == NULL) {
		pwrite_go(req);
		return;
	}
	subreq = ofs_recall_send(state, state->ev, f->conn, f, 0, UINT64_MAX, true);
	if (!tevent_req_nomem(subreq, req)) {
		tevent_req_set_callback(subreq, pwrite_recalled, req);
	}
}

static void pwrite_waited(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);

	(void)tevent_wakeup_recv(subreq);
	TALLOC_FREE(subreq);
	pwrite_admitted(req);
}

struct tevent_req *ofs_pwrite_send(struct vfs_handle_struct *handle, TALLOC_CTX *ctx,
		struct tevent_context *ev, struct files_struct *fsp, const void *data, size_t n,
		off_t offset)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	unsigned wait_us = ev == ofs_link_ev(c->link) ? ofs_room_wait_us(c, n) : 0;
	struct ofs_pwrite_state *state;
	struct tevent_req *req;

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
	tevent_req_set_cleanup_fn(req, pwrite_cleanup);
	if (wait_us > 0) {
		pwrite_later(req, wait_us);
	} else {
		pwrite_admitted(req);
	}
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
	struct ofs_file *f = ofs_file_marked(handle, fsp);
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
	struct ofs_file *f = read_awaits(handle, fromfsp, count, offset);

	if (f != NULL) {
		int ret = ofs_recall_range(f->conn, f, (uint64_t)offset, count);

		if (ret != 0) {
			errno = -ret; /* smbd has promised the bytes: it ends the connection */
			return -1;
		}
	}
	ofs_count(ofs_conn_get(handle), client_read_bytes, count);
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
		tevent_req_error(req, ret == -ECONNRESET ? ETIMEDOUT : -ret);
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
		errno = aio->error; /* streams_xattr looks here, and takes 0 for still under way */
		return -1;
	}
	*aio = state->aio;
	tevent_req_received(req);
	return 0;
}
