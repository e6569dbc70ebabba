/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The daemon's counters: relaxed atomics, bumped by any thread. Rows: stats_table.h. */
#ifndef OFS_BASE_STATS_H
#define OFS_BASE_STATS_H

#include <stdatomic.h>
#include <stdint.h>
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

#endif
