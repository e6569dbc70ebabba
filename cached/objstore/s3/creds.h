/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Where the access key comes from. */
#ifndef OFS_OBJSTORE_CREDS_H
#define OFS_OBJSTORE_CREDS_H

#include <talloc.h>
#include "../objstore.h"

struct s3_creds {
	char *access_key, *secret_key;
	char *session_token; /* NULL: none */
	const char *source;  /* for people: where they were found */
};

/*
 * First found: keys in the configuration, the profile or credentials file it names, keys in the
 * environment, the usual profile file. 0 (strings are talloc
 * children of ctx); -ENOENT or another -errno and *error, a sentence that says what to do.
 */
int s3_creds_find(TALLOC_CTX *ctx, const struct objstore_s3_conf *conf, struct s3_creds *out,
		char **error);
/* Overwrite the secrets; the strings stay allocated. */
void s3_creds_wipe(struct s3_creds *c);

#endif
