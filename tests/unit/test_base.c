/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Clock, mailbox, disk jobs, counters, configuration. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <talloc.h>
#include <tevent.h>
#include <unistd.h>
#include <cmocka.h>
#include "cached/base/clock.h"
#include "cached/base/conf.h"
#include "cached/base/disk.h"
#include "cached/base/log.h"
#include "cached/base/mailbox.h"
#include "cached/base/stats.h"
#include "tests/lib/scratch.h"

static char tmp[4096];

static int group_setup(void **state)
{
	(void)state;
	scratch_make(tmp, sizeof(tmp), "base");
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	scratch_remove(tmp);
	return 0;
}

/* Turn the loop until the condition holds; the test fails after 20 s. */
#define LOOP_UNTIL(ev, clock, condition)                                                           \
	do {                                                                                       \
		int64_t deadline_ = clock_now_ns(clock) + 20 * NS_PER_S;                           \
                                                                                                   \
		while (!(condition)) {                                                             \
			assert_true(clock_now_ns(clock) < deadline_);                              \
			assert_int_equal(tevent_loop_once(ev), 0);                                 \
		}                                                                                  \
	} while (0)

/* --- clock --- */

struct ticks {
	char order[64];
	unsigned count;
	struct clock *clock;
	TALLOC_CTX *ctx;
	struct clock_timer *victim;
};
struct tick {
	struct ticks *ticks;
	char name;
};

static void tick(void *arg)
{
	struct tick *t = arg;

	t->ticks->order[t->ticks->count++] = t->name;
	if (t->name == 'k') { /* kills another that is due as well */
		TALLOC_FREE(t->ticks->victim);
	}
	if (t->name == 'a') { /* adds one that is due at once: next turn */
		t->name = 'A';
		clock_timer_add(t->ticks->clock, t->ticks->ctx, 0, tick, t);
	}
}

static void test_clock(void **state)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	struct tevent_context *ev = tevent_context_init(ctx);
	struct clock *clock = clock_real_new(ctx, ev);
	struct ticks ticks = {.clock = clock, .ctx = ctx};
	struct tick t[26];
	TALLOC_CTX *child = talloc_new(ctx);
	int64_t now = clock_now_ns(clock);
	uint8_t random[2][32] = {{0}};

	(void)state;
	for (int i = 0; i < 26; i++) {
		t[i] = (struct tick){&ticks, (char)('a' + i)};
	}
	assert_true(clock_wall_ns(clock) > 1600000000 * NS_PER_S);
	clock_random(clock, random[0], 32);
	clock_random(clock, random[1], 32);
	assert_memory_not_equal(random[0], random[1], 32);
	clock_timer_add(clock, ctx, now + 30 * NS_PER_MS, tick, &t['d' - 'a']);
	clock_timer_add(clock, ctx, now + 10 * NS_PER_MS, tick, &t['b' - 'a']);
	clock_timer_add(clock, ctx, now + 10 * NS_PER_MS, tick, &t['c' - 'a']);
	clock_timer_add(clock, ctx, now - 5, tick, &t[0]);
	clock_timer_add(clock, child, now + 5 * NS_PER_MS, tick, &t['x' - 'a']);
	clock_timer_add(clock, ctx, now + 15 * NS_PER_MS, tick, &t['k' - 'a']);
	ticks.victim = clock_timer_add(clock, ctx, now + 15 * NS_PER_MS, tick, &t['y' - 'a']);
	talloc_free(child); /* and x with it */
	LOOP_UNTIL(ev, clock, ticks.count >= 6);
	assert_string_equal(ticks.order, "aAbckd");
	assert_true(clock_now_ns(clock) - now >= 30 * NS_PER_MS);
	/* a timer may outlive its clock */
	child = talloc_new(NULL);
	clock_timer_add(clock, child, now, tick, &t['z' - 'a']);
	talloc_free(ctx);
	talloc_free(child);
}

static unsigned clock_fired;
static int64_t clock_last;

static void clock_in_order(void *arg)
{
	int64_t at = *(int64_t *)arg;

	assert_true(at >= clock_last);
	clock_last = at;
	clock_fired++;
}

static void test_clock_many(void **state)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	struct tevent_context *ev = tevent_context_init(ctx);
	struct clock *clock = clock_real_new(ctx, ev);
	static int64_t at[2000];
	struct clock_timer *timer[2000];
	int64_t now = clock_now_ns(clock);
	unsigned left = 2000;

	(void)state;
	clock_fired = 0;
	clock_last = 0;
	srand(42);
	for (unsigned i = 0; i < 2000; i++) {
		at[i] = now + (rand() % 20) * NS_PER_MS;
		timer[i] = clock_timer_add(clock, ctx, at[i], clock_in_order, &at[i]);
		assert_non_null(timer[i]);
	}
	for (unsigned i = 0; i < 2000; i += 3) {
		TALLOC_FREE(timer[i]);
		left--;
	}
	LOOP_UNTIL(ev, clock, clock_fired == left);
	talloc_free(ctx);
}

/* --- mailbox --- */

#define POSTERS 3u
#define POSTS 2000u
struct numbered {
	struct letter letter;
	unsigned poster, number;
};
struct post {
	struct mailbox *mb;
	unsigned poster;
};
static unsigned opened[POSTERS], opened_all;

static void numbered_open(struct letter *l)
{
	struct numbered *n = (struct numbered *)l;

	assert_int_equal(n->number, opened[n->poster]);
	opened[n->poster]++;
	opened_all++;
	free(n);
}

static void *post_all(void *arg)
{
	struct post *p = arg;

	for (unsigned i = 0; i < POSTS; i++) {
		struct numbered *n = calloc(1, sizeof(*n));

		n->letter.open = numbered_open;
		n->poster = p->poster;
		n->number = i;
		mailbox_post(p->mb, &n->letter);
	}
	return NULL;
}

static void test_mailbox(void **state)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	struct tevent_context *ev = tevent_context_init(ctx);
	struct clock *clock = clock_real_new(ctx, ev);
	struct mailbox *mb = mailbox_new(ctx, ev);
	struct post post[POSTERS];
	pthread_t thread[POSTERS];

	(void)state;
	for (unsigned i = 0; i < POSTERS; i++) {
		post[i] = (struct post){mb, i};
		assert_int_equal(pthread_create(&thread[i], NULL, post_all, &post[i]), 0);
	}
	LOOP_UNTIL(ev, clock, opened_all == POSTERS * POSTS);
	for (unsigned i = 0; i < POSTERS; i++) {
		pthread_join(thread[i], NULL);
	}
	talloc_free(ctx);
}

/* A letter that posts itself again: the loop turns in between. */
static struct mailbox *again_mb;
static unsigned again_count, again_turns;

static void again_open(struct letter *l)
{
	if (++again_count < 5) {
		mailbox_post(again_mb, l);
	}
}

static void test_mailbox_again(void **state)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	struct tevent_context *ev = tevent_context_init(ctx);
	struct letter letter = {.open = again_open};

	(void)state;
	again_mb = mailbox_new(ctx, ev);
	mailbox_post(again_mb, &letter);
	while (again_count < 5) {
		assert_int_equal(tevent_loop_once(ev), 0);
		again_turns++;
	}
	assert_int_equal(again_turns, 5);
	talloc_free(ctx);
}

/* --- disk --- */

struct test_job {
	struct disk_job job;
	unsigned number;
	pthread_t ran_on;
	bool order_kept;
};
static unsigned disk_done;
static unsigned disk_order_next; /* touched by the one DISK_ORDER worker only */
static pthread_t disk_core;

static void job_run(struct disk_job *job)
{
	struct test_job *t = (struct test_job *)job;

	t->ran_on = pthread_self();
	t->order_kept = t->number == disk_order_next++;
}

static void job_run_any(struct disk_job *job)
{
	((struct test_job *)job)->ran_on = pthread_self();
	((struct test_job *)job)->order_kept = true;
}

static void job_done(struct disk_job *job)
{
	struct test_job *t = (struct test_job *)job;

	assert_true(t->order_kept);
	assert_true(pthread_equal(pthread_self(), disk_core));
	assert_false(pthread_equal(t->ran_on, disk_core));
	disk_done++;
	free(t);
}

static void test_disk(void **state)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	struct tevent_context *ev = tevent_context_init(ctx);
	struct clock *clock = clock_real_new(ctx, ev);
	struct mailbox *mb = mailbox_new(ctx, ev);
	struct disk *disk = disk_real_new(ctx, mb, 4);
	int64_t before = stats_get(disk_jobs);

	(void)state;
	assert_non_null(disk);
	disk_core = pthread_self();
	for (unsigned i = 0; i < 1000; i++) {
		struct test_job *order = calloc(1, sizeof(*order));
		struct test_job *any = calloc(1, sizeof(*any));

		order->number = i;
		order->job.run = job_run;
		order->job.done = job_done;
		disk_submit(disk, DISK_ORDER, &order->job);
		any->job.run = job_run_any;
		any->job.done = job_done;
		disk_submit(disk, i % 2 ? DISK_ANY : DISK_INDEX, &any->job);
	}
	LOOP_UNTIL(ev, clock, disk_done == 2000);
	assert_int_equal(stats_get(disk_jobs) - before, 2000);
	talloc_free(ctx);
}

static atomic_bool slow_runs;

static void job_slow(struct disk_job *job)
{
	struct test_job *t = (struct test_job *)job;

	atomic_store(&slow_runs, true);
	usleep(50000);
	t->number = 1;
}

static void job_never(struct disk_job *job)
{
	(void)job;
	fail_msg("run or done after the stop");
}

/* Freeing waits for what runs and drops what waits. */
static void test_disk_stop(void **state)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	struct tevent_context *ev = tevent_context_init(ctx);
	struct mailbox *mb = mailbox_new(ctx, ev);
	struct disk *disk = disk_real_new(ctx, mb, 1);
	struct test_job slow = {.job = {.run = job_slow, .done = job_never}};
	struct test_job never = {.job = {.run = job_never, .done = job_never}};

	(void)state;
	disk_submit(disk, DISK_INDEX, &slow.job);
	while (!atomic_load(&slow_runs)) {
		usleep(1000);
	}
	disk_submit(disk, DISK_INDEX, &never.job);
	talloc_free(disk);
	assert_int_equal(slow.number, 1);
	talloc_free(ctx);
}

/* --- counters --- */

static void test_times(void **state)
{
	struct times t = {0};

	(void)state;
	times_record(&t, -1);
	times_record(&t, times_bound_ns[0]);
	times_record(&t, times_bound_ns[0] + 1);
	times_record(&t, INT64_MAX / 2);
	assert_int_equal(atomic_load(&t.bucket[0]), 2);
	assert_int_equal(atomic_load(&t.bucket[1]), 1);
	assert_int_equal(atomic_load(&t.bucket[TIMES_BUCKETS - 1]), 1);
	assert_int_equal(atomic_load(&t.sum_ns), 2 * times_bound_ns[0] + 1 + INT64_MAX / 2);
	for (unsigned i = 1; i < TIMES_BUCKETS - 1; i++) {
		assert_true(times_bound_ns[i] > times_bound_ns[i - 1]);
	}
	for (unsigned i = 0; i < times_row_count; i++) {
		assert_true(strlen(times_rows[i].help) > 0 && strlen(times_rows[i].family_help) > 0);
	}
}

static void test_stats(void **state)
{
	bool seen = false;

	(void)state;
	stats_set(sessions, 3);
	stats_add(sessions, -1);
	for (unsigned i = 0; i < stats_row_count; i++) {
		if (strcmp(stats_rows[i].name, "sessions") == 0) {
			seen = true;
			assert_int_equal(stats_rows[i].kind, STATS_GAUGE);
			assert_string_equal(stats_rows[i].unit, "count");
			assert_int_equal(atomic_load(stats_rows[i].cell), 2);
		}
		assert_true(strlen(stats_rows[i].help) > 0);
	}
	assert_true(seen);
	stats_set(sessions, 0);
}

/* --- configuration --- */

#define DIR_VOLUME "[volume v]\nstore = dir\ndirectory = /srv/v\n"
#define S3_VOLUME "[volume s]\nstore = s3\nbucket = buck\n"

static int conf_text(TALLOC_CTX *ctx, const char *text, struct conf **conf, char **error)
{
	size_t len = strlen(text);
	FILE *f = len > 0 ? fmemopen((void *)(uintptr_t)text, len, "r") : fopen("/dev/null", "r");
	int ret = conf_load_stream(ctx, f, "x.conf", conf, error);

	fclose(f);
	assert_true((ret == 0) == (*conf != NULL));
	assert_true((ret == 0) == (*error == NULL));
	return ret;
}

static void test_conf_defaults(void **state)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	struct conf *conf;
	const struct conf_volume *v;
	char *error;

	(void)state;
	assert_int_equal(conf_text(ctx, DIR_VOLUME, &conf, &error), 0);
	assert_string_equal(conf->global.socket, "/run/objectfs/cached.sock");
	assert_string_equal(conf->global.cache_directory, "/var/cache/objectfs");
	assert_int_equal(conf->global.log_level, LOG_LVL_NOTICE);
	assert_null(conf->global.log_file);
	assert_null(conf->global.group);
	assert_int_equal(conf->global.workers, 8);
	assert_int_equal(conf->volume_count, 1);
	v = conf_volume_find(conf, "v");
	assert_non_null(v);
	assert_null(conf_volume_find(conf, "w"));
	assert_int_equal(v->store, CONF_STORE_DIR);
	assert_string_equal(v->directory, "/srv/v");
	assert_string_equal(v->prefix, "");
	assert_null(v->bucket);
	assert_string_equal(v->region, "us-east-1");
	assert_int_equal(v->capacity_bytes, 1ll << 40);
	assert_int_equal(v->settle_time_ns, 5 * NS_PER_S);
	assert_int_equal(v->settle_limit_ns, 60 * NS_PER_S);
	assert_int_equal(v->listing_age_ns, 900 * NS_PER_S);
	assert_int_equal(v->part_size_bytes, 8 << 20);
	assert_int_equal(v->parallel_uploads, 8);
	assert_int_equal(v->parallel_fetches, 16);
	assert_int_equal(v->connections, 32);
	assert_int_equal(v->retries, 5);
	assert_int_equal(v->request_timeout_ns, 30 * NS_PER_S);
	assert_int_equal(v->log_flush_ns, 60 * NS_PER_S);
	assert_int_equal(v->log_fold, 64);
	assert_int_equal(v->record_xattr, CONF_XATTR_AUTO);
	assert_false(v->accept_removals);
	talloc_free(ctx);
}

static void test_conf_manner(void **state)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	struct conf *conf;
	const struct conf_volume *v;
	char *error, *text, *token, *name;

	(void)state;
	/* longer than inih's lines and section names */
	token = talloc_zero_size(ctx, 3001);
	for (int i = 0; i < 3000; i++) {
		token[i] = " ;#=:[]/+abcXYZ"[i % 15];
	}
	token[0] = token[2999] = ';';
	name = talloc_strdup(ctx, "0123456789012345678901234567890123456789012345678901234567890-_.");
	text = talloc_asprintf(ctx,
			"\xef\xbb\xbf# comment\r\n; another\n\n[GLOBAL]\r\n"
			"\tLog Level = Debug\r\n"
			"   loglevel2:=\n"
			"[volume  %s ]\n"
			"  STORE=S3\n\tbucket\t=\tb.u-c_k\n"
			"prefix = //a b;c#d = e//\n"
			"endpoint = HTTPS://s3.example:9000//\n"
			"access  key = ;AKIA#\nsecret key = s;e #c = r\nsession token = %s\n"
			"capacity = 500g\nsettle time = 250ms\nsettle limit = 2m\n"
			"listing age = 0\nlog flush = 1h\nrequest timeout = 90\n"
			"ca file = /etc//ssl///ca.pem/\nprofile =\n"
			"accept removals = TRUE\naddressing = virtual\n",
			name, token);
	assert_int_equal(conf_text(ctx, text, &conf, &error), -EINVAL);
	assert_string_equal(error, "x.conf:6: unknown key \"loglevel2:\" in [global]");
	memcpy(strstr(text, "   loglevel2:="), "  log file  = ", 14);
	assert_int_equal(conf_text(ctx, text, &conf, &error), 0);
	assert_int_equal(conf->global.log_level, LOG_LVL_DEBUG);
	assert_null(conf->global.log_file);
	v = conf_volume_find(conf, name);
	assert_non_null(v);
	assert_int_equal(v->line, 7);
	assert_int_equal(v->store, CONF_STORE_S3);
	assert_string_equal(v->bucket, "b.u-c_k");
	assert_string_equal(v->prefix, "a b;c#d = e/");
	assert_string_equal(v->endpoint, "HTTPS://s3.example:9000");
	assert_string_equal(v->access_key, ";AKIA#");
	assert_string_equal(v->secret_key, "s;e #c = r");
	assert_string_equal(v->session_token, token);
	assert_int_equal(v->capacity_bytes, 500ll << 30);
	assert_int_equal(v->settle_time_ns, 250 * NS_PER_MS);
	assert_int_equal(v->settle_limit_ns, 120 * NS_PER_S);
	assert_int_equal(v->listing_age_ns, 0);
	assert_int_equal(v->log_flush_ns, 3600 * NS_PER_S);
	assert_int_equal(v->request_timeout_ns, 90 * NS_PER_S);
	assert_string_equal(v->ca_file, "/etc/ssl/ca.pem");
	assert_null(v->profile);
	assert_true(v->accept_removals);
	assert_int_equal(v->addressing, CONF_ADDR_VIRTUAL);
	talloc_free(ctx);
}

static const struct {
	const char *text, *error;
} conf_refused[] = {
	{"", "x.conf: no [volume NAME] section: nothing to serve"},
	{"[global]\n", "x.conf: no [volume NAME] section: nothing to serve"},
	{"a = b\n", "x.conf:1: a: stands before the first section"},
	{"[global]\n\n# c\nspeed = 1\n", "x.conf:4: unknown key \"speed\" in [global]"},
	{"[global]\nbucket = x\n", "x.conf:2: bucket: belongs into [volume NAME]"},
	{DIR_VOLUME "workers = 4\n", "x.conf:4: workers: belongs into [global]"},
	{"[shares]\n",
		"x.conf:1: unknown section [shares]: there are [global] and [volume NAME]"},
	{"[volume]\n",
		"x.conf:1: unknown section [volume]: there are [global] and [volume NAME]"},
	{"[global\n", "x.conf:1: a section's line must end in ]"},
	{"[", "x.conf:1: a section's line must end in ]"},
	{"[volume a/b]\n", "x.conf:1: [volume a/b]: a volume's name is 1 to 64"},
	{"[volume ..]\n", "x.conf:1: [volume ..]: a volume's name is 1 to 64"},
	{DIR_VOLUME "[volume V]\n", "x.conf:4: [volume V]: already defined in line 1"},
	{"[global]\nworkers\n", "x.conf:2: neither \"key = value\" nor a section"},
	{"[global]\n= 4\n", "x.conf:2: unknown key \"\" in [global]"},
	{"[global]\nworkers = 4\nWorkers = 5\n", "x.conf:3: workers: already set in line 2"},
	{"[global]\nworkers = 1\n", "x.conf:2: workers: \"1\" is out of range: 2 to 64"},
	{"[global]\nworkers = -4\n", "x.conf:2: workers: \"-4\" is not a number"},
	{"[global]\nworkers = 4 # cores\n", "x.conf:2: workers: \"4 # cores\" is not a number"},
	{"[global]\nworkers =\n", "x.conf:2: workers: \"\" is not a number"},
	{"[global]\nlog level = loud\n",
		"x.conf:2: log level: \"loud\" is none of: error, warning, notice, info, debug"},
	{"[global]\nsocket = cached.sock\n",
		"x.conf:2: socket: \"cached.sock\" is not an absolute path: begin with /"},
	{"[global]\nsocket = /run/../x\n",
		"x.conf:2: socket: \"/run/../x\": a path must not go through . or .."},
	{"[global]\nsocket = /\n", "x.conf:2: socket: is 0 bytes long: 2 to 107 are allowed"},
	{"[global]\nlog file = /a\x01\n", "x.conf:2: control character"},
	{"[global]\nlog file = /\xff\n", "x.conf:2: not text in UTF-8"},
	{"[global]\nlog file = /\xed\xa0\x80\n", "x.conf:2: not text in UTF-8"},
	{"[volume v]\ndirectory = /srv/v\n", "x.conf:1: store: must be set"},
	{"[volume v]\nstore = tape\n", "x.conf:2: store: \"tape\" is none of: dir, s3"},
	{"[volume v]\nstore = dir\n", "x.conf:1: directory: must be set with store = dir"},
	{"[volume v]\nstore = s3\n", "x.conf:1: bucket: must be set with store = s3"},
	{DIR_VOLUME "bucket = b-b\n",
		"x.conf:4: bucket: is for store = s3, but [volume v] has store = dir"},
	{S3_VOLUME "directory = /d\n",
		"x.conf:4: directory: is for store = dir, but [volume s] has store = s3"},
	{"[volume v]\nstore = s3\nbucket = a/b\n", "x.conf:3: bucket: \"a/b\" is not the name"},
	{"[volume v]\nstore = dir\ndirectory = /var/cache/objectfs/v\n",
		"x.conf:3: directory: /var/cache/objectfs/v and the cache directory "
		"/var/cache/objectfs must not hold each other"},
	{"[volume v]\nstore = dir\ndirectory = /var\n", "x.conf:3: directory: /var and the cache"},
	{S3_VOLUME "access key = A\n", "x.conf:4: access key: is useless without secret key"},
	{S3_VOLUME "secret key = hush\n", "x.conf:4: secret key: is useless without access key"},
	{S3_VOLUME "session token = hush\n",
		"x.conf:4: session token: is useless without access key"},
	{S3_VOLUME "access key = A\nsecret key = hush\nprofile = p\n",
		"x.conf:6: profile: contradicts access key: set one of them"},
	{S3_VOLUME "endpoint = s3.example\n",
		"x.conf:4: endpoint: must begin with http:// or https://"},
	{S3_VOLUME "endpoint = http://me:hush@s3\n",
		"x.conf:4: endpoint: must not hold credentials"},
	{S3_VOLUME "endpoint = http:///x\n", "x.conf:4: endpoint: \"http:///x\" is not"},
	{S3_VOLUME "endpoint = http://h/path\n", "x.conf:4: endpoint: \"http://h/path\" is not"},
	{S3_VOLUME "prefix = a//b\n", "x.conf:4: prefix: \"a//b\" has a component"},
	{S3_VOLUME "prefix = a/../b\n", "x.conf:4: prefix: \"a/../b\" has a component"},
	{S3_VOLUME "capacity = 1k\n", "x.conf:4: capacity: \"1k\" is too small: at least 1M"},
	{S3_VOLUME "capacity = 9000000000G\n",
		"x.conf:4: capacity: \"9000000000G\" is not a size"},
	{S3_VOLUME "capacity = 1.5T\n", "x.conf:4: capacity: \"1.5T\" is not a size"},
	{S3_VOLUME "part size = 4M\n", "x.conf:4: part size: \"4M\" is out of range: 5M to 5G"},
	{S3_VOLUME "settle time = 5 s\n", "x.conf:4: settle time: \"5 s\" is not a duration"},
	{S3_VOLUME "settle time = 2d\n",
		"x.conf:4: settle time: \"2d\" is out of range: 0 to 1d"},
	{S3_VOLUME "settle time = 2m\n", "x.conf:1: settle limit: is shorter than settle time"},
	{S3_VOLUME "accept removals = maybe\n",
		"x.conf:4: accept removals: \"maybe\" is neither yes nor no"},
	{S3_VOLUME "[volume t]\nstore = s3\nbucket = buck\nprefix = a\n",
		"x.conf:7: prefix: bucket buck and prefix \"a/\" overlap [volume s] in line 1"},
	{DIR_VOLUME "[volume t]\nstore = dir\ndirectory = /srv/v/\n",
		"x.conf:6: directory: overlaps that of [volume v] in line 1"},
	{DIR_VOLUME "[volume t]\nstore = dir\ndirectory = /srv\n",
		"x.conf:6: directory: overlaps that of [volume v] in line 1"},
};

static void test_conf_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(conf_refused) / sizeof(conf_refused[0]); i++) {
		TALLOC_CTX *ctx = talloc_new(NULL);
		struct conf *conf;
		char *error;

		assert_int_equal(conf_text(ctx, conf_refused[i].text, &conf, &error), -EINVAL);
		if (strncmp(error, conf_refused[i].error, strlen(conf_refused[i].error)) != 0) {
			fail_msg("%s\ngives    %s\nand not %s", conf_refused[i].text, error,
					conf_refused[i].error);
		}
		assert_null(strstr(error, "hush"));
		talloc_free(ctx);
	}
}

static void test_conf_not_overlapping(void **state)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	struct conf *conf;
	char *error;

	(void)state;
	assert_int_equal(conf_text(ctx,
					 "[volume a]\nstore = s3\nbucket = buck\nprefix = a\n"
					 "[volume b]\nstore = s3\nbucket = buck\nprefix = ab\n"
					 "[volume c]\nstore = s3\nbucket = buck\n"
					 "endpoint = http://other\n"
					 "[volume d]\nstore = dir\ndirectory = /srv/d\n"
					 "[volume e]\nstore = dir\ndirectory = /srv/dd\n",
					 &conf, &error),
			0);
	assert_int_equal(conf->volume_count, 5);
	talloc_free(ctx);
}

static void test_conf_files(void **state)
{
	TALLOC_CTX *ctx = talloc_new(NULL);
	char path[sizeof(tmp) + 16];
	char *expect;
	struct conf *conf;
	char *error;
	FILE *f;

	(void)state;
	snprintf(path, sizeof(path), "%s/objectfs.conf", tmp);
	assert_int_equal(conf_load(ctx, path, &conf, &error), -ENOENT);
	expect = talloc_asprintf(ctx, "%s: No such file or directory", path);
	assert_string_equal(error, expect);
	assert_int_equal(conf_load(ctx, tmp, &conf, &error), -EISDIR);
	expect = talloc_asprintf(ctx, "%s: Is a directory", tmp);
	assert_string_equal(error, expect);
	f = fopen(path, "w");
	fputs(S3_VOLUME "access key = A\nsecret key = hush\n", f);
	fclose(f);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(conf_load(ctx, path, &conf, &error), -EACCES);
	expect = talloc_asprintf(ctx,
			"%s:5: secret key: everyone may read this file (mode 644): chmod 600 %s", path,
			path);
	assert_string_equal(error, expect);
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(conf_load(ctx, path, &conf, &error), 0);
	assert_string_equal(conf->path, path);
	f = fopen(path, "w");
	fputs(S3_VOLUME, f); /* no secret: any mode */
	fclose(f);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(conf_load(ctx, path, &conf, &error), 0);
	unlink(path);
	talloc_free(ctx);
}

/* The table itself: every default is accepted, every key can be written and found. */
static void test_conf_table(void **state)
{
	(void)state;
	for (unsigned i = 0; i < conf_option_count; i++) {
		const struct conf_option *opt = &conf_options[i];

		assert_true(strlen(opt->key) > 0 && strlen(opt->help) > 0);
		assert_true(opt->min <= opt->max);
		for (unsigned j = 0; j < i; j++) {
			assert_false(strcmp(opt->section, conf_options[j].section) == 0 &&
					strcmp(opt->key, conf_options[j].key) == 0);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_clock_many),
		cmocka_unit_test(test_mailbox),
		cmocka_unit_test(test_mailbox_again),
		cmocka_unit_test(test_disk),
		cmocka_unit_test(test_disk_stop),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_conf_defaults),
		cmocka_unit_test(test_conf_manner),
		cmocka_unit_test(test_conf_refused),
		cmocka_unit_test(test_conf_not_overlapping),
		cmocka_unit_test(test_conf_files),
		cmocka_unit_test(test_conf_table),
	};

	talloc_disable_null_tracking();
	return cmocka_run_group_tests_name("base", tests, group_setup, group_teardown);
}
