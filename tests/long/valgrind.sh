#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 60 min; valgrind, 1 core: units and simulations with memcheck: no use of what is freed or not set, no leak
# valgrind.sh [PROGRAM ...]: of build/tests and build/tests/sim, by their names, instead of all. Left out:
#   sim_nth, sim_disk  their calls of malloc are their own, and so are memcheck's
#   sim_sequences      a process for each point, with memcheck's start: ASAN has it (long/address)
command -v valgrind >/dev/null || { echo "needs valgrind"; exit 77; }
if [ $# = 0 ]; then
	for program in "$BUILD"/tests/test_* "$BUILD"/tests/sim/sim_*; do
		case ${program##*/} in
		sim_nth | sim_disk | sim_sequences) ;;
		*) set -- "$@" "${program##*/}" ;;
		esac
	done
fi

failed=()
for name in "$@"; do
	program=$BUILD/tests/$name
	words=()
	case $name in
	sim_core) words=(4) ;;
	sim_others) words=(6) ;;
	esac
	[[ $name != sim_* ]] || program=$BUILD/tests/sim/$name
	begin=$SECONDS
	if valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
		--fair-sched=yes --log-file="$TMPDIR/$name.%p" \
		"$program" "${words[@]}" >"$TMPDIR/said" 2>&1; then
		echo "ok $name ($((SECONDS - begin)) s)"
	else
		echo "not ok $name ($((SECONDS - begin)) s)"
		tail -n 5 "$TMPDIR/said"
		head -n 40 -q "$TMPDIR/$name".*
		failed+=("$name")
	fi
done
[ ${#failed[@]} = 0 ] || { echo "FAIL: ${failed[*]}"; exit 1; }
