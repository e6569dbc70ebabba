#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 1800
# alone: how long the kernel waits for a lease is set for the whole machine
# scenario/leases with each opener at each phase:  leases.sh [ROUNDS [SEED]], some four minutes for each round
exec "$TESTS/scenario/leases.py" "${1:-3}" "${2:-$RANDOM}"
