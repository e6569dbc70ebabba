#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 20 min; root: scenario/nth-module with every fifth call of module and daemon
# nth-module.sh [STRIDE [FIRST]]; 1: each of them, in each way
exec "$TESTS/scenario/nth-module.py" "${1:-5}" "${2:-$((RANDOM % 5))}"
