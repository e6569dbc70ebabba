/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Somebody else writes a file each time this node does: both versions stay, each conflict is told with both names, and
 * the 101st within an hour stops the sending of files, whether it was found before the write (F3) or after it (F1).
 * Spread over hours they stop nothing.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/reconcile/reconcile.h"
#include "sim_tree.h"

#define MINUTE_NS (60 * NS_PER_S)
#define MOMENT_NS (5 * NS_PER_S) /* what is there has settled, and was sent */

/* The other version is where the last conflict says. */
static void want_told(struct world *w, const char *name, const char *other)
{
	json_t *list = reconcile_conflicts(w->v->reconcile, 1);
	const json_t *c = json_array_get(list, 0);
	const char *path = json_string_value(json_object_get(c, "path"));
	const char *copy = json_string_value(json_object_get(c, "copy"));
	char key[300];

	if (json_array_size(list) != 1 || path == NULL || copy == NULL || strcmp(path, name) != 0) {
		die(w, "the conflict is not told", name);
	}
	snprintf(key, sizeof(key), "p/%s", copy);
	want_object(w, key, other);
	json_decref(list);
}

/* Until the next one is on its way. */
static void sending(struct world *w, enum obj_op op)
{
	uint64_t sent = sim_requests_of(w->sim, op);

	while (sim_requests_of(w->sim, op) == sent) {
		if (!sim_step(w->sim)) {
			die(w, "nothing is sent", "");
		}
	}
}

/* Somebody's PUT comes between our look and our request. */
static void crossed(struct world *w, enum obj_op op, const char *key, const char *theirs)
{
	sending(w, op);
	sim_put(w->sim, key, theirs);
	sim_run_until(w->sim, NULL, NULL, MOMENT_NS);
}

static void conflict(struct world *w, unsigned i, const char *name, bool made)
{
	int64_t before = stats_get(conflicts);
	char ours[40], theirs[40], key[40];

	snprintf(ours, sizeof(ours), "ours %u", i);
	snprintf(theirs, sizeof(theirs), "theirs %u", i);
	snprintf(key, sizeof(key), "p/%s", name);
	client_create(w, name, "first");
	sim_run_until(w->sim, NULL, NULL, MOMENT_NS);
	client_write(w, name, ours);
	crossed(w, OBJ_PUT, key, theirs);
	if (stats_get(conflicts) != before + made) {
		die(w, "not counted", name);
	}
	if (made && w->v->store->caps.fence_class == 1) {
		want_object(w, key, ours); /* it was written; what it covered is beside */
		want_told(w, name, theirs);
	} else if (made) {
		want_object(w, key, theirs);
		want_told(w, name, ours);
	}
}

static void name_of(unsigned i, char name[16])
{
	snprintf(name, 16, "f%u.doc", i);
}

static void open_quick(struct world *w, unsigned fence_class)
{
	world_open(w, fence_class, (int)fence_class);
	w->conf.settle_time_ns = NS_PER_S;
	w->conf.base_quiet_ns = 0; /* the only PUTs are of files */
}

static void many(unsigned fence_class)
{
	struct world w;
	char name[16];
	unsigned i;

	open_quick(&w, fence_class);
	for (i = 0; i < CONFLICTS_AN_HOUR; i++) {
		name_of(i, name);
		conflict(&w, i, name, true);
		client_unlink(&w, name);
	}
	if (reconcile_conflicts_held(w.v->reconcile)) {
		die(&w, "a hundred are too many", "");
	}
	name_of(i, name);
	conflict(&w, i, name, fence_class == 1); /* there it has happened; elsewhere it is not made */
	if (!reconcile_conflicts_held(w.v->reconcile)) {
		die(&w, "nothing stops the sending", "");
	}
	client_create(&w, "later", "waits");
	sim_run_until(w.sim, NULL, NULL, 5 * MINUTE_NS);
	daemon_restart(&w);
	sim_run_until(w.sim, NULL, NULL, 5 * MINUTE_NS);
	if (sim_object(w.sim, "p/later") != NULL) {
		die(&w, "it was sent", "later");
	}
	if (!reconcile_accept_conflicts(w.v->reconcile)) {
		die(&w, "nothing was held", "");
	}
	world_settle(&w);
	want_object(&w, "p/later", "waits");
	world_close(&w);
}

static void few(unsigned fence_class)
{
	struct world w;
	char name[16];

	open_quick(&w, fence_class);
	for (unsigned i = 0; i < CONFLICTS_AN_HOUR + 10; i++) {
		name_of(i, name);
		conflict(&w, i, name, true);
		client_unlink(&w, name);
		sim_run_until(w.sim, NULL, NULL, MINUTE_NS);
	}
	world_close(&w);
}

/* What the last conflict says of which file; the other one is called so, from its beginning, and is there. */
static void want_reason(struct world *w, const char *path, const char *other, const char *reason)
{
	json_t *list = reconcile_conflicts(w->v->reconcile, 1);
	const json_t *c = json_array_get(list, 0);
	const char *told = json_string_value(json_object_get(c, "path"));
	const char *copy = json_string_value(json_object_get(c, "copy"));
	const char *why = json_string_value(json_object_get(c, "reason"));
	struct stat st;

	if (told == NULL || strcmp(told, path) != 0) {
		die(w, "another path is told", told);
	}
	if (why == NULL || strcmp(why, reason) != 0) {
		die(w, "another reason is told", why);
	}
	if (copy == NULL || strncmp(copy, other, strlen(other)) != 0 ||
			fstatat(w->tree_fd, copy, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		die(w, "the other one is not called so", copy);
	}
	json_decref(list);
}

static void edits(void *arg, const struct obj_req *q)
{
	struct world *w = arg;

	if (q->op == OBJ_HEAD && sim_object_is(sim_object(w->sim, "p/one"), "ours")) {
		sim_edit(w->sim, "p/one", "theirs, and longer", true);
	}
}

/* The answer to a write is lost, and another tool edits what it has made before it is looked at: the conflict says so. */
static void edited(unsigned fence_class)
{
	struct world w;
	struct sim_watch watch = {.before = edits, .arg = &w};

	open_quick(&w, fence_class);
	client_create(&w, "one", "first");
	sim_run_until(w.sim, NULL, NULL, MOMENT_NS);
	client_write(&w, "one", "ours");
	sim_set_faults(w.sim, (struct sim_faults){.lost_answer = 1000});
	sending(&w, OBJ_PUT);
	while (!sim_object_is(sim_object(w.sim, "p/one"), "ours") && sim_step(w.sim)) {
	}
	sim_set_faults(w.sim, (struct sim_faults){0});
	sim_set_watch(w.sim, &watch);
	sim_run_until(w.sim, NULL, NULL, MOMENT_NS);
	sim_set_watch(w.sim, NULL);
	want_object(&w, "p/one", "theirs, and longer");
	want_told(&w, "one", "ours");
	want_reason(&w, "one", "one (conflict ", "another tool has changed it and kept its metadata, or put an older version back");
	world_close(&w);
}

struct first_again { /* another tool has the first version's metadata, and puts other bytes with them, once */
	struct world *w;
	struct obj_meta meta[16];
	unsigned meta_count;
	bool done;
};

static void puts_first_again(void *arg, const struct obj_req *q)
{
	struct first_again *f = arg;

	if (!f->done && q->op == OBJ_PUT && strstr(q->key, "one (conflict ") != NULL) {
		f->done = true;
		sim_put_with(f->w->sim, q->key, "edits", f->meta, f->meta_count);
	}
}

/* A file that has become a conflict copy is sent anew; what another tool puts to its key right then, with the metadata of
 * the file's first version and of its size, was not written here. */
static void first_again(unsigned fence_class)
{
	struct first_again f = {0};
	struct sim_watch watch = {.before = puts_first_again, .arg = &f};
	const struct sim_object *o;
	unsigned edits = 0, ours = 0;
	struct world w;

	open_quick(&w, fence_class);
	f.w = &w;
	client_create(&w, "one", "first");
	sim_run_until(w.sim, NULL, NULL, MOMENT_NS);
	o = sim_object(w.sim, "p/one");
	for (f.meta_count = 0; f.meta_count < o->meta_count; f.meta_count++) {
		f.meta[f.meta_count] = (struct obj_meta){strdup(o->meta[f.meta_count].name),
				strdup(o->meta[f.meta_count].value)};
	}
	sim_put(w.sim, "p/one", "theirs");
	sim_set_watch(w.sim, &watch);
	client_write(&w, "one", "ours!");
	sim_run_until(w.sim, NULL, NULL, MINUTE_NS);
	sim_set_watch(w.sim, NULL);
	for (o = sim_objects(w.sim); o != NULL; o = o->next) {
		edits += sim_object_is(o, "edits");
		ours += sim_object_is(o, "ours!");
	}
	if (!f.done || edits != 1 || ours != 1) {
		die(&w, f.done ? "taken for an earlier write of the file" : "no conflict copy is sent", "one");
	}
	want_object(&w, "p/one", "theirs");
	while (f.meta_count > 0) {
		free(f.meta[--f.meta_count].name);
		free(f.meta[f.meta_count].value);
	}
	world_close(&w);
}

/* Both names are those that clients see, where keys are no names. */
static void called(void)
{
	static const char path[] = "%~d%3A/%~12%3A30.doc", key[] = "p/d:/12:30.doc";
	struct world w;

	open_quick(&w, 1);
	client_mkdir(&w, "%~d%3A");
	client_create(&w, path, "first");
	sim_run_until(w.sim, NULL, NULL, MOMENT_NS);
	client_write(&w, path, "ours");
	crossed(&w, OBJ_PUT, key, "theirs");
	want_object(&w, key, "ours");
	want_reason(&w, path, "%~d%3A/%~12%3A30 (conflict ", "somebody else wrote it while this node did");
	client_unlink(&w, path);
	crossed(&w, OBJ_DELETE, key, "theirs, later");
	want_object(&w, key, "theirs, later");
	want_reason(&w, path, path, "somebody else wrote it while this node deleted it");
	world_close(&w);
}

/* Another tool has put the very bytes there that a client writes: nothing is to be kept apart; unless it has copied
 * another file's object, with all that says whose it is: on a new disk that would not be this file. */
static void same_bytes(bool another_files)
{
	int64_t before = stats_get(conflicts), rebased = stats_get(rebased);
	const struct sim_object *o;
	struct world w;

	open_quick(&w, 3);
	client_create(&w, "one", "same");
	client_create(&w, "two", "first");
	sim_run_until(w.sim, NULL, NULL, MOMENT_NS);
	client_write(&w, "two", "same");
	sending(&w, OBJ_PUT);
	o = sim_object(w.sim, "p/one");
	sim_put_with(w.sim, "p/two", "same", o->meta, another_files ? o->meta_count : 0);
	sim_run_until(w.sim, NULL, NULL, MOMENT_NS);
	want_object(&w, "p/two", "same");
	if (stats_get(conflicts) - before != another_files || stats_get(rebased) - rebased != !another_files) {
		die(&w, another_files ? "taken for the file's own" : "a conflict of the same bytes", "two");
	}
	if (another_files) {
		want_told(&w, "two", "same");
	}
	world_close(&w);
}

/* A file that S3 does not have, though it was once on its way there, gets a name by which an archived object was called
 * that stays under another key: it is new there, and no conflict with that object. false: it was sent before. */
static bool called_as_what_stays(unsigned moment)
{
	int64_t before = stats_get(conflicts);
	struct world w;
	bool more;

	open_quick(&w, 3);
	client_mkdir(&w, "d");
	client_create(&w, "d/x", "archived");
	sim_run_until(w.sim, NULL, NULL, MOMENT_NS);
	sim_object(w.sim, "p/d/x")->archived = true;
	client_rename(&w, "d/x", "one");
	sim_run_until(w.sim, NULL, NULL, MOMENT_NS);
	client_create(&w, "two", "new");
	sim_set_faults(w.sim, (struct sim_faults){.away = 1000});
	sending(&w, OBJ_PUT);
	sim_run_until(w.sim, NULL, NULL, NS_PER_S / 10);
	sim_set_faults(w.sim, (struct sim_faults){0});
	more = world_run(&w, moment) && sim_object(w.sim, "p/two") == NULL;
	client_rename(&w, "one", "three");
	client_rename(&w, "two", "one");
	world_settle(&w);
	if (stats_get(conflicts) != before) {
		die(&w, "a conflict with what stays", "one");
	}
	sim_object(w.sim, "p/d/x")->archived = false;
	sim_run_until(w.sim, NULL, NULL, 25 * 60 * MINUTE_NS);
	world_settle(&w);
	want_object(&w, "p/one", "new");
	want_object(&w, "p/three", "archived");
	world_close(&w);
	return more;
}

int main(void)
{
	unsigned moment = 0;

	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	called();
	edited(1);
	edited(3);
	first_again(1);
	first_again(2);
	first_again(3);
	same_bytes(false);
	same_bytes(true);
	while (called_as_what_stays(moment)) {
		moment++;
	}
	printf("called as what stays was called: %u moments\n", moment + 1);
	few(1);
	many(1);
	many(3);
	return 0;
}
