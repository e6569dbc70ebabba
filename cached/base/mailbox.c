/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The mailbox: a locked list and an eventfd that wakes the core's loop.
 * Way: from workers and the stores' threads; to the core thread.
 * Thread: post: any, holding the lock for a few instructions; everything else: core.
 * Owns: the eventfd; letters stay their senders'.
 * Holds: 1. The eventfd is written when the list turns from empty to filled, and the list is taken
 *           after the eventfd is read: no letter is left lying.
 *        2. Letters are opened in the order they were posted. What is posted meanwhile waits for
 *           the next turn of the loop, so a busy thread cannot keep the core from its sockets.
 *        3. A letter may free itself in open.
 *        4. Posting threads are stopped before the mailbox is freed; letters unopened then stay so.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <tevent.h>

struct mailbox {
	/* constant after init */
	int fd;
	/* shared, lock `lock` */
	pthread_mutex_t lock;
	struct letter *head;
	struct letter **tail;
};

static struct letter *mailbox_take(struct mailbox *mb)
{
	struct letter *batch;

	pthread_mutex_lock(&mb->lock);
	batch = mb->head;
	mb->head = NULL;
	mb->tail = &mb->head;
	pthread_mutex_unlock(&mb->lock);
	return batch;
}

static void mailbox_open_all(
		struct tevent_context *ev, struct tevent_fd *fde, uint16_t flags, void *private_data)
{
	struct mailbox *mb = talloc_get_type_abort(private_data, struct mailbox);
	struct letter *batch;
	uint64_t posts;

	(void)ev;
	(void)fde;
	(void)flags;
	while (read(mb->fd, &posts, sizeof(posts)) < 0 && errno == EINTR) {
	}
	batch = mailbox_take(mb);
	while (batch != NULL) {
		struct letter *letter = batch;

		batch = letter->next;
		letter->next = NULL;
		letter->open(letter);
	}
}

static int mailbox_destroy(struct mailbox *mb)
{
	pthread_mutex_destroy(&mb->lock);
	close(mb->fd);
	return 0;
}

struct mailbox *mailbox_new(TALLOC_CTX *ctx, struct tevent_context *ev)
{
	struct mailbox *mb;

	mb = talloc_zero(ctx, struct mailbox);
	if (mb == NULL) {
		return NULL;
	}
	mb->tail = &mb->head;
	mb->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (mb->fd < 0) {
		talloc_free(mb);
		return NULL;
	}
	if (pthread_mutex_init(&mb->lock, NULL) != 0) {
		close(mb->fd);
		talloc_free(mb);
		return NULL;
	}
	talloc_set_destructor(mb, mailbox_destroy);
	if (tevent_add_fd(ev, mb, mb->fd, TEVENT_FD_READ, mailbox_open_all, mb) == NULL) {
		talloc_free(mb);
		return NULL;
	}
	return mb;
}

void mailbox_post(struct mailbox *mb, struct letter *letter)
{
	static const uint64_t one = 1;
	bool was_empty;

	letter->next = NULL;
	pthread_mutex_lock(&mb->lock);
	was_empty = mb->head == NULL;
	*mb->tail = letter;
	mb->tail = &letter->next;
	pthread_mutex_unlock(&mb->lock);
	/* EAGAIN would mean a counter at its end: then the loop is awake anyway */
	while (was_empty && write(mb->fd, &one, sizeof(one)) < 0 && errno == EINTR) {
	}
}
