/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * index.db is lost, and the bucket is not what it was: it lacks an object, or has another version of it, older perhaps.
 * What is here of that file may be nowhere else then. A listing finds it, and the daemon is killed at each moment of that
 * and of what follows. In the end every version that was here is in S3, under its name, or beside what has that; a name
 * of which nothing was here is what S3 says; and what S3 has as it was costs neither a write nor its bytes.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/mirror/mirror.h"
#include "sim_share.h"
#include "sim_tally.h"

/* ---- the bucket, meanwhile ---- */

struct saved { /* an object, as a backup has it */
	char text[64];
	struct obj_meta meta[16];
	unsigned meta_count;
};

static void save(struct world *w, const char *key, struct saved *s)
{
	const struct sim_object *o = sim_object(w->sim, key);

	snprintf(s->text, sizeof(s->text), "%.*s", (int)o->len, (const char *)o->data);
	s->meta_count = o->meta_count;
	for (unsigned i = 0; i < o->meta_count; i++) {
		s->meta[i] = (struct obj_meta){strdup(o->meta[i].name), strdup(o->meta[i].value)};
	}
}

static void put_back(struct world *w, const char *key, struct saved *s)
{
	sim_put_with(w->sim, key, s->text, s->meta, s->meta_count);
}

static void saved_free(struct saved *s)
{
	for (unsigned i = 0; i < s->meta_count; i++) {
		free(s->meta[i].name);
		free(s->meta[i].value);
	}
}

static void as_it_was(struct world *w, struct saved *first)
{
	(void)w;
	(void)first;
}

static void gone(struct world *w, struct saved *first)
{
	(void)first;
	sim_remove(w->sim, "p/a/one");
	sim_remove(w->sim, "p/a/stub");
}

static void older(struct world *w, struct saved *first)
{
	put_back(w, "p/a/one", first);
	sim_put(w->sim, "p/a/stub", "theirs");
}

static void others(struct world *w, struct saved *first)
{
	(void)first;
	sim_put(w->sim, "p/a/one", "theirs");
	sim_put(w->sim, "p/a/stub", "theirs");
}

/* Copied, and its metadata lost. */
static void same_bytes(struct world *w, struct saved *first)
{
	(void)first;
	sim_put(w->sim, "p/a/one", "second");
}

/* With a marker that says what rights it has. */
static void directory_gone(struct world *w, struct saved *first)
{
	(void)first;
	sim_remove(w->sim, "p/a/one");
	sim_remove(w->sim, "p/a/stub");
	sim_remove(w->sim, "p/a/");
	sim_remove(w->sim, "p/e/");
}

/* ---- what must be ---- */

static unsigned count_text(struct world *w, const char *text)
{
	unsigned n = 0;

	for (const struct sim_object *o = sim_objects(w->sim); o != NULL; o = o->next) {
		n += strncmp(o->key, "p/.objectfs/", 12) != 0 && sim_object_is(o, text);
	}
	return n;
}

static void want(struct world *w, const char *key, const char *text)
{
	if (!sim_object_is(sim_object(w->sim, key), text)) {
		die(w, "is not in S3 under its name", key);
	}
}

static void want_once(struct world *w, const char *text)
{
	if (count_text(w, text) != 1) {
		die(w, "once and only once", text);
	}
}

static void all_here(struct world *w)
{
	want(w, "p/a/one", "second");
	want(w, "p/a/stub", "far");
	if (share_has_stub(w, "a/one")) {
		die(w, "its bytes went", "a/one");
	}
}

static void sent_again(struct world *w)
{
	want(w, "p/a/one", "second");
	if (share_has(w, "a/stub") || share_has_stub(w, "a/one")) {
		die(w, "only what was here can be there", "a");
	}
}

static void older_beside(struct world *w)
{
	want(w, "p/a/one", "first");
	want(w, "p/a/stub", "theirs");
	want_once(w, "second");
}

static void theirs_beside(struct world *w)
{
	want(w, "p/a/one", "theirs");
	want(w, "p/a/stub", "theirs");
	want_once(w, "second");
}

static void theirs_it_is(struct world *w)
{
	want(w, "p/a/one", "second");
	want_once(w, "second");
}

static void directory_again(struct world *w)
{
	sent_again(w);
	if (sim_object(w->sim, "p/e/") == NULL || !share_has(w, "e")) {
		die(w, "a directory went", "e");
	}
}

/* ---- the stories ---- */

static const struct story {
	const char *name;
	void (*meanwhile)(struct world *w, struct saved *first);
	void (*then)(struct world *w);
	unsigned conflicts;
} stories[] = {
	{"S3 has all of it", as_it_was, all_here, 0},
	{"S3 lacks it", gone, sent_again, 0},
	{"S3 has an older version", older, older_beside, 1},
	{"S3 has another tool's", others, theirs_beside, 1},
	{"S3 has the bytes, and not the metadata", same_bytes, theirs_it_is, 0},
	{"S3 lacks the directory", directory_gone, directory_again, 0},
};

static void evict(struct world *w, const char *path)
{
	client_evict(w, path);
	sim_run_until(w->sim, NULL, NULL, 20 * NS_PER_S);
	if (!share_has_stub(w, path)) {
		die(w, path, "is no stub");
	}
}

static void index_lost(struct world *w)
{
	static const char *const files[] = {"index.db", "index.db-wal", "index.db-shm"};

	daemon_kill(w);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		unlinkat(w->path_fd, files[i], 0);
	}
}

static void start_ready(struct world *w)
{
	daemon_start(w);
	if (!world_wait_ready(w, WORLD_DRAIN_NS)) {
		die(w, "not ready", w->v->state_why);
	}
}

/* All is listed, up to that moment; false: that was over before. */
static bool listing(struct world *w, unsigned moment)
{
	mirror_relist(w->v->mirror, ".");
	mirror_relist(w->v->mirror, "a");
	return world_run(w, moment);
}

static void judge(struct world *w, const struct story *s, int64_t conflicts)
{
	world_settle(w);
	share_list(w, 3);
	s->then(w);
	if (stats_get(conflicts) - conflicts != s->conflicts) {
		die(w, "conflicts", s->name);
	}
	share_is_store(w);
	world_close(w);
}

static bool tell(const struct story *s, int fence_class, unsigned moment)
{
	int64_t conflicts = stats_get(conflicts);
	uint64_t puts, gets;
	struct saved first;
	struct world w;
	bool more;

	world_open(&w, moment + 1, fence_class);
	w.others = true;
	client_mkdir(&w, "a");
	client_mkdir(&w, "e");
	client_create(&w, "a/one", "first");
	client_create(&w, "a/stub", "far");
	world_drain(&w);
	save(&w, "p/a/one", &first);
	client_write(&w, "a/one", "second");
	world_drain(&w);
	evict(&w, "a/stub");
	index_lost(&w);
	s->meanwhile(&w, &first);
	start_ready(&w);
	puts = sim_requests_of(w.sim, OBJ_PUT);
	gets = sim_requests_of(w.sim, OBJ_GET);
	more = listing(&w, moment);
	if (s->meanwhile == as_it_was && (sim_requests_of(w.sim, OBJ_PUT) != puts || sim_requests_of(w.sim, OBJ_GET) != gets)) {
		die(&w, "it was written, or read", "a");
	}
	daemon_kill(&w);
	start_ready(&w);
	judge(&w, s, conflicts);
	saved_free(&first);
	return more;
}

int main(void)
{
	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
		for (int fence_class = 1; fence_class <= 3; fence_class += 2) {
			unsigned moment = 0;

			while (tell(&stories[i], fence_class, moment)) {
				moment++;
			}
			printf("the index is lost, and %s, F%d: %u moments\n", stories[i].name, fence_class, moment + 1);
			fflush(stdout);
		}
	}
	tally_print();
	return 0;
}
