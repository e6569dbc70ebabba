/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Duty: what the index costs at start: seconds to load, bytes of memory a row.
 * Way: `make build/bench/index && build/bench/index [ROWS [RUNS [DIRECTORY]]]`: makes an index of that many
 *      rows (1,000,000) in a scratch directory, then opens it RUNS times (5), each in a process of its own.
 *      One line of JSON: medians. A DIRECTORY is kept, and its index used again.
 * Thread: one, and the disk workers.
 * Holds: rows as uploads leave them: a hundred files a directory, each with ETag, generations and
 *        SHA-256 (`foreign`: every second one without, as other programs' objects are).
 */
#include <dirent.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <tevent.h>
#include <time.h>
#include <unistd.h>

#include "cached/base/clock.h"
#include "cached/base/disk.h"
#include "cached/base/mailbox.h"
#include "cached/reconcile/index.h"

#define FILES_A_DIRECTORY 100u
#define COMMIT_ROWS 10000u
#define RUNS_MAX 99

struct bench {
	struct tevent_context *ev;
	struct mailbox *mailbox;
	struct disk *disk;
	struct clock *clock;
	struct index *ix;
};

struct figures {
	double seconds, cpu_seconds, row_bytes;
};

static void bench_open(struct bench *b, const char *path)
{
	char *error = NULL;
	bool fresh;

	b->ev = tevent_context_init(NULL);
	b->mailbox = mailbox_new(b->ev, b->ev);
	b->disk = disk_real_new(b->ev, b->mailbox, 1);
	b->clock = clock_real_new(b->ev, b->ev);
	b->ix = index_open(b->ev, b->disk, b->clock, path, &fresh, &error);
	if (b->ix == NULL) {
		fprintf(stderr, "%s\n", error);
		exit(1);
	}
}

static void bench_close(struct bench *b)
{
	index_close(&b->ix);
	talloc_free(b->disk);
	talloc_free(b->ev);
}

static void on_commit(int status, void *arg)
{
	*(int *)arg = status;
}

static void bench_commit(struct bench *b)
{
	int status = 1;

	index_commit(b->ix, on_commit, &status);
	while (status == 1) {
		tevent_loop_once(b->ev);
	}
	if (status != 0) {
		fprintf(stderr, "%s\n", strerror(-status));
		exit(1);
	}
}

static void bench_row(struct bench *b, struct ofs_oid *dir, uint64_t n)
{
	bool is_dir = n % (FILES_A_DIRECTORY + 1) == 0;
	struct ofs_oid oid, wid;
	uint8_t sum[32];
	char name[40], etag[40];
	struct row *r;

	clock_random(b->clock, &oid, sizeof(oid));
	clock_random(b->clock, sum, sizeof(sum));
	clock_random(b->clock, &wid, sizeof(wid));
	snprintf(name, sizeof(name), is_dir ? "directory %06" PRIu64 : "report %06" PRIu64 ".docx", n);
	snprintf(etag, sizeof(etag), "\"%016" PRIx64 "%016" PRIx64 "\"", n * 0x9e3779b97f4a7c15u,
			n * 0xd1342543de82ef95u);
	r = index_add(b->ix, &oid, is_dir);
	index_set_here(b->ix, r, is_dir ? &OFS_OID_ROOT : dir, name, 1000 + n);
	index_set_s3(b->ix, r, is_dir ? &OFS_OID_ROOT : dir, name);
	index_set_fence(b->ix, r, etag, NULL, &wid, (int64_t)n * 100, (int64_t)n * 1000000000);
	index_set_gens(b->ix, r, 2, 3);
	if (is_dir) {
		index_set_object(b->ix, r, true);
		*dir = oid;
	} else {
		index_set_sha256(b->ix, r, sum);
	}
}

static void bench_make(const char *path, uint64_t rows)
{
	struct bench b;
	struct ofs_oid dir;

	bench_open(&b, path);
	for (uint64_t n = index_count(b.ix) - 1; n < rows; n++) {
		bench_row(&b, &dir, n);
		if (n % COMMIT_ROWS == COMMIT_ROWS - 1) {
			bench_commit(&b);
		}
	}
	bench_close(&b);
}

static double now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* All memory in use: small and large pieces. */
static double heap_bytes(void)
{
	struct mallinfo2 m = mallinfo2();

	return (double)m.uordblks + (double)m.hblkhd;
}

static struct figures bench_load(const char *path)
{
	double before = heap_bytes(), wall = now(CLOCK_MONOTONIC);
	double cpu = now(CLOCK_PROCESS_CPUTIME_ID);
	struct figures f;
	struct bench b;

	bench_open(&b, path);
	f.seconds = now(CLOCK_MONOTONIC) - wall;
	f.cpu_seconds = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	f.row_bytes = (heap_bytes() - before) / (double)index_count(b.ix);
	bench_close(&b);
	return f;
}

/* In a process of its own: memory that an earlier run gave back would make it quicker. */
static struct figures bench_load_apart(const char *path)
{
	struct figures f;
	int fds[2], status;
	pid_t child;

	if (pipe(fds) != 0 || (child = fork()) < 0) {
		perror("bench");
		exit(1);
	}
	if (child == 0) {
		f = bench_load(path);
		_exit(write(fds[1], &f, sizeof(f)) != sizeof(f));
	}
	close(fds[1]);
	if (read(fds[0], &f, sizeof(f)) != sizeof(f) || waitpid(child, &status, 0) != child ||
			status != 0) {
		fprintf(stderr, "a run failed\n");
		exit(1);
	}
	close(fds[0]);
	return f;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *values, int count)
{
	qsort(values, (size_t)count, sizeof(*values), by_value);
	return values[count / 2];
}

int main(int argc, char **argv)
{
	uint64_t rows = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
	int runs = argc > 2 ? atoi(argv[2]) : 5;
	char scratch[] = "/tmp/bench_index.XXXXXX", path[4096];
	const char *dir = argc > 3 ? argv[3] : mkdtemp(scratch);
	double seconds[RUNS_MAX], cpu_seconds[RUNS_MAX], row_bytes[RUNS_MAX];
	pid_t child;

	if (dir == NULL || rows == 0 || runs < 1 || runs > RUNS_MAX) {
		fprintf(stderr, "usage: %s [ROWS [RUNS [DIRECTORY]]]\n", argv[0]);
		return 2;
	}
	snprintf(path, sizeof(path), "%s/index.db", dir);
	child = fork();
	if (child == 0) {
		bench_make(path, rows);
		exit(0);
	}
	if (waitpid(child, NULL, 0) != child) {
		perror("bench");
		return 1;
	}
	for (int i = 0; i < runs; i++) {
		struct figures f = bench_load_apart(path);

		seconds[i] = f.seconds;
		cpu_seconds[i] = f.cpu_seconds;
		row_bytes[i] = f.row_bytes;
	}
	printf("{\"rows\": %" PRIu64 ", \"runs\": %d, \"load_seconds\": %.3f, \"load_cpu_seconds\": %.3f, "
	       "\"row_bytes\": %.0f}\n",
			rows, runs, median(seconds, runs), median(cpu_seconds, runs),
			median(row_bytes, runs));
	if (dir == scratch) {
		unlink(path);
		rmdir(dir);
	}
	return 0;
}
