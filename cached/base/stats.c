/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The cells of counters and histograms and the tables that name them, all made from stats_table.h.
 * Way: bumped by every room; read by admin and http.
 * Thread: any, relaxed atomics; rows are constant.
 * Owns: the cells, for the life of the process.
 * Holds: 1. Rows and cells cannot differ: one table makes both.
 *        2. A histogram's count is the sum of its buckets: whoever reads adds them up, so count and
 *           buckets agree, whatever is recorded meanwhile.
 */
#include "stats.h"

struct stats stats;

#define STATS_ROW(name, kind, unit, help) {#name, #unit, help, STATS_##kind, &stats.name},
const struct stats_row stats_rows[] = {OFS_STATS_TABLE(STATS_ROW)};
const unsigned stats_row_count = sizeof(stats_rows) / sizeof(stats_rows[0]);

struct times_cells times_cells;

#define MS 1000000LL
const int64_t times_bound_ns[TIMES_BUCKETS - 1] = {MS / 2, MS, 2 * MS, 5 * MS, 10 * MS, 25 * MS,
		50 * MS, 100 * MS, 250 * MS, 500 * MS, 1000 * MS, 2500 * MS, 5000 * MS, 10000 * MS,
		30000 * MS, 120000 * MS};

#define TIMES_FAMILY(family, label, help)                                                          \
	static const char family##_label[] = label, family##_help[] = help;
OFS_TIMES_FAMILIES(TIMES_FAMILY)
#define TIMES_ROW(family, value, help)                                                             \
	{#family, family##_label, #value, family##_help, help, &times_cells.family##_##value},
const struct times_row times_rows[] = {OFS_TIMES_TABLE(TIMES_ROW)};
const unsigned times_row_count = sizeof(times_rows) / sizeof(times_rows[0]);

void times_record(struct times *t, int64_t ns)
{
	unsigned i = 0;

	while (i < TIMES_BUCKETS - 1 && ns > times_bound_ns[i]) {
		i++;
	}
	atomic_fetch_add_explicit(&t->bucket[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&t->sum_ns, ns > 0 ? ns : 0, memory_order_relaxed);
}
