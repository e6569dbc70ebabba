/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The object store that a volume's section of the configuration names. */
#ifndef OFS_CORE_VOLUME_STORE_H
#define OFS_CORE_VOLUME_STORE_H

#include <talloc.h>
#include "../base/conf.h"
#include "../base/mailbox.h"
#include "../objstore/objstore.h"

/* As objstore_s3_new and objstore_dir_new; agent: what the store's access log is to name, copied. */
struct objstore *volume_store_new(TALLOC_CTX *ctx, struct mailbox *mb, const struct conf_volume *cv,
		const char *agent, char **error);

#endif
