# SPDX-License-Identifier: GPL-3.0-or-later
# What scenario tests in Bash start from:  . "$TESTS/lib/scenario.sh"
# Gives bed_up, bed (any testbed command), smb, ctl, fail, skip, step, wait_until; a testbed that is
# up at the end is taken down. Variables of DIR/env are set after bed_up, restart and wipe.
set -euo pipefail

TESTS=${TESTS:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
BED=

fail()
{
	echo "FAIL: $*"
	exit 1
}
skip()
{
	echo "$*"
	exit 77
}
step()
{
	echo "-- $*"
}
bed()	# command [arguments after DIR]
{
	local command=$1 rc=0
	shift
	"$TESTS/testbed" "$command" "$BED" "$@" || rc=$?
	if [ $rc = 77 ]; then
		skip "testbed $command: not possible on this machine"
	elif [ $rc != 0 ]; then
		fail "testbed $command: exit $rc"
	fi
	if [ -f "$BED/env" ]; then
		. "$BED/env"
	fi
}
bed_up()	# options of testbed up
{
	local parent
	parent=$(mktemp -d)
	chmod 755 "$parent"
	BED=$parent/t
	trap 'rc=$?; bed_down || rc=1; exit $rc' EXIT
	bed up "$@"
}
bed_down()
{
	if [ -n "$BED" ] && [ -e "$BED/testbed.json" ]; then
		"$TESTS/testbed" down "$BED"
	fi
}
smb()	# commands [options]: smbclient as user 1 on the share
{
	local commands=$1
	shift
	USER=$USER1 PASSWD=$PASS1 smbclient -s /dev/null -p "$SMB_PORT" "//$SMB_HOST/$SHARE" "$@" \
		-c "$commands"
}
ctl()
{
	eval "$OBJECTFSCTL" '"$@"'
}
wait_until()	# seconds command...
{
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		if [ $SECONDS -ge $end ]; then
			fail "not so in time: $*"
		fi
		sleep 0.1
	done
}
