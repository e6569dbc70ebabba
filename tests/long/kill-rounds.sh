#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 40 min; root, 2 GB: scenario/kill-rounds, 2,400 rounds: on dir, on s3sim of each class, on Ceph RGW, which are away or killed, too
# kill-rounds.sh [SEEDS [ROUNDS]]: so many rounds of each seed, with which it goes on where one fails; the stores side by side.
beds=("dir" "s3sim f1" "s3sim f2" "s3sim f3" "rgw")

seeds() {
	for ((i = 0; i < $1; i++)); do
		# shellcheck disable=SC2086 # a store, and its class
		"$TESTS/scenario/kill-rounds.py" "$2" $RANDOM$RANDOM $3 || failed=1
	done
	return ${failed:-0}
}

pids=()
for bed in "${beds[@]}"; do
	seeds "${1:-6}" "${2:-80}" "$bed" &
	pids+=($!)
done
failed=()
for number in "${!pids[@]}"; do
	wait "${pids[number]}" || failed+=("${beds[number]}")
done
[ ${#failed[@]} = 0 ] || { echo "FAIL: on ${failed[*]}"; exit 1; }
