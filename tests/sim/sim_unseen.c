/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The daemon dies in a listing, at every moment of it: then a stub may have its name, and no row that was committed says
 * that it is here. Whatever another tool and a client do meanwhile, two listings later each name of the share is an
 * object, and can be read.
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
	int64_t at_ns;
};

static void on_listed(int status, const char *message, void *arg)
{
	struct asked *a = arg;

	(void)status;
	(void)message;
	a->answered = true;
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

	mirror_list(w->v->mirror, 0, 1, openat(w->tree_fd, "a", O_RDONLY | O_DIRECTORY | O_CLOEXEC), true, on_listed, &a);
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

int main(void)
{
	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
		size_t moment = 0;

		while (tell(&stories[i], moment)) {
			moment++;
		}
		printf("killed as a stub was made, %s: %zu moments\n", stories[i].name, moment + 1);
		fflush(stdout);
	}
	tally_print();
	return 0;
}
