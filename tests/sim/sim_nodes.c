/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A node dies in the middle of a directory's rename, and another one is set up in its place, with an empty disk: it takes
 * the rename over, and serves. Then the first one's disk comes back, with all that it believed. The same small story for
 * every moment of the first one's work, and with the second one killed as well. In the end there is one name, nothing
 * waits, and every version of either node's clients is somewhere, once.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cached/base/log.h"
#include "sim_share.h"
#include "sim_tally.h"
#include "sim_tree.h"

#define SECOND "by the second node"

/* ---- what must be in the store ---- */

static void want_once(struct world *w, const char *text)
{
	if (store_count(w, "p/", text) != 1) {
		die(w, "once and only once", text);
	}
}

/* ---- the story ---- */

enum meanwhile {
	NOTHING,
	OLD_NAME, /* the second node's clients give the old name again */
	REPLACED, /* they overwrite a child */
	DELETED,  /* they delete one */
	RENAMED,  /* they rename the directory once more */
	MEANWHILES
};

/* Of the second node. */
static void clients_go_on(struct world *w, enum meanwhile what, bool renamed)
{
	const char *dir = renamed ? "m" : "a";
	char path[64];

	switch (what) {
	case OLD_NAME:
		if (renamed) {
			client_mkdir(w, "a");
		}
		client_create(w, renamed ? "a/one" : "a/new", SECOND);
		break;
	case REPLACED:
		snprintf(path, sizeof(path), "%s/one", dir);
		client_write(w, path, SECOND);
		break;
	case DELETED:
		snprintf(path, sizeof(path), "%s/b/two", dir);
		client_unlink(w, path);
		break;
	case RENAMED:
		client_rename(w, dir, "n");
		break;
	default:
		break;
	}
}

static void want_versions(struct world *w, enum meanwhile what)
{
	if (what != REPLACED) {
		want_once(w, "1");
	}
	if (what != DELETED) {
		want_once(w, "2");
	}
	want_once(w, "3");
	if (what == OLD_NAME || what == REPLACED) {
		want_once(w, SECOND);
	}
	want_nothing_half(w);
}

/* false: all was done before that moment. */
static bool taken_over(enum meanwhile what, bool killed, unsigned moment)
{
	struct world w;
	bool more, renamed;

	tree_open(&w, moment + 1);
	client_rename(&w, "a", "m");
	more = world_run(&w, moment);
	daemon_kill(&w);
	renamed = tree_is_renamed(&w);
	world_second_node(&w);
	if (killed) {
		world_run(&w, moment / 2);
		daemon_restart(&w);
		if (!world_wait_ready(&w, WORLD_DRAIN_NS)) {
			die(&w, "not ready", w.v->state_why);
		}
	}
	tree_model(&w, renamed);
	world_names(&w);
	sim_run_until(w.sim, NULL, NULL, 60 * NS_PER_S);
	clients_go_on(&w, what, renamed);
	world_drain(&w);
	want_versions(&w, what);
	daemon_kill(&w);
	world_first_node(&w);
	world_settle(&w);
	share_list(&w, 2);
	share_is_store(&w);
	want_versions(&w, what);
	world_close(&w);
	return more;
}

/* sim_nodes [WHAT KILLED MOMENT]: all, or one of them */
int main(int argc, char **argv)
{
	static const char *const names[MEANWHILES] = {
		[NOTHING] = "nothing else", [OLD_NAME] = "the old name is given again", [REPLACED] = "a child is overwritten",
		[DELETED] = "a child is deleted", [RENAMED] = "renamed once more"};

	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	if (argc == 4) {
		(void)taken_over((enum meanwhile)atoi(argv[1]), atoi(argv[2]) != 0, (unsigned)atoi(argv[3]));
		return 0;
	}
	for (unsigned what = 0; what < MEANWHILES; what++) {
		for (unsigned killed = 0; killed < 2; killed++) {
			unsigned moment = 0;

			while (taken_over((enum meanwhile)what, killed != 0, moment)) {
				moment++;
			}
			printf("%s%s: %u moments\n", names[what], killed ? ", the second one is killed" : "", moment + 1);
			fflush(stdout);
		}
	}
	tally_print();
	return 0;
}
