/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A client copies a file whole within the server: what is only in S3 is copied there.
 * Way: from ofs_copy.c, chunk by chunk; COPY to the daemon, first to copy the object, then to make
 *      the new file a stub of the copy.
 * Thread: the client's smbd; the first half is asynchronous, the second, local one waits.
 * Owns: struct ofs_whole: which extents of a file that is such a stub the client has asked for.
 * Holds: 1. The chunks of a copy come one by one, and nothing says that all will come. The first,
 *           at offset 0 of a file without data, is taken for a copy of the whole; those that follow
 *           find their bytes there. If something else comes first (a write, the close), the file
 *           is brought to what was asked for: ofs_whole_settle. A process that dies before it
 *           leaves the whole copy.
 *        2. A chunk finds its bytes there only while the source is the stub it was, and the copy
 *           has not been written, by whomever.
 *        3. While the file is made a stub this thread waits, and no write of ours is under way; that
 *           nobody else has it open is the daemon's to make sure. What is not known to have failed
 *           counts as done: a stub that is taken for one costs a question, the opposite bytes.
 */
#include "ofs.h"

#define WHOLE_EXTENT_BYTES (INT64_C(1) << 20) /* what clients and smbd take for a chunk's length */

struct ofs_whole { /* talloc child of the conn */
	struct ofs_oid source;
	uint64_t source_gen, gen; /* data_gen of the source, and of the copy */
	off_t size;
	bool sized;          /* the client gave it its size before the first chunk */
	size_t extents, left; /* left: not asked for yet */
	bool asked[];
};

/* A stub with its record; false: it is none. */
static bool whole_is_stub(struct ofs_conn *c, int fd, struct ofs_record *rec)
{
	enum ofs_record_state state;
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & OFS_MARKER_MODE) != 0 &&
			ofs_record_look(c, fd, &st, rec, &state) == 0 &&
			state == OFS_RECORD_VALID && (rec->flags & OFS_REC_STUB) != 0;
}

/* Has nobody written into the copy? It may have become resident. */
static bool whole_is_clean(const struct ofs_file *f)
{
	enum ofs_record_state state;
	struct ofs_record rec;
	struct stat st;

	return fstat(f->fd, &st) == 0 && ofs_record_look(f->conn, f->fd, &st, &rec, &state) == 0 &&
			state == OFS_RECORD_VALID && (rec.flags & OFS_REC_DATA_DIRTY) == 0 &&
			rec.data_gen == f->whole->gen;
}

static bool whole_lock_free(struct files_struct *fsp, off_t off, off_t length,
		enum brl_type type)
{
	struct lock_struct lck;

	init_strict_lock_struct(fsp, fsp->op->global->open_persistent_id, off, length, type,
			lp_posix_cifsu_locktype(fsp), &lck);
	return SMB_VFS_STRICT_LOCK_CHECK(fsp->conn, fsp, &lck);
}

/* All zeros, whatever its length: the offset of the descriptor is nobody's (smbd uses pread). */
static bool whole_has_no_data(int fd)
{
	return lseek(fd, 0, SEEK_DATA) < 0 && errno == ENXIO;
}

/* --- a chunk of a file that is a stub of the copy --- */

static bool whole_covers(const struct ofs_chunk *k, struct ofs_file *f, const struct ofs_file *src)
{
	const struct ofs_whole *w = f->whole;
	struct ofs_record rec;

	return k->src_off == k->off && k->off % WHOLE_EXTENT_BYTES == 0 && k->length > 0 &&
			k->length <= w->size - k->off &&
			(k->length % WHOLE_EXTENT_BYTES == 0 || k->off + k->length == w->size) &&
			whole_is_stub(src->conn, src->fd, &rec) &&
			ofs_oid_equal(&rec.oid, &w->source) && rec.data_gen == w->source_gen &&
			rec.size == (uint64_t)w->size && whole_is_clean(f);
}

static void whole_asked(struct ofs_file *f, off_t off, off_t length)
{
	struct ofs_whole *w = f->whole;
	size_t end = (size_t)((off + length + WHOLE_EXTENT_BYTES - 1) / WHOLE_EXTENT_BYTES);

	for (size_t i = (size_t)(off / WHOLE_EXTENT_BYTES); i < end; i++) {
		w->left -= !w->asked[i];
		w->asked[i] = true;
	}
	if (w->left == 0) {
		TALLOC_FREE(f->whole); /* it is the copy, and a stub like any other */
	}
}

/* --- the first one --- */

static bool whole_may_begin(const struct ofs_chunk *k, const struct ofs_file *src)
{
	struct ofs_conn *from = ofs_conn_get(k->src_handle), *to = ofs_conn_get(k->handle);
	int fd = fsp_get_io_fd(k->fsp);
	struct stat source, target;
	struct ofs_file *f;

	if (k->src_off != 0 || k->off != 0 || strcmp(from->volume, to->volume) != 0 ||
			from->tree_ino != to->tree_ino || from->tree_dev != to->tree_dev ||
			fstat(src->fd, &source) != 0 || fstat(fd, &target) != 0) {
		return false;
	}
	if (k->length > source.st_size ||
			(k->length < source.st_size && k->length % WHOLE_EXTENT_BYTES != 0) ||
			(target.st_size != 0 && target.st_size != source.st_size) ||
			!whole_has_no_data(fd)) {
		return false;
	}
	if (ofs_write_begin(k->handle, k->fsp, false, &f) != 0) {
		return false;
	}
	ofs_write_end(f); /* dirty, and known to be so, if it was not */
	return f->writing == 0;
}

enum ofs_whole_verdict ofs_whole_look(const struct ofs_chunk *k)
{
	struct ofs_file *src = ofs_file_marked(k->src_handle, k->src_fsp);
	struct ofs_file *f = ofs_file_get(k->handle, k->fsp);

	if (f != NULL && f->copying) {
		return OFS_WHOLE_LATER;
	}
	if (src == NULL || (f != NULL && f->no_whole) ||
			!whole_lock_free(k->src_fsp, k->src_off, k->length, READ_LOCK) ||
			!whole_lock_free(k->fsp, k->off, k->length, WRITE_LOCK)) {
		return OFS_WHOLE_NO;
	}
	if (f != NULL && f->whole != NULL) {
		if (!whole_covers(k, f, src)) {
			return OFS_WHOLE_NO;
		}
		whole_asked(f, k->off, k->length);
		return OFS_WHOLE_DONE;
	}
	return (f == NULL || !f->marked) && whole_may_begin(k, src) ? OFS_WHOLE_ASK : OFS_WHOLE_NO;
}

struct tevent_req *ofs_whole_send(TALLOC_CTX *ctx, const struct ofs_chunk *k)
{
	struct ofs_file *src = ofs_file_get(k->src_handle, k->src_fsp);
	struct ofs_file *f = ofs_file_get(k->handle, k->fsp);
	struct tevent_req *req;
	struct stat st;

	if (fstat(src->fd, &st) != 0) {
		return NULL;
	}
	req = ofs_call_copy_send(ctx, f->conn->link, f->fd, &src->oid, (uint64_t)st.st_size);
	f->copying = req != NULL;
	return req;
}

static struct ofs_whole *whole_new(struct ofs_conn *c, const struct ofs_record *source,
		const struct stat *target, uint64_t gen)
{
	off_t size = (off_t)source->size;
	size_t extents = (size_t)((size + WHOLE_EXTENT_BYTES - 1) / WHOLE_EXTENT_BYTES);
	struct ofs_whole *w = talloc_zero_size(c, sizeof(*w) + extents * sizeof(w->asked[0]));

	if (w != NULL) {
		w->source = source->oid;
		w->source_gen = source->data_gen;
		w->gen = gen;
		w->size = size;
		w->sized = target->st_size != 0;
		w->extents = w->left = extents;
	}
	return w;
}

/* The object's copy is there: the file becomes its stub. */
static void whole_take(const struct ofs_chunk *k, const struct ofs_file *src, struct ofs_file *f)
{
	struct ofs_record source, rec;
	struct ofs_whole *w = NULL;
	struct stat st;
	uid_t euid;
	int ret;

	if (f->writing == 0 && !f->marked && fstat(f->fd, &st) == 0 &&
			ofs_record_get(&f->conn->io, f->fd, &rec) == 0 &&
			whole_is_stub(src->conn, src->fd, &source)) {
		w = whole_new(f->conn, &source, &st, rec.data_gen);
	}
	if (w == NULL) {
		return;
	}
	f->marked = true;
	ret = ofs_call_copy_take(f->conn->link, ofs_link_generation(f->conn->link),
			fsp_get_io_fd(k->fsp), &f->oid, source.size);
	if (ret == -EOPNOTSUPP && !whole_is_stub(f->conn, f->fd, &rec)) {
		f->marked = false;
		talloc_free(w);
		return;
	}
	f->wrote = f->fresh = false;
	if (ret == 0) {
		f->whole = w;
		return;
	}
	talloc_free(w);
	/* A daemon that died in between may have left its lease on this open file. */
	euid = ofs_root_enter();
	(void)fcntl(f->fd, F_SETLEASE, F_UNLCK);
	ofs_root_leave(euid);
}

void ofs_whole_recv(struct tevent_req *req, const struct ofs_chunk *k)
{
	struct ofs_file *src = k->src_handle != NULL ? ofs_file_get(k->src_handle, k->src_fsp) : NULL;
	struct ofs_file *f = ofs_file_get(k->handle, k->fsp);
	int ret = ofs_call_copy_recv(ofs_conn_get(k->handle)->link, req);

	if (f == NULL) {
		return;
	}
	f->copying = false;
	if (ret == 0 && src != NULL) {
		whole_take(k, src, f);
	}
	f->no_whole = f->whole == NULL;
}

/* --- the copy was not of the whole --- */

static int whole_trim(const struct ofs_file *f, const struct ofs_whole *w)
{
	off_t end = 0;

	for (size_t i = 0; i < w->extents; i++) {
		off_t at = (off_t)i * WHOLE_EXTENT_BYTES;

		if (w->asked[i]) {
			end = MIN(at + WHOLE_EXTENT_BYTES, w->size);
		} else if (fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
					   WHOLE_EXTENT_BYTES) != 0) {
			return -errno;
		}
	}
	return ftruncate(f->fd, w->sized ? w->size : end) == 0 ? 0 : -errno;
}

int ofs_whole_settle(struct ofs_file *f)
{
	struct ofs_whole *w = f->whole;
	int ret;

	if (!whole_is_clean(f)) {
		TALLOC_FREE(f->whole); /* somebody else has written: it is theirs by now */
		return 0;
	}
	ret = ofs_recall_whole(f->conn, f);
	if (ret == 0) {
		ret = ofs_first_write(f->conn, f);
	}
	if (ret != 0) {
		DBG_ERR("volume %s: a copy that was not finished is whole now, and cannot be cut: "
			"%s\n", f->conn->volume, strerror(-ret));
		return ret;
	}
	ofs_writes_begin(f->conn, f);
	ret = whole_trim(f, w);
	ofs_writes_end(f->conn, f);
	TALLOC_FREE(f->whole);
	return ret;
}

int ofs_whole_close(struct ofs_file *f)
{
	struct ofs_place place;
	int ret = 0;

	if (f->whole == NULL) {
		return 0;
	}
	ret = ofs_place_of_fd(f->conn, f->fd, &place);
	if (ret == 0 && place.dirfd >= 0) {
		ret = ofs_whole_settle(f);
	}
	ofs_place_done(&place);
	TALLOC_FREE(f->whole);
	return ret;
}
