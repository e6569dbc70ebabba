#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 10 min; root: scenario/kill-rounds on Ceph RGW, which is killed, too
# kill-rounds-rgw.sh [ROUNDS [SEED]]
exec "$TESTS/scenario/kill-rounds.py" "${1:-100}" "${2:-$RANDOM}" rgw
