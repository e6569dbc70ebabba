/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Credentials that a program prints: credential_process of a profile ("Process credential provider" in
 * the AWS SDKs and Tools Reference Guide).
 *
 * Way:    creds_profile.c -> here.
 * Thread: the keeper's; waits for the program, PROCESS_MS and the caller's deadline at most.
 * Owns:   the program, its process group, and both pipes.
 * Holds:  1. When this returns the program has ended, by itself, or killed with all that it started
 *            and that stayed in its group.
 *         2. What it prints is bounded. Of its standard error one line goes to the log, without the
 *            secrets it printed and without whatever looks like a key.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "creds_ask.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cached/base/log.h"

#define ROOM "s3"
#define PROCESS_MS 15000
#define LOOK_MS 50
#define STDERR_BYTES 1024u
#define KEY_LIKE_BYTES 16u /* an access key has 20 characters, a secret 40 */
#define SOURCE "credential_process"

extern char **environ;

struct program {
	pid_t pid;
	int out, err; /* -1: ended */
	size_t out_len, err_len;
	char stdout_text[S3_ANSWER_MAX_BYTES + 1];
	char stderr_text[STDERR_BYTES + 1];
	bool too_much;
};

static int spawn(struct program *p, const char *command)
{
	int out[2] = { -1, -1 }, err[2] = { -1, -1 };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	char *script = NULL;
	int ret;

	/* the daemon's umask is 0, which is no good for what a program may write */
	if (asprintf(&script, "umask 077\n%s", command) < 0) {
		return -ENOMEM;
	}
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	ret = pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0 ? -errno : 0;
	if (ret == 0) {
		char *argv[] = { "sh", "-c", script, NULL };

		sigemptyset(&none);
		sigfillset(&all);
		posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
		posix_spawn_file_actions_adddup2(&files, out[1], 1);
		posix_spawn_file_actions_adddup2(&files, err[1], 2);
		posix_spawn_file_actions_addclosefrom_np(&files, 3);
		posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
				POSIX_SPAWN_SETSIGDEF);
		posix_spawnattr_setpgroup(&attr, 0);
		posix_spawnattr_setsigmask(&attr, &none);
		posix_spawnattr_setsigdefault(&attr, &all);
		ret = -posix_spawn(&p->pid, "/bin/sh", &files, &attr, argv, environ);
	}
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	free(script);
	for (int i = 0; i < 2; i++) {
		int *fds = i == 0 ? out : err;

		if (fds[1] >= 0) {
			close(fds[1]);
		}
		if (ret != 0 && fds[0] >= 0) {
			close(fds[0]);
			fds[0] = -1;
		}
	}
	p->out = out[0];
	p->err = err[0];
	return ret;
}

/* What is there now; the end closes *fd. true: more than fits. */
static bool drain(int *fd, char *text, size_t *len, size_t cap)
{
	char sink[4096];
	bool full = *len == cap;
	ssize_t n = read(*fd, full ? sink : text + *len, full ? sizeof(sink) : cap - *len);

	if (n > 0 && !full) {
		*len += (size_t)n;
		text[*len] = '\0';
	} else if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) {
		close(*fd);
		*fd = -1;
	}
	return full && n > 0;
}

/* Until both pipes end and the program has; 0 with its status, or -errno, and then it still runs. */
static int attend(struct s3_ask *a, struct program *p, int *status)
{
	for (;;) {
		struct pollfd fds[2] = { { p->out, POLLIN, 0 }, { p->err, POLLIN, 0 } };
		long left = s3_creds_left_ms(a, LOOK_MS);

		if (p->out < 0 && p->err < 0 && waitpid(p->pid, status, WNOHANG) == p->pid) {
			return 0;
		}
		if (s3_creds_stopped(a)) {
			return -ECANCELED;
		}
		if (left <= 1) {
			return -ETIMEDOUT;
		}
		if (poll(fds, 2, (int)left) < 0 && errno != EINTR) {
			return -errno;
		}
		if (p->out >= 0 && fds[0].revents != 0) {
			p->too_much = drain(&p->out, p->stdout_text, &p->out_len, S3_ANSWER_MAX_BYTES);
		}
		if (p->err >= 0 && fds[1].revents != 0) {
			(void)drain(&p->err, p->stderr_text, &p->err_len, STDERR_BYTES);
		}
		if (p->too_much) {
			return -EFBIG;
		}
	}
}

static void end(struct program *p)
{
	int status;

	(void)kill(-p->pid, SIGKILL);
	while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR) {
	}
}

/* --- its standard error --- */

static bool key_char(char c)
{
	return isalnum((unsigned char)c) || strchr("+/=_-", c) != NULL;
}

/* Words as long as a key and mixed like one. */
static void blank_keys(char *text)
{
	for (char *s = text; *s != '\0';) {
		size_t len = 0;
		bool digit = false, letter = false;

		while (s[len] != '\0' && key_char(s[len])) {
			digit = digit || isdigit((unsigned char)s[len]);
			letter = letter || isalpha((unsigned char)s[len]);
			len++;
		}
		if (len >= KEY_LIKE_BYTES && digit && letter) {
			memset(s, '*', len);
		}
		s += len == 0 ? 1 : len;
	}
}

static void blank(char *text, const char *secret)
{
	char *at;

	if (secret[0] == '\0') {
		return;
	}
	while ((at = strstr(text, secret)) != NULL) {
		memset(at, '*', strlen(secret));
	}
}

static void log_stderr(struct program *p, const struct s3_creds *c)
{
	char words[256];

	if (p->err_len == 0) {
		return;
	}
	blank(p->stderr_text, c->secret_key);
	blank(p->stderr_text, c->session_token);
	blank_keys(p->stderr_text);
	s3_creds_words(p->stderr_text, strlen(p->stderr_text), words, sizeof(words));
	log_info(ROOM, SOURCE " says on its standard error: %s", words);
}

/* --- its answer --- */

static int understand(struct s3_ask *a, const struct program *p, int status, struct s3_creds *out)
{
	json_t *o;
	json_int_t version;

	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		return s3_creds_fail(a, -EPROTO, true, SOURCE " failed (%s %d): its words are in the log; run "
				"it by hand as the daemon's user.",
				WIFEXITED(status) ? "exit status" : "signal",
				WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	}
	o = json_loadb(p->stdout_text, p->out_len, 0, NULL);
	version = json_integer_value(json_object_get(o, "Version"));
	json_decref(o);
	if (o != NULL && version != 1) {
		return s3_creds_fail(a, -EPROTO, false, SOURCE " does not say \"Version\": 1: it speaks "
				"another language than AWS's.");
	}
	return s3_creds_json(a, p->stdout_text, p->out_len, "SessionToken", SOURCE, out);
}

int s3_ask_process(struct s3_ask *a, const char *command, struct s3_creds *out)
{
	struct program *p;
	int64_t deadline_ns = a->deadline_ns;
	int64_t limit_ns = s3_now_ns() + PROCESS_MS * 1000000LL;
	int ret, status = 0;

	if (a->here_only) {
		return -EAGAIN;
	}
	p = calloc(1, sizeof(*p));
	ret = p == NULL ? -ENOMEM : spawn(p, command);
	if (ret != 0) {
		free(p);
		return s3_creds_fail(a, ret, true, SOURCE " cannot be run: %s.", strerror(-ret));
	}
	a->deadline_ns = limit_ns < deadline_ns ? limit_ns : deadline_ns;
	ret = attend(a, p, &status);
	if (ret != 0) {
		end(p);
	}
	a->deadline_ns = deadline_ns;
	if (ret == 0) {
		ret = understand(a, p, status, out);
	} else if (ret != -ECANCELED) {
		ret = s3_creds_fail(a, ret, true, SOURCE " %s: run it by hand as the daemon's user.",
				ret == -ETIMEDOUT ? "took too long and was ended"
				: ret == -EFBIG ? "printed more than 64 KiB and was ended" : strerror(-ret));
	}
	log_stderr(p, out);
	if (p->out >= 0) {
		close(p->out);
	}
	if (p->err >= 0) {
		close(p->err);
	}
	OPENSSL_cleanse(p, sizeof(*p));
	free(p);
	return ret;
}
