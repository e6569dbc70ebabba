/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Keeps a volume's credentials fresh: finds them, and again before they expire. */
#ifndef OFS_OBJSTORE_KEEPER_H
#define OFS_OBJSTORE_KEEPER_H

#include <talloc.h>
#include "creds.h"

enum s3_login_state {
	S3_LOGIN_ASKING, /* wait: they are being looked for, a bounded time */
	S3_LOGIN_GOOD,
	S3_LOGIN_NONE,   /* there are none: error says why */
};

/* What the store's thread goes by; its own copy. */
struct s3_login {
	unsigned seen; /* 0: nothing yet */
	enum s3_login_state state;
	unsigned generation; /* of creds */
	bool transient;      /* with NONE: OBJ_AWAY rather than OBJ_DENIED */
	struct s3_creds creds;
	char error[S3_CREDS_ERROR_BYTES]; /* of the last search; "": it was well */
};

struct s3_keeper;

/*
 * Looks in what is on this machine at once, asks servers and programs on a thread of its own. `how` is
 * copied but for its strings, which live as long as ctx. wake(arg) is called on that thread after each
 * change. clock_offset_s: the store's clock minus ours. talloc_free ends the thread. NULL and *error
 * (talloc child of ctx): there are none.
 */
struct s3_keeper *s3_keeper_new(TALLOC_CTX *ctx, const struct s3_ask *how,
		const _Atomic int64_t *clock_offset_s, void (*wake)(void *), void *arg, char **error);
/* Bring the copy up to date; cheap when nothing has changed. Any thread. */
void s3_keeper_look(struct s3_keeper *k, struct s3_login *l);
/* The store refuses credentials of this generation. true: newer ones are here, or will be looked for:
 * look, and try again. */
bool s3_keeper_refused(struct s3_keeper *k, unsigned generation);
/* For people; core thread. */
void s3_keeper_describe(struct s3_keeper *k, struct obj_login *out);

#endif
