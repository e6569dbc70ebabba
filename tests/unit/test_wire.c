/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Frames: round trips, every truncation, leftovers, limits, descriptors over a socket. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "shared/wire.h"

static const struct ofs_hello_req hello = {
	.minor = 3,
	.features = 0x8000000000000001u,
	.pid = 4711,
	.volume = "test",
	.path = "/var/cache/objectfs/test/tree",
	.samba = "4.17.12-Debian",
};

static void test_round_trip(void **state)
{
	struct ofs_hello_req back;
	uint8_t buf[512];
	struct ofs_wire_head head;
	ssize_t len;

	(void)state;
	len = ofs_wire_encode_hello_req(buf, sizeof(buf), 99, &hello);
	assert_true(len > 0);
	assert_int_equal(ofs_wire_head_decode(buf, &head), 0);
	assert_int_equal(head.length, len);
	assert_int_equal(head.op, OFS_WIRE_OP_HELLO);
	assert_int_equal(head.flags, 0);
	assert_int_equal(head.request_id, 99);
	assert_int_equal(ofs_wire_decode_hello_req(buf, (size_t)len, &back), 0);
	assert_int_equal(back.minor, 3);
	assert_true(back.features == hello.features);
	assert_string_equal(back.volume, "test");
	assert_string_equal(back.path, hello.path);
	assert_string_equal(back.samba, hello.samba);
}

static void test_reply(void **state)
{
	struct ofs_hello_rep rep = {.status = -EACCES, .message = "no such volume",
		.xattr = "user.objectfs", .tree = NULL, .listing_age_ns = 5};
	struct ofs_hello_rep back;
	struct ofs_list_rep list = {.status = 0};
	struct ofs_list_rep list_back;
	uint8_t buf[512];
	ssize_t len;

	(void)state;
	rep.cache_id.bytes[15] = 0xee;
	len = ofs_wire_encode_hello_rep(buf, sizeof(buf), 1, &rep);
	assert_true(len > 0);
	assert_int_equal(ofs_wire_decode_hello_rep(buf, (size_t)len, &back), 0);
	assert_int_equal(back.status, -EACCES);
	assert_string_equal(back.message, "no such volume");
	assert_string_equal(back.tree, "");
	assert_int_equal(back.cache_id.bytes[15], 0xee);
	/* a reply is not a request, nor another message's reply */
	assert_int_equal(ofs_wire_decode_hello_req(buf, (size_t)len, &(struct ofs_hello_req){0}),
			-EBADMSG);
	assert_int_equal(ofs_wire_decode_list_rep(buf, (size_t)len, &list_back), -EBADMSG);
	/* a positive status is nobody's answer */
	len = ofs_wire_encode_list_rep(buf, sizeof(buf), 1, &list);
	assert_int_equal(ofs_wire_decode_list_rep(buf, (size_t)len, &list_back), 0);
	buf[OFS_WIRE_HEAD_BYTES] = 1;
	assert_int_equal(ofs_wire_decode_list_rep(buf, (size_t)len, &list_back), -EBADMSG);
}

static void test_truncated(void **state)
{
	struct ofs_hello_req back;
	uint8_t buf[512];
	ssize_t len;

	(void)state;
	len = ofs_wire_encode_hello_req(buf, sizeof(buf), 1, &hello);
	for (ssize_t cut = 0; cut < len; cut++) {
		uint8_t *copy = malloc((size_t)cut + 1); /* a read beyond it is seen by ASAN */

		memcpy(copy, buf, (size_t)cut);
		assert_int_equal(ofs_wire_decode_hello_req(copy, (size_t)cut, &back), -EBADMSG);
		if (cut >= (ssize_t)OFS_WIRE_HEAD_BYTES) { /* also with a length that fits */
			copy[4] = (uint8_t)cut;
			copy[5] = (uint8_t)(cut >> 8);
			assert_int_equal(ofs_wire_decode_hello_req(copy, (size_t)cut, &back),
					-EBADMSG);
		}
		free(copy);
		/* and no room to encode */
		assert_int_equal(ofs_wire_encode_hello_req(
						 (uint8_t[512]){0}, (size_t)cut, 1, &hello),
				-EMSGSIZE);
	}
}

static void test_leftovers_and_strings(void **state)
{
	struct ofs_lookup_req m = {.name = "abc"}, back;
	uint8_t buf[64] = {0};
	ssize_t len;

	(void)state;
	len = ofs_wire_encode_lookup_req(buf, sizeof(buf), 1, &m);
	assert_int_equal(len, OFS_WIRE_HEAD_BYTES + 2 + 3 + 1);
	buf[4]++;
	assert_int_equal(ofs_wire_decode_lookup_req(buf, (size_t)len + 1, &back), -EBADMSG);
	buf[4]--;
	assert_int_equal(ofs_wire_decode_lookup_req(buf, (size_t)len, &back), 0);
	buf[OFS_WIRE_HEAD_BYTES + 3] = '\0'; /* NUL inside */
	assert_int_equal(ofs_wire_decode_lookup_req(buf, (size_t)len, &back), -EBADMSG);
	buf[OFS_WIRE_HEAD_BYTES + 3] = 'b';
	buf[len - 1] = 'x'; /* no NUL behind */
	assert_int_equal(ofs_wire_decode_lookup_req(buf, (size_t)len, &back), -EBADMSG);
	buf[len - 1] = '\0';
	buf[12] = 2; /* a flag nobody knows */
	assert_int_equal(ofs_wire_decode_lookup_req(buf, (size_t)len, &back), -EBADMSG);
}

static void test_head_checks(void **state)
{
	struct ofs_lookup_req m = {.name = "abc"};
	struct ofs_wire_head head;
	uint8_t good[64] = {0}, buf[64];

	(void)state;
	assert_true(ofs_wire_encode_lookup_req(good, sizeof(good), 1, &m) > 0);
	memcpy(buf, good, sizeof(buf));
	buf[0] ^= 1;
	buf[4] = 0; /* magic is judged first */
	assert_int_equal(ofs_wire_head_decode(buf, &head), -EPROTO);
	memcpy(buf, good, sizeof(buf));
	buf[4] = OFS_WIRE_HEAD_BYTES - 1;
	buf[8] = 9; /* length before major */
	assert_int_equal(ofs_wire_head_decode(buf, &head), -EMSGSIZE);
	memcpy(buf, good, sizeof(buf));
	buf[7] = 1; /* 16 MiB */
	assert_int_equal(ofs_wire_head_decode(buf, &head), -EMSGSIZE);
	memcpy(buf, good, sizeof(buf));
	buf[8] = 2;
	assert_int_equal(ofs_wire_head_decode(buf, &head), -EPROTONOSUPPORT);
}

static void test_limits(void **state)
{
	size_t cap = OFS_WIRE_FRAME_MAX_BYTES + 4096;
	uint8_t *buf = malloc(cap), *data = calloc(1, OFS_WIRE_FRAME_MAX_BYTES);
	char *name = malloc(65537);
	struct ofs_lookup_req lookup = {.name = name}, lookup_back;
	struct ofs_ctl_req ctl = {.argv = {data, OFS_WIRE_FRAME_MAX_BYTES}}, ctl_back;
	ssize_t len;

	(void)state;
	memset(name, 'n', 65536);
	name[65536] = '\0';
	assert_int_equal(ofs_wire_encode_lookup_req(buf, cap, 1, &lookup), -EMSGSIZE);
	name[65535] = '\0';
	len = ofs_wire_encode_lookup_req(buf, cap, 1, &lookup);
	assert_true(len > 0);
	assert_int_equal(ofs_wire_decode_lookup_req(buf, (size_t)len, &lookup_back), 0);
	assert_int_equal(strlen(lookup_back.name), 65535);
	assert_int_equal(ofs_wire_encode_ctl_req(buf, cap, 1, &ctl), -EMSGSIZE);
	ctl.argv.len = OFS_WIRE_FRAME_MAX_BYTES - OFS_WIRE_HEAD_BYTES - 4;
	len = ofs_wire_encode_ctl_req(buf, cap, 1, &ctl);
	assert_int_equal(len, OFS_WIRE_FRAME_MAX_BYTES);
	assert_int_equal(ofs_wire_decode_ctl_req(buf, (size_t)len, &ctl_back), 0);
	assert_int_equal(ctl_back.argv.len, ctl.argv.len);
	/* a blob that claims more than there is */
	buf[OFS_WIRE_HEAD_BYTES + 3] = 0xff;
	assert_int_equal(ofs_wire_decode_ctl_req(buf, (size_t)len, &ctl_back), -EBADMSG);
	assert_int_equal(ctl_back.argv.len, 0);
	free(name);
	free(data);
	free(buf);
}

static void test_op_info(void **state)
{
	const struct ofs_wire_op_info *info = ofs_wire_op_info(OFS_WIRE_OP_HELLO);

	(void)state;
	assert_non_null(info);
	assert_string_equal(info->name, "HELLO");
	assert_int_equal(info->reply_fds, 5);
	assert_int_equal(info->who, OFS_WIRE_WHO_MODULE);
	assert_int_equal(ofs_wire_op_info(OFS_WIRE_OP_RELEASE)->who, OFS_WIRE_WHO_ONEWAY);
	assert_int_equal(ofs_wire_op_info(OFS_WIRE_OP_CTL)->who, OFS_WIRE_WHO_ADMIN);
	assert_null(ofs_wire_op_info(0));
	assert_null(ofs_wire_op_info(65535));
}

/* --- the socket --- */

static int fds_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++) {
		n += fcntl(fd, F_GETFD) >= 0;
	}
	return n;
}

static void test_descriptors(void **state)
{
	int sv[2], got[4], count = 0, before;
	struct stat a, b;
	uint8_t buf[64];

	(void)state;
	before = fds_open();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(ofs_wire_send(sv[0], (const uint8_t *)"hi", 2, (int[]){sv[0], sv[1]}, 2), 2);
	assert_int_equal(ofs_wire_recv(sv[1], buf, sizeof(buf), got, &count, 4), 2);
	assert_int_equal(count, 2);
	assert_true((fcntl(got[0], F_GETFD) & FD_CLOEXEC) != 0);
	assert_int_equal(fstat(got[1], &a), 0);
	assert_int_equal(fstat(sv[1], &b), 0);
	assert_true(a.st_ino == b.st_ino);
	/* appended behind what is there; one too many refuses all of this message */
	assert_int_equal(ofs_wire_send(sv[0], (const uint8_t *)"hi", 2, (int[]){0, 1, 2}, 3), 2);
	assert_int_equal(ofs_wire_recv(sv[1], buf, sizeof(buf), got, &count, 4), -EBADMSG);
	assert_int_equal(count, 2);
	close(got[0]);
	close(got[1]);
	/* nothing there, and the peer gone */
	count = 0;
	assert_int_equal(fcntl(sv[1], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(ofs_wire_recv(sv[1], buf, sizeof(buf), got, &count, 4), -EAGAIN);
	close(sv[0]);
	assert_int_equal(ofs_wire_recv(sv[1], buf, sizeof(buf), got, &count, 4), 0);
	assert_int_equal(ofs_wire_send(sv[1], (const uint8_t *)"x", 1, NULL, 0), -EPIPE);
	assert_int_equal(ofs_wire_send(sv[1], (const uint8_t *)"x", 1, got, 9), -EINVAL);
	close(sv[1]);
	assert_int_equal(fds_open(), before);
}

/* A peer that keeps no limits: more descriptors in one message than we have room for. */
static void test_descriptor_flood(void **state)
{
	int sv[2], got[OFS_WIRE_FDS_MAX], count = 0, before;
	char control[CMSG_SPACE(sizeof(int) * 64)] __attribute__((aligned(8)));
	struct iovec iov = {.iov_base = "x", .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *cmsg;
	uint8_t buf[8];

	(void)state;
	before = fds_open();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	memset(control, 0, sizeof(control));
	cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int) * 64);
	for (int i = 0; i < 64; i++) {
		memcpy(CMSG_DATA(cmsg) + sizeof(int) * (size_t)i, &sv[0], sizeof(int));
	}
	assert_int_equal(sendmsg(sv[0], &msg, 0), 1);
	assert_int_equal(ofs_wire_recv(sv[1], buf, sizeof(buf), got, &count, OFS_WIRE_FDS_MAX),
			-EBADMSG);
	assert_int_equal(count, 0);
	close(sv[0]);
	close(sv[1]);
	assert_int_equal(fds_open(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_reply),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_leftovers_and_strings),
		cmocka_unit_test(test_head_checks),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_op_info),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_descriptor_flood),
	};

	return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
