#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 20 min; root: scenario/kill-rounds with many seeds, 2,400 rounds
# kill-rounds-seeds.sh [SEEDS [ROUNDS]]: so many rounds of each seed; with the next one it goes on where one fails.
failed=()
for ((i = 0; i < ${1:-30}; i++)); do
	seed=$RANDOM$RANDOM
	"$TESTS/scenario/kill-rounds.py" "${2:-80}" $seed dir || failed+=("$seed")
done
[ ${#failed[@]} = 0 ] || { echo "FAIL: seeds ${failed[*]}"; exit 1; }
