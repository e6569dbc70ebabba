/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The daemon's socket: a whole core on a `dir` store in a scratch directory, and a client that
 * speaks frames, good and bad. Links everything of cached/ but main.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/core/announce.h"
#include "cached/core/ask.h"
#include "cached/core/core.h"
#include "cached/core/session.h"
#include "cached/reconcile/index.h"
#include "shared/ring.h"
#include "shared/shm.h"
#include "shared/wire.h"
#include "tests/lib/scratch.h"

#define PATIENCE_MS 10000

struct fixture {
	char dir[64];
	char sock[128];
	char tree[128];
	struct conf *conf;
	struct core *core;
};

struct answer {
	uint8_t frame[65536];
	size_t len;
	int fds[OFS_WIRE_FDS_MAX];
	int fd_count;
	struct ofs_wire_head head;
};

static bool core_begin(struct fixture *f, char **error)
{
	f->core = talloc_zero(NULL, struct core);
	f->core->conf = f->conf;
	if (core_open(f->core, error) != 0) {
		return false;
	}
	volumes_start(f->core);
	return true;
}

/* What is in flight when a core is closed is given up with its memory, by design: for the leak
 * checker's sake come to rest first. */
static void core_rest(struct core *core)
{
	int64_t jobs, before = -1;
	unsigned still = 0;

	for (int i = 0; i < 2000 && still < 4; i++) {
		jobs = stats_get(disk_jobs) + stats_get(s3_list) + stats_get(s3_get) +
		       stats_get(s3_put) + stats_get(s3_head);
		still = jobs == before && core->volumes[0]->state == VOLUME_READY ? still + 1 : 0;
		before = jobs;
		assert_int_equal(tevent_loop_once(core->ev), 0);
	}
}

static void core_end(struct fixture *f)
{
	if (f->core->server != NULL) {
		core_rest(f->core);
	}
	core_close(f->core);
	TALLOC_FREE(f->core);
}

static int setup(void **state)
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
	if (!core_begin(f, &error)) {
		fail_msg("%s", error);
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	core_end(f);
	talloc_free(f->conf);
	scratch_remove(f->dir);
	free(f);
	return 0;
}

/* ---- the client ---- */

static int client_open(struct fixture *f)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	memcpy(addr.sun_path, f->sock, strlen(f->sock) + 1);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* Run the core until the client has something to read; the volume's timers keep it moving. */
static void pump(struct fixture *f, int fd)
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

static void send_all(struct fixture *f, int fd, const uint8_t *buf, size_t len, const int *fds,
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

		pump(f, fd);
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

/* false: the daemon closed the connection. */
static bool read_answer(struct fixture *f, int fd, struct answer *a)
{
	memset(a, 0, sizeof(*a));
	if (read_some(f, fd, a, OFS_WIRE_HEAD_BYTES) <= 0) {
		return false;
	}
	assert_int_equal(ofs_wire_head_decode(a->frame, &a->head), 0);
	assert_true(a->head.length <= sizeof(a->frame));
	return read_some(f, fd, a, a->head.length) > 0;
}

static bool is_closed(struct fixture *f, int fd)
{
	struct answer a;

	return !read_answer(f, fd, &a);
}

static int answer_status(const struct answer *a, char *text, size_t cap)
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

static void hello_send(struct fixture *f, int fd, const char *volume, const char *path)
{
	struct ofs_hello_req m = {.features = OFS_WIRE_FEATURE_ASKED,
			.pid = (uint32_t)getpid(), .volume = volume, .path = path, .samba = "test"};
	uint8_t buf[8192];
	ssize_t len = ofs_wire_encode_hello_req(buf, sizeof(buf), 7, &m);

	assert_true(len > 0);
	send_all(f, fd, buf, (size_t)len, NULL, 0);
}

static void hello_ok(struct fixture *f, int fd, struct answer *a)
{
	char text[2048];

	hello_send(f, fd, "vol", f->tree);
	assert_true(read_answer(f, fd, a));
	if (answer_status(a, text, sizeof(text)) != 0) {
		fail_msg("%s", text);
	}
	assert_int_equal(a->fd_count, 5);
}

static void fds_close(struct answer *a)
{
	while (a->fd_count > 0) {
		close(a->fds[--a->fd_count]);
	}
}

static void list_send(struct fixture *f, int fd, uint64_t id, const int *fds, int fd_count)
{
	struct ofs_list_req m = {.flags = 0};
	uint8_t buf[256];
	ssize_t len = ofs_wire_encode_list_req(buf, sizeof(buf), id, &m);

	send_all(f, fd, buf, (size_t)len, fds, fd_count);
}

static void ctl_send(struct fixture *f, int fd, uint64_t id, const char *words, size_t bytes)
{
	struct ofs_ctl_req m = {.argv = {.data = (const uint8_t *)words, .len = (uint32_t)bytes}};
	uint8_t buf[4096];
	ssize_t len = ofs_wire_encode_ctl_req(buf, sizeof(buf), id, &m);

	send_all(f, fd, buf, (size_t)len, NULL, 0);
}

/* ---- tests ---- */

static void test_hello_gives_all_that_a_module_needs(void **state)
{
	struct fixture *f = *state;
	struct ofs_ring_writer w;
	struct ofs_hello_rep rep;
	struct ofs_shm *shm;
	struct answer a;
	struct stat st, trash;
	char path[256];
	int fd = client_open(f);

	hello_ok(f, fd, &a);
	assert_int_equal(ofs_wire_decode_hello_rep(a.frame, a.head.length, &rep), 0);
	assert_string_equal(rep.tree, f->tree);
	assert_true(strcmp(rep.xattr, OFS_RECORD_XATTR_SECURITY) == 0 ||
			strcmp(rep.xattr, OFS_RECORD_XATTR_USER) == 0);
	assert_int_equal(rep.listing_age_ns, 15 * 60 * NS_PER_S);
	assert_true(rep.session > 0);
	assert_int_equal(ofs_ring_writer_init(&w, a.fds[0]), 0);
	shm = ofs_shm_map(a.fds[1], false);
	assert_non_null(shm);
	assert_int_equal(atomic_load(&shm->capacity_bytes), 1LL << 40);
	ofs_shm_unmap(&shm);
	assert_true((fcntl(a.fds[2], F_GETFL) & O_APPEND) != 0);
	assert_int_equal(write(a.fds[3], "\1\0\0\0\0\0\0\0", 8), 8); /* the bell rings */
	snprintf(path, sizeof(path), "%s/cache/vol/trash", f->dir);
	assert_int_equal(fstat(a.fds[4], &st), 0);
	assert_int_equal(stat(path, &trash), 0);
	assert_int_equal(st.st_ino, trash.st_ino);
	assert_int_equal(stats_get(sessions), 1);
	ofs_ring_writer_fini(&w);
	a.fds[0] = a.fds[--a.fd_count];
	/* a second one on the same connection */
	fds_close(&a);
	hello_send(f, fd, "vol", f->tree);
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, path, sizeof(path)), -EINVAL);
	close(fd);
}

/* ---- what the daemon asks first ---- */

struct asked {
	unsigned done;
	int status;
};

static void on_asked(int status, const uint8_t *frame, size_t len, void *arg)
{
	struct asked *asked = arg;
	struct ofs_notify_rep rep;

	asked->done++;
	asked->status = status;
	if (status == 0) {
		assert_int_equal(ofs_wire_decode_notify_rep(frame, len, &rep), 0);
		asked->status = rep.status;
	}
}

static void ask_notify(struct fixture *f, struct asked *asked)
{
	struct asker *as = f->core->volumes[0]->asker;
	struct ofs_notify_req m = {.kind = OFS_WIRE_NOTIFY_ADDED, .path = "a/b"};
	uint64_t id = ask_next_id(as);
	uint8_t *frame = malloc(256);

	ask_send(as, id, frame, ofs_wire_encode_notify_req(frame, 256, id, &m), on_asked, asked);
}

static void asked_answer(struct fixture *f, int fd, uint64_t id, int status)
{
	struct ofs_notify_rep rep = {.status = status};
	uint8_t buf[256];
	ssize_t len = ofs_wire_encode_notify_rep(buf, sizeof(buf), id, &rep);

	send_all(f, fd, buf, (size_t)len, NULL, 0);
}

static void test_questions_survive_who_was_asked(void **state)
{
	struct fixture *f = *state;
	int one = client_open(f), two = client_open(f);
	struct asked first = {0}, second = {0}, third = {0};
	struct ofs_notify_req m;
	struct answer a;
	uint64_t id;

	ask_notify(f, &first);
	assert_int_equal(first.status, -ENOTCONN); /* nobody is there */
	hello_ok(f, one, &a);
	fds_close(&a);
	hello_ok(f, two, &a);
	fds_close(&a);
	ask_notify(f, &first);
	ask_notify(f, &second);
	assert_true(read_answer(f, one, &a));
	assert_int_equal(a.head.flags, 0);
	assert_true((a.head.request_id & OFS_WIRE_ID_DAEMON) != 0);
	assert_int_equal(ofs_wire_decode_notify_req(a.frame, a.head.length, &m), 0);
	assert_string_equal(m.path, "a/b");
	id = a.head.request_id;
	close(one); /* it dies with both: the other one is asked, in order */
	assert_true(read_answer(f, two, &a));
	assert_true(a.head.request_id == id);
	asked_answer(f, two, id, 0);
	asked_answer(f, two, id, -EIO); /* nobody's any more */
	assert_true(read_answer(f, two, &a));
	assert_true(a.head.request_id > id);
	asked_answer(f, two, a.head.request_id, -EOPNOTSUPP);
	send_all(f, two, a.frame, a.head.length, NULL, 0); /* what is ours to ask */
	assert_true(is_closed(f, two));
	assert_int_equal(first.done, 2);
	assert_int_equal(first.status, 0);
	assert_int_equal(second.done, 1);
	assert_int_equal(second.status, -EOPNOTSUPP);
	ask_notify(f, &third);
	assert_int_equal(third.status, -ENOTCONN);
	close(two);
}

static void test_news_are_told_and_counted(void **state)
{
	struct fixture *f = *state;
	struct volume *v = f->core->volumes[0];
	int64_t sent = stats_get(notifies_sent), dropped = stats_get(notifies_dropped);
	int fd = client_open(f);
	struct ofs_notify_req m;
	struct news *news = NULL;
	struct answer a;

	hello_ok(f, fd, &a);
	fds_close(&a);
	news_add(v, &news, OFS_WIRE_NOTIFY_ADDED, "told", false);
	news_add(v, &news, OFS_WIRE_NOTIFY_REMOVED, "refused", true);
	announce(v->announcer, &OFS_OID_ROOT, &news);
	assert_null(news);
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(ofs_wire_decode_notify_req(a.frame, a.head.length, &m), 0);
	assert_string_equal(m.path, "told");
	asked_answer(f, fd, a.head.request_id, 0);
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(ofs_wire_decode_notify_req(a.frame, a.head.length, &m), 0);
	assert_string_equal(m.path, "refused");
	assert_int_equal(m.flags, OFS_WIRE_NOTIFY_DIR);
	asked_answer(f, fd, a.head.request_id, -EOPNOTSUPP);
	for (int i = 0; i < 2000 && stats_get(notifies_dropped) == dropped; i++) {
		assert_int_equal(tevent_loop_once(f->core->ev), 0);
	}
	assert_int_equal(stats_get(notifies_sent), sent + 1);
	assert_int_equal(stats_get(notifies_dropped), dropped + 1);
	close(fd);
}

static void test_hello_refusals_say_why(void **state)
{
	struct fixture *f = *state;
	struct answer a;
	char text[2048];
	int fd = client_open(f);

	hello_send(f, fd, "nosuch", f->tree);
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -ENOENT);
	assert_non_null(strstr(text, "vol"));
	assert_int_equal(a.fd_count, 0);
	hello_send(f, fd, "vol", "/usr");
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EINVAL);
	assert_non_null(strstr(text, f->tree));
	hello_send(f, fd, "vol", "/no/such/path");
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EINVAL);
	hello_send(f, fd, "vol", "relative");
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EINVAL);
	/* and the connection is good still */
	hello_ok(f, fd, &a);
	fds_close(&a);
	close(fd);
}

static void test_another_protocol_version_is_told_so(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[64] = {0};
	uint8_t raw[512];
	struct ofs_hello_req m = {.volume = "vol", .path = "/", .samba = ""};
	ssize_t len = ofs_wire_encode_hello_req(buf, sizeof(buf), 99, &m), n = 0;
	int fd = client_open(f);
	int32_t status;

	buf[8] = 9; /* major */
	send_all(f, fd, buf, (size_t)len, NULL, 0);
	while (n < 60) {
		ssize_t got;

		pump(f, fd);
		got = read(fd, raw + n, sizeof(raw) - (size_t)n);
		assert_true(got > 0);
		n += got;
	}
	memcpy(&status, raw + OFS_WIRE_HEAD_BYTES, 4);
	assert_int_equal(status, -EPROTONOSUPPORT);
	assert_int_equal(raw[16], 99); /* the id of the request */
	raw[n - 1] = '\0';
	assert_non_null(strstr((char *)raw + OFS_WIRE_HEAD_BYTES + 6, "version 9"));
	assert_true(is_closed(f, fd));
	close(fd);
}

static void bad_bytes(struct fixture *f, const void *bytes, size_t len)
{
	int64_t bad = stats_get(bad_frames);
	int other = client_open(f), fd = client_open(f);
	struct answer a;

	send_all(f, fd, bytes, len, NULL, 0);
	assert_true(is_closed(f, fd));
	assert_int_equal(stats_get(bad_frames), bad + 1);
	close(fd);
	hello_ok(f, other, &a); /* nobody else notices */
	fds_close(&a);
	close(other);
}

static void test_bad_frames_end_one_connection(void **state)
{
	struct fixture *f = *state;
	struct ofs_hello_req hello = {.volume = "vol", .path = "/x", .samba = ""};
	uint8_t buf[256];
	ssize_t len;

	memset(buf, 'x', sizeof(buf));
	bad_bytes(f, buf, 64); /* magic */
	len = ofs_wire_encode_hello_req(buf, sizeof(buf), 1, &hello);
	buf[4] = buf[5] = buf[6] = buf[7] = 0xff; /* length */
	bad_bytes(f, buf, (size_t)len);
	len = ofs_wire_encode_hello_req(buf, sizeof(buf), 1, &hello);
	buf[10] = 200; /* op */
	bad_bytes(f, buf, (size_t)len);
	len = ofs_wire_encode_hello_req(buf, sizeof(buf), 1, &hello);
	buf[12] = 1; /* flags: a reply */
	bad_bytes(f, buf, (size_t)len);
	len = ofs_wire_encode_hello_req(buf, sizeof(buf), 1, &hello);
	buf[4] = (uint8_t)(len + 3); /* leftovers */
	bad_bytes(f, buf, (size_t)len + 3);
	len = ofs_wire_encode_hello_req(buf, sizeof(buf), 1, &hello);
	buf[len - 2] = 0; /* a NUL inside a string: here, a length that does not fit */
	buf[4] = (uint8_t)(len - 1);
	bad_bytes(f, buf, (size_t)len - 1);
}

static void test_descriptors_must_fit_the_message(void **state)
{
	struct fixture *f = *state;
	struct answer a;
	int fds[3], fd = client_open(f);

	hello_ok(f, fd, &a);
	fds_close(&a);
	list_send(f, fd, 1, NULL, 0); /* missing */
	assert_true(is_closed(f, fd));
	close(fd);
	fd = client_open(f);
	hello_ok(f, fd, &a);
	fds_close(&a);
	for (int i = 0; i < 3; i++) {
		fds[i] = open(f->tree, O_PATH);
	}
	list_send(f, fd, 1, fds, 3); /* too many */
	assert_true(is_closed(f, fd));
	close(fd);
	for (int i = 0; i < 3; i++) {
		close(fds[i]);
	}
}

static void test_descriptors_are_checked(void **state)
{
	struct fixture *f = *state;
	struct ofs_open_req open_req = {.flags = 0};
	struct answer a;
	char text[2048], path[256];
	uint8_t buf[128];
	int fd = client_open(f), dir, outside, file;
	ssize_t len;

	hello_ok(f, fd, &a);
	fds_close(&a);
	outside = open("/tmp", O_RDONLY);
	snprintf(path, sizeof(path), "%s/file", f->tree);
	file = open(path, O_RDWR | O_CREAT, 0666);
	dir = open(f->tree, O_RDONLY);
	assert_true(outside >= 0 && file >= 0 && dir >= 0);
	list_send(f, fd, 1, &outside, 1);
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EINVAL);
	list_send(f, fd, 2, &file, 1);
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EINVAL);
	len = ofs_wire_encode_open_req(buf, sizeof(buf), 3, &open_req);
	send_all(f, fd, buf, (size_t)len, &dir, 1);
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EINVAL);
	/* a good one */
	list_send(f, fd, 4, &dir, 1);
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(a.head.request_id, 4);
	assert_int_equal(answer_status(&a, text, sizeof(text)), 0);
	close(outside);
	close(file);
	close(dir);
	close(fd);
}

static void test_nothing_without_hello(void **state)
{
	struct fixture *f = *state;
	struct ofs_fetch_req fetch = {.open_id = 5, .length = 1};
	struct answer a;
	char text[2048];
	uint8_t buf[128];
	int fd = client_open(f), dir = open(f->tree, O_PATH);
	ssize_t len;

	list_send(f, fd, 1, &dir, 1);
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EPROTO);
	hello_ok(f, fd, &a);
	fds_close(&a);
	len = ofs_wire_encode_fetch_req(buf, sizeof(buf), 2, &fetch);
	send_all(f, fd, buf, (size_t)len, NULL, 0);
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EBADF);
	close(dir);
	close(fd);
}

static void test_a_frame_byte_by_byte(void **state)
{
	struct fixture *f = *state;
	struct ofs_hello_req m = {.volume = "vol", .path = f->tree, .samba = "4"};
	struct answer a;
	uint8_t buf[512];
	ssize_t len = ofs_wire_encode_hello_req(buf, sizeof(buf), 1, &m);
	int fd = client_open(f);

	for (ssize_t i = 0; i < len; i++) {
		send_all(f, fd, buf + i, 1, NULL, 0);
		assert_int_equal(tevent_loop_once(f->core->ev), 0);
	}
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(a.fd_count, 5);
	fds_close(&a);
	close(fd);
}

#define UNREAD_MOST 300u

static void test_a_slow_reader_gets_every_answer(void **state)
{
	struct fixture *f = *state;
	struct answer a;
	int fd = client_open(f);
	uint64_t sent = 0, got = 0;

	/* more than the limits of requests and of bytes waiting */
	while (sent < 3000) {
		ctl_send(f, fd, ++sent, "status", 7);
		if (sent % 100 == 0) {
			while (sent - got > UNREAD_MOST) {
				assert_true(read_answer(f, fd, &a));
				assert_int_equal(a.head.request_id, ++got);
			}
		}
	}
	while (got < sent) {
		assert_true(read_answer(f, fd, &a));
		assert_int_equal(a.head.request_id, ++got);
	}
	close(fd);
}

static void test_a_request_survives_its_connection(void **state)
{
	struct fixture *f = *state;
	struct answer a;
	int dir = open(f->tree, O_RDONLY);

	for (int i = 0; i < 20; i++) {
		int fd = client_open(f);

		hello_ok(f, fd, &a);
		fds_close(&a);
		list_send(f, fd, 1, &dir, 1);
		close(fd);
		fd = client_open(f);
		hello_send(f, fd, "vol", f->tree); /* and gone before it is answered */
		close(fd);
	}
	for (int i = 0; i < 100 && stats_get(sessions) > 0; i++) {
		assert_int_equal(tevent_loop_once(f->core->ev), 0);
	}
	assert_int_equal(stats_get(sessions), 0);
	close(dir);
}

static json_t *ctl(struct fixture *f, const char *words, size_t bytes, int *status)
{
	struct ofs_ctl_rep rep;
	struct answer a;
	json_t *j;
	int fd = client_open(f);

	ctl_send(f, fd, 1, words, bytes);
	assert_true(read_answer(f, fd, &a));
	assert_int_equal(ofs_wire_decode_ctl_rep(a.frame, a.head.length, &rep), 0);
	*status = rep.status;
	j = rep.json.len > 0 ? json_loadb((const char *)rep.json.data, rep.json.len, 0, NULL) : NULL;
	close(fd);
	return j;
}

static void test_commands(void **state)
{
	struct fixture *f = *state;
	const char *name;
	int status;
	json_t *j;

	for (int i = 0; i < 500 && f->core->volumes[0]->state != VOLUME_READY; i++) {
		assert_int_equal(tevent_loop_once(f->core->ev), 0);
	}
	j = ctl(f, "status", 7, &status);
	assert_int_equal(status, 0);
	name = json_string_value(json_object_get(
			json_array_get(json_object_get(j, "volumes"), 0), "state"));
	assert_string_equal(name, "ready");
	assert_non_null(json_object_get(json_object_get(j, "counters"), "messages"));
	json_decref(j);
	j = ctl(f, "stat\0.", 7, &status);
	assert_int_equal(status, 0);
	assert_string_equal(json_string_value(json_object_get(j, "type")), "directory");
	json_decref(j);
	json_decref(ctl(f, "stat\0nothing", 13, &status));
	assert_int_equal(status, -ENOENT);
	json_decref(ctl(f, "stat\0../../etc", 15, &status));
	assert_int_equal(status, -EINVAL);
	json_decref(ctl(f, "stat\0/etc/passwd", 17, &status));
	assert_int_equal(status, -EINVAL);
	json_decref(ctl(f, "stat\0vol:.", 11, &status));
	assert_int_equal(status, 0);
	json_decref(ctl(f, "-v\0nosuch\0status", 17, &status));
	assert_int_equal(status, -ENOENT);
	json_decref(ctl(f, "dance", 6, &status));
	assert_int_equal(status, -EINVAL);
	json_decref(ctl(f, "", 0, &status));
	assert_int_equal(status, -EINVAL);
	json_decref(ctl(f, "flush\0--timeout\0x", 18, &status));
	assert_int_equal(status, -EINVAL);
	json_decref(ctl(f, "flush\0--wait\0--timeout\09", 25, &status));
	assert_int_equal(status, 0);
	json_decref(ctl(f, "refresh\0.", 10, &status));
	assert_int_equal(status, 0);
	json_decref(ctl(f, "refresh\0no/such", 16, &status));
	assert_int_equal(status, -ENOENT);
	json_decref(ctl(f, "pending", 8, &status));
	assert_int_equal(status, 0);
}

static void test_a_second_daemon_is_refused(void **state)
{
	struct fixture *f = *state;
	struct core *other = talloc_zero(NULL, struct core);
	char *error = NULL, pid[32];

	other->conf = f->conf;
	assert_int_equal(core_open(other, &error), -EBUSY);
	snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
	assert_non_null(strstr(error, pid));
	assert_non_null(strstr(error, f->conf->global.cache_directory));
	core_close(other);
	talloc_free(other);
	assert_int_equal(access(f->sock, F_OK), 0); /* it left ours alone */
}

static void test_a_copied_mirror_is_refused(void **state)
{
	struct fixture *f = *state;
	char *error = NULL;
	char cmd[512];

	core_end(f);
	snprintf(cmd, sizeof(cmd), "mv %s/cache/vol %s/old && cp -a %s/old %s/cache/vol", f->dir,
			f->dir, f->dir, f->dir);
	assert_int_equal(system(cmd), 0);
	assert_false(core_begin(f, &error));
	assert_non_null(strstr(error, "copy"));
	core_end(f);
	snprintf(cmd, sizeof(cmd), "rm -rf %s/cache/vol && mv %s/old %s/cache/vol", f->dir, f->dir,
			f->dir);
	assert_int_equal(system(cmd), 0);
	assert_true(core_begin(f, &error)); /* the original is good */
}

static void test_a_new_tree_sets_the_old_index_aside(void **state)
{
	struct fixture *f = *state;
	char *error = NULL;
	char cmd[512];

	core_end(f);
	snprintf(cmd, sizeof(cmd), "rm -rf %s/cache/vol/tree", f->dir);
	assert_int_equal(system(cmd), 0);
	assert_true(core_begin(f, &error));
	snprintf(cmd, sizeof(cmd), "ls %s/cache/vol/index.db.old-*[0-9] >/dev/null", f->dir);
	assert_int_equal(system(cmd), 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
			T(test_hello_gives_all_that_a_module_needs),
			T(test_hello_refusals_say_why),
			T(test_questions_survive_who_was_asked),
			T(test_news_are_told_and_counted),
			T(test_another_protocol_version_is_told_so),
			T(test_bad_frames_end_one_connection),
			T(test_descriptors_must_fit_the_message),
			T(test_descriptors_are_checked),
			T(test_nothing_without_hello),
			T(test_a_frame_byte_by_byte),
			T(test_a_slow_reader_gets_every_answer),
			T(test_a_request_survives_its_connection),
			T(test_commands),
			T(test_a_second_daemon_is_refused),
			T(test_a_copied_mirror_is_refused),
			T(test_a_new_tree_sets_the_old_index_aside),
	};
#undef T

	talloc_disable_null_tracking();
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LVL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
