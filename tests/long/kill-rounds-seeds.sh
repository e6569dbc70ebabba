#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 3600
# kill-rounds with many seeds:  kill-rounds-seeds.sh [SEEDS [ROUNDS]]
for ((i = 0; i < ${1:-20}; i++)); do
	"$TESTS/scenario/kill-rounds.py" "${2:-80}" "$RANDOM$RANDOM" dir || exit 1
done
