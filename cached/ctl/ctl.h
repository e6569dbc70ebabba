/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside objectfsctl only. */
#ifndef OFS_CTL_H
#define OFS_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <talloc.h>
#include "../admin/words.h"

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

/* --- what objectfsctl does itself; the exit status --- */
int ctl_doctor(const struct ctl_options *o, const struct words *w);
int ctl_top(const struct ctl_options *o, const struct words *w);
int ctl_recover(const struct ctl_options *o, const struct words *w);
int ctl_bundle(const struct ctl_options *o, const struct words *w);

/* --- doctor.c --- */
/* {state, findings} of all that is wrong here; smb_conf NULL: Samba's own. New reference, NULL: out of
 * memory. */
json_t *doctor_look(const struct ctl_options *o, const char *smb_conf);
void print_health(const json_t *answer);

/* --- run.c --- */
/* Standard output of a program, talloc child of ctx, the first 4 MiB; NULL: it could not be run.
 * *status: its exit status, -1: it was killed. */
char *ctl_run(TALLOC_CTX *ctx, char *const argv[], int *status);

/* --- link.c --- */
/* Path of the socket in a configuration file, malloc; the built-in default where the file cannot be
 * read or does not say (only root may read a file that holds secrets). */
char *ctl_socket_of(const char *conf);
struct ctl_wait { /* what is done while an answer is waited for; all zero: nothing, for ever */
	unsigned timeout_s;
	uint64_t request_id;     /* the daemon knows it by this number; 0: 1 */
	void (*tick)(void *arg); /* now and then */
	void *arg;
};
/* Send the words, joined by NUL, and wait for the answer. 0 and *reply; -errno: no daemon there, or the
 * connection failed; -ETIMEDOUT. */
int ctl_ask(const char *socket, const uint8_t *argv, size_t argv_bytes, const struct ctl_wait *wait,
		struct ctl_reply *reply);
/* The same of one word. */
int ctl_ask_word(const char *socket, const char *word, unsigned timeout_s, struct ctl_reply *reply);
void ctl_reply_done(struct ctl_reply *reply);
int64_t ctl_now_ms(void); /* CLOCK_MONOTONIC */
/* No daemon answers: say so, with what to do; the exit status. */
int ctl_report_away(const char *socket, const struct ctl_options *o, int ret);

/* --- progress.c --- */
struct progress {
	const char *socket, *what;
	uint64_t request_id;
	int64_t begin_ms, most;
	bool shown;
};
/* For ctl_wait.tick: a bar on standard error. */
void progress_tick(void *progress);
void progress_end(struct progress *p);

/* --- print.c --- */
void print_status(const json_t *answer);
void print_pending(const json_t *answer);
void print_left(const json_t *answer);
void print_object(const json_t *answer);
/* Text of others (names in the share, what is in the bucket) with control bytes made harmless. */
void print_safe(const char *text);
void print_safe_to(FILE *file, const char *text);
/* The same, with blanks up to a width. */
void print_padded(const char *text, int width);
/* "1.5 GiB" */
void human_bytes(double bytes, char *buf, size_t room);
void print_duration(int64_t s);
/* Fields of an answer; what is missing is "" or 0. */
const char *text_of(const json_t *o, const char *key);
int64_t number_of(const json_t *o, const char *key);

/* --- print_lists.c --- */
void print_ls(const json_t *answer);
void print_sessions(const json_t *answer);
void print_config(const json_t *answer);
void print_renames(const json_t *answer);
void print_conflicts(const json_t *answer);
void print_pins(const json_t *answer);
void print_tasks(const json_t *answer);
void print_nodes(const json_t *answer);
void print_fsck(const json_t *answer);
void print_verify(const json_t *answer);

#endif
