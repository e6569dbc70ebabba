/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: a question of an HTTP thread to the core, with a deadline.
 * Way: http.c -> letter -> mailbox -> (core) admin_run -> the answer -> the thread that waits.
 * Thread: ask_core on threads of http/, which it blocks; ask_open and ask_answered on the core.
 * Owns: the question, until the last of thread and core lets go of it.
 * Holds: (1) the core never waits for an HTTP thread, longer than a lock held for a few instructions.
 * (2) A JSON value is never in two threads' hands: the answer is a copy.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "private.h"
#include "../admin/admin.h"
#include "../core/core.h"

#define ASK_DEADLINE_S 2

struct ask {
	struct letter letter; /* mailbox only */
	/* constant after init */
	struct core *core;
	const char *command;
	/* shared, lock `lock` */
	pthread_mutex_t lock;
	pthread_cond_t answered;
	unsigned held; /* by the thread, by the core */
	bool done;
	json_t *answer;
};

static void ask_let_go(struct ask *a)
{
	unsigned held;

	pthread_mutex_lock(&a->lock);
	held = --a->held;
	pthread_mutex_unlock(&a->lock);
	if (held > 0) {
		return;
	}
	json_decref(a->answer);
	pthread_cond_destroy(&a->answered);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static void ask_answered(int status, const char *message, json_t *answer, void *arg)
{
	struct ask *a = arg;

	(void)message;
	pthread_mutex_lock(&a->lock);
	a->done = true;
	a->answer = status == 0 ? json_deep_copy(answer) : NULL;
	pthread_cond_signal(&a->answered);
	pthread_mutex_unlock(&a->lock);
	ask_let_go(a);
}

static void ask_open(struct letter *letter)
{
	struct ask *a = (struct ask *)((char *)letter - offsetof(struct ask, letter));

	admin_run(a->core, 0, a->command, (uint32_t)strlen(a->command), ask_answered, a);
}

json_t *ask_core(struct core *core, const char *command)
{
	struct ask *a = calloc(1, sizeof(*a));
	struct timespec until;
	json_t *answer;

	if (a == NULL) {
		return NULL;
	}
	a->core = core;
	a->command = command;
	a->letter.open = ask_open;
	a->held = 2;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->answered, NULL);
	mailbox_post(core->mb, &a->letter);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ASK_DEADLINE_S;
	pthread_mutex_lock(&a->lock);
	while (!a->done && pthread_cond_clockwait(&a->answered, &a->lock, CLOCK_MONOTONIC, &until) !=
					  ETIMEDOUT) {
	}
	answer = a->answer;
	a->answer = NULL;
	pthread_mutex_unlock(&a->lock);
	ask_let_go(a);
	return answer;
}
