# SPDX-License-Identifier: GPL-3.0-or-later
# The object store's contract (objstore_contract.c) on a testbed's store:  . "$TESTS/lib/contract.sh"
. "${BASH_SOURCE[0]%/*}/scenario.sh"

PROGRAM=${BUILD:-$TESTS/../build}/tests/contract_s3
[ -x "$PROGRAM" ] || fail "$PROGRAM is not built"

store_up()	# options of testbed up: the store alone; DIR/env is exported
{
	set -a
	bed_up --no-objectfs --no-smbd "$@"
	set +a
}
contract()	# words-of-the-probe test-that-must-have-run [NAME=VALUE ...]
{
	local probe=$1 name=$2 log
	shift 2
	log=$(mktemp)
	env "$@" "$PROGRAM" >"$log" 2>&1 || { cat "$log"; fail "the contract does not hold"; }
	grep -q "fence class $probe" "$log" || { cat "$log"; fail "not found: $probe"; }
	grep -q "OK ] $name\$" "$log" || { cat "$log"; fail "$name was not run"; }
}
