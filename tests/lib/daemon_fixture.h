/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A whole core on a `dir` store in a scratch directory, and a client that speaks frames to its socket, good
 * and bad. Needs cmocka: what must not fail here ends the test.
 */
#ifndef OFS_TESTS_DAEMON_FIXTURE_H
#define OFS_TESTS_DAEMON_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "cached/core/core.h"
#include "shared/wire.h"

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

/* Another core on the same directories, after daemon_end; false and *error. */
bool daemon_begin(struct fixture *f, char **error);
void daemon_end(struct fixture *f);
/* For cmocka; *state is a struct fixture. */
int daemon_setup(void **state);
int daemon_teardown(void **state);
int client_open(struct fixture *f);
void client_send(struct fixture *f, int fd, const uint8_t *buf, size_t len, const int *fds,
		int fd_count);
/* false: the daemon closed the connection. */
bool client_answer(struct fixture *f, int fd, struct answer *a);
bool client_is_closed(struct fixture *f, int fd);
/* Status and message of any reply. */
int answer_status(const struct answer *a, char *text, size_t cap);
void client_hello(struct fixture *f, int fd, const char *volume, const char *path);
void client_hello_ok(struct fixture *f, int fd, struct answer *a);
void answer_fds_close(struct answer *a);
void client_list(struct fixture *f, int fd, uint64_t id, const int *fds, int fd_count);
void client_ctl(struct fixture *f, int fd, uint64_t id, const char *words, size_t bytes);
/* Run the core until the client has something to read. */
void client_wait(struct fixture *f, int fd);

#endif
