#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 45 min; root, network, debootstrap, 10 GB: the README's commands as typed on a bare Debian 12
# The machine has make. As root:
#
#   bare-machine.sh [--container] [--keep] [DIR [NAME ...]]
#
# NAME ...: of tests, instead of all; the rest: tests/lib/debian.sh.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/../.." && pwd)
. "$ROOT/tests/lib/debian.sh"

# What a person types, and what must be so afterwards.
typed()
{
	grep -E '^(Cap(Eff|Bnd)):' /proc/self/status
	echo "-- $(nproc) processors; / is $(sed -n 's|^[^ ]* / \([^ ]*\).*|\1|p' /proc/mounts | tail -n 1)"
	type_one make demo
	type_one make demo-stop
	if [ -n "$(left)" ]; then
		failed=1
		echo "FAIL: left running after make demo-stop: $(left)"
	fi
	if [ $# -gt 0 ]; then
		type_one make test "TESTS=$*"
	else
		type_one make test
	fi
	if [ -n "$(left)" ]; then
		failed=1
		echo "FAIL: left running after make test: $(left)"
	fi
	if [ -e /usr/sbin/policy-rc.d ] || grep -q '^objectfs' /etc/passwd; then
		failed=1
		echo "FAIL: policy-rc.d or users of a testbed are left"
	fi
	return $failed
}

debian_machine bookworm typed "$@"
