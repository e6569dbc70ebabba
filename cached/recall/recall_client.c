/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: who causes GETs, how many of them at a time, and how many bytes a minute.
 * Way: recall.c takes a reference for a reader or a wait, recall_fetch.c asks before each GET.
 * Thread: core.
 * Owns: one struct for each smbd process (a client machine) that reads stubs, until nothing refers to
 *       it and its budget is whole again.
 * Holds: 1. a client without a GET may always have one: its first byte takes one request's time,
 *           whatever others do (until FETCH_OVER times the volume's number are in flight);
 *        2. one over its budget is slowed, never refused: a read waits CLIENT_SLOW_NS at most, which is
 *           less than smbd's patience.
 */
#include "recall_private.h"

#define CLIENT_SLOW_NS (10 * NS_PER_S)
#define CLIENT_MINUTE_NS (60 * NS_PER_S)

static double client_budget(const struct recall_client *c)
{
	return (double)c->rs->v->conf->recall_budget_bytes;
}

/* What has come since is added; never more than a minute's worth, nor less than that is owed. */
static void client_refill(struct recall_client *c)
{
	int64_t now = clock_now_ns(c->rs->v->clock);
	double budget = client_budget(c);

	c->left = c->left < -budget ? -budget : c->left;
	c->left += budget * (double)(now - c->since_ns) / (double)CLIENT_MINUTE_NS;
	c->left = c->left > budget ? budget : c->left;
	c->since_ns = now;
}

static void client_sweep(struct recalls *rs)
{
	struct recall_client **pp = &rs->clients, *c;

	while ((c = *pp) != NULL) {
		client_refill(c);
		if (c->refs == 0 && c->left >= client_budget(c)) {
			*pp = c->next;
			talloc_free(c);
		} else {
			pp = &c->next;
		}
	}
}

struct recall_client *recall_client_get(struct recalls *rs, uint64_t id)
{
	struct recall_client *c;

	for (c = rs->clients; c != NULL && c->id != id; c = c->next) {
	}
	if (c == NULL) {
		client_sweep(rs);
		c = talloc_zero(rs, struct recall_client);
		c->rs = rs;
		c->id = id;
		c->since_ns = clock_now_ns(rs->v->clock);
		c->left = client_budget(c);
		c->next = rs->clients;
		rs->clients = c;
	}
	c->refs++;
	return c;
}

struct recall_client *recall_client_again(struct recall_client *c)
{
	c->refs++;
	return c;
}

void recall_client_put(struct recall_client *c)
{
	c->refs--;
}

bool recall_client_is_over(struct recall_client *c)
{
	if (client_budget(c) == 0 || c->id == RECALL_CLIENT_OWN) {
		return false;
	}
	client_refill(c);
	return c->left <= 0;
}

bool recall_client_slows(struct recall_wait *w)
{
	struct recalls *rs = w->client->rs;

	if (!recall_client_is_over(w->client) ||
			clock_now_ns(rs->v->clock) - w->since_ns >= CLIENT_SLOW_NS) {
		return false;
	}
	if (!w->slowed) {
		w->slowed = true;
		stats_add(recalls_slowed, 1);
	}
	return true;
}

void recall_client_pay(struct recall_client *c, int64_t bytes)
{
	c->left -= (double)bytes;
	c->running++;
}

/* Most GETs at a time of one client: a quarter of the volume's number is left to others. */
static unsigned client_most(const struct recalls *rs)
{
	unsigned most = rs->v->conf->parallel_fetches;

	return most - most / 4;
}

bool recall_client_may(const struct recall_client *c, bool file_idle)
{
	const struct recalls *rs = c->rs;
	unsigned most = rs->v->conf->parallel_fetches;

	if (rs->running < most && c->running < client_most(rs)) {
		return true;
	}
	if (c->running == 0) {
		return rs->running < FETCH_OVER * most;
	}
	return file_idle && rs->running < FETCH_OVER / 2 * most && c->running < 2 * client_most(rs);
}

json_t *recalls_json(struct recalls *rs)
{
	json_int_t clients = 0, over = 0, files = 0;
	struct recall_client *c;
	struct recall *r;

	client_sweep(rs);
	for (c = rs->clients; c != NULL; c = c->next) {
		clients += c->refs > 0;
		over += recall_client_is_over(c);
	}
	for (r = rs->list; r != NULL; r = r->next) {
		files += r->waits != NULL;
	}
	return json_pack("{s:I, s:I, s:I, s:I}", "requests", (json_int_t)rs->running, "files", files,
			"clients", clients, "clients_over_budget", over);
}
