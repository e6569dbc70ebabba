/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a simulation has tried, over all worlds of the process: for tests/LEDGER.md. */
#ifndef OFS_TESTS_SIM_TALLY_H
#define OFS_TESTS_SIM_TALLY_H

#include <stdint.h>

/* A daemon was killed, or the power cut, and one has come back on what was left. */
void tally_crash(void);
/* So much simulated time has passed in a world. */
void tally_time(int64_t ns);
/* One line to stdout, which tests/ledger reads; also before a failure ends the program. */
void tally_print(void);

#endif
