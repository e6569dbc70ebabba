/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The object store in a local directory: the default where no S3 server is wanted.
 *
 *   ROOT/objects/photos/2024/cat.jpg%o   one file per object, description first (head.c, names.c)
 *   ROOT/tmp/        objects being written      ROOT/multipart/<id>/   parts not joined yet
 *   ROOT/locks/xx    flock'ed around judging a condition and renaming
 *   ROOT/store       what the store honours (rules.c)      ROOT/versions/   (versions.c)
 *
 * Way:    objstore_submit (core) -> queue by priority -> worker -> ops.c -> mailbox.
 * Thread: submit on the core thread; workers may block on the disk, nobody else does.
 * Owns:   the workers and the queue; requests from submit to delivery.
 * Holds:  1. Several processes may use one root at once (ops.c, 2).
 *         2. Every submitted request is delivered once, at the end as OBJ_CANCELLED.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "dir.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define THREADS_DEFAULT 4u
#define THREADS_MAX 64u
#define LEFTOVER_AGE_S (24 * 3600)
#define PRIOS (OBJ_PRIO_HOUSE + 1)

struct dir_store {
	struct objstore store;
	/* constant after init */
	struct mailbox *mb;
	char *root; /* absolute */
	struct dir_rules rules;
	pthread_t *threads;
	unsigned thread_count;
	/* shared, `lock` */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct obj_req *first[PRIOS], **last[PRIOS];
	bool stop;
	/* shared, its own lock */
	struct dir_kept kept;
};

static struct obj_req *queue_take(struct dir_store *st)
{
	for (unsigned p = 0; p < PRIOS; p++) {
		struct obj_req *req = st->first[p];

		if (req != NULL) {
			st->first[p] = req->next;
			if (req->next == NULL) {
				st->last[p] = &st->first[p];
			}
			req->next = NULL;
			return req;
		}
	}
	return NULL;
}

static void run(struct dir_store *st, struct obj_req *req)
{
	struct dir_job job = { .req = req, .rules = &st->rules, .kept = &st->kept };

	if (req->result.status != OBJ_OK) {
		return; /* refused before it came here */
	}
	job.root_fd = open(st->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (job.root_fd < 0) {
		req->result.local_errno = errno;
		obj_fail(req, errno == ENOENT ? OBJ_NO_BUCKET : OBJ_AWAY,
				"the store's directory %s: %s", st->root, strerror(errno));
		return;
	}
	dir_run(&job);
	close(job.root_fd);
}

static void *worker(void *arg)
{
	struct dir_store *st = arg;

	pthread_mutex_lock(&st->lock);
	for (;;) {
		struct obj_req *req = queue_take(st);

		if (req == NULL && st->stop) {
			break;
		}
		if (req == NULL) {
			pthread_cond_wait(&st->wake, &st->lock);
			continue;
		}
		if (st->stop && req->result.status == OBJ_OK) {
			obj_fail(req, OBJ_CANCELLED, "the store is being closed");
		}
		pthread_mutex_unlock(&st->lock);
		run(st, req);
		obj_deliver(st->mb, req);
		pthread_mutex_lock(&st->lock);
	}
	pthread_mutex_unlock(&st->lock);
	return NULL;
}

static void dir_submit(struct objstore *s, struct obj_req *req)
{
	struct dir_store *st = (struct dir_store *)s;
	unsigned prio = (unsigned)req->prio < PRIOS ? req->prio : OBJ_PRIO_HOUSE;

	pthread_mutex_lock(&st->lock);
	*st->last[prio] = req;
	st->last[prio] = &req->next;
	pthread_cond_signal(&st->wake);
	pthread_mutex_unlock(&st->lock);
}

static const struct objstore_ops dir_ops = {
	.name = "dir",
	.submit = dir_submit,
};

static int store_free(struct dir_store *st)
{
	pthread_mutex_lock(&st->lock);
	st->stop = true;
	pthread_cond_broadcast(&st->wake);
	pthread_mutex_unlock(&st->lock);
	for (unsigned i = 0; i < st->thread_count; i++) {
		pthread_join(st->threads[i], NULL);
	}
	pthread_cond_destroy(&st->wake);
	pthread_mutex_destroy(&st->lock);
	dir_kept_fini(&st->kept);
	return 0;
}

/* Remove what writers that died left in tmp/; a living one never takes a day. */
static void sweep_leftovers(int root_fd)
{
	int fd = openat(root_fd, DIR_TMP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	struct stat st;

	if (dir == NULL) {
		if (fd >= 0) {
			close(fd);
		}
		return;
	}
	while ((d = readdir(dir)) != NULL) {
		if (d->d_name[0] != '.' && fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
				S_ISREG(st.st_mode) && time(NULL) - st.st_mtime > LEFTOVER_AGE_S) {
			unlinkat(fd, d->d_name, 0);
		}
	}
	closedir(dir);
}

/* The root with its directories, made if absent, and what it honours. 0 or -errno. */
static int root_prepare(const char *root, struct dir_rules *rules)
{
	static const char *const dirs[] = { DIR_OBJECTS, DIR_TMP, DIR_LOCKS, DIR_MULTIPART, DIR_VERSIONS };
	int fd, ret;

	if (mkdir(root, 0700) != 0 && errno != EEXIST) {
		return -errno;
	}
	fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	ret = dir_rules_read(fd, rules);
	for (unsigned i = 0; ret == 0 && i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		if (strcmp(dirs[i], DIR_VERSIONS) == 0 && !rules->versions) {
			continue;
		}
		if (mkdirat(fd, dirs[i], 0700) != 0 && errno != EEXIST) {
			ret = -errno;
		}
	}
	if (ret == 0 && fsync(fd) != 0) {
		ret = -errno;
	}
	if (ret == 0) {
		sweep_leftovers(fd);
	}
	close(fd);
	return ret;
}

static int threads_start(struct dir_store *st, unsigned count)
{
	sigset_t all, before;
	int ret = 0;

	st->threads = talloc_zero_array(st, pthread_t, count);
	if (st->threads == NULL) {
		return -ENOMEM;
	}
	sigfillset(&all); /* signals are the core's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (ret == 0 && st->thread_count < count) {
		ret = -pthread_create(&st->threads[st->thread_count], NULL, worker, st);
		if (ret == 0) {
			st->thread_count++;
		}
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ret;
}

struct objstore *objstore_dir_new(TALLOC_CTX *ctx, struct mailbox *mb, const char *root,
		unsigned threads, char **error)
{
	struct dir_store *st;
	struct dir_rules rules;
	char *real;
	int ret;

	*error = NULL;
	ret = root_prepare(root, &rules);
	if (ret == -EINVAL) {
		*error = talloc_asprintf(ctx, "The file %s/" DIR_RULES " is not understood: "
				"it is of a newer ObjectFS, or damaged. It says what the store "
				"honours; without it, everything.", root);
		return NULL;
	}
	real = ret == 0 ? realpath(root, NULL) : NULL;
	if (real == NULL) {
		ret = ret == 0 ? errno : -ret;
		*error = talloc_asprintf(ctx, "The store's directory %s cannot be used: %s. It must "
				"be a directory the daemon may write to, below one that exists.",
				root, strerror(ret));
		return NULL;
	}
	st = talloc_zero(ctx, struct dir_store);
	if (st != NULL) {
		st->store.ops = &dir_ops;
		atomic_store(&st->store.etag_md5, true);
		st->mb = mb;
		st->rules = rules;
		st->root = talloc_strdup(st, real);
		st->store.where = talloc_asprintf(st, "dir %s", real);
	}
	free(real);
	if (st == NULL || st->root == NULL || st->store.where == NULL) {
		*error = talloc_strdup(ctx, "Out of memory.");
		talloc_free(st);
		return NULL;
	}
	for (unsigned p = 0; p < PRIOS; p++) {
		st->last[p] = &st->first[p];
	}
	pthread_mutex_init(&st->lock, NULL);
	pthread_mutex_init(&st->kept.lock, NULL);
	pthread_cond_init(&st->wake, NULL);
	talloc_set_destructor(st, store_free);
	threads = threads == 0 ? THREADS_DEFAULT : threads;
	ret = threads_start(st, threads > THREADS_MAX ? THREADS_MAX : threads);
	if (ret != 0) {
		*error = talloc_asprintf(ctx, "The store's threads cannot be started: %s.",
				strerror(-ret));
		talloc_free(st);
		return NULL;
	}
	return &st->store;
}
