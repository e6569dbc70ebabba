/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Real disk jobs: a queue and its threads for each lane; finished jobs go home through the mailbox.
 * Way: from the core's rooms; to the local file system and SQLite.
 * Thread: submit: core, never blocks; run: a worker, may block; done: core.
 * Owns: the threads and queues; a job from submit to its letter.
 * Holds: 1. DISK_ORDER and DISK_INDEX have one thread each, so their jobs run in submit order.
 *        2. Workers block all signals: signals are the core's.
 *        3. Freeing waits for running jobs. What had not run is not run; its memory stays with
 *           whoever submitted it, as does that of letters not opened.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "disk.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "log.h"
#include "stats.h"

#define DISK_THREAD_STACK_BYTES (1024u * 1024u)

struct disk_queue {
	struct disk_real *disk; /* constant after init */
	pthread_mutex_t lock;
	pthread_cond_t filled;
	/* shared, lock `lock` */
	struct disk_job *head;
	struct disk_job **tail;
	bool stop;
	/* core only */
	bool ready;
	pthread_t *threads;
	unsigned thread_count;
};
struct disk_real {
	struct disk disk;
	/* constant after init */
	struct mailbox *mb;
	struct disk_queue lane[DISK_LANES];
};

static void disk_job_home(struct letter *letter)
{
	struct disk_job *job =
			(struct disk_job *)((char *)letter - offsetof(struct disk_job, letter));
	const struct log_volume *before = log_enter(job->log);

	job->done(job);
	(void)log_enter(before);
}

/* The next job, or NULL: stop. */
static struct disk_job *disk_queue_take(struct disk_queue *q)
{
	struct disk_job *job = NULL;

	pthread_mutex_lock(&q->lock);
	while (q->head == NULL && !q->stop) {
		pthread_cond_wait(&q->filled, &q->lock);
	}
	if (!q->stop) {
		job = q->head;
		q->head = job->next;
		if (q->head == NULL) {
			q->tail = &q->head;
		}
		job->next = NULL;
	}
	pthread_mutex_unlock(&q->lock);
	return job;
}

static struct times *const disk_waits[DISK_LANES] = {
	[DISK_ANY] = &times_cells.disk_wait_any,
	[DISK_ORDER] = &times_cells.disk_wait_order,
	[DISK_INDEX] = &times_cells.disk_wait_index,
};
static struct times *const disk_runs[DISK_LANES] = {
	[DISK_ANY] = &times_cells.disk_run_any,
	[DISK_ORDER] = &times_cells.disk_run_order,
	[DISK_INDEX] = &times_cells.disk_run_index,
};

static void *disk_worker(void *arg)
{
	struct disk_queue *q = arg;
	unsigned lane = (unsigned)(q - q->disk->lane);
	struct disk_job *job;

	while ((job = disk_queue_take(q)) != NULL) {
		int64_t from_ns = times_now_ns();

		times_record(disk_waits[lane], from_ns - job->submitted_ns);
		(void)log_enter(job->log);
		job->run(job);
		(void)log_enter(NULL);
		times_record(disk_runs[lane], times_now_ns() - from_ns);
		stats_add(disk_jobs, 1);
		job->letter.open = disk_job_home;
		mailbox_post(q->disk->mb, &job->letter);
	}
	return NULL;
}

static void disk_real_submit(struct disk *disk, enum disk_lane lane, struct disk_job *job)
{
	struct disk_real *d = talloc_get_type_abort(disk, struct disk_real);
	struct disk_queue *q = &d->lane[lane];

	job->next = NULL;
	job->submitted_ns = times_now_ns();
	job->log = log_here();
	pthread_mutex_lock(&q->lock);
	*q->tail = job;
	q->tail = &job->next;
	pthread_cond_signal(&q->filled);
	pthread_mutex_unlock(&q->lock);
}

static int disk_real_destroy(struct disk_real *d)
{
	for (unsigned lane = 0; lane < DISK_LANES; lane++) {
		struct disk_queue *q = &d->lane[lane];

		if (q->ready) {
			pthread_mutex_lock(&q->lock);
			q->stop = true;
			pthread_cond_broadcast(&q->filled);
			pthread_mutex_unlock(&q->lock);
		}
	}
	for (unsigned lane = 0; lane < DISK_LANES; lane++) {
		struct disk_queue *q = &d->lane[lane];

		for (unsigned i = 0; i < q->thread_count; i++) {
			pthread_join(q->threads[i], NULL);
		}
		if (q->ready) {
			pthread_cond_destroy(&q->filled);
			pthread_mutex_destroy(&q->lock);
		}
	}
	return 0;
}

static bool disk_queue_start(
		struct disk_real *d, struct disk_queue *q, const char *name, unsigned threads)
{
	pthread_attr_t attr;
	bool ok = true;

	q->disk = d;
	q->tail = &q->head;
	q->threads = talloc_zero_array(d, pthread_t, threads);
	if (q->threads == NULL || pthread_mutex_init(&q->lock, NULL) != 0) {
		return false;
	}
	if (pthread_cond_init(&q->filled, NULL) != 0) {
		pthread_mutex_destroy(&q->lock);
		return false;
	}
	q->ready = true;
	if (pthread_attr_init(&attr) != 0) {
		return false;
	}
	ok = pthread_attr_setstacksize(&attr, DISK_THREAD_STACK_BYTES) == 0;
	for (unsigned i = 0; ok && i < threads; i++) {
		char label[16];

		ok = pthread_create(&q->threads[i], &attr, disk_worker, q) == 0;
		if (ok) {
			q->thread_count++;
			snprintf(label, sizeof(label), "disk-%.5s-%u", name, i % 1000);
			(void)pthread_setname_np(q->threads[i], label);
		}
	}
	pthread_attr_destroy(&attr);
	return ok;
}

static const struct disk_ops disk_real_ops = {.submit = disk_real_submit};

struct disk *disk_real_new(TALLOC_CTX *ctx, struct mailbox *mb, unsigned workers)
{
	static const char *const names[DISK_LANES] = {"any", "order", "index"};
	struct disk_real *d;
	sigset_t all, before;
	bool ok = true;

	d = talloc_zero(ctx, struct disk_real);
	if (d == NULL) {
		return NULL;
	}
	d->disk.ops = &disk_real_ops;
	d->mb = mb;
	talloc_set_destructor(d, disk_real_destroy);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (unsigned lane = 0; ok && lane < DISK_LANES; lane++) {
		unsigned threads = lane == DISK_ANY && workers > 0 ? workers : 1;

		ok = disk_queue_start(d, &d->lane[lane], names[lane], threads);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!ok) {
		log_error("disk", "the threads for disk jobs could not be started");
		talloc_free(d);
		return NULL;
	}
	return &d->disk;
}
