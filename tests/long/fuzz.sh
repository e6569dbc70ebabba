#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 120 min; clang, 1 core: each target of tests/fuzz with libFuzzer, five minutes
# fuzz.sh [SECONDS]: of each target. What one finds is kept in build/fuzzer, and its name is printed.
command -v clang >/dev/null || { echo "needs clang"; exit 77; }
failed=()
for target in "$TESTS"/fuzz/fuzz_*.c; do
	name=$(basename "$target" .c)
	make fuzz ONLY="${name#fuzz_}" FUZZ_SECONDS="${1:-300}" || failed+=("${name#fuzz_}")
done
[ ${#failed[@]} = 0 ] || { echo "FAIL: ${failed[*]}"; exit 1; }
