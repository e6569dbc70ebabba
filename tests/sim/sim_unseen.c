/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The daemon dies in a listing, at every moment of it: then a stub may have its name, and no row that was committed says
 * that it is here. Whatever another tool and a client do meanwhile, two listings later each name of the share is an
 * object, and can be read. Nobody who asks for the name is told that it is not there.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/mirror/mirror.h"
#include "sim_share.h"
#include "sim_tally.h"

#define COMMITTED_NS NS_PER_S /* after the answer: by then the rows are on the disk */

struct asked {
	struct world *w;
	bool answered;
	int status;
	int64_t at_ns;
};

static void on_answer(int status, const char *message, void *arg)
{
	struct asked *a = arg;

	(void)message;
	a->answered = true;
	a->status = status;
	a->at_ns = clock_now_ns(sim_clock(a->w->sim));
}

static bool is_over(const struct asked *a)
{
	return a->answered && clock_now_ns(sim_clock(a->w->sim)) > a->at_ns + COMMITTED_NS;
}

/* The daemon is killed at that moment of a listing; SIZE_MAX: once the stub has its name. false: it was over before. */
static bool killed_listing(struct world *w, size_t moment)
{
	struct asked a = {.w = w};
	bool more;

	mirror_list(w->v->mirror, 0, 1, openat(w->tree_fd, "a", O_RDONLY | O_DIRECTORY | O_CLOEXEC), true, on_answer, &a);
	while (moment == SIZE_MAX ? !share_has(w, "a/other") : moment-- > 0 && !is_over(&a)) {
		if (!sim_step(w->sim)) {
			die(w, "the listing has no end", "a");
		}
	}
	more = !is_over(&a);
	daemon_kill(w);
	return more;
}

/* ---- meanwhile ---- */

static void deleted(struct world *w)
{
	sim_remove(w->sim, "p/a/other");
}

static void replaced(struct world *w)
{
	sim_put(w->sim, "p/a/other", "theirs, and longer");
}

static void replaced_alike(struct world *w)
{
	sim_put(w->sim, "p/a/other", "theirs!");
}

static void edited(struct world *w)
{
	sim_put_with(w->sim, "p/a/other", "theirs, and longer", sim_object(w->sim, "p/a/one")->meta,
			sim_object(w->sim, "p/a/one")->meta_count);
}

static void moved(struct world *w)
{
	share_look(w);
	client_rename(w, "a", "d");
}

/* To a place where somebody has the name. */
static void moved_below(struct world *w)
{
	moved(w);
	edited(w);
	sim_put(w->sim, "p/d/other", "another");
}

static void renamed(struct world *w)
{
	share_look(w);
	if (share_has(w, "a/other")) {
		client_rename(w, "a/other", "c/other");
	}
}

static void written_beside(struct world *w)
{
	share_look(w);
	client_create(w, "a/beside", "beside");
}

struct story {
	const char *name;
	void (*meanwhile)(struct world *w);
	/* The daemon dies twice: once the stub has its name, and at that moment of the next listing. */
	void (*again)(struct world *w);
};

static const struct story stories[] = {
	{"deleted", deleted, NULL},
	{"its directory is moved to where its name is taken", moved_below, NULL},
	{"renamed", renamed, NULL},
	{"replaced, and killed again", replaced, written_beside},
	{"replaced by as many bytes, and killed again", replaced_alike, written_beside},
	{"replaced, and killed again, and deleted", replaced, deleted},
};

/* false: all was done before that moment. */
static bool tell(const struct story *s, size_t moment)
{
	struct world w;
	bool more;

	world_open(&w, 1, 3);
	w.others = true;
	client_mkdir(&w, "a");
	client_mkdir(&w, "c");
	client_create(&w, "a/one", "1");
	world_settle(&w);
	sim_put(w.sim, "p/a/other", "theirs.");
	more = killed_listing(&w, s->again == NULL ? moment : SIZE_MAX);
	s->meanwhile(&w);
	daemon_start(&w);
	if (s->again != NULL) {
		while (w.v->state != VOLUME_READY && sim_step(w.sim)) {
		}
		more = killed_listing(&w, moment);
		s->again(&w);
		daemon_start(&w);
	}
	world_settle(&w);
	share_list(&w, 2);
	share_is_store(&w);
	world_close(&w);
	return more;
}

static void ask_for_it(struct world *w, struct asked *a)
{
	*a = (struct asked){.w = w};
	mirror_lookup(w->v->mirror, 0, openat(w->tree_fd, "a", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "other", on_answer, a);
}

/* The name is asked for at that moment of another question for it; or after the daemon was killed then. false: that
 * was over before. */
static bool asked_twice(bool killed, size_t moment)
{
	struct asked first, then;
	struct world w;
	bool more;

	world_open(&w, 1, 3);
	w.others = true;
	client_mkdir(&w, "a");
	world_settle(&w);
	sim_put(w.sim, "p/a/other", "theirs.");
	ask_for_it(&w, &first);
	while (moment-- > 0 && !is_over(&first) && sim_step(w.sim)) {
	}
	more = !is_over(&first);
	if (killed) {
		daemon_restart(&w);
		while (w.v->state != VOLUME_READY && sim_step(w.sim)) {
		}
	}
	ask_for_it(&w, &then);
	while ((!then.answered || (!killed && !first.answered)) && sim_step(w.sim)) {
	}
	if (then.status != 0 || (!killed && first.status != 0) || !share_has(&w, "a/other")) {
		die(&w, "it is said not to be there", killed ? "a/other, killed" : "a/other");
	}
	world_settle(&w);
	share_list(&w, 1);
	share_is_store(&w);
	world_close(&w);
	return more;
}

int main(void)
{
	size_t moment;

	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
		for (moment = 0; tell(&stories[i], moment); moment++) {
		}
		printf("killed as a stub was made, %s: %zu moments\n", stories[i].name, moment + 1);
		fflush(stdout);
	}
	for (int killed = 0; killed < 2; killed++) {
		for (moment = 0; asked_twice(killed != 0, moment); moment++) {
		}
		printf("asked for twice%s: %zu moments\n", killed ? ", with a kill in between" : "", moment + 1);
	}
	tally_print();
	return 0;
}
