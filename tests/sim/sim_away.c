/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * S3 is away for a day. Clients go on, the daemon is killed or not: a change a second at most finds out whether the store
 * is back, whatever waits; once it is back everything is there within minutes, what came first is sent first, and the
 * store holds what clients left.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cached/base/log.h"
#include "sim_world.h"

#define HOUR_NS (3600 * NS_PER_S)
#define HOURS 24u
#define OLD_FILES 120u
#define NEW_AN_HOUR 10u
/* Of an hour: a try each second, a directory's base each four at most, and the bucket's own questions. */
#define REQUESTS_MOST (3600u + 900u + 150u)
#define REQUESTS_LEAST 60u /* else nobody finds out */
#define BACK_NS (15 * 60 * NS_PER_S)
/* Those sent at the same time may change places; so may, by more, the few of which the store was asked when it came back. */
#define ABREAST 32u
#define ASKED (HOURS * NEW_AN_HOUR / 20)

struct day {
	struct world w;
	struct sim_watch watch;
	unsigned sent, astray; /* new files whose PUT was begun; far from where they came */
	bool done[HOURS * NEW_AN_HOUR];
};

static bool never(void *arg)
{
	(void)arg;
	return false;
}

static void on_request(void *arg, const struct obj_req *q)
{
	struct day *d = arg;
	unsigned n;

	if (q->op != OBJ_PUT || sscanf(q->key, "p/new/%u", &n) != 1 || n >= HOURS * NEW_AN_HOUR || d->done[n]) {
		return;
	}
	d->done[n] = true;
	d->astray += n > d->sent + ABREAST || n + ABREAST < d->sent;
	d->sent++;
}

static void change(struct day *d, unsigned hour)
{
	struct world *w = &d->w;
	char path[32], to[32];

	for (unsigned i = 0; i < NEW_AN_HOUR; i++) {
		snprintf(path, sizeof(path), "new/%u", hour * NEW_AN_HOUR + i);
		client_create(w, path, path);
		(void)sim_run_until(w->sim, never, NULL, 10 * NS_PER_S);
	}
	for (unsigned i = hour; i < OLD_FILES; i += HOURS) {
		snprintf(path, sizeof(path), "old/%u", i);
		switch (i / HOURS) {
		case 0:
			client_unlink(w, path);
			break;
		case 1:
			snprintf(to, sizeof(to), "new/was %u", i);
			client_rename(w, path, to);
			break;
		case 2:
			client_set_time(w, path);
			break;
		default:
			snprintf(to, sizeof(to), "hour %u", hour);
			client_write(w, path, to);
		}
	}
}

static void hour_passes(struct day *d, unsigned hour, bool killed)
{
	struct world *w = &d->w;
	uint64_t before = sim_requests(w->sim), made;

	change(d, hour);
	(void)sim_run_until(w->sim, never, NULL, HOUR_NS - NEW_AN_HOUR * 10 * NS_PER_S);
	made = sim_requests(w->sim) - before;
	if (!killed && (made > REQUESTS_MOST || made < REQUESTS_LEAST)) { /* the twin's start waits less than a daemon's */
		fprintf(stderr, "hour %u: %llu requests\n", hour, (unsigned long long)made);
		die(w, "an hour without the store makes too many requests, or too few", "");
	}
}

static void away(uint64_t seed, int fence_class, unsigned kill_each)
{
	struct day *d = calloc(1, sizeof(*d));
	struct world *w;
	char path[32];

	if (d == NULL) {
		abort();
	}
	w = &d->w;
	world_open(w, seed, fence_class);
	client_mkdir(w, "old");
	client_mkdir(w, "new");
	for (unsigned i = 0; i < OLD_FILES; i++) {
		snprintf(path, sizeof(path), "old/%u", i);
		client_create(w, path, "before");
	}
	world_drain(w);
	sim_set_faults(w->sim, (struct sim_faults){.away = 1000});
	for (unsigned hour = 0; hour < HOURS; hour++) {
		if (kill_each > 0 && hour % kill_each == kill_each - 1) {
			daemon_restart(w);
		}
		hour_passes(d, hour, kill_each > 0 && hour + 1 >= kill_each);
	}
	d->watch = (struct sim_watch){.before = on_request, .arg = d};
	sim_set_watch(w->sim, &d->watch);
	sim_set_faults(w->sim, (struct sim_faults){0});
	(void)sim_run_until(w->sim, never, NULL, BACK_NS);
	sim_set_watch(w->sim, NULL);
	if (!world_is_drained(w)) {
		die(w, "a quarter of an hour later something is not in the store", "");
	}
	world_verify(w);
	if (d->sent != HOURS * NEW_AN_HOUR) {
		die(w, "not every new file was sent once the store was back", "");
	}
	if (kill_each == 0 && d->astray > ASKED) {
		die(w, "what came later is sent before what waits", "");
	}
	world_close(w);
	free(d);
}

int main(void)
{
	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	away(1, 3, 0);
	away(2, 2, 5);
	away(5, 1, 7);
	return 0;
}
