/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The module's entry: the table of VFS operations, and the life of a tree connect.
 * Way: from smbd's module loader and tree connect; to the other files of this directory.
 * Thread: the client's smbd (connect runs as root).
 * Owns: struct ofs_conn and what HELLO brought: shared memory, ring, descriptors.
 * Holds: 1. Every slot of struct vfs_fn_pointers has a row in the table: ours, or NEXT (an empty
 *           slot is passed on by Samba), or refused; the compiler counts them.
 *        2. A share comes up only after a HELLO: without one nothing is known of the mirror. After
 *           it the daemon may come and go; files on the local disk are served all the time.
 *        3. connect -> [ofs_conn_adopt] -> connected <-> [ofs_conn_adopt on reconnect]
 *           -> disconnect.
 */
#include "ofs.h"
#include "ofs_conf_table.h"
#include "ofs_table.h"
#include "shared/samba.h"
#include "lib/tsocket/tsocket.h"

#include <sys/mman.h>

#define FIRST_CONTACT_MAX_MS 5000

struct ofs_conn *ofs_conn_get(const struct vfs_handle_struct *handle)
{
	return handle->data;
}

/* --- what HELLO brought --- */

static void conn_close_fd(int *fd)
{
	if (*fd >= 0) {
		close(*fd);
		*fd = -1;
	}
}

static bool conn_xattr_sound(const char *name)
{
	return strcmp(name, OFS_RECORD_XATTR_SECURITY) == 0 ||
			strcmp(name, OFS_RECORD_XATTR_USER) == 0;
}

/* For whoever asks the daemon who is connected. */
static void conn_say_client(const struct ofs_conn *c, struct ofs_use *use)
{
	const struct connection_struct *conn = c->handle->conn;
	char *address = tsocket_address_inet_addr_string(conn->sconn->remote_address, talloc_tos());

	snprintf(use->address, sizeof(use->address), "%s", address != NULL ? address : "");
	snprintf(use->user, sizeof(use->user), "%s", conn->session_info != NULL &&
			conn->session_info->unix_info != NULL ?
			conn->session_info->unix_info->unix_name : "");
	TALLOC_FREE(address);
}

/* The ring changes hands between two hints; changes under way are announced in the new one before
 * the old one is let go. The old one's hints stay for the daemon to read. */
static int conn_adopt_ring(struct ofs_conn *c, int *fd)
{
	struct ofs_ring_writer ring;
	int ret = ofs_ring_writer_init(&ring, *fd);

	if (ret != 0) {
		return ret;
	}
	*fd = -1;
	for (unsigned i = 0; i < 2; i++) {
		if (c->change_depth[i] > 0) {
			atomic_store(&ring.head->inflight[i], c->change_stripe[i] + 1);
		}
	}
	atomic_store(&ring.use->writing_bytes, c->writing_bytes);
	conn_say_client(c, ring.use);
	ofs_ring_writer_fini(&c->ring);
	c->ring = ring;
	return 0;
}

/* The kernel's spelling of the path is kept: it is what /proc/self/fd will be compared with. */
static int conn_adopt_tree(struct ofs_conn *c, const char *tree)
{
	char path[PATH_MAX];
	struct stat st;
	char *copy;
	int fd, ret;

	if (tree[0] != '/') {
		return -EBADMSG;
	}
	fd = open(tree, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	ret = fstat(fd, &st) == 0 ? 0 : -errno;
	if (ret == 0) {
		ssize_t n = ofs_fd_path(fd, path, sizeof(path));

		ret = n < 0 ? (int)n : n < 2 ? -EBADMSG : 0;
	}
	close(fd);
	if (ret != 0) {
		return ret;
	}
	copy = talloc_strdup(c, path);
	if (copy == NULL) {
		return -ENOMEM;
	}
	TALLOC_FREE(c->tree);
	c->tree = copy;
	c->tree_len = strlen(copy);
	c->tree_dev = st.st_dev;
	c->tree_ino = st.st_ino;
	return 0;
}

/*
 * linkat does not cross mounts, and smbd in a mount namespace of its own (as systemd gives it) sees
 * other mounts than the daemon, whose descriptor would then answer EXDEV: the same directory is
 * opened once more from here.
 */
static void conn_trash_here(const char *tree, int *trash_fd)
{
	char path[PATH_MAX];
	struct stat theirs, ours;
	int fd;

	if (snprintf(path, sizeof(path), "%s/../trash", tree) >= (int)sizeof(path)) {
		return;
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		return;
	}
	if (fstat(fd, &ours) != 0 || fstat(*trash_fd, &theirs) != 0 ||
			ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev) {
		close(fd);
		return;
	}
	close(*trash_fd);
	*trash_fd = fd;
}

/* the HELLO reply's descriptors, in the order of the wire table */
enum { HELLO_RING, HELLO_SHM, HELLO_INTENT, HELLO_DOORBELL, HELLO_TRASH, HELLO_FDS };

int ofs_conn_adopt(struct ofs_conn *c, const struct ofs_hello_rep *rep, int fds[5])
{
	struct ofs_shm *shm = NULL;
	struct stat intent; /* a regular file that lies beside the tree */
	int ret = -EBADMSG;
	uid_t euid;

	if (!conn_xattr_sound(rep->xattr)) {
		goto out;
	}
	/* not every user may search the directories above the mirror */
	euid = ofs_root_enter();
	ret = conn_adopt_tree(c, rep->tree);
	if (ret == 0) {
		conn_trash_here(c->tree, &fds[HELLO_TRASH]);
		ret = fstat(fds[HELLO_INTENT], &intent) == 0 ? 0 : -errno;
	}
	ofs_root_leave(euid);
	if (ret != 0) {
		goto out;
	}
	shm = ofs_shm_map(fds[HELLO_SHM], false);
	if (shm == NULL) {
		ret = -errno;
		goto out;
	}
	ret = conn_adopt_ring(c, &fds[HELLO_RING]);
	if (ret != 0) {
		goto out;
	}
	ofs_shm_unmap(&c->shm);
	c->shm = shm;
	shm = NULL;
	c->file_dev = intent.st_dev;
	c->daemon_generation = atomic_load(&c->shm->daemon_generation);
	snprintf(c->io.xattr, sizeof(c->io.xattr), "%s", rep->xattr);
	memcpy(c->io.cache_id, rep->cache_id.bytes, sizeof(c->io.cache_id));
	c->listing_age_ns = rep->listing_age_ns;
	c->features = rep->features;
	conn_close_fd(&c->intent_fd);
	conn_close_fd(&c->doorbell_fd);
	conn_close_fd(&c->trash_fd);
	c->intent_fd = fds[HELLO_INTENT];
	c->doorbell_fd = fds[HELLO_DOORBELL];
	c->trash_fd = fds[HELLO_TRASH];
	fds[HELLO_INTENT] = fds[HELLO_DOORBELL] = fds[HELLO_TRASH] = -1;
	c->refresh_pause_until_ms = 0;
out:
	ofs_shm_unmap(&shm);
	for (int i = 0; i < HELLO_FDS; i++) {
		conn_close_fd(&fds[i]);
	}
	if (ret != 0) {
		DBG_ERR("volume %s: HELLO brought what cannot be used: %s\n", c->volume,
				strerror(-ret));
	}
	return ret;
}

/* --- connect, disconnect --- */

static void conn_end(void **data)
{
	struct ofs_conn *c = talloc_get_type(*data, struct ofs_conn);

	if (c == NULL) {
		return; /* Samba calls it again when the handle itself goes */
	}
	TALLOC_FREE(c->link); /* first: what is in flight ends while the rest is still there */
	ofs_ring_writer_fini(&c->ring);
	ofs_shm_unmap(&c->shm);
	conn_close_fd(&c->intent_fd);
	conn_close_fd(&c->doorbell_fd);
	conn_close_fd(&c->trash_fd);
	TALLOC_FREE(c);
	*data = NULL;
}

struct share_conf { /* the rows of ofs_conf_table.h; strings are smbd's */
#define CONF_CTYPE_TEXT const char *
#define CONF_CTYPE_COUNT unsigned
#define CONF_CTYPE_BOOL bool
#define CONF_FIELD(type, field, key, def, help) CONF_CTYPE_##type field;
	OFS_CONF_TABLE(CONF_FIELD)
};

static const char *conf_TEXT(int snum, const char *option, const char *def)
{
	return lp_parm_const_string(snum, "objectfs", option, def);
}

static bool conf_BOOL(int snum, const char *option, bool def)
{
	return lp_parm_bool(snum, "objectfs", option, def);
}

static unsigned conf_COUNT(int snum, const char *option, int def)
{
	int v = lp_parm_int(snum, "objectfs", option, def);

	if (v <= 0) {
		DBG_ERR("objectfs:%s = %d makes no sense; %d is used\n", option, v, def);
		return (unsigned)def;
	}
	return (unsigned)MIN(v, 24 * 3600);
}

/* 0 or -errno; what is wrong is in the log. */
static int conf_read(struct ofs_conn *c, int snum)
{
#define CONF_GET(type, field, key, def, help) .field = conf_##type(snum, key, def),
	const struct share_conf o = {OFS_CONF_TABLE(CONF_GET)};

	if (o.volume == NULL || o.volume[0] == '\0') {
		DBG_ERR("share %s: objectfs:volume is not set in smb.conf\n",
				lp_const_servicename(snum));
		return -EINVAL;
	}
	if (strcmp(o.durability, "local") != 0 && strcmp(o.durability, "s3") != 0) {
		DBG_ERR("share %s: objectfs:durability is '%s'; it may be local or s3\n",
				lp_const_servicename(snum), o.durability);
		return -EINVAL;
	}
	c->volume = talloc_strdup(c, o.volume);
	c->socket = talloc_strdup(c, o.socket);
	if (c->volume == NULL || c->socket == NULL) {
		return -ENOMEM;
	}
	c->durable_s3 = strcmp(o.durability, "s3") == 0;
	c->offline = o.offline;
	c->openat_retry_ms = o.openat_retry_ms;
	c->request_timeout_ms = 1000 * o.request_timeout_s;
	c->reconnect_timeout_ms = 1000 * o.reconnect_timeout_s;
	return 0;
}

static int conn_first_contact(struct ofs_conn *c, const char *service)
{
	const char *message;
	bool refused;
	int ret;

	c->link = ofs_link_new(c, c->handle->conn->sconn->ev_ctx);
	if (c->link == NULL) {
		return -ENOMEM;
	}
	ret = ofs_link_start(c->link, (int)MIN(c->reconnect_timeout_ms / 10, FIRST_CONTACT_MAX_MS),
			&refused, &message);
	if (ret != 0 && refused) {
		DBG_ERR("share %s: objectfs-cached refuses volume %s: %s (%s)\n", service,
				c->volume, message, strerror(-ret));
	} else if (ret != 0) {
		DBG_ERR("share %s: no objectfs-cached answers on %s (%s); the share is refused "
			"until it runs\n",
				service, c->socket, strerror(-ret));
	}
	return ret;
}

static int conn_tell_account(struct ofs_conn *c, const char *service)
{
	int ret = ofs_account_tell(c);

	if (ret == -EACCES) {
		DBG_ERR("share %s: its client is not let in: it would have rights that were given to "
			"another; objectfsctl doctor says whose\n", service);
	} else if (ret != 0) {
		DBG_ERR("share %s: objectfs-cached cannot be told whose client this is: %s\n", service,
				strerror(-ret));
	}
	return ret;
}

/*
 * The share may begin below the mirror's root, at a directory that is only in S3 so far; smbd looks
 * for it without asking us. If it is not there either, smbd says so, unless a root preexec makes it.
 */
static int conn_bring_path(struct ofs_conn *c, const char *service)
{
	const char *path = c->handle->conn->connectpath;
	int ret = ofs_materialize(c, AT_FDCWD, path);

	if (ret == 0 || ret == -ENOENT) {
		return 0;
	}
	DBG_ERR("share %s: its directory %s cannot be had: %s\n", service, path, strerror(-ret));
	return ret;
}

static int ofs_connect(struct vfs_handle_struct *handle, const char *service, const char *user)
{
	struct ofs_conn *c;
	void *data;
	int ret;

	ret = SMB_VFS_NEXT_CONNECT(handle, service, user);
	if (ret < 0 || IS_IPC(handle->conn) || IS_PRINT(handle->conn)) {
		return ret;
	}
	c = talloc_zero(handle->conn, struct ofs_conn);
	if (c == NULL) {
		SMB_VFS_NEXT_DISCONNECT(handle);
		errno = ENOMEM;
		return -1;
	}
	c->handle = handle;
	c->intent_fd = c->doorbell_fd = c->trash_fd = c->ring.fd = -1;
	ret = conf_read(c, SNUM(handle->conn));
	if (ret == 0) {
		ret = conn_first_contact(c, service);
	}
	if (ret == 0) {
		ret = conn_tell_account(c, service);
	}
	if (ret == 0) {
		ret = conn_bring_path(c, service);
	}
	if (ret != 0) {
		data = c;
		conn_end(&data);
		SMB_VFS_NEXT_DISCONNECT(handle);
		errno = -ret;
		return -1;
	}
	SMB_VFS_HANDLE_SET_DATA(handle, c, conn_end, struct ofs_conn, return -1);
	return 0;
}

static void ofs_disconnect(struct vfs_handle_struct *handle)
{
	struct ofs_conn *c = ofs_conn_get(handle);

	if (c != NULL) {
		DBG_NOTICE("volume %s: %ju requests, %ju hints, %ju hints lost\n", c->volume,
				(uintmax_t)ofs_link_sent(c->link), (uintmax_t)c->hints_written,
				(uintmax_t)c->hints_lost);
	}
	SMB_VFS_NEXT_DISCONNECT(handle);
	SMB_VFS_HANDLE_FREE_DATA(handle);
}

/* --- the table --- */

#define OFS_VFS_SLOT(slot, function, what, test) .slot = function,
#define OFS_VFS_ONE(slot, function, what, test) +1

static struct vfs_fn_pointers ofs_fns = {OFS_VFS_TABLE(OFS_VFS_SLOT)};

/* a slot named twice does not compile (-Woverride-init), so equal numbers mean each once */
_Static_assert(sizeof(struct vfs_fn_pointers) == (0 OFS_VFS_TABLE(OFS_VFS_ONE)) * sizeof(void (*)(void)),
		"every slot of this Samba's VFS table has its row");

/* --- loading --- */

NTSTATUS vfs_objectfs_init(TALLOC_CTX *ctx);
NTSTATUS vfs_objectfs_init(TALLOC_CTX *ctx)
{
	static const char built_for[] = OFS_BUILT_FOR OFS_SAMBA_VERSION;
	const char *running = samba_version_string();

	if (!ofs_samba_fits(built_for + strlen(OFS_BUILT_FOR), running)) {
		DBG_ERR("%s and this is Samba %s: build it again\n", built_for, running);
		return NT_STATUS_REVISION_MISMATCH;
	}
	(void)ctx;
	return smb_register_vfs(SMB_VFS_INTERFACE_VERSION, "objectfs", &ofs_fns);
}

#ifndef OFS_IN_SAMBA_TREE
__attribute__((visibility("default"))) NTSTATUS samba_init_module(TALLOC_CTX *ctx);
NTSTATUS samba_init_module(TALLOC_CTX *ctx)
{
	return vfs_objectfs_init(ctx);
}
#endif
