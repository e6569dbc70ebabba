/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: a bar for who waits at a terminal: flush --wait, evict, warm.
 * Way: link.c, while the answer is waited for -> here: `tasks`, on a connection of its own -> standard
 * error. Thread: the only one. Owns: nothing.
 * Holds: nothing of it stays on the screen, and nothing of it is in a pipe: who calls has looked.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "ctl.h"

#define TASKS_PATIENCE_S 2u
#define BAR_MOST 40

static unsigned terminal_columns(void)
{
	struct winsize size = {0};

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static void bar_show(struct progress *p, int64_t done, int64_t total, int64_t bytes)
{
	int64_t s = (ctl_now_ms() - p->begin_ms) / 1000;
	char line[256], size[40] = "";
	int width = (int)terminal_columns() - 60, filled;

	width = width > BAR_MOST ? BAR_MOST : width < 5 ? 5 : width;
	filled = total > 0 ? (int)(done * width / total) : 0;
	if (bytes > 0) {
		strcpy(size, ", ");
		human_bytes((double)bytes, size + 2, sizeof(size) - 2);
	}
	snprintf(line, sizeof(line),
			"%s [%.*s%.*s] %3d%%  %" PRId64 " of %" PRId64 "%s  %" PRId64 ":%02" PRId64,
			p->what, filled, "########################################", width - filled,
			"........................................",
			total > 0 ? (int)(done * 100 / total) : 0, done, total, size, s / 60,
			s % 60);
	line[terminal_columns() - 1 < sizeof(line) ? terminal_columns() - 1 : sizeof(line) - 1] =
			'\0';
	fprintf(stderr, "\r%s\033[K", line);
	fflush(stderr);
	p->shown = true;
}

/* What is found on the way makes more of it: of a flush the most that ever was is the whole. */
static void task_show(struct progress *p, const json_t *task)
{
	int64_t left = number_of(task, "left");
	int64_t done = number_of(task, "files") + number_of(task, "nothing_to_do") +
		       number_of(task, "stay") + number_of(task, "untold") + number_of(task, "failed");

	if (json_object_get(task, "files") == NULL) {
		p->most = left > p->most ? left : p->most;
		done = p->most - left;
	}
	bar_show(p, done, done + left, number_of(task, "bytes"));
}

void progress_tick(void *progress)
{
	struct progress *p = progress;
	struct ctl_reply reply;
	const json_t *task;
	size_t i;

	if (p->begin_ms == 0) {
		p->begin_ms = ctl_now_ms();
	}
	if (ctl_ask_word(p->socket, "tasks", TASKS_PATIENCE_S, &reply) != 0) {
		return; /* who waits for the answer will say it */
	}
	json_array_foreach(json_object_get(reply.json, "tasks"), i, task)
	{
		if ((uint64_t)json_integer_value(json_object_get(task, "request")) ==
				p->request_id) {
			task_show(p, task);
		}
	}
	ctl_reply_done(&reply);
}

void progress_end(struct progress *p)
{
	if (p->shown) {
		fprintf(stderr, "\r\033[K");
		fflush(stderr);
	}
}
