/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What happens between two events: the same small story once for every moment of the daemon's work, with one
 * thing put in at that moment. In the end the store must hold exactly the model.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/reconcile/index.h"
#include "cached/reconcile/reconcile.h"
#include "sim_tally.h"
#include "sim_world.h"

static void tree_open(struct world *w, unsigned seed)
{
	world_open(w, seed, 3);
	client_mkdir(w, "a");
	client_mkdir(w, "a/b");
	client_mkdir(w, "c");
	client_create(w, "a/one", "1");
	client_create(w, "a/b/two", "2");
	client_create(w, "a/b/three", "3");
	client_create(w, "c/four", "4");
	world_drain(w);
}

struct story {
	const char *name;
	/* Power is lost first, and every hint with it: the marked directories are scanned. */
	bool cut;
	/* The daemon is dead while the client renames: what it had just sent may be in no row. */
	bool killed;
	/* The client's process is killed after its rename and before its hint. */
	bool dying;
	const char *from, *to;
};

static const struct story stories[] = {
	{"moved while scanned", true, false, false, "a", "c/a"},
	{"moved while scanned", true, false, false, "a/b", "b"},
	{"moved while scanned", true, false, false, "a/new", "c/new"},
	{"moved while scanned, client killed", true, false, true, "a/new", "new"},
	{"client killed", false, false, true, "a/one", "c/four"},
	{"client killed", false, false, true, "a/b", "c/b"},
	{"client killed", false, false, true, "a/new/six", "a/b/two"},
	{"daemon killed", false, true, false, "a/b/five", "a/one"},
	{"daemon killed", false, true, false, "a/b", "c/b"},
};

/* false: all was done before that moment. */
static bool tell(const struct story *s, unsigned moment)
{
	struct world w;
	bool more;

	tree_open(&w, moment + 1);
	if (s->cut) {
		daemon_kill(&w);
	}
	client_write(&w, "a/one", "one");
	client_write(&w, "a/b/two", "two");
	client_create(&w, "a/b/five", "five");
	client_mkdir(&w, "a/new");
	client_create(&w, "a/new/six", "six");
	client_unlink(&w, "a/b/three");
	if (s->cut) {
		client_lost(&w);
		daemon_start(&w);
		client_start(&w);
		while (w.v->state != VOLUME_READY && sim_step(w.sim)) {
		}
	}
	more = world_run(&w, moment);
	w.dying = s->dying;
	if (s->killed) {
		daemon_kill(&w);
	}
	client_rename(&w, s->from, s->to);
	if (s->killed) {
		daemon_start(&w);
	}
	world_drain(&w);
	world_close(&w);
	return more;
}

/* The daemon dies somewhere in the rename of a directory, and the one above it is renamed before it is back.
 * While the deletes of either are under way, what lay below both is read: it is at any of four keys. false: the first
 * rename was done before that moment. */
static bool read_below_both(const char *slow_key, unsigned moment)
{
	struct world w;
	bool more;

	tree_open(&w, moment + 1);
	client_evict(&w, "a/b/two");
	sim_run_until(w.sim, NULL, NULL, 20 * NS_PER_S);
	client_rename(&w, "a/b", "c/b");
	sim_slow_delete(w.sim, slow_key);
	more = world_run(&w, moment);
	daemon_kill(&w);
	client_rename(&w, "a", "d");
	daemon_start(&w);
	sim_run_until(w.sim, NULL, NULL, 20 * NS_PER_S);
	client_read(&w, "c/b/two", true);
	world_drain(&w);
	world_close(&w);
	return more;
}

/* Over a file that was deleted here comes one that is not here, and whose row has lost its object (as another at its
 * key takes it): what was deleted leaves S3 all the same, whether its own item came first or not. false: it had left
 * before that moment. */
static bool lost_over_deleted(unsigned moment)
{
	const struct ofs_oid *root = &OFS_OID_ROOT;
	struct world w;
	struct row *lost;
	bool more;

	world_open(&w, 1, 3);
	client_create(&w, "gone", "old");
	client_create(&w, "comes", "new");
	world_drain(&w);
	client_evict(&w, "comes");
	sim_run_until(w.sim, NULL, NULL, 20 * NS_PER_S);
	client_rename(&w, "comes", "gone");
	lost = index_at_s3(w.v->index, root, "comes", false);
	while (index_at_live(w.v->index, root, "gone") != lost && sim_step(w.sim)) {
	}
	more = world_run(&w, moment) && sim_object(w.sim, "p/gone") != NULL;
	if (more) {
		index_clear_s3(w.v->index, lost);
		reconcile_touch(w.v->reconcile, lost);
	}
	world_settle(&w);
	if (more && (sim_object(w.sim, "p/gone") != NULL || sim_object(w.sim, "p/comes") == NULL)) {
		die(&w, "a lost row took the key of what was deleted", "p/gone");
	}
	world_close(&w);
	return more;
}

static const char *const edits[] = {"the 1st", "the 2nd", "the 3rd", "the 4th", "the 5th", "the 6th"};
#define EDITS (sizeof(edits) / sizeof(edits[0]))

static bool is_shown(struct world *w, const char *text)
{
	const struct sim_object *o = sim_objects(w->sim);

	while (o != NULL && !sim_object_is(o, text)) {
		o = o->next;
	}
	return o != NULL;
}

/* Where versions are all there is (F1) another tool writes more of them than a page of the store's lists has, at that
 * moment of a write here: what the write has covered is shown beside, all of it. false: the write was done before. */
static bool covered_many(unsigned moment, unsigned *covered)
{
	struct world w;
	bool more;

	world_open(&w, 1, 1);
	client_create(&w, "one", "before");
	world_drain(&w);
	client_write(&w, "one", "here");
	more = world_run(&w, moment);
	for (size_t i = 0; i < EDITS; i++) {
		sim_put(w.sim, "p/one", edits[i]);
	}
	world_settle(&w);
	if (sim_object_is(sim_object(w.sim, "p/one"), "here")) {
		for (size_t i = 0; i < EDITS; i++) {
			if (!is_shown(&w, edits[i])) {
				die(&w, "covered, and not shown", edits[i]);
			}
		}
		++*covered;
	}
	world_close(&w);
	return more;
}

/* A directory moves, and another one in it has a base: its rows are of objects that are no more, so it is written anew,
 * of all that is below, although no row of a file has changed. */
static void bases_move(void)
{
	struct world w;

	world_open(&w, 1, 3);
	client_mkdir(&w, "a");
	client_mkdir(&w, "a/b");
	client_mkdir(&w, "a/b/c");
	for (unsigned i = 0; i < 8; i++) {
		char path[16];

		snprintf(path, sizeof(path), "a/b/c/%u", i);
		client_create(&w, path, "some");
	}
	world_drain(&w);
	sim_run_until(w.sim, NULL, NULL, 600 * NS_PER_S);
	client_rename(&w, "a", "d");
	world_drain(&w);
	sim_run_until(w.sim, NULL, NULL, 600 * NS_PER_S);
	w.bases = (struct bases_seen){0};
	world_verify_bases(&w, w.v->metalog);
	if (w.bases.heads != 1 || w.bases.rows != 8 || w.bases.valid != 8) {
		die(&w, "no base is of what has moved", "d/b/c");
	}
	printf("a base moves with its directory: %u rows\n", w.bases.valid);
	world_close(&w);
}

/* Somebody waits for a change of metadata alone, from that moment on; the log would not be written for an hour. */
static bool waited_for(unsigned moment)
{
	struct world w;
	bool more;

	world_open(&w, 3, 3);
	client_create(&w, "one", "some");
	world_drain(&w);
	client_set_time(&w, "one");
	more = world_run(&w, moment);
	world_drain(&w);
	world_close(&w);
	return more && moment < 40; /* what waits for the log is pending all the time */
}

/* A file goes into a directory, and that goes elsewhere, before either is looked at; its old directory is listed anew at
 * that moment, while S3 has the file at its old name: a stub made there would be a second file of the same id. */
static bool listed_while_it_moves(unsigned moment, bool killed)
{
	struct world w;
	bool more;

	tree_open(&w, moment + 1);
	client_rename(&w, "a/one", "c/one");
	client_rename(&w, "c", "a/c");
	more = world_run(&w, moment);
	if (killed) {
		daemon_restart(&w);
		while (w.v->state != VOLUME_READY && sim_step(w.sim)) {
		}
	}
	client_lists(&w, "a", true);
	if (faccessat(w.tree_fd, "a/one", F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		die(&w, "it is there twice", "a/one");
	}
	world_drain(&w);
	world_close(&w);
	return more;
}

static bool is_drained(void *arg)
{
	return world_is_drained(arg);
}

/* A file was moved, and found, and leaves the mirror at once: it is in S3 then, and a listing has it. */
static void dropped_when_moved(unsigned seed)
{
	struct world w;

	tree_open(&w, seed);
	w.conf.settle_time_ns = NS_PER_S / 10;
	w.conf.listing_age_ns = NS_PER_S;
	client_rename(&w, "a/one", "c/one");
	sim_run_until(w.sim, is_drained, &w, 60 * NS_PER_S);
	client_evict(&w, "c/one");
	client_evict(&w, "c/four");
	sim_run_until(w.sim, NULL, NULL, NS_PER_S);
	client_drop_now(&w, "c");
	sim_run_until(w.sim, NULL, NULL, NS_PER_S / 2);
	if (faccessat(w.tree_fd, "c/one", F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		die(&w, "was not dropped", "c/one");
	}
	world_names(&w);
	world_close(&w);
}

int main(void)
{
	static const char *const slow_keys[] = {"p/a/one", "p/d/b/three"};
	unsigned covered = 0;
	size_t i;

	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	for (i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
		const struct story *s = &stories[i];
		unsigned moment = 0;

		while (tell(s, moment)) {
			moment++;
		}
		printf("%s, %s to %s: %u moments\n", s->name, s->from, s->to, moment + 1);
		fflush(stdout);
	}
	for (i = 0; i < sizeof(slow_keys) / sizeof(slow_keys[0]); i++) {
		unsigned moment = 0;

		while (read_below_both(slow_keys[i], moment)) {
			moment++;
		}
		printf("read below two renames, delete of %s under way: %u moments\n", slow_keys[i], moment + 1);
	}
	bases_move();
	for (i = 0; lost_over_deleted((unsigned)i); i++) {
	}
	printf("a row is lost over what was deleted: %zu moments\n", i + 1);
	for (unsigned killed = 0; killed < 2; killed++) {
		for (i = 0; listed_while_it_moves((unsigned)i, killed == 1); i++) {
		}
		printf("listed while a file moves, and its new directory%s: %zu moments\n", killed ? ", after a kill" : "", i + 1);
	}
	for (i = 1; i <= 8; i++) {
		dropped_when_moved((unsigned)i);
	}
	for (i = 0; waited_for((unsigned)i); i++) {
	}
	printf("a change of metadata is waited for: %zu moments\n", i + 1);
	for (i = 0; covered_many((unsigned)i, &covered); i++) {
	}
	printf("more versions than a page has: %zu moments, below the write in %u\n", i + 1, covered);
	if (covered == 0) {
		return 1;
	}
	tally_print();
	return 0;
}
