#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 60 min; 1 core: random lives of sim/core and sim/others, in each class of store, from a seed of its own
exec "$TESTS/ledger" --seconds 3300 sim 0 "${1:-$((RANDOM * 32768 + RANDOM))}"
