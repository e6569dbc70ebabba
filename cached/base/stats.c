/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The counters' cells and the table that names them, both made from stats_table.h.
 * Way: bumped by every room; read by admin.
 * Thread: any, relaxed atomics; rows are constant.
 * Owns: the cells, for the life of the process.
 * Holds: 1. Rows and cells cannot differ: one table makes both.
 */
#include "stats.h"

struct stats stats;

#define STATS_ROW(name, kind, unit, help) {#name, #unit, help, STATS_##kind, &stats.name},
const struct stats_row stats_rows[] = {OFS_STATS_TABLE(STATS_ROW)};
const unsigned stats_row_count = sizeof(stats_rows) / sizeof(stats_rows[0]);
