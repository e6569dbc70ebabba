/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Before a byte changes: the file is known to be newer than S3, whatever dies next.
 * Way: from ofs_open, ofs_io, ofs_whole; ofs_mark.c, the intent file, ofs_recall.c (DISCARD).
 * Thread: the client's smbd; blocks on the local disk, and for a stub that is emptied on the daemon.
 * Owns: nothing.
 * Holds: 1. A clean file's intent is on the disk before its first write (rule 4); files S3
 *           never saw need none.
 *        2. Every write lies between ofs_writes_begin and ofs_writes_end.
 *        3. A stub that is emptied: mark, intent, [DISCARD], record, hint, all within one change of
 *           its directory. The daemon makes it plain, empty and dirty, and it alone knows until we
 *           say so; with the mark and the intent first, it may die with us at any point: before
 *           DISCARD the file is the stub it was, after it a scan of the marked directories, or,
 *           after a power cut, of the intents, finds it dirty. While the change is under way the
 *           mark stays; should we die, the daemon keeps it until DISCARD has ended.
 *        4. No record says stub and dirty. A file that became a stub although we have it open (we got
 *           in by force, and the daemon died before it had put the record back) is marked from then
 *           on: -EAGAIN, and the caller makes it whole, or empties it, as any stub.
 */
#include "ofs.h"

#include "shared/intent.h"

void ofs_writes_begin(struct ofs_conn *c, const struct ofs_file *f)
{
	ofs_shm_write_begin(&c->shm->stripe[f->stripe]);
}

void ofs_writes_end(struct ofs_conn *c, const struct ofs_file *f)
{
	ofs_shm_write_end(&c->shm->stripe[f->stripe]);
}

static int intent_append(struct ofs_conn *c, const struct ofs_record *rec, ino_t ino)
{
	struct ofs_intent in = {.oid = rec->oid, .ino = ino, .data_gen = rec->data_gen};
	uint8_t buf[OFS_INTENT_BYTES];
	ssize_t n;

	ofs_intent_encode(&in, buf);
	do {
		n = write(c->intent_fd, buf, sizeof(buf));
	} while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(buf)) {
		return n < 0 ? -errno : -ENOSPC;
	}
	return fdatasync(c->intent_fd) == 0 ? 0 : -errno;
}

/* Make the record say dirty. *was_clean: it did not before. -EAGAIN: it is a stub's. */
static int dirty_set(struct ofs_conn *c, struct ofs_file *f, const struct stat *st,
		struct ofs_record *rec, bool *was_clean)
{
	enum ofs_record_state state;
	int ret;

	ret = ofs_shm_lock(c->shm, f->stripe, OFS_LOCK_TIMEOUT_MS);
	if (ret != 0) {
		return ret;
	}
	ret = ofs_record_look(c, f->fd, st, rec, &state);
	if (ret == 0 && state == OFS_RECORD_QUARANTINED) {
		ret = -EIO;
	}
	if (ret == 0 && state == OFS_RECORD_VALID && (rec->flags & OFS_REC_STUB) != 0) {
		f->marked = true;
		f->oid = rec->oid;
		ret = -EAGAIN;
	}
	if (ret == 0) {
		*was_clean = state == OFS_RECORD_VALID && (rec->flags & OFS_REC_DATA_DIRTY) == 0;
		rec->flags |= OFS_REC_DATA_DIRTY;
		rec->data_gen++;
		ret = ofs_record_put(c, f->fd, rec);
	}
	ofs_shm_unlock(c->shm, f->stripe);
	return ret;
}

/*
 * The intent goes first and without the lock, for it waits for the disk. Should the file have been
 * made clean, or the intent file rotated, between the two, it is written once more: the first write
 * has not happened yet.
 */
static int dirty_durable(struct ofs_conn *c, struct ofs_file *f, const struct stat *st,
		struct ofs_record *rec)
{
	uint32_t epoch = atomic_load(&c->shm->intent_epoch);
	enum ofs_record_state state;
	bool was_clean = false;
	bool intent = false;
	int ret;

	ret = ofs_record_look(c, f->fd, st, rec, &state);
	if (ret == 0 && state == OFS_RECORD_VALID && (rec->flags & OFS_REC_DATA_DIRTY) == 0) {
		intent = true;
		ret = intent_append(c, rec, st->st_ino);
	}
	if (ret == 0) {
		ret = dirty_set(c, f, st, rec, &was_clean);
	}
	if (ret == 0 && (was_clean || intent) &&
			(!intent || atomic_load(&c->shm->intent_epoch) != epoch)) {
		ret = intent_append(c, rec, st->st_ino);
	}
	return ret;
}

/* A marked file is never dirty by its record: that becomes so with DISCARD, in one step. */
static int dirty_by_discard(struct ofs_conn *c, struct ofs_file *f, const struct stat *st)
{
	enum ofs_record_state state;
	struct ofs_record rec;
	int ret;

	ret = ofs_record_look(c, f->fd, st, &rec, &state);
	if (ret == 0 && state == OFS_RECORD_VALID) {
		ret = intent_append(c, &rec, st->st_ino);
	}
	return ret == 0 ? ofs_recall_discard(c, f) : ret;
}

int ofs_first_write(struct ofs_conn *c, struct ofs_file *f)
{
	struct ofs_hint hint = {.kind = OFS_HINT_DIRTY};
	struct ofs_place place;
	struct ofs_record rec;
	uint32_t stripe = 0;
	struct stat st;
	int ret;

	if (f->fresh) {
		f->wrote = true;
		return 0;
	}
	if (fstat(f->fd, &st) != 0) {
		return -errno;
	}
	if (!S_ISREG(st.st_mode)) {
		return 0;
	}
	ret = ofs_place_of_fd(c, f->fd, &place);
	if (ret != 0) {
		return ret;
	}
	if (place.dirfd >= 0) {
		ret = ofs_change_begin(c, place.dirfd, &hint.parent, &stripe);
		if (ret != 0) {
			ofs_place_done(&place);
			return ret;
		}
	}
	if (f->marked) {
		ret = dirty_by_discard(c, f, &st);
	}
	if (ret == 0) {
		ret = dirty_durable(c, f, &st, &rec);
	}
	if (ret == 0) {
		f->wrote = true;
		f->oid = rec.oid;
		if (place.dirfd >= 0) {
			hint.ino = st.st_ino;
			hint.oid = rec.oid;
			ofs_hint_name(hint.name, place.name);
			ofs_hint(c, &hint);
		}
	}
	if (place.dirfd >= 0) {
		ofs_change_end(c, stripe);
		ofs_place_done(&place);
	}
	return ret;
}

void ofs_hint_closed(struct ofs_conn *c, const struct ofs_file *f, const struct ofs_place *place)
{
	struct ofs_hint hint = {.kind = OFS_HINT_CLOSED, .ino = f->ino, .oid = f->oid};
	struct ofs_record dir;

	if (place->dirfd < 0 || ofs_record_get(&c->io, place->dirfd, &dir) != 0) {
		return; /* unlinked: its bytes go nowhere */
	}
	hint.parent = dir.oid;
	ofs_hint_name(hint.name, place->name);
	ofs_hint(c, &hint);
}
