/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: read the configuration, build the rooms in order, run the loop, tear down in reverse.
 * Way: the command line -> conf -> cache directory -> doors -> volumes -> socket -> http -> loop.
 * Thread: this is the core thread. Owns: struct core, the loop, the signal descriptor.
 * Holds: (1) every signal the daemon knows is blocked before the first thread starts and read from
 * one signalfd: nothing is interrupted, no handler runs. (2) Without --foreground the parent exits
 * only once the socket serves, with the child's status if it never does.
 *
 *  start -> [daemonise] -> core_open -> volumes_start -> (serving) -> SIGTERM -> core_close
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/conf.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/pace.h"
#include "base/stats.h"
#include "core/core.h"
#include "http/http.h"
#include "reconcile/reconcile.h"
#include "shared/version.h"

#define EXIT_CONF 2 /* configuration or usage */

struct options {
	const char *conf;
	int log_format; /* -1: as configured */
	bool foreground, check, version;
};

struct daemon {
	struct core *core;
	int signal_fd;
	bool stop;
};

static void usage(FILE *to)
{
	fprintf(to, "usage: objectfs-cached [-c FILE] [--foreground] [--log-format FORMAT]\n"
		    "                       [--check-config] [--version]\n"
		    "  -c, --config FILE  configuration, default " CONF_PATH_DEFAULT "\n"
		    "  -F, --foreground   stay in the foreground\n"
		    "      --log-format   text or json, instead of log format in FILE\n"
		    "      --check-config read the configuration, say what is wrong, and exit\n"
		    "      --version      say the version, and exit\n");
}

static bool options_parse(struct options *o, int argc, char **argv)
{
	static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
			{"foreground", no_argument, NULL, 'F'},
			{"log-format", required_argument, NULL, 'l'},
			{"check-config", no_argument, NULL, 'k'},
			{"version", no_argument, NULL, 'V'}, {"help", no_argument, NULL, 'h'},
			{NULL, 0, NULL, 0}};
	int c;

	o->conf = CONF_PATH_DEFAULT;
	o->log_format = -1;
	while ((c = getopt_long(argc, argv, "c:Fh", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->conf = optarg;
			break;
		case 'F':
			o->foreground = true;
			break;
		case 'l':
			if (strcmp(optarg, "text") != 0 && strcmp(optarg, "json") != 0) {
				usage(stderr);
				return false;
			}
			o->log_format = strcmp(optarg, "json") == 0 ? LOG_FORMAT_JSON
								    : LOG_FORMAT_TEXT;
			break;
		case 'k':
			o->check = true;
			break;
		case 'V':
			o->version = true;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			return false;
		}
	}
	if (optind < argc) {
		usage(stderr);
		return false;
	}
	return true;
}

/* ---- background ---- */

/* The parent waits for one byte: the exit status it passes on. A child that dies says nothing. */
static int daemonise(int *ready_fd)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) != 0) {
		return -errno;
	}
	pid = fork();
	if (pid < 0) {
		return -errno;
	}
	if (pid > 0) {
		unsigned char status = 1;
		ssize_t n;

		close(fds[1]);
		do {
			n = read(fds[0], &status, 1);
		} while (n < 0 && errno == EINTR);
		_exit(n == 1 ? status : 1);
	}
	close(fds[0]);
	(void)setsid();
	*ready_fd = fds[1];
	return chdir("/") != 0 ? -errno : 0;
}

/* It serves: let the parent go, and let go of the terminal. */
static void daemon_serves(int *ready_fd, bool log_is_stderr)
{
	int null;

	if (*ready_fd < 0) {
		return;
	}
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		(void)dup2(null, STDIN_FILENO);
		(void)dup2(null, STDOUT_FILENO);
		if (!log_is_stderr) {
			(void)dup2(null, STDERR_FILENO);
		}
		close(null);
	}
	if (write(*ready_fd, "\0", 1) != 1) {
		log_debug("core", "nobody waits for the start");
	}
	close(*ready_fd);
	*ready_fd = -1;
}

/* ---- the service manager ---- */

static long long monotonic_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000LL + ts.tv_nsec / 1000;
}

/* From the core's own loop and nowhere else: when that stands still, no more comes, and the service
 * manager starts the daemon again. */
static void watchdog_feed(void *arg)
{
	struct core *core = arg;
	int64_t limit_ns = notify_watchdog_ns();

	if (limit_ns == 0) {
		return;
	}
	notify_send("WATCHDOG=1\nSTATUS=%u volume%s, %lld pending", core->volume_count,
			core->volume_count == 1 ? "" : "s", (long long)stats_get(pending));
	if (clock_timer_add(core->clock, core, clock_now_ns(core->clock) + limit_ns / 3,
			    watchdog_feed, core) == NULL) {
		log_error("core", "out of memory: the service manager will start the daemon again");
	}
}

/* ---- signals ---- */

static int signals_block(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGIO);
	for (int s = SIGRTMIN; s <= SIGRTMAX; s++) {
		sigaddset(&set, s);
	}
	(void)signal(SIGPIPE, SIG_IGN);
	return sigprocmask(SIG_BLOCK, &set, NULL) != 0 ? -errno : 0;
}

static int signals_open(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGIO);
	sigaddset(&set, SIGRTMIN);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static void signal_take(struct daemon *d, const struct signalfd_siginfo *si)
{
	struct core *core = d->core;
	int ret;

	if ((int)si->ssi_signo == SIGRTMIN) {
		for (unsigned i = 0; i < core->volume_count; i++) {
			(void)log_enter(core->volumes[i]->log);
			reconcile_lease_broken(core->volumes[i]->reconcile, si->ssi_fd);
		}
		(void)log_enter(NULL);
		return;
	}
	switch ((int)si->ssi_signo) {
	case SIGTERM:
	case SIGINT:
		log_notice("core", "stopping, on a signal of process %u", si->ssi_pid);
		d->stop = true;
		break;
	case SIGHUP:
		notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", monotonic_us());
		ret = log_open(core->conf->global.log_file, log_level_of(NULL));
		if (ret != 0) {
			log_error("core", "%s: %s", core->conf->global.log_file, strerror(-ret));
		}
		log_notice("core", "log reopened");
		notify_send("READY=1");
		break;
	case SIGIO:
		/* The queue of real-time signals was full: an upload finds out at its end. */
		log_warning("core", "lease breaks came faster than they were read");
		break;
	default:
		break;
	}
}

static void on_signal(struct tevent_context *ev, struct tevent_fd *fde, uint16_t flags, void *arg)
{
	struct daemon *d = arg;
	struct signalfd_siginfo si;

	(void)ev;
	(void)fde;
	(void)flags;
	while (read(d->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		signal_take(d, &si);
	}
}

/* ---- up and down ---- */

static int64_t core_busy_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static int core_loop(struct daemon *d)
{
	int64_t before = core_busy_ns(), now;

	while (!d->stop) {
		if (tevent_loop_once(d->core->ev) != 0) {
			log_error("core", "the event loop failed: %s", strerror(errno));
			return -EIO;
		}
		now = core_busy_ns();
		times_add(core, turn, now - before);
		before = now;
	}
	return 0;
}

static int64_t boottime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return timespec_ns(ts);
}

/* The service manager starts us at once, however often we die: waiting is ours. false: told to stop meanwhile. */
static bool pace(const char *run_directory)
{
	unsigned count = pace_count(run_directory, boottime_ns());
	int64_t wait_ns = pace_wait_ns(count);
	struct timespec wait = {.tv_sec = wait_ns / NS_PER_S, .tv_nsec = wait_ns % NS_PER_S};
	sigset_t stops;
	int got = -1, ret;

	sigemptyset(&stops);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGINT);
	if (wait_ns > 0) {
		log_warning("core", "the daemon has ended %u times, each within a minute of its start: this one begins in "
				    "%.2f s. Why it ends is in the lines before, or in the service manager's journal",
				count, (double)wait_ns / NS_PER_S);
		notify_send("STATUS=has ended %u times; begins in %.2f s", count, (double)wait_ns / NS_PER_S);
		got = sigtimedwait(&stops, NULL, &wait);
	}
	ret = got > 0 ? 0 : pace_begin(run_directory, count, boottime_ns());
	if (ret != 0 && ret != -ENOENT) { /* the first start makes the directory */
		log_warning("core", "%s/starts: %s", run_directory, strerror(-ret));
	}
	return got <= 0;
}

static int run(struct core *core, int *ready_fd)
{
	struct daemon d = {.core = core, .signal_fd = -1};
	struct tevent_fd *fde = NULL;
	const char *run_directory = core->conf->global.run_directory;
	char *error = NULL;
	int ret;

	if (notify_open() && !pace(run_directory)) {
		notify_close();
		return 0;
	}
	privs_raise_limits();
	privs_drop(core->conf->global.core_dumps);
	ret = core_open(core, &error);
	if (ret == 0) {
		d.signal_fd = signals_open();
		ret = d.signal_fd < 0 ? d.signal_fd : 0;
	}
	if (ret == 0) {
		fde = tevent_add_fd(core->ev, core, d.signal_fd, TEVENT_FD_READ, on_signal, &d);
		ret = fde == NULL ? -ENOMEM : 0;
	}
	if (ret != 0) {
		log_error("core", "%s", error != NULL ? error : strerror(-ret));
		if (core->conf->global.log_file != NULL) {
			fprintf(stderr, "objectfs-cached: %s\n",
					error != NULL ? error : strerror(-ret));
		}
		goto out;
	}
	notify_fds_drop();
	volumes_start(core);
	log_notice("core", "objectfs-cached %s serves %u volume%s on %s", OFS_VERSION,
			core->volume_count, core->volume_count == 1 ? "" : "s",
			core->conf->global.socket);
	http_open(core);
	daemon_serves(ready_fd, core->conf->global.log_file == NULL);
	notify_send("READY=1");
	watchdog_feed(core);
	ret = core_loop(&d);
out:
	notify_send("STOPPING=1");
	http_close(core);
	TALLOC_FREE(fde);
	core_close(core);
	if (d.signal_fd >= 0) {
		close(d.signal_fd);
	}
	notify_close();
	if (ret == 0) {
		pace_end(run_directory);
	}
	log_notice("core", "stopped");
	return ret != 0 ? 1 : 0;
}

/* It is read once more when somebody asks whether it has changed, from another directory. */
static const char *conf_absolute(const char *path)
{
	static char absolute[2 * PATH_MAX];
	char here[PATH_MAX];

	if (path[0] == '/' || getcwd(here, sizeof(here)) == NULL ||
			snprintf(absolute, sizeof(absolute), "%s/%s", here, path) >= PATH_MAX) {
		return path;
	}
	return absolute;
}

/* A wrong talloc pointer is a mistake of ours: say so where people look, then leave a core. */
static void on_talloc_log(const char *message)
{
	log_error("core", "talloc: %s", message);
}

static void on_talloc_abort(const char *reason)
{
	log_error("core", "talloc: %s: ending", reason);
	abort();
}

int main(int argc, char **argv)
{
	struct options o = {0};
	struct conf *conf = NULL;
	struct core *core;
	char *error = NULL;
	int ready_fd = -1, ret;

	talloc_disable_null_tracking();
	talloc_set_log_fn(on_talloc_log);
	talloc_set_abort_fn(on_talloc_abort);
	if (!options_parse(&o, argc, argv)) {
		return EXIT_CONF;
	}
	if (o.version) {
		printf("objectfs-cached %s\n", OFS_VERSION);
		return 0;
	}
	umask(0);
	o.conf = conf_absolute(o.conf);
	ret = conf_load(NULL, o.conf, &conf, &error);
	if (ret != 0) {
		fprintf(stderr, "objectfs-cached: %s\n", error != NULL ? error : strerror(-ret));
		talloc_free(error);
		return EXIT_CONF;
	}
	if (o.check) {
		printf("%s: good, %u volume%s\n", o.conf, conf->volume_count,
				conf->volume_count == 1 ? "" : "s");
		talloc_free(conf);
		return 0;
	}
	log_set_format(o.log_format >= 0 ? (enum log_format)o.log_format : conf->global.log_format);
	ret = log_open(conf->global.log_file, conf->global.log_level);
	if (ret != 0) {
		fprintf(stderr, "objectfs-cached: %s: %s\n", conf->global.log_file, strerror(-ret));
		talloc_free(conf);
		return EXIT_CONF;
	}
	if (!o.foreground) {
		ret = daemonise(&ready_fd);
	}
	if (ret == 0) {
		ret = signals_block();
	}
	core = ret == 0 ? talloc_zero(NULL, struct core) : NULL;
	if (core == NULL) {
		fprintf(stderr, "objectfs-cached: %s\n", strerror(ret != 0 ? -ret : ENOMEM));
		talloc_free(conf);
		return 1;
	}
	core->conf = conf;
	ret = run(core, &ready_fd);
	talloc_free(core);
	talloc_free(conf);
	log_close();
	/* Jobs and requests that were in flight are given up with their memory (disk.h, objstore.h);
	 * nothing that runs at exit needs to see that. */
	fflush(stdout);
	_exit(ret);
}
