/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "cached/base/stats.h"
#include "tests/lib/daemon_fixture.h"
#include "tests/lib/scratch.h"

#define PATIENCE_MS 10000

/* ---- what is in flight ---- */

/* A job or a request that has not come home; its own `done` meanwhile. */
struct flight {
	struct flight *next;
	const void *what;
	void (*job_done)(struct disk_job *);
	void (*req_done)(struct obj_req *);
};

static struct flight *flights;
static const struct disk_ops *disk_real;
static const struct objstore_ops *store_real;
static struct objstore_ops store_ops;

static struct flight *flight_begin(const void *what)
{
	struct flight *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->what = what;
	f->next = flights;
	flights = f;
	return f;
}

static struct flight flight_end(const void *what)
{
	struct flight **at = &flights, *f, ended;

	while ((*at)->what != what) {
		at = &(*at)->next;
	}
	f = *at;
	*at = f->next;
	ended = *f;
	free(f);
	return ended;
}

static void job_home(struct disk_job *job)
{
	job->done = flight_end(job).job_done;
	job->done(job);
}

static void disk_counted(struct disk *disk, enum disk_lane lane, struct disk_job *job)
{
	flight_begin(job)->job_done = job->done;
	job->done = job_home;
	disk_real->submit(disk, lane, job);
}

static void req_home(struct obj_req *req)
{
	req->done = flight_end(req).req_done;
	req->done(req);
}

static void store_counted(struct objstore *store, struct obj_req *req)
{
	flight_begin(req)->req_done = req->done;
	req->done = req_home;
	store_real->submit(store, req);
}

static void flights_count(struct core *core)
{
	static const struct disk_ops disk_ops = {.submit = disk_counted};
	struct objstore *store = core->volumes[0]->store;

	disk_real = core->disk->ops;
	core->disk->ops = &disk_ops;
	store_real = store->ops;
	store_ops = *store_real;
	store_ops.submit = store_counted;
	store->ops = &store_ops;
}

/* What is in flight when a core is closed is given up with its memory, by design: for the leak
 * checker's sake come to rest first. */
static void core_rest(struct core *core)
{
	for (int i = 0; i < 2000 && (flights != NULL || core->volumes[0]->state == VOLUME_CONNECTING); i++) {
		assert_int_equal(tevent_loop_once(core->ev), 0);
	}
}

bool daemon_begin(struct fixture *f, char **error)
{
	f->core = talloc_zero(NULL, struct core);
	f->core->conf = f->conf;
	if (core_open(f->core, error) != 0) {
		return false;
	}
	flights_count(f->core);
	volumes_start(f->core);
	return true;
}

void daemon_end(struct fixture *f)
{
	if (f->core->server != NULL) {
		core_rest(f->core);
	}
	core_close(f->core);
	while (flights != NULL) {
		(void)flight_end(flights->what);
	}
	TALLOC_FREE(f->core);
}

int daemon_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char text[1024], *error = NULL;
	FILE *in;

	scratch_make(f->dir, sizeof(f->dir), "session");
	snprintf(f->sock, sizeof(f->sock), "%s/run/cached.sock", f->dir);
	snprintf(f->tree, sizeof(f->tree), "%s/cache/vol/tree", f->dir);
	snprintf(text, sizeof(text),
			"[global]\nsocket = %s\nrun directory = %s/run\ncache directory = %s/cache\n"
			"workers = 2\n[volume vol]\nstore = dir\ndirectory = %s/store\n",
			f->sock, f->dir, f->dir, f->dir);
	in = fmemopen(text, strlen(text), "r");
	if (conf_load_stream(NULL, in, "test.conf", &f->conf, &error) != 0) {
		fail_msg("%s", error);
	}
	fclose(in);
	if (!daemon_begin(f, &error)) {
		fail_msg("%s", error);
	}
	*state = f;
	return 0;
}

int daemon_teardown(void **state)
{
	struct fixture *f = *state;

	daemon_end(f);
	talloc_free(f->conf);
	scratch_remove(f->dir);
	free(f);
	return 0;
}

/* ---- the client ---- */

int client_open(struct fixture *f)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	memcpy(addr.sun_path, f->sock, strlen(f->sock) + 1);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* Run the core until the client has something to read; the volume's timers keep it moving. */
void client_wait(struct fixture *f, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	for (int i = 0; i < PATIENCE_MS / 10; i++) {
		if (poll(&p, 1, 0) > 0) {
			return;
		}
		assert_int_equal(tevent_loop_once(f->core->ev), 0);
	}
	fail_msg("no answer");
}

void client_send(struct fixture *f, int fd, const uint8_t *buf, size_t len, const int *fds,
		int fd_count)
{
	size_t sent = 0;

	while (sent < len) {
		ssize_t n = ofs_wire_send(fd, buf + sent, len - sent, fds, sent == 0 ? fd_count : 0);

		if (n == -EAGAIN) {
			assert_int_equal(tevent_loop_once(f->core->ev), 0);
			continue;
		}
		assert_true(n > 0);
		sent += (size_t)n;
	}
}

static ssize_t read_some(struct fixture *f, int fd, struct answer *a, size_t want)
{
	while (a->len < want) {
		ssize_t n;

		client_wait(f, fd);
		n = ofs_wire_recv(fd, a->frame + a->len, want - a->len, a->fds, &a->fd_count,
				OFS_WIRE_FDS_MAX);
		if (n == -EAGAIN) {
			continue;
		}
		if (n <= 0) {
			return n;
		}
		a->len += (size_t)n;
	}
	return (ssize_t)a->len;
}

bool client_answer(struct fixture *f, int fd, struct answer *a)
{
	memset(a, 0, sizeof(*a));
	if (read_some(f, fd, a, OFS_WIRE_HEAD_BYTES) <= 0) {
		return false;
	}
	assert_int_equal(ofs_wire_head_decode(a->frame, &a->head), 0);
	assert_true(a->head.length <= sizeof(a->frame));
	return read_some(f, fd, a, a->head.length) > 0;
}

bool client_is_closed(struct fixture *f, int fd)
{
	struct answer a;

	return !client_answer(f, fd, &a);
}

int answer_status(const struct answer *a, char *text, size_t cap)
{
	struct ofs_lookup_rep rep; /* status and message come first in every reply */
	struct answer copy = *a;

	/* the fields behind them do not matter here: cut the frame after the message */
	if (ofs_wire_decode_lookup_rep(copy.frame, copy.head.length, &rep) != 0) {
		int32_t status;
		uint16_t len;

		memcpy(&status, a->frame + OFS_WIRE_HEAD_BYTES, 4);
		memcpy(&len, a->frame + OFS_WIRE_HEAD_BYTES + 4, 2);
		assert_true((size_t)len + OFS_WIRE_HEAD_BYTES + 7 <= a->len);
		snprintf(text, cap, "%s", (const char *)a->frame + OFS_WIRE_HEAD_BYTES + 6);
		return status;
	}
	snprintf(text, cap, "%s", rep.message);
	return rep.status;
}

void client_hello(struct fixture *f, int fd, const char *volume, const char *path)
{
	struct ofs_hello_req m = {.features = OFS_WIRE_FEATURE_ASKED,
			.pid = (uint32_t)getpid(), .volume = volume, .path = path, .samba = "test"};
	uint8_t buf[8192];
	ssize_t len = ofs_wire_encode_hello_req(buf, sizeof(buf), 7, &m);

	assert_true(len > 0);
	client_send(f, fd, buf, (size_t)len, NULL, 0);
}

void client_hello_ok(struct fixture *f, int fd, struct answer *a)
{
	char text[2048];

	client_hello(f, fd, "vol", f->tree);
	assert_true(client_answer(f, fd, a));
	if (answer_status(a, text, sizeof(text)) != 0) {
		fail_msg("%s", text);
	}
	assert_int_equal(a->fd_count, 5);
}

void answer_fds_close(struct answer *a)
{
	while (a->fd_count > 0) {
		close(a->fds[--a->fd_count]);
	}
}

void client_list(struct fixture *f, int fd, uint64_t id, const int *fds, int fd_count)
{
	struct ofs_list_req m = {.flags = 0};
	uint8_t buf[256];
	ssize_t len = ofs_wire_encode_list_req(buf, sizeof(buf), id, &m);

	client_send(f, fd, buf, (size_t)len, fds, fd_count);
}

void client_ctl(struct fixture *f, int fd, uint64_t id, const char *words, size_t bytes)
{
	struct ofs_ctl_req m = {.argv = {.data = (const uint8_t *)words, .len = (uint32_t)bytes}};
	uint8_t buf[4096];
	ssize_t len = ofs_wire_encode_ctl_req(buf, sizeof(buf), id, &m);

	client_send(f, fd, buf, (size_t)len, NULL, 0);
}
