/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: cut the power at a moment (sim_cut.h).
 * Way: from sim_power.c and sim_others.c; the lossy disk, the simulator and the client say what has happened.
 * Thread: one.
 * Owns: the lossy disk, and who is called for the world's events and effects.
 * Holds:
 *  1. a moment that passes inside the daemon's code: that runs on to the end of its event, on a disk that does not change
 *     any more and before a store that does not hear, so nothing comes of it;
 *  2. a dead machine's disk stays still, whoever is taken apart on it.
 */
#include "sim_cut.h"
#include <string.h>

static const char *const loose[] = {"shm", "sim.rings", "index.db-shm", NULL};
static struct cut *cutting; /* the one whose disk it is */

static bool moment_passes(struct cut *c)
{
	return c->armed && ++c->moments == c->moment;
}

static void go(struct cut *c)
{
	c->gone = true;
	longjmp(c->env, 1);
}

/* Something is on the disk, or has been waited for. */
static void on_disk(void *arg)
{
	struct cut *c = arg;

	if (c->inside > 0 && !c->gone && moment_passes(c)) {
		c->gone = true;
		sim_dies(c->w->sim);
		lossy_still(true);
	}
}

static uint64_t changes_sent(const struct cut *c)
{
	const struct sim *s = c->w->sim;

	return sim_requests(s) - sim_requests_of(s, OBJ_GET) - sim_requests_of(s, OBJ_HEAD) - sim_requests_of(s, OBJ_LIST);
}

static void on_event(void *arg)
{
	struct cut *c = arg;
	uint64_t sent = changes_sent(c);

	if (c->armed && (c->gone || (sent != c->sent && moment_passes(c)))) {
		go(c);
	}
	c->sent = sent;
}

static void on_effect(void *arg)
{
	struct cut *c = arg;

	if (c->armed && c->gone) {
		go(c);
	}
	if (c->told != NULL) {
		c->told(c->arg);
	}
	if (moment_passes(c)) {
		go(c);
	}
}

static bool border_enter(void *arg, void (*fn)(void *fn_arg), void *fn_arg)
{
	struct cut *c = arg;

	c->inside++;
	fn(fn_arg);
	c->inside--;
	return true;
}

static int border_leave(void *arg)
{
	struct cut *c = arg;
	int was = (int)c->inside;

	c->inside = 0;
	return was;
}

static void border_back(void *arg, int was)
{
	((struct cut *)arg)->inside = (unsigned)was;
}

static bool border_request(void *arg, struct obj_req *q, bool after)
{
	(void)arg;
	(void)q;
	(void)after;
	return false;
}

static void still(bool on)
{
	lossy_still(on || cutting->gone);
}

void cut_begin(struct cut *c, struct world *w, void (*told)(void *arg), void *arg)
{
	*c = (struct cut){.w = w, .told = told, .arg = arg,
			.border = {border_enter, border_leave, border_back, border_request, c}};
	c->sent = changes_sent(c);
	cutting = c;
	sim_set_border(w->sim, &c->border);
	sim_set_step(w->sim, on_event, c);
	w->effect = on_effect;
	w->effect_arg = c;
	w->still = still;
	lossy_begin(w->root, loose, on_disk, c);
}

void cut_end(struct cut *c)
{
	lossy_end();
	c->w->still = NULL;
	c->w->effect = NULL;
	sim_set_step(c->w->sim, NULL, NULL);
	sim_set_border(c->w->sim, NULL);
	cutting = NULL;
}

void cut_in(struct cut *c, unsigned moment)
{
	c->moments = 0;
	c->moment = moment;
}

bool cut_run(struct cut *c, void (*fn)(void *arg), void *arg)
{
	c->armed = true;
	if (setjmp(c->env) == 0) {
		fn(arg);
	}
	c->armed = false;
	c->inside = 0;
	return c->gone;
}

bool cut_is_gone(const struct cut *c)
{
	return c->gone;
}

void cut_dies(struct cut *c)
{
	struct world *w = c->w;

	world_trace(w, "power cut", "", "");
	c->gone = true;
	sim_dies(w->sim);
	if (w->v != NULL) {
		daemon_kill(w);
	} else {
		sim_crash(w->sim);
	}
}

void cut_loses(struct cut *c, enum lossy_how how, uint64_t seed)
{
	lossy_cut(how, seed);
	c->gone = false;
}
