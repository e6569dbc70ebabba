/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Where the access key comes from; who keeps it fresh is keeper.h. */
#ifndef OFS_OBJSTORE_CREDS_H
#define OFS_OBJSTORE_CREDS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "../objstore.h"

#define S3_KEY_BYTES 257u
#define S3_TOKEN_BYTES 16385u
#define S3_SOURCE_BYTES 256u
#define S3_CREDS_ERROR_BYTES 1536u

/* Plain bytes: copied from thread to thread, wiped as a whole. */
struct s3_creds {
	char access_key[S3_KEY_BYTES], secret_key[S3_KEY_BYTES];
	char session_token[S3_TOKEN_BYTES]; /* "": none */
	char source[S3_SOURCE_BYTES];       /* for people: where they were found */
	int64_t expires_s;                  /* since the epoch; 0: not said */
	bool fixed;                         /* another search finds the same while the daemon runs */
};

/* One search; the caller's. */
struct s3_ask {
	/* of objectfs.conf, borrowed; NULL or "": unset */
	const char *access_key, *secret_key, *session_token, *profile, *credentials_file;
	const char *region, *ca_file, *user_agent;
	int64_t clock_offset_s;   /* STS's clock, by the store's, minus ours */
	const _Atomic bool *stop; /* set by another thread: end soon; NULL: nobody will */
	bool here_only;           /* ask no server and run no program */
	int64_t deadline_ns;      /* CLOCK_MONOTONIC */
	/* answer */
	bool transient; /* the same may succeed later without anybody acting */
	char error[S3_CREDS_ERROR_BYTES]; /* a sentence that says what to do; never a secret */
};

/*
 * First found, in AWS's order: what objectfs.conf names, the environment, a web identity, the profile
 * files, a container's agent, the instance's role. 0; -EAGAIN: found, but here_only; -ENOENT: there
 * are none; another -errno: what was found does not work. Blocks until the deadline at most, unless
 * here_only. Any thread.
 */
int s3_creds_find(struct s3_ask *a, struct s3_creds *out);
void s3_creds_wipe(struct s3_creds *c);
/* CLOCK_MONOTONIC. */
int64_t s3_now_ns(void);

#endif
