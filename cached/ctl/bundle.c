/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: objectfsctl support-bundle: all that helps to help, in one file.
 * Way: objectfsctl.c -> here: the daemon's answers, doctor, log, Samba's configuration, the machine ->
 * redact.c -> a directory nobody else may enter -> tar -> the file.
 * Thread: the only one; waits for daemon, doctor and programs. Owns: the directory, until the end.
 * Holds: 1. every byte that is written has gone through redact.c;
 *        2. file and directory are for root alone from their first moment (mkdtemp, O_EXCL, 0600);
 *        3. what cannot be had is said in its place: a bundle is most wanted when things are broken.
 */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../base/conf.h"
#include "redact.h"
#include "shared/version.h"

#define PATIENCE_S 30u
#define LINES_USUAL 1000u
#define LOG_MOST_BYTES (8 << 20)
#define INSIDE "objectfs-support"

struct bundle { /* talloc */
	const struct ctl_options *o;
	const struct words *w;
	const struct conf *conf; /* NULL: it cannot be used */
	char *conf_error;
	char *socket, *dir; /* dir: ends in INSIDE */
	struct redact *r;
	long pid; /* of the daemon, 0: it does not answer */
	json_t *contents; /* [{file, what}] */
	bool failed;
};

/* ---- one file in it ---- */

/* The text is clean already, but for secrets, which are looked for once more. */
static void bundle_put(struct bundle *b, const char *name, const char *what, const char *text)
{
	char *clean = text != NULL ? redact_secrets(b, b->r, text) : NULL;
	char *path = talloc_asprintf(b, "%s/%s", b->dir, name);
	int fd = path != NULL && clean != NULL
				 ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
				 : -1;
	FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;

	if (f == NULL || fputs(clean, f) == EOF || fclose(f) != 0) {
		fprintf(stderr, "objectfsctl: %s: %s\n", name, strerror(errno));
		b->failed = true;
	}
	json_array_append_new(b->contents, json_pack("{s:s, s:s}", "file", name, "what", what));
	talloc_free(clean);
	talloc_free(path);
}

static void bundle_put_json(struct bundle *b, const char *name, const char *what, const json_t *doc,
		bool clean)
{
	json_t *out = clean ? json_incref((json_t *)doc) : redact_json(b->r, doc);
	char *text = json_dumps(out, JSON_INDENT(2));

	bundle_put(b, name, what, text);
	free(text);
	json_decref(out);
}

/* An answer of the daemon; new reference, never NULL but without memory. */
static json_t *bundle_ask(struct bundle *b, const char *command)
{
	struct ctl_reply reply;
	int ret = ctl_ask_word(b->socket, command, PATIENCE_S, &reply);
	json_t *answer;

	if (ret == 0 && reply.status == 0 && reply.json != NULL) {
		answer = json_incref(reply.json);
	} else {
		answer = json_pack("{s:s}", "error",
				ret != 0		   ? strerror(-ret)
				: reply.message[0] != '\0' ? reply.message
							   : "?");
	}
	ctl_reply_done(&reply);
	return answer;
}

/* ---- what is in it ---- */

static void put_answers(struct bundle *b)
{
	static const struct {
		const char *command, *what;
	} asked[] = {{"health", "components of the daemon, with remedies"},
			{"pending", "what is not in S3 yet"},
			{"renames", "what is being renamed in S3"},
			{"conflicts", "what somebody else wrote at the same time"},
			{"tasks", "evict, warm, flush under way"}, {"pins", "what is pinned"},
			{"sessions", "who is connected, and what was done"}};
	char name[64];

	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		json_t *answer = bundle_ask(b, asked[i].command);

		snprintf(name, sizeof(name), "%s.json", asked[i].command);
		bundle_put_json(b, name, asked[i].what, answer, false);
		json_decref(answer);
	}
}

static void put_config(struct bundle *b)
{
	json_t *running = bundle_ask(b, "config");

	if (b->pid == 0 && b->conf != NULL) {
		json_object_set_new(running, "options", conf_json(b->conf));
	} else if (b->conf == NULL) {
		json_object_set_new(running, "file_error",
				json_string(b->conf_error != NULL ? b->conf_error : "?"));
	}
	bundle_put_json(b, "config.json", "every option as it is in force; secrets are not in it",
			running, true);
	json_decref(running);
}

static void put_doctor(struct bundle *b)
{
	json_t *found = doctor_look(b->o, words_option(b->w, "--smb-conf"));

	if (found != NULL) {
		bundle_put_json(b, "doctor.json", "what objectfsctl doctor finds", found, false);
	}
	json_decref(found);
}

static char *log_tail(TALLOC_CTX *ctx, const char *path, unsigned lines)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
	off_t from = size > LOG_MOST_BYTES ? size - LOG_MOST_BYTES : 0;
	char *text = talloc_zero_size(ctx, (size_t)(size - from) + 1), *at;
	ssize_t n = fd >= 0 && text != NULL ? pread(fd, text, (size_t)(size - from), from) : -1;
	unsigned seen = 0;

	if (n < 0) {
		text = talloc_asprintf(ctx, "%s: %s\n", path, strerror(errno));
	}
	if (fd >= 0) {
		close(fd);
	}
	if (n <= 0) {
		return text;
	}
	for (at = text + n - 1; at > text; at--) {
		if (at[-1] == '\n' && ++seen == lines) {
			break;
		}
	}
	return at;
}

/* A line of JSON by its fields, another as text. */
static char *log_line_clean(struct bundle *b, const char *line)
{
	json_t *doc = line[0] == '{' ? json_loads(line, 0, NULL) : NULL;
	json_t *clean = doc != NULL ? redact_json(b->r, doc) : NULL;
	char *text = clean != NULL ? json_dumps(clean, JSON_COMPACT) : NULL;
	char *out = text != NULL ? talloc_strdup(b, text) : redact_text(b, b->r, line);

	free(text);
	json_decref(clean);
	json_decref(doc);
	return out;
}

static void put_log(struct bundle *b)
{
	const char *said = words_option(b->w, "--lines");
	unsigned lines = said != NULL ? (unsigned)strtoul(said, NULL, 10) : LINES_USUAL;
	const char *path = b->conf != NULL ? b->conf->global.log_file : NULL;
	char count[16], *text, *save = NULL, *bytes = NULL;
	char *journal[] = {"journalctl", "-q", "--no-pager", "-u", "objectfs-cached", "-n", count,
			NULL};
	size_t len = 0;
	FILE *f = open_memstream(&bytes, &len);
	int status;

	snprintf(count, sizeof(count), "%u", lines);
	text = path != NULL ? log_tail(b, path, lines) : ctl_run(b, journal, &status);
	if (text == NULL) {
		text = talloc_strdup(b, "neither log file nor journal\n");
	}
	for (char *line = strtok_r(text, "\n", &save); line != NULL && f != NULL;
			line = strtok_r(NULL, "\n", &save)) {
		char *clean = log_line_clean(b, line);

		fprintf(f, "%s\n", clean != NULL ? clean : "");
		talloc_free(clean);
	}
	if (f != NULL) {
		fclose(f);
	}
	bundle_put(b, "log.txt", "the last lines of the daemon's log", bytes);
	free(bytes);
}

/* Commands and whatever is called a secret may hold passwords. */
static bool smb_conf_hides(const char *key, size_t len)
{
	static const char *const parts[] = {"passw", "secret", "token", "credential", "script",
			"command", "exec", "panic action", "ldap admin dn", "hook"};
	char low[128];
	size_t n = len < sizeof(low) ? len : sizeof(low) - 1;

	for (size_t i = 0; i < n; i++) {
		low[i] = (char)(key[i] >= 'A' && key[i] <= 'Z' ? key[i] + 32 : key[i]);
	}
	low[n] = '\0';
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (strstr(low, parts[i]) != NULL) {
			return true;
		}
	}
	return false;
}

static void put_samba(struct bundle *b)
{
	const char *conf = words_option(b->w, "--smb-conf");
	char *argv[] = {"testparm", "-s", "--suppress-prompt", (char *)conf, NULL};
	char *bytes = NULL, *save = NULL;
	int status = 0;
	char *text = ctl_run(b, argv, &status);
	size_t len = 0;
	FILE *f = open_memstream(&bytes, &len);

	if (f == NULL) {
		b->failed = true;
		return;
	}
	if (text == NULL || status != 0) {
		fprintf(f, "testparm: %s %d\n",
				text == NULL ? "cannot be run, or was killed:" : "exit status",
				status);
	}
	for (char *line = text != NULL ? strtok_r(text, "\n", &save) : NULL; line != NULL;
			line = strtok_r(NULL, "\n", &save)) {
		const char *equals = strchr(line, '=');

		if (equals != NULL && smb_conf_hides(line, (size_t)(equals - line))) {
			fprintf(f, "%.*s= (not shown)\n", (int)(equals - line), line);
		} else {
			fprintf(f, "%s\n", line);
			redact_learn(b->r, line); /* doctor speaks of shares */
		}
	}
	fclose(f);
	bundle_put(b, "smb.conf.txt",
			"Samba's configuration as testparm -s has it; commands and passwords are "
			"not in it",
			bytes);
	free(bytes);
}

/* ---- the machine ---- */

static void put_file(FILE *f, const char *path)
{
	FILE *in = fopen(path, "re");
	char line[1024];

	fprintf(f, "\n--- %s\n", path);
	while (in != NULL && fgets(line, sizeof(line), in) != NULL) {
		fputs(line, f);
	}
	if (in != NULL) {
		fclose(in);
	}
}

static void put_fs(FILE *f, const char *path)
{
	struct statfs fs;

	if (statfs(path, &fs) != 0) {
		fprintf(f, "%s: %s\n", path, strerror(errno));
		return;
	}
	fprintf(f, "%s: type %#lx, %llu MiB, %llu MiB free for users, %llu inodes, %llu free\n",
			path, (unsigned long)fs.f_type & 0xffffffffUL,
			(unsigned long long)fs.f_blocks * (unsigned long long)fs.f_bsize >> 20,
			(unsigned long long)fs.f_bavail * (unsigned long long)fs.f_bsize >> 20,
			(unsigned long long)fs.f_files, (unsigned long long)fs.f_ffree);
}

static void put_machine(struct bundle *b)
{
	char *version_argv[] = {"smbd", "-V", NULL}, *build_argv[] = {"smbd", "-b", NULL};
	char *bytes = NULL, *smbd, *build, path[64];
	size_t len = 0;
	FILE *f = open_memstream(&bytes, &len);
	struct utsname u;
	int status;

	if (f == NULL) {
		b->failed = true;
		return;
	}
	smbd = ctl_run(b, version_argv, &status);
	build = smbd != NULL ? ctl_run(b, build_argv, &status) : NULL;
	redact_learn(b->r, build != NULL ? build : ""); /* where Samba's modules are */
	fprintf(f, "objectfsctl %s\nsmbd %s", OFS_VERSION, smbd != NULL ? smbd : "is not here\n");
	if (uname(&u) == 0) {
		fprintf(f, "%s %s %s %s\n", u.sysname, u.release, u.version, u.machine);
	}
	fprintf(f, "%ld processors\n", sysconf(_SC_NPROCESSORS_ONLN));
	if (b->conf != NULL) {
		put_fs(f, b->conf->global.cache_directory);
		put_fs(f, b->conf->global.run_directory);
	}
	put_file(f, "/etc/os-release");
	put_file(f, "/proc/meminfo");
	put_file(f, "/proc/loadavg");
	put_file(f, "/proc/pressure/io");
	put_file(f, "/proc/self/mounts");
	if (b->pid > 0) {
		snprintf(path, sizeof(path), "/proc/%ld/limits", b->pid);
		put_file(f, path);
		snprintf(path, sizeof(path), "/proc/%ld/status", b->pid);
		put_file(f, path);
	}
	fclose(f);
	bundle_put(b, "system.txt",
			"versions, kernel, memory, mounts, file systems, the daemon's limits",
			bytes);
	free(bytes);
}

static void put_readme(struct bundle *b)
{
	char *text = talloc_strdup(b, "What objectfsctl support-bundle has found.\n\n");
	const json_t *item;
	size_t i;

	json_array_foreach(b->contents, i, item)
	{
		text = talloc_asprintf_append_buffer(text, "%-14s %s\n", text_of(item, "file"),
				text_of(item, "what"));
	}
	text = talloc_asprintf_append_buffer(text, "\nSecrets are not in it. %s\n",
			words_option(b->w, "--names") != NULL
					? "Names of files and users are."
					: "Names of files and users are replaced by ~ and eight "
					  "digits,\nthe same for the same name; in free text that "
					  "is done to every word which is\nnot the daemon's own. "
					  "Numbers stay.");
	bundle_put(b, "README.txt", "this list", text);
}

/* ---- the whole ---- */

/* Words of the daemon's messages: from its program, and from the library whose errors it passes on. */
static void bundle_learn(struct bundle *b)
{
	char path[PATH_MAX], line[PATH_MAX + 128], *at;
	FILE *maps;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%ld/exe", b->pid);
	if (b->pid == 0 || access(path, R_OK) != 0) {
		n = readlink("/proc/self/exe", path, sizeof(path) - 32);
		path[n > 0 ? n : 0] = '\0';
		at = strrchr(path, '/');
		strcpy(at != NULL ? at : path, "/objectfs-cached");
		if (access(path, R_OK) != 0 && at != NULL) {
			strcpy(at, "/../sbin/objectfs-cached");
		}
	}
	redact_learn_file(b->r, path);
	snprintf(path, sizeof(path), "/proc/%ld/maps", b->pid);
	maps = b->pid != 0 ? fopen(path, "re") : NULL;
	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
		at = strstr(line, "/libcurl") != NULL ? strchr(line, '/') : NULL;
		if (at != NULL) {
			at[strcspn(at, "\n")] = '\0';
			redact_learn_file(b->r, at);
			break;
		}
	}
	if (maps != NULL) {
		fclose(maps);
	}
}

static void bundle_learn_conf(struct bundle *b)
{
	json_t *options = conf_json(b->conf);
	const json_t *item;
	size_t i;

	json_array_foreach(options, i, item)
	{
		redact_learn(b->r, text_of(item, "section"));
		redact_learn(b->r, text_of(item, "value"));
	}
	json_decref(options);
	redact_learn(b->r, b->o->conf);
	conf_secrets_each(b->conf, redact_secret, b->r);
	for (unsigned i = 0; i < b->conf->volume_count; i++) {
		char *tree = talloc_asprintf(b, "%s/%s/tree", b->conf->global.cache_directory,
				b->conf->volumes[i].name);

		redact_below(b->r, tree != NULL ? tree : "");
	}
}

static void bundle_fill(struct bundle *b)
{
	static const char *const texts[] = {"source", "error"};
	json_t *status = bundle_ask(b, "status"), *v;
	size_t i;

	b->pid = (long)number_of(status, "pid");
	bundle_learn(b);
	if (b->conf != NULL) {
		bundle_learn_conf(b);
	}
	/* Its names are those of volumes and of the store; only a reason may say more. */
	json_array_foreach(json_object_get(status, "volumes"), i, v)
	{
		char *why = redact_text(b, b->r, text_of(v, "why"));
		json_t *login = json_object_get(v, "login");

		json_object_set_new(v, "why", json_string(why != NULL ? why : ""));
		for (size_t t = 0; json_is_object(login) && t < sizeof(texts) / sizeof(texts[0]); t++) {
			why = redact_text(b, b->r, text_of(login, texts[t]));
			json_object_set_new(login, texts[t], json_string(why != NULL ? why : ""));
		}
	}
	bundle_put_json(b, "status.json", "version, volumes, counters, times", status, true);
	json_decref(status);
	put_samba(b);
	put_machine(b);
	put_answers(b);
	put_config(b);
	put_doctor(b);
	put_log(b);
	put_readme(b);
}

static int tar_run(int out, char *parent)
{
	char *argv[] = {"tar", "--owner=0", "--group=0", "-C", parent, "-czf", "-", INSIDE, NULL};
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		if (dup2(out, STDOUT_FILENO) >= 0) {
			execvp(argv[0], argv);
		}
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

static void bundle_remove(struct bundle *b, const char *parent)
{
	const json_t *item;
	size_t i;

	json_array_foreach(b->contents, i, item)
	{
		char *path = talloc_asprintf(b, "%s/%s", b->dir, text_of(item, "file"));

		(void)unlink(path != NULL ? path : "");
		talloc_free(path);
	}
	(void)rmdir(b->dir);
	(void)rmdir(parent);
}

static int bundle_write(struct bundle *b, const char *file)
{
	char parent[] = "/tmp/objectfs-support-XXXXXX";
	int out = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool made;

	if (out < 0) {
		fprintf(stderr, "objectfsctl: %s: %s: say another FILE\n", file, strerror(errno));
		return CTL_EXIT_FAILED;
	}
	made = mkdtemp(parent) != NULL;
	b->dir = made ? talloc_asprintf(b, "%s/" INSIDE, parent) : NULL;
	if (b->dir == NULL || mkdir(b->dir, 0700) != 0) {
		fprintf(stderr, "objectfsctl: %s: %s\n", parent, strerror(errno));
		b->failed = true;
	} else {
		bundle_fill(b);
		if (tar_run(out, parent) != 0 || fsync(out) != 0) {
			fprintf(stderr, "objectfsctl: tar has failed: is it installed, is there "
					"room?\n");
			b->failed = true;
		}
	}
	close(out);
	if (made) {
		bundle_remove(b, parent);
	}
	if (b->failed) {
		(void)unlink(file);
	}
	return b->failed ? CTL_EXIT_FAILED : CTL_EXIT_OK;
}

static void bundle_say(const struct bundle *b, const char *file)
{
	const json_t *item;
	size_t i;

	if (b->o->json) {
		json_t *out = json_pack("{s:s, s:O}", "file", file, "contents", b->contents);

		json_dumpf(out, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(out);
		return;
	}
	printf("%s\n", file);
	json_array_foreach(b->contents, i, item)
	{
		printf("  %-14s %s\n", text_of(item, "file"), text_of(item, "what"));
	}
	printf("Look at it before you give it away: tar -xzOf %s | less\n", file);
}

int ctl_bundle(const struct ctl_options *o, const struct words *w)
{
	struct bundle *b = talloc_zero(NULL, struct bundle);
	char host[65] = "host", name[160], stamp[32];
	const char *file = w->plain_count > 0 ? w->plain[0] : name;
	time_t now = time(NULL);
	struct conf *conf = NULL;
	struct tm tm;
	int ret = CTL_EXIT_FAILED;

	if (geteuid() != 0) {
		fprintf(stderr, "objectfsctl: support-bundle collects as root only what it must "
				"see\n");
		talloc_free(b);
		return CTL_EXIT_USAGE;
	}
	(void)gethostname(host, sizeof(host) - 1);
	strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", gmtime_r(&now, &tm));
	snprintf(name, sizeof(name), "objectfs-support-%s-%s.tar.gz", host, stamp);
	if (b != NULL) {
		b->o = o;
		b->w = w;
		b->contents = json_array();
		b->r = redact_new(b, words_option(w, "--names") != NULL);
		b->socket = o->socket != NULL ? strdup(o->socket) : ctl_socket_of(o->conf);
		(void)conf_load(b, o->conf, &conf, &b->conf_error);
		b->conf = conf;
	}
	if (b == NULL || b->r == NULL || b->socket == NULL || b->contents == NULL) {
		fprintf(stderr, "objectfsctl: out of memory\n");
	} else {
		ret = bundle_write(b, file);
	}
	if (ret == CTL_EXIT_OK) {
		bundle_say(b, file);
		ret = fflush(stdout) == 0 ? CTL_EXIT_OK : CTL_EXIT_FAILED;
	}
	if (b != NULL) {
		json_decref(b->contents);
		free(b->socket);
	}
	talloc_free(b);
	return ret;
}
