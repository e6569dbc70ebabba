/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: objectfsctl top: what the daemon does now, from two readings of what it has done.
 * Way: objectfsctl.c -> here -> `status` and `sessions` of the daemon -> a sample -> print_top.c.
 * Thread: the only one. Owns: the readings; the terminal's mode, until the end.
 * Holds: 1. text is made from the JSON of a sample: both say the same;
 *        2. a daemon that was started anew between two readings gives no rate, never a negative one;
 *        3. however it ends, but for SIGKILL, the terminal is as it was.
 */
#include "top.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include "../base/stats.h"

#define PATIENCE_S 30u
#define SESSIONS_SHOWN 20u

struct reading {
	json_t *status, *sessions;
	int64_t at_ms;
};

static volatile sig_atomic_t stopped;

static void reading_done(struct reading *r)
{
	json_decref(r->status);
	json_decref(r->sessions);
	memset(r, 0, sizeof(*r));
}

static int ask_json(const char *socket, const char *word, json_t **answer)
{
	struct ctl_reply reply;
	int ret = ctl_ask_word(socket, word, PATIENCE_S, &reply);

	if (ret == 0 && (reply.status != 0 || !json_is_object(reply.json))) {
		ret = reply.status != 0 ? reply.status : -EBADMSG;
	}
	*answer = ret == 0 ? json_incref(reply.json) : NULL;
	ctl_reply_done(&reply);
	return ret;
}

static int reading_take(const char *socket, struct reading *r)
{
	int ret = ask_json(socket, "status", &r->status);

	if (ret == 0) {
		ret = ask_json(socket, "sessions", &r->sessions);
	}
	r->at_ms = ctl_now_ms();
	return ret;
}

/* ---- a sample ---- */

static double rate(const json_t *before, const json_t *after, const char *key, double seconds)
{
	double grown = json_number_value(json_object_get(after, key)) -
		       json_number_value(json_object_get(before, key));

	return grown > 0 && seconds > 0 ? grown / seconds : 0;
}

static json_t *sample_rates(const json_t *before, const json_t *after, double seconds)
{
	json_t *rates = json_object();

	for (unsigned i = 0; i < stats_row_count; i++) {
		if (stats_rows[i].kind == STATS_COUNTER) {
			json_object_set_new(rates, stats_rows[i].name,
					json_real(rate(before, after, stats_rows[i].name,
							seconds)));
		}
	}
	return rates;
}

/* Of what clients did, the part that needed nobody. */
static json_t *sample_here(const json_t *rates)
{
	static const struct {
		const char *what, *here, *away;
	} pairs[] = {{"opens", "opens_here", "opens_away"}, {"reads", "reads_here", "reads_away"},
			{"names", "names_here", "names_asked"},
			{"lists", "lists_here", "lists_asked"}};
	json_t *o = json_object();

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		double here = json_number_value(json_object_get(rates, pairs[i].here));
		double all = here + json_number_value(json_object_get(rates, pairs[i].away));

		json_object_set_new(
				o, pairs[i].what, all > 0 ? json_real(here / all) : json_null());
	}
	return o;
}

static json_t *sample_times(const json_t *before, const json_t *after, double seconds)
{
	json_t *all = json_object();

	for (unsigned i = 0; i < times_row_count; i++) {
		const struct times_row *r = &times_rows[i];
		const json_t *one = json_object_get(json_object_get(before, r->family), r->value);
		const json_t *two = json_object_get(json_object_get(after, r->family), r->value);
		double count = rate(one, two, "count", seconds);
		json_t *family = json_object_get(all, r->family);

		if (family == NULL) {
			family = json_object();
			json_object_set_new(all, r->family, family);
		}
		json_object_set_new(family, r->value,
				json_pack("{s:f, s:o}", "per_s", count, "mean_s",
						count > 0 ? json_real(rate(one, two, "seconds",
										      seconds) /
									    count)
							  : json_null()));
	}
	return all;
}

static const json_t *session_before(const json_t *list, const json_t *session)
{
	const json_t *s;
	size_t i;

	json_array_foreach(list, i, s)
	{
		if (number_of(s, "session") == number_of(session, "session")) {
			return s;
		}
	}
	return NULL;
}

static double session_did(const json_t *s)
{
	return json_number_value(json_object_get(s, "requests")) +
	       json_number_value(json_object_get(s, "opens")) +
	       (json_number_value(json_object_get(s, "read_bytes")) +
			       json_number_value(json_object_get(s, "write_bytes"))) / 65536;
}

static int session_compare(const void *a, const void *b)
{
	double one = session_did(*(json_t *const *)a), two = session_did(*(json_t *const *)b);

	return one < two ? 1 : one > two ? -1 : 0;
}

/* The busiest first. One that was not there before has done all it did since. */
static json_t *sample_sessions(const json_t *before, const json_t *after, double seconds)
{
	size_t count = json_array_size(after), i;
	json_t **rates = calloc(count + 1, sizeof(*rates)), *list = json_array();
	const json_t *s;

	json_array_foreach(after, i, s)
	{
		const json_t *b = session_before(before, s);

		if (rates == NULL) {
			break;
		}
		rates[i] = json_pack("{s:O, s:O, s:O, s:O, s:f, s:f, s:f, s:f}", "volume",
				json_object_get(s, "volume"), "pid", json_object_get(s, "pid"),
				"user", json_object_get(s, "user"), "address",
				json_object_get(s, "address"), "requests",
				rate(b, s, "requests", seconds), "opens",
				rate(b, s, "opens_here", seconds) +
						rate(b, s, "opens_away", seconds),
				"read_bytes", rate(b, s, "client_read_bytes", seconds),
				"write_bytes", rate(b, s, "client_write_bytes", seconds));
	}
	if (rates != NULL) {
		qsort(rates, count, sizeof(*rates), session_compare);
	}
	for (i = 0; rates != NULL && i < count; i++) {
		if (i < SESSIONS_SHOWN) {
			json_array_append(list, rates[i]);
		}
		json_decref(rates[i]);
	}
	free(rates);
	return list;
}

static json_t *sample_make(const struct reading *before, const struct reading *after)
{
	const json_t *one = before->status, *two = after->status;
	double seconds = (double)(after->at_ms - before->at_ms) / 1000;
	json_t *rates, *o;

	if (number_of(one, "pid") != number_of(two, "pid")) {
		one = two;
	}
	rates = sample_rates(json_object_get(one, "counters"), json_object_get(two, "counters"),
			seconds);
	o = json_pack("{s:s, s:f, s:f, s:o, s:o, s:o, s:o, s:O, s:I}", "version",
			text_of(two, "version"), "uptime_s",
			json_number_value(json_object_get(two, "uptime_s")), "seconds", seconds,
			"rates", rates, "here", sample_here(rates), "times",
			sample_times(json_object_get(one, "times"), json_object_get(two, "times"),
					seconds),
			"sessions",
			sample_sessions(json_object_get(one == two ? after->sessions
								   : before->sessions,
							"sessions"),
					json_object_get(after->sessions, "sessions"), seconds),
			"volumes", json_object_get(two, "volumes"), "connected",
			(json_int_t)number_of(after->sessions, "count"));
	return o;
}

/* ---- the terminal ---- */

static void on_stop(int signal)
{
	(void)signal;
	stopped = 1;
}

/* Keys come at once, and are not shown. false: there is no keyboard. */
static bool keys_open(struct termios *before)
{
	struct sigaction act = {.sa_handler = on_stop};
	struct termios raw;

	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGHUP, &act, NULL);
	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, before) != 0) {
		return false;
	}
	raw = *before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	return tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

/* true: q was pressed, or a signal came. */
static bool wait_or_quit(int64_t ms, bool keys)
{
	int64_t until = ctl_now_ms() + ms, left;
	struct pollfd p = {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN};
	char key;

	while (!stopped && (left = until - ctl_now_ms()) > 0) {
		if (poll(&p, 1, (int)left) > 0) {
			if (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q') {
				return true;
			}
		}
	}
	return stopped;
}

/* ---- the command ---- */

static int sample_answer(const json_t *sample, bool json, bool screen)
{
	if (json) {
		json_dumpf(sample, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		printf("%s", screen ? "\033[H\033[J" : "");
		print_top(sample);
	}
	return fflush(stdout) == 0 ? CTL_EXIT_OK : CTL_EXIT_FAILED;
}

static int top_run(const char *socket, const struct ctl_options *o, int64_t interval_ms,
		bool screen, bool keys)
{
	struct reading before = {0}, after = {0};
	int ret = reading_take(socket, &before), status = CTL_EXIT_OK;

	while (ret == 0 && !wait_or_quit(interval_ms, keys)) {
		json_t *sample;

		ret = reading_take(socket, &after);
		if (ret != 0) {
			break;
		}
		sample = sample_make(&before, &after);
		status = sample != NULL ? sample_answer(sample, o->json, screen) : CTL_EXIT_FAILED;
		json_decref(sample);
		reading_done(&before);
		before = after;
		memset(&after, 0, sizeof(after));
		if (!screen || status != CTL_EXIT_OK) {
			break;
		}
	}
	reading_done(&before);
	reading_done(&after);
	return ret != 0 ? ctl_report_away(socket, o, ret) : status;
}

int ctl_top(const struct ctl_options *o, const struct words *w)
{
	const char *interval = words_option(w, "--interval");
	int64_t interval_ms = interval != NULL ? (int64_t)(strtod(interval, NULL) * 1000) : 1000;
	bool screen = isatty(STDOUT_FILENO) && !o->json && words_option(w, "--once") == NULL;
	char *socket = o->socket != NULL ? strdup(o->socket) : ctl_socket_of(o->conf);
	struct termios before;
	bool keys = screen && keys_open(&before);
	int ret;

	if (socket == NULL) {
		return CTL_EXIT_FAILED;
	}
	ret = top_run(socket, o, interval_ms < 100 ? 100 : interval_ms, screen, keys);
	if (keys) {
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &before);
	}
	free(socket);
	return ret;
}
