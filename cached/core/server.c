/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the listening socket: who may connect at all.
 * Way: smbd's module and objectfsctl -> here -> session.c.
 * Thread: core (open and close: outside the loop). Owns: the socket and its name, the list of
 * sessions.
 * Holds: (1) root connects, and the configured group if there is one, by SO_PEERCRED and by the
 * mode of the name. (2) The name of a socket that another process serves is left alone.
 */
#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "session_private.h"
#include "../base/log.h"

static bool peer_in_group(int fd, const struct ucred *cred, gid_t group)
{
	gid_t gids[1024];
	socklen_t len = sizeof(gids);

	if (cred->gid == group) {
		return true;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, gids, &len) != 0) {
		return false;
	}
	for (size_t i = 0; i < len / sizeof(gids[0]); i++) {
		if (gids[i] == group) {
			return true;
		}
	}
	return false;
}

static void server_accept(struct server *srv, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	bool root, admin;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0) {
		close(fd);
		return;
	}
	root = cred.uid == 0 || cred.uid == geteuid();
	admin = root || (srv->has_group && peer_in_group(fd, &cred, srv->group));
	if (!admin) {
		log_warning("core", "user %ld (process %ld) may not connect", (long)cred.uid,
				(long)cred.pid);
		close(fd);
		return;
	}
	session_new(srv, fd, &cred, root, admin);
}

static void on_listen(struct tevent_context *ev, struct tevent_fd *fde, uint16_t flags, void *arg)
{
	struct server *srv = arg;
	int fd = accept4(srv->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)ev;
	(void)fde;
	(void)flags;
	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			log_error("core", "accept: %s", strerror(errno));
		}
		return;
	}
	server_accept(srv, fd);
}

/* Another daemon (with another cache directory) may own the path; a dead socket is removed. */
static int socket_clear(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;
	int ret = 0;

	if (fd < 0) {
		return -errno;
	}
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN) {
		ret = -EADDRINUSE;
	} else if (errno == ECONNREFUSED) {
		/* Refused: a socket nobody listens on, or no socket at all. */
		if (lstat(addr->sun_path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
			ret = -EEXIST;
		} else if (unlink(addr->sun_path) != 0 && errno != ENOENT) {
			ret = -errno;
		}
	} else if (errno != ENOENT) {
		ret = -errno;
	}
	close(fd);
	return ret;
}

static int socket_bind(struct server *srv, const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int ret;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		return -ENAMETOOLONG;
	}
	memcpy(addr.sun_path, path, strlen(path) + 1);
	ret = socket_clear(&addr);
	if (ret != 0) {
		return ret;
	}
	srv->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The mode before bind is the mode the name gets (Linux): never open to all, not for a
	 * moment. */
	if (srv->fd < 0 || fchmod(srv->fd, 0600) != 0 ||
			bind(srv->fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
		return -errno;
	}
	if (srv->has_group && (chown(path, (uid_t)-1, srv->group) != 0 || chmod(path, 0660) != 0)) {
		ret = -errno;
		(void)unlink(path);
		return ret;
	}
	return listen(srv->fd, 128) != 0 ? -errno : 0;
}

static int server_destroy(struct server *srv)
{
	TALLOC_FREE(srv->fde); /* first: once it is closed, its number may be a worker's file */
	if (srv->fd >= 0) {
		close(srv->fd);
	}
	return 0;
}

int server_open(struct core *core, char **error)
{
	const struct conf_global *g = &core->conf->global;
	struct server *srv = talloc_zero(core, struct server);
	struct group *gr;
	char *dir, *slash;
	int ret;

	if (srv == NULL) {
		return -ENOMEM;
	}
	srv->core = core;
	srv->fd = -1;
	talloc_set_destructor(srv, server_destroy);
	if (g->group != NULL) {
		gr = getgrnam(g->group);
		if (gr == NULL) {
			*error = talloc_asprintf(core, "group: there is no group \"%s\"", g->group);
			talloc_free(srv);
			return -EINVAL;
		}
		srv->has_group = true;
		srv->group = gr->gr_gid;
	}
	dir = talloc_strdup(srv, g->socket);
	slash = dir != NULL ? strrchr(dir, '/') : NULL;
	if (slash != NULL && slash != dir) {
		*slash = '\0';
		(void)cachedir_make_path(dir, 0755); /* bind says what is wrong */
	}
	ret = socket_bind(srv, g->socket);
	if (ret == -EADDRINUSE) {
		*error = talloc_asprintf(core,
				"socket %s: another process serves it: stop it, or choose another socket",
				g->socket);
	} else if (ret != 0) {
		*error = talloc_asprintf(core, "socket %s: %s", g->socket, strerror(-ret));
	}
	if (ret == 0) {
		srv->fde = tevent_add_fd(core->ev, srv, srv->fd, TEVENT_FD_READ, on_listen, srv);
		ret = srv->fde == NULL ? -ENOMEM : 0;
	}
	if (ret != 0) {
		talloc_free(srv);
		return ret;
	}
	core->server = srv;
	return 0;
}

void server_close(struct core *core)
{
	struct server *srv = core->server;

	if (srv == NULL) {
		return;
	}
	(void)unlink(core->conf->global.socket);
	while (srv->sessions != NULL) {
		session_end(srv->sessions, "the daemon stops");
	}
	TALLOC_FREE(core->server);
}
