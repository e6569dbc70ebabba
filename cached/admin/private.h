/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside admin/ only. */
#ifndef OFS_ADMIN_PRIVATE_H
#define OFS_ADMIN_PRIVATE_H

#include "admin.h"
#include "words.h"
#include "../core/core.h"
#include "shared/record.h"

#include <sys/stat.h>

#define ADMIN_PENDING_MAX 10000u /* and no more text than fits a frame with them */
#define ADMIN_ITEMS_TEXT_BYTES (3u << 19)
#define ADMIN_RENAMES_MAX 500u

/* One command under way; talloc child of core, freed by admin_answer. */
struct admin_cmd {
	struct core *core;
	uint64_t request_id;
	admin_done done;
	void *arg;
	unsigned argc; /* words behind the command's name that are no options */
	const char *const *argv;
	struct words words;
	struct volume *v; /* chosen by -v or by the path, or the only one; NULL: all or none */
	const char *path; /* below tree/, "." for the root; NULL: none given */
};

/* A command that takes its time, shown by `tasks`; core->tasks. */
struct admin_task {
	struct admin_task *next, **prev; /* prev NULL: not in the list */
	const struct admin_cmd *cmd;
	json_t *(*json)(const struct admin_task *t); /* what of it is done */
};
void admin_task_add(struct admin_task *t, const struct admin_cmd *c,
		json_t *(*json)(const struct admin_task *t));
void admin_task_remove(struct admin_task *t);

/* Answer and free. answer is stolen (may be NULL). */
void admin_answer(struct admin_cmd *c, int status, json_t *answer, const char *fmt, ...)
		__attribute__((format(printf, 4, 5)));

void admin_status(struct admin_cmd *c);
void admin_health(struct admin_cmd *c);
void admin_stat(struct admin_cmd *c);
void admin_pending(struct admin_cmd *c);
void admin_conflicts(struct admin_cmd *c);
void admin_flush(struct admin_cmd *c);
void admin_refresh(struct admin_cmd *c);
void admin_accept(struct admin_cmd *c);
void admin_accept_conflicts(struct admin_cmd *c);
void admin_evict(struct admin_cmd *c);
void admin_drop(struct admin_cmd *c);
void admin_verify(struct admin_cmd *c);
void admin_warm(struct admin_cmd *c);
void admin_pin(struct admin_cmd *c);
void admin_unpin(struct admin_cmd *c);
void admin_tasks(struct admin_cmd *c);
void admin_sessions(struct admin_cmd *c);
void admin_config(struct admin_cmd *c);
void admin_ls(struct admin_cmd *c);
void admin_renames(struct admin_cmd *c);
void admin_pins(struct admin_cmd *c);
void admin_accept_accounts(struct admin_cmd *c);
void admin_nodes(struct admin_cmd *c);
void admin_forget_node(struct admin_cmd *c);
void admin_fsck(struct admin_cmd *c);

/* --- admin_cache.c --- */
/* The row at c->path, or NULL and answered. */
struct row *admin_row(struct admin_cmd *c);

/* --- admin_path.c --- */
/* "stub", "resident", "dirty", "quarantined", "listed", "unlisted"; record_status: ofs_record_get's. */
const char *admin_state_name(
		const struct stat *st, int record_status, const struct ofs_record *rec);
/* Seconds, null for 0. */
json_t *admin_time(int64_t ns);

/* A string that JSON can carry: a name that is no UTF-8 has its odd bytes replaced. */
json_t *admin_string(const char *s);

#endif
