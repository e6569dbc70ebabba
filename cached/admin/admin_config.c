/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: `config`: what this daemon was started with, and whether its file says the same by now.
 * Way: admin.c -> a job reads the file once more -> the answer.
 * Thread: core; the file is read by a disk job. Owns: the job.
 * Holds: no secret is in the answer; that one has changed is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "private.h"
#include "../base/conf.h"

struct config_job { /* owner: as disk.h says */
	struct disk_job job;
	struct admin_cmd *cmd;
	const struct conf *conf; /* constant */
	/* out */
	json_t *changes; /* NULL: the file cannot be used */
	char *error;     /* talloc, of none */
};

static void config_run(struct disk_job *job)
{
	struct config_job *j = (struct config_job *)job;
	struct conf *now = NULL;

	if (conf_load(NULL, j->conf->path, &now, &j->error) == 0) {
		j->changes = conf_changes(j->conf, now);
	}
	talloc_free(now);
}

static void config_done(struct disk_job *job)
{
	struct config_job *j = (struct config_job *)job;
	struct admin_cmd *c = j->cmd;
	size_t count = json_array_size(j->changes);
	bool bad = j->changes == NULL;
	json_t *o = json_pack("{s:s, s:o, s:o, s:o}", "file", c->core->conf->path, "options",
			conf_json(c->core->conf), "changed", bad ? json_null() : j->changes,
			"file_error",
			bad ? admin_string(j->error != NULL ? j->error : "out of memory")
			    : json_null());

	if (words_option(&c->words, "--check") == NULL || (!bad && count == 0)) {
		admin_answer(c, 0, o, NULL);
	} else if (bad) {
		admin_answer(c, -EBADMSG, o,
				"the file cannot be used any more; the daemon goes on with what it "
				"has read");
	} else {
		admin_answer(c, -ESTALE, o,
				"%zu option%s of the file not in force: restart the daemon "
				"(systemctl restart objectfs-cached)",
				count, count == 1 ? " is" : "s are");
	}
	talloc_free(j->error);
	free(j);
}

void admin_config(struct admin_cmd *c)
{
	struct config_job *j = calloc(1, sizeof(*j));

	if (j == NULL) {
		admin_answer(c, -ENOMEM, NULL, "out of memory");
		return;
	}
	j->job.what = "ctl config";
	j->job.run = config_run;
	j->job.done = config_done;
	j->cmd = c;
	j->conf = c->core->conf;
	disk_submit(c->core->disk, DISK_ANY, &j->job);
}
