/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Another tool writes right before a request of ours that goes to the same key, or while something of ours is half done
 * there; then the daemon is killed, the store is away, this machine's clock
 * is set, or the disk is lost, at each moment from then on. In the end each version that nobody who knew it has replaced
 * is an object that a client can read, and nothing lies in .objectfs/stage/.
 * (sim_others.c meets these things by chance; these are the stories of those that it met.)
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/reconcile/reconcile.h"
#include "sim_share.h"
#include "sim_tally.h"
#include "sim_tree.h"

#define THEIRS "another tool's"
#define WINDOW_NS (200 * NS_PER_MS)
#define AWAY_NS (30 * NS_PER_S)
#define LONG_AWAY_NS (3600 * NS_PER_S)
#define CLOCK_OFF_NS (7200 * NS_PER_S)
#define MOMENTS_MOST 600u

/* ---- what is in the store ---- */

/* How many objects that clients see have these bytes. */
static unsigned shown(struct world *w, const char *text)
{
	unsigned n = 0;

	for (const struct sim_object *o = sim_objects(w->sim); o != NULL; o = o->next) {
		n += judge_is_file(o) && sim_object_is(o, text);
	}
	return n;
}

static void want_shown(struct world *w, const char *text)
{
	if (shown(w, text) == 0) {
		die(w, "is shown nowhere", text);
	}
}

/* ---- the other tool ---- */

struct strike { /* right before a request of this kind to this key, once */
	enum obj_op op;
	const char *key, *text;
	struct world *w;
	bool removes; /* what is there, before it writes */
	bool done;
	struct strike *then; /* what it does after that; NULL: nothing */
};

static void strike_before(void *arg, const struct obj_req *q)
{
	struct strike *s = arg;

	while (s->done && s->then != NULL) {
		s = s->then;
	}
	if (!s->done && q->op == s->op && strcmp(q->key, s->key) == 0) {
		s->done = true;
		if (s->removes) {
			sim_remove(s->w->sim, s->key);
		}
		sim_put(s->w->sim, s->key, s->text);
	}
}

/* Until it has struck for the last time; false: there was no such request. */
static bool strike_wait(struct world *w, struct strike *s)
{
	const struct sim_watch watch = {.before = strike_before, .arg = s};
	struct strike *last = s;
	bool more = true;

	while (last->then != NULL) {
		last = last->then;
	}
	for (struct strike *each = s; each != NULL; each = each->then) {
		each->w = w;
	}
	sim_set_watch(w->sim, &watch);
	while (!last->done && more) {
		more = sim_step(w->sim) && !world_is_drained(w);
	}
	sim_set_watch(w->sim, NULL);
	return last->done;
}

/* On class F2, where only a PUT takes a condition, what comes between a look and a copy or delete is not seen
 * (docs/SEMANTICS.md): then nothing is asked of it. */
struct window {
	struct world *w;
	int fence_class;
	bool hit;
};

static void window_covers(void *arg, const struct sim_object *o, const struct obj_req *q)
{
	struct window *n = arg;

	n->hit = n->hit || (n->fence_class == 2 && q->op != OBJ_PUT && sim_object_is(o, THEIRS) &&
			sim_store_ns(n->w->sim) - o->mtime_ns < WINDOW_NS);
}

static void window_open(struct window *n, struct sim_watch *watch, struct world *w, int fence_class)
{
	*n = (struct window){.w = w, .fence_class = fence_class};
	*watch = (struct sim_watch){.covers = window_covers, .arg = n};
	sim_set_watch(w->sim, watch);
}

/* ---- what happens then ---- */

enum trouble { KILLED, AWAY, SET_BACK, SET_ON, LOST, TROUBLES };

static const char *const trouble_names[] = {"the daemon is killed", "the store is away",
		"the clock is set back", "the clock is set on", "the disk is lost"};

static void trouble(struct world *w, enum trouble what)
{
	switch (what) {
	case KILLED:
		daemon_restart(w);
		break;
	case AWAY:
		sim_set_faults(w->sim, (struct sim_faults){.away = 1000});
		sim_run_until(w->sim, NULL, NULL, AWAY_NS);
		sim_set_faults(w->sim, (struct sim_faults){0});
		break;
	case SET_BACK:
	case SET_ON:
		sim_set_clock(w->sim, (what == SET_ON ? 1 : -1) * CLOCK_OFF_NS);
		break;
	default:
		daemon_kill(w);
		world_lose_disk(w);
		break;
	}
}

/* The tree is what clients know: other programs write, too. */
static void over(struct world *w)
{
	world_settle(w);
	share_list(w, 2);
	want_nothing_half(w);
}

static void covered_open(struct world *w, unsigned seed, int fence_class)
{
	world_open(w, seed, fence_class);
	w->others = true;
	client_mkdir(w, "a");
	client_mkdir(w, "a/b");
	client_create(w, "a/one", "1");
	client_create(w, "a/b/two", "2");
	client_create(w, "a/b/empty", "");
	world_drain(w);
}

/* ---- where versions are all there is (F1) ---- */

/* A file's object goes, as it was deleted or renamed; what has come to its key is hidden by that. */
static bool under_a_delete(unsigned what, enum trouble after, unsigned moment)
{
	const bool empty = (what & 1) != 0, renamed = (what & 2) != 0;
	const char *path = empty ? "a/b/empty" : "a/b/two";
	struct strike s = {.op = OBJ_DELETE, .key = empty ? "p/a/b/empty" : "p/a/b/two", .text = THEIRS};
	struct world w;
	bool more;

	covered_open(&w, moment + 1, 1);
	if (renamed) {
		client_rename(&w, path, "a/new");
	} else {
		client_unlink(&w, path);
	}
	if (!strike_wait(&w, &s)) {
		die(&w, "nothing is deleted", path);
	}
	more = world_run(&w, moment);
	trouble(&w, after);
	over(&w);
	want_shown(&w, THEIRS);
	if (renamed && !empty) {
		want_shown(&w, "2");
	}
	world_close(&w);
	return more;
}

/* The other tool has deleted it before that: whose delete marker is the younger one, only this node can know. */
static bool under_a_delete_of_both(unsigned what, enum trouble after, unsigned moment)
{
	const bool renamed = what == 1, long_away = what == 2 && after == AWAY;
	struct strike s = {.op = OBJ_DELETE, .key = "p/a/b/two", .text = THEIRS, .removes = true};
	struct world w;
	bool more;

	covered_open(&w, moment + 1, 1);
	if (renamed) {
		client_rename(&w, "a/b/two", "a/new");
	} else {
		client_unlink(&w, "a/b/two");
	}
	if (!strike_wait(&w, &s)) {
		die(&w, "nothing is deleted", s.key);
	}
	more = world_run(&w, moment);
	if (what == 3) { /* who takes the name waits until that is known */
		client_create(&w, "a/b/two", "3");
	}
	if (long_away) {
		sim_set_faults(w.sim, (struct sim_faults){.away = 1000});
		sim_run_until(w.sim, NULL, NULL, LONG_AWAY_NS);
		sim_set_faults(w.sim, (struct sim_faults){0});
	} else {
		trouble(&w, after);
	}
	over(&w);
	want_shown(&w, THEIRS);
	want_shown(&w, renamed ? "2" : what == 3 ? "3" : "1");
	world_close(&w);
	return more;
}

/* The same, and nobody has looked what the delete has hidden when the directory of the file is renamed: its key is another
 * by then. */
static bool under_a_delete_below(unsigned what, enum trouble after, unsigned moment)
{
	struct strike s = {.op = OBJ_DELETE, .key = "p/a/b/two", .text = THEIRS};
	struct world w;
	bool more;

	(void)what;
	covered_open(&w, moment + 1, 1);
	client_unlink(&w, "a/b/two");
	if (!strike_wait(&w, &s)) {
		die(&w, "nothing is deleted", s.key);
	}
	more = world_run(&w, moment);
	if (after == AWAY) {
		sim_set_faults(w.sim, (struct sim_faults){.away = 1000});
		client_rename(&w, "a", "m");
		sim_run_until(w.sim, NULL, NULL, AWAY_NS);
		sim_set_faults(w.sim, (struct sim_faults){0});
	} else {
		daemon_kill(&w);
		client_rename(&w, "a", "m");
		daemon_start(&w);
	}
	over(&w);
	want_shown(&w, THEIRS);
	want_shown(&w, "1");
	world_close(&w);
	return more;
}

/* What a write has covered, and nobody has looked when the directory of the file is renamed: its key is another by then. */
static bool under_a_write_below(unsigned what, enum trouble after, unsigned moment)
{
	struct strike s = {.op = OBJ_PUT, .key = what == 0 ? "p/a/b/two" : "p/a/b/new", .text = THEIRS};
	struct world w;
	bool more;

	covered_open(&w, moment + 1, 1);
	if (what == 0) {
		client_write(&w, "a/b/two", "3");
	} else {
		client_create(&w, "a/b/new", "3");
	}
	if (!strike_wait(&w, &s)) {
		die(&w, "nothing is written", s.key);
	}
	more = world_run(&w, moment);
	if (after == AWAY) {
		sim_set_faults(w.sim, (struct sim_faults){.away = 1000});
		client_rename(&w, "a", "m");
		sim_run_until(w.sim, NULL, NULL, AWAY_NS);
		sim_set_faults(w.sim, (struct sim_faults){0});
	} else {
		daemon_kill(&w);
		client_rename(&w, "a", "m");
		daemon_start(&w);
	}
	over(&w);
	want_shown(&w, THEIRS);
	want_shown(&w, "3");
	world_close(&w);
	return more;
}

/* The same of a key in a directory that is renamed: of a file that clients know, or of one that nobody here has seen;
 * its copy may have gone meanwhile; what is put back may cover another. */
static bool under_a_rename(unsigned what, enum trouble after, unsigned moment)
{
	/* With the disk, the index; where the copy is gone, too, nothing says which key it was (docs/SEMANTICS.md). */
	const bool unknown = what == 1, gone = what == 2 && after != LOST, twice = what == 3;
	const char *key = unknown ? "p/a/b/new" : "p/a/b/two";
	struct strike again = {.op = OBJ_COPY, .key = key, .text = "and again"};
	struct strike s = {.op = OBJ_DELETE, .key = key, .text = THEIRS, .then = twice ? &again : NULL};
	struct world w;
	bool more;

	covered_open(&w, moment + 1, 1);
	if (unknown) {
		sim_put(w.sim, key, "new");
	}
	client_rename(&w, "a", "m");
	if (!strike_wait(&w, &s)) {
		die(&w, "nothing is deleted", key);
	}
	if (gone) {
		sim_remove(w.sim, "p/m/b/two");
	}
	more = world_run(&w, moment);
	trouble(&w, after);
	over(&w);
	want_shown(&w, THEIRS);
	want_shown(&w, "1");
	if (twice) {
		want_shown(&w, "and again");
	}
	if (unknown) {
		want_shown(&w, "new");
	}
	world_close(&w);
	return more;
}

/* A file's object is copied to its new name over what has come there, and nobody hears of it; then another tool replaces
 * what was copied, so that the copy is not known for one. */
static bool under_a_copy(unsigned what, enum trouble after, unsigned moment)
{
	struct strike s = {.op = OBJ_COPY, .key = what == 0 ? "p/a/new" : "p/m/b/two", .text = THEIRS};
	struct world w;
	bool more;

	covered_open(&w, moment + 1, 1);
	client_rename(&w, what == 0 ? "a/b/two" : "a", what == 0 ? "a/new" : "m");
	if (!strike_wait(&w, &s)) {
		die(&w, "nothing is copied", s.key);
	}
	more = world_run(&w, moment);
	if (sim_object(w.sim, "p/a/b/two") != NULL) {
		sim_put(w.sim, "p/a/b/two", "theirs, too");
	} else {
		sim_put(w.sim, "p/o", "theirs, too");
	}
	trouble(&w, after);
	over(&w);
	want_shown(&w, THEIRS);
	want_shown(&w, "theirs, too");
	if (what == 0) {
		want_shown(&w, "2"); /* else who put the other there has seen it, and no client has */
	}
	world_close(&w);
	return more;
}

/* ---- on every class of store ---- */

static unsigned staged; /* moments at which it lay there */

/* Two directories change names, and what lies in the one that is parked for it is of no row here. Another tool takes the
 * name that it is to have, or overwrites it there, at any moment. */
static bool out_of_stage(int fence_class, bool lost, unsigned moment)
{
	struct sim_watch watch;
	struct window n;
	struct world w;
	bool more, ended;

	covered_open(&w, moment + 1, fence_class);
	window_open(&n, &watch, &w, fence_class);
	client_mkdir(&w, "c");
	client_create(&w, "c/one", "c's 1");
	world_drain(&w);
	sim_put(w.sim, "p/c/new", "unseen");
	client_rename(&w, "a", "t");
	client_rename(&w, "c", "a");
	client_rename(&w, "t", "c");
	more = world_run(&w, moment);
	staged += store_count(&w, "p/.objectfs/stage/", "unseen") > 0;
	ended = sim_object_is(sim_object(w.sim, "p/a/new"), "unseen");
	sim_put(w.sim, "p/a/new", THEIRS);
	if (lost) {
		trouble(&w, LOST);
	}
	over(&w);
	if (!n.hit) {
		want_shown(&w, THEIRS);
	}
	want_shown(&w, "1");
	want_shown(&w, "c's 1");
	if (!ended) {
		want_shown(&w, "unseen");
	}
	world_close(&w);
	return more;
}

/* A child cannot follow its directory, as another tool has its new name; while it tries to once more, the directory is
 * renamed back: what is under that name is not what is at the old key. */
static bool beside_and_back(int fence_class, bool resident, unsigned moment)
{
	struct sim_watch watch;
	struct window n;
	struct world w;
	bool more;

	covered_open(&w, moment + 1, fence_class);
	window_open(&n, &watch, &w, fence_class);
	if (!resident) {
		client_evict(&w, "a/b/two");
		sim_run_until(w.sim, NULL, NULL, 20 * NS_PER_S);
	}
	client_rename(&w, "a", "m");
	sim_put(w.sim, "p/m/b/two", THEIRS);
	more = world_run(&w, moment);
	client_rename(&w, "m", "a");
	if (moment % 2 != 0) {
		daemon_restart(&w);
	}
	over(&w);
	want_shown(&w, "2");
	if (!n.hit) {
		want_shown(&w, THEIRS);
	}
	world_close(&w);
	return more;
}

/* The conflict name of "one", or NULL. */
static const char *beside(struct world *w)
{
	share_look(w);
	for (unsigned i = 0; i < w->file_count; i++) {
		if (strncmp(w->files[i].path, "one (conflict", 13) == 0) {
			return w->files[i].path;
		}
	}
	return NULL;
}

/* A file that began as another tool's object is sent anew to that key, which is free by now: what the tool puts there
 * right then is none of the file's, although the file's id is made of the key. */
static bool named_by_its_key(int fence_class, unsigned moment)
{
	struct strike s = {.op = fence_class == 1 ? OBJ_HEAD : OBJ_PUT, .key = "p/one", .text = THEIRS};
	char path[256] = "";
	struct world w;
	bool more;

	world_open(&w, moment + 1, fence_class);
	w.others = true;
	world_settle(&w);
	sim_put(w.sim, s.key, "once theirs");
	(void)client_lists(&w, "", true);
	(void)client_plain(&w, "one", false);
	world_settle(&w);
	share_look(&w);
	client_write(&w, "one", "here");
	sim_put(w.sim, s.key, "theirs again");
	while (beside(&w) == NULL) {
		sim_step(w.sim);
	}
	sim_remove(w.sim, s.key);
	more = world_run(&w, moment);
	snprintf(path, sizeof(path), "%s", beside(&w));
	if (!share_has(&w, "one")) {
		client_rename(&w, path, "one");
		if (!strike_wait(&w, &s)) {
			sim_put(w.sim, "p/o", THEIRS); /* it was not sent, but copied there */
		}
		over(&w);
		want_shown(&w, THEIRS);
		want_shown(&w, "here");
	}
	world_close(&w);
	return more;
}

/* A new file was renamed over another, and the daemon dies; what another tool then makes of the one that was replaced, with
 * its metadata, was not deleted by any client. */
static bool made_of_the_replaced(int fence_class, unsigned moment)
{
	struct world w;
	bool more;

	covered_open(&w, moment + 1, fence_class);
	client_create(&w, "a/new", "new");
	client_create(&w, "o", "o"); /* by what else waits, the new one comes first */
	client_rename(&w, "a/new", "a/b/two");
	more = world_run(&w, moment);
	daemon_kill(&w);
	if (sim_object_is(sim_object(w.sim, "p/a/b/two"), "2")) {
		sim_edit(w.sim, "p/a/b/two", "edited", true);
	} else {
		sim_put(w.sim, "p/a/b/o", "edited");
	}
	daemon_start(&w);
	over(&w);
	want_shown(&w, "edited");
	want_shown(&w, "new");
	world_close(&w);
	return more;
}

/* The daemon dies before it hears of a write, the directory is renamed, and it dies again: what it had written itself is
 * nobody's under the old name. */
static bool written_unheard_by(unsigned seed, int fence_class, unsigned moment)
{
	const int64_t conflicts = stats_get(conflicts);
	struct world w;
	bool more;

	covered_open(&w, seed, fence_class);
	client_write(&w, "a/b/two", "2, again");
	while (!sim_object_is(sim_object(w.sim, "p/a/b/two"), "2, again")) {
		sim_step(w.sim);
	}
	daemon_kill(&w);
	client_rename(&w, "a", "m");
	daemon_start(&w);
	more = world_run(&w, moment);
	trouble(&w, AWAY);
	daemon_restart(&w);
	over(&w);
	want_shown(&w, "1");
	if (stats_get(conflicts) != conflicts) {
		die(&w, "a conflict: nobody else writes", "a/b/two");
	}
	if (!sim_object_is(sim_object(w.sim, "p/m/b/two"), "2, again") || sim_object(w.sim, "p/a/b/two") != NULL) {
		die(&w, "is not where it belongs, or came back", "a/b/two");
	}
	world_close(&w);
	return more;
}

static bool written_unheard(int fence_class, unsigned moment)
{
	return written_unheard_by(moment + 1, fence_class, moment);
}

/* The copy of what was sent in parts has another ETag than it, and the row's is of what was there before. */
static bool written_unheard_in_parts(int fence_class, unsigned moment)
{
	return written_unheard_by(7 * moment + 4, fence_class, moment);
}

/* ---- all of them ---- */

static void tell_under(const char *name, unsigned kinds, bool (*story)(unsigned what, enum trouble after, unsigned moment),
		unsigned troubles)
{
	for (unsigned t = 0; t < troubles; t++) {
		unsigned told = 0;

		for (unsigned what = 0; what < kinds; what++) {
			unsigned moment = 0;

			while (story(what, (enum trouble)t, moment) && moment < MOMENTS_MOST) {
				moment++;
			}
			told += moment + 1;
		}
		printf("%s, %s: %u moments\n", name, trouble_names[t], told);
		fflush(stdout);
	}
}

static bool out_of_stage_kept(int fence_class, unsigned moment)
{
	return out_of_stage(fence_class, false, moment);
}

static bool out_of_stage_lost(int fence_class, unsigned moment)
{
	return out_of_stage(fence_class, true, moment);
}

static bool beside_and_back_here(int fence_class, unsigned moment)
{
	return beside_and_back(fence_class, true, moment);
}

static bool beside_and_back_stub(int fence_class, unsigned moment)
{
	return beside_and_back(fence_class, false, moment);
}

int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : ""; /* stories whose names have this word */

	static const struct {
		const char *name;
		bool (*tell)(int fence_class, unsigned moment); /* false: all was done before that moment */
		int first_class;
	} stories[] = {
		{"a name is taken while directories change theirs", out_of_stage_kept, 1},
		{"a name is taken while directories change theirs, and the disk is lost", out_of_stage_lost, 1},
		{"renamed back with a child that could not follow", beside_and_back_here, 1},
		{"renamed back with a stub that could not follow", beside_and_back_stub, 1},
		{"sent anew where it once was another tool's", named_by_its_key, 1},
		{"another tool changes what was replaced", made_of_the_replaced, 1},
		{"written unheard, and its directory renamed", written_unheard, 1},
		{"the same in parts", written_unheard_in_parts, 1},
	};

	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	if (strstr("under", only) != NULL) {
		tell_under("under a delete", 4, under_a_delete, LOST);
		tell_under("under a delete of both", 4, under_a_delete_of_both, 2);
		tell_under("under a delete, and then its directory is renamed", 1, under_a_delete_below, AWAY + 1);
		tell_under("under a write, and then its directory is renamed", 2, under_a_write_below, 2);
		tell_under("under a copy", 2, under_a_copy, LOST);
		tell_under("under a directory's rename", 4, under_a_rename, TROUBLES);
	}
	for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
		for (int fence = stories[i].first_class; fence <= 3 && strstr(stories[i].name, only) != NULL; fence++) {
			unsigned moment = 0;

			while (stories[i].tell(fence, moment) && moment < MOMENTS_MOST) {
				moment++;
			}
			printf("%s, F%d: %u moments\n", stories[i].name, fence, moment + 1);
			fflush(stdout);
		}
	}
	tally_print();
	return argc == 1 && staged == 0; /* else nothing was told of it */
}
