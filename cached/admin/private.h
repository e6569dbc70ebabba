/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside admin/ only. */
#ifndef OFS_ADMIN_PRIVATE_H
#define OFS_ADMIN_PRIVATE_H

#include "admin.h"
#include "../core/core.h"

#define ADMIN_PENDING_MAX 10000u

/* One command under way; talloc child of core, freed by admin_answer. */
struct admin_cmd {
	struct core *core;
	uint64_t request_id;
	admin_done done;
	void *arg;
	unsigned argc; /* words behind the command's name */
	const char **argv;
	struct volume *v; /* chosen by -v or by the path, or the only one; NULL: all or none */
	const char *path; /* below tree/, "." for the root; NULL: none given */
	/* of the command itself */
	bool wait;
	int64_t timeout_ns;
};

/* Answer and free. answer is stolen (may be NULL). */
void admin_answer(struct admin_cmd *c, int status, json_t *answer, const char *fmt, ...)
		__attribute__((format(printf, 4, 5)));

void admin_status(struct admin_cmd *c);
void admin_health(struct admin_cmd *c);
void admin_stat(struct admin_cmd *c);
void admin_pending(struct admin_cmd *c);
void admin_flush(struct admin_cmd *c);
void admin_refresh(struct admin_cmd *c);
void admin_evict(struct admin_cmd *c);
void admin_drop(struct admin_cmd *c);
void admin_warm(struct admin_cmd *c);
void admin_pin(struct admin_cmd *c);
void admin_unpin(struct admin_cmd *c);
void admin_tasks(struct admin_cmd *c);

/* A string that JSON can carry: a name that is no UTF-8 has its odd bytes replaced. */
json_t *admin_string(const char *s);

#endif
