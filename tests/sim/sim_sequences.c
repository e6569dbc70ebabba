/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Every sequence of up to three operations, with a crash at every point of it, enumerated and not sampled.
 *
 * A small world: `a`, whose data is here; `d/b`, a stub; both in S3. A sequence runs once and counts its points: each
 * event of the daemon (a timer, a job, a request), each single thing that the client's module does (a mark, an
 * intent, a record, a hint, a link into the trash, a rename, a write). Then it runs once for each point and each of:
 *
 *   one    between operations the daemon is killed, and the client goes on; within one the client's process is, and the
 *          daemon goes on
 *   both   are killed
 *   away   the daemon is killed, and comes back after the next operation
 *
 * What is left of the sequence is done, all drains, and is judged. Without remote changes S3 has exactly what was
 * acknowledged: names, bytes, rights, times, and no conflict; an operation that was not acknowledged has happened, or has not,
 * and nothing else. With them each version that nobody replaced who knew it is there, and each object is a file that
 * can be read. What a flush has acknowledged is in S3 at that moment. No object ever has bytes that nobody wrote.
 *
 * Two paces: all operations at once; each when a request for the one before is under way. Left out, for they are
 * other sequences that are there: those with an operation that cannot be (it would change nothing), a sequence of one
 * at the second pace, `away` where nothing is left to do.
 *
 *   sim_sequences                       each STRIDEth sequence, and those that have failed once
 *   sim_sequences all [PART OF]         all of them, or each OFth
 *   sim_sequences one OPS PACE [POINT CUT]   what failed, again: `one wrf 1 17 both`
 *   SIM_FENCE=N                         a store of class N, 3 if not said; below 3 without remote changes, whose windows
 *                                       are sim_others' affair
 *   SIM_SEED=N                          other delays, another order of what is independent; 1 if not said
 */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cached/base/log.h"
#include "cached/base/stats.h"
#include "cached/core/rings.h"
#include "cached/mirror/snapshot.h"
#include "cached/reconcile/reconcile.h"
#include "sim_handle.h"
#include "sim_share.h"
#include "sim_tally.h"
#include "tests/lib/scratch.h"

#define STRIDE 701u /* a prime */
#define OPS_MOST 3u
#define POINTS_MOST 4000u
#define REST_NS (10 * NS_PER_S) /* who has a file open closes it then */
#define SEQUENCE_S 600u

enum cut { CUT_ONE, CUT_BOTH, CUT_AWAY, CUTS };
static const char *const cut_names[CUTS] = {"one", "both", "away"};

struct sequence {
	char ops[OPS_MOST + 1];
	unsigned pace;
};

/* What a child is about, for the parent to tell if it does not come back. */
static struct progress {
	unsigned point;
	enum cut cut;
} *progress;

struct life {
	struct world w;
	struct judge j;
	struct sim_watch watch;
	struct handle handles[HANDLES_MOST];
	const struct sequence *seq;
	unsigned at;     /* the operation that is next, or under way */
	bool acting;     /* it is */
	bool remote;     /* another tool has changed something */
	bool impossible; /* an operation could not be: another sequence is the same */
	unsigned serial;
	/* of the operation that is under way */
	char path[256], was[HANDLE_TEXT_MOST], will[HANDLE_TEXT_MOST];
	bool writing, replacing;
	/* the cut */
	jmp_buf env;
	bool armed;
	unsigned point, points; /* at which; passed so far */
	enum cut cut;
	const char *a_was_of; /* while the daemon is dead: the version that `a` was a stub of */
	uint8_t away[POINTS_MOST]; /* of the first run: whether there is a third way */
};

/* ---- points ---- */

static void on_point(void *arg)
{
	struct life *l = arg;

	if (!l->armed) {
		return;
	}
	if (l->points == POINTS_MOST) {
		die(&l->w, "too many points", l->seq->ops);
	}
	l->away[l->points] = !l->acting && l->seq->ops[l->at] != '\0';
	if (++l->points == l->point) {
		longjmp(l->env, 1);
	}
}

static void on_stored(void *arg, const struct sim_object *o)
{
	judge_stored(&((struct life *)arg)->j, o);
}

/* ---- what clients do ---- */

/* With a record: a client that died may have left one that has none, which a module would make first. */
static bool has(struct life *l, const char *path)
{
	struct ofs_record rec;

	return world_file(&l->w, path) != NULL && ofs_record_get_at(&l->w.rio, l->w.tree_fd, path, &rec) == 0;
}

static struct handle *handle_of(struct life *l, const char *path)
{
	struct handle *unused = NULL;

	for (unsigned i = 0; i < HANDLES_MOST; i++) {
		if (handle_is_open(&l->handles[i]) && strcmp(l->handles[i].path, path) == 0) {
			return &l->handles[i];
		}
		unused = handle_is_open(&l->handles[i]) ? unused : &l->handles[i];
	}
	return unused;
}

static struct handle *opened(struct life *l, const char *path)
{
	struct handle *h = handle_of(l, path);

	if (!handle_is_open(h)) {
		handle_open(&l->w, h, path);
	}
	return h;
}

static void write_begins(struct life *l, const char *path, const char *was, const char *will)
{
	snprintf(l->path, sizeof(l->path), "%s", path);
	snprintf(l->was, sizeof(l->was), "%s", was);
	snprintf(l->will, sizeof(l->will), "%s", will);
	judge_written(&l->j, l->will, false);
	l->writing = true;
}

static void write_is(struct life *l, bool done)
{
	struct model_file *f = world_file(&l->w, l->path);

	judge_ended(&l->j, done ? l->was : l->will, strlen(done ? l->was : l->will), done ? "overwritten" : "not written");
	if (done && f != NULL) {
		snprintf(f->text, sizeof(f->text), "%s", l->will);
	}
	l->writing = false;
}

/* From `offset` on, or at the end (-1). */
static void write_some(struct life *l, const char *path, int offset)
{
	char was[HANDLE_TEXT_MOST], will[2 * HANDLE_TEXT_MOST], some[16];
	struct handle *h = opened(l, path);
	size_t at;

	if (!handle_before(&l->w, h, was)) {
		return;
	}
	at = offset < 0 || (size_t)offset > strlen(was) ? strlen(was) : (size_t)offset;
	snprintf(some, sizeof(some), "%c%02u", offset < 0 ? '+' : '=', l->serial++);
	snprintf(will, sizeof(will), "%.*s%s%s", (int)at, was, some,
			strlen(was) > at + strlen(some) ? was + at + strlen(some) : "");
	write_begins(l, path, was, will);
	handle_write(&l->w, h, some, (off_t)at);
	write_is(l, true);
}

static void empty(struct life *l, const char *path)
{
	bool stub = share_has_stub(&l->w, path);
	const char *was = stub ? share_text(&l->j, path) : NULL;
	struct handle *h = opened(l, path);
	char text[HANDLE_TEXT_MOST];

	if (!stub && handle_before(&l->w, h, text)) {
		was = text;
	}
	write_begins(l, path, was != NULL ? was : "", "");
	write_is(l, handle_empty(&l->w, h));
}

/* A dead daemon cannot be asked, and who has seen the file knows it all the same; no other stub is replaced then. */
static const char *stub_text(struct life *l, const char *path)
{
	return l->w.v != NULL ? share_text(&l->j, path) : l->a_was_of;
}

/* What is at `path` is known to who takes its name away. */
static void replaced(struct life *l, const char *path)
{
	const struct model_file *f = world_file(&l->w, path);
	const char *text = share_has_stub(&l->w, path) ? stub_text(l, path) : f->text;

	snprintf(l->path, sizeof(l->path), "%s", path);
	snprintf(l->was, sizeof(l->was), "%s", text != NULL ? text : "");
	l->replacing = true;
}

static void replaced_is(struct life *l, bool done)
{
	if (done) {
		judge_ended(&l->j, l->was, strlen(l->was), "its name is another's");
	}
	l->replacing = false;
}

/* Open files go with their names. */
static void renamed(struct life *l, const char *from, const char *to)
{
	for (unsigned i = 0; i < HANDLES_MOST; i++) {
		struct handle *h = &l->handles[i];

		if (handle_is_open(h) && strcmp(h->path, to) == 0) {
			h->path[0] = '\0';
		} else if (handle_is_open(h) && from != NULL && strcmp(h->path, from) == 0) {
			snprintf(h->path, sizeof(h->path), "%s", to);
		}
	}
}

static void rename_over(struct life *l, const char *from, const char *to)
{
	replaced(l, to);
	client_rename(&l->w, from, to);
	renamed(l, from, to);
	replaced_is(l, true);
}

static void remove_file(struct life *l, const char *path)
{
	replaced(l, path);
	client_unlink(&l->w, path);
	renamed(l, NULL, path);
	replaced_is(l, true);
}

static void set_rights(struct life *l, const char *path)
{
	char rights[24];

	snprintf(l->path, sizeof(l->path), "%s", path);
	snprintf(rights, sizeof(rights), "rights %u", l->serial++);
	handle_rights(&l->w, path, rights);
	snprintf(world_file(&l->w, path)->rights, sizeof(rights), "%s", rights);
}

/* Or replaced there by who knew it. */
static bool is_in_store(struct life *l, const char *path, const char *text)
{
	char key[300];

	if (judge_known(&l->j, text, strlen(text), path)->live == 0) {
		return true;
	}
	world_key(path, key);
	for (const struct sim_object *o = sim_objects(l->w.sim); o != NULL; o = o->next) {
		if ((l->remote ? judge_is_file(o) : strcmp(o->key, key) == 0) && sim_object_is(o, text)) {
			return true;
		}
	}
	return false;
}

static void flush_file(struct life *l, const char *path)
{
	struct handle *h = opened(l, path);
	char text[HANDLE_TEXT_MOST];
	int status;

	if (share_has_stub(&l->w, path)) {
		return;
	}
	status = handle_flush(&l->w, h);
	if (status != 0 && !l->remote) {
		die(&l->w, "a flush has failed", path);
	}
	if (status == 0 && handle_before(&l->w, h, text) && *text != '\0' && !is_in_store(l, path, text)) {
		die(&l->w, "was flushed, and is not in the store", path);
	}
}

static void op_create(struct life *l)
{
	struct handle *h = handle_of(l, "d/n");

	handle_create(&l->w, h, "d/n");
	write_begins(l, "d/n", "", "new");
	handle_write(&l->w, h, "new", 0);
	write_is(l, true);
}

static void op_flush(struct life *l)
{
	static const char *const paths[] = {"a", "d/b", "d/n"};

	for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		if (has(l, paths[i])) {
			flush_file(l, paths[i]);
		}
	}
}

static void op_close(struct life *l)
{
	for (unsigned i = 0; i < HANDLES_MOST; i++) {
		handle_close(&l->w, &l->handles[i]);
	}
}

/* ---- another tool ---- */

static void other_writes(struct life *l, const char *key, bool gone)
{
	static const struct obj_meta meta[] = {{"author", "another tool"}, {"mtime", "1600000000.5"}};
	const struct sim_object *o = sim_object(l->w.sim, key);
	char text[32];

	l->remote = l->w.others = true;
	if (o != NULL) {
		judge_ended(&l->j, o->data, o->len, "replaced by the other tool");
	}
	world_trace(&l->w, gone ? "other deletes" : "other puts", key, "");
	if (gone) {
		sim_remove(l->w.sim, key);
		return;
	}
	snprintf(text, sizeof(text), "other %u", l->serial++);
	judge_written(&l->j, text, true);
	sim_put_with(l->w.sim, key, text, meta, 2);
}

/* ---- the operations ---- */

static bool is_open(struct life *l)
{
	for (unsigned i = 0; i < HANDLES_MOST; i++) {
		if (handle_is_open(&l->handles[i])) {
			return true;
		}
	}
	return false;
}

static const char letters[] = "wnopturqsxymabfc123";

/* false: it cannot be. */
static bool op_may(struct life *l, char op)
{
	switch (op) {
	case 'w':
	case 'o':
	case 't':
	case 'x':
	case 'a':
		return has(l, "a");
	case 'p':
	case 'u':
	case 'y':
	case 'b':
		return has(l, "d/b");
	case 'n':
		return !share_has(&l->w, "d/n");
	case 'r':
	case 's':
		return has(l, "a") && has(l, "d/b");
	case 'q':
		return has(l, "a") && has(l, "d/n");
	case 'm':
		return !share_has(&l->w, "d/e");
	case 'c':
		return is_open(l);
	case '3':
		return sim_object(l->w.sim, "p/a") != NULL;
	default:
		return true;
	}
}

static void op_run(struct life *l, char op)
{
	switch (op) {
	case 'w': write_some(l, "a", -1); return;
	case 'n': op_create(l); return;
	case 'o': write_some(l, "a", 0); return;
	case 'p': write_some(l, "d/b", 0); return;
	case 't': empty(l, "a"); return;
	case 'u': empty(l, "d/b"); return;
	case 'r': rename_over(l, "a", "d/b"); return;
	case 's': rename_over(l, "d/b", "a"); return;
	case 'q': rename_over(l, "d/n", "a"); return;
	case 'x': remove_file(l, "a"); return;
	case 'y': remove_file(l, "d/b"); return;
	case 'm': client_mkdir(&l->w, "d/e"); return;
	case 'a': set_rights(l, "a"); return;
	case 'b': set_rights(l, "d/b"); return;
	case 'f': op_flush(l); return;
	case 'c': op_close(l); return;
	case '1': other_writes(l, "p/a", false); return;
	case '2': other_writes(l, "p/d/b", false); return;
	case '3': other_writes(l, "p/a", true); return;
	default: die(&l->w, "no such operation", l->seq->ops);
	}
}

/* Can it be done while the daemon is dead? A client that asks for a stub's bytes, or flushes, waits for it. */
static bool op_is_alone(struct life *l, char op)
{
	return strchr("pubryf", op) == NULL && !(strchr("wots", op) != NULL && share_has_stub(&l->w, "a"));
}

static void operate(struct life *l)
{
	char op = l->seq->ops[l->at];

	if (op_may(l, op)) {
		l->acting = true;
		op_run(l, op);
		l->acting = false;
	} else {
		l->impossible = true;
	}
	l->at++;
}

/* ---- the cut ---- */

/* It was not acknowledged: it has happened or not, and the tree says which. */
static void resolve(struct life *l)
{
	bool here = share_has(&l->w, l->path);
	struct model_file *f = world_file(&l->w, l->path);
	char text[HANDLE_TEXT_MOST] = "", proc[400];
	struct handle h;
	ssize_t n;

	if (l->writing && l->remote && (!here || share_has_stub(&l->w, l->path))) { /* it may be a conflict's copy by now */
		write_is(l, false);
		judge_ended(&l->j, l->was, strlen(l->was), "may be overwritten");
	} else if (l->writing && f != NULL && !share_has_stub(&l->w, l->path)) {
		handle_open(&l->w, &h, l->path);
		if (handle_before(&l->w, &h, text) && strcmp(text, l->was) != 0 && strcmp(text, l->will) != 0) {
			die(&l->w, "neither before nor after", text);
		}
		handle_lost(&h);
		write_is(l, strcmp(text, l->will) == 0);
	} else if (l->writing) {
		write_is(l, false);
	}
	if (l->replacing) {
		replaced_is(l, f == NULL || strcmp(f->text, l->was) != 0);
	}
	if (f != NULL && here) {
		snprintf(proc, sizeof(proc), "%s/tree/%s", l->w.root, l->path);
		n = getxattr(proc, snapshot_ntacl_name(l->w.rio.xattr), f->rights, sizeof(f->rights) - 1);
		f->rights[n > 0 ? n : 0] = '\0';
	}
}

static void client_dies(struct life *l)
{
	for (unsigned i = 0; i < HANDLES_MOST; i++) {
		handle_lost(&l->handles[i]);
	}
	client_kill(&l->w);
}

static void cut(struct life *l)
{
	struct world *w = &l->w;
	bool acting = l->acting, dies = l->cut == CUT_BOTH || acting;

	l->armed = l->acting = false;
	if (dies) {
		client_dies(l);
	}
	if (l->cut == CUT_ONE && acting) {
		tally_crash(); /* of the client alone */
		client_start(w);
		sim_run_until(w->sim, NULL, NULL, 5 * NS_PER_S); /* what it had asked for ends */
	} else {
		l->a_was_of = share_text(&l->j, "a");
		daemon_kill(w);
		if (l->cut == CUT_AWAY && op_is_alone(l, l->seq->ops[l->at])) {
			operate(l);
		}
		daemon_start(w);
		if (dies) {
			client_start(w);
		}
		rings_drain(w->v->rings);
	}
	if (acting && l->seq->ops[l->at] != '\0') {
		resolve(l);
		l->at++;
	}
}

/* ---- a life ---- */

static void setup(struct life *l, int fence_class)
{
	const char *seed = getenv("SIM_SEED");
	struct world *w = &l->w;

	l->j.w = w;
	world_open(w, seed != NULL ? strtoul(seed, NULL, 10) : 1, fence_class);
	w->conf.settle_time_ns = 2 * NS_PER_S;
	w->conf.settle_limit_ns = 4 * NS_PER_S; /* what stays open is sent soon, too */
	w->conf.cache_size_bytes = 1 << 30; /* who recalls does not wait for room */
	w->conf.base_quiet_ns = 0; /* bases are other simulations' affair */
	l->watch = (struct sim_watch){.put = on_stored, .arg = l};
	sim_set_watch(w->sim, &l->watch);
	judge_written(&l->j, "first a", false);
	judge_written(&l->j, "first b", false);
	client_create(w, "a", "first a");
	client_mkdir(w, "d");
	client_create(w, "d/b", "first b");
	while (!world_is_drained(w) && sim_step(w->sim)) {
	}
	client_evict(w, "d/b");
	sim_run_until(w->sim, NULL, NULL, 5 * NS_PER_S);
	if (!share_has_stub(w, "d/b") || sim_object(w->sim, "p/a") == NULL) {
		die(w, "the beginning", "d/b");
	}
	sim_set_step(w->sim, on_point, l);
	w->effect = on_point;
	w->effect_arg = l;
}

static uint64_t changes_sent(struct life *l)
{
	return sim_requests_of(l->w.sim, OBJ_PUT) + sim_requests_of(l->w.sim, OBJ_COPY) +
	       sim_requests_of(l->w.sim, OBJ_DELETE);
}

/* Until nothing is pending, or, `sent`, a change is on its way. */
static void rest(struct life *l, bool sent)
{
	int64_t end = clock_now_ns(sim_clock(l->w.sim)) + REST_NS;
	uint64_t before = changes_sent(l);

	while (!world_is_drained(&l->w) && clock_now_ns(sim_clock(l->w.sim)) < end &&
			(!sent || changes_sent(l) == before) && sim_step(l->w.sim)) {
	}
}

static void judge(struct life *l)
{
	struct world *w = &l->w;

	if (l->remote) {
		world_settle(w);
		share_list(w, 2);
	} else {
		world_drain(w);
		world_names(w);
		if (stats_get(conflicts) != 0) {
			die(w, "a conflict", "nobody else writes");
		}
	}
	judge_store(&l->j);
	share_is_store(w);
}

/* From the beginning, with a cut at `point` (0: none). */
static void run(struct life *l, const struct sequence *seq, int fence_class, unsigned point, enum cut how)
{
	*progress = (struct progress){.point = point, .cut = how};
	memset(l, 0, sizeof(*l));
	l->seq = seq;
	l->point = point;
	l->cut = how;
	setup(l, fence_class);
	l->armed = true;
	if (setjmp(l->env) != 0) {
		cut(l);
	}
	while (seq->ops[l->at] != '\0') {
		operate(l);
		if (seq->pace != 0 && seq->ops[l->at] != '\0') {
			rest(l, true);
		}
	}
	rest(l, false);
	l->acting = true;
	op_close(l);
	l->acting = false;
	rest(l, false);
	l->armed = false; /* if anything is pending by now, that is judged */
	judge(l);
	sim_set_watch(l->w.sim, NULL);
	world_close(&l->w);
	judge_free(&l->j);
}

/* ---- all of them ---- */

static int fence_class_of(void)
{
	const char *forced = getenv("SIM_FENCE");

	return forced != NULL ? atoi(forced) : 3;
}

enum { CHILD_OK = 0, CHILD_FAILED = 1, CHILD_IMPOSSIBLE = 2 };

static int child(const struct sequence *seq)
{
	static struct life l, first;

	alarm(SEQUENCE_S);
	run(&first, seq, fence_class_of(), 0, CUT_ONE);
	if (first.impossible) {
		return CHILD_IMPOSSIBLE;
	}
	for (unsigned p = 1; p <= first.points; p++) {
		for (unsigned how = 0; how < CUTS; how++) {
			if (how != CUT_AWAY || first.away[p - 1]) {
				run(&l, seq, fence_class_of(), p, (enum cut)how);
			}
		}
	}
	return CHILD_OK;
}

/* In a process of its own: what fails there is told here, and the next sequence is tried. */
static int try_sequence(const struct sequence *seq)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		_exit(child(seq));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		perror("sim_sequences");
		exit(1);
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) != CHILD_FAILED) {
		return WEXITSTATUS(status);
	}
	printf("FAIL: one %s %u %u %s%s\n", seq->ops, seq->pace, progress->point, cut_names[progress->cut],
			WIFEXITED(status) ? "" : WTERMSIG(status) == SIGALRM ? ": does not end" : ": a crash of its own");
	return CHILD_FAILED;
}

/* The number-th, of all with up to OPS_MOST operations; false: there are no more. */
static bool sequence_of(unsigned number, struct sequence *seq)
{
	unsigned base = sizeof(letters) - 1, count = base, length = 1;

	seq->pace = number % 2;
	number /= 2;
	while (number >= count) {
		number -= count;
		count *= base;
		if (++length > OPS_MOST) {
			return false;
		}
	}
	memset(seq->ops, 0, sizeof(seq->ops));
	for (unsigned i = length; i > 0; i--, number /= base) {
		seq->ops[i - 1] = letters[number % base];
	}
	return true;
}

static bool is_left_out(const struct sequence *seq)
{
	return (seq->pace == 1 && seq->ops[1] == '\0') ||
	       (fence_class_of() < 3 && strpbrk(seq->ops, "123") != NULL);
}

static int many(unsigned first, unsigned stride, const struct sequence *others, unsigned other_count)
{
	unsigned tried = 0, impossible = 0, failed = 0;
	struct sequence seq;
	char scratch[64];

	scratch_in_memory();
	scratch_make(scratch, sizeof(scratch), "sequences");
	setenv("TMPDIR", scratch, 1);
	for (unsigned i = first; sequence_of(i, &seq); i += stride) {
		int status = is_left_out(&seq) ? CHILD_IMPOSSIBLE : try_sequence(&seq);

		tried += status == CHILD_OK;
		impossible += status == CHILD_IMPOSSIBLE;
		failed += status == CHILD_FAILED;
	}
	for (unsigned i = 0; i < other_count; i++) {
		int status = try_sequence(&others[i]);

		tried += status == CHILD_OK;
		failed += status != CHILD_OK;
	}
	scratch_remove(scratch);
	printf("%u sequences, %u failed, %u are others\n", tried + failed, failed, impossible);
	tally_print();
	return failed > 0 || tried == 0;
}

static int one(int argc, char **argv)
{
	struct sequence seq = {.pace = argc > 3 ? (unsigned)atoi(argv[3]) : 0};
	static struct life l;
	unsigned how = 0;

	snprintf(seq.ops, sizeof(seq.ops), "%s", argv[2]);
	if (argc < 6) {
		int status = child(&seq);

		tally_print();
		return status;
	}
	while (how < CUTS - 1 && strcmp(cut_names[how], argv[5]) != 0) {
		how++;
	}
	run(&l, &seq, fence_class_of(), (unsigned)atoi(argv[4]), (enum cut)how);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct sequence failed[] = {{"rf", 0}, {"sx", 1}, {"nsq", 1}, {"uus", 1}};

	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (progress == MAP_FAILED) {
		perror("sim_sequences");
		return 1;
	}
	talloc_disable_null_tracking();
	signal(SIGRTMIN, SIG_IGN);
	log_open(NULL, getenv("SIM_LOG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
	if (argc > 2 && strcmp(argv[1], "one") == 0) {
		return one(argc, argv);
	}
	if (argc > 3) {
		return many((unsigned)atoi(argv[2]) % (unsigned)atoi(argv[3]), (unsigned)atoi(argv[3]), NULL, 0);
	}
	return argc > 1 ? many(0, 1, NULL, 0) : many(0, STRIDE, failed, sizeof(failed) / sizeof(failed[0]));
}
