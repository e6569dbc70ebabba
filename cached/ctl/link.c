/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: find the daemon's socket, ask it one thing, read the answer.
 * Way: objectfsctl.c -> here -> the daemon's session.c. Thread: the only one; blocks.
 * Owns: the connection, for one question.
 * Holds: what comes back is decoded by the bounds-checked decoder, never trusted.
 */
#include <errno.h>
#include <ini.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "../base/conf_table.h"
#include "ctl.h"
#include "shared/wire.h"

#define TICK_MS 250

static const char *socket_default(void)
{
#define DEFAULT_OF(type, field, key, def, min, max, flags, help)                                   \
	if (strcmp(key, "socket") == 0) {                                                          \
		return def;                                                                        \
	}
	CONF_GLOBAL_TABLE(DEFAULT_OF)
#undef DEFAULT_OF
	return NULL;
}

static int on_ini(void *user, const char *section, const char *name, const char *value)
{
	char **path = user;

	if (strcasecmp(section, "global") == 0 && strcasecmp(name, "socket") == 0) {
		free(*path);
		*path = strdup(value);
	}
	return 1;
}

/* Indented lines are options of their own, as in smb.conf; inih would take them for continuations. */
static char *read_line(char *buf, int cap, void *stream)
{
	char *line = fgets(buf, cap, stream);

	if (line != NULL) {
		size_t skip = strspn(line, " \t");

		memmove(line, line + skip, strlen(line + skip) + 1);
	}
	return line;
}

char *ctl_socket_of(const char *conf)
{
	FILE *stream = fopen(conf, "re");
	char *path = NULL;

	if (stream != NULL) {
		(void)ini_parse_stream(read_line, stream, on_ini, &path);
		fclose(stream);
	}
	return path != NULL ? path : strdup(socket_default());
}

static int link_connect(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		return -ENAMETOOLONG;
	}
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return -errno;
	}
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
		int ret = -errno;

		close(fd);
		return ret;
	}
	return fd;
}

int64_t ctl_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* Exactly len bytes; deadline_ms 0: none. */
static int link_read(int fd, uint8_t *buf, size_t len, int64_t deadline_ms,
		const struct ctl_wait *wait)
{
	int most_ms = wait->tick != NULL ? TICK_MS : 1000000;

	size_t have = 0;

	while (have < len) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = deadline_ms != 0 ? deadline_ms - ctl_now_ms() : -1;
		int fds[OFS_WIRE_FDS_MAX], fd_count = 0, ret;
		ssize_t n;

		if (deadline_ms != 0 && left <= 0) {
			return -ETIMEDOUT;
		}
		ret = poll(&p, 1, left < 0 || left > most_ms ? most_ms : (int)left);
		if (ret < 0 && errno != EINTR) {
			return -errno;
		}
		if (ret == 0 && wait->tick != NULL) {
			wait->tick(wait->arg);
		}
		if (ret <= 0) {
			continue;
		}
		n = ofs_wire_recv(fd, buf + have, len - have, fds, &fd_count, OFS_WIRE_FDS_MAX);
		while (fd_count > 0) {
			close(fds[--fd_count]);
		}
		if (n <= 0) {
			return n < 0 ? (int)n : -ECONNRESET;
		}
		have += (size_t)n;
	}
	return 0;
}

static int link_send(int fd, const uint8_t *argv, size_t argv_bytes, uint64_t id)
{
	struct ofs_ctl_req m = {.argv = {.data = argv, .len = (uint32_t)argv_bytes}};
	size_t cap = argv_bytes + 1024, sent = 0;
	uint8_t *frame = malloc(cap);
	ssize_t len, n;
	int ret = 0;

	if (frame == NULL) {
		return -ENOMEM;
	}
	len = ofs_wire_encode_ctl_req(frame, cap, id, &m);
	ret = len < 0 ? (int)len : 0;
	while (ret == 0 && sent < (size_t)len) {
		n = ofs_wire_send(fd, frame + sent, (size_t)len - sent, NULL, 0);
		if (n < 0) {
			ret = (int)n;
		} else {
			sent += (size_t)n;
		}
	}
	free(frame);
	return ret;
}

static int link_receive(int fd, int64_t deadline_ms, const struct ctl_wait *wait,
		struct ctl_reply *reply)
{
	uint8_t head_bytes[OFS_WIRE_HEAD_BYTES], *frame;
	struct ofs_wire_head head;
	struct ofs_ctl_rep rep;
	int ret = link_read(fd, head_bytes, sizeof(head_bytes), deadline_ms, wait);

	if (ret == 0) {
		ret = ofs_wire_head_decode(head_bytes, &head);
	}
	if (ret != 0) {
		return ret;
	}
	frame = malloc(head.length);
	if (frame == NULL) {
		return -ENOMEM;
	}
	memcpy(frame, head_bytes, sizeof(head_bytes));
	ret = link_read(fd, frame + sizeof(head_bytes), head.length - sizeof(head_bytes),
			deadline_ms, wait);
	if (ret == 0) {
		ret = ofs_wire_decode_ctl_rep(frame, head.length, &rep);
	}
	if (ret == 0) {
		reply->status = rep.status;
		reply->message = strdup(rep.message);
		reply->json = rep.json.len > 0 ? json_loadb((const char *)rep.json.data,
								 rep.json.len, 0, NULL)
					       : NULL;
		ret = reply->message == NULL ? -ENOMEM : 0;
	}
	free(frame);
	return ret;
}

int ctl_ask(const char *socket, const uint8_t *argv, size_t argv_bytes, const struct ctl_wait *wait,
		struct ctl_reply *reply)
{
	int64_t deadline_ms = wait->timeout_s != 0 ? ctl_now_ms() + 1000LL * wait->timeout_s : 0;
	int fd = link_connect(socket);
	int ret;

	memset(reply, 0, sizeof(*reply));
	if (fd < 0) {
		return fd;
	}
	ret = link_send(fd, argv, argv_bytes, wait->request_id != 0 ? wait->request_id : 1);
	if (ret == 0) {
		ret = link_receive(fd, deadline_ms, wait, reply);
	}
	close(fd);
	return ret;
}

int ctl_ask_word(const char *socket, const char *word, unsigned timeout_s, struct ctl_reply *reply)
{
	const struct ctl_wait wait = {.timeout_s = timeout_s};

	return ctl_ask(socket, (const uint8_t *)word, strlen(word) + 1, &wait, reply);
}

void ctl_reply_done(struct ctl_reply *reply)
{
	json_decref(reply->json);
	free(reply->message);
	memset(reply, 0, sizeof(*reply));
}
