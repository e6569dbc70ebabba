/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Copies within the server (FSCTL_SRV_COPYCHUNK and its like): a stub that is copied whole is copied
 * in S3; else both files are made ready, and NEXT copies.
 * Way: from smbd's ioctl code; ofs_whole.c, or recall of the source's range, all of a marked
 *      destination, then NEXT.
 * Thread: the client's smbd; asynchronous.
 * Owns: the map from tokens to handles, beside the one below us; entries go with their handles.
 * Holds: 1. NEXT copies between raw descriptors (copy_file_range): a source that is a stub would
 *           give zeros. Its range is here first (rule 8).
 *        2. The destination is written under the rules of ofs_io.c.
 *        3. smbd waits for a copy before it closes the destination, not the source: after every wait
 *           the source is what its token means then, if anything.
 */
#include "ofs.h"

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
	const struct vfs_fn_pointers *fns;
	struct files_struct *src_fsp; /* offload_source; NULL: not ours to prepare */
	struct vfs_handle_struct *src_handle; /* of another share, perhaps: with its own link */
	struct files_struct *dest_fsp;
	off_t dest_off;
	off_t to_copy;
	struct ofs_file *dest;
	bool room; /* taken, and not landed */
	off_t copied;
};

static void offload_write_cleanup(struct tevent_req *req, enum tevent_req_state req_state)
{
	struct ofs_offload_write_state *state =
			tevent_req_data(req, struct ofs_offload_write_state);
	struct ofs_conn *c = state->room ? ofs_conn_get(state->handle) : NULL;

	(void)req_state;
	if (c != NULL) {
		ofs_room_landed(c, (uint64_t)state->to_copy);
	}
	state->room = false;
}

static void offload_write_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	struct ofs_offload_write_state *state =
			tevent_req_data(req, struct ofs_offload_write_state);
	NTSTATUS status;

	status = SMB_VFS_NEXT_OFFLOAD_WRITE_RECV(state->handle, subreq, &state->copied);
	TALLOC_FREE(subreq);
	if (state->dest != NULL) {
		ofs_write_end(state->dest);
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
		ret = ofs_room_take_now(ofs_conn_get(state->handle), (uint64_t)state->to_copy);
		state->room = ret == 0;
		if (ret == 0) {
			ret = ofs_write_begin(state->handle, state->dest_fsp, false, &state->dest);
		}
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
			ofs_write_end(state->dest);
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
		f = ofs_write_awaits(state->handle, state->ev, state->dest_fsp);
	}
	if (f == NULL) {
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
		f = ofs_file_marked(state->src_handle, state->src_fsp);
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

/* --- in S3, perhaps --- */

#define OFFLOAD_LATER_MS 20

static void offload_begin(struct tevent_req *req);

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

static void offload_source(struct ofs_offload_write_state *state)
{
	if (offload_ctx == NULL || state->transfer_offset < 0 || state->to_copy <= 0 ||
			!NT_STATUS_IS_OK(vfs_offload_token_db_fetch_fsp(
					offload_ctx, state->token, &state->src_fsp))) {
		state->src_fsp = NULL; /* NEXT knows what to answer to a token of nobody */
	}
	state->src_handle = state->src_fsp != NULL ? handle_of(state->src_fsp, state->fns) : NULL;
}

static void offload_chunk(const struct ofs_offload_write_state *state, struct ofs_chunk *chunk)
{
	*chunk = (struct ofs_chunk){
		.src_handle = state->src_handle,
		.handle = state->handle,
		.src_fsp = state->src_fsp,
		.fsp = state->dest_fsp,
		.src_off = state->transfer_offset,
		.off = state->dest_off,
		.length = state->to_copy,
	};
}

static void offload_asked(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);
	struct ofs_offload_write_state *state =
			tevent_req_data(req, struct ofs_offload_write_state);
	struct ofs_chunk chunk;

	offload_source(state);
	offload_chunk(state, &chunk);
	ofs_whole_recv(subreq, &chunk);
	TALLOC_FREE(subreq);
	offload_begin(req);
}

static void offload_waited(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq, struct tevent_req);

	(void)tevent_wakeup_recv(subreq);
	TALLOC_FREE(subreq);
	offload_source(tevent_req_data(req, struct ofs_offload_write_state));
	offload_begin(req);
}

static void offload_begin(struct tevent_req *req)
{
	struct ofs_offload_write_state *state =
			tevent_req_data(req, struct ofs_offload_write_state);
	bool chunks = state->fsctl == FSCTL_SRV_COPYCHUNK ||
			state->fsctl == FSCTL_SRV_COPYCHUNK_WRITE;
	struct tevent_req *subreq;
	struct ofs_chunk chunk;

	if (!chunks || state->src_handle == NULL || fsp_is_alternate_stream(state->src_fsp) ||
			fsp_is_alternate_stream(state->dest_fsp) ||
			!NT_STATUS_IS_OK(vfs_offload_token_check_handles(state->fsctl,
					state->src_fsp, state->dest_fsp))) {
		offload_src(req); /* NEXT says what is wrong with it */
		return;
	}
	offload_chunk(state, &chunk);
	switch (ofs_whole_look(&chunk)) {
	case OFS_WHOLE_DONE:
		state->copied = state->to_copy;
		tevent_req_done(req);
		return;
	case OFS_WHOLE_ASK:
		subreq = ofs_whole_send(state, &chunk);
		if (!tevent_req_nomem(subreq, req)) {
			tevent_req_set_callback(subreq, offload_asked, req);
		}
		return;
	case OFS_WHOLE_LATER:
		subreq = tevent_wakeup_send(
				state, state->ev, timeval_current_ofs_msec(OFFLOAD_LATER_MS));
		if (!tevent_req_nomem(subreq, req)) {
			tevent_req_set_callback(subreq, offload_waited, req);
		}
		return;
	case OFS_WHOLE_NO:
		break;
	}
	offload_src(req);
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
		.fns = handle->fns,
		.fsctl = fsctl,
		.token = token,
		.transfer_offset = transfer_offset,
		.dest_fsp = dest_fsp,
		.dest_off = dest_off,
		.to_copy = to_copy,
	};
	tevent_req_set_cleanup_fn(req, offload_write_cleanup);
	offload_source(state);
	if (ev == ofs_link_ev(ofs_conn_get(handle)->link)) {
		offload_begin(req);
	} else {
		offload_src(req);
	}
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
