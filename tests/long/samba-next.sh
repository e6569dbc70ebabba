#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# takes: 30 min; root, network, debootstrap, 10 GB: built for Debian 13's Samba, and what Samba has a part in is tested
# The Samba after this one: the module built and tested with Debian 13's, on a machine of its own. As
# root:
#
#   samba-next.sh [--container] [--keep] [DIR [NAME ...]]
#
# NAME ...: of tests, instead of those below; the rest: tests/lib/debian.sh.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/../.." && pwd)
. "$ROOT/tests/lib/debian.sh"

next()
{
	if [ $# = 0 ]; then	# what Samba has a part in
		set -- check/ unit/ scenario/samba-version scenario/module- scenario/recall \
			scenario/renames scenario/metadata scenario/copies scenario/evict \
			scenario/held-open scenario/durability-s3 scenario/examples \
			scenario/foreign-rights scenario/closed scenario/logs scenario/doctor \
			scenario/kill-rounds smb/torture
	fi
	type_one make deps
	type_one make
	echo "-- smbd: $(smbd -V); $(nproc) processors"
	type_one make test "TESTS=$*"
	return $failed
}

debian_machine trixie next "$@"
