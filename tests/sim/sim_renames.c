/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A directory is renamed, and something is in the way: the daemon is killed, clients go on below both names, its new
 * name is taken, somebody else writes below the old one. The same small story once for every moment of the daemon's
 * work, each copy and each delete among them, with that put in, and a kill, at that moment. In the end everything has
 * been moved that can be, nothing waits, and every version is somewhere. (What becomes of it when a second node takes
 * the rename over: sim_nodes.c.)
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/reconcile/reconcile.h"
#include "sim_tally.h"
#include "sim_tree.h"

#define MINUTE_NS (60 * NS_PER_S)

/* ---- the stories ---- */

static void archive(struct world *w, const char *key, bool archived)
{
	struct sim_object *o = sim_object(w->sim, key);

	if (o == NULL) {
		die(w, "nothing to archive", key);
	}
	o->archived = archived;
}

/* A directory is renamed, up to that moment of it; false: it was done before. */
static bool renaming(struct world *w, unsigned moment)
{
	tree_open(w, moment + 1);
	client_rename(w, "a", "m");
	return world_run(w, moment);
}

/* All drains, and the share is the model, in S3 and here. */
static void want_model(struct world *w)
{
	world_drain(w);
	world_names(w);
	for (unsigned i = 0; i < w->file_count; i++) {
		client_read(w, w->files[i].path, true);
	}
	want_nothing_half(w);
	world_close(w);
}

/* Nothing but kills, the second while the first is being made good. */
static bool killed(unsigned moment)
{
	struct world w;
	bool more;

	more = renaming(&w, moment);
	daemon_restart(&w);
	world_run(&w, moment / 2);
	daemon_restart(&w);
	want_model(&w);
	return more;
}

/* Clients go on under both names: the old one is given again. */
static bool both_used(unsigned moment)
{
	struct world w;
	bool more, away = moment % 2 != 0;

	more = renaming(&w, moment);
	if (away) {
		daemon_kill(&w);
	}
	client_create(&w, "m/b/new", "below the new name");
	client_mkdir(&w, "a");
	client_create(&w, "a/one", "below the old name");
	if (away) {
		daemon_start(&w);
	} else {
		world_run(&w, moment / 2);
		daemon_restart(&w);
	}
	want_model(&w);
	return more;
}

/* Two directories change names. */
static bool swapped(unsigned moment)
{
	struct world w;
	bool more;

	tree_open(&w, moment + 1);
	client_mkdir(&w, "c");
	client_create(&w, "c/one", "c's 1");
	world_drain(&w);
	client_rename(&w, "a", "t");
	client_rename(&w, "c", "a");
	client_rename(&w, "t", "c");
	more = world_run(&w, moment);
	daemon_restart(&w);
	want_model(&w);
	return more;
}

/* It is renamed again while it is being renamed, and again. */
static bool chained(unsigned moment)
{
	struct world w;
	bool more;

	more = renaming(&w, moment);
	client_rename(&w, "m", "n");
	world_run(&w, moment);
	daemon_restart(&w);
	client_rename(&w, "n", "o");
	world_run(&w, moment);
	daemon_restart(&w);
	want_model(&w);
	return more;
}

static bool returned(unsigned moment)
{
	struct world w;
	bool more;

	more = renaming(&w, moment);
	if (moment % 2 != 0) {
		daemon_restart(&w);
	}
	client_rename(&w, "m", "a");
	world_run(&w, moment / 2);
	daemon_restart(&w);
	want_model(&w);
	return more;
}

/* The disk is lost halfway: who comes next has all of it, under one name. */
static bool lost(unsigned moment)
{
	struct world w;
	bool more, renamed;

	more = renaming(&w, moment);
	daemon_kill(&w);
	renamed = tree_is_renamed(&w);
	world_lose_disk(&w);
	tree_model(&w, renamed);
	world_names(&w);
	want_model(&w);
	return more;
}

/* The new name of a child is another tool's. */
static bool taken(unsigned moment)
{
	struct world w;
	bool more;

	tree_open(&w, moment + 1);
	sim_put(w.sim, "p/m/b/two", "another tool's");
	client_rename(&w, "a", "m");
	more = world_run(&w, moment);
	daemon_restart(&w);
	world_settle(&w);
	want_object(&w, "p/m/one", "1");
	want_object(&w, "p/m/b/three", "3");
	want_object(&w, "p/m/b/two", "another tool's");
	if (store_count(&w, "p/m/b/two (conflict", "2") != 1) {
		die(&w, "no conflict copy", "m/b/two");
	}
	want_none_below(&w, "p/a/");
	want_none_below(&w, "p/.objectfs/rename/");
	world_close(&w);
	return more;
}

/* A source is changed by another tool, which may keep the metadata. */
static bool edited(bool keeps, unsigned moment)
{
	struct world w;
	bool more, moved;

	more = renaming(&w, moment);
	moved = sim_object(w.sim, "p/a/b/two") == NULL;
	sim_edit(w.sim, "p/a/b/two", "edited", keeps);
	daemon_restart(&w);
	world_settle(&w);
	want_object(&w, "p/m/one", "1");
	want_object(&w, "p/m/b/three", "3");
	if (moved || sim_object(w.sim, "p/a/b/two") != NULL) {
		want_object(&w, "p/a/b/two", "edited"); /* it came too late to be moved */
		want_object(&w, "p/m/b/two", "2");
	} else {
		want_object(&w, "p/m/b/two", "edited");
		want_none_below(&w, "p/a/");
	}
	want_none_below(&w, "p/.objectfs/rename/");
	world_close(&w);
	return more;
}

/* The model's file has other bytes: NULL: there is none. */
static void model_is(struct world *w, const char *path, const char *text)
{
	struct model_file *f = world_file(w, path);

	if (text == NULL) {
		*f = w->files[--w->file_count];
		return;
	}
	if (f == NULL) {
		f = &w->files[w->file_count++];
		*f = (struct model_file){.text = ""};
		snprintf(f->path, sizeof(f->path), "%s", path);
	}
	snprintf(f->text, sizeof(f->text), "%s", text);
}

static void evict(struct world *w, const char *path)
{
	struct stat st;

	client_evict(w, path);
	sim_run_until(w->sim, NULL, NULL, 20 * NS_PER_S);
	if (fstatat(w->tree_fd, path, &st, 0) != 0 || (st.st_mode & OFS_MARKER_MODE) == 0) {
		die(w, path, "is no stub");
	}
}

enum what_else { REPLACED = 1, KEEPS = 2, DELETED = 4, KILLED = 8 };

/* A stub is renamed, and another tool replaces or deletes its object: what is at the old key goes along, as it is
 * then; what comes later is a file of the old name; what is gone is gone. */
static bool stub_changed(unsigned what, unsigned moment)
{
	struct world w;
	bool more, old, new;

	tree_open(&w, moment + 1);
	evict(&w, "a/one");
	client_rename(&w, "a/one", "a/uno");
	more = world_run(&w, moment);
	if ((what & DELETED) != 0) {
		sim_remove(w.sim, "p/a/one");
	} else {
		sim_edit(w.sim, "p/a/one", "edited", (what & KEEPS) != 0);
	}
	if ((what & KILLED) != 0) {
		daemon_restart(&w);
	}
	world_settle(&w);
	old = sim_object(w.sim, "p/a/one") != NULL;
	new = sim_object(w.sim, "p/a/uno") != NULL;
	if ((what & DELETED) != 0) {
		model_is(&w, "a/uno", new ? "1" : NULL);
	} else {
		model_is(&w, "a/uno", old ? "1" : "edited");
	}
	if (old) {
		model_is(&w, "a/one", "edited");
	}
	world_names(&w);
	world_verify(&w);
	for (unsigned i = 0; i < w.file_count; i++) {
		client_read(&w, w.files[i].path, true);
	}
	world_close(&w);
	return more;
}

static bool stub_replaced(unsigned moment)
{
	return stub_changed(REPLACED, moment) | stub_changed(REPLACED | KILLED, moment);
}

static bool stub_edited(unsigned moment)
{
	return stub_changed(moment % 2 != 0 ? KEEPS : KEEPS | KILLED, moment);
}

static bool stub_deleted(unsigned moment)
{
	return stub_changed(moment % 2 == 0 ? DELETED : DELETED | KILLED, moment);
}

/* Class F2, between the two requests of a fenced delete: what comes there then is deleted (fence_windows). */
static bool is_between_deletes(struct world *w, const char *key)
{
	const struct sim_object *o = sim_object(w->sim, key);

	return o != NULL && o->len == 0;
}

/* Two stubs change names, and another tool writes to one of the keys. */
static bool stubs_swapped(unsigned moment)
{
	struct world w;
	bool more, keeps = moment % 2 != 0;

	tree_open(&w, moment + 1);
	evict(&w, "a/one");
	evict(&w, "a/b/two");
	client_rename(&w, "a/one", "a/t");
	client_rename(&w, "a/b/two", "a/one");
	client_rename(&w, "a/t", "a/b/two");
	more = world_run(&w, moment);
	if (is_between_deletes(&w, "p/a/one")) {
		world_close(&w);
		return more;
	}
	sim_edit(w.sim, "p/a/one", "edited", keeps);
	if (moment % 3 == 0) {
		daemon_restart(&w);
	}
	world_settle(&w);
	if (store_count(&w, "p/a/", "edited") != 1) {
		die(&w, "once and only once", "edited");
	}
	if (store_count(&w, "p/a/", "1") + store_count(&w, "p/a/", "2") == 0) {
		die(&w, "both are gone", "1, 2");
	}
	want_object(&w, "p/a/b/three", "3");
	want_nothing_half(&w);
	world_close(&w);
	return more;
}

/* The daemon is away for a minute, and another tool writes under the old name. */
static bool appeared(unsigned moment)
{
	struct world w;
	bool more, begun;

	more = renaming(&w, moment);
	daemon_kill(&w);
	begun = store_is_renaming(&w);
	sim_run_until(w.sim, NULL, NULL, MINUTE_NS);
	sim_put(w.sim, "p/a/b/new", "another tool's");
	daemon_start(&w);
	world_settle(&w);
	want_object(&w, "p/m/one", "1");
	want_object(&w, "p/m/b/two", "2");
	want_object(&w, "p/m/b/three", "3");
	if (store_count(&w, "p/", "another tool's") != 1) {
		die(&w, "once and only once", "new");
	}
	if (begun) {
		want_object(&w, "p/a/b/new", "another tool's");
	}
	want_none_below(&w, "p/.objectfs/rename/");
	world_close(&w);
	return more;
}

/* The store goes away while a directory is renamed, and the one above it is renamed by then: what nobody here has seen of
 * the former goes along with both, although the keys are new. */
static bool above_renamed(unsigned moment)
{
	struct world w;
	bool more;

	tree_open(&w, moment + 1);
	client_mkdir(&w, "c");
	world_drain(&w);
	sim_put(w.sim, "p/a/b/x/y", "unseen");
	client_rename(&w, "a/b", "c/b");
	more = world_run(&w, moment);
	sim_set_faults(w.sim, (struct sim_faults){.away = 1000});
	sim_run_until(w.sim, NULL, NULL, 20 * NS_PER_S);
	client_rename(&w, "a", "d");
	sim_run_until(w.sim, NULL, NULL, MINUTE_NS + moment * NS_PER_S);
	sim_set_faults(w.sim, (struct sim_faults){0});
	world_settle(&w);
	want_object(&w, "p/c/b/x/y", "unseen");
	want_object(&w, "p/c/b/two", "2");
	want_object(&w, "p/d/one", "1");
	want_none_below(&w, "p/a/");
	want_none_below(&w, "p/d/b/");
	want_none_below(&w, "p/.objectfs/rename/");
	world_close(&w);
	return more;
}

/* A day has passed, and the daemon has tried again what it could not move. */
static void day_passes(struct world *w)
{
	sim_run_until(w->sim, NULL, NULL, 25 * 3600 * NS_PER_S);
	world_settle(w);
}

/* A child is archived: it stays, is called by its new name, and follows once it is restored. */
static bool archived(unsigned moment)
{
	struct world w;
	bool more;

	tree_open(&w, moment + 1);
	client_evict(&w, "a/b/two");
	sim_run_until(w.sim, NULL, NULL, 20 * NS_PER_S);
	archive(&w, "p/a/b/two", true);
	client_rename(&w, "a", "m");
	more = world_run(&w, moment);
	daemon_restart(&w);
	world_settle(&w);
	want_object(&w, "p/m/one", "1");
	want_object(&w, "p/m/b/three", "3");
	want_object(&w, "p/a/b/two", "2");
	client_read(&w, "m/b/two", false); /* not gone */
	client_rename(&w, "m", "n");
	client_rename(&w, "n/b/two", "n/b/too");
	world_settle(&w);
	want_object(&w, "p/n/one", "1");
	want_object(&w, "p/a/b/two", "2");
	archive(&w, "p/a/b/two", false);
	client_read(&w, "n/b/too", true);
	day_passes(&w);
	world_drain(&w);
	world_close(&w);
	return more;
}

/* The same, and then the disk is lost: whoever comes finds all that was sent, under one name. */
static bool archived_lost(unsigned moment)
{
	struct world w;
	bool more, renamed;

	tree_open(&w, moment + 1);
	archive(&w, "p/a/b/two", true);
	client_rename(&w, "a", "m");
	more = world_run(&w, moment);
	daemon_kill(&w);
	renamed = tree_is_renamed(&w);
	world_lose_disk(&w);
	tree_model(&w, renamed);
	world_names(&w);
	archive(&w, "p/a/b/two", false);
	for (unsigned i = 0; i < w.file_count; i++) {
		client_read(&w, w.files[i].path, true);
	}
	day_passes(&w);
	world_drain(&w);
	world_names(&w);
	world_close(&w);
	return more;
}

/* So many objects stay under another key than their name's, and so it is counted. */
static void want_staying(struct world *w, int64_t count)
{
	if (stats_get(redirects) != count) {
		die(w, "counted otherwise", "redirects");
	}
}

/* What becomes of the child while it stays. */
static bool archived_then(unsigned what)
{
	int64_t before = stats_get(redirects);
	bool killed = what >= 5 && what <= 7; /* what it had counted is counted again */
	struct world w;

	tree_open(&w, what + 1);
	client_evict(&w, "a/b/two");
	sim_run_until(w.sim, NULL, NULL, 20 * NS_PER_S);
	archive(&w, "p/a/b/two", true);
	client_rename(&w, "a", "m");
	world_settle(&w);
	want_staying(&w, before + 1);
	switch (what) {
	case 0:
		client_unlink(&w, "m/b/two");
		break;
	case 1:
		client_write(&w, "m/b/two", "new text");
		break;
	case 2:
		client_rename(&w, "m", "a"); /* back to where it is */
		break;
	case 3:
		client_rename(&w, "m/one", "m/b/two"); /* over it */
		break;
	case 4:
		client_rename(&w, "m/b", "b");
		client_rename(&w, "b", "a");
		archive(&w, "p/a/b/two", false);
		day_passes(&w);
		break;
	case 5:
		client_set_time(&w, "m/b/two");
		world_settle(&w);
		want_object(&w, "p/a/b/two", "2");
		archive(&w, "p/a/b/two", false);
		daemon_restart(&w);
		break;
	case 6: /* the old names are given again: the new file's key is taken */
		client_mkdir(&w, "a");
		client_mkdir(&w, "a/b");
		client_create(&w, "a/b/two", "another two");
		world_settle(&w);
		want_object(&w, "p/a/b/two", "2");
		if (store_count(&w, "p/a/b/two (beside", "another two") != 1) {
			die(&w, "it is nowhere", "a/b/two");
		}
		daemon_kill(&w);
		world_lose_disk(&w);
		world_names(&w);
		client_read(&w, "a/b/two", true);
		archive(&w, "p/a/b/two", false);
		client_read(&w, "m/b/two", true);
		day_passes(&w);
		day_passes(&w);
		break;
	case 7: /* and a directory of the old name is renamed: what stands in it apart is none of its children */
		client_mkdir(&w, "a");
		client_mkdir(&w, "a/b");
		client_create(&w, "a/b/new", "new");
		world_settle(&w);
		client_rename(&w, "a", "k");
		world_settle(&w);
		want_object(&w, "p/k/b/new", "new");
		want_object(&w, "p/a/b/two", "2");
		archive(&w, "p/a/b/two", false);
		daemon_restart(&w);
		break;
	default:
		world_close(&w);
		return false;
	}
	world_settle(&w); /* notes that are over go without being waited for */
	world_drain(&w);
	if (!killed) {
		want_staying(&w, before);
	}
	world_names(&w);
	world_close(&w);
	return true;
}

/* An archived child is deleted while it is being noted where it stays. */
static bool archived_deleted(unsigned moment)
{
	struct world w;
	bool more;

	tree_open(&w, moment + 1);
	evict(&w, "a/b/two");
	archive(&w, "p/a/b/two", true);
	client_rename(&w, "a/b/two", "a/too");
	more = world_run(&w, moment);
	client_unlink(&w, "a/too");
	if (moment % 2 != 0) {
		daemon_restart(&w);
	}
	world_settle(&w);
	sim_run_until(w.sim, NULL, NULL, MINUTE_NS); /* notes go without being waited for */
	want_none_below(&w, "p/.objectfs/rename/");
	world_drain(&w);
	world_close(&w);
	return more;
}

/* It is too large to be renamed unasked: all below it goes on where it was, until it is allowed. */
static bool held(unsigned moment)
{
	struct world w;

	tree_open(&w, moment + 1);
	w.conf.rename_limit = 2;
	client_rename(&w, "a", "m");
	world_run(&w, moment);
	if (moment % 2 != 0) {
		daemon_restart(&w);
	}
	client_write(&w, "m/one", "11");
	client_create(&w, "m/b/four", "4");
	sim_run_until(w.sim, NULL, NULL, 5 * MINUTE_NS);
	want_object(&w, "p/a/one", "11");
	want_object(&w, "p/a/b/four", "4");
	want_none_below(&w, "p/m/");
	want_none_below(&w, "p/.objectfs/rename/");
	if (moment % 3 == 0) {
		client_rename(&w, "m", "a");
		sim_run_until(w.sim, NULL, NULL, MINUTE_NS);
		if (!world_is_drained(&w)) {
			die(&w, "waits on, renamed back", "a");
		}
	} else if (reconcile_allow_renames(w.v->reconcile, "m") != 1) {
		die(&w, "is not held", "m");
	}
	world_drain(&w);
	world_close(&w);
	return moment < 40;
}

static bool edited_plain(unsigned moment)
{
	return edited(false, moment);
}

static bool edited_kept(unsigned moment)
{
	return edited(true, moment);
}

int main(void)
{
	static const struct {
		const char *name;
		bool (*tell)(unsigned moment); /* false: all was done before that moment */
	} stories[] = {
		{"killed at each moment, twice", killed},
		{"clients use both names", both_used},
		{"two directories change names", swapped},
		{"three renames, one behind the other", chained},
		{"renamed back", returned},
		{"the one above is renamed meanwhile", above_renamed},
		{"the disk is lost", lost},
		{"a new name is taken", taken},
		{"a source is overwritten by another tool", edited_plain},
		{"a source is changed and keeps its metadata", edited_kept},
		{"a stub's object is replaced", stub_replaced},
		{"a stub's object is changed and keeps its metadata", stub_edited},
		{"a stub's object is deleted", stub_deleted},
		{"two stubs change names, and one is replaced", stubs_swapped},
		{"a key appears under the old name", appeared},
		{"a child is archived", archived},
		{"a child is archived, and the disk is lost", archived_lost},
		{"an archived child is renamed and deleted", archived_deleted},
		{"a rename is too large", held},
		{"what becomes of it while it stays", archived_then},
	};

	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
		unsigned moment = 0;

		while (stories[i].tell(moment)) {
			moment++;
		}
		printf("%s: %u moments\n", stories[i].name, moment + 1);
		fflush(stdout);
	}
	tally_print();
	return 0;
}
