#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The object store's contract on s3sim: conditions as on AWS (F3), by path and by virtual host, with and without versions;
# and what the probe finds where it honours less.
. "${TESTS:-$(dirname "$0")/..}/lib/scenario.sh"

BUILD=${BUILD:-$TESTS/../build}
PROGRAM=$BUILD/tests/contract_s3
[ -x "$PROGRAM" ] || fail "$PROGRAM is not built"
export S3_COPY_JOINS=1 S3_FENCE=0

run()	# fence words-of-the-probe test-that-must-have-run [NAME=VALUE ...]
{
	local fence=$1 probe=$2 name=$3 log
	shift 3
	step "$fence: $probe $*"
	bed_up --store s3sim --fence "$fence" --no-objectfs --no-smbd
	set -a
	. "$BED/env"
	set +a
	log=$(mktemp)
	env "$@" "$PROGRAM" >"$log" 2>&1 || { cat "$log"; fail "the contract does not hold: $fence"; }
	grep -q "fence class ${fence^^}: .*$probe" "$log" || { cat "$log"; fail "another class than $fence"; }
	grep -q "OK ] $name\$" "$log" || { cat "$log"; fail "$name was not run"; }
	bed_down
}

run f3 'Delete yes; parts from a source pinned by ETag yes, by version no; unversioned$' test_delete_if_match \
	S3_PREFIX='deep er/ü/'
run f2 'PUT if-match yes, if-none-match yes; Complete no, no; .*Delete no' test_put_if_match S3_ONLY='test_p*'
run f1 'if-none-match no; .*by version yes; versioned$' test_probe S3_ONLY='test_p*'
run f0 'if-none-match no; .*; unversioned$' test_probe S3_ONLY='test_p*'

step "f3 with versions, virtual host"
bed_up --store s3sim --no-objectfs --no-smbd
set -a
. "$BED/env"
set +a
/usr/bin/python3 - <<-'X'
	import os
	from rgw import VERSIONED, Rgw
	port = os.environ["S3_ENDPOINT"].rsplit(":", 1)[1]
	Rgw("", {"port": port}).put("/" + os.environ["S3_BUCKET"], os.environ["S3_ACCESS_KEY"],
	                            os.environ["S3_SECRET_KEY"], "versioning=", VERSIONED)
X
log=$(mktemp)
env S3_STYLE=virtual S3_ENDPOINT="${S3_ENDPOINT/127.0.0.1/s3.localhost}" "$PROGRAM" >"$log" 2>&1 ||
	{ cat "$log"; fail "the contract does not hold on a versioned bucket"; }
grep -q 'fence class F3: .*by version yes; versioned$' "$log" || { cat "$log"; fail "versioned: not F3"; }
grep -q 'OK ] test_versions$' "$log" || { cat "$log"; fail "versions were not looked at"; }
