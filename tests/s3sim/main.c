/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * s3sim: an S3 server for tests, with AWS's exact conditions, and faults to order. What is where: tests/README.md.
 *
 * Way:    tests/lib/s3sim.py starts it for a testbed; or by hand, see --help.
 * Thread: one, which everything runs on.
 * Holds:  1. It serves once it has printed the line "s3sim serves ...".
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "req.h"
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "control.h"

static const char usage[] =
		"usage: s3sim [OPTION ...]\n"
		"  --listen HOST:PORT     127.0.0.1:9000\n"
		"  --key ACCESS:SECRET    may be given more than once\n"
		"  --bucket NAME          exists from the beginning; more than once\n"
		"  --versioned            buckets made so far keep versions\n"
		"  --fence f0|f1|f2|f3    what conditions it honours; f3: all\n"
		"  --set NAME=NUMBER      rtt_us, bytes_s, all_bytes_s, requests_s, clock_s, restore_ms, part_min_bytes,\n"
		"                         bare_etags, silent_complete\n"
		"  --control PORT         what can be changed while it runs: the head of control.c\n"
		"  --region NAME          us-east-1\n"
		"  --domain NAME          buckets are also names below it: s3.localhost\n"
		"  --log FILE             a line for each request\n"
		"SIGUSR1: away, all connections cut; SIGUSR2: there again, with all it has.\n";

static volatile sig_atomic_t ending, away;

static void on_signal(int number)
{
	if (number == SIGUSR1 || number == SIGUSR2) {
		away = number == SIGUSR1;
	} else {
		ending = 1;
	}
}

static void die(const char *what, const char *why)
{
	fprintf(stderr, "s3sim: %s: %s\n", what, why);
	exit(2);
}

static void add_key(struct sim *s, char *text)
{
	char *secret = strchr(text, ':');

	if (secret == NULL || secret == text || secret[1] == '\0') {
		die("--key", "not ACCESS:SECRET");
	}
	*secret++ = '\0';
	if (credential_add(s, text, secret, "") == NULL) {
		die("--key", "out of memory");
	}
}

static void set_one(struct sim *s, char *text)
{
	char *value = strchr(text, '='), *end;
	long long number = value == NULL ? 0 : strtoll(value + 1, &end, 10);

	if (value == NULL || end == value + 1 || *end != '\0') {
		die("--set", "not NAME=NUMBER");
	}
	*value = '\0';
	if (!control_set(s, text, number)) {
		die("--set", "no such setting");
	}
}

static void read_options(struct sim *s, int argc, char **argv, char **host, unsigned *port)
{
	static const struct option options[] = { { "listen", 1, NULL, 'l' }, { "key", 1, NULL, 'k' },
		{ "bucket", 1, NULL, 'b' }, { "versioned", 0, NULL, 'v' }, { "fence", 1, NULL, 'f' },
		{ "region", 1, NULL, 'r' }, { "domain", 1, NULL, 'd' },
		{ "log", 1, NULL, 'L' }, { "set", 1, NULL, 's' }, { "control", 1, NULL, 'c' }, { "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	char *colon;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (option) {
		case 'l':
			colon = strrchr(optarg, ':');
			if (colon == NULL || atoi(colon + 1) <= 0 || atoi(colon + 1) > 65535) {
				die("--listen", "not HOST:PORT");
			}
			*port = (unsigned)atoi(colon + 1);
			*host = talloc_strndup(s, optarg, (size_t)(colon - optarg));
			break;
		case 'k':
			add_key(s, optarg);
			break;
		case 'b':
			if (store_bucket(s->store, optarg) == NULL &&
					store_bucket_add(s->store, optarg, now_ns(s)) == NULL) {
				die("--bucket", "out of memory");
			}
			break;
		case 'v':
			for (struct bucket *b = s->store->buckets; b != NULL; b = b->next) {
				b->versioning = VERSIONS_ON;
			}
			break;
		case 'f':
			if (!settings_fence(&s->set, optarg)) {
				die("--fence", "none of f0, f1, f2, f3");
			}
			break;
		case 's':
			set_one(s, optarg);
			break;
		case 'c':
			if (control_start(s, (unsigned)atoi(optarg)) != 0) {
				die("--control", "cannot be served there");
			}
			break;
		case 'r':
			s->region = optarg;
			break;
		case 'd':
			s->domain = optarg;
			break;
		case 'L':
			s->log = fopen(optarg, "ae");
			if (s->log == NULL) {
				die(optarg, strerror(errno));
			}
			break;
		default:
			fputs(usage, option == 'h' ? stdout : stderr);
			exit(option == 'h' ? 0 : 2);
		}
	}
	if (optind < argc) {
		die(argv[optind], "not an option");
	}
}

/* As a server whose machine is off: nothing listens, and every connection is cut. */
static void be_away_or_not(struct sim *s, const char *host, unsigned port)
{
	if (away && s->daemon != NULL) {
		server_stop(s);
	} else if (!away && s->daemon == NULL && server_start(s, host, port) != 0) {
		die("--listen", "cannot be served there");
	}
}

static void serve(struct sim *s, const char *host, unsigned port)
{
	sigset_t none;

	sigemptyset(&none);
	while (!ending) {
		struct pollfd fds[] = { { .fd = server_fd(s), .events = POLLIN }, { .fd = control_fd(s), .events = POLLIN } };
		int64_t patience = server_patience(s), other = control_patience(s);

		patience = patience < 0 || (other >= 0 && other < patience) ? other : patience;
		const struct timespec limit = { .tv_sec = patience / 1000000000, .tv_nsec = patience % 1000000000 };

		if (patience != 0 && s->log != NULL) {
			fflush(s->log);
		}
		ppoll(fds, 2, patience < 0 ? NULL : &limit, &none);
		control_run(s);
		server_run(s);
		be_away_or_not(s, host, port);
	}
}

int main(int argc, char **argv)
{
	struct sim *s = talloc_zero(NULL, struct sim);
	struct sigaction action = { .sa_handler = on_signal };
	char *host = "127.0.0.1";
	unsigned port = 9000;
	static const int signals[] = { SIGTERM, SIGINT, SIGUSR1, SIGUSR2 };
	sigset_t held;

	s->set = (struct settings){ .restore_ms = 1000, .part_min_bytes = 5 << 20 };
	settings_fence(&s->set, "f3");
	s->region = "us-east-1";
	s->domain = "s3.localhost";
	s->store = store_new(s);
	if (s->store == NULL) {
		die("start", "out of memory");
	}
	read_options(s, argc, argv, &host, &port);
	sigemptyset(&held);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		sigaddset(&held, signals[i]);
		sigaction(signals[i], &action, NULL);
	}
	sigprocmask(SIG_BLOCK, &held, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (server_start(s, host, port) != 0) {
		die("--listen", "cannot be served there");
	}
	printf("s3sim serves http://%s:%u\n", host, port);
	fflush(stdout);
	serve(s, host, port);
	server_stop(s);
	control_stop(s);
	if (s->log != NULL) {
		fclose(s->log);
	}
	talloc_free(s);
	return 0;
}
