/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: from a whole frame to the room that answers it, and from the room's callback to the reply.
 * Way: session.c -> here -> mirror, recall, reconcile, admin -> request_reply.
 * Thread: core; the one thing that may block, resolving a share's path, is a disk job.
 * Owns: the descriptor of a request until a room takes it over.
 * Holds: (1) nothing but HELLO is done for a connection without a volume. (2) A descriptor is passed
 * on only if it is of the asked type and lies in the volume's tree. (3) Hints written before a
 * request are read before the request is looked at: a client sees its own changes.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "accounts.h"
#include "rings.h"
#include "session.h"
#include "../admin/admin.h"
#include "../base/log.h"
#include "../base/stats.h"
#include "../mirror/mirror.h"
#include "../recall/recall.h"
#include "../reconcile/reconcile.h"

#define REPLY_BYTES 8192u
#define HELLO_ROOT_WAIT_NS (8 * NS_PER_S) /* the module waits 10 s */

/* ---- HELLO ---- */

struct hello_job { /* talloc, of the volume; with a worker: as disk.h says */
	struct disk_job job;
	struct request *req;
	struct volume *v;
	uint32_t pid;
	uint64_t features;
	char samba[64];
	char path[PATH_MAX];
	char real[PATH_MAX];
	char tree[PATH_MAX]; /* in: path of tree, out: resolved */
	int status;
};

/*
 * A share's directory need not be here yet: a root preexec is going to make it, or it is only in S3
 * so far. Then what is here of the path is resolved.
 */
static int hello_resolve_path(const char *path, char real[PATH_MAX])
{
	char begin[PATH_MAX], buf[PATH_MAX];
	size_t len = strlen(path);
	const char *rest;

	memcpy(begin, path, len + 1);
	while (realpath(begin, buf) == NULL) {
		if (errno != ENOENT || len <= 1) {
			return -errno;
		}
		while (begin[--len] != '/') {
		}
		begin[len > 0 ? len : 1] = '\0';
	}
	rest = path + len;
	if (strstr(rest, "/./") != NULL || strstr(rest, "/../") != NULL) {
		return -ENOENT;
	}
	len = strlen(rest);
	if ((len >= 2 && strcmp(rest + len - 2, "/.") == 0) ||
			(len >= 3 && strcmp(rest + len - 3, "/..") == 0)) {
		return -ENOENT;
	}
	return snprintf(real, PATH_MAX, "%s%s", buf, rest) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static void hello_resolve(struct disk_job *job)
{
	struct hello_job *h = (struct hello_job *)job;
	char buf[PATH_MAX];

	if (realpath(h->tree, buf) == NULL) {
		h->status = -errno;
		return;
	}
	memcpy(h->tree, buf, sizeof(h->tree));
	h->status = hello_resolve_path(h->path, h->real);
}

static bool path_is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

/* Reply descriptors in the order of wire_table.h, each for the session to close. */
static int hello_fds(struct volume *v, uint64_t session, int fds[5])
{
	int ret;

	fds[0] = rings_add(v->rings, session);
	fds[1] = fcntl(volume_shm_fd(v), F_DUPFD_CLOEXEC, 0);
	fds[2] = volume_intent_open(v);
	fds[3] = fcntl(volume_doorbell_fd(v), F_DUPFD_CLOEXEC, 0);
	fds[4] = fcntl(v->trash_fd, F_DUPFD_CLOEXEC, 0);
	for (int i = 0; i < 5; i++) {
		if (fds[i] >= 0) {
			continue;
		}
		ret = fds[i] < -1 ? fds[i] : -EMFILE;
		for (int j = 0; j < 5; j++) {
			if (fds[j] >= 0) {
				close(fds[j]);
			}
		}
		return ret;
	}
	return 0;
}

static void hello_accept(struct request *req, struct hello_job *h)
{
	struct volume *v = h->v;
	const struct ofs_hello_req m = {.pid = h->pid, .features = h->features, .samba = h->samba};
	struct ofs_hello_rep rep = {
			.minor = OFS_WIRE_MINOR,
			.features = OFS_WIRE_FEATURE_ASKED | OFS_WIRE_FEATURE_ACCOUNT,
			.session = session_id(req->session),
			.xattr = v->rio.xattr,
			.tree = h->tree,
			.listing_age_ns = (uint64_t)v->conf->listing_age_ns,
	};
	uint8_t *frame;
	ssize_t len = 0;
	int fds[5], ret;

	ret = hello_fds(v, session_id(req->session), fds);
	if (ret != 0) {
		request_reply(req, ret,
				ret == -EMFILE || ret == -ENFILE
						? "the daemon has no descriptors left for another connection"
						: "the files of another connection cannot be opened");
		return;
	}
	memcpy(rep.cache_id.bytes, v->rio.cache_id, sizeof(rep.cache_id.bytes));
	frame = malloc(REPLY_BYTES);
	if (frame != NULL) {
		len = ofs_wire_encode_hello_rep(frame, REPLY_BYTES, req->id, &rep);
	}
	session_attach(req->session, v, &m);
	request_reply_frame(req, frame, len, fds, 5);
	mirror_can_ask(v->mirror);
}

static void hello_resolved(struct disk_job *job)
{
	struct hello_job *h = (struct hello_job *)job;
	struct request *req = h->req;
	char text[2 * PATH_MAX];

	if (req->session == NULL) {
		request_free(req);
	} else if (session_is_attached(req->session)) {
		request_reply(req, -EINVAL, "a second HELLO on one connection");
	} else if (h->status != 0) {
		snprintf(text, sizeof(text), "the share's path %.1000s: %s", h->path,
				strerror(-h->status));
		request_reply(req, h->status == -ENOENT ? -EINVAL : h->status, text);
	} else if (!path_is_below(h->real, h->tree)) {
		snprintf(text, sizeof(text),
				"the share's path %.800s is not in the mirror of volume %s: set path = "
				"%.800s or a directory below it",
				h->path, h->v->name, h->tree);
		log_warning("core", "%s", text);
		request_reply(req, -EINVAL, text);
	} else {
		hello_accept(req, h);
	}
	talloc_free(h);
}

/* The rights of a new disk's root are in S3. Until they are here it is open to everyone, so nobody
 * comes in. */
static void hello_root(struct volume *v, void *arg, int status)
{
	struct hello_job *h = arg;
	char *text;

	(void)status;
	if (v->root_known || h->req->session == NULL) {
		disk_submit(v->disk, DISK_ANY, &h->job);
		return;
	}
	text = talloc_asprintf(h,
			"the disk is new and the rights of the root have not been read from S3 yet; nobody is "
			"let in before (%s)",
			v->state_why != NULL ? v->state_why : "connecting");
	stats_add(hello_closed, 1);
	log_warning("core", "volume %s: process %lu: %s", v->name, (unsigned long)h->pid,
			text != NULL ? text : "refused");
	request_reply(h->req, -EAGAIN, text);
	talloc_free(h);
}

static int do_hello(struct request *req, const uint8_t *frame, size_t len)
{
	const struct log_volume *before;
	struct ofs_hello_req m;
	struct hello_job *h;
	struct volume *v;

	if (ofs_wire_decode_hello_req(frame, len, &m) != 0) {
		return -EBADMSG;
	}
	v = volumes_find(req->core, m.volume);
	if (v == NULL) {
		char *names = volumes_names(req, req->core);
		char *text = talloc_asprintf(req,
				"objectfs:volume: the daemon has no volume \"%.64s\"; it has: %s",
				m.volume, names != NULL ? names : "?");

		log_warning("core", "%s", text != NULL ? text : "unknown volume");
		request_reply(req, -ENOENT, text);
		return 0;
	}
	if (m.path[0] != '/' || strlen(m.path) >= PATH_MAX) {
		request_reply(req, -EINVAL, "the share's path is not absolute, or too long");
		return 0;
	}
	h = talloc_zero(v, struct hello_job);
	if (h == NULL) {
		request_reply(req, -ENOMEM, NULL);
		return 0;
	}
	h->job.what = "hello";
	h->job.run = hello_resolve;
	h->job.done = hello_resolved;
	h->req = req;
	h->v = v;
	h->pid = m.pid;
	h->features = m.features;
	snprintf(h->samba, sizeof(h->samba), "%s", m.samba);
	snprintf(h->path, sizeof(h->path), "%s", m.path);
	snprintf(h->tree, sizeof(h->tree), "%s/tree", v->path);
	before = log_enter(v->log);
	if (v->root_known) {
		disk_submit(v->disk, DISK_ANY, &h->job);
	} else {
		volume_when_ready(v, v->away ? 0 : HELLO_ROOT_WAIT_NS, hello_root, h);
	}
	(void)log_enter(before);
	return 0;
}

/* ---- what comes with a request ---- */

/* On overlayfs a file may show the device of a layer. */
static bool same_device(const struct volume *v, const struct stat *st)
{
	struct stat tree;
	struct statfs fs;

	if (fstat(v->tree_fd, &tree) != 0) {
		return false;
	}
	if (tree.st_dev == st->st_dev) {
		return true;
	}
	return fstatfs(v->tree_fd, &fs) == 0 &&
	       ((unsigned long)fs.f_type & 0xffffffffUL) == OVERLAYFS_SUPER_MAGIC;
}

static bool fd_in_tree(const struct volume *v, int fd, const struct stat *st)
{
	char link[64], path[PATH_MAX], tree[PATH_MAX];
	ssize_t n;

	if (st->st_nlink == 0) {
		return true; /* removed while open; its device has been checked */
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0) {
		return false;
	}
	path[n] = '\0';
	/* The kernel's own name of the tree: the configured one may lead through symlinks. */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", v->tree_fd);
	n = readlink(link, tree, sizeof(tree) - 1);
	if (n <= 0) {
		return false;
	}
	tree[n] = '\0';
	return path_is_below(path, tree);
}

/* NULL if the descriptor is what it must be, else what is wrong with it. */
static const char *fd_wrong(const struct request *req, mode_t type)
{
	struct stat st;

	if (fstat(req->fd, &st) != 0) {
		return "the descriptor cannot be read";
	}
	if ((st.st_mode & S_IFMT) != type) {
		return type == S_IFDIR ? "the descriptor is no directory"
				       : "the descriptor is no regular file";
	}
	if (!same_device(req->v, &st) || !fd_in_tree(req->v, req->fd, &st)) {
		return "the descriptor is not in the volume's tree";
	}
	return NULL;
}

static bool name_is_component(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= OFS_NAME_MAX_BYTES && strchr(name, '/') == NULL &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* false: refused and answered. */
static bool request_check(struct request *req, mode_t type, const char *name)
{
	const char *wrong = fd_wrong(req, type);

	if (wrong == NULL && name != NULL && !name_is_component(name)) {
		wrong = "the name is no single component";
	}
	if (wrong != NULL) {
		log_line(LOG_LVL_WARNING, "core", req->id, "%s refused: %s", req->info->name, wrong);
		request_reply(req, -EINVAL, wrong);
		return false;
	}
	rings_drain(req->v->rings);
	return true;
}

static int take_fd(struct request *req)
{
	int fd = req->fd;

	req->fd = -1;
	return fd;
}

static void on_simple(int status, const char *message, void *arg)
{
	request_reply(arg, status, message);
}

/* ---- who ---- */

static int do_account(struct request *req, const uint8_t *frame, size_t len)
{
	struct ofs_account_req m;
	char *message = NULL;
	int ret;

	if (ofs_wire_decode_account_req(frame, len, &m) != 0) {
		return -EBADMSG;
	}
	ret = accounts_told(req->v->accounts, (m.flags & OFS_WIRE_ACCOUNT_DOMAIN) != 0, m.sid,
			(const char *)m.names.data, m.names.len, req, &message);
	request_reply(req, ret, message);
	return 0;
}

/* ---- names ---- */

static int do_lookup(struct request *req, const uint8_t *frame, size_t len)
{
	struct ofs_lookup_req m;

	if (ofs_wire_decode_lookup_req(frame, len, &m) != 0) {
		return -EBADMSG;
	}
	if (request_check(req, S_IFDIR, m.name)) {
		mirror_lookup(req->v->mirror, req->id, take_fd(req), m.name, on_simple, req);
	}
	return 0;
}

static int do_list(struct request *req, const uint8_t *frame, size_t len)
{
	struct ofs_list_req m;

	if (ofs_wire_decode_list_req(frame, len, &m) != 0) {
		return -EBADMSG;
	}
	if (request_check(req, S_IFDIR, NULL)) {
		mirror_list(req->v->mirror, req->id, session_client(req->session), take_fd(req),
				(m.flags & OFS_WIRE_LIST_REFRESH) != 0, on_simple, req);
	}
	return 0;
}

static int do_rmdir(struct request *req, const uint8_t *frame, size_t len)
{
	struct ofs_rmdir_req m;

	if (ofs_wire_decode_rmdir_req(frame, len, &m) != 0) {
		return -EBADMSG;
	}
	if (request_check(req, S_IFDIR, m.name)) {
		mirror_rmdir_check(req->v->mirror, req->id, take_fd(req), m.name, on_simple, req);
	}
	return 0;
}

/* ---- bytes ---- */

static void on_opened(int status, const char *message, uint64_t open_id, uint64_t size, int map_fd,
		void *arg)
{
	struct request *req = arg;
	struct ofs_open_rep rep = {.open_id = open_id, .size = size};
	struct volume *v = req->v;
	uint8_t *frame;
	ssize_t len = 0;

	if (status != 0) {
		request_reply(req, status, message);
		return;
	}
	if (open_id != 0 && (req->session == NULL ||
					    session_open_add(req->session, open_id) != 0)) {
		recall_release(v->recalls, open_id);
		close(map_fd);
		request_reply(req, -ENOMEM, NULL);
		return;
	}
	rep.extent_shift = RECALL_EXTENT_SHIFT;
	frame = malloc(REPLY_BYTES);
	if (frame != NULL) {
		len = ofs_wire_encode_open_rep(frame, REPLY_BYTES, req->id, &rep);
	}
	request_reply_frame(req, frame, len, &map_fd, open_id != 0 ? 1 : 0);
}

static int do_open(struct request *req, const uint8_t *frame, size_t len)
{
	struct ofs_open_req m;

	if (ofs_wire_decode_open_req(frame, len, &m) != 0) {
		return -EBADMSG;
	}
	if (request_check(req, S_IFREG, NULL)) {
		recall_open(req->v->recalls, req->id, session_client(req->session), take_fd(req),
				on_opened, req);
	}
	return 0;
}

static int do_fetch(struct request *req, const uint8_t *frame, size_t len)
{
	struct ofs_fetch_req m;

	if (ofs_wire_decode_fetch_req(frame, len, &m) != 0) {
		return -EBADMSG;
	}
	if (!session_open_has(req->session, m.open_id)) {
		request_reply(req, -EBADF, "no such open");
		return 0;
	}
	recall_fetch(req->v->recalls, req->id, m.open_id, m.offset, m.length,
			(m.flags & OFS_WIRE_FETCH_WHOLE) != 0, on_simple, req);
	return 0;
}

static int do_discard(struct request *req, const uint8_t *frame, size_t len)
{
	struct ofs_discard_req m;

	if (ofs_wire_decode_discard_req(frame, len, &m) != 0) {
		return -EBADMSG;
	}
	if (!session_open_has(req->session, m.open_id)) {
		request_reply(req, -EBADF, "no such open");
		return 0;
	}
	recall_discard(req->v->recalls, req->id, m.open_id, on_simple, req);
	return 0;
}

static int do_release(struct request *req, const uint8_t *frame, size_t len)
{
	struct ofs_release_req m;

	if (ofs_wire_decode_release_req(frame, len, &m) != 0) {
		return -EBADMSG;
	}
	if (session_open_has(req->session, m.open_id)) {
		session_open_drop(req->session, m.open_id);
		recall_release(req->v->recalls, m.open_id);
	}
	request_free(req);
	return 0;
}

static int do_flush(struct request *req, const uint8_t *frame, size_t len)
{
	struct ofs_flush_req m;

	if (ofs_wire_decode_flush_req(frame, len, &m) != 0) {
		return -EBADMSG;
	}
	if (request_check(req, S_IFREG, NULL)) {
		reconcile_flush_fd(req->v->reconcile, take_fd(req), on_simple, req);
	}
	return 0;
}

static int do_copy(struct request *req, const uint8_t *frame, size_t len)
{
	struct ofs_copy_req m;

	if (ofs_wire_decode_copy_req(frame, len, &m) != 0) {
		return -EBADMSG;
	}
	if (!request_check(req, S_IFREG, NULL)) {
		return 0;
	}
	if ((m.flags & OFS_WIRE_COPY_TAKE) != 0) {
		reconcile_copy_take(req->v->reconcile, take_fd(req), &m.target, m.size, on_simple,
				req);
	} else {
		reconcile_copy(req->v->reconcile, take_fd(req), &m.source, m.size, on_simple, req);
	}
	return 0;
}

/* ---- objectfsctl ---- */

static void on_ctl(int status, const char *message, json_t *answer, void *arg)
{
	struct request *req = arg;
	struct ofs_ctl_rep rep = {.status = status, .message = message};
	char *text = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;
	size_t text_len = text != NULL ? strlen(text) : 0;
	size_t cap = text_len + REPLY_BYTES + (message != NULL ? strlen(message) : 0);
	uint8_t *frame;
	ssize_t len = 0;

	if (text_len > OFS_WIRE_FRAME_MAX_BYTES - REPLY_BYTES) {
		free(text);
		request_reply(req, -EMSGSIZE, "the answer is too long: ask for a path");
		return;
	}
	if (rep.message == NULL && status != 0) {
		rep.message = strerror(-status);
	}
	rep.json.data = (const uint8_t *)text;
	rep.json.len = (uint32_t)text_len;
	frame = malloc(cap);
	if (frame != NULL) {
		len = ofs_wire_encode_ctl_rep(frame, cap, req->id, &rep);
	}
	free(text);
	request_reply_frame(req, frame, len, NULL, 0);
}

static int do_ctl(struct request *req, const uint8_t *frame, size_t len)
{
	struct ofs_ctl_req m;

	if (ofs_wire_decode_ctl_req(frame, len, &m) != 0) {
		return -EBADMSG;
	}
	admin_run(req->core, req->id, (const char *)m.argv.data, m.argv.len, on_ctl, req);
	return 0;
}

/* ---- the table ---- */

struct handler {
	uint16_t op;
	int (*fn)(struct request *req, const uint8_t *frame, size_t len);
};

static const struct handler handlers[] = {
#define HANDLER_OF_MODULE(number, name) {number, do_##name},
#define HANDLER_OF_ADMIN(number, name) {number, do_##name},
#define HANDLER_OF_ONEWAY(number, name) {number, do_##name},
#define HANDLER_OF_DAEMON(number, name) /* ours: ask.c */
#define HANDLER_ROW(NAME, name, number, req_fds, rep_fds, who) HANDLER_OF_##who(number, name)
		OFS_WIRE_TABLE(HANDLER_ROW)
#undef HANDLER_ROW
};

int dispatch(struct request *req, const uint8_t *frame, size_t len)
{
	int ret;

	if (req->info->who != OFS_WIRE_WHO_ADMIN && req->info->op != OFS_WIRE_OP_HELLO &&
			req->v == NULL) {
		if (req->info->who == OFS_WIRE_WHO_ONEWAY) {
			request_free(req);
		} else {
			request_reply(req, -EPROTO, "HELLO must come first");
		}
		return 0;
	}
	if (req->info->op == OFS_WIRE_OP_HELLO && req->v != NULL) {
		request_reply(req, -EINVAL, "a second HELLO on one connection");
		return 0;
	}
	for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
		if (handlers[i].op != req->info->op) {
			continue;
		}
		ret = handlers[i].fn(req, frame, len);
		if (ret != 0) {
			request_free(req);
		}
		return ret;
	}
	request_free(req);
	return -EBADMSG;
}
