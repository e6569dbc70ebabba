#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 12 min; root: scenario/leases with each opener at each phase, three rounds
# leases.sh [ROUNDS [SEED]]
exec "$TESTS/scenario/leases.py" "${1:-3}" "${2:-$RANDOM}"
