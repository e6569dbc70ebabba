#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 40 min; 1 core: each allocation, system call, call of SQLite and request of sim/nth fails
exec "$BUILD/tests/sim/sim_nth" 1
