#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 12 min; root: scenario/leases with each opener at each phase, three rounds
# scenario/leases with each opener at each phase:  leases.sh [ROUNDS [SEED]], some four minutes for each round
exec "$TESTS/scenario/leases.py" "${1:-3}" "${2:-$RANDOM}"
