/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The sources that creds.c goes through, one after the other. Each returns 0; -ENOENT: nothing says
 * that it is to be asked; -EAGAIN: here_only; another -errno: it does not work, a->error says why.
 */
#ifndef OFS_OBJSTORE_CREDS_ASK_H
#define OFS_OBJSTORE_CREDS_ASK_H

#include <stddef.h>
#include "creds.h"

#define S3_ANSWER_MAX_BYTES 65536u

/* creds.c: the environment's variable, or NULL if it is unset or empty. */
const char *s3_env(const char *name);
/* A copy of the three, checked. */
int s3_creds_take(struct s3_ask *a, const char *access, const char *secret, const char *token,
		const char *source, struct s3_creds *out);
/* a->error and what it returns. */
int s3_creds_fail(struct s3_ask *a, int error, bool transient, const char *fmt, ...)
		__attribute__((format(printf, 4, 5)));
/* Milliseconds left, `most` at most; at least 1. */
long s3_creds_left_ms(const struct s3_ask *a, long most);
bool s3_creds_stopped(const struct s3_ask *a);
/* {"AccessKeyId": ..., "SecretAccessKey": ..., token: ..., "Expiration": ...} */
int s3_creds_json(struct s3_ask *a, const char *text, size_t len, const char *token, const char *source,
		struct s3_creds *out);
/* Bytes that come from elsewhere, as one short printable line. */
void s3_creds_words(const char *text, size_t len, char *out, size_t cap);
/* A small file (a token), blanks at its end removed, NUL-ended. 0 or -errno and a->error. */
int s3_creds_read(struct s3_ask *a, const char *path, const char *what, char *out, size_t cap);

/* creds_http.c: one request, no redirects, a bounded answer. */
struct s3_ask_http {
	const char *url, *method;      /* "GET", "PUT", "POST" */
	const char *body;              /* POST, or NULL */
	const char *headers[8];        /* "Name: value", NULL-ended */
	const char *ca_file;           /* NULL: the system's */
	long connect_ms, total_ms;
	bool direct;                   /* by no proxy */
	/* answer */
	long status;
	bool connected;                /* it failed after the connection stood */
	char why[256];                 /* of -EIO, -EFBIG, -ETIMEDOUT */
	size_t len;
	char text[S3_ANSWER_MAX_BYTES + 1]; /* NUL-ended */
};
/* 0: there is an answer, whatever its status. -EIO, -ETIMEDOUT, -EFBIG, -ECANCELED, -ENOMEM. */
int s3_ask_http(const struct s3_ask *a, struct s3_ask_http *h);
int s3_ask_container(struct s3_ask *a, struct s3_creds *out);
int s3_ask_imds(struct s3_ask *a, struct s3_creds *out);

/* creds_sts.c */
struct s3_role {
	const char *arn, *session, *external_id, *duration, *region; /* NULL: none */
};
/* The role, by means of `by`; by the token in a file. */
int s3_ask_role(struct s3_ask *a, const struct s3_role *role, const struct s3_creds *by,
		struct s3_creds *out);
int s3_ask_web_role(struct s3_ask *a, const struct s3_role *role, const char *token_file,
		struct s3_creds *out);

/* creds_process.c: what a program prints. */
int s3_ask_process(struct s3_ask *a, const char *command, struct s3_creds *out);

/* creds_profile.c: the profile NAME of the files; what was looked at in `looked`. */
int s3_ask_profile(struct s3_ask *a, char *looked, size_t cap, struct s3_creds *out);

#endif
