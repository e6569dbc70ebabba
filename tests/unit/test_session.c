/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The daemon's socket: frames of a client, good and bad. Links everything of cached/ but main.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/core/session.h"
#include "cached/reconcile/index.h"
#include "shared/ring.h"
#include "shared/shm.h"
#include "shared/wire.h"
#include "tests/lib/daemon_fixture.h"

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

	client_hello_ok(f, fd, &a);
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
	answer_fds_close(&a);
	client_hello(f, fd, "vol", f->tree);
	assert_true(client_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, path, sizeof(path)), -EINVAL);
	close(fd);
}

static void test_hello_refusals_say_why(void **state)
{
	struct fixture *f = *state;
	struct answer a;
	char text[2048];
	int fd = client_open(f);

	client_hello(f, fd, "nosuch", f->tree);
	assert_true(client_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -ENOENT);
	assert_non_null(strstr(text, "vol"));
	assert_int_equal(a.fd_count, 0);
	client_hello(f, fd, "vol", "/usr");
	assert_true(client_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EINVAL);
	assert_non_null(strstr(text, f->tree));
	client_hello(f, fd, "vol", "/no/such/path");
	assert_true(client_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EINVAL);
	client_hello(f, fd, "vol", "relative");
	assert_true(client_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EINVAL);
	/* and the connection is good still */
	client_hello_ok(f, fd, &a);
	answer_fds_close(&a);
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
	client_send(f, fd, buf, (size_t)len, NULL, 0);
	while (n < 60) {
		ssize_t got;

		client_wait(f, fd);
		got = read(fd, raw + n, sizeof(raw) - (size_t)n);
		assert_true(got > 0);
		n += got;
	}
	memcpy(&status, raw + OFS_WIRE_HEAD_BYTES, 4);
	assert_int_equal(status, -EPROTONOSUPPORT);
	assert_int_equal(raw[16], 99); /* the id of the request */
	raw[n - 1] = '\0';
	assert_non_null(strstr((char *)raw + OFS_WIRE_HEAD_BYTES + 6, "version 9"));
	assert_true(client_is_closed(f, fd));
	close(fd);
}

static void bad_bytes(struct fixture *f, const void *bytes, size_t len)
{
	int64_t bad = stats_get(bad_frames);
	int other = client_open(f), fd = client_open(f);
	struct answer a;

	client_send(f, fd, bytes, len, NULL, 0);
	assert_true(client_is_closed(f, fd));
	assert_int_equal(stats_get(bad_frames), bad + 1);
	close(fd);
	client_hello_ok(f, other, &a); /* nobody else notices */
	answer_fds_close(&a);
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

	client_hello_ok(f, fd, &a);
	answer_fds_close(&a);
	client_list(f, fd, 1, NULL, 0); /* missing */
	assert_true(client_is_closed(f, fd));
	close(fd);
	fd = client_open(f);
	client_hello_ok(f, fd, &a);
	answer_fds_close(&a);
	for (int i = 0; i < 3; i++) {
		fds[i] = open(f->tree, O_PATH);
	}
	client_list(f, fd, 1, fds, 3); /* too many */
	assert_true(client_is_closed(f, fd));
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

	client_hello_ok(f, fd, &a);
	answer_fds_close(&a);
	outside = open("/tmp", O_RDONLY);
	snprintf(path, sizeof(path), "%s/file", f->tree);
	file = open(path, O_RDWR | O_CREAT, 0666);
	dir = open(f->tree, O_RDONLY);
	assert_true(outside >= 0 && file >= 0 && dir >= 0);
	client_list(f, fd, 1, &outside, 1);
	assert_true(client_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EINVAL);
	client_list(f, fd, 2, &file, 1);
	assert_true(client_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EINVAL);
	len = ofs_wire_encode_open_req(buf, sizeof(buf), 3, &open_req);
	client_send(f, fd, buf, (size_t)len, &dir, 1);
	assert_true(client_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EINVAL);
	/* a good one */
	client_list(f, fd, 4, &dir, 1);
	assert_true(client_answer(f, fd, &a));
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

	client_list(f, fd, 1, &dir, 1);
	assert_true(client_answer(f, fd, &a));
	assert_int_equal(answer_status(&a, text, sizeof(text)), -EPROTO);
	client_hello_ok(f, fd, &a);
	answer_fds_close(&a);
	len = ofs_wire_encode_fetch_req(buf, sizeof(buf), 2, &fetch);
	client_send(f, fd, buf, (size_t)len, NULL, 0);
	assert_true(client_answer(f, fd, &a));
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
		client_send(f, fd, buf + i, 1, NULL, 0);
		assert_int_equal(tevent_loop_once(f->core->ev), 0);
	}
	assert_true(client_answer(f, fd, &a));
	assert_int_equal(a.fd_count, 5);
	answer_fds_close(&a);
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
		client_ctl(f, fd, ++sent, "status", 7);
		if (sent % 100 == 0) {
			while (sent - got > UNREAD_MOST) {
				assert_true(client_answer(f, fd, &a));
				assert_int_equal(a.head.request_id, ++got);
			}
		}
	}
	while (got < sent) {
		assert_true(client_answer(f, fd, &a));
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

		client_hello_ok(f, fd, &a);
		answer_fds_close(&a);
		client_list(f, fd, 1, &dir, 1);
		close(fd);
		fd = client_open(f);
		client_hello(f, fd, "vol", f->tree); /* and gone before it is answered */
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

	client_ctl(f, fd, 1, words, bytes);
	assert_true(client_answer(f, fd, &a));
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

	daemon_end(f);
	snprintf(cmd, sizeof(cmd), "mv %s/cache/vol %s/old && cp -a %s/old %s/cache/vol", f->dir,
			f->dir, f->dir, f->dir);
	assert_int_equal(system(cmd), 0);
	assert_false(daemon_begin(f, &error));
	assert_non_null(strstr(error, "copy"));
	daemon_end(f);
	snprintf(cmd, sizeof(cmd), "rm -rf %s/cache/vol && mv %s/old %s/cache/vol", f->dir, f->dir,
			f->dir);
	assert_int_equal(system(cmd), 0);
	assert_true(daemon_begin(f, &error)); /* the original is good */
}

static void test_a_new_tree_sets_the_old_index_aside(void **state)
{
	struct fixture *f = *state;
	char *error = NULL;
	char cmd[512];

	daemon_end(f);
	snprintf(cmd, sizeof(cmd), "rm -rf %s/cache/vol/tree", f->dir);
	assert_int_equal(system(cmd), 0);
	assert_true(daemon_begin(f, &error));
	snprintf(cmd, sizeof(cmd), "ls %s/cache/vol/index.db.old-*[0-9] >/dev/null", f->dir);
	assert_int_equal(system(cmd), 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, daemon_setup, daemon_teardown)
	const struct CMUnitTest tests[] = {
			T(test_hello_gives_all_that_a_module_needs),
			T(test_hello_refusals_say_why),
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
