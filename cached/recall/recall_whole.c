/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: make a file resident for the daemon itself: what nobody has open.
 * Way: objectfsctl warm, verify/ -> here, a disk job opens it -> recall.c -> done.
 * Thread: core; whole_run on a worker. Owns: its job, and the reader that it is.
 */
#include "recall_private.h"
#include "../mirror/mirror.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct whole { /* malloc */
	struct disk_job job;
	struct recalls *rs;
	uint64_t request_id, open_id, bytes;
	int tree_fd, fd, status;
	char *path;
	recall_whole_done done;
	void *arg;
};

static void whole_end(struct whole *w, int status, const char *message)
{
	if (w->open_id != 0) {
		recall_release(w->rs, w->open_id);
	}
	w->done(status, message != NULL || status == 0 ? message : strerror(-status), w->bytes, w->arg);
	free(w->path);
	free(w);
}

static void whole_fetched(int status, const char *message, void *arg)
{
	whole_end(arg, status, message);
}

static void whole_opened(int status, const char *message, uint64_t open_id, uint64_t size, int map_fd, void *arg)
{
	struct whole *w = arg;

	if (map_fd >= 0) {
		close(map_fd);
	}
	if (status != 0 || open_id == 0) {
		whole_end(w, status, message);
		return;
	}
	w->open_id = open_id;
	w->bytes = size;
	recall_fetch(w->rs, w->request_id, open_id, 0, size, true, whole_fetched, w);
}

static void whole_run(struct disk_job *job)
{
	struct whole *w = (struct whole *)job;

	w->fd = mirror_open_beneath(w->tree_fd, w->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	w->status = w->fd < 0 ? w->fd : 0;
}

static void whole_ran(struct disk_job *job)
{
	struct whole *w = (struct whole *)job;

	if (w->status != 0) {
		whole_end(w, w->status, NULL);
	} else {
		recall_open(w->rs, w->request_id, RECALL_CLIENT_OWN, w->fd, whole_opened, w);
	}
}

void recall_whole(struct recalls *rs, uint64_t request_id, const char *path, recall_whole_done done, void *arg)
{
	struct whole *w = calloc(1, sizeof(*w));

	if (w == NULL || (w->path = strdup(path)) == NULL) {
		free(w);
		done(-ENOMEM, "out of memory", 0, arg);
		return;
	}
	w->rs = rs;
	w->request_id = request_id;
	w->tree_fd = rs->v->tree_fd;
	w->done = done;
	w->arg = arg;
	w->job.what = "open a file to fetch";
	w->job.run = whole_run;
	w->job.done = whole_ran;
	disk_submit(rs->v->disk, DISK_ANY, &w->job);
}
