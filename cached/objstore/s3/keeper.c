/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Keeps the credentials of one volume fresh.
 *
 *   [s3_keeper_new] --found here--> GOOD <----+
 *          +--to be asked for--> ASKING --found+--failed--> NONE (asked again, ever more rarely)
 *   GOOD --before they expire--> search, GOOD meanwhile       [search_ended]
 *   GOOD --the store refuses them [s3_keeper_refused]--> ASKING
 *
 * Way:    s3.c -> here -> creds.c; engine.c looks before each request.
 * Thread: one of its own, which waits in sources, SEARCH_S at most; the rest any thread, no waiting.
 * Owns:   the thread, the credentials' original.
 * Holds:  1. Whether credentials have expired the store decides, not a clock: old ones are used until
 *            new ones are here.
 *         2. Times have jitter, so that many daemons do not ask one server at the same moment.
 *         3. What the store goes on refusing is looked for ever more rarely.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "keeper.h"
#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"

#define ROOM "s3"
#define NS_PER_S 1000000000LL
#define SEARCH_S 20 /* smbd gives up a read after 30 */
#define AHEAD_MAX_NS (900 * NS_PER_S)
#define RETRY_FIRST_NS NS_PER_S
#define RETRY_MOST_NS (60 * NS_PER_S)
#define REFUSED_FIRST_NS (2 * NS_PER_S)

struct s3_keeper {
	/* constant after init */
	struct s3_ask how;
	const _Atomic int64_t *clock_offset_s;
	void (*wake)(void *);
	void *arg;
	const struct log_volume *log;
	pthread_t thread;
	bool thread_running;
	_Atomic bool stop;
	/* shared, `lock` */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct s3_login now;
	int64_t due_ns; /* of the next search; INT64_MAX: none */
	int64_t refused_again_ns, refused_delay_ns;
	/* the thread's */
	struct s3_creds found;
	unsigned failures;
};

/* 0 to most - 1. */
static int64_t jitter(int64_t most)
{
	uint64_t r = 0;

	if (most <= 0 || getrandom(&r, sizeof(r), 0) != sizeof(r)) {
		return 0;
	}
	return (int64_t)(r % (uint64_t)most);
}

/* --- when to search again --- */

static int64_t retry_ns(unsigned failures)
{
	int64_t ns = RETRY_FIRST_NS;

	for (unsigned i = 1; i < failures && ns < RETRY_MOST_NS; i++) {
		ns *= 2;
	}
	ns = ns > RETRY_MOST_NS ? RETRY_MOST_NS : ns;
	return ns / 2 + jitter(ns / 2);
}

/* Of what was found, by the store's clock; INT64_MAX: it does not expire. */
static int64_t found_left_ns(const struct s3_keeper *k)
{
	int64_t now_s = (int64_t)time(NULL) + atomic_load(k->clock_offset_s);

	return k->found.expires_s == 0 ? INT64_MAX : (k->found.expires_s - now_s) * NS_PER_S;
}

/* When a quarter of their time is left, or 15 minutes, and up to half as much earlier. A source that
 * still gives the same is asked again in the same way: ever closer to the end, and then, as after a
 * failure, ever more rarely. */
static int64_t wait_ns(int64_t left_ns, unsigned failures)
{
	int64_t ahead_ns = left_ns / 4 < AHEAD_MAX_NS ? left_ns / 4 : AHEAD_MAX_NS;

	if (left_ns <= 0) {
		return retry_ns(failures);
	}
	left_ns -= ahead_ns + jitter(ahead_ns / 2);
	return left_ns < NS_PER_S ? NS_PER_S : left_ns;
}

static int64_t due_at(int64_t left_ns, unsigned failures)
{
	return left_ns == INT64_MAX ? INT64_MAX : s3_now_ns() + wait_ns(left_ns, failures);
}

/* --- a search and what it brings --- */

static bool same_keys(const struct s3_creds *a, const struct s3_creds *b)
{
	return strcmp(a->access_key, b->access_key) == 0 && strcmp(a->secret_key, b->secret_key) == 0 &&
	       strcmp(a->session_token, b->session_token) == 0;
}

/* Under the lock. */
static void take(struct s3_keeper *k)
{
	if (k->now.generation == 0 || !same_keys(&k->found, &k->now.creds)) {
		k->now.generation++;
		k->refused_again_ns = 0;
		k->refused_delay_ns = REFUSED_FIRST_NS;
	}
	k->now.creds = k->found;
	k->now.state = S3_LOGIN_GOOD;
	k->now.error[0] = '\0';
}

static void search_ended(struct s3_keeper *k, int ret)
{
	unsigned before = k->now.generation; /* only this thread changes it */
	bool news = ret != 0 && strcmp(k->now.error, k->how.error) != 0;
	int64_t left_ns = ret == 0 ? found_left_ns(k) : 0;

	k->failures = left_ns > 0 ? 0 : k->failures + 1;
	pthread_mutex_lock(&k->lock);
	if (ret == 0) {
		take(k);
	} else {
		memcpy(k->now.error, k->how.error, sizeof(k->now.error));
		k->now.transient = k->how.transient;
		k->now.state = k->now.generation > 0 ? S3_LOGIN_GOOD : S3_LOGIN_NONE;
	}
	k->due_ns = due_at(left_ns, k->failures);
	k->now.seen++;
	pthread_mutex_unlock(&k->lock);
	if (ret != 0) {
		stats_add(creds_failures, 1);
		log_line(news ? LOG_LVL_WARNING : LOG_LVL_INFO, ROOM, 0, "no new credentials: %s",
				k->how.error);
	} else if (k->now.generation != before) {
		stats_add(creds_renewals, 1);
		log_notice(ROOM, "credentials from %s%s", k->now.creds.source,
				left_ns == INT64_MAX ? "" : ", which will be renewed before they expire");
	}
	if (ret == 0 && left_ns <= 0 && k->failures == 1) {
		log_warning(ROOM, "the credentials from %s have expired, by the store's clock: they are used "
				"until it refuses them", k->now.creds.source);
	}
}

static void *keep(void *arg)
{
	struct s3_keeper *k = arg;
	struct timespec until;
	int ret;

	(void)log_enter(k->log);
	pthread_mutex_lock(&k->lock);
	while (!atomic_load(&k->stop)) {
		int64_t due_ns = k->due_ns;

		if (due_ns == INT64_MAX) {
			pthread_cond_wait(&k->changed, &k->lock);
			continue;
		}
		if (due_ns > s3_now_ns()) {
			until.tv_sec = due_ns / NS_PER_S;
			until.tv_nsec = due_ns % NS_PER_S;
			(void)pthread_cond_timedwait(&k->changed, &k->lock, &until);
			continue;
		}
		pthread_mutex_unlock(&k->lock);
		k->how.clock_offset_s = atomic_load(k->clock_offset_s);
		k->how.deadline_ns = s3_now_ns() + SEARCH_S * NS_PER_S;
		ret = s3_creds_find(&k->how, &k->found);
		if (!atomic_load(&k->stop)) {
			search_ended(k, ret);
			k->wake(k->arg);
		}
		s3_creds_wipe(&k->found);
		pthread_mutex_lock(&k->lock);
	}
	pthread_mutex_unlock(&k->lock);
	return NULL;
}

/* --- what others ask --- */

void s3_keeper_look(struct s3_keeper *k, struct s3_login *l)
{
	pthread_mutex_lock(&k->lock);
	if (l->seen != k->now.seen) {
		*l = k->now;
	}
	pthread_mutex_unlock(&k->lock);
}

bool s3_keeper_refused(struct s3_keeper *k, unsigned generation)
{
	int64_t now = s3_now_ns();
	bool again = true;

	pthread_mutex_lock(&k->lock);
	if (generation == k->now.generation && k->now.state != S3_LOGIN_ASKING) {
		again = k->thread_running && now >= k->refused_again_ns;
		if (again) {
			k->refused_again_ns = now + k->refused_delay_ns;
			k->refused_delay_ns = k->refused_delay_ns * 2 < RETRY_MOST_NS
					? k->refused_delay_ns * 2 : RETRY_MOST_NS;
			k->now.state = S3_LOGIN_ASKING;
			k->now.seen++;
			k->due_ns = now;
			pthread_cond_signal(&k->changed);
		}
	}
	pthread_mutex_unlock(&k->lock);
	return again;
}

void s3_keeper_describe(struct s3_keeper *k, struct obj_login *out)
{
	pthread_mutex_lock(&k->lock);
	snprintf(out->source, sizeof(out->source), "%s", k->now.creds.source);
	out->expires_s = k->now.creds.expires_s;
	snprintf(out->error, sizeof(out->error), "%s", k->now.error);
	pthread_mutex_unlock(&k->lock);
}

/* --- life --- */

static int keeper_free(struct s3_keeper *k)
{
	if (k->thread_running) {
		pthread_mutex_lock(&k->lock);
		atomic_store(&k->stop, true);
		pthread_cond_signal(&k->changed);
		pthread_mutex_unlock(&k->lock);
		pthread_join(k->thread, NULL);
	}
	pthread_cond_destroy(&k->changed);
	pthread_mutex_destroy(&k->lock);
	s3_creds_wipe(&k->found);
	s3_creds_wipe(&k->now.creds);
	return 0;
}

static int thread_start(struct s3_keeper *k)
{
	sigset_t all, before;
	int ret;

	sigfillset(&all); /* signals are the core's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	k->thread_running = true; /* it looks at it */
	ret = pthread_create(&k->thread, NULL, keep, k);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	k->thread_running = ret == 0;
	return -ret;
}

struct s3_keeper *s3_keeper_new(TALLOC_CTX *ctx, const struct s3_ask *how,
		const _Atomic int64_t *clock_offset_s, void (*wake)(void *), void *arg, char **error)
{
	struct s3_keeper *k = talloc_zero(ctx, struct s3_keeper);
	pthread_condattr_t attr;
	int ret;

	if (k == NULL) {
		return NULL;
	}
	k->how = *how;
	k->how.stop = &k->stop;
	k->clock_offset_s = clock_offset_s;
	k->wake = wake;
	k->arg = arg;
	k->log = log_here();
	k->refused_delay_ns = REFUSED_FIRST_NS;
	pthread_mutex_init(&k->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&k->changed, &attr);
	pthread_condattr_destroy(&attr);
	talloc_set_destructor(k, keeper_free);
	k->how.here_only = true;
	ret = s3_creds_find(&k->how, &k->found);
	k->how.here_only = false;
	if (ret == 0) {
		take(k);
	}
	k->due_ns = ret == 0 ? due_at(found_left_ns(k), 1) : 0;
	k->now.seen = 1;
	s3_creds_wipe(&k->found);
	if (ret == -EAGAIN || ret == 0) {
		ret = k->found.fixed ? 0 : thread_start(k);
		if (ret != 0) { /* else the thread writes here */
			snprintf(k->how.error, sizeof(k->how.error), "%s", strerror(-ret));
		}
	}
	if (ret != 0) {
		*error = talloc_strdup(ctx, k->how.error);
		TALLOC_FREE(k);
	}
	return k;
}
