/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: the tree and the store of sim_tree.h.
 * Way: from the sim programs that tell one small story for every moment of the daemon's work. Thread: one. Owns: nothing.
 * Holds: what fails here ends the program and names the seed.
 */
#include "sim_tree.h"
#include <string.h>

#define RENAMES "p/.objectfs/rename/"

void tree_open(struct world *w, unsigned seed)
{
	world_open(w, seed, seed % 2 == 0 ? 3 : 2);
	client_mkdir(w, "a");
	client_mkdir(w, "a/b");
	client_create(w, "a/one", "1");
	client_create(w, "a/b/two", "2");
	client_create(w, "a/b/three", "3");
	world_drain(w);
}

bool tree_is_renamed(struct world *w)
{
	return store_is_renaming(w) || sim_object(w->sim, "p/m/b/three") != NULL;
}

void tree_model(struct world *w, bool renamed)
{
	strcpy(w->dirs[0], renamed ? "m" : "a");
	strcpy(w->dirs[1], renamed ? "m/b" : "a/b");
	for (unsigned i = 0; i < w->file_count; i++) {
		w->files[i].path[0] = renamed ? 'm' : 'a';
	}
}

static const struct sim_object *first_below(struct world *w, const char *prefix)
{
	const struct sim_object *o = sim_objects(w->sim);

	while (o != NULL && strncmp(o->key, prefix, strlen(prefix)) != 0) {
		o = o->next;
	}
	return o;
}

bool store_is_renaming(struct world *w)
{
	return first_below(w, RENAMES) != NULL;
}

unsigned store_count(struct world *w, const char *prefix, const char *text)
{
	unsigned n = 0;

	for (const struct sim_object *o = sim_objects(w->sim); o != NULL; o = o->next) {
		n += strncmp(o->key, prefix, strlen(prefix)) == 0 && sim_object_is(o, text);
	}
	return n;
}

void want_object(struct world *w, const char *key, const char *text)
{
	const struct sim_object *o = sim_object(w->sim, key);

	if (!sim_object_is(o, text)) {
		die(w, o != NULL ? "other bytes" : "not there", key);
	}
}

void want_none_below(struct world *w, const char *prefix)
{
	const struct sim_object *o = first_below(w, prefix);

	if (o != NULL) {
		die(w, "left behind", o->key);
	}
}

void want_nothing_half(struct world *w)
{
	want_none_below(w, RENAMES);
	want_none_below(w, "p/.objectfs/stage/");
}
