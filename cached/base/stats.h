/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The daemon's counters and histograms: relaxed atomics, bumped by any thread. Rows: stats_table.h. */
#ifndef OFS_BASE_STATS_H
#define OFS_BASE_STATS_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>
#include "stats_table.h"

enum stats_kind { STATS_COUNTER, STATS_GAUGE };
struct stats {
#define STATS_CELL(name, kind, unit, help) _Atomic int64_t name;
	OFS_STATS_TABLE(STATS_CELL)
#undef STATS_CELL
};
extern struct stats stats;

#define stats_add(name, n) atomic_fetch_add_explicit(&stats.name, (n), memory_order_relaxed)
#define stats_set(name, n) atomic_store_explicit(&stats.name, (n), memory_order_relaxed)
#define stats_get(name) atomic_load_explicit(&stats.name, memory_order_relaxed)

struct stats_row {
	const char *name, *unit, *help;
	enum stats_kind kind;
	_Atomic int64_t *cell;
};
extern const struct stats_row stats_rows[];
extern const unsigned stats_row_count;

/* --- times --- */

#define TIMES_BUCKETS 17u /* the last: whatever is longer */
extern const int64_t times_bound_ns[TIMES_BUCKETS - 1]; /* upper, included */

struct times {
	_Atomic int64_t bucket[TIMES_BUCKETS]; /* not cumulative */
	_Atomic int64_t sum_ns;
};
struct times_cells {
#define TIMES_CELL(family, value, help) struct times family##_##value;
	OFS_TIMES_TABLE(TIMES_CELL)
#undef TIMES_CELL
};
extern struct times_cells times_cells;

void times_record(struct times *t, int64_t ns);
#define times_add(family, value, ns) times_record(&times_cells.family##_##value, (ns))

/* For spans that only counters see; what decides anything asks the clock (clock.h). */
static inline int64_t times_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

struct times_row {
	const char *family, *label, *value, *family_help, *help;
	struct times *cell;
};
extern const struct times_row times_rows[];
extern const unsigned times_row_count;

#endif
