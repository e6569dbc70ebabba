/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a process that may connect can send to a whole daemon: frames of each message with any body and any
 * descriptor, words of objectfsctl, hints in its ring, bare bytes. Whatever comes, the daemon serves the next one,
 * and nothing outside the mirror has changed, though symlinks in the tree lead there. The daemon lives from input
 * to input.
 *
 * An input is a row of steps: a byte (which message, whether it is whole), a byte (the descriptor), a length, and
 * so many bytes.
 */
/* Covers: cached/core/session.c cached/core/dispatch.c cached/core/rings.c cached/admin/admin.c */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <tevent.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/reconcile/index.h"
#include "shared/cursor.h"
#include "shared/ring.h"
#include "tests/lib/daemon_fixture.h"
#include "tests/lib/scratch.h"

#define STEPS_MAX 24u
#define REST_US 1000
#define RAW 14u  /* steps that are no frame */
#define HINT 15u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fixture *f;
static char outside[160], secret[192];
static struct stat outside_was, secret_was;
static int things[8]; /* descriptors to send */

static void file_make(const char *path, const char *text)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

	if (fd < 0 || write(fd, text, strlen(text)) < 0) {
		abort();
	}
	close(fd);
}

static void over(struct tevent_context *ev, struct tevent_timer *t, struct timeval now, void *arg)
{
	(void)ev;
	(void)t;
	(void)now;
	*(bool *)arg = true;
}

static void rest(void)
{
	bool done = false;

	tevent_add_timer(f->core->ev, f->core->ev, tevent_timeval_current_ofs(0, REST_US), over, &done);
	while (!done) {
		if (tevent_loop_once(f->core->ev) != 0) {
			abort();
		}
	}
}

/* The daemon is left as it is: what is in flight would be given up with its memory. */
static void end(void)
{
	scratch_remove(f->dir);
}

static void begin(void)
{
	char path[256];

	signal(SIGPIPE, SIG_IGN);
	umask(0);
	log_set_level(LOG_LVL_ERROR);
	if (daemon_setup((void **)&f) != 0) {
		abort();
	}
	atexit(end);
	for (int i = 0; i < 1000 && f->core->volumes[0]->state != VOLUME_READY; i++) {
		rest();
	}
	snprintf(outside, sizeof(outside), "%s/outside", f->dir);
	snprintf(secret, sizeof(secret), "%s/secret", outside);
	mkdir(outside, 0755);
	file_make(secret, "nobody of the share may see or change this");
	snprintf(path, sizeof(path), "%s/d", f->tree);
	mkdir(path, 0777);
	things[0] = open(path, O_PATH | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/f", f->tree);
	file_make(path, "a file");
	things[1] = open(path, O_RDWR | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/link", f->tree);
	(void)!symlink(outside, path);
	things[2] = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/d/secret", f->tree);
	(void)!symlink(secret, path);
	things[3] = open(outside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	things[4] = open(secret, O_RDWR | O_CLOEXEC);
	things[5] = open("/dev/null", O_RDWR | O_CLOEXEC);
	things[6] = open(f->tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	things[7] = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lstat(outside, &outside_was) != 0 || lstat(secret, &secret_was) != 0) {
		abort();
	}
}

static bool same(const char *path, const struct stat *was)
{
	struct stat st;

	return lstat(path, &st) == 0 && memcmp(&st.st_ctim, &was->st_ctim, sizeof(st.st_ctim)) == 0 &&
	       memcmp(&st.st_mtim, &was->st_mtim, sizeof(st.st_mtim)) == 0 && st.st_mode == was->st_mode &&
	       st.st_size == was->st_size && st.st_nlink == was->st_nlink && listxattr(path, NULL, 0) == 0;
}

static void send_some(int fd, const uint8_t *buf, size_t len, const int *fds, int count)
{
	for (int tries = 0; len > 0 && tries < 50; tries++) {
		ssize_t n = ofs_wire_send(fd, buf, len, fds, count);

		if (n == -EAGAIN) {
			rest();
			continue;
		}
		if (n <= 0) {
			return; /* it has closed */
		}
		buf += n;
		len -= (size_t)n;
		count = 0;
	}
}

/* A hint as a module would write it, of whatever the bytes say. */
static void hint(int ring_fd, struct ofs_rd *r)
{
	struct ofs_hint h = { .kind = ofs_rd_u8(r), .is_dir = ofs_rd_u8(r) & 1 };
	size_t room = sizeof(h.name) - 1, n = r->left < room ? r->left : room;
	struct ofs_ring_writer w;
	const uint8_t *p = ofs_rd_bytes(r, n);

	if (p != NULL) {
		memcpy(h.name, p, n);
		memcpy(h.old_name, p, n / 2);
	}
	h.parent = OFS_OID_ROOT;
	h.old_parent = OFS_OID_ROOT;
	if (ofs_ring_writer_init(&w, dup(ring_fd)) == 0) {
		(void)ofs_ring_write(&w, &h, 0);
		ofs_ring_writer_fini(&w);
	}
}

static void step(int fd, int ring_fd, struct ofs_rd *r)
{
	static const uint16_t ops[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 32 };
	static uint8_t frame[OFS_WIRE_HEAD_BYTES + 65536];
	uint8_t what = ofs_rd_u8(r), which = ofs_rd_u8(r);
	size_t len = ofs_rd_u16(r);
	struct ofs_wr w = ofs_wr_init(frame, sizeof(frame));
	struct ofs_rd body;
	int count = which & 8 ? which >> 4 & 3 : 1;
	int fds[3] = { things[which & 7], things[which >> 5], things[0] };

	len = len < r->left ? len : r->left;
	body = ofs_rd_init(ofs_rd_bytes(r, len), len);
	if ((what & 15) == HINT) {
		if (ring_fd >= 0) {
			hint(ring_fd, &body);
		}
		return;
	}
	if ((what & 15) == RAW) {
		send_some(fd, body.p, len, fds, which & 8 ? count : 0);
		return;
	}
	if (ofs_wire_op_info(ops[what & 15])->request_fds == 0 && (which & 8) == 0) {
		count = 0;
	}
	ofs_wr_u32(&w, OFS_WIRE_MAGIC);
	ofs_wr_u32(&w, (uint32_t)(OFS_WIRE_HEAD_BYTES + len + (what & 64 ? 9 : 0)));
	ofs_wr_u16(&w, OFS_WIRE_MAJOR);
	ofs_wr_u16(&w, ops[what & 15]);
	ofs_wr_u32(&w, what & 16 ? OFS_WIRE_FLAG_REPLY : 0);
	ofs_wr_u64(&w, what);
	ofs_wr_bytes(&w, body.p, len);
	send_some(fd, frame, w.done, fds, count);
}

static void close_all(struct answer *a)
{
	while (a->fd_count > 0) {
		close(a->fds[--a->fd_count]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ofs_rd r = ofs_rd_init(data, size);
	static struct answer a;
	int fd;

	if (f == NULL) {
		begin();
	}
	if (size < 5) {
		return 0;
	}
	log_set_level(LOG_LVL_ERROR); /* a command may have changed it */
	fd = client_open(f);
	a.fd_count = 0;
	if ((ofs_rd_u8(&r) & 1) == 0) {
		client_hello_ok(f, fd, &a);
	}
	for (unsigned i = 0; i < STEPS_MAX && r.left > 0; i++) {
		step(fd, a.fd_count > 0 ? a.fds[0] : -1, &r);
	}
	rest();
	close_all(&a);
	close(fd);
	rest();
	if (!same(outside, &outside_was) || !same(secret, &secret_was)) {
		abort();
	}
	return 0;
}
