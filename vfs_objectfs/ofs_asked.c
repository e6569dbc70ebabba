/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the daemon asks of smbd first, because only smbd can do it: telling clients that watch, and
 * breaking what clients cache of files that others have changed.
 * Way: from ofs_link.c with a whole frame; to Samba's notify daemon and share-mode table; the
 *      answer goes back by ofs_link.c.
 * Thread: the client's smbd, from its loop or from inside a wait for the daemon. Nothing here
 *         waits.
 * Owns: nothing.
 * Holds: 1. No lock of Samba's is taken: a wait for the daemon may be inside one. So the share-mode
 *           table is read as it is, and never written: entries are looked at in copies.
 *        2. It is this connection that asks, not its client: nothing depends on the user.
 */
#include "ofs.h"
#include "shared/cursor.h"

#include "locking/leases_db.h"
#include "locking/proto.h"
#include "locking/share_mode_lock.h"
#include "lib/util/server_id.h"
#include "librpc/gen_ndr/open_files.h"

/* No name is so long, nor is the buffer of a client that watches: Samba tells it to look again. */
#define ASKED_MANY_BYTES 65536

/* --- who watches --- */

/* smbd has resolved the paths of shares: those who watch are known by the tree's own path. */
static void asked_trigger(struct ofs_conn *c, uint32_t action, uint32_t filter, const char *path)
{
	notify_trigger(c->handle->conn->sconn->notify_ctx, action, filter, c->tree, path);
}

/* "You have missed something in here" has no word between smbds. */
static int asked_many(struct ofs_conn *c, const char *dir)
{
	size_t len = strlen(dir);
	char *path = talloc_array(talloc_tos(), char, len + 1 + ASKED_MANY_BYTES + 1);
	char *name = path;

	if (path == NULL) {
		return -ENOMEM;
	}
	if (len > 0) {
		memcpy(path, dir, len);
		path[len] = '/';
		name += len + 1;
	}
	memset(name, '?', ASKED_MANY_BYTES);
	name[ASKED_MANY_BYTES] = '\0';
	asked_trigger(c, NOTIFY_ACTION_MODIFIED, FILE_NOTIFY_CHANGE_ALL, path);
	talloc_free(path);
	return 0;
}

static int asked_notify(struct ofs_conn *c, const struct ofs_notify_req *m)
{
	const uint32_t name = (m->flags & OFS_WIRE_NOTIFY_DIR) != 0 ? FILE_NOTIFY_CHANGE_DIR_NAME
								    : FILE_NOTIFY_CHANGE_FILE_NAME;

	if (c->handle->conn->sconn->notify_ctx == NULL) {
		return -EOPNOTSUPP; /* change notify = no */
	}
	switch (m->kind) {
	case OFS_WIRE_NOTIFY_ADDED:
		asked_trigger(c, NOTIFY_ACTION_ADDED, name, m->path);
		return 0;
	case OFS_WIRE_NOTIFY_REMOVED:
		asked_trigger(c, NOTIFY_ACTION_REMOVED, name, m->path);
		return 0;
	case OFS_WIRE_NOTIFY_MODIFIED: /* another tool, or another node, may have changed them all */
		asked_trigger(c, NOTIFY_ACTION_MODIFIED, FILE_NOTIFY_CHANGE_SIZE |
				FILE_NOTIFY_CHANGE_LAST_WRITE | FILE_NOTIFY_CHANGE_ATTRIBUTES |
				FILE_NOTIFY_CHANGE_SECURITY, m->path);
		return 0;
	case OFS_WIRE_NOTIFY_MANY:
		return asked_many(c, m->path);
	default:
		return -EINVAL;
	}
}

/* --- who has a file open --- */

struct asked_file {
	struct ofs_conn *c;
	struct file_id id;
	uint8_t state;
	uint32_t *broken;
};

static bool asked_entry(struct share_mode_entry *entry, bool *modified, void *private_data)
{
	struct asked_file *file = private_data;
	struct share_mode_entry e = *entry; /* what is found of it is noted there, and must not be stored */
	uint32_t lease, required;
	bool breaking;
	NTSTATUS status;

	if (server_id_is_disconnected(&e.pid)) {
		file->state |= OFS_WIRE_HELD_KEEP;
		return false;
	}
	if (share_entry_stale_pid(&e)) {
		return false;
	}
	if ((e.access_mask & (SEC_FILE_READ_DATA | SEC_FILE_EXECUTE)) != 0) {
		file->state |= OFS_WIRE_HELD_OPEN;
	}
	if ((e.access_mask & (SEC_FILE_WRITE_DATA | SEC_FILE_APPEND_DATA)) != 0) {
		file->state |= OFS_WIRE_HELD_KEEP;
	}
	if (e.op_type == NO_OPLOCK) {
		return false;
	}
	if (e.op_type == LEASE_OPLOCK) {
		status = leases_db_get(&e.client_guid, &e.lease_key, &file->id, &lease, &breaking, NULL,
				&required, NULL, NULL);
		if (!NT_STATUS_IS_OK(status) || lease == SMB2_LEASE_NONE ||
				(breaking && required == SMB2_LEASE_NONE)) { /* it has been told */
			return false;
		}
	}
	status = send_break_message(file->c->handle->conn->sconn->msg_ctx, &file->id, &e,
			SMB2_LEASE_NONE);
	*file->broken += NT_STATUS_IS_OK(status) ? 1 : 0;
	return false;
}

static uint8_t asked_break_one(struct ofs_conn *c, uint64_t ino, uint32_t *broken)
{
	SMB_STRUCT_STAT st = {.st_ex_dev = c->file_dev, .st_ex_ino = ino};
	struct asked_file file = {.c = c, .broken = broken};
	struct share_mode_lock *lck;

	file.id = vfs_file_id_from_sbuf(c->handle->conn, &st);
	lck = fetch_share_mode_unlocked(talloc_tos(), file.id);
	if (lck == NULL) {
		return 0; /* nobody has it open */
	}
	if (!share_mode_forall_entries(lck, asked_entry, &file)) {
		file.state |= OFS_WIRE_HELD_KEEP;
	}
	TALLOC_FREE(lck);
	return file.state;
}

static bool asked_break(struct ofs_conn *c, const struct ofs_wire_head *head, const uint8_t *frame,
		struct ofs_frame *f)
{
	struct ofs_break_rep rep = {.status = 0};
	uint8_t states[OFS_WIRE_BREAK_MAX];
	struct ofs_break_req m;
	struct ofs_rd in;

	if (ofs_wire_decode_break_req(frame, head->length, &m) != 0 ||
			m.inodes.len % sizeof(uint64_t) != 0 ||
			m.inodes.len / sizeof(uint64_t) > OFS_WIRE_BREAK_MAX) {
		return false;
	}
	in = ofs_rd_init(m.inodes.data, m.inodes.len);
	rep.states.data = states;
	while (in.left > 0) {
		states[rep.states.len++] = asked_break_one(c, ofs_rd_u64(&in), &rep.broken);
	}
	f->len = ofs_wire_encode_break_rep(f->bytes, sizeof(f->bytes), f->id, &rep);
	return true;
}

NTSTATUS ofs_durable_disconnect(struct vfs_handle_struct *handle, struct files_struct *fsp,
		const DATA_BLOB old_cookie, TALLOC_CTX *mem_ctx, DATA_BLOB *new_cookie)
{
	struct ofs_conn *c = ofs_conn_get(handle);
	NTSTATUS status = SMB_VFS_NEXT_DURABLE_DISCONNECT(handle, fsp, old_cookie, mem_ctx, new_cookie);

	if (NT_STATUS_IS_OK(status)) {
		/* for a daemon that finds no smbd to ask */
		atomic_store(&c->shm->durable_until_ns, ofs_boot_ns() + OFS_SHM_DURABLE_NS);
	}
	return status;
}

/* --- the daemon's questions --- */

static bool asked_notify_frame(struct ofs_conn *c, const struct ofs_wire_head *head,
		const uint8_t *frame, struct ofs_frame *f)
{
	struct ofs_notify_rep rep = {.status = 0};
	struct ofs_notify_req m;

	if (ofs_wire_decode_notify_req(frame, head->length, &m) != 0) {
		return false;
	}
	rep.status = asked_notify(c, &m);
	f->len = ofs_wire_encode_notify_rep(f->bytes, sizeof(f->bytes), f->id, &rep);
	return true;
}

bool ofs_asked(struct ofs_conn *c, struct ofs_link *link, const struct ofs_wire_head *head,
		const uint8_t *frame)
{
	struct ofs_frame f = {.op = head->op, .id = head->request_id, .fd = -1};
	bool sound = false;

	DBG_INFO("the daemon asks: request %ju, %u\n", (uintmax_t)head->request_id, head->op);
	if (head->op == OFS_WIRE_OP_NOTIFY) {
		sound = asked_notify_frame(c, head, frame, &f);
	} else if (head->op == OFS_WIRE_OP_BREAK) {
		sound = asked_break(c, head, frame, &f);
	}
	if (sound) {
		ofs_link_answer(link, &f);
	}
	return sound;
}
