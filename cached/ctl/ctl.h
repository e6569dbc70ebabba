/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside objectfsctl only. */
#ifndef OFS_CTL_H
#define OFS_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ctl_exit {
	CTL_EXIT_OK,
	CTL_EXIT_FAILED, /* the daemon says no, or something is not in S3 yet */
	CTL_EXIT_USAGE,
	CTL_EXIT_AWAY, /* no daemon */
};

struct ctl_reply {
	int status;    /* of the daemon, 0 or -errno */
	char *message; /* malloc, never NULL */
	json_t *json;  /* NULL: none */
};

struct ctl_options {
	const char *conf, *socket, *volume; /* socket, volume NULL: not said */
	bool json;
};

/* --- doctor.c --- */
/* The words behind the command. The exit status. */
int ctl_doctor(const struct ctl_options *o, int argc, char **argv);
void print_health(const json_t *answer);

/* --- link.c --- */
/* Path of the socket in a configuration file, malloc; the built-in default where the file cannot be
 * read or does not say (only root may read a file that holds secrets). */
char *ctl_socket_of(const char *conf);
/* Send the words and wait for the answer, timeout_s 0: for ever. 0 and *reply; -errno: no daemon
 * there, or the connection failed; -ETIMEDOUT. */
int ctl_ask(const char *socket, const uint8_t *argv, size_t argv_bytes, unsigned timeout_s,
		struct ctl_reply *reply);

/* --- print.c --- */
void print_status(const json_t *answer);
void print_pending(const json_t *answer);
void print_left(const json_t *answer);
void print_object(const json_t *answer);
/* Text of others (names in the share) with control bytes made harmless. */
void print_safe(const char *text);

#endif
