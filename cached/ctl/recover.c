/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: objectfsctl recover: a volume whose host is lost is served by this one.
 * Way: command line -> the bucket (recover_bucket.c) -> a plan (recover_conf.c, recover_accounts.c), shown
 * and asked about -> its steps -> the daemon's word that the volume is ready.
 * Thread: the only one; waits for the programs it runs. Owns: the plan.
 * Holds: 1. nothing is changed before the whole plan is known, nothing is refused, and somebody said yes;
 *        2. what is there stays: sections and accounts are added, or serve as they are;
 *        3. a second run goes on where the first one ended;
 *        4. what the bucket says reaches no terminal with control bytes in it.
 */
#include "recover.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../base/log.h"
#include "../core/accounts.h"

#define READY_PATIENCE_S 60
#define READY_LOOK_MS 100

void recover_refuse(struct recover *r, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = talloc_vasprintf(r, fmt, ap);
	va_end(ap);
	for (char *p = text; p != NULL && *p != '\0'; p++) {
		*p = (unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p;
	}
	r->refusals = talloc_asprintf_append(r->refusals, "  %s\n", text != NULL ? text : "out of memory");
}

struct recover_step *recover_run(struct recover *r, const char *const argv[])
{
	struct recover_step *s = talloc_zero(r, struct recover_step);

	if (s == NULL) {
		return NULL;
	}
	s->what = talloc_strdup(s, "");
	for (size_t i = 0; argv[i] != NULL && i < RECOVER_ARGS_MAX; i++) {
		s->argv[i] = talloc_strdup(s, argv[i]);
		s->what = talloc_asprintf_append(s->what, "%s%s", i > 0 ? " " : "", argv[i]);
	}
	*r->steps_end = s;
	r->steps_end = &s->next;
	return s;
}

/* argv with -s FILE behind the program's name, where there is a FILE. */
static void samba_argv(const struct recover *r, const char *const argv[],
		const char *out[RECOVER_ARGS_MAX + 1])
{
	size_t n = 0;

	out[n++] = argv[0];
	if (r->smb_conf != NULL) {
		out[n++] = "-s";
		out[n++] = r->smb_conf;
	}
	for (size_t i = 1; argv[i] != NULL && n < RECOVER_ARGS_MAX; i++) {
		out[n++] = argv[i];
	}
	out[n] = NULL;
}

struct recover_step *recover_run_samba(struct recover *r, const char *const argv[])
{
	const char *full[RECOVER_ARGS_MAX + 1];

	samba_argv(r, argv, full);
	return recover_run(r, full);
}

/* Where this server has the volume's mirror already, the node may be its own. */
void recover_retire(struct recover *r, const char *key, const char *host)
{
	static const char *const none[] = {NULL};
	char *index = talloc_asprintf(r, "%s/%s/index.db", r->conf->global.cache_directory, r->name);
	struct recover_step *s = NULL;

	if (index != NULL && access(index, F_OK) != 0) {
		s = recover_run(r, none);
	}
	if (s != NULL) {
		s->what = talloc_asprintf(s, "say in the bucket that %s serves it no more (%s)",
				host[0] != '\0' ? host : "its last host", strrchr(key, '/') + 1);
		s->retires = talloc_strdup(s, key);
	}
	talloc_free(index);
}

char *recover_ask_samba(struct recover *r, const char *const argv[], int *status)
{
	const char *full[RECOVER_ARGS_MAX + 1];

	samba_argv(r, argv, full);
	return ctl_run(r, (char *const *)full, status);
}

/* ---- doing it ---- */

/* With our own terminal: it may ask for a password. The exit status, -1: none. */
static int run(char *const argv[])
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execvp(argv[0], argv);
		fprintf(stderr, "objectfsctl: %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The old content stays beside it. */
static int replace_file(const struct recover_step *s)
{
	char *fresh = talloc_asprintf(s, "%s.recover", s->path);
	char *kept = talloc_asprintf(s, "%s.before-recover", s->path);
	char *dir = talloc_strdup(s, s->path);
	size_t len = strlen(s->text);
	struct stat st = {.st_mode = 0644};
	int fd, ret = 0;

	if (fresh == NULL || kept == NULL || dir == NULL) {
		return -ENOMEM;
	}
	(void)stat(s->path, &st);
	(void)mkdir(dirname(dir), 0755);
	(void)unlink(fresh);
	fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		return -errno;
	}
	if (write(fd, s->text, len) != (ssize_t)len ||
			fchown(fd, st.st_uid, st.st_gid) != 0 ||
			fchmod(fd, s->secret ? 0600 : st.st_mode & 0777) != 0 ||
			fsync(fd) != 0) {
		ret = errno != 0 ? -errno : -EIO;
	}
	close(fd);
	if (ret == 0 && access(s->path, F_OK) == 0 && access(kept, F_OK) != 0 &&
			link(s->path, kept) != 0) {
		ret = -errno;
	}
	if (ret == 0 && rename(fresh, s->path) != 0) {
		ret = -errno;
	}
	return ret;
}

static bool has_account(struct recover *r, const char *name)
{
	const char *const argv[] = {"pdbedit", "-L", "-u", name, NULL};
	int status;

	return recover_ask_samba(r, argv, &status) != NULL && status == 0;
}

static bool step_do(struct recover *r, const struct recover_step *s)
{
	int ret;

	if (s->unless_account != NULL && has_account(r, s->unless_account)) {
		return true;
	}
	print_safe(s->what);
	printf("\n");
	fflush(stdout);
	if (s->retires != NULL) {
		return recover_retired(r, s->retires);
	}
	ret = s->path != NULL ? replace_file(s) : run(s->argv);
	if (ret != 0 && s->path != NULL) {
		fprintf(stderr, "objectfsctl: %s: %s\n", s->path, strerror(-ret));
	} else if (ret != 0) {
		fprintf(stderr, "objectfsctl: %s: exit status %d\n", s->what, ret);
	}
	return ret == 0;
}

/* From the terminal byte by byte: the rest of it belongs to the programs that ask for passwords. */
static bool said_yes(void)
{
	char word[8] = "";
	size_t len = 0;
	char c;

	printf("Type yes to do this: ");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n') {
		if (len < sizeof(word) - 1) {
			word[len++] = c;
		}
	}
	return strcmp(word, "yes") == 0;
}

/* "ready", "connecting", ... of the volume, with why; "": no answer. */
static char *volume_state(struct recover *r, const char *socket)
{
	struct ctl_reply reply;
	char *said = NULL;
	const json_t *v;
	size_t i;

	if (ctl_ask_word(socket, "status", 5, &reply) != 0) {
		return talloc_strdup(r, "");
	}
	json_array_foreach(json_object_get(reply.json, "volumes"), i, v)
	{
		if (strcmp(text_of(v, "name"), r->name) == 0) {
			said = talloc_asprintf(r, "%s%s%s", text_of(v, "state"),
					text_of(v, "why")[0] != '\0' ? ": " : "", text_of(v, "why"));
		}
	}
	ctl_reply_done(&reply);
	return said != NULL ? said : talloc_strdup(r, "");
}

static int wait_ready(struct recover *r)
{
	int64_t until_ms = ctl_now_ms() + 1000LL * READY_PATIENCE_S;
	char *said = NULL;

	do {
		talloc_free(said);
		said = volume_state(r, r->conf->global.socket);
		if (said != NULL && strcmp(said, "ready") == 0) {
			printf("volume %s: ready; the share is %s\n", r->name, r->name);
			return CTL_EXIT_OK;
		}
		(void)poll(NULL, 0, READY_LOOK_MS);
	} while (ctl_now_ms() < until_ms);
	fprintf(stderr, "objectfsctl: volume %s is not ready after %d s: ", r->name, READY_PATIENCE_S);
	print_safe_to(stderr, said);
	fprintf(stderr, "; objectfsctl doctor says more\n");
	return CTL_EXIT_FAILED;
}

/* ---- the plan ---- */

static bool plan(struct recover *r)
{
	if (!recover_conf(r) || !recover_bucket(r)) {
		return false;
	}
	recover_accounts(r);
	recover_share(r);
	if (words_option(r->w, "--no-start") == NULL) {
		recover_run(r, (const char *const[]){"systemctl", "enable", "objectfs-cached", NULL});
		recover_run(r, (const char *const[]){"systemctl", "restart", "objectfs-cached", "smbd",
				NULL});
	}
	return r->refusals[0] == '\0';
}

static bool recover_words(struct recover *r)
{
	const struct {
		const char *option, **to;
	} options[] = {{"--name", &r->name}, {"--endpoint", &r->endpoint}, {"--region", &r->region},
			{"--credentials", &r->credentials}, {"--smb-conf", &r->smb_conf},
			{"--passdb", &r->passdb}};
	const char *url = r->w->plain[0], *slash;
	size_t len;

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		*options[i].to = words_option(r->w, options[i].option);
	}
	if (strncmp(url, "s3://", 5) != 0 || url[5] == '\0' || url[5] == '/') {
		fprintf(stderr, "objectfsctl: %s: s3://BUCKET/PREFIX is wanted\n", url);
		return false;
	}
	len = strcspn(url + 5, "/");
	r->bucket = talloc_strndup(r, url + 5, len);
	r->prefix = talloc_strdup(r, url[5 + len] == '/' ? url + 6 + len : "");
	len = strlen(r->prefix);
	if (len > 0 && r->prefix[len - 1] == '/') {
		((char *)r->prefix)[len - 1] = '\0';
	}
	slash = strrchr(r->prefix, '/');
	if (r->name == NULL) {
		r->name = slash != NULL ? slash + 1 : r->prefix[0] != '\0' ? r->prefix : r->bucket;
	}
	return true;
}

static void show(const struct recover *r)
{
	const char *sid = text_of(r->record, ACCOUNTS_SID);

	printf("s3://%s/%s holds a volume; this server will serve it as %s. One server serves a volume at "
	       "a time: the old one must be off.\n", r->bucket, r->prefix, r->name);
	if (sid[0] == '\0') {
		printf("Whose accounts its rights name is not known: no client ever came in.\n");
	} else if (json_is_true(json_object_get(r->record, ACCOUNTS_DOMAIN))) {
		printf("Its rights name accounts of the domain ");
		print_safe(sid);
		printf(": this server must be a member of it.\n");
	}
	for (const struct recover_step *s = r->steps; s != NULL; s = s->next) {
		printf("  ");
		print_safe(s->what);
		printf("\n");
	}
}

static int recover(struct recover *r)
{
	if (!plan(r)) {
		fprintf(stderr, "objectfsctl: nothing was changed; first\n%s", r->refusals);
		return CTL_EXIT_FAILED;
	}
	show(r);
	if (words_option(r->w, "--yes") == NULL && !said_yes()) {
		fprintf(stderr, "objectfsctl: nothing was changed\n");
		return CTL_EXIT_FAILED;
	}
	for (const struct recover_step *s = r->steps; s != NULL; s = s->next) {
		bool starts = s->argv[0] != NULL && strcmp(s->argv[0], "systemctl") == 0;

		if ((starts && !recover_accounts_are(r)) || !step_do(r, s)) {
			fprintf(stderr, "objectfsctl: stopped here; recover goes on when it is run again\n");
			return CTL_EXIT_FAILED;
		}
	}
	if (words_option(r->w, "--no-start") != NULL) {
		return recover_accounts_are(r) ? CTL_EXIT_OK : CTL_EXIT_FAILED;
	}
	return wait_ready(r);
}

int ctl_recover(const struct ctl_options *o, const struct words *w)
{
	struct recover *r;
	int ret;

	if (geteuid() != 0) {
		fprintf(stderr, "objectfsctl: recover changes this server: be root\n");
		return CTL_EXIT_USAGE;
	}
	r = talloc_zero(NULL, struct recover);
	if (r == NULL) {
		return CTL_EXIT_FAILED;
	}
	r->o = o;
	r->w = w;
	r->refusals = talloc_strdup(r, "");
	r->steps_end = &r->steps;
	log_set_level(LOG_LVL_ERROR);
	ret = recover_words(r) ? recover(r) : CTL_EXIT_USAGE;
	json_decref(r->record);
	talloc_free(r);
	return fflush(stdout) == 0 ? ret : CTL_EXIT_FAILED;
}
